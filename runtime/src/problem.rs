//! Errors over HTTP: RFC 9457 problem details with a stable code. The framework's own errors take this form too.
//!
//! ```json
//! { "type": "/v1/problems/version-stale", "title": "...", "status": 409, "code": "version-stale", "detail": "..." }
//! ```
//!
//! `detail` says what to do and never quotes what was sent. `type` is a path of the server that answers ([`pages`]): there a
//! person reads what the code means.

use std::{collections::BTreeMap, fmt, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;

/// Media type of problems.
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";
/// Where the page about a code is, but for the code.
pub const PAGES: &str = "/v1/problems/";
/// How long a page may be kept, an hour: what a code means does not change.
const PAGE_CACHE: &str = "public, max-age=3600";

/// One kind of error: a status, a stable code, a title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The status.
    pub status: u16,
    /// The code, for programs.
    pub code: &'static str,
    /// The title, for people.
    pub title: &'static str,
}

impl Kind {
    /// A kind of error.
    pub const fn new(status: u16, code: &'static str, title: &'static str) -> Self {
        Self { status, code, title }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\nStatus {}. {}.", self.code, self.status, self.title)
    }
}

/// There is nothing at this path.
pub const ROUTE_UNKNOWN: Kind = Kind::new(404, "route-unknown", "There is nothing at this path");
/// The path does not take this method.
pub const METHOD_NOT_ALLOWED: Kind = Kind::new(405, "method-not-allowed", "This path does not take this method");
/// The body is too large.
pub const BODY_TOO_LARGE: Kind = Kind::new(413, "body-too-large", "The body is too large");
/// The body could not be read.
pub const BODY_UNREADABLE: Kind = Kind::new(400, "body-unreadable", "The body could not be read");
/// The body took too long.
pub const TOO_SLOW: Kind = Kind::new(408, "too-slow", "The body took too long to arrive");
/// The body has another media type.
pub const CONTENT_TYPE: Kind = Kind::new(415, "content-type", "The body has another media type than this path takes");
/// The body does not have the form.
pub const MALFORMED: Kind = Kind::new(400, "malformed", "The request does not have the form");
/// The body is of a later format than this server knows, or bears a key or a signature by an algorithm that it does not know.
pub const NOT_SUPPORTED: Kind = Kind::new(
    422,
    "not-supported",
    "The body uses a format version, an algorithm or a value that this server does not know",
);
/// Nobody has signed the request, or not in the role needed.
pub const SIGNATURE_MISSING: Kind = Kind::new(401, "signature-missing", "The request is not signed as it must be");
/// A signature does not verify.
pub const SIGNATURE_INVALID: Kind = Kind::new(401, "signature-invalid", "A signature does not verify");
/// The request was seen before, or its time is too far off.
pub const REPLAYED: Kind = Kind::new(401, "replayed", "The request was seen before, or its time is off");
/// Too many requests.
pub const TOO_MANY: Kind = Kind::new(429, "too-many-requests", "Too many requests");
/// Too much work at once.
pub const BUSY: Kind = Kind::new(503, "busy", "Too much work at once");
/// A fault of ours.
pub const INTERNAL: Kind = Kind::new(500, "internal", "A fault of this server");

/// What every body that is read may end in.
pub const OF_BODY: &[Kind] = &[BODY_TOO_LARGE, BODY_UNREADABLE, TOO_SLOW, CONTENT_TYPE, MALFORMED];

/// Checks that a body is of this media type, parameters and case aside, before it is read as something that it is not.
///
/// # Errors
/// 415.
pub fn check_media_type(headers: &HeaderMap, wanted: &'static str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(Problem::new(CONTENT_TYPE, format!("Send {wanted}.")))
}

/// An error on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    kind: Kind,
    detail: String,
    retry_after_s: Option<u64>,
}

#[derive(Serialize)]
struct Wire<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Problem {
    /// A problem that says what to do.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after_s: None }
    }

    /// The same, to be tried again.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Its kind.
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Kind { status, code, title } = self.kind;
        let wire = Wire {
            r#type: format!("{PAGES}{code}"),
            title,
            status,
            code,
            detail: &self.detail,
            retry_after: self.retry_after_s,
        };
        let body = serde_json::to_vec(&wire).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // For whoever counts outcomes on the way out.
        response.extensions_mut().insert(self.kind);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// For a router's fallback: an unknown path is a problem like any other.
pub async fn unknown_route() -> Problem {
    Problem::new(ROUTE_UNKNOWN, "Look at the path again.")
}

/// For a router's method fallback. OPTIONS is answered by the methods that there are, which the router adds.
pub async fn unknown_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    Problem::new(METHOD_NOT_ALLOWED, "The path is right, the method is not.").into_response()
}

/// A page about each of these codes, in plain text: its status, its title, and what else is to be said, if anything.
pub fn pages(about: impl IntoIterator<Item = (Kind, String)>) -> Router {
    let page = |(kind, more): (Kind, String)| (kind.code, format!("{kind}\n\n{more}"));
    let pages: Arc<BTreeMap<&'static str, String>> = Arc::new(about.into_iter().map(page).collect());
    let show = async move |code: Result<Path<String>, PathRejection>| {
        let text = code.ok().and_then(|Path(code)| pages.get(code.as_str()).cloned());
        let text = text.ok_or_else(|| Problem::new(ROUTE_UNKNOWN, "No problem of this server has that code."))?;
        let head = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, PAGE_CACHE)];
        Ok::<_, Problem>((head, text))
    };
    Router::new().route("/v1/problems/{code}", get(show))
}
