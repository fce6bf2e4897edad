//! Who has completed a challenge before: what decides whether somebody returns when codes are short ([`super::budget`]).
//!
//! ```text
//! returning, returning.old    digest[16]*      the first half of a BLAKE3 keyed hash of (recipient key, CSI)
//! ```
//!
//! Only the holder of the recipient key can ask about a digest, and nobody can test a CSI against the file, the DP included:
//! a recipient key is 32 random bytes and appears nowhere else once its record is gone. A look-up takes the same time whether
//! the CSI is known or not.
//!
//! The file is a convenience: where it is lost, everybody is new once more. So it is appended to without fsync, and
//! what the disk refuses is logged and stays in memory. It is opened for each digest, a few a minute: so it goes on
//! when there is room again, and the torn end that a full disk leaves is cut off.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

use waymark_log::key::Key;
use waymark_mapping::identifier::Csi;
use waymark_runtime::durable;

use super::mailbox;

/// Bytes of a digest.
const DIGEST_BYTES: usize = 16;
/// Most digests in each of the two files: 8 MiB on disk, some 16 in memory. When the newer is full, the older goes.
pub const DIGESTS_MAX: usize = 1 << 19;

/// Stands for a key and a CSI.
pub type Digest = [u8; DIGEST_BYTES];

/// Those who have completed a challenge here.
pub struct Returning {
    hash_key: [u8; 32],
    digests_max: usize,
    path: PathBuf,
    newer: HashSet<Digest>,
    older: HashSet<Digest>,
}

impl Returning {
    /// Reads what is kept in a folder. `seed` is the secret that the digests are keyed with.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub fn open(folder: &Path, seed: &[u8; 32]) -> io::Result<Self> {
        Self::with_most(folder, seed, DIGESTS_MAX)
    }

    fn with_most(folder: &Path, seed: &[u8; 32], digests_max: usize) -> io::Result<Self> {
        let path = folder.join("returning");
        let (newer, older) = (read(&path, digests_max)?, read(&path.with_extension("old"), digests_max)?);
        let hash_key = blake3::derive_key("waymark 2026 returning keys", seed);
        Ok(Self { hash_key, digests_max, path, newer, older })
    }

    /// Stands for a CSI, in whatever spelling ([`mailbox`]).
    pub fn digest_csi(&self, csi: &Csi) -> Digest {
        self.digest(b"csi", &[mailbox::of(csi).as_bytes()])
    }

    /// Stands for a CSI in this spelling alone.
    pub fn digest_exact(&self, csi: &Csi) -> Digest {
        self.digest(b"own", &[csi.expose().as_bytes()])
    }

    /// Stands for a key and a CSI.
    pub fn digest_key(&self, key: &Key, csi: &Csi) -> Digest {
        self.digest(b"key", &[key.as_bytes(), csi.expose().as_bytes()])
    }

    fn digest(&self, what: &[u8; 3], parts: &[&[u8]]) -> Digest {
        let mut hasher = blake3::Hasher::new_keyed(&self.hash_key);
        hasher.update(what);
        for part in parts {
            hasher.update(part);
        }
        let mut digest = [0; DIGEST_BYTES];
        hasher.finalize_xof().fill(&mut digest);
        digest
    }

    /// Whether somebody has completed a challenge before.
    pub fn contains(&self, digest: &Digest) -> bool {
        // Both, always: the one that is found sooner is no faster.
        self.newer.contains(digest) | self.older.contains(digest)
    }

    /// Keeps somebody who has completed a challenge.
    pub fn insert(&mut self, digest: Digest) {
        if self.newer.contains(&digest) {
            return;
        }
        if self.newer.len() >= self.digests_max {
            self.turn_over();
        }
        self.newer.insert(digest);
        if let Err(error) = append(&self.path, &digest) {
            tracing::warn!(%error, "somebody who returns is known until the program ends and no longer");
        }
    }

    /// The newer file becomes the older one, whose digests are forgotten.
    fn turn_over(&mut self) {
        self.older = std::mem::take(&mut self.newer);
        if let Err(error) = std::fs::rename(&self.path, self.path.with_extension("old")) {
            tracing::warn!(%error, "those who return are known until the program ends and no longer");
        }
    }
}

fn append(path: &Path, digest: &Digest) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    // Cut after the last whole digest: the next must not begin in the middle of one.
    let bytes = file.metadata()?.len();
    if bytes % DIGEST_BYTES as u64 != 0 {
        file.set_len(bytes / DIGEST_BYTES as u64 * DIGEST_BYTES as u64)?;
    }
    file.write_all(digest)
}

fn read(path: &Path, digests_max: usize) -> io::Result<HashSet<Digest>> {
    let bytes = durable::read(path, (digests_max + 1) * DIGEST_BYTES)?.unwrap_or_default();
    Ok(bytes.chunks_exact(DIGEST_BYTES).filter_map(|d| d.try_into().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_here_is_known_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Returning::open(folder.path(), &[1; 32]).unwrap();
        let csi = Csi::parse("tel:+4915112345642").unwrap();
        let bob = open().digest_key(&waymark_log::key::SecretKey::from_seed(&[2; 32]).public(), &csi);
        let mut returning = open();
        assert!(!returning.contains(&bob));
        returning.insert(bob);
        returning.insert(bob);
        assert!(open().contains(&bob));
        // A torn end costs the digest that it belongs to and no other.
        let path = folder.path().join("returning");
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), DIGEST_BYTES);
        std::fs::write(&path, [&whole[..], &[7; 5]].concat()).unwrap();
        let mut returning = open();
        returning.insert([9; DIGEST_BYTES]);
        assert!(open().contains(&bob) && open().contains(&[9; DIGEST_BYTES]));
        // Another secret, other digests.
        let other = Returning::open(folder.path(), &[3; 32]).unwrap();
        assert_ne!(open().digest_csi(&csi), other.digest_csi(&csi));
    }

    #[test]
    fn the_oldest_half_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Returning::with_most(folder.path(), &[1; 32], 3).unwrap();
        let mut returning = open();
        let digest = |i: u8| [i; DIGEST_BYTES];
        (0..8).for_each(|i| returning.insert(digest(i)));
        for kept in [returning, open()] {
            assert!((3..8).all(|i| kept.contains(&digest(i))));
            assert!((0..3).all(|i| !kept.contains(&digest(i))));
        }
    }
}
