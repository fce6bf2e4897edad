//! Files that are wholly there or not at all, and stay there when the power goes.
//!
//! The order is: write a temporary file beside the target, fsync it, rename it over the target, fsync the directory. After
//! an error nothing is known about what is on the disk; callers treat it as fatal or start from what they read back. A temporary file
//! that a crash leaves is removed at the next start ([`crate::leftovers`]).

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use data_encoding::HEXLOWER;

/// The mode of a file that is nobody's secret, less what the process's mask takes away.
const MODE: u32 = 0o666;
/// The mode of a file for its owner alone.
const PRIVATE_MODE: u32 = 0o600;

/// Writes a file that replaces whatever was there.
///
/// # Errors
/// The first operation that failed; the target then holds its old content or the new, nothing between.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with_mode(path, bytes, MODE)
}

/// The same, for its owner alone: mode 0600, whatever was there.
///
/// # Errors
/// The first operation that failed; the target then holds its old content or the new, nothing between.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with_mode(path, bytes, PRIVATE_MODE)
}

fn replace_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (folder, temporary) = beside(path)?;
    write_and_rename(&temporary, path, bytes, mode)?;
    sync_folder(&folder)
}

/// Writes a file that never changes: if it is there already, its content must be the same.
///
/// The caller syncs the folder once for a whole batch ([`sync_folder`]).
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if other content is there; else the operation that failed.
pub fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match read(path, bytes.len()) {
        Ok(None) => {}
        Ok(Some(there)) if there == bytes => return Ok(()),
        Err(e) if e.kind() != io::ErrorKind::InvalidData => return Err(e),
        Ok(Some(_)) | Err(_) => {
            let what = format!("{} is there already with other content", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
    }
    let (folder, temporary) = beside(path)?;
    fs::create_dir_all(&folder)?;
    write_and_rename(&temporary, path, bytes, MODE)
}

/// Writes a file that never changes into a folder, and makes both durable, the folder and those above it too if they were not there.
///
/// # Errors
/// As [`write_once`].
pub fn keep(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    make_folder(folder)?;
    write_once(&folder.join(name), bytes)?;
    sync_folder(folder)
}

/// Makes a folder and those above it that are not there, durably.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.try_exists()? {
        return Ok(());
    }
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    make_folder(parent)?;
    match fs::create_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    sync_folder(parent)
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The operation that failed.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all().map_err(not_durable)
}

/// Whether an error says that there was no room, before anything was promised: once there is some, it may be tried again. A disk that could not
/// make durable what it had taken is not among them, nor is one that cannot be read or written.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Checks that there is room for so many bytes in a folder, by writing them and taking them away again.
///
/// # Errors
/// The operation that failed.
pub fn check_room(folder: &Path, bytes: usize) -> io::Result<()> {
    let (_, temporary) = beside(&folder.join("room"))?;
    let written = write_new(&temporary, &vec![0; bytes], PRIVATE_MODE).and_then(|file| file.sync_all());
    let removed = fs::remove_file(&temporary);
    written.and(removed)
}

/// After a failed fsync the system may show from memory what is not on the disk, and a second fsync may say that all is well. So it is no
/// error to try again after, whatever its cause.
pub(crate) fn not_durable(error: io::Error) -> io::Error {
    io::Error::other(format!("what was written could not be made durable: {error}"))
}

/// Reads a file of at most `bytes_max` bytes; `None` if there is no such file. An unreadable file is an error, not absence.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if it is larger; else the operation that failed.
pub fn read(path: &Path, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is over {bytes_max} bytes", path.display()),
        ));
    }
    Ok(Some(bytes))
}

/// Makes a folder for its owner alone, if it is not there, and says whether it is empty.
///
/// # Errors
/// The operation that failed.
pub fn private_folder(path: &Path) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    Ok(fs::read_dir(path)?.next().is_none())
}

/// Locks a file for as long as what it returns is held: `None` if another process has it.
///
/// # Errors
/// The operation that failed.
pub fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = open_lock(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// The same, and waits until the process that holds it lets it go: only for locks that are held for a moment.
///
/// # Errors
/// The operation that failed.
pub fn lock_in_turn(path: &Path) -> io::Result<File> {
    let file = open_lock(path)?;
    file.lock()?;
    Ok(file)
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

/// Puts a BLAKE3 checksum in front of bytes that are to be stored.
///
/// ```text
/// blake3 <64 hex digits>\n<bytes>
/// ```
pub fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let sum = HEXLOWER.encode(blake3::hash(bytes).as_bytes());
    [b"blake3 ", sum.as_bytes(), b"\n", bytes].concat()
}

/// Checks and removes the checksum; `None` if a bit has changed.
pub fn check_checksum(stored: &[u8]) -> Option<&[u8]> {
    let bytes = stored.strip_prefix(b"blake3 ")?;
    let (sum, bytes) = (bytes.get(..64)?, bytes.get(64..)?.strip_prefix(b"\n")?);
    (sum == HEXLOWER.encode(blake3::hash(bytes).as_bytes()).as_bytes()).then_some(bytes)
}

/// Counts temporary files, so that two threads never write the same one.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

pub(crate) fn beside(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file path"))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut temporary = name.to_owned();
    temporary.push(format!(".tmp{}-{}", std::process::id(), TEMPORARY.fetch_add(1, Ordering::Relaxed)));
    Ok((folder.to_owned(), folder.join(temporary)))
}

/// Writes beside the target and renames over it. What could not be finished does not stay: it may hold the last room on the disk.
fn write_and_rename(temporary: &Path, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let done = write_synced(temporary, bytes, mode).and_then(|()| fs::rename(temporary, path));
    if done.is_err() {
        let _ = fs::remove_file(temporary);
    }
    done
}

/// Writes a file that is new. What a process that was killed has left under the name goes; a link that somebody has put there goes, too,
/// and is not followed.
fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_new(path, bytes, mode)?.sync_all().map_err(not_durable)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn replaced_written_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert_eq!(read(&path, 10).unwrap(), None);
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path, 3).unwrap(), Some(b"two".to_vec()));
        assert!(read(&path, 2).is_err());
        write_once(&path, b"two").unwrap();
        for other in [&b"three"[..], b"tw", b"twx", b""] {
            assert_eq!(write_once(&path, other).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        let deep = folder.path().join("a/b/c");
        write_once(&deep, b"deep").unwrap();
        assert_eq!(read(&deep, 10).unwrap(), Some(b"deep".to_vec()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("x"), folder.path().join("somebody's"));
        fs::write(&victim, "theirs").unwrap();
        let next = TEMPORARY.load(Ordering::Relaxed);
        // Links under the names that come next, which anybody who may write to the folder can guess; and one under the target.
        for number in next..next + 64 {
            let guessed = folder.path().join(format!("x.tmp{}-{number}", std::process::id()));
            std::os::unix::fs::symlink(&victim, guessed).unwrap();
        }
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        replace_private(&path, b"ours").unwrap();
        assert_eq!(
            (read(&victim, 9).unwrap(), read(&path, 9).unwrap()),
            (Some(b"theirs".into()), Some(b"ours".into()))
        );
        let there = fs::symlink_metadata(&path).unwrap();
        assert!(there.is_file() && there.permissions().mode() & 0o777 == 0o600);
        // And what a killed process has left stands in nobody's way.
        write_synced(&victim, b"new", PRIVATE_MODE).unwrap();
        assert_eq!(read(&victim, 9).unwrap(), Some(b"new".into()));
    }

    #[test]
    fn a_lock_is_held_once_and_a_private_folder_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let (lock_file, private) = (folder.path().join("lock"), folder.path().join("of/its/own"));
        let held = lock(&lock_file).unwrap();
        assert!(held.is_some() && lock(&lock_file).unwrap().is_none());
        drop(held);
        assert!(lock(&lock_file).unwrap().is_some());
        assert!(private_folder(&private).unwrap() && private_folder(&private).unwrap());
        write_once(&private.join("a letter"), b"dear").unwrap();
        assert!(!private_folder(&private).unwrap());
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);
        let letter = private.join("another letter");
        replace(&letter, b"to all").unwrap();
        replace_private(&letter, b"to one").unwrap();
        assert_eq!(fs::metadata(&letter).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn every_flipped_bit_of_a_checksummed_object_shows() {
        let stored = with_checksum(b"a signed checkpoint");
        assert_eq!(check_checksum(&stored), Some(&b"a signed checkpoint"[..]));
        for bit in 0..stored.len() * 8 {
            let mut bytes = stored.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check_checksum(&bytes), None, "bit {bit}");
        }
        assert_eq!(check_checksum(b""), None);
    }
}
