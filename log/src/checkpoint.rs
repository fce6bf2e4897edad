//! Checkpoints: what a log says about itself at one moment (the "signed tree head").
//!
//! ```text
//! <origin>\n              the log's name for ever: non-empty, at most 255 bytes
//! <size>\n                decimal, no leading zero, at most 2^62
//! <base64 root hash>\n    32 bytes
//! <extension line>\n ...  ours have none; those of other logs are kept, since cosignatures cover them
//! ```
//!
//! C2SP tlog-checkpoint. Parsing is strict: `format(parse(x)) == x`, or an error.
//! A checkpoint carries no time. How old it is shows in its cosignatures ([`crate::policy`]) alone.

use std::fmt;

use crate::{
    TREE_SIZE_MAX, WITNESSED_SIZE_MAX,
    hash::{EMPTY_ROOT, Hash},
    note::{Note, NoteError, NoteSigner, Role, SignatureLine, Vkey},
};

/// Most bytes in an origin: it must fit the one-byte length of an ML-DSA cosignature's message.
pub const ORIGIN_BYTES_MAX: usize = 255;

/// The name of a log, the first line of its checkpoints.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

/// What can be wrong with a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// It belongs to another log.
    #[error("the checkpoint is of another log: {0}")]
    OtherOrigin(Origin),
    /// None of the log's keys has signed it.
    #[error("the log has not signed the checkpoint")]
    NotSignedByLog,
}

impl Origin {
    /// Checks an origin.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`] if empty, over 255 bytes, or with a control character.
    pub fn new(text: &str) -> Result<Self, CheckpointError> {
        if text.is_empty() || text.len() > ORIGIN_BYTES_MAX || text.contains(char::is_control) {
            return Err(CheckpointError::Malformed("the origin is empty, too long or has control characters"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Lower-case hex SHA-256 of the origin: its place under a witness's monitoring prefix (C2SP tlog-witness).
    pub fn hash_hex(&self) -> String {
        Hash::sha256(&[self.0.as_bytes()]).to_hex()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Origin, size and root: a claim, as long as nobody is known to have signed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The log.
    pub origin: Origin,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree of that size.
    pub root: Hash,
    /// Opaque lines of other logs.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint without extension lines.
    pub const fn new(origin: Origin, size: u64, root: Hash) -> Self {
        Self { origin, size, root, extensions: Vec::new() }
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        Self::parse_up_to(TREE_SIZE_MAX, text)
    }

    /// Reads the text of a note that is to be witnessed: its size may be as large as [`WITNESSED_SIZE_MAX`].
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`].
    pub fn parse_witnessed(text: &str) -> Result<Self, CheckpointError> {
        Self::parse_up_to(WITNESSED_SIZE_MAX, text)
    }

    fn parse_up_to(size_max: u64, text: &str) -> Result<Self, CheckpointError> {
        let body = text.strip_suffix('\n').ok_or(CheckpointError::Malformed("no final newline"))?;
        let mut lines = body.split('\n');
        let origin = Origin::new(lines.next().unwrap_or_default())?;
        let size = lines.next().and_then(|line| parse_size_up_to(size_max, line));
        let size = size.ok_or(CheckpointError::Malformed("the tree size"))?;
        let root = lines.next().and_then(Hash::from_base64).ok_or(CheckpointError::Malformed("the root hash"))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        // "Extension lines, if any, MUST be non-empty."
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Malformed("an empty extension line"));
        }
        Ok(Self { origin, size, root, extensions })
    }

    /// The note text.
    pub fn format(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, self.root);
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// A tree size in decimal without leading zeros, at most 2^62.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    parse_size_up_to(TREE_SIZE_MAX, text)
}

/// The same with another largest size.
pub(crate) fn parse_size_up_to(size_max: u64, text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    text.parse().ok().filter(|n| canonical && *n <= size_max)
}

/// A checkpoint that one of the log's keys has signed. Made only by [`SignedCheckpoint::open`],
/// [`SignedCheckpoint::open_witnessed`] and [`SignedCheckpoint::sign`].
///
/// It says that the log stands by this root. It does not say that anybody else saw it, nor that it is recent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    /// Only lines by the log's keys that verified.
    lines: Vec<SignatureLine>,
}

impl SignedCheckpoint {
    /// Opens a note as a checkpoint of `origin`, signed by at least one of `keys`. Lines by others are dropped.
    ///
    /// # Errors
    /// [`CheckpointError`]; a line that bears the name and ID of one of `keys` and fails rejects the whole note.
    pub fn open(note: &Note, origin: &Origin, keys: &[Vkey]) -> Result<Self, CheckpointError> {
        let mut lines = Vec::new();
        for key in keys {
            if key.role() == Role::Log && note.check(key)? {
                lines.extend(note.line_by(key)?.cloned());
            }
        }
        Self::of(Checkpoint::parse(note.text()), lines, origin)
    }

    /// Opens a note as [`Self::open`] does, for a witness: by [`Note::check_each`] and [`Checkpoint::parse_witnessed`].
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open_witnessed(note: &Note, origin: &Origin, keys: &[Vkey]) -> Result<Self, CheckpointError> {
        let mut lines = Vec::new();
        for key in keys.iter().filter(|key| key.role() == Role::Log) {
            lines.extend(note.check_each(key)?.cloned());
        }
        Self::of(Checkpoint::parse_witnessed(note.text()), lines, origin)
    }

    fn of(
        checkpoint: Result<Checkpoint, CheckpointError>,
        lines: Vec<SignatureLine>,
        origin: &Origin,
    ) -> Result<Self, CheckpointError> {
        if lines.is_empty() {
            return Err(CheckpointError::NotSignedByLog);
        }
        let checkpoint = checkpoint?;
        if checkpoint.origin != *origin {
            return Err(CheckpointError::OtherOrigin(checkpoint.origin));
        }
        Ok(Self { checkpoint, lines })
    }

    /// Signs a checkpoint. The one place where a log makes a promise; see `commit` for what must be durable before.
    pub fn sign(checkpoint: Checkpoint, signer: &NoteSigner) -> Self {
        let lines = vec![signer.sign(&checkpoint.format())];
        Self { checkpoint, lines }
    }

    /// What was signed.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Number of entries.
    pub const fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// Root of the tree.
    pub const fn root(&self) -> &Hash {
        &self.checkpoint.root
    }

    /// The note with the log's lines and `more` after them.
    pub fn to_note(&self, more: &[SignatureLine]) -> String {
        let mut out = format!("{}\n", self.checkpoint.format());
        for line in self.lines.iter().chain(more) {
            out.push_str(&line.to_string());
        }
        out
    }

    /// Whether the claim is about a tree that can exist: an empty one has the empty root.
    pub fn is_plausible(&self) -> bool {
        self.checkpoint.size != 0 || self.checkpoint.root == EMPTY_ROOT
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        key::SecretKey,
        note::{KeyName, NoteSigner},
    };

    #[test]
    fn one_spelling() {
        let root = EMPTY_ROOT.to_base64();
        let good = format!("log.example\n7\n{root}\n");
        assert_eq!(Checkpoint::parse(&good).unwrap().format(), good);
        let with_extension = format!("{good}more\n");
        assert_eq!(Checkpoint::parse(&with_extension).unwrap().extensions, ["more"]);
        for bad in [
            String::new(),
            "log.example\n7\n".into(),
            format!("log.example\n7\n{root}"),
            format!("\n7\n{root}\n"),
            format!("log.example\n07\n{root}\n"),
            format!("log.example\n+7\n{root}\n"),
            format!("log.example\n\n{root}\n"),
            format!("log.example\n-1\n{root}\n"),
            format!("log.example\n{}\n{root}\n", TREE_SIZE_MAX + 1),
            format!("log.example\n99999999999999999999\n{root}\n"),
            format!("log.example\n7\n{}\n", &root[1..]),
            format!("log.example\n7\n{root}\n\n"),
            format!("log.example\n7\n{root}\n\nx\n"),
        ] {
            assert!(Checkpoint::parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_checkpoint_is_refused() {
        let origin = Origin::new("log.example").unwrap();
        let signer = NoteSigner::new(KeyName::new("log.example").unwrap(), SecretKey::from_seed(&[3; 32]));
        let signed = SignedCheckpoint::sign(Checkpoint::new(origin.clone(), 7, Hash::ZERO), &signer);
        let note = signed.to_note(&[]);
        let open = |bytes: &[u8]| SignedCheckpoint::open(&Note::parse(bytes)?, &origin, &[signer.vkey().clone()]);
        assert_eq!(open(note.as_bytes()), Ok(signed));
        for bit in 0..note.len() * 8 {
            let mut bytes = note.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_logs_checkpoint_is_not_ours_even_under_our_key() {
        let signer = NoteSigner::new(KeyName::new("log.example").unwrap(), SecretKey::from_seed(&[3; 32]));
        let other = Origin::new("log.example/2").unwrap();
        let signed = SignedCheckpoint::sign(Checkpoint::new(other.clone(), 7, Hash::ZERO), &signer);
        let note = Note::parse(signed.to_note(&[]).as_bytes()).unwrap();
        let ours = Origin::new("log.example").unwrap();
        let opened = SignedCheckpoint::open(&note, &ours, &[signer.vkey().clone()]);
        assert_eq!(opened, Err(CheckpointError::OtherOrigin(other)));
    }

    proptest! {
        #[test]
        fn parse_and_format_are_inverse(origin in "[a-z./0-9 ]{1,30}", size in 0..=TREE_SIZE_MAX, root: [u8; 32], extensions in prop::collection::vec("[ -~]{1,20}", 0..3)) {
            let checkpoint = Checkpoint { origin: Origin::new(&origin).unwrap(), size, root: Hash::new(root), extensions };
            prop_assert_eq!(Checkpoint::parse(&checkpoint.format()), Ok(checkpoint));
        }

        #[test]
        fn parsing_is_strict(text in "[a-z0-9+/=\n]{0,80}") {
            if let Ok(checkpoint) = Checkpoint::parse(&text) {
                prop_assert_eq!(checkpoint.format(), text);
            }
        }
    }
}
