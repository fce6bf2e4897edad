//! The one place where a DP's errors become statuses and codes. Details say what to do; none quotes what was sent.
//!
//! Beside each function that makes problems stands the list of those that it can make (`OF_…`). What the API's description
//! promises of an operation is put together from these lists (`openapi::operations`), and `tests/contract.rs` makes
//! each of them happen.

use waymark_mapping::{provider::ProviderRefused, rules::Refused, wire::Undecoded};
use waymark_runtime::problem::{self, Kind, Problem, REPLAYED, SIGNATURE_INVALID, SIGNATURE_MISSING};

use crate::{
    authorise::NotAuthorised,
    httpsig::BadRequestSignature,
    possession::PossessionError,
    published::AnswerError,
    sequencer::pool::{Outcome, PoolRefused},
};

/// The identifier is not in canonical form.
pub const CSI_INVALID: Kind = Kind::new(422, "csi-invalid", "The identifier is not in canonical form");
/// The question is for the log of somebody else.
pub const OTHER_LOG: Kind = Kind::new(422, "other-log", "The question is for another log than the one here");
/// The tag is not one.
pub const TAG_INVALID: Kind = Kind::new(422, "tag-invalid", "The tag is not in canonical form");
/// The key is no valid key of that provider.
pub const PROVIDER_UNKNOWN: Kind =
    Kind::new(401, "provider-unknown", "The key is not valid for this provider in this role");
/// The entry was made for another state of the provider's keys.
pub const PROVIDER_STALE: Kind =
    Kind::new(409, "provider-stale", "The entry does not follow from the keys as they are");
/// The entry has no business in the log.
pub const PROVIDER_INVALID: Kind = Kind::new(422, "provider-invalid", "The provider entry is not good");
/// Only the operator may take it in.
pub const OPERATOR_ONLY: Kind = Kind::new(403, "operator-only", "Only the DP's operator takes this entry in");
/// What is to be imported, or consented to, does not name the MSP that it should.
pub const OTHER_MSP: Kind = Kind::new(422, "other-msp", "A mapping names another MSP, or none");
/// Another version is current.
pub const VERSION_STALE: Kind = Kind::new(409, "version-stale", "The change was made for another version");
/// What the change rests on has ended before it was logged.
pub const OVERTAKEN: Kind =
    Kind::new(409, "overtaken", "What the change rests on was no longer valid when it was to be logged");
/// By a fault of the DP its batch was not signed.
pub const BATCH_DROPPED: Kind = Kind::new(500, "batch-dropped", "The change was not made, by a fault of this server");
/// Another change of the identifier is on its way.
pub const CHANGE_IN_FLIGHT: Kind = Kind::new(409, "change-in-flight", "Another change is on its way");
/// The rules do not allow the change.
pub const NOT_ALLOWED: Kind = Kind::new(403, "not-allowed", "The rules do not allow this change");
/// The change contradicts itself.
pub const CHANGE_INVALID: Kind = Kind::new(422, "change-invalid", "The change contradicts itself");
/// A mapping is not good.
pub const MAPPING_INVALID: Kind = Kind::new(422, "mapping-invalid", "A mapping is not good");
/// A provider's or the DP's signature that has no say here.
pub const AUTHORITY_UNKNOWN: Kind = Kind::new(403, "authority-unknown", "The key has no say here in that role");
/// Nothing stands that would have to be claimed.
pub const NOTHING_TO_CLAIM: Kind = Kind::new(422, "nothing-to-claim", "Nothing stands that would have to be claimed");
/// Somebody claims it already.
pub const CLAIMED: Kind = Kind::new(409, "claimed", "The identifier is claimed already");
/// There is no such claim.
pub const NO_CLAIM: Kind = Kind::new(409, "no-claim", "There is no such claim");
/// The hold is not over.
pub const HOLD_NOT_OVER: Kind = Kind::new(409, "hold-not-over", "The hold of the claim is not over");
/// An objection was made.
pub const OBJECTED: Kind = Kind::new(409, "objected", "An objection was made already");
/// No room for another mapping.
pub const RECORD_FULL: Kind = Kind::new(422, "record-full", "There is no room for another mapping");
/// The MSP is not in the log.
pub const MSP_UNKNOWN: Kind = Kind::new(422, "msp-unknown", "The MSP is not in the log");
/// A mapping is for a region where this DP keeps nothing.
pub const REGION_REFUSED: Kind =
    Kind::new(422, "region-refused", "A mapping is for a region where this DP keeps nothing");
/// There is no such policy document.
pub const POLICY_UNKNOWN: Kind = Kind::new(404, "policy-unknown", "There is no such policy document");
/// The payload of the record is not kept here.
pub const RECORD_ELSEWHERE: Kind = Kind::new(503, "record-elsewhere", "The record is not kept here");
/// The prover is not in the log.
pub const PROVER_UNKNOWN: Kind = Kind::new(422, "prover-unknown", "The prover is not in the log");
/// The prover is not believed about this identifier.
pub const PROVER_SCOPE: Kind = Kind::new(422, "prover-scope", "The prover is not believed here about this identifier");
/// A consent is not good.
pub const CONSENT_INVALID: Kind = Kind::new(422, "consent-invalid", "An MSP's consent is not good");
/// A consent is missing.
pub const CONSENT_REQUIRED: Kind = Kind::new(422, "consent-required", "The MSP's consent is needed");
/// There is no such challenge.
pub const CHALLENGE_OVER: Kind = Kind::new(410, "challenge-over", "There is no such challenge, or it is over");
/// The challenge has no more sends.
pub const CHALLENGE_SENDS: Kind = Kind::new(429, "challenge-sends", "The code was sent as often as it may be");
/// No code is sent there for now.
pub const CODE_BUDGET: Kind = Kind::new(429, "code-budget", "No more codes are sent there for now");
/// The channel is not offered.
pub const CHANNEL_NOT_OFFERED: Kind = Kind::new(422, "channel-not-offered", "No code is sent that way");
/// The code could not be delivered.
pub const CHANNEL_FAILED: Kind = Kind::new(503, "channel-failed", "The code could not be delivered");
/// Nothing is published yet.
pub const NOT_READY: Kind = Kind::new(503, "not-ready", "Nothing is published yet");
/// The log takes no changes.
pub const LOG_READ_ONLY: Kind = Kind::new(503, "log-read-only", "The log takes no changes now");
/// The change is in the queue still.
pub const STILL_PENDING: Kind = Kind::new(504, "still-pending", "The change is not published yet");
/// There is no record.
pub const NO_RECORD: Kind = Kind::new(404, "no-record", "There is nothing that this key may see");
/// The idempotency key came with another request.
pub const IDEMPOTENCY_CONFLICT: Kind =
    Kind::new(422, "idempotency-conflict", "The Idempotency-Key came with another request before");

/// What an identifier that is sent as JSON may end in.
pub const OF_CSI: &[Kind] = &[CSI_INVALID];
/// What the limit by address and the check of a recipient's signature may end in.
pub const OF_RECIPIENT: &[Kind] = &[problem::TOO_MANY, SIGNATURE_MISSING, SIGNATURE_INVALID, REPLAYED];
/// What the check of a provider's signature may end in, if there is one.
pub const OF_CLAIMED_PROVIDER: &[Kind] = &[SIGNATURE_INVALID, REPLAYED, PROVIDER_UNKNOWN, NOT_READY];
/// What the check of a provider's signature may end in where there must be one.
pub const OF_PROVIDER: &[Kind] =
    &[problem::TOO_MANY, SIGNATURE_MISSING, SIGNATURE_INVALID, REPLAYED, PROVIDER_UNKNOWN, NOT_READY];
/// What an `Idempotency-Key` may end in.
pub const OF_IDEMPOTENCY: &[Kind] = &[problem::MALFORMED, IDEMPOTENCY_CONFLICT];
/// What waiting for a change to be published may end in.
pub const OF_WAITING: &[Kind] = &[OVERTAKEN, BATCH_DROPPED, LOG_READ_ONLY, STILL_PENDING];

/// A change that was not published, or not yet: `None` for one that was.
pub fn waited(outcome: Outcome) -> Option<Problem> {
    Some(match outcome {
        Outcome::Published => return None,
        Outcome::Pending => Problem::new(STILL_PENDING, "Send the same request again to wait on.").retry_after(5),
        Outcome::Overtaken => {
            let what = "A key, a consent or a proof that it rests on has ended, and it was not made. Make it again; the same request \
                        again is judged by what is published now.";
            Problem::new(OVERTAKEN, what)
        }
        Outcome::Dropped => {
            let what = "It has been written to the server's log. The same request may be sent again.";
            Problem::new(BATCH_DROPPED, what).retry_after(5)
        }
        Outcome::Unknown => {
            Problem::new(LOG_READ_ONLY, "Whether the change was made shows later: ask again.").retry_after(5)
        }
    })
}

/// Of [`undecoded`], beside what any body may end in.
pub const OF_DECODING: &[Kind] = &[problem::NOT_SUPPORTED];

/// Bytes that are not what they should be, or not yet: what is later than this server is no fault of its sender's.
pub fn undecoded(error: &Undecoded) -> Problem {
    let kind = match error {
        Undecoded::Malformed { .. } => problem::MALFORMED,
        Undecoded::NotSupported { .. } => problem::NOT_SUPPORTED,
    };
    Problem::new(kind, format!("{error}."))
}

/// Of [`answer`].
pub const OF_ANSWER: &[Kind] = &[NOT_READY, RECORD_ELSEWHERE, problem::INTERNAL];

/// An answer that could not be made.
pub fn answer(error: &AnswerError) -> Problem {
    match error {
        AnswerError::NotReady => Problem::new(NOT_READY, "Too few witnesses have cosigned yet.").retry_after(2),
        AnswerError::Elsewhere => {
            Problem::new(RECORD_ELSEWHERE, "There is a record, and its payload is not kept here.")
        }
        AnswerError::Store(e) => internal(e),
        AnswerError::TooLarge => internal(error),
    }
}

/// A fault of ours: the reason goes to our log, not to the client.
pub fn internal(error: &dyn std::error::Error) -> Problem {
    tracing::error!(%error, "a request failed");
    Problem::new(problem::INTERNAL, "It has been written to the server's log.")
}

/// Of [`possession`], when a challenge is started.
pub const OF_START: &[Kind] = &[CHANNEL_NOT_OFFERED, CODE_BUDGET, problem::BUSY, CHANNEL_FAILED];
/// Of [`possession`], when a code is sent again.
pub const OF_SEND: &[Kind] = &[CHALLENGE_OVER, CHALLENGE_SENDS, CODE_BUDGET, problem::BUSY, CHANNEL_FAILED];
/// Of [`possession`], when a code is checked, or a mail that came in is answered with one.
pub const OF_CHECK: &[Kind] = &[CHALLENGE_OVER, CODE_BUDGET, problem::BUSY, CHANNEL_FAILED];
/// Of [`possession`], when a link is opened.
pub const OF_CONFIRM: &[Kind] = &[CHALLENGE_OVER, problem::BUSY];

/// A proof of possession that did not come about.
pub fn possession(error: &PossessionError) -> Problem {
    match error {
        PossessionError::NoChallenge => Problem::new(CHALLENGE_OVER, "Start another one."),
        PossessionError::NotServed => {
            Problem::new(CHANNEL_NOT_OFFERED, "Name another channel, or none, or prove possession to another prover.")
        }
        PossessionError::NoSends { retry_after_s } => {
            Problem::new(CHALLENGE_SENDS, "Start another one when this one is over.").retry_after(*retry_after_s)
        }
        // Which of the accounts is spent is not told.
        PossessionError::Spent(spent) => {
            Problem::new(CODE_BUDGET, "Try again later, or another way.").retry_after(spent.retry_after_s)
        }
        // The log says why it could not be written.
        PossessionError::Busy | PossessionError::NotKept => {
            Problem::new(problem::BUSY, "Try again in a while.").retry_after(30)
        }
        PossessionError::Sender(e) => {
            tracing::error!(error = %e, "a code could not be delivered");
            Problem::new(CHANNEL_FAILED, "Try again in a while.").retry_after(30)
        }
    }
}

/// A provider's signature under a request that is not good.
pub fn request_signature(error: BadRequestSignature) -> Problem {
    Problem::new(SIGNATURE_INVALID, error.to_string())
}

/// Of [`provider`].
pub const OF_PROVIDER_ENTRY: &[Kind] = &[PROVIDER_STALE, NOT_ALLOWED, PROVIDER_INVALID, problem::NOT_SUPPORTED];

/// A provider entry that does not follow.
pub fn provider(error: ProviderRefused) -> Problem {
    let kind = match error {
        ProviderRefused::NotNext => PROVIDER_STALE,
        ProviderRefused::NotByKey | ProviderRefused::NotByValid => NOT_ALLOWED,
        ProviderRefused::NotSupported => problem::NOT_SUPPORTED,
        ProviderRefused::WrongKey | ProviderRefused::TooMany => PROVIDER_INVALID,
    };
    Problem::new(kind, error.to_string())
}

/// Of [`pool`], for a change.
pub const OF_POOL: &[Kind] = &[CHANGE_IN_FLIGHT, VERSION_STALE, problem::BUSY, LOG_READ_ONLY];
/// Of [`pool`], for a provider entry.
pub const OF_POOL_FOR_PROVIDERS: &[Kind] = &[CHANGE_IN_FLIGHT, problem::BUSY, LOG_READ_ONLY];

/// A change or a provider entry that was not queued. There may be room in so many seconds.
pub fn pool(error: PoolRefused, room_in_s: u64) -> Problem {
    match error {
        PoolRefused::InFlight => Problem::new(CHANGE_IN_FLIGHT, "Look again later.").retry_after(room_in_s),
        PoolRefused::Overtaken => Problem::new(VERSION_STALE, "Look again, then decide."),
        PoolRefused::Full => Problem::new(problem::BUSY, "The queue is full.").retry_after(room_in_s),
        PoolRefused::Spoils => {
            let what =
                "No batch with it could be signed, by a fault of this server. It is tried again after a restart.";
            Problem::new(problem::BUSY, what).retry_after(600)
        }
        PoolRefused::ReadOnly => Problem::new(LOG_READ_ONLY, "Look-ups and proofs go on.").retry_after(60),
    }
}

/// Of [`authorise`], beside [`OF_ANSWER`]. ([`RECORD_FULL`] stands for a record with no version left, too, which nobody lives to see.)
pub const OF_AUTHORISE: &[Kind] = &[
    NOT_ALLOWED,
    AUTHORITY_UNKNOWN,
    PROVER_UNKNOWN,
    PROVER_SCOPE,
    MSP_UNKNOWN,
    CONSENT_INVALID,
    CONSENT_REQUIRED,
    VERSION_STALE,
    SIGNATURE_INVALID,
    NOTHING_TO_CLAIM,
    CLAIMED,
    NO_CLAIM,
    HOLD_NOT_OVER,
    OBJECTED,
    RECORD_FULL,
    MAPPING_INVALID,
    REGION_REFUSED,
    CHANGE_INVALID,
];
/// The same for a revocation: it adds nothing and has one signer.
pub const OF_REVOKE: &[Kind] = &[PROVER_UNKNOWN, PROVER_SCOPE, VERSION_STALE, SIGNATURE_INVALID, CHANGE_INVALID];

/// A change that was not authorised.
pub fn authorise(error: &NotAuthorised) -> Problem {
    let detail = error.to_string();
    let kind = match error {
        NotAuthorised::Rules(refused) => return rules(*refused),
        NotAuthorised::Answer(e) => return answer(e),
        NotAuthorised::OtherSigner => NOT_ALLOWED,
        NotAuthorised::UnknownAuthority => AUTHORITY_UNKNOWN,
        NotAuthorised::UnknownProver => PROVER_UNKNOWN,
        NotAuthorised::ProverScope => PROVER_SCOPE,
        NotAuthorised::UnknownMsp => MSP_UNKNOWN,
        NotAuthorised::Region => REGION_REFUSED,
        NotAuthorised::BadConsent => CONSENT_INVALID,
        NotAuthorised::ConsentRequired => CONSENT_REQUIRED,
    };
    Problem::new(kind, detail)
}

fn rules(refused: Refused) -> Problem {
    let kind = match refused {
        // Nothing of the current record is told: it may be somebody else's.
        Refused::Stale => VERSION_STALE,
        Refused::Signature => SIGNATURE_INVALID,
        Refused::NotAuthorised | Refused::Bystander | Refused::Lapsed | Refused::Weaker => NOT_ALLOWED,
        Refused::NothingToClaim => NOTHING_TO_CLAIM,
        Refused::Claimed | Refused::Unsettled => CLAIMED,
        Refused::NoClaim => NO_CLAIM,
        Refused::Held => HOLD_NOT_OVER,
        Refused::Objected => OBJECTED,
        Refused::Full => RECORD_FULL,
        Refused::Mapping(_) | Refused::Time => MAPPING_INVALID,
        Refused::Elsewhere
        | Refused::Shape
        | Refused::OtherMappings
        | Refused::NotThere
        | Refused::NotServed
        | Refused::DatedAhead
        | Refused::Twice => CHANGE_INVALID,
    };
    Problem::new(kind, refused.to_string())
}
