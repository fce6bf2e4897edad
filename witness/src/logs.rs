//! `logs.toml`: the logs whose checkpoints are cosigned, and by which keys.
//!
//! ```toml
//! [[log]]
//! origin = "log.example"
//! keys = ["log.example+<hex ID>+<base64>"]
//! requests_per_day = 1000        # optional
//! ```
//!
//! The list only grows. A log can be added and a second key can be added to a log; nothing is exchanged and nothing is
//! removed, since whoever could exchange a log's key could show this witness another tree under the same name (a split
//! view). A running witness reads the file again when it meets an origin or a signer it does not know or a quota is used up,
//! at most once a second, and keeps the list it has if the new one is unreadable or lacks anything.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use waymark_log::{
    checkpoint::Origin,
    note::{Role, Vkey},
};
use waymark_runtime::durable;

use crate::quota::REQUESTS_PER_DAY_DEFAULT;

/// The list of logs.
pub const LOGS_FILE: &str = "logs.toml";

/// Most bytes in the list: 40,000 logs (the larger profile of the public witness network) at 400 bytes.
pub const LOGS_BYTES_MAX: usize = 16 << 20;
/// Most keys of one log: it needs two while it changes from one to the next.
pub const KEYS_PER_LOG_MAX: usize = 8;
/// Shortest time between two readings of the list by a running witness, in seconds: strangers name unknown origins.
pub const REREAD_S_MIN: u64 = 1;

const HEADER: &str = "\
# The logs that this witness cosigns. `waymark-witness log add` writes this file; a running witness reads it again when it
# meets an origin or a signer it does not know or a quota is used up.
# Nothing may be taken out and no key exchanged: whoever held the new key could show the witness another tree under the
# same name, and its cosignatures would cover a split view.
#
# origin            first line of the log's checkpoints. No default.
# keys              verifier keys, one of which must have signed. No default.
# requests_per_day  checkpoints it may have cosigned in a UTC day; the rest gets 429. A refresh is not counted. Default ";

/// One log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its name, the first line of its checkpoints.
    pub origin: Origin,
    /// Its keys, one of which must have signed: at least one, at most [`KEYS_PER_LOG_MAX`], all of them log keys.
    pub keys: Vec<Vkey>,
    /// Cosignatures it may ask for in a day, if not [`REQUESTS_PER_DAY_DEFAULT`].
    pub requests_per_day: Option<u32>,
}

impl LogEntry {
    /// Cosignatures it may ask for in a day.
    pub fn per_day(&self) -> u32 {
        self.requests_per_day.unwrap_or(REQUESTS_PER_DAY_DEFAULT)
    }
}

/// What [`add_log`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// A log that was not there.
    Log,
    /// Another key for a log that was.
    Key,
    /// Another quota for a log and key that were.
    Quota,
    /// Nothing: all this was there.
    Nothing,
}

/// What can be wrong with the list.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// There is no list. An empty one is a file too.
    #[error("{0}: there is no such file; `init` makes one")]
    Missing(PathBuf),
    /// The content.
    #[error("{path}: {what}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The key is a witness's (type 0x04 or 0x06).
    #[error("{0} is a key for cosignatures, not a log's key")]
    NotALogKey(Box<Vkey>),
    /// The log has as many keys as it may have.
    #[error("{0} has {KEYS_PER_LOG_MAX} keys already")]
    TooManyKeys(Origin),
    /// Cosigning nothing is not a quota.
    #[error("a quota of no requests a day")]
    NoRequests,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListFile {
    #[serde(default)]
    log: Vec<LogTable>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogTable {
    origin: String,
    keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_day: Option<u32>,
}

impl LogTable {
    fn write(entry: &LogEntry) -> Self {
        Self {
            origin: entry.origin.to_string(),
            keys: entry.keys.iter().map(Vkey::to_string).collect(),
            requests_per_day: entry.requests_per_day,
        }
    }

    fn read(&self) -> Result<LogEntry, String> {
        let origin = Origin::new(&self.origin).map_err(|e| e.to_string())?;
        let about = |what: String| format!("{origin}: {what}");
        if self.keys.is_empty() || self.keys.len() > KEYS_PER_LOG_MAX {
            return Err(about(format!("a log has 1 to {KEYS_PER_LOG_MAX} keys")));
        }
        let mut keys = Vec::with_capacity(self.keys.len());
        for text in &self.keys {
            let key = Vkey::parse(text).map_err(|e| about(e.to_string()))?;
            if key.role() != Role::Log || keys.contains(&key) {
                return Err(about(format!("{key} is not a log's key, or stands there twice")));
            }
            keys.push(key);
        }
        if self.requests_per_day == Some(0) {
            return Err(about(LogsError::NoRequests.to_string()));
        }
        Ok(LogEntry { origin, keys, requests_per_day: self.requests_per_day })
    }
}

/// Writes the empty list of a new witness.
pub(crate) fn create(dir: &Path) -> Result<(), LogsError> {
    write(dir, &[])
}

/// The list, in the order in which it was made.
///
/// # Errors
/// [`LogsError`]; a list that is missing or malformed is not an empty list.
pub fn logs(dir: &Path) -> Result<Vec<LogEntry>, LogsError> {
    let path = dir.join(LOGS_FILE);
    let malformed = |what: String| LogsError::Malformed { path: path.clone(), what };
    let io = |error| LogsError::Io { path: path.clone(), error };
    let bytes = durable::read(&path, LOGS_BYTES_MAX).map_err(io)?.ok_or_else(|| LogsError::Missing(path.clone()))?;
    let text = String::from_utf8(bytes).map_err(|_| malformed("not UTF-8".into()))?;
    let file: ListFile = toml::from_str(&text).map_err(|e| malformed(e.to_string()))?;
    let mut entries = Vec::with_capacity(file.log.len());
    let mut seen = std::collections::HashSet::new();
    for table in &file.log {
        let entry = table.read().map_err(malformed)?;
        if !seen.insert(entry.origin.clone()) {
            return Err(malformed(format!("{} stands there twice", entry.origin)));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Adds a log, or a key to a log that is there. `origin` is the key's name unless said otherwise.
///
/// `requests_per_day` replaces an earlier quota; `None` leaves it.
///
/// # Errors
/// [`LogsError`]. The list is then as it was.
pub fn add_log(
    dir: &Path,
    vkey: &Vkey,
    origin: Option<Origin>,
    requests_per_day: Option<u32>,
) -> Result<Added, LogsError> {
    if vkey.role() != Role::Log {
        return Err(LogsError::NotALogKey(Box::new(vkey.clone())));
    }
    if requests_per_day == Some(0) {
        return Err(LogsError::NoRequests);
    }
    let origin = match origin {
        Some(origin) => origin,
        None => Origin::new(vkey.name().as_str())
            .map_err(|e| LogsError::Malformed { path: dir.join(LOGS_FILE), what: e.to_string() })?,
    };
    // Reading, adding and writing are one step: two commands at a time would lose one of two logs.
    let io = |error| LogsError::Io { path: dir.to_owned(), error };
    let _lock = lock(dir).map_err(io)?;
    let mut entries = logs(dir)?;
    let added = insert(&mut entries, vkey, origin, requests_per_day)?;
    if added != Added::Nothing {
        write(dir, &entries)?;
    }
    Ok(added)
}

fn insert(
    entries: &mut Vec<LogEntry>,
    vkey: &Vkey,
    origin: Origin,
    requests_per_day: Option<u32>,
) -> Result<Added, LogsError> {
    let Some(entry) = entries.iter_mut().find(|e| e.origin == origin) else {
        entries.push(LogEntry { origin, keys: vec![vkey.clone()], requests_per_day });
        return Ok(Added::Log);
    };
    let new_key = !entry.keys.contains(vkey);
    if new_key {
        if entry.keys.len() == KEYS_PER_LOG_MAX {
            return Err(LogsError::TooManyKeys(origin));
        }
        entry.keys.push(vkey.clone());
    }
    let new_quota = requests_per_day.is_some() && requests_per_day != entry.requests_per_day;
    if new_quota {
        entry.requests_per_day = requests_per_day;
    }
    Ok(match (new_key, new_quota) {
        (true, _) => Added::Key,
        (false, true) => Added::Quota,
        (false, false) => Added::Nothing,
    })
}

/// Held as long as the file it returns.
fn lock(dir: &Path) -> io::Result<File> {
    let folder = File::open(dir)?;
    folder.lock()?;
    Ok(folder)
}

fn write(dir: &Path, entries: &[LogEntry]) -> Result<(), LogsError> {
    let path = dir.join(LOGS_FILE);
    let malformed = |what: String| LogsError::Malformed { path: path.clone(), what };
    let file = ListFile { log: entries.iter().map(LogTable::write).collect() };
    let tables = if entries.is_empty() {
        String::new()
    } else {
        toml::to_string(&file).map_err(|e| malformed(e.to_string()))?
    };
    let text = format!("{HEADER}{REQUESTS_PER_DAY_DEFAULT}.\n\n{tables}");
    if text.len() > LOGS_BYTES_MAX {
        return Err(malformed(format!("the list would be over {LOGS_BYTES_MAX} bytes")));
    }
    durable::replace(&path, text.as_bytes()).map_err(|error| LogsError::Io { path: path.clone(), error })
}

type Entries = HashMap<Origin, Arc<LogEntry>>;

/// The list of a running witness.
#[derive(Debug)]
pub struct LogList {
    dir: PathBuf,
    entries: RwLock<Arc<Entries>>,
    /// When it was last read again. A monotonic time, which is no business of the wall clock.
    reread: Mutex<Option<Instant>>,
}

impl LogList {
    /// Reads the list for the first time.
    ///
    /// # Errors
    /// [`LogsError`].
    pub fn load(dir: &Path) -> Result<Self, LogsError> {
        let entries = RwLock::new(Arc::new(read_entries(dir)?));
        Ok(Self { dir: dir.to_owned(), entries, reread: Mutex::new(None) })
    }

    /// How many logs are listed.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// A log of the list as it is now.
    pub fn find(&self, origin: &Origin) -> Option<Arc<LogEntry>> {
        self.entries().get(origin).cloned()
    }

    /// Reads the list again, unless it was in the last [`REREAD_S_MIN`] seconds; returns whether it did and it changed.
    pub fn refresh(&self) -> bool {
        let Ok(mut reread) = self.reread.try_lock() else { return false };
        if reread.is_some_and(|at| at.elapsed() < Duration::from_secs(REREAD_S_MIN)) {
            return false;
        }
        *reread = Some(Instant::now());
        let new = match read_entries(&self.dir) {
            Ok(new) => new,
            Err(error) => {
                tracing::error!(%error, "the list of logs cannot be read; the earlier one stays in force");
                return false;
            }
        };
        let old = self.entries();
        if let Some(origin) = first_missing(&old, &new) {
            tracing::error!(%origin, "the list of logs lost a log or a key; the earlier one stays in force");
            return false;
        }
        let changed = *old != new;
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        changed
    }

    fn entries(&self) -> Arc<Entries> {
        Arc::clone(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read_entries(dir: &Path) -> Result<Entries, LogsError> {
    Ok(logs(dir)?.into_iter().map(|e| (e.origin.clone(), Arc::new(e))).collect())
}

/// A log of `old` that `new` lacks, whole or by a key.
fn first_missing<'a>(old: &'a Entries, new: &Entries) -> Option<&'a Origin> {
    let kept = |entry: &LogEntry| new.get(&entry.origin).is_some_and(|n| entry.keys.iter().all(|k| n.keys.contains(k)));
    old.values().find(|entry| !kept(entry)).map(|entry| &entry.origin)
}

#[cfg(test)]
mod tests {
    use waymark_log::{
        key::SecretKey,
        note::{KeyName, Role},
    };

    use super::*;

    fn vkey(name: &str, seed: u8) -> Vkey {
        Vkey::new(KeyName::new(name).unwrap(), Role::Log, SecretKey::from_seed(&[seed; 32]).public())
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path()).unwrap();
        folder
    }

    #[test]
    fn the_list_only_grows() {
        let folder = folder();
        let dir = folder.path();
        let other = Origin::new("another log").unwrap();
        assert_eq!(add_log(dir, &vkey("a.example", 1), None, None).unwrap(), Added::Log);
        assert_eq!(add_log(dir, &vkey("a.example", 1), None, None).unwrap(), Added::Nothing);
        assert_eq!(add_log(dir, &vkey("a.example", 2), None, None).unwrap(), Added::Key);
        assert_eq!(add_log(dir, &vkey("a.example", 2), None, Some(7)).unwrap(), Added::Quota);
        assert_eq!(add_log(dir, &vkey("b.example", 3), Some(other.clone()), Some(9)).unwrap(), Added::Log);
        let list = logs(dir).unwrap();
        assert_eq!(list[0].keys, [vkey("a.example", 1), vkey("a.example", 2)]);
        assert_eq!((list[0].per_day(), list[1].per_day()), (7, 9));
        assert_eq!(list[1].origin, other);
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn what_is_no_log_is_not_added() {
        let folder = folder();
        let dir = folder.path();
        let witness =
            Vkey::new(KeyName::new("w.example").unwrap(), Role::Witness, SecretKey::from_seed(&[1; 32]).public());
        assert!(matches!(add_log(dir, &witness, None, None), Err(LogsError::NotALogKey(_))));
        assert!(matches!(add_log(dir, &vkey("a.example", 1), None, Some(0)), Err(LogsError::NoRequests)));
        for seed in 0..KEYS_PER_LOG_MAX as u8 {
            add_log(dir, &vkey("a.example", seed), None, None).unwrap();
        }
        assert!(matches!(add_log(dir, &vkey("a.example", 99), None, None), Err(LogsError::TooManyKeys(_))));
        assert_eq!(logs(dir).unwrap()[0].keys.len(), KEYS_PER_LOG_MAX);
    }

    #[test]
    fn a_bad_list_is_no_empty_list() {
        let folder = folder();
        let (path, key) = (folder.path().join(LOGS_FILE), vkey("a.example", 1));
        let witness = Vkey::new(key.name().clone(), Role::Witness, *key.ed25519().unwrap());
        for bad in [
            "nonsense".to_owned(),
            "[[logs]]\n".to_owned(),
            "[[log]]\norigin = \"a\"\nkeys = []\n".to_owned(),
            format!("[[log]]\norigin = \"\"\nkeys = [\"{key}\"]\n"),
            format!("[[log]]\norigin = \"a\"\nkeys = [\"{key}\", \"{key}\"]\n"),
            format!("[[log]]\norigin = \"a\"\nkeys = [\"{witness}\"]\n"),
            format!("[[log]]\norigin = \"a\"\nkeys = [\"{key}\"]\nrequests_per_day = 0\n"),
            format!("[[log]]\norigin = \"a\"\nkeys = [\"{key}\"]\nqpd = 5\n"),
            format!("[[log]]\norigin = \"a\"\nkeys = [\"{key}\"]\n").repeat(2),
        ] {
            std::fs::write(&path, &bad).unwrap();
            assert!(matches!(logs(folder.path()), Err(LogsError::Malformed { .. })), "{bad}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(logs(folder.path()), Err(LogsError::Missing(_))));
        assert!(matches!(add_log(folder.path(), &key, None, None), Err(LogsError::Missing(_))));
    }

    #[test]
    fn commands_at_the_same_time_lose_nothing() {
        let folder = folder();
        std::thread::scope(|scope| {
            for seed in 0..8 {
                let dir = folder.path();
                scope.spawn(move || add_log(dir, &vkey(&format!("{seed}.example"), seed), None, None).unwrap());
            }
        });
        assert_eq!(logs(folder.path()).unwrap().len(), 8);
    }

    #[test]
    fn a_running_list_takes_what_is_added_and_nothing_else() {
        let folder = folder();
        let dir = folder.path();
        let a = Origin::new("a.example").unwrap();
        let list = LogList::load(dir).unwrap();
        assert_eq!(list.find(&a), None);
        add_log(dir, &vkey("a.example", 1), None, None).unwrap();
        assert!(list.refresh());
        assert!(list.find(&a).is_some());
        // Not twice in a second.
        add_log(dir, &vkey("a.example", 2), None, None).unwrap();
        assert!(!list.refresh());
        assert_eq!(list.find(&a).unwrap().keys.len(), 1);
        let again = || {
            *list.reread.lock().unwrap() = None;
            list.refresh()
        };
        assert!(again());
        assert_eq!(list.find(&a).unwrap().keys.len(), 2);
        // Exchanged, emptied, broken, gone: the earlier list stays.
        std::fs::remove_file(dir.join(LOGS_FILE)).unwrap();
        assert!(!again());
        create(dir).unwrap();
        assert!(!again());
        add_log(dir, &vkey("a.example", 3), None, None).unwrap();
        assert!(!again());
        std::fs::write(dir.join(LOGS_FILE), "nonsense").unwrap();
        assert!(!again());
        assert_eq!(list.find(&a).unwrap().keys, [vkey("a.example", 1), vkey("a.example", 2)]);
    }
}
