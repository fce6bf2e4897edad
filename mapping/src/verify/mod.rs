//! **The** judgement: an answer, a question, a trust file, what is remembered and the time in; what is proved, or who is at
//! fault, out.
//!
//! No clock, no network, no logger. Each check is written into a [`Trail`] as it is made, so that the same run that decides
//! also explains. The order is that of dependence: nothing is used before it is proved.
//!
//! 1. form and padding
//! 2. the checkpoint: the log that was asked signed it, a fresh quorum cosigned it, and it does not contradict what is remembered
//! 3. the head is the last leaf, names this open entry, and its time fits the cosignatures; the open entry is the one pinned, the
//!    one remembered, and leaf 0 where its path is shown
//! 4. the ladder: each version's label is proved, and the map root shows which are there
//! 5. the record opens the commitment of the latest version; every visible slot is opened; hidden ones by the tag
//! 6. the providers named are proved, present or absent
//! 7. how the tenure began, if it is not the first: its place in the log, that look-ups led to it, and for 30 days the hold that was kept
//! 8. each mapping: the recipient's signature, the prover's, the MSP's consent; each statement that one is not served
//!
//! What is left is for whoever can read the log's tiles: whether its trees, then and now, are one log ([`Recall`]).

mod mappings;
mod record;

use std::collections::BTreeMap;

use waymark_log::{
    checkpoint::{CheckpointError, Origin},
    hash::{Hash, leaf_hash},
    key::Key,
    note::NoteError,
    policy::{CosignedCheckpoint, Unmet},
    proof::verify_inclusion,
    time::{UnixMillis, UnixSeconds},
};

use self::mappings::{Judge, no_providers, prove_providers};
pub use self::mappings::{named_providers, since_versions};
pub(crate) use self::record::{Opened, Shown, open_body};
use crate::{
    answer::{Answer, Full},
    entry::{Config, Entry, INTERVAL_MS_MAX, Open, ProviderRole, Untimely},
    evidence::{Evidence, Kind},
    facts::{ChangedHands, Contest, LogFacts, MappingFacts, OpenKnown, Withheld},
    identifier::Csi,
    label::{Label, verify_label},
    ladder,
    mapping::Mapping,
    memory::{GoneBack, Recall, Remembered, Sighted, SplitView, evidence_of},
    names::Tag,
    provider::ProviderLeaf,
    record::{Ground, HOLD_MS, RecordState, SHORT_HOLD_MS},
    rules::{Held, SKEW_MS},
    tenure::Ledger,
    trust::Trust,
    wire::Undecoded,
};

/// What was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Which log.
    pub origin: Origin,
    /// About whom.
    pub csi: Csi,
    /// With which tag, if one was presented.
    pub tag: Option<Tag>,
}

/// Why an answer is not believed, by whose fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejected {
    /// It does not have the form.
    #[error("malformed: {0}")]
    Malformed(String),
    /// It uses a format version, an algorithm or a value that this program does not know.
    #[error("not supported: {0}")]
    NotSupported(String),
    /// It is of a log, or signed by somebody, that the trust file does not know.
    #[error("untrusted: {0}")]
    Untrusted(String),
    /// It does not prove what it says: treat as an attack.
    #[error("not proven: {0}")]
    NotProven(String),
    /// It was good once: too old, or too few have vouched yet.
    #[error("stale: {0}")]
    Stale(String),
    /// It is of another log than the one asked, however good it may be.
    #[error("the answer is of another log than the one asked")]
    OtherLog,
    /// The log has signed two trees of one size. Both notes are evidence: keep them.
    #[error("split view: the log has signed two different trees of {size} entries")]
    SplitView {
        /// Their size.
        size: u64,
        /// The note remembered.
        ours: String,
        /// The note in the answer.
        theirs: String,
    },
    /// A witness has dated its cosignature on a smaller tree certainly later than the one on a larger tree, and the
    /// policy is not met without such witnesses. Both notes are evidence: keep them.
    #[error("rollback: witness {witness} has cosigned a smaller tree later than a larger one")]
    Rollback {
        /// The policy's name for it.
        witness: String,
        /// The note with the smaller tree.
        smaller: String,
        /// The note with the larger one.
        larger: String,
    },
}

impl Rejected {
    /// What anybody can be shown, if two notes contradict each other.
    pub fn evidence(&self) -> Option<Evidence> {
        match self {
            Self::SplitView { ours, theirs, .. } => {
                evidence_of(Kind::SplitView, [("remembered", ours), ("an answer", theirs)])
            }
            Self::Rollback { smaller, larger, .. } => {
                evidence_of(Kind::Rollback, [("the smaller tree", smaller), ("the larger tree", larger)])
            }
            _ => None,
        }
    }
}

impl From<SplitView> for Rejected {
    fn from(SplitView { size, ours, theirs }: SplitView) -> Self {
        Self::SplitView { size, ours, theirs }
    }
}

impl From<GoneBack> for Rejected {
    fn from(GoneBack { witness, smaller, larger }: GoneBack) -> Self {
        Self::Rollback { witness, smaller, larger }
    }
}

/// One check that was made and held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// What was found.
    pub detail: String,
}

/// The checks that held, in order. On a rejection the next one is what failed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trail(Vec<Check>);

impl Trail {
    /// The checks.
    pub fn checks(&self) -> &[Check] {
        &self.0
    }

    fn held(&mut self, name: &'static str, detail: impl Into<String>) {
        self.0.push(Check { name, detail: detail.into() });
    }
}

/// Something that this module has proved. Made nowhere else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified<T> {
    value: T,
    recall: Recall,
}

impl<T> Verified<T> {
    /// What is proved.
    pub const fn get(&self) -> &T {
        &self.value
    }

    /// What to remember of the log, or what must be shown before.
    pub const fn recall(&self) -> &Recall {
        &self.recall
    }
}

/// What a look-up has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lookup {
    /// Which of the possible answers it is.
    pub outcome: Outcome,
    /// The mappings, visible ones first, with what is known of each.
    pub mappings: Vec<MappingFacts>,
    /// What the DP withholds.
    pub withheld: Vec<Withheld>,
    /// The latest version, if there is one.
    pub version: Option<u32>,
    /// Its commitment: what the next event must name.
    pub commitment: Option<Hash>,
    /// The tenure, if there is a record.
    pub tenure: Option<u32>,
    /// The tenure that a mapping made now would be of.
    pub tenure_of_next_mapping: u32,
    /// Whether somebody else claims the CSI.
    pub contested: Option<Contest>,
    /// How the tenure began, if it is not the first.
    pub changed_hands: Option<ChangedHands>,
    /// The labels that must be absent while this version is the latest.
    pub watched: Vec<Label>,
    /// What is known of the log.
    pub log: LogFacts,
}

/// The answers that are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// No version of this CSI exists. Proved.
    Absent,
    /// The recipient has signed that they do not want to be found.
    OptedOut,
    /// A record exists and lists nothing that holds; no reason is proved.
    NoneListed,
    /// At least one mapping holds.
    Listed,
    /// What was there has been erased.
    Erased,
}

/// Verifies an answer.
///
/// `now` is the judge's clock. What was remembered of another log is ignored. The value is proved by the answer alone; that the
/// log is still the one remembered is what [`Verified::recall`] may leave to be shown.
///
/// # Errors
/// [`Rejected`]; `trail` then ends with the last check that held.
pub fn verify(
    bytes: &[u8],
    asked: &Asked,
    trust: &Trust,
    remembered: Option<&Remembered>,
    now: UnixMillis,
    trail: &mut Trail,
) -> Result<Verified<Lookup>, Rejected> {
    let answer = Answer::from_padded(bytes).map_err(|e| match e {
        Undecoded::Malformed { .. } => Rejected::Malformed(e.to_string()),
        Undecoded::NotSupported { .. } => Rejected::NotSupported(e.to_string()),
    })?;
    trail.held("form", format!("{} bytes, padding all zero", bytes.len()));
    let shown = match &asked.tag {
        None => Shown::Visible,
        Some(tag) => Shown::Tag(tag),
    };
    let question = Question { origin: &asked.origin, csi: &asked.csi, shown };
    let proved = prove(&answer, question, trust, remembered, now, trail)?;
    let recall = proved.recall.clone();
    Ok(Verified { value: proved.into_lookup(now), recall })
}

/// What an answer is an answer to.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) csi: &'a Csi,
    pub(crate) shown: Shown<'a>,
}

/// Which record each of some versions is: its commitment, as the log has it.
pub(crate) type Logged = BTreeMap<u32, Hash>;

/// Everything that one answer proves.
pub(crate) struct Proved {
    pub(crate) recall: Recall,
    /// Size and root of the answer's tree.
    pub(crate) tree: (u64, Hash),
    pub(crate) origin: Origin,
    pub(crate) vrf: Key,
    pub(crate) head_time: UnixMillis,
    pub(crate) label: Option<Label>,
    pub(crate) watched: Vec<Label>,
    pub(crate) logged: Logged,
    pub(crate) opened: Option<Opened>,
    mappings: Vec<MappingFacts>,
    withheld: Vec<Withheld>,
    changed_hands: Option<ChangedHands>,
    log: LogFacts,
}

pub(crate) fn prove(
    answer: &Answer,
    question: Question<'_>,
    trust: &Trust,
    remembered: Option<&Remembered>,
    now: UnixMillis,
    trail: &mut Trail,
) -> Result<Proved, Rejected> {
    let Question { origin, csi, shown } = question;
    let cosigned = prove_checkpoint(answer, origin, trust, now, trail)?;
    let remembered = remembered.filter(|r| r.origin() == origin);
    let (seen, cosigned) = check_remembered(answer, cosigned, remembered, trust, trail)?;
    let (open, interval_ms) = prove_head(answer, &cosigned, trust, trail)?;
    let (open_hash, open_known) = prove_open(answer, &cosigned, trust, remembered, trail)?;
    if matches!(shown, Shown::Recipient) && open_path(answer).is_empty() {
        return Err(Rejected::NotProven("the open entry's place is not shown to a recipient".to_owned()));
    }
    let (origin, tree) = (seen.origin().clone(), seen.tree());
    let recall = Recall::of(remembered, seen, open_hash);
    let opened = match &answer.body.0 {
        None => None,
        Some(body) => Some(open_body(body, csi, answer.version, &open.vrf, shown, false)?),
    };
    let Ladder { label, watched, logged } = prove_ladder(answer, csi, &open.vrf, opened.as_ref(), trail)?;
    let (mut mappings, mut withheld, mut changed_hands) = (Vec::new(), Vec::new(), None);
    if let (Some(body), Some(opened)) = (&answer.body.0, &opened) {
        record::describe(opened, trail);
        check_times(opened, answer.head.time)?;
        check_heads(answer, cosigned.size())?;
        let leaves = prove_providers(&answer.providers, opened, &open.domain, &answer.head.provider_root, trail)?;
        let (size, root) = (cosigned.size(), cosigned.root());
        let ledger = Ledger { csi, vrf: &open.vrf, origin: &origin, size, root };
        changed_hands = prove_tenure(answer, opened, ledger, &leaves, trust, trail)?;
        let judge =
            Judge { answer, trust, origin: &origin, open: &open, leaves: &leaves, now, cosigned: &cosigned, ledger };
        mappings = judge.all(body, opened, trail)?;
        withheld = Judge::withheld(opened);
    } else {
        no_providers(&answer.providers)?;
        if answer.full.0.as_ref().is_some_and(Full::bears_a_past) {
            return Err(Rejected::NotProven("the past of nothing is shown".to_owned()));
        }
    }
    // "None: there is nothing more to prove": one answer has one form.
    if answer.full.0.as_ref().is_some_and(|full| full.open_path.is_empty() && !full.bears_a_past()) {
        return Err(Rejected::NotProven("a proof is there that proves nothing".to_owned()));
    }
    let log = log_facts(&cosigned, trust, (open_known, answer.head.time, interval_ms), now);
    let (vrf, head_time) = (open.vrf, answer.head.time);
    Ok(Proved {
        recall,
        tree,
        origin,
        vrf,
        head_time,
        label,
        watched,
        logged,
        opened,
        mappings,
        withheld,
        changed_hands,
        log,
    })
}

/// "No signing time lies more than 30 s after the head it is logged under": what is dated ahead would hold, and stay fresh, for longer
/// than its signer may say.
fn check_times(opened: &Opened, head: UnixMillis) -> Result<(), Rejected> {
    let (state, latest) = (&opened.state, opened.state.time.plus_ms(SKEW_MS));
    let dated_ahead = state.time > head
        || state.start.time > state.time
        || state.state.claim().is_some_and(|claim| claim.time > state.time)
        || state.held.iter().any(|Held { standing, mapping: Mapping { attestation, .. } }| {
            // A mapping is added before its proof expires: one that stands since later was dated anew, to make its key new.
            standing.since > state.time || attestation.time > latest || attestation.expiry <= standing.since
        })
        || opened.not_served.iter().any(|n| n.statement.tbs.time > latest);
    if dated_ahead {
        Err(Rejected::NotProven("something is dated after the head it is logged under".to_owned()))
    } else {
        Ok(())
    }
}

/// "Heads that are shown ascend in time with their index": a head with another date would make what it proves look older or newer.
fn check_heads(answer: &Answer, size: u64) -> Result<(), Rejected> {
    let mut heads: Vec<(u64, UnixMillis)> =
        answer.full.0.iter().flat_map(Full::heads).map(|h| (h.at.index, h.head.time)).collect();
    heads.push((size.saturating_sub(1), answer.head.time));
    heads.sort_unstable();
    heads.dedup();
    if heads.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1) {
        return Ok(());
    }
    Err(Rejected::NotProven("the times of the heads that are shown do not ascend".to_owned()))
}

/// Proves how the tenure began, if it is not the first.
fn prove_tenure(
    answer: &Answer,
    opened: &Opened,
    ledger: Ledger<'_>,
    leaves: &[ProviderLeaf],
    trust: &Trust,
    trail: &mut Trail,
) -> Result<Option<ChangedHands>, Rejected> {
    let proof = answer.full.0.as_ref().and_then(|f| f.tenure.0.as_ref());
    let begun = ledger.begun(&opened.state, proof, answer.head.time).map_err(|e| Rejected::NotProven(e.to_string()))?;
    let Some(begun) = begun else { return Ok(None) };
    let csip = match (begun.csip_key, opened.state.start.domain.get()) {
        (Some(key), Some(domain)) => {
            let role = ProviderRole::CSIP;
            let has_pins = trust.pinned(role, &domain).next().is_some();
            let pinned = trust.pinned(role, &domain).any(|k| *k == key);
            if has_pins && !pinned {
                return Err(Rejected::Untrusted("a release is by another key than the one pinned".to_owned()));
            }
            // A retired key, pinned or not, has released only what was logged before it retired.
            let (said, logged, head) = (opened.state.start.time, Some(begun.time), answer.head.time);
            let believed = match leaves.iter().find(|l| (&l.domain, l.role) == (&domain, role)) {
                None => pinned,
                Some(leaf) => leaf.find(&key).is_some_and(|key| key.is_believed(said, logged, head)),
            };
            if !believed {
                let what = "a release is by a key that is not the CSIP's, or that had retired";
                return Err(Rejected::NotProven(what.to_owned()));
            }
            Some((domain, pinned))
        }
        (Some(_), None) => return Err(Rejected::NotProven("a release is nobody's".to_owned())),
        (None, _) => None,
    };
    trail.held("tenure", format!("it began with version {}, and how is proved", opened.state.start.version));
    let (how, time, recent, ground) = (begun.how, begun.time, begun.recent, begun.ground);
    Ok(Some(ChangedHands { how, time, recent, ground, csip }))
}

fn prove_checkpoint(
    answer: &Answer,
    origin: &Origin,
    trust: &Trust,
    now: UnixMillis,
    trail: &mut Trail,
) -> Result<CosignedCheckpoint, Rejected> {
    let judged = trust.policy().judge(answer.checkpoint.as_slice(), now.floor_seconds(), trust.freshness());
    let cosigned = judged.map_err(|e| match e {
        Unmet::Stale { .. } | Unmet::Quorum { .. } => Rejected::Stale(e.to_string()),
        Unmet::UnknownLog => Rejected::Untrusted(e.to_string()),
        Unmet::Checkpoint(CheckpointError::NotSignedByLog | CheckpointError::Note(NoteError::BadSignature(_))) => {
            Rejected::NotProven(e.to_string())
        }
        Unmet::Checkpoint(_) => Rejected::Malformed(e.to_string()),
    })?;
    let checkpoint = cosigned.signed().checkpoint();
    // "The question names the log: an answer of another one is refused, though the trust file believes that log, too."
    if checkpoint.origin != *origin {
        return Err(Rejected::OtherLog);
    }
    // "Our checkpoints have no extension lines": with them a log could make its notes too long to be remembered of
    // every witness.
    if !checkpoint.extensions.is_empty() {
        return Err(Rejected::Malformed("the checkpoint has extension lines, which a DP's has not".to_owned()));
    }
    trail.held("log signature", format!("{} at {} entries", checkpoint.origin, checkpoint.size));
    let witnesses = trust.policy().witnesses().len();
    let age = now.floor_seconds().since(cosigned.quorum_time());
    trail.held(
        "witnesses",
        format!("{} of {witnesses} fresh cosignatures, quorum {age} s ago", cosigned.cosignatures()),
    );
    Ok(cosigned)
}

/// Compares what this answer shows of the log with what is remembered of it. A witness that contradicts itself is taken
/// as absent: one that lies is not to decide over all. What is returned is the checkpoint without the lines of such
/// witnesses.
fn check_remembered(
    answer: &Answer,
    cosigned: CosignedCheckpoint,
    remembered: Option<&Remembered>,
    trust: &Trust,
    trail: &mut Trail,
) -> Result<(Sighted, CosignedCheckpoint), Rejected> {
    let mut seen = Sighted::of(answer.checkpoint.as_slice(), &cosigned, trust.policy());
    let Some(remembered) = remembered else { return Ok((seen, cosigned)) };
    if let Some(split) = remembered.split_view(&seen) {
        return Err(split.into());
    }
    let absent = seen.leave_out_gone_back(remembered, trust);
    let cosigned = match (seen.gone_back(), cosigned.without(trust.policy(), &absent)) {
        ([], _) => cosigned,
        ([first, ..], None) => return Err(first.clone().into()),
        (gone_back, Some(rest)) => {
            let names: Vec<&str> = gone_back.iter().map(|g| g.witness.as_str()).collect();
            trail.held("quorum without", format!("{}: gone back, and not needed", names.join(", ")));
            rest
        }
    };
    if remembered.size() == cosigned.size() {
        trail.held("same view", "the tree remembered has the same size and root");
    } else {
        let what = format!(
            "no witness that counts went back since {} entries; the tiles must show the rest",
            remembered.size()
        );
        trail.held("memory", what);
    }
    Ok((seen, cosigned))
}

/// An entry that the head names and that cannot be read: a later format is no attack.
fn not_read(error: Undecoded) -> Rejected {
    match error {
        Undecoded::NotSupported { .. } => Rejected::NotSupported(error.to_string()),
        Undecoded::Malformed { .. } => Rejected::NotProven(error.to_string()),
    }
}

fn prove_head(
    answer: &Answer,
    cosigned: &CosignedCheckpoint,
    trust: &Trust,
    trail: &mut Trail,
) -> Result<(Open, u64), Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    let head = &answer.head;
    // "A verifier rejects unless head index = size - 1, so that an old head cannot ride in a fresh checkpoint."
    let leaf = leaf_hash(&Entry::Head(head.clone()).encode());
    let last = cosigned.size().checked_sub(1).ok_or_else(|| not_proven("the log is empty"))?;
    verify_inclusion(last, cosigned.size(), &leaf, &answer.head_path, cosigned.root())
        .map_err(|_| not_proven("the head is not the last entry of the checkpoint"))?;
    trail.held("head", format!("entry {last} of {}, {} changes", cosigned.size(), head.changes));

    let sha256 = |bytes: &[u8]| Hash::sha256(&[bytes]);
    if sha256(answer.open.as_slice()) != head.open {
        return Err(not_proven("the open entry is not the one that the head names"));
    }
    let open = match Entry::decode(answer.open.as_slice()).map_err(not_read)? {
        Entry::Open(open) => open,
        _ => return Err(not_proven("the entry that the head names as open entry is another one")),
    };
    if open.origin.get() != cosigned.signed().checkpoint().origin {
        return Err(not_proven("the open entry is of another log"));
    }
    let config: Option<Config> = match (answer.config.as_slice(), head.config) {
        ([], Hash::ZERO) => None,
        (bytes, digest) if sha256(bytes) == digest => match Entry::decode(bytes).map_err(not_read)? {
            Entry::Config(config) => Some(config),
            _ => return Err(not_proven("the entry that the head names as config entry is another one")),
        },
        _ => return Err(not_proven("the config entry is not the one that the head names")),
    };
    let interval_ms = config.map_or(open.interval_ms, |c| c.interval_ms);
    // "interval_ms is at most 30,000": otherwise a log would say itself how old a head may be.
    if interval_ms > INTERVAL_MS_MAX {
        return Err(not_proven("the log promises a longer interval than any log may"));
    }
    trail.held("open entry", format!("{} runs the log", open.domain));
    let skew_s = trust.freshness().skew_s;
    // A witness whose clock is behind is no attack of the log's, if another one has cosigned the head after it was made.
    let is_after = |time: &UnixSeconds| head.time.floor_seconds() <= time.plus_s(skew_s);
    let some_after = cosigned.times().iter().flatten().any(is_after);
    head.check_time(cosigned.quorum_time(), interval_ms, skew_s).map_err(|untimely| match untimely {
        Untimely::After if some_after => {
            Rejected::Stale("too few witnesses date the head after it was made".to_owned())
        }
        Untimely::After => not_proven("the head is dated after its cosignatures"),
        Untimely::Overdue => Rejected::Stale("the head is much older than its cosignatures".to_owned()),
    })?;
    trail.held("head time", format!("{} ms before the quorum", cosigned.quorum_time().to_millis().since(head.time)));
    Ok((open, interval_ms.into()))
}

/// The open entry's path as leaf 0; empty if it is not shown.
fn open_path(answer: &Answer) -> &[Hash] {
    answer.full.0.as_ref().map_or(&[], |f| &f.open_path)
}

/// Whether the open entry that the head names is the log's entry 0, as far as it is known here. Returns its hash.
fn prove_open(
    answer: &Answer,
    cosigned: &CosignedCheckpoint,
    trust: &Trust,
    remembered: Option<&Remembered>,
    trail: &mut Trail,
) -> Result<(Hash, OpenKnown), Rejected> {
    let open = answer.head.open;
    let pinned = trust.pinned_open(&cosigned.signed().checkpoint().origin);
    if pinned.is_some_and(|p| *p != open) {
        return Err(Rejected::Untrusted("the open entry is another than the one pinned".to_owned()));
    }
    // "A log opens once: what it says of its domain and VRF key never changes."
    if remembered.is_some_and(|r| *r.open() != open) {
        return Err(Rejected::NotProven("the open entry is another than the one remembered".to_owned()));
    }
    let path = open_path(answer);
    if !path.is_empty() {
        verify_inclusion(0, cosigned.size(), &leaf_hash(answer.open.as_slice()), path, cosigned.root())
            .map_err(|_| Rejected::NotProven("the open entry is not entry 0".to_owned()))?;
    }
    let known = match (pinned, path, remembered) {
        (Some(_), _, _) => OpenKnown::Pinned,
        (None, [_, ..], _) => OpenKnown::Logged,
        (None, [], Some(_)) => OpenKnown::Remembered,
        (None, [], None) => OpenKnown::HeadOnly,
    };
    let detail = match known {
        OpenKnown::Pinned => "it is the one that the trust file pins",
        OpenKnown::Logged => "it is proved to be entry 0",
        OpenKnown::Remembered => "it is the one remembered",
        OpenKnown::HeadOnly => "the head alone says that it is entry 0",
    };
    trail.held("entry 0", detail);
    Ok((open, known))
}

/// What a ladder proves.
struct Ladder {
    /// The label of the latest version.
    label: Option<Label>,
    /// Those that must stay absent.
    watched: Vec<Label>,
    /// The versions on it that exist.
    logged: Logged,
}

/// Proves that the answer's version is the latest.
fn prove_ladder(
    answer: &Answer,
    csi: &Csi,
    vrf: &Key,
    opened: Option<&Opened>,
    trail: &mut Trail,
) -> Result<Ladder, Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    // The last number stands for "any version" in an event, and is no version.
    if answer.version > ladder::VERSION_MAX {
        return Err(not_proven("there is no such version"));
    }
    if opened.is_none() && answer.version != 0 {
        // "A latest version that is not opened is NotProven."
        return Err(not_proven("a version is claimed and not opened"));
    }
    let latest = opened.map(|_| answer.version);
    let versions = ladder::base(latest);
    if versions.len() != answer.ladder.len() {
        return Err(not_proven("the ladder has not one step for each version"));
    }
    let (mut searched, mut own, mut watched) = (Vec::with_capacity(versions.len()), None, Vec::new());
    let mut logged = Logged::new();
    for (version, step) in versions.into_iter().zip(answer.ladder.iter()) {
        let label = verify_label(vrf, csi, version, &step.vrf_proof)
            .map_err(|_| not_proven("a label's proof does not verify"))?;
        let present = latest.is_some_and(|n| version <= n);
        let commitment = match (present, opened) {
            (true, Some(opened)) if version == opened.state.version => {
                own = Some(label);
                Some(opened.commitment)
            }
            (true, _) => Some(step.commitment.ok_or_else(|| not_proven("a version's commitment is missing"))?),
            (false, _) => {
                watched.push(label);
                None
            }
        };
        if step.commitment.is_some() && (!present || latest == Some(version)) {
            return Err(not_proven("a commitment is given where none belongs"));
        }
        logged.extend(commitment.map(|commitment| (version, commitment)));
        searched.push((label.0, commitment));
    }
    answer
        .map
        .verify(&searched, &answer.head.map_root)
        .map_err(|e| Rejected::NotProven(format!("the map does not show the ladder: {e}")))?;
    let claim = latest.map_or("no version exists".to_owned(), |n| format!("version {n} is the latest"));
    trail.held("map", format!("{claim}: {} labels proved and looked up", searched.len()));
    Ok(Ladder { label: own, watched, logged })
}

fn log_facts(
    cosigned: &CosignedCheckpoint,
    trust: &Trust,
    (open, head_time, interval_ms): (OpenKnown, UnixMillis, u64),
    now: UnixMillis,
) -> LogFacts {
    let auditors: Vec<usize> = trust.auditors().collect();
    let fresh = |i: &usize| cosigned.times().get(*i).copied().flatten().is_some();
    LogFacts {
        origin: cosigned.signed().checkpoint().origin.clone(),
        size: cosigned.size(),
        open,
        head_time,
        interval_ms,
        witnesses: (0..cosigned.times().len()).filter(|i| !auditors.contains(i) && fresh(i)).count(),
        witnesses_known: cosigned.times().len() - auditors.len(),
        auditors: auditors.iter().filter(|i| fresh(i)).count(),
        auditors_known: auditors.len(),
        age_s: now.floor_seconds().since(cosigned.quorum_time()),
    }
}

impl Proved {
    /// "A sender without that prover pinned sees `contested`": for the 30 days in which it is proved that a claim waited 72 hours only,
    /// because of a stricter proof. The DP says who that prover is; its own word for who holds the CSI is the attestation that is shown.
    fn is_by_foreign_prover(&self) -> bool {
        let is_early = self.changed_hands.as_ref().is_some_and(|c| c.ground == Some(Ground::Stricter));
        let named = self.opened.as_ref().and_then(|o| o.state.start.domain.get());
        let vouches = |m: &MappingFacts| m.possession.pinned && Some(&m.possession.prover) == named.as_ref();
        is_early && !self.mappings.iter().any(vouches)
    }

    /// Grounds 3 and 4 are the DP's word: somebody who was evicted on it had 72 hours to notice, and senders are told of it for as long as
    /// the hold would have gone on without it. The claim was put down at least a short hold before the tenure began.
    fn short_hold(&self, now: UnixMillis) -> Option<Contest> {
        let begun = self.changed_hands.as_ref()?;
        let ground = begun.ground.filter(|g| matches!(g, Ground::Lapsed | Ground::Recycled))?;
        let until = begun.time.plus_ms(HOLD_MS - SHORT_HOLD_MS);
        (now < until).then_some(Contest::ShortHold { ground, until })
    }

    fn into_lookup(self, now: UnixMillis) -> Lookup {
        let outcome = match &self.opened {
            None => Outcome::Absent,
            Some(opened) if opened.state.state == RecordState::Erased => Outcome::Erased,
            Some(_) if self.mappings.iter().any(|m| m.holds && m.msp.is_some()) => Outcome::Listed,
            // What had lapsed when the head was made is not asked who attested it.
            Some(_) if self.mappings.iter().any(|m| m.msp.is_none() && now.max(self.head_time) < m.not_after) => {
                Outcome::OptedOut
            }
            Some(_) => Outcome::NoneListed,
        };
        let opened = self.opened.as_ref();
        let state = opened.map(|o| &o.state);
        let claim = state.and_then(|s| s.claim_at(now)).map(|c| Contest::Claim {
            since: c.time,
            until: c.until,
            ground: c.ground,
            objected: c.objected.0,
        });
        // "A sender without that CSIP pinned sees `contested`."
        let foreign = self.changed_hands.as_ref().and_then(|c| c.csip.as_ref()).is_some_and(|(_, pinned)| !pinned);
        let contest = foreign.then_some(Contest::ForeignRelease);
        let contest = contest.or(self.is_by_foreign_prover().then_some(Contest::ForeignProver));
        let contest = contest.or_else(|| self.short_hold(now));
        Lookup {
            outcome,
            mappings: self.mappings,
            withheld: self.withheld,
            version: state.map(|s| s.version),
            commitment: opened.map(|o| o.commitment),
            tenure: state.map(|s| s.tenure),
            tenure_of_next_mapping: state.map_or(0, crate::rules::State::tenure_of_next_mapping),
            contested: claim.or(contest),
            changed_hands: self.changed_hands,
            watched: self.watched,
            log: self.log,
        }
    }
}
