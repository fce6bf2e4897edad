//! Challenges on the wire: JSON, the same at a DP and at a prover.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use crate::possession::{outbox::Progress, sender::Channel};

/// POST /v1/challenges.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChallengeRequest {
    /// The canonical CSI.
    #[schema(schema_with = schema::csi)]
    pub csi: String,
    /// The tenure it is for.
    #[serde(default)]
    #[schema(schema_with = schema::tenure)]
    pub tenure: u32,
    /// `control` or `view`.
    #[schema(schema_with = schema::purpose)]
    pub purpose: String,
    /// The way that the code is to take; by the kind of identifier unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    /// Nothing is to be sent: the person sends a message from the number or the mailbox, as the answer says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incoming: bool,
}

/// POST /v1/challenges/{id}/send: an empty object.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {}

/// 201 to POST /v1/challenges, 200 to a send.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChallengeAnswer {
    /// The challenge's name, for the check.
    #[schema(schema_with = schema::hex_16)]
    pub id: String,
    /// Always `pending`.
    #[schema(schema_with = schema::pending)]
    pub status: String,
    /// The way that its codes take.
    #[schema(schema_with = schema::channel)]
    pub channel: Channel,
    /// Until when the code works, in milliseconds since 1970.
    #[schema(schema_with = schema::unix_ms)]
    pub expires_ms: u64,
    /// Sends that are left.
    pub sends_left: u8,
    /// Checks that are left.
    pub checks_left: u8,
    /// How far its code has come, as far as anybody may know.
    #[schema(schema_with = schema::delivery)]
    pub delivery: Progress,
    /// What the person has to send, if nothing is sent to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incoming: Option<IncomingAsk>,
}

/// What a person has to send from the number or the mailbox that is to be shown.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct IncomingAsk {
    /// The number or the address that it goes to.
    pub to: String,
    /// The text, to be sent as it is and alone: as the subject of a new mail, or as a text message.
    pub text: String,
}

/// POST /v1/challenges/{id}/check.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// The code. Without one it is asked whether the link was opened or the message has come, which costs no check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::code)]
    pub code: Option<String>,
}

/// 200 to POST /v1/challenges/{id}/check.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckAnswer {
    /// `approved` or `pending`.
    #[schema(schema_with = schema::checked)]
    pub status: String,
    /// Checks left while pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks_left: Option<u8>,
    /// While pending, how far the code has come, as far as anybody may know. Not there while a message is to come in;
    /// once it is there after all, a mail has come, and a code is on its way in answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::delivery)]
    pub delivery: Option<Progress>,
    /// The attestation, base64 of its TLS form, once approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::base64)]
    pub attestation: Option<String>,
}

/// POST /v1/challenges/{id}/confirm, by the page behind a link. Not signed: whoever has the secret has the mail.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmRequest {
    /// The link's secret, 32 hex digits.
    #[schema(schema_with = schema::hex_16)]
    pub secret: String,
}

/// 200 to POST /v1/challenges/{id}/confirm.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConfirmAnswer {
    /// Always `approved`.
    #[schema(schema_with = schema::approved)]
    pub status: String,
}
