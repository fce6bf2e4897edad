//! Opening a record: what is shown must be what the commitment binds, visible slots all of them, hidden ones by their tag.
//! Signatures inside are not judged here.

use std::collections::BTreeMap;

use waymark_log::{hash::Hash, key::Key};

use super::{Rejected, Trail};
use crate::{
    answer::{Body, Content, HiddenValue, OpenedHidden, TagProof},
    commitment::{commit, opens},
    event::Event,
    identifier::Csi,
    label::verify_handle,
    mapping::Mapping,
    names::Tag,
    record::{Contents, HIDDEN_SLOTS, Slot, SlotStatus, Standing, hidden_bytes},
    rules::{Held, State, has_twice},
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

/// A mapping that its MSP has detached or that the DP withholds, and the statement that says so.
pub(crate) struct NotServed {
    pub(crate) standing: Standing,
    pub(crate) mapping: Hash,
    /// Whose MSP must have said so; none if the mapping is closed.
    pub(crate) shown: Option<Mapping>,
    pub(crate) statement: Event,
}

/// A record, opened.
pub(crate) struct Opened {
    pub(crate) state: State,
    pub(crate) commitment: Hash,
    pub(crate) contents: Contents,
    /// Whether all eight hidden slots were opened, at least as standing and digest, and nothing visible was left closed.
    pub(crate) complete: bool,
    /// What is not served. Those that are shown are among the mappings of the state, too.
    pub(crate) not_served: Vec<NotServed>,
}

fn not_proven(what: &str) -> Rejected {
    Rejected::NotProven(what.to_owned())
}

/// Opens a record. Signatures inside are not judged here. The record before, in a receipt, bears no statements (`bare`).
pub(crate) fn open_body(
    body: &Body,
    csi: &Csi,
    version: u32,
    vrf: &Key,
    shown: Shown<'_>,
    bare: bool,
) -> Result<Opened, Rejected> {
    let (record, contents) = (&body.record, &body.contents);
    let commitment = commit(&body.opening, csi, version, &encode(record));
    if !opens(&record.contents, &body.contents_salt, &encode(contents)) {
        return Err(not_proven("the contents are not the record's"));
    }
    // "Visible slots are all opened in every answer (an unopened one is NotProven)."
    if body.visible.len() != contents.visible.len() {
        return Err(not_proven("a visible mapping is not opened"));
    }
    let mut opening =
        Opening { shown, bare, held: vec![], closed: vec![], not_served: vec![], kept_closed: false, empty: vec![] };
    for (opened, digest) in body.visible.iter().zip(contents.visible.iter()) {
        let slot = Slot { standing: opened.standing, mapping: opened.content.digest() };
        let hidden = opened.content.mapping().is_some_and(|m| m.tags.as_exact().is_some());
        if !opens(digest, &opened.salt, &encode(&slot)) || hidden {
            return Err(not_proven("a visible slot does not open to what is shown"));
        }
        opening.take(opened.standing, &opened.content, opened.statement.0.as_ref())?;
    }
    opening.hidden(body, csi, version, vrf)?;
    let Opening { held, closed, not_served, kept_closed, .. } = opening;
    if held.iter().any(|h| h.mapping.csi != *csi || h.mapping.tenure != record.tenure) {
        return Err(not_proven("a mapping is of another identifier or tenure"));
    }
    let mut standings = held.iter().map(|h| &h.standing).chain(closed.iter().map(|slot: &Slot| &slot.standing));
    if standings.any(|s| s.since_version > version) {
        return Err(not_proven("a mapping stands since a version that is not there yet"));
    }
    let mut digests: Vec<Hash> = held.iter().map(|h| h.mapping.digest()).collect();
    digests.extend(closed.iter().map(|slot| slot.mapping));
    // What is not served and shown is among those that are held.
    digests.extend(not_served.iter().filter(|n| n.shown.is_none()).map(|n| n.mapping));
    if has_twice(&digests) {
        return Err(not_proven("a mapping is there twice"));
    }
    // Somebody who withholds everything has not shown that nothing stands.
    if record.state.is_empty() && !(held.is_empty() && closed.is_empty() && not_served.is_empty()) {
        return Err(not_proven("mappings stand in a record that says there are none"));
    }
    let complete = body.hidden.len() == HIDDEN_SLOTS && !kept_closed;
    let state = State {
        csi: csi.clone(),
        version,
        time: record.time,
        tenure: record.tenure,
        start: contents.start.clone(),
        state: record.state,
        held,
        closed,
    };
    Ok(Opened { state, commitment, contents: contents.clone(), complete, not_served })
}

/// A record on its way to being opened.
struct Opening<'a> {
    shown: Shown<'a>,
    bare: bool,
    held: Vec<Held>,
    /// Hidden mappings of which a recipient is shown standing and digest only.
    closed: Vec<Slot>,
    not_served: Vec<NotServed>,
    /// Whether a mapping was left closed because the DP withholds it.
    kept_closed: bool,
    /// Hidden slots that were opened and are empty.
    empty: Vec<u8>,
}

impl<'a> Opening<'a> {
    /// Takes one slot that opened. What is not served says by whose word; what the DP withholds is closed to senders.
    fn take(&mut self, standing: Standing, content: &Content, statement: Option<&Event>) -> Result<(), Rejected> {
        let unserved = standing.status == SlotStatus::Unserved;
        let closed = content.mapping().is_none();
        self.kept_closed |= closed;
        let right = match self.shown {
            // A recipient who is still new may find what is somebody else's closed.
            Shown::Recipient => unserved || !closed,
            Shown::Visible | Shown::Tag(_) => unserved == closed,
        };
        if !right {
            return Err(not_proven("a mapping is closed that should be shown, or shown though it is withheld"));
        }
        match (standing.status, statement) {
            // "Zero while it is served": nothing was stated.
            (SlotStatus::Served, None) if standing.reason == 0 && standing.stated_version == 0 => {}
            (SlotStatus::Detached | SlotStatus::Unserved, None) if self.bare => {}
            (SlotStatus::Detached | SlotStatus::Unserved, Some(statement)) if !self.bare => {
                let (mapping, shown, statement) = (content.digest(), content.mapping().cloned(), statement.clone());
                self.not_served.push(NotServed { standing, mapping, shown, statement });
            }
            _ => return Err(not_proven("a mapping is not served, and nobody has said so; or the other way round")),
        }
        if let Some(mapping) = content.mapping() {
            self.held.push(Held { standing, mapping: mapping.clone() });
        }
        Ok(())
    }

    /// Opens the hidden slots that may be shown, in the order of their tags' ordinals.
    fn hidden<'b>(&mut self, body: &'b Body, csi: &Csi, version: u32, vrf: &Key) -> Result<(), Rejected>
    where
        'a: 'b,
    {
        let mut seen = [false; HIDDEN_SLOTS];
        let mut tags: BTreeMap<&'b Tag, Vec<u8>> = BTreeMap::new();
        if let Shown::Tag(tag) = self.shown {
            tags.insert(tag, vec![]);
        }
        for (i, opened) in (0u8..).zip(body.hidden.iter()) {
            let slot = body.contents.hidden.0.get(usize::from(opened.slot));
            let slot = slot.ok_or_else(|| not_proven("there is no such slot"))?;
            if std::mem::replace(&mut seen[usize::from(opened.slot)], true) {
                return Err(not_proven("a hidden slot is opened twice"));
            }
            let inside = match &opened.value {
                HiddenValue::Empty => None,
                HiddenValue::Present(standing, content) => Some((*standing, content)),
            };
            let value = inside.map(|(standing, content)| Slot { standing, mapping: content.digest() });
            if !opens(&slot.digest, &opened.salt, &hidden_bytes(value.as_ref())) {
                return Err(not_proven("a hidden slot does not open to what is shown"));
            }
            let Some((standing, content)) = inside else {
                self.bare_slot(opened)?;
                self.empty.push(opened.slot);
                continue;
            };
            // "Of older hidden mappings by other keys only standing and digest": a handle's proof would let the reader try tags.
            if matches!((self.shown, content), (Shown::Recipient, Content::Closed(_))) {
                self.bare_slot(opened)?;
                self.closed.push(Slot { standing, mapping: content.digest() });
                continue;
            }
            // Without this a DP could give a mapping a random handle and deny it to those who present its tag.
            let (tag, proof) = self.tag_of(opened, content, i)?;
            let handle = verify_handle(vrf, csi, version, tag, proof.ordinal, &proof.vrf_proof);
            if handle.ok() != Some(slot.handle) {
                return Err(not_proven("a hidden slot's handle is not that of its tag"));
            }
            tags.entry(tag).or_default().push(proof.ordinal);
            self.take(standing, content, opened.statement.0.as_ref())?;
        }
        // The record before bears no proofs of handles: what a sender finds is judged for the record as it is.
        if self.bare {
            tags.clear();
        }
        self.check_tags(body, (csi, version, vrf), &tags)
    }

    /// Only the recipient is shown a slot that is empty or closed, and nothing rides along.
    fn bare_slot(&self, opened: &OpenedHidden) -> Result<(), Rejected> {
        let bare = opened.handle.0.is_none() && opened.consent.0.is_none() && opened.statement.0.is_none();
        if bare && matches!(self.shown, Shown::Recipient) {
            return Ok(());
        }
        Err(not_proven("an empty or closed slot is opened to a sender, or bears something"))
    }

    /// The tag of the `i`-th opened hidden mapping and its handle's proof.
    fn tag_of<'b>(&self, opened: &'b OpenedHidden, content: &'b Content, i: u8) -> Result<(&'b Tag, TagProof), Rejected>
    where
        'a: 'b,
    {
        let proof = opened.handle.0.ok_or_else(|| not_proven("a hidden slot is opened without its handle"))?;
        let own = content.mapping().and_then(|m| m.tags.as_exact());
        let tag = match self.shown {
            Shown::Visible => None,
            Shown::Tag(tag) => (own.is_none_or(|t| t == tag) && proof.ordinal == i).then_some(tag),
            Shown::Recipient => own,
        };
        let tag =
            tag.ok_or_else(|| not_proven("a hidden mapping is opened to somebody who did not present its tag"))?;
        Ok((tag, proof))
    }

    /// For each tag, the DP proves the handles of ordinals 0, 1, … up to the first that no slot bears: those of opened slots there, the
    /// others in `tag_proofs`. A sender presents one tag, and is shown every slot before that end. A recipient is shown the same for each
    /// tag of what is opened to it: without that, a DP could give a mapping an ordinal that no sender ever comes to, and deny it with
    /// proof after its receipt was accepted.
    fn check_tags(
        &self,
        body: &Body,
        (csi, version, vrf): (&Csi, u32, &Key),
        tags: &BTreeMap<&Tag, Vec<u8>>,
    ) -> Result<(), Rejected> {
        let mut proofs = body.tag_proofs.iter();
        let handle_of = |tag: &Tag, ordinal: u8, proof: Option<&TagProof>| {
            let proof = proof.filter(|p| p.ordinal == ordinal);
            let proof = proof.ok_or_else(|| not_proven("the handles of a tag are not proved to their end"))?;
            let handle = verify_handle(vrf, csi, version, tag, ordinal, &proof.vrf_proof);
            handle.map_err(|_| not_proven("a handle of a tag is not proved"))
        };
        for (tag, opened) in tags {
            // At most eight slots bear handles, so that the ninth is absent.
            let mut end = 0;
            loop {
                if !opened.contains(&end) {
                    let handle = handle_of(tag, end, proofs.next())?;
                    let bearer = (0u8..).zip(&body.contents.hidden.0).find(|(_, s)| s.handle == handle);
                    let Some((slot, _)) = bearer else { break };
                    self.check_unseen(slot)?;
                }
                end += 1;
            }
            // Ordinals of opened slots are distinct, and each lies before the end.
            let distinct = opened.iter().enumerate().all(|(i, n)| !opened[..i].contains(n));
            if !distinct || opened.iter().any(|n| *n >= end) {
                return Err(not_proven("a hidden mapping lies behind the end of its tag, where no sender finds it"));
            }
        }
        if proofs.next().is_none() { Ok(()) } else { Err(not_proven("handles are proved of a tag that is not opened")) }
    }

    /// Whether a slot that bears the handle of a tag may be left unopened: not before a sender who presents the tag, and it is not one
    /// that was opened and is empty. A mapping behind such a slot would be found by nobody.
    fn check_unseen(&self, slot: u8) -> Result<(), Rejected> {
        if matches!(self.shown, Shown::Recipient) && !self.empty.contains(&slot) {
            return Ok(());
        }
        Err(not_proven("a slot that bears a handle of the tag is not shown, or is empty"))
    }
}

pub(super) fn describe(opened: &Opened, trail: &mut Trail) {
    let visible = opened.contents.visible.len();
    trail.held("record", format!("opens the commitment; {visible} visible mappings, all accounted for"));
    let hidden = opened.state.held.iter().filter(|h| h.is_hidden()).count();
    if hidden > 0 {
        trail.held("tag", format!("{hidden} hidden mappings opened by their tag"));
    }
}
