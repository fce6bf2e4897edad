//! The log's static files, in C2SP's dialect: what is there, immutable, for every origin.
//!
//! A path is parsed into numbers and built again; no text from a URL reaches the file system.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderValue, Response, StatusCode, header},
};
use waymark_log::tile::Tile;

use super::App;
use crate::store::StoreError;

/// Full and partial tiles never change.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

fn respond(status: StatusCode, media_type: &'static str, cache: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// What is not there may be there soon, so nobody is to keep the hole.
fn not_there() -> Response<Body> {
    respond(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "no-store", b"not found\n".to_vec())
}

fn fault(error: &StoreError) -> Response<Body> {
    tracing::error!(%error, "a log file could not be read");
    respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", "no-store", b"internal error\n".to_vec())
}

/// GET /log/checkpoint
pub async fn checkpoint(State(app): State<Arc<App>>) -> Response<Body> {
    match app.files.checkpoint() {
        Ok(Some(note)) => respond(StatusCode::OK, "text/plain; charset=utf-8", "no-cache", note),
        Ok(None) => not_there(),
        Err(e) => fault(&e),
    }
}

/// GET /log/tile/...
pub async fn tile(State(app): State<Arc<App>>, path: Result<Path<String>, PathRejection>) -> Response<Body> {
    // A path that is not even text names no tile.
    let Some(tile) = path.ok().and_then(|Path(path)| Tile::parse(&path)) else { return not_there() };
    match app.files.read(tile) {
        // A partial tile that has grown full is asked for under its own name.
        Ok((read, bytes)) if read == tile => respond(StatusCode::OK, "application/octet-stream", IMMUTABLE, bytes),
        Ok(_) | Err(StoreError::Missing(_)) => not_there(),
        Err(e) => fault(&e),
    }
}
