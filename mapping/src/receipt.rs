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
//! of the record before.

use waymark_log::{checkpoint::Origin, hash::Hash, key::Key, time::UnixMillis};

use crate::{
    answer::{Body, Past, Receipt},
    commitment::opens,
    event::{Cause, Event, EventKind},
    identifier::Csi,
    label::Label,
    mapping::Mapping,
    memory::{Recall, Remembered},
    record::{Beginning, Claim, Ground, RecordState, Slot, Standing},
    rules::{self, Held, Known, Proposal, State},
    trust::Trust,
    verify::{Asked, Opened, Proved, Question, Rejected, Shown, Trail, open_body, prove},
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
    /// The event that made it, if it was shown.
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
    let cause = shown_cause(receipt, proved.opened.as_ref())?;
    if let Some(opened) = &proved.opened {
        check_complete(opened, by, proved.head_time)?;
        // A key that may see everything is also told what made the version.
        if cause.is_none() && is_established(opened, by, proved.head_time) {
            return Err(ReceiptRefused::Incomplete);
        }
    }
    Ok(current(proved, cause.map(|c| c.event)))
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
    let Sent { origin, event: signed, added, by } = sent;
    let tbs = &signed.tbs;
    let question = Question { origin, csi: &tbs.csi, shown: Shown::Recipient };
    let proved = prove(&receipt.now, question, trust, remembered, now, trail)?;
    let Some(opened) = &proved.opened else { return Err(ReceiptRefused::OtherChange) };
    let cause = shown_cause(receipt, Some(opened))?.filter(|c| c.event == *signed);
    let cause = cause.ok_or(ReceiptRefused::OtherChange)?;
    let (shown, in_advance) = (&opened.state, tbs.names_no_version());
    if !in_advance && (shown.version != tbs.version || cause.previous != tbs.previous) {
        return Err(ReceiptRefused::OtherChange);
    }
    check_complete(opened, by, proved.head_time)?;
    let previous = open_previous(receipt, &cause, opened, &proved)?;
    if proved.head_time < shown.time {
        return Err(ReceiptRefused::NotTheChange);
    }
    let whole = opened.complete && previous.as_ref().is_none_or(|p| p.complete);
    let in_part = |p: &&Opened| (!p.complete && !opened.complete) || !p.state.closed.is_empty();
    if let Some(previous) = previous.as_ref().filter(in_part)
        && rests_on_closed(sent, &previous.state)
    {
        check_named(sent, &previous.state, shown, whole)?;
        return current(proved, Some(cause.event)).ok_or(ReceiptRefused::OtherChange);
    }
    let expected = match &previous {
        Some(previous) => {
            // What the DP knew from elsewhere is in the record, where everybody sees it.
            let told = |c: &&Claim| matches!(c.ground, Ground::Recycled | Ground::Stricter) || !previous.complete;
            let ground = shown.state.claim().filter(told).map(|c| c.ground);
            // The limits of the DP's policy document are not the app's to know: what the event names is what its signers allowed.
            let (now, known) = (shown.time, Known { csip: None, ground, stricter: &[], visible_max: None });
            let proposal = Proposal { event: signed, added, origin: &proved.origin, now, known };
            let before = (&previous.state, cause.previous);
            rules::apply(Some(before), proposal).map_err(|_| ReceiptRefused::NotTheChange)?
        }
        None if shown.state == RecordState::Erased => tombstone(signed, shown)?,
        None => beginning(signed, added, shown)?,
    };
    if !is_same(&expected, shown, whole) {
        return Err(ReceiptRefused::NotTheChange);
    }
    current(proved, Some(cause.event)).ok_or(ReceiptRefused::OtherChange)
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
    let State { csi, version, start, state, .. } = &opened.state;
    let has_none = *version == start.version || *state == RecordState::Erased;
    match (&receipt.previous.0, has_none, version.checked_sub(1)) {
        (None, true, _) => Ok(None),
        (Some(body), false, Some(version)) => {
            open_before(body, csi, version, &proved.vrf, cause.previous, opened.state.tenure).map(Some)
        }
        _ => Err(ReceiptRefused::OtherPrevious),
    }
}

/// Opens a record of the past. What nothing here would judge must not be there.
fn open_before(
    body: &Body,
    csi: &Csi,
    version: u32,
    vrf: &Key,
    commitment: Hash,
    tenure: u32,
) -> Result<Opened, ReceiptRefused> {
    let bears_consent =
        body.visible.iter().any(|v| v.consent.0.is_some()) || body.hidden.iter().any(|h| h.consent.0.is_some());
    if bears_consent {
        return Err(ReceiptRefused::OtherPrevious);
    }
    let opened = open_body(body, csi, version, vrf, Shown::Recipient, true)?;
    let right = opened.commitment == commitment && opened.state.tenure == tenure;
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
    csi: Csi,
    vrf: Key,
    version: u32,
    tenure: u32,
    begins: bool,
    cause: Hash,
}

impl Anchor {
    /// The version whose cause is next.
    pub const fn version(&self) -> u32 {
        self.version
    }

    fn of(opened: &Opened, vrf: Key) -> Self {
        let State { csi, version, tenure, start, .. } = &opened.state;
        let (csi, begins) = (csi.clone(), start.version == *version);
        Self { csi, vrf, version: *version, tenure: *tenure, begins, cause: opened.contents.cause }
    }

    /// Takes one step back: the event that made the anchor's version, and the record before with the anchor for the next step.
    /// That is `None` at the beginning of the tenure, or where the reader was not there yet.
    ///
    /// # Errors
    /// [`ReceiptRefused`].
    pub fn step(&self, past: &Past) -> Result<(Event, Option<(State, Self)>), ReceiptRefused> {
        if !opens(&self.cause, &past.cause_salt, &encode(&past.cause)) {
            return Err(ReceiptRefused::OtherChange);
        }
        let event = past.cause.event.clone();
        match (&past.previous.0, self.version.checked_sub(1)) {
            (None, _) => Ok((event, None)),
            (Some(body), Some(version)) if !self.begins => {
                let opened = open_before(body, &self.csi, version, &self.vrf, past.cause.previous, self.tenure)?;
                let anchor = Self::of(&opened, self.vrf);
                Ok((event, Some((opened.state, anchor))))
            }
            _ => Err(ReceiptRefused::OtherPrevious),
        }
    }
}

/// Only a receipt for a key whose mappings are all new may leave hidden slots unopened; and only mappings that are older than all
/// of the key's own may be closed to it.
fn check_complete(opened: &Opened, by: &Key, now: UnixMillis) -> Result<(), ReceiptRefused> {
    if !is_established(opened, by, now) {
        return Ok(());
    }
    let state = &opened.state;
    let own = state.held.iter().filter(|h| h.mapping.recipient == *by);
    let first = own.map(|h| h.standing.since_version).min();
    let is_older = |slot: &Slot| first.is_some_and(|first| slot.standing.since_version < first);
    if opened.complete && state.closed.iter().all(is_older) { Ok(()) } else { Err(ReceiptRefused::Incomplete) }
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
    let tbs = &sent.event.tbs;
    let stays = || previous.held.iter().filter(|h| !tbs.removed.contains(&h.mapping.digest()));
    let is_expected = |s: &Held| stays().any(|h| h == s) || sent.added.contains(&s.mapping);
    // Lists are compared as lists: what is visible in its order, and nothing twice.
    let is_visible = |m: &&Mapping| m.tags.as_exact().is_none();
    let visible = stays().map(|h| &h.mapping).chain(sent.added).filter(is_visible);
    let same_visible = visible.eq(shown.held.iter().map(|h| &h.mapping).filter(is_visible));
    let is_open = |m: &&Mapping| m.tags.as_exact().is_some() && (whole || m.recipient == *sent.by);
    let mut must_show = stays().map(|h| &h.mapping).chain(sent.added).filter(is_open);
    let all_shown = must_show.all(|m| shown.held.iter().any(|s| s.mapping == *m));
    let closed = previous.closed.iter().filter(|slot| !tbs.removed.contains(&slot.mapping)).copied().collect();
    let same_closed = !whole || is_same_closed(closed, &shown.closed);
    let same_hidden = all_shown && same_closed;
    let right = same_visible && same_hidden && is_distinct(&shown.held) && shown.held.iter().all(is_expected);
    if right { Ok(()) } else { Err(ReceiptRefused::NotTheChange) }
}

/// Whether the same is closed, in whatever order: slots have none.
fn is_same_closed(mut expected: Vec<Slot>, shown: &[Slot]) -> bool {
    let mut shown = shown.to_vec();
    expected.sort_unstable_by_key(|slot| slot.mapping);
    shown.sort_unstable_by_key(|slot| slot.mapping);
    expected == shown
}

/// Whether the record shown is the one expected. Where hidden slots are kept closed, those shown must be expected and the
/// visible ones must be equal; whether a mapping came beside one that is not shown, or one that is not shown still stands, cannot
/// be judged then.
fn is_same(expected: &State, shown: &State, whole: bool) -> bool {
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
    let same_number = !whole || expected.held.len() == shown.held.len();
    let same_closed = is_same_closed(expected.closed.clone(), &shown.closed);
    let same_hidden = same_number && same_closed && shown.held.iter().all(is_expected);
    same_frame && same_visible && same_hidden && is_distinct(&shown.held)
}

/// Whether no mapping is there twice.
fn is_distinct(held: &[Held]) -> bool {
    held.iter().enumerate().all(|(i, h)| held[..i].iter().all(|other| other.mapping != h.mapping))
}

fn current(proved: Proved, event: Option<Event>) -> Option<Current> {
    let opened = proved.opened?;
    let anchor = Anchor::of(&opened, proved.vrf);
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
