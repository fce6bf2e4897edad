//! What travels between an app and a DP: bodies, media types, limits, and the signature under a recipient's request.
//!
//! ```text
//! struct { uint8 index; Consent consent; Salt salt; }                                          OfferedConsent
//! struct { Event event; Mapping added<0..2^16-1>; OfferedConsent consents<0..2^16-1>; }        ChangeRequest
//! struct { Csi csi; uint32 version; }                                                          HistoryRequest
//! struct { uint32 length; ChangeRequest change; } items[...];                                  an import, to its end
//! ```
//!
//! The signature under a request is [`waymark_mapping::request`]'s.

pub mod challenges;
pub mod schema;
pub mod well_known;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};
use utoipa::ToSchema;
use waymark_log::checkpoint::Origin;
pub use waymark_mapping::request::{RECIPIENT_HEADER, REQUEST_WINDOW_MS, RequestSignature};
use waymark_mapping::{
    commitment::Salt,
    event::Event,
    identifier::Csi,
    mapping::{Consent, Mapping},
    names::Tag,
    verify::Outcome,
    wire::List24,
};

/// Reads a JSON body that is an object. By itself serde takes a list of the fields' values, too.
///
/// # Errors
/// serde's, which may quote the body; of anything but an object without a place.
pub fn read_object<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    if body.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice(body)
    } else {
        Err(serde::de::Error::custom("not an object"))
    }
}

/// Media type of a change.
pub const CHANGE_MEDIA_TYPE: &str = "application/vnd.waymark.change";
/// Media type of a history request.
pub const HISTORY_MEDIA_TYPE: &str = "application/vnd.waymark.history";
/// Media type of an event by itself: a revocation prepared in advance.
pub const EVENT_MEDIA_TYPE: &str = "application/vnd.waymark.event";
/// Media type of a hint.
pub const HINT_MEDIA_TYPE: &str = "application/vnd.waymark.hint+json";
/// Bytes in every hint, so that its size says nothing.
pub const HINT_BYTES: usize = 1 << 10;
/// Media type of JSON.
pub const JSON_MEDIA_TYPE: &str = "application/json";
/// Most bytes in a change: sixteen mappings of at most 2 KiB with consents, and an event.
pub const CHANGE_BYTES_MAX: usize = 64 << 10;
/// Media type of an import.
pub const IMPORT_MEDIA_TYPE: &str = "application/vnd.waymark.import";
/// Most changes in one import: with two imports in work, as many as fit between two heads.
pub const IMPORT_ITEMS_MAX: usize = 512;
/// Most bytes in an import. A change with one mapping and a consent is some 1.2 KiB.
pub const IMPORT_BYTES_MAX: usize = 2 << 20;
/// Media type of a provider entry.
pub const PROVIDER_MEDIA_TYPE: &str = "application/vnd.waymark.provider";
/// Domains on a page of providers, unless said otherwise.
pub const PROVIDERS_DEFAULT: usize = 100;
/// Most domains on a page of providers: with 64 keys each, some 14 MiB; with one each, 200 KiB.
pub const PROVIDERS_MAX: usize = 1000;
/// Most bytes in a JSON request.
pub const JSON_BYTES_MAX: usize = 4 << 10;

/// An MSP's consent to one of the added mappings.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct OfferedConsent {
    /// Which of them.
    pub index: u8,
    /// The consent.
    pub consent: Consent,
    /// The salt that its `blinded` was made with.
    pub salt: Salt,
}

/// A change, with everything the DP needs to judge it.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct ChangeRequest {
    /// The event and its authorities.
    pub event: Event,
    /// The mappings it adds, in the order of its digests.
    pub added: List24<Mapping, 65535>,
    /// MSPs' consents to them.
    pub consents: List24<OfferedConsent, 65535>,
}

/// A wish to see the current record as its recipient, or what happened from a version on downwards.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct HistoryRequest {
    /// Whose.
    pub csi: Csi,
    /// From which version on; [`waymark_mapping::event::ANY_VERSION`] for the receipt of the latest.
    pub version: u32,
}

/// POST /v1/lookups.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupRequest {
    /// The origin of the log that is asked.
    #[schema(schema_with = schema::origin)]
    pub log: String,
    /// The canonical CSI.
    #[schema(schema_with = schema::csi)]
    pub csi: String,
    /// A tag to present.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::tag)]
    pub tag: Option<String>,
    /// Whether to prove when each mapping was logged, so that the answer can be passed on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
}

impl LookupRequest {
    /// A look-up by the log with this origin.
    pub fn of(log: &Origin, csi: &Csi, tag: Option<&Tag>, full: bool) -> Self {
        let tag = tag.map(|t| t.expose().to_owned());
        Self { log: log.as_str().to_owned(), csi: csi.expose().to_owned(), tag, full }
    }
}

/// GET /v1/providers: which of them, in the order of their domains.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvidersQuery {
    /// Only those after this domain.
    pub after: Option<String>,
    /// Only this domain.
    pub domain: Option<String>,
    /// Of at most so many domains, all their keys; [`PROVIDERS_DEFAULT`] unless said otherwise.
    pub limit: Option<usize>,
}

/// One key of a provider, as GET /v1/providers lists it: for people and their tools; nothing proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderKeyView {
    /// Whose.
    #[schema(schema_with = schema::domain)]
    pub domain: String,
    /// `msp`, `prover`, `csip`, `token-issuer`, or the number of a role that has no word.
    #[schema(schema_with = schema::role)]
    pub role: String,
    /// How many entries have made the domain's keys in this role what they are.
    pub revision: u32,
    /// What kind of provider.
    pub class: u8,
    /// Whether its consents are logged.
    pub publishes: bool,
    /// The key, hex; of another algorithm than Ed25519 behind its number and a colon.
    #[schema(schema_with = schema::any_key)]
    pub key: String,
    /// From when on it counts, milliseconds; 0 for at once.
    #[schema(schema_with = schema::unix_ms)]
    pub due_ms: u64,
    /// From when on it no longer counts, milliseconds; 0 for never.
    #[schema(schema_with = schema::unix_ms)]
    pub retired_ms: u64,
}

/// POST /v1/notices, at an MSP's adapter.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticesRequest {
    /// The list's name, hex.
    pub list: String,
    /// Only what lies after this entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// 200 to POST /v1/notices.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NoticesAnswer {
    /// In the order of the log.
    pub notices: Vec<NoticeView>,
    /// How often more the list was hit since the adapter started: no more than the newest 64 notices are kept.
    #[serde(default)]
    pub beyond: u64,
}

/// POST /v1/alerts, at a monitor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsRequest {
    /// The log that the list is for.
    pub log: String,
    /// The list's name, hex.
    pub list: String,
    /// The number of the last alert that is known.
    #[serde(default)]
    pub after: u64,
}

/// 200 to POST /v1/alerts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlertsAnswer {
    /// How many alerts the list has raised, those that are no longer kept included.
    pub raised: u64,
    /// Those that are kept, oldest first.
    pub alerts: Vec<AlertView>,
}

/// What a monitor tells the holder of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertView {
    /// Its number.
    pub id: u64,
    /// `unexpected`, or `expired`: the list has run out.
    pub kind: String,
    /// The entry that hit the list.
    pub entry: Option<u64>,
    /// Its leaf hash, hex.
    pub leaf: Option<String>,
    /// When it was published, milliseconds since 1970.
    pub head_time_ms: Option<u64>,
    /// When the alert was raised.
    pub raised_ms: u64,
    /// What to do.
    pub what_to_do: String,
}

/// Something under a recipient's identifier has changed and no app of theirs has claimed it. Nothing is said of who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeView {
    /// The list that was hit, hex.
    pub list: String,
    /// The entry.
    pub entry: u64,
    /// Its leaf hash, hex.
    pub leaf: String,
    /// When it was published, milliseconds since 1970.
    pub head_time_ms: u64,
    /// What to do.
    pub what_to_do: String,
}

/// 200 to POST /v1/imports.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportAnswer {
    /// What became of each item, in order.
    #[schema(max_items = 512)]
    pub items: Vec<ImportOutcome>,
}

/// What became of one imported change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum ImportOutcome {
    /// It has made this version, now or earlier.
    Published {
        /// The version.
        #[schema(schema_with = schema::version)]
        version: u32,
    },
    /// It will never be taken.
    Refused {
        /// Why: a code of section 25 of FORMATS.md.
        #[schema(schema_with = schema::problem_code)]
        code: String,
    },
    /// It was not taken, or is not known to be: send it again.
    Again {
        /// Why: a code of section 25 of FORMATS.md.
        #[schema(schema_with = schema::problem_code)]
        code: String,
    },
}

/// Puts changes, each encoded, behind their lengths. `None` if there are too many, or one is too long.
pub fn join_import<'a>(items: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    for (count, item) in items.into_iter().enumerate() {
        body.extend(u32::try_from(item.len()).ok()?.to_be_bytes());
        body.extend(item);
        if count == IMPORT_ITEMS_MAX || body.len() > IMPORT_BYTES_MAX {
            return None;
        }
    }
    (!body.is_empty()).then_some(body)
}

/// Takes the body of an import apart. `None` if it is not 1 to [`IMPORT_ITEMS_MAX`] items behind their lengths.
pub fn split_import(body: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut items, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (item, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        if items.len() == IMPORT_ITEMS_MAX {
            return None;
        }
        items.push(item);
        rest = after;
    }
    (!items.is_empty()).then_some(items)
}

/// POST /v1/exports.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportRequest {
    /// The canonical CSI.
    #[schema(schema_with = schema::csi)]
    pub csi: String,
    #[schema(schema_with = schema::possession)]
    /// For a key without a mapping: base64 of an attestation that it possesses the CSI, for purpose `view`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub possession: Option<String>,
}

/// 200 to POST /v1/lookups with `Accept: application/json`: the same answer, for those who cannot take bytes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AnswerJson {
    /// Base64 of the padded answer.
    #[schema(schema_with = schema::base64)]
    pub answer: String,
}

/// 200 to POST /v1/lookups with `Accept: application/vnd.waymark.hint+json`: what the DP says, with no proof at all.
///
/// Nothing that verifies takes it, and nothing that chooses. It lets a device that cannot hold an answer say "perhaps", and
/// ask somebody who can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Hint {
    /// Always true, so that it is not taken for anything else.
    pub hint: bool,
    /// The media type to ask for instead, before anybody relies on this.
    pub must_verify: String,
    /// `absent`, `opted-out`, `none-listed`, `listed` or `erased`, as the DP has it.
    #[schema(schema_with = schema::outcome)]
    pub outcome: String,
    /// The MSPs, ascending.
    #[schema(schema_with = schema::domains)]
    pub msps: Vec<String>,
    /// Whether some were left out for size.
    pub more: bool,
}

/// The outcome as a word for programs.
pub const fn outcome_code(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Absent => "absent",
        Outcome::OptedOut => "opted-out",
        Outcome::NoneListed => "none-listed",
        Outcome::Listed => "listed",
        Outcome::Erased => "erased",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_comes_apart_as_it_was_put_together() {
        let items: [&[u8]; 3] = [b"one", b"", b"three"];
        let body = join_import(items).unwrap();
        assert_eq!(split_import(&body).unwrap(), items);
        for end in (0..body.len()).filter(|end| ![7, 11].contains(end)) {
            assert_eq!(split_import(&body[..end]), None, "{end} bytes");
        }
        assert_eq!(join_import([]), None);
        assert!(join_import(vec![&b"x"[..]; IMPORT_ITEMS_MAX]).is_some());
        assert_eq!(join_import(vec![&b"x"[..]; IMPORT_ITEMS_MAX + 1]), None);
        assert_eq!(split_import(&[0; 4 * (IMPORT_ITEMS_MAX + 1)]), None);
    }
}
