//! Plain limits: by address for whoever comes by itself, by domain for an MSP, which has shown who it is.
//!
//! | | who | counted by |
//! |---|---|---|
//! | [`LookupLimit`] | strangers that look up | host, site and network at once |
//! | [`RequestLimit`] | strangers that send anything else | the same, more generously |
//! | [`RelayLimit`] | MSPs that relay look-ups | domain |
//! | [`Places`] | changes that wait for the log | network: whoever has fewest places gets the next |
//!
//! They slow a crawler down and are no more than that: an address is cheap. Limits that bind to accounts come with tokens. None of them
//! has a state in which all who come are refused.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
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
/// A site may look up as often as so many hosts.
const LOOKUPS_OF_A_SITE: u32 = 16;
/// A network may look up as often as so many hosts: a /24 of IPv4, behind which there may be thousands of people, too.
const LOOKUPS_OF_A_NETWORK: u32 = 64;
/// A site may send as many other requests as so many hosts, and a network as many as twice that.
const REQUESTS_OF_A_SITE: u32 = 2;
/// See there. With the default a network has 24,000 a minute: each takes a tenth of a millisecond of a core.
const REQUESTS_OF_A_NETWORK: u32 = 4;
/// Most MSPs that are counted at a time: more than any DP will onboard.
const MSPS_MAX: usize = 100_000;
/// All MSPs together may relay as much as so many of them, beyond what is each one's own.
const MSPS_TOGETHER: u32 = 16;
/// This part of what an MSP may relay is its own, whatever the others do.
const OWN_PART: u32 = 16;

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

/// Places for requests that wait, shared out among the networks that are there: one has at most as many as are still free, so
/// that any number of them leaves room for one more.
pub struct Places {
    max: usize,
    taken: Mutex<HashMap<Prefix, usize>>,
}

/// A place that is taken. Dropping it gives it back.
pub struct Place<'a> {
    places: &'a Places,
    network: Prefix,
}

impl Places {
    /// So many.
    pub fn new(max: usize) -> Self {
        Self { max, taken: Mutex::default() }
    }

    /// Takes a place, if there is one for this address.
    ///
    /// # Errors
    /// A problem: all are taken, or its network has as many as are left.
    pub fn take(&self, address: IpAddr) -> Result<Place<'_>, Problem> {
        let network = Prefix::network(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.max.saturating_sub(taken.values().sum());
        if taken.get(&network).copied().unwrap_or(0) >= free {
            return Err(Problem::new(problem::BUSY, "Try again in a moment.").retry_after(1));
        }
        *taken.entry(network).or_default() += 1;
        Ok(Place { places: self, network })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.network);
            }
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

    #[test]
    fn places_are_left_for_one_more_whoever_takes_them() {
        let places = Places::new(2048);
        let fill = |network: u16| {
            let mut taken: Vec<Place<'_>> = vec![];
            while let Ok(place) = places.take(v6(network, taken.len() as u16, 7)) {
                taken.push(place);
            }
            taken
        };
        let first = fill(0);
        assert_eq!(first.len(), 1024);
        let others: Vec<_> = (1..9).map(|network| (fill(network), places.take(v6(99, 1, 1)).is_ok())).collect();
        assert!(others.iter().all(|(taken, stranger)| !taken.is_empty() && *stranger));
        drop((first, others));
        assert_eq!(fill(50).len(), 1024, "what is given back is free");
    }
}
