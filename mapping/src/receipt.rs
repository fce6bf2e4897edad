//! The recipient's judgement on a receipt: did my change happen, and nothing else?
//!
//! A receipt opens the record as it is and as it was. It is accepted only if the version is the one that was signed for and
//!
//! ```text
//! now = previous - removed + added,   exactly, visible and hidden
//! ```
//!
//! by the very function that the DP should have used ([`crate::rules::apply`]). Otherwise a DP could slip a second mapping
//! into a change that the recipient expects and that no watch-list would therefore call out. A key that is still new is
//! shown its own hidden slots only; its receipt says so (`complete` is false).

use waymark_log::{hash::Hash, time::UnixMillis};

use crate::{
    answer::Receipt,
    commitment::opens,
    event::Event,
    label::Label,
    mapping::Mapping,
    record::Standing,
    rules::{self, Held, Proposal, State},
    trust::Trust,
    verify::{Opened, Proved, Rejected, Remembered, Shown, Trail, open_body, prove},
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
    /// Whether every hidden slot was opened.
    pub complete: bool,
    /// When the head was made.
    pub head_time: UnixMillis,
    /// What to remember of the log.
    pub remember: Remembered,
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
    /// A key that is not new was not shown every hidden slot.
    #[error("hidden slots are kept from a key that may see them")]
    Incomplete,
}

/// Opens the list that somebody with possession may see, without an own change to compare it with.
///
/// # Errors
/// [`Rejected`].
pub fn open_current(
    receipt: &Receipt,
    asked: &crate::identifier::Csi,
    trust: &Trust,
    remembered: Option<&Remembered>,
    now: UnixMillis,
    trail: &mut Trail,
) -> Result<Option<Current>, Rejected> {
    let proved = prove(&receipt.now, asked, Shown::Recipient, trust, remembered, now, trail)?;
    let event = shown_event(receipt, proved.opened.as_ref())?;
    Ok(current(proved, event))
}

/// Accepts the receipt for a change, or says what is wrong with it.
///
/// # Errors
/// [`ReceiptRefused`].
pub fn accept(
    receipt: &Receipt,
    signed: &Event,
    added: &[Mapping],
    trust: &Trust,
    remembered: Option<&Remembered>,
    now: UnixMillis,
    trail: &mut Trail,
) -> Result<Current, ReceiptRefused> {
    let tbs = &signed.tbs;
    let proved = prove(&receipt.now, &tbs.csi, Shown::Recipient, trust, remembered, now, trail)?;
    let Some(opened) = &proved.opened else { return Err(ReceiptRefused::OtherChange) };
    let event = shown_event(receipt, Some(opened))?;
    if opened.state.version != tbs.version || event.as_ref() != Some(signed) {
        return Err(ReceiptRefused::OtherChange);
    }
    let previous = open_previous(receipt, signed, &proved)?;
    check_complete(opened, signed, proved.head_time)?;
    let before = previous.as_ref().map(|p| (&p.state, p.commitment));
    // The DP's clock made the change; the receipt's own times say when.
    let at = opened.state.held.iter().filter(|h| h.standing.since_version == tbs.version).map(|h| h.standing.since);
    let at = at.max().unwrap_or(proved.head_time);
    let proposal = Proposal { event: signed, added, origin: &proved.origin, now: at };
    let expected = rules::apply(before, proposal).map_err(|_| ReceiptRefused::NotTheChange)?;
    let whole = opened.complete && previous.as_ref().is_none_or(|p| p.complete);
    if !is_same(&expected, &opened.state, whole) {
        return Err(ReceiptRefused::NotTheChange);
    }
    current(proved, event).ok_or(ReceiptRefused::OtherChange)
}

fn shown_event(receipt: &Receipt, opened: Option<&Opened>) -> Result<Option<Event>, Rejected> {
    let Some(event) = &receipt.event.0 else { return Ok(None) };
    let right = opened.is_some_and(|o| opens(&o.record.recipient_only, &receipt.event_salt, &encode(event)));
    if right { Ok(Some(event.clone())) } else { Err(Rejected::NotProven("the event is not the record's".to_owned())) }
}

fn open_previous(receipt: &Receipt, signed: &Event, proved: &Proved) -> Result<Option<Opened>, ReceiptRefused> {
    let tbs = &signed.tbs;
    match (&receipt.previous.0, tbs.version.checked_sub(1)) {
        (None, None) => Ok(None),
        (Some(body), Some(version)) => {
            // What nothing here would judge must not be there.
            let bears_consent =
                body.visible.iter().any(|v| v.consent.0.is_some()) || body.hidden.iter().any(|h| h.consent.0.is_some());
            if bears_consent {
                return Err(ReceiptRefused::OtherPrevious);
            }
            let opened = open_body(body, &tbs.csi, version, &proved.vrf, Shown::Recipient)?;
            let right = opened.commitment == tbs.previous;
            if right { Ok(Some(opened)) } else { Err(ReceiptRefused::OtherPrevious) }
        }
        _ => Err(ReceiptRefused::OtherPrevious),
    }
}

/// Only a receipt for keys that are all new may keep hidden slots closed.
fn check_complete(opened: &Opened, signed: &Event, now: UnixMillis) -> Result<(), ReceiptRefused> {
    let is_signer = |h: &Held| signed.authorities.iter().any(|a| a.key == h.mapping.recipient);
    let established = opened.state.held.iter().any(|h| is_signer(h) && !h.standing.is_new_at(now));
    if opened.complete || !established { Ok(()) } else { Err(ReceiptRefused::Incomplete) }
}

/// Whether the record shown is the one expected. Where hidden slots are kept closed, those shown must be expected and the
/// visible ones must be equal; whether a mapping came beside one that is not shown cannot be judged then.
fn is_same(expected: &State, shown: &State, whole: bool) -> bool {
    let same_frame = expected.version == shown.version
        && expected.tenure == shown.tenure
        && expected.start == shown.start
        && expected.state == shown.state;
    let alike = |e: &Held, s: &Held| {
        let unseen = !whole && e.standing.since_version == expected.version;
        let newcomer = if unseen { s.standing.newcomer } else { e.standing.newcomer };
        e.mapping == s.mapping && Standing { newcomer, ..e.standing } == s.standing
    };
    let is_expected = |s: &Held| expected.held.iter().any(|e| alike(e, s));
    let is_shown = |e: &Held| shown.held.iter().any(|s| alike(e, s));
    let all_shown = expected.held.iter().filter(|h| whole || !h.is_hidden()).all(is_shown);
    same_frame && shown.held.iter().all(is_expected) && all_shown
}

fn current(proved: Proved, event: Option<Event>) -> Option<Current> {
    let opened = proved.opened?;
    Some(Current {
        state: opened.state,
        commitment: opened.commitment,
        label: proved.label?,
        watched: proved.watched,
        event,
        complete: opened.complete,
        head_time: proved.head_time,
        remember: proved.remember,
    })
}
