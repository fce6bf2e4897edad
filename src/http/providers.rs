//! Who is onboarded, and the life of a provider's keys over HTTP.
//!
//! An entry is taken here if a valid key of its domain has signed it: that key answers for the domain. A first key has
//! nobody to answer for it, and a key without the signature of the old one may be anybody's: whose the domain is, the
//! operator must know, and takes such entries in by hand ([`crate::onboarding`]). Otherwise anybody could log keys under
//! names of others, seven days before they can be cancelled.
//!
//! The entry's own signatures are its authority; the request needs none.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Response, StatusCode},
};
use waymark_mapping::entry::ProviderRole;
use waymark_runtime::problem::{self, Problem};

use super::{
    App,
    error::{self, OPERATOR_ONLY},
    v1::{Bytes, json},
};
use crate::{
    api::{PROVIDER_MEDIA_TYPE, ProviderKeyView},
    onboarding::{self, PROVIDER_BYTES_MAX},
    published::AnswerError,
};

/// GET /v1/providers
pub async fn list(State(app): State<Arc<App>>) -> Result<Response<Body>, Problem> {
    let snapshot = app.answering.published.snapshot().ok_or_else(|| error::answer(&AnswerError::NotReady))?;
    let keys = snapshot.providers.leaves().flat_map(|leaf| leaf.keys.iter().map(move |key| (leaf, key)));
    let views: Vec<ProviderKeyView> = keys
        .map(|(leaf, key)| ProviderKeyView {
            domain: leaf.domain.as_str().to_owned(),
            role: match key.role {
                ProviderRole::Msp => "msp",
                ProviderRole::Prover => "prover",
                ProviderRole::Csip => "csip",
            }
            .to_owned(),
            class: key.class,
            publishes: key.publishes.0,
            key: key.key.to_hex(),
            due_ms: key.due.get(),
            retired_ms: key.retired.get(),
        })
        .collect();
    Ok(json(StatusCode::OK, &views))
}

/// POST /v1/providers
pub async fn submit(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes<PROVIDER_BYTES_MAX>,
) -> Result<StatusCode, Problem> {
    problem::check_media_type(&headers, PROVIDER_MEDIA_TYPE)?;
    let entry = onboarding::parse(&body?.0)
        .map_err(|_| Problem::new(problem::MALFORMED, "Send one provider entry, as it is to be logged."))?;
    if entry.by_valid.as_slice().is_empty() {
        return Err(Problem::new(OPERATOR_ONLY, "No valid key of the domain has signed it: give it to the operator."));
    }
    let snapshot = app.answering.published.snapshot().ok_or_else(|| error::answer(&AnswerError::NotReady))?;
    // Judged again with the batch, as of its head; here so that its sender learns at once what is wrong.
    let mut providers = snapshot.providers.clone();
    providers.apply(&entry, &app.origin, app.clock.now()).map_err(error::provider)?;
    app.pool.add_provider(entry).map_err(error::pool)?;
    Ok(StatusCode::ACCEPTED)
}
