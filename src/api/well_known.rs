//! `/.well-known/waymark`: who runs a directory and how to use it, for people and their tools.
//!
//! Nothing proves it. Whoever verifies answers has a trust file of their own, from somewhere else; what is told here must not
//! become one by itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WellKnown {
    /// `waymark.directory/1`.
    pub schema: String,
    /// The domain of who runs it.
    #[schema(schema_with = schema::domain)]
    pub domain: String,
    /// Its log.
    pub log: Log,
    /// The key of labels, hex.
    #[schema(schema_with = schema::key)]
    pub vrf_key: String,
    /// Where what is.
    pub paths: Paths,
    /// Schemes of the identifiers that are listed.
    pub identifiers: Vec<String>,
    /// Ways that codes take, by the policy document in effect.
    pub channels: Vec<String>,
    /// Where the payload of records is kept, by the policy document in effect; anywhere if there is none.
    pub regions: Vec<String>,
    /// Times that are promised, or that rules of the directory count by.
    pub promises: Promises,
    /// What a request may be.
    pub limits: Limits,
    /// Versions of formats.
    pub formats: Formats,
}

/// A log, as a trust file would name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Log {
    /// Its name.
    pub origin: String,
    /// Its key, as C2SP signed notes write it.
    pub vkey: String,
    /// Where its tiles are.
    pub path: String,
}

/// Paths on the server that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Paths {
    /// The directory.
    pub api: String,
    /// Its description.
    pub openapi: String,
    /// The policy document.
    pub policy: String,
    /// Before the code of a problem: what it means.
    pub problems: String,
}

/// Times, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Promises {
    /// Between batches, as promised in the log.
    pub interval_ms: u64,
    /// Between heads of a quiet log.
    pub head_interval_ms: u64,
    /// As long as others may remove a mapping that a newcomer added.
    pub newcomer_ms: u64,
    /// Between a claim of an identifier and the change of hands.
    pub hold_ms: u64,
    /// The same, where the proof is stricter or what stood has lapsed.
    pub short_hold_ms: u64,
    /// As long as a claim may be taken up after its hold.
    pub take_up_ms: u64,
    /// As long as a mapping lasts after its proof of possession.
    pub mapping_ms: u64,
    /// As long as a change of hands is proved in each answer, and the rows of the tenure before are kept for that.
    pub passage_ms: u64,
    /// As long as a challenge lasts.
    pub challenge_ms: u64,
    /// As long as an attestation serves.
    pub attestation_ms: u64,
    /// As long as an `Idempotency-Key` is remembered.
    pub idempotency_ms: u64,
}

/// Most of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// Bytes of a JSON request.
    pub json_bytes: u64,
    /// Bytes of a change.
    pub change_bytes: u64,
    /// Bytes of an import.
    pub import_bytes: u64,
    /// Changes in an import.
    pub import_items: u64,
    /// Visible mappings of an identifier.
    pub visible_mappings: u64,
    /// Hidden mappings of an identifier.
    pub hidden_mappings: u64,
    /// Look-ups in a minute from an address.
    pub lookups_per_minute: u32,
    /// Look-ups in a minute that an MSP relays.
    pub relays_per_minute: u32,
    /// Sends of one challenge.
    pub challenge_sends: u32,
    /// Checks of one challenge.
    pub challenge_checks: u32,
    /// Domains on a page of providers.
    pub providers_per_page: u64,
}

/// Versions of formats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Formats {
    /// The first byte of an entry.
    pub entry: u8,
    /// The first byte of an answer.
    pub answer: u8,
    /// In the contexts of signatures.
    pub signatures: String,
}
