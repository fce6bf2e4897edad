//! Messaging providers over HTTP: who may ask as one, the life of their keys, what their users are told, and look-ups that
//! do not say who asks.

mod common;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use common::{LOUD, QUIET, Stage, csi, domain, key, loopback, request, shown, tap::Tap, until, with_consent};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use waymark::{
    api::{IMPORT_MEDIA_TYPE, JSON_MEDIA_TYPE, join_import},
    client::{
        ClientError,
        memory::LogMemory,
        msp::MspClient,
        provider::ProviderClient,
        recipient::{AppKeys, MappingSpec, history, leaf_of, sign_mapping, watch_list},
    },
    config::File,
    httpsig::{self, Request},
    init,
    msp::{
        self,
        keys::{self, KeysError, Rotation},
    },
    onboarding,
};
use waymark_log::{hash::Hash, key::SecretKey, time::UnixSeconds};
use waymark_mapping::{
    entry::{Provider, ProviderAction, ProviderRole},
    event::EventKind,
    facts::Service,
    identifier::Csi,
    mapping::{Attestation, Consent, Mapping, Tags},
    names::{Account, Tag},
    provider::UNSIGNED_WAIT_MS,
    signed::SignedStruct,
    verify::{Outcome, Trail, verify},
    watch::WatchId,
};
use waymark_runtime::{
    budget::{Shares, StayingShares},
    clock::Clock,
    fetch::Fetched,
    keyfile, random,
};

const CHAT: &str = "chat.example";
const DAY_MS: u64 = 24 * 3600 * 1000;

fn provider(stage: &Stage, clock: &Clock, name: &str) -> ProviderClient {
    ProviderClient::new(stage.fetcher.clone(), &stage.dp.url(), stage.origin.clone(), clock.clone(), domain(name))
}

/// An MSP with a folder of its own, taken in by the operator.
async fn onboard(stage: &Stage) -> PathBuf {
    let dir = stage.root.path().join("chat");
    let entry = msp::init(&dir, &domain(CHAT), &stage.origin, false, 1).unwrap();
    let entry = onboarding::parse(&std::fs::read(entry).unwrap()).unwrap();
    onboarding::submit(&stage.root.path().join("dp"), &entry).unwrap();
    until("the MSP to be logged", async || stage.dp.knows_provider(&domain(CHAT))).await;
    dir
}

fn secret(dir: &Path) -> SecretKey {
    SecretKey::from_seed(&keyfile::load(&dir.join(keys::KEY)).unwrap())
}

async fn adapter(stage: &Stage, dir: &Path, adjust: impl FnOnce(&mut msp::Settings)) -> msp::Running {
    let mut settings = msp::Settings::load(dir, loopback(), None).unwrap();
    adjust(&mut settings);
    msp::start(settings, Clock::System).await.unwrap_or_else(|e| panic!("{}: {e}", stage.dp.url()))
}

/// An adapter that follows the log.
async fn following(stage: &Stage, dir: &Path) -> msp::Running {
    adapter(stage, dir, |settings| {
        settings.log = Some((stage.dp.log_url(), stage.trust.clone()));
        settings.poll_ms = 20;
    })
    .await
}

fn app_of(stage: &Stage, adapter: &msp::Running) -> MspClient {
    MspClient::new(stage.fetcher.clone(), &adapter.url(), stage.origin.clone(), Clock::System)
}

fn mapping(stage: &Stage, secret: &SecretKey, attestation: &Attestation, account: &str) -> Mapping {
    let spec =
        MappingSpec { msp: Some(domain(CHAT)), account: Account::parse(account).unwrap(), tags: shown("default") };
    sign_mapping(&stage.origin, secret, &spec, attestation, attestation.time)
}

fn code(fetched: &Fetched) -> (u16, String) {
    let problem: serde_json::Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
    (fetched.status, problem.get("code").and_then(|c| c.as_str()).unwrap_or_default().to_owned())
}

fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String) {
    match result.unwrap_err() {
        ClientError::Refused { status, code, .. } => (status, code),
        other => panic!("{other}"),
    }
}

type Headers = Vec<(&'static str, String)>;

/// A signed POST as it would be sent: path, media type, headers, body.
#[derive(Clone)]
struct Signed {
    path: &'static str,
    media_type: &'static str,
    headers: Headers,
    body: Vec<u8>,
}

impl Signed {
    fn new(stage: &Stage, as_whom: (&str, &SecretKey), created: u64) -> Self {
        let (path, media_type, body) = ("/v1/imports", IMPORT_MEDIA_TYPE, join_import([&b"x"[..]]).unwrap());
        let request = Request { method: "POST", path, media_type };
        let (who, secret) = (domain(as_whom.0), as_whom.1);
        let created = UnixSeconds::new(created);
        let headers = httpsig::sign(&stage.origin, (&who, secret), request, &body, created, random::bytes());
        Self { path, media_type, headers: headers.to_vec(), body }
    }

    async fn send(&self, stage: &Stage) -> (u16, String) {
        let url = format!("{}{}", stage.dp.url(), self.path);
        let sent = stage.fetcher.post(&url, self.media_type, &self.headers, self.body.clone(), 4096).await;
        code(&sent.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_as_a_provider_must_be_one_now_and_once() {
    let stage = Stage::new().await;
    let now = Clock::System.now().floor_seconds().get();
    let quiet = key(QUIET);
    let signed = || Signed::new(&stage, (QUIET, &quiet), now);
    let refused = |status: u16, code: &str| (status, code.to_owned());

    let first = signed();
    assert_eq!(first.send(&stage).await, refused(200, ""));
    assert_eq!(first.send(&stage).await, refused(401, "replayed"));
    assert_eq!(Signed { headers: vec![], ..signed() }.send(&stage).await, refused(401, "signature-missing"));
    // Over, ahead, and by a key that is nobody's, somebody else's, or a prover's.
    assert_eq!(Signed::new(&stage, (QUIET, &quiet), now - 301).send(&stage).await, refused(401, "replayed"));
    assert_eq!(Signed::new(&stage, (QUIET, &quiet), now + 60).send(&stage).await, refused(401, "replayed"));
    let dp = waymark::config::Settings::load(&stage.root.path().join("dp")).unwrap();
    for whom in [(QUIET, &key("nobody")), (LOUD, &quiet), ("none.example", &quiet), ("dp.example", &dp.prover)] {
        assert_eq!(Signed::new(&stage, whom, now).send(&stage).await, refused(401, "provider-unknown"), "{}", whom.0);
    }
    // Every covered part.
    let body = join_import([&b"y"[..]]).unwrap();
    assert_eq!(Signed { body, ..signed() }.send(&stage).await, refused(401, "signature-invalid"));
    let query = Signed { path: "/v1/imports?a=b", ..signed() };
    assert_eq!(query.send(&stage).await, refused(401, "signature-invalid"));
    let elsewhere = Signed { path: "/v1/lookups", media_type: JSON_MEDIA_TYPE, ..signed() };
    assert_eq!(elsewhere.send(&stage).await, refused(401, "signature-invalid"));
    for changed in 0..4 {
        let mut request = signed();
        let value = &mut request.headers[changed].1;
        let last = value.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len() - 1;
        value.replace_range(last..=last, if value.as_bytes()[last] == b'A' { "B" } else { "A" });
        let name = request.headers[changed].0;
        assert_eq!(request.send(&stage).await, refused(401, "signature-invalid"), "{name}");
    }
    stage.stop().await;
}

/// A consent from the adapter, and whether the DP's directory takes it.
async fn consents(stage: &Stage, app: &MspClient, who: &Csi, secret: &SecretKey, account: &str) -> Consent {
    let attestation = stage.attest(secret, who).await;
    app.consent(secret, &mapping(stage, secret, &attestation, account)).await.unwrap().0
}

async fn service(stage: &Stage, who: &Csi) -> Service {
    stage.look_up(who, None).await.mappings[0].service
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_under_a_running_adapter_and_retired() {
    let stage = Stage::new().await;
    let chat = onboard(&stage).await;
    let running = adapter(&stage, &chat, |_| {}).await;
    let (app, dp) = (app_of(&stage, &running), provider(&stage, &Clock::System, CHAT));
    let (who, bob) = (csi("tel:+4915112345642"), key("bob"));
    let attestation = stage.attest(&bob, &who).await;
    let listed = mapping(&stage, &bob, &attestation, "mimi://chat.example/u/bob");
    let consent = app.consent(&bob, &listed).await.unwrap();
    let old = secret(&chat).public();
    assert_eq!(consent.0.msp_key, old);
    let added = waymark::client::recipient::Added { mapping: listed, consent: Some(consent) };
    let seen = stage.look_up(&who, None).await;
    let change = request(&stage.origin, &seen, &who, EventKind::Issue, &[added], &[], &[(&bob, None)]);
    stage.client().change(&bob, &change).await.unwrap();
    assert!(matches!(service(&stage, &who).await, Service::Confirmed { .. }));

    let Rotation::Done(new) = keys::rotate(&chat, &dp, false).await.unwrap() else { panic!("not in place") };
    assert_eq!((secret(&chat).public(), new != old), (new, true));
    // The same adapter signs with the new key, knows the account still, and keeps it from others.
    assert_eq!(consents(&stage, &app, &who, &bob, "mimi://chat.example/u/bob").await.msp_key, new);
    let attestation = stage.attest(&key("eve"), &who).await;
    let taken = mapping(&stage, &key("eve"), &attestation, "mimi://chat.example/u/bob");
    assert_eq!(refusal(app.consent(&key("eve"), &taken).await), (403, "account-taken".to_owned()));
    // What the old key confirmed is unconfirmed, and the old key asks for nothing any more.
    assert_eq!(service(&stage, &who).await, Service::Unconfirmed);
    let old_secret = keyfile::load(&chat.join(format!("retired-{}.key", &old.to_hex()[..8]))).unwrap();
    let body = join_import([&b"x"[..]]).unwrap();
    let asked = dp.import(&SecretKey::from_seed(&old_secret), body.clone()).await;
    assert_eq!(refusal(asked), (401, "provider-unknown".to_owned()));
    dp.import(&secret(&chat), body).await.unwrap();

    assert_eq!(keys::retire(&chat, &dp, None).await.unwrap(), new);
    assert!(matches!(keys::rotate(&chat, &dp, false).await, Err(KeysError::NotValid)));
    running.stop().await;
    stage.stop().await;
}

/// An entry about a key of chat.example over its keys as they are.
async fn entry(dp: &ProviderClient, action: ProviderAction, new: &SecretKey, by: Option<&SecretKey>) -> Provider {
    let mut entry = init::provider_entry(&domain(CHAT), ProviderRole::MSP, false, 1, &stage_origin(), new);
    entry.action = action;
    entry.previous_leaf = dp.leaf(ProviderRole::MSP).await.unwrap().map_or(Hash::ZERO, |leaf| leaf.digest());
    entry.sign_by_key(&stage_origin(), new);
    if let Some(by) = by {
        entry.sign_by_valid(&stage_origin(), by);
    }
    entry
}

fn stage_origin() -> waymark_log::checkpoint::Origin {
    waymark_log::checkpoint::Origin::new("dp.example/log").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_over_http_needs_a_valid_key_of_its_domain() {
    let stage = Stage::new().await;
    let dp = provider(&stage, &Clock::System, CHAT);
    let refused = |status: u16, code: &str| (status, code.to_owned());
    // A first key is the operator's to take in, also with a signature that nobody can check.
    let first = entry(&dp, ProviderAction::Add, &key("one"), None).await;
    assert_eq!(refusal(dp.submit(&first).await), refused(403, "operator-only"));
    let pretended = entry(&dp, ProviderAction::Add, &key("one"), Some(&key("one"))).await;
    assert_eq!(refusal(dp.submit(&pretended).await), refused(403, "not-allowed"));

    let chat = onboard(&stage).await;
    let valid = secret(&chat);
    for by in [None, Some(&valid)] {
        let stale = Provider { previous_leaf: Hash::ZERO, ..entry(&dp, ProviderAction::Add, &key("one"), by).await };
        let code = if by.is_some() { (409, "provider-stale") } else { (403, "operator-only") };
        assert_eq!(refusal(dp.submit(&stale).await), refused(code.0, code.1));
    }
    let by_another = entry(&dp, ProviderAction::Add, &key("one"), Some(&key(QUIET))).await;
    assert_eq!(refusal(dp.submit(&by_another).await), refused(403, "not-allowed"));
    let again = entry(&dp, ProviderAction::Add, &valid, Some(&valid)).await;
    assert_eq!(refusal(dp.submit(&again).await), refused(422, "provider-invalid"));
    let url = format!("{}/v1/providers", stage.dp.url());
    let sent = stage.fetcher.post(&url, "application/vnd.waymark.provider", &[], b"x".to_vec(), 4096).await.unwrap();
    assert_eq!(code(&sent), refused(400, "malformed"));

    // A second key beside the first: sent twice, it is logged once and both count.
    let good = entry(&dp, ProviderAction::Add, &key("one"), Some(&valid)).await;
    dp.submit(&good).await.unwrap();
    let _ = dp.submit(&good).await;
    let two = async || dp.leaf(ProviderRole::MSP).await.unwrap().is_some_and(|leaf| leaf.keys.len() == 2);
    until("the second key", two).await;
    let now = Clock::System.now();
    assert_eq!(dp.leaf(ProviderRole::MSP).await.unwrap().unwrap().valid(now).count(), 2);
    stage.stop().await;
}

/// A clock that goes on at its own pace and may be moved: the sequencer wants each head to be later than the last.
struct Time {
    clock: Clock,
    task: JoinHandle<()>,
}

impl Time {
    /// It begins with the next minute: after the log was opened, and so that no test runs into a minute in which look-ups
    /// are counted from zero.
    fn start() -> Self {
        let now = Clock::System.now().get();
        let clock = Clock::manual(now - now % 60_000 + 60_000);
        let moved = clock.clone();
        let task = tokio::spawn(async move {
            let mut every = tokio::time::interval(Duration::from_millis(5));
            loop {
                every.tick().await;
                moved.advance(5);
            }
        });
        Self { clock, task }
    }
}

impl Drop for Time {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The operator takes an entry in.
async fn take_in(stage: &Stage, dp: &ProviderClient, path: &Path) {
    let entry = onboarding::parse(&std::fs::read(path).unwrap()).unwrap();
    let key = entry.key.clone();
    onboarding::submit(&stage.root.path().join("dp"), &entry).unwrap();
    let listed =
        async || dp.leaf(ProviderRole::MSP).await.unwrap().is_some_and(|leaf| leaf.keys.iter().any(|k| k.key == key));
    until("the pending key", listed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_is_replaced_after_seven_days_unless_it_was_not_lost() {
    let time = Time::start();
    let stage = Stage::with(1, &time.clock, |_| {}).await;
    let chat = onboard(&stage).await;
    let dp = provider(&stage, &time.clock, CHAT);
    let old = secret(&chat);
    let body = || join_import([&b"x"[..]]).unwrap();

    // Somebody persuades the operator: the key shows as pending, and who has the valid one cancels it.
    let thief = stage.root.path().join("thief");
    msp::init(&thief, &domain(CHAT), &stage.origin, false, 1).unwrap();
    let Rotation::ForOperator(path) = keys::rotate(&thief, &dp, true).await.unwrap() else { panic!("no entry") };
    take_in(&stage, &dp, &path).await;
    let Rotation::Due(stolen, due) = keys::rotate(&thief, &dp, true).await.unwrap() else { panic!("not pending") };
    let wait = due.since(time.clock.now());
    assert!(wait > UNSIGNED_WAIT_MS - DAY_MS && wait <= UNSIGNED_WAIT_MS, "{wait}");
    assert_eq!(keys::cancel(&chat, &dp, ProviderRole::MSP, None).await.unwrap(), stolen);
    assert!(matches!(keys::cancel(&chat, &dp, ProviderRole::MSP, None).await, Err(KeysError::Pending(0))));
    dp.import(&old, body()).await.unwrap();

    // It is lost in earnest.
    std::fs::write(chat.join(keys::KEY), "scratched").unwrap();
    let Rotation::ForOperator(path) = keys::rotate(&chat, &dp, true).await.unwrap() else { panic!("no entry") };
    take_in(&stage, &dp, &path).await;
    time.clock.advance(UNSIGNED_WAIT_MS - DAY_MS);
    until("a head of that day", async || dp.import(&old, body()).await.is_ok()).await;
    assert!(matches!(keys::rotate(&chat, &dp, true).await.unwrap(), Rotation::Due(..)));
    time.clock.advance(DAY_MS + 60_000);
    let Rotation::Done(new) = keys::rotate(&chat, &dp, true).await.unwrap() else { panic!("not due") };
    assert_eq!(secret(&chat).public(), new);
    until("the new key to be taken", async || dp.import(&secret(&chat), body()).await.is_ok()).await;
    assert_eq!(refusal(dp.import(&old, body()).await), (401, "provider-unknown".to_owned()));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relayed_look_up_tells_the_dp_nothing_of_who_asks() {
    // The address may ask 16 times a minute, once of them before it shows possession; each MSP twenty times.
    let few = |file: &mut File| (file.lookups_per_minute, file.relays_per_minute) = (1, 20);
    let time = Time::start();
    let stage = Stage::with_file(1, &time.clock, few).await;
    let chat = onboard(&stage).await;
    let recorder = Tap::start(stage.dp.address()).await;
    let mut settings = msp::Settings::load(&chat, loopback(), None).unwrap();
    settings.dp = Some(recorder.url.clone());
    let running = msp::start(settings, time.clock.clone()).await.unwrap();
    let app = app_of(&stage, &running);
    let (bob, alice) = (csi("tel:+4915112345642"), key("alice"));
    let unknown = app.look_up(&alice, &bob, None).await;
    assert_eq!(refusal(unknown), (403, "no-account".to_owned()));
    consents(&stage, &app, &csi("tel:+4915112345643"), &alice, "mimi://chat.example/u/alice").await;
    assert_eq!(recorder.take_sent(), "", "nothing was relayed so far");

    // By hand, so that our own port and headers are known.
    let (port, sent, answer) = ask_by_hand(&stage, &running, &alice, &bob).await;
    let heard = recorder.take_sent();
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        body,
        format!("{{\"log\":\"{}\",\"csi\":\"{}\"}}", stage.origin, bob.expose()),
        "the recorder hears what is relayed, and no more"
    );
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("POST /v1/lookups HTTP/1.1"));
    let mut names: Vec<&str> = lines.map(|line| line.split_once(": ").unwrap().0).collect();
    names.sort_unstable();
    let ours = [
        "accept",
        "accept-encoding",
        "content-digest",
        "content-length",
        "content-type",
        "host",
        "signature",
        "signature-input",
        "waymark-origin",
    ];
    assert_eq!(names, ours);
    for of_hers in [&alice.public().to_hex(), "Alice's phone", "x-of-mine", "waymark-recipient"] {
        assert!(sent.contains(of_hers) && !heard.contains(of_hers), "{of_hers} in {heard}");
    }
    for never_sent in ["u/alice", &format!("127.0.0.1:{port}")] {
        assert!(!heard.contains(never_sent), "{never_sent} in {heard}");
    }
    let asked = common::asked(&bob, None);
    let verified = verify(&answer, &asked, &stage.trust, None, time.clock.now(), &mut Trail::default()).unwrap();
    assert_eq!(verified.get().outcome, Outcome::Absent);

    // Nineteen more: the MSP's ceiling, not the address's, which is used up after fifteen.
    for _ in 0..19 {
        app.look_up(&alice, &bob, None).await.unwrap();
    }
    assert_eq!(refusal(app.look_up(&alice, &bob, None).await), (429, "too-many-requests".to_owned()));
    for _ in 0..15 {
        stage.client().look_up(&bob, None).await.unwrap();
    }
    assert_eq!(refusal(stage.client().look_up(&bob, None).await), (429, "too-many-requests".to_owned()));
    running.stop().await;
    stage.stop().await;
}

/// A look-up through an adapter over a socket of our own: its port, what was sent, and the answer's body.
async fn ask_by_hand(stage: &Stage, adapter: &msp::Running, user: &SecretKey, whom: &Csi) -> (u16, String, Vec<u8>) {
    let address = adapter.url().strip_prefix("http://").unwrap().to_owned();
    let body = format!("{{ \"csi\" : \"{}\", \"log\":\"{}\" }}", whom.expose(), stage.origin);
    let signature = waymark::api::RequestSignature::sign(
        &stage.origin,
        user,
        ("POST", "/v1/relay/lookups"),
        body.as_bytes(),
        Clock::System.now(),
        random::bytes(),
    );
    let request = format!(
        "POST /v1/relay/lookups HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nuser-agent: Alice's phone\r\n\
         x-of-mine: 1\r\ncontent-type: application/json\r\ncontent-length: {}\r\nwaymark-recipient: {}\r\n\r\n{body}",
        body.len(),
        signature.format(),
    );
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let port = stream.local_addr().unwrap().port();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![];
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    (port, request, answer.split_off(head))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_has_a_budget_of_look_ups_a_day() {
    let stage = Stage::with(1, &Clock::System, |settings| settings.relays_per_minute = 1000).await;
    let chat = onboard(&stage).await;
    let dp = stage.dp.url();
    // Fewer than everybody is promised are not to be had.
    let running = adapter(&stage, &chat, |settings| (settings.dp, settings.lookups_per_day) = (Some(dp), 1)).await;
    let app = app_of(&stage, &running);
    for name in ["alice", "carol"] {
        let who = csi(&format!("mailto:{name}@mail.example"));
        consents(&stage, &app, &who, &key(name), &format!("mimi://chat.example/u/{name}")).await;
    }
    let bob = csi("tel:+4915112345642");
    for _ in 0..msp::LOOKUPS_PER_DAY_MIN {
        app.look_up(&key("alice"), &bob, None).await.unwrap();
    }
    assert_eq!(refusal(app.look_up(&key("alice"), &bob, None).await), (429, "too-many-requests".to_owned()));
    app.look_up(&key("carol"), &bob, None).await.unwrap();
    running.stop().await;
    stage.stop().await;
}

/// Adds a mapping with a key that nobody knows yet.
async fn add(stage: &Stage, who: &Csi, secret: &SecretKey, msp: &str, tag: &str) {
    let added = with_consent(&stage.origin, stage.mapping(secret, who, msp, shown(tag)).await);
    let seen = stage.look_up(who, None).await;
    let change = request(&stage.origin, &seen, who, EventKind::Issue, &[added], &[], &[(secret, None)]);
    stage.client().change(secret, &change).await.unwrap();
}

/// The list for the current version, claiming the entry that made it or not.
async fn list(stage: &Stage, who: &Csi, app: &AppKeys, claims: bool) -> waymark_mapping::watch::WatchList {
    let current =
        history(&stage.client(), &app.recipient, who, &stage.trust, &mut LogMemory::default()).await.unwrap().unwrap();
    let claims = claims.then(|| leaf_of(&current));
    watch_list(&stage.origin, app, &current, claims, Clock::System.now())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_notices_outlive_the_adapter() {
    let stage = Stage::new().await;
    let chat = onboard(&stage).await;
    let follow = async || {
        adapter(&stage, &chat, |settings| {
            settings.log = Some((stage.dp.log_url(), stage.trust.clone()));
            (settings.poll_ms, settings.renew_within_ms) = (20, 100);
        })
        .await
    };
    let (bob, carol) = (csi("tel:+4915112345642"), csi("mailto:carol@mail.example"));
    let of = |recipient: SecretKey, id: u8| AppKeys { recipient, watcher: key("w"), watch_id: WatchId([id; 16]) };
    let (of_bob, of_carol) = (of(key("bob"), 1), of(key("carol"), 2));
    let running = follow().await;
    for (who, app, name) in [(&bob, &of_bob, "bob"), (&carol, &of_carol, "carol")] {
        add(&stage, who, &app.recipient, QUIET, "default").await;
        let msp = app_of(&stage, &running);
        consents(&stage, &msp, who, &app.recipient, &format!("mimi://chat.example/u/{name}")).await;
        msp.watch(&app.recipient, &list(&stage, who, app, true).await).await.unwrap();
    }
    running.stop().await;

    // While it is away, somebody adds a mapping of Bob's; Carol's app does so itself and claims it.
    add(&stage, &bob, &key("a stranger"), LOUD, "business").await;
    add(&stage, &carol, &of_carol.recipient, LOUD, "business").await;
    let running = follow().await;
    let app = app_of(&stage, &running);
    let renewal = list(&stage, &carol, &of_carol, true).await;
    until("the lists to be taken up", async || app.watch(&of_carol.recipient, &renewal).await.is_ok()).await;
    until("a notice", async || !app.notices(&key("w"), &of_bob.watch_id, None).await.unwrap().is_empty()).await;
    let told = app.notices(&key("w"), &of_bob.watch_id, None).await.unwrap();
    let entries = stage.entries().await;
    assert_eq!(told.len(), 1);
    let leaf = waymark_log::hash::leaf_hash(&entries[usize::try_from(told[0].entry).unwrap()].encode());
    assert_eq!(told[0].leaf, leaf.to_hex());
    assert!(!serde_json::to_string(&told).unwrap().contains(LOUD), "no word of the newcomer");
    assert_eq!(app.notices(&key("w"), &of_carol.watch_id, None).await.unwrap(), []);
    assert_eq!(app.notices(&key("w"), &of_bob.watch_id, Some(told[0].entry)).await.unwrap(), []);
    for (holder, id) in [("another", of_bob.watch_id), ("w", WatchId([3; 16]))] {
        assert_eq!(refusal(app.notices(&key(holder), &id, None).await), (404, "no-list".to_owned()));
    }
    running.stop().await;

    // Told once, and still known.
    let running = follow().await;
    let app = app_of(&stage, &running);
    until("the log to be read again", async || running.followed() >= entries.len() as u64).await;
    assert_eq!(app.notices(&key("w"), &of_bob.watch_id, None).await.unwrap(), told);
    assert_eq!(running.unexpected().unwrap(), [leaf].into());
    running.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_lists_come_from_users_and_each_may_have_so_many() {
    let stage = Stage::new().await;
    let chat = onboard(&stage).await;
    let follow = || following(&stage, &chat);
    let running = follow().await;
    let (app, who, bob) = (app_of(&stage, &running), csi("tel:+4915112345642"), key("bob"));
    add(&stage, &who, &bob, QUIET, "default").await;
    let of = |id: u8| AppKeys { recipient: key("bob"), watcher: key(&format!("w{id}")), watch_id: WatchId([id; 16]) };
    let new = async |id: u8| list(&stage, &who, &of(id), true).await;
    let first = new(1).await;
    // Nobody's list, and a stranger's.
    let unsigned = waymark::client::msp::send_watch_list(&stage.fetcher, &running.url(), &first).await;
    assert_eq!(refusal(unsigned), (401, "signature-missing".to_owned()));
    assert_eq!(refusal(app.watch(&bob, &first).await), (403, "no-account".to_owned()));
    consents(&stage, &app, &who, &bob, "mimi://chat.example/u/bob").await;
    app.watch(&bob, &first).await.unwrap();
    for id in 2..=8 {
        app.watch(&bob, &new(id).await).await.unwrap();
    }
    assert_eq!(refusal(app.watch(&bob, &new(9).await).await), (403, "account-lists".to_owned()));
    // Anybody who is in renews, also without an account: the list's holder has signed it.
    let renewal = new(1).await;
    waymark::client::msp::send_watch_list(&stage.fetcher, &running.url(), &renewal).await.unwrap();
    // One that is retired makes room, and after a start each still counts for its account.
    running.stop().await;
    let running = follow().await;
    let app = app_of(&stage, &running);
    let current = history(&stage.client(), &bob, &who, &stage.trust, &mut LogMemory::default()).await.unwrap().unwrap();
    let retired = waymark::client::recipient::retirement(&stage.origin, &of(8), &current, Clock::System.now());
    until("the lists to be taken up", async || app.watch(&bob, &retired).await.is_ok()).await;
    until("the retired list to go", async || app.watch(&bob, &new(9).await).await.is_ok()).await;
    assert_eq!(refusal(app.watch(&bob, &new(10).await).await), (403, "account-lists".to_owned()));
    // What is logged already is nothing to watch for: the list says that it is absent where it is logged.
    until("the log to be read", async || running.followed() >= current.tree.0).await;
    let carol = AppKeys { recipient: key("carol"), watcher: key("w"), watch_id: WatchId([99; 16]) };
    consents(&stage, &app, &csi("mailto:carol@mail.example"), &carol.recipient, "mimi://chat.example/u/carol").await;
    let mut junk = new(99).await;
    junk.labels = waymark_mapping::wire::List24::new(vec![current.label]).unwrap();
    junk.sign(&stage.origin, &key("w99"));
    assert_eq!(refusal(app.watch(&carol.recipient, &junk).await), (422, "watch-list-logged".to_owned()));
    // Its status names nothing that was hit.
    let status = stage.fetcher.get(&format!("{}/status", running.url()), 65_536).await.unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.body).unwrap();
    assert_eq!((&status["watch_lists"], &status["unexpected"]), (&8.into(), &0.into()));
    running.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_a_share_of_new_accounts_a_day_and_of_requests_a_minute() {
    let time = Time::start();
    let stage = Stage::with(1, &time.clock, |_| {}).await;
    let chat = onboard(&stage).await;
    let mut settings = msp::Settings::load(&chat, loopback(), None).unwrap();
    let shares = |n| Shares { host: n, site: n, network: n };
    settings.requests_a_minute = shares(10);
    settings.new_accounts = StayingShares { day: shares(2), month: shares(3) };
    let running = msp::start(settings, time.clock.clone()).await.unwrap();
    let app = MspClient::new(stage.fetcher.clone(), &running.url(), stage.origin.clone(), time.clock.clone());
    let ask = async |name: &str| {
        let (secret, who) = (key(name), csi(&format!("mailto:{name}@mail.example")));
        let attestation = stage.attest(&secret, &who).await;
        let mapping = mapping(&stage, &secret, &attestation, &format!("mimi://chat.example/u/{name}"));
        app.consent(&secret, &mapping).await
    };
    let too_many = || (429, "too-many-requests".to_owned());
    ask("one").await.unwrap();
    ask("two").await.unwrap();
    assert_eq!(refusal(ask("three").await), too_many());
    // An app that has an account goes on.
    ask("one").await.unwrap();
    // The whole share of a minute, within a minute of its own: another kind of request counts as well.
    time.clock.advance(60_000);
    let empty = async || {
        let url = format!("{}/v1/notices", running.url());
        code(&stage.fetcher.post(&url, JSON_MEDIA_TYPE, &[], b"{}".to_vec(), 4096).await.unwrap())
    };
    let mut answers = Vec::new();
    for _ in 0..22 {
        answers.push(empty().await);
    }
    assert!(answers.contains(&(401, "signature-missing".to_owned())) && answers.contains(&too_many()), "{answers:?}");
    // The next minute and the next day are others.
    stage.pass(DAY_MS).await;
    ask("three").await.unwrap();
    running.stop().await;
    stage.stop().await;
}

/// What the adapter's status says of keys in its MSP's name: role, action and key of each.
async fn foreign_keys(stage: &Stage, adapter: &msp::Running) -> Vec<(String, String, String)> {
    let fetched = stage.fetcher.get(&format!("{}/status", adapter.url()), 65_536).await.unwrap();
    let status: serde_json::Value = serde_json::from_slice(&fetched.body).unwrap();
    let text = |found: &serde_json::Value, field: &str| found[field].as_str().unwrap().to_owned();
    let found = status["foreign_keys"].as_array().unwrap().iter();
    found.map(|f| (text(f, "role"), text(f, "action"), text(f, "key"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_msp_is_told_of_every_key_in_its_name_that_is_not_its_own() {
    let stage = Stage::new().await;
    let chat = onboard(&stage).await;
    let follow = || following(&stage, &chat);
    let running = follow().await;
    let dp = provider(&stage, &Clock::System, CHAT);
    // Its own doing is no news.
    let Rotation::Done(_) = keys::rotate(&chat, &dp, false).await.unwrap() else { panic!("not in place") };
    // Somebody persuades the operator: a key for the MSP, and one for a role that the domain has never had.
    let thief = key("thief").public().to_hex();
    let operator = stage.root.path().join("dp");
    let unsigned = entry(&dp, ProviderAction::Rotate, &key("thief"), None).await;
    onboarding::submit(&operator, &unsigned).unwrap();
    let told = |role: &str, action: &str| (role.to_owned(), action.to_owned(), thief.clone());
    until("the first alert", async || foreign_keys(&stage, &running).await == [told("msp", "rotate")]).await;
    let csip = ProviderRole::CSIP;
    let persuaded = init::provider_entry(&domain(CHAT), csip, false, 2, &stage.origin, &key("thief"));
    onboarding::submit(&operator, &persuaded).unwrap();
    until("the second alert", async || foreign_keys(&stage, &running).await.len() == 2).await;
    assert_eq!(foreign_keys(&stage, &running).await[1], told("csip", "add"));
    // Both wait, and both are cancelled with the MSP's key.
    let now = Clock::System.now();
    for role in [ProviderRole::MSP, csip] {
        let listed = dp.leaf(role).await.unwrap().unwrap();
        assert!(listed.find(&key("thief").public()).is_some_and(|k| now < k.due));
        assert_eq!(keys::cancel(&chat, &dp, role, None).await.unwrap(), key("thief").public());
    }
    assert_eq!(dp.leaf(csip).await.unwrap(), None);
    // What was logged once is not logged again, though it would follow once more.
    onboarding::submit(&operator, &persuaded).unwrap();
    let incoming = operator.join("providers/incoming");
    until("the folder to be empty", async || std::fs::read_dir(&incoming).unwrap().next().is_none()).await;
    assert_eq!(dp.leaf(csip).await.unwrap(), None);
    // The domain's own key for that role comes in at once, with the MSP's word.
    let own = init::provider_entry(&domain(CHAT), csip, false, 2, &stage.origin, &key("csip"));
    assert!(keys::vouch(&chat, &dp, own).await.unwrap().is_valid_at(Clock::System.now()));
    // After a start the log says all of it again; the key of another role is not among the adapter's files.
    until("all alerts", async || foreign_keys(&stage, &running).await.len() == 5).await;
    let before = foreign_keys(&stage, &running).await;
    running.stop().await;
    let running = follow().await;
    until("the alerts to be raised anew", async || foreign_keys(&stage, &running).await == before).await;
    running.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_attested_is_found_after_the_provers_key_has_retired() {
    let stage = Stage::new().await;
    let who = csi("tel:+4915112345642");
    let (bob, ann) = (key("bob"), key("ann"));
    add(&stage, &who, &bob, QUIET, "default").await;
    let hidden = stage.mapping(&ann, &who, QUIET, Tags::Exact(Tag::parse("chess").unwrap())).await;
    let added = with_consent(&stage.origin, hidden);
    let seen = stage.look_up(&who, None).await;
    let change = request(&stage.origin, &seen, &who, EventKind::Issue, &[added], &[], &[(&ann, None)]);
    stage.client().change(&ann, &change).await.unwrap();
    // Bob's app changes its key: the attestation is newer than the standing.
    let old = seen.mappings[0].digest;
    let mut rotated = stage.mapping(&key("bob 2"), &who, QUIET, shown("default")).await;
    rotated.account = seen.mappings[0].account.clone();
    rotated.sign(&stage.origin, &key("bob 2"));
    let seen = stage.look_up(&who, None).await;
    let change = request(
        &stage.origin,
        &seen,
        &who,
        EventKind::RotateKey,
        &[with_consent(&stage.origin, rotated)],
        &[old],
        &[(&bob, None), (&key("bob 2"), None)],
    );
    stage.client().change(&bob, &change).await.unwrap();
    let before = [stage.look_up(&who, None).await, stage.look_up(&who, Some("chess")).await];

    // The DP's prover has a new key, and the old one retires.
    let settings = waymark::config::Settings::load(&stage.root.path().join("dp")).unwrap();
    let dp = provider(&stage, &Clock::System, "dp.example");
    let leaf = async || dp.leaf(ProviderRole::PROVER).await.unwrap().unwrap();
    let (role, next) = (ProviderRole::PROVER, key("the prover's next key"));
    let mut rotation = init::provider_entry(dp.domain(), role, false, 0, &stage.origin, &next);
    (rotation.action, rotation.previous_leaf) = (ProviderAction::Rotate, leaf().await.digest());
    rotation.sign_by_key(&stage.origin, &next);
    rotation.sign_by_valid(&stage.origin, &settings.prover);
    dp.submit(&rotation).await.unwrap();
    let retired = settings.prover.public();
    until("the old key to retire", async || leaf().await.find(&retired).unwrap().has_retired_at(Clock::System.now()))
        .await;
    let after = [stage.look_up(&who, None).await, stage.look_up(&who, Some("chess")).await];
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((after.outcome, &after.mappings), (Outcome::Listed, &before.mappings));
    }
    // The recipient's list bears the same proof.
    let current = history(&stage.client(), &key("bob 2"), &who, &stage.trust, &mut LogMemory::default()).await;
    assert_eq!(current.unwrap().unwrap().state.held.len(), 2);
    stage.stop().await;
}
