//! What a provider says about a CSI in its own role: an MSP that it no longer serves a mapping, a CSIP that it took the CSI back,
//! the DP that it withholds a mapping. Each is an event over the current version, signed with the provider's key.

use waymark_log::{hash::Hash, key::SecretKey};
use waymark_mapping::{
    event::{AuthorityRole, Event, EventKind, EventTbs},
    identifier::Csi,
    trust::Trust,
    verify::{Asked, Lookup, Trail, Verified, verify},
    wire::{Format, List24},
};
use waymark_runtime::random;

use super::{
    dp::DpClient,
    memory::LogMemory,
    recipient::{RecipientError, look_up},
};
use crate::api::ChangeRequest;

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Something about one mapping, by its digest: not served any more, for a reason other than 0; or served again, with 0.
    Serves(Hash, u8),
    /// The CSI is taken back.
    Release,
}

/// Says it, and verifies what everybody sees afterwards.
///
/// # Errors
/// [`RecipientError`].
pub async fn state(
    dp: &DpClient,
    secret: &SecretKey,
    role: AuthorityRole,
    csi: &Csi,
    statement: Statement,
    trust: &Trust,
) -> Result<Verified<Lookup>, RecipientError> {
    let asked = Asked { origin: dp.origin().clone(), csi: csi.clone(), tag: None };
    let (current, _) = look_up(dp, &asked, trust, None, &mut Trail::default()).await?;
    let mut memory = LogMemory::new(None, Some(dp.log()));
    memory.take(current.recall()).await?;
    let event = sign(dp, secret, role, csi, statement, current.get())?;
    let request = ChangeRequest { event, added: List24::empty(), consents: List24::empty() };
    let answer = dp.state(secret, &request).await?;
    let verified = verify(&answer, &asked, trust, memory.remembered(), dp.clock().now(), &mut Trail::default())?;
    memory.take(verified.recall()).await?;
    Ok(verified)
}

fn sign(
    dp: &DpClient,
    secret: &SecretKey,
    role: AuthorityRole,
    csi: &Csi,
    statement: Statement,
    current: &Lookup,
) -> Result<Event, RecipientError> {
    let nothing = RecipientError::Wish("there is nothing under the identifier to say something about");
    let (Some(version), Some(previous), Some(tenure)) = (current.version, current.commitment, current.tenure) else {
        return Err(nothing);
    };
    let (added, removed, reason) = match statement {
        Statement::Serves(mapping, 0) => (vec![mapping], vec![], 0),
        Statement::Serves(mapping, reason) => (vec![], vec![mapping], reason),
        Statement::Release => (vec![], vec![], 0),
    };
    let kind = match role {
        AuthorityRole::Msp => EventKind::MspDetach,
        AuthorityRole::Dp => EventKind::DpUnserve,
        AuthorityRole::Csip | AuthorityRole::Recipient => EventKind::Release,
    };
    let fits = || RecipientError::Wish("too many mappings");
    let tbs = EventTbs {
        format: Format,
        kind,
        csi: csi.clone(),
        tenure,
        version: version + 1,
        previous,
        added: List24::new(added).ok_or_else(fits)?,
        removed: List24::new(removed).ok_or_else(fits)?,
        reason,
        time: dp.clock().now(),
        nonce: random::bytes(),
    };
    let authority = tbs.sign_as(role, dp.origin(), secret);
    Ok(Event { tbs, authorities: List24::new(vec![authority]).ok_or_else(fits)? })
}
