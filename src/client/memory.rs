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
    memory::{Consistency, MEMORY_BYTES_MAX, NotConsistent, Recall, Remembered, Unshown},
};
use waymark_runtime::{
    durable,
    follow::{FollowError, LogReader},
};

/// The folder beside a memory in which what speaks against a log or a witness is kept.
pub const EVIDENCE_FOLDER: &str = "evidence";

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
    log: Option<LogReader>,
    unshown: Option<Unreached>,
}

impl LogMemory {
    /// A memory, and where the log is read. Without that, it takes what needs no showing, and stays so.
    pub const fn new(remembered: Option<Remembered>, log: Option<LogReader>) -> Self {
        Self { remembered, log, unshown: None }
    }

    /// What is remembered.
    pub const fn remembered(&self) -> Option<&Remembered> {
        self.remembered.as_ref()
    }

    /// Why the log has not shown that it is still the one remembered, if it has not.
    pub const fn unshown(&self) -> Option<&Unreached> {
        self.unshown.as_ref()
    }

    /// Takes in what a proved answer says of the log. If the log cannot be read, the memory stays as it is, and says so.
    ///
    /// # Errors
    /// [`NotConsistent`]: treat it as an attack; the memory stays as it is.
    pub async fn take(&mut self, recall: &Recall) -> Result<(), NotConsistent> {
        let shown = match (recall, &self.log) {
            (Recall::Settled(remembered), _) => Ok(remembered.clone()),
            (Recall::ToShow(consistency), Some(log)) => show(consistency, log).await,
            (Recall::ToShow(_), None) => Err(Unreached::NoLog.into()),
        };
        match shown {
            Ok(remembered) => (self.remembered, self.unshown) = (Some(remembered), None),
            Err(ShowError::Unreached(why)) => self.unshown = Some(why),
            Err(ShowError::NotConsistent(fork)) => return Err(fork),
        }
        Ok(())
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

/// Writes a memory into its file, for its owner alone. What another run has written there meanwhile stays if it knows more.
///
/// # Errors
/// As [`load`], and if the file is of another log.
pub fn store(path: &Path, remembered: &Remembered) -> io::Result<()> {
    match load(path)? {
        Some(there) if there.origin() != remembered.origin() => {
            let what = format!("{}: the memory of another log", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidInput, what))
        }
        Some(there) if there.size() > remembered.size() => Ok(()),
        _ => durable::replace_private(path, &remembered.format()),
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
