//! `waymark msp`: the reference adapter, the life of its key, and bringing people over.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::{Args, Subcommand};
use serde::Serialize;
use waymark_log::{
    checkpoint::Origin,
    key::{Key, SecretKey},
};
use waymark_mapping::{entry::ProviderRole, event::AuthorityRole, names::Domain};
use waymark_runtime::{
    clock::Clock,
    durable,
    fetch::ExtraRoots,
    keyfile, process,
    screen::{self, OneLine},
    tls::TlsFiles,
};

use super::{
    End, Ended, fetcher_for, read_trust,
    statement::{About, Serving, serves},
};
use crate::{
    client::{
        import::{self, PATIENCE_S_DEFAULT, Progress, Summary},
        provider::ProviderClient,
    },
    msp::{
        self,
        keys::{self, KeysError, Rotation},
    },
    onboarding,
};

/// Longest that an import request may take: its changes wait for their head for half a minute.
const IMPORT_S_MAX: u64 = 60;

/// A messaging provider's adapter.
#[derive(Debug, Subcommand)]
pub enum MspCommand {
    /// Make the MSP's key and the entry that its DP is to log.
    Keygen {
        /// The adapter's folder.
        #[arg(long)]
        dir: PathBuf,
        /// The MSP's domain.
        #[arg(long)]
        domain: String,
        /// Origin of the DP's log.
        #[arg(long)]
        origin: String,
        /// Log every consent: then no sender counts a visible mapping naming this MSP unless it could see it.
        #[arg(long)]
        publishes: bool,
        /// 1 consumer service, 2 operator, 3 enterprise cloud, 4 enterprise on premises.
        #[arg(long, default_value_t = 0)]
        class: u8,
    },
    /// Consent to users' mappings, watch for them, tell them what was seen, and relay their look-ups.
    Serve {
        /// The adapter's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Where to listen.
        #[arg(long, env = "WAYMARK_MSP_LISTEN", default_value = "127.0.0.1:8083")]
        listen: SocketAddr,
        /// A certificate chain (PEM): beyond loopback only with it. Read again when it changes.
        #[arg(long, requires = "tls_key", env = "WAYMARK_MSP_TLS_CERT")]
        tls_cert: Option<PathBuf>,
        /// Its key (PEM, mode 0600).
        #[arg(long, requires = "tls_cert", env = "WAYMARK_MSP_TLS_KEY")]
        tls_key: Option<PathBuf>,
        /// The DP's log, to watch for users.
        #[arg(long, requires = "trust")]
        log_url: Option<String>,
        /// Whom to believe about it.
        #[arg(long, requires = "log_url")]
        trust: Option<PathBuf>,
        /// The DP, to relay users' look-ups to. Without it none are relayed.
        #[arg(long, env = "WAYMARK_DP")]
        dp: Option<String>,
        /// Look-ups a day that are relayed for each user.
        #[arg(long, default_value_t = msp::LOOKUPS_PER_DAY_DEFAULT, value_parser = clap::value_parser!(u32).range(i64::from(msp::LOOKUPS_PER_DAY_MIN)..))]
        lookups_per_day: u32,
    },
    /// Change to a new key, which retires the old one. Run it again to go on where it was cut off.
    Rotate {
        #[command(flatten)]
        at: At,
        /// Without the old key: the entry goes through the DP's operator, and the new key is due after seven days.
        #[arg(long)]
        lost: bool,
    },
    /// End a key. Consents under it no longer count.
    Retire {
        #[command(flatten)]
        at: At,
        /// Which, in hex; the one in use unless said otherwise.
        #[arg(long)]
        key: Option<String>,
    },
    /// Cancel a key for our domain that waits for its seven days to end and that we know nothing of.
    Cancel {
        #[command(flatten)]
        at: At,
        /// Which, in hex, if several wait.
        #[arg(long)]
        key: Option<String>,
        /// In which role it waits: msp, prover, csip or token-issuer.
        #[arg(long, default_value = "msp")]
        role: String,
    },
    /// Sign a provider entry of our domain with the key in use, and hand it in: its key, the first in another role, need not wait then.
    Vouch {
        #[command(flatten)]
        at: At,
        /// The entry: a .provider file.
        entry: PathBuf,
    },
    /// Say that a user's mapping is not served any more, or is again. It removes nothing.
    Detach {
        /// The adapter's folder.
        #[arg(long)]
        dir: PathBuf,
        #[command(flatten)]
        about: About,
        #[command(flatten)]
        serving: Serving,
    },
    /// Hand over changes that users have signed, one a line. Run it again to go on where it was cut off.
    Import {
        #[command(flatten)]
        at: At,
        /// The changes: {"change":"<base64>"} a line. A journal is kept beside it.
        #[arg(long)]
        file: PathBuf,
        /// Seconds without any progress after which to give up.
        #[arg(long, default_value_t = PATIENCE_S_DEFAULT)]
        patience_s: u64,
        /// The summary as one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Which adapter, at which DP.
#[derive(Debug, Args)]
pub struct At {
    /// The adapter's folder.
    #[arg(long)]
    dir: PathBuf,
    /// The DP's URL.
    #[arg(long, env = "WAYMARK_DP")]
    dp: String,
}

impl At {
    fn client(&self, longest_s: u64) -> Result<ProviderClient, End> {
        let (domain, origin) = msp::identity(&self.dir).map_err(|e| End::Could(e.into()))?;
        let fetcher = fetcher_for(longest_s)?;
        Ok(ProviderClient::new(fetcher, &self.dp, origin, Clock::System, domain))
    }
}

impl From<KeysError> for End {
    fn from(error: KeysError) -> Self {
        Self::Could(error.into())
    }
}

pub async fn run(command: MspCommand) -> Ended {
    match command {
        MspCommand::Keygen { dir, domain, origin, publishes, class } => {
            let domain = Domain::parse(&domain).ok_or_else(|| End::Usage("not a lower-case domain".to_owned()))?;
            let origin = Origin::new(&origin).map_err(|e| End::Usage(e.to_string()))?;
            let entry = msp::init(&dir, &domain, &origin, publishes, class)?;
            println!("{}", entry.display());
            eprintln!("give this entry to the DP: waymark-dp provider add --dir DP_FOLDER {}", entry.display());
            Ok(())
        }
        MspCommand::Serve { dir, listen, tls_cert, tls_key, log_url, trust, dp, lookups_per_day } => {
            let log = match (log_url, trust) {
                (Some(url), Some(trust)) => Some((url, read_trust(&trust)?)),
                _ => None,
            };
            let settings = msp::Settings::load(&dir, listen, log).map_err(|e| End::Could(e.into()))?;
            let tls = tls_cert.zip(tls_key).map(|(cert, key)| TlsFiles { cert, key });
            let roots = ExtraRoots::from_environment().map_err(|e| End::Could(e.into()))?;
            serve(msp::Settings { dp, lookups_per_day, tls, roots, ..settings }).await
        }
        MspCommand::Rotate { at, lost } => rotate(&at, lost).await,
        MspCommand::Retire { at, key } => {
            let key = keys::retire(&at.dir, &at.client(10)?, parse_key(key)?).await?;
            println!("{}", key.to_hex());
            eprintln!("retired: consents under this key no longer count");
            Ok(())
        }
        MspCommand::Cancel { at, key, role } => {
            let role = ProviderRole::parse(&role).ok_or_else(|| End::Usage("not a role of providers".to_owned()))?;
            let key = keys::cancel(&at.dir, &at.client(10)?, role, parse_key(key)?).await?;
            println!("{}", key.to_hex());
            eprintln!("cancelled. Find out who had it logged: it was not signed with your key");
            Ok(())
        }
        MspCommand::Vouch { at, entry } => {
            let bytes = durable::read(&entry, onboarding::PROVIDER_BYTES_MAX)?;
            let missing = || End::Could(anyhow::anyhow!("{}: there is no such file", entry.display()));
            let parsed = onboarding::parse(&bytes.ok_or_else(missing)?);
            let parsed = parsed.map_err(|e| End::Could(anyhow::anyhow!("{}: {e}", entry.display())))?;
            let listed = keys::vouch(&at.dir, &at.client(10)?, parsed).await?;
            println!("{}", listed.key.to_hex());
            Ok(())
        }
        MspCommand::Detach { dir, about, serving } => {
            let seed = keyfile::load(&dir.join(keys::KEY)).map_err(|e| End::Could(e.into()))?;
            serves(&about, AuthorityRole::Msp, &SecretKey::from_seed(&seed), &serving).await
        }
        MspCommand::Import { at, file, patience_s, json } => bring(&at, &file, patience_s, json).await,
    }
}

fn parse_key(text: Option<String>) -> Result<Option<Key>, End> {
    text.map(|t| Key::from_hex(&t).ok_or_else(|| End::Usage("not a key in hex".to_owned()))).transpose()
}

async fn serve(settings: msp::Settings) -> Ended {
    process::raise_descriptors();
    let told = process::stop_signal()?;
    let running = msp::start(settings, Clock::System).await?;
    eprintln!("listening on {}", running.url());
    told.await;
    let alerts = running.told();
    running.stop().await;
    if alerts? > 0 { Err(End::Alerts) } else { Ok(()) }
}

async fn rotate(at: &At, lost: bool) -> Ended {
    match keys::rotate(&at.dir, &at.client(10)?, lost).await? {
        Rotation::Done(key) => {
            println!("{}", key.to_hex());
            eprintln!("the new key is in use; consents under the old one show as unconfirmed");
        }
        Rotation::Due(key, due) => {
            println!("{}", key.to_hex());
            eprintln!("the directory holds the new key, which is due at {} ms; run this again then", due.get());
        }
        Rotation::ForOperator(path) => {
            println!("{}", path.display());
            eprintln!("give this entry to the DP's operator; once it is logged, the key is due after seven days");
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    #[serde(flatten)]
    summary: Summary,
    elapsed_ms: u128,
}

async fn bring(at: &At, file: &Path, patience_s: u64, json: bool) -> Ended {
    let dp = at.client(IMPORT_S_MAX)?;
    let seed = keyfile::load(&at.dir.join(keys::KEY)).map_err(|e| End::Could(e.into()))?;
    let (began, is_terminal) = (Instant::now(), screen::is_watched());
    let mut tell = |progress: Progress<'_>| match progress {
        Progress::Refused(line, code) => eprintln!("line {line}: {}", OneLine(code)),
        Progress::Over(over, of) if is_terminal => screen::err_over(format_args!("{over} of {of} ")),
        Progress::Waiting(pause) => eprintln!("the DP asks for {} s of patience", pause.as_secs()),
        Progress::Over(..) => {}
    };
    let summary = import::import(&dp, &SecretKey::from_seed(&seed), file, patience_s, &mut tell).await;
    if is_terminal {
        eprintln!();
    }
    let summary = summary.map_err(|e| End::Could(e.into()))?;
    let (published, refused, lines) = (summary.published, summary.refused, summary.lines);
    if json {
        let report = Report { schema: "waymark.import/1", summary, elapsed_ms: began.elapsed().as_millis() };
        println!("{}", serde_json::to_string(&report).map_err(|e| End::Could(e.into()))?);
    } else {
        println!("{published} of {lines} published, {refused} refused");
    }
    if refused == 0 {
        return Ok(());
    }
    let journal = import::journal::path_of(file);
    Err(End::Could(anyhow::anyhow!("{refused} lines were refused; {} says why", journal.display())))
}
