//! One log as this monitor believes it: replayed, stored, watched. The judgement is `waymark-mapping`'s; what is added here
//! is the order of things.
//!
//! 1. A checkpoint is opened with the log's key and compared with the replay, whatever else may be wrong with it: two roots
//!    that the log has signed for one size are evidence without any witness (`views`, `findings`).
//! 2. Only a checkpoint that meets the policy is followed.
//! 3. Entries are believed when they lead to its root. Then, in **one transaction**, they are stored with the hits of
//!    watch-lists and the findings that follow from them. Entries that do not lead there are damaged where they are
//!    served, and are fetched again: nobody has signed them, so they speak against nobody.
//! 4. What is overdue is told by the time that the log's quorum has confirmed and that has passed since (`LogTime`), not by
//!    the wall clock alone.
//! 5. What a log takes of this monitor's memory is counted. One that takes too much is not followed further; the others
//!    are.
//!
//! All methods may block on the disk; a [`StoreError`] is fatal, since the replay in memory is then ahead of the disk.

use std::{collections::HashSet, sync::Arc};

use waymark_log::{
    checkpoint::{Origin, SignedCheckpoint},
    hash::{Hash, leaf_hash},
    policy::Unmet,
    proof::verify_consistency,
    time::{UnixMillis, UnixSeconds},
};
use waymark_mapping::{
    audit::{Finding, Replay, Step},
    entry::{ENTRIES_PER_HEAD_MAX, Untimely},
    watch::{Alert, WATCH_LIFETIME_MS_MAX, WatchList},
};
use waymark_runtime::{
    follow::{self as reading, FollowError, STEP_BYTES_MAX},
    log_time::LogTime,
};

use crate::{
    desk::Desk,
    evidence::Kind,
    notices::{Notices, Subject},
    report::{AlertKind, AlertRecord, Condition, LogStatus},
    settings::Target,
    store::{Batch, Raised, StoreError, StoredHead},
    tiles::TileCheck,
    tree::Tree,
    unjudged::Unjudged,
    views::{Beyond, View},
    watching::{ImportRefused, Plan, Watches},
};

/// How often the time is written down while a hit is open, in milliseconds: how much later its alert may come after a crash.
const REMEMBER_MS: u64 = 60_000;

/// Why a pass did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    /// The log could not be read, or what was read has no form. Tried again.
    #[error(transparent)]
    Read(#[from] FollowError),
    /// The checkpoint does not meet the policy; a notice says so.
    #[error("the checkpoint does not meet the policy")]
    Unmet,
    /// What the log serves does not lead to what it has signed; a notice says so. Tried again.
    #[error("what the log serves does not lead to what it has signed")]
    Damaged,
    /// The log would take more memory than it may; a notice says so.
    #[error("the log is over its memory budget")]
    OverBudget,
    /// The log contradicts itself; a finding says so.
    #[error("the log contradicts itself")]
    Contradicted,
    /// Fatal.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Fatal.
    #[error("a task of this monitor has panicked")]
    Panicked,
    /// The disk is full: what was to be written is not, and it goes on once there is room.
    #[error("the disk is full")]
    Full,
    /// Something fatal came before.
    #[error("the monitor failed before")]
    Failed,
}

/// A checkpoint that the log has signed, as somebody shows it.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) signed: SignedCheckpoint,
    /// The note, byte for byte.
    pub(crate) note: Vec<u8>,
    /// Where it was seen, for evidence.
    pub(crate) place: String,
}

/// Where one log stands.
#[derive(Debug)]
pub(crate) struct LogState {
    pub(crate) target: Arc<Target>,
    pub(crate) replay: Replay,
    pub(crate) tree: Tree,
    pub(crate) watches: Watches,
    /// The checkpoint that the replay has reached or is on its way to; never smaller than the replay.
    pub(crate) anchor: Option<Claim>,
    pub(crate) quorum: Option<UnixSeconds>,
    pub(crate) cosignatures: usize,
    pub(crate) time: LogTime,
    /// What of it was written down last while a hit was open.
    pub(crate) remembered: UnixMillis,
    pub(crate) started: UnixMillis,
    /// When a checkpoint was last accepted, or when this run began, by the clock that nobody sets.
    pub(crate) seen_ms: u64,
    pub(crate) last_success: Option<UnixMillis>,
    pub(crate) condition: Condition,
    /// Looks at which the log showed a checkpoint that it has signed. One that cannot be read is no look: it shows
    /// nothing, not less.
    pub(crate) looks: u64,
    /// The size of the checkpoint that it showed last, whether it could be followed there or not.
    pub(crate) shown: u64,
    /// The greatest that it has shown.
    pub(crate) shown_max: u64,
    /// The greatest size that the log has signed for, as far as anybody has shown.
    pub(crate) signed_size_max: u64,
    pub(crate) views: Vec<View>,
    /// What the log has signed beyond the replay, to whomever.
    pub(crate) beyond: Vec<Beyond>,
    /// The size that the log's own checkpoint has not reached though the policy was met there, and the look before that was known.
    pub(crate) met: Option<(u64, u64)>,
    /// The largest tree that each of the policy's witnesses was seen to cosign.
    pub(crate) largest: Vec<Option<Claim>>,
    /// The look since which the log shows less than it has shown before.
    pub(crate) behind: Option<u64>,
    pub(crate) notices: Notices,
    pub(crate) unjudged: Unjudged,
    pub(crate) tiles: TileCheck,
    /// Bytes of memory that the replay may take.
    pub(crate) memory_bytes_max: u64,
    /// Texts of the findings that are stored.
    pub(crate) found: HashSet<String>,
}

impl LogState {
    pub(crate) fn append(&mut self, entry: &[u8], full: impl FnMut(u64, Vec<u8>)) {
        self.tree.append(entry, full).expect("an entry from a bundle fits into a bundle");
    }

    /// Judges what the log serves as its checkpoint. `Some` if there are entries to fetch.
    pub(crate) fn receive(&mut self, desk: &Desk<'_>, bytes: &[u8]) -> Result<Option<Claim>, PassError> {
        let target = Arc::clone(&self.target);
        let (_, signed) = target.open(bytes).map_err(|e| self.unmet(e.to_string(), desk.now))?;
        let place = format!("the log at {}", target.url);
        let claim = Claim { signed, note: bytes.to_vec(), place };
        self.note_size(claim.signed.size());
        if !self.weigh(desk, claim.clone(), None)? {
            self.condition = Condition::Contradicted;
            return Err(PassError::Contradicted);
        }
        let judged = self.time.judge(bytes, target.trust.policy(), target.trust.freshness());
        // Judging may have set the time.
        let now = self.time.now();
        let cosigned = judged.map_err(|unmet| match unmet {
            Unmet::Stale { .. } => {
                self.notices.clear(&Subject::Policy);
                self.stale(unmet.to_string(), now)
            }
            other => self.unmet(other.to_string(), now),
        })?;
        self.quorum = self.quorum.max(Some(cosigned.quorum_time()));
        self.cosignatures = cosigned.cosignatures();
        (self.last_success, self.seen_ms) = (Some(now), self.time.passed_ms());
        self.notices.clear(&Subject::Policy);
        self.notices.clear(&Subject::Stale);
        if claim.signed.size() > self.replay.size() {
            return Ok(Some(claim));
        }
        self.reached(now);
        Ok(None)
    }

    /// The log shows a checkpoint of this size.
    fn note_size(&mut self, size: u64) {
        self.looks += 1;
        self.shown = size;
        if size < self.shown_max {
            self.behind.get_or_insert(self.looks - 1);
        } else {
            (self.shown_max, self.behind) = (size, None);
            self.notices.clear(&Subject::Behind);
        }
    }

    /// Where to read on from, unless that would take more memory than this log may.
    pub(crate) fn next(&mut self, now: UnixMillis) -> Result<u64, PassError> {
        let (bytes, max) = (self.replay.bytes(), self.memory_bytes_max);
        if bytes <= max {
            return Ok(self.replay.size());
        }
        let size = self.replay.size();
        Err(self.over_budget(format!("its first {size} entries take {bytes} bytes, and {max} are allowed"), now))
    }

    fn over_budget(&mut self, why: String, now: UnixMillis) -> PassError {
        self.condition = Condition::OverBudget;
        let text = format!("over its memory budget, not followed further: {why} (log_memory_mb in monitor.toml)");
        self.notices.set(Subject::Budget, text, now);
        PassError::OverBudget
    }

    /// Judges fetched entries; those that lead to the goal are replayed, stored and believed. `false` if they do not
    /// lead there.
    pub(crate) fn believe(
        &mut self,
        desk: &Desk<'_>,
        fetched: &reading::Step,
        goal: &Claim,
    ) -> Result<bool, PassError> {
        if fetched.from != self.replay.size() {
            // Fetched for another state than this: nobody's fault, and fetched again.
            return Ok(true);
        }
        let Some((size, root)) = self.led_to(fetched, goal) else { return Ok(false) };
        if fetched.uncut {
            return Err(self.headless(desk, fetched, goal));
        }
        let step = self.replay.extend(&fetched.entries, size, &root);
        self.store_step(desk, &fetched.entries, goal, step)?;
        self.notices.clear(&Subject::Budget);
        // An older goal is not where the log is: its head would look late beside the newest quorum.
        if size == goal.signed.size() && size >= self.shown {
            self.reached(desk.now);
        }
        Ok(true)
    }

    /// The log has signed more entries without a head than are held at once.
    fn headless(&mut self, desk: &Desk<'_>, fetched: &reading::Step, goal: &Claim) -> PassError {
        let (from, count) = (fetched.from, fetched.entries.len());
        if count > ENTRIES_PER_HEAD_MAX {
            let text = format!("no head among {count} entries from {from} on: not followed further");
            return self.contradicted(desk, text, goal);
        }
        // So few may stand between two heads; that they are huge is against no rule.
        let why = format!("{count} entries from {from} on without a head take more than {STEP_BYTES_MAX} bytes");
        self.over_budget(why, desk.now)
    }

    /// What was read does not lead to what was signed, also when it was read again.
    pub(crate) fn damaged(&mut self, from: u64, count: usize, goal: &Claim, now: UnixMillis) {
        self.condition = Condition::Damaged;
        let (last, size) = (from + (count as u64).saturating_sub(1), goal.signed.size());
        let text = format!(
            "entries {from} to {last}, or the hash tiles that go with them, do not lead to the root that was signed at \
             size {size}: damaged where they are served. None of them is believed, and they are fetched again"
        );
        self.notices.set(Subject::Reading, text, now);
    }

    /// The tree that fetched entries end in, if that is the goal's or is proved to be its beginning.
    fn led_to(&self, fetched: &reading::Step, goal: &Claim) -> Option<(u64, Hash)> {
        let mut range = self.tree.range().clone();
        for entry in &fetched.entries {
            range.append(leaf_hash(entry));
        }
        let (size, root, goal) = (range.size(), range.root(), &goal.signed);
        verify_consistency(size, goal.size(), &root, goal.root(), &fetched.proof).ok().map(|()| (size, root))
    }

    fn store_step(&mut self, desk: &Desk<'_>, entries: &[Vec<u8>], goal: &Claim, step: Step) -> Result<(), StoreError> {
        let mut bundles = Vec::new();
        for entry in entries {
            self.append(entry, |n, bytes| bundles.push((n, bytes)));
        }
        bundles.extend(self.tree.partial());
        let head = StoredHead {
            size: self.tree.size(),
            root: self.tree.root().to_base64(),
            note: String::from_utf8_lossy(&goal.note).into_owned(),
            quorum_time_s: self.quorum.map_or(0, UnixSeconds::get),
        };
        let plan = self.watches.on_changes(&step.changes, desk.now);
        let mut findings = self.unrecorded(step.findings.iter().map(Finding::to_string).collect(), desk.now);
        if !findings.is_empty() {
            let evidence = self.keep(desk, Kind::Entries, &[goal], None)?;
            findings.iter_mut().for_each(|finding| finding.evidence = Some(evidence.clone()));
        }
        let batch = Batch { bundles, head: Some(head), findings, ..self.batch(&plan, desk.now) };
        desk.commit(&self.target.origin, batch)?;
        self.anchor = Some(goal.clone());
        self.watches.install(plan);
        for notice in step.notices {
            self.notices.late_head(notice, desk.now);
        }
        self.not_judged(&step.not_supported, desk.now);
        Ok(())
    }

    /// These entries, too, could not be judged. What is new of them is told each time; what stands counts them all.
    pub(crate) fn not_judged(&mut self, entries: &[u64], now: UnixMillis) {
        let mut more = Unjudged::default();
        more.add(entries);
        if more.is_empty() {
            return;
        }
        self.unjudged.add(entries);
        self.notices.grow(Subject::Unjudged, self.unjudged.to_string(), more.to_string(), now);
    }

    /// The replay is where the log's checkpoint is, or beyond.
    fn reached(&mut self, now: UnixMillis) {
        let untimely = self.untimely();
        self.condition = if untimely.is_some() { Condition::Stale } else { Condition::Good };
        match untimely {
            Some(text) => self.notices.set(Subject::HeadTime, text.to_owned(), now),
            None => self.notices.clear(&Subject::HeadTime),
        }
    }

    /// Why senders reject the last head, if they do.
    fn untimely(&self) -> Option<&'static str> {
        let ((_, head), quorum) = (self.replay.last_head()?, self.quorum?);
        match head.check_time(quorum, self.replay.audited().interval_ms(), self.target.trust.freshness().skew_s) {
            Ok(()) => None,
            Err(Untimely::After) => Some("the last head is dated after its cosignatures"),
            Err(Untimely::Overdue) => Some("the log is silent: its cosignatures are refreshed, and no head follows"),
        }
    }

    /// Nothing could be read.
    pub(crate) fn unreachable(&mut self, why: String, now: UnixMillis) {
        self.condition = Condition::Unreachable;
        self.notices.set(Subject::Reading, format!("the log cannot be read: {why}"), now);
    }

    fn unmet(&mut self, why: String, now: UnixMillis) -> PassError {
        self.condition = Condition::Unmet;
        self.notices.set(Subject::Policy, format!("the checkpoint is not accepted: {why}"), now);
        PassError::Unmet
    }

    fn stale(&mut self, why: String, now: UnixMillis) -> PassError {
        self.condition = Condition::Stale;
        // Before a quorum has confirmed the time, the fault may as well be this machine's.
        let or = if self.time.is_confirmed() { "" } else { ", or this machine's clock is wrong" };
        self.notices.set(Subject::Stale, format!("the checkpoint is stale{or}: {why}"), now);
        PassError::Unmet
    }

    /// Whether there was no fresh quorum for longer than allowed. While this monitor was down nobody could tell.
    fn is_stale(&self, now: UnixMillis) -> bool {
        let started = self.started.floor_seconds();
        let since = self.quorum.map_or(started, |t| t.max(started));
        now.floor_seconds().since(since) > self.target.trust.freshness().max_age_s
    }

    /// Time has passed: what is overdue becomes an alert, and silence a notice. Says whether more is overdue than one tick
    /// looks at.
    pub(crate) fn tick(&mut self, desk: &Desk<'_>) -> Result<bool, StoreError> {
        match self.time.fault() {
            Some(text) => self.notices.set(Subject::Clock, text, desk.now),
            None => self.notices.clear(&Subject::Clock),
        }
        if self.is_stale(desk.now) {
            let max_age_s = self.target.trust.freshness().max_age_s;
            let text = format!("no checkpoint with a fresh quorum for more than {max_age_s} s");
            self.notices.set(Subject::Stale, text, desk.now);
        }
        if desk.known.is_none() {
            // No checkpoint was ever accepted, so nothing was hit; and nobody has confirmed that a list has run out.
            return Ok(false);
        }
        // If the log is silent after a crash, a hit that is open has no more time than before it.
        if self.watches.last_deadline().is_some() && desk.now.since(self.remembered) >= REMEMBER_MS {
            desk.remember(&self.target.origin)?;
            self.remembered = desk.now;
        }
        let plan = self.watches.tick(self.replay.size(), desk.now);
        let is_part = plan.is_part;
        self.carry_out(desk, plan).map(|()| is_part)
    }

    /// The same for a run that ends at once. While nothing has confirmed the time, in a run that goes on what passes makes a
    /// hit overdue; here nothing passes, so the wall clock is believed, but no further than to the last hit's deadline.
    pub(crate) fn tick_once(&mut self, desk: &Desk<'_>) -> Result<bool, StoreError> {
        let by_wall = self.watches.last_deadline().map(|last| last.min(self.time.shown()));
        let unconfirmed = by_wall.filter(|_| !self.time.is_confirmed());
        self.tick(&Desk { now: desk.now.max(unconfirmed.unwrap_or(desk.now)), ..*desk })
    }

    /// When a list is taken that comes now. A list may run for 180 days from then. After a start the time may still be that of
    /// an earlier run, and an app that made its list today is not to be refused for that.
    fn taken_at(&self, list: &WatchList, now: UnixMillis) -> UnixMillis {
        let first = UnixMillis::new(list.expiry.get().saturating_sub(WATCH_LIFETIME_MS_MAX));
        now.max(first.min(self.time.shown()))
    }

    /// Takes a watch-list; a new one if `admit` says so. When this returns, it is on the disk.
    pub(crate) fn import(
        &mut self,
        desk: &Desk<'_>,
        list: WatchList,
        admit: impl FnOnce() -> Result<(), u64>,
    ) -> Result<Result<(), ImportRefused>, StoreError> {
        if let Err(ahead) = list.check_size(self.signed_size_max) {
            return Ok(Err(ahead.into()));
        }
        let (replay, now) = (&self.replay, self.taken_at(&list, desk.now));
        match self.watches.import(list, now, replay.size(), |label| replay.place(label), admit) {
            Ok(plan) => self.carry_out(desk, plan).map(Ok),
            Err(refused) => Ok(Err(refused)),
        }
    }

    fn carry_out(&mut self, desk: &Desk<'_>, plan: Plan) -> Result<(), StoreError> {
        if !plan.is_empty() {
            desk.commit(&self.target.origin, self.batch(&plan, desk.now))?;
            self.watches.install(plan);
        }
        Ok(())
    }

    /// What a plan asks to be stored.
    fn batch(&self, plan: &Plan, now: UnixMillis) -> Batch {
        Batch {
            journals: plan.journals().map(|(id, journal)| (*id, journal.cloned())).collect(),
            alerts: plan.alerts.iter().filter_map(|alert| self.raised(alert, now)).collect(),
            ..Batch::default()
        }
    }

    /// An alert as it is stored, with the holder of its list: who else may read it.
    fn raised(&self, alert: &Alert, now: UnixMillis) -> Option<Raised> {
        let (Alert::Unexpected { id, .. } | Alert::Expired { id }) = alert;
        // Its list is there until the plan is installed.
        let holder = self.watches.holder(id)?;
        Some(Raised { list: *id, holder, record: alert_record(alert, &self.target.origin, now) })
    }

    pub(crate) fn status(&self) -> LogStatus {
        LogStatus {
            origin: self.target.origin.to_string(),
            url: self.target.url.clone(),
            condition: match self.condition {
                Condition::Unmet | Condition::Contradicted => self.condition,
                _ if self.is_stale(self.time.now()) => Condition::Stale,
                Condition::Good if self.notices.stands(&Subject::Tiles) => Condition::Damaged,
                condition => condition,
            },
            verified_size: self.replay.size(),
            map_root: self.replay.map().root().to_hex(),
            head_time: self.replay.last_head().map(|(_, head)| head.time.get()),
            replayed_changes: self.replay.map().len(),
            cosignatures: self.cosignatures,
            quorum_age_s: self.quorum.map(|t| self.time.shown().floor_seconds().since(t)),
            last_success_ms: self.last_success.map(UnixMillis::get),
            lag: self.signed_size_max.saturating_sub(self.replay.size()),
            views: self.views.iter().zip(&self.target.copies).map(|(v, c)| v.status(&c.witness)).collect(),
            findings: self.found.len(),
            notices: self.notices.texts().count(),
        }
    }
}

fn alert_record(alert: &Alert, origin: &Origin, now: UnixMillis) -> AlertRecord {
    let (kind, id, hit, what_to_do) = match alert {
        Alert::Unexpected { id, place, time } => (
            AlertKind::Unexpected,
            id,
            Some((place, time)),
            "A change was logged for what this list watches, and nobody claimed it in time. Open the record in each of \
             your apps and see what changed and by whose authority. If it was none of you: remove it after a fresh proof \
             of possession, and tell your providers.",
        ),
        Alert::Expired { id } => (
            AlertKind::Expired,
            id,
            None,
            "This list has run out: nobody watches for its labels any more. Let the app that made it renew it.",
        ),
    };
    AlertRecord {
        id: 0,
        kind,
        list: data_encoding::HEXLOWER.encode(&id.0),
        origin: origin.to_string(),
        entry: hit.map(|(place, _)| place.index),
        leaf: hit.map(|(place, _)| place.leaf.to_hex()),
        head_time_ms: hit.map(|(_, time)| time.get()),
        raised_ms: now.get(),
        what_to_do: what_to_do.to_owned(),
    }
}
