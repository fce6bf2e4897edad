//! What an MSP has to tell its users: that something under their identifier has changed, and that none of their apps said so.
//!
//! Notices lie in `notices.redb` of the adapter's folder, and are read from there when their holder asks:
//!
//! ```text
//! notices   (list, entry) -> <leaf, 32 bytes> <time of its head, ms, 8 bytes>
//! lists     list          -> <key of its holder, 32 bytes> <time of the last head that hit it, ms, 8 bytes>
//! ```
//!
//! A notice says where in the log it happened, and nothing of who did it or what: the adapter does not know, and a newcomer
//! is not to be told on before the recipient has looked.
//!
//! Strangers can make more of them, by changes of their own identifiers. So they have limits: the newest
//! [`NOTICES_PER_LIST_MAX`] of a list stay; once half of the room is taken a further list gets [`NOTICES_PER_LIST_FEW`], for which
//! the other half is enough; and the notices of a list that is gone go [`KEPT_MS`] after its last hit. No start is refused because
//! there are many.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{self, BufRead, BufReader},
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use data_encoding::HEXLOWER;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition};
use waymark_log::{hash::Hash, key::Key, time::UnixMillis};
use waymark_mapping::watch::{Place, WATCH_LIFETIME_MS_MAX, WatchId};
use waymark_runtime::{
    database::{begin_write, builder},
    durable,
};

use super::watching::LISTS_MAX;

/// The store, in the adapter's folder.
const FILE: &str = "notices.redb";
/// The file of lines that an earlier program kept them in.
const OLD_FILE: &str = "notices";
/// Most notices taken over in one commit.
const OLD_PER_COMMIT: usize = 10_000;

/// Most notices: some 150 bytes each, so 600 MB on the disk.
const NOTICES_MAX: u64 = 4_000_000;
/// Most notices kept for one list: who has not looked after so many will not for more. The newest stay.
const NOTICES_PER_LIST_MAX: usize = 64;
/// So many while half of the room is taken: the first tells its holder to look, and the next says that it goes on.
const NOTICES_PER_LIST_FEW: usize = 2;
// Whatever fills the first half, there is room for those of every list in the second.
const _: () = assert!(LISTS_MAX as u64 * NOTICES_PER_LIST_FEW as u64 <= NOTICES_MAX / 2);
/// How long the notices of a list stay that is gone, in milliseconds: as long as a list lives without renewal.
const KEPT_MS: u64 = WATCH_LIFETIME_MS_MAX;
/// Most lists that one tick looks at, to see whether they are gone: all that there can be in some minutes.
const SWEPT_MAX: usize = 1000;

const NOTICES: TableDefinition<(&[u8], u64), &[u8]> = TableDefinition::new("notices");
const LISTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("lists");

/// Any of the database's errors, or a row that nobody here has written.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// A hit on a user's watch-list that nobody claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The entry.
    pub place: Place,
    /// When its head was made.
    pub time: UnixMillis,
}

/// A notice to be written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raised {
    /// The list that was hit.
    pub list: WatchId,
    /// Whose the list is.
    pub holder: Key,
    /// What is to be told.
    pub notice: Notice,
}

/// Notices by list.
pub struct Notices {
    path: PathBuf,
    max: u64,
    database: Mutex<Handle>,
    /// Hits since the start that are not kept.
    beyond: Mutex<HashMap<WatchId, u64>>,
    /// The last list that was looked at, to see whether it is gone.
    swept: Mutex<Option<WatchId>>,
}

/// The database, while there is one.
#[derive(Default)]
enum Handle {
    /// It is not open yet, or something failed: what has failed once refuses everything until it is opened again.
    #[default]
    Shut,
    Open(Arc<Database>),
    /// The adapter stops: the next one is to find the file free.
    Given,
}

/// What has become of a notice.
#[derive(PartialEq, Eq)]
enum Added {
    /// It was there.
    Known,
    /// It is new, and may have taken the place of an older one of its list.
    New { in_place: bool },
    /// There is no room for it.
    Beyond,
}

impl Notices {
    /// Opens the notices in a folder, or makes them. `holder` says whose a list is: notices that an earlier program kept in a
    /// file of lines are taken over.
    ///
    /// # Errors
    /// If they cannot be read or written, with the path.
    pub fn open(dir: &Path, holder: impl Fn(&WatchId) -> Option<Key>) -> io::Result<Self> {
        let (database, beyond, swept) = (Mutex::default(), Mutex::default(), Mutex::default());
        let notices = Self { path: dir.join(FILE), max: NOTICES_MAX, database, beyond, swept };
        notices.with(|database| {
            let write = begin_write(database)?;
            Rows::of(&write)?;
            Ok(write.commit()?)
        })?;
        // A file whose name is lost with the power is lost.
        durable::sync_folder(dir)?;
        notices.take_over(dir, holder)?;
        Ok(notices)
    }

    /// Does something with the database, which is opened if it is not.
    fn with<T>(&self, job: impl FnOnce(&Database) -> Result<T, Fault>) -> io::Result<T> {
        let named = |e: Fault| io::Error::other(format!("{}: {e}", self.path.display()));
        let database = self.database().map_err(named)?;
        job(&database).map_err(|e| {
            let mut handle = lock(&self.database);
            if matches!(*handle, Handle::Open(_)) {
                *handle = Handle::Shut;
            }
            named(e)
        })
    }

    fn database(&self) -> Result<Arc<Database>, Fault> {
        let mut handle = lock(&self.database);
        match &*handle {
            Handle::Open(database) => Ok(Arc::clone(database)),
            Handle::Given => Err("the adapter stops".into()),
            Handle::Shut => {
                let database = Arc::new(builder().create(&self.path)?);
                *handle = Handle::Open(Arc::clone(&database));
                Ok(database)
            }
        }
    }

    /// Gives the file back, whoever still holds this.
    pub fn close(&self) {
        *lock(&self.database) = Handle::Given;
    }

    /// Reads `<list, hex> <entry> <leaf, hex> <time, ms>`, one a line. Those of lists that are gone nobody could read any more.
    fn take_over(&self, dir: &Path, holder: impl Fn(&WatchId) -> Option<Key>) -> io::Result<()> {
        let path = dir.join(OLD_FILE);
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let mut lines = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => BufReader::new(file.map_err(named)?),
        };
        let (mut line, mut found) = (String::new(), Vec::new());
        // A last line without its end was never acknowledged.
        while lines.read_line(&mut line).map_err(named)? > 0 && line.ends_with('\n') {
            let damaged = || named(io::Error::new(io::ErrorKind::InvalidData, "a damaged line"));
            let (list, notice) = parse(line.trim_end()).ok_or_else(damaged)?;
            found.extend(holder(&list).map(|holder| Raised { list, holder, notice }));
            if found.len() == OLD_PER_COMMIT {
                self.write(&std::mem::take(&mut found), &[])?;
            }
            line.clear();
        }
        self.write(&found, &[])?;
        std::fs::remove_file(&path).map_err(named)?;
        durable::sync_folder(dir)
    }

    /// Keeps notices and lets go of those of the lists that are gone, in one commit: all of it is on the disk when this
    /// returns, or none. Gives the entries of those that are new.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn write(&self, found: &[Raised], gone: &[WatchId]) -> io::Result<Vec<u64>> {
        if found.is_empty() && gone.is_empty() {
            return Ok(Vec::new());
        }
        let (new, lost) = self.with(|database| {
            let write = begin_write(database)?;
            let (mut new, mut lost) = (Vec::new(), Vec::new());
            {
                let mut rows = Rows::of(&write)?;
                gone.iter().try_for_each(|list| rows.forget(list))?;
                for raised in found {
                    let added = rows.add(raised, self.max)?;
                    if matches!(added, Added::New { .. }) {
                        new.push(raised.notice.place.index);
                    }
                    if matches!(added, Added::Beyond | Added::New { in_place: true }) {
                        lost.push(raised.list);
                    }
                }
            }
            write.commit()?;
            Ok((new, lost))
        })?;
        let mut beyond = lock(&self.beyond);
        for list in gone {
            beyond.remove(list);
        }
        lost.into_iter().for_each(|list| *beyond.entry(list).or_default() += 1);
        Ok(new)
    }

    /// Lists whose notices may go if the lists are gone: some of them at a time, round and round. While half of the room is
    /// taken, that may be any.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn overdue(&self, now: UnixMillis) -> io::Result<Vec<WatchId>> {
        let mut swept = lock(&self.swept);
        let (seen, overdue) = self.with(|database| {
            let read = database.begin_read()?;
            let kept_ms = if read.open_table(NOTICES)?.len()? < self.max / 2 { KEPT_MS } else { 0 };
            let from = swept.as_ref().map_or(Bound::Unbounded, |last| Bound::Excluded(&last.0[..]));
            let (mut seen, mut overdue) = (Vec::new(), Vec::new());
            for row in read.open_table(LISTS)?.range::<&[u8]>((from, Bound::Unbounded))?.take(SWEPT_MAX) {
                let (list, held) = row?;
                let list = WatchId(list.value().try_into()?);
                seen.push(list);
                if decode(held.value())?.1.plus_ms(kept_ms) <= now {
                    overdue.push(list);
                }
            }
            Ok((seen, overdue))
        })?;
        *swept = seen.last().copied().filter(|_| seen.len() == SWEPT_MAX);
        Ok(overdue)
    }

    /// A list's notices after an entry, in the order of the log; `None` if there are none of this holder.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn of(&self, list: &WatchId, holder: &Key, after: Option<u64>) -> io::Result<Option<Vec<Notice>>> {
        self.with(|database| {
            let read = database.begin_read()?;
            let held = read.open_table(LISTS)?.get(&list.0[..])?.map(|row| decode(row.value())).transpose()?;
            if held.is_none_or(|(of, _)| of != *holder) {
                return Ok(None);
            }
            let table = read.open_table(NOTICES)?;
            let Some(from) = after.map_or(Some(0), |after| after.checked_add(1)) else { return Ok(Some(Vec::new())) };
            let mut notices = Vec::new();
            for row in table.range((&list.0[..], from)..=(&list.0[..], u64::MAX))?.take(NOTICES_PER_LIST_MAX) {
                let (key, value) = row?;
                let (leaf, time) = split(value.value())?;
                notices.push(Notice { place: Place { index: key.value().1, leaf: Hash::new(leaf) }, time });
            }
            Ok(Some(notices))
        })
    }

    /// How many hits a list had since the start that are not kept.
    pub fn beyond(&self, list: &WatchId) -> u64 {
        lock(&self.beyond).get(list).copied().unwrap_or_default()
    }

    /// The entries that notices are about, each once, by leaf hash. Reads all of them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn leaves(&self) -> io::Result<BTreeSet<Hash>> {
        self.with(|database| {
            let rows = database.begin_read()?.open_table(NOTICES)?;
            rows.iter()?.map(|row| Ok(Hash::new(split(row?.1.value())?.0))).collect()
        })
    }

    /// How many notices are kept, of all lists.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn count(&self) -> io::Result<u64> {
        self.with(|database| Ok(database.begin_read()?.open_table(NOTICES)?.len()?))
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both tables, while they are written.
struct Rows<'a> {
    notices: Table<'a, (&'static [u8], u64), &'static [u8]>,
    lists: Table<'a, &'static [u8], &'static [u8]>,
}

impl<'a> Rows<'a> {
    fn of(write: &'a redb::WriteTransaction) -> Result<Self, Fault> {
        Ok(Self { notices: write.open_table(NOTICES)?, lists: write.open_table(LISTS)? })
    }

    /// The entries of which a list has notices.
    fn entries(&self, list: &WatchId) -> Result<Vec<u64>, Fault> {
        let rows = self.notices.range((&list.0[..], 0)..=(&list.0[..], u64::MAX))?;
        rows.map(|row| Ok(row?.0.value().1)).collect()
    }

    fn forget(&mut self, list: &WatchId) -> Result<(), Fault> {
        for entry in self.entries(list)? {
            self.notices.remove((&list.0[..], entry))?;
        }
        self.lists.remove(&list.0[..])?;
        Ok(())
    }

    fn add(&mut self, raised: &Raised, max: u64) -> Result<Added, Fault> {
        let Raised { list, holder, notice } = raised;
        let mut held = self.lists.get(&list.0[..])?.map(|row| decode(row.value())).transpose()?;
        if held.is_some_and(|(before, _)| before != *holder) {
            // The name has another holder now, who is not to read what the one before was told.
            self.forget(list)?;
            held = None;
        }
        let (entries, entry, total) = (self.entries(list)?, notice.place.index, self.notices.len()?);
        if entries.contains(&entry) {
            return Ok(Added::Known);
        }
        let share = if total < max / 2 { NOTICES_PER_LIST_MAX } else { NOTICES_PER_LIST_FEW };
        let oldest = entries.first().copied().filter(|_| entries.len() >= share);
        if oldest.map_or(total >= max, |oldest| entry < oldest) {
            return Ok(Added::Beyond);
        }
        if let Some(oldest) = oldest {
            self.notices.remove((&list.0[..], oldest))?;
        }
        let time = notice.time.get().to_be_bytes();
        self.notices.insert((&list.0[..], entry), &[&notice.place.leaf.as_bytes()[..], &time].concat()[..])?;
        let last = held.map_or(notice.time, |(_, last)| last.max(notice.time)).get().to_be_bytes();
        self.lists.insert(&list.0[..], &[&holder.as_bytes()[..], &last].concat()[..])?;
        Ok(Added::New { in_place: oldest.is_some() })
    }
}

/// Whose a list is, and when it was last hit.
fn decode(row: &[u8]) -> Result<(Key, UnixMillis), Fault> {
    let (key, time) = split(row)?;
    Ok((Key::new(key), time))
}

/// 32 bytes and a time.
fn split(row: &[u8]) -> Result<([u8; 32], UnixMillis), Fault> {
    let (first, time) = row.split_first_chunk::<32>().ok_or("a damaged row")?;
    Ok((*first, UnixMillis::new(u64::from_be_bytes(time.try_into()?))))
}

fn parse(line: &str) -> Option<(WatchId, Notice)> {
    let mut words = line.split(' ');
    let list = WatchId(HEXLOWER.decode(words.next()?.as_bytes()).ok()?.try_into().ok()?);
    let place = Place { index: words.next()?.parse().ok()?, leaf: Hash::from_hex(words.next()?)? };
    let time = UnixMillis::new(words.next()?.parse().ok()?);
    words.next().is_none().then_some((list, Notice { place, time }))
}

#[cfg(test)]
mod tests {
    use waymark_log::key::SecretKey;

    use super::*;

    fn holder(of: u8) -> Key {
        SecretKey::from_seed(&[of; 32]).public()
    }

    fn notice(index: u64) -> Notice {
        let leaf = Hash::sha256(&[&index.to_be_bytes()]);
        Notice { place: Place { index, leaf }, time: UnixMillis::new(index) }
    }

    /// A hit on the list with this number, of the holder with the same.
    fn raised(list: u16, index: u64) -> Raised {
        let [a, b] = list.to_be_bytes();
        Raised { list: id(list), holder: holder(a ^ b), notice: notice(index) }
    }

    fn id(list: u16) -> WatchId {
        let [a, b] = list.to_be_bytes();
        WatchId([[a, b]; 8].concat().try_into().unwrap())
    }

    fn open(dir: &Path) -> Notices {
        Notices::open(dir, |list| Some(holder(list.0[0] ^ list.0[1]))).unwrap()
    }

    fn entries(notices: &Notices, list: u16) -> Vec<u64> {
        let of = notices.of(&id(list), &raised(list, 0).holder, None).unwrap();
        of.unwrap_or_default().iter().map(|n| n.place.index).collect()
    }

    #[test]
    fn a_notice_is_kept_once_and_told_to_its_holder_alone() {
        let folder = tempfile::tempdir().unwrap();
        let notices = open(folder.path());
        assert_eq!(notices.write(&[raised(1, 7), raised(1, 7), raised(2, 7), raised(1, 3)], &[]).unwrap(), [7, 7, 3]);
        drop(notices);
        let notices = open(folder.path());
        assert_eq!(notices.write(&[raised(1, 7)], &[]).unwrap(), [0; 0]);
        let of = |by, after| notices.of(&id(1), &holder(by), after).unwrap();
        assert_eq!(of(1, None), Some(vec![notice(3), notice(7)]), "in the order of the log");
        assert_eq!((of(1, Some(3)), of(1, Some(u64::MAX))), (Some(vec![notice(7)]), Some(vec![])));
        assert_eq!((of(2, None), notices.of(&id(3), &holder(3), None).unwrap()), (None, None));
        assert_eq!((notices.count().unwrap(), notices.leaves().unwrap().len()), (3, 2));
        // Whoever takes the name of a list that is gone reads nothing of the one before.
        notices.write(&[Raised { holder: holder(9), ..raised(1, 20) }], &[]).unwrap();
        assert_eq!((of(1, None), of(9, None)), (None, Some(vec![notice(20)])));
    }

    #[test]
    fn the_newest_of_a_list_stay_and_the_others_are_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let (notices, max) = (open(folder.path()), NOTICES_PER_LIST_MAX as u64);
        for index in 10..10 + max + 5 {
            assert_eq!(notices.write(&[raised(1, index)], &[]).unwrap(), [index]);
        }
        // One that was found again after a start.
        assert_eq!(notices.write(&[raised(1, 3)], &[]).unwrap(), [0; 0]);
        assert_eq!(entries(&notices, 1), (15..15 + max).collect::<Vec<_>>());
        assert_eq!((notices.beyond(&id(1)), notices.beyond(&id(2))), (6, 0));
    }

    #[test]
    fn whoever_fills_the_room_there_is_some_for_every_list_and_the_next_start_is_not_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut notices = open(folder.path());
        // Room for 400, of which two are kept for each of a hundred lists.
        notices.max = 400;
        let flood: Vec<Raised> = (0..100).flat_map(|i| (0..10).map(move |list| raised(list, i))).collect();
        for part in flood.chunks(50) {
            notices.write(part, &[]).unwrap();
        }
        assert!((200..210).contains(&notices.count().unwrap()));
        for list in 10..100 {
            assert_eq!(notices.write(&[raised(list, 1), raised(list, 2), raised(list, 3)], &[]).unwrap(), [1, 2, 3]);
            assert_eq!(entries(&notices, list), [2, 3], "the newest");
        }
        // Who has many has the newest too.
        notices.write(&[raised(0, 500)], &[]).unwrap();
        assert_eq!(entries(&notices, 0).last(), Some(&500));
        // More lists than there can be at a time.
        (100..400).for_each(|list| drop(notices.write(&[raised(list, 1)], &[]).unwrap()));
        assert_eq!((notices.count().unwrap(), notices.beyond(&id(399))), (400, 1));
        drop(notices);
        assert_eq!(open(folder.path()).count().unwrap(), 400);
    }

    #[test]
    fn notices_of_a_list_that_is_gone_stay_as_long_as_a_list_and_less_while_half_of_the_room_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let mut notices = open(folder.path());
        notices.write(&[raised(1, 5), raised(1, 1000), raised(2, 2000)], &[]).unwrap();
        let at = |ms: u64| UnixMillis::new(ms);
        assert_eq!(notices.overdue(at(999 + KEPT_MS)).unwrap(), []);
        assert_eq!(notices.overdue(at(1000 + KEPT_MS)).unwrap(), [id(1)]);
        notices.write(&[], &[id(1)]).unwrap();
        assert_eq!((entries(&notices, 1), entries(&notices, 2)), (vec![], vec![2000]));
        notices.max = 2;
        assert_eq!(notices.overdue(at(2000)).unwrap(), [id(2)]);
    }

    #[test]
    fn all_lists_come_in_turn_when_the_gone_ones_are_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let notices = open(folder.path());
        let lists = 5 * SWEPT_MAX as u16 / 2;
        notices.write(&(0..lists).map(|list| raised(list, 1)).collect::<Vec<_>>(), &[]).unwrap();
        let mut seen: Vec<WatchId> =
            (0..3).flat_map(|_| notices.overdue(UnixMillis::new(2 + KEPT_MS)).unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..lists).map(id).collect::<Vec<_>>());
        assert_eq!(notices.overdue(UnixMillis::new(2 + KEPT_MS)).unwrap().len(), SWEPT_MAX, "and again");
    }

    #[test]
    fn a_file_of_lines_of_an_earlier_program_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let line = |list: u16, index: u64| {
            let Notice { place, time } = notice(index);
            format!("{} {index} {} {}", HEXLOWER.encode(&id(list).0), place.leaf.to_hex(), time.get())
        };
        let path = folder.path().join(OLD_FILE);
        std::fs::write(&path, format!("{}\n{}\n{}", line(1, 7), line(2, 8), &line(1, 9)[..50])).unwrap();
        let notices = Notices::open(folder.path(), |list| (*list == id(1)).then(|| holder(1))).unwrap();
        assert_eq!((entries(&notices, 1), notices.count().unwrap()), (vec![7], 1), "those that somebody may read");
        assert!(!path.exists());
        // A line that nobody has written is named.
        std::fs::write(&path, "nonsense\n").unwrap();
        drop(notices);
        let why = Notices::open(folder.path(), |_| None).err().unwrap().to_string();
        assert!(why.contains(&*path.to_string_lossy()) && why.contains("damaged"), "{why}");
    }

    #[test]
    fn after_a_write_that_failed_the_next_one_opens_the_file_again() {
        let folder = tempfile::tempdir().unwrap();
        let notices = open(folder.path());
        notices.write(&[raised(1, 1)], &[]).unwrap();
        assert!(notices.with(|_| Err::<(), _>("the disk is full".into())).is_err());
        assert!(matches!(*lock(&notices.database), Handle::Shut));
        assert_eq!(notices.write(&[raised(1, 2)], &[]).unwrap(), [2]);
        assert_eq!(entries(&notices, 1), [1, 2]);
        // Of two adapters on one folder the second does not start, until the first has stopped.
        assert!(Notices::open(folder.path(), |_| None).is_err());
        notices.close();
        assert!(notices.count().is_err());
        assert_eq!(open(folder.path()).count().unwrap(), 2);
    }
}
