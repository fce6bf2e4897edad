//! The last signed checkpoint, in a file of its own: the smallest thing that must never be wrong.
//!
//! ```text
//! blake3 <64 hex digits>\n
//! <the checkpoint's signed note>
//! ```
//!
//! It is replaced by compare-and-swap: written beside, fsynced, renamed, the folder fsynced. A restore of an old copy shows
//! when witnesses know more than it says.

use std::path::{Path, PathBuf};

use waymark_log::note::NOTE_BYTES_MAX;
use waymark_runtime::durable;

use super::StoreError;

/// The file with the signed head.
#[derive(Debug)]
pub struct Head {
    path: PathBuf,
}

impl Head {
    /// The head under this path, whether there is one or not.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The signed note, `None` if nothing was ever signed here.
    ///
    /// # Errors
    /// [`StoreError`]; a head that cannot be read is never taken for none.
    pub fn load(&self) -> Result<Option<String>, StoreError> {
        let stored = durable::read(&self.path, NOTE_BYTES_MAX + 128).map_err(StoreError::io(&self.path))?;
        let damaged = || StoreError::Damaged(self.path.display().to_string());
        let Some(stored) = stored else { return Ok(None) };
        let note = durable::check_checksum(&stored).ok_or_else(damaged)?;
        String::from_utf8(note.to_vec()).map(Some).map_err(|_| damaged())
    }

    /// Checks that there is room for so many bytes beside it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn check_room(&self, bytes: usize) -> Result<(), StoreError> {
        let folder = self.path.parent().unwrap_or(&self.path);
        durable::check_room(folder, bytes).map_err(StoreError::io(folder))
    }

    /// Replaces the head if it is still `old`.
    ///
    /// # Errors
    /// [`StoreError::HeadMoved`] if it is not; any other error leaves open whether the new head was written.
    pub fn swap(&self, old: Option<&str>, new: &str) -> Result<(), StoreError> {
        if self.load()?.as_deref() != old {
            return Err(StoreError::HeadMoved);
        }
        durable::replace(&self.path, &durable::with_checksum(new.as_bytes())).map_err(StoreError::io(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swaps_only_what_it_expects_and_sees_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head");
        let head = Head::at(&path);
        assert_eq!(head.load().unwrap(), None);
        assert!(matches!(head.swap(Some("x"), "y"), Err(StoreError::HeadMoved)));
        head.swap(None, "one").unwrap();
        assert!(matches!(head.swap(None, "two"), Err(StoreError::HeadMoved)));
        head.swap(Some("one"), "two").unwrap();
        assert_eq!(head.load().unwrap().as_deref(), Some("two"));
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(head.load(), Err(StoreError::Damaged(_))));
        assert!(matches!(head.swap(Some("two"), "three"), Err(StoreError::Damaged(_))));
    }
}
