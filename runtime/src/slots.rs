//! Who may be connected: a bounded number of slots, and who gives way when there are too few.
//!
//! A connection **waits** while we wait for its client (for the handshake, for a header, for the rest of a body, for its next
//! request) and is **at work** while the client waits for us. When all slots are taken, a new connection takes the place of
//! the one that has waited longest. So whoever opens connections to let them lie pushes out his own, and an honest client,
//! who sends his request at once, keeps his. A connection at work is never pushed out.
//!
//! One address (an IPv6 /64) may have a share of all slots and then pushes out its own. Loopback and
//! trusted proxies have no share: behind those everybody comes from there.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

/// The slots of one listener.
#[derive(Debug)]
pub(crate) struct Slots {
    max: usize,
    share_max: usize,
    inner: Mutex<Inner>,
    /// A slot was given back, or its connection waits again.
    freed: Notify,
    displaced: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: HashMap<u64, Open>,
    /// Those that wait, by the turn at which they began to.
    waiting: BTreeMap<u64, u64>,
    shares: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Open {
    /// `None` for loopback and for trusted proxies.
    network: Option<IpAddr>,
    /// The turn at which it began to wait; `None` while it is at work.
    waits_since: Option<u64>,
    close: Arc<Notify>,
}

/// Whether there is room.
enum Room {
    Slot(Slot),
    /// The address has its share, and all of it is at work.
    ShareAtWork,
    /// All are at work.
    AllAtWork,
}

/// A taken slot. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Slot {
    turn: Turn,
    close: Arc<Notify>,
}

/// A request's handle on its connection's slot.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    slots: Arc<Slots>,
    id: u64,
}

impl Slots {
    /// `max` slots, of which one address may have `share_max`.
    pub(crate) fn new(max: usize, share_max: usize) -> Arc<Self> {
        let (inner, freed, displaced) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Arc::new(Self { max, share_max, inner, freed, displaced })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot, waiting as long as all are at work; `None` if the address has its share and all of it is at work. Without an
    /// address there is no share.
    pub(crate) async fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Slot> {
        loop {
            match self.look_for_room(address) {
                Room::Slot(slot) => return Some(slot),
                Room::ShareAtWork => return None,
                Room::AllAtWork => self.freed.notified().await,
            }
        }
    }

    fn look_for_room(self: &Arc<Self>, address: Option<IpAddr>) -> Room {
        let network = address.and_then(network);
        let mut inner = self.inner();
        let share = network.map_or(0, |n| inner.shares.get(&n).copied().unwrap_or(0));
        if share >= self.share_max {
            let of_network = |id: &u64| inner.open.get(id).is_some_and(|o| o.network == network);
            let Some(oldest) = inner.waiting.values().copied().find(of_network) else { return Room::ShareAtWork };
            self.displace(&mut inner, oldest);
        } else if inner.open.len() >= self.max {
            let Some(oldest) = inner.waiting.values().next().copied() else { return Room::AllAtWork };
            self.displace(&mut inner, oldest);
        }
        let (id, close) = (inner.next, Arc::new(Notify::new()));
        inner.next += 1;
        inner.waiting.insert(id, id);
        inner.open.insert(id, Open { network, waits_since: Some(id), close: Arc::clone(&close) });
        if let Some(network) = network {
            *inner.shares.entry(network).or_default() += 1;
        }
        Room::Slot(Slot { turn: Turn { slots: Arc::clone(self), id }, close })
    }

    fn displace(&self, inner: &mut Inner, id: u64) {
        if let Some(open) = inner.remove(id) {
            self.displaced.fetch_add(1, Ordering::Relaxed);
            open.close.notify_one();
        }
    }

    /// Connections that have a slot.
    pub(crate) fn taken(&self) -> usize {
        self.inner().open.len()
    }

    /// Connections that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.inner().waiting.len()
    }

    /// Connections that had to give way so far.
    pub(crate) fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    /// Waits until every slot was given back, for so long at most.
    pub(crate) async fn drained(&self, longest: Duration) {
        let all = async {
            while self.taken() > 0 {
                self.freed.notified().await;
            }
        };
        let _ = tokio::time::timeout(longest, all).await;
    }
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        if let Some(since) = open.waits_since {
            self.waiting.remove(&since);
        }
        if let Some(network) = open.network
            && let Some(count) = self.shares.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                self.shares.remove(&network);
            }
        }
        Some(open)
    }
}

impl Slot {
    /// For the connection's requests.
    pub(crate) fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// Ends when this connection has to give way.
    pub(crate) async fn displaced(&self) {
        self.close.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.turn.slots.inner().remove(self.turn.id);
        self.turn.slots.freed.notify_one();
    }
}

impl Turn {
    /// The request is here as a whole: the client waits for us.
    pub(crate) fn at_work(&self) {
        let inner = &mut *self.slots.inner();
        if let Some(since) = inner.open.get_mut(&self.id).and_then(|o| o.waits_since.take()) {
            inner.waiting.remove(&since);
        }
    }

    /// The answer is on its way: we wait for the client, from now on.
    pub(crate) fn waits(&self) {
        {
            let inner = &mut *self.slots.inner();
            let Some(open) = inner.open.get_mut(&self.id) else { return };
            let turn = inner.next;
            inner.next += 1;
            if let Some(since) = open.waits_since.replace(turn) {
                inner.waiting.remove(&since);
            }
            inner.waiting.insert(turn, self.id);
        }
        self.slots.freed.notify_one();
    }
}

/// Whose connection it is: an IPv6 host has its /64 to itself. `None` for loopback.
fn network(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V4(v4) => Some(v4.into()),
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            Some(IpAddr::V6(octets.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    fn take(slots: &Arc<Slots>, address: &str) -> Slot {
        match slots.look_for_room(at(address)) {
            Room::Slot(slot) => slot,
            Room::ShareAtWork | Room::AllAtWork => panic!("no room"),
        }
    }

    /// Whether a connection was told to go.
    fn is_told(slot: &Slot) -> bool {
        let told = std::pin::pin!(slot.displaced());
        told.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn whoever_has_waited_longest_gives_way_and_nobody_at_work_does() {
        let slots = Slots::new(3, 3);
        let [a, b, c] = ["127.0.0.1", "127.0.0.1", "::1"].map(|from| take(&slots, from));
        a.turn().at_work();
        b.turn().at_work();
        b.turn().waits();
        // b had its answer after c came.
        let d = take(&slots, "127.0.0.1");
        assert_eq!([&a, &b, &c, &d].map(is_told), [false, false, true, false]);
        assert_eq!((slots.taken(), slots.displaced()), (3, 1));
        // A slot that was lost is not given back twice, and its last request changes nothing.
        c.turn().waits();
        drop(c);
        assert_eq!(slots.taken(), 3);
        b.turn().at_work();
        d.turn().at_work();
        assert!(matches!(slots.look_for_room(at("127.0.0.1")), Room::AllAtWork));
        drop(a);
        drop(take(&slots, "127.0.0.1"));
        assert_eq!(slots.taken(), 2);
    }

    #[test]
    fn an_address_has_its_share_and_pushes_out_its_own() {
        let slots = Slots::new(10, 2);
        let other = take(&slots, "192.0.2.9");
        let [a, b] = ["2001:db8::1", "2001:db8::2"].map(|from| take(&slots, from));
        a.turn().at_work();
        let c = take(&slots, "2001:db8::3");
        assert_eq!([&other, &a, &b, &c].map(is_told), [false, false, true, false]);
        c.turn().at_work();
        assert!(matches!(slots.look_for_room(at("2001:db8::4")), Room::ShareAtWork));
        let _neighbour = take(&slots, "2001:db8:0:1::4");
        drop((a, c));
        let _again = take(&slots, "2001:db8::4");
        let _many = [(); 5].map(|()| take(&slots, "::ffff:127.0.0.1"));
    }
}
