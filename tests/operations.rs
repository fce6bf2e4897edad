//! What the operators' listeners tell: readiness with its reasons, metrics, and in neither a trace of whoever was looked up.

mod common;

use std::{collections::BTreeSet, fs};

use common::{Stage, csi, domain, key, loopback, shown, until};
use serde_json::Value;
use waymark::{
    config::{Settings, names},
    dp, onboarding,
};
use waymark_log::checkpoint::Origin;
use waymark_mapping::{entry::ProviderRole, event::EventKind};
use waymark_monitor as monitor;
use waymark_runtime::{
    clock::Clock,
    fetch::{ExtraRoots, Fetched, Fetcher},
};

/// Words that no other part uses. The number is searched without its country code, as metrics could cut it.
const CANARIES: [&str; 4] = ["15550192837", "canary.bird", "zwitscher", "tweet-tweet"];

async fn get(url: &str) -> Fetched {
    Fetcher::default().get(url, 1 << 20).await.unwrap()
}

async fn text(url: &str) -> String {
    String::from_utf8(get(url).await.body).unwrap()
}

/// The codes of the reasons why a program is not ready; none if it is.
async fn reasons(operations: &str) -> BTreeSet<String> {
    let answer = get(&format!("{operations}/readyz")).await;
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let reasons = body["reasons"].as_array().unwrap();
    assert_eq!((answer.status == 200, body["ready"].as_bool().unwrap()), (reasons.is_empty(), reasons.is_empty()));
    assert!(reasons.iter().all(|r| !r["detail"].as_str().unwrap().is_empty()));
    reasons.iter().map(|r| r["code"].as_str().unwrap().to_owned()).collect()
}

fn codes(codes: &[&str]) -> BTreeSet<String> {
    codes.iter().map(|c| (*c).to_owned()).collect()
}

/// The metrics' lines, without the help.
async fn metrics(operations: &str) -> Vec<String> {
    let text = text(&format!("{operations}/metrics")).await;
    assert!(text.ends_with("# EOF\n"));
    text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
}

#[track_caller]
fn has(lines: &[String], line: &str) {
    assert!(lines.iter().any(|l| l == line), "no {line} in {lines:#?}");
}

#[track_caller]
fn holds_no_canary(what: &str, text: &str) {
    for canary in CANARIES {
        let encoded =
            [data_encoding::HEXLOWER.encode(canary.as_bytes()), data_encoding::BASE64.encode(canary.as_bytes())];
        assert!(!text.contains(canary) && !encoded.iter().any(|e| text.contains(e)), "{what} holds {canary}: {text}");
    }
}

/// A registration, a hit, a miss, and requests that are wrong in every way, each with the canary's number in it.
async fn go_through_it(stage: &Stage) {
    let (bob, secret) = (csi("tel:+4915550192837"), key("bob"));
    let mapping = stage.mapping(&secret, &bob, common::QUIET, shown("canary.bird")).await;
    let added = [common::with_consent(&stage.origin, mapping)];
    let absent = common::Seen::default();
    let request = common::request(&stage.origin, absent, &bob, EventKind::Issue, &added, &[], &[(&secret, None)]);
    stage.client().change(&secret, &request).await.unwrap();
    assert_eq!(stage.look_up(&bob, Some("canary.bird")).await.version, Some(0));
    assert_eq!(stage.look_up(&csi("mailto:canary.bird@zwitscher.example"), None).await.version, None);
    // The same change again is made already; a second first version is stale.
    let again = common::request(&stage.origin, absent, &bob, EventKind::Issue, &added, &[], &[(&secret, None)]);
    assert!(stage.client().change(&secret, &again).await.is_err());
    let challenge =
        stage.client().start_challenge(&secret, &bob, 0, waymark_mapping::mapping::Purpose::View).await.unwrap();
    assert!(stage.client().check_challenge(&secret, &challenge.id, "15550192837").await.unwrap().is_none());
    let url = stage.dp.url();
    for body in ["{\"log\":\"dp.example/log\",\"csi\":\"tel:+004915550192837\"}", "15550192837"] {
        let lookups = format!("{url}/v1/lookups");
        let answer = stage.fetcher.post(&lookups, "application/json", &[], body.into(), 1 << 16).await.unwrap();
        assert!((400..500).contains(&answer.status));
    }
    for path in [
        "v1/lookups/+4915550192837",
        "log/tile/15550192837",
        "4915550192837?canary.bird",
        "v1/challenges/15550192837/x",
    ] {
        assert_eq!(get(&format!("{url}/{path}")).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_system_that_works_is_ready_and_its_metrics_name_nobody() {
    let stage = Stage::new().await;
    let followed = monitor::FollowedLog { trust: stage.trust.clone(), url: stage.dp.log_url(), witnesses: vec![] };
    let settings = monitor::Settings {
        data_dir: stage.root.path().join("monitor"),
        listen: loopback(),
        operations: Some(loopback()),
        tls: None,
        roots: ExtraRoots::default(),
        logs: vec![followed],
        poll_ms: 50,
        proxies: waymark_runtime::proxies::Proxies::default(),
        renew_within_ms: 1000,
        log_memory_bytes: 1 << 30,
    };
    let monitor = monitor::start(settings, Clock::System).await.unwrap();
    go_through_it(&stage).await;
    let size = stage.dp.published_size();
    until("the monitor to follow", async || monitor.status().logs[0].verified_size >= size).await;

    let operations = stage.dp.operations_url().unwrap();
    assert_eq!(get(&format!("{operations}/livez")).await.body, b"ok\n");
    assert_eq!(reasons(&operations).await, codes(&[]));
    let version: Value = serde_json::from_slice(&get(&format!("{operations}/version")).await.body).unwrap();
    assert_eq!((&version["program"], &version["version"]), (&"waymark-dp".into(), &env!("CARGO_PKG_VERSION").into()));
    // What is told to operators is told to nobody else.
    for path in ["livez", "readyz", "metrics", "version"] {
        assert_eq!(get(&format!("{}/{path}", stage.dp.url())).await.status, 404);
    }
    let lines = metrics(&operations).await;
    for line in [
        "waymark_lookups_total{outcome=\"answered\"} 3",
        "waymark_lookups_total{outcome=\"csi-invalid\"} 1",
        "waymark_lookups_total{outcome=\"malformed\"} 1",
        "waymark_changes_total{outcome=\"published\"} 1",
        "waymark_changes_total{outcome=\"version-stale\"} 1",
        "waymark_challenges_total{outcome=\"started\"} 2",
        "waymark_challenges_total{outcome=\"approved\"} 1",
        "waymark_challenges_total{outcome=\"wrong-code\"} 1",
        "waymark_http_requests_total{route=\"/v1/challenges/{id}/check\",status=\"200\"} 2",
        "waymark_http_requests_total{route=\"/log/{*path}\",status=\"404\"} 1",
        "waymark_pool_pending 0.0",
    ] {
        has(&lines, line);
    }
    let begins = |start: &str| assert!(lines.iter().any(|l| l.starts_with(start)), "no {start}");
    begins(&format!("waymark_log_size {}.0", stage.dp.published_size()));
    begins("waymark_cosignature_age_seconds{witness=\"w1\"} ");
    begins("waymark_checkpoint_age_seconds ");
    begins("waymark_batch_commit_seconds_bucket{le=\"10.0\"} ");
    begins("waymark_batch_witnesses_seconds_count ");
    begins("waymark_http_requests_total{route=\"other\",status=\"404\"} ");
    begins("waymark_connections_open ");
    assert!(lines.iter().any(|l| l.starts_with("waymark_batch_commit_seconds_count ") && !l.ends_with(" 0")));

    let at_monitor = monitor.operations_url().unwrap();
    assert_eq!(reasons(&at_monitor).await, codes(&[]));
    let lines = metrics(&at_monitor).await;
    has(&lines, "waymark_monitor_findings{log=\"dp.example/log\"} 0.0");
    has(&lines, "waymark_monitor_alerts{kind=\"unexpected\"} 0.0");
    has(&lines, "waymark_monitor_watch_lists 0.0");
    assert!(lines.iter().any(|l| l.starts_with("waymark_monitor_verified_size{log=\"dp.example/log\"} ")));
    let at_witness = stage.witnesses.running[0].operations_url().unwrap();
    assert_eq!(reasons(&at_witness).await, codes(&[]));
    let lines = metrics(&at_witness).await;
    has(&lines, "waymark_witness_logs 1.0");
    for start in [
        "waymark_witness_requests_total{outcome=\"cosigned\"} ",
        "waymark_witness_cosigned_size{log=\"dp.example/log\"} ",
        "waymark_http_requests_total{route=\"/add-checkpoint\",status=\"200\"} ",
    ] {
        assert!(lines.iter().any(|l| l.starts_with(start)), "no {start} in {lines:#?}");
    }
    for operations in [&operations, &at_monitor, &at_witness] {
        for path in ["metrics", "readyz", "version", "livez", "15550192837"] {
            holds_no_canary(path, &text(&format!("{operations}/{path}")).await);
        }
    }
    monitor.stop().await;
    stage.stop().await;
}

#[tokio::test]
async fn a_dp_says_why_it_is_not_ready() {
    let root = tempfile::tempdir().unwrap();
    let witnesses = common::Witnesses::start(root.path(), 1).await;
    let dir = root.path().join("dp");
    common::make_dp(&dir, &witnesses);
    let clock = Clock::manual(Clock::System.now().get());
    // Its only witness is away.
    let away = root.path().join("away");
    let text = fs::read_to_string(dir.join(names::POLICY)).unwrap();
    fs::write(&away, &text).unwrap();
    fs::write(dir.join(names::POLICY), text.replace(&witnesses.lines()[0].2, "http://127.0.0.1:1")).unwrap();
    let start = async || dp::start(Settings::load(&dir).unwrap(), clock.clone()).await.unwrap();
    let dp = start().await;
    assert_eq!(reasons(&dp.operations_url().unwrap()).await, codes(&["nothing-published"]));
    assert_eq!(get(&format!("{}/livez", dp.operations_url().unwrap())).await.status, 200);
    dp.stop().await.unwrap();

    // It is back, then away for an hour.
    fs::copy(&away, dir.join(names::POLICY)).unwrap();
    let dp = start().await;
    let operations = dp.operations_url().unwrap();
    until("a checkpoint", async || reasons(&operations).await.is_empty()).await;
    witnesses.stop().await;
    clock.advance(3_600_000);
    assert_eq!(reasons(&operations).await, codes(&["checkpoint-old", "quorum-missed"]));
    dp.stop().await.unwrap();
}

#[tokio::test]
async fn a_sequencer_that_has_stopped_is_a_reason() {
    let stage = Stage::new().await;
    let operations = stage.dp.operations_url().unwrap();
    assert_eq!(reasons(&operations).await, codes(&[]));
    // The signed head is gone: the next batch cannot be signed over it.
    let dir = stage.root.path().join("dp");
    fs::remove_file(dir.join(names::HEAD)).unwrap();
    let origin = Origin::new("dp.example/log").unwrap();
    let entry =
        waymark::init::provider_entry(&domain("late.example"), ProviderRole::MSP, false, 1, &origin, &key("late"));
    onboarding::submit(&dir, &entry).unwrap();
    stage.dp.stopped().await;
    assert_eq!(reasons(&operations).await, codes(&["sequencer-stopped"]));
    assert!(stage.dp.stop().await.is_err());
    stage.witnesses.stop().await;
}
