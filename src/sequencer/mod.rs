//! The one writer. A thread of its own takes what is pending, computes a batch, commits it, has it cosigned, and publishes.
//!
//! `pool` is what waits, `dating` says when a head may be signed, `batch` computes, judging by `rests` again what was authorised, `sound` judges as monitors do,
//! `commit` makes durable and signs, `writer` is these steps in their order, `recover` reads back, `room` waits for a full disk,
//! `purge` deletes what is over. One batch is finished, cosignatures included, before the next is begun: so a look-up never meets a record whose
//! checkpoint is not cosigned, and there is never more than one version of a CSI on its way.

pub mod accepted;
pub mod batch;
pub mod commit;
pub mod dating;
pub mod pool;
pub mod purge;
pub mod recover;
pub mod rests;
mod room;
pub mod sound;
pub mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use waymark_log::{
    note::NoteSigner,
    time::{UnixMillis, UnixSeconds},
};
use waymark_mapping::entry::HEAD_INTERVAL_MS_MAX;
use waymark_runtime::{clock::Clock, random};

use self::{
    accepted::Accepted,
    batch::Batch,
    commit::{CommitError, Disk, Effects, Hindered, Hindrance},
    dating::{CONFIRM_AFTER, Confirmed, Untimed, may_be_dated, tell},
    pool::{Done, Pool, Taken},
    recover::RecoverError,
    writer::{Faulty, Made, Writer},
};
use crate::{
    operations::BatchMetrics,
    published::Published,
    store::{Head, LogFiles, Rows, StoreError, seal::Sealer},
    witnessing::{Cosigned, Signed, Witnessing, WitnessingError},
};

/// How often it is looked whether something is to be deleted.
const PURGE_EVERY: Duration = Duration::from_millis(500);

/// Why the sequencer stopped. Nothing is signed any more until the DP is started again; the program `waymark-dp` then ends.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// Not even a head alone could be made that monitors would find nothing wrong with.
    #[error("nothing can be signed, not even a head alone: {0}")]
    Faulty(#[from] Faulty),
    /// A commit failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// When there was room on the disk again, what is there did not allow to go on.
    #[error(transparent)]
    Recover(#[from] RecoverError),
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
    /// How batches go.
    pub metrics: BatchMetrics,
    /// Why no head is signed now, for the operators.
    pub untimed: watch::Sender<Option<Untimed>>,
    /// Findings with which the log goes on all the same.
    pub accepted: Accepted,
    /// What tests put in front of the disk.
    pub hindrance: Option<Hindrance>,
}

impl Workshop {
    fn disk(&self) -> Hindered<'_> {
        let disk = Disk { rows: &*self.rows, head: &self.head, files: &self.files };
        Hindered { disk, by: self.hindrance.as_ref() }
    }
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
        writer: Writer,
        stopped: impl FnOnce(&Stopped) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, purger) = (Arc::new(AtomicBool::new(false)), purge::Purger::default());
        let (wake, woken) = mpsc::channel();
        let mut run =
            Run { workshop, writer, stop: Arc::clone(&stop), woken, confirmed: None, has_signed: false, purger };
        let thread = thread::Builder::new().name("sequencer".to_owned()).spawn(move || {
            let result = run.run_through_full_disks();
            run.workshop.pool.close(Done::default());
            if let Err(why) = &result {
                tracing::error!(%why, "the sequencer has stopped: nothing is signed any more until the next start");
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
    writer: Writer,
    stop: Arc<AtomicBool>,
    woken: mpsc::Receiver<()>,
    /// The time that a quorum has last confirmed over our head, and what [`Clock::passed_ms`] was when that came in: it goes on while the
    /// machine sleeps, in which time another program may have signed with our key.
    confirmed: Option<(UnixSeconds, u64)>,
    /// Whether this process has signed a head. Before its first one it asks the witnesses however lately they have answered: a clone that started
    /// with it would have its next head fall due at the same time.
    has_signed: bool,
    purger: purge::Purger,
}

impl Run {
    /// Has the signed head cosigned, which makes these versions the latest, and then makes one batch after the other.
    fn run(&mut self, versions: Vec<([u8; 32], u32)>) -> Result<(), Stopped> {
        self.publish(&[], versions, Done::default())?;
        // Not before: a change is judged over what is published, and must not be made a second time.
        self.workshop.pool.reopen();
        let mut purged_at = None::<Instant>;
        while !self.stop.load(Ordering::SeqCst) {
            let begun = Instant::now();
            if self.is_due() {
                self.one_batch()?;
            } else if self.is_unconfirmed_for(self.workshop.refresh) {
                // Between heads, cosignatures are refreshed at old == size.
                self.publish(&[], Vec::new(), Done::default())?;
            }
            if purged_at.is_none_or(|at| at.elapsed() >= PURGE_EVERY) {
                let w = &self.workshop;
                if let Some(published) = w.published.published.snapshot() {
                    let round = self.purger.round(&*w.rows, &w.sealer, published.size, published.head.time)?;
                    (0..round.skipped).for_each(|_| w.metrics.purges_skipped.add());
                }
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
        let note = w.files.checkpoint()?.filter(|note| w.witnessing.judge_note(note, self.signed()).is_some());
        let note = note.and_then(|note| String::from_utf8(note).ok());
        if let Some(snapshot) = note.and_then(|note| self.writer.snapshot(note)) {
            w.published.published.replace(snapshot, []);
        }
        Ok(())
    }

    /// "A head is made when entries are pending or 60 s have passed."
    fn is_due(&self) -> bool {
        let now = self.workshop.clock.now();
        let quiet = self.writer.state.head().map_or(u64::MAX, |h| now.since(h.time));
        !self.workshop.pool.is_empty() || quiet >= HEAD_INTERVAL_MS_MAX
    }

    /// The head that is signed last.
    fn signed(&self) -> Signed<'_> {
        let dated = self.writer.state.head().map_or(UnixMillis::new(0), |head| head.time);
        Signed { checkpoint: &self.writer.signed, dated }
    }

    fn is_unconfirmed_for(&self, time: Duration) -> bool {
        self.confirmed.is_none_or(|(_, at_ms)| self.passed_since(at_ms) >= time)
    }

    fn passed_since(&self, at_ms: u64) -> Duration {
        Duration::from_millis(self.workshop.clock.passed_ms().saturating_sub(at_ms))
    }

    /// Whether a head may be signed with the time `now`.
    fn may_be_dated(&self, now: UnixMillis) -> Result<(), Untimed> {
        let confirmed = self.confirmed.map(|(quorum, at_ms)| Confirmed { quorum, passed: self.passed_since(at_ms) });
        may_be_dated(now, self.writer.state.head().map(|head| head.time), confirmed)
    }

    /// The time of the next head, once the last one is confirmed: what another program has signed with our key meanwhile shows there, and so
    /// does a clock that jumps.
    fn time_of_next(&mut self) -> Result<Option<UnixMillis>, Stopped> {
        let untimed = self.may_be_dated(self.workshop.clock.now()).err();
        if !self.has_signed || self.is_unconfirmed_for(CONFIRM_AFTER) || untimed == Some(Untimed::NotConfirmed) {
            // Before the witnesses are asked: with a clock that is wrong their answers do not count, and this waits.
            if self.confirmed.is_some() {
                tell(&self.workshop.untimed, untimed);
            }
            // Not published: where the head is old, clients would refuse it with cosignatures that are new.
            if self.cosign()?.is_none() {
                return Ok(None);
            }
        }
        self.workshop.witnessing.look()?;
        let now = self.workshop.clock.now();
        let untimed = self.may_be_dated(now).err();
        tell(&self.workshop.untimed, untimed);
        Ok(untimed.is_none().then_some(now))
    }

    fn one_batch(&mut self) -> Result<(), Stopped> {
        let Some(now) = self.time_of_next()? else { return Ok(()) };
        let taken = self.workshop.pool.take();
        // Read again: what was taken was judged before now, unless the clock was set meanwhile.
        let again = self.workshop.clock.now().max(now);
        let now = if self.may_be_dated(again).is_ok() { again } else { now };
        self.commit_and_publish(taken, now)
    }

    fn commit_and_publish(&mut self, taken: Taken, now: UnixMillis) -> Result<(), Stopped> {
        let Taken { intake, mut done } = taken;
        let (begun, w) = (Instant::now(), &self.workshop);
        let made = self.writer.make(intake, now, &mut random::source());
        let made = made.inspect(|made| self.tell_of(made, &mut done)).map_err(Stopped::from);
        let committed = made.and_then(|Made { sound, .. }| {
            let left_out: Vec<[u8; 32]> = sound.batch().left_out.iter().map(|l| l.csi_key).collect();
            self.has_signed = true;
            let versions = self.writer.commit(sound, &mut w.disk(), &w.sealer, &w.signer)?;
            w.metrics.commit.add(begun.elapsed());
            Ok((left_out, versions))
        });
        match committed {
            Ok((left_out, versions)) => self.publish(&left_out, versions, done),
            Err(why) => {
                self.workshop.pool.close(done);
                Err(why)
            }
        }
    }

    /// Says what did not go as it was meant to.
    fn tell_of(&self, made: &Made, done: &mut Done) {
        let Batch { config_refused, refused, left_out, .. } = made.sound.batch();
        if let Some(why) = config_refused {
            tracing::warn!(%why, "a config entry was left out");
        }
        for (provider, why) in refused {
            tracing::warn!(domain = %provider.domain, %why, "a provider entry was left out");
        }
        for left_out in left_out {
            tracing::info!(why = %left_out.why, "a change was left out: what it rests on does not hold any more");
        }
        if let Some(why) = &made.dropped {
            tracing::error!(
                %why,
                "A FAULT OF THIS PROGRAM: a batch was dropped before it was signed. Nothing of it is in the log; the log goes on. Report it"
            );
            self.workshop.metrics.dropped.add();
            self.workshop.pool.dropped(done);
            self.workshop.pool.set_aside(&made.sound.batch().entries);
        }
    }

    /// Has the signed head cosigned: its note. `None` if it was told to stop before: the next start has this head cosigned.
    fn cosign(&mut self) -> Result<Option<String>, Stopped> {
        let begun = Instant::now();
        let signed = Signed { checkpoint: &self.writer.signed, dated: self.signed().dated };
        let w = &mut self.workshop;
        let Some(Cosigned { note, quorum }) = w.witnessing.cosign(signed, &self.stop, &w.untimed)? else {
            return Ok(None);
        };
        self.confirmed = Some((quorum, self.workshop.clock.passed_ms()));
        self.workshop.metrics.witnesses.add(begun.elapsed());
        Ok(Some(note))
    }

    /// Has the signed head cosigned, publishes it, and tells those who wait.
    fn publish(&mut self, left_out: &[[u8; 32]], versions: Vec<([u8; 32], u32)>, done: Done) -> Result<(), Stopped> {
        let cosigned = self.cosign();
        let w = &self.workshop;
        let cosigned = match cosigned {
            Ok(Some(cosigned)) => cosigned,
            other => {
                w.pool.close(done);
                return other.map(drop);
            }
        };
        let published: &Published = &w.published.published;
        let written = w.disk().publish(&cosigned);
        // The checkpoint's file is for those who copy the folder. The head and its tiles are durable: what is new may be seen without it.
        let is_news = published.snapshot().is_none_or(|shown| shown.size < self.writer.signed.size());
        let full = match written {
            Ok(()) => None,
            Err(why) if is_news && why.is_full() => Some(why),
            Err(why) => return Err(why.into()),
        };
        if let Some(snapshot) = self.writer.snapshot(cosigned) {
            w.pool.show(|| published.replace(snapshot, versions));
        }
        w.pool.published(left_out, done);
        full.map_or(Ok(()), |why| Err(why.into()))
    }
}
