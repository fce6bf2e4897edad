//! Small checked texts: domains of providers, accounts, tags, regions.

use std::fmt;

use crate::{
    characters::{class, is_composed},
    identifier::is_domain,
    wire::text_wire,
};

/// Most bytes in a domain: RFC 1035 section 2.3.4 less the root's length and dot.
pub const DOMAIN_BYTES_MAX: usize = 253;
/// Most bytes in a tag.
pub const TAG_BYTES_MAX: usize = 64;
/// Most tags of one mapping.
pub const TAGS_MAX: usize = 8;
/// Most bytes in all tags of one mapping.
pub const TAGS_BYTES_MAX: usize = 256;

/// The domain that names a provider: lower-case A-labels, at least two.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

impl Domain {
    /// Checks a domain; nothing is corrected.
    pub fn parse(text: &str) -> Option<Self> {
        is_domain(text).then(|| Self(text.to_owned()))
    }

    /// The domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_wire!(Domain, DOMAIN_BYTES_MAX, "not a provider's domain", Domain::parse);

/// A domain, or nothing: the MSP of a mapping, empty when the recipient opted out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MaybeDomain(String);

impl MaybeDomain {
    /// No domain.
    pub const NONE: Self = Self(String::new());

    /// The domain, if there is one.
    pub fn get(&self) -> Option<Domain> {
        Domain::parse(&self.0)
    }

    fn parse(text: &str) -> Option<Self> {
        (text.is_empty() || is_domain(text)).then(|| Self(text.to_owned()))
    }
}

impl From<Domain> for MaybeDomain {
    fn from(domain: Domain) -> Self {
        Self(domain.0)
    }
}

text_wire!(MaybeDomain, DOMAIN_BYTES_MAX, "neither empty nor a provider's domain", MaybeDomain::parse);

/// A recipient's account at an MSP, in the MSP's own words (a MIMI URI, say). May name a person: not printed by `Debug`.
/// Nobody types it to find something, so no table of characters has a say; the control characters (Cc) are fixed for good.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Account(String);

impl Account {
    /// No account is given.
    pub const NONE: Self = Self(String::new());

    /// Checks an account: at most 255 bytes, no control characters.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() <= 255 && !text.contains(char::is_control)).then(|| Self(text.to_owned()))
    }

    /// The account in clear.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(account)")
    }
}

text_wire!(Account, 255, "an account has control characters", Account::parse);

/// What a recipient calls the purpose of a mapping: `default`, `business`, `personal` or any text of theirs. A tag that
/// must be presented to be found is a secret, so `Debug` does not print tags.
///
/// Tags are compared byte by byte, so whoever reads one aloud or types it again must come to the same bytes: words divided
/// by single spaces, of letters, numbers, marks, punctuation and symbols of the pinned table, in NFC.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The reserved tag that stands alone.
    pub const DEFAULT: &'static str = "default";

    /// Checks a tag: 1 to 64 bytes, single spaces between words, characters of the pinned table, in NFC. Nothing is corrected.
    pub fn parse(text: &str) -> Option<Self> {
        let word = |w: &str| !w.is_empty() && w.chars().all(|c| class(c).is_some());
        let good = text.len() <= TAG_BYTES_MAX && text.split(' ').all(word) && is_composed(text);
        good.then(|| Self(text.to_owned()))
    }

    /// The tag in clear.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(tag)")
    }
}

text_wire!(
    Tag,
    TAG_BYTES_MAX,
    "a tag is empty, not in NFC, has surplus spaces, or has characters that are not allowed",
    Tag::parse
);

/// Where a mapping's payload may be kept, such as `EU`; empty for anywhere.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Region(String);

impl Region {
    /// Anywhere.
    pub const ANY: Self = Self(String::new());

    /// Checks a region: at most 8 upper-case letters, digits or hyphens.
    pub fn parse(text: &str) -> Option<Self> {
        let good = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
        (text.len() <= 8 && text.bytes().all(good)).then(|| Self(text.to_owned()))
    }

    /// The region.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text_wire!(Region, 8, "not a region", Region::parse);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::{is_nfc, is_nfkc};

    use super::*;
    use crate::wire::{decode, encode};

    #[test]
    fn tags_are_nfc_and_bounded() {
        assert!(Tag::parse("default").is_some());
        assert!(Tag::parse("urn:x:soccer-parents-7f3a").is_some());
        assert!(Tag::parse("").is_none());
        assert!(Tag::parse("u\u{308}").is_none());
        assert!(Tag::parse("a\nb").is_none());
        assert!(Tag::parse(&"a".repeat(65)).is_none());
        assert_eq!(format!("{:?}", Tag::parse("secret").unwrap()), "(tag)");
    }

    #[test]
    fn tags_have_visible_characters_and_single_spaces() {
        for good in [
            "urn:x:soccer-parents-7f3a",
            "https://club.example/a?b=c#d%20e",
            "soccer parents",
            "mum's football!",
            "\u{26bd}", // a football
            "\u{1f3e0} home",
            "\u{92e}\u{947}\u{930}\u{93e} \u{915}\u{93e}\u{92e}", // Devanagari
            "\u{5e6}\u{5d4}\u{5f4}\u{5dc}",                       // Hebrew, with gershayim
            "caf\u{e9} \u{2014} \u{20ac}",
        ] {
            assert_eq!(Tag::parse(good).as_ref().map(Tag::expose), Some(good));
        }
        for bad in [" a", "a ", "a  b", " ", "a\u{a0}b", "a\u{3000}b", "a\tb", "a\u{2028}b", "a \u{301}b", "\u{301}"] {
            assert!(Tag::parse(bad).is_none(), "{}", bad.escape_unicode());
        }
    }

    #[test]
    fn tags_have_no_ignorable_compatible_private_or_unassigned_characters() {
        for c in "\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\u{180f}\u{200b}\u{200c}\u{200d}\u{202e}\u{2060}\u{2066}\u{3164}\u{fe0f}\u{feff}\
                  \u{e0061}\u{fff9}\u{600}\u{ff53}\u{fb01}\u{b2}\u{2026}\u{2122}\u{a8}\u{e000}\u{10fffd}\u{378}\u{a7ce}\u{1fac8}"
            .chars()
        {
            assert!(Tag::parse(&format!("a{c}")).is_none(), "{}", c.escape_unicode());
        }
    }

    proptest! {
        #[test]
        fn a_tag_round_trips_and_is_in_nfc_and_nfkc(
            text in "[a-z :/\u{e0}-\u{17f}\u{300}-\u{36f}\u{900}-\u{97f}\u{1100}-\u{11ff}\u{2000}-\u{2200}\u{fb00}-\u{ffef}]{1,6}|\\PC{1,4}",
        ) {
            if let Some(tag) = Tag::parse(&text) {
                prop_assert_eq!(tag.expose(), &text);
                prop_assert_eq!(decode::<Tag>("tag", &encode(&tag)), Ok(tag.clone()));
                prop_assert!(is_nfc(&text) && is_nfkc(&text));
            }
        }
    }

    #[test]
    fn domains_are_a_labels() {
        assert!(Domain::parse("chat.example").is_some());
        for bad in ["", "example", "Chat.example", "chat.example.", "ch at.example", "b\u{fc}cher.example"] {
            assert!(Domain::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(MaybeDomain::NONE.get(), None);
    }
}
