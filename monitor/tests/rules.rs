//! Logs whose every byte is signed and cosigned, and whose entries break a rule: each is found by the replay, once, under
//! the entry that shows it, and is an alarm for good.

mod world;

use waymark_log::hash::Hash;
use waymark_mapping::{
    entry::{Change, Config, Entry, ProviderAction},
    signed::SignedStruct,
    wire::{Extensions, Optional24},
};
use waymark_monitor::{
    evidence::{Kind, Shown},
    once,
};
use world::{Log, World, evidence, findings, label, secret, wait_for};

/// Publishes what a log becomes and looks at it twice: what was found the first time is all that is found.
async fn found(spoil: impl FnOnce(&mut Log)) -> Vec<String> {
    let mut world = World::new().await;
    spoil(&mut world.log);
    world.clock.advance(world.log.now.saturating_sub(world.clock.now().get()) + 500);
    world.web.publish("log", &world.log);
    world.web.put_copies(&world.log);
    let status = once(world.settings(), world.clock.clone()).await.unwrap();
    // It goes on following: what comes later is judged as well.
    assert_eq!(status.logs[0].verified_size, world.log.size());
    let code = if status.findings.is_empty() { 0 } else { 6 };
    assert_eq!(status.verdict().exit_code(), code, "{status:#?}");
    let again = once(world.settings(), world.clock.clone()).await.unwrap();
    assert_eq!((&again.findings, again.verdict()), (&status.findings, status.verdict()));

    let monitor = world.start().await;
    wait_for(&monitor, |s| s.logs[0].verified_size == world.log.size()).await;
    for finding in findings(&monitor) {
        let file = evidence(world.folder.path(), &finding.evidence.unwrap());
        assert_eq!((file.kind, file.verify(&world.log.trust())), (Kind::Entries, Ok(Shown::WithEntries)));
        assert_eq!(file.notes[0].note, world.log.checkpoint());
    }
    monitor.stop().await;
    status.findings.iter().map(|f| f.strip_prefix("dp.example/log: ").unwrap().to_owned()).collect()
}

fn changes(log: &mut Log, count: usize) -> Vec<Vec<u8>> {
    log.changes += count as u64;
    let change = |i: usize| Change { label: label(&i.to_string()), commitment: Hash::sha256(&[b"c"]) };
    let changes: Vec<Change> = (0..count).map(change).collect();
    log.map.insert(changes.iter().map(|c| (c.label.0, c.commitment)).collect()).unwrap();
    changes.into_iter().map(|c| Entry::Change(c).encode()).collect()
}

#[tokio::test]
async fn what_the_rules_allow_is_no_finding() {
    let nothing = found(|log| {
        log.grow(16, &[]);
        log.add_provider(log.provider(ProviderAction::Add, "chat.example", "one", None));
        log.add_provider(log.provider(ProviderAction::Rotate, "chat.example", "two", Some("one")));
        log.add_provider(log.provider(ProviderAction::Retire, "chat.example", "two", Some("two")));
        let batch = changes(log, 20);
        log.close(batch);
    });
    assert_eq!(nothing.await, [""; 0]);
}

#[tokio::test]
async fn a_head_that_lies() {
    let lie = async |edit: fn(&mut waymark_mapping::entry::Head)| {
        found(|log| {
            log.grow(16, &[]);
            log.edit_head(edit);
        })
        .await
    };
    let wrong = |what: &str| [format!("head 18: {what} is not what the log says")];
    assert_eq!(lie(|head| head.map_root = Hash::sha256(&[b"x"])).await, wrong("the map root"));
    assert_eq!(lie(|head| head.changes += 1).await, wrong("the number of changes"));
    assert_eq!(lie(|head| head.provider_root = Hash::sha256(&[b"x"])).await, wrong("the provider root"));
    assert_eq!(lie(|head| head.open = Hash::ZERO).await, wrong("the link to the open or config entry"));
}

#[tokio::test]
async fn a_head_that_goes_back_in_time() {
    let back = found(|log| {
        log.grow(16, &[]);
        let before = log.head().time;
        log.close(vec![]);
        log.edit_head(|head| head.time = before);
    });
    assert_eq!(back.await, ["head 19: the time is not what the log says"]);
}

#[tokio::test]
async fn a_provider_directory_that_is_changed_without_right() {
    let forged = found(|log| {
        // Not signed by the key itself.
        let mut entry = log.provider(ProviderAction::Add, "chat.example", "one", None);
        entry.class = 2;
        log.close(vec![Entry::Provider(entry).encode()]);
    });
    assert_eq!(forged.await, ["entry 2: the key has not signed the entry, or has signed its own retirement"]);
    let retired = found(|log| {
        log.add_provider(log.provider(ProviderAction::Add, "chat.example", "one", None));
        let by_stranger = log.provider(ProviderAction::Retire, "chat.example", "one", Some("stranger"));
        log.close(vec![Entry::Provider(by_stranger).encode()]);
    });
    assert_eq!(retired.await, ["entry 4: no valid key of the domain that may sign for this role has signed the entry"]);
    let replayed = found(|log| {
        let entry = log.provider(ProviderAction::Add, "chat.example", "one", None);
        log.add_provider(entry.clone());
        log.close(vec![Entry::Provider(entry).encode()]);
    });
    assert_eq!(replayed.await, ["entry 4: the entry does not follow from the domain's keys in this role as they are"]);
    // The directory says that the entry took effect at once, which without a valid key's word it did not.
    let hurried = found(|log| {
        log.add_provider(log.provider(ProviderAction::Add, "chat.example", "one", None));
        let mut signed = log.provider(ProviderAction::Add, "chat.example", "two", Some("one"));
        log.providers.apply(&signed, &log.origin, waymark_log::time::UnixMillis::new(log.now + 1000)).unwrap();
        signed.by_valid = Optional24(None);
        log.close(vec![Entry::Provider(signed).encode()]);
    });
    assert_eq!(hurried.await, ["head 5: the provider root is not what the log says"]);
}

#[tokio::test]
async fn a_label_that_is_used_twice() {
    let twice = found(|log| {
        let batch = changes(log, 16);
        log.close(batch);
        let again = Entry::Change(Change { label: label("3"), commitment: Hash::sha256(&[b"other"]) }).encode();
        log.changes += 17;
        let fresh = |i: usize| Change { label: label(&format!("fresh {i}")), commitment: Hash::ZERO };
        let fresh: Vec<Change> = (0..16).map(fresh).collect();
        log.map.insert(fresh.iter().map(|c| (c.label.0, c.commitment)).collect()).unwrap();
        let fresh = fresh.into_iter().map(|c| Entry::Change(c).encode());
        log.close(fresh.chain([again]).collect());
    })
    .await;
    assert_eq!(twice.len(), 1);
    assert!(twice[0].ends_with("its label is in the log already"), "{twice:?}");
}

#[tokio::test]
async fn batches_out_of_form_and_a_config_by_a_stranger() {
    let few = found(|log| {
        let batch = changes(log, 15);
        log.close(batch);
    });
    assert_eq!(few.await, ["head 17: a batch with changes has fewer than 16 of them"]);
    let unsorted = found(|log| {
        let batch = changes(log, 16);
        log.close(batch);
        log.entries.swap(3, 4);
    });
    assert_eq!(unsorted.await, ["head 18: entries are not in ascending order"]);
    let config = found(|log| {
        let mut config = Config {
            extensions: Extensions::NONE,
            interval_ms: 5000,
            policy: Hash::ZERO,
            log_key: secret("stranger").public(),
            previous: Hash::sha256(&[&log.entries[0]]),
            sig: waymark_mapping::signed::UNSIGNED,
        };
        config.sign(&log.origin, &secret("stranger"));
        log.close(vec![Entry::Config(config).encode()]);
    });
    assert_eq!(config.await, ["entry 2: the config entry is not by the log's key or does not follow from the last"]);
}
