//! Changes that wait for the next batch: bounded, at most one a CSI, the same request on the same ticket.
//!
//! A pending change is in memory only; nobody has been told anything yet. A crash loses it, and its sender asks again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use waymark_mapping::entry::{CHANGES_PER_BATCH_MIN, CHANGES_PER_HEAD_MAX, Config, ENTRIES_PER_HEAD_MAX, Provider};

use super::batch::{Intake, PendingChange};

/// Most changes that wait: two full batches.
pub const PENDING_MAX: usize = 2 * CHANGES_PER_HEAD_MAX;
/// Most provider entries that wait.
pub const PROVIDERS_MAX: usize = 256;

/// What became of a pending change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It waits.
    Pending,
    /// It is in the log, cosigned and published.
    Published,
    /// It is not in the log: what it rests on did not hold any more when its batch was made. That is published.
    Overtaken,
    /// It is not in the log: by a fault of ours its batch would not have been sound.
    Dropped,
    /// The sequencer has stopped; whether the change was made shows after the restart.
    Unknown,
}

/// A place in the queue. Dropping it changes nothing.
pub type Ticket = watch::Receiver<Outcome>;

/// Why a change is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolRefused {
    /// Another change of the same CSI is on its way.
    #[error("another change is on its way")]
    InFlight,
    /// Another change of the same CSI was published after this one was judged.
    #[error("another change was made first")]
    Overtaken,
    /// The queue is full.
    #[error("the queue is full")]
    Full,
    /// The sequencer has stopped.
    #[error("the log is read-only")]
    ReadOnly,
}

struct Waiting {
    change: PendingChange,
    done: watch::Sender<Outcome>,
}

/// At most one config entry is on its way: the next one has to name it.
#[derive(Default)]
enum ConfigOnItsWay {
    #[default]
    None,
    Waiting(Box<Config>),
    /// In a batch that is not published yet.
    Taken,
}

#[derive(Default)]
struct Inner {
    waiting: Vec<Waiting>,
    providers: Vec<Provider>,
    config: ConfigOnItsWay,
    /// CSIs with a change on its way, from here until it is published.
    in_flight: HashSet<[u8; 32]>,
    /// Full-width digests of requests on their way, for retries.
    tickets: HashMap<[u8; 32], Ticket>,
    closed: bool,
}

/// The queue.
#[derive(Default)]
pub struct Pool {
    inner: Mutex<Inner>,
}

/// What one batch takes out of the queue.
#[derive(Default)]
pub struct Taken {
    /// What goes into it.
    pub intake: Intake,
    /// Those who wait for it.
    pub done: Done,
}

impl ConfigOnItsWay {
    fn take(&mut self) -> Option<Config> {
        match std::mem::replace(self, Self::Taken) {
            Self::Waiting(config) => Some(*config),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Pool {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ticket of a request that is on its way already.
    pub fn ticket(&self, request: &[u8; 32]) -> Option<Ticket> {
        self.inner().tickets.get(request).cloned()
    }

    /// Whether a change of this CSI is on its way.
    pub fn is_in_flight(&self, csi_key: &[u8; 32]) -> bool {
        self.inner().in_flight.contains(csi_key)
    }

    /// Queues a change, if it was judged over what is still the latest version.
    ///
    /// A change leaves `in_flight` only after it was published. So whoever is not in flight here sees, in `is_current`, all
    /// that was made before: no two changes of one CSI can both become the same version.
    ///
    /// # Errors
    /// [`PoolRefused`].
    pub fn add(
        &self,
        request: [u8; 32],
        change: PendingChange,
        is_current: impl FnOnce(&PendingChange) -> bool,
    ) -> Result<Ticket, PoolRefused> {
        let mut inner = self.inner();
        if inner.closed {
            return Err(PoolRefused::ReadOnly);
        }
        if let Some(ticket) = inner.tickets.get(&request) {
            return Ok(ticket.clone());
        }
        // "At most one change a CSI between two heads: a second waits or gets 409."
        if inner.in_flight.contains(&change.csi_key) {
            return Err(PoolRefused::InFlight);
        }
        if !is_current(&change) {
            return Err(PoolRefused::Overtaken);
        }
        if inner.waiting.len() >= PENDING_MAX {
            return Err(PoolRefused::Full);
        }
        let (done, ticket) = watch::channel(Outcome::Pending);
        inner.in_flight.insert(change.csi_key);
        inner.tickets.insert(request, ticket.clone());
        inner.waiting.push(Waiting { change, done });
        Ok(ticket)
    }

    /// Queues a provider entry.
    ///
    /// # Errors
    /// [`PoolRefused`].
    pub fn add_provider(&self, provider: Provider) -> Result<(), PoolRefused> {
        let mut inner = self.inner();
        if inner.closed {
            return Err(PoolRefused::ReadOnly);
        }
        // The same entry, sent again, takes no second place.
        if inner.providers.contains(&provider) {
            return Ok(());
        }
        if inner.providers.len() >= PROVIDERS_MAX {
            return Err(PoolRefused::Full);
        }
        inner.providers.push(provider);
        Ok(())
    }

    /// Queues a config entry, unless one is on its way: offering it again does nothing.
    ///
    /// # Errors
    /// [`PoolRefused::ReadOnly`].
    pub fn add_config(&self, config: Config) -> Result<(), PoolRefused> {
        let mut inner = self.inner();
        if inner.closed {
            return Err(PoolRefused::ReadOnly);
        }
        if matches!(inner.config, ConfigOnItsWay::None) {
            inner.config = ConfigOnItsWay::Waiting(Box::new(config));
        }
        Ok(())
    }

    /// Takes what fits between two heads, oldest first.
    pub fn take(&self) -> Taken {
        let mut inner = self.inner();
        let mut taken = Taken::default();
        taken.intake.providers = std::mem::take(&mut inner.providers);
        taken.intake.config = inner.config.take();
        let mut entries = taken.intake.providers.len() + usize::from(taken.intake.config.is_some());
        let mut fits = 0;
        for waiting in inner.waiting.iter().take(CHANGES_PER_HEAD_MAX) {
            let more = 1 + waiting.change.to_log.len();
            // Places are kept for dummies.
            if entries + more > ENTRIES_PER_HEAD_MAX - CHANGES_PER_BATCH_MIN {
                break;
            }
            entries += more;
            fits += 1;
        }
        for waiting in inner.waiting.drain(..fits) {
            taken.done.0.push((waiting.change.csi_key, waiting.done));
            taken.intake.changes.push(waiting.change);
        }
        taken
    }

    /// Changes that wait, without those of the batch in hand.
    pub fn waiting(&self) -> usize {
        self.inner().waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        let inner = self.inner();
        inner.waiting.is_empty() && inner.providers.is_empty() && !matches!(inner.config, ConfigOnItsWay::Waiting(_))
    }

    /// A batch was published, without the changes of the CSIs that were left out: all its CSIs may change again, and whoever waits
    /// is told what became of their change.
    pub fn published(&self, left_out: &[[u8; 32]], done: Done) {
        self.over(done, |csi_key| if left_out.contains(csi_key) { Outcome::Overtaken } else { Outcome::Published });
    }

    /// A batch was dropped before it was signed: whoever waits is told, and nobody waits for it any more.
    pub fn dropped(&self, done: &mut Done) {
        self.over(std::mem::take(done), |_| Outcome::Dropped);
    }

    fn over(&self, done: Done, outcome: impl Fn(&[u8; 32]) -> Outcome) {
        {
            let mut inner = self.inner();
            for (csi_key, _) in &done.0 {
                inner.in_flight.remove(csi_key);
            }
            if matches!(inner.config, ConfigOnItsWay::Taken) {
                inner.config = ConfigOnItsWay::None;
            }
        }
        for (csi_key, sender) in &done.0 {
            let _ = sender.send(outcome(csi_key));
        }
        self.inner().tickets.retain(|_, ticket| *ticket.borrow() == Outcome::Pending);
    }

    /// The sequencer stops: nothing more is taken, and whoever waits is told that the outcome is not known.
    pub fn close(&self, done: Done) {
        let mut inner = self.inner();
        inner.closed = true;
        for sender in done.0.iter().map(|(_, done)| done).chain(inner.waiting.iter().map(|w| &w.done)) {
            let _ = sender.send(Outcome::Unknown);
        }
        inner.waiting.clear();
        // Nothing is on its way any more: whoever asks is told that the log is read-only, not to look again in a moment.
        inner.in_flight.clear();
    }
}

/// Those who wait for one batch, each with the CSI of their change.
#[derive(Default)]
pub struct Done(Vec<([u8; 32], watch::Sender<Outcome>)>);
