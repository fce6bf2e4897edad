//! Nothing is signed with which a monitor would find fault: what a change rests on is judged again with its batch, and each batch is
//! judged by the monitors' code before it is signed. A log that bears a finding all the same goes on when its operator accepts it.

mod common;

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    LOUD, QUIET, Stage, Witnesses, client, consent, csi, domain,
    hand::{Hand, origin, rotation},
    key, shown, until, with_consent,
};
use waymark::{
    backup::{self, Wanted},
    client::{
        ClientError,
        memory::LogMemory,
        recipient::{self, Added, RecipientError, Wish},
    },
    config::{Settings, names},
    dp,
    init::open_rows,
    sequencer::{
        accepted::Accepted,
        batch::{Batch, BatchError, Intake, LogState, PendingChange, batch},
        pool::{Outcome, Place, Pool, Taken},
        recover::{Recovered, recover},
        rests::{AtHead, Lasting, RestsOn, Signer},
        sound::Sound,
        writer::{Faulty, Made, seal_rows},
    },
    store::{Head, LogFiles, RowKeys, Staged, seal::Sealer},
};
use waymark_log::{checkpoint::SignedCheckpoint, hash::Hash, time::UnixMillis};
use waymark_mapping::{
    audit::{Finding, Replay},
    entry::{Entry, ProviderRole},
    event::EventKind,
    mapping::Mapping,
    provider::ProviderDirectory,
    signed::SignedStruct,
    trust::Trust,
    wire::List24,
};
use waymark_monitor as monitor;
use waymark_runtime::{clock::Clock, random};

const BOB: &str = "tel:+4915112345642";
const ANN: &str = "tel:+4915112345643";

/// A log with its providers.
fn hand() -> Hand {
    hand_at(Clock::System)
}

fn hand_at(clock: Clock) -> Hand {
    let mut hand = Hand::new_at(clock);
    assert!(hand.commit(vec![], None));
    hand
}

/// What a monitor says of the whole log.
fn findings(hand: &Hand) -> Vec<Finding> {
    let (signed, mut entries) = (&hand.writer.signed, vec![]);
    hand.answering.files.entries(signed.size(), |e| entries.push(e)).unwrap();
    let mut replay = Replay::new(origin(), hand.settings.signer.key());
    replay.extend(&entries, signed.size(), signed.root()).findings
}

/// A consent that ends at this time.
fn ending(mapping: Mapping, expiry: UnixMillis) -> Added {
    let (mut consent, salt) = consent(&origin(), &mapping);
    consent.expiry = expiry;
    consent.sign(&origin(), &key(LOUD));
    Added { mapping, consent: Some((consent, salt)) }
}

/// A change that must be left out of this batch, beside one that must not.
#[track_caller]
fn left_out(hand: &mut Hand, change: PendingChange, intake: Intake, why: &RestsOn) {
    let ann = hand.judged(&csi(ANN));
    let csi_key = change.csi_key;
    let made = hand.made(Intake { changes: vec![change, ann], ..intake });
    assert!(made.dropped.is_none());
    let batch = made.sound.batch();
    let out: Vec<_> = batch.left_out.iter().map(|l| (l.csi_key, l.why.clone())).collect();
    assert_eq!(out, [(csi_key, why.clone())]);
    assert_eq!(batch.rows.len(), 1, "the other change is made");
    assert!(hand.commit_made(made, None));
    hand.holds(&csi(BOB), None);
    hand.holds(&csi(ANN), Some(0));
    assert_eq!(findings(hand), []);
}

#[test]
fn a_consent_is_not_logged_once_its_key_has_retired_in_the_same_batch() {
    let mut hand = hand();
    let change = hand.judged_with(&csi(BOB), LOUD, |m| with_consent(&origin(), m));
    let providers = hand.writer.state.audited.shared_providers();
    let rotation = rotation(&providers, LOUD, ProviderRole::MSP, true, &key(LOUD), &key("new"));
    let signer = Signer { domain: domain(LOUD), role: ProviderRole::MSP, key: key(LOUD).public() };
    let intake = Intake { providers: vec![rotation], ..Intake::default() };
    left_out(&mut hand, change, intake, &RestsOn::Key(signer));
    hand.again().unwrap_or_else(|(why, _)| panic!("{why}"));
}

#[test]
fn a_consent_is_not_logged_once_it_is_over() {
    let month = UnixMillis::new(1_800_000_000_000).month_after(1);
    let clock = Clock::manual(month.get() - 60_000);
    let mut hand = hand_at(clock.clone());
    clock.advance(59_000);
    let change = hand.judged_with(&csi(BOB), LOUD, |m| ending(m, month));
    clock.advance(1_000);
    left_out(&mut hand, change, Intake::default(), &RestsOn::Lasts(Lasting::Consent, month));
    hand.again().unwrap_or_else(|(why, _)| panic!("{why}"));
}

#[test]
fn a_mapping_is_not_logged_once_the_prover_key_under_it_has_retired() {
    let mut hand = hand();
    let change = hand.judged(&csi(BOB));
    let (providers, old) = (hand.writer.state.audited.shared_providers(), hand.settings.prover.clone());
    let rotation = rotation(&providers, "dp.example", ProviderRole::PROVER, false, &old, &key("new"));
    let ann = hand.judged(&csi(ANN));
    let made = hand.made(Intake { providers: vec![rotation], changes: vec![change, ann], ..Intake::default() });
    let batch = made.sound.batch();
    assert_eq!((batch.left_out.len(), batch.rows.len()), (2, 0), "both rest on the old key");
    assert_eq!(batch.entries.len(), 2, "a provider entry and a head: no dummies, since no change is among them");
    assert!(hand.commit_made(made, None));
    assert_eq!(findings(&hand), []);
}

#[test]
fn a_proof_of_possession_that_is_over_makes_no_record() {
    let clock = Clock::manual(1_800_000_000_000);
    let mut hand = hand_at(clock.clone());
    clock.advance(1000);
    let change = hand.judged(&csi(BOB));
    let end = change.row.visible[0].mapping.attestation.expiry;
    clock.advance(600_000);
    left_out(&mut hand, change, Intake::default(), &RestsOn::Lasts(Lasting::Attestation, end));
}

#[test]
fn no_record_is_later_than_its_head() {
    let time = Arc::new(std::sync::atomic::AtomicU64::new(1_800_000_000_000));
    let mut hand = hand_at(Clock::Manual(Arc::clone(&time)));
    time.store(1_800_000_009_000, std::sync::atomic::Ordering::SeqCst);
    let (change, judged) = (hand.judged(&csi(BOB)), hand.clock.now());
    time.store(1_800_000_005_000, std::sync::atomic::Ordering::SeqCst);
    left_out(&mut hand, change, Intake::default(), &RestsOn::Judged(judged));
}

#[test]
fn no_record_is_earlier_than_the_head_that_it_follows() {
    let time = Arc::new(std::sync::atomic::AtomicU64::new(1_800_000_000_000));
    let mut hand = hand_at(Clock::Manual(Arc::clone(&time)));
    time.store(1_800_000_020_000, std::sync::atomic::Ordering::SeqCst);
    assert!(hand.commit(vec![hand.judged(&csi(BOB))], None));
    let head = hand.writer.state.head().unwrap().time;
    // The clock is set back, and bob changes his record before it has caught up.
    time.store(1_800_000_001_000, std::sync::atomic::Ordering::SeqCst);
    let change = hand.judged(&csi(BOB));
    assert_eq!(change.row.record.time, head);
    assert!(hand.commit(vec![change], None));
    hand.holds(&csi(BOB), Some(1));
}

/// Each condition at the moment before it ends and at its end.
#[test]
fn each_condition_ends_when_it_says() {
    let (at, digest) = (UnixMillis::new(1_000_000), Hash::sha256(&[b"a document"]));
    let mut providers = ProviderDirectory::new();
    let entry = waymark::init::provider_entry(&domain(LOUD), ProviderRole::MSP, true, 1, &origin(), &key(LOUD));
    providers.apply(&entry, &origin(), UnixMillis::new(1)).unwrap();
    let next = rotation(&providers, LOUD, ProviderRole::MSP, false, &key(LOUD), &key("new"));
    let before = providers.clone();
    providers.apply(&next, &origin(), at).unwrap();
    let signer = |k: &str| Signer { domain: domain(LOUD), role: ProviderRole::MSP, key: key(k).public() };
    let met = |condition: RestsOn, providers: &ProviderDirectory, time: u64| {
        AtHead { time: UnixMillis::new(time), providers, policy: digest }.first_unmet(&[condition]).is_none()
    };
    for (condition, providers, good, bad) in [
        (RestsOn::Judged(at), &before, 1_000_000, 999_999),
        (RestsOn::Lasts(Lasting::Mapping, at), &before, 999_999, 1_000_000),
        (RestsOn::Key(signer(LOUD)), &providers, 999_999, 1_000_000),
        (RestsOn::Publishes(domain(LOUD), true), &providers, 999_999, 1_000_000),
    ] {
        assert!(met(condition.clone(), providers, good) && !met(condition.clone(), providers, bad), "{condition:?}");
    }
    assert!(met(RestsOn::KeyAt(signer(LOUD), UnixMillis::new(999_999)), &providers, 2_000_000));
    assert!(!met(RestsOn::KeyAt(signer(LOUD), at), &providers, 2_000_000), "signed later than the key was valid");
    assert!(met(RestsOn::Onboarded(domain(LOUD)), &providers, 5));
    assert!(!met(RestsOn::Onboarded(domain(QUIET)), &providers, 5));
    assert!(met(RestsOn::Policy(digest), &before, 5) && !met(RestsOn::Policy(Hash::ZERO), &before, 5));
}

/// The code that an app is told.
fn code(error: &RecipientError) -> Option<&str> {
    match error {
        RecipientError::Client(ClientError::Refused { code, .. }) => Some(code),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sent_a_change_that_was_overtaken_is_told_and_may_make_it_again() {
    let clock = Clock::shifted();
    let stage = Stage::with_file(1, &clock, |file| file.interval_ms = 3000).await;
    let (bob, who) = (key("bob"), csi(BOB));
    let attestation = stage.attest(&bob, &who).await;
    let added = [with_consent(&stage.origin, common::mapping(&stage.origin, &bob, &attestation, QUIET, shown("a")))];
    let change = async |added: &[Added], signers| {
        let over = stage.look_up(&who, None).await.version;
        let wish = Wish { csi: &who, kind: EventKind::Issue, over, added, removed: &[], signers };
        recipient::change(&stage.client(), wish, &stage.trust, &mut LogMemory::default()).await
    };
    let signers = [(&bob, Some(attestation))];
    let late = async {
        // It waits for its batch, and the proof in it ends meanwhile.
        tokio::time::sleep(Duration::from_millis(500)).await;
        clock.advance(2 * 3600 * 1000);
    };
    let (told, ()) = tokio::join!(change(&added, &signers), late);
    assert_eq!(told.as_ref().err().and_then(code), Some("overtaken"), "{told:?}");
    stage.pass(1).await;
    assert_eq!(stage.look_up(&who, None).await.version, None);
    // The same again is judged by what is published, and told what is wrong with it; made anew it goes through.
    let again = change(&added, &signers).await;
    assert_eq!(again.as_ref().err().and_then(code), Some("mapping-invalid"), "{again:?}");
    let attestation = stage.attest(&bob, &who).await;
    let added = [with_consent(&stage.origin, common::mapping(&stage.origin, &bob, &attestation, QUIET, shown("a")))];
    change(&added, &[(&bob, Some(attestation))]).await.unwrap();
    assert_eq!(stage.look_up(&who, None).await.version, Some(0));
    stage.stop().await;
}

#[test]
fn those_who_wait_are_told_each_their_own_outcome_and_may_go_on() {
    let mut hand = hand();
    let pool = Pool::default();
    let (bob, ann) = (csi(BOB), csi(ANN));
    let place: Place = Arc::new(());
    let is_next = |hand: &Hand, c: &PendingChange| hand.answering.published.is_next(&c.csi_key, c.row.version);
    let mut overtaken = hand.judged(&bob);
    overtaken.rests_on.push(RestsOn::Lasts(Lasting::Consent, UnixMillis::new(1)));
    let bobs = pool.add([1; 32], overtaken, &place, |c| is_next(&hand, c)).unwrap();
    let anns = pool.add([2; 32], hand.judged(&ann), &place, |c| is_next(&hand, c)).unwrap();
    let Taken { intake, done } = pool.take();
    let made = hand.made(intake);
    let left_out: Vec<_> = made.sound.batch().left_out.iter().map(|l| l.csi_key).collect();
    assert!(hand.commit_made(made, None));
    pool.published(&left_out, done);
    assert_eq!((*bobs.borrow(), *anns.borrow()), (Outcome::Overtaken, Outcome::Published));
    // Nothing of it is on its way any more, and the next change of bob is still version 0.
    assert!(pool.ticket(&[1; 32]).is_none() && !pool.is_in_flight(&hand.answering.sealer.csi_key(&bob)));
    let again = hand.judged(&bob);
    assert_eq!(again.row.version, 0);
    let again = pool.add([1; 32], again, &place, |c| is_next(&hand, c)).unwrap();
    let Taken { intake, mut done } = pool.take();
    drop(intake);
    pool.dropped(&mut done);
    assert_eq!(*again.borrow(), Outcome::Dropped);
    pool.add([1; 32], hand.judged(&bob), &place, |c| is_next(&hand, c)).unwrap();
}

/// A client that goes away drops its ticket and nothing else.
#[test]
fn a_change_keeps_its_place_until_it_has_left_the_pool_whatever_its_client_does() {
    let (hand, pool) = (hand(), Pool::default());
    let (ann, bob, place): (_, _, Place) = (csi(ANN), csi(BOB), Arc::new(()));
    let is_held = || Arc::strong_count(&place) > 1;
    let add = |request: u8, who: &waymark_mapping::identifier::Csi| {
        drop(pool.add([request; 32], hand.judged(who), &place, |_| true).unwrap())
    };
    let take = || {
        let Taken { intake, done } = pool.take();
        assert!(is_held() && !intake.changes.is_empty());
        done
    };
    add(1, &ann);
    add(1, &ann);
    assert_eq!(Arc::strong_count(&place), 2, "the same request is there once");
    pool.published(&[], take());
    assert!(!is_held(), "published");
    add(2, &ann);
    pool.published(&[hand.answering.sealer.csi_key(&ann)], take());
    assert!(!is_held(), "left out");
    add(3, &ann);
    pool.dropped(&mut take());
    assert!(!is_held(), "dropped");
    add(4, &ann);
    let done = take();
    add(5, &bob);
    pool.close(done);
    assert!(!is_held(), "the sequencer has stopped, one in its hand and one waiting");
}

/// A computation of batches that goes wrong where there are changes: a head that lies about the map.
fn lying(
    state: &LogState,
    intake: Intake,
    now: UnixMillis,
    rng: &mut dyn rand_core::CryptoRng,
) -> Result<Batch, BatchError> {
    let spoils = !intake.changes.is_empty();
    let mut made = batch(state, intake, now, rng)?;
    if spoils {
        made.head.map_root = Hash::ZERO;
        *made.entries.last_mut().unwrap() = Entry::Head(made.head.clone()).encode();
        made.edge = state.edge.clone();
        for entry in &made.entries {
            made.edge.append(entry, |_, _| {}).unwrap();
        }
        made.checkpoint.root = made.edge.root();
    }
    Ok(made)
}

/// One that logs what is over, as a batch did that judged nothing again.
fn careless(
    state: &LogState,
    mut intake: Intake,
    now: UnixMillis,
    rng: &mut dyn rand_core::CryptoRng,
) -> Result<Batch, BatchError> {
    intake.changes.iter_mut().for_each(|change| change.rests_on.clear());
    batch(state, intake, now, rng)
}

#[test]
fn a_batch_with_which_monitors_would_find_fault_is_never_signed_and_the_log_goes_on() {
    let mut hand = hand();
    hand.writer.make = lying;
    for _ in 0..3 {
        let before = (hand.writer.state.size(), hand.rows.staged().unwrap().unwrap().size);
        let made = hand.made(Intake { changes: vec![hand.judged(&csi(BOB))], ..Intake::default() });
        let Some(Faulty::Unsound(why)) = &made.dropped else { panic!("{:?}", made.dropped) };
        assert!(matches!(&why.findings[..], [Finding::Head { what: "the map root", .. }]), "{why}");
        // What is signed is a head alone; nothing of the fault was written anywhere.
        assert_eq!((made.sound.batch().entries.len(), made.sound.batch().rows.len()), (1, 0));
        assert_eq!((hand.writer.state.size(), hand.rows.staged().unwrap().unwrap().size), before);
        assert!(hand.commit_made(made, None));
        hand.holds(&csi(BOB), None);
    }
    hand.writer.make = batch;
    assert!(hand.commit(vec![hand.judged(&csi(BOB))], None));
    hand.holds(&csi(BOB), Some(0));
    assert_eq!(findings(&hand), []);
    hand.again().unwrap_or_else(|(why, _)| panic!("{why}"));
}

#[test]
fn entries_beside_changes_that_are_dropped_are_logged() {
    let mut hand = hand();
    hand.writer.make = lying;
    let providers = hand.writer.state.audited.shared_providers();
    let rotation = rotation(&providers, LOUD, ProviderRole::MSP, true, &key(LOUD), &key("new"));
    let changes = vec![hand.judged(&csi(BOB))];
    let made = hand.made(Intake { providers: vec![rotation], changes, ..Intake::default() });
    assert!(made.dropped.is_some());
    assert!(hand.commit_made(made, None));
    let providers = hand.writer.state.audited.providers();
    assert!(providers.is_valid(&domain(LOUD), ProviderRole::MSP, &key("new").public(), hand.now()));
}

/// The next batch, signed and written without being judged: what an older program did.
fn forge(dir: &std::path::Path, change: PendingChange, now: UnixMillis) {
    let settings = Settings::load(dir).unwrap();
    let rows = open_rows(dir, settings.store, false).unwrap();
    let (head, files) = (Head::at(&dir.join(names::HEAD)), LogFiles::at(&dir.join(names::LOG)).unwrap());
    let sealer = Sealer::new(&settings.store_key, Arc::new(RowKeys::open(&dir.join(names::ROW_KEYS)).unwrap()));
    let vkey = settings.signer.vkey();
    let Recovered { state, head_note, .. } =
        recover(&*rows, sealer.keys(), &head, &files, &settings.origin, vkey, &Accepted::NONE).unwrap();
    let change = PendingChange { csi_key: sealer.csi_key(&csi(BOB)), ..change };
    let made =
        careless(&state, Intake { changes: vec![change], ..Intake::default() }, now, &mut random::source()).unwrap();
    let (sealed, purges) = seal_rows(&sealer, &made.rows, made.checkpoint.size).unwrap();
    let (size, root) = (made.checkpoint.size, *made.checkpoint.root.as_bytes());
    rows.stage(&Staged { size, root, files: made.files.clone() }, &sealed, &purges).unwrap();
    let signed = SignedCheckpoint::sign(made.checkpoint, &settings.signer);
    head.swap(Some(&head_note), &signed.to_note(&[])).unwrap();
    files.write(&made.files).unwrap();
}

fn waymark_dp(arguments: &[&str], dir: &std::path::Path) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waymark-dp"));
    let ended = command.args(arguments).arg("--dir").arg(dir).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

/// What a monitor that reads the whole log for the first time says.
async fn monitor_says(
    root: &std::path::Path,
    name: &str,
    trust: &Trust,
    url: &str,
    witnesses: &Witnesses,
) -> Vec<String> {
    let copies = (1..).zip(&witnesses.running).map(|(i, w)| (format!("w{i}"), w.url())).collect();
    let followed = monitor::FollowedLog { trust: trust.clone(), url: url.to_owned(), witnesses: copies };
    let settings = monitor::Settings {
        data_dir: root.join(name),
        listen: common::loopback(),
        operations: None,
        tls: None,
        roots: waymark_runtime::fetch::ExtraRoots::default(),
        logs: vec![followed],
        poll_ms: 1000,
        proxies: waymark_runtime::proxies::Proxies::default(),
        renew_within_ms: 1000,
        log_memory_bytes: 1 << 30,
    };
    monitor::once(settings, Clock::System).await.unwrap().findings
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_bears_a_finding_goes_on_once_its_operator_accepts_it() {
    let Stage { root, witnesses, dp, trust, fetcher, .. } = Stage::new().await;
    let dir = root.path().join("dp");
    dp.stop().await.unwrap();
    let now = Clock::System.now();
    forge(&dir, resting_on_a_consent_until(now.month_after(0)), now);

    // It refuses by default, and names the finding.
    let refused = dp::start(Settings::load(&dir).unwrap(), Clock::System).await.err().unwrap().to_string();
    assert!(refused.contains("rule consent") && refused.contains("accept-findings"), "{refused}");
    let (code, told, said) = waymark_dp(&["accept-findings"], &dir);
    assert_eq!(code, Some(5), "{told}{said}");
    assert!(told.contains("rule consent, leaf ") && !dir.join(names::ACCEPTED).exists(), "{told}");
    let (code, ..) = waymark_dp(&["fsck"], &dir);
    assert_eq!(code, Some(1));
    let (code, ..) = waymark_dp(&["accept-findings", "--yes"], &dir);
    assert_eq!(code, Some(0));

    let running = dp::start(Settings::load(&dir).unwrap(), Clock::System).await.unwrap();
    until("a checkpoint", async || running.published_size() > 0).await;
    let before = running.published_size();
    // It publishes, and its people can go on.
    let (ann, who, dp) = (key("ann"), csi(ANN), client(&fetcher, &running.url()));
    let attestation = common::attest(&dp, &dir, &ann, &who).await;
    let added = [with_consent(&origin(), common::mapping(&origin(), &ann, &attestation, QUIET, shown("a")))];
    let signers = [(&ann, Some(attestation))];
    let (kind, over) = (EventKind::Issue, common::look_up(&dp, &trust, &who, None).await.version);
    let wish = Wish { csi: &who, kind, over, added: &added, removed: &[], signers: &signers };
    recipient::change(&dp, wish, &trust, &mut LogMemory::default()).await.unwrap();
    assert!(running.published_size() > before);
    // A monitor says that one thing and no more; one that was there before says it too.
    let said = monitor_says(root.path(), "monitor", &trust, &running.log_url(), &witnesses).await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("consent"), "{said:?}");
    running.stop().await.unwrap();
    // And so does each later start.
    let (code, told, _) = waymark_dp(&["fsck"], &dir);
    assert_eq!(code, Some(0), "{told}");
    let again = dp::start(Settings::load(&dir).unwrap(), Clock::System).await.unwrap();
    again.stop().await.unwrap();
    // A copy takes along what was accepted.
    let (copy, restored) = (root.path().join("copy"), root.path().join("restored"));
    let wanted = Wanted { region: None, with_keys: true };
    backup::back_up(&Settings::load(&dir).unwrap(), &copy, &wanted, Clock::System.now()).unwrap();
    backup::restore(&copy, &restored, None).unwrap();
    assert!(restored.join(names::ACCEPTED).exists());
    witnesses.stop().await;
}

/// A change of bob's with a consent that ends at this time. It was composed with another DP's keys, which shows to nobody.
fn resting_on_a_consent_until(end: UnixMillis) -> PendingChange {
    let mut change = hand().judged_with(&csi(BOB), LOUD, |m| with_consent(&origin(), m));
    let mut visible = change.row.visible.to_vec();
    let kept = visible[0].said.consent.0.as_mut().unwrap();
    kept.consent.expiry = end;
    kept.consent.sign(&origin(), &key(LOUD));
    change.row.visible = List24::new(visible).unwrap();
    change
}

#[test]
fn what_rewrites_a_log_is_never_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let entries = vec![b"an entry".to_vec()];
    let found = |finding| waymark::sequencer::accepted::Found::new(finding, &entries);
    for finding in [
        Finding::DuplicateLabel { index: 0 },
        Finding::Head { index: 0, what: "the map root" },
        Finding::Open { index: 0 },
        Finding::RootMismatch { size: 1 },
        Finding::Config { index: 0 },
        Finding::NoHead { size: 1 },
        Finding::Consent { index: 7 },
    ] {
        let found = found(finding);
        assert!(!found.can_be_accepted(), "{found}");
        assert!(Accepted::store(dir.path(), &origin(), std::slice::from_ref(&found)).is_err());
    }
    let consent = found(Finding::Consent { index: 0 });
    Accepted::store(dir.path(), &origin(), std::slice::from_ref(&consent)).unwrap();
    let accepted = Accepted::load(dir.path(), &origin()).unwrap();
    assert!(accepted.contains(&consent));
    // Of another rule, another entry, another leaf, or in another log, it is another finding.
    let another = waymark::sequencer::accepted::Found::new(Finding::Consent { index: 0 }, &[b"another".to_vec()]);
    assert!(!accepted.contains(&another));
    assert!(!accepted.contains(&found(Finding::Batch { index: 0, what: "x" })));
    let other = waymark_log::checkpoint::Origin::new("other.example/log").unwrap();
    assert!(Accepted::load(dir.path(), &other).is_err());
    let path = dir.path().join(names::ACCEPTED);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("rule = \"consent\"", "rule = \"duplicate-label\"")).unwrap();
    assert!(!Accepted::load(dir.path(), &origin()).unwrap().contains(&found(Finding::DuplicateLabel { index: 0 })));
}

/// Figures for docs/DESIGN.md: `cargo test --release --test sound -- --ignored --nocapture what_judging_costs`.
#[test]
#[ignore = "figures, not a judgement"]
fn what_judging_costs() {
    let mut hand = hand();
    // A map of some size: fillers only, logged and judged like anything else.
    let filler = hand.judged(&csi(ANN));
    for i in 0..100u32 {
        let changes = (0..1000u32).map(|j| {
            let label = waymark_mapping::label::Label(Hash::sha256(&[&i.to_be_bytes(), &j.to_be_bytes()]));
            PendingChange { label, csi_key: *label.0.as_bytes(), ..filler.clone() }
        });
        let made = hand.made(Intake { changes: changes.collect(), ..Intake::default() });
        assert!(hand.commit_made(made, None));
    }
    println!("a map of {} labels", hand.writer.state.audited.changes());
    for (msp, name) in [(QUIET, "no consents"), (LOUD, "a consent for each")] {
        for count in [1, 100, 1000] {
            let changes = (0..count).map(|i| {
                let who = csi(&format!("tel:+49151{count:04}{i:06}"));
                hand.judged_with(&who, msp, |m| with_consent(&origin(), m))
            });
            let changes: Vec<_> = changes.collect();
            let begun = Instant::now();
            let intake = Intake { changes, ..Intake::default() };
            let made = batch(&hand.writer.state, intake, hand.now(), &mut random::source()).unwrap();
            let batched = begun.elapsed();
            let sound = Sound::judge(&hand.writer.state, made).unwrap();
            let judged = begun.elapsed() - batched;
            assert!(hand.commit_made(Made { sound, dropped: None }, None));
            let all = begun.elapsed();
            println!(
                "{count:>5} changes, {name:<20} batch {batched:>10.1?} judge {judged:>10.1?} of {all:>10.1?} in all: {:.0} %",
                100.0 * judged.as_secs_f64() / all.as_secs_f64()
            );
        }
    }
}
