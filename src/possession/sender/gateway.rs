//! Codes by SMS and voice, through somebody's HTTP gateway.
//!
//! ```text
//! POST <url>
//! content-type: application/json
//! webhook-id: <challenge, hex>-<send>           the same for every try of one message: the gateway sends it once
//! webhook-timestamp: <seconds since 1970>
//! webhook-signature: v1,<base64 of HMAC-SHA256(key, "<id>.<timestamp>.<body>")>
//!
//! {"to": "+4915112345678", "channel": "sms"|"voice", "text": "..."}
//! ```
//!
//! The headers are those of Standard Webhooks; the key is the 32 bytes in the key file. Any 2xx means taken. No connection, no
//! answer in time, 408, 429 and 5xx are tried again for as long as the code works ([`crate::possession::outbox`]); anything else is
//! final.

use std::{net::IpAddr, time::Duration};

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use waymark_mapping::mapping::Method;
use waymark_runtime::{
    clock::Clock,
    fetch::{ExtraRoots, Fetcher},
};
use zeroize::Zeroizing;

use super::{Channel, Delivery, Message, Sender, SenderError};
use crate::possession::message;

/// Longest that the gateway may take to answer unless said otherwise.
const TIMEOUT_MS_DEFAULT: u32 = 10_000;
/// Longest that may be configured: a code works for ten minutes.
const TIMEOUT_MS_MAX: u32 = 60_000;
/// Most bytes of the gateway's answer, which is not read further than its status.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// `[codes.gateway]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayFile {
    /// Where messages are posted: https, or http to a loopback address.
    pub url: String,
    /// The key that requests are signed with, 64 hex digits in a file of mode 0600, relative to the data folder.
    pub key_file: String,
    /// Longest that one answer may take, milliseconds. Default 10000.
    #[serde(default = "timeout_default")]
    pub timeout_ms: u32,
}

fn timeout_default() -> u32 {
    TIMEOUT_MS_DEFAULT
}

impl GatewayFile {
    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// What to mend.
    pub fn check(&self) -> Result<(), String> {
        if !is_https_or_loopback(&self.url) {
            return Err("gateway: url is https, or http to a loopback address".to_owned());
        }
        if !(1..=TIMEOUT_MS_MAX).contains(&self.timeout_ms) {
            return Err(format!("gateway: timeout_ms is 1 to {TIMEOUT_MS_MAX}"));
        }
        Ok(())
    }
}

/// Whether what is sent to a URL cannot be read on the way: https, or http that stays on this machine.
pub fn is_https_or_loopback(url: &str) -> bool {
    if let Some(rest) = url.strip_prefix("https://") {
        return !rest.is_empty();
    }
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // `127.0.0.1@elsewhere` is elsewhere.
    if authority.contains('@') {
        return false;
    }
    let host = match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An SMS and voice gateway.
pub struct Gateway {
    file: GatewayFile,
    key: Zeroizing<[u8; 32]>,
    fetcher: Fetcher,
    clock: Clock,
}

#[derive(Serialize)]
struct Posted<'a> {
    to: &'a str,
    channel: Channel,
    text: String,
}

impl Gateway {
    /// The gateway of a configuration.
    pub fn new(file: GatewayFile, key: Zeroizing<[u8; 32]>, roots: &ExtraRoots, clock: Clock) -> Self {
        let fetcher = Fetcher::with_roots(Duration::from_millis(u64::from(file.timeout_ms)), roots);
        Self { file, key, fetcher, clock }
    }

    async fn hand_over(&self, m: &Message) -> Result<(), SenderError> {
        let failed = |what, is_final| SenderError { sender: "gateway", what, is_final };
        if m.expiry <= self.clock.now() {
            return Err(failed("the gateway was too slow for the code to work still", true));
        }
        let to = m.to.expose().strip_prefix("tel:").ok_or_else(|| failed("not a phone number", true))?;
        let text = if m.channel == Channel::Voice { message::voice(m) } else { message::sms(m) };
        let body = serde_json::to_vec(&Posted { to, channel: m.channel, text });
        let body = body.map_err(|_| failed("the message cannot be written as JSON", true))?;
        let id = format!("{}-{}", HEXLOWER.encode(&m.id), m.send);
        match self.post(&id, &body).await {
            Some(200..=299) => Ok(()),
            None | Some(408 | 429 | 500..=599) => Err(failed("the gateway takes no message now", false)),
            Some(_) => Err(failed("the gateway refuses the message", true)),
        }
    }

    /// One try: the status, `None` if there is no answer.
    async fn post(&self, id: &str, body: &[u8]) -> Option<u16> {
        let timestamp = (self.clock.now().get() / 1000).to_string();
        let signature = sign(&self.key, id, &timestamp, body);
        let headers =
            [("webhook-id", id.to_owned()), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
        let answer = self.fetcher.post(&self.file.url, "application/json", &headers, body.to_vec(), ANSWER_BYTES_MAX);
        answer.await.ok().map(|fetched| fetched.status)
    }
}

/// The value of `webhook-signature`.
///
/// # Panics
/// Never: HMAC takes a key of any length.
pub fn sign(key: &[u8; 32], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
}

impl Sender for Gateway {
    fn deliver<'a>(&'a self, message: &'a Message) -> Delivery<'a> {
        Box::pin(self.hand_over(message))
    }

    fn method(&self, channel: Channel) -> Method {
        if channel == Channel::Voice { Method::VOICE } else { Method::SMS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for good in ["https://gateway.example/x", "http://127.0.0.1:1/x", "http://127.9.9.9", "http://[::1]:80/"] {
            assert!(is_https_or_loopback(good), "{good}");
        }
        let beyond = "http://127.0.0.1@gateway.example/";
        for bad in
            ["http://gateway.example", "http://192.0.2.1", beyond, "http://127.0.0.1.example", "ftp://x", "https://"]
        {
            assert!(!is_https_or_loopback(bad), "{bad}");
        }
    }

    /// Computed with Python's hmac module.
    #[test]
    fn the_signature_is_that_of_standard_webhooks() {
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        let signature = sign(&key, "msg_1", "1700000000", br#"{"test": 1}"#);
        assert_eq!(signature, "v1,LROpUCOUDQY+qMnEhW5FCglfTcNzxMlFsGpUt95zgKk=");
    }
}
