//! A plain limit on look-ups by address, and on work at once.
//!
//! It slows a crawler down and is no more than that: an address is cheap. Limits that bind to accounts come with tokens.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use waymark_log::time::UnixMillis;

/// The window that look-ups are counted in.
const WINDOW_MS: u64 = 60_000;
/// Most addresses that are counted at a time, some 40 bytes each.
const ADDRESSES_MAX: usize = 200_000;

/// Counts look-ups by address.
pub struct LookupLimit {
    per_minute: u32,
    counts: Mutex<(u64, HashMap<IpAddr, u32>)>,
}

impl LookupLimit {
    /// So many a minute for each address.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, counts: Mutex::new((0, HashMap::new())) }
    }

    /// Counts a look-up; `Err` with the seconds to wait if it is one too many.
    ///
    /// # Errors
    /// Seconds until the next window.
    pub fn count(&self, address: IpAddr, now: UnixMillis) -> Result<(), u64> {
        let window = now.get() / WINDOW_MS;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.0 != window {
            *counts = (window, HashMap::new());
        }
        let wait = (WINDOW_MS - now.get() % WINDOW_MS).div_ceil(1000);
        let full = counts.1.len() >= ADDRESSES_MAX;
        match counts.1.get_mut(&network(address)) {
            Some(count) if *count >= self.per_minute => Err(wait),
            Some(count) => {
                *count += 1;
                Ok(())
            }
            None if full || self.per_minute == 0 => Err(wait),
            None => {
                counts.1.insert(network(address), 1);
                Ok(())
            }
        }
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
}
