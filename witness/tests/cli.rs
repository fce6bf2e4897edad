//! The program as a person or a script meets it: what is on stdout, and the exit codes.

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use common::{PROGRAM, Program, TestLog, add_checkpoint, cosigned_at, witness_dir};
use waymark_log::{hash::Hash, note::Vkey, witness::AddCheckpoint};
use waymark_witness::evidence::PROOF_FILES_PER_LOG_MAX;

fn witness(dir: &Path, args: &[&str]) -> Output {
    let (first, rest) = args.split_at(if args[0] == "log" { 2 } else { 1 });
    Command::new(PROGRAM).args(first).arg("--dir").arg(dir).args(rest).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[tokio::test]
async fn from_init_to_a_cosignature() {
    let log = TestLog::new("log.example", 5);
    let vkey = log.vkey().to_string();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("w");

    let init = witness(&dir, &["init", "--name", "w.example", "--operations", "127.0.0.1:0"]);
    assert_eq!((init.status.code(), stderr(&init)), (Some(0), ""));
    let own = Vkey::parse(stdout(&init).trim_end()).unwrap();
    let again = witness(&dir, &["init", "--name", "w.example"]);
    assert_eq!((again.status.code(), stdout(&again)), (Some(1), ""));
    assert!(stderr(&again).contains("is not empty"));

    assert_eq!(stdout(&witness(&dir, &["log", "list"])), "");
    let add = witness(&dir, &["log", "add", &vkey]);
    assert_eq!((add.status.code(), stdout(&add)), (Some(0), "added log log.example\n"));
    let add = witness(&dir, &["log", "add", &vkey, "--per-day", "9"]);
    assert_eq!(stdout(&add), "changed the quota of log log.example\n");
    let list = witness(&dir, &["log", "list"]);
    assert_eq!(stdout(&list), format!("log.example  9 a day\n    {vkey}\n"));
    let list = witness(&dir, &["log", "list", "--json"]);
    let line: serde_json::Value = serde_json::from_str(stdout(&list).trim_end()).unwrap();
    assert_eq!((&line["origin"], &line["requests_per_day"]), (&"log.example".into(), &9.into()));
    assert_eq!(line["keys"], serde_json::json!([vkey]));

    let running = Program::run(&dir);
    assert_eq!(running.vkey, own);
    // Two processes never have one state.
    let second = witness(&dir, &["run", "--listen", "127.0.0.1:0"]);
    assert_eq!((second.status.code(), stdout(&second)), (Some(1), ""));
    cosigned_at(&add_checkpoint(running.address, &log.body(0, 7)).await, &log.text(7), &own);
    assert_eq!(running.signal("INT"), Some(0));
}

/// Names in files of others, and origins, are shown in a form that does nothing to a terminal, in results, errors and
/// log lines.
#[tokio::test]
async fn what_others_have_named_does_not_act_on_the_terminal() {
    let log = TestLog::new("log\u{202e}.example/\u{200b}x", 5);
    let (_folder, dir) = witness_dir(&[&log]);
    let harmless =
        |text: &str| !text.contains(|c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{200b}'));
    let list = witness(&dir, &["log", "list"]);
    assert!(harmless(stdout(&list)) && stdout(&list).starts_with("log\\u202e.example/\\u200bx  "), "{list:?}");
    let list = witness(&dir, &["log", "list", "--json"]);
    assert!(harmless(stdout(&list)), "{list:?}");
    let line: serde_json::Value = serde_json::from_str(stdout(&list).trim_end()).unwrap();
    assert_eq!(line["origin"], log.origin.as_str());
    // A log line: something was cosigned of a log that is not listed any more.
    let running = Program::run(&dir);
    assert_eq!(add_checkpoint(running.address, &log.body(0, 7)).await.status, 200);
    assert_eq!(running.signal("INT"), Some(0));
    let file = dir.join("logs.toml");
    let header: String = fs::read_to_string(&file).unwrap().lines().take_while(|l| l.starts_with('#')).collect();
    fs::write(&file, header).unwrap();
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = occupied.local_addr().unwrap().to_string();
    let run = witness(&dir, &["run", "--listen", "127.0.0.1:0", "--operations", &at]);
    assert!(stderr(&run).contains("no longer listed") && harmless(stderr(&run)), "{run:?}");
    assert!(stderr(&run).contains("log\\u202e.example/\\u200bx"), "{run:?}");
    // An error that quotes a file.
    for text in ["\"a\\u001b[2J\\nerror: feigned\\u202e\" = 1\n", "\u{1b}[2J\r\nerror: feigned\u{202e}"] {
        fs::write(&file, text).unwrap();
        let list = witness(&dir, &["log", "list"]);
        assert_eq!(list.status.code(), Some(1));
        assert!(harmless(stderr(&list)) && !stderr(&list).lines().any(|l| l.starts_with("error:")), "{list:?}");
    }
}

#[test]
fn usage_is_2_and_could_not_is_1() {
    let log = TestLog::new("log.example", 5);
    let vkey = log.vkey().to_string();
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none");
    for args in [
        &["init", "--name", "a name"][..],
        &["init"],
        &["log", "add", "nonsense"],
        &["log", "add", &vkey, "--per-day", "0"],
        &["log", "remove", &vkey],
        &["run", "--listen", "here"],
    ] {
        let output = witness(&none, args);
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""), "{args:?}");
    }
    for args in [&["log", "add", &vkey][..], &["log", "list"], &["run"]] {
        let output = witness(&none, args);
        assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""), "{args:?}");
    }
    assert!(!none.exists());
    // The listener's flag comes before its variable, and neither may name anything but loopback.
    let dir = folder.path().join("w");
    assert_eq!(witness(&dir, &["init", "--name", "w.example"]).status.code(), Some(0));
    let run = |flag: &[&str], variable: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--dir"]).arg(&dir).args(flag).env("WAYMARK_WITNESS_LISTEN", variable);
        command.output().unwrap()
    };
    for output in [run(&["--listen", "0.0.0.0:0"], "127.0.0.1:0"), run(&[], "0.0.0.0:0")] {
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("beyond loopback"), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn what_strangers_repeat_is_not_logged_each_time() {
    let log = TestLog::new("log.example", 5);
    let (folder, dir) = witness_dir(&[&log]);
    let told = folder.path().join("told");
    let running = Program::run_telling(&dir, fs::File::create(&told).unwrap());
    assert_eq!(add_checkpoint(running.address, &log.body(0, 7)).await.status, 200);
    for _ in 0..2 {
        // Each with what the log has signed and a proof that does not hold.
        for size in 8..100 {
            let AddCheckpoint { note, .. } = log.request(7, size);
            let asked = AddCheckpoint { old_size: 7, proof: vec![Hash::ZERO], note };
            assert_eq!(add_checkpoint(running.address, &asked.format()).await.status, 422);
        }
    }
    assert_eq!(running.signal("TERM"), Some(0));
    let told = fs::read_to_string(&told).unwrap();
    let lines = |what: &str| told.lines().filter(|line| line.contains(what)).count();
    assert_eq!((lines("not kept"), lines("a proof that does not hold")), (1, PROOF_FILES_PER_LOG_MAX), "{told}");
    assert!(told.lines().count() < PROOF_FILES_PER_LOG_MAX + 5, "{told}");
}
