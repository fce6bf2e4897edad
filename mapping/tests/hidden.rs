//! What an app is shown of what was hidden before it came, and that it can judge its receipts all the same.

mod world;

use waymark_mapping::{
    answer::{Body, Content, HiddenValue, Past, Receipt},
    event::{Event, EventKind},
    mapping::Mapping,
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
