//! From what a person types to a canonical CSI: an aid for input, never a judge.
//!
//! Phone numbers go through the `phonenumber` crate, whose metadata decides how a national number is completed. The result
//! must still be in canonical form by [`Csi::parse`], which knows no metadata. The crate has panicked on input before
//! (RUSTSEC-2023-0082, RUSTSEC-2024-0369), so it sees only short texts of dialling characters, behind a guard.

use std::panic::catch_unwind;

use crate::identifier::{Csi, CsiError};

/// Most characters that are handed to the phone library: fifteen digits with generous punctuation.
const TYPED_CHARS_MAX: usize = 40;

/// Reads what somebody typed: a canonical CSI, an address, or a number, with `region` (such as `DE`) for numbers that were
/// typed without a country code.
///
/// # Errors
/// [`CsiError`].
pub fn parse_typed(text: &str, region: Option<&str>) -> Result<Csi, CsiError> {
    let text = text.trim();
    if text.starts_with("tel:") {
        return Csi::parse(text);
    }
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    if let Some((local, domain)) = address.rsplit_once('@') {
        // The local part is taken as it is: whether a mail server treats two forms alike is not for us to guess.
        let domain = idna::domain_to_ascii(domain).map_err(|_| CsiError::Domain)?;
        return Csi::parse(&format!("mailto:{local}@{domain}"));
    }
    parse_number(text, region)
}

fn parse_number(text: &str, region: Option<&str>) -> Result<Csi, CsiError> {
    let dialling = |c: char| c.is_ascii_digit() || " +-./()\u{a0}\u{2011}\u{2013}".contains(c);
    if text.chars().count() > TYPED_CHARS_MAX || !text.chars().all(dialling) {
        return Err(CsiError::Number);
    }
    // A plus sign and nothing but punctuation between digits is already international: no library is needed.
    if let Some(rest) = text.strip_prefix('+') {
        let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
        if !rest.contains('+') && !rest.contains("(0)") {
            return Csi::parse(&format!("tel:+{digits}"));
        }
    }
    let region = region.and_then(|r| r.parse().ok());
    let number = catch_unwind(|| phonenumber::parse(region, text)).ok().and_then(Result::ok);
    let number = number.ok_or(CsiError::Number)?;
    let formatted = catch_unwind(move || number.format().mode(phonenumber::Mode::E164).to_string());
    Csi::parse(&format!("tel:{}", formatted.map_err(|_| CsiError::Number)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_type() {
        for (typed, region, canonical) in [
            ("+49 151 123 456 42", None, "tel:+4915112345642"),
            ("0151 12345642", Some("DE"), "tel:+4915112345642"),
            ("+39 06 1234 5678", None, "tel:+390612345678"),
            ("06 1234 5678", Some("IT"), "tel:+390612345678"),
            ("+54 9 11 2345-6789", None, "tel:+5491123456789"),
            ("+54 11 2345-6789", None, "tel:+541123456789"),
            ("Ann+X@B\u{dc}CHER.Example", None, "mailto:Ann+X@xn--bcher-kva.example"),
            ("tel:+4915112345642", None, "tel:+4915112345642"),
        ] {
            assert_eq!(parse_typed(typed, region).as_ref().map(Csi::expose), Ok(canonical), "{typed}");
        }
        for bad in ["", "0151 12345642", "hello", "+49 151 1234x", "1".repeat(50).as_str(), "ann@", "@b.example"] {
            assert!(parse_typed(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_local_part_is_never_folded() {
        for local in ["\u{ff41}nn", "\u{fb01}n", "an\u{ad}n", "ann\u{200b}", "u\u{308}", "\u{e19}\u{e49}\u{e33}"] {
            assert_eq!(parse_typed(&format!("{local}@post.example"), None), Err(CsiError::LocalPart));
        }
        let typed = parse_typed("Ann@\u{ff30}ost.Example", None);
        assert_eq!(typed.as_ref().map(Csi::expose), Ok("mailto:Ann@post.example"), "a domain has one form by IDNA");
        assert_eq!(parse_typed("ann@xn--a.example", None), Err(CsiError::Domain), "an A-label that IDNA refuses");
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(text in "[0-9+ ().x;=-]{0,45}", region in "(DE|IT|AR|US|xx)?") {
            let _ = parse_typed(&text, Some(&region));
        }
    }
}
