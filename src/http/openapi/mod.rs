//! The API's description: OpenAPI 3.1, written from the table of [`operations`] and the types of [`crate::api`].
//!
//! It is served at `/v1/openapi.json`, printed by `waymark-dp openapi`, and frozen in docs/openapi.json. What it says of errors
//! comes from `http::error`, and `tests/contract.rs` makes every one of them happen: what is not documented does not
//! happen, and what is documented does.

pub mod operations;
mod schemas;

use std::sync::LazyLock;

use axum::{
    body::Body,
    http::{HeaderValue, Response, header},
};
use utoipa::openapi::{
    Content, HeaderBuilder, Info, InfoBuilder, License, ObjectBuilder, OpenApi, OpenApiBuilder, PathsBuilder, Required,
    ResponseBuilder, Tag, Type,
    header::Header,
    link::Link,
    path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem},
    request_body::RequestBodyBuilder,
    response::Response as Described,
    security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme},
    tag::TagBuilder,
};
use waymark_runtime::problem::{Kind, PROBLEM_MEDIA_TYPE};

use self::operations::{ABOUT, CHANGES, Gives, LOG, LOOKUPS, OPERATIONS, Operation, POSSESSION, PROVIDERS, Signed};
use crate::api::{
    PROVIDERS_DEFAULT, PROVIDERS_MAX,
    schema::{DOMAIN_PATTERN, HEX_16_PATTERN},
};

/// How long the description may be kept: five minutes.
const CACHE: &str = "public, max-age=300";
/// A string of RFC 9651 or the same without quotes, 1 to 64 visible characters.
const IDEMPOTENCY_KEY_PATTERN: &str = r#"^(?:"(?:[!#-\[\]-~]|\\["\\]){1,64}"|[!#-~][!-~]{0,63})$"#;
/// Statuses whose problems may say when to try again.
const WITH_RETRY_AFTER: [u16; 4] = [409, 429, 503, 504];

const ABOUT_IT: &str = "\
A directory of where people can be reached, backed by a transparency log. Whoever asks must verify what is answered: an \
answer of this API is worth nothing by itself.\n\n\
- Everything that names an identifier is a POST, so that none stands in a URL.\n\
- Bodies of `application/vnd.waymark.*` are bytes, drawn in docs/FORMATS.md. Each operation says how many it takes.\n\
- Every error is a problem of RFC 9457 with a stable `code`. Each operation lists those that it may end in. Beside them, any \
path may answer 404 `route-unknown` and 405 `method-not-allowed` (with `Allow`), and a head that is over-long or is no HTTP gets \
a bare 4xx.\n\
- HEAD is answered where GET is; OPTIONS with 204 and `Allow`.\n\
- The log may be read by pages of any origin. The directory has no CORS: it is for apps. A page that could ask in its visitor's \
name would spend the visitor's look-ups and codes.";

const RECIPIENT: &str = "\
`Waymark-Recipient: key=<hex>; time=<decimal ms>; nonce=<32 hex digits>; sig=<hex>`: an Ed25519 signature by the recipient key \
over method, path, SHA-256 of the body, time and nonce, for this DP's log (docs/FORMATS.md, section 23). The time is at most five \
minutes off; a nonce is used once.";
const PROVIDER: &str = "\
HTTP Message Signatures (RFC 9421) by a key that the log holds for an MSP, with `Signature`, `Content-Digest` and \
`Waymark-Origin` beside (docs/FORMATS.md, section 28). It is valid for at most five minutes; a nonce is used once.";

static TEXT: LazyLock<String> = LazyLock::new(|| document().to_pretty_json().unwrap_or_default() + "\n");

/// The description as it is served.
pub fn json() -> &'static str {
    &TEXT
}

/// GET /v1/openapi.json
pub async fn serve() -> Response<Body> {
    let mut response = Response::new(Body::from(json()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE));
    response
}

/// The description.
pub fn document() -> OpenApi {
    let mut components = schemas::components();
    let key =
        |name: &str, what: &str| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, what)));
    components.add_security_scheme("recipient", key("Waymark-Recipient", RECIPIENT));
    components.add_security_scheme("provider", key("Signature-Input", PROVIDER));
    let paths = OPERATIONS.iter().fold(PathsBuilder::new(), |paths, o| {
        let method = if o.method == "POST" { HttpMethod::Post } else { HttpMethod::Get };
        paths.path(o.path, PathItem::new(method, describe(o)))
    });
    let document = OpenApiBuilder::new().info(info()).tags(Some(tags())).paths(paths);
    document.components(Some(components)).build()
}

fn info() -> Info {
    let info = InfoBuilder::new().title("Waymark directory").version(env!("CARGO_PKG_VERSION"));
    info.description(Some(ABOUT_IT)).license(Some(License::new(env!("CARGO_PKG_LICENSE")))).build()
}

fn tags() -> [Tag; 6] {
    [
        (LOOKUPS, "Who can be reached where."),
        (
            POSSESSION,
            "That an identifier is somebody's, shown by a code or a link. An independent prover serves it as well.",
        ),
        (CHANGES, "What recipients do with what is listed under their identifiers."),
        (PROVIDERS, "What messaging providers do."),
        (ABOUT, "About this server."),
        (LOG, "The transparency log, in C2SP's dialect: static files, for everybody."),
    ]
    .map(|(name, what)| TagBuilder::new().name(name).description(Some(what)).build())
}

fn describe(o: &Operation) -> OperationBuilder {
    let operation = OperationBuilder::new().operation_id(Some(o.id)).tag(o.tag).summary(Some(o.summary));
    let operation = parameters(o).into_iter().fold(operation, OperationBuilder::parameter);
    let operation = security(o.signed).into_iter().fold(operation, OperationBuilder::security);
    let operation = match &o.takes {
        Some(takes) => {
            let content = Content::new(Some((takes.form.1)()));
            let body = RequestBodyBuilder::new().required(Some(Required::True)).content(takes.form.0, content);
            let most = format!("At most {} bytes.", takes.bytes_max);
            operation.request_body(Some(body.description(Some(most)).build()))
        }
        None => operation,
    };
    let operation =
        o.gives.iter().fold(operation, |operation, g| operation.response(g.status.to_string(), given(o, g)));
    // What hyper says before a route is known.
    let long = ResponseBuilder::new().description("The head is over-long. There is no body.").build();
    let operation = operation.response("431", long);
    let problems = o.problems();
    problems
        .chunk_by(|a, b| a.status == b.status)
        .fold(operation, |operation, kinds| operation.response(kinds[0].status.to_string(), ended(kinds)))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn parameters(o: &Operation) -> Vec<Parameter> {
    let parameter = |name: &str, place: ParameterIn, schema: ObjectBuilder, what: &str| {
        let required = if matches!(place, ParameterIn::Path) { Required::True } else { Required::False };
        let named = ParameterBuilder::new().name(name).parameter_in(place).required(required);
        named.schema(Some(schema)).description(Some(what)).build()
    };
    let mut all = Vec::new();
    for name in o.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        let (pattern, what) = match name {
            "id" => (HEX_16_PATTERN, "The challenge's name."),
            "digest" => ("^[0-9a-f]{64}$", "SHA-256 of the document."),
            "code" => ("^[a-z]+(?:-[a-z]+)*$", "The code of a problem."),
            "level" => ("^(?:entries|[0-9]|[1-5][0-9]|6[0-3])$", "The tile's level."),
            _ => {
                (r"^(?:x[0-9]{3}/)*[0-9]{3}(?:\.p/[0-9]{1,3})?$", "The tile's index, and its width if it is not full.")
            }
        };
        all.push(parameter(name, ParameterIn::Path, text().pattern(Some(pattern)), what));
    }
    if o.id == "listProviders" {
        let domain = || text().pattern(Some(DOMAIN_PATTERN)).max_length(Some(253));
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(PROVIDERS_MAX));
        all.push(parameter("after", ParameterIn::Query, domain(), "Only domains after this one."));
        all.push(parameter("domain", ParameterIn::Query, domain(), "Only this domain."));
        let limit = number.default(Some(PROVIDERS_DEFAULT.into()));
        all.push(parameter("limit", ParameterIn::Query, limit, "Most domains on the page."));
    }
    if o.idempotent {
        let what = "Names the request, so that it is carried out once if it is sent again within a day.";
        let key = text().pattern(Some(IDEMPOTENCY_KEY_PATTERN));
        all.push(parameter("Idempotency-Key", ParameterIn::Header, key, what));
    }
    all
}

fn security(signed: Signed) -> Vec<SecurityRequirement> {
    let by = |name: &str| SecurityRequirement::new(name, [] as [&str; 0]);
    match signed {
        Signed::Not => vec![],
        Signed::ByRecipient => vec![by("recipient")],
        Signed::ByMsp => vec![by("provider")],
        Signed::ByMspOrNot => vec![SecurityRequirement::default(), by("provider")],
    }
}

fn header_of(schema: ObjectBuilder, what: &str) -> Header {
    HeaderBuilder::new().schema(Some(schema)).description(Some(what)).build()
}

fn given(o: &Operation, gives: &Gives) -> Described {
    let answer = ResponseBuilder::new().description(gives.what);
    let answer = gives
        .forms
        .iter()
        .fold(answer, |answer, (media_type, schema)| answer.content(*media_type, Content::new(Some(schema()))));
    let answer = if o.idempotent {
        let replayed = header_of(text().enum_values(Some(["true"])), "The request had been carried out before.");
        answer.header("Idempotent-Replayed", replayed)
    } else {
        answer
    };
    let answer = match o.id {
        "listProviders" => answer.header("Link", header_of(text(), "`rel=\"next\"`: the next page, if there is one.")),
        "startChallenge" => ["sendCode", "checkCode", "confirmLink"].into_iter().fold(answer, |answer, next| {
            answer.link(next, Link::builder().operation_id(next).parameter("id", "$response.body#/id").build())
        }),
        _ => answer,
    };
    answer.build()
}

/// The problems of one status.
fn ended(kinds: &[Kind]) -> Described {
    let lines: Vec<String> = kinds.iter().map(|k| format!("`{}`: {}.", k.code, k.title)).collect();
    let content = Content::new(Some(schemas::problem_of(kinds)));
    let answer = ResponseBuilder::new().description(lines.join(" ")).content(PROBLEM_MEDIA_TYPE, content);
    if WITH_RETRY_AFTER.contains(&kinds[0].status) {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        return answer.header("Retry-After", header_of(seconds, "Seconds, where trying again can help.")).build();
    }
    answer.build()
}
