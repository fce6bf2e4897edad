//! Asking an MSP: for its consent to a mapping, and to watch for a recipient.

use waymark_log::{checkpoint::Origin, key::SecretKey};
use waymark_mapping::{
    commitment::Salt,
    mapping::{Consent, Mapping},
    watch::WatchList,
    wire::{decode, encode},
};
use waymark_runtime::{clock::Clock, fetch::Fetcher, random};

use super::{ClientError, success};
use crate::{
    api::{RECIPIENT_HEADER, RequestSignature, WATCH_LIST_MEDIA_TYPE},
    msp::{CONSENT_MEDIA_TYPE, ConsentRequest},
};

/// An MSP's adapter, as a user's app calls it.
#[derive(Clone, Debug)]
pub struct MspClient {
    fetcher: Fetcher,
    url: String,
    origin: Origin,
    clock: Clock,
}

impl MspClient {
    /// The adapter at this URL, for the log with this origin.
    pub fn new(fetcher: Fetcher, url: &str, origin: Origin, clock: Clock) -> Self {
        Self { fetcher, url: url.trim_end_matches('/').to_owned(), origin, clock }
    }

    /// Asks for consent to a mapping. The salt is drawn here, fresh for each consent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn consent(&self, secret: &SecretKey, mapping: &Mapping) -> Result<(Consent, Salt), ClientError> {
        let salt = Salt(random::bytes());
        let body = encode(&ConsentRequest { mapping: mapping.clone(), salt });
        let (time, nonce) = (self.clock.now(), random::bytes());
        let signature = RequestSignature::sign(&self.origin, secret, ("POST", "/v1/consents"), &body, time, nonce);
        let headers = [(RECIPIENT_HEADER, signature.format())];
        let url = format!("{}/v1/consents", self.url);
        let answer = success(self.fetcher.post(&url, CONSENT_MEDIA_TYPE, &headers, body, 1024).await?)?;
        let consent: Consent = decode("consent", &answer).map_err(|e| ClientError::Malformed(e.to_string()))?;
        if !consent.is_for(mapping, &salt, &self.origin) {
            return Err(ClientError::Malformed("the consent is not under this mapping".to_owned()));
        }
        Ok((consent, salt))
    }

    /// Hands a watch-list in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn watch(&self, list: &WatchList) -> Result<(), ClientError> {
        send_watch_list(&self.fetcher, &self.url, list).await
    }
}

/// Hands a watch-list to whoever watches at this URL: an MSP's adapter or a monitor.
///
/// # Errors
/// [`ClientError`].
pub async fn send_watch_list(fetcher: &Fetcher, url: &str, list: &WatchList) -> Result<(), ClientError> {
    let url = format!("{}/v1/watch-lists", url.trim_end_matches('/'));
    success(fetcher.post(&url, WATCH_LIST_MEDIA_TYPE, &[], list.encode(), 4096).await?).map(|_| ())
}
