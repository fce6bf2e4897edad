//! The life of a record over HTTP, by a clock that a test moves: a number that changes hands, keys that are lost or rotated,
//! what MSPs, the DP and an operator say, erasure, export, history.

mod common;
#[path = "common/registers.rs"]
mod registers;

use std::sync::Arc;

use common::{LOUD, QUIET, Stage, csi, domain, key, shown, until, with_consent};
use waymark::{
    authorise::TrustedCsip,
    client::{
        ClientError,
        memory::LogMemory,
        recipient::{
            Added, MappingSpec, RecipientError, Wish, change, history, past, past_of_latest, prove, revocation,
            sign_mapping,
        },
        statement::{Statement, state},
    },
    config::{Settings, names},
    fsck::fsck,
    init::{open_rows, provider_entry},
    onboarding,
    recycling::{FeedFile, Registers},
    sequencer::accepted::Accepted,
    store::{Head, LogFiles, RowKeys, SealedRow, StoreError, seal::Sealer},
};
use waymark_log::{hash::Hash, key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    answer::Answer,
    entry::{Entry, ProviderRole},
    event::{AuthorityRole, EventKind},
    facts::{Contest, Service},
    identifier::Csi,
    mapping::{Attestation, Mapping, Purpose, Tags},
    names::{Account, Tag},
    receipt::Current,
    record::{Beginning, Ground, HOLD_MS, SHORT_HOLD_MS},
    tenure::{PASSAGE_MS, Passage},
    verify::{Outcome, Trail, verify},
    wire::encode,
};
use waymark_runtime::clock::Clock;

const BOB: &str = "tel:+4915112345642";
const HOUR_MS: u64 = 3_600_000;

async fn stage() -> Stage {
    Stage::with(1, &Clock::shifted(), |_| {}).await
}

/// Proves possession over HTTP for a tenure.
async fn attest(stage: &Stage, secret: &SecretKey, tenure: u32) -> Attestation {
    let codes = stage.root.path().join("dp").join(names::CODES);
    let read = |id: String| async move { std::fs::read_to_string(codes.join(id)).ok() };
    prove(&stage.client(), secret, &csi(BOB), tenure, Purpose::Control, read).await.unwrap()
}

fn say(stage: &Stage, secret: &SecretKey, proof: &Attestation, msp: &str, account: &str, tags: Tags) -> Added {
    let spec = MappingSpec { msp: Some(domain(msp)), account: Account::parse(account).unwrap(), tags };
    with_consent(&stage.origin, sign_mapping(&stage.origin, secret, &spec, proof, proof.time))
}

async fn make(
    stage: &Stage,
    kind: EventKind,
    added: &[Added],
    removed: &[Hash],
    signers: &[(&SecretKey, Option<Attestation>)],
) -> Result<Current, RecipientError> {
    let over = stage.look_up(&csi(BOB), None).await.version;
    let wish = Wish { kind, csi: &csi(BOB), over, added, removed, signers };
    change(&stage.client(), wish, &stage.trust, &mut LogMemory::default()).await
}

fn code<T: std::fmt::Debug>(result: Result<T, RecipientError>) -> String {
    match result.unwrap_err() {
        RecipientError::Client(e @ ClientError::Refused { .. }) => e.code().unwrap().to_owned(),
        other => panic!("{other}"),
    }
}

/// Bob, in public and hidden.
async fn bob(stage: &Stage) -> (SecretKey, Vec<Mapping>, Current) {
    let secret = key("bob");
    let proof = attest(stage, &secret, 0).await;
    let hidden = Tags::Exact(Tag::parse("soccer").unwrap());
    let added = [
        say(stage, &secret, &proof, LOUD, "mimi://loud.example/u/bob-in-public", shown("default")),
        say(stage, &secret, &proof, QUIET, "mimi://quiet.example/u/bob-hidden", hidden),
    ];
    let current = make(stage, EventKind::Issue, &added, &[], &[(&secret, None)]).await.unwrap();
    (secret, added.into_iter().map(|a| a.mapping).collect(), current)
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|w| w == what)
}

/// "Somebody with an intercepted SMS cannot evict anybody before the hold ends and the recipient's watch-list fired; a legitimate
/// newcomer at equal strength succeeds without support."
#[tokio::test(flavor = "multi_thread")]
async fn a_number_changes_hands() {
    let stage = stage().await;
    let (bob, bobs, current) = bob(&stage).await;
    let carol = key("carol");
    stage.pass(4 * 24 * HOUR_MS).await;

    // Carol adds a mapping at once, marked new, and claims the number.
    let proof = attest(&stage, &carol, 0).await;
    let hers = say(&stage, &carol, &proof, QUIET, "mimi://quiet.example/u/carol", shown("personal"));
    make(&stage, EventKind::Issue, &[hers], &[], &[(&carol, None)]).await.unwrap();
    assert_eq!(stage.look_up(&csi(BOB), None).await.mappings.iter().filter(|m| m.change.is_new).count(), 1);
    let (none, some) = (None, Some(attest(&stage, &carol, 1).await));
    let eviction = make(&stage, EventKind::Withdraw, &[], &[bobs[0].digest()], &[(&carol, Some(proof))]).await;
    assert_eq!(code(eviction), "not-allowed");
    assert_eq!(code(make(&stage, EventKind::NewHolderPending, &[], &[], &[(&carol, none)]).await), "not-allowed");
    make(&stage, EventKind::NewHolderPending, &[], &[], &[(&carol, some.clone())]).await.unwrap();
    assert_eq!(code(make(&stage, EventKind::NewHolderPending, &[], &[], &[(&carol, some)]).await), "claimed");
    let seen = stage.look_up(&csi(BOB), None).await;
    assert!(matches!(seen.contested, Some(Contest::Claim { .. })) && seen.mappings.len() == 2);

    // Bob's watch-list fires on both: labels that his receipt told him to watch are in the log.
    let labels: Vec<_> = stage
        .entries()
        .await
        .iter()
        .filter_map(|e| if let Entry::Change(c) = e { Some(c.label) } else { None })
        .collect();
    assert!(current.watched.iter().any(|l| labels.contains(l)));

    // An hour before the hold is over, nothing; after it, without anybody's help.
    let take_over = async || {
        let proof = attest(&stage, &carol, 1).await;
        let hers = say(&stage, &carol, &proof, QUIET, "mimi://quiet.example/u/carol", shown("default"));
        make(&stage, EventKind::NewHolder, &[hers], &[], &[(&carol, None)]).await
    };
    stage.pass(HOLD_MS - HOUR_MS).await;
    assert_eq!(code(take_over().await), "hold-not-over");
    stage.pass(2 * HOUR_MS).await;
    let current = take_over().await.unwrap();
    assert_eq!((current.state.tenure, current.state.held.len(), current.complete), (1, 1, true));
    let seen = stage.look_up(&csi(BOB), None).await;
    let hands = seen.changed_hands.unwrap();
    assert_eq!((hands.how, hands.recent, seen.contested.is_none()), (Beginning::NewHolder, true, true));

    // Neither knows anything of the other.
    assert_eq!(
        code(history(&stage.client(), &bob, &csi(BOB), &stage.trust, &mut LogMemory::default()).await),
        "no-record"
    );
    let steps = past(&stage.client(), &carol, &current, None).await.unwrap();
    assert_eq!(steps.iter().map(|s| (s.version, s.before.is_some())).collect::<Vec<_>>(), [(3, false)]);
    let export = stage.client().export(&carol, &csi(BOB), None).await.unwrap();
    let answer = stage.client().look_up_full(&csi(BOB), None).await.unwrap();
    for what in ["bob-in-public", "bob-hidden", &bob.public().to_hex()] {
        assert!(!holds(&export, what.as_bytes()) && !holds(&answer, what.as_bytes()), "{what}");
    }
    assert!(!holds(&answer, bob.public().as_bytes()));

    // After 30 days the hold is no longer proved, and the former holder's rows are gone.
    stage.pass(PASSAGE_MS + 2 * HOUR_MS).await;
    assert!(!stage.look_up(&csi(BOB), None).await.changed_hands.unwrap().recent);
    let dir = stage.root.path().join("dp");
    let report = purged(stage, 3).await;
    assert_eq!((report.records, report.deleted, report.faults.len()), (1, 3, 0), "{:?} {dir:?}", report.faults);
}

/// All the while that a claim waits the holder goes on; whoever looks the number up later is shown the claim in each of these versions, as
/// long as the change of hands is proved. After that, nothing of them but where they were logged.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_proved_through_every_change_since_the_claim() {
    let stage = stage().await;
    let (bob, bobs, _) = bob(&stage).await;
    let carol = key("carol");
    stage.pass(HOUR_MS).await;
    let proof = attest(&stage, &carol, 1).await;
    make(&stage, EventKind::NewHolderPending, &[], &[], &[(&carol, Some(proof))]).await.unwrap();
    make(&stage, EventKind::Objection, &[], &[], &[(&bob, None)]).await.unwrap();
    make(&stage, EventKind::Withdraw, &[], &[bobs[1].digest()], &[(&bob, None)]).await.unwrap();
    let proof = attest(&stage, &bob, 0).await;
    let again = say(&stage, &bob, &proof, LOUD, "mimi://loud.example/u/bob-again", shown("personal"));
    make(&stage, EventKind::Issue, &[again], &[], &[(&bob, None)]).await.unwrap();
    stage.pass(2 * HOLD_MS + HOUR_MS).await;
    let proof = attest(&stage, &carol, 1).await;
    let hers = say(&stage, &carol, &proof, QUIET, "mimi://quiet.example/u/carol", shown("default"));
    let current = make(&stage, EventKind::NewHolder, &[hers], &[], &[(&carol, None)]).await.unwrap();
    let digest = current.state.held[0].mapping.digest();
    let shown_of = async || {
        let answer = Answer::from_padded(&stage.client().look_up_full(&csi(BOB), None).await.unwrap()).unwrap();
        let proof = answer.full.0.unwrap().tenure.0.unwrap();
        let steps: Vec<u32> = proof.steps.iter().map(|s| s.version).collect();
        let between = match proof.passage {
            Passage::Hold(hold) => hold.between.iter().map(|v| v.at.version).collect(),
            _ => vec![],
        };
        (stage.look_up(&csi(BOB), None).await.changed_hands.unwrap().recent, between, steps)
    };
    assert_eq!(shown_of().await, (true, vec![2, 3, 4], vec![0]));
    stage.pass(PASSAGE_MS - HOUR_MS).await;
    assert_eq!(shown_of().await, (true, vec![2, 3, 4], vec![0]));
    stage.pass(3 * HOUR_MS).await;
    assert_eq!(shown_of().await, (false, vec![], vec![0, 1, 3]));
    // The steps are shown of what is deleted, too, and of what came after.
    let slots = RowKeys::open(&stage.root.path().join("dp").join(names::ROW_KEYS)).unwrap();
    until("a row key to be shredded", async || (0..2).any(|s| matches!(slots.get(s), Ok(None)))).await;
    make(&stage, EventKind::Withdraw, &[], &[digest], &[(&carol, None)]).await.unwrap();
    assert_eq!(shown_of().await, (false, vec![], vec![0, 1, 3]));
}

/// Stops the DP once so many versions are deleted, and checks its data.
async fn purged(stage: Stage, deleted: u64) -> waymark::fsck::Report {
    let dir = stage.root.path().join("dp");
    let settings = Settings::load(&dir).unwrap();
    let keys = Arc::new(RowKeys::open(&dir.join(names::ROW_KEYS)).unwrap());
    let slots = async || (0..2).filter(|s| matches!(keys.get(*s), Ok(None))).count() > 0;
    if deleted > 0 {
        until("a row key to be shredded", slots).await;
    }
    let Stage { root, dp, witnesses, .. } = stage;
    dp.stop().await.unwrap();
    witnesses.stop().await;
    let rows = open_rows(&dir, settings.store, false).unwrap();
    let (head, files) = (Head::at(&dir.join(names::HEAD)), LogFiles::at(&dir.join(names::LOG)).unwrap());
    let sealer = Sealer::new(&settings.store_key, keys);
    let report =
        fsck(&*rows, &head, &files, &sealer, &settings.origin, settings.signer.vkey(), &Accepted::NONE).unwrap();
    drop(root);
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_holder_keeps_the_number() {
    let stage = stage().await;
    let (bob, ..) = bob(&stage).await;
    let carol = key("carol");
    let proof = attest(&stage, &carol, 0).await;
    let hers = say(&stage, &carol, &proof, QUIET, "mimi://quiet.example/u/carol", shown("personal"));
    make(&stage, EventKind::Issue, std::slice::from_ref(&hers), &[], &[(&carol, None)]).await.unwrap();
    let proof = attest(&stage, &carol, 1).await;
    make(&stage, EventKind::NewHolderPending, &[], &[], &[(&carol, Some(proof))]).await.unwrap();
    stage.pass(13 * 24 * HOUR_MS).await;
    // Once without possession: as long again. A second time it needs possession, and then the claim is over.
    make(&stage, EventKind::Objection, &[], &[], &[(&bob, None)]).await.unwrap();
    assert_eq!(code(make(&stage, EventKind::Objection, &[], &[], &[(&bob, None)]).await), "objected");
    stage.pass(HOLD_MS - HOUR_MS).await;
    let proof = attest(&stage, &carol, 1).await;
    let next = say(&stage, &carol, &proof, QUIET, "mimi://quiet.example/u/carol", shown("default"));
    let early = make(&stage, EventKind::NewHolder, &[next], &[], &[(&carol, None)]).await;
    assert_eq!(code(early), "hold-not-over");
    let fresh = attest(&stage, &bob, 0).await;
    let removed = [hers.mapping.digest()];
    let current = make(&stage, EventKind::Objection, &[], &removed, &[(&bob, Some(fresh))]).await.unwrap();
    assert!(current.complete && current.state.state.claim().is_none() && current.state.held.len() == 2);
    assert_eq!(
        code(history(&stage.client(), &carol, &csi(BOB), &stage.trust, &mut LogMemory::default()).await),
        "no-record"
    );
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_phone_a_new_key_and_a_renewal() {
    let stage = stage().await;
    let (bob, bobs, current) = bob(&stage).await;
    let token = revocation(&stage.origin, &bob, &csi(BOB), current.state.tenure, stage.clock.now());
    // Rotation: both keys, everything at once, and the new key is as old here as the other was.
    let (tablet, since) = (key("tablet"), current.state.held[0].standing);
    let proof = attest(&stage, &tablet, 0).await;
    let again =
        |m: &Mapping| say(&stage, &tablet, &proof, m.msp.get().unwrap().as_str(), m.account.expose(), m.tags.clone());
    let added: Vec<Added> = bobs.iter().map(again).collect();
    let removed: Vec<Hash> = bobs.iter().map(Mapping::digest).collect();
    let alone = make(&stage, EventKind::RotateKey, &added, &removed, &[(&tablet, None)]).await;
    assert_eq!(code(alone), "not-allowed");
    let current = make(&stage, EventKind::RotateKey, &added, &removed, &[(&tablet, None), (&bob, None)]).await.unwrap();
    assert!(current.complete && current.state.held.iter().all(|h| h.standing == since));
    // The old key's token finds nothing; nobody can tell that from a token that fits.
    stage.client().revoke(&token).await.unwrap();
    assert_eq!(stage.look_up(&csi(BOB), None).await.mappings.len(), 1);
    // A token of the new key ends what it says, with no key at hand; twice is once.
    let token = revocation(&stage.origin, &tablet, &csi(BOB), 0, stage.clock.now());
    for _ in 0..2 {
        stage.client().revoke(&token).await.unwrap();
        let seen = stage.look_up(&csi(BOB), Some("soccer")).await;
        assert_eq!((seen.outcome, seen.version), (Outcome::NoneListed, Some(2)));
    }
    // Mappings lapse after 180 days, unless possession is shown again. What lapsed needs nobody's leave to go.
    let phone = key("phone");
    let proof = attest(&stage, &phone, 1).await;
    let first = say(&stage, &phone, &proof, QUIET, "mimi://quiet.example/u/bob", shown("default"));
    make(&stage, EventKind::Issue, std::slice::from_ref(&first), &[], &[(&phone, None)]).await.unwrap();
    stage.pass(170 * 24 * HOUR_MS).await;
    let proof = attest(&stage, &phone, 1).await;
    let renewed = say(&stage, &phone, &proof, QUIET, "mimi://quiet.example/u/bob", shown("default"));
    let removed = [first.mapping.digest()];
    make(&stage, EventKind::Replace, std::slice::from_ref(&renewed), &removed, &[(&phone, None)]).await.unwrap();
    stage.pass(20 * 24 * HOUR_MS).await;
    assert_eq!(stage.look_up(&csi(BOB), None).await.outcome, Outcome::Listed);
    stage.pass(170 * 24 * HOUR_MS).await;
    assert_eq!(stage.look_up(&csi(BOB), None).await.outcome, Outcome::NoneListed);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_say_removes_nothing_but_the_operators_word() {
    let csips = vec![TrustedCsip { domain: domain("telco.example"), issues: vec!["tel:+4915".to_owned()] }];
    let stage = Stage::with(1, &Clock::shifted(), |settings| settings.csips = csips).await;
    let telco =
        provider_entry(&domain("telco.example"), ProviderRole::CSIP, false, 2, &stage.origin, &key("telco.example"));
    onboarding::submit(&stage.root.path().join("dp"), &telco).unwrap();
    until("the operator to be logged", async || stage.dp.knows_provider(&domain("telco.example"))).await;
    let (_, bobs, _) = bob(&stage).await;
    let own = Settings::load(&stage.root.path().join("dp")).unwrap().prover;
    let (quiet, loud, who) = (key(QUIET), key(LOUD), csi(BOB));
    let says = async |secret: &SecretKey, role, statement| {
        state(&stage.client(), secret, role, &who, statement, &stage.trust).await.map(|v| v.get().clone())
    };
    // Nobody but its MSP detaches a mapping; it stays, and is served again.
    let in_public = bobs[0].digest();
    assert_eq!(code(says(&quiet, AuthorityRole::Msp, Statement::Serves(in_public, 1)).await), "authority-unknown");
    assert_eq!(code(says(&own, AuthorityRole::Msp, Statement::Serves(in_public, 1)).await), "authority-unknown");
    let seen = says(&loud, AuthorityRole::Msp, Statement::Serves(in_public, 1)).await.unwrap();
    assert_eq!((seen.outcome, seen.mappings[0].service), (Outcome::Listed, Service::Detached { reason: 1 }));
    let seen = says(&loud, AuthorityRole::Msp, Statement::Serves(in_public, 0)).await.unwrap();
    assert!(matches!(seen.mappings[0].service, Service::Confirmed { in_log: true, .. }));
    // The DP withholds it with its name and a reason under it; its recipient sees it all the same.
    assert_eq!(code(says(&loud, AuthorityRole::Dp, Statement::Serves(in_public, 2)).await), "authority-unknown");
    let seen = says(&own, AuthorityRole::Dp, Statement::Serves(in_public, 2)).await.unwrap();
    assert_eq!((seen.outcome, seen.withheld.len(), seen.withheld[0].reason), (Outcome::NoneListed, 1, 2));
    let answer = stage.client().look_up(&who, None).await.unwrap();
    assert!(!holds(&answer, b"bob-in-public") && !holds(&answer, LOUD.as_bytes()));
    let current =
        history(&stage.client(), &key("bob"), &who, &stage.trust, &mut LogMemory::default()).await.unwrap().unwrap();
    assert_eq!(current.state.held.len(), 2);
    says(&own, AuthorityRole::Dp, Statement::Serves(in_public, 0)).await.unwrap();
    // The operator takes the number back; a stranger's release, or one of a number that it does not issue, is nothing.
    assert_eq!(code(says(&loud, AuthorityRole::Csip, Statement::Release).await), "not-allowed");
    let seen = says(&key("telco.example"), AuthorityRole::Csip, Statement::Release).await.unwrap();
    assert_eq!((seen.outcome, seen.contested), (Outcome::NoneListed, Some(Contest::ForeignRelease)));
    assert_eq!(seen.tenure, Some(1));
    stage.stop().await;
}

/// "A key sees the content of hidden mappings added after its own first mapping; of older ones by other keys only standing and digest."
#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_was_intercepted_opens_nothing_that_was_hidden_before() {
    let stage = stage().await;
    let (bob, bobs, _) = bob(&stage).await;
    let mallory = key("mallory");
    let proof = attest(&stage, &mallory, 0).await;
    let foothold = say(&stage, &mallory, &proof, QUIET, "mimi://quiet.example/u/mallory", shown("personal"));
    make(&stage, EventKind::Issue, &[foothold], &[], &[(&mallory, None)]).await.unwrap();
    // She waits until nothing of hers is new, and nobody reacts. Then Bob hides something else.
    stage.pass(73 * HOUR_MS).await;
    let proof = attest(&stage, &bob, 0).await;
    let choir = Tags::Exact(Tag::parse("choir").unwrap());
    let later = say(&stage, &bob, &proof, QUIET, "mimi://quiet.example/u/bob-later", choir);
    make(&stage, EventKind::Issue, &[later], &[], &[(&bob, None)]).await.unwrap();
    // Whatever she asks for: the record, its past, everything that is kept, the receipt of a change.
    let more = attest(&stage, &mallory, 0).await;
    let more = say(&stage, &mallory, &more, QUIET, "mimi://quiet.example/u/mallory-2", shown("business"));
    let current = make(&stage, EventKind::Issue, &[more], &[], &[(&mallory, None)]).await.unwrap();
    assert!(current.complete);
    let closed: Vec<Hash> = current.state.closed.iter().map(|slot| slot.mapping).collect();
    assert_eq!(closed, [bobs[1].digest()], "she learns how it stands, and its digest");
    let record = stage.client().history(&mallory, &csi(BOB)).await.unwrap().encode();
    let past = encode(&stage.client().past(&mallory, &csi(BOB), current.state.version).await.unwrap());
    let export = stage.client().export(&mallory, &csi(BOB), None).await.unwrap();
    for told in [&record, &past, &export] {
        for what in ["soccer", "bob-hidden"] {
            assert!(!holds(told, what.as_bytes()), "{what}");
        }
        assert!(holds(told, b"choir"), "what was hidden after she came");
    }
    // Bob sees all of it.
    let record = stage.client().history(&bob, &csi(BOB)).await.unwrap().encode();
    assert!(holds(&record, b"soccer") && holds(&record, b"choir"));
    stage.stop().await;
}

/// "Openings and payload gone from data folder while roots and old proofs still verify."
#[tokio::test(flavor = "multi_thread")]
async fn erased_is_gone() {
    let stage = stage().await;
    let (bob, bobs, _) = bob(&stage).await;
    let export = stage.client().export(&bob, &csi(BOB), None).await.unwrap();
    assert!(["bob-in-public", "bob-hidden", "soccer", BOB].iter().all(|what| holds(&export, what.as_bytes())));
    assert_eq!(
        code(stage.client().export(&key("carol"), &csi(BOB), None).await.map_err(RecipientError::from)),
        "no-record"
    );
    // Possession alone opens what everybody sees; a proof for something else, of somebody else, or by nobody opens nothing.
    let carol = key("carol");
    let codes = stage.root.path().join("dp").join(names::CODES);
    let read = |id: String| async move { std::fs::read_to_string(codes.join(id)).ok() };
    let view = prove(&stage.client(), &carol, &csi(BOB), 0, Purpose::View, read).await.unwrap();
    let seen = stage.client().export(&carol, &csi(BOB), Some(&view)).await.unwrap();
    assert!(holds(&seen, b"bob-in-public") && !holds(&seen, b"bob-hidden") && !holds(&seen, b"soccer"));
    let control = attest(&stage, &carol, 0).await;
    let forged = Attestation { time: UnixMillis::new(view.time.get() + 1), ..view.clone() };
    for (who, proof) in [(&carol, &control), (&key("dave"), &view), (&carol, &forged)] {
        let refused = stage.client().export(who, &csi(BOB), Some(proof)).await.map_err(RecipientError::from);
        assert_eq!(code(refused), "no-record");
    }
    let mapping = make(
        &stage,
        EventKind::Issue,
        &[say(&stage, &carol, &view, QUIET, "mimi://x.example/u/c", shown("c"))],
        &[],
        &[(&carol, None)],
    )
    .await;
    assert_eq!(code(mapping), "mapping-invalid");
    let old = stage.client().look_up(&csi(BOB), None).await.unwrap();
    let asked = common::asked(&csi(BOB), None);
    let judge = |bytes: &[u8]| verify(bytes, &asked, &stage.trust, None, stage.clock.now(), &mut Trail::default());
    judge(&old).unwrap();

    // What lies on the disk before: a copy of the row, sealed, as any backup of the file would have it.
    let dir = stage.root.path().join("dp");
    let settings = Settings::load(&dir).unwrap();
    let copy = dir.join("copy.redb");
    std::fs::copy(dir.join("records.redb"), &copy).ok();
    let keys = Arc::new(RowKeys::open(&dir.join(names::ROW_KEYS)).unwrap());
    let sealer = Sealer::new(&settings.store_key, Arc::clone(&keys));
    let row_key = keys.get(0).unwrap().unwrap();

    let removed: Vec<Hash> = bobs.iter().map(Mapping::digest).collect();
    let current = make(&stage, EventKind::Erase, &[], &removed, &[(&bob, None)]).await.unwrap();
    assert_eq!((current.state.held.len(), stage.look_up(&csi(BOB), None).await.outcome), (0, Outcome::Erased));
    // The old answer still verifies: roots and leaves have not changed.
    judge(&old).unwrap();
    until("the row key to be shredded", async || keys.get(0).unwrap().is_none()).await;
    let everything = everything_in(&dir, &copy);
    assert!(!holds(&everything, &*row_key), "the key of the old rows is on the disk still");
    for what in ["bob-in-public", "bob-hidden", "soccer"] {
        assert!(!holds(&everything, what.as_bytes()), "{what}");
    }
    let csi_key = sealer.csi_key(&csi(BOB));
    let report = purged(stage, 1).await;
    assert_eq!((report.records, report.deleted, report.faults.len()), (1, 1, 0), "{:?}", report.faults);
    // A row that somebody has kept, with all keys of today, does not open any more.
    let kept = SealedRow { csi_key, version: 0, size: 0, slot: 0, sealed: vec![0; 64] };
    assert!(matches!(sealer.open(&kept), Err(StoreError::Shredded)));
}

/// All bytes of all files of a folder, but one.
fn everything_in(dir: &std::path::Path, but: &std::path::Path) -> Vec<u8> {
    let mut bytes = vec![];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(everything_in(&path, but));
        } else if path != but {
            bytes.extend(std::fs::read(&path).unwrap_or_default());
        }
    }
    bytes
}

/// "One winner a version, the others retry on a 409 that tells nothing about anybody else; every key told of every change."
#[tokio::test(flavor = "multi_thread")]
async fn eight_apps_at_once() {
    let stage = Arc::new(stage().await);
    let mut apps = tokio::task::JoinSet::new();
    for i in 0..8 {
        let stage = Arc::clone(&stage);
        apps.spawn(async move {
            let secret = key(&format!("app {i}"));
            let proof = attest(&stage, &secret, 0).await;
            let tag = format!("t{i}");
            let added = [say(&stage, &secret, &proof, QUIET, &format!("mimi://quiet.example/u/app-{i}"), shown(&tag))];
            let mut refused = vec![];
            for _ in 0..400 {
                match make(&stage, EventKind::Issue, &added, &[], &[(&secret, None)]).await {
                    Ok(current) => return (current, refused),
                    Err(RecipientError::Client(e))
                        if matches!(e.code(), Some("version-stale" | "change-in-flight")) =>
                    {
                        refused.push(e.to_string());
                    }
                    // Another app was quicker between the two look-ups.
                    Err(RecipientError::Overtaken { .. }) => {}
                    Err(e) => panic!("{e}"),
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            panic!("400 tries");
        });
    }
    let (mut versions, mut texts, mut watched) = (vec![], std::collections::BTreeSet::new(), vec![]);
    while let Some(done) = apps.join_next().await {
        let (current, refused) = done.unwrap();
        versions.push(current.state.version);
        watched.push((current.state.version, current.watched));
        texts.extend(refused);
    }
    versions.sort_unstable();
    assert_eq!(versions, (0..8).collect::<Vec<_>>());
    // A refusal is one of two texts, whoever gets it and whatever stands.
    assert!(texts.len() <= 3, "{texts:?}");
    let labels: Vec<_> = stage
        .entries()
        .await
        .iter()
        .filter_map(|e| if let Entry::Change(c) = e { Some(c.label) } else { None })
        .collect();
    for (version, watched) in watched.iter().filter(|(v, _)| *v < 7) {
        assert!(watched.iter().any(|l| labels.contains(l)), "the app of version {version} is told");
    }
    assert_eq!(stage.look_up(&csi(BOB), None).await.mappings.len(), 8);
    Arc::try_unwrap(stage).ok().unwrap().stop().await;
}

/// A change is made only over a version that the person was shown, since a signature over a version accepts what is in it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_over_a_version_that_was_not_shown() {
    let stage = stage().await;
    let (bob, ..) = bob(&stage).await;
    let shown_to_bob = stage.look_up(&csi(BOB), None).await.version;
    let ann = key("ann");
    let proof = attest(&stage, &ann, 0).await;
    let added = say(&stage, &ann, &proof, QUIET, "mimi://quiet.example/u/ann", shown("ann"));
    let theirs = make(&stage, EventKind::Issue, &[added], &[], &[(&ann, None)]).await.unwrap();
    let current = theirs.state.version;
    let who = csi(BOB);
    for shown in [None, shown_to_bob] {
        let wish = Wish {
            kind: EventKind::Withdraw,
            csi: &who,
            over: shown,
            added: &[],
            removed: &theirs.state.digests(),
            signers: &[(&bob, None)],
        };
        let refused = change(&stage.client(), wish, &stage.trust, &mut LogMemory::default()).await.unwrap_err();
        let is_told =
            matches!(&refused, RecipientError::Overtaken { shown: s, current: c } if (*s, *c) == (shown, current));
        assert!(is_told, "{refused}");
    }
    assert_eq!(stage.look_up(&who, None).await.version, Some(current));
    stage.stop().await;
}

/// A key that took over what another said, and renews it, is shown the same in the record now and in the one before: what came while the
/// other key was there is open in both.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_rotated_key_renews_is_a_change_that_it_can_judge() {
    let stage = stage().await;
    let (bob, tablet, phone, who) = (key("bob"), key("tablet"), key("phone"), csi(BOB));
    let account = "mimi://quiet.example/u/bob";
    let proof = attest(&stage, &bob, 0).await;
    let first = say(&stage, &bob, &proof, QUIET, account, shown("a"));
    make(&stage, EventKind::Issue, std::slice::from_ref(&first), &[], &[(&bob, None)]).await.unwrap();
    let proof = attest(&stage, &tablet, 0).await;
    let hidden = say(
        &stage,
        &tablet,
        &proof,
        QUIET,
        "mimi://quiet.example/u/tablet",
        Tags::Exact(Tag::parse("soccer-7f3a").unwrap()),
    );
    make(&stage, EventKind::Issue, &[hidden], &[], &[(&tablet, None)]).await.unwrap();
    stage.pass(73 * HOUR_MS).await;
    let proof = attest(&stage, &phone, 0).await;
    let rotated = say(&stage, &phone, &proof, QUIET, account, shown("a"));
    let gone = [first.mapping.digest()];
    let signers = [(&phone, None), (&bob, None)];
    make(&stage, EventKind::RotateKey, std::slice::from_ref(&rotated), &gone, &signers).await.unwrap();
    let proof = attest(&stage, &phone, 0).await;
    let renewed = say(&stage, &phone, &proof, QUIET, account, shown("a"));
    let gone = [rotated.mapping.digest()];
    let current = make(&stage, EventKind::Replace, &[renewed], &gone, &[(&phone, None)]).await.unwrap();
    assert!(current.complete);
    let current =
        history(&stage.client(), &phone, &who, &stage.trust, &mut LogMemory::default()).await.unwrap().unwrap();
    past(&stage.client(), &phone, &current, None).await.unwrap();
    stage.stop().await;
}

/// What a key is shown of the past goes by the latest record. One that was changed between two questions is read anew; it is no dispute.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_whose_record_is_changed_meanwhile_is_read_anew() {
    let stage = stage().await;
    let (bob, tablet, phone, who) = (key("bob"), key("tablet"), key("phone"), csi(BOB));
    let account = "mimi://quiet.example/u/bob";
    let proof = attest(&stage, &bob, 0).await;
    let first = say(&stage, &bob, &proof, QUIET, account, shown("a"));
    make(&stage, EventKind::Issue, std::slice::from_ref(&first), &[], &[(&bob, None)]).await.unwrap();
    let proof = attest(&stage, &tablet, 0).await;
    let tag = Tags::Exact(Tag::parse("soccer-7f3a").unwrap());
    let hidden = say(&stage, &tablet, &proof, QUIET, "mimi://quiet.example/u/tablet", tag);
    make(&stage, EventKind::Issue, &[hidden], &[], &[(&tablet, None)]).await.unwrap();
    stage.pass(73 * HOUR_MS).await;
    let proof = attest(&stage, &phone, 0).await;
    let rotated = say(&stage, &phone, &proof, QUIET, account, shown("a"));
    let (gone, signers) = ([first.mapping.digest()], [(&phone, None), (&bob, None)]);
    make(&stage, EventKind::RotateKey, std::slice::from_ref(&rotated), &gone, &signers).await.unwrap();
    let proof = attest(&stage, &phone, 0).await;
    let more = say(&stage, &phone, &proof, QUIET, account, shown("b"));
    make(&stage, EventKind::Issue, &[more], &[], &[(&phone, None)]).await.unwrap();
    make(&stage, EventKind::Withdraw, &[], &[rotated.mapping.digest()], &[(&phone, None)]).await.unwrap();
    // The phone is shown what the tablet hides, since the one whose mapping it took over was there; after the next change it is not.
    let client = stage.client();
    let mut memory = LogMemory::default();
    let read = history(&client, &phone, &who, &stage.trust, &mut memory).await.unwrap().unwrap();
    let proof = attest(&stage, &tablet, 0).await;
    let more = say(&stage, &tablet, &proof, QUIET, "mimi://quiet.example/u/tablet", shown("c"));
    make(&stage, EventKind::Issue, &[more], &[], &[(&tablet, None)]).await.unwrap();
    assert!(matches!(past(&client, &phone, &read, None).await, Err(RecipientError::Receipt(_))));
    let (newer, steps) = past_of_latest(&client, &phone, &read, None, &stage.trust, &mut memory).await.unwrap();
    assert_eq!(newer.unwrap().state.version, 5);
    assert_eq!(steps.iter().map(|s| s.version).collect::<Vec<_>>(), [5, 4, 3]);
    stage.stop().await;
}

/// History in pages, back to the key's own beginning and no further.
#[tokio::test(flavor = "multi_thread")]
async fn history_in_pages() {
    let stage = stage().await;
    let (bob, ..) = bob(&stage).await;
    let who: Csi = csi(BOB);
    for i in 0..12 {
        let proof = attest(&stage, &bob, 0).await;
        let added = say(&stage, &bob, &proof, QUIET, "mimi://quiet.example/u/bob", shown(&format!("t{i}")));
        let current = make(&stage, EventKind::Issue, std::slice::from_ref(&added), &[], &[(&bob, None)]).await.unwrap();
        assert_eq!(current.state.held.len(), 3);
        make(&stage, EventKind::Withdraw, &[], &[added.mapping.digest()], &[(&bob, None)]).await.unwrap();
    }
    let current = history(&stage.client(), &bob, &who, &stage.trust, &mut LogMemory::default()).await.unwrap().unwrap();
    let steps = past(&stage.client(), &bob, &current, None).await.unwrap();
    assert_eq!(steps.iter().map(|s| s.version).collect::<Vec<_>>(), (0..25).rev().collect::<Vec<_>>());
    assert!(steps[..24].iter().all(|s| s.before.is_some()) && steps[24].before.is_none());
    // What the person has seen is not read again.
    let steps = past(&stage.client(), &bob, &current, Some(20)).await.unwrap();
    assert_eq!(steps.iter().map(|s| s.version).collect::<Vec<_>>(), [24, 23, 22, 21]);
    // Somebody who came later sees what happened from then on, once it is no longer new.
    let ann = key("ann");
    let proof = attest(&stage, &ann, 0).await;
    let added = say(&stage, &ann, &proof, QUIET, "mimi://quiet.example/u/ann", shown("ann"));
    let current = make(&stage, EventKind::Issue, &[added], &[], &[(&ann, None)]).await.unwrap();
    assert_eq!(code(past(&stage.client(), &ann, &current, None).await), "no-record");
    stage.pass(73 * HOUR_MS).await;
    let current = history(&stage.client(), &ann, &who, &stage.trust, &mut LogMemory::default()).await.unwrap().unwrap();
    let steps = past(&stage.client(), &ann, &current, None).await.unwrap();
    assert_eq!(steps.iter().map(|s| (s.version, s.before.is_some())).collect::<Vec<_>>(), [(25, false)]);
    stage.stop().await;
}

/// "Adapters for the two real feeds": a register that says that the number was given to somebody else shortens the hold, and is asked
/// only about claims that would be taken anyway.
#[tokio::test(flavor = "multi_thread")]
async fn a_register_shortens_a_hold() {
    let stand_in = registers::Registers::start().await;
    let url = stand_in.url();
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("feed.secret");
    std::fs::write(&secret, "s3cret\n").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let feed = FeedFile::Camara {
        url: format!("{url}/number-recycling/v0.2"),
        token_url: format!("{url}/token"),
        client_id: "waymark".to_owned(),
        secret_file: "feed.secret".to_owned(),
        prefixes: vec!["+49".to_owned()],
    };
    let feeds = Registers::load(secrets.path(), &[feed], &waymark_runtime::fetch::ExtraRoots::default()).unwrap();
    let stage = Stage::with(1, &Clock::shifted(), |settings| settings.recycling = feeds).await;
    bob(&stage).await;
    stage.pass(2 * 24 * HOUR_MS).await;
    let carol = key("carol");
    let asked = || stand_in.calls().iter().filter(|c| c.path.ends_with("/check")).count();
    // A claim that would not be taken costs nothing.
    assert_eq!(code(make(&stage, EventKind::NewHolderPending, &[], &[], &[(&carol, None)]).await), "not-allowed");
    assert_eq!(asked(), 0);
    stand_in.says("+4915112345642", true);
    let proof = attest(&stage, &carol, 1).await;
    make(&stage, EventKind::NewHolderPending, &[], &[], &[(&carol, Some(proof))]).await.unwrap();
    assert_eq!(asked(), 1);
    let contest = stage.look_up(&csi(BOB), None).await.contested;
    assert!(matches!(contest, Some(Contest::Claim { ground: Ground::Recycled, .. })), "{contest:?}");
    stage.pass(SHORT_HOLD_MS + HOUR_MS).await;
    let proof = attest(&stage, &carol, 1).await;
    let hers = say(&stage, &carol, &proof, QUIET, "mimi://quiet.example/u/carol", shown("default"));
    make(&stage, EventKind::NewHolder, &[hers], &[], &[(&carol, None)]).await.unwrap();
    assert_eq!(stage.look_up(&csi(BOB), None).await.changed_hands.unwrap().ground, Some(Ground::Recycled));
    stage.stop().await;
    stand_in.stop().await;
}
