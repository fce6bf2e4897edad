//! What recipients do with their own mappings.

use waymark_log::{key::Key, time::UnixMillis};

use super::{Held, Proposal, Refused, State, begin, check_added, go_on, is_possession_of, sole};
use crate::{
    event::{AuthorityRole, EventKind},
    mapping::Mapping,
    record::{Beginning, HIDDEN_SLOTS, LAPSED_KEPT_MS, RecordState, SlotStatus, Standing},
    wire::Flag,
};

/// Issue, Replace, Withdraw, OptOut, RotateKey: previous - removed + added.
pub(super) fn change(before: Option<&State>, version: u32, proposal: Proposal<'_>) -> Result<State, Refused> {
    let Proposal { event, added, origin, now, .. } = proposal;
    let tbs = &event.tbs;
    let tenure = before.map_or(0, State::tenure_of_next_mapping);
    let mut used = vec![false; event.authorities.len()];
    let rotated = if tbs.kind == EventKind::RotateKey { rotate(before, proposal)? } else { vec![] };
    let Remaining { stay: mut held, cleared } = match before {
        Some(state) => remaining(state, proposal, &mut used)?,
        None if tbs.removed.is_empty() => Remaining::default(),
        None => return Err(Refused::NotThere),
    };
    for (i, mapping) in added.iter().enumerate() {
        check_added(mapping, tenure, &tbs.csi, origin, now)?;
        let by =
            event.authorities.iter().position(|a| a.role == AuthorityRole::Recipient && a.key == mapping.recipient);
        used[by.ok_or(Refused::NotAuthorised)?] = true;
        if before.is_some_and(|s| s.held.iter().any(|h| h.mapping == *mapping)) {
            return Err(Refused::NotThere);
        }
        // A rotated mapping stands as the one it stands for.
        let standing = rotated.get(i).copied();
        let standing = standing.unwrap_or_else(|| standing_of_added(before, mapping, version, now));
        held.push(Held { standing, mapping: mapping.clone() });
    }
    if used.contains(&false) {
        return Err(Refused::Bystander);
    }
    if let Some(state) = before {
        check_cleared(state, &cleared, &held, proposal)?;
    }
    match before {
        None => begin(&tbs.csi, (version, 0), Beginning::First, added, now),
        // Nothing stands and somebody comes: this may be somebody else.
        Some(state) if state.has_ended() => begin(&tbs.csi, (version, tenure), Beginning::Vacancy, added, now),
        Some(state) => Ok(go_on(state, version, now, state.state, held)),
    }
}

/// What an event leaves of a record.
#[derive(Default)]
struct Remaining {
    stay: Vec<Held>,
    /// What goes without any authority: it has lapsed.
    cleared: Vec<Held>,
}

/// Marks the authorities that remove what the event removes, and returns what stays and what has none.
fn remaining(state: &State, proposal: Proposal<'_>, used: &mut [bool]) -> Result<Remaining, Refused> {
    let removed = &proposal.event.tbs.removed;
    let Remaining { mut stay, mut cleared } = Remaining::default();
    for h in &state.held {
        if !removed.contains(&h.mapping.digest()) {
            stay.push(h.clone());
            continue;
        }
        match authority_to_remove(state, h, proposal) {
            Some(by) => used[by] = true,
            None if h.has_lapsed_at(proposal.now) => cleared.push(h.clone()),
            None => return Err(Refused::NotAuthorised),
        }
    }
    if state.held.len() - stay.len() == removed.len() {
        Ok(Remaining { stay, cleared })
    } else {
        Err(Refused::NotThere)
    }
}

/// "A mapping past its not-after, of another key, goes only where room is needed": the change adds something; it lapsed 14 days
/// ago; a key signs that is not new here, so that nobody with an intercepted code comes to it within the 72 hours of the rule for new
/// mappings; and no more go than must, so that the record is full afterwards.
fn check_cleared(
    state: &State,
    cleared: &[Held],
    next: &[Held],
    Proposal { event, added, now, known, .. }: Proposal<'_>,
) -> Result<(), Refused> {
    if cleared.is_empty() {
        return Ok(());
    }
    let established = state.held.iter().any(|h| event.is_signed_by(&h.mapping.recipient) && !state.is_new_at(h, now));
    let long_ago = |h: &Held| h.mapping.not_after.plus_ms(LAPSED_KEPT_MS) <= now;
    let hidden = next.iter().filter(|h| h.is_hidden()).count() + state.closed.len();
    let visible = next.len() + state.closed.len() - hidden;
    // Who does not know the limit takes it that the record is full: the event names what goes, and its signers know.
    let is_full = |h: &Held| {
        if h.is_hidden() { hidden >= HIDDEN_SLOTS } else { known.visible_max.is_none_or(|most| visible >= most) }
    };
    let makes_way = |h: &Held| long_ago(h) && is_full(h);
    if !added.is_empty() && established && cleared.iter().all(makes_way) { Ok(()) } else { Err(Refused::Lapsed) }
}

/// Which of the event's authorities lets `target` be removed.
fn authority_to_remove(state: &State, target: &Held, proposal: Proposal<'_>) -> Option<usize> {
    let Proposal { event, origin, now, .. } = proposal;
    let own = event.authorities.iter().position(|a| a.key == target.mapping.recipient);
    if own.is_some() || !state.is_new_at(target, now) {
        return own;
    }
    // The rule for new mappings.
    let csi = (&state.csi, state.tenure);
    event.authorities.iter().position(|a| {
        let older = |h: &Held| h.mapping.recipient == a.key && h.came_before(target.standing.since_version);
        let proved = a
            .possession
            .0
            .as_ref()
            .is_some_and(|p| is_possession_of(p, &a.key, csi, origin, now) && target.standing.since < p.time);
        state.held.iter().any(older) && proved
    })
}

/// How a mapping stands that is added now.
///
/// A visible one stands by what is visible beside it, as long as that decides: its standing is shown to everybody, and must
/// not tell whether its app, or another, has something hidden. Where nothing else is visible, whoever has something hidden is
/// still to have their say.
pub(crate) fn standing_of_added(before: Option<&State>, added: &Mapping, version: u32, now: UnixMillis) -> Standing {
    let held = before.map_or(&[][..], |s| &s.held);
    let is_hidden = added.tags.as_exact().is_some();
    // What is closed to an app is other keys'.
    let is_other = |h: &Held| h.mapping.recipient != added.recipient;
    let others = held.iter().any(is_other) || before.is_some_and(|s| !s.closed.is_empty());
    let own: Vec<&Held> =
        held.iter().filter(|h| h.mapping.recipient == added.recipient && (is_hidden || !h.is_hidden())).collect();
    // A key that is established here already does not become a newcomer by changing its own mapping; but while the CSI is claimed, one
    // that came after the claim does, or it could object to the claim.
    let is_established =
        |s: &State, h: &Held| !s.is_new_at(h, now) && s.claim_at(now).is_none_or(|claim| h.came_before(claim.version));
    let only_new = before.is_none_or(|s| !own.iter().any(|h| is_established(s, h)));
    let newcomer = Flag(only_new && (others || !own.is_empty()));
    Standing { status: SlotStatus::Served, reason: 0, stated_version: 0, newcomer, since_version: version, since: now }
}

/// RotateKey: another key for what one key says. How the old mappings stood is how the new ones stand.
fn rotate(before: Option<&State>, proposal: Proposal<'_>) -> Result<Vec<Standing>, Refused> {
    let (state, added, removed) = (before.ok_or(Refused::NotThere)?, proposal.added, &proposal.event.tbs.removed);
    let mut standings = Vec::with_capacity(added.len());
    let mut keys: Option<(Key, Key)> = None;
    for (new, digest) in added.iter().zip(removed.iter()) {
        let old = state.held.iter().find(|h| h.mapping.digest() == *digest).ok_or(Refused::NotThere)?;
        let pair = (old.mapping.recipient, new.recipient);
        if pair.0 == pair.1 || keys.is_some_and(|k| k != pair) || !says_the_same(&old.mapping, new) {
            return Err(Refused::Shape);
        }
        if old.standing.status != SlotStatus::Served {
            return Err(Refused::NotServed);
        }
        keys = Some(pair);
        standings.push(old.standing);
    }
    let (old, new) = keys.ok_or(Refused::Shape)?;
    // "Both keys." Who may remove a new mapping does not come into its standing.
    if !proposal.event.is_signed_by(&old) {
        return Err(Refused::NotAuthorised);
    }
    let left = state.held.iter().filter(|h| h.mapping.recipient == old).count() != removed.len();
    let known = state.held.iter().any(|h| h.mapping.recipient == new);
    // "All of one key's": the old key has nothing to say here afterwards. The new one comes without a past.
    if left || known { Err(Refused::Shape) } else { Ok(standings) }
}

fn says_the_same(old: &Mapping, new: &Mapping) -> bool {
    (&old.msp, &old.account, &old.tags, &old.region) == (&new.msp, &new.account, &new.tags, &new.region)
}

/// KeyCompromise: all mappings of the key go, and its claim.
pub(super) fn compromise(before: &State, version: u32, proposal: Proposal<'_>) -> Result<State, Refused> {
    let key = sole(proposal.event)?.key;
    let held: Vec<Held> = before.held.iter().filter(|h| h.mapping.recipient != key).cloned().collect();
    let claims = before.claim_at(proposal.now).is_some_and(|c| c.key == key);
    if held.len() == before.held.len() && !claims {
        return Err(Refused::NotThere);
    }
    let state = if claims { RecordState::Standing } else { before.state };
    Ok(go_on(before, version, proposal.now, state, held))
}

/// Erase: a tombstone. Whoever may remove all that stands may have all forgotten; where nothing stands, whoever has the CSI.
pub(super) fn erase(before: &State, version: u32, proposal: Proposal<'_>) -> Result<State, Refused> {
    let Proposal { event, origin, now, .. } = proposal;
    if before.state == RecordState::Erased {
        return Err(Refused::NotThere);
    }
    let mut used = vec![false; event.authorities.len()];
    let Remaining { stay, cleared } = remaining(before, proposal, &mut used)?;
    if !stay.is_empty() || !before.closed.is_empty() {
        return Err(Refused::Shape);
    }
    // "Never by Erase": what others have here goes with their keys or after a claim, lapsed or not.
    if !cleared.is_empty() {
        return Err(Refused::Lapsed);
    }
    if before.held.is_empty() {
        let one = sole(event)?;
        let csi = (&before.csi, before.tenure);
        let proved = one.possession.0.as_ref().is_some_and(|p| is_possession_of(p, &one.key, csi, origin, now));
        if !proved {
            return Err(Refused::NotAuthorised);
        }
        used[0] = true;
    }
    if used.contains(&false) {
        return Err(Refused::Bystander);
    }
    Ok(go_on(before, version, now, RecordState::Erased, vec![]))
}
