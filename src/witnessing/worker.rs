//! One witness's worker: has the newest checkpoint cosigned by it, however often that takes.
//!
//! ```text
//! POST add-checkpoint ── 200, dated as it should be ──▶ cosigned; while the quorum is missing, again before it grows old
//!                    ├── 409, at another size, once ──▶ again from there, at once; after the next pause, too
//!                    ├── 409 larger, 422, 409 again ──▶ pause, again; meanwhile GET its copy: proof against us, or its word only
//!                    └── anything else ───────────────▶ pause, again
//! ```
//!
//! Each pause but the first is longer, up to three seconds, whatever the witness answers: nobody makes us ask in a storm. And nobody has it for
//! long: a witness that turns honest just after it has taken a request that it will not answer is asked again after one answer's time and
//! one pause, which leaves three of the ten seconds in which publishing is to go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use waymark_log::{
    checkpoint::{Origin, SignedCheckpoint},
    cosignature,
    hash::Hash,
    note::{Note, SignatureLine, Vkey},
    policy::Policy,
    proof,
    time::UnixSeconds,
    witness::{AddCheckpoint, parse_cosignatures},
};
use waymark_runtime::{
    clock::Clock,
    fetch::{ExtraRoots, Fetcher},
};

use super::{FRESHNESS, Lack, Report};
use crate::store::LogFiles;

/// Longest a witness may take to answer, in seconds.
const WITNESS_S_MAX: u64 = 4;
/// Longest pause between two tries, in seconds. A witness's copy of our checkpoint has to come within the pause.
const PAUSE_S_MAX: u64 = 3;
/// In how many seconds publishing goes on once a quorum is back.
const BACK_S_MAX: u64 = 10;
// The rest is for the tries that succeed.
const _: () = assert!(WITNESS_S_MAX + PAUSE_S_MAX + 3 <= BACK_S_MAX);
/// Most bytes in a witness's answer: sixteen ML-DSA-44 signature lines of some 3.5 KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Pauses between tries with a witness that fails.
const RETRY: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(PAUSE_S_MAX)];
/// How often it is looked whether a cosignature has grown old while the quorum is missing.
const RECHECK: Duration = Duration::from_secs(1);

/// The newest checkpoint, as a job for the workers.
#[derive(Clone)]
pub(super) struct Job {
    signed: Arc<SignedCheckpoint>,
    /// Counts calls, so that a refresh of the same checkpoint is a new job.
    number: u64,
    open: Arc<AtomicBool>,
}

/// While this lives, the quorum of a job is missing.
pub(super) struct Open(Arc<AtomicBool>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Job {
    pub(super) fn open(signed: &SignedCheckpoint, number: u64) -> (Self, Open) {
        let open = Arc::new(AtomicBool::new(true));
        (Self { signed: Arc::new(signed.clone()), number, open: Arc::clone(&open) }, Open(open))
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }
}

/// What all workers share.
pub(super) struct Contact {
    log: Option<Vkey>,
    clock: Clock,
    files: LogFiles,
    fetcher: Fetcher,
}

impl Contact {
    pub(super) fn new(policy: &Policy, clock: Clock, files: &LogFiles, roots: &ExtraRoots) -> Self {
        let fetcher = Fetcher::with_roots(Duration::from_secs(WITNESS_S_MAX), roots);
        Self { log: policy.logs().first().map(|l| l.vkey.clone()), clock, files: files.clone(), fetcher }
    }

    pub(super) fn worker<T: Fn(Report) -> bool>(&self, vkey: &Vkey, url: &str, tell: T) -> Worker<T> {
        Worker {
            vkey: vkey.clone(),
            url: url.trim_end_matches('/').to_owned(),
            log: self.log.clone(),
            clock: self.clock.clone(),
            files: self.files.clone(),
            fetcher: self.fetcher.clone(),
            known: None,
            has_moved: false,
            done: None,
            failures: 0,
            tell,
        }
    }
}

pub(super) struct Worker<T> {
    vkey: Vkey,
    url: String,
    log: Option<Vkey>,
    clock: Clock,
    files: LogFiles,
    fetcher: Fetcher,
    /// How far the witness is, as far as we know.
    known: Option<u64>,
    /// Whether it has named another size since it last cosigned or was paused for.
    has_moved: bool,
    /// The last job that it has cosigned, and how it dated that.
    done: Option<(u64, UnixSeconds)>,
    /// Tries in a row that came to nothing.
    failures: usize,
    tell: T,
}

/// What one request led to.
enum Tried {
    Cosigned(SignatureLine, UnixSeconds),
    /// The witness is at another size; try again from there.
    Elsewhere(u64),
    /// It says that ours does not continue what it has cosigned.
    Refused(String),
    /// Its cosignature is dated otherwise than by our clock.
    OtherTime(String),
    Failed(String),
}

/// What a witness that refuses shows as its copy.
enum Shown {
    /// A checkpoint by our own key that ours does not continue.
    NotContinued(Report),
    /// One that ours continues: it has no reason to refuse. It was overtaken by a newer checkpoint of ours, or it lies.
    Continued,
    /// Nothing that is of our key.
    Nothing,
}

/// A pause before the next try.
struct Pause {
    longest: Duration,
    /// Whether a newer checkpoint ends it.
    ends_with_job: bool,
}

impl Pause {
    async fn wait(self, jobs: &mut watch::Receiver<Option<Job>>) {
        if self.ends_with_job {
            let _ = tokio::time::timeout(self.longest, jobs.changed()).await;
        } else {
            tokio::time::sleep(self.longest).await;
        }
    }
}

impl<T: Fn(Report) -> bool> Worker<T> {
    /// Works until the jobs end.
    pub(super) async fn run(mut self, mut jobs: watch::Receiver<Option<Job>>) {
        while let Some(job) = self.next(&mut jobs).await {
            let tried = self.try_once(&job.signed, &jobs).await;
            let refused = matches!(tried, Tried::Refused(_));
            if let Some(why) = self.take(&job, tried) {
                let (pause, newest) = (self.fail(&why), jobs.clone());
                // Beside the pause: a copy that is held back makes no pause longer.
                let look = async {
                    if refused {
                        let without = |lack| Report::Without { job: job.number, lack };
                        let _ = (self.tell)(match self.shown(&job.signed, &newest).await {
                            Shown::NotContinued(proof) => proof,
                            Shown::Continued => without(Lack::Other),
                            Shown::Nothing => without(Lack::Refused),
                        });
                    }
                };
                tokio::join!(look, pause.wait(&mut jobs));
            }
        }
    }

    /// The newest job, once there is something to do for it.
    async fn next(&self, jobs: &mut watch::Receiver<Option<Job>>) -> Option<Job> {
        loop {
            let job = jobs.borrow_and_update().clone();
            match job {
                Some(job) if !self.has_done(&job) => return Some(job),
                Some(job) if job.is_open() => {
                    if let Ok(Err(_)) = tokio::time::timeout(RECHECK, jobs.changed()).await {
                        return None;
                    }
                }
                _ => jobs.changed().await.ok()?,
            }
        }
    }

    /// Whether the witness has cosigned a job, and not so long ago that it may be too old when the quorum is there.
    fn has_done(&self, job: &Job) -> bool {
        let oldest = self.clock.now().floor_seconds().minus_s(FRESHNESS.max_age_s / 2);
        self.done.is_some_and(|(number, time)| number == job.number && (!job.is_open() || time >= oldest))
    }

    /// Takes in what a try led to; gives why to pause before the next.
    fn take(&mut self, job: &Job, tried: Tried) -> Option<String> {
        match tried {
            Tried::Cosigned(line, time) => {
                (self.failures, self.has_moved) = (0, false);
                (self.known, self.done) = (Some(job.signed.size()), Some((job.number, time)));
                let _ = (self.tell)(Report::Cosigned { size: job.signed.size(), line });
                None
            }
            Tried::Elsewhere(size) => {
                // At once, once between two pauses: a witness that names one size after the other is followed with pauses.
                let moves_on = std::mem::replace(&mut self.has_moved, true);
                self.known = Some(size);
                moves_on.then(|| self.without(job, Lack::Other, "it names one size after the other".to_owned()))
            }
            // Told when it was asked for its copy.
            Tried::Refused(why) => Some(why),
            Tried::OtherTime(why) => Some(self.without(job, Lack::OtherTime, why)),
            Tried::Failed(why) => Some(self.without(job, Lack::Other, why)),
        }
    }

    fn without(&self, job: &Job, lack: Lack, why: String) -> String {
        let _ = (self.tell)(Report::Without { job: job.number, lack });
        why
    }

    /// Counts a try that came to nothing; gives the pause before the next.
    fn fail(&mut self, why: &str) -> Pause {
        if self.failures == 0 {
            tracing::warn!(witness = %self.vkey.name(), why, "a witness does not cosign; trying on");
        }
        let longest = RETRY[self.failures.min(RETRY.len() - 1)];
        self.failures += 1;
        self.has_moved = false;
        // With a checkpoint a second, a witness that is down would be asked as often.
        Pause { longest, ends_with_job: self.failures < RETRY.len() }
    }

    async fn try_once(&self, signed: &SignedCheckpoint, jobs: &watch::Receiver<Option<Job>>) -> Tried {
        let began = self.clock.now().floor_seconds();
        let request = match self.request(signed) {
            Ok(request) => request,
            Err(why) => return Tried::Failed(why),
        };
        let url = format!("{}/add-checkpoint", self.url);
        let posted = self.fetcher.post(&url, "text/plain", &[], request.into_bytes(), ANSWER_BYTES_MAX).await;
        let answer = match posted {
            Ok(answer) => answer,
            Err(e) => return Tried::Failed(e.to_string()),
        };
        let text = String::from_utf8_lossy(&answer.body);
        match answer.status {
            200 => self.check(signed, &text, began).map_or_else(|why| why, |(line, time)| Tried::Cosigned(line, time)),
            409 => match text.trim_end().parse::<u64>() {
                // Somebody has handed it a newer checkpoint of ours while the request was on its way.
                Ok(size) if size > signed.size() && is_ours(size, jobs) => Tried::Elsewhere(size),
                Ok(size) if size > signed.size() => {
                    Tried::Refused(format!("it says that it has cosigned {size} entries"))
                }
                Ok(size) if self.known != Some(size) => Tried::Elsewhere(size),
                Ok(size) if size == signed.size() => {
                    Tried::Refused("it says that it has cosigned another root".to_owned())
                }
                Ok(size) => Tried::Failed(format!("it refuses to go on from {size}, where it says that it is")),
                Err(_) => Tried::Failed("a 409 without a size".to_owned()),
            },
            422 => Tried::Refused("it says that our checkpoint does not continue what it has cosigned".to_owned()),
            status => Tried::Failed(format!("status {status}")),
        }
    }

    fn request(&self, signed: &SignedCheckpoint) -> Result<String, String> {
        // "If a client doesn't have information on the latest cosigned checkpoint, it MAY initially make a request with a
        // old size of zero to obtain it."
        let old_size = self.known.unwrap_or(0).min(signed.size());
        let proof = if old_size == 0 { Vec::new() } else { self.consistency(old_size, signed.size())? };
        let note = Note::parse(signed.to_note(&[]).as_bytes()).map_err(|e| e.to_string())?;
        Ok(AddCheckpoint { old_size, proof, note }.format())
    }

    fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, String> {
        let plan = proof::consistency(old, new).map_err(|e| e.to_string())?;
        let hashes = self.files.hashes(&plan, new).map_err(|e| e.to_string())?;
        plan.build(&hashes).map_err(|e| e.to_string())
    }

    /// "The client MUST ignore any cosignatures from unknown keys": only the one by the key in the policy is used, and only if it is
    /// dated between the request and now, as far as clients allow clocks to differ, and not before this witness's last one. A witness
    /// with another clock is like one that is away.
    fn check(
        &self,
        signed: &SignedCheckpoint,
        body: &str,
        began: UnixSeconds,
    ) -> Result<(SignatureLine, UnixSeconds), Tried> {
        let failed = |why: String| Tried::Failed(why);
        let lines = parse_cosignatures(body).map_err(|e| failed(e.to_string()))?;
        let note = Note::parse(signed.to_note(&lines).as_bytes()).map_err(|e| failed(e.to_string()))?;
        let time = cosignature::check(&note, &self.vkey).map_err(|e| failed(e.to_string()))?;
        let none = || failed("its answer holds no cosignature by the key in the policy".to_owned());
        let time = time.ok_or_else(none)?;
        let (skew_s, now) = (FRESHNESS.skew_s, self.clock.now().floor_seconds());
        if !(began.minus_s(skew_s)..=now.plus_s(skew_s)).contains(&time) {
            let why = format!("its clock and ours differ by more than the {skew_s} s that clients allow");
            return Err(Tried::OtherTime(why));
        }
        if self.done.is_some_and(|(_, last)| time < last) {
            return Err(failed("it dates its cosignature before its last one".to_owned()));
        }
        let line = lines.into_iter().find(|l| l.is_by(&self.vkey)).ok_or_else(none)?;
        Ok((line, time))
    }

    /// What this witness keeps of us, beside our newest checkpoint.
    ///
    /// Ours is the newest by the time that the answer is here: a witness that holds its answer back could show what we have published meanwhile.
    /// Nobody has seen a head before its job was set.
    async fn shown(&self, asked: &SignedCheckpoint, jobs: &watch::Receiver<Option<Job>>) -> Shown {
        let Some(theirs) = self.copy(&asked.checkpoint().origin).await else { return Shown::Nothing };
        let Some(newest) = jobs.borrow().as_ref().map(|job| Arc::clone(&job.signed)) else { return Shown::Nothing };
        if self.is_continued(&theirs, &newest) {
            return Shown::Continued;
        }
        let note = theirs.to_note(&[]);
        Shown::NotContinued(Report::NotContinued { theirs: theirs.size(), ours: newest.size(), note })
    }

    /// Its copy of our checkpoint, if it shows one in time that our own key has signed.
    async fn copy(&self, origin: &Origin) -> Option<SignedCheckpoint> {
        let log = self.log.as_ref()?;
        let url = format!("{}/{}/checkpoint", self.url, origin.hash_hex());
        let answer = self.fetcher.get(&url, ANSWER_BYTES_MAX);
        let answer = tokio::time::timeout(Duration::from_secs(PAUSE_S_MAX), answer).await.ok()?.ok()?;
        if answer.status != 200 {
            return None;
        }
        let note = Note::parse(&answer.body).ok()?;
        SignedCheckpoint::open(&note, origin, std::slice::from_ref(log)).ok()
    }

    /// Whether our tree is theirs, or theirs grown. What cannot be computed from our own files is no proof of anything.
    fn is_continued(&self, theirs: &SignedCheckpoint, ours: &SignedCheckpoint) -> bool {
        let (old, new) = (theirs.size(), ours.size());
        let (from, to) = (&theirs.checkpoint().root, &ours.checkpoint().root);
        match (old, self.consistency(old, new)) {
            (0, _) => true,
            _ if old > new => false,
            (_, Ok(proof)) => proof::verify_consistency(old, new, from, to, &proof).is_ok(),
            (_, Err(_)) => true,
        }
    }
}

/// Whether our newest checkpoint has so many entries, or more.
fn is_ours(size: u64, jobs: &watch::Receiver<Option<Job>>) -> bool {
    jobs.borrow().as_ref().is_some_and(|newest| size <= newest.signed.size())
}
