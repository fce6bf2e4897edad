//! From what a record is to say to the record: the DP draws every salt, places the hidden mappings and proves their handles.
//!
//! Pure: the VRF key and the random source are arguments. Nothing drawn here is derived from anything else, so that each
//! part can be erased by itself.

use std::collections::BTreeMap;

use rand_core::CryptoRng;
use waymark_log::hash::Hash;

use crate::{
    answer::{OpenedHidden, TagProof},
    commitment::{Opening, Salt, blind, commit},
    event::Event,
    label::{Handle, prove_handle},
    names::Tag,
    record::{HIDDEN_SLOTS, HiddenSlot, HiddenSlots, HiddenValue, Record, VisibleSlot},
    rules::State,
    vrf::VrfSecret,
    wire::{List16, Optional16, encode},
};

/// A record and everything that opens it.
#[derive(Clone, Debug)]
pub struct Composed {
    /// The record.
    pub record: Record,
    /// What the log will hold of it.
    pub commitment: Hash,
    /// Opens the commitment.
    pub opening: Opening,
    /// Opens `recipient_only`.
    pub event_salt: Salt,
    /// Opens the visible slots, in order.
    pub visible: Vec<Salt>,
    /// All eight hidden slots, opened, without consents.
    pub hidden: Vec<OpenedHidden>,
}

fn draw<const N: usize>(rng: &mut (impl CryptoRng + ?Sized)) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Composes the record for a state and the event that led to it.
///
/// # Panics
/// If the state has more mappings than a record has slots, which [`crate::rules::apply`] excludes.
pub fn compose(state: &State, event: &Event, vrf: &VrfSecret, rng: &mut (impl CryptoRng + ?Sized)) -> Composed {
    let mut slots = Vec::new();
    let mut visible = Vec::new();
    for held in state.held.iter().filter(|h| !h.is_hidden()) {
        let salt = Salt(draw(rng));
        slots.push(VisibleSlot { standing: held.standing, digest: blind(&salt, &encode(&held.mapping)) });
        visible.push(salt);
    }
    let (hidden_slots, hidden) = hide(state, vrf, rng);
    let event_salt = Salt(draw(rng));
    let record = Record {
        csi: state.csi.clone(),
        version: state.version,
        tenure: state.tenure,
        start: state.start.clone(),
        state: state.state,
        visible: List16::new(slots).expect("at most eight visible mappings"),
        hidden: hidden_slots,
        recipient_only: blind(&event_salt, &encode(event)),
    };
    let opening = Opening(draw(rng));
    let commitment = commit(&opening, &record.csi, record.version, &encode(&record));
    Composed { record, commitment, opening, event_salt, visible, hidden }
}

/// Places the hidden mappings at random among the eight slots and fills the rest with nothing.
fn hide(state: &State, vrf: &VrfSecret, rng: &mut (impl CryptoRng + ?Sized)) -> (HiddenSlots, Vec<OpenedHidden>) {
    let mut ordinals: BTreeMap<&Tag, u8> = BTreeMap::new();
    let mut contents = Vec::with_capacity(HIDDEN_SLOTS);
    for held in &state.held {
        let Some(tag) = held.mapping.tags.as_exact() else { continue };
        let ordinal = ordinals.entry(tag).or_insert(0);
        let (vrf_proof, handle) = prove_handle(vrf, &state.csi, state.version, tag, *ordinal);
        let value = HiddenValue::Present(held.standing, Box::new(held.mapping.clone()));
        contents.push((handle, value, Some(TagProof { ordinal: *ordinal, vrf_proof })));
        *ordinal += 1;
    }
    assert!(contents.len() <= HIDDEN_SLOTS, "at most eight hidden mappings");
    while contents.len() < HIDDEN_SLOTS {
        contents.push((Handle(draw(rng)), HiddenValue::Empty, None));
    }
    // Fisher and Yates; the bias of a 64-bit draw over eight places is 2^-61.
    for i in (1..contents.len()).rev() {
        let j = (u64::from_be_bytes(draw(rng)) % (i as u64 + 1)) as usize;
        contents.swap(i, j);
    }
    let mut slots = Vec::with_capacity(HIDDEN_SLOTS);
    let mut opened = Vec::with_capacity(HIDDEN_SLOTS);
    for (slot, (handle, value, proof)) in (0u8..).zip(contents) {
        let salt = Salt(draw(rng));
        slots.push(HiddenSlot { handle, digest: blind(&salt, &encode(&value)) });
        opened.push(OpenedHidden { slot, salt, value, handle: Optional16(proof), consent: Optional16(None) });
    }
    (HiddenSlots(slots.try_into().expect("eight slots")), opened)
}
