//! Who asks: the recipient's signature under a request, its time and its nonce.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use axum::http::HeaderMap;
use waymark_log::{checkpoint::Origin, key::Key, time::UnixMillis};
use waymark_runtime::problem::{self, Problem};

use super::error::{REPLAYED, SIGNATURE_INVALID, SIGNATURE_MISSING};
use crate::api::{RECIPIENT_HEADER, REQUEST_WINDOW_MS, RequestSignature};

/// Most nonces kept: all of the last ten minutes at 1,500 requests a second, some 60 bytes each.
const NONCES_MAX: usize = 1_000_000;

/// Nonces that were seen, until their requests are too old to be played again.
#[derive(Default)]
pub struct Nonces {
    seen: Mutex<HashMap<([u8; 16], Key), UnixMillis>>,
}

impl Nonces {
    /// Checks the signature under a request and returns the key.
    ///
    /// # Errors
    /// A problem: missing, invalid, too old or new, seen before.
    pub fn authenticate(
        &self,
        origin: &Origin,
        headers: &HeaderMap,
        path: &str,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<Key, Problem> {
        let value = headers.get(RECIPIENT_HEADER).ok_or_else(|| {
            Problem::new(SIGNATURE_MISSING, format!("Sign the request with a recipient key in {RECIPIENT_HEADER}."))
        })?;
        let invalid = || Problem::new(SIGNATURE_INVALID, "Method, path, body, time and nonce are signed.");
        let signature = value.to_str().ok().and_then(RequestSignature::parse).ok_or_else(invalid)?;
        if !signature.is_timely(now) {
            return Err(Problem::new(REPLAYED, "The request's time is over five minutes off."));
        }
        if !signature.is_under(origin, "POST", path, body) {
            return Err(invalid());
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= NONCES_MAX {
            seen.retain(|_, time| now.since(*time) <= 2 * REQUEST_WINDOW_MS);
        }
        if seen.len() >= NONCES_MAX {
            return Err(Problem::new(problem::BUSY, "Too many requests in ten minutes.").retry_after(60));
        }
        if seen.insert((signature.nonce, signature.key), now).is_some() {
            return Err(Problem::new(REPLAYED, "Each request needs a nonce of its own."));
        }
        Ok(signature.key)
    }
}
