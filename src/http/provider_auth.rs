//! Which provider asks: the signature under its request, its key in the published directory, its time and its nonce.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri};
use waymark_mapping::{entry::ProviderRole, rules::SKEW_MS};
use waymark_runtime::problem::{Problem, REPLAYED, SIGNATURE_MISSING};

use super::{
    App,
    error::{self, PROVIDER_UNKNOWN},
};
use crate::{
    httpsig::{self, Opened},
    published::AnswerError,
};

impl App {
    /// Checks the head of a POST that a provider has signed. Its body is checked against what this returns. It leaves
    /// nothing behind: a caller that relies on it counts it, and then takes its nonce with [`App::take_nonce`].
    ///
    /// # Errors
    /// A problem: missing, invalid, over, by a key that does not count in this role now, or one too many from this address.
    pub(super) fn authenticate_provider(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        uri: &Uri,
        role: ProviderRole,
    ) -> Result<Opened, Problem> {
        if !httpsig::is_claimed(headers) {
            return Err(Problem::new(SIGNATURE_MISSING, "Sign the request as RFC 9421 says."));
        }
        let claim = httpsig::read(headers, "POST", uri, &self.origin).map_err(error::request_signature)?;
        let now = self.clock.now();
        // To check a signature takes as long as all the rest. Anybody may claim to be anybody: who names a key that is nobody's
        // has none checked, and of the others one address has only so many.
        let snapshot = self.answering.published.snapshot().ok_or_else(|| error::answer(&AnswerError::NotReady))?;
        let (domain, key) = claim.signer();
        if !snapshot.providers.is_valid(domain, role, key, now) {
            return Err(Problem::new(PROVIDER_UNKNOWN, "Use a key that the published directory holds for this role."));
        }
        self.claims.count(peer, now)?;
        let opened = claim.check().map_err(error::request_signature)?;
        // "created and expires": not made later than now, clocks differing a little, and not over.
        if opened.created.to_millis() > now.plus_ms(SKEW_MS) || opened.expires.to_millis() < now {
            return Err(Problem::new(REPLAYED, "The signature is over, or dated ahead."));
        }
        Ok(opened)
    }

    /// Takes the nonce of a provider's request. They are in memory only: what a provider may ask for does the same when
    /// it is asked twice, so a replay across a restart wins nothing.
    ///
    /// # Errors
    /// A problem: seen before.
    pub(super) fn take_nonce(&self, opened: &Opened) -> Result<(), Problem> {
        self.provider_nonces.take(&opened.key, &opened.nonce, self.clock.now())
    }
}
