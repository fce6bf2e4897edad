//! A thousand connections that dribble: each is closed in time, and an honest client does not notice them.
//!
//! In real time, some 15 seconds. It needs 2,048 file descriptors, two for each connection since both ends are in this process:
//! the usual soft limit of 1,024 is raised as the programs raise theirs, which no privilege is needed for.

mod common;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use common::{Stage, csi};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use waymark_runtime::{fetch::Fetcher, process};

const CONNECTIONS: usize = 1000;
/// Longest that any of them may stay open.
const CLOSED_WITHIN: Duration = Duration::from_secs(15);
/// Longest that a look-up may take, verified, over a connection of its own; a machine that does other things as well is meant.
const LOOKUP_MAX: Duration = Duration::from_secs(3);

/// What a connection sends at once, and what it goes on sending, a byte a second.
const DRIBBLES: [(&str, Option<&[u8]>); 6] = [
    ("", None),
    ("P", None),
    ("POST /v1/lookups HTTP/1.1\r\nHost: x\r\nX-Filler: ", Some(b"a")),
    (
        "POST /v1/lookups HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n",
        Some(b" "),
    ),
    ("POST /v1/changes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4000\r\n", Some(b"x")),
    ("GET /log/checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n", Some(b"x")),
];

/// How long one stayed open.
async fn dribble(to: SocketAddr, first: &str, then: Option<&[u8]>) -> Duration {
    let began = Instant::now();
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let _ = write.write_all(first.as_bytes()).await;
    let mut each_second = tokio::time::interval(Duration::from_secs(1));
    let mut said = vec![0; 4096];
    while began.elapsed() < 2 * CLOSED_WITHIN {
        tokio::select! {
            got = read.read(&mut said) => match got {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            },
            _ = each_second.tick() => if let Some(byte) = then {
                let _ = write.write_all(byte).await;
            },
        }
    }
    began.elapsed()
}

/// One number of the metrics.
async fn metric(stage: &Stage, name: &str) -> f64 {
    let url = format!("{}/metrics", stage.dp.operations_url().unwrap());
    let text = String::from_utf8(stage.fetcher.get(&url, 1 << 20).await.unwrap().body).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_dribbling_connections_are_closed_and_look_ups_go_on() {
    process::raise_descriptors();
    assert!(process::descriptors_max() >= 2 * CONNECTIONS as u64 + 48, "this test needs 2,048 file descriptors");
    let stage = Stage::new().await;
    let mut dribbling = JoinSet::new();
    for i in 0..CONNECTIONS {
        let (first, then) = DRIBBLES[i % DRIBBLES.len()];
        dribbling.spawn(dribble(stage.dp.address(), first, then));
    }
    let (mut slowest, mut lookups, mut most_open) = (Duration::ZERO, 0, 0.0_f64);
    let mut closed = vec![];
    while closed.len() < CONNECTIONS {
        let began = Instant::now();
        // A client without connections, each time.
        let client = common::client(&Fetcher::default(), &stage.dp.url());
        let found = common::look_up(&client, &stage.trust, &csi("tel:+4915112345642"), None).await;
        assert_eq!(found.version, None);
        (slowest, lookups) = (slowest.max(began.elapsed()), lookups + 1);
        most_open = most_open.max(metric(&stage, "waymark_connections_open").await);
        let pause = tokio::time::sleep(Duration::from_millis(50));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                Some(done) = dribbling.join_next() => closed.push(done.unwrap()),
                () = &mut pause => break,
            }
        }
    }
    let last = closed.iter().max().unwrap();
    println!(
        "{lookups} look-ups, the slowest took {slowest:?}; {most_open} connections at most, the last closed after {last:?}"
    );
    assert!(*last < CLOSED_WITHIN, "one was open for {last:?}");
    assert!(slowest < LOOKUP_MAX, "a look-up took {slowest:?}");
    // They were there all at once, and nothing of them is left; they did not push each other out to make room.
    assert!(lookups > 20 && most_open > CONNECTIONS as f64 / 2.0, "{lookups} look-ups, {most_open} connections");
    common::until("the server to forget them", async || metric(&stage, "waymark_connections_open").await < 10.0).await;
    assert_eq!(metric(&stage, "waymark_connections_displaced").await, 0.0);
    stage.stop().await;
}
