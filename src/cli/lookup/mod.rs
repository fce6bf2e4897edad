//! `waymark lookup` and `waymark verify`.

mod report;

use std::{
    env,
    path::{Path, PathBuf},
};

use clap::Args;
use waymark_log::{key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    evidence::Evidence,
    names::{Domain, Tag},
    trust::Trust,
    verify::{Asked, Lookup, Rejected, Trail, Verified, verify},
};
use waymark_runtime::{clock::Clock, durable, follow::LogReader, keyfile};

use self::report::{Context, View, Wanted, report};
use super::{End, Ended, fetcher, origin_of, read_csi, read_trust};
use crate::client::{
    card,
    choose::Filter,
    dp::DpClient,
    key_text::KeyText,
    mask::shown,
    memory::{self, LogMemory, StoreError},
    msp::MspClient,
    policy::Policy,
    saved::SavedAnswer,
    sticky::{Choices, StickyError},
};

/// How a look-up ends whose answer is proved by itself, while the log has not shown that it is the one remembered.
const UNSHOWN: &str = "the log has not shown that it is still the one seen before; nothing speaks against it";
/// Most bytes in a file of ours that is read back.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Look somebody up.
#[derive(Debug, Args)]
pub struct LookupArgs {
    /// A phone number with its country code, or an e-mail address.
    csi: String,
    /// The DP's URL.
    #[arg(long, env = "WAYMARK_DP", required_unless_present_any = ["forget", "via"])]
    dp: Option<String>,
    /// Ask through this provider's adapter instead: the DP then sees neither who asks nor from where.
    #[arg(long, requires = "app", conflicts_with_all = ["hint", "full"])]
    via: Option<String>,
    /// The folder of an app with an account there (`waymark recipient keygen`).
    #[arg(long)]
    app: Option<PathBuf>,
    /// Have it proved when each mapping was logged, so that the answer can be passed on.
    #[arg(long)]
    full: bool,
    /// Whom to believe.
    #[arg(long, env = "WAYMARK_TRUST")]
    trust: PathBuf,
    /// A tag to present. With --choose, only what bears it or was found by it is used.
    #[arg(long)]
    tag: Option<String>,
    /// The region of a number without country code, such as DE.
    #[arg(long)]
    region: Option<String>,
    #[command(flatten)]
    wanted: WantedArgs,
    /// Say which one mapping to use, and why; the same one again until there is a reason.
    #[arg(long)]
    choose: bool,
    /// Choose another one than before.
    #[arg(long)]
    again: bool,
    /// Forget what was chosen, and look nobody up.
    #[arg(long, conflicts_with_all = ["choose", "again", "hint"])]
    forget: bool,
    /// The folder in which choices are remembered. Default: waymark, in $XDG_STATE_HOME or ~/.local/state.
    #[arg(long, env = "WAYMARK_CHOICES")]
    choices: Option<PathBuf>,
    /// Ask for the DP's word only, a kilobyte without any proof. It is never more than a hint.
    #[arg(long, conflicts_with_all = ["choose", "again", "msp", "not_msp", "require", "compare", "explain", "out", "remember"])]
    hint: bool,
    /// Keep the answer in a file, for `waymark verify`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// What was seen of the log before, and from now on: a log that shows somebody else another past, or goes back, is then
    /// caught, and the evidence is kept in the folder `evidence` beside this file.
    #[arg(long)]
    remember: Option<PathBuf>,
    /// Where the log's tiles are read, to see that it is still the one remembered. Default: at the DP; with --via nowhere, since
    /// the DP would then see who reads.
    #[arg(long, requires = "remember")]
    log: Option<String>,
    #[command(flatten)]
    view: View,
}

/// Check an answer that was saved.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The file that `waymark lookup --out` wrote.
    file: PathBuf,
    /// Whom to believe.
    #[arg(long, env = "WAYMARK_TRUST")]
    trust: PathBuf,
    /// Judge as of this time, milliseconds since 1970, instead of now: an answer goes stale after ten minutes.
    #[arg(long)]
    at: Option<u64>,
    #[command(flatten)]
    wanted: WantedArgs,
    #[command(flatten)]
    view: View,
}

/// What is asked of the mappings, beyond that the answer verifies.
#[derive(Debug, Args)]
struct WantedArgs {
    /// Only at this provider. Repeat for more.
    #[arg(long)]
    msp: Vec<String>,
    /// Not at this provider. Repeat for more.
    #[arg(long)]
    not_msp: Vec<String>,
    /// A test that a mapping's facts must pass, beside those of the trust file: L1 to L4, service-confirmed, not-new, age-days=30
    /// and so on. Repeat for more.
    #[arg(long)]
    require: Vec<String>,
    /// Only by the key that the recipient's app shows: the text that `waymark recipient show-key` prints there.
    #[arg(long)]
    compare: Option<String>,
}

impl WantedArgs {
    fn read(&self, trust: &Trust) -> Result<Wanted, End> {
        let domain = |d: &String| Domain::parse(d).ok_or_else(|| End::Usage("not a lower-case domain".to_owned()));
        let domains = |all: &[String]| all.iter().map(domain).collect::<Result<Vec<_>, _>>();
        let names = trust.require().iter().chain(&self.require);
        let filter = Filter {
            only: domains(&self.msp)?,
            not: domains(&self.not_msp)?,
            policy: Policy::parse(names).map_err(|e| End::Usage(e.to_string()))?,
            ..Filter::default()
        };
        let compare = self.compare.as_deref().map(KeyText::parse).transpose();
        Ok(Wanted { filter, compare: compare.map_err(|e| End::Usage(e.to_string()))? })
    }
}

pub async fn look_up(args: LookupArgs) -> Ended {
    let trust = read_trust(&args.trust)?;
    let csi = read_csi(&args.csi, args.region.as_deref())?;
    let tag = args.tag.as_deref().map(|t| Tag::parse(t).ok_or_else(|| End::Usage("not a tag".to_owned())));
    let asked = Asked { origin: origin_of(&trust)?, csi, tag: tag.transpose()? };
    if args.forget {
        return forget(&args, &asked);
    }
    if args.hint {
        return hint(&client(&args, &trust)?, &asked, &args.view).await;
    }
    let mut wanted = args.wanted.read(&trust)?;
    let mut choices = None;
    if args.choose || args.again {
        wanted.filter.tag.clone_from(&asked.tag);
        choices = Some(open_choices(args.choices.as_deref())?);
    }
    let mut memory = args.remember.as_deref().map(|path| open_memory(&args, path, &asked)).transpose()?;
    let answer = ask(&args, &trust, &asked).await?;
    let now = Clock::System.now();
    if let Some(path) = &args.out {
        SavedAnswer { asked: asked.clone(), fetched: now, answer: answer.clone() }.write(path)?;
    }
    let mut trail = Trail::default();
    let remembered = memory.as_ref().and_then(LogMemory::remembered);
    let verified = verify(&answer, &asked, &trust, remembered, now, &mut trail);
    args.view.explain(&trail);
    if let (Some(path), Some(evidence)) = (&args.remember, verified.as_ref().err().and_then(Rejected::evidence)) {
        keep(path, &evidence)?;
    }
    let verified = verified?;
    if let (Some(path), Some(memory)) = (&args.remember, &mut memory) {
        remember(path, memory, &verified, &trust).await?;
    }
    let choosing = choices.as_mut().map(|choices| (choices, args.again));
    let shown = Context { asked: &asked, memory: memory.as_ref(), view: &args.view, now };
    let ended = report(&verified, wanted, choosing, &shown);
    match (ended, memory.as_ref().and_then(LogMemory::unshown)) {
        (Ok(()) | Err(End::Nothing), Some(_)) => Err(End::NotMet(UNSHOWN.to_owned())),
        (ended, _) => ended,
    }
}

/// What is remembered of the log that is asked, and where it is to show that it is still the same.
fn open_memory(args: &LookupArgs, path: &Path, asked: &Asked) -> Result<LogMemory, End> {
    let remembered = memory::load(path)?;
    if remembered.as_ref().is_some_and(|r| *r.origin() != asked.origin) {
        return Err(End::Usage(format!("{}: the memory of another log", path.display())));
    }
    let log = match (&args.log, &args.via, &args.dp) {
        (Some(url), _, _) => LogReader::new(fetcher()?, url),
        (None, None, Some(dp)) => DpClient::new(fetcher()?, dp, asked.origin.clone(), Clock::System).log(),
        // Whoever asks through a provider does not show the DP an address a moment later, unless told to.
        _ => return Err(End::Usage("with --via and --remember, say where the log's tiles are read: --log".to_owned())),
    };
    Ok(LogMemory::new(remembered, Some(log)))
}

/// Has the log show that it is still the one remembered, and remembers.
async fn remember(path: &Path, memory: &mut LogMemory, verified: &Verified<Lookup>, trust: &Trust) -> Ended {
    let stored = match memory.take(verified.recall()).await {
        Ok(()) => memory.store(path, trust).await,
        Err(fork) => Err(fork.into()),
    };
    keep_what_speaks(path, memory, stored)
}

/// Keeps beside a memory what taking it in and writing it have shown against the log or a witness. A witness alone does
/// not end the command otherwise than well: it would decide over all.
pub fn keep_what_speaks(path: &Path, memory: &LogMemory, stored: Result<(), StoreError>) -> Ended {
    for gone_back in memory.gone_back() {
        let Some(evidence) = gone_back.evidence() else { continue };
        let file = memory::keep_evidence(path, &evidence)?;
        eprintln!("{}; the evidence is in {}", card::gone_back_words(gone_back), file.display());
    }
    if let Some(evidence) = stored.as_ref().err().and_then(StoreError::evidence) {
        keep(path, evidence)?;
    }
    Ok(stored?)
}

/// Keeps evidence beside a memory.
pub fn keep(path: &Path, evidence: &Evidence) -> Ended {
    let file = memory::keep_evidence(path, evidence)?;
    eprintln!("evidence is kept in {}: waymark verify-evidence {} --trust FILE", file.display(), file.display());
    Ok(())
}

fn client(args: &LookupArgs, trust: &Trust) -> Result<DpClient, End> {
    let dp = args.dp.as_deref().ok_or_else(|| End::Usage("say which DP to ask: --dp".to_owned()))?;
    Ok(DpClient::new(fetcher()?, dp, origin_of(trust)?, Clock::System))
}

/// Asks the DP, or an MSP for us. What comes back is verified all the same.
async fn ask(args: &LookupArgs, trust: &Trust, asked: &Asked) -> Result<Vec<u8>, End> {
    let (csi, tag) = (&asked.csi, asked.tag.as_ref());
    let answer = match (&args.via, &args.app) {
        (Some(msp), Some(app)) => {
            let seed = keyfile::load(&app.join("recipient.key")).map_err(|e| End::Could(e.into()))?;
            let msp = MspClient::new(fetcher()?, msp, origin_of(trust)?, Clock::System);
            msp.look_up(&SecretKey::from_seed(&seed), csi, tag).await
        }
        _ if args.full => client(args, trust)?.look_up_full(csi, tag).await,
        _ => client(args, trust)?.look_up(csi, tag).await,
    };
    answer.map_err(|e| End::Could(e.into()))
}

pub fn verify_saved(args: &VerifyArgs) -> Ended {
    let trust = read_trust(&args.trust)?;
    let wanted = args.wanted.read(&trust)?;
    let bytes = durable::read(&args.file, FILE_BYTES_MAX)?;
    let bytes = bytes.ok_or_else(|| End::Could(anyhow::anyhow!("{}: there is no such file", args.file.display())))?;
    let saved = SavedAnswer::decode(&bytes).map_err(|e| End::Failed(e.to_string()))?;
    let now = args.at.map_or_else(|| Clock::System.now(), UnixMillis::new);
    let mut trail = Trail::default();
    let verified = verify(&saved.answer, &saved.asked, &trust, None, now, &mut trail);
    args.view.explain(&trail);
    let shown = Context { asked: &saved.asked, memory: None, view: &args.view, now };
    report(&verified?, wanted, None, &shown)
}

/// The DP's word, as what it is.
async fn hint(dp: &DpClient, asked: &Asked, view: &View) -> Ended {
    let hint = dp.hint(&asked.csi, asked.tag.as_ref()).await.map_err(|e| End::Could(e.into()))?;
    if view.json {
        println!("{}", serde_json::to_string(&hint).map_err(|e| End::Could(e.into()))?);
    } else {
        print!("{}", card::hint_words(&hint, &shown(&asked.csi, view.show)));
    }
    if hint.msps.is_empty() { Err(End::Nothing) } else { Ok(()) }
}

fn forget(args: &LookupArgs, asked: &Asked) -> Ended {
    let mut choices = open_choices(args.choices.as_deref())?;
    let question = choices.secret().question(asked);
    if choices.forget(&question)? {
        println!("{}: forgotten", shown(&asked.csi, args.view.show));
        return Ok(());
    }
    println!("{}: nothing was remembered", shown(&asked.csi, args.view.show));
    Err(End::Nothing)
}

fn open_choices(folder: Option<&Path>) -> Result<Choices, End> {
    let home = || {
        let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let state = state.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".local/state")));
        state.map(|s| s.join("waymark"))
    };
    let folder = folder.map(Path::to_owned).or_else(home);
    let folder = folder.ok_or_else(|| End::Usage("say in which folder to remember: --choices".to_owned()))?;
    Ok(Choices::open(&folder)?)
}

impl From<StickyError> for End {
    fn from(error: StickyError) -> Self {
        Self::Could(error.into())
    }
}
