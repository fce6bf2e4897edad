//! What a monitor serves, to whoever reaches it: its status, its alerts, and a place to hand in watch-lists.
//!
//! ```text
//! GET  /status             Status
//! GET  /v1/alerts          AlertRecord list, oldest first; ?after=<id> for those after one
//! POST /v1/watch-lists     a WatchList, byte for byte; 204 once it is on the disk
//! ```
//!
//! Errors are RFC 9457 problems. The one place where what went wrong becomes a status.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    routing::{get, post},
};
use waymark_mapping::{
    watch::{WATCH_LIST_BYTES_MAX, WATCH_LIST_MEDIA_TYPE, WatchList, WatchRefused},
    wire::Undecoded,
};
use waymark_runtime::{
    listen::{self, Capped},
    problem::{self, Kind, Problem},
};

use crate::{
    hub::{Hub, ImportError},
    report::{AlertRecord, Status},
    watching::ImportRefused,
};

/// Most alerts in one answer; `?after=` gets the next.
pub const ALERTS_PER_ANSWER_MAX: usize = 1000;
/// When to try again while there is no room for a list.
const BUSY_RETRY_S: u64 = 600;

const SIGNATURE: Kind = Kind::new(422, "watch-list-signature", "The holder has not signed the watch-list");
const OTHER_LOG: Kind = Kind::new(422, "watch-list-other-log", "The watch-list is for a log not followed here");
const SUPERSEDED: Kind = Kind::new(409, "watch-list-superseded", "Another or a later list stands under this name");
const LIFETIME: Kind =
    Kind::new(422, "watch-list-lifetime", "The watch-list has no labels, is over, or asks for too long");

pub(crate) fn router(hub: Arc<Hub>) -> Router {
    let router = Router::new()
        .route("/status", get(status))
        .route("/v1/alerts", get(alerts))
        .route("/v1/watch-lists", post(import))
        .with_state(hub)
        .merge(problem::pages(problems()));
    listen::with_problems(router)
}

/// All problems of a monitor.
fn problems() -> impl Iterator<Item = (Kind, String)> {
    let own = [SIGNATURE, OTHER_LOG, SUPERSEDED, LIFETIME, problem::NOT_SUPPORTED, problem::INTERNAL, problem::BUSY];
    let any = [problem::ROUTE_UNKNOWN, problem::METHOD_NOT_ALLOWED];
    own.into_iter().chain(any).chain(problem::OF_BODY.iter().copied()).map(|kind| (kind, String::new()))
}

/// Runs something that may block on a lock or the disk.
async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let failed = |_| Problem::new(problem::INTERNAL, "A task of this monitor has panicked; its log says more.");
    tokio::task::spawn_blocking(job).await.map_err(failed)
}

async fn status(State(hub): State<Arc<Hub>>) -> Result<Json<Status>, Problem> {
    Ok(Json(blocking(move || hub.status()).await?))
}

async fn alerts(State(hub): State<Arc<Hub>>, uri: Uri) -> Result<Json<Vec<AlertRecord>>, Problem> {
    let after = match uri.query() {
        None => 0,
        Some(query) => query.strip_prefix("after=").and_then(|id| id.parse().ok()).ok_or_else(|| {
            Problem::new(
                problem::MALFORMED,
                "The one parameter is `after`, the number of the last alert that is known.",
            )
        })?,
    };
    Ok(Json(blocking(move || hub.reports.alerts(after, ALERTS_PER_ANSWER_MAX)).await?))
}

async fn import(
    State(hub): State<Arc<Hub>>,
    headers: HeaderMap,
    Capped(body): Capped<WATCH_LIST_BYTES_MAX>,
) -> Result<StatusCode, Problem> {
    problem::check_media_type(&headers, WATCH_LIST_MEDIA_TYPE)?;
    let list = WatchList::decode(&body).map_err(|e| undecoded(&e))?;
    blocking(move || hub.import(list)).await?.map_err(|e| problem_of(&e))?;
    Ok(StatusCode::NO_CONTENT)
}

fn undecoded(error: &Undecoded) -> Problem {
    let kind = match error {
        Undecoded::Malformed { .. } => problem::MALFORMED,
        Undecoded::NotSupported { .. } => problem::NOT_SUPPORTED,
    };
    Problem::new(kind, format!("{error}."))
}

fn problem_of(error: &ImportError) -> Problem {
    let refused = match error {
        ImportError::Refused(refused) => refused,
        ImportError::Pass(_) => {
            return Problem::new(problem::INTERNAL, "The list could not be stored; the monitor must be started again.");
        }
    };
    match refused {
        ImportRefused::Rule(WatchRefused::OtherLog) => {
            Problem::new(OTHER_LOG, "Hand it to a monitor that follows its log; /status says which this one follows.")
        }
        ImportRefused::Rule(WatchRefused::Signature) => {
            Problem::new(SIGNATURE, "Sign the list for its log with the key that it names as its holder's.")
        }
        ImportRefused::Rule(WatchRefused::Superseded) => Problem::new(
            SUPERSEDED,
            "Nothing to do if it is the very list that was sent before; else make a new one, with a name of its own.",
        ),
        ImportRefused::Rule(WatchRefused::Lifetime) => {
            Problem::new(LIFETIME, "Make a list with at least one label that ends within 180 days from now.")
        }
        ImportRefused::Busy => Problem::new(
            problem::BUSY,
            "This monitor holds as many lists as it takes, or as many renewals of this one are open.",
        )
        .retry_after(BUSY_RETRY_S),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_a_later_format_is_not_malformed() {
        let refused = |bytes: &[u8]| undecoded(&WatchList::decode(bytes).unwrap_err()).kind().code;
        assert_eq!((refused(&[1]), refused(&[9, 0])), ("malformed", "not-supported"));
    }

    #[test]
    fn each_refusal_has_a_code_of_its_own() {
        let rules = [WatchRefused::OtherLog, WatchRefused::Signature, WatchRefused::Lifetime, WatchRefused::Superseded];
        let refused = rules.map(ImportRefused::Rule).into_iter().chain([ImportRefused::Busy]);
        let codes: Vec<&str> = refused.map(|r| problem_of(&ImportError::Refused(r)).kind().code).collect();
        let want =
            ["watch-list-other-log", "watch-list-signature", "watch-list-lifetime", "watch-list-superseded", "busy"];
        assert_eq!(codes, want);
    }
}
