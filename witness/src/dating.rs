//! When a cosignature may be dated: by the wall clock, as long as that goes as fast as time passes.
//!
//! A cosignature that is dated ahead cannot be taken back: dates never go down, so its log would wait until the clock
//! has come there, be it a year. A witness that is starting has nothing but the wall clock to go by. From then on a
//! second clock, which nobody sets, says how much time has passed, and a wall clock that departs from it by more than
//! [`APART_MS_MAX`] is not believed, whichever way it went. When it is right again, so is the witness.
//!
//! ```text
//! wall clock at the start + what has passed, give or take 30 s ── cosigned anything else
//! ────────────────────────────────────────────────── 503 until it is so again, or the witness is started again
//! ```

use std::sync::{Mutex, PoisonError};

use waymark_log::time::{DAY_MS, UnixMillis};
use waymark_runtime::clock::Clock;

/// Most milliseconds that the wall clock may be apart from what has passed: what readers allow clocks to differ.
pub const APART_MS_MAX: u64 = 30_000;
/// The reading to compare with is renewed after so many milliseconds, a day, so that the seconds by which time servers
/// correct a clock now and then do not add up over a year. So a clock that is moved slowly gains at most
/// [`APART_MS_MAX`] a day.
pub const COMPARED_MS: u64 = DAY_MS;

/// The wall clock does not go as time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this witness's clock jumped: it is {} s {} what it was before and what has passed since. Nothing is cosigned \
     until it is set right, or the witness is started again",
    .wall.get().abs_diff(.expected.get()) / 1000,
    if .wall > .expected { "ahead of" } else { "behind" }
)]
pub struct ClockJumped {
    /// What the wall clock says.
    pub wall: UnixMillis,
    /// What it should say.
    pub expected: UnixMillis,
}

/// What both clocks said at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    wall: UnixMillis,
    passed_ms: u64,
}

impl Reading {
    fn of(clock: &Clock) -> Self {
        Self { wall: clock.now(), passed_ms: clock.passed_ms() }
    }

    /// The wall clock's time, if it is what must have become of an earlier reading.
    fn after(&self, earlier: &Self) -> Result<UnixMillis, ClockJumped> {
        let (wall, expected) = (self.wall, earlier.wall.plus_ms(self.since(earlier)));
        if wall.get().abs_diff(expected.get()) > APART_MS_MAX { Err(ClockJumped { wall, expected }) } else { Ok(wall) }
    }

    const fn since(&self, earlier: &Self) -> u64 {
        self.passed_ms.saturating_sub(earlier.passed_ms)
    }
}

/// The clock of a running witness.
#[derive(Debug)]
pub struct Dating {
    clock: Clock,
    /// What is compared with, and whether the clock was apart from it when it was last looked at.
    compared: Mutex<(Reading, bool)>,
}

impl Dating {
    /// Believes the clock, once.
    pub fn new(clock: Clock) -> Self {
        let compared = Mutex::new((Reading::of(&clock), false));
        Self { clock, compared }
    }

    /// The time, if it is to be believed.
    ///
    /// # Errors
    /// [`ClockJumped`].
    pub fn now(&self) -> Result<UnixMillis, ClockJumped> {
        // A reading is whole after every statement below, so one left by a panicking thread is as good as any.
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let (earlier, was_apart) = &mut *compared;
        let now = Reading::of(&self.clock);
        let time = now.after(earlier);
        // One line when it begins and one when it ends: strangers can ask as often as they like.
        match (&time, *was_apart) {
            (Err(jumped), false) => tracing::error!(%jumped, "nothing is cosigned"),
            (Ok(_), true) => tracing::info!("the clock is right again"),
            _ => {}
        }
        *was_apart = time.is_err();
        if time.is_ok() && now.since(earlier) >= COMPARED_MS {
            *earlier = now;
        }
        time
    }

    /// What the wall clock says, whether it is to be believed or not.
    pub fn wall(&self) -> UnixMillis {
        self.clock.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1_700_000_000_000;
    const YEAR_MS: i64 = 365 * DAY_MS as i64;

    #[test]
    fn a_clock_that_is_set_is_not_believed_until_it_is_right_again() {
        let clock = Clock::settable(START_MS);
        let dating = Dating::new(clock.clone());
        clock.advance(60_000);
        assert_eq!(dating.now(), Ok(UnixMillis::new(START_MS + 60_000)));
        for by_ms in [30_001, -30_001, YEAR_MS, -YEAR_MS, i64::MIN / 2, i64::MAX / 2] {
            clock.set(by_ms);
            assert!(dating.now().is_err(), "{by_ms}");
            clock.advance(1000);
            assert!(dating.now().is_err(), "{by_ms}");
            clock.set(-by_ms);
            assert_eq!(dating.now(), Ok(clock.now()), "{by_ms}");
        }
        for by_ms in [30_000, -30_000] {
            clock.set(by_ms);
            assert_eq!(dating.now(), Ok(clock.now()), "{by_ms}");
            clock.set(-by_ms);
        }
        let ahead = ClockJumped { wall: UnixMillis::new(90_000), expected: UnixMillis::new(0) };
        assert!(ahead.to_string().contains("it is 90 s ahead of what"), "{ahead}");
    }

    #[test]
    fn small_corrections_do_not_add_up_over_the_days_and_large_ones_do_not_hide_in_small_ones() {
        let clock = Clock::settable(START_MS);
        let dating = Dating::new(clock.clone());
        for _day in 0..400 {
            clock.advance(DAY_MS);
            clock.set(20_000);
            assert_eq!(dating.now(), Ok(clock.now()));
        }
        // In one day they do add up, however many looks there are.
        clock.set(20_000);
        assert!(dating.now().is_ok());
        clock.set(20_000);
        assert!(dating.now().is_err());
    }
}
