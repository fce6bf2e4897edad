//! Changes, revocations prepared in advance, and what a recipient may see of a CSI's record and past.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Response, StatusCode},
    response::IntoResponse,
};
use data_encoding::BASE64;
use tokio::time::Instant;
use waymark_log::key::Key;
use waymark_mapping::{
    answer::{ANSWER_MEDIA_TYPE, PAST_MEDIA_TYPE, RECEIPT_MEDIA_TYPE},
    entry::ProviderRole,
    event::{ANY_VERSION, AuthorityRole, EVENT_BYTES_MAX, Event, EventKind},
    mapping::{Attestation, Purpose},
    rules::{Refused, SKEW_MS},
    wire::{List24, decode, encode},
};
use waymark_runtime::{
    listen::Peer,
    problem::{self, Problem},
    random,
};

use super::{
    App,
    error::{self, NO_RECORD},
    recipient,
    v1::{Bytes, binary, json, parse_csi, parse_json},
};
use crate::{
    api::{
        CHANGE_BYTES_MAX, CHANGE_MEDIA_TYPE, ChangeRequest, EVENT_MEDIA_TYPE, ExportRequest, HISTORY_MEDIA_TYPE,
        HistoryRequest, JSON_BYTES_MAX, JSON_MEDIA_TYPE,
    },
    authorise::{Bench, Judged, NotAuthorised, authorise, check_signer, is_in_scope},
    export,
    published::Latest,
    sequencer::{
        batch::PendingChange,
        pool::{Outcome, Place, PoolRefused, Ticket},
    },
};

/// Longest a change waits for its receipt: the client may then ask again with the same request.
pub(super) const RECEIPT_S_MAX: u64 = 30;

/// POST /v1/changes
pub async fn change(
    State(app): State<Arc<App>>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    headers: HeaderMap,
    body: Bytes<CHANGE_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    app.count_request(peer.ip())?;
    problem::check_media_type(&headers, CHANGE_MEDIA_TYPE)?;
    let body = body?.0;
    let place: Place = app.take_place(&app.change_places, peer.ip(), &body)?;
    let request: ChangeRequest = decode("change", &body).map_err(|e| error::undecoded(&e))?;
    let now = app.clock.now();
    // Its nonce is not kept: anybody who plays it again is answered as the first one was.
    let signer = recipient::verify(&app.origin, &headers, "/v1/changes", &body, now)?.key;
    // First, so that a retry tells a stranger nothing either.
    check_signer(&request, &signer).map_err(|e| error::authorise(&e))?;
    let turn = app.replays.enter(&headers, "/v1/changes", signer.as_bytes(), &body, now)?;
    // A change that was made before is not made again, named or not; what its maker may see of it is shown as it is now.
    let made = make(&app, &request, *blake3::hash(&body).as_bytes(), &place).await;
    Ok(turn.tell(made.and_then(|()| shown_to(&app, &request.event, signer))))
}

/// Has a change judged, queued and published.
async fn make(app: &App, request: &ChangeRequest, digest: [u8; 32], place: &Place) -> Result<(), Problem> {
    let recycled = request.event.tbs.kind == EventKind::NewHolderPending && is_recycled(app, request).await?;
    match enqueue(app, request, digest, recycled, place)? {
        Some(ticket) => wait(ticket).await,
        None => Ok(()),
    }
}

fn judge(app: &App, request: &ChangeRequest, recycled: bool) -> Result<Judged, NotAuthorised> {
    let (policy, now) = (app.policy(), app.clock.now());
    let document = &policy.document;
    let bench = Bench {
        origin: &app.origin,
        csips: &app.csips,
        provers: &app.provers,
        policy: policy.digest,
        stricter: &document.stricter_provers(),
        visible_max: document.visible_max(),
        regions: &document.regions(),
        recycled,
        now,
    };
    authorise(&app.answering, request, bench, &mut random::source())
}

/// Whether a register says that a claimed number has changed hands since somebody else last showed possession of it. It is asked
/// for a claim that would be taken anyway: questions cost money.
async fn is_recycled(app: &App, request: &ChangeRequest) -> Result<bool, Problem> {
    let csi = &request.event.tbs.csi;
    match judge(app, request, false).map_err(|e| error::authorise(&e))? {
        Judged::AlreadyDone => return Ok(false),
        Judged::Authorized(_) => {}
    }
    let Some(latest) = app.answering.latest(csi).map_err(|e| error::answer(&e))? else { return Ok(false) };
    let is_claimant = |key: &Key| request.event.authorities.iter().any(|a| a.key == *key);
    let others =
        latest.row.state().held.into_iter().map(|h| h.mapping.attestation).filter(|a| !is_claimant(&a.recipient));
    let since = others.map(|a| a.time).max().unwrap_or(latest.row.contents.start.time);
    Ok(app.recycling.says_recycled(csi, since, app.clock.now()).await)
}

/// Judges a change and queues it: its ticket, or `None` if its event has made the current version already. `digest` is of
/// what was sent: the same request on its way gets the same ticket. Else the change keeps the place while it waits.
pub(super) fn enqueue(
    app: &App,
    request: &ChangeRequest,
    digest: [u8; 32],
    recycled: bool,
    place: &Place,
) -> Result<Option<Ticket>, Problem> {
    if let Some(ticket) = app.pool.ticket(&digest) {
        return Ok(Some(ticket));
    }
    let csi_key = app.answering.sealer.csi_key(&request.event.tbs.csi);
    if app.pool.is_in_flight(&csi_key) {
        return Err(error::pool(PoolRefused::InFlight, app.room_in_s()));
    }
    match judge(app, request, recycled).map_err(|e| error::authorise(&e))? {
        Judged::AlreadyDone => Ok(None),
        Judged::Authorized(change) => {
            let is_next = |c: &PendingChange| app.answering.published.is_next(&c.csi_key, c.row.version);
            let queued = app.pool.add(digest, *change, place, is_next);
            queued.map(Some).map_err(|refused| error::pool(refused, app.room_in_s()))
        }
    }
}

/// Waits until it shows what becomes of a change.
async fn wait(ticket: Ticket) -> Result<(), Problem> {
    let outcome = outcome_by(ticket, Instant::now() + Duration::from_secs(RECEIPT_S_MAX)).await;
    error::waited(outcome).map_or(Ok(()), Err)
}

/// What becomes of a change until the deadline; `Pending` if nothing does.
pub(super) async fn outcome_by(mut ticket: Ticket, deadline: Instant) -> Outcome {
    let done = ticket.wait_for(|outcome| *outcome != Outcome::Pending);
    match tokio::time::timeout_at(deadline, done).await {
        Ok(outcome) => outcome.map_or(Outcome::Unknown, |outcome| *outcome),
        Err(_) => Outcome::Pending,
    }
}

/// What whoever made a change is shown of it: a recipient, a receipt; a provider, what anybody sees.
fn shown_to(app: &App, event: &Event, signer: Key) -> Result<Response<Body>, Problem> {
    let overtaken =
        || Problem::new(error::VERSION_STALE, "The change was made, and another one after it: see /v1/history.");
    if event.authorities.iter().any(|a| a.role != AuthorityRole::Recipient) {
        let answer = app.answering.look_up(&event.tbs.csi, None, false).map_err(|e| error::answer(&e))?;
        return Ok(binary(ANSWER_MEDIA_TYPE, answer));
    }
    let latest = app.answering.latest(&event.tbs.csi).map_err(|e| error::answer(&e))?;
    let latest = latest.filter(|l| l.row.cause.event == *event).ok_or_else(overtaken)?;
    let receipt = app.answering.receipt_for(&latest, &[signer]).map_err(|e| error::answer(&e))?;
    Ok(binary(RECEIPT_MEDIA_TYPE, receipt.encode()))
}

/// POST /v1/revocations: a KeyCompromise that was prepared in advance, from whoever has it. The same answer whether the CSI is
/// known, the key has mappings there, or it was revoked before.
pub async fn revoke(
    State(app): State<Arc<App>>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    headers: HeaderMap,
    body: Bytes<EVENT_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    app.count_look_up(peer.ip())?;
    problem::check_media_type(&headers, EVENT_MEDIA_TYPE)?;
    let body = body?.0;
    let place: Place = app.take_place(&app.revocation_places, peer.ip(), &body)?;
    let event: Event = decode("event", &body).map_err(|e| error::undecoded(&e))?;
    if event.tbs.kind != EventKind::KeyCompromise {
        return Err(Problem::new(error::CHANGE_INVALID, "Only a revocation is taken here."));
    }
    for authority in event.authorities.iter() {
        authority.verify(&event.tbs, &app.origin).map_err(|_| error::authorise(&Refused::Signature.into()))?;
    }
    // Whoever has the token stands for who signed it.
    let signers: Vec<u8> = event.authorities.iter().flat_map(|a| *a.key.as_bytes()).collect();
    let turn = app.replays.enter(&headers, "/v1/revocations", &signers, &body, app.clock.now())?;
    let request = ChangeRequest { event, added: List24::empty(), consents: List24::empty() };
    let made = match make(&app, &request, *blake3::hash(&encode(&request)).as_bytes(), &place).await {
        // Of a token that fits nothing here nothing is told.
        Err(e) if e.kind() == error::CHANGE_INVALID || e.kind() == error::NOT_ALLOWED => Ok(()),
        made => made,
    };
    Ok(turn.tell(made.map(|()| StatusCode::NO_CONTENT.into_response())))
}

/// POST /v1/exports
pub async fn export_all(
    State(app): State<Arc<App>>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    headers: HeaderMap,
    body: Bytes<JSON_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    app.count_request(peer.ip())?;
    problem::check_media_type(&headers, JSON_MEDIA_TYPE)?;
    let body = body?.0;
    let request: ExportRequest = parse_json(&body)?;
    let csi = parse_csi(&request.csi)?;
    let now = app.clock.now();
    let caller = recipient::verify(&app.origin, &headers, "/v1/exports", &body, now)?;
    let signer = caller.key;
    let nothing =
        || Problem::new(NO_RECORD, "Only a key with a mapping here gets it, or one with proof of possession.");
    let latest = app.answering.latest(&csi).map_err(|e| error::answer(&e))?.ok_or_else(nothing)?;
    let is_established = latest.is_established(signer);
    let possession = request.possession.as_deref();
    if !is_established && !latest.has_mapping_of(signer) && !shows_possession(&app, &latest, &signer, possession) {
        return Err(nothing());
    }
    // Anybody who has seen this request is not to see later what is hidden by then.
    app.nonces.once(&caller, now)?;
    if is_established {
        let export = export::whole(&app.answering, &latest, signer).map_err(|e| error::answer(&e))?;
        return Ok(json(StatusCode::OK, &export));
    }
    Ok(json(StatusCode::OK, &export::own(&latest, signer)))
}

/// Whether somebody without a mapping has shown that the CSI is theirs, to look at what is kept. A code that was intercepted opens
/// what everybody sees, and nothing that is hidden.
fn shows_possession(app: &App, latest: &Latest, signer: &Key, possession: Option<&str>) -> bool {
    let decoded = possession.and_then(|p| BASE64.decode(p.as_bytes()).ok());
    let Some(p) = decoded.and_then(|bytes| decode::<Attestation>("attestation", &bytes).ok()) else { return false };
    let (row, now) = (&latest.row, app.clock.now());
    let prover = |at| latest.snapshot.providers.is_valid(&p.prover, ProviderRole::PROVER, &p.prover_key, at);
    p.purpose == Purpose::View
        && (&p.recipient, &p.csi, p.tenure) == (signer, &row.csi, row.record.tenure)
        && p.time <= now.plus_ms(SKEW_MS)
        && now < p.expiry
        && p.verify(&app.origin).is_ok()
        && prover(p.time)
        && prover(now)
        && is_in_scope(&p, &app.answering.domain, &app.provers)
}

/// POST /v1/history
pub async fn history(
    State(app): State<Arc<App>>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    headers: HeaderMap,
    body: Bytes<JSON_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    app.count_request(peer.ip())?;
    problem::check_media_type(&headers, HISTORY_MEDIA_TYPE)?;
    let body = body?.0;
    let request: HistoryRequest = decode("history request", &body).map_err(|e| error::undecoded(&e))?;
    let now = app.clock.now();
    let caller = recipient::verify(&app.origin, &headers, "/v1/history", &body, now)?;
    let signer = caller.key;
    let nothing = || Problem::new(NO_RECORD, "Only a key with a mapping here sees more than a look-up shows.");
    // The same answer whether the CSI is unknown or the key has nothing there.
    let latest = app.answering.latest(&request.csi).map_err(|e| error::answer(&e))?;
    let latest: Latest = latest.filter(|l| l.has_mapping_of(signer)).ok_or_else(nothing)?;
    // Anybody who has seen this request is not to see later what is hidden by then.
    app.nonces.once(&caller, now)?;
    if request.version == ANY_VERSION {
        let receipt = app.answering.receipt_for(&latest, &[signer]).map_err(|e| error::answer(&e))?;
        return Ok(binary(RECEIPT_MEDIA_TYPE, receipt.encode()));
    }
    // The past is for keys that are no longer new.
    if !latest.is_established(signer) {
        return Err(nothing());
    }
    let past = app.answering.past(&latest, signer, request.version).map_err(|e| error::answer(&e))?;
    Ok(binary(PAST_MEDIA_TYPE, encode(&past)))
}
