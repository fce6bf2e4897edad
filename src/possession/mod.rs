//! Proving possession of a CSI by a code or a link: start, deliver, check, attest.
//!
//! ```text
//!           start ──▶ open ──── right code ─────────────▶ attested, once, and over
//!                      │  ╲
//!                      │   ── link opened ──▶ approved ── next check by the key that started ──▶ attested, once, and over
//!                      ╰──── fifth wrong code, or 10 minutes ──▶ over
//! ```
//!
//! A challenge is bound to recipient key, CSI, tenure, purpose and the log's origin. It lives 10 minutes, allows 5
//! sends and 5 checks, and works once. Starting one asks nothing about the CSI but how many codes went there
//! ([`budget`]), and nobody waits for a delivery: so the answer is the same, and as quick, whether the CSI is known,
//! exists, or neither.
//!
//! **No code is kept.** Code and link are keyed functions of the challenge's name, under a key that the prover's key
//! makes. So every send of a challenge carries the same code: a text message that comes late is as good as the next
//! one, and five sends make guessing no easier.
//!
//! **A challenge survives a restart**, and so does what was sent ([`journal`]): it is on the disk before its code
//! leaves and before it is answered. A code that was still on its way is delivered again, the same one.
//!
//! **A challenge may send nothing** ([`incoming`]): the person sends a message from the number or the mailbox. A
//! check without a code then collects the attestation; of a mail it only has a code sent in answer, beyond those that
//! strangers may use up. So nobody is kept out who has had the codes of a CSI used up by strangers.
//!
//! **A check whose answer was lost is made again** and gets the same attestation, byte for byte, for as long as the
//! challenge would have lived. Any other check finds it over.
//!
//! **A link approves a challenge for the key that started it**, which then collects the attestation by a check without
//! a code. Anybody who opens it may be another person than the one whose app asked. So mail and app show the same
//! reference, and the attestation says that it was a link ([`Method::EMAIL_LINK`]).
//!
//! | module | what it does |
//! |---|---|
//! | [`budget`] | how many codes, pure |
//! | [`mailbox`] | which spellings share one budget |
//! | [`returning`] | who has completed a challenge before |
//! | [`journal`] | open challenges and what was sent, on the disk |
//! | [`sender`] | the ways out: SMTP, an HTTP gateway, development |
//! | [`message`] | what the messages say |
//! | [`incoming`] | proofs that send nothing |
//! | [`outbox`] | deliveries that nobody waits for |
//! | [`config`] | `[codes]` |

pub mod budget;
pub mod config;
pub mod incoming;
pub mod journal;
pub mod mailbox;
pub mod message;
pub mod outbox;
pub mod returning;
pub mod sender;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use data_encoding::HEXLOWER;
use tokio::task::JoinSet;
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
use waymark_runtime::{clock::Clock, random};

use self::{
    budget::{Ask, Budget, Paid, Prefix, Spent},
    config::Proving,
    incoming::Incoming,
    journal::{Ended, Event, Journal, Kept, Op, Written},
    outbox::{Outbox, Place, Progress},
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

/// Whether what lasts [`CHALLENGE_MS`] is over. An end that is further ahead was set by a clock that was wrong, and would
/// be kept for as long as that clock was ahead. Twice the time, so that a clock that is set back a little ends nothing.
fn is_over(end: UnixMillis, now: UnixMillis) -> bool {
    end <= now || end.since(now) > 2 * CHALLENGE_MS
}

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
    /// Where its code is.
    pub progress: Progress,
    /// It sends nothing: a message is to come.
    pub is_incoming: bool,
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
        /// Where its code is. None: nothing was sent, a message is to come.
        progress: Option<Progress>,
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
    /// The disk did not take it.
    #[error("the challenge could not be written to the disk")]
    NotKept,
}

struct Challenge {
    claim: Claim,
    channel: Channel,
    sender: Arc<dyn Sender>,
    /// The codes that were charged for it. None where nothing is charged.
    codes: Vec<Paid>,
    expiry: UnixMillis,
    sends_left: u8,
    checks_left: u8,
    /// Its link was opened.
    is_approved: bool,
    /// Its latest code has been taken by the mail server or the gateway.
    is_delivered: bool,
    progress: Progress,
    /// It sends nothing: a message is to come.
    is_incoming: bool,
    /// It has ended well, and is kept for the check that is made again because its answer was lost.
    ended: Option<Ended>,
}

impl Challenge {
    fn open(&self, id: ChallengeId) -> Open {
        let Self { channel, expiry, sends_left, checks_left, progress, is_incoming, .. } = *self;
        Open { id, channel, expiry, sends_left, checks_left, progress, is_incoming }
    }

    fn is_open(&self, now: UnixMillis) -> bool {
        self.ended.is_none() && !is_over(self.expiry, now)
    }

    /// Where its code is, if one was sent.
    fn told(&self) -> Option<Progress> {
        (!self.is_incoming).then_some(self.progress)
    }

    /// The number of its latest send.
    fn send(&self) -> u8 {
        SENDS_MAX - self.sends_left
    }

    fn kept(&self) -> Kept {
        let Claim { csi, recipient, tenure, purpose } = &self.claim;
        Kept {
            csi: csi.expose().to_owned(),
            recipient: *recipient.as_bytes(),
            tenure: *tenure,
            is_control: *purpose == Purpose::Control,
            channel: self.channel,
            codes: self.codes.clone(),
            expiry: self.expiry,
            sends_left: self.sends_left,
            checks_left: self.checks_left,
            is_approved: self.is_approved,
            is_delivered: self.is_delivered,
            is_incoming: self.is_incoming,
            ended: self.ended,
        }
    }

    /// Reads one back, if its channel is still served.
    fn restore(kept: Kept, senders: &Senders) -> Option<Self> {
        let csi = Csi::parse(&kept.csi).ok()?;
        let (channel, sender) = senders.route(&csi, Some(kept.channel))?;
        let purpose = if kept.is_control { Purpose::Control } else { Purpose::View };
        let claim = Claim { csi, recipient: Key::new(kept.recipient), tenure: kept.tenure, purpose };
        let Kept { codes, expiry, sends_left, checks_left, is_approved, is_delivered, is_incoming, ended, .. } = kept;
        let progress = Progress::Sent;
        Some(Self {
            claim,
            channel,
            sender,
            codes,
            expiry,
            sends_left,
            checks_left,
            is_approved,
            is_delivered,
            progress,
            is_incoming,
            ended,
        })
    }
}

/// Times in what is kept.
mod millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use waymark_log::time::UnixMillis;

    pub fn serialize<S: Serializer>(time: &UnixMillis, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.get())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixMillis, D::Error> {
        u64::deserialize(deserializer).map(UnixMillis::new)
    }
}

struct State {
    challenges: HashMap<ChallengeId, Challenge>,
    swept: UnixMillis,
    /// `None` where nothing is sent.
    budget: Option<Budget>,
    returning: Returning,
    journal: Journal,
}

/// Challenges, and who attests what comes of them.
pub struct Possession {
    state: Arc<Mutex<State>>,
    /// Codes, links and digests are functions of it.
    secret_key: [u8; 32],
    senders: Senders,
    outbox: Outbox,
    incoming: Arc<Incoming>,
    /// Forgets what is over, also while nobody comes. Dropping it ends that.
    _sweeper: JoinSet<()>,
    link_url: String,
    identity: Identity,
    /// How messages name the prover.
    named: String,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Possession {
    /// A prover that goes on where the one before it in this folder ended: with its open challenges, with what was
    /// sent, and with who has completed one before. Codes that were on their way are delivered again.
    ///
    /// # Errors
    /// If what is kept in the folder cannot be opened.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn open(proving: Proving, identity: Identity, folder: &Path, clock: &Clock) -> io::Result<Self> {
        let Proving { senders, limits, link_url, incoming } = proving;
        let (now, incoming) = (clock.now(), Arc::new(incoming));
        let seed = identity.secret.to_seed();
        let (returning, (journal, kept)) = (Returning::open(folder, &seed)?, Journal::open(folder, &seed, now)?);
        let budget = limits.map(Budget::new);
        let mut state = State { challenges: HashMap::new(), swept: now, budget, returning, journal };
        if let Some(kept) = kept {
            state.replay(kept, &senders, now);
        }
        let secret_key = blake3::derive_key("waymark 2026 codes", &*seed);
        let (named, outbox, state) = (identity.domain.to_string(), Outbox::default(), Arc::new(Mutex::new(state)));
        let mut sweeper = JoinSet::new();
        sweeper.spawn(sweep(Arc::downgrade(&state), Arc::clone(&incoming), clock.clone()));
        let possession =
            Self { state, secret_key, senders, outbox, incoming, _sweeper: sweeper, link_url, identity, named };
        possession.deliver_again(&possession.state());
        Ok(possession)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The state, once it is known what an earlier program has kept: without that, budgets would begin again.
    fn read_state(&self, now: UnixMillis) -> Result<MutexGuard<'_, State>, PossessionError> {
        let mut state = self.state();
        if !state.journal.is_read() {
            let kept = state.journal.read_again(now).ok_or(PossessionError::NotKept)?;
            state.replay(kept, &self.senders, now);
            self.deliver_again(&state);
        }
        Ok(state)
    }

    /// Delivers what was on its way when the program ended.
    fn deliver_again(&self, state: &State) {
        let undelivered = state.challenges.iter().filter(|(_, c)| !c.is_delivered);
        for (id, challenge) in undelivered {
            if let Some(place) = self.outbox.place() {
                self.hand_over(place, Arc::clone(&challenge.sender), self.message(id, challenge));
            }
        }
    }

    /// Starts a challenge and sends its code. `from` is the client's address.
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
        let (open, message, written) = self.begin(claim, channel, Arc::clone(&sender), false, from, now)?;
        written.wait().await.map_err(|_| PossessionError::NotKept)?;
        self.dispatch(place, sender, message).await?;
        Ok(open)
    }

    /// Starts a challenge that sends nothing: the person is to send the text of [`Possession::asked_for`].
    ///
    /// # Errors
    /// [`PossessionError`].
    pub async fn start_incoming(
        &self,
        claim: Claim,
        channel: Option<Channel>,
        from: IpAddr,
        now: UnixMillis,
    ) -> Result<Open, PossessionError> {
        let (channel, sender) = self.senders.route(&claim.csi, channel).ok_or(PossessionError::NotServed)?;
        self.incoming.to(channel).ok_or(PossessionError::NotServed)?;
        let (open, _, written) = self.begin(claim, channel, sender, true, from, now)?;
        written.wait().await.map_err(|_| PossessionError::NotKept)?;
        Ok(open)
    }

    /// Where the person has to send which text, for a challenge that sends nothing.
    pub fn asked_for(&self, open: &Open) -> Option<(String, String)> {
        let to = self.incoming.to(open.channel).filter(|_| open.is_incoming)?;
        Some((to.to_owned(), incoming::text(&self.token(&open.id))))
    }

    /// Charges for a challenge and keeps it.
    fn begin(
        &self,
        claim: Claim,
        channel: Channel,
        sender: Arc<dyn Sender>,
        is_incoming: bool,
        from: IpAddr,
        now: UnixMillis,
    ) -> Result<(Open, Message, Written), PossessionError> {
        let (id, expiry) = (random::bytes(), now.plus_ms(CHALLENGE_MS));
        let mut state = self.read_state(now)?;
        state.sweep(now);
        if state.challenges.len() >= CHALLENGES_MAX {
            return Err(PossessionError::Busy);
        }
        let ask = Ask { is_incoming, ..state.ask(&claim, from) };
        let codes = state.charge(&ask, true, now)?;
        let charged = codes.first().cloned().map(|paid| Event::Charged { paid, is_first: true });
        let challenge = Challenge {
            claim,
            channel,
            codes,
            expiry,
            sends_left: if is_incoming { 0 } else { SENDS_MAX - 1 },
            checks_left: CHECKS_MAX,
            is_approved: false,
            is_delivered: is_incoming || sender.is_local(),
            sender,
            progress: Progress::Sent,
            is_incoming,
            ended: None,
        };
        let written = state.journal.write(vec![Op::Keep(id, Box::new(challenge.kept()))], charged);
        let (open, message) = (challenge.open(id), self.message(&id, &challenge));
        state.challenges.insert(id, challenge);
        Ok((open, message, written))
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
        let (place, sender, open, message, written) = {
            let mut state = self.read_state(now)?;
            let challenge = state.find(id, recipient, now)?;
            if challenge.sends_left == 0 {
                return Err(PossessionError::NoSends { retry_after_s: challenge.expiry.since(now).div_ceil(1000) });
            }
            let (sender, claim) = (Arc::clone(&challenge.sender), challenge.claim.clone());
            let place = self.place(&*sender)?;
            let ask = state.ask(&claim, from);
            let codes = state.charge(&ask, false, now)?;
            let charged = codes.iter().cloned().map(|paid| Event::Charged { paid, is_first: false }).next();
            let challenge = state.find(id, recipient, now)?;
            challenge.sends_left -= 1;
            challenge.codes.extend(codes);
            (challenge.is_delivered, challenge.progress) = (sender.is_local(), Progress::Sent);
            let (open, message) = (challenge.open(*id), self.message(id, challenge));
            let keep = Op::Keep(*id, Box::new(challenge.kept()));
            (place, sender, open, message, state.journal.write(vec![keep], charged))
        };
        written.wait().await.map_err(|_| PossessionError::NotKept)?;
        self.dispatch(place, sender, message).await?;
        Ok(open)
    }

    /// Checks a code for the key that started the challenge; without a code, asks whether its link was opened.
    ///
    /// The check that ended a challenge well may be made again, in case its answer was lost: it gets the same
    /// attestation until the challenge's time is over. Any other check finds the challenge over.
    ///
    /// # Errors
    /// [`PossessionError::NoChallenge`]. A wrong code is none: it costs one check, and the fifth ends the challenge.
    pub async fn check(
        &self,
        id: &ChallengeId,
        recipient: &Key,
        code: Option<&str>,
        now: UnixMillis,
    ) -> Result<Checked, PossessionError> {
        let Judged { checked, written, answer } = self.judge(id, recipient, code, now)?;
        let is_written = match written {
            Some(written) => written.wait().await.is_ok(),
            None => true,
        };
        // What the disk does not take counts all the same, until the next start: to refuse a right code would help
        // nobody. But no code leaves of which the disk does not know.
        let Some((place, sender, message)) = answer else { return Ok(checked) };
        if !is_written {
            if let Ok(challenge) = self.state().find(id, recipient, now) {
                challenge.is_incoming = true;
            }
            return Err(PossessionError::NotKept);
        }
        self.incoming.forget(&self.token(id));
        self.dispatch(place, sender, message).await?;
        Ok(checked)
    }

    /// What a check comes to, and what is being written of that.
    fn judge(
        &self,
        id: &ChallengeId,
        recipient: &Key,
        code: Option<&str>,
        now: UnixMillis,
    ) -> Result<Judged, PossessionError> {
        let mut state = self.read_state(now)?;
        let given = *self
            .keyed(b"same", &[&id[..], &[u8::from(code.is_some())], code.unwrap_or("").as_bytes()].concat())
            .as_bytes();
        if let Some((claim, ended)) = state.ended(id, recipient, now) {
            let is_same = blake3::Hash::from_bytes(ended.given) == given;
            let attestation = is_same.then(|| self.attest(id, claim.clone(), ended));
            return attestation.map(Judged::approved).ok_or(PossessionError::NoChallenge);
        }
        let challenge = state.find(id, recipient, now)?;
        // blake3::Hash compares in constant time. Where nothing was sent there is no code to guess.
        let is_right = code.is_some_and(|c| self.digest(id, c) == self.digest(id, &self.code(id)));
        let is_right = is_right && !challenge.is_incoming;
        let has_come = challenge.is_incoming && self.incoming.has_come(&self.token(id), &challenge.claim.csi);
        if has_come && challenge.channel == Channel::Email {
            return self.answer_mail(&mut state, id, recipient, now);
        }
        let is_development = challenge.sender.method(challenge.channel) == Method::CONSOLE;
        let method = if has_come {
            if is_development { Method::CONSOLE } else { Method::INCOMING }
        } else if challenge.is_approved {
            Method::EMAIL_LINK
        } else if is_right {
            challenge.sender.method(challenge.channel)
        } else {
            challenge.checks_left -= u8::from(code.is_some());
            let (checks_left, progress) = (challenge.checks_left, challenge.told());
            let keep = Op::Keep(*id, Box::new(challenge.kept()));
            let op = if checks_left == 0 { state.end(id).map(|_| Op::Drop(*id)) } else { code.map(|_| keep) };
            let written = op.map(|op| state.journal.write(vec![op], None));
            return Ok(Judged { checked: Checked::Pending { checks_left, progress }, written, answer: None });
        };
        let ended = Ended { method: method.0, at: now, given };
        let (claim, written) = state.end_well(id, recipient, ended, now)?;
        self.incoming.forget(&self.token(id));
        Ok(Judged { written: Some(written), ..Judged::approved(self.attest(id, claim, ended)) })
    }

    /// A mail has come from the mailbox itself: it has the challenge's code sent there. The mail alone proves
    /// nothing, since many a mail program sends one with words of a stranger's ([`incoming`]).
    fn answer_mail(
        &self,
        state: &mut State,
        id: &ChallengeId,
        recipient: &Key,
        now: UnixMillis,
    ) -> Result<Judged, PossessionError> {
        let challenge = state.find(id, recipient, now)?;
        let (sender, claim) = (Arc::clone(&challenge.sender), challenge.claim.clone());
        let place = self.place(&*sender)?;
        let from = challenge.codes.first().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |paid| paid.ask.address);
        // Not the account of all spellings: another one of them may be a neighbour's mailbox.
        let csi = state.returning.digest_exact(&claim.csi);
        let ask = Ask { csi, is_answer: true, ..state.ask(&claim, from) };
        let codes = state.charge(&ask, false, now)?;
        let charged = codes.iter().cloned().map(|paid| Event::Charged { paid, is_first: false }).next();
        let challenge = state.find(id, recipient, now)?;
        challenge.codes.extend(codes);
        (challenge.is_incoming, challenge.is_delivered) = (false, sender.is_local());
        let checked = Checked::Pending { checks_left: challenge.checks_left, progress: challenge.told() };
        let (message, keep) = (self.message(id, challenge), Op::Keep(*id, Box::new(challenge.kept())));
        let written = Some(state.journal.write(vec![keep], charged));
        Ok(Judged { checked, written, answer: Some((place, sender, message)) })
    }

    /// Approves a challenge by the secret in its link. Opening it again changes nothing.
    ///
    /// # Errors
    /// [`PossessionError::NoChallenge`], for a wrong secret too: with 128 bits, guesses need not be counted.
    pub async fn confirm(&self, id: &ChallengeId, secret: &str, now: UnixMillis) -> Result<(), PossessionError> {
        let is_right = self.digest(id, secret) == self.digest(id, &self.link_secret(id));
        let written = {
            let mut state = self.read_state(now)?;
            let challenge =
                state.challenges.get_mut(id).filter(|c| c.is_open(now) && c.sender.carries_links() && !c.is_incoming);
            let challenge = challenge.filter(|_| is_right).ok_or(PossessionError::NoChallenge)?;
            challenge.is_approved = true;
            let keep = Op::Keep(*id, Box::new(challenge.kept()));
            state.journal.write(vec![keep], None)
        };
        let _ = written.wait().await;
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
            Some(place) => self.hand_over(place, sender, message),
            None => sender.deliver(&message).await?,
        }
        Ok(())
    }

    /// Gives a message to the outbox, which tells how far it has come.
    fn hand_over(&self, place: Place, sender: Arc<dyn Sender>, message: Message) {
        let (state, id, send) = (Arc::downgrade(&self.state), message.id, message.send);
        self.outbox.deliver(place, sender, message, move |progress, is_over| {
            if let Some(state) = state.upgrade() {
                lock(&state).delivered(&id, send, progress, is_over);
            }
        });
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
            send: challenge.send(),
            expiry: challenge.expiry,
        }
    }

    /// The attestation of a challenge that has ended well: the same bytes each time.
    fn attest(&self, id: &ChallengeId, claim: Claim, ended: Ended) -> Attestation {
        let Identity { domain, secret, origin } = &self.identity;
        let nonce = self.keyed(b"once", &[&id[..], &ended.at.get().to_be_bytes()].concat());
        let mut attestation = Attestation {
            format: Format,
            csi: claim.csi,
            recipient: claim.recipient,
            tenure: claim.tenure,
            purpose: claim.purpose,
            method: Method(ended.method),
            prover: domain.clone(),
            prover_key: secret.public(),
            time: ended.at,
            expiry: ended.at.plus_ms(ATTESTATION_MS),
            nonce: *nonce.as_bytes().first_chunk().expect("32 bytes have 16"),
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

    /// What a message that comes in is recognised by: 64 bits in hex.
    fn token(&self, id: &ChallengeId) -> String {
        incoming::token(&HEXLOWER.encode(self.keyed(b"come", id).as_bytes()))
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
        let challenge = self.challenges.get_mut(id).filter(|c| c.claim.recipient == *recipient && c.is_open(now));
        challenge.ok_or(PossessionError::NoChallenge)
    }

    /// A challenge of this key that has ended well a short while ago.
    fn ended(&self, id: &ChallengeId, recipient: &Key, now: UnixMillis) -> Option<(&Claim, Ended)> {
        let challenge = self.challenges.get(id)?;
        let is_theirs = challenge.claim.recipient == *recipient && !is_over(challenge.expiry, now);
        challenge.ended.filter(|_| is_theirs).map(|ended| (&challenge.claim, ended))
    }

    /// Ends a challenge well, once: its claim, and what is being written of that.
    fn end_well(
        &mut self,
        id: &ChallengeId,
        recipient: &Key,
        ended: Ended,
        now: UnixMillis,
    ) -> Result<(Claim, Written), PossessionError> {
        let challenge = self.find(id, recipient, now)?;
        // A code that is still on its way need not be delivered again.
        (challenge.ended, challenge.is_delivered) = (Some(ended), true);
        challenge.sender.forget(id);
        let (claim, codes) = (challenge.claim.clone(), std::mem::take(&mut challenge.codes));
        let keep = Op::Keep(*id, Box::new(challenge.kept()));
        let completed = self.completed(&claim, codes, now);
        Ok((claim, self.journal.write(vec![keep], completed)))
    }

    fn end(&mut self, id: &ChallengeId) -> Option<Challenge> {
        let challenge = self.challenges.remove(id)?;
        challenge.sender.forget(id);
        Some(challenge)
    }

    /// Forgets challenges whose time is over, if it has not just done so.
    fn sweep(&mut self, now: UnixMillis) {
        // The difference both ways: after a clock that was ahead, it would else not sweep until that time has come.
        if now.get().abs_diff(self.swept.get()) < SWEEP_MS && self.challenges.len() < CHALLENGES_MAX {
            return;
        }
        self.swept = now;
        // What ended well is kept for those who have lost an answer: nobody is refused for want of its place.
        let is_full = self.challenges.len() >= CHALLENGES_MAX;
        let is_over = |c: &Challenge| is_over(c.expiry, now) || (is_full && c.ended.is_some());
        let over: Vec<ChallengeId> = self.challenges.iter().filter(|(_, c)| is_over(c)).map(|(id, _)| *id).collect();
        let ops: Vec<Op> = over.iter().filter_map(|id| self.end(id).map(|_| Op::Drop(*id))).collect();
        // Nobody waits: what is not written is dropped at the next start.
        drop(self.journal.write(ops, Some(Event::Swept { at: now })));
    }

    /// What was kept by the program that ended.
    fn replay(&mut self, kept: journal::Replay, senders: &Senders, now: UnixMillis) {
        for event in kept.events {
            match (event, &mut self.budget) {
                (Event::Charged { paid, is_first }, Some(budget)) => budget.put(&paid, is_first),
                (Event::Completed { codes, at }, Some(budget)) => budget.completed(&codes, at),
                _ => {}
            }
        }
        let mut ops = vec![];
        for (id, kept) in kept.challenges {
            let expiry = kept.expiry;
            match Challenge::restore(kept, senders) {
                Some(challenge) if !is_over(expiry, now) => drop(self.challenges.insert(id, challenge)),
                challenge => {
                    ops.push(Op::Drop(id));
                    if let Some(challenge) = challenge {
                        challenge.sender.forget(&id);
                    }
                }
            }
        }
        // A start writes nothing where nothing is over: it needs no room.
        drop(self.journal.write(ops, None));
    }

    fn ask(&self, claim: &Claim, address: IpAddr) -> Ask {
        let key = self.returning.digest_key(&claim.recipient, &claim.csi);
        let (csi, returning) = (self.returning.digest_csi(&claim.csi), self.returning.contains(&key));
        Ask { address, csi, key, returning, prefix: Prefix::of(&claim.csi), is_incoming: false, is_answer: false }
    }

    /// What was charged: nothing where nothing is sent. Nobody is charged while the disk takes nothing: what they pay for does not leave.
    fn charge(&mut self, ask: &Ask, is_first: bool, now: UnixMillis) -> Result<Vec<Paid>, PossessionError> {
        if !self.journal.has_room(now) {
            return Err(PossessionError::NotKept);
        }
        let paid = self.budget.as_mut().map(|b| b.charge(ask, is_first, now)).transpose()?;
        Ok(paid.into_iter().collect())
    }

    /// A challenge ended well: what is to be kept of that.
    fn completed(&mut self, claim: &Claim, codes: Vec<Paid>, now: UnixMillis) -> Option<Event> {
        let budget = self.budget.as_mut()?;
        budget.completed(&codes, now);
        self.returning.insert(self.returning.digest_key(&claim.recipient, &claim.csi));
        Some(Event::Completed { codes, at: now })
    }

    /// How far a code has come.
    fn delivered(&mut self, id: &ChallengeId, send: u8, progress: Progress, is_over: bool) {
        let Some(challenge) = self.challenges.get_mut(id).filter(|c| c.send() == send && c.ended.is_none()) else {
            return;
        };
        (challenge.progress, challenge.is_delivered) = (progress, is_over);
        if is_over {
            let keep = Op::Keep(*id, Box::new(challenge.kept()));
            // Nobody waits: what is not written is delivered a second time.
            drop(self.journal.write(vec![keep], None));
        }
    }
}

/// Forgets what is over for as long as there is something that could be over.
async fn sweep(state: Weak<Mutex<State>>, incoming: Arc<Incoming>, clock: Clock) {
    loop {
        tokio::time::sleep(Duration::from_millis(SWEEP_MS)).await;
        let (Some(state), now) = (state.upgrade(), clock.now()) else { return };
        lock(&state).sweep(now);
        incoming.sweep(now);
    }
}

/// What a check came to.
struct Judged {
    checked: Checked,
    /// What is being written of that.
    written: Option<Written>,
    /// The code that a mail has sent for, once that is written.
    answer: Option<(Option<Place>, Arc<dyn Sender>, Message)>,
}

impl Judged {
    fn approved(attestation: Attestation) -> Self {
        Self { checked: Checked::Approved(Box::new(attestation)), written: None, answer: None }
    }
}

#[cfg(test)]
mod tests;
