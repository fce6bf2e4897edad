//! A reference adapter for a messaging provider: it consents to its users' mappings, watches for them, tells them what it
//! saw, and asks the directory for them.
//!
//! An integrator copies from here. What a real MSP has and this does not: its own login. An account belongs to the recipient
//! key that first asks for it, which stands in for "the user of this account, logged in, has this key".
//!
//! | | | |
//! |---|---|---|
//! | POST | /v1/consents | a mapping and a salt, signed by its recipient key; answered by the consent |
//! | POST | /v1/watch-lists | a blind watch-list of one of its users; a new one is signed by a key with an account here |
//! | POST | /v1/notices | what happened under a list and nobody claimed, signed by the list's holder |
//! | POST | /v1/relay/lookups | a look-up for one of its users, signed by a key with an account here |
//! | GET | /status | counts, and alerts about the MSP's own keys, JSON |
//!
//! The DP never calls the MSP. The adapter never learns more of a CSI than its own user's mapping tells it.

mod accounts;
pub mod keys;
mod notices;
mod relay;
mod watching;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    routing::{get, post},
};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};
use tokio::task::JoinHandle;
use waymark_log::{checkpoint::Origin, hash::Hash, key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    commitment::{Salt, blind},
    entry::{Entry, ProviderRole},
    mapping::{Consent, Mapping},
    names::Domain,
    signed::{SignedStruct, UNSIGNED},
    trust::Trust,
    watch::{RENEW_WITHIN_MS_DEFAULT, WATCH_LIST_BYTES_MAX, WATCH_LIST_MEDIA_TYPE, WatchId, WatchList, WatchRefused},
    wire::{Format, decode, encode},
};
use waymark_runtime::{
    budget::{AddressBudget, Shares, StayingBudget, StayingShares},
    clock::Clock,
    config::{self, ConfigError},
    durable,
    fetch::{ExtraRoots, Fetcher, REQUEST_S_MAX},
    keyfile, leftovers,
    listen::{self, Capped, Peer, Server},
    problem::{self, Kind, Problem},
    proxies::Proxies,
    tls::TlsFiles,
};

use self::{
    accounts::{Accounts, ClaimRefused},
    relay::Relay,
    watching::{ForeignKey, ImportRefused, Watching},
};
pub use self::{
    relay::{LOOKUPS_PER_DAY_DEFAULT, LOOKUPS_PER_DAY_MIN},
    watching::LABELS_MAX,
};
use crate::{
    api::{JSON_BYTES_MAX, JSON_MEDIA_TYPE, NoticeView, NoticesAnswer, NoticesRequest, read_object},
    client::provider::ProviderClient,
    http::{error, openapi, recipient::Nonces},
};

const FOREIGN_KEY_WHAT_TO_DO: &str = "The log has an entry for your domain with a key that is in none of this folder's files. If it is not \
                                      yours: cancel it while it waits (waymark msp cancel), retire it if it is valid, and ask the directory's \
                                      operator who handed it in.";

/// Media type of a request for consent.
pub const CONSENT_MEDIA_TYPE: &str = "application/vnd.waymark.consent";
/// Most bytes in a request for consent: a mapping and a salt.
const CONSENT_BYTES_MAX: usize = 8 << 10;

/// Requests a minute from one address and its neighbours, unless said otherwise. An app asks now and then, and some thousand users may
/// have one IPv4 address, which has a site's share: a hundred and fifty who come in one minute ask six times each.
pub const REQUESTS_A_MINUTE: Shares = Shares { host: 240, site: 960, network: 3840 };
/// New accounts from one address and its neighbours, unless said otherwise: one network does not fill a twentieth of them in a year.
pub const NEW_ACCOUNTS: StayingShares = StayingShares {
    day: Shares { host: 128, site: 500, network: 1000 },
    month: Shares { host: 300, site: 1500, network: 3000 },
};
const MINUTE_MS: u64 = 60_000;

/// When to try again with a list that the log has not reached yet: it is looked at more often.
const AHEAD_RETRY_S: u64 = 10;

const ACCOUNT_TAKEN: Kind = Kind::new(403, "account-taken", "The account belongs to another key");
const WATCH_LIST_REFUSED: Kind = Kind::new(422, "watch-list-refused", "The watch-list is not taken");
const WATCH_LIST_LOGGED: Kind =
    Kind::new(422, "watch-list-logged", "What the new watch-list watches for has happened already");
const ACCOUNT_LISTS: Kind = Kind::new(403, "account-lists", "The account has as many watch-lists as one may have");
const NO_ACCOUNT: Kind = Kind::new(403, "no-account", "The key has no account at this MSP");
const NO_LIST: Kind = Kind::new(404, "no-list", "This key has no such watch-list here");
const NO_RELAY: Kind = Kind::new(404, "no-relay", "This adapter relays no look-ups");

/// The problems of an adapter, and those of the look-ups that it passes on.
fn problems() -> impl Iterator<Item = (Kind, String)> {
    let of_lists = [WATCH_LIST_REFUSED, WATCH_LIST_LOGGED, ACCOUNT_LISTS, NO_LIST];
    let own = of_lists.into_iter().chain([ACCOUNT_TAKEN, NO_ACCOUNT, NO_RELAY, relay::DP_UNREACHABLE]);
    let shared = [error::OF_RECIPIENT, error::OF_DECODING, &[error::OTHER_MSP, error::MAPPING_INVALID]].concat();
    let all = own.chain(shared).chain(openapi::operations::of_look_ups());
    all.map(|kind| (kind, String::new()))
}

/// What somebody without an account is to do.
const NO_ACCOUNT_YET: &str =
    "Ask for a consent first: that ties a key to an account. Then sign the request with that key.";

/// What a user is to do about a notice.
const WHAT_TO_DO: &str = "Look at your history. If none of your apps made this change, remove the new mapping while it is \
                          new, and ask your telephone or mail provider whether somebody else receives your codes.";

/// A request for consent.
#[derive(Clone, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct ConsentRequest {
    /// The mapping, signed by its recipient.
    pub mapping: Mapping,
    /// The salt that the consent's `blinded` is to be made with.
    pub salt: Salt,
}

/// msp.toml.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MspFile {
    /// The MSP.
    pub domain: String,
    /// Origin of the DP's log.
    pub origin: String,
    /// Address ranges of the proxies that say whose request it is: see [`waymark_runtime::proxies`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// The header in which they say it, if it is not `X-Forwarded-For`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_header: Option<String>,
}

/// A checked configuration.
pub struct Settings {
    /// The data folder.
    pub dir: PathBuf,
    /// The MSP.
    pub domain: Domain,
    /// Origin of the DP's log.
    pub origin: Origin,
    /// The file with the MSP's key. It is read for each signature, so that a new key is used as soon as it is in place.
    pub key: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Certificate and key: without them it does not listen beyond loopback. [`Settings::load`] leaves it empty.
    pub tls: Option<TlsFiles>,
    /// The proxies that say whose request it is.
    pub proxies: Proxies,
    /// Whose certificates are believed besides, when the log is read. [`Settings::load`] leaves it empty.
    pub roots: ExtraRoots,
    /// The log to watch: its URL prefix and whom to believe about it.
    pub log: Option<(String, Trust)>,
    /// The DP's URL, to relay look-ups to.
    pub dp: Option<String>,
    /// Look-ups a day that are relayed for each user; at least [`LOOKUPS_PER_DAY_MIN`].
    pub lookups_per_day: u32,
    /// How long users have to claim a hit.
    pub renew_within_ms: u64,
    /// Time between looks at the log.
    pub poll_ms: u64,
    /// Labels of the log that are held at most; a log with more is not followed further. [`Settings::load`] says
    /// [`LABELS_MAX`].
    pub labels_max: usize,
    /// Requests a minute from one address and its neighbours. [`Settings::load`] says [`REQUESTS_A_MINUTE`].
    pub requests_a_minute: Shares,
    /// New accounts from one address and its neighbours. [`Settings::load`] says [`NEW_ACCOUNTS`].
    pub new_accounts: StayingShares,
}

/// Makes an MSP's key and the entry that its DP is to log. Refuses to overwrite.
///
/// # Errors
/// In words.
pub fn init(dir: &Path, domain: &Domain, origin: &Origin, publishes: bool, class: u8) -> anyhow::Result<PathBuf> {
    durable::private_folder(dir)?;
    let secret = SecretKey::from_seed(&*keyfile::create(&dir.join(keys::KEY))?);
    let file = MspFile {
        domain: domain.as_str().to_owned(),
        origin: origin.as_str().to_owned(),
        trusted_proxies: vec![],
        proxy_header: None,
    };
    durable::replace(&dir.join("msp.toml"), toml::to_string_pretty(&file)?.as_bytes())?;
    let entry = crate::init::provider_entry(domain, ProviderRole::MSP, publishes, class, origin, &secret);
    let path = dir.join(format!("{domain}.provider"));
    durable::replace(&path, &Entry::Provider(entry).encode())?;
    Ok(path)
}

/// Whose folder this is, and for which log.
///
/// # Errors
/// [`ConfigError`].
pub fn identity(dir: &Path) -> Result<(Domain, Origin), ConfigError> {
    read(dir).map(|(domain, origin, _)| (domain, origin))
}

/// What msp.toml says.
fn read(dir: &Path) -> Result<(Domain, Origin, Proxies), ConfigError> {
    let path = dir.join("msp.toml");
    let file: MspFile = config::load(&path)?;
    let proxies = Proxies::new(&file.trusted_proxies, file.proxy_header.as_deref());
    let proxies = proxies.map_err(|what| ConfigError::new(&path, what))?;
    let domain = Domain::parse(&file.domain).ok_or_else(|| ConfigError::new(&path, "domain: not a domain"))?;
    let origin = Origin::new(&file.origin).map_err(|e| ConfigError::new(&path, e))?;
    Ok((domain, origin, proxies))
}

impl Settings {
    /// Reads an MSP's folder.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(dir: &Path, listen: SocketAddr, log: Option<(String, Trust)>) -> Result<Self, ConfigError> {
        let (domain, origin, proxies) = read(dir)?;
        let key = dir.join(keys::KEY);
        keyfile::load(&key).map_err(|e| ConfigError::new(&key, e))?;
        Ok(Self {
            dir: dir.to_owned(),
            domain,
            origin,
            key,
            listen,
            tls: None,
            proxies,
            roots: ExtraRoots::default(),
            log,
            dp: None,
            lookups_per_day: LOOKUPS_PER_DAY_DEFAULT,
            renew_within_ms: RENEW_WITHIN_MS_DEFAULT,
            poll_ms: 1000,
            labels_max: LABELS_MAX,
            requests_a_minute: REQUESTS_A_MINUTE,
            new_accounts: NEW_ACCOUNTS,
        })
    }
}

struct App {
    domain: Domain,
    origin: Origin,
    key: PathBuf,
    clock: Clock,
    nonces: Nonces,
    requests: AddressBudget,
    new_accounts: StayingBudget,
    accounts: Accounts,
    watching: Watching,
    relay: Option<Relay>,
}

/// An adapter that is running.
pub struct Running {
    server: Server,
    watcher: Option<JoinHandle<()>>,
    app: Arc<App>,
}

/// Starts an adapter.
///
/// # Errors
/// What listening said, or that the accounts cannot be read.
pub async fn start(settings: Settings, clock: Clock) -> io::Result<Running> {
    let listener = listen::bind_tls(settings.listen, settings.tls.as_ref()).await?.behind(settings.proxies.clone());
    leftovers::sweep(&settings.dir);
    let fetcher = Fetcher::with_roots(Duration::from_secs(REQUEST_S_MAX), &settings.roots);
    let follows = settings.log.is_some();
    let relay = settings.dp.as_ref().map(|url| {
        // One client for all users: the DP sees connections of the MSP, not of anybody.
        let (domain, origin) = (settings.domain.clone(), settings.origin.clone());
        let dp = ProviderClient::new(fetcher.clone(), url, origin.clone(), clock.clone(), domain);
        Relay::new(dp, origin, settings.lookups_per_day)
    });
    let app = Arc::new(App {
        accounts: Accounts::open(&settings.dir.join("accounts"))?,
        watching: {
            let (domain, origin) = (settings.domain.clone(), settings.origin.clone());
            let labels_max = settings.labels_max;
            Watching::open(&settings.dir, domain, origin, settings.renew_within_ms, follows)?
                .with_labels_max(labels_max)
        },
        domain: settings.domain,
        origin: settings.origin,
        key: settings.key,
        clock: clock.clone(),
        nonces: Nonces::default(),
        requests: AddressBudget::new(MINUTE_MS, settings.requests_a_minute),
        new_accounts: StayingBudget::new(settings.new_accounts),
        relay,
    });
    let router = Router::new()
        .route("/v1/consents", post(consent))
        .route("/v1/watch-lists", post(watch_list))
        .route("/v1/notices", post(notices))
        .route("/v1/relay/lookups", post(relay_look_up))
        .route("/status", get(status))
        .with_state(Arc::clone(&app))
        .merge(problem::pages(problems()));
    let server = listen::serve(listener, listen::with_problems(router))?;
    let fetcher = Fetcher::with_roots(Duration::from_secs(REQUEST_S_MAX), &settings.roots);
    let watcher = settings.log.map(|(url, trust)| {
        let app = Arc::clone(&app);
        tokio::spawn(async move { app.watching.follow(fetcher, &url, &trust, settings.poll_ms, &app.clock).await })
    });
    Ok(Running { server, watcher, app })
}

impl Running {
    /// Its URL.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// How many notices are kept: hits on users' watch-lists that nobody claimed.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn told(&self) -> io::Result<u64> {
        self.app.watching.told()
    }

    /// The entries that they are about, each once, by leaf hash. Reads all of them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn unexpected(&self) -> io::Result<BTreeSet<Hash>> {
        self.app.watching.unexpected()
    }

    /// How far it has followed the log.
    pub fn followed(&self) -> u64 {
        self.app.watching.size()
    }

    /// Stops it.
    pub async fn stop(self) {
        if let Some(watcher) = self.watcher {
            watcher.abort();
            let _ = watcher.await;
        }
        self.server.stop().await;
        self.app.watching.close();
    }
}

async fn consent(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Capped<CONSENT_BYTES_MAX>, Problem>,
) -> Result<Response<Body>, Problem> {
    app.enter(peer.ip())?;
    problem::check_media_type(&headers, CONSENT_MEDIA_TYPE)?;
    let body = body?.0;
    let request: ConsentRequest = decode("request for consent", &body).map_err(|e| error::undecoded(&e))?;
    let consent = app.judge(peer.ip(), &headers, &body, &request)?;
    let mut response = Response::new(Body::from(encode(&consent)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONSENT_MEDIA_TYPE));
    Ok(response)
}

async fn watch_list(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Capped<WATCH_LIST_BYTES_MAX>, Problem>,
) -> Result<StatusCode, Problem> {
    app.enter(peer.ip())?;
    problem::check_media_type(&headers, WATCH_LIST_MEDIA_TYPE)?;
    let (body, now) = (body?.0, app.clock.now());
    let list = WatchList::decode(&body).map_err(|e| error::undecoded(&e))?;
    // A renewal is signed by the holder of the list, and that is enough.
    let account = if app.watching.holds(&list.id) {
        None
    } else {
        Some(app.nonces.authenticate(&app.origin, &headers, "/v1/watch-lists", &body, now)?)
    };
    let account = account.filter(|key| app.accounts.knows(key));
    app.watching.import(list, account, now).map_err(|e| match e {
        ImportRefused::Full => Problem::new(problem::BUSY, "No more lists are held here."),
        ImportRefused::NoAccount => Problem::new(NO_ACCOUNT, NO_ACCOUNT_YET),
        ImportRefused::AccountFull => Problem::new(ACCOUNT_LISTS, format!("{e}.")),
        ImportRefused::TooOften(seconds) => Problem::new(problem::TOO_MANY, format!("{e}.")).retry_after(seconds),
        ImportRefused::Rule(WatchRefused::Logged) => {
            Problem::new(WATCH_LIST_LOGGED, "Look at the record again, and make a new list.")
        }
        ImportRefused::Rule(why @ (WatchRefused::Ahead | WatchRefused::Open)) => {
            Problem::new(problem::BUSY, format!("{why}. Hand it in again in a while.")).retry_after(AHEAD_RETRY_S)
        }
        ImportRefused::NotYet => Problem::new(problem::BUSY, "The log is still being read.").retry_after(1),
        ImportRefused::Rule(e) => Problem::new(WATCH_LIST_REFUSED, e.to_string()),
        ImportRefused::Io(e) => internal(&e),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

async fn notices(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Capped<JSON_BYTES_MAX>, Problem>,
) -> Result<Json<NoticesAnswer>, Problem> {
    app.enter(peer.ip())?;
    problem::check_media_type(&headers, JSON_MEDIA_TYPE)?;
    let body = body?.0;
    let holder = app.nonces.authenticate(&app.origin, &headers, "/v1/notices", &body, app.clock.now())?;
    let malformed = || Problem::new(problem::MALFORMED, "Name a list in hex, and from which entry on.");
    let request: NoticesRequest = read_object(&body).map_err(|_| malformed())?;
    let list = HEXLOWER.decode(request.list.as_bytes()).ok().and_then(|b| b.try_into().ok());
    let list = WatchId(list.ok_or_else(malformed)?);
    // The same answer whether there is no such list or it is somebody else's.
    let notices = app.watching.notices(&list, &holder, request.after).map_err(|e| internal(&e))?;
    let (notices, beyond) = notices.ok_or_else(|| Problem::new(NO_LIST, "Hand the list in first."))?;
    let view = |n: &notices::Notice| NoticeView {
        list: request.list.clone(),
        entry: n.place.index,
        leaf: n.place.leaf.to_hex(),
        head_time_ms: n.time.get(),
        what_to_do: WHAT_TO_DO.to_owned(),
    };
    Ok(Json(NoticesAnswer { notices: notices.iter().map(view).collect(), beyond }))
}

async fn relay_look_up(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Capped<JSON_BYTES_MAX>, Problem>,
) -> Result<Response<Body>, Problem> {
    app.enter(peer.ip())?;
    let relay = app.relay.as_ref().ok_or_else(|| Problem::new(NO_RELAY, "Ask the directory itself."))?;
    problem::check_media_type(&headers, JSON_MEDIA_TYPE)?;
    let (body, now) = (body?.0, app.clock.now());
    let user = app.nonces.authenticate(&app.origin, &headers, "/v1/relay/lookups", &body, now)?;
    if !app.accounts.knows(&user) {
        return Err(Problem::new(NO_ACCOUNT, NO_ACCOUNT_YET));
    }
    let answer = relay.look_up(user, &body, &app.secret()?, now).await?;
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let media_type = HeaderValue::from_str(&answer.media_type);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type.unwrap_or(HeaderValue::from_static("text/plain")));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A fault of ours: the reason goes to our log, not to the user.
fn internal(error: &dyn std::error::Error) -> Problem {
    tracing::error!(%error, "a request failed");
    Problem::new(problem::INTERNAL, "It has been written to the server's log.")
}

async fn status(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let unexpected = app.watching.told().map_err(|e| internal(&e))?;
    let foreign_keys: Vec<Value> = app.watching.foreign_keys().iter().map(foreign_key).collect();
    Ok(Json(json!({
        "schema": "waymark.msp.status/1",
        "domain": app.domain.as_str(),
        "accounts": app.accounts.len(),
        "watch_lists": app.watching.lists(),
        "followed_size": app.watching.size(),
        "unexpected": unexpected,
        "foreign_keys": foreign_keys,
    })))
}

/// What an operator is told of somebody else's key in the MSP's name.
fn foreign_key(found: &ForeignKey) -> Value {
    json!({
        "entry": found.entry,
        "role": found.role.to_string(),
        "action": format!("{:?}", found.action).to_lowercase(),
        "key": found.key.to_hex(),
        "due_ms": found.due.get(),
        "what_to_do": FOREIGN_KEY_WHAT_TO_DO,
    })
}

impl App {
    /// Lets a request in, before anything is done for it.
    fn enter(&self, address: IpAddr) -> Result<(), Problem> {
        let too_many = "Too many requests have come from this address or its neighbours in this minute.";
        let count = self.requests.count(address, self.clock.now());
        count.map_err(|seconds| Problem::new(problem::TOO_MANY, too_many).retry_after(seconds))
    }

    /// Consents to a mapping of one of this MSP's own users.
    fn judge(
        &self,
        address: IpAddr,
        headers: &HeaderMap,
        body: &[u8],
        request: &ConsentRequest,
    ) -> Result<Consent, Problem> {
        let (mapping, now) = (&request.mapping, self.clock.now());
        let signer = self.nonces.authenticate(&self.origin, headers, "/v1/consents", body, now)?;
        if signer != mapping.recipient {
            return Err(Problem::new(problem::SIGNATURE_INVALID, "Sign the request with the mapping's recipient key."));
        }
        if mapping.msp.get().as_ref() != Some(&self.domain) {
            return Err(Problem::new(error::OTHER_MSP, format!("This is {}.", self.domain)));
        }
        mapping.verify(&self.origin).map_err(|e| Problem::new(error::MAPPING_INVALID, e.to_string()))?;
        let admit = || self.new_accounts.count(address, now);
        self.accounts.claim(&mapping.account, &mapping.recipient, admit).map_err(|e| match e {
            ClaimRefused::Taken => Problem::new(ACCOUNT_TAKEN, "Another app is registered for this account."),
            ClaimRefused::Full => Problem::new(problem::BUSY, "No more accounts are held here."),
            ClaimRefused::TooMany(seconds) => Problem::new(
                problem::TOO_MANY,
                "As many new accounts have come from this address or its neighbours as are taken for now.",
            )
            .retry_after(seconds),
            ClaimRefused::Io(e) => internal(&e),
        })?;
        Ok(self.sign(&self.secret()?, mapping, &request.salt, now))
    }

    /// The MSP's key as it is now: after a rotation the new one, without a restart.
    fn secret(&self) -> Result<SecretKey, Problem> {
        keyfile::load(&self.key).map(|seed| SecretKey::from_seed(&seed)).map_err(|e| internal(&e))
    }

    fn sign(&self, secret: &SecretKey, mapping: &Mapping, salt: &Salt, now: UnixMillis) -> Consent {
        let mut consent = Consent {
            format: Format,
            msp: self.domain.clone(),
            msp_key: secret.public(),
            blinded: blind(salt, &encode(mapping)),
            expiry: Consent::expiry_of(now),
            sig: UNSIGNED,
        };
        consent.sign(&self.origin, secret);
        consent
    }
}
