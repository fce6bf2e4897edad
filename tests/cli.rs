//! The command lines, as people use them: every subcommand of `waymark` and `waymark-dp` against a running DP, and each exit
//! code from a cause of its own. `waymark-dp run` is in tests/crash.rs, `waymark demo` in tests/demo.rs.

mod common;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use common::Stage;
use serde_json::Value;
use waymark::config::{StoreKind, names};

const BOB: &str = "+49 151 123 456 42";

/// How a command ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    /// Requires this exit code, and gives what it printed.
    #[track_caller]
    fn with(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }
}

fn run(program: &str, arguments: &[&str]) -> Ended {
    let ended = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: ended.status.code().unwrap(), out: text(ended.stdout), err: text(ended.stderr) }
}

fn waymark(arguments: &[&str]) -> Ended {
    run(env!("CARGO_BIN_EXE_waymark"), arguments)
}

fn waymark_dp(arguments: &[&str]) -> Ended {
    run(env!("CARGO_BIN_EXE_waymark-dp"), arguments)
}

/// `waymark msp serve`, until the test ends.
struct Adapter {
    child: Child,
    url: String,
}

impl Adapter {
    fn serve(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
        command.args(["msp", "serve", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines.find_map(|l| Some(l.unwrap().strip_prefix("listening on ")?.to_owned())).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running DP, the folder of its data, and how its clients reach it.
struct Scene {
    stage: Stage,
    dp: String,
    log: String,
    trust: String,
}

impl Scene {
    fn path(&self, name: &str) -> String {
        self.stage.root.path().join(name).display().to_string()
    }

    fn look_up(&self, whom: &str, more: &[&str]) -> Ended {
        waymark(&[&["lookup", whom, "--dp", &self.dp, "--trust", &self.trust], more].concat())
    }

    fn log(&self, words: &[&str]) -> Ended {
        waymark(&[&["log"], words, &["--url", &self.log, "--trust", &self.trust]].concat())
    }

    fn app(&self, words: &[&str]) -> Ended {
        self.app_in("bob", words)
    }

    fn app_in(&self, folder: &str, words: &[&str]) -> Ended {
        let dir = self.path(folder);
        waymark(&[&["recipient", words[0], "--dir", &dir], &words[1..]].concat())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_keys_to_a_verified_lookup_and_back() {
    let stage = Stage::new().await;
    let dir = stage.root.path().join("dp");
    let trust = dir.join(names::TRUST).display().to_string();
    let scene = Scene { dp: stage.dp.url(), log: stage.dp.log_url(), trust, stage };
    let adapter = register(&scene, &dir);
    look_up_and_verify(&scene, &adapter);
    hide(&scene, &adapter);
    overtake(&scene, &adapter);
    provide(&scene, &adapter);
    logs(&scene);
    withdraw(&scene);
    drop(adapter);
    operate(scene, &dir).await;
}

/// An MSP is taken in, a recipient proves possession, registers and has watchers.
fn register(scene: &Scene, dir: &Path) -> Adapter {
    let (dir, chat) = (dir.display().to_string(), scene.path("chat"));
    let new =
        ["msp", "keygen", "--dir", &chat, "--domain", "chat.example", "--origin", "dp.example/log", "--publishes"];
    let entry = waymark(&new).with(0);
    waymark(&new).with(1);
    waymark_dp(&["provider", "add", "--dir", &dir, entry.trim()]).with(0);
    for _ in 0..200 {
        if waymark_dp(&["provider", "list", "--dir", &dir]).with(0).contains("chat.example") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(waymark_dp(&["provider", "list", "--dir", &dir]).with(0).contains("chat.example"));
    let relay = ["--dir", &chat, "--dp", &scene.dp, "--log-url", &scene.log, "--trust", &scene.trust];
    let adapter = Adapter::serve(&relay);

    scene.look_up(BOB, &[]).with(4);
    let keygen = ["keygen", BOB, "--dp", &scene.dp, "--trust", &scene.trust];
    assert_eq!(scene.app(&keygen).with(0).trim().len(), 64);
    scene.app(&keygen).with(1);
    scene.app(&["prove", "--codes", &format!("{dir}/codes")]).with(0);
    let issue = |msp: &str| {
        let account = format!("mimi://{msp}/u/bob");
        let words = ["issue", "--msp", msp, "--msp-url", &adapter.url, "--account", &account, "--tag", "default"];
        scene.app(&words)
    };
    // An MSP that does not exist consents to nothing.
    issue("other.example").with(1);
    assert!(issue("chat.example").with(0).contains("version 0 is in the log"));
    scene.app(&["watch-list", "--msp-url", &adapter.url]).with(0);
    let history = scene.app(&["history"]).with(0);
    assert!(
        history.contains("chat.example") && history.contains("+49 151 \u{2022}\u{2022}\u{2022}\u{2022}5642"),
        "{history}"
    );
    assert!(scene.app(&["history", "--show"]).with(0).contains("tel:+4915112345642"));
    // What the app shows is what a sender compares.
    let key = scene.app(&["show-key"]).with(0);
    let (text, code) = key.split_once('\n').unwrap();
    assert!(!text.contains("15112345642") && code.contains('\u{2588}'), "{key}");
    scene.look_up(BOB, &["--compare", text]).with(0);
    adapter
}

fn look_up_and_verify(scene: &Scene, adapter: &Adapter) {
    let (answer, memory) = (scene.path("answer"), scene.path("memory"));
    let found = scene.look_up(BOB, &["--explain", "--out", &answer, "--remember", &memory]);
    assert!(found.err.lines().count() > 10, "each check is explained: {}", found.err);
    let card = found.with(0);
    assert!(card.contains("chat.example") && !card.contains("15112345642"), "masked: {card}");
    assert!(scene.look_up(BOB, &["--show", "--remember", &memory]).with(0).contains("4915112345642"));
    remember(scene, adapter, &memory);
    let facts: Value = serde_json::from_str(&scene.look_up(BOB, &["--json"]).with(0)).unwrap();
    assert_eq!(facts["mappings"][0]["msp"], "chat.example");
    scene.look_up("not an identifier", &[]).with(2);
    scene.look_up("+49 151 123 456 43", &[]).with(4);
    waymark(&["lookup", BOB, "--dp", "http://127.0.0.1:1", "--trust", &scene.trust]).with(1);

    let verify = |file: &str, more: &[&str]| waymark(&[&["verify", file, "--trust", &scene.trust], more].concat());
    assert!(verify(&answer, &["--explain"]).with(0).contains("chat.example"));
    verify(&answer, &["--at", "1"]).with(5);
    verify(&scene.path("nothing here"), &[]).with(1);
    // A bit in the middle of each kilobyte.
    let bytes = std::fs::read(&answer).unwrap();
    let forged = scene.path("forged");
    for at in (500..4000).step_by(500) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        std::fs::write(&forged, bytes).unwrap();
        let ended = verify(&forged, &[]);
        // The byte may be one of a number that says how something is signed or built: then it is a number without a meaning yet.
        let unknown = ended.code == 1 && ended.err.contains("not supported by this program");
        assert!(unknown || [3, 5].contains(&ended.code), "byte {at}: {} {}", ended.code, ended.err);
        assert!(ended.out.is_empty(), "nothing is shown of what did not verify");
    }
    std::fs::write(&forged, &bytes[..bytes.len() - 1]).unwrap();
    verify(&forged, &[]).with(3);
}

/// What is remembered stays until the log's own tiles have shown that it is still the same log.
fn remember(scene: &Scene, adapter: &Adapter, memory: &str) {
    let size = || {
        let facts = scene.look_up(BOB, &["--json", "--remember", memory]).with(0);
        let facts: Value = serde_json::from_str(&facts).unwrap();
        assert_eq!(facts["log"]["entry_0"], "pinned");
        assert_eq!(facts["memory"]["shown"], true);
        facts["memory"]["size"].as_u64().unwrap()
    };
    let before = size();
    // A change makes the log grow; the app that makes it remembers as well.
    scene.app(&["issue", "--opt-out", "--replace"]).with(0);
    let of_app = Path::new(&scene.path("bob")).join("log.memory");
    let seen = waymark_mapping::memory::Remembered::parse(&std::fs::read(&of_app).unwrap()).unwrap();
    assert!(seen.size() > before);
    // The tiles cannot be read: the answer stands, nothing is held against the log, and the memory stays.
    let kept = std::fs::read(memory).unwrap();
    let nowhere = scene.look_up(BOB, &["--remember", memory, "--log", "http://127.0.0.1:1"]);
    assert!(nowhere.out.contains("NOT SHOWN"), "{}", nowhere.out);
    nowhere.with(5);
    assert_eq!(std::fs::read(memory).unwrap(), kept);
    scene.look_up(BOB, &["--remember", memory]).with(4);
    let grown = waymark_mapping::memory::Remembered::parse(&std::fs::read(memory).unwrap()).unwrap();
    assert!(grown.size() >= seen.size());
    let issue = ["issue", "--msp", "chat.example", "--account", "mimi://chat.example/u/bob", "--tag", "default"];
    scene.app(&[&issue[..], &["--msp-url", &adapter.url, "--replace"]].concat()).with(0);
    assert!(size() > grown.size());
    // A file of another log's, or of nobody's.
    std::fs::write(scene.path("no memory"), "x").unwrap();
    scene.look_up(BOB, &["--remember", &scene.path("no memory")]).with(1);
    waymark(&["trust", "show", &scene.trust]).with(0);
    assert!(waymark(&["trust", "pin", &scene.trust, "--url", &scene.log]).with(0).contains("pinned already"));
}

/// The provider relays a look-up, imports, and changes its key until it has none.
fn provide(scene: &Scene, adapter: &Adapter) {
    let (bob, chat) = (scene.path("bob"), scene.path("chat"));
    let via = ["lookup", BOB, "--trust", &scene.trust, "--via", &adapter.url];
    assert!(waymark(&[&via[..], &["--app", &bob]].concat()).with(0).contains("chat.example"));
    waymark(&via).with(2);
    // Who asks through a provider is not to show the DP an address a moment later, unless told to.
    let memory = scene.path("memory of relayed");
    let relayed = [&via[..], &["--app", &bob, "--remember", &memory]].concat();
    waymark(&relayed).with(2);
    waymark(&[&relayed[..], &["--log", &scene.log]].concat()).with(0);

    let msp = |words: &[&str]| waymark(&[&["msp", words[0], "--dir", &chat, "--dp", &scene.dp], &words[1..]].concat());
    let file = scene.path("people.jsonl");
    std::fs::write(&file, "{\"change\":\"AQ==\"}\n\nno JSON\n").unwrap();
    let said = msp(&["import", "--file", &file, "--json"]);
    assert!(said.err.contains("line 1: malformed") && said.err.contains("line 3: line-malformed"), "{}", said.err);
    let summary: Value = serde_json::from_str(&said.with(1)).unwrap();
    assert_eq!((&summary["lines"], &summary["refused"], &summary["requests"]), (&2.into(), &2.into(), &1.into()));
    std::fs::write(&file, "").unwrap();
    assert!(msp(&["import", "--file", &file]).err.contains("is of another input"));
    msp(&["import", "--file", &scene.path("nothing here")]).with(1);

    assert_eq!(msp(&["rotate"]).with(0).trim().len(), 64);
    assert!(waymark(&[&via[..], &["--app", &bob]].concat()).with(0).contains("not confirmed"));
    assert!(msp(&["rotate", "--lost"]).with(0).trim().ends_with("chat.example.provider"));
    msp(&["cancel"]).with(1);
    msp(&["cancel", "--key", "x"]).with(2);
    msp(&["retire"]).with(0);
    msp(&["retire"]).with(1);
    waymark(&[&via[..], &["--app", &bob]].concat()).with(1);
}

fn logs(scene: &Scene) {
    let head: Value = serde_json::from_str(&scene.log(&["head", "--json"]).with(0)).unwrap();
    assert!(head["size"].as_u64().unwrap() > 4, "{head}");
    let entry: Value = serde_json::from_str(&scene.log(&["entry", "3", "--json"]).with(0)).unwrap();
    assert!(entry["proof"].as_str().unwrap().starts_with("c2sp.org/tlog-proof@v1\n"));
    let open = scene.log(&["entry", "0"]);
    assert!(open.err.contains("dp.example/log"), "{}", open.err);
    open.with(0);
    let size = head["size"].as_u64().unwrap();
    let last: Value = serde_json::from_str(&scene.log(&["entry", &(size - 1).to_string(), "--json"]).with(0)).unwrap();
    assert_eq!((&last["decoded"]["kind"], &entry["decoded"]["kind"]), (&"head".into(), &"provider".into()));
    scene.log(&["entry", "1000000"]).with(2);
    scene.log(&["consistency", "2"]).with(0);
    scene.log(&["consistency", "1000000"]).with(2);
    assert!(waymark(&["trust", "show", &scene.trust]).with(0).contains("quorum"));
    let none = scene.path("no-trust.toml");
    std::fs::write(&none, "policy = \"log\"\n").unwrap();
    assert_ne!(waymark(&["trust", "show", &none]).code, 0);
    // Somebody else's witness: the log is right, the policy is not met.
    let text = std::fs::read_to_string(&scene.trust).unwrap();
    let witness = text.lines().find(|l| l.starts_with("witness ")).unwrap();
    let key = waymark_log::note::Vkey::new(
        waymark_log::note::KeyName::new("w1.example").unwrap(),
        waymark_log::note::Role::Witness,
        common::key("another witness").public(),
    );
    let other = format!("witness w1 {key} http://127.0.0.1:1");
    std::fs::write(&none, text.replace(witness, &other)).unwrap();
    waymark(&["log", "head", "--url", &scene.log, "--trust", &none]).with(5);
    waymark(&["lookup", BOB, "--dp", &scene.dp, "--trust", &none]).with(5);
}

/// Hidden alone: an opt-out stands beside it, now and after a renewal, until the app wants to be found.
fn hide(scene: &Scene, adapter: &Adapter) {
    scene.app(&["withdraw"]).with(0);
    let account = "mimi://chat.example/u/bob";
    let chat = ["issue", "--msp", "chat.example", "--msp-url", &adapter.url, "--account", account];
    let prove = || scene.app(&["prove", "--codes", &scene.path("dp/codes")]).with(0);
    prove();
    scene.app(&[&chat[..], &["--exact-tag", "soccer-7f3a"]].concat()).with(0);
    for renewed in [false, true] {
        if renewed {
            prove();
            scene.app(&["renew", "--msp-url", &adapter.url]).with(0);
        }
        assert!(scene.look_up(BOB, &["--json"]).with(4).contains("opted"));
        assert!(scene.look_up(BOB, &["--tag", "soccer-7f3a"]).with(0).contains("chat.example"));
    }
    prove();
    scene.app(&chat).with(0);
    let facts: Value = serde_json::from_str(&scene.look_up(BOB, &["--json"]).with(0)).unwrap();
    assert_eq!(
        (facts["mappings"].as_array().unwrap().len(), &facts["mappings"][0]["msp"]),
        (1, &"chat.example".into())
    );
}

/// Nothing is changed over a version that the person was not shown: it is shown first, and the change is made when asked again.
fn overtake(scene: &Scene, adapter: &Adapter) {
    let other = |words: &[&str]| scene.app_in("bob 2", words);
    other(&["keygen", BOB, "--dp", &scene.dp, "--trust", &scene.trust]).with(0);
    let codes = scene.path("dp/codes");
    let proved = || other(&["prove", "--codes", &codes]).with(0);
    proved();
    let issue =
        ["issue", "--msp", "chat.example", "--msp-url", &adapter.url, "--account", "mimi://chat.example/u/bob2"];
    // A new app has seen nothing yet: it is shown what is there.
    let shown = other(&issue).with(6);
    assert!(shown.contains("1 way found") && shown.contains("no change was made"), "{shown}");
    let made = other(&issue).with(0);
    assert!(made.contains("mappings of other keys in it: 1"), "{made}");
    other(&["watch-list", "--msp-url", &adapter.url]).with(0);

    // The first app is shown the second one's mapping before it removes its own.
    let shown = scene.app(&["withdraw"]).with(6);
    assert!(shown.contains("by another key, NEW") && shown.contains("mappings added by another key"), "{shown}");
    assert_eq!(scene.look_up(BOB, &["--json"]).with(0).matches("\"chat.example\"").count(), 2);
    // That it was shown is no claim that it was this person's doing.
    let said = scene.app(&["watch-list", "--msp-url", &adapter.url]);
    assert!(said.err.contains("Was all of that you?"), "{}", said.err);
    assert!(said.out.contains("mimi://chat.example/u/bob2"), "{}", said.out);
    said.with(6);
    assert!(other(&["withdraw"]).with(0).contains("its watch-list ends"));
    // An app that leaves ends its watch-list, and claims that change.
    assert!(other(&["watch-list", "--msp-url", &adapter.url]).with(0).contains("0 labels"));
    assert!(scene.app(&["history", "--all"]).with(6).contains("2 changes since"));
    scene.app(&["watch-list", "--msp-url", &adapter.url, "--yes"]).with(0);
    scene.app(&["history"]).with(0);
}

fn withdraw(scene: &Scene) {
    scene.app(&["withdraw"]).with(0);
    scene.look_up(BOB, &[]).with(4);
    scene.app(&["withdraw"]).with(4);
    scene.app(&["prove", "--codes", &scene.path("dp/codes")]).with(0);
    scene.app(&["issue", "--opt-out"]).with(0);
    assert!(scene.look_up(BOB, &["--json"]).with(4).contains("opted"));
}

async fn operate(scene: Scene, dir: &Path) {
    let folder = dir.display().to_string();
    assert!(waymark_dp(&["check-config", "--dir", &folder]).with(0).contains("dp.example/log"));
    let rows = if common::store() == StoreKind::Sled { "records.sled" } else { "records.redb" };
    assert!(dir.join(rows).exists());
    // One DP on one folder.
    waymark_dp(&["run", "--dir", &folder]).with(1);
    waymark_dp(&["fsck", "--dir", &folder]).with(1);
    let root: PathBuf = scene.stage.root.path().to_owned();
    let Scene { stage, .. } = scene;
    let Stage { root: _kept, witnesses, dp, .. } = stage;
    dp.stop().await.unwrap();
    witnesses.stop().await;
    assert!(waymark_dp(&["fsck", "--dir", &folder]).with(0).contains("1 identifiers"));
    // The policy that is served is the one that was logged.
    let policy = dir.join(names::DOCUMENT);
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, format!("# What we like.\n{text}")).unwrap();
    let said = waymark_dp(&["run", "--dir", &folder]);
    assert!(said.err.contains("policy.toml is not the document"), "{}", said.err);
    said.with(1);
    std::fs::write(&policy, text).unwrap();
    // And the interval is at most the promised one.
    let config = dir.join(names::CONFIG);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("interval_ms = 50", "interval_ms = 60")).unwrap();
    let said = waymark_dp(&["run", "--dir", &folder]);
    assert!(said.err.contains("promised in the log"), "{}", said.err);
    said.with(1);
    std::fs::write(&config, text).unwrap();
    // A log is opened once, and none is made by running.
    let init =
        |dir: &str, more: &[&str]| waymark_dp(&[&["init", "--dir", dir, "--domain", "dp.example"], more].concat());
    init(&folder, &[]).with(1);
    let fresh = root.join("fresh").display().to_string();
    waymark_dp(&["run", "--dir", &fresh]).with(1);
    init(&fresh, &["--witness", "w1"]).with(2);
    init(&fresh, &["--interval-ms", "1"]).with(1);
    if !cfg!(feature = "sled") {
        assert!(init(&fresh, &["--store", "sled"]).err.contains("cargo feature"));
    }
    assert!(!Path::new(&fresh).exists(), "nothing is made of what would not run");
    init(&fresh, &[]).with(0);
    // `quorum none` is believed by nobody, and a DP does not listen beyond loopback.
    waymark_dp(&["run", "--dir", &fresh]).with(1);
    let said = waymark_dp(&["run", "--dir", &folder, "--listen", "0.0.0.0:0"]);
    assert!(said.err.contains("beyond loopback"), "{}", said.err);
    said.with(1);
    waymark_dp(&["no-such-command"]).with(2);
    waymark(&["no-such-command"]).with(2);
}
