//! TLS: what is believed and what is refused on both sides, a certificate that is renewed, and a whole system behind it.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use common::{csi, loopback, until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use waymark::{
    config::{Settings, names},
    dp,
};
use waymark_log::{checkpoint::Origin, note::KeyName};
use waymark_mapping::trust::Trust;
use waymark_monitor as monitor;
use waymark_runtime::{
    clock::Clock,
    fetch::{CA_FILE_VARIABLE, ExtraRoots, FetchError, Fetcher},
    listen::{self, HANDSHAKE_S_MAX, Server},
    tls::TlsFiles,
};
use waymark_witness as witness;

/// A certificate authority of the test's own, and its certificate in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: ExtraRoots,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = dir.join(name);
        fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), roots: ExtraRoots::load(&file).unwrap() }
    }

    /// Writes a certificate for these names and its key, as whoever renews one does: beside, then over the old.
    fn issue(&self, files: &TlsFiles, subjects: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let subjects: Vec<String> = subjects.iter().map(|s| (*s).to_owned()).collect();
        let certificate = CertificateParams::new(subjects).unwrap().signed_by(&key, &self.issuer).unwrap();
        for (path, text, mode) in [(&files.cert, certificate.pem(), 0o644), (&files.key, key.serialize_pem(), 0o600)] {
            let beside = path.with_extension("new");
            fs::write(&beside, text).unwrap();
            fs::set_permissions(&beside, fs::Permissions::from_mode(mode)).unwrap();
            fs::rename(&beside, path).unwrap();
        }
    }

    fn fetcher(&self) -> Fetcher {
        Fetcher::with_roots(Duration::from_secs(10), &self.roots)
    }
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") }
}

async fn serve(address: &str, files: &TlsFiles) -> Server {
    let listener = listen::bind_tls(address.parse().unwrap(), Some(files)).await.unwrap();
    listen::serve(listener, listen::with_problems(Router::new().route("/", get(async || "hello")))).unwrap()
}

/// The reason why there was no answer.
async fn refused(fetcher: &Fetcher, url: &str) -> String {
    fetcher.get(url, 100).await.unwrap_err().to_string()
}

#[tokio::test]
async fn who_is_believed_gets_an_answer_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(dir.path(), "ours.pem"), Authority::new(dir.path(), "other.pem"));
    let files = files(dir.path());
    ours.issue(&files, &["127.0.0.1", "localhost"]);
    let server = serve("127.0.0.1:0", &files).await;
    let url = server.url();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let fetcher = ours.fetcher();
    assert_eq!(fetcher.get(&url, 100).await.unwrap().body, b"hello");
    let by_name = url.replace("127.0.0.1", "localhost");
    assert_eq!(fetcher.get(&by_name, 100).await.unwrap().body, b"hello");
    for stranger in [other.fetcher(), Fetcher::default()] {
        let why = refused(&stranger, &url).await;
        assert!(why.starts_with("a certificate that is not believed at 127.0.0.1:"), "{why}");
    }
    // The right authority, for another name.
    ours.issue(&files, &["dp.example"]);
    let elsewhere = serve("127.0.0.1:0", &files).await;
    assert!(refused(&fetcher, &elsewhere.url()).await.starts_with("a certificate that is not believed"));
    // In the clear, an answer is not asked for where others could read it.
    let unencrypted = fetcher.get("http://dp.example/log/checkpoint", 100).await.unwrap_err();
    assert!(matches!(&unencrypted, FetchError::Unencrypted { host } if host == "dp.example"));
    elsewhere.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_tls_port_says_nothing_in_the_clear_and_waits_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    Authority::new(dir.path(), "ca.pem").issue(&files, &["127.0.0.1"]);
    let server = serve("127.0.0.1:0", &files).await;
    let plain = server.url().replace("https:", "http:");
    assert!(Fetcher::default().get(&plain, 100).await.is_err());
    for first in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", "\x16\x03\x01"] {
        let began = Instant::now();
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        let mut said = vec![];
        let closed = tokio::time::timeout(Duration::from_secs(HANDSHAKE_S_MAX + 2), stream.read_to_end(&mut said));
        closed.await.expect("it is closed").ok();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!said.contains("HTTP") && !said.contains("hello"), "{said}");
        assert!(first.len() < 10 || began.elapsed() < Duration::from_secs(1), "what is no TLS is closed at once");
    }
    server.stop().await;
}

#[tokio::test]
async fn beyond_loopback_only_with_a_certificate_that_can_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca.pem");
    let files = files(dir.path());
    authority.issue(&files, &["127.0.0.1"]);
    let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let why = listen::bind(everywhere).await.unwrap_err().to_string();
    assert!(why.contains("beyond loopback") && why.contains("[tls]") && why.contains("`cert`"), "{why}");
    let server = serve("0.0.0.0:0", &files).await;
    let url = format!("https://127.0.0.1:{}", server.address().port());
    assert_eq!(authority.fetcher().get(&url, 100).await.unwrap().body, b"hello");
    server.stop().await;

    let why = async |files: &TlsFiles| listen::bind_tls(loopback(), Some(files)).await.unwrap_err().to_string();
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(why(&files).await.contains("its mode must be 0600"));
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
    let swapped = TlsFiles { cert: files.key.clone(), key: files.key.clone() };
    assert!(why(&swapped).await.contains("holds no certificate"));
    let others_key = TlsFiles { cert: dir.path().join("other.pem"), key: dir.path().join("other.key") };
    authority.issue(&others_key, &["127.0.0.1"]);
    let mixed = TlsFiles { cert: files.cert.clone(), key: others_key.key };
    assert!(why(&mixed).await.contains("not usable with its key"));
    let missing = TlsFiles { cert: dir.path().join("none"), key: files.key.clone() };
    assert!(why(&missing).await.contains("there is no such file"));
    assert!(ExtraRoots::load(&files.key).is_err());
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_and_half_a_pair_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(dir.path(), "old.pem"), Authority::new(dir.path(), "new.pem"));
    let files = files(dir.path());
    old.issue(&files, &["127.0.0.1"]);
    let server = serve("127.0.0.1:0", &files).await;
    let url = server.url();
    let good = async |authority: &Authority| authority.fetcher().get(&url, 100).await.is_ok();
    assert!(good(&old).await && !good(&new).await);
    // A certificate without its key: the old pair stays in use for longer than a look at the files takes to come.
    fs::write(&files.cert, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(waymark_runtime::tls::LOOK_MS * 3 / 2) {
        assert!(good(&old).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    new.issue(&files, &["127.0.0.1"]);
    until("the new certificate", async || good(&new).await).await;
    assert!(!good(&old).await);
    server.stop().await;
}

/// The exit code of a command, off the threads that serve it.
async fn waymark(arguments: Vec<String>, ca_file: Option<&Path>) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env_remove(CA_FILE_VARIABLE);
    if let Some(file) = ca_file {
        command.env(CA_FILE_VARIABLE, file);
    }
    tokio::task::spawn_blocking(move || command.status().unwrap().code()).await.unwrap()
}

/// A program that is killed if the test fails.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn an_msps_adapter_takes_its_certificate_by_flags_and_stops_when_told() {
    let root = tempfile::tempdir().unwrap();
    let authority = Authority::new(root.path(), "ca.pem");
    let files = files(root.path());
    authority.issue(&files, &["127.0.0.1"]);
    let dir = root.path().join("msp");
    let (origin, chat) = (Origin::new("dp.example/log").unwrap(), common::domain("chat.example"));
    waymark::msp::init(&dir, &chat, &origin, false, 1).unwrap();
    let path = |path: &Path| path.display().to_string();
    let serve = ["msp", "serve", "--dir", &path(&dir), "--listen", "0.0.0.0:0"].map(str::to_owned).to_vec();
    assert_eq!(waymark(serve.clone(), None).await, Some(1));
    let half = [serve.clone(), vec!["--tls-cert".to_owned(), path(&files.cert)]].concat();
    assert_eq!(waymark(half.clone(), None).await, Some(2));

    let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
    command.args(half).arg("--tls-key").arg(&files.key).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut program = Program(command.spawn().unwrap());
    let mut lines = BufReader::new(program.0.stderr.take().unwrap()).lines();
    let url = lines.find_map(|l| Some(l.unwrap().strip_prefix("listening on ")?.to_owned())).unwrap();
    let port = url.strip_prefix("https://0.0.0.0:").unwrap();
    let status = authority.fetcher().get(&format!("https://127.0.0.1:{port}/status"), 1 << 16).await.unwrap();
    assert_eq!(status.status, 200);
    let told = Command::new("kill").args(["-TERM", &program.0.id().to_string()]).status().unwrap();
    assert!(told.success());
    let ended = tokio::task::spawn_blocking(move || program.0.wait().unwrap().code());
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap(), Some(0));
}

/// A witness, a DP and a monitor, each of them in TLS, each believing the test's authority.
#[tokio::test]
async fn a_whole_system_in_tls() {
    let root = tempfile::tempdir().unwrap();
    let authority = Authority::new(root.path(), "ca.pem");
    let files = files(root.path());
    authority.issue(&files, &["127.0.0.1"]);
    let tls = Some(files);

    let witness_dir = root.path().join("witness1");
    let name = KeyName::new("w1.example").unwrap();
    witness::init(&witness_dir, name, loopback(), None).unwrap();
    let settings = witness::Settings { tls: tls.clone(), ..witness::load(&witness_dir).unwrap() };
    let witness = witness::start(settings, Clock::System).await.unwrap();
    let witnesses = common::Witnesses { running: vec![witness], dirs: vec![witness_dir] };

    let dir = root.path().join("dp");
    common::make_dp(&dir, &witnesses);
    let settings = Settings { tls: tls.clone(), roots: authority.roots.clone(), ..Settings::load(&dir).unwrap() };
    let dp = dp::start(settings, Clock::System).await.unwrap();
    assert!(dp.url().starts_with("https://") && dp.operations_url().unwrap().starts_with("https://"));
    until("a cosigned checkpoint", async || dp.knows_provider(&common::domain(common::QUIET))).await;

    let trust = Trust::parse(&fs::read_to_string(dir.join(names::TRUST)).unwrap()).unwrap();
    let client = common::client(&authority.fetcher(), &dp.url());
    let found = common::look_up(&client, &trust, &csi("tel:+4915112345642"), None).await;
    assert_eq!(found.version, None);
    let stranger = common::client(&Fetcher::default(), &dp.url());
    assert!(stranger.look_up(&csi("tel:+4915112345642"), None).await.is_err());
    let ready = authority.fetcher().get(&format!("{}/readyz", dp.operations_url().unwrap()), 1000).await.unwrap();
    assert_eq!(ready.status, 200, "{}", String::from_utf8_lossy(&ready.body));

    // The command line, for which the environment names the authority.
    let trust_file = dir.join(names::TRUST).display().to_string();
    let look_up = ["lookup", "+49 151 123 456 42", "--dp", &dp.url(), "--trust", &trust_file].map(str::to_owned);
    let ca = root.path().join("ca.pem");
    assert_eq!(waymark(look_up.to_vec(), Some(&ca)).await, Some(4), "nothing found, and that is proved");
    assert_eq!(waymark(look_up.to_vec(), None).await, Some(1));
    assert_eq!(waymark(look_up.to_vec(), Some(&root.path().join("none"))).await, Some(1));

    let origin = Origin::new("dp.example/log").unwrap();
    let followed = monitor::FollowedLog { trust, url: dp.log_url(), witnesses: vec![] };
    let settings = monitor::Settings {
        data_dir: root.path().join("monitor"),
        listen: loopback(),
        operations: None,
        tls,
        roots: authority.roots.clone(),
        logs: vec![followed],
        poll_ms: 100,
        proxies: waymark_runtime::proxies::Proxies::default(),
        renew_within_ms: 1000,
        log_memory_bytes: 1 << 30,
    };
    let status = monitor::once(settings, Clock::System).await.unwrap();
    let log = &status.logs[0];
    assert_eq!(log.origin, origin.as_str());
    assert!(log.verified_size > 4 && log.views[0].agrees.is_some(), "{status}");
    dp.stop().await.unwrap();
    witnesses.stop().await;
}
