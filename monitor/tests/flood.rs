//! A flood of junk watch-lists from one site: an honest list comes in at once, its alert in time, and memory stays small.
//!
//! Here with a few thousand lists. The whole flood, with figures: `WAYMARK_FLOOD=100000 cargo test -p waymark-monitor --release
//! --test flood -- --nocapture`.

mod world;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::Ipv6Addr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use waymark_log::{hash::Hash, key::SecretKey};
use waymark_mapping::{
    label::Label,
    request::{RECIPIENT_HEADER, RequestSignature},
    signed::SignedStruct,
    watch::{WATCH_LIST_MEDIA_TYPE, WatchId, WatchList},
    wire::List24,
};
use waymark_monitor::{NEW_LISTS, report::AlertsAnswer};
use waymark_runtime::clock::Clock;
use world::{Log, Web, label};

/// How many junk lists, unless `WAYMARK_FLOOD` says it.
const FLOOD: usize = 3000;
/// How many connections carry them.
const LINES: usize = 8;
/// How long a hit may be claimed here, in seconds.
const RENEW_WITHIN_S: u64 = 2;
/// Longest that an honest list may take to come in.
const TAKEN_MS_MAX: u128 = 1000;
/// Longest from the end of the time to claim to the alert: the pause of a tick, and a look at the log before.
const ALERT_MS_MAX: u128 = 3000;
/// Most memory of the monitor.
const RSS_KIB_MAX: u64 = 200 << 10;

/// One connection of a trusted proxy, which speaks for whomever it says.
struct Line(TcpStream);

impl Line {
    async fn new(url: &str) -> Self {
        Self(TcpStream::connect(url.trim_start_matches("http://")).await.unwrap())
    }

    /// Posts for a client with this address: status and body.
    async fn post(&mut self, path: &str, address: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {address}\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut answer = Vec::new();
        loop {
            let end = answer.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
            if let Some(end) = end {
                let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
                let length =
                    head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |l| l.parse().unwrap());
                if answer.len() >= end + length {
                    return (head[9..12].parse().unwrap(), answer.split_off(end));
                }
            }
            assert!(self.0.read_buf(&mut answer).await.unwrap() > 0, "the monitor has closed the connection");
        }
    }

    async fn hand_in(&mut self, address: &str, list: &WatchList) -> (u16, String) {
        let media_type = format!("content-type: {WATCH_LIST_MEDIA_TYPE}\r\n");
        let (status, body) = self.post("/v1/watch-lists", address, &media_type, &list.encode()).await;
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        (status, problem["code"].as_str().unwrap_or_default().to_owned())
    }

    async fn alerts(&mut self, address: &str, log: &Log, list: &WatchList, holder: &SecretKey) -> AlertsAnswer {
        let request = serde_json::json!({"log": log.origin.as_str(), "list": hex(&list.id)});
        let (body, to) = (serde_json::to_vec(&request).unwrap(), ("POST", "/v1/alerts"));
        let signature = RequestSignature::sign(&log.origin, holder, to, &body, Clock::System.now(), [1; 16]).format();
        let headers = format!("content-type: application/json\r\n{RECIPIENT_HEADER}: {signature}\r\n");
        let (status, body) = self.post("/v1/alerts", address, &headers, &body).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }
}

fn hex(id: &WatchId) -> String {
    id.0.iter().map(|b| format!("{b:02x}")).collect()
}

/// The `i`th junk list and the address that it comes from, always the same: one /48, any of its /64s.
fn junk(base: &WatchList, log: &Log, logged: Label, i: usize) -> (String, WatchList) {
    let drawn = Hash::sha256(&[b"junk", &i.to_be_bytes()]);
    let bytes = drawn.as_bytes();
    let holder = SecretKey::from_seed(bytes);
    // Every second one watches for what everybody sees in the log.
    let label = if bytes[0].is_multiple_of(2) { logged } else { Label(Hash::sha256(&[b"nobody's", bytes])) };
    let mut list = WatchList { holder: holder.public(), labels: List24::new(vec![label]).unwrap(), ..base.clone() };
    list.id = WatchId(bytes[..16].try_into().unwrap());
    list.sign(&log.origin, &holder);
    let rest = u128::from_be_bytes([&[0; 6][..], &bytes[..10]].concat().try_into().unwrap());
    (Ipv6Addr::from_bits((0x2001_0db8_0001 << 80) | rest).to_string(), list)
}

/// Sends so many junk lists, and says how often each answer came.
async fn flood(url: String, log: Log, logged: Label, sent: Arc<AtomicUsize>, max: usize) -> BTreeMap<String, usize> {
    let base = log.list(0, Clock::System.now().get(), &[], None);
    let (mut line, mut answers) = (Line::new(&url).await, BTreeMap::new());
    loop {
        let i = sent.fetch_add(1, Ordering::Relaxed);
        if i >= max {
            return answers;
        }
        let (address, list) = junk(&base, &log, logged, i);
        let (status, code) = line.hand_in(&address, &list).await;
        *answers.entry(format!("{status} {code}")).or_default() += 1;
    }
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waymark-monitor"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// A monitor behind a proxy on this machine.
fn start(dir: &Path, trust: &Path, log_url: &str) -> (Child, String) {
    let (dir_text, trust) = (dir.to_str().unwrap(), trust.to_str().unwrap());
    let seconds = RENEW_WITHIN_S.to_string();
    let init = ["init", "--dir", dir_text, "--trust", trust, "--log-url", log_url, "--listen", "127.0.0.1:0"];
    let more = ["--operations", "127.0.0.1:0", "--poll-ms", "100", "--renew-within-s", &seconds];
    assert!(program(&[&init[..], &more].concat()).status().unwrap().success());
    let config = dir.join("monitor.toml");
    let made = fs::read_to_string(&config).unwrap();
    let proxied = made.replace("# trusted_proxies = []", "trusted_proxies = [\"127.0.0.1\"]");
    assert_ne!(proxied, made);
    fs::write(&config, proxied).unwrap();
    let mut child = program(&["run", "--dir", dir_text]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let url = serde_json::from_str::<Value>(&line).unwrap()["url"].as_str().unwrap().to_owned();
    // What it tells is read, or it would wait for its reader.
    std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(drop));
    (child, url)
}

/// Most memory that the process ever had, in KiB, where the system tells.
fn rss_kib(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

async fn status(url: &str) -> Value {
    let fetched = waymark_runtime::fetch::Fetcher::default().get(&format!("{url}/status"), 1 << 20).await.unwrap();
    serde_json::from_slice(&fetched.body).unwrap()
}

/// Waits until a monitor's status is as expected, for half a minute.
async fn until(url: &str, what: impl Fn(&Value) -> bool) {
    for _ in 0..600 {
        if what(&status(url).await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the status did not become as expected: {}", status(url).await);
}

/// The flood begins, an honest list comes, what it watches for is logged, and the alert is raised, all the while.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_junk_lists_from_one_site_shuts_nobody_else_out() {
    let max = std::env::var("WAYMARK_FLOOD").ok().map_or(FLOOD, |n| n.parse().expect("WAYMARK_FLOOD is a number"));
    let mut log = Log::new("dp.example/log", Clock::System.now().get() - 2000);
    log.grow(16, &[label("logged")]);
    let (web, folder) = (Web::new().await, tempfile::tempdir().unwrap());
    web.publish("log", &log);
    let (trust, dir) = (folder.path().join("trust.toml"), folder.path().join("m"));
    fs::write(&trust, log.trust_text()).unwrap();
    let (mut child, url) = start(&dir, &trust, &web.url("log"));
    until(&url, |s| s["logs"][0]["verified_size"] == log.size()).await;

    let (begun, sent) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let lines = (0..LINES).map(|_| flood(url.clone(), log.clone(), label("logged"), Arc::clone(&sent), max));
    let floods: Vec<_> = lines.map(tokio::spawn).collect();
    while sent.load(Ordering::Relaxed) < max / 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut honest = Line::new(&url).await;
    let (address, holder) = ("2001:db9::1", world::secret("holder 1"));
    let list = log.list(1, Clock::System.now().get(), &[label("honest")], None);
    let handed_in = Instant::now();
    assert_eq!(honest.hand_in(address, &list).await, (204, String::new()));
    let taken_ms = handed_in.elapsed().as_millis();
    log.now = Clock::System.now().get() - 1000;
    log.grow(16, &[label("honest")]);
    web.publish("log", &log);
    let logged = Instant::now();
    let mut told = honest.alerts(address, &log, &list, &holder).await;
    while told.alerts.is_empty() && logged.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(600)).await;
        told = honest.alerts(address, &log, &list, &holder).await;
    }
    let raised_ms = logged.elapsed().as_millis().saturating_sub(1000 * u128::from(RENEW_WITHIN_S));
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for flood in floods {
        for (answer, count) in flood.await.unwrap() {
            *answers.entry(answer).or_default() += count;
        }
    }
    let (flood_s, rss) = (begun.elapsed().as_secs_f64(), rss_kib(&child));
    println!("{max} junk lists in {flood_s:.1} s: {answers:?}");
    println!(
        "an honest list came in after {taken_ms} ms, its alert {raised_ms} ms after the time to claim; at most {rss:?} KiB"
    );

    assert_eq!((told.raised, told.alerts.len()), (1, 1), "the alert of the honest list");
    assert_eq!(told.alerts[0].entry, Some(log.find(label("honest")).0));
    assert!(taken_ms < TAKEN_MS_MAX && raised_ms < ALERT_MS_MAX, "{taken_ms} ms, {raised_ms} ms");
    assert!(rss.is_none_or(|kib| kib < RSS_KIB_MAX), "{rss:?} KiB");
    // At midnight the site may come once more.
    let taken = answers.get("204 ").copied().unwrap_or_default();
    assert!(taken > 0 && taken <= 2 * NEW_LISTS.day.site as usize, "{answers:?}");
    assert!(
        answers.keys().all(|a| ["204 ", "422 watch-list-logged", "429 too-many-requests"].contains(&&a[..])),
        "{answers:?}"
    );
    let after = status(&url).await;
    assert_eq!((&after["watch_lists"], &after["alerts"]["unexpected"]), (&(taken + 1).into(), &1.into()));
    child.kill().unwrap();
    child.wait().unwrap();
}
