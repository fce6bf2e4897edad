//! Who may change what: one function, used by the DP before it accepts a change and by the recipient's app on the receipt.
//!
//! | kind | adds | removes | in role | needs |
//! |---|---|---|---|---|
//! | Issue | 1 or more | none | recipient | the key of each added mapping |
//! | Replace | 1 or more | 1 or more | recipient | the key of each mapping added or removed |
//! | Withdraw | none | 1 or more | recipient | the key of each removed mapping, or the rule for new mappings |
//! | OptOut | 1 or more: with no MSP, and hidden ones | any | recipient | as Replace |
//! | RotateKey | as many as it removes | all of one key's | recipient | both keys; the new mappings say what the old ones said |
//! | KeyCompromise | none | none listed: all of the key's | recipient | the key, in advance; names no version |
//! | Erase | none | all that stand | recipient | as Withdraw; where nothing stands, fresh possession |
//! | NewHolderPending | none | none | recipient | fresh possession for the next tenure |
//! | Objection | none | none, or the claimant's new ones | recipient | a key from before the claim, not new; possession shown after it stops it |
//! | NewHolder | 1 or more, of the next tenure | none listed: all | recipient | the claimant, fresh possession after the hold |
//! | Release | none | none listed: all | CSIP | a CSIP that the DP knows to issue the CSI |
//! | MspDetach | 0 or 1: served again | 0 or 1: no longer served | MSP | the MSP of the mapping. Removes nothing |
//! | DpUnserve | 0 or 1: served again | 0 or 1: withheld | DP | the DP. Removes nothing |
//!
//! **The rule for new mappings.** While a mapping is new (72 hours, and only if another key's mapping stood when a key that
//! had none added it; and as long as its key claims the CSI), a key with an older mapping of this tenure, with possession
//! proved after the change, removes it at once. So somebody with an intercepted code can add, visibly, but can neither evict
//! nor stay. For a visible mapping, its key "had" only what is visible: everybody sees whether it is new, and is not to learn
//! from that what is hidden. As long as all that is visible of a key is new, so is what it adds.
//!
//! Its key keeps this right when it renews its mapping: one that is not a newcomer came before every mapping that is new.
//!
//! "SHOULD only be removed by the recipient or the CSIP" (R9, R10): what an MSP or DP does has another name and removes nothing.
//!
//! **A mapping past its not-after stays its key's**: that key can object, remove what is new, and renew. Without it, it makes way for one
//! reason: a change adds mappings, the record is full, and there is no other room. Then as many go as must, 14 days or more after
//! they lapsed, with the signature of a key that is not new here. So a record is never emptied by lapse, and somebody who intercepts a
//! code begins no tenure but by a claim.
//!
//! A tenure is one person's time of holding the CSI. It ends with NewHolder and Release, and where its holder has removed all that stood
//! the next mapping begins another: nobody is shown the history of somebody else.

mod claim;
mod recipient;
mod statement;

pub(crate) use self::recipient::standing_of_added;

use waymark_log::{checkpoint::Origin, hash::Hash, key::Key, time::UnixMillis};

use crate::{
    event::{AuthorityRole, Event, EventKind},
    identifier::Csi,
    mapping::{Attestation, Mapping, MappingRefused, Purpose},
    names::Domain,
    record::{
        Beginning, CLAIM_CHANGES_MAX, Claim, Ground, HIDDEN_SLOTS, RecordState, Slot, Standing, TenureStart,
        VISIBLE_MAPPINGS_DEFAULT, VISIBLE_SLOTS_MAX,
    },
};

/// One mapping of a record, opened, and how it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// How it stands.
    pub standing: Standing,
    /// The mapping.
    pub mapping: Mapping,
}

impl Held {
    /// Whether a tag must be presented to find it.
    pub fn is_hidden(&self) -> bool {
        self.mapping.tags.as_exact().is_some()
    }

    /// Whether its time is over.
    pub fn has_lapsed_at(&self, now: UnixMillis) -> bool {
        self.mapping.not_after <= now
    }

    /// Whether its key was here before a version that added something new or put a claim down. A mapping that is not a newcomer and
    /// came later renews one that was.
    fn came_before(&self, version: u32) -> bool {
        self.standing.since_version < version || !self.standing.newcomer.0
    }
}

/// What a record says, opened: everything but digests and salts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// Whose.
    pub csi: Csi,
    /// At which version.
    pub version: u32,
    /// When it was made, by the DP's word.
    pub time: UnixMillis,
    /// In which tenure.
    pub tenure: u32,
    /// How that began.
    pub start: TenureStart,
    /// The state of the whole.
    pub state: RecordState,
    /// The mappings: visible ones in the order of their slots, then hidden ones.
    pub held: Vec<Held>,
    /// Hidden mappings of other keys of which the reader is shown no more than this. A DP knows all: there it is empty.
    pub closed: Vec<Slot>,
}

impl State {
    /// Whether the next mapping begins another tenure: nothing stands, and this tenure has had its mappings.
    pub fn has_ended(&self) -> bool {
        let waits = self.start.how == Beginning::Release && self.start.version == self.version;
        self.state.is_empty() && !waits
    }

    /// The tenure of the next mapping.
    pub fn tenure_of_next_mapping(&self) -> u32 {
        if self.has_ended() { self.tenure.saturating_add(1) } else { self.tenure }
    }

    /// Digests of all mappings that stand: what an Erase must list.
    pub fn digests(&self) -> Vec<Hash> {
        self.held.iter().map(|h| h.mapping.digest()).chain(self.closed.iter().map(|slot| slot.mapping)).collect()
    }

    /// The first version that a key may see, once it is no longer new: the one that first had a mapping of its own that stands, in this
    /// tenure. `None` if it has none. DP and reader must agree on it, so both ask here.
    pub fn first_seen_by(&self, key: &Key) -> Option<u32> {
        let own = self.held.iter().filter(|h| h.mapping.recipient == *key);
        own.map(|h| h.standing.since_version).min().map(|first| first.max(self.start.version))
    }

    /// How many visible and how many hidden mappings stand.
    pub fn counts(&self) -> (usize, usize) {
        let visible = self.held.iter().filter(|h| !h.is_hidden()).count();
        (visible, self.held.len() - visible + self.closed.len())
    }

    /// The claim that is open at a time: one that was not taken up in time is void, though it is written down until the next change.
    /// So is one after which too many versions were made.
    pub fn claim_at(&self, now: UnixMillis) -> Option<&Claim> {
        self.state.claim().filter(|c| !c.is_void_at(self.version, now))
    }

    /// Whether a mapping may be removed by those who were there before it.
    pub fn is_new_at(&self, held: &Held, now: UnixMillis) -> bool {
        let claims = self.claim_at(now).is_some_and(|c| c.key == held.mapping.recipient);
        held.standing.is_new_at(now) || (held.standing.newcomer.0 && claims)
    }
}

/// Why a change may not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// Made for another version or over another commitment than the current.
    #[error("the change was made for another version than the current one")]
    Stale,
    /// About another CSI or tenure.
    #[error("the change is about another identifier or tenure")]
    Elsewhere,
    /// Its kind does not add and remove what it adds and removes.
    #[error("the change does not add and remove what its kind says")]
    Shape,
    /// The mappings sent along are not those it names.
    #[error("the mappings sent along are not those that the change names")]
    OtherMappings,
    /// A mapping to remove is not there, or one to add is.
    #[error("a mapping to remove is not there, or one to add is there already")]
    NotThere,
    /// Its MSP or the DP has said of the old mapping that it is not served; nobody has said so of a new one.
    #[error("a mapping that is not served is not carried over to another key: it can be removed")]
    NotServed,
    /// An added mapping is not good.
    #[error("a mapping is refused: {0}")]
    Mapping(#[from] MappingRefused),
    /// An added mapping is over already, or its proof of possession has expired or lies in the future.
    #[error("a mapping or its proof of possession is not valid now")]
    Time,
    /// A statement is dated so far ahead that readers would refuse the record.
    #[error("the statement is dated more than 30 s ahead")]
    DatedAhead,
    /// A signature under the event does not verify, one key signs twice, or the role is not the kind's.
    #[error("a signature under the change does not verify")]
    Signature,
    /// A mapping of another key has lapsed, and does not make way for this change.
    #[error(
        "a mapping of another key has lapsed and is still that key's: it signs too, or somebody claims the identifier; it makes way \
         only for what is added to a full record, 14 days after it lapsed, with a signer that is not new"
    )]
    Lapsed,
    /// A claim that rests on a stricter prover is taken up with possession shown to another one.
    #[error("the claim rests on a stricter proof: possession must be shown to such a prover again")]
    Weaker,
    /// The current record has one mapping twice, or the next one would.
    #[error("a mapping stands twice")]
    Twice,
    /// A mapping is added or removed without authority.
    #[error("a mapping is added or removed without the authority to do so")]
    NotAuthorised,
    /// A signer has nothing to do with the change.
    #[error("a signer has no part in the change")]
    Bystander,
    /// More visible mappings than the DP takes or more than eight hidden ones, or no version is left.
    #[error("there is no room for another mapping")]
    Full,
    /// Nothing stands that would have to be claimed.
    #[error("nothing stands under the identifier: a mapping can be added without a claim")]
    NothingToClaim,
    /// Somebody claims it already.
    #[error("the identifier is claimed already")]
    Claimed,
    /// A claim is open, and as many changes were made over it as may be.
    #[error(
        "somebody claims the identifier, and no more changes are taken until that is settled: object, with possession, to end the claim"
    )]
    Unsettled,
    /// Nobody claims it, or somebody else does.
    #[error("there is no such claim")]
    NoClaim,
    /// The hold is not over.
    #[error("the hold of the claim is not over")]
    Held,
    /// An objection without fresh possession has been made already.
    #[error("an objection was made already: only fresh possession stops the claim")]
    Objected,
}

/// Clocks may differ by this much: a proof of possession dated further ahead is refused.
pub const SKEW_MS: u64 = 30_000;

/// What is to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Proposal<'a> {
    /// The event.
    pub event: &'a Event,
    /// The mappings it adds, in the order of its digests; none for a statement.
    pub added: &'a [Mapping],
    /// The log it is for.
    pub origin: &'a Origin,
    /// The time of the change, by the DP's clock.
    pub now: UnixMillis,
    /// What the DP knows from elsewhere.
    pub known: Known<'a>,
}

/// What decides over a change and is in none of its signatures.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The CSIP whose key signs a release, if the DP knows it to issue the CSI.
    pub csip: Option<&'a Domain>,
    /// The ground of a claim where the record does not say it: a register's word to the DP, or the DP's to an app that is not
    /// shown everything.
    pub ground: Option<Ground>,
    /// The provers whose proofs are stricter than others, by the logged policy document.
    pub stricter: &'a [Domain],
    /// Most visible mappings, by the logged policy document. `None` for a reader who does not know the document: what any of them
    /// could allow, up to [`VISIBLE_SLOTS_MAX`].
    pub visible_max: Option<usize>,
}

impl Default for Known<'_> {
    fn default() -> Self {
        Self { csip: None, ground: None, stricter: &[], visible_max: Some(VISIBLE_MAPPINGS_DEFAULT) }
    }
}

/// Applies a change to what stands: the next state, or why not.
///
/// `before` is the current state and its commitment, `None` if the CSI has no version. Whether provers, MSPs and the DP sign with
/// keys that count is not judged here ([`crate::provider`] says).
///
/// # Errors
/// [`Refused`].
pub fn apply(before: Option<(&State, Hash)>, proposal: Proposal<'_>) -> Result<State, Refused> {
    let (event, tbs) = (proposal.event, &proposal.event.tbs);
    let (version, previous, tenure) = match before {
        Some((state, commitment)) => (next_version(state)?, commitment, state.tenure),
        None => (0, Hash::ZERO, 0),
    };
    // "Only KeyCompromise, prepared in advance, may name no version."
    let named = match tbs.kind {
        EventKind::KeyCompromise => tbs.names_no_version(),
        _ => tbs.version == version && tbs.previous == previous,
    };
    if !named {
        return Err(Refused::Stale);
    }
    if before.is_some_and(|(s, _)| s.csi != tbs.csi) || tbs.tenure != tenure {
        return Err(Refused::Elsewhere);
    }
    if before.is_some_and(|(s, _)| has_twice(&s.digests())) {
        return Err(Refused::Twice);
    }
    check_shape(event, proposal.added)?;
    check_signatures(event, proposal.origin)?;
    let before = before.map(|(state, _)| state);
    check_settled(before, version, tbs.kind, proposal.now)?;
    let next = match tbs.kind {
        EventKind::Issue | EventKind::Replace | EventKind::Withdraw | EventKind::OptOut | EventKind::RotateKey => {
            recipient::change(before, version, proposal)?
        }
        kind => {
            let before = before.ok_or(Refused::NotThere)?;
            match kind {
                EventKind::KeyCompromise => recipient::compromise(before, version, proposal)?,
                EventKind::Erase => recipient::erase(before, version, proposal)?,
                EventKind::NewHolderPending => claim::pending(before, version, proposal)?,
                EventKind::Objection => claim::objection(before, version, proposal)?,
                EventKind::NewHolder => claim::new_holder(before, version, proposal)?,
                EventKind::Release => claim::release(before, version, proposal)?,
                _ => statement::state(before, version, proposal)?,
            }
        }
    };
    if has_twice(&next.digests()) {
        return Err(Refused::Twice);
    }
    check_room(before, &next, proposal.known)?;
    Ok(next)
}

/// "While a claim is open, ordinary changes make at most the 16 versions after it": by more, a former holder would make it void.
fn check_settled(before: Option<&State>, version: u32, kind: EventKind, now: UnixMillis) -> Result<(), Refused> {
    let settles = matches!(
        kind,
        EventKind::KeyCompromise
            | EventKind::Release
            | EventKind::Objection
            | EventKind::NewHolder
            | EventKind::NewHolderPending
            | EventKind::DpUnserve
    );
    let claim = before.and_then(|state| state.claim_at(now));
    let is_one_too_many = claim.is_some_and(|c| version.saturating_sub(c.version) > CLAIM_CHANGES_MAX);
    if is_one_too_many && !settles { Err(Refused::Unsettled) } else { Ok(()) }
}

/// Whether there is room for what stands. A document that allows less than stands takes nothing away, but no more may come.
fn check_room(before: Option<&State>, next: &State, known: Known<'_>) -> Result<(), Refused> {
    let stood = before.filter(|b| b.tenure == next.tenure).map_or(0, |b| b.counts().0);
    let (visible, hidden) = next.counts();
    let most = known.visible_max.unwrap_or(VISIBLE_SLOTS_MAX).max(stood).min(VISIBLE_SLOTS_MAX);
    if visible > most || hidden > HIDDEN_SLOTS { Err(Refused::Full) } else { Ok(()) }
}

pub(crate) fn has_twice(digests: &[Hash]) -> bool {
    (1..digests.len()).any(|i| digests[..i].contains(&digests[i]))
}

fn next_version(state: &State) -> Result<u32, Refused> {
    // The last number stands for "any version".
    state.version.checked_add(1).filter(|v| *v != crate::event::ANY_VERSION).ok_or(Refused::Full)
}

/// Whether the event's lists fit its kind and the mappings sent along.
fn check_shape(event: &Event, added: &[Mapping]) -> Result<(), Refused> {
    let tbs = &event.tbs;
    let (adds, removes) = (tbs.added.len(), tbs.removed.len());
    let fits = match tbs.kind {
        EventKind::Issue => adds > 0 && removes == 0,
        EventKind::Replace => adds > 0 && removes > 0,
        EventKind::Withdraw => adds == 0 && removes > 0,
        EventKind::OptOut => adds > 0,
        EventKind::RotateKey => adds > 0 && adds == removes,
        EventKind::NewHolder => adds > 0 && removes == 0,
        EventKind::KeyCompromise | EventKind::NewHolderPending | EventKind::Release => adds == 0 && removes == 0,
        EventKind::Erase | EventKind::Objection => adds == 0,
        EventKind::MspDetach | EventKind::DpUnserve => adds + removes == 1,
    };
    // Only a statement that something is not served has a reason.
    let reason = matches!(tbs.kind, EventKind::MspDetach | EventKind::DpUnserve) && removes == 1;
    if !fits || has_twice(&tbs.added) || has_twice(&tbs.removed) || (tbs.reason != 0) != reason {
        return Err(Refused::Shape);
    }
    let sent: &[Hash] = if is_statement(tbs.kind) { &[] } else { &tbs.added };
    if added.len() != sent.len() || added.iter().zip(sent).any(|(m, d)| m.digest() != *d) {
        return Err(Refused::OtherMappings);
    }
    // Only an OptOut opts out, and what comes with it is hidden. Rotations and new holders say again what was said, or begin.
    let is_hidden = |m: &Mapping| m.tags.as_exact().is_some();
    let opts_out = match tbs.kind {
        EventKind::OptOut => {
            added.iter().any(Mapping::is_opt_out) && added.iter().all(|m| m.is_opt_out() || is_hidden(m))
        }
        EventKind::RotateKey | EventKind::NewHolder => true,
        _ => !added.iter().any(Mapping::is_opt_out),
    };
    if opts_out { Ok(()) } else { Err(Refused::Shape) }
}

/// Whether a kind says something about a mapping that stays where it is.
pub(crate) const fn is_statement(kind: EventKind) -> bool {
    matches!(kind, EventKind::MspDetach | EventKind::DpUnserve)
}

pub(crate) fn check_signatures(event: &Event, origin: &Origin) -> Result<(), Refused> {
    let role = match event.tbs.kind {
        EventKind::Release => AuthorityRole::Csip,
        EventKind::MspDetach => AuthorityRole::Msp,
        EventKind::DpUnserve => AuthorityRole::Dp,
        _ => AuthorityRole::Recipient,
    };
    // A change that nobody signs is nobody's.
    if event.authorities.is_empty() {
        return Err(Refused::NotAuthorised);
    }
    for (i, authority) in event.authorities.iter().enumerate() {
        let again = event.authorities[..i].iter().any(|a| a.key == authority.key);
        if again || authority.role != role {
            return Err(Refused::Signature);
        }
        authority.verify(&event.tbs, origin).map_err(|_| Refused::Signature)?;
    }
    Ok(())
}

/// The one authority of an event that must have one.
fn sole(event: &Event) -> Result<&crate::event::Authority, Refused> {
    match &event.authorities[..] {
        [one] => Ok(one),
        _ => Err(Refused::Bystander),
    }
}

fn check_added(m: &Mapping, tenure: u32, csi: &Csi, origin: &Origin, now: UnixMillis) -> Result<(), Refused> {
    if m.csi != *csi || m.tenure != tenure {
        return Err(Refused::Elsewhere);
    }
    m.verify(origin)?;
    let fresh = m.attestation.time <= now.plus_ms(SKEW_MS) && now < m.attestation.expiry;
    if fresh && now < m.not_after { Ok(()) } else { Err(Refused::Time) }
}

/// Whether an attestation shows, now, that the holder of `key` possesses the CSI in this tenure.
fn is_possession_of(p: &Attestation, key: &Key, csi: (&Csi, u32), origin: &Origin, now: UnixMillis) -> bool {
    p.recipient == *key
        && (&p.csi, p.tenure) == csi
        && p.purpose == Purpose::Control
        && p.time <= now.plus_ms(SKEW_MS)
        && now < p.expiry
        && p.verify(origin).is_ok()
}

/// The state after a change that stays in its tenure: visible mappings first, hidden after, each in the order they came.
fn go_on(before: &State, version: u32, now: UnixMillis, state: RecordState, mut held: Vec<Held>) -> State {
    held.sort_by_key(Held::is_hidden);
    let state = match state {
        // A claim that nobody took up in time goes with the next change, or with the one that is too many.
        RecordState::Contested(claim) if claim.is_void_at(version, now) => RecordState::Standing,
        state => state,
    };
    let state = match (held.is_empty() && before.closed.is_empty(), state) {
        (true, RecordState::Erased) => RecordState::Erased,
        (true, _) => RecordState::Vacant,
        (false, RecordState::Vacant | RecordState::Erased) => RecordState::Standing,
        (false, state) => state,
    };
    State {
        csi: before.csi.clone(),
        version,
        time: now,
        tenure: before.tenure,
        start: before.start.clone(),
        state,
        held,
        closed: before.closed.clone(),
    }
}

/// The state at the beginning of a tenure: these mappings and nothing else. It rests on the proof of the first visible one, which
/// everybody sees, and on that of a hidden one only where nothing is visible.
pub(crate) fn begin(
    csi: &Csi,
    (version, tenure): (u32, u32),
    how: Beginning,
    added: &[Mapping],
    now: UnixMillis,
) -> Result<State, Refused> {
    let first = added.iter().find(|m| m.tags.as_exact().is_none()).or(added.first());
    let attestation = &first.ok_or(Refused::Shape)?.attestation;
    let start = TenureStart { version, time: now, how, domain: attestation.prover.clone().into() };
    let mut held: Vec<Held> =
        added.iter().map(|m| Held { standing: standing_of_added(None, m, version, now), mapping: m.clone() }).collect();
    held.sort_by_key(Held::is_hidden);
    let (csi, state, closed) = (csi.clone(), RecordState::Standing, vec![]);
    Ok(State { csi, version, time: now, tenure, start, state, held, closed })
}
