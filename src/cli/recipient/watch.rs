//! `waymark recipient watch-list`: who tells you when somebody else changes your record.

use std::path::PathBuf;

use waymark_mapping::{
    receipt::Current,
    watch::{WATCH_LIST_BYTES_MAX, WatchList},
};
use waymark_runtime::{clock::Clock, durable};

use super::{App, End, Ended, ask, current_if_any, fetcher, nothing_here, show};
use crate::client::{
    msp::send_watch_list,
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

/// Renews the blind watch-list, or ends it.
pub(super) async fn renew(app: &App, send: &[String], out: Option<PathBuf>, yes: bool) -> Ended {
    let Some(current) = current_if_any(app).await? else {
        let last = durable::read(&app.dir.join(LAST), WATCH_LIST_BYTES_MAX)?;
        let Some(last) = last.and_then(|bytes| WatchList::decode(&bytes).ok()) else { return nothing_here() };
        return hand_out(&last, send, out).await;
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
    hand_out(&list, send, out).await?;
    app.remember_claimed(&current)
}

async fn hand_out(list: &WatchList, send: &[String], out: Option<PathBuf>) -> Ended {
    if let Some(path) = &out {
        durable::replace(path, &list.encode())?;
        println!("{}", path.display());
    }
    for url in send {
        let sent = send_watch_list(&fetcher()?, url, list).await;
        sent.map_err(|e| End::Could(anyhow::Error::from(e).context(url.clone())))?;
        println!("{} labels are watched by {url}", list.labels.len());
    }
    Ok(())
}
