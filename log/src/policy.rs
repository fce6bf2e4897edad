//! Whose signatures make a checkpoint good, and how fresh they must be.
//!
//! ```text
//! log <vkey> [<url>]
//! witness <name> <vkey> [<url>]
//! group <name> <k>|any|all <member>...
//! quorum <name>|none                      exactly one
//! ```
//!
//! C2SP tlog-policy. Names are opaque, defined before use, and a member of at most one group; a key may stand for one
//! witness only, whatever names it bears. An operator with an Ed25519 key and an ML-DSA-44 key is two witnesses here. The
//! policy is always local: a client never fetches the rules it judges by.
//!
//! An ML-DSA-44 witness has cosigned only if its cosignature was verified. Unless [`crate::mldsa::IS_VERIFIED`], such a witness
//! is listed and always absent.
//!
//! Freshness is ours, since checkpoints carry no time: cosignatures outside [now - max_age, now + skew] are dropped
//! **before** the quorum is counted, so that a few fresh ones cannot carry an old quorum. The **quorum time** is the
//! latest t such that the cosignatures dated t or later still meet the quorum.

use std::collections::{BTreeMap, HashSet};

use crate::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    cosignature,
    key::Key,
    note::{Note, NoteError, NoteKey, Role, SignatureLine, Vkey},
    time::UnixSeconds,
};

/// Most lines of each kind. C2SP asks for at least 32.
pub const DEFINITIONS_MAX: usize = 256;
/// Most bytes in a policy.
pub const POLICY_BYTES_MAX: usize = 256 * 1024;

/// What can be wrong with a policy's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy line {line}: {what}")]
pub struct PolicyError {
    /// The line, counted from one; the line after the last for what is missing.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Why a checkpoint does not meet a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// Not a checkpoint, or a signature of a known key that fails.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// None of the policy's logs has signed it under its own origin.
    #[error("the checkpoint's log is not in the policy, or has not signed it")]
    UnknownLog,
    /// Too few of the policy's witnesses have cosigned it, at any time.
    #[error("the quorum is not met: {have} known cosignatures")]
    Quorum {
        /// Cosignatures of known witnesses that verified.
        have: usize,
    },
    /// Enough have, but too long ago, or dated in the future.
    #[error("the quorum's cosignatures are not fresh: {fresh} of {have} are in the window")]
    Stale {
        /// Cosignatures of known witnesses that verified.
        have: usize,
        /// Those of them inside the window.
        fresh: usize,
    },
}

impl From<NoteError> for Unmet {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error.into())
    }
}

/// A log of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its verifier key; the key's name is the log's origin.
    pub vkey: Vkey,
    /// The key in it.
    pub key: Key,
    /// Its prefix, if the policy gives one.
    pub url: Option<String>,
}

/// A witness of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its name inside the policy.
    pub name: String,
    /// Its key.
    pub vkey: Vkey,
    /// Its submission prefix, if the policy gives one.
    pub url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// Position in `witnesses`.
    Witness(usize),
    /// At least `k` of the members.
    Group { k: usize, members: Vec<Rule> },
    /// No cosignature needed.
    None,
}

/// How fresh cosignatures must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Oldest age that counts.
    pub max_age_s: u64,
    /// How far in the future a cosignature may lie, for clocks that differ.
    pub skew_s: u64,
}

/// A parsed policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    quorum: Rule,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError`] with the line.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Parser::default().run(text)
    }

    /// The logs.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses.
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Whether the policy asks for no cosignature at all. Clients and monitors refuse such a policy.
    pub fn is_without_quorum(&self) -> bool {
        self.quorum == Rule::None
    }

    /// The fewest cosignatures that can meet the quorum.
    pub fn cosignatures_min(&self) -> usize {
        fn min(rule: &Rule) -> usize {
            match rule {
                Rule::Witness(_) => 1,
                Rule::None => 0,
                Rule::Group { k, members } => {
                    let mut each: Vec<usize> = members.iter().map(min).collect();
                    each.sort_unstable();
                    each.iter().take(*k).sum()
                }
            }
        }
        min(&self.quorum)
    }

    /// The quorum time for these cosignature times (one slot for each of [`Policy::witnesses`]), if the quorum is met.
    ///
    /// A witness counts from its time on, a group from when its k-th latest member does. With `quorum none` the time is
    /// the latest of all, or the epoch.
    pub fn quorum_time(&self, times: &[Option<UnixSeconds>]) -> Option<UnixSeconds> {
        fn time(rule: &Rule, times: &[Option<UnixSeconds>]) -> Option<UnixSeconds> {
            match rule {
                Rule::Witness(i) => times.get(*i).copied().flatten(),
                Rule::None => Some(times.iter().flatten().copied().max().unwrap_or(UnixSeconds::new(0))),
                Rule::Group { k, members } => {
                    let mut each: Vec<UnixSeconds> = members.iter().filter_map(|m| time(m, times)).collect();
                    each.sort_unstable_by(|a, b| b.cmp(a));
                    each.get(k - 1).copied()
                }
            }
        }
        time(&self.quorum, times)
    }

    /// Judges a note: signed by a log of the policy, cosigned by a quorum inside the window.
    ///
    /// # Errors
    /// [`Unmet`]. [`Unmet::Stale`] says that the same note would have met the policy at another time.
    pub fn judge(&self, bytes: &[u8], now: UnixSeconds, freshness: Freshness) -> Result<CosignedCheckpoint, Unmet> {
        let note = Note::parse(bytes)?;
        let origin = Checkpoint::parse(note.text())?.origin;
        // "[The log's key] name MUST correspond to the log's origin line."
        let keys: Vec<Vkey> =
            self.logs.iter().map(|l| &l.vkey).filter(|v| v.name().as_str() == origin.as_str()).cloned().collect();
        let signed = SignedCheckpoint::open(&note, &origin, &keys).map_err(|e| match e {
            CheckpointError::NotSignedByLog => Unmet::UnknownLog,
            other => other.into(),
        })?;
        self.count(&note, signed, now, freshness)
    }

    fn count(
        &self,
        note: &Note,
        signed: SignedCheckpoint,
        now: UnixSeconds,
        freshness: Freshness,
    ) -> Result<CosignedCheckpoint, Unmet> {
        let mut times = Vec::with_capacity(self.witnesses.len());
        for witness in &self.witnesses {
            times.push(cosignature::check(note, &witness.vkey)?);
        }
        let (oldest, newest) = (now.minus_s(freshness.max_age_s), now.plus_s(freshness.skew_s));
        let fresh: Vec<_> = times.iter().map(|t| t.filter(|t| (oldest..=newest).contains(t))).collect();
        let have = times.iter().flatten().count();
        let Some(quorum_time) = self.quorum_time(&fresh) else {
            return Err(match self.quorum_time(&times) {
                Some(_) => Unmet::Stale { have, fresh: fresh.iter().flatten().count() },
                None => Unmet::Quorum { have },
            });
        };
        let lines = self.witnesses.iter().zip(&fresh).filter(|(_, t)| t.is_some());
        let lines = lines.filter_map(|(w, _)| note.line_by(&w.vkey).ok().flatten().cloned()).collect();
        Ok(CosignedCheckpoint { signed, times: fresh, lines, quorum_time })
    }
}

/// A checkpoint that met a policy at one moment. Made only by [`Policy::judge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignedCheckpoint {
    signed: SignedCheckpoint,
    times: Vec<Option<UnixSeconds>>,
    lines: Vec<SignatureLine>,
    quorum_time: UnixSeconds,
}

impl CosignedCheckpoint {
    /// The checkpoint and the log's signature.
    pub const fn signed(&self) -> &SignedCheckpoint {
        &self.signed
    }

    /// Number of entries.
    pub const fn size(&self) -> u64 {
        self.signed.size()
    }

    /// Root of the tree.
    pub const fn root(&self) -> &crate::hash::Hash {
        self.signed.root()
    }

    /// When each of the policy's witnesses cosigned, if it did inside the window.
    pub fn times(&self) -> &[Option<UnixSeconds>] {
        &self.times
    }

    /// Number of cosignatures inside the window.
    pub fn cosignatures(&self) -> usize {
        self.times.iter().flatten().count()
    }

    /// The latest time such that the cosignatures dated then or later still meet the quorum.
    pub const fn quorum_time(&self) -> UnixSeconds {
        self.quorum_time
    }

    /// The same without the cosignatures of some witnesses, by their positions in the policy that judged it: `None` if
    /// the others do not meet that policy.
    pub fn without(&self, policy: &Policy, absent: &[usize]) -> Option<Self> {
        let stays = |i: &usize| !absent.contains(i);
        let times: Vec<_> = self.times.iter().enumerate().map(|(i, time)| time.filter(|_| stays(&i))).collect();
        let quorum_time = policy.quorum_time(&times)?;
        // There is a line for each time.
        let counted = self.times.iter().enumerate().filter(|(_, time)| time.is_some()).map(|(i, _)| i);
        let lines = counted.zip(&self.lines).filter(|(i, _)| stays(i)).map(|(_, line)| line.clone()).collect();
        Some(Self { signed: self.signed.clone(), times, lines, quorum_time })
    }

    /// The note with the log's lines and the cosignatures that counted.
    pub fn to_note(&self) -> String {
        self.signed.to_note(&self.lines)
    }
}

#[derive(Default)]
struct Parser {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    /// Every defined name, its rule, and whether a group has it as a member already.
    names: BTreeMap<String, (Rule, bool)>,
    log_keys: HashSet<Key>,
    witness_keys: HashSet<NoteKey>,
    quorum: Option<Rule>,
}

impl Parser {
    fn run(mut self, text: &str) -> Result<Policy, PolicyError> {
        let at = |line: usize| move |what: String| PolicyError { line, what };
        if text.len() > POLICY_BYTES_MAX {
            return Err(at(1)(format!("over {POLICY_BYTES_MAX} bytes")));
        }
        // "The only allowed control characters are tab and newline."
        if let Some(position) = text.bytes().position(|b| (b < 0x20 && b != b'\t' && b != b'\n') || b == 0x7f) {
            let line = text.as_bytes()[..position].iter().filter(|b| **b == b'\n').count() + 1;
            return Err(at(line)("a control character".to_owned()));
        }
        let mut count = 0;
        for (i, line) in text.split('\n').enumerate() {
            count = i + 1;
            self.line(line).map_err(at(i + 1))?;
        }
        let quorum = self.quorum.ok_or_else(|| at(count)("there is no quorum line".to_owned()))?;
        Ok(Policy { logs: self.logs, witnesses: self.witnesses, quorum })
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        // White space is space and tab only.
        let words: Vec<&str> = line.split([' ', '\t']).filter(|w| !w.is_empty()).collect();
        match words[..] {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", vkey, ref rest @ ..] if rest.len() <= 1 => self.log(vkey, rest.first()),
            ["witness", name, vkey, ref rest @ ..] if rest.len() <= 1 => self.witness(name, vkey, rest.first()),
            ["group", name, k, ref members @ ..] if !members.is_empty() => self.group(name, k, members),
            ["quorum", name] => self.quorum(name),
            [first, ..] => Err(format!("not a log, witness, group or quorum line: {first:?}")),
        }
    }

    fn log(&mut self, vkey: &str, url: Option<&&str>) -> Result<(), String> {
        let vkey = Vkey::parse(vkey).map_err(|e| e.to_string())?;
        let (Role::Log, Some(key)) = (vkey.role(), vkey.ed25519().copied()) else {
            return Err(format!("{} for a log: it must be 0x01", NoteError::UnsupportedType(vkey.signature_type())));
        };
        if self.logs.len() == DEFINITIONS_MAX || !self.log_keys.insert(key) {
            return Err("too many logs, or this key is a log already".to_owned());
        }
        self.logs.push(PolicyLog { vkey, key, url: url.map(|u| (*u).to_owned()) });
        Ok(())
    }

    fn witness(&mut self, name: &str, vkey: &str, url: Option<&&str>) -> Result<(), String> {
        let vkey = Vkey::parse(vkey).map_err(|e| e.to_string())?;
        if vkey.role() != Role::Witness {
            let unsupported = NoteError::UnsupportedType(vkey.signature_type());
            return Err(format!("{unsupported} for a witness: it must be 0x04 or 0x06"));
        }
        // "Two vkeys are duplicate if they wrap the same underlying public key, even if they differ by name."
        if self.witnesses.len() == DEFINITIONS_MAX || !self.witness_keys.insert(vkey.key().clone()) {
            return Err("too many witnesses, or this key is a witness already".to_owned());
        }
        self.define(name, Rule::Witness(self.witnesses.len()))?;
        self.witnesses.push(PolicyWitness { name: name.to_owned(), vkey, url: url.map(|u| (*u).to_owned()) });
        Ok(())
    }

    fn group(&mut self, name: &str, k: &str, members: &[&str]) -> Result<(), String> {
        let k = match k {
            "any" => 1,
            "all" => members.len(),
            decimal => decimal.parse().map_err(|_| format!("not a number, any or all: {decimal:?}"))?,
        };
        if !(1..=members.len()).contains(&k) {
            return Err(format!("{k} of {} members", members.len()));
        }
        let mut rules = Vec::with_capacity(members.len());
        for member in members {
            // "Each defined name can be listed as a group member at most once."
            let (rule, taken) =
                self.names.get_mut(*member).ok_or_else(|| format!("{member:?} is not defined above"))?;
            if std::mem::replace(taken, true) {
                return Err(format!("{member:?} is a member of a group already"));
            }
            rules.push(rule.clone());
        }
        self.define(name, Rule::Group { k, members: rules })
    }

    fn quorum(&mut self, name: &str) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("a second quorum line".to_owned());
        }
        self.quorum = Some(match name {
            "none" => Rule::None,
            name => self.names.get(name).ok_or_else(|| format!("{name:?} is not defined above"))?.0.clone(),
        });
        Ok(())
    }

    fn define(&mut self, name: &str, rule: Rule) -> Result<(), String> {
        if name == "none" || self.names.len() == 2 * DEFINITIONS_MAX {
            return Err("\"none\" is no name, or there are too many names".to_owned());
        }
        if self.names.insert(name.to_owned(), (rule, false)).is_some() {
            return Err(format!("{name:?} is defined twice"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::Origin,
        cosignature::Cosigner,
        hash::Hash,
        key::SecretKey,
        note::{KeyName, NoteSigner},
    };

    fn witness(i: u8) -> Cosigner {
        Cosigner::new(KeyName::new(&format!("w{i}.example")).unwrap(), SecretKey::from_seed(&[100 + i; 32]))
    }

    fn log() -> NoteSigner {
        NoteSigner::new(KeyName::new("log.example").unwrap(), SecretKey::from_seed(&[1; 32]))
    }

    fn three_of_four() -> Policy {
        let mut text = format!("log {}\n", log().vkey());
        for i in 1..=4 {
            text += &format!("witness w{i} {}\n", witness(i).vkey());
        }
        Policy::parse(&(text + "group g 3 w1 w2 w3 w4\nquorum g\n")).unwrap()
    }

    const FRESH: Freshness = Freshness { max_age_s: 600, skew_s: 30 };

    /// A checkpoint cosigned by witness i at the i-th time (0: not at all).
    fn note(times: [u64; 4]) -> String {
        let checkpoint = Checkpoint::new(Origin::new("log.example").unwrap(), 9, Hash::ZERO);
        let text = checkpoint.format();
        let lines: Vec<_> = (1..=4)
            .zip(times)
            .filter(|(_, t)| *t > 0)
            .map(|(i, t)| witness(i).cosign(&text, UnixSeconds::new(t)))
            .collect();
        SignedCheckpoint::sign(checkpoint, &log()).to_note(&lines)
    }

    #[test]
    fn quorum_time_is_the_kth_latest() {
        let policy = three_of_four();
        let judge = |times| policy.judge(note(times).as_bytes(), UnixSeconds::new(10_000), FRESH);
        let cosigned = judge([9_900, 9_950, 9_990, 0]).unwrap();
        assert_eq!((cosigned.quorum_time(), cosigned.cosignatures()), (UnixSeconds::new(9_900), 3));
        assert_eq!(judge([9_900, 9_950, 9_990, 10_001]).unwrap().quorum_time(), UnixSeconds::new(9_950));
        assert_eq!(judge([9_900, 9_950, 0, 0]), Err(Unmet::Quorum { have: 2 }));
        assert_eq!(policy.cosignatures_min(), 3);
    }

    #[test]
    fn without_some_witnesses_the_others_meet_the_policy_or_do_not() {
        let policy = three_of_four();
        let judge = |times| policy.judge(note(times).as_bytes(), UnixSeconds::new(10_000), FRESH).unwrap();
        let all = judge([9_900, 9_950, 9_990, 9_980]);
        assert_eq!(all.without(&policy, &[]), Some(all.clone()));
        assert_eq!(all.without(&policy, &[1]), Some(judge([9_900, 0, 9_990, 9_980])));
        assert_eq!(all.without(&policy, &[0, 1]), None);
        // Not fresh, and so absent already.
        let three = judge([9_399, 9_950, 9_990, 9_980]);
        assert_eq!(three.without(&policy, &[0]), Some(three.clone()));
        assert_eq!(three.without(&policy, &[3]), None);
    }

    #[test]
    fn a_minority_of_fresh_cosignatures_does_not_carry_an_old_quorum() {
        let policy = three_of_four();
        let judge = |times| policy.judge(note(times).as_bytes(), UnixSeconds::new(10_000), FRESH);
        assert_eq!(judge([9_399, 9_399, 9_990, 9_990]), Err(Unmet::Stale { have: 4, fresh: 2 }));
        assert!(judge([9_399, 9_400, 9_990, 9_990]).is_ok());
        assert_eq!(judge([10_031, 10_031, 9_990, 9_990]), Err(Unmet::Stale { have: 4, fresh: 2 }));
        assert!(judge([10_031, 10_030, 9_990, 9_990]).is_ok());
    }

    #[test]
    fn with_exactly_the_quorum_every_flipped_bit_is_refused() {
        let policy = three_of_four();
        let good = note([9_900, 9_950, 9_990, 0]);
        let now = UnixSeconds::new(10_000);
        policy.judge(good.as_bytes(), now, FRESH).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(policy.judge(&bytes, now, FRESH).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn groups_in_groups() {
        let mut text = String::new();
        for i in 1..=5 {
            text += &format!("witness w{i} {}\n", witness(i).vkey());
        }
        text += "group x 2 w1 w2 w3\ngroup y any w4 w5\n\t # both\ngroup both all x y\nquorum both\n";
        let policy = Policy::parse(&text).unwrap();
        let t = |n: u64| (n > 0).then_some(UnixSeconds::new(n));
        assert_eq!(policy.quorum_time(&[t(5), t(7), t(9), t(3), t(4)]), t(4));
        assert_eq!(policy.quorum_time(&[t(5), t(0), t(9), t(8), t(0)]), t(5));
        assert_eq!(policy.quorum_time(&[t(5), t(0), t(0), t(8), t(4)]), None);
        assert_eq!(policy.cosignatures_min(), 3);
    }

    #[test]
    fn bad_policies_name_their_line() {
        let w = |i| witness(i).vkey().to_string();
        let log_key = log().vkey().to_string();
        let renamed = Vkey::new(KeyName::new("z").unwrap(), Role::Witness, *witness(1).vkey().ed25519().unwrap());
        for (text, line) in [
            (String::new(), 1),
            (format!("witness a {}\n", w(1)), 2),
            ("quorum a\n".into(), 1),
            ("quorum none\nquorum none\n".into(), 2),
            (format!("witness a {}\nwitness a {}\nquorum a\n", w(1), w(2)), 2),
            (format!("witness a {}\nwitness b {renamed}\nquorum a\n", w(1)), 2),
            (format!("log {log_key}\nlog {log_key}\nquorum none\n"), 2),
            (format!("log {}\nquorum none\n", w(1)), 1),
            (format!("witness a {log_key}\nquorum a\n"), 1),
            (format!("witness a {}\ngroup g 2 a\nquorum g\n", w(1)), 2),
            (format!("witness a {}\ngroup g 0 a\nquorum g\n", w(1)), 2),
            (format!("witness a {}\ngroup g any a a\nquorum g\n", w(1)), 2),
            (format!("witness a {}\ngroup g any b\nquorum g\n", w(1)), 2),
            (format!("witness a {}\ngroup g any a\ngroup h any a\nquorum g\n", w(1)), 3),
            (format!("witness none {}\nquorum none\n", w(1)), 1),
            ("quorum none\r\n".into(), 1),
            ("# fine\nquorum none extra\n".into(), 2),
        ] {
            assert_eq!(Policy::parse(&text).map_err(|e| e.line), Err(line), "{text}");
        }
    }
}
