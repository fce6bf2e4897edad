//! Secret keys in files: 32 bytes as hex, mode 0600, one key a file, made by an explicit command and never by accident.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use crate::{durable, random};

/// What can be wrong with a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file system.
    #[error("key file {path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// Others may read it.
    #[error("key file {0} can be read by others; its mode must be 0600")]
    TooOpen(PathBuf),
    /// Not 64 hex digits.
    #[error("key file {0} is not 64 hex digits")]
    Malformed(PathBuf),
}

/// Makes a new key file with a random seed.
///
/// # Errors
/// [`KeyFileError::Io`], also if the file is there already: a key is never overwritten.
pub fn create(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let io = |error| KeyFileError::Io { path: path.to_owned(), error };
    let seed = Zeroizing::new(random::bytes::<32>());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let text = Zeroizing::new(format!("{}\n", HEXLOWER.encode(&*seed)));
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    // A key that was used and whose name is lost with the power is lost.
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        durable::sync_folder(folder).map_err(io)?;
    }
    Ok(seed)
}

/// Reads a key file.
///
/// # Errors
/// [`KeyFileError`].
pub fn load(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let io = |error| KeyFileError::Io { path: path.to_owned(), error };
    check_mode(path)?;
    let text = Zeroizing::new(fs::read(path).map_err(io)?);
    let decoded = HEXLOWER.decode(text.strip_suffix(b"\n").unwrap_or(&text)).map(Zeroizing::new);
    let seed = decoded.ok().and_then(|d| <[u8; 32]>::try_from(d.as_slice()).ok());
    seed.map(Zeroizing::new).ok_or_else(|| KeyFileError::Malformed(path.to_owned()))
}

/// Copies a key file, of whatever form, for its owner alone; what is under the other name is replaced. No hard link:
/// not every file system has them.
///
/// # Errors
/// [`KeyFileError::Io`]; under the other name is then what was there before, or the copy.
pub fn copy(from: &Path, to: &Path) -> Result<(), KeyFileError> {
    let io = |path: &Path, error| KeyFileError::Io { path: path.to_owned(), error };
    let text = Zeroizing::new(fs::read(from).map_err(|error| io(from, error))?);
    durable::replace_private(to, &text).map_err(|error| io(to, error))
}

/// Checks that a key file, of whatever form, is its owner's alone.
///
/// # Errors
/// [`KeyFileError::TooOpen`], or [`KeyFileError::Io`] if it is not there.
pub(crate) fn check_mode(path: &Path) -> Result<(), KeyFileError> {
    let metadata = fs::metadata(path).map_err(|error| KeyFileError::Io { path: path.to_owned(), error })?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(KeyFileError::TooOpen(path.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_guarded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.key");
        let seed = create(&path).unwrap();
        assert_eq!(*load(&path).unwrap(), *seed);
        assert!(matches!(create(&path), Err(KeyFileError::Io { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(&path), Err(KeyFileError::TooOpen(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(matches!(load(&path), Err(KeyFileError::Malformed(_))));
    }

    #[test]
    fn a_copy_is_guarded_too_and_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (path, kept) = (folder.path().join("log.key"), folder.path().join("log.key.retired"));
        let seed = create(&path).unwrap();
        // What a copy that broke off might have left, had it been written in place.
        fs::write(&kept, "half").unwrap();
        copy(&path, &kept).unwrap();
        fs::write(&path, "another").unwrap();
        assert_eq!(*load(&kept).unwrap(), *seed);
        assert!(matches!(copy(&folder.path().join("none"), &kept), Err(KeyFileError::Io { .. })));
        assert_eq!(*load(&kept).unwrap(), *seed);
    }
}
