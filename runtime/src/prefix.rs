//! Address prefixes: whose requests are counted together.
//!
//! | | IPv6 | IPv4 | who has that many addresses |
//! |---|---|---|---|
//! | [`Prefix::host`] | /64 | /32 | one line, one server; an IPv4 address with carrier-grade NAT: some thousand people |
//! | [`Prefix::site`] | /48 | /24 | one customer of a hosting company |
//! | [`Prefix::network`] | /32 | /24 | one provider of connections |
//!
//! An IPv4 address that a listener for both shows as an IPv6 address is an IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The first address.
    first: IpAddr,
    /// How many bits are common.
    bits: u8,
}

impl Prefix {
    /// A /64 or one IPv4 address.
    pub fn host(address: IpAddr) -> Self {
        Self::of(address, 32, 64)
    }

    /// A /48, or a /24 of IPv4.
    pub fn site(address: IpAddr) -> Self {
        Self::of(address, 24, 48)
    }

    /// A /32, or a /24 of IPv4: a wider part of the IPv4 space belongs to nobody in particular.
    pub fn network(address: IpAddr) -> Self {
        Self::of(address, 24, 32)
    }

    /// The prefix of `v4` bits of an IPv4 address, of `v6` bits of an IPv6 one. More bits than an address has are all of them.
    pub fn of(address: IpAddr, v4: u8, v6: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let bits = v4.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { first: Ipv4Addr::from_bits(address.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(address) => {
                let bits = v6.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { first: Ipv6Addr::from_bits(address.to_bits() & mask).into(), bits }
            }
        }
    }

    /// The first address: of a host, the same for all of its addresses.
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// Whether an address begins with these bits.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && Self::of(address, self.bits, self.bits) == *self
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// Why a text is not a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an address range: it is written as `192.0.2.0/24` or `2001:db8::/32`, all bits after the prefix zero"
)]
pub struct NotAPrefix(String);

impl std::str::FromStr for Prefix {
    type Err = NotAPrefix;

    /// Reads `ADDRESS/BITS`, or an address alone. What is read is written in the same way again, but for the form of an address.
    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        let wrong = || NotAPrefix(text.chars().take(60).collect());
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let first: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let is_number = |b: &&str| !b.is_empty() && b.bytes().all(|b| b.is_ascii_digit());
        let bits = match bits {
            None => most,
            Some(bits) => Some(bits).filter(is_number).and_then(|b| b.parse::<u8>().ok()).ok_or_else(wrong)?,
        };
        let read = Self::of(first, bits, bits);
        if bits > most || read.first != first { Err(wrong()) } else { Ok(read) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_have_one_prefix_and_strangers_have_not() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let shown = |p: Prefix| p.to_string();
        let v6 = ip("2001:db8:1:2:3::4");
        assert_eq!(shown(Prefix::host(v6)), "2001:db8:1:2::/64");
        assert_eq!(shown(Prefix::site(v6)), "2001:db8:1::/48");
        assert_eq!(shown(Prefix::network(v6)), "2001:db8::/32");
        let v4 = ip("::ffff:192.0.2.77");
        assert_eq!(shown(Prefix::host(v4)), "192.0.2.77/32");
        assert_eq!(
            (shown(Prefix::site(v4)), shown(Prefix::network(v4))),
            ("192.0.2.0/24".into(), "192.0.2.0/24".into())
        );
        assert_eq!(shown(Prefix::of(v4, 0, 0)), "0.0.0.0/0");
        assert!(Prefix::site(v4).contains(ip("192.0.2.1")) && !Prefix::site(v4).contains(ip("192.0.3.1")));
        assert!(!Prefix::of(v6, 0, 0).contains(v4) && Prefix::of(v4, 0, 0).contains(v4));
    }

    #[test]
    fn a_written_prefix_is_read_strictly() {
        for text in ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0", "127.0.0.1/32", "::1/128"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
        assert_eq!("10.0.0.1".parse::<Prefix>().unwrap().to_string(), "10.0.0.1/32");
        for text in [
            "",
            "192.0.2.1/24",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "::/129",
            "x/8",
            "192.0.2.0/8/8",
            "::1/64",
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
