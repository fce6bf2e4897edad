//! What is shown before a change is made over it: what others made since the person last looked.
//!
//! A change names the version that it is made over, and so accepts what is in it. The version is read from the DP at the last moment;
//! if it is later than the one that the person was shown (`seen.json`), they are shown what happened before anything is signed over it.

use waymark_runtime::clock::Clock;

use super::{App, End, current_if_any, show};
use crate::client::{card, mask::shown};

/// Shows the record and what has changed it since the person last saw it, remembers that they saw it, and gives its version.
pub(super) async fn show(app: &App) -> Result<u32, End> {
    let shown_before = app.seen()?.map(|seen| seen.shown);
    match shown_before {
        Some(version) => {
            println!("! the record was changed since this app showed it to you (version {version}). It is now:")
        }
        None => println!("! there is a record already, which this app has not shown you yet:"),
    }
    let (version, commitment) = match current_if_any(app).await? {
        Some(current) => {
            show::print_record(app, &current, false);
            if shown_before.is_some() {
                show::print_steps(app, &current, shown_before).await?;
            }
            (current.state.version, Some(current.commitment))
        }
        // This key has no mapping in it: it sees what everybody sees.
        None => {
            let found = app.look_up().await?;
            print!("{}", card::words(found.get(), &shown(&app.csi, false), Clock::System.now()));
            let gone = || End::Could(anyhow::anyhow!("the record was there and is not shown any more: try again"));
            (found.get().version.ok_or_else(gone)?, found.get().commitment)
        }
    };
    app.remember_shown(version, commitment)?;
    Ok(version)
}
