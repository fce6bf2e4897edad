//! What this witness has cosigned, and [`State::advance`], the one operation that cosigns.
//!
//! ```text
//! witness.redb   table "cosigned-v1": origin -> blake3 <64 hex digits>\n<note>
//! note           the checkpoint, the log's verified lines, this witness's cosignature
//! ```
//!
//! C2SP tlog-witness: "the witness MUST persist the new checkpoint before responding", and comparing with what is stored
//! and storing the new one "must be performed atomically". So both happen in one write transaction, committed in two
//! phases; the cosignature is made inside and handed out only after the commit has succeeded.
//!
//! **An error is not absence.** A row that cannot be read is an error, and so is a table that is not there; only a row
//! that was looked for and found missing means "never cosigned". After a commit that failed nobody knows what is on the
//! disk: no signature leaves any more until the file is opened again and read back. A disk that is merely full is waited for
//! (`room`); after anything else only a new start reads back. At opening every page and every row, down to our own signature,
//! is checked.
//!
//! What this does not see: a file that was put back to an earlier moment as a whole, nor the one bit in the store's header
//! that says which of its last two commits is the newer.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use tokio::sync::watch;
use waymark_log::{
    checkpoint::{Checkpoint, Origin, SignedCheckpoint},
    cosignature::{self, Cosigner},
    note::{Note, SignatureLine, Vkey},
    time::UnixSeconds,
    witness::{Advance, Head, Refusal},
};
use waymark_runtime::{
    database::{self, begin_write},
    durable,
};

use self::room::{OnDisk, Place};
use crate::dating::{ClockJumped, Dating};

mod room;

const COSIGNED: TableDefinition<&str, &[u8]> = TableDefinition::new("cosigned-v1");

/// What can be wrong with the state. Each is a fault of this witness or its disk, never of a request.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is no file.
    #[error(
        "{0}: there is no such file. `init` makes one with a new witness. If it was lost, this witness's promises are \
         lost with it: make a new witness under a new name"
    )]
    Missing(PathBuf),
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The store: locked by another process, damaged, or the disk failed.
    #[error("the store: {0}")]
    Store(#[from] Box<redb::Error>),
    /// The file is a store, and not a witness's.
    #[error("the store has no table of cosigned checkpoints")]
    NoTable,
    /// A row does not hold what this witness writes.
    #[error("the row of {origin} is damaged: {what}")]
    Damaged {
        /// Which row.
        origin: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A row was cosigned under another name or key.
    #[error("the row of {0} was not cosigned under this name with this key")]
    OtherWitness(Origin),
    /// There is no room on the disk.
    #[error("the disk is full; nothing is cosigned until there is room")]
    Full,
    /// An earlier write failed.
    #[error("an earlier write failed; nothing is cosigned until a new start has read back what is on the disk")]
    Failed,
    /// The state was closed.
    #[error("the witness is stopping")]
    Closed,
}

/// Why there is no cosignature.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// The judgement, beside what it was made against.
    #[error("{refusal}")]
    Refused {
        /// The reason.
        refusal: Refusal,
        /// What was stored.
        stored: Option<Box<Cosigned>>,
    },
    /// The clock is not to be believed.
    #[error(transparent)]
    ClockJumped(#[from] ClockJumped),
    /// The clock stands before this log's last cosignature.
    #[error("the clock went back: it is {now:?}, and this log's last cosignature is of {last:?}")]
    ClockWentBack {
        /// The last cosignature's time; zero seconds if there is none and the clock stands at zero.
        last: UnixSeconds,
        /// The clock.
        now: UnixSeconds,
    },
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Any of the store's errors.
fn store(error: impl Into<redb::Error>) -> StateError {
    StateError::Store(Box::new(error.into()))
}

/// A checkpoint that this witness has cosigned **and** that is on the disk. Made only by [`State`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// The log's lines and ours.
    note: Note,
    head: Head,
    time: UnixSeconds,
    line: SignatureLine,
}

impl Cosigned {
    /// Its size and root.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// When it was cosigned.
    pub const fn time(&self) -> UnixSeconds {
        self.time
    }

    /// The cosignature.
    pub const fn line(&self) -> &SignatureLine {
        &self.line
    }

    /// The checkpoint's text.
    pub fn text(&self) -> &str {
        self.note.text()
    }

    /// The checkpoint with the log's verified lines and ours.
    pub fn to_note(&self) -> String {
        self.note.format()
    }

    /// Whether one of these keys has signed it as its log.
    pub fn is_signed_by(&self, keys: &[Vkey]) -> bool {
        let checkpoint = Checkpoint::parse_witnessed(self.text());
        checkpoint.and_then(|c| SignedCheckpoint::open_witnessed(&self.note, &c.origin, keys)).is_ok()
    }

    /// Reads a row of `origin`. The checksum stands in for our signature, which is verified once, at opening.
    fn decode(origin: &Origin, row: &[u8], vkey: &Vkey) -> Result<Self, StateError> {
        let damaged = |what| StateError::Damaged { origin: origin.to_string(), what };
        let bytes = durable::check_checksum(row).ok_or_else(|| damaged("the checksum"))?;
        let note = Note::parse(bytes).map_err(|_| damaged("not a note"))?;
        let checkpoint = Checkpoint::parse_witnessed(note.text()).map_err(|_| damaged("not a checkpoint"))?;
        if checkpoint.origin != *origin {
            return Err(damaged("a checkpoint of another log"));
        }
        let line = note.line_by(vkey).map_err(|_| damaged("two cosignatures"))?.cloned();
        let line = line.ok_or_else(|| StateError::OtherWitness(origin.clone()))?;
        let time = line.body().first_chunk::<8>().ok_or_else(|| damaged("the cosignature"))?;
        let time = UnixSeconds::new(u64::from_be_bytes(*time));
        Ok(Self { head: Head { size: checkpoint.size, root: checkpoint.root }, time, line, note })
    }

    /// The same checkpoint with a cosignature by another key.
    fn cosigned_anew(&self, from: &Vkey, to: &Cosigner, now: UnixSeconds) -> Result<Self, StateError> {
        let line = to.cosign(self.text(), now);
        let logs = self.note.lines().iter().filter(|l| !l.is_by(from)).cloned();
        let note = Note::new(self.text().to_owned(), logs.chain([line.clone()]).collect());
        let damaged =
            |_| StateError::Damaged { origin: to.vkey().name().to_string(), what: "no room for a cosignature" };
        Ok(Self { note: note.map_err(damaged)?, head: self.head, time: now, line })
    }

    fn encode(&self) -> Vec<u8> {
        durable::with_checksum(self.to_note().as_bytes())
    }
}

/// The database of cosigned checkpoints, with the key that cosigns.
///
/// Every method may block on the disk: none is for an async thread.
#[derive(Debug)]
pub struct State {
    place: Box<dyn Place>,
    held: RwLock<Held>,
    /// Why there was no room, from that write until the file is open for writing again.
    full: Mutex<Option<String>>,
    cosigner: Cosigner,
    dating: Dating,
    /// How often something was stored since the start.
    stored: AtomicU64,
    /// The time of the newest cosignature that was read or made, in seconds.
    newest: AtomicU64,
    /// Origins by their hash, for the monitors' retrieval: as many as there are rows.
    by_hash: RwLock<HashMap<String, Origin>>,
    failed: watch::Sender<bool>,
}

/// The database as it is open now.
#[derive(Debug)]
struct Held {
    /// `None` after [`State::close`].
    db: Option<Database>,
    /// It is not written, for there is no room.
    is_unwritten: bool,
    /// How often it was opened again or closed.
    turn: u64,
}

impl Held {
    fn db(&self) -> Result<&Database, StateError> {
        self.db.as_ref().ok_or(StateError::Closed)
    }

    fn db_to_write(&self) -> Result<&Database, StateError> {
        let db = self.db()?;
        if self.is_unwritten { Err(StateError::Full) } else { Ok(db) }
    }
}

impl State {
    /// Makes the database of a new witness.
    ///
    /// # Errors
    /// [`StateError::Io`] if there is a file already; [`StateError::Store`].
    pub fn create(path: &Path) -> Result<(), StateError> {
        let io = |error| StateError::Io { path: path.to_owned(), error };
        OpenOptions::new().write(true).create_new(true).open(path).map_err(io)?;
        create_table(&builder().create(path).map_err(store)?)
    }

    /// Opens the database and checks all of it. If there is no room to open it, it can be read, and [`State::full`] says so.
    ///
    /// # Errors
    /// [`StateError`] if it is missing, in use, damaged in any page or row, or another witness's.
    pub fn open(path: &Path, cosigner: Cosigner, dating: Dating) -> Result<Self, StateError> {
        Self::at(Box::new(OnDisk::new(path)), cosigner, dating)
    }

    fn at(place: Box<dyn Place>, cosigner: Cosigner, dating: Dating) -> Result<Self, StateError> {
        let (db, full) = match place.open(true) {
            Err(error) if error.is_full() => (place.open(false)?, Some(error.to_string())),
            opened => (opened?, None),
        };
        let Checked { by_hash, newest } = check_rows(&db, cosigner.vkey())?;
        if let Some(why) = &full {
            room::say_full(why);
        }
        Ok(Self {
            place,
            held: RwLock::new(Held { db: Some(db), is_unwritten: full.is_some(), turn: 0 }),
            full: Mutex::new(full),
            cosigner,
            dating,
            stored: AtomicU64::new(0),
            newest: AtomicU64::new(newest.get()),
            by_hash: RwLock::new(by_hash),
            failed: watch::Sender::new(false),
        })
    }

    /// The time of the newest cosignature; zero seconds if there is none.
    pub fn newest(&self) -> UnixSeconds {
        UnixSeconds::new(self.newest.load(Ordering::SeqCst))
    }

    /// What dates its cosignatures.
    pub const fn dating(&self) -> &Dating {
        &self.dating
    }

    /// The verifier key of its cosignatures.
    pub const fn vkey(&self) -> &Vkey {
        self.cosigner.vkey()
    }

    /// All logs of which something was cosigned.
    pub fn origins(&self) -> Vec<Origin> {
        self.by_hash.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The log with this [`Origin::hash_hex`], if something of it was cosigned.
    pub fn origin_by_hash(&self, hash_hex: &str) -> Option<Origin> {
        self.by_hash.read().unwrap_or_else(PoisonError::into_inner).get(hash_hex).cloned()
    }

    /// What was cosigned last, `None` only if nothing ever was.
    ///
    /// # Errors
    /// [`StateError`]; the state has then failed for good, unless it is [`StateError::Full`].
    pub fn latest(&self, origin: &Origin) -> Result<Option<Cosigned>, StateError> {
        self.read(|db| read_latest(db, origin, self.vkey()))
    }

    /// Reads the table.
    ///
    /// # Errors
    /// As [`State::latest`], also if the state had failed before.
    pub fn check(&self) -> Result<(), StateError> {
        self.read(|db| {
            let read = db.begin_read().map_err(store)?;
            read.open_table(COSIGNED).map_err(store)?.first().map_err(store)?;
            Ok(())
        })
    }

    /// Reads; twice, if a write found the disk full meanwhile: the database is then open to be read.
    fn read<T>(&self, what: impl Fn(&Database) -> Result<T, StateError>) -> Result<T, StateError> {
        let once = || {
            let held = self.held()?;
            let done = held.db().and_then(&what);
            done.map_err(|error| self.fault(held, error))
        };
        match once() {
            Err(StateError::Full) => once(),
            done => done,
        }
    }

    /// Cosigns the next checkpoint of `origin`, if `judge` finds, given what is stored at that moment, that it may be.
    ///
    /// Comparison, judgement and storing are one write transaction; [`Cosigned`] comes back only after it was committed.
    /// The cosignature that is stored already, which is the same for a second, is not written once more.
    ///
    /// # Errors
    /// [`AdvanceError`]. After [`AdvanceError::State`] it is not known whether the step is on the disk, no signature is
    /// given out, and the state has failed for good. After [`StateError::Full`] it waits for room ([`State::go_on`]).
    pub fn advance(
        &self,
        origin: &Origin,
        judge: impl FnOnce(Option<Head>) -> Result<Advance, Refusal>,
    ) -> Result<Cosigned, AdvanceError> {
        let held = self.held()?;
        let outcome = held.db_to_write().map_err(AdvanceError::State).and_then(|db| self.transact(db, origin, judge));
        match outcome {
            Err(AdvanceError::State(error)) => Err(self.fault(held, error).into()),
            outcome => outcome,
        }
    }

    fn transact(
        &self,
        db: &Database,
        origin: &Origin,
        judge: impl FnOnce(Option<Head>) -> Result<Advance, Refusal>,
    ) -> Result<Cosigned, AdvanceError> {
        let transaction = begin_write(db).map_err(store)?;
        // While this one waited for its turn, another may have failed, or found no room.
        self.check_not_failed()?;
        if self.full().is_some() {
            return Err(StateError::Full.into());
        }
        let cosigned = {
            let mut table = transaction.open_table(COSIGNED).map_err(store)?;
            let stored = match table.get(origin.as_str()).map_err(store)? {
                Some(row) => Some(Cosigned::decode(origin, row.value(), self.vkey())?),
                None => None,
            };
            let before = stored.as_ref().map(|s| s.line.clone());
            let cosigned = self.cosign(origin, stored, judge)?;
            // It is on the disk already, byte for byte: strangers who ask for refreshes must not wear out the disk.
            if before.as_ref() == Some(&cosigned.line) {
                return Ok(cosigned);
            }
            table.insert(origin.as_str(), cosigned.encode().as_slice()).map_err(store)?;
            cosigned
        };
        // "The witness MUST persist the new checkpoint before responding": the signature exists, and stays here until then.
        transaction.commit().map_err(store)?;
        self.stored.fetch_add(1, Ordering::SeqCst);
        self.newest.fetch_max(cosigned.time.get(), Ordering::SeqCst);
        let mut by_hash = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        by_hash.entry(origin.hash_hex()).or_insert_with(|| origin.clone());
        Ok(cosigned)
    }

    /// Judges and signs. What comes back is not yet on the disk, which is why this is no public operation.
    fn cosign(
        &self,
        origin: &Origin,
        stored: Option<Cosigned>,
        judge: impl FnOnce(Option<Head>) -> Result<Advance, Refusal>,
    ) -> Result<Cosigned, AdvanceError> {
        let from = stored.as_ref().map(Cosigned::head);
        let advance = match judge(from) {
            Ok(advance) => advance,
            Err(refusal) => return Err(AdvanceError::Refused { refusal, stored: stored.map(Box::new) }),
        };
        // The comparison of compare-and-set: the judgement must be about what is stored, under this origin.
        if advance.from != from || advance.checkpoint.checkpoint().origin != *origin {
            let refusal = Refusal::Conflict { size: from.map_or(0, |h| h.size) };
            return Err(AdvanceError::Refused { refusal, stored: stored.map(Box::new) });
        }
        let now = self.dating.now()?.floor_seconds();
        let last = stored.map_or(UnixSeconds::new(0), |s| s.time);
        // "The cosignature MUST NOT omit the timestamp, i.e. the timestamp MUST NOT be zero", and ours never go down.
        if now < last || now == UnixSeconds::new(0) {
            return Err(AdvanceError::ClockWentBack { last, now });
        }
        let line = self.cosigner.cosign(&advance.checkpoint.checkpoint().format(), now);
        // A note at its size limit has no room for one line more; what could not be read back is not stored.
        let note = Note::parse(advance.checkpoint.to_note(std::slice::from_ref(&line)).as_bytes())
            .map_err(|e| AdvanceError::Refused { refusal: Refusal::Malformed(e.to_string()), stored: None })?;
        Ok(Cosigned { note, head: advance.to, time: now, line })
    }

    /// Marks the state as failed, from whatever thread: nothing is given out from now on.
    pub fn fail(&self, why: &dyn std::fmt::Display) {
        if !self.failed.send_replace(true) {
            tracing::error!(%why, "the state has failed; no more cosignatures");
        }
    }

    /// Waits until the state has failed, which may be never.
    pub async fn failed(&self) {
        let mut failed = self.failed.subscribe();
        // The sender lives as long as `self`, so the only end of waiting is the failure.
        let _ = failed.wait_for(|failed| *failed).await;
    }

    /// Waits for what is being written and closes the file. Operations after it fail with [`StateError::Closed`].
    pub fn close(&self) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.turn += 1;
        if let Some(Err(error)) = held.db.take().map(Database::close) {
            // Every commit was durable by itself; closing adds nothing that could be lost.
            tracing::warn!(%error, "the store did not close cleanly");
        }
    }

    fn held(&self) -> Result<RwLockReadGuard<'_, Held>, StateError> {
        self.check_not_failed()?;
        Ok(self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn check_not_failed(&self) -> Result<(), StateError> {
        if *self.failed.borrow() { Err(StateError::Failed) } else { Ok(()) }
    }
}

/// The database of a witness that does not run. While it is held, none can.
#[derive(Debug)]
pub struct Stopped(Database);

impl Stopped {
    /// Opens the database.
    ///
    /// # Errors
    /// [`StateError`] if it is missing, in use, or damaged in any page.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        OnDisk::new(path).open(true).map(Self)
    }

    /// The time of the newest cosignature, zero seconds if there is none, if all are made by `vkey`.
    ///
    /// # Errors
    /// [`StateError`], also if anything is cosigned by another key.
    pub fn newest_by(&self, vkey: &Vkey) -> Result<UnixSeconds, StateError> {
        Ok(check_rows(&self.0, vkey)?.newest)
    }

    /// Has another key cosign, `now`, all that `from` has cosigned, in one commit: the trees stay, the dates begin
    /// anew. Nothing is done if the other key has it all already.
    ///
    /// # Errors
    /// [`StateError`]; the file is then as it was, or all of it is the other key's.
    pub fn hand_over(&self, from: &Vkey, to: &Cosigner, now: UnixSeconds) -> Result<(), StateError> {
        if check_rows(&self.0, to.vkey()).is_ok() {
            return Ok(());
        }
        let origins = check_rows(&self.0, from)?.by_hash.into_values();
        let transaction = begin_write(&self.0).map_err(store)?;
        for origin in origins {
            let mut table = transaction.open_table(COSIGNED).map_err(store)?;
            let row =
                table.get(origin.as_str()).map_err(store)?.map(|row| Cosigned::decode(&origin, row.value(), from));
            let Some(row) = row.transpose()? else { continue };
            table.insert(origin.as_str(), row.cosigned_anew(from, to, now)?.encode().as_slice()).map_err(store)?;
        }
        transaction.commit().map_err(store)
    }
}

/// How the store is opened. Its integrity is checked each time, not only after a crash: else a flipped bit would be found
/// when its page is met, or never.
fn builder() -> Builder {
    let mut builder = database::builder();
    builder.set_check_integrity_on_open(true);
    builder
}

fn create_table(db: &Database) -> Result<(), StateError> {
    let transaction = begin_write(db).map_err(store)?;
    transaction.open_table(COSIGNED).map_err(store)?;
    transaction.commit().map_err(store)
}

fn read_latest(db: &Database, origin: &Origin, vkey: &Vkey) -> Result<Option<Cosigned>, StateError> {
    let table = db.begin_read().map_err(store)?.open_table(COSIGNED).map_err(store)?;
    match table.get(origin.as_str()).map_err(store)? {
        Some(row) => Cosigned::decode(origin, row.value(), vkey).map(Some),
        None => Ok(None),
    }
}

/// What a whole reading of the file has found.
struct Checked {
    /// The origins by their hash.
    by_hash: HashMap<String, Origin>,
    /// The time of the newest cosignature; zero seconds if there is none.
    newest: UnixSeconds,
}

/// Reads every row, down to our own signature.
fn check_rows(db: &Database, vkey: &Vkey) -> Result<Checked, StateError> {
    let table = match db.begin_read().map_err(store)?.open_table(COSIGNED) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Err(StateError::NoTable),
        Err(error) => return Err(store(error)),
    };
    let (mut by_hash, mut newest) = (HashMap::new(), UnixSeconds::new(0));
    for row in table.iter().map_err(store)? {
        let (key, row) = row.map_err(store)?;
        let damaged = |what| StateError::Damaged { origin: key.value().to_owned(), what };
        let origin = Origin::new(key.value()).map_err(|_| damaged("not an origin"))?;
        let cosigned = Cosigned::decode(&origin, row.value(), vkey)?;
        if cosignature::check(&cosigned.note, vkey) != Ok(Some(cosigned.time)) {
            return Err(damaged("the cosignature does not verify"));
        }
        newest = newest.max(cosigned.time);
        by_hash.insert(origin.hash_hex(), origin);
    }
    Ok(Checked { by_hash, newest })
}

#[cfg(test)]
mod tests;
