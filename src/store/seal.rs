//! Rows at rest: nobody who has the data folder without the store key can say whose a row is or what it holds.
//!
//! ```text
//! csi_key    BLAKE3 keyed hash of the canonical CSI, key derived from store.key
//! row key    BLAKE3 keyed hash of the slot's key ([`super::keys`]), key derived from store.key
//! sealed     nonce[24] | XChaCha20-Poly1305(row), under the row key, associated data csi_key | version | size | slot
//! ```
//!
//! What this protects is a stolen disk or backup without keys/store.key; a running DP has the key. What was sealed under a slot
//! that is shredded nobody opens any more, whatever keys they have.

use std::sync::Arc;

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use waymark_mapping::identifier::Csi;
use waymark_runtime::random;
use zeroize::Zeroizing;

use super::{RowKeys, SealedRow, StoreError};

/// Seals and opens rows.
pub struct Sealer {
    index_key: Zeroizing<[u8; 32]>,
    sealing_key: Zeroizing<[u8; 32]>,
    keys: Arc<RowKeys>,
}

/// Where a row lies: its CSI's key, its version, the size of the log at its head, the slot of its row key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Keyed hash of the CSI.
    pub csi_key: [u8; 32],
    /// The version.
    pub version: u32,
    /// Size of the log at the head that made it.
    pub size: u64,
    /// The slot of its key.
    pub slot: u64,
}

impl Sealer {
    /// From the seed in store.key and the file of row keys.
    pub fn new(seed: &[u8; 32], keys: Arc<RowKeys>) -> Self {
        let derive = |context| Zeroizing::new(blake3::derive_key(context, seed));
        let (index_key, sealing_key) = (derive("waymark 2026 row index"), derive("waymark 2026 row sealing"));
        Self { index_key, sealing_key, keys }
    }

    /// The row keys.
    pub fn keys(&self) -> &RowKeys {
        &self.keys
    }

    /// Where the rows of a CSI lie.
    pub fn csi_key(&self, csi: &Csi) -> [u8; 32] {
        *blake3::keyed_hash(&self.index_key, csi.expose().as_bytes()).as_bytes()
    }

    fn cipher(&self, slot: u64) -> Result<XChaCha20Poly1305, StoreError> {
        let key = self.keys.get(slot)?.ok_or(StoreError::Shredded)?;
        let key = Zeroizing::new(*blake3::keyed_hash(&self.sealing_key, &*key).as_bytes());
        Ok(XChaCha20Poly1305::new((&*key).into()))
    }

    /// Seals a row.
    ///
    /// # Errors
    /// [`StoreError`] if there is no key in the slot.
    ///
    /// # Panics
    /// If the row is larger than the cipher's limit of 256 GiB.
    pub fn seal(&self, place: Place, row: &[u8]) -> Result<SealedRow, StoreError> {
        let nonce = random::bytes::<24>();
        let Place { csi_key, version, size, slot } = place;
        let aad = associated(&place);
        let payload = Payload { msg: row, aad: &aad };
        let sealed = self.cipher(slot)?.encrypt(&XNonce::from(nonce), payload).expect("a row is smaller than 256 GiB");
        Ok(SealedRow { csi_key, version, size, slot, sealed: [&nonce[..], &sealed].concat() })
    }

    /// Opens a row.
    ///
    /// # Errors
    /// [`StoreError::Shredded`] if its key is gone; [`StoreError::Damaged`] if it was altered, moved or sealed with another key.
    pub fn open(&self, row: &SealedRow) -> Result<Vec<u8>, StoreError> {
        let damaged = || StoreError::Damaged("a sealed row".to_owned());
        let (nonce, sealed) = row.sealed.split_first_chunk::<24>().ok_or_else(damaged)?;
        let SealedRow { csi_key, version, size, slot, .. } = *row;
        let aad = associated(&Place { csi_key, version, size, slot });
        self.cipher(slot)?.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad }).map_err(|_| damaged())
    }
}

fn associated(place: &Place) -> Vec<u8> {
    let Place { csi_key, version, size, slot } = place;
    [&csi_key[..], &version.to_be_bytes(), &size.to_be_bytes(), &slot.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_rows_open_in_their_place_only() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(RowKeys::create(&folder.path().join("keys")).unwrap());
        keys.allocate(2).unwrap();
        let sealer = Sealer::new(&[1; 32], Arc::clone(&keys));
        let csi = Csi::parse("tel:+4915112345642").unwrap();
        let place = Place { csi_key: sealer.csi_key(&csi), version: 3, size: 99, slot: 1 };
        let row = sealer.seal(place, b"the record of +4915112345642").unwrap();
        assert!(!row.sealed.windows(6).any(|w| w == b"491511"));
        assert_eq!(sealer.open(&row).unwrap(), b"the record of +4915112345642");
        assert!(sealer.open(&SealedRow { version: 4, ..row.clone() }).is_err());
        assert!(sealer.open(&SealedRow { size: 98, ..row.clone() }).is_err());
        assert!(sealer.open(&SealedRow { slot: 0, ..row.clone() }).is_err());
        assert!(sealer.open(&SealedRow { csi_key: [0; 32], ..row.clone() }).is_err());
        assert!(Sealer::new(&[2; 32], Arc::clone(&keys)).open(&row).is_err());
        let mut bent = row.clone();
        *bent.sealed.last_mut().unwrap() ^= 1;
        assert!(sealer.open(&bent).is_err());
        keys.shred(&[1]).unwrap();
        assert!(matches!(sealer.open(&row), Err(StoreError::Shredded)));
        assert!(matches!(sealer.seal(place, b""), Err(StoreError::Shredded)));
    }
}
