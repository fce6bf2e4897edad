//! Codes on their way to other machines: nobody who asked for one waits for its delivery, and there is a bound on how many.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use super::sender::{Message, Sender};

/// Most deliveries at a time, some 4 KiB each: a gateway that hangs must not fill the memory.
pub const DELIVERIES_MAX: usize = 1024;

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

    /// Delivers while others go on. What fails is written to the log without saying for whom.
    pub fn deliver(&self, place: Place, sender: Arc<dyn Sender>, message: Message) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let Place(_place) = place;
            if let Err(error) = sender.deliver(&message).await {
                tracing::warn!(%error, channel = %message.channel, "a code could not be delivered");
            }
        });
    }
}
