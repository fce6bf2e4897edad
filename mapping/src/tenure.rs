//! Proof of the past: when a version was logged, and how a tenure began.
//!
//! ```text
//! struct { uint32 version; opaque vrf_proof[80]; Hash commitment; Inclusion change; HeadAt head; }   LoggedVersion
//! struct { LoggedVersion at; opaque opening[16]; Record record; }                                    OpenedVersion
//! struct { OpenedVersion pending; OpenedVersion between<0..81,920>; HeadAt before; }                 Hold
//! struct { opaque opening[16]; Record record; Salt contents_salt; Contents contents;
//!          Cause cause; Salt cause_salt; }                                                           Released
//! struct { uint8 passage; select (passage) { case 0: struct {}; case 1: Hold hold;
//!          case 2: Released release; case 3: OpenedVersion vacancy; }; }                             Passage
//! struct { uint32 version; opaque vrf_proof[80]; Hash commitment; Inclusion change; }                LoggedStep
//! struct { LoggedVersion start; Passage passage; LoggedStep steps<0..106,496>; }                     TenureProof
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
//! the hold was at least as long as the difference of their times, whatever the DP says of its own. For 30 days by the time of
//! `start.head` an answer bears the passage; after that only `start` and its steps.
//!
//! **A claim that nobody could find has not waited.** That a version is in the log does not show that a look-up led to it: a look-up
//! follows a ladder ([`crate::ladder`]), and ends at the version where that leads. `steps` shows when the versions on these ladders
//! were logged. Two rules, for which the ladder's own lemma is the reason (of two versions, the ladder of the greater one needs
//! one that the ladder of the smaller one shows to be absent):
//!
//! - **in turn**: whatever exists of the ladder of a version below it was logged before its head. So from that head on every
//!   look-up ends at this version or a later one. For `start`, `pending`, all of `between`, and the version of a vacancy.
//! - **none ahead**: whatever exists now of the ladder of the last version before the change of hands, above that version, was logged
//!   behind `before`. So until `before` no look-up ended at a version later than that. For a hold.
//!
//! So while the hold ran every look-up ended at `pending` or at one of `between`. These are all versions from the claim to the change of
//! hands, and each is opened: the claim stood in every one. A claim that was ended and stands up again has not waited. Nor has one that was
//! void: look-ups do not show it, and no objection to it is taken. The DP dates claims, so that it could be void from the day on which it is
//! logged: an objection extends it, and it is taken up, before it is void by the time of a head behind that.
//!
//! There are at most 32 of them, since a claim is void after that many ([`CLAIM_VERSIONS_MAX`]), so that the proof has an end.
//!
//! Only the outer parts of old records are opened ([`crate::record`]): they show nothing of whose they were.

use std::collections::{BTreeMap, BTreeSet};

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
    label::{Label, verify_label},
    ladder,
    record::{Beginning, CLAIM_VERSIONS_MAX, Claim, Contents, Ground, Record, RecordState},
    rules::State,
    vrf::VrfProof,
    wire::{List24, encode},
};

/// How long answers bear the proof of a change of hands: 30 days.
pub const PASSAGE_MS: u64 = 30 * 24 * 3600 * 1000;
/// Most bytes in the versions between a claim and the change of hands: thirty-two ([`CLAIM_VERSIONS_MAX`]). In a log of a billion
/// entries a path has thirty hashes, 971 bytes with its index; an opened version has two of them, a head of 146 bytes, and 232 bytes
/// of its own, 2,320 in all and 74,240 for thirty-two. The rest is room for extensions of heads.
pub const BETWEEN_BYTES_MAX: usize = 80 << 10;
/// Most bytes in the steps of ladders. A step has 1,087 bytes in such a log. Below the claim stand at most 32 powers of two and 31
/// versions in between, above the last version before the change of hands at most 32 others; the ladders of all versions between these
/// need no others. That is 95 at the very most, 103,265 bytes; of a version below a million it is less than half.
pub const STEPS_BYTES_MAX: usize = 104 << 10;

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

/// A version on a ladder: where it was logged.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct LoggedStep {
    /// Which.
    pub version: u32,
    /// Proof of its label.
    pub vrf_proof: VrfProof,
    /// What the log holds of it.
    pub commitment: Hash,
    /// Where its change entry is.
    pub change: Inclusion,
}

/// That a claim was logged and its hold kept.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Hold {
    /// The version that put the claim down.
    pub pending: OpenedVersion,
    /// Every version after that one up to the one right before the change of hands, ascending.
    pub between: List24<OpenedVersion, BETWEEN_BYTES_MAX>,
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
    /// What more exists of the ladders of its versions, ascending ([`TenureProof::steps_needed`]).
    pub steps: List24<LoggedStep, STEPS_BYTES_MAX>,
}

impl TenureProof {
    /// Every version that it shows to be logged before some head, the first of the tenure last.
    fn logged(&self) -> impl Iterator<Item = &LoggedVersion> {
        let passage: Vec<&LoggedVersion> = match &self.passage {
            Passage::Past | Passage::Release(_) => vec![],
            Passage::Hold(hold) => std::iter::once(&hold.pending).chain(hold.between.iter()).map(|v| &v.at).collect(),
            Passage::Vacancy(before) => vec![&before.at],
        };
        passage.into_iter().chain([&self.start])
    }

    /// The versions of which it must show a step, ascending, where `latest` is the latest version: what exists of the ladders of its
    /// versions below each, and for a hold above the last version before the change of hands, less its versions themselves.
    /// DP and reader must agree on it, so both ask here.
    pub fn steps_needed(&self, latest: u32) -> Vec<u32> {
        let own: BTreeSet<u32> = self.logged().map(|v| v.version).collect();
        let below = own.iter().flat_map(|v| ladder::monitoring(*v));
        let needed: BTreeSet<u32> = below.chain(self.ahead(latest)).filter(|v| !own.contains(v)).collect();
        needed.into_iter().collect()
    }

    /// What exists now of the ladder of the last version before the change of hands, above that one: none may have been logged while
    /// the hold ran.
    fn ahead(&self, latest: u32) -> Vec<u32> {
        let last = self.start.version.checked_sub(1).filter(|_| matches!(self.passage, Passage::Hold(_)));
        let above = last.map_or(vec![], |last| ladder::watched(Some(last)));
        above.into_iter().filter(|v| *v <= latest).collect()
    }

    /// Every head that it shows.
    pub fn heads(&self) -> impl Iterator<Item = &HeadAt> {
        let before = match &self.passage {
            Passage::Hold(hold) => Some(&hold.before),
            _ => None,
        };
        self.logged().map(|v| &v.head).chain(before)
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
    /// A version was logged out of turn, or it is not shown that it was not.
    #[error("a version was logged where a look-up did not lead to it, or led past it")]
    Turn,
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

    fn label(&self, version: u32, vrf_proof: &VrfProof) -> Result<Label, NotShown> {
        verify_label(self.vrf, self.csi, version, vrf_proof).map_err(|_| NotShown::Place)
    }

    /// By when a version was logged: the time of a head behind its entry.
    pub(crate) fn logged(&self, v: &LoggedVersion) -> Result<UnixMillis, NotShown> {
        let label = self.label(v.version, &v.vrf_proof)?;
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
        self.in_turn(proof, state.version)?;
        Ok(Some(begun))
    }

    /// Checks that look-ups led to the versions of a proof from their heads on, and to none behind a hold before it was over. That the
    /// versions themselves are where they are said to be was checked before.
    fn in_turn(&self, proof: &TenureProof, latest: u32) -> Result<(), NotShown> {
        if !proof.steps.iter().map(|s| s.version).eq(proof.steps_needed(latest)) {
            return Err(NotShown::Turn);
        }
        let mut places: BTreeMap<u32, u64> = proof.logged().map(|v| (v.version, v.change.index)).collect();
        for step in proof.steps.iter() {
            let label = self.label(step.version, &step.vrf_proof)?;
            self.includes(&Entry::Change(Change { label, commitment: step.commitment }), &step.change)?;
            places.insert(step.version, step.change.index);
        }
        let leads = |v: &LoggedVersion| {
            let mut below = ladder::monitoring(v.version).into_iter();
            below.all(|m| places.get(&m).is_some_and(|index| *index < v.head.at.index))
        };
        let ahead = |before: &HeadAt| {
            let mut above = proof.ahead(latest).into_iter();
            above.any(|m| places.get(&m).is_none_or(|index| *index < before.at.index))
        };
        let led_past = matches!(&proof.passage, Passage::Hold(hold) if ahead(&hold.before));
        if proof.logged().all(leads) && !led_past { Ok(()) } else { Err(NotShown::Turn) }
    }

    /// Checks that a claim stood in every version up to the last of the tenure, waited as long as its ground asks for, and was never void.
    fn held(&self, hold: &Hold, start: &LoggedVersion, tenure: u32, last: u32) -> Result<Ground, NotShown> {
        let Hold { pending, between, before } = hold;
        let made = last.checked_sub(pending.at.version).ok_or(NotShown::Missing)?;
        if made > CLAIM_VERSIONS_MAX {
            return Err(NotShown::Hold);
        }
        if !between.iter().map(|v| v.at.version).eq((pending.at.version..=last).skip(1)) {
            return Err(NotShown::Missing);
        }
        let logged = self.opened(pending, tenure)?;
        let mut claim = *pending.record.state.claim().ok_or(NotShown::Hold)?;
        if claim != Claim::new(claim.key, pending.at.version, claim.time, claim.ground) {
            return Err(NotShown::Hold);
        }
        for opened in between.iter() {
            let time = self.opened(opened, tenure)?;
            let then = opened.record.state.claim().copied();
            // Nothing but an objection changes it, and that once, and none raises it when it is void.
            let extended = claim.extended().filter(|_| !claim.is_over_at(time));
            claim = then.filter(|then| *then == claim || Some(*then) == extended).ok_or(NotShown::Hold)?;
        }
        self.includes(&Entry::Head(before.head.clone()), &before.at)?;
        let waited = logged.plus_ms(claim.ground.hold_ms()).max(claim.until);
        let kept = before.at.index < start.change.index && waited <= before.head.time;
        // Of a claim that is void look-ups say nothing, whatever date the DP has given it.
        let kept = kept && !claim.is_over_at(start.head.head.time);
        if kept { Ok(claim.ground) } else { Err(NotShown::Hold) }
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
