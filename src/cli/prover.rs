//! `waymark prover`: an independent prover.

use std::{
    io::{self, Read},
    net::SocketAddr,
    path::PathBuf,
};

use clap::Subcommand;
use waymark_log::checkpoint::Origin;
use waymark_mapping::{identifier::Csi, names::Domain};
use waymark_runtime::{clock::Clock, fetch::ExtraRoots, process, tls::TlsFiles};

use super::{End, Ended};
use crate::{
    possession::{
        config::Codes,
        incoming::{self, MESSAGE_BYTES_MAX},
    },
    prover,
};

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
    /// Take a message that came in, from standard input: for a mail server or a gateway that has checked who sent it.
    ///
    /// A mail as it came, with its header; of a text message the text. Answers, and what programs send, are refused.
    Received {
        /// The folder of the prover or the DP.
        #[arg(long)]
        dir: PathBuf,
        /// Who sent it, checked: a mail address, or a number such as +4915112345678.
        #[arg(long)]
        from: String,
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
        ProverCommand::Received { dir, from } => {
            let scheme = if from.starts_with('+') { "tel" } else { "mailto" };
            let csi = Csi::parse(&format!("{scheme}:{from}"));
            // What is wrong with it may repeat it, and this is run by a program that logs what it is told.
            let csi = csi.map_err(|_| End::Usage("--from is neither a mail address nor a number".to_owned()))?;
            // Else a folder that is mistyped would be made, and every message in it lost.
            let files = [prover::names::CONFIG, crate::config::names::CONFIG];
            if !files.iter().any(|file| dir.join(file).is_file()) {
                let what = format!("--dir {}: there is neither {} nor {} in it", dir.display(), files[0], files[1]);
                return Err(End::Usage(what));
            }
            let mut message = vec![];
            io::stdin().take(MESSAGE_BYTES_MAX as u64).read_to_end(&mut message)?;
            match incoming::receive(&dir, &csi, &String::from_utf8_lossy(&message))? {
                Ok(()) => eprintln!("taken"),
                // No failure: a mail server would answer it, or hand it over again.
                Err(why) => eprintln!("not a proof: {why}"),
            }
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
