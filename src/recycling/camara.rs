//! An operator's CAMARA Number Recycling API, version 0.2 (release r2.2).
//!
//! ```text
//! POST <token_url>      application/x-www-form-urlencoded, Authorization: Basic base64(id:secret)      RFC 6749, 2.3.1 and 4.4
//!   grant_type=client_credentials&scope=number-recycling:check
//!   200 {"access_token": "...", "token_type": "Bearer", "expires_in": 300}
//! POST <url>/check      application/json, Authorization: Bearer ..., x-correlator: <random>
//!   {"phoneNumber": "+4915112345678", "specifiedDate": "2026-01-31"}
//!   200 {"phoneNumberRecycled": true}                                     a change after that day
//!   400 OUT_OF_RANGE, 404 IDENTIFIER_NOT_FOUND, 422 SERVICE_NOT_APPLICABLE: the operator does not know
//! ```
//!
//! "When the API is invoked using a two-legged access token, the `phoneNumber` field MUST be provided": so it is here. Operators that ask
//! for a signed assertion (`private_key_jwt`) in place of a client secret are not served.

use data_encoding::{BASE64, HEXLOWER};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use waymark_runtime::{
    fetch::{Fetched, Fetcher},
    random,
};
use zeroize::Zeroizing;

use super::{Answered, FEED_BYTES_MAX, Feed, FeedError, Recycled, TokenBox, is_token, read_json, status};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
/// What is asked of the authorisation server.
const GRANT: &str = "grant_type=client_credentials&scope=number-recycling%3Acheck";
/// How long a token is good whose issuer does not say, milliseconds.
const TOKEN_MS_DEFAULT: u64 = 60_000;
/// What an operator says of a number or a day that it knows nothing about, with the status that goes with it.
const DOES_NOT_KNOW: [(u16, &str); 3] =
    [(400, "OUT_OF_RANGE"), (404, "IDENTIFIER_NOT_FOUND"), (422, "SERVICE_NOT_APPLICABLE")];

/// The client.
pub struct Camara {
    fetcher: Fetcher,
    check_url: String,
    token_url: String,
    /// The value of the header that says who we are.
    basic: Zeroizing<String>,
    token: TokenBox,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Check<'a> {
    phone_number: &'a str,
    specified_date: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    phone_number_recycled: bool,
}

#[derive(Deserialize)]
struct ErrorInfo {
    code: String,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
}

impl Camara {
    /// A client with these credentials.
    pub fn new(fetcher: Fetcher, url: &str, token_url: &str, client_id: &str, secret: Zeroizing<String>) -> Self {
        let pair = Zeroizing::new(format!("{}:{}", *form(client_id), *form(&secret)));
        let basic = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
        let check_url = format!("{}/check", url.trim_end_matches('/'));
        Self { fetcher, check_url, token_url: token_url.to_owned(), basic, token: TokenBox::default() }
    }

    async fn new_token(&self) -> Result<(Zeroizing<String>, u64), FeedError> {
        let headers = [("authorization", self.basic.to_string()), ("accept", JSON.to_owned())];
        let body = GRANT.as_bytes().to_vec();
        let fetched = self.fetcher.post(&self.token_url, FORM, &headers, body, FEED_BYTES_MAX).await?;
        // RFC 6749 5.2: credentials that are not good get 400 or 401.
        match fetched.status {
            200 => {}
            400 => return Err(FeedError::Refused(400)),
            _ => return Err(status(&fetched)),
        }
        let Token { access_token, token_type, expires_in } = read_json(&fetched)?;
        let token = Zeroizing::new(access_token);
        if !token_type.eq_ignore_ascii_case("bearer") || !is_token(&token) {
            return Err(FeedError::Garbage("not a bearer token"));
        }
        Ok((token, expires_in.map_or(TOKEN_MS_DEFAULT, |s| s.saturating_mul(1000))))
    }

    async fn check(&self, token: &str, number: &str, day: Date) -> Result<Fetched, FeedError> {
        let body = Check { phone_number: number, specified_date: day.to_string() };
        let body = serde_json::to_vec(&body).map_err(|_| FeedError::Day)?;
        let headers = [
            ("authorization", format!("Bearer {token}")),
            ("accept", JSON.to_owned()),
            ("x-correlator", HEXLOWER.encode(&random::bytes::<16>())),
        ];
        Ok(self.fetcher.post(&self.check_url, JSON, &headers, body, FEED_BYTES_MAX).await?)
    }

    async fn ask(&self, number: &str, day: Date) -> Result<Recycled, FeedError> {
        let token = self.token.get(self.new_token()).await?;
        let mut fetched = self.check(&token, number, day).await?;
        if fetched.status == 401 {
            // It may have ended early: once more with another one.
            self.token.forget(&token).await;
            let token = self.token.get(self.new_token()).await?;
            fetched = self.check(&token, number, day).await?;
        }
        read(&fetched)
    }
}

/// What an answer says.
fn read(fetched: &Fetched) -> Result<Recycled, FeedError> {
    if fetched.status == 200 {
        let checked: Checked = read_json(fetched)?;
        return Ok(if checked.phone_number_recycled { Recycled::Yes } else { Recycled::No });
    }
    // The same status without the code that goes with it is some proxy's word, not the operator's.
    let code = serde_json::from_slice::<ErrorInfo>(&fetched.body).map(|e| e.code).unwrap_or_default();
    if DOES_NOT_KNOW.contains(&(fetched.status, code.as_str())) {
        return Ok(Recycled::Unknown);
    }
    Err(status(fetched))
}

/// As RFC 6749 2.3.1 has client id and secret encoded before they are put together.
fn form(text: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(text.len() * 3));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl Feed for Camara {
    fn recycled_since<'a>(&'a self, number: &'a str, day: Date) -> Answered<'a> {
        Box::pin(self.ask(number, day))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(status: u16, body: &str) -> Fetched {
        Fetched { status, media_type: JSON.to_owned(), body: body.as_bytes().to_vec(), ..Fetched::default() }
    }

    #[test]
    fn absence_is_not_an_error_and_an_error_is_not_absence() {
        let said = |status, body| read(&fetched(status, body));
        assert_eq!(said(200, r#"{"phoneNumberRecycled": true}"#).unwrap(), Recycled::Yes);
        assert_eq!(said(200, r#"{"phoneNumberRecycled": false, "more": 1}"#).unwrap(), Recycled::No);
        assert_eq!(said(404, r#"{"status": 404, "code": "IDENTIFIER_NOT_FOUND"}"#).unwrap(), Recycled::Unknown);
        assert_eq!(said(422, r#"{"code": "SERVICE_NOT_APPLICABLE"}"#).unwrap(), Recycled::Unknown);
        assert_eq!(said(400, r#"{"code": "OUT_OF_RANGE"}"#).unwrap(), Recycled::Unknown);
        for body in ["", "{}", r#"{"phoneNumberRecycled": "true"}"#, r#"{"phoneNumChanged": true}"#, "null", "[true]"] {
            assert!(matches!(said(200, body), Err(FeedError::Garbage(_))), "{body}");
        }
        for (status, body) in [
            (404, "not found"),
            (404, r#"{"code": "NOT_FOUND"}"#),
            (422, r#"{"code": "MISSING_IDENTIFIER"}"#),
            (400, r#"{"code": "INVALID_ARGUMENT"}"#),
            (500, r#"{"code": "IDENTIFIER_NOT_FOUND"}"#),
            (204, ""),
            (302, ""),
        ] {
            assert!(matches!(said(status, body), Err(FeedError::Status(s)) if s == status), "{status} {body}");
        }
        assert!(matches!(said(403, "{}"), Err(FeedError::Refused(403))));
    }

    #[test]
    fn credentials_are_encoded_before_they_are_joined() {
        assert_eq!(form("a b:c+é").as_str(), "a%20b%3Ac%2B%C3%A9");
    }
}
