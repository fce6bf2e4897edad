//! `waymark recipient issue`, `renew`, `rotate-key`, `withdraw`, `erase`: what this app says about itself.

use std::path::PathBuf;

use clap::Args;
use waymark_log::hash::Hash;
use waymark_mapping::{
    event::EventKind,
    facts::MappingFacts,
    mapping::{Mapping, Tags},
    names::{Account, Domain, Tag},
};
use waymark_runtime::clock::Clock;

use super::{App, End, Ended, current, fetcher, make, make_by};
use crate::client::{
    card,
    msp::MspClient,
    recipient::{Added, MappingSpec, Wish, sign_mapping},
    renewal,
};

/// Register.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// The app's folder.
    #[arg(long)]
    pub(super) dir: PathBuf,
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
    /// Hidden: found only by somebody who presents this tag. Where nothing else would be visible, an opt-out is put beside it: it
    /// is there with and without something hidden, and so gives nothing away.
    #[arg(long, conflicts_with = "tags")]
    exact_tag: Option<String>,
    /// Hide without an opt-out beside it: that nothing is visible then says that something is hidden.
    #[arg(long, requires = "exact_tag")]
    bare: bool,
    /// Say that you do not want to be found.
    #[arg(long, conflicts_with_all = ["msp", "msp_url", "tags", "exact_tag"])]
    pub(super) opt_out: bool,
    /// In place of everything that this app says now.
    #[arg(long)]
    replace: bool,
}

/// What the arguments ask for, signed and with its consent.
pub(super) async fn wanted(app: &App, args: &IssueArgs) -> Result<Added, End> {
    let usage = |what: &str| End::Usage(what.to_owned());
    let what = "a tag is 1 to 64 bytes in NFC: words with single spaces between them, no invisible characters";
    let parse_tag = |t: &String| Tag::parse(t).ok_or_else(|| usage(what));
    let tags = match &args.exact_tag {
        Some(tag) => Tags::Exact(parse_tag(tag)?),
        None => Tags::shown(args.tags.iter().map(parse_tag).collect::<Result<_, _>>()?)
            .ok_or_else(|| usage("tags repeat or are too many, or `default` is not alone"))?,
    };
    let msp = args.msp.as_deref().map(|d| Domain::parse(d).ok_or_else(|| usage("not a lower-case domain")));
    let account = Account::parse(&args.account).ok_or_else(|| usage("not an account"))?;
    let spec = MappingSpec { msp: msp.transpose()?, account, tags };
    said(app, &spec, args.msp_url.as_deref()).await
}

/// A mapping of this app, signed over its proof of possession, with its MSP's consent.
async fn said(app: &App, spec: &MappingSpec, msp_url: Option<&str>) -> Result<Added, End> {
    let attestation = app.attestation()?;
    let origin = app.dp.origin().clone();
    let mapping = sign_mapping(&origin, &app.keys.recipient, spec, &attestation, Clock::System.now());
    let consent = match msp_url {
        Some(url) => {
            let msp = MspClient::new(fetcher()?, url, origin, Clock::System);
            let given = msp.consent(&app.keys.recipient, &mapping).await;
            Some(given.map_err(|e| End::Could(anyhow::Error::from(e).context("the MSP's consent")))?)
        }
        None => None,
    };
    Ok(Added { mapping, consent })
}

/// Registers.
pub(super) async fn issue(app: &App, args: &IssueArgs) -> Ended {
    let mut added = vec![wanted(app, args).await?];
    let seen = seen(app).await?;
    let hidden = args.exact_tag.is_some();
    let takes_back = |m: &&MappingFacts| m.msp.is_none() && m.recipient == app.keys.recipient.public();
    let removed: Vec<Hash> = match (args.replace, args.opt_out || hidden) {
        (true, _) => digests(&own(app).await?),
        (false, true) => vec![],
        // Whoever wants to be found takes back that they do not.
        (false, false) => seen.iter().filter(takes_back).map(|m| m.digest).collect(),
    };
    let hides = hidden && !args.bare && seen.iter().all(|m| removed.contains(&m.digest));
    if hides {
        eprintln!("nothing else is visible: an opt-out is put beside what is hidden (--bare: none)");
        added.push(said(app, &MappingSpec::opt_out(), None).await?);
    }
    let kind = match (args.opt_out || hides, removed.is_empty()) {
        (true, _) => EventKind::OptOut,
        (false, true) => EventKind::Issue,
        (false, false) => EventKind::Replace,
    };
    let signers = [(&app.keys.recipient, None)];
    make(app, Wish { added: &added, removed: &removed, signers: &signers, ..app.wish(kind)? }).await
}

/// What everybody sees.
async fn seen(app: &App) -> Result<Vec<MappingFacts>, End> {
    Ok(app.look_up().await?.get().mappings.clone())
}

/// This app's mappings.
async fn own(app: &App) -> Result<Vec<Mapping>, End> {
    let (current, own) = (current(app).await?, app.keys.recipient.public());
    Ok(current.state.held.into_iter().map(|h| h.mapping).filter(|m| m.recipient == own).collect())
}

fn digests(mappings: &[Mapping]) -> Vec<Hash> {
    mappings.iter().map(Mapping::digest).collect()
}

fn spec_of(mapping: &Mapping) -> MappingSpec {
    MappingSpec { msp: mapping.msp.get(), account: mapping.account.clone(), tags: mapping.tags.clone() }
}

/// What `app` says, said again by `by`: one change for all of its mappings.
async fn say_again(app: &App, by: &App, kind: EventKind, msp_url: Option<&str>) -> Ended {
    let old = own(app).await?;
    let mut added = Vec::with_capacity(old.len());
    for mapping in &old {
        let msp_url = msp_url.filter(|_| !mapping.is_opt_out());
        added.push(said(by, &spec_of(mapping), msp_url).await?);
    }
    let kind = if old.iter().any(Mapping::is_opt_out) && kind == EventKind::Replace { EventKind::OptOut } else { kind };
    let removed = digests(&old);
    let (first, second) = ((&by.keys.recipient, None), (&app.keys.recipient, None));
    let signers = [first, second];
    let signers = if kind == EventKind::RotateKey { &signers[..] } else { &signers[..1] };
    make_by(app, by, Wish { added: &added, removed: &removed, signers, ..app.wish(kind)? }).await
}

/// The same mappings over a fresh proof of possession.
pub(super) async fn renew(app: &App, if_due: bool, msp_url: Option<&str>) -> Ended {
    if if_due {
        let first = own(app).await?.iter().map(|m| renewal::due(&app.keys.recipient, m)).min();
        if let Some(due) = first.filter(|due| app.dp.clock().now() < *due) {
            println!("nothing is to be renewed before {}", card::date(due));
            return Err(End::Nothing);
        }
    }
    say_again(app, app, EventKind::Replace, msp_url).await
}

/// The same mappings by another key, which stands as this one stood.
pub(super) async fn rotate(app: &App, to: &App, msp_url: Option<&str>) -> Ended {
    if to.csi != app.csi {
        return Err(End::Usage("the other app is for another identifier".to_owned()));
    }
    say_again(app, to, EventKind::RotateKey, msp_url).await
}

/// A tombstone. Everything that stands must be this app's or, with possession, new.
pub(super) async fn erase(app: &App, yes: bool) -> Ended {
    if !yes {
        return Err(End::Usage("what is erased cannot be brought back: say --yes".to_owned()));
    }
    let removed = current(app).await?.state.digests();
    let signers = [(&app.keys.recipient, app.attestation().ok())];
    make(app, Wish { removed: &removed, signers: &signers, ..app.wish(EventKind::Erase)? }).await?;
    println!("the DP deletes openings and payload at once; the log keeps entries that say nothing");
    Ok(())
}

/// Removes mappings.
pub(super) async fn withdraw(app: &App, digests: &[String]) -> Ended {
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
    make(app, Wish { removed: &removed, signers: &signers, ..app.wish(EventKind::Withdraw)? }).await
}
