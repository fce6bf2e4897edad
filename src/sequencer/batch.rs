//! One batch, computed and nothing else: pending changes in, entries, tiles, map and head out.
//!
//! Pure: no clock, no store, random bytes from an argument. Changes are judged again as of the head that is made: what they rest
//! on may have ended since they were authorised ([`super::rests`]). What is computed here is judged by the code that monitors run
//! ([`super::sound`]) and made durable in [`mod@super::commit`].

use std::sync::Arc;

use rand_core::CryptoRng;
use waymark_log::{
    checkpoint::{Checkpoint, Origin},
    hash::Hash,
    key::Key,
    tile::{Edge, Tile, TileError},
    time::UnixMillis,
};
use waymark_mapping::{
    audit::Audited,
    entry::{
        CHANGES_PER_BATCH_MIN, CHANGES_PER_HEAD_MAX, Change, Config, ENTRIES_PER_HEAD_MAX, Entry, Head,
        INTERVAL_MS_MAX, Open, Provider,
    },
    label::Label,
    mapping::Consent,
    prefix::AlreadyPresent,
    provider::{ProviderDirectory, ProviderRefused},
    signed::SignedStruct,
    wire::{Extensions, List24, Optional24},
};

use super::rests::{AtHead, RestsOn};
use crate::row::{KeptConsent, KeptVisible, Place, Row};

/// A change that was authorised and waits for its place in the log. The CSI itself is inside the row only.
#[derive(Clone, Debug)]
pub struct PendingChange {
    /// Where its rows lie.
    pub csi_key: [u8; 32],
    /// Where in the map.
    pub label: Label,
    /// The row, complete but for the places of consents that this batch logs.
    pub row: Row,
    /// Visible slots whose consent is to be logged.
    pub to_log: Vec<usize>,
    /// How its row is kept.
    pub keeping: Keeping,
    /// What it rests on, to be judged again at the head's time.
    pub rests_on: Vec<RestsOn>,
}

/// A change that is not logged, since what it rests on does not hold any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Whose.
    pub csi_key: [u8; 32],
    /// What does not hold.
    pub why: RestsOn,
}

/// How a row is kept beside those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// The slot of the row key that the row before has; `None` where a stretch begins that will be deleted on its own.
    pub slot: Option<u64>,
    /// When the versions before are to be deleted, if they are.
    pub purge_at: Option<UnixMillis>,
}

/// A row that is complete.
#[derive(Clone, Debug)]
pub struct MadeRow {
    /// Where its rows lie.
    pub csi_key: [u8; 32],
    /// The row.
    pub row: Row,
    /// How it is kept.
    pub keeping: Keeping,
}

/// The log as it stands after the last batch: what monitors know of it, and the edge from which tiles grow.
#[derive(Clone, Debug)]
pub struct LogState {
    /// The log as it was judged.
    pub audited: Audited,
    /// The tree's edge.
    pub edge: Edge,
}

/// What a batch is made of.
#[derive(Clone, Debug, Default)]
pub struct Intake {
    /// The open entry, for the first batch of a log.
    pub open: Option<Open>,
    /// A change of what is promised.
    pub config: Option<Config>,
    /// Provider entries.
    pub providers: Vec<Provider>,
    /// Changes of records.
    pub changes: Vec<PendingChange>,
}

/// What the open entry or a config entry promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// SHA-256 of the policy document.
    pub policy: Hash,
    /// Time from acceptance to publication, milliseconds.
    pub interval_ms: u32,
}

impl Promise {
    /// What an entry promises, `None` if it is another kind of entry.
    pub fn of(entry: &[u8]) -> Option<Self> {
        match Entry::decode(entry).ok()? {
            Entry::Open(Open { policy, interval_ms, .. }) | Entry::Config(Config { policy, interval_ms, .. }) => {
                Some(Self { policy, interval_ms })
            }
            _ => None,
        }
    }
}

/// Why a config entry is not logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigRefused {
    /// It names another entry as the one before.
    #[error("the config entry does not follow from the latest one in the log")]
    NotNext,
    /// It names another log key.
    #[error("the config entry names another log key; changing that is not offered")]
    OtherKey,
    /// It promises a longer interval than any log may.
    #[error("the config entry promises an interval of more than {INTERVAL_MS_MAX} ms")]
    Interval,
    /// It is not signed by the log's key.
    #[error("the config entry is not signed by the log's key")]
    Signature,
}

/// Checks a config entry against `latest`, the bytes of the latest config entry or of the open entry.
///
/// # Errors
/// [`ConfigRefused`].
pub fn check_config(config: &Config, latest: &[u8], origin: &Origin, log_key: &Key) -> Result<(), ConfigRefused> {
    // "A config entry names the one before and is signed by the log key so far."
    if config.previous != Hash::sha256(&[latest]) {
        return Err(ConfigRefused::NotNext);
    }
    if config.log_key != *log_key {
        return Err(ConfigRefused::OtherKey);
    }
    // "interval_ms is at most 30,000."
    if config.interval_ms > INTERVAL_MS_MAX {
        return Err(ConfigRefused::Interval);
    }
    config.verify_by(origin, log_key).map_err(|_| ConfigRefused::Signature)
}

/// A computed batch.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The checkpoint to sign.
    pub checkpoint: Checkpoint,
    /// The head that it ends in.
    pub head: Head,
    /// The head's path as the last leaf.
    pub head_path: Vec<Hash>,
    /// Tiles to write.
    pub files: Vec<(Tile, Vec<u8>)>,
    /// The entries, the head last.
    pub entries: Vec<Vec<u8>>,
    /// The rows, complete.
    pub rows: Vec<MadeRow>,
    /// Provider entries that do not follow, with the reason; they were left out.
    pub refused: Vec<(Provider, ProviderRefused)>,
    /// Why the config entry was left out, if it was.
    pub config_refused: Option<ConfigRefused>,
    /// Changes that were left out.
    pub left_out: Vec<LeftOut>,
    /// The tree's edge with the batch.
    pub edge: Edge,
}

/// Why no batch can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The clock is not after the last head. Nothing is signed until it is.
    #[error("the clock has not advanced since the last head")]
    Clock,
    /// A label is in the map already: the VRF or the version count is broken.
    #[error(transparent)]
    Label(#[from] AlreadyPresent),
    /// More than fits between two heads.
    #[error("more entries than fit between two heads")]
    TooMany,
    /// An entry is too long for a bundle.
    #[error(transparent)]
    Entry(#[from] TileError),
}

impl LogState {
    /// A log without any entry: its first batch opens it.
    pub fn new(origin: Origin, log_key: Key) -> Self {
        Self { audited: Audited::new(origin, log_key), edge: Edge::new() }
    }

    /// Number of entries.
    pub const fn size(&self) -> u64 {
        self.audited.size()
    }

    /// The last head.
    pub fn head(&self) -> Option<&Head> {
        self.audited.last_head().map(|(_, head)| head)
    }

    /// The bytes of the entry that says what is promised: the latest config entry, or the open entry.
    pub fn latest_promise(&self) -> &[u8] {
        latest_promise(self.audited.open_bytes(), self.audited.config_bytes())
    }
}

/// Of an open entry and the latest config entry, which may be none: the one that says what is promised.
pub fn latest_promise<'a>(open: &'a [u8], config: &'a [u8]) -> &'a [u8] {
    if config.is_empty() { open } else { config }
}

/// Computes the batch with these entries. The first batch of a log also holds its open entry.
///
/// # Errors
/// [`BatchError`].
pub fn batch(state: &LogState, intake: Intake, now: UnixMillis, rng: &mut dyn CryptoRng) -> Result<Batch, BatchError> {
    let Intake { open, config, providers, changes } = intake;
    if state.head().is_some_and(|h| now <= h.time) {
        return Err(BatchError::Clock);
    }
    let log = &state.audited;
    let open = open.map_or_else(|| log.open_bytes().to_vec(), |open| Entry::Open(open).encode());
    // "Entries take effect in that order: config, then provider, then consent, then change."
    let (configured, config_refused) = take_config(state, config);
    let config = configured.clone().unwrap_or_else(|| log.config_bytes().to_vec());
    let Providers { directory, accepted, refused } = take_providers(log, providers, now);
    let policy = Promise::of(latest_promise(&open, &config)).map_or(Hash::ZERO, |p| p.policy);
    let (changes, left_out) = still_good(changes, AtHead { time: now, providers: &directory, policy });
    let provider_root = if accepted.is_empty() { log.provider_tree().root() } else { directory.tree().root() };

    let logged = logged_changes(&changes, rng);
    let mut entries: Vec<Vec<u8>> = accepted.into_iter().map(|p| Entry::Provider(p).encode()).collect();
    entries.extend(configured);
    entries.extend(logged.iter().map(|c| Entry::Change(*c).encode()));
    entries.extend(changes.iter().flat_map(consents_to_log).map(|c| Entry::Consent(c.clone()).encode()));
    // "Entries of a batch are sorted by content", so that their order says nothing about who asked when.
    entries.sort_unstable();
    if logged.len() > CHANGES_PER_HEAD_MAX || entries.len() > ENTRIES_PER_HEAD_MAX {
        return Err(BatchError::TooMany);
    }
    let first = state.size();
    if first == 0 {
        entries.insert(0, open.clone());
    }
    let rows = place(changes, &entries, first);
    let mut map = log.map().clone();
    map.insert(logged.iter().map(|c| (c.label.0, c.commitment)).collect())?;
    let digest = |bytes: &[u8]| if bytes.is_empty() { Hash::ZERO } else { Hash::sha256(&[bytes]) };
    let head = Head {
        extensions: Extensions::NONE,
        time: now,
        changes: log.changes() + logged.len() as u64,
        map_root: map.root(),
        open: digest(&open),
        config: digest(&config),
        provider_root,
    };
    let (edge, head_path, files) = append(&state.edge, &mut entries, head.clone())?;
    let checkpoint = Checkpoint::new(log.origin().clone(), edge.size(), edge.root());
    Ok(Batch { checkpoint, head, head_path, files, entries, rows, refused, config_refused, left_out, edge })
}

type Files = Vec<(Tile, Vec<u8>)>;

/// Appends the entries and the head behind them: the tree's edge, the head's path as the last leaf, and the tiles to write.
fn append(edge: &Edge, entries: &mut Vec<Vec<u8>>, head: Head) -> Result<(Edge, Vec<Hash>, Files), TileError> {
    let (mut edge, mut files, first) = (edge.clone(), Vec::new(), edge.size());
    for entry in entries.iter() {
        edge.append(entry, |tile, bytes| files.push((tile, bytes)))?;
    }
    let head_path = edge.range().path_of_next();
    let head = Entry::Head(head).encode();
    edge.append(&head, |tile, bytes| files.push((tile, bytes)))?;
    entries.push(head);
    files.extend(edge.partials(first));
    Ok((edge, head_path, files))
}

/// The bytes of a config entry if it follows.
fn take_config(state: &LogState, config: Option<Config>) -> (Option<Vec<u8>>, Option<ConfigRefused>) {
    let Some(config) = config else { return (None, None) };
    let log = &state.audited;
    match check_config(&config, state.latest_promise(), log.origin(), log.log_key()) {
        Ok(()) => (Some(Entry::Config(config).encode()), None),
        Err(why) => (None, Some(why)),
    }
}

/// The directory with a batch's entries.
struct Providers {
    directory: Arc<ProviderDirectory>,
    accepted: Vec<Provider>,
    refused: Vec<(Provider, ProviderRefused)>,
}

/// Applies provider entries as of this head, at most one a domain; those that do not follow are left out.
fn take_providers(log: &Audited, mut providers: Vec<Provider>, now: UnixMillis) -> Providers {
    let mut directory = log.shared_providers();
    providers.sort_by_cached_key(|p| Entry::Provider(p.clone()).encode());
    let (mut accepted, mut refused) = (Vec::<Provider>::new(), Vec::new());
    for provider in providers {
        let first = !accepted.iter().any(|p| p.domain == provider.domain);
        let applied = if first {
            Arc::make_mut(&mut directory).apply(&provider, log.origin(), now)
        } else {
            Err(ProviderRefused::NotNext)
        };
        match applied {
            Ok(()) => accepted.push(provider),
            Err(why) => refused.push((provider, why)),
        }
    }
    Providers { directory, accepted, refused }
}

/// The changes that still hold at the head that is made, and the others: these are left out with their consents.
fn still_good(changes: Vec<PendingChange>, at: AtHead<'_>) -> (Vec<PendingChange>, Vec<LeftOut>) {
    let (mut good, mut left_out) = (Vec::with_capacity(changes.len()), Vec::new());
    for change in changes {
        match at.first_unmet(&change.rests_on) {
            None => good.push(change),
            Some(why) => left_out.push(LeftOut { csi_key: change.csi_key, why: why.clone() }),
        }
    }
    (good, left_out)
}

/// The changes as they are logged, dummies included: "two independent 32-byte random strings".
fn logged_changes(changes: &[PendingChange], rng: &mut dyn CryptoRng) -> Vec<Change> {
    let mut logged: Vec<Change> =
        changes.iter().map(|c| Change { label: c.label, commitment: c.row.commitment }).collect();
    while !logged.is_empty() && logged.len() < CHANGES_PER_BATCH_MIN {
        let mut bytes = [0; 64];
        rng.fill_bytes(&mut bytes);
        let (label, commitment) = bytes.split_at(32);
        let hash = |b: &[u8]| Hash::from_slice(b).expect("halves of 64 bytes");
        logged.push(Change { label: Label(hash(label)), commitment: hash(commitment) });
    }
    logged
}

fn consents_to_log(change: &PendingChange) -> impl Iterator<Item = &Consent> {
    change
        .to_log
        .iter()
        .filter_map(|slot| change.row.visible.get(*slot)?.said.consent.0.as_ref())
        .map(|kept| &kept.consent)
}

/// Writes into the rows where they and their consents came to lie. `entries` are those of the batch without its head.
fn place(changes: Vec<PendingChange>, entries: &[Vec<u8>], first: u64) -> Vec<MadeRow> {
    // The open entry stands in front of a sorted list in the first batch, which has neither changes nor consents.
    let index_of = |entry: Entry| entries.binary_search(&entry.encode()).ok().map(|i| first + i as u64);
    let place = |change: PendingChange| {
        let PendingChange { csi_key, label, mut row, to_log, keeping, .. } = change;
        let mut visible: Vec<KeptVisible> = row.visible.to_vec();
        for slot in to_log {
            let Some(kept) = visible.get_mut(slot).and_then(|v| v.said.consent.0.as_mut()) else { continue };
            *kept = KeptConsent { logged: index_of(Entry::Consent(kept.consent.clone())), ..kept.clone() };
        }
        row.visible = List24::new(visible).expect("as long as before");
        let change = index_of(Entry::Change(Change { label, commitment: row.commitment }));
        let change = change.expect("each change is among the entries");
        row.place = Place { before: first.saturating_sub(1), change, head: first + entries.len() as u64 };
        MadeRow { csi_key, row, keeping }
    };
    changes.into_iter().map(place).collect()
}

/// A consent that is to be kept, not yet logged.
pub fn unlogged(consent: Consent, salt: waymark_mapping::commitment::Salt) -> Optional24<KeptConsent> {
    Optional24(Some(KeptConsent { consent, salt, logged: None }))
}
