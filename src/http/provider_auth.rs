//! Which provider asks: the signature under its request, its key in the published directory, its time and its nonce.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use axum::http::{HeaderMap, Uri};
use waymark_log::{key::Key, time::UnixMillis};
use waymark_mapping::{entry::ProviderRole, rules::SKEW_MS};
use waymark_runtime::problem::{self, Problem};

use super::{
    App,
    error::{self, PROVIDER_UNKNOWN, REPLAYED, SIGNATURE_MISSING},
};
use crate::{
    httpsig::{self, Opened},
    published::AnswerError,
};

/// Most nonces kept: all of five minutes at 3,000 requests a second, some 60 bytes each.
const NONCES_MAX: usize = 1_000_000;

/// Nonces that were seen, until their signatures are over. They are in memory only: what a provider may ask for does the
/// same when it is asked twice, so a replay across a restart wins nothing.
#[derive(Default)]
pub struct ProviderNonces {
    seen: Mutex<HashMap<([u8; 16], Key), UnixMillis>>,
}

impl ProviderNonces {
    fn take(&self, opened: &Opened, now: UnixMillis) -> Result<(), Problem> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= NONCES_MAX {
            seen.retain(|_, expires| now <= *expires);
        }
        if seen.len() >= NONCES_MAX {
            return Err(Problem::new(problem::BUSY, "Too many requests in five minutes.").retry_after(60));
        }
        match seen.insert((opened.nonce, opened.key), opened.expires.to_millis()) {
            None => Ok(()),
            Some(_) => Err(Problem::new(REPLAYED, "Each request needs a nonce of its own.")),
        }
    }
}

impl App {
    /// Checks the head of a POST that a provider has signed. Its body is checked against what this returns.
    ///
    /// # Errors
    /// A problem: missing, invalid, over, seen before, or by a key that does not count in this role now.
    pub(super) fn authenticate_provider(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        role: ProviderRole,
    ) -> Result<Opened, Problem> {
        if !httpsig::is_claimed(headers) {
            return Err(Problem::new(SIGNATURE_MISSING, "Sign the request as RFC 9421 says."));
        }
        let opened = httpsig::open(headers, "POST", uri, &self.origin).map_err(error::request_signature)?;
        let now = self.clock.now();
        // "created and expires": not made later than now, clocks differing a little, and not over.
        if opened.created.to_millis() > now.plus_ms(SKEW_MS) || opened.expires.to_millis() < now {
            return Err(Problem::new(REPLAYED, "The signature is over, or dated ahead."));
        }
        let snapshot = self.answering.published.snapshot().ok_or_else(|| error::answer(&AnswerError::NotReady))?;
        if !snapshot.providers.is_valid(&opened.domain, role, &opened.key, now) {
            return Err(Problem::new(PROVIDER_UNKNOWN, "Use a key that the published directory holds for this role."));
        }
        self.provider_nonces.take(&opened, now)?;
        Ok(opened)
    }
}
