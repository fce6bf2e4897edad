//! A disk that is full: the witness waits until there is room, reads back what is on the disk, and goes on. Nobody starts it again.
//!
//! | what failed | then |
//! |---|---|
//! | no room (ENOSPC), or none for this user (EDQUOT), in a write | what was cosigned is shown; nothing is cosigned; `/readyz` says `storage-full`; it is tried again |
//! | fsync, of whatever cause; reading or writing (EIO); damage | the state has failed, and the program ends: only a new start may read back |
//!
//! **Nothing is signed over what a failed write has left.** The store that failed is closed, whatever it holds in memory, and opened twice: at once,
//! to be read, without being written; and when there is room, to be written, after every page and row was checked as at a start. The
//! row of a write that failed and was written all the same is then the last one, so that no second root is ever cosigned at its size.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLockReadGuard, RwLockWriteGuard, atomic::Ordering},
};

use redb::Database;
use waymark_runtime::{database, durable};

use super::{Checked, Held, State, StateError, builder, check_rows, store};

/// Bytes that must be free before it is tried again: what one commit needs many times over.
const ROOM_BYTES: usize = 1 << 20;

/// Where the database lies.
pub(super) trait Place: fmt::Debug + Send + Sync {
    /// Checks that there is room to go on.
    fn check_room(&self) -> std::io::Result<()>;

    /// Opens the database, checking every page: to be written, or else to be read alone, which needs no room.
    fn open(&self, to_write: bool) -> Result<Database, StateError>;
}

/// A file.
#[derive(Debug)]
pub(super) struct OnDisk(PathBuf);

impl OnDisk {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Place for OnDisk {
    fn check_room(&self) -> std::io::Result<()> {
        let folder = self.0.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        durable::check_room(folder, ROOM_BYTES)
    }

    fn open(&self, to_write: bool) -> Result<Database, StateError> {
        let at = |error| StateError::Io { path: self.0.clone(), error };
        match self.0.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StateError::Missing(self.0.clone()));
            }
            // In an empty file the store would make a database, and everything would be forgotten.
            Ok(there) if there.len() == 0 => {
                return Err(store(redb::Error::Corrupted(format!("{} is empty", self.0.display()))));
            }
            there => there.map_err(at)?,
        };
        let file = database::telling_faults(&self.0, false).map_err(store)?;
        let opened = if to_write {
            builder().create_with_backend(file)
        } else {
            builder().create_with_backend(database::unwritten(file).map_err(at)?)
        };
        opened.map_err(store)
    }
}

impl StateError {
    /// Whether there was no room on the disk, and nothing else.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Store(error) => matches!(&**error, redb::Error::Io(error) if durable::is_full(error)),
            Self::Io { error, .. } => durable::is_full(error),
            _ => false,
        }
    }

    /// Whether the store says no more than that it had failed before.
    fn is_of_an_earlier_one(&self) -> bool {
        matches!(self, Self::Store(error) if matches!(&**error, redb::Error::PreviousIo))
    }
}

/// Says when it begins.
pub(super) fn say_full(why: &str) {
    tracing::error!(%why, "the disk is full: what was cosigned is shown, nothing is cosigned until there is room");
}

impl State {
    /// Why nothing can be stored, while there is no room on the disk.
    pub fn full(&self) -> Option<String> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often something was stored since the start.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::SeqCst)
    }

    /// Goes on if the disk was full and there is room again; says whether it did. What is on the disk was then read back.
    ///
    /// # Errors
    /// [`StateError`] if what is there does not allow to go on: the state has failed for good.
    pub fn go_on(&self) -> Result<bool, StateError> {
        self.check_not_failed()?;
        if self.full().is_none() {
            return Ok(false);
        }
        match self.place.check_room() {
            Ok(()) => self.read_back(),
            Err(error) if durable::is_full(&error) => Ok(false),
            Err(error) => Err(store(redb::Error::Io(error))),
        }
        .inspect_err(|error| self.fail(error))
    }

    /// Opens the database to be written, if it is not closed.
    fn read_back(&self) -> Result<bool, StateError> {
        let mut held = self.held_alone();
        // Closed meanwhile, or closed on the way to being full.
        if !held.is_unwritten || held.db.is_none() {
            return Ok(false);
        }
        match self.open_again(&mut held, true) {
            Ok(()) => {
                self.set_full(None);
                tracing::info!("there is room on the disk again: the witness goes on");
                Ok(true)
            }
            Err(error) if error.is_full() => self.open_again(&mut held, false).map(|()| false),
            Err(error) => Err(error),
        }
    }

    /// What comes of an error. If there was no room, the database is opened again to be read; after anything else the state
    /// has failed.
    pub(super) fn fault(&self, held: RwLockReadGuard<'_, Held>, error: StateError) -> StateError {
        if matches!(error, StateError::Full | StateError::Closed | StateError::Failed) {
            return error;
        }
        if error.is_full() {
            // Said before the database is let go, so that whoever meets the same store after this knows what failed.
            self.set_full(Some(error.to_string()));
        } else if !error.is_of_an_earlier_one() {
            self.fail(&error);
            return error;
        }
        let turn = held.turn;
        drop(held);
        self.turn_to_reading(turn, error)
    }

    /// Opens the database that failed in this turn again, to be read, if the cause was that there was no room.
    fn turn_to_reading(&self, turn: u64, error: StateError) -> StateError {
        let mut held = self.held_alone();
        if let Err(failed) = self.check_not_failed() {
            return failed;
        }
        if held.turn != turn {
            return if held.db.is_some() { StateError::Full } else { StateError::Closed };
        }
        // The store failed in some operation that told nobody.
        let Some(why) = self.full() else {
            self.fail(&error);
            return error;
        };
        say_full(&why);
        match self.open_again(&mut held, false) {
            Ok(()) => StateError::Full,
            Err(error) => {
                self.fail(&error);
                error
            }
        }
    }

    /// Closes the database and opens and checks it again. Nothing that was cosigned may be missing.
    fn open_again(&self, held: &mut Held, to_write: bool) -> Result<(), StateError> {
        held.turn += 1;
        held.is_unwritten = !to_write;
        // The file is locked as long as it is open.
        held.db = None;
        let db = self.place.open(to_write)?;
        let Checked { by_hash, newest } = check_rows(&db, self.vkey())?;
        let mut known = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        let lost = known.iter().find(|(hash, _)| !by_hash.contains_key(*hash));
        if let Some((_, origin)) = lost {
            return Err(StateError::Damaged { origin: origin.to_string(), what: "it was there, and is no longer" });
        }
        if newest < self.newest() {
            let lost = format!("the newest cosignature, of {:?}, is no longer there", self.newest());
            return Err(store(redb::Error::Corrupted(lost)));
        }
        (*known, held.db) = (by_hash, Some(db));
        self.newest.store(newest.get(), Ordering::SeqCst);
        Ok(())
    }

    fn set_full(&self, why: Option<String>) {
        *self.full.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn held_alone(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}
