//! `waymark log`: any C2SP log, judged by a trust file.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use waymark_log::{hash::Hash, policy::CosignedCheckpoint};
use waymark_mapping::{entry::Entry, trust::Trust};
use waymark_runtime::{
    clock::Clock,
    follow::LogReader,
    screen::{self, OneLine},
};

use super::{End, Ended, fetcher, read_trust};
use crate::client::logs::{self, LogError};

/// Read a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// The checkpoint and who cosigned it.
    Head(Source),
    /// One entry, decoded, and its proof in C2SP's tlog-proof format.
    Entry {
        /// Its index.
        index: u64,
        #[command(flatten)]
        source: Source,
    },
    /// Proof that the log of an earlier size is a prefix of the log as it is.
    Consistency {
        /// The earlier size.
        old: u64,
        #[command(flatten)]
        source: Source,
    },
}

/// Which log.
#[derive(Debug, Args)]
pub struct Source {
    /// The log's URL prefix.
    #[arg(long, env = "WAYMARK_LOG_URL")]
    url: String,
    /// Whom to believe.
    #[arg(long, env = "WAYMARK_TRUST")]
    trust: PathBuf,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

impl From<LogError> for End {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unmet(e) => Self::NotMet(e.to_string()),
            LogError::Proof(e) => Self::Failed(e.to_string()),
            LogError::TooSmall(_) => Self::Usage(error.to_string()),
            LogError::Follow(e) => Self::Could(e.into()),
        }
    }
}

pub async fn run(command: LogCommand) -> Ended {
    let source = match &command {
        LogCommand::Head(source) | LogCommand::Entry { source, .. } | LogCommand::Consistency { source, .. } => source,
    };
    let trust = read_trust(&source.trust)?;
    let reader = LogReader::new(fetcher()?, &source.url);
    let now = Clock::System.now().floor_seconds();
    let cosigned = logs::head(&reader, trust.policy(), now, trust.freshness()).await?;
    match command {
        LogCommand::Head(source) => head(&cosigned, &trust, source.json)?,
        LogCommand::Entry { index, source } => {
            let (bytes, proof) = logs::entry(&reader, &cosigned, index).await?;
            entry(index, &bytes, &proof.format(), source.json)?;
        }
        LogCommand::Consistency { old, source } => {
            let (root, proof) = logs::consistency(&reader, &cosigned, old).await?;
            consistency(old, root, &cosigned, &proof, source.json);
        }
    }
    Ok(())
}

fn entry(index: u64, bytes: &[u8], proof: &str, json: bool) -> Ended {
    let facts = Entry::decode(bytes).map_or_else(|e| json!({"kind": "unknown", "error": e.to_string()}), |e| facts(&e));
    if json {
        println!("{}", json!({"index": index, "entry": HEXLOWER.encode(bytes), "decoded": facts, "proof": proof}));
        return Ok(());
    }
    for (field, value) in facts.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        eprintln!("{field:14} {}", OneLine(value));
    }
    Ok(screen::exact(proof)?)
}

/// What an entry says, in the names of FORMATS.md; signatures are left out.
fn facts(entry: &Entry) -> Value {
    match entry {
        Entry::Open(e) => json!({
            "kind": "open", "domain": e.domain.as_str(), "origin": e.origin.get().as_str(), "vrf": e.vrf.to_hex(),
            "interval_ms": e.interval_ms, "policy": e.policy.to_hex(), "not_before_ms": e.not_before.get(),
        }),
        Entry::Config(e) => json!({
            "kind": "config", "interval_ms": e.interval_ms, "policy": e.policy.to_hex(), "log_key": e.log_key.to_hex(),
            "previous": e.previous.to_hex(),
        }),
        Entry::Provider(e) => json!({
            "kind": "provider", "role": e.role.to_string(),
            "action": format!("{:?}", e.action).to_lowercase(), "domain": e.domain.as_str(), "class": e.class,
            "publishes": e.publishes.0, "key": e.key.to_hex(), "previous_leaf": e.previous_leaf.to_hex(),
        }),
        Entry::Consent(e) => json!({
            "kind": "consent", "msp": e.msp.as_str(), "msp_key": e.msp_key.to_hex(), "blinded": e.blinded.to_hex(),
            "expiry_ms": e.expiry.get(),
        }),
        Entry::Change(e) => json!({"kind": "change", "label": e.label.0.to_hex(), "commitment": e.commitment.to_hex()}),
        Entry::Head(e) => json!({
            "kind": "head", "time_ms": e.time.get(), "changes": e.changes, "map_root": e.map_root.to_hex(),
            "open": e.open.to_hex(), "config": e.config.to_hex(), "provider_root": e.provider_root.to_hex(),
        }),
        Entry::Close(e) => json!({
            "kind": "close", "time_ms": e.time.get(), "successor": String::from_utf8_lossy(e.successor.as_slice()),
            "successor_open": e.successor_open.to_hex(),
        }),
        Entry::Carry(e) => json!({
            "kind": "carry", "origin": e.origin.get().as_str(), "size": e.size, "root": e.root.to_hex(),
            "open": e.open.to_hex(), "close": e.close.to_hex(), "log_key": e.log_key.to_hex(),
        }),
        Entry::Skipped(e) => json!({"kind": e.kind()}),
    }
}

fn consistency(old: u64, root: Hash, cosigned: &CosignedCheckpoint, proof: &[Hash], json: bool) {
    let (size, new_root) = (cosigned.size(), cosigned.root());
    if json {
        let proof: Vec<String> = proof.iter().map(|h| h.to_base64()).collect();
        let (old_root, new_root) = (root.to_base64(), new_root.to_base64());
        println!("{}", json!({"old": old, "old_root": old_root, "new": size, "new_root": new_root, "proof": proof}));
    } else {
        println!("{size} entries extend {old} entries: root {root} is in root {new_root}, {} hashes", proof.len());
    }
}

fn head(cosigned: &CosignedCheckpoint, trust: &Trust, json: bool) -> Ended {
    if !json {
        return Ok(screen::exact(&cosigned.to_note())?);
    }
    let checkpoint = cosigned.signed().checkpoint();
    let names = trust.policy().witnesses().iter().map(|w| &w.name);
    let cosigned_by: Vec<_> = names
        .zip(cosigned.times())
        .filter_map(|(name, time)| time.map(|t| json!({"witness": name, "time_s": t.get()})))
        .collect();
    println!(
        "{}",
        json!({
            "origin": checkpoint.origin.as_str(),
            "size": checkpoint.size,
            "root": checkpoint.root.to_base64(),
            "cosignatures": cosigned_by,
            "quorum_time_s": cosigned.quorum_time().get(),
        })
    );
    Ok(())
}
