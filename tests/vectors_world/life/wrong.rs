//! Stories in which keys retire, and DPs that do not keep the rules: what is refused, next to what is not.

use waymark_log::{hash::Hash, time::UnixMillis};
use waymark_mapping::{
    answer::{Answer, Full, Receipt, TagProof},
    earlier::{Earlier, SlotThen},
    entry::{Entry, ProviderAction, ProviderRole},
    event::{AuthorityRole, Cause, Event, EventKind},
    label::prove_handle,
    mapping::Mapping,
    names::Tag,
    record::{HIDDEN_SLOTS, RecordState, SlotStatus, Standing},
    rules::{self, Known, Proposal, State},
    vrf::VrfProof,
    wire::{List24, Optional24},
};

use super::{
    HIDDEN_AT, Life, Shows, contents, contents_salt, handle, hidden, hidden_at, hidden_salt, record_opening, shown,
    visible_salt,
};
use crate::vectors_world::{ANN, csi, domain, origin, secret, vrf};

// Keys that retire.

impl Life {
    /// A provider's key gives way to another one of its domain and role.
    pub fn rotate_provider(&mut self, name: &str, role: ProviderRole) {
        let key = self.world.providers.get(&domain(name), role).unwrap().keys.last().unwrap().clone();
        let (class, publishes, next) = (key.class, key.publishes.0, format!("{name} 2"));
        let entry = self.world.provider(name, role, ProviderAction::Rotate, class, publishes, &next, Some(name));
        self.world.publish(vec![Entry::Provider(entry)]);
    }

    /// Ann's two versions, and then the prover's key retires.
    pub fn prover_retired() -> Self {
        let mut life = Self::ann();
        life.rotate_provider("dp.example", ProviderRole::PROVER);
        life
    }

    /// Then the phone withdraws its second mapping: the first one stands in versions before and after.
    pub fn changed_after_it_retired() -> Self {
        let mut life = Self::prover_retired();
        let removed = life.digests("ann phone")[1..].to_vec();
        life.add(EventKind::Withdraw, &[], &removed, &["ann phone"]);
        life
    }

    /// Then the phone issues another one, attested by this key of the prover.
    pub fn issued_after_it_retired(key: &'static str) -> Self {
        let mut life = Self::prover_retired();
        let wish = super::Wish { key, ..shown("third visible", "ann phone", "chat.example", &["business"]) };
        life.add(EventKind::Issue, &[wish], &[], &["ann phone"]);
        life
    }

    /// wire.example detaches a mapping, and then its key retires.
    pub fn detached_then_retired() -> Self {
        let mut life = Self::detached();
        life.rotate_provider("wire.example", ProviderRole::MSP);
        life
    }

    /// The key of wire.example retires, and detaches a mapping all the same.
    pub fn retired_then_detached() -> Self {
        let mut life = Self::ann();
        life.rotate_provider("wire.example", ProviderRole::MSP);
        let named = life.digests("ann phone")[0];
        let event = life.statement(EventKind::MspDetach, AuthorityRole::Msp, "wire.example", Some(named), 1);
        life.make(event, vec![], Known::default());
        life
    }

    /// The DP withholds a mapping, and then its key retires.
    pub fn withheld_then_retired() -> Self {
        let mut life = Self::withheld("ann phone");
        life.rotate_provider("dp.example", ProviderRole::PROVER);
        life
    }

    /// The CSIP takes the number back, and then its key retires; or the other way round.
    pub fn released_and_retired(retired_first: bool) -> Self {
        let mut life = Self::ann();
        if retired_first {
            life.rotate_provider("numbers.example", ProviderRole::CSIP);
        }
        let event = life.statement(EventKind::Release, AuthorityRole::Csip, "numbers.example", None, 0);
        let csip = domain("numbers.example");
        life.make(event, vec![], Known { csip: Some(&csip), ..Known::default() });
        if !retired_first {
            life.rotate_provider("numbers.example", ProviderRole::CSIP);
        }
        life
    }

    /// The digests of the mappings that the phone has here.
    pub fn of_the_phone(&self) -> Vec<Hash> {
        self.digests("ann phone")
    }

    /// An earlier version: these mappings of it are opened, and what made it if that is wanted.
    pub fn earlier(&self, version: u32, mappings: &[Hash], with_cause: bool) -> Earlier {
        let of = &self.versions[version as usize];
        let mut slots: Vec<SlotThen> = mappings.iter().map(|digest| self.slot_then(version, digest)).collect();
        slots.sort_by_key(|slot| slot.mapping);
        Earlier {
            at: self.logged(version),
            opening: record_opening(version),
            record: of.record.clone(),
            contents_salt: contents_salt(version),
            contents: of.contents.clone(),
            slots: List24::new(slots).unwrap(),
            cause_salt: Optional24(with_cause.then(|| super::cause_salt(version))),
        }
    }

    /// A mapping's slot in a version.
    pub fn slot_then(&self, version: u32, mapping: &Hash) -> SlotThen {
        let state = &self.versions[version as usize].state;
        let visible = state.held.iter().filter(|h| !h.is_hidden()).enumerate();
        let visible = visible.map(|(i, h)| (visible_salt(version, i), h));
        let hidden = (0..HIDDEN_SLOTS)
            .filter_map(|slot| hidden_at(state, slot).map(|(_, held)| (hidden_salt(version, slot), held)));
        let (salt, held) = visible.chain(hidden).find(|(_, h)| h.mapping.digest() == *mapping).unwrap();
        SlotThen { mapping: *mapping, standing: held.standing, salt }
    }

    /// An answer to who presents no tag, with these earlier versions beside what it shows anyway.
    pub fn answer_with_earlier(&self, earlier: Vec<Earlier>) -> Answer {
        let none = Full {
            open_path: List24::empty(),
            since: List24::empty(),
            tenure: Optional24(None),
            earlier: List24::empty(),
        };
        let full = self.full(false).unwrap_or(none);
        let full = Full { earlier: List24::new(earlier).unwrap(), ..full };
        self.answer_with(Shows::Visible, (full.bears_a_past()).then_some(full))
    }
}

// Times.

impl Life {
    /// Ann's phone begins with a mapping that its prover dates this much after the record.
    pub fn attested_ahead(ahead_ms: u64) -> Self {
        let (mut life, made) = Self::empty();
        // The record is made 200 ms after the last head.
        let wish =
            super::Wish { ahead_ms: 200 + ahead_ms, ..shown("ahead", "ann phone", "chat.example", &["default"]) };
        let (event, added) = life.issue(&wish);
        life.log_changed(event, added, made.plus_ms(ahead_ms), |state| {
            (state.time, state.start.time, state.held[0].standing.since) = (made, made, made);
        });
        life
    }

    /// Ann's phone begins, in a record that is dated as `change` says.
    pub fn with_dates(change: impl FnOnce(&mut State)) -> Self {
        let (mut life, made) = Self::empty();
        let (event, added) = life.issue(&shown("dates", "ann phone", "chat.example", &["default"]));
        life.log_changed(event, added, made, change);
        life
    }

    /// wire.example detaches a mapping in a statement that it dates this much after the record.
    pub fn stated_ahead(ahead_ms: u64) -> Self {
        let mut life = Self::ann();
        let named = life.digests("ann phone")[0];
        let mut tbs = life.tbs(EventKind::MspDetach, &[], &[named]);
        (tbs.reason, tbs.time) = (1, life.now().plus_ms(200 + ahead_ms));
        let authority = tbs.sign_as(AuthorityRole::Msp, &origin(), &secret("wire.example"));
        let event = Event { tbs, authorities: List24::new(vec![authority]).unwrap() };
        // The rules would not take it: the DP logs it all the same.
        let mut state = life.last().state.clone();
        (state.version, state.time) = (state.version + 1, life.now().plus_ms(200));
        let target = state.held.iter_mut().find(|h| h.mapping.digest() == named).unwrap();
        let (status, stated_version) = (SlotStatus::Detached, state.version);
        target.standing = Standing { status, reason: 1, stated_version, ..target.standing };
        life.log(state, event, vec![]);
        life
    }

    /// Carol claims the number, at a time of the claim that is this much after the record's.
    pub fn claimed_ahead(ahead_ms: u64) -> Self {
        let mut life = Self::claimed("dp.example");
        let last = life.versions.pop().unwrap();
        life.world = life.last().log.clone();
        let mut state = last.state;
        if let RecordState::Contested(claim) = &mut state.state {
            claim.time = claim.time.plus_ms(ahead_ms);
        }
        life.log(state, last.cause.event, vec![]);
        life
    }

    /// Two versions, the head behind the second this much later than the one behind the first; then another head.
    pub fn heads_apart(ms: i64) -> Self {
        let mut life = Self::first();
        life.next_head_in(ms);
        let wish = shown("second visible", "ann phone", "chat.example", &["business", "personal"]);
        life.add(EventKind::Issue, &[wish], &[], &["ann phone"]);
        life.world.wait(1000);
        life
    }

    /// One version, and one more head that is this much later than the one behind it.
    pub fn last_head_apart(ms: i64) -> Self {
        let mut life = Self::first();
        life.next_head_in(ms);
        life.world.publish(vec![]);
        life
    }

    /// Sets the clock so that the next head is dated this much after the last one: a batch takes a second.
    fn next_head_in(&mut self, ms: i64) {
        self.world.now_ms = self.world.now_ms.checked_add_signed(ms - 1000).unwrap();
    }

    /// Nobody's record yet, and when the first one will be made.
    fn empty() -> (Self, UnixMillis) {
        let life =
            Self { world: crate::vectors_world::World::new(), versions: vec![], consents: vec![], statements: vec![] };
        let made = life.now().plus_ms(200);
        (life, made)
    }

    fn issue(&self, wish: &super::Wish) -> (Event, Vec<Mapping>) {
        let mapping = self.mapping(wish, 0);
        let tbs = self.tbs(EventKind::Issue, &[mapping.digest()], &[]);
        (super::signed_by(tbs, wish.app, None), vec![mapping])
    }

    /// Logs what the rules make of an event at a time, changed.
    fn log_changed(&mut self, event: Event, added: Vec<Mapping>, now: UnixMillis, change: impl FnOnce(&mut State)) {
        let origin = origin();
        let proposal = Proposal { event: &event, added: &added, origin: &origin, now, known: Known::default() };
        let mut state = rules::apply(None, proposal).unwrap();
        change(&mut state);
        self.log(state, event, added);
    }
}

// Tags in receipts.

/// The proof of a handle in the world's log.
fn proof_of(version: u32, tag: &str, ordinal: u8) -> VrfProof {
    prove_handle(&vrf(), &csi(ANN), version, &Tag::parse(tag).unwrap(), ordinal).0
}

/// The proof of an ordinal of a tag, at a version.
pub fn tag_proof(version: u32, tag: &str, ordinal: u8) -> TagProof {
    TagProof { ordinal, vrf_proof: proof_of(version, tag, ordinal) }
}

impl Life {
    /// Carol adds a hidden mapping with the tag that one of Ann's bears: to her, Ann's is not shown.
    pub fn hidden_newcomer() -> Self {
        let mut life = Self::first();
        let wish = hidden("hidden newcomer", "carol phone", "wire.example");
        life.add(EventKind::Issue, &[wish], &[], &["carol phone"]);
        life
    }

    /// The DP gives the only mapping with the tag the second ordinal, to which no sender comes.
    pub fn behind_the_end() -> Self {
        let mut life = Self::first();
        let last = life.versions.pop().unwrap();
        life.world = crate::vectors_world::World::new();
        let cause = Cause { previous: Hash::ZERO, event: last.cause.event };
        let mut contents = contents(&last.state, &cause);
        contents.hidden.0[HIDDEN_AT[0]].handle = handle(0, 1).1;
        life.log_as(last.state, cause, last.added, contents);
        life
    }

    /// The receipt of that: the ordinal is the one that the mapping has got.
    pub fn receipt_behind_the_end(&self) -> Receipt {
        let mut receipt = self.receipt(Shows::All);
        let body = receipt.now.body.0.as_mut().unwrap();
        let mut slots = body.hidden.to_vec();
        let slot = slots.iter_mut().find(|slot| slot.handle.0.is_some()).unwrap();
        slot.handle = Optional24(Some(tag_proof(0, crate::vectors_world::TAG, 1)));
        body.hidden = List24::new(slots).unwrap();
        body.tag_proofs = List24::new(vec![tag_proof(0, crate::vectors_world::TAG, 0)]).unwrap();
        receipt
    }
}
