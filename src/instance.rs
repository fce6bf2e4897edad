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
//! Copying a folder makes a new file, with another date, or where the file system keeps none with another inode. The file is written in its place
//! and never replaced.

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
         undone. When no other program runs on the original, and never will, say so with `waymark-dp adopt --dir {0}`. (A file system that \
         gives its files other numbers and dates with each mount looks the same)"
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
    let Some(said) = said.filter(|said| !said.is_empty()) else {
        // Absent, or what a crash or a full disk has left: a folder that ever ran has more. Without room it is written the next time.
        if let Err(error) = adopt(dir) {
            let _ = fs::remove_file(&path);
            tracing::warn!(%error, "a copy of this data folder will not be noticed");
        }
        return Ok(());
    };
    let is_this = Identity::parse(&said).is_some_and(|said| {
        File::open(&path).and_then(|file| Identity::of(&file)).is_ok_and(|found| found.is_same_as(said))
    });
    if is_this { Ok(()) } else { Err(InstanceError::Copied(dir.to_owned())) }
}

/// Takes a folder for this DP's, whatever it was.
///
/// # Errors
/// [`InstanceError::Io`].
pub fn adopt(dir: &Path) -> Result<(), InstanceError> {
    let path = dir.join(names::INSTANCE);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(&path)(e)),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).open(&path).map_err(at(&path))?;
    let text = Identity::of(&file).map_err(at(&path))?.to_text();
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&path))
}

/// What tells a file from its copy.
#[derive(Debug, Clone, Copy)]
struct Identity {
    inode: u64,
    /// Milliseconds since 1970; 0 where the file system does not say.
    made_ms: u64,
}

impl Identity {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let made = metadata.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        let made_ms = made.map_or(0, |made| u64::try_from(made.as_millis()).unwrap_or(0));
        Ok(Self { inode: metadata.ino(), made_ms })
    }

    /// A copy has another date. Where one of the two is not known, the inode has to do; and some file systems number anew with each mount.
    const fn is_same_as(self, other: Self) -> bool {
        if self.made_ms == 0 || other.made_ms == 0 { self.inode == other.inode } else { self.made_ms == other.made_ms }
    }

    fn to_text(self) -> String {
        format!("{FIRST_LINE}{} {}\n", self.inode, self.made_ms)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (inode, made_ms) = text.strip_prefix(FIRST_LINE)?.strip_suffix('\n')?.split_once(' ')?;
        Some(Self { inode: inode.parse().ok()?, made_ms: made_ms.parse().ok()? })
    }
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
        // What a crash has left in a folder that never ran says nothing, and is written anew.
        fs::write(copy.join(names::INSTANCE), "").unwrap();
        check(&copy).unwrap();
        check(&copy).unwrap();
        fs::write(copy.join(names::INSTANCE), "something else\n").unwrap();
        assert!(matches!(check(&copy), Err(InstanceError::Copied(_))));
    }

    #[test]
    fn a_date_that_is_not_known_and_an_inode_that_moves_make_no_copy() {
        let same = |a: (u64, u64), b: (u64, u64)| {
            let identity = |(inode, made_ms)| Identity { inode, made_ms };
            identity(a).is_same_as(identity(b))
        };
        assert!(same((7, 1000), (7, 1000)) && same((7, 0), (7, 1000)) && same((7, 1000), (8, 1000)));
        assert!(!same((7, 1000), (7, 1001)) && !same((7, 0), (8, 1000)) && !same((7, 0), (8, 0)));
    }
}
