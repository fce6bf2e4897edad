//! What a monitor serves, to whoever reaches it: its status, its alerts, and a place to hand in watch-lists.
//!
//! ```text
//! GET  /status             Status: counts, and what was found about the logs
//! POST /v1/watch-lists     a WatchList, byte for byte; 204 once it is on the disk
//! POST /v1/alerts          AlertsRequest, signed by the holder of the list; AlertsAnswer
//! ```
//!
//! A list's alerts are its holder's alone: two alerts of one list belong to one identifier, which the log hides. The signature
//! under a request needs no table of nonces, since to read twice changes nothing.
//!
//! Anybody who reaches the port may hand lists in, and lists are kept for half a year. So each address and its neighbours have a
//! share, of requests and of new lists ([`Doors`]); the share is counted before anything else is done. The status goes over all lists
//! and is the same for everybody, so all who ask at a time share one ([`SharedStatus`]).
//!
//! Errors are RFC 9457 problems. The one place where what went wrong becomes a status.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use data_encoding::HEXLOWER;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};
use waymark_log::{checkpoint::Origin, key::Key, time::UnixMillis};
use waymark_mapping::{
    request::{RECIPIENT_HEADER, RequestSignature},
    watch::{WATCH_LIFETIME_MS_MAX, WATCH_LIST_BYTES_MAX, WATCH_LIST_MEDIA_TYPE, WatchId, WatchList, WatchRefused},
    wire::Undecoded,
};
use waymark_runtime::{
    budget::{AddressBudget, MONTH_MS, Shares, StayingBudget, StayingShares},
    listen::{self, Capped, Peer},
    problem::{self, Kind, Problem, REPLAYED, SIGNATURE_INVALID, SIGNATURE_MISSING},
};

use crate::{
    hub::{Hub, ImportError},
    report::{AlertsAnswer, AlertsRequest},
    state::PassError,
    watching::{ImportRefused, WATCH_LISTS_MAX},
};

/// Requests a minute from one address and its neighbours, lists and questions for alerts together. An app asks now and then, and
/// some thousand people may have one IPv4 address, which has a site's share: a hundred and fifty who come in one minute ask three
/// times each. A renewal costs a write to the disk, so a host has two of them a second.
pub const REQUESTS_A_MINUTE: Shares = Shares { host: 120, site: 480, network: 1920 };
/// New lists from one address and its neighbours: anybody who has one renews it under its name, for years. A day lets in three crowds
/// of a hundred and fifty newcomers who have one IPv4 address, a month ten of them.
pub const NEW_LISTS: StayingShares = StayingShares {
    day: Shares { host: 32, site: 500, network: 1000 },
    month: Shares { host: 300, site: 1500, network: 3000 },
};
// A list that is not renewed stands for half a year, which meets seven months of the budget. In all that time one network fills no
// more than a quarter of the room, and one IPv4 address an eighth.
const _: () = assert!(NEW_LISTS.month.network as u64 * MONTHS <= WATCH_LISTS_MAX as u64 / 4);
const _: () = assert!(NEW_LISTS.month.site as u64 * MONTHS <= WATCH_LISTS_MAX as u64 / 8);
const MONTHS: u64 = WATCH_LIFETIME_MS_MAX.div_ceil(MONTH_MS) + 1;
const MINUTE_MS: u64 = 60_000;
/// When to try again while there is no room for a list.
const BUSY_RETRY_S: u64 = 600;
/// When to try again while the disk is full: it goes on within seconds of there being room.
const FULL_RETRY_S: u64 = 60;
/// When to try again with a list that names a larger tree than was seen: the log is looked at more often.
const AHEAD_RETRY_S: u64 = 10;
/// From the beginning of one status to that of the next, at least. With a hundred thousand lists one takes some milliseconds, in which
/// the logs' states are locked.
const STATUS_EVERY: Duration = Duration::from_millis(100);
/// Most bytes in a question for alerts: an origin, a name and a number.
const JSON_BYTES_MAX: usize = 4 << 10;
const JSON_MEDIA_TYPE: &str = "application/json";

const SIGNATURE: Kind = Kind::new(422, "watch-list-signature", "The holder has not signed the watch-list");
const OTHER_LOG: Kind = Kind::new(422, "watch-list-other-log", "The watch-list is for a log not followed here");
const SUPERSEDED: Kind = Kind::new(409, "watch-list-superseded", "Another or a later list stands under this name");
const LIFETIME: Kind =
    Kind::new(422, "watch-list-lifetime", "The watch-list has no labels, is over, or asks for too long");
const LOGGED: Kind = Kind::new(422, "watch-list-logged", "What the new watch-list watches for has happened already");
const NO_LIST: Kind = Kind::new(404, "no-list", "This key has no such watch-list here");

/// What strangers may do, by their addresses.
struct Doors {
    requests: AddressBudget,
    new_lists: StayingBudget,
}

impl Default for Doors {
    fn default() -> Self {
        let requests = AddressBudget::new(MINUTE_MS, REQUESTS_A_MINUTE);
        Self { requests, new_lists: StayingBudget::new(NEW_LISTS) }
    }
}

impl Doors {
    /// Lets a request in, or says when to come again. It touches no log's state: a flood that is refused delays nobody.
    fn enter(&self, address: IpAddr, now: UnixMillis) -> Result<(), Problem> {
        let too_many = "Too many requests have come from this address or its neighbours in this minute.";
        self.requests.count(address, now).map_err(|s| Problem::new(problem::TOO_MANY, too_many).retry_after(s))
    }
}

/// The status for all who ask. Each gets one that was begun after they had asked, and all who came before it began get the same:
/// so a flood of questions costs one status in [`STATUS_EVERY`], however many there are.
#[derive(Default)]
struct SharedStatus {
    /// How many have been begun.
    begun: AtomicU64,
    last: Mutex<LastStatus>,
}

#[derive(Default)]
struct LastStatus {
    begun_at: Option<Instant>,
    /// The latest one that is done, and which it was.
    done: Option<(u64, Bytes)>,
}

impl SharedStatus {
    async fn get(&self, make: impl AsyncFnOnce() -> Result<Bytes, Problem>) -> Result<Bytes, Problem> {
        let before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((_, status)) = last.done.as_ref().filter(|(number, _)| *number > before) {
            return Ok(status.clone());
        }
        if let Some(at) = last.begun_at {
            sleep_until(at + STATUS_EVERY).await;
        }
        last.begun_at = Some(Instant::now());
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let status = make().await?;
        last.done = Some((number, status.clone()));
        Ok(status)
    }
}

struct App {
    hub: Arc<Hub>,
    doors: Doors,
    status: SharedStatus,
}

pub(crate) fn router(hub: Arc<Hub>) -> Router {
    let router = Router::new()
        .route("/status", get(status))
        .route("/v1/watch-lists", post(import))
        .route("/v1/alerts", post(alerts))
        .with_state(Arc::new(App { hub, doors: Doors::default(), status: SharedStatus::default() }))
        .merge(problem::pages(problems()));
    listen::with_problems(router)
}

/// All problems of a monitor.
fn problems() -> impl Iterator<Item = (Kind, String)> {
    let of_lists = [SIGNATURE, OTHER_LOG, SUPERSEDED, LIFETIME, LOGGED, problem::NOT_SUPPORTED];
    let of_alerts = [SIGNATURE_MISSING, SIGNATURE_INVALID, REPLAYED, NO_LIST];
    let any =
        [problem::ROUTE_UNKNOWN, problem::METHOD_NOT_ALLOWED, problem::INTERNAL, problem::BUSY, problem::TOO_MANY];
    let all = of_lists.into_iter().chain(of_alerts).chain(any).chain(problem::OF_BODY.iter().copied());
    all.map(|kind| (kind, String::new()))
}

/// Runs something that may block on a lock or the disk.
async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let failed = |_| Problem::new(problem::INTERNAL, "A task of this monitor has panicked; its log says more.");
    tokio::task::spawn_blocking(job).await.map_err(failed)
}

async fn status(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let hub = Arc::clone(&app.hub);
    let make = async || {
        let made = blocking(move || serde_json::to_vec(&hub.status())).await?;
        let failed = |_| Problem::new(problem::INTERNAL, "The status has no JSON form, by a fault of this monitor.");
        made.map(Bytes::from).map_err(failed)
    };
    let status = app.status.get(make).await?;
    Ok(([(header::CONTENT_TYPE, JSON_MEDIA_TYPE)], status).into_response())
}

async fn import(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Capped<WATCH_LIST_BYTES_MAX>, Problem>,
) -> Result<StatusCode, Problem> {
    app.doors.enter(peer.ip(), app.hub.now())?;
    problem::check_media_type(&headers, WATCH_LIST_MEDIA_TYPE)?;
    let list = WatchList::decode(&body?.0).map_err(|e| undecoded(&e))?;
    let take = move || app.hub.import(list, || app.doors.new_lists.count(peer.ip(), app.hub.now()));
    blocking(take).await?.map_err(|e| problem_of(&e))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn alerts(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Capped<JSON_BYTES_MAX>, Problem>,
) -> Result<Json<AlertsAnswer>, Problem> {
    app.doors.enter(peer.ip(), app.hub.now())?;
    problem::check_media_type(&headers, JSON_MEDIA_TYPE)?;
    let (body, malformed) = (body?.0, || Problem::new(problem::MALFORMED, "Name a log and, in hex, a list."));
    let request: AlertsRequest = serde_json::from_slice(&body).map_err(|_| malformed())?;
    let list = HEXLOWER.decode(request.list.as_bytes()).ok().and_then(|id| id.try_into().ok()).map(WatchId);
    let (list, origin) = (list.ok_or_else(malformed)?, Origin::new(&request.log).map_err(|_| malformed())?);
    let hub = Arc::clone(&app.hub);
    let ask = move || {
        let holder = signer(&origin, &headers, &body, app.hub.time_of(&origin))?;
        Ok::<_, Problem>(app.hub.alerts(&origin, &list, &holder, request.after))
    };
    let of_list = blocking(ask).await??.map_err(|error| {
        if hub.waits_for_room(&error) {
            return no_room();
        }
        tracing::error!(%error, "alerts could not be read");
        Problem::new(problem::INTERNAL, "The alerts could not be read; the monitor's log says more.")
    })?;
    // The same answer whether there is no such list or it is somebody else's.
    of_list
        .map(Json)
        .ok_or_else(|| Problem::new(NO_LIST, "Hand the list in first, and sign with the key that it names."))
}

/// Who has signed a question for alerts.
fn signer(origin: &Origin, headers: &HeaderMap, body: &[u8], now: UnixMillis) -> Result<Key, Problem> {
    let value = headers.get(RECIPIENT_HEADER).ok_or_else(|| {
        Problem::new(SIGNATURE_MISSING, format!("Sign the request with the list's key in {RECIPIENT_HEADER}."))
    })?;
    let signature = value.to_str().ok().and_then(RequestSignature::parse);
    let signature = signature.filter(|signature| signature.is_under(origin, "POST", "/v1/alerts", body));
    let invalid =
        || Problem::new(SIGNATURE_INVALID, "Method, path, body, time and nonce are signed, for the list's log.");
    let signature = signature.ok_or_else(invalid)?;
    if !signature.is_timely(now) {
        return Err(Problem::new(REPLAYED, "The request's time is over five minutes off."));
    }
    Ok(signature.key)
}

fn undecoded(error: &Undecoded) -> Problem {
    let kind = match error {
        Undecoded::Malformed { .. } => problem::MALFORMED,
        Undecoded::NotSupported { .. } => problem::NOT_SUPPORTED,
    };
    Problem::new(kind, format!("{error}."))
}

fn no_room() -> Problem {
    Problem::new(problem::BUSY, "The disk of this monitor is full. Ask again later; its operator has been told.")
        .retry_after(FULL_RETRY_S)
}

fn problem_of(error: &ImportError) -> Problem {
    let refused = match error {
        ImportError::Refused(refused) => refused,
        ImportError::Pass(PassError::Full) => return no_room(),
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
        ImportRefused::Rule(WatchRefused::Logged) => Problem::new(
            LOGGED,
            "Look at the record again and make a new list. If the app was shown that nothing had changed, the log shows the \
             app another tree than it shows this monitor.",
        ),
        ImportRefused::Rule(WatchRefused::Ahead) => Problem::new(
            problem::BUSY,
            "The list names a larger tree than this monitor has seen the log sign. Hand it in again in a while.",
        )
        .retry_after(AHEAD_RETRY_S),
        ImportRefused::TooOften(seconds) => {
            Problem::new(problem::TOO_MANY, format!("{refused}.")).retry_after(*seconds)
        }
        ImportRefused::TooMany(seconds) => Problem::new(
            problem::TOO_MANY,
            "As many new lists have come from this address or its neighbours as are taken for now. A renewal is taken at any time.",
        )
        .retry_after(*seconds),
        ImportRefused::Busy | ImportRefused::Rule(WatchRefused::Open) => Problem::new(
            problem::BUSY,
            "This monitor holds as many lists as it takes, or as many renewals of this one are open.",
        )
        .retry_after(BUSY_RETRY_S),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_of_questions_for_the_status_costs_one_in_a_tenth_of_a_second_and_none_gets_an_older_one() {
        let (shared, made) = (Arc::new(SharedStatus::default()), Arc::new(AtomicU64::new(0)));
        // A status says here which one it was.
        let ask = |shared: Arc<SharedStatus>, made: Arc<AtomicU64>| async move {
            let make = async || {
                let number = made.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::task::yield_now().await;
                Ok(Bytes::copy_from_slice(&number.to_be_bytes()))
            };
            u64::from_be_bytes((*shared.get(make).await.unwrap()).try_into().unwrap())
        };
        let (began, mut asking) = (Instant::now(), tokio::task::JoinSet::new());
        for _ in 0..10_000 {
            asking.spawn(ask(Arc::clone(&shared), Arc::clone(&made)));
        }
        // The first one was begun when only one had asked; all who came meanwhile share the next.
        let mut got = asking.join_all().await;
        got.sort_unstable();
        assert_eq!((got[0], &got[1..]), (1, &[2; 9_999][..]));
        assert!(began.elapsed() >= STATUS_EVERY);
        assert_eq!(ask(Arc::clone(&shared), made).await, 3, "who comes later sees what has happened since");
        assert!(began.elapsed() >= 2 * STATUS_EVERY);
    }

    #[test]
    fn a_list_of_a_later_format_is_not_malformed() {
        let refused = |bytes: &[u8]| undecoded(&WatchList::decode(bytes).unwrap_err()).kind().code;
        assert_eq!((refused(&[1]), refused(&[9, 0])), ("malformed", "not-supported"));
    }

    #[test]
    fn each_refusal_has_its_code() {
        let rules = [
            (WatchRefused::OtherLog, "watch-list-other-log"),
            (WatchRefused::Signature, "watch-list-signature"),
            (WatchRefused::Lifetime, "watch-list-lifetime"),
            (WatchRefused::Superseded, "watch-list-superseded"),
            (WatchRefused::Logged, "watch-list-logged"),
            (WatchRefused::Ahead, "busy"),
            (WatchRefused::Open, "busy"),
        ];
        let rules = rules.map(|(rule, code)| (ImportRefused::Rule(rule), code)).into_iter();
        let others = [
            (ImportRefused::Busy, "busy"),
            (ImportRefused::TooMany(1), "too-many-requests"),
            (ImportRefused::TooOften(1), "too-many-requests"),
        ];
        let (refused, want): (Vec<_>, Vec<_>) = rules.chain(others).unzip();
        let code = |refused| problem_of(&ImportError::Refused(refused)).kind().code;
        let codes: Vec<&str> = refused.into_iter().map(code).collect();
        assert_eq!(codes, want);
    }
}
