//! A discovery provider, running: the stores opened and recovered, the sequencer on its thread, the routes on a listener.

use std::{fs::File, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use waymark_log::{note::Vkey, time::UnixMillis};
use waymark_runtime::{
    clock::Clock,
    config::ConfigError,
    durable, leftovers,
    listen::{self, Server},
    metrics::Meter,
    operations::{Operations, Running as Told, show_connections},
};

use crate::{
    config::{Settings, names},
    http::{self, App, challenges},
    init::open_rows,
    instance::{self, InstanceError},
    keys::{self, KeysError},
    onboarding,
    operations::{BatchMetrics, Parts, count_requests},
    policy::{
        PolicyError,
        change::{Desk, Judge, about_to},
        shelf::{InEffect, Shelf},
    },
    possession::{Identity, Possession, config::Proving},
    published::{Answering, Published},
    sequencer::{
        Sequencer, Stopped, Workshop,
        accepted::Accepted,
        batch::{LogState, Promise, batch},
        pool::Pool,
        recover::{RecoverError, Recovered, recover},
        writer::Writer,
    },
    store::{Head, LogFiles, RowKeys, Rows, StoreError, seal::Sealer},
    witnessing::Witnessing,
};

/// Age at which cosignatures of an unchanged tree are renewed.
pub(crate) const REFRESH: Duration = Duration::from_secs(120);
/// How often the folders of provider and config entries are looked into.
const ONBOARDING_EVERY: Duration = Duration::from_millis(200);

/// Why a DP does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one runs on this data.
    #[error("another DP is running on this data folder")]
    Locked,
    /// The folder is a copy.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// It must not go on with what is on the disk.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system or the network.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Where codes go.
    #[error(transparent)]
    Codes(#[from] ConfigError),
    /// The policy document is not the logged one.
    #[error(
        "policy.toml is not the document whose digest is in the log, {0}: put the logged one back (policies/ has it), or have this \
         one logged with `waymark-dp config apply`"
    )]
    OtherPolicy(String),
    /// The policy document cannot be used, or the DP would not do what it says.
    #[error("the policy document: {0}. Mend dp.toml, or change the document with `waymark-dp config`")]
    Policy(#[from] PolicyError),
    /// A key is not of this log.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Batches would come later than promised.
    #[error("interval_ms is more than the {0} that are promised in the log")]
    Slower(u32),
    /// No quorum is configured.
    #[error("policy.txt says `quorum none`: no client would believe this log. Name witnesses and a quorum")]
    NoQuorum,
}

/// A DP that is running.
pub struct Running {
    server: Server,
    told: Told,
    sequencer: Sequencer,
    onboarding: JoinHandle<()>,
    answering: Arc<Answering>,
    vkey: Vkey,
    stopped: watch::Receiver<Option<String>>,
    _lock: File,
}

/// Starts a DP.
///
/// # Errors
/// [`StartError`].
pub async fn start(settings: Settings, clock: Clock) -> Result<Running, StartError> {
    let lock = lock(&settings.dir)?;
    instance::check(&settings.dir)?;
    leftovers::sweep(&settings.dir);
    if settings.policy.is_without_quorum() {
        return Err(StartError::NoQuorum);
    }
    let meter = Meter::default();
    let listener = listen::bind_tls(settings.listen, settings.tls.as_ref()).await?.behind(settings.proxies.clone());
    let own_url = listener.url()?;
    let desk = challenge_desk(&settings, own_url, &clock)?;
    let (rows, keys, head, files, mut recovered, accepted) = open_stores(&settings)?;
    // What is promised to people is what was logged, or nothing is served.
    let (policies, interval_ms) = promises(&settings, &recovered.state)?;
    let promising = Desk {
        dir: settings.dir.clone(),
        origin: settings.origin.clone(),
        log_key: settings.signer.key(),
        running: settings.does.clone(),
        interval_ms,
    };
    let well_known = http::well_known(&settings);
    let sealer = Arc::new(Sealer::new(&settings.store_key, Arc::new(keys)));
    let own_prover = settings.prover.public();
    check_keys(&settings, &recovered.state, &*rows, &sealer)?;
    offer_again(&settings, &recovered.state, &files, clock.now());
    let answering = Arc::new(Answering {
        published: Published::new(std::mem::take(&mut recovered.latest)),
        rows: Arc::clone(&rows),
        sealer: Arc::clone(&sealer),
        files: files.clone(),
        vrf: Arc::new(settings.vrf),
        answer_bytes_min: settings.answer_bytes_min,
        domain: settings.domain.clone(),
    });
    let pool = Arc::new(Pool::default());
    let vkey = settings.signer.vkey().clone();
    let ((tell, stopped), (untimed, waits)) = (watch::channel(None), watch::channel(None));
    let parts = Arc::new(Parts {
        clock: clock.clone(),
        answering: Arc::clone(&answering),
        pool: Arc::clone(&pool),
        policy: settings.policy.clone(),
        stopped: stopped.clone(),
        untimed: waits,
        interval_ms: settings.interval_ms,
        own_prover: (settings.domain.clone(), own_prover),
    });
    parts.show(&meter);
    let look = Box::new(move || parts.look());
    let told = Operations { program: "waymark-dp", version: env!("CARGO_PKG_VERSION"), meter: meter.clone(), look };
    let told = told.start(settings.operations, settings.tls.as_ref()).await?;
    let workshop = Workshop {
        clock: clock.clone(),
        signer: settings.signer,
        rows,
        head,
        files: files.clone(),
        sealer,
        pool: Arc::clone(&pool),
        published: Arc::clone(&answering),
        witnessing: Witnessing::start(settings.policy, clock.clone(), &files, &settings.roots),
        interval: Duration::from_millis(u64::from(interval_ms)),
        refresh: REFRESH,
        metrics: BatchMetrics::new(&meter),
        untimed,
        accepted,
        hindrance: settings.hindrance,
    };
    let Recovered { state, signed, head_note, head_path, .. } = recovered;
    let writer = Writer { state, signed, head_note, head_path, make: batch };
    let sequencer = Sequencer::start(workshop, writer, move |why: &Stopped| {
        let _ = tell.send(Some(why.to_string()));
    })?;
    let app = App::new(
        clock.clone(),
        settings.dir,
        settings.origin,
        Arc::clone(&answering),
        Arc::clone(&pool),
        files,
        policies,
        well_known,
        settings.csips,
        settings.provers,
        settings.recycling,
        settings.relays_per_minute,
        settings.requests_per_minute,
    );
    let router = http::router(Arc::new(app)).merge(challenges::router(Arc::new(desk)));
    let router = listen::with_problems(router);
    let server = listen::serve(listener, count_requests(&meter, router))?;
    show_connections(&meter, server.connections());
    let onboarding = tokio::spawn(take_in(promising, pool, Arc::clone(&answering), clock));
    Ok(Running { server, told, sequencer, onboarding, answering, vkey, stopped, _lock: lock })
}

/// Proves possession, as the DP's own prover.
fn challenge_desk(settings: &Settings, own_url: String, clock: &Clock) -> Result<challenges::Desk, StartError> {
    let proving = Proving::new(&settings.codes, &settings.code_secrets, &settings.dir, own_url, clock)?;
    let (domain, secret, origin) = (settings.domain.clone(), settings.prover.clone(), settings.origin.clone());
    let identity = Identity { domain, secret, origin: origin.clone() };
    let possession = Possession::open(proving, identity, &settings.dir, clock)?;
    Ok(challenges::Desk::new(clock.clone(), origin, possession, settings.requests_per_minute))
}

/// The policy document in effect and the time between batches, milliseconds, if the DP does what was promised, or is about to.
fn promises(settings: &Settings, state: &LogState) -> Result<(InEffect, u32), StartError> {
    let (latest, shelf) = (state.latest_promise(), Shelf::of(&settings.dir));
    let Promise { policy, interval_ms } =
        Promise::of(latest).ok_or_else(|| RecoverError::Damaged("the open entry".to_owned()))?;
    let logged = shelf.get(&policy)?;
    let (origin, log_key) = (&settings.origin, settings.signer.key());
    let judge = Judge { origin, log_key: &log_key, does: &settings.does, interval_ms: settings.interval_ms };
    let next = about_to(&settings.dir, &judge, latest)?;
    if next.is_some_and(|n| n.digest == settings.policy_document.digest) {
        tracing::warn!(
            "another policy document waits in config/incoming; the logged one counts until its head is published"
        );
        return Ok((InEffect::new(shelf, logged), settings.interval_ms.min(interval_ms)));
    }
    if policy != settings.policy_document.digest {
        return Err(StartError::OtherPolicy(policy.to_hex()));
    }
    logged.document.check(&settings.does)?;
    if settings.interval_ms > interval_ms {
        return Err(StartError::Slower(interval_ms));
    }
    Ok((InEffect::new(shelf, logged), settings.interval_ms))
}

/// "Two sequencers on one store: exactly one proceeds."
fn lock(dir: &Path) -> Result<File, StartError> {
    durable::lock(&dir.join(names::LOCK))?.ok_or(StartError::Locked)
}

type Stores = (Arc<dyn Rows>, RowKeys, Head, LogFiles, Recovered, Accepted);

fn open_stores(settings: &Settings) -> Result<Stores, StartError> {
    let head = Head::at(&settings.dir.join(names::HEAD));
    if head.load()?.is_none() {
        return Err(RecoverError::NotInitialised.into());
    }
    let rows: Arc<dyn Rows> = open_rows(&settings.dir, settings.store, false)?.into();
    let files = LogFiles::at(&settings.dir.join(names::LOG))?;
    let accepted = Accepted::load(&settings.dir, &settings.origin)?;
    let keys = RowKeys::open(&settings.dir.join(names::ROW_KEYS))?;
    let recovered = recover(&*rows, &keys, &head, &files, &settings.origin, settings.signer.vkey(), &accepted)?;
    Ok((rows, keys, head, files, recovered, accepted))
}

/// Checks the keys against the log, and from now on has `store.check` say which store key it is.
fn check_keys(settings: &Settings, state: &LogState, rows: &dyn Rows, sealer: &Sealer) -> Result<(), StartError> {
    let log = &state.audited;
    keys::check(settings, log.open_bytes(), log.providers(), rows, sealer)?;
    if !settings.dir.join(names::STORE_CHECK).exists()
        && let Err(error) = keys::keep_check(&settings.dir, &settings.store_key)
    {
        tracing::warn!(%error, "store.check could not be written; the next start tries again");
    }
    Ok(())
}

/// Offers provider entries again that were taken in once and are not in the log. A full disk is no reason not to start.
fn offer_again(settings: &Settings, state: &LogState, files: &LogFiles, now: UnixMillis) {
    let log = &state.audited;
    let head = state.head().map_or(now, |head| head.time);
    let logged = onboarding::Logged {
        providers: log.providers(),
        origin: &settings.origin,
        now,
        head,
        files,
        size: state.size(),
    };
    if let Err(error) = onboarding::at_start(&settings.dir, (&settings.domain, &settings.prover), logged) {
        tracing::warn!(%error, "provider entries that are not in the log could not be offered again; the next start tries again");
    }
}

/// Offers what lies in the folders to the pool, for as long as the DP runs.
async fn take_in(desk: Desk, pool: Arc<Pool>, answering: Arc<Answering>, clock: Clock) {
    let mut every = tokio::time::interval(ONBOARDING_EVERY);
    let mut failed = false;
    loop {
        every.tick().await;
        let Some(snapshot) = answering.published.snapshot() else { continue };
        let logged = onboarding::Logged {
            providers: &snapshot.providers,
            origin: &desk.origin,
            now: clock.now(),
            head: snapshot.head.time,
            files: &answering.files,
            size: snapshot.size,
        };
        let is_current = || answering.published.snapshot().is_some_and(|now| now.size == snapshot.size);
        let providers = onboarding::take_in(&desk.dir, &pool, logged, is_current);
        let taken = desk.take_in(&snapshot, &pool).map_err(|e| e.to_string());
        let taken = providers.map_err(|e| e.to_string()).and(taken);
        if let Err(error) = &taken
            && !failed
        {
            tracing::warn!(%error, "the folders of provider and config entries cannot be read");
        }
        failed = taken.is_err();
    }
}

impl Running {
    /// Its URL.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The log's URL prefix.
    pub fn log_url(&self) -> String {
        format!("{}/log", self.server.url())
    }

    /// The URL of its health and metrics, if they are told anywhere.
    pub fn operations_url(&self) -> Option<String> {
        self.told.url()
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The log's key.
    pub const fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    /// Size of the published log, 0 before the first checkpoint has met its quorum.
    pub fn published_size(&self) -> u64 {
        self.answering.published.snapshot().map_or(0, |s| s.size)
    }

    /// Whether keys of a domain are published, in any role.
    pub fn knows_provider(&self, domain: &waymark_mapping::names::Domain) -> bool {
        self.answering.published.snapshot().is_some_and(|s| s.providers.of(domain).next().is_some())
    }

    /// Waits until the sequencer has stopped by itself, and says why.
    pub async fn stopped(&self) -> String {
        let mut stopped = self.stopped.clone();
        let why = stopped.wait_for(Option::is_some).await;
        why.ok().and_then(|w| w.clone()).unwrap_or_else(|| "the sequencer is gone".to_owned())
    }

    /// Stops taking requests, finishes the batch in hand, and closes the stores.
    ///
    /// # Errors
    /// Why the sequencer had stopped by itself, if it had.
    pub async fn stop(self) -> Result<(), Stopped> {
        self.told.set_stopping();
        self.onboarding.abort();
        // It holds the stores too, until it has ended.
        let _ = self.onboarding.await;
        // Requests in hand wait for the sequencer, so it goes on until they have their answers.
        self.server.stop().await;
        let sequencer = self.sequencer;
        let stopped = tokio::task::spawn_blocking(move || sequencer.stop()).await.unwrap_or(Ok(()));
        self.told.stop().await;
        stopped
    }
}
