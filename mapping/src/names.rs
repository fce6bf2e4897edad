//! Small checked texts: domains of providers, accounts, tags, regions.

use std::fmt;

use unicode_normalization::is_nfc;

use crate::{identifier::is_domain, wire::text_wire};

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
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The reserved tag that stands alone.
    pub const DEFAULT: &'static str = "default";

    /// Checks a tag: 1 to 64 bytes in Unicode normal form C, no control characters.
    pub fn parse(text: &str) -> Option<Self> {
        let good = (1..=TAG_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control) && is_nfc(text);
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

text_wire!(Tag, TAG_BYTES_MAX, "a tag is empty, not in NFC, or has control characters", Tag::parse);

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
    use super::*;

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
    fn domains_are_a_labels() {
        assert!(Domain::parse("chat.example").is_some());
        for bad in ["", "example", "Chat.example", "chat.example.", "ch at.example", "b\u{fc}cher.example"] {
            assert!(Domain::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(MaybeDomain::NONE.get(), None);
    }
}
