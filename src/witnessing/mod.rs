//! Getting a signed checkpoint cosigned: push it to every witness of the policy until the quorum is met.
//!
//! Each witness has a `worker` that always works on the newest checkpoint and remembers how far its witness is, so that a slow
//! one catches up in one step and holds nobody up. While the quorum is missing, cosignatures that grow old are asked for again, so
//! that it does not matter when each witness was there.
//!
//! **No witness is believed on its word.** That our head was restored from an old copy, or that two programs sign with our key on
//! copies of one folder, is proved by one witness's copy of a checkpoint that our own key has signed and that our log does not continue:
//! signing on could fork the log, so the sequencer stops. A witness that merely says so is asked again, after pauses; the others go on. Only
//! where so many say so that there is no quorum without them does the sequencer stop without proof: it could publish nothing anyway.

mod worker;

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinHandle};
use waymark_log::{
    checkpoint::SignedCheckpoint,
    note::SignatureLine,
    policy::{Freshness, Policy},
    time::{UnixMillis, UnixSeconds},
};
use waymark_mapping::trust::{MAX_AGE_S_DEFAULT, SKEW_S_DEFAULT};
use waymark_runtime::{clock::Clock, fetch::ExtraRoots};

use self::worker::{Contact, Job};
use crate::{
    sequencer::dating::{Untimed, agree, tell},
    store::LogFiles,
};

/// How long to wait for the remaining witnesses once the quorum is met, so that a checkpoint usually bears them all.
const GRACE: Duration = Duration::from_millis(25);
/// How often it is looked whether what has come in meets the policy by now, and whether to stop.
const LOOK: Duration = Duration::from_millis(200);
/// How fresh cosignatures are asked to be, as in the trust files that `init` writes.
const FRESHNESS: Freshness = Freshness { max_age_s: MAX_AGE_S_DEFAULT, skew_s: SKEW_S_DEFAULT };

/// Why no checkpoint may be published any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessingError {
    /// A checkpoint by our own key that our log does not continue.
    #[error(
        "witness {witness} keeps a checkpoint of {theirs} entries that our own key has signed, and our log of {ours} entries does \
         not continue it: an old head was restored, or another program signs with the same key. Signing on could fork the log. \
         Restore the newest copy, or stop the other program. The checkpoint is:\n{note}"
    )]
    NotContinued {
        /// Which witness keeps it.
        witness: String,
        /// Its size.
        theirs: u64,
        /// Ours.
        ours: u64,
        /// The proof.
        note: String,
    },
    /// So many witnesses refuse our checkpoint that the others are no quorum.
    #[error(
        "{} say that our checkpoint of {ours} entries does not continue what they have cosigned. None of them shows a checkpoint by our \
         key that proves it, but without them there is no quorum. Ask their operators; if an old copy was restored here, restore the \
         newest one", .witnesses.join(", ")
    )]
    NoQuorumLeft {
        /// Who refuses.
        witnesses: Vec<String>,
        /// Our size.
        ours: u64,
    },
}

/// What a worker has to report.
enum Report {
    /// The witness has cosigned a tree of this size.
    Cosigned { size: u64, line: SignatureLine },
    /// Its last answer, to the job with this number, was no cosignature that counts.
    Without { job: u64, lack: Lack },
    /// It shows a checkpoint by our key that ours does not continue.
    NotContinued { theirs: u64, ours: u64, note: String },
}

/// What a witness's answer lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// It says that ours does not continue what it has cosigned, and shows nothing for it.
    Refused,
    /// Its cosignature is dated otherwise than by our clock.
    OtherTime,
    /// Anything else: it is away, or answers what nobody asked.
    Other,
}

/// The witnesses of a policy and their workers.
pub struct Witnessing {
    policy: Policy,
    clock: Clock,
    jobs: watch::Sender<Option<Job>>,
    /// With the witness's place in the policy.
    reports: mpsc::Receiver<(usize, Report)>,
    workers: Vec<JoinHandle<()>>,
    /// Which witnesses have cosigned the last checkpoint in time: only for these is waited once the quorum is met.
    prompt: Vec<bool>,
}

/// A signed checkpoint with a quorum of cosignatures.
#[derive(Debug, Clone)]
pub struct Cosigned {
    /// The note: the log's line and the cosignatures.
    pub note: String,
    /// The time that the quorum confirms.
    pub quorum: UnixSeconds,
}

/// A head to be cosigned.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The checkpoint and the log's signature.
    pub checkpoint: &'a SignedCheckpoint,
    /// How its head is dated.
    pub dated: UnixMillis,
}

/// What has come in for one checkpoint.
struct Gathered {
    /// The number of its job.
    job: u64,
    lines: Vec<Option<SignatureLine>>,
    /// What each one's last answer lacked, unless it was a cosignature.
    lacks: Vec<Option<Lack>>,
}

impl Gathered {
    fn whose(&self, lack: Lack) -> Vec<usize> {
        (0..).zip(&self.lacks).filter_map(|(i, l)| (*l == Some(lack)).then_some(i)).collect()
    }
}

impl Witnessing {
    /// Starts a worker for each witness that has a URL.
    pub fn start(policy: Policy, clock: Clock, files: &LogFiles, roots: &ExtraRoots) -> Self {
        let (jobs, _) = watch::channel(None);
        let (report, reports) = mpsc::channel();
        let contact = Contact::new(&policy, clock.clone(), files, roots);
        let mut workers = Vec::new();
        for (index, witness) in policy.witnesses().iter().enumerate() {
            let Some(url) = &witness.url else { continue };
            let report = report.clone();
            let tell = move |said| report.send((index, said)).is_ok();
            workers.push(tokio::spawn(contact.worker(&witness.vkey, url, tell).run(jobs.subscribe())));
        }
        let prompt = vec![true; policy.witnesses().len()];
        Self { policy, clock, jobs, reports, workers, prompt }
    }

    /// Has a head cosigned; `None` if `stop` came first. Tells the operators if the witnesses' clocks and ours do not allow it.
    ///
    /// Blocks the calling thread, which must not be one of the runtime's.
    ///
    /// # Errors
    /// [`WitnessingError`].
    pub fn cosign(
        &mut self,
        signed: Signed<'_>,
        stop: &AtomicBool,
        untimed: &watch::Sender<Option<Untimed>>,
    ) -> Result<Option<Cosigned>, WitnessingError> {
        let number = self.jobs.borrow().as_ref().map_or(0, Job::number) + 1;
        let (job, _open) = Job::open(signed.checkpoint, number);
        self.jobs.send_replace(Some(job));
        let count = self.policy.witnesses().len();
        let mut gathered = Gathered { job: number, lines: vec![None; count], lacks: vec![None; count] };
        let mut met: Option<Instant> = None;
        loop {
            if met.is_some_and(|at| at.elapsed() >= GRACE || self.is_all_that_is_waited_for(&gathered))
                && let Some(cosigned) = self.judge(signed, &gathered.lines)
            {
                self.prompt = gathered.lines.iter().map(Option::is_some).collect();
                agree(untimed);
                return Ok(Some(cosigned));
            }
            if stop.load(Ordering::SeqCst) {
                return Ok(None);
            }
            if let Ok((witness, report)) = self.reports.recv_timeout(if met.is_some() { GRACE } else { LOOK }) {
                self.take(&mut gathered, signed.checkpoint.size(), witness, report)?;
                self.tell_of_clocks(&gathered, untimed);
            }
            let is_met = self.judge(signed, &gathered.lines).is_some();
            met = is_met.then(|| met.unwrap_or_else(Instant::now));
        }
    }

    /// Tells the operators if there is no quorum by our clock, unless they know already that it is wrong.
    fn tell_of_clocks(&self, gathered: &Gathered, untimed: &watch::Sender<Option<Untimed>>) {
        if self.is_quorum_without(&gathered.whose(Lack::OtherTime)) {
            agree(untimed);
        } else if untimed.borrow().is_none() {
            tell(untimed, Some(Untimed::NotTheirs));
        }
    }

    /// Looks at what has come in since the last checkpoint was cosigned, without waiting.
    ///
    /// # Errors
    /// [`WitnessingError::NotContinued`] if there is proof that our log was forked.
    pub fn look(&mut self) -> Result<(), WitnessingError> {
        while let Ok((witness, report)) = self.reports.try_recv() {
            match report {
                Report::NotContinued { theirs, ours, note } => {
                    return Err(WitnessingError::NotContinued { witness: self.name(witness), theirs, ours, note });
                }
                // It came late, and may be in time again.
                Report::Cosigned { .. } => self.prompt[witness] = true,
                Report::Without { .. } => {}
            }
        }
        Ok(())
    }

    fn name(&self, witness: usize) -> String {
        self.policy.witnesses()[witness].name.clone()
    }

    fn is_all_that_is_waited_for(&self, gathered: &Gathered) -> bool {
        let is_awaited = |i: usize| self.prompt[i] && self.policy.witnesses()[i].url.is_some();
        (0..).zip(&gathered.lines).all(|(i, line)| line.is_some() || !is_awaited(i))
    }

    fn take(&self, gathered: &mut Gathered, size: u64, witness: usize, report: Report) -> Result<(), WitnessingError> {
        match report {
            Report::Cosigned { size: s, line } if s == size => {
                gathered.lines[witness] = Some(line);
                gathered.lacks[witness] = None;
            }
            // Of the checkpoint before, as below.
            Report::Cosigned { .. } => {}
            Report::NotContinued { theirs, ours, note } => {
                return Err(WitnessingError::NotContinued { witness: self.name(witness), theirs, ours, note });
            }
            Report::Without { job, lack } if job == gathered.job => gathered.lacks[witness] = Some(lack),
            Report::Without { .. } => {}
        }
        let refused = gathered.whose(Lack::Refused);
        if !self.is_quorum_without(&refused) {
            return Err(WitnessingError::NoQuorumLeft {
                witnesses: refused.into_iter().map(|i| self.name(i)).collect(),
                ours: size,
            });
        }
        Ok(())
    }

    /// Whether there can be a quorum without these, if they are any.
    fn is_quorum_without(&self, those: &[usize]) -> bool {
        let left = self.policy.witnesses().iter().filter(|w| w.url.is_some()).count().saturating_sub(those.len());
        those.is_empty() || left >= self.policy.cosignatures_min()
    }

    /// The time that the quorum of a note confirms, if it is this head's and clients take it now.
    pub fn judge_note(&self, note: &[u8], signed: Signed<'_>) -> Option<UnixSeconds> {
        let judged = self.policy.judge(note, self.clock.now().floor_seconds(), FRESHNESS).ok()?;
        let quorum = judged.quorum_time();
        // Clients refuse a head that is dated later than its cosignatures.
        let is_good = judged.signed().checkpoint() == signed.checkpoint.checkpoint()
            && signed.dated.floor_seconds() <= quorum.plus_s(FRESHNESS.skew_s);
        is_good.then_some(quorum)
    }

    /// The head with these cosignatures, if clients take it now.
    fn judge(&self, signed: Signed<'_>, lines: &[Option<SignatureLine>]) -> Option<Cosigned> {
        let lines: Vec<SignatureLine> = lines.iter().flatten().cloned().collect();
        if lines.len() < self.policy.cosignatures_min() {
            return None;
        }
        let note = signed.checkpoint.to_note(&lines);
        let quorum = self.judge_note(note.as_bytes(), signed)?;
        Some(Cosigned { note, quorum })
    }
}

impl Drop for Witnessing {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.abort();
        }
    }
}
