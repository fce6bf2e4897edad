//! A text file that only grows, by whole lines, each on the disk before it counts.
//!
//! A crash can leave a last line without its end. It was never acknowledged, so it is cut off when the file is opened.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use crate::durable;

/// A file of lines, open for more.
#[derive(Debug)]
pub struct Lines {
    file: File,
    /// Bytes that are on the disk for certain.
    length: u64,
    count: u64,
}

impl Lines {
    /// Opens a file, made if it is not there, and gives the lines in it.
    ///
    /// # Errors
    /// If it cannot be read or written, is not UTF-8, or is over `bytes_max`.
    pub fn open(path: &Path, bytes_max: usize) -> io::Result<(Self, Vec<String>)> {
        let bytes = durable::read(path, bytes_max)?.unwrap_or_default();
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        let text = std::str::from_utf8(&bytes[..whole]).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        if whole < bytes.len() {
            file.set_len(whole as u64)?;
        }
        file.sync_all()?;
        // A file whose name is lost with the power is lost.
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            durable::sync_folder(folder)?;
        }
        Ok((Self { file, length: whole as u64, count: lines.len() as u64 }, lines))
    }

    /// Number of lines.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether the file would be over `bytes_max`, and not be opened again, with this line besides.
    pub const fn has_room_for(&self, line: &str, bytes_max: usize) -> bool {
        // The line end takes one more.
        self.length + (line.len() as u64) < bytes_max as u64
    }

    /// Appends lines, which must not contain line ends, and returns when they are on the disk.
    ///
    /// # Errors
    /// The operation that failed. What had been written of the lines is taken back, as far as the disk lets us.
    pub fn append<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        let (mut text, mut count) = (String::new(), 0);
        for line in lines {
            text.push_str(line);
            text.push('\n');
            count += 1;
        }
        if let Err(error) = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data()) {
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += text.len() as u64;
        self.count += count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_stay_and_a_torn_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let (mut lines, there) = Lines::open(&path, 100).unwrap();
        assert!(there.is_empty());
        lines.append(["one", "two"]).unwrap();
        std::fs::write(&path, b"one\ntwo\nthr").unwrap();
        let (mut lines, there) = Lines::open(&path, 100).unwrap();
        assert_eq!((there.as_slice(), lines.count()), (&["one".to_owned(), "two".to_owned()][..], 2));
        lines.append(["three"]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        assert!(Lines::open(&path, 5).is_err());
        // "one", "two" and "three" take 14 bytes: a line of five more and its end make 20.
        assert!(lines.has_room_for("seven", 20) && !lines.has_room_for("seven", 19));
    }
}
