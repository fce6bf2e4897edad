//! What an MSP has to tell its users: that something under their identifier has changed, and that none of their apps said so.
//!
//! ```text
//! <list, hex> <entry> <leaf, hex> <time of its head, ms>\n        one line a notice, appended
//! ```
//!
//! A notice says where in the log it happened, and nothing of who did it or what: the adapter does not know, and a newcomer
//! is not to be told on before the recipient has looked.

use std::{collections::HashMap, io, path::Path};

use data_encoding::HEXLOWER;
use waymark_log::{hash::Hash, time::UnixMillis};
use waymark_mapping::watch::{Place, WatchId};
use waymark_runtime::lines::Lines;

/// Most bytes of notices read at the start: half a million.
const NOTICES_BYTES_MAX: usize = 64 << 20;
/// Most notices kept for one list: who has not looked after so many will not for more. The others are a number.
const NOTICES_PER_LIST_MAX: usize = 64;

/// A hit on a user's watch-list that nobody claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The entry.
    pub place: Place,
    /// When its head was made.
    pub time: UnixMillis,
}

/// Notices by list.
pub struct Notices {
    by_list: HashMap<WatchId, Vec<Notice>>,
    /// Hits since the start for which there was no room.
    beyond: HashMap<WatchId, u64>,
    lines: Lines,
}

impl Notices {
    /// Reads the notices, if there are any yet.
    ///
    /// # Errors
    /// If they cannot be read, or a line is damaged.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (lines, there) = Lines::open(path, NOTICES_BYTES_MAX)?;
        let mut by_list: HashMap<WatchId, Vec<Notice>> = HashMap::new();
        for line in there {
            let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a damaged line in notices");
            let (list, notice) = parse(&line).ok_or_else(damaged)?;
            by_list.entry(list).or_default().push(notice);
        }
        Ok(Self { by_list, beyond: HashMap::new(), lines })
    }

    /// Keeps a notice, unless the list has it already or has too many; says whether it is new.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn add(&mut self, list: WatchId, notice: Notice) -> io::Result<bool> {
        let known = self.by_list.entry(list).or_default();
        if known.iter().any(|n| n.place.leaf == notice.place.leaf) {
            return Ok(false);
        }
        if known.len() >= NOTICES_PER_LIST_MAX {
            *self.beyond.entry(list).or_default() += 1;
            return Ok(false);
        }
        self.lines.append([format(&list, &notice).as_str()])?;
        known.push(notice);
        Ok(true)
    }

    /// How many hits a list had since the start that are not kept.
    pub fn beyond(&self, list: &WatchId) -> u64 {
        self.beyond.get(list).copied().unwrap_or_default()
    }

    /// A list's notices, oldest first.
    pub fn of(&self, list: &WatchId) -> &[Notice] {
        self.by_list.get(list).map_or(&[], Vec::as_slice)
    }

    /// The entries that they are about, each once, in the order of the log.
    pub fn leaves(&self) -> Vec<Hash> {
        let mut places: Vec<(u64, Hash)> =
            self.by_list.values().flatten().map(|n| (n.place.index, n.place.leaf)).collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().map(|(_, leaf)| leaf).collect()
    }
}

fn format(list: &WatchId, notice: &Notice) -> String {
    let Place { index, leaf } = notice.place;
    format!("{} {index} {} {}", HEXLOWER.encode(&list.0), leaf.to_hex(), notice.time.get())
}

fn parse(line: &str) -> Option<(WatchId, Notice)> {
    let mut words = line.split(' ');
    let list = WatchId(HEXLOWER.decode(words.next()?.as_bytes()).ok()?.try_into().ok()?);
    let place = Place { index: words.next()?.parse().ok()?, leaf: Hash::from_hex(words.next()?)? };
    let time = UnixMillis::new(words.next()?.parse().ok()?);
    words.next().is_none().then_some((list, Notice { place, time }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_kept_once_and_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notices");
        let (one, two) = (WatchId([1; 16]), WatchId([2; 16]));
        let notice = |index: u64| {
            let leaf = Hash::sha256(&[&index.to_be_bytes()]);
            Notice { place: Place { index, leaf }, time: UnixMillis::new(5) }
        };
        let mut notices = Notices::open(&path).unwrap();
        assert!(notices.add(one, notice(7)).unwrap() && !notices.add(one, notice(7)).unwrap());
        assert!(notices.add(two, notice(7)).unwrap() && notices.add(one, notice(3)).unwrap());
        let mut notices = Notices::open(&path).unwrap();
        assert_eq!(notices.of(&one), [notice(7), notice(3)]);
        assert!(!notices.add(two, notice(7)).unwrap());
        assert_eq!(notices.leaves(), [notice(3).place.leaf, notice(7).place.leaf]);
        assert_eq!(notices.of(&WatchId([3; 16])), []);
        for index in 0..NOTICES_PER_LIST_MAX as u64 + 5 {
            notices.add(one, notice(index)).unwrap();
        }
        assert_eq!((notices.of(&one).len(), notices.beyond(&one), notices.beyond(&two)), (NOTICES_PER_LIST_MAX, 5, 0));
    }
}
