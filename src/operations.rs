//! What a DP tells its operators: whether it is ready and why not, and what it counts. No identifier, no account, no tag is
//! among it, nor whether anybody was found.

use std::sync::Arc;

use axum::{
    Router,
    extract::{MatchedPath, Request},
    middleware,
};
use tokio::sync::watch;
use waymark_log::{
    cosignature,
    key::Key,
    note::Note,
    policy::{Freshness, Policy},
};
use waymark_mapping::{
    entry::{HEAD_INTERVAL_MS_MAX, ProviderRole},
    names::Domain,
    trust::SKEW_S_DEFAULT,
};
use waymark_runtime::{
    clock::Clock,
    metrics::{Count, Counts, Durations, Meter, outcome},
    operations::Reason,
};

use crate::{
    dp::REFRESH,
    published::{Answering, Snapshot},
    sequencer::{dating::Untimed, pool::Pool},
};

/// How much later than promised the last head may be, in milliseconds: what a batch and its witnesses take, with much to
/// spare.
const LATE_MS_MAX: u64 = 30_000;

/// How batches go: how long their steps take, and how many were dropped.
#[derive(Clone, Debug)]
pub struct BatchMetrics {
    /// To compute a batch, judge it, store it and sign it.
    pub commit: Durations,
    /// To have it cosigned.
    pub witnesses: Durations,
    /// Batches with which monitors would have found fault: never signed.
    pub dropped: Count,
    /// Deletions that were due and left out, since a record is damaged.
    pub purges_skipped: Count,
}

impl BatchMetrics {
    /// Registered with a meter.
    pub fn new(meter: &Meter) -> Self {
        let commit = "Time to compute a batch, to judge it as monitors do, to store it durably and to sign it";
        let witnesses = "Time from a signed checkpoint to its quorum of cosignatures";
        Self {
            commit: meter.durations("batch_commit_seconds", commit),
            witnesses: meter.durations("batch_witnesses_seconds", witnesses),
            dropped: meter
                .count("batches_dropped", "Batches that were not signed, since monitors would find fault with them"),
            purges_skipped: meter
                .count("purges_skipped", "Deletions that were due and were not made, since a record is damaged"),
        }
    }
}

/// The parts of a DP that show how it is.
pub struct Parts {
    /// The time.
    pub clock: Clock,
    /// What is published.
    pub answering: Arc<Answering>,
    /// What waits.
    pub pool: Arc<Pool>,
    /// Whose cosignatures count.
    pub policy: Policy,
    /// Why the sequencer stopped, if it did.
    pub stopped: watch::Receiver<Option<String>>,
    /// Why no head is signed now, if none is.
    pub untimed: watch::Receiver<Option<Untimed>>,
    /// Time between batches, milliseconds.
    pub interval_ms: u32,
    /// The DP's own key as a prover.
    pub own_prover: (Domain, Key),
}

impl Parts {
    /// Why the DP is not ready; nothing if it is. Reads the stores.
    pub fn look(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if self.stopped.borrow().is_some() {
            let what = "Nothing is signed any more, and the program ends. Its log says why; the next start reads back what is there.";
            reasons.push(Reason::new("sequencer-stopped", what));
        }
        if let Some(why) = *self.untimed.borrow() {
            let what = format!("{why}. See which clock is wrong and set it right: the log then goes on by itself.");
            reasons.push(Reason::new("clock", what));
        }
        if let Some(why) = self.pool.full() {
            let what = format!(
                "The log waits for room on the disk and goes on by itself when there is some; look-ups go on: {why}."
            );
            reasons.push(Reason::new("storage-full", what));
        }
        match self.answering.published.snapshot() {
            None => {
                let what = "No checkpoint has met the quorum of witnesses yet. See whether they can be reached.";
                reasons.push(Reason::new("nothing-published", what));
            }
            Some(snapshot) => reasons.extend(self.look_at(&snapshot)),
        }
        // No such row, which only a store that can be read knows.
        let rows = self.answering.rows.row(&[0; 32], 0).map(drop);
        if rows.and_then(|()| self.answering.files.checkpoint().map(drop)).is_err() {
            reasons.push(Reason::new("store-failed", "A store cannot be read. Look at the disk, then at `fsck`."));
        }
        reasons
    }

    fn look_at(&self, snapshot: &Snapshot) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let promised_ms = HEAD_INTERVAL_MS_MAX + u64::from(self.interval_ms);
        if self.age_ms(snapshot) > promised_ms + LATE_MS_MAX {
            let what = format!("The last published head is older than the {} s that are promised.", promised_ms / 1000);
            reasons.push(Reason::new("checkpoint-old", what));
        }
        if snapshot.head.time > self.clock.now().plus_ms(SKEW_S_DEFAULT * 1000) {
            let what = "The published head is dated after the clock of this machine. Set the clock right.";
            reasons.push(Reason::new("head-of-the-future", what));
        }
        let (domain, key) = &self.own_prover;
        if !snapshot.providers.is_valid(domain, ProviderRole::PROVER, key, snapshot.head.time) {
            let what = "The log holds no valid entry of the DP's own prover key: nobody can register with a code from here. The entry \
                        waits in providers/incoming; if it lies in providers/refused, the DP's log says why.";
            reasons.push(Reason::new("prover-not-logged", what));
        }
        let freshness = Freshness { max_age_s: 2 * REFRESH.as_secs(), skew_s: SKEW_S_DEFAULT };
        if self.policy.judge(snapshot.checkpoint.as_bytes(), self.clock.now().floor_seconds(), freshness).is_err() {
            let what =
                format!("The quorum of witnesses is older than {} s. Clients soon refuse it.", freshness.max_age_s);
            reasons.push(Reason::new("quorum-missed", what));
        }
        reasons
    }

    fn age_ms(&self, snapshot: &Snapshot) -> u64 {
        self.clock.now().since(snapshot.head.time)
    }

    /// Has it all shown by a meter.
    pub fn show(self: &Arc<Self>, meter: &Meter) {
        let read = |value: fn(&Self) -> Option<f64>| {
            let parts = Arc::clone(self);
            move || value(&parts)
        };
        let size = |parts: &Self| Some(parts.answering.published.snapshot()?.size as f64);
        meter.gauge("log_size", "Entries in the published log", read(size));
        // Not saturating: a head of the future has an age below zero.
        let age = |parts: &Self| {
            let head = parts.answering.published.snapshot()?.head.time;
            Some((parts.clock.now().get() as f64 - head.get() as f64) / 1000.0)
        };
        meter.gauge(
            "checkpoint_age_seconds",
            "Age of the head that is published; below zero if it is of the future",
            read(age),
        );
        let pending = |parts: &Self| Some(parts.pool.waiting() as f64);
        meter.gauge("pool_pending", "Changes that wait for a batch", read(pending));
        let parts = Arc::clone(self);
        let help = "Age of a witness's cosignature on the published checkpoint, below zero if it is of the future; none while it bears none";
        meter.gauges("cosignature_age_seconds", help, "witness", move || parts.cosignature_ages());
    }

    fn cosignature_ages(&self) -> Vec<(String, f64)> {
        let Some(snapshot) = self.answering.published.snapshot() else { return Vec::new() };
        let Ok(note) = Note::parse(snapshot.checkpoint.as_bytes()) else { return Vec::new() };
        let now = self.clock.now().floor_seconds().get();
        let age = |time: u64| now as f64 - time as f64;
        let witnesses = self.policy.witnesses().iter();
        witnesses.filter_map(|w| Some((w.name.clone(), age(cosignature::check(&note, &w.vkey).ok()??.get())))).collect()
    }
}

/// Has requests counted: all by route and status, and those of the directory by how they ended.
pub fn count_requests(meter: &Meter, router: Router) -> Router {
    let ended = Arc::new(Ended::new(meter));
    let counted = middleware::from_fn(move |route: Option<MatchedPath>, request: Request, next: middleware::Next| {
        let ended = Arc::clone(&ended);
        async move {
            let response = next.run(request).await;
            if let Some((counts, well)) = route.as_ref().and_then(|r| ended.of(r.as_str())) {
                counts.add(outcome(&response).unwrap_or(well));
            }
            response
        }
    });
    meter.count_requests(router.layer(counted))
}

/// How requests ended: by the code of their problem, or well. A look-up that was answered says so, whoever was found or not.
struct Ended {
    lookups: Counts,
    changes: Counts,
    challenges: Counts,
}

impl Ended {
    fn new(meter: &Meter) -> Self {
        let counts = |name, help| meter.counters(name, help, "outcome");
        Self {
            lookups: counts("lookups", "Look-ups, by problem code or `answered`"),
            changes: counts("changes", "Requests for changes, by problem code or `published`"),
            challenges: counts("challenges", "Challenges that were started or checked, by problem code or how it went"),
        }
    }

    /// Where a route's requests are counted, and the word for those that ended well.
    fn of(&self, route: &str) -> Option<(&Counts, &'static str)> {
        match route {
            "/v1/lookups" => Some((&self.lookups, "answered")),
            "/v1/changes" | "/v1/revocations" | "/v1/imports" => Some((&self.changes, "published")),
            "/v1/challenges" => Some((&self.challenges, "started")),
            "/v1/challenges/{id}/check" => Some((&self.challenges, "checked")),
            "/v1/challenges/{id}/send" => Some((&self.challenges, "sent-again")),
            "/v1/challenges/{id}/confirm" => Some((&self.challenges, "confirmed")),
            _ => None,
        }
    }
}
