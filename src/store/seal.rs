//! Rows at rest: nobody who has the data folder without the store key can say whose a row is or what it holds.
//!
//! ```text
//! csi_key    BLAKE3 keyed hash of the canonical CSI, key derived from store.key
//! sealed     nonce[24] | XChaCha20-Poly1305(row), associated data csi_key | version | size
//! ```
//!
//! What this protects is a stolen disk or backup without keys/store.key, no more: a running DP has the key.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use waymark_mapping::identifier::Csi;
use waymark_runtime::random;
use zeroize::Zeroizing;

use super::{SealedRow, StoreError};

/// Seals and opens rows.
pub struct Sealer {
    index_key: Zeroizing<[u8; 32]>,
    cipher: XChaCha20Poly1305,
}

impl Sealer {
    /// From the seed in store.key.
    pub fn new(seed: &[u8; 32]) -> Self {
        let derive = |context| Zeroizing::new(blake3::derive_key(context, seed));
        let sealing = derive("waymark 2026 row sealing");
        let cipher = XChaCha20Poly1305::new((&*sealing).into());
        Self { index_key: derive("waymark 2026 row index"), cipher }
    }

    /// Where the rows of a CSI lie.
    pub fn csi_key(&self, csi: &Csi) -> [u8; 32] {
        *blake3::keyed_hash(&self.index_key, csi.expose().as_bytes()).as_bytes()
    }

    /// Seals a row.
    ///
    /// # Panics
    /// If the row is larger than the cipher's limit of 256 GiB.
    pub fn seal(&self, csi_key: [u8; 32], version: u32, size: u64, row: &[u8]) -> SealedRow {
        let nonce = random::bytes::<24>();
        let aad = associated(&csi_key, version, size);
        let payload = Payload { msg: row, aad: &aad };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).expect("a row is smaller than 256 GiB");
        SealedRow { csi_key, version, size, sealed: [&nonce[..], &sealed].concat() }
    }

    /// Opens a row.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it was altered, moved or sealed with another key.
    pub fn open(&self, row: &SealedRow) -> Result<Vec<u8>, StoreError> {
        let damaged = || StoreError::Damaged("a sealed row".to_owned());
        let (nonce, sealed) = row.sealed.split_first_chunk::<24>().ok_or_else(damaged)?;
        let aad = associated(&row.csi_key, row.version, row.size);
        self.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad }).map_err(|_| damaged())
    }
}

fn associated(csi_key: &[u8; 32], version: u32, size: u64) -> Vec<u8> {
    [&csi_key[..], &version.to_be_bytes(), &size.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_rows_open_in_their_place_only() {
        let sealer = Sealer::new(&[1; 32]);
        let csi = Csi::parse("tel:+4915112345642").unwrap();
        let row = sealer.seal(sealer.csi_key(&csi), 3, 99, b"the record of +4915112345642");
        assert!(!row.sealed.windows(6).any(|w| w == b"491511"));
        assert_eq!(sealer.open(&row).unwrap(), b"the record of +4915112345642");
        assert!(sealer.open(&SealedRow { version: 4, ..row.clone() }).is_err());
        assert!(sealer.open(&SealedRow { size: 98, ..row.clone() }).is_err());
        assert!(sealer.open(&SealedRow { csi_key: [0; 32], ..row.clone() }).is_err());
        assert!(Sealer::new(&[2; 32]).open(&row).is_err());
        let mut bent = row;
        *bent.sealed.last_mut().unwrap() ^= 1;
        assert!(sealer.open(&bent).is_err());
    }
}
