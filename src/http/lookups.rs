//! POST /v1/lookups: who can be reached where, in the form that the asker accepts.
//!
//! | `Accept` | answer |
//! |---|---|
//! | nothing, or anything not named here | the padded answer, `application/vnd.waymark.answer` |
//! | `application/json` | `{"answer": base64 of the padded answer}` |
//! | `application/vnd.waymark.hint+json` | a [`Hint`]: the DP's word, no proof, 1,024 bytes whatever it says |

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Response, StatusCode, Uri, header},
};
use data_encoding::BASE64;
use waymark_log::time::UnixMillis;
use waymark_mapping::{
    answer::ANSWER_MEDIA_TYPE,
    entry::ProviderRole,
    mapping::Mapping,
    names::{Domain, Tag},
    record::{RecordState, SlotStatus},
    verify::Outcome,
};
use waymark_runtime::{
    listen::Peer,
    problem::{self, Problem},
};

use super::{
    App,
    error::{self, OTHER_LOG, TAG_INVALID},
    v1::{Bytes, binary, json, parse_csi, parse_json, take_slot},
};
use crate::{
    api::{
        AnswerJson, HINT_BYTES, HINT_MEDIA_TYPE, Hint, JSON_BYTES_MAX, JSON_MEDIA_TYPE, LookupRequest, outcome_code,
    },
    httpsig,
    row::Row,
};

/// Most entries of an `Accept` header that are read.
const ACCEPTED_MAX: usize = 16;

/// The forms of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Binary,
    Json,
    Hint,
}

/// POST /v1/lookups
pub async fn look_up(
    State(app): State<Arc<App>>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes<JSON_BYTES_MAX>,
) -> Result<Response<Body>, Problem> {
    // An MSP that relays for its users has a ceiling of its own; its address is everybody's there.
    let relayed = httpsig::is_claimed(&headers);
    let relay = relayed.then(|| app.authenticate_provider(peer.ip(), &headers, &uri, ProviderRole::MSP)).transpose();
    // Who only says that it is an MSP is a stranger.
    let relay = relay.or_else(|refused| app.count_request(peer.ip()).and(Err(refused)))?;
    match &relay {
        Some(msp) => app.count_relayed(&msp.domain).and_then(|()| app.take_nonce(msp))?,
        None => app.count_look_up(peer.ip())?,
    }
    let _slot = take_slot(&app.lookup_slots)?;
    problem::check_media_type(&headers, JSON_MEDIA_TYPE)?;
    let body = body?.0;
    relay.map_or(Ok(()), |msp| msp.check_body(&body)).map_err(error::request_signature)?;
    let request: LookupRequest = parse_json(&body)?;
    // "The question names the log": whoever carries it to the wrong one is told, before anything is looked up.
    if request.log != app.origin.as_str() {
        return Err(Problem::new(OTHER_LOG, "The log here is named in /.well-known/waymark."));
    }
    let csi = parse_csi(&request.csi)?;
    let tag = request.tag.as_deref().map(parse_tag).transpose()?;
    let form = accepted(&headers);
    if form == Form::Hint {
        let latest = app.answering.latest(&csi).map_err(|e| error::answer(&e))?;
        let hint = hint(latest.as_ref().map(|l| &l.row), tag.as_ref(), app.clock.now());
        return Ok(binary(HINT_MEDIA_TYPE, padded(hint)));
    }
    let answer = app.answering.look_up(&csi, tag.as_ref(), request.full).map_err(|e| error::answer(&e))?;
    Ok(match form {
        Form::Json => json(StatusCode::OK, &AnswerJson { answer: BASE64.encode(&answer) }),
        Form::Binary | Form::Hint => binary(ANSWER_MEDIA_TYPE, answer),
    })
}

fn parse_tag(text: &str) -> Result<Tag, Problem> {
    const WHAT: &str = "A tag is 1 to 64 bytes in NFC: words with single spaces between them, no invisible characters.";
    Tag::parse(text).ok_or_else(|| Problem::new(TAG_INVALID, WHAT))
}

/// The form that is liked best of those we have, the first of equals. What we do not know is passed over, wildcards too: the
/// binary form is what there was before there was a choice.
fn accepted(headers: &HeaderMap) -> Form {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let items = values.flat_map(|v| v.split(',')).take(ACCEPTED_MAX);
    let mut best = (0.0, Form::Binary);
    for item in items {
        let mut parts = item.split(';').map(str::trim);
        let form = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            ANSWER_MEDIA_TYPE => Form::Binary,
            JSON_MEDIA_TYPE => Form::Json,
            HINT_MEDIA_TYPE => Form::Hint,
            _ => continue,
        };
        let quality = parts.find_map(|p| p.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        if quality > best.0 {
            best = (quality, form);
        }
    }
    best.1
}

/// What the DP believes of a row, without a word of proof.
fn hint(row: Option<&Row>, tag: Option<&Tag>, now: UnixMillis) -> Hint {
    let (mut msps, mut opted_out) = (BTreeSet::new(), false);
    let state = row.map(Row::state);
    let held = state.iter().flat_map(|s| &s.held);
    for held in held.filter(|h| h.standing.status != SlotStatus::Unserved && is_shown(&h.mapping, tag)) {
        match held.mapping.msp.get() {
            Some(msp) => {
                if held.mapping.is_valid_at(now) {
                    msps.insert(msp);
                }
            }
            None => opted_out |= now < held.mapping.not_after,
        }
    }
    let outcome = match &state {
        None => Outcome::Absent,
        Some(state) if state.state == RecordState::Erased => Outcome::Erased,
        Some(_) if !msps.is_empty() => Outcome::Listed,
        Some(_) if opted_out => Outcome::OptedOut,
        Some(_) => Outcome::NoneListed,
    };
    Hint {
        hint: true,
        must_verify: ANSWER_MEDIA_TYPE.to_owned(),
        outcome: outcome_code(outcome).to_owned(),
        msps: msps.iter().map(Domain::to_string).collect(),
        more: false,
    }
}

/// As in an answer: what is visible, and what the presented tag opens.
fn is_shown(mapping: &Mapping, tag: Option<&Tag>) -> bool {
    mapping.tags.as_exact().is_none_or(|exact| Some(exact) == tag)
}

/// The hint as JSON with blanks behind it, always of the same size. MSPs that do not fit are left out, and that is said.
fn padded(mut hint: Hint) -> Vec<u8> {
    loop {
        let mut bytes = serde_json::to_vec(&hint).unwrap_or_default();
        if bytes.len() <= HINT_BYTES || hint.msps.pop().is_none() {
            bytes.resize(HINT_BYTES, b' ');
            return bytes;
        }
        hint.more = true;
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_form_that_is_liked_best() {
        let form = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(value).unwrap());
            accepted(&headers)
        };
        assert_eq!(accepted(&HeaderMap::new()), Form::Binary);
        for binary in ["*/*", "", "text/html", "application/vnd.waymark.answer", "application/json;q=0", "a/b;q=x,;;,"]
        {
            assert_eq!(form(binary), Form::Binary, "{binary}");
        }
        assert_eq!(form("Application/JSON; charset=utf-8"), Form::Json);
        assert_eq!(form("text/html, application/json"), Form::Json);
        assert_eq!(form("application/json;q=0.5, application/vnd.waymark.hint+json"), Form::Hint);
        assert_eq!(form("application/json, application/vnd.waymark.hint+json;q=0.5"), Form::Json);
    }

    #[test]
    fn every_hint_has_one_size_and_says_what_is_missing() {
        let of = |msps: Vec<String>| Hint { msps, ..hint(None, None, UnixMillis::new(1)) };
        let domain = |i: usize| format!("{}.{i:02}.example", "a".repeat(60));
        for count in [0, 1, 3, 16] {
            let bytes = padded(of((0..count).map(domain).collect()));
            assert_eq!(bytes.len(), HINT_BYTES);
            let read: Hint = serde_json::from_slice(&bytes).unwrap();
            assert_eq!((read.hint, read.more), (true, read.msps.len() < count));
            assert!(count < 16 || (5..16).contains(&read.msps.len()), "{}", read.msps.len());
        }
    }
}
