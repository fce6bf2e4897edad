//! The one writer. A thread of its own takes what is pending, computes a batch, commits it, has it cosigned, and publishes.
//!
//! `pool` is what waits, `batch` computes, `commit` makes durable and signs, `recover` reads back, `purge` deletes what is over. One batch is finished,
//! cosignatures included, before the next is begun: so a look-up never meets a record whose checkpoint is not cosigned, and
//! there is never more than one version of a CSI on its way.

pub mod batch;
pub mod commit;
pub mod pool;
pub mod purge;
pub mod recover;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use waymark_log::{checkpoint::SignedCheckpoint, hash::Hash, note::NoteSigner};
use waymark_mapping::entry::HEAD_INTERVAL_MS_MAX;
use waymark_runtime::{clock::Clock, random};

use self::{
    batch::{BatchError, Intake, LogState, MadeRow, Promise, batch},
    commit::{CommitError, Disk, commit},
    pool::{Done, Pool, Taken},
};
use crate::{
    operations::BatchDurations,
    published::{Published, Snapshot},
    row::Kept,
    store::{
        Head, LogFiles, Purge, Rows, SealedRow, StoreError,
        seal::{Place, Sealer},
    },
    witnessing::{Witnessing, WitnessingError},
};

/// How often it is looked whether something is to be deleted.
const PURGE_EVERY: Duration = Duration::from_millis(500);

/// Why the sequencer stopped. The DP then serves reads only, until it is started again.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// A batch could not be made.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A commit failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A witness knows more than we do.
    #[error(transparent)]
    Witnessing(#[from] WitnessingError),
}

/// What the sequencer works with.
pub struct Workshop {
    /// The time.
    pub clock: Clock,
    /// The log's key.
    pub signer: NoteSigner,
    /// Records and staging.
    pub rows: Arc<dyn Rows>,
    /// The signed head.
    pub head: Head,
    /// The public folder.
    pub files: LogFiles,
    /// Seals rows.
    pub sealer: Arc<Sealer>,
    /// What waits.
    pub pool: Arc<Pool>,
    /// What the world sees.
    pub published: Arc<crate::published::Answering>,
    /// The witnesses.
    pub witnessing: Witnessing,
    /// Time between batches.
    pub interval: Duration,
    /// Age at which cosignatures of an unchanged tree are renewed.
    pub refresh: Duration,
    /// How long batches take.
    pub durations: BatchDurations,
}

/// The running sequencer.
pub struct Sequencer {
    stop: Arc<AtomicBool>,
    wake: mpsc::Sender<()>,
    thread: Option<thread::JoinHandle<Result<(), Stopped>>>,
}

impl Sequencer {
    /// Starts the thread from a recovered state. The first thing it does is to have the current head cosigned.
    ///
    /// # Errors
    /// If the thread cannot be made.
    pub fn start(
        workshop: Workshop,
        state: LogState,
        signed: SignedCheckpoint,
        head_note: String,
        head_path: Vec<Hash>,
        stopped: impl FnOnce(&Stopped) + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (wake, woken) = mpsc::channel();
        let mut run = Run { workshop, state, signed, head_note, head_path, stop: Arc::clone(&stop), woken };
        let thread = thread::Builder::new().name("sequencer".to_owned()).spawn(move || {
            let result = run.run();
            run.workshop.pool.close(Done::default());
            if let Err(why) = &result {
                tracing::error!(%why, "the sequencer has stopped; reads go on, writes are refused");
                stopped(why);
            }
            result
        })?;
        Ok(Self { stop, wake, thread: Some(thread) })
    }

    /// Stops after the batch in hand.
    ///
    /// # Errors
    /// [`Stopped`] if it had stopped by itself.
    pub fn stop(mut self) -> Result<(), Stopped> {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.wake.send(());
        match self.thread.take().map(thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Ok(()),
        }
    }
}

impl Drop for Sequencer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.wake.send(());
    }
}

struct Run {
    workshop: Workshop,
    state: LogState,
    signed: SignedCheckpoint,
    head_note: String,
    head_path: Vec<Hash>,
    stop: Arc<AtomicBool>,
    woken: mpsc::Receiver<()>,
}

impl Run {
    fn run(&mut self) -> Result<(), Stopped> {
        self.take_up_published()?;
        self.publish(Vec::new(), Done::default())?;
        let (mut cosigned_at, mut purged_at) = (Instant::now(), None::<Instant>);
        while !self.stop.load(Ordering::SeqCst) {
            let begun = Instant::now();
            if self.is_due() {
                self.one_batch()?;
                cosigned_at = Instant::now();
            } else if cosigned_at.elapsed() >= self.workshop.refresh {
                // Between heads, cosignatures are refreshed at old == size.
                self.publish(Vec::new(), Done::default())?;
                cosigned_at = Instant::now();
            }
            if purged_at.is_none_or(|at| at.elapsed() >= PURGE_EVERY) {
                let (w, now) = (&self.workshop, self.workshop.clock.now());
                purge::purge_due(&*w.rows, &w.sealer, self.signed.size(), now)?;
                purged_at = Some(Instant::now());
            }
            let rest = self.workshop.interval.saturating_sub(begun.elapsed());
            let _ = self.woken.recv_timeout(rest);
        }
        Ok(())
    }

    /// What was published before the start and is still good is served at once: look-ups go on when witnesses are away.
    fn take_up_published(&self) -> Result<(), Stopped> {
        let w = &self.workshop;
        let note = w.files.checkpoint()?.filter(|note| w.witnessing.is_good(note, &self.signed));
        let note = note.and_then(|note| String::from_utf8(note).ok());
        if let Some(snapshot) = note.and_then(|note| self.snapshot(note)) {
            w.published.published.replace(snapshot, []);
        }
        Ok(())
    }

    /// "A head is made when entries are pending or 60 s have passed."
    fn is_due(&self) -> bool {
        let now = self.workshop.clock.now();
        let quiet = self.state.head.as_ref().map_or(u64::MAX, |h| now.since(h.time));
        !self.workshop.pool.is_empty() || quiet >= HEAD_INTERVAL_MS_MAX
    }

    fn one_batch(&mut self) -> Result<(), Stopped> {
        let now = self.workshop.clock.now();
        if self.state.head.as_ref().is_some_and(|h| now <= h.time) {
            // A clock that was set back: nothing is signed until it has caught up.
            tracing::warn!("the clock is not after the last head; waiting");
            return Ok(());
        }
        let Taken { intake, done } = self.workshop.pool.take();
        match self.commit_batch(intake, now) {
            Ok(versions) => self.publish(versions, done),
            Err(why) => {
                self.workshop.pool.close(done);
                Err(why)
            }
        }
    }

    fn commit_batch(
        &mut self,
        intake: Intake,
        now: waymark_log::time::UnixMillis,
    ) -> Result<Vec<([u8; 32], u32)>, Stopped> {
        let begun = Instant::now();
        let made = batch(&self.state, intake, now, &mut random::source())?;
        if let Some(why) = &made.config_refused {
            tracing::warn!(%why, "a config entry was left out");
        }
        for (provider, why) in &made.refused {
            tracing::warn!(domain = %provider.domain, %why, "a provider entry was left out");
        }
        let versions = made.rows.iter().map(|m| (m.csi_key, m.row.version)).collect();
        let (rows, purges) = seal_rows(&self.workshop.sealer, &made.rows, made.checkpoint.size)?;
        let w = &self.workshop;
        let mut disk = Disk { rows: &*w.rows, head: &w.head, files: &w.files };
        let old = (self.head_note.as_str(), self.signed.checkpoint());
        let signed = commit(&mut disk, &made, &rows, &purges, Some(old), &w.signer)?;
        w.durations.commit.add(begun.elapsed());
        self.head_note = signed.to_note(&[]);
        self.signed = signed;
        self.head_path = made.head_path;
        self.state = made.next;
        Ok(versions)
    }

    /// Has the signed head cosigned, publishes it, and tells those who wait.
    fn publish(&mut self, versions: Vec<([u8; 32], u32)>, done: Done) -> Result<(), Stopped> {
        let (w, begun) = (&self.workshop, Instant::now());
        let cosigned = match w.witnessing.cosign(&self.signed, &self.stop) {
            Ok(Some(cosigned)) => cosigned,
            // Asked to stop while the quorum was not met: the next start has this head cosigned.
            Ok(None) => {
                w.pool.close(done);
                return Ok(());
            }
            Err(why) => {
                w.pool.close(done);
                return Err(why.into());
            }
        };
        w.durations.witnesses.add(begun.elapsed());
        w.files.publish(&cosigned)?;
        let published: &Published = &w.published.published;
        let csi_keys: Vec<[u8; 32]> = versions.iter().map(|(key, _)| *key).collect();
        if let Some(snapshot) = self.snapshot(cosigned) {
            published.replace(snapshot, versions);
        }
        w.pool.published(&csi_keys, done);
        Ok(())
    }

    fn snapshot(&self, checkpoint: String) -> Option<Snapshot> {
        snapshot(&self.state, self.head_path.clone(), checkpoint)
    }
}

/// Seals rows, with new row keys where a stretch begins, and says what is to be deleted for them.
///
/// # Errors
/// [`StoreError`]: keys may have been made that nobody will use.
pub fn seal_rows(sealer: &Sealer, made: &[MadeRow], size: u64) -> Result<(Vec<SealedRow>, Vec<Purge>), StoreError> {
    let new = made.iter().filter(|m| m.keeping.slot.is_none()).count();
    let mut next = if new == 0 { 0 } else { sealer.keys().allocate(new)? };
    let (mut rows, mut purges) = (Vec::with_capacity(made.len()), Vec::new());
    for MadeRow { csi_key, row, keeping } in made {
        let slot = keeping.slot.unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        let place = Place { csi_key: *csi_key, version: row.version, size, slot };
        rows.push(sealer.seal(place, &Kept::Whole(Box::new(row.clone())).encode())?);
        if let Some(due) = keeping.purge_at {
            purges.push(Purge { csi_key: *csi_key, below: row.version, due, size, slots: vec![] });
        }
    }
    Ok((rows, purges))
}

/// What the world may see of a log whose checkpoint is cosigned; `None` before its first head.
pub fn snapshot(state: &LogState, head_path: Vec<Hash>, checkpoint: String) -> Option<Snapshot> {
    Some(Snapshot {
        open: state.open.clone(),
        config: state.config.clone(),
        policy: Promise::of(state.latest_promise())?.policy,
        head: state.head.clone()?,
        head_path,
        size: state.size(),
        checkpoint,
        map: state.map.clone(),
        providers: state.providers.clone(),
        provider_tree: state.provider_tree.clone(),
    })
}
