//! From what a record is to say to the record: the DP draws every salt, places the hidden mappings and proves their handles.
//!
//! Pure: the VRF key and the random source are arguments. Nothing drawn here is derived from anything else, so that each
//! part can be erased by itself.

use std::collections::BTreeMap;

use rand_core::CryptoRng;
use waymark_log::hash::Hash;

use crate::{
    answer::{Content, HiddenValue, OpenedHidden, TagProof},
    commitment::{Opening, Salt, blind, commit},
    event::Cause,
    identifier::Csi,
    label::{Handle, prove_handle},
    names::Tag,
    record::{Contents, HIDDEN_SLOTS, HiddenSlot, HiddenSlots, Record, Slot, hidden_bytes},
    rules::{Held, State},
    vrf::VrfSecret,
    wire::{Format, List24, Optional24, encode},
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
    /// What is inside the record.
    pub contents: Contents,
    /// Opens the record's `contents`.
    pub contents_salt: Salt,
    /// Opens the contents' `cause`.
    pub cause_salt: Salt,
    /// Opens the visible slots, in order.
    pub visible: Vec<Salt>,
    /// All eight hidden slots, opened, without consents and statements.
    pub hidden: Vec<OpenedHidden>,
}

impl Held {
    /// What stands for it in a record.
    pub fn slot(&self) -> Slot {
        Slot { standing: self.standing, mapping: self.mapping.digest() }
    }
}

fn draw<const N: usize>(rng: &mut (impl CryptoRng + ?Sized)) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Composes the record for a state and what led to it.
///
/// # Panics
/// If the state has more mappings than a record has slots, which [`crate::rules::apply`] excludes.
pub fn compose(state: &State, cause: &Cause, vrf: &VrfSecret, rng: &mut (impl CryptoRng + ?Sized)) -> Composed {
    let mut digests = Vec::new();
    let mut visible = Vec::new();
    for held in state.held.iter().filter(|h| !h.is_hidden()) {
        let salt = Salt(draw(rng));
        digests.push(blind(&salt, &encode(&held.slot())));
        visible.push(salt);
    }
    let (hidden_slots, hidden) = hide(state, vrf, rng);
    let (cause_salt, contents_salt) = (Salt(draw(rng)), Salt(draw(rng)));
    let contents = Contents {
        format: Format,
        start: state.start.clone(),
        visible: List24::new(digests).expect("at most eight visible mappings"),
        hidden: hidden_slots,
        cause: blind(&cause_salt, &encode(cause)),
    };
    let record = Record {
        format: Format,
        time: state.time,
        tenure: state.tenure,
        state: state.state,
        contents: blind(&contents_salt, &encode(&contents)),
    };
    let opening = Opening(draw(rng));
    let commitment = commit(&opening, &state.csi, state.version, &encode(&record));
    Composed { record, commitment, opening, contents, contents_salt, cause_salt, visible, hidden }
}

/// The proofs of handles that go with opened hidden slots: for each tag among them, and for the one that was presented, those of
/// ordinals that no opened slot proves, up to the first that no slot bears. Some 0.12 ms each.
pub fn prove_tags(
    vrf: &VrfSecret,
    (csi, version): (&Csi, u32),
    slots: &HiddenSlots,
    opened: &[OpenedHidden],
    presented: Option<&Tag>,
) -> Vec<TagProof> {
    let mut tags: BTreeMap<&Tag, Vec<u8>> = presented.map(|tag| (tag, vec![])).into_iter().collect();
    for slot in opened {
        // What is closed to a sender is under the tag that was presented.
        let tag = slot.value.mapping().and_then(|m| m.tags.as_exact()).or(presented);
        if let (Some(tag), Some(proof)) = (tag, &slot.handle.0) {
            tags.entry(tag).or_default().push(proof.ordinal);
        }
    }
    let mut proofs = Vec::new();
    for (tag, shown) in tags {
        for ordinal in (0..=HIDDEN_SLOTS as u8).filter(|n| !shown.contains(n)) {
            let (vrf_proof, handle) = prove_handle(vrf, csi, version, tag, ordinal);
            proofs.push(TagProof { ordinal, vrf_proof });
            if slots.0.iter().all(|s| s.handle != handle) {
                break;
            }
        }
    }
    proofs
}

/// What will be in a hidden slot.
struct Hidden {
    handle: Handle,
    slot: Option<Slot>,
    value: HiddenValue,
    proof: Option<TagProof>,
}

/// Places the hidden mappings at random among the eight slots and fills the rest with nothing.
fn hide(state: &State, vrf: &VrfSecret, rng: &mut (impl CryptoRng + ?Sized)) -> (HiddenSlots, Vec<OpenedHidden>) {
    let mut ordinals: BTreeMap<&Tag, u8> = BTreeMap::new();
    let mut places = Vec::with_capacity(HIDDEN_SLOTS);
    for held in &state.held {
        let Some(tag) = held.mapping.tags.as_exact() else { continue };
        let ordinal = ordinals.entry(tag).or_insert(0);
        let (vrf_proof, handle) = prove_handle(vrf, &state.csi, state.version, tag, *ordinal);
        let value = HiddenValue::Present(held.standing, Content::Shown(Box::new(held.mapping.clone())));
        let proof = Some(TagProof { ordinal: *ordinal, vrf_proof });
        places.push(Hidden { handle, slot: Some(held.slot()), value, proof });
        *ordinal += 1;
    }
    assert!(places.len() <= HIDDEN_SLOTS, "at most eight hidden mappings");
    while places.len() < HIDDEN_SLOTS {
        places.push(Hidden { handle: Handle(draw(rng)), slot: None, value: HiddenValue::Empty, proof: None });
    }
    // Fisher and Yates; the bias of a 64-bit draw over eight places is 2^-61.
    for i in (1..places.len()).rev() {
        let j = (u64::from_be_bytes(draw(rng)) % (i as u64 + 1)) as usize;
        places.swap(i, j);
    }
    let mut slots = Vec::with_capacity(HIDDEN_SLOTS);
    let mut opened = Vec::with_capacity(HIDDEN_SLOTS);
    for (slot, place) in (0u8..).zip(places) {
        let salt = Salt(draw(rng));
        let digest = blind(&salt, &hidden_bytes(place.slot.as_ref()));
        slots.push(HiddenSlot { handle: place.handle, digest });
        let (handle, none) = (Optional24(place.proof), Optional24(None));
        opened.push(OpenedHidden {
            slot,
            salt,
            value: place.value,
            handle,
            consent: none,
            statement: Optional24(None),
        });
    }
    (HiddenSlots(slots.try_into().expect("eight slots")), opened)
}
