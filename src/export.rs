//! Everything that the DP keeps about a CSI, for its recipient: one JSON object, in words and as the bytes that were signed.
//!
//! A key sees what it may see of the past: from the version that first had a mapping of its own, and nothing of another tenure.
//! Mappings of others that stand now are part of the recipient's record, hidden ones too.

use data_encoding::BASE64;
use serde_json::{Value, json};
use waymark_log::key::Key;
use waymark_mapping::{rules::Held, wire::encode};

use crate::{
    client::card::date,
    published::{AnswerError, Answering, Latest},
    row::Row,
};

/// Most versions in one export: the newest. Older ones are in the history, page by page.
pub const VERSIONS_MAX: usize = 256;

/// What a key that is no longer new may be given.
///
/// # Errors
/// [`AnswerError`].
pub fn export(answering: &Answering, latest: &Latest, key: Key) -> Result<Value, AnswerError> {
    let rows = answering.rows_of(latest, key, VERSIONS_MAX)?;
    let versions: Vec<Value> = rows.iter().map(version_json).collect();
    Ok(json!({
        "schema": "waymark.export/1",
        "identifier": latest.row.csi.expose(),
        "log_size": latest.snapshot.size,
        "versions": versions,
        "what_else": "Open challenges for ten minutes; that this key has completed one, as a digest; counts of requests by \
                      address for a day. Nothing else names you.",
    }))
}

fn version_json(row: &Row) -> Value {
    let state = row.state();
    let consents = |held: &Held| {
        let said = row.said(&held.mapping)?;
        said.consent.0.as_ref().map(|c| BASE64.encode(&encode(&c.consent)))
    };
    let mappings: Vec<Value> = state
        .held
        .iter()
        .map(|held| {
            json!({
                "msp": held.mapping.msp.get().map(|d| d.to_string()),
                "account": held.mapping.account.expose(),
                "tags": held.mapping.tags.as_shown().iter().map(|t| t.expose()).collect::<Vec<_>>(),
                "exact_tag": held.mapping.tags.as_exact().map(|t| t.expose()),
                "recipient_key": held.mapping.recipient.to_hex(),
                "region": held.mapping.region.as_str(),
                "not_before_ms": held.mapping.not_before.get(),
                "not_after_ms": held.mapping.not_after.get(),
                "possession": {
                    "prover": held.mapping.attestation.prover.as_str(),
                    "method": held.mapping.attestation.method.describe(),
                    "time_ms": held.mapping.attestation.time.get(),
                },
                "since_version": held.standing.since_version,
                "since_ms": held.standing.since.get(),
                "signed": BASE64.encode(&encode(&held.mapping)),
                "consent": consents(held),
            })
        })
        .collect();
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
