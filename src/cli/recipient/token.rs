//! `waymark recipient token`, `revoke`: for a phone that is lost one day.

use std::path::Path;

use waymark_mapping::{
    event::{EVENT_BYTES_MAX, Event},
    wire::{decode, encode},
};
use waymark_runtime::{clock::Clock, durable};

use super::{App, End, Ended, fetcher};
use crate::{
    cli::{origin_of, read_trust},
    client::{
        dp::DpClient,
        recipient::{RecipientError, revocation},
    },
};

/// Signs a revocation of this app's key and writes it down, mode 0600.
pub(super) async fn prepare(app: &App, out: &Path) -> Ended {
    let seen = app.look_up().await?;
    let tenure = seen.get().tenure.ok_or(End::Nothing)?;
    let token = revocation(app.dp.origin(), &app.keys.recipient, &app.csi, tenure, Clock::System.now());
    durable::replace_private(out, &encode(&token))?;
    println!("{}", out.display());
    eprintln!(
        "keep it where the phone is not. It names the identifier, and whoever has it can end this app's mappings"
    );
    Ok(())
}

/// Hands a revocation in. The DP says the same whether it fitted or not; a look-up shows.
pub(super) async fn hand_in(path: &Path, dp: String, trust: &Path) -> Ended {
    let missing = || End::Could(anyhow::anyhow!("{}: there is no such file", path.display()));
    let bytes = durable::read(path, EVENT_BYTES_MAX)?.ok_or_else(missing)?;
    let token: Event = decode("event", &bytes).map_err(|e| End::Could(e.into()))?;
    let origin = origin_of(&read_trust(trust)?)?;
    let dp = DpClient::new(fetcher()?, &dp, origin, Clock::System);
    dp.revoke(&token).await.map_err(RecipientError::from)?;
    println!("handed in: if the key had mappings, they are gone from the next look-up on");
    Ok(())
}
