//! `waymark recipient watch-list`, `waymark recipient alerts`: who tells you when somebody else changes your record, and what they
//! saw.

use std::path::PathBuf;

use waymark_mapping::{
    receipt::Current,
    watch::{WATCH_LIST_BYTES_MAX, WatchList},
};
use waymark_runtime::{clock::Clock, durable};

use super::{App, End, Ended, ask, current_if_any, fetcher, nothing_here, show};
use crate::client::{
    self, ClientError,
    msp::{MspClient, send_watch_list},
    recipient::{leaf_of, retirement, watch_list},
};

/// The list that an app leaves behind with its last mapping: it claims that change and watches nothing.
const LAST: &str = "last.watch-list";

/// Keeps the list with which an app that has no mapping any more takes its watch-list along. Nobody could make it later: the record is
/// then not shown to this key.
pub(super) fn keep_last(app: &App, current: &Current) -> Ended {
    let list = retirement(app.dp.origin(), &app.keys, current, Clock::System.now());
    Ok(durable::replace_private(&app.dir.join(LAST), &list.encode())?)
}

/// Where a list goes.
pub(super) struct Places {
    /// URLs of monitors.
    pub(super) monitors: Vec<String>,
    /// URLs of adapters at which the app has an account.
    pub(super) msps: Vec<String>,
    /// A file.
    pub(super) out: Option<PathBuf>,
}

/// Renews the blind watch-list, or ends it.
pub(super) async fn renew(app: &App, to: &Places, yes: bool) -> Ended {
    let Some(current) = current_if_any(app).await? else {
        let last = durable::read(&app.dir.join(LAST), WATCH_LIST_BYTES_MAX)?;
        let Some(last) = last.and_then(|bytes| WatchList::decode(&bytes).ok()) else { return nothing_here() };
        return hand_out(app, &last, to).await;
    };
    let own = current.event.as_ref().is_some_and(|e| e.is_signed_by(&app.keys.recipient.public()));
    let claimed = app.seen()?.and_then(|seen| seen.claimed);
    if claimed != Some(current.state.version) && !own && !yes {
        println!("! another key changed your record. It is now:");
        show::print_record(app, &current, false);
        show::print_steps(app, &current, claimed).await?;
        let question = "Was all of that you? Then nobody will raise an alert about it. [y/N] ";
        if ask(question).as_deref() != Some("y") {
            println!("not claimed: whoever watches will raise an alert. See `waymark recipient history`");
            return Err(End::Alerts);
        }
    }
    let list = watch_list(app.dp.origin(), &app.keys, &current, Some(leaf_of(&current)), Clock::System.now());
    hand_out(app, &list, to).await?;
    app.remember_claimed(&current)
}

async fn hand_out(app: &App, list: &WatchList, to: &Places) -> Ended {
    if let Some(path) = &to.out {
        durable::replace(path, &list.encode())?;
        println!("{}", path.display());
    }
    for url in &to.monitors {
        said(list, url, send_watch_list(&fetcher()?, url, list).await)?;
    }
    for url in &to.msps {
        let msp = MspClient::new(fetcher()?, url, app.dp.origin().clone(), Clock::System);
        said(list, url, msp.watch(&app.keys.recipient, list).await)?;
    }
    Ok(())
}

fn said(list: &WatchList, url: &str, sent: Result<(), ClientError>) -> Ended {
    sent.map_err(|e| End::Could(anyhow::Error::from(e).context(url.to_owned())))?;
    println!("{} labels are watched by {url}", list.labels.len());
    Ok(())
}

/// Asks a monitor what it saw under the app's list.
pub(super) async fn alerts(app: &App, url: &str, after: u64) -> Ended {
    let (fetcher, whose) = (fetcher()?, (&app.keys.watcher, &app.keys.watch_id));
    let told = client::msp::alerts(&fetcher, url, app.dp.origin(), whose, after, &Clock::System).await;
    let told = told.map_err(|e| End::Could(anyhow::Error::from(e).context(url.to_owned())))?;
    for alert in &told.alerts {
        let entry = alert.entry.map(|entry| format!(" by entry {entry}")).unwrap_or_default();
        println!("! alert {}{entry}: {}", alert.id, alert.what_to_do);
    }
    println!("{} alerts so far, {} of them shown", told.raised, told.alerts.len());
    let Some(last) = told.alerts.last() else { return Ok(()) };
    eprintln!(
        "next: waymark recipient history --dir {}; to see later ones only: --after {}",
        app.dir.display(),
        last.id
    );
    Err(End::Alerts)
}
