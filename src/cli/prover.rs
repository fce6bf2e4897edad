//! `waymark prover`: an independent prover.

use std::{net::SocketAddr, path::PathBuf};

use clap::Subcommand;
use waymark_log::checkpoint::Origin;
use waymark_mapping::names::Domain;
use waymark_runtime::{clock::Clock, fetch::ExtraRoots, process, tls::TlsFiles};

use super::{End, Ended};
use crate::{possession::config::Codes, prover};

/// An independent prover: attests possession for a DP's log, instead of the DP.
#[derive(Debug, Subcommand)]
pub enum ProverCommand {
    /// Make the prover's key and the entry that its DP is to log.
    Keygen {
        /// The prover's folder.
        #[arg(long)]
        dir: PathBuf,
        /// The prover's domain.
        #[arg(long)]
        domain: String,
        /// Origin of the DP's log.
        #[arg(long)]
        origin: String,
        /// Where codes go, for development; prover.toml says how they go by mail, SMS and voice.
        #[arg(long, value_enum, default_value_t)]
        codes: Codes,
    },
    /// Answer challenges.
    Serve {
        /// The prover's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Where to listen.
        #[arg(long, env = "WAYMARK_PROVER_LISTEN", default_value = "127.0.0.1:8084")]
        listen: SocketAddr,
        /// A certificate chain (PEM): beyond loopback only with it. Read again when it changes.
        #[arg(long, requires = "tls_key", env = "WAYMARK_PROVER_TLS_CERT")]
        tls_cert: Option<PathBuf>,
        /// Its key (PEM, mode 0600).
        #[arg(long, requires = "tls_cert", env = "WAYMARK_PROVER_TLS_KEY")]
        tls_key: Option<PathBuf>,
    },
}

pub async fn run(command: ProverCommand) -> Ended {
    match command {
        ProverCommand::Keygen { dir, domain, origin, codes } => {
            let domain = Domain::parse(&domain).ok_or_else(|| End::Usage("not a lower-case domain".to_owned()))?;
            let origin = Origin::new(&origin).map_err(|e| End::Usage(e.to_string()))?;
            let entry = prover::init(&dir, &domain, &origin, codes)?;
            println!("{}", entry.display());
            eprintln!("give this entry to the DP: waymark-dp provider add --dir DP_FOLDER {}", entry.display());
            Ok(())
        }
        ProverCommand::Serve { dir, listen, tls_cert, tls_key } => {
            let mut settings = prover::Settings::load(&dir, listen).map_err(|e| End::Could(e.into()))?;
            settings.tls = tls_cert.zip(tls_key).map(|(cert, key)| TlsFiles { cert, key });
            settings.code_secrets.roots = ExtraRoots::from_environment().map_err(|e| End::Could(e.into()))?;
            process::raise_descriptors();
            let told = process::stop_signal()?;
            let running = prover::start(settings, Clock::System).await.map_err(|e| End::Could(e.into()))?;
            eprintln!("listening on {}", running.url());
            told.await;
            running.stop().await;
            Ok(())
        }
    }
}
