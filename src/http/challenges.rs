//! Challenges over HTTP: the same routes at a DP and at a prover.
//!
//! | | | |
//! |---|---|---|
//! | POST | /v1/challenges | starts one; signed by the recipient key that it is for |
//! | POST | /v1/challenges/{id}/send | sends its code again; signed by that key |
//! | POST | /v1/challenges/{id}/check | a code for an attestation, or no code to ask whether the link was opened; signed |
//! | POST | /v1/challenges/{id}/confirm | the link's secret; not signed, since it comes from a browser |
//! | GET | /confirm, /confirm.js, /confirm.css | the page behind the link |

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, Response, StatusCode},
    routing::{get, post},
};
use data_encoding::{BASE64, HEXLOWER};
use waymark_log::checkpoint::Origin;
use waymark_mapping::{mapping::Purpose, wire::encode};
use waymark_runtime::{
    clock::Clock,
    listen::Peer,
    metrics::counted_as,
    prefix::Prefix,
    problem::{self, Problem},
};

use super::{
    confirm, error,
    idempotency::{Replays, mark},
    limit::RequestLimit,
    recipient::{self, Nonces},
    v1::{Bytes, json, parse_csi, parse_json},
};
use crate::{
    api::{
        JSON_BYTES_MAX, JSON_MEDIA_TYPE,
        challenges::{
            ChallengeAnswer, ChallengeRequest, CheckAnswer, CheckRequest, ConfirmAnswer, ConfirmRequest, IncomingAsk,
            SendRequest,
        },
    },
    possession::{ChallengeId, Checked, Claim, Open, Possession, PossessionError},
};

/// What the routes work with.
pub struct Desk {
    clock: Clock,
    origin: Origin,
    possession: Possession,
    nonces: Nonces,
    replays: Replays<Open>,
    requests: RequestLimit,
}

impl Desk {
    /// Puts the parts together. `origin` is the log that requests are signed for and attestations are made for; each
    /// host may send so many requests a minute.
    pub fn new(clock: Clock, origin: Origin, possession: Possession, requests_per_minute: u32) -> Self {
        let requests = RequestLimit::new(requests_per_minute);
        Self { clock, origin, possession, nonces: Nonces::default(), replays: Replays::default(), requests }
    }

    fn count(&self, Peer(peer): Peer) -> Result<(), Problem> {
        self.requests.count(peer.ip(), self.clock.now())
    }
}

/// The route table.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/challenges", post(start))
        .route("/v1/challenges/{id}/send", post(send))
        .route("/v1/challenges/{id}/check", post(check))
        .route("/v1/challenges/{id}/confirm", post(confirm))
        .route("/confirm", get(confirm::page))
        .route("/confirm.js", get(confirm::script))
        .route("/confirm.css", get(confirm::style))
        .with_state(desk)
}

/// A challenge's name as it stands in a path, which may not even be text.
type Name = Result<Path<String>, PathRejection>;

/// A name that no challenge can have is one that is over.
fn parse_id(name: Name) -> Result<(String, ChallengeId), Problem> {
    let decode = |name: String| Some((name.clone(), HEXLOWER.decode(name.as_bytes()).ok()?.try_into().ok()?));
    let decoded = name.ok().and_then(|Path(name)| decode(name));
    decoded.ok_or_else(|| error::possession(&PossessionError::NoChallenge))
}

/// An IPv6 host has its /64 to itself.
fn host(Peer(peer): Peer) -> IpAddr {
    Prefix::host(peer.ip()).first()
}

fn parse_purpose(purpose: &str) -> Result<Purpose, Problem> {
    match purpose {
        "control" => Ok(Purpose::Control),
        "view" => Ok(Purpose::View),
        _ => Err(Problem::new(problem::MALFORMED, "The purpose is control or view.")),
    }
}

fn answer(possession: &Possession, open: Open) -> ChallengeAnswer {
    ChallengeAnswer {
        id: HEXLOWER.encode(&open.id),
        status: "pending".to_owned(),
        channel: open.channel,
        expires_ms: open.expiry.get(),
        sends_left: open.sends_left,
        checks_left: open.checks_left,
        delivery: open.progress,
        incoming: possession.asked_for(&open).map(|(to, text)| IncomingAsk { to, text }),
    }
}

/// Carries out what is charged for or ends a challenge, also when its client goes away meanwhile: the code leaves,
/// and what came of it is remembered for the request that is sent again.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, PossessionError>> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::spawn(work).await.map_err(|stopped| error::internal(&stopped))?;
    done.map_err(|e| error::possession(&e))
}

/// POST /v1/challenges
async fn start(
    State(desk): State<Arc<Desk>>,
    axum::Extension(peer): axum::Extension<Peer>,
    headers: HeaderMap,
    body: Bytes<JSON_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    desk.count(peer)?;
    problem::check_media_type(&headers, JSON_MEDIA_TYPE)?;
    let (body, now) = (body?.0, desk.clock.now());
    let request: ChallengeRequest = parse_json(&body)?;
    let (csi, purpose) = (parse_csi(&request.csi)?, parse_purpose(&request.purpose)?);
    let recipient = desk.nonces.authenticate(&desk.origin, &headers, "/v1/challenges", &body, now)?;
    let turn = desk.replays.enter(&headers, "/v1/challenges", recipient.as_bytes(), &body, now)?;
    let claim = Claim { csi, recipient, tenure: request.tenure, purpose };
    let (at, from) = (Arc::clone(&desk), host(peer));
    let start = async move {
        match request.incoming {
            true => at.possession.start_incoming(claim, request.channel, from, now).await,
            false => at.possession.start(claim, request.channel, from, now).await,
        }
    };
    let (open, before) = to_its_end(async move { turn.once(start).await }).await?;
    Ok(mark(json(StatusCode::CREATED, &answer(&desk.possession, open)), before))
}

/// POST /v1/challenges/{id}/send
async fn send(
    State(desk): State<Arc<Desk>>,
    axum::Extension(peer): axum::Extension<Peer>,
    name: Name,
    headers: HeaderMap,
    body: Bytes<JSON_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    desk.count(peer)?;
    problem::check_media_type(&headers, JSON_MEDIA_TYPE)?;
    let (body, now) = (body?.0, desk.clock.now());
    let SendRequest {} = parse_json(&body)?;
    let (id, decoded) = parse_id(name)?;
    let path = format!("/v1/challenges/{id}/send");
    let recipient = desk.nonces.authenticate(&desk.origin, &headers, &path, &body, now)?;
    let (at, from) = (Arc::clone(&desk), host(peer));
    let send = async move { at.possession.send_again(&decoded, &recipient, from, now).await };
    Ok(json(StatusCode::OK, &answer(&desk.possession, to_its_end(send).await?)))
}

/// POST /v1/challenges/{id}/check
async fn check(
    State(desk): State<Arc<Desk>>,
    axum::Extension(peer): axum::Extension<Peer>,
    name: Name,
    headers: HeaderMap,
    body: Bytes<JSON_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    desk.count(peer)?;
    problem::check_media_type(&headers, JSON_MEDIA_TYPE)?;
    let (body, now) = (body?.0, desk.clock.now());
    let request: CheckRequest = parse_json(&body)?;
    let (id, decoded) = parse_id(name)?;
    let path = format!("/v1/challenges/{id}/check");
    let signer = recipient::verify(&desk.origin, &headers, &path, &body, now)?;
    // Anybody who only asks how it stands uses up nothing, and asks again and again.
    if request.code.is_some() {
        desk.nonces.once(&signer, now)?;
    }
    let (at, is_code) = (Arc::clone(&desk), request.code.is_some());
    let check = async move { at.possession.check(&decoded, &signer.key, request.code.as_deref(), now).await };
    let (counted, answer) = match to_its_end(check).await? {
        Checked::Approved(attestation) => {
            let attestation = Some(BASE64.encode(&encode(&*attestation)));
            let status = "approved".to_owned();
            ("approved", CheckAnswer { status, checks_left: None, delivery: None, attestation })
        }
        Checked::Pending { checks_left, progress } => {
            let counted = if is_code { "wrong-code" } else { "polled" };
            let (checks_left, delivery) = (Some(checks_left), progress);
            (counted, CheckAnswer { status: "pending".to_owned(), checks_left, delivery, attestation: None })
        }
    };
    Ok(counted_as(counted, json(StatusCode::OK, &answer)))
}

/// POST /v1/challenges/{id}/confirm
///
/// Only JSON is taken, which no form of another site can send without this one's leave.
async fn confirm(
    State(desk): State<Arc<Desk>>,
    axum::Extension(peer): axum::Extension<Peer>,
    name: Name,
    headers: HeaderMap,
    body: Bytes<JSON_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    desk.count(peer)?;
    problem::check_media_type(&headers, JSON_MEDIA_TYPE)?;
    let request: ConfirmRequest = parse_json(&body?.0)?;
    let confirmed = desk.possession.confirm(&parse_id(name)?.1, &request.secret, desk.clock.now()).await;
    confirmed.map_err(|e| error::possession(&e))?;
    Ok(json(StatusCode::OK, &ConfirmAnswer { status: "approved".to_owned() }))
}
