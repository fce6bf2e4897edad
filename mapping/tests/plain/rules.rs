//! The model: small plain data, and one function for each kind of change.
//!
//! It knows nothing of encodings, signatures, digests or commitments: what was forged or left out says a flag. Where the text
//! names no order of checks, neither does the model: a refusal is the set of all reasons that apply.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use waymark_mapping::event::{AuthorityRole as Role, EventKind as Kind};

/// Milliseconds.
pub type Ms = u64;
pub const SECOND: Ms = 1000;
pub const MINUTE: Ms = 60 * SECOND;
pub const HOUR: Ms = 60 * MINUTE;
pub const DAY: Ms = 24 * HOUR;

/// "For 72 h after it was added."
pub const NEW: Ms = 72 * HOUR;
/// "NewHolderPending, 14 days."
pub const HOLD: Ms = 14 * DAY;
/// "72 h if the proof is stricter or the old mappings lapsed."
pub const SHORT_HOLD: Ms = 72 * HOUR;
/// "until + 14 days: void."
pub const TAKE_UP: Ms = 14 * DAY;
/// "Once more than 32 versions were made since its own": void.
pub const CLAIM_VERSIONS: u32 = 32;
/// "Ordinary changes make at most the 16 versions after it."
pub const CLAIM_CHANGES: u32 = 16;
/// "14 days or more after they lapsed."
pub const LAPSED_KEPT: Ms = 14 * DAY;
/// Hidden mappings of a record.
pub const HIDDEN_MAX: usize = 8;
/// "At most 180 days after the proof of possession."
pub const LIFETIME: Ms = 180 * DAY;
/// "Dated at most 30 s ahead."
pub const SKEW: Ms = 30 * SECOND;
/// How far the time in a provider's statement may be off: as with requests.
pub const STATEMENT_WINDOW: Ms = 5 * MINUTE;

/// Whose key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Who {
    /// An app of somebody; which person holds it, the DP does not know, and the rules do not ask.
    App(u8),
    Msp(u8),
    Csip,
    Dp,
    /// A key that nobody knows.
    Nobody,
}

/// Whose word a proof of possession is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Prover {
    /// The DP's.
    Dp,
    /// A prover's that the policy document may call stricter.
    Strict,
    /// A prover's that is in the log and not believed about this CSI.
    Elsewhere,
    /// Somebody's whom the log does not know.
    Nobody,
}

/// A proof of possession.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proof {
    /// Tells two proofs apart that say the same.
    pub serial: u32,
    pub key: Who,
    /// About another CSI.
    pub elsewhere: bool,
    pub tenure: u32,
    /// For control, and not to look only.
    pub control: bool,
    pub by: Prover,
    pub time: Ms,
    pub expiry: Ms,
    pub forged: bool,
}

/// A mapping.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Mapping {
    pub key: Who,
    /// Of another CSI.
    pub elsewhere: bool,
    pub tenure: u32,
    /// Where; nothing to opt out.
    pub msp: Option<u8>,
    /// The tag that must be presented, if it is a hidden one.
    pub hidden: Option<u8>,
    /// The account; 0 for none.
    pub words: u8,
    pub from: Ms,
    pub until: Ms,
    pub proof: Proof,
    pub forged: bool,
}

impl fmt::Debug for Proof {
    /// In one line: a failure shows many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { serial, key, tenure, by, time, expiry, .. } = self;
        write!(f, "proof {serial} of {key:?} tenure {tenure} by {by:?} at {time} to {expiry}")?;
        let odd = [(self.elsewhere, "elsewhere"), (!self.control, "view"), (self.forged, "forged")];
        odd.iter().filter(|(is, _)| *is).try_for_each(|(_, what)| write!(f, " {what}"))
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, tenure, msp, hidden, words, until, proof, .. } = self;
        write!(f, "[{key:?} tenure {tenure} at {msp:?} hidden {hidden:?} words {words} to {until}; {proof:?}")?;
        let odd = [(self.elsewhere, " elsewhere"), (self.forged, " forged"), (self.from >= self.until, " never")];
        odd.iter().filter(|(is, _)| *is).try_for_each(|(_, what)| f.write_str(what))?;
        f.write_str("]")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Served,
    Detached(u8),
    Unserved(u8),
}

/// A mapping that stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    pub mapping: Mapping,
    pub newcomer: bool,
    pub since: Ms,
    pub since_version: u32,
    pub status: Status,
    /// The version whose event made the status; 0 while it is served.
    pub stated_version: u32,
}

impl Held {
    pub fn has_lapsed(&self, now: Ms) -> bool {
        self.mapping.until <= now
    }

    /// "One that is not a newcomer came before every mapping that is new": it renews one that was there.
    pub fn came_before(&self, version: u32) -> bool {
        self.since_version < version || !self.newcomer
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    pub key: Who,
    pub version: u32,
    pub time: Ms,
    pub until: Ms,
    pub hold: Ms,
    /// Because of a stricter proof.
    pub on_stricter: bool,
    pub objected: bool,
}

impl Claim {
    /// In a record of this version, at this time.
    pub fn is_void(&self, version: u32, now: Ms) -> bool {
        version > self.version + CLAIM_VERSIONS || self.until + TAKE_UP <= now
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    First,
    NewHolder,
    Release,
    Vacancy,
}

/// How a tenure began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    pub version: u32,
    pub time: Ms,
    pub how: How,
    /// Whether it rests on a stricter prover's word.
    pub on_strict: bool,
}

/// A record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    pub version: u32,
    pub time: Ms,
    pub tenure: u32,
    pub start: Start,
    pub claim: Option<Claim>,
    pub erased: bool,
    /// Visible ones, then hidden ones.
    pub held: Vec<Held>,
    /// Which keys had a mapping, in each version of this tenure.
    pub there: BTreeMap<u32, BTreeSet<Who>>,
}

impl State {
    pub fn live_claim(&self, now: Ms) -> Option<&Claim> {
        self.claim.as_ref().filter(|c| !c.is_void(self.version, now))
    }

    /// "While a mapping is new": 72 hours, "and as long as its key claims the CSI".
    pub fn is_new(&self, held: &Held, now: Ms) -> bool {
        let claims = self.live_claim(now).is_some_and(|c| c.key == held.mapping.key);
        held.newcomer && (now < held.since + NEW || claims)
    }

    /// "Where nothing stands any more the next mapping begins another" tenure. A release has begun one that nobody is in yet.
    pub fn next_tenure(&self) -> u32 {
        let waits = self.start.how == How::Release && self.start.version == self.version;
        if self.held.is_empty() && !waits { self.tenure + 1 } else { self.tenure }
    }

    pub fn find(&self, mapping: &Mapping) -> Option<&Held> {
        self.held.iter().find(|h| h.mapping == *mapping)
    }

    /// Whether the holder of a key is shown the content of a mapping: of hidden ones of others only if the key was there when they were
    /// added, or no later than what it has.
    pub fn sees(&self, key: Who, held: &Held) -> bool {
        let mut own = self.held.iter().filter(|h| h.mapping.key == key);
        let was_there = self.there.get(&held.since_version).is_some_and(|keys| keys.contains(&key));
        let own_or_shown = held.mapping.hidden.is_none() || held.mapping.key == key;
        own_or_shown || was_there || own.any(|h| h.since_version <= held.since_version)
    }

    /// How many visible and hidden mappings stand.
    pub fn counts(&self) -> (usize, usize) {
        let hidden = self.held.iter().filter(|h| h.mapping.hidden.is_some()).count();
        (self.held.len() - hidden, hidden)
    }

    /// Whether a key has a mapping that is not new: it is shown all slots.
    pub fn is_established(&self, key: Who, now: Ms) -> bool {
        self.held.iter().any(|h| h.mapping.key == key && !self.is_new(h, now))
    }
}

/// A signature under an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signer {
    pub who: Who,
    pub role: Role,
    pub proof: Option<Proof>,
    pub forged: bool,
}

/// An MSP's consent that is sent along.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Consent {
    /// To which of the added mappings.
    pub index: u8,
    pub msp: u8,
    pub by: Who,
    /// Whether it is made for that mapping.
    pub under: bool,
    pub expiry: Ms,
    pub forged: bool,
}

/// The commitment that an event names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Previous {
    Current,
    Zero,
    Other,
}

/// What somebody asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    pub serial: u32,
    pub kind: Kind,
    pub elsewhere: bool,
    pub tenure: u32,
    /// The version it makes; nothing for "whichever comes next".
    pub version: Option<u32>,
    pub previous: Previous,
    pub added: Vec<Mapping>,
    pub removed: Vec<Mapping>,
    /// The mappings that come with the event, to be those in `added`.
    pub sent: Vec<Mapping>,
    pub reason: u8,
    pub time: Ms,
    pub signers: Vec<Signer>,
    pub consents: Vec<Consent>,
}

/// Why not. One for each stable code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Why {
    Stale,
    Invalid,
    Mapping,
    Signature,
    NotAllowed,
    NothingToClaim,
    Claimed,
    NoClaim,
    HoldNotOver,
    Objected,
    Full,
    MspUnknown,
    ProverUnknown,
    ProverScope,
    ConsentInvalid,
    ConsentRequired,
    AuthorityUnknown,
}

impl Why {
    pub const fn code(self) -> &'static str {
        match self {
            Self::Stale => "version-stale",
            Self::Invalid => "change-invalid",
            Self::Mapping => "mapping-invalid",
            Self::Signature => "signature-invalid",
            Self::NotAllowed => "not-allowed",
            Self::NothingToClaim => "nothing-to-claim",
            Self::Claimed => "claimed",
            Self::NoClaim => "no-claim",
            Self::HoldNotOver => "hold-not-over",
            Self::Objected => "objected",
            Self::Full => "record-full",
            Self::MspUnknown => "msp-unknown",
            Self::ProverUnknown => "prover-unknown",
            Self::ProverScope => "prover-scope",
            Self::ConsentInvalid => "consent-invalid",
            Self::ConsentRequired => "consent-required",
            Self::AuthorityUnknown => "authority-unknown",
        }
    }
}

/// What is judged beside the event.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    pub now: Ms,
    /// A register says that the number was given to somebody else.
    pub recycled: bool,
    /// The DP knows the CSIP to issue the CSI.
    pub issued: bool,
    /// Whether provers, MSPs and consents are looked at, as a DP does.
    pub directory: bool,
    /// Most visible mappings.
    pub visible_max: usize,
    /// Whether the policy document calls the strict prover stricter.
    pub stricter: bool,
}

/// MSP 1 publishes its consents, MSP 2 is not in the log.
pub const PUBLISHES: u8 = 1;
pub const UNKNOWN_MSP: u8 = 2;

/// The next state, or every reason against it.
pub fn judge(before: Option<&State>, ask: &Ask, bench: Bench) -> Result<State, BTreeSet<Why>> {
    let mut case = Case { before, ask, bench, why: BTreeSet::new() };
    case.check_place();
    case.check_lists();
    case.check_signatures();
    let next = case.next();
    if bench.directory {
        case.check_directory();
    }
    if case.why.is_empty() { Ok(next.expect("no reason against it")) } else { Err(case.why) }
}

struct Case<'a> {
    before: Option<&'a State>,
    ask: &'a Ask,
    bench: Bench,
    why: BTreeSet<Why>,
}

impl<'a> Case<'a> {
    fn refuse_if(&mut self, is_so: bool, why: Why) {
        if is_so {
            self.why.insert(why);
        }
    }

    fn version(&self) -> u32 {
        self.before.map_or(0, |s| s.version + 1)
    }

    fn tenure(&self) -> u32 {
        self.before.map_or(0, |s| s.tenure)
    }

    fn held(&self) -> &'a [Held] {
        self.before.map_or(&[], |s| &s.held)
    }

    /// "`version` is the version that the event makes, `previous` the commitment of the version before (zero at version 0)." "Only
    /// KeyCompromise, prepared in advance, may name no version."
    fn check_place(&mut self) {
        let right = if self.before.is_some() { Previous::Current } else { Previous::Zero };
        let named = match self.ask.kind {
            Kind::KeyCompromise => self.ask.version.is_none() && self.ask.previous == Previous::Zero,
            _ => self.ask.version == Some(self.version()) && self.ask.previous == right,
        };
        self.refuse_if(!named, Why::Stale);
        self.refuse_if(self.ask.tenure != self.tenure(), Why::Invalid);
        // Of another CSI, it is also for another version than that one's.
        if self.ask.elsewhere {
            self.why.extend([Why::Stale, Why::Invalid]);
        }
    }

    /// The table's "adds" and "removes".
    fn check_lists(&mut self) {
        let ask = self.ask;
        let (adds, removes) = (ask.added.len(), ask.removed.len());
        let fits = match ask.kind {
            Kind::Issue => adds >= 1 && removes == 0,
            Kind::Replace => adds >= 1 && removes >= 1,
            Kind::Withdraw => adds == 0 && removes >= 1,
            Kind::OptOut => {
                let goes = |m: &Mapping| m.msp.is_none() || m.hidden.is_some();
                ask.added.iter().any(|m| m.msp.is_none()) && ask.added.iter().all(goes)
            }
            Kind::RotateKey => adds >= 1 && adds == removes,
            Kind::KeyCompromise | Kind::NewHolderPending | Kind::Release => adds == 0 && removes == 0,
            Kind::Erase | Kind::Objection => adds == 0,
            Kind::NewHolder => adds >= 1 && removes == 0,
            Kind::MspDetach | Kind::DpUnserve => adds + removes == 1,
        };
        self.refuse_if(!fits, Why::Invalid);
        // "No digest occurs twice in a list."
        let twice = |list: &[Mapping]| (1..list.len()).any(|i| list[..i].contains(&list[i]));
        self.refuse_if(twice(&ask.added) || twice(&ask.removed), Why::Invalid);
        // "Only an opt-out adds an opt-out"; a rotated key says what the old one said, and a new holder begins as it likes.
        let free = matches!(ask.kind, Kind::OptOut | Kind::RotateKey | Kind::NewHolder);
        let plain = !free && !is_statement(ask.kind);
        self.refuse_if(plain && ask.added.iter().any(|m| m.msp.is_none()), Why::Invalid);
        // A statement says why something is not served; nothing else has a reason.
        let has_reason = is_statement(ask.kind) && removes == 1;
        self.refuse_if((ask.reason != 0) != has_reason, Why::Invalid);
        let sent = if is_statement(ask.kind) { &[][..] } else { &ask.added };
        self.refuse_if(ask.sent != sent, Why::Invalid);
        let stands = |m: &Mapping| self.held().iter().any(|h| h.mapping == *m);
        let missing = !ask.removed.iter().all(stands);
        let there = !is_statement(ask.kind) && ask.added.iter().any(stands);
        self.refuse_if(missing || there, Why::Invalid);
    }

    /// "Every signature verifies, no key signs twice", and the table's role.
    fn check_signatures(&mut self) {
        let signers = &self.ask.signers;
        let role = match self.ask.kind {
            Kind::Release => Role::Csip,
            Kind::MspDetach => Role::Msp,
            Kind::DpUnserve => Role::Dp,
            _ => Role::Recipient,
        };
        let bad = |s: &Signer| s.forged || s.role != role;
        let twice = (1..signers.len()).any(|i| signers[..i].iter().any(|s| s.who == signers[i].who));
        self.refuse_if(signers.iter().any(bad) || twice, Why::Signature);
        self.refuse_if(signers.is_empty(), Why::NotAllowed);
    }

    /// "Kinds 1 to 5, 11 and 13."
    fn check_settled(&mut self) {
        let claim = self.before.and_then(|b| b.live_claim(self.bench.now)).map(|c| c.version);
        let late = claim.is_some_and(|version| self.version() > version + CLAIM_CHANGES);
        let ordinary = matches!(
            self.ask.kind,
            Kind::Issue
                | Kind::Replace
                | Kind::Withdraw
                | Kind::OptOut
                | Kind::RotateKey
                | Kind::MspDetach
                | Kind::Erase
        );
        self.refuse_if(late && ordinary, Why::Claimed);
    }

    fn next(&mut self) -> Option<State> {
        self.check_settled();
        match self.ask.kind {
            Kind::Issue | Kind::Replace | Kind::Withdraw | Kind::OptOut => self.change(),
            Kind::RotateKey => self.rotate(),
            kind => {
                // Of a CSI without a version nobody can say more.
                let Some(before) = self.before else {
                    self.why.insert(Why::Invalid);
                    return None;
                };
                match kind {
                    Kind::KeyCompromise => self.compromise(before),
                    Kind::Erase => self.erase(before),
                    Kind::NewHolderPending => self.pending(before),
                    Kind::Objection => self.objection(before),
                    Kind::NewHolder => self.new_holder(before),
                    Kind::Release => self.release(before),
                    _ => self.statement(before),
                }
            }
        }
    }

    /// Issue, Replace, Withdraw, OptOut: previous - removed + added.
    fn change(&mut self) -> Option<State> {
        let tenure = self.before.map_or(0, State::next_tenure);
        self.check_added(tenure);
        self.check_authority();
        let newcomers: Vec<bool> = self.ask.added.iter().map(|m| self.is_newcomer(m)).collect();
        let standing: Vec<Held> =
            self.ask.added.iter().zip(newcomers).map(|(m, newcomer)| self.fresh(m, newcomer)).collect();
        self.go_on(tenure, standing)
    }

    /// "Both keys; the new mappings say what the old ones said"; "all of one key's".
    fn rotate(&mut self) -> Option<State> {
        self.check_added(self.tenure());
        self.check_authority();
        let (added, removed) = (&self.ask.added, &self.ask.removed);
        let (old, new) = removed.first().zip(added.first()).map(|(old, new)| (old.key, new.key))?;
        let all = self.held().iter().filter(|h| h.mapping.key == old).count();
        let of_one = |list: &[Mapping], key| list.iter().all(|m| m.key == key);
        // The new key comes without a past.
        let unheard = self.held().iter().all(|h| h.mapping.key != new);
        let whole = of_one(removed, old) && of_one(added, new) && removed.len() == all && old != new && unheard;
        let alike =
            |(old, new): (&Mapping, &Mapping)| (old.msp, old.hidden, old.words) == (new.msp, new.hidden, new.words);
        let same = removed.iter().zip(added).all(alike);
        self.refuse_if(!whole || !same, Why::Invalid);
        let signs = |key| self.ask.signers.iter().any(|s| s.who == key);
        self.refuse_if(!signs(old) || !signs(new), Why::NotAllowed);
        let before = self.before?;
        let all_served = removed.iter().filter_map(|m| before.find(m)).all(|h| h.status == Status::Served);
        self.refuse_if(!all_served, Why::Invalid);
        // How the old mappings stood is how the new ones stand.
        let standing = removed
            .iter()
            .zip(added)
            .filter_map(|(old, new)| before.find(old).map(|held| Held { mapping: new.clone(), ..held.clone() }));
        self.go_on(self.tenure(), standing.collect())
    }

    /// "Each added one is good (section 13), its attestation is dated at most 30 s ahead and not expired, its not_after lies ahead."
    fn check_added(&mut self, tenure: u32) {
        let now = self.bench.now;
        for m in &self.ask.added {
            let p = &m.proof;
            self.refuse_if(m.elsewhere || m.tenure != tenure, Why::Invalid);
            let fits = p.key == m.key && p.tenure == m.tenure && p.elsewhere == m.elsewhere && p.control;
            let valid = m.from < m.until && m.until <= p.time + LIFETIME && m.until % DAY == 0;
            let bare = m.msp.is_some() || (m.words == 0 && m.hidden.is_none());
            let timely = p.time <= now + SKEW && now < p.expiry && now < m.until;
            let good = fits && valid && bare && timely && !m.forged && !p.forged;
            self.refuse_if(!good, Why::Mapping);
        }
    }

    /// "The key of each mapping added or removed, or the rule for new mappings." A mapping past its not-after makes way without its key
    /// where room is needed, and makes nobody a part of the change.
    fn check_authority(&mut self) {
        let signers = &self.ask.signers;
        let place = |key| signers.iter().position(|s| s.who == key);
        let mut has_part = vec![false; signers.len()];
        let mut unauthorised = false;
        let mut cleared: Vec<&Held> = vec![];
        for m in &self.ask.added {
            match place(m.key) {
                Some(at) => has_part[at] = true,
                None => unauthorised = true,
            }
        }
        for held in self.ask.removed.iter().filter_map(|m| self.before.and_then(|s| s.find(m))) {
            let by_rule = || signers.iter().position(|s| self.may_remove_new(s, held));
            match place(held.mapping.key).or_else(by_rule) {
                Some(at) => has_part[at] = true,
                None if held.has_lapsed(self.bench.now) => cleared.push(held),
                None => unauthorised = true,
            }
        }
        unauthorised |= !self.may_clear(&cleared);
        self.refuse_if(unauthorised || has_part.contains(&false), Why::NotAllowed);
    }

    /// "For one reason: a change adds mappings, the record is full, and there is no other room. Then as many go as must, 14 days or more
    /// after they lapsed, with the signature of a key that is not new here."
    fn may_clear(&self, cleared: &[&Held]) -> bool {
        let (Some(before), false) = (self.before, cleared.is_empty()) else { return true };
        let (ask, now) = (self.ask, self.bench.now);
        let known_here = ask.signers.iter().any(|s| before.is_established(s.who, now));
        let long_ago = cleared.iter().all(|h| h.mapping.until + LAPSED_KEPT <= now);
        // With one of them left there would be no room for all that is added.
        let needed = |hidden: bool| {
            let sort = |m: &&Mapping| m.hidden.is_some() == hidden;
            let stay = before.held.iter().map(|h| &h.mapping).filter(|m| !ask.removed.contains(m)).filter(sort).count();
            let come = ask.added.iter().filter(sort).count();
            let goes = cleared.iter().any(|h| h.mapping.hidden.is_some() == hidden);
            let most = if hidden { HIDDEN_MAX } else { self.bench.visible_max };
            !goes || stay + come + 1 > most
        };
        !ask.added.is_empty() && known_here && long_ago && needed(false) && needed(true)
    }

    /// "While it is new, a key with an older mapping of this tenure, with possession proved after the change, removes it at once."
    fn may_remove_new(&self, signer: &Signer, target: &Held) -> bool {
        let Some(before) = self.before else { return false };
        let older = before.held.iter().any(|h| h.mapping.key == signer.who && h.came_before(target.since_version));
        let shown = signer
            .proof
            .as_ref()
            .is_some_and(|p| self.shows_possession(p, signer.who, before.tenure) && p.time > target.since);
        before.is_new(target, self.bench.now) && older && shown
    }

    fn shows_possession(&self, p: &Proof, key: Who, tenure: u32) -> bool {
        let now = self.bench.now;
        let fits = p.key == key && p.tenure == tenure && p.control && !p.elsewhere;
        fits && p.time <= now + SKEW && now < p.expiry && !p.forged
    }

    /// "Another key's mapping stood when it was added and its own key had none there that was not new"; for a visible one, of its
    /// own key's mappings only visible ones count; "if there are any, and all new, it is a newcomer in any case". While the CSI is
    /// claimed, what came after the claim makes nobody known here.
    fn is_newcomer(&self, added: &Mapping) -> bool {
        let Some(before) = self.before else { return false };
        let now = self.bench.now;
        let others = before.held.iter().any(|h| h.mapping.key != added.key);
        let counted = |h: &&Held| added.hidden.is_some() || h.mapping.hidden.is_none();
        let own: Vec<&Held> = before.held.iter().filter(|h| h.mapping.key == added.key).filter(counted).collect();
        let claim = before.live_claim(now);
        let known = |h: &&Held| !before.is_new(h, now) && claim.is_none_or(|c| h.came_before(c.version));
        match own.iter().any(known) {
            true => false,
            false => others || !own.is_empty(),
        }
    }

    fn fresh(&self, mapping: &Mapping, newcomer: bool) -> Held {
        Held {
            mapping: mapping.clone(),
            newcomer,
            since: self.bench.now,
            since_version: self.version(),
            status: Status::Served,
            stated_version: 0,
        }
    }

    /// "The first added mapping, of visible ones if there are any."
    fn first_shown(&self) -> Option<&Mapping> {
        self.ask.added.iter().find(|m| m.hidden.is_none()).or(self.ask.added.first())
    }

    /// What stays, then what is added; visible before hidden.
    fn go_on(&mut self, tenure: u32, standing: Vec<Held>) -> Option<State> {
        let stays = self.held().iter().filter(|h| !self.ask.removed.contains(&h.mapping)).cloned();
        let held: Vec<Held> = stays.chain(standing).collect();
        let claim = self.before.and_then(|s| s.claim.clone());
        self.state(tenure, claim, held)
    }

    fn state(&mut self, tenure: u32, claim: Option<Claim>, held: Vec<Held>) -> Option<State> {
        let (visible, hidden): (Vec<Held>, Vec<Held>) = held.into_iter().partition(|h| h.mapping.hidden.is_none());
        // "A document that allows less than stands takes nothing away, but no more may come."
        let stood = self.before.filter(|b| b.tenure == tenure).map_or(0, |b| b.counts().0);
        let most = self.bench.visible_max.max(stood);
        self.refuse_if(visible.len() > most || hidden.len() > HIDDEN_MAX, Why::Full);
        let held: Vec<Held> = visible.into_iter().chain(hidden).collect();
        let (version, time) = (self.version(), self.bench.now);
        let start = match self.before {
            Some(before) if before.tenure == tenure => before.start.clone(),
            _ => Start {
                version,
                time,
                how: if self.before.is_none() { How::First } else { How::Vacancy },
                on_strict: self.first_shown().is_some_and(|m| m.proof.by == Prover::Strict),
            },
        };
        let mut there = self.before.filter(|b| b.tenure == tenure).map_or(BTreeMap::new(), |b| b.there.clone());
        there.insert(version, held.iter().map(|h| h.mapping.key).collect());
        let claim = claim.filter(|c| !held.is_empty() && !c.is_void(version, time));
        Some(State { version, time, tenure, start, claim, erased: false, held, there })
    }

    /// The one signer of a kind that has one.
    fn sole(&mut self) -> Option<&'a Signer> {
        self.refuse_if(self.ask.signers.len() != 1, Why::NotAllowed);
        self.ask.signers.first()
    }

    /// "None listed: all of the key's", and its claim.
    fn compromise(&mut self, before: &State) -> Option<State> {
        let key = self.sole()?.who;
        let held: Vec<Held> = before.held.iter().filter(|h| h.mapping.key != key).cloned().collect();
        let claims = before.live_claim(self.bench.now).is_some_and(|c| c.key == key);
        self.refuse_if(held.len() == before.held.len() && !claims, Why::Invalid);
        let claim = before.claim.clone().filter(|c| c.key != key);
        self.state(before.tenure, claim, held)
    }

    /// "All that stand, as Withdraw; where nothing stands, fresh possession."
    fn erase(&mut self, before: &State) -> Option<State> {
        let lists_all = before.held.iter().all(|h| self.ask.removed.contains(&h.mapping));
        self.refuse_if(!lists_all || before.erased, Why::Invalid);
        if before.held.is_empty() {
            let signer = self.sole()?;
            let shown = signer.proof.as_ref().is_some_and(|p| self.shows_possession(p, signer.who, before.tenure));
            self.refuse_if(!shown, Why::NotAllowed);
        } else {
            self.check_authority();
        }
        let next = self.state(before.tenure, None, vec![])?;
        Some(State { erased: true, ..next })
    }

    /// "Fresh possession for the next tenure."
    fn pending(&mut self, before: &State) -> Option<State> {
        let now = self.bench.now;
        self.refuse_if(before.held.is_empty(), Why::NothingToClaim);
        self.refuse_if(before.live_claim(now).is_some(), Why::Claimed);
        let signer = self.sole()?;
        let proof = signer.proof.as_ref().filter(|p| self.shows_possession(p, signer.who, before.tenure + 1));
        self.refuse_if(proof.is_none(), Why::NotAllowed);
        let shown: Vec<&Held> = before.held.iter().filter(|h| h.mapping.hidden.is_none()).collect();
        let others: Vec<&&Held> = shown.iter().filter(|h| h.mapping.key != signer.who).collect();
        let others_lapsed = !others.is_empty() && others.iter().all(|h| h.has_lapsed(now));
        // "Where nothing recorded rests on such a one": neither what is shown nor the tenure.
        let recorded = before.start.on_strict || shown.iter().any(|h| h.mapping.proof.by == Prover::Strict);
        let stricter = self.bench.stricter && proof?.by == Prover::Strict && !recorded;
        let hold = if stricter || others_lapsed || self.bench.recycled { SHORT_HOLD } else { HOLD };
        let on_stricter = stricter && !self.bench.recycled;
        let (key, version, until) = (signer.who, self.version(), now + hold);
        let claim = Claim { key, version, time: now, until, hold, on_stricter, objected: false };
        self.state(before.tenure, Some(claim), before.held.clone())
    }

    /// "A key from before the claim", that is not new itself; "fresh possession stops it", else it extends once by as much again.
    fn objection(&mut self, before: &State) -> Option<State> {
        let now = self.bench.now;
        let signer = self.sole()?;
        let Some(claim) = before.live_claim(now).cloned() else {
            self.why.insert(Why::NoClaim);
            return None;
        };
        let was_there =
            |h: &Held| h.mapping.key == signer.who && h.came_before(claim.version) && !before.is_new(h, now);
        let may = signer.who != claim.key && before.held.iter().any(was_there);
        self.refuse_if(!may, Why::NotAllowed);
        // Possession that is shown must count.
        let fresh = signer
            .proof
            .as_ref()
            .is_some_and(|p| self.shows_possession(p, signer.who, before.tenure) && p.time > claim.time);
        // "Removes none, or the claimant's new ones."
        let others = self.ask.removed.iter().filter_map(|m| before.find(m));
        let others = others.filter(|h| h.mapping.key != claim.key || !before.is_new(h, now)).count();
        let bare = signer.proof.is_none() && self.ask.removed.is_empty();
        self.refuse_if(others > 0 || !(fresh || bare), Why::NotAllowed);
        self.refuse_if(!fresh && claim.objected, Why::Objected);
        let held = before.held.iter().filter(|h| !self.ask.removed.contains(&h.mapping)).cloned().collect();
        let extended = Claim { until: claim.until + claim.hold, objected: true, ..claim };
        self.state(before.tenure, (!fresh).then_some(extended), held)
    }

    /// "The claimant, fresh possession after the hold", with mappings "of the next tenure".
    fn new_holder(&mut self, before: &State) -> Option<State> {
        let now = self.bench.now;
        self.check_added(before.tenure + 1);
        let signer = self.sole()?;
        let Some(claim) = before.live_claim(now).filter(|c| c.key == signer.who) else {
            self.why.insert(Why::NoClaim);
            return None;
        };
        self.refuse_if(now < claim.until, Why::HoldNotOver);
        // Whose word the short hold rests on stands in the record.
        let weaker = |m: &Mapping| !self.bench.stricter || m.proof.by != Prover::Strict;
        self.refuse_if(claim.on_stricter && self.ask.added.iter().any(weaker), Why::NotAllowed);
        // Clocks differ.
        self.refuse_if(self.ask.added.iter().any(|m| m.proof.time + SKEW < claim.until), Why::Mapping);
        self.refuse_if(self.ask.added.iter().any(|m| m.key != claim.key), Why::NotAllowed);
        let held = self.ask.added.iter().map(|m| self.fresh(m, false)).collect();
        let next = self.state(before.tenure + 1, None, held)?;
        Some(State { start: Start { how: How::NewHolder, ..next.start.clone() }, ..next })
    }

    /// "A CSIP that the DP knows to issue the CSI": nothing stands, and the next tenure has begun.
    fn release(&mut self, before: &State) -> Option<State> {
        let signer = self.sole()?;
        self.refuse_if(signer.who != Who::Csip || !self.bench.issued, Why::NotAllowed);
        let next = self.state(before.tenure + 1, None, vec![])?;
        Some(State { start: Start { how: How::Release, on_strict: false, ..next.start.clone() }, ..next })
    }

    /// "0 or 1: served again; 0 or 1: no longer served. Removes nothing."
    fn statement(&mut self, before: &State) -> Option<State> {
        self.sole()?;
        let ask = self.ask;
        let is_msp = ask.kind == Kind::MspDetach;
        let named = ask.removed.first().or(ask.added.first())?;
        let Some(target) = before.find(named) else {
            self.why.insert(Why::Invalid);
            return None;
        };
        let again = ask.removed.is_empty();
        let own = match target.status {
            Status::Served => !again,
            Status::Detached(_) => again && is_msp,
            Status::Unserved(_) => again && !is_msp,
        };
        self.refuse_if(!own, Why::Invalid);
        // An opt-out has no MSP that could say anything.
        self.refuse_if(is_msp && named.msp.is_none(), Why::NotAllowed);
        let status = match (again, is_msp) {
            (true, _) => Status::Served,
            (false, true) => Status::Detached(ask.reason),
            (false, false) => Status::Unserved(ask.reason),
        };
        // "Bound to the standing that it made": what was taken back is of another version.
        let stated_version = if again { 0 } else { self.version() };
        // "Dated at most 30 s ahead."
        self.refuse_if(self.bench.now + SKEW < ask.time, Why::Invalid);
        let told = |h: &Held| Held { status, stated_version, ..h.clone() };
        let tell = |h: &Held| if h.mapping == *named { told(h) } else { h.clone() };
        let held = before.held.iter().map(tell).collect();
        self.state(before.tenure, before.claim.clone(), held)
    }

    /// What a DP looks at beyond the rules: provers, MSPs and their consents, and who says that something is not served.
    fn check_directory(&mut self) {
        let ask = self.ask;
        let possessions = ask.signers.iter().filter_map(|s| s.proof.as_ref());
        let provers: Vec<Prover> = ask.sent.iter().map(|m| &m.proof).chain(possessions).map(|p| p.by).collect();
        self.refuse_if(provers.contains(&Prover::Nobody), Why::ProverUnknown);
        self.refuse_if(provers.contains(&Prover::Elsewhere), Why::ProverScope);
        self.check_consents();
        if !is_statement(ask.kind) {
            return;
        }
        let named = ask.removed.first().or(ask.added.first());
        let of = named.filter(|m| self.held().iter().any(|h| h.mapping == **m)).and_then(|m| m.msp);
        let who = if ask.kind == Kind::DpUnserve { Some(Who::Dp) } else { of.map(Who::Msp) };
        let right = who.is_some_and(|who| ask.signers.iter().all(|s| s.who == who));
        let timely = ask.time.abs_diff(self.bench.now) <= STATEMENT_WINDOW;
        self.refuse_if(!right || !timely, Why::AuthorityUnknown);
    }

    /// "A mapping that names an MSP that publishes needs a consent unless it is hidden", "an opt-out has none".
    fn check_consents(&mut self) {
        let ask = self.ask;
        let now = self.bench.now;
        self.refuse_if(ask.consents.iter().any(|c| usize::from(c.index) >= ask.sent.len()), Why::ConsentInvalid);
        for (index, m) in ask.sent.iter().enumerate() {
            let of = |c: &&Consent| usize::from(c.index) == index;
            let good = |c: &Consent| {
                Some(c.msp) == m.msp
                    && c.by == Who::Msp(c.msp)
                    && c.under
                    && !c.forged
                    && now < c.expiry
                    && begins_month(c.expiry)
            };
            let mut offered = ask.consents.iter().filter(of);
            let consent = offered.next();
            self.refuse_if(offered.next().is_some() || consent.is_some_and(|c| !good(c)), Why::ConsentInvalid);
            self.refuse_if(m.msp == Some(UNKNOWN_MSP), Why::MspUnknown);
            let needed = m.msp == Some(PUBLISHES) && m.hidden.is_none();
            self.refuse_if(needed && consent.is_none(), Why::ConsentRequired);
        }
    }
}

/// "A consent ends with a UTC month."
fn begins_month(time: Ms) -> bool {
    waymark_log::time::UnixMillis::new(time).begins_month()
}

pub const fn is_statement(kind: Kind) -> bool {
    matches!(kind, Kind::MspDetach | Kind::DpUnserve)
}
