//! Which characters identifiers and tags may have, by a table that never changes.
//!
//! Whether two texts are the same CSI must not depend on the age of a program. So what a character is comes from a table
//! that was made once, from one Unicode version, and not from the libraries that this program was built with. Three classes:
//!
//! | class | General_Category |
//! |---|---|
//! | word | L\*, N\* |
//! | mark | M\* |
//! | sign | P\*, S\* |
//!
//! A character has no class, and is refused everywhere, if it
//!
//! - has another category: unassigned in that version, private use, controls, format characters, separators;
//! - is a Default_Ignorable_Code_Point: it may be invisible, so two texts that look the same could differ by it;
//! - is not stable under NFKC: it is a compatibility form, and looks the same or nearly the same as other characters.
//!
//! **A text in NFC in which each character is stable under NFKC is itself stable under NFKC.** If NFKC(c) = c, then c is
//! canonically equivalent to NFKD(c), so NFKD(c) = NFD(c). Both decompose a text character by character and then sort marks
//! by the same rule, so NFKD = NFD for the whole text, and NFKC and NFC, which compose those, are the same.

mod table;

use unicode_normalization::{UNICODE_VERSION, is_nfc};

/// What a character is, in the pinned Unicode version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// A letter or a number.
    Word = 1,
    /// A combining mark.
    Mark = 2,
    /// Punctuation or a symbol.
    Sign = 3,
}

// An older library does not know the later characters of the table and would take some texts for NFC that are not.
const _: () = assert!(UNICODE_VERSION.0 >= table::UNICODE.0, "unicode-normalization is older than the table");

/// The class of a character; `None` if it is refused.
pub(crate) fn class(c: char) -> Option<Class> {
    let code_point = u32::from(c);
    let after = table::RANGES.partition_point(|&(first, _, _)| first <= code_point);
    let &(_, last, class) = table::RANGES.get(after.checked_sub(1)?)?;
    (code_point <= last).then_some(class)
}

/// Whether a text whose characters all have a class (or are spaces or dots) is written in the one way that is allowed: in
/// NFC, with marks only where they have something to combine with.
///
/// NFC comes from a library whose Unicode version may be newer than the table's. Unicode's stability policy
/// (Normalization, since 4.1) says that it makes no difference: a text of characters that are assigned in one version
/// is in NFC in that version exactly if it is in all later ones. Unassigned characters were refused before.
pub(crate) fn is_composed(text: &str) -> bool {
    marks_follow_words(text) && is_nfc(text)
}

/// Whether each mark comes after a letter, a number or another mark. Elsewhere it would change how a dot, a plus sign or
/// what stands before the text looks.
fn marks_follow_words(text: &str) -> bool {
    let mut can_combine = false;
    text.chars().map(class).all(|class| {
        let good = class != Some(Class::Mark) || can_combine;
        can_combine = matches!(class, Some(Class::Word | Class::Mark));
        good
    })
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;
    use regex::Regex;
    use sha2::{Digest, Sha256};
    use unicode_normalization::{UnicodeNormalization, is_nfkc};

    use super::*;

    /// All characters; surrogates are none.
    fn characters() -> impl Iterator<Item = char> {
        (0..=u32::from(char::MAX)).filter_map(char::from_u32)
    }

    fn nfkc(text: &str) -> String {
        text.nfkc().collect()
    }

    #[test]
    fn the_table_is_sorted_disjoint_and_as_short_as_possible() {
        for (first, last, _) in table::RANGES {
            assert!(first <= last && last <= u32::from(char::MAX), "{first:04X}");
        }
        for pair in table::RANGES.windows(2) {
            let ((_, last, class), (next, _, next_class)) = (pair[0], pair[1]);
            assert!(last < next, "{next:04X}");
            assert!(last + 1 < next || class != next_class, "{next:04X} could be in the range before");
        }
    }

    #[test]
    fn the_table_is_the_one_whose_digest_the_formats_name() {
        let class_of = |c| char::from_u32(c).and_then(class).map_or(0, |class| class as u8);
        let classes: Vec<u8> = (0..=u32::from(char::MAX)).map(class_of).collect();
        assert_eq!(classes.len(), 1_114_112);
        let digest = HEXLOWER.encode(&Sha256::digest(classes));
        let formats = include_str!("../../docs/FORMATS.md");
        assert!(formats.contains(&digest), "docs/FORMATS.md does not name {digest}");
        let (major, minor, patch) = table::UNICODE;
        assert!(formats.contains(&format!("Unicode {major}.{minor}.{patch}")));
    }

    /// The rule again from two other sources, for each character: `regex` for categories and properties, `unicode-normalization`
    /// for NFKC. Both may be newer than the table: what is not assigned in its version is left out by the property Age.
    #[test]
    fn each_character_has_the_class_that_two_other_sources_give() {
        let all: String = characters().collect();
        let found = |set: &str| -> Vec<char> {
            let pattern = format!(r"[[{set}]&&\p{{Age=16.0}}--\p{{Default_Ignorable_Code_Point}}]");
            let regex = Regex::new(&pattern).unwrap();
            regex
                .find_iter(&all)
                .map(|m| m.as_str().chars().next().unwrap())
                .filter(|c| is_nfkc(&c.to_string()))
                .collect()
        };
        for (wanted, set) in [(Class::Word, r"\p{L}\p{N}"), (Class::Mark, r"\p{M}"), (Class::Sign, r"\p{P}\p{S}")] {
            let ours: Vec<char> = characters().filter(|c| class(*c) == Some(wanted)).collect();
            let differing: Vec<_> = ours.iter().zip(found(set)).filter(|(a, b)| **a != *b).take(3).collect();
            assert_eq!((ours.len(), differing), (found(set).len(), vec![]), "{wanted:?}");
        }
    }

    /// The standard library's tables agree, apart from letters that have the category of a symbol. It has no say in anything.
    #[test]
    fn the_standard_library_has_the_same_letters_and_numbers_except_letters_in_circles_and_squares() {
        let wrong: Vec<char> =
            characters().filter(|c| class(*c) == Some(Class::Word) && !c.is_alphanumeric()).collect();
        assert_eq!(wrong, Vec::<char>::new());
        let symbols: Vec<char> =
            characters().filter(|c| class(*c) == Some(Class::Sign) && c.is_alphanumeric()).collect();
        let expected: Vec<char> = "\u{1F150}\u{1F169}\u{1F170}\u{1F189}".chars().collect();
        assert_eq!(symbols, (expected[0]..=expected[1]).chain(expected[2]..=expected[3]).collect::<Vec<_>>());
    }

    /// What the proof at the top of this module rests on, for each character.
    #[test]
    fn no_character_of_the_table_changes_under_nfkc_and_each_decomposes_in_one_way() {
        for c in characters().filter(|c| class(*c).is_some()) {
            let text = c.to_string();
            assert_eq!(nfkc(&text), text, "U+{:04X}", u32::from(c));
            assert!(text.nfkd().eq(text.nfd()), "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn marks_follow_letters_numbers_and_marks() {
        for good in ["", "x\u{304}", "1\u{331}", "x\u{304}\u{30a}", "\u{915}\u{94d}\u{937}", "a.x\u{304}"] {
            assert!(is_composed(good), "{good}");
        }
        for bad in ["\u{304}", ".\u{304}", "a.\u{304}", "a+\u{304}", "a \u{304}", "\u{304}x"] {
            assert!(!is_composed(bad), "{bad}");
        }
    }

    fn of_the_table() -> impl Strategy<Value = char> {
        (0..table::RANGES.len()).prop_flat_map(|i| {
            let (first, last, _) = table::RANGES[i];
            (first..=last).prop_map(|c| char::from_u32(c).unwrap())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn nfc_of_such_characters_is_nfkc(text in proptest::collection::vec(of_the_table(), 0..12)) {
            let text: String = text.into_iter().collect();
            prop_assert_eq!(text.nfc().collect::<String>(), nfkc(&text));
            prop_assert_eq!(is_nfc(&text), is_nfkc(&text));
        }
    }
}
