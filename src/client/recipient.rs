//! A recipient's app: one key for one CSI at one DP, its mappings, its changes, its receipts, its watch-list.
//!
//! A change is made in the order: look the CSI up and verify (which version is current?), refuse if that is newer than what the
//! person was shown, sign the event over that version, send it, and accept the receipt only if the record is what it was, changed
//! by that event and nothing else. Several apps of one person may make one change together: each signs the event with its own key.

use waymark_log::{
    checkpoint::Origin,
    hash::{Hash, leaf_hash},
    key::{Key, SecretKey},
    time::UnixMillis,
};
use waymark_mapping::{
    commitment::Salt,
    entry::{Change, Entry},
    event::{ANY_VERSION, Event, EventKind, EventTbs},
    evidence::Evidence,
    identifier::Csi,
    label::Label,
    mapping::{Attestation, Consent, MAPPING_LIFETIME_MS_MAX, Mapping, Purpose, Tags},
    memory::{NotConsistent, Remembered},
    names::{Account, Domain, MaybeDomain, Region},
    receipt::{Anchor, Current, ReceiptRefused, Sent, accept, open_current},
    rules::State,
    signed::{SignedStruct, UNSIGNED},
    trust::Trust,
    verify::{Asked, Lookup, Rejected, Trail, Verified, verify},
    watch::{WATCH_LIFETIME_MS_MAX, WatchId, WatchList},
    wire::{Extensions, Format, List24, Opaque8, Optional24},
};
use waymark_runtime::random;

use super::{ClientError, dp::DpClient, memory::LogMemory};
use crate::api::{ChangeRequest, OfferedConsent};

/// The keys of one app for one CSI.
#[derive(Clone, Debug)]
pub struct AppKeys {
    /// Authorises mappings.
    pub recipient: SecretKey,
    /// Signs watch-lists; unrelated to the other, so that a monitor learns nothing.
    pub watcher: SecretKey,
    /// Names the watch-list.
    pub watch_id: WatchId,
}

impl AppKeys {
    /// New keys.
    pub fn generate() -> Self {
        let key = || SecretKey::from_seed(&random::bytes());
        Self { recipient: key(), watcher: key(), watch_id: WatchId(random::bytes()) }
    }
}

/// What a mapping is to say.
#[derive(Clone, Debug)]
pub struct MappingSpec {
    /// Where; `None` to opt out.
    pub msp: Option<Domain>,
    /// The account there.
    pub account: Account,
    /// What for.
    pub tags: Tags,
}

impl MappingSpec {
    /// Says that the recipient does not want to be found.
    ///
    /// # Panics
    /// Never: no tags are a good list of tags.
    pub fn opt_out() -> Self {
        Self { msp: None, account: Account::NONE, tags: Tags::shown(vec![]).expect("no tags") }
    }
}

/// One mapping to be added, with its MSP's consent if there is one.
#[derive(Clone, Debug)]
pub struct Added {
    /// The mapping.
    pub mapping: Mapping,
    /// The consent and its salt.
    pub consent: Option<(Consent, Salt)>,
}

/// A change before it is signed.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// What kind.
    pub kind: EventKind,
    /// Whose CSI.
    pub csi: &'a Csi,
    /// The version of the record that the person was last shown; `None` if they were shown that there is no record.
    pub over: Option<u32>,
    /// What is added.
    pub added: &'a [Added],
    /// What is removed, by digest.
    pub removed: &'a [Hash],
    /// The keys that sign, each with fresh possession where the rules ask for it. The first one sends.
    pub signers: &'a [(&'a SecretKey, Option<Attestation>)],
}

/// Why a change did not come about, or is not believed.
#[derive(Debug, thiserror::Error)]
pub enum RecipientError {
    /// The DP.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Its answer to the look-up is not believed.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Its receipt is not believed: keep it, and treat this as an attack.
    #[error(transparent)]
    Receipt(#[from] ReceiptRefused),
    /// The log is another one than the one remembered: treat this as an attack.
    #[error(transparent)]
    NotConsistent(#[from] NotConsistent),
    /// The record was changed since the person was shown it: show what was done ([`history`], [`past`]), then ask again.
    #[error("nothing was signed: the record is at version {current}, which this app has not shown yet; {}", seen(*.shown))]
    Overtaken {
        /// What the person was shown.
        shown: Option<u32>,
        /// What is current.
        current: u32,
    },
    /// The code was wrong.
    #[error("the code is wrong")]
    WrongCode,
    /// The prover attests something else than what was asked.
    #[error("the prover's attestation is not for this identifier, key and log, or its signature does not verify")]
    OtherAttestation,
    /// The change contradicts itself before it is sent.
    #[error("{0}")]
    Wish(&'static str),
}

fn seen(shown: Option<u32>) -> String {
    shown.map_or_else(|| "it has shown none".to_owned(), |version| format!("the last one it has shown is {version}"))
}

impl RecipientError {
    /// What anybody can be shown, if two notes contradict each other.
    pub fn evidence(&self) -> Option<Evidence> {
        match self {
            Self::Rejected(rejected) | Self::Receipt(ReceiptRefused::Rejected(rejected)) => rejected.evidence(),
            Self::NotConsistent(fork) => Some(fork.evidence().clone()),
            _ => None,
        }
    }
}

/// Looks a CSI up and verifies the answer. What of the log must still be shown is for the caller ([`LogMemory::take`]).
///
/// # Errors
/// [`RecipientError`].
pub async fn look_up(
    dp: &DpClient,
    asked: &Asked,
    trust: &Trust,
    remembered: Option<&Remembered>,
    trail: &mut Trail,
) -> Result<(Verified<Lookup>, Vec<u8>), RecipientError> {
    let bytes = dp.look_up(&asked.csi, asked.tag.as_ref()).await?;
    let verified = verify(&bytes, asked, trust, remembered, dp.clock().now(), trail)?;
    Ok((verified, bytes))
}

/// Proves possession: starts a challenge, has the code read by `read_code` from its name, hands it in.
///
/// # Errors
/// [`RecipientError`].
pub async fn prove<F, R>(
    dp: &DpClient,
    secret: &SecretKey,
    csi: &Csi,
    tenure: u32,
    purpose: Purpose,
    read_code: F,
) -> Result<Attestation, RecipientError>
where
    F: FnOnce(String) -> R,
    R: Future<Output = Option<String>>,
{
    let challenge = dp.start_challenge(secret, csi, tenure, purpose).await?;
    let code = read_code(challenge.id.clone()).await.ok_or(RecipientError::WrongCode)?;
    let attestation = dp.check_challenge(secret, &challenge.id, code.trim()).await?;
    check_attestation(attestation.ok_or(RecipientError::WrongCode)?, dp.origin(), secret, csi)
}

/// Whether a prover attests what was asked, for the DP that it is to be used at.
///
/// # Errors
/// [`RecipientError::OtherAttestation`].
pub fn check_attestation(
    attestation: Attestation,
    origin: &Origin,
    secret: &SecretKey,
    csi: &Csi,
) -> Result<Attestation, RecipientError> {
    let is_ours = attestation.csi == *csi && attestation.recipient == secret.public();
    if is_ours && attestation.verify(origin).is_ok() { Ok(attestation) } else { Err(RecipientError::OtherAttestation) }
}

/// Signs a mapping.
pub fn sign_mapping(
    origin: &Origin,
    secret: &SecretKey,
    spec: &MappingSpec,
    attestation: &Attestation,
    now: UnixMillis,
) -> Mapping {
    let mut mapping = Mapping {
        format: Format,
        csi: attestation.csi.clone(),
        tenure: attestation.tenure,
        recipient: secret.public(),
        msp: spec.msp.clone().map_or(MaybeDomain::NONE, Into::into),
        account: spec.account.clone(),
        fingerprint: Opaque8::new([]).expect("no bytes are allowed"),
        tags: spec.tags.clone(),
        not_before: now,
        not_after: attestation.time.plus_ms(MAPPING_LIFETIME_MS_MAX).floor_day(),
        region: Region::ANY,
        attestation: attestation.clone(),
        sig: UNSIGNED,
    };
    mapping.sign(origin, secret);
    mapping
}

/// Makes a change and accepts its receipt. Nothing is signed over an answer of a log that has gone back, or has been another
/// one before, as far as the memory and the log's tiles show; and nothing over a version that the person was not shown.
///
/// # Errors
/// [`RecipientError`]; `Overtaken` before anything was signed; `Client` with code `version-stale` or `change-in-flight` means
/// that somebody was quicker: look first, then decide.
pub async fn change(
    dp: &DpClient,
    wish: Wish<'_>,
    trust: &Trust,
    memory: &mut LogMemory,
) -> Result<Current, RecipientError> {
    let asked = Asked { origin: dp.origin().clone(), csi: wish.csi.clone(), tag: None };
    let (looked_up, _) = look_up(dp, &asked, trust, memory.remembered(), &mut Trail::default()).await?;
    memory.take(looked_up.recall()).await?;
    // A signature over a version accepts what is in it.
    if let Some(current) = looked_up.get().version.filter(|current| wish.over.is_none_or(|shown| shown < *current)) {
        return Err(RecipientError::Overtaken { shown: wish.over, current });
    }
    let event = sign_event(dp.origin(), &wish, looked_up.get(), dp.clock().now())?;
    let added: Vec<Mapping> = wish.added.iter().map(|a| a.mapping.clone()).collect();
    let offered = (0u8..)
        .zip(wish.added)
        .filter_map(|(index, a)| a.consent.clone().map(|(consent, salt)| OfferedConsent { index, consent, salt }));
    let request = ChangeRequest {
        event: event.clone(),
        added: List24::new(added.clone()).ok_or(RecipientError::Wish("too many mappings"))?,
        consents: List24::new(offered.collect()).ok_or(RecipientError::Wish("too many consents"))?,
    };
    let (sender, _) = wish.signers.first().ok_or(RecipientError::Wish("nobody signs the change"))?;
    let receipt = dp.change(sender, &request).await?;
    let now = dp.clock().now();
    let sent = Sent { origin: dp.origin(), event: &event, added: &added, by: &sender.public() };
    let current = accept(&receipt, sent, trust, memory.remembered(), now, &mut Trail::default())?;
    memory.take(&current.recall).await?;
    Ok(current)
}

fn sign_event(origin: &Origin, wish: &Wish<'_>, current: &Lookup, now: UnixMillis) -> Result<Event, RecipientError> {
    let digests: Vec<Hash> = wish.added.iter().map(|a| a.mapping.digest()).collect();
    let tbs = EventTbs {
        format: Format,
        kind: wish.kind,
        csi: wish.csi.clone(),
        tenure: current.tenure.unwrap_or(0),
        version: current.version.map_or(0, |v| v + 1),
        previous: current.commitment.unwrap_or(Hash::ZERO),
        added: List24::new(digests).ok_or(RecipientError::Wish("too many mappings"))?,
        removed: List24::new(wish.removed.to_vec()).ok_or(RecipientError::Wish("too many mappings"))?,
        reason: 0,
        time: now,
        nonce: random::bytes(),
    };
    let sign = |(secret, possession): &(&SecretKey, Option<Attestation>)| {
        tbs.sign_as_recipient(origin, secret, possession.clone())
    };
    let authorities = List24::new(wish.signers.iter().map(sign).collect());
    let authorities = authorities.ok_or(RecipientError::Wish("too many signers"))?;
    Ok(Event { tbs, authorities })
}

/// A revocation of a key, prepared in advance and kept offline: whoever hands it in ends all mappings of the key in this tenure,
/// whatever has happened since.
///
/// # Panics
/// Never: one signature fits an event.
pub fn revocation(origin: &Origin, secret: &SecretKey, csi: &Csi, tenure: u32, now: UnixMillis) -> Event {
    let tbs = EventTbs {
        format: Format,
        kind: EventKind::KeyCompromise,
        csi: csi.clone(),
        tenure,
        version: ANY_VERSION,
        previous: Hash::ZERO,
        added: List24::empty(),
        removed: List24::empty(),
        reason: 0,
        time: now,
        nonce: random::bytes(),
    };
    let authority = tbs.sign_as_recipient(origin, secret, None);
    Event { tbs, authorities: List24::new(vec![authority]).expect("one signature fits") }
}

/// One step of a CSI's history: what made a version, and what stood before it, if the reader may see that.
#[derive(Clone, Debug)]
pub struct Step {
    /// The version.
    pub version: u32,
    /// What made it.
    pub event: Event,
    /// The record before.
    pub before: Option<State>,
}

/// Most steps of history that are read at once. A step holds a record, which may have forty mappings of some kilobytes.
pub const PAST_STEPS_MAX: usize = 1024;
/// How often a history is begun anew because its record was changed meanwhile.
const PAST_TRIES: usize = 4;

/// The lowest version of a history that is to be shown to the holder of a key who has seen the record of version `after`.
pub fn past_reaches(current: &Current, by: &Key, after: Option<u32>) -> u32 {
    let first = current.state.first_seen_by(by).unwrap_or(current.state.start.version);
    after.map_or(first, |after| first.max(after.saturating_add(1)))
}

/// The history that the holder of a key may see, newest first: each step is proved to lead to the one after it. It should reach back to
/// [`past_reaches`]; a DP that was restored from a copy for a region may not have all of it. A DP does not decide how long it is: nothing
/// below that version is read, and at most [`PAST_STEPS_MAX`] steps.
///
/// # Errors
/// [`RecipientError`].
pub async fn past(
    dp: &DpClient,
    secret: &SecretKey,
    current: &Current,
    after: Option<u32>,
) -> Result<Vec<Step>, RecipientError> {
    let lowest = past_reaches(current, &secret.public(), after);
    let is_wanted = |at: &Anchor, steps: &Vec<Step>| at.version() >= lowest && steps.len() < PAST_STEPS_MAX;
    let (mut steps, mut anchor) = (Vec::new(), Some(current.anchor.clone()));
    while let Some(at) = anchor.take().filter(|at| is_wanted(at, &steps)) {
        let page = dp.past(secret, &current.state.csi, at.version()).await?;
        anchor = Some(at);
        for past in page.steps.iter() {
            let Some(at) = anchor.take().filter(|at| is_wanted(at, &steps)) else { break };
            let (event, before) = at.step(past, &secret.public())?;
            let (state, next) = before.unzip();
            steps.push(Step { version: at.version(), event, before: state });
            anchor = next;
        }
        // An empty page moves nothing: there is no more to see.
        if page.steps.is_empty() {
            break;
        }
    }
    Ok(steps)
}

/// The history behind a record that was read a moment ago. What a key is shown of the past goes by the latest record: if that was changed
/// meanwhile, the history may not fit the record that was read. That is no dispute: the record is read anew, and given beside its history.
///
/// # Errors
/// [`RecipientError`]; a refusal only if the record is still the one that was read.
pub async fn past_of_latest(
    dp: &DpClient,
    secret: &SecretKey,
    read: &Current,
    after: Option<u32>,
    trust: &Trust,
    memory: &mut LogMemory,
) -> Result<(Option<Current>, Vec<Step>), RecipientError> {
    let mut newer = None;
    for _ in 1..PAST_TRIES {
        let current = newer.as_ref().unwrap_or(read);
        let refused = match past(dp, secret, current, after).await {
            Err(RecipientError::Receipt(refused)) => refused,
            steps => return steps.map(|steps| (newer, steps)),
        };
        let next = history(dp, secret, &current.state.csi, trust, memory).await?;
        let next = next.filter(|next| next.state.version > current.state.version);
        let Some(mut next) = next else { return Err(refused.into()) };
        next.anchor.remember_all_of(&current.anchor)?;
        newer = Some(next);
    }
    let steps = past(dp, secret, newer.as_ref().unwrap_or(read), after).await?;
    Ok((newer, steps))
}

/// The current record as the holder of a key may see it.
///
/// # Errors
/// [`RecipientError`].
pub async fn history(
    dp: &DpClient,
    secret: &SecretKey,
    csi: &Csi,
    trust: &Trust,
    memory: &mut LogMemory,
) -> Result<Option<Current>, RecipientError> {
    let asked = Asked { origin: dp.origin().clone(), csi: csi.clone(), tag: None };
    let receipt = dp.history(secret, csi).await?;
    let (by, remembered, now) = (secret.public(), memory.remembered(), dp.clock().now());
    let current = open_current(&receipt, &asked, &by, trust, remembered, now, &mut Trail::default())?;
    if let Some(current) = &current {
        memory.take(&current.recall).await?;
    }
    Ok(current)
}

/// The leaf hash of the change entry that made a version: what a renewed watch-list claims.
pub fn leaf_of(current: &Current) -> Hash {
    leaf_hash(&Entry::Change(Change { label: current.label, commitment: current.commitment }).encode())
}

/// The watch-list for a version. `claims` is the entry that this renewal claims as the recipient's own doing.
///
/// # Panics
/// Never: a ladder has at most 64 steps, and 64 labels fit.
pub fn watch_list(
    origin: &Origin,
    keys: &AppKeys,
    current: &Current,
    claims: Option<Hash>,
    now: UnixMillis,
) -> WatchList {
    let mut labels = current.watched.clone();
    labels.sort_unstable();
    list_of(origin, keys, current, List24::new(labels).expect("64 labels fit"), claims, now)
}

/// The list with which an app that leaves takes its watch-list along. It claims the change that made this version.
pub fn retirement(origin: &Origin, keys: &AppKeys, current: &Current, now: UnixMillis) -> WatchList {
    list_of(origin, keys, current, List24::empty(), Some(leaf_of(current)), now)
}

fn list_of(
    origin: &Origin,
    keys: &AppKeys,
    current: &Current,
    labels: List24<Label, 2048>,
    claims: Option<Hash>,
    now: UnixMillis,
) -> WatchList {
    let mut list = WatchList {
        extensions: Extensions::NONE,
        format: Format,
        origin: origin.into(),
        id: keys.watch_id,
        holder: keys.watcher.public(),
        size: current.tree.0,
        root: current.tree.1,
        made: now,
        expiry: now.plus_ms(WATCH_LIFETIME_MS_MAX),
        labels,
        renews: Optional24(claims),
        sig: UNSIGNED,
    };
    list.sign(origin, &keys.watcher);
    list
}
