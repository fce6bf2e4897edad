//! For development: codes to the console, or to a folder with one file a challenge.
//!
//! Neither names the CSI: whoever reads the console or the folder learns codes, and may as well be the phone.

use std::{fs, io, path::PathBuf};

use data_encoding::HEXLOWER;
use waymark_mapping::mapping::Method;

use super::{Channel, Delivery, Message, Sender, SenderError};
use crate::possession::ChallengeId;

/// Prints codes on stdout.
#[derive(Debug, Default)]
pub struct Console;

impl Sender for Console {
    fn deliver<'a>(&'a self, message: &'a Message) -> Delivery<'a> {
        println!("challenge {}: the code is {}", HEXLOWER.encode(&message.id), message.code);
        Box::pin(std::future::ready(Ok(())))
    }

    fn method(&self, _: Channel) -> Method {
        Method::CONSOLE
    }

    fn is_local(&self) -> bool {
        true
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
    /// If it cannot be made.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, id: &ChallengeId) -> PathBuf {
        self.folder.join(HEXLOWER.encode(id))
    }
}

impl Sender for Folder {
    fn deliver<'a>(&'a self, message: &'a Message) -> Delivery<'a> {
        let written = fs::write(self.path(&message.id), &message.code);
        let failed = |_| SenderError { sender: "folder", what: "the file could not be written", is_final: true };
        Box::pin(std::future::ready(written.map_err(failed)))
    }

    fn method(&self, _: Channel) -> Method {
        Method::CONSOLE
    }

    fn is_local(&self) -> bool {
        true
    }

    fn forget(&self, id: &ChallengeId) {
        let _ = fs::remove_file(self.path(id));
    }
}
