//! Blind watch-lists: who holds one sees a change of a CSI in the public log without knowing the CSI and without asking the DP.
//!
//! ```text
//! struct { uint8 format = 1; opaque origin<1..255>; opaque id[16]; Key holder; uint64 size; Hash root; Ms made; Ms expiry;
//!          Label labels<0..2^11>; Hash renews?; Extension extensions<0..2^10>; Sig sig; }              WatchList
//! ```
//!
//! `labels` are those that must be absent while the version the holder knows is the latest ([`crate::ladder::watched`]):
//! VRF outputs, never proofs, since a proof would let its reader test guesses. `size` and `root` are the tree they were
//! proved absent in. A newer version that any sender accepts must hit one of them. A list without labels retires the one of
//! the same name. `renews` is the leaf hash of the change entry that this renewal claims; it lies below `size`.
//!
//! A **hit** is expected only if the same holder renews the list within `renew_within_ms`, naming the very entry that hit.
//! Everything else becomes one alert. [`WatchBook`] is that rule as a pure state machine: lists and entries in, alerts out.

use std::collections::{BTreeMap, HashMap};

use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::{BadSignature, Key, Signature},
    time::UnixMillis,
};

use crate::{
    entry::{ENTRIES_PER_HEAD_MAX, OriginText},
    label::Label,
    rules::SKEW_MS,
    signed::{SignedStruct, context, signed_struct},
    wire::{Extensions, Format, List24, Optional24, Undecoded, decode, encode},
};

/// Media type of a watch-list.
pub const WATCH_LIST_MEDIA_TYPE: &str = "application/vnd.waymark.watch-list";
/// Most bytes in an encoded watch-list.
pub const WATCH_LIST_BYTES_MAX: usize = 4096;
/// Longest a list may be held without renewal: as long as a mapping lives.
pub const WATCH_LIFETIME_MS_MAX: u64 = crate::mapping::MAPPING_LIFETIME_MS_MAX;
/// How long a holder has to claim a hit, unless the monitor says otherwise: ten minutes.
pub const RENEW_WITHIN_MS_DEFAULT: u64 = 600_000;

/// Longest that a label may have been in the log when a new list comes that was made before: an hour. An app asks the DP and hands
/// its list in within minutes; what happened in between raises the alert that its holder wants.
pub const OVERTAKEN_MS_MAX: u64 = 3_600_000;

/// How far the tree that a list names may be beyond what its watcher has seen signed: as many entries as stand between two heads,
/// which an app may have seen a moment earlier.
pub const AHEAD_MAX: u64 = ENTRIES_PER_HEAD_MAX as u64;
/// Most renewals of one list that wait for the entries they claim: each keeps the labels of the list before watched.
pub const RENEWALS_OPEN_MAX: usize = 4;

/// Names a list; drawn at random by its holder, who renews under the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct WatchId(pub [u8; 16]);

/// Where an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// Its index.
    pub index: u64,
    /// Its leaf hash.
    pub leaf: Hash,
}

/// Labels to watch for.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct WatchList {
    /// The version of the format.
    pub format: Format,
    /// In which log.
    pub origin: OriginText,
    /// The list's name.
    pub id: WatchId,
    /// Whose it is: a key of its own, unrelated to any recipient key.
    pub holder: Key,
    /// Size of the tree in which the labels were absent.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// When the list was made.
    pub made: UnixMillis,
    /// Until when it is to be watched.
    pub expiry: UnixMillis,
    /// The labels.
    pub labels: List24<Label, 2048>,
    /// The change entry that this renewal claims as the holder's own doing, by leaf hash. Its holder need not know its
    /// index: to fetch it would tell the DP whose it is.
    pub renews: Optional24<Hash>,
    /// What later versions add.
    pub extensions: Extensions,
    /// By the holder.
    pub sig: Signature,
}

signed_struct!(WatchList, context::WATCH_LIST);

impl WatchList {
    /// Reads a list. Nothing is verified.
    ///
    /// # Errors
    /// [`Undecoded`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Undecoded> {
        if bytes.len() > WATCH_LIST_BYTES_MAX {
            return Err(Undecoded::malformed("watch-list", "it is too large"));
        }
        decode("watch-list", bytes)
    }

    /// The list's bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Checks the holder's signature.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self) -> Result<(), BadSignature> {
        self.verify_by(&self.origin.get(), &self.holder)
    }

    /// Whether a list that nobody holds yet comes too late for one of its labels. `seen` says under which entry a label is logged.
    ///
    /// A label below `size` was logged in the very tree in which the list says that it is absent. A label at `size` or above has
    /// overtaken the list: for an hour that is what the list is there to tell, and later the list is old. Without this, anybody
    /// could watch for labels that everybody sees in the log, and raise as many alerts.
    ///
    /// # Errors
    /// [`WatchRefused::Logged`].
    pub fn check_new(
        &self,
        now: UnixMillis,
        seen: impl Fn(&Label) -> Option<(Place, UnixMillis)>,
    ) -> Result<(), WatchRefused> {
        let is_late =
            |(place, head): (Place, UnixMillis)| place.index < self.size || now.since(head) > OVERTAKEN_MS_MAX;
        if self.labels.iter().filter_map(seen).any(is_late) { Err(WatchRefused::Logged) } else { Ok(()) }
    }

    /// Whether the list names a tree that its watcher cannot know of yet. `signed` is the largest that the watcher has seen signed.
    ///
    /// `size` says how long a renewal waits for the entry that it claims. A size that the log never reaches would make it wait
    /// for ever, and every renewal after it.
    ///
    /// # Errors
    /// [`WatchRefused::Ahead`].
    pub fn check_size(&self, signed: u64) -> Result<(), WatchRefused> {
        if self.size > signed.saturating_add(AHEAD_MAX) { Err(WatchRefused::Ahead) } else { Ok(()) }
    }
}

/// Why a list is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WatchRefused {
    /// Of another log.
    #[error("the list is for another log")]
    OtherLog,
    /// Not signed by its holder.
    #[error("the holder has not signed the list")]
    Signature,
    /// No labels, or over, or for longer than allowed.
    #[error("the list has no labels, is over, or asks for longer than 180 days")]
    Lifetime,
    /// Its name belongs to another holder, or a later list stands under it.
    #[error("another or a later list stands under this name")]
    Superseded,
    /// New, and one of its labels is logged already: see [`WatchList::check_new`].
    #[error("a label of the new list is in the log already")]
    Logged,
    /// It names a larger tree than was seen signed: see [`WatchList::check_size`]. Later it may be taken.
    #[error("the list names a larger tree than the log was seen to sign")]
    Ahead,
    /// As many renewals as may wait for the entries they claim do so. Later it may be taken.
    #[error("{RENEWALS_OPEN_MAX} renewals of the list wait for the entries that they claim")]
    Open,
}

/// Something that somebody should look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Alert {
    /// A watched label appeared and nobody claimed it in time.
    Unexpected {
        /// The list.
        id: WatchId,
        /// The entry that hit it.
        place: Place,
        /// When the entry's head was made.
        time: UnixMillis,
    },
    /// A list has run out.
    Expired {
        /// The list.
        id: WatchId,
    },
}

/// A hit that its holder may still claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Hit {
    place: Place,
    time: UnixMillis,
    deadline: UnixMillis,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Watched {
    list: WatchList,
    hits: Vec<Hit>,
    /// Labels of the list before, while the entry that the renewal claims has not been seen yet.
    awaited: Option<Awaited>,
    expiry_told: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Awaited {
    /// The entry that is claimed.
    leaf: Hash,
    /// It lies below this size.
    below: u64,
    labels: Vec<Label>,
    /// Renewals one after the other, none of which the replay had reached when the next came.
    renewals: usize,
}

/// All lists of one log and what has happened to them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchBook {
    origin: Origin,
    renew_within_ms: u64,
    lists: BTreeMap<WatchId, Watched>,
    /// Which lists watch a label.
    by_label: HashMap<Label, Vec<WatchId>>,
}

impl WatchBook {
    /// No lists.
    pub fn new(origin: Origin, renew_within_ms: u64) -> Self {
        Self { origin, renew_within_ms, lists: BTreeMap::new(), by_label: HashMap::new() }
    }

    /// The lists as they stand.
    pub fn lists(&self) -> impl Iterator<Item = &WatchList> {
        self.lists.values().map(|w| &w.list)
    }

    /// Number of lists.
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Whether a list stands under this name.
    pub fn holds(&self, id: &WatchId) -> bool {
        self.lists.contains_key(id)
    }

    /// Hits that may still be claimed.
    pub fn open_hits(&self) -> usize {
        self.lists.values().map(|w| w.hits.len()).sum()
    }

    /// Whether a list has a hit that may still be claimed, or claims an entry that was not replayed yet.
    pub fn is_open(&self, id: &WatchId) -> bool {
        self.lists.get(id).is_some_and(|w| !w.hits.is_empty() || w.awaited.is_some())
    }

    /// Whether a list that comes now is to be taken; `signed` is the largest tree that was seen signed. Besides what
    /// [`WatchBook::import`] refuses, which also reads what was taken before, it bounds what is open.
    ///
    /// # Errors
    /// [`WatchRefused`].
    pub fn check(&self, list: &WatchList, now: UnixMillis, signed: u64) -> Result<(), WatchRefused> {
        self.check_rules(list, now)?;
        list.check_size(signed)?;
        let open = self.lists.get(&list.id).and_then(|w| w.awaited.as_ref()).map_or(0, |a| a.renewals);
        // One that claims nothing waits for nothing, and ends the waiting.
        if list.renews.0.is_some() && open >= RENEWALS_OPEN_MAX { Err(WatchRefused::Open) } else { Ok(()) }
    }

    fn check_rules(&self, list: &WatchList, now: UnixMillis) -> Result<(), WatchRefused> {
        if list.origin.get() != self.origin {
            return Err(WatchRefused::OtherLog);
        }
        list.verify().map_err(|_| WatchRefused::Signature)?;
        // An app makes its list by its own clock, which may be as far ahead as clocks may differ.
        let longest = now.plus_ms(WATCH_LIFETIME_MS_MAX + SKEW_MS);
        let before = self.lists.get(&list.id);
        let nothing_to_do = list.labels.is_empty() && before.is_none();
        if nothing_to_do || list.expiry <= now || list.expiry > longest {
            return Err(WatchRefused::Lifetime);
        }
        if before.is_some_and(|b| b.list.holder != list.holder || b.list.made >= list.made) {
            return Err(WatchRefused::Superseded);
        }
        Ok(())
    }

    /// Takes a new list or a renewal.
    ///
    /// `seen` says under which entry a label is in the replayed map already, `replayed` how far the replay is. A label that
    /// is there already is a hit at once: a list that comes after the event must not sleep.
    ///
    /// # Errors
    /// [`WatchRefused`]; the book is then unchanged.
    pub fn import(
        &mut self,
        list: WatchList,
        now: UnixMillis,
        replayed: u64,
        seen: impl Fn(&Label) -> Option<(Place, UnixMillis)>,
    ) -> Result<(), WatchRefused> {
        self.check_rules(&list, now)?;
        let mut watched = Watched { list, hits: Vec::new(), awaited: None, expiry_told: false };
        if let Some(before) = self.lists.get(&watched.list.id) {
            watched.inherit(before, replayed);
        }
        let already: Vec<_> = watched.list.labels.iter().filter_map(seen).collect();
        for (place, time) in already {
            watched.hit(place, time, now.plus_ms(self.renew_within_ms));
        }
        self.put(watched);
        Ok(())
    }

    /// A change was replayed. The deadline runs from `now`, the time at which the hit could first be known.
    pub fn on_change(&mut self, place: Place, label: &Label, head: UnixMillis, now: UnixMillis) {
        let Some(ids) = self.by_label.get(label) else { return };
        for id in ids.clone() {
            if let Some(watched) = self.lists.get_mut(&id) {
                let claimed = watched.awaited.as_ref().is_some_and(|a| a.leaf == place.leaf);
                if !claimed {
                    watched.hit(place, head, now.plus_ms(self.renew_within_ms));
                }
            }
        }
    }

    /// The replay has come to `replayed` entries and the time is `now`: what is overdue becomes an alert, once.
    pub fn tick(&mut self, replayed: u64, now: UnixMillis) -> Vec<Alert> {
        let mut alerts = Vec::new();
        // Labels that a renewal left behind are dropped when the entry it claims has been passed.
        let passed = |w: &Watched| w.awaited.as_ref().is_some_and(|a| a.below <= replayed);
        for mut watched in self.lists.values().filter(|w| passed(w)).cloned().collect::<Vec<_>>() {
            watched.awaited = None;
            self.put(watched);
        }
        for (id, watched) in &mut self.lists {
            let (overdue, open): (Vec<Hit>, Vec<Hit>) = watched.hits.iter().partition(|h| h.deadline <= now);
            watched.hits = open;
            alerts.extend(overdue.into_iter().map(|h| Alert::Unexpected { id: *id, place: h.place, time: h.time }));
            if watched.list.expiry <= now && !watched.expiry_told && !watched.list.labels.is_empty() {
                watched.expiry_told = true;
                alerts.push(Alert::Expired { id: *id });
            }
        }
        // A retired list goes when nothing it watched for is open any more.
        self.lists.retain(|_, w| !w.list.labels.is_empty() || !w.hits.is_empty() || w.awaited.is_some());
        alerts
    }

    /// Lets go of the lists that ran out so long ago that no earlier list of the same name can come back: one that was made for the
    /// longest time allowed. What is open stays.
    pub fn forget_expired(&mut self, now: UnixMillis) {
        let is_past = |w: &Watched| w.list.expiry.plus_ms(WATCH_LIFETIME_MS_MAX) <= now;
        let past = self.lists.iter().filter(|(_, w)| is_past(w) && w.hits.is_empty() && w.awaited.is_none());
        for id in past.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.remove(&id);
        }
    }

    fn remove(&mut self, id: &WatchId) {
        let Some(before) = self.lists.remove(id) else { return };
        for label in before.labels() {
            if let Some(ids) = self.by_label.get_mut(label) {
                ids.retain(|i| i != id);
                if ids.is_empty() {
                    self.by_label.remove(label);
                }
            }
        }
    }

    /// Puts a list in the place of the one of the same name.
    fn put(&mut self, watched: Watched) {
        let id = watched.list.id;
        self.remove(&id);
        for label in watched.labels() {
            self.by_label.entry(*label).or_default().push(id);
        }
        self.lists.insert(id, watched);
    }
}

impl Watched {
    /// Every label that it watches for.
    fn labels(&self) -> impl Iterator<Item = &Label> {
        self.list.labels.iter().chain(self.awaited.iter().flat_map(|a| &a.labels))
    }

    /// What a renewal takes over from the list before it.
    fn inherit(&mut self, before: &Self, replayed: u64) {
        self.hits.clone_from(&before.hits);
        let Some(claim) = self.list.renews.0 else {
            // A renewal that claims nothing keeps every open hit open, and both sets of labels would be watched twice:
            // the new list's labels are the ones that matter.
            return;
        };
        self.hits.retain(|h| h.place.leaf != claim);
        if replayed < self.list.size {
            // The replay may not have reached the entry. Until it has, the old labels count, other than for that entry.
            let mut labels = before.list.labels.to_vec();
            labels.extend(before.awaited.iter().flat_map(|a| a.labels.iter().copied()));
            let renewals = 1 + before.awaited.as_ref().map_or(0, |a| a.renewals);
            self.awaited = Some(Awaited { leaf: claim, below: self.list.size, labels, renewals });
        }
    }

    fn hit(&mut self, place: Place, time: UnixMillis, deadline: UnixMillis) {
        if !self.hits.iter().any(|h| h.place == place) {
            self.hits.push(Hit { place, time, deadline });
        }
    }
}

#[cfg(test)]
mod tests {
    use waymark_log::key::SecretKey;

    use super::*;
    use crate::signed::UNSIGNED;

    const MINUTE: u64 = 60_000;

    fn ms(n: u64) -> UnixMillis {
        UnixMillis::new(n)
    }

    fn label(i: u8) -> Label {
        Label(Hash::sha256(&[&[i]]))
    }

    fn entry(index: u64) -> Place {
        Place { index, leaf: Hash::sha256(&[&index.to_be_bytes()]) }
    }

    fn list(made: u64, labels: &[u8], renews: Option<Place>) -> WatchList {
        let secret = SecretKey::from_seed(&[8; 32]);
        let origin = Origin::new("dp.example/log").unwrap();
        let mut list = WatchList {
            extensions: Extensions::NONE,
            format: Format,
            origin: (&origin).into(),
            id: WatchId([1; 16]),
            holder: secret.public(),
            size: renews.map_or(10, |place| place.index + 1),
            root: Hash::ZERO,
            made: ms(made),
            expiry: ms(1000 * MINUTE),
            labels: List24::new(labels.iter().map(|i| label(*i)).collect()).unwrap(),
            renews: Optional24(renews.map(|place| place.leaf)),
            sig: UNSIGNED,
        };
        list.sign(&origin, &secret);
        list
    }

    fn book() -> WatchBook {
        WatchBook::new(Origin::new("dp.example/log").unwrap(), 10 * MINUTE)
    }

    fn unseen(_: &Label) -> Option<(Place, UnixMillis)> {
        None
    }

    fn unexpected(alerts: &[Alert]) -> Vec<u64> {
        let index = |a: &Alert| match a {
            Alert::Unexpected { place, .. } => Some(place.index),
            Alert::Expired { .. } => None,
        };
        alerts.iter().filter_map(index).collect()
    }

    #[test]
    fn a_hit_nobody_claims_is_one_alert() {
        let mut book = book();
        book.import(list(1, &[1], None), ms(1), 10, unseen).unwrap();
        book.on_change(entry(20), &label(2), ms(5), ms(6));
        book.on_change(entry(21), &label(1), ms(5), ms(6));
        assert_eq!(unexpected(&book.tick(22, ms(6 + 10 * MINUTE - 1))), []);
        assert_eq!(unexpected(&book.tick(22, ms(6 + 10 * MINUTE))), [21]);
        assert_eq!(unexpected(&book.tick(22, ms(7 + 20 * MINUTE))), []);
    }

    #[test]
    fn a_renewal_that_names_the_entry_makes_it_expected() {
        // After the replay has seen it...
        let mut one = book();
        one.import(list(1, &[1], None), ms(1), 10, unseen).unwrap();
        one.on_change(entry(21), &label(1), ms(5), ms(6));
        one.import(list(2, &[2], Some(entry(21))), ms(7), 22, unseen).unwrap();
        assert_eq!(one.open_hits(), 0);
        // ...and before.
        let mut two = book();
        two.import(list(1, &[1], None), ms(1), 10, unseen).unwrap();
        two.import(list(2, &[2], Some(entry(21))), ms(7), 15, unseen).unwrap();
        two.on_change(entry(21), &label(1), ms(5), ms(8));
        assert_eq!(unexpected(&two.tick(22, ms(100 * MINUTE))), []);
        // The old labels are forgotten then, the new ones are watched.
        two.on_change(entry(30), &label(1), ms(9), ms(9));
        assert_eq!(two.open_hits(), 0);
        two.on_change(entry(31), &label(2), ms(9), ms(9));
        assert_eq!(two.open_hits(), 1);
    }

    #[test]
    fn a_renewal_that_names_another_entry_does_not() {
        let mut one = book();
        one.import(list(1, &[1], None), ms(1), 10, unseen).unwrap();
        one.on_change(entry(21), &label(1), ms(5), ms(6));
        one.import(list(2, &[2], Some(entry(20))), ms(7), 22, unseen).unwrap();
        assert_eq!(unexpected(&one.tick(22, ms(100 * MINUTE))), [21]);
        // Named in advance, but the old label turns up elsewhere.
        let mut two = book();
        two.import(list(1, &[1], None), ms(1), 10, unseen).unwrap();
        two.import(list(2, &[2], Some(entry(25))), ms(7), 15, unseen).unwrap();
        two.on_change(entry(21), &label(1), ms(5), ms(8));
        assert_eq!(unexpected(&two.tick(30, ms(100 * MINUTE))), [21]);
    }

    #[test]
    fn a_list_imported_after_its_label_was_used_fires() {
        let mut book = book();
        let seen = |l: &Label| (*l == label(1)).then(|| (entry(5), ms(3)));
        book.import(list(1, &[1, 2], None), ms(10), 20, seen).unwrap();
        assert_eq!(unexpected(&book.tick(20, ms(10 + 10 * MINUTE))), [5]);
    }

    #[test]
    fn a_new_list_may_be_overtaken_for_an_hour_and_says_nothing_false() {
        let checked = |at: u64, logged: u64, now: u64| {
            let seen = |l: &Label| (*l == label(1)).then(|| (entry(at), ms(logged)));
            list(1, &[2, 1], None).check_new(ms(now), seen).is_ok()
        };
        // The list names a tree of 10 entries.
        assert!(!checked(9, 1000, 1000), "logged in the tree that it names");
        assert!(checked(10, 1000, 1000) && checked(10, 1000, 1000 + OVERTAKEN_MS_MAX), "logged since");
        assert!(!checked(10, 1000, 1001 + OVERTAKEN_MS_MAX), "long ago");
        assert_eq!(list(1, &[2, 1], None).check_new(ms(1), unseen), Ok(()));
    }

    #[test]
    fn a_list_without_labels_retires_the_one_before_it() {
        let mut book = book();
        book.import(list(1, &[1], None), ms(1), 10, unseen).unwrap();
        book.on_change(entry(21), &label(1), ms(5), ms(6));
        // What was hit before stays open unless it is claimed.
        book.import(list(2, &[], None), ms(7), 22, unseen).unwrap();
        assert_eq!(unexpected(&book.tick(22, ms(100 * MINUTE))), [21]);
        assert!(book.is_empty());
        book.import(list(3, &[1], None), ms(8), 30, unseen).unwrap();
        book.import(list(4, &[], None), ms(9), 30, unseen).unwrap();
        assert_eq!(book.tick(30, ms(2000 * MINUTE)), []);
        assert!(book.is_empty());
    }

    #[test]
    fn expiry_is_told_once() {
        let mut book = book();
        book.import(list(1, &[1], None), ms(1), 10, unseen).unwrap();
        assert_eq!(book.tick(10, ms(999 * MINUTE)), []);
        assert_eq!(book.tick(10, ms(1000 * MINUTE)), [Alert::Expired { id: WatchId([1; 16]) }]);
        assert_eq!(book.tick(10, ms(1001 * MINUTE)), []);
        let gone = 1000 * MINUTE + WATCH_LIFETIME_MS_MAX;
        book.forget_expired(ms(gone - 1));
        assert!(book.holds(&WatchId([1; 16])));
        // A hit that is open stays open.
        book.on_change(entry(20), &label(1), ms(gone), ms(gone));
        book.forget_expired(ms(gone));
        assert!(book.holds(&WatchId([1; 16])));
        assert_eq!(book.tick(21, ms(gone + 20 * MINUTE)).len(), 1);
        book.forget_expired(ms(gone));
        assert!(book.is_empty() && book.by_label.is_empty());
    }

    #[test]
    fn renewals_that_wait_are_few_and_none_waits_for_a_tree_that_nobody_signed() {
        let mut book = book();
        book.check(&list(1, &[1], None), ms(1), 10).unwrap();
        book.import(list(1, &[1], None), ms(1), 10, unseen).unwrap();
        let claims = |made: u64, index: u64| list(made, &[2], Some(entry(index)));
        assert_eq!(book.check(&claims(2, u64::MAX - 1), ms(1), 10), Err(WatchRefused::Ahead));
        assert_eq!(book.check(&claims(2, 10 + AHEAD_MAX), ms(1), 10), Err(WatchRefused::Ahead));
        for made in 2..2 + RENEWALS_OPEN_MAX as u64 {
            let renewal = claims(made, 9 + AHEAD_MAX);
            book.check(&renewal, ms(1), 10).unwrap();
            book.import(renewal, ms(1), 10, unseen).unwrap();
        }
        assert_eq!(book.check(&claims(50, 20), ms(1), 10), Err(WatchRefused::Open));
        assert!(book.is_open(&WatchId([1; 16])));
        assert_eq!(book.check(&list(1, &[1], None), ms(1), 10), Err(WatchRefused::Superseded), "the rules come first");
        book.check(&list(50, &[1], None), ms(1), 10).unwrap();
        book.tick(10 + AHEAD_MAX, ms(2));
        assert!(!book.is_open(&WatchId([1; 16])));
        book.check(&claims(50, 20), ms(1), 10 + AHEAD_MAX).unwrap();
    }

    #[test]
    fn a_list_for_the_longest_time_is_taken_from_an_app_whose_clock_is_ahead_as_far_as_clocks_may_differ() {
        let secret = SecretKey::from_seed(&[8; 32]);
        for (ahead_ms, taken) in [(0, Ok(())), (SKEW_MS, Ok(())), (SKEW_MS + 1, Err(WatchRefused::Lifetime))] {
            let mut list = list(1, &[1], None);
            list.expiry = ms(MINUTE + ahead_ms + WATCH_LIFETIME_MS_MAX);
            list.sign(&Origin::new("dp.example/log").unwrap(), &secret);
            assert_eq!(book().import(list, ms(MINUTE), 0, unseen), taken, "{ahead_ms}");
        }
    }

    #[test]
    fn lists_that_are_not_taken() {
        let mut book = book();
        let refused = |book: &mut WatchBook, list| book.import(list, ms(1), 0, unseen).unwrap_err();
        let mut forged = list(1, &[1], None);
        forged.expiry = ms(999 * MINUTE);
        assert_eq!(refused(&mut book, forged), WatchRefused::Signature);
        assert_eq!(refused(&mut book, list(1, &[], None)), WatchRefused::Lifetime);
        assert_eq!(book.import(list(1, &[1], None), ms(1000 * MINUTE), 0, unseen), Err(WatchRefused::Lifetime));
        book.import(list(5, &[1], None), ms(1), 0, unseen).unwrap();
        assert_eq!(refused(&mut book, list(5, &[1], None)), WatchRefused::Superseded);
        let mut other = WatchBook::new(Origin::new("other.example/log").unwrap(), MINUTE);
        assert_eq!(refused(&mut other, list(6, &[1], None)), WatchRefused::OtherLog);
    }
}
