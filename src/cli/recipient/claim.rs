//! `waymark recipient claim`, `object`, `take-over`: an identifier that changes hands.

use waymark_mapping::event::EventKind;

use super::{App, Ended, IssueArgs, change::wanted, current, make};
use crate::client::recipient::Wish;

/// Puts a claim down. Nobody is evicted yet; whoever watches is told.
pub(super) async fn claim(app: &App) -> Ended {
    let signers = [(&app.keys.recipient, Some(app.attestation()?))];
    make(app, Wish { signers: &signers, ..app.wish(EventKind::NewHolderPending)? }).await?;
    println!("claimed: look-ups show the identifier as contested until the hold is over");
    println!("then: waymark recipient prove --for-claim, and take-over");
    Ok(())
}

/// Objects to a claim. With possession it ends, and what the claimant added goes.
pub(super) async fn object(app: &App, stop: bool) -> Ended {
    let current = current(app).await?;
    let claimant = current.state.state.claim().map(|c| c.key);
    let of_claimant = current.state.held.iter().filter(|h| Some(h.mapping.recipient) == claimant);
    let removed: Vec<_> = match stop {
        true => of_claimant.map(|h| h.mapping.digest()).collect(),
        false => vec![],
    };
    let possession = if stop { Some(app.attestation()?) } else { None };
    let signers = [(&app.keys.recipient, possession)];
    make(app, Wish { removed: &removed, signers: &signers, ..app.wish(EventKind::Objection)? }).await
}

/// Begins the next tenure with a mapping of this app's.
pub(super) async fn take_over(app: &App, args: &IssueArgs) -> Ended {
    let added = [wanted(app, args).await?];
    let signers = [(&app.keys.recipient, None)];
    make(app, Wish { added: &added, signers: &signers, ..app.wish(EventKind::NewHolder)? }).await
}
