//! Answers that are garbage, huge, slow or without end: each is bounded, none is a finding, none holds up anybody else.

mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use waymark_log::{note::NOTE_BYTES_MAX, tile::BUNDLE_BYTES_MAX};
use waymark_monitor::{FollowedLog, once, report::Condition, start};
use world::{Log, NOW, World, caught_up, settings, wait_for};

/// What the kernel's buffers may hold of what nobody reads.
const BUFFERS_BYTES: u64 = 8 << 20;

#[tokio::test]
async fn garbage_huge_and_slow_answers_are_bounded_and_hold_up_nobody_else() {
    let mut world = World::new().await;
    let names = ["garbage.example/log", "huge.example/log", "slow.example/log", "junk.example/log"];
    let mut logs = vec![world.followed()];
    for name in names {
        let log = Log::new(name, NOW);
        let prefix = name.split('.').next().unwrap();
        world.web.publish(prefix, &log);
        logs.push(FollowedLog { trust: log.trust(), url: world.web.url(prefix), witnesses: vec![] });
    }
    world.web.put("garbage/checkpoint", vec![0xff; 1000]);
    world.web.put("huge/checkpoint", vec![b'x'; 10 << 20]);
    world.web.lock().slow.insert("slow/checkpoint".to_owned(), Duration::from_secs(60));
    world.web.put("junk/tile/entries/000.p/2", vec![0xff; 100]);

    let begun = Instant::now();
    let monitor = start(settings(world.folder.path(), logs), world.clock.clone()).await.unwrap();
    world.grow(16, &[]);
    let status = caught_up(&monitor, &world.log).await;
    assert!(begun.elapsed() < Duration::from_secs(9), "held up for {:?}", begun.elapsed());
    assert_eq!((status.logs[0].condition, status.logs[3].condition), (Condition::Good, Condition::Waiting));
    let conditions = [Condition::Unmet, Condition::Unreachable, Condition::Unreachable, Condition::Unreachable];
    let status = wait_for(&monitor, |s| s.logs[1..].iter().map(|l| l.condition).eq(conditions)).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    for what in ["not UTF-8", "over 131072 bytes", "no answer in time", "an entry bundle is cut short"] {
        assert!(status.notices.iter().any(|n| n.contains(what)), "{what}: {:?}", status.notices);
    }
    assert_eq!((status.findings, status.logs[4].verified_size), (vec![], 0));
    // What fails is not asked at every turn.
    world.web.take_requests();
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let requests = world.web.take_requests();
    let count = |path: &str| requests.iter().filter(|r| *r == path).count();
    assert!(count("log/checkpoint") > count("huge/checkpoint") && count("huge/checkpoint") <= 3, "{requests:?}");
    monitor.stop().await;
}

/// A server that answers a checkpoint truly, if it has one, and everything else without end: as fast as it is read, or a
/// byte at a time.
struct Endless {
    url: String,
    /// Most bytes that any one answer came to.
    longest: Arc<AtomicU64>,
}

impl Endless {
    async fn new(checkpoint: Option<Vec<u8>>, drips: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let longest = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&longest);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, checkpoint.clone(), drips, Arc::clone(&counted)));
            }
        });
        Self { url, longest }
    }
}

async fn answer(mut stream: TcpStream, checkpoint: Option<Vec<u8>>, drips: bool, longest: Arc<AtomicU64>) {
    let mut request = [0; 4096];
    let read = stream.read(&mut request).await.unwrap_or(0);
    let asks_for_checkpoint = request[..read].starts_with(b"GET /checkpoint ");
    if let Some(note) = checkpoint.filter(|_| asks_for_checkpoint) {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", note.len());
        let _ = stream.write_all(&[head.as_bytes(), &note].concat()).await;
        return;
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let mut sent = 0;
    let chunk = if drips { b"1\r\nx\r\n".to_vec() } else { [b"10000\r\n", &[b'x'; 1 << 16][..], b"\r\n"].concat() };
    while stream.write_all(&chunk).await.is_ok() {
        sent += chunk.len() as u64;
        longest.fetch_max(sent, Ordering::SeqCst);
        if drips {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn answers_without_end_are_cut_off() {
    let world = World::new().await;
    let logs = ["a.example/log", "b.example/log", "c.example/log"].map(|name| Log::new(name, NOW));
    let no_checkpoint = Endless::new(None, false).await;
    let no_bundle = Endless::new(Some(logs[1].checkpoint()), false).await;
    let drips = Endless::new(None, true).await;
    let places = [&no_checkpoint.url, &no_bundle.url, &drips.url];
    let followed = logs.iter().zip(places).map(|(log, url)| {
        // The witness's copy has no end either.
        let witnesses = vec![("w1".to_owned(), no_checkpoint.url.clone())];
        FollowedLog { trust: log.trust(), url: url.clone(), witnesses }
    });
    let begun = Instant::now();
    let status = once(settings(world.folder.path(), followed.collect()), world.clock.clone()).await.unwrap();
    // Two rounds of requests at most, each with the fetcher's deadline.
    assert!(begun.elapsed() < Duration::from_secs(25), "held up for {:?}", begun.elapsed());
    assert_eq!((status.verdict().exit_code(), &status.findings[..]), (1, &[][..]));
    for (log, why) in status.logs.iter().zip([
        format!("over {NOTE_BYTES_MAX} bytes"),
        format!("over {BUNDLE_BYTES_MAX} bytes"),
        "no answer in time".to_owned(),
    ]) {
        assert_eq!((log.condition, log.verified_size), (Condition::Unreachable, 0));
        let unread = format!("{}: the log cannot be read", log.origin);
        assert!(status.notices.iter().any(|n| n.starts_with(&unread) && n.contains(&why)), "{why}: {status:#?}");
        let copy = format!("{}: witness w1: its copy cannot be read", log.origin);
        assert!(status.notices.iter().any(|n| n.starts_with(&copy) && n.contains("over")), "{status:#?}");
    }
    let longest = |server: &Endless| server.longest.load(Ordering::SeqCst);
    assert!((1..NOTE_BYTES_MAX as u64 + BUFFERS_BYTES).contains(&longest(&no_checkpoint)));
    let bundle = longest(&no_bundle);
    assert!((BUNDLE_BYTES_MAX as u64..BUNDLE_BYTES_MAX as u64 + BUFFERS_BYTES).contains(&bundle), "{bundle}");
}
