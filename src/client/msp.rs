//! Asking an MSP: for its consent to a mapping, and to watch for a recipient.

use waymark_log::{checkpoint::Origin, key::SecretKey};
use waymark_mapping::{
    commitment::Salt,
    mapping::{Consent, Mapping},
    watch::{WATCH_LIST_MEDIA_TYPE, WatchList},
    wire::{decode, encode},
};
use waymark_runtime::{clock::Clock, fetch::Fetcher, random};

use super::{ClientError, Line, PROBLEM_BYTES_MAX, success};
use crate::msp::{CONSENT_MEDIA_TYPE, ConsentRequest};

/// Most bytes in an answer to a request for consent: a domain, a key, a digest, a signature.
const CONSENT_BYTES_MAX: usize = 1024;

/// An MSP's adapter, as a user's app calls it.
#[derive(Clone, Debug)]
pub struct MspClient(Line);

impl MspClient {
    /// The adapter at this URL, for the log with this origin.
    pub fn new(fetcher: Fetcher, url: &str, origin: Origin, clock: Clock) -> Self {
        Self(Line::new(fetcher, url, origin, clock))
    }

    /// Asks for consent to a mapping. The salt is drawn here, fresh for each consent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn consent(&self, secret: &SecretKey, mapping: &Mapping) -> Result<(Consent, Salt), ClientError> {
        let salt = Salt(random::bytes());
        let body = encode(&ConsentRequest { mapping: mapping.clone(), salt });
        let answer = self.0.post_signed(secret, "/v1/consents", CONSENT_MEDIA_TYPE, body, CONSENT_BYTES_MAX).await?;
        let consent: Consent = decode("consent", &answer).map_err(|e| ClientError::Malformed(e.to_string()))?;
        if !consent.is_for(mapping, &salt, &self.0.origin) {
            return Err(ClientError::Malformed("the consent is not under this mapping".to_owned()));
        }
        Ok((consent, salt))
    }

    /// Hands a watch-list in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn watch(&self, list: &WatchList) -> Result<(), ClientError> {
        send_watch_list(&self.0.fetcher, &self.0.url, list).await
    }
}

/// Hands a watch-list to whoever watches at this URL: an MSP's adapter or a monitor.
///
/// # Errors
/// [`ClientError`].
pub async fn send_watch_list(fetcher: &Fetcher, url: &str, list: &WatchList) -> Result<(), ClientError> {
    let url = format!("{}/v1/watch-lists", url.trim_end_matches('/'));
    success(fetcher.post(&url, WATCH_LIST_MEDIA_TYPE, &[], list.encode(), PROBLEM_BYTES_MAX).await?).map(|_| ())
}
