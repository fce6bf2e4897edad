//! `waymark recipient watch-list`: who tells you when somebody else changes your record.

use std::path::PathBuf;

use waymark_runtime::{clock::Clock, durable};

use super::{App, End, Ended, ask, current, fetcher};
use crate::client::{
    msp::send_watch_list,
    recipient::{leaf_of, watch_list},
};

/// Renews the blind watch-list.
pub(super) async fn renew(app: &App, send: &[String], out: Option<PathBuf>, yes: bool) -> Ended {
    let current = current(app).await?;
    let own =
        current.event.as_ref().is_some_and(|e| e.authorities.iter().any(|a| a.key == app.keys.recipient.public()));
    let claimed = app.seen()?.and_then(|seen| seen.claimed);
    if claimed != Some(current.state.version) && !own && !yes {
        let question =
            format!("another key changed your record (version {} now). Was that you? [y/N] ", current.state.version);
        if ask(&question).as_deref() != Some("y") {
            println!("not claimed: whoever watches will raise an alert. See `waymark recipient history`");
            return Err(End::Alerts);
        }
    }
    let list = watch_list(app.dp.origin(), &app.keys, &current, Some(leaf_of(&current)), Clock::System.now());
    if let Some(path) = &out {
        durable::replace(path, &list.encode())?;
        println!("{}", path.display());
    }
    for url in send {
        let sent = send_watch_list(&fetcher()?, url, &list).await;
        sent.map_err(|e| End::Could(anyhow::Error::from(e).context(url.clone())))?;
        println!("{} labels are watched by {url}", list.labels.len());
    }
    app.remember_claimed(current.state.version)
}
