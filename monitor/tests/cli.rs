//! The program from outside: its commands, what it prints where, its exit codes.

mod world;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use waymark_log::hash::Hash;
use waymark_runtime::clock::Clock;
use world::{Log, Web, label};

/// A log that is fresh by the system's clock, and its files.
struct Site {
    log: Log,
    web: Web,
    folder: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        let log = Log::new("dp.example/log", now() - 1000);
        let (web, folder) = (Web::new().await, tempfile::tempdir().unwrap());
        web.publish("log", &log);
        web.put_copies(&log);
        fs::write(folder.path().join("trust.toml"), log.trust_text()).unwrap();
        Self { log, web, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn init(&self, name: &str) -> Output {
        let (dir, trust) = (self.path(name), self.path("trust.toml"));
        let (log, w1, w2) = (self.web.url("log"), self.web.url("w1"), self.web.url("w2"));
        let witnesses = [format!("--witness-url=w1={w1}"), format!("--witness-url=w2={w2}")];
        let args = ["init", "--dir", text(&dir), "--trust", text(&trust), "--log-url", &log, "--poll-ms", "50"];
        program(
            &[&args[..], &["--listen", "127.0.0.1:0", "--operations", "127.0.0.1:0", &witnesses[0], &witnesses[1]]]
                .concat(),
        )
        .await
    }
}

fn now() -> u64 {
    Clock::System.now().get()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs the program to its end, off the threads that serve it.
async fn program(args: &[&str]) -> Output {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    let run = move || Command::new(env!("CARGO_BIN_EXE_waymark-monitor")).args(args).output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// A server that answers a few requests with these bytes, and ends.
fn saying(status: u16, body: String, times: usize) -> (String, std::thread::JoinHandle<()>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let task = std::thread::spawn(move || {
        for stream in listener.incoming().take(times) {
            let mut stream = stream.unwrap();
            // The request is small and comes in one piece; what it says is of no matter.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    (url, task)
}

/// What another monitor, a log and its witnesses say does nothing to a terminal.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_say_does_not_act_on_the_terminal() {
    const HOSTILE: &str = "x\u{1b}[2J\r\nfinding: feigned\n\u{202e}\u{9b}1m\u{200b}\u{2028}";
    let harmless = |output: &Output| {
        let text = String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap();
        let acts = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{200b}' | '\u{2028}');
        assert!(!text.contains(acts) && !text.lines().any(|l| l.starts_with("finding: feigned")), "{text:?}");
        text
    };
    let mut site = Site::new().await;
    let dir = site.path("m");
    assert_eq!(code(&site.init("m").await), 0);
    // The status of another monitor.
    let mut status = json(&program(&["once", "--dir", text(&dir), "--json"]).await);
    for field in ["origin", "url", "map_root"] {
        status["logs"][0][field] = HOSTILE.into();
    }
    status["logs"][0]["views"][0]["witness"] = HOSTILE.into();
    (status["findings"], status["notices"]) = (serde_json::json!([HOSTILE]), serde_json::json!([HOSTILE]));
    let (url, task) = saying(200, status.to_string(), 2);
    let plain = program(&["status", "--url", &url]).await;
    assert!(harmless(&plain).contains("finding: x\\u001b[2J\\r\\nfinding: feigned"), "{plain:?}");
    let shown = program(&["status", "--url", &url, "--json"]).await;
    harmless(&shown);
    assert_eq!(json(&shown)["findings"][0], HOSTILE);
    task.join().unwrap();
    // Its refusal of a list, and no status at all.
    let list = site.log.list(1, now(), &[], None);
    fs::write(site.path("list"), list.encode()).unwrap();
    let (url, task) = saying(400, HOSTILE.to_owned(), 2);
    let refused = program(&["watch", "add", text(&site.path("list")), "--url", &url]).await;
    assert!(harmless(&refused).contains("x\\u001b[2J"), "{refused:?}");
    harmless(&program(&["status", "--url", &url]).await);
    task.join().unwrap();
    // A log that answers what it likes, and evidence of somebody else.
    site.log.now = now();
    for bytes in [HOSTILE.to_owned(), format!("{HOSTILE}\n1\n\n\u{2014} {HOSTILE} AAAAAAA=\n")] {
        site.web.put("log/checkpoint", bytes.clone().into_bytes());
        site.web.put("w1/checkpoint", bytes.clone().into_bytes());
        harmless(&program(&["once", "--dir", text(&dir)]).await);
        harmless(&program(&["once", "--dir", text(&dir), "--json"]).await);
        fs::write(site.path("evidence"), bytes).unwrap();
        let trust = site.path("trust.toml");
        harmless(&program(&["evidence", "--trust", text(&trust), text(&site.path("evidence"))]).await);
        harmless(&program(&["evidence", "--trust", text(&site.path("evidence")), text(&trust)]).await);
    }
    fs::write(dir.join("monitor.toml"), "\"a\\u001b[2J\\nfinding: feigned\\u202e\" = 1\n").unwrap();
    harmless(&program(&["once", "--dir", text(&dir)]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_once_status_and_their_exit_codes() {
    let mut site = Site::new().await;
    let dir = site.path("m");
    assert_eq!(code(&program(&["frobnicate"]).await), 2);
    assert_eq!(code(&program(&["status"]).await), 2);
    assert_eq!(code(&program(&["once", "--dir", text(&dir)]).await), 2);
    let made = site.init("m").await;
    assert_eq!((code(&made), made.stdout.len()), (0, 0), "{made:?}");
    let again = site.init("m").await;
    assert_eq!(code(&again), 1);
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));

    let once = program(&["once", "--dir", text(&dir), "--json"]).await;
    assert_eq!(code(&once), 0, "{once:?}");
    let status = json(&once);
    assert_eq!(status["schema"], "waymark.monitor.status/1");
    assert_eq!((&status["logs"][0]["verified_size"], &status["logs"][0]["condition"]), (&2.into(), &"good".into()));
    assert_eq!(status["logs"][0]["views"][1]["agrees"], true);
    let plain = program(&["once", "--dir", text(&dir)]).await;
    assert!(String::from_utf8_lossy(&plain.stdout).contains("2 entries replayed"));
    let offline = program(&["status", "--dir", text(&dir), "--json"]).await;
    assert_eq!((code(&offline), &json(&offline)["logs"][0]["verified_size"]), (0, &2.into()));

    // Too few cosignatures: 5. Nothing there: 1. Another root: 6, and for ever.
    let t = now() / 1000;
    let note = site.log.note(2, site.log.root_at(2), [t, t, 0, 0]);
    site.web.put("log/checkpoint", note);
    assert_eq!(code(&program(&["once", "--dir", text(&dir)]).await), 5);
    site.web.put("log/checkpoint", site.log.note(2, site.log.root_at(2), [t - 700, t - 700, t - 700, 0]));
    assert_eq!(code(&program(&["once", "--dir", text(&dir)]).await), 5);
    site.web.lock().files.remove("log/checkpoint");
    assert_eq!(code(&program(&["once", "--dir", text(&dir)]).await), 1);
    site.log.now = now();
    site.web.publish("log", &site.log);
    site.web.put_copy(1, &site.log, site.log.copy(1, 2, Hash::ZERO));
    let found = program(&["once", "--dir", text(&dir), "--json"]).await;
    assert_eq!(code(&found), 6);
    assert!(json(&found)["findings"][0].as_str().unwrap().contains("split view at size 2"));
    assert_eq!(code(&program(&["status", "--dir", text(&dir)]).await), 6);

    // What was found is in a file that is checked offline, by the log's key and nothing else.
    let trust = site.path("trust.toml");
    let file = fs::read_dir(dir.join("evidence")).unwrap().next().unwrap().unwrap().path();
    let check = async |file: &Path| program(&["evidence", "--trust", text(&trust), text(file)]).await;
    let checked = check(&file).await;
    assert_eq!(code(&checked), 0, "{checked:?}");
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "split-view at dp.example/log: against the log, to anybody\n");
    let forged = site.path("forged");
    let other = Hash::sha256(&[b"other"]).to_base64();
    let bytes = fs::read_to_string(&file).unwrap().replace(&Hash::ZERO.to_base64(), &other);
    fs::write(&forged, bytes).unwrap();
    assert_eq!(code(&check(&forged).await), 3);
    assert_eq!(code(&check(&site.path("nothing")).await), 1);

    // What cannot be used is the operator's to mend.
    let config = dir.join("monitor.toml");
    let good = fs::read_to_string(&config).unwrap();
    for bad in [
        good.replace("poll_ms = 50", "poll_ms = 0"),
        good.replace("http://", "ftp://"),
        // In the clear, and not on this machine.
        good.replace("http://127.0.0.1", "http://192.0.2.1"),
        good.replace('[', "("),
    ] {
        fs::write(&config, bad).unwrap();
        for command in ["once", "status", "run"] {
            assert_eq!(code(&program(&[command, "--dir", text(&dir)]).await), 2);
        }
    }
    fs::write(&config, good).unwrap();
    let url = site.web.url("log");
    let new = site.path("new");
    let args = ["init", "--dir", text(&new), "--trust", text(&trust), "--log-url", &url, "--witness-url=w9=http://x"];
    assert_eq!((code(&program(&args).await), new.exists()), (2, false));

    // A store that is gone is not begun again from nothing.
    fs::remove_file(dir.join("monitor.redb")).unwrap();
    let lost = program(&["once", "--dir", text(&dir)]).await;
    assert_eq!(code(&lost), 1);
    assert!(String::from_utf8_lossy(&lost.stderr).contains("hand them in again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_added_and_listed_and_a_running_monitor_tells() {
    let mut site = Site::new().await;
    let dir = site.path("m");
    assert_eq!(code(&site.init("m").await), 0);
    let file = |name: &str, bytes: Vec<u8>| {
        let path = site.path(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let first = file("first", site.log.list(1, now(), &[label("one")], None).encode());
    let second = file("second", site.log.list(2, now(), &[label("two")], None).encode());
    let garbage = file("garbage", vec![1, 2, 3]);
    assert_eq!(code(&program(&["watch", "add", "--dir", text(&dir), text(&first)]).await), 0);
    assert_eq!(code(&program(&["watch", "add", "--dir", text(&dir), text(&first)]).await), 1);
    assert_eq!(code(&program(&["watch", "add", "--dir", text(&dir), text(&garbage)]).await), 1);
    assert_eq!(code(&program(&["watch", "add", text(&first)]).await), 2);

    let mut child = Command::new(env!("CARGO_BIN_EXE_waymark-monitor"))
        .args(["run", "--dir", text(&dir)])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|l| {
        let line = l.unwrap();
        serde_json::from_str::<Value>(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    });
    let listening = lines.next().unwrap();
    assert_eq!(listening["event"], "listening");
    let url = listening["url"].as_str().unwrap().to_owned();
    let content = program(&["status", "--url", &url]).await;
    assert_eq!(code(&content), 0, "{content:?}");
    // By its directory it is asked where its configuration says that it listens.
    assert_eq!(code(&program(&["status", "--dir", text(&dir)]).await), 1);
    let config = dir.join("monitor.toml");
    let as_made = fs::read_to_string(&config).unwrap();
    assert!(as_made.contains("127.0.0.1:0"));
    fs::write(&config, as_made.replace("127.0.0.1:0", url.trim_start_matches("http://"))).unwrap();
    assert_eq!(code(&program(&["status", "--dir", text(&dir)]).await), 0);
    fs::write(&config, as_made).unwrap();
    assert_eq!(code(&program(&["watch", "add", "--url", &url, text(&second)]).await), 0);
    assert_eq!(code(&program(&["watch", "add", "--url", &url, text(&second)]).await), 1);
    // The directory is taken while it runs.
    let locked = program(&["watch", "list", "--dir", text(&dir)]).await;
    assert_eq!(code(&locked), 1);
    assert!(String::from_utf8_lossy(&locked.stderr).contains("another monitor runs"));
    site.log.now = now();
    site.web.publish("log", &site.log);
    site.web.put_copy(1, &site.log, site.log.copy(1, 2, Hash::ZERO));
    let told = lines.find(|line| line["event"] == "finding").unwrap();
    assert!(told["text"].as_str().unwrap().contains("split view"));
    let status = program(&["status", "--url", &url, "--json"]).await;
    assert_eq!((code(&status), &json(&status)["watch_lists"]), (6, &2.into()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stopped = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    assert_eq!(child.wait().unwrap().code(), Some(6));

    let list = program(&["watch", "list", "--dir", text(&dir), "--json"]).await;
    let ids: Vec<Value> =
        String::from_utf8(list.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(ids.iter().map(|l| l["id"].as_str().unwrap()).collect::<Vec<_>>(), ["01".repeat(16), "02".repeat(16)]);
    assert_eq!(code(&program(&["status", "--url", &url]).await), 1);
}

/// Stopped without warning again and again, wherever it happens to be: each hit is one alert, under one number.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_no_alert_is_lost_and_none_is_doubled() {
    let mut site = Site::new().await;
    let dir = site.path("m");
    assert_eq!(code(&site.init("m").await), 0);
    let config = dir.join("monitor.toml");
    let short = fs::read_to_string(&config).unwrap().replace("renew_within_s = 600", "renew_within_s = 1");
    fs::write(&config, short.replace("poll_ms = 50", "poll_ms = 10")).unwrap();
    let rounds: u64 = 12;
    let labels: Vec<_> = (0..rounds).map(|i| label(&i.to_string())).collect();
    let file = site.path("list");
    fs::write(&file, site.log.list(1, now(), &labels, None).encode()).unwrap();
    assert_eq!(code(&program(&["watch", "add", "--dir", text(&dir), text(&file)]).await), 0);

    let mut told = Vec::new();
    for round in 0..rounds {
        let child = Command::new(env!("CARGO_BIN_EXE_waymark-monitor"))
            .args(["run", "--dir", text(&dir)])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.unwrap();
        site.log.now = site.log.now.max(now() - 1000);
        site.log.grow(16, &labels[round as usize..=round as usize]);
        site.web.publish("log", &site.log);
        // From the middle of its start to the middle of a commit.
        tokio::time::sleep(Duration::from_millis(20 + 37 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        told.extend(BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok));
    }
    // It sees the last hit, and the deadlines of all pass.
    assert_eq!(code(&program(&["once", "--dir", text(&dir)]).await) & !6, 0);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let status = program(&["once", "--dir", text(&dir), "--json"]).await;
    assert_eq!(code(&status), 6);
    let status = json(&status);
    assert_eq!((&status["alerts"]["unexpected"], &status["open_hits"]), (&rounds.into(), &0.into()), "{status}");
    assert_eq!(status["findings"], Value::Array(vec![]));
    // A line may be told twice, but then under the same number; there are no more numbers than entries. It says that there is an
    // alert, and neither whose nor what about.
    for line in told.iter().filter_map(|l| serde_json::from_str::<Value>(l).ok()).filter(|l| l["event"] == "alert") {
        assert!((1..=rounds).contains(&line["id"].as_u64().unwrap()), "{line}");
        let fields: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["event", "id", "kind", "origin", "raised_ms"]);
    }
}
