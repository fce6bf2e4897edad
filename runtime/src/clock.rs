//! The one place that reads the time. Everything below `main` is handed a [`Clock`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use waymark_log::time::UnixMillis;

/// A source of time: the system's, or one that a test moves.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system's wall clock.
    System,
    /// A time that stands still until it is moved.
    Manual(Arc<AtomicU64>),
    /// The system's clock, so many milliseconds on: it goes, and a test moves it by days.
    Shifted(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that stands at `ms` until [`Clock::advance`].
    pub fn manual(ms: u64) -> Self {
        Self::Manual(Arc::new(AtomicU64::new(ms)))
    }

    /// The system's clock, to be moved on by [`Clock::advance`].
    pub fn shifted() -> Self {
        Self::Shifted(Arc::default())
    }

    /// The time.
    pub fn now(&self) -> UnixMillis {
        match self {
            Self::System => system_now(),
            Self::Manual(ms) => UnixMillis::new(ms.load(Ordering::SeqCst)),
            // Wrapping: what was set back further than on lies below zero.
            Self::Shifted(by_ms) => UnixMillis::new(system_now().get().wrapping_add(by_ms.load(Ordering::SeqCst))),
        }
    }

    /// Moves a manual or shifted clock on; does nothing to the system's.
    pub fn advance(&self, by_ms: u64) {
        if let Self::Manual(ms) | Self::Shifted(ms) = self {
            ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }

    /// Sets a manual or shifted clock back; does nothing to the system's.
    pub fn set_back(&self, by_ms: u64) {
        if let Self::Manual(ms) | Self::Shifted(ms) = self {
            ms.fetch_sub(by_ms, Ordering::SeqCst);
        }
    }
}

fn system_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
