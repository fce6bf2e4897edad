//! What a monitor is told to do, and what it is then to follow: contradictions show here, before anything is opened.

use std::{net::SocketAddr, path::PathBuf};

use waymark_log::{
    checkpoint::{CheckpointError, Origin, SignedCheckpoint},
    key::Key,
    note::{KeyName, Note, Vkey},
    policy::PolicyLog,
};
use waymark_mapping::trust::Trust;
use waymark_runtime::{
    fetch::{ExtraRoots, check_url},
    proxies::Proxies,
    tls::TlsFiles,
};

/// What a monitor is told to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it keeps everything; made if it is not there.
    pub data_dir: PathBuf,
    /// Its listener. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where it tells health and metrics, if anywhere.
    pub operations: Option<SocketAddr>,
    /// Certificate and key: without them it does not listen beyond loopback.
    pub tls: Option<TlsFiles>,
    /// The proxies that say whose request it is.
    pub proxies: Proxies,
    /// Whose certificates are believed besides, when logs and copies are read.
    pub roots: ExtraRoots,
    /// What it follows.
    pub logs: Vec<FollowedLog>,
    /// Pause between two looks at a log or a copy, in milliseconds.
    pub poll_ms: u64,
    /// How long the holder of a watch-list may claim a hit, in milliseconds.
    pub renew_within_ms: u64,
    /// Memory that the replay of one log may take, in bytes.
    pub log_memory_bytes: u64,
}

/// A log to be followed.
#[derive(Clone, Debug)]
pub struct FollowedLog {
    /// Whose signatures count. If its policy names several logs, `url` must be that of one of them.
    pub trust: Trust,
    /// The log's prefix.
    pub url: String,
    /// Witnesses by their names in the policy, and the prefixes under which they show their own copies. A witness that is
    /// not named here is read under the URL in the policy, if it gives one.
    pub witnesses: Vec<(String, String)>,
}

/// A log and where it is seen.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) origin: Origin,
    /// Keys under which it signs, the first one from the start.
    pub(crate) keys: Vec<Vkey>,
    /// The first of them.
    pub(crate) log_key: Key,
    pub(crate) trust: Trust,
    /// Without a final slash.
    pub(crate) url: String,
    pub(crate) copies: Vec<CopyPlace>,
}

/// Where a witness shows its own copy.
#[derive(Debug)]
pub(crate) struct CopyPlace {
    /// The witness's name in the policy.
    pub(crate) witness: String,
    pub(crate) vkey: Vkey,
    /// Of the copy itself.
    pub(crate) url: String,
}

impl Target {
    /// Opens a note as a checkpoint that this log has signed.
    pub(crate) fn open(&self, bytes: &[u8]) -> Result<(Note, SignedCheckpoint), CheckpointError> {
        let note = Note::parse(bytes)?;
        let signed = SignedCheckpoint::open(&note, &self.origin, &self.keys)?;
        Ok((note, signed))
    }
}

/// What is to be followed, or what is wrong with it, in words.
pub(crate) fn targets(logs: Vec<FollowedLog>) -> Result<Vec<Target>, String> {
    let mut targets: Vec<Target> = Vec::new();
    for log in logs {
        let target = target(log)?;
        if targets.iter().any(|t| t.origin == target.origin) {
            return Err(format!("{} is followed twice", target.origin));
        }
        targets.push(target);
    }
    if targets.is_empty() {
        return Err("there is no log to follow".to_owned());
    }
    Ok(targets)
}

/// What is followed, from what the settings say.
fn target(log: FollowedLog) -> Result<Target, String> {
    let url = prefix(&log.url)?;
    let name = log_name(&log.trust, &url)?;
    let origin = Origin::new(name.as_str()).map_err(|e| e.to_string())?;
    let policy = log.trust.policy();
    let logs = policy.logs().iter().filter(|l| *l.vkey.name() == name);
    let log_key = logs.clone().map(|l| l.key).next().ok_or_else(|| format!("the policy names no log {name}"))?;
    let keys: Vec<Vkey> = logs.map(|l| l.vkey.clone()).collect();
    for (witness, _) in &log.witnesses {
        if !policy.witnesses().iter().any(|w| w.name == *witness) {
            return Err(format!("the policy names no witness {witness:?}"));
        }
    }
    let mut copies = Vec::new();
    for witness in policy.witnesses() {
        let told = log.witnesses.iter().find(|(name, _)| *name == witness.name).map(|(_, url)| url);
        if let Some(at) = told.or(witness.url.as_ref()) {
            let url = format!("{}/{}/checkpoint", prefix(at)?, origin.hash_hex());
            copies.push(CopyPlace { witness: witness.name.clone(), vkey: witness.vkey.clone(), url });
        }
    }
    Ok(Target { origin, keys, log_key, trust: log.trust, url, copies })
}

/// A URL prefix without its final slash.
fn prefix(url: &str) -> Result<String, String> {
    let url = url.trim_end_matches('/');
    if url.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(format!("not an http URL: {url:?}"));
    }
    check_url(url).map_err(|error| format!("{error}: {url:?}"))?;
    Ok(url.to_owned())
}

/// The one log of the policy, or the one that the policy gives this URL.
fn log_name(trust: &Trust, url: &str) -> Result<KeyName, String> {
    let logs = trust.policy().logs();
    let first = logs.first().ok_or("the policy names no log")?;
    if logs.iter().all(|l| l.vkey.name() == first.vkey.name()) {
        return Ok(first.vkey.name().clone());
    }
    let at_url = |l: &&PolicyLog| l.url.as_ref().is_some_and(|u| u.trim_end_matches('/') == url);
    let found = logs.iter().find(at_url).map(|l| l.vkey.name().clone());
    found.ok_or_else(|| format!("the policy names several logs, and none of them at {url}"))
}
