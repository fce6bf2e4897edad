//! A copy of what a restore needs, made of a DP that is stopped; and the data folder made of such a copy.
//!
//! ```text
//! backup.toml                              written last: without it a folder is no backup
//! dp.toml policy.txt policy.toml trust.toml accepted-findings.toml policies/ config/incoming/ providers/incoming/
//! head log/                                the signed head, the public folder
//! records.redb row.keys                    records and their keys, both new
//! keys/                                    only if asked for
//! ```
//!
//! Certificates, codes, open challenges with what was sent, and the list of who has completed a challenge are not in it: a restore does
//! without.
//!
//! **Records are written anew**, each unsealed and sealed under a new row key. The files of a database that is written by copying keep
//! pages of what was deleted; here nothing is copied that could not be read, and nothing that was deleted can be read. What is due to
//! be deleted is deleted first.
//!
//! **A copy for a region** leaves out what a recipient wants kept elsewhere. Where only earlier records of a tenure name another region,
//! stubs take their places; else the identifier is left out whole. Its commitments stay in the log, so a DP that is restored from the
//! copy knows that there is something: it answers with an error (`record-elsewhere`), never with an absence, and takes no change.
//!
//! A copy is read back by [`fsck`] before it counts. Whether it is the newest, only the witnesses can tell: a DP whose witnesses know
//! more than it does refuses to sign.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use waymark_log::{
    tile::{BUNDLE_BYTES_MAX, Tile},
    time::UnixMillis,
};
use waymark_mapping::{
    earlier::has_lapsed,
    entry::{Entry, ProviderRole},
    mapping::Mapping,
    names::Region,
    provider::ProviderDirectory,
    rules::Held,
};
use waymark_runtime::{
    config::{self, ConfigError},
    durable,
};
use zeroize::Zeroizing;

use crate::{
    config::{Settings, StoreKind, names},
    fsck::{fsck, missing_policies},
    init::open_rows,
    policy::shelf::Shelf,
    row::{Kept, Row},
    sequencer::{
        accepted::Accepted,
        purge::{Purger, open_row},
        recover::{RecoverError, read_accepted},
    },
    store::{
        Head, LogFiles, Purge, RowKeys, Rows, SealedRow, Staged, StoreError,
        seal::{Place, Sealer},
    },
};

/// The form of backup that this program makes and reads.
const FORMAT: u32 = 1;
/// The file that says what a backup holds.
const MANIFEST: &str = "backup.toml";
/// Rows that are written in one commit.
const ROWS_PER_COMMIT: usize = 1000;
/// Deepest folder that is copied: `log/tile/entries/x001/x234/567.p/8` and room for larger logs.
const DEPTH_MAX: usize = 16;
/// Most bytes of a file that is copied whole.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Files that are copied as they are, if they are there.
const FILES: [&str; 5] = [names::CONFIG, names::POLICY, names::DOCUMENT, names::TRUST, names::ACCEPTED];
/// Folders whose files are copied as they are, if they are there.
const FOLDERS: [&str; 3] = [names::POLICIES, "config/incoming", "providers/incoming"];
/// Why there is no copy, or no data folder.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A DP runs on the data.
    #[error("the DP is running: stop it first")]
    Running,
    /// The target holds something.
    #[error("{0} is not empty: nothing is overwritten")]
    NotEmpty(PathBuf),
    /// The folder is no backup, or not all of one.
    #[error("{path}: {what}")]
    NotABackup {
        /// Which folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// No key can open it.
    #[error("the copy has no keys: name the folder that has them with --keys")]
    NoKeys,
    /// What was read back is not good.
    #[error("{} faults, the first: {first}", count)]
    Faults {
        /// How many.
        count: usize,
        /// The first.
        first: String,
    },
    /// The log must not be continued as it is.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

fn at(path: &Path) -> impl Fn(io::Error) -> BackupError + '_ {
    move |error| BackupError::Io { path: path.to_owned(), error }
}

/// What the copy is for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Where it will lie; `None` for where the DP is.
    pub region: Option<Region>,
    /// Whether it holds the DP's keys.
    pub with_keys: bool,
}

/// What is in a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Entries of the log.
    pub size: u64,
    /// Records that can be opened.
    pub records: u64,
    /// Identifiers that have records.
    pub identifiers: u64,
    /// Identifiers left out, since a mapping of theirs is for another region.
    pub left_out: u64,
}

/// backup.toml
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    origin: String,
    /// When it was made, milliseconds since 1970.
    time_ms: u64,
    /// Entries of the log.
    size: u64,
    /// For which region; empty for where the DP was.
    region: String,
    left_out: u64,
    keys: bool,
    /// BLAKE3 of the files that are not checked otherwise.
    blake3: BTreeMap<String, String>,
}

/// Copies the data of a DP that is stopped into a folder that is not there yet, or empty.
///
/// # Errors
/// [`BackupError`]; what lies in the folder then is no backup.
pub fn back_up(settings: &Settings, to: &Path, wanted: &Wanted, now: UnixMillis) -> Result<Contents, BackupError> {
    let _lock = lock(&settings.dir)?;
    empty_folder(to)?;
    let (head, files) = (Head::at(&settings.dir.join(names::HEAD)), log_of(&settings.dir)?);
    let rows = open_rows(&settings.dir, settings.store, false)?;
    // A batch that was signed is applied, and what is due is deleted. One that was never signed stays where it is, and is not copied.
    let accepted = Accepted::load(&settings.dir, &settings.origin)?;
    let recovered = read_accepted(&*rows, &head, &files, &settings.origin, settings.signer.vkey(), &accepted)?;
    let sealer = sealer_of(settings, RowKeys::open(&settings.dir.join(names::ROW_KEYS))?);
    let head_time = recovered.state.head().map_or(now, |h| h.time);
    let (size, mut purger) = (recovered.signed.size(), Purger::default());
    while purger.round(&*rows, &sealer, size, head_time)?.done > 0 {}

    let staged = rows.staged()?.ok_or_else(|| StoreError::Missing("the staged batch".to_owned()))?;
    let new_rows = open_rows(to, settings.store, true)?;
    let new_sealer = sealer_of(settings, RowKeys::create(&to.join(names::ROW_KEYS))?);
    let mut copy = Copy {
        sealer: &sealer,
        new_rows: &*new_rows,
        new_sealer: &new_sealer,
        staged: &staged,
        region: wanted.region.as_ref(),
        log: Logged { files: &files, size, head_time, providers: recovered.state.audited.providers() },
        purges: rows.purges()?.into_iter().filter(|p| p.size <= size).collect(),
        waiting: Vec::new(),
        left_out: 0,
    };
    copy.all(&*rows)?;
    let left_out = copy.left_out;
    copy_files(&settings.dir, to, wanted.with_keys)?;
    copy_log(&files, &log_of(to)?)?;
    Head::at(&to.join(names::HEAD)).swap(None, &recovered.head_note)?;
    let contents = read_back(settings, to, &*new_rows, &new_sealer)?;
    drop(new_rows);
    write_manifest(settings, to, wanted, Contents { left_out, ..contents }, now)?;
    Ok(Contents { left_out, ..contents })
}

fn lock(dir: &Path) -> Result<File, BackupError> {
    let path = dir.join(names::LOCK);
    durable::lock(&path).map_err(at(&path))?.ok_or(BackupError::Running)
}

fn empty_folder(path: &Path) -> Result<(), BackupError> {
    let empty = durable::private_folder(path).map_err(at(path))?;
    if empty { Ok(()) } else { Err(BackupError::NotEmpty(path.to_owned())) }
}

fn log_of(dir: &Path) -> Result<LogFiles, StoreError> {
    LogFiles::at(&dir.join(names::LOG))
}

fn sealer_of(settings: &Settings, keys: RowKeys) -> Sealer {
    Sealer::new(&settings.store_key, Arc::new(keys))
}

/// The log that is copied: when records were in it, and whose keys have retired since.
struct Logged<'a> {
    files: &'a LogFiles,
    size: u64,
    head_time: UnixMillis,
    providers: &'a ProviderDirectory,
}

impl Logged<'_> {
    /// Whether a mapping's prover has a key under it that counts still, or that counted when this record, which has it, was logged.
    fn is_believed(&self, mapping: &Mapping, row: &Row) -> Result<bool, StoreError> {
        let a = &mapping.attestation;
        let leaf = self.providers.get(&a.prover, ProviderRole::PROVER);
        let retired = leaf.and_then(|leaf| leaf.find(&a.prover_key)).filter(|key| key.has_retired_at(self.head_time));
        let Some(key) = retired.filter(|_| !has_lapsed(mapping, self.head_time)) else { return Ok(true) };
        match Entry::decode(&self.files.entry(row.place.head, self.size)?) {
            Ok(Entry::Head(head)) => Ok(key.is_valid_at(head.time)),
            _ => Err(StoreError::Damaged("the place of a head".to_owned())),
        }
    }
}

/// Records on their way from one store to another.
struct Copy<'a> {
    sealer: &'a Sealer,
    new_rows: &'a dyn Rows,
    new_sealer: &'a Sealer,
    staged: &'a Staged,
    region: Option<&'a Region>,
    log: Logged<'a>,
    /// What is to be deleted later.
    purges: Vec<Purge>,
    /// Rows of whole CSIs, to be written with the next commit.
    waiting: Vec<(SealedRow, Kept)>,
    left_out: u64,
}

impl Copy<'_> {
    /// Rows come in order of CSI and version. Those above the head were never signed.
    fn all(&mut self, rows: &dyn Rows) -> Result<(), BackupError> {
        let (mut group, mut result) = (Vec::<SealedRow>::new(), Ok(()));
        let size = self.log.size;
        rows.for_each(&mut |row| {
            if row.size > size {
                return;
            }
            if group.first().is_some_and(|first| first.csi_key != row.csi_key) && result.is_ok() {
                result = self.csi(std::mem::take(&mut group));
            }
            group.push(row);
        })?;
        result?;
        self.csi(group)?;
        self.flush()
    }

    /// All versions of one CSI.
    fn csi(&mut self, group: Vec<SealedRow>) -> Result<(), BackupError> {
        let opened = group.into_iter().map(|row| open_row(self.sealer, &row).map(|kept| (row, kept)));
        let mut opened = opened.collect::<Result<Vec<_>, _>>()?;
        if let Some(region) = self.region
            && !leave_region(&mut opened, region, &self.log)?
        {
            if let Some((row, _)) = opened.first() {
                self.purges.retain(|p| p.csi_key != row.csi_key);
            }
            self.left_out += 1;
            return Ok(());
        }
        self.waiting.append(&mut opened);
        if self.waiting.len() >= ROWS_PER_COMMIT { self.flush() } else { Ok(()) }
    }

    /// Seals what waits, under one new key for each old one, and writes it with its purges.
    fn flush(&mut self) -> Result<(), BackupError> {
        let mut slots = BTreeMap::new();
        for (row, _) in &self.waiting {
            slots.insert(row.slot, 0);
        }
        let first = self.new_sealer.keys().allocate(slots.len())?;
        slots.values_mut().zip(first..).for_each(|(new, slot)| *new = slot);
        let mut rows = Vec::with_capacity(self.waiting.len());
        for (row, kept) in self.waiting.drain(..) {
            let SealedRow { csi_key, version, size, slot, .. } = row;
            let slot = slots.get(&slot).copied().unwrap_or(slot);
            rows.push(self.new_sealer.seal(Place { csi_key, version, size, slot }, &kept.encode())?);
        }
        let mine = |p: &Purge| rows.iter().any(|r| r.csi_key == p.csi_key);
        let purges: Vec<Purge> = self.purges.extract_if(.., |p| mine(p)).collect();
        Ok(self.new_rows.stage(self.staged, &rows, &purges)?)
    }
}

/// Takes out of a CSI's records what is for other regions; `false` if it must be left out whole.
///
/// The latest is what answers are made of; the one before it is in each receipt; those that a statement made show that it was made before
/// its key retired; those since a claim that is still open will prove that its hold was kept, as records of another tenure do that are
/// still whole; and the first that is left with a mapping whose prover's key has retired must be from before that. What other records of
/// the tenure prove, stubs or later records prove as well.
fn leave_region(opened: &mut [(SealedRow, Kept)], region: &Region, log: &Logged<'_>) -> Result<bool, StoreError> {
    let Some((_, Kept::Whole(latest))) = opened.last() else { return Ok(false) };
    let held = latest.state().held;
    let (version, tenure) = (latest.version, latest.record.tenure);
    let claimed = latest.record.state.claim().map_or(version, |claim| claim.version);
    let stated: Vec<u32> = held.iter().map(|h| h.standing.stated_version).filter(|v| *v != 0).collect();
    let before = version.checked_sub(1).filter(|_| !latest.begins_tenure());
    for (_, kept) in opened.iter_mut() {
        let Kept::Whole(row) = &*kept else { continue };
        if !is_elsewhere(row, region) {
            continue;
        }
        let is_needed = row.version >= claimed || Some(row.version) == before || stated.contains(&row.version);
        if is_needed || row.record.tenure != tenure {
            return Ok(false);
        }
        *kept = Kept::Stub(kept.stub());
    }
    for Held { mapping, .. } in &held {
        let has = |row: &&Row| row.state().held.iter().any(|h| h.mapping == *mapping);
        let whole = opened.iter().filter_map(|(_, kept)| if let Kept::Whole(row) = kept { Some(&**row) } else { None });
        let first = whole.filter(|row| row.record.tenure == tenure).find(has);
        if !first.map_or(Ok(true), |row| log.is_believed(mapping, row))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a record holds a mapping that is to be kept in another region.
fn is_elsewhere(row: &Row, region: &Region) -> bool {
    let elsewhere = |r: &Region| *r != Region::ANY && r != region;
    row.state().held.iter().any(|h| elsewhere(&h.mapping.region))
}

/// The configuration, the documents, what waits to be taken in, and the keys if they are wanted.
fn copy_files(dir: &Path, to: &Path, with_keys: bool) -> Result<(), BackupError> {
    for name in FILES {
        copy_file(&dir.join(name), &to.join(name))?;
    }
    for folder in FOLDERS {
        let from = dir.join(folder);
        for name in listing(&from)? {
            copy_file(&from.join(&name), &to.join(folder).join(&name))?;
        }
    }
    if with_keys { copy_keys(&dir.join(names::KEYS), &to.join(names::KEYS)) } else { Ok(()) }
}

/// Copies a small file, if it is there.
fn copy_file(from: &Path, to: &Path) -> Result<(), BackupError> {
    let Some(bytes) = durable::read(from, FILE_BYTES_MAX).map_err(at(from))? else { return Ok(()) };
    let folder = to.parent().unwrap_or(to);
    durable::write_once(to, &bytes).and_then(|()| durable::sync_folder(folder)).map_err(at(to))
}

/// All that is in the folder of keys, for the owner's eyes alone from the first byte on.
fn copy_keys(from: &Path, to: &Path) -> Result<(), BackupError> {
    durable::private_folder(to).map_err(at(to))?;
    for name in listing(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        if let Some(bytes) = durable::read(&from, FILE_BYTES_MAX).map_err(at(&from))?.map(Zeroizing::new) {
            durable::replace_private(&to, &bytes).map_err(at(&to))?;
        }
    }
    Ok(())
}

/// Names in a folder; none if it is not there.
fn listing(folder: &Path) -> Result<Vec<String>, BackupError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(at(folder)(e)),
    };
    let names = entries.map(|e| e.map(|e| e.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>, _>>().map_err(at(folder))?;
    names.sort_unstable();
    Ok(names)
}

/// The public folder: what is named like a tile, then the checkpoint. Anything else in it is not the log's.
fn copy_log(from: &LogFiles, to: &LogFiles) -> Result<(), BackupError> {
    let mut folders = vec![(String::new(), 0)];
    while let Some((prefix, depth)) = folders.pop() {
        let mut files = Vec::new();
        for name in listing(&from.folder().join(&prefix))? {
            let relative = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let path = from.folder().join(&relative);
            if path.is_dir() && depth < DEPTH_MAX {
                folders.push((relative, depth + 1));
            } else if let Some(tile) = Tile::parse(&relative) {
                let bytes = durable::read(&path, BUNDLE_BYTES_MAX).map_err(at(&path))?;
                files.extend(bytes.map(|bytes| (tile, bytes)));
            }
        }
        to.write(&files)?;
    }
    if let Some(note) = from.checkpoint()? {
        let note = String::from_utf8(note).map_err(|_| StoreError::Damaged("checkpoint".to_owned()))?;
        to.publish(&note)?;
    }
    Ok(())
}

/// A copy that was not read back is none.
fn read_back(settings: &Settings, dir: &Path, rows: &dyn Rows, sealer: &Sealer) -> Result<Contents, BackupError> {
    let (head, files) = (Head::at(&dir.join(names::HEAD)), log_of(dir)?);
    let accepted = Accepted::load(dir, &settings.origin)?;
    let report = fsck(rows, &head, &files, sealer, &settings.origin, settings.signer.vkey(), &accepted)?;
    let mut faults = report.faults;
    faults.extend(missing_policies(&files, report.entries, &Shelf::of(dir))?);
    if let Some(first) = faults.first() {
        return Err(BackupError::Faults { count: faults.len(), first: first.clone() });
    }
    let (size, records, identifiers) = (report.entries, report.records, report.identifiers);
    Ok(Contents { size, records, identifiers, left_out: 0 })
}

/// The files whose checksums the manifest has: the log is hashed into its root by whoever reads it.
fn summed(copy: &Path, store: StoreKind) -> Vec<String> {
    let mut summed = vec![names::HEAD.to_owned(), names::ROW_KEYS.to_owned()];
    // sled keeps a folder, and checksums of its own.
    if store == StoreKind::Redb {
        summed.push(format!("{}.redb", names::ROWS));
    }
    summed.extend(FILES.map(str::to_owned));
    // It is there only where an operator has accepted something.
    summed.retain(|name| name != names::ACCEPTED || copy.join(name).exists());
    summed
}

fn checksum(path: &Path) -> Result<String, BackupError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path).map_err(at(path))?).map_err(at(path))?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn write_manifest(
    settings: &Settings,
    to: &Path,
    wanted: &Wanted,
    contents: Contents,
    now: UnixMillis,
) -> Result<(), BackupError> {
    let sum = |name: String| checksum(&to.join(&name)).map(|sum| (name, sum));
    let manifest = Manifest {
        format: FORMAT,
        origin: settings.origin.as_str().to_owned(),
        time_ms: now.get(),
        size: contents.size,
        region: wanted.region.as_ref().map(|r| r.as_str().to_owned()).unwrap_or_default(),
        left_out: contents.left_out,
        keys: wanted.with_keys,
        blake3: summed(to, settings.store).into_iter().map(sum).collect::<Result<_, _>>()?,
    };
    let path = to.join(MANIFEST);
    let text = toml::to_string(&manifest).map_err(|e| at(&path)(io::Error::other(e.to_string())))?;
    durable::replace(&path, text.as_bytes()).map_err(at(&path))
}

/// Makes a data folder, which is not there yet or empty, from a backup, with its keys or those of another folder.
///
/// # Errors
/// [`BackupError`]; what lies in the folder then must not be run.
pub fn restore(from: &Path, dir: &Path, keys: Option<&Path>) -> Result<Contents, BackupError> {
    let manifest = read_manifest(from)?;
    let keys = match keys {
        Some(keys) => keys.to_owned(),
        None if manifest.keys => from.join(names::KEYS),
        None => return Err(BackupError::NoKeys),
    };
    empty_folder(dir)?;
    copy_files(from, dir, false)?;
    copy_keys(&keys, &dir.join(names::KEYS))?;
    copy_log(&log_of(from)?, &log_of(dir)?)?;
    for name in listing(from)?.iter().filter(|n| *n == names::ROW_KEYS || n.starts_with(names::ROWS)) {
        copy_large(&from.join(name), &dir.join(name), 0)?;
    }
    // Last: without a head there is nothing that could be run.
    copy_file(&from.join(names::HEAD), &dir.join(names::HEAD))?;
    durable::sync_folder(dir).map_err(at(dir))?;
    let settings = Settings::load(dir)?;
    let rows = open_rows(dir, settings.store, false)?;
    let sealer = sealer_of(&settings, RowKeys::open(&dir.join(names::ROW_KEYS))?);
    let contents = read_back(&settings, dir, &*rows, &sealer)?;
    if contents.size != manifest.size || settings.origin.as_str() != manifest.origin {
        let what = "its log is not the one that backup.toml names".to_owned();
        return Err(BackupError::NotABackup { path: from.to_owned(), what });
    }
    Ok(Contents { left_out: manifest.left_out, ..contents })
}

fn read_manifest(from: &Path) -> Result<Manifest, BackupError> {
    let not = |what: String| BackupError::NotABackup { path: from.to_owned(), what };
    let manifest: Manifest = config::load(&from.join(MANIFEST)).map_err(|e| not(e.what))?;
    if manifest.format != FORMAT {
        return Err(not("a form of backup that this program does not read".to_owned()));
    }
    for (name, sum) in &manifest.blake3 {
        // Names come from a file: none may lead out of the folder.
        if name.contains(['/', '\\']) || checksum(&from.join(name))? != *sum {
            return Err(not(format!("{name} has changed since the backup was made")));
        }
    }
    // A file that was not there when the backup was made must not be restored.
    let is_new = |name: &&str| !manifest.blake3.contains_key(*name) && from.join(name).exists();
    match FILES.into_iter().find(is_new) {
        Some(name) => Err(not(format!("{name} was added since the backup was made"))),
        None => Ok(manifest),
    }
}

/// Copies a file, or a folder of files, of any size.
fn copy_large(from: &Path, to: &Path, depth: usize) -> Result<(), BackupError> {
    if from.is_dir() && depth < DEPTH_MAX {
        fs::create_dir(to).map_err(at(to))?;
        for name in listing(from)? {
            copy_large(&from.join(&name), &to.join(&name), depth + 1)?;
        }
        return durable::sync_folder(to).map_err(at(to));
    }
    fs::copy(from, to).map_err(at(from))?;
    File::open(to).and_then(|f| f.sync_all()).map_err(at(to))
}
