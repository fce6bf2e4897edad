//! The Reassigned Numbers Database of the FCC (reassigned.us): numbers of the United States that were permanently disconnected.
//!
//! ```text
//! POST <url>/b/public/api/idToken    {"refreshToken": "..."}                          200 {"idToken": "..."}
//! POST <url>/api/tn                  Authorization: <idToken>
//!   {"tnList": [{"tn": "2025550123", "date": "2026-01-31", "companyId": "..."}]}
//!   200 {"replies": [{"tn": "2025550123", "disconnected": "yes" | "no" | "no_data", ...}]}
//! ```
//!
//! The database answers yes if the number was disconnected on the day or later, no if it knows that it was not, and no data for days
//! before the records of a number begin (27 January 2021 at the earliest). Its interface is described to subscribers only; what
//! stands above is what public clients of it send and read. A number travels in a body here too.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use waymark_runtime::fetch::{Fetched, Fetcher};
use zeroize::Zeroizing;

use super::{Answered, FEED_BYTES_MAX, Feed, FeedError, Recycled, TokenBox, is_token, read_json, status};

/// The numbers that can be in it.
pub const COUNTRY: &str = "+1";
/// Digits of a number after the country code.
const NATIONAL_DIGITS: usize = 10;
/// How long an idToken is good, milliseconds: the issuer does not say.
const TOKEN_MS: u64 = 3600 * 1000;
const JSON: &str = "application/json";

/// The client.
pub struct Fcc {
    fetcher: Fetcher,
    url: String,
    company_id: String,
    refresh_token: Zeroizing<String>,
    token: TokenBox,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refresh<'a> {
    refresh_token: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdToken {
    id_token: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Query<'a> {
    tn_list: [Asked<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    tn: &'a str,
    date: String,
    company_id: &'a str,
}

#[derive(Deserialize)]
struct Replies {
    replies: Vec<Reply>,
}

#[derive(Deserialize)]
struct Reply {
    tn: String,
    disconnected: String,
}

impl Fcc {
    /// A client with these credentials.
    pub fn new(fetcher: Fetcher, url: &str, company_id: &str, refresh_token: Zeroizing<String>) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self { fetcher, url, company_id: company_id.to_owned(), refresh_token, token: TokenBox::default() }
    }

    async fn post(&self, path: &str, token: Option<&str>, body: &impl Serialize) -> Result<Fetched, FeedError> {
        let body = serde_json::to_vec(body).map_err(|_| FeedError::Day)?;
        let mut headers = vec![("accept", JSON.to_owned())];
        headers.extend(token.map(|t| ("authorization", t.to_owned())));
        Ok(self.fetcher.post(&format!("{}{path}", self.url), JSON, &headers, body, FEED_BYTES_MAX).await?)
    }

    async fn new_token(&self) -> Result<(Zeroizing<String>, u64), FeedError> {
        let fetched = self.post("/b/public/api/idToken", None, &Refresh { refresh_token: &self.refresh_token }).await?;
        if fetched.status != 200 {
            return Err(status(&fetched));
        }
        let IdToken { id_token } = read_json(&fetched)?;
        let token = Zeroizing::new(id_token);
        if is_token(&token) { Ok((token, TOKEN_MS)) } else { Err(FeedError::Garbage("not an idToken")) }
    }

    async fn ask(&self, number: &str, day: Date) -> Result<Recycled, FeedError> {
        let national = number.strip_prefix(COUNTRY).filter(|n| n.len() == NATIONAL_DIGITS);
        // No number of the North American plan: nothing is known of it there.
        let Some(tn) = national else { return Ok(Recycled::Unknown) };
        let query = Query { tn_list: [Asked { tn, date: day.to_string(), company_id: &self.company_id }] };
        let token = self.token.get(self.new_token()).await?;
        let mut fetched = self.post("/api/tn", Some(&token), &query).await?;
        if fetched.status == 401 {
            // It may have ended early: once more with another one.
            self.token.forget(&token).await;
            let token = self.token.get(self.new_token()).await?;
            fetched = self.post("/api/tn", Some(&token), &query).await?;
        }
        read(&fetched, tn)
    }
}

/// What an answer says of this number; an answer about another one says nothing.
fn read(fetched: &Fetched, tn: &str) -> Result<Recycled, FeedError> {
    if fetched.status != 200 {
        return Err(status(fetched));
    }
    let Replies { replies } = read_json(fetched)?;
    let [reply] = &replies[..] else { return Err(FeedError::Garbage("not one reply")) };
    if reply.tn != tn {
        return Err(FeedError::Garbage("a reply about another number"));
    }
    match reply.disconnected.to_ascii_lowercase().as_str() {
        "yes" => Ok(Recycled::Yes),
        "no" => Ok(Recycled::No),
        "no_data" => Ok(Recycled::Unknown),
        _ => Err(FeedError::Garbage("neither yes, no nor no_data")),
    }
}

impl Feed for Fcc {
    fn recycled_since<'a>(&'a self, number: &'a str, day: Date) -> Answered<'a> {
        Box::pin(self.ask(number, day))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_is_not_an_error_and_an_error_is_not_absence() {
        let said = |status, body: &str| {
            read(
                &Fetched { status, media_type: JSON.to_owned(), body: body.as_bytes().to_vec(), ..Fetched::default() },
                "2025550123",
            )
        };
        let reply =
            |word: &str| format!(r#"{{"replies": [{{"tn": "2025550123", "disconnected": "{word}", "x": 1}}]}}"#);
        assert_eq!(said(200, &reply("yes")).unwrap(), Recycled::Yes);
        assert_eq!(said(200, &reply("no")).unwrap(), Recycled::No);
        assert_eq!(said(200, &reply("no_data")).unwrap(), Recycled::Unknown);
        let other = reply("yes").replace("0123", "0124");
        let two = reply("yes").replace("}]", r#"}, {"tn": "2025550123", "disconnected": "no"}]"#);
        for body in ["", "{}", r#"{"replies": []}"#, &reply(""), &reply("maybe"), &other, &two] {
            assert!(matches!(said(200, body), Err(FeedError::Garbage(_))), "{body}");
        }
        assert!(matches!(said(404, &reply("no")), Err(FeedError::Status(404))));
        assert!(matches!(said(403, ""), Err(FeedError::Refused(403))));
    }
}
