//! `waymark lookup` and `waymark verify`.

use std::path::PathBuf;

use clap::Args;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use waymark_log::{checkpoint::Origin, hash::Hash, key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    names::Tag,
    verify::{Asked, Lookup, Outcome, Remembered, Trail, verify},
};
use waymark_runtime::{clock::Clock, durable, fetch::Fetcher, keyfile};

use super::{End, Ended, origin_of, read_csi, read_trust};
use crate::client::{card, dp::DpClient, msp::MspClient, saved::SavedAnswer};

/// Most bytes in a file of ours that is read back.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Look somebody up.
#[derive(Debug, Args)]
pub struct LookupArgs {
    /// A phone number with its country code, or an e-mail address.
    csi: String,
    /// The DP's URL.
    #[arg(long, env = "WAYMARK_DP", required_unless_present = "via")]
    dp: Option<String>,
    /// Ask through this provider's adapter instead: the DP then sees neither who asks nor from where.
    #[arg(long, requires = "app")]
    via: Option<String>,
    /// The folder of an app with an account there (`waymark recipient keygen`).
    #[arg(long)]
    app: Option<PathBuf>,
    /// Whom to believe.
    #[arg(long, env = "WAYMARK_TRUST")]
    trust: PathBuf,
    /// A tag to present.
    #[arg(long)]
    tag: Option<String>,
    /// The region of a number without country code, such as DE.
    #[arg(long)]
    region: Option<String>,
    /// Facts as one JSON object.
    #[arg(long)]
    json: bool,
    /// Say each check that was made.
    #[arg(long)]
    explain: bool,
    /// Keep the answer in a file, for `waymark verify`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// What was seen of the log before, and from now on: a second tree of the same size is then seen as a split view.
    #[arg(long)]
    remember: Option<PathBuf>,
    /// Show the identifier in full instead of masked.
    #[arg(long)]
    show: bool,
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
    /// Facts as one JSON object.
    #[arg(long)]
    json: bool,
    /// Say each check that was made.
    #[arg(long)]
    explain: bool,
    /// Show the identifier in full instead of masked.
    #[arg(long)]
    show: bool,
}

pub async fn look_up(args: LookupArgs) -> Ended {
    let trust = read_trust(&args.trust)?;
    let csi = read_csi(&args.csi, args.region.as_deref())?;
    let tag = args.tag.as_deref().map(|t| Tag::parse(t).ok_or_else(|| End::Usage("not a tag".to_owned())));
    let asked = Asked { csi, tag: tag.transpose()? };
    let remembered = args.remember.as_deref().map(read_remembered).transpose()?.flatten();
    let answer = ask(&args, origin_of(&trust)?, &asked).await?;
    let now = Clock::System.now();
    if let Some(path) = &args.out {
        SavedAnswer { asked: asked.clone(), fetched: now, answer: answer.clone() }.write(path)?;
    }
    let mut trail = Trail::default();
    let verified = verify(&answer, &asked, &trust, remembered.as_ref(), now, &mut trail);
    if args.explain {
        eprint!("{}", card::explain(trail.checks()));
    }
    let verified = verified?;
    if let Some(path) = &args.remember {
        write_remembered(path, verified.remember())?;
    }
    print(verified.get(), &asked, args.json, args.show, now)
}

/// Asks the DP, or an MSP for us. What comes back is verified all the same.
async fn ask(args: &LookupArgs, origin: Origin, asked: &Asked) -> Result<Vec<u8>, End> {
    let (csi, tag) = (&asked.csi, asked.tag.as_ref());
    let answer = match (&args.via, &args.app, &args.dp) {
        (Some(msp), Some(app), _) => {
            let seed = keyfile::load(&app.join("recipient.key")).map_err(|e| End::Could(e.into()))?;
            let msp = MspClient::new(Fetcher::default(), msp, origin, Clock::System);
            msp.look_up(&SecretKey::from_seed(&seed), csi, tag).await
        }
        (_, _, Some(dp)) => DpClient::new(Fetcher::default(), dp, origin, Clock::System).look_up(csi, tag).await,
        _ => return Err(End::Usage("--dp, or --via and --app".to_owned())),
    };
    answer.map_err(|e| End::Could(e.into()))
}

pub fn verify_saved(args: &VerifyArgs) -> Ended {
    let trust = read_trust(&args.trust)?;
    let bytes = durable::read(&args.file, FILE_BYTES_MAX)?;
    let bytes = bytes.ok_or_else(|| End::Could(anyhow::anyhow!("{}: there is no such file", args.file.display())))?;
    let saved = SavedAnswer::decode(&bytes).map_err(|e| End::Failed(e.to_string()))?;
    let now = args.at.map_or_else(|| Clock::System.now(), UnixMillis::new);
    let mut trail = Trail::default();
    let verified = verify(&saved.answer, &saved.asked, &trust, None, now, &mut trail);
    if args.explain {
        eprint!("{}", card::explain(trail.checks()));
    }
    print(verified?.get(), &saved.asked, args.json, args.show, now)
}

fn print(lookup: &Lookup, asked: &Asked, json: bool, show: bool, now: UnixMillis) -> Ended {
    if json {
        println!("{}", card::to_json(lookup, now));
    } else {
        let who = if show { asked.csi.expose().to_owned() } else { asked.csi.masked() };
        print!("{}", card::words(lookup, &who, now));
    }
    if lookup.outcome == Outcome::Listed { Ok(()) } else { Err(End::Nothing) }
}

#[derive(Serialize, Deserialize)]
struct RememberedFile {
    origin: String,
    size: u64,
    root: String,
    note: String,
}

fn read_remembered(path: &std::path::Path) -> Result<Option<Remembered>, End> {
    let damaged = || End::Could(anyhow::anyhow!("{}: not what was written there", path.display()));
    let Some(bytes) = durable::read(path, FILE_BYTES_MAX)? else { return Ok(None) };
    let file: RememberedFile = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    let note = BASE64.decode(file.note.as_bytes()).ok().and_then(|b| String::from_utf8(b).ok());
    Ok(Some(Remembered {
        origin: Origin::new(&file.origin).map_err(|_| damaged())?,
        size: file.size,
        root: Hash::from_base64(&file.root).ok_or_else(damaged)?,
        note: note.ok_or_else(damaged)?,
    }))
}

fn write_remembered(path: &std::path::Path, remembered: &Remembered) -> Ended {
    let file = RememberedFile {
        origin: remembered.origin.as_str().to_owned(),
        size: remembered.size,
        root: remembered.root.to_base64(),
        note: BASE64.encode(remembered.note.as_bytes()),
    };
    let bytes = serde_json::to_vec_pretty(&file).map_err(|e| End::Could(e.into()))?;
    Ok(durable::replace(path, &bytes)?)
}
