//! **The** judgement: an answer, a question, a trust file, what is remembered and the time in; what is proved, or who is at
//! fault, out.
//!
//! No clock, no network, no logger. Each check is written into a [`Trail`] as it is made, so that the same run that decides
//! also explains. The order is that of dependence: nothing is used before it is proved.
//!
//! 1. form and padding
//! 2. the checkpoint: a log of the policy signed it, a fresh quorum cosigned it
//! 3. the head is the last leaf, names this open entry, and its time fits the cosignatures
//! 4. the ladder: each version's label is proved, and the map root shows which are there
//! 5. the record opens the commitment of the latest version; every visible slot is opened; hidden ones by the tag
//! 6. the providers named are proved, present or absent
//! 7. each mapping: the recipient's signature, the prover's, the MSP's consent

use waymark_log::{
    checkpoint::{CheckpointError, Origin},
    hash::{Hash, leaf_hash},
    key::Key,
    note::NoteError,
    policy::{CosignedCheckpoint, Unmet},
    proof::verify_inclusion,
    time::{UnixMillis, UnixSeconds},
};

use crate::{
    answer::{Answer, Body, OpenedConsent, OpenedHidden, Providers},
    commitment::{commit, opens},
    entry::{Config, Entry, HEAD_INTERVAL_MS_MAX, Open, ProviderRole},
    facts::{Change, LogFacts, MappingFacts, Possession, Service},
    identifier::Csi,
    label::{Label, verify_handle, verify_label},
    ladder,
    mapping::{Mapping, Tags},
    names::{Domain, Tag},
    provider::{ProviderLeaf, domain_key},
    record::{HIDDEN_SLOTS, HiddenValue, Record, RecordState, SlotStatus, Standing},
    rules::{Held, State},
    trust::Trust,
    wire::encode,
};

/// What was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
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
    /// It is of a log, or signed by somebody, that the trust file does not know.
    #[error("untrusted: {0}")]
    Untrusted(String),
    /// It does not prove what it says: treat as an attack.
    #[error("not proven: {0}")]
    NotProven(String),
    /// It was good once: too old, or too few have vouched yet.
    #[error("stale: {0}")]
    Stale(String),
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

/// What a client keeps of a log between look-ups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remembered {
    /// The log.
    pub origin: Origin,
    /// Size of the latest tree seen.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The checkpoint that said so.
    pub note: String,
}

/// Something that this module has proved. Made nowhere else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified<T> {
    value: T,
    remember: Remembered,
}

impl<T> Verified<T> {
    /// What is proved.
    pub const fn get(&self) -> &T {
        &self.value
    }

    /// What to remember of the log.
    pub const fn remember(&self) -> &Remembered {
        &self.remember
    }
}

/// What a look-up has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lookup {
    /// Which of the possible answers it is.
    pub outcome: Outcome,
    /// The mappings, visible ones first, with what is known of each.
    pub mappings: Vec<MappingFacts>,
    /// The latest version, if there is one.
    pub version: Option<u32>,
    /// Its commitment: what the next event must name.
    pub commitment: Option<Hash>,
    /// The tenure, if there is a record.
    pub tenure: Option<u32>,
    /// Whether somebody else claims the CSI.
    pub contested: bool,
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
/// `now` is the judge's clock. What was remembered of another log is ignored.
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
    let answer = Answer::from_padded(bytes).map_err(|e| Rejected::Malformed(e.to_string()))?;
    trail.held("form", format!("{} bytes, padding all zero", bytes.len()));
    let shown = match &asked.tag {
        None => Shown::Visible,
        Some(tag) => Shown::Tag(tag),
    };
    let proved = prove(&answer, &asked.csi, shown, trust, remembered, now, trail)?;
    let remember = proved.remember.clone();
    Ok(Verified { value: proved.into_lookup(now), remember })
}

/// Which hidden slots an answer may open.
#[derive(Clone, Copy)]
pub(crate) enum Shown<'a> {
    /// None.
    Visible,
    /// Those with this tag, all of them.
    Tag(&'a Tag),
    /// Any: the reader is the recipient.
    Recipient,
}

/// Everything that one answer proves.
pub(crate) struct Proved {
    pub(crate) remember: Remembered,
    pub(crate) origin: Origin,
    pub(crate) vrf: Key,
    pub(crate) head_time: UnixMillis,
    pub(crate) label: Option<Label>,
    pub(crate) watched: Vec<Label>,
    pub(crate) opened: Option<Opened>,
    mappings: Vec<MappingFacts>,
    log: LogFacts,
}

/// A record, opened.
pub(crate) struct Opened {
    pub(crate) state: State,
    pub(crate) commitment: Hash,
    pub(crate) record: Record,
    /// Whether all eight hidden slots were opened.
    pub(crate) complete: bool,
}

pub(crate) fn prove(
    answer: &Answer,
    csi: &Csi,
    shown: Shown<'_>,
    trust: &Trust,
    remembered: Option<&Remembered>,
    now: UnixMillis,
    trail: &mut Trail,
) -> Result<Proved, Rejected> {
    let cosigned = prove_checkpoint(answer, trust, now, trail)?;
    let remember = check_remembered(answer, &cosigned, remembered, trail)?;
    let (open, interval_ms) = prove_head(answer, &cosigned, trust, trail)?;
    let origin = remember.origin.clone();
    let opened = match &answer.body.0 {
        None => None,
        Some(body) => Some(open_body(body, csi, answer.version, &open.vrf, shown)?),
    };
    let (label, watched) = prove_ladder(answer, csi, &open.vrf, opened.as_ref(), trail)?;
    let mut mappings = Vec::new();
    if let (Some(body), Some(opened)) = (&answer.body.0, &opened) {
        describe_opened(opened, trail);
        let leaves = prove_providers(&answer.providers, &opened.state, &answer.head.provider_root, trail)?;
        let judge = Judge {
            answer,
            trust,
            origin: &origin,
            open: &open,
            leaves: &leaves,
            size: cosigned.size(),
            now,
            cosigned: &cosigned,
        };
        mappings = judge.all(body, &opened.state, trail)?;
    } else {
        no_providers(&answer.providers)?;
    }
    let log = log_facts(&cosigned, trust, &answer.head.time, interval_ms, now);
    Ok(Proved { remember, origin, vrf: open.vrf, head_time: answer.head.time, label, watched, opened, mappings, log })
}

fn prove_checkpoint(
    answer: &Answer,
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
    trail.held("log signature", format!("{} at {} entries", checkpoint.origin, checkpoint.size));
    let witnesses = trust.policy().witnesses().len();
    let age = now.floor_seconds().since(cosigned.quorum_time());
    trail.held(
        "witnesses",
        format!("{} of {witnesses} fresh cosignatures, quorum {age} s ago", cosigned.cosignatures()),
    );
    Ok(cosigned)
}

fn check_remembered(
    answer: &Answer,
    cosigned: &CosignedCheckpoint,
    remembered: Option<&Remembered>,
    trail: &mut Trail,
) -> Result<Remembered, Rejected> {
    let checkpoint = cosigned.signed().checkpoint();
    let note = String::from_utf8_lossy(answer.checkpoint.as_slice()).into_owned();
    let (origin, size, root) = (checkpoint.origin.clone(), checkpoint.size, checkpoint.root);
    if let Some(r) = remembered.filter(|r| r.origin == origin) {
        if r.size == size && r.root != root {
            return Err(Rejected::SplitView { size, ours: r.note.clone(), theirs: note });
        }
        if r.size == size {
            trail.held("same view", "the tree remembered has the same size and root");
        }
        if r.size > size {
            return Ok(r.clone());
        }
    }
    Ok(Remembered { origin, size, root, note })
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
    let leaf = leaf_hash(&Entry::Head(*head).encode());
    let last = cosigned.size().checked_sub(1).ok_or_else(|| not_proven("the log is empty"))?;
    verify_inclusion(last, cosigned.size(), &leaf, &answer.head_path, cosigned.root())
        .map_err(|_| not_proven("the head is not the last entry of the checkpoint"))?;
    trail.held("head", format!("entry {last} of {}, {} changes", cosigned.size(), head.changes));

    let sha256 = |bytes: &[u8]| Hash::sha256(&[bytes]);
    let open = match Entry::decode(answer.open.as_slice()) {
        Ok(Entry::Open(open)) if sha256(answer.open.as_slice()) == head.open => open,
        _ => return Err(not_proven("the open entry is not the one that the head names")),
    };
    if open.origin.get() != cosigned.signed().checkpoint().origin {
        return Err(not_proven("the open entry is of another log"));
    }
    let config: Option<Config> = match (answer.config.as_slice(), head.config) {
        ([], Hash::ZERO) => None,
        (bytes, digest) if sha256(bytes) == digest => match Entry::decode(bytes) {
            Ok(Entry::Config(config)) => Some(config),
            _ => return Err(not_proven("the config entry is none")),
        },
        _ => return Err(not_proven("the config entry is not the one that the head names")),
    };
    let interval_ms = u64::from(config.map_or(open.interval_ms, |c| c.interval_ms));
    trail.held("open entry", format!("{} runs the log", open.domain));
    check_head_time(head.time, cosigned.quorum_time(), interval_ms, trust)?;
    trail.held("head time", format!("{} ms before the quorum", cosigned.quorum_time().to_millis().since(head.time)));
    Ok((open, interval_ms))
}

/// floor(head time / 1000) <= quorum time + skew, and head time >= quorum time - (60 s + promised interval + skew).
fn check_head_time(head: UnixMillis, quorum: UnixSeconds, interval_ms: u64, trust: &Trust) -> Result<(), Rejected> {
    let skew_s = trust.freshness().skew_s;
    if head.floor_seconds() > quorum.plus_s(skew_s) {
        return Err(Rejected::NotProven("the head is dated after its cosignatures".to_owned()));
    }
    // Both are bounded: the interval by its type, the skew by the trust file's parser.
    let slack_ms = HEAD_INTERVAL_MS_MAX + interval_ms + skew_s * 1000;
    if head.plus_ms(slack_ms) < quorum.to_millis() {
        return Err(Rejected::Stale("the head is much older than its cosignatures".to_owned()));
    }
    Ok(())
}

/// Proves that the answer's version is the latest, and returns its label and those that must stay absent.
fn prove_ladder(
    answer: &Answer,
    csi: &Csi,
    vrf: &Key,
    opened: Option<&Opened>,
    trail: &mut Trail,
) -> Result<(Option<Label>, Vec<Label>), Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
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
        searched.push((label.0, commitment));
    }
    answer
        .map
        .verify(&searched, &answer.head.map_root)
        .map_err(|e| Rejected::NotProven(format!("the map does not show the ladder: {e}")))?;
    let claim = latest.map_or("no version exists".to_owned(), |n| format!("version {n} is the latest"));
    trail.held("map", format!("{claim}: {} labels proved and looked up", searched.len()));
    Ok((own, watched))
}

/// Opens a record. Signatures inside are not judged here.
pub(crate) fn open_body(body: &Body, csi: &Csi, version: u32, vrf: &Key, shown: Shown<'_>) -> Result<Opened, Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    let record = &body.record;
    if record.csi != *csi || record.version != version {
        return Err(not_proven("the record is of another identifier or version"));
    }
    let commitment = commit(&body.opening, csi, version, &encode(record));
    // "Visible slots are all opened in every answer (an unopened one is NotProven)."
    if body.visible.len() != record.visible.len() {
        return Err(not_proven("a visible mapping is not opened"));
    }
    let mut held = Vec::new();
    for (i, (opened, slot)) in body.visible.iter().zip(record.visible.iter()).enumerate() {
        let right = usize::from(opened.slot) == i && opens(&slot.digest, &opened.salt, &encode(&opened.mapping));
        if !right || !matches!(opened.mapping.tags, Tags::Shown(_)) {
            return Err(not_proven("a visible slot does not open to what is shown"));
        }
        check_served(&slot.standing, opened.statement.0.is_some())?;
        held.push(Held { standing: slot.standing, mapping: opened.mapping.clone() });
    }
    let hidden = open_hidden(body, csi, vrf, shown)?;
    held.extend(hidden);
    if held.iter().any(|h| h.mapping.csi != *csi || h.mapping.tenure != record.tenure) {
        return Err(not_proven("a mapping is of another identifier or tenure"));
    }
    let complete = body.hidden.len() == HIDDEN_SLOTS;
    let state = State {
        csi: csi.clone(),
        version,
        tenure: record.tenure,
        start: record.start.clone(),
        state: record.state,
        held,
    };
    Ok(Opened { state, commitment, record: record.clone(), complete })
}

/// Statements by MSPs and DPs come with the lifecycle; until their authority can be checked, nothing but "served" is
/// believed, and nothing may ride along.
fn check_served(standing: &Standing, has_statement: bool) -> Result<(), Rejected> {
    if standing.status == SlotStatus::Served && standing.reason == 0 && !has_statement {
        return Ok(());
    }
    Err(Rejected::NotProven("a mapping has a status that this version cannot check".to_owned()))
}

/// Opens the hidden slots that may be shown, in the order of their tags' ordinals.
fn open_hidden(body: &Body, csi: &Csi, vrf: &Key, shown: Shown<'_>) -> Result<Vec<Held>, Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    let record = &body.record;
    let mut seen = [false; HIDDEN_SLOTS];
    let mut held = Vec::new();
    for (i, opened) in (0u8..).zip(body.hidden.iter()) {
        let slot = record.hidden.0.get(usize::from(opened.slot)).ok_or_else(|| not_proven("there is no such slot"))?;
        if std::mem::replace(&mut seen[usize::from(opened.slot)], true) {
            return Err(not_proven("a hidden slot is opened twice"));
        }
        if !opens(&slot.digest, &opened.salt, &encode(&opened.value)) {
            return Err(not_proven("a hidden slot does not open to what is shown"));
        }
        let Some(h) = hidden_mapping(opened, record, csi, vrf)? else {
            // Only the recipient is shown what is empty.
            if matches!(shown, Shown::Recipient) {
                continue;
            }
            return Err(not_proven("an empty slot is opened to a sender"));
        };
        let fits = match shown {
            Shown::Visible => false,
            Shown::Tag(tag) => {
                h.mapping.tags.as_exact() == Some(tag) && opened.handle.0.is_some_and(|p| p.ordinal == i)
            }
            Shown::Recipient => true,
        };
        if !fits {
            return Err(not_proven("a hidden mapping is opened to somebody who did not present its tag"));
        }
        check_served(&h.standing, false)?;
        held.push(h);
    }
    check_tag_end(body, csi, vrf, shown)?;
    Ok(held)
}

/// The mapping in an opened hidden slot, its handle proved; `None` for an empty slot.
fn hidden_mapping(opened: &OpenedHidden, record: &Record, csi: &Csi, vrf: &Key) -> Result<Option<Held>, Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    match (&opened.value, &opened.handle.0) {
        (HiddenValue::Empty, None) if opened.consent.0.is_none() => Ok(None),
        (HiddenValue::Present(standing, mapping), Some(proof)) => {
            let tag = mapping.tags.as_exact().ok_or_else(|| not_proven("a hidden mapping has no tag"))?;
            // Without this a DP could give a mapping a random handle and deny it to those who present its tag.
            let handle = verify_handle(vrf, csi, record.version, tag, proof.ordinal, &proof.vrf_proof);
            if handle.ok() != Some(record.hidden.0[usize::from(opened.slot)].handle) {
                return Err(not_proven("a hidden slot's handle is not that of its tag"));
            }
            Ok(Some(Held { standing: *standing, mapping: (**mapping).clone() }))
        }
        _ => Err(not_proven("a hidden slot is opened without its handle, or an empty one with one")),
    }
}

/// For a presented tag: the DP proves the first handle that is not there, so that it cannot deny one that is.
fn check_tag_end(body: &Body, csi: &Csi, vrf: &Key, shown: Shown<'_>) -> Result<(), Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    match (shown, &body.tag_end.0) {
        (Shown::Tag(tag), Some(end)) if usize::from(end.ordinal) == body.hidden.len() => {
            let handle = verify_handle(vrf, csi, body.record.version, tag, end.ordinal, &end.vrf_proof)
                .map_err(|_| not_proven("the end of the tag's handles is not proved"))?;
            if body.record.hidden.0.iter().any(|s| s.handle == handle) {
                return Err(not_proven("a hidden mapping with the presented tag is denied"));
            }
            Ok(())
        }
        (Shown::Visible | Shown::Recipient, None) => Ok(()),
        _ => Err(not_proven("the handles of the presented tag are not proved to their end")),
    }
}

fn describe_opened(opened: &Opened, trail: &mut Trail) {
    let visible = opened.record.visible.len();
    trail.held("record", format!("opens the commitment; {visible} visible mappings, all opened"));
    let hidden = opened.state.held.iter().filter(|h| h.is_hidden()).count();
    if hidden > 0 {
        trail.held("tag", format!("{hidden} hidden mappings opened by their tag"));
    }
}

/// Proves the leaves of all domains that the mappings name; those without a leaf are proved to have none.
fn prove_providers(
    providers: &Providers,
    state: &State,
    root: &Hash,
    trail: &mut Trail,
) -> Result<Vec<ProviderLeaf>, Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    let domains = named_domains(state.held.iter().map(|h| &h.mapping));
    if domains.is_empty() {
        return no_providers(providers).map(|()| Vec::new());
    }
    let mut leaves = providers.leaves.iter();
    let mut searched = Vec::with_capacity(domains.len());
    for (domain, present) in domains.iter().zip(providers.proof.claims_presence()) {
        let leaf = if present { leaves.next().filter(|l| l.domain == *domain) } else { None };
        if present && leaf.is_none() {
            return Err(not_proven("a provider's keys are not those of its domain"));
        }
        searched.push((domain_key(domain), leaf.map(ProviderLeaf::digest)));
    }
    // The proof has one result for each domain, or it does not verify.
    let all_shown = leaves.next().is_none() && searched.len() == domains.len();
    if !all_shown || providers.proof.verify(&searched, root).is_err() {
        return Err(not_proven("the providers are not proved"));
    }
    trail.held("providers", format!("{} domains proved under the head's provider root", domains.len()));
    Ok(providers.leaves.to_vec())
}

/// Where nobody is named, nothing is shown: one encoding, so that nothing can ride along.
fn no_providers(providers: &Providers) -> Result<(), Rejected> {
    if *providers == Providers::none() {
        return Ok(());
    }
    Err(Rejected::NotProven("providers are shown that no mapping names".to_owned()))
}

/// The domains that mappings name, as MSP or prover, in the order of SHA-256(domain).
pub fn named_domains<'a>(mappings: impl Iterator<Item = &'a Mapping>) -> Vec<Domain> {
    let mut domains: Vec<Domain> =
        mappings.flat_map(|m| [m.msp.get(), Some(m.attestation.prover.clone())]).flatten().collect();
    domains.sort_unstable_by_key(domain_key);
    domains.dedup();
    domains
}

/// What the mappings are judged by.
struct Judge<'a> {
    answer: &'a Answer,
    trust: &'a Trust,
    origin: &'a Origin,
    open: &'a Open,
    leaves: &'a [ProviderLeaf],
    size: u64,
    now: UnixMillis,
    cosigned: &'a CosignedCheckpoint,
}

impl Judge<'_> {
    fn all(&self, body: &Body, state: &State, trail: &mut Trail) -> Result<Vec<MappingFacts>, Rejected> {
        let visible = body.visible.iter().map(|v| (&v.mapping, v.consent.0.as_ref()));
        let hidden = body.hidden.iter().filter_map(|h| match &h.value {
            HiddenValue::Present(_, mapping) => Some((&**mapping, h.consent.0.as_ref())),
            HiddenValue::Empty => None,
        });
        let consents: Vec<(&Mapping, Option<&OpenedConsent>)> = visible.chain(hidden).collect();
        let mut facts = Vec::with_capacity(state.held.len());
        for held in &state.held {
            let consent = consents.iter().find(|(m, _)| **m == held.mapping).and_then(|(_, c)| *c);
            facts.push(self.one(held, consent)?);
        }
        if !facts.is_empty() {
            trail.held("mappings", format!("{} signed by their recipients and provers", facts.len()));
        }
        let confirmed = facts.iter().filter(|f| matches!(f.service, Service::Confirmed { .. })).count();
        if confirmed > 0 {
            trail.held("consents", format!("{confirmed} mappings confirmed by their MSPs"));
        }
        Ok(facts)
    }

    fn one(&self, held: &Held, consent: Option<&OpenedConsent>) -> Result<MappingFacts, Rejected> {
        let m = &held.mapping;
        m.verify(self.origin).map_err(|e| Rejected::NotProven(e.to_string()))?;
        let possession = self.possession(m)?;
        let service = self.service(held, consent)?;
        Ok(MappingFacts {
            msp: m.msp.get(),
            account: m.account.clone(),
            tags: m.tags.clone(),
            recipient: m.recipient,
            digest: m.digest(),
            not_after: m.not_after,
            holds: m.is_valid_at(self.now) && service.counts(),
            possession,
            service,
            change: Change {
                since: held.standing.since,
                since_version: held.standing.since_version,
                is_new: held.standing.is_new_at(self.now),
            },
        })
    }

    fn leaf(&self, domain: &Domain) -> Option<&ProviderLeaf> {
        self.leaves.iter().find(|l| l.domain == *domain)
    }

    fn possession(&self, m: &Mapping) -> Result<Possession, Rejected> {
        let a = &m.attestation;
        let logged = self
            .leaf(&a.prover)
            .is_some_and(|leaf| leaf.valid(ProviderRole::Prover, a.time).any(|k| k.key == a.prover_key));
        let mut pins = self.trust.pinned(ProviderRole::Prover, &a.prover).peekable();
        let is_pinned_domain = pins.peek().is_some();
        let pinned = pins.any(|k| *k == a.prover_key);
        if is_pinned_domain && !pinned {
            return Err(Rejected::Untrusted("possession is attested with another key than the one pinned".to_owned()));
        }
        if !logged && !pinned {
            return Err(Rejected::NotProven("possession is attested by a key that is not the prover's".to_owned()));
        }
        Ok(Possession {
            prover: a.prover.clone(),
            method: a.method,
            strength: a.strength,
            time: a.time,
            independent_of_dp: a.prover != self.open.domain,
            independent_of_msp: Some(&a.prover) != m.msp.get().as_ref(),
            pinned,
        })
    }

    fn service(&self, held: &Held, consent: Option<&OpenedConsent>) -> Result<Service, Rejected> {
        let m = &held.mapping;
        let Some(msp) = m.msp.get() else {
            return if consent.is_none() {
                Ok(Service::OptedOut)
            } else {
                Err(Rejected::NotProven("an opt-out has an MSP's consent".to_owned()))
            };
        };
        let head_time = self.answer.head.time;
        let keys: Vec<_> = self.leaf(&msp).into_iter().flat_map(|l| l.valid(ProviderRole::Msp, head_time)).collect();
        let publishes = self.leaf(&msp).is_some_and(|leaf| leaf.publishes(head_time));
        let Some(opened) = consent else {
            // "No sender counts a visible mapping naming me unless I could see it."
            return Ok(if publishes && !held.is_hidden() { Service::NotShownToMsp } else { Service::Unconfirmed });
        };
        if !opened.consent.is_for(m, &opened.salt, self.origin) {
            return Err(Rejected::NotProven("an MSP's consent is not under this mapping".to_owned()));
        }
        let logged = self.consent_logged(opened)?;
        let key = &opened.consent.msp_key;
        let mut pins = self.trust.pinned(ProviderRole::Msp, &msp).peekable();
        let is_pinned_domain = pins.peek().is_some();
        let pinned = pins.any(|k| k == key);
        if is_pinned_domain && !pinned {
            return Err(Rejected::Untrusted("an MSP's consent is by another key than the one pinned".to_owned()));
        }
        // A key that has retired, or a consent that is over, confirms nothing any more; the mapping itself still stands.
        let current = keys.iter().any(|k| k.key == *key) && self.now < opened.consent.expiry;
        Ok(match (current, publishes && !held.is_hidden() && !logged) {
            (false, false) => Service::Unconfirmed,
            (_, true) => Service::NotShownToMsp,
            (true, false) => Service::Confirmed { in_log: logged, pinned },
        })
    }

    fn consent_logged(&self, opened: &OpenedConsent) -> Result<bool, Rejected> {
        let Some(at) = &opened.logged.0 else { return Ok(false) };
        let leaf = leaf_hash(&Entry::Consent(opened.consent.clone()).encode());
        verify_inclusion(at.index, self.size, &leaf, &at.path, self.cosigned.root())
            .map_err(|_| Rejected::NotProven("an MSP's consent is not in the log".to_owned()))?;
        Ok(true)
    }
}

fn log_facts(
    cosigned: &CosignedCheckpoint,
    trust: &Trust,
    head: &UnixMillis,
    interval_ms: u64,
    now: UnixMillis,
) -> LogFacts {
    let auditors: Vec<usize> = trust.auditors().collect();
    let fresh = |i: &usize| cosigned.times().get(*i).copied().flatten().is_some();
    LogFacts {
        origin: cosigned.signed().checkpoint().origin.clone(),
        size: cosigned.size(),
        head_time: *head,
        interval_ms,
        witnesses: (0..cosigned.times().len()).filter(|i| !auditors.contains(i) && fresh(i)).count(),
        witnesses_known: cosigned.times().len() - auditors.len(),
        auditors: auditors.iter().filter(|i| fresh(i)).count(),
        auditors_known: auditors.len(),
        age_s: now.floor_seconds().since(cosigned.quorum_time()),
    }
}

impl Proved {
    fn into_lookup(self, now: UnixMillis) -> Lookup {
        let outcome = match &self.opened {
            None => Outcome::Absent,
            Some(opened) if opened.record.state == RecordState::Erased => Outcome::Erased,
            Some(_) if self.mappings.iter().any(|m| m.holds && m.msp.is_some()) => Outcome::Listed,
            Some(_) if self.mappings.iter().any(|m| m.msp.is_none() && now < m.not_after) => Outcome::OptedOut,
            Some(_) => Outcome::NoneListed,
        };
        let opened = self.opened.as_ref();
        Lookup {
            outcome,
            mappings: self.mappings,
            version: opened.map(|o| o.state.version),
            commitment: opened.map(|o| o.commitment),
            tenure: opened.map(|o| o.state.tenure),
            contested: opened.is_some_and(|o| o.record.state == RecordState::Contested),
            watched: self.watched,
            log: self.log,
        }
    }
}
