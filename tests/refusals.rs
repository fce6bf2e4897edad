//! Everything that is not right gets an RFC 9457 problem with a stable code, and nothing is logged for it.

mod common;

use common::{LOUD, QUIET, Stage, csi, domain, key, request, shown, until, with_consent};
use serde_json::Value;
use waymark::{
    api::{
        CHANGE_MEDIA_TYPE, ChangeRequest, HISTORY_MEDIA_TYPE, HistoryRequest, JSON_MEDIA_TYPE, OfferedConsent,
        RECIPIENT_HEADER, RequestSignature,
    },
    client::recipient::Added,
    config::Settings,
    init, onboarding,
};
use waymark_log::{key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    entry::{Entry, Provider, ProviderAction, ProviderRole},
    event::EventKind,
    mapping::Tags,
    names::Tag,
    provider::ProviderDirectory,
    signed::SignedStruct,
    wire::{List24, Optional24, encode},
};
use waymark_runtime::{clock::Clock, random};

const BOB: &str = "tel:+4915112345642";

struct Answer {
    status: u16,
    media_type: String,
    body: Vec<u8>,
}

impl Stage {
    async fn post(&self, path: &str, media_type: &str, header: Option<String>, body: Vec<u8>) -> Answer {
        let headers: Vec<_> = header.into_iter().map(|h| (RECIPIENT_HEADER, h)).collect();
        let url = format!("{}{path}", self.dp.url());
        let fetched = self.fetcher.post(&url, media_type, &headers, body, 1 << 20).await.unwrap();
        Answer { status: fetched.status, media_type: fetched.media_type, body: fetched.body }
    }

    fn header(&self, secret: &SecretKey, path: &str, body: &[u8]) -> String {
        let now = Clock::System.now();
        RequestSignature::sign(&self.origin, secret, ("POST", path), body, now, random::bytes()).format()
    }

    async fn change(&self, secret: &SecretKey, request: &ChangeRequest) -> Answer {
        let body = encode(request);
        let header = self.header(secret, "/v1/changes", &body);
        self.post("/v1/changes", CHANGE_MEDIA_TYPE, Some(header), body).await
    }
}

impl Stage {
    /// A prover who is logged, and then retired.
    async fn prover_who_retires(&self, name: &str) -> SecretKey {
        let (secret, dir) = (key(name), self.root.path().join("dp"));
        let add = init::provider_entry(&domain(name), ProviderRole::PROVER, false, 0, &self.origin, &secret);
        onboarding::submit(&dir, &add).unwrap();
        self.providers_say(name, |p| p["retired_ms"] == 0).await;
        let mut logged = ProviderDirectory::new();
        logged.apply(&add, &self.origin, Clock::System.now()).unwrap();
        let previous_leaf = logged.previous_leaf(&domain(name), ProviderRole::PROVER);
        let by_key = Optional24(None);
        let mut retire = Provider { action: ProviderAction::Retire, previous_leaf, by_key, ..add };
        retire.sign_by_valid(&self.origin, &secret);
        onboarding::submit(&dir, &retire).unwrap();
        self.providers_say(name, |p| p["retired_ms"] != 0).await;
        secret
    }

    async fn providers_say(&self, name: &str, is_so: impl Fn(&Value) -> bool) {
        until(name, async || {
            let answer = self.fetcher.get(&format!("{}/v1/providers", self.dp.url()), 1 << 20).await.unwrap();
            let providers: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
            providers.iter().any(|p| p["domain"] == name && is_so(p))
        })
        .await;
    }
}

impl Answer {
    /// Checks that this is the problem it should be, in the form it should have, and that it quotes nothing.
    #[track_caller]
    fn is(&self, status: u16, code: &str) {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!((self.status, self.media_type.as_str()), (status, "application/problem+json"), "{code}: {text}");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some(code), Some(u64::from(status))));
        for field in ["type", "title", "detail"] {
            assert!(problem[field].as_str().is_some_and(|t| !t.is_empty()), "{code}: {text}");
        }
        assert!(!text.contains("4915112345642") && !text.contains("15112345642"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_not_right_is_a_problem_and_is_not_logged() {
    let stage = Stage::new().await;
    framing(&stage).await;
    look_ups(&stage).await;
    challenges(&stage).await;
    signatures_and_replays(&stage).await;
    truncated(&stage).await;
    // Nothing of all that was logged: there are the open entry, providers, and heads.
    let quiet = |e: &Entry| matches!(e, Entry::Open(_) | Entry::Provider(_) | Entry::Head(_));
    assert!(stage.entries().await.iter().all(quiet));
    changes(&stage).await;
    stage.stop().await;
}

async fn framing(stage: &Stage) {
    let json = r#"{"log":"dp.example/log","csi":"tel:+4915112345642"}"#.as_bytes().to_vec();
    stage.post("/v1/nothing", JSON_MEDIA_TYPE, None, vec![]).await.is(404, "route-unknown");
    stage.post("/", JSON_MEDIA_TYPE, None, vec![]).await.is(404, "route-unknown");
    let get = stage.fetcher.get(&format!("{}/v1/lookups", stage.dp.url()), 4096).await.unwrap();
    Answer { status: get.status, media_type: get.media_type, body: get.body }.is(405, "method-not-allowed");
    stage.post("/v1/lookups", "text/plain", None, json.clone()).await.is(415, "content-type");
    stage.post("/v1/changes", JSON_MEDIA_TYPE, None, json).await.is(415, "content-type");
    stage.post("/v1/lookups", JSON_MEDIA_TYPE, None, vec![b' '; 5000]).await.is(413, "body-too-large");
    stage.post("/v1/changes", CHANGE_MEDIA_TYPE, None, vec![0; 70_000]).await.is(413, "body-too-large");
}

async fn look_ups(stage: &Stage) {
    for other in ["", "dp.example/log2", "DP.example/log", "other.example/log"] {
        let body = serde_json::json!({"log": other, "csi": BOB}).to_string();
        stage.post("/v1/lookups", JSON_MEDIA_TYPE, None, body.into()).await.is(422, "other-log");
    }
    for bad in [
        "",
        "{",
        "[]",
        r#"{"csi":1}"#,
        r#"{"log":"dp.example/log","csi":"tel:+4915112345642","x":1}"#,
        r#"{"tag":"x"}"#,
        r#"{"csi":"tel:+4915112345642"}"#,
    ] {
        stage.post("/v1/lookups", JSON_MEDIA_TYPE, None, bad.into()).await.is(400, "malformed");
    }
    for bad in ["", "+4915112345642", "tel:+49 15112345642", "mailto:a@b", "tel:+1", "mailto:x@B\u{fc}cher.example"] {
        let body = serde_json::json!({"log": stage.origin.as_str(), "csi": bad}).to_string();
        stage.post("/v1/lookups", JSON_MEDIA_TYPE, None, body.into()).await.is(422, "csi-invalid");
    }
    for bad in ["", "u\u{308}", &"x".repeat(65)] {
        let body = serde_json::json!({"log": stage.origin.as_str(), "csi": BOB, "tag": bad}).to_string();
        stage.post("/v1/lookups", JSON_MEDIA_TYPE, None, body.into()).await.is(422, "tag-invalid");
    }
}

async fn challenges(stage: &Stage) {
    let (bob, path) = (key("bob"), "/v1/challenges");
    let start = |csi: &str, purpose: &str| serde_json::json!({"csi": csi, "purpose": purpose}).to_string().into_bytes();
    let good = start(BOB, "control");
    stage.post(path, JSON_MEDIA_TYPE, None, good.clone()).await.is(401, "signature-missing");
    stage.post(path, JSON_MEDIA_TYPE, Some("key=x".into()), good.clone()).await.is(401, "signature-invalid");
    let body = start("tel:4915112345642", "control");
    let header = stage.header(&bob, path, &body);
    stage.post(path, JSON_MEDIA_TYPE, Some(header), body).await.is(422, "csi-invalid");
    let body = start(BOB, "anything");
    let header = stage.header(&bob, path, &body);
    stage.post(path, JSON_MEDIA_TYPE, Some(header), body).await.is(400, "malformed");

    let started = stage.client().start_challenge(&bob, &csi(BOB), 0, waymark_mapping::mapping::Purpose::Control).await;
    let id = started.unwrap().id;
    let check = |id: &str| (format!("/v1/challenges/{id}/check"), br#"{"code":"not it"}"#.to_vec());
    for (id, secret) in [("00", &bob), ("zz", &bob), (&"00".repeat(16), &bob), (&id, &key("mallory"))] {
        let (path, body) = check(id);
        let header = stage.header(secret, &path, &body);
        stage.post(&path, JSON_MEDIA_TYPE, Some(header), body).await.is(410, "challenge-over");
    }
    for left in (0..5).rev() {
        let (path, body) = check(&id);
        let header = stage.header(&bob, &path, &body);
        let answer = stage.post(&path, JSON_MEDIA_TYPE, Some(header), body).await;
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer["status"].as_str(), answer["checks_left"].as_u64()), (Some("pending"), Some(left)));
    }
    let (path, body) = check(&id);
    let header = stage.header(&bob, &path, &body);
    stage.post(&path, JSON_MEDIA_TYPE, Some(header), body).await.is(410, "challenge-over");
}

async fn signatures_and_replays(stage: &Stage) {
    let (bob, path) = (key("bob"), "/v1/history");
    let body = encode(&HistoryRequest { csi: csi(BOB), version: waymark_mapping::event::ANY_VERSION });
    let sign = |secret: &SecretKey, path: &str, body: &[u8], time: UnixMillis| {
        RequestSignature::sign(&stage.origin, secret, ("POST", path), body, time, random::bytes()).format()
    };
    let send = |header: String| stage.post(path, HISTORY_MEDIA_TYPE, Some(header), body.clone());
    let now = Clock::System.now();
    // Under another path or body, by another key's signature, too old, too new.
    send(sign(&bob, "/v1/changes", &body, now)).await.is(401, "signature-invalid");
    send(sign(&bob, path, b"other", now)).await.is(401, "signature-invalid");
    let forged = sign(&bob, path, &body, now).replace(&bob.public().to_hex(), &key("eve").public().to_hex());
    send(forged).await.is(401, "signature-invalid");
    for time in [now.get() - 301_000, now.get() + 360_000] {
        send(sign(&bob, path, &body, UnixMillis::new(time))).await.is(401, "replayed");
    }
    // Bob has nothing here yet, like everybody else, and where nothing is shown no nonce is kept.
    let header = sign(&bob, path, &body, now);
    send(header.clone()).await.is(404, "no-record");
    send(header).await.is(404, "no-record");
    let (path, media_type) = ("/v1/history", HISTORY_MEDIA_TYPE);
    let header = stage.header(&bob, path, b"\x05short");
    stage.post(path, media_type, Some(header), b"\x05short".to_vec()).await.is(400, "malformed");
}

async fn good_change(stage: &Stage, app: &str, msp: &str) -> (Added, ChangeRequest) {
    let (secret, who) = (key(app), csi(BOB));
    let mapping = stage.mapping(&secret, &who, msp, shown("default")).await;
    let added = with_consent(&stage.origin, mapping);
    let current = stage.look_up(&who, None).await;
    let signers = [(&secret, None)];
    let request = request(&stage.origin, &current, &who, EventKind::Issue, std::slice::from_ref(&added), &[], &signers);
    (added, request)
}

async fn truncated(stage: &Stage) {
    let (_, request) = good_change(stage, "bob", LOUD).await;
    let (bob, bytes) = (key("bob"), encode(&request));
    let mut bad: Vec<Vec<u8>> = (0..bytes.len()).step_by(7).map(|cut| bytes[..cut].to_vec()).collect();
    bad.push([bytes.clone(), vec![0]].concat());
    for body in bad {
        let header = stage.header(&bob, "/v1/changes", &body);
        stage.post("/v1/changes", CHANGE_MEDIA_TYPE, Some(header), body).await.is(400, "malformed");
    }
    stage.post("/v1/changes", CHANGE_MEDIA_TYPE, None, bytes).await.is(401, "signature-missing");
}

async fn changes(stage: &Stage) {
    let (bob, mallory, who) = (key("bob"), key("mallory"), csi(BOB));
    let (added, request_good) = good_change(stage, "bob", LOUD).await;
    let current = stage.look_up(&who, None).await;
    let one = std::slice::from_ref(&added);
    let by = |secret, kind: EventKind, added: &[Added], removed: &[_]| {
        request(&stage.origin, &current, &who, kind, added, removed, &[(secret, None)])
    };
    // Sent by somebody who has no part in it; signed by somebody who may not; forged.
    stage.change(&mallory, &request_good).await.is(403, "not-allowed");
    stage.change(&mallory, &by(&mallory, EventKind::Issue, one, &[])).await.is(403, "not-allowed");
    let mut forged = request_good.clone();
    forged.event.tbs.time = UnixMillis::new(1);
    stage.change(&bob, &forged).await.is(401, "signature-invalid");
    // Contradictions.
    stage.change(&bob, &by(&bob, EventKind::Withdraw, one, &[])).await.is(422, "change-invalid");
    stage.change(&bob, &by(&bob, EventKind::Withdraw, &[], &[added.mapping.digest()])).await.is(422, "change-invalid");
    stage.change(&bob, &by(&bob, EventKind::Erase, &[], &[])).await.is(422, "change-invalid");
    let other = ChangeRequest { added: List24::empty(), ..request_good.clone() };
    stage.change(&bob, &other).await.is(422, "change-invalid");
    // Mappings that are not good.
    let mut altered = added.clone();
    altered.mapping.account = waymark_mapping::names::Account::parse("mimi://evil.example/u/1").unwrap();
    let altered = Added { consent: None, ..altered };
    stage.change(&bob, &by(&bob, EventKind::Issue, &[altered], &[])).await.is(422, "mapping-invalid");
    consents_and_providers(stage, &added).await;

    // The good one, twice: the same request is answered by the same receipt, without a second entry.
    let size = |entries: &[Entry]| entries.iter().filter(|e| matches!(e, Entry::Change(_))).count();
    let before = size(&stage.entries().await);
    for _ in 0..2 {
        let answer = stage.change(&bob, &request_good).await;
        assert_eq!((answer.status, answer.media_type.as_str()), (200, "application/vnd.waymark.receipt"));
    }
    assert_eq!(size(&stage.entries().await) - before, 16);
    shown_once(stage).await;
    // Over a version that is no longer current.
    stage.change(&bob, &by(&bob, EventKind::Issue, one, &[])).await.is(409, "version-stale");
    ninth(stage).await;
    // And the first request, played again after others.
    stage.change(&bob, &request_good).await.is(409, "version-stale");
}

/// What shows something hidden is shown once for each request: a stranger who has seen the request does not see later what is
/// hidden by then.
async fn shown_once(stage: &Stage) {
    let bob = key("bob");
    let request = HistoryRequest { csi: csi(BOB), version: waymark_mapping::event::ANY_VERSION };
    let export = serde_json::json!({ "csi": BOB }).to_string().into_bytes();
    for (path, media_type, body) in
        [("/v1/history", HISTORY_MEDIA_TYPE, encode(&request)), ("/v1/exports", JSON_MEDIA_TYPE, export)]
    {
        let header = stage.header(&bob, path, &body);
        assert_eq!(stage.post(path, media_type, Some(header.clone()), body.clone()).await.status, 200, "{path}");
        stage.post(path, media_type, Some(header), body).await.is(401, "replayed");
    }
}

async fn consents_and_providers(stage: &Stage, added: &Added) {
    let (bob, who) = (key("bob"), csi(BOB));
    let current = stage.look_up(&who, None).await;
    let by = |added: &[Added]| request(&stage.origin, &current, &who, EventKind::Issue, added, &[], &[(&bob, None)]);
    let unconfirmed = Added { consent: None, ..added.clone() };
    stage.change(&bob, &by(&[unconfirmed])).await.is(422, "consent-required");
    let foreign = stage.mapping(&bob, &who, QUIET, shown("default")).await;
    let (consent, salt) = common::consent(&stage.origin, &foreign);
    let swapped = Added { consent: Some((consent.clone(), salt)), ..added.clone() };
    stage.change(&bob, &by(&[swapped])).await.is(422, "consent-invalid");
    let mut unsigned = consent;
    unsigned.expiry = UnixMillis::new(unsigned.expiry.get() + 1);
    stage
        .change(&bob, &by(&[Added { mapping: foreign, consent: Some((unsigned, salt)) }]))
        .await
        .is(422, "consent-invalid");
    let stray = OfferedConsent { index: 7, consent: added.consent.clone().unwrap().0, salt };
    let with_stray = ChangeRequest { consents: List24::new(vec![stray]).unwrap(), ..by(std::slice::from_ref(added)) };
    stage.change(&bob, &with_stray).await.is(422, "consent-required");

    let nowhere = stage.mapping(&bob, &who, "nowhere.example", shown("default")).await;
    stage.change(&bob, &by(&[Added { mapping: nowhere, consent: None }])).await.is(422, "msp-unknown");

    // Possession attested by somebody who is no prover in the log.
    let mut attestation = stage.attest(&bob, &who).await;
    attestation.prover = domain("prover.example");
    attestation.prover_key = key("prover").public();
    attestation.sign(&stage.origin, &key("prover"));
    let mapping = common::mapping(&stage.origin, &bob, &attestation, QUIET, shown("default"));
    stage.change(&bob, &by(&[with_consent(&stage.origin, mapping)])).await.is(422, "prover-unknown");
    // By the DP, but used after it ran out.
    let dp_prover = Settings::load(&stage.root.path().join("dp")).unwrap().prover;
    let mut old = stage.attest(&bob, &who).await;
    old.expiry = UnixMillis::new(1);
    old.sign(&stage.origin, &dp_prover);
    let mapping = common::mapping(&stage.origin, &bob, &old, QUIET, shown("default"));
    stage.change(&bob, &by(&[with_consent(&stage.origin, mapping)])).await.is(422, "mapping-invalid");
    // By a prover who has retired, whatever time the statement bears.
    let retired = stage.prover_who_retires("retired.example").await;
    let mut back_dated = stage.attest(&bob, &who).await;
    back_dated.prover = domain("retired.example");
    back_dated.prover_key = retired.public();
    back_dated.time = UnixMillis::new(back_dated.time.get() - 60_000);
    back_dated.sign(&stage.origin, &retired);
    let mapping = common::mapping(&stage.origin, &bob, &back_dated, QUIET, shown("default"));
    stage.change(&bob, &by(&[with_consent(&stage.origin, mapping)])).await.is(422, "prover-unknown");
}

/// Room for eight visible and eight hidden mappings; the ninth is refused.
async fn ninth(stage: &Stage) {
    let (bob, who) = (key("bob"), csi(BOB));
    let fill = async |tags: &dyn Fn(usize) -> Tags, count: usize| {
        let mut added = vec![];
        for i in 0..count {
            let mapping = stage.mapping(&bob, &who, QUIET, tags(i)).await;
            added.push(with_consent(&stage.origin, mapping));
        }
        let current = stage.look_up(&who, None).await;
        request(&stage.origin, &current, &who, EventKind::Issue, &added, &[], &[(&bob, None)])
    };
    let visible = |i: usize| shown(&format!("tag{i}"));
    let hidden = |i: usize| Tags::Exact(Tag::parse(&format!("secret{i}")).unwrap());
    stage.change(&bob, &fill(&visible, 8).await).await.is(422, "record-full");
    assert_eq!(stage.change(&bob, &fill(&visible, 7).await).await.status, 200);
    assert_eq!(stage.change(&bob, &fill(&hidden, 8).await).await.status, 200);
    stage.change(&bob, &fill(&|i| hidden(i + 8), 1).await).await.is(422, "record-full");
    assert_eq!(stage.look_up(&who, Some("secret3")).await.mappings.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn look_ups_are_limited_by_address() {
    let root = tempfile::tempdir().unwrap();
    let witnesses = common::Witnesses::start(root.path(), 1).await;
    let dir = root.path().join("dp");
    // An IPv4 address has 16 times that.
    common::make_dp_with(&dir, &witnesses, |file| file.lookups_per_minute = 1);
    let dp = waymark::dp::start(Settings::load(&dir).unwrap(), Clock::System).await.unwrap();
    until("a checkpoint", async || dp.published_size() > 0).await;
    let client = common::client(&waymark_runtime::fetch::Fetcher::default(), &dp.url());
    let mut refused = 0;
    for _ in 0..36 {
        // A minute may turn over between two of them, once.
        if let Err(e) = client.look_up(&csi(BOB), None).await {
            assert_eq!(e.code(), Some("too-many-requests"));
            refused += 1;
        }
    }
    assert!((4..=20).contains(&refused), "{refused}");
    dp.stop().await.unwrap();
    witnesses.stop().await;
}
