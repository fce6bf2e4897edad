//! Time as types. The core never asks what time it is; callers hand it in.
//!
//! Cosignatures count seconds (C2SP tlog-cosignature); Waymark's own formats count milliseconds. The two cannot be mixed
//! by accident because neither is a bare integer.

use std::fmt;

use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};

/// Milliseconds since 1970-01-01T00:00:00Z; a uint64 in TLS structures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct UnixMillis(u64);

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(u64);

impl UnixMillis {
    /// A time from its count of milliseconds.
    pub const fn new(ms: u64) -> Self {
        Self(ms)
    }

    /// The count of milliseconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The second this millisecond lies in.
    pub const fn floor_seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }

    /// Later by `ms` milliseconds; stops at the end of the range.
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`; zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl UnixSeconds {
    /// A time from its count of seconds.
    pub const fn new(s: u64) -> Self {
        Self(s)
    }

    /// The count of seconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The first millisecond of this second.
    pub const fn to_millis(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(1000))
    }

    /// Later by `s` seconds; stops at the end of the range.
    pub const fn plus_s(self, s: u64) -> Self {
        Self(self.0.saturating_add(s))
    }

    /// Earlier by `s` seconds; stops at zero.
    pub const fn minus_s(self, s: u64) -> Self {
        Self(self.0.saturating_sub(s))
    }

    /// Seconds from `earlier` to `self`; zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

impl fmt::Debug for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}
