//! One entry's proof as a text file that anybody can check offline (`.tlog-proof`).
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>            optional, not authenticated
//! index <decimal>
//! <base64 hash> ...         zero or more, leaf to root
//! <empty line>
//! <checkpoint with cosignatures>
//! ```
//!
//! C2SP tlog-proof. Parsing is strict: `format(parse(x)) == x`, or an error.

use data_encoding::BASE64;

use crate::{
    checkpoint::parse_size,
    hash::{Hash, decode_base64},
    note::NOTE_BYTES_MAX,
    policy::{CosignedCheckpoint, Freshness, Policy, Unmet},
    proof::{PROOF_HASHES_MAX, ProofError, verify_inclusion},
    time::UnixSeconds,
};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// Most bytes in a proof file: a note, 63 hashes and as much extra data as an entry is long.
pub const TLOG_PROOF_BYTES_MAX: usize = NOTE_BYTES_MAX + 128 * 1024;

/// What can be wrong with a proof file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// The text.
    #[error("not a tlog-proof: {0}")]
    Malformed(&'static str),
    /// The checkpoint does not meet the policy.
    #[error(transparent)]
    Unmet(#[from] Unmet),
    /// The entry is not where the proof says.
    #[error(transparent)]
    Inclusion(#[from] ProofError),
}

/// A proof as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Whatever the application wanted to send along; not covered by anything.
    pub extra: Option<Vec<u8>>,
    /// The entry's index.
    pub index: u64,
    /// The inclusion proof.
    pub hashes: Vec<Hash>,
    /// The checkpoint's note, not yet judged.
    pub checkpoint: String,
}

impl TlogProof {
    /// Reads a proof file. Nothing is verified.
    ///
    /// # Errors
    /// [`TlogProofError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, TlogProofError> {
        use TlogProofError::Malformed;
        if text.len() > TLOG_PROOF_BYTES_MAX {
            return Err(Malformed("too large"));
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(Malformed("no empty line"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(Malformed("the first line"));
        }
        let extra = match lines.peek().and_then(|l| l.strip_prefix("extra ")) {
            Some(encoded) => {
                lines.next();
                Some(decode_base64(encoded).ok_or(Malformed("the extra line"))?)
            }
            None => None,
        };
        let index = lines.next().and_then(|l| l.strip_prefix("index ")).and_then(parse_size);
        let index = index.ok_or(Malformed("the index line"))?;
        let hashes: Option<Vec<Hash>> = lines.map(Hash::from_base64).collect();
        let hashes = hashes.filter(|h| h.len() <= PROOF_HASHES_MAX).ok_or(Malformed("a hash line"))?;
        Ok(Self { extra, index, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// The proof file.
    pub fn format(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        if let Some(extra) = &self.extra {
            text += &format!("extra {}\n", BASE64.encode(extra));
        }
        text += &format!("index {}\n", self.index);
        for hash in &self.hashes {
            text += &format!("{hash}\n");
        }
        text + "\n" + &self.checkpoint
    }

    /// Checks that the entry with this leaf hash is in a log of the policy, under a quorum.
    ///
    /// # Errors
    /// [`TlogProofError`].
    pub fn verify(
        &self,
        leaf: &Hash,
        policy: &Policy,
        now: UnixSeconds,
        freshness: Freshness,
    ) -> Result<CosignedCheckpoint, TlogProofError> {
        let cosigned = policy.judge(self.checkpoint.as_bytes(), now, freshness)?;
        verify_inclusion(self.index, cosigned.size(), leaf, &self.hashes, cosigned.root())?;
        Ok(cosigned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::{Checkpoint, Origin, SignedCheckpoint},
        cosignature::Cosigner,
        hash::leaf_hash,
        key::SecretKey,
        note::{KeyName, NoteSigner},
        range::CompactRange,
    };

    #[test]
    fn round_trips_verifies_and_refuses_every_flipped_bit() {
        let log = NoteSigner::new(KeyName::new("log.example").unwrap(), SecretKey::from_seed(&[1; 32]));
        let witness = Cosigner::new(KeyName::new("w.example").unwrap(), SecretKey::from_seed(&[2; 32]));
        let policy = format!("log {}\nwitness w {}\nquorum w\n", log.vkey(), witness.vkey());
        let policy = Policy::parse(&policy).unwrap();

        let mut tree = CompactRange::new();
        (0..5u8).for_each(|i| tree.append(leaf_hash(&[i])));
        let path = tree.path_of_next();
        tree.append(leaf_hash(b"mine"));
        let checkpoint = Checkpoint::new(Origin::new("log.example").unwrap(), 6, tree.root());
        let line = witness.cosign(&checkpoint.format(), UnixSeconds::new(1000));
        let checkpoint = SignedCheckpoint::sign(checkpoint, &log).to_note(&[line]);
        let proof = TlogProof { extra: None, index: 5, hashes: path, checkpoint };

        let (now, fresh) = (UnixSeconds::new(1001), Freshness { max_age_s: 600, skew_s: 30 });
        let text = proof.format();
        assert_eq!(TlogProof::parse(&text).unwrap(), proof);
        proof.verify(&leaf_hash(b"mine"), &policy, now, fresh).unwrap();
        assert!(proof.verify(&leaf_hash(b"yours"), &policy, now, fresh).is_err());
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let verdict = String::from_utf8(bytes)
                .map(|t| TlogProof::parse(&t).and_then(|p| p.verify(&leaf_hash(b"mine"), &policy, now, fresh)));
            assert!(!matches!(verdict, Ok(Ok(_))), "bit {bit}");
        }
        // The extra line is carried, not trusted.
        let with_extra = TlogProof { extra: Some(b"vrf".to_vec()), ..proof };
        assert_eq!(TlogProof::parse(&with_extra.format()).unwrap(), with_extra);
    }

    #[test]
    fn malformed_files() {
        for bad in [
            "",
            "c2sp.org/tlog-proof@v1\n",
            "c2sp.org/tlog-proof@v2\nindex 0\n\nx",
            "c2sp.org/tlog-proof@v1\nindex 00\n\nx",
            "c2sp.org/tlog-proof@v1\nextra *\nindex 0\n\nx",
            "c2sp.org/tlog-proof@v1\nindex 0\nabc\n\nx",
            "c2sp.org/tlog-proof@v1\nindex -1\n\nx",
        ] {
            assert!(TlogProof::parse(bad).is_err(), "{bad:?}");
        }
    }
}
