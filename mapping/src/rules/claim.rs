//! A CSI that changes hands: the claim, the objection, the new holder, and the CSIP's release.
//!
//! ```text
//!             NewHolderPending              until                     until + 14 days
//! Standing ─────────▶ Contested ── hold ──────┼── NewHolder ──▶ next tenure ┼ void
//!                       │  ▲ Objection: extends once
//!                       └──┴ Objection with fresh possession: Standing
//! ```
//!
//! It is void as well once more than 32 versions were made since its own: senders are shown all of them.

use waymark_log::time::UnixMillis;

use super::{Held, Known, Proposal, Refused, SKEW_MS, State, begin, check_added, go_on, is_possession_of, sole};
use crate::{
    mapping::Attestation,
    record::{Beginning, Claim, Ground, RecordState, TenureStart},
};

/// NewHolderPending: somebody shows possession for the next tenure. Nothing else changes yet.
pub(super) fn pending(before: &State, version: u32, proposal: Proposal<'_>) -> Result<State, Refused> {
    let Proposal { event, origin, now, .. } = proposal;
    let claimant = sole(event)?;
    let next = (&before.csi, before.tenure.checked_add(1).ok_or(Refused::Full)?);
    if before.claim_at(now).is_some() {
        return Err(Refused::Claimed);
    }
    // By its state, which everybody sees: the claimant need not be shown what stands.
    if before.state.is_empty() {
        return Err(Refused::NothingToClaim);
    }
    let proof = claimant.possession.0.as_ref();
    let proof =
        proof.filter(|p| is_possession_of(p, &claimant.key, next, origin, now)).ok_or(Refused::NotAuthorised)?;
    let ground = ground_of(before, proof, proposal);
    let claim = Claim::new(claimant.key, version, now, ground);
    Ok(go_on(before, version, now, RecordState::Contested(claim), before.held.clone()))
}

/// "14 days; 72 hours if the proof is stricter or the old mappings lapsed", or a register says that the number was given away. A proof
/// is stricter by who attests it, and only the logged policy document says who is: no prover shortens a hold by its own word.
/// Visible mappings count: everybody sees the ground, and the claimant's app judges it, and neither is to learn what is hidden.
fn ground_of(before: &State, proof: &Attestation, proposal: Proposal<'_>) -> Ground {
    let shown = || before.held.iter().filter(|h| !h.is_hidden());
    let mut others = shown().filter(|h| h.mapping.recipient != proof.recipient).peekable();
    let Known { ground, stricter, .. } = proposal.known;
    // "Where nothing recorded rests on such a prover": neither the tenure nor anything visible.
    let began = before.start.domain.get().filter(|_| before.start.how != Beginning::Release);
    let recorded = || shown().map(|h| h.mapping.attestation.prover.clone()).chain(began.clone());
    if let Some(known) = ground {
        known
    } else if stricter.contains(&proof.prover) && !recorded().any(|prover| stricter.contains(&prover)) {
        Ground::Stricter
    } else if others.peek().is_some() && others.all(|h| h.has_lapsed_at(proposal.now)) {
        Ground::Lapsed
    } else {
        Ground::Equal
    }
}

/// Objection: a key from before the claim extends it once; with fresh possession it ends it, and what the claimant added goes.
pub(super) fn objection(before: &State, version: u32, proposal: Proposal<'_>) -> Result<State, Refused> {
    let Proposal { event, origin, now, .. } = proposal;
    let objector = sole(event)?;
    let claim = *before.claim_at(now).ok_or(Refused::NoClaim)?;
    let older = |h: &Held| h.mapping.recipient == objector.key && h.came_before(claim.version);
    let established = before.held.iter().any(|h| older(h) && !before.is_new_at(h, now));
    if objector.key == claim.key || !established {
        return Err(Refused::NotAuthorised);
    }
    let csi = (&before.csi, before.tenure);
    let shows = |p: &Attestation| is_possession_of(p, &objector.key, csi, origin, now) && claim.time < p.time;
    match &objector.possession.0 {
        Some(proof) if shows(proof) => {
            let held = without_claimants(before, &claim, proposal)?;
            Ok(go_on(before, version, now, RecordState::Standing, held))
        }
        Some(_) => Err(Refused::NotAuthorised),
        None if !event.tbs.removed.is_empty() => Err(Refused::NotAuthorised),
        // "An objection extends once; after that only fresh possession by the objector stops it."
        None => {
            let state = RecordState::Contested(claim.extended().ok_or(Refused::Objected)?);
            Ok(go_on(before, version, now, state, before.held.clone()))
        }
    }
}

/// What stays when a claim is stopped: all but those of the claimant's new mappings that the objection names.
fn without_claimants(before: &State, claim: &Claim, proposal: Proposal<'_>) -> Result<Vec<Held>, Refused> {
    let removed = &proposal.event.tbs.removed;
    let mut stay = Vec::new();
    for h in &before.held {
        if !removed.contains(&h.mapping.digest()) {
            stay.push(h.clone());
        } else if h.mapping.recipient != claim.key || !before.is_new_at(h, proposal.now) {
            return Err(Refused::NotAuthorised);
        }
    }
    if before.held.len() - stay.len() == removed.len() { Ok(stay) } else { Err(Refused::NotThere) }
}

/// NewHolder: the claimant, with possession shown after the hold, begins the next tenure with mappings of its own.
pub(super) fn new_holder(before: &State, version: u32, proposal: Proposal<'_>) -> Result<State, Refused> {
    let Proposal { event, added, origin, now, .. } = proposal;
    let claimant = sole(event)?;
    let tenure = before.tenure.checked_add(1).ok_or(Refused::Full)?;
    let claim = before.claim_at(now).filter(|c| c.key == claimant.key).ok_or(Refused::NoClaim)?;
    if now < claim.until {
        return Err(Refused::Held);
    }
    for mapping in added {
        check_added(mapping, tenure, &before.csi, origin, now)?;
        if mapping.recipient != claimant.key {
            return Err(Refused::NotAuthorised);
        }
        // Whose word the short hold rests on is in the record: senders look for that prover among those whom they know.
        if claim.ground == Ground::Stricter && !proposal.known.stricter.contains(&mapping.attestation.prover) {
            return Err(Refused::Weaker);
        }
        // Possession before the hold was over says nothing about who has the CSI after it.
        if mapping.attestation.time.plus_ms(SKEW_MS) < claim.until {
            return Err(Refused::Time);
        }
    }
    begin(&before.csi, (version, tenure), Beginning::NewHolder, added, now)
}

/// Release: the CSIP takes the CSI back. Nothing stands, and whoever comes next begins.
pub(super) fn release(before: &State, version: u32, proposal: Proposal<'_>) -> Result<State, Refused> {
    sole(proposal.event)?;
    let csip = proposal.known.csip.ok_or(Refused::NotAuthorised)?;
    released(before, version, proposal.now, csip.clone().into())
}

fn released(
    before: &State,
    version: u32,
    now: UnixMillis,
    domain: crate::names::MaybeDomain,
) -> Result<State, Refused> {
    let tenure = before.tenure.checked_add(1).ok_or(Refused::Full)?;
    let start = TenureStart { version, time: now, how: Beginning::Release, domain };
    let (csi, state) = (before.csi.clone(), RecordState::Vacant);
    Ok(State { csi, version, time: now, tenure, start, state, held: vec![], closed: vec![] })
}
