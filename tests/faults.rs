//! Every effect of a commit, made to fail: not written, written and not acknowledged, half written. Twice in a row, on a log
//! that is about to fill its first tile. Recovery must find the batch before or the batch after, the right one of the two,
//! and go on; and where the disk contradicts itself it must refuse.

mod common;

use std::sync::Arc;

use common::{
    copy_folder, csi,
    hand::{Hand, How, Step, origin},
    key,
};
use waymark::{
    backup::{Wanted, back_up},
    config::{Settings, StoreKind, names},
    fsck::fsck,
    init::open_rows,
    policy::change,
    row::Kept,
    sequencer::{
        accepted::Accepted,
        batch::{ConfigRefused, Intake, PendingChange, Promise, check_config},
        pool::{Place, Pool, PoolRefused, Taken},
        purge::{Purger, Round, open_row},
        recover::{RecoverError, check_row_keys, read_back},
    },
    store::{Head, LogFiles, Purge, RowKeys, SealedRow, StoreError, seal::Sealer},
};
use waymark_log::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    hash::Hash,
    key::SecretKey,
    note::{KeyName, NoteSigner},
    time::UnixMillis,
};
use waymark_mapping::signed::SignedStruct;
use waymark_runtime::keyfile;

/// A log of at least `size` entries, at rest.
fn grown_at_rest(size: u64) -> tempfile::TempDir {
    let mut hand = Hand::new();
    assert!(hand.commit(vec![], None));
    let missing = size - hand.writer.state.size() - 1;
    let changes = (0..missing).map(|i| hand.judged(&csi(&format!("tel:+4915112{i:06}")))).collect();
    assert!(hand.commit(changes, None));
    hand.at_rest()
}

/// The same, open.
fn grown(size: u64) -> Hand {
    Hand::open(grown_at_rest(size)).map_err(|(why, _)| why).unwrap()
}

const FAULTS: [(Step, How, bool); 7] = [
    (Step::Stage, How::NotWritten, false),
    (Step::Stage, How::Written, false),
    (Step::SwapHead, How::NotWritten, false),
    (Step::SwapHead, How::Written, true),
    (Step::WriteTiles, How::NotWritten, true),
    (Step::WriteTiles, How::HalfWritten, true),
    (Step::WriteTiles, How::Written, true),
];

#[test]
fn every_fault_leaves_the_batch_before_or_the_one_after() {
    let bob = csi("tel:+4915112345642");
    // The faulty batches have 17 entries each: the first tile is filled by one of them, or by the good one after.
    let template = grown_at_rest(210);
    let mut crossed = 0;
    for (first, how_first, made_first) in FAULTS {
        for (second, how_second, made_second) in FAULTS {
            let copy = tempfile::tempdir().unwrap();
            copy_folder(template.path(), copy.path());
            let mut hand = Hand::open(copy).map_err(|(why, _)| why).unwrap();
            let before = hand.writer.state.size();
            let mut version = None;
            for (step, how, made) in [(first, how_first, made_first), (second, how_second, made_second)] {
                let size = hand.writer.state.size();
                let change = hand.judged(&bob);
                assert!(!hand.commit(vec![change], Some((step, how))), "{step:?} {how:?} was to fail");
                hand = hand.again().unwrap_or_else(|(why, _)| panic!("after {step:?} {how:?}: {why}"));
                if made {
                    version = Some(version.map_or(0, |v| v + 1));
                }
                assert_eq!(hand.writer.state.size() > size, made, "{step:?} {how:?}");
                hand.holds(&bob, version);
            }
            let change = hand.judged(&bob);
            assert!(hand.commit(vec![change], None));
            hand.holds(&bob, Some(version.map_or(0, |v| v + 1)));
            crossed += u32::from(before < 256 && hand.writer.state.size() >= 256);
        }
    }
    assert!(crossed > 0, "no batch filled a tile: the test has lost its point");
    println!("{} pairs of faults, {crossed} of them across a full tile", FAULTS.len() * FAULTS.len());
}

#[test]
fn every_fault_leaves_the_promise_before_or_the_one_after() {
    let bob = csi("tel:+4915112345642");
    for (step, how, made) in FAULTS {
        let mut hand = grown(20);
        let before = Promise::of(hand.writer.state.latest_promise()).unwrap();
        // The same document: a change that was judged by another one than takes effect with it is left out.
        let promise = Promise { interval_ms: before.interval_ms * 2, ..before };
        let log_key = SecretKey::from_seed(&keyfile::load(&hand.dir.path().join("keys/log.key")).unwrap());
        let config = change::make(&origin(), &log_key, promise, hand.writer.state.latest_promise());
        let changes = vec![hand.judged(&bob)];
        let intake = Intake { config: Some(config.clone()), changes, ..Intake::default() };
        assert!(!hand.commit_all(intake.clone(), Some((step, how))), "{step:?} {how:?} was to fail");
        hand = hand.again().unwrap_or_else(|(why, _)| panic!("after {step:?} {how:?}: {why}"));
        let now = Promise::of(hand.writer.state.latest_promise()).unwrap();
        assert_eq!(now, if made { promise } else { before }, "{step:?} {how:?}");
        hand.holds(&bob, made.then_some(0));
        // It follows once, not twice; and the record of bob is not made twice either.
        let again = check_config(&config, hand.writer.state.latest_promise(), &origin(), &log_key.public());
        assert_eq!(again.is_ok(), !made);
        if !made {
            assert!(hand.commit_all(intake, None));
            assert_eq!(Promise::of(hand.writer.state.latest_promise()), Some(promise));
        }
        hand = hand.again().unwrap_or_else(|(why, _)| panic!("{why}"));
        assert_eq!(Promise::of(hand.writer.state.latest_promise()), Some(promise));
        hand.holds(&bob, Some(0));
    }
}

#[test]
fn a_config_entry_that_does_not_follow_is_left_out() {
    let hand = grown(20);
    let log_key = SecretKey::from_seed(&keyfile::load(&hand.dir.path().join("keys/log.key")).unwrap());
    let promise = Promise { policy: Hash::sha256(&[b"another document"]), interval_ms: 70 };
    let good = change::make(&origin(), &log_key, promise, hand.writer.state.latest_promise());
    let late = change::make(&origin(), &log_key, promise, b"another entry");
    let by_other = change::make(&origin(), &key("another"), promise, hand.writer.state.latest_promise());
    let mut other_key = good.clone();
    other_key.log_key = key("another").public();
    other_key.sign(&origin(), &log_key);
    let mut bent = good.clone();
    bent.interval_ms += 1;
    let slow = Promise { interval_ms: 30_001, ..promise };
    let slow = change::make(&origin(), &log_key, slow, hand.writer.state.latest_promise());
    let made = |config| {
        let intake = Intake { config: Some(config), ..Intake::default() };
        hand.made(intake).sound.into_parts()
    };
    for (config, why) in [
        (late, ConfigRefused::NotNext),
        (by_other, ConfigRefused::OtherKey),
        (other_key, ConfigRefused::OtherKey),
        (bent, ConfigRefused::Signature),
        (slow, ConfigRefused::Interval),
    ] {
        let (made, next) = made(config);
        assert_eq!((made.config_refused, made.entries.len()), (Some(why), 1), "a head, and nothing else");
        assert_eq!(next.audited.config_bytes(), hand.writer.state.audited.config_bytes());
    }
    let (made, _) = made(good);
    assert_eq!((made.config_refused, made.entries.len()), (None, 2));
    assert_eq!(made.head.config, Hash::sha256(&[&made.entries[0]]));
}

/// A log of some size, spoiled by this, must not be continued, and for this reason.
#[track_caller]
fn refused(spoil: impl FnOnce(&Hand), is_why: impl FnOnce(&RecoverError) -> bool) {
    let hand = grown(40);
    spoil(&hand);
    match hand.again() {
        Ok(_) => panic!("a spoiled log was continued"),
        Err((why, _)) => assert!(is_why(&why), "{why:?}"),
    }
}

/// What the files of a folder hold.
fn copy_of(hand: &Hand, name: &str) -> Vec<u8> {
    std::fs::read(hand.dir.path().join(name)).unwrap()
}

#[test]
fn an_old_head_is_not_continued_once_a_newer_checkpoint_was_published() {
    let mut hand = grown(40);
    let old = copy_of(&hand, names::HEAD);
    assert!(hand.commit(vec![], None));
    hand.answering.files.publish(&hand.writer.head_note).unwrap();
    std::fs::write(hand.dir.path().join(names::HEAD), old).unwrap();
    assert!(matches!(hand.again().err().unwrap().0, RecoverError::HeadIsOld { .. }));
}

#[test]
fn an_old_record_store_is_not_continued() {
    let dir = grown_at_rest(40);
    let (store, kept) = (dir.path().join("records.redb"), dir.path().join("kept"));
    assert!(store.exists(), "the record store has another name");
    std::fs::copy(&store, &kept).unwrap();
    let mut hand = Hand::open(dir).map_err(|(why, _)| why).unwrap();
    assert!(hand.commit(vec![], None));
    let dir = hand.at_rest();
    std::fs::rename(&kept, &store).unwrap();
    assert!(matches!(Hand::open(dir).err().unwrap().0, RecoverError::RowsAreOld { .. }));
}

/// The versions of all records in a store.
fn records(dir: &std::path::Path) -> usize {
    let rows = open_rows(dir, StoreKind::Redb, false).unwrap();
    let mut records = 0;
    rows.for_each(&mut |_| records += 1).unwrap();
    records
}

/// The head alone was restored, after one batch and after several; or the public folder as well, so that no tile shows what was signed.
#[test]
fn records_of_signed_batches_are_never_dropped_for_an_old_head() {
    for (batches, with_log) in [(1, false), (3, false), (2, true), (3, true)] {
        let dir = grown_at_rest(40);
        let old = tempfile::tempdir().unwrap();
        copy_folder(dir.path(), old.path());
        let mut hand = Hand::open(dir).map_err(|(why, _)| why).unwrap();
        for i in 0..batches {
            let change = hand.judged(&csi(&format!("tel:+4915113{i:06}")));
            assert!(hand.commit(vec![change], None));
        }
        let dir = hand.at_rest();
        let before = records(dir.path());
        std::fs::copy(old.path().join(names::HEAD), dir.path().join(names::HEAD)).unwrap();
        if with_log {
            let log = dir.path().join(names::LOG);
            std::fs::remove_dir_all(&log).unwrap();
            copy_folder(&old.path().join(names::LOG), &log);
        }
        let (why, dir) = Hand::open(dir).err().unwrap();
        assert!(matches!(why, RecoverError::HeadIsOlderThanRecords { .. }), "{batches} {with_log}: {why:?}");
        assert!(why.to_string().contains("Put back the newest `head`"), "{why}");
        assert_eq!(records(dir.path()), before, "{batches} {with_log}");
    }
}

#[test]
fn whoever_only_looks_leaves_a_batch_that_was_never_signed() {
    let bob = csi("tel:+4915112345642");
    let mut hand = grown(20);
    let change = hand.judged(&bob);
    assert!(!hand.commit(vec![change], Some((Step::Stage, How::Written))));
    let csi_key = hand.answering.sealer.csi_key(&bob);
    let dir = hand.at_rest();
    let settings = Settings::load(dir.path()).unwrap();
    let is_there = |dir: &std::path::Path| {
        let rows = open_rows(dir, StoreKind::Redb, false).unwrap();
        rows.row(&csi_key, 0).unwrap().is_some()
    };
    {
        let rows = open_rows(dir.path(), StoreKind::Redb, false).unwrap();
        let (head, files) =
            (Head::at(&dir.path().join(names::HEAD)), LogFiles::at(&dir.path().join(names::LOG)).unwrap());
        let vkey = settings.signer.vkey();
        // As the listing run of `accept-findings` does, and as `fsck` does.
        assert!(read_back(&*rows, &head, &files, &settings.origin, vkey).unwrap().is_unsigned_staged);
        let keys = RowKeys::open(&dir.path().join(names::ROW_KEYS)).unwrap();
        let sealer = Sealer::new(&settings.store_key, Arc::new(keys));
        let report = fsck(&*rows, &head, &files, &sealer, &settings.origin, vkey, &Accepted::NONE).unwrap();
        assert_eq!((report.unsigned, report.faults), (1, vec![]));
    }
    assert!(is_there(dir.path()));
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().join("copy");
    back_up(&settings, &to, &Wanted::default(), UnixMillis::new(1)).unwrap();
    assert!(is_there(dir.path()) && !is_there(&to));
    let hand = Hand::open(dir).map_err(|(why, _)| why).unwrap();
    hand.holds(&bob, None);
    assert!(!is_there(hand.at_rest().path()));
}

#[test]
fn an_old_file_of_row_keys_is_refused_by_its_name() {
    let dir = grown_at_rest(40);
    let old = std::fs::read(dir.path().join(names::ROW_KEYS)).unwrap();
    let mut hand = Hand::open(dir).map_err(|(why, _)| why).unwrap();
    let change = hand.judged(&csi("tel:+4915112345642"));
    assert!(hand.commit(vec![change], None));
    std::fs::write(hand.dir.path().join(names::ROW_KEYS), old).unwrap();
    let (why, dir) = hand.again().err().unwrap();
    assert!(matches!(why, RecoverError::RowKeysAreOld { .. }) && why.to_string().starts_with("row.keys"), "{why}");
    // So does a check, and a purge that is not done uses slots, too.
    let settings = Settings::load(dir.path()).unwrap();
    let copy = tempfile::tempdir().unwrap();
    let why = back_up(&settings, &copy.path().join("copy"), &Wanted::default(), UnixMillis::new(1)).unwrap_err();
    assert!(why.to_string().contains("row.keys"), "{why}");
    let rows = open_rows(dir.path(), StoreKind::Redb, false).unwrap();
    let keys = RowKeys::create(&copy.path().join("other.keys")).unwrap();
    keys.allocate(7).unwrap();
    let purge = Purge { csi_key: [7; 32], below: 1, due: UnixMillis::new(0), size: 1, slots: vec![7] };
    check_row_keys(&*rows, &keys, Some(6)).unwrap();
    rows.stage(&rows.staged().unwrap().unwrap(), &[], &[purge]).unwrap();
    let refused = check_row_keys(&*rows, &keys, Some(6));
    assert!(matches!(refused, Err(RecoverError::RowKeysAreOld { keys: 7, slot: 7 })), "{refused:?}");
}

#[test]
fn a_record_that_does_not_open_holds_up_its_own_deletion_and_no_other() {
    let all: Vec<_> = (0..4).map(|i| csi(&format!("tel:+4915114{i:06}"))).collect();
    let mut hand = grown(20);
    for _ in 0..2 {
        let changes = all.iter().map(|who| hand.judged(who)).collect();
        assert!(hand.commit(changes, None));
    }
    let (sealer, rows) = (&hand.answering.sealer, &hand.rows);
    let key = |i: usize| sealer.csi_key(&all[i]);
    let first = |i| rows.row(&key(i), 0).unwrap().unwrap();
    // Damaged; shredded; with a key that is not in the file; and whole.
    let mut damaged = first(0);
    damaged.sealed[30] ^= 1;
    sealer.keys().shred(&[first(1).slot]).unwrap();
    let beyond = SealedRow { slot: sealer.keys().slots(), ..first(2) };
    let size = hand.writer.signed.size();
    let purge = |i| Purge { csi_key: key(i), below: 1, due: UnixMillis::new(0), size, slots: vec![] };
    let purges: Vec<Purge> = (0..4).map(purge).collect();
    rows.stage(&rows.staged().unwrap().unwrap(), &[damaged, beyond], &purges).unwrap();
    let mut purger = Purger::default();
    let mut round = || purger.round(&**rows, sealer, size, hand.now()).unwrap();
    assert_eq!(round(), Round { done: 1, skipped: 3 });
    assert_eq!(round(), Round::default(), "it is said once");
    assert!(matches!(open_row(sealer, &first(3)), Ok(Kept::Stub(_))));
    assert_eq!(rows.purges().unwrap().len(), 3, "the next start tries again");
}

#[test]
fn a_disk_that_contradicts_itself_is_refused() {
    let publish = |hand: &Hand, signer: &NoteSigner, root: Hash| {
        let checkpoint = Checkpoint::new(origin(), hand.writer.signed.size(), root);
        let note = SignedCheckpoint::sign(checkpoint, signer).to_note(&[]);
        hand.answering.files.publish(&note).unwrap();
    };
    refused(
        |h| publish(h, &h.settings.signer, Hash::sha256(&[b"another tree"])),
        |e| matches!(e, RecoverError::Fork(_)),
    );
    let other = NoteSigner::new(KeyName::new("dp.example/log").unwrap(), key("another log"));
    let by_other = |h: &Hand| {
        let note = SignedCheckpoint::sign(h.writer.signed.checkpoint().clone(), &other).to_note(&[]);
        Head::at(&h.dir.path().join(names::HEAD)).swap(Some(&h.writer.head_note), &note).unwrap();
    };
    refused(by_other, |e| matches!(e, RecoverError::NotOurs(_)));
    refused(
        |h| std::fs::remove_file(h.dir.path().join(names::HEAD)).unwrap(),
        |e| matches!(e, RecoverError::NotInitialised),
    );
    refused(
        |h| std::fs::write(h.dir.path().join(names::HEAD), b"blake3 00\n").unwrap(),
        |e| matches!(e, RecoverError::Store(StoreError::Damaged(_))),
    );
}

/// Flips a bit in the middle of a file that the last batch did not write: nothing stages it again.
#[test]
fn a_damaged_tile_or_entry_is_never_served_as_if_it_were_good() {
    for kind in ["tile/0/000", "tile/entries/000"] {
        let mut hand = grown(300);
        assert!(hand.commit(vec![], None));
        let path = hand.dir.path().join(names::LOG).join(kind);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        #[allow(clippy::permissions_set_readonly_false, reason = "a test's own file")]
        permissions.set_readonly(false);
        std::fs::set_permissions(&path, permissions).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let why = hand.again().err().unwrap_or_else(|| panic!("{kind} was damaged and not noticed")).0;
        assert!(matches!(why, RecoverError::Damaged(_)), "{kind}: {why:?}");
    }
}

#[test]
fn fsck_finds_a_row_that_was_altered_moved_or_lost() {
    let bob = csi("tel:+4915112345642");
    let grown_with_bob = || {
        let mut hand = grown(20);
        for _ in 0..3 {
            let change = hand.judged(&bob);
            assert!(hand.commit(vec![change], None));
        }
        hand.holds(&bob, Some(2));
        hand
    };
    let hand = grown_with_bob();
    let csi_key = hand.answering.sealer.csi_key(&bob);
    let row = |version| hand.rows.row(&csi_key, version).unwrap().unwrap();
    let staged = hand.rows.staged().unwrap().unwrap();
    let whole = row(1);
    for bit in 0..whole.sealed.len() * 8 {
        if bit % 61 != 0 {
            continue;
        }
        let mut altered = whole.clone();
        altered.sealed[bit / 8] ^= 1 << (bit % 8);
        hand.rows.stage(&staged, &[altered], &[]).unwrap();
        assert_eq!(hand.fsck().faults.len(), 1, "bit {bit}");
    }
    // Another version's row in its place; a version that nobody made; then good again.
    hand.rows.stage(&staged, &[SealedRow { sealed: row(0).sealed, ..whole.clone() }], &[]).unwrap();
    assert_eq!(hand.fsck().faults.len(), 1);
    hand.rows.stage(&staged, &[whole.clone(), SealedRow { version: 4, ..row(2) }], &[]).unwrap();
    assert_eq!(hand.fsck().faults.len(), 2, "it cannot be opened, and version 3 is missing");
}

#[test]
fn two_changes_judged_over_one_version_do_not_both_get_in() {
    let bob = csi("tel:+4915112345642");
    let mut hand = grown(20);
    let (first, second) = (hand.judged(&bob), hand.judged(&bob));
    let pool = Pool::default();
    let place: Place = Arc::new(());
    let is_next = |hand: &Hand, c: &PendingChange| hand.answering.published.is_next(&c.csi_key, c.row.version);
    pool.add([1; 32], first, &place, |c| is_next(&hand, c)).unwrap();
    let again = hand.judged(&bob);
    assert!(matches!(pool.add([2; 32], again, &place, |c| is_next(&hand, c)), Err(PoolRefused::InFlight)));
    let Taken { intake, done } = pool.take();
    assert!(hand.commit_all(intake, None));
    pool.published(&[], done);
    let late = pool.add([3; 32], second, &place, |c| is_next(&hand, c));
    assert!(matches!(late, Err(PoolRefused::Overtaken)), "it would be a second version 0, and end the sequencer");
    let now = hand.judged(&bob);
    pool.add([4; 32], now, &place, |c| is_next(&hand, c)).unwrap();
}
