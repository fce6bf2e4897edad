//! How an identifier stands on a screen: enough for its owner to recognise, not enough for a bystander to copy.
//!
//! ```text
//! tel:+4915112345642        +49 151 ••••5642
//! tel:+2901234              +290 ••••
//! mailto:bob@example.org    b••@example.org
//! ```
//!
//! At least four digits of a number are hidden, and the dots are always four: they do not tell how many. Every command that
//! names an identifier uses this, unless it is told to show it.

use waymark_mapping::identifier::{Csi, Scheme};

/// Digits of a number that are hidden at least.
const HIDDEN_MIN: usize = 4;
/// Digits shown at the end of a number, if enough are hidden still.
const TAIL: usize = 4;
/// Digits shown after the country code, if enough are hidden still.
const AREA: usize = 3;

/// The identifier, masked.
pub fn mask(csi: &Csi) -> String {
    let (_, text) = csi.expose().split_once(':').unwrap_or_default();
    match csi.scheme() {
        Scheme::Tel => mask_number(text.trim_start_matches('+')),
        Scheme::Mailto => {
            let (local, domain) = text.rsplit_once('@').unwrap_or_default();
            let first = local.chars().next().unwrap_or_default();
            format!("{first}\u{2022}\u{2022}@{domain}")
        }
    }
}

/// The identifier as it is to be shown: masked, unless the person at the screen asked for all of it.
pub fn shown(csi: &Csi, in_full: bool) -> String {
    if in_full { csi.expose().to_owned() } else { mask(csi) }
}

fn mask_number(digits: &str) -> String {
    let (country, rest) = digits.split_at(country_digits(digits).min(digits.len()));
    let tail = TAIL.min(rest.len().saturating_sub(HIDDEN_MIN));
    let area = AREA.min(rest.len().saturating_sub(HIDDEN_MIN + tail));
    let area = if area == 0 { String::new() } else { format!("{} ", &rest[..area]) };
    format!("+{country} {area}\u{2022}\u{2022}\u{2022}\u{2022}{}", &rest[rest.len() - tail..])
}

/// How many digits a country code has (ITU-T E.164 annex, zones 1 and 7, and the two-digit codes): for the eye only, no label
/// depends on it.
fn country_digits(digits: &str) -> usize {
    match digits.as_bytes() {
        [b'1' | b'7', ..] => 1,
        [b'2', b'0' | b'7', ..]
        | [b'3', b'0'..=b'4' | b'6' | b'9', ..]
        | [b'4', b'0' | b'1' | b'3'..=b'9', ..]
        | [b'5', b'1'..=b'8', ..]
        | [b'6', b'0'..=b'6', ..]
        | [b'8', b'1' | b'2' | b'4' | b'6', ..]
        | [b'9', b'0'..=b'5' | b'8', ..] => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn enough_to_recognise() {
        for (csi, masked) in [
            ("tel:+4915112345642", "+49 151 \u{2022}\u{2022}\u{2022}\u{2022}5642"),
            ("tel:+12025550143", "+1 20 \u{2022}\u{2022}\u{2022}\u{2022}0143"),
            ("tel:+2901234", "+290 \u{2022}\u{2022}\u{2022}\u{2022}"),
            ("tel:+393123456", "+39 \u{2022}\u{2022}\u{2022}\u{2022}456"),
            ("mailto:bob@example.org", "b\u{2022}\u{2022}@example.org"),
            ("mailto:\u{fc}nal+x@example.org", "\u{fc}\u{2022}\u{2022}@example.org"),
        ] {
            let csi = Csi::parse(csi).unwrap();
            assert_eq!(shown(&csi, false), masked);
            assert_eq!(shown(&csi, true), csi.expose());
        }
    }

    proptest! {
        #[test]
        fn four_digits_stay_hidden(digits in "[1-9][0-9]{6,14}") {
            let masked = mask(&Csi::parse(&format!("tel:+{digits}")).unwrap());
            let shown = masked.chars().filter(char::is_ascii_digit).count();
            prop_assert!(shown + HIDDEN_MIN <= digits.len(), "{}", masked);
        }
    }
}
