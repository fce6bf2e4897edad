//! What all tasks of a monitor share: the logs, the store, the directory.

use std::{
    collections::HashSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::sleep};
use waymark_log::{checkpoint::Origin, key::Key, time::UnixMillis};
use waymark_mapping::watch::{WatchId, WatchList, WatchRefused};
use waymark_runtime::{
    clock::Clock,
    durable,
    fetch::{Fetcher, REQUEST_S_MAX},
    follow::LogReader,
    leftovers,
    log_time::LogTime,
};

use crate::{
    desk::{Desk, Reports},
    report::{AlertCounts, AlertsAnswer, Notice, STATUS_SCHEMA, Status},
    settings::{Settings, Target, targets},
    state::{LogState, PassError},
    store::{STORE_FILE, Store, StoreError},
    watching::ImportRefused,
};

/// The lock, in the data directory: whoever holds it runs on this directory.
pub const LOCK_FILE: &str = "lock";
/// Shortest pause between two looks, in milliseconds, whatever the configuration says.
pub const POLL_MS_MIN: u64 = 10;

/// How often it is looked whether there is room on a disk that was full.
const ROOM_LOOK: Duration = Duration::from_secs(1);
/// The same at last, while there is room for the look and not for what follows.
const ROOM_LOOK_MAX: Duration = Duration::from_secs(30);
/// Bytes that must be free before it is tried again: what was believed is replayed then, and a step should fit after it.
const ROOM_BYTES: usize = 1 << 20;

/// Why a monitor does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict themselves.
    #[error("{0}")]
    Settings(String),
    /// Another monitor runs on the directory.
    #[error("another monitor runs on {0}")]
    Locked(PathBuf),
    /// The file system or the listener.
    #[error("{what}: {error}")]
    Io {
        /// What it is about.
        what: String,
        /// What happened.
        error: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no room on the disk. A monitor that runs waits for it.
    #[error("the disk is full: {0}")]
    Full(String),
    /// It failed while it ran; the log says how.
    #[error("the monitor failed; start it again, so that it reads back what is on the disk")]
    Failed,
}

/// Why a watch-list was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error(transparent)]
    Refused(#[from] ImportRefused),
    #[error(transparent)]
    Pass(#[from] PassError),
}

/// One log: what is fixed, and what moves.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) target: Arc<Target>,
    pub(crate) reader: LogReader,
    state: Mutex<LogState>,
}

/// What all tasks share.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) logs: Vec<Followed>,
    pub(crate) fetcher: Fetcher,
    pub(crate) poll_ms: u64,
    pub(crate) store: Store,
    pub(crate) reports: Reports,
    data_dir: PathBuf,
    clock: Clock,
    /// The wall clock at the start, and what had passed then.
    begun: (UnixMillis, u64),
    lock: Mutex<Option<File>>,
    renew_within_ms: u64,
    /// What could not be written, as long as the disk is full.
    full: Mutex<Option<String>>,
    pub(crate) failed: watch::Sender<bool>,
}

impl Hub {
    /// Takes the directory and rebuilds all logs from what is stored, without any network. Blocks.
    pub(crate) fn open(settings: Settings, clock: Clock) -> Result<Self, StartError> {
        let targets = targets(settings.logs).map_err(StartError::Settings)?;
        let data_dir = settings.data_dir;
        let lock = take_lock(&data_dir)?;
        let path = data_dir.join(STORE_FILE);
        let there = path.try_exists().map_err(|error| io_error(&path, error))?;
        let store = if there { Store::open(&path)? } else { Store::create(&path)? };
        let reports = Reports::load(&store)?;
        let fetcher = Fetcher::with_roots(Duration::from_secs(REQUEST_S_MAX), &settings.roots);
        let mut logs = Vec::new();
        for target in targets {
            let found: HashSet<String> = reports.found(&target.origin);
            let time = LogTime::new(clock.clone(), store.known_time(&target.origin)?);
            let (now, known) = (time.now(), time.known());
            let desk = Desk { store: &store, reports: &reports, data_dir: &data_dir, now, known };
            let target = Arc::new(target);
            let state = LogState::restore(
                Arc::clone(&target),
                &desk,
                found,
                settings.renew_within_ms,
                settings.log_memory_bytes,
                time,
            )?;
            let reader = LogReader::new(fetcher.clone(), &target.url);
            logs.push(Followed { target, reader, state: Mutex::new(state) });
        }
        let (poll_ms, failed) = (settings.poll_ms.max(POLL_MS_MIN), watch::channel(false).0);
        let (begun, lock) = ((clock.now(), clock.passed_ms()), Mutex::new(Some(lock)));
        let (renew_within_ms, full) = (settings.renew_within_ms, Mutex::default());
        Ok(Self { logs, fetcher, poll_ms, store, reports, data_dir, clock, begun, lock, renew_within_ms, full, failed })
    }

    /// Writes down what time it is at each log, so that the next run goes on from there. Blocks.
    pub(crate) fn remember(&self) {
        for log in 0..self.logs.len() {
            // Whoever stops it can do nothing about what it says.
            let _ = self.at_once(log, |state, desk| Ok(desk.remember(&state.target.origin)?));
        }
    }

    /// Gives store and directory back, whoever still holds the hub.
    pub(crate) fn close(&self) {
        self.store.close();
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// The state of one log, to be looked at; also after a panic, since what was found must be told.
    fn state(&self, log: usize) -> MutexGuard<'_, LogState> {
        self.logs[log].state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the state of one log, on this thread. After an error of the store or a panic, what is held in
    /// memory may be ahead of the disk, so nothing is done any more.
    fn at_once<T>(
        &self,
        log: usize,
        job: impl FnOnce(&mut LogState, &Desk<'_>) -> Result<T, PassError>,
    ) -> Result<T, PassError> {
        let mut state = self.logs[log].state.lock().map_err(|_| self.fail(PassError::Panicked))?;
        if self.has_failed() {
            return Err(PassError::Failed);
        }
        if self.full().is_some() {
            return Err(PassError::Full);
        }
        let (store, reports, data_dir) = (&self.store, &self.reports, self.data_dir.as_path());
        let (now, known) = (state.time.now(), state.time.known());
        let done = job(&mut state, &Desk { store, reports, data_dir, now, known });
        for (text, since) in state.notices.take_news() {
            let origin = state.target.origin.to_string();
            tracing::warn!(%origin, "{text}");
            self.reports.notice(Notice { origin, text, since_ms: since.get() });
        }
        // While the state is locked: whoever comes next finds it.
        done.map_err(|e| match e {
            PassError::Store(e) if self.waits_for_room(&e) => PassError::Full,
            PassError::Store(_) => self.fail(e),
            other => other,
        })
    }

    /// Does something with the state of one log, on a thread that may block.
    pub(crate) async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        log: usize,
        job: impl FnOnce(&mut LogState, &Desk<'_>) -> Result<T, PassError> + Send + 'static,
    ) -> Result<T, PassError> {
        let hub = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || hub.at_once(log, job)).await;
        done.unwrap_or_else(|_| Err(self.fail(PassError::Panicked)))
    }

    /// Does something that writes nothing and cannot fail by itself.
    pub(crate) async fn set(
        self: &Arc<Self>,
        log: usize,
        job: impl FnOnce(&mut LogState, UnixMillis) + Send + 'static,
    ) -> Result<(), PassError> {
        let done = self.work(log, move |state, desk| {
            job(state, desk.now);
            Ok(())
        });
        done.await
    }

    /// What could not be written, if the disk is full.
    pub(crate) fn full(&self) -> Option<String> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether an error is over once there is room on the disk. From then on nothing is done until [`Hub::go_on`].
    pub(crate) fn waits_for_room(&self, error: &StoreError) -> bool {
        if error.waits_for_room() {
            let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
            if full.is_none() {
                tracing::error!(%error, "the disk is full: nothing is followed and no list is taken until there is room");
                *full = Some(error.to_string());
                // A database that failed to write does not read either; opened again it does, and that needs no room.
                if let Err(error) = self.store.reopen() {
                    tracing::error!(%error, "the store cannot be read until there is room");
                }
            }
        }
        error.waits_for_room()
    }

    /// Goes on if the disk was full and has room again, from what is on it: what is in memory may be ahead of that. Blocks.
    fn go_on(&self) {
        if self.full().is_none() || self.has_failed() {
            return;
        }
        let room = durable::check_room(&self.data_dir, ROOM_BYTES);
        let room = room.map_err(|error| StoreError::Io { path: self.data_dir.clone(), error });
        match room.map_err(PassError::from).and_then(|()| self.read_back()) {
            Ok(()) => {
                *self.full.lock().unwrap_or_else(PoisonError::into_inner) = None;
                tracing::info!("there is room on the disk again: the monitor goes on");
            }
            Err(PassError::Store(error)) if error.waits_for_room() => {}
            Err(error) => drop(self.fail(error)),
        }
    }

    /// Puts what is on the disk in the place of what is in memory, for all logs at once.
    fn read_back(&self) -> Result<(), PassError> {
        let states = self.logs.iter().map(|log| log.state.lock().map_err(|_| PassError::Panicked));
        let mut states = states.collect::<Result<Vec<_>, _>>()?;
        self.store.reopen()?;
        self.reports.reload(&self.store)?;
        for state in &mut states {
            let (target, time, seen_ms) = (Arc::clone(&state.target), state.time.clone(), state.seen_ms);
            let (store, reports, data_dir) = (&self.store, &self.reports, self.data_dir.as_path());
            let desk = Desk { store, reports, data_dir, now: time.now(), known: time.known() };
            let (found, bytes_max) = (reports.found(&target.origin), state.memory_bytes_max);
            let again = LogState::restore(target, &desk, found, self.renew_within_ms, bytes_max, time)?;
            **state = LogState { seen_ms, ..again };
        }
        Ok(())
    }

    fn fail(&self, error: PassError) -> PassError {
        if !matches!(error, PassError::Store(StoreError::Closed)) {
            tracing::error!(%error, "the monitor failed");
            self.failed.send_replace(true);
        }
        error
    }

    /// The time for what strangers may do in a minute or a day: it goes on as time passes, whatever the wall clock does.
    pub(crate) fn now(&self) -> UnixMillis {
        let (at, passed_ms) = self.begun;
        at.plus_ms(self.clock.passed_ms().saturating_sub(passed_ms))
    }

    /// The time for what holders of a log's lists have signed.
    pub(crate) fn time_of(&self, origin: &Origin) -> UnixMillis {
        self.log_of(origin).map_or_else(|| self.clock.now(), |log| self.state(log).time.shown())
    }

    /// What is wrong with the wall clock, by one of the logs.
    pub(crate) fn clock_fault(&self) -> Option<String> {
        (0..self.logs.len()).find_map(|log| self.state(log).time.fault())
    }

    /// Milliseconds since a checkpoint of a log was last accepted, or since the start.
    pub(crate) fn unseen_ms(&self, log: usize) -> u64 {
        let state = self.state(log);
        state.time.passed_ms().saturating_sub(state.seen_ms)
    }

    pub(crate) fn has_failed(&self) -> bool {
        *self.failed.borrow()
    }

    /// Which of the logs has this origin.
    fn log_of(&self, origin: &Origin) -> Option<usize> {
        self.logs.iter().position(|l| l.target.origin == *origin)
    }

    /// Takes a watch-list for whichever log it is for; a new one if `admit` says so, or after how many seconds. When this
    /// returns, it is on the disk. Blocks.
    pub(crate) fn import(&self, list: WatchList, admit: impl FnOnce() -> Result<(), u64>) -> Result<(), ImportError> {
        let log = self.log_of(&list.origin.get()).ok_or(ImportRefused::Rule(WatchRefused::OtherLog))?;
        Ok(self.at_once(log, |state, desk| Ok(state.import(desk, list, admit)?))??)
    }

    /// The alerts of a list after a number, for its holder; `None` if this key holds no such list and has no alerts. Blocks.
    pub(crate) fn alerts(
        &self,
        origin: &Origin,
        list: &WatchId,
        holder: &Key,
        after: u64,
    ) -> Result<Option<AlertsAnswer>, StoreError> {
        let Some(log) = self.log_of(origin) else { return Ok(None) };
        // A list that is gone may have left alerts behind; a name that is taken anew shows none of those before.
        Ok(match self.store.alerts_of(origin, list, after)? {
            Some((of, raised, alerts)) if of == *holder => Some(AlertsAnswer { raised, alerts }),
            _ if self.state(log).watches.holder(list) == Some(*holder) => Some(AlertsAnswer::default()),
            _ => None,
        })
    }

    /// The lists that are held, each with its open hits.
    pub(crate) fn lists(&self) -> Vec<(WatchList, usize)> {
        let of = |log: usize| self.state(log).watches.lists().map(|(l, hits)| (l.clone(), hits)).collect::<Vec<_>>();
        (0..self.logs.len()).flat_map(of).collect()
    }

    pub(crate) fn status(&self) -> Status {
        let mut status = Status {
            schema: STATUS_SCHEMA.to_owned(),
            logs: Vec::new(),
            watch_lists: 0,
            open_hits: 0,
            alerts: AlertCounts::default(),
            findings: Vec::new(),
            notices: Vec::new(),
        };
        for log in 0..self.logs.len() {
            let state = self.state(log);
            status.logs.push(state.status());
            status.watch_lists += state.watches.len();
            status.open_hits += state.watches.open_hits();
            let origin = &state.target.origin;
            status.notices.extend(state.notices.texts().map(|text| format!("{origin}: {text}")));
        }
        if let Some(why) = self.full() {
            status
                .notices
                .push(format!("this monitor: the disk is full, so what is said here is not all stored: {why}"));
        }
        // After the logs, so that whatever their states show stands here as well.
        self.reports.sum_up(&mut status);
        status
    }

    /// Entries of a log that are believed.
    pub(crate) fn verified_size(&self, log: usize) -> u64 {
        self.state(log).replay.size()
    }
}

fn io_error(path: &Path, error: io::Error) -> StartError {
    StartError::Io { what: path.display().to_string(), error }
}

/// Makes the directory if need be, and locks it for as long as the file is open.
fn take_lock(data_dir: &Path) -> Result<File, StartError> {
    durable::private_folder(data_dir).map_err(|e| io_error(data_dir, e))?;
    let path = data_dir.join(LOCK_FILE);
    let lock = durable::lock(&path).map_err(|e| io_error(&path, e))?;
    let lock = lock.ok_or_else(|| StartError::Locked(data_dir.to_owned()))?;
    leftovers::sweep(data_dir);
    Ok(lock)
}

/// Waits for room whenever the disk is full, until it is told to stop.
pub(crate) async fn wait_for_room(hub: Arc<Hub>, mut stop: watch::Receiver<bool>) {
    let mut pause = ROOM_LOOK;
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            () = sleep(pause) => {}
        }
        if hub.full().is_none() {
            pause = ROOM_LOOK;
        } else {
            let looking = Arc::clone(&hub);
            if tokio::task::spawn_blocking(move || looking.go_on()).await.is_err() {
                hub.fail(PassError::Panicked);
            }
            // There was room for the look; it may be too little for what follows, and all is replayed each time.
            pause = if hub.full().is_none() { ROOM_LOOK_MAX.min(pause * 2) } else { pause };
        }
    }
}

/// [`Hub::open`] on a thread that may block.
pub(crate) async fn open(settings: Settings, clock: Clock) -> Result<Arc<Hub>, StartError> {
    let opened = tokio::task::spawn_blocking(move || Hub::open(settings, clock)).await;
    Ok(Arc::new(opened.unwrap_or(Err(StartError::Failed))?))
}

#[cfg(test)]
mod tests {
    use waymark_log::{
        cosignature::Cosigner,
        key::SecretKey,
        note::{KeyName, NoteSigner},
    };
    use waymark_mapping::trust::Trust;
    use waymark_runtime::fetch::ExtraRoots;

    use super::*;
    use crate::settings::FollowedLog;

    fn settings(data_dir: &Path) -> Settings {
        let log = NoteSigner::new(KeyName::new("dp.example/log").unwrap(), SecretKey::from_seed(&[1; 32]));
        let witness = Cosigner::new(KeyName::new("w1.example").unwrap(), SecretKey::from_seed(&[2; 32]));
        let policy = format!("log {}\nwitness w1 {}\nquorum w1\n", log.vkey(), witness.vkey());
        let trust = Trust::parse(&format!("policy = \"\"\"\n{policy}\"\"\"\n")).unwrap();
        let logs = vec![FollowedLog { trust, url: "http://127.0.0.1:1".to_owned(), witnesses: vec![] }];
        let listen = "127.0.0.1:0".parse().unwrap();
        let (operations, tls, roots) = (None, None, ExtraRoots::default());
        Settings {
            data_dir: data_dir.to_owned(),
            listen,
            operations,
            tls,
            proxies: waymark_runtime::proxies::Proxies::default(),
            roots,
            logs,
            poll_ms: 10,
            renew_within_ms: 1,
            log_memory_bytes: 1 << 20,
        }
    }

    fn full() -> StoreError {
        StoreError::Io { path: PathBuf::from("evidence"), error: io::ErrorKind::StorageFull.into() }
    }

    fn reasons(hub: &Hub) -> Vec<String> {
        let reasons = crate::operations::look(hub);
        reasons.iter().map(|r| format!("{r:?}")).collect()
    }

    #[tokio::test]
    async fn a_full_disk_ends_no_monitor_and_is_over_once_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let hub = open(settings(folder.path()), Clock::System).await.unwrap();
        let by_database = || StoreError::Database(Box::new(redb::Error::Io(io::ErrorKind::QuotaExceeded.into())));
        let after_it = || StoreError::Database(Box::new(redb::Error::PreviousIo));
        for fault in [full, by_database, after_it] {
            // It was full in the middle of a change.
            let changed = hub.work(0, move |state, _| -> Result<(), _> {
                state.signed_size_max = 77;
                Err(fault().into())
            });
            assert!(matches!(changed.await, Err(PassError::Full)));
            assert!(!hub.has_failed() && reasons(&hub)[0].contains("storage-full"), "{:?}", reasons(&hub));
            assert!(matches!(hub.work(0, |_, _| Ok(())).await, Err(PassError::Full)));
            // What is stored can be read.
            assert_eq!(hub.store.alerts(0, 1).unwrap(), []);
            hub.go_on();
            // It goes on from what is on the disk.
            assert_eq!(hub.work(0, |state, _| Ok(state.signed_size_max)).await.unwrap(), 0);
            assert_eq!((hub.full(), reasons(&hub)), (None, vec![]));
        }
        hub.close();
    }

    #[tokio::test]
    async fn after_a_fault_nothing_is_done_any_more() {
        let folder = tempfile::tempdir().unwrap();
        for panics in [false, true] {
            let hub = open(settings(folder.path()), Clock::System).await.unwrap();
            hub.work(0, |_, _| Ok(())).await.unwrap();
            let fault = hub.work(0, move |_, _| -> Result<(), _> {
                assert!(!panics, "a panic in the middle of a change");
                Err(StoreError::Damaged("no more".to_owned()).into())
            });
            assert!(matches!(fault.await, Err(PassError::Store(_) | PassError::Panicked)));
            assert!(hub.has_failed());
            assert!(matches!(hub.work(0, |_, _| Ok(())).await, Err(PassError::Failed | PassError::Panicked)));
            // What was found can still be asked for, and another start finds the directory free.
            assert_eq!(hub.status().logs.len(), 1);
            hub.close();
        }
    }
}
