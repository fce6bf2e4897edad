//! A log that cannot be read, not all of it or not at once: that is told as long as it lasts, accuses nobody, and what
//! was read is kept. Only what was signed can be found to be wrong.

mod world;

use std::time::{Duration, Instant};

use waymark_log::hash::Hash;
use waymark_mapping::label::Label;
use waymark_monitor::{
    FollowedLog, STEP_BYTES_MAX, Settings, WITHHELD_POLLS,
    evidence::EVIDENCE_FOLDER,
    once, once_within,
    report::{Condition, Status, Verdict},
    start,
};
use world::{Log, NOW, Quota, World, asked, caught_up, settings, wait_for};

/// A world whose log has so many entries or a few more.
async fn world_of(size: u64) -> World {
    let mut world = World::new().await;
    while world.log.size() < size {
        world.log.grow(1000.min((size - world.log.size()) as usize).max(16), &[]);
    }
    world.clock.advance(world.log.now - NOW - 1000);
    world.web.publish("log", &world.log);
    world.web.put_copies(&world.log);
    world
}

fn is_silent(status: &Status, words: &str) {
    assert!(!status.notices.iter().any(|n| n.contains(words)), "{:?}", status.notices);
}

/// Experiments, row 11: 23 minutes at nothing, and an accusation besides.
#[tokio::test]
async fn a_log_that_limits_requests_is_followed_steadily_and_is_accused_of_nothing() {
    let world = world_of(20_000).await;
    world.web.lock().quota = Some(Quota::new(20));
    let (begun, monitor) = (Instant::now(), world.start().await);
    let mut sizes = vec![0];
    while *sizes.last().unwrap() < world.log.size() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{sizes:?}");
        let status = monitor.status();
        is_silent(&status, "withheld");
        assert!(matches!(status.verdict(), Verdict::Content | Verdict::CouldNot), "{status:#?}");
        if *sizes.last().unwrap() < status.logs[0].verified_size {
            sizes.push(status.logs[0].verified_size);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    monitor.stop().await;
    // Every few seconds there was progress, no answer was thrown away, and the log was left alone when it asked for
    // that.
    assert!(sizes.len() >= 4, "{sizes:?}");
    let quota = world.web.lock().quota.take().unwrap();
    let bundles = quota.answered.iter().filter(|p| p.contains("/entries/") && !p.contains(".p/")).count() as u64;
    assert_eq!(bundles, world.log.size() / 256);
    assert!(quota.refused <= 30, "{} requests were for nothing", quota.refused);

    // A program that looks once waits, too, and keeps what it has when its time is over.
    world.web.lock().quota = Some(Quota::new(20));
    let (other, followed) = (tempfile::tempdir().unwrap(), || vec![world.followed()]);
    let short = Duration::from_secs(3);
    let status = once_within(settings(other.path(), followed()), world.clock.clone(), short).await.unwrap();
    let reached = status.logs[0].verified_size;
    assert!((1..world.log.size()).contains(&reached), "{status:#?}");
    assert_eq!((status.verdict(), status.findings.len()), (Verdict::CouldNot, 0));
    let unread = "the log cannot be read: it was not read to its end within 3 s";
    assert!(status.notices.iter().any(|n| n.contains(unread)), "{:?}", status.notices);
    let status = once(settings(other.path(), followed()), world.clock.clone()).await.unwrap();
    assert_eq!((status.logs[0].verified_size, status.verdict()), (world.log.size(), Verdict::Content));
}

/// F9 of the outside software: what is shown as a checkpoint is not withheld, whether its tiles can be read or not.
#[tokio::test]
async fn a_log_that_cannot_be_read_withholds_nothing_and_one_that_shows_less_does() {
    let mut world = World::new().await;
    let first = world.log.checkpoint();
    world.grow(16, &[]);
    // The checkpoint and the copies say 19, and there are no entries.
    world.web.lock().files.remove("log/tile/entries/000.p/19");
    let monitor = world.start().await;
    asked(&world.web, "log/tile/entries/000.p/19", 1).await;
    asked(&world.web, "log/checkpoint", 5).await;
    let status = wait_for(&monitor, |s| s.logs[0].views.iter().all(|v| v.size == Some(19))).await;
    is_silent(&status, "withheld");
    assert_eq!((status.logs[0].condition, status.verdict()), (Condition::Unreachable, Verdict::CouldNot));
    monitor.stop().await;
    // A program that looks once need not look again.
    world.web.take_requests();
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    is_silent(&status, "withheld");
    assert_eq!(world.web.take_requests().iter().filter(|r| *r == "log/checkpoint").count(), 1);
    // Nor does it withhold anything if the checkpoint itself cannot be read, however often.
    world.web.lock().files.remove("log/checkpoint");
    for _ in 0..=WITHHELD_POLLS {
        let status = once(world.settings(), world.clock.clone()).await.unwrap();
        is_silent(&status, "withheld");
        assert_eq!(status.verdict(), Verdict::CouldNot);
    }
    // It does if it shows less than what a quorum has cosigned.
    world.web.put("log/checkpoint", first);
    world.web.put_copy(1, &world.log, world.log.checkpoint());
    let monitor = world.start().await;
    let shown = "dp.example/log: withheld: a quorum of the witnesses has seen size 19, the log shows us size 2";
    wait_for(&monitor, |s| s.notices.iter().any(|n| n == shown)).await;
    world.web.publish("log", &world.log);
    let status = caught_up(&monitor, &world.log).await;
    assert_eq!((status.verdict(), status.notices), (Verdict::Content, vec![]));
    monitor.stop().await;
}

/// F10: nobody has signed a byte that a file server spoilt.
#[tokio::test]
async fn a_byte_that_a_server_damaged_is_named_while_it_lasts_and_is_no_finding() {
    let world = world_of(1500).await;
    let path = "log/tile/entries/002";
    let good = world.web.lock().files[path].clone();
    let mut bad = good.clone();
    bad[4000] ^= 1;
    world.web.put(path, bad);
    for _ in 0..2 {
        let status = once(world.settings(), world.clock.clone()).await.unwrap();
        // What lies before it is believed, and what is damaged is named by a bundle or two.
        let from = status.logs[0].verified_size;
        assert!((1..=512).contains(&from), "{status:#?}");
        assert_eq!((status.logs[0].condition, status.verdict()), (Condition::Damaged, Verdict::CouldNot));
        let named = status.notices.iter().find(|n| n.contains("do not lead to the root that was signed")).unwrap();
        assert!(named.contains(&format!("entries {from} to ")) && named.contains("damaged where they are served"));
        assert_eq!(status.findings, [""; 0]);
    }
    assert!(!world.folder.path().join(EVIDENCE_FOLDER).exists());
    let monitor = world.start().await;
    wait_for(&monitor, |s| s.logs[0].condition == Condition::Damaged).await;
    world.web.put(path, good);
    let status = caught_up(&monitor, &world.log).await;
    assert_eq!((status.notices, status.findings, monitor.status().verdict()), (vec![], vec![], Verdict::Content));
    monitor.stop().await;
}

#[tokio::test]
async fn hash_tiles_that_are_wrong_short_endless_or_gone_are_noticed_until_they_are_right() {
    let world = world_of(700).await;
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    let size = world.log.size();
    let edge = [format!("log/tile/0/002.p/{}", size % 256), "log/tile/1/000.p/2".to_owned()];
    for path in ["log/tile/0/000", "log/tile/0/001", &edge[0], &edge[1]] {
        let good = world.web.lock().files[path].clone();
        let mut wrong = good.clone();
        wrong[40] ^= 1;
        let (short, endless) = (good[1..].to_vec(), [&good[..], &[0; 20_000]].concat());
        for (bad, why) in [(Some(wrong), "does not hold"), (Some(short), "has"), (Some(endless), ""), (None, "404")] {
            match bad {
                Some(bad) => world.web.put(path, bad),
                None => drop(world.web.lock().files.remove(path)),
            }
            // Each program looks at what is new and at the edge; the first one has seen neither.
            let fresh = tempfile::tempdir().unwrap();
            let followed = vec![world.followed()];
            let status = once(settings(fresh.path(), followed), world.clock.clone()).await.unwrap();
            let tile = |n: &&String| n.contains("a hash tile cannot be used: ");
            let notice = status.notices.iter().find(tile).unwrap_or_else(|| panic!("{path} {why}: {status:#?}"));
            assert!(notice.contains(why), "{path} {why}: {notice}");
            assert_eq!((status.logs[0].condition, status.logs[0].verified_size), (Condition::Damaged, size));
            assert_eq!((status.verdict(), status.findings), (Verdict::CouldNot, vec![]));
            world.web.put(path, good.clone());
        }
    }
    // A monitor that runs comes round to the old ones, and says when it is over.
    let path = "log/tile/0/000";
    let good = world.web.lock().files.remove(path).unwrap();
    let status = wait_for(&monitor, |s| s.logs[0].condition == Condition::Damaged).await;
    assert!(status.notices[0].contains("the log answered 404 for tile/0/000"), "{:?}", status.notices);
    world.web.put(path, good);
    let status = wait_for(&monitor, |s| s.verdict() == Verdict::Content).await;
    assert_eq!((status.notices, status.findings), (vec![], vec![]));
    monitor.stop().await;
}

#[tokio::test]
async fn a_tile_that_drips_stops_nothing_else_and_a_single_look_ends_in_time() {
    let mut world = World::new().await;
    let other = Log::new("slow.example/log", NOW);
    world.web.publish("slow", &other);
    let minute = Duration::from_secs(60);
    for path in ["slow/tile/entries/000.p/2", "slow/tile/0/000.p/2", "log/tile/0/000.p/19"] {
        world.web.lock().slow.insert(path.to_owned(), minute);
    }
    world.grow(16, &[]);
    let slow = FollowedLog { trust: other.trust(), url: world.web.url("slow"), witnesses: vec![] };
    let settings = settings(world.folder.path(), vec![slow, world.followed()]);
    let begun = Instant::now();
    let short = Duration::from_secs(2);
    let status = once_within(settings.clone(), world.clock.clone(), short).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!((status.logs[0].condition, status.logs[0].verified_size), (Condition::Unreachable, 0));
    assert_eq!((status.logs[1].condition, status.logs[1].verified_size), (Condition::Damaged, world.log.size()));
    let late = "slow.example/log: the log cannot be read: it was not read to its end within 2 s";
    assert!(status.notices.iter().any(|n| n.contains(late)), "{:?}", status.notices);
    assert_eq!((status.verdict(), status.findings.len()), (Verdict::CouldNot, 0));
    // A hash tile that drips does not stop its log from being followed either.
    let monitor = start(settings, world.clock.clone()).await.unwrap();
    let begun = Instant::now();
    world.grow(16, &[]);
    wait_for(&monitor, |s| s.logs[1].verified_size == world.log.size()).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    monitor.stop().await;
}

/// Labels that share 250 bits by seventeens, each of which costs some twenty times as much as another.
fn costly(group: u64) -> Vec<Label> {
    let prefix = Hash::sha256(&[b"group", &group.to_be_bytes()]);
    let with_end = |end: u8| {
        let mut bytes = *prefix.as_bytes();
        bytes[31] = bytes[31] & 0xc0 | end;
        Label(Hash::from_slice(&bytes).unwrap())
    };
    (0..17).map(with_end).collect()
}

#[tokio::test]
async fn a_log_over_its_memory_budget_is_named_and_the_others_are_followed() {
    let mut world = World::new().await;
    let mut hostile = Log::new("hostile.example/log", NOW);
    for batch in 0..30 {
        let labels: Vec<Label> = (0..60).flat_map(|i| costly(batch * 60 + i)).collect();
        hostile.grow(labels.len(), &labels);
        world.log.grow(labels.len(), &[]);
    }
    world.clock.advance(world.log.now - NOW - 1000);
    for (prefix, log) in [("hostile", &hostile), ("log", &world.log)] {
        world.web.publish(prefix, log);
    }
    world.web.put_copies(&world.log);
    let evil = FollowedLog { trust: hostile.trust(), url: world.web.url("hostile"), witnesses: vec![] };
    let budget = |bytes| Settings {
        log_memory_bytes: bytes,
        ..settings(world.folder.path(), vec![evil.clone(), world.followed()])
    };
    let status = once(budget(10 << 20), world.clock.clone()).await.unwrap();
    assert_eq!((status.logs[0].condition, status.logs[1].condition), (Condition::OverBudget, Condition::Good));
    assert!((1..hostile.size()).contains(&status.logs[0].verified_size), "{status:#?}");
    assert_eq!(status.logs[1].verified_size, world.log.size());
    assert_eq!((status.verdict(), status.findings.len()), (Verdict::CouldNot, 0));
    let named = "hostile.example/log: over its memory budget, not followed further: its first ";
    assert!(status.notices.iter().any(|n| n.starts_with(named)), "{:?}", status.notices);
    // It stays so, and what is signed is still compared; with more memory the log is followed to its end.
    let status = once(budget(10 << 20), world.clock.clone()).await.unwrap();
    assert_eq!(status.logs[0].condition, Condition::OverBudget);
    let status = once(budget(1 << 30), world.clock.clone()).await.unwrap();
    assert_eq!((status.logs[0].verified_size, status.verdict()), (hostile.size(), Verdict::Content));
}

#[tokio::test]
async fn huge_entries_without_a_head_are_too_much_for_one_log_and_no_finding() {
    let world = World::new().await;
    let mut hostile = Log::new("hostile.example/log", NOW);
    // Kinds of later programs, of the greatest length that a bundle holds.
    let huge = |i: usize| [&[1, 200], &i.to_be_bytes()[..], &vec![0; 65_000]].concat();
    hostile.close((0..STEP_BYTES_MAX / 65_000 + 300).map(huge).collect());
    world.web.publish("hostile", &hostile);
    let evil = FollowedLog { trust: hostile.trust(), url: world.web.url("hostile"), witnesses: vec![] };
    let followed = settings(world.folder.path(), vec![evil, world.followed()]);
    let status = once(followed, world.clock.clone()).await.unwrap();
    assert_eq!((status.logs[0].condition, status.logs[1].condition), (Condition::OverBudget, Condition::Good));
    assert_eq!((status.logs[0].verified_size, status.findings.len()), (2, 0));
    assert!(status.notices.iter().any(|n| n.contains("without a head take more than")), "{:?}", status.notices);
}

/// Experiments, row 23: a bucket without a listing answers 403 for what is not there, a web server a page of its own.
#[tokio::test]
async fn a_partial_tile_that_is_hidden_is_read_as_the_full_one() {
    for (status, page) in [(403, b"<html>".to_vec()), (200, b"<html>not here</html>".to_vec()), (410, vec![])] {
        let mut world = World::new().await;
        world.grow(16, &[]);
        let early = world.log.checkpoint();
        world.log.grow(300, &[]);
        world.web.publish("log", &world.log);
        world.web.lock().files.retain(|path, _| !path.contains("/000.p/"));
        world.web.put("log/checkpoint", early);
        world.web.lock().missing = Some((status, page));
        let status = once(world.settings(), world.clock.clone()).await.unwrap();
        assert_eq!((status.logs[0].verified_size, status.findings), (19, vec![]));
        assert_eq!(status.logs[0].condition, Condition::Good, "{:?}", status.notices);
    }
}
