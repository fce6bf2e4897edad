//! The DP's routes. Two dialects that never mix: the log (C2SP paths, static, for everybody) and the directory (`/v1`).
//!
//! | | | |
//! |---|---|---|
//! | GET | /log/checkpoint, /log/tile/... | the log, for any C2SP tool |
//! | POST | /v1/lookups | an answer, or a hint |
//! | POST | /v1/challenges, /v1/challenges/{id}/send, .../check, .../confirm | possession ([`challenges`], as at a prover) |
//! | GET | /confirm | the page behind a link in a mail |
//! | POST | /v1/changes | a change, answered by its receipt |
//! | POST | /v1/revocations | a revocation prepared in advance, from whoever has it |
//! | POST | /v1/exports | everything that is kept about a CSI, for its recipient |
//! | POST | /v1/history | the current record as its recipient may see it; its past |
//! | GET, POST | /v1/providers | who is onboarded; the next key of a provider that is |
//! | POST | /v1/imports | many changes that an MSP carries for its users |
//! | GET | /v1/policy, /v1/policy/{digest} | the policy document in effect; one that was logged before |
//! | GET | /.well-known/waymark | who runs it, keys, paths, times, limits |
//! | GET | /v1/openapi.json | all of this for programs ([`openapi`]) |
//! | GET | /v1/problems/{code} | what a problem means, for people |
//!
//! Everything that names a CSI is a POST, so that no identifier stands in a URL.
//!
//! The log answers pages of any origin; the directory has no CORS. It is for apps: a page that could ask in its visitor's name
//! would spend the visitor's look-ups and codes, and turn visitors into crawlers.

mod about;
pub mod challenges;
mod changes;
mod confirm;
pub mod error;
pub mod idempotency;
mod imports;
mod limit;
mod log;
mod lookups;
pub mod openapi;
mod policy;
mod provider_auth;
mod providers;
pub(crate) mod recipient;
mod v1;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    routing::{get, post},
};
use tokio::sync::Semaphore;
use waymark_log::checkpoint::Origin;
use waymark_mapping::{entry::HEAD_INTERVAL_MS_MAX, names::Domain};
use waymark_runtime::{
    clock::Clock,
    listen::CONNECTIONS_MAX,
    problem::{self, Problem},
};

pub use self::{about::well_known, imports::IMPORTS_MAX};
use self::{
    idempotency::Replays,
    imports::ImportPlaces,
    limit::{COPIES_PART, LookupLimit, Place, Places, RelayLimit, RequestLimit},
    recipient::Nonces,
};
use crate::{
    api::{IMPORT_ITEMS_MAX, well_known::WellKnown},
    authorise::{TrustedCsip, TrustedProver},
    policy::shelf::{InEffect, Logged},
    published::Answering,
    recycling::Registers,
    sequencer::pool::{PENDING_MAX, Pool},
    store::LogFiles,
};

/// Most changes that are in work or wait for the log at a time.
pub const CHANGES_MAX: usize = 2048;
/// Most revocations that are in work or wait for the log at a time: no change takes their places.
pub const REVOCATIONS_MAX: usize = 1024;
// Whoever has a place finds room in the pool: no door can fill it for the others.
const _: () = assert!(CHANGES_MAX + REVOCATIONS_MAX + IMPORTS_MAX * IMPORT_ITEMS_MAX <= PENDING_MAX);
// They never take all connections: one that waits for a receipt is at work, and gives way to nobody.
const _: () = assert!((CHANGES_MAX + REVOCATIONS_MAX) / COPIES_PART * (COPIES_PART + 1) < CONNECTIONS_MAX);
/// After how many seconds somebody may try again who has found no room in the queue, while heads are published.
const ROOM_S: u64 = 1;
/// The same, at most, while none is: whoever waits is not to wait much longer than it lasts.
const ROOM_S_MAX: u64 = 300;
/// Most look-ups that are in work at a time: each takes some 0.1 ms of one core.
pub const LOOKUPS_MAX: usize = 256;

/// What the routes work with.
pub struct App {
    /// The time.
    pub clock: Clock,
    /// The data folder, for provider entries that wait.
    pub dir: PathBuf,
    /// The log.
    pub origin: Origin,
    /// Makes answers.
    pub answering: Arc<Answering>,
    /// What waits for the log.
    pub pool: Arc<Pool>,
    /// The public folder.
    pub files: LogFiles,
    /// The policy document in effect, and those before.
    pub policies: InEffect,
    /// Registers of numbers that were given to somebody else.
    pub recycling: Registers,
    /// What people and tools are told about it, as of the start.
    pub well_known: WellKnown,
    /// The CSIPs whose releases are believed.
    pub csips: Vec<TrustedCsip>,
    /// The provers that are believed besides the DP.
    pub provers: Vec<TrustedProver>,
    nonces: Nonces,
    provider_nonces: Nonces,
    replays: Replays<()>,
    /// By the document in effect: so many a minute.
    lookups: Mutex<(u32, Arc<LookupLimit>)>,
    relays: RelayLimit,
    requests: RequestLimit,
    claims: RequestLimit,
    lookup_slots: Semaphore,
    change_places: Arc<Places>,
    revocation_places: Arc<Places>,
    import_places: Arc<ImportPlaces>,
}

impl App {
    /// Puts the parts together.
    #[allow(clippy::too_many_arguments, reason = "the parts of a DP, named, once")]
    pub fn new(
        clock: Clock,
        dir: PathBuf,
        origin: Origin,
        answering: Arc<Answering>,
        pool: Arc<Pool>,
        files: LogFiles,
        policies: InEffect,
        well_known: WellKnown,
        csips: Vec<TrustedCsip>,
        provers: Vec<TrustedProver>,
        recycling: Registers,
        relays_per_minute: u32,
        requests_per_minute: u32,
    ) -> Self {
        Self {
            clock,
            dir,
            origin,
            answering,
            pool,
            files,
            policies,
            well_known,
            csips,
            provers,
            recycling,
            nonces: Nonces::default(),
            provider_nonces: Nonces::default(),
            replays: Replays::default(),
            lookups: Mutex::new((0, Arc::new(LookupLimit::new(0)))),
            relays: RelayLimit::new(relays_per_minute),
            requests: RequestLimit::new(requests_per_minute),
            claims: RequestLimit::of_claims(requests_per_minute, relays_per_minute),
            lookup_slots: Semaphore::new(LOOKUPS_MAX),
            change_places: Places::new(CHANGES_MAX),
            revocation_places: Places::new(REVOCATIONS_MAX),
            import_places: Arc::default(),
        }
    }

    /// The policy document in effect.
    pub fn policy(&self) -> Arc<Logged> {
        self.policies.at(self.answering.published.snapshot().map(|s| s.policy).as_ref())
    }

    /// The limit that the document in effect sets; another document begins to count anew.
    fn lookup_limit(&self) -> Arc<LookupLimit> {
        let per_minute = self.policy().document.limits.lookups_per_minute;
        let mut limit = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        if limit.0 != per_minute {
            *limit = (per_minute, Arc::new(LookupLimit::new(per_minute)));
        }
        Arc::clone(&limit.1)
    }

    /// Counts a look-up that an MSP relays.
    fn count_relayed(&self, msp: &Domain) -> Result<(), Problem> {
        self.relays.count(msp, self.clock.now()).map_err(|wait| {
            Problem::new(problem::TOO_MANY, "Too many look-ups of this provider in a minute.").retry_after(wait)
        })
    }

    /// Takes a place for a change or a revocation.
    fn take_place(&self, places: &Arc<Places>, address: IpAddr, body: &[u8]) -> Result<Arc<Place>, Problem> {
        places.take(address, body).map(Arc::new).map_err(|busy| busy.retry_after(self.room_in_s()))
    }

    /// When there may be room in the queue again. It comes with each head that is published, and a log is never quiet for
    /// longer than [`HEAD_INTERVAL_MS_MAX`]: where the latest head is older, witnesses are away, and what has lasted so long
    /// is taken to last as long again.
    fn room_in_s(&self) -> u64 {
        let published = self.answering.published.snapshot();
        let age_ms = published.map_or(0, |shown| self.clock.now().since(shown.head.time));
        if age_ms > HEAD_INTERVAL_MS_MAX { (age_ms / 1000).min(ROOM_S_MAX) } else { ROOM_S }
    }

    /// Counts any other request by address.
    fn count_request(&self, address: IpAddr) -> Result<(), Problem> {
        self.requests.count(address, self.clock.now())
    }

    /// Counts a look-up, or what costs as much, by address.
    fn count_look_up(&self, address: IpAddr) -> Result<(), Problem> {
        self.lookup_limit().count(address, self.clock.now()).map_err(|wait| {
            Problem::new(problem::TOO_MANY, "Too many look-ups from this address in a minute.").retry_after(wait)
        })
    }
}

/// The route table.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/log/checkpoint", get(log::checkpoint))
        .route("/log/{*path}", get(log::tile))
        .route("/v1/lookups", post(lookups::look_up))
        .route("/v1/changes", post(changes::change))
        .route("/v1/revocations", post(changes::revoke))
        .route("/v1/history", post(changes::history))
        .route("/v1/exports", post(changes::export_all))
        .route("/v1/imports", post(imports::import))
        .route("/v1/providers", get(providers::list).post(providers::submit))
        .route("/v1/policy", get(policy::current))
        .route("/v1/policy/{digest}", get(policy::by_digest))
        .route("/v1/openapi.json", get(openapi::serve))
        .route("/.well-known/waymark", get(about::serve))
        .with_state(app)
        .merge(problem::pages(openapi::operations::pages()))
}
