//! Witnesses that are away: look-ups go on, also after a restart; nothing is acknowledged; and when they are back, whoever
//! asks again with the same request gets the receipt.

mod common;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use common::{QUIET, Stage, client, csi, key, look_up, request, shown, until, with_consent};
use waymark::{config::Settings, dp};
use waymark_log::note::Note;
use waymark_mapping::{event::EventKind, verify::Outcome};
use waymark_runtime::clock::Clock;
use waymark_witness as witness;

/// Stops the witnesses, and gives what it takes to have them back where they were.
async fn stop(running: Vec<witness::Running>, dirs: &[PathBuf]) -> Vec<(PathBuf, SocketAddr)> {
    let mut places = vec![];
    for (w, dir) in running.into_iter().zip(dirs) {
        places.push((dir.clone(), w.address()));
        w.stop().await;
    }
    places
}

async fn start(places: Vec<(PathBuf, SocketAddr)>) -> Vec<witness::Running> {
    let mut running = vec![];
    for (dir, address) in places {
        let settings = witness::Settings { listen: address, ..witness::load(&dir).unwrap() };
        running.push(witness::start(settings, Clock::System).await.unwrap());
    }
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_go_on_without_witnesses_and_nothing_is_acknowledged() {
    let mut stage = Stage::with_witnesses(2).await;
    let (who, secret) = (csi("tel:+4915112345642"), key("bob"));
    let seen = stage.look_up(&who, None).await;
    let attestation = stage.attest(&secret, &who).await;
    let mapping = common::mapping(&stage.origin, &secret, &attestation, QUIET, shown("default"));
    let added = [with_consent(&stage.origin, mapping)];
    let signers = [(&secret, Some(attestation))];
    let change = request(&stage.origin, &seen, &who, EventKind::Issue, &added, &[], &signers);

    let (running, dirs) = (std::mem::take(&mut stage.witnesses.running), stage.witnesses.dirs.clone());
    let places = stop(running, &dirs).await;
    let dp = stage.client();
    let unanswered = tokio::time::timeout(Duration::from_secs(2), dp.change(&secret, &change)).await;
    assert!(unanswered.is_err(), "acknowledged without a quorum");
    assert_eq!(stage.look_up(&who, None).await.outcome, Outcome::Absent);

    // A restart meanwhile: the batch is signed, so it is not published; what was published before is not the head any more,
    // and so nothing is answered rather than something old.
    let Stage { root, witnesses: _none, dp, trust, origin, fetcher, clock: _ } = stage;
    dp.stop().await.unwrap();
    let dir = root.path().join("dp");
    let running = dp::start(Settings::load(&dir).unwrap(), Clock::System).await.unwrap();
    // There is no event for what does not happen: six batches' time.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(running.published_size(), 0);
    let published = std::fs::read(dir.join("log/checkpoint")).unwrap();
    Note::parse(&published).unwrap();

    let witnesses = start(places).await;
    let client = client(&fetcher, &running.url());
    let mut receipt = None;
    until("the receipt", async || {
        receipt = client.change(&secret, &change).await.ok();
        receipt.is_some()
    })
    .await;
    assert_eq!(receipt.unwrap().now.version, 0);
    assert_eq!(look_up(&client, &trust, &who, None).await.outcome, Outcome::Listed);

    // With nothing on its way, a restart without witnesses serves what was published.
    running.stop().await.unwrap();
    let places = stop(witnesses, &dirs).await;
    let running = dp::start(Settings::load(&dir).unwrap(), Clock::System).await.unwrap();
    until("what was published", async || running.published_size() > 0).await;
    let again = common::client(&fetcher, &running.url());
    assert_eq!(look_up(&again, &trust, &who, None).await.outcome, Outcome::Listed);
    running.stop().await.unwrap();
    drop((places, origin, root));
}
