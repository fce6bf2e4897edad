//! Who may change what: one function, used by the DP before it accepts a change and by the recipient's app on the receipt.
//!
//! | kind | adds | removes | needs |
//! |---|---|---|---|
//! | Issue | 1 or more | none | the key of each added mapping |
//! | Replace | 1 or more | 1 or more | the key of each mapping added or removed |
//! | Withdraw | none | 1 or more | the key of each removed mapping, or the rule for new mappings |
//! | OptOut | 1, with no MSP | any | as Replace |
//!
//! **The rule for new mappings.** While a mapping is new (72 hours, and only if another key's mapping stood when a key that
//! had none added it), a key with an older mapping of this tenure, with possession proved after the change, removes it at
//! once. So somebody with an intercepted code can add, visibly, but can neither evict nor stay.
//!
//! Removal by anybody else has another name (MspDetach, DpUnserve) and never removes (R9, R10). The other kinds come with
//! the lifecycle; until then they are refused by name.

use waymark_log::{checkpoint::Origin, hash::Hash, key::Key, time::UnixMillis};

use crate::{
    event::{AuthorityRole, Event, EventKind},
    identifier::Csi,
    mapping::{Attestation, Mapping, MappingRefused, Purpose},
    record::{HIDDEN_SLOTS, RecordState, SlotStatus, Standing, TenureStart, VISIBLE_SLOTS_MAX},
    wire::Flag,
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
}

/// What a record says, opened: everything but digests and salts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// Whose.
    pub csi: Csi,
    /// At which version.
    pub version: u32,
    /// In which tenure.
    pub tenure: u32,
    /// How that began.
    pub start: TenureStart,
    /// The state of the whole.
    pub state: RecordState,
    /// The mappings: visible ones in the order of their slots, then hidden ones.
    pub held: Vec<Held>,
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
    /// A kind that this version does not offer.
    #[error("this kind of change is not offered yet")]
    NotOffered,
    /// Its kind does not add and remove what it adds and removes.
    #[error("the change does not add and remove what its kind says")]
    Shape,
    /// The mappings sent along are not those it names.
    #[error("the mappings sent along are not those that the change names")]
    OtherMappings,
    /// A mapping to remove is not there, or one to add is.
    #[error("a mapping to remove is not there, or one to add is there already")]
    NotThere,
    /// An added mapping is not good.
    #[error("a mapping is refused: {0}")]
    Mapping(#[from] MappingRefused),
    /// An added mapping is over already, or its proof of possession has expired or lies in the future.
    #[error("a mapping or its proof of possession is not valid now")]
    Time,
    /// A signature under the event does not verify, or one key signs twice.
    #[error("a signature under the change does not verify")]
    Signature,
    /// A mapping is added or removed without authority.
    #[error("a mapping is added or removed without the authority to do so")]
    NotAuthorised,
    /// A signer has nothing to do with the change.
    #[error("a signer has no part in the change")]
    Bystander,
    /// More than eight visible or eight hidden mappings.
    #[error("there is no room for another mapping")]
    Full,
}

/// Clocks may differ by this much: a proof of possession dated further ahead is refused.
pub const SKEW_MS: u64 = 30_000;

/// What is to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Proposal<'a> {
    /// The event.
    pub event: &'a Event,
    /// The mappings it adds, in the order of its digests.
    pub added: &'a [Mapping],
    /// The log it is for.
    pub origin: &'a Origin,
    /// The time of the change, by the DP's clock.
    pub now: UnixMillis,
}

/// Applies a change to what stands: the next state, or why not.
///
/// `before` is the current state and its commitment, `None` if the CSI has no version. Whether provers and MSPs are known
/// is not judged here ([`crate::provider`] says).
///
/// # Errors
/// [`Refused`].
pub fn apply(before: Option<(&State, Hash)>, proposal: Proposal<'_>) -> Result<State, Refused> {
    let Proposal { event, added, origin, now } = proposal;
    let tbs = &event.tbs;
    let (version, previous, tenure) = match before {
        Some((state, commitment)) => (state.version.checked_add(1).ok_or(Refused::Full)?, commitment, state.tenure),
        None => (0, Hash::ZERO, 0),
    };
    if tbs.version != version || tbs.previous != previous {
        return Err(Refused::Stale);
    }
    if before.is_some_and(|(s, _)| s.csi != tbs.csi) || tbs.tenure != tenure {
        return Err(Refused::Elsewhere);
    }
    check_shape(event, added)?;
    check_signatures(event, origin)?;
    let held = before.map_or(&[][..], |(s, _)| &s.held);
    let mut used = vec![false; event.authorities.len()];

    let mut next: Vec<Held> = Vec::new();
    let mut removed = 0;
    for h in held {
        if tbs.removed.contains(&h.mapping.digest()) {
            let by = authority_to_remove(event, held, h, origin, now).ok_or(Refused::NotAuthorised)?;
            used[by] = true;
            removed += 1;
        } else {
            next.push(h.clone());
        }
    }
    if removed != tbs.removed.len() {
        return Err(Refused::NotThere);
    }
    for mapping in added {
        check_added(mapping, tbs.tenure, &tbs.csi, origin, now)?;
        let by =
            event.authorities.iter().position(|a| a.role == AuthorityRole::Recipient && a.key == mapping.recipient);
        used[by.ok_or(Refused::NotAuthorised)?] = true;
        if held.iter().any(|h| h.mapping == *mapping) {
            return Err(Refused::NotThere);
        }
        let standing = standing_of_added(held, &mapping.recipient, version, now);
        next.push(Held { standing, mapping: mapping.clone() });
    }
    if used.contains(&false) {
        return Err(Refused::Bystander);
    }
    // Visible first, hidden after, each in the order they came.
    next.sort_by_key(Held::is_hidden);
    let hidden = next.iter().filter(|h| h.is_hidden()).count();
    if next.len() - hidden > VISIBLE_SLOTS_MAX || hidden > HIDDEN_SLOTS {
        return Err(Refused::Full);
    }
    let (start, state) = match before {
        Some((state, _)) => (state.start.clone(), state.state),
        None => (first_start(added, now)?, RecordState::Normal),
    };
    Ok(State { csi: tbs.csi.clone(), version, tenure, start, state, held: next })
}

/// Whether the event's lists fit its kind and the mappings sent along.
fn check_shape(event: &Event, added: &[Mapping]) -> Result<(), Refused> {
    let tbs = &event.tbs;
    let (adds, removes) = (!tbs.added.is_empty(), !tbs.removed.is_empty());
    let fits = match tbs.kind {
        EventKind::Issue => adds && !removes,
        EventKind::Replace => adds && removes,
        EventKind::Withdraw => !adds && removes,
        EventKind::OptOut => tbs.added.len() == 1,
        _ => return Err(Refused::NotOffered),
    };
    let distinct = |list: &[Hash]| (1..list.len()).all(|i| !list[..i].contains(&list[i]));
    if !fits || !distinct(&tbs.added) || !distinct(&tbs.removed) || tbs.reason != 0 {
        return Err(Refused::Shape);
    }
    let same = added.len() == tbs.added.len() && added.iter().zip(tbs.added.iter()).all(|(m, d)| m.digest() == *d);
    if !same {
        return Err(Refused::OtherMappings);
    }
    // Only an OptOut opts out, and it does nothing else.
    if added.iter().any(|m| m.is_opt_out() != (tbs.kind == EventKind::OptOut)) {
        return Err(Refused::Shape);
    }
    Ok(())
}

fn check_signatures(event: &Event, origin: &Origin) -> Result<(), Refused> {
    for (i, authority) in event.authorities.iter().enumerate() {
        let again = event.authorities[..i].iter().any(|a| a.key == authority.key && a.role == authority.role);
        // The kinds offered so far are the recipient's alone.
        if again || authority.role != AuthorityRole::Recipient {
            return Err(Refused::Signature);
        }
        authority.verify(&event.tbs, origin).map_err(|_| Refused::Signature)?;
    }
    Ok(())
}

fn check_added(m: &Mapping, tenure: u32, csi: &Csi, origin: &Origin, now: UnixMillis) -> Result<(), Refused> {
    if m.csi != *csi || m.tenure != tenure {
        return Err(Refused::Elsewhere);
    }
    m.verify(origin)?;
    let fresh = m.attestation.time <= now.plus_ms(SKEW_MS) && now < m.attestation.expiry;
    if fresh && now < m.not_after { Ok(()) } else { Err(Refused::Time) }
}

/// Which of the event's authorities lets `target` be removed.
fn authority_to_remove(event: &Event, held: &[Held], target: &Held, origin: &Origin, now: UnixMillis) -> Option<usize> {
    let own = event.authorities.iter().position(|a| a.key == target.mapping.recipient);
    if own.is_some() || !target.standing.is_new_at(now) {
        return own;
    }
    // The rule for new mappings.
    let csi = (&target.mapping.csi, target.mapping.tenure);
    event.authorities.iter().position(|a| {
        let older = |h: &Held| h.mapping.recipient == a.key && h.standing.since_version < target.standing.since_version;
        let proved = a
            .possession
            .0
            .as_ref()
            .is_some_and(|p| is_possession_of(p, &a.key, csi, origin, now) && target.standing.since < p.time);
        held.iter().any(older) && proved
    })
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

/// How a mapping stands that is added now.
fn standing_of_added(held: &[Held], key: &Key, version: u32, now: UnixMillis) -> Standing {
    let others = held.iter().any(|h| h.mapping.recipient != *key);
    // A key that is established here already does not become a newcomer by changing its own mapping.
    let established = held.iter().any(|h| h.mapping.recipient == *key && !h.standing.is_new_at(now));
    let newcomer = Flag(others && !established);
    Standing { status: SlotStatus::Served, reason: 0, newcomer, since_version: version, since: now }
}

/// The first mapping of a CSI begins tenure 0.
fn first_start(added: &[Mapping], now: UnixMillis) -> Result<TenureStart, Refused> {
    let attestation = &added.first().ok_or(Refused::Shape)?.attestation;
    let (prover, strength) = (attestation.prover.clone().into(), attestation.strength);
    Ok(TenureStart { version: 0, time: now, how: 1, prover, strength })
}
