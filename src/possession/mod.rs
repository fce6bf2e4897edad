//! Proving possession of a CSI by a code or a link: start, deliver, check, attest.
//!
//! ```text
//!           start ──▶ open ──── right code ─────────────▶ attested, once, and over
//!                      │  ╲
//!                      │   ── link opened ──▶ approved ── next check by the key that started ──▶ attested, once, and over
//!                      ╰──── fifth wrong code, or 10 minutes ──▶ over
//! ```
//!
//! A challenge is bound to recipient key, CSI, tenure, purpose and the log's origin. It lives 10 minutes, allows 5 sends and 5
//! checks, and works once. Starting one asks nothing about the CSI but how many codes went there ([`budget`]), and nobody
//! waits for a delivery: so the answer is the same, and as quick, whether the CSI is known, exists, or neither.
//!
//! **No code is kept.** Code and link are keyed functions of the challenge's name under a key that is drawn at the start. So
//! every send of a challenge carries the same code: a text message that comes late is as good as the next one, and five sends
//! make guessing no easier. And a restart ends all open challenges: apps start another, as after ten minutes.
//!
//! **A link approves a challenge for the key that started it**, which then collects the attestation by a check without a code.
//! Whoever opens it may be another person than the one whose app asked. So mail and app show the same reference, and the
//! attestation says that it was a link ([`Method::EMAIL_LINK`]).
//!
//! | module | what it does |
//! |---|---|
//! | [`budget`] | how many codes, pure |
//! | [`returning`] | who has completed a challenge before |
//! | [`sender`] | the ways out: SMTP, an HTTP gateway, development |
//! | [`message`] | what the messages say |
//! | [`outbox`] | deliveries that nobody waits for |
//! | [`config`] | `[codes]` |

pub mod budget;
pub mod config;
pub mod message;
pub mod outbox;
pub mod returning;
pub mod sender;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use data_encoding::HEXLOWER;
use waymark_log::{
    checkpoint::Origin,
    key::{Key, SecretKey},
    time::UnixMillis,
};
use waymark_mapping::{
    identifier::Csi,
    mapping::{Attestation, Method, Purpose},
    names::Domain,
    signed::{SignedStruct, UNSIGNED},
    wire::Format,
};
use waymark_runtime::random;

use self::{
    budget::{Ask, Budget, Prefix, Spent},
    config::Proving,
    outbox::{Outbox, Place},
    returning::Returning,
    sender::{Channel, Message, Sender, SenderError, Senders},
};

/// How long a code works.
pub const CHALLENGE_MS: u64 = 10 * 60 * 1000;
/// Times that a challenge's code is sent.
pub const SENDS_MAX: u8 = 5;
/// Checks that a challenge allows: with six digits, a guesser succeeds once in 200,000 challenges.
pub const CHECKS_MAX: u8 = 5;
/// How long an attestation may be used for a change.
pub const ATTESTATION_MS: u64 = 60 * 60 * 1000;
/// Most challenges at a time, some 500 bytes each.
pub const CHALLENGES_MAX: usize = 100_000;
/// How often challenges that are over are forgotten, identifiers and all.
const SWEEP_MS: u64 = 60_000;

/// Names a challenge.
pub type ChallengeId = [u8; 16];

/// What a challenge is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The identifier.
    pub csi: Csi,
    /// The key that claims it.
    pub recipient: Key,
    /// In which tenure.
    pub tenure: u32,
    /// For what.
    pub purpose: Purpose,
}

/// Who proves possession, and for which log.
pub struct Identity {
    /// Named in attestations.
    pub domain: Domain,
    /// Signs them.
    pub secret: SecretKey,
    /// The log that they are for.
    pub origin: Origin,
}

/// An open challenge, as its app sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its name.
    pub id: ChallengeId,
    /// The way that its codes take.
    pub channel: Channel,
    /// Until when it works.
    pub expiry: UnixMillis,
    /// Sends left.
    pub sends_left: u8,
    /// Checks left.
    pub checks_left: u8,
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Possession is shown.
    Approved(Box<Attestation>),
    /// Not yet.
    Pending {
        /// Checks that are left. None: the challenge is over.
        checks_left: u8,
    },
}

/// Why possession is not proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PossessionError {
    /// No such challenge, or it is over, or it is another key's.
    #[error("there is no such challenge, or it is over")]
    NoChallenge,
    /// This kind of identifier is not reached that way here.
    #[error("this kind of identifier is not reached by that channel here")]
    NotServed,
    /// The challenge has no more sends.
    #[error("the code was sent as often as it may be; the challenge goes on for {retry_after_s} s")]
    NoSends {
        /// When it is over.
        retry_after_s: u64,
    },
    /// The budget.
    #[error(transparent)]
    Spent(#[from] Spent),
    /// Too many challenges, or deliveries, at a time.
    #[error("too many challenges are open")]
    Busy,
    /// A sender on this machine failed.
    #[error(transparent)]
    Sender(#[from] SenderError),
}

struct Challenge {
    claim: Claim,
    channel: Channel,
    sender: Arc<dyn Sender>,
    ask: Ask,
    expiry: UnixMillis,
    sends_left: u8,
    checks_left: u8,
    /// Its link was opened.
    is_approved: bool,
}

impl Challenge {
    fn open(&self, id: ChallengeId) -> Open {
        let Self { channel, expiry, sends_left, checks_left, .. } = *self;
        Open { id, channel, expiry, sends_left, checks_left }
    }
}

struct State {
    challenges: HashMap<ChallengeId, Challenge>,
    swept: UnixMillis,
    /// `None` where nothing is sent.
    budget: Option<Budget>,
    returning: Returning,
}

/// Challenges, and who attests what comes of them.
pub struct Possession {
    state: Mutex<State>,
    /// Drawn at the start: codes, links and digests are functions of it.
    secret_key: [u8; 32],
    senders: Senders,
    outbox: Outbox,
    link_url: String,
    identity: Identity,
    /// How messages name the prover.
    named: String,
}

impl Possession {
    /// A prover with no challenges. `returning` says who has completed one before.
    pub fn new(proving: Proving, identity: Identity, returning: Returning) -> Self {
        let Proving { senders, limits, link_url } = proving;
        let budget = limits.map(Budget::new);
        let state = State { challenges: HashMap::new(), swept: UnixMillis::new(0), budget, returning };
        let named = identity.domain.to_string();
        let (state, outbox) = (Mutex::new(state), Outbox::default());
        Self { state, secret_key: random::bytes(), senders, outbox, link_url, identity, named }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a challenge and sends its code. `from` is the client's address, the last 64 bits of an IPv6 address being zero.
    ///
    /// # Errors
    /// [`PossessionError`]; nothing was sent.
    pub async fn start(
        &self,
        claim: Claim,
        channel: Option<Channel>,
        from: IpAddr,
        now: UnixMillis,
    ) -> Result<Open, PossessionError> {
        let (channel, sender) = self.senders.route(&claim.csi, channel).ok_or(PossessionError::NotServed)?;
        let place = self.place(&*sender)?;
        let (id, expiry) = (random::bytes(), now.plus_ms(CHALLENGE_MS));
        let (open, message) = {
            let mut state = self.state();
            state.sweep(now);
            if state.challenges.len() >= CHALLENGES_MAX {
                return Err(PossessionError::Busy);
            }
            let ask = state.ask(&claim, from);
            state.charge(&ask, true, now)?;
            let sends_left = SENDS_MAX - 1;
            let (checks_left, is_approved) = (CHECKS_MAX, false);
            let sender = Arc::clone(&sender);
            let challenge = Challenge { claim, channel, sender, ask, expiry, sends_left, checks_left, is_approved };
            let told = (challenge.open(id), self.message(&id, &challenge));
            state.challenges.insert(id, challenge);
            told
        };
        self.dispatch(place, sender, message).await?;
        Ok(open)
    }

    /// Sends the code of an open challenge again, by the same channel, for the key that started it.
    ///
    /// # Errors
    /// [`PossessionError`]; nothing was sent.
    pub async fn send_again(
        &self,
        id: &ChallengeId,
        recipient: &Key,
        from: IpAddr,
        now: UnixMillis,
    ) -> Result<Open, PossessionError> {
        let (place, sender, open, message) = {
            let mut state = self.state();
            let challenge = state.find(id, recipient, now)?;
            if challenge.sends_left == 0 {
                return Err(PossessionError::NoSends { retry_after_s: challenge.expiry.since(now).div_ceil(1000) });
            }
            let sender = Arc::clone(&challenge.sender);
            let place = self.place(&*sender)?;
            let ask = Ask { address: from, ..challenge.ask.clone() };
            state.charge(&ask, false, now)?;
            let challenge = state.find(id, recipient, now)?;
            challenge.sends_left -= 1;
            (place, sender, challenge.open(*id), self.message(id, challenge))
        };
        self.dispatch(place, sender, message).await?;
        Ok(open)
    }

    /// Checks a code for the key that started the challenge; without a code, asks whether its link was opened.
    ///
    /// # Errors
    /// [`PossessionError::NoChallenge`]. A wrong code is none: it costs one check, and the fifth ends the challenge.
    pub fn check(
        &self,
        id: &ChallengeId,
        recipient: &Key,
        code: Option<&str>,
        now: UnixMillis,
    ) -> Result<Checked, PossessionError> {
        let (challenge, method) = {
            let mut state = self.state();
            let challenge = state.find(id, recipient, now)?;
            // blake3::Hash compares in constant time.
            let is_right = code.is_some_and(|c| self.digest(id, c) == self.digest(id, &self.code(id)));
            let method = if challenge.is_approved {
                Method::EMAIL_LINK
            } else if is_right {
                challenge.sender.method(challenge.channel)
            } else {
                challenge.checks_left -= u8::from(code.is_some());
                let checks_left = challenge.checks_left;
                if checks_left == 0 {
                    state.end(id);
                }
                return Ok(Checked::Pending { checks_left });
            };
            // Single use.
            let challenge = state.end(id).ok_or(PossessionError::NoChallenge)?;
            state.completed(&challenge, now);
            (challenge, method)
        };
        Ok(Checked::Approved(Box::new(self.attest(challenge.claim, method, now))))
    }

    /// Approves a challenge by the secret in its link. Opening it again changes nothing.
    ///
    /// # Errors
    /// [`PossessionError::NoChallenge`], for a wrong secret too: with 128 bits, guesses need not be counted.
    pub fn confirm(&self, id: &ChallengeId, secret: &str, now: UnixMillis) -> Result<(), PossessionError> {
        let is_right = self.digest(id, secret) == self.digest(id, &self.link_secret(id));
        let mut state = self.state();
        let challenge = state.challenges.get_mut(id).filter(|c| now < c.expiry && c.sender.carries_links());
        let challenge = challenge.filter(|_| is_right).ok_or(PossessionError::NoChallenge)?;
        challenge.is_approved = true;
        Ok(())
    }

    /// A place for a delivery to another machine, before anything is charged for it.
    fn place(&self, sender: &dyn Sender) -> Result<Option<Place>, PossessionError> {
        if sender.is_local() {
            return Ok(None);
        }
        self.outbox.place().map(Some).ok_or(PossessionError::Busy)
    }

    async fn dispatch(
        &self,
        place: Option<Place>,
        sender: Arc<dyn Sender>,
        message: Message,
    ) -> Result<(), PossessionError> {
        match place {
            Some(place) => self.outbox.deliver(place, sender, message),
            None => sender.deliver(&message).await?,
        }
        Ok(())
    }

    fn message(&self, id: &ChallengeId, challenge: &Challenge) -> Message {
        let link = || format!("{}/confirm#{}.{}", self.link_url, HEXLOWER.encode(id), self.link_secret(id));
        Message {
            id: *id,
            to: challenge.claim.csi.clone(),
            channel: challenge.channel,
            prover: self.named.clone(),
            purpose: challenge.claim.purpose,
            code: self.code(id),
            link: challenge.sender.carries_links().then(link),
            send: SENDS_MAX - challenge.sends_left,
            expiry: challenge.expiry,
        }
    }

    fn attest(&self, claim: Claim, method: Method, now: UnixMillis) -> Attestation {
        let Identity { domain, secret, origin } = &self.identity;
        let mut attestation = Attestation {
            format: Format,
            csi: claim.csi,
            recipient: claim.recipient,
            tenure: claim.tenure,
            purpose: claim.purpose,
            method,
            prover: domain.clone(),
            prover_key: secret.public(),
            time: now,
            expiry: now.plus_ms(ATTESTATION_MS),
            nonce: random::bytes(),
            sig: UNSIGNED,
        };
        attestation.sign(origin, secret);
        attestation
    }

    /// Six digits; 10^6 of 2^64, so that none is likelier than another by anything worth naming.
    fn code(&self, id: &ChallengeId) -> String {
        let hash = self.keyed(b"code", id);
        let number = hash.as_bytes().iter().take(8).fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        format!("{:06}", number % 1_000_000)
    }

    /// 128 bits in hex.
    fn link_secret(&self, id: &ChallengeId) -> String {
        HEXLOWER.encode(&self.keyed(b"link", id).as_bytes()[..16])
    }

    fn digest(&self, id: &ChallengeId, given: &str) -> blake3::Hash {
        self.keyed(b"show", &[&id[..], given.as_bytes()].concat())
    }

    fn keyed(&self, what: &[u8; 4], bytes: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret_key);
        hasher.update(what).update(bytes);
        hasher.finalize()
    }
}

impl State {
    /// An open challenge of this key.
    fn find(&mut self, id: &ChallengeId, recipient: &Key, now: UnixMillis) -> Result<&mut Challenge, PossessionError> {
        let challenge = self.challenges.get_mut(id).filter(|c| c.claim.recipient == *recipient && now < c.expiry);
        challenge.ok_or(PossessionError::NoChallenge)
    }

    fn end(&mut self, id: &ChallengeId) -> Option<Challenge> {
        let challenge = self.challenges.remove(id)?;
        challenge.sender.forget(id);
        Some(challenge)
    }

    /// Forgets challenges whose time is over.
    fn sweep(&mut self, now: UnixMillis) {
        if now.since(self.swept) < SWEEP_MS && self.challenges.len() < CHALLENGES_MAX {
            return;
        }
        self.swept = now;
        self.challenges.retain(|id, c| {
            let is_open = now < c.expiry;
            if !is_open {
                c.sender.forget(id);
            }
            is_open
        });
    }

    fn ask(&self, claim: &Claim, address: IpAddr) -> Ask {
        let key = self.returning.digest_key(&claim.recipient, &claim.csi);
        let (csi, returning) = (self.returning.digest_csi(&claim.csi), self.returning.contains(&key));
        Ask { address, csi, key, returning, prefix: Prefix::of(&claim.csi) }
    }

    fn charge(&mut self, ask: &Ask, is_first: bool, now: UnixMillis) -> Result<(), Spent> {
        self.budget.as_mut().map_or(Ok(()), |b| b.charge(ask, is_first, now))
    }

    fn completed(&mut self, challenge: &Challenge, now: UnixMillis) {
        if let Some(budget) = &mut self.budget {
            budget.completed(&challenge.ask, now);
            self.returning.insert(challenge.ask.key);
        }
    }
}

#[cfg(test)]
mod tests;
