//! `waymark recipient`: an app for one identifier at one DP, in a folder.
//!
//! | command | file |
//! |---|---|
//! | keygen | here |
//! | prove | [`possess`] |
//! | issue, renew, rotate-key, withdraw, erase | [`change`] |
//! | claim, object, take-over | [`claim`] |
//! | token, revoke | [`token`] |
//! | history, export, show-key | [`show`] |
//! | watch-list, alerts | [`watch`] |
//! | what is shown before a change is made over it | [`overtaken`] |

mod change;
mod claim;
mod overtaken;
mod possess;
mod show;
mod token;
mod watch;

use std::{
    fs,
    io::BufRead,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use waymark_log::{hash::Hash, key::SecretKey};
use waymark_mapping::{
    event::EventKind,
    identifier::Csi,
    mapping::Attestation,
    receipt::Current,
    trust::Trust,
    verify::{Asked, Lookup, Trail, Verified},
    watch::WatchId,
    wire::decode,
};
use waymark_runtime::{clock::Clock, config, durable, keyfile, random};

use self::{change::IssueArgs, possess::ProveArgs};
use super::{End, Ended, fetcher, fetcher_for, origin_of, read_csi, read_trust};
use crate::{
    cli::lookup::{keep, keep_what_speaks},
    client::{
        dp::DpClient,
        memory::{self, LogMemory},
        recipient::{AppKeys, RecipientError, Wish, change as make_change, history, look_up},
    },
};

/// What an app remembers of the log, in its folder.
const MEMORY_FILE: &str = "log.memory";

/// A recipient's app.
#[derive(Debug, Subcommand)]
pub enum RecipientCommand {
    /// Make an app's keys for one identifier at one DP.
    Keygen {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// The phone number or e-mail address.
        csi: String,
        /// The DP's URL.
        #[arg(long, env = "WAYMARK_DP")]
        dp: String,
        /// Whom to believe.
        #[arg(long, env = "WAYMARK_TRUST")]
        trust: PathBuf,
        /// The region of a number without country code.
        #[arg(long)]
        region: Option<String>,
    },
    /// Prove that the identifier is yours: a code is sent to it, you hand it in.
    Prove(ProveArgs),
    /// Register at a messaging provider, or opt out.
    Issue(IssueArgs),
    /// Say the same again with a fresh proof of possession, before it lapses after 180 days.
    Renew {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Only if a mapping is due: at a moment of its last 30 days that the app draws, so that nobody can tell which renewals are one
        /// person's. Ends with 4 if none is due; for a daily timer.
        #[arg(long)]
        if_due: bool,
        /// The MSP's adapter, for its consent.
        #[arg(long)]
        msp_url: Option<String>,
    },
    /// Hand everything that this app says over to another key of yours.
    RotateKey {
        /// This app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// The other app's folder: made with `keygen`, possession proved with `prove`.
        #[arg(long)]
        to: PathBuf,
        /// The MSP's adapter, for its consent.
        #[arg(long)]
        msp_url: Option<String>,
    },
    /// Remove mappings: your own, or by the rule for new mappings somebody else's.
    Withdraw {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Which, as `history` shows them; all of this app's unless said otherwise.
        #[arg(long = "mapping")]
        mappings: Vec<String>,
    },
    /// Have everything forgotten: mappings, openings, history. All that stands must be yours, or new.
    Erase {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Say that you mean it.
        #[arg(long)]
        yes: bool,
    },
    /// Claim an identifier that somebody else's mappings stand under: it is yours after a hold, unless they object.
    Claim {
        /// The app's folder; possession proved with `prove --for-claim`.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Object to a claim: it waits once more as long; with fresh possession it ends.
    Object {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Possession was proved again with `prove`: end the claim, and remove what the claimant added.
        #[arg(long)]
        stop: bool,
    },
    /// Take up your claim after its hold, with your first mapping; possession proved again with `prove --for-claim`.
    TakeOver(IssueArgs),
    /// Prepare a revocation for a lost phone, to be kept offline. Whoever has it can end all mappings of this app.
    Token {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Where to write it.
        #[arg(long)]
        out: PathBuf,
    },
    /// Hand in a revocation that was prepared. No key is needed.
    Revoke {
        /// The file.
        token: PathBuf,
        /// The DP's URL.
        #[arg(long, env = "WAYMARK_DP")]
        dp: String,
        /// Whom to believe.
        #[arg(long, env = "WAYMARK_TRUST")]
        trust: PathBuf,
    },
    /// Show what is registered under the identifier, as its recipient may see it.
    History {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Show the identifier in full instead of masked.
        #[arg(long)]
        show: bool,
        /// And what happened before, as far back as this key may see.
        #[arg(long)]
        all: bool,
    },
    /// Get everything that the DP keeps about the identifier, as JSON.
    Export {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Where to write it; mode 0600.
        #[arg(long)]
        out: PathBuf,
    },
    /// Show the key of this app, as a text and a QR code, for somebody who looks you up to compare.
    ShowKey {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Renew the blind watch-list and send it to whoever watches.
    WatchList {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// A monitor, by URL; may be given many times. It is not told whose list it is.
        #[arg(long = "send")]
        send: Vec<String>,
        /// An MSP's adapter at which this app has an account; may be given many times. The request is signed by the app's
        /// recipient key, which the MSP knows.
        #[arg(long)]
        msp_url: Vec<String>,
        /// Write the list to a file.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Claim a change that another app made without being asked.
        #[arg(long)]
        yes: bool,
    },
    /// Ask those who watch what they saw; exit code 6 if there is anything.
    Alerts {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// A monitor, by URL.
        #[arg(long)]
        monitor: String,
        /// Only what comes after the alert with this number.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppFile {
    csi: String,
    dp: String,
    trust: PathBuf,
    watch_id: String,
}

/// `seen.json`: the versions of the record that this app knows of.
#[derive(Serialize, Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// The last one that the person was shown: nothing is signed over a later one.
    shown: u32,
    /// Its commitment, in hexadecimal digits: the past that a DP shows must lead through it.
    #[serde(default)]
    commitment: Option<String>,
    /// The last one that this app made, or that the person said was their doing: a watch-list claims no later one unasked.
    claimed: Option<u32>,
}

struct App {
    dir: PathBuf,
    csi: Csi,
    keys: AppKeys,
    trust: Trust,
    dp: DpClient,
}

impl App {
    fn load(dir: &Path) -> Result<Self, End> {
        let file: AppFile = config::load(&dir.join("app.toml")).map_err(|e| End::Could(e.into()))?;
        let key = |name: &str| -> Result<SecretKey, End> {
            let seed = keyfile::load(&dir.join(name)).map_err(|e| End::Could(e.into()))?;
            Ok(SecretKey::from_seed(&seed))
        };
        let damaged = || End::Could(anyhow::anyhow!("{}: damaged", dir.join("app.toml").display()));
        let watch_id = HEXLOWER.decode(file.watch_id.as_bytes()).ok().and_then(|b| b.try_into().ok());
        let keys = AppKeys {
            recipient: key("recipient.key")?,
            watcher: key("watcher.key")?,
            watch_id: WatchId(watch_id.ok_or_else(damaged)?),
        };
        let trust = read_trust(&file.trust)?;
        let origin = origin_of(&trust)?;
        let dp = DpClient::new(fetcher_for(40)?, &file.dp, origin, Clock::System);
        Ok(Self { dir: dir.to_owned(), csi: Csi::parse(&file.csi).map_err(|_| damaged())?, keys, trust, dp })
    }

    fn attestation(&self) -> Result<Attestation, End> {
        let path = self.dir.join("attestation");
        let missing =
            || End::Could(anyhow::anyhow!("possession is not proved yet: run `waymark recipient prove` first"));
        let bytes = durable::read(&path, 4096)?.ok_or_else(missing)?;
        decode("attestation", &bytes).map_err(|e| End::Could(e.into()))
    }

    /// Runs what reads the log, with what this app remembers of it, and remembers what it has seen by then. What speaks against the
    /// log or a witness is kept.
    async fn remembering<T>(
        &self,
        run: impl AsyncFnOnce(&mut LogMemory) -> Result<T, RecipientError>,
    ) -> Result<T, End> {
        let path = self.dir.join(MEMORY_FILE);
        let mut memory = LogMemory::new(memory::load(&path)?, Some(self.dp.log()));
        let result = run(&mut memory).await;
        let stored = memory.store(&path, &self.trust).await;
        if let Some(why) = memory.unshown() {
            eprintln!("! NOT SHOWN that this is still the log seen before: {why}. Nothing speaks against it");
        }
        if let Some(evidence) = result.as_ref().err().and_then(RecipientError::evidence) {
            keep(&path, &evidence)?;
        }
        keep_what_speaks(&path, &memory, stored)?;
        Ok(result?)
    }

    /// What everybody sees.
    async fn look_up(&self) -> Result<Verified<Lookup>, End> {
        let asked = Asked { origin: self.dp.origin().clone(), csi: self.csi.clone(), tag: None };
        let look = async |memory: &mut LogMemory| {
            let remembered = memory.remembered();
            let (seen, _) = look_up(&self.dp, &asked, &self.trust, remembered, &mut Trail::default()).await?;
            memory.take(seen.recall()).await?;
            Ok(seen)
        };
        self.remembering(look).await
    }

    fn seen(&self) -> Result<Option<Seen>, End> {
        let bytes = durable::read(&self.dir.join("seen.json"), 4096)?;
        bytes.map(|b| serde_json::from_slice(&b).map_err(|e| End::Could(e.into()))).transpose()
    }

    fn remember(&self, seen: Seen) -> Ended {
        let bytes = serde_json::to_vec(&seen).map_err(|e| End::Could(e.into()))?;
        Ok(durable::replace(&self.dir.join("seen.json"), &bytes)?)
    }

    /// The person was shown this version; whose doing it is was not said.
    fn remember_shown(&self, version: u32, commitment: Option<Hash>) -> Ended {
        let claimed = self.seen()?.and_then(|seen| seen.claimed);
        self.remember(Seen { shown: version, commitment: commitment.map(|c| c.to_hex()), claimed })
    }

    /// Has the record that is shown lead through the one that was shown last.
    fn must_follow(&self, current: &mut Current) -> Ended {
        let Some(Seen { shown, commitment: Some(commitment), .. }) = self.seen()? else { return Ok(()) };
        let Some(commitment) = Hash::from_hex(&commitment) else { return Ok(()) };
        current.anchor.remember(shown, commitment).map_err(|refused| RecipientError::from(refused).into())
    }

    /// The person was shown this version, and it is their doing.
    fn remember_claimed(&self, current: &Current) -> Ended {
        let (shown, commitment) = (current.state.version, Some(current.commitment.to_hex()));
        self.remember(Seen { shown, commitment, claimed: Some(shown) })
    }

    /// A change without content yet, over what the person was last shown.
    fn wish(&self, kind: EventKind) -> Result<Wish<'_>, End> {
        let over = self.seen()?.map(|seen| seen.shown);
        Ok(Wish { kind, csi: &self.csi, over, added: &[], removed: &[], signers: &[] })
    }
}

pub async fn run(command: RecipientCommand) -> Ended {
    let load = |dir: &Path| App::load(dir);
    match command {
        RecipientCommand::Keygen { dir, csi, dp, trust, region } => keygen(&dir, &csi, dp, &trust, region.as_deref()),
        RecipientCommand::Prove(args) => possess::prove(&load(&args.dir)?, &args).await,
        RecipientCommand::Issue(args) => change::issue(&load(&args.dir)?, &args).await,
        RecipientCommand::Renew { dir, if_due, msp_url } => {
            change::renew(&load(&dir)?, if_due, msp_url.as_deref()).await
        }
        RecipientCommand::RotateKey { dir, to, msp_url } => {
            change::rotate(&load(&dir)?, &load(&to)?, msp_url.as_deref()).await
        }
        RecipientCommand::Withdraw { dir, mappings } => change::withdraw(&load(&dir)?, &mappings).await,
        RecipientCommand::Erase { dir, yes } => change::erase(&load(&dir)?, yes).await,
        RecipientCommand::Claim { dir } => claim::claim(&load(&dir)?).await,
        RecipientCommand::Object { dir, stop } => claim::object(&load(&dir)?, stop).await,
        RecipientCommand::TakeOver(args) => claim::take_over(&load(&args.dir)?, &args).await,
        RecipientCommand::Token { dir, out } => token::prepare(&load(&dir)?, &out).await,
        RecipientCommand::Revoke { token, dp, trust } => token::hand_in(&token, dp, &trust).await,
        RecipientCommand::History { dir, show, all } => show::history(&load(&dir)?, show, all).await,
        RecipientCommand::Export { dir, out } => show::export(&load(&dir)?, &out).await,
        RecipientCommand::ShowKey { dir } => show::key(&load(&dir)?).await,
        RecipientCommand::WatchList { dir, send, msp_url, out, yes } => {
            watch::renew(&load(&dir)?, &watch::Places { monitors: send, msps: msp_url, out }, yes).await
        }
        RecipientCommand::Alerts { dir, monitor, after } => watch::alerts(&load(&dir)?, &monitor, after).await,
    }
}

fn keygen(dir: &Path, typed: &str, dp: String, trust: &Path, region: Option<&str>) -> Ended {
    let csi = read_csi(typed, region)?;
    origin_of(&read_trust(trust)?)?;
    durable::private_folder(dir)?;
    let could = |e: keyfile::KeyFileError| End::Could(e.into());
    let recipient = SecretKey::from_seed(&*keyfile::create(&dir.join("recipient.key")).map_err(could)?);
    keyfile::create(&dir.join("watcher.key")).map_err(could)?;
    let file = AppFile {
        csi: csi.expose().to_owned(),
        dp,
        trust: fs::canonicalize(trust)?,
        watch_id: HEXLOWER.encode(&random::bytes::<16>()),
    };
    let text = toml::to_string_pretty(&file).map_err(|e| End::Could(e.into()))?;
    durable::replace(&dir.join("app.toml"), text.as_bytes())?;
    println!("{}", recipient.public().to_hex());
    eprintln!("next: waymark recipient prove --dir {}", dir.display());
    Ok(())
}

/// The record as this app may see it; ends with "nothing" if this key has no mapping in it.
async fn current(app: &App) -> Result<Current, End> {
    match current_if_any(app).await? {
        Some(current) => Ok(current),
        None => nothing_here(),
    }
}

fn nothing_here<T>() -> Result<T, End> {
    println!(
        "the DP says that this key has no mapping under the identifier; `waymark lookup` proves what everybody sees"
    );
    Err(End::Nothing)
}

/// The record as this app may see it, if this key has a mapping in it.
async fn current_if_any(app: &App) -> Result<Option<Current>, End> {
    let read = async |memory: &mut LogMemory| match history(&app.dp, &app.keys.recipient, &app.csi, &app.trust, memory)
        .await
    {
        Err(RecipientError::Client(e)) if e.code() == Some("no-record") => Ok(None),
        current => current,
    };
    let mut current = app.remembering(read).await?;
    if let Some(current) = &mut current {
        app.must_follow(current)?;
    }
    Ok(current)
}

/// Makes a change, accepts its receipt, and says what comes next.
async fn make(app: &App, wish: Wish<'_>) -> Ended {
    make_by(app, app, wish).await
}

/// Makes a change that `by` sends, over what the person saw with `app`. If something else was changed since, that is shown, and the
/// change is made only if the person says so.
async fn make_by(app: &App, by: &App, wish: Wish<'_>) -> Ended {
    if let Some(current) = try_to_make(by, wish.clone()).await? {
        return finish(by, &current);
    }
    let over = Some(overtaken::show(app).await?);
    if ask("make the change over this? [y/N] ").as_deref() == Some("y") {
        if let Some(current) = try_to_make(by, Wish { over, ..wish }).await? {
            return finish(by, &current);
        }
        println!("the record was changed once more meanwhile");
    }
    println!("no change was made over what you had not seen. If the record is as it should be, give the command again");
    Err(End::Alerts)
}

/// Makes a change, unless something else overtook it.
async fn try_to_make(by: &App, wish: Wish<'_>) -> Result<Option<Current>, End> {
    let change = async |memory: &mut LogMemory| match make_change(&by.dp, wish, &by.trust, memory).await {
        Err(RecipientError::Overtaken { .. }) => Ok(None),
        // Between the look-up and the change.
        Err(RecipientError::Client(e)) if e.code() == Some("version-stale") => Ok(None),
        made => made.map(Some),
    };
    by.remembering(change).await
}

fn finish(app: &App, current: &Current) -> Ended {
    app.remember_claimed(current)?;
    println!(
        "version {} is in the log and cosigned; it holds what stood before and what you signed, and nothing else",
        current.state.version
    );
    let own = app.keys.recipient.public();
    let others = current.state.held.iter().filter(|h| h.mapping.recipient != own).count();
    if others == current.state.held.len() {
        println!("this app has no mapping in it any more; its watch-list ends with the next that is sent");
        watch::keep_last(app, current)?;
    }
    if others > 0 {
        println!("mappings of other keys in it: {others}; `waymark lookup` shows what everybody sees of them");
    }
    if !current.complete {
        println!("your key is new here: hidden mappings of other keys, if any, are not shown to it for 72 hours");
    }
    eprintln!("next: waymark recipient watch-list --dir {} --send MONITOR_URL", app.dir.display());
    Ok(())
}

/// A line from the terminal, `None` at its end.
fn ask(question: &str) -> Option<String> {
    eprint!("{question}");
    let mut line = String::new();
    let bytes = std::io::stdin().lock().read_line(&mut line).ok()?;
    (bytes > 0).then(|| line.trim().to_owned())
}
