//! Plain limits on look-ups: by address for whoever comes by itself, by domain for an MSP that relays its users'.
//!
//! They slow a crawler down and are no more than that: an address is cheap. Limits that bind to accounts come with tokens.

use std::net::IpAddr;

use waymark_log::time::UnixMillis;
use waymark_mapping::names::Domain;
use waymark_runtime::budget::Budget;

/// The window that look-ups are counted in.
const WINDOW_MS: u64 = 60_000;
/// Most addresses that are counted at a time, some 40 bytes each.
const ADDRESSES_MAX: usize = 200_000;
/// Most MSPs that are counted at a time: more than any DP will onboard.
const MSPS_MAX: usize = 100_000;
/// All MSPs together may relay as much as so many of them: a thousand made-up MSPs get no further than sixteen.
const MSPS_TOGETHER: u32 = 16;

/// Where there is no room for more addresses, a wider network may look up as often as so many addresses.
const ADDRESSES_OF_A_WIDER_NETWORK: u32 = 64;

/// Counts look-ups by address. A client with enough addresses to take all places does not keep others out: those who come then are counted
/// with their neighbours.
pub struct LookupLimit {
    each: Budget<IpAddr>,
    wider: Budget<IpAddr>,
}

impl LookupLimit {
    /// So many a minute for each address.
    pub fn new(per_minute: u32) -> Self {
        Self::with_room(per_minute, ADDRESSES_MAX)
    }

    fn with_room(per_minute: u32, addresses_max: usize) -> Self {
        let together = per_minute.saturating_mul(ADDRESSES_OF_A_WIDER_NETWORK);
        let each = Budget::new(WINDOW_MS, per_minute, addresses_max);
        Self { each, wider: Budget::new(WINDOW_MS, together, ADDRESSES_MAX) }
    }

    /// Counts a look-up.
    ///
    /// # Errors
    /// Seconds until the next window, if it is one too many.
    pub fn count(&self, address: IpAddr, now: UnixMillis) -> Result<(), u64> {
        let network = network(address);
        if self.each.has_room_for(&network, now) {
            self.each.count(network, now)
        } else {
            self.wider.count(wider(network), now)
        }
    }
}

/// Counts the look-ups that MSPs relay.
pub struct RelayLimit {
    each: Budget<Domain>,
    together: Budget<()>,
}

impl RelayLimit {
    /// So many a minute for each MSP.
    pub fn new(per_minute: u32) -> Self {
        let together = per_minute.saturating_mul(MSPS_TOGETHER);
        Self { each: Budget::new(WINDOW_MS, per_minute, MSPS_MAX), together: Budget::new(WINDOW_MS, together, 1) }
    }

    /// Counts a look-up.
    ///
    /// # Errors
    /// Seconds until the next window, if it is one too many.
    pub fn count(&self, msp: Domain, now: UnixMillis) -> Result<(), u64> {
        self.each.count(msp, now).and_then(|()| self.together.count((), now))
    }
}

/// An IPv6 host has its /64 to itself. An IPv4 address that a listener for both shows as an IPv6 one is an IPv4 address.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            IpAddr::V6(octets.into())
        }
    }
}

/// The first 16 bits of an IPv4 address, the first 32 of an IPv6 one: what a registry gives to one provider of connections, or less.
fn wider(network: IpAddr) -> IpAddr {
    match network {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            [a, b, 0, 0].into()
        }
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[4..].fill(0);
            octets.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_minute_for_each_network() {
        let limit = LookupLimit::new(2);
        let at = UnixMillis::new;
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let same: IpAddr = "2001:db8::2".parse().unwrap();
        let other: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert_eq!(limit.count(one, at(1000)), Ok(()));
        assert_eq!(limit.count(same, at(1000)), Ok(()));
        assert_eq!(limit.count(one, at(1000)), Err(59));
        assert_eq!(limit.count(other, at(1000)), Ok(()));
        assert_eq!(limit.count(one, at(60_000)), Ok(()));
        let mapped = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(
            (mapped("::ffff:192.0.2.1"), mapped("2001:db8::1")),
            ("192.0.2.1".to_owned(), "2001:db8::".to_owned())
        );
    }

    #[test]
    fn whoever_takes_all_places_keeps_nobody_else_out() {
        let limit = LookupLimit::with_room(2, 3);
        let ask = |address: &str| limit.count(address.parse().unwrap(), UnixMillis::new(0)).is_ok();
        let many = (0..1000).filter(|i| ask(&format!("2001:db8:{i:x}::1"))).count();
        // Three places, and as much again as a wider network gets.
        assert_eq!(many, 3 + 2 * ADDRESSES_OF_A_WIDER_NETWORK as usize);
        for others in ["192.0.2.1", "192.0.2.1", "192.0.3.1", "198.51.100.1", "2001:db9::1"] {
            assert!(ask(others), "{others}");
        }
        assert!(ask("2001:db8::1") && !ask("2001:db8::1"), "who has a place keeps it");
        // Who shares a wider network shares what it gets.
        assert_eq!((0..1000).filter(|i| ask(&format!("203.0.{}.{}", i / 250, i % 250))).count(), 128);
    }

    #[test]
    fn a_thousand_msps_get_no_more_than_sixteen() {
        let limit = RelayLimit::new(2);
        let served = |i: u32| {
            let msp = Domain::parse(&format!("m{i}.example")).unwrap();
            (0..3).filter(|_| limit.count(msp.clone(), UnixMillis::new(0)).is_ok()).count()
        };
        assert_eq!((0..1000).map(served).collect::<Vec<_>>().iter().sum::<usize>(), 32);
    }
}
