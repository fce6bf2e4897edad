//! Vantage points: the log's own checkpoint and each witness's own copy of it, compared with the replay and each other.
//!
//! A checkpoint at a size that was replayed must have the root that the replay had there. One beyond the replay must have
//! the root that anybody else was shown for that size, and is compared with the replay once it gets there. A copy is
//! compared whenever the log has signed it: a contradiction is the log's, from wherever it comes.
//!
//! What has met the policy must be reached by the log's own **checkpoint** within a bounded number of looks at it; else
//! the log withholds from us what it may show to others. So it does if it shows us less than it did before. A log
//! whose checkpoint or entries cannot be read withholds nothing that we could know of: that is a fault of reading, and
//! accuses nobody.
//!
//! A log has its heads cosigned before it publishes them, and must not publish one that no quorum has cosigned. So that one
//! witness has seen more is no accusation: a quorum must be known to have cosigned the same tree, across all copies.

use std::sync::Arc;

use waymark_log::{
    cosignature,
    note::Note,
    time::{UnixMillis, UnixSeconds},
};

use crate::{
    desk::Desk,
    evidence::{Kind, cosigned_at},
    notices::Subject,
    report::{Condition, ViewStatus},
    state::{Claim, LogState},
    store::StoreError,
};

/// How many looks at its checkpoint the log has to reach what a witness has seen, before it counts as withheld: enough for
/// a witness that is told before the log publishes, at any poll interval.
pub const WITHHELD_POLLS: u64 = 10;
/// Most checkpoints beyond the replay that are kept to be compared, from each witness and from the log; the largest and the
/// latest stay. More come only while the log shows us less, and nobody takes the place of what somebody else has shown.
pub const BEYOND_EACH_MAX: usize = 16;

/// What a witness answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A note, unjudged.
    Note(Vec<u8>),
    /// It has none of this log.
    None,
    /// It could not be read.
    Unreadable(String),
}

/// A witness's copy as it was last seen.
#[derive(Debug, Default)]
pub(crate) struct View {
    size: Option<u64>,
    agrees: Option<bool>,
    /// The first size that the log's own checkpoint has not reached since, and the look before it was seen.
    ahead: Option<(u64, u64)>,
}

/// A checkpoint beyond the replay.
#[derive(Debug)]
pub(crate) struct Beyond {
    claim: Claim,
    /// Which witness has shown it, if it was one.
    view: Option<usize>,
    /// When each of the policy's witnesses has cosigned it, as far as was shown here.
    times: Vec<Option<UnixSeconds>>,
}

impl View {
    pub(crate) fn status(&self, witness: &str) -> ViewStatus {
        ViewStatus { witness: witness.to_owned(), size: self.size, agrees: self.agrees }
    }
}

impl LogState {
    /// Judges the copy of witness `i` of the target.
    pub(crate) fn look(&mut self, desk: &Desk<'_>, i: usize, answer: Answer) -> Result<(), StoreError> {
        let target = Arc::clone(&self.target);
        let at = &target.copies[i];
        let subject = Subject::Copy(at.witness.clone());
        let note = match answer {
            Answer::Note(bytes) => bytes,
            Answer::None => {
                let text = format!("witness {}: it has no checkpoint of this log", at.witness);
                self.notices.set(subject, text, desk.now);
                return Ok(());
            }
            Answer::Unreadable(why) => {
                let text = format!("witness {}: its copy cannot be read: {why}", at.witness);
                self.notices.set(subject, text, desk.now);
                return Ok(());
            }
        };
        let opened = target.open(&note).and_then(|(note, signed)| {
            let cosigned = cosignature::check(&note, &at.vkey)?;
            Ok((signed, cosigned))
        });
        let (signed, cosigned) = match opened {
            Ok(opened) => opened,
            Err(e) => {
                self.notices.set(subject, format!("witness {}: {e}", at.witness), desk.now);
                return Ok(());
            }
        };
        match cosigned {
            Some(_) => self.notices.clear(&subject),
            None => {
                let text = format!("witness {}: it has not cosigned the copy that it shows", at.witness);
                self.notices.set(subject, text, desk.now);
            }
        }
        let place = format!("witness {} at {}", at.witness, at.url);
        self.weigh(desk, Claim { signed, note, place }, Some(i))?;
        Ok(())
    }

    /// Compares a checkpoint that the log has signed with the replay or with others beyond it. Whether they agree.
    pub(crate) fn weigh(&mut self, desk: &Desk<'_>, claim: Claim, view: Option<usize>) -> Result<bool, StoreError> {
        let size = claim.signed.size();
        self.signed_size_max = self.signed_size_max.max(size);
        self.weigh_cosignatures(desk, &claim)?;
        if size <= self.replay.size() {
            return self.settle(desk, &claim, view);
        }
        let same = |b: &Beyond| b.claim.signed.size() == size && b.claim.signed.root() == claim.signed.root();
        let other = self.beyond.iter().find(|b| b.claim.signed.size() == size && !same(b)).map(|b| b.claim.clone());
        let agrees = other.is_none();
        if let Some(other) = other {
            self.contradiction(desk, Kind::SplitView, &claim, other.signed.root(), Some(&other), None)?;
        }
        if let Some(view) = view.map(|i| &mut self.views[i]) {
            (view.size, view.agrees) = (Some(size), if agrees { None } else { Some(false) });
            if size > self.shown {
                view.ahead.get_or_insert((size, self.looks));
            }
        }
        self.keep_beyond(claim, view);
        if self.met.is_none() {
            self.met = self.met_beyond().map(|size| (size, self.looks));
        }
        // What was shown to others does not stop us from following what a quorum has cosigned.
        Ok(agrees || view.is_none())
    }

    /// Keeps a checkpoint beyond the replay, in the place of an old one from the same side if need be.
    fn keep_beyond(&mut self, claim: Claim, view: Option<usize>) {
        let note = Note::parse(&claim.note);
        let times = note.map_or_else(|_| Vec::new(), |note| cosigned_at(&note, &self.target.trust));
        let of_view = |b: &&mut Beyond| b.view == view;
        if let Some(known) = self.beyond.iter_mut().filter(of_view).find(|b| b.claim.signed == claim.signed) {
            // Cosignatures that were seen once are not unseen.
            known.times = known.times.iter().zip(times).map(|(before, now)| now.or(*before)).collect();
            return;
        }
        let of_view = |b: &&Beyond| b.view == view;
        if self.beyond.iter().filter(of_view).count() >= BEYOND_EACH_MAX {
            // The largest stays: who shows many old ones after it would make it forgotten.
            let largest = self.beyond.iter().filter(of_view).map(|b| b.claim.signed.size()).max();
            let goes = |b: &Beyond| b.view == view && Some(b.claim.signed.size()) < largest;
            let Some(oldest) = self.beyond.iter().position(goes) else { return };
            self.beyond.remove(oldest);
        }
        self.beyond.push(Beyond { claim, view, times });
    }

    /// The smallest tree beyond what the log shows that a quorum has cosigned, as far as anybody has shown.
    fn met_beyond(&self) -> Option<u64> {
        let witnesses = self.target.trust.policy().witnesses().len();
        let is_met = |beyond: &&Beyond| {
            let signed = &beyond.claim.signed;
            let same = self
                .beyond
                .iter()
                .filter(|b| (b.claim.signed.size(), b.claim.signed.root()) == (signed.size(), signed.root()));
            let mut times = vec![None; witnesses];
            for (i, time) in same.flat_map(|b| b.times.iter().enumerate()) {
                times[i] = times[i].max(*time);
            }
            self.is_one_quorum(&times)
        };
        let beyond = self.beyond.iter().filter(|b| b.claim.signed.size() > self.shown);
        beyond.filter(is_met).map(|b| b.claim.signed.size()).min()
    }

    /// Whether a quorum has cosigned within the seconds that clocks may differ. One that came together more slowly may never have been one
    /// to the log: a witness whose clock is wrong, or one that was away until another's cosignature had grown old.
    fn is_one_quorum(&self, times: &[Option<UnixSeconds>]) -> bool {
        let (policy, skew_s) = (self.target.trust.policy(), self.target.trust.freshness().skew_s);
        times.iter().flatten().any(|latest| {
            let together = |time: &UnixSeconds| *time <= *latest && latest.since(*time) <= skew_s;
            let of_one: Vec<_> = times.iter().map(|time| time.filter(together)).collect();
            policy.quorum_time(&of_one).is_some()
        })
    }

    /// Whether somebody has seen more than the log shows now, which gives it some more looks.
    pub(crate) fn is_anything_withheld(&self) -> bool {
        self.behind.is_some() || self.met.is_some() || self.views.iter().any(|view| view.ahead.is_some())
    }

    /// Compares a checkpoint that the replay has reached.
    fn settle(&mut self, desk: &Desk<'_>, claim: &Claim, view: Option<usize>) -> Result<bool, StoreError> {
        let agrees = self.compare(desk, claim)?;
        if let Some(view) = view.map(|i| &mut self.views[i]) {
            (view.size, view.agrees) = (Some(claim.signed.size()), Some(agrees));
        }
        Ok(agrees)
    }

    /// The log was looked at: what the replay has reached is compared, what the log does not show may count as
    /// withheld.
    pub(crate) fn passed(&mut self, desk: &Desk<'_>) -> Result<(), StoreError> {
        let (replayed, shown, looks) = (self.replay.size(), self.shown, self.looks);
        let (reached, beyond) =
            std::mem::take(&mut self.beyond).into_iter().partition(|b: &Beyond| b.claim.signed.size() <= replayed);
        self.beyond = beyond;
        for Beyond { claim, view, .. } in reached {
            self.settle(desk, &claim, view)?;
        }
        if self.met.is_some_and(|(size, _)| size <= shown) {
            self.met = self.met_beyond().map(|size| (size, looks));
        }
        let met = self.met.filter(|(_, since)| looks - since >= WITHHELD_POLLS);
        let mut withheld = met.is_some();
        match met {
            Some((size, _)) => {
                let text =
                    format!("withheld: a quorum of the witnesses has seen size {size}, the log shows us size {shown}");
                self.notices.set(Subject::Withheld, text, desk.now);
            }
            None => self.notices.clear(&Subject::Withheld),
        }
        self.are_ahead(withheld, desk.now);
        if self.behind.is_some_and(|since| looks - since >= WITHHELD_POLLS) {
            let before = self.shown_max;
            let text = format!("withheld: the log has shown size {before} before and shows size {shown} now");
            self.notices.set(Subject::Behind, text, desk.now);
            withheld = true;
        }
        if withheld && self.condition == Condition::Good {
            self.condition = Condition::Withheld;
        }
        Ok(())
    }

    /// Says which witnesses have long seen more than the log shows, unless more than that is said.
    fn are_ahead(&mut self, withheld: bool, now: UnixMillis) {
        let (shown, looks) = (self.shown, self.looks);
        for (view, at) in self.views.iter_mut().zip(&self.target.copies) {
            view.ahead = view.ahead.filter(|(size, _)| *size > shown);
            let subject = Subject::Ahead(at.witness.clone());
            match view.ahead.filter(|(_, since)| looks - since >= WITHHELD_POLLS && !withheld) {
                Some((size, _)) => {
                    let text = format!(
                        "witness {} has seen size {size}, the log shows us size {shown}. Nobody has shown a quorum for \
                         more: the log waits for its witnesses, or withholds it",
                        at.witness
                    );
                    self.notices.set(subject, text, now);
                }
                None => self.notices.clear(&subject),
            }
        }
    }
}
