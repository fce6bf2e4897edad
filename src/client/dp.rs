//! The calls to a DP. What comes back is typed and not yet believed.

use data_encoding::BASE64;
use serde::{Serialize, de::DeserializeOwned};
use waymark_log::{checkpoint::Origin, key::SecretKey};
use waymark_mapping::{
    answer::{ANSWER_SIZES, Pasts, RECEIPT_BYTES_MAX, Receipt},
    event::{ANY_VERSION, Event},
    identifier::Csi,
    mapping::{Attestation, Purpose},
    names::Tag,
    wire::{decode, encode},
};
use waymark_runtime::{clock::Clock, fetch::Fetcher, follow::LogReader};

use super::{ClientError, Line, PROBLEM_BYTES_MAX, parse_json, success};
use crate::{
    api::{
        CHANGE_MEDIA_TYPE, ChangeRequest, EVENT_MEDIA_TYPE, ExportRequest, HINT_BYTES, HINT_MEDIA_TYPE,
        HISTORY_MEDIA_TYPE, Hint, HistoryRequest, JSON_MEDIA_TYPE, LookupRequest,
        challenges::{ChallengeAnswer, ChallengeRequest, CheckAnswer, CheckRequest, SendRequest},
    },
    possession::{outbox::Progress, sender::Channel},
};

/// Most bytes in an export: 256 versions of 16 full mappings.
const EXPORT_BYTES_MAX: usize = 64 << 20;
/// Most bytes in a JSON answer.
const JSON_ANSWER_BYTES_MAX: usize = 64 << 10;

/// A DP, as an app calls it; for challenges, an independent prover as well.
#[derive(Clone, Debug)]
pub struct DpClient(Line);

fn challenge_request(
    csi: &Csi,
    tenure: u32,
    purpose: Purpose,
    channel: Option<Channel>,
    incoming: bool,
) -> ChallengeRequest {
    let purpose = match purpose {
        Purpose::Control => "control",
        Purpose::View => "view",
    };
    ChallengeRequest { csi: csi.expose().to_owned(), tenure, purpose: purpose.to_owned(), channel, incoming }
}

impl DpClient {
    /// The DP at this URL, whose log has this origin.
    pub fn new(fetcher: Fetcher, url: &str, origin: Origin, clock: Clock) -> Self {
        Self(Line::new(fetcher, url, origin, clock))
    }

    /// Its log's origin.
    pub const fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Where its log is read, unless somebody knows a copy that does not see who looks people up.
    pub fn log(&self) -> LogReader {
        LogReader::new(self.0.fetcher.clone(), &format!("{}/log", self.0.url))
    }

    /// The time by which requests are signed and answers judged.
    pub const fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Looks a CSI up: the answer's bytes, to be verified.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn look_up(&self, csi: &Csi, tag: Option<&Tag>) -> Result<Vec<u8>, ClientError> {
        let request = LookupRequest::of(self.origin(), csi, tag, false);
        let longest = ANSWER_SIZES[ANSWER_SIZES.len() - 1];
        self.post_lookup(&request, &[], longest).await
    }

    /// Looks a CSI up with the proof of when each mapping was logged.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn look_up_full(&self, csi: &Csi, tag: Option<&Tag>) -> Result<Vec<u8>, ClientError> {
        let request = LookupRequest::of(self.origin(), csi, tag, true);
        let longest = ANSWER_SIZES[ANSWER_SIZES.len() - 1];
        self.post_lookup(&request, &[], longest).await
    }

    /// Asks for the DP's word, without proof. Nothing here verifies it, because nothing can.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn hint(&self, csi: &Csi, tag: Option<&Tag>) -> Result<Hint, ClientError> {
        let request = LookupRequest::of(self.origin(), csi, tag, false);
        let headers = [("accept", HINT_MEDIA_TYPE.to_owned())];
        let body = self.post_lookup(&request, &headers, HINT_BYTES.max(PROBLEM_BYTES_MAX)).await?;
        let hint: Hint = parse_json(&body)?;
        if hint.hint { Ok(hint) } else { Err(ClientError::Malformed("it is not marked as a hint".to_owned())) }
    }

    async fn post_lookup(
        &self,
        request: &LookupRequest,
        headers: &[(&str, String)],
        bytes_max: usize,
    ) -> Result<Vec<u8>, ClientError> {
        let body = serde_json::to_vec(request).map_err(|e| ClientError::Malformed(e.to_string()))?;
        let url = format!("{}/v1/lookups", self.0.url);
        success(self.0.fetcher.post(&url, JSON_MEDIA_TYPE, headers, body, bytes_max).await?)
    }

    /// Asks for a code to be sent to a CSI.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start_challenge(
        &self,
        secret: &SecretKey,
        csi: &Csi,
        tenure: u32,
        purpose: Purpose,
    ) -> Result<ChallengeAnswer, ClientError> {
        self.start_challenge_by(None, secret, csi, tenure, purpose).await
    }

    /// Asks for a code to be sent to a CSI by a channel.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start_challenge_by(
        &self,
        channel: Option<Channel>,
        secret: &SecretKey,
        csi: &Csi,
        tenure: u32,
        purpose: Purpose,
    ) -> Result<ChallengeAnswer, ClientError> {
        let request = challenge_request(csi, tenure, purpose, channel, false);
        self.post_json(secret, "/v1/challenges", &request).await
    }

    /// Asks for a challenge's code to be sent again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send_challenge(&self, secret: &SecretKey, id: &str) -> Result<ChallengeAnswer, ClientError> {
        self.post_json(secret, &format!("/v1/challenges/{id}/send"), &SendRequest {}).await
    }

    /// Starts a challenge that sends nothing: the answer says what the person has to send, and where to.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start_incoming(
        &self,
        channel: Option<Channel>,
        secret: &SecretKey,
        csi: &Csi,
        tenure: u32,
        purpose: Purpose,
    ) -> Result<ChallengeAnswer, ClientError> {
        let request = challenge_request(csi, tenure, purpose, channel, true);
        self.post_json(secret, "/v1/challenges", &request).await
    }

    /// Hands in a code: the attestation, or `None` if the code is wrong.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn check_challenge(
        &self,
        secret: &SecretKey,
        id: &str,
        code: &str,
    ) -> Result<Option<Attestation>, ClientError> {
        self.check(secret, id, CheckRequest { code: Some(code.to_owned()) }).await
    }

    /// Asks whether a challenge's link was opened: the attestation, or `None` if not yet.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn poll_challenge(&self, secret: &SecretKey, id: &str) -> Result<Option<Attestation>, ClientError> {
        self.check(secret, id, CheckRequest::default()).await
    }

    /// The same, and while there is no attestation how far the code has come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn poll_delivery(
        &self,
        secret: &SecretKey,
        id: &str,
    ) -> Result<(Option<Attestation>, Option<Progress>), ClientError> {
        self.ask(secret, id, CheckRequest::default()).await
    }

    async fn check(
        &self,
        secret: &SecretKey,
        id: &str,
        request: CheckRequest,
    ) -> Result<Option<Attestation>, ClientError> {
        self.ask(secret, id, request).await.map(|(attestation, _)| attestation)
    }

    async fn ask(
        &self,
        secret: &SecretKey,
        id: &str,
        request: CheckRequest,
    ) -> Result<(Option<Attestation>, Option<Progress>), ClientError> {
        let answer: CheckAnswer = self.post_json(secret, &format!("/v1/challenges/{id}/check"), &request).await?;
        let Some(encoded) = answer.attestation else { return Ok((None, answer.delivery)) };
        let bytes = BASE64.decode(encoded.as_bytes()).map_err(|e| ClientError::Malformed(e.to_string()))?;
        let attestation = decode("attestation", &bytes).map_err(|e| ClientError::Malformed(e.to_string()))?;
        Ok((Some(attestation), None))
    }

    async fn post_json<T: DeserializeOwned>(
        &self,
        secret: &SecretKey,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(request).map_err(|e| ClientError::Malformed(e.to_string()))?;
        let answer = self.0.post_signed(secret, path, JSON_MEDIA_TYPE, body, JSON_ANSWER_BYTES_MAX).await?;
        parse_json(&answer)
    }

    /// Asks for a change: its receipt, to be accepted or not.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change(&self, secret: &SecretKey, request: &ChangeRequest) -> Result<Receipt, ClientError> {
        let body = encode(request);
        let answer = self.0.post_signed(secret, "/v1/changes", CHANGE_MEDIA_TYPE, body, RECEIPT_BYTES_MAX).await?;
        Receipt::decode(&answer).map_err(|e| ClientError::Malformed(e.to_string()))
    }

    /// Hands in what a provider says: the answer that everybody sees afterwards, to be verified.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn state(&self, secret: &SecretKey, request: &ChangeRequest) -> Result<Vec<u8>, ClientError> {
        let longest = ANSWER_SIZES[ANSWER_SIZES.len() - 1];
        self.0.post_signed(secret, "/v1/changes", CHANGE_MEDIA_TYPE, encode(request), longest).await
    }

    /// The current record as the holder of a key may see it, to be opened.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn history(&self, secret: &SecretKey, csi: &Csi) -> Result<Receipt, ClientError> {
        let body = encode(&HistoryRequest { csi: csi.clone(), version: ANY_VERSION });
        let answer = self.0.post_signed(secret, "/v1/history", HISTORY_MEDIA_TYPE, body, RECEIPT_BYTES_MAX).await?;
        Receipt::decode(&answer).map_err(|e| ClientError::Malformed(e.to_string()))
    }

    /// Everything that is kept about a CSI, as far as the key may see it: JSON. A key without a mapping there shows possession.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn export(
        &self,
        secret: &SecretKey,
        csi: &Csi,
        possession: Option<&Attestation>,
    ) -> Result<Vec<u8>, ClientError> {
        let possession = possession.map(|p| BASE64.encode(&encode(p)));
        let request = ExportRequest { csi: csi.expose().to_owned(), possession };
        let body = serde_json::to_vec(&request).map_err(|e| ClientError::Malformed(e.to_string()))?;
        self.0.post_signed(secret, "/v1/exports", JSON_MEDIA_TYPE, body, EXPORT_BYTES_MAX).await
    }

    /// What happened from a version on downwards, a page of it, to be opened step by step.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn past(&self, secret: &SecretKey, csi: &Csi, version: u32) -> Result<Pasts, ClientError> {
        let body = encode(&HistoryRequest { csi: csi.clone(), version });
        let answer = self.0.post_signed(secret, "/v1/history", HISTORY_MEDIA_TYPE, body, RECEIPT_BYTES_MAX).await?;
        decode("page of history", &answer).map_err(|e| ClientError::Malformed(e.to_string()))
    }

    /// Hands in a revocation that was prepared in advance.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke(&self, token: &Event) -> Result<(), ClientError> {
        let url = format!("{}/v1/revocations", self.0.url);
        let answer = self.0.fetcher.post(&url, EVENT_MEDIA_TYPE, &[], encode(token), JSON_ANSWER_BYTES_MAX).await?;
        success(answer).map(|_| ())
    }
}
