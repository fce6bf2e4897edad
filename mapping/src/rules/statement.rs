//! What an MSP or the DP says about a mapping that stays where it is: served no longer, or again.

use super::{Proposal, Refused, SKEW_MS, State, go_on, sole};
use crate::{event::EventKind, record::SlotStatus};

/// MspDetach and DpUnserve. "Removal by anybody else has another name and never removes."
pub(super) fn state(before: &State, version: u32, proposal: Proposal<'_>) -> Result<State, Refused> {
    let tbs = &proposal.event.tbs;
    sole(proposal.event)?;
    // "No signing time lies more than 30 s after the head it is logged under": readers would refuse the whole record.
    if proposal.now.plus_ms(SKEW_MS) < tbs.time {
        return Err(Refused::DatedAhead);
    }
    let stopped = if tbs.kind == EventKind::MspDetach { SlotStatus::Detached } else { SlotStatus::Unserved };
    let (from, to) = if tbs.removed.is_empty() { (stopped, SlotStatus::Served) } else { (SlotStatus::Served, stopped) };
    let digest = tbs.removed.first().or(tbs.added.first()).ok_or(Refused::Shape)?;
    let mut held = before.held.clone();
    let target = held.iter_mut().find(|h| h.mapping.digest() == *digest).ok_or(Refused::NotThere)?;
    // One statement at a time: what the DP withholds, the MSP cannot detach.
    if target.standing.status != from {
        return Err(Refused::NotThere);
    }
    // An MSP has no say about somebody who opted out.
    if tbs.kind == EventKind::MspDetach && target.mapping.is_opt_out() {
        return Err(Refused::NotAuthorised);
    }
    target.standing.status = to;
    target.standing.reason = tbs.reason;
    // A statement is bound to the standing that it made: one that was taken back cannot be shown again.
    target.standing.stated_version = if to == SlotStatus::Served { 0 } else { version };
    Ok(go_on(before, version, proposal.now, before.state, held))
}
