//! Wishes: what somebody might ask for next, and what may be wrong with it.
//!
//! A wish is made in good order for the state as it is, as well as the kind allows; then, for every other one, something is
//! spoilt. Whether a spoilt wish is still good is for the model to say.

use waymark_mapping::{
    event::{AuthorityRole as Role, EventKind as Kind},
    mapping::Consent as Real,
};

use super::{
    dice::Dice,
    rules::{
        Ask, Consent, DAY, HIDDEN_MAX, HOUR, Held, How, LIFETIME, MINUTE, Mapping, Ms, PUBLISHES, Previous, Proof,
        Prover, SECOND, SKEW, STATEMENT_WINDOW, Signer, State, Status, UNKNOWN_MSP, Who, is_statement,
    },
};

/// Apps that want something of one CSI.
pub const APPS: u8 = 5;
pub const KINDS: [Kind; 13] = [
    Kind::Issue,
    Kind::Replace,
    Kind::Withdraw,
    Kind::OptOut,
    Kind::RotateKey,
    Kind::KeyCompromise,
    Kind::Release,
    Kind::NewHolderPending,
    Kind::Objection,
    Kind::NewHolder,
    Kind::MspDetach,
    Kind::DpUnserve,
    Kind::Erase,
];

/// Draws wishes for one CSI.
pub struct Wisher {
    pub dice: Dice,
    serial: u32,
    /// Whether consents, provers and MSPs are spoilt, too.
    directory: bool,
    /// Most visible mappings.
    visible_max: usize,
    /// What was asked for before, to be asked for again.
    past: Vec<Ask>,
}

impl Wisher {
    pub fn new(seed: u64, directory: bool, visible_max: usize) -> Self {
        Self { dice: Dice::new(seed), serial: 0, directory, visible_max, past: vec![] }
    }

    fn serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    /// What somebody asks for at `now`, over `state`.
    pub fn wish(&mut self, state: Option<&State>, now: Ms) -> Ask {
        if self.dice.chance(2)
            && let Some(ask) = self.dice.pick(&self.past)
        {
            return again(ask, state);
        }
        let kind = if self.dice.chance(4) { self.dice.pick(&KINDS).unwrap() } else { self.likely(state, now) };
        let mut ask = self.honest(kind, state, now);
        let spoils = if self.dice.chance(45) { 1 + u32::from(self.dice.chance(20)) } else { 0 };
        for _ in 0..spoils {
            self.spoil(&mut ask, state, now);
        }
        self.past.push(ask.clone());
        ask
    }

    /// A kind that may do something here.
    fn likely(&mut self, state: Option<&State>, now: Ms) -> Kind {
        let Some(state) = state else { return self.dice.weighted(&[(Kind::Issue, 5), (Kind::OptOut, 1)]) };
        if state.held.is_empty() {
            let erase = if state.erased { 0 } else { 8 };
            let release = if state.start.how == How::Release { 0 } else { 1 };
            return self.dice.weighted(&[
                (Kind::Issue, 18),
                (Kind::OptOut, 4),
                (Kind::Erase, erase),
                (Kind::Release, release),
                (Kind::NewHolderPending, 1),
            ]);
        }
        let room = if state.held.len() < 6 { 9 } else { 3 };
        let over = state.live_claim(now).map(|c| c.until <= now);
        let (claimed, taken, free) = match over {
            None => (0, 0, 5),
            Some(false) => (10, 3, 1),
            Some(true) => (5, 20, 1),
        };
        self.dice.weighted(&[
            (Kind::Issue, room),
            (Kind::Replace, 5),
            (Kind::Withdraw, 5),
            (Kind::OptOut, 2),
            (Kind::RotateKey, 4),
            (Kind::KeyCompromise, 2),
            (Kind::Release, 1),
            (Kind::NewHolderPending, free),
            (Kind::Objection, claimed),
            (Kind::NewHolder, taken),
            (Kind::MspDetach, 4),
            (Kind::DpUnserve, 4),
            (Kind::Erase, 2),
        ])
    }

    fn app(&mut self) -> Who {
        Who::App(self.dice.below(u64::from(APPS)) as u8)
    }

    /// A proof that was made a while ago, but after `after`.
    pub fn proof(&mut self, key: Who, tenure: u32, after: Ms, now: Ms) -> Proof {
        let earliest = (after + 1).max(now.saturating_sub(50 * MINUTE));
        let time = if earliest < now { earliest + self.dice.below(now - earliest + 1) } else { earliest };
        Proof {
            serial: self.serial(),
            key,
            elsewhere: false,
            tenure,
            control: true,
            by: self.dice.weighted(&[(Prover::Dp, 4), (Prover::Strict, 1)]),
            time,
            expiry: time + HOUR,
            forged: false,
        }
    }

    pub fn mapping(&mut self, key: Who, tenure: u32, after: Ms, now: Ms) -> Mapping {
        let proof = self.proof(key, tenure, after, now);
        let spans = [(LIFETIME, 5), (100 * DAY, 3), (10 * DAY, 2), (4 * DAY, 1), (2 * HOUR, 1)];
        let until = (proof.time + self.dice.weighted(&spans)).max(now + DAY);
        // Not-after is the beginning of a day.
        let until = until / DAY * DAY;
        Mapping {
            key,
            elsewhere: false,
            tenure,
            msp: Some(self.dice.below(2) as u8),
            hidden: if self.dice.chance(30) { Some(self.dice.below(3) as u8) } else { None },
            words: self.dice.below(4) as u8,
            from: now,
            until,
            proof,
            forged: false,
        }
    }

    fn sign(who: Who, role: Role) -> Signer {
        Signer { who, role, proof: None, forged: false }
    }

    /// Adds the signatures that the wish needs.
    fn sign_all(&mut self, ask: &mut Ask, state: Option<&State>, now: Ms) {
        let mut keys: Vec<Who> = ask.added.iter().map(|m| m.key).collect();
        let removed: Vec<Held> = ask.removed.iter().filter_map(|m| state.and_then(|s| s.find(m)).cloned()).collect();
        let mut proved: Vec<(Who, Ms)> = vec![];
        for held in &removed {
            let state = state.unwrap();
            let older = state.held.iter().filter(|h| h.since_version < held.since_version);
            let older: Vec<Who> = older.map(|h| h.mapping.key).filter(|k| *k != held.mapping.key).collect();
            let lapsed = held.has_lapsed(now) && !ask.added.is_empty();
            match self.dice.pick(&older) {
                Some(older) if state.is_new(held, now) && self.dice.chance(60) => proved.push((older, held.since)),
                _ if lapsed && self.dice.chance(70) && !keys.is_empty() => {}
                _ if lapsed && self.dice.chance(40) => keys.push(self.app()),
                _ => keys.push(held.mapping.key),
            }
        }
        keys.extend(proved.iter().map(|(key, _)| *key));
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let mut signer = Self::sign(key, Role::Recipient);
            if let Some(after) = proved.iter().filter(|(k, _)| *k == key).map(|(_, since)| *since).max() {
                signer.proof = Some(self.proof(key, ask.tenure, after, now));
            } else if self.dice.chance(5) {
                signer.proof = Some(self.proof(key, ask.tenure, 0, now));
            }
            ask.signers.push(signer);
        }
    }

    /// A wish of this kind that is as good as the state allows.
    fn honest(&mut self, kind: Kind, state: Option<&State>, now: Ms) -> Ask {
        let mut ask = self.empty(kind, state, now);
        self.fill(&mut ask, state, now);
        if !is_statement(kind) {
            ask.sent.clone_from(&ask.added);
        }
        self.consent(&mut ask, now);
        ask
    }

    /// A wish over the state that says nothing yet.
    fn empty(&mut self, kind: Kind, state: Option<&State>, now: Ms) -> Ask {
        Ask {
            serial: self.serial(),
            kind,
            elsewhere: false,
            tenure: state.map_or(0, |s| s.tenure),
            version: Some(state.map_or(0, |s| s.version + 1)),
            previous: if state.is_some() { Previous::Current } else { Previous::Zero },
            added: vec![],
            removed: vec![],
            sent: vec![],
            reason: 0,
            time: now,
            signers: vec![],
            consents: vec![],
        }
    }

    fn fill(&mut self, ask: &mut Ask, state: Option<&State>, now: Ms) {
        let next_tenure = state.map_or(0, State::next_tenure);
        match ask.kind {
            Kind::Issue => self.add(ask, next_tenure, now),
            Kind::Replace => {
                let made_room = self.dice.chance(25) && self.make_room(ask, state, now);
                if !made_room {
                    self.remove_some(ask, state);
                    self.add(ask, next_tenure, now);
                }
            }
            Kind::Withdraw => self.remove_some(ask, state),
            Kind::OptOut => self.opt_out(ask, state, next_tenure, now),
            Kind::RotateKey => self.rotate(ask, state, now),
            Kind::Erase => ask.removed = state.map_or(vec![], |s| s.held.iter().map(|h| h.mapping.clone()).collect()),
            _ => {}
        }
        match ask.kind {
            Kind::Issue | Kind::Replace | Kind::Withdraw | Kind::OptOut | Kind::RotateKey | Kind::Erase => {
                self.sign_all(ask, state, now);
                if ask.signers.is_empty() {
                    let key = self.app();
                    let proof = Some(self.proof(key, ask.tenure, 0, now));
                    ask.signers.push(Signer { proof, ..Self::sign(key, Role::Recipient) });
                }
            }
            Kind::KeyCompromise => self.compromise(ask, state),
            Kind::NewHolderPending => {
                let key = self.app();
                let proof = Some(self.proof(key, ask.tenure + 1, 0, now));
                ask.signers.push(Signer { proof, ..Self::sign(key, Role::Recipient) });
            }
            Kind::Objection => self.object(ask, state, now),
            Kind::NewHolder => self.take_over(ask, state, now),
            Kind::Release => ask.signers.push(Self::sign(Who::Csip, Role::Csip)),
            Kind::MspDetach | Kind::DpUnserve => self.state(ask, state),
        }
    }

    /// One to three mappings, mostly of one key.
    fn add(&mut self, ask: &mut Ask, tenure: u32, now: Ms) {
        let mut key = self.app();
        for _ in 0..self.dice.weighted(&[(1, 6), (2, 3), (3, 1)]) {
            ask.added.push(self.mapping(key, tenure, 0, now));
            if self.dice.chance(20) {
                key = self.app();
            }
        }
    }

    /// A wish to clear away what has lapsed, if there is something.
    pub fn clearing(&mut self, state: &State, now: Ms) -> Option<Ask> {
        let mut ask = self.empty(Kind::Replace, Some(state), now);
        self.make_room(&mut ask, Some(state), now).then(|| {
            self.sign_all(&mut ask, Some(state), now);
            ask.sent.clone_from(&ask.added);
            ask
        })
    }

    /// Clears away what has lapsed, for as much as makes the record full.
    fn make_room(&mut self, ask: &mut Ask, state: Option<&State>, now: Ms) -> bool {
        let Some(state) = state else { return false };
        let lapsed: Vec<&Held> = state.held.iter().filter(|h| h.has_lapsed(now)).collect();
        let Some(old) = self.dice.pick(&lapsed).cloned() else { return false };
        let known: Vec<Who> = state.held.iter().map(|h| h.mapping.key).filter(|k| *k != old.mapping.key).collect();
        let hidden = old.mapping.hidden;
        let (visible, hid) = state.counts();
        let room =
            if hidden.is_some() { HIDDEN_MAX.saturating_sub(hid) } else { self.visible_max.saturating_sub(visible) };
        let key = self.dice.pick(&known).unwrap_or_else(|| self.app());
        for _ in 0..(room as u64 + self.dice.weighted(&[(1, 8), (0, 1), (2, 1)])).min(9) {
            let more = self.mapping(key, ask.tenure, 0, now);
            ask.added.push(Mapping { hidden, ..more });
        }
        ask.removed.push(old.mapping);
        !ask.added.is_empty()
    }

    fn remove_some(&mut self, ask: &mut Ask, state: Option<&State>) {
        let Some(state) = state else { return };
        let Some(first) = self.dice.pick(&state.held) else { return };
        for held in &state.held {
            let alike = held.mapping.key == first.mapping.key && self.dice.chance(40);
            if *held == first || alike || self.dice.chance(8) {
                ask.removed.push(held.mapping.clone());
            }
        }
    }

    fn opt_out(&mut self, ask: &mut Ask, state: Option<&State>, tenure: u32, now: Ms) {
        let keys: Vec<Who> = state.map_or(vec![], |s| s.held.iter().map(|h| h.mapping.key).collect());
        let key = self.dice.pick(&keys).unwrap_or(Who::App(0));
        let mapping = self.mapping(key, tenure, 0, now);
        ask.added.push(Mapping { msp: None, hidden: None, words: 0, ..mapping });
        // Findable to some: hidden mappings come with it; visible ones should not.
        for _ in 0..self.dice.weighted(&[(0, 6), (1, 3), (2, 1)]) {
            let other = self.mapping(key, tenure, 0, now);
            if other.hidden.is_some() || self.dice.chance(10) {
                ask.added.push(other);
            }
        }
        let all = self.dice.chance(30);
        let removed = state.into_iter().flat_map(|s| &s.held).filter(|h| all || h.mapping.key == key);
        ask.removed = removed.map(|h| h.mapping.clone()).collect();
    }

    fn rotate(&mut self, ask: &mut Ask, state: Option<&State>, now: Ms) {
        let Some(state) = state else { return };
        let Some(old) = self.dice.pick(&state.held).map(|h| h.mapping.key) else { return };
        let free: Vec<Who> =
            (0..APPS).map(Who::App).filter(|k| state.held.iter().all(|h| h.mapping.key != *k)).collect();
        let new = if self.dice.chance(85) { self.dice.pick(&free) } else { None };
        let new = new.unwrap_or_else(|| self.app());
        for held in state.held.iter().filter(|h| h.mapping.key == old) {
            ask.removed.push(held.mapping.clone());
            let fresh = self.mapping(new, ask.tenure, 0, now);
            let Mapping { msp, hidden, words, .. } = held.mapping;
            ask.added.push(Mapping { msp, hidden, words, ..fresh });
        }
    }

    fn compromise(&mut self, ask: &mut Ask, state: Option<&State>) {
        (ask.version, ask.previous) = (None, Previous::Zero);
        let mut keys: Vec<Who> = state.map_or(vec![], |s| s.held.iter().map(|h| h.mapping.key).collect());
        keys.extend(state.and_then(|s| s.claim.as_ref()).map(|c| c.key));
        let key = self.dice.pick(&keys).unwrap_or(Who::App(0));
        ask.signers.push(Self::sign(key, Role::Recipient));
    }

    fn object(&mut self, ask: &mut Ask, state: Option<&State>, now: Ms) {
        let claim = state.and_then(|s| s.claim.clone());
        let old = |h: &&Held| claim.as_ref().is_none_or(|c| h.since_version < c.version && h.mapping.key != c.key);
        let old: Vec<Who> = state.into_iter().flat_map(|s| &s.held).filter(old).map(|h| h.mapping.key).collect();
        let key = self.dice.pick(&old).unwrap_or(Who::App(0));
        let mut signer = Self::sign(key, Role::Recipient);
        if self.dice.chance(50) {
            signer.proof = Some(self.proof(key, ask.tenure, claim.as_ref().map_or(0, |c| c.time), now));
            let claimants = |h: &&Held| claim.as_ref().is_some_and(|c| h.mapping.key == c.key) && h.newcomer;
            let claimants = state.into_iter().flat_map(|s| &s.held).filter(claimants);
            let claimants: Vec<Mapping> = claimants.map(|h| h.mapping.clone()).collect();
            ask.removed = claimants.into_iter().filter(|_| self.dice.chance(70)).collect();
        }
        ask.signers.push(signer);
    }

    fn take_over(&mut self, ask: &mut Ask, state: Option<&State>, now: Ms) {
        let claim = state.and_then(|s| s.claim.clone());
        let (key, until) = claim.map_or((Who::App(0), 0), |c| (c.key, c.until));
        for _ in 0..self.dice.weighted(&[(1, 6), (2, 3)]) {
            ask.added.push(self.mapping(key, ask.tenure + 1, until.min(now), now));
        }
        ask.signers.push(Self::sign(key, Role::Recipient));
    }

    fn state(&mut self, ask: &mut Ask, state: Option<&State>) {
        let is_msp = ask.kind == Kind::MspDetach;
        let fits = |h: &&Held| match h.status {
            Status::Served => true,
            Status::Detached(_) => is_msp,
            Status::Unserved(_) => !is_msp,
        };
        let held: Vec<Held> = state.into_iter().flat_map(|s| &s.held).filter(fits).cloned().collect();
        let (who, role) = if is_msp { (Who::Msp(0), Role::Msp) } else { (Who::Dp, Role::Dp) };
        let Some(held) = self.dice.pick(&held) else {
            ask.signers.push(Self::sign(who, role));
            return;
        };
        let who = if is_msp { Who::Msp(held.mapping.msp.unwrap_or(0)) } else { who };
        if held.status == Status::Served {
            ask.reason = 1 + self.dice.below(3) as u8;
            ask.removed.push(held.mapping);
        } else {
            ask.added.push(held.mapping);
        }
        ask.signers.push(Self::sign(who, role));
    }

    /// The consents that are needed, and some that are not.
    fn consent(&mut self, ask: &mut Ask, now: Ms) {
        for (index, mapping) in (0u8..).zip(&ask.sent) {
            let Some(msp) = mapping.msp else { continue };
            if msp == PUBLISHES || self.dice.chance(50) {
                let (by, expiry) = (Who::Msp(msp), month_after(now));
                ask.consents.push(Consent { index, msp, by, under: true, expiry, forged: false });
            }
        }
    }

    /// Something goes wrong.
    fn spoil(&mut self, ask: &mut Ask, state: Option<&State>, now: Ms) {
        let directory = if self.directory { 4 } else { 0 };
        let mapping = if ask.added.is_empty() || is_statement(ask.kind) { 0 } else { 12 };
        let proof = if ask.signers.iter().any(|s| s.proof.is_some()) { 14 } else { 0 };
        match self.dice.weighted(&[(0, 4), (1, 9), (2, mapping), (3, 8), (4, proof), (5, directory)]) {
            0 => self.spoil_place(ask),
            1 => self.spoil_signers(ask, state, now),
            2 => self.spoil_mapping(ask, state, now),
            3 => self.spoil_lists(ask, state, now),
            4 => self.spoil_possession(ask, state, now),
            _ => self.spoil_directory(ask, now),
        }
    }

    fn spoil_place(&mut self, ask: &mut Ask) {
        match self.dice.below(8) {
            0 => ask.version = ask.version.map_or(Some(0), |v| Some(v + 1)),
            1 => ask.version = ask.version.map_or(Some(1), |v| Some(v.saturating_sub(1))),
            2 => ask.version = None,
            3 => ask.previous = Previous::Other,
            4 => ask.previous = Previous::Zero,
            5 => ask.tenure += 1,
            6 => ask.tenure = ask.tenure.saturating_sub(1),
            _ => ask.elsewhere = ask.version.is_some_and(|v| v > 0),
        }
    }

    fn spoil_signers(&mut self, ask: &mut Ask, state: Option<&State>, now: Ms) {
        let surplus = self.app();
        let Some(at) = (!ask.signers.is_empty()).then(|| self.dice.index(ask.signers.len())) else { return };
        match self.dice.below(9) {
            0 | 1 => drop(ask.signers.remove(at)),
            2 => ask.signers.push(Self::sign(surplus, Role::Recipient)),
            3 => {
                let after = state.map_or(0, |s| s.time);
                let proof = Some(self.proof(surplus, ask.tenure, after, now));
                ask.signers.push(Signer { proof, ..Self::sign(surplus, Role::Recipient) });
            }
            4 => ask.signers.push(ask.signers[at].clone()),
            5 => ask.signers[at].forged = true,
            6 => ask.signers[at].role = self.dice.pick(&[Role::Recipient, Role::Csip, Role::Msp, Role::Dp]).unwrap(),
            7 => {
                ask.signers[at].who =
                    self.dice.pick(&[surplus, Who::Nobody, Who::Csip, Who::Dp, Who::Msp(0), Who::Msp(1)]).unwrap();
            }
            _ => {
                let others = state.into_iter().flat_map(|s| &s.held).map(|h| h.mapping.key).collect::<Vec<_>>();
                ask.signers[at].who = self.dice.pick(&others).unwrap_or(surplus);
            }
        }
    }

    fn spoil_mapping(&mut self, ask: &mut Ask, state: Option<&State>, now: Ms) {
        let at = self.dice.index(ask.added.len());
        let other = self.app();
        let m = &mut ask.added[at];
        match self.dice.below(24) {
            0 => m.tenure += 1,
            1 => (m.tenure, m.proof.tenure) = (m.tenure + 1, m.proof.tenure + 1),
            2 => (m.tenure, m.proof.tenure) = (m.tenure.saturating_sub(1), m.proof.tenure.saturating_sub(1)),
            3 => m.proof.tenure += 1,
            4 => m.proof.key = other,
            5 => m.proof.control = false,
            6 => m.proof.expiry = now,
            7 => m.proof.expiry = now.saturating_sub(DAY),
            8 => m.proof.time = now + SKEW + 2 * SECOND,
            9 => m.proof.time = now + 20 * SECOND,
            10 => m.proof.forged = true,
            11 => m.forged = true,
            12 => m.until = now,
            13 if self.dice.chance(50) => m.until = (m.proof.time + LIFETIME) / DAY * DAY + DAY,
            13 => m.until -= 1,
            14 => m.from = m.until,
            15 => m.elsewhere = true,
            16 => m.proof.elsewhere = true,
            17 => (m.elsewhere, m.proof.elsewhere) = (true, true),
            18 => (m.msp, m.hidden, m.words) = (None, None, 0),
            19 => m.msp = Some(0),
            20 => (m.key, m.proof.key) = (other, other),
            21 => m.words += 1,
            22 => m.hidden = if m.hidden.is_some() { None } else { Some(0) },
            // Shown before the hold was over.
            _ => {
                let until = state.and_then(|s| s.claim.as_ref()).map_or(now, |c| c.until);
                m.proof.time = until.min(now).saturating_sub(1);
                m.until = m.until.min((m.proof.time + LIFETIME) / DAY * DAY);
            }
        }
        ask.sent.clone_from(&ask.added);
    }

    fn spoil_lists(&mut self, ask: &mut Ask, state: Option<&State>, now: Ms) {
        let standing: Vec<Mapping> = state.into_iter().flat_map(|s| &s.held).map(|h| h.mapping.clone()).collect();
        let tenure = state.map_or(0, State::next_tenure);
        let sent = ask.sent.clone();
        match self.dice.below(12) {
            0 => ask.added.extend(ask.added.last().cloned()),
            1 => ask.removed.extend(ask.removed.last().cloned()),
            2 => drop(ask.removed.pop()),
            3 | 4 => ask.removed.extend(self.dice.pick(&standing)),
            5 => {
                let key = self.app();
                ask.removed.push(self.mapping(key, ask.tenure, 0, now));
            }
            6 => ask.added.extend(self.dice.pick(&standing)),
            7 => ask.reason = if ask.reason == 0 { 1 } else { 0 },
            8 => ask.kind = self.dice.pick(&KINDS).unwrap(),
            9 => self.fill_up(ask, tenure, now),
            10 => ask.added.reverse(),
            _ => {
                match self.dice.below(3) {
                    0 => drop(ask.sent.pop()),
                    1 => ask.sent.reverse(),
                    _ => ask.sent.push(self.mapping(Who::App(0), tenure, 0, now)),
                }
                return;
            }
        }
        let is_as_before = ask.sent == sent && !is_statement(ask.kind);
        if is_as_before {
            ask.sent.clone_from(&ask.added);
        }
    }

    /// As many as there is room for, or one more.
    fn fill_up(&mut self, ask: &mut Ask, tenure: u32, now: Ms) {
        let Some(first) = ask.added.first().cloned() else { return };
        for _ in 0..3 + self.dice.below(6) {
            let more = self.mapping(first.key, tenure, 0, now);
            // One that hides all, so that there are sequences with a ninth hidden one.
            ask.added.push(Mapping { hidden: first.hidden, ..more });
        }
        ask.sent.clone_from(&ask.added);
        ask.consents.clear();
        self.consent(ask, now);
    }

    fn spoil_possession(&mut self, ask: &mut Ask, state: Option<&State>, now: Ms) {
        let other = self.app();
        let newest = state.into_iter().flat_map(|s| &s.held).map(|h| h.since).max();
        let claimed = state.and_then(|s| s.claim.as_ref()).map(|c| c.time);
        let Some(signer) = ask.signers.iter_mut().find(|s| s.proof.is_some()) else { return };
        let p = signer.proof.as_mut().unwrap();
        match self.dice.below(13) {
            0 | 1 => signer.proof = None,
            2 => p.time = newest.or(claimed).unwrap_or(now),
            3 => p.time = claimed.or(newest).unwrap_or(now),
            4 => p.time = newest.unwrap_or(now).saturating_sub(MINUTE),
            5 => p.expiry = now,
            6 => p.time = now + SKEW + 2 * SECOND,
            7 => p.tenure += 1,
            8 => p.tenure = p.tenure.saturating_sub(1),
            9 => p.key = other,
            10 => p.control = false,
            11 => p.elsewhere = true,
            _ => p.forged = true,
        }
    }

    fn spoil_directory(&mut self, ask: &mut Ask, now: Ms) {
        let by_stranger = self.dice.chance(50);
        let stranger = self.dice.pick(&[Prover::Elsewhere, Prover::Nobody]).unwrap();
        if is_statement(ask.kind) {
            let off = [now - STATEMENT_WINDOW - MINUTE, now + STATEMENT_WINDOW + MINUTE, now + SKEW + MINUTE];
            ask.time = self.dice.pick(&off).unwrap();
            return;
        }
        if let Some(p) = ask.signers.iter_mut().find_map(|s| s.proof.as_mut()).filter(|_| by_stranger) {
            p.by = stranger;
            return;
        }
        let what = self.dice.below(9);
        let at = self.dice.index(ask.added.len());
        if let Some(m) = ask.added.get_mut(at) {
            match what {
                0 => m.proof.by = stranger,
                1 => m.msp = Some(UNKNOWN_MSP),
                _ => {}
            }
            ask.sent.clone_from(&ask.added);
        }
        let at = self.dice.index(ask.consents.len());
        let Some(c) = ask.consents.get_mut(at) else { return };
        match what {
            3 => drop(ask.consents.remove(at)),
            4 => c.by = Who::Msp(1 - c.msp.min(1)),
            5 => c.under = false,
            6 => c.expiry = if self.dice.chance(50) { now } else { c.expiry + DAY },
            7 => c.forged = true,
            8 => match self.dice.below(3) {
                0 => c.index = 9,
                1 => c.msp = 1 - c.msp.min(1),
                _ => {
                    let again = c.clone();
                    ask.consents.push(again);
                }
            },
            _ => {}
        }
    }
}

/// Where a consent ends that is signed now.
fn month_after(now: Ms) -> Ms {
    Real::expiry_of(waymark_log::time::UnixMillis::new(now)).get()
}

/// The same event once more. What was the current commitment then is another one now.
fn again(mut ask: Ask, state: Option<&State>) -> Ask {
    let next = state.map_or(0, |s| s.version + 1);
    if ask.previous == Previous::Current && ask.version != Some(next) {
        ask.previous = Previous::Other;
    }
    ask
}
