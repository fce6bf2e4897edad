//! The time by which a program that watches a log tells what is overdue: it goes on as time passes, whatever somebody does
//! to the wall clock, and whether the log goes on or not.
//!
//! A wall clock that is a year ahead for a second would make every watch-list run out. The log's witnesses say what time it
//! is, but a log that has fallen silent must not stop the time: that is when an alert is needed. So the wall clock and the
//! log's quorum **together** say once what time it is, and from then on a clock that nobody sets says what has passed.
//!
//! | what is known | the time | what is accepted |
//! |---|---|---|
//! | nothing: the first start | the wall clock's at the start, and what has passed | by the wall clock |
//! | what an earlier run knew | that, and what has passed: it is later, or as late | by the wall clock, unless that is behind |
//! | a quorum was fresh by the wall clock | that, and what has passed | by this time; a **newer** quorum that fits the wall clock and not this time sets it |
//!
//! The last case is a machine that has slept, or a clock that was wrong and has been set right. A quorum that
//! is new, and of this very moment by the wall clock and not by this time, sets it: a clock that was some minutes ahead at the first start,
//! as far as a quorum may be old, is mended by the next heads once it is right.

use waymark_log::{
    policy::{CosignedCheckpoint, Freshness, Policy, Unmet},
    time::{DAY_MS, UnixMillis, UnixSeconds},
};

use crate::clock::Clock;

/// Milliseconds that the wall clock may be apart from this time without a word: what readers allow clocks to differ.
pub const APART_MS_MAX: u64 = 30_000;
/// So often, in milliseconds, the time is set by a wall clock that goes as time passes: a day. So the two do not drift apart
/// over the years, and a clock that is moved slowly gains [`APART_MS_MAX`] a day at most.
const COMPARED_MS: u64 = DAY_MS;

/// What the time rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// The wall clock alone.
    Wall,
    /// What an earlier run knew: a time that has certainly come.
    AtLeast,
    /// The wall clock and a quorum that was fresh by it.
    Confirmed,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct LogTime {
    clock: Clock,
    basis: Basis,
    /// The time...
    at: UnixMillis,
    /// ...when so much had passed.
    passed_ms: u64,
    /// The latest quorum that was accepted.
    quorum: Option<UnixSeconds>,
}

impl LogTime {
    /// The time at a start; `known` is what [`LogTime::known`] said in an earlier run.
    pub fn new(clock: Clock, known: Option<UnixMillis>) -> Self {
        let (at, basis) = known.map_or((clock.now(), Basis::Wall), |known| (known, Basis::AtLeast));
        let passed_ms = clock.passed_ms();
        Self { clock, basis, at, passed_ms, quorum: None }
    }

    /// The time.
    pub fn now(&self) -> UnixMillis {
        self.at.plus_ms(self.since())
    }

    fn since(&self) -> u64 {
        self.clock.passed_ms().saturating_sub(self.passed_ms)
    }

    /// Milliseconds that have passed since some moment, by the clock that nobody sets.
    pub fn passed_ms(&self) -> u64 {
        self.clock.passed_ms()
    }

    /// The time, if it is more than what the wall clock says: to be remembered for the next run.
    pub fn known(&self) -> Option<UnixMillis> {
        (self.basis != Basis::Wall).then(|| self.now())
    }

    /// Whether a quorum has confirmed it in this run.
    pub fn is_confirmed(&self) -> bool {
        self.basis == Basis::Confirmed
    }

    /// What may be shown as the time: before anything is confirmed, the wall clock is the best that there is.
    pub fn shown(&self) -> UnixMillis {
        if self.is_confirmed() { self.now() } else { self.clock.now().max(self.now()) }
    }

    /// What is wrong with the wall clock, as far as that is known.
    pub fn fault(&self) -> Option<String> {
        let (wall, own) = (self.clock.now(), self.now());
        let apart = wall.get().abs_diff(own.get());
        let ahead = wall > own;
        let is_wrong = match self.basis {
            Basis::Wall => false,
            Basis::AtLeast => !ahead && apart > APART_MS_MAX,
            Basis::Confirmed => apart > APART_MS_MAX,
        };
        is_wrong.then(|| {
            let (seconds, way) = (apart / 1000, if ahead { "ahead of" } else { "behind" });
            format!(
                "this machine's clock is {seconds} s {way} what the log's witnesses said and what has passed since. It \
                 is not believed: set it right"
            )
        })
    }

    /// Judges a checkpoint. One that is accepted may confirm the time, or set it.
    ///
    /// # Errors
    /// [`Unmet`].
    pub fn judge(&mut self, note: &[u8], policy: &Policy, freshness: Freshness) -> Result<CosignedCheckpoint, Unmet> {
        // Both at one moment: to judge takes a while.
        let (wall, passed_ms, own) = (self.clock.now(), self.clock.passed_ms(), self.now());
        let at = |time: UnixMillis| policy.judge(note, time.floor_seconds(), freshness);
        let accepted = if self.is_confirmed() {
            match at(own) {
                Ok(accepted) => {
                    let goes_right = wall.get().abs_diff(own.get()) <= APART_MS_MAX;
                    if goes_right && self.since() >= COMPARED_MS || self.is_better(wall, &accepted) && at(wall).is_ok()
                    {
                        self.set(wall, passed_ms);
                    }
                    accepted
                }
                Err(unmet) => {
                    // An old quorum says nothing new: a wall clock that is set back must not make it fresh again.
                    let newer = at(wall).ok().filter(|accepted| Some(accepted.quorum_time()) > self.quorum);
                    let accepted = newer.ok_or(unmet)?;
                    self.set(wall, passed_ms);
                    accepted
                }
            }
        } else if self.basis == Basis::AtLeast && wall.plus_ms(APART_MS_MAX) < own {
            // What an earlier run has believed was no further ahead than a quorum may be old.
            let ahead_ms_max = freshness.max_age_s.saturating_mul(1000).saturating_add(APART_MS_MAX);
            let healed = at(wall).ok().filter(|accepted| self.is_better(wall, accepted));
            match healed.filter(|_| own.since(wall) <= ahead_ms_max) {
                Some(accepted) => {
                    self.set(wall, passed_ms);
                    accepted
                }
                None => at(own)?,
            }
        } else {
            let accepted = at(wall)?;
            self.set(wall, passed_ms);
            accepted
        };
        self.quorum = self.quorum.max(Some(accepted.quorum_time()));
        Ok(accepted)
    }

    /// Whether a quorum that is new shows the wall clock to be right and this time to be wrong: it is of that very moment by the one, and
    /// not by the other.
    fn is_better(&self, wall: UnixMillis, accepted: &CosignedCheckpoint) -> bool {
        let quorum = accepted.quorum_time();
        let is_of = |time: UnixMillis| time.get().abs_diff(quorum.to_millis().get()) <= APART_MS_MAX;
        Some(quorum) > self.quorum && is_of(wall) && !is_of(self.now())
    }

    fn set(&mut self, to: UnixMillis, passed_ms: u64) {
        (self.at, self.passed_ms, self.basis) = (to, passed_ms, Basis::Confirmed);
    }
}

#[cfg(test)]
mod tests {
    use waymark_log::{
        checkpoint::{Checkpoint, Origin, SignedCheckpoint},
        cosignature::Cosigner,
        hash::Hash,
        key::SecretKey,
        note::{KeyName, NoteSigner},
    };

    use super::*;

    const START_S: u64 = 1_700_000_000;
    const YEAR_MS: i64 = 365 * DAY_MS as i64;
    const FRESHNESS: Freshness = Freshness { max_age_s: 600, skew_s: 30 };

    fn log() -> NoteSigner {
        NoteSigner::new(KeyName::new("dp.example/log").unwrap(), SecretKey::from_seed(&[1; 32]))
    }

    fn witness() -> Cosigner {
        Cosigner::new(KeyName::new("w1.example").unwrap(), SecretKey::from_seed(&[2; 32]))
    }

    /// Whether a checkpoint that was cosigned then is accepted.
    fn takes(time: &mut LogTime, cosigned_s: u64) -> bool {
        let policy = format!("log {}\nwitness w1 {}\nquorum w1\n", log().vkey(), witness().vkey());
        let checkpoint = Checkpoint::new(Origin::new("dp.example/log").unwrap(), 1, Hash::ZERO);
        let line = witness().cosign(&checkpoint.format(), UnixSeconds::new(cosigned_s));
        let note = SignedCheckpoint::sign(checkpoint, &log()).to_note(&[line]);
        time.judge(note.as_bytes(), &Policy::parse(&policy).unwrap(), FRESHNESS).is_ok()
    }

    fn start() -> Clock {
        Clock::settable(START_S * 1000)
    }

    #[test]
    fn a_wall_clock_that_is_set_moves_nothing_once_a_quorum_has_confirmed_the_time() {
        let clock = start();
        let mut time = LogTime::new(clock.clone(), None);
        assert!(takes(&mut time, START_S) && time.is_confirmed() && time.fault().is_none());
        for by_ms in [YEAR_MS, -YEAR_MS, 3_600_000, -3_600_000] {
            let before = time.now();
            clock.set(by_ms);
            clock.advance(1000);
            assert_eq!(time.now(), before.plus_ms(1000));
            assert!(time.fault().unwrap().contains(if by_ms > 0 { "ahead of" } else { "behind" }));
            // The log is read on, and what is old stays old.
            let cosigned_s = time.now().get() / 1000;
            assert!(takes(&mut time, cosigned_s));
            assert!(!takes(&mut time, START_S - 700));
            clock.set(-by_ms);
            assert_eq!((time.now(), time.fault()), (clock.now(), None));
        }
    }

    #[test]
    fn a_log_that_falls_silent_does_not_stop_the_time() {
        let clock = start();
        let mut time = LogTime::new(clock.clone(), None);
        assert!(takes(&mut time, START_S));
        clock.advance(YEAR_MS as u64);
        assert_eq!(time.now(), clock.now());
        // Nor does a clock that is set back make its last checkpoint fresh again.
        clock.set(-YEAR_MS);
        assert!(!takes(&mut time, START_S));
    }

    #[test]
    fn after_a_sleep_a_newer_quorum_sets_the_time() {
        let clock = start();
        let mut time = LogTime::new(clock.clone(), None);
        assert!(takes(&mut time, START_S));
        clock.set(3_600_000);
        assert!(time.fault().is_some() && takes(&mut time, START_S + 3600));
        assert_eq!((time.now(), time.fault()), (clock.now(), None));
    }

    #[test]
    fn a_clock_that_was_ahead_at_the_first_start_is_mended_by_the_next_heads_once_it_is_right() {
        for ahead_s in [100, 300, 560] {
            let clock = start();
            clock.set(ahead_s * 1000);
            let mut time = LogTime::new(clock.clone(), None);
            assert!(takes(&mut time, START_S - 10) && time.is_confirmed(), "{ahead_s}");
            clock.set(-ahead_s * 1000);
            clock.advance(60_000);
            assert!(takes(&mut time, START_S + 55) && time.is_confirmed(), "{ahead_s}");
            assert_eq!((time.now(), time.fault()), (clock.now(), None), "{ahead_s}");
        }
        // The same over a restart, as far as such a clock may have been believed; a clock that is set back further is not.
        for (ahead_ms, heals) in [(100_000, true), (560_000, true), (700_000, false)] {
            let clock = start();
            let mut time = LogTime::new(clock.clone(), Some(clock.now().plus_ms(ahead_ms)));
            assert_eq!((takes(&mut time, START_S - 5), time.fault().is_none()), (heals, heals), "{ahead_ms}");
        }
        // A quorum that is not of this moment by the wall clock says nothing against the time.
        let clock = start();
        let mut time = LogTime::new(clock.clone(), None);
        assert!(takes(&mut time, START_S));
        clock.set(-60_000);
        clock.advance(10_000);
        assert!(takes(&mut time, START_S + 5) && time.fault().is_some());
    }

    #[test]
    fn at_a_start_with_a_wrong_clock_nothing_is_later_than_what_an_earlier_run_knew() {
        let known = Some(UnixMillis::new(START_S * 1000));
        for by_ms in [YEAR_MS, -YEAR_MS] {
            let clock = start();
            clock.set(by_ms);
            let mut time = LogTime::new(clock.clone(), known);
            clock.advance(5000);
            assert_eq!(time.now(), UnixMillis::new((START_S + 5) * 1000));
            // Behind what is known it is certainly wrong; ahead it may be that nobody has run for a year.
            assert_eq!((time.fault().is_some(), takes(&mut time, START_S + 5)), (by_ms < 0, by_ms < 0));
            assert!(!time.is_confirmed());
            clock.set(-by_ms);
            assert!(takes(&mut time, START_S + 5) && time.is_confirmed());
            assert_eq!(time.now(), clock.now());
        }
        let clock = start();
        clock.advance(DAY_MS);
        let mut time = LogTime::new(clock.clone(), known);
        assert!(takes(&mut time, START_S + DAY_MS / 1000));
        assert_eq!(time.now(), clock.now());
        // The first start knows nothing that is worth remembering.
        assert_eq!(LogTime::new(clock, None).known(), None);
    }

    #[test]
    fn small_corrections_do_not_add_up_within_a_day_and_are_taken_over_after_it() {
        let clock = start();
        let mut time = LogTime::new(clock.clone(), None);
        assert!(takes(&mut time, START_S));
        for _ in 0..3 {
            clock.set(20_000);
            assert!(takes(&mut time, START_S));
        }
        assert_eq!((time.now().get(), time.fault().is_some()), (START_S * 1000, true));
        clock.set(-40_000);
        clock.advance(DAY_MS);
        assert!(takes(&mut time, START_S + DAY_MS / 1000));
        assert_eq!(time.now(), clock.now());
    }
}
