//! Who may be connected: a bounded number of slots, and who gives way when there are too few.
//!
//! A connection **waits** while we wait for its client (for the handshake, for a header, for the rest of a body,
//! for its next request) and is **at work** while the client waits for us. When all slots are taken, a new
//! connection takes the place of one that waits: of the network that has most of those, in it of the site, in that
//! of the host that has most, it is the oldest. The newcomer is counted with its own. So whoever opens many
//! connections pushes out his own, however many addresses he has, and an honest client of another network keeps
//! his.
//!
//! | of all slots | IPv6 | IPv4 |
//! |---|---|---|
//! | a quarter | a /64, a /48 | an address |
//! | a half | a /32 | a /24 |
//!
//! may be taken at once, by whoever is there. Beyond that a newcomer pushes out one of the same prefix.
//!
//! A connection at work is kept if it is the first of its network, or if there is room for a further one: further
//! ones are at most half of all slots, and a network has at most as many of them as are then still free. What is at
//! work beyond that gives way like one that waits, as if it had begun to wait when its request came. So there is a
//! slot for a newcomer, unless as many networks as half of all slots have one at work.
//!
//! Loopback and trusted proxies have no share, and what is at work for them is always kept: behind those everybody
//! comes from there. What waits for them is counted by network like everybody's.
//!
//! What it costs: for a connection that comes or goes, and for a request that begins or ends, some ten steps in
//! sorted tables, each logarithmic in the number of slots; and less than 2 KiB of memory for each connection.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::prefix::Prefix;

/// A host or a site of IPv6 may have this part of all connections: a quarter, so that a relay with many users gets on.
const SHARE_OF_A_HOST: usize = 4;
/// A network may have this part of all connections.
const SHARE_OF_A_NETWORK: usize = 2;
/// Those at work that are kept beside the first of each network are at most this part of all connections.
const FURTHER_PART: usize = 2;

/// The slots of one listener.
#[derive(Debug)]
pub(crate) struct Slots {
    max: usize,
    /// Whether loopback is counted like any other network: for tests, which have no other.
    counts_loopback: bool,
    inner: Mutex<Inner>,
    /// A slot was given back, or its connection waits again.
    freed: Notify,
    displaced: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: HashMap<u64, Open>,
    /// Everybody, and each network, site and host that has a connection.
    groups: HashMap<Group, Members>,
    /// Connections at work that are kept, those of proxies apart.
    kept: usize,
    /// Networks that have such.
    keeping: usize,
}

/// Connections that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Group {
    /// Of loopback or of a trusted proxy. A stranger next door is not counted with those.
    is_proxy: bool,
    level: Level,
    prefix: Prefix,
}

/// From the widest to the narrowest. A /24 of IPv4 is a network, and its only site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Level {
    All,
    Network,
    Site,
    Host,
}

/// The groups of a connection, the widest first.
type Path = [Group; 4];

#[derive(Debug, Default)]
struct Members {
    open: usize,
    /// Of a network: those at work that are kept.
    kept: usize,
    /// Those that may have to give way, by the turn at which they began to wait.
    waiting: BTreeMap<u64, u64>,
    /// The groups in it that have such: the last one gives way.
    parts: BTreeSet<Rank>,
}

/// How many may have to give way, and since when the oldest does: who has most comes last, of equals the oldest.
type Rank = (usize, Reverse<u64>, Group);

#[derive(Debug)]
struct Open {
    path: Path,
    /// The turn at which it began to wait; `None` while it is at work and kept.
    waits_since: Option<u64>,
    close: Arc<Notify>,
}

/// Whether there is room.
enum Room {
    Slot(Slot),
    /// The host, the site or the network has its share, and all of it is at work.
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
    /// So many slots.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self::with(max, false))
    }

    /// The same, where loopback has no privilege.
    #[cfg(test)]
    pub(crate) fn counting_loopback(max: usize) -> Arc<Self> {
        Arc::new(Self::with(max, true))
    }

    fn with(max: usize, counts_loopback: bool) -> Self {
        let (inner, freed, displaced) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Self { max, counts_loopback, inner, freed, displaced }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot for a connection from there, waiting as long as all are at work; `None` if the host, the site or
    /// the network has its share and all of it is at work.
    pub(crate) async fn take(self: &Arc<Self>, address: IpAddr, is_proxy: bool) -> Option<Slot> {
        loop {
            match self.look_for_room(address, is_proxy) {
                Room::Slot(slot) => return Some(slot),
                Room::ShareAtWork => return None,
                Room::AllAtWork => self.freed.notified().await,
            }
        }
    }

    fn look_for_room(self: &Arc<Self>, address: IpAddr, is_proxy: bool) -> Room {
        let address = address.to_canonical();
        let path = path(address, is_proxy || (address.is_loopback() && !self.counts_loopback));
        let mut inner = self.inner();
        let full = path.iter().rev().find(|group| inner.open_of(group) >= self.share(group)).copied();
        // Nobody gives way to somebody who does not come in.
        if let Some(full) = full.filter(|full| inner.oldest_of(full).is_none()) {
            return if full.level == Level::All { Room::AllAtWork } else { Room::ShareAtWork };
        }
        let (id, close) = (inner.turn(), Arc::new(Notify::new()));
        inner.add(id, Open { path, waits_since: Some(id), close: Arc::clone(&close) });
        if let Some(victim) = full.and_then(|full| inner.oldest_of(&full)) {
            self.displace(&mut inner, victim);
        }
        Room::Slot(Slot { turn: Turn { slots: Arc::clone(self), id }, close })
    }

    /// How many connections of a group may be open.
    fn share(&self, group: &Group) -> usize {
        let part = match group.level {
            Level::All => 1,
            _ if group.is_proxy => return usize::MAX,
            Level::Site if group.prefix.first().is_ipv6() => SHARE_OF_A_HOST,
            Level::Network | Level::Site => SHARE_OF_A_NETWORK,
            Level::Host => SHARE_OF_A_HOST,
        };
        (self.max / part).max(1)
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

    /// Connections that may have to give way.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.inner().groups.get(&everybody()).map_or(0, |all| all.waiting.len())
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
    fn turn(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn open_of(&self, group: &Group) -> usize {
        self.groups.get(group).map_or(0, |members| members.open)
    }

    /// Who gives way in a group: in the part that has most, in the part of that, the oldest.
    fn oldest_of(&self, group: &Group) -> Option<u64> {
        let mut members = self.groups.get(group)?;
        while let Some((_, _, part)) = members.parts.last() {
            members = self.groups.get(part)?;
        }
        members.waiting.values().next().copied()
    }

    fn add(&mut self, id: u64, open: Open) {
        for group in open.path {
            self.groups.entry(group).or_default().open += 1;
        }
        if let Some(turn) = open.waits_since {
            self.rank(&open.path, |members| members.waiting.insert(turn, id));
        }
        self.open.insert(id, open);
    }

    fn remove(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.leave(&open);
        for group in open.path {
            let Some(members) = self.groups.get_mut(&group) else { continue };
            members.open -= 1;
            if members.open == 0 {
                self.groups.remove(&group);
            }
        }
        Some(open)
    }

    /// Takes a connection from those that wait, or from those that are kept.
    fn leave(&mut self, open: &Open) {
        match open.waits_since {
            Some(turn) => self.rank(&open.path, |members| members.waiting.remove(&turn)),
            None => self.keep(&open.path, false),
        }
    }

    /// Changes who waits in each group of a path, and the group's rank in the wider one.
    fn rank(&mut self, path: &Path, change: impl Fn(&mut Members) -> Option<u64>) {
        let mut wider: Option<Group> = None;
        for group in path {
            let members = self.groups.entry(*group).or_default();
            let before = members.rank(*group);
            change(members);
            let after = members.rank(*group);
            if let Some(wider) = wider.and_then(|wider| self.groups.get_mut(&wider)) {
                before.map(|rank| wider.parts.remove(&rank));
                after.map(|rank| wider.parts.insert(rank));
            }
            wider = Some(*group);
        }
    }

    /// Whether one more at work is kept.
    fn is_room_to_keep(&self, [_, network, ..]: &Path, max: usize) -> bool {
        let own = self.groups.get(network).map_or(0, |members| members.kept);
        network.is_proxy || own == 0 || self.kept - self.keeping + own <= max / FURTHER_PART
    }

    /// Counts one that is kept, or no longer is.
    fn keep(&mut self, [_, network, ..]: &Path, is_kept: bool) {
        let Some(members) = self.groups.get_mut(network).filter(|_| !network.is_proxy) else { return };
        let had_any = usize::from(members.kept > 0);
        let one = |count: usize| if is_kept { count + 1 } else { count - 1 };
        (members.kept, self.kept) = (one(members.kept), one(self.kept));
        self.keeping = self.keeping + usize::from(members.kept > 0) - had_any;
    }
}

impl Members {
    /// In the wider group; `None` if nobody in it can give way.
    fn rank(&self, own: Group) -> Option<Rank> {
        let (oldest, _) = self.waiting.first_key_value()?;
        Some((self.waiting.len(), Reverse(*oldest), own))
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
        let Some(open) = inner.open.get(&self.id).filter(|open| open.waits_since.is_some()) else { return };
        let is_kept = inner.is_room_to_keep(&open.path, self.slots.max);
        self.begin(inner, !is_kept);
    }

    /// The answer is on its way: we wait for the client, from now on.
    pub(crate) fn waits(&self) {
        self.begin(&mut self.slots.inner(), true);
        self.slots.freed.notify_one();
    }

    /// Begins to wait, at the end of the line, or to be kept.
    fn begin(&self, inner: &mut Inner, waits: bool) {
        let turn = inner.turn();
        let Some(mut open) = inner.open.remove(&self.id) else { return };
        inner.leave(&open);
        open.waits_since = waits.then_some(turn);
        match open.waits_since {
            Some(turn) => inner.rank(&open.path, |members| members.waiting.insert(turn, self.id)),
            None => inner.keep(&open.path, true),
        }
        inner.open.insert(self.id, open);
    }
}

/// The group of all connections.
fn everybody() -> Group {
    Group { is_proxy: false, level: Level::All, prefix: Prefix::of(Ipv4Addr::UNSPECIFIED.into(), 0, 0) }
}

/// The groups of an address.
fn path(address: IpAddr, is_proxy: bool) -> Path {
    let group = |level, prefix| Group { is_proxy, level, prefix };
    [
        everybody(),
        group(Level::Network, Prefix::network(address)),
        group(Level::Site, Prefix::site(address)),
        group(Level::Host, Prefix::host(address)),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    /// A host of a /48 of a /32.
    fn v6(network: u16, site: u16, host: u16) -> IpAddr {
        [0x2001, network, site, host, 0, 0, 0, 1].into()
    }

    fn take(slots: &Arc<Slots>, address: IpAddr) -> Slot {
        match slots.look_for_room(address, false) {
            Room::Slot(slot) => slot,
            Room::ShareAtWork | Room::AllAtWork => panic!("no room for {address}"),
        }
    }

    fn take_at_work(slots: &Arc<Slots>, address: IpAddr) -> Slot {
        let slot = take(slots, address);
        slot.turn().at_work();
        slot
    }

    /// Whether a connection was told to go.
    fn is_told(slot: &Slot) -> bool {
        let told = std::pin::pin!(slot.displaced());
        told.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn whoever_has_waited_longest_gives_way_and_nobody_at_work_does() {
        let slots = Slots::new(3);
        let [a, b, c] = ["127.0.0.1", "127.0.0.1", "127.0.0.1"].map(|from| take(&slots, at(from)));
        a.turn().at_work();
        b.turn().at_work();
        b.turn().waits();
        // b had its answer after c came.
        let d = take(&slots, at("127.0.0.1"));
        assert_eq!([&a, &b, &c, &d].map(is_told), [false, false, true, false]);
        assert_eq!((slots.taken(), slots.displaced()), (3, 1));
        // A slot that was lost is not given back twice, and its last request changes nothing.
        c.turn().waits();
        drop(c);
        assert_eq!(slots.taken(), 3);
        b.turn().at_work();
        d.turn().at_work();
        assert!(matches!(slots.look_for_room(at("127.0.0.1"), false), Room::AllAtWork));
        drop(a);
        drop(take(&slots, at("127.0.0.1")));
        assert_eq!(slots.taken(), 2);
    }

    #[test]
    fn an_address_has_its_share_and_pushes_out_its_own() {
        let slots = Slots::new(8);
        let other = take(&slots, at("192.0.2.9"));
        let [a, b] = ["2001:db8::1", "2001:db8::2"].map(|from| take(&slots, at(from)));
        a.turn().at_work();
        let c = take(&slots, at("2001:db8::3"));
        assert_eq!([&other, &a, &b, &c].map(is_told), [false, false, true, false]);
        c.turn().at_work();
        for neighbour in ["2001:db8::4", "2001:db8:0:1::4"] {
            assert!(matches!(slots.look_for_room(at(neighbour), false), Room::ShareAtWork), "a /48 has no more");
        }
        let _neighbour = take(&slots, at("2001:db8:1::4"));
        drop((a, c));
        let _again = take(&slots, at("2001:db8::4"));
        let _many = [(); 4].map(|()| take(&slots, at("::ffff:127.0.0.1")));
        // 192.0.2.0/24 has a half, an address in it a quarter.
        let slots = Slots::new(8);
        let held: Vec<_> = (0..9).map(|i| take(&slots, [192, 0, 2, i % 3].into())).collect();
        assert_eq!((slots.taken(), held.iter().filter(|slot| is_told(slot)).count()), (4, 5));
    }

    #[test]
    fn who_opens_connections_from_a_whole_network_pushes_out_no_connection_of_another() {
        let slots = Slots::new(256);
        let strangers = [v6(2, 1, 1), v6(3, 1, 1), at("192.0.2.1"), at("198.51.100.1")].map(|from| take(&slots, from));
        // Four networks that come after the strangers, who wait longer and longer.
        let flood = (0..20_000_u32).map(|i| match i % 4 {
            0 => take(&slots, v6(1, (i >> 8) as u16, i as u16)),
            1 => take(&slots, v6(9, 7, i as u16)),
            2 => take(&slots, [203, 0, 113, (i / 4) as u8].into()),
            _ => take(&slots, v6(8, i as u16, 7)),
        });
        let flood: Vec<_> = flood.collect();
        assert_eq!((slots.taken(), slots.displaced()), (256, 20_004 - 256));
        assert!(!strangers.iter().any(is_told));
        assert!(!is_told(flood.last().unwrap()), "nobody gives way for the sake of somebody who is refused");
        // A network with two of them still has less than any of the flood.
        assert!(!is_told(&take(&slots, v6(2, 1, 1))) && !strangers.iter().any(is_told));
    }

    #[test]
    fn no_network_holds_all_slots_at_work_and_a_thousand_networks_leave_one_for_a_newcomer() {
        let slots = Slots::new(4096);
        let one: Vec<_> = (0..4096).map(|i| take_at_work(&slots, v6(1, i, 7))).collect();
        // Alone it is kept with a quarter; the rest of its half gives way to what it opens next.
        assert_eq!((slots.taken(), slots.waiting()), (2048, 2048 - 1025));
        let mut others = vec![];
        for network in 2..1000 {
            others.extend((0..50).map(|i| take_at_work(&slots, v6(network, i, 7))));
            let newcomer = take_at_work(&slots, v6(9999, network, 1));
            assert!(!is_told(&newcomer), "there is a slot for it");
            drop(newcomer);
        }
        assert_eq!(slots.taken(), 4095);
        drop((one, others));
        assert_eq!((slots.taken(), slots.waiting()), (0, 0));
        let inner = slots.inner();
        assert!(inner.groups.is_empty() && (inner.kept, inner.keeping) == (0, 0), "nothing is left behind");
    }

    #[test]
    fn a_stranger_next_to_a_proxy_is_not_counted_with_it() {
        let slots = Slots::new(8);
        let proxied: Vec<_> = (0..8).map(|_| slots.look_for_room(at("10.0.0.1"), true)).collect();
        assert_eq!((slots.taken(), slots.displaced()), (8, 0));
        let strangers = [2, 3].map(|last| take(&slots, [10, 0, 0, last].into()));
        assert_eq!((slots.taken(), slots.displaced()), (8, 2));
        assert!(!strangers.iter().any(is_told));
        for room in &proxied {
            let Room::Slot(slot) = room else { panic!() };
            slot.turn().at_work();
        }
        // All that proxies have is kept.
        drop(strangers);
        let strangers = [2, 3].map(|last| take_at_work(&slots, [10, 0, last, 1].into()));
        assert!(matches!(slots.look_for_room(at("10.0.4.1"), false), Room::AllAtWork));
        drop(strangers);
    }

    /// The rule in so many words, without tables.
    #[derive(Default)]
    struct Naive(Vec<Naively>);

    #[derive(Clone, Debug)]
    struct Naively {
        id: usize,
        address: IpAddr,
        is_proxy: bool,
        turn: usize,
        is_kept: bool,
    }

    impl Naively {
        fn part(&self, level: usize) -> (bool, Option<Prefix>) {
            let of = [None, Some(Prefix::network as fn(_) -> _), Some(Prefix::site), Some(Prefix::host)];
            (level > 0 && self.is_proxy, of[level].map(|of| of(self.address)))
        }
    }

    impl Naive {
        /// Who is pushed out, or nobody, or that there is no room.
        fn open(&mut self, new: Naively, max: usize) -> Result<Option<usize>, &'static str> {
            let of_site = if new.address.is_ipv4() { max / 2 } else { max / 4 };
            let shares = if new.is_proxy { [max, !0, !0, !0] } else { [max, max / 2, of_site, max / 4] };
            let full = (0..4).rev().find(|level| {
                self.0.iter().filter(|c| c.part(*level) == new.part(*level)).count() >= shares[*level].max(1)
            });
            let Some(full) = full else {
                self.0.push(new);
                return Ok(None);
            };
            let mut left: Vec<_> =
                self.0.iter().filter(|c| !c.is_kept && c.part(full) == new.part(full)).cloned().collect();
            if left.is_empty() {
                return Err(if full == 0 { "all at work" } else { "share at work" });
            }
            self.0.push(new.clone());
            left.push(new);
            for level in full + 1..4 {
                let size = |c: &Naively| left.iter().filter(|d| d.part(level) == c.part(level)).count();
                // The one with the oldest of the greatest parts.
                let chosen = left.iter().max_by_key(|c| (size(c), Reverse(c.turn))).unwrap().part(level);
                left.retain(|c| c.part(level) == chosen);
            }
            let victim = left.iter().min_by_key(|c| c.turn).unwrap().id;
            self.0.retain(|c| c.id != victim);
            Ok(Some(victim))
        }

        fn work(&mut self, id: usize, turn: usize, max: usize) {
            let kept: Vec<_> = self.0.iter().filter(|c| c.is_kept && !c.is_proxy).map(|c| c.part(1)).collect();
            let networks: std::collections::HashSet<_> = kept.iter().collect();
            let Some(one) = self.0.iter_mut().find(|c| c.id == id && !c.is_kept) else { return };
            let own = kept.iter().filter(|part| **part == one.part(1)).count();
            one.is_kept = one.is_proxy || own == 0 || kept.len() - networks.len() + own <= max / 2;
            one.turn = turn;
        }

        fn wait(&mut self, id: usize, turn: usize) {
            if let Some(one) = self.0.iter_mut().find(|c| c.id == id) {
                (one.turn, one.is_kept) = (turn, false);
            }
        }
    }

    proptest! {
        #[test]
        fn the_tables_say_what_the_rule_says(
            max in 1..24_usize,
            steps in prop::collection::vec((0..6_u8, 0..5_u16, 0..3_u16, 0..3_u16, 0..40_usize), 1..300),
        ) {
            let (slots, mut naive, mut held) = (Slots::new(max), Naive::default(), BTreeMap::new());
            for (turn, (what, network, site, host, which)) in steps.into_iter().enumerate() {
                let id = held.keys().copied().nth(which).unwrap_or(usize::MAX);
                match what {
                    0..3 => {
                        let address = match network {
                            0 => IpAddr::from([192, 0, site as u8, host as u8]),
                            _ => v6(network, site, host),
                        };
                        let is_proxy = network == 4;
                        let rooms = slots.look_for_room(address, is_proxy);
                        let said = naive.open(Naively { id: turn, address, is_proxy, turn, is_kept: false }, max);
                        let told: Vec<_> = held.iter().filter(|(_, slot)| is_told(slot)).map(|(id, _)| *id).collect();
                        prop_assert_eq!(&told, &said.unwrap_or_default().into_iter().collect::<Vec<_>>());
                        told.iter().for_each(|id| drop(held.remove(id)));
                        prop_assert_eq!(matches!(rooms, Room::AllAtWork), said == Err("all at work"));
                        prop_assert_eq!(matches!(rooms, Room::ShareAtWork), said == Err("share at work"));
                        if let Room::Slot(slot) = rooms {
                            held.insert(turn, slot);
                        }
                    }
                    3 => {
                        held.get(&id).into_iter().for_each(|slot| slot.turn().at_work());
                        naive.work(id, turn, max);
                    }
                    4 => {
                        held.get(&id).into_iter().for_each(|slot| slot.turn().waits());
                        naive.wait(id, turn);
                    }
                    _ => {
                        held.remove(&id);
                        naive.0.retain(|c| c.id != id);
                    }
                }
                prop_assert!(slots.taken() == naive.0.len() && slots.taken() <= max);
                prop_assert_eq!(slots.waiting(), naive.0.iter().filter(|c| !c.is_kept).count());
            }
            drop(held);
            prop_assert!(slots.inner().groups.is_empty());
        }
    }
}
