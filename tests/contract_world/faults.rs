//! What a DP answers when something around it is broken: no witness, no disk, no room.

use std::{fs, os::unix::fs::FileExt, time::Duration};

use tokio::task::JoinSet;
use waymark::{
    api::ChangeRequest,
    backup::{self, Wanted},
    client::recipient::Added,
    config::{Settings, names},
    dp,
    init::provider_entry,
    onboarding,
    sequencer::pool::PROVIDERS_MAX,
};
use waymark_log::checkpoint::Origin;
use waymark_mapping::{
    entry::{Entry, ProviderAction, ProviderRole},
    event::EventKind,
    identifier::Csi,
    names::Region,
    signed::SignedStruct,
    wire::encode,
};
use waymark_runtime::clock::Clock;

use super::{
    book::{self, Book, Call},
    changes::entry,
    scene::{Scene, body_for},
};
use crate::common::{LOUD, QUIET, Stage, Witnesses, csi, domain, key, make_dp, until};

/// A DP whose witnesses have never been there: nothing is published.
pub async fn nothing_published(book: &Book) {
    let root = tempfile::tempdir().unwrap();
    let (witnesses, dir) = (Witnesses::start(root.path(), 1).await, root.path().join("dp"));
    make_dp(&dir, &witnesses);
    witnesses.stop().await;
    let dp = dp::start(Settings::load(&dir).unwrap(), Clock::System).await.unwrap();
    let (origin, ann) = (Origin::new("dp.example/log").unwrap(), key("ann"));
    let send = async |call: Call| book.send(dp.address(), call).await;
    for id in ["lookUp", "revoke"] {
        send(Call::new(id, body_for(id, &origin, &ann))).await.is(503, "not-ready");
    }
    for id in ["change", "history", "export"] {
        send(Call::new(id, body_for(id, &origin, &ann)).by(&origin, &ann)).await.is(503, "not-ready");
    }
    let import = Call::new("import", body_for("import", &origin, &ann)).by_msp(&origin, (QUIET, &key(QUIET)));
    send(import).await.is(503, "not-ready");
    send(Call::new("listProviders", "")).await.is(503, "not-ready");
    let mut entry = provider_entry(&domain(QUIET), ProviderRole::MSP, false, 1, &origin, &ann);
    entry.by_valid = entry.by_key.clone();
    send(Call::new("submitProvider", Entry::Provider(entry).encode())).await.is(503, "not-ready");
    send(Call::new("checkpoint", "")).await.well(404);
    dp.stop().await.unwrap();
}

/// Two changes of one identifier, of which one is on its way and the other refused: the one that is.
async fn in_flight(scene: &Scene<'_>, who: &Csi, both: [ChangeRequest; 2]) -> ChangeRequest {
    let (origin, to) = (scene.origin().clone(), scene.to());
    let mut sending = JoinSet::new();
    for (i, change) in both.iter().enumerate() {
        let call = Call::new("change", encode(change)).by(&origin, &key(["ann", "eve"][i]));
        sending.spawn(async move { (i, book::send(to, &call).await) });
    }
    let (refused, answer) = sending.join_next().await.unwrap().unwrap();
    scene.book.judge(book::operation("change"), answer).is(409, "change-in-flight");
    scene.revoke(&scene.token(&key("eve"), who)).await.is(409, "change-in-flight");
    sending.detach_all();
    let [ann, eve] = both;
    if refused == 0 { eve } else { ann }
}

/// Witnesses that went away: changes wait, and there is room for so many.
pub async fn no_witness(book: &Book) {
    let mut scene = Scene::new(book, |_| {}).await;
    let (bob, who, other) = (key("bob"), csi("tel:+4915112345647"), csi("tel:+4915112345648"));
    scene.list(&bob, &who).await;
    let (one, two) = (scene.issue(&key("ann"), &other, QUIET).await.1, scene.issue(&key("eve"), &other, QUIET).await.1);
    for witness in std::mem::take(&mut scene.stage.witnesses.running) {
        witness.stop().await;
    }
    let waits = in_flight(&scene, &other, [one, two]).await;
    let token = Call::new("revoke", encode(&scene.token(&bob, &who)));
    let pending_token = one_copy_too_many(&scene, token).await;
    providers_until_busy(&scene).await;
    let signer = [key("ann"), key("eve")].into_iter().find(|k| waits.event.authorities[0].key == k.public()).unwrap();
    let pending = one_copy_too_many(&scene, Call::new("change", encode(&waits)).by(scene.origin(), &signer)).await;
    for (operation, pending) in [("revoke", pending_token), ("change", pending)] {
        book.judge(book::operation(operation), pending.await.unwrap()).is(504, "still-pending");
    }
    scene.stage.dp.stop().await.unwrap();
}

/// Two provider entries over the same keys, and then more provider entries than wait.
async fn providers_until_busy(scene: &Scene<'_>) {
    let submit = async |new: &str| {
        let entry = entry(scene, ProviderAction::Add, &key(new), Some(&key(QUIET)));
        scene.plain("submitProvider", Entry::Provider(entry).encode()).await
    };
    submit("next").await.well(202);
    submit("another").await.is(409, "change-in-flight");
    for i in 0..PROVIDERS_MAX {
        let first = format!("m{i:03}.example");
        let entry = provider_entry(&domain(&first), ProviderRole::MSP, false, 1, scene.origin(), &key(&first));
        onboarding::submit(&scene.stage.root.path().join("dp"), &entry).unwrap();
    }
    until("all places to be taken", async || submit("another").await.status == 503).await;
    submit("another").await.is(503, "busy");
}

/// More copies of a request at once than may wait: one is refused. One of the others is returned, to see how it ends.
async fn one_copy_too_many(scene: &Scene<'_>, call: Call) -> tokio::task::JoinHandle<book::Answer> {
    let mut sending = JoinSet::new();
    for _ in 0..5 {
        let (to, call) = (scene.to(), call.clone());
        sending.spawn(async move { book::send(to, &call).await });
    }
    let answer = tokio::time::timeout(Duration::from_secs(25), sending.join_next()).await;
    let answer = answer.expect("a copy for which there is no place").unwrap().unwrap();
    scene.book.judge(call.operation, answer).is(503, "busy");
    // The one that was sent before these may have had a place still: then two of them are refused.
    tokio::spawn(async move {
        while let Some(answer) = sending.join_next().await {
            let answer = answer.unwrap();
            if answer.status != 503 {
                return answer;
            }
        }
        panic!("no copy has waited");
    })
}

/// A disk that takes no tiles: the log takes no changes. And rows that cannot be read.
pub async fn broken_disk(book: &Book) {
    let scene = Scene::new(book, |_| {}).await;
    let (bob, who) = (key("bob"), csi("tel:+4915112345649"));
    let listed = scene.list(&bob, &who).await;
    let wish = async || scene.over(&who, EventKind::Withdraw, &[], &[listed.mapping.digest()], &[(&bob, None)]).await;
    let (withdraw, another) = (wish().await, wish().await);
    let log = scene.stage.root.path().join("dp").join(names::LOG);
    fs::rename(log.join("tile"), log.join("away")).unwrap();
    fs::write(log.join("tile"), "in the way").unwrap();
    // Whoever waits is told, and so is everybody after.
    scene.change(&bob, &withdraw).await.is(503, "log-read-only");
    scene.stage.dp.stopped().await;
    scene.change(&bob, &withdraw).await.is(503, "log-read-only");
    scene.revoke(&scene.token(&bob, &who)).await.is(503, "log-read-only");
    let entry = entry(&scene, ProviderAction::Add, &key("next"), Some(&key(QUIET)));
    scene.plain("submitProvider", Entry::Provider(entry).encode()).await.is(503, "log-read-only");
    scene.send(Call::new("tile", "").at("/log/tile/0/000.p/1")).await.well(500);
    fs::remove_file(log.join("checkpoint")).unwrap();
    fs::create_dir(log.join("checkpoint")).unwrap();
    scene.plain("checkpoint", "").await.well(500);

    unreadable_rows(&scene, &listed, &another).await;
    scene.stage.dp.stop().await.unwrap_err();
    scene.stage.witnesses.stop().await;
}

/// A change that waits for its batch while the proof of possession in it ends.
pub async fn overtaken(book: &Book) {
    let clock = Clock::shifted();
    let scene = Scene::of(book, Stage::with_file(1, &clock, |file| file.interval_ms = 5000).await);
    let (bob, who) = (key("bob"), csi("tel:+4915112345651"));
    let (_, change) = scene.issue(&bob, &who, QUIET).await;
    let late = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        clock.advance(2 * 3600 * 1000);
    };
    let (answer, ()) = tokio::join!(scene.change(&bob, &change), late);
    answer.is(409, "overtaken");
    scene.stage.stop().await;
}

/// A DP from a copy for another region: it knows that there is a record, and lacks it.
pub async fn kept_elsewhere(book: &Book) {
    let scene = Scene::new(book, |_| {}).await;
    let (bob, who) = (key("bob"), csi("tel:+4915112345650"));
    let mut mapping = scene.mapping(&bob, &who, QUIET, "default");
    mapping.region = Region::parse("EU").unwrap();
    mapping.sign(scene.origin(), &bob);
    let added = [Added { mapping, consent: None }];
    let change = scene.over(&who, EventKind::Issue, &added, &[], &[(&bob, None)]).await;
    scene.change(&bob, &change).await.well(200);
    let Stage { root, witnesses, dp, trust, origin, fetcher, clock } = scene.stage;
    dp.stop().await.unwrap();
    let (dir, copy, restored) = (root.path().join("dp"), root.path().join("copy"), root.path().join("restored"));
    let wanted = Wanted { region: Region::parse("US"), with_keys: true };
    backup::back_up(&Settings::load(&dir).unwrap(), &copy, &wanted, clock.now()).unwrap();
    backup::restore(&copy, &restored, None).unwrap();
    let dp = dp::start(Settings::load(&restored).unwrap(), clock.clone()).await.unwrap();
    until("a checkpoint", async || dp.published_size() > 0).await;
    let stage = Stage { root, witnesses, dp, trust, origin, fetcher, clock };
    let scene = Scene { book, stage, prover: scene.prover };

    let json = format!("{{\"csi\":\"{}\"}}", who.expose());
    let look_up = format!("{{\"log\":\"{}\",\"csi\":\"{}\"}}", scene.origin(), who.expose());
    scene.plain("lookUp", look_up).await.is(503, "record-elsewhere");
    scene.by(&bob, "export", json).await.is(503, "record-elsewhere");
    let request = waymark::api::HistoryRequest { csi: who.clone(), version: 0 };
    scene.by(&bob, "history", encode(&request)).await.is(503, "record-elsewhere");
    scene.change(&bob, &change).await.is(503, "record-elsewhere");
    scene.revoke(&scene.token(&bob, &who)).await.is(503, "record-elsewhere");
    scene.stage.stop().await;
}

/// The keys of all rows are overwritten.
async fn unreadable_rows(scene: &Scene<'_>, listed: &Added, change: &ChangeRequest) {
    let path = scene.stage.root.path().join("dp").join(names::ROW_KEYS);
    let keys = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let bytes = fs::metadata(&path).unwrap().len();
    keys.write_all_at(&vec![7; bytes as usize - 16], 16).unwrap();
    let (bob, who) = (key("bob"), listed.mapping.csi.clone());
    assert_eq!(listed.mapping.msp.get().unwrap().as_str(), LOUD);
    let json = format!("{{\"csi\":\"{}\"}}", who.expose());
    let look_up = format!("{{\"log\":\"{}\",\"csi\":\"{}\"}}", scene.origin(), who.expose());
    scene.plain("lookUp", look_up).await.is(500, "internal");
    scene.by(&bob, "export", json).await.is(500, "internal");
    let request = waymark::api::HistoryRequest { csi: who.clone(), version: 0 };
    scene.by(&bob, "history", encode(&request)).await.is(500, "internal");
    scene.change(&bob, change).await.is(500, "internal");
    scene.revoke(&scene.token(&bob, &who)).await.is(500, "internal");
}
