//! The program `waymark-witness`: results on stdout, messages on stderr.
//!
//! Exit codes: 0 ok, 1 could not, 2 usage.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use waymark_log::{
    checkpoint::Origin,
    note::{KeyName, Vkey},
};
use waymark_runtime::{clock::Clock, process, screen, telemetry};

use crate::{
    Added, LogEntry, add_log,
    config::{LISTEN_DEFAULT, OPERATIONS_DEFAULT},
    init, load, logs,
    quota::REQUESTS_PER_DAY_DEFAULT,
    reset::{Reset, reset_clock},
    start,
};

/// A C2SP witness: it cosigns checkpoints that extend what it cosigned before, for any log.
#[derive(Debug, Parser)]
#[command(name = "waymark-witness", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new witness: key, list of logs, database, configuration. Prints its verifier key
    ///
    /// Never over another one, and never from a backup: a witness that was put back to an earlier day would cosign a second
    /// time what it has cosigned already, which anybody can prove. If its data is lost, make a new one under a new name.
    Init(InitArgs),
    /// Run the witness until SIGINT or SIGTERM. Prints one line: `witness NAME VERIFIER-KEY URL`
    ///
    /// The line is one for a C2SP tlog-policy. Exit code 1 if the state fails while it runs: start it again, so that it
    /// reads back what is on the disk.
    Run(RunArgs),
    /// The logs that are cosigned
    #[command(subcommand)]
    Log(LogCommand),
    /// Give a witness that has cosigned with a clock that was ahead a new key. Prints its verifier key
    ///
    /// Dates never go down, so without this its logs wait until the clock has come where it was. The trees that it has
    /// cosigned stay. Anybody who has its verifier key in a policy or a trust file must exchange it there: the old key is
    /// not to be trusted any more. Stop the witness first.
    ResetClock(ResetArgs),
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Add a log, a second key to a log, or another quota
    ///
    /// A running witness reads the list again, at most once a second, when it meets an origin or a signer it does not know
    /// or a quota is used up.
    ///
    /// Nothing is removed and no key is exchanged, by any command: whoever held the new key could show this witness
    /// another tree under the same name, and its cosignatures would cover a split view. A log that changes its key has both
    /// for good.
    Add(AddArgs),
    /// List the logs, their keys and quotas
    List(ListArgs),
}

#[derive(Debug, Args)]
struct Dir {
    /// The witness's data directory
    #[arg(long = "dir", value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct InitArgs {
    #[command(flatten)]
    dir: Dir,
    /// Its name, best a URL without scheme that you control, such as w1.witness.example; it never changes
    #[arg(long, value_parser = key_name)]
    name: KeyName,
    /// Address and port of the listener, written to witness.toml; beyond loopback it needs a certificate there
    #[arg(long, value_name = "ADDRESS", default_value_t = LISTEN_DEFAULT)]
    listen: SocketAddr,
    /// The same for health and metrics
    #[arg(long, value_name = "ADDRESS", default_value_t = OPERATIONS_DEFAULT)]
    operations: SocketAddr,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    dir: Dir,
    /// Address and port of the listener, before what witness.toml says
    #[arg(long, value_name = "ADDRESS", env = "WAYMARK_WITNESS_LISTEN")]
    listen: Option<SocketAddr>,
    /// The same for health and metrics
    #[arg(long, value_name = "ADDRESS", env = "WAYMARK_WITNESS_OPERATIONS")]
    operations: Option<SocketAddr>,
}

#[derive(Debug, Args)]
struct AddArgs {
    #[command(flatten)]
    dir: Dir,
    /// The log's verifier key: name+ID+key
    #[arg(value_name = "VKEY", value_parser = vkey)]
    vkey: Vkey,
    /// The log's origin, if it is not the key's name
    #[arg(long, value_parser = origin)]
    origin: Option<Origin>,
    /// Checkpoints it may have cosigned in a UTC day; a second cosignature on the same one is not counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    per_day: Option<u32>,
}

#[derive(Debug, Args)]
struct ResetArgs {
    #[command(flatten)]
    dir: Dir,
    /// Somebody has looked at this machine's clock, and it is right
    #[arg(long)]
    clock_is_right: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    dir: Dir,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct LogLine {
    origin: String,
    keys: Vec<String>,
    requests_per_day: u32,
    /// Where monitors find it under the witness's URL.
    path: String,
}

fn key_name(text: &str) -> Result<KeyName, String> {
    KeyName::new(text).map_err(|e| e.to_string())
}

fn vkey(text: &str) -> Result<Vkey, String> {
    Vkey::parse(text).map_err(|e| e.to_string())
}

fn origin(text: &str) -> Result<Origin, String> {
    Origin::new(text).map_err(|e| e.to_string())
}

/// Runs the program with the arguments and the environment of this process.
pub fn main() -> ExitCode {
    let done = match screen::arguments::<Cli>().command {
        Command::Init(args) => make(args),
        Command::Run(args) => run(args),
        Command::Log(LogCommand::Add(args)) => add(args),
        Command::Log(LogCommand::List(args)) => list(args),
        Command::ResetClock(args) => reset(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen::error("waymark-witness", &format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn make(args: InitArgs) -> anyhow::Result<()> {
    let vkey = init(&args.dir.dir, args.name, args.listen, Some(args.operations))?;
    Ok(screen::line(&vkey.to_string())?)
}

fn add(args: AddArgs) -> anyhow::Result<()> {
    let dir = &args.dir.dir;
    let added = add_log(dir, &args.vkey, args.origin.clone(), args.per_day)?;
    let origin = args.origin.map_or_else(|| args.vkey.name().to_string(), |o| o.to_string());
    let what = match added {
        Added::Log => "added log",
        Added::Key => "added a key to log",
        Added::Quota => "changed the quota of log",
        Added::Nothing => "unchanged log",
    };
    Ok(screen::line(&format!("{what} {origin}"))?)
}

fn reset(args: ResetArgs) -> anyhow::Result<()> {
    let Reset { retired, vkey } = reset_clock(&args.dir.dir, Clock::System.now(), args.clock_is_right)?;
    screen::err(format_args!("retired: {retired}. Its secret key is kept beside the new one and is of no more use\n"));
    let whom = "every log and everybody who trusts this witness";
    screen::err(format_args!("tell {whom}: the new key takes the old one's place in policy and trust file\n"));
    Ok(screen::line(&vkey.to_string())?)
}

fn list(args: ListArgs) -> anyhow::Result<()> {
    for entry in logs(&args.dir.dir)? {
        screen::line(&if args.json { json_line(&entry)? } else { plain_line(&entry) })?;
    }
    Ok(())
}

fn json_line(entry: &LogEntry) -> serde_json::Result<String> {
    serde_json::to_string(&LogLine {
        origin: entry.origin.to_string(),
        keys: entry.keys.iter().map(Vkey::to_string).collect(),
        requests_per_day: entry.per_day(),
        path: format!("/{}/checkpoint", entry.origin.hash_hex()),
    })
}

fn plain_line(entry: &LogEntry) -> String {
    let quota = match entry.requests_per_day {
        Some(n) => format!("{n} a day"),
        None => format!("{REQUESTS_PER_DAY_DEFAULT} a day (default)"),
    };
    let keys: String = entry.keys.iter().map(|k| format!("\n    {k}")).collect();
    format!("{}  {quota}{keys}", entry.origin)
}

fn run(args: RunArgs) -> anyhow::Result<()> {
    telemetry::init(false);
    let mut settings = load(&args.dir.dir)?;
    settings.listen = args.listen.unwrap_or(settings.listen);
    settings.operations = args.operations.or(settings.operations);
    process::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let told = process::stop_signal()?;
        let witness = start(settings, Clock::System).await?;
        let vkey = witness.vkey();
        screen::line(&format!("witness {} {vkey} {}", vkey.name(), witness.url()))?;
        let failed = tokio::select! {
            () = told => false,
            () = witness.failed() => true,
        };
        witness.stop().await;
        if failed {
            anyhow::bail!("the state failed; start the witness again, so that it reads back what is on the disk");
        }
        tracing::info!("stopped");
        Ok(())
    })
}
