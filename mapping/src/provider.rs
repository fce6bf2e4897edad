//! Which keys speak for which domain: the provider directory, a pure function of the provider entries.
//!
//! ```text
//! struct { uint8 role; uint8 class; uint8 publishes; Key key; Ms due; Ms retired; }    ProviderKey
//! struct { opaque domain<1..253>; ProviderKey keys<0..2^12-1>; }                        ProviderLeaf
//! provider root = prefix tree from SHA-256(domain) to SHA-256(ProviderLeaf)
//! ```
//!
//! `due` 0 is "at once", `retired` 0 is "never". A leaf carries times instead of states, so that a key that falls due or
//! retires changes nothing in the tree.
//!
//! The rule: the first key of a domain counts at once. Any later key needs the signature of a key of that domain that is
//! valid; without it, it is due seven days after the first head that follows, and until then a valid key may cancel it. So
//! whoever bribes a DP into logging a key for somebody else's domain has to wait where the domain can see it.

use std::collections::BTreeMap;

use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::{Key, Signature},
    time::UnixMillis,
};

use crate::{
    entry::{Provider, ProviderAction, ProviderRole},
    names::Domain,
    prefix::PrefixTree,
    signed::UNSIGNED,
    wire::{Flag, List24, encode},
};

/// How long a key waits that no valid key of its domain has signed.
pub const UNSIGNED_WAIT_MS: u64 = 7 * 24 * 3600 * 1000;
/// Most keys of one domain, retired ones included: 55 bytes each, under the leaf's 4,096.
pub const KEYS_PER_DOMAIN_MAX: usize = 64;

const NEVER: UnixMillis = UnixMillis::new(0);

/// One key of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct ProviderKey {
    /// What it is for.
    pub role: ProviderRole,
    /// What kind of provider.
    pub class: u8,
    /// Whether consents by it are logged.
    pub publishes: Flag,
    /// The key.
    pub key: Key,
    /// From when on it counts; 0 for at once.
    pub due: UnixMillis,
    /// From when on it no longer counts; 0 for never.
    pub retired: UnixMillis,
}

impl ProviderKey {
    /// Whether it counts at a time.
    pub fn is_valid_at(&self, now: UnixMillis) -> bool {
        self.due <= now && (self.retired == NEVER || now < self.retired)
    }
}

/// A domain and its keys, current, pending and retired.
#[derive(Clone, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct ProviderLeaf {
    /// The domain.
    pub domain: Domain,
    /// Its keys, oldest first.
    pub keys: List24<ProviderKey, { (1 << 12) - 1 }>,
}

impl ProviderLeaf {
    /// What the provider tree holds for it.
    pub fn digest(&self) -> Hash {
        Hash::sha256(&[&encode(self)])
    }

    /// The keys of a role that count at a time.
    pub fn valid(&self, role: ProviderRole, now: UnixMillis) -> impl Iterator<Item = &ProviderKey> {
        self.keys.iter().filter(move |k| k.role == role && k.is_valid_at(now))
    }

    /// Whether this MSP publishes its consents, by its keys that count; one without any by those that did. So an MSP that
    /// has retired all its keys does not become fair game.
    pub fn publishes(&self, now: UnixMillis) -> bool {
        let mut valid = self.valid(ProviderRole::Msp, now).peekable();
        if valid.peek().is_some() {
            return valid.any(|k| k.publishes.0);
        }
        self.keys.iter().any(|k| k.role == ProviderRole::Msp && k.due <= now && k.publishes.0)
    }
}

/// Where a domain lies in the provider tree.
pub fn domain_key(domain: &Domain) -> Hash {
    Hash::sha256(&[domain.as_str().as_bytes()])
}

/// Why a provider entry has no business in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProviderRefused {
    /// It was made for another state of the domain.
    #[error("the entry does not follow from the domain's keys as they are")]
    NotNext,
    /// The key itself has not signed, or it has signed its own retirement.
    #[error("the key has not signed the entry")]
    NotByKey,
    /// The other signature is not by a valid key of the domain.
    #[error("no valid key of the domain has signed the entry")]
    NotByValid,
    /// The key to add is there already, or the one to retire is not.
    #[error("the key is there already, or is not there")]
    WrongKey,
    /// The domain has its 64 keys.
    #[error("the domain has too many keys")]
    TooMany,
}

/// All domains and their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderDirectory {
    leaves: BTreeMap<Domain, ProviderLeaf>,
}

impl ProviderDirectory {
    /// Nobody.
    pub const fn new() -> Self {
        Self { leaves: BTreeMap::new() }
    }

    /// A domain's keys.
    pub fn get(&self, domain: &Domain) -> Option<&ProviderLeaf> {
        self.leaves.get(domain)
    }

    /// All domains.
    pub fn leaves(&self) -> impl Iterator<Item = &ProviderLeaf> {
        self.leaves.values()
    }

    /// Whether a key counts in a role at a time.
    pub fn is_valid(&self, domain: &Domain, role: ProviderRole, key: &Key, now: UnixMillis) -> bool {
        self.get(domain).is_some_and(|leaf| leaf.valid(role, now).any(|k| k.key == *key))
    }

    /// The tree over all domains.
    ///
    /// # Panics
    /// Never: domains are distinct.
    pub fn tree(&self) -> PrefixTree {
        let entries = self.leaves.values().map(|leaf| (domain_key(&leaf.domain), leaf.digest())).collect();
        PrefixTree::from_entries(entries).expect("domains are distinct")
    }

    /// Digest of a domain's leaf, zero for a domain without one: what the next entry must name.
    pub fn previous_leaf(&self, domain: &Domain) -> Hash {
        self.get(domain).map_or(Hash::ZERO, ProviderLeaf::digest)
    }

    /// Applies one entry as of the head that follows it.
    ///
    /// # Errors
    /// [`ProviderRefused`]; the directory is then unchanged.
    pub fn apply(&mut self, entry: &Provider, origin: &Origin, head: UnixMillis) -> Result<(), ProviderRefused> {
        if entry.previous_leaf != self.previous_leaf(&entry.domain) {
            return Err(ProviderRefused::NotNext);
        }
        let known = self.get(&entry.domain).map_or(&[][..], |leaf| &leaf.keys);
        let retires = entry.action == ProviderAction::Retire;
        // "signed by the key itself": but a key may be lost, so nobody asks it to sign its own retirement.
        let by_key = if retires {
            entry.by_key == UNSIGNED
        } else {
            entry.key.verify(&entry.key_message(origin), &entry.by_key).is_ok()
        };
        if !by_key {
            return Err(ProviderRefused::NotByKey);
        }
        let by_valid = match Signature::from_slice(entry.by_valid.as_slice()) {
            None => false,
            Some(signature) => {
                let message = entry.valid_message(origin);
                let signed = |k: &&ProviderKey| k.is_valid_at(head) && k.key.verify(&message, &signature).is_ok();
                known.iter().find(signed).ok_or(ProviderRefused::NotByValid)?;
                true
            }
        };
        let keys = if retires { retire(known, entry, by_valid, head)? } else { add(known, entry, by_valid, head)? };
        match List24::new(keys) {
            Some(keys) if keys.is_empty() => self.leaves.remove(&entry.domain),
            Some(keys) => self.leaves.insert(entry.domain.clone(), ProviderLeaf { domain: entry.domain.clone(), keys }),
            None => return Err(ProviderRefused::TooMany),
        };
        Ok(())
    }
}

/// The keys after an addition or a rotation.
fn add(
    known: &[ProviderKey],
    entry: &Provider,
    by_valid: bool,
    head: UnixMillis,
) -> Result<Vec<ProviderKey>, ProviderRefused> {
    if known.iter().any(|k| k.key == entry.key) {
        return Err(ProviderRefused::WrongKey);
    }
    if known.len() == KEYS_PER_DOMAIN_MAX {
        return Err(ProviderRefused::TooMany);
    }
    let due = if known.is_empty() || by_valid { NEVER } else { head.plus_ms(UNSIGNED_WAIT_MS) };
    let mut keys = known.to_vec();
    if entry.action == ProviderAction::Rotate {
        let end = due.max(head);
        for key in keys.iter_mut().filter(|k| k.role == entry.role) {
            key.retired = if key.retired == NEVER { end } else { key.retired.min(end) };
        }
    }
    let (role, class, publishes, key) = (entry.role, entry.class, entry.publishes, entry.key);
    keys.push(ProviderKey { role, class, publishes, key, due, retired: NEVER });
    Ok(keys)
}

/// The keys after a retirement: one that counts gets an end, one that is pending goes, and what it would have retired stays.
fn retire(
    known: &[ProviderKey],
    entry: &Provider,
    by_valid: bool,
    head: UnixMillis,
) -> Result<Vec<ProviderKey>, ProviderRefused> {
    if !by_valid {
        return Err(ProviderRefused::NotByValid);
    }
    let live = |k: &ProviderKey| k.retired == NEVER || head < k.retired;
    let found = known.iter().find(|k| k.key == entry.key && k.role == entry.role && live(k));
    let found = *found.ok_or(ProviderRefused::WrongKey)?;
    let pending = head < found.due;
    let keys = known.iter().filter(|k| !(pending && k.key == found.key)).map(|k| {
        let retired = match k.key == found.key {
            true => head,
            false if pending && k.retired == found.due => NEVER,
            false => k.retired,
        };
        ProviderKey { retired, ..*k }
    });
    Ok(keys.collect())
}

#[cfg(test)]
mod tests {
    use waymark_log::key::SecretKey;

    use super::*;
    use crate::wire::Opaque8;

    const DAY: u64 = 24 * 3600 * 1000;

    fn origin() -> Origin {
        Origin::new("dp.example/log").unwrap()
    }

    fn secret(i: u8) -> SecretKey {
        SecretKey::from_seed(&[i; 32])
    }

    fn entry(d: &ProviderDirectory, action: ProviderAction, key: u8, by: Option<u8>) -> Provider {
        let domain = Domain::parse("chat.example").unwrap();
        let previous_leaf = d.previous_leaf(&domain);
        let mut entry = Provider {
            role: ProviderRole::Msp,
            action,
            domain,
            class: 1,
            publishes: Flag(true),
            key: secret(key).public(),
            previous_leaf,
            by_key: UNSIGNED,
            by_valid: Opaque8::new([]).unwrap(),
        };
        if action != ProviderAction::Retire {
            entry.by_key = secret(key).sign(&entry.key_message(&origin()));
        }
        if let Some(by) = by {
            let signature = secret(by).sign(&entry.valid_message(&origin()));
            entry.by_valid = Opaque8::new(*signature.as_bytes()).unwrap();
        }
        entry
    }

    fn valid(d: &ProviderDirectory, key: u8, day: u64) -> bool {
        let domain = Domain::parse("chat.example").unwrap();
        d.is_valid(&domain, ProviderRole::Msp, &secret(key).public(), UnixMillis::new(day * DAY))
    }

    fn at(day: u64) -> UnixMillis {
        UnixMillis::new(day * DAY)
    }

    #[test]
    fn the_first_key_counts_at_once_and_the_next_needs_it() {
        let mut d = ProviderDirectory::new();
        d.apply(&entry(&d, ProviderAction::Add, 1, None), &origin(), at(100)).unwrap();
        assert!(valid(&d, 1, 100));
        d.apply(&entry(&d, ProviderAction::Add, 2, Some(1)), &origin(), at(101)).unwrap();
        assert!(valid(&d, 1, 101) && valid(&d, 2, 101));
        d.apply(&entry(&d, ProviderAction::Rotate, 3, Some(2)), &origin(), at(102)).unwrap();
        assert!(!valid(&d, 1, 102) && !valid(&d, 2, 102) && valid(&d, 3, 102));
    }

    #[test]
    fn what_publishing_bought_outlives_the_last_key() {
        let mut d = ProviderDirectory::new();
        let publishes = |d: &ProviderDirectory, day| {
            d.get(&Domain::parse("chat.example").unwrap()).is_some_and(|leaf| leaf.publishes(at(day)))
        };
        d.apply(&entry(&d, ProviderAction::Add, 1, None), &origin(), at(100)).unwrap();
        assert!(publishes(&d, 100));
        d.apply(&entry(&d, ProviderAction::Retire, 1, Some(1)), &origin(), at(101)).unwrap();
        assert!(!valid(&d, 1, 101) && publishes(&d, 101));
    }

    #[test]
    fn an_unsigned_key_waits_seven_days_and_can_be_cancelled() {
        let mut d = ProviderDirectory::new();
        d.apply(&entry(&d, ProviderAction::Add, 1, None), &origin(), at(100)).unwrap();
        let root = d.tree().root();
        d.apply(&entry(&d, ProviderAction::Rotate, 9, None), &origin(), at(101)).unwrap();
        assert!(valid(&d, 1, 107) && !valid(&d, 9, 107));
        assert!(!valid(&d, 1, 108) && valid(&d, 9, 108));
        d.apply(&entry(&d, ProviderAction::Retire, 9, Some(1)), &origin(), at(103)).unwrap();
        assert!(valid(&d, 1, 200) && !valid(&d, 9, 200));
        assert_eq!(d.tree().root(), root);
    }

    #[test]
    fn what_has_no_business_in_the_log() {
        let mut d = ProviderDirectory::new();
        let first = entry(&d, ProviderAction::Add, 1, None);
        d.apply(&first, &origin(), at(100)).unwrap();
        let refusals = [
            (first, ProviderRefused::NotNext),
            (entry(&d, ProviderAction::Add, 1, Some(1)), ProviderRefused::WrongKey),
            (entry(&d, ProviderAction::Add, 2, Some(3)), ProviderRefused::NotByValid),
            (Provider { by_key: UNSIGNED, ..entry(&d, ProviderAction::Add, 2, Some(1)) }, ProviderRefused::NotByKey),
            (entry(&d, ProviderAction::Retire, 1, None), ProviderRefused::NotByValid),
            (entry(&d, ProviderAction::Retire, 2, Some(1)), ProviderRefused::WrongKey),
            (Provider { class: 2, ..entry(&d, ProviderAction::Add, 2, Some(1)) }, ProviderRefused::NotByKey),
        ];
        for (entry, why) in refusals {
            let before = d.clone();
            assert_eq!(d.apply(&entry, &origin(), at(101)), Err(why));
            assert_eq!(d, before);
        }
        let other = Origin::new("dp.example/other").unwrap();
        let elsewhere = entry(&d, ProviderAction::Add, 2, Some(1));
        assert_eq!(d.apply(&elsewhere, &other, at(101)), Err(ProviderRefused::NotByKey));
    }
}
