//! `waymark-dp`: making, running and looking after a discovery provider.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use waymark_log::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    note::{Note, Vkey},
};
use waymark_mapping::{audit::Audited, event::AuthorityRole, record::VISIBLE_MAPPINGS_DEFAULT, signed::Verdict};
use waymark_runtime::{clock::Clock, durable, fetch::ExtraRoots, leftovers, process, screen, telemetry, tls::Tls};

use super::{
    End, Ended, copies, end, promises, runtime,
    statement::{About, Serving, serves},
};
use crate::{
    config::{
        Codes, File, INTERVAL_MS_DEFAULT, LOOKUPS_PER_MINUTE_DEFAULT, OPERATIONS_DEFAULT, RELAYS_PER_MINUTE_DEFAULT,
        REQUESTS_PER_MINUTE_DEFAULT, Settings, StoreKind, names,
    },
    dp,
    fsck::{fsck, missing_policies},
    init::{NewDp, init, open_rows},
    instance, keys, onboarding,
    policy::shelf::Shelf,
    published::ANSWER_BYTES_MIN_DEFAULT,
    sequencer::{
        accepted::{Accepted, Found},
        recover::read_back,
    },
    store::{Head, LogFiles, RowKeys, seal::Sealer},
};

/// A discovery provider.
#[derive(Debug, Parser)]
#[command(name = "waymark-dp", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a DP: keys, configuration, and a log of two entries. Done once; refused if there is something already.
    Init {
        /// The data folder.
        #[arg(long)]
        dir: PathBuf,
        /// The DP's domain.
        #[arg(long)]
        domain: String,
        /// The log's name, for ever. DOMAIN/log unless said otherwise.
        #[arg(long)]
        origin: Option<String>,
        /// A witness: its name in the policy, its key, its URL. Repeat for each.
        #[arg(long = "witness", num_args = 3, value_names = ["NAME", "VKEY", "URL"])]
        witnesses: Vec<String>,
        /// How many of them a checkpoint needs: all but one unless said otherwise.
        #[arg(long)]
        quorum: Option<usize>,
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Where to tell health and metrics; to have none, take `operations` out of dp.toml.
        #[arg(long, default_value_t = OPERATIONS_DEFAULT)]
        operations: SocketAddr,
        /// Time between batches, milliseconds: a promise, logged in the open entry.
        #[arg(long, default_value_t = INTERVAL_MS_DEFAULT)]
        interval_ms: u32,
        /// Where codes go, for development; dp.toml says how they go by mail, SMS and voice.
        #[arg(long, value_enum, default_value_t)]
        codes: Codes,
        /// A region where payload is kept, such as EU. Repeat for each; mappings for other regions are not taken.
        #[arg(long = "region", value_name = "REGION")]
        regions: Vec<String>,
        /// Which record store.
        #[arg(long, value_enum, default_value_t)]
        store: StoreKind,
    },
    /// Run the DP until interrupted.
    Run {
        /// The data folder.
        #[arg(long, env = "WAYMARK_DP_DIR")]
        dir: PathBuf,
        /// Where to listen, over what dp.toml says.
        #[arg(long, env = "WAYMARK_DP_LISTEN")]
        listen: Option<SocketAddr>,
        /// Where to tell health and metrics, over what dp.toml says.
        #[arg(long, env = "WAYMARK_DP_OPERATIONS")]
        operations: Option<SocketAddr>,
    },
    /// Read and check the configuration, and print what is in effect.
    CheckConfig {
        /// The data folder.
        #[arg(long, env = "WAYMARK_DP_DIR")]
        dir: PathBuf,
    },
    /// Read everything back and recompute it. The DP must not be running.
    Fsck {
        /// The data folder.
        #[arg(long, env = "WAYMARK_DP_DIR")]
        dir: PathBuf,
    },
    /// Say that this folder, a copy, is from now on the one that the DP runs in. Only when no other program runs on the original, and
    /// never will: two programs that sign with one key fork the log.
    Adopt {
        /// The data folder.
        #[arg(long, env = "WAYMARK_DP_DIR")]
        dir: PathBuf,
    },
    /// Show what monitors find wrong with the log, which the DP then refuses to continue; with --yes, go on all the same. Nothing is
    /// mended by that: monitors go on saying what they found. The DP must not be running.
    AcceptFindings {
        /// The data folder.
        #[arg(long, env = "WAYMARK_DP_DIR")]
        dir: PathBuf,
        /// Accept all that was shown.
        #[arg(long)]
        yes: bool,
    },
    /// Print the description of the HTTP API, OpenAPI 3.1.
    Openapi,
    /// The providers of this DP: MSPs, provers, CSIPs.
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// Withhold a mapping from look-ups, with your name and a reason under it, or serve it again. It removes nothing, and the
    /// recipient is told.
    Unserve {
        /// The data folder: its prover key signs.
        #[arg(long, env = "WAYMARK_DP_DIR")]
        dir: PathBuf,
        #[command(flatten)]
        about: About,
        #[command(flatten)]
        serving: Serving,
    },
    /// What is promised: the policy document and the interval.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Copy what a restore needs, in a new store. The DP must not be running.
    Backup {
        /// The data folder.
        #[arg(long, env = "WAYMARK_DP_DIR")]
        dir: PathBuf,
        /// The folder for the copy, which must not be there yet or be empty.
        #[arg(long)]
        to: PathBuf,
        /// The copy is for this region: records with a mapping that names another one are left out.
        #[arg(long)]
        region: Option<String>,
        /// Copy keys/ too. Whoever has the copy can then read the records, and sign as this DP.
        #[arg(long)]
        with_keys: bool,
    },
    /// Make a data folder from a copy. Nothing is overwritten.
    Restore {
        /// The copy.
        #[arg(long)]
        from: PathBuf,
        /// The data folder, which must not be there yet or be empty.
        #[arg(long)]
        dir: PathBuf,
        /// The folder of keys, if the copy has none.
        #[arg(long)]
        keys: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Write policy.toml anew from dp.toml, keeping contact, terms and the look-ups a day. Then read it, and `config apply`.
    Propose {
        /// The data folder.
        #[arg(long, env = "WAYMARK_DP_DIR")]
        dir: PathBuf,
    },
    /// Have policy.toml, and interval_ms of dp.toml, logged with the next batch of the DP, running or not.
    Apply {
        /// The data folder.
        #[arg(long, env = "WAYMARK_DP_DIR")]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum ProviderCommand {
    /// Have a provider's signed entry logged with the next batch. That the domain is its owner's is yours to know.
    Add {
        /// The data folder.
        #[arg(long, env = "WAYMARK_DP_DIR")]
        dir: PathBuf,
        /// The entry, as `waymark msp keygen` or `waymark prover keygen` wrote it.
        entry: PathBuf,
    },
    /// Whose keys the log holds.
    List {
        /// The data folder.
        #[arg(long, env = "WAYMARK_DP_DIR")]
        dir: PathBuf,
    },
}

/// Runs `waymark-dp`.
pub fn run() -> ExitCode {
    telemetry::init(false);
    let cli: Cli = screen::arguments();
    end(runtime(async {
        match cli.command {
            Command::Init {
                dir,
                domain,
                origin,
                witnesses,
                quorum,
                listen,
                operations,
                interval_ms,
                codes,
                regions,
                store,
            } => {
                let witnesses = parse_witnesses(&witnesses)?;
                let quorum = quorum.unwrap_or(witnesses.len().saturating_sub(1).max(1));
                let file = File {
                    origin: origin.unwrap_or_else(|| format!("{domain}/log")),
                    domain,
                    listen,
                    operations: Some(operations),
                    interval_ms,
                    store,
                    codes,
                    lookups_per_minute: LOOKUPS_PER_MINUTE_DEFAULT,
                    requests_per_minute: REQUESTS_PER_MINUTE_DEFAULT,
                    relays_per_minute: RELAYS_PER_MINUTE_DEFAULT,
                    answer_bytes_min: ANSWER_BYTES_MIN_DEFAULT,
                    regions,
                    visible_mappings: VISIBLE_MAPPINGS_DEFAULT,
                    trusted_proxies: vec![],
                    proxy_header: None,
                    csip: vec![],
                    prover: vec![],
                    recycling: vec![],
                    tls: None,
                };
                make(&dir, &NewDp { file, witnesses, quorum })
            }
            Command::Run { dir, listen, operations } => {
                let roots = ExtraRoots::from_environment().map_err(|e| End::Could(e.into()))?;
                let mut settings = Settings::load_believing(&dir, roots).map_err(|e| End::Could(e.into()))?;
                settings.listen = listen.unwrap_or(settings.listen);
                settings.operations = operations.or(settings.operations);
                serve(settings).await
            }
            Command::CheckConfig { dir } => check_config(&dir),
            Command::Unserve { dir, about, serving } => {
                serves(&about, AuthorityRole::Dp, &load(&dir)?.prover, &serving).await
            }
            Command::Fsck { dir } => run_fsck(&dir),
            Command::Adopt { dir } => adopt(&dir),
            Command::AcceptFindings { dir, yes } => accept_findings(&dir, yes),
            Command::Openapi => {
                print!("{}", crate::http::openapi::json());
                Ok(())
            }
            Command::Provider(ProviderCommand::Add { dir, entry }) => add_provider(&dir, &entry),
            Command::Provider(ProviderCommand::List { dir }) => list_providers(&dir),
            Command::Config(ConfigCommand::Propose { dir }) => promises::propose(&dir),
            Command::Config(ConfigCommand::Apply { dir }) => promises::apply(&dir),
            Command::Backup { dir, to, region, with_keys } => copies::back_up(&dir, &to, region.as_deref(), with_keys),
            Command::Restore { from, dir, keys } => copies::restore(&from, &dir, keys.as_deref()),
        }
    }))
}

pub(super) fn load(dir: &std::path::Path) -> Result<Settings, End> {
    Settings::load(dir).map_err(|e| End::Could(e.into()))
}

fn parse_witnesses(words: &[String]) -> Result<Vec<(String, Vkey, String)>, End> {
    let parse = |w: &[String]| {
        let vkey = Vkey::parse(&w[1]).map_err(|e| End::Usage(format!("witness {}: {e}", w[0])))?;
        Ok((w[0].clone(), vkey, w[2].clone()))
    };
    words.chunks_exact(3).map(parse).collect()
}

fn make(dir: &std::path::Path, new: &NewDp) -> Ended {
    let vkey = init(dir, new, &Clock::System).map_err(|e| End::Could(e.into()))?;
    println!("{vkey}");
    eprintln!("log {} is open in {}", new.file.origin, dir.display());
    eprintln!(
        "back up {}/keys now: whoever loses vrf.key loses the directory, whoever leaks it leaks who is in it",
        dir.display()
    );
    if new.witnesses.is_empty() {
        eprintln!("no witness is named: the DP will not start until policy.txt has a quorum (trust.toml likewise)");
    }
    eprintln!("clients trust it by {}/{}", dir.display(), names::TRUST);
    Ok(())
}

async fn serve(settings: Settings) -> Ended {
    process::raise_descriptors();
    let told = process::stop_signal()?;
    let running = dp::start(settings, Clock::System).await.map_err(|e| End::Could(e.into()))?;
    if let Some(url) = running.operations_url() {
        eprintln!("health and metrics at {url}");
    }
    eprintln!("{} listening on {}, log at {}", running.vkey().name(), running.url(), running.log_url());
    let stopped = tokio::select! {
        () = told => None,
        why = running.stopped() => Some(why),
    };
    let ended = running.stop().await;
    match (stopped, ended) {
        (Some(why), _) => Err(End::Could(anyhow::anyhow!(
            "the sequencer stopped: {why}. So the program ends, look-ups too. Start it again to recover"
        ))),
        (None, Err(why)) => Err(End::Could(why.into())),
        (None, Ok(())) => Ok(()),
    }
}

fn check_config(dir: &std::path::Path) -> Ended {
    let settings = load(dir)?;
    println!("domain              {}", settings.domain);
    println!("origin              {}", settings.origin);
    println!("log key             {}", settings.signer.vkey());
    println!("VRF key             {}", settings.vrf.public().to_hex());
    println!("listen              {}", settings.listen);
    println!("trusted_proxies     {}", settings.proxies);
    println!("operations          {}", settings.operations.map_or("none".to_owned(), |a| a.to_string()));
    println!(
        "tls                 {}",
        settings.tls.as_ref().map_or("none".to_owned(), |f| f.cert.display().to_string())
    );
    if let Some(files) = &settings.tls {
        Tls::load(files).map_err(|e| End::Could(e.into()))?;
    }
    println!("interval_ms         {}", settings.interval_ms);
    println!("store               {:?}", settings.store);
    println!("codes               {}", settings.codes.describe());
    println!("lookups_per_minute  {}", settings.does.limits.lookups_per_minute);
    println!("requests_per_minute {}", settings.requests_per_minute);
    println!("relays_per_minute   {}", settings.relays_per_minute);
    println!("regions             {}", settings.does.regions.join(" "));
    println!("visible_mappings    {}", settings.does.visible_max());
    println!("recycling           {:?}", settings.recycling);
    println!("policy document     {}", settings.policy_document.digest.to_hex());
    settings.policy_document.document.check(&settings.does).map_err(|e| End::Could(e.into()))?;
    println!("answer_bytes_min    {}", settings.answer_bytes_min);
    println!("witnesses           {}", settings.policy.witnesses().len());
    println!("quorum              {}", settings.policy.cosignatures_min());
    if settings.policy.is_without_quorum() {
        return Err(End::Could(anyhow::anyhow!("policy.txt says `quorum none`: the DP will not start")));
    }
    Ok(())
}

fn run_fsck(dir: &std::path::Path) -> Ended {
    let settings = load(dir)?;
    let could = |e: anyhow::Error| End::Could(e);
    let rows = open_rows(dir, settings.store, false).map_err(|e| could(e.into()))?;
    let head = Head::at(&dir.join(names::HEAD));
    let files = LogFiles::at(&dir.join(names::LOG)).map_err(|e| could(e.into()))?;
    let keys = RowKeys::open(&dir.join(names::ROW_KEYS)).map_err(|e| could(e.into()))?;
    let sealer = Sealer::new(&settings.store_key, std::sync::Arc::new(keys));
    let accepted = Accepted::load(dir, &settings.origin).map_err(|e| could(e.into()))?;
    let report = fsck(&*rows, &head, &files, &sealer, &settings.origin, settings.signer.vkey(), &accepted);
    let report = report.map_err(|e| could(e.into()))?;
    let (records, deleted) = (report.records, report.deleted);
    println!("{} entries, {records} records of {} identifiers, {deleted} deleted", report.entries, report.identifiers);
    if report.unsigned > 0 {
        println!("{} records of a batch that was never signed: the next start drops them", report.unsigned);
    }
    let mut faults = report.faults;
    if let Err(why) = keys::check(&settings, &report.open, &report.providers, &*rows, &sealer) {
        faults.push(why.to_string());
    }
    faults.extend(missing_policies(&files, report.entries, &Shelf::of(dir)).map_err(|e| could(e.into()))?);
    for fault in &faults {
        println!("fault: {fault}");
    }
    for file in leftovers::find(dir).map_err(|e| could(e.into()))? {
        println!("left over by an interrupted write, and removed at the next start: {}", file.display());
    }
    if faults.is_empty() { Ok(()) } else { Err(End::Failed(format!("{} faults", faults.len()))) }
}

/// Takes a copy of a data folder for the one that the DP runs in from now on.
fn adopt(dir: &std::path::Path) -> Ended {
    load(dir)?;
    let lock = durable::lock(&dir.join(names::LOCK))?;
    let _lock = lock.ok_or_else(|| End::Could(anyhow::anyhow!("the DP is running: stop it first")))?;
    instance::adopt(dir).map_err(|e| End::Could(e.into()))?;
    println!(
        "{}: the DP starts in this folder from now on. Do not start it in the folder that this is a copy of",
        dir.display()
    );
    Ok(())
}

/// Shows the findings, one a line; writes them down if all can be accepted and the operator says so.
fn accept_findings(dir: &std::path::Path, yes: bool) -> Ended {
    let settings = load(dir)?;
    let could = |e: anyhow::Error| End::Could(e);
    let lock = durable::lock(&dir.join(names::LOCK))?;
    let _lock = lock.ok_or_else(|| could(anyhow::anyhow!("the DP is running: stop it first")))?;
    let rows = open_rows(dir, settings.store, false).map_err(|e| could(e.into()))?;
    let head = Head::at(&dir.join(names::HEAD));
    let files = LogFiles::at(&dir.join(names::LOG)).map_err(|e| could(e.into()))?;
    let read = read_back(&*rows, &head, &files, &settings.origin, settings.signer.vkey());
    let found = read.map_err(|e| could(e.into()))?.found;
    for found in &found {
        let never = if found.can_be_accepted() { "" } else { "never accepted: " };
        println!("{never}{found}");
    }
    if found.is_empty() {
        println!("monitors find nothing wrong with this log");
        return Ok(());
    }
    if !found.iter().all(Found::can_be_accepted) {
        return Err(End::Failed("the log was rewritten or forked: it cannot be continued".to_owned()));
    }
    if !yes {
        let text =
            "Monitors have seen this, or will, and go on saying it. To continue the log all the same, give --yes";
        return Err(End::NotMet(text.to_owned()));
    }
    Accepted::store(dir, &settings.origin, &found).map_err(|e| could(e.into()))?;
    eprintln!("written to {}: the DP starts again", dir.join(names::ACCEPTED).display());
    Ok(())
}

fn add_provider(dir: &std::path::Path, entry: &std::path::Path) -> Ended {
    let bytes = durable::read(entry, onboarding::PROVIDER_BYTES_MAX)?;
    let bytes = bytes.ok_or_else(|| End::Could(anyhow::anyhow!("{}: there is no such file", entry.display())))?;
    let provider = onboarding::parse(&bytes).map_err(|e| End::Could(anyhow::anyhow!("{}: {e}", entry.display())))?;
    let settings = load(dir)?;
    let message = provider.key_message(&settings.origin);
    let verdict = provider.by_key.0.as_ref().map(|signature| provider.key.judge(&message, signature));
    if verdict == Some(Verdict::NotSupported) {
        return Err(End::Could(anyhow::anyhow!("the entry's key is of an algorithm that this program cannot check")));
    }
    if verdict != Some(Verdict::Holds) {
        return Err(End::Could(anyhow::anyhow!("the entry is not signed for the log {}", settings.origin)));
    }
    onboarding::submit(dir, &provider)?;
    println!("{} will be logged with the next batch", provider.domain);
    if provider.by_valid.0.is_none() {
        eprintln!(
            "if the domain is known already, the key is due seven days later: no valid key of the domain has signed for it"
        );
    }
    Ok(())
}

fn list_providers(dir: &std::path::Path) -> Ended {
    let settings = load(dir)?;
    let (entries, checkpoint) = published_entries(&settings)?;
    let mut log = Audited::new(settings.origin.clone(), settings.signer.key());
    log.extend(&entries, checkpoint.size, &checkpoint.root);
    for leaf in log.providers().leaves() {
        for key in leaf.keys.iter() {
            let publishes = if key.publishes.0 { "publishes" } else { "-" };
            println!("{}\t{}\t{publishes}\t{}", leaf.domain, leaf.role, key.key.to_hex());
        }
    }
    Ok(())
}

/// The published log of this key: its entries, and the checkpoint that they lead to. Before anything is published, what `init`
/// signed: an operator mends dp.toml and has it promised before the first run.
pub(super) fn published_entries(settings: &Settings) -> Result<(Vec<Vec<u8>>, Checkpoint), End> {
    let could = |e: anyhow::Error| End::Could(e);
    let files = LogFiles::at(&settings.dir.join(names::LOG)).map_err(|e| could(e.into()))?;
    // What is published, not what is signed: the tiles of that are all there, also while the DP is running.
    let note = files.checkpoint().map_err(|e| could(e.into()))?;
    let note = match note {
        Some(note) => note,
        None => {
            let head = Head::at(&settings.dir.join(names::HEAD)).load().map_err(|e| could(e.into()))?;
            head.ok_or_else(|| could(anyhow::anyhow!("there is no log here; `waymark-dp init` makes one")))?.into()
        }
    };
    let parsed = Note::parse(&note).map_err(|e| could(e.into()))?;
    let vkey = std::slice::from_ref(settings.signer.vkey());
    let signed = SignedCheckpoint::open(&parsed, &settings.origin, vkey)
        .map_err(|e| could(anyhow::anyhow!("the published log is not signed by keys/log.key: {e}")))?;
    let checkpoint = signed.checkpoint().clone();
    let mut entries = Vec::new();
    files.entries(checkpoint.size, |e| entries.push(e)).map_err(|e| could(e.into()))?;
    Ok((entries, checkpoint))
}
