//! Proofs that begin with a message from the person: from the number or the mailbox to the prover's address.
//!
//! So a person who has had all codes of a CSI used up by strangers still gets in. A challenge of this kind has a text
//! instead of a code. Once a text message with it has come from the number itself, the challenge approves the key
//! that started it, and nothing was sent. Once a mail with it has come from the mailbox itself, the challenge's code
//! is sent there: beyond the codes that strangers may use up, and charged to an account that only such mails are
//! charged to ([`super::budget`]).
//!
//! ```text
//! app    ── POST /v1/challenges {"incoming": true} ──▶  {"incoming": {"to": "+4915100000000", "text": "waymark-proof 0123456789abcdef"}}
//! phone  ── that text ──▶  the operator's gateway or mail server  ──▶  waymark prover received --dir DIR --from +4915112345642
//! app    ── POST /v1/challenges/{id}/check {} ──▶  approved; after a mail pending with "delivery": the code is on its way
//! ```
//!
//! **A mail alone proves nothing**, whatever stands in it. A stranger's mail with `List-Unsubscribe:
//! <mailto:…?subject=…>` has the person's mail program send a new mail with the stranger's words at one click, signed
//! like any other; `mailto:` sets the body, too. So a mail says that somebody there may want a code, and the code
//! shows who reads there. A text message counts by itself: no phone sends one without showing it first.
//!
//! **A call is not offered.** Anybody can show any number when calling, and a call carries no text.
//!
//! **What it rests on.** What comes in is reported by anybody who can write into the folder `incoming/` beside the prover's
//! configuration: a file that is named after the text's 16 hex digits and holds the CSI that sent it. The prover
//! believes that. So the operator's mail server must hand over only mail whose sender it has checked (DKIM or SPF,
//! aligned with the domain of `From`: DMARC), and the gateway only messages whose origin the network vouches for.
//! **Origins of text messages can be forged**; where an operator cannot tell, the channel is left out of
//! `[codes.incoming]`, as it is unless it is named. And as with a link, the person who sends may have been talked into
//! it by another one: attestations say how possession was shown
//! ([`Method::INCOMING`](waymark_mapping::mapping::Method::INCOMING)).
//!
//! **A message counts only where its sender wrote the text** ([`NoProof`]). Programs answer mail: anybody who mails the
//! text to somebody, and names the prover as the one to answer, may get `Re: waymark-proof 0123456789abcdef` sent from
//! there, honestly signed. So a mail counts if its subject is the text and nothing else, or if it has no subject and its
//! first line is; one that shows in its header that it is an answer, or that a program sent it, never does. A text
//! message is just the text.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};
use waymark_log::time::UnixMillis;
use waymark_mapping::identifier::{Csi, Scheme};
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

    /// For development: a program that writes into the folder takes the place of the phone.
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
        for file in files.take(SWEPT_MAX).flatten() {
            let Ok(written) = file.metadata().and_then(|m| m.modified()) else { continue };
            let written_ms = written.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            // Both ways: what a clock that was ahead has dated would else stay until that time has come.
            if written_ms.abs_diff(now.get().into()) > u128::from(2 * CHALLENGE_MS) {
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

/// Why a message that came in is no proof. Repeats nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    /// The text is not there, or not alone.
    #[error(
        "a mail must have the text of a challenge as its subject, a text message must be that text, and nothing else"
    )]
    NoText,
    /// What shows who wrote a mail is missing.
    #[error("the mail has no whole header: hand it over as it came, with its header and the empty line after that")]
    NoHeader,
    /// Somebody else may have chosen the words.
    #[error("the mail is an answer, or a program sent it: its header has {0}")]
    Answer(&'static str),
}

/// Takes a message that came in: its sender, whom the caller has checked, and the whole message, of a mail with the
/// header. Says if it is no proof.
///
/// # Errors
/// If the file cannot be written.
pub fn receive(dir: &Path, from: &Csi, message: &str) -> io::Result<Result<(), NoProof>> {
    let text = if from.scheme() == Scheme::Mailto { text_of_mail(message) } else { Ok(message.to_owned()) };
    let token = match text.and_then(|text| token_in(&text).ok_or(NoProof::NoText)) {
        Ok(token) => token,
        Err(why) => return Ok(Err(why)),
    };
    let folder = dir.join(FOLDER);
    durable::private_folder(&folder)?;
    durable::replace_private(&folder.join(token), from.expose().as_bytes())?;
    Ok(Ok(()))
}

/// The token of a text that is the text of a challenge and nothing else.
fn token_in(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    let (word, token) = (words.next()?, words.next()?.to_ascii_lowercase());
    let is_token = token.len() == DIGITS && token.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (word.eq_ignore_ascii_case(WORD) && is_token && words.next().is_none()).then_some(token)
}

/// What a person wrote where an answer has nothing of the mail that it answers: the subject; without one, the first line
/// of a mail that is plain text.
fn text_of_mail(mail: &str) -> Result<String, NoProof> {
    let (fields, body) = split(mail).ok_or(NoProof::NoHeader)?;
    if let Some(sign) = fields.iter().find_map(|(name, value)| sign_of_answer(name, value)) {
        return Err(NoProof::Answer(sign));
    }
    let values = |name: &str| fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.trim()).collect::<Vec<_>>();
    match values("subject")[..] {
        [] | [""] => {}
        [subject] => return Ok(subject.to_owned()),
        _ => return Err(NoProof::NoText),
    }
    if values("content-type").iter().any(|v| !v.to_ascii_lowercase().starts_with("text/plain")) {
        return Err(NoProof::NoText);
    }
    Ok(body.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned())
}

/// What in a header shows that a mail is an answer, or that a program sent it (RFC 3834, RFC 5322, RFC 2369).
fn sign_of_answer(name: &str, value: &str) -> Option<&'static str> {
    let is_bare = || value.trim_matches(|c: char| c.is_whitespace() || "<>".contains(c)).is_empty();
    match name {
        "auto-submitted" if !value.trim().eq_ignore_ascii_case("no") => Some("Auto-Submitted"),
        "return-path" if is_bare() => Some("an empty Return-Path"),
        "precedence" => Some("Precedence"),
        "in-reply-to" => Some("In-Reply-To"),
        "references" => Some("References"),
        _ if name.starts_with("x-auto") => Some("X-Auto..."),
        _ if name.starts_with("list-") => Some("List-..."),
        _ => None,
    }
}

/// The fields of a mail's header, names in lower case, and what follows it. `None` without a whole header.
fn split(mail: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut fields: Vec<(String, String)> = vec![];
    // Some mail servers put a line of their own before what they hand over.
    let mut rest = if mail.starts_with("From ") { mail.split_once('\n')?.1 } else { mail };
    loop {
        let (line, after) = rest.split_once('\n')?;
        rest = after;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            return (!fields.is_empty()).then_some((fields, rest));
        }
        if line.starts_with([' ', '\t']) {
            fields.last_mut()?.1.push_str(line);
        } else {
            let (name, value) = line.split_once(':')?;
            fields.push((name.trim_end().to_ascii_lowercase(), value.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn csi(text: &str) -> Csi {
        Csi::parse(text).unwrap()
    }

    #[test]
    fn a_message_counts_for_its_sender_and_its_text_only() {
        let dir = tempfile::tempdir().unwrap();
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
            TOKEN,
            "Hello, waymark-proof 0123456789abcdef",
            "waymark-proof 0123456789abcdef bye",
            "> waymark-proof 0123456789abcdef",
            "Re: waymark-proof 0123456789abcdef",
            "Subject: waymark-proof 0123456789abcdef\n\n",
        ] {
            assert_eq!(receive(dir.path(), &bob, nothing).unwrap(), Err(NoProof::NoText), "{nothing}");
        }
        assert_eq!(receive(dir.path(), &bob, &format!(" {}\n", text(&token).to_uppercase())).unwrap(), Ok(()));
        assert!(incoming.has_come(&token, &bob) && !incoming.has_come(&token, &eve));
        assert!(!incoming.has_come("0000000000000000", &bob));
        // It goes when its time is over, and when its time lies far ahead.
        let path = dir.path().join(FOLDER).join(&token);
        let written = fs::metadata(&path).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
        let written = u64::try_from(written.as_millis()).unwrap();
        for (now, stays) in [(written, true), (written + 3 * CHALLENGE_MS, false), (written - 3 * CHALLENGE_MS, false)]
        {
            receive(dir.path(), &bob, &text(&token)).unwrap().unwrap();
            incoming.sweep(UnixMillis::new(now));
            assert_eq!(incoming.has_come(&token, &bob), stays);
        }
        receive(dir.path(), &bob, &text(&token)).unwrap().unwrap();
        incoming.forget(&token);
        assert!(!incoming.has_come(&token, &bob));
    }

    /// What becomes of a mail with these lines in its header and this body.
    fn mailed(header: &str, body: &str) -> Result<(), NoProof> {
        let dir = tempfile::tempdir().unwrap();
        let ann = csi("mailto:ann@post.example");
        let mail =
            format!("From: Ann <ann@post.example>\nTo: proof@dp.example\n{header}\n\n{body}").replace('\n', "\r\n");
        let received = receive(dir.path(), &ann, &mail).unwrap();
        let has_come = Incoming::development(dir.path()).has_come(TOKEN, &ann);
        assert_eq!(has_come, received.is_ok());
        received
    }

    #[test]
    fn a_mail_counts_whose_subject_is_the_text_or_whose_first_line_is_where_it_has_no_subject() {
        for header in [
            "Subject: waymark-proof 0123456789abcdef",
            "SUBJECT:Waymark-Proof  0123456789ABCDEF ",
            "Subject: waymark-proof\n 0123456789abcdef",
            "Return-Path: <ann@post.example>\nAuto-Submitted: no\nSubject: waymark-proof 0123456789abcdef",
        ] {
            assert_eq!(mailed(header, ""), Ok(()), "{header}");
            assert_eq!(mailed(header, "Hello,\n-- \nAnn\n"), Ok(()), "{header}");
        }
        let body = "\n waymark-proof 0123456789abcdef\n-- \nAnn\n";
        for header in ["X-Mailer: x", "Subject: ", "Subject:\nContent-Type: text/plain; charset=utf-8"] {
            assert_eq!(mailed(header, body), Ok(()), "{header}");
        }
        // Some mail servers begin with a line of their own.
        let (dir, ann) = (tempfile::tempdir().unwrap(), csi("mailto:ann@post.example"));
        let mail = "From ann@post.example Sun Nov 22 10:00:00 2026\nSubject: waymark-proof 0123456789abcdef\n\n";
        assert_eq!(receive(dir.path(), &ann, mail).unwrap(), Ok(()));
    }

    #[test]
    fn an_answer_to_a_mail_with_the_text_is_no_proof_also_where_a_program_sent_it_just_so() {
        // The text alone as subject and as first line: only these lines give it away.
        for sign in [
            "Auto-Submitted: auto-replied",
            "Auto-Submitted: auto-generated; owner-email=\"x\"",
            "Auto-Submitted:",
            "Precedence: bulk",
            "X-Autoreply: yes",
            "X-Auto-Response-Suppress: All",
            "List-Id: <all.post.example>",
            "In-Reply-To: <1@eve.example>",
            "References:\n <1@eve.example>",
            "Return-Path: <>",
            "return-path : < >",
        ] {
            let header = format!("Subject: waymark-proof 0123456789abcdef\n{sign}");
            let answer = mailed(&header, "waymark-proof 0123456789abcdef\n");
            assert!(matches!(answer, Err(NoProof::Answer(_))), "{sign}: {answer:?}");
        }
    }

    #[test]
    fn a_text_that_somebody_else_brought_into_a_mail_is_no_proof() {
        let text = "waymark-proof 0123456789abcdef";
        for (header, body) in [
            // An answer of a person or of a program that does not say so.
            ("Subject: Re: waymark-proof 0123456789abcdef", text),
            ("Subject: AW: waymark-proof 0123456789abcdef", ""),
            ("Subject: Fwd: waymark-proof 0123456789abcdef", text),
            ("Subject: Automatic reply: waymark-proof 0123456789abcdef", "I am out of office.\n"),
            ("Subject: Out of office: waymark-proof 0123456789abcdef", text),
            ("Subject: [#17] waymark-proof 0123456789abcdef", text),
            ("Subject: waymark-proof 0123456789abcdef was received", text),
            ("Subject: We have got your message", text),
            // A quotation.
            ("Subject: ", "> waymark-proof 0123456789abcdef\n"),
            ("Subject: ", "On Sunday Eve wrote:\n> waymark-proof 0123456789abcdef\n"),
            ("Subject: ", "Thank you for:\nwaymark-proof 0123456789abcdef\n"),
            // The name of the address that it goes to, and every other line of the header.
            ("Subject: hello\nTo: \"waymark-proof 0123456789abcdef\" <proof@dp.example>", ""),
            ("Cc: waymark-proof 0123456789abcdef <proof@dp.example>\nThread-Topic: waymark-proof 0123456789abcdef", ""),
            ("X-Subject: waymark-proof 0123456789abcdef", ""),
            ("Subject: hello\nSubject: waymark-proof 0123456789abcdef", ""),
            ("Subject: hello\n Subject: waymark-proof 0123456789abcdef", ""),
            // Parts are not looked into.
            (
                "Subject:\nContent-Type: multipart/alternative; boundary=b",
                "--b\nContent-Type: text/plain\n\nwaymark-proof 0123456789abcdef\n--b--\n",
            ),
            ("Subject:\nContent-Type: text/html", text),
            ("Subject:\nContent-Type: text/plain\nContent-Type: text/html", text),
        ] {
            assert_eq!(mailed(header, body), Err(NoProof::NoText), "{header}\n\n{body}");
        }
    }

    #[test]
    fn a_mail_without_its_whole_header_is_no_proof() {
        let (dir, ann) = (tempfile::tempdir().unwrap(), csi("mailto:ann@post.example"));
        for mail in [
            "",
            "waymark-proof 0123456789abcdef",
            "waymark-proof 0123456789abcdef\n\n",
            "\nwaymark-proof 0123456789abcdef\n",
            "Subject: waymark-proof 0123456789abcdef",
            "Subject: waymark-proof 0123456789abcdef\nIn-Reply-T",
            " x\nSubject: waymark-proof 0123456789abcdef\n\n",
            "Subject: waymark-proof 0123456789abcdef\nno field\n\n",
        ] {
            assert_eq!(receive(dir.path(), &ann, mail).unwrap(), Err(NoProof::NoHeader), "{mail}");
        }
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
