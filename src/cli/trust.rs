//! `waymark trust`: what a trust file says, before anything relies on it.

use std::path::PathBuf;

use clap::Subcommand;

use super::{End, Ended, read_trust};
use crate::client::policy::Policy;

/// Check a trust file.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Read it, and say whom it believes.
    Show {
        /// The file.
        file: PathBuf,
    },
}

pub fn run(command: &TrustCommand) -> Ended {
    let TrustCommand::Show { file } = command;
    let trust = read_trust(file)?;
    Policy::parse(trust.require()).map_err(|e| End::Could(e.into()))?;
    let policy = trust.policy();
    for log in policy.logs() {
        println!("log      {}", log.vkey);
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
