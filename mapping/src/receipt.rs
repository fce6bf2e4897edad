//! The recipient's judgement on a receipt: did my change happen, and nothing else?
//!
//! A receipt opens the record as it is and as it was. It is accepted only if the version is the one that was signed for and
//!
//! ```text
//! now = previous - removed + added,   exactly, visible and hidden
//! ```
//!
//! by the very function that the DP should have used ([`crate::rules::apply`]); at a tenure's beginning there is no previous that the
//! reader may see, and the record must be what was added and nothing else; after an erasure there is none at all, and nothing
//! stands. Otherwise a DP could slip a second mapping into a change that the recipient expects and that no watch-list would
//! therefore call out. A key that is still new is shown its own hidden slots only; its receipt says so (`complete` is false).
//! Any other key is shown all eight, but of hidden mappings of other keys that are older than its own only standing and digest
//! ([`State::closed`]): enough for the sum. Where others signed with it, or what it removes is not shown to it, whether that
//! was allowed is not judged, and the sum is drawn all the same.
//!
//! History goes back from there, version by version: each record's `cause` opens to the event that made it and the commitment
//! of the record before. An event is shown as the cause only if it is one: signed, made for that version over that record, and the
//! record is what it makes of the one before. Otherwise a DP could show its reader an event of their own as the cause of somebody
//! else's change, and the app would claim it. And the record before is the one in the log wherever the reader knows that: from the
//! look-up's ladder, and from what it was shown before ([`Anchor::remember`]). Otherwise a DP with somebody's key could show another past.

use waymark_log::{checkpoint::Origin, hash::Hash, key::Key, time::UnixMillis};

use crate::{
    answer::{Body, Past, Receipt},
    commitment::opens,
    event::{Cause, Event, EventKind},
    label::Label,
    mapping::Mapping,
    memory::{Recall, Remembered},
    record::{Beginning, Claim, Ground, LAPSED_KEPT_MS, RecordState, Slot, SlotStatus, Standing},
    rules::{self, Held, Known, Proposal, State},
    trust::Trust,
    verify::{Asked, Logged, Opened, Proved, Question, Rejected, Shown, Trail, open_body, prove},
    wire::encode,
};

/// A receipt that was accepted, or a current list that was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Current {
    /// The record as it is.
    pub state: State,
    /// Its commitment: what the next event must name.
    pub commitment: Hash,
    /// Its label: with the commitment, the change entry that a renewed watch-list claims.
    pub label: Label,
    /// The labels that must stay absent while this version is the latest.
    pub watched: Vec<Label>,
    /// The event that made it, if it was shown, and this reader sees enough to judge that it did.
    pub event: Option<Event>,
    /// From where its past can be read.
    pub anchor: Anchor,
    /// Whether every hidden slot was opened, at least as standing and digest.
    pub complete: bool,
    /// When the head was made.
    pub head_time: UnixMillis,
    /// Size and root of the tree that it was shown in.
    pub tree: (u64, Hash),
    /// What to remember of the log, or what must be shown before.
    pub recall: Recall,
}

/// Why a receipt is refused. Each reason but the first is a dispute with the DP: keep the receipt.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReceiptRefused {
    /// It does not prove what it says.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It is for another version or event than the one signed.
    #[error("the receipt is for another change than the one signed")]
    OtherChange,
    /// The record before does not open, or is another than the event names.
    #[error("the record before is not the one that the change was made over")]
    OtherPrevious,
    /// The record is not previous - removed + added: something was slipped in, dropped or altered.
    #[error("the record holds more, less or other than the signed change allows")]
    NotTheChange,
    /// A key that is not new was not shown every hidden slot, or not the content of one that is not older than its own mapping.
    #[error("hidden slots are kept from a key that may see them")]
    Incomplete,
}

/// Opens the current record for the holder of a key, without an own change to compare it with.
///
/// It must be as complete as a receipt for that key would be: a recipient who follows an alert is not to be shown a list without
/// what raised it. A tag in the question says nothing here: what is shown goes by the key.
///
/// # Errors
/// [`ReceiptRefused`].
pub fn open_current(
    receipt: &Receipt,
    asked: &Asked,
    by: &Key,
    trust: &Trust,
    remembered: Option<&Remembered>,
    now: UnixMillis,
    trail: &mut Trail,
) -> Result<Option<Current>, ReceiptRefused> {
    let question = Question { origin: &asked.origin, csi: &asked.csi, shown: Shown::Recipient };
    let proved = prove(&receipt.now, question, trust, remembered, now, trail)?;
    let event = match &proved.opened {
        Some(opened) => made_by(receipt, opened, by, &proved)?,
        None if receipt.cause.0.is_none() && receipt.previous.0.is_none() => None,
        None => return Err(ReceiptRefused::OtherPrevious),
    };
    let previous = receipt.cause.0.as_ref().map(|cause| cause.previous);
    Ok(current(proved, previous, event))
}

/// The event that made the current version, as far as a key is shown it. One that is shown is judged like a change of one's own.
fn made_by(receipt: &Receipt, opened: &Opened, by: &Key, proved: &Proved) -> Result<Option<Event>, ReceiptRefused> {
    let established = is_established(opened, by, proved.head_time);
    let Some(cause) = shown_cause(receipt, Some(opened))? else {
        // A key that may see everything is also told what made the version.
        let refused = if established { ReceiptRefused::Incomplete } else { ReceiptRefused::OtherPrevious };
        return if established || receipt.previous.0.is_some() { Err(refused) } else { Ok(None) };
    };
    let previous = open_previous(receipt, &cause, opened, proved)?;
    check_complete(opened, previous.as_ref(), by, proved.head_time)?;
    let Some(added) = added_by(&cause.event, &opened.state) else {
        return if established { Err(ReceiptRefused::Incomplete) } else { Ok(None) };
    };
    let sent = Sent { origin: &proved.origin, event: &cause.event, added: &added, by };
    judge(sent, &cause, (&opened.state, opened.complete), previous.as_ref())?;
    Ok(Some(cause.event))
}

/// The mappings that an event added and that are shown, if all the others are closed: one that was rotated is as old as the one that it
/// took the place of.
fn added_by(event: &Event, shown: &State) -> Option<Vec<Mapping>> {
    if rules::is_statement(event.tbs.kind) {
        return Some(vec![]);
    }
    let mut added = Vec::with_capacity(event.tbs.added.len());
    for digest in event.tbs.added.iter() {
        match shown.held.iter().find(|h| h.mapping.digest() == *digest) {
            Some(held) => added.push(held.mapping.clone()),
            None if shown.closed.iter().any(|slot| slot.mapping == *digest) => {}
            None => return None,
        }
    }
    Some(added)
}

/// A change as it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// To which log.
    pub origin: &'a Origin,
    /// What was signed.
    pub event: &'a Event,
    /// The mappings whose digests it adds.
    pub added: &'a [Mapping],
    /// Who sent it, one of its signers: the receipt shows what this key may see.
    pub by: &'a Key,
}

/// Accepts the receipt for a change, or says what is wrong with it.
///
/// # Errors
/// [`ReceiptRefused`].
pub fn accept(
    receipt: &Receipt,
    sent: Sent<'_>,
    trust: &Trust,
    remembered: Option<&Remembered>,
    now: UnixMillis,
    trail: &mut Trail,
) -> Result<Current, ReceiptRefused> {
    let question = Question { origin: sent.origin, csi: &sent.event.tbs.csi, shown: Shown::Recipient };
    let proved = prove(&receipt.now, question, trust, remembered, now, trail)?;
    let Some(opened) = &proved.opened else { return Err(ReceiptRefused::OtherChange) };
    let cause = shown_cause(receipt, Some(opened))?.filter(|c| c.event == *sent.event);
    let cause = cause.ok_or(ReceiptRefused::OtherChange)?;
    let previous = open_previous(receipt, &cause, opened, &proved)?;
    check_complete(opened, previous.as_ref(), sent.by, proved.head_time)?;
    if proved.head_time < opened.state.time {
        return Err(ReceiptRefused::NotTheChange);
    }
    judge(sent, &cause, (&opened.state, opened.complete), previous.as_ref())?;
    current(proved, Some(cause.previous), Some(cause.event)).ok_or(ReceiptRefused::OtherChange)
}

/// Whether an event made a record out of the one before: signed, for this version over that record, and nothing else was changed.
fn judge(
    sent: Sent<'_>,
    cause: &Cause,
    (shown, complete): (&State, bool),
    previous: Option<&Opened>,
) -> Result<(), ReceiptRefused> {
    let Sent { origin, event: signed, added, .. } = sent;
    let tbs = &signed.tbs;
    let is_of_tenure = previous.is_none_or(|p| p.state.tenure == tbs.tenure);
    if !is_for(signed, shown, cause) || !is_of_tenure || rules::check_signatures(signed, origin).is_err() {
        return Err(ReceiptRefused::OtherChange);
    }
    let whole = complete && previous.is_none_or(|p| p.complete);
    let in_part = |p: &&Opened| !p.complete || !p.state.closed.is_empty();
    if let Some(previous) = previous.filter(in_part)
        && rests_on_closed(sent, &previous.state)
    {
        return check_named(sent, &previous.state, shown, whole);
    }
    let expected = match previous {
        Some(previous) => {
            // What the DP knew from elsewhere is in the record, where everybody sees it.
            let told = |c: &&Claim| matches!(c.ground, Ground::Recycled | Ground::Stricter) || !previous.complete;
            let ground = shown.state.claim().filter(told).map(|c| c.ground);
            // The limits of the DP's policy document are not the app's to know: what the event names is what its signers allowed.
            let (now, known) = (shown.time, Known { csip: None, ground, stricter: &[], visible_max: None });
            let proposal = Proposal { event: signed, added, origin, now, known };
            let before = (&previous.state, cause.previous);
            rules::apply(Some(before), proposal).map_err(|_| ReceiptRefused::NotTheChange)?
        }
        None if shown.state == RecordState::Erased => tombstone(signed, shown)?,
        None => beginning(signed, added, shown)?,
    };
    if is_same(&expected, shown, whole, sent.by) { Ok(()) } else { Err(ReceiptRefused::NotTheChange) }
}

/// Whether an event is about this CSI and for this version over that record. Only a revocation, prepared in advance, names none.
fn is_for(event: &Event, shown: &State, cause: &Cause) -> bool {
    let tbs = &event.tbs;
    let named = match tbs.kind {
        EventKind::KeyCompromise => tbs.names_no_version(),
        _ => shown.version == tbs.version && cause.previous == tbs.previous,
    };
    named && shown.csi == tbs.csi
}

fn shown_cause(receipt: &Receipt, opened: Option<&Opened>) -> Result<Option<Cause>, Rejected> {
    let Some(cause) = &receipt.cause.0 else { return Ok(None) };
    let right = opened.is_some_and(|o| opens(&o.contents.cause, &receipt.cause_salt, &encode(cause)));
    if right { Ok(Some(cause.clone())) } else { Err(Rejected::NotProven("the event is not the record's".to_owned())) }
}

/// Opens the record before. At a tenure's beginning there is none: what was before is somebody else's. Nor after an erasure:
/// what was before is gone.
fn open_previous(
    receipt: &Receipt,
    cause: &Cause,
    opened: &Opened,
    proved: &Proved,
) -> Result<Option<Opened>, ReceiptRefused> {
    let State { version, start, state, .. } = &opened.state;
    let has_none = *version == start.version || *state == RecordState::Erased;
    follows(*version, cause, &proved.logged)?;
    match (&receipt.previous.0, has_none) {
        (None, true) => Ok(None),
        (Some(body), false) => open_before(body, &opened.state, &proved.vrf, cause).map(Some),
        _ => Err(ReceiptRefused::OtherPrevious),
    }
}

/// Whether the record that a version is said to follow is the one in the log, as far as that is known here: the map proves some versions on
/// the way to the latest, and the reader may remember one. What signed over another record was never the latest, or is not of this log.
fn follows(version: u32, cause: &Cause, logged: &Logged) -> Result<(), ReceiptRefused> {
    let before = version.checked_sub(1).and_then(|before| logged.get(&before));
    if before.is_none_or(|commitment| *commitment == cause.previous) {
        Ok(())
    } else {
        Err(ReceiptRefused::OtherPrevious)
    }
}

/// Opens a record of the past, right before `next`. What nothing here would judge must not be there.
fn open_before(body: &Body, next: &State, vrf: &Key, cause: &Cause) -> Result<Opened, ReceiptRefused> {
    let version = next.version.checked_sub(1).ok_or(ReceiptRefused::OtherPrevious)?;
    let bears_consent =
        body.visible.iter().any(|v| v.consent.0.is_some()) || body.hidden.iter().any(|h| h.consent.0.is_some());
    if bears_consent {
        return Err(ReceiptRefused::OtherPrevious);
    }
    let opened = open_body(body, &next.csi, version, vrf, Shown::Recipient, true)?;
    // A record is no older than the one that it follows: dated back, a claim in it would be void, or a hold over, before anybody saw it.
    let right =
        opened.commitment == cause.previous && opened.state.tenure == next.tenure && opened.state.time <= next.time;
    if right { Ok(opened) } else { Err(ReceiptRefused::OtherPrevious) }
}

/// What a record must be after an erasure: nothing stands. How the tenure began stays as the record says.
fn tombstone(signed: &Event, shown: &State) -> Result<State, ReceiptRefused> {
    let right = signed.tbs.kind == EventKind::Erase && signed.tbs.tenure == shown.tenure;
    if right { Ok(State { held: vec![], closed: vec![], ..shown.clone() }) } else { Err(ReceiptRefused::NotTheChange) }
}

/// What the first record of a tenure must be: what the change added, and nothing else.
fn beginning(signed: &Event, added: &[Mapping], shown: &State) -> Result<State, ReceiptRefused> {
    let tbs = &signed.tbs;
    let (how, tenure) = match (tbs.kind, shown.version) {
        (EventKind::Issue | EventKind::OptOut, 0) => (Beginning::First, Some(0)),
        (EventKind::Issue | EventKind::OptOut, _) => (Beginning::Vacancy, tbs.tenure.checked_add(1)),
        (EventKind::NewHolder, _) => (Beginning::NewHolder, tbs.tenure.checked_add(1)),
        _ => return Err(ReceiptRefused::NotTheChange),
    };
    let tenure = tenure.ok_or(ReceiptRefused::NotTheChange)?;
    rules::begin(&tbs.csi, (shown.version, tenure), how, added, shown.time).map_err(|_| ReceiptRefused::NotTheChange)
}

/// From where a CSI's past can be read: a record whose cause is not opened yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anchor {
    origin: Origin,
    vrf: Key,
    state: State,
    complete: bool,
    cause: Hash,
    logged: Logged,
}

impl Anchor {
    /// The version whose cause is next.
    pub const fn version(&self) -> u32 {
        self.state.version
    }

    fn of(opened: &Opened, vrf: Key, origin: Origin, logged: Logged) -> Self {
        let (state, complete, cause) = (opened.state.clone(), opened.complete, opened.contents.cause);
        Self { origin, vrf, state, complete, cause, logged }
    }

    /// Takes in which record this reader knows to be a version, from before: the past must lead through it.
    ///
    /// # Errors
    /// [`ReceiptRefused::OtherPrevious`] if it is not the one that is shown.
    pub fn remember(&mut self, version: u32, commitment: Hash) -> Result<(), ReceiptRefused> {
        let there = *self.logged.entry(version).or_insert(commitment);
        if there == commitment { Ok(()) } else { Err(ReceiptRefused::OtherPrevious) }
    }

    /// Takes in what another anchor of the same CSI knows: the past must lead through what was shown there.
    ///
    /// # Errors
    /// [`ReceiptRefused::OtherPrevious`] if they contradict each other.
    pub fn remember_all_of(&mut self, other: &Self) -> Result<(), ReceiptRefused> {
        other.logged.iter().try_for_each(|(version, commitment)| self.remember(*version, *commitment))
    }

    /// Takes one step back: the event that made the anchor's version, and the record before with the anchor for the next step.
    /// That is `None` at the beginning of the tenure, or where the reader was not there yet: which version that is, the current record
    /// says ([`State::first_seen_by`]). `by` is the reader.
    ///
    /// # Errors
    /// [`ReceiptRefused`].
    pub fn step(&self, past: &Past, by: &Key) -> Result<(Event, Option<(State, Self)>), ReceiptRefused> {
        if !opens(&self.cause, &past.cause_salt, &encode(&past.cause)) {
            return Err(ReceiptRefused::OtherChange);
        }
        let (event, State { version, .. }) = (&past.cause.event, &self.state);
        if !is_for(event, &self.state, &past.cause) || rules::check_signatures(event, &self.origin).is_err() {
            return Err(ReceiptRefused::OtherChange);
        }
        follows(*version, &past.cause, &self.logged)?;
        let begins = self.state.start.version == *version;
        match &past.previous.0 {
            None => Ok((event.clone(), None)),
            Some(body) if !begins => {
                let opened = open_before(body, &self.state, &self.vrf, &past.cause)?;
                self.judge(past, &opened, by)?;
                let anchor = Self::of(&opened, self.vrf, self.origin.clone(), self.logged.clone());
                Ok((event.clone(), Some((opened.state, anchor))))
            }
            _ => Err(ReceiptRefused::OtherPrevious),
        }
    }

    /// Whether the event made this version of the one before, where all slots of both are opened.
    fn judge(&self, past: &Past, before: &Opened, by: &Key) -> Result<(), ReceiptRefused> {
        if !self.complete || !before.complete {
            return Ok(());
        }
        let event = &past.cause.event;
        let added = added_by(event, &self.state).ok_or(ReceiptRefused::NotTheChange)?;
        let sent = Sent { origin: &self.origin, event, added: &added, by };
        judge(sent, &past.cause, (&self.state, self.complete), Some(before))
    }
}

/// Only a receipt for a key whose mappings are all new may leave hidden slots unopened; and only mappings that are older than all
/// of the key's own may be closed to it. Both records are judged alike, and by both: otherwise what is kept back of the one before
/// could be dropped unseen, and a key that leaves is still judged by how it stood.
fn check_complete(opened: &Opened, previous: Option<&Opened>, by: &Key, now: UnixMillis) -> Result<(), ReceiptRefused> {
    let both = || std::iter::once(opened).chain(previous);
    if !both().any(|o| is_established(o, by, now)) {
        return Ok(());
    }
    let own = both().flat_map(|o| &o.state.held).filter(|h| h.mapping.recipient == *by);
    let first = own.map(|h| h.standing.since_version).min();
    let is_older = |slot: &Slot| first.is_some_and(|first| slot.standing.since_version < first);
    let is_shown = |o: &Opened| o.complete && o.state.closed.iter().all(is_older);
    if both().all(is_shown) { Ok(()) } else { Err(ReceiptRefused::Incomplete) }
}

/// Whether a key has a mapping here that is not new.
fn is_established(opened: &Opened, by: &Key, now: UnixMillis) -> bool {
    opened.state.held.iter().any(|h| h.mapping.recipient == *by && !opened.state.is_new_at(h, now))
}

/// Whether a change may rest on what a key is not shown: on what another signer has there, or on what it removes there.
fn rests_on_closed(sent: Sent<'_>, previous: &State) -> bool {
    let is_shown = |digest: &Hash| previous.held.iter().any(|h| h.mapping.digest() == *digest);
    sent.event.authorities.iter().any(|a| a.key != *sent.by) || !sent.event.tbs.removed.iter().all(is_shown)
}

/// now = previous - removed + added among what such a key is shown, whoever allowed it. Where all slots were opened (`whole`), that
/// is everything: what is closed is compared by standing and digest.
fn check_named(sent: Sent<'_>, previous: &State, shown: &State, whole: bool) -> Result<(), ReceiptRefused> {
    let named = Named { sent, previous, shown, whole };
    let right = named.has_right_frame()
        && named.may_remove_what_is_shown()
        && named.shows_what_it_must()
        && named.closes_what_was_closed();
    if right && shown.held.iter().all(|h| named.is_expected(h)) { Ok(()) } else { Err(ReceiptRefused::NotTheChange) }
}

/// A change that is judged by what its event names, since what allowed it is closed to the reader.
struct Named<'a> {
    sent: Sent<'a>,
    previous: &'a State,
    shown: &'a State,
    whole: bool,
}

impl Named<'_> {
    /// The mapping of which an event says that it is not served, or is again.
    fn stated(&self) -> Option<&Hash> {
        let tbs = &self.sent.event.tbs;
        rules::is_statement(tbs.kind).then(|| tbs.removed.first().or(tbs.added.first())).flatten()
    }

    /// The key whose mappings all go.
    fn revoked(&self) -> Option<Key> {
        let is_revocation = self.sent.event.tbs.kind == EventKind::KeyCompromise;
        self.sent.event.authorities.first().filter(|_| is_revocation).map(|a| a.key)
    }

    fn is_removed(&self, digest: &Hash) -> bool {
        self.stated().is_none() && self.sent.event.tbs.removed.contains(digest)
    }

    /// What stays of what was shown.
    fn stays(&self) -> impl Iterator<Item = &Held> {
        let goes = |h: &Held| self.is_removed(&h.mapping.digest()) || self.revoked() == Some(h.mapping.recipient);
        self.previous.held.iter().filter(move |h| !goes(h))
    }

    /// How a mapping stands that stood so before: the same, but for what the event states of it.
    fn standing_after(&self, mapping: &Hash, before: Standing) -> Standing {
        let (tbs, version) = (&self.sent.event.tbs, self.shown.version);
        if self.stated() != Some(mapping) {
            return before;
        }
        let stopped = if tbs.kind == EventKind::MspDetach { SlotStatus::Detached } else { SlotStatus::Unserved };
        let (status, stated_version) =
            if tbs.removed.is_empty() { (SlotStatus::Served, 0) } else { (stopped, version) };
        Standing { status, reason: tbs.reason, stated_version, ..before }
    }

    /// Whether of what is shown nothing goes without its key that is neither new nor lapsed long ago: whatever else is closed, that can be
    /// seen.
    fn may_remove_what_is_shown(&self) -> bool {
        let (previous, now) = (self.previous, self.shown.time);
        let may_go = |h: &Held| {
            let lapsed = h.mapping.not_after.plus_ms(LAPSED_KEPT_MS) <= now;
            self.sent.event.is_signed_by(&h.mapping.recipient) || previous.is_new_at(h, now) || lapsed
        };
        previous.held.iter().filter(|h| self.is_removed(&h.mapping.digest())).all(may_go)
    }

    /// Whether a mapping stood before and stands as it did, but for what the event states of it, or is one that was added.
    fn is_expected(&self, h: &Held) -> bool {
        let digest = h.mapping.digest();
        let stood =
            self.stays().any(|s| s.mapping == h.mapping && self.standing_after(&digest, s.standing) == h.standing);
        let added = self.sent.event.tbs.added.iter().position(|added| *added == digest);
        stood || added.is_some_and(|i| self.is_standing_of_added(i, h))
    }

    /// A mapping that was added stands as any would that is added now. Whether it is a newcomer depends on what is closed, too; and
    /// one that was rotated stands as the one that it took the place of.
    fn is_standing_of_added(&self, i: usize, h: &Held) -> bool {
        let tbs = &self.sent.event.tbs;
        let rotated = tbs.removed.get(i).filter(|_| tbs.kind == EventKind::RotateKey);
        if let Some(digest) = rotated {
            let old = self.previous.held.iter().find(|p| p.mapping.digest() == *digest);
            return old.map_or(h.standing.status == SlotStatus::Served, |old| old.standing == h.standing);
        }
        let (version, time) = (self.shown.version, self.shown.time);
        let expected = rules::standing_of_added(Some(self.previous), &h.mapping, version, time);
        let sees_all = self.whole && self.previous.closed.is_empty();
        let newcomer = if sees_all { expected.newcomer } else { h.standing.newcomer };
        Standing { newcomer, ..expected } == h.standing
    }

    /// Lists are compared as lists: what is visible in its order. Of what is hidden, the reader's own is shown, and all if all is opened.
    fn shows_what_it_must(&self) -> bool {
        let is_visible = |m: &&Mapping| m.tags.as_exact().is_none();
        let expected = || self.stays().map(|h| &h.mapping).chain(self.sent.added);
        let same_visible =
            expected().filter(is_visible).eq(self.shown.held.iter().map(|h| &h.mapping).filter(is_visible));
        let is_open = |m: &&Mapping| !is_visible(m) && (self.whole || m.recipient == *self.sent.by);
        same_visible && expected().filter(is_open).all(|m| self.shown.held.iter().any(|s| s.mapping == *m))
    }

    /// Where all slots were opened, what is closed is what was closed. Whose it is is not shown: a revocation may take any of it away.
    fn closes_what_was_closed(&self) -> bool {
        if !self.whole {
            return true;
        }
        let tbs = &self.sent.event.tbs;
        let stay = || self.previous.closed.iter().filter(|slot| !self.is_removed(&slot.mapping));
        let stands = |s: &Slot| Slot { standing: self.standing_after(&s.mapping, s.standing), ..*s };
        let stood = |slot: &Slot| stay().any(|s| stands(s) == *slot);
        // A rotated mapping stands as the one that it took the place of, which was closed as well.
        let old_of = |slot: &Slot| tbs.added.iter().position(|d| *d == slot.mapping).and_then(|i| tbs.removed.get(i));
        let was_closed = |old: &Hash, slot: &Slot| {
            self.previous.closed.iter().any(|s| s.mapping == *old && s.standing == slot.standing)
        };
        let rotated =
            |slot: &Slot| tbs.kind == EventKind::RotateKey && old_of(slot).is_some_and(|old| was_closed(old, slot));
        let came = self.shown.closed.iter().filter(|slot| rotated(slot)).count();
        let (before, now) = (stay().count() + came, self.shown.closed.len());
        let none_gone = before == now || (self.revoked().is_some() && now < before);
        none_gone && self.shown.closed.iter().all(|s| stood(s) || rotated(s))
    }

    /// What a record says beside its mappings: nobody's claim is slipped in, and none ends but by what ends one.
    fn has_right_frame(&self) -> bool {
        let (before, shown, kind) = (&self.previous.state, &self.shown.state, self.sent.event.tbs.kind);
        let same = self.shown.start == self.previous.start && self.previous.time <= self.shown.time;
        same && match (before, shown) {
            (RecordState::Contested(b), RecordState::Contested(c)) if kind == EventKind::Objection => {
                b.extended().as_ref() == Some(c)
            }
            (_, RecordState::Contested(claim)) if kind == EventKind::NewHolderPending => self.is_put_down(claim),
            (_, RecordState::Contested(_)) => before == shown,
            (RecordState::Contested(claim), RecordState::Standing) => {
                let is_void = claim.is_void_at(self.shown.version, self.shown.time);
                let bears_proof = self.sent.event.authorities.iter().any(|a| a.possession.0.is_some());
                is_void || (kind == EventKind::Objection && bears_proof) || self.revoked() == Some(claim.key)
            }
            (_, RecordState::Erased) => kind == EventKind::Erase,
            (_, RecordState::Standing | RecordState::Vacant) => true,
        }
    }

    /// Whether a claim is the one that the event puts down.
    fn is_put_down(&self, claim: &Claim) -> bool {
        let none_before = self.previous.claim_at(self.shown.time).is_none();
        let new = Claim::new(claim.key, self.shown.version, self.shown.time, claim.ground);
        none_before && *claim == new && self.sent.event.is_signed_by(&claim.key)
    }
}

/// Whether the same is closed, in whatever order: slots have none.
fn is_same_closed(mut expected: Vec<Slot>, shown: &[Slot]) -> bool {
    let mut shown = shown.to_vec();
    expected.sort_unstable_by_key(|slot| slot.mapping);
    shown.sort_unstable_by_key(|slot| slot.mapping);
    expected == shown
}

/// Whether the record shown is the one expected. Where hidden slots are kept closed, those shown must be expected, the reader's own must be
/// shown, and the visible ones must be equal; whether a mapping came beside one that is not shown, or one that is not shown still stands,
/// cannot be judged then.
fn is_same(expected: &State, shown: &State, whole: bool, by: &Key) -> bool {
    let same_frame = expected.version == shown.version
        && expected.time == shown.time
        && expected.tenure == shown.tenure
        && expected.start == shown.start
        && (expected.state == shown.state || (!whole && expected.held.is_empty()));
    let alike = |e: &Held, s: &Held| {
        let unseen = !whole && e.standing.since_version == expected.version;
        let newcomer = if unseen { s.standing.newcomer } else { e.standing.newcomer };
        e.mapping == s.mapping && Standing { newcomer, ..e.standing } == s.standing
    };
    // Lists are compared as lists: what is visible in its order, what is hidden in any, since its slots are shuffled; nothing twice.
    let visible = |state: &State| state.held.iter().filter(|h| !h.is_hidden()).cloned().collect::<Vec<_>>();
    let (expected_visible, shown_visible) = (visible(expected), visible(shown));
    let same_visible = expected_visible.len() == shown_visible.len()
        && expected_visible.iter().zip(&shown_visible).all(|(e, s)| alike(e, s));
    let is_expected = |s: &Held| expected.held.iter().any(|e| alike(e, s));
    let is_own = |h: &&Held| h.mapping.recipient == *by;
    let has_own = expected.held.iter().filter(is_own).all(|e| shown.held.iter().any(|s| alike(e, s)));
    let same_number = if whole { expected.held.len() == shown.held.len() } else { has_own };
    let same_closed = is_same_closed(expected.closed.clone(), &shown.closed);
    let same_hidden = same_number && same_closed && shown.held.iter().all(is_expected);
    same_frame && same_visible && same_hidden
}

fn current(proved: Proved, cause: Option<Hash>, event: Option<Event>) -> Option<Current> {
    let (opened, mut logged) = (proved.opened?, proved.logged);
    logged.extend(opened.state.version.checked_sub(1).zip(cause));
    let anchor = Anchor::of(&opened, proved.vrf, proved.origin, logged);
    Some(Current {
        anchor,
        state: opened.state,
        commitment: opened.commitment,
        label: proved.label?,
        watched: proved.watched,
        event,
        complete: opened.complete,
        head_time: proved.head_time,
        tree: proved.tree,
        recall: proved.recall,
    })
}
