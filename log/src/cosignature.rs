//! Cosignatures: a witness's dated signature on a checkpoint.
//!
//! ```text
//! signature line body   uint64 seconds since 1970, big endian | Ed25519 signature[64]
//! signed message        cosignature/v1\n
//!                       time <decimal seconds>\n
//!                       <the whole checkpoint text, extension lines included>
//! ```
//!
//! C2SP tlog-cosignature, Ed25519 form (type 0x04). It says: at that time, the largest consistent tree that this witness
//! had seen under this origin has this root. It says nothing about what the entries mean.

use crate::{
    key::{SIGNATURE_BYTES, SecretKey, Signature},
    note::{KeyName, Note, NoteError, Role, SignatureLine, Vkey},
    time::UnixSeconds,
};

/// Bytes in a signature line's body: time and signature.
pub const BODY_BYTES: usize = 8 + SIGNATURE_BYTES;

/// The bytes that are signed.
fn message(time: UnixSeconds, checkpoint_text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {}\n{checkpoint_text}", time.get()).into_bytes()
}

/// A key that cosigns checkpoints (type 0x04).
#[derive(Debug, Clone)]
pub struct Cosigner {
    vkey: Vkey,
    secret: SecretKey,
}

impl Cosigner {
    /// A cosigner with this name. A key serves one cosigner: the message does not name it.
    pub fn new(name: KeyName, secret: SecretKey) -> Self {
        Self { vkey: Vkey::new(name, Role::Witness, secret.public()), secret }
    }

    /// Its verifier key.
    pub const fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    /// Cosigns a checkpoint's text. What must be stored first is told in [`crate::witness`].
    pub fn cosign(&self, checkpoint_text: &str, time: UnixSeconds) -> SignatureLine {
        let signature = self.secret.sign(&message(time, checkpoint_text));
        SignatureLine::new(&self.vkey, [&time.get().to_be_bytes()[..], signature.as_bytes()].concat())
    }
}

/// Looks for a cosignature by `vkey` and verifies it: `None` means that this witness did not cosign.
///
/// # Errors
/// [`NoteError::BadSignature`] if a line bears its name and ID and does not verify, [`NoteError::Repeated`] for two lines.
pub fn check(note: &Note, vkey: &Vkey) -> Result<Option<UnixSeconds>, NoteError> {
    let Some(line) = note.line_by(vkey)? else { return Ok(None) };
    let bad = || NoteError::BadSignature(vkey.name().clone());
    let (time, signature) = line.body().split_first_chunk::<8>().ok_or_else(bad)?;
    let time = u64::from_be_bytes(*time);
    let signature = Signature::from_slice(signature).ok_or_else(bad)?;
    // "It MUST NOT exceed 2^63 - 1"; a witness never leaves the time out, so zero is no cosignature of a checkpoint.
    if vkey.role() != Role::Witness || time == 0 || time > i64::MAX as u64 {
        return Err(bad());
    }
    let time = UnixSeconds::new(time);
    vkey.key().verify(&message(time, note.text()), &signature).map_err(|_| bad())?;
    Ok(Some(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "log.example\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";

    fn cosigner(seed: u8) -> Cosigner {
        Cosigner::new(KeyName::new("w.example").unwrap(), SecretKey::from_seed(&[seed; 32]))
    }

    #[test]
    fn every_flipped_bit_of_a_cosignature_is_refused() {
        let witness = cosigner(9);
        let line = witness.cosign(TEXT, UnixSeconds::new(1_700_000_000));
        let note = Note::new(TEXT.to_owned(), vec![line.clone()]).unwrap();
        assert_eq!(check(&note, witness.vkey()), Ok(Some(UnixSeconds::new(1_700_000_000))));
        for bit in 0..BODY_BYTES * 8 {
            let mut body = line.body().to_vec();
            body[bit / 8] ^= 1 << (bit % 8);
            let forged = Note::new(TEXT.to_owned(), vec![SignatureLine::new(witness.vkey(), body)]).unwrap();
            assert!(check(&forged, witness.vkey()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_note_signature_is_no_cosignature_and_the_reverse() {
        let witness = cosigner(9);
        let as_log = Vkey::new(KeyName::new("w.example").unwrap(), Role::Log, *witness.vkey().key());
        let note = Note::new(TEXT.to_owned(), vec![witness.cosign(TEXT, UnixSeconds::new(5))]).unwrap();
        assert_eq!(note.check(&as_log), Ok(false));
        let relabelled = SignatureLine::new(&as_log, note.lines()[0].body().to_vec());
        let note = Note::new(TEXT.to_owned(), vec![relabelled]).unwrap();
        assert!(note.check(&as_log).is_err());
    }

    #[test]
    fn times_out_of_range_are_refused() {
        let witness = cosigner(9);
        for time in [0, i64::MAX as u64 + 1] {
            let line = witness.cosign(TEXT, UnixSeconds::new(time));
            let note = Note::new(TEXT.to_owned(), vec![line]).unwrap();
            assert!(check(&note, witness.vkey()).is_err());
        }
    }
}
