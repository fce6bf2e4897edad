//! Getting a signed checkpoint cosigned: push it to every witness of the policy until the quorum is met.
//!
//! Each witness has a worker that always works on the newest checkpoint and remembers how far its witness is, so that a slow
//! one catches up in one step and holds nobody up. A witness that knows a **larger** tree than we have signed means that our
//! head was restored from an old copy: signing on could fork the log, so the sequencer stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinHandle};
use waymark_log::{
    checkpoint::SignedCheckpoint,
    cosignature,
    note::{Note, SignatureLine, Vkey},
    policy::{Freshness, Policy},
    proof,
    witness::{AddCheckpoint, parse_cosignatures},
};
use waymark_mapping::trust::{MAX_AGE_S_DEFAULT, SKEW_S_DEFAULT};
use waymark_runtime::{
    clock::Clock,
    fetch::{ExtraRoots, Fetcher},
};

use crate::store::LogFiles;

/// Longest a witness may take to answer.
const WITNESS_S_MAX: u64 = 5;
/// Most bytes in a witness's answer: sixteen ML-DSA-44 signature lines of some 3.5 KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long to wait for the remaining witnesses once the quorum is met, so that a checkpoint usually bears them all.
const GRACE: Duration = Duration::from_millis(25);
/// How fresh cosignatures are asked to be, as in the trust files that `init` writes.
const FRESHNESS: Freshness = Freshness { max_age_s: MAX_AGE_S_DEFAULT, skew_s: SKEW_S_DEFAULT };
/// Pauses between tries with a witness that fails.
const RETRY: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// Why no checkpoint may be published any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessingError {
    /// A witness is ahead of us.
    #[error(
        "witness {witness} has cosigned {theirs} entries and we have signed only {ours}: an old head was restored. Signing \
         on could fork the log"
    )]
    WitnessIsAhead {
        /// Which.
        witness: String,
        /// Its size.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
}

/// What a worker has to report.
enum Report {
    Cosigned { size: u64, witness: usize, line: SignatureLine },
    Ahead { witness: usize, theirs: u64 },
}

/// The newest checkpoint, as a job for the workers.
#[derive(Clone)]
struct Job {
    signed: Arc<SignedCheckpoint>,
    /// Counts calls, so that a refresh of the same checkpoint is a new job.
    number: u64,
}

/// The witnesses of a policy and their workers.
pub struct Witnessing {
    policy: Policy,
    clock: Clock,
    jobs: watch::Sender<Option<Job>>,
    reports: mpsc::Receiver<Report>,
    workers: Vec<JoinHandle<()>>,
}

impl Witnessing {
    /// Starts a worker for each witness that has a URL.
    pub fn start(policy: Policy, clock: Clock, files: &LogFiles, roots: &ExtraRoots) -> Self {
        let (jobs, _) = watch::channel(None);
        let (report, reports) = mpsc::channel();
        let fetcher = Fetcher::with_roots(Duration::from_secs(WITNESS_S_MAX), roots);
        let mut workers = Vec::new();
        for (index, witness) in policy.witnesses().iter().enumerate() {
            let Some(url) = &witness.url else { continue };
            let worker = Worker {
                index,
                vkey: witness.vkey.clone(),
                url: format!("{}/add-checkpoint", url.trim_end_matches('/')),
                fetcher: fetcher.clone(),
                files: files.clone(),
                known: None,
                report: report.clone(),
            };
            workers.push(tokio::spawn(worker.run(jobs.subscribe())));
        }
        Self { policy, clock, jobs, reports, workers }
    }

    /// Has a checkpoint cosigned and returns its note with the log's line and the cosignatures; `None` if `stop` came first.
    ///
    /// Blocks the calling thread, which must not be one of the runtime's.
    ///
    /// # Errors
    /// [`WitnessingError`].
    pub fn cosign(&self, signed: &SignedCheckpoint, stop: &AtomicBool) -> Result<Option<String>, WitnessingError> {
        let number = self.jobs.borrow().as_ref().map_or(0, |j| j.number) + 1;
        self.jobs.send_replace(Some(Job { signed: Arc::new(signed.clone()), number }));
        let mut lines: Vec<Option<SignatureLine>> = vec![None; self.policy.witnesses().len()];
        let mut met: Option<Instant> = None;
        loop {
            let all_here = lines.iter().zip(self.policy.witnesses()).all(|(l, w)| l.is_some() || w.url.is_none());
            if met.is_some_and(|at| all_here || at.elapsed() >= GRACE) {
                let lines: Vec<SignatureLine> = lines.into_iter().flatten().collect();
                return Ok(Some(signed.to_note(&lines)));
            }
            if stop.load(Ordering::SeqCst) {
                return Ok(None);
            }
            let wait = if met.is_some() { GRACE } else { Duration::from_millis(200) };
            match self.reports.recv_timeout(wait) {
                Ok(Report::Cosigned { size, witness, line }) if size == signed.size() => lines[witness] = Some(line),
                Ok(Report::Cosigned { .. }) => {}
                Ok(Report::Ahead { witness, theirs }) => {
                    let witness = self.policy.witnesses()[witness].name.clone();
                    return Err(WitnessingError::WitnessIsAhead { witness, theirs, ours: signed.size() });
                }
                Err(_) => {}
            }
            if met.is_none() && self.is_met(signed, &lines) {
                met = Some(Instant::now());
            }
        }
    }

    /// Whether a note is this checkpoint, cosigned, and meets the policy now.
    pub fn is_good(&self, note: &[u8], signed: &SignedCheckpoint) -> bool {
        let judged = self.policy.judge(note, self.clock.now().floor_seconds(), FRESHNESS);
        judged.is_ok_and(|cosigned| cosigned.signed().checkpoint() == signed.checkpoint())
    }

    /// Whether these cosignatures meet the policy now.
    fn is_met(&self, signed: &SignedCheckpoint, lines: &[Option<SignatureLine>]) -> bool {
        let lines: Vec<SignatureLine> = lines.iter().flatten().cloned().collect();
        if lines.len() < self.policy.cosignatures_min() {
            return false;
        }
        self.is_good(signed.to_note(&lines).as_bytes(), signed)
    }
}

impl Drop for Witnessing {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.abort();
        }
    }
}

struct Worker {
    index: usize,
    vkey: Vkey,
    url: String,
    fetcher: Fetcher,
    files: LogFiles,
    /// How far the witness is, as far as we know.
    known: Option<u64>,
    report: mpsc::Sender<Report>,
}

/// What one request led to.
enum Tried {
    Done(SignatureLine),
    /// The witness is elsewhere; try again from there.
    Elsewhere(u64),
    Failed(String),
}

impl Worker {
    async fn run(mut self, mut jobs: watch::Receiver<Option<Job>>) {
        let mut failures = 0;
        let mut finished = 0;
        loop {
            let job = jobs.borrow_and_update().clone().filter(|j| j.number != finished);
            let Some(job) = job else {
                if jobs.changed().await.is_err() {
                    return;
                }
                continue;
            };
            match self.try_once(&job.signed).await {
                Tried::Done(line) => {
                    (failures, finished) = (0, job.number);
                    self.known = Some(job.signed.size());
                    let size = job.signed.size();
                    let _ = self.report.send(Report::Cosigned { size, witness: self.index, line });
                }
                Tried::Elsewhere(theirs) if theirs > job.signed.size() => {
                    let _ = self.report.send(Report::Ahead { witness: self.index, theirs });
                    finished = job.number;
                }
                Tried::Elsewhere(theirs) if self.known != Some(theirs) => self.known = Some(theirs),
                Tried::Elsewhere(_) => failures = self.pause(failures, "it contradicts itself", &mut jobs).await,
                Tried::Failed(why) => failures = self.pause(failures, &why, &mut jobs).await,
            }
        }
    }

    /// Waits a while, or until there is a newer checkpoint.
    async fn pause(&self, failures: usize, why: &str, jobs: &mut watch::Receiver<Option<Job>>) -> usize {
        if failures == 0 {
            tracing::warn!(witness = %self.vkey.name(), why, "a witness does not cosign; trying on");
        }
        let pause = RETRY[failures.min(RETRY.len() - 1)];
        let _ = tokio::time::timeout(pause, jobs.changed()).await;
        failures + 1
    }

    async fn try_once(&self, signed: &SignedCheckpoint) -> Tried {
        let request = match self.request(signed) {
            Ok(request) => request,
            Err(why) => return Tried::Failed(why),
        };
        let posted = self.fetcher.post(&self.url, "text/plain", &[], request.into_bytes(), ANSWER_BYTES_MAX).await;
        let answer = match posted {
            Ok(answer) => answer,
            Err(e) => return Tried::Failed(e.to_string()),
        };
        let text = String::from_utf8_lossy(&answer.body);
        match answer.status {
            200 => self.check(signed, &text).map_or_else(Tried::Failed, Tried::Done),
            409 => match text.trim_end().parse() {
                Ok(size) => Tried::Elsewhere(size),
                Err(_) => Tried::Failed("a 409 without a size".to_owned()),
            },
            status => Tried::Failed(format!("status {status}")),
        }
    }

    fn request(&self, signed: &SignedCheckpoint) -> Result<String, String> {
        // "If a client doesn't have information on the latest cosigned checkpoint, it MAY initially make a request with a
        // old size of zero to obtain it."
        let old_size = self.known.unwrap_or(0).min(signed.size());
        let proof = match old_size {
            0 => Vec::new(),
            old => {
                let plan = proof::consistency(old, signed.size()).map_err(|e| e.to_string())?;
                let hashes = self.files.hashes(&plan, signed.size()).map_err(|e| e.to_string())?;
                plan.build(&hashes).map_err(|e| e.to_string())?
            }
        };
        let note = Note::parse(signed.to_note(&[]).as_bytes()).map_err(|e| e.to_string())?;
        Ok(AddCheckpoint { old_size, proof, note }.format())
    }

    /// "The client MUST ignore any cosignatures from unknown keys": what counts is the one by the key in the policy.
    fn check(&self, signed: &SignedCheckpoint, body: &str) -> Result<SignatureLine, String> {
        let lines = parse_cosignatures(body).map_err(|e| e.to_string())?;
        let note = Note::parse(signed.to_note(&lines).as_bytes()).map_err(|e| e.to_string())?;
        match cosignature::check(&note, &self.vkey) {
            Ok(Some(_)) => {}
            Ok(None) => return Err("its answer holds no cosignature by the key in the policy".to_owned()),
            Err(e) => return Err(e.to_string()),
        }
        lines.into_iter().find(|l| l.is_by(&self.vkey)).ok_or_else(|| "no line".to_owned())
    }
}
