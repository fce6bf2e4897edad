//! When a head may be signed, and dated: never at a time that the witnesses would not confirm.
//!
//! A head that is dated ahead would be refused by every client, and the log would wait until its clock has come there: a head is
//! later than the one before. So a clock that jumps is not believed. What is believed is the time at which a quorum of witnesses has last
//! confirmed ours, and how long ago that is by a clock that nobody can set.
//!
//! ```text
//!   last head          confirmed + what has passed since + 30 s
//!       │   may be signed    │   not before witnesses confirm this time
//! ──────┴────────────────────┴─────────────────────────────────────────▶ this machine's clock
//! ```

use std::time::Duration;

use tokio::sync::watch;
use waymark_log::time::{UnixMillis, UnixSeconds};
use waymark_mapping::rules::SKEW_MS;

/// Without a quorum for so long, the last head is confirmed again before another is signed: another program may have signed meanwhile with the
/// same key on a copy of the folder, and this machine may have slept.
pub const CONFIRM_AFTER: Duration = Duration::from_secs(5);

/// Why no head is signed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untimed {
    /// Heads are dated one after the other.
    #[error("the clock of this machine is not after the last head. Nothing is signed until it is")]
    NotAfterHead,
    /// The clock is ahead of what the witnesses have confirmed.
    #[error(
        "the clock of this machine is further on than the witnesses confirm. Nothing is signed until both agree within {} s",
        SKEW_MS / 1000
    )]
    NotConfirmed,
    /// The witnesses do not confirm the clock.
    #[error(
        "so many witnesses date what they cosign more than {} s from the clock of this machine that the others are no quorum. Nothing is \
         published until they agree",
        SKEW_MS / 1000
    )]
    NotTheirs,
}

/// Tells the operators why no head is signed now, if none is.
pub fn tell(told: &watch::Sender<Option<Untimed>>, now: Option<Untimed>) {
    let before = told.send_replace(now);
    if let Some(why) = now.filter(|_| before != now) {
        tracing::warn!(%why, "no head is signed");
    }
}

/// Takes back that the witnesses do not confirm the clock.
pub fn agree(told: &watch::Sender<Option<Untimed>>) {
    told.send_if_modified(|now| now.take_if(|why| *why == Untimed::NotTheirs).is_some());
}

/// The time that a quorum of witnesses has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// When, by the witnesses.
    pub quorum: UnixSeconds,
    /// How long ago that is, by a clock that nobody can set.
    pub passed: Duration,
}

impl Confirmed {
    /// The latest time that a head may be dated.
    fn latest(&self) -> UnixMillis {
        let passed_ms = u64::try_from(self.passed.as_millis()).unwrap_or(u64::MAX);
        self.quorum.to_millis().plus_ms(passed_ms.saturating_add(SKEW_MS))
    }
}

/// Whether a head may be dated `now`, after a head of the time `last`.
///
/// # Errors
/// [`Untimed`].
pub fn may_be_dated(now: UnixMillis, last: Option<UnixMillis>, confirmed: Option<Confirmed>) -> Result<(), Untimed> {
    if last.is_some_and(|last| now <= last) {
        return Err(Untimed::NotAfterHead);
    }
    // "floor(head time / 1000) <= quorum time + skew": what is signed at this time is cosigned later than that.
    if confirmed.is_none_or(|confirmed| now > confirmed.latest()) { Err(Untimed::NotConfirmed) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn a_clock_that_jumps_dates_no_head_that_witnesses_would_not_confirm() {
        let at = UnixMillis::new;
        let confirmed =
            |passed_s| Some(Confirmed { quorum: UnixSeconds::new(1_000_000), passed: Duration::from_secs(passed_s) });
        let dated = |now_ms: u64, passed_s: u64| may_be_dated(at(now_ms), Some(at(1_000_000_000)), confirmed(passed_s));
        assert_eq!(dated(1_000_000_001, 0), Ok(()));
        assert_eq!(dated(1_000_030_000, 0), Ok(()), "as far as clients allow clocks to differ");
        assert_eq!(dated(1_000_030_001, 0), Err(Untimed::NotConfirmed));
        assert_eq!(dated(1_000_090_000, 60), Ok(()), "time that has really passed is no jump");
        for jump_ms in [DAY_MS, 365 * DAY_MS, u64::MAX - 1_000_060_000] {
            assert_eq!(dated(1_000_060_000 + jump_ms, 60), Err(Untimed::NotConfirmed));
        }
        for back_ms in [0, 1, DAY_MS, 1_000_000_000] {
            assert_eq!(dated(1_000_000_000 - back_ms, 60), Err(Untimed::NotAfterHead));
        }
        assert_eq!(
            may_be_dated(at(5), None, None),
            Err(Untimed::NotConfirmed),
            "before the witnesses have said anything"
        );
    }
}
