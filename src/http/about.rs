//! GET /.well-known/waymark: what people and tools are told about this directory.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Response, StatusCode, header},
};
use waymark_mapping::{
    entry::HEAD_INTERVAL_MS_MAX,
    mapping::MAPPING_LIFETIME_MS_MAX,
    record::{HIDDEN_SLOTS, HOLD_MS, NEW_MS, SHORT_HOLD_MS, TAKE_UP_MS},
    tenure::PASSAGE_MS,
    wire::FORMAT,
};
use waymark_runtime::problem;

use super::{App, idempotency, v1::json};
use crate::{
    api::{
        CHANGE_BYTES_MAX, IMPORT_BYTES_MAX, IMPORT_ITEMS_MAX, JSON_BYTES_MAX, PROVIDERS_MAX,
        well_known::{Formats, Limits, Log, Paths, Promises, WellKnown},
    },
    config::Settings,
    possession::{ATTESTATION_MS, CHALLENGE_MS, CHECKS_MAX, SENDS_MAX},
    sequencer::batch::Promise,
};

/// How long it may be kept: five minutes.
const CACHE: &str = "public, max-age=300";

/// What is told of a DP with these settings, but for what the log and the policy document in effect say.
pub fn well_known(settings: &Settings) -> WellKnown {
    WellKnown {
        schema: "waymark.directory/1".to_owned(),
        domain: settings.domain.to_string(),
        log: Log {
            origin: settings.origin.as_str().to_owned(),
            vkey: settings.signer.vkey().to_string(),
            path: "/log".to_owned(),
        },
        vrf_key: settings.vrf.public().to_hex(),
        paths: Paths {
            api: "/v1".to_owned(),
            openapi: "/v1/openapi.json".to_owned(),
            policy: "/v1/policy".to_owned(),
            problems: problem::PAGES.to_owned(),
        },
        identifiers: vec!["tel".to_owned(), "mailto".to_owned()],
        channels: vec![],
        regions: vec![],
        promises: Promises {
            interval_ms: settings.interval_ms.into(),
            head_interval_ms: HEAD_INTERVAL_MS_MAX,
            newcomer_ms: NEW_MS,
            hold_ms: HOLD_MS,
            short_hold_ms: SHORT_HOLD_MS,
            take_up_ms: TAKE_UP_MS,
            mapping_ms: MAPPING_LIFETIME_MS_MAX,
            passage_ms: PASSAGE_MS,
            challenge_ms: CHALLENGE_MS,
            attestation_ms: ATTESTATION_MS,
            idempotency_ms: idempotency::KEPT_MS,
        },
        limits: limits(settings),
        formats: Formats { entry: FORMAT, answer: FORMAT, signatures: "waymark/1".to_owned() },
    }
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        json_bytes: JSON_BYTES_MAX as u64,
        change_bytes: CHANGE_BYTES_MAX as u64,
        import_bytes: IMPORT_BYTES_MAX as u64,
        import_items: IMPORT_ITEMS_MAX as u64,
        visible_mappings: settings.does.visible_max() as u64,
        hidden_mappings: HIDDEN_SLOTS as u64,
        lookups_per_minute: settings.does.limits.lookups_per_minute,
        relays_per_minute: settings.relays_per_minute,
        challenge_sends: SENDS_MAX.into(),
        challenge_checks: CHECKS_MAX.into(),
        providers_per_page: PROVIDERS_MAX as u64,
    }
}

/// GET /.well-known/waymark
pub async fn serve(State(app): State<Arc<App>>) -> Response<Body> {
    let mut told = app.well_known.clone();
    let (snapshot, policy) = (app.answering.published.snapshot(), app.policy());
    if let Some(promise) = snapshot.and_then(|s| Promise::of(s.latest_promise())) {
        told.promises.interval_ms = promise.interval_ms.into();
    }
    told.limits.lookups_per_minute = policy.document.limits.lookups_per_minute;
    told.limits.visible_mappings = policy.document.visible_max() as u64;
    told.channels.clone_from(&policy.document.channels);
    told.regions.clone_from(&policy.document.regions);
    let mut response = json(StatusCode::OK, &told);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE));
    response
}
