//! `waymark recipient history`, `export`, `show-key`: what the DP keeps, and what others may compare.

use std::path::Path;

use waymark_mapping::{mapping::Purpose, receipt::Current};
use waymark_runtime::{clock::Clock, durable};

use super::{App, End, Ended, current};
use crate::client::{
    card,
    key_text::{Fingerprint, KeyText},
    mask::shown,
    memory::LogMemory,
    recipient::{PAST_STEPS_MAX, RecipientError, past_of_latest, past_reaches},
};

/// What is registered, as this app may see it; with `all`, what was before. Alerts if somebody else changed it.
pub(super) async fn history(app: &App, in_full: bool, all: bool) -> Ended {
    let current = current(app).await?;
    let version = current.state.version;
    print_record(app, &current, in_full);
    if all {
        print_steps(app, &current, None).await?;
    }
    app.remember_shown(version, Some(current.commitment))?;
    match app.seen()?.and_then(|seen| seen.claimed) {
        Some(claimed) if claimed < version => {
            println!("! {} changes since the last one by this app; --all shows them", version - claimed);
            Err(End::Alerts)
        }
        _ => Ok(()),
    }
}

/// The record as it is.
pub(super) fn print_record(app: &App, current: &Current, in_full: bool) {
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
    match (current.complete, state.closed.len()) {
        (true, 0) => {}
        (true, closed) => println!("  and hidden mappings of other keys from before this app came: {closed}"),
        (false, _) => println!("  what other keys hide is not shown: this app's key is new here"),
    }
    if let Some(claim) = state.state.claim() {
        let who = if claim.key == app.keys.recipient.public() { "this app" } else { "another key" };
        println!("! CONTESTED: {who} claims the identifier, until {}", card::date(claim.until));
    }
}

/// What made each version, newest first, back to the one `after` which the person has seen already. If the record was changed meanwhile, it
/// is shown anew.
pub(super) async fn print_steps(app: &App, current: &Current, after: Option<u32>) -> Ended {
    let read = async |memory: &mut LogMemory| {
        let read = past_of_latest(&app.dp, &app.keys.recipient, current, after, &app.trust, memory).await;
        match read {
            Err(RecipientError::Client(e)) if e.code() == Some("no-record") => Ok(None),
            read => read.map(Some),
        }
    };
    let Some((newer, steps)) = app.remembering(read).await? else {
        println!("  what was changed before is not shown to a key that is new here");
        return Ok(());
    };
    if let Some(newer) = &newer {
        println!("! the record was changed while it was read. It is now:");
        print_record(app, newer, false);
    }
    let current = newer.as_ref().unwrap_or(current);
    let own = app.keys.recipient.public();
    let (first, reached) = (past_reaches(current, &own, after), steps.last().map(|step| step.version));
    let count = steps.len();
    for step in steps {
        let by = if step.event.is_signed_by(&own) { "this app" } else { "another key" };
        let before = step.before.map_or(String::new(), |s| format!(", {} mappings before", s.held.len()));
        println!("  version {}: {} by {by}{before}", step.version, step.event.tbs.kind.describe());
    }
    let is_all = reached.map_or(current.state.version < first, |reached| reached <= first);
    if count >= PAST_STEPS_MAX && !is_all {
        println!("  and more before: only the last {count} changes are shown");
    } else if !is_all {
        println!("! the DP shows nothing earlier, though this app may see what happened since version {first}");
    }
    Ok(())
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
