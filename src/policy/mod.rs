//! The policy document: what a DP promises to people, in a form that programs read too.
//!
//! It is policy.toml in the data folder. Its SHA-256 is in the open entry or the latest config entry, so it is signed with every
//! checkpoint and cannot be changed unseen; every document that was ever logged is kept and served ([`shelf`]), and another one takes
//! effect with the head behind its config entry ([`change`]). The text explains each of its fields; [`TEMPLATE`] is where that is
//! written.
//!
//! Most of it says what this program does anyway. A DP whose configuration or whose code does something else does not start
//! ([`Document::check`]): a promise that nobody keeps is worse than none.

pub mod change;
pub mod shelf;

use serde::Deserialize;
use waymark_mapping::{
    mapping::MAPPING_LIFETIME_MS_MAX,
    names::{Domain, Region},
    record::{HIDDEN_SLOTS, HOLD_MS, NEW_MS, SHORT_HOLD_MS, VISIBLE_SLOTS_MAX},
    tenure::PASSAGE_MS,
};

use crate::{
    config::{Codes, File},
    possession::CHALLENGE_MS,
};

/// Most bytes in a policy document: it is fetched by programs, and most of it is the terms.
pub const DOCUMENT_BYTES_MAX: usize = 32 << 10;
/// Fewest look-ups a day that any sender is promised.
pub const LOOKUPS_PER_DAY_MIN: u32 = 50;
/// Most regions, and most channels, in a document.
pub const LIST_MAX: usize = 16;
/// Most bytes in a contact.
pub const CONTACT_BYTES_MAX: usize = 255;

/// The form of document that this program reads.
const FORMAT: u32 = 1;
const HOUR_MS: u64 = 3600 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// The channels that codes may take.
const CHANNELS: [&str; 5] = ["console", "email", "folder", "sms", "voice"];

/// A document as it is written, with what each field means.
pub const TEMPLATE: &str = include_str!("template.toml");

/// Why a document cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, or a field is missing, unknown or of another type.
    #[error("not a policy document: {0}")]
    Form(String),
    /// A field that contradicts itself.
    #[error("{field}: {what}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it should be.
        what: &'static str,
    },
    /// A field says something else than the DP does.
    #[error("{field}: the document says {says}, the DP does {does}")]
    Contradiction {
        /// Which.
        field: &'static str,
        /// What the document says.
        says: String,
        /// What the configuration or the program does.
        does: String,
    },
    /// There is no such document.
    #[error("the policy document {0} is not in the folder of policies")]
    Missing(String),
    /// The file system.
    #[error("{0}")]
    Io(String),
}

/// A policy document, checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    format: u32,
    /// Who promises.
    pub domain: String,
    /// Whom to ask; empty for nobody.
    pub contact: String,
    /// How codes may come.
    pub channels: Vec<String>,
    /// Where the payload of records is kept; mappings for other regions are not taken.
    pub regions: Vec<String>,
    /// Whether answers are asked of other DPs.
    pub federation: bool,
    /// The provers whose proofs are stricter than a code: a claim that rests on one waits less.
    stricter_provers: Vec<String>,
    /// How much of what.
    pub limits: Limits,
    /// How long what waits.
    pub holds: Holds,
    /// About mappings.
    pub mappings: Mappings,
    /// What is so unless a recipient says otherwise.
    pub defaults: Defaults,
    /// What is kept, and how long.
    pub retention: Retention,
    /// For people.
    pub terms: Terms,
}

/// How much of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    visible_mappings: u64,
    hidden_mappings: u64,
    /// Look-ups a minute for each address.
    pub lookups_per_minute: u32,
    /// Look-ups a minute that each MSP may relay.
    pub relayed_lookups_per_minute: u32,
    /// Look-ups a day that any sender has at least.
    pub lookups_per_day_min: u32,
}

/// How long what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holds {
    claim_hours: u64,
    claim_shortened_hours: u64,
    new_mapping_hours: u64,
    proof_days: u64,
}

/// About mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mappings {
    lifetime_days: u64,
}

/// What is so unless a recipient says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    general_query: String,
}

/// What is kept, and how long.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    records: String,
    log: String,
    erased_hours: u64,
    former_tenure_days: u64,
    challenge_minutes: u64,
    returning: String,
    address_hours: u64,
}

/// For people.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The text.
    pub text: String,
}

impl Document {
    /// The document that a configuration calls for. Contact and terms are the operator's to write.
    pub fn of(file: &File) -> Self {
        Self {
            format: FORMAT,
            domain: file.domain.clone(),
            contact: String::new(),
            channels: channels_of(&file.codes),
            regions: file.regions.clone(),
            federation: false,
            stricter_provers: stricter_of(file),
            limits: Limits {
                visible_mappings: file.visible_mappings as u64,
                hidden_mappings: HIDDEN_SLOTS as u64,
                lookups_per_minute: file.lookups_per_minute,
                relayed_lookups_per_minute: file.relays_per_minute,
                lookups_per_day_min: LOOKUPS_PER_DAY_MIN,
            },
            holds: Holds {
                claim_hours: HOLD_MS / HOUR_MS,
                claim_shortened_hours: SHORT_HOLD_MS / HOUR_MS,
                new_mapping_hours: NEW_MS / HOUR_MS,
                proof_days: PASSAGE_MS / DAY_MS,
            },
            mappings: Mappings { lifetime_days: MAPPING_LIFETIME_MS_MAX / DAY_MS },
            defaults: Defaults { general_query: "visible".to_owned() },
            retention: Retention {
                records: "sealed".to_owned(),
                log: "for ever".to_owned(),
                erased_hours: 1,
                former_tenure_days: PASSAGE_MS / DAY_MS,
                challenge_minutes: CHALLENGE_MS / 60_000,
                returning: "digests".to_owned(),
                address_hours: 24,
            },
            terms: Terms { text: String::new() },
        }
    }

    /// The document that a configuration calls for, with this one's words.
    pub fn renewed(self, file: &File) -> Self {
        let mut new = Self { contact: self.contact, terms: self.terms, ..Self::of(file) };
        new.limits.lookups_per_day_min = self.limits.lookups_per_day_min;
        new
    }

    /// Reads a document.
    ///
    /// # Errors
    /// [`PolicyError::Form`], [`PolicyError::Field`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(PolicyError::Form(format!("over {DOCUMENT_BYTES_MAX} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| PolicyError::Form("not UTF-8".to_owned()))?;
        let document: Self = toml::from_str(text).map_err(|e| PolicyError::Form(e.to_string()))?;
        document.check_fields()?;
        Ok(document)
    }

    /// What no configuration could make good.
    fn check_fields(&self) -> Result<(), PolicyError> {
        let wrong = |field, what| Err(PolicyError::Field { field, what });
        if self.format != FORMAT {
            return wrong("format", "this program reads format 1");
        }
        if Domain::parse(&self.domain).is_none() {
            return wrong("domain", "not a lower-case domain name");
        }
        if self.contact.len() > CONTACT_BYTES_MAX || self.contact.contains(char::is_control) {
            return wrong("contact", "at most 255 bytes on one line");
        }
        if self.channels.len() > LIST_MAX || !self.channels.iter().all(|c| CHANNELS.contains(&c.as_str())) {
            return wrong("channels", "each is one of console, email, folder, sms, voice");
        }
        if self.regions.len() > LIST_MAX || !self.regions.iter().all(|r| !r.is_empty() && Region::parse(r).is_some()) {
            return wrong("regions", "each has 1 to 8 upper-case letters, digits or hyphens");
        }
        let is_prover = |p: &String| *p != self.domain && Domain::parse(p).is_some();
        let ascends = self.stricter_provers.windows(2).all(|w| w[0] < w[1]);
        if self.stricter_provers.len() > LIST_MAX || !ascends || !self.stricter_provers.iter().all(is_prover) {
            return wrong("stricter_provers", "at most 16 domain names other than the DP's, each once, in order");
        }
        if !(1..=VISIBLE_SLOTS_MAX as u64).contains(&self.limits.visible_mappings) {
            return wrong("limits.visible_mappings", "1 to 32: a record has room for no more");
        }
        // "Budgets: at least 50 a day for any sender."
        if self.limits.lookups_per_day_min < LOOKUPS_PER_DAY_MIN {
            return wrong("limits.lookups_per_day_min", "at least 50 look-ups a day for any sender");
        }
        let a_day = u64::from(self.limits.lookups_per_minute) * 24 * 60;
        if u64::from(self.limits.lookups_per_day_min) > a_day {
            return wrong("limits.lookups_per_day_min", "limits.lookups_per_minute leaves fewer than that");
        }
        Ok(())
    }

    /// Checks that the DP does what the document says; `does` is [`Document::of`] its configuration.
    ///
    /// # Errors
    /// [`PolicyError::Contradiction`] with the first field of which it does not.
    pub fn check(&self, does: &Self) -> Result<(), PolicyError> {
        let both = self.determined().into_iter().zip(does.determined());
        match both.into_iter().find(|(says, does)| says != does) {
            None => Ok(()),
            Some(((field, says), (_, does))) => Err(PolicyError::Contradiction { field, says, does }),
        }
    }

    /// What follows from the configuration and the program; the rest is words.
    fn determined(&self) -> [(&'static str, String); 23] {
        let Self { limits, holds, retention, .. } = self;
        let list = |items: &[String]| format!("{items:?}");
        [
            ("domain", self.domain.clone()),
            ("channels", list(&self.channels)),
            ("regions", list(&self.regions)),
            ("federation", self.federation.to_string()),
            ("stricter_provers", list(&self.stricter_provers)),
            ("limits.visible_mappings", limits.visible_mappings.to_string()),
            ("limits.hidden_mappings", limits.hidden_mappings.to_string()),
            ("limits.lookups_per_minute", limits.lookups_per_minute.to_string()),
            ("limits.relayed_lookups_per_minute", limits.relayed_lookups_per_minute.to_string()),
            ("holds.claim_hours", holds.claim_hours.to_string()),
            ("holds.claim_shortened_hours", holds.claim_shortened_hours.to_string()),
            ("holds.new_mapping_hours", holds.new_mapping_hours.to_string()),
            ("holds.proof_days", holds.proof_days.to_string()),
            ("mappings.lifetime_days", self.mappings.lifetime_days.to_string()),
            ("defaults.general_query", self.defaults.general_query.clone()),
            ("retention.records", retention.records.clone()),
            ("retention.log", retention.log.clone()),
            ("retention.erased_hours", retention.erased_hours.to_string()),
            ("retention.former_tenure_days", retention.former_tenure_days.to_string()),
            ("retention.challenge_minutes", retention.challenge_minutes.to_string()),
            ("retention.returning", retention.returning.clone()),
            ("retention.address_hours", retention.address_hours.to_string()),
            ("format", self.format.to_string()),
        ]
    }

    /// The same, but for what only a restart changes, which is as `running` says.
    pub fn with_running(self, running: &Self) -> Self {
        let limits = Limits { relayed_lookups_per_minute: running.limits.relayed_lookups_per_minute, ..self.limits };
        Self { channels: running.channels.clone(), limits, ..self }
    }

    /// The provers whose proofs are stricter than others.
    pub fn stricter_provers(&self) -> Vec<Domain> {
        self.stricter_provers.iter().filter_map(|p| Domain::parse(p)).collect()
    }

    /// Most visible mappings of one identifier.
    pub const fn visible_max(&self) -> usize {
        // At most 32, as was checked.
        self.limits.visible_mappings as usize
    }

    /// The regions, parsed.
    pub fn regions(&self) -> Vec<Region> {
        self.regions.iter().filter_map(|r| Region::parse(r)).collect()
    }

    /// The document as it is written: [`TEMPLATE`] with these values. An empty text stays the template's.
    ///
    /// # Errors
    /// [`PolicyError`] if what comes out would not be read again as this.
    pub fn to_text(&self) -> Result<String, PolicyError> {
        let list = |items: &[String]| toml::Value::from(items.to_vec());
        let mut values = vec![
            ("domain", toml::Value::from(self.domain.as_str())),
            ("contact", toml::Value::from(self.contact.as_str())),
            ("channels", list(&self.channels)),
            ("regions", list(&self.regions)),
            ("stricter_provers", list(&self.stricter_provers)),
            ("visible_mappings", toml::Value::from(self.visible_max() as u32)),
            ("lookups_per_minute", toml::Value::from(self.limits.lookups_per_minute)),
            ("relayed_lookups_per_minute", toml::Value::from(self.limits.relayed_lookups_per_minute)),
            ("lookups_per_day_min", toml::Value::from(self.limits.lookups_per_day_min)),
        ];
        let mut text = TEMPLATE.to_owned();
        if !self.terms.text.is_empty() {
            values.push(("text", toml::Value::from(self.terms.text.as_str())));
            let from = text.find("\ntext = ").unwrap_or(text.len());
            text.truncate(from);
            text += "\ntext = \"\"\n";
        }
        for (field, value) in values {
            text = with_value(&text, field, &value.to_string());
        }
        let read = Self::parse(text.as_bytes())?;
        read.check(self)?;
        Ok(text)
    }
}

/// The text with another value on the line of this field.
fn with_value(text: &str, field: &str, value: &str) -> String {
    let start = format!("{field} = ");
    let line = |line: &str| match line.strip_prefix(&start) {
        Some(_) => format!("{start}{value}\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// The provers that a configuration calls stricter, in order.
fn stricter_of(file: &File) -> Vec<String> {
    let mut provers: Vec<String> = file.prover.iter().filter(|p| p.stricter).map(|p| p.domain.clone()).collect();
    provers.sort_unstable();
    provers.dedup();
    provers
}

/// The channels that codes take by a configuration.
pub fn channels_of(codes: &Codes) -> Vec<String> {
    codes.channels().into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        toml::from_str("domain = \"dp.example\"\norigin = \"dp.example/log\"\nregions = [\"EU\", \"CH\"]").unwrap()
    }

    #[test]
    fn a_document_reads_as_what_it_was_made_of() {
        let mut document = Document::of(&file());
        document.contact = "mailto:\"help\"@dp.example".to_owned();
        let text = document.to_text().unwrap();
        let read = Document::parse(text.as_bytes()).unwrap();
        assert_eq!((&read.contact, read.regions()[1].as_str()), (&document.contact, "CH"));
        assert!(read.terms.text.contains("code"), "the template's terms stay");
        document.terms.text = "One line.\nAnd \"\"\" another.\n".to_owned();
        let own = Document::parse(document.to_text().unwrap().as_bytes()).unwrap();
        assert_eq!(own, document);
    }

    #[test]
    fn every_field_is_explained_and_needed_and_none_is_added() {
        let text = Document::of(&file()).to_text().unwrap();
        let mut fields = 0;
        for line in text.lines().take_while(|l| !l.starts_with("text =")) {
            if line.contains(" = ") && !line.starts_with('#') {
                assert!(Document::parse(text.replace(line, "").as_bytes()).is_err(), "without {line}");
                let before = text.split(line).next().unwrap().lines().last().unwrap();
                assert!(before.starts_with("# "), "{line} is not explained");
                fields += 1;
            }
        }
        assert_eq!(fields, 25);
        assert!(Document::parse(format!("more = 1\n{text}").as_bytes()).is_err());
        assert!(Document::parse(&vec![b'#'; DOCUMENT_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_field_that_says_something_else_is_named() {
        let does = Document::of(&file());
        let text = does.to_text().unwrap();
        for (field, from, to) in [
            ("holds.claim_hours", "claim_hours = 336", "claim_hours = 24"),
            ("mappings.lifetime_days", "lifetime_days = 180", "lifetime_days = 360"),
            ("retention.former_tenure_days", "former_tenure_days = 30", "former_tenure_days = 1"),
            ("federation", "federation = false", "federation = true"),
            ("regions", "[\"EU\", \"CH\"]", "[\"EU\"]"),
            ("stricter_provers", "stricter_provers = []", "stricter_provers = [\"strict.example\"]"),
            ("limits.visible_mappings", "visible_mappings = 8", "visible_mappings = 32"),
            ("limits.lookups_per_minute", "lookups_per_minute = 60", "lookups_per_minute = 6"),
        ] {
            assert!(text.contains(from), "{from}");
            let said = Document::parse(text.replace(from, to).as_bytes()).unwrap().check(&does).unwrap_err();
            assert!(said.to_string().starts_with(field), "{said}");
        }
        for (field, from, to) in [
            ("limits.lookups_per_day_min", "per_day_min = 50", "per_day_min = 49"),
            ("limits.lookups_per_day_min", "\nlookups_per_minute = 60", "\nlookups_per_minute = 0"),
            ("regions", "\"CH\"", "\"ch\""),
            ("limits.visible_mappings", "visible_mappings = 8", "visible_mappings = 33"),
            ("stricter_provers", "stricter_provers = []", "stricter_provers = [\"dp.example\"]"),
            ("stricter_provers", "stricter_provers = []", "stricter_provers = [\"b.example\", \"a.example\"]"),
            ("channels", "\"console\"", "\"pigeon\""),
            ("format", "format = 1", "format = 2"),
        ] {
            let said = Document::parse(text.replace(from, to).as_bytes()).unwrap_err();
            assert!(said.to_string().starts_with(field), "{said}");
        }
    }
}
