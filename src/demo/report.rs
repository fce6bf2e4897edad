//! The demo's figures: a table for people, one JSON object for programs.

use serde_json::{Value, json};

use super::{DemoError, Teller};

/// What the demo did and saw. Everything is counted where it happened; nothing is computed from what should have happened.
#[derive(Clone, Debug)]
pub struct Report {
    /// People in the file or sample.
    pub people: usize,
    /// Mappings in accepted receipts.
    pub mappings_issued: usize,
    /// People whose opt-out was accepted.
    pub opted_out: usize,
    /// People whose look-ups verified and showed what was registered, exact tags presented.
    pub lookups_verified: usize,
    /// Unknown identifiers that were proved absent.
    pub absences_verified: usize,
    /// People who withdrew a mapping, and whose next look-up proved it.
    pub withdrawn: usize,
    /// Entries in the log.
    pub log_size: u64,
    /// Witnesses that run.
    pub witnesses: usize,
    /// Cosignatures on the last checkpoint.
    pub cosignatures: usize,
    /// How far the monitor has verified and replayed.
    pub monitor_verified_size: u64,
    /// Log entries that hit a watch-list and that nobody claimed, seen by the monitor or by an MSP's adapter.
    pub watch_alerts: usize,
    /// What the monitor holds against the log.
    pub findings: usize,
    /// From the start to Alice's first verified answer.
    pub first_verified_lookup_ms: u128,
    /// From the start to the end.
    pub elapsed_ms: u128,
    /// Seconds that the bulk of issuances took.
    pub issue_s: f64,
    /// Seconds that the bulk of look-ups took.
    pub lookup_s: f64,
}

impl Report {
    /// The object that `--json` prints.
    pub fn to_json(&self) -> Value {
        json!({
            "schema": "waymark.demo/1",
            "people": self.people,
            "mappings_issued": self.mappings_issued,
            "opted_out": self.opted_out,
            "lookups_verified": self.lookups_verified,
            "absences_verified": self.absences_verified,
            "withdrawn": self.withdrawn,
            "log_size": self.log_size,
            "witnesses": self.witnesses,
            "cosignatures": self.cosignatures,
            "monitor_verified_size": self.monitor_verified_size,
            "watch_alerts": self.watch_alerts,
            "findings": self.findings,
            "first_verified_lookup_ms": self.first_verified_lookup_ms,
            "elapsed_ms": self.elapsed_ms,
        })
    }

    /// The table.
    pub fn tell(&self, teller: Teller) {
        teller.say(format!(
            "{} people: {} mappings, {} opted out, in {:.1} s; looked up in {:.1} s, all verified: {}",
            self.people, self.mappings_issued, self.opted_out, self.issue_s, self.lookup_s, self.lookups_verified
        ));
        teller.say(format!(
            "{} unknown identifiers proved absent; {} withdrawals, each proved by the next look-up",
            self.absences_verified, self.withdrawn
        ));
        teller.say(format!(
            "log of {} entries, {} of {} cosignatures; the monitor has replayed {} and found {}",
            self.log_size,
            self.cosignatures,
            self.witnesses,
            self.monitor_verified_size,
            if self.findings == 0 { "nothing against it".to_owned() } else { format!("{} FINDINGS", self.findings) }
        ));
        teller.say(format!("alerts nobody claimed: {} (the staged one is 1)", self.watch_alerts));
    }

    /// Whether everything came out as it must.
    ///
    /// # Errors
    /// [`DemoError::Wrong`] with the first thing that did not.
    pub fn check(&self) -> Result<(), DemoError> {
        let wrong = |what: &str| Err(DemoError::Wrong(what.to_owned()));
        if self.lookups_verified != self.people {
            return wrong("not everybody was found as registered");
        }
        if self.findings != 0 {
            return wrong("the monitor holds something against the log");
        }
        if self.monitor_verified_size != self.log_size {
            return wrong("the monitor has not replayed the whole log");
        }
        if self.watch_alerts != 1 {
            return wrong("the alerts are not the staged one and no other");
        }
        Ok(())
    }
}
