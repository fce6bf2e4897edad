//! Stores that survive a crash, and the crash: at any effect, before it, in the middle, or after it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use waymark::{
    sequencer::commit::{Disk, Effects},
    store::{Purge, Rows, SealedRow, Staged, StoreError},
};
use waymark_log::tile::Tile;

/// How far an effect came when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    NotWritten,
    HalfWritten,
    Written,
}

#[derive(Default)]
struct Charge {
    /// Effects that still go well.
    left: Option<(u32, How)>,
    blown: Option<&'static str>,
}

/// Counts effects, and lets the power go at one of them. After that nothing is written any more.
#[derive(Clone, Default)]
pub struct Fuse(Arc<Mutex<Charge>>);

impl Fuse {
    fn charge(&self) -> MutexGuard<'_, Charge> {
        self.0.lock().unwrap()
    }

    /// The power goes after so many effects.
    pub fn arm(&self, after: u32, how: How) {
        self.charge().left = Some((after, how));
    }

    /// The power is back.
    pub fn reset(&self) {
        *self.charge() = Charge::default();
    }

    /// The effect at which the power went, if it did.
    pub fn blown(&self) -> Option<&'static str> {
        self.charge().blown
    }

    fn step(&self, effect: &'static str) -> Option<How> {
        let mut charge = self.charge();
        if charge.blown.is_some() {
            return Some(How::NotWritten);
        }
        let (left, how) = charge.left?;
        if left > 0 {
            charge.left = Some((left - 1, how));
            return None;
        }
        charge.blown = Some(effect);
        Some(how)
    }

    /// An effect that happens wholly or not at all.
    fn whole<T>(&self, effect: &'static str, act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self.step(effect) {
            None => act(),
            Some(How::Written) => act().and_then(|_| Err(gone())),
            Some(_) => Err(gone()),
        }
    }
}

fn gone() -> StoreError {
    StoreError::Io { path: PathBuf::from("the disk"), error: std::io::Error::other("the power is gone") }
}

#[derive(Default)]
struct Tables {
    rows: BTreeMap<([u8; 32], u32), SealedRow>,
    purges: BTreeMap<([u8; 32], u32), Purge>,
    staged: Option<Staged>,
}

/// What the record store keeps.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Tables>>);

/// The record store of one run.
pub struct MemoryRows {
    pub memory: Memory,
    pub fuse: Fuse,
}

impl MemoryRows {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.memory.0.lock().unwrap()
    }

    fn put(&self, rows: &[SealedRow]) {
        self.tables().rows.extend(rows.iter().map(|r| ((r.csi_key, r.version), r.clone())));
    }
}

impl Rows for MemoryRows {
    fn stage(&self, staged: &Staged, rows: &[SealedRow], purges: &[Purge]) -> Result<(), StoreError> {
        self.fuse.whole("stage", || {
            self.put(rows);
            let mut tables = self.tables();
            tables.purges.extend(purges.iter().map(|p| ((p.csi_key, p.below), p.clone())));
            tables.staged = Some(staged.clone());
            Ok(())
        })
    }

    fn purges(&self) -> Result<Vec<Purge>, StoreError> {
        Ok(self.tables().purges.values().cloned().collect())
    }

    fn purge(&self, stubs: &[SealedRow], purge: &Purge, done: bool) -> Result<(), StoreError> {
        self.fuse.whole(if done { "purged" } else { "purge" }, || {
            self.put(stubs);
            let (mut tables, at) = (self.tables(), (purge.csi_key, purge.below));
            if done {
                tables.purges.remove(&at)
            } else {
                tables.purges.insert(at, purge.clone())
            };
            Ok(())
        })
    }

    fn staged(&self) -> Result<Option<Staged>, StoreError> {
        Ok(self.tables().staged.clone())
    }

    fn row(&self, csi_key: &[u8; 32], version: u32) -> Result<Option<SealedRow>, StoreError> {
        Ok(self.tables().rows.get(&(*csi_key, version)).cloned())
    }

    fn for_each(&self, each: &mut dyn FnMut(SealedRow)) -> Result<(), StoreError> {
        let rows: Vec<SealedRow> = self.tables().rows.values().cloned().collect();
        rows.into_iter().for_each(each);
        Ok(())
    }

    fn drop_above(&self, size: u64) -> Result<u64, StoreError> {
        self.fuse.whole("drop", || {
            let mut tables = self.tables();
            let before = tables.rows.len();
            tables.rows.retain(|_, row| row.size <= size);
            tables.purges.retain(|_, purge| purge.size <= size);
            Ok((before - tables.rows.len()) as u64)
        })
    }
}

/// The effects of a commit, until the power goes.
pub struct Failing<'a> {
    pub disk: Disk<'a>,
    pub fuse: &'a Fuse,
}

impl Failing<'_> {
    /// What a file that was being replaced leaves behind: a temporary one beside it, half written.
    fn half(&self, target: &Path, bytes: &[u8]) {
        let name = format!("{}.tmp0-0", target.file_name().unwrap().to_str().unwrap());
        fs::write(target.with_file_name(name), &bytes[..bytes.len() / 2]).unwrap();
    }

    fn replace(
        &mut self,
        effect: &'static str,
        target: &Path,
        bytes: &[u8],
        act: impl FnOnce(&mut Disk<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match self.fuse.step(effect) {
            None => act(&mut self.disk),
            Some(How::Written) => act(&mut self.disk).and(Err(gone())),
            Some(How::HalfWritten) => {
                self.half(target, bytes);
                Err(gone())
            }
            Some(How::NotWritten) => Err(gone()),
        }
    }
}

impl Effects for Failing<'_> {
    fn stage(&mut self, staged: &Staged, rows: &[SealedRow], purges: &[Purge]) -> Result<(), StoreError> {
        // The store itself counts this one.
        self.disk.stage(staged, rows, purges)
    }

    fn read_tile(&mut self, tile: Tile) -> Result<(Tile, Vec<u8>), StoreError> {
        self.disk.read_tile(tile)
    }

    fn swap_head(&mut self, old: Option<&str>, new: &str) -> Result<(), StoreError> {
        let target = self.disk.files.folder().with_file_name("head");
        self.replace("swap", &target, new.as_bytes(), |disk| disk.swap_head(old, new))
    }

    fn write_tiles(&mut self, files: &[(Tile, Vec<u8>)]) -> Result<(), StoreError> {
        match self.fuse.step("tiles") {
            None => self.disk.write_tiles(files),
            Some(How::Written) => self.disk.write_tiles(files).and(Err(gone())),
            Some(How::HalfWritten) => {
                let (written, rest) = files.split_at(files.len() / 2);
                self.disk.write_tiles(written)?;
                if let Some((tile, bytes)) = rest.first() {
                    let target = self.disk.files.folder().join(tile.path());
                    fs::create_dir_all(target.parent().unwrap()).unwrap();
                    self.half(&target, bytes);
                }
                Err(gone())
            }
            Some(How::NotWritten) => Err(gone()),
        }
    }

    fn publish(&mut self, note: &str) -> Result<(), StoreError> {
        let target = self.disk.files.folder().join("checkpoint");
        self.replace("publish", &target, note.as_bytes(), |disk| disk.publish(note))
    }
}
