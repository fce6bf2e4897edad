//! What each operation of the directory takes, gives, and may end in: the table that the description is written from, and that
//! `tests/contract.rs` holds the running DP to.

use utoipa::openapi::{RefOr, Schema};
use waymark_mapping::{
    answer::{ANSWER_MEDIA_TYPE, PAST_MEDIA_TYPE, RECEIPT_MEDIA_TYPE},
    event::EVENT_BYTES_MAX,
};
use waymark_runtime::problem::{self, Kind};

use super::schemas::{any, binary, export, keys, of, text};
use crate::{
    api::{
        AnswerJson, CHANGE_BYTES_MAX, CHANGE_MEDIA_TYPE, EVENT_MEDIA_TYPE, ExportRequest, HINT_MEDIA_TYPE,
        HISTORY_MEDIA_TYPE, Hint, IMPORT_BYTES_MAX, IMPORT_MEDIA_TYPE, ImportAnswer, JSON_BYTES_MAX, JSON_MEDIA_TYPE,
        LookupRequest, PROVIDER_MEDIA_TYPE,
        challenges::{
            ChallengeAnswer, ChallengeRequest, CheckAnswer, CheckRequest, ConfirmAnswer, ConfirmRequest, SendRequest,
        },
        well_known::WellKnown,
    },
    http::error::{
        CHANGE_INVALID, NO_RECORD, NOT_READY, OF_ANSWER, OF_AUTHORISE, OF_CHECK, OF_CLAIMED_PROVIDER, OF_CONFIRM,
        OF_CSI, OF_DECODING, OF_IDEMPOTENCY, OF_POOL, OF_POOL_FOR_PROVIDERS, OF_PROVIDER, OF_PROVIDER_ENTRY,
        OF_RECIPIENT, OF_REVOKE, OF_SEND, OF_START, OF_WAITING, OPERATOR_ONLY, OTHER_LOG, POLICY_UNKNOWN, TAG_INVALID,
    },
    onboarding::PROVIDER_BYTES_MAX,
};

/// The forms of a body: media type and schema.
pub type Form = (&'static str, fn() -> RefOr<Schema>);

/// Who has signed a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signed {
    /// It need not be signed.
    Not,
    /// A recipient key, in `Waymark-Recipient`.
    ByRecipient,
    /// An MSP, as RFC 9421 says.
    ByMsp,
    /// An MSP, or nobody.
    ByMspOrNot,
}

/// The body of a request.
#[derive(Clone, Copy, Debug)]
pub struct Takes {
    /// Its media type and schema.
    pub form: Form,
    /// Most bytes.
    pub bytes_max: usize,
}

/// An answer that is no error.
#[derive(Clone, Copy, Debug)]
pub struct Gives {
    /// The status.
    pub status: u16,
    /// What it is.
    pub what: &'static str,
    /// Its forms, by `Accept` where there are several; none if it has no body.
    pub forms: &'static [Form],
}

/// One method of one path.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its name.
    pub id: &'static str,
    /// In capitals.
    pub method: &'static str,
    /// As the router has it.
    pub path: &'static str,
    /// The part of the API.
    pub tag: &'static str,
    /// In a line.
    pub summary: &'static str,
    /// Who signs.
    pub signed: Signed,
    /// Whether an `Idempotency-Key` is looked at.
    pub idempotent: bool,
    /// The body, if it has one.
    pub takes: Option<Takes>,
    /// What it answers when all is well.
    pub gives: &'static [Gives],
    /// What it may end in, by the steps it takes; one kind may stand in several.
    pub ends: &'static [&'static [Kind]],
}

impl Operation {
    /// What it may end in, by status and code, each once.
    pub fn problems(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.ends.iter().copied().flatten().copied().collect();
        kinds.sort_by_key(|k| (k.status, k.code));
        kinds.dedup();
        kinds
    }
}

const NOTHING: Operation = Operation {
    id: "",
    method: "GET",
    path: "",
    tag: ABOUT,
    summary: "",
    signed: Signed::Not,
    idempotent: false,
    takes: None,
    gives: &[],
    ends: &[],
};
const POST: Operation = Operation { method: "POST", ..NOTHING };

pub(super) const LOOKUPS: &str = "look-ups";
pub(super) const POSSESSION: &str = "possession";
pub(super) const CHANGES: &str = "changes";
pub(super) const PROVIDERS: &str = "providers";
pub(super) const ABOUT: &str = "about";
pub(super) const LOG: &str = "log";

const fn json(schema: fn() -> RefOr<Schema>) -> Option<Takes> {
    Some(Takes { form: (JSON_MEDIA_TYPE, schema), bytes_max: JSON_BYTES_MAX })
}

const fn bytes(media_type: &'static str, bytes_max: usize) -> Option<Takes> {
    Some(Takes { form: (media_type, binary), bytes_max })
}

const fn gives(status: u16, what: &'static str, forms: &'static [Form]) -> Gives {
    Gives { status, what, forms }
}

const TEXT: &str = "text/plain; charset=utf-8";
const TOML: &str = "application/toml";
const NOT_MODIFIED: Gives = gives(304, "The one that `If-None-Match` names.", &[]);
const OCTETS: &str = "application/octet-stream";
const NO_FILE: Gives = gives(404, "Not there, or not yet.", &[(TEXT, text)]);
const LOG_FAULT: Gives = gives(500, "A fault of this server.", &[(TEXT, text)]);

/// All operations, in the order of the description.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        id: "lookUp",
        path: "/v1/lookups",
        tag: LOOKUPS,
        summary: "Who can be reached where, with the proof; or a hint without one",
        signed: Signed::ByMspOrNot,
        takes: json(of::<LookupRequest>),
        gives: &[gives(
            200,
            "The answer in the form that `Accept` likes best. Absence is an answer, proved like any other.",
            &[(ANSWER_MEDIA_TYPE, binary), (JSON_MEDIA_TYPE, of::<AnswerJson>), (HINT_MEDIA_TYPE, of::<Hint>)],
        )],
        ends: &[
            problem::OF_BODY,
            OF_CLAIMED_PROVIDER,
            OF_CSI,
            &[OTHER_LOG, TAG_INVALID, problem::TOO_MANY, problem::BUSY],
            OF_ANSWER,
        ],
        ..POST
    },
    Operation {
        id: "startChallenge",
        path: "/v1/challenges",
        tag: POSSESSION,
        summary: "Start a proof of possession: a code is sent",
        signed: Signed::ByRecipient,
        idempotent: true,
        takes: json(of::<ChallengeRequest>),
        gives: &[gives(201, "The challenge, the same whether the identifier is known or not.", &[CHALLENGE])],
        ends: &[problem::OF_BODY, OF_CSI, OF_RECIPIENT, OF_IDEMPOTENCY, OF_START],
        ..POST
    },
    Operation {
        id: "sendCode",
        path: "/v1/challenges/{id}/send",
        tag: POSSESSION,
        summary: "Send the same code again, by the same channel",
        signed: Signed::ByRecipient,
        takes: json(of::<SendRequest>),
        gives: &[gives(200, "The challenge.", &[CHALLENGE])],
        ends: &[problem::OF_BODY, OF_RECIPIENT, OF_SEND],
        ..POST
    },
    Operation {
        id: "checkCode",
        path: "/v1/challenges/{id}/check",
        tag: POSSESSION,
        summary: "Show a code, or ask whether the link was opened",
        signed: Signed::ByRecipient,
        takes: json(of::<CheckRequest>),
        gives: &[gives(
            200,
            "The attestation, and to the same check the same again; or that it is pending.",
            &[(JSON_MEDIA_TYPE, of::<CheckAnswer>)],
        )],
        ends: &[problem::OF_BODY, OF_RECIPIENT, OF_CHECK],
        ..POST
    },
    Operation {
        id: "confirmLink",
        path: "/v1/challenges/{id}/confirm",
        tag: POSSESSION,
        summary: "Show the secret of a mail's link: what the page behind it posts",
        takes: json(of::<ConfirmRequest>),
        gives: &[gives(200, "The link counts.", &[(JSON_MEDIA_TYPE, of::<ConfirmAnswer>)])],
        ends: &[problem::OF_BODY, &[problem::TOO_MANY], OF_CONFIRM],
        ..POST
    },
    Operation {
        id: "confirmPage",
        path: "/confirm",
        tag: POSSESSION,
        summary: "The page behind a link, the same for every link",
        gives: &[gives(200, "The page.", &[("text/html; charset=utf-8", text)])],
        ..NOTHING
    },
    Operation {
        id: "confirmScript",
        path: "/confirm.js",
        tag: POSSESSION,
        summary: "The page's script",
        gives: &[gives(200, "The script.", &[("text/javascript; charset=utf-8", text)])],
        ..NOTHING
    },
    Operation {
        id: "confirmStyle",
        path: "/confirm.css",
        tag: POSSESSION,
        summary: "The page's style",
        gives: &[gives(200, "The style.", &[("text/css; charset=utf-8", text)])],
        ..NOTHING
    },
    Operation {
        id: "change",
        path: "/v1/changes",
        tag: CHANGES,
        summary: "Change what is listed under an identifier, and wait until it is published",
        signed: Signed::ByRecipient,
        idempotent: true,
        takes: bytes(CHANGE_MEDIA_TYPE, CHANGE_BYTES_MAX),
        gives: &[gives(
            200,
            "The receipt, for a recipient; what anybody sees, for a provider. The same event has the same outcome, however \
             often it is sent.",
            &[(RECEIPT_MEDIA_TYPE, binary), (ANSWER_MEDIA_TYPE, binary)],
        )],
        ends: &[
            problem::OF_BODY,
            OF_DECODING,
            OF_RECIPIENT,
            &[problem::BUSY],
            OF_IDEMPOTENCY,
            OF_AUTHORISE,
            OF_ANSWER,
            OF_POOL,
            OF_WAITING,
        ],
        ..POST
    },
    Operation {
        id: "revoke",
        path: "/v1/revocations",
        tag: CHANGES,
        summary: "Hand in a revocation that was prepared in advance",
        idempotent: true,
        takes: bytes(EVENT_MEDIA_TYPE, EVENT_BYTES_MAX),
        gives: &[gives(204, "The key has no mappings there, or no longer: which, is not told.", &[])],
        ends: &[
            problem::OF_BODY,
            OF_DECODING,
            OF_IDEMPOTENCY,
            &[problem::TOO_MANY, problem::BUSY, CHANGE_INVALID],
            OF_REVOKE,
            OF_ANSWER,
            OF_POOL,
            OF_WAITING,
        ],
        ..POST
    },
    Operation {
        id: "history",
        path: "/v1/history",
        tag: CHANGES,
        summary: "The current record as its recipient may see it, or a page of its past from a version downwards",
        signed: Signed::ByRecipient,
        takes: bytes(HISTORY_MEDIA_TYPE, JSON_BYTES_MAX),
        gives: &[gives(
            200,
            "The receipt, if the request names no version; else the page. The next page begins below the last version of it.",
            &[(RECEIPT_MEDIA_TYPE, binary), (PAST_MEDIA_TYPE, binary)],
        )],
        ends: &[problem::OF_BODY, OF_RECIPIENT, &[NO_RECORD], OF_ANSWER],
        ..POST
    },
    Operation {
        id: "export",
        path: "/v1/exports",
        tag: CHANGES,
        summary: "Everything that is kept about an identifier, for its recipient",
        signed: Signed::ByRecipient,
        takes: json(of::<ExportRequest>),
        gives: &[gives(200, "All of it.", &[(JSON_MEDIA_TYPE, export)])],
        ends: &[problem::OF_BODY, OF_CSI, OF_RECIPIENT, &[NO_RECORD], OF_ANSWER],
        ..POST
    },
    Operation {
        id: "listProviders",
        path: "/v1/providers",
        tag: PROVIDERS,
        summary: "Whose keys the log holds, in pages by domain. Nothing proves it",
        gives: &[gives(200, "A page.", &[(JSON_MEDIA_TYPE, keys)])],
        ends: &[&[problem::MALFORMED, NOT_READY]],
        ..NOTHING
    },
    Operation {
        id: "submitProvider",
        path: "/v1/providers",
        tag: PROVIDERS,
        summary: "Have the next entry about a provider's keys logged; a valid key of its domain has signed the entry",
        takes: bytes(PROVIDER_MEDIA_TYPE, PROVIDER_BYTES_MAX),
        gives: &[gives(202, "It will be logged with the next batch.", &[])],
        ends: &[
            problem::OF_BODY,
            &[problem::TOO_MANY, OPERATOR_ONLY, NOT_READY],
            OF_PROVIDER_ENTRY,
            OF_POOL_FOR_PROVIDERS,
        ],
        ..POST
    },
    Operation {
        id: "import",
        path: "/v1/imports",
        tag: PROVIDERS,
        summary: "Hand in changes of an MSP's own users, each signed by its recipient",
        signed: Signed::ByMsp,
        idempotent: true,
        takes: bytes(IMPORT_MEDIA_TYPE, IMPORT_BYTES_MAX),
        gives: &[gives(200, "What became of each, in order.", &[(JSON_MEDIA_TYPE, of::<ImportAnswer>)])],
        ends: &[problem::OF_BODY, OF_PROVIDER, OF_IDEMPOTENCY, &[problem::BUSY, problem::INTERNAL]],
        ..POST
    },
    Operation {
        id: "wellKnown",
        path: "/.well-known/waymark",
        summary: "Who runs this directory, its keys, paths, times and limits. Nothing proves it",
        gives: &[gives(200, "All of it.", &[(JSON_MEDIA_TYPE, of::<WellKnown>)])],
        ..NOTHING
    },
    Operation {
        id: "policy",
        path: "/v1/policy",
        summary: "The policy document in effect, whose digest is in the log",
        gives: &[gives(200, "The document; its strong ETag is its digest.", &[(TOML, text)]), NOT_MODIFIED],
        ..NOTHING
    },
    Operation {
        id: "policyBefore",
        path: "/v1/policy/{digest}",
        summary: "Any policy document that the log ever committed to",
        gives: &[gives(200, "The document.", &[(TOML, text)]), NOT_MODIFIED],
        ends: &[&[POLICY_UNKNOWN, problem::INTERNAL]],
        ..NOTHING
    },
    Operation {
        id: "openapi",
        path: "/v1/openapi.json",
        summary: "This description",
        gives: &[gives(200, "OpenAPI 3.1.", &[(JSON_MEDIA_TYPE, any)])],
        ..NOTHING
    },
    Operation {
        id: "problem",
        path: "/v1/problems/{code}",
        summary: "What the code of a problem means, for people",
        gives: &[gives(200, "A text.", &[(TEXT, text)])],
        ends: &[&[problem::ROUTE_UNKNOWN]],
        ..NOTHING
    },
    Operation {
        id: "checkpoint",
        path: "/log/checkpoint",
        tag: LOG,
        summary: "The log's cosigned checkpoint (C2SP tlog-tiles)",
        gives: &[gives(200, "A signed note.", &[(TEXT, text)]), NO_FILE, LOG_FAULT],
        ..NOTHING
    },
    Operation {
        id: "tile",
        path: "/log/tile/{level}/{index}",
        tag: LOG,
        summary: "A tile or, at level `entries`, an entry bundle (C2SP tlog-tiles). The index may have slashes",
        gives: &[gives(200, "The tile.", &[(OCTETS, binary)]), NO_FILE, LOG_FAULT],
        ..NOTHING
    },
];

const CHALLENGE: Form = (JSON_MEDIA_TYPE, of::<ChallengeAnswer>);

/// The problems of the operations that `of_these` picks, each once, and those that any path may end in.
pub fn problems(of_these: impl Fn(&Operation) -> bool) -> Vec<Kind> {
    let mut kinds = vec![problem::ROUTE_UNKNOWN, problem::METHOD_NOT_ALLOWED];
    kinds.extend(OPERATIONS.iter().filter(|o| of_these(o)).flat_map(Operation::problems));
    kinds.sort_by_key(|k| (k.status, k.code));
    kinds.dedup();
    kinds
}

/// The pages about all problems of the directory, each with the operations that may end in it.
pub fn pages() -> impl Iterator<Item = (Kind, String)> {
    problems(|_| true).into_iter().map(|kind| {
        let ends = |o: &&Operation| o.problems().contains(&kind);
        let lines = OPERATIONS.iter().filter(ends).map(|o| format!("  {} {}\n", o.method, o.path));
        let named: String = lines.collect();
        let named = if named.is_empty() { "Any path may answer so.\n".to_owned() } else { format!("From\n{named}") };
        (kind, named)
    })
}

/// The problems of the part about possession, which an independent prover serves as well.
pub fn of_possession() -> impl Iterator<Item = (Kind, String)> {
    problems(|o| o.tag == POSSESSION).into_iter().map(|kind| (kind, String::new()))
}

/// The problems of look-ups, which an MSP's adapter passes on.
pub fn of_look_ups() -> Vec<Kind> {
    problems(|o| o.id == "lookUp")
}
