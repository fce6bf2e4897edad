//! Doors that strangers can fill: whose request it is, and that no flood from one place shuts out others.
//!
//! The DP here has a proxy in front that it trusts, so a test chooses the address of every client.

mod common;

use std::{fs, time::Duration};

use common::{QUIET, Stage, csi, key, request, shown, until, with_consent};
use waymark::{
    api::{CHANGE_MEDIA_TYPE, HISTORY_MEDIA_TYPE, HistoryRequest, JSON_MEDIA_TYPE, RECIPIENT_HEADER, RequestSignature},
    client::recipient::{Added, prove},
    config::{Codes, File, Settings, names},
    httpsig::{self, Request},
    msp, prover,
};
use waymark_log::key::SecretKey;
use waymark_mapping::{
    event::{ANY_VERSION, EventKind},
    mapping::{Attestation, Purpose},
    names::Domain,
    wire::encode,
};
use waymark_monitor::config;
use waymark_runtime::{clock::Clock, fetch::Fetched, random};

const BOB: &str = "tel:+4915112345642";
const NOBODY: &str = "tel:+4915112345600";
/// Requests of a flood at each door. The tables themselves are tried with 200,000 addresses: `src/http/limit.rs`,
/// `runtime/src/budget.rs`.
const FLOOD: u32 = 1200;

async fn behind_a_proxy(adjust: impl FnOnce(&mut File)) -> Stage {
    let trusting = |file: &mut File| {
        file.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
        adjust(file);
    };
    Stage::with_file(1, &Clock::System, trusting).await
}

/// One client, by the word of the proxy.
struct From<'a>(&'a Stage, String);

impl From<'_> {
    async fn post(&self, path: &str, media_type: &str, signed: Option<&SecretKey>, body: Vec<u8>) -> Fetched {
        let Self(stage, address) = self;
        let mut headers = vec![("x-forwarded-for", address.clone())];
        if let Some(secret) = signed {
            let (now, nonce) = (stage.clock.now(), random::bytes());
            let signature = RequestSignature::sign(&stage.origin, secret, ("POST", path), &body, now, nonce);
            headers.push((RECIPIENT_HEADER, signature.format()));
        }
        let url = format!("{}{path}", stage.dp.url());
        stage.fetcher.post(&url, media_type, &headers, body, 1 << 20).await.unwrap()
    }

    async fn looks_up(&self) -> Fetched {
        let body = serde_json::json!({"log": self.0.origin.as_str(), "csi": NOBODY}).to_string();
        self.post("/v1/lookups", JSON_MEDIA_TYPE, None, body.into()).await
    }

    async fn starts_a_challenge(&self, secret: &SecretKey, who: &str) -> Fetched {
        let body = serde_json::json!({"csi": who, "purpose": "control"}).to_string();
        self.post("/v1/challenges", JSON_MEDIA_TYPE, Some(secret), body.into()).await
    }

    async fn asks_for_history(&self, secret: &SecretKey) -> Fetched {
        let body = encode(&HistoryRequest { csi: csi(NOBODY), version: ANY_VERSION });
        self.post("/v1/history", HISTORY_MEDIA_TYPE, Some(secret), body).await
    }
}

fn code(answer: &Fetched) -> String {
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    problem["code"].as_str().unwrap_or_default().to_owned()
}

/// "Behind nginx, A sends 61 look-ups in a minute, and B gets 429."
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_each_client_has_limits_of_its_own() {
    let stage = behind_a_proxy(|file| file.lookups_per_minute = 3).await;
    let from = |address: &str| From(&stage, address.to_owned());
    until("one that is too many", async || from("192.0.2.1").looks_up().await.status == 429).await;
    let refused = from("192.0.2.1").looks_up().await;
    // The minute may have turned over.
    assert!(refused.status == 200 || code(&refused) == "too-many-requests");
    assert_eq!(from("198.51.100.1").looks_up().await.status, 200);
    // What A writes itself stands to the left of what the proxy says.
    until("one that is too many", async || from("203.0.113.9, 192.0.2.1").looks_up().await.status == 429).await;
    assert_eq!(from("192.0.2.1, 203.0.113.9").looks_up().await.status, 200);
    for wrong in ["unknown", "192.0.2.1,", ""] {
        let answer = from(wrong).looks_up().await;
        assert_eq!((answer.status, code(&answer)), (400, "malformed".to_owned()), "{wrong:?}");
    }
    stage.stop().await;
}

/// Each program that serves strangers: a header that nobody is believed in is a mistake that would void every limit, if
/// it were taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_without_proxies_is_refused_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    let [dp, prover, msp, monitor] = ["dp", "prover", "msp", "monitor"].map(|name| root.path().join(name));
    let witnesses = common::Witnesses::start(root.path(), 1).await;
    common::make_dp(&dp, &witnesses);
    witnesses.stop().await;
    let (name, log) = (common::domain("a.example"), common::origin());
    prover::init(&prover, &name, &log, Codes::Folder).unwrap();
    msp::init(&msp, &name, &log, false, 0).unwrap();
    let init = config::Init {
        trust: dp.join(names::TRUST),
        log_url: "http://127.0.0.1:1".to_owned(),
        witnesses: vec![],
        listen: common::loopback(),
        operations: None,
        renew_within_s: 600,
        poll_ms: 5000,
    };
    config::init(&monitor, &init).unwrap();
    let files = [dp.join("dp.toml"), prover.join("prover.toml"), msp.join("msp.toml"), monitor.join("monitor.toml")];
    let load = || {
        [
            Settings::load(&dp).err().map(|e| e.to_string()),
            prover::Settings::load(&prover, common::loopback()).err().map(|e| e.to_string()),
            msp::Settings::load(&msp, common::loopback(), None).err().map(|e| e.to_string()),
            config::load(&monitor).err().map(|e| e.to_string()),
        ]
    };
    assert_eq!(load(), [const { None }; 4]);
    let put = |line: &str| {
        for file in &files {
            let text = fs::read_to_string(file).unwrap();
            fs::write(file, format!("{line}\n{text}")).unwrap();
        }
    };
    put("proxy_header = \"X-Forwarded-For\"");
    for (file, why) in files.iter().zip(load()) {
        let why = why.expect("refused");
        assert!(why.contains(&*file.to_string_lossy()) && why.contains("`trusted_proxies`"), "{why}");
    }
    put("trusted_proxies = [\"127.0.0.1\", \"2001:db8::/32\"]");
    assert_eq!(load(), [const { None }; 4]);
}

/// Nobody chooses an address who is no proxy of ours.
#[tokio::test(flavor = "multi_thread")]
async fn without_trusted_proxies_a_stranger_does_not_choose_an_address() {
    let adjust = |file: &mut File| {
        (file.trusted_proxies, file.lookups_per_minute) = (vec!["192.0.2.0/24".to_owned()], 3);
    };
    let stage = behind_a_proxy(adjust).await;
    let mut i = 0;
    until("one that is too many", async || {
        i += 1;
        From(&stage, format!("198.51.100.{}", i % 256)).looks_up().await.status == 429
    })
    .await;
    stage.stop().await;
}

/// "The flood on look-ups, challenges and signed requests shuts nobody else out": from one /48 with as many /64s as
/// requests, and then a stranger looks up, starts a challenge and objects to a claim, each at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_site_shuts_no_stranger_out_of_look_ups_challenges_and_objections() {
    let stage = behind_a_proxy(|file| (file.lookups_per_minute, file.requests_per_minute) = (20, 100)).await;
    let (bob, eve) = (key("bob"), key("eve"));
    claimed(&stage, &bob, &eve).await;

    let (mut looked, mut started, mut asked) = (0, 0, 0);
    for i in 0..FLOOD {
        let flood = From(&stage, format!("2001:db9:1:{:x}::1", i ^ 0x5a5a));
        let throw_away = SecretKey::from_seed(&random::bytes());
        looked += u32::from(flood.looks_up().await.status == 200);
        let number = format!("tel:+4930{:07}", 1_000_000 + i);
        started += u32::from(flood.starts_a_challenge(&throw_away, &number).await.status == 201);
        asked += u32::from(code(&flood.asks_for_history(&throw_away).await) == "no-record");
    }
    // A site's share, or two if a minute turned over; the possession's own budgets may be less.
    assert!(
        (320..=640).contains(&looked) && started <= 400 && (200..=400).contains(&asked),
        "{looked} {started} {asked}"
    );

    let stranger = |i: u16| From(&stage, format!("2001:dba:{i:x}::1"));
    assert_eq!(stranger(1).looks_up().await.status, 200);
    let challenge = stranger(2).starts_a_challenge(&key("stranger"), "tel:+4915112345677").await;
    assert_eq!(challenge.status, 201, "{}", code(&challenge));
    make(&stage, EventKind::Objection, &[], (&bob, None), "2001:dbb::1").await;
    stage.stop().await;
}

/// Bob lists himself, and Eve, who has seen a code, claims his number.
async fn claimed(stage: &Stage, bob: &SecretKey, eve: &SecretKey) {
    let who = csi(BOB);
    let added = [with_consent(&stage.origin, stage.mapping(bob, &who, QUIET, shown("default")).await)];
    make(stage, EventKind::Issue, &added, (bob, None), "2001:dbc:1::1").await;
    let codes = stage.root.path().join("dp").join(names::CODES);
    let read = |id: String| async move { fs::read_to_string(codes.join(id)).ok() };
    let proof = prove(&stage.client(), eve, &who, 1, Purpose::Control, read).await.unwrap();
    make(stage, EventKind::NewHolderPending, &[], (eve, Some(proof)), "2001:dbc:2::1").await;
}

/// Makes a change of Bob's number, from an address.
async fn make(
    stage: &Stage,
    kind: EventKind,
    added: &[Added],
    (secret, proof): (&SecretKey, Option<Attestation>),
    from: &str,
) {
    let current = stage.look_up(&csi(BOB), None).await;
    let change = encode(&request(&stage.origin, &current, &csi(BOB), kind, added, &[], &[(secret, proof)]));
    let answer = From(stage, from.to_owned()).post("/v1/changes", CHANGE_MEDIA_TYPE, Some(secret), change).await;
    assert_eq!(answer.status, 200, "{kind:?}: {}", code(&answer));
}

/// Else one network could fill the queue with changes of mailboxes of its own while witnesses are away, each sent and left alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_client_has_gone_away_keeps_its_place_while_it_waits() {
    let mut stage = behind_a_proxy(|_| {}).await;
    let (bob, who) = (key("bob"), csi(BOB));
    let added = [with_consent(&stage.origin, stage.mapping(&bob, &who, QUIET, shown("default")).await)];
    let current = stage.look_up(&who, None).await;
    let change = encode(&request(&stage.origin, &current, &who, EventKind::Issue, &added, &[], &[(&bob, None)]));
    stage.witnesses.leave().await;
    let from = From(&stage, "2001:dbc:1::1".to_owned());
    let send = async || {
        let sent = from.post("/v1/changes", CHANGE_MEDIA_TYPE, Some(&bob), change.clone());
        tokio::time::timeout(Duration::from_secs(5), sent).await
    };
    assert!(send().await.is_err(), "it is answered without a quorum");
    // Three copies may wait beside it.
    let answers = tokio::join!(send(), send(), send(), send());
    let answers = [answers.0, answers.1, answers.2, answers.3].map(|a| a.map(|a| code(&a)));
    let busy = answers.iter().filter(|a| a.as_deref().is_ok_and(|code| code == "busy")).count();
    assert_eq!((busy, answers.iter().filter(|a| a.is_err()).count()), (1, 3), "{answers:?}");
    stage.dp.stop().await.unwrap();
}

/// A signature under a request is checked only for a key that counts, and for one address so often: it costs as much as the rest.
#[tokio::test(flavor = "multi_thread")]
async fn who_only_claims_to_be_an_msp_has_few_signatures_checked() {
    let stage = behind_a_proxy(|file| (file.requests_per_minute, file.relays_per_minute) = (10, 20)).await;
    let relay = async |address: &str, domain: &Domain, secret: &SecretKey, spoilt: bool| {
        let body = serde_json::json!({"log": stage.origin.as_str(), "csi": NOBODY}).to_string().into_bytes();
        let path = "/v1/lookups";
        let signed = Request { method: "POST", path, media_type: JSON_MEDIA_TYPE };
        let now = stage.clock.now().floor_seconds();
        let mut headers = httpsig::sign(&stage.origin, (domain, secret), signed, &body, now, random::bytes()).to_vec();
        if spoilt {
            headers[3].1 = format!("waymark=:{}:", "A".repeat(86) + "==");
        }
        headers.push(("x-forwarded-for", address.to_owned()));
        let url = format!("{}{path}", stage.dp.url());
        stage.fetcher.post(&url, JSON_MEDIA_TYPE, &headers, body, 1 << 20).await.unwrap()
    };
    let (quiet, nobody) = (common::domain(QUIET), common::domain("nobody.example"));
    let answer = relay("192.0.2.9", &nobody, &key("eve"), true).await;
    assert_eq!(code(&answer), "provider-unknown", "the key is nobody's, and what it signed does not matter");
    assert_eq!(code(&relay("192.0.2.9", &quiet, &key(QUIET), true).await), "signature-invalid");
    // What two MSPs at one address may send in a minute, which may turn over.
    let good = async |address: &str| relay(address, &quiet, &key(QUIET), false).await;
    until("one that is too many", async || {
        for _ in 0..20 {
            relay("192.0.2.1", &quiet, &key(QUIET), true).await;
        }
        code(&good("192.0.2.1").await) == "too-many-requests"
    })
    .await;
    assert_eq!(good("198.51.100.1").await.status, 200, "its requests from elsewhere");
    stage.stop().await;
}
