//! The memory of a sender's choices: one folder, a secret and a file, for its owner alone (mode 0600).
//!
//! ```text
//! sender.key      32 random bytes in hex, made at the first choice
//! choices.json    {"schema": "waymark.choices/1",
//!                  "choices": [{"question": "<32 hex>", "mapping": "<32 hex>", "place": "<32 hex>"}]}    oldest first
//! ```
//!
//! All three are BLAKE3 keyed hashes under keys derived from the secret ([`super::choose::SenderSecret`]): without it the
//! file says how many choices were made, and nothing about whom. It is bounded: beyond [`CHOICES_MAX`] the oldest choice is
//! dropped, which the tie-break will most likely make again. It is replaced as a whole, so two commands at the same moment
//! leave a whole file in which one of the two choices is missing.

use std::{
    io,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use waymark_runtime::{
    durable,
    keyfile::{self, KeyFileError},
};

use super::choose::{Kept, SenderSecret};

/// Most choices that are remembered, some 150 bytes each: more people than anybody writes to.
pub const CHOICES_MAX: usize = 10_000;
/// Most bytes in the file.
const FILE_BYTES_MAX: usize = 4 << 20;

const SCHEMA: &str = "waymark.choices/1";

/// Why choices cannot be remembered.
#[derive(Debug, thiserror::Error)]
pub enum StickyError {
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The secret.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The file is not what was written there.
    #[error("{0}: not what was written there; remove it to start afresh")]
    Damaged(PathBuf),
}

/// What a sender remembers.
pub struct Choices {
    path: PathBuf,
    secret: SenderSecret,
    kept: Vec<([u8; 16], Kept)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: String,
    choices: Vec<FileChoice>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileChoice {
    question: String,
    mapping: String,
    place: String,
}

impl Choices {
    /// Opens a folder of choices; makes it, and its secret, if it is not there.
    ///
    /// # Errors
    /// [`StickyError`].
    pub fn open(folder: &Path) -> Result<Self, StickyError> {
        durable::private_folder(folder).map_err(|error| StickyError::Io { path: folder.to_owned(), error })?;
        let key = folder.join("sender.key");
        // A secret is made once; whoever comes second reads it.
        let seed = if key.exists() { keyfile::load(&key)? } else { keyfile::create(&key)? };
        let path = folder.join("choices.json");
        let bytes = durable::read(&path, FILE_BYTES_MAX);
        let bytes = bytes.map_err(|error| StickyError::Io { path: path.clone(), error })?;
        let kept = match bytes {
            Some(bytes) => parse(&bytes).ok_or_else(|| StickyError::Damaged(path.clone()))?,
            None => Vec::new(),
        };
        Ok(Self { path, secret: SenderSecret::new(&seed), kept })
    }

    /// The sender's secret.
    pub const fn secret(&self) -> &SenderSecret {
        &self.secret
    }

    /// What was chosen for a question.
    pub fn get(&self, question: &[u8; 16]) -> Option<&Kept> {
        self.kept.iter().find(|(q, _)| q == question).map(|(_, kept)| kept)
    }

    /// Remembers a choice. Nothing is written if nothing has changed.
    ///
    /// # Errors
    /// [`StickyError::Io`].
    pub fn keep(&mut self, question: [u8; 16], kept: Kept) -> Result<(), StickyError> {
        if self.get(&question) == Some(&kept) {
            return Ok(());
        }
        self.kept.retain(|(q, _)| *q != question);
        let surplus = (self.kept.len() + 1).saturating_sub(CHOICES_MAX);
        self.kept.drain(..surplus);
        self.kept.push((question, kept));
        self.write()
    }

    /// Forgets a choice; says whether there was one.
    ///
    /// # Errors
    /// [`StickyError::Io`].
    pub fn forget(&mut self, question: &[u8; 16]) -> Result<bool, StickyError> {
        let before = self.kept.len();
        self.kept.retain(|(q, _)| q != question);
        if self.kept.len() < before { self.write().map(|()| true) } else { Ok(false) }
    }

    fn write(&self) -> Result<(), StickyError> {
        let choice = |(question, kept): &([u8; 16], Kept)| FileChoice {
            question: HEXLOWER.encode(question),
            mapping: HEXLOWER.encode(&kept.mapping),
            place: HEXLOWER.encode(&kept.place),
        };
        let file = File { schema: SCHEMA.to_owned(), choices: self.kept.iter().map(choice).collect() };
        let io = |error| StickyError::Io { path: self.path.clone(), error };
        let bytes = serde_json::to_vec(&file).map_err(|e| io(e.into()))?;
        durable::replace_private(&self.path, &bytes).map_err(io)
    }
}

fn parse(bytes: &[u8]) -> Option<Vec<([u8; 16], Kept)>> {
    let file: File = serde_json::from_slice(bytes).ok()?;
    if file.schema != SCHEMA || file.choices.len() > CHOICES_MAX {
        return None;
    }
    let name = |text: &str| HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok();
    let choice = |c: &FileChoice| {
        let kept = Kept { mapping: name(&c.mapping)?, place: name(&c.place)? };
        Some((name(&c.question)?, kept))
    };
    file.choices.iter().map(choice).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use waymark_log::checkpoint::Origin;
    use waymark_mapping::{identifier::Csi, names::Tag, verify::Asked};

    use super::*;

    const BOB: &str = "tel:+4915112345642";

    fn kept(n: u8) -> Kept {
        Kept { mapping: [n; 16], place: [n; 16] }
    }

    #[test]
    fn a_choice_survives_a_restart_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("of/choices");
        let asked_at = |log: &str, tag: Option<&str>| {
            let origin = Origin::new(log).unwrap();
            Asked { origin, csi: Csi::parse(BOB).unwrap(), tag: tag.and_then(Tag::parse) }
        };
        let asked = |tag: Option<&str>| asked_at("dp.example/log", tag);
        let mut choices = Choices::open(&folder).unwrap();
        let plain = choices.secret().question(&asked(None));
        let tagged = choices.secret().question(&asked(Some("soccer")));
        let elsewhere = choices.secret().question(&asked_at("other.example/log", None));
        assert!(plain != tagged && plain != elsewhere);
        choices.keep(plain, kept(1)).unwrap();
        choices.keep(tagged, kept(2)).unwrap();
        choices.keep(plain, kept(3)).unwrap();

        let mut again = Choices::open(&folder).unwrap();
        assert_eq!(again.secret().question(&asked(None)), plain, "the secret is the same");
        assert_eq!(
            (again.get(&plain), again.get(&tagged), again.get(&elsewhere)),
            (Some(&kept(3)), Some(&kept(2)), None)
        );
        assert!(again.forget(&plain).unwrap() && !again.forget(&plain).unwrap());
        assert_eq!(Choices::open(&folder).unwrap().get(&plain), None);
        for file in ["sender.key", "choices.json"] {
            let path = folder.join(file);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains("15112345642") && !text.contains("soccer") && !text.contains("dp.example"));
        }
    }

    #[test]
    fn no_more_than_so_many_are_kept_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut choices = Choices::open(folder.path()).unwrap();
        let question = |n: usize| (n as u128).to_be_bytes();
        choices.kept = (0..CHOICES_MAX).map(|n| (question(n), kept(1))).collect();
        choices.keep(question(CHOICES_MAX), kept(2)).unwrap();
        assert!(fs::metadata(&choices.path).unwrap().len() < FILE_BYTES_MAX as u64);
        let again = Choices::open(folder.path()).unwrap();
        assert_eq!((again.kept.len(), again.get(&question(0))), (CHOICES_MAX, None));
        assert_eq!(again.get(&question(CHOICES_MAX)), Some(&kept(2)));
        for bad in ["", "{}", r#"{"schema":"other","choices":[]}"#] {
            fs::write(&again.path, bad).unwrap();
            assert!(matches!(Choices::open(folder.path()), Err(StickyError::Damaged(_))), "{bad}");
        }
    }
}
