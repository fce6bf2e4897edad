//! `waymark verify-evidence`: whom a file speaks against, by a trust file and nothing else.

use std::path::PathBuf;

use clap::Args;
use waymark_mapping::evidence::{EVIDENCE_BYTES_MAX, Evidence, Shown};
use waymark_runtime::durable;

use super::{End, Ended, read_trust};

/// Check a file of evidence.
#[derive(Debug, Args)]
pub struct EvidenceArgs {
    /// A file from a folder `evidence`: a monitor's, or the one beside a memory.
    file: PathBuf,
    /// Whose keys speak.
    #[arg(long, env = "WAYMARK_TRUST")]
    trust: PathBuf,
}

pub fn verify(args: &EvidenceArgs) -> Ended {
    let trust = read_trust(&args.trust)?;
    let missing = || End::Could(anyhow::anyhow!("{}: there is no such file", args.file.display()));
    let bytes = durable::read(&args.file, EVIDENCE_BYTES_MAX)?.ok_or_else(missing)?;
    let failed = |e: &dyn std::error::Error| End::Failed(e.to_string());
    let evidence = Evidence::parse(&bytes).map_err(|e| failed(&e))?;
    let against = match evidence.verify(&trust).map_err(|e| failed(&e))? {
        Shown::Log => "the log, to anybody".to_owned(),
        Shown::Witnesses(names) => format!("{}, to anybody", names.join(", ")),
        Shown::WithEntries => "the log, to whoever replays its entries".to_owned(),
    };
    println!("{} of {}: it speaks against {against}", evidence.kind.slug(), evidence.origin);
    Ok(())
}
