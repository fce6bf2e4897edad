//! What JSON Schema can say of the texts in JSON bodies. Where it cannot say all, it says less than the parsers do: what it
//! refuses, they refuse too.

use utoipa::openapi::{
    KnownFormat, Object, ObjectBuilder, RefOr, Schema, SchemaFormat, Type,
    schema::{ArrayBuilder, Ref, SchemaType},
};
use waymark_log::checkpoint::ORIGIN_BYTES_MAX;
use waymark_mapping::{
    identifier::CSI_BYTES_MAX,
    names::{DOMAIN_BYTES_MAX, TAG_BYTES_MAX},
};

use super::JSON_BYTES_MAX;

/// A canonical identifier. Beyond it: the local part has at most 64 bytes, in NFC, of letters, digits, marks and RFC 5321's signs.
pub const CSI_PATTERN: &str = concat!(
    r"^(?:tel:\+[1-9][0-9]{6,14}|mailto:",
    r#"[^\u0000-\u0020"(),.:;<>@\[\\\]\u007f-\u00a0]+(?:\.[^\u0000-\u0020"(),.:;<>@\[\\\]\u007f-\u00a0]+)*"#,
    r"@(?:[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?)$"
);
/// A provider's domain: two or more lower-case A-labels.
pub const DOMAIN_PATTERN: &str = r"^(?:[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?$";
/// A log's origin: no control characters.
const ORIGIN_PATTERN: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";
/// Words with single spaces between them. Beyond it: NFC, and no invisible characters or compatibility forms.
const TAG_PATTERN: &str = r"^[^\u0000-\u0020\u007f-\u00a0]+(?: [^\u0000-\u0020\u007f-\u00a0]+)*$";
/// The name of a challenge, and the secret of its link: sixteen bytes.
pub const HEX_16_PATTERN: &str = "^[0-9a-f]{32}$";
/// A key, or a hash.
const HEX_32_PATTERN: &str = "^[0-9a-f]{64}$";
/// A key of any algorithm: an even number of digits, behind the algorithm's number if that is not Ed25519.
const ANY_KEY_PATTERN: &str = "^(?:(?:0|[1-9][0-9]{0,4}):)?(?:[0-9a-f]{2})+$";
/// What a provider's key is for.
const ROLE_PATTERN: &str = "^(?:msp|prover|csip|token-issuer|[0-9]{1,3})$";
/// What codes of problems and reasons look like.
const CODE_PATTERN: &str = "^[a-z]+(?:-[a-z]+)*$";

fn text(pattern: &str, description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).description(Some(description))
}

fn optional(text: ObjectBuilder) -> ObjectBuilder {
    text.schema_type(SchemaType::from_iter([Type::String, Type::Null]))
}

fn one_of(words: &[&str], description: &str) -> Object {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    text.enum_values(Some(words.iter().copied())).build()
}

/// A CSI.
pub fn csi() -> Object {
    let what = "The canonical identifier: `tel:+` and 7 to 15 digits, or `mailto:` and an address whose domain is in lower-case \
                A-labels. Nothing is corrected.";
    text(CSI_PATTERN, what).max_length(Some(CSI_BYTES_MAX)).build()
}

/// A log.
pub fn origin() -> Object {
    text(ORIGIN_PATTERN, "The origin of the log that is asked, 1 to 255 bytes.")
        .max_length(Some(ORIGIN_BYTES_MAX))
        .build()
}

/// A tag.
pub fn tag() -> Object {
    let what =
        "A tag to present: 1 to 64 bytes in NFC, words with single spaces between them, no invisible characters.";
    optional(text(TAG_PATTERN, what)).min_length(Some(1)).max_length(Some(TAG_BYTES_MAX)).build()
}

/// A provider's domain.
pub fn domain() -> Object {
    text(DOMAIN_PATTERN, "A domain in lower-case A-labels.").max_length(Some(DOMAIN_BYTES_MAX)).build()
}

/// MSPs, in a hint.
pub fn domains() -> RefOr<Schema> {
    ArrayBuilder::new().items(domain()).unique_items(true).into()
}

/// What a challenge is for.
pub fn purpose() -> Object {
    one_of(&["control", "view"], "To change what is listed, or to see it.")
}

/// How a challenge stands.
pub fn pending() -> Object {
    one_of(&["pending"], "Always `pending`.")
}

/// How far a code has come.
pub fn delivery() -> Object {
    let what = "`sent`: handed over, or about to be. `waiting`: put off by the mail server or the gateway, and tried again until the challenge is \
                over. Whether an address exists is not told.";
    one_of(&["sent", "waiting"], what)
}

/// How a check went.
pub fn checked() -> Object {
    one_of(&["approved", "pending"], "`approved`, once; else `pending`.")
}

/// How a confirmation went.
pub fn approved() -> Object {
    one_of(&["approved"], "Always `approved`.")
}

/// A code as people type it.
pub fn code() -> Object {
    let what =
        "The code, six digits; anything else is a wrong one. Without it, it is asked whether the link was opened.";
    optional(ObjectBuilder::new()).max_length(Some(JSON_BYTES_MAX)).description(Some(what)).build()
}

/// Sixteen bytes.
pub fn hex_16() -> Object {
    text(HEX_16_PATTERN, "Sixteen bytes in lower-case hex.").build()
}

/// A key.
pub fn key() -> Object {
    text(HEX_32_PATTERN, "A key, in lower-case hex.").build()
}

/// A key of any algorithm.
pub fn any_key() -> Object {
    let what = "A key, in lower-case hex; of another algorithm than Ed25519 behind its number and a colon.";
    text(ANY_KEY_PATTERN, what).build()
}

/// The code of a problem.
pub fn problem_code() -> Object {
    text(CODE_PATTERN, "The code of a problem.").build()
}

/// A role.
pub fn role() -> Object {
    text(ROLE_PATTERN, "What the key is for; a role that has no word by its number.").build()
}

/// The outcome of a look-up.
pub fn outcome() -> Object {
    one_of(&["absent", "opted-out", "none-listed", "listed", "erased"], "As the DP has it.")
}

/// Bytes in a JSON string.
pub fn base64() -> Object {
    let bytes = ObjectBuilder::new().schema_type(Type::String);
    bytes.format(Some(SchemaFormat::KnownFormat(KnownFormat::Byte))).description(Some("Base64 with padding.")).build()
}

/// An attestation, or none.
pub fn possession() -> Object {
    let what =
        "For a key without a mapping: base64 of an attestation that it possesses the identifier, for purpose `view`.";
    optional(ObjectBuilder::new()).max_length(Some(JSON_BYTES_MAX)).description(Some(what)).build()
}

/// A time.
pub fn unix_ms() -> Object {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    number.description(Some("Milliseconds since 1970.")).build()
}

/// A version.
pub fn version() -> Object {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    number.description(Some("The version of the record.")).build()
}

/// A tenure: an unsigned number of 32 bits.
pub fn tenure() -> Object {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(u32::MAX as usize));
    number.default(Some(0.into())).description(Some("The tenure that it is for.")).build()
}

/// A reference to the way that a code takes.
pub fn channel() -> RefOr<Schema> {
    Ref::from_schema_name("Channel").into()
}
