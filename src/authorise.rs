//! From a change that somebody asks for to one that waits for its place in the log, or why not.
//!
//! `ChangeRequest → Authorized → PendingChange`. The rules of [`waymark_mapping::rules`] say who may do what; here
//! it is checked that provers, MSPs, CSIPs and the DP sign with keys of the log, that consents are good, and that a hold was kept by
//! the log's own times; then the record is composed, its handles and ladder proved. The CSI goes no further than the sealed row.

use crate::{
    api::{ChangeRequest, OfferedConsent},
    published::{AnswerError, Answering, Latest},
    row::{KeptConsent, KeptHidden, KeptStep, KeptVisible, Place, Row, Said},
    sequencer::{
        batch::{Keeping, PendingChange, unlogged},
        rests::{Lasting, RestsOn, Signer},
    },
};
use rand_core::CryptoRng;
use waymark_log::{checkpoint::Origin, hash::Hash, key::Key, time::UnixMillis};
use waymark_mapping::{
    answer::LadderStep,
    compose::{Composed, compose},
    entry::ProviderRole,
    event::{AuthorityRole, Cause, Event, EventKind},
    identifier::Csi,
    label::{Label, prove_label},
    ladder,
    mapping::{Attestation, Mapping},
    names::{Domain, Region},
    provider::ProviderDirectory,
    record::{Ground, NEW_MS, RecordState, SlotStatus, TAKE_UP_MS},
    rules::{self, Known, Proposal, Refused, State},
    tenure::PASSAGE_MS,
    vrf::VrfSecret,
    wire::{List24, Optional24},
};

/// A CSIP whose releases this DP believes, and for which CSIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedCsip {
    /// The CSIP.
    pub domain: Domain,
    /// Beginnings of canonical CSIs that it issues, such as `tel:+4915`; or, with `@`, ends of them, such as `@post.example`.
    pub issues: Vec<String>,
}

impl TrustedCsip {
    fn issues(&self, csi: &Csi) -> bool {
        is_among(&self.issues, csi)
    }
}

/// What stands in a list of CSIs for all of them.
pub const EVERY_CSI: &str = "*";

/// Whether a list of CSIs has this one: by its beginning, by its end from `@` on, or because it has all.
fn is_among(list: &[String], csi: &Csi) -> bool {
    let text = csi.expose();
    let is = |i: &String| if i.starts_with('@') { text.ends_with(i) } else { i == EVERY_CSI || text.starts_with(i) };
    list.iter().any(is)
}

/// A prover other than the DP whose attestations this DP takes, and about which CSIs. The DP's own are about all: it attests only
/// what it has sent a code to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProver {
    /// The prover.
    pub domain: Domain,
    /// Beginnings of canonical CSIs, such as `tel:+4915`; with `@`, ends of them; or [`EVERY_CSI`].
    pub attests: Vec<String>,
}

/// Whether this DP takes the word of an attestation's prover about its CSI.
pub fn is_in_scope(a: &Attestation, dp: &Domain, provers: &[TrustedProver]) -> bool {
    a.prover == *dp || provers.iter().any(|p| p.domain == a.prover && is_among(&p.attests, &a.csi))
}

/// What a DP judges by, beside the log and the request.
#[derive(Clone, Copy, Debug)]
pub struct Bench<'a> {
    /// The log.
    pub origin: &'a Origin,
    /// The CSIPs that are believed.
    pub csips: &'a [TrustedCsip],
    /// The provers that are believed besides the DP.
    pub provers: &'a [TrustedProver],
    /// SHA-256 of the policy document by which the next three are.
    pub policy: Hash,
    /// Those whose proofs are stricter than others, by the logged policy document.
    pub stricter: &'a [Domain],
    /// Most visible mappings of a record, by the logged policy document.
    pub visible_max: usize,
    /// The regions where payload is kept.
    pub regions: &'a [Region],
    /// A register says that the number has changed hands since the tenure began.
    pub recycled: bool,
    /// The time.
    pub now: UnixMillis,
}

/// Why a change is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotAuthorised {
    /// By the rules of who may do what.
    #[error(transparent)]
    Rules(#[from] Refused),
    /// The HTTP request is signed by somebody who has no part in the event.
    #[error("the request is signed by a key that has no part in the change")]
    OtherSigner,
    /// A proof of possession is by a prover that the log does not know.
    #[error("possession is attested by a key that the log does not know as a prover's")]
    UnknownProver,
    /// A proof of possession is by a prover that this DP does not believe about the identifier.
    #[error("possession is attested by a prover whose word this DP does not take for this identifier")]
    ProverScope,
    /// A mapping names an MSP that the log does not know.
    #[error("a mapping names an MSP that is not in the log; MSPs are onboarded by the DP")]
    UnknownMsp,
    /// A mapping is for a region where this DP keeps nothing.
    #[error("a mapping names a region that is not one of this DP's: see its policy")]
    Region,
    /// A consent is not good.
    #[error("an MSP's consent is not under this mapping, not by its valid key, or over")]
    BadConsent,
    /// The MSP publishes its consents, and there is none.
    #[error("this MSP publishes its consents: a visible mapping that names it needs one")]
    ConsentRequired,
    /// The event is signed in a role with a key that the log does not know in it, or that has no say here.
    #[error("the event is signed with a key that has no say here in that role")]
    UnknownAuthority,
    /// No record could be read.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// How long after the passage of a tenure the rows before it are kept: an hour, since what is 30 days old is told by heads, which
/// come after the clock.
const PURGE_SLACK_MS: u64 = 3_600_000;

/// What became of a change request.
pub enum Judged {
    /// It may go into the pool.
    Authorized(Box<PendingChange>),
    /// This very event made the current version: a retry.
    AlreadyDone,
}

/// Whether who signed the request has a part in its event. To nobody else is anything told of it.
///
/// # Errors
/// [`NotAuthorised::OtherSigner`].
pub fn check_signer(request: &ChangeRequest, signer: &Key) -> Result<(), NotAuthorised> {
    let has_part = request.event.authorities.iter().any(|a| a.key == *signer);
    if has_part { Ok(()) } else { Err(NotAuthorised::OtherSigner) }
}

/// Judges a change and prepares it.
///
/// # Errors
/// [`NotAuthorised`]; nothing was changed.
pub fn authorise(
    answering: &Answering,
    request: &ChangeRequest,
    bench: Bench<'_>,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Judged, NotAuthorised> {
    let event = &request.event;
    let (snapshot, latest) = answering.kept(&event.tbs.csi)?;
    let current = latest.as_ref().map(|l| &l.row);
    if current.is_some_and(|row| row.cause.event == *event) {
        return Ok(Judged::AlreadyDone);
    }
    if latest.is_none() && event.tbs.version > 0 {
        answering.check_absent(&event.tbs.csi, &snapshot)?;
    }
    // A clock that was set back does not make a record older than what it follows: no time here is before the published head.
    let bench = Bench { now: bench.now.max(snapshot.head.time), ..bench };
    let (providers, now) = (&snapshot.providers, bench.now);
    // The recipient's word on where the payload may be kept: nothing of it is stored anywhere else, not even on its way.
    if request.added.iter().any(|m| m.region != Region::ANY && !bench.regions.contains(&m.region)) {
        return Err(NotAuthorised::Region);
    }
    let before = current.map(|row| (row.state(), row.commitment));
    let before = before.as_ref().map(|(state, commitment)| (state, *commitment));
    let csip = csip_of(event, providers, bench);
    let known = Known {
        csip: csip.as_ref(),
        ground: bench.recycled.then_some(Ground::Recycled),
        stricter: bench.stricter,
        visible_max: Some(bench.visible_max),
    };
    let state = rules::apply(before, Proposal { event, added: &request.added, origin: bench.origin, now, known })?;
    check_statement(event, before.map(|(s, _)| s), providers, &answering.domain, now)?;
    if let Some(latest) = latest.as_ref().filter(|_| event.tbs.kind == EventKind::NewHolder) {
        check_hold(answering, latest)?;
    }
    let proofs = request.added.iter().map(|m| &m.attestation);
    let possessions = event.authorities.iter().filter_map(|a| a.possession.0.as_ref());
    check_provers(proofs.chain(possessions), providers, &answering.domain, bench)?;
    let consents = check_consents(request, providers, bench.origin, now)?;
    let previous = before.map_or(Hash::ZERO, |(_, commitment)| commitment);
    let cause = Cause { previous, event: event.clone() };
    let composed = compose(&state, &cause, &answering.vrf, rng);
    let steps = prove_ladder(answering, &state, current)?;
    // A first version whose label is taken: the rows are kept elsewhere, and a second one would end the sequencer.
    if steps.iter().any(|s| s.version == state.version && snapshot.map.get(&s.label.0).is_some()) {
        return Err(AnswerError::Elsewhere.into());
    }
    let keeping = keeping(&state, latest.as_ref(), now);
    let judging = Judging { before: before.map(|(s, _)| s), dp: &answering.domain, csip, providers, now };
    let mut rests_on = judging.rests_on(request, &consents);
    // Regions, the number of visible mappings and the ground of a claim were judged by this document.
    if !request.added.is_empty() || event.tbs.kind == EventKind::NewHolderPending {
        rests_on.push(RestsOn::Policy(bench.policy));
    }
    let mut pending = pending(answering, state, cause, composed, steps, current, &consents, keeping);
    pending.rests_on = rests_on;
    Ok(Judged::Authorized(Box::new(pending)))
}

/// By what a change was judged, when that is written down.
struct Judging<'a> {
    before: Option<&'a State>,
    dp: &'a Domain,
    csip: Option<Domain>,
    providers: &'a ProviderDirectory,
    now: UnixMillis,
}

impl Judging<'_> {
    /// What the change rests on that time, or other entries of its batch, can still change.
    fn rests_on(&self, request: &ChangeRequest, consents: &[Checked<'_>]) -> Vec<RestsOn> {
        let (event, now) = (&request.event, self.now);
        // The record bears this time, and its reader refuses one that lies after its head.
        let mut all = vec![RestsOn::Judged(now)];
        let proofs = request.added.iter().map(|m| &m.attestation);
        let possessions = event.authorities.iter().filter_map(|a| a.possession.0.as_ref());
        for proof in proofs.chain(possessions) {
            // What was over when the change was judged, it did not need: the rules say when possession must be shown.
            if now < proof.expiry {
                all.push(RestsOn::Lasts(Lasting::Attestation, proof.expiry));
            }
            let (domain, key) = (proof.prover.clone(), proof.prover_key);
            by_key(&mut all, Signer { domain, role: ProviderRole::PROVER, key }, proof.time);
        }
        for (mapping, consent, _) in consents {
            self.rest_on_mapping(&mut all, mapping, *consent);
        }
        let signed = match event.tbs.kind {
            EventKind::MspDetach | EventKind::DpUnserve => {
                stater(event, self.before, self.dp).map(|by| (by, event.tbs.time))
            }
            // Readers judge a release by the time at which the tenure began.
            EventKind::Release => self.csip.clone().map(|csip| ((csip, ProviderRole::CSIP), now)),
            _ => None,
        };
        if let Some(((domain, role), at)) = signed {
            for authority in event.authorities.iter() {
                by_key(&mut all, Signer { domain: domain.clone(), role, key: authority.key }, at);
            }
        }
        all.extend(self.ends_of_claim(event));
        all.extend(self.ends_of_newness(event));
        all
    }

    fn rest_on_mapping(&self, all: &mut Vec<RestsOn>, mapping: &Mapping, consent: Option<&OfferedConsent>) {
        all.push(RestsOn::Lasts(Lasting::Mapping, mapping.not_after));
        let Some(msp) = mapping.msp.get() else { return };
        if mapping.tags.as_exact().is_none() {
            let publishes = self.providers.get(&msp, ProviderRole::MSP).is_some_and(|leaf| leaf.publishes(self.now));
            all.push(RestsOn::Publishes(msp.clone(), publishes));
        }
        if let Some(OfferedConsent { consent, .. }) = consent {
            all.push(RestsOn::Lasts(Lasting::Consent, consent.expiry));
            all.push(RestsOn::Key(Signer { domain: msp.clone(), role: ProviderRole::MSP, key: consent.msp_key }));
        }
        all.push(RestsOn::Onboarded(msp));
    }

    /// A claim that is taken up or objected to must not be void by then.
    fn ends_of_claim(&self, event: &Event) -> Option<RestsOn> {
        let answers = matches!(event.tbs.kind, EventKind::NewHolder | EventKind::Objection);
        let claim = self.before.filter(|_| answers)?.claim_at(self.now)?;
        Some(RestsOn::Lasts(Lasting::Claim, claim.until.plus_ms(TAKE_UP_MS)))
    }

    /// A mapping of somebody else's that is removed because it is new must be new then.
    fn ends_of_newness(&self, event: &Event) -> Vec<RestsOn> {
        let Some(before) = self.before else { return vec![] };
        let is_signer = |key: &Key| event.authorities.iter().any(|a| a.key == *key);
        let is_removed = |h: &&rules::Held| event.tbs.removed.contains(&h.mapping.digest());
        let others = before.held.iter().filter(is_removed).filter(|h| !is_signer(&h.mapping.recipient));
        let new = others.filter(|h| before.is_new_at(h, self.now) && !h.has_lapsed_at(self.now));
        let end = |h: &rules::Held| {
            let claim = before.claim_at(self.now).filter(|c| c.key == h.mapping.recipient);
            let (by_claim, by_time) = (claim.map(|c| c.until.plus_ms(TAKE_UP_MS)), h.standing.since.plus_ms(NEW_MS));
            RestsOn::Lasts(Lasting::NewMapping, by_claim.map_or(by_time, |end| end.max(by_time)))
        };
        let statement = matches!(event.tbs.kind, EventKind::MspDetach | EventKind::DpUnserve);
        if statement { vec![] } else { new.map(end).collect() }
    }
}

/// A signature by a provider's key: it must be valid at the head, and at the time of what it signed.
fn by_key(all: &mut Vec<RestsOn>, signer: Signer, signed_at: UnixMillis) {
    all.push(RestsOn::Key(signer.clone()));
    all.push(RestsOn::KeyAt(signer, signed_at));
}

/// The CSIP that signs a release, if this DP believes it about this CSI and the log knows its key.
fn csip_of(event: &Event, providers: &ProviderDirectory, bench: Bench<'_>) -> Option<Domain> {
    let [authority] = &event.authorities[..] else { return None };
    let signs = |c: &&TrustedCsip| {
        c.issues(&event.tbs.csi) && providers.is_valid(&c.domain, ProviderRole::CSIP, &authority.key, bench.now)
    };
    let signed = authority.role == AuthorityRole::Csip;
    bench.csips.iter().filter(|_| signed).find(signs).map(|c| c.domain.clone())
}

/// Whether who says that a mapping is not served, or is again, is its MSP, or the DP.
fn check_statement(
    event: &Event,
    before: Option<&State>,
    providers: &ProviderDirectory,
    dp: &Domain,
    now: UnixMillis,
) -> Result<(), NotAuthorised> {
    let tbs = &event.tbs;
    if !matches!(tbs.kind, EventKind::MspDetach | EventKind::DpUnserve) {
        return Ok(());
    }
    let by = stater(event, before, dp);
    // A sender judges the key by the time in the statement, the DP by its own clock: it must count at both.
    let counts = |at| {
        let mut keys = event.authorities.iter().map(|a| a.key);
        by.as_ref().is_some_and(|(domain, role)| keys.all(|key| providers.is_valid(domain, *role, &key, at)))
    };
    let timely = now.since(tbs.time).max(tbs.time.since(now)) <= crate::api::REQUEST_WINDOW_MS;
    if timely && counts(now) && counts(tbs.time) { Ok(()) } else { Err(NotAuthorised::UnknownAuthority) }
}

/// Who may say that a mapping is not served, or is again, and in which role.
fn stater(event: &Event, before: Option<&State>, dp: &Domain) -> Option<(Domain, ProviderRole)> {
    let tbs = &event.tbs;
    if tbs.kind == EventKind::DpUnserve {
        return Some((dp.clone(), ProviderRole::PROVER));
    }
    let named = tbs.removed.first().or(tbs.added.first());
    let target = before.and_then(|s| s.held.iter().find(|h| Some(&h.mapping.digest()) == named));
    target.and_then(|h| h.mapping.msp.get()).map(|msp| (msp, ProviderRole::MSP))
}

/// The hold by the log's own times, as senders will check it: from the head behind the claim to a head before the change of hands.
fn check_hold(answering: &Answering, latest: &Latest) -> Result<(), NotAuthorised> {
    let claim = *latest.row.record.state.claim().ok_or(Refused::NoClaim)?;
    let place = answering.stub(&latest.row.csi, claim.version)?.place;
    let logged = answering.head(place.head, &latest.snapshot)?.time;
    let over = logged.plus_ms(claim.ground.hold_ms()).max(claim.until);
    if over <= latest.snapshot.head.time { Ok(()) } else { Err(Refused::Held.into()) }
}

/// Which row key the new row gets, and whether those before are to be deleted: at once after an erasure; those of a former
/// holder when nobody needs the proof of the passage any more.
fn keeping(state: &State, latest: Option<&Latest>, now: UnixMillis) -> Keeping {
    let Some(latest) = latest else { return Keeping::default() };
    if state.state == RecordState::Erased {
        return Keeping { slot: None, purge_at: Some(now) };
    }
    if state.tenure != latest.row.record.tenure {
        return Keeping { slot: None, purge_at: Some(now.plus_ms(PASSAGE_MS + PURGE_SLACK_MS)) };
    }
    Keeping { slot: Some(latest.slot), purge_at: None }
}

fn check_provers<'a>(
    attestations: impl Iterator<Item = &'a Attestation>,
    providers: &ProviderDirectory,
    dp: &Domain,
    bench: Bench<'_>,
) -> Result<(), NotAuthorised> {
    for a in attestations {
        // The time in it is the prover's word: a key that was stolen and has retired could date anything back. So the key must
        // count now, too.
        let counts = |at| providers.is_valid(&a.prover, ProviderRole::PROVER, &a.prover_key, at);
        if !counts(a.time) || !counts(bench.now) {
            return Err(NotAuthorised::UnknownProver);
        }
        // Onboarding makes a key known, not its owner believed about every identifier.
        if !is_in_scope(a, dp, bench.provers) {
            return Err(NotAuthorised::ProverScope);
        }
    }
    Ok(())
}

/// An added mapping, the consent offered for it, and whether that is to be logged.
type Checked<'a> = (&'a Mapping, Option<&'a OfferedConsent>, bool);

/// Checks what is offered for each added mapping.
fn check_consents<'a>(
    request: &'a ChangeRequest,
    providers: &ProviderDirectory,
    origin: &Origin,
    now: UnixMillis,
) -> Result<Vec<Checked<'a>>, NotAuthorised> {
    let mut checked = Vec::with_capacity(request.added.len());
    for (index, mapping) in request.added.iter().enumerate() {
        let mut offered = request.consents.iter().filter(|c| usize::from(c.index) == index);
        let consent = offered.next();
        if offered.next().is_some() || (consent.is_some() && mapping.is_opt_out()) {
            return Err(NotAuthorised::BadConsent);
        }
        let Some(msp) = mapping.msp.get() else {
            checked.push((mapping, None, false));
            continue;
        };
        let leaf = providers.get(&msp, ProviderRole::MSP).filter(|leaf| leaf.valid(now).next().is_some());
        let leaf = leaf.ok_or(NotAuthorised::UnknownMsp)?;
        let publishes = leaf.publishes(now) && mapping.tags.as_exact().is_none();
        if consent.is_none() && publishes {
            return Err(NotAuthorised::ConsentRequired);
        }
        let good = consent.is_none_or(|c| {
            leaf.is_valid(&c.consent.msp_key, now)
                && now < c.consent.expiry
                && c.consent.is_for(mapping, &c.salt, origin)
        });
        if !good {
            return Err(NotAuthorised::BadConsent);
        }
        checked.push((mapping, consent, consent.is_some() && publishes));
    }
    if request.consents.iter().any(|c| usize::from(c.index) >= request.added.len()) {
        return Err(NotAuthorised::BadConsent);
    }
    Ok(checked)
}

/// The ladder of the new version. Labels that the version before had in its ladder are not proved again.
fn prove_ladder(answering: &Answering, state: &State, current: Option<&Row>) -> Result<Vec<KeptStep>, NotAuthorised> {
    let vrf: &VrfSecret = &answering.vrf;
    let mut steps = Vec::new();
    for version in ladder::base(Some(state.version)) {
        let known = current.and_then(|row| row.ladder.iter().find(|s| s.version == version));
        let (vrf_proof, label) = match known {
            Some(step) => (step.step.vrf_proof, step.label),
            None => prove_label(vrf, &state.csi, version),
        };
        let commitment = match current {
            Some(row) if version < state.version => Some(commitment_of(answering, row, known, version)?),
            _ => None,
        };
        steps.push(KeptStep { version, label, step: LadderStep { vrf_proof, commitment } });
    }
    Ok(steps)
}

/// The commitment of an earlier version: from the ladder of the one before, from that one itself, or from its own row.
fn commitment_of(
    answering: &Answering,
    current: &Row,
    known: Option<&KeptStep>,
    version: u32,
) -> Result<Hash, NotAuthorised> {
    if version == current.version {
        return Ok(current.commitment);
    }
    match known.and_then(|step| step.step.commitment) {
        Some(commitment) => Ok(commitment),
        None => Ok(answering.stub(&current.csi, version)?.commitment),
    }
}

#[allow(clippy::too_many_arguments, reason = "what a row is made of, put together once")]
fn pending(
    answering: &Answering,
    state: State,
    cause: Cause,
    composed: Composed,
    steps: Vec<KeptStep>,
    current: Option<&Row>,
    consents: &[Checked<'_>],
    keeping: Keeping,
) -> PendingChange {
    let event = cause.event.clone();
    let said = |mapping: &Mapping, status: SlotStatus| Said {
        consent: consent_of(mapping, current, consents),
        statement: statement_of(mapping, status, current, &event),
    };
    let is_to_log = |mapping: &Mapping| consents.iter().any(|(m, _, log)| *m == mapping && *log);
    let held: Vec<_> = state.held.iter().filter(|h| !h.is_hidden()).collect();
    let to_log = held.iter().enumerate().filter(|(_, h)| is_to_log(&h.mapping)).map(|(slot, _)| slot).collect();
    let visible = held.iter().zip(&composed.visible).map(|(h, salt)| KeptVisible {
        salt: *salt,
        standing: h.standing,
        mapping: h.mapping.clone(),
        said: said(&h.mapping, h.standing.status),
    });
    let hidden = composed.hidden.iter().map(|h| {
        let held = state.held.iter().find(|held| h.value.mapping() == Some(&held.mapping));
        let said = held.map_or(Said::NOTHING, |held| said(&held.mapping, held.standing.status));
        KeptHidden { salt: h.salt, value: h.value.clone(), handle: h.handle.clone(), said }
    });
    let fits = "a record has at most 32 visible and eight hidden mappings";
    let label: Label =
        steps.iter().find(|s| s.version == state.version).map(|s| s.label).expect("a ladder holds its own version");
    let row = Row {
        csi: state.csi.clone(),
        version: state.version,
        opening: composed.opening,
        commitment: composed.commitment,
        contents_salt: composed.contents_salt,
        contents: composed.contents,
        cause,
        cause_salt: composed.cause_salt,
        visible: List24::new(visible.collect()).expect(fits),
        hidden: List24::new(hidden.collect()).expect(fits),
        ladder: List24::new(steps).expect("a ladder has at most 64 steps"),
        record: composed.record,
        place: Place::default(),
    };
    let csi_key = answering.sealer.csi_key(&state.csi);
    PendingChange { csi_key, label, row, to_log, keeping, rests_on: vec![] }
}

/// The consent that was offered now, or the one that is kept.
fn consent_of(mapping: &Mapping, current: Option<&Row>, consents: &[Checked<'_>]) -> Optional24<KeptConsent> {
    let offered = consents.iter().find(|(m, ..)| *m == mapping).and_then(|(_, c, _)| *c);
    match offered {
        Some(offered) => unlogged(offered.consent.clone(), offered.salt),
        None => Optional24(current.and_then(|row| row.said(mapping)).and_then(|s| s.consent.0.clone())),
    }
}

/// The statement that a mapping is not served: the one just made, or the one that is kept.
fn statement_of(mapping: &Mapping, status: SlotStatus, current: Option<&Row>, event: &Event) -> Optional24<Event> {
    if status == SlotStatus::Served {
        return Optional24(None);
    }
    let just_now = matches!(event.tbs.kind, EventKind::MspDetach | EventKind::DpUnserve)
        && event.tbs.removed.contains(&mapping.digest());
    if just_now {
        return Optional24(Some(event.clone()));
    }
    Optional24(current.and_then(|row| row.said(mapping)).and_then(|s| s.statement.0.clone()))
}
