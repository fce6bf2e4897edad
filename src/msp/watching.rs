//! Watching for an MSP's users: the log's entries, checked to lead to a cosigned root, against their blind watch-lists.
//!
//! No replay of the map and no judgement on the log: that is a monitor's work. Here it is enough that the entries are those
//! that the witnesses' quorum stands for, and that the log only grows. It is read in steps of bounded size, each of
//! which ends in a head and is proved to be the beginning of what was cosigned; what was read is kept, whatever fails
//! after it.
//!
//! Lists are on the disk before they are acknowledged, each with how far the log had been read when it came:
//!
//! ```text
//! <entries read> <time received, ms> <WatchList, base64> <key of the account, hex>\n     one line a list or renewal, appended
//! ```
//!
//! The last word is there if it is known. A list that nobody holds yet comes from a user, and counts for his account; whoever is in
//! may renew, since a renewal that is refused would end in an alert.
//!
//! The log also says who has keys in the MSP's name. An entry about its domain with a key that is none of its own is an alert: somebody
//! has persuaded the DP's operator, or has one of its keys. Nothing is kept of that, since the log is read again after each start.
//!
//! After a start the log is read again from its beginning, and each list is taken up where it came: so what was hit and not
//! yet claimed is so again, with all its time to be claimed. Once nothing is open any more, the file is written anew.

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use waymark_log::{
    checkpoint::Origin,
    hash::{Hash, leaf_hash},
    key::Key,
    policy::Unmet,
    proof::verify_consistency,
    range::CompactRange,
    time::UnixMillis,
};
use waymark_mapping::{
    entry::{Entry, Provider, ProviderAction, ProviderRole, last_head},
    label::Label,
    names::Domain,
    provider::ProviderDirectory,
    signed::AnyKey,
    trust::Trust,
    watch::{Alert, Place, WatchBook, WatchId, WatchList, WatchRefused},
};
use waymark_runtime::{
    budget::Budget,
    clock::Clock,
    durable,
    fetch::Fetcher,
    follow::{Ahead, FollowError, LogReader},
    lines::Lines,
};

use super::{
    accounts::{LISTS_PER_ACCOUNT_MAX, ListsByAccount},
    keys,
    notices::{Notice, Notices},
};

/// Why a list is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportRefused {
    /// By the rules of watch-lists.
    #[error(transparent)]
    Rule(#[from] WatchRefused),
    /// There is no room.
    #[error("no more lists are held here")]
    Full,
    /// New, and from nobody's account.
    #[error("a new list is handed in by a user with an account")]
    NoAccount,
    /// The account has as many lists as one may have.
    #[error("the account has {LISTS_PER_ACCOUNT_MAX} watch-lists already: retire one, or renew one under its name")]
    AccountFull,
    /// Renewed too often; again after so many seconds.
    #[error("the list was renewed {RENEWALS_PER_DAY_MAX} times today")]
    TooOften(u64),
    /// The lists of an earlier run have not all been taken up yet.
    #[error("the log is still being read")]
    NotYet,
    /// It could not be written down.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why the log was not read to the end of what is cosigned. All but the last are tried again.
#[derive(Debug, thiserror::Error)]
enum NotRead {
    /// The network, or what was read has no form.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// The checkpoint does not meet the policy.
    #[error("the checkpoint is not accepted: {0}")]
    Unmet(#[from] Unmet),
    /// What is served is not what was signed.
    #[error("entries from {0} on do not lead to the cosigned root: damaged where they are served")]
    Damaged(u64),
    /// Changes take effect with the head after them, so nothing can be said of these.
    #[error("no head among the entries from {0} on, or none at their end")]
    NoHead(u64),
    /// The log would take more memory than it may.
    #[error("{0} is over its memory budget of {1} labels and is not followed further")]
    OverBudget(Origin, usize),
}

/// Most labels of the log that are held, each with its place: some 1.5 GB. An honest log gets there with two million
/// people.
pub const LABELS_MAX: usize = 10_000_000;

/// Seconds until a log is read again that serves what it has not signed, or that has no head where it must have one: a
/// step is up to 48 MiB for nothing.
const REREAD_S: u64 = 30;

/// Most watch-lists kept.
const LISTS_MAX: usize = 1_000_000;
/// Most bytes of lists read at the start: a million of 500 bytes, each renewed once since the file was written anew.
const LISTS_BYTES_MAX: usize = 1 << 30;

/// Most renewals of one list in a UTC day: each is a line in a file. An app renews after each change of its record.
const RENEWALS_PER_DAY_MAX: u32 = 100;
const DAY_MS: u64 = 86_400_000;

/// A list of an earlier run.
struct Stored {
    /// Entries that had been read when it came.
    size: u64,
    received: UnixMillis,
    list: WatchList,
    /// The key of the account that it came from; a renewal need not say it.
    account: Option<Key>,
}

struct Inner {
    book: WatchBook,
    range: CompactRange,
    places: HashMap<Label, (Place, UnixMillis)>,
    /// Lists of an earlier run that the log has not been read far enough for, in the order in which they came.
    stored: VecDeque<Stored>,
    /// Whose each list is.
    holders: HashMap<WatchId, Key>,
    accounts: ListsByAccount,
    notices: Notices,
    path: PathBuf,
    lines: Lines,
    /// Whose adapter this is, for which log, and where its keys are.
    domain: Domain,
    origin: Origin,
    dir: PathBuf,
    /// What the log says of the domain's keys.
    providers: ProviderDirectory,
    /// Entries about the domain with a key that is none of its own, and what they mean.
    foreign_keys: Vec<ForeignKey>,
}

/// An entry about the MSP's own domain, with a key that is in none of its files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignKey {
    /// Index of the entry.
    pub entry: u64,
    /// In which role.
    pub role: ProviderRole,
    /// What happened to the key.
    pub action: ProviderAction,
    /// The key.
    pub key: AnyKey,
    /// From when on it is valid; 0 for at once, and for a key that went.
    pub due: UnixMillis,
}

/// Most alerts about keys that are kept, oldest first: one a head would fill it in a quarter of an hour, and the first says enough.
const FOREIGN_KEYS_MAX: usize = 1024;

/// The watch of one MSP over one log.
pub struct Watching {
    inner: Mutex<Inner>,
    renewals: Budget<WatchId>,
    labels_max: usize,
}

impl Watching {
    /// Opens the lists and notices in a folder. `follows` says whether a log will be followed; without one, lists are only
    /// kept.
    ///
    /// # Errors
    /// If they cannot be read, or a line is damaged.
    pub fn open(dir: &Path, domain: Domain, origin: Origin, renew_within_ms: u64, follows: bool) -> io::Result<Self> {
        let path = dir.join("watch-lists");
        let (lines, there) = Lines::open(&path, LISTS_BYTES_MAX)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a damaged line in watch-lists");
        let stored = there.iter().map(|line| Stored::parse(line).ok_or_else(damaged)).collect::<io::Result<_>>()?;
        let mut inner = Inner {
            book: WatchBook::new(origin.clone(), renew_within_ms),
            range: CompactRange::new(),
            places: HashMap::new(),
            stored,
            holders: HashMap::new(),
            accounts: ListsByAccount::default(),
            notices: Notices::open(&dir.join("notices"))?,
            path,
            lines,
            domain,
            origin,
            dir: dir.to_owned(),
            providers: ProviderDirectory::new(),
            foreign_keys: Vec::new(),
        };
        if !follows {
            inner.take_up(u64::MAX);
        }
        let renewals = Budget::new(DAY_MS, RENEWALS_PER_DAY_MAX, LISTS_MAX);
        Ok(Self { inner: Mutex::new(inner), renewals, labels_max: LABELS_MAX })
    }

    /// Holds another number of labels than [`LABELS_MAX`].
    pub fn with_labels_max(self, labels_max: usize) -> Self {
        Self { labels_max, ..self }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of lists, those of an earlier run included.
    pub fn lists(&self) -> usize {
        let inner = self.inner();
        let mut waiting: Vec<WatchId> = inner.stored.iter().map(|s| s.list.id).collect();
        waiting.sort_unstable();
        waiting.dedup();
        inner.book.len() + waiting.iter().filter(|id| !inner.book.holds(id)).count()
    }

    /// Entries read.
    pub fn size(&self) -> u64 {
        self.inner().range.size()
    }

    /// Entries that nobody claimed, by leaf hash, each once.
    pub fn unexpected(&self) -> Vec<Hash> {
        self.inner().notices.leaves()
    }

    /// Entries about the MSP's own domain with keys that are none of its own.
    pub fn foreign_keys(&self) -> Vec<ForeignKey> {
        self.inner().foreign_keys.clone()
    }

    /// Whether a list stands under this name.
    pub fn holds(&self, list: &WatchId) -> bool {
        self.inner().holds(list)
    }

    /// What is to be told to the holder of a list, and how many more hits there were since the start than are kept; `None` if
    /// there is no such list of this holder.
    pub fn notices(&self, list: &WatchId, holder: &Key) -> Option<(Vec<Notice>, u64)> {
        let inner = self.inner();
        let stored = || inner.stored.iter().find(|s| s.list.id == *list).map(|s| s.list.holder);
        let whose = inner.holders.get(list).copied().or_else(stored)?;
        (whose == *holder).then(|| (inner.notices.of(list).to_vec(), inner.notices.beyond(list)))
    }

    /// Takes a user's list, which came from the account with this key. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`ImportRefused`].
    pub fn import(&self, list: WatchList, account: Option<Key>, now: UnixMillis) -> Result<(), ImportRefused> {
        let mut inner = self.inner();
        if !inner.stored.is_empty() {
            return Err(ImportRefused::NotYet);
        }
        if inner.book.holds(&list.id) {
            // Whoever is in may renew: a renewal that is refused would end in an alert.
            list.verify().map_err(|_| WatchRefused::Signature)?;
            self.renewals.count(list.id, now).map_err(ImportRefused::TooOften)?;
        } else {
            inner.admit(&list, account.ok_or(ImportRefused::NoAccount)?, now)?;
        }
        let account = inner.accounts.account(&list.id).copied().or(account);
        let stored = Stored { size: inner.range.size(), received: now, list, account };
        let line = stored.format();
        inner.put(stored)?;
        Ok(inner.lines.append([line.as_str()])?)
    }

    /// Follows the log until it is aborted.
    pub async fn follow(&self, fetcher: Fetcher, url: &str, trust: &Trust, poll_ms: u64, clock: &Clock) {
        let reader = LogReader::new(fetcher, url);
        let mut every = tokio::time::interval(Duration::from_millis(poll_ms));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut ahead, mut not_before, mut is_told) = (Ahead::default(), Instant::now(), false);
        loop {
            every.tick().await;
            if not_before <= Instant::now() {
                match self.read(&reader, &mut ahead, trust, clock).await {
                    Ok(()) => {}
                    Err(why @ NotRead::OverBudget(..)) if !is_told => {
                        tracing::error!(%why, "the users' watch-lists are not watched any more");
                        is_told = true;
                    }
                    Err(why) => {
                        tracing::debug!(%why, "the log could not be followed; trying on");
                        let wait = match &why {
                            NotRead::Follow(e) => e.wait().unwrap_or_default(),
                            NotRead::Damaged(_) | NotRead::NoHead(_) => Duration::from_secs(REREAD_S),
                            NotRead::Unmet(_) | NotRead::OverBudget(..) => Duration::ZERO,
                        };
                        not_before = Instant::now() + wait;
                    }
                }
            }
            self.tick(clock.now());
        }
    }

    /// Reads what is new, step by step, if the checkpoint meets the policy and the entries lead to its root.
    async fn read(&self, reader: &LogReader, ahead: &mut Ahead, trust: &Trust, clock: &Clock) -> Result<(), NotRead> {
        let note = reader.checkpoint().await?;
        let cosigned = trust.policy().judge(&note, clock.now().floor_seconds(), trust.freshness())?;
        loop {
            let mut range = self.inner().range.clone();
            let from = range.size();
            if cosigned.size() <= from {
                ahead.trust();
                return Ok(());
            }
            if self.inner().places.len() >= self.labels_max {
                return Err(NotRead::OverBudget(self.inner().origin.clone(), self.labels_max));
            }
            let step = reader.step(ahead, from, cosigned.size(), last_head).await?;
            step.entries.iter().for_each(|e| range.append(leaf_hash(e)));
            let (size, root) = (range.size(), range.root());
            if verify_consistency(size, cosigned.size(), &root, cosigned.root(), &step.proof).is_err() {
                // Bytes may have been spoilt on their way.
                if ahead.doubt() {
                    return Err(NotRead::Damaged(from));
                }
                continue;
            }
            if last_head(&step.entries) != Some(step.entries.len()) {
                return Err(NotRead::NoHead(from));
            }
            self.take(from, &step.entries, range, clock.now());
        }
    }

    /// Feeds new entries to the lists. Changes take effect with the head after them.
    fn take(&self, first: u64, entries: &[Vec<u8>], range: CompactRange, now: UnixMillis) {
        let mut inner = self.inner();
        let (mut pending, mut providers) = (Vec::new(), Vec::new());
        for (index, bytes) in (first..).zip(entries) {
            inner.take_up(index);
            match Entry::decode(bytes) {
                Ok(Entry::Change(change)) => pending.push((Place { index, leaf: leaf_hash(bytes) }, change.label)),
                Ok(Entry::Provider(entry)) if entry.domain == inner.domain => providers.push((index, entry)),
                Ok(Entry::Head(head)) => {
                    for (index, entry) in providers.drain(..) {
                        inner.take_provider(index, &entry, head.time);
                    }
                    for (place, label) in pending.drain(..) {
                        inner.places.insert(label, (place, head.time));
                        inner.book.on_change(place, &label, head.time, now);
                    }
                }
                _ => {}
            }
        }
        inner.take_up(range.size());
        inner.range = range;
    }

    fn tick(&self, now: UnixMillis) {
        let mut inner = self.inner();
        // A hit of an earlier run may have been claimed by a list that is taken up further on.
        if !inner.stored.is_empty() {
            return;
        }
        let size = inner.range.size();
        for alert in inner.book.tick(size, now) {
            let Alert::Unexpected { id, place, time } = alert else { continue };
            match inner.notices.add(id, Notice { place, time }) {
                Ok(true) => tracing::warn!(entry = place.index, "a user's watch-list was hit and nobody claimed it"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, entry = place.index, "a notice could not be written down"),
            }
        }
        let Inner { book, holders, .. } = &mut *inner;
        if holders.len() > book.len() {
            holders.retain(|id, _| book.holds(id));
        }
        if let Err(error) = inner.write_anew(now) {
            tracing::error!(%error, "the watch-lists could not be written anew");
        }
    }
}

impl Inner {
    /// Looks at an entry about the MSP's own domain. Those with its own keys are its own doing.
    fn take_provider(&mut self, index: u64, entry: &Provider, head: UnixMillis) {
        // An entry that does not follow is a monitor's to report; who is to have a key here is told all the same.
        let _ = self.providers.follow(entry, &self.origin, head);
        if keys::own(&self.dir).iter().any(|own| entry.key == *own) {
            return;
        }
        let Provider { role, action, key, .. } = entry.clone();
        let leaf = self.providers.get(&self.domain, role);
        let added = leaf.and_then(|l| l.keys.iter().find(|k| k.key == key && action != ProviderAction::Retire));
        let due = added.map_or(UnixMillis::new(0), |k| k.due);
        let (name, what) = (key.to_hex(), format!("{action:?}").to_lowercase());
        tracing::warn!(entry = index, %role, action = what, key = name, due_ms = due.get(), "somebody else's key in our name");
        if self.foreign_keys.len() < FOREIGN_KEYS_MAX {
            self.foreign_keys.push(ForeignKey { entry: index, role, action, key, due });
        }
    }

    fn holds(&self, list: &WatchId) -> bool {
        self.book.holds(list) || self.stored.iter().any(|s| s.list.id == *list)
    }

    /// Whether a list that nobody holds yet may come in.
    fn admit(&mut self, list: &WatchList, account: Key, now: UnixMillis) -> Result<(), ImportRefused> {
        let Self { book, accounts, places, .. } = self;
        if book.len() >= LISTS_MAX {
            return Err(ImportRefused::Full);
        }
        if !accounts.have_room(&account, |id| book.holds(id)) {
            return Err(ImportRefused::AccountFull);
        }
        Ok(list.check_new(now, |label| places.get(label).copied())?)
    }

    /// Hands a list to the book.
    fn put(&mut self, stored: Stored) -> Result<(), WatchRefused> {
        let (id, holder, account) = (stored.list.id, stored.list.holder, stored.account);
        let Self { book, places, .. } = self;
        book.import(stored.list, stored.received, stored.size, |label| places.get(label).copied())?;
        self.holders.insert(id, holder);
        if let Some(account) = account {
            self.accounts.add(id, account);
        }
        Ok(())
    }

    /// Takes up the lists that had come before so many entries had been read.
    fn take_up(&mut self, size: u64) {
        while self.stored.front().is_some_and(|s| s.size <= size) {
            // It was taken once, over the same entries, so it is taken again.
            let _ = self.stored.pop_front().map(|stored| self.put(stored));
        }
    }

    /// Leaves out renewed lists, if the rest leads to the same book: nothing is open, and no list is ahead of the log.
    fn write_anew(&mut self, now: UnixMillis) -> io::Result<()> {
        let lines = self.lines.count();
        let small = lines < 64 || lines < 2 * self.book.len() as u64;
        let size = self.range.size();
        let open = self.book.open_hits() > 0 || !self.stored.is_empty() || self.book.lists().any(|l| l.size > size);
        if small || open {
            return Ok(());
        }
        let account = |list: &WatchList| self.accounts.account(&list.id).copied();
        let stored = |list: &WatchList| {
            Stored { size, received: now, list: list.clone(), account: account(list) }.format() + "\n"
        };
        let text: String = self.book.lists().map(stored).collect();
        durable::replace(&self.path, text.as_bytes())?;
        self.lines = Lines::open(&self.path, LISTS_BYTES_MAX)?.0;
        Ok(())
    }
}

impl Stored {
    fn format(&self) -> String {
        let account = self.account.map(|key| format!(" {}", key.to_hex())).unwrap_or_default();
        format!("{} {} {}{account}", self.size, self.received.get(), BASE64.encode(&self.list.encode()))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let size = words.next()?.parse().ok()?;
        let received = UnixMillis::new(words.next()?.parse().ok()?);
        let list = WatchList::decode(&BASE64.decode(words.next()?.as_bytes()).ok()?).ok()?;
        let account = words.next().map(|word| Key::from_hex(word).ok_or(())).transpose().ok()?;
        words.next().is_none().then_some(Self { size, received, list, account })
    }
}
