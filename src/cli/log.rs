//! `waymark log`: any C2SP log, judged by a trust file.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use serde_json::json;
use waymark_log::policy::CosignedCheckpoint;
use waymark_mapping::{entry::Entry, trust::Trust};
use waymark_runtime::{clock::Clock, fetch::Fetcher, follow::LogReader};

use super::{End, Ended, read_trust};
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
    let reader = LogReader::new(Fetcher::default(), &source.url);
    let now = Clock::System.now().floor_seconds();
    let cosigned = logs::head(&reader, trust.policy(), now, trust.freshness()).await?;
    match command {
        LogCommand::Head(source) => head(&cosigned, &trust, source.json),
        LogCommand::Entry { index, source } => {
            let (bytes, proof) = logs::entry(&reader, &cosigned, index).await?;
            let decoded = Entry::decode(&bytes).map_or_else(|e| e.to_string(), |e| format!("{e:?}"));
            if source.json {
                let proof = proof.format();
                println!(
                    "{}",
                    json!({"index": index, "entry": HEXLOWER.encode(&bytes), "decoded": decoded, "proof": proof})
                );
            } else {
                eprintln!("{decoded}");
                print!("{}", proof.format());
            }
        }
        LogCommand::Consistency { old, source } => {
            let (root, proof) = logs::consistency(&reader, &cosigned, old).await?;
            let (size, new_root) = (cosigned.size(), cosigned.root());
            if source.json {
                let proof: Vec<String> = proof.iter().map(|h| h.to_base64()).collect();
                let (old_root, new_root) = (root.to_base64(), new_root.to_base64());
                println!(
                    "{}",
                    json!({"old": old, "old_root": old_root, "new": size, "new_root": new_root, "proof": proof})
                );
            } else {
                println!(
                    "{size} entries extend {old} entries: root {root} is in root {new_root}, {} hashes",
                    proof.len()
                );
            }
        }
    }
    Ok(())
}

fn head(cosigned: &CosignedCheckpoint, trust: &Trust, json: bool) {
    if !json {
        print!("{}", cosigned.to_note());
        return;
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
}
