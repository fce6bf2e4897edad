#!/usr/bin/env python3
"""Makes mapping/src/characters/table.rs from the data of one Unicode version, and its digest.

    pip install -r .ci/unicode/requirements.txt
    .ci/unicode/make_table.py            writes the table
    .ci/unicode/make_table.py --check    says whether the table in the repository is the one that this program makes

The rule is in docs/FORMATS.md, section 2. Categories and normal forms come from unicodedata2, the property
Default_Ignorable_Code_Point from regex; both must agree on which code points are assigned.
"""

import hashlib
import pathlib
import sys

import regex
import unicodedata2

UNICODE = "16.0.0"
TABLE = pathlib.Path(__file__).resolve().parents[2] / "mapping/src/characters/table.rs"
# The class of a character by the first letter of its General_Category. Others have no class: they are refused.
WORD, MARK, SIGN = 1, 2, 3
CLASSES = {"L": WORD, "N": WORD, "M": MARK, "P": SIGN, "S": SIGN}
NAMES = {WORD: "Word", MARK: "Mark", SIGN: "Sign"}
CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)
LINE_WIDTH = 118

IGNORABLE = regex.compile(r"\p{Default_Ignorable_Code_Point}")
UNASSIGNED = regex.compile(r"\p{General_Category=Unassigned}")


def class_of(code_point):
    """The class of a code point, or 0."""
    if code_point in SURROGATES:
        return 0
    character = chr(code_point)
    category = unicodedata2.category(character)
    assert (category == "Cn") == bool(UNASSIGNED.match(character)), "the two packages have different Unicode versions"
    compatibility = unicodedata2.normalize("NFKC", character) != character
    if compatibility or IGNORABLE.match(character):
        return 0
    return CLASSES.get(category[0], 0)


def ranges(classes):
    """Neighbours of one class as (first, last, class), in ascending order, without those of no class."""
    found, first = [], 0
    for code_point in range(1, CODE_POINTS + 1):
        if code_point == CODE_POINTS or classes[code_point] != classes[first]:
            if classes[first]:
                found.append((first, code_point - 1, classes[first]))
            first = code_point
    return found


def source(classes):
    """The text of table.rs."""
    found = ranges(classes)
    lines, line = [], "   "
    for first, last, kind in found:
        item = f" (0x{first:04X}, 0x{last:04X}, {NAMES[kind]}),"
        if len(line) + len(item) > LINE_WIDTH:
            lines.append(line)
            line = "   "
        line += item
    lines.append(line)
    return "\n".join([
        f"//! Made by `.ci/unicode/make_table.py` from the data of Unicode {UNICODE}; not edited by hand.",
        "",
        "use super::Class::{self, Mark, Sign, Word};",
        "",
        "/// The one Unicode version that the table was made from.",
        f"pub(super) const UNICODE: (u8, u8, u8) = ({UNICODE.replace('.', ', ')});",
        "",
        "/// First and last code point and class of each range: ascending, disjoint, and as long as possible.",
        "#[rustfmt::skip]",
        f"pub(super) static RANGES: [(u32, u32, Class); {len(found)}] = [",
        *lines,
        "];",
        "",
    ])


def main():
    assert unicodedata2.unidata_version == UNICODE, unicodedata2.unidata_version
    classes = bytes(class_of(code_point) for code_point in range(CODE_POINTS))
    text = source(classes)
    print("sha256 of the classes of all code points:", hashlib.sha256(classes).hexdigest())
    if sys.argv[1:] == ["--check"]:
        assert TABLE.read_text() == text, f"{TABLE.name} is not what the program makes"
        return
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(text)


if __name__ == "__main__":
    main()
