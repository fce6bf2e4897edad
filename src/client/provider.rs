//! What a provider asks of a DP: its own keys as they stand, the next one logged, changes imported, look-ups relayed.

use waymark_log::{checkpoint::Origin, key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    answer::ANSWER_SIZES,
    entry::{Entry, Provider, ProviderRole},
    names::Domain,
    provider::{ProviderKey, ProviderLeaf},
    signed::AnyKey,
    wire::{Flag, List24},
};
use waymark_runtime::{
    clock::Clock,
    fetch::{FetchError, Fetched, Fetcher},
    random,
};

use super::{ClientError, Line, PROBLEM_BYTES_MAX, parse_json, success};
use crate::{
    api::{
        IMPORT_ITEMS_MAX, IMPORT_MEDIA_TYPE, ImportAnswer, JSON_MEDIA_TYPE, LookupRequest, PROVIDER_MEDIA_TYPE,
        ProviderKeyView,
    },
    httpsig::{self, Request},
};

/// Most bytes in a DP's list of one domain's keys: in each of four roles 64 of them, 600 bytes each, or fewer and longer ones.
const OWN_KEYS_BYTES_MAX: usize = 160 << 10;
/// Most bytes in the answer to an import: 128 for each item.
const IMPORT_ANSWER_BYTES_MAX: usize = 128 * IMPORT_ITEMS_MAX + 128;

/// A DP, as a provider calls it. Keys come with each call: they are rotated.
#[derive(Clone, Debug)]
pub struct ProviderClient {
    line: Line,
    domain: Domain,
}

impl ProviderClient {
    /// The DP at this URL, whose log has this origin, called by the provider of this domain.
    pub fn new(fetcher: Fetcher, url: &str, origin: Origin, clock: Clock, domain: Domain) -> Self {
        Self { line: Line::new(fetcher, url, origin, clock), domain }
    }

    /// Who calls.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The DP's log.
    pub const fn origin(&self) -> &Origin {
        &self.line.origin
    }

    /// The time by which requests are signed.
    pub fn now(&self) -> UnixMillis {
        self.line.clock.now()
    }

    /// Our own keys in a role, as the DP says they are: enough to sign the next entry over, which counts only if it is so. `None` if
    /// it knows none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn leaf(&self, role: ProviderRole) -> Result<Option<ProviderLeaf>, ClientError> {
        let url = format!("{}/v1/providers?domain={}", self.line.url, self.domain);
        let body = success(self.line.fetcher.get(&url, OWN_KEYS_BYTES_MAX).await?)?;
        let malformed = || ClientError::Malformed("the list of providers".to_owned());
        let views: Vec<ProviderKeyView> = parse_json(&body).map_err(|_| malformed())?;
        let own = |v: &&ProviderKeyView| v.domain == self.domain.as_str() && ProviderRole::parse(&v.role) == Some(role);
        let own: Vec<&ProviderKeyView> = views.iter().filter(own).collect();
        let Some(revision) = own.first().map(|v| v.revision) else { return Ok(None) };
        let keys: Option<Vec<ProviderKey>> = own.into_iter().map(key_of).collect();
        let keys = keys.and_then(List24::new).ok_or_else(malformed)?;
        Ok(Some(ProviderLeaf { role, domain: self.domain.clone(), revision, keys }))
    }

    /// Hands an entry in that a valid key of ours has signed. It will be logged with the next batch.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn submit(&self, entry: &Provider) -> Result<(), ClientError> {
        let (url, body) = (format!("{}/v1/providers", self.line.url), Entry::Provider(entry.clone()).encode());
        success(self.line.fetcher.post(&url, PROVIDER_MEDIA_TYPE, &[], body, PROBLEM_BYTES_MAX).await?).map(drop)
    }

    /// Hands changes in, as [`crate::api::join_import`] puts them together, and waits until they are published or not.
    ///
    /// # Errors
    /// [`ClientError`]; whether the changes were made is then not known. The same changes may be handed in again.
    pub async fn import(&self, secret: &SecretKey, body: Vec<u8>) -> Result<ImportAnswer, ClientError> {
        let answer = self.post(secret, "/v1/imports", IMPORT_MEDIA_TYPE, body, IMPORT_ANSWER_BYTES_MAX).await?;
        parse_json(&success(answer)?)
    }

    /// Looks up for a user: whatever the DP answers.
    ///
    /// # Errors
    /// [`FetchError`]; a status is not an error.
    pub async fn relay(&self, secret: &SecretKey, request: &LookupRequest) -> Result<Fetched, FetchError> {
        // A struct of two strings always has a JSON form.
        let body = serde_json::to_vec(request).unwrap_or_default();
        self.post(secret, "/v1/lookups", JSON_MEDIA_TYPE, body, ANSWER_SIZES[ANSWER_SIZES.len() - 1]).await
    }

    async fn post(
        &self,
        secret: &SecretKey,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Fetched, FetchError> {
        let Line { fetcher, url, origin, clock } = &self.line;
        let request = Request { method: "POST", path, media_type };
        let (created, nonce) = (clock.now().floor_seconds(), random::bytes());
        let headers = httpsig::sign(origin, (&self.domain, secret), request, &body, created, nonce);
        fetcher.post(&format!("{url}{path}"), media_type, &headers, body, bytes_max).await
    }
}

fn key_of(view: &ProviderKeyView) -> Option<ProviderKey> {
    Some(ProviderKey {
        class: view.class,
        publishes: Flag(view.publishes),
        key: AnyKey::from_hex(&view.key)?,
        due: UnixMillis::new(view.due_ms),
        retired: UnixMillis::new(view.retired_ms),
    })
}
