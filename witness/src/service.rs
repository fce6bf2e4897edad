//! One request from body to verdict, without HTTP: list, quota, judgement, state and evidence put together.
//!
//! The order: parse; find the log; judge against what was cosigned last; look at the quota; advance, which judges again
//! if another request came in between; count. So a refusal costs no write transaction, and without a checkpoint that the log has
//! signed nobody can make the witness write anything; what may be written for refusals is capped ([`evidence`]).

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use waymark_log::{
    checkpoint::Origin,
    note::{SignatureLine, Vkey},
    time::{UnixMillis, UnixSeconds},
    witness::{AddCheckpoint, Advance, Refusal, decide},
};
use waymark_runtime::metrics::SERIES_MAX;

use crate::{
    config::REFUSED_FOLDER,
    dating::ClockJumped,
    evidence::{self, Kept, Kind},
    logs::LogList,
    quota::{OverQuota, Quotas},
    state::{AdvanceError, Cosigned, State, StateError},
};

/// Why a request gets no cosignature.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// The specification's reasons.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The log has asked often enough today.
    #[error(transparent)]
    OverQuota(#[from] OverQuota),
    /// This witness's clock is not to be believed.
    #[error(transparent)]
    ClockJumped(#[from] ClockJumped),
    /// This witness's clock stands before the log's last cosignature.
    #[error("this witness's clock went back; it does not cosign until it has caught up")]
    ClockWentBack,
    /// This witness's state.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A request as it came and as it was understood.
struct Asked<'a> {
    origin: Origin,
    request: AddCheckpoint,
    body: &'a [u8],
}

/// A witness without its listener. Its methods block on the disk.
#[derive(Debug)]
pub struct Service {
    logs: LogList,
    state: State,
    quotas: Quotas,
    refused: PathBuf,
    /// Held while a refused request is kept, so that the caps are not overrun.
    keeping: Mutex<()>,
    /// Whether it was said that a bad proof was not kept.
    said_proof_not_kept: AtomicBool,
    /// The same of what only the log can have made.
    said_root_not_kept: AtomicBool,
}

impl Service {
    /// A service on a list and a state that were opened.
    pub fn new(data_dir: &Path, logs: LogList, state: State) -> Self {
        let refused = data_dir.join(REFUSED_FOLDER);
        Self {
            logs,
            state,
            quotas: Quotas::default(),
            refused,
            keeping: Mutex::new(()),
            said_proof_not_kept: AtomicBool::new(false),
            said_root_not_kept: AtomicBool::new(false),
        }
    }

    /// The verifier key of its cosignatures.
    pub const fn vkey(&self) -> &Vkey {
        self.state.vkey()
    }

    /// Takes an add-checkpoint request and returns the cosignature, durable by then.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn add_checkpoint(&self, body: &[u8]) -> Result<SignatureLine, Denied> {
        let request = AddCheckpoint::parse(body)?;
        let asked = Asked { origin: request.origin()?, request, body };
        match self.judge_and_advance(&asked) {
            // The list may have grown by this log or by the key that signed, or the quota may have been raised.
            Err(Denied::Refused(Refusal::UnknownLog | Refusal::NotSigned) | Denied::OverQuota(_))
                if self.logs.refresh() =>
            {
                self.judge_and_advance(&asked)
            }
            verdict => verdict,
        }
    }

    fn judge_and_advance(&self, asked: &Asked<'_>) -> Result<SignatureLine, Denied> {
        let Asked { origin, request, .. } = asked;
        let log = self.logs.find(origin);
        let stored = self.state.latest(origin)?;
        let judge = |head| decide(head, request, log.as_ref().map(|l| l.keys.as_slice()));
        let (step, log) = match (judge(stored.as_ref().map(Cosigned::head)), &log) {
            (Ok(step), Some(log)) => (step, log),
            (Ok(_), None) => return Err(Refusal::UnknownLog.into()),
            (Err(refusal), _) => return Err(self.refuse(refusal, stored.as_ref(), asked)),
        };
        // Before anything is counted: in a day that has not come, the quota of all days until then would be used up.
        let now = self.state.dating().now()?;
        if let Some(line) = cosigned_this_second(&step, stored.as_ref(), now) {
            return Ok(line);
        }
        // A refresh is anybody's to ask for, so the log's quota is not for it. Another text at the same size is the log's.
        let is_new = stored.is_none_or(|stored| stored.text() != step.checkpoint.checkpoint().format());
        if is_new {
            self.quotas.check(origin, log.per_day(), now)?;
        }
        // Nothing else may have happened since, and then the judgement stands; else it is made again on what is stored.
        let again = |head| if head == step.from { Ok(step) } else { judge(head) };
        match self.state.advance(origin, again) {
            Ok(cosigned) => {
                let head = cosigned.head();
                tracing::debug!(%origin, size = head.size, root = %head.root, "cosigned");
                if is_new && self.quotas.count(origin, now) == log.per_day() {
                    tracing::warn!(%origin, per_day = log.per_day(), "today's quota is used up");
                }
                Ok(cosigned.line().clone())
            }
            Err(AdvanceError::Refused { refusal, stored }) => Err(self.refuse(refusal, stored.as_deref(), asked)),
            Err(error @ AdvanceError::ClockWentBack { .. }) => {
                // It was said at the start, and readiness says it; anybody can ask for this as often as he likes.
                tracing::debug!(%origin, %error, "not cosigned");
                Err(Denied::ClockWentBack)
            }
            Err(AdvanceError::ClockJumped(jumped)) => Err(jumped.into()),
            Err(AdvanceError::State(error)) => Err(error.into()),
        }
    }

    /// Notes a refusal, and keeps the request if it may be evidence.
    fn refuse(&self, refusal: Refusal, stored: Option<&Cosigned>, asked: &Asked<'_>) -> Denied {
        let origin = &asked.origin;
        // "If the origin is known, and the signature is valid, the witness MAY log the request even if the checkpoint fails
        // one of the consistency checks (but MUST NOT cosign the checkpoint), as it might be proof of log misbehavior."
        // Two roots at one size are that proof also where the old size alone was reason to refuse.
        let is_root = || evidence::is_against_the_log(stored, &asked.request);
        let is_evidence = match refusal {
            Refusal::Inconsistent => true,
            Refusal::Conflict { .. } | Refusal::OldSizeTooLarge => is_root(),
            _ => false,
        };
        if is_evidence {
            let _one_at_a_time = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
            match evidence::keep(&self.refused, stored, &asked.request, asked.body) {
                Ok(Kept::New(Kind::Root, file)) => {
                    tracing::error!(%origin, file = %file.display(), "the log contradicts itself; kept");
                }
                // Anybody can send a bad proof with what the log has published.
                Ok(Kept::New(Kind::Proof, file)) => {
                    tracing::warn!(%origin, file = %file.display(), "a proof that does not hold; kept");
                }
                Ok(Kept::Already(_)) => tracing::debug!(%origin, "inconsistent with what was cosigned; kept before"),
                Ok(Kept::Full) => self.say_not_kept(is_root(), origin, &"the folder of refused requests is full"),
                Err(error) => self.say_not_kept(is_root(), origin, &error),
            }
        } else {
            tracing::debug!(%origin, %refusal, "refused");
        }
        refusal.into()
    }

    /// Says once of each kind that evidence was not kept: strangers can send what they have as often as they like.
    fn say_not_kept(&self, is_root: bool, origin: &Origin, why: &dyn std::fmt::Display) {
        let said = if is_root { &self.said_root_not_kept } else { &self.said_proof_not_kept };
        if !said.swap(true, Ordering::Relaxed) {
            tracing::error!(%origin, %why, "inconsistent with what was cosigned, and not kept; further ones are not logged");
        }
    }

    /// What was cosigned last of the log with this [`Origin::hash_hex`], as a note; `None` if nothing ever was.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn latest(&self, origin_hash: &str) -> Result<Option<String>, StateError> {
        let Some(origin) = self.state.origin_by_hash(origin_hash) else { return Ok(None) };
        Ok(self.state.latest(&origin)?.map(|c| c.to_note()))
    }

    /// How many logs are listed.
    pub fn logs_listed(&self) -> usize {
        self.logs.len()
    }

    /// The logs of which something was cosigned, in the order of their names and as many as metrics show, each with the size
    /// that it has here.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn cosigned_sizes(&self) -> Result<Vec<(Origin, u64)>, StateError> {
        let mut origins = self.state.origins();
        origins.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        let mut sizes = Vec::new();
        for origin in origins.into_iter().take(SERIES_MAX) {
            if let Some(cosigned) = self.state.latest(&origin)? {
                sizes.push((origin, cosigned.head().size));
            }
        }
        Ok(sizes)
    }

    /// Reads something of the state.
    ///
    /// # Errors
    /// [`StateError`] if it cannot be read, or had failed before.
    pub fn check(&self) -> Result<(), StateError> {
        self.state.check()
    }

    /// Why nothing can be stored, while there is no room on the disk.
    pub fn full(&self) -> Option<String> {
        self.state.full()
    }

    /// How often something was stored since the start.
    pub fn stored(&self) -> u64 {
        self.state.stored()
    }

    /// What is to be done from time to time, whether anybody asks or not. Looks at the clock, which would otherwise be compared
    /// over all the days in which nobody asked; and goes on after a full disk, if there is room. Says whether it went on.
    pub fn tend(&self) -> bool {
        // What is wrong with the clock is in the log; what is wrong with the state has ended it.
        let _ = self.state.dating().now();
        self.state.go_on().unwrap_or(false)
    }

    /// Whether the clock is to be believed.
    ///
    /// # Errors
    /// [`ClockJumped`].
    pub fn check_clock(&self) -> Result<(), ClockJumped> {
        self.state.dating().now().map(drop)
    }

    /// By how many seconds the clock stands before the newest cosignature: a log waits for so long; zero if none does.
    pub fn clock_behind_s(&self) -> u64 {
        let now: UnixSeconds = self.state.dating().wall().floor_seconds();
        self.state.newest().since(now)
    }

    /// For an operation that broke off in the middle: nothing is known about the state any more.
    pub fn broke_off(&self) {
        self.state.fail(&"an operation broke off in the middle");
    }

    /// Waits until the state has failed, which may be never.
    pub async fn failed(&self) {
        self.state.failed().await;
    }

    /// Waits for what is being written and closes the state.
    pub fn close(&self) {
        self.state.close();
    }
}

/// The cosignature on the disk, if making another would make the same bytes: times count seconds, and Ed25519 has one
/// signature for a message. So refreshes that strangers ask for seldom wait for a turn to write; those that asked at the
/// same moment find it when they have theirs ([`State::advance`]).
fn cosigned_this_second(step: &Advance, stored: Option<&Cosigned>, now: UnixMillis) -> Option<SignatureLine> {
    let stored = stored?;
    let same = stored.time() == now.floor_seconds() && stored.text() == step.checkpoint.checkpoint().format();
    same.then(|| stored.line().clone())
}

#[cfg(test)]
mod tests {
    use waymark_log::{cosignature::Cosigner, key::SecretKey, note::KeyName, time::DAY_MS};
    use waymark_runtime::clock::Clock;

    use super::*;
    use crate::{config::STATE_FILE, dating::Dating, logs};

    #[test]
    fn a_witness_that_nobody_asks_does_not_add_up_what_a_time_server_corrects_over_the_days() {
        for is_tended in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            logs::create(folder.path()).unwrap();
            State::create(&folder.path().join(STATE_FILE)).unwrap();
            let clock = Clock::settable(1_700_000_000_000);
            let cosigner = Cosigner::new(KeyName::new("w.example").unwrap(), SecretKey::from_seed(&[9; 32]));
            let state = State::open(&folder.path().join(STATE_FILE), cosigner, Dating::new(clock.clone())).unwrap();
            let service = Service::new(folder.path(), LogList::load(folder.path()).unwrap(), state);
            for _day in 0..30 {
                clock.advance(DAY_MS);
                clock.set(20_000);
                assert!(!is_tended || !service.tend(), "there was no full disk");
            }
            assert_eq!(service.check_clock().is_ok(), is_tended);
        }
    }
}
