//! What a log or a witness did wrong, and how it comes to be recorded: the evidence first, then the finding, then the news.
//! One wrong is one finding, whoever shows it, in whichever order, and however often.

use std::sync::Arc;

use waymark_log::{hash::Hash, note::Note, time::UnixMillis};
use waymark_mapping::audit::Finding;

use crate::{
    desk::Desk,
    evidence::{self, EVIDENCE_FOLDER, Earlier, Evidence, Kind, Seen, cosigned_at, is_after},
    notices::Subject,
    report::{Condition, FindingRecord},
    state::{Claim, FINDINGS_MAX, LogState, PassError},
    store::{Batch, StoreError},
};

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
        let words = if kind == Kind::SplitView { "split view" } else { "fork" };
        let text = format!("{words} at size {size}: the log stands by two roots, {one} and {two}");
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
                let (name, large) = (&target.trust.policy().witnesses()[i].name, largest.signed.size());
                let text = format!("rollback: witness {name} has cosigned size {size} later than size {large}");
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
            if self.found.len() >= FINDINGS_MAX {
                let text = format!("there are more than the {FINDINGS_MAX} findings that are recorded");
                self.notices.set(Subject::Findings, text, now);
                break;
            }
            self.found.insert(text.clone());
            let origin = self.target.origin.to_string();
            new.push(FindingRecord { id: 0, origin, text, found_ms: now.get(), evidence: None });
        }
        new
    }
}
