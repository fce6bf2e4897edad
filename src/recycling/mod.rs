//! Registers of numbers that were taken from one person and given to another: operators' "number recycling", the FCC's database.
//!
//! They are asked about one number and one day: has it changed hands since? A yes shortens the hold of a claim, no more: no register
//! decides who holds a number. What is not known is [`Recycled::Unknown`], which is not an error; a feed that is down, slow, or says
//! what cannot be understood is a [`FeedError`], which is not an answer. Neither shortens anything.
//!
//! A number travels in the body of a POST over TLS and nowhere else; no error, log line or `Debug` here names one. What was asked
//! is kept in memory under a keyed hash whose key is drawn at the start.
//!
//! ```toml
//! [[recycling]]
//! kind = "camara"                 # an operator's CAMARA Number Recycling API
//! url = "https://api.operator.example/number-recycling/v0.2"     # without the final /check
//! token_url = "https://auth.operator.example/token"              # OAuth 2.0 client credentials
//! client_id = "waymark"
//! secret_file = "keys/operator.secret"                           # the client secret: mode 0600, in the data folder
//! prefixes = ["+49151", "+49160"] # which numbers it is asked about; of several feeds, the longest prefix decides
//!
//! [[recycling]]
//! kind = "fcc"                    # the Reassigned Numbers Database of the FCC
//! url = "https://api.reassigned.us"
//! company_id = "…"                # as registered there
//! secret_file = "keys/fcc.token"  # the refresh token
//! prefixes = ["+1"]
//! ```

pub mod camara;
pub mod fcc;

use std::{
    collections::{HashMap, VecDeque},
    fmt, fs, io,
    os::unix::fs::PermissionsExt,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;
use waymark_log::time::UnixMillis;
use waymark_mapping::identifier::Csi;
use waymark_runtime::{
    durable,
    fetch::{ExtraRoots, FetchError, Fetched, Fetcher, check_url},
    random,
};
use zeroize::Zeroizing;

use self::{camara::Camara, fcc::Fcc};

/// Longest that one request to a feed may take, seconds: a recipient's app waits for it.
pub const FEED_S_MAX: u64 = 5;
/// Most bytes of a feed's answer: a line or two, and a token.
pub const FEED_BYTES_MAX: usize = 16 << 10;
/// Most requests to feeds at a time.
pub const FEED_REQUESTS_MAX: usize = 16;
/// Most answers that are kept, some 100 bytes each.
pub const CACHE_MAX: usize = 10_000;
/// How long an answer counts, milliseconds: feeds are brought up to date once a day at most.
pub const CACHE_MS: u64 = 6 * 3600 * 1000;
/// Most bytes in a file with a secret.
const SECRET_BYTES_MAX: usize = 4096;
/// Most feeds, and most prefixes of each.
const FEEDS_MAX: usize = 256;
/// Longest that a token is used, milliseconds, whatever its issuer says.
const TOKEN_MS_MAX: u64 = 3600 * 1000;
/// A token is renewed so long before it ends, milliseconds.
const TOKEN_SLACK_MS: u64 = 30_000;

/// Whether a number has changed hands since a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recycled {
    /// It has.
    Yes,
    /// It has not.
    No,
    /// Nobody who was asked knows: another operator's number, a day before the records begin, no feed for it.
    Unknown,
}

/// Why a feed gave no answer. None of these names the number.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// No connection, too slow, or too much.
    #[error("the feed cannot be reached: {0}")]
    Fetch(#[from] FetchError),
    /// It does not accept our credentials.
    #[error("the feed refuses our credentials (status {0})")]
    Refused(u16),
    /// It has another status.
    #[error("the feed answers with status {0}")]
    Status(u16),
    /// What it says is not what it should say.
    #[error("the feed's answer is not understood: {0}")]
    Garbage(&'static str),
    /// Too many requests are under way here.
    #[error("too many requests to feeds at a time")]
    Busy,
    /// The day cannot be written.
    #[error("the day is out of range")]
    Day,
}

/// What a feed's answer becomes.
pub type Answered<'a> = Pin<Box<dyn Future<Output = Result<Recycled, FeedError>> + Send + 'a>>;

/// A register that can be asked.
pub trait Feed: Send + Sync {
    /// Whether the number, in E.164 with its plus, has changed hands since the day.
    ///
    /// The future fails with a [`FeedError`] where the feed gave no answer.
    fn recycled_since<'a>(&'a self, number: &'a str, day: Date) -> Answered<'a>;
}

/// A feed as it is written in dp.toml.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum FeedFile {
    /// An operator's CAMARA API.
    Camara {
        /// The API, without the final `/check`.
        url: String,
        /// Where tokens come from.
        token_url: String,
        /// As whom.
        client_id: String,
        /// The client secret.
        secret_file: String,
        /// Beginnings of the numbers it is asked about.
        prefixes: Vec<String>,
    },
    /// The FCC's database.
    Fcc {
        /// The API.
        url: String,
        /// As whom.
        company_id: String,
        /// The refresh token.
        secret_file: String,
        /// Beginnings of the numbers it is asked about.
        prefixes: Vec<String>,
    },
}

impl FeedFile {
    fn prefixes(&self) -> &[String] {
        match self {
            Self::Camara { prefixes, .. } | Self::Fcc { prefixes, .. } => prefixes,
        }
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// What to mend.
    pub fn check(&self) -> Result<(), String> {
        let urls = match self {
            Self::Camara { url, token_url, .. } => vec![url, token_url],
            Self::Fcc { url, .. } => vec![url],
        };
        urls.into_iter().try_for_each(|u| check_url(u)).map_err(|e| format!("recycling: {e}"))?;
        let digits = |p: &str| p.strip_prefix('+').is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()));
        let prefixes = self.prefixes();
        let good = (1..=FEEDS_MAX).contains(&prefixes.len()) && prefixes.iter().all(|p| p.len() > 1 && digits(p));
        if !good {
            return Err("recycling.prefixes: beginnings of numbers such as \"+4915\"".to_owned());
        }
        if matches!(self, Self::Fcc { .. }) && !prefixes.iter().all(|p| p.starts_with(fcc::COUNTRY)) {
            return Err("recycling.prefixes: the FCC's database has numbers that begin with +1 only".to_owned());
        }
        Ok(())
    }

    fn open(&self, dir: &Path, fetcher: &Fetcher) -> Result<Served, String> {
        self.check()?;
        let secret =
            |file: &str| secret_text(&dir.join(file)).map_err(|e| format!("recycling.secret_file: {file}: {e}"));
        let feed: Arc<dyn Feed> = match self {
            Self::Camara { url, token_url, client_id, secret_file, .. } => {
                Arc::new(Camara::new(fetcher.clone(), url, token_url, client_id, secret(secret_file)?))
            }
            Self::Fcc { url, company_id, secret_file, .. } => {
                Arc::new(Fcc::new(fetcher.clone(), url, company_id, secret(secret_file)?))
            }
        };
        Ok(Served { prefixes: self.prefixes().to_vec(), feed })
    }
}

/// A secret in a file of its own that nobody else may read: one line of printable characters.
fn secret_text(path: &Path) -> io::Result<Zeroizing<String>> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        return Err(invalid("it can be read by others; its mode must be 0600"));
    }
    let bytes = Zeroizing::new(durable::read(path, SECRET_BYTES_MAX)?.unwrap_or_default());
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim_end();
    if !is_token(text) {
        return Err(invalid("it is not one line of printable characters"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// A feed and what it is asked about.
struct Served {
    prefixes: Vec<String>,
    feed: Arc<dyn Feed>,
}

/// All feeds of a DP.
pub struct Registers {
    served: Vec<Served>,
    slots: Semaphore,
    kept: Mutex<Kept>,
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} feeds", self.served.len())
    }
}

impl Registers {
    /// The feeds of a configuration, with their secrets from the data folder.
    ///
    /// # Errors
    /// What to mend.
    pub fn load(dir: &Path, files: &[FeedFile], roots: &ExtraRoots) -> Result<Self, String> {
        if files.len() > FEEDS_MAX {
            return Err(format!("recycling: at most {FEEDS_MAX} feeds"));
        }
        let fetcher = Fetcher::with_roots(Duration::from_secs(FEED_S_MAX), roots);
        let served = files.iter().map(|f| f.open(dir, &fetcher)).collect::<Result<_, _>>()?;
        Ok(Self::new(served))
    }

    fn new(served: Vec<Served>) -> Self {
        Self { served, slots: Semaphore::new(FEED_REQUESTS_MAX), kept: Mutex::new(Kept::new()) }
    }

    /// The feed with the longest prefix of a number.
    fn feed_of(&self, number: &str) -> Option<&dyn Feed> {
        let length = |s: &Served| s.prefixes.iter().filter(|p| number.starts_with(p.as_str())).map(String::len).max();
        let best = self.served.iter().filter_map(|s| length(s).map(|l| (l, s))).max_by_key(|(l, _)| *l);
        best.map(|(_, served)| &*served.feed)
    }

    /// Whether a number has changed hands since a time: since the day, in UTC, on which its holder last showed possession, so that a
    /// change on that very day counts as none.
    ///
    /// # Errors
    /// [`FeedError`]: the feed in charge gave no answer. An e-mail address, or a number without a feed, is [`Recycled::Unknown`].
    pub async fn recycled_since(&self, csi: &Csi, since: UnixMillis, now: UnixMillis) -> Result<Recycled, FeedError> {
        let Some(number) = csi.expose().strip_prefix("tel:") else { return Ok(Recycled::Unknown) };
        let Some(feed) = self.feed_of(number) else { return Ok(Recycled::Unknown) };
        let day = day_of(since)?;
        if let Some(answer) = self.kept().get(number, day, now) {
            return Ok(answer);
        }
        let _slot = self.slots.try_acquire().map_err(|_| FeedError::Busy)?;
        let answer = feed.recycled_since(number, day).await?;
        self.kept().keep(number, day, answer, now);
        Ok(answer)
    }

    /// Whether a feed says that a number has changed hands since a time. A feed that gives no answer says so in our log and shortens
    /// nothing.
    pub async fn says_recycled(&self, csi: &Csi, since: UnixMillis, now: UnixMillis) -> bool {
        match self.recycled_since(csi, since, now).await {
            Ok(answer) => answer == Recycled::Yes,
            Err(error) => {
                tracing::warn!(%error, "a register of reissued numbers gave no answer");
                false
            }
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn day_of(time: UnixMillis) -> Result<Date, FeedError> {
    let ms = i64::try_from(time.get()).map_err(|_| FeedError::Day)?;
    let time = Timestamp::from_millisecond(ms).map_err(|_| FeedError::Day)?;
    Ok(time.to_zoned(TimeZone::UTC).date())
}

/// Answers of the last hours. Errors are not among them.
struct Kept {
    key: [u8; 32],
    answers: HashMap<[u8; 32], (Recycled, UnixMillis)>,
    /// Oldest first.
    order: VecDeque<[u8; 32]>,
}

impl Kept {
    fn new() -> Self {
        Self { key: random::bytes(), answers: HashMap::new(), order: VecDeque::new() }
    }

    fn name(&self, number: &str, day: Date) -> [u8; 32] {
        *blake3::keyed_hash(&self.key, format!("{number} {day}").as_bytes()).as_bytes()
    }

    fn get(&self, number: &str, day: Date, now: UnixMillis) -> Option<Recycled> {
        let (answer, until) = self.answers.get(&self.name(number, day))?;
        (now < *until).then_some(*answer)
    }

    fn keep(&mut self, number: &str, day: Date, answer: Recycled, now: UnixMillis) {
        let name = self.name(number, day);
        if self.answers.insert(name, (answer, now.plus_ms(CACHE_MS))).is_none() {
            self.order.push_back(name);
        }
        if self.order.len() > CACHE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }
}

/// A token, fetched when it is needed and used until it ends or is refused.
#[derive(Default)]
struct TokenBox(tokio::sync::Mutex<Option<(Zeroizing<String>, tokio::time::Instant)>>);

impl TokenBox {
    /// The token, or a new one from `fetch`, which says for how many milliseconds it is good. One request fetches, others wait.
    async fn get(
        &self,
        fetch: impl Future<Output = Result<(Zeroizing<String>, u64), FeedError>>,
    ) -> Result<Zeroizing<String>, FeedError> {
        let mut held = self.0.lock().await;
        if let Some((token, until)) = &*held
            && tokio::time::Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let (token, good_ms) = fetch.await?;
        let good = Duration::from_millis(good_ms.min(TOKEN_MS_MAX).saturating_sub(TOKEN_SLACK_MS));
        *held = Some((token.clone(), tokio::time::Instant::now() + good));
        Ok(token)
    }

    /// Forgets a token that was refused.
    async fn forget(&self, token: &str) {
        let mut held = self.0.lock().await;
        if held.as_ref().is_some_and(|(t, _)| t.as_str() == token) {
            *held = None;
        }
    }
}

/// RFC 6750: visible characters, as they fit a header.
fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic())
}

/// Reads a JSON answer; what it holds is not repeated in the error.
fn read_json<T: DeserializeOwned>(fetched: &Fetched) -> Result<T, FeedError> {
    // serde would also take an array for a structure.
    let object = serde_json::from_slice::<serde_json::Map<_, _>>(&fetched.body).map(serde_json::Value::Object);
    let read = object.and_then(serde_json::from_value);
    read.map_err(|_| FeedError::Garbage("not the JSON object that it should be"))
}

/// A status that is no answer.
fn status(fetched: &Fetched) -> FeedError {
    match fetched.status {
        status @ (401 | 403) => FeedError::Refused(status),
        status => FeedError::Status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says what it was made to say, and counts.
    struct Says(Recycled, Mutex<u32>);

    impl Feed for Says {
        fn recycled_since<'a>(&'a self, _: &'a str, _: Date) -> Answered<'a> {
            *self.1.lock().unwrap() += 1;
            Box::pin(async { Ok(self.0) })
        }
    }

    fn served(prefix: &str, says: Recycled) -> (Served, Arc<Says>) {
        let feed = Arc::new(Says(says, Mutex::new(0)));
        (Served { prefixes: vec![prefix.to_owned()], feed: Arc::clone(&feed) as Arc<dyn Feed> }, feed)
    }

    const DAY_MS: u64 = 24 * 3600 * 1000;

    #[tokio::test]
    async fn the_longest_prefix_decides_and_answers_are_kept_for_hours() {
        let (short, asked_short) = served("+49", Recycled::No);
        let (long, asked_long) = served("+49151", Recycled::Yes);
        let registers = Registers::new(vec![short, long]);
        let (since, now) = (UnixMillis::new(20_000 * DAY_MS), UnixMillis::new(20_100 * DAY_MS));
        let ask = async |number: &str, since, now| {
            registers.recycled_since(&Csi::parse(number).unwrap(), since, now).await.unwrap()
        };
        assert_eq!(ask("tel:+4915112345642", since, now).await, Recycled::Yes);
        assert_eq!(ask("tel:+4916012345642", since, now).await, Recycled::No);
        assert_eq!(ask("tel:+3316012345642", since, now).await, Recycled::Unknown);
        assert_eq!(ask("mailto:bob@post.example", since, now).await, Recycled::Unknown);
        assert_eq!(ask("tel:+4915112345642", since.plus_ms(1), now.plus_ms(CACHE_MS - 1)).await, Recycled::Yes);
        assert_eq!((*asked_short.1.lock().unwrap(), *asked_long.1.lock().unwrap()), (1, 1));
        ask("tel:+4915112345642", since, now.plus_ms(CACHE_MS)).await;
        ask("tel:+4915112345642", since.plus_ms(DAY_MS), now).await;
        assert_eq!(*asked_long.1.lock().unwrap(), 3);
        assert!(!format!("{registers:?}").contains("4915"));
        let bob = Csi::parse("tel:+4915112345642").unwrap();
        let far = registers.recycled_since(&bob, UnixMillis::new(u64::MAX), now).await;
        assert!(matches!(far, Err(FeedError::Day)));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = Kept::new();
        let (day, now) = (day_of(UnixMillis::new(0)).unwrap(), UnixMillis::new(1));
        for i in 0..CACHE_MAX + 10 {
            kept.keep(&format!("+{i}"), day, Recycled::No, now);
        }
        assert_eq!((kept.answers.len(), kept.order.len()), (CACHE_MAX, CACHE_MAX));
        assert_eq!(kept.get("+9", day, now), None);
        assert_eq!(kept.get("+10", day, now), Some(Recycled::No));
    }

    #[test]
    fn numbers_go_over_tls_or_nowhere() {
        let at = |url: &str| FeedFile::Camara {
            url: url.to_owned(),
            token_url: "https://auth.example/token".to_owned(),
            client_id: "c".to_owned(),
            secret_file: "s".to_owned(),
            prefixes: vec!["+4915".to_owned()],
        };
        assert!(at("https://api.example/x").check().is_ok() && at("http://127.0.0.1:9/x").check().is_ok());
        for bad in ["http://api.example", "http://127.0.0.1.example/", "ftp://127.0.0.1", "http://10.0.0.1:80/", ""] {
            assert!(at(bad).check().is_err(), "{bad}");
        }
        let fcc = |prefix: &str| FeedFile::Fcc {
            url: "https://api.reassigned.us".to_owned(),
            company_id: "c".to_owned(),
            secret_file: "s".to_owned(),
            prefixes: vec![prefix.to_owned()],
        };
        assert!(fcc("+1").check().is_ok());
        assert!(fcc("+49").check().is_err() && fcc("1").check().is_err() && fcc("+").check().is_err());
    }

    #[test]
    fn a_secret_is_a_file_that_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("feed.secret");
        let write = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            secret_text(&path)
        };
        assert_eq!(write("s3cret\n", 0o600).unwrap().as_str(), "s3cret");
        for (text, mode) in [("s3cret\n", 0o640), ("", 0o600), ("two words", 0o600), ("a\nb", 0o600)] {
            assert!(write(text, mode).is_err(), "{text:?} {mode:o}");
        }
        assert!(write(&"x".repeat(SECRET_BYTES_MAX + 1), 0o600).is_err());
    }
}
