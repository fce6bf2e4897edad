//! What an app remembers of a log between its runs, and how it has the log show that it is still the same one.
//!
//! What must be shown is planned and checked by [`waymark_mapping::memory`]; here is the fetching between: static tiles, which
//! are the same for everybody. A look-up never says what is remembered.

use std::{
    io,
    path::{Path, PathBuf},
};

use waymark_log::{checkpoint::Checkpoint, note::Note};
use waymark_mapping::{
    evidence::Evidence,
    memory::{Apart, Consistency, GoneBack, MEMORY_BYTES_MAX, Next, NotConsistent, Recall, Remembered, Unshown},
    trust::Trust,
};
use waymark_runtime::{
    durable,
    follow::{FollowError, LogReader},
};

/// The folder beside a memory in which what speaks against a log or a witness is kept.
pub const EVIDENCE_FOLDER: &str = "evidence";
/// How often a memory is tried to be joined with what other runs write into its file meanwhile.
const STORE_TRIES: usize = 16;

/// Why a log has not shown that it is still the one remembered. None of it speaks against the log.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// It could not be read.
    #[error(transparent)]
    Log(#[from] FollowError),
    /// What it serves as its checkpoint is none.
    #[error("what the log serves as its checkpoint is none")]
    Checkpoint,
    /// Some part of it lags.
    #[error("the log shows fewer entries now than it did before")]
    Less,
    /// The tiles do not hold what they should.
    #[error("the log's tiles are not all there")]
    Incomplete,
    /// Nobody said where the log is read.
    #[error("it is not known where to read the log")]
    NoLog,
}

/// How showing it ended when it did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// Nothing is shown: the memory stays as it is.
    #[error(transparent)]
    Unreached(#[from] Unreached),
    /// It is another log.
    #[error(transparent)]
    NotConsistent(#[from] NotConsistent),
}

/// Why a memory was not written into its file, which stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system, or a file that is no memory.
    #[error(transparent)]
    File(#[from] io::Error),
    /// What another run has written there meanwhile is not of the log seen here.
    #[error(transparent)]
    Apart(#[from] Apart),
    /// What another run has written there meanwhile is of another past than what was seen here.
    #[error(transparent)]
    NotConsistent(#[from] NotConsistent),
}

impl StoreError {
    /// What anybody can be shown, if two notes contradict each other.
    pub fn evidence(&self) -> Option<&Evidence> {
        match self {
            Self::File(_) => None,
            Self::Apart(apart) => apart.evidence(),
            Self::NotConsistent(fork) => Some(fork.evidence()),
        }
    }
}

impl From<FollowError> for ShowError {
    fn from(error: FollowError) -> Self {
        Unreached::from(error).into()
    }
}

/// Has a log show from its tiles that it is still the one remembered: what to remember now.
///
/// Its checkpoint is read first, and not judged: it says only how wide the tiles at the log's edge are now, so that their
/// names tell neither the size remembered nor the size of the answer.
///
/// # Errors
/// [`ShowError`].
pub async fn show(consistency: &Consistency, log: &LogReader) -> Result<Remembered, ShowError> {
    let bytes = log.checkpoint().await?;
    let checkpoint = Note::parse(&bytes).ok().and_then(|note| Checkpoint::parse(note.text()).ok());
    let checkpoint = checkpoint.filter(|c| c.origin == *consistency.origin()).ok_or(Unreached::Checkpoint)?;
    let wanted = consistency.tiles(checkpoint.size).ok_or(Unreached::Less)?;
    let tiles = log.tiles(&wanted).await?;
    consistency.check(&tiles).map_err(|unshown| match unshown {
        Unshown::Incomplete(_) => Unreached::Incomplete.into(),
        Unshown::NotConsistent(fork) => fork.into(),
    })
}

/// An app's memory of one log.
#[derive(Debug, Default)]
pub struct LogMemory {
    remembered: Option<Remembered>,
    /// What `remembered` has grown from: what the file held when it was last read or written.
    from: Option<Remembered>,
    log: Option<LogReader>,
    unshown: Option<Unreached>,
    gone_back: Vec<GoneBack>,
}

impl LogMemory {
    /// A memory as it was read, and where the log is read. Without that, it takes what needs no showing, and stays so.
    pub fn new(remembered: Option<Remembered>, log: Option<LogReader>) -> Self {
        Self { from: remembered.clone(), remembered, log, unshown: None, gone_back: vec![] }
    }

    /// What is remembered.
    pub const fn remembered(&self) -> Option<&Remembered> {
        self.remembered.as_ref()
    }

    /// Why the log has not shown that it is still the one remembered, if it has not.
    pub const fn unshown(&self) -> Option<&Unreached> {
        self.unshown.as_ref()
    }

    /// The witnesses that have contradicted themselves in what was taken in. What speaks against them is to be kept.
    pub fn gone_back(&self) -> &[GoneBack] {
        &self.gone_back
    }

    /// Takes in what a proved answer says of the log. If the log cannot be read, the memory stays as it is, and says so.
    ///
    /// # Errors
    /// [`NotConsistent`]: treat it as an attack; the memory stays as it is.
    pub async fn take(&mut self, recall: &Recall) -> Result<(), NotConsistent> {
        for gone_back in recall.gone_back() {
            if !self.gone_back.contains(gone_back) {
                self.gone_back.push(gone_back.clone());
            }
        }
        let shown = match (recall.next(), &self.log) {
            (Next::Settled(remembered), _) => Ok(remembered.clone()),
            (Next::ToShow(consistency), Some(log)) => show(consistency, log).await,
            (Next::ToShow(_), None) => Err(Unreached::NoLog.into()),
        };
        match shown {
            Ok(remembered) => (self.remembered, self.unshown) = (Some(remembered), None),
            Err(ShowError::Unreached(why)) => self.unshown = Some(why),
            Err(ShowError::NotConsistent(fork)) => return Err(fork),
        }
        Ok(())
    }

    /// Writes what is remembered into its file, for its owner alone. What another run has written there meanwhile did
    /// not come from what this one began with: the log must show that both have seen one log. If it cannot be read, the
    /// file stays as it is.
    ///
    /// # Errors
    /// [`StoreError`]; unless it is of the file system, treat it as an attack.
    pub async fn store(&mut self, path: &Path, trust: &Trust) -> Result<(), StoreError> {
        for _ in 0..STORE_TRIES {
            let Some(ours) = self.remembered.clone().filter(|ours| self.from.as_ref() != Some(ours)) else {
                return Ok(());
            };
            let Some(there) = write_over(path, self.from.as_ref(), &ours)? else {
                self.from = Some(ours);
                return Ok(());
            };
            let met = there.meet(&ours, trust)?;
            (self.from, self.remembered) = (Some(there.clone()), Some(there));
            self.take(&met).await?;
        }
        let what = format!("{}: other runs write it all the time", path.display());
        Err(io::Error::new(io::ErrorKind::ResourceBusy, what).into())
    }
}

/// Reads a memory from its file; `None` if there is no such file.
///
/// # Errors
/// What the file system said, or [`io::ErrorKind::InvalidData`] if it is not what was written there.
pub fn load(path: &Path) -> io::Result<Option<Remembered>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{}: not a memory of a log", path.display()));
    let bytes = durable::read(path, MEMORY_BYTES_MAX)?;
    bytes.map(|bytes| Remembered::parse(&bytes).ok_or_else(damaged)).transpose()
}

/// Writes a memory over the one that it has grown from; gives what is there if that is another one. Between reading and
/// writing no other run writes: the lock is a file of its own, since the memory's own is replaced.
fn write_over(path: &Path, from: Option<&Remembered>, ours: &Remembered) -> io::Result<Option<Remembered>> {
    let mut lock = path.to_owned().into_os_string();
    lock.push(".lock");
    let _held = durable::lock_in_turn(Path::new(&lock))?;
    match load(path)? {
        Some(there) if there == *ours => Ok(None),
        Some(there) if from != Some(&there) => Ok(Some(there)),
        _ => durable::replace_private(path, &ours.format()).map(|()| None),
    }
}

/// Keeps evidence in a folder beside a memory, and says where.
///
/// # Errors
/// What the file system said.
pub fn keep_evidence(memory: &Path, evidence: &Evidence) -> io::Result<PathBuf> {
    let folder = memory.parent().unwrap_or_else(|| Path::new("")).join(EVIDENCE_FOLDER);
    let name = evidence.file_name();
    durable::keep(&folder, &name, &evidence.format())?;
    Ok(folder.join(name))
}

#[cfg(test)]
mod tests;
