//! The input of an import, a line at a time: however long a line is, only so much of it is read.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
};

use data_encoding::BASE64;
use serde::Deserialize;

use crate::api::{CHANGE_BYTES_MAX, read_object};

/// Most bytes in a line, its end included: the longest change in base64, and its name.
pub const LINE_BYTES_MAX: usize = CHANGE_BYTES_MAX / 3 * 4 + 64;

/// A line, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    change: String,
}

/// A change and the line that it stands in, from 1.
#[derive(Debug)]
pub struct Item {
    /// Which line.
    pub line: u64,
    /// The change, encoded.
    pub change: Vec<u8>,
}

/// What a line holds.
pub enum Read {
    /// A change.
    Item(Item),
    /// Nothing that can be read.
    Malformed(u64),
}

/// What a file is, before anything of it is sent.
pub struct Scanned {
    /// Its BLAKE3.
    pub digest: blake3::Hash,
    /// Its lines that are not empty.
    pub lines: u64,
}

/// Reads a whole file once.
///
/// # Errors
/// If it cannot be read.
pub fn scan(path: &Path) -> io::Result<Scanned> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let (mut hasher, mut lines, mut is_empty) = (blake3::Hasher::new(), 0, true);
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        for byte in bytes {
            lines += u64::from(*byte == b'\n' && !is_empty);
            is_empty = *byte == b'\n';
        }
        let read = bytes.len();
        reader.consume(read);
    }
    Ok(Scanned { digest: hasher.finalize(), lines: lines + u64::from(!is_empty) })
}

/// Reads changes.
pub struct LineReader {
    reader: BufReader<File>,
    /// The line read last.
    line: u64,
}

impl LineReader {
    /// Begins at the first line.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { reader: BufReader::new(File::open(path)?), line: 0 })
    }

    /// The next line that is not empty; `None` after the last.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn next(&mut self) -> io::Result<Option<Read>> {
        loop {
            let mut bytes = Vec::new();
            let most = LINE_BYTES_MAX as u64;
            (&mut self.reader).take(most).read_until(b'\n', &mut bytes)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            self.line += 1;
            if bytes.len() == LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
                self.reader.skip_until(b'\n')?;
                return Ok(Some(Read::Malformed(self.line)));
            }
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            if !bytes.is_empty() {
                let line = self.line;
                let item = parse(bytes).map(|change| Read::Item(Item { line, change }));
                return Ok(Some(item.unwrap_or(Read::Malformed(line))));
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Vec<u8>> {
    let line: Line = read_object(bytes).ok()?;
    let change = BASE64.decode(line.change.as_bytes()).ok()?;
    (!change.is_empty() && change.len() <= CHANGE_BYTES_MAX).then_some(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_numbers_whatever_stands_between() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.jsonl");
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let text = format!("{{\"change\":\"AQID\"}}\n\n{long}\nnot json\n{{\"change\":\"\"}}\n{{\"change\":\"BA==\"}}");
        std::fs::write(&path, &text).unwrap();
        let scanned = scan(&path).unwrap();
        assert_eq!((scanned.lines, scanned.digest), (5, blake3::hash(text.as_bytes())));
        let mut reader = LineReader::open(&path).unwrap();
        let mut found = vec![];
        while let Some(read) = reader.next().unwrap() {
            found.push(match read {
                Read::Item(item) => (item.line, Some(item.change)),
                Read::Malformed(line) => (line, None),
            });
        }
        assert_eq!(found, [(1, Some(vec![1, 2, 3])), (3, None), (4, None), (5, None), (6, Some(vec![4]))]);
    }
}
