//! The program is killed in the middle of its life, and remembers; its database is damaged, and it does not start.

mod common;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use common::{PROGRAM, Program, SIZE_MAX, TestLog, add_checkpoint, cosigned_at, latest, verified_size, witness_dir};
use waymark_runtime::clock::Clock;
use waymark_witness::{StartError, load, start, state::StateError};

#[tokio::test]
async fn a_killed_witness_remembers() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir) = witness_dir(&[&log]);
    let witness = Program::run(&dir);
    let first = cosigned_at(&add_checkpoint(witness.address, &log.body(0, 7)).await, &log.text(7), &witness.vkey);
    cosigned_at(&add_checkpoint(witness.address, &log.body(7, 13)).await, &log.text(13), &witness.vkey);
    let seen = latest(witness.address, &log).await.body;
    witness.kill();

    let witness = Program::run(&dir);
    let to = witness.address;
    // What monitors get is what was cosigned last, byte for byte.
    assert_eq!(latest(to, &log).await.body, seen);
    let conflict = add_checkpoint(to, &log.body(0, 7)).await;
    assert_eq!((conflict.status, conflict.body.as_str()), (409, "13\n"));
    let fork = log.forked_at(10);
    assert_eq!(add_checkpoint(to, &fork.body(13, 13)).await.status, 422);
    assert_eq!(add_checkpoint(to, &fork.body(13, 20)).await.status, 422);
    let refreshed = cosigned_at(&add_checkpoint(to, &log.body(13, 13)).await, &log.text(13), &witness.vkey);
    assert!(refreshed >= first);
    cosigned_at(&add_checkpoint(to, &log.body(13, 20)).await, &log.text(20), &witness.vkey);
    assert_eq!(witness.signal("TERM"), Some(0));
}

/// Killed while requests are under way, again and again: what was handed out before is there after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_it_forgets_nothing_it_handed_out() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir) = witness_dir(&[&log]);
    let handed_out = Arc::new(AtomicU64::new(0));
    for round in 0..6u64 {
        let witness = Program::run(&dir);
        let (to, vkey) = (witness.address, witness.vkey.clone());
        let before = latest(to, &log).await;
        let mut at = if before.status == 404 { 0 } else { verified_size(&before, &log, &vkey) };
        assert!(at >= handed_out.load(Ordering::SeqCst), "{at} is less than what was handed out");
        let load = tokio::spawn({
            let (log, handed_out) = (log.clone(), Arc::clone(&handed_out));
            async move {
                while at < SIZE_MAX {
                    let body = log.body(at, at + 1);
                    let request = [
                        format!("POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\n\r\n", body.len()),
                        body,
                    ];
                    // The other end may be killed at any moment, so nothing here is expected to succeed.
                    if !succeeds(to, &request.concat()).await {
                        return;
                    }
                    at += 1;
                    handed_out.store(at, Ordering::SeqCst);
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(7 + 5 * round)).await;
        witness.kill();
        load.await.unwrap();
    }
    assert!(handed_out.load(Ordering::SeqCst) > 0);
}

async fn succeeds(to: std::net::SocketAddr, request: &str) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(to).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await?;
        std::io::Result::Ok(start == *b"HTTP/1.1 200")
    };
    matches!(tokio::time::timeout(Duration::from_secs(10), exchange).await, Ok(Ok(true)))
}

/// A directory in which 7 and then 13 were cosigned.
async fn used_dir(log: &TestLog) -> (tempfile::TempDir, std::path::PathBuf) {
    let (folder, dir) = witness_dir(&[log]);
    let witness = start(load(&dir).unwrap(), Clock::System).await.unwrap();
    assert_eq!(add_checkpoint(witness.address(), &log.body(0, 7)).await.status, 200);
    assert_eq!(add_checkpoint(witness.address(), &log.body(7, 13)).await.status, 200);
    witness.stop().await;
    (folder, dir)
}

async fn start_error(dir: &Path) -> Option<StartError> {
    match start(load(dir).unwrap(), Clock::System).await {
        Ok(witness) => {
            witness.stop().await;
            None
        }
        Err(error) => Some(error),
    }
}

#[tokio::test]
async fn a_damaged_database_is_no_empty_one() {
    let log = TestLog::new("log.example", 5);
    let (_folder, dir) = used_dir(&log).await;
    let file = dir.join("witness.redb");
    let good = fs::read(&file).unwrap();
    assert!(start_error(&dir).await.is_none());

    let length = good.len();
    for keep in [0, 1, 9, 64, 320, 4095, 4096, 8192, length / 2, length - 4096, length - 1] {
        fs::write(&file, &good[..keep]).unwrap();
        assert!(matches!(start_error(&dir).await, Some(StartError::State(StateError::Store(_)))), "cut to {keep}");
    }
    fs::write(&file, vec![0; length]).unwrap();
    assert!(matches!(start_error(&dir).await, Some(StartError::State(StateError::Store(_)))), "all zeros");

    // The stored note, wherever the store has put it: in one of its copies a flipped bit must show.
    let text = log.text(13).into_bytes();
    let copies: Vec<usize> = (0..length - text.len()).filter(|at| good[*at..].starts_with(&text)).collect();
    let mut refused = 0;
    for at in &copies {
        let mut bytes = good.clone();
        bytes[at + 20] ^= 1;
        fs::write(&file, &bytes).unwrap();
        refused += usize::from(start_error(&dir).await.is_some());
    }
    assert!(refused >= 1, "{} copies, none of which matters", copies.len());

    fs::remove_file(&file).unwrap();
    assert!(matches!(start_error(&dir).await, Some(StartError::State(StateError::Missing(_)))));
    assert!(!file.exists(), "starting makes no database");

    // The program says so, and says so with its exit code.
    let run = Command::new(PROGRAM).args(["run", "--listen", "127.0.0.1:0", "--dir"]).arg(&dir).output().unwrap();
    assert_eq!((run.status.code(), run.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8(run.stderr).unwrap().contains("witness.redb: there is no such file"));
}

#[tokio::test]
async fn another_key_or_another_witness_at_the_same_time_does_not_start() {
    let (log, renewed) = (TestLog::new("log.example", 5), TestLog::new("log.example", 6));
    let (_folder, dir) = used_dir(&log).await;

    // Two at a time would both compare with the same head.
    let witness = start(load(&dir).unwrap(), Clock::System).await.unwrap();
    assert!(matches!(start_error(&dir).await, Some(StartError::State(StateError::Store(_)))));
    witness.stop().await;

    // The log's key, exchanged by hand.
    let list = fs::read_to_string(dir.join("logs.toml")).unwrap();
    fs::write(dir.join("logs.toml"), list.replace(&log.vkey().to_string(), &renewed.vkey().to_string())).unwrap();
    assert!(matches!(start_error(&dir).await, Some(StartError::KeyExchanged(_))));
    fs::write(dir.join("logs.toml"), list).unwrap();

    // The witness's own name, changed by hand.
    let config = fs::read_to_string(dir.join("witness.toml")).unwrap();
    fs::write(dir.join("witness.toml"), config.replace("w.example", "v.example")).unwrap();
    assert!(matches!(start_error(&dir).await, Some(StartError::State(StateError::OtherWitness(_)))));
    fs::write(dir.join("witness.toml"), config).unwrap();
    assert!(start_error(&dir).await.is_none());
}
