//! docs/CONFORMANCE.md is whole and true to itself: each requirement has its row, each row a test that exists and runs, no MUST is
//! refused, the counts are right, and what waits is named in the README. And docs/THREATS.md names, for each attack, tests that run.
//!
//! The page is read strictly: a table is one of two kinds, a cell has one form, and whatever else begins with a bar is an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs, iter,
    path::Path,
};

/// The families: how their ids begin, and the number of the last.
const FAMILIES: [(&str, usize); 4] = [("R", 10), ("D1-", 23), ("F", 40), ("CUJ", 7)];
/// The rows that hold a MUST of the current text are R1 to this one.
const MUST_LAST: usize = 9;
const ROWS: &str = "| id | state | how | test |";
const COUNTS: &str = "| family | rows | met | not built on purpose | later |";
/// Where the README says what waits.
const WAITS: &str = "## What is not proven, and what is not yet private";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Met,
    NotBuilt,
    Later,
}

#[derive(Clone, Debug)]
struct Row {
    id: String,
    state: State,
    /// Files and functions.
    tests: Vec<(String, String)>,
}

/// What the page says.
#[derive(Debug, Default)]
struct Page {
    rows: Vec<Row>,
    /// By family: rows, met, not built, later.
    counts: Vec<(String, [usize; 4])>,
}

/// The cells of a table's line: `| a | b |`.
fn cells<const N: usize>(line: &str) -> Result<[&str; N], String> {
    let inner = line.strip_prefix("| ").and_then(|l| l.strip_suffix(" |"));
    let cells: Vec<&str> = inner.ok_or_else(|| format!("not a row: {line}"))?.split(" | ").collect();
    if cells.iter().any(|c| c.is_empty() || c.trim() != *c || c.contains('|')) {
        return Err(format!("an empty or ragged cell: {line}"));
    }
    cells.try_into().map_err(|_| format!("not {N} cells: {line}"))
}

fn parse_state(word: &str) -> Result<State, String> {
    match word {
        "met" => Ok(State::Met),
        "not built on purpose" => Ok(State::NotBuilt),
        "later" => Ok(State::Later),
        _ => Err(format!("not a state: {word}")),
    }
}

/// `` `path::function` ``, one or more, with a comma between.
fn parse_tests(cell: &str) -> Result<Vec<(String, String)>, String> {
    let mut tests = vec![];
    for text in cell.split(", ") {
        let name = text.strip_prefix('`').and_then(|t| t.strip_suffix('`')).and_then(|t| t.split_once("::"));
        let (path, function) = name.ok_or_else(|| format!("not the name of a test: {text}"))?;
        let is_word = !function.is_empty() && function.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_word || !is_place_of_tests(path) {
            return Err(format!("not the name of a test: {text}"));
        }
        tests.push((path.to_owned(), function.to_owned()));
    }
    let distinct: BTreeSet<_> = tests.iter().collect();
    if distinct.len() == tests.len() { Ok(tests) } else { Err(format!("a test is named twice: {cell}")) }
}

/// Whether cargo would run a test in this file: one of a crate's own, or an integration test.
fn is_place_of_tests(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let plain = parts.iter().all(|p| !p.is_empty() && *p != "." && *p != "..");
    let is_rust = Path::new(path).extension().is_some_and(|e| e == "rs");
    let inside = matches!(parts.as_slice(), ["src", ..] | [_, "src", ..] | ["tests", _] | [_, "tests", _]);
    plain && is_rust && inside
}

fn parse(page: &str) -> Result<Page, String> {
    let mut parsed = Page::default();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.trim_start().starts_with('|') {
            continue;
        }
        if ![ROWS, COUNTS].contains(&line) {
            return Err(format!("a row outside of the tables that are known: {line}"));
        }
        let dashes = iter::once("|").chain(line.matches(" | ").chain(["|"]).map(|_| "---|")).collect::<String>();
        if lines.next() != Some(&dashes) {
            return Err(format!("no {dashes} under {line}"));
        }
        while let Some(row) = lines.next_if(|l| l.starts_with('|')) {
            if line == ROWS {
                let [id, state, _how, tests] = cells(row)?;
                let (state, tests) = (parse_state(state)?, parse_tests(tests).map_err(|e| format!("{id}: {e}"))?);
                parsed.rows.push(Row { id: id.to_owned(), state, tests });
            } else {
                let [family, numbers @ ..] = cells::<5>(row)?;
                let mut counts = [0; 4];
                for (count, text) in counts.iter_mut().zip(numbers) {
                    *count = text.parse().map_err(|_| format!("not a count: {row}"))?;
                }
                parsed.counts.push((family.to_owned(), counts));
            }
        }
    }
    Ok(parsed)
}

fn ids(family: &str, last: usize) -> impl Iterator<Item = String> {
    (1..=last).map(move |i| format!("{family}{i}"))
}

/// The counts of all families, and of all together.
fn count(rows: &[Row]) -> Vec<(String, [usize; 4])> {
    let of = |name: &str, ids: BTreeSet<String>| {
        let mine: Vec<State> = rows.iter().filter(|r| ids.contains(&r.id)).map(|r| r.state).collect();
        let so_many = |state| mine.iter().filter(|s| **s == state).count();
        (name.to_owned(), [mine.len(), so_many(State::Met), so_many(State::NotBuilt), so_many(State::Later)])
    };
    let each = FAMILIES.iter().map(|(family, last)| of(family.trim_end_matches('-'), ids(family, *last).collect()));
    each.chain([of("all", rows.iter().map(|r| r.id.clone()).collect())]).collect()
}

/// The words under a heading of the README, up to the next.
fn section<'a>(readme: &'a str, heading: &str) -> BTreeSet<&'a str> {
    let after = readme.split_once(&format!("\n{heading}\n")).map_or("", |(_, after)| after);
    let text = after.split("\n## ").next().unwrap_or("");
    text.split(|c: char| !c.is_alphanumeric()).collect()
}

/// Everything that is wrong with a page, by its README and the sources by path.
fn faults(page: &str, readme: &str, source: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let page = match parse(page) {
        Ok(page) => page,
        Err(why) => return vec![why],
    };
    let mut faults = vec![];
    let expected: Vec<String> = FAMILIES.iter().flat_map(|(family, last)| ids(family, *last)).collect();
    let found: Vec<&String> = page.rows.iter().map(|r| &r.id).collect();
    if !found.iter().copied().eq(&expected) {
        let missing: Vec<_> = expected.iter().filter(|id| !found.contains(id)).collect();
        faults.push(format!("not every id once and in its order; missing: {missing:?}; found: {found:?}"));
    }
    if page.counts != count(&page.rows) {
        faults.push(format!("the counts are {:?}, and not {:?}", count(&page.rows), page.counts));
    }
    let musts: BTreeSet<String> = ids(FAMILIES[0].0, MUST_LAST).collect();
    let said = section(readme, WAITS);
    for row in page.rows.iter().filter(|r| musts.contains(&r.id)) {
        // "No MUST of the current text (R1 to R9) may be refused; where one waits for a later wave the README says so."
        if row.state == State::NotBuilt {
            faults.push(format!("{} is refused", row.id));
        }
        if row.state == State::Later && !said.contains(&row.id[..]) {
            faults.push(format!("{} waits, and the README does not say so", row.id));
        }
    }
    if !readme.contains("(docs/CONFORMANCE.md)") {
        faults.push("the README does not lead to the page".to_owned());
    }
    faults.extend(tests_that_do_not_run(&page.rows, source));
    faults
}

fn tests_that_do_not_run(rows: &[Row], source: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut faults = vec![];
    let mut files: BTreeMap<&str, Option<BTreeSet<String>>> = BTreeMap::new();
    for row in rows {
        for (path, function) in &row.tests {
            match files.entry(path).or_insert_with(|| source(path).map(|text| tests_in(&text))) {
                None => faults.push(format!("{}: there is no file {path}", row.id)),
                Some(tests) if !tests.contains(function) => {
                    faults.push(format!("{}: {path} has no test {function} that always runs", row.id));
                }
                Some(_) => {}
            }
        }
    }
    faults
}

/// The tests of a source text that run whenever the tests are run: not ignored, and under no condition of their own.
fn tests_in(source: &str) -> BTreeSet<String> {
    let code = code(source);
    let mut tests = BTreeSet::new();
    let mut attributes: Vec<&str> = vec![];
    for line in code.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if line.starts_with("#[") {
            attributes.push(line);
            continue;
        }
        let is_test = attributes.iter().any(|a| *a == "#[test]" || a.starts_with("#[tokio::test"));
        let is_conditional = attributes.iter().any(|a| a.starts_with("#[ignore") || a.starts_with("#[cfg"));
        attributes.clear();
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let (Some(name), true, false) = (name, is_test, is_conditional) {
            tests.insert(name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned());
        }
    }
    tests
}

/// A source text without its comments and without what stands in its strings.
fn code(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let in_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            'r' | 'b' if !in_word => raw_string(rest),
            '"' => string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(c);
        }
        rest = &rest[if skipped == 0 { c.len_utf8() } else { skipped }..];
    }
    code
}

/// Bytes of the comment that begins here, and of those in it.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        at += match rest.chars().next() {
            None => return at,
            _ if rest.starts_with("/*") => {
                depth += 1;
                2
            }
            _ if rest.starts_with("*/") => {
                depth -= 1;
                2
            }
            Some(c) => c.len_utf8(),
        };
        if depth == 0 {
            return at;
        }
    }
}

/// Bytes of the raw string that begins here; 0 if none does.
fn raw_string(text: &str) -> usize {
    let Some(after) = text.strip_prefix("br").or_else(|| text.strip_prefix('r')) else { return 0 };
    let inner = after.trim_start_matches('#');
    let end = format!("\"{}", "#".repeat(after.len() - inner.len()));
    let Some(inner) = inner.strip_prefix('"') else { return 0 };
    let begin = text.len() - inner.len();
    inner.find(&end).map_or(text.len(), |at| begin + at + end.len())
}

/// Bytes of the string that begins here.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Bytes of the character that begins here; 0 if it is a lifetime.
fn character(text: &str) -> usize {
    let inner = &text[1..];
    let Some(c) = inner.chars().next() else { return 0 };
    if c == '\\' {
        return inner[2..].find('\'').map_or(0, |at| at + 4);
    }
    if inner[c.len_utf8()..].starts_with('\'') { c.len_utf8() + 2 } else { 0 }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

#[test]
fn the_page_is_whole_and_its_tests_exist() {
    let (page, readme) = (read("docs/CONFORMANCE.md").unwrap(), read("README.md").unwrap());
    let faults = faults(&page, &readme, read);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for (family, [rows, met, not_built, later]) in parse(&page).unwrap().counts {
        println!("{family}: {rows} rows, {met} met, {not_built} not built on purpose, {later} later");
    }
}

/// The tests that a page names, wherever it does: `` `path::function` ``.
fn named_tests(page: &str) -> Result<Vec<(String, String)>, String> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter(|text| text.contains(".rs::")).map(|text| parse_tests(&format!("`{text}`"))).try_fold(
        vec![],
        |mut all, tests| {
            all.extend(tests?);
            Ok(all)
        },
    )
}

/// docs/THREATS.md says what stops or shows an attack. Each of its attacks names a test, and each test that it names exists and runs.
#[test]
fn every_attack_names_tests_that_exist_and_run() {
    let page = read("docs/THREATS.md").unwrap();
    let table = page.split("\n## Attacks\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let rows: Vec<&str> = table.lines().filter(|l| l.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 50, "the table has another form now");
    let mut named: Vec<Row> = vec![];
    for row in rows {
        let [attack, _, tests] = cells(row).unwrap();
        let tests = parse_tests(tests).unwrap_or_else(|why| panic!("{attack}: {why}"));
        named.push(Row { id: attack.to_owned(), state: State::Met, tests });
    }
    let rest = Row { id: "the page".to_owned(), state: State::Met, tests: named_tests(&page).unwrap() };
    let faults = tests_that_do_not_run(&[named, vec![rest]].concat(), read);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

const GOOD_TEST: &str = "`tests/x.rs::it_is_so`";
const GOOD_README: &str = "# W\n\n[page](docs/CONFORMANCE.md)\n\n## What is not proven, and what is not yet private\n\n- MIMI's R6 waits.\n\n## R8\n";

/// A page on which everything is met.
fn good_page() -> String {
    let mut page = "# A page\n\n".to_owned();
    let mut all = 0;
    writeln!(page, "{COUNTS}\n|---|---|---|---|---|").unwrap();
    for (family, last) in FAMILIES {
        writeln!(page, "| {} | {last} | {last} | 0 | 0 |", family.trim_end_matches('-')).unwrap();
        all += last;
    }
    writeln!(page, "| all | {all} | {all} | 0 | 0 |").unwrap();
    for (family, last) in FAMILIES {
        writeln!(page, "\n## {family}\n\n{ROWS}\n|---|---|---|---|").unwrap();
        ids(family, last).for_each(|id| writeln!(page, "| {id} | met | By x. | {GOOD_TEST} |").unwrap());
    }
    page
}

fn source(path: &str) -> Option<String> {
    (path == "tests/x.rs").then(|| "#[test]\nfn it_is_so() {}\n#[test]\n#[ignore]\nfn not_today() {}\n".to_owned())
}

/// The page with one thing replaced once, and its one fault.
#[track_caller]
fn altered(from: &str, to: &str, fault: &str) {
    let page = good_page();
    assert!(page.contains(from), "{from}");
    let found = faults(&page.replacen(from, to, 1), GOOD_README, source);
    assert!(found.iter().any(|f| f.contains(fault)), "{to}: {found:?}");
}

#[test]
fn a_good_page_has_no_fault_and_every_bad_row_has_one() {
    assert_eq!(faults(&good_page(), GOOD_README, source), Vec::<String>::new());
    let row = |id: &str| format!("| {id} | met | By x. | {GOOD_TEST} |\n");
    altered(&row("R7"), "", "missing: [\"R7\"]");
    altered(&row("D1-23"), &[row("D1-23"), row("D1-24")].concat(), "in its order");
    altered(&row("F3"), &[row("F3"), row("F3")].concat(), "in its order");
    altered(&row("CUJ1"), &row("CUJ01"), "missing: [\"CUJ1\"]");
    altered(&[row("F1"), row("F2")].concat(), &[row("F2"), row("F1")].concat(), "in its order");
    altered("| R1 | met |", "| R1 | done |", "not a state");
    altered("| R1 | met |", "| R1 | Met |", "not a state");
    altered("| R1 | met | By x. |", "| R1 | met |  |", "ragged");
    altered("| R1 | met | By x. |", "| R1 | met |", "not 4 cells");
    altered("| R1 | met | By x. |", "| R1 | met | By | x. |", "not 4 cells");
    altered("| R1 | met |", "| R1  | met |", "ragged");
    altered("| R1 | met |", "|R1 | met |", "not a row");
    altered("\n## R\n", "\n| stray |\n", "outside of the tables");
    altered("| id | state | how | test |", "| id | state | test |", "outside of the tables");
    altered("|---|---|---|---|\n| R1 |", "| R1 |", "under | id");
    altered("| all | 80 | 80 | 0 | 0 |", "| all | 80 | 79 | 0 | 1 |", "the counts are");
    altered("| F | 40 | 40 | 0 | 0 |\n", "", "the counts are");
    altered("| F | 40 | 40 |", "| F | 40 | many |", "not a count");
    altered("| F9 | met |", "| F9 | later |", "the counts are");
}

#[test]
fn no_must_is_refused_and_what_waits_is_in_the_readme() {
    altered("| R9 | met |", "| R9 | not built on purpose |", "R9 is refused");
    altered("| R1 | met |", "| R1 | later |", "R1 waits");
    // R8 has a heading of its own, outside of the section that counts.
    altered("| R8 | met |", "| R8 | later |", "R8 waits");
    let counted = |page: String| {
        page.replace("| R | 10 | 10 | 0 | 0 |", "| R | 10 | 9 | 0 | 1 |")
            .replace("| all | 80 | 80 | 0 | 0 |", "| all | 80 | 79 | 0 | 1 |")
    };
    let waits = counted(good_page().replace("| R6 | met |", "| R6 | later |"));
    assert_eq!(faults(&waits, GOOD_README, source), Vec::<String>::new());
    assert_eq!(faults(&waits, &GOOD_README.replace("R6", "R66"), source), ["R6 waits, and the README does not say so"]);
    assert_eq!(faults(&good_page(), &GOOD_README.replace("docs/", ""), source).len(), 1);
}

#[test]
fn a_test_that_is_named_must_exist_and_run() {
    let named = |test: &str| format!("| R2 | met | By x. | {test} |");
    let row = named(GOOD_TEST);
    for (test, fault) in [
        ("none", "not the name of a test"),
        ("tests/x.rs::it_is_so", "not the name of a test"),
        ("`it_is_so`", "not the name of a test"),
        ("`tests/x.rs`", "not the name of a test"),
        ("`tests/x.rs::`", "not the name of a test"),
        ("`tests/x.rs::it is so`", "not the name of a test"),
        ("`tests/x.rs::it_is_so` `tests/x.rs::it_is_so`", "not the name of a test"),
        ("`tests/x.rs::it_is_so`, `tests/x.rs::it_is_so`", "twice"),
        ("`../tests/x.rs::it_is_so`", "not the name of a test"),
        ("`/tests/x.rs::it_is_so`", "not the name of a test"),
        ("`tests/common/x.rs::it_is_so`", "not the name of a test"),
        ("`docs/x.md::it_is_so`", "not the name of a test"),
        ("`tests/y.rs::it_is_so`", "no file tests/y.rs"),
        ("`tests/x.rs::it_is_not_so`", "has no test it_is_not_so"),
        ("`tests/x.rs::not_today`", "has no test not_today"),
    ] {
        altered(&row, &named(test), fault);
    }
}

#[test]
fn only_what_runs_is_a_test() {
    let text = r##"
//! #[test]
// fn in_a_line() {}
#[test]
fn plain() {}

#[tokio::test(flavor = "multi_thread")]
#[allow(dead_code)]
async fn awaited() { let (quote, backslash, life): (char, char, &'static str) = ('"', '\\', "\"#[test]"); }
/* #[test]
   /* fn in_a_block() {} */ */
const TEXT: &str = "
#[test]
fn in_a_string() {}
";
const RAW: &str = r#"
#[test]
fn in_a_raw_string() { " }
"#;
const BYTES: &[u8] = br"
#[test]
fn in_raw_bytes() {}
";
#[test]
#[ignore = "slow"]
fn ignored() {}
#[ignore]
#[test]
fn ignored_too() {}
#[cfg(feature = "sled")]
#[test]
fn sometimes() {}
#[cfg_attr(not(unix), ignore)]
#[test]
fn not_everywhere() {}
fn helper<'a>(x: &'a str) -> &'a str { x }
#[test]
const NOT_A_FUNCTION: u8 = 0;
fn not_a_test() {}
proptest! {
    /// With a word before it.
    #[test]
    fn for_all(x in any::<u8>()) {}
}
"##;
    let found: Vec<String> = tests_in(text).into_iter().collect();
    assert_eq!(found, ["awaited", "for_all", "plain"]);
}
