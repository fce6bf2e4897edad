//! Whether a data folder is the one that its DP was last run in, or a copy of it.
//!
//! Two programs that sign with one key on copies of one folder fork the log. The lock keeps two programs off one folder; this file asks a
//! question about a copy: the operator answers it once, with `waymark-dp adopt`. It is a question and no proof. A copy of a whole disk looks
//! like the original; against that, witnesses are asked before anything is signed.
//!
//! ```text
//! waymark instance 1
//! <inode of this very file> <when it was made, milliseconds since 1970; 0 where the file system does not say>
//! ```
//!
//! Copying a folder makes a new file, with another inode or another date. The file is written in its place and never replaced.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use crate::config::names;

/// Most bytes of the file.
const BYTES_MAX: usize = 256;
const FIRST_LINE: &str = "waymark instance 1\n";

/// Why a DP does not start here.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The folder was copied.
    #[error(
        "{0} is a copy of the folder that this DP was last run in. Two programs that sign with one key fork the log, and that cannot be \
         undone. When no other program runs on the original, and never will, say so with `waymark-dp adopt --dir {0}`"
    )]
    Copied(PathBuf),
    /// A file.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

/// Takes a folder that was never run in for this DP's, and refuses a copy.
///
/// # Errors
/// [`InstanceError`].
pub fn check(dir: &Path) -> Result<(), InstanceError> {
    let path = dir.join(names::INSTANCE);
    let said = waymark_runtime::durable::read(&path, BYTES_MAX).map_err(at(&path))?;
    let Some(said) = said else { return write(&path) };
    let file = File::open(&path).map_err(at(&path))?;
    let is_this = said == text(&file).map_err(at(&path))?.as_bytes();
    if is_this { Ok(()) } else { Err(InstanceError::Copied(dir.to_owned())) }
}

/// Takes a folder for this DP's, whatever it was.
///
/// # Errors
/// [`InstanceError::Io`].
pub fn adopt(dir: &Path) -> Result<(), InstanceError> {
    let path = dir.join(names::INSTANCE);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(&path)(e)),
        _ => write(&path),
    }
}

/// A crash in between leaves a file that says nothing: the operator is asked.
fn write(path: &Path) -> Result<(), InstanceError> {
    let mut file = OpenOptions::new().create_new(true).write(true).open(path).map_err(at(path))?;
    let text = text(&file).map_err(at(path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(path))
}

fn text(file: &File) -> io::Result<String> {
    let metadata = file.metadata()?;
    let made = metadata.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
    let made_ms = made.map_or(0, |made| made.as_millis());
    Ok(format!("{FIRST_LINE}{} {made_ms}\n", metadata.ino()))
}

fn at(path: &Path) -> impl Fn(io::Error) -> InstanceError + '_ {
    move |error| InstanceError::Io { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_asked_about_and_the_original_is_not() {
        let root = tempfile::tempdir().unwrap();
        let (original, copy) = (root.path().join("a"), root.path().join("b"));
        fs::create_dir(&original).unwrap();
        fs::create_dir(&copy).unwrap();
        for _ in 0..3 {
            check(&original).unwrap();
        }
        // A folder that is moved on one file system is the same.
        fs::rename(&original, root.path().join("moved")).unwrap();
        let original = root.path().join("moved");
        check(&original).unwrap();
        fs::copy(original.join(names::INSTANCE), copy.join(names::INSTANCE)).unwrap();
        let why = check(&copy).unwrap_err().to_string();
        assert!(why.contains("waymark-dp adopt --dir") && why.contains("is a copy"), "{why}");
        adopt(&copy).unwrap();
        check(&copy).unwrap();
        check(&original).unwrap();
        // What a crash has left says nothing, and is asked about.
        fs::write(copy.join(names::INSTANCE), "").unwrap();
        assert!(matches!(check(&copy), Err(InstanceError::Copied(_))));
    }
}
