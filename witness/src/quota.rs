//! How many cosignatures a log may ask for in a day.
//!
//! What counts is a new checkpoint that was cosigned: only the log can sign one. What anybody can ask for with the
//! checkpoints that a log has published is not counted, because a stranger would use up the log's quota with it: refusals,
//! which cost one signature check, and refreshes of the checkpoint cosigned last, of which one a second is written
//! ([`crate::state`]).
//! Counters live in memory: a restart gives every log a fresh day.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use waymark_log::{checkpoint::Origin, time::UnixMillis};

/// Cosignatures a day (UTC) for a log without a quota of its own: 86,400 for a log that publishes each second, and as much
/// again and more to spare.
pub const REQUESTS_PER_DAY_DEFAULT: u32 = 200_000;

const DAY_MS: u64 = 86_400_000;

/// The log has used up its day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this log's quota for today is used up")]
pub struct OverQuota {
    /// Seconds until the next day begins.
    pub retry_after_s: u64,
}

/// Counts by log. It holds as many as are listed, since only listed logs are counted.
#[derive(Debug, Default)]
pub struct Quotas {
    /// Day since 1970 and cosignatures in it.
    counts: Mutex<HashMap<Origin, (u64, u32)>>,
}

impl Quotas {
    /// Whether `origin` may still have something cosigned today.
    ///
    /// # Errors
    /// [`OverQuota`].
    pub fn check(&self, origin: &Origin, per_day: u32, now: UnixMillis) -> Result<(), OverQuota> {
        if self.with_today(origin, now, |count| *count) < per_day {
            return Ok(());
        }
        let rest_ms = (now.get() / DAY_MS + 1) * DAY_MS - now.get();
        Err(OverQuota { retry_after_s: rest_ms.div_ceil(1000) })
    }

    /// Counts what was cosigned, and says how many it is today. Those that were checked at the same time are counted too, even if that is more than the
    /// quota: each is a step of its own, so they are as few as the log has signed by then.
    pub fn count(&self, origin: &Origin, now: UnixMillis) -> u32 {
        self.with_today(origin, now, |count| {
            *count = count.saturating_add(1);
            *count
        })
    }

    fn with_today<T>(&self, origin: &Origin, now: UnixMillis, done: impl FnOnce(&mut u32) -> T) -> T {
        let today = now.get() / DAY_MS;
        // A counter is whole after every statement below, so one left by a panicking thread is as good as any.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (day, count) = counts.entry(origin.clone()).or_insert((today, 0));
        // A clock that goes back does not give a fresh day.
        if today > *day {
            (*day, *count) = (today, 0);
        }
        done(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_day_and_a_log_is_a_log() {
        let (a, b) = (Origin::new("a.example").unwrap(), Origin::new("b.example").unwrap());
        let quotas = Quotas::default();
        let charge = |origin, per_day, now| quotas.check(origin, per_day, now).map(|()| _ = quotas.count(origin, now));
        let at = |s: u64| UnixMillis::new(20_000 * DAY_MS + s * 1000);
        assert_eq!(charge(&a, 2, at(0)), Ok(()));
        assert_eq!(charge(&a, 2, at(1)), Ok(()));
        assert_eq!(charge(&a, 2, at(86_390)), Err(OverQuota { retry_after_s: 10 }));
        assert_eq!(charge(&b, 2, at(86_390)), Ok(()));
        assert_eq!(charge(&a, 2, at(86_400)), Ok(()));
        assert_eq!(charge(&a, 2, at(86_400)), Ok(()));
        assert!(charge(&a, 2, at(86_399)).is_err(), "yesterday again");
    }
}
