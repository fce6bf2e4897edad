//! A recipient key, to be compared without the DP: read aloud, printed on a card, or as a QR code from screen to camera.
//!
//! ```text
//! waymark-key/1 <origin> <size> <fingerprint>
//! fingerprint   the first 15 bytes of SHA-256(opaque "waymark/1 key text"<1..255> || opaque origin<1..255> || Csi csi
//!               || Key recipient), in base32 (RFC 4648), six groups of four: ABCD-EFGH-IJKL-MNOP-QRST-UVWX
//! ```
//!
//! What it binds: one key, for one identifier, at one log. The text does not hold the identifier, and nobody can get it out
//! of the fingerprint by trying numbers without knowing the key, which only those learn who may ask the DP. 120 bits: a
//! second key with the same fingerprint cannot be found. It binds no version and no label: it must hold for as long as the
//! app has its key, and a label would tell whoever sees the card which entry of the log is this person's.
//!
//! `size` is the tree in which the recipient's app last found its key. A sender who is shown a smaller one is kept behind.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use waymark_log::{checkpoint::Origin, hash::Hash, key::Key};
use waymark_mapping::{identifier::Csi, signed::message, wire::encode};

const MAGIC: &str = "waymark-key/1";
const CONTEXT: &str = "waymark/1 key text";
/// Bytes of a fingerprint: 24 letters of base32, without a rest.
const FINGERPRINT_BYTES: usize = 15;
/// Letters in a group of a fingerprint.
const GROUP: usize = 4;
/// Most bytes in a text: the longest origin, the longest size, and the rest.
pub const KEY_TEXT_BYTES_MAX: usize = 320;

/// What two people compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

/// What a recipient's app shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyText {
    /// The log's origin.
    pub origin: Origin,
    /// The size of the tree in which the app last found its key.
    pub size: u64,
    /// The fingerprint.
    pub fingerprint: Fingerprint,
}

/// A text that is none of these. Never quotes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not what `waymark recipient show-key` prints")]
pub struct NotAKeyText;

impl Fingerprint {
    /// Of a recipient key, for a CSI, at a log.
    pub fn of(origin: &Origin, csi: &Csi, recipient: &Key) -> Self {
        let fields = [encode(csi), recipient.as_bytes().to_vec()].concat();
        let hash = Hash::sha256(&[&message(CONTEXT, origin, &fields)]);
        let mut bytes = [0; FINGERPRINT_BYTES];
        bytes.copy_from_slice(&hash.as_bytes()[..FINGERPRINT_BYTES]);
        Self(bytes)
    }

    /// Reads one, as people type it: in either case, with or without hyphens.
    fn parse(text: &str) -> Option<Self> {
        let letters: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_uppercase()).collect();
        let bytes = BASE32_NOPAD.decode(letters.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = BASE32_NOPAD.encode(&self.0);
        for (i, letter) in letters.chars().enumerate() {
            if i > 0 && i % GROUP == 0 {
                f.write_str("-")?;
            }
            write!(f, "{letter}")?;
        }
        Ok(())
    }
}

impl KeyText {
    /// Reads a text.
    ///
    /// # Errors
    /// [`NotAKeyText`].
    pub fn parse(text: &str) -> Result<Self, NotAKeyText> {
        let text = text.trim();
        if text.len() > KEY_TEXT_BYTES_MAX {
            return Err(NotAKeyText);
        }
        let parse = || {
            let mut from_the_end = text.strip_prefix(MAGIC)?.strip_prefix(' ')?.rsplitn(3, ' ');
            let fingerprint = Fingerprint::parse(from_the_end.next()?)?;
            let size = from_the_end.next()?.parse().ok()?;
            let origin = Origin::new(from_the_end.next()?).ok()?;
            Some(Self { origin, size, fingerprint })
        };
        parse().ok_or(NotAKeyText)
    }

    /// The text as a QR code of half blocks, two modules a character, for a terminal.
    ///
    /// # Panics
    /// Never: the longest text is a fraction of what a QR code holds.
    pub fn to_qr(&self) -> String {
        let code = QrCode::with_error_correction_level(self.to_string(), EcLevel::M).expect("a short text");
        // Terminals are mostly light on dark: what is drawn as blocks must be the light modules.
        code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build()
    }
}

impl fmt::Display for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MAGIC} {} {} {}", self.origin.as_str(), self.size, self.fingerprint)
    }
}

/// What comparing has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compared {
    /// This key is the one shown.
    Match(Key),
    /// The key is right, but the sender sees a smaller tree than the recipient's app did: an older view. Look again.
    Behind,
    /// None of the keys is the one shown, or the text is of another log: treat as an attack.
    Mismatch,
}

/// Compares a text with the recipient keys that a look-up of `csi` at `origin` has proved, in a tree of `size` entries.
pub fn compare<'a>(
    text: &KeyText,
    origin: &Origin,
    size: u64,
    csi: &Csi,
    keys: impl IntoIterator<Item = &'a Key>,
) -> Compared {
    let found = keys.into_iter().find(|key| Fingerprint::of(origin, csi, key) == text.fingerprint);
    match found {
        // An old view that lacks the key is no better for being old: it is what the DP showed.
        None => Compared::Mismatch,
        Some(_) if text.origin != *origin => Compared::Mismatch,
        Some(_) if size < text.size => Compared::Behind,
        Some(key) => Compared::Match(*key),
    }
}

#[cfg(test)]
mod tests {
    use waymark_log::key::SecretKey;

    use super::*;

    fn key(seed: u8) -> Key {
        SecretKey::from_seed(&[seed; 32]).public()
    }

    fn bob() -> (Origin, Csi, KeyText) {
        let (origin, csi) = (Origin::new("dp.example/log").unwrap(), Csi::parse("tel:+4915112345642").unwrap());
        let fingerprint = Fingerprint::of(&origin, &csi, &key(1));
        let text = KeyText { origin: origin.clone(), size: 5321, fingerprint };
        (origin, csi, text)
    }

    #[test]
    fn the_text_reads_back_and_says_nothing_of_the_identifier() {
        let (_, _, text) = bob();
        let written = text.to_string();
        // As computed by another program from the layout above.
        assert_eq!(written, "waymark-key/1 dp.example/log 5321 QINV-A62Y-C6FC-HYNQ-SCSN-UJF4");
        assert_eq!(KeyText::parse(&written), Ok(text.clone()));
        let lower = written.replace(&text.fingerprint.to_string(), &text.fingerprint.to_string().to_lowercase());
        assert_eq!(KeyText::parse(&lower.replace('-', "").replace("waymarkkey", "waymark-key")), Ok(text.clone()));
        for bad in ["", "waymark-key/1", &written[1..], &written[..written.len() - 1], &written.replace("5321", "-1")] {
            assert_eq!(KeyText::parse(bad), Err(NotAKeyText), "{bad}");
        }
        assert_eq!(KeyText::parse(&format!("{written}{}", "A".repeat(400))), Err(NotAKeyText));
        let qr = text.to_qr();
        assert!(
            qr.lines().count() > 15
                && qr.lines().all(|l| l.chars().count() == qr.lines().next().unwrap().chars().count())
        );
    }

    #[test]
    fn a_swapped_key_another_identifier_another_log_and_an_old_view_are_seen() {
        let (origin, csi, text) = bob();
        let (other, stranger) = (Origin::new("other.example/log").unwrap(), Csi::parse("tel:+4915112345643").unwrap());
        assert_eq!(compare(&text, &origin, 5321, &csi, [&key(2), &key(1)]), Compared::Match(key(1)));
        assert_eq!(compare(&text, &origin, 9999, &csi, [&key(2)]), Compared::Mismatch);
        assert_eq!(compare(&text, &origin, 9999, &csi, []), Compared::Mismatch);
        assert_eq!(compare(&text, &origin, 9999, &stranger, [&key(1)]), Compared::Mismatch);
        assert_eq!(compare(&text, &other, 9999, &csi, [&key(1)]), Compared::Mismatch);
        assert_eq!(compare(&text, &origin, 5320, &csi, [&key(1)]), Compared::Behind);
        assert_eq!(compare(&text, &origin, 5320, &csi, [&key(2)]), Compared::Mismatch);
    }
}
