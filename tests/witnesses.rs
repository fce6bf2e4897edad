//! Publishing goes on whatever some of the witnesses do: away, silent, lying, answering hugely, with a wrong clock. What stops it is proof that
//! our own key has signed what our log does not continue, or too few witnesses that are left.
//!
//! The witnesses here are stand-ins that cosign whatever they are given, by the test's clock, unless they are told to do something else.

mod common;

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use common::{QUIET, csi, domain, key, loopback, until};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use waymark::{
    client::dp::DpClient,
    config::{Settings, names},
    dp, init, onboarding,
};
use waymark_log::{
    checkpoint::{Checkpoint, Origin, SignedCheckpoint},
    cosignature::Cosigner,
    hash::Hash,
    key::SecretKey,
    note::{KeyName, Note, NoteSigner, Role, Vkey},
    time::UnixSeconds,
    witness::AddCheckpoint,
};
use waymark_mapping::{entry::ProviderRole, event::EventKind, identifier::Csi, mapping::Attestation, trust::Trust};
use waymark_runtime::{clock::Clock, fetch::Fetcher, keyfile};

/// How soon publishing goes on once there is a quorum again.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// What else a machine may be busy with while a change is made.
const OTHER_WORK: Duration = Duration::from_millis(250);

/// What a stand-in does when it is asked for a cosignature.
#[derive(Clone, Debug)]
enum Does {
    /// Cosigns, with this many seconds between its clock and the test's.
    Cosign(i64),
    /// Answers with this status and body.
    Answer(u16, String),
    /// Says first one size and then the other.
    Alternate,
    /// Takes the request and never answers.
    Hang,
    /// Answers with one byte after the other.
    Drip,
    /// Answers with a megabyte.
    Flood,
}

/// What a stand-in shows as its copy of the checkpoint.
#[derive(Clone, Default)]
enum Copy {
    #[default]
    Nothing,
    Text(String),
    /// What lies in this file, as soon as that is something newer than when it was asked.
    Newer(PathBuf),
}

struct StandIn {
    cosigner: Cosigner,
    clock: Clock,
    does: Mutex<Does>,
    /// What it shows as its copy, if anything.
    copy: Mutex<Copy>,
    asked: Mutex<Vec<Instant>>,
}

impl StandIn {
    fn cosign(&self, body: &[u8], off_s: i64) -> Response {
        let Ok(request) = AddCheckpoint::parse(body) else { return StatusCode::BAD_REQUEST.into_response() };
        let time = self.clock.now().floor_seconds().get().saturating_add_signed(off_s);
        self.cosigner.cosign(request.note.text(), UnixSeconds::new(time)).to_string().into_response()
    }
}

/// A body of one byte after the other, without an end.
struct Drip(tokio::time::Interval);

impl hyper::body::Body for Drip {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
        self.0.poll_tick(cx).map(|_| Some(Ok(hyper::body::Frame::data(Bytes::from_static(b"x")))))
    }
}

async fn add_checkpoint(State(w): State<Arc<StandIn>>, body: Bytes) -> Response {
    w.asked.lock().unwrap().push(Instant::now());
    let does = w.does.lock().unwrap().clone();
    match does {
        Does::Cosign(off_s) => w.cosign(&body, off_s),
        Does::Answer(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Does::Alternate => {
            let odd = w.asked.lock().unwrap().len() % 2;
            (StatusCode::CONFLICT, format!("{odd}\n")).into_response()
        }
        Does::Hang => std::future::pending().await,
        Does::Drip => Body::new(Drip(tokio::time::interval(Duration::from_millis(50)))).into_response(),
        Does::Flood => "x".repeat(1 << 20).into_response(),
    }
}

async fn checkpoint(State(w): State<Arc<StandIn>>) -> Response {
    let copy = w.copy.lock().unwrap().clone();
    match copy {
        Copy::Nothing => StatusCode::NOT_FOUND.into_response(),
        Copy::Text(text) => text.into_response(),
        Copy::Newer(path) => {
            let (read, mut newer) = (|| std::fs::read_to_string(&path).unwrap_or_default(), String::new());
            let size = |note: &str| note.lines().nth(1).map(str::to_owned);
            let first = size(&read());
            for _ in 0..150 {
                newer = read();
                if size(&newer) != first {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            newer.into_response()
        }
    }
}

/// Who makes changes.
struct Person {
    secret: SecretKey,
    who: Csi,
    attestation: Attestation,
}

/// A DP with four stand-ins, three of which are a quorum.
struct Scene {
    root: TempDir,
    witnesses: Vec<(Arc<StandIn>, JoinHandle<()>)>,
    dp: Option<dp::Running>,
    clock: Clock,
}

impl Scene {
    async fn start() -> Self {
        let (root, clock) = (tempfile::tempdir().unwrap(), Clock::shifted());
        let (mut witnesses, mut lines) = (vec![], vec![]);
        for i in 1..=4 {
            let (name, secret) = (KeyName::new(&format!("w{i}.example")).unwrap(), key(&format!("w{i}")));
            let vkey = Vkey::new(name.clone(), Role::Witness, secret.public());
            let stand_in = Arc::new(StandIn {
                cosigner: Cosigner::new(name, secret),
                clock: clock.clone(),
                does: Mutex::new(Does::Cosign(0)),
                copy: Mutex::default(),
                asked: Mutex::default(),
            });
            let listener = tokio::net::TcpListener::bind(loopback()).await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let router = Router::new()
                .route("/add-checkpoint", post(add_checkpoint))
                .route("/{hash}/checkpoint", get(checkpoint))
                .with_state(Arc::clone(&stand_in));
            witnesses.push((stand_in, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })));
            lines.push((format!("w{i}"), vkey, url));
        }
        let dir = root.path().join("dp");
        init::init(&dir, &init::NewDp { file: common::dp_file(), witnesses: lines, quorum: 3 }, &clock).unwrap();
        let entry = init::provider_entry(&domain(QUIET), ProviderRole::MSP, false, 1, &common::origin(), &key(QUIET));
        onboarding::submit(&dir, &entry).unwrap();
        let mut scene = Self { root, witnesses, dp: None, clock };
        scene.run().await;
        scene
    }

    async fn run(&mut self) {
        let settings = Settings::load(&self.dir()).unwrap();
        self.dp = Some(dp::start(settings, self.clock.clone()).await.unwrap());
        // Nothing waits in the pool any more: from here on heads are made when one falls due.
        let knows = |name: &str| self.dp.as_ref().unwrap().knows_provider(&domain(name));
        until("the providers' entries", async || knows("dp.example") && knows(QUIET)).await;
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("dp")
    }

    fn size(&self) -> u64 {
        self.dp.as_ref().unwrap().published_size()
    }

    fn tell(&self, which: &[usize], does: &Does) {
        for i in which {
            *self.witnesses[*i].0.does.lock().unwrap() = does.clone();
        }
    }

    /// Makes a head fall due.
    fn next_head(&self) {
        self.clock.advance(61_000);
    }

    /// Sets the clock on or back.
    fn jump(&self, by_ms: i64) {
        if by_ms < 0 { self.clock.set_back(by_ms.unsigned_abs()) } else { self.clock.advance(by_ms.unsigned_abs()) }
    }

    /// The head that is signed last, published or not.
    fn head(&self) -> String {
        std::fs::read_to_string(self.dir().join(names::HEAD)).unwrap()
    }

    /// Waits until something more is published, and says how long that took.
    async fn publishes(&self, before: u64) -> Duration {
        let began = Instant::now();
        until("another checkpoint", async || self.size() > before).await;
        began.elapsed()
    }

    /// So many people who have each proved that they hold a number.
    async fn people(&self, count: usize) -> Vec<Person> {
        let dp = self.client();
        let mut people = vec![];
        for i in 0..count {
            let (secret, who) = (key(&format!("person {i}")), csi(&format!("mailto:person{i}@post.example")));
            let attestation = common::attest(&dp, &self.dir(), &secret, &who).await;
            people.push(Person { secret, who, attestation });
        }
        people
    }

    fn client(&self) -> DpClient {
        let url = self.dp.as_ref().unwrap().url();
        DpClient::new(Fetcher::new(Duration::from_secs(40)), &url, common::origin(), self.clock.clone())
    }

    /// The slowest of so many changes, from the request until it is published.
    async fn slowest(&self, people: &[Person], changes: usize) -> Duration {
        let trust = std::fs::read_to_string(self.dir().join(names::TRUST)).unwrap();
        let (trust, dp) = (Trust::parse(&trust).unwrap(), self.client());
        let mut slowest = Duration::ZERO;
        for Person { secret, who, attestation } in people.iter().cycle().take(changes) {
            let seen = common::look_up(&dp, &trust, who, None).await;
            let tag = common::shown(&format!("after-{}", seen.version.map_or(0, |v| v + 1)));
            let mapping = common::mapping(&common::origin(), secret, attestation, QUIET, tag);
            // The first one is added, and then each takes the place of the one before.
            let removed: Vec<Hash> = seen.mappings.iter().map(|m| m.digest).collect();
            let kind = if removed.is_empty() { EventKind::Issue } else { EventKind::Replace };
            let signers = [(secret, seen.version.is_none().then(|| attestation.clone()))];
            let added = [common::with_consent(&common::origin(), mapping)];
            let change = common::request(&common::origin(), &seen, who, kind, &added, &removed, &signers);
            let began = Instant::now();
            dp.change(secret, &change).await.unwrap();
            slowest = slowest.max(began.elapsed());
        }
        slowest
    }

    async fn stop(mut self) {
        self.dp.take().unwrap().stop().await.unwrap();
        self.witnesses.iter().for_each(|(_, task)| task.abort());
    }

    /// Why the sequencer has stopped.
    async fn stopped(&self) -> String {
        let stopped = self.dp.as_ref().unwrap().stopped();
        tokio::time::timeout(BACK_WITHIN, stopped).await.expect("it goes on")
    }
}

fn log_signer(dir: &Path) -> NoteSigner {
    let seed = keyfile::load(&dir.join(names::KEYS).join("log.key")).unwrap();
    NoteSigner::new(KeyName::new("dp.example/log").unwrap(), SecretKey::from_seed(&seed))
}

/// After any outage of any witnesses, of any length, publishing goes on within ten seconds of a quorum being back, without a restart: whoever
/// cosigned before is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_that_is_back_publishes_whenever_each_of_it_was_away() {
    let scene = Scene::start().await;
    let away = Does::Answer(503, String::new());
    for which in [&[2, 3][..], &[1, 2, 3], &[0, 1, 2, 3]] {
        for outage_s in [60, 601, 86_400] {
            scene.tell(which, &away);
            let before = scene.size();
            scene.next_head();
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert_eq!(scene.size(), before, "without a quorum");
            scene.clock.advance(outage_s * 1000);
            tokio::time::sleep(Duration::from_millis(300)).await;
            scene.tell(which, &Does::Cosign(0));
            let took = scene.publishes(before).await;
            assert!(took < BACK_WITHIN, "{which:?} away for {outage_s} s: {took:?}");
        }
    }
    scene.stop().await;
}

/// One witness too many in the policy, whatever it does, holds nothing up and is not asked in a storm.
#[tokio::test(flavor = "multi_thread")]
async fn one_witness_that_misbehaves_holds_nobody_up() {
    let scene = Scene::start().await;
    let larger = |size: u64| Does::Answer(409, format!("{size}\n"));
    let cases = [
        larger(5_000),
        larger(u64::MAX),
        Does::Answer(409, "99999999999999999999999\n".to_owned()),
        Does::Answer(422, String::new()),
        Does::Alternate,
        Does::Answer(200, "\u{2014} w4.example AAAA\n".to_owned()),
        Does::Answer(500, "\u{1b}[2J".to_owned()),
        Does::Cosign(365 * 86_400),
        Does::Cosign(-30 * 86_400),
        Does::Hang,
        Does::Drip,
        Does::Flood,
    ];
    for does in cases {
        scene.tell(&[3], &does);
        scene.witnesses[3].0.asked.lock().unwrap().clear();
        let began = Instant::now();
        for _ in 0..5 {
            let before = scene.size();
            scene.next_head();
            let took = scene.publishes(before).await;
            assert!(took < Duration::from_secs(3), "{does:?}: {took:?}");
        }
        let asked = scene.witnesses[3].0.asked.lock().unwrap().len();
        // Each new checkpoint may be tried twice at once; and then pauses grow.
        assert!(asked <= 15 + 2 * began.elapsed().as_secs() as usize, "{does:?} was asked {asked} times");
    }
    // And it is taken back as soon as it behaves.
    scene.tell(&[3], &Does::Cosign(0));
    scene.tell(&[0], &Does::Hang);
    let before = scene.size();
    scene.next_head();
    assert!(scene.publishes(before).await < BACK_WITHIN);
    scene.stop().await;
}

/// With one witness of four that lies, is silent, drips, answers hugely or has a wrong clock, a change is published about as soon as in a healthy
/// run: in the slowest of each hundred within twice the time.
///
/// Here it is a sample, and what this machine does besides is allowed for; `WAYMARK_WITNESS_CHANGES=100` says how many changes a case has,
/// and the figures are printed with `--nocapture`.
#[tokio::test(flavor = "multi_thread")]
async fn one_witness_that_misbehaves_slows_no_change_down() {
    let changes = std::env::var("WAYMARK_WITNESS_CHANGES").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let scene = Scene::start().await;
    let people = scene.people(10).await;
    let healthy = scene.slowest(&people, changes).await;
    println!("healthy: {healthy:?}");
    let cases = [
        Does::Hang,
        Does::Drip,
        Does::Flood,
        Does::Alternate,
        Does::Answer(409, "5000\n".to_owned()),
        Does::Cosign(365 * 86_400),
        Does::Answer(503, String::new()),
    ];
    for does in cases {
        scene.tell(&[3], &does);
        let took = scene.slowest(&people, changes).await;
        println!("{does:?}: {took:?}");
        assert!(took <= 2 * healthy + OTHER_WORK, "{does:?}: {took:?}, healthy {healthy:?}");
    }
    scene.stop().await;
}

/// A checkpoint by our own key that our log does not continue is proof: an old head was restored, or two programs sign. Nothing more is signed,
/// and the proof is told.
#[tokio::test(flavor = "multi_thread")]
async fn what_our_own_key_has_signed_and_our_log_does_not_continue_stops_it() {
    for (size, status) in [(1_000_000, 409), (3, 422)] {
        let scene = Scene::start().await;
        let checkpoint = Checkpoint::new(Origin::new("dp.example/log").unwrap(), size, Hash::sha256(&[b"another"]));
        let note = SignedCheckpoint::sign(checkpoint, &log_signer(&scene.dir())).to_note(&[]);
        *scene.witnesses[3].0.copy.lock().unwrap() = Copy::Text(note.clone());
        scene.tell(&[3], &Does::Answer(status, format!("{size}\n")));
        scene.next_head();
        let why = scene.stopped().await;
        assert!(why.contains("our own key has signed") && why.contains(&note), "{why}");
    }
}

/// A copy that somebody else has signed, or that our log does continue, is no proof: the witness's word alone stops nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_by_our_key_or_that_our_log_continues_proves_nothing() {
    let scene = Scene::start().await;
    let checkpoint = Checkpoint::new(Origin::new("dp.example/log").unwrap(), 77, Hash::sha256(&[b"x"]));
    let other = NoteSigner::new(KeyName::new("dp.example/log").unwrap(), key("somebody else"));
    let own = std::fs::read_to_string(scene.dir().join("log/checkpoint")).unwrap();
    for copy in [SignedCheckpoint::sign(checkpoint, &other).to_note(&[]), own, "no note".to_owned(), String::new()] {
        *scene.witnesses[3].0.copy.lock().unwrap() = Copy::Text(copy);
        scene.tell(&[3], &Does::Answer(409, "5000\n".to_owned()));
        let before = scene.size();
        scene.next_head();
        scene.publishes(before).await;
    }
    scene.stop().await;
}

/// Where so many witnesses say that they are ahead that no quorum is left, nothing could be published anyway.
#[tokio::test(flavor = "multi_thread")]
async fn so_many_refusals_that_no_quorum_is_left_stop_it() {
    let scene = Scene::start().await;
    scene.tell(&[2, 3], &Does::Answer(409, "5000\n".to_owned()));
    scene.next_head();
    let why = scene.stopped().await;
    assert!(why.contains("w3") && why.contains("w4") && why.contains("no quorum"), "{why}");
}

#[test]
fn a_note_of_a_stand_in_is_a_note() {
    let signer = Cosigner::new(KeyName::new("w.example").unwrap(), key("w"));
    let line = signer.cosign("dp.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n", UnixSeconds::new(1));
    assert!(Note::new("a\n".to_owned(), vec![line]).is_ok());
}

/// A clock that jumps while the DP runs dates no head that clients would refuse, and the log goes on as soon as the clock is right again.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_signs_nothing_of_the_future_and_waits_for_nothing() {
    let scene = Scene::start().await;
    let year_ms = 365 * 86_400_000;
    for jump_ms in [year_ms, -year_ms, 600_000, -600_000] {
        let (before, head) = (scene.size(), scene.head());
        // The witnesses' clocks stay right.
        let off_s = -jump_ms / 1000;
        scene.tell(&[0, 1, 2, 3], &Does::Cosign(off_s));
        scene.jump(jump_ms);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((scene.size(), scene.head()), (before, head), "nothing is signed, let alone published: {jump_ms}");
        scene.jump(-jump_ms);
        scene.tell(&[0, 1, 2, 3], &Does::Cosign(0));
        scene.next_head();
        let took = scene.publishes(before).await;
        assert!(took < BACK_WITHIN, "{jump_ms}: {took:?}");
    }
    scene.stop().await;
}

/// A machine that slept has a clock that is right and further on than it knows: the witnesses confirm it.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_the_witnesses_confirm_is_believed_however_far_on_it_is() {
    let scene = Scene::start().await;
    for slept_ms in [61_000, 86_400_000, 365 * 86_400_000] {
        let before = scene.size();
        scene.jump(slept_ms);
        let took = scene.publishes(before).await;
        assert!(took < BACK_WITHIN, "{slept_ms}: {took:?}");
    }
    scene.stop().await;
}

/// While it slept, another program may have signed with our key on a copy of the folder. So the witnesses are asked before anything is signed,
/// also when the clock is not yet further on than they would confirm.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_slept_for_some_seconds_signs_nothing_before_the_last_head_is_confirmed_again() {
    let scene = Scene::start().await;
    let people = scene.people(1).await;
    // A head that was signed and confirmed just now.
    scene.slowest(&people, 1).await;
    let head = scene.head();
    scene.tell(&[0, 1, 2, 3], &Does::Answer(503, String::new()));
    scene.clock.advance(10_000);
    let look = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let unconfirmed = scene.head();
        scene.tell(&[0, 1, 2, 3], &Does::Cosign(0));
        unconfirmed
    };
    let (unconfirmed, took) = tokio::join!(look, scene.slowest(&people, 1));
    assert_eq!(unconfirmed, head, "signed before it was asked whether anybody else did");
    assert!(took < Duration::from_secs(2) + BACK_WITHIN, "{took:?}");
    assert_ne!(scene.head(), head);
    scene.stop().await;
}

/// A witness that refuses, and then shows what the log has published meanwhile: that is our own log, and proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_checkpoint_of_our_own_log_is_no_proof_however_late_it_is_shown() {
    let scene = Scene::start().await;
    for refusal in [Does::Answer(422, String::new()), Does::Answer(409, "5000\n".to_owned())] {
        *scene.witnesses[3].0.copy.lock().unwrap() = Copy::Newer(scene.dir().join("log/checkpoint"));
        scene.tell(&[3], &refusal);
        for _ in 0..4 {
            let before = scene.size();
            scene.next_head();
            scene.publishes(before).await;
        }
    }
    scene.stop().await;
}
