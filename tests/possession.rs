//! Possession over HTTP: guesses in parallel, senders that others wrote the other side of, budgets, and an independent prover.
//!
//! Challenges are the same routes at a DP and at a prover, so where no log is needed a prover stands for both.

mod common;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use common::{QUIET, Stage, csi, domain, key, loopback, shown, until, with_consent};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::Notify,
};
use waymark::{
    api::{RECIPIENT_HEADER, RequestSignature},
    client::{
        ClientError,
        dp::DpClient,
        memory::LogMemory,
        recipient::{RecipientError, Wish, change, prove},
    },
    config::ProverFile,
    onboarding,
    possession::{config::Codes, outbox::Progress, sender::gateway},
    prover,
};
use waymark_log::{checkpoint::Origin, key::SecretKey};
use waymark_mapping::{
    event::EventKind,
    mapping::{Attestation, Method, Purpose},
};
use waymark_runtime::{clock::Clock, fetch::Fetcher, listen, random};

const BOB: &str = "tel:+4915112345642";
const ANN: &str = "mailto:ann@post.example";
const ORIGIN: &str = "dp.example/log";

/// A prover in a folder of its own, with these `[codes]`.
struct Proving {
    dir: tempfile::TempDir,
    prover: prover::Running,
}

async fn start_prover(dir: &Path, name: &str, origin: &str, codes: &str) -> prover::Running {
    prover::init(dir, &domain(name), &Origin::new(origin).unwrap(), Codes::Folder).unwrap();
    std::fs::write(dir.join("prover.toml"), format!("domain = \"{name}\"\norigin = \"{origin}\"\n{codes}")).unwrap();
    prover::start(prover::Settings::load(dir, loopback()).unwrap(), Clock::System).await.unwrap()
}

impl Proving {
    async fn new(codes: &str) -> Self {
        Self::with(codes, |_| ()).await
    }

    /// `before` puts files there.
    async fn with(codes: &str, before: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        before(dir.path());
        let prover = start_prover(dir.path(), "prover.example", ORIGIN, codes).await;
        Self { dir, prover }
    }

    fn client(&self) -> DpClient {
        client(&self.prover.url(), ORIGIN)
    }

    fn code(&self, id: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("codes").join(id)).unwrap()
    }

    fn address(&self) -> SocketAddr {
        self.prover.url().strip_prefix("http://").unwrap().parse().unwrap()
    }
}

fn client(url: &str, origin: &str) -> DpClient {
    DpClient::new(Fetcher::new(Duration::from_secs(40)), url, Origin::new(origin).unwrap(), Clock::System)
}

#[track_caller]
fn refused<T>(result: Result<T, ClientError>, status: u16, code: &str) {
    match result {
        Err(ClientError::Refused { status: s, code: c, .. }) => assert_eq!((s, c.as_str()), (status, code)),
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_guesses_at_once_evaluate_five() {
    let proving = Proving::new("codes = \"folder\"\n").await;
    let (dp, bob) = (proving.client(), key("bob"));
    let challenge = dp.start_challenge(&bob, &csi(BOB), 0, Purpose::Control).await.unwrap();
    let right = proving.code(&challenge.id);
    let wrong = (0..).map(|n| format!("{n:06}")).filter(|c| *c != right).take(1000);
    let guesses: Vec<_> = wrong
        .map(|code| {
            let (dp, bob, id) = (dp.clone(), bob.clone(), challenge.id.clone());
            tokio::spawn(async move { dp.check_challenge(&bob, &id, &code).await })
        })
        .collect();
    let mut evaluated = 0;
    for guess in guesses {
        match guess.await.unwrap() {
            Ok(None) => evaluated += 1,
            other => refused(other, 410, "challenge-over"),
        }
    }
    assert_eq!(evaluated, 5);
    refused(dp.check_challenge(&bob, &challenge.id, &right).await, 410, "challenge-over");
    proving.prover.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_sends_one_code_and_what_the_answers_say() {
    let proving = Proving::new("codes = \"folder\"\n").await;
    let (dp, bob) = (proving.client(), key("bob"));
    let first = dp.start_challenge(&bob, &csi(BOB), 0, Purpose::View).await.unwrap();
    assert_eq!((first.status.as_str(), first.sends_left, first.checks_left), ("pending", 4, 5));
    let code = proving.code(&first.id);
    for left in (0..4).rev() {
        let again = dp.send_challenge(&bob, &first.id).await.unwrap();
        assert_eq!((again.id.as_str(), again.sends_left), (first.id.as_str(), left));
        assert_eq!((again.expires_ms, proving.code(&first.id)), (first.expires_ms, code.clone()));
    }
    refused(dp.send_challenge(&bob, &first.id).await, 429, "challenge-sends");
    refused(dp.send_challenge(&key("mallory"), &first.id).await, 410, "challenge-over");
    refused(dp.poll_challenge(&key("mallory"), &first.id).await, 410, "challenge-over");
    assert_eq!(dp.poll_challenge(&bob, &first.id).await.unwrap(), None);
    let attestation = dp.check_challenge(&bob, &first.id, &code).await.unwrap().unwrap();
    assert_eq!((attestation.purpose, attestation.method), (Purpose::View, Method::CONSOLE));
    assert!(!proving.dir.path().join("codes").join(&first.id).exists());
    refused(dp.check_challenge(&bob, &first.id, "wrong").await, 410, "challenge-over");
    refused(dp.poll_challenge(&bob, &first.id).await, 410, "challenge-over");
    // What fails on the prover's own machine tells nothing of anybody, so that it may be told.
    std::fs::remove_dir_all(proving.dir.path().join("codes")).unwrap();
    refused(dp.start_challenge(&bob, &csi(BOB), 0, Purpose::View).await, 503, "channel-failed");
    proving.prover.stop().await;
}

/// A gateway: what it was sent, what it answers, and whether it answers at all.
#[derive(Default)]
struct Gateway {
    tries: Mutex<Vec<(HeaderMap, Vec<u8>)>>,
    statuses: Mutex<Vec<u16>>,
    /// While there are permits to wait for, it does not answer.
    hold: Option<Notify>,
}

async fn serve_gateway(gateway: Arc<Gateway>) -> listen::Server {
    let take = move |headers: HeaderMap, body: Bytes| async move {
        gateway.tries.lock().unwrap().push((headers, body.to_vec()));
        if let Some(hold) = &gateway.hold {
            hold.notified().await;
        }
        let status = gateway.statuses.lock().unwrap().pop().unwrap_or(202);
        axum::http::StatusCode::from_u16(status).unwrap()
    };
    let router = Router::new().route("/messages", post(take));
    listen::serve(listen::bind(loopback()).await.unwrap(), router).unwrap()
}

const GATEWAY_KEY: [u8; 32] = [0x5a; 32];

fn by_gateway(url: &str) -> String {
    format!(
        "[codes]\nsms = \"gateway\"\nvoice = \"gateway\"\ndefault_for_numbers = \"sms\"\n[codes.gateway]\nurl = \
         \"{url}/messages\"\nkey_file = \"gateway.key\"\n"
    )
}

fn write_gateway_key(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join("gateway.key");
    std::fs::write(&path, format!("{}\n", "5a".repeat(32))).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_gets_signed_requests_and_a_second_try() {
    let gateway = Arc::new(Gateway { statuses: Mutex::new(vec![202, 202, 503]), ..Gateway::default() });
    let server = serve_gateway(Arc::clone(&gateway)).await;
    let proving = Proving::with(&by_gateway(&server.url()), write_gateway_key).await;
    let (dp, bob) = (proving.client(), key("bob"));
    let challenge = dp.start_challenge(&bob, &csi(BOB), 0, Purpose::Control).await.unwrap();
    until("the second try", async || gateway.tries.lock().unwrap().len() == 2).await;
    let tries = std::mem::take(&mut *gateway.tries.lock().unwrap());
    let of = |i: usize, name: &str| tries[i].0[name].to_str().unwrap().to_owned();
    for (i, (_, body)) in tries.iter().enumerate() {
        let signed = gateway::sign(&GATEWAY_KEY, &of(i, "webhook-id"), &of(i, "webhook-timestamp"), body);
        assert_eq!(of(i, "webhook-signature"), signed);
    }
    // The same message, so that a gateway that took the first try as well sends it once.
    assert_eq!((of(0, "webhook-id"), &tries[0].1), (of(1, "webhook-id"), &tries[1].1));
    let body: Value = serde_json::from_slice(&tries[1].1).unwrap();
    assert_eq!((body["to"].as_str(), body["channel"].as_str()), (Some("+4915112345642"), Some("sms")));
    let text = body["text"].as_str().unwrap();
    assert!(text.contains("prover.example") && text.contains("Do not share"), "{text}");
    let code = text.split_once("code ").unwrap().1[..6].to_owned();
    let attestation = dp.check_challenge(&bob, &challenge.id, &code).await.unwrap().unwrap();
    assert_eq!((attestation.method, attestation.prover.as_str()), (Method::SMS, "prover.example"));

    let channel = Some(waymark::possession::sender::Channel::Voice);
    let challenge = dp.start_challenge_by(channel, &bob, &csi(BOB), 0, Purpose::Control).await.unwrap();
    until("the call", async || gateway.tries.lock().unwrap().len() == 1).await;
    let body: Value = serde_json::from_slice(&gateway.tries.lock().unwrap()[0].1).unwrap();
    let spoken = body["text"].as_str().unwrap().split_once("code is: ").unwrap().1;
    let code: String = spoken.chars().take_while(|c| *c != '.').filter(char::is_ascii_digit).collect();
    let attestation = dp.check_challenge(&bob, &challenge.id, &code).await.unwrap().unwrap();
    assert_eq!((body["channel"].as_str(), attestation.method), (Some("voice"), Method::VOICE));
    // What is not served is told by the kind of identifier alone.
    refused(dp.start_challenge(&bob, &csi(ANN), 0, Purpose::Control).await, 422, "channel-not-offered");
    proving.prover.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_gateway_or_learns_what_it_says() {
    let silent = Arc::new(Gateway { hold: Some(Notify::new()), ..Gateway::default() });
    let refusing = Arc::new(Gateway { statuses: Mutex::new(vec![404; 8]), ..Gateway::default() });
    let servers = [serve_gateway(Arc::clone(&silent)).await, serve_gateway(Arc::clone(&refusing)).await];
    let mut told = vec![];
    for (server, gateway) in servers.iter().zip([&silent, &refusing]) {
        let proving = Proving::with(&by_gateway(&server.url()), write_gateway_key).await;
        let challenge = proving.client().start_challenge(&key("bob"), &csi(BOB), 0, Purpose::Control).await.unwrap();
        told.push((challenge.status, challenge.channel, challenge.sends_left, challenge.checks_left));
        until("the gateway to be asked", async || !gateway.tries.lock().unwrap().is_empty()).await;
        // With the prover ends what is on its way.
        proving.prover.stop().await;
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(refusing.tries.lock().unwrap().len(), 1, "a refusal is final");
    silent.hold.as_ref().unwrap().notify_waiters();
    for server in servers {
        server.stop().await;
    }
}

/// A mail relay that takes everything: the text of each mail, as it came.
/// What is charged is sent, and what came of it is remembered: a client whose connection breaks loses no code by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_gets_its_code_and_pays_once() {
    let gateway = Arc::new(Gateway::default());
    let server = serve_gateway(Arc::clone(&gateway)).await;
    let proving = Proving::with(&by_gateway(&server.url()), write_gateway_key).await;
    let bob = key("bob");
    let tries = || gateway.tries.lock().unwrap().len();
    let leave = async |request: String| {
        let mut stream = tokio::net::TcpStream::connect(proving.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
    };
    let body = json!({"csi": BOB, "purpose": "control"}).to_string();
    let start = || signed("/v1/challenges", &bob, "idempotency-key: one", &body);
    // One that is gone before its request is looked at has asked for nothing, and comes again. Two codes are all that
    // this address is allowed: one that is charged and does not leave is missed.
    until("a code", async || {
        leave(start()).await;
        tries() > 0
    })
    .await;
    let mut stream = tokio::net::TcpStream::connect(proving.address()).await.unwrap();
    stream.write_all(start().as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.contains("idempotent-replayed: true"), "{answer}");
    let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&answer["sends_left"], tries()), (&json!(4), 1));
    let send = format!("/v1/challenges/{}/send", answer["id"].as_str().unwrap());
    until("the code again", async || {
        leave(signed(&send, &bob, "accept: */*", "{}")).await;
        tries() > 1
    })
    .await;
    assert_eq!(tries(), 2);
    proving.prover.stop().await;
    server.stop().await;
}

/// A right code is not lost with its answer: the same check gets the same attestation, and nothing else is to be had
/// by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_after_a_right_code_asks_again_and_gets_its_attestation() {
    let proving = Proving::new(&format!("{BUDGET}[codes.budget]\ncsi_hour = 5\n")).await;
    let (dp, bob) = (proving.client(), key("bob"));
    let challenge = dp.start_challenge(&bob, &csi(BOB), 0, Purpose::Control).await.unwrap();
    let (code, path) = (proving.code(&challenge.id), format!("/v1/challenges/{}/check", challenge.id));
    let body = json!({"code": code}).to_string();
    let file = proving.dir.path().join("codes").join(&challenge.id);
    until("the check to be judged", async || {
        let mut stream = tokio::net::TcpStream::connect(proving.address()).await.unwrap();
        stream.write_all(signed(&path, &bob, "accept: */*", &body).as_bytes()).await.unwrap();
        drop(stream);
        !file.exists()
    })
    .await;
    let first = dp.check_challenge(&bob, &challenge.id, &code).await.unwrap().unwrap();
    assert_eq!(dp.check_challenge(&bob, &challenge.id, &code).await.unwrap().unwrap(), first);
    refused(dp.check_challenge(&key("mallory"), &challenge.id, &code).await, 410, "challenge-over");
    refused(dp.check_challenge(&bob, &challenge.id, "000000").await, 410, "challenge-over");
    proving.prover.stop().await;
}

async fn serve_smtp(mails: Arc<Mutex<Vec<String>>>) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    serve_greylisting(mails, 0).await
}

/// One that puts a mail off a few times first.
async fn serve_greylisting(
    mails: Arc<Mutex<Vec<String>>>,
    mut puts_off: u32,
) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            stream.write_all(b"220 relay.example\r\n").await.unwrap();
            let (mut line, mut mail, mut in_mail) = (String::new(), String::new(), false);
            while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                let answer = match (in_mail, line.trim_end()) {
                    (true, ".") => {
                        mails.lock().unwrap().push(std::mem::take(&mut mail));
                        in_mail = false;
                        "250 taken\r\n"
                    }
                    (true, _) => {
                        mail.push_str(&line);
                        ""
                    }
                    (false, to) if to.starts_with("RCPT") && puts_off > 0 => {
                        puts_off -= 1;
                        "451 4.7.1 come back later\r\n"
                    }
                    (false, "DATA") => {
                        in_mail = true;
                        "354 go on\r\n"
                    }
                    (false, _) => "250 yes\r\n",
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
                line.clear();
            }
        }
    });
    (address, task)
}

fn by_mail(relay: SocketAddr) -> String {
    format!(
        "[codes]\nemail = \"smtp\"\n[codes.smtp]\nhost = \"127.0.0.1\"\nport = {}\nsecurity = \"none\"\nfrom = \
         \"codes@prover.example\"\n",
        relay.port()
    )
}

/// The text of the only mail, its soft line breaks undone.
async fn only_mail(mails: &Mutex<Vec<String>>) -> String {
    until("a mail", async || !mails.lock().unwrap().is_empty()).await;
    let mail = mails.lock().unwrap().pop().unwrap();
    assert!(mails.lock().unwrap().is_empty());
    mail.replace("=\r\n", "").replace("=3D", "=")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_has_a_code_and_a_link_that_only_a_post_consumes() {
    let mails = Arc::new(Mutex::new(vec![]));
    let (relay, relaying) = serve_smtp(Arc::clone(&mails)).await;
    let proving = Proving::new(&by_mail(relay)).await;
    let (dp, ann, fetcher) = (proving.client(), key("ann"), Fetcher::default());
    let challenge = dp.start_challenge(&ann, &csi(ANN), 0, Purpose::Control).await.unwrap();
    let mail = only_mail(&mails).await;
    for part in ["To: ann@post.example", "Auto-Submitted: auto-generated", "prover.example", "Do not share"] {
        assert!(mail.contains(part), "{part}: {mail}");
    }
    let link = mail.lines().map(str::trim).find(|l| l.starts_with(&proving.prover.url())).unwrap();
    let (page, fragment) = link.split_once('#').unwrap();
    let (id, secret) = fragment.split_once('.').unwrap();
    assert_eq!(id, challenge.id);
    // A scanner fetches the link and all that the page loads, and tries the path of the POST.
    for path in ["", ".js", ".css"] {
        let got = fetcher.get(&format!("{page}{path}"), 1 << 16).await.unwrap();
        let text = String::from_utf8(got.body).unwrap();
        assert!(got.status == 200 && !text.contains("://") && !text.contains(secret), "{text}");
    }
    let confirm = format!("{}/v1/challenges/{id}/confirm", proving.prover.url());
    assert_eq!(fetcher.get(&confirm, 4096).await.unwrap().status, 405);
    assert_eq!(dp.poll_challenge(&ann, id).await.unwrap(), None);
    // The page's POST: not as a form, not with another secret, and then once for the key that started it.
    let send = async |media_type: &str, secret: &str| {
        let body = json!({"secret": secret}).to_string().into_bytes();
        fetcher.post(&confirm, media_type, &[], body, 4096).await.unwrap().status
    };
    assert_eq!(send("application/x-www-form-urlencoded", secret).await, 415);
    assert_eq!(send("application/json", &"0".repeat(32)).await, 410);
    assert_eq!(send("application/json", secret).await, 200);
    refused(dp.poll_challenge(&key("mallory"), id).await, 410, "challenge-over");
    let attestation = dp.poll_challenge(&ann, id).await.unwrap().unwrap();
    assert_eq!((attestation.method, attestation.recipient), (Method::EMAIL_LINK, ann.public()));
    assert_eq!(send("application/json", secret).await, 410);

    let challenge = dp.start_challenge(&ann, &csi(ANN), 0, Purpose::Control).await.unwrap();
    let mail = only_mail(&mails).await;
    let code = mail.lines().map(str::trim).find(|l| l.len() == 6 && l.bytes().all(|b| b.is_ascii_digit())).unwrap();
    let attestation = dp.check_challenge(&ann, &challenge.id, code).await.unwrap().unwrap();
    assert_eq!(attestation.method, Method::EMAIL);
    proving.prover.stop().await;
    relaying.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_kept_to_itself() {
    let proving = Proving::new("codes = \"folder\"\n").await;
    let mut stream = tokio::net::TcpStream::connect(proving.address()).await.unwrap();
    stream.write_all(b"GET /confirm HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self';",
        "frame-ancestors 'none'",
        "form-action 'none'",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
    ] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    proving.prover.stop().await;
}

/// A request as a client puts it on its connection, with one more header.
fn signed(path: &str, secret: &SecretKey, header: &str, body: &str) -> String {
    let (origin, now) = (Origin::new(ORIGIN).unwrap(), Clock::System.now());
    let signature = RequestSignature::sign(&origin, secret, ("POST", path), body.as_bytes(), now, random::bytes());
    let (signature, length) = (signature.format(), body.len());
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{header}\r\n\
         {RECIPIENT_HEADER}: {signature}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// POST /v1/challenges, as a proxy on this machine passes it on from somebody's address: status, id or problem code, body.
async fn start_from(to: SocketAddr, from: IpAddr, secret: &SecretKey, who: &str) -> (u16, String, String) {
    let body = json!({"csi": who, "purpose": "control"}).to_string();
    let request = signed("/v1/challenges", secret, &format!("x-forwarded-for: {from}"), &body);
    let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let json: Value = serde_json::from_str(body).unwrap();
    let name = if status == 201 { "id" } else { "code" };
    if status == 429 {
        assert!(head.contains("retry-after: "), "{head}");
    }
    (status, json[name].as_str().unwrap().to_owned(), body.to_owned())
}

/// Codes of people behind a proxy, with a budget.
const BUDGET: &str = "trusted_proxies = [\"127.0.0.1\"]\n[codes]\nsms = \"folder\"\nemail = \"folder\"\n";

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

/// An IPv6 /48 in a /32 of its own.
fn network(i: u32) -> IpAddr {
    ip(&format!("2a{:02x}:{:x}:1::1", i / 65_536, i % 65_536))
}

#[tokio::test(flavor = "multi_thread")]
async fn pumping_from_many_addresses_stops_while_people_who_return_get_codes() {
    let proving = Proving::new(&format!("{BUDGET}[codes.budget]\ncountry_hour = 50\n")).await;
    let (to, dp, beside) = (proving.address(), proving.client(), ip("198.51.100.250"));
    let (cara, premium) = (key("cara"), "tel:+881600123456");
    let (_, id, _) = start_from(to, beside, &cara, premium).await;
    dp.check_challenge(&cara, &id, &proving.code(&id)).await.unwrap().unwrap();
    let mut sent = 0;
    for i in 0..200u8 {
        let number = format!("tel:+8816{:02}{i:06}", i % 37);
        let (status, code, _) = start_from(to, [198, 51, 100, i].into(), &key(&number), &number).await;
        match status {
            201 => sent += 1,
            _ => assert_eq!((status, code.as_str()), (429, "code-budget")),
        }
    }
    assert!((15..=20).contains(&sent), "half of what newcomers have, for one network: {sent}");
    // Nobody new in that network gets a code there, whether the number is known here or not, and is told the same.
    let (one, other) = (key("one"), key("other"));
    let known = start_from(to, beside, &one, premium).await;
    let unknown = start_from(to, beside, &other, "tel:+881600999999").await;
    assert_eq!((known.0, known.1.as_str()), (429, "code-budget"));
    let body = |answer: &str| {
        let mut json: Value = serde_json::from_str(answer).unwrap();
        assert!(json["retry_after"].take().as_u64().is_some_and(|s| (1..=3600).contains(&s)));
        json
    };
    assert_eq!(body(&known.2), body(&unknown.2));
    // Cara does, and so does everybody elsewhere, and to elsewhere.
    assert_eq!(start_from(to, beside, &cara, premium).await.0, 201);
    assert_eq!(start_from(to, ip("203.0.113.1"), &other, "tel:+881600999999").await.0, 201);
    assert_eq!(start_from(to, beside, &one, BOB).await.0, 201);
    assert_eq!(start_from(to, beside, &one, ANN).await.0, 201);
    proving.prover.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csi_gets_so_many_codes_from_strangers_sends_included() {
    let proving = Proving::new(BUDGET).await;
    let (to, dp) = (proving.address(), proving.client());
    let challenge = dp.start_challenge(&key("one"), &csi(BOB), 0, Purpose::Control).await.unwrap();
    dp.send_challenge(&key("one"), &challenge.id).await.unwrap();
    // One address has two of five an hour.
    refused(dp.send_challenge(&key("one"), &challenge.id).await, 429, "code-budget");
    refused(dp.start_challenge(&key("two"), &csi(BOB), 0, Purpose::Control).await, 429, "code-budget");
    for (i, status) in [201, 201, 201, 429, 429].into_iter().enumerate() {
        assert_eq!(start_from(to, network(i as u32), &key(&format!("stranger {i}")), BOB).await.0, status, "{i}");
    }
    // The challenge that is open goes on.
    let code = proving.code(&challenge.id);
    dp.check_challenge(&key("one"), &challenge.id, &code).await.unwrap().unwrap();
    proving.prover.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_knows_a_number_does_not_keep_its_holder_out() {
    let proving = Proving::new(BUDGET).await;
    let (to, dp, bob) = (proving.address(), proving.client(), key("bob"));
    let mut sent = 0;
    for i in 0..20u32 {
        let from = if i % 2 == 0 { ip("198.51.100.1") } else { ip("2001:db8:5::1") };
        sent += u32::from(start_from(to, from, &key(&format!("mallory {i}")), BOB).await.0 == 201);
    }
    assert_eq!(sent, 4);
    // Bob, with a new key and from elsewhere.
    let (status, id, _) = start_from(to, ip("203.0.113.1"), &bob, BOB).await;
    assert_eq!(status, 201);
    dp.check_challenge(&bob, &id, &proving.code(&id)).await.unwrap().unwrap();
    // From then on his key returns, and has a budget of its own.
    assert_eq!(start_from(to, ip("203.0.113.2"), &key("mallory"), BOB).await.0, 429);
    assert_eq!(start_from(to, ip("203.0.113.1"), &bob, BOB).await.0, 201);
    proving.prover.stop().await;
}

/// What the mail server or the gateway hands over, whose sender it has checked. What is said of it repeats nothing of it.
fn hand_over(dir: &Path, from: &str, message: &str, text: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
    command.args(["prover", "received", "--from", from, "--dir"]).arg(dir);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), message.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && !said.contains(from) && !said.contains(text), "{said}");
    said
}

#[test]
fn a_message_for_a_folder_that_is_no_provers_is_not_taken_and_makes_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mistyped = folder.path().join("porver");
    let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
    command.args(["prover", "received", "--from", "+4915112345642", "--dir"]).arg(&mistyped).stdin(Stdio::null());
    let ended = command.output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.contains("porver") && said.contains("prover.toml"), "{said}");
    assert!(!said.contains("15112345642") && !mistyped.exists(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_more_codes_are_sent_to_a_number_its_holder_enters_by_a_text_message() {
    let gateway = Arc::new(Gateway::default());
    let server = serve_gateway(Arc::clone(&gateway)).await;
    let codes = format!(
        "trusted_proxies = [\"127.0.0.1\"]\n{}[codes.budget]\ncsi_day = 5\n[codes.incoming]\nsms = \"+4915100000000\"\n",
        by_gateway(&server.url())
    );
    let proving = Proving::with(&codes, write_gateway_key).await;
    let (to, dp, bob) = (proving.address(), proving.client(), key("bob"));
    // Strangers use up what the number may get in the hour and in the day.
    let mut sent = 0;
    for i in 0..20u32 {
        sent += u32::from(start_from(to, network(i), &key(&format!("mallory {i}")), BOB).await.0 == 201);
    }
    assert_eq!(sent, 5);
    let tries = || gateway.tries.lock().unwrap().len();
    until("the codes of strangers", async || tries() == 5).await;
    let (status, code, _) = start_from(to, ip("203.0.113.1"), &bob, BOB).await;
    assert_eq!((status, code.as_str()), (429, "code-budget"), "its holder, with a new key and from elsewhere");
    // The way in that sends nothing.
    let challenge = dp.start_incoming(None, &bob, &csi(BOB), 0, Purpose::Control).await.unwrap();
    let asked = challenge.incoming.unwrap();
    assert_eq!((asked.to.as_str(), challenge.sends_left, tries()), ("+4915100000000", 0, 5));
    let receive = |from: &str, message: &str| hand_over(proving.dir.path(), from, message, &asked.text);
    for (from, message, is_taken) in [
        ("+4915112345643", asked.text.clone(), true),
        ("+4915112345642", format!("Re: {}", asked.text), false),
        ("+4915112345642", format!("{} thank you", asked.text), false),
    ] {
        assert_eq!(receive(from, &message) == "taken\n", is_taken, "{from}");
        assert_eq!(dp.poll_challenge(&bob, &challenge.id).await.unwrap(), None);
    }
    assert_eq!(receive("+4915112345642", &asked.text), "taken\n");
    refused(dp.poll_challenge(&key("mallory 1"), &challenge.id).await, 410, "challenge-over");
    let attestation = dp.poll_challenge(&bob, &challenge.id).await.unwrap().unwrap();
    assert_eq!((attestation.method, attestation.recipient), (Method::INCOMING, bob.public()));
    // From then on his key returns, and has codes of its own. A stranger still waits.
    assert_eq!(start_from(to, ip("203.0.113.1"), &bob, BOB).await.0, 201);
    assert_eq!(start_from(to, ip("203.0.113.2"), &key("mallory"), BOB).await.0, 429);
    proving.prover.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_more_codes_are_sent_its_holder_enters_by_a_message_that_comes_in() {
    let proving = Proving::new(&format!("{BUDGET}[codes.incoming]\nemail = \"proof@prover.example\"\n")).await;
    let (to, dp, ann) = (proving.address(), proving.client(), key("ann"));
    let mut sent = 0;
    for i in 0..20u32 {
        sent += u32::from(start_from(to, network(i), &key(&format!("mallory {i}")), ANN).await.0 == 201);
    }
    assert_eq!(sent, 5);
    refused(dp.start_challenge(&ann, &csi(ANN), 0, Purpose::Control).await, 429, "code-budget");
    let challenge = dp.start_incoming(None, &ann, &csi(ANN), 0, Purpose::Control).await.unwrap();
    let asked = challenge.incoming.unwrap();
    assert_eq!(asked.to, "proof@prover.example");
    refused(dp.send_challenge(&ann, &challenge.id).await, 429, "challenge-sends");
    let receive = |from: &str, header: &str| {
        let mail = format!("From: Ann <{from}>\r\n{header}\r\n\r\n> {}\r\n-- \r\nAnn\r\n", asked.text);
        hand_over(proving.dir.path(), from, &mail, &asked.text)
    };
    let subject = format!("Subject: {}", asked.text);
    assert_eq!(receive("eve@post.example", &subject), "taken\n");
    assert_eq!(dp.poll_challenge(&ann, &challenge.id).await.unwrap(), None);
    // What her mailbox answers to anybody who mails her the text.
    for (header, why) in [
        (format!("Subject: Re: {}", asked.text), "as its subject"),
        (format!("{subject}\r\nAuto-Submitted: auto-replied"), "Auto-Submitted"),
        (format!("Subject: hello\r\nTo: {} <proof@prover.example>", asked.text), "as its subject"),
    ] {
        let said = receive("ann@post.example", &header);
        assert!(said.starts_with("not a proof: ") && said.contains(why), "{said}");
        assert_eq!(dp.poll_challenge(&ann, &challenge.id).await.unwrap(), None);
    }
    let file = proving.dir.path().join("codes").join(&challenge.id);
    assert!(!file.exists() && dp.poll_delivery(&ann, &challenge.id).await.unwrap().1.is_none());
    // A mail alone is no proof: any mail program sends one at a click. It has a code sent to the mailbox.
    assert_eq!(receive("ann@post.example", &subject), "taken\n");
    assert_eq!(dp.poll_delivery(&ann, &challenge.id).await.unwrap(), (None, Some(Progress::Sent)));
    let code = proving.code(&challenge.id);
    let attestation = dp.check_challenge(&ann, &challenge.id, &code).await.unwrap().unwrap();
    // The sender of this test is one for development, which proves nothing about a mailbox.
    assert_eq!((attestation.method, attestation.recipient), (Method::CONSOLE, ann.public()));
    refused(dp.start_incoming(None, &ann, &csi(BOB), 0, Purpose::Control).await, 422, "channel-not-offered");
    proving.prover.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_behind_one_address_gets_in_all_at_once() {
    let proving = Proving::new(BUDGET).await;
    let (to, dp) = (proving.address(), proving.client());
    let mut open = vec![];
    // More at a time than of 150 a minute who take 45 seconds each.
    for i in 0..150 {
        let (person, number) = (key(&format!("person {i}")), format!("tel:+49151{i:04}1234"));
        let (status, id, body) = start_from(to, ip("192.0.2.1"), &person, &number).await;
        assert_eq!(status, 201, "{i}: {body}");
        open.push((person, id));
    }
    for (person, id) in open {
        dp.check_challenge(&person, &id, &proving.code(&id)).await.unwrap().unwrap();
    }
    // Thirty colleagues of one number block.
    for i in 10..40 {
        let number = format!("tel:+4930231250{i}");
        assert_eq!(start_from(to, ip("192.0.2.1"), &key(&number), &number).await.0, 201, "{i}");
    }
    proving.prover.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_hundred_and_ninety_nine_networks_close_neither_a_country_nor_a_range() {
    let proving = Proving::new(BUDGET).await;
    let (to, mallory) = (proving.address(), key("mallory"));
    let number = |i: u32| format!("tel:+88165{:04}{:04}", i % 3, i);
    let mut asked = 0;
    let mut attack = async |network: IpAddr, times: u32| {
        let mut sent = 0;
        for _ in 0..times {
            asked += 1;
            sent += u32::from(start_from(to, network, &mallory, &number(asked)).await.0 == 201);
        }
        sent
    };
    // Some take as much as they get, and all the others a little.
    for i in 0..6 {
        let four = attack(IpAddr::from([198, 51, i, 1]), 60).await;
        assert!(four > 2, "{i}: {four}");
    }
    let mut sent = 0;
    for i in 0..993 {
        sent += attack(network(i), 1).await;
    }
    assert_eq!(sent, 993);
    for i in 0..20 {
        let honest = key(&format!("honest {i}"));
        let (status, id, body) = start_from(to, network(5000 + i), &honest, &number(9900 + i)).await;
        assert_eq!(status, 201, "{i}: {body}");
        proving.client().check_challenge(&honest, &id, &proving.code(&id)).await.unwrap().unwrap();
    }
    proving.prover.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_greylisted_is_tried_again_and_the_api_says_that_it_waits() {
    let mails = Arc::new(Mutex::new(vec![]));
    let (relay, relaying) = serve_greylisting(Arc::clone(&mails), 4).await;
    let proving = Proving::new(&by_mail(relay)).await;
    let (dp, ann) = (proving.client(), key("ann"));
    let challenge = dp.start_challenge(&ann, &csi(ANN), 0, Purpose::Control).await.unwrap();
    assert_eq!(challenge.delivery, Progress::Sent);
    let delivery = async || dp.poll_delivery(&ann, &challenge.id).await.unwrap().1;
    until("it to wait", async || delivery().await == Some(Progress::Waiting)).await;
    until("the mail", async || !mails.lock().unwrap().is_empty()).await;
    until("it to be sent", async || delivery().await == Some(Progress::Sent)).await;
    let mail = only_mail(&mails).await;
    let code = mail.lines().map(str::trim).find(|l| l.len() == 6 && l.bytes().all(|b| b.is_ascii_digit())).unwrap();
    dp.check_challenge(&ann, &challenge.id, code).await.unwrap().unwrap();
    proving.prover.stop().await;
    relaying.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_survives_a_restart_and_the_file_of_its_code_goes_when_it_is_over() {
    let (dir, clock, bob) = (tempfile::tempdir().unwrap(), Clock::shifted(), key("bob"));
    prover::init(dir.path(), &domain("prover.example"), &Origin::new(ORIGIN).unwrap(), Codes::Folder).unwrap();
    let start =
        async || prover::start(prover::Settings::load(dir.path(), loopback()).unwrap(), clock.clone()).await.unwrap();
    let prover = start().await;
    let dp = client(&prover.url(), ORIGIN);
    let first = dp.start_challenge(&bob, &csi(BOB), 0, Purpose::Control).await.unwrap();
    let second = dp.start_challenge(&bob, &csi(BOB), 0, Purpose::Control).await.unwrap();
    let file = |id: &str| dir.path().join("codes").join(id);
    prover.stop().await;
    let prover = start().await;
    let code = std::fs::read_to_string(file(&first.id)).unwrap();
    client(&prover.url(), ORIGIN).check_challenge(&bob, &first.id, &code).await.unwrap().unwrap();
    assert!(!file(&first.id).exists() && file(&second.id).exists());
    prover.stop().await;
    clock.advance(10 * 60 * 1000);
    let prover = start().await;
    assert!(!file(&second.id).exists());
    prover.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_a_kill_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    prover::init(dir.path(), &domain("prover.example"), &Origin::new(ORIGIN).unwrap(), Codes::Folder).unwrap();
    let toml = format!("domain = \"prover.example\"\norigin = \"{ORIGIN}\"\n{BUDGET}");
    std::fs::write(dir.path().join("prover.toml"), toml).unwrap();
    let address = |url: &str| url.strip_prefix("http://").unwrap().parse::<SocketAddr>().unwrap();
    let mut answered: Vec<(SecretKey, String)> = vec![];
    for round in 0..4u32 {
        let (mut serving, url) = serve(dir.path());
        // Everything that was answered before works, once; and no budget has begun again.
        for (secret, id) in answered.drain(..) {
            let code = std::fs::read_to_string(dir.path().join("codes").join(&id)).unwrap();
            client(&url, ORIGIN).check_challenge(&secret, &id, &code).await.unwrap().unwrap();
        }
        let strangers = (0..3).map(|i| key(&format!("stranger {round} {i}")));
        let mut sent = 0;
        for (i, stranger) in strangers.enumerate() {
            sent += u32::from(start_from(address(&url), network(10 * round + i as u32), &stranger, BOB).await.0 == 201);
        }
        assert_eq!(sent, [3, 2, 0, 0][round as usize]);
        let (to, known) = (address(&url), Arc::new(Mutex::new(vec![])));
        let asking: Vec<_> = (0..4u32)
            .map(|task| {
                let known = Arc::clone(&known);
                tokio::spawn(async move {
                    for i in 0..50u32 {
                        let person = key(&format!("person {round} {task} {i}"));
                        let number = format!("tel:+49{}5{round}{task}{i:02}1234", 16 + task);
                        let (status, id, _) = start_from(to, network(100 + task * 10 + i % 7), &person, &number).await;
                        if status == 201 {
                            known.lock().unwrap().push((person, id));
                        }
                    }
                })
            })
            .collect();
        let enough = 5 + 7 * round as usize;
        until("some answers", async || known.lock().unwrap().len() >= enough).await;
        serving.0.kill().unwrap();
        serving.0.wait().unwrap();
        for task in asking {
            // What was under way when the program was killed has no answer.
            let _ = task.await;
        }
        answered = std::mem::take(&mut *known.lock().unwrap());
        assert!(answered.len() >= enough);
    }
}

/// Possession proved at a prover, whose codes lie in its folder.
async fn attest_at(prover: &prover::Running, dir: &Path, origin: &str, secret: &SecretKey) -> Attestation {
    let codes = dir.join("codes");
    let read = |id: String| async move { std::fs::read_to_string(codes.join(id)).ok() };
    prove(&client(&prover.url(), origin), secret, &csi(BOB), 0, Purpose::Control, read).await.unwrap()
}

async fn issue(stage: &Stage, secret: &SecretKey, attestation: &Attestation) -> Result<(), RecipientError> {
    let mapping = common::mapping(&stage.origin, secret, attestation, QUIET, shown("default"));
    let (who, added) = (csi(BOB), [with_consent(&stage.origin, mapping)]);
    let signers = [(secret, None)];
    let (kind, over) = (EventKind::Issue, stage.look_up(&who, None).await.version);
    let wish = Wish { kind, csi: &who, over, added: &added, removed: &[], signers: &signers };
    change(&stage.client(), wish, &stage.trust, &mut LogMemory::default()).await.map(drop)
}

#[track_caller]
fn not_issued(result: Result<(), RecipientError>, status: u16, code: &str) {
    match result {
        Err(RecipientError::Client(e)) => refused::<()>(Err(e), status, code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prover_attests_instead_of_the_dp() {
    let stage = stage_that_believes(&["tel:+49151"]).await;
    let (dir, bob) = (stage.root.path().join("prover"), key("bob"));
    let codes = "codes = \"folder\"\n";
    let prover = start_prover(&dir, "prover.example", ORIGIN, codes).await;
    // Nobody has logged it yet.
    let attestation = attest_at(&prover, &dir, ORIGIN, &bob).await;
    not_issued(issue(&stage, &bob, &attestation).await, 422, "prover-unknown");
    let entry = std::fs::read(dir.join("prover.example.provider")).unwrap();
    onboarding::submit(&stage.root.path().join("dp"), &onboarding::parse(&entry).unwrap()).unwrap();
    until("the prover to be logged", async || stage.dp.knows_provider(&domain("prover.example"))).await;

    // One that attests for another DP's log: its challenges are not this DP's, nor are its attestations, though its domain
    // and key were logged here.
    let (elsewhere, other) = (stage.root.path().join("elsewhere"), "other.example/log");
    let prover_elsewhere = start_prover(&elsewhere, "prover2.example", other, codes).await;
    let here = client(&prover_elsewhere.url(), ORIGIN);
    refused(here.start_challenge(&bob, &csi(BOB), 0, Purpose::Control).await, 401, "signature-invalid");
    let foreign = attest_at(&prover_elsewhere, &elsewhere, other, &bob).await;
    not_issued(issue(&stage, &bob, &foreign).await, 422, "mapping-invalid");
    // Nor one for somebody else's key.
    let mallory = key("mallory");
    not_issued(issue(&stage, &mallory, &attestation).await, 422, "mapping-invalid");

    issue(&stage, &bob, &attestation).await.unwrap();
    let found = stage.look_up(&csi(BOB), None).await;
    let possession = &found.mappings[0].possession;
    assert_eq!((possession.prover.as_str(), possession.method), ("prover.example", Method::CONSOLE));
    assert!(possession.independent_of_dp && possession.independent_of_msp);
    // A challenge is answered alike whether its CSI is known here or not.
    let dp = stage.client();
    let mut told = vec![];
    for who in [BOB, "tel:+4915112345643"] {
        let answer = dp.start_challenge(&key("stranger"), &csi(who), 0, Purpose::View).await.unwrap();
        told.push((answer.status, answer.channel, answer.sends_left, answer.checks_left, answer.id.len()));
    }
    assert_eq!(told[0], told[1]);
    prover.stop().await;
    prover_elsewhere.stop().await;
    stage.stop().await;
}

/// A DP that believes prover.example about these identifiers.
async fn stage_that_believes(attests: &[&str]) -> Stage {
    let attests: Vec<String> = attests.iter().map(|i| (*i).to_owned()).collect();
    let prover = ProverFile { domain: "prover.example".to_owned(), attests, stricter: false };
    Stage::with_file(1, &Clock::System, |file| file.prover.push(prover)).await
}

/// A key in the log is somebody's; whose word is taken about which identifier, the DP's configuration says. The default is: its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_prover_is_believed_about_the_identifiers_that_the_dp_lists_for_it() {
    for attests in [None, Some("tel:+43"), Some("@post.example")] {
        let stage = match attests {
            None => Stage::new().await,
            Some(attests) => stage_that_believes(&[attests]).await,
        };
        let (dir, bob) = (stage.root.path().join("prover"), key("bob"));
        let prover = start_prover(&dir, "prover.example", ORIGIN, "codes = \"folder\"\n").await;
        let entry = std::fs::read(dir.join("prover.example.provider")).unwrap();
        onboarding::submit(&stage.root.path().join("dp"), &onboarding::parse(&entry).unwrap()).unwrap();
        until("the prover to be logged", async || stage.dp.knows_provider(&domain("prover.example"))).await;
        let attestation = attest_at(&prover, &dir, ORIGIN, &bob).await;
        not_issued(issue(&stage, &bob, &attestation).await, 422, "prover-scope");
        prover.stop().await;
        stage.stop().await;
    }
}

/// `waymark prover serve`, until the test ends.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program, and where it listens.
fn serve(dir: &Path) -> (Serving, String) {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_waymark"));
    serve.args(["prover", "serve", "--listen", "127.0.0.1:0", "--dir"]).arg(dir);
    let mut serving = Serving(serve.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(serving.0.stderr.take().unwrap()));
    let url = lines.find_map(|l| Some(l.unwrap().strip_prefix("listening on ")?.to_owned())).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    (serving, url)
}

fn waymark(arguments: &[&str]) -> (i32, String) {
    let ended = Command::new(env!("CARGO_BIN_EXE_waymark")).args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_proves_at_a_prover() {
    let stage = Stage::new().await;
    let path = |name: &str| stage.root.path().join(name).display().to_string();
    let (dir, app, trust, codes) = (path("prover"), path("bob"), path("dp/trust.toml"), path("prover/codes"));
    let keygen = ["prover", "keygen", "--dir", &dir, "--domain", "prover.example", "--origin", ORIGIN];
    assert_eq!(waymark(&[&keygen[..], &["--codes", "folder"]].concat()).0, 0);
    assert_eq!(waymark(&keygen).0, 1, "keys are not overwritten");
    let (_serving, url) = serve(Path::new(&dir));
    let keygen =
        ["recipient", "keygen", "--dir", &app, "+49 151 123 456 42", "--dp", &stage.dp.url(), "--trust", &trust];
    assert_eq!(waymark(&keygen).0, 0);
    let prove = ["recipient", "prove", "--dir", &app, "--prover", &url];
    let (code, said) = waymark(&[&prove[..], &["--codes", &codes]].concat());
    assert!(code == 0 && said.contains("attested by prover.example"), "{said}");
    assert!(said.contains("reference") && !said.contains("15112345642"), "{said}");
    assert_eq!(waymark(&[&prove[..], &["--channel", "email"]].concat()).0, 1, "no mail to a number");
    assert_eq!(waymark(&prove).0, 1, "no code was entered");
    stage.stop().await;
}
