//! Whose request it is: the one place that decides which address a request counts for.
//!
//! | the connection comes from | the request counts for |
//! |---|---|
//! | an address that is not in `trusted_proxies` | that address; no header is read, since anybody can write one |
//! | a trusted proxy, with the header | the rightmost address in it that is no trusted proxy (left of it: the client's word) |
//! | a trusted proxy, all addresses in the header trusted | the leftmost address |
//! | a trusted proxy, without the header | the proxy: an operator who asks from the machine itself |
//! | a trusted proxy, and no address where one is to be read | nobody: the request is refused with 400 |
//!
//! The header is a list of addresses with commas between them, one header line or more; a port behind an address is
//! left out. One header is read and no other: a proxy that sets one passes on what the client wrote into the others.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::http::{HeaderMap, HeaderName};

use crate::prefix::Prefix;

/// The header that is read unless the configuration names another.
pub const HEADER_DEFAULT: &str = "x-forwarded-for";
/// Most ranges of proxies.
pub const PROXIES_MAX: usize = 1000;
/// Most proxies that a request may have come through.
pub const HOPS_MAX: usize = 16;
/// What proxies say of a client, by their own conventions and by RFC 7239.
const TOLD_BY_PROXIES: [&str; 3] = [HEADER_DEFAULT, "x-real-ip", "forwarded"];

/// The proxies that are believed.
#[derive(Clone, Debug)]
pub struct Proxies {
    trusted: Vec<Prefix>,
    header: HeaderName,
    warned: Arc<AtomicBool>,
}

/// A trusted proxy was to name an address and did not.
#[derive(Debug, PartialEq, Eq)]
pub struct NoAddress;

impl Default for Proxies {
    /// None are.
    fn default() -> Self {
        Self { trusted: vec![], header: HeaderName::from_static(HEADER_DEFAULT), warned: Arc::default() }
    }
}

impl Proxies {
    /// The proxies that a configuration names: the ranges of `trusted_proxies`, and `proxy_header`.
    ///
    /// # Errors
    /// What to mend, with the name of the setting.
    pub fn new(trusted: &[String], header: Option<&str>) -> Result<Self, String> {
        let ranges: Result<Vec<Prefix>, _> = trusted.iter().map(|range| range.parse()).collect();
        let ranges = ranges.map_err(|e| format!("trusted_proxies: {e}"))?;
        if ranges.len() > PROXIES_MAX {
            return Err(format!("trusted_proxies: at most {PROXIES_MAX} address ranges"));
        }
        if ranges.is_empty() && header.is_some() {
            return Err(
                "proxy_header: it is believed only from the addresses in `trusted_proxies`, and none are named; \
                        name your proxies there, or remove this line"
                    .to_owned(),
            );
        }
        let name = header.unwrap_or(HEADER_DEFAULT);
        let header =
            HeaderName::try_from(name).map_err(|_| "proxy_header: not the name of an HTTP header".to_owned())?;
        if header == axum::http::header::FORWARDED {
            return Err(format!(
                "proxy_header: `Forwarded` (RFC 7239) is not read; let the proxy set `{HEADER_DEFAULT}`, and remove \
                 this line"
            ));
        }
        Ok(Self { trusted: ranges, header, warned: Arc::default() })
    }

    /// Whether connections from there carry the requests of others.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(address))
    }

    /// The header that is read.
    pub const fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Whose request it is that came over a connection from `peer`. An IPv4 address is one, however it is written.
    ///
    /// # Errors
    /// [`NoAddress`] if a trusted proxy names none.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, NoAddress> {
        let peer = peer.to_canonical();
        if !self.is_trusted(peer) {
            let is_told = || TOLD_BY_PROXIES.iter().any(|name| headers.contains_key(*name));
            if self.trusted.is_empty() && peer.is_loopback() && is_told() {
                self.warn_once("a proxy that nobody has named: all who come through it share one address's limits");
            }
            return Ok(peer);
        }
        let client = self.rightmost_stranger(peer, headers);
        if client.is_none() {
            self.warn_once("a trusted proxy named no address of its client, and the request was refused");
        }
        client.ok_or(NoAddress)
    }

    fn rightmost_stranger(&self, proxy: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let lines: Vec<&[u8]> = headers.get_all(&self.header).iter().map(|line| line.as_bytes()).collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        let mut client = proxy;
        for (passed, hop) in hops.enumerate() {
            client = parse(hop).filter(|_| passed < HOPS_MAX)?;
            if !self.is_trusted(client) {
                break;
            }
        }
        Some(client)
    }

    /// Without an address, and once: anybody who sends a million of them is not to fill a disk.
    fn warn_once(&self, what: &'static str) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(header = %self.header, "trusted_proxies: {what}");
        }
    }
}

impl std::fmt::Display for Proxies {
    /// The ranges and the header, or that there are none.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.trusted.is_empty() {
            return f.write_str("none");
        }
        let ranges: Vec<String> = self.trusted.iter().map(Prefix::to_string).collect();
        write!(f, "{} ({})", ranges.join(", "), self.header)
    }
}

/// An address, with a port or without: `192.0.2.1`, `192.0.2.1:5000`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:5000`.
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).filter(|bare| bare.contains(':'));
    let address = bare.unwrap_or(hop).parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn proxies(trusted: &[&str]) -> Proxies {
        let trusted: Vec<String> = trusted.iter().map(|range| (*range).to_owned()).collect();
        Proxies::new(&trusted, None).unwrap()
    }

    fn client(proxies: &Proxies, peer: &str, lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HEADER_DEFAULT, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).ok().map(|address| address.to_string())
    }

    #[test]
    fn a_stranger_does_not_choose_an_address() {
        let (none, some) = (Proxies::default(), proxies(&["127.0.0.0/8", "::1", "10.1.0.0/16"]));
        for lines in [&[][..], &["198.51.100.1"], &["x"], &["198.51.100.1", "127.0.0.1"]] {
            assert_eq!(client(&none, "192.0.2.1", lines).unwrap(), "192.0.2.1");
            assert_eq!(client(&none, "127.0.0.1", lines).unwrap(), "127.0.0.1");
            assert_eq!(client(&some, "192.0.2.1", lines).unwrap(), "192.0.2.1", "not a proxy of ours");
        }
    }

    #[test]
    fn a_proxy_that_nobody_has_named_is_told_of_once() {
        let told = |proxies: &Proxies| proxies.warned.load(Ordering::Relaxed);
        let (none, some) = (Proxies::default(), proxies(&["10.1.0.0/16"]));
        client(&none, "192.0.2.1", &["198.51.100.1"]);
        client(&none, "127.0.0.1", &[]);
        client(&some, "127.0.0.1", &["198.51.100.1"]);
        assert!(!told(&none) && !told(&some), "a stranger wrote it, or nobody, or proxies are named");
        client(&none, "127.0.0.1", &["198.51.100.1"]);
        assert!(told(&none));
    }

    #[test]
    fn a_request_is_that_of_the_rightmost_address_that_is_no_proxy() {
        let some = proxies(&["127.0.0.0/8", "::1", "10.1.0.0/16"]);
        for (peer, lines, is) in [
            ("127.0.0.1", &["198.51.100.1"][..], "198.51.100.1"),
            ("::1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:127.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            // What a client writes stands to the left, and is not even read.
            ("127.0.0.1", &["203.0.113.7, \t198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["<nonsense>, 198.51.100.1,10.1.2.3"], "198.51.100.1"),
            ("127.0.0.1", &["203.0.113.7", "198.51.100.1", "10.1.2.3"], "198.51.100.1"),
            ("127.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("127.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("127.0.0.1", &["[2001:db8::1]:5000, 10.1.0.1:80"], "2001:db8::1"),
            ("127.0.0.1", &["10.1.0.1, 10.1.0.2"], "10.1.0.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
        ] {
            assert_eq!(client(&some, peer, lines).as_deref(), Some(is), "{peer} {lines:?}");
        }
    }

    #[test]
    fn where_a_proxy_is_to_name_an_address_nothing_else_is_taken() {
        let some = proxies(&["127.0.0.0/8"]);
        let far = "127.0.0.1,".repeat(HOPS_MAX + 1) + "127.0.0.1";
        for lines in [
            &[""][..],
            &["unknown"],
            &["198.51.100.1,"],
            &["198.51.100.1", ""],
            &["1.2.3"],
            &["[192.0.2.1]"],
            &[&far],
            &["ä"],
        ] {
            assert_eq!(client(&some, "127.0.0.1", lines), None, "{lines:?}");
        }
    }

    #[test]
    fn a_header_without_proxies_is_refused() {
        let why = |trusted: &[&str], header| {
            let trusted: Vec<String> = trusted.iter().map(|range| (*range).to_owned()).collect();
            Proxies::new(&trusted, header).map(|proxies| proxies.to_string())
        };
        assert!(why(&[], Some("x-forwarded-for")).unwrap_err().starts_with("proxy_header: "));
        assert!(why(&["127.0.0.1"], Some("Forwarded")).unwrap_err().starts_with("proxy_header: "));
        assert!(why(&["127.0.0.1"], Some("a b")).unwrap_err().starts_with("proxy_header: "));
        assert!(why(&["127.0.0.1/8"], None).unwrap_err().starts_with("trusted_proxies: "));
        assert_eq!(why(&[], None), Ok("none".to_owned()));
        assert_eq!(why(&["127.0.0.1", "::1"], None), Ok("127.0.0.1/32, ::1/128 (x-forwarded-for)".to_owned()));
        assert_eq!(why(&["10.0.0.0/8"], Some("X-Real-IP")), Ok("10.0.0.0/8 (x-real-ip)".to_owned()));
    }
}
