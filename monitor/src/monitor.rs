//! A monitor as a whole: any number of logs, one store, one listener; running, or once.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout_at},
};
use waymark_runtime::{
    clock::Clock,
    listen::{self, Server},
    metrics::Meter,
    operations::{Operations, Running as Told, show_connections},
};

use crate::{
    follow::{self, Reading},
    http,
    hub::{Hub, StartError, open, wait_for_room},
    operations,
    report::{AlertRecord, News, Status},
    settings::Settings,
    state::PassError,
    store::StoreError,
    tiles::{self, Compared},
    views::WITHHELD_POLLS,
};

/// Longest pause between the passes of [`once`], in milliseconds.
const ONCE_PAUSE_MS_MAX: u64 = 1000;
/// Longest that [`once`] takes, in seconds, whatever the logs do. What was read until then is kept, and the next run
/// goes on there.
pub const ONCE_S_MAX: u64 = 120;
/// Most looks at a log's hash tiles in [`once`]: some 64 tiles.
const ONCE_TILE_LOOKS_MAX: usize = 8;

/// A monitor that is running. [`Running::stop`] stops it; dropping it stops it soon.
#[derive(Debug)]
pub struct Running {
    hub: Arc<Hub>,
    server: Server,
    told: Told,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// Starts a monitor: takes up what is stored, then follows its logs and listens.
///
/// # Errors
/// [`StartError`].
pub async fn start(settings: Settings, clock: Clock) -> Result<Running, StartError> {
    let (address, told_at, tls) = (settings.listen, settings.operations, settings.tls.clone());
    let proxies = settings.proxies.clone();
    let hub = open(settings, clock).await?;
    let cannot_listen = |error| StartError::Io { what: format!("the listener at {address}"), error };
    let meter = Meter::default();
    operations::show(&hub, &meter);
    let looked = Arc::clone(&hub);
    let look = Box::new(move || operations::look(&looked));
    let told =
        Operations { program: "waymark-monitor", version: env!("CARGO_PKG_VERSION"), meter: meter.clone(), look };
    let told = told.start(told_at, tls.as_ref()).await.map_err(cannot_listen)?;
    let listener = listen::bind_tls(address, tls.as_ref()).await.map_err(cannot_listen)?.behind(proxies);
    let router = meter.count_requests(http::router(Arc::clone(&hub)));
    let server = listen::serve(listener, router).map_err(cannot_listen)?;
    show_connections(&meter, server.connections());
    let (stop, stopped) = watch::channel(false);
    let mut tasks = vec![tokio::spawn(wait_for_room(Arc::clone(&hub), stopped.clone()))];
    for (log, followed) in hub.logs.iter().enumerate() {
        tasks.push(tokio::spawn(follow::tick(Arc::clone(&hub), log, stopped.clone())));
        tasks.push(tokio::spawn(follow::follow_log(Arc::clone(&hub), log, stopped.clone())));
        tasks.push(tokio::spawn(follow::follow_tiles(Arc::clone(&hub), log, stopped.clone())));
        for i in 0..followed.target.copies.len() {
            tasks.push(tokio::spawn(follow::follow_copy(Arc::clone(&hub), log, i, stopped.clone())));
        }
    }
    Ok(Running { hub, server, told, tasks, stop })
}

/// One full look at all logs and copies; what is found is stored as by a monitor that runs.
///
/// A log that shows less than a witness, or than it did before, is given the looks that it is given by a monitor that runs,
/// in quick succession. One that wants to be asked again later is.
///
/// # Errors
/// [`StartError`]; what is wrong with the logs stands in the status.
pub async fn once(settings: Settings, clock: Clock) -> Result<Status, StartError> {
    once_within(settings, clock, Duration::from_secs(ONCE_S_MAX)).await
}

/// The same, with another bound than [`ONCE_S_MAX`].
///
/// # Errors
/// [`StartError`].
pub async fn once_within(settings: Settings, clock: Clock, longest: Duration) -> Result<Status, StartError> {
    let hub = open(settings, clock).await?;
    let (until, longest_s) = (Instant::now() + longest, longest.as_secs());
    let mut looks = JoinSet::new();
    for log in 0..hub.logs.len() {
        let hub = Arc::clone(&hub);
        looks.spawn(async move {
            if timeout_at(until, look_at(&hub, log)).await.is_err() {
                let why = format!("it was not read to its end within {longest_s} s; the next look goes on from here");
                let _ = hub.set(log, move |state, now| state.unreachable(why, now)).await;
            }
            if timeout_at(until, compare_tiles(&hub, log)).await.is_err() {
                let why = format!("they could not be compared within {longest_s} s");
                let _ = hub.set(log, move |state, now| state.tile_unusable(&why, now)).await;
            }
        });
    }
    // What is fatal the hub knows.
    while looks.join_next().await.is_some() {}
    let status = hub.status();
    close(&hub).await;
    match hub.full() {
        _ if hub.has_failed() => Err(StartError::Failed),
        Some(why) => Err(StartError::Full(why)),
        None => Ok(status),
    }
}

/// Remembers the time and gives the directory back.
async fn close(hub: &Arc<Hub>) {
    let ending = Arc::clone(hub);
    let _ = tokio::task::spawn_blocking(move || ending.remember()).await;
    hub.close();
}

/// All copies at once, then the log, which may have grown since, as often as it takes; then the time. Only what is
/// fatal is an error.
async fn look_at(hub: &Arc<Hub>, log: usize) -> Result<(), PassError> {
    let mut reading = Reading::default();
    for _ in 0..WITHHELD_POLLS {
        look_at_copies(hub, log).await?;
        match pass_while_busy(hub, log, &mut reading).await {
            Err(e @ (PassError::Store(_) | PassError::Full | PassError::Panicked | PassError::Failed)) => {
                return Err(e);
            }
            // Nothing was shown that could be less than what others were shown.
            Err(PassError::Read(_) | PassError::Damaged | PassError::OverBudget) => break,
            Ok(()) | Err(PassError::Unmet | PassError::Contradicted) => {}
        }
        if !hub.work(log, |state, _| Ok(state.is_anything_withheld())).await? {
            break;
        }
        sleep(Duration::from_millis(hub.poll_ms.min(ONCE_PAUSE_MS_MAX))).await;
    }
    while hub.work(log, |state, desk| Ok(state.tick_once(desk)?)).await? {}
    Ok(())
}

async fn compare_tiles(hub: &Arc<Hub>, log: usize) -> Result<(), PassError> {
    for _ in 0..ONCE_TILE_LOOKS_MAX {
        match tiles::compare(hub, log).await? {
            Compared::Right => {}
            Compared::Unusable | Compared::Busy(_) => break,
        }
    }
    Ok(())
}

async fn look_at_copies(hub: &Arc<Hub>, log: usize) -> Result<(), PassError> {
    let mut looks = JoinSet::new();
    for i in 0..hub.logs[log].target.copies.len() {
        let hub = Arc::clone(hub);
        looks.spawn(async move { follow::look(&hub, log, i).await });
    }
    while let Some(looked) = looks.join_next().await {
        looked.unwrap_or(Err(PassError::Panicked))?;
    }
    Ok(())
}

/// One pass; one that is cut short because the log has too much to do is continued when the log wants it.
async fn pass_while_busy(hub: &Arc<Hub>, log: usize, reading: &mut Reading) -> Result<(), PassError> {
    loop {
        match follow::pass(hub, log, reading).await {
            Err(PassError::Read(e)) if e.is_busy() => {
                let pause = Duration::from_millis(hub.poll_ms.min(ONCE_PAUSE_MS_MAX));
                sleep(e.wait().unwrap_or_default().max(pause)).await;
            }
            went => return went,
        }
    }
}

impl Running {
    /// Where it listens, without a final slash.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The URL of its health and metrics, if they are told anywhere.
    pub fn operations_url(&self) -> Option<String> {
        self.told.url()
    }

    /// Where it stands: the same as `GET /status`. Waits for a step of a replay to end.
    pub fn status(&self) -> Status {
        self.hub.status()
    }

    /// Every alert that is kept, oldest first, of all lists: for a program that runs the monitor inside. Over HTTP each
    /// holder gets those of his own list.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn alerts(&self) -> Result<Vec<AlertRecord>, StoreError> {
        self.hub.store.alerts(0, usize::MAX)
    }

    /// Waits until there may be something to tell.
    pub async fn news_arrived(&self) {
        self.hub.reports.arrived.notified().await;
    }

    /// Some of what was not told yet, in the order of the numbers: notices once, alerts and findings until
    /// [`Running::set_told`]. A program that tells them may do so twice if it stops in between; the number of each stays the same.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn untold(&self) -> Result<Vec<News>, StoreError> {
        self.hub.reports.untold(&self.hub.store)
    }

    /// The alerts and findings up to this number were told.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_told(&self, id: u64) -> Result<(), StoreError> {
        self.hub.reports.set_told(&self.hub.store, id)
    }

    /// Whether an error of this monitor is over once there is room on the disk: it then goes on by itself, and there is news
    /// again.
    pub fn waits_for_room(&self, error: &StoreError) -> bool {
        self.hub.waits_for_room(error)
    }

    /// Waits until the monitor has failed for good: its store, say. It must be started again.
    pub async fn failed(&self) {
        let mut failed = self.hub.failed.subscribe();
        // The sender lives as long as `self`.
        let _ = failed.wait_for(|f| *f).await;
    }

    /// Stops following and listening, and gives the directory back.
    pub async fn stop(self) {
        self.told.set_stopping();
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
        self.server.stop().await;
        close(&self.hub).await;
        self.told.stop().await;
    }
}
