//! What a log or a witness did wrong, and how it comes to be recorded: the evidence first, then the finding, then the news.
//! One wrong is one finding, whoever shows it, in whichever order, and however often.
//!
//! | what was found | how many are recorded of one log |
//! |---|---|
//! | its entries break a rule | [`FINDINGS_MAX`] |
//! | it stands by two roots | [`CONTRADICTIONS_MAX`], whatever else there is: this is what nobody may drown |
//! | a witness has cosigned a smaller tree later | one for each key of a witness: it can go on doing so, and the first says all |

use std::sync::Arc;

use waymark_log::{hash::Hash, note::Note, policy::PolicyWitness, time::UnixMillis};
use waymark_mapping::audit::Finding;

use crate::{
    desk::Desk,
    evidence::{self, EVIDENCE_FOLDER, Earlier, Evidence, Kind, Seen, cosigned_at, is_after},
    notices::Subject,
    report::{Condition, FindingRecord},
    state::{Claim, LogState, PassError},
    store::{Batch, StoreError},
};

/// Most findings about a log's entries that are recorded: the first say what it is, and each may come with a file.
pub const FINDINGS_MAX: usize = 1000;
/// Most contradictions of a log that are recorded: one is enough to convict it.
pub const CONTRADICTIONS_MAX: usize = 100;

const SPLIT_VIEW: &str = "split view at";
const FORK: &str = "fork at";
const ROLLBACK: &str = "rollback: witness";

/// Findings that share a limit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Entries,
    Contradictions,
    Rollbacks,
}

impl Room {
    /// Where a finding belongs, by its words: those of earlier runs are known by nothing else.
    fn of(text: &str) -> Self {
        if text.starts_with(ROLLBACK) {
            Self::Rollbacks
        } else if text.starts_with(SPLIT_VIEW) || text.starts_with(FORK) {
            Self::Contradictions
        } else {
            Self::Entries
        }
    }

    const fn max(self) -> usize {
        match self {
            // Of rollbacks there is one for each key that a trust file has ever named.
            Self::Entries | Self::Rollbacks => FINDINGS_MAX,
            Self::Contradictions => CONTRADICTIONS_MAX,
        }
    }
}

impl LogState {
    /// Compares a checkpoint that the log has signed with the replay, as far as that goes; a contradiction is recorded.
    pub(crate) fn compare(&mut self, desk: &Desk<'_>, claim: &Claim) -> Result<bool, StoreError> {
        let size = claim.signed.size();
        let Some(ours) = self.root_at(desk.store, size)? else { return Ok(true) };
        if ours == *claim.signed.root() {
            self.must_end_in_head(desk, claim)?;
            return Ok(true);
        }
        // Without an anchor, no note that counts under today's trust file leads to the replay.
        let anchor = self.anchor.clone();
        let (kind, proof) = match anchor.as_ref().map(|anchor| anchor.signed.size()) {
            None => (Kind::Entries, None),
            Some(new) if new == size => (Kind::SplitView, None),
            Some(new) => (Kind::Fork, self.proof(desk.store, size, new)?),
        };
        let earlier = proof.map(|proof| Earlier { root: ours, proof });
        self.contradiction(desk, kind, claim, &ours, anchor.as_ref(), earlier)?;
        Ok(false)
    }

    /// "Every published checkpoint ends in a head entry", also one that was shown to somebody else.
    fn must_end_in_head(&mut self, desk: &Desk<'_>, claim: &Claim) -> Result<(), StoreError> {
        let size = claim.signed.size();
        if self.ends_in_head(desk.store, size)? {
            return Ok(());
        }
        let text = Finding::NoHead { size }.to_string();
        self.record(desk, text, Kind::Entries, &[claim], None)
    }

    /// Records that a checkpoint contradicts a root, which others were shown or the replay had; the note that says so is in
    /// the evidence as well, if there is one.
    pub(crate) fn contradiction(
        &mut self,
        desk: &Desk<'_>,
        kind: Kind,
        claim: &Claim,
        against: &Hash,
        other: Option<&Claim>,
        earlier: Option<Earlier>,
    ) -> Result<(), StoreError> {
        let (size, root) = (claim.signed.size(), claim.signed.root());
        let (one, two) = (root.min(against), root.max(against));
        let words = if kind == Kind::SplitView { SPLIT_VIEW } else { FORK };
        let text = format!("{words} size {size}: the log stands by two roots, {one} and {two}");
        let notes: Vec<&Claim> = other.into_iter().chain([claim]).collect();
        self.record(desk, text, kind, &notes, earlier)
    }

    /// Whether a witness has cosigned this checkpoint after a larger one: its cosignatures say "the largest I have seen".
    pub(crate) fn weigh_cosignatures(&mut self, desk: &Desk<'_>, claim: &Claim) -> Result<(), StoreError> {
        let target = Arc::clone(&self.target);
        let Ok(note) = Note::parse(&claim.note) else { return Ok(()) };
        let size = claim.signed.size();
        for (i, at) in cosigned_at(&note, &target.trust).into_iter().enumerate().filter(|(_, at)| at.is_some()) {
            let Some(largest) = self.largest[i].clone().filter(|l| l.signed.size() >= size) else {
                self.largest[i] = Some(claim.clone());
                continue;
            };
            let before = || cosigned_at(&Note::parse(&largest.note).ok()?, &target.trust)[i];
            if largest.signed.size() > size && is_after(at, before(), &target.trust) {
                let who = guilty(&target.trust.policy().witnesses()[i]);
                if self.found.iter().any(|text| text.starts_with(&who)) {
                    continue;
                }
                let text = format!("{who} has cosigned size {size} later than size {}", largest.signed.size());
                self.record(desk, text, Kind::Rollback, &[&largest, claim], None)?;
            }
        }
        Ok(())
    }

    /// The log contradicts itself in a way that stops the replay.
    pub(crate) fn contradicted(&mut self, desk: &Desk<'_>, text: String, claim: &Claim) -> PassError {
        self.condition = Condition::Contradicted;
        match self.record(desk, text, Kind::Entries, &[claim], None) {
            Ok(()) => PassError::Contradicted,
            Err(e) => e.into(),
        }
    }

    /// Stores a finding that is not stored yet, the evidence before it.
    fn record(
        &mut self,
        desk: &Desk<'_>,
        text: String,
        kind: Kind,
        claims: &[&Claim],
        earlier: Option<Earlier>,
    ) -> Result<(), StoreError> {
        let mut findings = self.unrecorded(vec![text], desk.now);
        if !findings.is_empty() {
            let evidence = self.keep(desk, kind, claims, earlier)?;
            findings.iter_mut().for_each(|finding| finding.evidence = Some(evidence.clone()));
        }
        desk.commit(&self.target.origin, Batch { findings, ..Batch::default() })
    }

    /// Writes a file of evidence; returns its name.
    pub(crate) fn keep(
        &self,
        desk: &Desk<'_>,
        kind: Kind,
        claims: &[&Claim],
        earlier: Option<Earlier>,
    ) -> Result<String, StoreError> {
        let notes = claims.iter().map(|claim| Seen { place: claim.place.clone(), note: claim.note.clone() }).collect();
        let evidence = Evidence { kind, origin: self.target.origin.clone(), notes, earlier };
        let path = || desk.data_dir.join(EVIDENCE_FOLDER);
        evidence::write(&evidence, desk.data_dir).map_err(|error| StoreError::Io { path: path(), error })
    }

    /// Those of these findings that are to be stored, which the caller does at once.
    pub(crate) fn unrecorded(&mut self, texts: Vec<String>, now: UnixMillis) -> Vec<FindingRecord> {
        let mut new = Vec::new();
        for text in texts {
            if self.found.contains(&text) {
                continue;
            }
            let room = Room::of(&text);
            if self.found.iter().filter(|found| Room::of(found) == room).count() >= room.max() {
                let text = format!("there are more than the {} findings of this kind that are recorded", room.max());
                self.notices.set(Subject::Findings, text, now);
                continue;
            }
            self.found.insert(text.clone());
            let origin = self.target.origin.to_string();
            new.push(FindingRecord { id: 0, origin, text, found_ms: now.get(), evidence: None });
        }
        new
    }
}

/// How a finding against a witness begins: with its name in the policy and its key.
fn guilty(witness: &PolicyWitness) -> String {
    let vkey = witness.vkey.to_string();
    // <name>+<id>+<key>; a key's name has no plus sign in it.
    let key: Vec<&str> = vkey.splitn(3, '+').take(2).collect();
    format!("{ROLLBACK} {} (key {})", witness.name, key.join("+"))
}
