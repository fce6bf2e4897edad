//! The DP's routes. Two dialects that never mix: the log (C2SP paths, static, for everybody) and the directory (`/v1`).
//!
//! | | | |
//! |---|---|---|
//! | GET | /log/checkpoint, /log/tile/... | the log, for any C2SP tool |
//! | POST | /v1/lookups | an answer |
//! | POST | /v1/challenges, /v1/challenges/{id}/check | possession |
//! | POST | /v1/changes | a change, answered by its receipt |
//! | POST | /v1/history | the current record as its recipient may see it |
//! | GET, POST | /v1/providers | who is onboarded; the next key of a provider that is |
//! | POST | /v1/imports | many changes that an MSP carries for its users |
//! | GET | /v1/policy | the policy document |
//!
//! Everything that names a CSI is a POST, so that no identifier stands in a URL.

pub mod error;
mod imports;
mod limit;
mod log;
mod provider_auth;
mod providers;
pub(crate) mod recipient;
mod v1;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};
use tokio::sync::Semaphore;
use waymark_log::checkpoint::Origin;
use waymark_runtime::clock::Clock;

use self::{
    imports::IMPORTS_MAX,
    limit::{LookupLimit, RelayLimit},
    provider_auth::ProviderNonces,
    recipient::Nonces,
};
use crate::{possession::Possession, published::Answering, sequencer::pool::Pool, store::LogFiles};

/// Most changes that are in work or wait for their receipt at a time.
pub const CHANGES_MAX: usize = 2048;
/// Most look-ups that are in work at a time: each takes some 0.1 ms of one core.
pub const LOOKUPS_MAX: usize = 256;

/// What the routes work with.
pub struct App {
    /// The time.
    pub clock: Clock,
    /// The log.
    pub origin: Origin,
    /// Makes answers.
    pub answering: Arc<Answering>,
    /// What waits for the log.
    pub pool: Arc<Pool>,
    /// Proves possession.
    pub possession: Possession,
    /// The public folder.
    pub files: LogFiles,
    /// The policy document.
    pub policy_document: String,
    nonces: Nonces,
    provider_nonces: ProviderNonces,
    lookups: LookupLimit,
    relays: RelayLimit,
    lookup_slots: Semaphore,
    change_slots: Semaphore,
    import_slots: Semaphore,
}

impl App {
    /// Puts the parts together.
    #[allow(clippy::too_many_arguments, reason = "the parts of a DP, named, once")]
    pub fn new(
        clock: Clock,
        origin: Origin,
        answering: Arc<Answering>,
        pool: Arc<Pool>,
        possession: Possession,
        files: LogFiles,
        policy_document: String,
        lookups_per_minute: u32,
        relays_per_minute: u32,
    ) -> Self {
        Self {
            clock,
            origin,
            answering,
            pool,
            possession,
            files,
            policy_document,
            nonces: Nonces::default(),
            provider_nonces: ProviderNonces::default(),
            lookups: LookupLimit::new(lookups_per_minute),
            relays: RelayLimit::new(relays_per_minute),
            lookup_slots: Semaphore::new(LOOKUPS_MAX),
            change_slots: Semaphore::new(CHANGES_MAX),
            import_slots: Semaphore::new(IMPORTS_MAX),
        }
    }
}

/// The route table.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/log/checkpoint", get(log::checkpoint))
        .route("/log/{*path}", get(log::tile))
        .route("/v1/lookups", post(v1::look_up))
        .route("/v1/challenges", post(v1::start_challenge))
        .route("/v1/challenges/{id}/check", post(v1::check_challenge))
        .route("/v1/changes", post(v1::change))
        .route("/v1/history", post(v1::history))
        .route("/v1/imports", post(imports::import))
        .route("/v1/providers", get(providers::list).post(providers::submit))
        .route("/v1/policy", get(v1::policy))
        .with_state(app)
}
