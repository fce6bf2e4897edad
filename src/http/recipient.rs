//! Who asks: the recipient's signature under a request, its time and its nonce.
//!
//! A nonce is remembered only where a request that is played again would do more than the first did: it sends a
//! message, uses up a try, or shows what is hidden. A change makes its version once, and anybody who only asks how a
//! challenge stands learns nothing twice.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use axum::http::HeaderMap;
use waymark_log::{checkpoint::Origin, key::Key, time::UnixMillis};
use waymark_mapping::rules::SKEW_MS;
use waymark_runtime::{
    problem::{Problem, REPLAYED, SIGNATURE_INVALID, SIGNATURE_MISSING},
    random,
};

use crate::{
    api::{RECIPIENT_HEADER, REQUEST_WINDOW_MS, RequestSignature},
    httpsig,
};

/// How long nonces are kept together, at least: a request is taken from five minutes before its time to five minutes
/// after.
const GENERATION_MS: u64 = 2 * REQUEST_WINDOW_MS;
const _: () = assert!(GENERATION_MS >= httpsig::VALID_S_MAX * 1000 + SKEW_MS);
/// Most nonces of a generation: 667 requests a second, 17 bytes each, with the gaps of the table 9 MB; there are two
/// generations.
const NONCES_MAX: usize = 400_000;

/// Nonces that were seen, until their requests are too old to be played again, as keyed digests of key and nonce.
///
/// A generation is dropped as a whole, and nothing is searched. When one is full, the one before goes early: then a
/// request may be played again sooner than its time is over, and nobody is refused for the sake of it.
pub struct Nonces {
    /// Drawn at the start.
    digest_key: [u8; 32],
    generations_max: usize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    generation: u64,
    now: HashSet<[u8; 16]>,
    before: HashSet<[u8; 16]>,
}

/// Who has signed a request, and its nonce.
#[derive(Clone, Copy, Debug)]
pub struct Signer {
    /// The key.
    pub key: Key,
    nonce: [u8; 16],
}

impl Default for Nonces {
    fn default() -> Self {
        Self::with_room(NONCES_MAX)
    }
}

/// Checks the signature under a request and its time. It leaves nothing behind.
///
/// # Errors
/// A problem: missing, invalid, too old or new.
pub fn verify(
    origin: &Origin,
    headers: &HeaderMap,
    path: &str,
    body: &[u8],
    now: UnixMillis,
) -> Result<Signer, Problem> {
    let value = headers.get(RECIPIENT_HEADER).ok_or_else(|| {
        Problem::new(SIGNATURE_MISSING, format!("Sign the request with a recipient key in {RECIPIENT_HEADER}."))
    })?;
    let invalid = || Problem::new(SIGNATURE_INVALID, "Method, path, body, time and nonce are signed.");
    let signature = value.to_str().ok().and_then(RequestSignature::parse).ok_or_else(invalid)?;
    if !signature.is_timely(now) {
        return Err(Problem::new(REPLAYED, "The request's time is over five minutes off."));
    }
    if !signature.is_under(origin, "POST", path, body) {
        return Err(invalid());
    }
    Ok(Signer { key: signature.key, nonce: signature.nonce })
}

impl Nonces {
    fn with_room(generations_max: usize) -> Self {
        Self { digest_key: random::bytes(), generations_max, seen: Mutex::default() }
    }

    /// [`verify`], and [`Nonces::once`].
    ///
    /// # Errors
    /// A problem: missing, invalid, too old or new, seen before.
    pub fn authenticate(
        &self,
        origin: &Origin,
        headers: &HeaderMap,
        path: &str,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<Key, Problem> {
        let signer = verify(origin, headers, path, body, now)?;
        self.once(&signer, now)?;
        Ok(signer.key)
    }

    /// Takes the nonce of a request that is carried out once.
    ///
    /// # Errors
    /// A problem: seen before.
    pub fn once(&self, signer: &Signer, now: UnixMillis) -> Result<(), Problem> {
        self.take(&signer.key, &signer.nonce, now)
    }

    /// Takes a nonce of a key.
    ///
    /// # Errors
    /// A problem: seen before.
    pub fn take(&self, key: &Key, nonce: &[u8; 16], now: UnixMillis) -> Result<(), Problem> {
        let mut digest = [0; 16];
        let mut hasher = blake3::Hasher::new_keyed(&self.digest_key);
        hasher.update(nonce).update(key.as_bytes()).finalize_xof().fill(&mut digest);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.turn_to(now.get() / GENERATION_MS, self.generations_max);
        if seen.before.contains(&digest) || !seen.now.insert(digest) {
            return Err(Problem::new(REPLAYED, "Each request needs a nonce of its own."));
        }
        Ok(())
    }
}

impl Seen {
    /// Begins a generation if it is time, or if this one is full. A clock that was set back begins none.
    fn turn_to(&mut self, generation: u64, room: usize) {
        if generation > self.generation.saturating_add(1) {
            self.now.clear();
        }
        if generation > self.generation || self.now.len() >= room {
            self.before = std::mem::take(&mut self.now);
            self.generation = self.generation.max(generation);
        }
    }
}

#[cfg(test)]
mod tests {
    use waymark_log::key::SecretKey;

    use super::*;

    const MINUTE_MS: u64 = 60_000;

    fn nonce(i: u64) -> [u8; 16] {
        (u128::from(i) << 64).to_be_bytes()
    }

    #[test]
    fn a_nonce_is_remembered_as_long_as_its_request_may_come() {
        let (nonces, ann, bob) = (Nonces::default(), key(1), key(2));
        for began in [0, 9 * MINUTE_MS, 10 * MINUTE_MS + 1, 19 * MINUTE_MS] {
            let at = |ms| UnixMillis::new(100 * GENERATION_MS + began + ms);
            let fresh = nonce(began);
            assert!(nonces.take(&ann, &fresh, at(0)).is_ok());
            assert!(nonces.take(&bob, &fresh, at(0)).is_ok(), "of another key");
            for later in [0, 1, 5 * MINUTE_MS, 10 * MINUTE_MS] {
                assert_eq!(nonces.take(&ann, &fresh, at(later)).unwrap_err().kind(), REPLAYED, "{began} {later}");
            }
        }
        assert!(nonces.take(&ann, &nonce(0), UnixMillis::new(103 * GENERATION_MS)).is_ok(), "and not for ever");
        // A clock that is set back: what was seen lately is still known.
        assert!(nonces.take(&ann, &nonce(0), UnixMillis::new(1)).is_err());
    }

    #[test]
    fn throw_away_keys_that_fill_the_nonces_keep_no_recipient_out() {
        let (nonces, now) = (Nonces::with_room(1000), UnixMillis::new(0));
        let eve = key(1);
        for i in 0..10_000 {
            assert!(nonces.take(&eve, &nonce(i), now).is_ok());
            let seen = nonces.seen.lock().unwrap();
            assert!(seen.now.len() <= 1000 && seen.before.len() <= 1000);
        }
        assert!(nonces.take(&key(2), &nonce(0), now).is_ok());
        assert!(nonces.take(&key(2), &nonce(0), now).is_err(), "the latest are known still");
    }

    fn key(seed: u8) -> Key {
        SecretKey::from_seed(&[seed; 32]).public()
    }
}
