//! How often somebody may do something in a fixed window of time.
//!
//! [`Budget`] counts clients that have shown who they are. [`AddressBudget`] counts strangers, who have nothing but an
//! address, and addresses cost nothing: one customer of a hosting company has 65,536 times an IPv6 /64. So a request
//! counts for its host, its site and its network at once, and no number of addresses keeps somebody out who has another
//! network. [`StayingBudget`] counts what stays when its sender has gone.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash},
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use waymark_log::time::{DAY_MS, UnixMillis};

use crate::prefix::Prefix;

/// Counts by key, from zero again in each window. Windows begin at whole multiples of their length since 1970.
#[derive(Debug)]
pub struct Budget<K> {
    window_ms: u64,
    max: u32,
    keys_max: usize,
    counts: Mutex<(u64, HashMap<K, u32>)>,
}

impl<K: Eq + Hash> Budget<K> {
    /// At most `max` in each window for each key; at most `keys_max` keys are counted, and beyond those nobody is served.
    pub fn new(window_ms: u64, max: u32, keys_max: usize) -> Self {
        Self { window_ms, max, keys_max, counts: Mutex::new((0, HashMap::new())) }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// Seconds until the next window, if it is one too many.
    pub fn count(&self, key: K, now: UnixMillis) -> Result<(), u64> {
        let window = now.get() / self.window_ms;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.0 != window {
            *counts = (window, HashMap::new());
        }
        let wait = (self.window_ms - now.get() % self.window_ms).div_ceil(1000);
        let full = counts.1.len() >= self.keys_max;
        match counts.1.get_mut(&key) {
            Some(count) if *count >= self.max => Err(wait),
            Some(count) => {
                *count += 1;
                Ok(())
            }
            None if full || self.max == 0 => Err(wait),
            None => {
                counts.1.insert(key, 1);
                Ok(())
            }
        }
    }
}

/// Most hosts that an [`AddressBudget`] counts in a window: 25 bytes each, with the gaps of the table 6.5 MB.
pub const HOSTS_MAX: usize = 200_000;
/// Most sites: 25 bytes each, 3.3 MB.
pub const SITES_MAX: usize = 100_000;
/// Most networks: 25 bytes each, 3.3 MB. A flood that fills it comes from a hundred thousand networks.
pub const NETWORKS_MAX: usize = 100_000;
/// How many counters the networks share that found no place: 4 bytes each, 256 KiB.
const SHARED_COUNTERS: usize = 65_536;

/// How often in a window one address may come, together with its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Each IPv6 /64: one line, one household.
    pub host: u32,
    /// Each IPv6 /48, and each IPv4 address: behind one there may be some thousand people (carrier-grade NAT), as many as
    /// behind a /48. It gives no attacker more than he has, since a /48 costs less than an IPv4 address.
    pub site: u32,
    /// Each IPv6 /32, each IPv4 /24.
    pub network: u32,
}

/// Counts strangers by address, from zero again in each window. Windows begin at whole multiples of their length since
/// 1970.
///
/// The widest prefix is judged first, and what is refused is not stored: a flood from one network takes as many places
/// as its network may come, whatever addresses it uses. A host or a site that finds its table full is judged by the
/// wider prefixes alone. A network that finds no place shares a counter with others, drawn anew in each window: who
/// exhausts one of those keeps one network in 65,536 out for a window, and cannot choose which.
#[derive(Debug)]
pub struct AddressBudget {
    window_ms: u64,
    shares: Shares,
    /// How many hosts, sites and networks are counted.
    room: [usize; 3],
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    window: u64,
    hosts: HashMap<Prefix, u32>,
    sites: HashMap<Prefix, u32>,
    networks: HashMap<Prefix, u32>,
    /// Empty until a network finds no place.
    shared: Vec<u32>,
}

impl AddressBudget {
    /// At most so many in each window.
    pub fn new(window_ms: u64, shares: Shares) -> Self {
        Self::with_room(window_ms, shares, [HOSTS_MAX, SITES_MAX, NETWORKS_MAX])
    }

    fn with_room(window_ms: u64, shares: Shares, room: [usize; 3]) -> Self {
        Self { window_ms, shares, room, counts: Mutex::default() }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// Seconds until the next window, if it is one too many for the network, the site or the host. It is then not
    /// counted.
    pub fn count(&self, address: IpAddr, now: UnixMillis) -> Result<(), u64> {
        let window = now.get() / self.window_ms;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.window != window {
            *counts = Counts { window, ..Counts::default() };
        }
        let wait = (self.window_ms - now.get() % self.window_ms).div_ceil(1000);
        counts.add(address, self.shares, self.room).ok_or(wait)
    }
}

impl Counts {
    /// Adds one to everything that the address is part of, or nothing if one of those is at its end.
    fn add(&mut self, address: IpAddr, shares: Shares, [hosts, sites, networks]: [usize; 3]) -> Option<()> {
        let network = Prefix::network(address);
        // A /24 of IPv4 is a site and a network; it has a network's share.
        let site = Some(Prefix::site(address)).filter(|site| *site != network);
        let counted = match place(&mut self.networks, network, networks) {
            Some(counted) => counted,
            None => {
                self.shared.resize(SHARED_COUNTERS, 0);
                let drawn = self.networks.hasher().hash_one(network) % SHARED_COUNTERS as u64;
                self.shared.get_mut(usize::try_from(drawn).unwrap_or(0))?
            }
        };
        if *counted >= shares.network {
            return None;
        }
        let of_site = site.and_then(|site| place(&mut self.sites, site, sites));
        if of_site.as_ref().is_some_and(|count| **count >= shares.site) {
            return None;
        }
        let of_host = place(&mut self.hosts, Prefix::host(address), hosts);
        let share = if address.to_canonical().is_ipv4() { shares.site } else { shares.host };
        if of_host.as_ref().is_some_and(|count| **count >= share) {
            return None;
        }
        for count in [Some(counted), of_site, of_host].into_iter().flatten() {
            *count += 1;
        }
        Some(())
    }
}

/// How much that stays may come from one address and its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StayingShares {
    /// In a UTC day: a crowd that comes at once is let in.
    pub day: Shares,
    /// In thirty days: nobody takes the share of a day again every day, until the room is full.
    pub month: Shares,
}

/// The longer window of [`StayingShares`].
pub const MONTH_MS: u64 = 30 * DAY_MS;

/// Counts by address what strangers leave behind, in a day and in thirty days. It is kept in memory alone, since addresses are
/// not written down: a restart begins both windows anew.
#[derive(Debug)]
pub struct StayingBudget {
    day: AddressBudget,
    month: AddressBudget,
}

impl StayingBudget {
    /// At most so much.
    pub fn new(shares: StayingShares) -> Self {
        Self { day: AddressBudget::new(DAY_MS, shares.day), month: AddressBudget::new(MONTH_MS, shares.month) }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// Seconds until the next day, or until the next thirty days, if it is one too many.
    pub fn count(&self, address: IpAddr, now: UnixMillis) -> Result<(), u64> {
        // The day comes first: who is refused today must not use up the month by asking again.
        self.day.count(address, now)?;
        self.month.count(address, now)
    }
}

/// The counter of a prefix, if it has one or there is room for one.
fn place(counts: &mut HashMap<Prefix, u32>, prefix: Prefix, room: usize) -> Option<&mut u32> {
    if counts.len() >= room { counts.get_mut(&prefix) } else { Some(counts.entry(prefix).or_insert(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_window_for_each_key() {
        let budget = Budget::new(60_000, 2, 2);
        let at = UnixMillis::new;
        assert_eq!(budget.count("a", at(1000)), Ok(()));
        assert_eq!(budget.count("a", at(2000)), Ok(()));
        assert_eq!(budget.count("a", at(3000)), Err(57));
        assert_eq!(budget.count("b", at(3000)), Ok(()));
        assert_eq!(budget.count("c", at(3000)), Err(57), "no room for a third key");
        assert_eq!(budget.count("a", at(60_000)), Ok(()));
        assert_eq!(Budget::new(60_000, 0, 2).count("a", at(0)), Err(60));
    }

    const MINUTE_MS: u64 = 60_000;
    const SHARES: Shares = Shares { host: 60, site: 960, network: 3840 };

    /// The `i`th /64 of a /48, the /48 of a /32, and the /32.
    fn v6(network: u32, site: u16, host: u16) -> IpAddr {
        let bits = u128::from(network) << 96 | u128::from(site) << 80 | u128::from(host) << 64 | 1;
        std::net::Ipv6Addr::from_bits(bits).into()
    }

    fn at_zero(budget: &AddressBudget, address: IpAddr) -> bool {
        budget.count(address, UnixMillis::new(0)).is_ok()
    }

    #[test]
    fn a_host_its_site_and_its_network_are_counted_at_once() {
        let budget = AddressBudget::new(MINUTE_MS, Shares { host: 2, site: 3, network: 5 });
        let at = UnixMillis::new;
        let served = |address, times: u32| (0..times).filter(|_| budget.count(address, at(1000)).is_ok()).count();
        assert_eq!(served(v6(1, 1, 1), 9), 2);
        assert_eq!(budget.count(v6(1, 1, 1), at(1000)), Err(59), "the time until it is served again");
        assert_eq!(served(v6(1, 1, 2), 9), 1, "the site has had its share");
        assert_eq!(served(v6(1, 2, 1), 9), 2, "the network has had its share");
        assert_eq!(served(v6(1, 3, 1), 9), 0);
        assert_eq!(served(v6(2, 1, 1), 9), 2, "another network");
        assert_eq!(budget.count(v6(1, 1, 1), at(60_000)), Ok(()));
        let v4 = |last: u8| IpAddr::from([192, 0, 2, last]);
        // An IPv4 address has a site's share, and a /24 a network's.
        assert_eq!((served(v4(1), 9), served(v4(2), 9), served(v4(3), 9)), (3, 2, 0));
        assert_eq!(served("::ffff:192.0.2.4".parse().unwrap(), 1), 0, "an IPv4 address, however it is written");
    }

    #[test]
    fn two_hundred_thousand_addresses_of_one_site_shut_nobody_else_out() {
        let budget = AddressBudget::new(MINUTE_MS, SHARES);
        let flood = (0..200_000_u32).filter(|i| {
            let address = v6(0x2001_0db8, 1, *i as u16);
            at_zero(&budget, address)
        });
        assert_eq!(flood.count(), 960);
        let counts = budget.counts.lock().unwrap();
        assert_eq!((counts.hosts.len(), counts.sites.len(), counts.networks.len()), (960, 1, 1));
        drop(counts);
        for (stranger, share) in
            [(v6(0x2001_0db9, 1, 1), 60), (v6(0x2001_0db8, 2, 1), 60), (IpAddr::from([192, 0, 2, 1]), 960)]
        {
            assert_eq!((0..999).filter(|_| at_zero(&budget, stranger)).count(), share, "{stranger}");
        }
    }

    #[test]
    fn two_hundred_thousand_ipv4_addresses_shut_no_other_network_out() {
        let budget = AddressBudget::new(MINUTE_MS, SHARES);
        // As seen: 127.16.0.0/12, one request each. Here every network is within its share, and the hosts' table
        // becomes full.
        assert_eq!(
            (0..210_000_u32).filter(|i| at_zero(&budget, (0x7f10_0000 + i).to_be_bytes().into())).count(),
            210_000
        );
        assert_eq!(budget.counts.lock().unwrap().hosts.len(), HOSTS_MAX);
        for stranger in [IpAddr::from([192, 0, 2, 1]), v6(0x2001_0db8, 1, 1)] {
            assert!((0..60).all(|_| at_zero(&budget, stranger)), "{stranger}");
        }
    }

    #[test]
    fn who_takes_the_share_of_every_day_is_stopped_by_that_of_the_month() {
        let same = |n| Shares { host: n, site: n, network: n };
        let budget = StayingBudget::new(StayingShares { day: same(3), month: same(7) });
        let on = |day: u64| UnixMillis::new(day * DAY_MS + 1);
        let address = IpAddr::from([192, 0, 2, 1]);
        let served = |day| (0..9).filter(|_| budget.count(address, on(day)).is_ok()).count();
        // What is refused for the day does not count for the month.
        assert_eq!([0, 1, 2, 3, 29, 30].map(served), [3, 3, 1, 0, 0, 3]);
        assert_eq!(budget.count(address, on(30)), Err(DAY_MS / 1000), "the time until it is served again");
        assert_eq!([31, 32].map(served), [3, 1]);
        assert_eq!(budget.count(address, on(33)), Err(27 * DAY_MS / 1000), "the time until it is served again");
    }

    #[test]
    fn a_thousand_networks_fill_every_table_and_a_stranger_gets_in() {
        let budget = AddressBudget::new(MINUTE_MS, SHARES);
        // 999 sites in as many networks, each as often as it may, from as many hosts as that.
        for network in 0..999 {
            assert_eq!((0..1000).filter(|host| at_zero(&budget, v6(network, 7, *host))).count(), 960);
        }
        assert_eq!(budget.counts.lock().unwrap().hosts.len(), HOSTS_MAX);
        for stranger in [v6(1000, 7, 1), v6(5, 8, 1), IpAddr::from([192, 0, 2, 1])] {
            assert!((0..60).all(|_| at_zero(&budget, stranger)), "{stranger}");
        }
    }

    #[test]
    fn one_network_without_a_place_does_not_exhaust_what_the_others_share() {
        let budget = AddressBudget::with_room(MINUTE_MS, SHARES, [4, 4, 4]);
        (0..4).for_each(|network| assert!(at_zero(&budget, v6(network, 1, 1))));
        let flood = (0..200_000_u32).filter(|i| at_zero(&budget, v6(99, (i / 1000) as u16, *i as u16)));
        assert_eq!(flood.count(), 3840, "a network without a place has its share, and no more");
        // Of 1,000 strangers without a place one in 65,536 has drawn the same counter.
        assert!((1000..2000).filter(|network| at_zero(&budget, v6(*network, 1, 1))).count() >= 999);
        assert!(at_zero(&budget, v6(3, 1, 1)), "who has a place keeps it");
    }

    proptest::proptest! {
        #[test]
        fn nobody_has_more_than_a_share_and_nobody_new_is_refused(
            asked in proptest::collection::vec((0..4_u32, 0..4_u16, 0..4_u16), 1..400),
            rooms in proptest::array::uniform3(0..12_usize),
        ) {
            let shares = Shares { host: 3, site: 7, network: 15 };
            let budget = AddressBudget::with_room(MINUTE_MS, shares, rooms);
            let mut served = HashMap::<(u32, Option<u16>, Option<u16>), u32>::new();
            for (network, site, host) in asked {
                let of = |key| *served.get(&key).unwrap_or(&0);
                let keys = [(network, Some(site), Some(host)), (network, Some(site), None), (network, None, None)];
                let before = keys.map(of);
                let taken = at_zero(&budget, v6(network, site, host));
                // The tables of the test are full soon; a full one only ever gives more, up to the share of the next.
                proptest::prop_assert!(!taken || before[2] < shares.network);
                proptest::prop_assert!(taken || before[0] >= 3 || before[1] >= 7 || before[2] >= 15 || rooms[2] < 4);
                keys.into_iter().filter(|_| taken).for_each(|key| *served.entry(key).or_default() += 1);
                let counts = budget.counts.lock().unwrap();
                let held = [counts.hosts.len(), counts.sites.len(), counts.networks.len()];
                proptest::prop_assert!(held.iter().zip(rooms).all(|(held, room)| *held <= room));
            }
        }
    }
}
