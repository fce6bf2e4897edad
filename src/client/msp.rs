//! Asking an MSP: for its consent to a mapping, to watch for a recipient, what it saw, and to look somebody up. And asking a
//! monitor to watch, and what it saw.

use data_encoding::HEXLOWER;
use waymark_log::{checkpoint::Origin, key::SecretKey};
use waymark_mapping::{
    answer::ANSWER_SIZES,
    commitment::Salt,
    identifier::Csi,
    mapping::{Consent, Mapping},
    names::Tag,
    watch::{WATCH_LIST_MEDIA_TYPE, WatchId, WatchList},
    wire::{decode, encode},
};
use waymark_runtime::{clock::Clock, fetch::Fetcher, random};

use super::{ClientError, Line, PROBLEM_BYTES_MAX, parse_json, success};
use crate::{
    api::{AlertsAnswer, AlertsRequest, JSON_MEDIA_TYPE, LookupRequest, NoticeView, NoticesAnswer, NoticesRequest},
    msp::{CONSENT_MEDIA_TYPE, ConsentRequest},
};

/// Most bytes in an answer to a request for consent: a domain, a key, a digest, a signature.
const CONSENT_BYTES_MAX: usize = 1024;
/// Most bytes in an answer with notices: 64 of some 400 bytes.
const NOTICES_BYTES_MAX: usize = 64 << 10;
/// Most bytes in an answer with alerts: 64 of some 700 bytes.
const ALERTS_BYTES_MAX: usize = 128 << 10;

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

    /// Hands a watch-list in. `account` is a recipient key with an account there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn watch(&self, account: &SecretKey, list: &WatchList) -> Result<(), ClientError> {
        let (path, media_type) = ("/v1/watch-lists", WATCH_LIST_MEDIA_TYPE);
        self.0.post_signed(account, path, media_type, list.encode(), PROBLEM_BYTES_MAX).await.map(drop)
    }

    /// What happened under a list and nobody claimed, after an entry or from the beginning. `holder` is the list's key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn notices(
        &self,
        holder: &SecretKey,
        list: &WatchId,
        after: Option<u64>,
    ) -> Result<Vec<NoticeView>, ClientError> {
        let request = NoticesRequest { list: HEXLOWER.encode(&list.0), after };
        let body = serde_json::to_vec(&request).map_err(|e| ClientError::Malformed(e.to_string()))?;
        let answer = self.0.post_signed(holder, "/v1/notices", JSON_MEDIA_TYPE, body, NOTICES_BYTES_MAX).await?;
        let answer: NoticesAnswer = parse_json(&answer)?;
        Ok(answer.notices)
    }

    /// Has the MSP look a CSI up, so that the DP does not see who asks: the answer's bytes, to be verified. `account` is a
    /// recipient key with an account there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn look_up(&self, account: &SecretKey, csi: &Csi, tag: Option<&Tag>) -> Result<Vec<u8>, ClientError> {
        let request = LookupRequest::of(&self.0.origin, csi, tag, false);
        let body = serde_json::to_vec(&request).map_err(|e| ClientError::Malformed(e.to_string()))?;
        let longest = ANSWER_SIZES[ANSWER_SIZES.len() - 1];
        self.0.post_signed(account, "/v1/relay/lookups", JSON_MEDIA_TYPE, body, longest).await
    }
}

/// Hands a watch-list to the monitor at this URL. The monitor does not learn to whom it belongs: the list is signed by a key of its own.
///
/// # Errors
/// [`ClientError`].
pub async fn send_watch_list(fetcher: &Fetcher, url: &str, list: &WatchList) -> Result<(), ClientError> {
    let url = format!("{}/v1/watch-lists", url.trim_end_matches('/'));
    success(fetcher.post(&url, WATCH_LIST_MEDIA_TYPE, &[], list.encode(), PROBLEM_BYTES_MAX).await?).map(|_| ())
}

/// What the monitor at this URL has to tell the holder of a list, after the alert with this number. `holder` is the list's key.
///
/// # Errors
/// [`ClientError`].
pub async fn alerts(
    fetcher: &Fetcher,
    url: &str,
    origin: &Origin,
    (holder, list): (&SecretKey, &WatchId),
    after: u64,
    clock: &Clock,
) -> Result<AlertsAnswer, ClientError> {
    let line = Line::new(fetcher.clone(), url, origin.clone(), clock.clone());
    let request = AlertsRequest { log: origin.as_str().to_owned(), list: HEXLOWER.encode(&list.0), after };
    let body = serde_json::to_vec(&request).map_err(|e| ClientError::Malformed(e.to_string()))?;
    let answer = line.post_signed(holder, "/v1/alerts", JSON_MEDIA_TYPE, body, ALERTS_BYTES_MAX).await?;
    serde_json::from_slice(&answer).map_err(|e| ClientError::Malformed(e.to_string()))
}
