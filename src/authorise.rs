//! From a change that somebody asks for to one that waits for its place in the log, or why not.
//!
//! `ChangeRequest → Authorized → PendingChange`. The rules of [`waymark_mapping::rules`] say what the recipient may do; here
//! it is checked that provers and MSPs are those of the log, that consents are good, and then the record is composed, its
//! handles and ladder proved. The CSI goes no further than the sealed row.

use waymark_log::{checkpoint::Origin, hash::Hash, key::Key, time::UnixMillis};
use waymark_mapping::{
    answer::LadderStep,
    compose::{Composed, compose},
    entry::ProviderRole,
    label::{Label, prove_label},
    ladder,
    mapping::{Attestation, Mapping},
    provider::ProviderDirectory,
    record::HiddenValue,
    rules::{self, Proposal, Refused, State},
    vrf::VrfSecret,
    wire::{List16, Optional16},
};
use waymark_runtime::random;

use crate::{
    api::{ChangeRequest, OfferedConsent},
    published::{AnswerError, Answering},
    row::{KeptConsent, KeptHidden, KeptStep, KeptVisible, Row},
    sequencer::batch::{PendingChange, unlogged},
};

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
    /// A mapping names an MSP that the log does not know.
    #[error("a mapping names an MSP that is not in the log; MSPs are onboarded by the DP")]
    UnknownMsp,
    /// A consent is not good.
    #[error("an MSP's consent is not under this mapping, not by its valid key, or over")]
    BadConsent,
    /// The MSP publishes its consents, and there is none.
    #[error("this MSP publishes its consents: a visible mapping that names it needs one")]
    ConsentRequired,
    /// No record could be read.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

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
    origin: &Origin,
    now: UnixMillis,
) -> Result<Judged, NotAuthorised> {
    let event = &request.event;
    let (snapshot, current) = answering.row(&event.tbs.csi)?;
    if current.as_ref().is_some_and(|row| row.event == *event) {
        return Ok(Judged::AlreadyDone);
    }
    let before = current.as_ref().map(Row::state);
    let before = before.as_ref().zip(current.as_ref()).map(|(state, row)| (state, row.commitment));
    let state = rules::apply(before, Proposal { event, added: &request.added, origin, now })?;
    let proofs = request.added.iter().map(|m| &m.attestation);
    let possessions = event.authorities.iter().filter_map(|a| a.possession.0.as_ref());
    check_provers(proofs.chain(possessions), &snapshot.providers, now)?;
    let consents = check_consents(request, &snapshot.providers, origin, now)?;
    let composed = compose(&state, event, &answering.vrf, &mut random::source());
    let steps = prove_ladder(answering, &state, current.as_ref())?;
    Ok(Judged::Authorized(Box::new(pending(answering, request, state, composed, steps, current.as_ref(), &consents))))
}

fn check_provers<'a>(
    attestations: impl Iterator<Item = &'a Attestation>,
    providers: &ProviderDirectory,
    now: UnixMillis,
) -> Result<(), NotAuthorised> {
    for a in attestations {
        // The time in it is the prover's word: a key that was stolen and has retired could date anything back. So the key must
        // count now, too.
        let counts = |at| providers.is_valid(&a.prover, ProviderRole::Prover, &a.prover_key, at);
        if !counts(a.time) || !counts(now) {
            return Err(NotAuthorised::UnknownProver);
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
        let leaf = providers.get(&msp).filter(|leaf| leaf.valid(ProviderRole::Msp, now).next().is_some());
        let leaf = leaf.ok_or(NotAuthorised::UnknownMsp)?;
        let publishes = leaf.publishes(now) && mapping.tags.as_exact().is_none();
        if consent.is_none() && publishes {
            return Err(NotAuthorised::ConsentRequired);
        }
        let good = consent.is_none_or(|c| {
            leaf.valid(ProviderRole::Msp, now).any(|k| k.key == c.consent.msp_key)
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
    if version == current.record.version {
        return Ok(current.commitment);
    }
    match known.and_then(|step| step.step.commitment) {
        Some(commitment) => Ok(commitment),
        None => Ok(answering.commitment(&current.record.csi, version)?),
    }
}

fn pending(
    answering: &Answering,
    request: &ChangeRequest,
    state: State,
    composed: Composed,
    steps: Vec<KeptStep>,
    current: Option<&Row>,
    consents: &[Checked<'_>],
) -> PendingChange {
    let consent_of = |mapping: &Mapping| -> Optional16<KeptConsent> {
        let offered = consents.iter().find(|(m, ..)| *m == mapping).and_then(|(_, c, _)| *c);
        match offered {
            Some(offered) => unlogged(offered.consent.clone(), offered.salt),
            None => Optional16(current.and_then(|row| row.consent(mapping)).cloned()),
        }
    };
    let is_to_log = |mapping: &Mapping| consents.iter().any(|(m, _, log)| *m == mapping && *log);
    let mappings: Vec<&Mapping> = state.held.iter().filter(|h| !h.is_hidden()).map(|h| &h.mapping).collect();
    let to_log = mappings.iter().enumerate().filter(|(_, m)| is_to_log(m)).map(|(slot, _)| slot).collect();
    let visible = mappings.iter().zip(&composed.visible);
    let visible = visible.map(|(m, salt)| KeptVisible { salt: *salt, mapping: (*m).clone(), consent: consent_of(m) });
    let hidden = composed.hidden.iter().map(|h| KeptHidden {
        salt: h.salt,
        value: h.value.clone(),
        handle: h.handle.clone(),
        consent: match &h.value {
            HiddenValue::Present(_, m) => consent_of(m),
            HiddenValue::Empty => Optional16(None),
        },
    });
    let fits = "a record has at most eight visible and eight hidden mappings";
    let label: Label =
        steps.iter().find(|s| s.version == state.version).map(|s| s.label).expect("a ladder holds its own version");
    let row = Row {
        opening: composed.opening,
        commitment: composed.commitment,
        event: request.event.clone(),
        event_salt: composed.event_salt,
        visible: List16::new(visible.collect()).expect(fits),
        hidden: List16::new(hidden.collect()).expect(fits),
        ladder: List16::new(steps).expect("a ladder has at most 64 steps"),
        record: composed.record,
    };
    PendingChange { csi_key: answering.sealer.csi_key(&state.csi), label, row, to_log }
}
