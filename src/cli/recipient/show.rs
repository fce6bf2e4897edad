//! `waymark recipient history`, `export`, `show-key`: what the DP keeps, and what others may compare.

use std::path::Path;

use waymark_mapping::mapping::Purpose;
use waymark_runtime::{clock::Clock, durable};

use super::{App, End, Ended, current};
use crate::client::{
    card,
    key_text::{Fingerprint, KeyText},
    mask::shown,
    recipient::{RecipientError, past},
};

/// What is registered, as this app may see it; with `all`, what was before.
pub(super) async fn history(app: &App, in_full: bool, all: bool) -> Ended {
    let current = current(app).await?;
    let state = &current.state;
    println!("{}: version {}, tenure {}", shown(&app.csi, in_full), state.version, state.tenure);
    let now = Clock::System.now();
    for held in &state.held {
        let m = &held.mapping;
        let mine = if m.recipient == app.keys.recipient.public() { "this app" } else { "another key" };
        let new = if state.is_new_at(held, now) { ", NEW" } else { "" };
        let hidden = if held.is_hidden() { ", hidden" } else { "" };
        let msp = m.msp.get().map_or("opted out".to_owned(), |d| d.to_string());
        println!("  {msp}  {}  by {mine}{new}{hidden}, since {}", m.account.expose(), card::date(held.standing.since));
        println!("    {}", m.digest().to_hex());
    }
    if let Some(claim) = state.state.claim() {
        println!("! CONTESTED: another key claims the identifier, until {}", card::date(claim.until));
    }
    if all {
        for step in past(&app.dp, &app.keys.recipient, &current).await? {
            let by = step.event.authorities.iter().any(|a| a.key == app.keys.recipient.public());
            let by = if by { "this app" } else { "another key" };
            let before = step.before.map_or(String::new(), |s| format!(", {} mappings before", s.held.len()));
            println!("  version {}: {} by {by}{before}", step.version, step.event.tbs.kind.describe());
        }
    }
    match app.seen()? {
        Some(seen) if seen.version < state.version => {
            println!("! {} changes since this app last looked", state.version - seen.version);
            Err(End::Alerts)
        }
        _ => Ok(()),
    }
}

/// Everything that the DP keeps about the identifier and this key may see.
pub(super) async fn export(app: &App, out: &Path) -> Ended {
    // A proof of possession for looking opens what everybody sees, to somebody whose keys are lost.
    let possession = app.attestation().ok().filter(|p| p.purpose == Purpose::View);
    let export = app.dp.export(&app.keys.recipient, &app.csi, possession.as_ref()).await;
    let bytes = export.map_err(RecipientError::from)?;
    durable::replace_private(out, &bytes)?;
    println!("{}", out.display());
    Ok(())
}

/// Only a key that has a mapping is shown: there would be nothing to compare another with.
pub(super) async fn key(app: &App) -> Ended {
    let current = current(app).await?;
    let origin = app.dp.origin().clone();
    let fingerprint = Fingerprint::of(&origin, &app.csi, &app.keys.recipient.public());
    let text = KeyText { origin, size: current.tree.0, fingerprint };
    println!("{text}\n{}", text.to_qr());
    eprintln!("whoever looks you up gives this text to: waymark lookup ... --compare TEXT");
    Ok(())
}
