//! Codes on their way to other machines: nobody who asked for one waits for its delivery, and there is a bound on how
//! many.
//!
//! A message that is put off is tried again for as long as its code works, with pauses that grow: greylisting lets a
//! mail in that comes back after some minutes.
//!
//! **What is told of a delivery** ([`Progress`]) must not tell who exists. So a message that is refused for good is
//! shown as one that was taken, and one that nobody has taken or refused yet is shown in the same way. Only one that is
//! put off is shown as such.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use super::{
    CHALLENGE_MS,
    sender::{Message, Sender},
};

/// Most deliveries at a time, some 4 KiB each: a gateway that hangs must not fill the memory. It is more than the codes
/// that the budget of [`super::budget::Limits`] lets out to phones or to mailboxes while one works, so that one that
/// hangs does not stop the other.
pub const DELIVERIES_MAX: usize = 4096;
/// Pause before the second try; it doubles.
const PAUSE_MS: u64 = 1000;
/// Longest pause. Servers that greylist let a mail in after one to five minutes.
const PAUSE_MS_MAX: u64 = 60_000;

/// How far a message has come, as far as anybody may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// Handed over, or just about to be: there is no sign that it will not arrive.
    Sent,
    /// The mail server or the gateway takes nothing now. It is tried again until the challenge is over.
    Waiting,
}

/// The pauses between the tries of one message: their sum is less than the life of its code.
pub fn pauses() -> impl Iterator<Item = u64> {
    let growing = std::iter::successors(Some(PAUSE_MS), |ms| Some((ms * 2).min(PAUSE_MS_MAX)));
    growing.scan(0, |sum, ms| {
        *sum += ms;
        (*sum < CHALLENGE_MS).then_some(ms)
    })
}

/// A place for one delivery.
pub struct Place(OwnedSemaphorePermit);

/// The deliveries in hand; dropping it ends them.
pub struct Outbox {
    places: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(DELIVERIES_MAX)), tasks: Mutex::new(JoinSet::new()) }
    }
}

impl Outbox {
    /// A place for one delivery, if there is one.
    pub fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(Place)
    }

    /// Delivers while others go on. `tell` hears how far it has come, and whether that is the end. What fails is
    /// written to the log without saying for whom.
    pub fn deliver(
        &self,
        place: Place,
        sender: Arc<dyn Sender>,
        message: Message,
        tell: impl Fn(Progress, bool) + Send + Sync + 'static,
    ) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let Place(_place) = place;
            deliver(&*sender, &message, &tell).await;
            tell(Progress::Sent, true);
        });
    }
}

async fn deliver(sender: &dyn Sender, message: &Message, tell: &(impl Fn(Progress, bool) + Sync)) {
    let mut pauses = pauses();
    loop {
        let Err(error) = sender.deliver(message).await else { return };
        let pause = if error.is_final { None } else { pauses.next() };
        let Some(pause_ms) = pause else {
            tracing::warn!(%error, channel = %message.channel, "a code could not be delivered");
            return;
        };
        tracing::info!(%error, channel = %message.channel, pause_ms, "a code was put off and is tried again");
        tell(Progress::Waiting, false);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_tried_again_with_growing_pauses_for_as_long_as_its_code_works() {
        let pauses: Vec<u64> = pauses().collect();
        assert!(pauses.is_sorted() && pauses[0] == PAUSE_MS && pauses.iter().all(|ms| *ms <= PAUSE_MS_MAX));
        let last: u64 = pauses.iter().sum();
        assert!(last < CHALLENGE_MS && last + PAUSE_MS_MAX >= CHALLENGE_MS, "{last}");
        // Greylisting of five minutes: a try within a minute after that.
        let mut at = 0;
        let tries: Vec<u64> = pauses.iter().map(|ms| (at += ms, at).1).collect();
        assert!(tries.iter().any(|t| (300_000..=360_000).contains(t)), "{tries:?}");
    }
}
