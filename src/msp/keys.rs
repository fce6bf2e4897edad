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
    signed::AnyKey,
    wire::Optional24,
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
    /// The entry is about another domain.
    #[error("the entry is about another domain than ours")]
    OtherDomain,
    /// The key is of an algorithm that this program does not know.
    #[error("the key that waits is of an algorithm that this program does not know")]
    OtherAlgorithm,
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
    let leaf = dp.leaf(ProviderRole::MSP).await?.ok_or(KeysError::Unknown)?;
    if leaf.find(&next.public()).is_none() {
        let mut entry = entry_of(&leaf, ProviderAction::Rotate, next.public())?;
        entry.sign_by_key(dp.origin(), &next);
        if lost {
            let path = dir.join(format!("{}.provider", dp.domain()));
            durable::replace(&path, &Entry::Provider(entry).encode())?;
            return Ok(Rotation::ForOperator(path));
        }
        sign_by_valid(dir, dp, &mut entry).await?;
        dp.submit(&entry).await?;
    }
    let listed = wait(dp, ProviderRole::MSP, |leaf| leaf?.find(&next.public()).cloned()).await?;
    if !listed.is_valid_at(dp.now()) {
        return Ok(Rotation::Due(next.public(), listed.due));
    }
    install(dir)?;
    Ok(Rotation::Done(next.public()))
}

/// Ends a key, the one in use unless another is named. From the next head on, consents under it count for nothing.
///
/// # Errors
/// [`KeysError`].
pub async fn retire(dir: &Path, dp: &ProviderClient, key: Option<Key>) -> Result<Key, KeysError> {
    let key = match key {
        Some(key) => key,
        None => SecretKey::from_seed(&*keyfile::load(&dir.join(KEY))?).public(),
    };
    end(dir, dp, ProviderRole::MSP, key).await
}

/// Retires a key in a role, or cancels it if it waits.
async fn end(dir: &Path, dp: &ProviderClient, role: ProviderRole, key: Key) -> Result<Key, KeysError> {
    let leaf = dp.leaf(role).await?.ok_or(KeysError::Unknown)?;
    let mut entry = entry_of(&leaf, ProviderAction::Retire, key)?;
    sign_by_valid(dir, dp, &mut entry).await?;
    dp.submit(&entry).await?;
    let over = |leaf: Option<&ProviderLeaf>| match leaf.and_then(|l| l.find(&key)) {
        Some(key) => key.has_retired_at(dp.now()).then_some(()),
        None => Some(()),
    };
    wait(dp, role, over).await?;
    Ok(key)
}

/// Answers with the key in use for an entry of our domain, so that its key need not wait: the first one in another role, or another one
/// of the MSP.
///
/// # Errors
/// [`KeysError`].
pub async fn vouch(dir: &Path, dp: &ProviderClient, mut entry: Provider) -> Result<ProviderKey, KeysError> {
    if entry.domain != *dp.domain() {
        return Err(KeysError::OtherDomain);
    }
    sign_by_valid(dir, dp, &mut entry).await?;
    dp.submit(&entry).await?;
    let listed = |leaf: Option<&ProviderLeaf>| leaf?.keys.iter().find(|k| k.key == entry.key).cloned();
    wait(dp, entry.role, listed).await
}

/// Cancels a key that waits for its seven days to end: somebody without our key has had it logged. In another role than the MSP's that
/// can be done as long as none is valid in it.
///
/// # Errors
/// [`KeysError`].
pub async fn cancel(dir: &Path, dp: &ProviderClient, role: ProviderRole, key: Option<Key>) -> Result<Key, KeysError> {
    let leaf = dp.leaf(role).await?.ok_or(KeysError::Pending(0))?;
    let now = dp.now();
    let pending = |k: &&ProviderKey| now < k.due && key.is_none_or(|key| k.key == key);
    let pending: Vec<&AnyKey> = leaf.keys.iter().filter(pending).map(|k| &k.key).collect();
    match pending[..] {
        [one] => end(dir, dp, role, one.ed25519().ok_or(KeysError::OtherAlgorithm)?).await,
        _ => Err(KeysError::Pending(pending.len())),
    }
}

/// An entry about a key that follows from the keys as they are. What it says of the provider stays as the newest key has it.
fn entry_of(leaf: &ProviderLeaf, action: ProviderAction, key: Key) -> Result<Provider, KeysError> {
    let newest = leaf.keys.last().ok_or(KeysError::Unknown)?;
    Ok(Provider {
        role: leaf.role,
        action,
        domain: leaf.domain.clone(),
        class: newest.class,
        publishes: newest.publishes,
        key: key.into(),
        previous_leaf: leaf.digest(),
        by_key: Optional24(None),
        by_valid: Optional24(None),
    })
}

async fn sign_by_valid(dir: &Path, dp: &ProviderClient, entry: &mut Provider) -> Result<(), KeysError> {
    let leaf = dp.leaf(ProviderRole::MSP).await?.ok_or(KeysError::Unknown)?;
    let secret = SecretKey::from_seed(&*keyfile::load(&dir.join(KEY))?);
    if !leaf.is_valid(&secret.public(), dp.now()) {
        return Err(KeysError::NotValid);
    }
    entry.sign_by_valid(dp.origin(), &secret);
    Ok(())
}

/// Waits until the directory shows something of our keys in a role.
async fn wait<T>(
    dp: &ProviderClient,
    role: ProviderRole,
    shows: impl Fn(Option<&ProviderLeaf>) -> Option<T>,
) -> Result<T, KeysError> {
    for _ in 0..LISTED_S_MAX * 1000 / LOOK_MS {
        let leaf = dp.leaf(role).await?;
        if let Some(shown) = shows(leaf.as_ref()) {
            return Ok(shown);
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
    Err(KeysError::NotListed)
}

/// The keys in an adapter's folder: the one in use, the next one, and those that were in use before. Files that cannot be read
/// are left out: a key that is not known to be its own is reported.
pub fn own(dir: &Path) -> Vec<Key> {
    let is_own = |name: &str| [KEY, NEXT].contains(&name) || (name.starts_with("retired-") && name.ends_with(".key"));
    let files = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let paths = files.filter(|f| f.file_name().to_str().is_some_and(is_own)).map(|f| f.path());
    paths.filter_map(|path| keyfile::load(&path).ok()).map(|seed| SecretKey::from_seed(&seed).public()).collect()
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
        keyfile::copy(&current, &dir.join(format!("retired-{}.key", &name[..8])))?;
    }
    fs::rename(&next, &current)?;
    Ok(durable::sync_folder(dir)?)
}
