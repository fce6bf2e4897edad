//! A new key for a witness that has dated the future.
//!
//! A witness that was started with a clock that was ahead has cosigned with dates that have not come yet, and no date
//! goes down: its logs would wait until then. It cannot take these cosignatures back, so the key that made them is
//! retired, and a new one cosigns from now on. **The trees stay**: the new key begins with what the old one has
//! cosigned last of each log, so that no log can show another tree to it.
//!
//! ```text
//! witness.key.next          a new key, first of all
//! witness.redb              every checkpoint cosigned by it, in one commit
//! witness.key.retired-<ID>  the old key, a copy
//! witness.key               the new key, by renaming
//! ```
//!
//! It may break off anywhere: the witness then does not start until the next run. Before the commit the new key has done
//! nothing: the next run takes it away, asks again, and begins anew if there is still need. After it the state is the
//! new key's: the next run goes on with it and asks nothing. The database is held from the beginning to the end, so
//! neither a witness nor a second reset runs meanwhile.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use waymark_log::{
    cosignature::Cosigner,
    key::SecretKey,
    note::Vkey,
    time::{UnixMillis, UnixSeconds},
};
use waymark_runtime::{
    durable,
    keyfile::{self, KeyFileError},
};

use crate::{
    Settings,
    config::{self, KEY_FILE, NEXT_KEY_FILE, STATE_FILE, SetupError},
    state::{StateError, Stopped},
};

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// The directory.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The state, which a running witness holds locked.
    #[error("{0}. If the witness is running, stop it first")]
    State(#[from] StateError),
    /// There is no need.
    #[error("no cosignature is dated after this machine's clock: the key stays. If the clock is behind, set it right")]
    NotAhead,
    /// Whether the clock is right, only a person can tell.
    #[error(
        "the newest cosignature is dated {ahead_s} s after this machine's clock. If the clock is wrong now, set it \
         right: nothing else is needed. If it is right, run this again with --clock-is-right: this witness then gets a new \
         key, and every log that asks for it and everybody who trusts it must be told"
    )]
    NotConfirmed {
        /// By how many seconds.
        ahead_s: u64,
    },
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

/// The keys of a witness before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// The key that dated the future. Nobody should trust it any more.
    pub retired: Vkey,
    /// The key from now on.
    pub vkey: Vkey,
}

/// Gives the witness in `dir` a new key, if it has dated the future; or ends what a run before this one has begun.
///
/// `now` is the time by a clock that somebody has looked at and found right, if `clock_is_right`.
///
/// # Errors
/// [`ResetError`].
pub fn reset_clock(dir: &Path, now: UnixMillis, clock_is_right: bool) -> Result<Reset, ResetError> {
    let state = Stopped::open(&dir.join(STATE_FILE))?;
    let Settings { name, secret, .. } = config::load_unchecked(dir)?;
    let (now, next) = (now.floor_seconds(), dir.join(NEXT_KEY_FILE));
    let retired = Cosigner::new(name.clone(), secret).vkey().clone();
    let seed = match state.newest_by(&retired) {
        Ok(newest) => {
            // Of a run that broke off, perhaps while it wrote this file.
            remove(&next)?;
            check_ahead(newest, now, clock_is_right)?;
            keyfile::create(&next)?
        }
        // It may be the next key's already.
        Err(_) if next.try_exists().map_err(at(&next))? => keyfile::load(&next)?,
        Err(error) => return Err(error.into()),
    };
    let cosigner = Cosigner::new(name, SecretKey::from_seed(&seed));
    state.hand_over(&retired, &cosigner, now)?;
    exchange(dir, &retired)?;
    Ok(Reset { retired, vkey: cosigner.vkey().clone() })
}

fn check_ahead(newest: UnixSeconds, now: UnixSeconds, clock_is_right: bool) -> Result<(), ResetError> {
    match newest.since(now) {
        0 => Err(ResetError::NotAhead),
        ahead_s if !clock_is_right => Err(ResetError::NotConfirmed { ahead_s }),
        _ => Ok(()),
    }
}

/// Takes a file away, if it is there. Should it come back when the power goes, the next run takes it away again.
fn remove(path: &Path) -> Result<(), ResetError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// Keeps the old key under another name and puts the new one in its place. There is a key at every moment.
fn exchange(dir: &Path, retired: &Vkey) -> Result<(), ResetError> {
    let key = dir.join(KEY_FILE);
    let id = retired.to_string().split('+').nth(1).unwrap_or_default().to_owned();
    // A run before this one may have come as far as here: the copy is then the same once more.
    keyfile::copy(&key, &dir.join(format!("{KEY_FILE}.retired-{id}")))?;
    fs::rename(dir.join(NEXT_KEY_FILE), &key).and_then(|()| durable::sync_folder(dir)).map_err(at(&key))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ResetError {
    let path = path.to_owned();
    |error| ResetError::Io { path, error }
}
