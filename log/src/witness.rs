//! The witness protocol: add-checkpoint messages and the judgement, without any network or storage.
//!
//! ```text
//! request   old <decimal>\n
//!           <base64 hash>\n ...      0 to 63 consistency proof lines
//!           \n
//!           <checkpoint, a signed note>
//! answer    200  one or more cosignature lines
//!           409  <decimal size>\n, Content-Type text/x.tlog.size
//! ```
//!
//! C2SP tlog-witness. Out of scope here, and done by whoever calls [`decide`]: finding the stored head and the keys of an
//! origin, storing the new head **atomically with the comparison and durably before the cosignature leaves**, and HTTP.

use crate::{
    WITNESSED_SIZE_MAX,
    checkpoint::{Checkpoint, CheckpointError, Origin, SignedCheckpoint, parse_size_up_to},
    hash::Hash,
    note::{NOTE_BYTES_MAX, Note, NoteError, SignatureLine, Vkey},
    proof::{PROOF_HASHES_MAX, verify_consistency},
};

/// Most bytes of the note in a request: room is left for the cosignatures that will be added to it.
pub const REQUEST_NOTE_BYTES_MAX: usize = NOTE_BYTES_MAX - 8 * 1024;
/// Most bytes in an add-checkpoint request: a note, 63 proof lines of 45 bytes and the first line.
pub const REQUEST_BYTES_MAX: usize = REQUEST_NOTE_BYTES_MAX + 64 * 45 + 64;
/// Media type of the body of a 409.
pub const SIZE_MEDIA_TYPE: &str = "text/x.tlog.size";

/// What a witness remembers of a log: the latest tree it cosigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its size.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

/// A request as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the log believes the witness to be at.
    pub old_size: u64,
    /// Consistency proof from there to the checkpoint.
    pub proof: Vec<Hash>,
    /// The checkpoint, not yet judged.
    pub note: Note,
}

/// Why a witness does not cosign. Each reason is one HTTP status ([`Refusal::status`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request does not have the form.
    #[error("malformed request: {0}")]
    Malformed(String),
    /// No key is known for this origin.
    #[error("unknown log")]
    UnknownLog,
    /// No signature of the log's keys.
    #[error("the checkpoint is not signed by the log")]
    NotSigned,
    /// A line by a key of the log that does not verify, or is not spelled as base64 is.
    #[error("invalid signature: a line by a key of the log does not verify")]
    BadSignature,
    /// The old size is greater than the checkpoint's.
    #[error("the old size is greater than the checkpoint's size")]
    OldSizeTooLarge,
    /// The old size is not what the witness is at.
    #[error("the witness is at size {size}")]
    Conflict {
        /// Where it is.
        size: u64,
    },
    /// Validly signed, and not an extension of what was cosigned: possible evidence, worth keeping.
    #[error("not consistent with the checkpoint cosigned before")]
    Inconsistent,
}

impl Refusal {
    /// The status that C2SP tlog-witness gives to this refusal.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::OldSizeTooLarge => 400,
            Self::NotSigned | Self::BadSignature => 403,
            Self::UnknownLog => 404,
            Self::Conflict { .. } => 409,
            Self::Inconsistent => 422,
        }
    }

    /// A word for it, without anything of the request: for metrics.
    pub const fn slug(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::UnknownLog => "unknown-log",
            Self::NotSigned => "not-signed",
            Self::BadSignature => "bad-signature",
            Self::OldSizeTooLarge => "old-size-too-large",
            Self::Conflict { .. } => "conflict",
            Self::Inconsistent => "inconsistent",
        }
    }
}

impl AddCheckpoint {
    /// Reads a request body.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let malformed = |what: &str| Refusal::Malformed(what.to_owned());
        if body.len() > REQUEST_BYTES_MAX {
            return Err(malformed("too large"));
        }
        let text = std::str::from_utf8(body).map_err(|_| malformed("not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or_else(|| malformed("no empty line"))?;
        let mut lines = head.split('\n');
        let old_size = lines.next().and_then(|l| l.strip_prefix("old "));
        let old_size = old_size.and_then(|l| parse_size_up_to(WITNESSED_SIZE_MAX, l));
        let old_size = old_size.ok_or_else(|| malformed("the old size line"))?;
        let proof: Option<Vec<Hash>> = lines.map(Hash::from_base64).collect();
        let proof = proof.ok_or_else(|| malformed("a proof line"))?;
        // "The client MUST NOT send more than 63 consistency proof lines."
        if proof.len() > PROOF_HASHES_MAX {
            return Err(malformed("more than 63 proof lines"));
        }
        if note.len() > REQUEST_NOTE_BYTES_MAX {
            return Err(malformed("the checkpoint is too large"));
        }
        let note = Note::parse_of_anybody(note.as_bytes()).map_err(|e| Refusal::Malformed(e.to_string()))?;
        Ok(Self { old_size, proof, note })
    }

    /// The request body, without the lines that no key here can have made.
    pub fn format(&self) -> String {
        let mut body = format!("old {}\n", self.old_size);
        for hash in &self.proof {
            body += &format!("{hash}\n");
        }
        body + "\n" + &self.note.format()
    }

    /// The origin that the checkpoint claims, for looking up keys and state.
    ///
    /// # Errors
    /// [`Refusal::Malformed`]; [`Refusal::UnknownLog`] for an origin that no log on a list can have.
    pub fn origin(&self) -> Result<Origin, Refusal> {
        // The specification knows no limit for an origin but that it is not empty.
        let origin = self.note.text().split('\n').next().unwrap_or_default();
        if !origin.is_empty() && Origin::new(origin).is_err() {
            return Err(Refusal::UnknownLog);
        }
        Ok(self.checkpoint().map_err(|e| Refusal::Malformed(e.to_string()))?.origin)
    }

    /// The checkpoint that is claimed.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn checkpoint(&self) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::parse_witnessed(self.note.text())
    }
}

/// A step that the witness may take: from what it had to what it will have. Made only by [`decide`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// What must still be stored when the step is written.
    pub from: Option<Head>,
    /// What is to be stored.
    pub to: Head,
    /// What is to be cosigned: the checkpoint as understood, with the log's verified signatures and no others.
    pub checkpoint: SignedCheckpoint,
}

/// The witness's judgement, in the order of the specification.
///
/// `keys` are the log's trusted keys, `None` for an unknown origin; `stored` is what was cosigned last, if ever.
///
/// # Errors
/// [`Refusal`].
pub fn decide(stored: Option<Head>, request: &AddCheckpoint, keys: Option<&[Vkey]>) -> Result<Advance, Refusal> {
    let origin = request.origin()?;
    // "If the checkpoint origin is unknown, the witness MUST respond with a 404."
    let keys = keys.ok_or(Refusal::UnknownLog)?;
    // "403 if either no signature from a trusted key is present, or a signature line's key name and ID match a trusted
    // key but the signature itself fails to verify"
    let signed = SignedCheckpoint::open_witnessed(&request.note, &origin, keys).map_err(|e| match e {
        CheckpointError::NotSignedByLog => Refusal::NotSigned,
        CheckpointError::Note(NoteError::BadSignature(_)) => Refusal::BadSignature,
        other => Refusal::Malformed(other.to_string()),
    })?;
    let to = Head { size: signed.size(), root: *signed.root() };
    // "The old size MUST be equal to or lower than the checkpoint size. Otherwise 400."
    if request.old_size > to.size {
        return Err(Refusal::OldSizeTooLarge);
    }
    // "The witness MUST check that the old size matches the size of the latest checkpoint it cosigned (or zero if it never
    // cosigned one). If it doesn't match, 409."
    let known = stored.map_or(0, |h| h.size);
    if request.old_size != known {
        return Err(Refusal::Conflict { size: known });
    }
    // "A checkpoint of size zero MUST have the root hash of the empty tree. Otherwise 422."
    if !signed.is_plausible() {
        return Err(Refusal::Inconsistent);
    }
    let consistent = match stored {
        // "If the old size is zero, the consistency proof MUST be empty."
        None | Some(Head { size: 0, .. }) => request.proof.is_empty(),
        // "If the old size matches the checkpoint size, the root hashes MUST be identical": the verifier's equal case.
        Some(head) => verify_consistency(head.size, to.size, &head.root, &to.root, &request.proof).is_ok(),
    };
    if !consistent {
        return Err(Refusal::Inconsistent);
    }
    Ok(Advance { from: stored, to, checkpoint: signed })
}

/// Reads the signature lines of a 200.
///
/// # Errors
/// [`NoteError`] if a line does not have the form or there is none.
pub fn parse_cosignatures(body: &str) -> Result<Vec<SignatureLine>, NoteError> {
    let lines = body.strip_suffix('\n').ok_or(NoteError::Malformed("no final newline"))?;
    lines.split('\n').map(SignatureLine::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hash::{EMPTY_ROOT, leaf_hash},
        key::SecretKey,
        note::{KeyName, NoteSigner},
        proof::{self, naive_root, node_from_leaves},
    };

    fn leaves() -> Vec<Hash> {
        (0..20u8).map(|i| leaf_hash(&[i])).collect()
    }

    fn signer() -> NoteSigner {
        NoteSigner::new(KeyName::new("log.example").unwrap(), SecretKey::from_seed(&[5; 32]))
    }

    fn request(old: u64, new: u64, root: Hash) -> AddCheckpoint {
        let leaves = leaves();
        let proof = match proof::consistency(old, new) {
            Ok(plan) => plan.build(&plan.nodes().map(|n| node_from_leaves(&leaves, n)).collect::<Vec<_>>()).unwrap(),
            Err(_) => vec![],
        };
        let checkpoint = Checkpoint::new(Origin::new("log.example").unwrap(), new, root);
        let note = SignedCheckpoint::sign(checkpoint, &signer()).to_note(&[]);
        AddCheckpoint { old_size: old, proof, note: Note::parse(note.as_bytes()).unwrap() }
    }

    fn head(size: usize) -> Option<Head> {
        Some(Head { size: size as u64, root: naive_root(&leaves()[..size]) })
    }

    #[test]
    fn the_status_table() {
        let keys = [signer().vkey().clone()];
        let root = |n: usize| naive_root(&leaves()[..n]);
        let verdict = |stored, request: &AddCheckpoint| decide(stored, request, Some(&keys));
        let status = |stored, request: &AddCheckpoint| verdict(stored, request).map_or_else(|r| r.status(), |_| 200);

        // First sight, growth, and a refresh at the same size.
        assert_eq!(status(None, &request(0, 7, root(7))), 200);
        assert_eq!(status(head(7), &request(7, 13, root(13))), 200);
        assert_eq!(status(head(7), &request(7, 7, root(7))), 200);
        assert_eq!(status(None, &request(0, 0, EMPTY_ROOT)), 200);
        assert_eq!(status(Some(Head { size: 0, root: EMPTY_ROOT }), &request(0, 7, root(7))), 200);
        // 404, 403, 400, 409.
        assert_eq!(decide(None, &request(0, 7, root(7)), None).unwrap_err().status(), 404);
        let other = NoteSigner::new(KeyName::new("log.example").unwrap(), SecretKey::from_seed(&[6; 32]));
        assert_eq!(decide(None, &request(0, 7, root(7)), Some(&[other.vkey().clone()])).unwrap_err().status(), 403);
        let mut forged = request(0, 7, root(7));
        let line = SignatureLine::new(signer().vkey(), vec![1; 64]);
        forged.note = Note::new(forged.note.text().to_owned(), vec![line]).unwrap();
        assert_eq!(status(None, &forged), 403);
        assert_eq!(status(head(7), &AddCheckpoint { old_size: 8, ..request(7, 7, root(7)) }), 400);
        assert_eq!(verdict(head(7), &request(5, 13, root(13))).unwrap_err(), Refusal::Conflict { size: 7 });
        assert_eq!(verdict(None, &request(5, 13, root(13))).unwrap_err(), Refusal::Conflict { size: 0 });
        assert_eq!(verdict(head(7), &request(0, 13, root(13))).unwrap_err(), Refusal::Conflict { size: 7 });
        // 422: same size with another root, bad proof, proof from nothing, empty tree with another root.
        assert_eq!(status(head(7), &request(7, 7, root(8))), 422);
        assert_eq!(status(head(7), &request(7, 13, root(12))), 422);
        assert_eq!(status(head(7), &AddCheckpoint { proof: vec![], ..request(7, 13, root(13)) }), 422);
        assert_eq!(status(None, &AddCheckpoint { proof: vec![root(1)], ..request(0, 7, root(7)) }), 422);
        assert_eq!(status(None, &request(0, 0, root(7))), 422);
    }

    #[test]
    fn what_is_cosigned_is_what_was_understood() {
        let keys = [signer().vkey().clone()];
        let mut request = request(0, 7, naive_root(&leaves()[..7]));
        let mut lines = request.note.lines().to_vec();
        lines.push(SignatureLine::parse("\u{2014} stranger.example AAAAAAA=").unwrap());
        request.note = Note::new(request.note.text().to_owned(), lines).unwrap();
        let advance = decide(None, &request, Some(&keys)).unwrap();
        assert!(!advance.checkpoint.to_note(&[]).contains("stranger"));
    }

    #[test]
    fn bodies_round_trip_or_are_malformed() {
        let good = request(7, 13, naive_root(&leaves()[..13]));
        assert_eq!(AddCheckpoint::parse(good.format().as_bytes()).unwrap(), good);
        let body = good.format();
        for bad in [
            String::new(),
            body.replacen("old 7", "old 07", 1),
            body.replacen("old 7", "old -7", 1),
            body.replacen("old 7", "new 7", 1),
            body.replacen("old 7\n", "", 1),
            body.replacen("old 7", "old 7\nAAAA", 1),
            format!("old 7\n{}", format!("{EMPTY_ROOT}\n").repeat(64)) + &body[body.find("\n\n").unwrap() + 1..],
            body.trim_end().to_owned(),
        ] {
            assert!(matches!(AddCheckpoint::parse(bad.as_bytes()), Err(Refusal::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn answers_parse() {
        let line = "\u{2014} w.example AAAAAAA=\n";
        assert_eq!(parse_cosignatures(&line.repeat(2)).unwrap().len(), 2);
        for bad in ["", "\n", line.trim_end(), "x\n"] {
            assert!(parse_cosignatures(bad).is_err());
        }
    }
}
