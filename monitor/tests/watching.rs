//! Watch-lists: what is told, when, and how often; also when the monitor is stopped in between.

mod world;

use std::time::Duration;

use waymark_log::{hash::Hash, key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    request::{RECIPIENT_HEADER, RequestSignature},
    signed::SignedStruct,
    watch::{AHEAD_MAX, WATCH_LIFETIME_MS_MAX, WATCH_LIST_BYTES_MAX, WATCH_LIST_MEDIA_TYPE, WatchList},
};
use waymark_monitor::{
    ALERTS_PER_LIST_MAX, AlertRecord, Running, once,
    report::{AlertKind, AlertsAnswer, Condition, Status, Verdict},
};
use waymark_runtime::{
    clock::Clock,
    fetch::{Fetched, Fetcher},
};
use world::{Log, MINUTE, NOW, RENEW_WITHIN, World, caught_up, label, wait_for};

async fn post(monitor: &Running, media_type: &str, body: Vec<u8>) -> Fetched {
    let url = format!("{}/v1/watch-lists", monitor.url());
    Fetcher::default().post(&url, media_type, &[], body, 1 << 16).await.unwrap()
}

/// Hands in a list; 204, or status and code of the problem.
async fn hand_in(monitor: &Running, list: &WatchList) -> (u16, String) {
    let answer = post(monitor, WATCH_LIST_MEDIA_TYPE, list.encode()).await;
    (answer.status, code(&answer))
}

fn code(answer: &Fetched) -> String {
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    assert!(answer.is_success() || answer.media_type == "application/problem+json", "{answer:?}");
    problem["code"].as_str().unwrap_or_default().to_owned()
}

async fn take(monitor: &Running, list: &WatchList) {
    assert_eq!(hand_in(monitor, list).await, (204, String::new()));
}

/// The alerts after the clock's tick has certainly been seen.
async fn settled_alerts(monitor: &Running) -> Vec<AlertRecord> {
    tokio::time::sleep(Duration::from_millis(150)).await;
    monitor.alerts().unwrap()
}

fn unexpected(alerts: &[AlertRecord]) -> Vec<u64> {
    alerts.iter().filter(|a| a.kind == AlertKind::Unexpected).filter_map(|a| a.entry).collect()
}

impl World {
    fn time(&self) -> u64 {
        self.clock.now().get()
    }

    /// The clock alone: nobody needs the log for a deadline.
    fn wait(&self, ms: u64) {
        self.clock.advance(ms);
    }
}

#[tokio::test]
async fn a_hit_nobody_claims_is_exactly_one_alert() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    let labels = [label("one"), label("two")];
    take(&monitor, &world.log.list(1, world.time(), &labels, None)).await;
    world.grow(16, &[label("two")]);
    let status = wait_for(&monitor, |s| s.open_hits == 1).await;
    assert_eq!((status.watch_lists, status.alerts.unexpected), (1, 0));
    world.wait(RENEW_WITHIN - 1);
    assert_eq!(settled_alerts(&monitor).await, []);
    world.wait(1);
    wait_for(&monitor, |s| s.alerts.unexpected == 1).await;
    world.wait(RENEW_WITHIN);
    let alerts = settled_alerts(&monitor).await;
    let (index, leaf) = world.log.find(label("two"));
    assert_eq!(unexpected(&alerts), [index]);
    let alert = &alerts[0];
    assert_eq!((alert.id, &alert.list[..], &alert.origin[..]), (1, &"01".repeat(16)[..], "dp.example/log"));
    assert_eq!((alert.leaf.as_deref(), alert.head_time_ms), (Some(&leaf.to_hex()[..]), Some(world.log.now)));
    assert!(alert.what_to_do.contains("nobody claimed it in time"));
    assert_eq!((monitor.status().open_hits, monitor.status().verdict()), (0, Verdict::Alarm));
    monitor.stop().await;
    let monitor = world.start().await;
    assert_eq!(settled_alerts(&monitor).await, alerts);
    monitor.stop().await;
}

#[tokio::test]
async fn a_deadline_survives_restarts_before_and_after_it() {
    for after in [false, true] {
        let mut world = World::new().await;
        let monitor = world.start().await;
        take(&monitor, &world.log.list(1, world.time(), &[label("one")], None)).await;
        monitor.stop().await;
        // The list is remembered and hits what is logged later.
        let monitor = world.start().await;
        world.grow(16, &[label("one")]);
        wait_for(&monitor, |s| s.open_hits == 1).await;
        monitor.stop().await;
        world.wait(RENEW_WITHIN - 1000);
        if after {
            world.wait(1000);
        }
        let monitor = world.start().await;
        if !after {
            assert_eq!(settled_alerts(&monitor).await, []);
            assert_eq!(monitor.status().open_hits, 1);
            world.wait(1000);
        }
        wait_for(&monitor, |s| s.alerts.unexpected == 1 && s.open_hits == 0).await;
        monitor.stop().await;
        let monitor = world.start().await;
        world.wait(RENEW_WITHIN);
        assert_eq!(settled_alerts(&monitor).await.len(), 1);
        monitor.stop().await;
    }
}

#[tokio::test]
async fn another_time_to_claim_does_not_move_deadlines_that_run() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    take(&monitor, &world.log.list(1, world.time(), &[label("one"), label("two")], None)).await;
    world.grow(16, &[label("one")]);
    wait_for(&monitor, |s| s.open_hits == 1).await;
    monitor.stop().await;
    let mut longer = world.settings();
    longer.renew_within_ms = 10 * RENEW_WITHIN;
    let monitor = waymark_monitor::start(longer.clone(), world.clock.clone()).await.unwrap();
    world.wait(RENEW_WITHIN);
    wait_for(&monitor, |s| s.alerts.unexpected == 1).await;
    monitor.stop().await;
    // The next hit has the new time.
    let monitor = waymark_monitor::start(longer, world.clock.clone()).await.unwrap();
    world.log.now += RENEW_WITHIN;
    world.grow(16, &[label("two")]);
    wait_for(&monitor, |s| s.open_hits == 1).await;
    world.wait(RENEW_WITHIN);
    assert_eq!(settled_alerts(&monitor).await.len(), 1);
    monitor.stop().await;
    let monitor = world.start().await;
    world.wait(9 * RENEW_WITHIN);
    wait_for(&monitor, |s| s.alerts.unexpected == 2).await;
    monitor.stop().await;
}

#[tokio::test]
async fn a_claim_in_time_makes_a_hit_expected_for_good() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    take(&monitor, &world.log.list(1, world.time(), &[label("one")], None)).await;
    take(&monitor, &world.log.list(2, world.time(), &[label("one")], None)).await;
    world.grow(16, &[label("one")]);
    wait_for(&monitor, |s| s.open_hits == 2).await;
    let (_, leaf) = world.log.find(label("one"));
    take(&monitor, &world.log.list(1, world.time(), &[label("two")], Some(leaf))).await;
    // Only the holder who claims is content.
    assert_eq!(monitor.status().open_hits, 1);
    monitor.stop().await;
    let monitor = world.start().await;
    world.wait(RENEW_WITHIN);
    let alerts = settled_alerts(&monitor).await;
    assert_eq!(alerts.iter().map(|a| &a.list[..2]).collect::<Vec<_>>(), ["02"]);
    // The renewed list watches on.
    world.log.now += RENEW_WITHIN;
    world.grow(16, &[label("two")]);
    wait_for(&monitor, |s| s.open_hits == 1).await;
    monitor.stop().await;
}

#[tokio::test]
async fn a_claim_before_the_replay_gets_there_counts_and_others_do_not() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    take(&monitor, &world.log.list(1, world.time(), &[label("one"), label("other")], None)).await;
    take(&monitor, &world.log.list(2, world.time(), &[label("one"), label("other")], None)).await;
    caught_up(&monitor, &world.log).await;
    // The log goes on; the monitor does not see it yet.
    world.log.grow(16, &[label("one"), label("other")]);
    world.log.grow(16, &[label("two")]);
    let (_, one) = world.log.find(label("one"));
    let (index_other, _) = world.log.find(label("other"));
    let (_, two) = world.log.find(label("two"));
    let made = world.log.now;
    take(&monitor, &world.log.list(1, made, &[label("two")], Some(one))).await;
    // The same holder once more before the replay gets there: both claims count.
    take(&monitor, &world.log.list(1, made + 1, &[label("three")], Some(two))).await;
    monitor.stop().await;
    let monitor = world.start().await;
    world.clock.advance(2000);
    world.web.publish("log", &world.log);
    world.web.put_copies(&world.log);
    let status = caught_up(&monitor, &world.log).await;
    // List 1: the other label, which nobody claimed. List 2: both.
    assert_eq!(status.open_hits, 3);
    world.wait(RENEW_WITHIN);
    let alerts = settled_alerts(&monitor).await;
    let of_one: Vec<_> = alerts.iter().filter(|a| a.list.starts_with("01")).collect();
    assert_eq!(of_one.iter().map(|a| a.entry).collect::<Vec<_>>(), [Some(index_other)]);
    assert_eq!(alerts.len(), 3);
    // Passed: the old labels are no longer watched, the new one is.
    monitor.stop().await;
    let monitor = world.start().await;
    world.log.now += RENEW_WITHIN;
    world.grow(16, &[label("three")]);
    wait_for(&monitor, |s| s.open_hits == 1).await;
    monitor.stop().await;
}

#[tokio::test]
async fn a_list_that_comes_after_the_event_fires_once_however_often_it_is_renewed() {
    let mut world = World::new().await;
    // The app is shown a tree without the label; before its list comes, the label is logged.
    let list = world.log.list(1, world.time(), &[label("used"), label("free")], None);
    world.grow(16, &[label("used")]);
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    take(&monitor, &list).await;
    assert_eq!(monitor.status().open_hits, 1);
    // A renewal that claims nothing neither forgets nor doubles the hit, and does not move its deadline.
    world.wait(MINUTE);
    take(&monitor, &world.log.list(1, world.time(), &[label("used")], None)).await;
    assert_eq!(monitor.status().open_hits, 1);
    world.wait(RENEW_WITHIN - MINUTE);
    wait_for(&monitor, |s| s.alerts.unexpected == 1).await;
    // Told is told: a later renewal with the same label is no second alert, not even after a restart.
    take(&monitor, &world.log.list(1, world.time(), &[label("used")], None)).await;
    monitor.stop().await;
    let monitor = world.start().await;
    take(&monitor, &world.log.list(1, world.time() + 1, &[label("used")], None)).await;
    assert_eq!(monitor.status().open_hits, 0);
    world.wait(RENEW_WITHIN);
    assert_eq!(settled_alerts(&monitor).await.len(), 1);
    monitor.stop().await;
}

#[tokio::test]
async fn a_list_for_a_tree_that_the_log_has_not_signed_is_taken_later() {
    let world = World::new().await;
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    take(&monitor, &world.log.list(1, world.time(), &[label("one")], None)).await;
    let holder = world::secret("holder 1");
    for size in [u64::MAX, world.log.size() + AHEAD_MAX + 1] {
        let mut list = world.log.list(1, world.time() + 1, &[label("one")], Some(Hash::ZERO));
        list.size = size;
        list.sign(&world.log.origin, &holder);
        assert_eq!(hand_in(&monitor, &list).await, (503, "busy".to_owned()));
    }
    // What an app has seen a moment before the monitor is taken.
    let mut list = world.log.list(1, world.time() + 1, &[label("one")], Some(Hash::ZERO));
    list.size = world.log.size() + AHEAD_MAX;
    list.sign(&world.log.origin, &holder);
    take(&monitor, &list).await;
    monitor.stop().await;
}

#[tokio::test]
async fn expiry_is_told_once_and_again_after_a_renewal() {
    let world = World::new().await;
    let monitor = world.start().await;
    take(&monitor, &world.log.list(1, world.time(), &[label("one")], None)).await;
    // That a list has run out is told once a quorum has confirmed what time it is.
    caught_up(&monitor, &world.log).await;
    world.wait(1000 * MINUTE);
    wait_for(&monitor, |s| s.alerts.expired == 1).await;
    monitor.stop().await;
    let monitor = world.start().await;
    world.wait(1000 * MINUTE);
    let alerts = settled_alerts(&monitor).await;
    assert_eq!((alerts.len(), alerts[0].kind, alerts[0].entry), (1, AlertKind::Expired, None));
    // An earlier list of this name that has not expired does not come back in its place.
    let mut earlier = world.log.list(1, NOW, &[label("one")], None);
    earlier.expiry = UnixMillis::new(world.time() + MINUTE);
    earlier.sign(&world.log.origin, &world::secret("holder 1"));
    assert_eq!(hand_in(&monitor, &earlier).await.1, "watch-list-superseded");
    take(&monitor, &world.log.list(1, world.time(), &[label("one")], None)).await;
    world.wait(1000 * MINUTE);
    wait_for(&monitor, |s| s.alerts.expired == 2).await;
    assert_eq!(settled_alerts(&monitor).await.len(), 2);
    assert_eq!(monitor.status().watch_lists, 1);
    // When nothing earlier can come back under its name, the list is forgotten.
    world.wait(180 * 24 * 60 * MINUTE);
    wait_for(&monitor, |s| s.watch_lists == 0).await;
    monitor.stop().await;
    let monitor = world.start().await;
    assert_eq!((monitor.status().watch_lists, settled_alerts(&monitor).await.len()), (0, 2));
    monitor.stop().await;
}

/// A year, as a clock may be wrong by.
const YEAR: i64 = 366 * 24 * 60 * MINUTE as i64;

/// A world whose wall clock can be set, and a monitor's list with a hit that nobody has claimed.
async fn world_with_a_hit() -> World {
    let mut world = World::new().await;
    world.clock = Clock::settable(world.time());
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    take(&monitor, &world.log.list(1, world.time(), &[label("one"), label("two")], None)).await;
    world.grow(16, &[label("one")]);
    wait_for(&monitor, |s| s.open_hits == 1).await;
    monitor.stop().await;
    world
}

/// Nothing has run out, nothing is told, and the hit may still be claimed.
async fn is_as_before(monitor: &Running) {
    assert_eq!(settled_alerts(monitor).await, []);
    let status = monitor.status();
    assert_eq!((status.watch_lists, status.open_hits, status.findings), (1, 1, vec![]));
}

#[tokio::test]
async fn a_clock_that_jumps_ends_no_list_and_makes_no_hit_overdue() {
    let mut world = world_with_a_hit().await;
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    for by_ms in [YEAR, -YEAR, 2 * RENEW_WITHIN as i64, -2 * (RENEW_WITHIN as i64)] {
        world.clock.set(by_ms);
        let said = wait_for(&monitor, |s| s.notices.iter().any(|n| n.contains("this machine's clock is"))).await;
        is_as_before(&monitor).await;
        let url = format!("{}/readyz", monitor.operations_url().unwrap());
        let ready = Fetcher::default().get(&url, 1 << 16).await.unwrap();
        assert!(String::from_utf8_lossy(&ready.body).contains("\"clock\""), "{ready:?} {said:#?}");
        // The log is followed on.
        world.grow(16, &[]);
        assert_eq!(caught_up(&monitor, &world.log).await.logs[0].condition, Condition::Good);
        world.clock.set(-by_ms);
        wait_for(&monitor, |s| s.notices.is_empty()).await;
    }
    // The time does not stop with the log, nor with the clock: who takes a record over may have both in hand.
    world.clock.set(-YEAR);
    world.wait(RENEW_WITHIN);
    wait_for(&monitor, |s| s.alerts.unexpected == 1 && s.open_hits == 0).await;
    monitor.stop().await;
}

#[tokio::test]
async fn a_start_with_a_wrong_clock_ends_no_list_and_a_hit_is_told_in_time() {
    let mut world = world_with_a_hit().await;
    for by_ms in [YEAR, -YEAR] {
        world.clock.set(by_ms);
        let monitor = world.start().await;
        is_as_before(&monitor).await;
        monitor.stop().await;
        let status = once(world.settings(), world.clock.clone()).await.unwrap();
        assert_eq!((status.watch_lists, status.alerts.expired), (1, 0));
        world.clock.set(-by_ms);
        if by_ms > 0 {
            // It looks once and ends: nothing but the wall clock can say that the time to claim is over.
            assert_eq!((status.alerts.unexpected, status.open_hits), (1, 0));
            world = world_with_a_hit().await;
        }
    }
    world.clock.set(YEAR);
    let monitor = world.start().await;
    is_as_before(&monitor).await;
    world.wait(RENEW_WITHIN);
    let status = wait_for(&monitor, |s| s.alerts.unexpected == 1).await;
    assert_eq!((status.watch_lists, status.alerts.expired), (1, 0));
    // Once the clock is right, so is the monitor, without a restart.
    world.clock.set(-YEAR);
    world.log.now += RENEW_WITHIN;
    world.grow(16, &[label("two")]);
    let status = caught_up(&monitor, &world.log).await;
    assert_eq!((status.logs[0].condition, status.open_hits, status.watch_lists), (Condition::Good, 1, 1));
    monitor.stop().await;
}

#[tokio::test]
async fn a_look_once_at_a_log_that_fell_silent_tells_a_hit_and_ends_no_list() {
    let world = world_with_a_hit().await;
    // The monitor is not run for long, and the log's last quorum is long past.
    world.wait(2000 * MINUTE);
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!((status.alerts.unexpected, status.alerts.expired, status.watch_lists), (1, 0, 1));
}

#[tokio::test]
async fn a_list_for_as_long_as_allowed_is_taken_while_the_log_is_away_after_a_start() {
    let world = world_with_a_hit().await;
    world.wait(3000 * MINUTE);
    world.web.lock().files.clear();
    let monitor = world.start().await;
    let mut list = world.log.list(2, world.time(), &[label("three")], None);
    list.expiry = UnixMillis::new(world.time() + WATCH_LIFETIME_MS_MAX);
    list.sign(&world.log.origin, &world::secret("holder 2"));
    take(&monitor, &list).await;
    monitor.stop().await;
}

#[tokio::test]
async fn a_new_list_whose_label_is_logged_is_refused_and_one_that_was_overtaken_fires() {
    let mut world = World::new().await;
    let before = world.log.clone();
    world.grow(16, &[label("used")]);
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    // Junk, or an app that is shown another tree: the list says that the label is absent where it is logged.
    let junk = world.log.list(1, world.time(), &[label("free"), label("used")], None);
    let late = (422, "watch-list-logged".to_owned());
    assert_eq!(hand_in(&monitor, &junk).await, late);
    assert_eq!(monitor.status().watch_lists, 0);
    // The label was logged after the tree that the list names: that is what its holder wants to be told.
    take(&monitor, &before.list(1, world.time(), &[label("free"), label("used")], None)).await;
    assert_eq!(monitor.status().open_hits, 1);
    // Anybody who is in may renew with whatever he likes: a renewal that is refused would end in an alert.
    take(&monitor, &world.log.list(1, world.time() + 1, &[label("used")], None)).await;
    // More than an hour later it is old, and the app looks again.
    world.let_pass(61 * MINUTE);
    caught_up(&monitor, &world.log).await;
    assert_eq!(hand_in(&monitor, &before.list(2, world.time(), &[label("used")], None)).await, late);
    assert_eq!(monitor.status().watch_lists, 1);
    monitor.stop().await;
}

#[tokio::test]
async fn a_lists_alerts_are_its_holders_alone() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    for name in [1, 2, 3] {
        take(&monitor, &world.log.list(name, world.time(), &[label("one"), label(&name.to_string())], None)).await;
    }
    world.grow(16, &[label("one")]);
    wait_for(&monitor, |s| s.open_hits == 3).await;
    world.wait(RENEW_WITHIN);
    wait_for(&monitor, |s| s.alerts.unexpected == 3).await;
    let asked = async |list: u8, holder: u8, after| world::ask_alerts(&monitor, &world, list, holder, after).await;
    let all = monitor.alerts().unwrap();
    for name in [1, 2, 3] {
        let own: Vec<_> = all.iter().filter(|a| a.list == world::hex_name(name)).cloned().collect();
        assert_eq!((own.len(), own[0].entry), (1, Some(world.log.find(label("one")).0)));
        let told = AlertsAnswer { raised: 1, alerts: own.clone() };
        assert_eq!(asked(name, name, 0).await, Ok(told));
        assert_eq!(asked(name, name, own[0].id).await.unwrap().alerts, []);
    }
    // Somebody else's list, one that is not there, and one of which nothing is known.
    for (list, holder) in [(1, 2), (9, 1)] {
        assert_eq!(asked(list, holder, 0).await, Err((404, "no-list".to_owned())));
    }
    take(&monitor, &world.log.list(4, world.time(), &[label("four")], None)).await;
    assert_eq!(asked(4, 4, 0).await, Ok(AlertsAnswer::default()));
    // A retired list is gone; what it had raised is still its holder's, and not that of the next one with its name.
    take(&monitor, &world.log.list(1, world.time() + 1, &[], None)).await;
    wait_for(&monitor, |s| s.watch_lists == 3).await;
    let mut taken = world.log.list(1, world.time() + 2, &[label("five")], None);
    taken.holder = world::secret("holder 5").public();
    taken.sign(&world.log.origin, &world::secret("holder 5"));
    take(&monitor, &taken).await;
    assert_eq!(asked(1, 1, 0).await.unwrap().alerts.len(), 1);
    assert_eq!(asked(1, 5, 0).await, Ok(AlertsAnswer::default()));
    // Signed for another path, another body, too early, or not at all.
    let (url, now) = (format!("{}/v1/alerts", monitor.url()), world.clock.now());
    let body = world::alerts_request(&world, 2, 0);
    let sign = |path: &str, body: &[u8], time: UnixMillis| {
        let (origin, holder) = (&world.log.origin, world::secret("holder 2"));
        let signature = RequestSignature::sign(origin, &holder, ("POST", path), body, time, [0; 16]);
        vec![(RECIPIENT_HEADER, signature.format())]
    };
    let early = UnixMillis::new(now.get() - 301_000);
    for (headers, wanted) in [
        (vec![], "signature-missing"),
        (sign("/v1/notices", &body, now), "signature-invalid"),
        (sign("/v1/alerts", b"{}", now), "signature-invalid"),
        (vec![(RECIPIENT_HEADER, "key=x".to_owned())], "signature-invalid"),
        (sign("/v1/alerts", &body, early), "replayed"),
    ] {
        let answer = Fetcher::default().post(&url, "application/json", &headers, body.clone(), 1 << 16).await.unwrap();
        assert_eq!((answer.status, code(&answer)), (401, wanted.to_owned()));
    }
    for bad in [&b"[]"[..], b"{}", br#"{"log":"dp.example/log","list":"01"}"#] {
        let answer = Fetcher::default().post(&url, "application/json", &[], bad.to_vec(), 1 << 16).await.unwrap();
        assert_eq!((answer.status, code(&answer)), (400, "malformed".to_owned()));
    }
    // What is printed for the operator names neither list nor entry.
    let told = serde_json::to_string(&monitor.untold().unwrap()).unwrap();
    assert!(
        told.contains("\"event\":\"alert\"") && !told.contains(&world::hex_name(2)) && !told.contains("entry"),
        "{told}"
    );
    monitor.stop().await;
}

#[tokio::test]
async fn a_list_keeps_its_newest_alerts_and_counts_all() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    let labels = |from: usize, to: usize| (from..to).map(|i| label(&i.to_string())).collect::<Vec<_>>();
    take(&monitor, &world.log.list(2, world.time(), &[label("0")], None)).await;
    let mut raised = 0;
    for part in [labels(0, 60), labels(60, 100)] {
        take(&monitor, &world.log.list(1, world.time(), &part, None)).await;
        world.grow(part.len(), &part);
        raised += part.len();
        wait_for(&monitor, |s| s.open_hits >= part.len()).await;
        world.clock.advance(RENEW_WITHIN);
        // And one for the other list.
        wait_for(&monitor, |s| s.alerts.unexpected == raised + 1).await;
        world.log.now += RENEW_WITHIN;
    }
    monitor.stop().await;
    for _ in 0..2 {
        let monitor = world.start().await;
        let told = world::ask_alerts(&monitor, &world, 1, 1, 0).await.unwrap();
        assert_eq!((told.raised, told.alerts.len()), (100, ALERTS_PER_LIST_MAX));
        let newest = world.log.find(label("99")).0.max(world.log.find(label("98")).0);
        assert!(told.alerts.iter().any(|a| a.entry >= Some(newest)));
        assert!(told.alerts.windows(2).all(|w| w[0].id < w[1].id));
        // Nobody else loses anything by it.
        assert_eq!(world::ask_alerts(&monitor, &world, 2, 2, 0).await.unwrap().alerts.len(), 1);
        assert_eq!(monitor.status().alerts.unexpected, 101);
        monitor.stop().await;
    }
}

#[tokio::test]
async fn a_retired_list_watches_no_more() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    take(&monitor, &world.log.list(1, world.time(), &[label("one")], None)).await;
    take(&monitor, &world.log.list(1, world.time() + 1, &[], None)).await;
    wait_for(&monitor, |s| s.watch_lists == 0).await;
    monitor.stop().await;
    let monitor = world.start().await;
    world.grow(16, &[label("one")]);
    caught_up(&monitor, &world.log).await;
    world.wait(RENEW_WITHIN);
    assert_eq!(settled_alerts(&monitor).await, []);
    assert_eq!((monitor.status().watch_lists, monitor.status().open_hits), (0, 0));
    monitor.stop().await;
}

#[tokio::test]
async fn lists_that_are_not_taken_are_problems_with_codes() {
    let world = World::new().await;
    let monitor = world.start().await;
    let good = world.log.list(1, world.time(), &[label("one")], None);
    let refused = async |list: &WatchList| hand_in(&monitor, list).await;
    let problem = |status: u16, code: &str| (status, code.to_owned());

    let mut forged = good.clone();
    forged.made = UnixMillis::new(5);
    assert_eq!(refused(&forged).await, problem(422, "watch-list-signature"));
    let other = Log::new("other.example/log", NOW).list(1, world.time(), &[label("one")], None);
    assert_eq!(refused(&other).await, problem(422, "watch-list-other-log"));
    assert_eq!(refused(&world.log.list(1, 5, &[label("one")], None)).await, problem(422, "watch-list-lifetime"));
    assert_eq!(refused(&world.log.list(1, world.time(), &[], None)).await, problem(422, "watch-list-lifetime"));
    take(&monitor, &good).await;
    assert_eq!(refused(&good).await, problem(409, "watch-list-superseded"));
    let mut stolen = good.clone();
    let thief = SecretKey::from_seed(&[3; 32]);
    (stolen.holder, stolen.made) = (thief.public(), UnixMillis::new(world.time() + 1));
    stolen.sign(&world.log.origin, &thief);
    assert_eq!(refused(&stolen).await, problem(409, "watch-list-superseded"));

    let cut = good.encode()[..50].to_vec();
    for body in [vec![], vec![1; 100], cut, [good.encode(), vec![0]].concat()] {
        let answer = post(&monitor, WATCH_LIST_MEDIA_TYPE, body).await;
        assert_eq!((answer.status, code(&answer)), problem(400, "malformed"));
    }
    // Of another format version.
    for body in [vec![0; 100], [&[2], &good.encode()[1..]].concat()] {
        let answer = post(&monitor, WATCH_LIST_MEDIA_TYPE, body).await;
        assert_eq!((answer.status, code(&answer)), problem(422, "not-supported"));
    }
    let answer = post(&monitor, "application/octet-stream", good.encode()).await;
    assert_eq!((answer.status, code(&answer)), problem(415, "content-type"));
    let answer = post(&monitor, WATCH_LIST_MEDIA_TYPE, vec![0; WATCH_LIST_BYTES_MAX + 1]).await;
    assert_eq!((answer.status, code(&answer)), problem(413, "body-too-large"));
    let with_parameter = format!("{WATCH_LIST_MEDIA_TYPE}; v=1");
    let next = world.log.list(1, world.time() + 2, &[label("one")], None);
    assert_eq!(post(&monitor, &with_parameter, next.encode()).await.status, 204);
    assert_eq!(monitor.status().watch_lists, 1);
    monitor.stop().await;
}

#[tokio::test]
async fn status_and_alerts_are_served() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    for (name, text) in [(1, "one"), (2, "two"), (3, "three")] {
        take(&monitor, &world.log.list(name, world.time(), &[label(text)], None)).await;
    }
    world.grow(16, &[label("one"), label("two"), label("three")]);
    wait_for(&monitor, |s| s.open_hits == 3).await;
    world.wait(RENEW_WITHIN);
    wait_for(&monitor, |s| s.alerts.unexpected == 3).await;
    let get = async |path: &str| Fetcher::default().get(&format!("{}{path}", monitor.url()), 1 << 20).await.unwrap();
    let served = get("/status").await;
    assert_eq!((served.status, &served.media_type[..]), (200, "application/json"));
    let json: serde_json::Value = serde_json::from_slice(&served.body).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&json), "alerts findings logs notices open_hits schema watch_lists");
    assert_eq!(keys(&json["alerts"]), "expired unexpected");
    assert_eq!(
        keys(&json["logs"][0]),
        "condition cosignatures findings head_time lag last_success_ms map_root notices origin quorum_age_s \
         replayed_changes url verified_size views"
    );
    assert_eq!(keys(&json["logs"][0]["views"][0]), "agrees size witness");
    let status: Status = serde_json::from_slice(&served.body).unwrap();
    assert_eq!((&status.schema[..], status.alerts.unexpected), ("waymark.monitor.status/1", 3));
    // The alerts themselves are nobody's but the holders'.
    let answer = get("/v1/alerts").await;
    assert_eq!((answer.status, code(&answer)), (405, "method-not-allowed".to_owned()));
    for path in ["/nothing", "/", "/v1", "/status/x"] {
        let answer = get(path).await;
        assert_eq!((answer.status, code(&answer)), (404, "route-unknown".to_owned()), "{path}");
    }
    let url = format!("{}/status", monitor.url());
    let answer = Fetcher::default().post(&url, "text/plain", &[], vec![], 1 << 16).await.unwrap();
    assert_eq!((answer.status, code(&answer)), (405, "method-not-allowed".to_owned()));
    // No identifier can be in any of this; the labels themselves stay inside as well.
    let text = String::from_utf8(served.body).unwrap();
    assert!(!text.contains(&label("one").0.to_hex()) && !text.contains(&"01".repeat(16)));
    monitor.stop().await;
    // A pass on its own takes part in all this.
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!((status.alerts.unexpected, status.watch_lists), (3, 3));
    world.log.now += MINUTE;
}
