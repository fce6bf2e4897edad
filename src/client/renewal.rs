//! When an app renews a mapping: at a moment of the last 30 days before it ends that nobody else can foretell.
//!
//! A person who registered at several providers in one hour would otherwise renew at all of them in one hour, half a year later, and
//! the times of the consents in the log would say that they belong together.

use waymark_log::{
    key::SecretKey,
    time::{DAY_MS, UnixMillis},
};
use waymark_mapping::mapping::Mapping;

/// The time before a mapping's end over which renewals are spread: 30 days.
pub const RENEWAL_SPREAD_MS: u64 = 30 * DAY_MS;

/// From when on a mapping is to be renewed: always the same for a mapping, spread evenly over the last 30 days, and known to
/// nobody without the app's secret key.
pub fn due(secret: &SecretKey, mapping: &Mapping) -> UnixMillis {
    let key = zeroize::Zeroizing::new(blake3::derive_key("waymark 2026 renewal", &*secret.to_seed()));
    let drawn = blake3::keyed_hash(&key, mapping.digest().as_bytes());
    let first = drawn.as_bytes().first_chunk().expect("a hash has 32 bytes");
    // The bias of a 64-bit draw over 30 days of milliseconds is below 2^-32.
    let before_end = u64::from_be_bytes(*first) % RENEWAL_SPREAD_MS;
    UnixMillis::new(mapping.not_after.get().saturating_sub(before_end))
}

#[cfg(test)]
mod tests {
    use waymark_log::checkpoint::Origin;
    use waymark_mapping::{
        identifier::Csi,
        mapping::{Attestation, Method, Purpose, Tags},
        names::{Account, Domain},
        signed::{SignedStruct as _, UNSIGNED},
        wire::Format,
    };

    use super::*;
    use crate::client::recipient::{MappingSpec, sign_mapping};

    #[test]
    fn renewals_are_spread_over_the_last_thirty_days_and_stable() {
        let origin = Origin::new("dp.example/log").unwrap();
        let mapping = |seed: u8| {
            let secret = SecretKey::from_seed(&[seed; 32]);
            let mut attestation = Attestation {
                format: Format,
                csi: Csi::parse("tel:+4915112345642").unwrap(),
                recipient: secret.public(),
                tenure: 0,
                purpose: Purpose::Control,
                method: Method::SMS,
                prover: Domain::parse("dp.example").unwrap(),
                prover_key: secret.public(),
                time: UnixMillis::new(1_790_000_000_000),
                expiry: UnixMillis::new(1_790_003_600_000),
                nonce: [0; 16],
                sig: UNSIGNED,
            };
            attestation.sign(&origin, &secret);
            let spec = MappingSpec { msp: None, account: Account::NONE, tags: Tags::shown(vec![]).unwrap() };
            (sign_mapping(&origin, &secret, &spec, &attestation, attestation.time), secret)
        };
        let days: Vec<u64> = (0..64)
            .map(|seed| {
                let (mapping, secret) = mapping(seed);
                let time = due(&secret, &mapping);
                assert_eq!(due(&secret, &mapping), time);
                assert!(time <= mapping.not_after && mapping.not_after.since(time) < RENEWAL_SPREAD_MS);
                mapping.not_after.since(time) / DAY_MS
            })
            .collect();
        // Each third of the month is chosen by some of 64 apps: by chance it is missed by all with (2/3)^64.
        assert!((0..3).all(|third| days.iter().any(|d| d / 10 == third)), "{days:?}");
    }
}
