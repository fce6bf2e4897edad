//! Taking in providers: whoever runs the DP puts a signed provider entry into a folder; the DP logs it with the next batch.
//!
//! `providers/incoming/<name>.provider` holds the entry (kind 3, as it will be logged). It moves to `accepted` or `refused`.
//! An entry is judged by the rules of [`waymark_mapping::provider`]; that a domain is its owner's is for the operator to
//! know before putting the file there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use waymark_log::hash::Hash;
use waymark_mapping::{
    entry::{Entry, Provider},
    wire::Undecoded,
};
use waymark_runtime::durable;

use crate::{config::names, sequencer::pool::Pool};

/// Most bytes in a provider entry: a domain, a digest, and a key and two signatures of the longest algorithm that the format has room for
/// (8 KiB each). With Ed25519 it is some 500 bytes, with ML-DSA-44 6,500.
pub const PROVIDER_BYTES_MAX: usize = 32 << 10;
/// Most entries taken in at a time.
const INCOMING_MAX: usize = 64;

fn folder(dir: &Path, which: &str) -> PathBuf {
    dir.join(names::PROVIDERS).join(which)
}

/// Puts an entry into the folder of a DP, running or not.
///
/// # Errors
/// If it could not be written.
pub fn submit(dir: &Path, provider: &Provider) -> io::Result<()> {
    let bytes = Entry::Provider(provider.clone()).encode();
    let incoming = folder(dir, "incoming");
    fs::create_dir_all(&incoming)?;
    let name = format!("{}-{}.provider", provider.domain, &Hash::sha256(&[&bytes]).to_hex()[..16]);
    durable::replace(&incoming.join(name), &bytes)
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

/// Takes in what lies in the folder.
///
/// # Errors
/// If the folders cannot be read or written.
pub fn take_in(dir: &Path, pool: &Pool) -> io::Result<usize> {
    let incoming = folder(dir, "incoming");
    let listing = match fs::read_dir(&incoming) {
        Ok(listing) => listing,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let mut taken = 0;
    for file in listing.take(INCOMING_MAX) {
        let path = file?.path();
        if path.extension().is_none_or(|e| e != "provider") {
            continue;
        }
        let bytes = durable::read(&path, PROVIDER_BYTES_MAX)?.unwrap_or_default();
        let outcome =
            parse(&bytes).map_err(|e| e.to_string()).and_then(|p| pool.add_provider(p).map_err(|e| e.to_string()));
        let to = match outcome {
            Ok(()) => "accepted",
            Err(why) => {
                tracing::warn!(file = %path.display(), why, "a provider entry is refused");
                "refused"
            }
        };
        let target = folder(dir, to);
        fs::create_dir_all(&target)?;
        if let Some(name) = path.file_name() {
            fs::rename(&path, target.join(name))?;
        }
        taken += 1;
    }
    Ok(taken)
}
