//! Leaks, put into what the observer gets: each is a mistake that a DP could make. If the learners did not notice them, that
//! they notice nothing else would mean nothing.

use waymark_log::{hash::Hash, time::UnixMillis};
use waymark_mapping::{
    answer::Answer,
    commitment::blind,
    entry::ProviderRole,
    label::Handle,
    names::{Domain, Tag},
    provider::{ProviderKey, ProviderLeaf},
    record::hidden_bytes,
    wire::{Flag, List24},
};

use super::{people::Person, seen::Observed};
use crate::common::key;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Leak {
    /// Some byte of what is opened is the number of hidden mappings.
    CountInAByte,
    /// Handles are hashes of tags.
    HandlesOfTags,
    /// Empty slots are blinded with the salt of the contents.
    SharedSalt,
    /// The keys of hidden mappings' MSPs are shown like those of visible ones.
    HiddenProvidersShown,
    /// Consents to hidden mappings are logged.
    HiddenConsentsLogged,
    /// Statements about hidden mappings make answers longer.
    Longer,
    /// A visible mapping stands as new or not by what is hidden beside it.
    Newcomer,
}

impl Leak {
    pub const ALL: [Self; 7] = [
        Self::CountInAByte,
        Self::HandlesOfTags,
        Self::SharedSalt,
        Self::HiddenProvidersShown,
        Self::HiddenConsentsLogged,
        Self::Longer,
        Self::Newcomer,
    ];

    /// Whether only a look at every byte finds it.
    pub fn is_in_a_byte(self) -> bool {
        matches!(self, Self::CountInAByte)
    }

    /// What the observer would get.
    pub fn put_into(self, seen: &Observed, people: &[Person]) -> Observed {
        let mut seen = seen.clone();
        for (i, person) in people.iter().enumerate() {
            let hidden = [person.hidden_at_first.clone(), person.hidden_msps()];
            for (look, hidden) in hidden.iter().enumerate() {
                self.put_into_one(&mut seen, look, i, person, hidden);
            }
        }
        seen
    }

    fn put_into_one(self, seen: &mut Observed, look: usize, i: usize, person: &Person, hidden: &[Domain]) {
        let place = seen.changes[i].last().map(|(_, at)| seen.batch_of[*at as usize]);
        let numbers: Vec<usize> = hidden.iter().filter_map(|d| seen.msps.iter().position(|m| m == d)).collect();
        let answered = &mut seen.looks[look][i];
        let body = answered.body_mut();
        let slots = &mut body.contents.hidden.0;
        match self {
            Self::CountInAByte => {
                let mut cause = *body.contents.cause.as_bytes();
                cause[17] = hidden.len() as u8;
                body.contents.cause = Hash::from_slice(&cause).unwrap();
            }
            Self::HandlesOfTags => {
                for (slot, own) in slots.iter_mut().zip(person.hidden.iter().filter(|_| look == 1)) {
                    let tag = own.mapping.tags.as_exact().map_or("", Tag::expose);
                    let hash = *Hash::sha256(&[tag.as_bytes()]).as_bytes();
                    slot.handle = Handle(hash[..8].try_into().unwrap());
                }
            }
            Self::SharedSalt => {
                let empty = blind(&body.contents_salt, &hidden_bytes(None));
                slots.iter_mut().skip(hidden.len()).for_each(|slot| slot.digest = empty);
            }
            Self::HiddenProvidersShown => {
                let leaves = &mut answered.answer.providers.leaves;
                let more = hidden.iter().map(leaf);
                *leaves = List24::new(leaves.iter().cloned().chain(more).collect()).unwrap();
            }
            Self::HiddenConsentsLogged => {
                let Some(batch) = place.filter(|_| look == 1).and_then(|b| seen.batches.get_mut(b)) else { return };
                // The tests' log has no such entries: these are at places that no visible mapping names.
                let beyond = seen.entries.len() as u64;
                batch.consents.extend(numbers.iter().map(|msp| (beyond, *msp)));
            }
            Self::Longer => lengthen(&mut answered.answer, hidden.len()),
            Self::Newcomer => {
                let mut visible = body.visible.to_vec();
                visible.iter_mut().for_each(|v| v.standing.newcomer = Flag(!hidden.is_empty()));
                body.visible = List24::new(visible).unwrap();
            }
        }
    }
}

/// A leaf as the provider tree would have it.
fn leaf(domain: &Domain) -> ProviderLeaf {
    let key = ProviderKey {
        class: 1,
        publishes: Flag(false),
        key: key(domain.as_str()).public().into(),
        due: UnixMillis::new(0),
        retired: UnixMillis::new(0),
    };
    let (role, domain) = (ProviderRole::MSP, domain.clone());
    ProviderLeaf { role, domain, revision: 1, keys: List24::new(vec![key]).unwrap() }
}

/// Longer by the path of an inclusion for each hidden mapping.
fn lengthen(answer: &mut Answer, by: usize) {
    let path = answer.head_path.iter().copied().chain((0..by).map(|_| Hash::ZERO));
    answer.head_path = List24::new(path.collect()).unwrap();
}
