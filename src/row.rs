//! What the DP keeps of one version of one CSI: everything that opens it, and the proofs that were made at issuance; or, once
//! that is deleted, the stub that the log's proofs still need.
//!
//! ```text
//! uint8 kept | Row or Stub                 1: whole, 0: a stub
//! ```
//!
//! A private format, sealed before it is stored ([`crate::store::seal`]); it may change with a migration. VRF proofs are
//! computed once, here, so that a look-up computes none for a CSI that exists.

use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::hash::Hash;
use waymark_mapping::{
    answer::{HiddenValue, LadderStep, TagProof},
    commitment::{Opening, Salt},
    event::{Cause, Event},
    identifier::Csi,
    label::Label,
    mapping::{Consent, Mapping},
    record::{Contents, Record, Standing},
    rules::{Held, State},
    wire::{List24, Optional24, Undecoded, decode, encode},
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

/// What others say about a mapping.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Said {
    /// The MSP's consent.
    pub consent: Optional24<KeptConsent>,
    /// The statement that it is not served.
    pub statement: Optional24<Event>,
}

impl Said {
    /// Nothing.
    pub const NOTHING: Self = Self { consent: Optional24(None), statement: Optional24(None) };
}

/// A visible slot.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct KeptVisible {
    /// Opens its digest.
    pub salt: Salt,
    /// How it stands.
    pub standing: Standing,
    /// What it holds.
    pub mapping: Mapping,
    /// What others say about it.
    pub said: Said,
}

/// A hidden slot.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct KeptHidden {
    /// Opens its digest.
    pub salt: Salt,
    /// What it holds, shown.
    pub value: HiddenValue,
    /// Why its handle is what it is.
    pub handle: Optional24<TagProof>,
    /// What others say about it.
    pub said: Said,
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

/// Where a version was logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Place {
    /// Index of the last head before its batch.
    pub before: u64,
    /// Index of its change entry.
    pub change: u64,
    /// Index of the head that its batch ends in.
    pub head: u64,
}

/// One version of one CSI.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Row {
    /// Whose.
    pub csi: Csi,
    /// Which version.
    pub version: u32,
    /// Opens the commitment.
    pub opening: Opening,
    /// The record.
    pub record: Record,
    /// Its commitment.
    pub commitment: Hash,
    /// Opens the record's contents.
    pub contents_salt: Salt,
    /// The contents.
    pub contents: Contents,
    /// What made it.
    pub cause: Cause,
    /// Opens the contents' `cause`.
    pub cause_salt: Salt,
    /// The visible slots.
    pub visible: List24<KeptVisible, 65535>,
    /// The hidden slots, all eight.
    pub hidden: List24<KeptHidden, 65535>,
    /// The ladder that shows this version to be the latest.
    pub ladder: List24<KeptStep, 65535>,
    /// Where it was logged; known once its batch is made.
    pub place: Place,
}

/// What is left of a version whose payload was deleted: nothing that opens it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Stub {
    /// Its commitment, as the log has it.
    pub commitment: Hash,
    /// Where it was logged.
    pub place: Place,
}

/// A version as it is kept.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
#[repr(u8)]
pub enum Kept {
    /// A stub.
    #[tls_codec(discriminant = 0)]
    Stub(Stub),
    /// The whole.
    #[tls_codec(discriminant = 1)]
    Whole(Box<Row>),
}

impl Kept {
    /// Reads what was unsealed.
    ///
    /// # Errors
    /// [`Undecoded`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Undecoded> {
        decode("row", bytes)
    }

    /// The bytes, to be sealed.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// What the log's proofs need of it.
    pub fn stub(&self) -> Stub {
        match self {
            Self::Stub(stub) => *stub,
            Self::Whole(row) => Stub { commitment: row.commitment, place: row.place },
        }
    }
}

impl Row {
    /// What the record says, opened: what the next change is judged against.
    pub fn state(&self) -> State {
        let visible = self.visible.iter().map(|v| Held { standing: v.standing, mapping: v.mapping.clone() });
        let hidden = self.hidden.iter().filter_map(|kept| match &kept.value {
            HiddenValue::Present(standing, content) => content
                .mapping()
                .map(|m| (kept.handle.0.map(|h| h.ordinal), Held { standing: *standing, mapping: m.clone() })),
            HiddenValue::Empty => None,
        });
        // Hidden slots lie in random order; by version and ordinal they come back in the order they were added.
        let mut hidden: Vec<_> = hidden.collect();
        hidden.sort_by_key(|(ordinal, held)| (held.standing.since_version, *ordinal));
        State {
            csi: self.csi.clone(),
            version: self.version,
            time: self.record.time,
            tenure: self.record.tenure,
            start: self.contents.start.clone(),
            state: self.record.state,
            held: visible.chain(hidden.into_iter().map(|(_, held)| held)).collect(),
            closed: vec![],
        }
    }

    /// What others have said about a mapping.
    pub fn said(&self, mapping: &Mapping) -> Option<&Said> {
        let visible = self.visible.iter().map(|v| (Some(&v.mapping), &v.said));
        let hidden = self.hidden.iter().map(|h| (h.value.mapping(), &h.said));
        visible.chain(hidden).find(|(m, _)| *m == Some(mapping)).map(|(_, said)| said)
    }

    /// Whether it begins its tenure: what was before is somebody else's.
    pub fn begins_tenure(&self) -> bool {
        self.contents.start.version == self.version
    }
}
