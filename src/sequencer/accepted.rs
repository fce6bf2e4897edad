//! Findings that the operator has looked at and accepted, so that a log that bears them may go on.
//!
//! A log cannot be mended: what is in it stays. A DP does not continue a log with which monitors find fault, until its operator has
//! said, finding by finding, that it is to. Only such findings can be accepted that rewrite nothing
//! ([`Finding::rewrites_nothing`]): an entry that had no business there, or a batch that is not of the form. Monitors go on
//! saying what they found.
//!
//! ```toml
//! # accepted-findings.toml, written by `waymark-dp accept-findings`
//! format = 1
//! origin = "dp.example/log"
//! [[finding]]
//! entry = 18                      # its index
//! rule = "consent"                # which rule it breaks
//! leaf = "…"                      # its leaf hash, 64 hex digits
//! ```

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize};
use waymark_log::{
    checkpoint::Origin,
    hash::{Hash, leaf_hash},
};
use waymark_mapping::audit::Finding;
use waymark_runtime::{
    config::{self, ConfigError},
    durable,
};

use crate::config::names;

/// The form of the file that this program reads and writes.
const FORMAT: u32 = 1;
/// Most findings that can be accepted: a log with more was not spoilt by one fault.
pub const ACCEPTED_MAX: usize = 256;

/// A finding in this log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What monitors say.
    pub finding: Finding,
    /// The leaf hash of the entry that shows it, if one does.
    pub leaf: Option<Hash>,
}

impl Found {
    /// A finding over these entries of a log, which begin with entry 0.
    pub fn new(finding: Finding, entries: &[Vec<u8>]) -> Self {
        let entry = finding.index().and_then(|i| entries.get(usize::try_from(i).ok()?));
        let leaf = entry.map(|entry| leaf_hash(entry));
        Self { finding, leaf }
    }

    /// Whether an operator may accept it.
    pub const fn can_be_accepted(&self) -> bool {
        self.finding.rewrites_nothing() && self.leaf.is_some()
    }

    fn line(&self) -> Option<Line> {
        let (Some(entry), Some(leaf)) = (self.finding.index(), self.leaf) else { return None };
        Some(Line { entry, rule: self.finding.rule().to_owned(), leaf: leaf.to_hex() })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (rule {}", self.finding, self.finding.rule())?;
        match &self.leaf {
            Some(leaf) => write!(f, ", leaf {})", leaf.to_hex()),
            None => f.write_str(")"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    entry: u64,
    rule: String,
    leaf: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    origin: String,
    #[serde(default)]
    finding: Vec<Line>,
}

/// The findings that were accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted(Vec<Line>);

impl Accepted {
    /// None.
    pub const NONE: Self = Self(Vec::new());

    /// Those that the data folder of a DP says.
    ///
    /// # Errors
    /// [`ConfigError`] if the file is not of the form, or is about another log.
    pub fn load(dir: &Path, origin: &Origin) -> Result<Self, ConfigError> {
        let path = dir.join(names::ACCEPTED);
        if !path.exists() {
            return Ok(Self::NONE);
        }
        let file: File = config::load(&path)?;
        if file.format != FORMAT || file.origin != origin.as_str() || file.finding.len() > ACCEPTED_MAX {
            return Err(ConfigError::new(&path, "of another format or log, or with too many findings"));
        }
        Ok(Self(file.finding))
    }

    /// Writes these findings down, in the place of those before. All of them must be such that can be accepted.
    ///
    /// # Errors
    /// If one cannot, or the file cannot be written.
    pub fn store(dir: &Path, origin: &Origin, found: &[Found]) -> Result<(), ConfigError> {
        let path = dir.join(names::ACCEPTED);
        let lines = found.iter().map(|f| f.line().filter(|_| f.can_be_accepted())).collect::<Option<Vec<_>>>();
        let finding = lines.filter(|l| l.len() <= ACCEPTED_MAX);
        let finding =
            finding.ok_or_else(|| ConfigError::new(&path, "a finding cannot be accepted, or they are too many"))?;
        let file = File { format: FORMAT, origin: origin.as_str().to_owned(), finding };
        let text = toml::to_string_pretty(&file).map_err(|e| ConfigError::new(&path, e))?;
        durable::replace(&path, text.as_bytes()).map_err(|e| ConfigError::new(&path, e))
    }

    /// Whether this finding was accepted, as it is: index, rule and leaf hash are those that were written down, and it is of a kind
    /// that can be accepted, whatever the file says.
    pub fn contains(&self, found: &Found) -> bool {
        found.can_be_accepted() && found.line().is_some_and(|line| self.0.contains(&line))
    }
}
