//! The policy document in effect, and every one that was logged before it.
//!
//! The strong ETag is the document's SHA-256 in hex, as the log commits to it; `Repr-Digest` (RFC 9530) says the same in base64.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};
use data_encoding::BASE64;
use waymark_log::hash::Hash;
use waymark_runtime::problem::Problem;

use super::{
    App,
    error::{self, POLICY_UNKNOWN},
};

/// Media type of TOML.
const TOML_MEDIA_TYPE: &str = "application/toml";
/// The document in effect changes; whoever has it asks whether it is still that.
const CURRENT: &str = "no-cache";
/// A document under its digest never does.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

fn respond(headers: &HeaderMap, digest: &Hash, bytes: Vec<u8>, cache: &'static str) -> Response<Body> {
    let tag = format!("\"{}\"", digest.to_hex());
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let known = known.flat_map(|v| v.split(',')).any(|t| t.trim() == tag || t.trim() == "*");
    let mut response = if known { Response::new(Body::empty()) } else { Response::new(Body::from(bytes)) };
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    let value = |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    if !known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(TOML_MEDIA_TYPE));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::ETAG, value(&tag));
    headers.insert("repr-digest", value(&format!("sha-256=:{}:", BASE64.encode(digest.as_bytes()))));
    response
}

/// GET /v1/policy
pub async fn current(State(app): State<Arc<App>>, headers: HeaderMap) -> Response<Body> {
    let logged = app.policy();
    respond(&headers, &logged.digest, logged.bytes.clone(), CURRENT)
}

/// GET /v1/policy/{SHA-256 in hex}
pub async fn by_digest(
    State(app): State<Arc<App>>,
    digest: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let unknown = || Problem::new(POLICY_UNKNOWN, "No such document was ever logged here: see /v1/policy.");
    let digest = digest.ok().and_then(|Path(digest)| Hash::from_hex(&digest)).ok_or_else(unknown)?;
    let bytes = app.policies.shelf().bytes(&digest).map_err(|e| error::internal(&e))?.ok_or_else(unknown)?;
    Ok(respond(&headers, &digest, bytes, IMMUTABLE))
}
