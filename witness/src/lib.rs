//! A C2SP witness for any log: it cosigns what extends what it cosigned before, and nothing else.
//!
//! **What it promises.** For each origin, the trees it has cosigned are one tree that only grew: no smaller one after a
//! larger, no second root at a size. The dates of its cosignatures never go down. A cosignature leaves the process only
//! after the checkpoint is on the disk. C2SP tlog-witness (add-checkpoint and the monitors' retrieval) is the judge of
//! every status; the judgement itself is the pure [`waymark_log::witness::decide`].
//!
//! **What it does not do.** It reads no entries and says nothing about what they mean; it makes no outbound connection;
//! it has neither ML-DSA keys nor sign-subtree. It cannot notice that its whole data directory was
//! put back to an earlier day: **never restore a witness from a backup, make a new one instead.**
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | `witness.toml` and `witness.key`; makes a new witness, once |
//! | [`mod@logs`] | `logs.toml`: whose checkpoints are cosigned; a list that only grows |
//! | [`state`] | what was cosigned, and [`state::State::advance`], the only operation that cosigns |
//! | [`dating`] | when a cosignature may be dated: a clock that jumps is not believed |
//! | [`reset`] | a new key for a witness that has dated the future |
//! | [`evidence`] | refused requests that may prove a log's misbehaviour |
//! | [`quota`] | cosignatures a log may ask for in a day |
//! | [`service`] | one request from body to verdict, without HTTP |
//! | `operations` | readiness and metrics |
//! | [`http`] | paths, and the one place where verdicts become statuses |
//! | [`cli`] | the program `waymark-witness` |

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::task::{JoinHandle, spawn_blocking};
use waymark_log::{
    checkpoint::Origin,
    cosignature::Cosigner,
    key::SecretKey,
    note::{KeyName, Vkey},
};
use waymark_runtime::{
    clock::Clock,
    leftovers,
    listen::{self, Server},
    metrics::Meter,
    operations::{Operations, Running as Told, show_connections},
    tls::TlsFiles,
};

use crate::{
    dating::Dating,
    logs::{LogList, LogsError},
    service::Service,
    state::{State, StateError},
};

pub mod cli;
pub mod config;
pub mod dating;
pub mod evidence;
pub mod http;
pub mod logs;
mod operations;
pub mod quota;
pub mod reset;
pub mod service;
pub mod state;

pub use crate::{
    config::{init, load},
    logs::{Added, LogEntry, add_log, logs},
    reset::reset_clock,
};

/// What a witness is started with; [`load`] reads it from a data directory.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name, in every cosignature. It never changes.
    pub name: KeyName,
    /// Its key, used for nothing else.
    pub secret: SecretKey,
    /// The directory that [`init`] made.
    pub data_dir: PathBuf,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where it tells health and metrics, if anywhere.
    pub operations: Option<SocketAddr>,
    /// Certificate and key: without them it does not listen beyond loopback.
    pub tls: Option<TlsFiles>,
}

/// Why a witness does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The list of logs.
    #[error(transparent)]
    Logs(#[from] LogsError),
    /// The state. A damaged one is never taken for an empty one.
    #[error(transparent)]
    State(#[from] StateError),
    /// A log's key was exchanged in the list: whoever holds the new one could show us another tree.
    #[error("{0}: what was cosigned last is signed by none of the keys listed now; keys are added, never exchanged")]
    KeyExchanged(Origin),
    /// The address.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What binding said.
        error: io::Error,
    },
    /// The state made the store panic.
    #[error("the state could not be opened: the store gave up on it")]
    Panicked,
}

/// A witness that is running. Dropping it does not stop it; [`Running::stop`] does.
#[derive(Debug)]
pub struct Running {
    server: Server,
    told: Told,
    service: Arc<Service>,
    tending: JoinHandle<()>,
}

impl Running {
    /// Its URL, submission and monitoring prefix in one, without a final slash.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The URL of its health and metrics, if they are told anywhere.
    pub fn operations_url(&self) -> Option<String> {
        self.told.url()
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its verifier key.
    pub fn vkey(&self) -> &Vkey {
        self.service.vkey()
    }

    /// Waits until the state has failed, which may be never. Nothing is cosigned from then on; only a new start, which
    /// reads back what is on the disk, can mend it.
    pub async fn failed(&self) {
        self.service.failed().await;
    }

    /// Stops listening, waits for what is being written, and closes the state, so that it can be started again at once.
    pub async fn stop(self) {
        self.told.set_stopping();
        self.server.stop().await;
        self.tending.abort();
        let service = self.service;
        // Waiting for a write transaction blocks; a panic inside would have been told to whoever asked for it.
        let _ = spawn_blocking(move || service.close()).await;
        self.told.stop().await;
    }
}

/// Starts a witness on a directory that [`init`] made.
///
/// # Errors
/// [`StartError`]. A missing, damaged or foreign state is an error, never an empty state.
pub async fn start(settings: Settings, clock: Clock) -> Result<Running, StartError> {
    let Settings { name, secret, data_dir, listen: address, operations: told_at, tls } = settings;
    let cannot_listen = |error| StartError::Listen { address, error };
    let cosigner = Cosigner::new(name, secret);
    // The address first: it is the likeliest to be wrong, and needs no undoing.
    let listener = listen::bind_tls(address, tls.as_ref()).await.map_err(cannot_listen)?;
    let service =
        spawn_blocking(move || open(&data_dir, cosigner, clock)).await.map_err(|_| StartError::Panicked)??;
    let service = Arc::new(service);
    let meter = Meter::default();
    operations::show(&service, &meter);
    let looked = Arc::clone(&service);
    let look = Box::new(move || operations::look(&looked));
    let told =
        Operations { program: "waymark-witness", version: env!("CARGO_PKG_VERSION"), meter: meter.clone(), look };
    let told = told.start(told_at, tls.as_ref()).await.map_err(cannot_listen)?;
    let server = listen::serve(listener, http::router(Arc::clone(&service), &meter)).map_err(cannot_listen)?;
    show_connections(&meter, server.connections());
    let tending = tokio::spawn(tend(Arc::clone(&service)));
    Ok(Running { server, told, service, tending })
}

/// How often a running witness looks at its clock and, after a full disk, whether there is room.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same at last, while there is room for the look and not for a cosignature: each time the whole state is read back.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(30);

async fn tend(service: Arc<Service>) {
    let (mut pause, mut stored_before) = (LOOK_EVERY, None);
    loop {
        tokio::time::sleep(pause).await;
        let tended = Arc::clone(&service);
        let Ok(went_on) = spawn_blocking(move || tended.tend()).await else { return service.broke_off() };
        let stored = Some(service.stored());
        pause = match went_on {
            _ if stored != stored_before => LOOK_EVERY,
            // It was full again before anything was stored.
            true => LOOK_EVERY_MAX.min(pause * 2),
            false => pause,
        };
        if went_on {
            stored_before = stored;
        }
    }
}

/// Opens list and state and checks one against the other.
fn open(data_dir: &Path, cosigner: Cosigner, clock: Clock) -> Result<Service, StartError> {
    let list = LogList::load(data_dir)?;
    let state = State::open(&data_dir.join(config::STATE_FILE), cosigner, Dating::new(clock))?;
    // Nobody else runs on this folder: the state is locked.
    leftovers::sweep(data_dir);
    for origin in state.origins() {
        let (Some(cosigned), Some(entry)) = (state.latest(&origin)?, list.find(&origin)) else {
            tracing::warn!(%origin, "cosigned before and no longer listed");
            continue;
        };
        if !cosigned.is_signed_by(&entry.keys) {
            return Err(StartError::KeyExchanged(origin));
        }
    }
    let service = Service::new(data_dir, list, state);
    let behind_s = service.clock_behind_s();
    if behind_s > 0 {
        tracing::error!(behind_s, "{}", operations::clock_behind(behind_s));
    }
    Ok(service)
}
