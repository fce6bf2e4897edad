//! The life of an MSP's key: the next one, the end of one, and what to do when one is lost.
//!
//! | file in the adapter's folder | |
//! |---|---|
//! | msp.key | signs consents and requests |
//! | next.key | waits until the directory holds it; then it takes the place of msp.key |
//! | retired-<first 8 hex digits of the key>.key | was msp.key; the adapter does not read it |
//!
//! Every step looks first at what the directory holds, so a command that was cut off is run again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use waymark_log::{
    hash::Hash,
    key::{Key, SecretKey},
    time::UnixMillis,
};
use waymark_mapping::{
    entry::{Entry, Provider, ProviderAction, ProviderRole},
    provider::{ProviderKey, ProviderLeaf},
    signed::UNSIGNED,
    wire::Opaque8,
};
use waymark_runtime::{
    durable,
    keyfile::{self, KeyFileError},
};

use crate::client::{ClientError, provider::ProviderClient};

/// Name of the file with the key in use.
pub const KEY: &str = "msp.key";
/// Name of the file with the key to come.
const NEXT: &str = "next.key";
/// How often the directory is looked at while an entry is on its way.
const LOOK_MS: u64 = 200;
/// Longest that an entry may be on its way: a minute, in which a DP makes at least two heads.
const LISTED_S_MAX: u64 = 60;

/// Why a key could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The directory.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Another file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The directory holds no key of this domain.
    #[error("the directory holds no MSP key of this domain: give it the first entry")]
    Unknown,
    /// The key in use counts for nothing.
    #[error("msp.key is not valid in the directory now: with --lost the next key is due after seven days")]
    NotValid,
    /// Not exactly one key waits.
    #[error("{0} keys wait in the directory: say which is meant")]
    Pending(usize),
    /// It was handed in and does not show.
    #[error("the entry was handed in and is not in the directory yet: run the command again")]
    NotListed,
}

/// How far a rotation has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The new key is in place.
    Done(Key),
    /// The directory holds the new key, which counts from this time on.
    Due(Key, UnixMillis),
    /// The entry is in this file, for the DP's operator.
    ForOperator(PathBuf),
}

/// Goes on with a rotation, or begins one. `lost` is without the old key: the entry is then the operator's to take in, and
/// the new key waits seven days, in which the old one could cancel it.
///
/// # Errors
/// [`KeysError`]; run it again.
pub async fn rotate(dir: &Path, dp: &ProviderClient, lost: bool) -> Result<Rotation, KeysError> {
    let path = dir.join(NEXT);
    let seed = if path.exists() { keyfile::load(&path)? } else { keyfile::create(&path)? };
    let next = SecretKey::from_seed(&seed);
    let leaf = dp.leaf().await?.ok_or(KeysError::Unknown)?;
    if find(&leaf, &next.public()).is_none() {
        let mut entry = entry_of(&leaf, ProviderAction::Rotate, next.public())?;
        entry.by_key = next.sign(&entry.key_message(dp.origin()));
        if lost {
            let path = dir.join(format!("{}.provider", dp.domain()));
            durable::replace(&path, &Entry::Provider(entry).encode())?;
            return Ok(Rotation::ForOperator(path));
        }
        sign_by_valid(dir, dp, &leaf, &mut entry)?;
        dp.submit(&entry).await?;
    }
    let listed = wait(dp, |leaf| find(leaf, &next.public()).copied()).await?;
    if !listed.is_valid_at(dp.now()) {
        return Ok(Rotation::Due(listed.key, listed.due));
    }
    install(dir)?;
    Ok(Rotation::Done(listed.key))
}

/// Ends a key, the one in use unless another is named. From the next head on, consents under it count for nothing.
///
/// # Errors
/// [`KeysError`].
pub async fn retire(dir: &Path, dp: &ProviderClient, key: Option<Key>) -> Result<Key, KeysError> {
    let leaf = dp.leaf().await?.ok_or(KeysError::Unknown)?;
    let key = match key {
        Some(key) => key,
        None => SecretKey::from_seed(&*keyfile::load(&dir.join(KEY))?).public(),
    };
    let mut entry = entry_of(&leaf, ProviderAction::Retire, key)?;
    sign_by_valid(dir, dp, &leaf, &mut entry)?;
    dp.submit(&entry).await?;
    let over = |leaf: &ProviderLeaf| match find(leaf, &key) {
        Some(key) => (key.retired.get() != 0 && key.retired <= dp.now()).then_some(()),
        None => Some(()),
    };
    wait(dp, over).await?;
    Ok(key)
}

/// Cancels a key that waits for its seven days to end: somebody without our key has had it logged.
///
/// # Errors
/// [`KeysError`].
pub async fn cancel(dir: &Path, dp: &ProviderClient, key: Option<Key>) -> Result<Key, KeysError> {
    let leaf = dp.leaf().await?.ok_or(KeysError::Unknown)?;
    let now = dp.now();
    let pending = |k: &&ProviderKey| now < k.due && key.is_none_or(|key| k.key == key);
    let pending: Vec<Key> = leaf.keys.iter().filter(pending).map(|k| k.key).collect();
    match pending[..] {
        [one] => retire(dir, dp, Some(one)).await,
        _ => Err(KeysError::Pending(pending.len())),
    }
}

fn find<'a>(leaf: &'a ProviderLeaf, key: &Key) -> Option<&'a ProviderKey> {
    leaf.keys.iter().find(|k| k.key == *key)
}

/// An entry about a key that follows from the keys as they are. What it says of the provider stays as the newest key has it.
fn entry_of(leaf: &ProviderLeaf, action: ProviderAction, key: Key) -> Result<Provider, KeysError> {
    let newest = leaf.keys.iter().rev().find(|k| k.role == ProviderRole::MSP).ok_or(KeysError::Unknown)?;
    Ok(Provider {
        role: ProviderRole::MSP,
        action,
        domain: leaf.domain.clone(),
        class: newest.class,
        publishes: newest.publishes,
        key,
        previous_leaf: leaf.digest(),
        by_key: UNSIGNED,
        by_valid: Opaque8::new([]).expect("no bytes are allowed"),
    })
}

fn sign_by_valid(dir: &Path, dp: &ProviderClient, leaf: &ProviderLeaf, entry: &mut Provider) -> Result<(), KeysError> {
    let secret = SecretKey::from_seed(&*keyfile::load(&dir.join(KEY))?);
    if !find(leaf, &secret.public()).is_some_and(|k| k.is_valid_at(dp.now())) {
        return Err(KeysError::NotValid);
    }
    let signature = secret.sign(&entry.valid_message(dp.origin()));
    entry.by_valid = Opaque8::new(*signature.as_bytes()).expect("64 bytes are allowed");
    Ok(())
}

/// Waits until the directory shows something.
async fn wait<T>(dp: &ProviderClient, shows: impl Fn(&ProviderLeaf) -> Option<T>) -> Result<T, KeysError> {
    for _ in 0..LISTED_S_MAX * 1000 / LOOK_MS {
        let leaf = dp.leaf().await?;
        if let Some(shown) = leaf.as_ref().and_then(&shows) {
            return Ok(shown);
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
    Err(KeysError::NotListed)
}

/// Puts next.key in the place of msp.key, which is kept under another name. There is a key in msp.key at any time.
fn install(dir: &Path) -> Result<(), KeysError> {
    let (current, next) = (dir.join(KEY), dir.join(NEXT));
    if current.exists() {
        let name = match keyfile::load(&current) {
            Ok(seed) => SecretKey::from_seed(&seed).public().to_hex(),
            // A lost key may be lost by its file's being damaged.
            Err(_) => Hash::sha256(&[&fs::read(&current)?]).to_hex(),
        };
        match fs::hard_link(&current, dir.join(format!("retired-{}.key", &name[..8]))) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e.into()),
            _ => {}
        }
    }
    fs::rename(&next, &current)?;
    Ok(durable::sync_folder(dir)?)
}
