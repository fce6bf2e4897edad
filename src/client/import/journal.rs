//! Which lines of an input are over: a file beside it, each line of it on the disk before it counts.
//!
//! ```text
//! waymark import v1 <origin> <MSP> <BLAKE3 of the input, hex>\n
//! <line> published <version>\n        or
//! <line> refused <code>\n
//! ```
//!
//! It names lines and no identifier. A line that is missing is asked for again, which does no harm; so a last line that was
//! cut off is simply dropped.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use waymark_runtime::{durable, lines::Lines};

use super::lines::Scanned;
use crate::client::provider::ProviderClient;

/// Most bytes of a journal that are read: thirty million lines.
const JOURNAL_BYTES_MAX: usize = 1 << 30;
/// Most bytes in a code that we note down.
const CODE_BYTES_MAX: usize = 64;

/// Why there is no journal to go on with.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// Another import of this file is running.
    #[error("{0} is in use by another import")]
    Locked(PathBuf),
    /// It belongs to another input, MSP or log.
    #[error("{0} is of another input, provider or log: move it away to begin anew")]
    Other(PathBuf),
    /// A line in it is damaged.
    #[error("{path}: line {line} is damaged: take it out, and what it said is asked for again")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
}

/// How a line came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// Its change has made this version.
    Published(u32),
    /// Its change will never be taken, for the reason with this code.
    Refused(String),
}

/// The journal of one input, open.
pub struct Journal {
    path: PathBuf,
    lines: Lines,
    over: HashMap<u64, Over>,
    _lock: File,
}

/// Where the journal of an input lies.
pub fn path_of(input: &Path) -> PathBuf {
    let mut name = input.as_os_str().to_owned();
    name.push(".journal");
    PathBuf::from(name)
}

/// A code as we note it down: what a server sends is not ours to trust.
pub fn clean(code: String) -> String {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=CODE_BYTES_MAX).contains(&code.len()) && code.bytes().all(good) { code } else { "unknown".to_owned() }
}

impl Journal {
    /// Opens the journal of an input, or begins it.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(input: &Path, dp: &ProviderClient, scanned: &Scanned) -> Result<Self, JournalError> {
        let path = path_of(input);
        let io = |error| JournalError::Io { path: path.clone(), error };
        let lock = durable::lock(&path).map_err(io)?.ok_or_else(|| JournalError::Locked(path.clone()))?;
        let (mut lines, there) = Lines::open(&path, JOURNAL_BYTES_MAX).map_err(io)?;
        let first = format!("waymark import v1 {} {} {}", dp.origin(), dp.domain(), scanned.digest.to_hex());
        match there.first() {
            None => lines.append([first.as_str()]).map_err(io)?,
            Some(line) if *line == first => {}
            Some(_) => return Err(JournalError::Other(path)),
        }
        let mut over = HashMap::new();
        for (index, line) in there.iter().enumerate().skip(1) {
            let damaged = || JournalError::Damaged { path: path.clone(), line: index + 1 };
            let (line, outcome) = parse(line).ok_or_else(damaged)?;
            over.insert(line, outcome);
        }
        Ok(Self { path, lines, over, _lock: lock })
    }

    /// Whether a line is over.
    pub fn is_over(&self, line: u64) -> bool {
        self.over.contains_key(&line)
    }

    /// How the lines that are over came to their end.
    pub fn outcomes(&self) -> impl Iterator<Item = &Over> {
        self.over.values()
    }

    /// Notes down lines that have come to their end.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn append(&mut self, over: &[(u64, Over)]) -> Result<(), JournalError> {
        let texts: Vec<String> = over.iter().map(|(line, outcome)| format(*line, outcome)).collect();
        let appended = self.lines.append(texts.iter().map(String::as_str));
        appended.map_err(|error| JournalError::Io { path: self.path.clone(), error })?;
        self.over.extend(over.iter().cloned());
        Ok(())
    }
}

fn format(line: u64, over: &Over) -> String {
    match over {
        Over::Published(version) => format!("{line} published {version}"),
        Over::Refused(code) => format!("{line} refused {code}"),
    }
}

fn parse(text: &str) -> Option<(u64, Over)> {
    let mut words = text.split(' ');
    let line = words.next()?.parse().ok()?;
    let over = match words.next()? {
        "published" => Over::Published(words.next()?.parse().ok()?),
        "refused" => Over::Refused(words.next()?.to_owned()),
        _ => return None,
    };
    words.next().is_none().then_some((line, over))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_back() {
        for over in [(1, Over::Published(0)), (u64::MAX, Over::Refused("version-stale".to_owned()))] {
            assert_eq!(parse(&format(over.0, &over.1)), Some(over));
        }
        for bad in ["", "1", "1 published", "x published 0", "1 published 0 0", "1 lost x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(clean("msp-unknown".to_owned()), "msp-unknown");
        for bad in ["", "two words", "line\nend", &"x".repeat(65)] {
            assert_eq!(clean(bad.to_owned()), "unknown");
        }
    }
}
