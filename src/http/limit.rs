//! Plain limits: by address for clients that come by themselves, by domain for an MSP, which has shown who it is.
//!
//! | | who | counted by |
//! |---|---|---|
//! | [`LookupLimit`] | strangers that look up | host, site and network at once |
//! | [`RequestLimit`] | strangers that send anything else | the same, more generously |
//! | [`RelayLimit`] | MSPs that relay look-ups | domain |
//! | [`Places`] | changes and revocations that wait for the log | network: half of the places are for those that have none |
//!
//! They slow a crawler down and are no more than that: an address is cheap. Limits that bind to accounts come with
//! tokens. No site and no hundred networks can shut one of them for others. Places are bounded, so enough networks can:
//! [`Places`] says how many that takes.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use waymark_log::time::UnixMillis;
use waymark_mapping::names::Domain;
use waymark_runtime::{
    budget::{AddressBudget, Budget, Shares},
    prefix::Prefix,
    problem::{self, Problem},
};

/// The window that requests are counted in.
const WINDOW_MS: u64 = 60_000;
/// A site, and an IPv4 address, may look up as often as so many hosts: 960 a minute by default, for a hundred and fifty newcomers who
/// come at once and look up six times each.
const LOOKUPS_OF_A_SITE: u32 = 16;
/// A network may look up as often as so many hosts: a /24 of IPv4, behind which there may be thousands of people, too.
const LOOKUPS_OF_A_NETWORK: u32 = 64;
/// A site may send as many other requests as so many hosts, and a network as many as twice that.
const REQUESTS_OF_A_SITE: u32 = 2;
/// See there. With the default a network has 24,000 a minute: each takes a tenth of a millisecond of a core.
const REQUESTS_OF_A_NETWORK: u32 = 4;
/// Most MSPs that are counted at a time: more than any DP will onboard.
const MSPS_MAX: usize = 100_000;
/// So many MSPs may send all they may from one address.
const MSPS_OF_A_HOST: u32 = 2;
/// All MSPs together may relay as much as so many of them, beyond what is each one's own.
const MSPS_TOGETHER: u32 = 16;
/// This part of what an MSP may relay is its own, whatever the others do.
const OWN_PART: u32 = 16;
/// Most copies of one request that wait at a time: more than a client that tries again has open.
const COPIES_MAX: usize = 4;
/// All further copies together are at most this part of the places: each keeps a connection at work.
pub const COPIES_PART: usize = 4;

/// Counts look-ups by address.
pub struct LookupLimit(AddressBudget);

impl LookupLimit {
    /// So many a minute for each host.
    pub fn new(per_minute: u32) -> Self {
        Self(strangers(per_minute, LOOKUPS_OF_A_SITE, LOOKUPS_OF_A_NETWORK))
    }

    /// Counts a look-up.
    ///
    /// # Errors
    /// Seconds until the next window, if it is one too many.
    pub fn count(&self, address: IpAddr, now: UnixMillis) -> Result<(), u64> {
        self.0.count(address, now)
    }
}

/// Counts by address what strangers send besides look-ups. It comes before everything that a request leaves behind.
pub struct RequestLimit(AddressBudget);

impl RequestLimit {
    /// So many a minute for each host.
    pub fn new(per_minute: u32) -> Self {
        Self(strangers(per_minute, REQUESTS_OF_A_SITE, REQUESTS_OF_A_NETWORK))
    }

    /// The same for requests that claim to be an MSP's, before a signature is checked: as many as
    /// [`MSPS_OF_A_HOST`] MSPs at one address may send.
    pub fn of_claims(requests_per_minute: u32, relays_per_minute: u32) -> Self {
        Self::new(requests_per_minute.saturating_add(relays_per_minute).saturating_mul(MSPS_OF_A_HOST))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// A problem with the seconds until the next window, if it is one too many.
    pub fn count(&self, address: IpAddr, now: UnixMillis) -> Result<(), Problem> {
        self.0.count(address, now).map_err(|wait| {
            Problem::new(problem::TOO_MANY, "Too many requests from this address in a minute.").retry_after(wait)
        })
    }
}

fn strangers(per_minute: u32, site: u32, network: u32) -> AddressBudget {
    let [site, network] = [site, network].map(|hosts| per_minute.saturating_mul(hosts));
    AddressBudget::new(WINDOW_MS, Shares { host: per_minute, site, network })
}

/// Counts the look-ups that MSPs relay.
pub struct RelayLimit {
    each: Budget<Domain>,
    own: Budget<Domain>,
    together: Budget<()>,
}

impl RelayLimit {
    /// So many a minute for each MSP.
    pub fn new(per_minute: u32) -> Self {
        let together = per_minute.saturating_mul(MSPS_TOGETHER);
        let own = per_minute.div_ceil(OWN_PART);
        Self {
            each: Budget::new(WINDOW_MS, per_minute, MSPS_MAX),
            own: Budget::new(WINDOW_MS, own, MSPS_MAX),
            together: Budget::new(WINDOW_MS, together, 1),
        }
    }

    /// Counts a look-up.
    ///
    /// # Errors
    /// Seconds until the next window, if it is one too many.
    pub fn count(&self, msp: &Domain, now: UnixMillis) -> Result<(), u64> {
        self.each.count(msp.clone(), now)?;
        self.own.count(msp.clone(), now).or_else(|_| self.together.count((), now))
    }
}

/// Places for requests in work and for their changes that wait, shared out among the networks that are there. A change
/// keeps its place until it has left the pool, whatever its client does. The first place of each network and all
/// its further ones are counted apart: further ones take up at most half of all places, and a network has at most as many
/// of them as are then still free. So a newcomer finds a place, unless as many networks as half of the places have theirs.
///
/// Copies of one request from one network share a place: they wait for the same thing. All copies beyond the first of
/// each request are shared out among the networks in the same way.
pub struct Places {
    max: usize,
    taken: Mutex<Taken>,
}

/// Of a request's bytes.
type Digest = [u8; 32];
/// The requests of each network that wait, and how many copies of each.
type Taken = HashMap<Prefix, HashMap<Digest, usize>>;

/// A place that is taken. Dropping it gives it back.
pub struct Place {
    places: Arc<Places>,
    network: Prefix,
    digest: Digest,
}

impl Places {
    /// So many.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default() })
    }

    /// Takes a place for a request, if there is one for this address.
    ///
    /// # Errors
    /// A problem: all are taken, or its network has as many as it may, or so many copies wait already.
    pub fn take(self: &Arc<Self>, address: IpAddr, body: &[u8]) -> Result<Place, Problem> {
        let (network, digest) = (Prefix::network(address), *blake3::hash(body).as_bytes());
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let held = taken.get(&network);
        let is_free = match held.and_then(|requests| requests.get(&digest)) {
            Some(copies) => {
                *copies < COPIES_MAX
                    && is_room(
                        taken.values().map(further_copies),
                        held.map_or(0, further_copies),
                        self.max / COPIES_PART,
                    )
            }
            None => is_room(taken.values().map(HashMap::len), held.map_or(0, HashMap::len), self.max),
        };
        if !is_free {
            let what = "As many changes wait as may at a time, from your network or from all. Send yours again later.";
            return Err(Problem::new(problem::BUSY, what));
        }
        *taken.entry(network).or_default().entry(digest).or_default() += 1;
        Ok(Place { places: Arc::clone(self), network, digest })
    }
}

/// Whether one more is left for a network that has `own`, where each network has so many.
fn is_room(each: impl Iterator<Item = usize>, own: usize, max: usize) -> bool {
    let (mut all, mut further) = (0, 0);
    for held in each {
        all += held;
        further += held.saturating_sub(1);
    }
    all < max && (own == 0 || further + own <= max / 2)
}

/// Copies beyond the first of each of a network's requests.
fn further_copies(requests: &HashMap<Digest, usize>) -> usize {
    requests.values().map(|copies| copies - 1).sum()
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(requests) = taken.get_mut(&self.network) else { return };
        if let Some(copies) = requests.get_mut(&self.digest) {
            *copies -= 1;
            if *copies == 0 {
                requests.remove(&self.digest);
            }
        }
        if requests.is_empty() {
            taken.remove(&self.network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host of a /48 of a /32.
    fn v6(network: u16, site: u16, host: u16) -> IpAddr {
        [0x2001, network, site, host, 0, 0, 0, 1].into()
    }

    #[test]
    fn so_many_a_minute_for_each_host_and_what_a_minute_is() {
        let limit = LookupLimit::new(2);
        let at = UnixMillis::new;
        assert_eq!(limit.count(v6(1, 1, 1), at(1000)), Ok(()));
        assert_eq!(limit.count("2001:1:1:1::99".parse().unwrap(), at(1000)), Ok(()));
        assert_eq!(limit.count(v6(1, 1, 1), at(1000)), Err(59));
        assert_eq!(limit.count(v6(1, 1, 2), at(1000)), Ok(()));
        assert_eq!(limit.count(v6(1, 1, 1), at(60_000)), Ok(()));
    }

    #[test]
    fn one_ipv4_address_has_the_share_of_a_site() {
        let now = UnixMillis::new(0);
        let (lookups, requests) = (LookupLimit::new(60), RequestLimit::new(6000));
        let served = |last: u8| {
            let address = IpAddr::from([192, 0, 2, last]);
            let looked = (0..20_000).filter(|_| lookups.count(address, now).is_ok()).count();
            (looked, (0..20_000).filter(|_| requests.count(address, now).is_ok()).count())
        };
        assert_eq!([1, 2, 3].map(served), [(960, 12_000), (960, 12_000), (960, 0)]);
    }

    #[test]
    fn two_hundred_thousand_addresses_shut_nobody_else_out() {
        let now = UnixMillis::new(0);
        let (lookups, requests) = (LookupLimit::new(60), RequestLimit::new(6000));
        let served = |i: u32| {
            let flood = v6(1, 1, i as u16);
            (u32::from(lookups.count(flood, now).is_ok()), u32::from(requests.count(flood, now).is_ok()))
        };
        let served = (0..200_000).map(served).fold((0, 0), |(a, b), (x, y)| (a + x, b + y));
        assert_eq!(served, (960, 12_000));
        for stranger in [v6(1, 2, 1), v6(2, 1, 1), IpAddr::from([192, 0, 2, 1])] {
            assert!((0..60).all(|_| lookups.count(stranger, now).is_ok()), "{stranger}");
            assert!((0..6000).all(|_| requests.count(stranger, now).is_ok()), "{stranger}");
        }
    }

    #[test]
    fn msps_that_relay_all_they_may_keep_no_other_out() {
        let limit = RelayLimit::new(32);
        let served = |i: u32| {
            let msp = Domain::parse(&format!("m{i}.example")).unwrap();
            (0..33).filter(|_| limit.count(&msp, UnixMillis::new(0)).is_ok()).count()
        };
        // Two of its own for each; sixteen times 32 for all together.
        assert_eq!((0..17).map(served).collect::<Vec<_>>(), vec![32; 17]);
        assert_eq!((17..1000).map(served).sum::<usize>(), 2 * 983 + 2);
        assert_eq!(served(1000), 2);
    }

    /// The network's places that it gets, each for a request of its own.
    fn fill(places: &Arc<Places>, network: u16) -> Vec<Place> {
        let next = |i: u16| places.take(v6(network, i, 7), &i.to_be_bytes()).ok();
        (0..u16::MAX).map_while(next).collect()
    }

    #[test]
    fn places_are_left_for_one_more_though_a_thousand_networks_hold_all_they_get() {
        let places = Places::new(2048);
        let first = fill(&places, 0);
        assert_eq!(first.len(), 513);
        let fill_and_come = |network| (fill(&places, network), places.take(v6(9999, 1, 1), b"").is_ok());
        let others: Vec<_> = (1..1000).map(fill_and_come).collect();
        assert!(others.iter().all(|(taken, newcomer)| !taken.is_empty() && *newcomer));
        // What it takes to shut the door: half as many networks as there are places.
        let more: Vec<_> = (1000..2000).map(|network| fill(&places, network)).collect();
        assert_eq!(more.iter().filter(|taken| !taken.is_empty()).count(), 24);
        drop((first, others, more));
        assert_eq!(fill(&places, 50).len(), 513, "what is given back is free");
    }

    #[test]
    fn copies_of_one_request_share_a_place() {
        let places = Places::new(32);
        let copies: Vec<_> = (0..COPIES_MAX).map(|i| places.take(v6(1, i as u16, 1), b"one").unwrap()).collect();
        assert_eq!(places.take(v6(1, 1, 1), b"one").err().map(|p| p.kind()), Some(problem::BUSY), "a copy too many");
        let others = fill(&places, 1);
        assert_eq!(others.len(), 8, "beside the one of the copies");
        // Somebody else's copy is a request of theirs: nobody can take its place in advance.
        let theirs = [(); 3].map(|()| places.take(v6(2, 1, 1), b"one").unwrap());
        drop((copies, others, theirs));
        assert!(places.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn copies_from_one_network_keep_no_other_from_trying_again() {
        let places = Places::new(2048);
        let taken = |i: u16| (0..COPIES_MAX).filter_map(|_| places.take(v6(1, i, 7), &i.to_be_bytes()).ok()).collect();
        let flood: Vec<Vec<_>> = (0..1000).map(taken).collect();
        assert_eq!(flood.iter().map(|copies| copies.len().saturating_sub(1)).sum::<usize>(), 129);
        for network in 2..100 {
            let _first = places.take(v6(network, 1, 1), b"").unwrap();
            assert!(places.take(v6(network, 1, 1), b"").is_ok(), "it is sent again over a new connection");
        }
    }
}
