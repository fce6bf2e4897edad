//! CSIs, the cross-service identifiers that are looked up: phone numbers and e-mail addresses, in one canonical form.
//!
//! ```text
//! tel:+<digits>            E.164: 7 to 15 digits, the first not zero
//! mailto:<local>@<domain>  local part byte for byte, domain as lower-case A-labels; 255 bytes in all
//! ```
//!
//! The canonical form is syntax only. No table of countries, carriers or mail providers has a say in it, because tables
//! change and a label must not. What follows from that, and is meant:
//!
//! - Italian numbers keep their leading zero: `tel:+390612345678` is not `tel:+39612345678`.
//! - Argentine mobiles have two forms, with the 9 after the country code (as dialled from abroad) and without it; they are
//!   two CSIs, and a recipient who wants to be found under both registers both.
//! - `ann+news@post.example` and `ann@post.example` are two CSIs, as are `Ann@` and `ann@`, and dots count. Whether a mail
//!   provider treats them alike is the provider's affair.
//!
//! Turning what people type into this form is [`crate::typed`]'s business and never decides a label.
//!
//! **A CSI cannot be printed by accident.** `Debug` and `Display` show the scheme only; [`Csi::expose`] is the one way out.

use std::fmt;

use unicode_normalization::is_nfc;

use crate::wire::text_wire;

/// Most bytes in a canonical CSI: the one-byte length of KEYTRANS's `VrfInput.label`.
pub const CSI_BYTES_MAX: usize = 255;
/// Digits in an E.164 number: at most fifteen (E.164 section 6), at least the seven that the shortest national plans leave.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// Most bytes in a local part: RFC 5321 section 4.5.3.1.1.
const LOCAL_BYTES_MAX: usize = 64;

/// A canonical cross-service identifier.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Csi(String);

/// Which kind of identifier it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// A phone number.
    Tel,
    /// An e-mail address.
    Mailto,
}

/// Why a text is not a canonical CSI. Says what to mend; never quotes the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CsiError {
    /// Neither `tel:` nor `mailto:`.
    #[error("an identifier starts with tel: or mailto:")]
    Scheme,
    /// Not a plus sign and 7 to 15 digits without a leading zero.
    #[error("a phone number is a plus sign and 7 to 15 digits, country code first")]
    Number,
    /// The part before the @.
    #[error("the local part of the address is empty, over 64 bytes, quoted, not in NFC, or has forbidden characters")]
    LocalPart,
    /// The part after the @.
    #[error("the domain of the address is not at least two lower-case A-labels")]
    Domain,
    /// Over 255 bytes in all.
    #[error("the identifier is over 255 bytes long")]
    TooLong,
}

impl Csi {
    /// Reads the canonical form; nothing is corrected.
    ///
    /// # Errors
    /// [`CsiError`].
    pub fn parse(text: &str) -> Result<Self, CsiError> {
        if text.len() > CSI_BYTES_MAX {
            return Err(CsiError::TooLong);
        }
        if let Some(number) = text.strip_prefix("tel:") {
            check_number(number)?;
        } else if let Some(address) = text.strip_prefix("mailto:") {
            let (local, domain) = address.rsplit_once('@').ok_or(CsiError::Domain)?;
            check_local(local)?;
            if !is_domain(domain) {
                return Err(CsiError::Domain);
            }
        } else {
            return Err(CsiError::Scheme);
        }
        Ok(Self(text.to_owned()))
    }

    /// The identifier in clear. Loud on purpose: what comes out of here must not reach a log line, a metric, an error, a
    /// URL or anything that is published.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Which kind it is.
    pub fn scheme(&self) -> Scheme {
        if self.0.starts_with("tel:") { Scheme::Tel } else { Scheme::Mailto }
    }

    /// A form for the screen of the person who typed it: enough to recognise, not enough to copy.
    pub fn masked(&self) -> String {
        match self.scheme() {
            Scheme::Tel => {
                let digits = &self.0["tel:".len()..];
                let (head, tail) = (&digits[..3], &digits[digits.len() - 2..]);
                format!("{head} \u{2022}\u{2022}\u{2022} {tail}")
            }
            Scheme::Mailto => {
                let (local, domain) = self.0["mailto:".len()..].rsplit_once('@').unwrap_or_default();
                let first: String = local.chars().take(1).collect();
                format!("{first}\u{2022}\u{2022}\u{2022}@{domain}")
            }
        }
    }
}

impl fmt::Debug for Csi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme() {
            Scheme::Tel => "tel:(redacted)",
            Scheme::Mailto => "mailto:(redacted)",
        })
    }
}

impl fmt::Display for Csi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

text_wire!(Csi, CSI_BYTES_MAX, "an identifier is not in canonical form", |text| Csi::parse(text).ok());

fn check_number(number: &str) -> Result<(), CsiError> {
    let digits = number.strip_prefix('+').ok_or(CsiError::Number)?;
    let good = DIGITS.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if good { Ok(()) } else { Err(CsiError::Number) }
}

/// RFC 5321's dot-string, with the non-ASCII characters of RFC 6531 in NFC; quoted strings are refused.
fn check_local(local: &str) -> Result<(), CsiError> {
    let atom = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => true,
        c if c.is_ascii() => "!#$%&'*+-/=?^_`{|}~".contains(c),
        // Letters, digits and marks; no controls, spaces or the format characters that turn text around.
        c => c.is_alphanumeric() || is_mark(c),
    };
    let dotted = !local.is_empty() && local.split('.').all(|a| !a.is_empty() && a.chars().all(atom));
    let good = dotted && local.len() <= LOCAL_BYTES_MAX && is_nfc(local);
    if good { Ok(()) } else { Err(CsiError::LocalPart) }
}

/// Combining marks, which scripts such as Devanagari need inside words.
fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
}

/// Two or more lower-case letter-digit-hyphen labels of 1 to 63 bytes, 253 in all.
pub(crate) fn is_domain(domain: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    domain.len() <= 253 && domain.contains('.') && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{decode, encode};

    #[test]
    fn canonical_forms() {
        for good in [
            "tel:+4915112345678",
            "tel:+390612345678",
            "tel:+39312345678",
            "tel:+5491123456789",
            "tel:+541123456789",
            "tel:+2901234",
            "mailto:ann@post.example",
            "mailto:Ann.Smith+news@post.example",
            "mailto:o'neil=x@xn--bcher-kva.example",
            "mailto:j\u{fc}rgen@post.example",
            "mailto:\u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947}@post.example",
        ] {
            let csi = Csi::parse(good).unwrap();
            assert_eq!(csi.expose(), good);
            assert_eq!(decode::<Csi>("csi", &encode(&csi)), Ok(csi));
        }
        // What looks alike is not alike.
        assert_ne!(Csi::parse("tel:+390612345678"), Csi::parse("tel:+39612345678"));
        assert_ne!(Csi::parse("tel:+5491123456789"), Csi::parse("tel:+541123456789"));
        assert_ne!(Csi::parse("mailto:ann+x@a.example"), Csi::parse("mailto:ann@a.example"));
    }

    #[test]
    fn everything_else_is_refused() {
        for (bad, why) in [
            ("+4915112345678", CsiError::Scheme),
            ("TEL:+4915112345678", CsiError::Scheme),
            ("sip:ann@post.example", CsiError::Scheme),
            ("", CsiError::Scheme),
            ("tel:4915112345678", CsiError::Number),
            ("tel:+049151123456", CsiError::Number),
            ("tel:+123456", CsiError::Number),
            ("tel:+1234567890123456", CsiError::Number),
            ("tel:+49 15112345678", CsiError::Number),
            ("tel:+4915112345678;ext=1", CsiError::Number),
            ("tel:+491511234567\u{0668}", CsiError::Number),
            ("mailto:ann", CsiError::Domain),
            ("mailto:ann@localhost", CsiError::Domain),
            ("mailto:ann@Post.example", CsiError::Domain),
            ("mailto:ann@b\u{fc}cher.example", CsiError::Domain),
            ("mailto:ann@post..example", CsiError::Domain),
            ("mailto:ann@-post.example", CsiError::Domain),
            ("mailto:ann@post.example.", CsiError::Domain),
            ("mailto:ann@[127.0.0.1]", CsiError::Domain),
            ("mailto:@post.example", CsiError::LocalPart),
            ("mailto:a..b@post.example", CsiError::LocalPart),
            ("mailto:.a@post.example", CsiError::LocalPart),
            ("mailto:\"a b\"@post.example", CsiError::LocalPart),
            ("mailto:a b@post.example", CsiError::LocalPart),
            ("mailto:a@b@post.example", CsiError::LocalPart),
            ("mailto:a\u{202e}b@post.example", CsiError::LocalPart),
            ("mailto:u\u{308}@post.example", CsiError::LocalPart),
        ] {
            assert_eq!(Csi::parse(bad), Err(why), "{bad}");
        }
        let long = format!("mailto:{}@post.example", "a".repeat(65));
        assert_eq!(Csi::parse(&long), Err(CsiError::LocalPart));
        let long = format!("mailto:a@{}example", "abcdefg.".repeat(40));
        assert_eq!(Csi::parse(&long), Err(CsiError::TooLong));
    }

    #[test]
    fn it_cannot_be_printed_by_accident() {
        let csi = Csi::parse("mailto:ann@post.example").unwrap();
        assert_eq!(format!("{csi} {csi:?}"), "mailto:(redacted) mailto:(redacted)");
        assert_eq!(csi.masked(), "a\u{2022}\u{2022}\u{2022}@post.example");
        let csi = Csi::parse("tel:+4915112345642").unwrap();
        assert_eq!(csi.masked(), "+49 \u{2022}\u{2022}\u{2022} 42");
        assert!(!format!("{:?}", CsiError::Number).contains("4915"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(tel:|mailto:)?\\PC{0,60}") {
            if let Ok(csi) = Csi::parse(&text) {
                prop_assert_eq!(csi.expose(), &text);
                let _ = csi.masked();
            }
        }
    }
}
