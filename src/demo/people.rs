//! Who is registered: JSON lines, one person a line, checked before anything starts.
//!
//! ```json
//! {"csi": "tel:+4915112345642", "opted_out": false,
//!  "mappings": [{"msp": "chat.example", "account": "mimi://chat.example/u/1", "tags": ["default"]},
//!               {"msp": "wire.example", "account": "mimi://wire.example/u/2", "tags": [], "exact_tag": "soccer"}]}
//! ```

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
};

use serde::Deserialize;
use waymark_mapping::{
    identifier::Csi,
    mapping::Tags,
    names::{Account, Domain, Tag},
    record::{HIDDEN_SLOTS, VISIBLE_MAPPINGS_DEFAULT},
};
use waymark_runtime::durable;

/// Most distinct MSPs: the demo runs an adapter for each.
pub const MSPS_MAX: usize = 32;
/// Most bytes in a people file.
const PEOPLE_BYTES_MAX: usize = 256 << 20;
/// Two hundred people who do not exist, with numbers and domains that are kept for such.
const SAMPLE: &str = include_str!("sample.jsonl");

/// One mapping of a person.
#[derive(Clone, Debug)]
pub struct PersonMapping {
    /// Where.
    pub msp: Domain,
    /// The account there.
    pub account: Account,
    /// What for.
    pub tags: Tags,
}

/// One person.
#[derive(Clone, Debug)]
pub struct Person {
    /// Their identifier.
    pub csi: Csi,
    /// Where they are; empty if they opted out.
    pub mappings: Vec<PersonMapping>,
}

/// A people file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// It cannot be read.
    #[error("{0}")]
    File(String),
    /// A line is no good.
    #[error("line {line}: {what}")]
    Line {
        /// Which, counted from one.
        line: usize,
        /// What is wrong; never quotes an identifier.
        what: String,
    },
}

#[derive(Deserialize)]
struct Line {
    csi: String,
    #[serde(default)]
    opted_out: bool,
    #[serde(default)]
    mappings: Vec<LineMapping>,
}

#[derive(Deserialize)]
struct LineMapping {
    msp: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    tags: Vec<String>,
    exact_tag: Option<String>,
}

/// The built-in sample.
///
/// # Panics
/// Never: a test reads it.
pub fn sample() -> Vec<Person> {
    parse(SAMPLE).expect("the built-in sample is good")
}

/// Reads a people file.
///
/// # Errors
/// [`PeopleError`].
pub fn read(path: &Path) -> Result<Vec<Person>, PeopleError> {
    let file = |what: String| PeopleError::File(format!("{}: {what}", path.display()));
    let bytes = durable::read(path, PEOPLE_BYTES_MAX).map_err(|e| file(e.to_string()))?;
    let bytes = bytes.ok_or_else(|| file("there is no such file".to_owned()))?;
    let text = String::from_utf8(bytes).map_err(|_| file("not UTF-8".to_owned()))?;
    parse(&text)
}

/// Reads JSON lines.
///
/// # Errors
/// [`PeopleError::Line`] for the first bad one.
pub fn parse(text: &str) -> Result<Vec<Person>, PeopleError> {
    let (mut people, mut seen, mut msps) = (Vec::new(), HashSet::new(), BTreeSet::new());
    for (i, line) in text.lines().enumerate() {
        let bad = |what: &str| PeopleError::Line { line: i + 1, what: what.to_owned() };
        let person = parse_line(line).map_err(|what| bad(&what))?;
        if !seen.insert(person.csi.clone()) {
            return Err(bad("the identifier occurs twice"));
        }
        msps.extend(person.mappings.iter().map(|m| m.msp.clone()));
        if msps.len() > MSPS_MAX {
            return Err(bad(&format!("more than {MSPS_MAX} distinct providers: the demo runs an adapter for each")));
        }
        people.push(person);
    }
    if people.is_empty() {
        return Err(PeopleError::File("the file names nobody".to_owned()));
    }
    Ok(people)
}

fn parse_line(line: &str) -> Result<Person, String> {
    let line: Line = serde_json::from_str(line)
        .map_err(|e| format!("not a JSON object of the form asked for, at column {}", e.column()))?;
    let csi = Csi::parse(&line.csi).map_err(|e| e.to_string())?;
    if line.opted_out != line.mappings.is_empty() {
        return Err("whoever opted out has no mappings, and whoever has none opted out".to_owned());
    }
    let mappings: Vec<PersonMapping> = line.mappings.iter().map(parse_mapping).collect::<Result<_, _>>()?;
    let hidden = mappings.iter().filter(|m| m.tags.as_exact().is_some()).count();
    if hidden > HIDDEN_SLOTS || mappings.len() - hidden > VISIBLE_MAPPINGS_DEFAULT {
        return Err("more than eight visible or eight hidden mappings".to_owned());
    }
    Ok(Person { csi, mappings })
}

fn parse_mapping(m: &LineMapping) -> Result<PersonMapping, String> {
    let tag = |t: &String| Tag::parse(t).ok_or("a tag has surplus spaces or characters that are not allowed");
    let tags = match &m.exact_tag {
        Some(exact) if m.tags.is_empty() => Tags::Exact(tag(exact)?),
        Some(_) => return Err("an exact-match tag stands alone".to_owned()),
        None => Tags::shown(m.tags.iter().map(tag).collect::<Result<_, _>>()?)
            .ok_or("tags repeat, are too many, or `default` is not alone")?,
    };
    let msp = Domain::parse(&m.msp).ok_or("a provider is named by a lower-case domain")?;
    let account = Account::parse(&m.account).ok_or("an account has at most 255 bytes and no control characters")?;
    Ok(PersonMapping { msp, account, tags })
}

/// The distinct MSPs of these people.
pub fn msps(people: &[Person]) -> BTreeSet<Domain> {
    people.iter().flat_map(|p| &p.mappings).map(|m| m.msp.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_good() {
        let people = sample();
        assert_eq!(people.len(), 200);
        assert!(people.iter().any(|p| p.mappings.is_empty()));
        assert!(people.iter().flat_map(|p| &p.mappings).any(|m| m.tags.as_exact().is_some()));
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_and_not_quoted() {
        let good = r#"{"csi":"tel:+4915112345642","mappings":[{"msp":"a.example"}]}"#;
        let mapping = |m: &str| format!(r#"{{"csi":"tel:+4915112345643","mappings":[{m}]}}"#);
        for bad in [
            "",
            "{",
            good,
            r#"{"csi":"+4915112345643","mappings":[{"msp":"a.example"}]}"#,
            r#"{"csi":"tel:+4915112345643","mappings":[]}"#,
            r#"{"csi":"tel:+4915112345643","opted_out":true,"mappings":[{"msp":"a.example"}]}"#,
            &mapping(r#"{"msp":"A.example"}"#),
            &mapping(r#"{"msp":"a.example","tags":["x","x"]}"#),
            &mapping(r#"{"msp":"a.example","tags":["x"],"exact_tag":"y"}"#),
            &mapping(&[r#"{"msp":"a.example"}"#; 9].join(",")),
        ] {
            let error = parse(&format!("{good}\n{bad}\n")).unwrap_err().to_string();
            assert!(error.starts_with("line 2: ") && !error.contains("4915"), "{error}");
        }
        let many: Vec<String> = (0..33)
            .map(|i| format!(r#"{{"csi":"tel:+491511234{i:04}","mappings":[{{"msp":"m{i}.example"}}]}}"#))
            .collect();
        assert!(parse(&many[..32].join("\n")).is_ok());
        assert!(parse(&many.join("\n")).unwrap_err().to_string().starts_with("line 33: "));
    }
}
