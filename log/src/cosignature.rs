//! Cosignatures: a witness's dated signature on a checkpoint.
//!
//! ```text
//! signature line body      uint64 seconds since 1970, big endian | signature[64 or 2420]
//!
//! message, Ed25519 (0x04)  cosignature/v1\n
//!                          time <decimal seconds>\n
//!                          <the whole checkpoint text, extension lines included>
//!
//! message, ML-DSA-44       "subtree/v1\n\0"
//! (0x06), integers big     uint8 length | cosigner's name
//! endian                   uint64 seconds, as in the body
//!                          uint8 length | log's origin
//!                          uint64 start | uint64 end | hash[32]
//! ```
//!
//! C2SP tlog-cosignature. It says: at that time, the largest consistent tree that this witness had seen under this origin has
//! this root. It says nothing about what the entries mean, and the ML-DSA-44 form says nothing about extension lines.
//!
//! The ML-DSA-44 form can also sign a part of a tree, and can leave out the time. What is verified here is always the whole
//! tree of the checkpoint: start 0, end = size. A signature over another range does not verify. Ours sign with Ed25519 only.

use crate::{
    checkpoint::Checkpoint,
    key::{BadSignature, SIGNATURE_BYTES, SecretKey, Signature},
    mldsa,
    note::{KeyName, Note, NoteError, NoteKey, Role, SignatureLine, Vkey},
    time::UnixSeconds,
};

/// Bytes in the body of an Ed25519 signature line: time and signature.
pub const BODY_BYTES: usize = 8 + SIGNATURE_BYTES;
/// Bytes in the body of an ML-DSA-44 signature line: time and signature.
pub const ML_DSA_44_BODY_BYTES: usize = 8 + mldsa::SIGNATURE_BYTES;

/// The bytes that are signed with Ed25519.
fn message(time: UnixSeconds, checkpoint_text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {}\n{checkpoint_text}", time.get()).into_bytes()
}

/// The bytes that are signed with ML-DSA-44, for a whole tree: `cosigned_message`.
fn tree_message(name: &KeyName, time: UnixSeconds, checkpoint: &Checkpoint) -> Vec<u8> {
    // Names and origins are limited to 255 bytes where they are made.
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    // "If signing a checkpoint, [start] MUST be zero [and end] is the size of the tree."
    let (start, end) = (0u64, checkpoint.size);
    [
        &b"subtree/v1\n\0"[..],
        &text(name.as_str()),
        &time.get().to_be_bytes(),
        &text(checkpoint.origin.as_str()),
        &start.to_be_bytes(),
        &end.to_be_bytes(),
        checkpoint.root.as_bytes(),
    ]
    .concat()
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

/// Looks for a cosignature by `vkey` and verifies it: `None` means that this witness did not cosign, or did not say when.
///
/// Unless [`mldsa::IS_VERIFIED`], it is `None` for every ML-DSA-44 witness.
///
/// # Errors
/// [`NoteError::BadSignature`] if a line bears its name and ID and does not verify, [`NoteError::Repeated`] for two lines.
pub fn check(note: &Note, vkey: &Vkey) -> Result<Option<UnixSeconds>, NoteError> {
    // "Verifiers MUST ignore signatures from unknown keys": a key that this build cannot verify is unknown to it.
    if matches!(vkey.key(), NoteKey::MlDsa44(_)) && !mldsa::IS_VERIFIED {
        return Ok(None);
    }
    let Some(line) = note.line_by(vkey)? else { return Ok(None) };
    let bad = || NoteError::BadSignature(vkey.name().clone());
    let (time, signature) = line.body().split_first_chunk::<8>().ok_or_else(bad)?;
    let time = UnixSeconds::new(u64::from_be_bytes(*time));
    // "It MUST NOT exceed 2^63 - 1."
    if time.get() > i64::MAX as u64 {
        return Err(bad());
    }
    match (vkey.role(), vkey.key()) {
        // A witness never leaves out the time of this form, so zero is no cosignature of a checkpoint.
        (Role::Witness, NoteKey::Ed25519(key)) if time.get() != 0 => {
            let signature = Signature::from_slice(signature).ok_or_else(bad)?;
            key.verify(&message(time, note.text()), &signature)
        }
        (Role::Witness, NoteKey::MlDsa44(key)) => {
            let checkpoint = Checkpoint::parse(note.text()).map_err(|_| bad())?;
            key.verify(&tree_message(vkey.name(), time, &checkpoint), signature)
        }
        _ => Err(BadSignature),
    }
    .map_err(|_| bad())?;
    // "These two values MAY be zero if the cosigner doesn't make any statement as to the tree being the largest observed":
    // the signature is good, and is not the statement that was looked for.
    Ok(Some(time).filter(|t| t.get() != 0))
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
        let as_log = Vkey::new(KeyName::new("w.example").unwrap(), Role::Log, *witness.vkey().ed25519().unwrap());
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
