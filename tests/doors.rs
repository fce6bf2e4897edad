//! Doors that strangers can fill: whose request it is, and that no flood from one place shuts out others.
//!
//! The DP here has a proxy in front that it trusts, so a test chooses the address of every client.

mod common;

use std::{fs, ops::Range, time::Duration};

use common::{QUIET, Stage, csi, key, request, shown, until, with_consent};
use data_encoding::{BASE64, HEXLOWER};
use waymark::{
    api::{CHANGE_MEDIA_TYPE, HISTORY_MEDIA_TYPE, HistoryRequest, JSON_MEDIA_TYPE, RECIPIENT_HEADER, RequestSignature},
    client::recipient::{Added, MappingSpec, prove, sign_mapping},
    config::{Codes, File, LOOKUPS_PER_MINUTE_DEFAULT, REQUESTS_PER_MINUTE_DEFAULT, Settings, names},
    httpsig::{self, Request},
    msp::{self, CONSENT_MEDIA_TYPE, ConsentRequest},
    prover,
};
use waymark_log::{hash::Hash, key::SecretKey};
use waymark_mapping::{
    commitment::Salt,
    event::{ANY_VERSION, EventKind},
    label::Label,
    mapping::{Attestation, Purpose},
    names::{Account, Domain},
    signed::{SignedStruct, UNSIGNED},
    watch::{WATCH_LIST_MEDIA_TYPE, WatchId, WatchList},
    wire::{Extensions, Format, List24, Optional24, decode, encode},
};
use waymark_monitor::{FollowedLog, config};
use waymark_runtime::{
    clock::Clock,
    fetch::{ExtraRoots, Fetched, Fetcher},
    proxies::Proxies,
    random,
};

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

/// A program behind the proxy.
struct Server<'a> {
    url: String,
    fetcher: &'a Fetcher,
    clock: &'a Clock,
}

impl Server<'_> {
    /// Posts to it as a client with this address, by the word of the proxy.
    async fn post(
        &self,
        address: &str,
        (path, media_type): (&str, &str),
        signed: Option<&SecretKey>,
        body: Vec<u8>,
    ) -> Fetched {
        let mut headers = vec![("x-forwarded-for", address.to_owned())];
        if let Some(secret) = signed {
            let (now, nonce) = (self.clock.now(), random::bytes());
            let signature = RequestSignature::sign(&common::origin(), secret, ("POST", path), &body, now, nonce);
            headers.push((RECIPIENT_HEADER, signature.format()));
        }
        self.fetcher.post(&format!("{}{path}", self.url), media_type, &headers, body, 1 << 20).await.unwrap()
    }

    async fn starts_a_challenge(&self, address: &str, secret: &SecretKey, who: &str) -> Fetched {
        let body = serde_json::json!({"csi": who, "purpose": "control"}).to_string();
        self.post(address, ("/v1/challenges", JSON_MEDIA_TYPE), Some(secret), body.into()).await
    }
}

/// One client of the DP.
struct From<'a>(&'a Stage, String);

impl From<'_> {
    async fn post(&self, path: &str, media_type: &str, signed: Option<&SecretKey>, body: Vec<u8>) -> Fetched {
        self.server().post(&self.1, (path, media_type), signed, body).await
    }

    /// The same, to another program.
    async fn post_to(
        &self,
        base: &str,
        path: &str,
        media_type: &str,
        signed: Option<&SecretKey>,
        body: Vec<u8>,
    ) -> Fetched {
        let other = Server { url: base.to_owned(), ..self.server() };
        other.post(&self.1, (path, media_type), signed, body).await
    }

    fn server(&self) -> Server<'_> {
        Server { url: self.0.dp.url(), fetcher: &self.0.fetcher, clock: &self.0.clock }
    }

    async fn looks_up(&self) -> Fetched {
        let body = serde_json::json!({"log": self.0.origin.as_str(), "csi": NOBODY}).to_string();
        self.post("/v1/lookups", JSON_MEDIA_TYPE, None, body.into()).await
    }

    async fn starts_a_challenge(&self, secret: &SecretKey, who: &str) -> Fetched {
        self.server().starts_a_challenge(&self.1, secret, who).await
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
        let throw_away = random_key();
        looked += u32::from(flood.looks_up().await.status == 200);
        let number = format!("tel:+4930{:07}", 1_000_000 + i);
        started += u32::from(flood.starts_a_challenge(&throw_away, &number).await.status == 201);
        asked += u32::from(code(&flood.asks_for_history(&throw_away).await) == "no-record");
    }
    // A site's share, or two if a minute turned over. The codes of this DP cost nothing and have no budget besides.
    assert!(
        (320..=640).contains(&looked) && (200..=400).contains(&started) && (200..=400).contains(&asked),
        "{looked} {started} {asked}"
    );

    let stranger = |i: u16| From(&stage, format!("2001:dba:{i:x}::1"));
    assert_eq!(stranger(1).looks_up().await.status, 200);
    let challenge = stranger(2).starts_a_challenge(&key("stranger"), "tel:+4915112345677").await;
    assert_eq!(challenge.status, 201, "{}", code(&challenge));
    make(&stage, EventKind::Objection, &[], (&bob, None), "2001:dbb::1").await;
    stage.stop().await;
}

/// The same at a prover whose codes are paid for: the flood has what `[codes.budget]` gives to a site and to a network,
/// all of it and no more, also after a restart; and a stranger gets a code for a number among those that the flood names.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_site_uses_up_its_share_of_a_provers_codes_and_nobody_elses() {
    const SITE: u32 = 40;
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("prover");
    let origin = common::origin();
    prover::init(&dir, &common::domain("prover.example"), &origin, Codes::Folder).unwrap();
    let file = format!(
        "domain = \"prover.example\"\norigin = \"{origin}\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
         [codes]\nsms = \"folder\"\n[codes.budget]\naddress_hour = {SITE}\n"
    );
    fs::write(dir.join("prover.toml"), file).unwrap();
    // The time stands still, so that no window turns over.
    let (clock, fetcher) = (Clock::manual(Clock::System.now().get()), Fetcher::new(Duration::from_secs(40)));
    let start = async || {
        let settings = prover::Settings::load(&dir, common::loopback()).unwrap();
        let running = prover::start(settings, clock.clone()).await.unwrap();
        let server = Server { url: running.url(), fetcher: &fetcher, clock: &clock };
        (running, server)
    };
    let ask = async |server: &Server<'_>, address: String, i: u32| {
        let number = format!("tel:+49301{i:06}");
        let answer = server.starts_a_challenge(&address, &random_key(), &number).await;
        let refusal = code(&answer);
        assert!(
            matches!((answer.status, &*refusal), (201, _) | (429, "code-budget" | "too-many-requests")),
            "{refusal}"
        );
        answer.status == 201
    };
    let flood = async |server: &Server<'_>, site: u16, numbers: Range<u32>| {
        let mut started = 0;
        for i in numbers {
            started += u32::from(ask(server, format!("2001:db9:{site:x}:{i:x}::1"), i).await);
        }
        started
    };
    let (running, server) = start().await;
    assert_eq!(flood(&server, 1, 0..300).await, SITE);
    // A network has twice as much, however many sites it has.
    assert_eq!(flood(&server, 2, 300..330).await + flood(&server, 3, 330..600).await, SITE);
    assert!(ask(&server, "2001:dba:1::1".to_owned(), 599).await, "a stranger");
    running.stop().await;

    let (running, server) = start().await;
    assert_eq!(flood(&server, 4, 600..650).await, 0, "what was spent is spent after a restart");
    assert!(ask(&server, "2001:dba:2::1".to_owned(), 649).await, "a stranger");
    running.stop().await;
}

fn random_key() -> SecretKey {
    SecretKey::from_seed(&random::bytes())
}

/// How many people come at once from one IPv4 address.
const CROWD: u16 = 150;

/// "150 honest newcomers in a minute, also from one IPv4 address, all get in", and can then do what they have come for: each
/// shows possession, gets a consent, looks up whom he knows, has himself watched at a monitor and at his MSP's adapter, and asks
/// both what they have seen. All limits are the defaults.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_behind_one_ipv4_address_looks_up_and_is_watched() {
    let stage = behind_a_proxy(|file| {
        (file.lookups_per_minute, file.requests_per_minute) = (LOOKUPS_PER_MINUTE_DEFAULT, REQUESTS_PER_MINUTE_DEFAULT);
    })
    .await;
    let proxies = || Proxies::new(&["127.0.0.0/8".to_owned()], None).unwrap();
    let chat = stage.root.path().join("chat");
    msp::init(&chat, &common::domain("chat.example"), &stage.origin, false, 0).unwrap();
    let mut settings = msp::Settings::load(&chat, common::loopback(), None).unwrap();
    (settings.log, settings.proxies) = (Some((stage.dp.log_url(), stage.trust.clone())), proxies());
    let adapter = msp::start(settings, Clock::System).await.unwrap();
    let settings = waymark_monitor::Settings {
        data_dir: stage.root.path().join("monitor"),
        listen: common::loopback(),
        operations: None,
        tls: None,
        proxies: proxies(),
        roots: ExtraRoots::default(),
        logs: vec![FollowedLog { trust: stage.trust.clone(), url: stage.dp.log_url(), witnesses: vec![] }],
        poll_ms: 100,
        renew_within_ms: 600_000,
        log_memory_bytes: waymark_monitor::LOG_MEMORY_MB_DEFAULT << 20,
    };
    let monitor = waymark_monitor::start(settings, Clock::System).await.unwrap();
    until("monitor and adapter to have read the log", async || {
        adapter.followed() > 0 && monitor.status().logs[0].verified_size > 0
    })
    .await;

    let crowd = From(&stage, "192.0.2.7".to_owned());
    for i in 0..CROWD {
        comes_in_and_is_watched(&crowd, i, &adapter.url(), &monitor.url()).await;
    }
    let watched = monitor.status().watch_lists;
    assert_eq!((watched, adapter.followed() > 0), (usize::from(CROWD), true));
    adapter.stop().await;
    monitor.stop().await;
    stage.stop().await;
}

/// One of the crowd: everything that an app sends on its first day.
async fn comes_in_and_is_watched(from: &From<'_>, i: u16, adapter: &str, monitor: &str) {
    let stage = from.0;
    let is = |what: &str, answer: Fetched, status: u16| {
        assert_eq!(answer.status, status, "newcomer {i}, {what}: {}", code(&answer));
        answer.body
    };
    let (secret, watcher) = (key(&format!("newcomer {i}")), key(&format!("watcher {i}")));
    let started = is("a challenge", from.starts_a_challenge(&secret, &format!("tel:+49302{i:07}")).await, 201);
    let started: serde_json::Value = serde_json::from_slice(&started).unwrap();
    let id = started["id"].as_str().unwrap();
    let entered = fs::read_to_string(stage.root.path().join("dp").join(names::CODES).join(id)).unwrap();
    let entered = serde_json::json!({"code": entered.trim()}).to_string();
    let path = format!("/v1/challenges/{id}/check");
    let checked = is("a code", from.post(&path, JSON_MEDIA_TYPE, Some(&secret), entered.into()).await, 200);
    let checked: serde_json::Value = serde_json::from_slice(&checked).unwrap();
    let attestation = BASE64.decode(checked["attestation"].as_str().unwrap().as_bytes()).unwrap();
    let spec = MappingSpec {
        msp: Some(common::domain("chat.example")),
        account: Account::parse(&format!("mimi://chat.example/u/{i}")).unwrap(),
        tags: shown("default"),
    };
    let attestation = decode("attestation", &attestation).unwrap();
    let mapping = sign_mapping(&stage.origin, &secret, &spec, &attestation, attestation.time);
    let asked = encode(&ConsentRequest { mapping, salt: Salt(random::bytes()) });
    let consent = from.post_to(adapter, "/v1/consents", CONSENT_MEDIA_TYPE, Some(&secret), asked).await;
    is("a consent", consent, 200);
    for _ in 0..3 {
        is("a look-up", from.looks_up().await, 200);
    }
    let list = list_of(stage, &watcher, i);
    let handed_in = from.post_to(monitor, "/v1/watch-lists", WATCH_LIST_MEDIA_TYPE, None, list.encode()).await;
    is("a list at the monitor", handed_in, 204);
    let handed_in = from.post_to(adapter, "/v1/watch-lists", WATCH_LIST_MEDIA_TYPE, Some(&secret), list.encode()).await;
    is("a list at the adapter", handed_in, 204);
    let name = HEXLOWER.encode(&list.id.0);
    let asked = serde_json::json!({"log": stage.origin.as_str(), "list": name}).to_string();
    let alerts = from.post_to(monitor, "/v1/alerts", JSON_MEDIA_TYPE, Some(&watcher), asked.into()).await;
    is("alerts", alerts, 200);
    let asked = serde_json::json!({"list": name}).to_string();
    let notices = from.post_to(adapter, "/v1/notices", JSON_MEDIA_TYPE, Some(&watcher), asked.into()).await;
    is("notices", notices, 200);
}

/// A list of one label that is in no log.
fn list_of(stage: &Stage, watcher: &SecretKey, i: u16) -> WatchList {
    let now = stage.clock.now();
    let mut list = WatchList {
        extensions: Extensions::NONE,
        format: Format,
        origin: (&stage.origin).into(),
        id: WatchId(random::bytes()),
        holder: watcher.public(),
        size: 1,
        root: Hash::ZERO,
        made: now,
        expiry: now.plus_ms(24 * 3600 * 1000),
        labels: List24::new(vec![Label(Hash::sha256(&[b"crowd", &i.to_be_bytes()]))]).unwrap(),
        renews: Optional24(None),
        sig: UNSIGNED,
    };
    list.sign(&stage.origin, watcher);
    list
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
