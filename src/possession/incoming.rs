//! Proofs that send nothing: the person sends a message from the number or the mailbox to the prover's address.
//!
//! So whoever has had all codes of a CSI used up by strangers still gets in. A challenge of this kind has a text
//! instead of a code. It approves the key that started it once a message with that text has come from the CSI itself.
//!
//! ```text
//! app    ── POST /v1/challenges {"incoming": true} ──▶  {"incoming": {"to": "+4915100000000", "text": "waymark-proof 0123456789abcdef"}}
//! phone  ── that text ──▶  the operator's gateway or mail server  ──▶  waymark prover received --dir DIR --from +4915112345642
//! app    ── POST /v1/challenges/{id}/check {} ──▶  approved
//! ```
//!
//! **What it rests on.** What comes in is reported by whoever can write into the folder `incoming/` beside the prover's
//! configuration: a file that is named after the text's 16 hex digits and holds the CSI that sent it. The prover
//! believes that. So the operator's mail server must hand over only mail whose sender it has checked (DKIM or SPF,
//! aligned with the domain of `From`: DMARC), and the gateway only messages whose origin the network vouches for.
//! **Origins of text messages can be forged**; where an operator cannot tell, the channel is left out of
//! `[codes.incoming]`, as it is unless it is named. And as with a link, the person who sends may have been talked into
//! it by another one: attestations say how possession was shown
//! ([`Method::INCOMING`](waymark_mapping::mapping::Method::INCOMING)).

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use waymark_log::time::UnixMillis;
use waymark_mapping::identifier::Csi;
use waymark_runtime::durable;

use super::{CHALLENGE_MS, sender::Channel};

/// The folder, beside the configuration.
const FOLDER: &str = "incoming";
/// What the text begins with.
const WORD: &str = "waymark-proof";
/// Hex digits of a text: 64 bits.
const DIGITS: usize = 16;
/// Most bytes of a message that are looked through.
pub const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// Most bytes of a CSI in a file.
const CSI_BYTES_MAX: usize = 512;
/// Most files that are looked at in one sweep.
const SWEPT_MAX: usize = 10_000;

/// `[codes.incoming]`: where people send to. A channel that is not named is not offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncomingFile {
    /// The number for text messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sms: Option<String>,
    /// The mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

impl IncomingFile {
    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// What to mend.
    pub fn check(&self) -> Result<(), String> {
        let is = |scheme: &str, to: &Option<String>| {
            to.as_ref().is_none_or(|to| Csi::parse(&format!("{scheme}:{to}")).is_ok())
        };
        if !is("tel", &self.sms) {
            return Err("incoming: sms is a number such as +4915112345678".to_owned());
        }
        if !is("mailto", &self.email) {
            return Err("incoming: email is an address such as proof@dp.example".to_owned());
        }
        if self.sms.is_none() && self.email.is_none() {
            return Err("incoming: name sms or email, where people send to".to_owned());
        }
        Ok(())
    }
}

/// Where people send to, and what came in.
pub struct Incoming {
    folder: PathBuf,
    sms: Option<String>,
    email: Option<String>,
}

impl Incoming {
    /// What a checked configuration says; nothing is offered without one. `dir` is the data folder.
    pub fn new(dir: &Path, file: Option<&IncomingFile>) -> Self {
        let IncomingFile { sms, email } = file.cloned().unwrap_or_default();
        Self { folder: dir.join(FOLDER), sms, email }
    }

    /// For development: whoever may write into the folder is the phone.
    pub fn development(dir: &Path) -> Self {
        let to = Some(format!("the folder {FOLDER}"));
        Self { folder: dir.join(FOLDER), sms: to.clone(), email: to }
    }

    /// Where a message has to go, if this channel is offered.
    pub fn to(&self, channel: Channel) -> Option<&str> {
        match channel {
            Channel::Sms => self.sms.as_deref(),
            Channel::Email => self.email.as_deref(),
            Channel::Voice => None,
        }
    }

    /// Whether this CSI has sent this text.
    pub fn has_come(&self, token: &str, from: &Csi) -> bool {
        let read = durable::read(&self.folder.join(token), CSI_BYTES_MAX);
        read.is_ok_and(|bytes| bytes.is_some_and(|b| b.trim_ascii() == from.expose().as_bytes()))
    }

    /// The challenge is over.
    pub fn forget(&self, token: &str) {
        let _ = fs::remove_file(self.folder.join(token));
    }

    /// Removes what came in for challenges that are long over, or that never were.
    pub fn sweep(&self, now: UnixMillis) {
        let Ok(files) = fs::read_dir(&self.folder) else { return };
        let oldest = UNIX_EPOCH + Duration::from_millis(now.get().saturating_sub(2 * CHALLENGE_MS));
        for file in files.take(SWEPT_MAX).flatten() {
            let written = file.metadata().and_then(|m| m.modified());
            if written.is_ok_and(|written| written < oldest) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

/// The text that a person sends.
pub fn text(token: &str) -> String {
    format!("{WORD} {token}")
}

/// The token that is a part of 32 hex digits.
pub fn token(digits: &str) -> String {
    digits.chars().take(DIGITS).collect()
}

/// Takes a message that came in: its sender, whom the caller has checked, and its text. Says whether it was a proof.
///
/// # Errors
/// If the file cannot be written.
pub fn receive(dir: &Path, from: &Csi, message: &str) -> io::Result<bool> {
    let mut words = message.split_whitespace();
    let after =
        words.by_ref().find(|w| w.trim_start_matches("Subject:").eq_ignore_ascii_case(WORD)).and_then(|_| words.next());
    let is_token = |t: &&str| t.len() == DIGITS && t.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let Some(token) = after.map(str::to_ascii_lowercase) else { return Ok(false) };
    if !is_token(&token.as_str()) {
        return Ok(false);
    }
    let folder = dir.join(FOLDER);
    durable::private_folder(&folder)?;
    durable::replace_private(&folder.join(token), from.expose().as_bytes())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_for_its_sender_and_its_text_only() {
        let dir = tempfile::tempdir().unwrap();
        let csi = |text: &str| Csi::parse(text).unwrap();
        let (bob, eve) = (csi("tel:+4915112345642"), csi("tel:+4915112345643"));
        let incoming = Incoming::development(dir.path());
        let token = token("0123456789abcdef0123456789abcdef");
        assert!(!incoming.has_come(&token, &bob));
        for nothing in [
            "",
            "hello",
            "waymark-proof",
            "waymark-proof ../../../keys/x",
            "waymark-proof 0123456789abcde",
            "0123456789abcdef",
        ] {
            assert!(!receive(dir.path(), &bob, nothing).unwrap(), "{nothing}");
        }
        assert!(receive(dir.path(), &bob, &format!("Hello,\n {} bye", text(&token).to_uppercase())).unwrap());
        assert!(incoming.has_come(&token, &bob) && !incoming.has_come(&token, &eve));
        assert!(!incoming.has_come("0000000000000000", &bob));
        incoming.sweep(UnixMillis::new(0));
        assert!(incoming.has_come(&token, &bob));
        incoming.forget(&token);
        assert!(!incoming.has_come(&token, &bob));
    }

    #[test]
    fn nothing_is_offered_unless_it_is_named() {
        let none = Incoming::new(Path::new("x"), None);
        assert!(Channel::ALL.iter().all(|c| none.to(*c).is_none()));
        let file = IncomingFile { sms: None, email: Some("proof@dp.example".to_owned()) };
        assert_eq!(file.check(), Ok(()));
        let some = Incoming::new(Path::new("x"), Some(&file));
        assert_eq!((some.to(Channel::Email), some.to(Channel::Sms)), (Some("proof@dp.example"), None));
        assert!(IncomingFile::default().check().is_err());
        assert!(IncomingFile { sms: Some("0151".to_owned()), email: None }.check().is_err());
        assert!(IncomingFile { sms: None, email: Some("nobody".to_owned()) }.check().is_err());
    }
}
