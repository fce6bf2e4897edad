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
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};
use waymark_mapping::{
    entry::Provider,
    names::Domain,
    provider::{ProviderKey, ProviderLeaf, ProviderRefused},
};
use waymark_runtime::{
    listen::Peer,
    problem::{self, Problem},
};

use super::{
    App,
    error::{self, LOG_READ_ONLY, OPERATOR_ONLY},
    v1::{Bytes, json},
};
use crate::{
    api::{PROVIDER_MEDIA_TYPE, PROVIDERS_DEFAULT, PROVIDERS_MAX, ProviderKeyView, ProvidersQuery},
    onboarding::{self, PROVIDER_BYTES_MAX},
    published::AnswerError,
    sequencer::pool::PoolRefused,
};

/// GET /v1/providers: a page, and where the next one is. A domain's keys are never parted.
pub async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<ProvidersQuery>, QueryRejection>,
) -> Result<Response<Body>, Problem> {
    let malformed = || {
        let what = format!("`after` and `domain` are domains, `limit` is 1 to {PROVIDERS_MAX}; each at most once.");
        Problem::new(problem::MALFORMED, what)
    };
    let Query(query) = query.map_err(|_| malformed())?;
    let domain = |text: Option<String>| text.map(|t| Domain::parse(&t).ok_or_else(malformed)).transpose();
    let (after, only) = (domain(query.after)?, domain(query.domain)?);
    let limit = query.limit.unwrap_or(PROVIDERS_DEFAULT);
    if !(1..=PROVIDERS_MAX).contains(&limit) {
        return Err(malformed());
    }
    let snapshot = app.answering.published.snapshot().ok_or_else(|| error::answer(&AnswerError::NotReady))?;
    let asked = |domain: &Domain| {
        after.as_ref().is_none_or(|after| domain > after) && only.as_ref().is_none_or(|only| domain == only)
    };
    // The directory is in the order of domains, so a page begins where the one before ended, whatever was logged in between.
    let mut domains = snapshot.providers.domains().filter(|(domain, _)| asked(domain));
    let (mut views, mut last) = (Vec::<ProviderKeyView>::new(), None);
    for (domain, leaves) in domains.by_ref().take(limit) {
        views.extend(leaves.flat_map(|leaf| leaf.keys.iter().map(|key| view(leaf, key))));
        last = Some(domain);
    }
    let mut response = json(StatusCode::OK, &views);
    if let (Some(last), Some(_)) = (last, domains.next()) {
        let next = format!("</v1/providers?after={last}&limit={limit}>; rel=\"next\"");
        // A domain is letters, digits, dots and hyphens.
        if let Ok(next) = HeaderValue::try_from(next) {
            response.headers_mut().insert(header::LINK, next);
        }
    }
    Ok(response)
}

fn view(leaf: &ProviderLeaf, key: &ProviderKey) -> ProviderKeyView {
    ProviderKeyView {
        domain: leaf.domain.as_str().to_owned(),
        role: leaf.role.to_string(),
        revision: leaf.revision,
        class: key.class,
        publishes: key.publishes.0,
        key: key.key.to_hex(),
        due_ms: key.due.get(),
        retired_ms: key.retired.get(),
    }
}

/// POST /v1/providers
pub async fn submit(
    State(app): State<Arc<App>>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    headers: HeaderMap,
    body: Bytes<PROVIDER_BYTES_MAX>,
) -> Result<StatusCode, Problem> {
    app.count_request(peer.ip())?;
    problem::check_media_type(&headers, PROVIDER_MEDIA_TYPE)?;
    let entry = onboarding::parse(&body?.0).map_err(|e| error::undecoded(&e))?;
    if entry.by_valid.0.is_none() {
        return Err(Problem::new(OPERATOR_ONLY, "No valid key of the domain has signed it: give it to the operator."));
    }
    let snapshot = app.answering.published.snapshot().ok_or_else(|| error::answer(&AnswerError::NotReady))?;
    // Judged again with the batch, as of its head; here so that its sender learns at once what is wrong, and before the pool is
    // locked, which everybody needs.
    snapshot.providers.check(&entry, &app.origin, app.clock.now()).map_err(error::provider)?;
    let queued = app.pool.add_provider(entry.clone(), |entry| follows(&app, entry));
    queued.map_err(|refused| match refused {
        PoolRefused::Overtaken => error::provider(ProviderRefused::NotNext),
        other => error::pool(other, app.room_in_s()),
    })?;
    // Nothing is answered before it is on the disk: from there it is offered again after a crash.
    let dir = app.dir.clone();
    let kept = tokio::task::spawn_blocking(move || onboarding::submit(&dir, &entry)).await;
    match kept {
        Ok(Ok(())) => Ok(StatusCode::ACCEPTED),
        Ok(Err(error)) => {
            tracing::error!(%error, "a provider entry could not be written to the folder of those that wait");
            Err(Problem::new(LOG_READ_ONLY, "The entry could not be kept. Send it again.").retry_after(5))
        }
        Err(error) => Err(error::internal(&error)),
    }
}

/// Whether an entry that was judged still names the keys that are published.
fn follows(app: &App, entry: &Provider) -> bool {
    let published = app.answering.published.snapshot();
    published.is_some_and(|shown| shown.providers.previous_leaf(&entry.domain, entry.role) == entry.previous_leaf)
}
