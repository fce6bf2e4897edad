//! Every policy document that was ever logged, by its digest, and the one that is in effect.
//!
//! ```text
//! policies/<SHA-256 of the document, 64 hex digits>.toml          written once, never changed
//! ```
//!
//! What is read is hashed again: a file that was altered is as good as none.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use waymark_log::hash::Hash;
use waymark_runtime::durable;

use super::{DOCUMENT_BYTES_MAX, Document, PolicyError};
use crate::config::names;

/// A document with its bytes: what is served and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// SHA-256 of the bytes.
    pub digest: Hash,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What they say.
    pub document: Document,
}

impl Logged {
    /// Reads a document.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(bytes: Vec<u8>) -> Result<Self, PolicyError> {
        Ok(Self { digest: Hash::sha256(&[&bytes]), document: Document::parse(&bytes)?, bytes })
    }
}

/// The folder of documents.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// The folder in a data folder; made when something is put there.
    pub fn of(dir: &Path) -> Self {
        Self { folder: dir.join(names::POLICIES) }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, digest: &Hash) -> PathBuf {
        self.folder.join(format!("{}.toml", digest.to_hex()))
    }

    /// Keeps a document, durably.
    ///
    /// # Errors
    /// [`PolicyError::Io`].
    pub fn put(&self, logged: &Logged) -> Result<(), PolicyError> {
        let written = durable::write_once(&self.path(&logged.digest), &logged.bytes);
        written.and_then(|()| durable::sync_folder(&self.folder)).map_err(|e| PolicyError::Io(e.to_string()))
    }

    /// The bytes of a document, `None` if they are not here.
    ///
    /// # Errors
    /// [`PolicyError::Io`], [`PolicyError::Missing`] if what is here is something else.
    pub fn bytes(&self, digest: &Hash) -> Result<Option<Vec<u8>>, PolicyError> {
        let read = durable::read(&self.path(digest), DOCUMENT_BYTES_MAX).map_err(|e| PolicyError::Io(e.to_string()))?;
        match read {
            Some(bytes) if Hash::sha256(&[&bytes]) != *digest => Err(PolicyError::Missing(digest.to_hex())),
            read => Ok(read),
        }
    }

    /// A document that must be here.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn get(&self, digest: &Hash) -> Result<Logged, PolicyError> {
        let bytes = self.bytes(digest)?.ok_or_else(|| PolicyError::Missing(digest.to_hex()))?;
        Logged::parse(bytes)
    }
}

/// The document in effect: the one whose digest the published head commits to.
#[derive(Debug)]
pub struct InEffect {
    shelf: Shelf,
    logged: RwLock<Arc<Logged>>,
}

impl InEffect {
    /// Begins with this one.
    pub fn new(shelf: Shelf, logged: Logged) -> Self {
        Self { shelf, logged: RwLock::new(Arc::new(logged)) }
    }

    /// The folder it came from.
    pub const fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// The document with the digest of what is published now, or, if nothing is, the one it began with.
    ///
    /// No config entry is taken in whose document is not on the shelf. If it was taken away since, the one before stays and our log
    /// says so: look-ups go on.
    pub fn at(&self, published: Option<&Hash>) -> Arc<Logged> {
        let current = Arc::clone(&self.logged.read().unwrap_or_else(PoisonError::into_inner));
        let Some(digest) = published.filter(|d| **d != current.digest) else { return current };
        match self.shelf.get(digest) {
            Ok(logged) => {
                let logged = Arc::new(logged);
                *self.logged.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&logged);
                logged
            }
            Err(error) => {
                tracing::error!(%error, "the policy document in effect cannot be read");
                current
            }
        }
    }
}
