//! Logs that tell the truth and logs that do not.

mod world;

use std::fs;

use redb::{Database, ReadableTable, TableDefinition};
use waymark_log::{hash::Hash, tile};
use waymark_mapping::{
    entry::{Change, Entry},
    watch::WATCH_LIST_MEDIA_TYPE,
};
use waymark_monitor::{
    FINDINGS_MAX, Running, STEP_ENTRIES_MAX, STORE_FILE, StartError, WITHHELD_POLLS,
    evidence::{Kind, Shown},
    once,
    report::{Condition, News, Verdict},
    start,
};
use waymark_runtime::{clock::Clock, fetch::Fetcher};
use world::{Log, MINUTE, NOW, World, asked, caught_up, evidence, findings, label, settings, wait_for};

fn two_roots(kind: &str, size: u64, one: Hash, two: Hash) -> String {
    let (one, two) = (one.min(two), one.max(two));
    format!("dp.example/log: {kind} at size {size}: the log stands by two roots, {one} and {two}")
}

/// How many notices with these words wait to be told.
fn notices(monitor: &Running, words: &str) -> usize {
    let told = monitor.untold().unwrap();
    told.iter().filter(|n| matches!(n, News::Notice(n) if n.text.contains(words))).count()
}

#[tokio::test]
async fn an_honest_log_is_followed_across_tile_boundaries() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    // 2, 256, 257, 274, 512, 513, 530
    for count in [0, 253, 0, 16, 237, 0, 16] {
        if world.log.size() > 2 || count > 0 {
            world.grow(count, &[]);
        }
        let status = caught_up(&monitor, &world.log).await;
        let log = &status.logs[0];
        assert_eq!(log.map_root, world.log.head().map_root.to_hex());
        assert_eq!((log.replayed_changes, log.head_time), (world.log.changes, Some(world.log.now)));
        assert_eq!((log.condition, log.cosignatures, log.lag), (Condition::Good, 3, 0));
        assert_eq!((status.findings, status.notices), (vec![], vec![]));
    }
    assert_eq!(world.log.size(), 530);
    assert_eq!(monitor.status().verdict(), Verdict::Content);
    monitor.stop().await;
}

#[tokio::test]
async fn a_restart_goes_on_from_the_local_copy() {
    let mut world = World::new().await;
    world.grow(300, &[]);
    let monitor = world.start().await;
    let before = caught_up(&monitor, &world.log).await;
    // One directory, one monitor.
    let second = start(world.settings(), world.clock.clone()).await;
    assert!(matches!(second, Err(StartError::Locked(_))));
    monitor.stop().await;

    world.web.take_requests();
    let monitor = world.start().await;
    assert_eq!(monitor.status().logs[0].verified_size, world.log.size());
    assert_eq!(monitor.status().logs[0].map_root, before.logs[0].map_root);
    world.grow(16, &[]);
    let after = caught_up(&monitor, &world.log).await;
    assert_eq!((after.findings, after.notices), (vec![], vec![]));
    let requests = world.web.take_requests();
    assert!(requests.iter().any(|r| r.starts_with("log/tile/entries/001.p/")), "{requests:?}");
    assert!(!requests.iter().any(|r| r == "log/tile/entries/000"), "{requests:?}");
    monitor.stop().await;
}

#[tokio::test]
async fn a_partial_bundle_that_is_gone_is_read_as_the_full_one() {
    let mut world = World::new().await;
    world.grow(16, &[]);
    let early = world.log.checkpoint();
    world.log.grow(300, &[]);
    world.web.publish("log", &world.log);
    world.web.lock().files.retain(|path, _| !path.starts_with("log/tile/entries/000.p/"));
    world.web.put("log/checkpoint", early);
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!((status.logs[0].verified_size, status.findings), (19, vec![]));
}

#[tokio::test]
async fn other_bytes_for_an_entry_are_not_believed() {
    let mut world = World::new().await;
    world.log.grow(40, &[]);
    let mut other = world.log.clone();
    *other.entries.get_mut(7).unwrap() = Entry::Change(Change { label: label("x"), commitment: Hash::ZERO }).encode();
    world.web.put_tiles("log", &other);
    world.web.put("log/checkpoint", world.log.checkpoint());
    let monitor = world.start().await;
    let status = wait_for(&monitor, |s| s.logs[0].condition == Condition::Damaged).await;
    let size = world.log.size();
    let want = format!("entries 0 to {}, or the hash tiles that go with them, do not lead to the root", size - 1);
    assert!(status.notices.iter().any(|n| n.contains(&want)), "{:?}", status.notices);
    // Nobody has signed them, so they speak against nobody.
    assert_eq!((status.logs[0].verified_size, status.verdict(), &status.findings), (0, Verdict::CouldNot, &vec![]));
    // The right bytes are believed, and it is over.
    world.grow(16, &[]);
    let status = caught_up(&monitor, &world.log).await;
    assert_eq!((status.verdict(), status.findings), (Verdict::Content, vec![]));
    monitor.stop().await;
}

#[tokio::test]
async fn a_copy_with_another_root_is_a_split_view() {
    let mut world = World::new().await;
    world.grow(16, &[]);
    let (size, other) = (world.log.size(), Hash::sha256(&[b"other"]));
    let copy = world.log.copy(2, size, other);
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    world.web.put_copy(2, &world.log, copy.clone());
    let status = wait_for(&monitor, |s| s.logs[0].views[1].agrees == Some(false)).await;
    assert_eq!(status.logs[0].views[0].agrees, Some(true));
    let ours = world.log.root_at(size);
    assert_eq!(status.findings, [two_roots("split view", size, ours, other)]);
    let name = findings(&monitor)[0].evidence.clone().unwrap();
    monitor.stop().await;
    let file = evidence(world.folder.path(), &name);
    assert_eq!(file.notes.iter().map(|n| &n.note).collect::<Vec<_>>(), [&world.log.checkpoint(), &copy]);
    assert_eq!((file.kind, file.verify(&world.log.trust())), (Kind::SplitView, Ok(Shown::Log)));
    // It is told again by whoever was not told, and found no second time.
    let monitor = world.start().await;
    wait_for(&monitor, |s| s.logs[0].views[1].agrees == Some(false)).await;
    let untold: Vec<u64> = monitor.untold().unwrap().iter().filter_map(News::id).collect();
    assert_eq!(untold, [1]);
    monitor.set_told(1).unwrap();
    assert_eq!(monitor.untold().unwrap().iter().filter_map(News::id).count(), 0);
    monitor.stop().await;
    let monitor = world.start().await;
    assert_eq!(monitor.untold().unwrap().iter().filter_map(News::id).count(), 0);
    assert_eq!(fs::read_dir(world.folder.path().join("evidence")).unwrap().count(), 1);
    monitor.stop().await;
}

#[tokio::test]
async fn a_copy_of_another_past_is_a_fork() {
    let mut world = World::new().await;
    world.grow(260, &[]);
    world.grow(16, &[]);
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    // An honest copy that lags agrees, at every kind of size.
    for size in [2, 263] {
        let root = world.log.root_at(size);
        world.web.put_copy(1, &world.log, world.log.copy(1, size, root));
        wait_for(&monitor, |s| s.logs[0].views[0].size == Some(size) && s.logs[0].views[0].agrees == Some(true)).await;
    }
    assert_eq!(monitor.status().findings, [""; 0]);
    let other = Hash::sha256(&[b"fork"]);
    world.web.put_copy(1, &world.log, world.log.copy(1, 263, other));
    let status = wait_for(&monitor, |s| !s.findings.is_empty()).await;
    assert_eq!(status.findings, [two_roots("fork", 263, world.log.root_at(263), other)]);
    assert_eq!(status.logs[0].views[0].agrees, Some(false));
    let name = findings(&monitor)[0].evidence.clone().unwrap();
    monitor.stop().await;
    // Nobody needs the entries to see it.
    let file = evidence(world.folder.path(), &name);
    assert_eq!((file.kind, file.verify(&world.log.trust())), (Kind::Fork, Ok(Shown::Log)));
    assert_eq!(file.earlier.as_ref().unwrap().root, world.log.root_at(263));
    // The same from a monitor that was started again in between.
    world.web.put_copy(1, &world.log, world.log.copy(1, 2, other));
    let monitor = world.start().await;
    wait_for(&monitor, |s| s.findings.len() == 2).await;
    let name = findings(&monitor)[1].evidence.clone().unwrap();
    assert_eq!(evidence(world.folder.path(), &name).verify(&world.log.trust()), Ok(Shown::Log));
    monitor.stop().await;
}

#[tokio::test]
async fn a_checkpoint_shown_to_somebody_else_must_end_in_a_head_too() {
    let mut world = World::new().await;
    world.grow(16, &[]);
    world.web.put_copy(1, &world.log, world.log.copy(1, 10, world.log.root_at(10)));
    let monitor = world.start().await;
    let status = wait_for(&monitor, |s| !s.findings.is_empty()).await;
    assert_eq!(status.findings, ["dp.example/log: the checkpoint at size 10 does not end in a head"]);
    let name = findings(&monitor)[0].evidence.clone().unwrap();
    assert_eq!(evidence(world.folder.path(), &name).verify(&world.log.trust()), Ok(Shown::WithEntries));
    monitor.stop().await;
}

#[tokio::test]
async fn a_log_that_goes_back_is_noticed_while_it_lasts() {
    let mut world = World::new().await;
    let first = world.log.checkpoint();
    world.grow(16, &[]);
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    // A cache may be late; ten looks later that is no excuse.
    world.web.put("log/checkpoint", first.clone());
    let status = wait_for(&monitor, |s| s.logs[0].condition == Condition::Withheld).await;
    assert_eq!(status.notices, ["dp.example/log: withheld: the log has shown size 19 before and shows size 2 now"]);
    assert_eq!((status.verdict().exit_code(), status.findings, status.logs[0].verified_size), (5, vec![], 19));
    world.web.publish("log", &world.log);
    let status = wait_for(&monitor, |s| s.logs[0].condition == Condition::Good && s.notices.is_empty()).await;
    assert_eq!(status.verdict(), Verdict::Content);
    monitor.stop().await;
    // `once` gives it the same number of looks, and does not take what it has from before for new.
    world.web.put("log/checkpoint", first);
    world.web.take_requests();
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!((status.verdict().exit_code(), status.logs[0].verified_size), (5, 19));
    let looks = world.web.take_requests().iter().filter(|r| *r == "log/checkpoint").count() as u64;
    assert_eq!(looks, WITHHELD_POLLS);
}

#[tokio::test]
async fn witnesses_that_cosign_a_smaller_tree_later_are_found() {
    let mut world = World::new().await;
    world.grow(16, &[]);
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    monitor.stop().await;
    // The larger tree is remembered from before the restart. One witness is only as late as clocks may differ.
    world.clock.advance(MINUTE);
    let t = world.log.now / 1000;
    world.web.put("log/checkpoint", world.log.note(2, world.log.root_at(2), [t + 31, t + 31, t + 30, 0]));
    let monitor = world.start().await;
    let status = wait_for(&monitor, |s| s.findings.len() == 2).await;
    let text = |i: usize| {
        let vkey = world.log.witnesses[i - 1].vkey().to_string();
        let id = vkey.split('+').nth(1).unwrap();
        format!("dp.example/log: rollback: witness w{i} (key w{i}.example+{id}) has cosigned size 2 later than size 19")
    };
    assert_eq!(status.findings, [text(1), text(2)]);
    assert_eq!(status.verdict(), Verdict::Alarm);
    let name = findings(&monitor)[0].evidence.clone().unwrap();
    let shown = evidence(world.folder.path(), &name).verify(&world.log.trust());
    assert_eq!(shown, Ok(Shown::Witnesses(vec!["w1".to_owned(), "w2".to_owned()])));
    asked(&world.web, "log/checkpoint", 3).await;
    assert_eq!(monitor.status().findings.len(), 2);
    monitor.stop().await;
}

#[tokio::test]
async fn the_logs_own_earlier_checkpoint_must_be_the_one_that_was_replayed() {
    let mut world = World::new().await;
    let first = world.log.clone();
    world.grow(16, &[]);
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    // Earlier, but fresh and true.
    let t = world.log.now / 1000;
    world.web.put("log/checkpoint", first.note(2, first.root_at(2), [t, t, t, 0]));
    asked(&world.web, "log/checkpoint", 3).await;
    let status = monitor.status();
    assert_eq!((status.findings, status.logs[0].verified_size), (vec![], 19));
    // Earlier and another: no quorum is needed to see that.
    world.web.put("log/checkpoint", first.note(2, Hash::sha256(&[b"x"]), [0; 4]));
    let status = wait_for(&monitor, |s| !s.findings.is_empty()).await;
    assert_eq!(status.findings, [two_roots("fork", 2, first.root_at(2), Hash::sha256(&[b"x"]))]);
    assert_eq!(status.logs[0].condition, Condition::Contradicted);
    monitor.stop().await;
}

#[tokio::test]
async fn staleness_and_a_lost_quorum_are_noticed_while_they_last() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    world.clock.advance(11 * MINUTE);
    let status = wait_for(&monitor, |s| s.logs[0].condition == Condition::Stale && !s.notices.is_empty()).await;
    assert!(status.notices.iter().any(|n| n.contains("stale") || n.contains("fresh quorum")), "{:?}", status.notices);
    assert_eq!((status.verdict(), status.findings), (Verdict::Unmet, vec![]));
    assert!(status.logs[0].quorum_age_s.unwrap() > 600);

    world.log.now += 11 * MINUTE;
    world.grow(0, &[]);
    let status = caught_up(&monitor, &world.log).await;
    assert_eq!((status.logs[0].condition, status.verdict()), (Condition::Good, Verdict::Content));
    // The gap between the heads is remembered; it proves nothing.
    assert!(status.notices.iter().all(|n| n.contains("after the one before")), "{:?}", status.notices);

    let t = world.log.now / 1000;
    let two = world.log.note(world.log.size(), world.log.root_at(world.log.size()), [t, t, 0, 0]);
    world.web.put("log/checkpoint", two);
    let status = wait_for(&monitor, |s| s.logs[0].condition == Condition::Unmet).await;
    assert!(status.notices.iter().any(|n| n.contains("the quorum is not met: 2")), "{:?}", status.notices);

    // A log that answers nothing at all goes stale by the clock.
    world.web.lock().files.clear();
    wait_for(&monitor, |s| s.logs[0].condition == Condition::Unreachable).await;
    world.clock.advance(11 * MINUTE);
    let gone = "no checkpoint with a fresh quorum for more than 600 s";
    let status = wait_for(&monitor, |s| s.notices.iter().any(|n| n.contains(gone))).await;
    assert_eq!((status.logs[0].condition, status.verdict()), (Condition::Stale, Verdict::Unmet));
    assert_eq!(notices(&monitor, "quorum is not met"), 1);
    monitor.stop().await;
}

#[tokio::test]
async fn a_silent_log_with_fresh_cosignatures_is_noticed() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    world.clock.advance(5 * MINUTE);
    let t = (world.log.now + 5 * MINUTE) / 1000;
    world.web.put("log/checkpoint", world.log.note(2, world.log.root_at(2), [t, t, t, 0]));
    // Senders would not take it either.
    let status = wait_for(&monitor, |s| s.notices.iter().any(|n| n.contains("the log is silent"))).await;
    assert_eq!((status.logs[0].condition, status.verdict()), (Condition::Stale, Verdict::Unmet));
    // Told once, not at every look.
    asked(&world.web, "log/checkpoint", 3).await;
    assert_eq!(notices(&monitor, "the log is silent"), 1);
    world.log.now += 5 * MINUTE;
    world.grow(0, &[]);
    wait_for(&monitor, |s| s.logs[0].condition == Condition::Good && s.verdict() == Verdict::Content).await;
    monitor.stop().await;
}

#[tokio::test]
async fn entries_that_cannot_be_fetched_are_told_once_and_are_no_finding() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    world.grow(16, &[]);
    world.web.lock().files.retain(|path, _| !path.contains("/tile/entries/"));
    asked(&world.web, "log/tile/entries/000", 3).await;
    let status = wait_for(&monitor, |s| s.logs[0].condition == Condition::Unreachable).await;
    assert!(status.notices.iter().any(|n| n.contains("the log answered 404 for tile/entries/000")), "{status:#?}");
    assert_eq!((status.findings, status.logs[0].verified_size, status.logs[0].lag), (vec![], 2, 17));
    assert_eq!(notices(&monitor, "the log answered 404"), 1);
    world.web.publish("log", &world.log);
    let status = caught_up(&monitor, &world.log).await;
    assert_eq!((status.verdict(), status.notices), (Verdict::Content, vec![]));
    monitor.stop().await;
}

#[tokio::test]
async fn bytes_that_were_spoilt_once_on_their_way_are_fetched_again() {
    let mut world = World::new().await;
    world.grow(16, &[]);
    let path = "log/tile/entries/000.p/19";
    let mut spoilt = world.web.lock().files[path].clone();
    *spoilt.last_mut().unwrap() ^= 1;
    world.web.lock().once.insert(path.to_owned(), spoilt);
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!((status.logs[0].verified_size, status.verdict()), (19, Verdict::Content));
    assert_eq!(world.web.take_requests().iter().filter(|r| *r == path).count(), 2);
}

#[tokio::test]
async fn what_a_quorum_has_cosigned_must_be_shown_within_bounded_polls() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    let mut ahead = world.log.clone();
    ahead.grow(16, &[]);
    world.web.put_copy(1, &ahead, ahead.checkpoint());
    let status = wait_for(&monitor, |s| s.logs[0].condition == Condition::Withheld).await;
    let want = "dp.example/log: withheld: a quorum of the witnesses has seen size 19, the log shows us size 2";
    assert_eq!(status.notices, [want]);
    assert_eq!((status.logs[0].lag, status.logs[0].views[0].agrees), (17, None));
    assert_eq!((status.verdict(), status.findings), (Verdict::Unmet, vec![]));
    // Shown at last.
    world.grow(16, &[]);
    let status = caught_up(&monitor, &world.log).await;
    assert_eq!((status.notices, status.findings), (vec![], vec![]));
    assert_eq!(status.logs[0].condition, Condition::Good);
    monitor.stop().await;
    // `once` gives it the same number of looks.
    let mut ahead = world.log.clone();
    ahead.grow(16, &[]);
    world.web.put_copy(1, &ahead, ahead.checkpoint());
    world.web.take_requests();
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!(status.verdict().exit_code(), 5);
    let looks = world.web.take_requests().iter().filter(|r| *r == "log/checkpoint").count() as u64;
    assert_eq!(looks, WITHHELD_POLLS);
    // Ahead, and then the log shows something else at that size.
    world.web.put_copy(1, &ahead, ahead.copy(1, ahead.size(), Hash::sha256(&[b"other"])));
    let monitor = world.start().await;
    wait_for(&monitor, |s| s.logs[0].views[0].size == Some(ahead.size())).await;
    world.log.grow(16, &[]);
    world.log.grow(16, &[]);
    world.web.publish("log", &world.log);
    let status = wait_for(&monitor, |s| !s.findings.is_empty()).await;
    assert!(status.findings[0].contains("fork at size 36: the log stands by two roots"), "{:?}", status.findings);
    monitor.stop().await;
}

/// A log has its heads cosigned before it publishes them, and waits as long as its witnesses are away.
#[tokio::test]
async fn a_log_that_waits_for_its_quorum_withholds_nothing_and_one_that_has_it_does() {
    let world = World::new().await;
    let mut followed = world.followed();
    followed.witnesses.push(("w3".to_owned(), world.web.url("w3")));
    world.web.put_copy(3, &world.log, world.log.copy(3, 2, world.log.root_at(2)));
    let monitor = start(settings(world.folder.path(), vec![followed.clone()]), world.clock.clone()).await.unwrap();
    caught_up(&monitor, &world.log).await;
    let mut ahead = world.log.clone();
    ahead.grow(16, &[]);
    // Two of the three that are needed have seen one head, and the third another: no quorum has cosigned either.
    ahead.grow(0, &[]);
    for (witness, size) in [(1, 19), (2, 19), (3, 20)] {
        world.web.put_copy(witness, &ahead, ahead.copy(witness, size, ahead.root_at(size)));
    }
    let says = |s: &waymark_monitor::Status, w: usize| {
        s.notices.iter().any(|n| n.contains(&format!("witness w{w} has seen size")))
    };
    let status = wait_for(&monitor, |s| (1..=3).all(|w| says(s, w))).await;
    let want = "dp.example/log: witness w3 has seen size 20, the log shows us size 2. Nobody has shown a quorum for more: \
                the log waits for its witnesses, or withholds it";
    assert!(status.notices.iter().any(|n| n == want), "{status:#?}");
    assert_eq!((status.logs[0].condition, status.verdict()), (Condition::Good, Verdict::Content));
    monitor.stop().await;
    let own = settings(world.folder.path(), vec![followed]);
    let status = once(own.clone(), world.clock.clone()).await.unwrap();
    assert_eq!((status.notices.len(), status.verdict()), (3, Verdict::Content));
    // So many, but not within the seconds that clocks may differ: the log may never have had a quorum of these.
    let t = world.log.now / 1000;
    for (witness, times) in [(1, [t, 0, 0, 0]), (2, [0, t + 10, 0, 0]), (3, [0, 0, t + 31, 0])] {
        world.web.put_copy(witness, &ahead, ahead.note(20, ahead.root_at(20), times));
    }
    let status = once(own.clone(), world.clock.clone()).await.unwrap();
    assert_eq!((status.logs[0].condition, status.verdict()), (Condition::Good, Verdict::Content), "{status:#?}");
    for (witness, size) in [(1, 19), (2, 19), (3, 20)] {
        world.web.put_copy(witness, &ahead, ahead.copy(witness, size, ahead.root_at(size)));
    }
    // What the witnesses have shown one after the other counts together.
    let monitor = start(own, world.clock.clone()).await.unwrap();
    wait_for(&monitor, |s| s.logs[0].views[0].size == Some(19) && s.logs[0].views[1].size == Some(19)).await;
    world.web.put_copy(1, &ahead, ahead.copy(1, 20, ahead.root_at(20)));
    world.web.put_copy(2, &ahead, ahead.copy(2, 20, ahead.root_at(20)));
    let status = wait_for(&monitor, |s| s.logs[0].condition == Condition::Withheld).await;
    assert_eq!(
        status.notices,
        ["dp.example/log: withheld: a quorum of the witnesses has seen size 20, the log shows us size 2"]
    );
    assert_eq!((status.verdict(), status.findings), (Verdict::Unmet, vec![]));
    monitor.stop().await;
}

#[tokio::test]
async fn a_witness_that_goes_back_again_and_again_is_one_finding_and_drowns_nothing() {
    let mut world = World::new().await;
    for _ in 0..4 {
        world.grow(16, &[]);
    }
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    world.clock.advance(MINUTE);
    let t = world.log.now / 1000;
    for size in [2, 19, 36, 53] {
        world.web.put_copy(1, &world.log, world.log.note(size, world.log.root_at(size), [t + 40, 0, 0, 0]));
        wait_for(&monitor, |s| s.logs[0].views[0].size == Some(size)).await;
    }
    let status = monitor.status();
    assert_eq!(status.findings.len(), 1, "{:?}", status.findings);
    assert!(status.findings[0].contains("rollback: witness w1 (key w1.example+"), "{:?}", status.findings);
    assert_eq!(fs::read_dir(world.folder.path().join("evidence")).unwrap().count(), 1);
    monitor.stop().await;
    // Nor is it found a second time by another run.
    world.web.put_copy(1, &world.log, world.log.note(2, world.log.root_at(2), [t + 50, 0, 0, 0]));
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!(status.findings.len(), 1);
    // What the log did has its room.
    world.web.put_copy(2, &world.log, world.log.copy(2, 36, Hash::sha256(&[b"fork"])));
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!((status.findings.len(), status.findings[1].contains("fork at size 36")), (2, true));
}

#[tokio::test]
async fn a_witness_that_shows_many_heads_takes_no_place_from_what_another_has_shown() {
    let world = World::new().await;
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    let mut ahead = world.log.clone();
    for _ in 0..70 {
        ahead.grow(0, &[]);
    }
    // One shows the largest head, and then all others but one; another shows that the log has signed two of that one.
    let largest = ahead.size() + 1;
    world.web.put_copy(1, &ahead, ahead.copy(1, largest, Hash::sha256(&[b"one"])));
    wait_for(&monitor, |s| s.logs[0].views[0].size == Some(largest)).await;
    let sizes: Vec<u64> = (3..=ahead.size()).filter(|size| *size != 40).collect();
    for size in sizes {
        world.web.put_copy(1, &ahead, ahead.copy(1, size, ahead.root_at(size)));
        wait_for(&monitor, |s| s.logs[0].views[0].size == Some(size)).await;
    }
    world.web.put_copy(2, &ahead, ahead.copy(2, 40, Hash::sha256(&[b"fork"])));
    wait_for(&monitor, |s| s.logs[0].views[1].size == Some(40)).await;
    // Nor is it forgotten what the first has shown first.
    world.web.put_copy(2, &ahead, ahead.copy(2, largest, Hash::sha256(&[b"two"])));
    let status = wait_for(&monitor, |s| !s.findings.is_empty()).await;
    assert!(status.findings[0].contains(&format!("split view at size {largest}")), "{:?}", status.findings);
    world.clock.advance(70_000);
    world.web.publish("log", &ahead);
    let status = wait_for(&monitor, |s| s.findings.len() == 2).await;
    assert!(status.findings[1].contains("fork at size 40"), "{:?}", status.findings);
    monitor.stop().await;
}

#[tokio::test]
async fn what_is_shown_beyond_the_replay_is_compared_as_well() {
    let mut world = World::new().await;
    let monitor = world.start().await;
    caught_up(&monitor, &world.log).await;
    let mut ahead = world.log.clone();
    ahead.grow(16, &[]);
    let other = Hash::sha256(&[b"other"]);
    let (one, two) = (ahead.copy(1, 19, ahead.root_at(19)), ahead.copy(2, 19, other));
    world.web.put_copy(1, &ahead, one.clone());
    wait_for(&monitor, |s| s.logs[0].views[0].size == Some(19)).await;
    world.web.put_copy(2, &ahead, two.clone());
    let status = wait_for(&monitor, |s| !s.findings.is_empty()).await;
    let text = two_roots("split view", 19, ahead.root_at(19), other);
    assert_eq!(status.findings, std::slice::from_ref(&text));
    assert_eq!((status.logs[0].verified_size, status.logs[0].views[1].agrees), (2, Some(false)));
    let evidence = fs::read_dir(world.folder.path().join("evidence")).unwrap().next().unwrap().unwrap();
    let file = fs::read(evidence.path()).unwrap();
    assert!([one, two].iter().all(|note| file.windows(note.len()).any(|w| w == note)));
    // The replay gets there, which is the same finding.
    world.grow(16, &[]);
    let status = wait_for(&monitor, |s| s.logs[0].views.iter().all(|v| v.agrees == Some(true))).await;
    assert_eq!((status.findings, status.logs[0].verified_size), (vec![text], 19));
    monitor.stop().await;

    // The log's own checkpoint, to which its entries do not lead, and another one of the same size.
    let mut next = world.log.clone();
    next.grow(16, &[]);
    let t = next.now / 1000;
    world.clock.advance(1000);
    world.web.put_tiles("log", &next);
    world.web.put("log/checkpoint", next.note(36, Hash::sha256(&[b"a"]), [t, t, t, 0]));
    let monitor = world.start().await;
    wait_for(&monitor, |s| s.logs[0].condition == Condition::Damaged).await;
    world.web.publish("log", &next);
    let status = wait_for(&monitor, |s| s.logs[0].verified_size == 36 && s.findings.len() == 2).await;
    assert_eq!(status.findings[1], two_roots("split view", 36, next.root_at(36), Hash::sha256(&[b"a"])));
    monitor.stop().await;
}

#[tokio::test]
async fn a_witness_that_shows_nothing_or_garbage_is_noticed() {
    let world = World::new().await;
    let log = &world.log;
    world.web.lock().files.retain(|path, _| !path.starts_with("w1/"));
    let monitor = world.start().await;
    let noticed = async |what: &str| {
        wait_for(&monitor, |s| s.notices.iter().any(|n| n.contains(&format!("witness w1: {what}")))).await
    };
    assert_eq!(noticed("it has no checkpoint of this log").await.logs[0].views[0].size, None);
    world.web.put_copy(1, log, b"garbage".to_vec());
    noticed("not a signed note").await;
    world.web.put_copy(1, log, log.copy(3, 2, log.root_at(2)));
    noticed("it has not cosigned the copy that it shows").await;
    let other = Log::new("other.example/log", NOW);
    world.web.put_copy(1, log, other.copy(1, 2, other.root_at(2)));
    noticed("the log has not signed the checkpoint").await;
    world.web.put_copies(log);
    let status = caught_up(&monitor, log).await;
    assert_eq!((status.notices, status.findings), (vec![], vec![]));
    monitor.stop().await;
}

#[tokio::test]
async fn a_log_far_ahead_is_followed_in_steps() {
    let mut world = World::new().await;
    while world.log.size() <= STEP_ENTRIES_MAX as u64 + 2000 {
        world.log.grow(1024, &[]);
    }
    world.clock.advance(world.log.now - NOW - 1000);
    world.web.publish("log", &world.log);
    world.web.put_copies(&world.log);
    // A tile that does not prove where the first step ends.
    let path = "log/tile/1/000.p/72";
    let good = world.web.lock().files[path].clone();
    assert_eq!(good.len() / 32, (world.log.size() / tile::TILE_WIDTH) as usize);
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    world.web.put(path, bad);
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!((status.logs[0].verified_size, status.findings.len()), (0, 0));
    assert_eq!(status.logs[0].condition, Condition::Damaged);
    world.web.put(path, good);

    // Stopped after the first step, it goes on from there.
    let last = format!("log/tile/entries/0{}.p/{}", world.log.size() / 256, world.log.size() % 256);
    let bundle = world.web.lock().files.remove(&last).unwrap();
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    let first_step = status.logs[0].verified_size;
    assert!((1..=STEP_ENTRIES_MAX as u64).contains(&first_step), "{status:#?}");
    assert_eq!((status.logs[0].condition, status.findings.len()), (Condition::Unreachable, 0));
    world.web.put(&last, bundle);
    world.web.take_requests();
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!((status.logs[0].verified_size, status.findings.len()), (world.log.size(), 0));
    assert_eq!(status.logs[0].map_root, world.log.head().map_root.to_hex());
    assert!(!world.web.take_requests().iter().any(|r| r == "log/tile/entries/000"));
    // And it rebuilds all of it from its own copy.
    let monitor = world.start().await;
    assert_eq!(monitor.status().logs[0].map_root, world.log.head().map_root.to_hex());
    monitor.stop().await;
}

#[tokio::test]
async fn a_log_without_heads_is_not_followed_for_ever() {
    let mut world = World::new().await;
    for i in 0..STEP_ENTRIES_MAX + 300 {
        world.log.entries.push(format!("{i:08}").into_bytes());
    }
    world.log.close(vec![]);
    world.web.publish("log", &world.log);
    let monitor = world.start().await;
    let status = wait_for(&monitor, |s| !s.findings.is_empty()).await;
    // The first two entries are believed: there is a head at which to stop.
    assert_eq!(status.logs[0].verified_size, 2);
    assert!(status.findings[0].contains("no head among"), "{:?}", status.findings);
    monitor.stop().await;
}

#[tokio::test]
async fn checkpoints_that_end_in_no_head_are_found_once_each() {
    let mut world = World::new().await;
    let settings = world.settings();
    let count = STEP_ENTRIES_MAX / 1024 + 2;
    for i in 0..count {
        for j in 0..1024 {
            let change = Change { label: label(&format!("{i} {j}")), commitment: Hash::ZERO };
            world.log.entries.push(Entry::Change(change).encode());
        }
        world.web.publish("log", &world.log);
        let status = once(settings.clone(), world.clock.clone()).await.unwrap();
        assert_eq!((status.findings.len(), status.logs[0].verified_size), (i + 1, world.log.size()));
        assert!(status.findings[i].ends_with(&format!("size {} does not end in a head", world.log.size())));
    }
    // More than a step without a head: where the local copy is cut for the replay is no checkpoint.
    let status = once(settings, world.clock.clone()).await.unwrap();
    assert_eq!(status.findings.len(), count);
}

#[tokio::test]
async fn findings_are_bounded_and_entries_of_no_kind_are_found() {
    let mut world = World::new().await;
    let junk = (0..FINDINGS_MAX + 10).map(|i| format!("junk {i:05}").into_bytes()).collect();
    world.log.close(junk);
    world.web.publish("log", &world.log);
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!((status.findings.len(), status.logs[0].verified_size), (FINDINGS_MAX, world.log.size()));
    assert!(status.findings[0].contains("entry 2 is not one"), "{:?}", status.findings[0]);
    assert!(status.notices.iter().any(|n| n.contains("more than the 1000 findings")));
    let again = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!(again.findings.len(), FINDINGS_MAX);
    // However much is wrong with its entries, that a log stands by two roots has room of its own.
    world.web.put_copy(1, &world.log, world.log.copy(1, 2, Hash::sha256(&[b"fork"])));
    let forked = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!(forked.findings.len(), FINDINGS_MAX + 1);
    assert!(forked.findings[FINDINGS_MAX].contains("fork at size 2"), "{:?}", forked.findings[FINDINGS_MAX]);
}

#[tokio::test]
async fn a_damaged_store_is_an_error_and_not_absence() {
    const BUNDLES: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("bundles");
    const HEADS: TableDefinition<&str, &[u8]> = TableDefinition::new("heads");
    const WATCHES: TableDefinition<(&str, &[u8]), &[u8]> = TableDefinition::new("watches");
    let origin = "dp.example/log";
    let mut world = World::new().await;
    world.grow(300, &[]);
    let monitor = world.start().await;
    let list = world.log.list(1, world.clock.now().get(), &[label("one")], None);
    let url = format!("{}/v1/watch-lists", monitor.url());
    let answer = Fetcher::default().post(&url, WATCH_LIST_MEDIA_TYPE, &[], list.encode(), 1 << 16).await.unwrap();
    assert_eq!(answer.status, 204);
    caught_up(&monitor, &world.log).await;
    monitor.stop().await;
    let path = world.folder.path().join(STORE_FILE);
    let good = fs::read(&path).unwrap();
    let flip =
        |bytes: &[u8]| [&bytes[..bytes.len() - 9], &[bytes[bytes.len() - 9] ^ 1], &bytes[bytes.len() - 8..]].concat();
    for (case, what) in [
        (0, "do not lead to the stored root"),
        (1, "entry bundle 0 is gone"),
        (2, "entry bundle 1: an entry bundle is cut short"),
        (3, "a head: the checksum"),
        (4, "a journal: the checksum"),
    ] {
        let write = Database::open(&path).unwrap().begin_write().unwrap();
        {
            let mut bundles = write.open_table(BUNDLES).unwrap();
            let bundle = |n: u64| bundles.get((origin, n)).unwrap().unwrap().value().to_vec();
            let (first, second) = (bundle(0), bundle(1));
            match case {
                0 => drop(bundles.insert((origin, 0), &flip(&first)[..]).unwrap()),
                1 => drop(bundles.remove((origin, 0)).unwrap()),
                2 => drop(bundles.insert((origin, 1), &second[..second.len() - 1]).unwrap()),
                3 => {
                    let mut heads = write.open_table(HEADS).unwrap();
                    let row = flip(heads.get(origin).unwrap().unwrap().value());
                    heads.insert(origin, &row[..]).unwrap();
                }
                _ => {
                    let mut watches = write.open_table(WATCHES).unwrap();
                    let row = flip(watches.get((origin, &[1; 16][..])).unwrap().unwrap().value());
                    watches.insert((origin, &[1; 16][..]), &row[..]).unwrap();
                }
            }
        }
        write.commit().unwrap();
        let refused = start(world.settings(), world.clock.clone()).await.unwrap_err();
        assert!(matches!(refused, StartError::Store(_)), "{refused}");
        assert!(refused.to_string().contains(what), "{refused}");
        fs::write(&path, &good).unwrap();
    }
    let monitor = world.start().await;
    assert_eq!(monitor.status().watch_lists, 1);
    monitor.stop().await;
}

#[tokio::test]
async fn settings_that_contradict_themselves_are_refused() {
    let world = World::new().await;
    let refused = async |logs| match start(settings(world.folder.path(), logs), Clock::manual(NOW)).await {
        Err(StartError::Settings(what)) => what,
        other => panic!("{other:?}"),
    };
    assert!(refused(vec![]).await.contains("no log"));
    assert!(refused(vec![world.followed(), world.followed()]).await.contains("twice"));
    let mut unknown = world.followed();
    unknown.witnesses.push(("w9".to_owned(), "http://127.0.0.1:1".to_owned()));
    assert!(refused(vec![unknown]).await.contains("w9"));
    for (url, why) in [("ftp://dp.example", "not an http URL"), ("http://dp.example", "use https://")] {
        let mut elsewhere = world.followed();
        elsewhere.url = url.to_owned();
        assert!(refused(vec![elsewhere]).await.contains(why), "{url}");
    }
    let mut beyond = settings(world.folder.path(), vec![world.followed()]);
    beyond.listen = "0.0.0.0:0".parse().unwrap();
    assert!(matches!(start(beyond, Clock::manual(NOW)).await, Err(StartError::Io { .. })));
}

/// A config entry with a key by algorithm 9, which leads nowhere.
fn not_judged(n: u32) -> Vec<u8> {
    [&[1, 2], &n.to_be_bytes()[..], &[0; 32], &[0, 9, 0, 1, 7]].concat()
}

/// Of the notices that wait to be told, which entries are said not to be judged.
fn told_not_judged(monitor: &Running) -> Vec<String> {
    let words = " not judged, since this program does not know an algorithm or a value there";
    let told =
        monitor.untold().unwrap().into_iter().filter_map(|n| if let News::Notice(n) = n { Some(n.text) } else { None });
    told.filter(|text| text.contains("not judged")).map(|text| text.replace(words, "")).collect()
}

/// "Whoever follows a log says which entry it has not judged" (FORMATS, section 11).
#[tokio::test]
async fn entries_that_were_not_judged_are_named_as_long_as_they_are_not_and_are_no_finding() {
    let mut world = World::new().await;
    let why = "since this program does not know an algorithm or a value there";
    let all =
        |count: usize, named: &str| vec![format!("dp.example/log: {count} entries are not judged, {why}: {named}")];
    let show = |world: &mut World, batch: Vec<Vec<u8>>| {
        world.log.close(batch);
        world.clock.advance(1000);
        world.web.publish("log", &world.log);
        world.web.put_copies(&world.log);
    };
    show(&mut world, vec![not_judged(1), not_judged(2)]);
    let monitor = world.start().await;
    let status = caught_up(&monitor, &world.log).await;
    assert_eq!((&status.notices, status.logs[0].notices), (&all(2, "2, 3"), 1));
    assert_eq!(told_not_judged(&monitor), ["2 entries are: 2, 3"]);
    // What comes later is told by itself, once, and stands with the rest.
    show(&mut world, vec![not_judged(3)]);
    let status = caught_up(&monitor, &world.log).await;
    assert_eq!(status.notices, all(3, "2, 3, 5"));
    assert_eq!((told_not_judged(&monitor), told_not_judged(&monitor)), (vec!["1 entry is: 5".to_owned()], vec![]));
    show(&mut world, (10..30).map(not_judged).collect());
    let status = caught_up(&monitor, &world.log).await;
    let many = all(23, "2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 7 more");
    assert_eq!(status.notices, many);
    // The log did nothing wrong.
    assert_eq!((status.findings.len(), status.verdict(), status.verdict().exit_code()), (0, Verdict::Content, 0));
    monitor.stop().await;
    // After a restart they are read from the disk, and are not judged any more than before.
    let monitor = world.start().await;
    let status = caught_up(&monitor, &world.log).await;
    assert_eq!((status.notices.clone(), told_not_judged(&monitor).len()), (many.clone(), 1));
    assert_eq!(status.verdict(), Verdict::Content);
    monitor.stop().await;
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!((&status.notices, status.verdict()), (&many, Verdict::Content));
    assert!(status.to_string().contains(&format!("notice: {}", many[0])), "{status}");
}
