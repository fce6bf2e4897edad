//! `waymark recipient`: one app of one recipient. Its folder holds its keys and what it has seen; it names the CSI, so it is
//! made for its owner alone.

use std::{
    fs,
    io::{BufRead, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use waymark_log::{hash::Hash, key::SecretKey};
use waymark_mapping::{
    event::EventKind,
    identifier::Csi,
    mapping::{Attestation, Purpose, Tags},
    names::{Account, Domain, Tag},
    receipt::Current,
    trust::Trust,
    verify::{Asked, Trail},
    watch::WatchId,
    wire::{decode, encode},
};
use waymark_runtime::{clock::Clock, config, durable, keyfile, random};

use super::{End, Ended, fetcher, fetcher_for, origin_of, read_csi, read_trust};
use crate::client::{
    card,
    dp::DpClient,
    msp::{MspClient, send_watch_list},
    recipient::{
        Added, AppKeys, MappingSpec, Wish, change, history, leaf_of, look_up, prove, sign_mapping, watch_list,
    },
};

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
    /// Prove that the identifier is yours: the DP sends a code, you hand it in.
    Prove {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Read codes from this folder instead of asking, where the DP runs with codes = "folder".
        #[arg(long)]
        codes: Option<PathBuf>,
    },
    /// Register at a messaging provider, or opt out.
    Issue(IssueArgs),
    /// Remove mappings: your own, or by the rule for new mappings somebody else's.
    Withdraw {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Which, as `history` shows them; all of this app's unless said otherwise.
        #[arg(long = "mapping")]
        mappings: Vec<String>,
    },
    /// Show what is registered under the identifier, as its recipient may see it.
    History {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Renew the blind watch-list and send it to whoever watches.
    WatchList {
        /// The app's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Monitors and MSP adapters, by URL.
        #[arg(long = "send")]
        send: Vec<String>,
        /// Write the list to a file.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Claim a change that another app made without being asked.
        #[arg(long)]
        yes: bool,
    },
}

/// Register.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// The app's folder.
    #[arg(long)]
    dir: PathBuf,
    /// The messaging provider's domain.
    #[arg(long, required_unless_present = "opt_out")]
    msp: Option<String>,
    /// Its adapter, for its consent.
    #[arg(long)]
    msp_url: Option<String>,
    /// The account there.
    #[arg(long, default_value = "")]
    account: String,
    /// What for: default, business, personal, or any text. Repeat for more.
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Hidden: found only by somebody who presents this tag.
    #[arg(long, conflicts_with = "tags")]
    exact_tag: Option<String>,
    /// Say that you do not want to be found.
    #[arg(long, conflicts_with_all = ["msp", "msp_url", "tags", "exact_tag"])]
    opt_out: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppFile {
    csi: String,
    dp: String,
    trust: PathBuf,
    watch_id: String,
}

/// What the app saw last: a change of the record that it did not make shows against this.
#[derive(Serialize, Deserialize, Clone)]
struct Seen {
    version: u32,
    leaf: String,
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

    fn seen(&self) -> Result<Option<Seen>, End> {
        let bytes = durable::read(&self.dir.join("seen.json"), 4096)?;
        bytes.map(|b| serde_json::from_slice(&b).map_err(|e| End::Could(e.into()))).transpose()
    }

    fn remember(&self, current: &Current) -> Ended {
        let seen = Seen { version: current.state.version, leaf: leaf_of(current).to_hex() };
        let bytes = serde_json::to_vec(&seen).map_err(|e| End::Could(e.into()))?;
        Ok(durable::replace(&self.dir.join("seen.json"), &bytes)?)
    }
}

pub async fn run(command: RecipientCommand) -> Ended {
    match command {
        RecipientCommand::Keygen { dir, csi, dp, trust, region } => keygen(&dir, &csi, dp, &trust, region.as_deref()),
        RecipientCommand::Prove { dir, codes } => prove_possession(&App::load(&dir)?, codes).await,
        RecipientCommand::Issue(args) => issue(&App::load(&args.dir)?, &args).await,
        RecipientCommand::Withdraw { dir, mappings } => withdraw(&App::load(&dir)?, &mappings).await,
        RecipientCommand::History { dir } => show_history(&App::load(&dir)?).await,
        RecipientCommand::WatchList { dir, send, out, yes } => renew(&App::load(&dir)?, &send, out, yes).await,
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

async fn prove_possession(app: &App, codes: Option<PathBuf>) -> Ended {
    let asked = Asked { csi: app.csi.clone(), tag: None };
    let (looked_up, _) = look_up(&app.dp, &asked, &app.trust, None, &mut Trail::default()).await?;
    let tenure = looked_up.get().tenure.unwrap_or(0);
    let masked = app.csi.masked();
    let read = |id: String| async move {
        match codes {
            Some(folder) => fs::read_to_string(folder.join(id)).ok(),
            None => ask(&format!("a code was sent to {masked}; enter it: ")),
        }
    };
    let attestation = prove(&app.dp, &app.keys.recipient, &app.csi, tenure, Purpose::Control, read).await?;
    durable::replace(&app.dir.join("attestation"), &encode(&attestation))?;
    println!("possession attested by {} until {}", attestation.prover, card::date(attestation.expiry));
    Ok(())
}

fn ask(question: &str) -> Option<String> {
    eprint!("{question}");
    std::io::stderr().flush().ok()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).ok()?;
    Some(line.trim().to_owned())
}

async fn issue(app: &App, args: &IssueArgs) -> Ended {
    let usage = |what: &str| End::Usage(what.to_owned());
    let parse_tag = |t: &String| Tag::parse(t).ok_or_else(|| usage("a tag is 1 to 64 bytes in NFC"));
    let tags = match &args.exact_tag {
        Some(tag) => Tags::Exact(parse_tag(tag)?),
        None => Tags::shown(args.tags.iter().map(parse_tag).collect::<Result<_, _>>()?)
            .ok_or_else(|| usage("tags repeat or are too many, or `default` is not alone"))?,
    };
    let msp = args.msp.as_deref().map(|d| Domain::parse(d).ok_or_else(|| usage("not a lower-case domain")));
    let account = Account::parse(&args.account).ok_or_else(|| usage("not an account"))?;
    let spec = MappingSpec { msp: msp.transpose()?, account, tags };
    let attestation = app.attestation()?;
    let origin = app.dp.origin().clone();
    let mapping = sign_mapping(&origin, &app.keys.recipient, &spec, &attestation, Clock::System.now());
    let consent = match &args.msp_url {
        Some(url) => {
            let msp = MspClient::new(fetcher()?, url, origin, Clock::System);
            let given = msp.consent(&app.keys.recipient, &mapping).await;
            Some(given.map_err(|e| End::Could(anyhow::Error::from(e).context("the MSP's consent")))?)
        }
        None => None,
    };
    let kind = if args.opt_out { EventKind::OptOut } else { EventKind::Issue };
    let added = [Added { mapping, consent }];
    let signers = [(&app.keys.recipient, None)];
    let wish = Wish { kind, csi: &app.csi, added: &added, removed: &[], signers: &signers };
    finish(app, change(&app.dp, wish, &app.trust, None).await?)
}

async fn withdraw(app: &App, digests: &[String]) -> Ended {
    let current = current(app).await?;
    let own = app.keys.recipient.public();
    let removed: Vec<Hash> = if digests.is_empty() {
        current.state.held.iter().filter(|h| h.mapping.recipient == own).map(|h| h.mapping.digest()).collect()
    } else {
        let parse =
            |d: &String| Hash::from_hex(d).ok_or_else(|| End::Usage("a mapping is named by 64 hex digits".into()));
        digests.iter().map(parse).collect::<Result<_, _>>()?
    };
    let foreign =
        current.state.held.iter().any(|h| h.mapping.recipient != own && removed.contains(&h.mapping.digest()));
    // The rule for new mappings asks for possession proved after the change.
    let possession = if foreign { Some(app.attestation()?) } else { None };
    let signers = [(&app.keys.recipient, possession)];
    let wish = Wish { kind: EventKind::Withdraw, csi: &app.csi, added: &[], removed: &removed, signers: &signers };
    finish(app, change(&app.dp, wish, &app.trust, None).await?)
}

fn finish(app: &App, current: Current) -> Ended {
    app.remember(&current)?;
    println!("version {} is in the log, cosigned, and holds what you signed and nothing else", current.state.version);
    if !current.complete {
        println!("your key is new here: hidden mappings of other keys, if any, are not shown to it for 72 hours");
    }
    eprintln!("next: waymark recipient watch-list --dir {} --send MONITOR_URL", app.dir.display());
    Ok(())
}

async fn current(app: &App) -> Result<Current, End> {
    match history(&app.dp, &app.keys.recipient, &app.csi, &app.trust).await {
        Ok(Some(current)) => Ok(current),
        Ok(None) => Err(End::Nothing),
        Err(crate::client::recipient::RecipientError::Client(e)) if e.code() == Some("no-record") => {
            println!("this key has no mapping under the identifier; `waymark lookup` shows what everybody sees");
            Err(End::Nothing)
        }
        Err(e) => Err(e.into()),
    }
}

async fn show_history(app: &App) -> Ended {
    let current = current(app).await?;
    let state = &current.state;
    println!("{}: version {}, tenure {}", app.csi.masked(), state.version, state.tenure);
    let now = Clock::System.now();
    for held in &state.held {
        let m = &held.mapping;
        let mine = if m.recipient == app.keys.recipient.public() { "this app" } else { "another key" };
        let new = if held.standing.is_new_at(now) { ", NEW" } else { "" };
        let hidden = if held.is_hidden() { ", hidden" } else { "" };
        let msp = m.msp.get().map_or("opted out".to_owned(), |d| d.to_string());
        println!("  {msp}  {}  by {mine}{new}{hidden}, since {}", m.account.expose(), card::date(held.standing.since));
        println!("    {}", m.digest().to_hex());
    }
    match app.seen()? {
        Some(seen) if seen.version < state.version => {
            println!("! {} changes since this app last looked", state.version - seen.version);
            Err(End::Alerts)
        }
        _ => Ok(()),
    }
}

async fn renew(app: &App, send: &[String], out: Option<PathBuf>, yes: bool) -> Ended {
    let current = current(app).await?;
    let seen = app.seen()?;
    let own =
        current.event.as_ref().is_some_and(|e| e.authorities.iter().any(|a| a.key == app.keys.recipient.public()));
    let changed = seen.as_ref().is_some_and(|s| s.version != current.state.version);
    if changed && !own && !yes {
        let question =
            format!("another key changed your record (version {} now). Was that you? [y/N] ", current.state.version);
        if ask(&question).as_deref() != Some("y") {
            println!("not claimed: whoever watches will raise an alert. See `waymark recipient history`");
            return Err(End::Alerts);
        }
    }
    let list = watch_list(app.dp.origin(), &app.keys, &current, Some(leaf_of(&current)), Clock::System.now());
    if let Some(path) = &out {
        durable::replace(path, &list.encode())?;
        println!("{}", path.display());
    }
    for url in send {
        let sent = send_watch_list(&fetcher()?, url, &list).await;
        sent.map_err(|e| End::Could(anyhow::Error::from(e).context(url.clone())))?;
        println!("{} labels are watched by {url}", list.labels.len());
    }
    app.remember(&current)
}
