//! What an app is shown of what was hidden before it came, and that it can judge its receipts all the same.

mod world;

use waymark_mapping::{
    answer::{Body, Content, HiddenValue, Past, Receipt},
    compose::prove_tags,
    event::{Event, EventKind},
    mapping::Mapping,
    names::Tag,
    receipt::{Current, ReceiptRefused, accept, open_current},
    record::{NEW_MS, Slot},
    verify::{Rejected, Trail},
    wire::{List24, Optional24},
};
use world::{World, csi, key_of, question, sent};

const HOUR: u64 = 3_600_000;

/// Bob hides something; Mallory, with a code that was intercepted, waits until nothing of hers is new and hides something, too.
struct Scene {
    world: World,
    before: Mapping,
    event: Event,
    added: Mapping,
}

fn scene() -> Scene {
    let mut world = World::new();
    let before = world.hidden("bob", "wire.example", "soccer");
    let first = [world.visible("bob", "chat.example"), before.clone()];
    world.issue(&["bob"], &first);
    world.wait(HOUR);
    let foothold = world.visible("mallory", "chat.example");
    world.issue(&["mallory"], &[foothold]);
    world.wait(NEW_MS + HOUR);
    let added = world.hidden("mallory", "chat.example", "choir");
    let event = world.issue(&["mallory"], std::slice::from_ref(&added));
    Scene { world, before, event, added }
}

impl Scene {
    fn accept(&self, receipt: &Receipt) -> Result<Current, ReceiptRefused> {
        let (added, trust) = (std::slice::from_ref(&self.added), self.world.trust());
        accept(receipt, sent(&self.event, added), &trust, None, self.world.clock(), &mut Trail::default())
    }

    /// The receipt with something else in the place of a closed slot, in either record.
    fn altered(&self, now: bool, alter: impl Fn(&mut Vec<waymark_mapping::answer::OpenedHidden>)) -> Receipt {
        let mut receipt = self.world.receipt_since("mallory", 1);
        let alter = |body: Body| {
            let mut hidden = body.hidden.to_vec();
            alter(&mut hidden);
            Body { hidden: List24::new(hidden).unwrap(), ..body }
        };
        if now {
            receipt.now.body = Optional24(receipt.now.body.0.map(alter));
        } else {
            receipt.previous = Optional24(receipt.previous.0.map(alter));
        }
        receipt
    }
}

fn is_closed(opened: &waymark_mapping::answer::OpenedHidden) -> bool {
    matches!(opened.value, HiddenValue::Present(_, Content::Closed(_)))
}

#[test]
fn of_what_was_hidden_before_a_key_came_it_learns_standing_and_digest_alone() {
    let scene = scene();
    let receipt = scene.world.receipt_since("mallory", 1);
    let current = scene.accept(&receipt).unwrap();
    let standing = scene.world.versions[0].state.held[1].standing;
    assert!(current.complete);
    assert_eq!(current.state.closed, [Slot { standing, mapping: scene.before.digest() }]);
    assert_eq!(current.state.held.len(), 3, "what everybody sees, and her own");
    assert!(current.state.digests().contains(&scene.before.digest()));
    let bytes = receipt.encode();
    let holds = |what: &[u8]| bytes.windows(what.len()).any(|w| w == what);
    assert!(!holds(b"soccer") && !holds(scene.before.account.expose().as_bytes()));
    assert!(!holds(scene.before.sig.as_bytes()) && holds(b"choir"));
}

#[test]
fn what_is_closed_is_still_counted_and_compared() {
    let scene = scene();
    let expects = |receipt: &Receipt, why: ReceiptRefused| assert_eq!(scene.accept(receipt).unwrap_err(), why);
    // Not opened at all, in the record now or before.
    expects(&scene.altered(true, |hidden| hidden.retain(|h| !is_closed(h))), ReceiptRefused::Incomplete);
    expects(&scene.altered(false, |hidden| hidden.retain(|h| !is_closed(h))), ReceiptRefused::Incomplete);
    // With something that lets her try tags.
    let proof = scene.world.receipt().now.body.0.unwrap().hidden.iter().find_map(|h| h.handle.0).unwrap();
    let tempting = scene.altered(true, |hidden| {
        hidden.iter_mut().filter(|h| is_closed(h)).for_each(|h| h.handle = Optional24(Some(proof)));
    });
    assert!(matches!(scene.accept(&tempting), Err(ReceiptRefused::Rejected(Rejected::NotProven(_)))));
    // Her own, or what came after her, is not closed to her.
    let mut receipt = scene.world.receipt_since("bob", 1);
    receipt.now = scene.world.receipt_since("nobody", 9).now;
    expects(&receipt, ReceiptRefused::Incomplete);
}

/// A second hidden mapping that the DP logs beside the one that was signed for, closed so that she cannot read it.
#[test]
fn nothing_is_slipped_in_behind_a_closed_slot() {
    let mut scene = scene();
    let world = &mut scene.world;
    let slipped = world.hidden("dave", "chat.example", "work");
    scene.added = world.hidden("mallory", "chat.example", "work");
    scene.event = world.event(EventKind::Issue, std::slice::from_ref(&scene.added), &[], &["mallory"], false);
    let mut state = world.judge(&scene.event, std::slice::from_ref(&scene.added)).unwrap();
    let mut held = state.held.last().unwrap().clone();
    held.standing.since_version = 0;
    held.mapping = slipped;
    state.held.push(held);
    world.log_state(state, scene.event.clone(), vec![]);
    let receipt = scene.world.receipt_since("mallory", 1);
    assert_eq!(scene.accept(&receipt).unwrap_err(), ReceiptRefused::NotTheChange);
}

/// Nor one version back: a history is compared like a receipt, closed slots included.
#[test]
fn nothing_is_slipped_in_behind_a_closed_slot_of_a_version_of_the_past() {
    for slips in [false, true] {
        let mut world = scene().world;
        let slipped = world.hidden("dave", "chat.example", "work");
        let added = world.visible("bob", "wire.example");
        let event = world.event(EventKind::Issue, std::slice::from_ref(&added), &[], &["bob"], false);
        let mut state = world.judge(&event, std::slice::from_ref(&added)).unwrap();
        if slips {
            let mut held = state.held.last().unwrap().clone();
            (held.standing.since_version, held.mapping) = (0, slipped);
            state.held.push(held);
        }
        world.log_state(state, event, vec![]);
        let added = world.visible("bob", "chat.example");
        let event = world.event(EventKind::Issue, std::slice::from_ref(&added), &[], &["bob"], false);
        world.change(&event, std::slice::from_ref(&added)).unwrap();
        let (receipt, mallory, trust) = (world.receipt_since("mallory", 1), key_of("mallory"), world.trust());
        let trail = &mut Trail::default();
        let current =
            open_current(&receipt, &question(csi()), &mallory, &trust, None, world.clock(), trail).unwrap().unwrap();
        let past = |version: u32| {
            let (kept, before) = (&world.versions[version as usize], &world.versions[version as usize - 1]);
            let previous = world.body_since(world.bare_body(before), version - 1, "mallory", 1);
            let (cause, cause_salt) = (kept.cause.clone(), kept.composed.cause_salt);
            Past { cause, cause_salt, previous: Optional24(Some(previous)) }
        };
        let (_, anchor) = current.anchor.step(&past(4), &mallory).unwrap().1.unwrap();
        assert_eq!(anchor.step(&past(3), &mallory).is_err(), slips);
    }
}

/// The receipt as an app gets it that is still new: of what is hidden its own alone.
fn receipt_of_newcomer(world: &World, app: &str) -> Receipt {
    let receipt = world.receipt();
    let own = |body: &Body| -> Vec<_> {
        let is_own = |m: &Mapping| m.recipient == key_of(app);
        body.hidden.iter().filter(|h| h.value.mapping().is_some_and(is_own)).cloned().collect()
    };
    let (version, body) = (receipt.now.version, receipt.now.body.0.clone().unwrap());
    let hidden = own(&body);
    let proofs = prove_tags(&world.vrf, (&csi(), version), &body.contents.hidden, &hidden, None);
    let (hidden, tag_proofs) = (List24::new(hidden).unwrap(), List24::new(proofs).unwrap());
    let now = world.answer_claiming(&csi(), Some(version), Some(Body { hidden, tag_proofs, ..body }));
    let bare = |body: &Body| Body { hidden: List24::new(own(body)).unwrap(), ..body.clone() };
    let previous = Optional24(receipt.previous.0.as_ref().map(bare));
    Receipt { now: world.with_open_path(now), previous, ..receipt }
}

/// A key that is still new is not shown what others hide; but what it hides itself it is shown, or its receipt is refused.
#[test]
fn a_key_that_is_new_is_shown_its_own_hidden_mappings() {
    // The DP leaves out what is added now, what was added before, nothing.
    for dropped in [Some("soccer"), Some("choir"), None] {
        let mut world = World::new();
        let first = [world.visible("bob", "chat.example"), world.hidden("bob", "wire.example", "work")];
        world.issue(&["bob"], &first);
        world.wait(HOUR);
        let before = world.hidden("mallory", "chat.example", "choir");
        world.issue(&["mallory"], &[before]);
        let added = [world.hidden("mallory", "chat.example", "soccer")];
        let event = world.event(EventKind::Issue, &added, &[], &["mallory"], false);
        let mut state = world.judge(&event, &added).unwrap();
        let dropped_tag = dropped.map(|tag| Tag::parse(tag).unwrap());
        state.held.retain(|h| h.mapping.tags.as_exact().is_none() || h.mapping.tags.as_exact() != dropped_tag.as_ref());
        world.log_state(state, event.clone(), vec![]);
        let (receipt, trust) = (receipt_of_newcomer(&world, "mallory"), world.trust());
        let verdict = accept(&receipt, sent(&event, &added), &trust, None, world.clock(), &mut Trail::default());
        match dropped {
            Some(_) => assert_eq!(verdict.unwrap_err(), ReceiptRefused::NotTheChange, "{dropped:?}"),
            None => assert!(!verdict.unwrap().complete),
        }
    }
}

/// Who leaves is not told that nothing stands any more while something closed does; and may not have all erased.
#[test]
fn what_is_closed_still_stands() {
    let mut scene = scene();
    let world = &mut scene.world;
    let visible = world.versions.last().unwrap().state.held[0].mapping.digest();
    let leave = world.event(EventKind::Withdraw, &[], &[visible], &["bob"], false);
    world.change(&leave, &[]).unwrap();
    let opened = |world: &World| {
        let receipt = world.receipt_since("mallory", 1);
        open_current(
            &receipt,
            &question(csi()),
            &key_of("mallory"),
            &world.trust(),
            None,
            world.clock(),
            &mut Trail::default(),
        )
        .unwrap()
        .unwrap()
    };
    let own: Vec<_> = opened(world).state.held.iter().map(|h| h.mapping.digest()).collect();
    assert!(opened(world).state.held.iter().all(|h| h.mapping.recipient == key_of("mallory")));
    scene.event = world.event(EventKind::Withdraw, &[], &own, &["mallory"], false);
    world.change(&scene.event, &[]).unwrap();
    let accepted = accept(
        &world.receipt_since("mallory", 1),
        sent(&scene.event, &[]),
        &world.trust(),
        None,
        world.clock(),
        &mut Trail::default(),
    );
    let state = accepted.unwrap().state;
    assert!(state.held.is_empty() && state.closed.len() == 1 && !state.state.is_empty());
}
