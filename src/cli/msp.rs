//! `waymark msp`: the reference adapter.

use std::{net::SocketAddr, path::PathBuf};

use clap::Subcommand;
use waymark_log::checkpoint::Origin;
use waymark_mapping::names::Domain;
use waymark_runtime::{clock::Clock, fetch::ExtraRoots, process, tls::TlsFiles};

use super::{End, Ended, read_trust};
use crate::msp;

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
    /// Consent to users' mappings and watch for them.
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
    },
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
        MspCommand::Serve { dir, listen, tls_cert, tls_key, log_url, trust } => {
            let log = match (log_url, trust) {
                (Some(url), Some(trust)) => Some((url, read_trust(&trust)?)),
                _ => None,
            };
            let mut settings = msp::Settings::load(&dir, listen, log).map_err(|e| End::Could(e.into()))?;
            settings.tls = tls_cert.zip(tls_key).map(|(cert, key)| TlsFiles { cert, key });
            settings.roots = ExtraRoots::from_environment().map_err(|e| End::Could(e.into()))?;
            process::raise_descriptors();
            let told = process::stop_signal()?;
            let running = msp::start(settings, Clock::System).await?;
            eprintln!("listening on {}", running.url());
            told.await;
            let alerts = running.unexpected().len();
            running.stop().await;
            if alerts > 0 { Err(End::Alerts) } else { Ok(()) }
        }
    }
}
