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
//! The last word is there if it is known. A list that nobody holds yet comes from a user, and counts for his account; anybody who is in
//! may renew, since a renewal that is refused would end in an alert.
//!
//! The log also says who has keys in the MSP's name. An entry about its domain with a key that is none of its own is an alert: somebody
//! has persuaded the DP's operator, or has one of its keys. Nothing is kept of that, since the log is read again after each start.
//!
//! After a start the log is read again from its beginning, and each list is taken up where it came: so what was hit and not
//! yet claimed is so again, with all its time to be claimed. From time to time the file is written anew: one line for each list
//! of which nothing is open, and for the others those lines that lead to what is open.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
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
    watch::{Alert, Place, RENEWALS_OPEN_MAX, WatchBook, WatchId, WatchList, WatchRefused},
};
use waymark_runtime::{
    budget::Budget,
    clock::Clock,
    durable,
    fetch::Fetcher,
    follow::{Ahead, FollowError, LogReader},
    lines::Lines,
    log_time::LogTime,
};

use super::{
    accounts::{LISTS_PER_ACCOUNT_MAX, ListsByAccount},
    keys,
    notices::{Notice, Notices, Raised},
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
pub const LISTS_MAX: usize = 1_000_000;
/// Most bytes of lists read at the start: a million of 500 bytes, each renewed once since the file was written anew. New lists take no
/// more than half of it: a renewal that is refused would end in an alert.
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
    /// Hits that the disk did not take: they are tried again before others are raised, which wait in the book meanwhile.
    unwritten: Vec<Raised>,
    path: PathBuf,
    lines: Lines,
    bytes_max: usize,
    /// Lines that were left when the file was written anew.
    kept: u64,
    /// Whether a log is followed: without one nothing waits for an entry.
    follows: bool,
    /// Size of the largest tree that was seen cosigned.
    cosigned: u64,
    renew_within_ms: u64,
    /// When the lists of the run before had all been taken up: hits that were found again have their time from then on.
    taken_up: Option<UnixMillis>,
    /// By which time hits become overdue; none before the log is followed.
    time: Option<LogTime>,
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
    notices: Notices,
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
        let stored: VecDeque<Stored> =
            there.iter().map(|line| Stored::parse(line).ok_or_else(damaged)).collect::<io::Result<_>>()?;
        let holders: HashMap<WatchId, Key> = stored.iter().map(|s| (s.list.id, s.list.holder)).collect();
        let notices = Notices::open(dir, |list| holders.get(list).copied())?;
        let mut inner = Inner {
            book: WatchBook::new(origin.clone(), renew_within_ms),
            range: CompactRange::new(),
            places: HashMap::new(),
            stored,
            holders: HashMap::new(),
            accounts: ListsByAccount::default(),
            unwritten: Vec::new(),
            path,
            lines,
            bytes_max: LISTS_BYTES_MAX,
            kept: 0,
            follows,
            cosigned: 0,
            renew_within_ms,
            taken_up: None,
            time: None,
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
        Ok(Self { inner: Mutex::new(inner), notices, renewals, labels_max: LABELS_MAX })
    }

    /// Holds another number of labels than [`LABELS_MAX`].
    pub fn with_labels_max(self, labels_max: usize) -> Self {
        Self { labels_max, ..self }
    }

    /// Gives the store of notices back, whoever still holds this.
    pub fn close(&self) {
        self.notices.close();
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

    /// How many hits that nobody claimed are kept as notices.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn told(&self) -> io::Result<u64> {
        self.notices.count()
    }

    /// The entries that hit a list and that nobody claimed, each once, by leaf hash. Reads all of them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn unexpected(&self) -> io::Result<BTreeSet<Hash>> {
        self.notices.leaves()
    }

    /// Entries about the MSP's own domain with keys that are none of its own.
    pub fn foreign_keys(&self) -> Vec<ForeignKey> {
        self.inner().foreign_keys.clone()
    }

    /// Whether a list stands under this name.
    pub fn holds(&self, list: &WatchId) -> bool {
        self.inner().holds(list)
    }

    /// What is to be told to the holder of a list after an entry, and how many more hits there were since the start than are
    /// kept; `None` if there is no such list of this holder, and none that is gone and had notices.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn notices(&self, list: &WatchId, holder: &Key, after: Option<u64>) -> io::Result<Option<(Vec<Notice>, u64)>> {
        let is_there = {
            let inner = self.inner();
            let stored = || inner.stored.iter().find(|s| s.list.id == *list).map(|s| s.list.holder);
            inner.holders.get(list).copied().or_else(stored) == Some(*holder)
        };
        let kept = self.notices.of(list, holder, after)?;
        Ok(kept.or(is_there.then(Vec::new)).map(|notices| (notices, self.notices.beyond(list))))
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
        let now = inner.time.as_ref().map_or(now, LogTime::now);
        let signed = if inner.follows { inner.cosigned } else { u64::MAX };
        inner.book.check(&list, now, signed)?;
        let is_renewal = inner.book.holds(&list.id);
        if is_renewal {
            // Anybody who is in may renew: a renewal that is refused would end in an alert. Only what is taken counts, so that anybody who
            // repeats a list that he has seen uses up nothing of its holder's.
            self.renewals.count(list.id, now).map_err(ImportRefused::TooOften)?;
        } else {
            inner.admit(&list, account.ok_or(ImportRefused::NoAccount)?, now)?;
        }
        let account = inner.accounts.account(&list.id).copied().or(account);
        let stored = Stored { size: inner.range.size(), received: now, list, account };
        let line = stored.format();
        let bytes_max = if is_renewal { inner.bytes_max } else { inner.bytes_max / 2 };
        if !inner.lines.has_room_for(&line, bytes_max) {
            return Err(ImportRefused::Full);
        }
        inner.put(stored)?;
        Ok(inner.lines.append([line.as_str()])?)
    }

    /// Follows the log until it is aborted.
    pub async fn follow(&self, fetcher: Fetcher, url: &str, trust: &Trust, poll_ms: u64, clock: &Clock) {
        let reader = LogReader::new(fetcher, url);
        self.inner().time = Some(LogTime::new(clock.clone(), None));
        let mut every = tokio::time::interval(Duration::from_millis(poll_ms));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut ahead, mut not_before, mut is_told) = (Ahead::default(), Instant::now(), false);
        loop {
            every.tick().await;
            if not_before <= Instant::now() {
                match self.read(&reader, &mut ahead, trust).await {
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
            let now = self.now();
            self.tick(now);
        }
    }

    /// The time of whoever follows a log: the wall clock alone, which may be set, makes nothing overdue.
    fn now(&self) -> UnixMillis {
        self.inner().time.as_ref().map_or(UnixMillis::new(0), LogTime::now)
    }

    /// Reads what is new, step by step, if the checkpoint meets the policy and the entries lead to its root.
    async fn read(&self, reader: &LogReader, ahead: &mut Ahead, trust: &Trust) -> Result<(), NotRead> {
        let note = reader.checkpoint().await?;
        let cosigned = {
            let mut inner = self.inner();
            let time = inner.time.as_mut().expect("it is set before the log is read");
            let cosigned = time.judge(&note, trust.policy(), trust.freshness())?;
            inner.cosigned = inner.cosigned.max(cosigned.size());
            cosigned
        };
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
            self.take(from, &step.entries, range, self.now());
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
        // A hit of an earlier run may have been claimed by a list that is taken up further on.
        if !self.inner().stored.is_empty() {
            return;
        }
        let written = self.notices.overdue(now).and_then(|overdue| {
            let (found, gone) = self.inner().raise(overdue, now);
            // The disk is waited for while nobody waits for the lists.
            let new = self.notices.write(&found, &gone);
            if new.is_err() {
                self.inner().unwritten = found;
            }
            new
        });
        match written {
            Ok(new) => {
                new.iter().for_each(|entry| tracing::warn!(entry, "a user's watch-list was hit and nobody claimed it"));
            }
            // Lists that were hit keep their lines until it is told.
            Err(error) => return tracing::error!(%error, "notices could not be written down; they are tried again"),
        }
        let mut inner = self.inner();
        inner.book.forget_expired(now);
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

    /// What is due to be told, and which of these lists are gone. What the disk did not take before comes first, alone.
    fn raise(&mut self, overdue: Vec<WatchId>, now: UnixMillis) -> (Vec<Raised>, Vec<WatchId>) {
        let mut found = std::mem::take(&mut self.unwritten);
        if found.is_empty() {
            let raised = |alert| match alert {
                Alert::Unexpected { id, place, time } => {
                    let holder = self.holders.get(&id).copied()?;
                    Some(Raised { list: id, holder, notice: Notice { place, time } })
                }
                Alert::Expired { .. } => None,
            };
            found = self.book.tick(self.range.size(), now).into_iter().filter_map(raised).collect();
        }
        (found, overdue.into_iter().filter(|list| !self.book.holds(list)).collect())
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
        let replayed = if self.follows { stored.size } else { u64::MAX };
        book.import(stored.list, stored.received, replayed, |label| places.get(label).copied())?;
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

    /// Leaves out the lines that lead to nothing any more. A list of which something is open keeps its own, and no other's.
    fn write_anew(&mut self, now: UnixMillis) -> io::Result<()> {
        let (lines, taken_up) = (self.lines.count(), *self.taken_up.get_or_insert(now));
        let small = lines < 64 || lines < 2 * self.kept.max(self.book.len() as u64);
        // Hits that were found again after a start may come from any line.
        let settles = self.book.open_hits() > 0 && now < taken_up.plus_ms(self.renew_within_ms);
        if small || settles || !self.stored.is_empty() {
            return Ok(());
        }
        // The lines of open lists come first: they were written when less had been read.
        let mut text = self.lines_of_open(now)?;
        for list in self.book.lists().filter(|list| !self.book.is_open(&list.id)) {
            let account = self.accounts.account(&list.id).copied();
            let stored = Stored { size: self.range.size(), received: now, list: list.clone(), account };
            text += &(stored.format() + "\n");
        }
        durable::replace(&self.path, text.as_bytes())?;
        self.lines = Lines::open(&self.path, LISTS_BYTES_MAX)?.0;
        self.kept = self.lines.count();
        Ok(())
    }

    /// The lines that lead to what is open, in their order: those that wait for an entry, and those whose hits may still be claimed,
    /// which are made until the next line comes.
    fn lines_of_open(&self, now: UnixMillis) -> io::Result<String> {
        if !self.book.lists().any(|list| self.book.is_open(&list.id)) {
            return Ok(String::new());
        }
        let bytes = durable::read(&self.path, LISTS_BYTES_MAX)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let mut of = HashMap::<WatchId, Vec<(usize, &str, UnixMillis)>>::new();
        for (at, line) in text.lines().enumerate() {
            if let Some(stored) = Stored::parse(line).filter(|s| self.book.is_open(&s.list.id)) {
                of.entry(stored.list.id).or_default().push((at, line, stored.received));
            }
        }
        let mut needed = Vec::new();
        for lines in of.values() {
            let waiting = lines.len().saturating_sub(1 + RENEWALS_OPEN_MAX);
            let is_young = |i: usize| lines.get(i + 1).is_none_or(|next| now < next.2.plus_ms(self.renew_within_ms));
            needed.extend((0..lines.len()).filter(|i| *i >= waiting || is_young(*i)).map(|i| (lines[i].0, lines[i].1)));
        }
        needed.sort_unstable();
        Ok(needed.into_iter().map(|(_, line)| format!("{line}\n")).collect())
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

#[cfg(test)]
mod tests {
    use waymark_log::key::SecretKey;
    use waymark_mapping::{
        signed::{SignedStruct, UNSIGNED},
        watch::{AHEAD_MAX, WATCH_LIFETIME_MS_MAX},
        wire::{Extensions, Format, List24, Optional24},
    };

    use super::*;

    const WITHIN: u64 = 600_000;

    fn ms(n: u64) -> UnixMillis {
        UnixMillis::new(n)
    }

    fn label(i: u64) -> Label {
        Label(Hash::sha256(&[&i.to_be_bytes()]))
    }

    /// A list of 60 labels, from `label(first)` on.
    fn list(name: u8, made: u64, first: u64, size: u64, renews: Option<Hash>) -> WatchList {
        let (origin, secret) = (Origin::new("dp.example/log").unwrap(), SecretKey::from_seed(&[name; 32]));
        let mut list = WatchList {
            extensions: Extensions::NONE,
            format: Format,
            origin: (&origin).into(),
            id: WatchId([name; 16]),
            holder: secret.public(),
            size,
            root: Hash::ZERO,
            made: ms(made),
            expiry: ms(1_000_000_000),
            labels: List24::new((first..first + 60).map(label).collect()).unwrap(),
            renews: Optional24(renews),
            sig: UNSIGNED,
        };
        list.sign(&origin, &secret);
        list
    }

    fn open(dir: &Path, follows: bool) -> Watching {
        let origin = Origin::new("dp.example/log").unwrap();
        Watching::open(dir, Domain::parse("chat.example").unwrap(), origin, WITHIN, follows).unwrap()
    }

    fn account() -> Option<Key> {
        Some(SecretKey::from_seed(&[99; 32]).public())
    }

    fn rule(refused: Result<(), ImportRefused>) -> WatchRefused {
        match refused.unwrap_err() {
            ImportRefused::Rule(rule) => rule,
            other => panic!("{other}"),
        }
    }

    fn hit(watching: &Watching, index: u64, of: u64, now: UnixMillis) {
        let place = Place { index, leaf: leaf_hash(&index.to_be_bytes()) };
        let mut inner = watching.inner();
        inner.places.insert(label(of), (place, now));
        inner.book.on_change(place, &label(of), now, now);
    }

    #[test]
    fn a_list_for_a_tree_that_nobody_cosigned_is_taken_later() {
        let folder = tempfile::tempdir().unwrap();
        let watching = open(folder.path(), true);
        watching.import(list(1, 1, 0, 10, None), account(), ms(1)).unwrap();
        let claim = Some(leaf_hash(b"claimed"));
        assert_eq!(rule(watching.import(list(1, 2, 0, u64::MAX, claim), None, ms(2))), WatchRefused::Ahead);
        let far = || list(1, 2, 0, 10 + AHEAD_MAX, claim);
        assert_eq!(rule(watching.import(far(), None, ms(2))), WatchRefused::Ahead);
        watching.inner().cosigned = 10;
        watching.import(far(), None, ms(2)).unwrap();
        // Renewals that wait are few, whatever they claim.
        for made in 3..50 {
            let _ = watching.import(list(1, made, made * 60, 10 + AHEAD_MAX, claim), None, ms(made));
            assert!(watching.inner().lines.count() <= 1 + RENEWALS_OPEN_MAX as u64);
        }
        assert_eq!(rule(watching.import(list(1, 50, 0, 10, claim), None, ms(50))), WatchRefused::Open);
        // Without a log nothing is waited for.
        let folder = tempfile::tempdir().unwrap();
        let kept = open(folder.path(), false);
        for made in 1..20 {
            kept.import(list(1, made, 0, made * 10_000, claim), account(), ms(made)).unwrap();
        }
        assert!(!kept.inner().book.is_open(&WatchId([1; 16])));
    }

    #[test]
    fn a_clock_that_is_set_makes_no_hit_overdue_and_stops_none() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::settable(1));
        let watching = open(folder.path(), true);
        watching.inner().time = Some(LogTime::new(clock.clone(), None));
        watching.import(list(1, 1, 0, 10, None), account(), clock.now()).unwrap();
        hit(&watching, 20, 0, watching.now());
        clock.set(366 * DAY_MS as i64);
        // Nor does a list that comes then bring the wrong time with it.
        watching.import(list(2, 1, 5000, 10, None), account(), clock.now()).unwrap();
        hit(&watching, 21, 5000, watching.now());
        watching.tick(watching.now());
        assert_eq!(watching.unexpected().unwrap().len(), 0);
        clock.advance(WITHIN);
        watching.tick(watching.now());
        assert_eq!(watching.unexpected().unwrap().len(), 2);
    }

    #[test]
    fn a_renewal_that_is_refused_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        let watching = open(folder.path(), true);
        let first = list(1, 1, 0, 10, None);
        watching.import(first.clone(), account(), ms(1)).unwrap();
        for _ in 0..2 * RENEWALS_PER_DAY_MAX {
            assert_eq!(rule(watching.import(first.clone(), None, ms(2))), WatchRefused::Superseded);
        }
        for made in 2..2 + u64::from(RENEWALS_PER_DAY_MAX) {
            watching.import(list(1, made, 0, 10, None), None, ms(made)).unwrap();
        }
        let more = watching.import(list(1, 1000, 0, 10, None), None, ms(1000));
        assert!(matches!(more, Err(ImportRefused::TooOften(_))));
    }

    #[test]
    fn new_lists_leave_room_for_the_renewals_of_those_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let watching = open(folder.path(), true);
        watching.import(list(1, 1, 0, 10, None), account(), ms(1)).unwrap();
        let line = std::fs::read(folder.path().join("watch-lists")).unwrap().len();
        watching.inner().bytes_max = 5 * line;
        watching.import(list(2, 1, 100, 10, None), account(), ms(1)).unwrap();
        let full = |refused: Result<(), ImportRefused>| matches!(refused, Err(ImportRefused::Full));
        assert!(full(watching.import(list(3, 1, 200, 10, None), account(), ms(1))));
        watching.import(list(1, 2, 0, 10, None), None, ms(2)).unwrap();
    }

    #[test]
    fn a_list_that_has_run_out_gives_its_place_back_and_its_notices_can_still_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let watching = open(folder.path(), true);
        watching.import(list(1, 1, 0, 10, None), account(), ms(1)).unwrap();
        hit(&watching, 20, 0, ms(2));
        watching.tick(ms(2 + WITHIN));
        let (id, holder) = (WatchId([1; 16]), SecretKey::from_seed(&[1; 32]).public());
        let told =
            |watching: &Watching| watching.notices(&id, &holder, None).unwrap().map(|(notices, _)| notices.len());
        assert_eq!((told(&watching), watching.told().unwrap()), (Some(1), 1));
        let expiry = 1_000_000_000;
        watching.tick(ms(expiry + WATCH_LIFETIME_MS_MAX - 1));
        assert_eq!(watching.lists(), 1);
        watching.tick(ms(expiry + WATCH_LIFETIME_MS_MAX));
        // By then its notice is as old as a list may be.
        assert_eq!(watching.lists(), 0);
        watching.tick(ms(expiry + WATCH_LIFETIME_MS_MAX));
        assert_eq!((told(&watching), watching.told().unwrap()), (None, 0));
        // One that is retired is gone at once, and what its holder was told stays as long.
        watching.import(list(2, 1, 100, 10, None), account(), ms(1)).unwrap();
        hit(&watching, 30, 100, ms(2));
        watching.tick(ms(2 + WITHIN));
        let mut retired = list(2, 2, 100, 10, None);
        retired.labels = List24::empty();
        retired.sign(&Origin::new("dp.example/log").unwrap(), &SecretKey::from_seed(&[2; 32]));
        watching.import(retired, None, ms(3 + WITHIN)).unwrap();
        watching.tick(ms(3 + WITHIN));
        assert_eq!(watching.lists(), 0);
        let holder = SecretKey::from_seed(&[2; 32]).public();
        let of = |holder: &Key| watching.notices(&WatchId([2; 16]), holder, None).unwrap().map(|(n, _)| n.len());
        assert_eq!((of(&holder), of(&account().unwrap())), (Some(1), None));
    }

    #[test]
    fn a_hit_that_the_disk_did_not_take_is_told_when_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let watching = open(folder.path(), true);
        watching.import(list(1, 1, 0, 10, None), account(), ms(1)).unwrap();
        hit(&watching, 20, 0, ms(2));
        let (found, _) = watching.inner().raise(vec![], ms(2 + WITHIN));
        assert_eq!(found.len(), 1);
        // As after a write that failed.
        watching.inner().unwritten = found;
        hit(&watching, 21, 1, ms(2));
        watching.tick(ms(2 + WITHIN));
        assert_eq!(watching.told().unwrap(), 1);
        watching.tick(ms(2 + WITHIN));
        assert_eq!(watching.told().unwrap(), 2);
    }

    #[test]
    fn a_list_that_is_always_open_keeps_the_file_from_nothing_and_loses_no_hit() {
        let folder = tempfile::tempdir().unwrap();
        let watching = open(folder.path(), true);
        watching.tick(ms(0));
        watching.import(list(1, 1, 0, 10, None), account(), ms(1)).unwrap();
        watching.import(list(2, 1, 5000, 10, None), account(), ms(1)).unwrap();
        // Whenever time has passed, a hit on the first is open; the second is renewed as often, and nothing of it is open.
        let (step, mut most) = (2 * WITHIN, 0);
        for i in 1..=300 {
            let now = ms(i * step);
            hit(&watching, i, 0, now);
            watching.import(list(1, now.get(), 0, 10, None), None, now).unwrap();
            watching.import(list(2, now.get(), 5000, 10, None), None, now).unwrap();
            watching.tick(now);
            assert!(watching.inner().book.is_open(&WatchId([1; 16])));
            most = most.max(watching.inner().lines.count());
        }
        assert!(most <= 66, "{most} lines");
        // What is left leads to the same lists, with their accounts.
        let lists = |of: &Watching| of.inner().book.lists().cloned().collect::<Vec<_>>();
        let before = lists(&watching);
        drop(watching);
        let again = open(folder.path(), true);
        assert_eq!(again.lists(), 2);
        again.inner().take_up(u64::MAX);
        assert_eq!(lists(&again), before);
        assert_eq!(again.inner().accounts.account(&WatchId([1; 16])).copied(), account());
    }
}
