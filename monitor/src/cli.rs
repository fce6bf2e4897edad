//! The program `waymark-monitor`: results on stdout, messages on stderr.
//!
//! Exit codes: 0 ok, 1 could not, 2 usage or a configuration that cannot be used, 3 a file is no evidence, 5 a log's policy
//! or freshness is not met, 6 a finding or an unexpected change.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use data_encoding::HEXLOWER;
use serde::Serialize;
use waymark_mapping::watch::{WATCH_LIST_BYTES_MAX, WATCH_LIST_MEDIA_TYPE, WatchList};
use waymark_runtime::{
    clock::Clock,
    durable,
    fetch::{ExtraRoots, Fetcher, REQUEST_S_MAX},
    process,
    screen::{self, OneLine},
    telemetry,
};

use crate::{
    config::{
        self, Init, LISTEN_DEFAULT, OPERATIONS_DEFAULT, POLL_MS_DEFAULT, POLL_MS_MAX, RENEW_WITHIN_S_DEFAULT,
        RENEW_WITHIN_S_MAX, SetupError,
    },
    evidence::{EVIDENCE_BYTES_MAX, Evidence, Shown, Unshown},
    hub::{self, StartError},
    monitor::{Running, once, start},
    report::{News, Status, Verdict},
    settings::Settings,
};

/// Most bytes in a status that is read from a running monitor: a thousand findings for each of some dozens of logs.
const STATUS_BYTES_MAX: usize = 16 << 20;
/// Most bytes in a problem that a running monitor answers.
const PROBLEM_BYTES_MAX: usize = 64 << 10;

/// Follows transparency logs, replays them, compares views, and watches for labels.
#[derive(Debug, Parser)]
#[command(name = "waymark-monitor", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new monitor for one log; more logs can be added to its monitor.toml
    Init(InitArgs),
    /// Run until SIGINT or SIGTERM; prints findings, notices, and that there are alerts, as JSON lines
    ///
    /// Each alert and finding has a number. One that is printed twice, because the monitor was stopped in between, bears
    /// the same number. Exit code 6 if there were findings or unexpected changes when it was stopped.
    Run(RunArgs),
    /// Look once at all logs and all witnesses' copies and print where everything stands
    ///
    /// Exit code 6 if there are findings or unexpected changes, also earlier ones; 5 if a log's policy or freshness is not
    /// met; 1 if a log cannot be read, or not all of it. It ends after two minutes at the latest; the next look goes on
    /// there.
    Once(OnceArgs),
    /// Watch-lists
    #[command(subcommand)]
    Watch(WatchCommand),
    /// Where a monitor stands, without looking at any log
    ///
    /// The exit codes are those of `once`; a monitor that is not running has looked at nothing, so that of it only what was
    /// found counts.
    Status(StatusArgs),
    /// Check a file of evidence, offline; exit code 3 if it speaks against nobody
    Evidence(EvidenceArgs),
}

#[derive(Debug, Subcommand)]
enum WatchCommand {
    /// Hand in a watch-list or a renewal
    Add(AddArgs),
    /// The lists in a data directory on which no monitor is running
    List(OnceArgs),
}

#[derive(Debug, Args)]
struct Dir {
    /// The monitor's data directory
    #[arg(long = "dir", value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct InitArgs {
    #[command(flatten)]
    dir: Dir,
    /// The trust file, which is copied
    #[arg(long, value_name = "TRUSTFILE")]
    trust: PathBuf,
    /// The log's prefix
    #[arg(long, value_name = "URL")]
    log_url: String,
    /// Where a witness of the policy shows its own copy, before what the policy says; may be given many times
    #[arg(long, value_name = "NAME=URL", value_parser = name_and_url)]
    witness_url: Vec<(String, String)>,
    /// Address and port of the listener; beyond loopback it needs a certificate in monitor.toml
    #[arg(long, value_name = "ADDRESS", default_value_t = LISTEN_DEFAULT)]
    listen: SocketAddr,
    /// The same for health and metrics
    #[arg(long, value_name = "ADDRESS", default_value_t = OPERATIONS_DEFAULT)]
    operations: SocketAddr,
    /// How long the holder of a list may claim a change, in seconds
    #[arg(long, value_name = "N", default_value_t = RENEW_WITHIN_S_DEFAULT,
          value_parser = clap::value_parser!(u64).range(1..=RENEW_WITHIN_S_MAX))]
    renew_within_s: u64,
    /// Pause between two looks, in milliseconds
    #[arg(long, value_name = "N", default_value_t = POLL_MS_DEFAULT,
          value_parser = clap::value_parser!(u64).range(1..=POLL_MS_MAX))]
    poll_ms: u64,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    dir: Dir,
    /// Address and port of the listener, before what monitor.toml says
    #[arg(long, value_name = "ADDRESS", env = "WAYMARK_MONITOR_LISTEN")]
    listen: Option<SocketAddr>,
    /// The same for health and metrics
    #[arg(long, value_name = "ADDRESS", env = "WAYMARK_MONITOR_OPERATIONS")]
    operations: Option<SocketAddr>,
}

#[derive(Debug, Args)]
struct OnceArgs {
    #[command(flatten)]
    dir: Dir,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct AddArgs {
    /// The data directory of a monitor that is not running
    #[arg(long, value_name = "DIR", required_unless_present = "url")]
    dir: Option<PathBuf>,
    /// The list's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A running monitor, to which the list is sent instead
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// The monitor's data directory; a monitor that runs there is asked where monitor.toml says that it listens
    #[arg(long, value_name = "DIR", required_unless_present = "url", conflicts_with = "url")]
    dir: Option<PathBuf>,
    /// A running monitor
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct EvidenceArgs {
    /// Whose signatures count
    #[arg(long, value_name = "TRUSTFILE")]
    trust: PathBuf,
    /// A file from a monitor's folder `evidence`
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// The first line of `run`.
#[derive(Serialize)]
#[serde(tag = "event", rename = "listening")]
struct Listening {
    url: String,
}

#[derive(Serialize)]
struct ListLine {
    id: String,
    origin: String,
    made_ms: u64,
    expiry_ms: u64,
    labels: usize,
    open_hits: usize,
}

fn name_and_url(text: &str) -> Result<(String, String), String> {
    let (name, url) = text.split_once('=').ok_or("not NAME=URL")?;
    Ok((name.to_owned(), url.to_owned()))
}

/// Runs the program with the arguments and the environment of this process.
pub fn main() -> ExitCode {
    let cli: Cli = screen::arguments();
    telemetry::init(false);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(act(cli.command)));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            screen::error("waymark-monitor", &format_args!("{error:#}"));
            ExitCode::from(code_of(&error))
        }
    }
}

/// 2 for what the operator wrote and has to mend, 3 for a file that proves nothing, 1 for everything else.
fn code_of(error: &anyhow::Error) -> u8 {
    let is_setup = matches!(error.downcast_ref(), Some(SetupError::Config(_) | SetupError::Trust { .. }));
    if is_setup || matches!(error.downcast_ref(), Some(StartError::Settings(_))) {
        2
    } else if error.downcast_ref::<Unshown>().is_some() {
        3
    } else {
        1
    }
}

async fn act(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Init(args) => make(args).map(|()| 0),
        Command::Run(args) => run(args).await,
        Command::Once(args) => report(&once(load(&args.dir.dir)?, Clock::System).await?, args.json),
        Command::Watch(WatchCommand::Add(args)) => add(args).await.map(|()| 0),
        Command::Watch(WatchCommand::List(args)) => list(args).await.map(|()| 0),
        Command::Status(args) => status(args).await,
        Command::Evidence(args) => evidence(&args).map(|()| 0),
    }
}

/// Prints a status and says what it comes to.
fn report(status: &Status, json: bool) -> anyhow::Result<u8> {
    let text = if json { serde_json::to_string(status)? } else { status.to_string().trim_end().to_owned() };
    screen::line(&text)?;
    Ok(status.verdict().exit_code())
}

fn make(args: InitArgs) -> anyhow::Result<()> {
    let InitArgs { dir: Dir { dir }, trust, log_url, witness_url, listen, operations, renew_within_s, poll_ms } = args;
    let (witnesses, operations) = (witness_url, Some(operations));
    config::init(&dir, &Init { trust, log_url, witnesses, listen, operations, renew_within_s, poll_ms })?;
    Ok(())
}

async fn run(args: RunArgs) -> anyhow::Result<u8> {
    let mut told = std::pin::pin!(process::stop_signal()?);
    let mut settings = load(&args.dir.dir)?;
    settings.listen = args.listen.unwrap_or(settings.listen);
    settings.operations = args.operations.or(settings.operations);
    process::raise_descriptors();
    let monitor = start(settings, Clock::System).await?;
    screen::line(&serde_json::to_string(&Listening { url: monitor.url() })?)?;
    let ended = loop {
        if let Err(e) = tell(&monitor)
            && !e.downcast_ref().is_some_and(|e| monitor.waits_for_room(e))
        {
            break Err(e);
        }
        tokio::select! {
            () = &mut told => break Ok(()),
            () = monitor.news_arrived() => {}
            () = monitor.failed() => break Err(StartError::Failed.into()),
        }
    };
    let verdict = monitor.status().verdict();
    monitor.stop().await;
    ended.map(|()| if verdict == Verdict::Alarm { verdict.exit_code() } else { 0 })
}

/// What `monitor.toml` says, with the authorities that the environment names.
fn load(dir: &Path) -> anyhow::Result<Settings> {
    let mut settings = config::load(dir)?;
    settings.roots = ExtraRoots::from_environment()?;
    Ok(settings)
}

fn fetcher() -> anyhow::Result<Fetcher> {
    Ok(Fetcher::with_roots(Duration::from_secs(REQUEST_S_MAX), &ExtraRoots::from_environment()?))
}

/// Prints what was not told yet, some at a time, then remembers that it was told: better twice than never.
fn tell(monitor: &Running) -> anyhow::Result<()> {
    loop {
        let news = monitor.untold()?;
        for one in &news {
            screen::line(&serde_json::to_string(one)?)?;
        }
        match news.iter().filter_map(News::id).max() {
            Some(id) => monitor.set_told(id)?,
            None => return Ok(()),
        }
    }
}

async fn add(args: AddArgs) -> anyhow::Result<()> {
    let bytes = durable::read(&args.file, WATCH_LIST_BYTES_MAX)?;
    let bytes = bytes.with_context(|| format!("{}: there is no such file", args.file.display()))?;
    let list = WatchList::decode(&bytes)?;
    if let Some(url) = args.url {
        return send(&url, bytes).await;
    }
    let dir = args.dir.context("neither --dir nor --url")?;
    let hub = hub::open(config::load(&dir)?, Clock::System).await?;
    let taken = hub.import(list, || Ok(()));
    hub.close();
    Ok(taken?)
}

async fn send(url: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
    let url = format!("{}/v1/watch-lists", url.trim_end_matches('/'));
    let answer = fetcher()?.post(&url, WATCH_LIST_MEDIA_TYPE, &[], bytes, PROBLEM_BYTES_MAX).await?;
    if !answer.is_success() {
        bail!("the monitor answered {}: {}", answer.status, OneLine(String::from_utf8_lossy(&answer.body)));
    }
    Ok(())
}

async fn list(args: OnceArgs) -> anyhow::Result<()> {
    let hub = hub::open(config::load(&args.dir.dir)?, Clock::System).await?;
    let lists = hub.lists();
    hub.close();
    for (list, open_hits) in lists {
        let line = ListLine {
            id: HEXLOWER.encode(&list.id.0),
            origin: list.origin.get().to_string(),
            made_ms: list.made.get(),
            expiry_ms: list.expiry.get(),
            labels: list.labels.len(),
            open_hits,
        };
        screen::line(&if args.json { serde_json::to_string(&line)? } else { plain(&line) })?;
    }
    Ok(())
}

fn plain(line: &ListLine) -> String {
    let ListLine { id, origin, expiry_ms, labels, open_hits, .. } = line;
    format!("{id}  {origin}  {labels} labels, {open_hits} open hits, until {} s", expiry_ms / 1000)
}

async fn status(args: StatusArgs) -> anyhow::Result<u8> {
    let status = match (args.dir, args.url) {
        (_, Some(url)) => status_of(&url).await?,
        (Some(dir), None) => {
            let settings = config::load(&dir)?;
            let scheme = if settings.tls.is_some() { "https" } else { "http" };
            let url = format!("{scheme}://{}", settings.listen);
            match hub::open(settings, Clock::System).await {
                Ok(hub) => {
                    let status = hub.status();
                    hub.close();
                    status
                }
                // The one that runs knows; it listens where its configuration says, unless told otherwise.
                Err(locked @ StartError::Locked(_)) => status_of(&url).await.context(locked)?,
                Err(error) => return Err(error.into()),
            }
        }
        (None, None) => bail!("neither --dir nor --url"),
    };
    report(&status, args.json)
}

/// The status of a running monitor.
async fn status_of(url: &str) -> anyhow::Result<Status> {
    let url = format!("{}/status", url.trim_end_matches('/'));
    let answer = fetcher()?.get(&url, STATUS_BYTES_MAX).await?;
    if answer.status != 200 {
        bail!("the monitor answered {}", answer.status);
    }
    serde_json::from_slice(&answer.body).context("the monitor's status")
}

fn evidence(args: &EvidenceArgs) -> anyhow::Result<()> {
    let (trust, _) = config::read_trust(&args.trust)?;
    let bytes = durable::read(&args.file, EVIDENCE_BYTES_MAX)?;
    let bytes = bytes.with_context(|| format!("{}: there is no such file", args.file.display()))?;
    let evidence = Evidence::parse(&bytes)?;
    let (kind, origin) = (evidence.kind.slug(), &evidence.origin);
    let against = match evidence.verify(&trust)? {
        Shown::Log => "against the log, to anybody".to_owned(),
        Shown::Witnesses(names) => format!("against {}, to anybody", names.join(", ")),
        Shown::WithEntries => "against the log, to whoever replays its entries; it has signed them".to_owned(),
    };
    Ok(screen::line(&format!("{kind} at {origin}: {against}"))?)
}
