//! The one place that draws random bytes. The pure crates are handed a source.

use rand::Rng as _;

/// `N` random bytes from a cryptographic generator seeded by the system.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A cryptographic generator for code that draws much.
pub fn source() -> rand::rngs::ThreadRng {
    rand::rng()
}

/// A number below `bound`, without bias worth naming (2^-60 for the bounds used here).
pub fn below(bound: u64) -> u64 {
    u64::from_be_bytes(bytes()) % bound.max(1)
}
