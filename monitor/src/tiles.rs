//! Hash tiles as a log serves them, compared with those of the replay. A monitor that has all entries needs none of
//! them; clients and mirrors do, and nobody else would notice that one is wrong, short, endless or gone.
//!
//! The cost of a look is bounded: the tiles at the edge of a new checkpoint, then some of those that were not compared
//! yet, or one of the older ones, one after the other and round and round. The first that cannot be used is named, and
//! is looked at until it can.

use std::{sync::Arc, time::Duration};

use waymark_log::{
    hash::Hash,
    tile::{TILE_HEIGHT, TILE_WIDTH, Tile, TileKind},
    time::UnixMillis,
};

use crate::{
    desk::Desk,
    hub::Hub,
    notices::Subject,
    report::Condition,
    state::{LogState, PassError},
    store::StoreError,
};

/// Most tiles of level 0 that were not compared before and are in one look: with one look in five seconds, 100,000
/// entries are compared in four minutes.
const FRESH_TILES_MAX: u64 = 8;
/// How often a tile is fetched before it is called unusable: bytes may be spoilt on their way.
const TRIES: usize = 2;

/// What is compared at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// The partial tiles of a tree of this size.
    Edge(u64),
    /// A full tile of level 0, and those above it that it completes. Whether it is the next one of which none was
    /// compared.
    Full { index: u64, is_fresh: bool },
}

impl Part {
    fn tiles(self) -> Vec<Tile> {
        let tile = |level: u8, index, width| Tile { kind: TileKind::Hashes { level }, index, width };
        let mut tiles = Vec::new();
        match self {
            Self::Edge(size) => {
                let mut level = 0;
                let mut count = size;
                while count > 0 {
                    let width = (count % TILE_WIDTH) as u16;
                    if width > 0 {
                        tiles.push(tile(level, count / TILE_WIDTH, width));
                    }
                    (count, level) = (count >> TILE_HEIGHT, level + 1);
                }
            }
            Self::Full { mut index, .. } => {
                tiles.push(tile(0, index, TILE_WIDTH as u16));
                let mut level = 1;
                while (index + 1).is_multiple_of(TILE_WIDTH) {
                    index /= TILE_WIDTH;
                    tiles.push(tile(level, index, TILE_WIDTH as u16));
                    level += 1;
                }
            }
        }
        tiles
    }
}

/// How far the hash tiles were compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TileCheck {
    /// The size whose edge was compared last.
    edge: u64,
    /// The first full tile of level 0 that was not compared yet.
    fresh: u64,
    /// The next one of those before.
    old: u64,
}

impl TileCheck {
    /// Nothing was compared by this program that has replayed `size` entries. What an earlier run may have compared
    /// comes after what is new, beginning anywhere: so programs that look once do not look at the same each time.
    pub(crate) const fn new(size: u64, now: UnixMillis) -> Self {
        let full = size / TILE_WIDTH;
        let old = if full == 0 { 0 } else { now.get() / 1000 % full };
        Self { edge: 0, fresh: full, old }
    }

    /// What is next at a size.
    pub(crate) fn due(&self, size: u64) -> Vec<Part> {
        let full = size / TILE_WIDTH;
        let edge = (size != self.edge).then_some(Part::Edge(size));
        let fresh = (self.fresh..full).take(FRESH_TILES_MAX as usize);
        let fresh: Vec<Part> = fresh.map(|index| Part::Full { index, is_fresh: true }).collect();
        let is_old_due = fresh.is_empty() && full > 0;
        let old = is_old_due.then_some(Part::Full { index: self.old % full.max(1), is_fresh: false });
        edge.into_iter().chain(fresh).chain(old).collect()
    }

    /// Something was compared, and is right.
    pub(crate) fn done(&mut self, part: Part) {
        match part {
            Part::Edge(size) => self.edge = size,
            Part::Full { index, is_fresh: true } => self.fresh = index + 1,
            Part::Full { index, is_fresh: false } => self.old = index + 1,
        }
    }
}

impl LogState {
    /// What is to be compared now: nothing while the log cannot be followed.
    fn tiles_due(&self) -> Vec<Part> {
        if self.condition == Condition::Good { self.tiles.due(self.replay.size()) } else { Vec::new() }
    }

    /// Whether served hashes begin with those of a tile of the replay.
    fn is_tile(&self, desk: &Desk<'_>, tile: Tile, served: &[Hash]) -> Result<bool, StoreError> {
        Ok(served.starts_with(&self.hash_tile(desk.store, tile)?))
    }

    pub(crate) fn tile_unusable(&mut self, why: &str, now: UnixMillis) {
        let text =
            format!("a hash tile cannot be used: {why}. Clients and mirrors need it; what was replayed is as it was");
        self.notices.set(Subject::Tiles, text, now);
    }
}

/// What came of a look at hash tiles.
#[derive(Debug)]
pub(crate) enum Compared {
    /// All that was due is right; there may be more.
    Right,
    /// One cannot be used, which a notice says.
    Unusable,
    /// The log wants to be asked again later.
    Busy(Option<Duration>),
}

/// One look at some of a log's hash tiles.
pub(crate) async fn compare(hub: &Arc<Hub>, log: usize) -> Result<Compared, PassError> {
    let due = hub.work(log, |state, _| Ok(state.tiles_due())).await?;
    for part in &due {
        for tile in part.tiles() {
            match one(hub, log, tile).await? {
                Compared::Right => {}
                other => return Ok(other),
            }
        }
        let part = *part;
        hub.set(log, move |state, _| state.tiles.done(part)).await?;
    }
    if !due.is_empty() {
        hub.set(log, |state, _| state.notices.clear(&Subject::Tiles)).await?;
    }
    Ok(Compared::Right)
}

async fn one(hub: &Arc<Hub>, log: usize, tile: Tile) -> Result<Compared, PassError> {
    let mut why = String::new();
    for _ in 0..TRIES {
        match hub.logs[log].reader.hash_tile(tile).await {
            Ok(served) => {
                if hub.work(log, move |state, desk| Ok(state.is_tile(desk, tile, &served)?)).await? {
                    return Ok(Compared::Right);
                }
                why = format!("{} does not hold the hashes of the tree that was signed", tile.path());
            }
            Err(e) if e.is_busy() => return Ok(Compared::Busy(e.wait())),
            Err(e) => why = e.to_string(),
        }
    }
    hub.set(log, move |state, now| state.tile_unusable(&why, now)).await?;
    Ok(Compared::Unusable)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_tile_has_its_turn_and_no_look_is_long() {
        let size = 66_000;
        let mut check = TileCheck::new(0, UnixMillis::new(0));
        let mut seen = BTreeSet::new();
        let mut looks = 0;
        while looks < 40 {
            let due = check.due(size);
            assert!(due.len() <= 1 + FRESH_TILES_MAX as usize);
            for part in due {
                seen.extend(part.tiles().into_iter().map(|t| t.path()));
                check.done(part);
            }
            looks += 1;
        }
        // 257 full tiles of level 0, one of level 1, and the partial ones of levels 0, 1 and 2.
        assert_eq!(seen.len(), 257 + 1 + 3, "{seen:?}");
        for path in ["tile/0/256", "tile/1/000", "tile/0/257.p/208", "tile/1/001.p/1", "tile/2/000.p/1"] {
            assert!(seen.contains(path), "{path}");
        }
        // Then the older ones, one at a time, round and round; a tree that grows comes first.
        assert_eq!(check.due(size).len(), 1);
        let mut again = BTreeSet::new();
        for _ in 0..257 {
            let due = check.due(size);
            again.extend(due.iter().flat_map(|part| part.tiles()).map(|t| t.path()));
            due.into_iter().for_each(|part| check.done(part));
        }
        assert_eq!(again.len(), 257 + 1);
        assert_eq!(check.due(size + 256)[..2], [Part::Edge(size + 256), Part::Full { index: 257, is_fresh: true }]);
        assert_eq!(
            TileCheck::new(600, UnixMillis::new(3_000)).due(600),
            [Part::Edge(600), Part::Full { index: 1, is_fresh: false }]
        );
        assert_eq!(TileCheck::new(0, UnixMillis::new(5)).due(0), []);
    }
}
