//! The command lines. Results go to stdout, everything else to stderr; the exit code says what kind of end it was.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | ok |
//! | 1 | could not (network, file, refused) |
//! | 2 | usage |
//! | 3 | verification failed: treat as an attack |
//! | 4 | nothing found |
//! | 5 | policy or freshness not met |
//! | 6 | alerts present |
//!
//! A witness that contradicts itself, where the others are a quorum, changes no code: it is not to decide over all. A
//! line says so.

mod copies;
mod demo;
pub mod dp;
mod evidence;
mod log;
mod lookup;
mod msp;
mod promises;
mod prover;
mod recipient;
mod statement;
mod trust;

use std::{path::Path, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use waymark_mapping::{
    evidence::{Evidence, Seen},
    identifier::Csi,
    memory::{Apart, NotConsistent},
    receipt::ReceiptRefused,
    trust::{TRUST_BYTES_MAX, Trust},
    typed::parse_typed,
    verify::Rejected,
};
use waymark_runtime::{
    durable,
    fetch::{ExtraRoots, Fetcher, REQUEST_S_MAX},
    screen, telemetry,
};

use crate::client::{memory::StoreError, recipient::RecipientError};

/// How a command ends when it does not end well.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// It could not be done.
    #[error(transparent)]
    Could(#[from] anyhow::Error),
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something did not verify.
    #[error("VERIFICATION FAILED: {0}")]
    Failed(String),
    /// Nothing was found; the answer has been printed.
    #[error("nothing found")]
    Nothing,
    /// Policy or freshness are not met.
    #[error("{0}")]
    NotMet(String),
    /// Somebody should look.
    #[error("alerts are present")]
    Alerts,
}

impl End {
    const fn code(&self) -> u8 {
        match self {
            Self::Could(_) => 1,
            Self::Usage(_) => 2,
            Self::Failed(_) => 3,
            Self::Nothing => 4,
            Self::NotMet(_) => 5,
            Self::Alerts => 6,
        }
    }
}

impl From<Rejected> for End {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Stale(_) | Rejected::Untrusted(_) => Self::NotMet(rejected.to_string()),
            // Both notes are evidence; whoever sees this must be able to keep them.
            Rejected::SplitView { .. } | Rejected::Rollback { .. } => {
                Self::Failed(with_notes(&rejected, rejected.evidence().as_ref()))
            }
            // Nothing is shown either way: this program is to be updated, or somebody plays with it.
            Rejected::NotSupported(_) => Self::Could(anyhow::anyhow!("{rejected}")),
            Rejected::Malformed(_) | Rejected::NotProven(_) | Rejected::OtherLog => Self::Failed(rejected.to_string()),
        }
    }
}

impl From<NotConsistent> for End {
    fn from(fork: NotConsistent) -> Self {
        Self::Failed(with_notes(&fork, Some(fork.evidence())))
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::File(error) => error.into(),
            StoreError::Apart(Apart::OtherLog) => Self::Could(error.into()),
            StoreError::Apart(ref apart) => Self::Failed(with_notes(apart, apart.evidence())),
            StoreError::NotConsistent(fork) => fork.into(),
        }
    }
}

/// What is wrong, and the notes that show it.
fn with_notes(what: &dyn std::fmt::Display, evidence: Option<&Evidence>) -> String {
    let mut text = what.to_string();
    for Seen { place, note } in evidence.iter().flat_map(|e| &e.notes) {
        text += &format!("\n--- {place} ---\n{}", String::from_utf8_lossy(note));
    }
    text
}

impl From<RecipientError> for End {
    fn from(error: RecipientError) -> Self {
        match error {
            RecipientError::NotConsistent(fork) => fork.into(),
            RecipientError::Rejected(rejected) | RecipientError::Receipt(ReceiptRefused::Rejected(rejected)) => {
                rejected.into()
            }
            RecipientError::Receipt(refused) => Self::Failed(format!("{refused}; keep the receipt")),
            other => Self::Could(other.into()),
        }
    }
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        Self::Could(error.into())
    }
}

type Ended = Result<(), End>;

/// Waymark: find out at which messaging providers somebody can be reached, and check the answer.
#[derive(Debug, Parser)]
#[command(name = "waymark", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole system on this machine: a DP, witnesses, a monitor, MSPs, recipients and senders.
    Demo(demo::DemoArgs),
    /// Look somebody up and check the answer.
    Lookup(lookup::LookupArgs),
    /// Check an answer that was saved, offline.
    Verify(lookup::VerifyArgs),
    /// A recipient's app: keys, possession, mappings, watch-lists.
    #[command(subcommand)]
    Recipient(recipient::RecipientCommand),
    /// A messaging provider's adapter.
    #[command(subcommand)]
    Msp(msp::MspCommand),
    /// Whoever issues identifiers: an operator, a mail provider.
    #[command(subcommand)]
    Csip(statement::CsipCommand),
    /// An independent prover of possession.
    #[command(subcommand)]
    Prover(prover::ProverCommand),
    /// Read a log: its head, an entry with its proof, consistency.
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Check a trust file, or pin a log's open entry in one.
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Check a file of evidence against a log or a witness, offline.
    VerifyEvidence(evidence::EvidenceArgs),
}

/// Runs `waymark`.
pub fn run() -> ExitCode {
    let cli: Cli = screen::arguments();
    end(runtime(async {
        match cli.command {
            Command::Demo(args) => demo::run(args).await,
            Command::Lookup(args) => {
                telemetry::init(false);
                lookup::look_up(args).await
            }
            Command::Verify(args) => lookup::verify_saved(&args),
            Command::Recipient(command) => {
                telemetry::init(false);
                recipient::run(command).await
            }
            Command::Msp(command) => {
                telemetry::init(false);
                msp::run(command).await
            }
            Command::Csip(command) => statement::csip(command).await,
            Command::Prover(command) => {
                telemetry::init(false);
                prover::run(command).await
            }
            Command::Log(command) => log::run(command).await,
            Command::Trust(command) => trust::run(command).await,
            Command::VerifyEvidence(args) => evidence::verify(&args),
        }
    }))
}

/// Runs a command on the runtime.
fn runtime(command: impl Future<Output = Ended>) -> Ended {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(command)
}

/// Turns an end into an exit code, with its reason on stderr.
fn end(ended: Ended) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => {
            match &end {
                // The answer itself said it.
                End::Nothing | End::Alerts => {}
                End::Could(why) => screen::error("error", &format_args!("{why:#}")),
                other => screen::error("error", other),
            }
            ExitCode::from(end.code())
        }
    }
}

/// The client of a command whose requests may take so many seconds, with the authorities that the environment names.
fn fetcher_for(seconds: u64) -> Result<Fetcher, End> {
    let roots = ExtraRoots::from_environment().map_err(|e| End::Could(e.into()))?;
    Ok(Fetcher::with_roots(Duration::from_secs(seconds), &roots))
}

/// The client of most commands.
fn fetcher() -> Result<Fetcher, End> {
    fetcher_for(REQUEST_S_MAX)
}

/// Reads a trust file.
fn read_trust(path: &Path) -> Result<Trust, End> {
    let could = |what: String| End::Could(anyhow::anyhow!("{}: {what}", path.display()));
    let bytes = durable::read(path, TRUST_BYTES_MAX)?.ok_or_else(|| could("there is no such file".to_owned()))?;
    let text = String::from_utf8(bytes).map_err(|_| could("not UTF-8".to_owned()))?;
    Trust::parse(&text).map_err(|e| could(e.to_string()))
}

/// Reads what somebody typed as an identifier.
fn read_csi(typed: &str, region: Option<&str>) -> Result<Csi, End> {
    parse_typed(typed, region).map_err(|e| End::Usage(format!("not an identifier: {e}")))
}

/// The origin of the log that a trust file is about, which must be one.
fn origin_of(trust: &Trust) -> Result<waymark_log::checkpoint::Origin, End> {
    match trust.policy().logs() {
        [log] => waymark_log::checkpoint::Origin::new(log.vkey.name().as_str())
            .map_err(|e| End::Could(anyhow::anyhow!("{e}"))),
        logs => Err(End::Usage(format!("the trust file names {} logs; this command needs one", logs.len()))),
    }
}
