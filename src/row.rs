//! What the DP keeps of one version of one CSI: everything that opens it, and the proofs that were made at issuance.
//!
//! A private format, sealed before it is stored ([`crate::store::seal`]); it may change with a migration. VRF proofs are
//! computed once, here, so that a look-up computes none for a CSI that exists.

use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::hash::Hash;
use waymark_mapping::{
    answer::{LadderStep, TagProof},
    commitment::{Opening, Salt},
    event::Event,
    label::Label,
    mapping::{Consent, Mapping},
    record::{HiddenValue, Record},
    rules::{Held, State},
    wire::{List16, Malformed, Optional16, decode, encode},
};

/// An MSP's consent as it came, and where it was logged.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct KeptConsent {
    /// The consent.
    pub consent: Consent,
    /// The salt that its `blinded` was made with.
    pub salt: Salt,
    /// Index of its entry, if its MSP publishes.
    pub logged: Option<u64>,
}

/// A visible slot.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct KeptVisible {
    /// Opens its digest.
    pub salt: Salt,
    /// What it holds.
    pub mapping: Mapping,
    /// The MSP's consent.
    pub consent: Optional16<KeptConsent>,
}

/// A hidden slot.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct KeptHidden {
    /// Opens its digest.
    pub salt: Salt,
    /// What it holds.
    pub value: HiddenValue,
    /// Why its handle is what it is.
    pub handle: Optional16<TagProof>,
    /// The MSP's consent.
    pub consent: Optional16<KeptConsent>,
}

/// A step of the ladder, with the label that its proof proves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct KeptStep {
    /// Which version.
    pub version: u32,
    /// Its label.
    pub label: Label,
    /// What an answer shows of it.
    pub step: LadderStep,
}

/// One version of one CSI.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Row {
    /// Opens the commitment.
    pub opening: Opening,
    /// The record.
    pub record: Record,
    /// Its commitment.
    pub commitment: Hash,
    /// The event that made it.
    pub event: Event,
    /// Opens the record's `recipient_only`.
    pub event_salt: Salt,
    /// The visible slots.
    pub visible: List16<KeptVisible, 65535>,
    /// The hidden slots, all eight.
    pub hidden: List16<KeptHidden, 65535>,
    /// The ladder that shows this version to be the latest.
    pub ladder: List16<KeptStep, 65535>,
}

impl Row {
    /// Reads a row that was unsealed.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        decode("row", bytes)
    }

    /// The row's bytes, to be sealed.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// What the record says, opened: what the next change is judged against.
    pub fn state(&self) -> State {
        let visible = self.visible.iter().zip(self.record.visible.iter());
        let visible = visible.map(|(kept, slot)| Held { standing: slot.standing, mapping: kept.mapping.clone() });
        let hidden = self.hidden.iter().filter_map(|kept| match &kept.value {
            HiddenValue::Present(standing, mapping) => {
                Some((kept.handle.0.map(|h| h.ordinal), Held { standing: *standing, mapping: (**mapping).clone() }))
            }
            HiddenValue::Empty => None,
        });
        // Hidden slots lie in random order; by version and ordinal they come back in the order they were added.
        let mut hidden: Vec<_> = hidden.collect();
        hidden.sort_by_key(|(ordinal, held)| (held.standing.since_version, *ordinal));
        State {
            csi: self.record.csi.clone(),
            version: self.record.version,
            tenure: self.record.tenure,
            start: self.record.start.clone(),
            state: self.record.state,
            held: visible.chain(hidden.into_iter().map(|(_, held)| held)).collect(),
        }
    }

    /// The consent that is kept under a mapping.
    pub fn consent(&self, mapping: &Mapping) -> Option<&KeptConsent> {
        let visible = self.visible.iter().map(|v| (&v.mapping, &v.consent));
        let hidden = self.hidden.iter().filter_map(|h| match &h.value {
            HiddenValue::Present(_, m) => Some((&**m, &h.consent)),
            HiddenValue::Empty => None,
        });
        visible.chain(hidden).find(|(m, _)| *m == mapping).and_then(|(_, c)| c.0.as_ref())
    }
}
