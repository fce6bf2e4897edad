//! The witness's clock is set while it runs, or was wrong when it started: no date comes out that could not be taken
//! back, and no log waits longer than the clock is wrong.

mod common;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use common::{PROGRAM, TestLog, add_checkpoint, call, cosigned_at, latest, verified_size, witness_dir};
use waymark_log::note::Vkey;
use waymark_runtime::{clock::Clock, keyfile};
use waymark_witness::{
    Running, add_log,
    config::{KEY_FILE, NEXT_KEY_FILE, SetupError},
    load,
    reset::ResetError,
    reset_clock, start,
};

const NOW_MS: u64 = 1_700_000_000_000;
const NOW_S: u64 = NOW_MS / 1000;
const YEAR_MS: i64 = 365 * 86_400_000;
/// Cosignatures are dated to the second.
const APART_S: u64 = 30;

async fn running(dir: &Path, clock: &Clock) -> Running {
    let mut settings = load(dir).unwrap();
    settings.operations = Some("127.0.0.1:0".parse().unwrap());
    start(settings, clock.clone()).await.unwrap()
}

/// The codes of what keeps a witness from being ready.
async fn reasons(witness: &Running) -> Vec<String> {
    let url = witness.operations_url().unwrap();
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    let answer = call(address, "GET", "/readyz", b"").await;
    let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let reasons = told["reasons"].as_array().cloned().unwrap_or_default();
    assert_eq!(answer.status, if reasons.is_empty() { 200 } else { 503 });
    reasons.iter().map(|r| r["code"].as_str().unwrap().to_owned()).collect()
}

/// A witness whose clock stood a year ahead when it cosigned 7; it was stopped since.
async fn dated_ahead(log: &TestLog) -> (tempfile::TempDir, PathBuf, Vkey) {
    let (folder, dir) = witness_dir(&[log]);
    let witness = running(&dir, &Clock::manual(NOW_MS + YEAR_MS as u64)).await;
    assert_eq!(add_checkpoint(witness.address(), &log.body(0, 7)).await.status, 200);
    let vkey = witness.vkey().clone();
    witness.stop().await;
    (folder, dir, vkey)
}

#[tokio::test]
async fn a_clock_that_is_set_while_it_runs_dates_nothing_and_makes_no_log_wait() {
    let (log, fresh) = (TestLog::new("log.example", 5), TestLog::new("fresh.example", 6));
    let (_folder, dir) = witness_dir(&[&fresh]);
    // With a small quota: a day that has not come must not use it up for a year.
    add_log(&dir, log.vkey(), None, Some(4)).unwrap();
    let clock = Clock::settable(NOW_MS);
    let witness = running(&dir, &clock).await;
    let (to, vkey) = (witness.address(), witness.vkey());
    cosigned_at(&add_checkpoint(to, &log.body(0, 7)).await, &log.text(7), vkey);
    assert_eq!(reasons(&witness).await, [""; 0]);
    for (by_ms, size) in [(YEAR_MS, 8), (-YEAR_MS, 9), (31_000, 10)] {
        clock.set(by_ms);
        for _ in 0..3 {
            for body in [log.body(size - 1, size), log.body(size - 1, size - 1), fresh.body(0, 7)] {
                let answer = add_checkpoint(to, &body).await;
                assert_eq!((answer.status, answer.media_type()), (503, "text/plain; charset=utf-8"), "{answer:?}");
                assert!(answer.body.starts_with("this witness's clock jumped: it is "), "{answer:?}");
            }
        }
        assert!(reasons(&witness).await.contains(&"clock-jumped".to_owned()));
        // Refusals and retrieval need no clock.
        assert_eq!(add_checkpoint(to, &log.body(5, 13)).await.status, 409);
        assert_eq!(latest(to, &fresh).await.status, 404);
        clock.advance(60_000);
        clock.set(-by_ms);
        let at = cosigned_at(&add_checkpoint(to, &log.body(size - 1, size)).await, &log.text(size), vkey);
        assert_eq!(at, clock.now().floor_seconds(), "it heals by itself");
        assert_eq!(reasons(&witness).await, [""; 0]);
    }
    assert_eq!(add_checkpoint(to, &log.body(10, 11)).await.status, 429, "four were cosigned");
    clock.advance(86_400_000);
    assert_eq!(add_checkpoint(to, &log.body(10, 11)).await.status, 200, "the next day is the next day");
    assert_eq!(add_checkpoint(to, &fresh.body(0, 7)).await.status, 200);
    witness.stop().await;
}

/// What is done to a witness and its clock.
#[derive(Debug, Clone, Copy)]
enum Act {
    Passes(u64),
    Set(i64),
    Grow,
    Refresh,
    Restart,
}

/// A life that is the same for the same seed.
fn life(seed: u64) -> Vec<Act> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut act = || match draw(10) {
        0 | 1 => Act::Passes(draw(90_000)),
        2 | 3 => Act::Set([draw(80_000) as i64 - 40_000, YEAR_MS, -YEAR_MS][draw(3) as usize]),
        4..=6 => Act::Grow,
        7 | 8 => Act::Refresh,
        _ => Act::Restart,
    };
    (0..50).map(|_| act()).collect()
}

/// Whatever is done to the clock: in a run no cosignature is dated beyond what the clock said at its start, what has
/// passed since, and 30 s; and none before an earlier one of the same log.
async fn dates_are_bounded(acts: Vec<Act>) -> u64 {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir) = witness_dir(&[&log]);
    let clock = Clock::settable(NOW_MS);
    let mut witness = running(&dir, &clock).await;
    let (mut size, mut last, mut cosigned) = (0, 0, 0);
    let mut began = (clock.now(), clock.passed_ms());
    for act in acts {
        let (old, new) = match act {
            Act::Grow => (size, size + 1),
            Act::Refresh => (size, size),
            Act::Passes(ms) => {
                clock.advance(ms);
                continue;
            }
            Act::Set(by_ms) => {
                clock.set(by_ms);
                continue;
            }
            Act::Restart => {
                witness.stop().await;
                witness = running(&dir, &clock).await;
                began = (clock.now(), clock.passed_ms());
                continue;
            }
        };
        let answer = add_checkpoint(witness.address(), &log.body(old, new)).await;
        if answer.status == 503 {
            continue;
        }
        let at = cosigned_at(&answer, &log.text(new), witness.vkey()).get();
        let passed_s = (clock.passed_ms() - began.1) / 1000;
        assert!(at <= began.0.floor_seconds().get() + passed_s + 1 + APART_S, "{at}");
        assert!(at >= last, "{at} after {last}");
        (size, last, cosigned) = (new, at, cosigned + 1);
        let seen = latest(witness.address(), &log).await;
        assert_eq!(verified_size(&seen, &log, witness.vkey()), size);
    }
    witness.stop().await;
    cosigned
}

#[tokio::test]
async fn no_cosignature_is_dated_ahead_of_what_has_passed_or_before_an_earlier_one() {
    let mut cosigned = 0;
    for seed in 1..=12 {
        cosigned += dates_are_bounded(life(seed)).await;
    }
    assert!(cosigned > 50, "{cosigned}");
}

#[tokio::test]
async fn a_witness_that_dated_the_future_gets_a_new_key_and_keeps_every_tree() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir, retired) = dated_ahead(&log).await;
    let clock = Clock::manual(NOW_MS);
    // Without a reset it waits, and says so.
    let witness = running(&dir, &clock).await;
    assert_eq!(add_checkpoint(witness.address(), &log.body(7, 13)).await.status, 503);
    assert_eq!(reasons(&witness).await, ["clock-behind"]);
    assert!(matches!(reset_clock(&dir, clock.now(), true), Err(ResetError::State(_))), "it is running");
    witness.stop().await;

    // A clock that is merely behind is a reason to set the clock, so somebody must have looked at it.
    let asked = reset_clock(&dir, clock.now(), false);
    assert!(matches!(asked, Err(ResetError::NotConfirmed { ahead_s: 31_536_000 })), "{asked:?}");
    let reset = reset_clock(&dir, clock.now(), true).unwrap();
    assert_eq!((&reset.retired, reset.retired.name()), (&retired, reset.vkey.name()));
    assert_ne!(reset.vkey, retired);

    let witness = running(&dir, &clock).await;
    let to = witness.address();
    assert_eq!((witness.vkey(), reasons(&witness).await), (&reset.vkey, vec![]));
    // The tree of before, under the new key and dated now.
    assert_eq!(verified_size(&latest(to, &log).await, &log, &reset.vkey), 7);
    assert_eq!(add_checkpoint(to, &log.forked_at(3).body(7, 13)).await.status, 422);
    assert_eq!(add_checkpoint(to, &log.body(0, 5)).await.status, 409);
    let at = cosigned_at(&add_checkpoint(to, &log.body(7, 13)).await, &log.text(13), &reset.vkey);
    assert_eq!(at.get(), NOW_S);
    witness.stop().await;
    // The old key is kept as proof of what it did, and nothing is left to reset.
    assert!(keyfile::load(&retired_file(&dir, &retired)).is_ok());
    assert!(matches!(reset_clock(&dir, clock.now(), true), Err(ResetError::NotAhead)));
}

/// A key file that the witness's operator alone may read.
fn write_key(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    keyfile::create(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn retired_file(dir: &Path, retired: &Vkey) -> PathBuf {
    let id = retired.to_string().split('+').nth(1).unwrap().to_owned();
    dir.join(format!("{KEY_FILE}.retired-{id}"))
}

/// Starts the witness and has 13 cosigned after 7; says by which key.
async fn goes_on(dir: &Path, log: &TestLog, clock: &Clock) -> Vkey {
    let witness = running(dir, clock).await;
    let vkey = witness.vkey().clone();
    cosigned_at(&add_checkpoint(witness.address(), &log.body(7, 13)).await, &log.text(13), &vkey);
    witness.stop().await;
    vkey
}

#[tokio::test]
async fn a_reset_that_broke_off_before_the_new_key_had_anything_asks_again() {
    let log = TestLog::new("log.example", 5);
    let now = Clock::manual(NOW_MS).now();
    let whole = format!("{}\n", "5a".repeat(32)).into_bytes();
    // The power may go while the new key's file is written, too.
    for left in [whole.as_slice(), b"", b"5a5a"] {
        let (_folder, dir, old) = dated_ahead(&log).await;
        let next = dir.join(NEXT_KEY_FILE);
        write_key(&next, left);
        assert!(matches!(load(&dir), Err(SetupError::ResetUnfinished(_))));
        let asked = reset_clock(&dir, now, false);
        assert!(matches!(asked, Err(ResetError::NotConfirmed { ahead_s: 31_536_000 })), "{asked:?}");
        // "If the clock is wrong now, set it right: nothing else is needed."
        assert!(load(&dir).is_ok() && !next.exists());

        // Somebody has set the clock right meanwhile: it was behind.
        write_key(&next, left);
        let right = Clock::manual(NOW_MS + YEAR_MS as u64 + 1000);
        assert!(matches!(reset_clock(&dir, right.now(), true), Err(ResetError::NotAhead)));
        assert_eq!(goes_on(&dir, &log, &right).await, old);

        // Or says now that it is right.
        write_key(&next, left);
        let reset = reset_clock(&dir, now, true).unwrap();
        assert_eq!((&reset.retired, next.exists()), (&old, false));
        let witness = running(&dir, &Clock::manual(NOW_MS)).await;
        assert_eq!(witness.vkey(), &reset.vkey);
        witness.stop().await;
    }
}

#[tokio::test]
async fn a_reset_that_broke_off_after_the_new_key_had_everything_goes_on_and_ends_with_one_key() {
    let log = TestLog::new("log.example", 5);
    let clock = Clock::manual(NOW_MS);
    for old_is_kept in [false, true] {
        let (_folder, dir, old) = dated_ahead(&log).await;
        let (key, next, kept) = (dir.join(KEY_FILE), dir.join(NEXT_KEY_FILE), retired_file(&dir, &old));
        let old_text = fs::read(&key).unwrap();
        let first = reset_clock(&dir, clock.now(), true).unwrap();
        // Back to a moment before the keys were exchanged.
        fs::rename(&key, &next).unwrap();
        write_key(&key, &old_text);
        if !old_is_kept {
            fs::remove_file(&kept).unwrap();
            // A copy that was not finished.
            write_key(&dir.join(format!("{}.tmp1-0", kept.file_name().unwrap().to_str().unwrap())), b"5a");
        }
        assert!(matches!(load(&dir), Err(SetupError::ResetUnfinished(_))));
        // There is nothing to ask: the state is the new key's, and only it can go on.
        let again = reset_clock(&dir, clock.now(), false).unwrap();
        assert_eq!((&again, next.exists()), (&first, false));
        assert_eq!(fs::read(&kept).unwrap(), old_text);
        assert_eq!(goes_on(&dir, &log, &clock).await, first.vkey);
        // Broken off after the last step, it was finished.
        assert!(matches!(reset_clock(&dir, clock.now(), true), Err(ResetError::NotAhead)));
    }
}

#[tokio::test]
async fn a_retired_key_is_a_file_of_its_own_since_not_every_file_system_has_hard_links() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir, old) = dated_ahead(&log).await;
    let before = fs::metadata(dir.join(KEY_FILE)).unwrap().ino();
    // Open, so that its number is not given to another file.
    let _held = fs::File::open(dir.join(KEY_FILE)).unwrap();
    reset_clock(&dir, Clock::manual(NOW_MS).now(), true).unwrap();
    let kept = fs::metadata(retired_file(&dir, &old)).unwrap();
    assert_ne!(kept.ino(), before);
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn resets_that_run_at_once_end_with_one_key() {
    let log = TestLog::new("log.example", 5);
    let clock = Clock::manual(NOW_MS);
    for _ in 0..4 {
        let (_folder, dir, old) = dated_ahead(&log).await;
        let reset = || reset_clock(&dir, clock.now(), true).ok();
        let done: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(reset)).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(done.len(), 1, "{done:?}");
        assert_eq!(done[0].retired, old);
        assert_eq!(goes_on(&dir, &log, &clock).await, done[0].vkey);
    }
}

#[tokio::test]
async fn the_program_asks_first_and_prints_the_new_key() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir) = witness_dir(&[&log]);
    // A year ahead of the clock that the program has.
    let ahead = Clock::manual(Clock::System.now().get() + YEAR_MS as u64);
    let witness = running(&dir, &ahead).await;
    assert_eq!(add_checkpoint(witness.address(), &log.body(0, 7)).await.status, 200);
    let old = witness.vkey().clone();
    witness.stop().await;
    let reset = |flags: &[&str]| {
        let output = Command::new(PROGRAM).args(["reset-clock", "--dir"]).arg(&dir).args(flags).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, said) = reset(&[]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(said.contains("--clock-is-right"), "{said}");
    let (code, out, said) = reset(&["--clock-is-right"]);
    assert_eq!(code, Some(0), "{said}");
    let witness = running(&dir, &Clock::System).await;
    assert_eq!(Vkey::parse(out.trim_end()).unwrap(), *witness.vkey());
    witness.stop().await;
    assert!(said.contains(&old.to_string()), "{said}");
    assert_eq!(reset(&["--clock-is-right"]).0, Some(1), "not twice");
}
