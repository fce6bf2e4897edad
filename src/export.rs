//! Everything that the DP keeps about a CSI, for its recipient: one JSON object, in words and as the bytes that were signed.
//!
//! A key sees what it may see of the past: from the version that first had a mapping of its own, and nothing of another tenure.
//! Mappings of others are part of the recipient's record; of hidden ones that are older than the key's own, only how they stand and
//! their digest. A key that is still new, or that has no mapping and has shown possession, is given what everybody sees and what is
//! its own.

use data_encoding::BASE64;
use serde_json::{Value, json};
use waymark_log::key::Key;
use waymark_mapping::{rules::Held, wire::encode};

use crate::{
    client::card::date,
    published::{AnswerError, Answering, Latest, Seen},
    row::Row,
};

/// Most versions in one export: the newest. Older ones are in the history, page by page.
pub const VERSIONS_MAX: usize = 256;

/// What a key that is no longer new may be given.
///
/// # Errors
/// [`AnswerError`].
pub fn whole(answering: &Answering, latest: &Latest, key: Key) -> Result<Value, AnswerError> {
    let rows = answering.rows_of(latest, key, VERSIONS_MAX)?;
    let came = answering.came(latest, key)?;
    let version = |row: &Row| Ok(version_json(row, key, &answering.seen_by(&[&latest.row, row], came, &[key])?));
    let versions = rows.iter().map(version).collect::<Result<Vec<Value>, AnswerError>>()?;
    Ok(document(latest, &versions))
}

/// What a key that is new, or has no mapping, may be given: the latest version, as everybody sees it, and what is its own.
pub fn own(latest: &Latest, key: Key) -> Value {
    let row = &latest.row;
    let state = row.state();
    let shown = state.held.iter().filter(|h| !h.is_hidden() || h.mapping.recipient == key);
    let mappings: Vec<Value> = shown.map(|h| mapping_json(row, h)).collect();
    let (version, tenure, made) = (row.version, row.record.tenure, date(row.record.time));
    document(latest, &[json!({"version": version, "tenure": tenure, "made": made, "mappings": mappings})])
}

fn document(latest: &Latest, versions: &[Value]) -> Value {
    json!({
        "schema": "waymark.export/1",
        "identifier": latest.row.csi.expose(),
        "log_size": latest.snapshot.size,
        "versions": versions,
        "what_else": "Open challenges for ten minutes; that a key has completed one, as a digest; counts of requests by \
                      address for a day. Nothing else names you.",
    })
}

fn version_json(row: &Row, key: Key, seen: &Seen) -> Value {
    let is_shown = |h: &Held| !h.is_hidden() || h.mapping.recipient == key || seen.sees(h.standing.since_version);
    let json = |h: &Held| if is_shown(h) { mapping_json(row, h) } else { closed_json(h) };
    let mappings: Vec<Value> = row.state().held.iter().map(json).collect();
    json!({
        "version": row.version,
        "tenure": row.record.tenure,
        "made": date(row.record.time),
        "made_ms": row.record.time.get(),
        "commitment": row.commitment.to_hex(),
        "why": row.cause.event.tbs.kind.describe(),
        "event": BASE64.encode(&encode(&row.cause.event)),
        "record": BASE64.encode(&encode(&row.record)),
        "opening": BASE64.encode(&encode(&row.opening)),
        "mappings": mappings,
    })
}

/// A hidden mapping of another key that was there before.
fn closed_json(held: &Held) -> Value {
    json!({
        "hidden": true,
        "digest": held.mapping.digest().to_hex(),
        "since_version": held.standing.since_version,
        "since_ms": held.standing.since.get(),
    })
}

fn mapping_json(row: &Row, held: &Held) -> Value {
    let m = &held.mapping;
    let consent = row.said(m).and_then(|s| s.consent.0.as_ref()).map(|c| BASE64.encode(&encode(&c.consent)));
    json!({
        "msp": m.msp.get().map(|d| d.to_string()),
        "account": m.account.expose(),
        "tags": m.tags.as_shown().iter().map(|t| t.expose()).collect::<Vec<_>>(),
        "exact_tag": m.tags.as_exact().map(|t| t.expose()),
        "recipient_key": m.recipient.to_hex(),
        "region": m.region.as_str(),
        "not_before_ms": m.not_before.get(),
        "not_after_ms": m.not_after.get(),
        "possession": {
            "prover": m.attestation.prover.as_str(),
            "method": m.attestation.method.describe(),
            "time_ms": m.attestation.time.get(),
        },
        "since_version": held.standing.since_version,
        "since_ms": held.standing.since.get(),
        "signed": BASE64.encode(&encode(m)),
        "consent": consent,
    })
}
