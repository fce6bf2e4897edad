//! What a crash left of files that were being written: found by the exact form of their names, and removed at the next start.
//!
//! ```text
//! <name>.tmp<process>-<number>        beside <name>, until it is renamed over it ([`crate::durable`])
//! ```
//!
//! Only regular files of our own user with such a name are ours to remove, links are not followed, and a file of another process that
//! still runs is left alone.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Folders in folders that are looked into: the tiles of a log of 2^62 entries lie eight below the data folder.
const DEPTH_MAX: usize = 12;
/// Age from which a file is left over whatever runs under its number: writing one takes milliseconds.
const AGE_MAX: Duration = Duration::from_secs(3600);

/// The number of the process that a temporary file's name bears, `None` for any other name.
fn process_of(name: &str) -> Option<u32> {
    let (target, rest) = name.rsplit_once(".tmp")?;
    let (process, number) = rest.split_once('-')?;
    let is_number = |s: &str| !s.is_empty() && s.len() <= 20 && s.bytes().all(|b| b.is_ascii_digit());
    (!target.is_empty() && is_number(process) && is_number(number)).then(|| process.parse().ok())?
}

/// The files in a folder, and in those below, that a write has left over.
///
/// # Errors
/// If a folder cannot be read; one that is not there has none.
pub fn find(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    look_into(folder, DEPTH_MAX, &mut found)?;
    found.sort_unstable();
    Ok(found)
}

fn look_into(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for file in listing {
        let file = file?;
        // The type of the name itself, not of what a link leads to.
        let kind = file.file_type()?;
        if kind.is_dir() && depth > 0 {
            look_into(&file.path(), depth - 1, found)?;
        } else if kind.is_file()
            && let Some(process) = file.file_name().to_str().and_then(process_of)
            && is_over(&file.path(), process)
        {
            found.push(file.path());
        }
    }
    Ok(())
}

/// Whether nobody writes the file any more. The process that asks has not begun to write: its own number is that of an earlier process.
fn is_over(path: &Path, process: u32) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    // What this process made is its user's.
    let is_ours = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == metadata.uid());
    let is_old = metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > AGE_MAX));
    let runs = process != std::process::id() && Path::new(&format!("/proc/{process}")).exists();
    is_ours && (is_old || !runs)
}

/// Removes them, and says how many there were. To be called once at the start, before anything is written. What cannot be removed is
/// logged and stays: it does no harm.
pub fn sweep(folder: &Path) -> usize {
    let found = find(folder).unwrap_or_else(|error| {
        tracing::warn!(folder = %folder.display(), %error, "what interrupted writes have left could not be looked for");
        Vec::new()
    });
    for path in &found {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %path.display(), %error, "what an interrupted write has left could not be removed");
            }
            _ => tracing::info!(file = %path.display(), "removed what an interrupted write had left"),
        }
    }
    found.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_write_has_left_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("log/tile/0/x001.p")).unwrap();
        let gone = [
            "head.tmp4194999-5".to_owned(),
            "log/tile/0/011.tmp4194999-9".to_owned(),
            "log/tile/0/x001.p/17.tmp4194999-0".to_owned(),
            // By the number that this process has, which begins to count anew.
            format!("trust.toml.tmp{}-0", std::process::id()),
        ];
        let stay = [
            "head",
            "log/tile/0/011",
            "notes.tmp",
            "notes.tmp1",
            "notes.tmp4194999-",
            "notes.tmp-5",
            "notes.tmp4194999-5.bak",
            ".tmp4194999-5",
            "notes.tmp4194999-5x",
            // Of a process that runs: the first one always does.
            "head.tmp1-3",
        ];
        for name in gone.iter().map(String::as_str).chain(stay) {
            fs::write(at(name), "x").unwrap();
        }
        fs::create_dir(at("folder.tmp4194999-5")).unwrap();
        std::os::unix::fs::symlink(at("head"), at("link.tmp4194999-5")).unwrap();
        assert_eq!(find(folder.path()).unwrap().len(), gone.len());
        assert_eq!(sweep(folder.path()), gone.len());
        assert!(gone.iter().all(|name| !at(name).exists()) && stay.iter().all(|name| at(name).exists()));
        assert!(at("folder.tmp4194999-5").is_dir() && at("link.tmp4194999-5").is_symlink());
        assert_eq!(sweep(&at("none")), 0);
    }

    #[test]
    fn the_names_are_those_that_are_written() {
        let folder = tempfile::tempdir().unwrap();
        // A folder in the target's place: the write is done, and the renaming fails.
        fs::create_dir(folder.path().join("x")).unwrap();
        fs::write(folder.path().join("x/y"), "").unwrap();
        assert!(crate::durable::replace(&folder.path().join("x"), b"z").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a write that failed has left something");
        let (_, temporary) = crate::durable::beside(&folder.path().join("x")).unwrap();
        assert_eq!(process_of(temporary.file_name().unwrap().to_str().unwrap()), Some(std::process::id()));
    }
}
