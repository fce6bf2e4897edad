//! Changes that wait for the next batch: bounded, at most one a CSI, the same request on the same ticket.
//!
//! A pending change is in memory only; nobody has been told anything yet. A crash loses it, and its sender asks again. A provider entry
//! or a config entry lies in a folder too, until a published head holds it ([`crate::onboarding`]), and is offered anew after a crash.

use std::{
    any::Any,
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use waymark_mapping::{
    entry::{CHANGES_PER_BATCH_MIN, CHANGES_PER_HEAD_MAX, Config, ENTRIES_PER_HEAD_MAX, Entry, Provider},
    names::Domain,
};

use super::batch::{Intake, PendingChange};

/// Most changes that wait: four full batches. It is the sum of what may come by each door, so that no door can take the
/// room of another.
pub const PENDING_MAX: usize = 4 * CHANGES_PER_HEAD_MAX;
/// Most provider entries that wait: a list of their own, with at most one for each role of a domain.
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

/// Shows what becomes of a change. Dropping it changes nothing.
pub type Ticket = watch::Receiver<Outcome>;

/// What is given back when a change leaves the pool, whatever its client does: its place among those that may wait.
pub type Place = Arc<dyn Any + Send + Sync>;

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
    /// The sequencer has stopped, or waits for room on the disk.
    #[error("the log is read-only")]
    ReadOnly,
    /// No batch with it could be signed.
    #[error("by a fault of this program no batch with it can be signed; it is tried again after a restart. Report it")]
    Spoils,
}

struct Waiting {
    change: PendingChange,
    waits: Waits,
}

/// Who waits for a change.
struct Waits {
    csi_key: [u8; 32],
    done: watch::Sender<Outcome>,
    place: Place,
}

impl Waits {
    /// Gives the place back, and then tells: whoever has been told finds it free.
    fn tell(self, outcome: Outcome) {
        drop(self.place);
        let _ = self.done.send(outcome);
    }
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
    /// Provider entries in a batch that is not published yet.
    providers_taken: Vec<Provider>,
    /// Provider entries with which no batch could be signed, oldest first.
    spoiling: VecDeque<Provider>,
    config: ConfigOnItsWay,
    /// CSIs with a change on its way, from here until it is published.
    in_flight: HashSet<[u8; 32]>,
    /// Full-width digests of requests on their way, for retries.
    tickets: HashMap<[u8; 32], Ticket>,
    closed: bool,
    /// Why the log waits for room on the disk, if it does.
    full: Option<String>,
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
    /// `place` is held until the change has left the pool; for a request that is on its way already it is not needed.
    ///
    /// # Errors
    /// [`PoolRefused`].
    pub fn add(
        &self,
        request: [u8; 32],
        change: PendingChange,
        place: &Place,
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
        let waits = Waits { csi_key: change.csi_key, done, place: Arc::clone(place) };
        inner.waiting.push(Waiting { change, waits });
        Ok(ticket)
    }

    /// Queues a provider entry, if it still follows from what is published. The same entry takes no second place, neither here nor in the
    /// batch in hand.
    ///
    /// An entry leaves the batch in hand only after it was published. So a caller whose entry is not found here sees, in `is_next`, all that was
    /// logged before.
    ///
    /// # Errors
    /// [`PoolRefused`].
    pub fn add_provider(&self, provider: Provider, is_next: impl FnOnce(&Provider) -> bool) -> Result<(), PoolRefused> {
        let mut inner = self.inner();
        if inner.closed {
            return Err(PoolRefused::ReadOnly);
        }
        if inner.spoiling.contains(&provider) {
            return Err(PoolRefused::Spoils);
        }
        let mut on_their_way = inner.providers.iter().chain(&inner.providers_taken);
        let same_keys = on_their_way.find(|p| p.domain == provider.domain && p.role == provider.role);
        match same_keys {
            Some(other) if *other == provider => return Ok(()),
            _ if inner.providers.len() >= PROVIDERS_MAX => return Err(PoolRefused::Full),
            // Of two entries over one state of the keys only one can be logged.
            Some(_) => return Err(PoolRefused::InFlight),
            None if !is_next(&provider) => return Err(PoolRefused::Overtaken),
            None => {}
        }
        inner.providers.push(provider);
        Ok(())
    }

    /// Whether it takes nothing now: the disk is full, or the sequencer has stopped.
    pub fn is_closed(&self) -> bool {
        self.inner().closed
    }

    /// Whether a provider entry of this domain is on its way.
    pub fn is_on_its_way(&self, domain: &Domain) -> bool {
        let inner = self.inner();
        inner.providers.iter().chain(&inner.providers_taken).any(|p| p.domain == *domain)
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
        inner.providers_taken.extend_from_slice(&taken.intake.providers);
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
            taken.done.0.push(waiting.waits);
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

    /// Has what was taken published by this, in one moment for those who offer provider entries: a caller that has seen the batch published may
    /// offer the next entry.
    pub fn show(&self, replace: impl FnOnce()) {
        let mut inner = self.inner();
        replace();
        inner.providers_taken.clear();
    }

    /// A batch was published, without the changes of the CSIs that were left out: all its CSIs may change again, and whoever waits
    /// is told what became of their change.
    pub fn published(&self, left_out: &[[u8; 32]], done: Done) {
        self.over(done, |csi_key| if left_out.contains(csi_key) { Outcome::Overtaken } else { Outcome::Published });
        let mut inner = self.inner();
        inner.providers_taken.clear();
        if matches!(inner.config, ConfigOnItsWay::Taken) {
            inner.config = ConfigOnItsWay::None;
        }
    }

    /// A batch was dropped before it was signed: whoever waits is told, and nobody waits for it any more.
    pub fn dropped(&self, done: &mut Done) {
        self.over(std::mem::take(done), |_| Outcome::Dropped);
    }

    /// What was taken for a batch that was dropped, and is not in the one that takes its place either (`entries`): it is not offered
    /// again. Else one entry could have every batch dropped.
    pub fn set_aside(&self, entries: &[Vec<u8>]) {
        let mut inner = self.inner();
        let taken = std::mem::take(&mut inner.providers_taken);
        let (logged, spoiling) =
            taken.into_iter().partition(|p| entries.contains(&Entry::Provider(p.clone()).encode()));
        inner.providers_taken = logged;
        let spoiling: Vec<Provider> = spoiling;
        inner.spoiling.extend(spoiling);
        while inner.spoiling.len() > PROVIDERS_MAX {
            inner.spoiling.pop_front();
        }
    }

    fn over(&self, done: Done, outcome: impl Fn(&[u8; 32]) -> Outcome) {
        {
            let mut inner = self.inner();
            for waits in &done.0 {
                inner.in_flight.remove(&waits.csi_key);
            }
        }
        for waits in done.0 {
            let outcome = outcome(&waits.csi_key);
            waits.tell(outcome);
        }
        self.inner().tickets.retain(|_, ticket| *ticket.borrow() == Outcome::Pending);
    }

    /// The disk is full: until [`Pool::reopen`] nothing is taken, and those who wait are told that the outcome is not known.
    pub fn pause(&self, why: String) {
        self.close(Done::default());
        self.inner().full = Some(why);
    }

    /// After [`Pool::pause`], and only then: there is room again, and all that is signed is published. What lies in the folders is
    /// offered anew.
    pub fn reopen(&self) {
        let mut inner = self.inner();
        if inner.full.take().is_none() {
            return;
        }
        inner.providers.clear();
        inner.providers_taken.clear();
        inner.config = ConfigOnItsWay::None;
        inner.tickets.retain(|_, ticket| *ticket.borrow() == Outcome::Pending);
        inner.closed = false;
    }

    /// Why the log waits for room on the disk, if it does.
    pub fn full(&self) -> Option<String> {
        self.inner().full.clone()
    }

    /// The sequencer stops: nothing more is taken, and whoever waits is told that the outcome is not known.
    pub fn close(&self, done: Done) {
        let mut inner = self.inner();
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting);
        done.0.into_iter().chain(waiting.into_iter().map(|w| w.waits)).for_each(|waits| waits.tell(Outcome::Unknown));
        // Nothing is on its way any more: whoever asks is told that the log is read-only, not to look again in a moment.
        inner.in_flight.clear();
    }
}

/// Those who wait for one batch.
#[derive(Default)]
pub struct Done(Vec<Waits>);
