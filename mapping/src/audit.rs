//! The monitor's judgement: the whole log replayed, every rule checked, the map and the provider directory rebuilt.
//!
//! State and entries in, findings out; no network, no clock. Three programs use it: a monitor on what it fetched ([`Replay`]), a DP
//! on each batch before it signs it, and a DP that starts on all that it has ([`Audited`], one state for both).
//!
//! Entries are believed only when they lead to the checkpoint's root; then each is judged by the rules of [`crate::entry`]:
//!
//! - leaf 0 is the open entry of this log, and there is no other; the first head is leaf 1;
//! - every checkpoint ends in a head; between heads at most 1,024 changes and 2,048 entries, in strictly ascending order of
//!   their bytes, those that cannot be judged included; a batch with changes has at least 16;
//! - no label occurs twice; a head's count, map root, provider root and links are those of the replay; its time advances;
//! - provider entries follow from the directory, one for a domain between heads (a signature that cannot be checked is taken as
//!   good); config entries are signed by the log's key;
//! - the interval that is promised is at most 30 s;
//! - nothing follows the head behind a close entry, which names another log and its open entry, or neither; a carry entry comes
//!   in a batch before that of the first change;
//! - a consent is signed by a key that is valid for its MSP, is not over, and ends with a UTC month.
//!
//! There is no append-only proof of the map to get wrong: it is rebuilt.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use waymark_log::{
    checkpoint::Origin,
    hash::{Hash, leaf_hash},
    key::Key,
    range::CompactRange,
    time::UnixMillis,
};

use crate::{
    entry::{
        CHANGES_PER_BATCH_MIN, CHANGES_PER_HEAD_MAX, Carry, Change, Close, Config, ENTRIES_PER_HEAD_MAX, Entry,
        HEAD_INTERVAL_MS_MAX, Head, INTERVAL_MS_MAX, Open, OriginText, Provider, ProviderAction, ProviderRole,
    },
    label::Label,
    mapping::Consent,
    names::Domain,
    prefix::PrefixTree,
    provider::{Judged, ProviderDirectory, ProviderRefused},
    signed::{AnyKey, SignedStruct},
    watch::Place,
    wire::{FORMAT, Undecoded},
};

/// How much later than promised a head may come before it is worth a notice: one more interval.
const CADENCE_SLACK_MS: u64 = HEAD_INTERVAL_MS_MAX;

/// What a log has done that it should not have. Each names the entry that shows it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Finding {
    /// The entries do not lead to the signed root. Nothing after the last good size was believed.
    #[error("the entries to size {size} do not lead to the signed root")]
    RootMismatch {
        /// Size of the checkpoint.
        size: u64,
    },
    /// An entry is none.
    #[error("entry {index} is not one: {what}")]
    Undecodable {
        /// The entry.
        index: u64,
        /// What is wrong.
        what: String,
    },
    /// The open entry is missing, repeated, or of another log.
    #[error("entry {index}: the open entry is missing, repeated or of another log")]
    Open {
        /// The entry.
        index: u64,
    },
    /// A checkpoint does not end in a head.
    #[error("the checkpoint at size {size} does not end in a head")]
    NoHead {
        /// Size of the checkpoint.
        size: u64,
    },
    /// Too many entries between heads, too few changes in a batch, or out of order.
    #[error("head {index}: {what}")]
    Batch {
        /// The head.
        index: u64,
        /// Which rule.
        what: &'static str,
    },
    /// A label occurs a second time: the first commitment was overwritten for whoever believes the second.
    #[error("entry {index}: its label is in the log already")]
    DuplicateLabel {
        /// The entry.
        index: u64,
    },
    /// A head is not what the replay says.
    #[error("head {index}: {what} is not what the log says")]
    Head {
        /// The head.
        index: u64,
        /// Which part.
        what: &'static str,
    },
    /// A provider entry has no business there.
    #[error("entry {index}: {why}")]
    Provider {
        /// The entry.
        index: u64,
        /// Why.
        why: ProviderRefused,
    },
    /// A config entry is not signed by the log's key or does not follow.
    #[error("entry {index}: the config entry is not by the log's key or does not follow from the last")]
    Config {
        /// The entry.
        index: u64,
    },
    /// A close or carry entry is not by the key that it must be by, is repeated, or comes too late.
    #[error("entry {index}: the log does not end, or go on from another one, by the rules")]
    Succession {
        /// The entry.
        index: u64,
    },
    /// Something follows the head that closed the log.
    #[error("entry {index}: the log was closed before it")]
    AfterClose {
        /// The entry.
        index: u64,
    },
    /// A consent is not by a valid key of its MSP, or is over.
    #[error("entry {index}: the consent is not by a valid key of its MSP, or is over")]
    Consent {
        /// The entry.
        index: u64,
    },
    /// An open or config entry promises a longer interval than any log may.
    #[error("entry {index}: the interval that it promises is longer than 30 s")]
    Interval {
        /// The entry.
        index: u64,
    },
}

impl Finding {
    /// The entry that shows it; `None` where it is the checkpoint as a whole.
    pub const fn index(&self) -> Option<u64> {
        match self {
            Self::RootMismatch { .. } | Self::NoHead { .. } => None,
            Self::Undecodable { index, .. }
            | Self::Open { index }
            | Self::Batch { index, .. }
            | Self::DuplicateLabel { index }
            | Self::Head { index, .. }
            | Self::Provider { index, .. }
            | Self::Config { index }
            | Self::Succession { index }
            | Self::AfterClose { index }
            | Self::Consent { index }
            | Self::Interval { index } => Some(*index),
        }
    }

    /// A word for the rule that was broken.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::RootMismatch { .. } => "root",
            Self::Undecodable { .. } => "form",
            Self::Open { .. } => "open",
            Self::NoHead { .. } => "no-head",
            Self::Batch { .. } => "batch",
            Self::DuplicateLabel { .. } => "duplicate-label",
            Self::Head { .. } => "head",
            Self::Provider { .. } => "provider",
            Self::Config { .. } => "config",
            Self::Succession { .. } => "succession",
            Self::AfterClose { .. } => "after-close",
            Self::Consent { .. } => "consent",
            Self::Interval { .. } => "interval",
        }
    }

    /// Whether nothing was rewritten and no history was forked: an entry stands in the log that had no business there, or a batch
    /// is not of the form. Whoever runs the log may go on from there; monitors go on saying what they found.
    pub const fn rewrites_nothing(&self) -> bool {
        matches!(self, Self::Consent { .. } | Self::Provider { .. } | Self::Batch { .. } | Self::Interval { .. })
    }
}

/// A change that was replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// Where it is.
    pub place: Place,
    /// Its label.
    pub label: Label,
    /// When the head after it was made.
    pub head: UnixMillis,
}

/// A consent that was replayed, for MSPs that watch who names them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Consented {
    /// Where it is.
    pub index: u64,
    /// Whose it is.
    pub msp: Domain,
}

/// A provider entry that was replayed, for providers that watch who adds keys in their name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProviderChange {
    /// Where it is.
    pub index: u64,
    /// Whose key it is about.
    pub domain: Domain,
    /// In which role.
    pub role: ProviderRole,
    /// What happens to the key.
    pub action: ProviderAction,
    /// The key.
    pub key: AnyKey,
    /// From when on a key that was added is valid; 0 for at once. 0 also for a key that went.
    pub due: UnixMillis,
}

/// What one step found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// What the log did wrong.
    pub findings: Vec<Finding>,
    /// What is late, which proves nothing.
    pub notices: Vec<String>,
    /// Entries with an algorithm or a value that this program does not know, in order: hashed, counted and ordered, and else not
    /// judged. A provider entry whose signature is by such an algorithm is applied all the same, so that the provider root stays
    /// comparable.
    pub not_supported: Vec<u64>,
    /// The changes, in order.
    pub changes: Vec<Replayed>,
    /// The consents, in order.
    pub consents: Vec<Consented>,
    /// The provider entries that took effect, in order.
    pub providers: Vec<ProviderChange>,
}

/// A log as far as it was judged: all that the next entries are judged by.
///
/// A clone costs little, however large the log is: map and provider tree are persistent, and the directory is shared until an
/// entry changes it.
#[derive(Clone, Debug)]
pub struct Audited {
    origin: Origin,
    log_key: Key,
    range: CompactRange,
    map: PrefixTree,
    providers: Arc<ProviderDirectory>,
    provider_tree: PrefixTree,
    open: Option<Open>,
    open_bytes: Vec<u8>,
    config_bytes: Vec<u8>,
    interval_ms: u32,
    last_head: Option<(u64, Head)>,
    changes: u64,
    carried: bool,
    closing: bool,
    closed: bool,
    pending: Batch,
}

/// The entries since the last head.
#[derive(Clone, Debug, Default)]
struct Batch {
    /// Those that wait for the head that closes it.
    entries: Vec<Pending>,
    /// How many there are. Limits and order are about bytes, and hold also for what nobody can read.
    count: usize,
    last: Vec<u8>,
    out_of_order: bool,
}

/// An entry that waits for the head that closes its batch.
#[derive(Clone, Debug)]
struct Pending {
    index: u64,
    bytes: Vec<u8>,
    entry: Entry,
}

impl Batch {
    /// Counts an entry, and keeps it if it takes effect at the head; `None` for one that cannot be judged.
    fn add(&mut self, index: u64, bytes: &[u8], entry: Option<Entry>) {
        self.out_of_order |= self.count > 0 && self.last[..] >= *bytes;
        self.count += 1;
        bytes.clone_into(&mut self.last);
        // "Kinds from 128 on are hashed, ordered and skipped."
        if let Some(entry) = entry.filter(|e| !matches!(e, Entry::Open(_) | Entry::Skipped(_))) {
            self.entries.push(Pending { index, bytes: bytes.to_vec(), entry });
        }
    }

    fn changes(&self) -> usize {
        self.entries.iter().filter(|p| matches!(p.entry, Entry::Change(_))).count()
    }
}

/// A log as a monitor replays it: judged, and with the place of each label.
#[derive(Clone, Debug)]
pub struct Replay {
    audited: Audited,
    places: HashMap<Label, (u64, UnixMillis)>,
    provider_bytes: u64,
}

/// Memory of a label's place in a table that is half full, in bytes.
const PLACE_BYTES: u64 = 112;
/// Memory of a provider's key in the directory and the tree over it, besides the key, in bytes.
const PROVIDER_KEY_BYTES: u64 = 1024;

impl Replay {
    /// A log of which nothing has been read. `log_key` is the key that signs its checkpoints.
    pub fn new(origin: Origin, log_key: Key) -> Self {
        Self { audited: Audited::new(origin, log_key), places: HashMap::new(), provider_bytes: 0 }
    }

    /// What was judged.
    pub const fn audited(&self) -> &Audited {
        &self.audited
    }

    /// Entries replayed.
    pub const fn size(&self) -> u64 {
        self.audited.size()
    }

    /// Root of the tree of the entries replayed.
    pub fn root(&self) -> Hash {
        self.audited.root()
    }

    /// The map.
    pub const fn map(&self) -> &PrefixTree {
        self.audited.map()
    }

    /// Bytes of memory that what was replayed takes, about: a monitor that follows several logs can tell which of them is too
    /// much.
    pub fn bytes(&self) -> u64 {
        self.map().bytes() + self.places.len() as u64 * PLACE_BYTES + self.provider_bytes
    }

    /// The provider directory.
    pub fn providers(&self) -> &ProviderDirectory {
        self.audited.providers()
    }

    /// The last head and where it is.
    pub const fn last_head(&self) -> Option<&(u64, Head)> {
        self.audited.last_head()
    }

    /// The open entry.
    pub const fn open(&self) -> Option<&Open> {
        self.audited.open()
    }

    /// The entry under which a label is in the map, and the time of its head.
    pub fn place(&self, label: &Label) -> Option<(Place, UnixMillis)> {
        let (index, time) = *self.places.get(label)?;
        let commitment = self.map().get(&label.0)?;
        let leaf = leaf_hash(&Entry::Change(Change { label: *label, commitment }).encode());
        Some((Place { index, leaf }, time))
    }

    /// Replays the entries from [`Replay::size`] up to a checkpoint of `size` entries with this root.
    ///
    /// If they do not lead to the root, nothing is believed and the replay stays where it was.
    pub fn extend(&mut self, entries: &[Vec<u8>], size: u64, root: &Hash) -> Step {
        let step = self.audited.extend(entries, size, root);
        self.places.extend(step.changes.iter().map(|c| (c.label, (c.place.index, c.head))));
        let key_bytes = |change: &ProviderChange| PROVIDER_KEY_BYTES + change.key.to_hex().len() as u64;
        self.provider_bytes += step.providers.iter().map(key_bytes).sum::<u64>();
        step
    }
}

impl Audited {
    /// A log of which nothing has been judged. `log_key` is the key that signs its checkpoints.
    pub fn new(origin: Origin, log_key: Key) -> Self {
        Self {
            origin,
            log_key,
            range: CompactRange::new(),
            map: PrefixTree::new(),
            providers: Arc::default(),
            provider_tree: PrefixTree::new(),
            open: None,
            open_bytes: Vec::new(),
            config_bytes: Vec::new(),
            interval_ms: 0,
            last_head: None,
            changes: 0,
            carried: false,
            closing: false,
            closed: false,
            pending: Batch::default(),
        }
    }

    /// The log's name.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The key that signs the next config entry.
    pub const fn log_key(&self) -> &Key {
        &self.log_key
    }

    /// Entries judged.
    pub const fn size(&self) -> u64 {
        self.range.size()
    }

    /// Root of the tree of the entries judged.
    pub fn root(&self) -> Hash {
        self.range.root()
    }

    /// The map.
    pub const fn map(&self) -> &PrefixTree {
        &self.map
    }

    /// The provider directory.
    pub fn providers(&self) -> &ProviderDirectory {
        &self.providers
    }

    /// The provider directory, to be kept.
    pub fn shared_providers(&self) -> Arc<ProviderDirectory> {
        Arc::clone(&self.providers)
    }

    /// The tree over the provider directory.
    pub const fn provider_tree(&self) -> &PrefixTree {
        &self.provider_tree
    }

    /// The last head and where it is.
    pub const fn last_head(&self) -> Option<&(u64, Head)> {
        self.last_head.as_ref()
    }

    /// The open entry.
    pub const fn open(&self) -> Option<&Open> {
        self.open.as_ref()
    }

    /// The open entry's bytes, none before there is one.
    pub fn open_bytes(&self) -> &[u8] {
        &self.open_bytes
    }

    /// The latest config entry's bytes, none if there is none.
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// The interval that is promised by the entry in effect, milliseconds.
    pub const fn interval_ms(&self) -> u32 {
        self.interval_ms
    }

    /// Changes logged so far, dummies included.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// Judges the entries from [`Audited::size`] up to a checkpoint of `size` entries with this root.
    ///
    /// If they do not lead to the root, nothing is believed and the state stays as it was.
    pub fn extend(&mut self, entries: &[Vec<u8>], size: u64, root: &Hash) -> Step {
        let mut step = Step::default();
        let mut range = self.range.clone();
        for entry in entries {
            range.append(leaf_hash(entry));
        }
        if range.size() != size || range.root() != *root {
            step.findings.push(Finding::RootMismatch { size });
            return step;
        }
        let first = self.size();
        self.range = range;
        for (index, bytes) in (first..).zip(entries) {
            self.take(index, bytes, &mut step);
        }
        // "Every published checkpoint ends in a head entry."
        if self.last_head.as_ref().is_none_or(|(index, _)| index + 1 != size) {
            step.findings.push(Finding::NoHead { size });
        }
        // Those that could be read in part were judged at their heads.
        step.not_supported.sort_unstable();
        step
    }

    fn take(&mut self, index: u64, bytes: &[u8], step: &mut Step) {
        // Whatever it is: nothing has a place there, so there is nothing else to judge.
        if self.closed {
            return step.findings.push(Finding::AfterClose { index });
        }
        match read(index, bytes, step) {
            Some(Entry::Open(open)) if index == 0 && open.origin.get() == self.origin => {
                self.take_open(bytes, open, step);
            }
            Some(Entry::Head(head)) => self.take_head(index, head, step),
            entry => {
                if index > 0 && matches!(entry, Some(Entry::Open(_))) {
                    step.findings.push(Finding::Open { index });
                }
                self.pending.add(index, bytes, entry);
            }
        }
        if index == 0 && self.open.is_none() {
            step.findings.push(Finding::Open { index });
        }
    }

    fn take_open(&mut self, bytes: &[u8], open: Open, step: &mut Step) {
        bytes.clone_into(&mut self.open_bytes);
        self.promise(0, open.interval_ms, step);
        self.open = Some(open);
    }

    /// Takes up the interval that an entry promises.
    fn promise(&mut self, index: u64, interval_ms: u32, step: &mut Step) {
        // "interval_ms is at most 30,000": by it senders judge how old a head may be.
        if interval_ms > INTERVAL_MS_MAX {
            step.findings.push(Finding::Interval { index });
        }
        self.interval_ms = interval_ms.min(INTERVAL_MS_MAX);
    }

    /// A head closes a batch: what it holds takes effect, and the head must say what that led to.
    fn take_head(&mut self, index: u64, head: Head, step: &mut Step) {
        let batch = std::mem::take(&mut self.pending);
        // What was promised while the time passed, also where this batch promises something else from here on.
        let promised_ms = self.interval_ms;
        self.check_batch(index, &batch, step);
        let with_changes = batch.changes() > 0;
        let mut domains = BTreeSet::new();
        // Bytes are sorted, so configs come before providers, those before consents, those before changes.
        for Pending { index: at, bytes, entry } in &batch.entries {
            match entry {
                Entry::Config(config) => self.take_config(*at, bytes, config, step),
                Entry::Provider(provider) => {
                    let once = domains.insert(provider.domain.clone());
                    self.take_provider(*at, provider, once, head.time, step);
                }
                Entry::Consent(consent) => self.take_consent(*at, consent, head.time, step),
                Entry::Close(close) => self.take_close(*at, close, step),
                Entry::Carry(carry) => self.take_carry(*at, carry, with_changes, step),
                Entry::Open(_) | Entry::Change(_) | Entry::Head(_) | Entry::Skipped(_) => {}
            }
        }
        if !domains.is_empty() {
            self.provider_tree = self.providers.tree();
        }
        self.take_changes(&batch.entries, head.time, step);
        self.check_head(index, &head, promised_ms, step);
        self.closed = self.closing;
        self.last_head = Some((index, head));
    }

    fn check_batch(&self, index: u64, batch: &Batch, step: &mut Step) {
        let mut broken = |what| step.findings.push(Finding::Batch { index, what });
        let changes = batch.changes();
        if changes > CHANGES_PER_HEAD_MAX {
            broken("more than 1,024 changes since the last head");
        }
        if batch.count > ENTRIES_PER_HEAD_MAX {
            broken("more than 2,048 entries since the last head");
        }
        if (1..CHANGES_PER_BATCH_MIN).contains(&changes) {
            broken("a batch with changes has fewer than 16 of them");
        }
        if batch.out_of_order {
            broken("entries are not in ascending order");
        }
        if self.last_head.is_none() && index != 1 {
            broken("the first head is not entry 1");
        }
    }

    fn take_config(&mut self, index: u64, bytes: &[u8], config: &Config, step: &mut Step) {
        let before = if self.config_bytes.is_empty() { &self.open_bytes } else { &self.config_bytes };
        let follows = config.previous == digest_of(before);
        if !follows || config.verify_by(&self.origin, &self.log_key).is_err() {
            step.findings.push(Finding::Config { index });
            return;
        }
        bytes.clone_into(&mut self.config_bytes);
        self.promise(index, config.interval_ms, step);
        self.log_key = config.log_key;
    }

    fn take_provider(&mut self, index: u64, entry: &Provider, once: bool, head: UnixMillis, step: &mut Step) {
        let applied = if once {
            Arc::make_mut(&mut self.providers).follow(entry, &self.origin, head)
        } else {
            Err(ProviderRefused::NotNext)
        };
        match applied {
            Err(why) => return step.findings.push(Finding::Provider { index, why }),
            Ok(Judged::InPart) => step.not_supported.push(index),
            Ok(Judged::Whole) => {}
        }
        let Provider { role, action, domain, key, .. } = entry.clone();
        let leaf = self.providers.get(&domain, role);
        let added = leaf.and_then(|l| l.keys.iter().find(|k| k.key == key && action != ProviderAction::Retire));
        let due = added.map_or(UnixMillis::new(0), |k| k.due);
        step.providers.push(ProviderChange { index, domain, role, action, key, due });
    }

    /// A log ends once, by the word of its own key.
    fn take_close(&mut self, index: u64, close: &Close, step: &mut Step) {
        let successor = close.successor.as_slice();
        // Without its open entry a successor could be any log of that name, and no log goes on from itself.
        let named = OriginText::is_or_none(successor)
            && successor.is_empty() == (close.successor_open == Hash::ZERO)
            && successor != self.origin.as_str().as_bytes();
        if self.closing || !named || close.verify_by(&self.origin, &self.log_key).is_err() {
            step.findings.push(Finding::Succession { index });
        }
        self.closing = true;
    }

    /// A log says what it goes on from before it has any change, by the word of that log's key. In the order of bytes it comes
    /// behind the changes of its own batch, so that must have none.
    fn take_carry(&mut self, index: u64, carry: &Carry, with_changes: bool, step: &mut Step) {
        let by_predecessor = carry.verify_by(&self.origin, &carry.log_key).is_ok();
        let late = with_changes || self.changes > 0;
        if self.carried || late || carry.origin.get() == self.origin || !by_predecessor {
            step.findings.push(Finding::Succession { index });
        }
        self.carried = true;
    }

    fn take_consent(&self, index: u64, consent: &Consent, head: UnixMillis, step: &mut Step) {
        let known = self.providers.is_valid(&consent.msp, ProviderRole::MSP, &consent.msp_key, head);
        let signed = consent.verify_by(&self.origin, &consent.msp_key).is_ok();
        if !known || !signed || consent.expiry <= head || !consent.ends_with_month() {
            step.findings.push(Finding::Consent { index });
        }
        step.consents.push(Consented { index, msp: consent.msp.clone() });
    }

    fn take_changes(&mut self, batch: &[Pending], head: UnixMillis, step: &mut Step) {
        let (mut fresh, mut seen) = (Vec::new(), BTreeSet::new());
        for Pending { index, bytes, entry } in batch {
            let Entry::Change(change) = entry else { continue };
            self.changes += 1;
            let again = !seen.insert(change.label.0) || self.map.get(&change.label.0).is_some();
            if again {
                step.findings.push(Finding::DuplicateLabel { index: *index });
                continue;
            }
            fresh.push((change.label.0, change.commitment));
            let place = Place { index: *index, leaf: leaf_hash(bytes) };
            step.changes.push(Replayed { place, label: change.label, head });
        }
        self.map.insert(fresh).expect("labels that are there already were left out");
    }

    fn check_head(&self, index: u64, head: &Head, promised_ms: u32, step: &mut Step) {
        let mut wrong = |what| step.findings.push(Finding::Head { index, what });
        if head.changes != self.changes {
            wrong("the number of changes");
        }
        if head.map_root != self.map.root() {
            wrong("the map root");
        }
        if head.provider_root != self.provider_tree.root() {
            wrong("the provider root");
        }
        if head.open != digest_of(&self.open_bytes) || head.config != digest_of(&self.config_bytes) {
            wrong("the link to the open or config entry");
        }
        let Some((_, last)) = &self.last_head else { return };
        if head.time <= last.time {
            wrong("the time");
        }
        let late = HEAD_INTERVAL_MS_MAX + u64::from(promised_ms) + CADENCE_SLACK_MS;
        if head.time.since(last.time) > late {
            let gap = head.time.since(last.time) / 1000;
            step.notices.push(format!("head {index} came {gap} s after the one before"));
        }
    }
}

/// Reads an entry; `None` for what cannot be judged, which is said.
fn read(index: u64, bytes: &[u8], step: &mut Step) -> Option<Entry> {
    match Entry::decode(bytes) {
        Ok(entry) => return Some(entry),
        // A kind below 128 and a format that are unknown are findings: what is new has a kind of its own. An algorithm or value
        // that is unknown is for a newer monitor.
        Err(Undecoded::NotSupported { .. }) if matches!(bytes[..], [FORMAT, 1..=8, ..]) => {
            step.not_supported.push(index);
        }
        Err(e) => step.findings.push(Finding::Undecodable { index, what: e.to_string() }),
    }
    None
}

/// SHA-256 of an entry's bytes as a head names it, zero where there is none.
fn digest_of(entry: &[u8]) -> Hash {
    if entry.is_empty() { Hash::ZERO } else { Hash::sha256(&[entry]) }
}
