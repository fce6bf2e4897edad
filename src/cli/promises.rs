//! `waymark-dp config`: changing what is promised. dp.toml and policy.toml are edited first; the log then gets a config entry.

use std::path::Path;

use waymark_log::{hash::Hash, key::SecretKey};
use waymark_mapping::audit::Audited;
use waymark_runtime::{config as toml_file, durable, keyfile};

use super::{
    End, Ended,
    dp::{load, published_entries},
};
use crate::{
    config::{File, document_of, names},
    policy::{
        change::{self, Judge},
        shelf::Shelf,
    },
    sequencer::batch::{Promise, latest_promise},
};

fn could(error: impl Into<anyhow::Error>) -> End {
    End::Could(error.into())
}

/// Writes policy.toml anew from dp.toml.
pub fn propose(dir: &Path) -> Ended {
    let path = dir.join(names::CONFIG);
    let file: File = toml_file::load(&path).map_err(could)?;
    file.check().map_err(|what| could(anyhow::anyhow!("{}: {what}", path.display())))?;
    let document = document_of(dir).map_err(could)?.document.renewed(&file);
    let text = document.to_text().map_err(could)?;
    durable::replace(&dir.join(names::DOCUMENT), text.as_bytes())?;
    println!("{}", Hash::sha256(&[text.as_bytes()]).to_hex());
    eprintln!(
        "{} says what dp.toml does. Read it, then `waymark-dp config apply`",
        dir.join(names::DOCUMENT).display()
    );
    Ok(())
}

/// Signs a config entry and puts it where the DP takes it in.
pub fn apply(dir: &Path) -> Ended {
    let settings = load(dir)?;
    let (entries, checkpoint) = published_entries(&settings)?;
    let mut log = Audited::new(settings.origin.clone(), settings.signer.key());
    log.extend(&entries, checkpoint.size, &checkpoint.root);
    let latest = latest_promise(log.open_bytes(), log.config_bytes());
    let document = &settings.policy_document;
    document.document.check(&settings.does).map_err(could)?;
    let shelf = Shelf::of(dir);
    shelf.put(document).map_err(could)?;
    let secret = SecretKey::from_seed(&*keyfile::load(&dir.join(names::KEYS).join("log.key")).map_err(could)?);
    let promise = Promise { policy: document.digest, interval_ms: settings.interval_ms };
    let entry = change::make(&settings.origin, &secret, promise, latest);
    let (origin, log_key) = (&settings.origin, settings.signer.key());
    let judge = Judge { origin, log_key: &log_key, does: &settings.does, interval_ms: settings.interval_ms };
    judge.check(&entry, latest, &shelf).map_err(could)?;
    change::submit(dir, &entry)?;
    println!("{}", document.digest.to_hex());
    eprintln!(
        "it will be logged with the next batch, and count from the head behind it; until then the logged one counts"
    );
    Ok(())
}
