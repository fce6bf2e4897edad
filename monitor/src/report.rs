//! What a monitor has to say: its status, the alerts of watch-lists, findings about logs, notices.
//!
//! | word | meaning | kept |
//! |---|---|---|
//! | alert | a watch fired, or nobody watches any more | stored for its holder; that there is one is told once, by its number |
//! | finding | a log, or a witness of it, did what it must not | stored, told once under its number |
//! | notice | something is late, missing or not judged, which proves nothing | while it lasts |
//!
//! Nothing here names an identifier: a monitor knows none.

use std::fmt;

use serde::{Deserialize, Serialize};
use waymark_runtime::screen::OneLine;

/// The form of [`Status`], in its first field.
pub const STATUS_SCHEMA: &str = "waymark.monitor.status/1";

/// Where a monitor stands: `GET /status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// [`STATUS_SCHEMA`].
    pub schema: String,
    /// Each log, in the order of the configuration.
    pub logs: Vec<LogStatus>,
    /// Lists that are held, expired ones included.
    pub watch_lists: usize,
    /// Hits that may still be claimed.
    pub open_hits: usize,
    /// Alerts so far.
    pub alerts: AlertCounts,
    /// Every finding, the log's origin before it.
    pub findings: Vec<String>,
    /// Every notice that stands, the log's origin before it.
    pub notices: Vec<String>,
}

/// Where one log stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogStatus {
    /// The log.
    pub origin: String,
    /// Where it is read.
    pub url: String,
    /// How the last look at its checkpoint went.
    pub condition: Condition,
    /// Entries replayed and stored.
    pub verified_size: u64,
    /// Root of the rebuilt map, in hex.
    pub map_root: String,
    /// When the last head was made, in milliseconds; none before the first.
    pub head_time: Option<u64>,
    /// Changes replayed: leaves of the map.
    pub replayed_changes: u64,
    /// Cosignatures inside the window, on the checkpoint that was accepted last.
    pub cosignatures: usize,
    /// Age of the last quorum, in seconds; none before the first.
    pub quorum_age_s: Option<u64>,
    /// When a checkpoint was last accepted, in milliseconds; none before the first.
    pub last_success_ms: Option<u64>,
    /// Entries that the log has signed for, as far as anybody has shown us, and that are not replayed.
    pub lag: u64,
    /// The witnesses' own copies.
    pub views: Vec<ViewStatus>,
    /// Findings about this log.
    pub findings: usize,
    /// Notices that stand about this log.
    pub notices: usize,
}

/// How the last look at a log's checkpoint went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Nobody has looked yet.
    Waiting,
    /// Signed, cosigned by a fresh quorum, and replayed.
    Good,
    /// The log could not be read.
    Unreachable,
    /// Some of what it serves is not what it has signed: damaged there, or on its way.
    Damaged,
    /// Not followed further: it would take more memory than it may.
    OverBudget,
    /// What was read is no checkpoint of this log, or its quorum is not met.
    Unmet,
    /// The quorum is too old, or the last head does not fit its time.
    Stale,
    /// Good as it is, but a witness, or we before, have seen more than the log shows us.
    Withheld,
    /// What was read contradicts what was signed; see the findings.
    Contradicted,
}

/// A witness's own copy of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ViewStatus {
    /// The witness's name in the policy.
    pub witness: String,
    /// Size of its copy; none if it has shown none.
    pub size: Option<u64>,
    /// Whether the replay has the same root at that size; none while that is not known.
    pub agrees: Option<bool>,
}

/// Alerts by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AlertCounts {
    /// Hits that nobody claimed in time.
    pub unexpected: usize,
    /// Lists that ran out.
    pub expired: usize,
}

/// Why somebody should look at a watch-list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// A watched label appeared and nobody claimed it in time.
    Unexpected,
    /// The list has run out: nobody watches for its labels any more.
    Expired,
}

/// An alert as it is stored, and shown to the holder of its list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertRecord {
    /// Its number, unique in this monitor, in one row with those of the findings. An alert that is told twice bears one number.
    pub id: u64,
    /// What happened.
    pub kind: AlertKind,
    /// The list's name, in hex.
    pub list: String,
    /// The log.
    pub origin: String,
    /// Index of the entry that hit the list.
    pub entry: Option<u64>,
    /// Its leaf hash, in hex.
    pub leaf: Option<String>,
    /// When the head after it was made.
    pub head_time_ms: Option<u64>,
    /// When the alert was raised.
    pub raised_ms: u64,
    /// What to do, in words.
    pub what_to_do: String,
}

/// What `POST /v1/alerts` asks for, signed by the holder of the list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsRequest {
    /// The log that the list is for.
    pub log: String,
    /// The list's name, in hex.
    pub list: String,
    /// The number of the last alert that is known.
    #[serde(default)]
    pub after: u64,
}

/// What it is answered.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AlertsAnswer {
    /// How many alerts this list has raised, those that are no longer kept included.
    pub raised: u64,
    /// Those that are kept, oldest first.
    pub alerts: Vec<AlertRecord>,
}

/// A finding as it is stored and told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingRecord {
    /// Its number, unique in this monitor, shared with the alerts.
    pub id: u64,
    /// The log.
    pub origin: String,
    /// What the log did, or a witness of it.
    pub text: String,
    /// When it was found.
    pub found_ms: u64,
    /// The file under `evidence/`; none for what was found in the local copy after a restart.
    pub evidence: Option<String>,
}

/// A condition that began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// The log.
    pub origin: String,
    /// What is late, missing or not judged.
    pub text: String,
    /// Since when.
    pub since_ms: u64,
}

/// What the operator is told of an alert: that there is one. Two alerts of one list belong to one identifier, which the log
/// hides, and lines that are printed go far. The whole is its holder's alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlertNews {
    /// Its number.
    pub id: u64,
    /// What happened.
    pub kind: AlertKind,
    /// The log.
    pub origin: String,
    /// When the alert was raised.
    pub raised_ms: u64,
}

impl From<&AlertRecord> for AlertNews {
    fn from(alert: &AlertRecord) -> Self {
        let AlertRecord { id, kind, origin, raised_ms, .. } = alert;
        Self { id: *id, kind: *kind, origin: origin.clone(), raised_ms: *raised_ms }
    }
}

/// One line of what `run` prints.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum News {
    /// A watch fired.
    Alert(AlertNews),
    /// A log misbehaved.
    Finding(FindingRecord),
    /// Something is late, missing or not judged.
    Notice(Notice),
}

impl News {
    /// The number of an alert or a finding.
    pub const fn id(&self) -> Option<u64> {
        match self {
            Self::Alert(alert) => Some(alert.id),
            Self::Finding(finding) => Some(finding.id),
            Self::Notice(_) => None,
        }
    }
}

/// What a status comes to, worst first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// A finding or an unexpected alert.
    Alarm,
    /// A log's policy or freshness is not met.
    Unmet,
    /// A log could not be read, or not all of it.
    CouldNot,
    /// Nothing to say.
    Content,
}

impl Verdict {
    /// The exit code of the program.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Content => 0,
            Self::CouldNot => 1,
            Self::Unmet => 5,
            Self::Alarm => 6,
        }
    }
}

impl Status {
    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        let any = |conditions: &[Condition]| self.logs.iter().any(|l| conditions.contains(&l.condition));
        if !self.findings.is_empty() || self.alerts.unexpected > 0 || any(&[Condition::Contradicted]) {
            Verdict::Alarm
        } else if any(&[Condition::Unmet, Condition::Stale, Condition::Withheld]) {
            Verdict::Unmet
        } else if any(&[Condition::Unreachable, Condition::Damaged, Condition::OverBudget]) {
            Verdict::CouldNot
        } else {
            Verdict::Content
        }
    }
}

/// For people: a few lines a log.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for log in &self.logs {
            writeln!(f, "{}  {}", OneLine(&log.origin), OneLine(&log.url))?;
            writeln!(f, "  {}, {} entries replayed, {} behind", log.condition, log.verified_size, log.lag)?;
            writeln!(f, "  {} changes, map root {}", log.replayed_changes, OneLine(&log.map_root))?;
            if let Some(age) = log.quorum_age_s {
                writeln!(f, "  {} cosignatures, quorum {age} s old", log.cosignatures)?;
            }
            for view in &log.views {
                writeln!(f, "  {view}")?;
            }
        }
        let AlertCounts { unexpected, expired } = self.alerts;
        writeln!(f, "{} watch-lists, {} open hits", self.watch_lists, self.open_hits)?;
        writeln!(f, "{unexpected} unexpected changes, {expired} expired lists")?;
        for finding in &self.findings {
            writeln!(f, "finding: {}", OneLine(finding))?;
        }
        for notice in &self.notices {
            writeln!(f, "notice: {}", OneLine(notice))?;
        }
        Ok(())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "not looked at yet",
            Self::Good => "good",
            Self::Unreachable => "could not be read",
            Self::Damaged => "serves something that is damaged",
            Self::OverBudget => "over its memory budget",
            Self::Unmet => "policy not met",
            Self::Stale => "stale",
            Self::Withheld => "withholds what was seen",
            Self::Contradicted => "contradicts itself",
        })
    }
}

impl fmt::Display for ViewStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match (self.size, self.agrees) {
            (None, _) => return write!(f, "witness {}: no copy", OneLine(&self.witness)),
            (_, Some(true)) => "agrees",
            (_, Some(false)) => "DISAGREES",
            (_, None) => "is ahead of what was replayed",
        };
        write!(f, "witness {} at {} {said}", OneLine(&self.witness), self.size.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(conditions: &[Condition]) -> Status {
        let log = |condition: &Condition| LogStatus {
            origin: "dp.example/log".to_owned(),
            url: "http://127.0.0.1:1".to_owned(),
            condition: *condition,
            verified_size: 0,
            map_root: String::new(),
            head_time: None,
            replayed_changes: 0,
            cosignatures: 0,
            quorum_age_s: None,
            last_success_ms: None,
            lag: 0,
            views: vec![],
            findings: 0,
            notices: 0,
        };
        Status {
            schema: STATUS_SCHEMA.to_owned(),
            logs: conditions.iter().map(log).collect(),
            watch_lists: 0,
            open_hits: 0,
            alerts: AlertCounts::default(),
            findings: vec![],
            notices: vec![],
        }
    }

    #[test]
    fn the_worst_decides() {
        use Condition::{Damaged, Good, OverBudget, Stale, Unmet, Unreachable};
        let code = |conditions: &[Condition]| status(conditions).verdict().exit_code();
        assert_eq!(
            [code(&[Good]), code(&[Good, Unreachable]), code(&[Unmet, Unreachable]), code(&[Stale])],
            [0, 1, 5, 5]
        );
        assert_eq!([code(&[Good, Damaged]), code(&[OverBudget]), code(&[Damaged, Stale])], [1, 1, 5]);
        let mut found = status(&[Stale]);
        found.findings.push("x".to_owned());
        assert_eq!(found.verdict().exit_code(), 6);
        let mut alerted = status(&[Good]);
        alerted.alerts.expired = 1;
        assert_eq!(alerted.verdict().exit_code(), 0);
        alerted.alerts.unexpected = 1;
        assert_eq!(alerted.verdict().exit_code(), 6);
    }
}
