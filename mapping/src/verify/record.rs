//! Opening a record: what is shown must be what the commitment binds, visible slots all of them, hidden ones by their tag.
//! Signatures inside are not judged here.

use waymark_log::{hash::Hash, key::Key};

use super::{Rejected, Trail};
use crate::{
    answer::{Body, OpenedHidden},
    commitment::{commit, opens},
    identifier::Csi,
    label::verify_handle,
    mapping::Tags,
    names::Tag,
    record::{HIDDEN_SLOTS, HiddenValue, Record, SlotStatus, Standing},
    rules::{Held, State},
    wire::encode,
};

/// Which hidden slots an answer may open.
#[derive(Clone, Copy)]
pub(crate) enum Shown<'a> {
    /// None.
    Visible,
    /// Those with this tag, all of them.
    Tag(&'a Tag),
    /// Any: the reader is the recipient.
    Recipient,
}

/// A record, opened.
pub(crate) struct Opened {
    pub(crate) state: State,
    pub(crate) commitment: Hash,
    pub(crate) record: Record,
    /// Whether all eight hidden slots were opened.
    pub(crate) complete: bool,
}

/// Opens a record. Signatures inside are not judged here.
pub(crate) fn open_body(body: &Body, csi: &Csi, version: u32, vrf: &Key, shown: Shown<'_>) -> Result<Opened, Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    let record = &body.record;
    if record.csi != *csi || record.version != version {
        return Err(not_proven("the record is of another identifier or version"));
    }
    let commitment = commit(&body.opening, csi, version, &encode(record));
    // "Visible slots are all opened in every answer (an unopened one is NotProven)."
    if body.visible.len() != record.visible.len() {
        return Err(not_proven("a visible mapping is not opened"));
    }
    let mut held = Vec::new();
    for (i, (opened, slot)) in body.visible.iter().zip(record.visible.iter()).enumerate() {
        let right = usize::from(opened.slot) == i && opens(&slot.digest, &opened.salt, &encode(&opened.mapping));
        if !right || !matches!(opened.mapping.tags, Tags::Shown(_)) {
            return Err(not_proven("a visible slot does not open to what is shown"));
        }
        check_served(&slot.standing, opened.statement.0.is_some())?;
        held.push(Held { standing: slot.standing, mapping: opened.mapping.clone() });
    }
    let hidden = open_hidden(body, csi, vrf, shown)?;
    held.extend(hidden);
    if held.iter().any(|h| h.mapping.csi != *csi || h.mapping.tenure != record.tenure) {
        return Err(not_proven("a mapping is of another identifier or tenure"));
    }
    let complete = body.hidden.len() == HIDDEN_SLOTS;
    let state = State {
        csi: csi.clone(),
        version,
        tenure: record.tenure,
        start: record.start.clone(),
        state: record.state,
        held,
    };
    Ok(Opened { state, commitment, record: record.clone(), complete })
}

/// Statements by MSPs and DPs come with the lifecycle; until their authority can be checked, nothing but "served" is
/// believed, and nothing may ride along.
fn check_served(standing: &Standing, has_statement: bool) -> Result<(), Rejected> {
    if standing.status == SlotStatus::Served && standing.reason == 0 && !has_statement {
        return Ok(());
    }
    Err(Rejected::NotProven("a mapping has a status that this version cannot check".to_owned()))
}

/// Opens the hidden slots that may be shown, in the order of their tags' ordinals.
fn open_hidden(body: &Body, csi: &Csi, vrf: &Key, shown: Shown<'_>) -> Result<Vec<Held>, Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    let record = &body.record;
    let mut seen = [false; HIDDEN_SLOTS];
    let mut held = Vec::new();
    for (i, opened) in (0u8..).zip(body.hidden.iter()) {
        let slot = record.hidden.0.get(usize::from(opened.slot)).ok_or_else(|| not_proven("there is no such slot"))?;
        if std::mem::replace(&mut seen[usize::from(opened.slot)], true) {
            return Err(not_proven("a hidden slot is opened twice"));
        }
        if !opens(&slot.digest, &opened.salt, &encode(&opened.value)) {
            return Err(not_proven("a hidden slot does not open to what is shown"));
        }
        let Some(h) = hidden_mapping(opened, record, csi, vrf)? else {
            // Only the recipient is shown what is empty.
            if matches!(shown, Shown::Recipient) {
                continue;
            }
            return Err(not_proven("an empty slot is opened to a sender"));
        };
        let fits = match shown {
            Shown::Visible => false,
            Shown::Tag(tag) => {
                h.mapping.tags.as_exact() == Some(tag) && opened.handle.0.is_some_and(|p| p.ordinal == i)
            }
            Shown::Recipient => true,
        };
        if !fits {
            return Err(not_proven("a hidden mapping is opened to somebody who did not present its tag"));
        }
        check_served(&h.standing, false)?;
        held.push(h);
    }
    check_tag_end(body, csi, vrf, shown)?;
    Ok(held)
}

/// The mapping in an opened hidden slot, its handle proved; `None` for an empty slot.
fn hidden_mapping(opened: &OpenedHidden, record: &Record, csi: &Csi, vrf: &Key) -> Result<Option<Held>, Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    match (&opened.value, &opened.handle.0) {
        (HiddenValue::Empty, None) if opened.consent.0.is_none() => Ok(None),
        (HiddenValue::Present(standing, mapping), Some(proof)) => {
            let tag = mapping.tags.as_exact().ok_or_else(|| not_proven("a hidden mapping has no tag"))?;
            // Without this a DP could give a mapping a random handle and deny it to those who present its tag.
            let handle = verify_handle(vrf, csi, record.version, tag, proof.ordinal, &proof.vrf_proof);
            if handle.ok() != Some(record.hidden.0[usize::from(opened.slot)].handle) {
                return Err(not_proven("a hidden slot's handle is not that of its tag"));
            }
            Ok(Some(Held { standing: *standing, mapping: (**mapping).clone() }))
        }
        _ => Err(not_proven("a hidden slot is opened without its handle, or an empty one with one")),
    }
}

/// For a presented tag: the DP proves the first handle that is not there, so that it cannot deny one that is.
fn check_tag_end(body: &Body, csi: &Csi, vrf: &Key, shown: Shown<'_>) -> Result<(), Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    match (shown, &body.tag_end.0) {
        (Shown::Tag(tag), Some(end)) if usize::from(end.ordinal) == body.hidden.len() => {
            let handle = verify_handle(vrf, csi, body.record.version, tag, end.ordinal, &end.vrf_proof)
                .map_err(|_| not_proven("the end of the tag's handles is not proved"))?;
            if body.record.hidden.0.iter().any(|s| s.handle == handle) {
                return Err(not_proven("a hidden mapping with the presented tag is denied"));
            }
            Ok(())
        }
        (Shown::Visible | Shown::Recipient, None) => Ok(()),
        _ => Err(not_proven("the handles of the presented tag are not proved to their end")),
    }
}

pub(super) fn describe(opened: &Opened, trail: &mut Trail) {
    let visible = opened.record.visible.len();
    trail.held("record", format!("opens the commitment; {visible} visible mappings, all opened"));
    let hidden = opened.state.held.iter().filter(|h| h.is_hidden()).count();
    if hidden > 0 {
        trail.held("tag", format!("{hidden} hidden mappings opened by their tag"));
    }
}
