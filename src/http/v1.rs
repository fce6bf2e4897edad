//! The directory's handlers: cap, parse, hand over, answer. No rule is decided here.

use axum::{
    Json,
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::SemaphorePermit;
use waymark_mapping::identifier::Csi;
use waymark_runtime::{
    listen::Capped,
    problem::{self, Problem},
};

use super::error::CSI_INVALID;
use crate::api::read_object;

pub(super) type Bytes<const MAX: usize> = Result<Capped<MAX>, Problem>;

pub(super) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde's own message may quote the input, so only the place is told.
    read_object(body).map_err(|e| {
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
