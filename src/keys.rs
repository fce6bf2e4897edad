//! Whether the files in `keys/` are the keys of this log. Restored by hand, one is easily put in the place of another; a DP that ran with
//! the wrong one would say that it is ready, and each of its answers would look like an attack.
//!
//! | file | is compared with |
//! |---|---|
//! | `log.key` | the log's line in `policy.txt`; the signature under the head |
//! | `vrf.key` | the open entry, leaf 0 |
//! | `prover.key` | the DP's own keys as a prover, in the log, and entries that wait to be logged |
//! | `store.key` | `store.check`; without it, the records |
//!
//! `store.check` is a key derived from `store.key` for nothing but this: it opens nothing, and says nothing about the key.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use waymark_mapping::{
    entry::{Entry, ProviderRole},
    provider::ProviderDirectory,
};
use waymark_runtime::durable;

use crate::{
    config::{Settings, names},
    onboarding,
    store::{Rows, SealedRow, StoreError, seal::Sealer},
};

/// Records that are tried with `store.key` where there is no check value: one that opens is enough, and one may be damaged.
const TRIED_MAX: usize = 16;
/// 64 hex digits and the end of the line.
const CHECK_BYTES: usize = 65;

/// A key file that is not of this log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongKey {
    /// The file.
    pub file: PathBuf,
    /// What it does not agree with.
    pub against: String,
}

/// Why the keys are not used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Some are wrong.
    #[error("{}Nothing was signed. Put back the files that belong to this log, from the backup of keys/", Listed(.0))]
    Wrong(Vec<WrongKey>),
    /// A store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be read.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

struct Listed<'a>(&'a [WrongKey]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|WrongKey { file, against }| {
            write!(f, "{} is not the key of this log: it does not agree with {against}. ", file.display())
        })
    }
}

/// What `store.check` holds for a store key.
fn check_of(store_key: &[u8; 32]) -> String {
    format!("{}\n", HEXLOWER.encode(&blake3::derive_key("waymark 2026 store check", store_key)))
}

/// Writes the check value of a store key.
///
/// # Errors
/// The operation that failed.
pub fn keep_check(dir: &Path, store_key: &[u8; 32]) -> io::Result<()> {
    durable::replace_private(&dir.join(names::STORE_CHECK), check_of(store_key).as_bytes())
}

/// Checks the keys against the log: its open entry, its directory, its records.
///
/// # Errors
/// [`KeysError`], with all files that are wrong.
pub fn check(
    settings: &Settings,
    open: &[u8],
    providers: &ProviderDirectory,
    rows: &dyn Rows,
    sealer: &Sealer,
) -> Result<(), KeysError> {
    let mut wrong = Vec::new();
    let mut add = |name: &str, against: String| {
        wrong.push(WrongKey { file: settings.dir.join(names::KEYS).join(name), against });
    };
    let named = match Entry::decode(open) {
        Ok(Entry::Open(open)) => Some(open.vrf),
        _ => None,
    };
    if named != Some(settings.vrf.public()) {
        add("vrf.key", "the VRF key in the open entry of the log (leaf 0)".to_owned());
    }
    if !is_own_prover(settings, providers)? {
        let domain = &settings.domain;
        add("prover.key", format!("the keys that the log holds for {domain} as a prover (GET /v1/providers)"));
    }
    if let Some(against) = store_key_is_wrong(settings, rows, sealer)? {
        add("store.key", against);
    }
    if wrong.is_empty() { Ok(()) } else { Err(KeysError::Wrong(wrong)) }
}

/// Whether the DP's prover key is in the log, current or retired; or the log has no key of the DP; or an entry waits that brings it in.
fn is_own_prover(settings: &Settings, providers: &ProviderDirectory) -> Result<bool, KeysError> {
    let Some(leaf) = providers.get(&settings.domain, ProviderRole::PROVER) else { return Ok(true) };
    if leaf.find(&settings.prover.public()).is_some() {
        return Ok(true);
    }
    let path = settings.dir.join(names::PROVIDERS);
    onboarding::awaits(&settings.dir, &settings.domain, ProviderRole::PROVER, &settings.prover)
        .map_err(|error| KeysError::Io { path, error })
}

/// What the store key does not agree with, if it is wrong.
fn store_key_is_wrong(settings: &Settings, rows: &dyn Rows, sealer: &Sealer) -> Result<Option<String>, KeysError> {
    let path = settings.dir.join(names::STORE_CHECK);
    let kept = durable::read(&path, CHECK_BYTES).map_err(|error| KeysError::Io { path: path.clone(), error })?;
    if let Some(kept) = kept {
        let is_right = kept == check_of(&settings.store_key).as_bytes();
        return Ok((!is_right).then(|| format!("{}, which was written with it", path.display())));
    }
    let mut tried: Vec<SealedRow> = Vec::new();
    rows.for_each(&mut |row| {
        if tried.len() < TRIED_MAX {
            tried.push(row);
        }
    })?;
    let opened: Vec<_> = tried.iter().map(|row| sealer.open(row)).collect();
    let is_tried = opened.iter().any(|o| matches!(o, Err(StoreError::Damaged(_))));
    let is_right = opened.iter().any(Result::is_ok);
    Ok((is_tried && !is_right).then(|| format!("the records: none of the {} that were tried opens", tried.len())))
}
