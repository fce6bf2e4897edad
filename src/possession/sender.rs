//! How a code leaves the DP. For development: to the console, or to a folder with one file a challenge.
//!
//! Neither names the CSI: whoever reads the console or the folder learns codes, and may as well be the phone. SMS, voice and
//! e-mail come behind the same trait.

use std::{fs, io, path::PathBuf};

use data_encoding::HEXLOWER;
use waymark_mapping::{identifier::Csi, mapping::Method};

use super::ChallengeId;

/// A code could not be delivered.
#[derive(Debug, thiserror::Error)]
#[error("the code could not be delivered: {0}")]
pub struct SenderError(#[from] io::Error);

/// Delivers codes.
pub trait Sender: Send + Sync {
    /// Delivers a code to whoever holds the CSI.
    ///
    /// # Errors
    /// [`SenderError`].
    fn send(&self, id: &ChallengeId, csi: &Csi, code: &str) -> Result<(), SenderError>;

    /// How, for the attestation.
    fn method(&self) -> Method;

    /// The challenge is over.
    fn forget(&self, _id: &ChallengeId) {}
}

/// Prints codes on stdout.
#[derive(Debug, Default)]
pub struct Console;

impl Sender for Console {
    fn send(&self, id: &ChallengeId, _csi: &Csi, code: &str) -> Result<(), SenderError> {
        println!("challenge {}: the code is {code}", HEXLOWER.encode(id));
        Ok(())
    }

    fn method(&self) -> Method {
        Method::CONSOLE
    }
}

/// Writes each code to a file that is named by its challenge and removed when the challenge is over.
#[derive(Debug)]
pub struct Folder {
    folder: PathBuf,
}

impl Folder {
    /// Codes go to this folder, made if it is not there.
    ///
    /// # Errors
    /// [`SenderError`].
    pub fn new(folder: PathBuf) -> Result<Self, SenderError> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, id: &ChallengeId) -> PathBuf {
        self.folder.join(HEXLOWER.encode(id))
    }
}

impl Sender for Folder {
    fn send(&self, id: &ChallengeId, _csi: &Csi, code: &str) -> Result<(), SenderError> {
        Ok(fs::write(self.path(id), code)?)
    }

    fn method(&self) -> Method {
        Method::CONSOLE
    }

    fn forget(&self, id: &ChallengeId) {
        let _ = fs::remove_file(self.path(id));
    }
}
