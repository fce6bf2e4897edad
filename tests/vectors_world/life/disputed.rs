//! Records and events for the rules of changes: what is allowed, and what differs from it in one thing.

use waymark_log::{hash::Hash, time::UnixMillis};
use waymark_mapping::{
    event::{Authority, AuthorityRole, Event, EventKind, EventTbs},
    mapping::{Attestation, Mapping, Purpose},
    names::Domain,
    record::{HOLD_MS, SHORT_HOLD_MS},
    rules::{self, Known, Proposal, Refused, State},
    wire::{List24, Optional24},
};

use super::{Life, STRICT, Wish, hidden, shown};
use crate::vectors_world::{BEN, DAY_MS, csi, domain, origin, secret, signed};

/// An event, the mappings that it adds, and what the DP knows besides.
#[derive(Clone)]
pub struct Change {
    pub event: Event,
    pub added: Vec<Mapping>,
    pub now: UnixMillis,
    pub stricter: Vec<Domain>,
}

impl Life {
    /// What the rules make of a change over the latest version.
    pub fn judge(&self, change: &Change) -> Result<State, Refused> {
        let before = self.versions.last().map(|v| (&v.state, v.commitment));
        let (origin, now) = (origin(), change.now);
        let known = Known { stricter: &change.stricter, ..Known::default() };
        rules::apply(before, Proposal { event: &change.event, added: &change.added, origin: &origin, now, known })
    }

    /// A change, 200 ms after the last head, with the one strict prover.
    pub fn proposal(&self, tbs: EventTbs, authorities: Vec<Authority>, added: Vec<Mapping>) -> Change {
        let event = Event { tbs, authorities: List24::new(authorities).unwrap() };
        Change { event, added, now: self.now().plus_ms(200), stricter: vec![domain(STRICT)] }
    }

    pub fn names(&self, kind: EventKind, added: &[Mapping], removed: &[Hash]) -> EventTbs {
        self.tbs(kind, &added.iter().map(Mapping::digest).collect::<Vec<_>>(), removed)
    }

    pub fn of(&self, app: &str) -> Vec<Hash> {
        self.digests(app)
    }

    pub fn all(&self) -> Vec<Hash> {
        self.all_digests()
    }

    /// Ann's mappings and Carol's, whose times are over.
    pub fn lapsed() -> Self {
        let mut life = Self::newcomer();
        life.world.wait(101 * DAY_MS);
        life
    }

    /// The same four days after Carol came: nothing is new and nothing has lapsed.
    pub fn settled() -> Self {
        let mut life = Self::newcomer();
        life.world.wait(4 * DAY_MS);
        life
    }

    /// Carol's claim on a stricter proof, its hold over.
    pub fn waited_strict() -> Self {
        let mut life = Self::claimed(STRICT);
        life.world.wait(SHORT_HOLD_MS);
        life
    }

    /// Carol's claim on an equal proof, its hold over.
    pub fn waited() -> Self {
        let mut life = Self::claimed("dp.example");
        life.world.wait(HOLD_MS);
        life
    }

    /// Carol's mapping with which she takes the claim up.
    pub fn taking_up(&self, prover: &'static str) -> Mapping {
        self.mapping(
            &Wish { prover, key: prover, ..shown("new holder", "carol phone", "chat.example", &["default"]) },
            1,
        )
    }

    /// A proof of possession for the phone of somebody, in a tenure.
    pub fn possession(&self, app: &str, tenure: u32, change: impl FnOnce(&mut Attestation)) -> Attestation {
        let mut proof = self.unsigned_attestation("possession", app, tenure, "dp.example");
        change(&mut proof);
        signed(proof, "dp.example")
    }

    /// The laptop's mapping under its second key, changed; and another one as it was.
    pub fn under_the_second_key(&self, change: impl FnOnce(&mut Wish)) -> Mapping {
        let mut wish = hidden("hidden, new key", "ann laptop 2", "chat.example");
        change(&mut wish);
        self.mapping(&wish, 0)
    }

    /// One more visible mapping of the phone, changed.
    pub fn issued(&self, ahead_ms: u64) -> Mapping {
        let wish = shown("third visible", "ann phone", "chat.example", &["business"]);
        self.mapping(&Wish { ahead_ms, ..wish }, self.last().state.tenure_of_next_mapping())
    }
}

impl Wish {
    pub fn at(&mut self, msp: &'static str) {
        self.msp = msp;
    }

    pub fn by(&mut self, app: &'static str) {
        self.app = app;
    }
}

pub fn recipient(tbs: &EventTbs, app: &str, possession: Option<Attestation>) -> Authority {
    tbs.sign_as_recipient(&origin(), &secret(app), possession)
}

pub fn in_role(tbs: &EventTbs, role: AuthorityRole, by: &str) -> Authority {
    tbs.sign_as(role, &origin(), &secret(by))
}

/// The same authority with another proof of possession in it, or none: its signature stays.
pub fn swapped(authority: &Authority, possession: Option<Attestation>) -> Authority {
    Authority { possession: Optional24(possession), ..authority.clone() }
}

pub fn for_a_view(proof: &mut Attestation) {
    proof.purpose = Purpose::View;
}

pub fn for_somebody_else(proof: &mut Attestation) {
    proof.csi = csi(BEN);
}
