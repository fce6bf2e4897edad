//! What is shown before a change is made over it: what others made since the person last looked.
//!
//! A change names the version that it is made over, and so takes on what is in it. The version is read from the DP at the last moment;
//! if it is later than the one that the person was shown (`seen.json`), they are shown what happened before anything is signed over it.

use waymark_runtime::clock::Clock;

use super::{App, End, current_if_any, show};
use crate::client::{card, mask::shown};

/// Shows the record and what has changed it since the person last saw it, remembers that they saw it, and gives its version.
pub(super) async fn show(app: &App) -> Result<u32, End> {
    println!("! the record is not the one that this app last showed you. It is now:");
    let version = match current_if_any(app).await? {
        Some(current) => {
            show::print_record(app, &current, false);
            if let Some(seen) = app.seen()? {
                show::print_steps(app, &current, Some(seen.shown)).await?;
            }
            current.state.version
        }
        // This key has no mapping in it: it sees what everybody sees.
        None => {
            let found = app.look_up().await?;
            print!("{}", card::words(found.get(), &shown(&app.csi, false), Clock::System.now()));
            let gone = || End::Could(anyhow::anyhow!("the record was there and is not shown any more: try again"));
            found.get().version.ok_or_else(gone)?
        }
    };
    app.remember_shown(version)?;
    Ok(version)
}
