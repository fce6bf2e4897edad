//! What providers say about a record in their own role: `waymark msp detach`, `waymark csip`, `waymark-dp unserve`. None of it
//! removes anything but a CSIP's release.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use waymark_log::{checkpoint::Origin, hash::Hash, key::SecretKey};
use waymark_mapping::{
    entry::{Entry, ProviderRole},
    event::AuthorityRole,
    names::Domain,
};
use waymark_runtime::{clock::Clock, durable, keyfile};

use super::{End, Ended, fetcher_for, origin_of, read_csi, read_trust, with_notes};
use crate::{
    client::{
        card,
        dp::DpClient,
        mask::mask,
        statement::{Statement, state},
    },
    init::provider_entry,
};

/// Longest that a statement may take: it waits for its head.
const STATEMENT_S_MAX: u64 = 40;

/// About whom, at which DP.
#[derive(Debug, Args)]
pub struct About {
    /// The phone number or e-mail address.
    csi: String,
    /// The region of a number without country code.
    #[arg(long)]
    region: Option<String>,
    /// The DP's URL.
    #[arg(long, env = "WAYMARK_DP")]
    dp: String,
    /// Whom to believe.
    #[arg(long, env = "WAYMARK_TRUST")]
    trust: PathBuf,
}

/// Which mapping, and whether it is served.
#[derive(Debug, Args)]
pub struct Serving {
    /// The mapping, by its digest: 64 hex digits, as `lookup --json` shows them.
    #[arg(long)]
    mapping: String,
    /// Why it is not served, 1 to 255: a code of yours, which senders see.
    #[arg(long, required_unless_present = "again", value_parser = clap::value_parser!(u8).range(1..))]
    reason: Option<u8>,
    /// It is served again.
    #[arg(long, conflicts_with = "reason")]
    again: bool,
}

impl Serving {
    fn statement(&self) -> Result<Statement, End> {
        let digest = Hash::from_hex(&self.mapping);
        let digest = digest.ok_or_else(|| End::Usage("a mapping is named by 64 hex digits".to_owned()))?;
        Ok(Statement::Serves(digest, self.reason.unwrap_or(0)))
    }
}

/// Says in a role whether a mapping is served.
pub async fn serves(about: &About, role: AuthorityRole, secret: &SecretKey, serving: &Serving) -> Ended {
    say(about, role, secret, serving.statement()?).await
}

async fn say(about: &About, role: AuthorityRole, secret: &SecretKey, statement: Statement) -> Ended {
    let trust = read_trust(&about.trust)?;
    let csi = read_csi(&about.csi, about.region.as_deref())?;
    let dp = DpClient::new(fetcher_for(STATEMENT_S_MAX)?, &about.dp, origin_of(&trust)?, Clock::System);
    let seen = state(&dp, secret, role, &csi, statement, &trust).await?;
    print!("{}", card::words(seen.get(), &mask(&csi), Clock::System.now()));
    for gone_back in seen.recall().gone_back() {
        // No memory is kept here, so the notes are printed: the person must be able to keep them.
        eprintln!("{}", with_notes(&card::gone_back_words(gone_back), gone_back.evidence().as_ref()));
    }
    Ok(())
}

/// Whoever issues identifiers: a telephone operator, a mail provider.
#[derive(Debug, Subcommand)]
pub enum CsipCommand {
    /// Make the CSIP's key and the entry that a DP is to log.
    Keygen {
        /// The CSIP's folder.
        #[arg(long)]
        dir: PathBuf,
        /// The CSIP's domain.
        #[arg(long)]
        domain: String,
        /// Origin of the DP's log.
        #[arg(long)]
        origin: String,
    },
    /// Say that an identifier was taken back: its tenure ends at once. A DP believes it if its `[[csip]]` says so.
    Release {
        /// The CSIP's folder.
        #[arg(long)]
        dir: PathBuf,
        #[command(flatten)]
        about: About,
    },
}

/// Name of the file with a CSIP's key.
const CSIP_KEY: &str = "csip.key";

/// Runs `waymark csip`.
pub async fn csip(command: CsipCommand) -> Ended {
    match command {
        CsipCommand::Keygen { dir, domain, origin } => keygen(&dir, &domain, &origin),
        CsipCommand::Release { dir, about } => {
            let seed = keyfile::load(&dir.join(CSIP_KEY)).map_err(|e| End::Could(e.into()))?;
            say(&about, AuthorityRole::Csip, &SecretKey::from_seed(&seed), Statement::Release).await
        }
    }
}

fn keygen(dir: &Path, domain: &str, origin: &str) -> Ended {
    let domain = Domain::parse(domain).ok_or_else(|| End::Usage("not a lower-case domain".to_owned()))?;
    let origin = Origin::new(origin).map_err(|e| End::Usage(e.to_string()))?;
    durable::private_folder(dir)?;
    let seed = keyfile::create(&dir.join(CSIP_KEY)).map_err(|e| End::Could(e.into()))?;
    let entry = provider_entry(&domain, ProviderRole::CSIP, false, 2, &origin, &SecretKey::from_seed(&seed));
    let path = dir.join(format!("{domain}.provider"));
    durable::replace(&path, &Entry::Provider(entry).encode())?;
    println!("{}", path.display());
    eprintln!("give this entry to the DP: waymark-dp provider add --dir DP_FOLDER {}", path.display());
    Ok(())
}
