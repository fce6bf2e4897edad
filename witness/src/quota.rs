//! How many cosignatures a log may ask for in a day.
//!
//! What counts is what costs a durable write: a request that is about to be cosigned. A refusal costs one signature check
//! and is not counted, because anybody may replay a log's published checkpoints, and would use up the log's quota with them.
//! Counters live in memory: a restart gives every log a fresh day.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use waymark_log::{checkpoint::Origin, time::UnixMillis};

/// Requests a day (UTC) for a log without a quota of its own: 86,400 for a log that publishes each second, as many again
/// for refreshes by others, of which only one a second is ever written, and room to spare.
pub const REQUESTS_PER_DAY_DEFAULT: u32 = 200_000;

const DAY_MS: u64 = 86_400_000;

/// The log has used up its day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this log's quota for today is used up")]
pub struct OverQuota {
    /// Seconds until the next day begins.
    pub retry_after_s: u64,
}

/// Counts by log. It holds as many as are listed, since only requests of listed logs are counted.
#[derive(Debug, Default)]
pub struct Quotas {
    /// Day since 1970 and requests in it.
    counts: Mutex<HashMap<Origin, (u64, u32)>>,
}

impl Quotas {
    /// Counts one request against `per_day`.
    ///
    /// # Errors
    /// [`OverQuota`].
    pub fn charge(&self, origin: &Origin, per_day: u32, now: UnixMillis) -> Result<(), OverQuota> {
        let today = now.get() / DAY_MS;
        // A counter is whole after every statement below, so one left by a panicking thread is as good as any.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (day, count) = counts.entry(origin.clone()).or_insert((today, 0));
        // A clock that goes back does not give a fresh day.
        if today > *day {
            (*day, *count) = (today, 0);
        }
        if *count >= per_day {
            let rest_ms = (today + 1) * DAY_MS - now.get();
            return Err(OverQuota { retry_after_s: rest_ms.div_ceil(1000) });
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_day_and_a_log_is_a_log() {
        let (a, b) = (Origin::new("a.example").unwrap(), Origin::new("b.example").unwrap());
        let quotas = Quotas::default();
        let at = |s: u64| UnixMillis::new(20_000 * DAY_MS + s * 1000);
        assert_eq!(quotas.charge(&a, 2, at(0)), Ok(()));
        assert_eq!(quotas.charge(&a, 2, at(1)), Ok(()));
        assert_eq!(quotas.charge(&a, 2, at(86_390)), Err(OverQuota { retry_after_s: 10 }));
        assert_eq!(quotas.charge(&b, 2, at(86_390)), Ok(()));
        assert_eq!(quotas.charge(&a, 2, at(86_400)), Ok(()));
        assert_eq!(quotas.charge(&a, 2, at(86_400)), Ok(()));
        assert!(quotas.charge(&a, 2, at(86_399)).is_err(), "yesterday again");
    }
}
