//! The schemas of bodies, and the one of problems.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, ComponentsBuilder, KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type,
        schema::{AdditionalProperties, AllOfBuilder, ArrayBuilder, Ref},
    },
};
use waymark_runtime::problem::Kind;

use crate::{
    api::{
        AnswerJson, ExportRequest, Hint, ImportAnswer, ImportOutcome, LookupRequest, ProviderKeyView,
        challenges::{
            ChallengeAnswer, ChallengeRequest, CheckAnswer, CheckRequest, ConfirmAnswer, ConfirmRequest, IncomingAsk,
            SendRequest,
        },
        well_known::{self, WellKnown},
    },
    possession::sender::Channel,
};

const PROBLEM: &str = "Problem";

/// A reference to the schema of a type of ours.
pub fn of<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

/// A list of keys.
pub fn keys() -> RefOr<Schema> {
    ArrayBuilder::new().items(of::<ProviderKeyView>()).into()
}

/// Bytes, in a form that docs/FORMATS.md draws.
pub fn binary() -> RefOr<Schema> {
    let bytes = ObjectBuilder::new().schema_type(Type::String);
    bytes.format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary))).into()
}

/// A text.
pub fn text() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).into()
}

/// Some object.
pub fn any() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::Object).into()
}

/// Everything about an identifier: only its frame is fixed.
pub fn export() -> RefOr<Schema> {
    let list = ArrayBuilder::new().items(any());
    let required =
        |object: ObjectBuilder, name: &str, schema: RefOr<Schema>| object.property(name, schema).required(name);
    let object = required(ObjectBuilder::new(), "schema", text());
    let object = required(object, "identifier", text());
    let object = required(object, "log_size", ObjectBuilder::new().schema_type(Type::Integer).into());
    let object = required(object, "versions", list.into());
    required(object, "what_else", text()).into()
}

/// RFC 9457's object as it is answered here.
fn problem() -> RefOr<Schema> {
    let what = |text: &'static str| ObjectBuilder::new().schema_type(Type::String).description(Some(text));
    let number = |text: &'static str| ObjectBuilder::new().schema_type(Type::Integer).description(Some(text));
    let kind =
        what("A page of this server about the code.").format(Some(SchemaFormat::Custom("uri-reference".to_owned())));
    ObjectBuilder::new()
        .description(Some("RFC 9457"))
        .property("type", kind)
        .property("title", what("For people, the same for each code."))
        .property("status", number("The status."))
        .property("code", what("For programs; it does not change."))
        .property("detail", what("What to do. It quotes nothing that was sent."))
        .property("retry_after", number("Seconds, if and only if the header Retry-After is there.").minimum(Some(0)))
        .required("type")
        .required("title")
        .required("status")
        .required("code")
        .required("detail")
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
        .into()
}

/// A problem that is one of these, all of one status.
pub fn problem_of(kinds: &[Kind]) -> RefOr<Schema> {
    let codes = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(kinds.iter().map(|k| k.code)));
    let statuses = ObjectBuilder::new().schema_type(Type::Integer).enum_values(kinds.first().map(|k| [k.status]));
    let narrower = ObjectBuilder::new().property("code", codes).property("status", statuses);
    AllOfBuilder::new().item(Ref::from_schema_name(PROBLEM)).item(narrower).into()
}

/// All that is referred to by name.
pub fn components() -> Components {
    fn with<T: ToSchema + PartialSchema>(all: ComponentsBuilder) -> ComponentsBuilder {
        all.schema(T::name(), T::schema())
    }
    let all = ComponentsBuilder::new().schema(PROBLEM, problem());
    let all = with::<LookupRequest>(with::<AnswerJson>(with::<Hint>(all)));
    let all = with::<ChallengeRequest>(with::<ChallengeAnswer>(with::<Channel>(with::<SendRequest>(all))));
    let all = with::<IncomingAsk>(all);
    let all = with::<CheckRequest>(with::<CheckAnswer>(with::<ConfirmRequest>(with::<ConfirmAnswer>(all))));
    let all = with::<ImportAnswer>(with::<ImportOutcome>(with::<ExportRequest>(with::<ProviderKeyView>(all))));
    let all = with::<well_known::Log>(with::<well_known::Paths>(with::<well_known::Promises>(all)));
    with::<WellKnown>(with::<well_known::Limits>(with::<well_known::Formats>(all))).build()
}
