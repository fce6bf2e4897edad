//! Making a new DP: keys, configuration, and a log of two entries. An explicit command; a missing file never makes a log.

use std::path::Path;

use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::SecretKey,
    note::{NoteSigner, Vkey},
    policy::Policy,
};
use waymark_mapping::{
    entry::{Entry, Open, Provider, ProviderAction, ProviderRole},
    names::Domain,
    trust::pin_text,
    vrf::VrfSecret,
    wire::{Extensions, Flag, Optional24},
};
use waymark_runtime::{clock::Clock, durable, keyfile, random};

use crate::{
    config::{File, StoreKind, names},
    onboarding,
    policy::{
        Document,
        shelf::{Logged, Shelf},
    },
    sequencer::{
        batch::{Intake, LogState, batch},
        commit::{Disk, commit},
        sound::Sound,
    },
    store::{Head, LogFiles, RedbRows, RowKeys, Rows},
};

/// What to make.
#[derive(Clone, Debug)]
pub struct NewDp {
    /// The configuration.
    pub file: File,
    /// Witness lines for the policy: name, key, URL.
    pub witnesses: Vec<(String, Vkey, String)>,
    /// How many of them a checkpoint needs.
    pub quorum: usize,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is something already.
    #[error("{0} is there already: a log is opened once. To start over, choose another folder and another origin")]
    Exists(String),
    /// The configuration is no good.
    #[error("{0}")]
    Config(String),
    /// Something could not be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] keyfile::KeyFileError),
    /// The first two entries could not be logged.
    #[error("the log could not be opened: {0}")]
    Log(String),
}

/// Makes a DP in a folder that is empty or not there, and returns its log's key.
///
/// # Errors
/// [`InitError`].
pub fn init(dir: &Path, new: &NewDp, clock: &Clock) -> Result<Vkey, InitError> {
    for name in [names::CONFIG, names::HEAD, names::KEYS, names::LOG] {
        if dir.join(name).exists() {
            return Err(InitError::Exists(dir.join(name).display().to_string()));
        }
    }
    // What will not be read later is not written now.
    let (domain, origin, key_name) = new.file.check().map_err(InitError::Config)?;
    durable::private_folder(dir)?;
    durable::private_folder(&dir.join(names::KEYS))?;
    let key = |name: &str| keyfile::create(&dir.join(names::KEYS).join(name));
    let signer = NoteSigner::new(key_name, SecretKey::from_seed(&*key("log.key")?));
    let vrf = VrfSecret::from_seed(&*key("vrf.key")?);
    let prover = SecretKey::from_seed(&*key("prover.key")?);
    crate::keys::keep_check(dir, &*key("store.key")?)?;
    let document = Document::of(&new.file).to_text().and_then(|text| Logged::parse(text.into_bytes()));
    let document = document.map_err(|e| InitError::Config(e.to_string()))?;
    let open = Open {
        domain: domain.clone(),
        origin: (&origin).into(),
        vrf: vrf.public(),
        interval_ms: new.file.interval_ms,
        policy: document.digest,
        not_before: clock.now(),
        extensions: Extensions::NONE,
    };
    write_config(dir, new, signer.vkey(), &document, &open)?;
    open_log(dir, new, &origin, open, &signer, clock)?;
    onboarding::submit(dir, &own_prover(&domain, &origin, &prover))?;
    Ok(signer.vkey().clone())
}

fn write_config(dir: &Path, new: &NewDp, vkey: &Vkey, document: &Logged, open: &Open) -> Result<(), InitError> {
    let policy = policy_text(vkey, &new.witnesses, new.quorum);
    Policy::parse(&policy).map_err(|e| InitError::Config(e.to_string()))?;
    let toml = toml::to_string_pretty(&new.file).map_err(|e| InitError::Config(e.to_string()))?;
    durable::replace(&dir.join(names::POLICY), policy.as_bytes())?;
    durable::replace(&dir.join(names::TRUST), trust_text(&policy, open).as_bytes())?;
    durable::replace(&dir.join(names::DOCUMENT), &document.bytes)?;
    Shelf::of(dir).put(document).map_err(|e| InitError::Config(e.to_string()))?;
    durable::replace(&dir.join(names::CONFIG), toml.as_bytes())?;
    Ok(())
}

/// The policy with this log, these witnesses and this quorum.
pub fn policy_text(vkey: &Vkey, witnesses: &[(String, Vkey, String)], quorum: usize) -> String {
    let mut text = format!("log {vkey}\n");
    for (name, vkey, url) in witnesses {
        text += &format!("witness {name} {vkey} {url}\n");
    }
    let names: Vec<&str> = witnesses.iter().map(|(name, ..)| name.as_str()).collect();
    if names.is_empty() {
        text + "quorum none\n"
    } else {
        text + &format!("group quorum-group {quorum} {}\nquorum quorum-group\n", names.join(" "))
    }
}

/// The trust file that goes with a policy: it pins the open entry.
pub fn trust_text(policy: &str, open: &Open) -> String {
    let pin = pin_text(&open.origin.get(), &Hash::sha256(&[&Entry::Open(open.clone()).encode()]));
    format!("policy = \"\"\"\n{policy}\"\"\"\nmax_age_s = 600\nskew_s = 30\n\n{pin}")
}

/// Logs the open entry and the first head: "the first checkpoint is [open, head]".
fn open_log(
    dir: &Path,
    new: &NewDp,
    origin: &Origin,
    open: Open,
    signer: &NoteSigner,
    clock: &Clock,
) -> Result<(), InitError> {
    let log = |e: &dyn std::fmt::Display| InitError::Log(e.to_string());
    let state = LogState::new(origin.clone(), signer.key());
    let intake = Intake { open: Some(open), ..Intake::default() };
    let made = batch(&state, intake, clock.now(), &mut random::source()).map_err(|e| log(&e))?;
    let made = Sound::judge(&state, made).map_err(|e| log(&e))?;
    let rows = open_rows(dir, new.file.store, true).map_err(|e| log(&e))?;
    RowKeys::create(&dir.join(names::ROW_KEYS)).map_err(|e| log(&e))?;
    let head = Head::at(&dir.join(names::HEAD));
    let files = LogFiles::at(&dir.join(names::LOG)).map_err(|e| log(&e))?;
    let mut disk = Disk { rows: &*rows, head: &head, files: &files };
    commit(&mut disk, &made, &[], &[], None, signer).map_err(|e| log(&e))?;
    Ok(())
}

/// Opens the record store, or makes it.
///
/// # Errors
/// What the store said.
pub fn open_rows(dir: &Path, kind: StoreKind, create: bool) -> Result<Box<dyn Rows>, crate::store::StoreError> {
    match kind {
        #[cfg(feature = "sled")]
        StoreKind::Sled => {
            tracing::warn!("store = \"sled\" is not durable: a power cut may lose acknowledged records");
            Ok(Box::new(crate::store::SledRows::open(&dir.join(format!("{}.sled", names::ROWS)))?))
        }
        // Without the feature no configuration with sled is good.
        _ => {
            let path = dir.join(format!("{}.redb", names::ROWS));
            let rows = if create { RedbRows::create(&path)? } else { RedbRows::open(&path)? };
            Ok(Box::new(rows))
        }
    }
}

/// The DP's own entry as a prover, to be logged with the second batch.
pub fn own_prover(domain: &Domain, origin: &Origin, prover: &SecretKey) -> Provider {
    provider_entry(domain, ProviderRole::PROVER, false, 0, origin, prover)
}

/// The first provider entry for a domain in a role, signed by its key.
pub fn provider_entry(
    domain: &Domain,
    role: ProviderRole,
    publishes: bool,
    class: u8,
    origin: &Origin,
    secret: &SecretKey,
) -> Provider {
    let mut entry = Provider {
        role,
        action: ProviderAction::Add,
        domain: domain.clone(),
        class,
        publishes: Flag(publishes),
        key: secret.public().into(),
        previous_leaf: Hash::ZERO,
        by_key: Optional24(None),
        by_valid: Optional24(None),
    };
    entry.sign_by_key(origin, secret);
    entry
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use waymark_log::checkpoint::Origin;

    use super::*;
    use crate::{msp, possession::config::Codes, prover};

    #[test]
    fn a_folder_with_keys_is_its_owners_alone() {
        let root = tempfile::tempdir().unwrap();
        let (origin, name) = (Origin::new("dp.example/log").unwrap(), Domain::parse("chat.example").unwrap());
        let file: File =
            toml::from_str("domain = \"dp.example\"\norigin = \"dp.example/log\"\ncodes = \"folder\"\n").unwrap();
        let at = |name: &str| root.path().join(name);
        init(&at("dp"), &NewDp { file, witnesses: vec![], quorum: 0 }, &Clock::System).unwrap();
        msp::init(&at("msp"), &name, &origin, true, 1).unwrap();
        prover::init(&at("prover"), &name, &origin, Codes::Folder).unwrap();
        for folder in ["dp", "dp/keys", "msp", "prover"] {
            assert_eq!(fs::metadata(at(folder)).unwrap().permissions().mode() & 0o777, 0o700, "{folder}");
        }
    }
}
