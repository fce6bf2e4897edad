//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a request that is sent again, because its answer was
//! lost, is not carried out twice.
//!
//! ```text
//! Idempotency-Key: "8e03978e-40d5-43e8-bc93-6894a57f9324"      a string of RFC 9651, or the same without quotes
//! Idempotent-Replayed: true                                    in the answer to a request that was carried out before
//! ```
//!
//! A key names one request: a route, a signer, a body. The same key with another body is refused for a day, however the first
//! one ended. What was refused was not carried out, and may be sent again under its key.
//!
//! It is all in memory, as keyed digests: neither keys nor bodies can be read back. A restart forgets it, and where there is
//! no more room the oldest go first; neither does harm, since no route rests on it alone:
//!
//! | route | what a forgotten key costs |
//! |---|---|
//! | `/v1/challenges` | one more message: the budgets count on |
//! | `/v1/changes` | nothing: an event makes its version once, and is recognised by its nonce for ever |
//! | `/v1/imports` | nothing: each item is such an event |
//! | `/v1/revocations` | nothing: what is revoked stays revoked |

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use sfv::{BareItem, Item, Parser};
use tokio::sync::OnceCell;
use waymark_log::time::UnixMillis;
use waymark_runtime::{
    problem::{self, Problem},
    random,
};

use super::error::IDEMPOTENCY_CONFLICT;

/// The header that names a request.
pub const KEY_HEADER: &str = "idempotency-key";
/// The header that says that a request had been carried out before.
pub const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Most characters in a key: a UUID has 36.
pub const KEY_CHARS_MAX: usize = 64;
/// How long a key is remembered: a day, longer than any client retries.
pub const KEPT_MS: u64 = 24 * 3600 * 1000;
/// Most keys that are remembered, some 250 bytes each.
const KEYS_MAX: usize = 100_000;

type Digest = [u8; 32];

struct Named<T> {
    body: Digest,
    outcome: Arc<OnceCell<T>>,
}

struct Seen<T> {
    named: HashMap<Digest, Named<T>>,
    /// Since when, oldest first.
    order: VecDeque<(Digest, UnixMillis)>,
}

/// The requests that were named, and what came of those that were carried out.
pub struct Replays<T> {
    /// Drawn at the start: a digest says nothing to whoever finds it.
    digest_key: [u8; 32],
    seen: Mutex<Seen<T>>,
}

impl<T> Default for Replays<T> {
    fn default() -> Self {
        let seen = Seen { named: HashMap::new(), order: VecDeque::new() };
        Self { digest_key: random::bytes(), seen: Mutex::new(seen) }
    }
}

/// A request, which may have been carried out before.
pub struct Turn<T>(Option<Arc<OnceCell<T>>>);

impl<T: Clone> Replays<T> {
    /// Takes a request whose signer is known. Without the header it has no name, and is carried out.
    ///
    /// # Errors
    /// A problem: the header is not of the form, or its key has come with another body.
    pub fn enter(
        &self,
        headers: &HeaderMap,
        route: &'static str,
        signer: &[u8],
        body: &[u8],
        now: UnixMillis,
    ) -> Result<Turn<T>, Problem> {
        let Some(key) = read(headers)? else { return Ok(Turn(None)) };
        let (name, body) = (self.digest(&[route.as_bytes(), signer, key.as_bytes()]), self.digest(&[body]));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.forget(now);
        if let Some(named) = seen.named.get(&name) {
            if named.body != body {
                let what = "Take a new key for another request; send the same bytes again under this one.";
                return Err(Problem::new(IDEMPOTENCY_CONFLICT, what));
            }
            return Ok(Turn(Some(Arc::clone(&named.outcome))));
        }
        let outcome = Arc::new(OnceCell::new());
        seen.order.push_back((name, now));
        seen.named.insert(name, Named { body, outcome: Arc::clone(&outcome) });
        Ok(Turn(Some(outcome)))
    }

    fn digest(&self, parts: &[&[u8]]) -> Digest {
        let mut hasher = blake3::Hasher::new_keyed(&self.digest_key);
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        *hasher.finalize().as_bytes()
    }
}

impl<T> Seen<T> {
    /// Forgets what is a day old, and makes room for one.
    fn forget(&mut self, now: UnixMillis) {
        while let Some((name, since)) = self.order.front()
            && (now.since(*since) >= KEPT_MS || self.order.len() >= KEYS_MAX)
        {
            self.named.remove(name);
            self.order.pop_front();
        }
    }
}

impl<T: Clone> Turn<T> {
    /// Carries a request out, unless it was: what came of it, and whether that was before. Of two at a time the second waits
    /// for the first.
    ///
    /// # Errors
    /// What `carry_out` says; it is not remembered.
    pub async fn once<E>(&self, carry_out: impl Future<Output = Result<T, E>>) -> Result<(T, bool), E> {
        let Some(outcome) = &self.0 else { return Ok((carry_out.await?, false)) };
        let mut before = true;
        let carry_out = async {
            before = false;
            carry_out.await
        };
        let came = outcome.get_or_try_init(|| carry_out).await?.clone();
        Ok((came, before))
    }
}

impl Turn<()> {
    /// The answer to a request that does no harm when it is carried out again, marked if it was carried out before.
    pub fn tell(self, answered: Result<Response, Problem>) -> Response {
        let before = self.0.as_ref().is_some_and(|outcome| outcome.initialized());
        if let (Some(outcome), Ok(_)) = (&self.0, &answered) {
            // Somebody who was at the same time has said so already.
            let _ = outcome.set(());
        }
        mark(answered.into_response(), before)
    }
}

/// Marks the answer to a request that was carried out before.
pub fn mark(mut response: Response, before: bool) -> Response {
    if before {
        response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
    }
    response
}

/// The key of a request, if it has one.
fn read(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(KEY_HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().ok().and_then(parse).filter(|_| values.next().is_none());
    let what = "Idempotency-Key is one string of 1 to 64 visible ASCII characters.";
    key.map(Some).ok_or_else(|| Problem::new(problem::MALFORMED, what))
}

/// "The value is a String of RFC 9651". Without quotes is how most clients send it.
fn parse(value: &str) -> Option<String> {
    let key = if value.starts_with('"') {
        let item: Item = Parser::new(value).parse().ok()?;
        match item.bare_item {
            BareItem::String(text) if item.params.is_empty() => text.as_str().to_owned(),
            _ => return None,
        }
    } else {
        value.to_owned()
    };
    let good = (1..=KEY_CHARS_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    good.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(key: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(KEY_HEADER), HeaderValue::from_str(key).unwrap())])
    }

    #[test]
    fn a_key_is_visible_ascii_with_quotes_or_without() {
        assert_eq!(parse("\"a-1\""), Some("a-1".to_owned()));
        assert_eq!(parse("\"a\\\"b\""), Some("a\"b".to_owned()));
        assert_eq!(parse("a-1"), Some("a-1".to_owned()));
        let (longest, longer) = ("x".repeat(KEY_CHARS_MAX), "x".repeat(KEY_CHARS_MAX + 1));
        assert_eq!(parse(&longest), Some(longest.clone()));
        for bad in ["", "\"\"", "\"a", "\"a\";b", "\"a b\"", "a b", "\u{e4}", &longer] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let mut twice = named("a");
        twice.append(KEY_HEADER, HeaderValue::from_static("a"));
        assert_eq!(read(&twice).unwrap_err().kind(), problem::MALFORMED);
        assert_eq!(read(&HeaderMap::new()), Ok(None));
    }

    #[tokio::test]
    async fn a_request_is_carried_out_once_a_day() {
        let replays = Replays::default();
        let at = UnixMillis::new;
        let enter = |key: &str, signer: &str, body: &str, now| {
            replays.enter(&named(key), "/route", signer.as_bytes(), body.as_bytes(), at(now))
        };
        let first = enter("k", "ann", "body", 0).unwrap();
        // What was refused was not carried out.
        assert_eq!(first.once(async { Err::<u8, _>("no") }).await, Err("no"));
        assert_eq!(first.once(async { Ok::<_, &str>(1) }).await, Ok((1, false)));
        let again = enter("k", "ann", "body", KEPT_MS - 1).unwrap();
        assert_eq!(again.once(async { Ok::<_, &str>(2) }).await, Ok((1, true)));
        assert_eq!(enter("k", "ann", "other", 1).err().map(|p| p.kind()), Some(IDEMPOTENCY_CONFLICT));
        // Somebody else's key of the same name, another name, no name, the next day.
        for turn in [enter("k", "bob", "body", 1), enter("j", "ann", "body", 1), enter("k", "ann", "body", KEPT_MS)] {
            assert_eq!(turn.unwrap().once(async { Ok::<_, &str>(3) }).await, Ok((3, false)));
        }
        let unnamed = replays.enter(&HeaderMap::new(), "/route", b"ann", b"body", at(1)).unwrap();
        assert_eq!(unnamed.once(async { Ok::<_, &str>(4) }).await, Ok((4, false)));
    }

    #[test]
    fn the_oldest_make_room() {
        let replays = Replays::<()>::default();
        for i in 0..KEYS_MAX + 10 {
            replays.enter(&named(&i.to_string()), "/route", b"", b"", UnixMillis::new(1)).unwrap();
        }
        let seen = replays.seen.lock().unwrap();
        assert_eq!((seen.named.len(), seen.order.len()), (KEYS_MAX, KEYS_MAX));
    }
}
