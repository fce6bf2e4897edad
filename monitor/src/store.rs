//! What a monitor remembers, in one redb file.
//!
//! ```text
//! meta      "schema" -> 1, "told" -> number of the last alert or finding that was told
//! heads     origin -> StoredHead                     how far the log was replayed, and by whose word
//! bundles   (origin, n) -> entry bundle n            C2SP tlog-tiles; the last one may be partial
//! watches   (origin, list id) -> Journal
//! reports   number -> alert or finding
//! ```
//!
//! Values other than bundles are JSON behind a BLAKE3 checksum; bundles are checked by the root they lead to. **An error is
//! not absence**: a row that cannot be read stops the monitor. Everything that belongs together is one transaction,
//! committed in two phases; after a commit that failed, nothing is known until the file is opened again.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use waymark_log::{checkpoint::Origin, hash::Hash};
use waymark_mapping::watch::WatchId;
use waymark_runtime::{
    database::{begin_write, builder},
    durable,
};

use crate::{
    journal::Journal,
    report::{AlertRecord, FindingRecord, News},
};

/// The store, in the data directory.
pub const STORE_FILE: &str = "monitor.redb";
/// The one layout of this file.
const SCHEMA: u64 = 1;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const HEADS: TableDefinition<&str, &[u8]> = TableDefinition::new("heads");
const BUNDLES: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("bundles");
const WATCHES: TableDefinition<(&str, &[u8]), &[u8]> = TableDefinition::new("watches");
const REPORTS: TableDefinition<u64, &[u8]> = TableDefinition::new("reports");

/// What can be wrong with the store: always a fault of this monitor or its disk, never of a log or a request.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The database: locked by another process, damaged, or the disk failed.
    #[error("the store: {0}")]
    Database(#[from] Box<redb::Error>),
    /// A row does not hold what this monitor writes.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// Another version of this program wrote it.
    #[error("the store has layout {0}, this program knows {SCHEMA}")]
    Schema(u64),
    /// The monitor is stopping.
    #[error("the store is closed")]
    Closed,
}

/// Any of the database's errors.
fn fault(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database(Box::new(error.into()))
}

/// How far a log was replayed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredHead {
    pub(crate) size: u64,
    /// In base64, as in checkpoints.
    pub(crate) root: String,
    /// The checkpoint that the entries led to, or were proved to lead towards, byte for byte.
    pub(crate) note: String,
    /// The latest quorum that was accepted.
    pub(crate) quorum_time_s: u64,
}

impl StoredHead {
    pub(crate) fn root(&self) -> Result<Hash, StoreError> {
        Hash::from_base64(&self.root).ok_or_else(|| StoreError::Damaged("a head's root".to_owned()))
    }
}

/// What is written at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) bundles: Vec<(u64, Vec<u8>)>,
    pub(crate) head: Option<StoredHead>,
    pub(crate) journals: Vec<(WatchId, Option<Journal>)>,
    /// Numbers are given when they are written.
    pub(crate) alerts: Vec<AlertRecord>,
    pub(crate) findings: Vec<FindingRecord>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        let nothing_reported = self.alerts.is_empty() && self.findings.is_empty();
        self.bundles.is_empty() && self.head.is_none() && self.journals.is_empty() && nothing_reported
    }
}

/// The database. Every method may block on the disk.
#[derive(Debug)]
pub(crate) struct Store {
    /// `None` after [`Store::close`].
    database: RwLock<Option<Database>>,
}

impl Store {
    /// Makes a new store.
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        let io = |error| StoreError::Io { path: path.to_owned(), error };
        std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(io)?;
        let database = builder().create(path).map_err(fault)?;
        let write = begin(&database)?;
        write.open_table(META).map_err(fault)?.insert("schema", SCHEMA).map_err(fault)?;
        write.open_table(HEADS).map_err(fault)?;
        write.open_table(BUNDLES).map_err(fault)?;
        write.open_table(WATCHES).map_err(fault)?;
        write.open_table(REPORTS).map_err(fault)?;
        write.commit().map_err(fault)?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        durable::sync_folder(folder).map_err(|error| StoreError::Io { path: folder.to_owned(), error })?;
        Ok(Self { database: RwLock::new(Some(database)) })
    }

    /// Opens a store that is there.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = builder().open(path).map_err(fault)?;
        let store = Self { database: RwLock::new(Some(database)) };
        match store.meta("schema")? {
            Some(SCHEMA) => Ok(store),
            other => Err(StoreError::Schema(other.unwrap_or_default())),
        }
    }

    /// Gives the file back, whoever still holds this store.
    pub(crate) fn close(&self) {
        drop(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn meta(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let guard = self.database();
        let read = guard.as_ref().ok_or(StoreError::Closed)?.begin_read().map_err(fault)?;
        let table = read.open_table(META).map_err(fault)?;
        Ok(table.get(key).map_err(fault)?.map(|v| v.value()))
    }

    /// How far a log was replayed; `None` if nothing of it was.
    pub(crate) fn head(&self, origin: &Origin) -> Result<Option<StoredHead>, StoreError> {
        let guard = self.database();
        let read = guard.as_ref().ok_or(StoreError::Closed)?.begin_read().map_err(fault)?;
        let table = read.open_table(HEADS).map_err(fault)?;
        let row = table.get(origin.as_str()).map_err(fault)?;
        row.map(|row| decode("a head", row.value())).transpose()
    }

    /// An entry bundle; `None` if it was never written.
    pub(crate) fn bundle(&self, origin: &Origin, n: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let guard = self.database();
        let read = guard.as_ref().ok_or(StoreError::Closed)?.begin_read().map_err(fault)?;
        let table = read.open_table(BUNDLES).map_err(fault)?;
        Ok(table.get((origin.as_str(), n)).map_err(fault)?.map(|row| row.value().to_vec()))
    }

    /// The journals of a log's lists.
    pub(crate) fn journals(&self, origin: &Origin) -> Result<Vec<(WatchId, Journal)>, StoreError> {
        let guard = self.database();
        let read = guard.as_ref().ok_or(StoreError::Closed)?.begin_read().map_err(fault)?;
        let table = read.open_table(WATCHES).map_err(fault)?;
        let mut journals = Vec::new();
        for item in table.range((origin.as_str(), &[][..])..).map_err(fault)? {
            let (key, row) = item.map_err(fault)?;
            let (of, id) = key.value();
            if of != origin.as_str() {
                break;
            }
            let id = id.try_into().map_err(|_| StoreError::Damaged("a list's name".to_owned()))?;
            journals.push((WatchId(id), decode("a journal", row.value())?));
        }
        Ok(journals)
    }

    /// All alerts and findings, in the order of their numbers.
    pub(crate) fn reports(&self) -> Result<Vec<News>, StoreError> {
        let guard = self.database();
        let read = guard.as_ref().ok_or(StoreError::Closed)?.begin_read().map_err(fault)?;
        let table = read.open_table(REPORTS).map_err(fault)?;
        let rows = table.iter().map_err(fault)?;
        rows.map(|item| decode("a report", item.map_err(fault)?.1.value())).collect()
    }

    /// The number of the last report that was told.
    pub(crate) fn told(&self) -> Result<u64, StoreError> {
        Ok(self.meta("told")?.unwrap_or_default())
    }

    /// Remembers that the reports up to this number were told.
    pub(crate) fn set_told(&self, id: u64) -> Result<(), StoreError> {
        let guard = self.database();
        let write = begin(guard.as_ref().ok_or(StoreError::Closed)?)?;
        write.open_table(META).map_err(fault)?.insert("told", id).map_err(fault)?;
        write.commit().map_err(fault)
    }

    /// Writes all of a batch or nothing; returns the reports with their numbers. When this returns, it is on the disk.
    pub(crate) fn commit(&self, origin: &Origin, batch: Batch) -> Result<Vec<News>, StoreError> {
        let guard = self.database();
        let write = begin(guard.as_ref().ok_or(StoreError::Closed)?)?;
        let origin = origin.as_str();
        {
            let mut table = write.open_table(BUNDLES).map_err(fault)?;
            for (n, bytes) in &batch.bundles {
                table.insert((origin, *n), &bytes[..]).map_err(fault)?;
            }
            if let Some(head) = &batch.head {
                let mut table = write.open_table(HEADS).map_err(fault)?;
                table.insert(origin, &encode(head)?[..]).map_err(fault)?;
            }
            let mut table = write.open_table(WATCHES).map_err(fault)?;
            for (id, journal) in &batch.journals {
                match journal {
                    Some(journal) => table.insert((origin, &id.0[..]), &encode(journal)?[..]).map_err(fault)?,
                    None => table.remove((origin, &id.0[..])).map_err(fault)?,
                };
            }
        }
        let reports = write_reports(&write, batch.alerts, batch.findings)?;
        write.commit().map_err(fault)?;
        Ok(reports)
    }
}

fn write_reports(
    write: &WriteTransaction,
    alerts: Vec<AlertRecord>,
    findings: Vec<FindingRecord>,
) -> Result<Vec<News>, StoreError> {
    let mut table = write.open_table(REPORTS).map_err(fault)?;
    let last = table.last().map_err(fault)?.map_or(0, |(id, _)| id.value());
    let findings = findings.into_iter().map(News::Finding);
    let reports = findings.chain(alerts.into_iter().map(News::Alert)).zip(last + 1..);
    let numbered = reports.map(|(report, id)| match report {
        News::Alert(alert) => (id, News::Alert(AlertRecord { id, ..alert })),
        News::Finding(finding) => (id, News::Finding(FindingRecord { id, ..finding })),
        News::Notice(_) => (id, report),
    });
    let mut written = Vec::new();
    for (id, report) in numbered {
        table.insert(id, &encode(&report)?[..]).map_err(fault)?;
        written.push(report);
    }
    Ok(written)
}

fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    begin_write(database).map_err(fault)
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    let json = serde_json::to_vec(value).map_err(|e| StoreError::Damaged(e.to_string()))?;
    Ok(durable::with_checksum(&json))
}

fn decode<T: DeserializeOwned>(what: &str, row: &[u8]) -> Result<T, StoreError> {
    let damaged = |why: &str| StoreError::Damaged(format!("{what}: {why}"));
    let json = durable::check_checksum(row).ok_or_else(|| damaged("the checksum"))?;
    serde_json::from_slice(json).map_err(|e| damaged(&e.to_string()))
}
