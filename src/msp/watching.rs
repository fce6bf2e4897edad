//! Watching for an MSP's users: the log's entries, checked to lead to a cosigned root, against their blind watch-lists.
//!
//! No replay of the map and no judgement on the log: that is a monitor's work. Here it is enough that the entries are those
//! that the witnesses' quorum stands for, and that the log only grows.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use waymark_log::{
    checkpoint::Origin,
    hash::{Hash, leaf_hash},
    range::CompactRange,
    time::UnixMillis,
};
use waymark_mapping::{
    entry::Entry,
    label::Label,
    trust::Trust,
    watch::{Alert, Place, WatchBook, WatchList, WatchRefused},
};
use waymark_runtime::{clock::Clock, fetch::Fetcher, follow::LogReader};

/// Why a list is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ImportRefused {
    /// By the rules of watch-lists.
    #[error(transparent)]
    Rule(#[from] WatchRefused),
    /// There is no room.
    #[error("no more lists are held here")]
    Full,
}

/// Most watch-lists kept.
const LISTS_MAX: usize = 1_000_000;

struct Inner {
    book: WatchBook,
    range: CompactRange,
    places: HashMap<Label, (Place, UnixMillis)>,
    unexpected: Vec<Hash>,
}

/// The watch of one MSP over one log.
pub struct Watching {
    inner: Mutex<Inner>,
}

impl Watching {
    /// Nothing watched and nothing read.
    pub fn new(origin: Origin, renew_within_ms: u64) -> Self {
        let book = WatchBook::new(origin, renew_within_ms);
        let inner = Inner { book, range: CompactRange::new(), places: HashMap::new(), unexpected: Vec::new() };
        Self { inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of lists.
    pub fn lists(&self) -> usize {
        self.inner().book.len()
    }

    /// Entries read.
    pub fn size(&self) -> u64 {
        self.inner().range.size()
    }

    /// Entries that nobody claimed, by leaf hash, each once.
    pub fn unexpected(&self) -> Vec<Hash> {
        self.inner().unexpected.clone()
    }

    /// Takes a user's list.
    ///
    /// # Errors
    /// [`ImportRefused`].
    pub fn import(&self, list: WatchList, now: UnixMillis) -> Result<(), ImportRefused> {
        let mut inner = self.inner();
        let Inner { book, range, places, .. } = &mut *inner;
        // Whoever is in may renew: a renewal that is refused would end in an alert.
        if book.len() >= LISTS_MAX && !book.holds(&list.id) {
            return Err(ImportRefused::Full);
        }
        Ok(book.import(list, now, range.size(), |label| places.get(label).copied())?)
    }

    /// Follows the log until it is aborted.
    pub async fn follow(&self, fetcher: Fetcher, url: &str, trust: &Trust, poll_ms: u64, clock: &Clock) {
        let reader = LogReader::new(fetcher, url);
        let mut every = tokio::time::interval(Duration::from_millis(poll_ms));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            if let Err(why) = self.step(&reader, trust, clock).await {
                tracing::debug!(why, "the log could not be followed; trying on");
            }
            self.tick(clock.now());
        }
    }

    /// Reads what is new, if the checkpoint meets the policy and the entries lead to its root.
    async fn step(&self, reader: &LogReader, trust: &Trust, clock: &Clock) -> Result<(), String> {
        let note = reader.checkpoint().await.map_err(|e| e.to_string())?;
        let now = clock.now();
        let judged = trust.policy().judge(&note, now.floor_seconds(), trust.freshness());
        let cosigned = judged.map_err(|e| e.to_string())?;
        let mut range = self.inner().range.clone();
        let first = range.size();
        if cosigned.size() <= first {
            return Ok(());
        }
        let mut entries = Vec::new();
        reader.entries(first, cosigned.size(), |more| entries.extend(more)).await.map_err(|e| e.to_string())?;
        entries.iter().for_each(|e| range.append(leaf_hash(e)));
        if range.root() != *cosigned.root() {
            return Err("the entries do not lead to the cosigned root".to_owned());
        }
        self.take(first, &entries, range, clock.now());
        Ok(())
    }

    /// Feeds new entries to the lists. Changes take effect with the head after them.
    fn take(&self, first: u64, entries: &[Vec<u8>], range: CompactRange, now: UnixMillis) {
        let mut inner = self.inner();
        inner.range = range;
        let mut pending = Vec::new();
        for (index, bytes) in (first..).zip(entries) {
            match Entry::decode(bytes) {
                Ok(Entry::Change(change)) => pending.push((Place { index, leaf: leaf_hash(bytes) }, change.label)),
                Ok(Entry::Head(head)) => {
                    for (place, label) in pending.drain(..) {
                        inner.places.insert(label, (place, head.time));
                        inner.book.on_change(place, &label, head.time, now);
                    }
                }
                _ => {}
            }
        }
    }

    fn tick(&self, now: UnixMillis) {
        let mut inner = self.inner();
        let size = inner.range.size();
        for alert in inner.book.tick(size, now) {
            if let Alert::Unexpected { place, .. } = alert
                && !inner.unexpected.contains(&place.leaf)
            {
                tracing::warn!(entry = place.index, "a user's watch-list was hit and nobody claimed it");
                inner.unexpected.push(place.leaf);
            }
        }
    }
}
