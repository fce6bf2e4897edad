//! Who sends a request: a signature in a header, by a recipient key or by the holder of a watch-list.
//!
//! ```text
//! Waymark-Recipient: key=<hex>; time=<decimal ms>; nonce=<hex>; sig=<hex>
//! struct { opaque method<1..16>; opaque path<1..255>; Hash body; Ms time; opaque nonce[16]; }  what is signed
//! ```
//!
//! The signature (context `waymark/1 request recipient`, the log's origin) says who asks, once, now. It is never authority for
//! a change: that is the event's.

use data_encoding::HEXLOWER;
use tls_codec::{TlsSerialize, TlsSize};
use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::{Key, SIGNATURE_BYTES, SecretKey, Signature},
    time::UnixMillis,
};

use crate::{
    signed::{context, message},
    wire::{Opaque8, encode},
};

/// How far a request's time may be from the server's, either way: five minutes.
pub const REQUEST_WINDOW_MS: u64 = 300_000;
/// The header with the signature.
pub const RECIPIENT_HEADER: &str = "waymark-recipient";

#[derive(TlsSize, TlsSerialize)]
struct SignedRequest {
    method: Opaque8<1, 16>,
    path: Opaque8<1, 255>,
    body: Hash,
    time: UnixMillis,
    nonce: [u8; 16],
}

/// A signature under one request: a recipient's, or that of a watch-list's holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestSignature {
    /// By which key.
    pub key: Key,
    /// When, by the signer's clock.
    pub time: UnixMillis,
    /// Random, once.
    pub nonce: [u8; 16],
    sig: Signature,
}

fn signed_bytes(
    origin: &Origin,
    method: &str,
    path: &str,
    body: &[u8],
    time: UnixMillis,
    nonce: [u8; 16],
) -> Option<Vec<u8>> {
    let request = SignedRequest {
        method: Opaque8::new(method)?,
        path: Opaque8::new(path)?,
        body: Hash::sha256(&[body]),
        time,
        nonce,
    };
    Some(message(context::REQUEST, origin, &encode(&request)))
}

impl RequestSignature {
    /// Signs a request.
    ///
    /// # Panics
    /// If method or path are longer than any of ours.
    pub fn sign(
        origin: &Origin,
        secret: &SecretKey,
        (method, path): (&str, &str),
        body: &[u8],
        time: UnixMillis,
        nonce: [u8; 16],
    ) -> Self {
        let bytes = signed_bytes(origin, method, path, body, time, nonce).expect("our own paths are short");
        Self { key: secret.public(), time, nonce, sig: secret.sign(&bytes) }
    }

    /// Whether its time is near enough to ours for its nonce to be remembered.
    pub fn is_timely(&self, now: UnixMillis) -> bool {
        now.since(self.time).max(self.time.since(now)) <= REQUEST_WINDOW_MS
    }

    /// Whether it is under this request.
    pub fn is_under(&self, origin: &Origin, method: &str, path: &str, body: &[u8]) -> bool {
        let bytes = signed_bytes(origin, method, path, body, self.time, self.nonce);
        bytes.is_some_and(|b| self.key.verify(&b, &self.sig).is_ok())
    }

    /// The header's value.
    pub fn format(&self) -> String {
        let (nonce, sig) = (HEXLOWER.encode(&self.nonce), HEXLOWER.encode(self.sig.as_bytes()));
        format!("key={}; time={}; nonce={nonce}; sig={sig}", self.key.to_hex(), self.time.get())
    }

    /// Reads a header's value; `None` unless it is exactly what [`RequestSignature::format`] would write.
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split("; ");
        let mut part = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        let key = Key::from_hex(&part("key")?)?;
        let time = UnixMillis::new(part("time")?.parse().ok()?);
        let nonce = HEXLOWER.decode(part("nonce")?.as_bytes()).ok()?.try_into().ok()?;
        let sig: [u8; SIGNATURE_BYTES] = HEXLOWER.decode(part("sig")?.as_bytes()).ok()?.try_into().ok()?;
        let parsed = Self { key, time, nonce, sig: Signature::new(sig) };
        (parsed.format() == value).then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_signature_is_good_for_one_request() {
        let origin = Origin::new("dp.example/log").unwrap();
        let secret = SecretKey::from_seed(&[1; 32]);
        let time = UnixMillis::new(5);
        let signature = RequestSignature::sign(&origin, &secret, ("POST", "/v1/changes"), b"body", time, [7; 16]);
        let parsed = RequestSignature::parse(&signature.format()).unwrap();
        assert_eq!(parsed, signature);
        assert!(parsed.is_under(&origin, "POST", "/v1/changes", b"body"));
        assert!(!parsed.is_under(&origin, "POST", "/v1/changes", b"other"));
        assert!(!parsed.is_under(&origin, "POST", "/v1/history", b"body"));
        assert!(!parsed.is_under(&Origin::new("other").unwrap(), "POST", "/v1/changes", b"body"));
        let value = signature.format();
        for bad in ["", "key=", &value.to_uppercase(), &value.replace("; ", ";"), &format!("{value} "), &value[1..]] {
            assert_eq!(RequestSignature::parse(bad), None);
        }
    }
}
