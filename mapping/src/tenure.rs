//! Proof of the past: when a version was logged, and how a tenure began.
//!
//! ```text
//! struct { uint32 version; opaque vrf_proof[80]; Hash commitment; Inclusion change; HeadAt head; }   LoggedVersion
//! struct { LoggedVersion at; opaque opening[16]; Record record; }                                    OpenedVersion
//! struct { OpenedVersion pending; OpenedVersion last?; HeadAt before; }                              Hold
//! struct { opaque opening[16]; Record record; Salt contents_salt; Contents contents;
//!          Cause cause; Salt cause_salt; }                                                           Released
//! struct { uint8 passage; select (passage) { case 0: struct {}; case 1: Hold hold;
//!          case 2: Released release; case 3: OpenedVersion vacancy; }; }                             Passage
//! struct { LoggedVersion start; Passage passage; }                                                   TenureProof
//! ```
//!
//! All places are in the tree of the answer's checkpoint. A version was logged **before** any head behind its change entry,
//! and **after** any head in front of it. So with `pending.head` behind the claim and `before` in front of the change of hands,
//!
//! ```text
//!    claim logged     pending.head                      before     NewHolder logged    start.head
//!    ────●─────────────────●──────────────────────────────●───────────────●────────────────●────▶ log
//!                          └───────── at least the hold ──┘
//! ```
//!
//! the hold was at least as long as the difference of their times, whatever the DP says of its own. `last` is the version right
//! before the change of hands, if that is not the claim itself: the claim still stood there, and its end had come. For 30
//! days by the time of `start.head` an answer bears the passage; after that only `start`.
//!
//! Only the outer parts of old records are opened ([`crate::record`]): they show nothing of whose they were.

use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::{
    checkpoint::Origin,
    hash::{Hash, leaf_hash},
    key::Key,
    proof::verify_inclusion,
    time::UnixMillis,
};

use crate::{
    answer::{HeadAt, Inclusion},
    commitment::{Opening, Salt, commit, opens},
    entry::{Change, Entry},
    event::{AuthorityRole, Cause, EventKind},
    identifier::Csi,
    label::verify_label,
    record::{Beginning, Claim, Contents, Ground, Record, RecordState},
    rules::State,
    vrf::VrfProof,
    wire::{Optional24, encode},
};

/// How long answers bear the proof of a change of hands: 30 days.
pub const PASSAGE_MS: u64 = 30 * 24 * 3600 * 1000;

/// When a version was logged.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct LoggedVersion {
    /// Which.
    pub version: u32,
    /// Proof of its label.
    pub vrf_proof: VrfProof,
    /// What the log holds of it.
    pub commitment: Hash,
    /// Where its change entry is.
    pub change: Inclusion,
    /// A head behind it: the first, if the prover is honest.
    pub head: HeadAt,
}

/// A version that was logged, its outer part opened.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct OpenedVersion {
    /// When it was logged.
    pub at: LoggedVersion,
    /// Opens its commitment.
    pub opening: Opening,
    /// The outer part of the record.
    pub record: Record,
}

/// That a claim was logged and its hold kept.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Hold {
    /// The version that put the claim down.
    pub pending: OpenedVersion,
    /// The version right before the change of hands, unless it is that one.
    pub last: Optional24<OpenedVersion>,
    /// A head in front of the change of hands: the last, if the prover is honest.
    pub before: HeadAt,
}

/// That the CSIP took the CSI back: opens the version that began the tenure.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Released {
    /// Opens its commitment.
    pub opening: Opening,
    /// The record.
    pub record: Record,
    /// Opens its contents.
    pub contents_salt: Salt,
    /// Its contents: nothing but how the tenure began.
    pub contents: Contents,
    /// What made it: the CSIP's event.
    pub cause: Cause,
    /// Opens the contents' `cause`.
    pub cause_salt: Salt,
}

/// How a CSI passed on.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
#[repr(u8)]
#[allow(clippy::large_enum_variant, reason = "there is one in an answer, and never a list of them")]
pub enum Passage {
    /// Over 30 days ago: not proved any more.
    #[tls_codec(discriminant = 0)]
    Past,
    /// By a claim.
    #[tls_codec(discriminant = 1)]
    Hold(Hold),
    /// By its CSIP.
    #[tls_codec(discriminant = 2)]
    Release(Released),
    /// Nothing stood: the version before, which says so.
    #[tls_codec(discriminant = 3)]
    Vacancy(OpenedVersion),
}

/// How a tenure that is not the first began.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct TenureProof {
    /// When its first version was logged.
    pub start: LoggedVersion,
    /// How it came about.
    pub passage: Passage,
}

impl TenureProof {
    /// Every head that it shows.
    pub fn heads(&self) -> impl Iterator<Item = &HeadAt> {
        let passage: Vec<&HeadAt> = match &self.passage {
            Passage::Past | Passage::Release(_) => vec![],
            Passage::Hold(hold) => {
                let last = hold.last.0.iter().map(|v| &v.at.head);
                last.chain([&hold.pending.at.head, &hold.before]).collect()
            }
            Passage::Vacancy(before) => vec![&before.at.head],
        };
        std::iter::once(&self.start.head).chain(passage)
    }
}

/// What is proved of the beginning of a tenure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begun {
    /// How.
    pub how: Beginning,
    /// By when it was logged, by proved position.
    pub time: UnixMillis,
    /// Whether that is less than 30 days ago and nothing was erased since, so that the passage was proved.
    pub recent: bool,
    /// What the claim rested on, by the DP's word, if its hold was proved.
    pub ground: Option<Ground>,
    /// The key that released it, if the release was shown. Whose it is remains to be judged.
    pub csip_key: Option<Key>,
}

/// What is wrong with a proof of the past.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotShown {
    /// A version's label, entry or head is not where it is said to be.
    #[error("a version is not proved to be logged where it is said to be")]
    Place,
    /// The proof of how the tenure began is missing, or is of another kind than the record says.
    #[error("how the tenure began is not proved")]
    Missing,
    /// An old version does not open to what is shown.
    #[error("an old version does not open to what is shown")]
    Opening,
    /// Earlier versions are opened that nothing rests on, or those are missing on which something rests.
    #[error("what a retired key has signed is not shown to have been in the log before")]
    Earlier,
    /// The claim did not stand, or its hold was not kept.
    #[error("the claim did not stand until its hold was over")]
    Hold,
    /// The CSIP has not signed the release.
    #[error("the CSIP has not signed the release")]
    Release,
    /// Something stood where nothing is said to have stood.
    #[error("the version before was not vacant")]
    Vacancy,
}

/// The tree in which places are proved, and whose past it is.
#[derive(Clone, Copy)]
pub(crate) struct Ledger<'a> {
    pub(crate) csi: &'a Csi,
    pub(crate) vrf: &'a Key,
    pub(crate) origin: &'a Origin,
    pub(crate) size: u64,
    pub(crate) root: &'a Hash,
}

impl Ledger<'_> {
    fn includes(&self, entry: &Entry, at: &Inclusion) -> Result<(), NotShown> {
        verify_inclusion(at.index, self.size, &leaf_hash(&entry.encode()), &at.path, self.root)
            .map_err(|_| NotShown::Place)
    }

    /// By when a version was logged: the time of a head behind its entry.
    pub(crate) fn logged(&self, v: &LoggedVersion) -> Result<UnixMillis, NotShown> {
        let label = verify_label(self.vrf, self.csi, v.version, &v.vrf_proof).map_err(|_| NotShown::Place)?;
        self.includes(&Entry::Change(Change { label, commitment: v.commitment }), &v.change)?;
        self.includes(&Entry::Head(v.head.head.clone()), &v.head.at)?;
        if v.head.at.index > v.change.index { Ok(v.head.head.time) } else { Err(NotShown::Place) }
    }

    /// By when a version was logged whose outer part opens and is of this tenure.
    pub(crate) fn opened(&self, v: &OpenedVersion, tenure: u32) -> Result<UnixMillis, NotShown> {
        let time = self.logged(&v.at)?;
        let commitment = commit(&v.opening, self.csi, v.at.version, &encode(&v.record));
        if commitment == v.at.commitment && v.record.tenure == tenure { Ok(time) } else { Err(NotShown::Opening) }
    }

    /// Checks how the tenure of a record began. `head_time` is that of the answer's head.
    pub(crate) fn begun(
        &self,
        state: &State,
        proof: Option<&TenureProof>,
        head_time: UnixMillis,
    ) -> Result<Option<Begun>, NotShown> {
        let start = &state.start;
        let Some(proof) = proof else {
            let first = state.tenure == 0 && start.how == Beginning::First && start.version == 0;
            return if first { Ok(None) } else { Err(NotShown::Missing) };
        };
        let (Some(tenure), Some(last)) = (state.tenure.checked_sub(1), start.version.checked_sub(1)) else {
            return Err(NotShown::Missing);
        };
        if proof.start.version != start.version {
            return Err(NotShown::Missing);
        }
        let time = self.logged(&proof.start)?;
        // "If the record is erased, passage is 0": what would prove it is gone, and nobody is listed.
        let recent = head_time < time.plus_ms(PASSAGE_MS) && state.state != RecordState::Erased;
        let mut begun = Begun { how: start.how, time, recent, ground: None, csip_key: None };
        // "For 30 days by proved position an answer carries the proof that the hold was kept."
        match (&proof.passage, start.how, recent) {
            (Passage::Past, Beginning::NewHolder | Beginning::Release | Beginning::Vacancy, false) => {}
            (Passage::Hold(hold), Beginning::NewHolder, true) => {
                begun.ground = Some(self.held(hold, &proof.start, tenure, last)?);
            }
            (Passage::Release(released), Beginning::Release, true) => {
                begun.csip_key = Some(self.released(released, &proof.start, state)?);
            }
            (Passage::Vacancy(before), Beginning::Vacancy, true) => {
                self.opened(before, tenure)?;
                if before.at.version != last || !before.record.state.is_empty() {
                    return Err(NotShown::Vacancy);
                }
            }
            _ => return Err(NotShown::Missing),
        }
        Ok(Some(begun))
    }

    /// Checks that a claim stood from its version to the last of the tenure, and waited as long as its ground asks for.
    fn held(&self, hold: &Hold, start: &LoggedVersion, tenure: u32, last: u32) -> Result<Ground, NotShown> {
        let logged = self.opened(&hold.pending, tenure)?;
        let pending = hold.pending.record.state.claim().ok_or(NotShown::Hold)?;
        let at_end = match (&hold.last.0, hold.pending.at.version == last) {
            (None, true) => pending,
            (Some(opened), false) if opened.at.version == last => {
                self.opened(opened, tenure)?;
                opened.record.state.claim().ok_or(NotShown::Hold)?
            }
            _ => return Err(NotShown::Missing),
        };
        self.includes(&Entry::Head(hold.before.head.clone()), &hold.before.at)?;
        let waited = logged.plus_ms(pending.ground.hold_ms()).max(at_end.until);
        let same = |a: &Claim, b: &Claim| (a.key, a.version, a.ground) == (b.key, b.version, b.ground);
        let kept = same(pending, at_end)
            && pending.version == hold.pending.at.version
            && hold.before.at.index < start.change.index
            && waited <= hold.before.head.time;
        if kept { Ok(pending.ground) } else { Err(NotShown::Hold) }
    }

    /// Checks that the version which began the tenure was made by a release, and returns the key that signed it.
    fn released(&self, r: &Released, start: &LoggedVersion, state: &State) -> Result<Key, NotShown> {
        let opened = commit(&r.opening, self.csi, start.version, &encode(&r.record)) == start.commitment
            && opens(&r.record.contents, &r.contents_salt, &encode(&r.contents))
            && opens(&r.contents.cause, &r.cause_salt, &encode(&r.cause))
            && (r.record.tenure, &r.contents.start) == (state.tenure, &state.start);
        if !opened {
            return Err(NotShown::Opening);
        }
        let tbs = &r.cause.event.tbs;
        let [authority] = &r.cause.event.authorities[..] else { return Err(NotShown::Release) };
        let about = tbs.kind == EventKind::Release && tbs.csi == *self.csi && tbs.version == start.version;
        let signed = authority.role == AuthorityRole::Csip && authority.verify(tbs, self.origin).is_ok();
        if about && signed { Ok(authority.key) } else { Err(NotShown::Release) }
    }
}
