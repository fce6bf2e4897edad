//! Bringing people over: two thousand lines, bad ones among them, while the DP is stopped and started and the importer is cut
//! off. Each good line makes one record, each bad one is named with its reason, and none is lost.
//!
//! A hundred thousand, with kill -9 of both sides, is `.ci/import`.

mod common;
#[path = "../examples/import_lines.rs"]
#[allow(dead_code, reason = "its main is not ours")]
mod import_lines;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{Stage, domain, look_up, until};
use data_encoding::BASE64;
use import_lines::Signers;
use waymark::{
    api::{ImportOutcome, join_import},
    client::{
        ClientError,
        import::{self, Summary, journal},
        provider::ProviderClient,
    },
    config::{Settings, StoreKind, names},
    dp,
    fsck::fsck,
    init::open_rows,
    msp, onboarding,
    sequencer::accepted::Accepted,
    store::{Head, LogFiles, RowKeys, seal::Sealer},
};
use waymark_log::{
    key::SecretKey,
    note::{KeyName, NoteSigner},
};
use waymark_mapping::{entry::Entry, verify::Outcome, wire::encode};
use waymark_runtime::{clock::Clock, fetch::Fetcher, keyfile};

const MSP: &str = "chat.example";
/// Lines of the large test.
const LINES: u64 = 2000;
/// The line of the person of line 1 with another key.
const TWIN: u64 = 1500;

/// A DP that knows an MSP, and the MSP's folder.
async fn scene() -> (Stage, PathBuf) {
    let stage = Stage::new().await;
    let dir = stage.root.path().join("chat");
    onboard(&stage, &dir).await;
    (stage, dir)
}

async fn onboard(stage: &Stage, dir: &Path) {
    let entry = msp::init(dir, &domain(MSP), &stage.origin, false, 1).unwrap();
    let entry = onboarding::parse(&std::fs::read(entry).unwrap()).unwrap();
    onboarding::submit(&stage.root.path().join("dp"), &entry).unwrap();
    until("the MSP to be logged", async || stage.dp.knows_provider(&domain(MSP))).await;
}

fn signers(stage: &Stage, msp: &Path) -> Signers {
    Signers::load(&stage.root.path().join("dp"), msp, Clock::System.now()).unwrap()
}

fn secret(msp: &Path) -> SecretKey {
    SecretKey::from_seed(&keyfile::load(&msp.join(msp::keys::KEY)).unwrap())
}

fn client(stage: &Stage, url: &str) -> ProviderClient {
    let fetcher = Fetcher::new(Duration::from_secs(60));
    ProviderClient::new(fetcher, url, stage.origin.clone(), Clock::System, domain(MSP))
}

/// The codes of lines that are no good, by line from 1, and the file with all of them.
fn write_lines(signers: &Signers, path: &Path) -> BTreeMap<u64, &'static str> {
    let mut bad = BTreeMap::new();
    let mut text = String::new();
    for line in 1..=LINES {
        let (content, code) = match line {
            7 => ("{\"change\":\"not base64!\"}".to_owned(), Some("line-malformed")),
            8 => ("x".repeat(200_000), Some("line-malformed")),
            100 => (format!("{{\"change\":\"{}\"}}", BASE64.encode(b"\x01")), Some("malformed")),
            101 => (format!("{{\"change\":\"{}\"}}", BASE64.encode(b"\x09 of a later format")), Some("not-supported")),
            // The same person again, with another key: the one that comes first made version 0. See `who_came_first`.
            TWIN => (signers.line(1), Some("version-stale")),
            1700 => (forged(signers, line), Some("mapping-invalid")),
            _ => (signers.line(line), None),
        };
        text += &content;
        text.push('\n');
        bad.extend(code.map(|code| (line, code)));
    }
    std::fs::write(path, text).unwrap();
    bad
}

/// Of the two lines of one person, the one that came later is refused. Requests that find a DP busy are sent again after others, so that may be
/// the one that is first in the file.
fn who_came_first(file: &Path, bad: &mut BTreeMap<u64, &'static str>) {
    let journal = std::fs::read_to_string(journal::path_of(file)).unwrap();
    if journal.lines().any(|line| line == "1 refused version-stale") {
        bad.remove(&TWIN);
        bad.insert(1, "version-stale");
    }
}

/// A line whose mapping the recipient has not signed as it stands.
fn forged(signers: &Signers, index: u64) -> String {
    let mut change = signers.change(index);
    let mut mapping = change.added[0].clone();
    mapping.sig = change.event.authorities[0].sig;
    // Named by the event all the same, so that nothing but the mapping itself is wrong.
    let recipient = SecretKey::from_seed(&[9; 32]);
    mapping.recipient = recipient.public();
    change.event.tbs.added = waymark_mapping::wire::List24::new(vec![mapping.digest()]).unwrap();
    let authority = change.event.tbs.sign_as_recipient(signers.origin(), &recipient, None);
    change.event.authorities = waymark_mapping::wire::List24::new(vec![authority]).unwrap();
    change.added = waymark_mapping::wire::List24::new(vec![mapping]).unwrap();
    format!("{{\"change\":\"{}\"}}", BASE64.encode(&encode(&change)))
}

async fn import(dp: &ProviderClient, msp: &Path, file: &Path) -> (Summary, BTreeMap<u64, String>) {
    let mut refused = BTreeMap::new();
    let mut tell = |progress: import::Progress<'_>| {
        if let import::Progress::Refused(line, code) = progress {
            assert_eq!(refused.insert(line, code.to_owned()), None, "line {line} is named twice");
        }
    };
    let summary = import::import(dp, &secret(msp), file, 60, &mut tell).await.unwrap();
    (summary, refused)
}

fn journal_lines(file: &Path) -> usize {
    std::fs::read_to_string(journal::path_of(file)).map_or(0, |text| text.lines().count())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_published_once_or_named_whatever_stops_in_between() {
    let (stage, chat) = scene().await;
    let dir = stage.root.path().join("dp");
    let file = stage.root.path().join("people.jsonl");
    let mut bad = write_lines(&signers(&stage, &chat), &file);
    let (address, url) = (stage.dp.address(), stage.dp.url());
    let dp = client(&stage, &url);

    // The importer is cut off once it has some of it in its journal...
    let cut_off = {
        let (dp, chat, file) = (dp.clone(), chat.clone(), file.clone());
        tokio::spawn(async move { import(&dp, &chat, &file).await })
    };
    until("part of the journal", async || journal_lines(&file) > 200).await;
    cut_off.abort();
    assert!(cut_off.await.is_err(), "it was over before it was cut off: use more lines");
    let before = journal_lines(&file);

    // ...and the DP in the middle of the second attempt, which waits for it to come back.
    let second = {
        let (dp, chat, file) = (dp.clone(), chat.clone(), file.clone());
        tokio::spawn(async move { import(&dp, &chat, &file).await })
    };
    until("more of the journal", async || journal_lines(&file) > before).await;
    let Stage { root, witnesses, dp: running, trust, origin, fetcher, clock } = stage;
    running.stop().await.unwrap();
    let mut settings = Settings::load(&dir).unwrap();
    settings.listen = address;
    let running = dp::start(settings, Clock::System).await.unwrap();
    let stage = Stage { root, witnesses, dp: running, trust, origin, fetcher, clock };
    let (summary, refused) = second.await.unwrap();
    who_came_first(&file, &mut bad);

    let good = LINES - bad.len() as u64;
    assert_eq!((summary.lines, summary.published, summary.refused), (LINES, good, bad.len() as u64));
    assert!(summary.over_before > 200);
    let codes = |code: &str| bad.values().filter(|c| **c == code).count() as u64;
    for (code, count) in &summary.codes {
        assert_eq!(*count, codes(code), "{code}");
    }
    for (line, code) in &refused {
        assert_eq!(bad.get(line), Some(&code.as_str()), "line {line}");
    }
    check_journal(&file, &bad);

    // Again with the journal: nothing is asked. Without it: everything is asked, and nothing is made twice.
    let (again, _) = import(&dp, &chat, &file).await;
    assert_eq!((again.over_before, again.requests, again.published), (LINES, 0, good));
    std::fs::remove_file(journal::path_of(&file)).unwrap();
    let (anew, refused) = import(&dp, &chat, &file).await;
    assert_eq!((anew.over_before, anew.published), (0, good));
    assert_eq!(refused.iter().map(|(l, c)| (*l, c.as_str())).collect::<BTreeMap<_, _>>(), bad);
    for index in [1, 200, LINES] {
        let found = look_up(&stage.client(), &stage.trust, &Signers::csi(index), None).await;
        assert_eq!((found.outcome, found.version), (Outcome::Listed, Some(0)));
    }
    count_records(stage, &dir, good).await;
}

/// Every line once, in no particular order.
fn check_journal(file: &Path, bad: &BTreeMap<u64, &str>) {
    let text = std::fs::read_to_string(journal::path_of(file)).unwrap();
    let mut seen = BTreeMap::new();
    for line in text.lines().skip(1) {
        let (line, outcome) = line.split_once(' ').unwrap();
        assert_eq!(seen.insert(line.parse::<u64>().unwrap(), outcome.to_owned()), None, "line {line} stands twice");
    }
    for line in 1..=LINES {
        let wanted = bad.get(&line).map_or_else(|| "published 0".to_owned(), |code| format!("refused {code}"));
        assert_eq!(seen.get(&line), Some(&wanted), "line {line}");
    }
}

/// The store and the log, counted by fsck and by hand.
async fn count_records(stage: Stage, dir: &Path, good: u64) {
    let changes = stage.entries().await.iter().filter(|e| matches!(e, Entry::Change(_))).count() as u64;
    assert!(changes >= good, "{changes} changes in the log");
    // The folder stays until we have looked.
    let Stage { root: _root, dp, witnesses, .. } = stage;
    dp.stop().await.unwrap();
    witnesses.stop().await;
    let settings = Settings::load(dir).unwrap();
    if settings.store != StoreKind::Redb {
        return;
    }
    let rows = open_rows(dir, settings.store, false).unwrap();
    let files = LogFiles::at(&dir.join(names::LOG)).unwrap();
    let vkey = NoteSigner::new(
        KeyName::new("dp.example/log").unwrap(),
        SecretKey::from_seed(&keyfile::load(&dir.join(names::KEYS).join("log.key")).unwrap()),
    );
    let keys = RowKeys::open(&dir.join(names::ROW_KEYS)).unwrap();
    let sealer = Sealer::new(&settings.store_key, std::sync::Arc::new(keys));
    let head = Head::at(&dir.join(names::HEAD));
    let report = fsck(&*rows, &head, &files, &sealer, &settings.origin, vkey.vkey(), &Accepted::NONE).unwrap();
    assert_eq!((report.records, report.identifiers, report.faults), (good, good, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_msp_carries_only_what_names_it_and_a_later_version_does_not_undo_an_import() {
    let (stage, chat) = scene().await;
    let (dp, signers) = (client(&stage, &stage.dp.url()), signers(&stage, &chat));
    let other = stage.root.path().join("other");
    msp::init(&other, &domain(common::QUIET), &stage.origin, false, 1).unwrap();
    let others = Signers::load(&stage.root.path().join("dp"), &other, Clock::System.now()).unwrap();
    let (own, foreign) = (encode(&signers.change(1)), encode(&others.change(2)));
    let body = join_import([own.as_slice(), &foreign]).unwrap();
    let answer = dp.import(&secret(&chat), body).await.unwrap();
    let refused = ImportOutcome::Refused { code: "other-msp".to_owned() };
    assert_eq!(answer.items, [ImportOutcome::Published { version: 0 }, refused]);

    // The person goes on and adds a mapping. Version 0 is still the one that was imported.
    let who = Signers::csi(1);
    let key = common::key("the second app");
    let added =
        common::with_consent(&stage.origin, stage.mapping(&key, &who, common::LOUD, common::shown("loud")).await);
    let seen = stage.look_up(&who, None).await;
    let kind = waymark_mapping::event::EventKind::Issue;
    let change = common::request(&stage.origin, &seen, &who, kind, &[added], &[], &[(&key, None)]);
    stage.client().change(&key, &change).await.unwrap();
    let answer = dp.import(&secret(&chat), join_import([own.as_slice()]).unwrap()).await.unwrap();
    assert_eq!(answer.items, [ImportOutcome::Published { version: 0 }]);
    let anew = encode(&signers.change(1));
    let answer = dp.import(&secret(&chat), join_import([anew.as_slice()]).unwrap()).await.unwrap();
    assert_eq!(answer.items, [ImportOutcome::Refused { code: "version-stale".to_owned() }]);
    stage.stop().await;
}

/// Else an MSP could fill the queue while witnesses are away: an import, and another one as soon as nobody waits for the first.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_keeps_its_place_until_its_changes_have_left_the_queue_whatever_its_client_does() {
    let clock = Clock::shifted();
    let mut stage = Stage::with(1, &clock, |_| {}).await;
    let chat = stage.root.path().join("chat");
    onboard(&stage, &chat).await;
    let (dp, signers) = (client(&stage, &stage.dp.url()), signers(&stage, &chat));
    stage.witnesses.leave().await;
    let import = async |i: u64| {
        let body = join_import([encode(&signers.change(i)).as_slice()]).unwrap();
        tokio::time::timeout(Duration::from_secs(5), dp.import(&secret(&chat), body)).await
    };
    assert!(import(1).await.is_err(), "acknowledged without a quorum");
    let busy_for = async |i: u64| match import(i).await.expect("it is answered at once") {
        Err(ClientError::Refused { status: 503, code, retry_after_s, .. }) if code == "busy" => retry_after_s.unwrap(),
        other => panic!("{other:?}"),
    };
    // The last head is young: nobody knows yet that witnesses are away.
    assert_eq!(busy_for(2).await, 1);
    clock.advance(100_000);
    let wait = busy_for(3).await;
    assert!((100..300).contains(&wait), "it is told to come back in {wait} s");
    stage.dp.stop().await.unwrap();
}
