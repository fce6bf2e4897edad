//! MIMI's requirements and points that no other test holds by name, against a running system: R1, R4, R8, R9, F5, F10, F14,
//! F17, F21, F27. docs/CONFORMANCE.md says which test stands for which.

mod common;

use std::{net::SocketAddr, process::Command};

use common::{QUIET, Seen, Stage, csi, domain, key, loopback, request, shown, tap::Tap, until, with_consent};
use data_encoding::HEXLOWER;
use waymark::{
    api::{JSON_MEDIA_TYPE, RECIPIENT_HEADER, RequestSignature},
    client::{
        ClientError,
        memory::LogMemory,
        msp::{MspClient, send_watch_list},
        provider::ProviderClient,
        recipient::{Added, AppKeys, MappingSpec, RecipientError, history, leaf_of, look_up, sign_mapping, watch_list},
        saved::SavedAnswer,
    },
    config::{Settings, names},
    init::provider_entry,
    msp, onboarding,
};
use waymark_log::{hash::Hash, key::SecretKey, policy::Policy};
use waymark_mapping::{
    entry::{Entry, ProviderRole},
    event::EventKind,
    facts::Service,
    identifier::Csi,
    mapping::{Attestation, Mapping, Method, Purpose, Tags},
    names::{Account, Tag},
    signed::{SignedStruct, UNSIGNED},
    verify::{Outcome, Rejected, Trail, verify},
    watch::WatchId,
    wire::{Format, encode},
};
use waymark_monitor::{self as monitor, report::AlertKind};
use waymark_runtime::{clock::Clock, fetch::ExtraRoots, random};

const BOB: &str = "tel:+4915112345642";
const BOB_MAIL: &str = "mailto:bob@mail.example";
const CHAT: &str = "chat.example";

fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> String {
    result.unwrap_err().code().unwrap().to_owned()
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|w| w == what)
}

/// Whether bytes hold a word, as it is or in hex.
fn says(bytes: &[u8], word: &[u8]) -> bool {
    holds(bytes, word) || holds(bytes, HEXLOWER.encode(word).as_bytes())
}

fn at_quiet(stage: &Stage, secret: &SecretKey, proof: &Attestation, account: &str, tags: Tags) -> Mapping {
    let spec = MappingSpec { msp: Some(domain(QUIET)), account: Account::parse(account).unwrap(), tags };
    sign_mapping(&stage.origin, secret, &spec, proof, proof.time)
}

/// Registers somebody at a provider that publishes nothing.
async fn register(stage: &Stage, secret: &SecretKey, who: &Csi, account: &str, tags: Tags) -> Mapping {
    let proof = stage.attest(secret, who).await;
    let mapping = at_quiet(stage, secret, &proof, account, tags);
    let added = with_consent(&stage.origin, mapping.clone());
    let seen = stage.look_up(who, None).await;
    let change = request(&stage.origin, &seen, who, EventKind::Issue, &[added], &[], &[(secret, None)]);
    stage.client().change(secret, &change).await.unwrap();
    mapping
}

async fn monitor_of(stage: &Stage, log_url: &str) -> monitor::Running {
    let followed = monitor::FollowedLog { trust: stage.trust.clone(), url: log_url.to_owned(), witnesses: vec![] };
    let settings = monitor::Settings {
        data_dir: stage.root.path().join("monitor"),
        listen: loopback(),
        operations: None,
        tls: None,
        roots: ExtraRoots::default(),
        logs: vec![followed],
        poll_ms: 50,
        proxies: waymark_runtime::proxies::Proxies::default(),
        renew_within_ms: 200,
        log_memory_bytes: 1 << 30,
    };
    monitor::start(settings, Clock::System).await.unwrap()
}

async fn caught_up(stage: &Stage, monitor: &monitor::Running) {
    let size = stage.dp.published_size();
    until("the monitor to follow", async || monitor.status().logs[0].verified_size >= size).await;
}

/// R1, and D1's fourth: prover, MSP and DP together, each with a good signature, and not the recipient.
#[tokio::test(flavor = "multi_thread")]
async fn r1_a_dp_does_not_log_what_the_recipient_did_not_sign() {
    let stage = Stage::new().await;
    let (bob, who) = (key("bob"), csi(BOB));
    let dp = Settings::load(&stage.root.path().join("dp")).unwrap().prover;
    let proof = stage.attest(&bob, &who).await;
    let honest = at_quiet(&stage, &bob, &proof, "mimi://quiet.example/u/bob", shown("default"));
    let send = async |mapping: &Mapping, signer: &SecretKey| {
        let added = [with_consent(&stage.origin, mapping.clone())];
        let none = Seen::default();
        let change = request(&stage.origin, none, &who, EventKind::Issue, &added, &[], &[(signer, None)]);
        stage.client().change(signer, &change).await
    };
    for forger in [&dp, &key(QUIET)] {
        let mut forged = honest.clone();
        forged.sign(&stage.origin, forger);
        assert_eq!(refusal(send(&forged, &bob).await), "mapping-invalid");
        // Bob's mapping as he signed it, brought by somebody else; and under the forger's own key, with Bob's proof.
        assert_eq!(refusal(send(&honest, forger).await), "not-allowed");
        forged.recipient = forger.public();
        forged.sign(&stage.origin, forger);
        assert_eq!(refusal(send(&forged, forger).await), "mapping-invalid");
    }
    assert_eq!(stage.look_up(&who, None).await.outcome, Outcome::Absent);
    assert!(!stage.entries().await.iter().any(|e| matches!(e, Entry::Change(_))), "nothing was logged for it");
    send(&honest, &bob).await.unwrap();
    assert_eq!(stage.look_up(&who, None).await.outcome, Outcome::Listed);
    stage.stop().await;
}

/// R9, and D1's twentieth: there with the receipt, and gone with the receipt, in every form of answer.
#[tokio::test(flavor = "multi_thread")]
async fn r9_what_is_removed_is_not_returned_from_the_next_head_on() {
    let stage = Stage::new().await;
    let (bob, who) = (key("bob"), csi(BOB));
    let tags = [shown("default"), Tags::Exact(Tag::parse("soccer-7f3a").unwrap())];
    let mut removed = vec![];
    for (tags, account) in tags.into_iter().zip(["mimi://quiet.example/u/in-public", "mimi://quiet.example/u/hidden"]) {
        removed.push(register(&stage, &bob, &who, account, tags).await.digest());
    }
    let before = stage.look_up(&who, Some("soccer-7f3a")).await;
    assert_eq!(before.mappings.len(), 2, "found as soon as the receipt is there");

    let change = request(&stage.origin, &before, &who, EventKind::Withdraw, &[], &removed, &[(&bob, None)]);
    let receipt = stage.client().change(&bob, &change).await.unwrap();
    let tag = Tag::parse("soccer-7f3a").unwrap();
    for presented in [None, Some(&tag)] {
        let asked = common::asked(&who, presented.cloned());
        let answers =
            [stage.client().look_up(&who, presented).await, stage.client().look_up_full(&who, presented).await];
        for bytes in answers.map(Result::unwrap) {
            let now = stage.clock.now();
            let seen = verify(&bytes, &asked, &stage.trust, None, now, &mut Trail::default()).unwrap().get().clone();
            assert_eq!((seen.outcome, seen.mappings.len()), (Outcome::NoneListed, 0));
            assert!(seen.log.size >= receipt_size(&encode(&receipt), &stage), "an older head");
            assert!(!holds(&bytes, b"in-public") && !holds(&bytes, b"u/hidden"));
        }
        assert!(stage.client().hint(&who, presented).await.unwrap().msps.is_empty());
    }
    // The proof of removal is the receipt, and can be had again.
    let current = history(&stage.client(), &bob, &who, &stage.trust, &mut LogMemory::default()).await;
    assert!(
        matches!(current, Err(RecipientError::Client(e)) if e.code() == Some("no-record")),
        "nothing of his is left"
    );
    stage.stop().await;
}

/// The size of the log that a receipt names in its checkpoint: the line after the origin.
fn receipt_size(receipt: &[u8], stage: &Stage) -> u64 {
    let start = format!("{}\n", stage.origin.as_str());
    let at = receipt.windows(start.len()).position(|w| w == start.as_bytes()).unwrap() + start.len();
    let digits = receipt[at..].iter().take_while(|b| b.is_ascii_digit()).map(|b| u64::from(b - b'0'));
    digits.fold(0, |size, digit| size * 10 + digit)
}

/// R4 and F27: an answer is carried as a file by somebody who is not trusted, and verified where there is no network and no DP.
#[tokio::test(flavor = "multi_thread")]
async fn r4_f27_a_full_answer_is_passed_on_and_verified_with_nobody_there() {
    let stage = Stage::with_witnesses(2).await;
    let (bob, who) = (key("bob"), csi(BOB));
    register(&stage, &bob, &who, "mimi://quiet.example/u/bob", shown("default")).await;
    let path = |name: &str| stage.root.path().join(name).display().to_string();
    let (answer, trust) = (path("answer"), path(&format!("dp/{}", names::TRUST)));
    let waymark = |arguments: &[&str]| {
        let ended = Command::new(env!("CARGO_BIN_EXE_waymark")).args(arguments).output().unwrap();
        (ended.status.code().unwrap(), String::from_utf8(ended.stdout).unwrap())
    };
    let asked = ["lookup", BOB, "--dp", &stage.dp.url(), "--trust", &trust, "--full", "--out", &answer];
    assert_eq!(waymark(&asked).0, 0);
    let saved = SavedAnswer::decode(&std::fs::read(&answer).unwrap()).unwrap();
    let plain = stage.client().look_up(&who, None).await.unwrap();
    let proved = |bytes: &[u8]| {
        let now = Clock::System.now();
        let seen = verify(bytes, &saved.asked, &stage.trust, None, now, &mut Trail::default())?;
        Ok::<_, Rejected>(seen.get().mappings.iter().all(|m| m.change.logged_by.is_some()))
    };
    assert_eq!((proved(&saved.answer), proved(&plain)), (Ok(true), Ok(false)), "only the full one proves since when");

    // The DP and its witnesses are gone. Whoever carries the file cannot alter it.
    let (carried, forged) = (path("carried"), path("forged"));
    std::fs::copy(&answer, &carried).unwrap();
    let altered = [saved.answer.len() / 8, saved.answer.len() / 4].map(|at| {
        let mut saved = saved.clone();
        saved.answer[at] ^= 1;
        saved
    });
    let Stage { root, dp, witnesses, .. } = stage;
    dp.stop().await.unwrap();
    witnesses.stop().await;
    let (code, card) = waymark(&["verify", &carried, "--trust", &trust, "--json"]);
    assert!(code == 0 && card.contains(QUIET), "{card}");
    for saved in altered {
        // The bit may be one of a number that says how something is signed or built: then it is a number without a meaning yet.
        let unknown = matches!(proved(&saved.answer), Err(Rejected::NotSupported(_)));
        saved.write(std::path::Path::new(&forged)).unwrap();
        assert_eq!(waymark(&["verify", &forged, "--trust", &trust]), (if unknown { 1 } else { 3 }, String::new()));
        std::fs::remove_file(&forged).unwrap();
    }
    drop(root);
}

/// R8: who asks for many learns whether somebody is there only by reading each answer; sizes say nothing, nor do labels.
#[tokio::test(flavor = "multi_thread")]
async fn r8_found_and_not_found_have_one_size_and_the_log_tests_no_guess() {
    let stage = Stage::new().await;
    let account = "mimi://quiet.example/u/bob";
    register(&stage, &key("bob"), &csi(BOB), account, shown("default")).await;
    let sizes = async |who: &str| {
        let (dp, who, tag) = (stage.client(), csi(who), Tag::parse("soccer-7f3a").unwrap());
        [dp.look_up(&who, None).await.unwrap().len(), dp.look_up(&who, Some(&tag)).await.unwrap().len()]
    };
    assert_eq!(sizes(BOB).await, sizes("tel:+4915112345640").await);
    // Whoever has the log and guesses the identifier has nothing to compare the guess with.
    let digests = [BOB, &BOB[4..], &BOB[5..]].map(|text| *Hash::sha256(&[text.as_bytes()]).as_bytes());
    for entry in stage.entries().await {
        assert!(!digests.iter().any(|digest| says(&entry.encode(), digest)));
    }
    stage.stop().await;
}

/// F5: the four classes of providers, and one that states none, are listed alike and found alike.
#[tokio::test(flavor = "multi_thread")]
async fn f5_providers_of_every_class_take_part() {
    let stage = Stage::new().await;
    let (dir, bob, who) = (stage.root.path().join("dp"), key("bob"), csi(BOB));
    let names: Vec<String> = (0..=4).map(|class| format!("class{class}.example")).collect();
    for (class, name) in (0..).zip(&names) {
        let entry = provider_entry(&domain(name), ProviderRole::MSP, false, class, &stage.origin, &key(name));
        onboarding::submit(&dir, &entry).unwrap();
    }
    until("the providers", async || names.iter().all(|n| stage.dp.knows_provider(&domain(n)))).await;
    let proof = stage.attest(&bob, &who).await;
    let mut added = vec![];
    for (class, name) in (0u8..).zip(&names) {
        let (fetcher, clock) = (stage.fetcher.clone(), stage.clock.clone());
        let listed = ProviderClient::new(fetcher, &stage.dp.url(), stage.origin.clone(), clock, domain(name));
        assert_eq!(listed.leaf(ProviderRole::MSP).await.unwrap().unwrap().keys[0].class, class, "{name}");
        let mapping = common::mapping(&stage.origin, &bob, &proof, name, shown("default"));
        added.push(with_consent(&stage.origin, mapping));
    }
    let change = request(&stage.origin, Seen::default(), &who, EventKind::Issue, &added, &[], &[(&bob, None)]);
    stage.client().change(&bob, &change).await.unwrap();
    let found = stage.look_up(&who, None).await;
    let msps: Vec<String> = found.mappings.iter().map(|m| m.msp.as_ref().unwrap().to_string()).collect();
    assert_eq!((msps, found.mappings.iter().all(|m| m.holds)), (names, true));
    stage.stop().await;
}

/// F10: a DP that is its own prover attests what nobody has shown. Nothing prevents it, and the recipient's monitor tells.
#[tokio::test(flavor = "multi_thread")]
async fn f10_a_mapping_that_a_rogue_dp_makes_raises_the_alarm() {
    let stage = Stage::new().await;
    let who = csi(BOB);
    let bob = AppKeys { recipient: key("bob"), watcher: key("bob's watcher"), watch_id: WatchId([1; 16]) };
    register(&stage, &bob.recipient, &who, "mimi://quiet.example/u/bob", shown("default")).await;
    let monitor = monitor_of(&stage, &stage.dp.log_url()).await;
    let current =
        history(&stage.client(), &bob.recipient, &who, &stage.trust, &mut LogMemory::default()).await.unwrap().unwrap();
    let list = watch_list(&stage.origin, &bob, &current, Some(leaf_of(&current)), stage.clock.now());
    send_watch_list(&stage.fetcher, &monitor.url(), &list).await.unwrap();
    caught_up(&stage, &monitor).await;
    assert_eq!(monitor.alerts().unwrap(), []);

    let (rogue, dp) = (key("the rogue's app"), Settings::load(&stage.root.path().join("dp")).unwrap().prover);
    let now = stage.clock.now();
    let mut lie = Attestation {
        format: Format,
        csi: who.clone(),
        recipient: rogue.public(),
        tenure: 0,
        purpose: Purpose::Control,
        method: Method::SMS,
        prover: domain("dp.example"),
        prover_key: dp.public(),
        time: now,
        expiry: now.plus_ms(3_600_000),
        nonce: random::bytes(),
        sig: UNSIGNED,
    };
    lie.sign(&stage.origin, &dp);
    let mapping = at_quiet(&stage, &rogue, &lie, "mimi://quiet.example/u/mallory", shown("default"));
    let added: Added = with_consent(&stage.origin, mapping);
    let seen = stage.look_up(&who, None).await;
    let change = request(&stage.origin, &seen, &who, EventKind::Issue, &[added], &[], &[(&rogue, None)]);
    stage.client().change(&rogue, &change).await.unwrap();

    // A sender sees that it is new, and who says so; Bob is told.
    let seen = stage.look_up(&who, None).await;
    let new: Vec<bool> = seen.mappings.iter().map(|m| m.change.is_new).collect();
    assert_eq!(new, [false, true]);
    assert!(!seen.mappings[1].possession.independent_of_dp);
    until("the alarm", async || !monitor.alerts().unwrap().is_empty()).await;
    let alerts = monitor.alerts().unwrap();
    assert_eq!((alerts.len(), alerts[0].kind, &alerts[0].list[..]), (1, AlertKind::Unexpected, &"01".repeat(16)[..]));
    let entry = &stage.entries().await[usize::try_from(alerts[0].entry.unwrap()).unwrap()];
    assert!(matches!(entry, Entry::Change(_)));
    monitor.stop().await;
    stage.stop().await;
}

/// F17 and F1: no dump, no search by name or prefix, no way from an account to an identifier.
#[tokio::test(flavor = "multi_thread")]
async fn f17_nothing_lists_searches_or_looks_backwards() {
    let stage = Stage::new().await;
    let account = "mimi://quiet.example/u/bob";
    for who in [BOB, BOB_MAIL] {
        register(&stage, &key("bob"), &csi(who), account, shown("default")).await;
    }
    let url = |path: &str| format!("{}{path}", stage.dp.url());
    for path in [
        "/v1/lookups",
        "/v1/records",
        "/v1/mappings",
        "/v1/accounts",
        "/v1/accounts/bob",
        "/v1/search?q=bob",
        "/v1/names",
        "/v1/exports",
        "/v1/history",
        "/v1/dump",
        "/log/",
        "/log/tile",
        "/log/records.redb",
        "/log/..%2frecords.redb",
    ] {
        let status = stage.fetcher.get(&url(path), 1 << 20).await.unwrap().status;
        assert!([404, 405].contains(&status), "{path}: {status}");
    }
    // What is asked for by anything but one whole identifier is not a look-up.
    for body in [
        format!(r#"{{"log":"dp.example/log","account":"{account}"}}"#),
        r#"{"log":"dp.example/log","name":"Bob"}"#.to_owned(),
        r#"{"log":"dp.example/log","tag":"default"}"#.to_owned(),
        r#"{"log":"dp.example/log","msp":"quiet.example"}"#.to_owned(),
        format!(r#"["{BOB}"]"#),
        format!(r#"{{"log":"dp.example/log","csi":["{BOB}","{BOB_MAIL}"]}}"#),
        format!(r#"{{"log":"dp.example/log","csi":"{BOB}","limit":100}}"#),
        format!(r#"{{"log":"dp.example/log","csi":"{account}"}}"#),
        r#"{"log":"dp.example/log","csi":"tel:+49*"}"#.to_owned(),
        r#"{"log":"dp.example/log","csi":"mailto:mail.example"}"#.to_owned(),
    ] {
        let answer = stage.fetcher.post(&url("/v1/lookups"), JSON_MEDIA_TYPE, &[], body.clone().into(), 1 << 16).await;
        assert!([400, 422].contains(&answer.unwrap().status), "{body}");
    }
    // The beginning of a number is another number, and a star is a letter like others.
    for other in [&BOB[..BOB.len() - 1], "mailto:*@mail.example"] {
        assert_eq!(stage.look_up(&csi(other), None).await.outcome, Outcome::Absent);
    }
    // And the log as a whole says nothing of who, where or for whom.
    for entry in stage.entries().await.iter().filter(|e| matches!(e, Entry::Change(_) | Entry::Head(_))) {
        for word in [&BOB.as_bytes()[5..], b"u/bob", QUIET.as_bytes(), b"default"] {
            assert!(!says(&entry.encode(), word));
        }
    }
    stage.stop().await;
}

/// F21: one account, two identifiers of one person. Each leads there; nothing leads back, or from one to the other.
#[tokio::test(flavor = "multi_thread")]
async fn f21_two_identifiers_of_one_account_cannot_be_linked() {
    let stage = Stage::new().await;
    let account = "mimi://quiet.example/u/bob";
    let (number, mail) = ((csi(BOB), key("bob's number")), (csi(BOB_MAIL), key("bob's address")));
    let before = stage.entries().await.len();
    for (who, secret) in [&number, &mail] {
        register(&stage, secret, who, account, shown("default")).await;
    }
    let mut bytes = vec![];
    for ((who, secret), (other, other_secret)) in [(&number, &mail), (&mail, &number)] {
        let asked = common::asked(who, None);
        let (seen, answer) = look_up(&stage.client(), &asked, &stage.trust, None, &mut Trail::default()).await.unwrap();
        assert_eq!(seen.get().mappings[0].account.expose(), account);
        assert!(matches!(seen.get().mappings[0].service, Service::Confirmed { in_log: false, .. }));
        assert!(!holds(&answer, other_secret.public().as_bytes()) && !holds(&answer, other.expose().as_bytes()));
        // Who holds the one is nobody at the other.
        let foreign = history(&stage.client(), secret, other, &stage.trust, &mut LogMemory::default()).await;
        assert!(matches!(foreign, Err(RecipientError::Client(e)) if e.code() == Some("no-record")));
        bytes.push(answer);
    }
    // Entries of changes have labels and commitments, all different, and nothing of whoever made them.
    let entries = stage.entries().await;
    let mut parts = vec![];
    for entry in &entries[before..] {
        let Entry::Change(change) = entry else { continue };
        parts.extend([*change.label.0.as_bytes(), *change.commitment.as_bytes()]);
        for (who, secret) in [&number, &mail] {
            let encoded = entry.encode();
            assert!(!says(&encoded, secret.public().as_bytes()) && !says(&encoded, &who.expose().as_bytes()[7..]));
        }
    }
    let all = parts.len();
    parts.sort_unstable();
    parts.dedup();
    assert!(all >= 64 && parts.len() == all, "two batches of sixteen, no two parts alike");
    // And what proves the one proves nothing of the other.
    let asked = common::asked(&mail.0, None);
    let verdict = verify(&bytes[0], &asked, &stage.trust, None, stage.clock.now(), &mut Trail::default());
    assert!(matches!(verdict, Err(Rejected::NotProven(_))));
    stage.stop().await;
}

/// What there is to learn of a look-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Learned {
    sender_address: bool,
    sender_account: bool,
    target: bool,
    found: bool,
    tag: bool,
}

const ALL: Learned = Learned { sender_address: true, sender_account: true, target: true, found: true, tag: true };
const NOTHING: Learned =
    Learned { sender_address: false, sender_account: false, target: false, found: false, tag: false };

/// F14, "who learns what about whom", as it is today. R6 wants the first two of a DP's columns or the third to be false.
const MATRIX: [(&str, Learned); 5] = [
    ("the DP, asked directly", Learned { sender_account: false, ..ALL }),
    ("the DP, asked through the sender's MSP", Learned { sender_address: false, sender_account: false, ..ALL }),
    ("the sender's MSP", ALL),
    ("a witness", NOTHING),
    ("a monitor", NOTHING),
];

const ACCOUNT_OF_ALICE: &str = "mimi://chat.example/u/alice-asks";
const ACCOUNT_OF_BOB: &str = "mimi://quiet.example/u/bob-is-here";
const TAG: &str = "for-alice-b81f";

/// What a party has learned by all that has passed on its way, if `address` is the sender's.
fn learned(way: &Tap, address: SocketAddr) -> Learned {
    let heard = way.heard();
    let bytes = [heard.forth, heard.back].concat();
    let alice = key("alice").public();
    Learned {
        sender_address: heard.peers.contains(&address) || holds(&bytes, address.to_string().as_bytes()),
        sender_account: says(&bytes, alice.as_bytes()) || says(&bytes, ACCOUNT_OF_ALICE.as_bytes()),
        target: says(&bytes, &BOB.as_bytes()[5..]),
        found: says(&bytes, ACCOUNT_OF_BOB.as_bytes()),
        tag: says(&bytes, TAG.as_bytes()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_who_learns_what_about_whom() {
    let to_witness = Tap::open().await;
    let stage = Stage::with(1, &Clock::System, |settings| through(&to_witness, settings)).await;
    let dp = stage.dp.address();
    let (direct, relayed, to_monitor) = (Tap::start(dp).await, Tap::start(dp).await, Tap::start(dp).await);
    let monitor = monitor_of(&stage, &format!("{}/log", to_monitor.url)).await;
    let (adapter, to_msp) = adapter(&stage, &relayed).await;
    let hidden = Tags::Exact(Tag::parse(TAG).unwrap());
    register(&stage, &key("bob"), &csi(BOB), ACCOUNT_OF_BOB, hidden).await;
    caught_up(&stage, &monitor).await;
    let ways = [&direct, &relayed, &to_msp, &to_witness, &to_monitor];
    let before = ways.map(|way| way.heard().back.len());

    // Alice asks the DP, then her provider, each over a socket of her own.
    let of_alice = ask(&stage, &direct, "/v1/lookups").await;
    let through_msp = ask(&stage, &to_msp, "/v1/relay/lookups").await;
    // The world goes on, so that whoever might have heard of it has.
    register(&stage, &key("carol"), &csi(BOB_MAIL), "mimi://quiet.example/u/carol", shown("default")).await;
    caught_up(&stage, &monitor).await;
    for ((way, before), (party, _)) in ways.iter().zip(before).zip(MATRIX) {
        assert!(way.heard().back.len() > before, "nothing has passed on the way to {party}");
    }

    let addresses = [of_alice, through_msp, through_msp, through_msp, through_msp];
    let found = [&direct, &relayed, &to_msp, &to_witness, &to_monitor];
    for (((party, expected), way), address) in MATRIX.into_iter().zip(found).zip(addresses) {
        assert_eq!(learned(way, address), expected, "{party}");
    }
    for way in [&to_witness, &to_monitor] {
        assert_eq!(learned(way, of_alice), NOTHING);
    }
    adapter.stop().await;
    monitor.stop().await;
    stage.stop().await;
}

/// Has the DP reach its only witness over this way.
fn through(way: &Tap, settings: &mut Settings) {
    let text = std::fs::read_to_string(settings.dir.join(names::POLICY)).unwrap();
    let url = text.lines().find_map(|l| l.strip_prefix("witness ")?.rsplit(' ').next()).unwrap();
    way.lead_to(url.strip_prefix("http://").unwrap().parse().unwrap());
    settings.policy = Policy::parse(&text.replace(url, &way.url)).unwrap();
}

/// Alice's provider, which reaches the DP over this way, and knows her; and the way to it.
async fn adapter(stage: &Stage, to_dp: &Tap) -> (msp::Running, Tap) {
    let dir = stage.root.path().join("chat");
    let entry = msp::init(&dir, &domain(CHAT), &stage.origin, false, 1).unwrap();
    let entry = onboarding::parse(&std::fs::read(entry).unwrap()).unwrap();
    onboarding::submit(&stage.root.path().join("dp"), &entry).unwrap();
    until("the MSP to be logged", async || stage.dp.knows_provider(&domain(CHAT))).await;
    let mut settings = msp::Settings::load(&dir, loopback(), None).unwrap();
    settings.dp = Some(to_dp.url.clone());
    let running = msp::start(settings, Clock::System).await.unwrap();
    let way = Tap::start(running.url().strip_prefix("http://").unwrap().parse().unwrap()).await;
    let (alice, who) = (key("alice"), csi("tel:+4915112345643"));
    let proof = stage.attest(&alice, &who).await;
    let spec = MappingSpec {
        msp: Some(domain(CHAT)),
        account: Account::parse(ACCOUNT_OF_ALICE).unwrap(),
        tags: shown("default"),
    };
    let mapping = sign_mapping(&stage.origin, &alice, &spec, &proof, proof.time);
    let app = MspClient::new(stage.fetcher.clone(), &way.url, stage.origin.clone(), Clock::System);
    app.consent(&alice, &mapping).await.unwrap();
    (running, way)
}

/// Alice's look-up over a socket of her own: from where she came. What she gets verifies.
async fn ask(stage: &Stage, way: &Tap, path: &str) -> SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let asked = common::asked(&csi(BOB), Some(Tag::parse(TAG).unwrap()));
    let body = format!(r#"{{"log":"dp.example/log","csi":"{BOB}","tag":"{TAG}"}}"#);
    // A provider wants to know which of its users asks; a DP is told nothing of the kind.
    let header = path.contains("relay").then(|| {
        let (to, nonce) = (("POST", path), random::bytes());
        let now = Clock::System.now();
        let signature = RequestSignature::sign(&stage.origin, &key("alice"), to, body.as_bytes(), now, nonce);
        format!("{RECIPIENT_HEADER}: {}\r\n", signature.format())
    });
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{}\r\n{body}",
        way.address,
        body.len(),
        header.unwrap_or_default(),
    );
    let mut stream = tokio::net::TcpStream::connect(way.address).await.unwrap();
    let address = stream.local_addr().unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![];
    stream.read_to_end(&mut answer).await.unwrap();
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..head]));
    let now = Clock::System.now();
    let seen = verify(&answer[head..], &asked, &stage.trust, None, now, &mut Trail::default()).unwrap();
    assert_eq!(seen.get().mappings[0].account.expose(), ACCOUNT_OF_BOB);
    address
}
