//! What others say does nothing to a terminal: every command that speaks to a server speaks to one that answers with
//! characters that move the cursor, set the window's title, feign another line, or turn text round; so do
//! the files of others. And a DP that runs writes its log lines while its witnesses answer it so.

mod common;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::{Value, json};
use waymark::init;
use waymark_log::{
    checkpoint::{Checkpoint, Origin, SignedCheckpoint},
    cosignature::Cosigner,
    hash::leaf_hash,
    note::{KeyName, NoteSigner, Role, Vkey},
};
use waymark_runtime::clock::Clock;

/// Clears the screen, sets the title, feigns an error, turns round, colours by C1, hides, ends a line.
const HOSTILE: &str =
    "x\u{1b}[2J\u{1b}]0;owned\u{7}\r\nerror: feigned\n\u{202e}\u{2066}\u{9b}31m\u{200b}\u{feff}\u{2028}y";
const BOB: &str = "+49 151 123 456 42";
/// Longest the server waits for a request's bytes.
const READ: Duration = Duration::from_millis(500);

/// What the server says to whatever it is asked.
fn answers() -> Vec<(u16, &'static str, Vec<u8>)> {
    let problem = json!({"type": HOSTILE, "title": HOSTILE, "status": 400, "code": HOSTILE, "detail": HOSTILE});
    let hint =
        json!({"hint": true, "version": 1, "outcome": HOSTILE, "mappings": [{"msp": HOSTILE, "tags": [HOSTILE]}]});
    let import =
        json!({"items": [{"code": HOSTILE, "status": 409, "detail": HOSTILE}, {"code": HOSTILE, "status": 409}]});
    let challenge =
        json!({"id": "00112233445566778899aabbccddeeff", "channel": HOSTILE, "masked": HOSTILE, "expiry_ms": 1});
    let field = json!({HOSTILE: HOSTILE});
    let mut all: Vec<(u16, &str, Vec<u8>)> = [hint, import, challenge, field, json!([HOSTILE]), json!(HOSTILE)]
        .iter()
        .map(|value| (200, "application/json", value.to_string().into_bytes()))
        .collect();
    for status in [400, 403, 404, 409, 429, 500, 503] {
        all.push((status, "application/problem+json", problem.to_string().into_bytes()));
    }
    all.push((404, "text/html", HOSTILE.as_bytes().to_vec()));
    all.push((200, "text/plain", HOSTILE.as_bytes().to_vec()));
    all.push((200, "text/plain", format!("{HOSTILE}\n\n\u{2014} {HOSTILE} AAAAAAA=\n").into_bytes()));
    all.push((200, "application/octet-stream", [0x1b].repeat(300)));
    all
}

/// A server that answers everything in the same way, until it is told another.
struct Hostile {
    url: String,
    now: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl Hostile {
    fn start(answers: Vec<(u16, &'static str, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (now, ends) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (which, over) = (Arc::clone(&now), Arc::clone(&ends));
        let task = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (status, media_type, body) = &answers[which.load(Ordering::SeqCst)];
                // The client may be gone when it has heard enough.
                let _ = stream.and_then(|stream| answer(stream, *status, media_type, body));
            }
        });
        Self { url, now, ends, task: Some(task) }
    }

    fn says(&self, which: usize) {
        self.now.store(which, Ordering::SeqCst);
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        let _ = self.task.take().map(JoinHandle::join);
    }
}

fn answer(mut stream: TcpStream, status: u16, media_type: &str, body: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(READ))?;
    let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
    while !is_whole(&request) && request.len() < 1 << 20 {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        request.extend_from_slice(&chunk[..read]);
    }
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} \u{9b}31m\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat())
}

/// Whether head and body have come.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    request.len() >= end + 4 + length.unwrap_or(0)
}

/// What a command printed, on both ways.
fn run(program: &str, arguments: &[&str]) -> String {
    let ended =
        Command::new(program).args(arguments).env("WAYMARK_LOG", "trace").stdin(Stdio::null()).output().unwrap();
    let out = String::from_utf8(ended.stdout).expect("UTF-8 on stdout");
    if arguments.contains(&"--json") && !out.is_empty() {
        serde_json::from_str::<Value>(&out).expect("JSON stays JSON");
    }
    out + &String::from_utf8(ended.stderr).expect("UTF-8 on stderr")
}

fn waymark(arguments: &[&str]) -> String {
    run(env!("CARGO_BIN_EXE_waymark"), arguments)
}

/// Requires that nothing in it acts on a terminal, or looks like a line of ours.
#[track_caller]
fn is_harmless(what: &[&str], printed: &str) {
    let acts = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    assert!(!printed.contains(acts), "{what:?}: {printed:?}");
    assert!(!printed.lines().any(|line| line.starts_with("error: feigned")), "{what:?}: {printed}");
}

/// A trust file for a log and a witness whose names are as odd as names may be, and a checkpoint of theirs.
fn odd_log(dir: &Path) -> (String, Vec<u8>) {
    let log = NoteSigner::new(KeyName::new("dp\u{202e}.example/\u{200b}log").unwrap(), common::key("odd log"));
    let witness = Cosigner::new(KeyName::new("w\u{2066}.example").unwrap(), common::key("odd witness"));
    let path = dir.join("odd.toml");
    let policy = format!("log {}\nwitness w1 {}\nquorum w1\n", log.vkey(), witness.vkey());
    std::fs::write(&path, format!("policy = \"\"\"\n{policy}\"\"\"\n")).unwrap();
    let origin = Origin::new(log.vkey().name().as_str()).unwrap();
    let checkpoint = Checkpoint::new(origin, 1, leaf_hash(b"entry"));
    let line = witness.cosign(&checkpoint.format(), Clock::System.now().floor_seconds());
    (path.display().to_string(), SignedCheckpoint::sign(checkpoint, &log).to_note(&[line]).into_bytes())
}

/// A trust file for a log that this test has no entries of.
fn trust_file(dir: &Path) -> String {
    let log = NoteSigner::new(KeyName::new("dp.example/log").unwrap(), common::key("a log"));
    let witness = Cosigner::new(KeyName::new("w.example").unwrap(), common::key("a witness"));
    let path = dir.join("trust.toml");
    let policy = format!("log {}\nwitness w1 {}\nquorum w1\n", log.vkey(), witness.vkey());
    std::fs::write(&path, format!("policy = \"\"\"\n{policy}\"\"\"\n")).unwrap();
    path.display().to_string()
}

#[test]
fn no_answer_of_a_server_acts_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (trust, answers) = (trust_file(folder.path()), answers());
    let server = Hostile::start(answers.clone());
    let url = server.url.as_str();
    let (bob, chat, people) = (path("bob"), path("chat"), path("people.jsonl"));
    let (codes, token) = (path("codes"), path("token"));
    std::fs::create_dir(&codes).unwrap();
    waymark(&["recipient", "keygen", BOB, "--dir", &bob, "--dp", url, "--trust", &trust]);
    waymark(&[
        "msp",
        "keygen",
        "--dir",
        &chat,
        "--domain",
        "chat.example",
        "--origin",
        "dp.example/log",
        "--publishes",
    ]);
    assert!(Path::new(&bob).exists() && Path::new(&chat).exists());
    let look_up = ["lookup", BOB, "--dp", url, "--trust", &trust];
    let app = |words: &[&'static str]| [&["recipient", words[0], "--dir", bob.as_str()], &words[1..]].concat();
    let account = ["--msp", "chat.example", "--account", "a", "--tag", "default", "--msp-url", url];
    let msp = ["--dir", chat.as_str(), "--dp", url];
    let log = ["--url", url, "--trust", &trust];
    let commands: Vec<Vec<&str>> = vec![
        look_up.to_vec(),
        [&look_up[..], &["--json"]].concat(),
        [&look_up[..], &["--hint"]].concat(),
        [&look_up[..], &["--hint", "--json"]].concat(),
        [&look_up[..], &["--full", "--explain"]].concat(),
        vec!["lookup", BOB, "--trust", &trust, "--via", url, "--app", &bob],
        app(&["prove"]),
        [&app(&["issue"])[..], &account].concat(),
        app(&["issue", "--opt-out"]),
        app(&["renew"]),
        app(&["withdraw"]),
        app(&["erase", "--yes"]),
        app(&["history"]),
        app(&["claim"]),
        app(&["object"]),
        [&app(&["watch-list"])[..], &["--send", url]].concat(),
        [&app(&["token"])[..], &["--out", &token]].concat(),
        [&["msp", "import"][..], &msp, &["--file", &people, "--patience-s", "1"]].concat(),
        [&["msp", "import"][..], &msp, &["--file", &people, "--patience-s", "1", "--json"]].concat(),
        [&["msp", "rotate"][..], &msp].concat(),
        [&["msp", "retire"][..], &msp].concat(),
        [&["log", "head"][..], &log].concat(),
        [&["log", "entry", "0"][..], &log].concat(),
        [&["log", "consistency", "1"][..], &log].concat(),
        vec!["trust", "pin", &trust, "--url", url],
    ];
    let mut told = 0;
    for (which, (status, ..)) in answers.iter().enumerate() {
        server.says(which);
        for command in &commands {
            if command[1] == "import" {
                // What an earlier answer made of it is kept beside it.
                let _ = std::fs::remove_file(format!("{people}.journal"));
                std::fs::write(&people, "{\"change\":\"AQ==\"}\n{\"change\":\"Ag==\"}\n").unwrap();
                if ![200, 400, 403].contains(status) {
                    continue; // It is waited for, as a matter of patience.
                }
            }
            let printed = waymark(command);
            is_harmless(command, &printed);
            assert!(!printed.contains("Usage:"), "{command:?}: {printed}");
            told += usize::from(printed.contains("x\\u001b[2J"));
        }
    }
    // It is told what the server said, in a form that can be read.
    assert!(told > 60, "{told}");
}

#[test]
fn no_file_of_somebody_else_acts_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let (odd, note) = odd_log(folder.path());
    let server = Hostile::start(vec![(200, "text/plain", note.clone())]);
    let shown = waymark(&["trust", "show", &odd]);
    is_harmless(&["trust", "show"], &shown);
    assert!(shown.contains("dp\\u202e.example/\\u200blog"), "{shown}");
    // Programs read the same text as before.
    let head = ["log", "head", "--url", &server.url, "--trust", &odd];
    let json = waymark(&[&head[..], &["--json"]].concat());
    is_harmless(&head, &json);
    let facts: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(facts["origin"], "dp\u{202e}.example/\u{200b}log");
    // A note that goes into a file is signed byte for byte.
    let ended = Command::new(env!("CARGO_BIN_EXE_waymark")).args(head).stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8(ended.stdout).unwrap().into_bytes(), note);

    let trust = trust_file(folder.path());
    // What somebody was given to paste.
    let dir = folder.path().display().to_string();
    let look_up = ["lookup", HOSTILE, "--dp", "http://127.0.0.1:1", "--trust", &trust];
    let compare = ["lookup", BOB, "--dp", "http://127.0.0.1:1", "--trust", &trust, "--compare", HOSTILE];
    for command in [&look_up[..], &compare, &[HOSTILE], &["lookup", HOSTILE], &["recipient", "prove", "--dir", HOSTILE]]
    {
        is_harmless(command, &waymark(command));
    }
    is_harmless(&[HOSTILE], &run(env!("CARGO_BIN_EXE_waymark-dp"), &["check-config", "--dir", &dir, HOSTILE]));
    for content in [
        HOSTILE.to_owned(),
        "\"a\\u001b[2J\\nerror: feigned\\u202e\" = 1\n".to_owned(),
        "policy = \"a\\u001b[2J\\nerror: feigned\\u202e\"\n".to_owned(),
        format!("waymark evidence v1\nsplit-view\n{HOSTILE}\n"),
        json!({HOSTILE: HOSTILE}).to_string(),
    ] {
        let file = folder.path().join("file").display().to_string();
        std::fs::write(&file, &content).unwrap();
        let verify = ["verify", &file, "--trust", &trust];
        for command in [&verify[..], &["verify-evidence", &file, "--trust", &trust], &["trust", "show", &file]] {
            is_harmless(command, &waymark(command));
        }
        let dir = folder.path().join("dp").display().to_string();
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(folder.path().join("dp/dp.toml"), &content).unwrap();
        for words in
            [&["check-config", "--dir", &dir][..], &["run", "--dir", &dir], &["provider", "add", "--dir", &dir, &file]]
        {
            is_harmless(words, &run(env!("CARGO_BIN_EXE_waymark-dp"), words));
        }
    }
}

/// `waymark-dp run`, with what it has written on stderr so far. It logs all that it can.
struct Dp {
    child: Child,
    stderr: PathBuf,
}

impl Dp {
    /// A DP with these witnesses, of which one is a quorum.
    fn start(dir: &Path, witnesses: Vec<(String, Vkey, String)>) -> Self {
        init::init(dir, &init::NewDp { file: common::dp_file(), witnesses, quorum: 1 }, &Clock::System).unwrap();
        let stderr = dir.with_extension("stderr");
        let mut run = Command::new(env!("CARGO_BIN_EXE_waymark-dp"));
        run.args(["run", "--dir"]).arg(dir).env("WAYMARK_LOG", "trace").stdin(Stdio::null()).stdout(Stdio::null());
        let child = run.stderr(std::fs::File::create(&stderr).unwrap()).spawn().unwrap();
        Self { child, stderr }
    }

    fn said(&self) -> String {
        String::from_utf8(std::fs::read(&self.stderr).unwrap()).expect("UTF-8 on stderr")
    }

    /// Waits until it has said something.
    #[track_caller]
    fn says(&self, what: &str) {
        for _ in 0..1500 {
            if self.said().contains(what) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not say {what:?} in half a minute: {}", self.said());
    }
}

impl Drop for Dp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A witness of the policy for each answer, with a name as odd as names may be.
fn hostile_witnesses(answers: &[(u16, &'static str, Vec<u8>)]) -> (Vec<Hostile>, Vec<(String, Vkey, String)>) {
    let (mut servers, mut lines) = (vec![], vec![]);
    for (i, answer) in answers.iter().enumerate() {
        let server = Hostile::start(vec![answer.clone()]);
        let name = format!("w{i}");
        let key_name = KeyName::new(&format!("{name}\u{202e}\u{2066}.example")).unwrap();
        lines.push((name.clone(), Vkey::new(key_name, Role::Witness, common::key(&name).public()), server.url.clone()));
        servers.push(server);
    }
    (servers, lines)
}

/// Outside-software F3: what a witness answers reaches a log, and logs are read on terminals.
#[test]
fn no_answer_of_a_witness_acts_on_the_terminal_of_a_running_dp() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = |status| (status, "text/plain", HOSTILE.as_bytes().to_vec());
    let mut all = answers();
    all.extend([201, 302, 409, 422].map(hostile));
    all.push((409, "text/x.tlog.size", format!("5000\n{HOSTILE}").into_bytes()));
    let (_servers, lines) = hostile_witnesses(&all);
    let dp = Dp::start(&folder.path().join("dp"), lines);
    for i in 0..all.len() {
        // Each was asked, and it is told by whom, in a form that can be read.
        dp.says(&format!("witness=w{i}\\u202e\\u2066.example"));
    }
    is_harmless(&["run"], &dp.said());
    assert!(dp.said().lines().filter(|line| line.contains("a witness does not cosign")).count() >= all.len());
    drop(dp);

    // The same where it ends, and says why.
    let refusal = (422, "text/plain", HOSTILE.as_bytes().to_vec());
    let (_server, lines) = hostile_witnesses(&[refusal]);
    let mut dp = Dp::start(&folder.path().join("another"), lines);
    dp.says("error: the sequencer stopped");
    assert_eq!(dp.child.wait().unwrap().code(), Some(1));
    is_harmless(&["run"], &dp.said());
}
