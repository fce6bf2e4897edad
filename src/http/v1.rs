//! The directory's handlers: cap, parse, hand over, answer. No rule is decided here.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use data_encoding::{BASE64, HEXLOWER};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::SemaphorePermit;
use waymark_mapping::{entry::ProviderRole, identifier::Csi, mapping::Purpose, wire::encode};
use waymark_runtime::{
    listen::Capped,
    problem::{self, Problem},
};

use super::{
    App,
    error::{self, CSI_INVALID},
};
use crate::{
    api::{ChallengeAnswer, ChallengeRequest, CheckAnswer, CheckRequest, JSON_BYTES_MAX, JSON_MEDIA_TYPE},
    possession::{CHECKS_MAX, Claim, PossessionError},
};

pub(super) type Bytes<const MAX: usize> = Result<Capped<MAX>, Problem>;

pub(super) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde's own message may quote the input, so only the place is told.
    serde_json::from_slice(body).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        Problem::new(problem::MALFORMED, format!("Not the JSON object asked for, at line {line}, column {column}."))
    })
}

pub(super) fn parse_csi(text: &str) -> Result<Csi, Problem> {
    Csi::parse(text).map_err(|e| Problem::new(CSI_INVALID, e.to_string()))
}

pub(super) fn take_slot(slots: &tokio::sync::Semaphore) -> Result<SemaphorePermit<'_>, Problem> {
    slots.try_acquire().map_err(|_| Problem::new(problem::BUSY, "Try again in a moment.").retry_after(1))
}

pub(super) fn binary(media_type: &'static str, body: Vec<u8>) -> Response<Body> {
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

#[derive(Serialize)]
struct ProviderView<'a> {
    domain: &'a str,
    role: &'static str,
    class: u8,
    publishes: bool,
    key: String,
    due_ms: u64,
    retired_ms: u64,
}

/// GET /v1/providers
pub async fn providers(State(app): State<Arc<App>>) -> Result<Response<Body>, Problem> {
    let snapshot = app.answering.published.snapshot();
    let snapshot = snapshot.ok_or_else(|| error::answer(&crate::published::AnswerError::NotReady))?;
    let views: Vec<ProviderView<'_>> = snapshot
        .providers
        .leaves()
        .flat_map(|leaf| leaf.keys.iter().map(move |key| (leaf, key)))
        .map(|(leaf, key)| ProviderView {
            domain: leaf.domain.as_str(),
            role: match key.role {
                ProviderRole::Msp => "msp",
                ProviderRole::Prover => "prover",
                ProviderRole::Csip => "csip",
            },
            class: key.class,
            publishes: key.publishes.0,
            key: key.key.to_hex(),
            due_ms: key.due.get(),
            retired_ms: key.retired.get(),
        })
        .collect();
    Ok(json(StatusCode::OK, &views))
}

/// GET /v1/policy
pub async fn policy(State(app): State<Arc<App>>) -> Response<Body> {
    let mut response = Response::new(Body::from(app.policy_document.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
