//! What has happened to one watch-list, as the operations that led there.
//!
//! [`WatchBook`] is a pure state machine that shows neither the deadlines of its hits nor the labels it still awaits. So
//! what is stored is not its state but what was done to it, with the times at which it was done: the same operations lead
//! to the same book again, deadlines included. There is one book for each list, so that one journal is short; and
//! [`Journal::compact`] replaces a journal by a shorter one only if that leads to an equal book.

use serde::{Deserialize, Serialize};
use waymark_log::{checkpoint::Origin, hash::Hash, key::Key, time::UnixMillis};
use waymark_mapping::{
    audit::Replayed,
    label::Label,
    watch::{Alert, Place, WatchBook, WatchList, WatchRefused},
};

/// Most alerts that are remembered for one list, so that none is raised again by a renewal that still watches for its
/// label: four lists' worth of labels.
const TOLD_MAX: usize = 256;

/// Hashes as hex.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use waymark_log::hash::Hash;

    pub(super) fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hash.to_hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        Hash::from_hex(&text).ok_or_else(|| D::Error::custom("not a hash in hex"))
    }
}

/// Watch-lists as base64.
mod list {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use waymark_mapping::watch::WatchList;

    pub(super) fn serialize<S: Serializer>(list: &WatchList, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&list.encode()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<WatchList>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(D::Error::custom)?;
        WatchList::decode(&bytes).map(Box::new).map_err(D::Error::custom)
    }
}

/// An entry of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct At {
    pub(crate) index: u64,
    #[serde(with = "hex")]
    pub(crate) leaf: Hash,
}

impl From<Place> for At {
    fn from(place: Place) -> Self {
        Self { index: place.index, leaf: place.leaf }
    }
}

impl From<At> for Place {
    fn from(at: At) -> Self {
        Self { index: at.index, leaf: at.leaf }
    }
}

/// A label that was in the map when its list came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seen {
    #[serde(with = "hex")]
    pub(crate) label: Hash,
    pub(crate) at: At,
    pub(crate) head_ms: u64,
}

/// One thing that was done to a book.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Op {
    /// A list came.
    Import {
        now_ms: u64,
        replayed: u64,
        seen: Vec<Seen>,
        #[serde(with = "list")]
        list: Box<WatchList>,
    },
    /// A label of the list was logged.
    Change {
        at: At,
        #[serde(with = "hex")]
        label: Hash,
        head_ms: u64,
        now_ms: u64,
    },
    /// Time went by.
    Tick { replayed: u64, now_ms: u64 },
}

impl Op {
    pub(crate) fn change(change: &Replayed, now: UnixMillis) -> Self {
        let (at, head_ms) = (change.place.into(), change.head.get());
        Self::Change { at, label: change.label.0, head_ms, now_ms: now.get() }
    }

    /// The one place where anything is done to a book, the first time and every time after.
    fn apply(&self, book: &mut WatchBook) -> Result<Vec<Alert>, WatchRefused> {
        match self {
            Self::Import { now_ms, replayed, seen, list } => {
                let find = |label: &Label| {
                    let seen = seen.iter().find(|s| s.label == label.0)?;
                    Some((seen.at.into(), UnixMillis::new(seen.head_ms)))
                };
                book.import((**list).clone(), UnixMillis::new(*now_ms), *replayed, find)?;
                Ok(Vec::new())
            }
            Self::Change { at, label, head_ms, now_ms } => {
                let (head, now) = (UnixMillis::new(*head_ms), UnixMillis::new(*now_ms));
                book.on_change((*at).into(), &Label(*label), head, now);
                Ok(Vec::new())
            }
            Self::Tick { replayed, now_ms } => Ok(book.tick(*replayed, UnixMillis::new(*now_ms))),
        }
    }
}

/// The operations on one list and what follows from them alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    /// How long a hit may be claimed, for as long as this journal is not compacted.
    renew_within_ms: u64,
    ops: Vec<Op>,
    /// Entries that an alert was raised for under this list's name.
    told: Vec<At>,
}

impl Journal {
    /// Whose the list is.
    pub(crate) fn holder(&self) -> Option<Key> {
        let import = |op: &Op| if let Op::Import { list, .. } = op { Some(list.holder) } else { None };
        self.ops.iter().rev().find_map(import)
    }

    /// The book that the operations lead to.
    fn book(&self, origin: &Origin) -> Result<WatchBook, WatchRefused> {
        let mut book = WatchBook::new(origin.clone(), self.renew_within_ms);
        for op in &self.ops {
            // What a tick raises here was stored together with the tick.
            op.apply(&mut book)?;
        }
        Ok(book)
    }

    /// Leaves the last list alone, or that and the last tick, if it leads to `book` as well.
    fn compact(&mut self, book: &WatchBook, origin: &Origin, renew_within_ms: u64) {
        let Some(last) = self.ops.iter().rposition(|op| matches!(op, Op::Import { .. })) else { return };
        let mut import = self.ops[last].clone();
        if let Op::Import { seen, .. } = &mut import {
            seen.clear();
        }
        let tick = self.ops[last..].iter().rev().find(|op| matches!(op, Op::Tick { .. })).cloned();
        let with_tick = tick.map(|tick| vec![import.clone(), tick]);
        for ops in [Some(vec![import]), with_tick].into_iter().flatten() {
            let shorter = Self { renew_within_ms: self.renew_within_ms, ops, told: Vec::new() };
            if shorter.ops == self.ops || shorter.book(origin).is_ok_and(|b| b == *book) {
                self.ops = shorter.ops;
                // Nothing that is left makes a hit, so no deadline runs: the time is as the configuration says now.
                self.renew_within_ms = renew_within_ms;
                return;
            }
        }
    }
}

/// One list: its journal, and what is often asked. The book is made when it is needed, which is rare, and takes more
/// memory than all the rest.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    journal: Journal,
    open_hits: usize,
    /// Whether the book has let go of the list, because its holder has retired it.
    is_over: bool,
}

impl Watched {
    /// A name under which no list was taken yet.
    pub(crate) const fn new(renew_within_ms: u64) -> Self {
        Self { journal: Journal { renew_within_ms, ops: Vec::new(), told: Vec::new() }, open_hits: 0, is_over: false }
    }

    /// The list that a stored journal leads to; hits from now on have `renew_within_ms`.
    pub(crate) fn restore(mut journal: Journal, origin: &Origin, renew_within_ms: u64) -> Result<Self, WatchRefused> {
        let book = journal.book(origin)?;
        journal.compact(&book, origin, renew_within_ms);
        Ok(Self { journal, open_hits: book.open_hits(), is_over: book.is_empty() })
    }

    pub(crate) const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The list that counts: the last one that was taken.
    pub(crate) fn list(&self) -> Option<&WatchList> {
        self.imports().last().map(|(_, _, list)| list)
    }

    /// Hits that may still be claimed.
    pub(crate) const fn open_hits(&self) -> usize {
        self.open_hits
    }

    /// Whether its holder has retired the list and nothing of it is open any more.
    pub(crate) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Does something to the list and says which alerts follow. `None` if nothing changed, and nothing is to be stored.
    ///
    /// # Errors
    /// What the book says to an import; other operations are never refused.
    pub(crate) fn take(
        &mut self,
        op: Op,
        origin: &Origin,
        renew_within_ms: u64,
    ) -> Result<Option<Vec<Alert>>, WatchRefused> {
        let before = self.journal.book(origin)?;
        let mut book = before.clone();
        let alerts = op.apply(&mut book)?;
        if book == before {
            return Ok(None);
        }
        let journal = &mut self.journal;
        journal.ops.push(op);
        let told = alerts.iter().filter_map(|a| match a {
            Alert::Unexpected { place, .. } => Some(At::from(*place)),
            Alert::Expired { .. } => None,
        });
        journal.told.extend(told);
        let surplus = journal.told.len().saturating_sub(TOLD_MAX);
        journal.told.drain(..surplus);
        journal.compact(&book, origin, renew_within_ms);
        (self.open_hits, self.is_over) = (book.open_hits(), book.is_empty());
        Ok(Some(alerts))
    }

    /// Whether an alert was raised for this entry before.
    pub(crate) fn has_told(&self, at: At) -> bool {
        self.journal.told.contains(&at)
    }

    /// Whether one of the lists in the journal claims this entry. The book remembers the last claim only; a holder who
    /// renewed twice while the replay lagged has made two.
    pub(crate) fn claims(&self, leaf: &Hash) -> bool {
        self.imports().any(|(_, _, list)| list.renews.0.as_ref() == Some(leaf))
    }

    /// Lists in the journal: more than one as long as a hit is open or a claimed entry awaited.
    pub(crate) fn imports(&self) -> impl Iterator<Item = (UnixMillis, u64, &WatchList)> {
        self.journal.ops.iter().filter_map(|op| match op {
            Op::Import { now_ms, replayed, list, .. } => Some((UnixMillis::new(*now_ms), *replayed, &**list)),
            Op::Change { .. } | Op::Tick { .. } => None,
        })
    }

    /// Every label that can matter to the book, and perhaps some that no longer do.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &Label> {
        self.imports().flat_map(|(_, _, list)| list.labels.iter())
    }

    /// When a hit can have become overdue.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = UnixMillis> {
        let window = self.journal.renew_within_ms;
        self.journal.ops.iter().filter_map(move |op| match op {
            Op::Change { now_ms, .. } => Some(UnixMillis::new(*now_ms).plus_ms(window)),
            Op::Import { now_ms, seen, .. } if !seen.is_empty() => Some(UnixMillis::new(*now_ms).plus_ms(window)),
            Op::Import { .. } | Op::Tick { .. } => None,
        })
    }
}
