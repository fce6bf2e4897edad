//! Changing what is promised: a config entry, signed by the log's key, which the DP logs with the next batch.
//!
//! `config/incoming/<name>.config` holds the entry (kind 2, as it will be logged); its document is on the shelf. The file stays until
//! a head that commits to it is published, so that a crash anywhere on the way loses nothing: the next start finds either
//! the entry in its log or the file still waiting. Then it moves to `accepted`, or to `refused`.
//!
//! The interval and the document may change. Another log key is refused: that needs every trust file to change first.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::{Key, SecretKey},
};
use waymark_mapping::{
    entry::{Config, Entry},
    signed::{SignedStruct, UNSIGNED},
    wire::Extensions,
};
use waymark_runtime::{config as toml_file, durable};

use super::{
    Document, PolicyError,
    shelf::{Logged, Shelf},
};
use crate::{
    config::{File, names},
    published::Snapshot,
    sequencer::{
        batch::{ConfigRefused, Promise, check_config},
        pool::Pool,
    },
};

/// Most bytes in a config entry: it has 173.
const CONFIG_ENTRY_BYTES_MAX: usize = 512;
/// Most files looked at in a round.
const INCOMING_MAX: usize = 16;

/// Why a change of promises is not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeRefused {
    /// The entry does not follow, or is not signed by the log's key, or names another one.
    #[error(transparent)]
    Entry(#[from] ConfigRefused),
    /// The file is no config entry.
    #[error("not a config entry")]
    Form,
    /// The document cannot be used, or contradicts the configuration.
    #[error("the policy document: {0}")]
    Document(#[from] PolicyError),
    /// The configuration cannot be read.
    #[error(transparent)]
    Configuration(#[from] toml_file::ConfigError),
    /// Batches come later than would be promised.
    #[error("interval_ms: batches come every {runs_ms} ms, which is more than the {promised_ms} ms to be promised")]
    Slower {
        /// How the DP runs.
        runs_ms: u32,
        /// What the entry says.
        promised_ms: u32,
    },
    /// It would promise what is promised already.
    #[error("nothing changes: document and interval are the logged ones")]
    NoChange,
}

/// What a new promise is checked against.
pub struct Judge<'a> {
    /// The log.
    pub origin: &'a Origin,
    /// Its key.
    pub log_key: &'a Key,
    /// What the DP does.
    pub does: &'a Document,
    /// Time between its batches, milliseconds.
    pub interval_ms: u32,
}

impl Judge<'_> {
    /// Checks that an entry follows `latest`, the bytes of the latest config or open entry, and promises what the DP does.
    ///
    /// # Errors
    /// [`ChangeRefused`].
    pub fn check(&self, config: &Config, latest: &[u8], shelf: &Shelf) -> Result<Logged, ChangeRefused> {
        check_config(config, latest, self.origin, self.log_key)?;
        if Promise::of(latest).is_some_and(|p| p.policy == config.policy && p.interval_ms == config.interval_ms) {
            return Err(ChangeRefused::NoChange);
        }
        let logged = shelf.get(&config.policy)?;
        logged.document.check(self.does)?;
        if self.interval_ms > config.interval_ms {
            return Err(ChangeRefused::Slower { runs_ms: self.interval_ms, promised_ms: config.interval_ms });
        }
        Ok(logged)
    }
}

/// The entry that makes this promise after the one in `latest`, the bytes of the latest config or open entry.
pub fn make(origin: &Origin, secret: &SecretKey, promise: Promise, latest: &[u8]) -> Config {
    let Promise { policy, interval_ms } = promise;
    let previous = Hash::sha256(&[latest]);
    let mut config =
        Config { extensions: Extensions::NONE, interval_ms, policy, log_key: secret.public(), previous, sig: UNSIGNED };
    config.sign(origin, secret);
    config
}

fn folder(dir: &Path, which: &str) -> PathBuf {
    dir.join(names::CONFIGS).join(which)
}

/// Puts an entry into the folder of a DP, running or not.
///
/// # Errors
/// If it could not be written.
pub fn submit(dir: &Path, config: &Config) -> io::Result<()> {
    let bytes = Entry::Config(config.clone()).encode();
    let incoming = folder(dir, "incoming");
    fs::create_dir_all(&incoming)?;
    let name = format!("{}.config", &Hash::sha256(&[&bytes]).to_hex()[..16]);
    durable::replace(&incoming.join(name), &bytes)
}

/// The entries that wait, with their files.
fn waiting(dir: &Path) -> io::Result<Vec<(PathBuf, Option<Config>)>> {
    let listing = match fs::read_dir(folder(dir, "incoming")) {
        Ok(listing) => listing,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(e),
    };
    let mut found = vec![];
    for file in listing.take(INCOMING_MAX) {
        let path = file?.path();
        if path.extension().is_some_and(|e| e == "config") {
            let bytes = durable::read(&path, CONFIG_ENTRY_BYTES_MAX)?.unwrap_or_default();
            let config = match Entry::decode(&bytes) {
                Ok(Entry::Config(config)) => Some(config),
                _ => None,
            };
            found.push((path, config));
        }
    }
    Ok(found)
}

/// The document of an entry that waits and would be taken, if there is one: what a DP that was stopped is about to promise.
///
/// # Errors
/// If the folder cannot be read.
pub fn about_to(dir: &Path, judge: &Judge<'_>, latest: &[u8]) -> io::Result<Option<Logged>> {
    let shelf = Shelf::of(dir);
    let good = |(_, config): (PathBuf, Option<Config>)| judge.check(&config?, latest, &shelf).ok();
    Ok(waiting(dir)?.into_iter().find_map(good))
}

/// A DP that runs, as far as its promises go.
pub struct Desk {
    /// The data folder.
    pub dir: PathBuf,
    /// The log.
    pub origin: Origin,
    /// Its key.
    pub log_key: Key,
    /// What it did when it started: some of it only a restart changes.
    pub running: Document,
    /// Time between its batches, milliseconds, likewise.
    pub interval_ms: u32,
}

impl Desk {
    /// Offers what lies in the folder to the pool, and moves what is published or cannot be taken.
    ///
    /// # Errors
    /// If the folders cannot be read or written.
    pub fn take_in(&self, snapshot: &Snapshot, pool: &Pool) -> io::Result<()> {
        for (path, config) in waiting(&self.dir)? {
            let Some(config) = config else {
                self.move_to("refused", &path, Some(&ChangeRefused::Form))?;
                continue;
            };
            if Entry::Config(config.clone()).encode() == snapshot.config {
                self.move_to("accepted", &path, None)?;
                continue;
            }
            match self.check(&config, snapshot) {
                // A pool that is full or closed is tried again with the next round.
                Ok(()) => drop(pool.add_config(config)),
                Err(why) => self.move_to("refused", &path, Some(&why))?,
            }
        }
        Ok(())
    }

    /// The configuration is read anew: the next start reads it too, and must find what was promised.
    fn check(&self, config: &Config, snapshot: &Snapshot) -> Result<(), ChangeRefused> {
        let file: File = toml_file::load(&self.dir.join(names::CONFIG))?;
        let shelf = Shelf::of(&self.dir);
        let does = Document::of(&file);
        let judge = |does: &Document, interval_ms| {
            let (origin, log_key) = (&self.origin, &self.log_key);
            Judge { origin, log_key, does, interval_ms }.check(config, snapshot.latest_promise(), &shelf).map(drop)
        };
        judge(&does, file.interval_ms)?;
        judge(&does.with_running(&self.running), self.interval_ms)
    }

    fn move_to(&self, which: &str, path: &Path, why: Option<&ChangeRefused>) -> io::Result<()> {
        if let Some(why) = why {
            tracing::warn!(file = %path.display(), %why, "a config entry is refused");
        }
        let target = folder(&self.dir, which);
        fs::create_dir_all(&target)?;
        path.file_name().map_or(Ok(()), |name| fs::rename(path, target.join(name)))
    }
}
