//! TLS for a listener: a certificate and its key in two PEM files, read again when they change.
//!
//! ```toml
//! [tls]
//! cert = "tls/cert.pem"    # the chain, the server's own certificate first; relative to the data folder
//! key = "tls/key.pem"      # its key (PKCS #8, SEC1 or PKCS #1), mode 0600
//! ```
//!
//! rustls with the ring provider, which is named here and not installed for the whole process; TLS 1.3 and 1.2, HTTP/1.1
//! only. Whoever renews a certificate replaces the two files, in any order: a connection that comes [`LOOK_MS`] later gets the
//! new one. While the two cannot be read or do not belong together, the old ones stay in use.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::{
    durable,
    keyfile::{self, KeyFileError},
};

/// Most bytes in a PEM file: a chain of a dozen certificates.
pub const PEM_BYTES_MAX: usize = 256 << 10;
/// Shortest time between two looks at the files, in milliseconds.
pub const LOOK_MS: u64 = 1000;
/// The only protocol that is offered inside.
const ALPN: &[u8] = b"http/1.1";

/// Where certificate and key are: the `[tls]` table of a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate chain, PEM, the server's own first. No default.
    pub cert: PathBuf,
    /// The key of the first certificate, PEM, mode 0600. No default.
    pub key: PathBuf,
}

impl TlsFiles {
    /// The same files, with relative paths taken from a data folder.
    #[must_use]
    pub fn beside(&self, dir: &Path) -> Self {
        Self { cert: dir.join(&self.cert), key: dir.join(&self.key) }
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The key file is not there or others may read it.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A file is not what it should be.
    #[error("{path}: {what}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Certificate and key do not go together.
    #[error("{cert}: not usable with its key: {error}")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// What rustls said.
        error: rustls::Error,
    },
}

/// The provider of everything cryptographic in TLS, on both sides.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A certificate and its key, ready for handshakes. Clones share them.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: TlsFiles,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    stamps: Option<[Stamp; 2]>,
    looked: Instant,
}

/// What changes when a file is replaced or written: its time, its size, its number on the disk.
type Stamp = (Option<SystemTime>, u64, u64);

impl Tls {
    /// Reads the two files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        // The stamps first: what is written after them shows at the next look.
        let stamps = stamps(files);
        let config = read(files)?;
        let current = Mutex::new(Current { config, stamps, looked: Instant::now() });
        Ok(Self(Arc::new(Shared { files: files.clone(), current })))
    }

    /// For one handshake, with the files as they are now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= Duration::from_millis(LOOK_MS) {
            current.look(&self.0.files);
        }
        TlsAcceptor::from(Arc::clone(&current.config))
    }
}

impl Current {
    fn look(&mut self, files: &TlsFiles) {
        self.looked = Instant::now();
        let stamps = stamps(files);
        if stamps == self.stamps {
            return;
        }
        match read(files) {
            Ok(config) => {
                tracing::info!(cert = %files.cert.display(), "a new certificate is in use");
                (self.config, self.stamps) = (config, stamps);
            }
            // Half of the pair was replaced, say: the other half follows, and is looked for again.
            Err(error) => tracing::warn!(%error, "the certificate was replaced and cannot be used; the old one stays"),
        }
    }
}

fn stamps(files: &TlsFiles) -> Option<[Stamp; 2]> {
    let stamp = |path: &Path| fs::metadata(path).ok().map(|m| (m.modified().ok(), m.len(), m.ino()));
    Some([stamp(&files.cert)?, stamp(&files.key)?])
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = read_certificates(&files.cert)?;
    keyfile::check_mode(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&Zeroizing::new(read_file(&files.key)?))
        .map_err(|_| TlsError::Pem { path: files.key.clone(), what: "it holds no private key" })?;
    let pair = |error| TlsError::Pair { cert: files.cert.clone(), error };
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(pair)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(pair)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
/// [`TlsError::Io`], [`TlsError::Pem`].
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read_file(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::Pem { path: path.to_owned(), what: "it holds no certificate" }),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let io = |error| TlsError::Io { path: path.to_owned(), error };
    durable::read(path, PEM_BYTES_MAX)
        .map_err(io)?
        .ok_or_else(|| io(io::Error::new(io::ErrorKind::NotFound, "there is no such file")))
}
