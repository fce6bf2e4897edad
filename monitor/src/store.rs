//! What a monitor remembers, in one redb file.
//!
//! ```text
//! meta      "schema" -> 2, "number" -> the last one given to an alert or finding, "told" -> the last that was told,
//!           "unexpected", "expired" -> alerts so far,
//!           "time <origin>" -> the latest time that was known to have come when something was written for a log
//! heads     origin -> StoredHead                     how far the log was replayed, and by whose word
//! bundles   (origin, n) -> entry bundle n            C2SP tlog-tiles; the last one may be partial
//! watches   (origin, list id) -> Journal
//! findings  number -> finding
//! alerts    number -> alert
//! alerts-of (origin, list id, number) -> ()          which alerts are a list's
//! holders   (origin, list id) -> Held                whose they are, and how many there were
//! ```
//!
//! Alerts are the one thing here that strangers can make more of, so they have limits: the newest [`ALERTS_PER_LIST_MAX`] of a list
//! are kept, [`ALERT_KEPT_MS`] long, and the others are a number. Nothing keeps them in memory.
//!
//! Values other than bundles are JSON behind a BLAKE3 checksum; bundles are checked by the root they lead to. **An error is
//! not absence**: a row that cannot be read stops the monitor. Everything that belongs together is one transaction,
//! committed in two phases; after a commit that failed, nothing is known until the file is opened again.

use std::{
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use data_encoding::HEXLOWER;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use waymark_log::{checkpoint::Origin, hash::Hash, key::Key, time::UnixMillis};
use waymark_mapping::watch::WatchId;
use waymark_runtime::{
    database::{begin_write, open_telling_faults},
    durable,
};

use crate::{
    journal::Journal,
    report::{AlertCounts, AlertKind, AlertRecord, FindingRecord},
};

/// The store, in the data directory.
pub const STORE_FILE: &str = "monitor.redb";
/// The layout of this file.
const SCHEMA: u64 = 2;
/// The layout before, which is taken over: alerts and findings were in one table.
const SCHEMA_BEFORE: u64 = 1;
/// Most alerts kept for one list: who has not looked after so many will not for more. The newest stay.
pub const ALERTS_PER_LIST_MAX: usize = 64;
/// How long an alert is kept, in milliseconds: as long as a list lives without renewal. Who has not asked for so long has left.
pub const ALERT_KEPT_MS: u64 = waymark_mapping::watch::WATCH_LIFETIME_MS_MAX;
/// How many old alerts go with each new one, at most: more than one, so that what has piled up goes some day.
const OLD_PER_NEW: usize = 2;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const HEADS: TableDefinition<&str, &[u8]> = TableDefinition::new("heads");
const BUNDLES: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("bundles");
const WATCHES: TableDefinition<(&str, &[u8]), &[u8]> = TableDefinition::new("watches");
const FINDINGS: TableDefinition<u64, &[u8]> = TableDefinition::new("findings");
const ALERTS: TableDefinition<u64, &[u8]> = TableDefinition::new("alerts");
const ALERTS_OF: TableDefinition<(&str, &[u8], u64), ()> = TableDefinition::new("alerts-of");
const HOLDERS: TableDefinition<(&str, &[u8]), &[u8]> = TableDefinition::new("holders");

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

impl StoreError {
    /// Whether it may be over once there is room on the disk: there was none, or the database says no more than that a
    /// write before had failed. Whoever met that one says what it was.
    pub(crate) fn waits_for_room(&self) -> bool {
        match self {
            Self::Io { error, .. } => durable::is_full(error),
            Self::Database(error) => match &**error {
                redb::Error::Io(error) => durable::is_full(error),
                redb::Error::PreviousIo => true,
                _ => false,
            },
            Self::Damaged(_) | Self::Schema(_) | Self::Closed => false,
        }
    }
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

/// Whose a list's alerts are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    /// The holder's key, in hex.
    holder: String,
    /// Alerts raised under the list, those that are no longer kept included.
    raised: u64,
}

/// An alert to be written.
#[derive(Debug)]
pub(crate) struct Raised {
    pub(crate) list: WatchId,
    /// Whose the list is.
    pub(crate) holder: Key,
    /// Its number is given when it is written.
    pub(crate) record: AlertRecord,
}

/// What has come into the store.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// With their numbers.
    pub(crate) findings: Vec<FindingRecord>,
    /// How many alerts.
    pub(crate) alerts: usize,
}

/// What is written at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) bundles: Vec<(u64, Vec<u8>)>,
    pub(crate) head: Option<StoredHead>,
    pub(crate) journals: Vec<(WatchId, Option<Journal>)>,
    pub(crate) alerts: Vec<Raised>,
    /// Numbers are given when they are written.
    pub(crate) findings: Vec<FindingRecord>,
    /// The time that is known to have come, to be remembered with it.
    pub(crate) known: Option<UnixMillis>,
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
    path: PathBuf,
}

impl Store {
    /// Makes a new store.
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        let database = open_telling_faults(path, true).map_err(fault)?;
        let write = begin(&database)?;
        write.open_table(META).map_err(fault)?.insert("schema", SCHEMA).map_err(fault)?;
        write.open_table(HEADS).map_err(fault)?;
        write.open_table(BUNDLES).map_err(fault)?;
        write.open_table(WATCHES).map_err(fault)?;
        open_report_tables(&write)?;
        write.commit().map_err(fault)?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        durable::sync_folder(folder).map_err(|error| StoreError::Io { path: folder.to_owned(), error })?;
        Ok(Self { database: RwLock::new(Some(database)), path: path.to_owned() })
    }

    /// Opens a store that is there.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = open_telling_faults(path, false).map_err(fault)?;
        let store = Self { database: RwLock::new(Some(database)), path: path.to_owned() };
        match store.meta("schema")? {
            Some(SCHEMA) => Ok(store),
            Some(SCHEMA_BEFORE) => store.take_over().map(|()| store),
            other => Err(StoreError::Schema(other.unwrap_or_default())),
        }
    }

    /// Opens the file again after a write that failed; a file that was given back stays so.
    pub(crate) fn reopen(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The file is locked as long as it is open.
        if database.take().is_some() {
            *database = Some(open_telling_faults(&self.path, false).map_err(fault)?);
        }
        Ok(())
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

    /// The latest time that was known to have come when something was written for a log; older versions of this program
    /// kept that of the last quorum alone.
    pub(crate) fn known_time(&self, origin: &Origin) -> Result<Option<UnixMillis>, StoreError> {
        let known = self.meta(&time_key(origin.as_str()))?;
        let quorum_ms = self.head(origin)?.map(|head| head.quorum_time_s.saturating_mul(1000));
        Ok(known.max(quorum_ms).map(UnixMillis::new))
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

    /// All findings, in the order of their numbers: a bounded number for each log.
    pub(crate) fn findings(&self) -> Result<Vec<FindingRecord>, StoreError> {
        let guard = self.database();
        let read = guard.as_ref().ok_or(StoreError::Closed)?.begin_read().map_err(fault)?;
        let table = read.open_table(FINDINGS).map_err(fault)?;
        let rows = table.iter().map_err(fault)?;
        rows.map(|item| decode("a finding", item.map_err(fault)?.1.value())).collect()
    }

    /// The alerts after a number, of all lists, oldest first, `max` at most.
    pub(crate) fn alerts(&self, after: u64, max: usize) -> Result<Vec<AlertRecord>, StoreError> {
        let guard = self.database();
        let read = guard.as_ref().ok_or(StoreError::Closed)?.begin_read().map_err(fault)?;
        let table = read.open_table(ALERTS).map_err(fault)?;
        let rows = table.range(after.saturating_add(1)..).map_err(fault)?.take(max);
        rows.map(|item| decode("an alert", item.map_err(fault)?.1.value())).collect()
    }

    /// How many alerts there were so far.
    pub(crate) fn alert_counts(&self) -> Result<AlertCounts, StoreError> {
        let (unexpected, expired) = (self.meta("unexpected")?.unwrap_or(0), self.meta("expired")?.unwrap_or(0));
        let counted = |count| usize::try_from(count).unwrap_or(usize::MAX);
        Ok(AlertCounts { unexpected: counted(unexpected), expired: counted(expired) })
    }

    /// Whose the alerts of a list are, how many there were, and those that are kept after a number; `None` if there never were
    /// any, or if they are long past.
    pub(crate) fn alerts_of(
        &self,
        origin: &Origin,
        list: &WatchId,
        after: u64,
    ) -> Result<Option<(Key, u64, Vec<AlertRecord>)>, StoreError> {
        let guard = self.database();
        let read = guard.as_ref().ok_or(StoreError::Closed)?.begin_read().map_err(fault)?;
        let holders = read.open_table(HOLDERS).map_err(fault)?;
        let Some(row) = holders.get((origin.as_str(), &list.0[..])).map_err(fault)? else { return Ok(None) };
        let held: Held = decode("a holder", row.value())?;
        let holder = Key::from_hex(&held.holder).ok_or_else(|| StoreError::Damaged("a holder's key".to_owned()))?;
        let (index, alerts) = (read.open_table(ALERTS_OF).map_err(fault)?, read.open_table(ALERTS).map_err(fault)?);
        let mut records = Vec::new();
        for item in index.range(numbers_of(origin.as_str(), list, after.saturating_add(1))).map_err(fault)? {
            let (_, _, number) = item.map_err(fault)?.0.value();
            let row = alerts.get(number).map_err(fault)?;
            let row = row.ok_or_else(|| StoreError::Damaged(format!("alert {number} is gone")))?;
            records.push(decode("an alert", row.value())?);
        }
        Ok(Some((holder, held.raised, records)))
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

    /// Writes all of a batch or nothing; returns what was reported. When this returns, it is on the disk.
    pub(crate) fn commit(&self, origin: &Origin, batch: Batch) -> Result<Written, StoreError> {
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
        let written = Written { alerts: batch.alerts.len(), findings: write_findings(&write, batch.findings)? };
        write_alerts(&write, origin, batch.alerts)?;
        if let Some(known) = batch.known {
            write.open_table(META).map_err(fault)?.insert(&time_key(origin)[..], known.get()).map_err(fault)?;
        }
        write.commit().map_err(fault)?;
        Ok(written)
    }

    /// Takes over a store of the layout before. Alerts of lists that are gone go too: nobody could ask for them.
    fn take_over(&self) -> Result<(), StoreError> {
        #[derive(Deserialize)]
        #[serde(tag = "event", rename_all = "kebab-case")]
        enum Report {
            Alert(AlertRecord),
            Finding(FindingRecord),
        }
        const REPORTS: TableDefinition<u64, &[u8]> = TableDefinition::new("reports");

        let guard = self.database();
        let write = begin(guard.as_ref().ok_or(StoreError::Closed)?)?;
        open_report_tables(&write)?;
        let mut last = 0;
        for item in write.open_table(REPORTS).map_err(fault)?.iter().map_err(fault)? {
            let (number, row) = item.map_err(fault)?;
            last = number.value();
            match decode("a report", row.value())? {
                Report::Finding(finding) => put_finding(&write, &finding)?,
                Report::Alert(record) => {
                    count_alert(&write, record.kind)?;
                    if let Some((list, holder)) = holder_of(&write, &record)? {
                        put_alert(&write, &record.origin.clone(), last, Raised { list, holder, record })?;
                    }
                }
            }
        }
        write.delete_table(REPORTS).map_err(fault)?;
        for (key, value) in [("number", last), ("schema", SCHEMA)] {
            write.open_table(META).map_err(fault)?.insert(key, value).map_err(fault)?;
        }
        write.commit().map_err(fault)
    }
}

fn open_report_tables(write: &WriteTransaction) -> Result<(), StoreError> {
    write.open_table(FINDINGS).map_err(fault)?;
    write.open_table(ALERTS).map_err(fault)?;
    write.open_table(ALERTS_OF).map_err(fault)?;
    write.open_table(HOLDERS).map_err(fault)?;
    Ok(())
}

/// Where the time of a log is remembered.
fn time_key(origin: &str) -> String {
    format!("time {origin}")
}

/// The rows of a list's alerts, from a number on.
fn numbers_of<'a>(origin: &'a str, list: &'a WatchId, from: u64) -> RangeInclusive<(&'a str, &'a [u8], u64)> {
    (origin, &list.0[..], from)..=(origin, &list.0[..], u64::MAX)
}

/// The list of an alert and its holder, as its journal says; `None` if the list is gone.
fn holder_of(write: &WriteTransaction, record: &AlertRecord) -> Result<Option<(WatchId, Key)>, StoreError> {
    let Some(list) = list_of(record) else { return Ok(None) };
    let table = write.open_table(WATCHES).map_err(fault)?;
    let Some(row) = table.get((record.origin.as_str(), &list.0[..])).map_err(fault)? else { return Ok(None) };
    let journal: Journal = decode("a journal", row.value())?;
    Ok(journal.holder().map(|holder| (list, holder)))
}

fn list_of(record: &AlertRecord) -> Option<WatchId> {
    let id = HEXLOWER.decode(record.list.as_bytes()).ok()?;
    Some(WatchId(id.try_into().ok()?))
}

/// The next number, of alerts and findings alike.
fn next_number(write: &WriteTransaction) -> Result<u64, StoreError> {
    let mut meta = write.open_table(META).map_err(fault)?;
    let number = meta.get("number").map_err(fault)?.map_or(0, |n| n.value()) + 1;
    meta.insert("number", number).map_err(fault)?;
    Ok(number)
}

fn write_findings(write: &WriteTransaction, findings: Vec<FindingRecord>) -> Result<Vec<FindingRecord>, StoreError> {
    let mut written = Vec::new();
    for finding in findings {
        let finding = FindingRecord { id: next_number(write)?, ..finding };
        put_finding(write, &finding)?;
        written.push(finding);
    }
    Ok(written)
}

fn put_finding(write: &WriteTransaction, finding: &FindingRecord) -> Result<(), StoreError> {
    let mut table = write.open_table(FINDINGS).map_err(fault)?;
    table.insert(finding.id, &encode(finding)?[..]).map_err(fault)?;
    Ok(())
}

fn write_alerts(write: &WriteTransaction, origin: &str, alerts: Vec<Raised>) -> Result<(), StoreError> {
    let Some(now_ms) = alerts.first().map(|raised| raised.record.raised_ms) else { return Ok(()) };
    let old_max = OLD_PER_NEW * alerts.len();
    for raised in alerts {
        count_alert(write, raised.record.kind)?;
        put_alert(write, origin, next_number(write)?, raised)?;
    }
    drop_old_alerts(write, now_ms, old_max)
}

fn count_alert(write: &WriteTransaction, kind: AlertKind) -> Result<(), StoreError> {
    let key = match kind {
        AlertKind::Unexpected => "unexpected",
        AlertKind::Expired => "expired",
    };
    let mut meta = write.open_table(META).map_err(fault)?;
    let count = meta.get(key).map_err(fault)?.map_or(0, |n| n.value());
    meta.insert(key, count + 1).map_err(fault)?;
    Ok(())
}

/// Puts an alert where its holder finds it. The oldest of the list gives way, and so do all of a holder before, who had the same
/// name.
fn put_alert(write: &WriteTransaction, origin: &str, number: u64, raised: Raised) -> Result<(), StoreError> {
    let Raised { list, holder, record } = raised;
    let mut alerts = write.open_table(ALERTS).map_err(fault)?;
    let mut index = write.open_table(ALERTS_OF).map_err(fault)?;
    let mut holders = write.open_table(HOLDERS).map_err(fault)?;
    let (key, holder) = ((origin, &list.0[..]), holder.to_hex());
    let held = holders.get(key).map_err(fault)?.map(|row| decode::<Held>("a holder", row.value())).transpose()?;
    let raised = held.as_ref().filter(|held| held.holder == holder).map(|held| held.raised);
    let mut kept = Vec::new();
    for item in index.range(numbers_of(origin, &list, 0)).map_err(fault)? {
        kept.push(item.map_err(fault)?.0.value().2);
    }
    let stay = if raised.is_some() { ALERTS_PER_LIST_MAX - 1 } else { 0 };
    for old in &kept[..kept.len().saturating_sub(stay)] {
        alerts.remove(*old).map_err(fault)?;
        index.remove((origin, &list.0[..], *old)).map_err(fault)?;
    }
    alerts.insert(number, &encode(&AlertRecord { id: number, ..record })?[..]).map_err(fault)?;
    index.insert((origin, &list.0[..], number), ()).map_err(fault)?;
    let held = Held { holder, raised: raised.unwrap_or_default() + 1 };
    holders.insert(key, &encode(&held)?[..]).map_err(fault)?;
    Ok(())
}

/// Drops some of the alerts that nobody has asked for in all the time that they are kept.
fn drop_old_alerts(write: &WriteTransaction, now_ms: u64, max: usize) -> Result<(), StoreError> {
    let mut alerts = write.open_table(ALERTS).map_err(fault)?;
    let mut index = write.open_table(ALERTS_OF).map_err(fault)?;
    let mut holders = write.open_table(HOLDERS).map_err(fault)?;
    for _ in 0..max {
        let first =
            alerts.first().map_err(fault)?.map(|(number, row)| (number.value(), decode("an alert", row.value())));
        let Some((number, record)) = first else { return Ok(()) };
        let record: AlertRecord = record?;
        if record.raised_ms.saturating_add(ALERT_KEPT_MS) > now_ms {
            return Ok(());
        }
        alerts.remove(number).map_err(fault)?;
        let list = list_of(&record).ok_or_else(|| StoreError::Damaged("an alert's list".to_owned()))?;
        let origin = record.origin.as_str();
        index.remove((origin, &list.0[..], number)).map_err(fault)?;
        if index.range(numbers_of(origin, &list, 0)).map_err(fault)?.next().is_none() {
            holders.remove((origin, &list.0[..])).map_err(fault)?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use waymark_log::key::SecretKey;

    use super::*;

    fn record(number: u64, list: WatchId, raised_ms: u64) -> AlertRecord {
        AlertRecord {
            id: number,
            kind: AlertKind::Unexpected,
            list: HEXLOWER.encode(&list.0),
            origin: "dp.example/log".to_owned(),
            entry: Some(number),
            leaf: None,
            head_time_ms: None,
            raised_ms,
            what_to_do: String::new(),
        }
    }

    fn holder(i: u8) -> Key {
        SecretKey::from_seed(&[i; 32]).public()
    }

    fn raise(store: &Store, list: WatchId, by: u8, raised_ms: u64) {
        let alerts = vec![Raised { list, holder: holder(by), record: record(0, list, raised_ms) }];
        store.commit(&origin(), Batch { alerts, ..Batch::default() }).unwrap();
    }

    fn origin() -> Origin {
        Origin::new("dp.example/log").unwrap()
    }

    /// Numbers of what is kept for a list, and how many there were.
    fn kept(store: &Store, list: WatchId, by: u8) -> Option<(u64, Vec<u64>)> {
        let (of, raised, alerts) = store.alerts_of(&origin(), &list, 0).unwrap()?;
        (of == holder(by)).then(|| (raised, alerts.iter().map(|a| a.id).collect()))
    }

    #[test]
    fn what_is_kept_of_alerts_has_an_end_and_what_there_was_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join(STORE_FILE)).unwrap();
        let (one, two) = (WatchId([1; 16]), WatchId([2; 16]));
        raise(&store, two, 2, 5);
        (0..70).for_each(|_| raise(&store, one, 1, 5));
        let (raised, numbers) = kept(&store, one, 1).unwrap();
        assert_eq!((raised, numbers.len(), numbers[0]), (70, ALERTS_PER_LIST_MAX, 8));
        assert_eq!(kept(&store, two, 2), Some((1, vec![1])));
        // Another holder under the same name begins with nothing, and nobody has what was before.
        raise(&store, one, 3, 6);
        assert_eq!((kept(&store, one, 1), kept(&store, one, 3)), (None, Some((1, vec![72]))));
        assert_eq!(store.alerts(0, 9).unwrap().iter().map(|a| a.id).collect::<Vec<_>>(), [1, 72]);
        // Half a year later each new alert takes old ones along.
        raise(&store, one, 3, 7 + ALERT_KEPT_MS);
        assert_eq!((kept(&store, two, 2), kept(&store, one, 3)), (None, Some((2, vec![73]))));
        assert_eq!(store.alert_counts().unwrap().unexpected, 73);
    }

    #[test]
    fn a_store_of_the_layout_before_is_taken_over() {
        const REPORTS: TableDefinition<u64, &[u8]> = TableDefinition::new("reports");
        #[derive(Serialize)]
        #[serde(tag = "event", rename_all = "kebab-case")]
        enum Report {
            Alert(AlertRecord),
            Finding(FindingRecord),
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(STORE_FILE);
        let store = Store::create(&path).unwrap();
        let finding = FindingRecord {
            id: 2,
            origin: "dp.example/log".to_owned(),
            text: "a fork".to_owned(),
            found_ms: 5,
            evidence: None,
        };
        {
            let guard = store.database();
            let write = begin(guard.as_ref().unwrap()).unwrap();
            for name in ["findings", "alerts"] {
                write.delete_table(TableDefinition::<u64, &[u8]>::new(name)).unwrap();
            }
            write.delete_table(ALERTS_OF).unwrap();
            write.delete_table(HOLDERS).unwrap();
            write.open_table(META).unwrap().insert("schema", SCHEMA_BEFORE).unwrap();
            let gone = WatchId([9; 16]);
            for report in [Report::Alert(record(1, gone, 5)), Report::Finding(finding.clone())] {
                let id = if let Report::Finding(finding) = &report { finding.id } else { 1 };
                write.open_table(REPORTS).unwrap().insert(id, &encode(&report).unwrap()[..]).unwrap();
            }
            write.commit().unwrap();
        }
        drop(store);
        // And once more, as it is now.
        for _ in 0..2 {
            let store = Store::open(&path).unwrap();
            assert_eq!(store.findings().unwrap(), std::slice::from_ref(&finding));
            // The list of the alert is gone, and with it its holder, who could ask for it; it is still counted.
            assert_eq!(kept(&store, WatchId([9; 16]), 1), None);
            assert_eq!((store.alerts(0, 9).unwrap(), store.alert_counts().unwrap().unexpected), (vec![], 1));
        }
        let store = Store::open(&path).unwrap();
        raise(&store, WatchId([1; 16]), 1, 5);
        assert_eq!(kept(&store, WatchId([1; 16]), 1), Some((1, vec![3])));
    }
}
