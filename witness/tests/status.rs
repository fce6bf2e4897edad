//! Every status of C2SP tlog-witness over real HTTP, body for body.

mod common;

use std::{fs, path::Path};

use common::{Answer, TestLog, add_checkpoint, call, cosigned_at, latest, verified_size, witness_dir};
use waymark_log::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    hash::{EMPTY_ROOT, Hash, node_hash},
    note::{Note, SignatureLine},
    time::UnixSeconds,
    witness::{AddCheckpoint, REQUEST_BYTES_MAX},
};
use waymark_runtime::clock::Clock;
use waymark_witness::{Added, Running, add_log, evidence::Refused, load, start};

const TEXT: &str = "text/plain; charset=utf-8";
const NOW_MS: u64 = 1_700_000_000_000;
const INCONSISTENT: &str = "not consistent with the checkpoint cosigned before\n";
const INVALID: &str = "invalid signature: a line by a key of the log does not verify\n";

async fn running(dir: &Path, clock: &Clock) -> Running {
    start(load(dir).unwrap(), clock.clone()).await.unwrap()
}

fn assert_answer(answer: &Answer, status: u16, media_type: &str, body: &str) {
    assert_eq!((answer.status, answer.media_type(), answer.body.as_str()), (status, media_type, body));
}

fn evidence_files(dir: &Path) -> Vec<Refused> {
    let Ok(entries) = fs::read_dir(dir.join("refused")) else { return vec![] };
    entries.map(|e| Refused::parse(&fs::read(e.unwrap().path()).unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn one_row_per_refusal() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir) = witness_dir(&[&log]);
    let clock = Clock::manual(NOW_MS);
    let witness = running(&dir, &clock).await;
    let to = witness.address();
    cosigned_at(&add_checkpoint(to, &log.body(0, 7)).await, &log.text(7), witness.vkey());

    let stranger = TestLog::new("stranger.example", 6);
    let impostor = TestLog::new("log.example", 6);
    let mut forged = log.request(7, 13);
    let line = SignatureLine::new(log.vkey(), vec![1; 64]);
    forged.note = Note::new(forged.note.text().to_owned(), vec![line]).unwrap();
    let good = log.body(7, 13);
    let too_old = AddCheckpoint { old_size: 14, proof: vec![], ..log.request(7, 13) }.format();
    let (not_signed, malformed) = ("the checkpoint is not signed by the log\n", "malformed request: ");
    for (what, body, status, media_type, expected) in [
        ("empty", String::new(), 400, TEXT, format!("{malformed}no empty line\n")),
        ("no old size", good.replacen("old 7\n", "", 1), 400, TEXT, format!("{malformed}the old size line\n")),
        ("leading zero", good.replacen("old 7", "old 07", 1), 400, TEXT, format!("{malformed}the old size line\n")),
        ("bad proof line", good.replacen("old 7\n", "old 7\nAA\n", 1), 400, TEXT, format!("{malformed}a proof line\n")),
        (
            "64 proof lines",
            AddCheckpoint { proof: vec![Hash::ZERO; 64], ..log.request(7, 13) }.format(),
            400,
            TEXT,
            format!("{malformed}more than 63 proof lines\n"),
        ),
        ("old size too large", too_old, 400, TEXT, "the old size is greater than the checkpoint's size\n".into()),
        ("forged signature", forged.format(), 403, TEXT, INVALID.into()),
        ("signed by another key", impostor.body(7, 13), 403, TEXT, not_signed.into()),
        ("unknown origin", stranger.body(0, 7), 404, TEXT, "unknown log\n".into()),
        ("behind", log.body(5, 13), 409, "text/x.tlog.size", "7\n".into()),
        ("from nothing", log.body(0, 13), 409, "text/x.tlog.size", "7\n".into()),
        ("ahead", log.body(9, 13), 409, "text/x.tlog.size", "7\n".into()),
    ] {
        let answer = add_checkpoint(to, &body).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_answer(&answer, status, media_type, &expected);
    }
    assert_eq!(evidence_files(&dir), [], "none of these is evidence");
    assert_eq!(verified_size(&latest(to, &log).await, &log, witness.vkey()), 7, "none of these moved it");
    witness.stop().await;
}

#[tokio::test]
async fn what_is_not_this_dialect() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir) = witness_dir(&[&log]);
    let witness = running(&dir, &Clock::manual(NOW_MS)).await;
    let to = witness.address();
    let oversize = "x".repeat(REQUEST_BYTES_MAX + 1);
    let expected = format!("at most {REQUEST_BYTES_MAX} bytes are taken here\n");
    assert_answer(&add_checkpoint(to, &oversize).await, 413, TEXT, &expected);
    // At the limit it is read, and is not a request.
    assert_eq!(add_checkpoint(to, &oversize[1..]).await.status, 400);

    let (nothing, method) = ("there is nothing at this path\n", "this path does not take this method\n");
    let hash = log.origin.hash_hex();
    for (verb, path, status, expected) in [
        ("GET", "/add-checkpoint".to_owned(), 405, method),
        ("PUT", "/add-checkpoint".to_owned(), 405, method),
        ("POST", format!("/{hash}/checkpoint"), 405, method),
        ("POST", "/sign-subtree".to_owned(), 404, nothing),
        ("POST", "/add-checkpoint/".to_owned(), 404, nothing),
        ("GET", "/".to_owned(), 404, nothing),
        ("GET", format!("/{hash}"), 404, nothing),
        ("GET", format!("/{hash}/checkpoint/more"), 404, nothing),
        ("GET", "/add-checkpoint?x".to_owned(), 405, method),
        ("GET", "//checkpoint/checkpoint".to_owned(), 404, nothing),
        ("GET", format!("//{hash}/checkpoint"), 404, nothing),
    ] {
        let answer = call(to, verb, &path, b"").await;
        assert_eq!(answer.status, status, "{verb} {path}");
        assert_answer(&answer, status, TEXT, expected);
    }
    assert_eq!(call(to, "GET", "/add-checkpoint", b"").await.headers["allow"], "POST");
    assert_eq!(call(to, "POST", &format!("/{hash}/checkpoint"), b"").await.headers["allow"], "GET, HEAD");
    assert_eq!(call(to, "GET", "/%ff/checkpoint", b"").await.status, 404);
    witness.stop().await;
}

#[tokio::test]
async fn inconsistent_requests_are_refused_and_kept() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir) = witness_dir(&[&log]);
    let witness = running(&dir, &Clock::manual(NOW_MS)).await;
    let to = witness.address();

    // From nothing: a proof where none is due, and an empty tree with a root of its own.
    let surplus = AddCheckpoint { proof: vec![EMPTY_ROOT], ..log.request(0, 7) }.format();
    assert_answer(&add_checkpoint(to, &surplus).await, 422, TEXT, INCONSISTENT);
    let hollow = Checkpoint::new(log.origin.clone(), 0, log.root(1));
    let hollow = SignedCheckpoint::sign(hollow, &log.signer).to_note(&[]);
    assert_answer(&add_checkpoint(to, &format!("old 0\n\n{hollow}")).await, 422, TEXT, INCONSISTENT);
    assert_eq!(latest(to, &log).await.status, 404);
    assert!(evidence_files(&dir).iter().all(|file| file.stored.is_none()));
    assert_eq!(evidence_files(&dir).len(), 2);

    // After 7: another root at 7, a tree that does not contain it, and no proof at all.
    assert_eq!(add_checkpoint(to, &log.body(0, 7)).await.status, 200);
    let fork = log.forked_at(3);
    let bodies = [fork.body(7, 7), fork.body(7, 13), AddCheckpoint { proof: vec![], ..log.request(7, 20) }.format()];
    let stored = latest(to, &log).await.body;
    for (kept, body) in bodies.iter().enumerate() {
        for _again in 0..2 {
            assert_answer(&add_checkpoint(to, body).await, 422, TEXT, INCONSISTENT);
            let files = evidence_files(&dir);
            assert_eq!(files.len(), 3 + kept);
            // The file holds both notes.
            let file = Refused { stored: Some(stored.clone()), request: body.clone().into_bytes() };
            assert!(files.contains(&file));
        }
    }
    assert_eq!(verified_size(&latest(to, &log).await, &log, witness.vkey()), 7);

    // Two roots at one size are evidence whatever old size came with them; an old size that is merely stale is not.
    let other_fork = log.forked_at(2).body(3, 7);
    assert_eq!(add_checkpoint(to, &other_fork).await.status, 409);
    let file = Refused { stored: Some(stored), request: other_fork.into_bytes() };
    assert!(evidence_files(&dir).contains(&file));
    assert_eq!(add_checkpoint(to, &log.body(3, 7)).await.status, 409);
    assert_eq!(add_checkpoint(to, &log.body(3, 9)).await.status, 409);
    assert_eq!(evidence_files(&dir).len(), 6);
    witness.stop().await;
}

#[tokio::test]
async fn growth_refresh_and_what_monitors_see() {
    let (log, other) = (TestLog::new("log.example", 5), TestLog::new("other.example", 6));
    let (_folder, dir) = witness_dir(&[&log, &other]);
    let clock = Clock::manual(NOW_MS);
    let witness = running(&dir, &clock).await;
    let (to, vkey) = (witness.address(), witness.vkey());
    let seconds = |s: u64| UnixSeconds::new(NOW_MS / 1000 + s);

    let never = "no checkpoint with this origin hash was ever cosigned here\n";
    assert_answer(&latest(to, &log).await, 404, TEXT, never);
    // The empty tree is a tree.
    assert_eq!(cosigned_at(&add_checkpoint(to, &log.body(0, 0)).await, &log.text(0), vkey), seconds(0));
    assert_eq!(verified_size(&latest(to, &log).await, &log, vkey), 0);
    assert_eq!(cosigned_at(&add_checkpoint(to, &log.body(0, 7)).await, &log.text(7), vkey), seconds(0));
    // In the same second a refresh is the same cosignature, later it is a later one.
    let first = latest(to, &log).await.body;
    assert_eq!(cosigned_at(&add_checkpoint(to, &log.body(7, 7)).await, &log.text(7), vkey), seconds(0));
    assert_eq!(latest(to, &log).await.body, first);
    clock.advance(120_000);
    assert_eq!(cosigned_at(&add_checkpoint(to, &log.body(7, 7)).await, &log.text(7), vkey), seconds(120));
    assert_ne!(latest(to, &log).await.body, first);
    assert_eq!(cosigned_at(&add_checkpoint(to, &log.body(7, 32)).await, &log.text(32), vkey), seconds(120));
    assert_eq!(verified_size(&latest(to, &log).await, &log, vkey), 32);

    // One hash, one spelling; and one log is not another.
    let upper = log.origin.hash_hex().to_uppercase();
    assert_answer(&call(to, "GET", &format!("/{upper}/checkpoint"), b"").await, 404, TEXT, never);
    assert_answer(&latest(to, &other).await, 404, TEXT, never);
    witness.stop().await;
}

#[tokio::test]
async fn strangers_lines_are_ignored_and_extension_lines_are_cosigned() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir) = witness_dir(&[&log]);
    let witness = running(&dir, &Clock::manual(NOW_MS)).await;
    let to = witness.address();
    let stranger = SignatureLine::parse("\u{2014} stranger.example AAAAAAAA").unwrap();
    let mut checkpoint = Checkpoint::new(log.origin.clone(), 7, log.root(7));
    for extensions in [vec![], vec!["an extension".to_owned()]] {
        checkpoint.extensions = extensions;
        let note = SignedCheckpoint::sign(checkpoint.clone(), &log.signer).to_note(std::slice::from_ref(&stranger));
        let old = if checkpoint.extensions.is_empty() { 0 } else { 7 };
        let answer = add_checkpoint(to, &format!("old {old}\n\n{note}")).await;
        cosigned_at(&answer, &checkpoint.format(), witness.vkey());
        let seen = latest(to, &log).await;
        assert!(seen.body.starts_with(&checkpoint.format()) && !seen.body.contains("stranger"), "{seen:?}");
    }
    witness.stop().await;
}

/// A request from nothing to 7, with these lines after the log's own.
fn with_lines(log: &TestLog, lines: &str) -> String {
    format!("old 0\n\n{}{lines}", log.note(7))
}

/// "It MUST ignore signatures from unknown keys", whatever their names; and a signature that is there twice is
/// "present".
#[tokio::test]
async fn lines_are_ignored_or_judged_as_the_specification_says() {
    let long = format!("\u{2014} {} AAAAAAA=\n", "n".repeat(300));
    let odd = "\u{2014} stranger\u{7f} AAAAAAA=\n".to_owned();
    let spelled = "\u{2014} stranger.example AAAAAAB=\n".to_owned();
    let log = TestLog::new("log.example", 5);
    let again = log.request(0, 7).note.lines()[0].to_string();
    let bad = SignatureLine::new(log.vkey(), vec![1; 64]).to_string();
    // The bits after the last byte of the signature are zero in its one spelling.
    let last = again.find("=\n").unwrap() - 1;
    let other = format!("{}{}=\n", &again[..last], char::from(again.as_bytes()[last] + 1));
    for (lines, status) in [
        (&long, 200),
        (&odd, 200),
        (&spelled, 200),
        (&again, 200),
        (&again.repeat(63), 200),
        (&(again.clone() + &long + &again), 200),
        (&again.repeat(64), 400),
        (&bad, 403),
        (&other, 403),
        (&(other.clone() + &again), 403),
        (&"\u{2014} a+b AAAAAAA=\n".to_owned(), 400),
        (&"\u{2014} a.example !\n".to_owned(), 400),
    ] {
        let (_folder, dir) = witness_dir(&[&log]);
        let witness = running(&dir, &Clock::manual(NOW_MS)).await;
        let answer = add_checkpoint(witness.address(), &with_lines(&log, lines)).await;
        assert_eq!(answer.status, status, "{lines}: {answer:?}");
        match status {
            // One line of the log's is kept, and no stranger's.
            200 => assert_eq!(verified_size(&latest(witness.address(), &log).await, &log, witness.vkey()), 7),
            403 => assert_eq!(answer.body, INVALID),
            _ => {}
        }
        witness.stop().await;
    }
}

/// The specification knows no largest size; what fits an int64 is taken, as other witnesses do.
#[tokio::test]
async fn sizes_up_to_an_int64_are_cosigned() {
    const LARGEST: u64 = i64::MAX as u64;
    const OUR_TREES: u64 = waymark_log::TREE_SIZE_MAX;
    let (log, other) = (TestLog::new("log.example", 5), TestLog::new("other.example", 6));
    let (_folder, dir) = witness_dir(&[&log, &other]);
    let witness = running(&dir, &Clock::manual(NOW_MS)).await;
    let to = witness.address();
    let body = |log: &TestLog, old: u64, proof: &str, size: u64, root: Hash| {
        let checkpoint = Checkpoint::new(log.origin.clone(), size, root);
        format!("old {old}\n{proof}\n{}", SignedCheckpoint::sign(checkpoint, &log.signer).to_note(&[]))
    };
    let root = log.root(7);
    assert_eq!(add_checkpoint(to, &body(&log, 0, "", LARGEST + 1, root)).await.status, 400);
    assert_eq!(add_checkpoint(to, &body(&log, LARGEST + 1, "", LARGEST, root)).await.status, 400);
    assert_eq!(add_checkpoint(to, &body(&log, 0, "", LARGEST, root)).await.status, 200);
    assert_eq!(add_checkpoint(to, &body(&log, LARGEST, "", LARGEST, log.root(8))).await.status, 422);
    // A proof beyond the trees that this project builds.
    let (left, leaf) = (log.root(3), log.root(1));
    assert_eq!(add_checkpoint(to, &body(&other, 0, "", OUR_TREES, left)).await.status, 200);
    let grown = node_hash(&left, &leaf);
    let grown = body(&other, OUR_TREES, &format!("{leaf}\n"), OUR_TREES + 1, grown);
    assert_eq!(add_checkpoint(to, &grown).await.status, 200);
    witness.stop().await;
    // And what was cosigned is read back.
    let witness = running(&dir, &Clock::manual(NOW_MS)).await;
    let to = witness.address();
    let behind = add_checkpoint(to, &body(&log, 0, "", LARGEST, root)).await;
    assert_eq!((behind.status, behind.body), (409, format!("{LARGEST}\n")));
    assert_eq!(add_checkpoint(to, &body(&log, LARGEST, "", LARGEST, root)).await.status, 200);
    witness.stop().await;
}

/// "If the checkpoint origin is unknown, the witness MUST respond with a 404", also where no log of ours could have it.
#[tokio::test]
async fn an_origin_that_no_log_here_can_have_is_unknown() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir) = witness_dir(&[&log]);
    let witness = running(&dir, &Clock::manual(NOW_MS)).await;
    for (origin, status) in
        [("o".repeat(300), 404), ("log\u{7f}".into(), 404), ("log\u{9b}".into(), 404), (String::new(), 400)]
    {
        let body = log.body(0, 7).replacen("\n\nlog.example\n", &format!("\n\n{origin}\n"), 1);
        assert_eq!(add_checkpoint(witness.address(), &body).await.status, status, "{origin:?}");
    }
    witness.stop().await;
}

#[tokio::test]
async fn the_days_quota_and_the_next_day() {
    let (log, other) = (TestLog::new("log.example", 5), TestLog::new("other.example", 6));
    let (_folder, dir) = witness_dir(&[&other]);
    add_log(&dir, log.vkey(), None, Some(2)).unwrap();
    let clock = Clock::manual(NOW_MS);
    let witness = running(&dir, &clock).await;
    let to = witness.address();
    assert_eq!(add_checkpoint(to, &log.body(0, 1)).await.status, 200);
    // Neither refusals nor repetitions within a second use it up.
    for _ in 0..3 {
        assert_eq!(add_checkpoint(to, &log.body(0, 2)).await.status, 409);
        assert_eq!(add_checkpoint(to, &log.forked_at(0).body(1, 2)).await.status, 422);
        assert_eq!(add_checkpoint(to, &log.body(1, 1)).await.status, 200);
    }
    assert_eq!(add_checkpoint(to, &log.body(1, 2)).await.status, 200);
    let answer = add_checkpoint(to, &log.body(2, 3)).await;
    assert_answer(&answer, 429, TEXT, "this log's quota for today is used up\n");
    let rest_s = 86_400 - NOW_MS / 1000 % 86_400;
    assert_eq!(answer.headers["retry-after"], rest_s.to_string());
    assert_eq!(add_checkpoint(to, &other.body(0, 1)).await.status, 200, "another log has its own");
    clock.advance(rest_s * 1000);
    assert_eq!(add_checkpoint(to, &log.body(2, 3)).await.status, 200);
    witness.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_anybody_can_ask_for_uses_up_no_logs_quota() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir) = witness_dir(&[]);
    add_log(&dir, log.vkey(), None, Some(3)).unwrap();
    let clock = Clock::settable(NOW_MS);
    let witness = running(&dir, &clock).await;
    let to = witness.address();
    assert_eq!(add_checkpoint(to, &log.body(0, 1)).await.status, 200);
    // Whoever has the log's published checkpoint can have it cosigned once more, each second.
    for _ in 0..5 {
        clock.advance(1000);
        assert_eq!(add_checkpoint(to, &log.body(1, 1)).await.status, 200);
    }
    // While the clock stands before the last cosignature, nothing is cosigned and nothing counted.
    clock.set(-20_000);
    for size in [1, 2, 1, 2, 1, 2] {
        assert_eq!(add_checkpoint(to, &log.body(1, size)).await.status, 503);
    }
    clock.set(20_000);
    // One step that many ask for at once is one step.
    let body = log.body(1, 2);
    let asked: Vec<_> = (0..64)
        .map(|_| body.clone())
        .map(|b| tokio::spawn(async move { add_checkpoint(to, &b).await.status }))
        .collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|status| [200, 409].contains(status)), "{answers:?}");
    assert_eq!(add_checkpoint(to, &log.body(2, 3)).await.status, 200);
    // Its quota is the log's own.
    assert_eq!(add_checkpoint(to, &log.body(3, 4)).await.status, 429);
    let mut other_text = Checkpoint::new(log.origin.clone(), 3, log.root(3));
    other_text.extensions = vec!["an extension".to_owned()];
    let note = SignedCheckpoint::sign(other_text, &log.signer).to_note(&[]);
    assert_eq!(add_checkpoint(to, &format!("old 3\n\n{note}")).await.status, 429, "only the log can make another text");
    clock.advance(1000);
    assert_eq!(add_checkpoint(to, &log.body(3, 3)).await.status, 200);
    witness.stop().await;
}

#[tokio::test]
async fn logs_keys_and_quotas_are_added_while_it_runs() {
    let (log, renewed) = (TestLog::new("log.example", 5), TestLog::new("log.example", 6));
    let (_folder, dir) = witness_dir(&[]);
    let witness = running(&dir, &Clock::manual(NOW_MS)).await;
    let to = witness.address();
    add_log(&dir, log.vkey(), None, None).unwrap();
    assert_eq!(add_checkpoint(to, &log.body(0, 7)).await.status, 200);
    add_log(&dir, renewed.vkey(), None, None).unwrap();
    // The list is read once a second at most.
    let next_second = || tokio::time::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(add_checkpoint(to, &renewed.body(7, 13)).await.status, 403);
    next_second().await;
    assert_eq!(add_checkpoint(to, &renewed.body(7, 13)).await.status, 200);
    // A quota is read when it is used up.
    next_second().await;
    assert_eq!(add_log(&dir, log.vkey(), None, Some(3)).unwrap(), Added::Quota);
    assert_eq!(add_checkpoint(to, &TestLog::new("stranger.example", 7).body(0, 1)).await.status, 404);
    assert_eq!(add_checkpoint(to, &log.body(13, 20)).await.status, 200);
    assert_eq!(add_checkpoint(to, &log.body(20, 21)).await.status, 429);
    add_log(&dir, log.vkey(), None, Some(4)).unwrap();
    next_second().await;
    assert_eq!(add_checkpoint(to, &log.body(20, 21)).await.status, 200);
    witness.stop().await;
}

#[tokio::test]
async fn a_clock_that_went_back_cosigns_nothing() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir) = witness_dir(&[&log]);
    let witness = running(&dir, &Clock::manual(NOW_MS)).await;
    assert_eq!(add_checkpoint(witness.address(), &log.body(0, 7)).await.status, 200);
    witness.stop().await;

    let clock = Clock::manual(NOW_MS - 5_000);
    let witness = running(&dir, &clock).await;
    let to = witness.address();
    let expected = "this witness's clock went back; it does not cosign until it has caught up\n";
    assert_answer(&add_checkpoint(to, &log.body(7, 13)).await, 503, TEXT, expected);
    assert_answer(&add_checkpoint(to, &log.body(7, 7)).await, 503, TEXT, expected);
    // The specification's refusals come first.
    assert_eq!(add_checkpoint(to, &log.body(5, 13)).await.status, 409);
    assert_eq!(verified_size(&latest(to, &log).await, &log, witness.vkey()), 7);
    clock.advance(5_000);
    assert_eq!(add_checkpoint(to, &log.body(7, 13)).await.status, 200);
    witness.stop().await;
}
