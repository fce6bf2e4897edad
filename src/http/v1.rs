//! The directory's handlers: cap, parse, hand over, answer. No rule is decided here.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header},
    response::IntoResponse,
};
use data_encoding::{BASE64, HEXLOWER};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::SemaphorePermit;
use waymark_mapping::{
    answer::{ANSWER_MEDIA_TYPE, RECEIPT_MEDIA_TYPE},
    entry::ProviderRole,
    identifier::Csi,
    mapping::Purpose,
    names::Tag,
    wire::{decode, encode},
};
use waymark_runtime::{
    listen::{Capped, Peer},
    problem::{self, Problem},
};

use super::{
    App,
    error::{self, CSI_INVALID, LOG_READ_ONLY, NO_RECORD, STILL_PENDING, TAG_INVALID},
};
use crate::{
    api::{
        CHANGE_BYTES_MAX, CHANGE_MEDIA_TYPE, ChallengeAnswer, ChallengeRequest, ChangeRequest, CheckAnswer,
        CheckRequest, HISTORY_MEDIA_TYPE, HistoryRequest, JSON_BYTES_MAX, JSON_MEDIA_TYPE, LookupRequest,
    },
    authorise::{Judged, authorise, check_signer},
    httpsig,
    possession::{CHECKS_MAX, Claim, PossessionError},
    sequencer::pool::{Outcome, PoolRefused, Ticket},
};

/// Longest a change waits for its receipt: the client may then ask again with the same request.
pub(super) const RECEIPT_S_MAX: u64 = 30;

pub(super) type Bytes<const MAX: usize> = Result<Capped<MAX>, Problem>;

fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde's own message may quote the input, so only the place is told.
    serde_json::from_slice(body).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        Problem::new(problem::MALFORMED, format!("Not the JSON object asked for, at line {line}, column {column}."))
    })
}

fn parse_csi(text: &str) -> Result<Csi, Problem> {
    Csi::parse(text).map_err(|e| Problem::new(CSI_INVALID, e.to_string()))
}

pub(super) fn take_slot(slots: &tokio::sync::Semaphore) -> Result<SemaphorePermit<'_>, Problem> {
    slots.try_acquire().map_err(|_| Problem::new(problem::BUSY, "Try again in a moment.").retry_after(1))
}

fn binary(media_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    let mut response = (status, Json(value)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// POST /v1/lookups
pub async fn look_up(
    State(app): State<Arc<App>>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes<JSON_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    let relayed = httpsig::is_claimed(&headers);
    let relay = relayed.then(|| app.authenticate_provider(&headers, &uri, ProviderRole::Msp)).transpose()?;
    let counted = match &relay {
        Some(msp) => app.relays.count(msp.domain.clone(), app.clock.now()),
        None => app.lookups.count(peer.ip(), app.clock.now()),
    };
    counted.map_err(|wait| Problem::new(problem::TOO_MANY, "Too many look-ups in a minute.").retry_after(wait))?;
    let _slot = take_slot(&app.lookup_slots)?;
    problem::check_media_type(&headers, JSON_MEDIA_TYPE)?;
    let body = body?.0;
    relay.map_or(Ok(()), |msp| msp.check_body(&body)).map_err(error::request_signature)?;
    let request: LookupRequest = parse_json(&body)?;
    let csi = parse_csi(&request.csi)?;
    let tag =
        match &request.tag {
            None => None,
            Some(text) => Some(Tag::parse(text).ok_or_else(|| {
                Problem::new(TAG_INVALID, "A tag is 1 to 64 bytes in NFC without control characters.")
            })?),
        };
    let answer = app.answering.look_up(&csi, tag.as_ref()).map_err(|e| error::answer(&e))?;
    Ok(binary(ANSWER_MEDIA_TYPE, answer))
}

/// POST /v1/challenges
pub async fn start_challenge(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes<JSON_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    problem::check_media_type(&headers, JSON_MEDIA_TYPE)?;
    let (body, now) = (body?.0, app.clock.now());
    let request: ChallengeRequest = parse_json(&body)?;
    let csi = parse_csi(&request.csi)?;
    let purpose = match request.purpose.as_str() {
        "control" => Purpose::Control,
        "view" => Purpose::View,
        _ => return Err(Problem::new(problem::MALFORMED, "The purpose is control or view.")),
    };
    let recipient = app.nonces.authenticate(&app.origin, &headers, "/v1/challenges", &body, now)?;
    let claim = Claim { csi, recipient, tenure: request.tenure, purpose };
    let (id, expiry) = app.possession.start(claim, now).map_err(|e| error::possession(&e))?;
    let answer = ChallengeAnswer {
        id: HEXLOWER.encode(&id),
        status: "pending".to_owned(),
        expires_ms: expiry.get(),
        checks_left: CHECKS_MAX,
    };
    Ok(json(StatusCode::CREATED, &answer))
}

/// POST /v1/challenges/{id}/check
pub async fn check_challenge(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes<JSON_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    problem::check_media_type(&headers, JSON_MEDIA_TYPE)?;
    let (body, now) = (body?.0, app.clock.now());
    let request: CheckRequest = parse_json(&body)?;
    let decoded = HEXLOWER.decode(id.as_bytes()).ok().and_then(|b| b.try_into().ok());
    let decoded = decoded.ok_or_else(|| error::possession(&PossessionError::NoChallenge))?;
    let path = format!("/v1/challenges/{id}/check");
    let recipient = app.nonces.authenticate(&app.origin, &headers, &path, &body, now)?;
    match app.possession.check(&decoded, &recipient, &request.code, now) {
        Ok(attestation) => {
            let attestation = Some(BASE64.encode(&encode(&attestation)));
            let answer = CheckAnswer { status: "approved".to_owned(), checks_left: None, attestation };
            Ok(json(StatusCode::OK, &answer))
        }
        Err(PossessionError::WrongCode { checks_left }) => {
            let checks_left = Some(checks_left);
            let answer = CheckAnswer { status: "pending".to_owned(), checks_left, attestation: None };
            Ok(json(StatusCode::OK, &answer))
        }
        Err(e) => Err(error::possession(&e)),
    }
}

/// POST /v1/changes
pub async fn change(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes<CHANGE_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    let _slot = take_slot(&app.change_slots)?;
    problem::check_media_type(&headers, CHANGE_MEDIA_TYPE)?;
    let body = body?.0;
    let request: ChangeRequest = decode("change", &body).map_err(|e| error::malformed(&e))?;
    let signer = app.nonces.authenticate(&app.origin, &headers, "/v1/changes", &body, app.clock.now())?;
    // First, so that a retry tells a stranger nothing either.
    check_signer(&request, &signer).map_err(|e| error::authorise(&e))?;
    if let Some(ticket) = enqueue(&app, &request, &body)? {
        wait(ticket).await?;
    }
    receipt(&app, &request, signer)
}

/// Judges a change and queues it: its ticket, or `None` if its event has made the current version already.
pub(super) fn enqueue(app: &App, request: &ChangeRequest, body: &[u8]) -> Result<Option<Ticket>, Problem> {
    // Same request, same ticket: a retry while the first try is on its way waits with it.
    let digest = *blake3::hash(body).as_bytes();
    if let Some(ticket) = app.pool.ticket(&digest) {
        return Ok(Some(ticket));
    }
    let csi_key = app.answering.sealer.csi_key(&request.event.tbs.csi);
    if app.pool.is_in_flight(&csi_key) {
        return Err(error::pool(PoolRefused::InFlight));
    }
    let judged = authorise(&app.answering, request, &app.origin, app.clock.now());
    match judged.map_err(|e| error::authorise(&e))? {
        Judged::AlreadyDone => Ok(None),
        Judged::Authorized(change) => {
            let ticket = app.pool.add(digest, *change, |c| app.answering.published.is_next(&c.csi_key, &c.row.record));
            ticket.map(Some).map_err(error::pool)
        }
    }
}

/// Waits until a change is published.
async fn wait(mut ticket: Ticket) -> Result<(), Problem> {
    let done = ticket.wait_for(|outcome| *outcome != Outcome::Pending);
    match tokio::time::timeout(Duration::from_secs(RECEIPT_S_MAX), done).await {
        Ok(Ok(outcome)) if *outcome == Outcome::Published => Ok(()),
        Ok(_) => Err(Problem::new(LOG_READ_ONLY, "Whether the change was made shows later: ask again.").retry_after(5)),
        Err(_) => Err(Problem::new(STILL_PENDING, "Send the same request again to wait on.").retry_after(5)),
    }
}

fn receipt(app: &App, request: &ChangeRequest, signer: waymark_log::key::Key) -> Result<Response<Body>, Problem> {
    let csi = &request.event.tbs.csi;
    let receipt = app.answering.receipt(csi, &[signer]).map_err(|e| error::answer(&e))?;
    let receipt = receipt.filter(|r| r.now.version == request.event.tbs.version);
    let receipt = receipt.ok_or_else(|| {
        Problem::new(error::VERSION_STALE, "The change was made, and another one after it: see /v1/history.")
    })?;
    Ok(binary(RECEIPT_MEDIA_TYPE, receipt.encode()))
}

/// POST /v1/history
pub async fn history(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes<JSON_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    problem::check_media_type(&headers, HISTORY_MEDIA_TYPE)?;
    let body = body?.0;
    let request: HistoryRequest = decode("history request", &body).map_err(|e| error::malformed(&e))?;
    let signer = app.nonces.authenticate(&app.origin, &headers, "/v1/history", &body, app.clock.now())?;
    let nothing = || Problem::new(NO_RECORD, "Only a key with a mapping here sees more than a look-up shows.");
    // The same answer whether the CSI is unknown or the key has nothing there.
    let (snapshot, row) = app.answering.row(&request.csi).map_err(|e| error::answer(&e))?;
    let row = row.filter(|r| r.state().held.iter().any(|h| h.mapping.recipient == signer)).ok_or_else(nothing)?;
    let receipt = app.answering.receipt_for(&snapshot, &row, &[signer]).map_err(|e| error::answer(&e))?;
    Ok(binary(RECEIPT_MEDIA_TYPE, receipt.encode()))
}

/// GET /v1/policy
pub async fn policy(State(app): State<Arc<App>>) -> Response<Body> {
    let mut response = Response::new(Body::from(app.policy_document.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
