//! The one place that reads the time. Everything below `main` is handed a [`Clock`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
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
    /// A time that stands still until it is moved, or set: a wall clock that somebody sets moves, and no time has
    /// passed.
    Settable {
        /// Milliseconds that passed.
        passed: Arc<AtomicU64>,
        /// By how many the wall clock was set.
        set_by: Arc<AtomicI64>,
    },
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

    /// A clock that stands at `ms` until [`Clock::advance`] or [`Clock::set`].
    pub fn settable(ms: u64) -> Self {
        Self::Settable { passed: Arc::new(AtomicU64::new(ms)), set_by: Arc::default() }
    }

    /// The time.
    pub fn now(&self) -> UnixMillis {
        match self {
            Self::System => system_now(),
            Self::Manual(ms) => UnixMillis::new(ms.load(Ordering::SeqCst)),
            // Wrapping: what was set back further than on lies below zero.
            Self::Shifted(by_ms) => UnixMillis::new(system_now().get().wrapping_add(by_ms.load(Ordering::SeqCst))),
            Self::Settable { passed, set_by } => {
                UnixMillis::new(passed.load(Ordering::SeqCst).saturating_add_signed(set_by.load(Ordering::SeqCst)))
            }
        }
    }

    /// Milliseconds that have passed since some moment, the same for the whole process, by a clock that nobody sets. The
    /// time for which the machine slept counts on Linux. It does not count on other systems, and nowhere does the time
    /// for which a virtual machine stood still.
    pub fn passed_ms(&self) -> u64 {
        match self {
            Self::System => system_passed_ms(),
            Self::Manual(ms) => ms.load(Ordering::SeqCst),
            Self::Shifted(by_ms) => system_passed_ms().wrapping_add(by_ms.load(Ordering::SeqCst)),
            Self::Settable { passed, .. } => passed.load(Ordering::SeqCst),
        }
    }

    /// Lets time pass for a clock of a test; does nothing to the system's.
    pub fn advance(&self, by_ms: u64) {
        if let Self::Manual(ms) | Self::Shifted(ms) | Self::Settable { passed: ms, .. } = self {
            ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }

    /// Sets a manual or shifted clock back; does nothing to the system's.
    pub fn set_back(&self, by_ms: u64) {
        if let Self::Manual(ms) | Self::Shifted(ms) = self {
            ms.fetch_sub(by_ms, Ordering::SeqCst);
        }
    }

    /// Sets a settable clock forward or back; does nothing to the others.
    pub fn set(&self, by_ms: i64) {
        if let Self::Settable { set_by, .. } = self {
            set_by.fetch_add(by_ms, Ordering::SeqCst);
        }
    }
}

/// The clock that goes on while the machine sleeps. [`std::time::Instant`] stops then.
#[cfg(target_os = "linux")]
fn system_passed_ms() -> u64 {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(since_boot.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1000).saturating_add(u64::try_from(since_boot.tv_nsec).unwrap_or_default() / 1_000_000)
}

#[cfg(not(target_os = "linux"))]
fn system_passed_ms() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    u64::try_from(START.get_or_init(std::time::Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn system_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_passed_counts_the_time_for_which_the_machine_slept() {
        // proc_uptime(5): "the uptime of the system (including time spent in suspend)".
        let uptime_ms = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            (text.split(' ').next().unwrap().parse::<f64>().unwrap() * 1000.0) as u64
        };
        if !cfg!(target_os = "linux") {
            return;
        }
        let (before, passed, after) = (uptime_ms(), Clock::System.passed_ms(), uptime_ms());
        // It has two decimals.
        assert!(before <= passed + 10 && passed <= after + 20, "{before} {passed} {after}");
    }
}
