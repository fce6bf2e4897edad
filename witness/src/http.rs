//! The C2SP dialect over HTTP: two paths, plain text, and the one place where verdicts become statuses.
//!
//! ```text
//! POST /add-checkpoint               200 cosignature line | 400 403 404 409 413 422 429 | 408 500 503
//! GET  /<origin hash>/checkpoint     200 note | 404 | 500 503
//! ```
//!
//! C2SP tlog-witness. No problem+json here: a 409's body is a size and nothing else, and the rest of this dialect's
//! bodies are for people. Submission prefix and monitoring prefix are the same.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{any, post},
};
use tokio::{sync::Semaphore, task::spawn_blocking};
use waymark_log::witness::{REQUEST_BYTES_MAX, Refusal, SIZE_MEDIA_TYPE};
use waymark_runtime::{
    listen::Capped,
    metrics::{Counts, Meter},
    problem::{self, Problem},
};

use crate::{
    operations,
    service::{Denied, Service},
    state::StateError,
};

/// Most requests that are at the disk or wait for it, each on a thread of its own. The next wait for one of these.
pub const JOBS_MAX: usize = 64;

const TEXT: &str = "text/plain; charset=utf-8";

#[derive(Debug, Clone)]
struct Shared {
    service: Arc<Service>,
    jobs: Arc<Semaphore>,
    requests: Counts,
}

/// The routes of a witness, counted. They cover every path: the listener's own fallbacks speak the directory's dialect.
pub fn router(service: Arc<Service>, meter: &Meter) -> Router {
    let requests = operations::requests(meter);
    let router = Router::new()
        .route("/add-checkpoint", post(add_checkpoint).fallback(|| async { wrong_method("POST") }))
        .route("/{*path}", any(monitoring))
        .route("/", any(|| async { unknown_path() }))
        .with_state(Shared { service, jobs: Arc::new(Semaphore::new(JOBS_MAX)), requests });
    meter.count_requests(router)
}

impl Shared {
    /// Runs blocking work off the async threads, to its end even if the client goes away.
    async fn run<T: Send + 'static>(&self, job: impl FnOnce(&Service) -> T + Send + 'static) -> Result<T, StateError> {
        let permit = Arc::clone(&self.jobs).acquire_owned().await.map_err(|_| StateError::Closed)?;
        let service = Arc::clone(&self.service);
        let job = spawn_blocking(move || {
            let _permit = permit;
            job(&service)
        });
        job.await.map_err(|_| {
            self.service.broke_off();
            StateError::Failed
        })
    }
}

async fn add_checkpoint(State(shared): State<Shared>, body: Result<Capped<REQUEST_BYTES_MAX>, Problem>) -> Response {
    let body = match body {
        Ok(Capped(body)) => body,
        Err(problem) => return unread(&problem),
    };
    let done = shared.run(move |service| service.add_checkpoint(&body)).await;
    let done = done.unwrap_or_else(|error| Err(error.into()));
    shared.requests.add(operations::outcome(&done));
    done.map_or_else(denied_response, |line| text(StatusCode::OK, line.to_string()))
}

/// Every path but the first: `/<origin hash>/checkpoint` or nothing.
async fn monitoring(State(shared): State<Shared>, method: Method, uri: Uri) -> Response {
    let hash = uri.path().strip_prefix('/').and_then(|p| p.strip_suffix("/checkpoint")).filter(|h| !h.contains('/'));
    let Some(hash) = hash.map(str::to_owned) else { return unknown_path() };
    // "The request MUST be an HTTP GET."
    if method != Method::GET && method != Method::HEAD {
        return wrong_method("GET, HEAD");
    }
    // Another spelling of a hash is nobody's, so the look-up needs no rule about the form.
    match shared.run(move |service| service.latest(&hash)).await {
        Ok(Ok(Some(note))) => text(StatusCode::OK, note),
        // "If the witness has never cosigned a checkpoint for that log, it MUST respond with a 404."
        Ok(Ok(None)) => text(StatusCode::NOT_FOUND, "no checkpoint with this origin hash was ever cosigned here\n"),
        Ok(Err(error)) | Err(error) => denied_response(error.into()),
    }
}

/// The one place where verdicts become statuses.
fn denied_response(denied: Denied) -> Response {
    match denied {
        // "The response body MUST consist of the tree size of the latest cosigned checkpoint in decimal, followed by a
        // newline. The response MUST have a Content-Type of text/x.tlog.size."
        Denied::Refused(Refusal::Conflict { size }) => {
            respond(StatusCode::CONFLICT, SIZE_MEDIA_TYPE, format!("{size}\n"))
        }
        Denied::Refused(refusal) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            text(status, format!("{refusal}\n"))
        }
        Denied::OverQuota(over) => {
            let response = text(StatusCode::TOO_MANY_REQUESTS, format!("{over}\n"));
            with_header(response, header::RETRY_AFTER, HeaderValue::from(over.retry_after_s))
        }
        // It passes, and there is nothing wrong with the request.
        Denied::ClockJumped(_) | Denied::ClockWentBack => text(StatusCode::SERVICE_UNAVAILABLE, format!("{denied}\n")),
        Denied::State(full @ StateError::Full) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{full}\n")),
        Denied::State(StateError::Closed) => text(StatusCode::SERVICE_UNAVAILABLE, "the witness is stopping\n"),
        // What is wrong with the disk is the operator's business; it stands in the log.
        Denied::State(_) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, "a fault of this witness; no cosignature is given\n")
        }
    }
}

/// A body that did not arrive: too large, too slow, broken off.
fn unread(problem: &Problem) -> Response {
    let kind = problem.kind();
    let status = StatusCode::from_u16(kind.status).unwrap_or(StatusCode::BAD_REQUEST);
    if kind == problem::BODY_TOO_LARGE {
        return text(status, format!("at most {REQUEST_BYTES_MAX} bytes are taken here\n"));
    }
    text(status, format!("{}\n", kind.title))
}

fn unknown_path() -> Response {
    text(StatusCode::NOT_FOUND, "there is nothing at this path\n")
}

fn wrong_method(allowed: &'static str) -> Response {
    let response = text(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method\n");
    with_header(response, header::ALLOW, HeaderValue::from_static(allowed))
}

fn text(status: StatusCode, body: impl Into<String>) -> Response {
    respond(status, TEXT, body.into())
}

fn respond(status: StatusCode, media_type: &'static str, body: String) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    // A verdict is about this moment, and a monitor wants the newest checkpoint.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    (status, headers, body).into_response()
}

fn with_header(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}
