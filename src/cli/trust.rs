//! `waymark trust`: reading a trust file before relying on it, and pinning a log's open entry in it.

use std::{fs, path::PathBuf};

use clap::Subcommand;
use waymark_log::hash::Hash;
use waymark_mapping::{
    entry::Entry,
    trust::{TRUST_BYTES_MAX, Trust, pin_text},
};
use waymark_runtime::{clock::Clock, durable, follow::LogReader, screen};

use super::{End, Ended, fetcher, origin_of, read_trust};
use crate::client::{logs, policy::Policy};

/// Check a trust file.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Read it, and say whom it believes.
    Show {
        /// The file.
        file: PathBuf,
    },
    /// Read the log's open entry, check that it is entry 0, and write its hash into the file: from then on no other is believed.
    /// Compare it first with what the DP or somebody else says elsewhere.
    Pin {
        /// The file.
        file: PathBuf,
        /// The log's URL prefix, such as https://dp.example/log.
        #[arg(long)]
        url: String,
        /// Only say what would be written.
        #[arg(long)]
        dry_run: bool,
    },
}

pub async fn run(command: TrustCommand) -> Ended {
    match command {
        TrustCommand::Show { file } => show(&read_trust(&file)?),
        TrustCommand::Pin { file, url, dry_run } => pin(&file, &url, dry_run).await,
    }
}

fn show(trust: &Trust) -> Ended {
    Policy::parse(trust.require()).map_err(|e| End::Could(e.into()))?;
    let policy = trust.policy();
    for log in policy.logs() {
        println!("log      {}", log.vkey);
    }
    for pinned in trust.pinned_logs() {
        println!("open     {} {}", pinned.origin, pinned.open.to_hex());
    }
    for witness in policy.witnesses() {
        let role = if witness.name.starts_with("auditor") { "auditor" } else { "witness" };
        println!("{role}  {} {}", witness.name, witness.vkey);
    }
    println!("quorum   at least {} cosignatures", policy.cosignatures_min());
    let fresh = trust.freshness();
    println!("fresh    at most {} s old, clocks at most {} s apart", fresh.max_age_s, fresh.skew_s);
    if !trust.require().is_empty() {
        println!("require  {}", trust.require().join(", "));
    }
    Ok(())
}

async fn pin(file: &PathBuf, url: &str, dry_run: bool) -> Ended {
    let trust = read_trust(file)?;
    let origin = origin_of(&trust)?;
    let could = |e: anyhow::Error| End::Could(e);
    let reader = LogReader::new(fetcher()?, url);
    let now = Clock::System.now().floor_seconds();
    let cosigned = logs::head(&reader, trust.policy(), now, trust.freshness()).await.map_err(|e| could(e.into()))?;
    if cosigned.signed().checkpoint().origin != origin {
        return Err(End::Failed("the log there is another than the trust file names".to_owned()));
    }
    let (bytes, _) = logs::entry(&reader, &cosigned, 0).await.map_err(|e| could(e.into()))?;
    match Entry::decode(&bytes) {
        Ok(Entry::Open(open)) if open.origin.get() == origin => {}
        _ => return Err(End::Failed("entry 0 is no open entry of this log".to_owned())),
    }
    let open = Hash::sha256(&[&bytes]);
    match trust.pinned_open(&origin) {
        Some(pinned) if *pinned == open => {
            println!("open     {origin} {}: pinned already", open.to_hex());
            return Ok(());
        }
        Some(_) => return Err(End::Failed("the open entry is another than the one pinned".to_owned())),
        None => {}
    }
    let text = pin_text(&origin, &open);
    screen::exact(&text)?;
    if dry_run {
        return Ok(());
    }
    let before = fs::read_to_string(file)?;
    let after = format!("{}\n\n{text}", before.trim_end_matches('\n'));
    // What will not be read later is not written now.
    if after.len() > TRUST_BYTES_MAX || Trust::parse(&after).is_err() {
        return Err(could(anyhow::anyhow!("{}: the pin cannot be added; add it by hand", file.display())));
    }
    Ok(durable::replace(file, after.as_bytes())?)
}
