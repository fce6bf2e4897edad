//! Which keys speak for which domain in which role: the provider directory, a pure function of the provider entries.
//!
//! ```text
//! struct { uint8 class; uint8 publishes; AnyKey key; Ms due; Ms retired; }                          ProviderKey
//! struct { uint8 role; opaque domain<1..253>; uint32 revision; ProviderKey keys<0..12,288>; }       ProviderLeaf
//! provider root = prefix tree from SHA-256(uint8 role || domain) to SHA-256(ProviderLeaf)
//! ```
//!
//! `due` 0 is "at once", `retired` 0 is "never". A leaf carries times instead of states, so that a key that falls due or
//! retires changes nothing in the tree. `revision` counts the entries that made the leaf: since old keys are dropped, a leaf could
//! otherwise come back to what it was, and an entry that was signed over it could be logged again.
//!
//! **Who may add.** The first key of a domain is valid at once. Any later key needs the signature of a key of that domain that is
//! valid *in the same role*; a role that is new to a domain has none, so there a valid key of any role of the domain may sign. Without
//! such a signature a key is due seven days after the first head that follows, and until then it may be cancelled. So
//! whoever bribes a DP into logging a key for somebody else's domain has to wait where the domain can see it, and a key that is used
//! every day for one thing (an MSP's consents) has no say over another (a prover's attestations).
//!
//! **What is dropped.** With the next entry of a leaf go the keys that retired 211 days ago or more: no mapping that they attested
//! can still hold (180 days), and no passage of a tenure that they signed is still proved (30 days).

use std::collections::BTreeMap;

use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::{checkpoint::Origin, hash::Hash, key::Key, time::UnixMillis};

use crate::{
    entry::{Provider, ProviderAction, ProviderRole},
    mapping::MAPPING_LIFETIME_MS_MAX,
    names::Domain,
    prefix::PrefixTree,
    signed::{AnyKey, AnySignature, Verdict},
    tenure::PASSAGE_MS,
    wire::{Flag, List24, encode},
};

/// A day, in milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;
/// How long a key waits that no valid key of its domain has signed.
pub const UNSIGNED_WAIT_MS: u64 = 7 * DAY_MS;
/// Most keys of one domain in one role, retired ones included: one rotation in three days.
pub const KEYS_PER_LEAF_MAX: usize = 64;
/// Most bytes of a leaf's keys: 64 Ed25519 keys of 54 bytes each, or nine ML-DSA-44 keys of 1,334, which is one a month for the 211
/// days, the current one and the next. Ten such leaves (eight MSPs, a prover, a CSIP) are some 123,000 bytes: they fit the list of
/// leaves in an answer, and leave half of the greatest answer to everything else.
pub const KEYS_BYTES_MAX: usize = 12 << 10;
/// How long a retired key stays in its leaf: as long as a mapping lives after its proof of possession, as long as the passage of a
/// tenure is proved, and a day.
pub const RETIRED_KEPT_MS: u64 = MAPPING_LIFETIME_MS_MAX + PASSAGE_MS + DAY_MS;
/// How long a token issuer's retired key stays: two days. Its tokens live for one.
pub const ISSUER_RETIRED_KEPT_MS: u64 = 2 * DAY_MS;

const NEVER: UnixMillis = UnixMillis::new(0);

/// One key of a domain in a role.
#[derive(Clone, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct ProviderKey {
    /// What kind of provider.
    pub class: u8,
    /// Whether consents by it are logged.
    pub publishes: Flag,
    /// The key. A reader skips one of an algorithm that it cannot use.
    pub key: AnyKey,
    /// From when on it is valid; 0 for at once.
    pub due: UnixMillis,
    /// From when on it is no longer valid; 0 for never.
    pub retired: UnixMillis,
}

impl ProviderKey {
    /// Whether it is valid at a time.
    pub fn is_valid_at(&self, now: UnixMillis) -> bool {
        self.due <= now && !self.has_retired_at(now)
    }

    /// Whether it has retired by a time.
    pub fn has_retired_at(&self, now: UnixMillis) -> bool {
        self.retired != NEVER && self.retired <= now
    }

    /// Whether it is believed, at a head of this time, about what it says to have signed at `said`. What a key has signed that has
    /// retired must have been in the log while the key was valid: `logged` is by when that is proved. Whether it had retired by `said` is
    /// not asked beside that: the signer's clock may be 30 s ahead of the log's, and the key may have retired within them.
    pub fn is_believed(&self, said: UnixMillis, logged: Option<UnixMillis>, head: UnixMillis) -> bool {
        let in_time = !self.has_retired_at(head) || logged.is_some_and(|time| self.is_valid_at(time));
        self.due <= said && in_time
    }

    /// Whether it was ever valid by a time: not one that still waits, nor one that was retired while it waited.
    pub fn was_valid_by(&self, now: UnixMillis) -> bool {
        self.due <= now && (self.retired == NEVER || self.due < self.retired)
    }
}

/// A domain's keys in one role: current, pending and retired.
#[derive(Clone, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct ProviderLeaf {
    /// The role.
    pub role: ProviderRole,
    /// The domain.
    pub domain: Domain,
    /// How many entries have made this leaf: so no state of it comes twice, and no signed entry fits a second time.
    pub revision: u32,
    /// Its keys, oldest first.
    pub keys: List24<ProviderKey, KEYS_BYTES_MAX>,
}

impl ProviderLeaf {
    /// What the provider tree holds for it.
    pub fn digest(&self) -> Hash {
        Hash::sha256(&[&encode(self)])
    }

    /// Its place in the provider tree.
    pub fn place(&self) -> Hash {
        leaf_place(self.role, &self.domain)
    }

    /// The keys that are valid at a time.
    pub fn valid(&self, now: UnixMillis) -> impl Iterator<Item = &ProviderKey> {
        self.keys.iter().filter(move |k| k.is_valid_at(now))
    }

    /// A key, current, pending or retired.
    pub fn find(&self, key: &Key) -> Option<&ProviderKey> {
        self.keys.iter().find(|k| k.key == *key)
    }

    /// Whether a key is valid at a time.
    pub fn is_valid(&self, key: &Key, now: UnixMillis) -> bool {
        self.find(key).is_some_and(|k| k.is_valid_at(now))
    }

    /// Whether an MSP publishes its consents, by its keys that are valid; one without any by those that were. So an MSP that
    /// has retired all its keys does not become fair game.
    pub fn publishes(&self, now: UnixMillis) -> bool {
        let mut valid = self.valid(now).peekable();
        if valid.peek().is_some() {
            return valid.any(|k| k.publishes.0);
        }
        self.keys.iter().any(|k| k.was_valid_by(now) && k.publishes.0)
    }
}

/// Where a domain's keys in a role lie in the provider tree: SHA-256(uint8 role || domain). The role has a fixed length and comes first,
/// so no two pairs have the same bytes.
pub fn leaf_place(role: ProviderRole, domain: &Domain) -> Hash {
    Hash::sha256(&[&[role.0], domain.as_str().as_bytes()])
}

/// Why a provider entry has no business in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProviderRefused {
    /// It was made for another state of the domain's keys in this role.
    #[error("the entry does not follow from the domain's keys in this role as they are")]
    NotNext,
    /// The key itself has not signed, or it has signed its own retirement.
    #[error("the key has not signed the entry, or has signed its own retirement")]
    NotByKey,
    /// The other signature is not by a key that may sign here.
    #[error("no valid key of the domain that may sign for this role has signed the entry")]
    NotByValid,
    /// The key to add is there already, or the one to retire is not.
    #[error("the key is there already, or is not there")]
    WrongKey,
    /// There is no room for another key.
    #[error("the domain has too many keys in this role: retired ones are dropped after 211 days")]
    TooMany,
    /// A signature is by an algorithm that this program cannot check.
    #[error("a signature uses an algorithm that this program cannot check")]
    NotSupported,
}

/// How far an entry could be judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judged {
    /// Every rule was checked.
    Whole,
    /// A signature by an algorithm that this program cannot check was taken as good.
    InPart,
}

/// All domains and their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderDirectory {
    domains: BTreeMap<Domain, BTreeMap<ProviderRole, ProviderLeaf>>,
}

impl ProviderDirectory {
    /// Nobody.
    pub const fn new() -> Self {
        Self { domains: BTreeMap::new() }
    }

    /// A domain's keys in a role.
    pub fn get(&self, domain: &Domain, role: ProviderRole) -> Option<&ProviderLeaf> {
        self.domains.get(domain)?.get(&role)
    }

    /// A domain's keys in all its roles.
    pub fn of(&self, domain: &Domain) -> impl Iterator<Item = &ProviderLeaf> {
        self.domains.get(domain).into_iter().flat_map(BTreeMap::values)
    }

    /// All leaves, those of a domain together, in the order of domains.
    pub fn leaves(&self) -> impl Iterator<Item = &ProviderLeaf> {
        self.domains.values().flat_map(BTreeMap::values)
    }

    /// All domains in order, each with its leaves.
    pub fn domains(&self) -> impl Iterator<Item = (&Domain, impl Iterator<Item = &ProviderLeaf>)> {
        self.domains.iter().map(|(domain, roles)| (domain, roles.values()))
    }

    /// Whether a key is valid in a role at a time.
    pub fn is_valid(&self, domain: &Domain, role: ProviderRole, key: &Key, now: UnixMillis) -> bool {
        self.get(domain, role).is_some_and(|leaf| leaf.is_valid(key, now))
    }

    /// The tree over all leaves.
    ///
    /// # Panics
    /// Never: pairs of domain and role are distinct.
    pub fn tree(&self) -> PrefixTree {
        let entries = self.leaves().map(|leaf| (leaf.place(), leaf.digest())).collect();
        PrefixTree::from_entries(entries).expect("pairs of domain and role are distinct")
    }

    /// Digest of a leaf, zero where there is none: what the next entry must name.
    pub fn previous_leaf(&self, domain: &Domain, role: ProviderRole) -> Hash {
        self.get(domain, role).map_or(Hash::ZERO, ProviderLeaf::digest)
    }

    /// Applies one entry as of the head that follows it, if every rule can be checked: what a DP logs.
    ///
    /// # Errors
    /// [`ProviderRefused`]; the directory is then unchanged.
    pub fn apply(&mut self, entry: &Provider, origin: &Origin, head: UnixMillis) -> Result<(), ProviderRefused> {
        let leaf = self.judge(entry, origin, head)?;
        self.put(leaf);
        Ok(())
    }

    /// Whether [`ProviderDirectory::apply`] would take an entry, by the same rules. Nothing is copied for it.
    ///
    /// # Errors
    /// [`ProviderRefused`].
    pub fn check(&self, entry: &Provider, origin: &Origin, head: UnixMillis) -> Result<(), ProviderRefused> {
        self.judge(entry, origin, head).map(drop)
    }

    /// The entry's leaf after it, if every rule can be checked.
    fn judge(&self, entry: &Provider, origin: &Origin, head: UnixMillis) -> Result<ProviderLeaf, ProviderRefused> {
        let (leaf, judged) = self.next(entry, origin, head)?;
        // "A DP logs no entry that it cannot judge."
        if judged == Judged::InPart { Err(ProviderRefused::NotSupported) } else { Ok(leaf) }
    }

    /// Applies one entry of a log as of the head that follows it. A signature that cannot be checked here is taken as good, so that the
    /// root stays comparable with the log's: whoever follows a log says so, and goes on.
    ///
    /// # Errors
    /// [`ProviderRefused`], never [`ProviderRefused::NotSupported`]; the directory is then unchanged.
    pub fn follow(&mut self, entry: &Provider, origin: &Origin, head: UnixMillis) -> Result<Judged, ProviderRefused> {
        let (leaf, judged) = self.next(entry, origin, head)?;
        self.put(leaf);
        Ok(judged)
    }

    /// The entry's leaf after it.
    fn next(
        &self,
        entry: &Provider,
        origin: &Origin,
        head: UnixMillis,
    ) -> Result<(ProviderLeaf, Judged), ProviderRefused> {
        if entry.previous_leaf != self.previous_leaf(&entry.domain, entry.role) {
            return Err(ProviderRefused::NotNext);
        }
        let known = self.get(&entry.domain, entry.role).map_or_else(Vec::new, |leaf| kept(leaf, head));
        let by_key = check_by_key(entry, origin)?;
        let by_valid = match &entry.by_valid.0 {
            Some(signature) => Some(self.check_by_valid(entry, signature, &known, origin, head)?),
            None => None,
        };
        let unknown = self.of(&entry.domain).next().is_none();
        let keys = match entry.action {
            // "A retirement needs it."
            ProviderAction::Retire if by_valid.is_none() => return Err(ProviderRefused::NotByValid),
            ProviderAction::Retire => retire(known, entry, head)?,
            // "The first key of a domain is valid at once; any later one needs the word of a key that may sign, or waits."
            _ if unknown || by_valid.is_some() => add(known, entry, NEVER, head)?,
            _ => add(known, entry, head.plus_ms(UNSIGNED_WAIT_MS), head)?,
        };
        let in_part = by_key == Judged::InPart || by_valid == Some(Judged::InPart);
        let revision = self.get(&entry.domain, entry.role).map_or(0, |leaf| leaf.revision);
        let revision = revision.checked_add(1).ok_or(ProviderRefused::TooMany)?;
        let keys = List24::new(keys).ok_or(ProviderRefused::TooMany)?;
        let leaf = ProviderLeaf { role: entry.role, domain: entry.domain.clone(), revision, keys };
        Ok((leaf, if in_part { Judged::InPart } else { Judged::Whole }))
    }

    /// Checks the signature of another key. It must be valid in the same role. Only where no key of the role is valid may one of another
    /// role of the domain sign: for the first key of a role, and to cancel one that waits.
    fn check_by_valid(
        &self,
        entry: &Provider,
        signature: &AnySignature,
        known: &[ProviderKey],
        origin: &Origin,
        head: UnixMillis,
    ) -> Result<Judged, ProviderRefused> {
        let message = entry.valid_message(origin);
        let has_valid = known.iter().any(|k| k.is_valid_at(head));
        let is_new = !known.iter().any(|k| k.was_valid_by(head));
        let any_role = !has_valid && (is_new || entry.action == ProviderAction::Retire);
        let others = self.of(&entry.domain).filter(|leaf| any_role && leaf.role != entry.role);
        let mut verdict = Err(ProviderRefused::NotByValid);
        for key in known.iter().chain(others.flat_map(|leaf| leaf.keys.iter())).filter(|k| k.is_valid_at(head)) {
            match key.key.judge(&message, signature) {
                Verdict::Holds => return Ok(Judged::Whole),
                Verdict::NotSupported => verdict = Ok(Judged::InPart),
                Verdict::Fails => {}
            }
        }
        verdict
    }

    /// Puts a leaf in place of the one before. One without keys is none.
    fn put(&mut self, leaf: ProviderLeaf) {
        let (domain, role) = (leaf.domain.clone(), leaf.role);
        let roles = self.domains.entry(domain.clone()).or_default();
        if leaf.keys.is_empty() {
            roles.remove(&role);
        } else {
            roles.insert(role, leaf);
        }
        if roles.is_empty() {
            self.domains.remove(&domain);
        }
    }
}

/// "Signed by the key itself": but a key may be lost, so nobody asks it to sign its own retirement.
fn check_by_key(entry: &Provider, origin: &Origin) -> Result<Judged, ProviderRefused> {
    match (entry.action, &entry.by_key.0) {
        (ProviderAction::Retire, None) => Ok(Judged::Whole),
        (ProviderAction::Add | ProviderAction::Rotate, Some(signature)) => {
            match entry.key.judge(&entry.key_message(origin), signature) {
                Verdict::Holds => Ok(Judged::Whole),
                Verdict::NotSupported => Ok(Judged::InPart),
                Verdict::Fails => Err(ProviderRefused::NotByKey),
            }
        }
        _ => Err(ProviderRefused::NotByKey),
    }
}

/// A leaf's keys without those that retired long ago. Where none that was ever valid would remain, the one that retired last stays: so a
/// domain that is known stays known, and what publishing bought is not lost.
fn kept(leaf: &ProviderLeaf, head: UnixMillis) -> Vec<ProviderKey> {
    let kept_ms = leaf.role.retired_kept_ms();
    let is_over = |k: &ProviderKey| k.retired != NEVER && k.retired.plus_ms(kept_ms) <= head;
    let remains = leaf.keys.iter().any(|k| !is_over(k) && k.was_valid_by(head));
    let was_valid = leaf.keys.iter().enumerate().filter(|(_, k)| k.was_valid_by(head));
    let last = was_valid.max_by_key(|(_, k)| k.retired).map(|(i, _)| i).filter(|_| !remains);
    let keys = leaf.keys.iter().enumerate().filter(|(i, k)| !is_over(k) || Some(*i) == last);
    keys.map(|(_, k)| k.clone()).collect()
}

/// The keys after an addition or a rotation.
fn add(
    mut keys: Vec<ProviderKey>,
    entry: &Provider,
    due: UnixMillis,
    head: UnixMillis,
) -> Result<Vec<ProviderKey>, ProviderRefused> {
    if keys.iter().any(|k| k.key == entry.key) {
        return Err(ProviderRefused::WrongKey);
    }
    if entry.action == ProviderAction::Rotate {
        let end = due.max(head);
        for key in &mut keys {
            key.retired = if key.retired == NEVER { end } else { key.retired.min(end) };
        }
    }
    let (class, publishes, key) = (entry.class, entry.publishes, entry.key.clone());
    keys.push(ProviderKey { class, publishes, key, due, retired: NEVER });
    let bytes: usize = keys.iter().map(tls_codec::Size::tls_serialized_len).sum();
    if keys.len() > KEYS_PER_LEAF_MAX || bytes > KEYS_BYTES_MAX { Err(ProviderRefused::TooMany) } else { Ok(keys) }
}

/// The keys after a retirement: one that is valid gets an end, one that is pending goes, and what it would have retired stays.
fn retire(keys: Vec<ProviderKey>, entry: &Provider, head: UnixMillis) -> Result<Vec<ProviderKey>, ProviderRefused> {
    let found = keys.iter().find(|k| k.key == entry.key && !k.has_retired_at(head));
    let found = found.ok_or(ProviderRefused::WrongKey)?.clone();
    let pending = head < found.due;
    let keys = keys.into_iter().filter(|k| !(pending && k.key == found.key)).map(|k| {
        let retired = match k.key == found.key {
            true => head,
            false if pending && k.retired == found.due => NEVER,
            false => k.retired,
        };
        ProviderKey { retired, ..k }
    });
    Ok(keys.collect())
}

#[cfg(test)]
mod tests {
    use waymark_log::key::{SecretKey, algorithm};

    use super::*;
    use crate::wire::Optional24;

    const MSP: ProviderRole = ProviderRole::MSP;
    const PROVER: ProviderRole = ProviderRole::PROVER;
    const CSIP: ProviderRole = ProviderRole::CSIP;

    fn origin() -> Origin {
        Origin::new("dp.example/log").unwrap()
    }

    fn secret(i: u8) -> SecretKey {
        SecretKey::from_seed(&[i; 32])
    }

    fn chat() -> Domain {
        Domain::parse("chat.example").unwrap()
    }

    fn entry_in(
        d: &ProviderDirectory,
        role: ProviderRole,
        action: ProviderAction,
        key: u8,
        by: Option<u8>,
    ) -> Provider {
        let (domain, previous_leaf) = (chat(), d.previous_leaf(&chat(), role));
        let (by_key, by_valid) = (Optional24(None), Optional24(None));
        let (class, publishes, public) = (1, Flag(true), secret(key).public().into());
        let mut entry =
            Provider { role, action, domain, class, publishes, key: public, previous_leaf, by_key, by_valid };
        if action != Retire {
            entry.sign_by_key(&origin(), &secret(key));
        }
        if let Some(by) = by {
            entry.sign_by_valid(&origin(), &secret(by));
        }
        entry
    }

    fn entry(d: &ProviderDirectory, action: ProviderAction, key: u8, by: Option<u8>) -> Provider {
        entry_in(d, MSP, action, key, by)
    }

    fn is_valid_in(d: &ProviderDirectory, role: ProviderRole, key: u8, day: u64) -> bool {
        d.is_valid(&chat(), role, &secret(key).public(), at(day))
    }

    fn valid(d: &ProviderDirectory, key: u8, day: u64) -> bool {
        is_valid_in(d, MSP, key, day)
    }

    fn at(day: u64) -> UnixMillis {
        UnixMillis::new(day * DAY_MS)
    }

    /// A directory in which each of these was applied on its day.
    fn after(steps: &[(u64, ProviderRole, ProviderAction, u8, Option<u8>)]) -> ProviderDirectory {
        let mut d = ProviderDirectory::new();
        for (day, role, action, key, by) in steps {
            let entry = entry_in(&d, *role, *action, *key, *by);
            assert_eq!(d.check(&entry, &origin(), at(*day)), Ok(()));
            d.apply(&entry, &origin(), at(*day)).unwrap();
        }
        d
    }

    /// Why an entry is not applied: what is said of it beforehand, too.
    fn refused(
        d: &ProviderDirectory,
        day: u64,
        role: ProviderRole,
        action: ProviderAction,
        key: u8,
        by: Option<u8>,
    ) -> Option<ProviderRefused> {
        let entry = entry_in(d, role, action, key, by);
        let refused = d.clone().apply(&entry, &origin(), at(day)).err();
        assert_eq!(d.check(&entry, &origin(), at(day)).err(), refused);
        refused
    }

    use ProviderAction::{Add, Retire, Rotate};

    #[test]
    fn the_first_key_is_valid_at_once_and_the_next_needs_it() {
        let d = after(&[(100, MSP, Add, 1, None)]);
        assert!(valid(&d, 1, 100));
        let d = after(&[(100, MSP, Add, 1, None), (101, MSP, Add, 2, Some(1))]);
        assert!(valid(&d, 1, 101) && valid(&d, 2, 101));
        let d = after(&[(100, MSP, Add, 1, None), (101, MSP, Add, 2, Some(1)), (102, MSP, Rotate, 3, Some(2))]);
        assert!(!valid(&d, 1, 102) && !valid(&d, 2, 102) && valid(&d, 3, 102));
    }

    #[test]
    fn what_publishing_bought_outlives_the_last_key() {
        let publishes = |d: &ProviderDirectory, day| d.get(&chat(), MSP).is_some_and(|leaf| leaf.publishes(at(day)));
        let d = after(&[(100, MSP, Add, 1, None)]);
        assert!(publishes(&d, 100));
        let d = after(&[(100, MSP, Add, 1, None), (101, MSP, Retire, 1, Some(1))]);
        assert!(!valid(&d, 1, 101) && publishes(&d, 101));
        // Somebody has a key logged in its name long after: until that is valid, nothing is lost.
        let mut quiet = entry(&d, Add, 9, None);
        quiet.publishes = Flag(false);
        quiet.sign_by_key(&origin(), &secret(9));
        let mut d = d;
        d.apply(&quiet, &origin(), at(1000)).unwrap();
        assert!(publishes(&d, 1006) && d.get(&chat(), MSP).unwrap().keys.len() == 2);
    }

    #[test]
    fn an_unsigned_key_waits_seven_days_and_can_be_cancelled() {
        let mut d = after(&[(100, MSP, Add, 1, None)]);
        let before = d.get(&chat(), MSP).unwrap().keys.clone();
        d.apply(&entry(&d, Rotate, 9, None), &origin(), at(101)).unwrap();
        assert!(valid(&d, 1, 107) && !valid(&d, 9, 107));
        assert!(!valid(&d, 1, 108) && valid(&d, 9, 108));
        d.apply(&entry(&d, Retire, 9, Some(1)), &origin(), at(103)).unwrap();
        assert!(valid(&d, 1, 200) && !valid(&d, 9, 200));
        assert_eq!(d.get(&chat(), MSP).unwrap().keys, before);
    }

    #[test]
    fn a_key_speaks_for_its_own_role_only() {
        let d = after(&[(100, PROVER, Add, 1, None), (100, MSP, Add, 2, Some(1))]);
        // The MSP's key, which signs consents all day, has no say over the prover's keys, nor the other way round.
        for (role, action, key, by) in [
            (PROVER, Rotate, 9, 2),
            (PROVER, Add, 9, 2),
            (PROVER, Retire, 1, 2),
            (MSP, Rotate, 9, 1),
            (MSP, Retire, 2, 1),
        ] {
            assert_eq!(refused(&d, 101, role, action, key, Some(by)), Some(ProviderRefused::NotByValid), "{role}");
        }
        // A rotation retires keys of its own role only.
        let d = after(&[(100, PROVER, Add, 1, None), (100, MSP, Add, 2, Some(1)), (101, MSP, Rotate, 3, Some(2))]);
        assert!(is_valid_in(&d, PROVER, 1, 101) && !valid(&d, 2, 101) && valid(&d, 3, 101));
        assert_eq!(refused(&d, 101, MSP, Retire, 1, Some(3)), Some(ProviderRefused::WrongKey));
    }

    #[test]
    fn the_first_key_of_another_role_needs_a_valid_key_of_the_domain_or_waits() {
        let known = [(100, MSP, Add, 1, None)];
        let vouched = after(&[known[0], (101, CSIP, Add, 2, Some(1))]);
        assert!(is_valid_in(&vouched, CSIP, 2, 101));
        let waits = after(&[known[0], (101, CSIP, Add, 9, None)]);
        assert!(!is_valid_in(&waits, CSIP, 9, 107) && is_valid_in(&waits, CSIP, 9, 108));
        // A key that has retired vouches for nothing.
        let retired = after(&[known[0], (101, MSP, Rotate, 3, Some(1))]);
        assert_eq!(refused(&retired, 102, CSIP, Add, 2, Some(1)), Some(ProviderRefused::NotByValid));
        // Once the role has had a valid key, others have no say over it, also when that has retired.
        let over = after(&[known[0], (101, CSIP, Add, 2, Some(1)), (102, CSIP, Retire, 2, Some(2))]);
        assert_eq!(refused(&over, 103, CSIP, Add, 4, Some(1)), Some(ProviderRefused::NotByValid));
        assert_eq!(refused(&over, 103, CSIP, Add, 4, None), None);
    }

    #[test]
    fn a_first_key_that_waits_is_cancelled_by_any_role_until_the_role_has_a_valid_key() {
        let known = [(100, MSP, Add, 1, None), (101, CSIP, Add, 9, None)];
        let cancelled = after(&[known[0], known[1], (102, CSIP, Retire, 9, Some(1))]);
        assert!(cancelled.get(&chat(), CSIP).is_none());
        // While it waits, the domain's own key may come in at once, and then the role judges for itself.
        let own = after(&[known[0], known[1], (102, CSIP, Add, 2, Some(1))]);
        assert!(is_valid_in(&own, CSIP, 2, 102));
        assert_eq!(refused(&own, 103, CSIP, Retire, 9, Some(1)), Some(ProviderRefused::NotByValid));
        assert_eq!(refused(&own, 103, CSIP, Retire, 9, Some(2)), None);
        // After the wait it is the role's own valid key.
        let due = after(&known);
        assert_eq!(refused(&due, 109, CSIP, Retire, 9, Some(1)), Some(ProviderRefused::NotByValid));
        // In a role that has lost all its keys, too, one that waits can be cancelled.
        let lost = after(&[
            known[0],
            (101, CSIP, Add, 2, Some(1)),
            (102, CSIP, Retire, 2, Some(2)),
            (103, CSIP, Add, 9, None),
        ]);
        assert_eq!(refused(&lost, 104, CSIP, Retire, 9, Some(1)), None);
    }

    #[test]
    fn roles_that_nobody_knows_follow_the_same_rules() {
        let (new, old) = (ProviderRole(200), ProviderRole::TOKEN_ISSUER);
        let d = after(&[(100, new, Add, 1, None), (101, new, Rotate, 2, Some(1)), (102, old, Add, 3, Some(2))]);
        assert!(is_valid_in(&d, new, 2, 102) && is_valid_in(&d, old, 3, 102) && !is_valid_in(&d, new, 1, 102));
        assert_eq!(ProviderRole::parse("200"), Some(new));
        for text in ["1", "msp", "token-issuer", "0", "255", "256", "01", "x"] {
            let role = ProviderRole::parse(text);
            assert!(role.is_none_or(|r| r.to_string() == text), "{text}");
        }
        assert_eq!(ProviderRole::parse("1"), None);
    }

    #[test]
    fn keys_that_retired_long_ago_go_with_the_next_entry() {
        let days = RETIRED_KEPT_MS / DAY_MS;
        assert_eq!(days, 211);
        let keys = |d: &ProviderDirectory, role| d.get(&chat(), role).unwrap().keys.len();
        let steps =
            |role, day| [(100, role, Add, 1, None), (101, role, Rotate, 2, Some(1)), (day, role, Add, 3, Some(2))];
        assert_eq!(keys(&after(&steps(MSP, 101 + days - 1)), MSP), 3);
        assert_eq!(keys(&after(&steps(MSP, 101 + days)), MSP), 2);
        let issuer = ProviderRole::TOKEN_ISSUER;
        assert_eq!((keys(&after(&steps(issuer, 102)), issuer), keys(&after(&steps(issuer, 103)), issuer)), (3, 2));
        // A provider that rotates every four days never runs out of room.
        let mut d = after(&[(100, MSP, Add, 0, None)]);
        for i in 0..200u8 {
            let (day, by) = (104 + 4 * u64::from(i), Some(i));
            d.apply(&entry(&d, Rotate, i + 1, by), &origin(), at(day)).unwrap();
        }
        assert!(keys(&d, MSP) <= KEYS_PER_LEAF_MAX);
    }

    #[test]
    fn the_last_key_of_a_role_stays_however_long_ago_it_retired() {
        let d = after(&[(100, MSP, Add, 1, None), (101, MSP, Add, 2, Some(1)), (102, MSP, Retire, 1, Some(1))]);
        let mut d = d;
        d.apply(&entry(&d, Retire, 2, Some(2)), &origin(), at(103)).unwrap();
        d.apply(&entry(&d, Add, 9, None), &origin(), at(1000)).unwrap();
        let keys: Vec<_> = d.get(&chat(), MSP).unwrap().keys.iter().map(|k| k.key.clone()).collect();
        assert_eq!(keys, [secret(2).public(), secret(9).public()]);
    }

    #[test]
    fn an_entry_that_was_logged_never_fits_again() {
        let mut d = after(&[(100, MSP, Add, 1, None)]);
        let again = entry(&d, Add, 2, Some(1));
        d.apply(&again, &origin(), at(101)).unwrap();
        d.apply(&entry(&d, Retire, 2, Some(1)), &origin(), at(102)).unwrap();
        // Long after, the leaf is brought back to the keys that it had: the key that retired must not come back with it.
        d.apply(&entry(&d, Add, 9, None), &origin(), at(1000)).unwrap();
        d.apply(&entry(&d, Retire, 9, Some(1)), &origin(), at(1001)).unwrap();
        assert_eq!(d.get(&chat(), MSP).unwrap().keys.len(), 1);
        assert_eq!(d.apply(&again, &origin(), at(1002)), Err(ProviderRefused::NotNext));
    }

    #[test]
    fn what_has_no_business_in_the_log() {
        let mut d = ProviderDirectory::new();
        let first = entry(&d, Add, 1, None);
        d.apply(&first, &origin(), at(100)).unwrap();
        let retirement = entry(&d, Retire, 1, Some(1));
        let refusals = [
            (first.clone(), ProviderRefused::NotNext),
            (entry(&d, Add, 1, Some(1)), ProviderRefused::WrongKey),
            (entry(&d, Add, 2, Some(3)), ProviderRefused::NotByValid),
            (Provider { by_key: Optional24(None), ..entry(&d, Add, 2, Some(1)) }, ProviderRefused::NotByKey),
            (Provider { by_key: first.by_key, ..retirement }, ProviderRefused::NotByKey),
            (entry(&d, Retire, 1, None), ProviderRefused::NotByValid),
            (entry(&d, Retire, 2, Some(1)), ProviderRefused::WrongKey),
            (Provider { class: 2, ..entry(&d, Add, 2, Some(1)) }, ProviderRefused::NotByKey),
            (Provider { role: PROVER, ..entry(&d, Add, 2, Some(1)) }, ProviderRefused::NotNext),
        ];
        for (entry, why) in refusals {
            let before = d.clone();
            assert_eq!(d.apply(&entry, &origin(), at(101)), Err(why));
            assert_eq!(d, before);
        }
        let other = Origin::new("dp.example/other").unwrap();
        let elsewhere = entry(&d, Add, 2, Some(1));
        assert_eq!(d.apply(&elsewhere, &other, at(101)), Err(ProviderRefused::NotByKey));
    }

    /// A key and a signature of the sizes that ML-DSA-44 has.
    fn post_quantum(fill: u8) -> (AnyKey, AnySignature) {
        let number = algorithm::ML_DSA_44;
        (AnyKey::new(number, &[fill; 1312]).unwrap(), AnySignature::new(number, &[fill; 2420]).unwrap())
    }

    #[test]
    fn what_cannot_be_checked_is_followed_and_never_logged() {
        let mut d = after(&[(100, MSP, Add, 1, None)]);
        let (key, signature) = post_quantum(7);
        let mut added = entry(&d, Add, 2, Some(1));
        (added.key, added.by_key) = (key.clone(), Optional24(Some(signature.clone())));
        added.sign_by_valid(&origin(), &secret(1));
        let before = d.clone();
        assert_eq!(d.apply(&added, &origin(), at(101)), Err(ProviderRefused::NotSupported));
        assert_eq!(d, before);
        assert_eq!(d.follow(&added, &origin(), at(101)), Ok(Judged::InPart));
        // It may now be the one that vouches; a signature by an algorithm that no valid key has is nobody's.
        let mut next = entry(&d, Add, 3, None);
        next.by_valid = Optional24(Some(signature.clone()));
        assert_eq!(d.clone().follow(&next, &origin(), at(102)), Ok(Judged::InPart));
        next.by_valid = Optional24(AnySignature::new(9, &[1]));
        assert_eq!(d.clone().follow(&next, &origin(), at(102)), Err(ProviderRefused::NotByValid));
        // An Ed25519 key is not signed for by another algorithm.
        let mut foreign = entry(&d, Add, 4, Some(1));
        foreign.by_key = Optional24(Some(signature));
        assert_eq!(d.follow(&foreign, &origin(), at(102)), Err(ProviderRefused::NotByKey));
    }

    #[test]
    fn the_greatest_leaves_fit_an_answer() {
        let long: String = format!("{}.example", vec!["a".repeat(61); 3].join("."));
        let leaf = |keys: Vec<ProviderKey>| {
            let (role, domain) = (MSP, Domain::parse(&long).unwrap());
            ProviderLeaf { role, domain, revision: 1, keys: List24::new(keys).unwrap() }
        };
        let key = |key: AnyKey| ProviderKey { class: 1, publishes: Flag(true), key, due: NEVER, retired: NEVER };
        let ed25519 = leaf((0..64).map(|i| key(secret(i).public().into())).collect());
        let large = leaf((0..9).map(|i| key(post_quantum(i).0)).collect());
        assert!(
            List24::<ProviderKey, KEYS_BYTES_MAX>::new((0..10).map(|i| key(post_quantum(i).0)).collect()).is_none()
        );
        // Every MSP and prover of sixteen mappings has rotated 64 times; or eight MSPs, a prover and a CSIP have nine long keys each.
        assert!(List24::<ProviderLeaf, { 1 << 17 }>::new(vec![ed25519; 32]).is_some());
        assert!(List24::<ProviderLeaf, { 1 << 17 }>::new(vec![large; 10]).is_some());
    }
}
