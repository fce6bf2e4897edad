//! Trust files: whom a client believes, always local, never fetched unattended.
//!
//! ```toml
//! policy = """
//! log dp.example/log+...
//! witness w1 ...
//! group g 3 w1 w2 w3 w4
//! quorum g
//! """
//! max_age_s = 600      # oldest cosignature that counts
//! skew_s = 30          # how far clocks may differ
//! require = ["L3"]     # optional: tests that a mapping's facts must pass before it is used
//!
//! [[log]]              # optional: the open entry, leaf 0, of a log of the policy, known from elsewhere
//! origin = "dp.example/log"
//! open = "<SHA-256 of the entry, 64 hex digits>"
//!
//! [[provider]]         # optional: keys known from elsewhere
//! role = "msp"         # msp, prover, csip or token-issuer
//! domain = "chat.example"
//! key = "<64 hex digits>"
//! ```
//!
//! `quorum none` is refused: without cosignatures nothing says that others see the same log, nor that it is recent. Witnesses
//! whose name in the policy starts with `auditor` are replayers: their cosignature says that the map follows from the log.

use serde::Deserialize;
use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::Key,
    policy::{Freshness, Policy},
};

use crate::{entry::ProviderRole, names::Domain};

/// Oldest cosignature that counts, unless the file says otherwise: ten minutes.
pub const MAX_AGE_S_DEFAULT: u64 = 600;
/// How far clocks may differ, unless the file says otherwise: half a minute.
pub const SKEW_S_DEFAULT: u64 = 30;
/// Largest age that is taken, in seconds: a week. Beyond that "fresh" says nothing.
pub const MAX_AGE_S_MAX: u64 = 7 * 24 * 3600;
/// Largest difference of clocks that is taken, in seconds: an hour. A clock further off is to be set.
pub const SKEW_S_MAX: u64 = 3600;
/// Most bytes in a trust file.
pub const TRUST_BYTES_MAX: usize = 1 << 20;
/// Most tests in `require`: there are a dozen kinds, and naming one twice says nothing new.
pub const REQUIRE_MAX: usize = 32;

/// A key known from elsewhere than the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pinned {
    /// In which role.
    pub role: ProviderRole,
    /// Whose.
    pub domain: Domain,
    /// The key.
    pub key: Key,
}

/// A log's open entry, known from elsewhere than the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinnedLog {
    /// Which log.
    pub origin: Origin,
    /// SHA-256 of its entry 0, which names domain, origin and VRF key.
    pub open: Hash,
}

/// Whom a client believes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trust {
    policy: Policy,
    freshness: Freshness,
    logs: Vec<PinnedLog>,
    pinned: Vec<Pinned>,
    require: Vec<String>,
}

/// Why a trust file cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("trust file: {0}")]
pub struct TrustError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    policy: String,
    max_age_s: Option<u64>,
    skew_s: Option<u64>,
    #[serde(default)]
    require: Vec<String>,
    #[serde(default)]
    log: Vec<FileLog>,
    #[serde(default)]
    provider: Vec<FileProvider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLog {
    origin: String,
    open: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileProvider {
    role: String,
    domain: String,
    key: String,
}

impl Trust {
    /// Reads a trust file.
    ///
    /// # Errors
    /// [`TrustError`] in words.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let error = |what: String| TrustError(what);
        if text.len() > TRUST_BYTES_MAX {
            return Err(error("too large".to_owned()));
        }
        let file: File = toml::from_str(text).map_err(|e| error(e.to_string()))?;
        let policy = Policy::parse(&file.policy).map_err(|e| error(e.to_string()))?;
        if policy.is_without_quorum() {
            return Err(error("`quorum none` is refused: nobody would vouch that others see the same log".to_owned()));
        }
        if policy.logs().is_empty() {
            return Err(error("the policy names no log".to_owned()));
        }
        let freshness = Freshness {
            max_age_s: file.max_age_s.unwrap_or(MAX_AGE_S_DEFAULT),
            skew_s: file.skew_s.unwrap_or(SKEW_S_DEFAULT),
        };
        if freshness.max_age_s > MAX_AGE_S_MAX || freshness.skew_s > SKEW_S_MAX {
            return Err(error(format!("max_age_s is at most {MAX_AGE_S_MAX}, skew_s at most {SKEW_S_MAX}")));
        }
        if file.require.len() > REQUIRE_MAX {
            return Err(error(format!("`require` has at most {REQUIRE_MAX} tests")));
        }
        let logs = pinned_logs(&file.log, &policy)?;
        let pinned = file.provider.iter().map(|p| {
            // A role that has no word yet cannot be pinned: nobody would look at the pin.
            let role = ProviderRole::of_word(&p.role);
            let role = role.ok_or_else(|| {
                error(format!("a provider's role is msp, prover, csip or token-issuer, not {:?}", p.role))
            })?;
            let domain = Domain::parse(&p.domain).ok_or_else(|| error(format!("not a domain: {:?}", p.domain)))?;
            let key = Key::from_hex(&p.key).filter(Key::is_usable);
            let key = key.ok_or_else(|| error(format!("not a usable key for {domain}")))?;
            Ok(Pinned { role, domain, key })
        });
        Ok(Self { policy, freshness, logs, pinned: pinned.collect::<Result<_, _>>()?, require: file.require })
    }

    /// The policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How fresh cosignatures must be.
    pub const fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// The tests that a mapping's facts must pass before it is used, as they stand in the file. `verify` does not look at
    /// them: what is proved stays proved. Whoever uses a mapping does.
    pub fn require(&self) -> &[String] {
        &self.require
    }

    /// The logs whose open entry is pinned.
    pub fn pinned_logs(&self) -> &[PinnedLog] {
        &self.logs
    }

    /// SHA-256 of a log's open entry, if it is pinned.
    pub fn pinned_open(&self, origin: &Origin) -> Option<&Hash> {
        self.logs.iter().find(|l| l.origin == *origin).map(|l| &l.open)
    }

    /// The keys pinned for a domain in a role.
    pub fn pinned<'a>(&'a self, role: ProviderRole, domain: &'a Domain) -> impl Iterator<Item = &'a Key> {
        self.pinned.iter().filter(move |p| p.role == role && p.domain == *domain).map(|p| &p.key)
    }

    /// Positions in the policy of the witnesses that audit.
    pub fn auditors(&self) -> impl Iterator<Item = usize> + '_ {
        let names = self.policy.witnesses().iter().enumerate();
        names.filter(|(_, w)| w.name.starts_with("auditor")).map(|(i, _)| i)
    }
}

/// Open entries are pinned of logs that the policy names, of each at most once.
fn pinned_logs(logs: &[FileLog], policy: &Policy) -> Result<Vec<PinnedLog>, TrustError> {
    let mut pinned: Vec<PinnedLog> = Vec::new();
    for log in logs {
        let named = policy.logs().iter().find(|l| l.vkey.name().as_str() == log.origin);
        let origin = named.and_then(|l| Origin::new(l.vkey.name().as_str()).ok());
        let origin = origin.ok_or_else(|| TrustError(format!("the policy names no log {:?}", log.origin)))?;
        let open = Hash::from_hex(&log.open);
        let open = open.ok_or_else(|| TrustError(format!("open of {origin}: not 64 lower-case hex digits")))?;
        if pinned.iter().any(|p| p.origin == origin) {
            return Err(TrustError(format!("the open entry of {origin} is pinned twice")));
        }
        pinned.push(PinnedLog { origin, open });
    }
    Ok(pinned)
}

/// How a trust file pins a log's open entry.
pub fn pin_text(origin: &Origin, open: &Hash) -> String {
    let origin = toml::Value::from(origin.as_str());
    format!("[[log]]\norigin = {origin}\nopen = \"{}\"\n", open.to_hex())
}

#[cfg(test)]
mod tests {
    use waymark_log::{
        key::SecretKey,
        note::{KeyName, Role, Vkey},
    };

    use super::*;

    #[test]
    fn files_that_are_refused() {
        for bad in [
            "",
            "policy = \"quorum none\\n\"",
            "policy = \"x\"",
            "policy = \"\"\nextra = 1",
            "policy = \"quorum none\\n\"\nmax_age_s = -1",
        ] {
            assert!(Trust::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_open_entry_is_pinned_once_and_of_a_log_of_the_policy() {
        let key =
            |name, role, seed| Vkey::new(KeyName::new(name).unwrap(), role, SecretKey::from_seed(&[seed; 32]).public());
        let log = key("dp.example/log", Role::Log, 1);
        let policy = format!("log {log}\nwitness w {}\nquorum w\n", key("w.example", Role::Witness, 2));
        let parse = |pins: &str| Trust::parse(&format!("policy = \"\"\"\n{policy}\"\"\"\n{pins}"));
        let (ours, other) = (Origin::new("dp.example/log").unwrap(), Origin::new("x.example/log").unwrap());
        let open = Hash::sha256(&[b"open"]);
        let trust = parse(&pin_text(&ours, &open)).unwrap();
        assert_eq!((trust.pinned_open(&ours), trust.pinned_open(&other)), (Some(&open), None));
        assert_eq!(parse("").unwrap().pinned_open(&ours), None);
        for bad in [
            pin_text(&other, &open),
            pin_text(&ours, &open).repeat(2),
            pin_text(&ours, &open).replace(&open.to_hex(), &open.to_hex().to_uppercase()),
            pin_text(&ours, &open) + "vrf = 1\n",
            "[[log]]\norigin = \"dp.example/log\"\n".to_owned(),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_and_tests_are_bounded() {
        let key = |role, seed| {
            let name = KeyName::new("x.example").unwrap();
            Vkey::new(name, role, SecretKey::from_seed(&[seed; 32]).public())
        };
        let policy = format!("log {}\nwitness w {}\nquorum w\n", key(Role::Log, 1), key(Role::Witness, 2));
        let parse = |max_age_s: u64, skew_s: u64| {
            Trust::parse(&format!("policy = \"\"\"\n{policy}\"\"\"\nmax_age_s = {max_age_s}\nskew_s = {skew_s}\n"))
        };
        assert!(parse(MAX_AGE_S_MAX, SKEW_S_MAX).is_ok());
        assert!(parse(MAX_AGE_S_MAX + 1, 0).is_err());
        assert!(parse(0, SKEW_S_MAX + 1).is_err());
        let require = |count: usize| {
            let tests = vec!["\"L3\""; count].join(", ");
            Trust::parse(&format!("policy = \"\"\"\n{policy}\"\"\"\nrequire = [{tests}]\n"))
        };
        assert_eq!(require(1).unwrap().require(), ["L3"]);
        assert!(require(REQUIRE_MAX).is_ok() && require(REQUIRE_MAX + 1).is_err());
    }
}
