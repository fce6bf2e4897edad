//! A client that accepts nothing but what is documented, and writes down what it saw.
//!
//! It speaks HTTP/1.1 over plain sockets: what is to be seen is what a DP sends, and some of what it is sent no library would.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::Mutex,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};
use waymark::{
    api::{RECIPIENT_HEADER, RequestSignature},
    http::openapi::operations::{OPERATIONS, Operation},
    httpsig::{self, Request},
};
use waymark_log::{checkpoint::Origin, key::SecretKey};
use waymark_runtime::{clock::Clock, random};

use crate::common::domain;

/// An operation, a status, and the code of the problem or the media type of the answer.
pub type Entry = (&'static str, u16, String);

pub fn operation(id: &str) -> &'static Operation {
    OPERATIONS.iter().find(|o| o.id == id).unwrap_or_else(|| panic!("no operation {id}"))
}

/// What came back.
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ str| line.split_once(": ").is_some_and(|(n, _)| n.eq_ignore_ascii_case(name));
        self.head.lines().find(|line| value(line)).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn is(&self, status: u16, code: &str) {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{code}: {text}");
        assert_eq!(self.code(), code, "{text}");
    }

    #[track_caller]
    pub fn well(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

/// Sends bytes from one of the addresses that a machine has to itself, and reads until the other side closes.
pub async fn exchange(from: Ipv4Addr, to: SocketAddr, bytes: &[u8]) -> Answer {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    // A server that has seen enough may close before all is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    Answer::parse(&answer)
}

/// Sends a call.
pub async fn send(to: SocketAddr, call: &Call) -> Answer {
    exchange(call.from, to, &call.bytes()).await
}

/// A request in the making.
#[derive(Clone)]
pub struct Call {
    pub operation: &'static Operation,
    pub path: String,
    pub media_type: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub from: Ipv4Addr,
}

impl Call {
    pub fn new(id: &str, body: impl Into<Vec<u8>>) -> Self {
        let operation = operation(id);
        let media_type = operation.takes.map_or(String::new(), |t| t.form.0.to_owned());
        let path = operation.path.replace("{id}", &"0".repeat(32));
        let (headers, body, from) = (vec![], body.into(), Ipv4Addr::LOCALHOST);
        Self { operation, path, media_type, headers, body, from }
    }

    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Signed now with a recipient key.
    pub fn by(self, origin: &Origin, secret: &SecretKey) -> Self {
        let now = Clock::System.now();
        let signature =
            RequestSignature::sign(origin, secret, ("POST", &self.path), &self.body, now, random::bytes()).format();
        self.with(RECIPIENT_HEADER, signature)
    }

    /// Signed now as an MSP.
    pub fn by_msp(mut self, origin: &Origin, (name, secret): (&str, &SecretKey)) -> Self {
        let request = Request { method: "POST", path: &self.path, media_type: &self.media_type };
        let created = Clock::System.now().floor_seconds();
        let signed = httpsig::sign(origin, (&domain(name), secret), request, &self.body, created, random::bytes());
        self.headers.extend(signed.map(|(name, value)| (name.to_owned(), value)));
        self
    }

    /// Its head, with these lines instead of a length.
    pub fn head(&self, framing: &str) -> Vec<u8> {
        let Self { operation, path, media_type, headers, .. } = self;
        let mut head = format!("{} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{framing}\r\n", operation.method);
        if !media_type.is_empty() {
            head += &format!("content-type: {media_type}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        (head + "\r\n").into_bytes()
    }

    pub fn bytes(&self) -> Vec<u8> {
        [self.head(&format!("content-length: {}", self.body.len())), self.body.clone()].concat()
    }
}

/// What was seen.
#[derive(Default)]
pub struct Book(Mutex<BTreeSet<Entry>>);

impl Book {
    /// Sends a call and judges the answer.
    pub async fn send(&self, to: SocketAddr, call: Call) -> Answer {
        self.judge(call.operation, send(to, &call).await)
    }

    /// Writes an answer down. It must be one of those that the operation documents.
    #[track_caller]
    pub fn judge(&self, operation: &'static Operation, answer: Answer) -> Answer {
        let text = String::from_utf8_lossy(&answer.body);
        let media_type = answer.header("content-type").unwrap_or_default().to_owned();
        let gives = operation.gives.iter().find(|g| g.status == answer.status);
        let what = match gives {
            Some(gives) if gives.forms.is_empty() => {
                assert!(answer.body.is_empty() && media_type.is_empty(), "{}: {text}", operation.id);
                media_type
            }
            Some(gives) => {
                assert!(gives.forms.iter().any(|f| f.0 == media_type), "{}: undocumented {media_type}", operation.id);
                media_type
            }
            None => {
                assert_eq!(media_type, "application/problem+json", "{}: {text}", operation.id);
                self.judge_problem(operation, &answer)
            }
        };
        self.0.lock().unwrap().insert((operation.id, answer.status, what));
        answer
    }

    #[track_caller]
    fn judge_problem(&self, operation: &Operation, answer: &Answer) -> String {
        let (problem, code) = (answer.json(), answer.code());
        let kind = operation.problems().into_iter().find(|k| k.status == answer.status && k.code == code);
        let kind = kind.unwrap_or_else(|| panic!("{}: undocumented {} {code}", operation.id, answer.status));
        assert_eq!(problem["type"], format!("/v1/problems/{code}"));
        assert_eq!(
            (problem["title"].as_str(), problem["status"].as_u64()),
            (Some(kind.title), Some(kind.status.into()))
        );
        assert!(problem["detail"].as_str().is_some_and(|d| !d.is_empty()));
        let header = answer.header("retry-after").map(|s| s.parse::<u64>().unwrap());
        assert_eq!(problem["retry_after"].as_u64(), header);
        for quoted in ["4915112345", "ann@post"] {
            assert!(
                !String::from_utf8_lossy(&answer.body).contains(quoted),
                "{}: {code} quotes {quoted}",
                operation.id
            );
        }
        code
    }

    /// All that was seen.
    pub fn entries(&self) -> BTreeSet<Entry> {
        self.0.lock().unwrap().clone()
    }
}

/// All that is documented.
pub fn documented() -> BTreeSet<Entry> {
    let mut all = BTreeSet::new();
    for o in OPERATIONS {
        for gives in o.gives {
            all.extend(gives.forms.iter().map(|f| (o.id, gives.status, f.0.to_owned())));
            if gives.forms.is_empty() {
                all.insert((o.id, gives.status, String::new()));
            }
        }
        all.extend(o.problems().into_iter().map(|k| (o.id, k.status, k.code.to_owned())));
    }
    all
}
