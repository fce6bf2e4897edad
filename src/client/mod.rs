//! What senders and recipients run: look-ups with facts, recipients' apps, log tools. Everything a DP says is checked here by
//! the pure judgement of [`waymark_mapping::verify`] and [`waymark_mapping::receipt`] before anybody acts on it.
//!
//! | module | what it does |
//! |---|---|
//! | [`dp`] | the calls to a DP, typed; nothing is believed yet |
//! | [`recipient`] | a recipient's app: keys, mappings, changes, receipts, watch-lists |
//! | [`statement`] | what an MSP, a CSIP or the DP says about a mapping, in its own role |
//! | [`msp`] | asking an MSP for its consent, its watch, what it saw, and to look up |
//! | [`provider`] | an MSP's own calls to a DP, signed as RFC 9421 says |
//! | [`import`] | handing over many changes, resumable |
//! | [`card`] | facts in words and in JSON |
//! | [`choose`], [`policy`], [`sticky`] | which mapping a sender uses, what it asks of the facts, what it remembers |
//! | [`key_text`] | a recipient key compared without the DP: text and QR code |
//! | [`mask`] | identifiers on a screen |
//! | [`saved`] | an answer kept in a file, to be verified offline |
//! | [`memory`] | what an app remembers of a log, and how the log shows that it is still the same one |
//! | [`logs`] | reading any C2SP log: head, entry, consistency |

pub mod card;
pub mod choose;
pub mod dp;
pub mod import;
pub mod key_text;
pub mod logs;
pub mod mask;
pub mod memory;
pub mod msp;
pub mod policy;
pub mod provider;
pub mod recipient;
pub mod renewal;
pub mod saved;
pub mod statement;
pub mod sticky;

use serde::de::DeserializeOwned;
use serde_json::Value;
use waymark_log::{checkpoint::Origin, key::SecretKey};
use waymark_runtime::{
    clock::Clock,
    fetch::{FetchError, Fetched, Fetcher},
    random,
    screen::OneLine,
};

use crate::api::{RECIPIENT_HEADER, RequestSignature};

/// Why something could not be had from a server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The network.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The server refused, with a code and what to do.
    #[error("refused ({status} {}): {}", OneLine(.code), OneLine(.detail))]
    Refused {
        /// The status.
        status: u16,
        /// The stable code.
        code: String,
        /// What to do.
        detail: String,
        /// After how many seconds to try again, if that can help.
        retry_after_s: Option<u64>,
    },
    /// The server's answer does not have the form.
    #[error("the server's answer does not have the form: {}", OneLine(.0))]
    Malformed(String),
}

impl ClientError {
    /// The stable code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// Most bytes in a problem, and so in an answer that says nothing else.
const PROBLEM_BYTES_MAX: usize = 4096;

/// What a recipient's app speaks with: where to, for which log, by which clock.
#[derive(Clone, Debug)]
struct Line {
    fetcher: Fetcher,
    url: String,
    origin: Origin,
    clock: Clock,
}

impl Line {
    fn new(fetcher: Fetcher, url: &str, origin: Origin, clock: Clock) -> Self {
        Self { fetcher, url: url.trim_end_matches('/').to_owned(), origin, clock }
    }

    /// Posts a request that is signed with a recipient key.
    async fn post_signed(
        &self,
        secret: &SecretKey,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, ClientError> {
        let (time, nonce) = (self.clock.now(), random::bytes());
        let signature = RequestSignature::sign(&self.origin, secret, ("POST", path), &body, time, nonce);
        let headers = [(RECIPIENT_HEADER, signature.format())];
        let url = format!("{}{path}", self.url);
        success(self.fetcher.post(&url, media_type, &headers, body, bytes_max).await?)
    }
}

/// Reads a server's JSON. Texts in it are shown to people, so each is of one line and without control characters.
///
/// # Errors
/// [`ClientError::Malformed`].
fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    let malformed = |error: serde_json::Error| ClientError::Malformed(error.to_string());
    let value: Value = serde_json::from_slice(body).map_err(malformed)?;
    if has_control(&value) {
        return Err(ClientError::Malformed("a text in it has control characters".to_owned()));
    }
    serde_json::from_slice(body).map_err(malformed)
}

/// Whether any text in it, names included, has a control character or a separator of lines.
fn has_control(value: &Value) -> bool {
    let in_text = |text: &str| text.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
    match value {
        Value::String(text) => in_text(text),
        Value::Array(values) => values.iter().any(has_control),
        Value::Object(fields) => fields.iter().any(|(name, value)| in_text(name) || has_control(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The answer if it is a success, else the problem it tells.
fn success(fetched: Fetched) -> Result<Vec<u8>, ClientError> {
    if fetched.is_success() {
        return Ok(fetched.body);
    }
    let problem: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(|v| v.as_str()).unwrap_or("unknown").to_owned();
    let retry_after_s = problem.get("retry_after").and_then(Value::as_u64);
    Err(ClientError::Refused { status: fetched.status, code: text("code"), detail: text("detail"), retry_after_s })
}
