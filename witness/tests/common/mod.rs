//! What the tests of the whole program share: a log, a client, and a program that does not outlive its test.

// Each test program uses its own part.
#![allow(dead_code)]

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use waymark_log::{
    checkpoint::{Checkpoint, Origin, SignedCheckpoint},
    cosignature,
    hash::{Hash, leaf_hash},
    key::SecretKey,
    note::{KeyName, Note, NoteSigner, Vkey},
    proof::{self, naive_root, node_from_leaves},
    time::UnixSeconds,
    witness::{AddCheckpoint, parse_cosignatures},
};
use waymark_witness::{add_log, init};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_waymark-witness");
/// Entries in a [`TestLog`].
pub const SIZE_MAX: u64 = 250;
/// Longest anything may take before a test gives up, in seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A log of [`SIZE_MAX`] entries, of which any prefix can be signed.
#[derive(Clone)]
pub struct TestLog {
    pub origin: Origin,
    pub signer: NoteSigner,
    pub leaves: Vec<Hash>,
}

impl TestLog {
    pub fn new(origin: &str, seed: u8) -> Self {
        let signer = NoteSigner::new(KeyName::new(origin).unwrap(), SecretKey::from_seed(&[seed; 32]));
        let leaves = (0..SIZE_MAX).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        Self { origin: Origin::new(origin).unwrap(), signer, leaves }
    }

    /// The same log under the same key, with another entry at `index`.
    pub fn forked_at(&self, index: usize) -> Self {
        let mut fork = self.clone();
        fork.leaves[index] = leaf_hash(b"another entry");
        fork
    }

    pub fn vkey(&self) -> &Vkey {
        self.signer.vkey()
    }

    pub fn root(&self, size: u64) -> Hash {
        naive_root(&self.leaves[..size as usize])
    }

    /// The signed checkpoint of the first `size` entries.
    pub fn note(&self, size: u64) -> String {
        let checkpoint = Checkpoint::new(self.origin.clone(), size, self.root(size));
        SignedCheckpoint::sign(checkpoint, &self.signer).to_note(&[])
    }

    /// The text that a cosignature of that checkpoint covers.
    pub fn text(&self, size: u64) -> String {
        Checkpoint::new(self.origin.clone(), size, self.root(size)).format()
    }

    pub fn request(&self, old_size: u64, size: u64) -> AddCheckpoint {
        let proof = match proof::consistency(old_size, size) {
            Ok(plan) => {
                let nodes: Vec<_> = plan.nodes().map(|n| node_from_leaves(&self.leaves, n)).collect();
                plan.build(&nodes).unwrap()
            }
            Err(_) => vec![],
        };
        AddCheckpoint { old_size, proof, note: Note::parse(self.note(size).as_bytes()).unwrap() }
    }

    /// The body that asks for a cosignature of `size` after `old_size`.
    pub fn body(&self, old_size: u64, size: u64) -> String {
        self.request(old_size, size).format()
    }
}

/// A witness's data directory that knows these logs.
pub fn witness_dir(logs: &[&TestLog]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("w");
    init(&dir, KeyName::new("w.example").unwrap(), "127.0.0.1:0".parse().unwrap(), None).unwrap();
    for log in logs {
        add_log(&dir, log.vkey(), None, None).unwrap();
    }
    (folder, dir)
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn media_type(&self) -> &str {
        self.headers.get("content-type").map_or("", String::as_str)
    }
}

/// One request on a connection of its own.
pub async fn call(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Answer {
    tokio::time::timeout(PATIENCE, exchange(address, method, path, body)).await.expect("an answer in time")
}

async fn exchange(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    // A server that has seen enough may answer and close before everything is written.
    let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok()).expect("a status");
    let headers = lines.filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    Answer { status, headers, body: body.to_owned() }
}

pub async fn add_checkpoint(address: SocketAddr, body: &str) -> Answer {
    call(address, "POST", "/add-checkpoint", body.as_bytes()).await
}

/// What monitors get for this log.
pub async fn latest(address: SocketAddr, log: &TestLog) -> Answer {
    call(address, "GET", &format!("/{}/checkpoint", log.origin.hash_hex()), b"").await
}

/// The time of the one cosignature in a 200, verified.
pub fn cosigned_at(answer: &Answer, text: &str, witness: &Vkey) -> UnixSeconds {
    assert_eq!((answer.status, answer.media_type()), (200, "text/plain; charset=utf-8"), "{answer:?}");
    let lines = parse_cosignatures(&answer.body).unwrap();
    assert_eq!(lines.len(), 1);
    let note = Note::new(text.to_owned(), lines).unwrap();
    cosignature::check(&note, witness).unwrap().expect("a cosignature by this witness")
}

/// The size of a monitor's checkpoint, after log's and witness's signatures were verified.
pub fn verified_size(answer: &Answer, log: &TestLog, witness: &Vkey) -> u64 {
    assert_eq!((answer.status, answer.media_type()), (200, "text/plain; charset=utf-8"), "{answer:?}");
    let note = Note::parse(answer.body.as_bytes()).unwrap();
    assert_eq!(note.lines().len(), 2);
    assert!(cosignature::check(&note, witness).unwrap().is_some());
    SignedCheckpoint::open(&note, &log.origin, &[log.vkey().clone()]).unwrap().size()
}

/// The program, running. Dropping it kills it.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    pub vkey: Vkey,
}

impl Program {
    /// `run` on a directory, with a free port.
    pub fn run(dir: &Path) -> Self {
        Self::run_telling(dir, Stdio::null())
    }

    /// The same; what it logs goes there.
    pub fn run_telling(dir: &Path, log: impl Into<Stdio>) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--listen", "127.0.0.1:0", "--dir"]).arg(dir).stderr(log);
        Self::start(command)
    }

    /// By a command that runs a witness.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["witness", _, vkey, url] = words[..] else { panic!("not the line of a witness: {line:?}") };
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Self { child, address, vkey: Vkey::parse(vkey).unwrap() }
    }

    /// SIGKILL: nothing more is written, nothing is closed.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by name and returns the exit code.
    pub fn signal(mut self, name: &str) -> Option<i32> {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
        for _ in 0..PATIENCE.as_millis() / 20 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("still running after SIG{name}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
