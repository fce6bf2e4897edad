//! Taking in providers: a signed provider entry lies in a folder until the published log holds it.
//!
//! `providers/incoming/<domain>-<digest>.provider` holds the entry (kind 3, as it will be logged). The DP logs it with the next batch. The
//! file stays until a head with it is **published**, so that a crash or an outage of witnesses anywhere on the way loses nothing: the
//! next start finds either the entry in its log or the file still waiting. Then it moves to `accepted`; one that does not follow moves to
//! `refused`, with the reason in the log, and is not tried again. What `POST /v1/providers` takes lies in the same folder before the
//! request is answered, and so does the DP's own entry as a prover, which each start looks for ([`at_start`]).
//!
//! An entry is judged by the rules of [`waymark_mapping::provider`]; that a domain is its owner's is for the operator to
//! know before putting the file there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use waymark_log::{checkpoint::Origin, hash::Hash, key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    entry::{ENTRIES_PER_HEAD_MAX, Entry, HEAD_INTERVAL_MS_MAX, Provider, ProviderAction, ProviderRole},
    names::Domain,
    provider::ProviderDirectory,
    wire::Undecoded,
};
use waymark_runtime::durable;

use crate::{
    config::names,
    init::own_prover,
    sequencer::pool::{PROVIDERS_MAX, Pool, PoolRefused},
    store::{LogFiles, StoreError},
};

/// Most bytes in a provider entry: a domain, a digest, and a key and two signatures of the longest algorithm that the format has room for
/// (8 KiB each). With Ed25519 it is some 500 bytes, with ML-DSA-44 6,500.
pub const PROVIDER_BYTES_MAX: usize = 32 << 10;
/// Most entries looked at in a round: as many as wait for a batch, and as many as are in the batch in hand. Those beyond come once the
/// first are logged.
const INCOMING_MAX: usize = 2 * PROVIDERS_MAX;
/// Longest that the published head may be behind the clock while the clock settles what becomes of entries, milliseconds: a quiet log has a head a
/// minute, and its witnesses may take a while.
const BEHIND_MS_MAX: u64 = 2 * HEAD_INTERVAL_MS_MAX;
/// How many of the last entries are searched for one that waited: more than two heads hold, and one is made at a time.
const LATELY: u64 = 2 * ENTRIES_PER_HEAD_MAX as u64;
/// Most accepted entries that a start looks at: far more than are ever lost.
const ACCEPTED_MAX: usize = 10_000;

fn folder(dir: &Path, which: &str) -> PathBuf {
    dir.join(names::PROVIDERS).join(which)
}

fn name_of(provider: &Provider, bytes: &[u8]) -> String {
    format!("{}-{}.provider", provider.domain, &Hash::sha256(&[bytes]).to_hex()[..16])
}

/// Puts an entry into the folder of a DP, running or not. It is durable when this returns; the same entry again is the same file.
///
/// # Errors
/// If it could not be written.
pub fn submit(dir: &Path, provider: &Provider) -> io::Result<()> {
    let bytes = Entry::Provider(provider.clone()).encode();
    durable::keep(&folder(dir, "incoming"), &name_of(provider, &bytes), &bytes)
}

/// Reads a provider entry.
///
/// # Errors
/// [`Undecoded`].
pub fn parse(bytes: &[u8]) -> Result<Provider, Undecoded> {
    match Entry::decode(bytes) {
        Ok(Entry::Provider(provider)) => Ok(provider),
        Ok(_) => Err(Undecoded::malformed("provider entry", "it is an entry of another kind")),
        Err(e) => Err(e),
    }
}

/// What the log says of providers, at a head.
#[derive(Clone, Copy)]
pub struct Logged<'a> {
    /// The directory.
    pub providers: &'a ProviderDirectory,
    /// The log.
    pub origin: &'a Origin,
    /// The time.
    pub now: UnixMillis,
    /// That of the head.
    pub head: UnixMillis,
    /// The entries.
    pub files: &'a LogFiles,
    /// Their number.
    pub size: u64,
}

impl Logged<'_> {
    /// Whether the clock may settle what becomes of an entry. One that is far from the head was set, or the log is behind: a key
    /// that is valid would seem not to be.
    fn is_confirmed(&self) -> bool {
        (self.head..=self.head.plus_ms(BEHIND_MS_MAX)).contains(&self.now)
    }

    /// Whether an entry follows, or why not.
    fn judge(&self, entry: &Provider) -> Result<(), String> {
        self.providers.check(entry, self.origin, self.now).map_err(|why| why.to_string())
    }

    /// Whether the directory shows what an entry does, by this entry or by another with the same effect.
    fn shows(&self, entry: &Provider) -> bool {
        let known = self.providers.get(&entry.domain, entry.role);
        let key = known.and_then(|leaf| leaf.keys.iter().find(|k| k.key == entry.key));
        key.is_some_and(|key| match entry.action {
            ProviderAction::Retire => key.has_retired_at(self.now),
            _ => {
                let in_time = entry.by_valid.0.is_none() || key.due <= self.now;
                in_time && key.class == entry.class && key.publishes == entry.publishes
            }
        })
    }

    /// Whether an entry is among the last of the log, where those that waited before a crash are found.
    fn has_lately(&self, entry: &Provider) -> Result<bool, StoreError> {
        let (wanted, mut found) = (Entry::Provider(entry.clone()).encode(), false);
        self.files.entries_from(self.size.saturating_sub(LATELY), self.size, |logged| found |= logged == wanted)?;
        Ok(found)
    }
}

/// A file in the folder, and the entry in it or what is wrong with it.
type Waiting = (PathBuf, Result<Provider, String>);

/// The entries that wait in a folder, by the names of their files.
fn entries_in(folder: &Path, most: usize) -> io::Result<Vec<Waiting>> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(e),
    };
    let paths = listing.map(|file| file.map(|f| f.path())).collect::<io::Result<Vec<_>>>()?;
    let mut paths: Vec<PathBuf> =
        paths.into_iter().filter(|p| p.extension().is_some_and(|e| e == "provider")).collect();
    paths.sort_unstable();
    let read = |path: PathBuf| match durable::read(&path, PROVIDER_BYTES_MAX) {
        Ok(Some(bytes)) => Some(Ok((path, parse(&bytes).map_err(|e| e.to_string())))),
        // Somebody took it out again.
        Ok(None) => None,
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Some(Ok((path, Err(e.to_string())))),
        Err(e) => Some(Err(e)),
    };
    paths.into_iter().take(most).filter_map(read).collect()
}

/// Takes in what lies in the folder: offers to the pool what follows, moves away what is logged or does not follow. Of each domain one
/// entry is on its way at a time: what does not follow yet may follow from that one. `is_current` says whether `published` is still the
/// newest: what was published since then must not be offered again.
///
/// # Errors
/// If the folders or the log cannot be read or written.
pub fn take_in(
    dir: &Path,
    pool: &Pool,
    published: Logged<'_>,
    is_current: impl Fn() -> bool,
) -> Result<(), StoreError> {
    // Each entry that waits would be looked for in the log, five times a second, only to wait on.
    if pool.is_closed() {
        return Ok(());
    }
    let at = folder(dir, "incoming");
    let io = |error| StoreError::Io { path: at.clone(), error };
    let mut left = Vec::new();
    for (path, entry) in entries_in(&at, INCOMING_MAX).map_err(io)? {
        match entry {
            Err(why) => refuse(dir, &path, &why).map_err(io)?,
            Ok(entry) if pool.is_on_its_way(&entry.domain) => drop(entry),
            // Before it is offered: one whose key was cancelled meanwhile would follow once more.
            Ok(entry) if published.has_lately(&entry)? => move_to(dir, "accepted", &path).map_err(io)?,
            Ok(entry) => {
                if let Err(why) = offer(pool, published, &is_current, &entry) {
                    left.push((path, entry, why));
                }
            }
        }
    }
    // What is moved away is not tried again.
    if !published.is_confirmed() {
        return Ok(());
    }
    for (path, entry, why) in left {
        // In this order: what is no longer on its way was published before, and then this is not the newest any more.
        if pool.is_on_its_way(&entry.domain) || !is_current() {
            continue;
        }
        if published.shows(&entry) {
            move_to(dir, "accepted", &path).map_err(io)?;
        } else {
            refuse(dir, &path, &why).map_err(io)?;
        }
    }
    Ok(())
}

/// Offers an entry to the pool. A pool that is full or closed is tried again with the next round, and so is what was overtaken.
fn offer(pool: &Pool, published: Logged<'_>, is_current: &impl Fn() -> bool, entry: &Provider) -> Result<(), String> {
    let mut verdict = Ok(());
    let is_next = |entry: &Provider| {
        if !is_current() {
            return false;
        }
        verdict = published.judge(entry);
        verdict.is_ok()
    };
    match pool.add_provider(entry.clone(), is_next) {
        Err(why @ PoolRefused::Spoils) => Err(why.to_string()),
        Ok(()) | Err(_) => verdict,
    }
}

fn refuse(dir: &Path, path: &Path, why: &str) -> io::Result<()> {
    tracing::warn!(file = %path.display(), why, "a provider entry is refused");
    move_to(dir, "refused", path)
}

fn move_to(dir: &Path, which: &str, path: &Path) -> io::Result<()> {
    let target = folder(dir, which);
    fs::create_dir_all(&target)?;
    path.file_name().map_or(Ok(()), |name| fs::rename(path, target.join(name)))
}

/// Offers again what was taken in once and is not in the log: the DP's own entry as a prover, if the directory has no key of its own at
/// all, and entries under `accepted` that an earlier program moved there too soon.
///
/// # Errors
/// If the folders cannot be read or written.
pub fn at_start(dir: &Path, (domain, prover): (&Domain, &SecretKey), signed: Logged<'_>) -> Result<(), StoreError> {
    let at = folder(dir, "accepted");
    let io = |error| StoreError::Io { path: at.clone(), error };
    let mut lost = Vec::new();
    for (path, entry) in entries_in(&at, ACCEPTED_MAX).map_err(io)? {
        let Ok(entry) = entry else { continue };
        if !signed.shows(&entry) && signed.judge(&entry).is_ok() {
            lost.push((path, entry));
        }
    }
    if !lost.is_empty() {
        // A key that was logged, retired and dropped must not come back.
        signed.files.entries(signed.size, |logged| {
            lost.retain(|(_, entry)| Entry::Provider(entry.clone()).encode() != logged)
        })?;
    }
    for (path, entry) in lost {
        tracing::warn!(file = %path.display(), "a provider entry was accepted and is not in the log; it is offered again");
        submit(dir, &entry).map_err(io)?;
        fs::remove_file(&path).map_err(io)?;
    }
    if signed.providers.get(domain, ProviderRole::PROVER).is_none() {
        submit(dir, &own_prover(domain, signed.origin, prover)).map_err(io)?;
    }
    Ok(())
}

/// Whether an entry waits that gives this key to a domain in a role.
///
/// # Errors
/// If the folder cannot be read.
pub fn awaits(dir: &Path, domain: &Domain, role: ProviderRole, key: &SecretKey) -> io::Result<bool> {
    let waiting = entries_in(&folder(dir, "incoming"), INCOMING_MAX)?;
    let mut entries = waiting.into_iter().filter_map(|(_, entry)| entry.ok());
    Ok(entries
        .any(|e| e.domain == *domain && e.role == role && e.key == key.public() && e.action != ProviderAction::Retire))
}
