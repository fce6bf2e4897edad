//! `waymark recipient prove`: that the identifier is yours.

use std::{fs, path::PathBuf, time::Duration};

use clap::Args;
use waymark_log::key::SecretKey;
use waymark_mapping::{
    mapping::{Attestation, Purpose},
    wire::encode,
};
use waymark_runtime::{clock::Clock, durable};

use super::{App, Ended, ask, fetcher};
use crate::{
    api::challenges::{ChallengeAnswer, IncomingAsk},
    client::{
        ClientError, card,
        dp::DpClient,
        mask::mask,
        recipient::{RecipientError, check_attestation},
    },
    possession::{message, outbox::Progress, sender::Channel},
};

/// How often it is asked whether a link was opened.
const LINK_POLL: Duration = Duration::from_secs(1);

/// Prove possession.
#[derive(Debug, Args)]
pub struct ProveArgs {
    /// The app's folder.
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// To claim an identifier that somebody else's mappings stand under, or to take up the claim after its hold.
    #[arg(long)]
    for_claim: bool,
    /// Only to look at what is kept (`export`), not to change it.
    #[arg(long, conflicts_with = "for_claim")]
    to_view: bool,
    /// An independent prover, by URL, instead of the DP. The DP must have logged it.
    #[arg(long, value_name = "URL")]
    prover: Option<String>,
    /// The way that the code is to take; by the kind of identifier unless said otherwise.
    #[arg(long, value_enum)]
    channel: Option<Channel>,
    /// Read the code from this folder instead of asking, where the prover runs with codes = "folder".
    #[arg(long)]
    codes: Option<PathBuf>,
    /// Wait until the link in the mail was opened, instead of asking for the code.
    #[arg(long, conflicts_with = "codes")]
    link: bool,
    /// Send a message from the number or the mailbox yourself first, as you are told then; a mail is answered with a
    /// code. For where no more codes are sent there.
    #[arg(long, conflicts_with_all = ["codes", "link"])]
    by_message: bool,
}

pub(super) async fn prove(app: &App, args: &ProveArgs) -> Ended {
    let looked_up = app.look_up().await?;
    let tenure = match (args.for_claim, looked_up.get().tenure) {
        (true, Some(tenure)) => tenure.saturating_add(1),
        _ if args.to_view => looked_up.get().tenure.unwrap_or(0),
        _ => looked_up.get().tenure_of_next_mapping,
    };
    let (origin, key) = (app.dp.origin(), &app.keys.recipient);
    let prover = match &args.prover {
        Some(url) => DpClient::new(fetcher()?, url, origin.clone(), Clock::System),
        None => app.dp.clone(),
    };
    let purpose = if args.to_view { Purpose::View } else { Purpose::Control };
    let started = match args.by_message {
        true => prover.start_incoming(args.channel, key, &app.csi, tenure, purpose).await,
        false => prover.start_challenge_by(args.channel, key, &app.csi, tenure, purpose).await,
    };
    let challenge = started.map_err(RecipientError::from)?;
    let (masked, channel) = (mask(&app.csi), challenge.channel);
    match &challenge.incoming {
        Some(IncomingAsk { to, text }) => {
            // A prover writes nothing to a terminal but letters.
            let (to, text) = (to.escape_debug(), text.escape_debug());
            match challenge.channel {
                Channel::Email => {
                    eprintln!(
                        "send a new mail from {masked} to {to} within ten minutes, with this text as the subject; a \
                         code is sent in answer:"
                    )
                }
                _ => eprintln!(
                    "send a message from {masked} to {to} within ten minutes, with this text and nothing else:"
                ),
            }
            eprintln!("{text}");
        }
        None => eprintln!("a code was sent to {masked} by {channel}; reference {}", message::reference(&challenge.id)),
    }
    let attestation = match &args.codes {
        Some(folder) => {
            let code = fs::read_to_string(folder.join(&challenge.id))?;
            prover.check_challenge(key, &challenge.id, code.trim()).await
        }
        None if args.by_message => wait_for_message(&prover, key, &challenge).await,
        None if args.link => wait_for_link(&prover, key, &challenge).await,
        None => enter_code(&prover, key, &challenge).await,
    };
    let attestation = attestation.map_err(RecipientError::from)?.ok_or(RecipientError::WrongCode)?;
    let attestation = check_attestation(attestation, origin, key, &app.csi)?;
    durable::replace(&app.dir.join("attestation"), &encode(&attestation))?;
    println!("possession attested by {} until {}", attestation.prover, card::date(attestation.expiry));
    Ok(())
}

/// Asks for the code until it is right; the prover ends it after five wrong ones.
async fn enter_code(
    prover: &DpClient,
    key: &SecretKey,
    challenge: &ChallengeAnswer,
) -> Result<Option<Attestation>, ClientError> {
    let id = &challenge.id;
    loop {
        let Some(line) = ask("enter it, or `again` to have it sent again, or nothing when you have opened its link: ")
        else {
            return Ok(None);
        };
        let attestation = match line.as_str() {
            "again" => prover.send_challenge(key, id).await.map(|_| None)?,
            "" => poll(prover, key, id).await?,
            code => prover.check_challenge(key, id, code).await?,
        };
        if attestation.is_some() {
            return Ok(attestation);
        }
    }
}

/// Asks how far it is, and says so if the code is being held up.
async fn poll(prover: &DpClient, key: &SecretKey, id: &str) -> Result<Option<Attestation>, ClientError> {
    let (attestation, delivery) = prover.poll_delivery(key, id).await?;
    if delivery == Some(Progress::Waiting) {
        eprintln!("the code has not been taken by the mail or message service yet; it is tried again, please wait");
    }
    Ok(attestation)
}

/// Looks every second whether the message came, until that no longer counts. A mail is answered with a code, which is
/// asked for then.
async fn wait_for_message(
    prover: &DpClient,
    key: &SecretKey,
    challenge: &ChallengeAnswer,
) -> Result<Option<Attestation>, ClientError> {
    while Clock::System.now().get() < challenge.expires_ms {
        match prover.poll_delivery(key, &challenge.id).await? {
            (Some(attestation), _) => return Ok(Some(attestation)),
            (None, Some(_)) => {
                eprintln!("the mail came; a code was sent in answer, reference {}", message::reference(&challenge.id));
                return enter_code(prover, key, challenge).await;
            }
            (None, None) => tokio::time::sleep(LINK_POLL).await,
        }
    }
    Ok(None)
}

/// Looks every second whether the link was opened, until it no longer works.
async fn wait_for_link(
    prover: &DpClient,
    key: &SecretKey,
    challenge: &ChallengeAnswer,
) -> Result<Option<Attestation>, ClientError> {
    while Clock::System.now().get() < challenge.expires_ms {
        let attestation = prover.poll_challenge(key, &challenge.id).await?;
        if attestation.is_some() {
            return Ok(attestation);
        }
        tokio::time::sleep(LINK_POLL).await;
    }
    Ok(None)
}
