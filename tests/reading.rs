//! An MSP's adapter reads any log in bounded memory, keeps what it has read, and stops at a log that would be too much
//! for it.

mod common;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, extract::State, http::Uri, response::Response, routing::get};
use common::{domain, key, loopback, origin, until};
use waymark::msp;
use waymark_log::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    cosignature::Cosigner,
    hash::Hash,
    note::{KeyName, NoteSigner},
    tile::{self, Edge, TILE_WIDTH, Tile, TileKind},
    time::UnixMillis,
};
use waymark_mapping::{
    entry::{Change, Entry, Head},
    label::Label,
    trust::Trust,
    wire::Extensions,
};
use waymark_runtime::{
    clock::Clock,
    listen::{self, Server},
};

/// Batches of this log, and entries of each: all but a few are as long as an entry can be.
const BATCHES: u64 = 64;
const ENTRIES_EACH: u64 = 100;
const HUGE_BYTES: usize = 65_000;
const LOG_BYTES: usize = (BATCHES * ENTRIES_EACH) as usize * HUGE_BYTES;
/// Peak of this process, log server included, while it reads those 400 MB.
const PEAK_BYTES_MAX: usize = 256 << 20;

/// An entry of a log that is not kept: each is made when it is asked for.
fn entry(index: u64) -> Vec<u8> {
    let mut bytes = match index % ENTRIES_EACH {
        99 => {
            let (time, zero) = (UnixMillis::new(1_790_000_000_000 + index), Hash::ZERO);
            let (extensions, changes) = (Extensions::NONE, 0);
            let head =
                Head { extensions, time, changes, map_root: zero, open: zero, config: zero, provider_root: zero };
            return Entry::Head(head).encode();
        }
        i if i < 16 => {
            let label = Label(Hash::sha256(&[&index.to_be_bytes()]));
            return Entry::Change(Change { label, commitment: Hash::ZERO }).encode();
        }
        // A kind of a later program.
        _ => [&[1, 200], &index.to_be_bytes()[..]].concat(),
    };
    bytes.resize(HUGE_BYTES, 0);
    bytes
}

#[derive(Default)]
struct Served {
    size: u64,
    checkpoint: String,
    hashes: HashMap<String, Vec<u8>>,
    /// A bundle that cannot be read.
    gone: Option<u64>,
    asked: Vec<u64>,
}

async fn answer(State(served): State<Arc<Mutex<Served>>>, uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/').to_owned();
    let (size, file) = {
        let mut served = served.lock().unwrap();
        let bundle = Tile::parse(&path).filter(|t| t.kind == TileKind::Entries);
        served.asked.extend(bundle.map(|t| t.index));
        let is_there = bundle.is_none_or(|t| Some(t.index) != served.gone && t.width > 0);
        let checkpoint = (path == "checkpoint").then(|| served.checkpoint.clone().into_bytes());
        let file = checkpoint.or_else(|| served.hashes.get(&path).cloned());
        (served.size, if is_there { file.or_else(|| bundle.map(|_| Vec::new())) } else { None })
    };
    let bundle = Tile::parse(&path).filter(|t| t.kind == TileKind::Entries && file.is_some());
    let body = match bundle {
        Some(Tile { index, width, .. }) => {
            let first = index * TILE_WIDTH;
            let mut bundle = Vec::new();
            (first..size.min(first + u64::from(width))).for_each(|i| tile::push_entry(&mut bundle, &entry(i)).unwrap());
            Some(bundle)
        }
        None => file,
    };
    let response = Response::builder().status(if body.is_some() { 200 } else { 404 });
    response.body(Body::from(body.unwrap_or_default())).unwrap()
}

/// Serves the log, and says whom to believe about it.
async fn serve() -> (Server, Arc<Mutex<Served>>, Trust) {
    let size = BATCHES * ENTRIES_EACH;
    let (mut edge, mut hashes) = (Edge::new(), HashMap::new());
    for index in 0..size {
        let mut keep = |tile: Tile, bytes| {
            if tile.kind != TileKind::Entries {
                hashes.insert(tile.path(), bytes);
            }
        };
        edge.append(&entry(index), &mut keep).unwrap();
    }
    let partials = edge.partials(0).into_iter().filter(|(t, _)| t.kind != TileKind::Entries);
    hashes.extend(partials.map(|(tile, bytes)| (tile.path(), bytes)));
    let signer = NoteSigner::new(KeyName::new("dp.example/log").unwrap(), key("log"));
    let witness = Cosigner::new(KeyName::new("w1.example").unwrap(), key("witness"));
    let checkpoint = Checkpoint::new(origin(), size, edge.root());
    let line = witness.cosign(&checkpoint.format(), Clock::System.now().floor_seconds());
    let checkpoint = SignedCheckpoint::sign(checkpoint, &signer).to_note(&[line]);
    let policy = format!("log {}\nwitness w1 {}\nquorum w1\n", signer.vkey(), witness.vkey());
    let trust = Trust::parse(&format!("policy = \"\"\"\n{policy}\"\"\"\n")).unwrap();
    let served = Served { size, checkpoint, hashes, ..Served::default() };
    let served = Arc::new(Mutex::new(served));
    let router = Router::new().route("/{*path}", get(answer)).with_state(Arc::clone(&served));
    (listen::serve(listen::bind(loopback()).await.unwrap(), router).unwrap(), served, trust)
}

/// The most memory that this process has had.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() << 10
}

/// Attack B16: anybody who served a large log ended the adapter at each of its starts.
#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_reads_a_huge_log_in_steps_keeps_them_and_stops_at_its_budget() {
    const { assert!(PEAK_BYTES_MAX * 3 / 2 < LOG_BYTES) };
    let folder = tempfile::tempdir().unwrap();
    let (server, served, trust) = serve().await;
    let last = BATCHES * ENTRIES_EACH / TILE_WIDTH - 1;
    served.lock().unwrap().gone = Some(last);
    msp::init(folder.path(), &domain("chat.example"), &origin(), false, 1).unwrap();
    let start = async |labels_max: usize| {
        let log = Some((server.url(), trust.clone()));
        let settings = msp::Settings::load(folder.path(), loopback(), log).unwrap();
        let settings = msp::Settings { poll_ms: 20, labels_max, ..settings };
        msp::start(settings, Clock::System).await.unwrap()
    };
    let adapter = start(msp::LABELS_MAX).await;
    // All that can be read is taken, up to the last head before what cannot be.
    let readable = last * TILE_WIDTH / ENTRIES_EACH * ENTRIES_EACH;
    until("what can be read", async || adapter.followed() == readable).await;
    served.lock().unwrap().gone = None;
    until("the rest", async || adapter.followed() == BATCHES * ENTRIES_EACH).await;
    adapter.stop().await;
    let peak = peak_bytes();
    assert!(peak < PEAK_BYTES_MAX, "{} MB for a log of {} MB", peak >> 20, LOG_BYTES >> 20);
    let asked = std::mem::take(&mut served.lock().unwrap().asked);
    for bundle in 0..last {
        assert_eq!(asked.iter().filter(|b| **b == bundle).count(), 1, "bundle {bundle}: {asked:?}");
    }
    // Too many labels: it goes as far as it may, answers its users, and reads nothing more.
    let adapter = start(100).await;
    until("the budget", async || adapter.followed() > 0).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let followed = adapter.followed();
    assert!(followed < readable, "{followed}");
    served.lock().unwrap().asked.clear();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!((adapter.followed(), served.lock().unwrap().asked.len()), (followed, 0));
    adapter.stop().await;
    server.stop().await;
}
