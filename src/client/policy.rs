//! What a sender asks of the facts before a mapping is used: tests over [`MappingFacts`], by name.
//!
//! | test | holds if |
//! |---|---|
//! | `service-confirmed` | the MSP has signed for the mapping, and its signature is not over |
//! | `consent-in-log` | and that consent is in the public log |
//! | `msp-key-pinned` | and the MSP's key is in the trust file |
//! | `prover-key-pinned` | the key of whoever attested possession is in the trust file |
//! | `independent-of-dp`, `independent-of-msp` | whoever attested possession is neither |
//! | `strength=<n>` | the proof of possession was at least so strict |
//! | `age-days=<n>` | it is at most so old |
//! | `not-new` | the mapping is not one of the last 72 hours beside another key's |
//! | `not-contested` | nobody else claims the identifier |
//! | `audited` | an auditor of the trust file has cosigned: somebody replayed the map |
//! | `L1`, `L2` | nothing more: what `verify` shows is signed by recipient and prover (L1) and logged (L2) |
//! | `L3` | `service-confirmed` |
//! | `L4` | `L3`, `independent-of-dp`, `independent-of-msp`, `prover-key-pinned` |
//!
//! They stand in the trust file (`require = ["L3", "not-new"]`) and on the command line; all must hold. What does not pass is
//! named with the tests that it fails, never with a grade.

use std::fmt;

use waymark_log::time::UnixMillis;
use waymark_mapping::{
    facts::{MappingFacts, Service},
    verify::Lookup,
};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// One test over a mapping's facts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Test {
    /// The MSP has signed for the mapping.
    ServiceConfirmed,
    /// Its consent is in the public log.
    ConsentInLog,
    /// Its key is in the trust file.
    MspKeyPinned,
    /// The prover's key is in the trust file.
    ProverKeyPinned,
    /// The prover is not the DP.
    IndependentOfDp,
    /// The prover is not the MSP.
    IndependentOfMsp,
    /// The proof of possession is at least this strict.
    Strength(u8),
    /// The proof of possession is at most this many days old.
    AgeDays(u32),
    /// The mapping is not one of the last 72 hours beside another key's.
    NotNew,
    /// Nobody else claims the CSI.
    NotContested,
    /// An auditor has cosigned.
    Audited,
}

const L3: &[Test] = &[Test::ServiceConfirmed];
const L4: &[Test] = &[Test::ServiceConfirmed, Test::ProverKeyPinned, Test::IndependentOfDp, Test::IndependentOfMsp];

/// A name that is no test.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no test of facts: see the table in docs/FORMATS.md, section 20")]
pub struct UnknownTest(String);

/// Tests that must all hold; none at all unless somebody asks for more.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy(Vec<Test>);

impl Policy {
    /// Reads names of tests and levels.
    ///
    /// # Errors
    /// [`UnknownTest`].
    pub fn parse<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, UnknownTest> {
        let mut tests = Vec::new();
        for name in names {
            let name = name.as_ref().trim();
            let found = parse_name(name).ok_or_else(|| UnknownTest(name.to_owned()))?;
            tests.extend(found);
        }
        tests.sort_unstable();
        tests.dedup();
        Ok(Self(tests))
    }

    /// The tests that a mapping of a look-up fails, in a fixed order.
    pub fn missing(&self, mapping: &MappingFacts, lookup: &Lookup, now: UnixMillis) -> Vec<Test> {
        self.0.iter().copied().filter(|test| !test.holds(mapping, lookup, now)).collect()
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse_name(name: &str) -> Option<Vec<Test>> {
    let one = match name {
        "L1" | "L2" => return Some(Vec::new()),
        "L3" => return Some(L3.to_vec()),
        "L4" => return Some(L4.to_vec()),
        "service-confirmed" => Test::ServiceConfirmed,
        "consent-in-log" => Test::ConsentInLog,
        "msp-key-pinned" => Test::MspKeyPinned,
        "prover-key-pinned" => Test::ProverKeyPinned,
        "independent-of-dp" => Test::IndependentOfDp,
        "independent-of-msp" => Test::IndependentOfMsp,
        "not-new" => Test::NotNew,
        "not-contested" => Test::NotContested,
        "audited" => Test::Audited,
        _ => match name.split_once('=')? {
            ("strength", n) => Test::Strength(n.parse().ok()?),
            ("age-days", n) => Test::AgeDays(n.parse().ok()?),
            _ => return None,
        },
    };
    Some(vec![one])
}

impl Test {
    fn holds(self, m: &MappingFacts, lookup: &Lookup, now: UnixMillis) -> bool {
        let confirmed = match m.service {
            Service::Confirmed { in_log, pinned } => Some((in_log, pinned)),
            // Whatever else may be said of the service, it is not that the MSP stands by it.
            _ => None,
        };
        match self {
            Self::ServiceConfirmed => confirmed.is_some(),
            Self::ConsentInLog => confirmed.is_some_and(|(in_log, _)| in_log),
            Self::MspKeyPinned => confirmed.is_some_and(|(_, pinned)| pinned),
            Self::ProverKeyPinned => m.possession.pinned,
            Self::IndependentOfDp => m.possession.independent_of_dp,
            Self::IndependentOfMsp => m.possession.independent_of_msp,
            Self::Strength(least) => m.possession.strength >= least,
            Self::AgeDays(most) => now.since(m.possession.time) <= u64::from(most) * DAY_MS,
            Self::NotNew => !m.change.is_new,
            Self::NotContested => lookup.contested.is_none(),
            Self::Audited => lookup.log.auditors > 0,
        }
    }

    /// What is the case when it fails.
    pub const fn describe_failure(self) -> &'static str {
        match self {
            Self::ServiceConfirmed => "the provider has not confirmed it",
            Self::ConsentInLog => "no consent of the provider is in the public log",
            Self::MspKeyPinned => "the provider has not confirmed it with a key of the trust file",
            Self::ProverKeyPinned => "possession is attested with a key that is not in the trust file",
            Self::IndependentOfDp => "possession is attested by the DP itself",
            Self::IndependentOfMsp => "possession is attested by the provider itself",
            Self::Strength(_) => "the proof of possession was less strict",
            Self::AgeDays(_) => "the proof of possession is older",
            Self::NotNew => "it was added in the last 72 hours beside another key's mapping",
            Self::NotContested => "somebody else claims the identifier",
            Self::Audited => "no auditor of the trust file has cosigned the log",
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::ServiceConfirmed => "service-confirmed",
            Self::ConsentInLog => "consent-in-log",
            Self::MspKeyPinned => "msp-key-pinned",
            Self::ProverKeyPinned => "prover-key-pinned",
            Self::IndependentOfDp => "independent-of-dp",
            Self::IndependentOfMsp => "independent-of-msp",
            Self::Strength(n) => return write!(f, "strength={n}"),
            Self::AgeDays(n) => return write!(f, "age-days={n}"),
            Self::NotNew => "not-new",
            Self::NotContested => "not-contested",
            Self::Audited => "audited",
        };
        f.write_str(name)
    }
}

/// The tests that fail, as one list for a screen: `service-confirmed (the provider has not confirmed it), ...`.
pub fn in_words(missing: &[Test]) -> String {
    let words: Vec<String> = missing.iter().map(|t| format!("{t} ({})", t.describe_failure())).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::choose::invented::{lookup, mapping};

    const NOW: UnixMillis = UnixMillis::new(1_800_000_000_000);

    fn missing(names: &[&str], m: &MappingFacts, of: &Lookup) -> Vec<String> {
        Policy::parse(names).unwrap().missing(m, of, NOW).iter().map(Test::to_string).collect()
    }

    #[test]
    fn each_test_fails_for_its_own_reason() {
        let mut good = mapping("chat.example", "default", 1);
        good.service = Service::Confirmed { in_log: true, pinned: true };
        good.possession.pinned = true;
        good.possession.independent_of_dp = true;
        good.possession.independent_of_msp = true;
        good.possession.strength = 2;
        good.possession.time = UnixMillis::new(NOW.get() - 3 * DAY_MS);
        let mut of = lookup(vec![good.clone()]);
        of.log.auditors = 1;
        let all = ["L4", "consent-in-log", "msp-key-pinned", "strength=2", "age-days=3", "not-new", "not-contested"];
        let all = [&all[..], &["audited"]].concat();
        assert_eq!(missing(&all, &good, &of), Vec::<String>::new());

        let fails = |change: &dyn Fn(&mut MappingFacts, &mut Lookup)| {
            let (mut m, mut of) = (good.clone(), of.clone());
            change(&mut m, &mut of);
            missing(&all, &m, &of)
        };
        assert_eq!(fails(&|m, _| m.possession.pinned = false), ["prover-key-pinned"]);
        assert_eq!(fails(&|m, _| m.possession.independent_of_dp = false), ["independent-of-dp"]);
        assert_eq!(fails(&|m, _| m.possession.independent_of_msp = false), ["independent-of-msp"]);
        assert_eq!(fails(&|m, _| m.possession.strength = 1), ["strength=2"]);
        assert_eq!(fails(&|m, _| m.possession.time = UnixMillis::new(NOW.get() - 3 * DAY_MS - 1)), ["age-days=3"]);
        assert_eq!(fails(&|m, _| m.change.is_new = true), ["not-new"]);
        assert_eq!(
            fails(&|_, of| of.contested = Some(waymark_mapping::facts::Contest::ForeignRelease)),
            ["not-contested"]
        );
        assert_eq!(fails(&|_, of| of.log.auditors = 0), ["audited"]);
        let service = |service| move |m: &mut MappingFacts, _: &mut Lookup| m.service = service;
        let quiet = service(Service::Confirmed { in_log: false, pinned: true });
        assert_eq!(fails(&quiet), ["consent-in-log"]);
        let unpinned = service(Service::Confirmed { in_log: true, pinned: false });
        assert_eq!(fails(&unpinned), ["msp-key-pinned"]);
        for other in [Service::Unconfirmed, Service::NotShownToMsp, Service::OptedOut] {
            assert_eq!(fails(&service(other)), ["service-confirmed", "consent-in-log", "msp-key-pinned"]);
        }
    }

    #[test]
    fn levels_are_names_for_tests() {
        let plain = mapping("chat.example", "default", 1);
        let of = lookup(vec![plain.clone()]);
        assert!(Policy::parse(["L1", "L2"]).unwrap().is_empty());
        assert_eq!(missing(&["L3"], &plain, &of), ["service-confirmed"]);
        let l4 = ["service-confirmed", "prover-key-pinned", "independent-of-dp", "independent-of-msp"];
        assert_eq!(missing(&["L4", "L3"], &plain, &of), l4);
        for bad in ["", "L5", "l3", "verified", "strength", "strength=", "strength=256", "age-days=-1", "not-new=1"] {
            assert!(Policy::parse([bad]).is_err(), "{bad}");
        }
    }
}
