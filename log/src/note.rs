//! Signed notes: text, a blank line, and signature lines.
//!
//! ```text
//! <text, ending in a newline>
//! <empty line>
//! — <key name> <base64 of key ID[4] || signature>\n        one or more
//! ```
//!
//! The last empty line divides text from signatures. C2SP signed-note. Parsing is strict: `format(parse(x)) == x`, or an
//! error. Nothing in a note means anything before [`Note::check`] has said who signed it.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};

use crate::{
    hash::{Hash, decode_base64, decode_base64_of_any_spelling},
    key::{BadSignature, Key, SecretKey, Signature},
    mldsa::MlDsa44Key,
};

/// Most bytes in a note: sixteen ML-DSA-44 lines of some 3.3 KiB (C2SP asks for at least 16 signatures), twice over.
pub const NOTE_BYTES_MAX: usize = 128 * 1024;
/// Most signature lines in a note.
pub const SIGNATURES_MAX: usize = 64;
/// Most bytes in a key name: it must fit the one-byte length of an ML-DSA cosignature's message.
pub const KEY_NAME_BYTES_MAX: usize = 255;

/// Signature types (C2SP signed-note, "Signature types").
pub mod signature_type {
    /// Ed25519 over the note text.
    pub const ED25519: u8 = 0x01;
    /// Ed25519 over a dated checkpoint.
    pub const COSIGNATURE_ED25519: u8 = 0x04;
    /// ML-DSA-44 over a dated checkpoint or subtree.
    pub const COSIGNATURE_ML_DSA_44: u8 = 0x06;

    pub(super) const fn of(role: super::Role, key: &super::NoteKey) -> u8 {
        match (role, key) {
            (_, super::NoteKey::MlDsa44(_)) => COSIGNATURE_ML_DSA_44,
            (super::Role::Log, super::NoteKey::Ed25519(_)) => ED25519,
            (super::Role::Witness, super::NoteKey::Ed25519(_)) => COSIGNATURE_ED25519,
        }
    }
}

/// What can be wrong with a note or a verifier key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Over [`NOTE_BYTES_MAX`] bytes or [`SIGNATURES_MAX`] signatures.
    #[error("the note is over its size limits")]
    TooLarge,
    /// Not UTF-8, a control character, no blank line, or no signature lines.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// A key name is empty, too long, or has a space, a plus or a control character.
    #[error("not a key name")]
    BadKeyName,
    /// A verifier key is not name+ID+key, or its ID is not the hash of its key.
    #[error("not a verifier key: {0}")]
    BadVkey(&'static str),
    /// A verifier key of a signature type that this code does not know, or not in this place.
    #[error("signature type 0x{0:02x} is not supported")]
    UnsupportedType(u8),
    /// Two lines by the same known key.
    #[error("two signature lines by the same key {0}")]
    Repeated(KeyName),
    /// A line by a known key that does not verify.
    #[error("the signature by {0} does not verify")]
    BadSignature(KeyName),
}

/// The name of a key: no spaces, no plus, 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NoteError::BadKeyName`].
    pub fn new(name: &str) -> Result<Self, NoteError> {
        if !Self::is_well_formed(name) || name.len() > KEY_NAME_BYTES_MAX || name.contains(char::is_control) {
            return Err(NoteError::BadKeyName);
        }
        Ok(Self(name.to_owned()))
    }

    /// Whether it is a key name by the specification, which knows neither our limit nor our dislike of control
    /// characters.
    fn is_well_formed(name: &str) -> bool {
        // "Key names MUST be non-empty and MUST NOT contain any Unicode spaces or plus (U+002B) characters."
        !name.is_empty() && !name.contains(|c| is_space(c) || c == '+')
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Unicode spaces (White_Space), written out: a key name must not be good for one toolchain's tables and bad for another's.
const fn is_space(c: char) -> bool {
    matches!(
        c,
        '\t'..='\r'
            | ' '
            | '\u{85}'
            | '\u{a0}'
            | '\u{1680}'
            | '\u{2000}'..='\u{200a}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{202f}'
            | '\u{205f}'
            | '\u{3000}'
    )
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The short identifier of a key inside a note. Not a hash to rely on: with the name it says which key to try.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KeyId([u8; 4]);

impl KeyId {
    /// SHA-256(name || 0x0A || type || key), first four bytes.
    fn compute(name: &KeyName, signature_type: u8, key: &[u8]) -> Self {
        let hash = Hash::sha256(&[name.0.as_bytes(), b"\n", &[signature_type], key]);
        let [a, b, c, d, ..] = *hash.as_bytes();
        Self([a, b, c, d])
    }
}

/// A public key that verifies signature lines, by its algorithm.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NoteKey {
    /// Ed25519: a log's or a witness's.
    Ed25519(Key),
    /// ML-DSA-44: a witness's.
    MlDsa44(MlDsa44Key),
}

impl NoteKey {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(key) => key.as_bytes(),
            Self::MlDsa44(key) => key.as_bytes(),
        }
    }
}

/// A verifier key: `<name>+<hex key ID>+<base64 of type || key>`, for Ed25519 in one of its two roles or for an ML-DSA-44
/// witness.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Vkey {
    name: KeyName,
    id: KeyId,
    /// Never a log with an ML-DSA-44 key.
    role: Role,
    key: NoteKey,
}

/// What a verifier key's signatures say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Type 0x01: signs note texts; a log.
    Log,
    /// Type 0x04 or 0x06: signs dated checkpoints; a witness.
    Witness,
}

impl Vkey {
    /// The verifier key for an Ed25519 key with this name and role.
    pub fn new(name: KeyName, role: Role, key: Key) -> Self {
        Self::of(name, role, NoteKey::Ed25519(key))
    }

    /// The verifier key for a witness that cosigns with ML-DSA-44.
    pub fn ml_dsa_44(name: KeyName, key: MlDsa44Key) -> Self {
        Self::of(name, Role::Witness, NoteKey::MlDsa44(key))
    }

    fn of(name: KeyName, role: Role, key: NoteKey) -> Self {
        let id = KeyId::compute(&name, signature_type::of(role, &key), key.as_bytes());
        Self { name, id, role, key }
    }

    /// Reads a verifier key.
    ///
    /// # Errors
    /// [`NoteError::BadVkey`] for another form, a wrong ID or an unusable point; [`NoteError::BadKeyName`];
    /// [`NoteError::UnsupportedType`] for another signature type, of which neither key nor ID can be judged.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::BadVkey("not three parts divided by plus"));
        };
        let name = KeyName::new(name)?;
        let id = HEXLOWER.decode(id.as_bytes()).ok().and_then(|b| b.try_into().ok()).map(KeyId);
        let id = id.ok_or(NoteError::BadVkey("the key ID is not eight lower-case hex digits"))?;
        let bytes = decode_base64(key).ok_or(NoteError::BadVkey("the key is not base64"))?;
        let (signature_type, key) = bytes.split_first().ok_or(NoteError::BadVkey("the key is empty"))?;
        let (role, key) = read_key(*signature_type, key)?;
        let vkey = Self::of(name, role, key);
        if vkey.id != id {
            return Err(NoteError::BadVkey("the key ID does not belong to this name and key"));
        }
        if vkey.ed25519().is_some_and(|key| !key.is_usable()) {
            return Err(NoteError::BadVkey("not a usable Ed25519 point"));
        }
        Ok(vkey)
    }

    /// The name in signature lines.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// What its signatures say.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The key itself.
    pub const fn key(&self) -> &NoteKey {
        &self.key
    }

    /// The key itself, if it is an Ed25519 key. A log's always is.
    pub const fn ed25519(&self) -> Option<&Key> {
        match &self.key {
            NoteKey::Ed25519(key) => Some(key),
            NoteKey::MlDsa44(_) => None,
        }
    }

    /// The signature type of its lines.
    pub const fn signature_type(&self) -> u8 {
        signature_type::of(self.role, &self.key)
    }
}

/// What a verifier key holds behind its signature type.
fn read_key(signature_type: u8, key: &[u8]) -> Result<(Role, NoteKey), NoteError> {
    let ed25519 = |role| {
        let key = Key::from_slice(key).ok_or(NoteError::BadVkey("an Ed25519 key has 32 bytes"))?;
        Ok((role, NoteKey::Ed25519(key)))
    };
    match signature_type {
        signature_type::ED25519 => ed25519(Role::Log),
        signature_type::COSIGNATURE_ED25519 => ed25519(Role::Witness),
        signature_type::COSIGNATURE_ML_DSA_44 => {
            let key = MlDsa44Key::from_slice(key).ok_or(NoteError::BadVkey("an ML-DSA-44 key has 1,312 bytes"))?;
            Ok((Role::Witness, NoteKey::MlDsa44(key)))
        }
        other => Err(NoteError::UnsupportedType(other)),
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[self.signature_type()], self.key.as_bytes()].concat();
        write!(f, "{}+{}+{}", self.name, HEXLOWER.encode(&self.id.0), BASE64.encode(&bytes))
    }
}

impl fmt::Debug for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

const NOT_A_LINE: NoteError = NoteError::Malformed("a signature line is not: dash, name, base64");

/// One signature line, not yet verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignatureLine {
    name: KeyName,
    id: KeyId,
    /// What follows the key ID.
    body: Vec<u8>,
}

impl SignatureLine {
    /// A line by `vkey` with this signature body.
    pub fn new(vkey: &Vkey, body: Vec<u8>) -> Self {
        Self { name: vkey.name.clone(), id: vkey.id, body }
    }

    /// Reads one line without its newline.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let (name, encoded) = Self::split(line)?;
        let (id, body) = decode_base64(encoded).and_then(|bytes| Self::id_and_body(&bytes)).ok_or(NOT_A_LINE)?;
        Ok(Self { name: KeyName::new(name)?, id, body })
    }

    /// Reads one line of a note that anybody may have written. `None` is a line of a stranger for certain: it has the
    /// form, and a name that no key here can bear. A line in another spelling of its base64 stays, as one that no key
    /// verifies.
    fn parse_of_anybody(line: &str) -> Result<Option<Self>, NoteError> {
        let (name, encoded) = Self::split(line)?;
        if !KeyName::is_well_formed(name) {
            return Err(NoteError::BadKeyName);
        }
        let bytes = decode_base64_of_any_spelling(encoded).ok_or(NOT_A_LINE)?;
        let (id, mut body) = Self::id_and_body(&bytes).ok_or(NOT_A_LINE)?;
        if decode_base64(encoded).is_none() {
            // What was signed has one spelling. No signature is empty, so this one fails.
            body.clear();
        }
        Ok(KeyName::new(name).ok().map(|name| Self { name, id, body }))
    }

    /// Key name and base64.
    fn split(line: &str) -> Result<(&str, &str), NoteError> {
        line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' ')).ok_or(NOT_A_LINE)
    }

    fn id_and_body(bytes: &[u8]) -> Option<(KeyId, Vec<u8>)> {
        let (id, body) = bytes.split_first_chunk::<4>()?;
        (!body.is_empty()).then(|| (KeyId(*id), body.to_vec()))
    }

    /// The name of the key that is said to have signed.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// The bytes after the key ID.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether name and key ID are this key's.
    pub fn is_by(&self, vkey: &Vkey) -> bool {
        self.name == vkey.name && self.id == vkey.id
    }
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id.0[..], &self.body].concat();
        writeln!(f, "\u{2014} {} {}", self.name, BASE64.encode(&bytes))
    }
}

/// A note as it was received: a text and lines that claim to sign it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    text: String,
    lines: Vec<SignatureLine>,
}

impl Note {
    /// Reads a note. Nothing is verified.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        Self::parse_with(bytes, |line| SignatureLine::parse(line).map(Some))
    }

    /// Reads a note as a witness must, to which anybody may write: "it MUST ignore signatures from unknown keys" (C2SP
    /// tlog-witness), be their names as long and as odd as the specification allows. Such lines are left out. This is
    /// the one reader whose result need not format to what was read.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn parse_of_anybody(bytes: &[u8]) -> Result<Self, NoteError> {
        Self::parse_with(bytes, SignatureLine::parse_of_anybody)
    }

    fn parse_with(
        bytes: &[u8],
        read: impl Fn(&str) -> Result<Option<SignatureLine>, NoteError>,
    ) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLarge);
        }
        let all = std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("not UTF-8"))?;
        // "MUST NOT contain any ASCII control characters (those below U+0020) other than newline."
        if all.bytes().any(|b| b < 0x20 && b != b'\n') {
            return Err(NoteError::Malformed("a control character"));
        }
        // "the text is separated from the signatures by the last empty line in the note"
        let split = all.rfind("\n\n").ok_or(NoteError::Malformed("no blank line"))?;
        let (text, lines) = (&all[..=split], &all[split + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed("no signature lines, or no final newline"))?;
        let mut parsed = Vec::new();
        for (count, line) in lines.split('\n').enumerate() {
            if count == SIGNATURES_MAX {
                return Err(NoteError::TooLarge);
            }
            parsed.extend(read(line)?);
        }
        Ok(Self { text: text.to_owned(), lines: parsed })
    }

    /// A note of our own making.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] if the text does not end in a newline, has control characters, or there is no line.
    pub fn new(text: String, lines: Vec<SignatureLine>) -> Result<Self, NoteError> {
        let note = Self { text, lines };
        // One definition of a good note: the parser's.
        if Self::parse(note.format().as_bytes())? == note { Ok(note) } else { Err(NoteError::Malformed("the text")) }
    }

    /// The note as text.
    pub fn format(&self) -> String {
        let mut out = format!("{}\n", self.text);
        for line in &self.lines {
            out.push_str(&line.to_string());
        }
        out
    }

    /// The signed text, newline included. Meaningless until [`Note::check`] has found a signature that one trusts.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All signature lines.
    pub fn lines(&self) -> &[SignatureLine] {
        &self.lines
    }

    /// The line by `vkey`, if there is one, still to be verified.
    ///
    /// # Errors
    /// [`NoteError::Repeated`] if there are two.
    pub fn line_by(&self, vkey: &Vkey) -> Result<Option<&SignatureLine>, NoteError> {
        let mut lines = self.lines.iter().filter(|l| l.is_by(vkey));
        let line = lines.next();
        if lines.next().is_some() {
            return Err(NoteError::Repeated(vkey.name.clone()));
        }
        Ok(line)
    }

    /// Looks for a signature by `vkey` (a type 0x01 key) and verifies it: `false` means that the key did not sign.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] if a line bears its name and ID and does not verify: the note is to be rejected whole.
    pub fn check(&self, vkey: &Vkey) -> Result<bool, NoteError> {
        let Some(line) = self.line_by(vkey)? else { return Ok(false) };
        self.verify_line(line, vkey)?;
        Ok(true)
    }

    /// The first line by `vkey`, verified, as a witness looks for it: a good line may stand there more than once.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] if any line bears its name and ID and does not verify.
    pub fn check_each(&self, vkey: &Vkey) -> Result<Option<&SignatureLine>, NoteError> {
        let mut lines = self.lines.iter().filter(|line| line.is_by(vkey));
        let Some(first) = lines.next() else { return Ok(None) };
        self.verify_line(first, vkey)?;
        // The same line again costs no verification, so sixty-four of them cost what one does.
        lines.filter(|line| *line != first).try_for_each(|line| self.verify_line(line, vkey))?;
        Ok(Some(first))
    }

    fn verify_line(&self, line: &SignatureLine, vkey: &Vkey) -> Result<(), NoteError> {
        let verified = match (vkey.role, &vkey.key, Signature::from_slice(&line.body)) {
            (Role::Log, NoteKey::Ed25519(key), Some(signature)) => key.verify(self.text.as_bytes(), &signature),
            _ => Err(BadSignature),
        };
        verified.map_err(|_| NoteError::BadSignature(vkey.name.clone()))
    }
}

/// A key that signs note texts (type 0x01).
#[derive(Debug, Clone)]
pub struct NoteSigner {
    vkey: Vkey,
    secret: SecretKey,
}

impl NoteSigner {
    /// A signer with this name.
    pub fn new(name: KeyName, secret: SecretKey) -> Self {
        Self { vkey: Vkey::new(name, Role::Log, secret.public()), secret }
    }

    /// Its verifier key.
    pub const fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    /// Its public key.
    pub fn key(&self) -> Key {
        self.secret.public()
    }

    /// Signs a text.
    pub fn sign(&self, text: &str) -> SignatureLine {
        SignatureLine::new(&self.vkey, self.secret.sign(text.as_bytes()).as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE_VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const EXAMPLE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    #[test]
    fn the_example_of_the_specification() {
        let vkey = Vkey::parse(EXAMPLE_VKEY).unwrap();
        assert_eq!(vkey.to_string(), EXAMPLE_VKEY);
        let note = Note::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(note.format(), EXAMPLE);
        assert_eq!(note.check(&vkey), Ok(true));
    }

    #[test]
    fn every_flipped_bit_loses_the_signature() {
        let vkey = Vkey::parse(EXAMPLE_VKEY).unwrap();
        for bit in 0..EXAMPLE.len() * 8 {
            let mut bytes = EXAMPLE.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let signed = Note::parse(&bytes).and_then(|n| n.check(&vkey));
            assert_ne!(signed, Ok(true), "bit {bit}");
        }
    }

    #[test]
    fn the_last_blank_line_divides() {
        let signer = NoteSigner::new(KeyName::new("a.example").unwrap(), SecretKey::from_seed(&[1; 32]));
        let text = "one\n\n\u{2014} not.example a signature\n\ntwo\n";
        let note = Note::new(text.to_owned(), vec![signer.sign(text)]).unwrap();
        let parsed = Note::parse(note.format().as_bytes()).unwrap();
        assert_eq!(parsed.text(), text);
        assert_eq!(parsed.check(signer.vkey()), Ok(true));
    }

    #[test]
    fn unknown_lines_are_ignored_and_known_bad_ones_reject() {
        let signer = NoteSigner::new(KeyName::new("a.example").unwrap(), SecretKey::from_seed(&[1; 32]));
        let other = NoteSigner::new(KeyName::new("a.example").unwrap(), SecretKey::from_seed(&[2; 32]));
        let ml_dsa = format!("\u{2014} w.example {}", BASE64.encode(&[6; 4 + 8 + 2420]));
        let text = "x\n".to_owned();
        let lines = vec![other.sign(&text), SignatureLine::parse(&ml_dsa).unwrap(), signer.sign(&text)];
        let note = Note::new(text.clone(), lines).unwrap();
        assert_eq!(note.check(signer.vkey()), Ok(true));

        let forged = Note::new(text.clone(), vec![SignatureLine::new(signer.vkey(), vec![0; 64])]).unwrap();
        assert_eq!(forged.check(signer.vkey()), Err(NoteError::BadSignature(signer.vkey().name.clone())));
        let twice = Note::new(text.clone(), vec![signer.sign(&text), signer.sign(&text)]).unwrap();
        assert_eq!(twice.check(signer.vkey()), Err(NoteError::Repeated(signer.vkey().name.clone())));
        let unsigned = Note::new(text.clone(), vec![other.sign(&text)]).unwrap();
        assert_eq!(unsigned.check(signer.vkey()), Ok(false));
        // A witness takes a good line as often as it stands there, and none beside one that fails.
        assert_eq!(twice.check_each(signer.vkey()), Ok(Some(&signer.sign(&text))));
        assert_eq!(unsigned.check_each(signer.vkey()), Ok(None));
        let bad = SignatureLine::new(signer.vkey(), vec![0; 64]);
        for lines in [vec![signer.sign(&text), bad.clone()], vec![bad, signer.sign(&text)]] {
            let mixed = Note::new(text.clone(), lines).unwrap();
            assert_eq!(mixed.check_each(signer.vkey()), Err(NoteError::BadSignature(signer.vkey().name.clone())));
        }
    }

    #[test]
    fn a_witness_leaves_out_names_that_no_key_can_bear_and_keeps_to_the_specification() {
        let read = |lines: &str| Note::parse_of_anybody(format!("x\n\n{lines}").as_bytes());
        let long = "n".repeat(KEY_NAME_BYTES_MAX + 1);
        for name in [long.as_str(), "with\u{7f}delete", "with\u{9b}control"] {
            let line = format!("\u{2014} {name} AAAAAAA=\n");
            assert!(Note::parse(format!("x\n\n{line}").as_bytes()).is_err());
            assert_eq!(read(&line).map(|note| note.lines.len()), Ok(0), "{name}");
            assert_eq!(read(&format!("{line}\u{2014} a AAAAAAA=\n")).map(|note| note.lines.len()), Ok(1));
        }
        for bad in
            ["\u{2014}  AAAAAAA=\n", "\u{2014} a+b AAAAAAA=\n", "\u{2014} a\u{85}b AAAAAAA=\n", "\u{2014} a AAAA\n"]
        {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        let many = format!("\u{2014} {long} AAAAAAA=\n").repeat(SIGNATURES_MAX + 1);
        assert_eq!(read(&many), Err(NoteError::TooLarge));
        // Another spelling of a good signature is not valid.
        let signer = NoteSigner::new(KeyName::new("a.example").unwrap(), SecretKey::from_seed(&[1; 32]));
        let line = signer.sign("x\n").to_string();
        assert_eq!(read(&line).unwrap().check_each(signer.vkey()).map(|line| line.is_some()), Ok(true));
        let last = line.find('=').unwrap() - 1;
        let other = char::from(line.as_bytes()[last] + 1);
        let spelled = format!("{}{other}{}", &line[..last], &line[last + 1..]);
        let note = read(&spelled).unwrap();
        assert_eq!(note.check_each(signer.vkey()), Err(NoteError::BadSignature(signer.vkey().name.clone())));
    }

    #[test]
    fn a_key_name_has_no_space_of_any_kind() {
        let spaces: Vec<char> = ('\0'..=char::MAX).filter(|c| is_space(*c)).collect();
        assert_eq!(spaces.len(), 25);
        for c in spaces {
            assert!(c.is_whitespace());
            assert_eq!(KeyName::new(&format!("a{c}b")), Err(NoteError::BadKeyName), "{}", c.escape_unicode());
        }
    }

    #[test]
    fn malformed_notes_and_keys() {
        let many = format!("x\n\n{}", "\u{2014} a AAAAAAA=\n".repeat(SIGNATURES_MAX + 1));
        let huge = vec![b'x'; NOTE_BYTES_MAX + 1];
        for bad in [
            &b""[..],
            b"\n",
            b"\n\n",
            b"x\n\n",
            b"x\n\ny\n",
            b"x\xff\n\n",
            b"x\t\n\n\xe2\x80\x94 a AAAAAAA=\n",
            many.as_bytes(),
            &huge,
        ] {
            assert!(Note::parse(bad).is_err());
        }
        for line in [
            "- a AAAAAAA=",
            "\u{2014}  AAAAAAA=",
            "\u{2014} a+b AAAAAAA=",
            "\u{2014} a AAAA",
            "\u{2014} a AAAAAAA",
            "\u{2014} a b AAAAAAA=",
        ] {
            assert!(SignatureLine::parse(line).is_err(), "{line}");
        }
        for vkey in [
            "",
            "a",
            "a+b",
            "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
            "exam ple+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        ] {
            assert!(Vkey::parse(vkey).is_err(), "{vkey}");
        }
        let weak = Vkey::new(KeyName::new("w").unwrap(), Role::Log, Key::new([0; 32]));
        assert!(Vkey::parse(&weak.to_string()).is_err());
    }

    proptest! {
        #[test]
        fn parsing_is_strict(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(note) = Note::parse(&bytes) {
                prop_assert_eq!(note.format().into_bytes(), bytes);
            }
        }

        #[test]
        fn near_notes_round_trip_or_fail(text in "[ -~\n\u{2014}]{0,60}", tail in "(\u{2014} [a-z+ ]{0,5} [A-Za-z0-9+/=]{0,16}\n){0,3}") {
            let all = format!("{text}\n{tail}");
            if let Ok(note) = Note::parse(all.as_bytes()) {
                prop_assert_eq!(note.format(), all);
            }
        }
    }
}
