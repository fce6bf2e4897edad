//! CSIs, the cross-service identifiers that are looked up: phone numbers and e-mail addresses, in one canonical form.
//!
//! ```text
//! tel:+<digits>            E.164: 7 to 15 digits, the first not zero
//! mailto:<local>@<domain>  local part byte for byte, domain as lower-case A-labels; 255 bytes in all
//! ```
//!
//! The canonical form is syntax only. No table of countries, carriers or mail providers has a say in it, because tables
//! change and a label must not. The one table is that of characters, made from one Unicode version and final
//! (`characters`). What follows from that, and is meant:
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

use crate::{
    characters::{Class, class, is_composed},
    wire::text_wire,
};

/// Most bytes in a canonical CSI: the one-byte length of KEYTRANS's `VrfInput.label`.
pub const CSI_BYTES_MAX: usize = 255;
/// Digits in an E.164 number: at most fifteen (E.164 section 6), at least the seven that the shortest national plans leave.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// Most bytes in a local part: RFC 5321 section 4.5.3.1.1.
const LOCAL_BYTES_MAX: usize = 64;
/// The punctuation and symbols of a local part besides the dots between atoms: RFC 5322's `atext`.
const LOCAL_SIGNS: &str = "!#$%&'*+-/=?^_`{|}~";

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
    #[error(
        "the local part of the address is empty, over 64 bytes, quoted, not in NFC, or has characters that are not allowed: \
         invisible ones, compatibility forms, or those that Unicode 16.0.0 does not have as letters, numbers or marks"
    )]
    LocalPart,
    /// The part after the @.
    #[error("the domain of the address is not at least two lower-case A-labels, or its last one is a number")]
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

/// RFC 5321's dot-string; beyond ASCII the letters, numbers and marks of the pinned table. Quoted strings are refused, and
/// nothing is folded: a mail server may treat two compatible forms as two mailboxes.
fn check_local(local: &str) -> Result<(), CsiError> {
    let allowed = |c: char| match class(c) {
        Some(Class::Word | Class::Mark) => true,
        Some(Class::Sign) => LOCAL_SIGNS.contains(c),
        None => false,
    };
    let atom = |a: &str| !a.is_empty() && a.chars().all(allowed);
    let good = local.len() <= LOCAL_BYTES_MAX && local.split('.').all(atom) && is_composed(local);
    if good { Ok(()) } else { Err(CsiError::LocalPart) }
}

/// Two or more lower-case letter-digit-hyphen labels of 1 to 63 bytes, 253 in all, the last one not of digits alone.
///
/// DNS compares these bytes and nothing else, so each domain has one form here. Whether a label that begins with `xn--` can
/// be shown in another script depends on the tables of the day and decides nothing.
pub(crate) fn is_domain(domain: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let digits = |l: &str| l.bytes().all(|b| b.is_ascii_digit());
    // The highest label of a host name is alphabetic (RFC 1123 section 2.1); in digits it would be read as an IPv4 address.
    let named = domain.rsplit_once('.').is_some_and(|(_, last)| !digits(last));
    domain.len() <= 253 && named && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::{UnicodeNormalization, is_nfc, is_nfkc};

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

    fn with_local(local: &str) -> String {
        format!("mailto:{local}@post.example")
    }

    fn refused(local: &str) {
        assert_eq!(Csi::parse(&with_local(local)), Err(CsiError::LocalPart), "{}", local.escape_unicode());
    }

    #[test]
    fn words_of_many_scripts_are_accepted() {
        for local in [
            "\u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947}", // Devanagari, with virama and vowel sign
            "\u{645}\u{62d}\u{645}\u{651}\u{62f}",        // Arabic, with shadda
            "\u{5e9}\u{5b8}\u{5dc}\u{5d5}\u{5b9}\u{5dd}", // Hebrew, with points
            "\u{e2a}\u{e27}\u{e31}\u{e2a}\u{e14}\u{e35}", // Thai
            "\u{d55c}\u{ad6d}\u{c5b4}",                   // Hangul syllables
            "\u{5c71}\u{7530}\u{592a}\u{90ce}",           // Han
            "\u{30e6}\u{30fc}\u{30b6}\u{30fc}",           // Katakana, with the long vowel sign
            "\u{3b1}\u{3bb}\u{3ad}\u{3be}\u{3b7}\u{3c2}", // Greek, with final sigma
            "\u{430}\u{43d}\u{43d}\u{430}.\u{438}\u{432}\u{430}", // Cyrillic, two atoms
            "\u{12a0}\u{12f2}\u{1235}",                   // Ethiopic
            "x\u{304}n",                                  // a mark that has no composed form
            "ann\u{661}\u{662}",                          // Arabic-Indic digits
            "\u{3007}",                                   // the ideographic zero, a letter number
            "\u{1e900}\u{1e944}",                         // Adlam, beyond the first plane
        ] {
            assert_eq!(Csi::parse(&with_local(local)).unwrap().expose(), with_local(local));
        }
    }

    #[test]
    fn default_ignorable_characters_are_refused() {
        for c in "\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{180b}\u{180e}\u{180f}\u{200b}\u{200c}\u{200d}\
                  \u{2060}\u{3164}\u{fe00}\u{fe0f}\u{feff}\u{ffa0}\u{1d173}\u{e0061}\u{e0100}\u{e01ef}"
            .chars()
        {
            refused(&format!("ann{c}"));
            refused(&format!("\u{928}{c}\u{92e}"));
        }
    }

    #[test]
    fn compatibility_forms_are_refused() {
        for local in [
            "\u{ff41}nn",            // fullwidth a
            "\u{fb01}n",             // ligature fi
            "ann\u{b2}",             // superscript two
            "\u{2121}",              // TEL in one character
            "\u{aa}",                // feminine ordinal, a letter
            "\u{b5}m",               // micro sign
            "\u{132}",               // ligature IJ
            "\u{17f}",               // long s
            "\u{2460}",              // digit one in a circle
            "\u{2163}",              // Roman four in one character
            "\u{1d400}",             // mathematical bold A
            "\u{3131}",              // Hangul compatibility letter
            "\u{ff76}",              // halfwidth katakana
            "\u{fe8d}",              // Arabic presentation form
            "\u{e19}\u{e49}\u{e33}", // Thai sara am
            "\u{212b}",              // Angstrom sign: canonically the letter
            "\u{f900}",              // a Han compatibility ideograph
        ] {
            refused(local);
        }
    }

    #[test]
    fn characters_that_the_pinned_version_has_not_assigned_are_refused() {
        // Never assigned so far; private; a noncharacter; and of Unicode 17.0 a Latin and a Han letter, which newer libraries know.
        for c in ['\u{378}', '\u{e000}', '\u{f0000}', '\u{fdd0}', '\u{a7ce}', '\u{2b73a}', '\u{323b0}', '\u{10fffd}'] {
            refused(&format!("a{c}"));
        }
    }

    #[test]
    fn controls_spaces_and_signs_beyond_ascii_are_refused() {
        for c in "\u{7f}\u{85}\u{a0}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\
                  \u{2028}\u{2029}\u{3000}\u{b7}\u{2019}\u{5f4}\u{3002}\u{ff20}\u{20ac}\u{1f600}\u{1f170}\u{fffd}\u{0}\t\n (),:;<>[]\\\""
            .chars()
        {
            refused(&format!("a{c}b"));
        }
    }

    #[test]
    fn a_mark_needs_a_letter_or_a_number_before_it() {
        for local in ["\u{93f}\u{928}", "\u{301}ann", "ann.\u{301}a", "ann+\u{301}", "'\u{651}"] {
            refused(local);
        }
    }

    #[test]
    fn only_normal_form_c_is_accepted() {
        for local in
            ["u\u{308}", "\u{1112}\u{1161}\u{11ab}", "a\u{323}\u{302}", "x\u{308}\u{323}", "\u{958}", "\u{340}"]
        {
            refused(local);
        }
    }

    #[test]
    fn an_internationalised_domain_label_is_not_decoded() {
        for domain in ["xn--bcher-kva.example", "xn--a.example", "r3---sn.example"] {
            assert!(is_domain(domain), "{domain}");
        }
        for domain in ["xn--bcher-.example", "XN--bcher-kva.example", "xn--bcher-KVA.example"] {
            assert!(!is_domain(domain), "{domain}");
        }
    }

    #[test]
    fn an_address_in_digits_is_not_a_domain() {
        for domain in ["127.0.0.1", "post.1", "127.1"] {
            assert!(!is_domain(domain), "{domain}");
        }
        for domain in ["1.example", "post.1a", "post.a1"] {
            assert!(is_domain(domain), "{domain}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_round_trips_and_is_in_nfc_and_nfkc(
            local in "[a-z.+\u{e0}-\u{17f}\u{300}-\u{36f}\u{620}-\u{670}\u{900}-\u{97f}\u{1100}-\u{11ff}\u{2000}-\u{2200}\u{fb00}-\u{ffef}]{1,6}|\\PC{1,4}",
        ) {
            let local: String = if local.len() % 2 == 0 { local.nfc().collect() } else { local };
            if let Ok(csi) = Csi::parse(&with_local(&local)) {
                prop_assert_eq!(csi.expose(), with_local(&local));
                prop_assert_eq!(decode::<Csi>("csi", &encode(&csi)), Ok(csi.clone()));
                prop_assert!(is_nfc(csi.expose()) && is_nfkc(csi.expose()));
            }
        }
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
