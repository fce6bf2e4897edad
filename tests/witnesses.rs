//! Publishing goes on whatever some of the witnesses do: away, silent, lying, answering hugely, with a wrong clock. What stops it is proof that
//! our own key has signed what our log does not continue, or too few witnesses that are left.
//!
//! The witnesses here are stand-ins that judge as the specification says and cosign by the test's clock, unless they are told to do something else.
//!
//! Two variables make these tests long: `WAYMARK_WITNESS_OUTAGE_S` (seconds of real time that an outage lasts, for
//! `however_witnesses_were_away_publishing_goes_on_in_time_once_a_quorum_is_back`) and `WAYMARK_WITNESS_CHANGES` (changes of each case, for
//! `one_witness_that_misbehaves_slows_no_change_down`).

mod common;

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
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
use common::{QUIET, Stage, csi, domain, key, loopback, until};
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
    witness::{AddCheckpoint, Head, Refusal, decide},
};
use waymark_mapping::{entry::ProviderRole, event::EventKind, identifier::Csi, mapping::Attestation, trust::Trust};
use waymark_runtime::{clock::Clock, fetch::Fetcher, keyfile};

/// How soon publishing goes on once there is a quorum again.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Once a witness was asked so often for nothing, the pauses between are the longest.
const TRIES_TO_THE_LONGEST_PAUSE: usize = 5;

/// How often changes are timed beside a witness that misbehaves, if something else keeps the machine busy.
const TRIES_ON_A_BUSY_MACHINE: usize = 3;

/// All stand-ins.
const ALL: [usize; 4] = [0, 1, 2, 3];

/// How far a clock jumps, in milliseconds: a year, and more than what is allowed.
const JUMPS_MS: [i64; 4] = [365 * 86_400_000, -365 * 86_400_000, 600_000, -600_000];

/// The longest that it is looked whether something is published that should not be.
const NOTHING_FOR: Duration = Duration::from_secs(1);

/// What a stand-in does when it is asked for a cosignature.
#[derive(Clone, Debug)]
enum Does {
    /// Cosigns, with this many seconds between its clock and the test's.
    Cosign(i64),
    /// Answers with this status and body.
    Answer(u16, String),
    /// Says first one size and then the other.
    Alternate,
    /// Does so, but only after a while.
    Late(Duration, Box<Self>),
    /// Cosigns a tree up to this size, and does something else with a larger one.
    Beyond(u64, Box<Self>),
    /// Takes the request, waits until that other stand-in is asked for a larger checkpoint, is handed that one by it, and
    /// answers as the specification says.
    Overtaken(usize),
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
    /// It takes the request and never answers.
    Hang,
    /// What lies in this file, as soon as that is something newer than when it was asked.
    Newer(PathBuf),
}

struct StandIn {
    cosigner: Cosigner,
    clock: Clock,
    /// The key of the log, once there is one.
    log: Arc<OnceLock<Vkey>>,
    /// What it has cosigned last.
    head: Mutex<Option<Head>>,
    does: Mutex<Does>,
    /// What it shows as its copy, if anything.
    copy: Mutex<Copy>,
    asked: Mutex<Vec<Instant>>,
    place: usize,
    notes: Notes,
}

/// The largest checkpoint that each stand-in was asked for: its head and its note.
type Notes = Arc<Mutex<[Option<(Head, String)>; 4]>>;

impl StandIn {
    fn cosign(&self, body: &[u8], off_s: i64) -> Response {
        let (request, keys) = (AddCheckpoint::parse(body).unwrap(), self.log.get().map(std::slice::from_ref));
        let mut head = self.head.lock().unwrap();
        match decide(*head, &request, keys) {
            Ok(advance) => *head = Some(advance.to),
            Err(Refusal::Conflict { size }) => return (StatusCode::CONFLICT, format!("{size}\n")).into_response(),
            Err(refusal) => return StatusCode::from_u16(refusal.status()).unwrap().into_response(),
        }
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

impl StandIn {
    /// Notes which checkpoint it is asked for.
    fn hear(&self, body: &[u8]) {
        let request = AddCheckpoint::parse(body).unwrap();
        let asked = request.checkpoint().unwrap();
        let head = Head { size: asked.size, root: asked.root };
        let mut notes = self.notes.lock().unwrap();
        if notes[self.place].as_ref().is_none_or(|(before, _)| before.size < head.size) {
            notes[self.place] = Some((head, request.note.format()));
        }
    }

    /// Waits until another one is asked for more than this one was, and takes that as cosigned.
    async fn be_overtaken_by(&self, other: usize) {
        for _ in 0..400 {
            let notes = self.notes.lock().unwrap().clone();
            let own = notes[self.place].as_ref().map_or(0, |(head, _)| head.size);
            if let Some((head, note)) = notes[other].clone().filter(|(head, _)| head.size > own) {
                *self.head.lock().unwrap() = Some(head);
                *self.copy.lock().unwrap() = Copy::Text(note);
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn add_checkpoint(State(w): State<Arc<StandIn>>, body: Bytes) -> Response {
    w.asked.lock().unwrap().push(Instant::now());
    w.hear(&body);
    let mut does = w.does.lock().unwrap().clone();
    if let Does::Late(after, then) = does {
        tokio::time::sleep(after).await;
        does = *then;
    }
    if let Does::Beyond(size, then) = does {
        let asked = AddCheckpoint::parse(&body).unwrap().checkpoint().unwrap();
        does = if asked.size > size { *then } else { Does::Cosign(0) };
    }
    if let Does::Overtaken(other) = does {
        w.be_overtaken_by(other).await;
        does = Does::Cosign(0);
        *w.does.lock().unwrap() = does.clone();
    }
    match does {
        Does::Cosign(off_s) => w.cosign(&body, off_s),
        Does::Answer(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Does::Alternate => {
            let odd = w.asked.lock().unwrap().len() % 2;
            (StatusCode::CONFLICT, format!("{odd}\n")).into_response()
        }
        Does::Hang | Does::Late(..) | Does::Beyond(..) | Does::Overtaken(_) => std::future::pending().await,
        Does::Drip => Body::new(Drip(tokio::time::interval(Duration::from_millis(50)))).into_response(),
        Does::Flood => "x".repeat(1 << 20).into_response(),
    }
}

async fn checkpoint(State(w): State<Arc<StandIn>>) -> Response {
    let copy = w.copy.lock().unwrap().clone();
    match copy {
        Copy::Nothing => StatusCode::NOT_FOUND.into_response(),
        Copy::Text(text) => text.into_response(),
        Copy::Hang => std::future::pending().await,
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

/// A clock that goes as the system's does. Tests move it on, which lets time pass, or set it.
fn going() -> (Clock, JoinHandle<()>) {
    let clock = Clock::settable(Clock::System.now().get());
    let (moved, began) = (clock.clone(), Instant::now());
    let goes = tokio::spawn(async move {
        let (mut every, mut passed_ms) = (tokio::time::interval(Duration::from_millis(5)), 0);
        loop {
            every.tick().await;
            let now_ms = began.elapsed().as_millis() as u64;
            moved.advance(now_ms - passed_ms);
            passed_ms = now_ms;
        }
    });
    (clock, goes)
}

/// The figure that so many in a hundred do not exceed; `sorted` begins with the smallest.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// A DP with four stand-ins, three of which are a quorum.
struct Scene {
    root: TempDir,
    witnesses: Vec<(Arc<StandIn>, JoinHandle<()>)>,
    dp: Option<dp::Running>,
    clock: Clock,
    goes: JoinHandle<()>,
}

impl Scene {
    async fn start() -> Self {
        let (root, (clock, goes)) = (tempfile::tempdir().unwrap(), going());
        let (mut witnesses, mut lines, log) = (vec![], vec![], Arc::default());
        let notes = Notes::default();
        for i in 1..=4 {
            let (name, secret) = (KeyName::new(&format!("w{i}.example")).unwrap(), key(&format!("w{i}")));
            let vkey = Vkey::new(name.clone(), Role::Witness, secret.public());
            let stand_in = Arc::new(StandIn {
                cosigner: Cosigner::new(name, secret),
                clock: clock.clone(),
                log: Arc::clone(&log),
                head: Mutex::default(),
                does: Mutex::new(Does::Cosign(0)),
                copy: Mutex::default(),
                asked: Mutex::default(),
                place: i - 1,
                notes: Arc::clone(&notes),
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
        let new = init::NewDp { file: common::dp_file(), witnesses: lines, quorum: 3 };
        log.set(init::init(&dir, &new, &clock).unwrap()).unwrap();
        submit(&dir, QUIET);
        let mut scene = Self { root, witnesses, dp: None, clock, goes };
        scene.run().await;
        scene
    }

    async fn run(&mut self) {
        self.start_dp().await;
        // Nothing waits in the pool any more: from here on heads are made when one falls due.
        until("the providers' entries", async || self.knows("dp.example") && self.knows(QUIET)).await;
    }

    async fn start_dp(&mut self) {
        let settings = Settings::load(&self.dir()).unwrap();
        self.dp = Some(dp::start(settings, self.clock.clone()).await.unwrap());
    }

    async fn stop_dp(&mut self) {
        self.dp.take().unwrap().stop().await.unwrap();
    }

    fn knows(&self, name: &str) -> bool {
        self.dp.as_ref().unwrap().knows_provider(&domain(name))
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

    /// How often a stand-in was asked.
    fn asked(&self, which: usize) -> usize {
        self.witnesses[which].0.asked.lock().unwrap().len()
    }

    /// Waits until a stand-in is asked, so many times from now on.
    async fn is_asked(&self, which: usize, times: usize) {
        let before = self.asked(which);
        until("a witness to be asked", async || self.asked(which) >= before + times).await;
    }

    /// Makes a head fall due.
    fn next_head(&self) {
        self.clock.advance(61_000);
    }

    /// Sets the DP's clock on or back, while the witnesses' stay as they are.
    fn jump(&self, by_ms: i64) {
        self.tell(&ALL, &Does::Cosign(-by_ms / 1000));
        self.clock.set(by_ms);
    }

    /// Sets the DP's clock right again.
    fn jump_back(&self, by_ms: i64) {
        self.clock.set(-by_ms);
        self.tell(&ALL, &Does::Cosign(0));
    }

    async fn operations(&self, path: &str) -> String {
        let url = format!("{}/{path}", self.dp.as_ref().unwrap().operations_url().unwrap());
        String::from_utf8(Fetcher::default().get(&url, 1 << 20).await.unwrap().body).unwrap()
    }

    /// Waits until the DP says that it is not ready, for this reason.
    async fn says(&self, code: &str) {
        let code = format!("\"code\":\"{code}\"");
        let says = async || self.operations("readyz").await.replace(": ", ":").contains(&code);
        until(&format!("{code} in readyz"), says).await;
    }

    /// How old the published head and its cosignatures are by the metrics, in seconds.
    async fn ages_s(&self) -> Vec<f64> {
        let metrics = self.operations("metrics").await;
        let is_age = |line: &&str| line.starts_with("waymark_c") && line.contains("_age_seconds");
        metrics.lines().filter(is_age).map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect()
    }

    /// Whether senders believe what the DP answers now; panics if they do not.
    async fn is_believed(&self) {
        let trust = Trust::parse(&std::fs::read_to_string(self.dir().join(names::TRUST)).unwrap()).unwrap();
        common::look_up(&self.client(), &trust, &csi("tel:+4930999999"), None).await;
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

    /// How long each of so many changes takes from the request until it is published, the quickest first.
    async fn changes(&self, people: &[Person], count: usize) -> Vec<Duration> {
        let trust = std::fs::read_to_string(self.dir().join(names::TRUST)).unwrap();
        let (trust, dp) = (Trust::parse(&trust).unwrap(), self.client());
        let mut took = vec![];
        for Person { secret, who, attestation } in people.iter().cycle().take(count) {
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
            took.push(began.elapsed());
        }
        took.sort();
        took
    }

    /// The slowest of so many changes.
    async fn slowest(&self, people: &[Person], count: usize) -> Duration {
        self.changes(people, count).await.pop().unwrap()
    }

    async fn stop(mut self) {
        self.stop_dp().await;
        self.witnesses.iter().for_each(|(_, task)| task.abort());
        self.goes.abort();
    }

    /// Why the sequencer has stopped.
    async fn stopped(&self) -> String {
        let stopped = self.dp.as_ref().unwrap().stopped();
        tokio::time::timeout(BACK_WITHIN, stopped).await.expect("it goes on")
    }
}

/// Puts a provider's entry where the DP takes it up.
fn submit(dir: &Path, name: &str) {
    let entry = init::provider_entry(&domain(name), ProviderRole::MSP, false, 1, &common::origin(), &key(name));
    onboarding::submit(dir, &entry).unwrap();
}

/// A checkpoint of another tree, signed by the log's own key.
fn another_tree(dir: &Path, size: u64) -> String {
    let checkpoint = Checkpoint::new(common::origin(), size, Hash::sha256(&[b"another"]));
    SignedCheckpoint::sign(checkpoint, &log_signer(dir)).to_note(&[])
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

/// The same with the longest pauses and answers that come as late as they may. The witness turns honest just after it has taken a request that it
/// will not answer well: from there on it takes as long as it ever can.
#[tokio::test(flavor = "multi_thread")]
async fn however_witnesses_were_away_publishing_goes_on_in_time_once_a_quorum_is_back() {
    let (away, late) = (Does::Answer(503, String::new()), Duration::from_millis(3_700));
    let larger = Does::Answer(409, "5000\n".to_owned());
    // What the witness does that comes back, to how many requests, and the others that are away.
    let cases = [
        (away.clone(), 1, &[3][..]),
        (Does::Hang, 1, &[3]),
        (Does::Hang, 1, &[0, 1, 3]),
        (Does::Drip, 1, &[3]),
        (Does::Late(late, Box::new(away.clone())), 1, &[1, 3]),
        // It says that it is ahead, and keeps the copy back that would show it.
        (larger.clone(), 1, &[3]),
        (Does::Late(late, Box::new(larger)), 1, &[3]),
        (Does::Late(late, Box::new(Does::Answer(422, String::new()))), 1, &[3]),
        // It names one size after the other, and is asked twice before each pause.
        (Does::Alternate, 2, &[3]),
        (Does::Late(late, Box::new(Does::Alternate)), 1, &[3]),
        (Does::Late(late, Box::new(Does::Alternate)), 2, &[3]),
    ];
    // All at once, since they mostly wait.
    let outages = tokio::task::LocalSet::new();
    let outage = |(does, times, others)| outages.spawn_local(comes_back(does, times, others, away.clone()));
    let ends = cases.map(outage);
    outages.await;
    for end in ends {
        end.await.unwrap();
    }
}

/// An outage of witness 2 that `does` this and of others, until it alone turns honest and two of them.
async fn comes_back(does: Does, times: usize, others: &'static [usize], away: Does) {
    let outage_s = std::env::var("WAYMARK_WITNESS_OUTAGE_S").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let scene = Scene::start().await;
    scene.tell(others, &away);
    scene.tell(&[2], &away);
    let before = scene.size();
    scene.next_head();
    scene.is_asked(2, TRIES_TO_THE_LONGEST_PAUSE).await;
    *scene.witnesses[2].0.copy.lock().unwrap() = Copy::Hang;
    scene.tell(&[2], &does);
    tokio::time::sleep(Duration::from_secs(outage_s)).await;
    scene.is_asked(2, times).await;
    assert_eq!(scene.size(), before, "without a quorum");
    // Whoever else is needed has been there for long.
    let back: Vec<usize> = [2].into_iter().chain(others[1..].iter().copied()).collect();
    scene.tell(&back, &Does::Cosign(0));
    let took = scene.publishes(before).await;
    println!("{does:?} with {others:?} away: {took:?}");
    assert!(took < BACK_WITHIN, "{does:?} with {others:?} away: {took:?}");
    scene.stop().await;
}

/// A witness that lies holds up no start either, the second as little as the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_beside_a_witness_that_lies_publishes() {
    let mut scene = Scene::start().await;
    *scene.witnesses[3].0.copy.lock().unwrap() = Copy::Hang;
    let larger = |size: u64| Does::Answer(409, format!("{size}\n"));
    for does in [larger(5_000), larger(u64::MAX), Does::Answer(422, String::new()), Does::Alternate, Does::Hang] {
        scene.tell(&[3], &does);
        for _ in 0..2 {
            let began = Instant::now();
            scene.stop_dp().await;
            scene.run().await;
            let before = scene.size();
            scene.next_head();
            scene.publishes(before).await;
            assert!(began.elapsed() < BACK_WITHIN, "{does:?}: {:?}", began.elapsed());
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
/// run: within twice the time for ninety-nine changes in a hundred.
///
/// `WAYMARK_WITNESS_CHANGES=100` says how many changes a case has, and the figures are printed with `--nocapture`. With fewer than a hundred it is
/// a sample, where the slowest says more about the machine than about us: then the median counts.
#[tokio::test(flavor = "multi_thread")]
async fn one_witness_that_misbehaves_slows_no_change_down() {
    let changes = std::env::var("WAYMARK_WITNESS_CHANGES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let is_sample = changes < 100;
    let percent = if is_sample { 50 } else { 99 };
    let scene = Scene::start().await;
    let people = scene.people(10).await;
    let healthy = percentile(&scene.changes(&people, changes).await, percent);
    println!("healthy: {healthy:?} (P{percent} of {changes})");
    let cases = [
        Does::Hang,
        Does::Drip,
        Does::Flood,
        Does::Alternate,
        Does::Answer(409, "5000\n".to_owned()),
        Does::Answer(422, String::new()),
        Does::Cosign(365 * 86_400),
        Does::Cosign(-30 * 86_400),
        Does::Answer(503, String::new()),
    ];
    for does in cases {
        scene.tell(&[3], &does);
        let (mut took, mut tries) = (Duration::MAX, 0);
        // For what a machine does besides, on which all other tests run. And what slows changes down does so each time.
        let besides = if is_sample { healthy / 2 } else { Duration::ZERO };
        while took > 2 * healthy + besides {
            assert!(tries < TRIES_ON_A_BUSY_MACHINE, "{does:?}: {took:?}, healthy {healthy:?}");
            took = percentile(&scene.changes(&people, changes).await, percent);
            println!("{does:?}: {took:?}");
            tries += 1;
        }
    }
    scene.stop().await;
}

/// A checkpoint by our own key that our log does not continue is proof: an old head was restored, or two programs sign. Nothing more is signed,
/// and the proof is told.
#[tokio::test(flavor = "multi_thread")]
async fn what_our_own_key_has_signed_and_our_log_does_not_continue_stops_it() {
    for (size, status) in [(1_000_000, 409), (3, 422)] {
        let scene = Scene::start().await;
        let note = another_tree(&scene.dir(), size);
        *scene.witnesses[3].0.copy.lock().unwrap() = Copy::Text(note.clone());
        scene.tell(&[3], &Does::Answer(status, format!("{size}\n")));
        scene.next_head();
        let why = scene.stopped().await;
        assert!(why.contains("our own key has signed") && why.contains(&note), "{why}");
    }
}

/// The same where the other tree has just as many entries: a witness at the same size that shows another root.
#[tokio::test(flavor = "multi_thread")]
async fn another_root_at_the_same_size_by_our_own_key_is_proof() {
    let scene = Scene::start().await;
    // A head is one entry.
    let (old, new) = (scene.size(), scene.size() + 1);
    let note = another_tree(&scene.dir(), new);
    *scene.witnesses[3].0.copy.lock().unwrap() = Copy::Text(note.clone());
    scene.tell(&[3], &Does::Beyond(old, Box::new(Does::Answer(409, format!("{new}\n")))));
    scene.next_head();
    let why = scene.stopped().await;
    let both = [format!("keeps a checkpoint of {new} entries"), format!("our log of {new} entries"), note];
    assert!(both.iter().all(|what| why.contains(what)), "{why}");
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

/// Where so many witnesses say that our log does not continue theirs that no quorum is left, nothing could be published anyway.
#[tokio::test(flavor = "multi_thread")]
async fn so_many_refusals_that_no_quorum_is_left_stop_it() {
    let (larger, other) = (Does::Answer(409, "5000\n".to_owned()), Does::Answer(422, String::new()));
    for (third, fourth) in [(&larger, &larger), (&other, &other), (&larger, &other)] {
        let scene = Scene::start().await;
        // One of them alone is no reason.
        scene.tell(&[3], fourth);
        let before = scene.size();
        scene.next_head();
        scene.publishes(before).await;
        scene.tell(&[2], third);
        scene.next_head();
        let why = scene.stopped().await;
        assert!(why.contains("w3") && why.contains("w4") && why.contains("no quorum"), "{why}");
    }
}

/// A refusal counts as long as the witness stands by it. One that is merely away afterwards could be part of a quorum again.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_a_witness_does_not_repeat_stops_nothing() {
    let (scene, away) = (Scene::start().await, Does::Answer(503, String::new()));
    scene.tell(&[2], &Does::Answer(422, String::new()));
    scene.tell(&[3], &away);
    let before = scene.size();
    scene.next_head();
    scene.is_asked(2, 2).await;
    scene.tell(&[2], &away);
    scene.is_asked(2, 2).await;
    scene.tell(&[3], &Does::Answer(422, String::new()));
    scene.is_asked(3, 2).await;
    scene.tell(&[2], &Does::Cosign(0));
    let took = scene.publishes(before).await;
    assert!(took < BACK_WITHIN, "{took:?}");
    scene.stop().await;
}

/// A request that is on its way while a liar hands the same witness our newer checkpoint: the witness rightly says that it is ahead.
#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_was_handed_our_newer_checkpoint_meanwhile_refuses_nothing() {
    let scene = Scene::start().await;
    let before = scene.size();
    // The fourth lies about everything that is new; the second is slow, and honest. It is asked to confirm the last head first.
    scene.tell(&[3], &Does::Beyond(before, Box::new(Does::Answer(422, String::new()))));
    scene.tell(&[1], &Does::Overtaken(3));
    scene.next_head();
    let took = scene.publishes(before).await;
    assert!(took < BACK_WITHIN, "{took:?}");
    let before = scene.size();
    scene.next_head();
    scene.publishes(before).await;
    scene.stop().await;
}

#[test]
fn a_note_of_a_stand_in_is_a_note() {
    let signer = Cosigner::new(KeyName::new("w.example").unwrap(), key("w"));
    let line = signer.cosign("dp.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n", UnixSeconds::new(1));
    assert!(Note::new("a\n".to_owned(), vec![line]).is_ok());
}

/// A clock that jumps while the DP runs dates no head that clients would refuse, whether something waits to be logged or not. The operator is told,
/// and the log goes on as soon as the clock is right again.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_signs_nothing_of_the_future_and_waits_for_nothing() {
    let scene = Scene::start().await;
    for (i, jump_ms) in JUMPS_MS.into_iter().enumerate() {
        for waits in [None, Some(format!("waits{i}.example"))] {
            let (before, head) = (scene.size(), scene.head());
            scene.jump(jump_ms);
            waits.iter().for_each(|name| submit(&scene.dir(), name));
            if jump_ms < 0 {
                scene.says("head-of-the-future").await;
                let ages_s = scene.ages_s().await;
                assert!(ages_s.len() >= 4 && ages_s.iter().all(|age_s| *age_s < 0.0), "{ages_s:?}");
            }
            if jump_ms > 0 || waits.is_some() {
                scene.says("clock").await;
            }
            tokio::time::sleep(NOTHING_FOR).await;
            assert_eq!(
                (scene.size(), scene.head()),
                (before, head),
                "nothing is signed, let alone published: {jump_ms}"
            );
            scene.jump_back(jump_ms);
            scene.next_head();
            let took = scene.publishes(before).await;
            assert!(took < BACK_WITHIN, "{jump_ms}: {took:?}");
            if let Some(name) = waits {
                until("what has waited to be logged", async || scene.knows(&name)).await;
            }
            scene.is_believed().await;
        }
    }
    let ready = async || !scene.operations("readyz").await.contains("code");
    until("nothing to be amiss any more", ready).await;
    scene.stop().await;
}

/// A change was signed, and while it waits for its cosignatures the clock jumps: it is published, and whoever asked for it is told, once the clock
/// is right again.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_between_signing_and_cosigning_publishes_the_change_once_it_is_right() {
    let scene = Scene::start().await;
    let people = scene.people(1).await;
    for jump_ms in JUMPS_MS {
        let (before, head) = (scene.size(), scene.head());
        scene.tell(&ALL, &Does::Beyond(before, Box::new(Does::Answer(503, String::new()))));
        let jumps = async {
            until("the change to be signed", async || scene.head() != head).await;
            let head = scene.head();
            scene.jump(jump_ms);
            scene.says("clock").await;
            assert_eq!((scene.size(), scene.head()), (before, head), "published, or signed again: {jump_ms}");
            scene.jump_back(jump_ms);
            Instant::now()
        };
        let (_, right) = tokio::join!(scene.slowest(&people, 1), jumps);
        assert!(right.elapsed() < BACK_WITHIN, "{jump_ms}: {:?}", right.elapsed());
        scene.is_believed().await;
    }
    scene.stop().await;
}

/// A DP that is started with a wrong clock signs nothing and publishes nothing, says why, and goes on once the clock is right, without another start.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_at_a_start_signs_nothing_and_waits_for_nothing() {
    let mut scene = Scene::start().await;
    for jump_ms in JUMPS_MS {
        let (before, head) = (scene.size(), scene.head());
        scene.stop_dp().await;
        scene.jump(jump_ms);
        scene.start_dp().await;
        scene.says("clock").await;
        tokio::time::sleep(NOTHING_FOR).await;
        // What was published before is served if it is still good by this clock; nothing else is.
        assert!(scene.size() == 0 || scene.size() == before, "{jump_ms}");
        assert_eq!(scene.head(), head, "signed: {jump_ms}");
        scene.jump_back(jump_ms);
        scene.next_head();
        let took = scene.publishes(before).await;
        assert!(took < BACK_WITHIN, "{jump_ms}: {took:?}");
        scene.is_believed().await;
    }
    scene.stop().await;
}

/// On one machine the DP's clock and the witnesses' jump together. Neither is believed, nothing is dated wrongly, and nobody waits afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_under_a_dp_and_its_witnesses_alike_dates_nothing_and_waits_for_nothing() {
    let (clock, goes) = going();
    let stage = Stage::with(3, &clock, |_| {}).await;
    let state = || (stage.dp.published_size(), std::fs::read(stage.root.path().join("dp").join(names::HEAD)).unwrap());
    for jump_ms in JUMPS_MS {
        let before = state();
        clock.set(jump_ms);
        tokio::time::sleep(NOTHING_FOR).await;
        assert_eq!(state(), before, "{jump_ms}");
        clock.set(-jump_ms);
        for _ in 0..2 {
            let (began, before) = (Instant::now(), stage.dp.published_size());
            // Until senders believe what it answers.
            stage.pass(61_000).await;
            until("another head", async || stage.dp.published_size() > before).await;
            assert!(began.elapsed() < BACK_WITHIN, "{jump_ms}: {:?}", began.elapsed());
        }
    }
    stage.stop().await;
    goes.abort();
}

/// A machine that slept has a clock that is right and further on than it knows: the witnesses confirm it.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_the_witnesses_confirm_is_believed_however_far_on_it_is() {
    let scene = Scene::start().await;
    for slept_ms in [61_000, 86_400_000, 365 * 86_400_000] {
        let before = scene.size();
        scene.clock.set(slept_ms);
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
