//! How many codes are sent, to whom and at whose wish: the core, pure. Time is an argument.
//!
//! Every code that leaves is charged to several accounts at once, and leaves only if each of them has room:
//!
//! | account | charged with |
//! |---|---|
//! | the client's address: an IPv6 /64, /48 and /32, an IPv4 address and its /24 | unfinished codes that it asked for |
//! | the CSI, by keys that are new to it | every code. Hard: with five checks a challenge, it bounds what can be guessed |
//! | a part of that for each /48 and each /24, and for each /32 | so that one source never uses up a CSI's codes alone |
//! | the key that returns, with its CSI | every code: its own |
//! | the country, by its calling code | unfinished codes, see below |
//! | the range: ten thousand numbers that differ in the last four digits | the same |
//! | the total of phone numbers, that of e-mail addresses | the same |
//! | the bill of phone numbers, that of e-mail addresses | every code, in parts for networks. Hard: what is to be paid |
//!
//! Hours and days are those of UTC, so a limit may be met twice around a boundary.
//!
//! **Unfinished codes are what counts**, those that nobody has entered: an attacker's stay so, an honest newcomer's for
//! some seconds. Once its challenge ends well, a code weighs a tenth.
//!
//! **Nobody takes a country from the others.** Range, country and total are shared by strangers, so that a plain limit
//! there would be a door that anybody could close. So a network (an IPv6 /32, an IPv4 /24) may have there as many
//! unfinished codes as the account has left: half of it at most, the next network a quarter, and so on. Where nothing
//! is left, each network may still have [`NARROW`], and one more for each of its codes that was entered. Only when
//! [`Limits::narrow_networks`] networks have unfinished codes there in an hour, or five times as many in a day, a
//! further one waits.
//!
//! **Nobody takes the bill from the others.** Who has a mail domain has any number of mailboxes, and enters the codes
//! of all. So in the bill a code counts whether it was entered or not, and only networks bound what one person gets. One
//! half of the bill is for everybody: a network may have half of what is left of it, times the part that is left. The
//! other half holds a place for each network: when its share is used up, it may have [`BILL_NARROW`] more. So with the
//! defaults no fewer than 1,600 networks close the bill.
//!
//! **A challenge that sends nothing** ([`super::incoming`]) is charged to the address and to a total of its own,
//! never to the CSI. The code that a mail from the mailbox sends for is charged to the bill and to an account of that
//! mailbox that nothing else is charged to: who cannot send mail from there cannot use it up. It is as large as that
//! of the CSI's codes, and so bounds what can be guessed, too.
//!
//! **The breaker.** Anybody who earns from SMS asks for codes that nobody will enter. So the challenges that new keys start
//! are counted by country and range, and so are those that end well. A challenge counts when its time is over: one that
//! is younger is no failure. Once there are enough of them in this hour and the one before and too few ended well,
//! nothing is left there: each network has its [`NARROW`] and no more. That ends by itself, when codes are entered or
//! when the two hours are over.
//!
//! **Those who return** are not held back by the breaker, and a share of range, country, total and bill is kept for
//! them. A key returns if it has completed a challenge for that CSI before ([`super::returning`]): something that only
//! its holder can show. Whether the CSI has mappings is not asked, or a refusal would tell a stranger that it has none.
//!
//! What a refusal tells: that this address, strangers to this CSI, its range, its country or everybody have asked for
//! much. Of the CSI itself it tells one thing, namely that other new keys asked for codes to it in this hour or day.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use waymark_log::time::UnixMillis;
use waymark_mapping::identifier::{Csi, Scheme};
use waymark_runtime::prefix;

use super::{CHALLENGE_MS, is_over};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Digits at the end of a number that its range leaves open.
const RANGE_DIGITS: usize = 4;
/// Most codes a day that may be configured: what is counted is kept in memory, some 1,400 bytes for each code.
pub const BILL_DAY_MAX: u32 = 1_000_000;
/// Most networks that may be let in where nothing is left.
pub const NARROW_NETWORKS_MAX: u32 = 100_000;
/// Most that may be kept for those who return: with more, nobody new comes in.
pub const RESERVE_PERCENT_MAX: u8 = 90;
/// What an unfinished code weighs; one that was entered weighs 1.
const UNFINISHED: u64 = 10;
/// Unfinished codes that a network may have where nothing is left: anybody who mistypes a number can try once more.
pub const NARROW: u32 = 2;
/// Codes of a bill that a network may have an hour and a day when its share is used up, entered or not.
pub const BILL_NARROW: [u32; 2] = [2, 10];
/// A day has places for so many times the networks of an hour: honest networks in which a code stays unfinished come
/// together over a day, and must not take the places of those who come later.
const DAY_NETWORKS: u32 = 5;
/// An IPv6 /64 has this part of what a /48 has, or an IPv4 address, behind which there may be some hundred people.
const HOST_PART: u32 = 10;
/// A /32 or a /24 has so many times what a /48 or an IPv4 address has.
const NETWORK_TIMES: u32 = 2;
/// Of five codes to a CSI, one /48 or /24 has two, one /32 four.
const CSI_PARTS: (u32, u32, u32) = (2, 4, 5);
/// When to ask again where codes on their way decide whether there is room: most are entered within a minute.
const SOON_MS: u64 = 60_000;

/// `[codes.budget]`: codes an hour and a day, and the breaker. Setting one to 0 sends none there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Unfinished codes an hour that one IPv4 address or one IPv6 /48 may have; a /64 has a tenth of it, a /24 or a /32
    /// twice as much. Default 250.
    pub address_hour: u32,
    /// The same, a day. Default 2000.
    pub address_day: u32,
    /// Codes an hour to one CSI, for all keys that are new to it together, and for each key that returns. One /48 or
    /// /24 has two of five, one /32 four. Default 5.
    pub csi_hour: u32,
    /// The same, a day. With ten, a guesser hits one six-digit code in 20,000 days. Default 10.
    pub csi_day: u32,
    /// Unfinished codes an hour to ten thousand numbers that differ in the last four digits, before each network is
    /// held to two. Default 300.
    pub range_hour: u32,
    /// The same, a day. Default 1000.
    pub range_day: u32,
    /// Unfinished codes an hour to one country, by its calling code, before each network is held to two. Default 600.
    pub country_hour: u32,
    /// The same, a day. Default 6000.
    pub country_day: u32,
    /// Unfinished codes an hour to all phone numbers, and as many to all e-mail addresses, before each network is held
    /// to two. Default 2000.
    pub total_hour: u32,
    /// The same, a day. Default 20000.
    pub total_day: u32,
    /// Networks that may have unfinished codes in a range, a country or the total in an hour where nothing is left, and
    /// five times as many in a day: what it costs to close one of them. Default 2000.
    pub narrow_networks: u32,
    /// Codes an hour to all phone numbers, and as many to all e-mail addresses, entered or not: the bill that can be
    /// borne. It is closed by a fifth as many networks. With less than 5000, that is fewer than 1,000. Default 8000.
    pub bill_hour: u32,
    /// The same, a day. It is closed by a twenty-fifth as many networks: with less than 25000, by fewer than 1,000.
    /// Default 40000.
    pub bill_day: u32,
    /// How much of range, country, total and bill is kept for keys that return, per cent. Default 20.
    pub reserve_percent: u8,
    /// Least share of the challenges of new keys that must end well, per cent, or the breaker trips. 0: never. Default
    /// 20.
    pub breaker_percent: u8,
    /// Challenges of a range, started in two hours and over, before its breaker may trip. Default 10.
    pub breaker_range_min: u32,
    /// Challenges of a country, started in two hours and over, before its breaker may trip. Default 100.
    pub breaker_country_min: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            address_hour: 250,
            address_day: 2000,
            csi_hour: 5,
            csi_day: 10,
            range_hour: 300,
            range_day: 1000,
            country_hour: 600,
            country_day: 6000,
            total_hour: 2000,
            total_day: 20_000,
            narrow_networks: 2000,
            bill_hour: 8000,
            bill_day: 40_000,
            reserve_percent: 20,
            breaker_percent: 20,
            breaker_range_min: 10,
            breaker_country_min: 100,
        }
    }
}

impl Limits {
    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// What to mend.
    pub fn check(&self) -> Result<(), String> {
        let pairs = [
            ("address", self.address_hour, self.address_day),
            ("csi", self.csi_hour, self.csi_day),
            ("range", self.range_hour, self.range_day),
            ("country", self.country_hour, self.country_day),
            ("total", self.total_hour, self.total_day),
            ("bill", self.bill_hour, self.bill_day),
        ];
        if let Some((name, ..)) = pairs.iter().find(|(_, hour, day)| hour > day) {
            return Err(format!("budget: {name}_hour is more than {name}_day"));
        }
        if self.bill_day > BILL_DAY_MAX || self.narrow_networks > NARROW_NETWORKS_MAX {
            return Err(format!(
                "budget: bill_day is at most {BILL_DAY_MAX}, narrow_networks at most {NARROW_NETWORKS_MAX}"
            ));
        }
        if self.reserve_percent > RESERVE_PERCENT_MAX || self.breaker_percent > 100 {
            return Err(format!(
                "budget: reserve_percent is at most {RESERVE_PERCENT_MAX}, breaker_percent at most 100"
            ));
        }
        Ok(())
    }

    /// What is kept for those who return, and what is left for all.
    fn split(&self, limit: Limit) -> (Limit, Limit) {
        let kept = limit.map(|n| (u64::from(n) * u64::from(self.reserve_percent) / 100) as u32);
        (kept, [limit[0] - kept[0], limit[1] - kept[1]])
    }

    /// The accounts of the client and of the CSI.
    fn own(&self, ask: &Ask) -> Vec<Charge> {
        let charge = |account, limit, keep| Charge { account, limit, keep };
        let address = [self.address_hour, self.address_day];
        let csi = [self.csi_hour, self.csi_day];
        if ask.is_answer {
            return vec![charge(Account::Answered(ask.csi), csi, Keep::Every)];
        }
        let [host, site, network] = ask.source();
        let host_limit = if ask.is_v4() { address } else { address.map(|n| n.div_ceil(HOST_PART)) };
        let mut charges = vec![
            charge(Account::Source(host), host_limit, Keep::Unfinished),
            charge(Account::Source(network), address.map(|n| n.saturating_mul(NETWORK_TIMES)), Keep::Unfinished),
        ];
        if !ask.is_v4() {
            charges.push(charge(Account::Source(site), address, Keep::Unfinished));
        }
        if ask.is_incoming {
            return charges;
        }
        if ask.returning {
            charges.push(charge(Account::Returning(ask.key), csi, Keep::Every));
        } else {
            let (of_site, of_network, of) = CSI_PARTS;
            let part = |times: u32| csi.map(|n| (n.saturating_mul(times) / of).max(n.min(1)));
            charges.push(charge(Account::Csi(ask.csi), csi, Keep::Every));
            charges.push(charge(Account::CsiFrom(ask.csi, site), part(of_site), Keep::Every));
            if network != site {
                charges.push(charge(Account::CsiFrom(ask.csi, network), part(of_network), Keep::Every));
            }
        }
        charges
    }

    /// The accounts that strangers share, with their limits and how many challenges each needs before its breaker may
    /// trip.
    fn shared(&self, ask: &Ask) -> Vec<(Group, Limit, Option<u32>)> {
        if ask.is_incoming {
            return vec![(Group::Incoming, [self.total_hour, self.total_day], None)];
        }
        let is_phone = ask.prefix.is_some();
        let mut groups = vec![(Group::Bill(is_phone), [self.bill_hour, self.bill_day], None)];
        // What a mail from the mailbox has sent for, strangers do not ask for.
        if ask.is_answer {
            return groups;
        }
        groups.push((Group::Total(is_phone), [self.total_hour, self.total_day], None));
        if let Some(Prefix { country, range }) = ask.prefix {
            let (range_min, country_min) = (self.breaker_range_min, self.breaker_country_min);
            groups.push((Group::Country(country), [self.country_hour, self.country_day], Some(country_min)));
            groups.push((Group::Range(range), [self.range_hour, self.range_day], Some(range_min)));
        }
        groups
    }
}

/// Where a phone number lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    country: u16,
    range: u64,
}

impl Prefix {
    /// Of a phone number; `None` for an e-mail address.
    pub fn of(csi: &Csi) -> Option<Self> {
        if csi.scheme() != Scheme::Tel {
            return None;
        }
        let digits = csi.expose().trim_start_matches("tel:+");
        let country = digits.get(..calling_code_digits(digits))?.parse().ok()?;
        let range = digits.get(..digits.len().checked_sub(RANGE_DIGITS)?)?.parse().ok()?;
        Some(Self { country, range })
    }
}

/// How long the calling code is that a number begins with: those of one and two digits are listed (ITU-T E.164), all
/// others have three. A plan that changes shifts what is counted together, and no label.
fn calling_code_digits(digits: &str) -> usize {
    const TWO: &str = "20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 \
                       82 84 86 90 91 92 93 94 95 98";
    if digits.starts_with(['1', '7']) {
        return 1;
    }
    let begins = |code: &str| digits.starts_with(code);
    if TWO.split_whitespace().any(begins) { 2 } else { 3 }
}

/// A wish for a code. CSI and key are keyed digests, so that this knows neither.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Who asks.
    pub address: IpAddr,
    /// Stands for the CSI, whatever its spelling ([`super::mailbox`]); for an answer, in its own.
    pub csi: [u8; 16],
    /// Stands for the CSI and the recipient key together.
    pub key: [u8; 16],
    /// Whether this key has completed a challenge for this CSI before.
    pub returning: bool,
    /// Where the number lies.
    pub prefix: Option<Prefix>,
    /// Nothing is sent: the person sends a message. It costs a place among the open challenges and nothing else.
    #[serde(default)]
    pub is_incoming: bool,
    /// A mail from the mailbox itself has sent for it.
    #[serde(default)]
    pub is_answer: bool,
}

impl Ask {
    fn is_v4(&self) -> bool {
        self.address.to_canonical().is_ipv4()
    }

    /// Host, site and network.
    fn source(&self) -> [prefix::Prefix; 3] {
        [prefix::Prefix::host, prefix::Prefix::site, prefix::Prefix::network].map(|of| of(self.address))
    }
}

/// A code that was charged: what its end is credited with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// The wish.
    pub ask: Ask,
    /// When.
    #[serde(with = "super::millis")]
    pub at: UnixMillis,
    /// Whether it took of what is kept for those who return.
    pub kept: bool,
}

/// No more codes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no more codes are sent there for {retry_after_s} s")]
pub struct Spent {
    /// When to ask again, at the earliest.
    pub retry_after_s: u64,
}

/// What strangers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Group {
    Incoming,
    Bill(bool),
    Total(bool),
    Country(u16),
    Range(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Account {
    Source(prefix::Prefix),
    Csi([u8; 16]),
    CsiFrom([u8; 16], prefix::Prefix),
    Returning([u8; 16]),
    /// Codes that mails from there have sent for.
    Answered([u8; 16]),
    Shared(Group),
    /// A network's part.
    Part(Group, prefix::Prefix),
    /// What is kept for those who return.
    Kept(Group),
}

/// An hour's and a day's.
type Limit = [u32; 2];

/// What an account is charged with.
#[derive(Clone, Copy)]
enum Keep {
    /// Every code.
    Every,
    /// Unfinished codes, and a tenth for each that was entered.
    Unfinished,
    /// The same, in parts for networks. Where the breaker has tripped, nothing is left until that ends.
    Shared { part: Account, tripped_ms: Option<u64> },
    /// Every code, in parts for networks.
    Bill { part: Account },
}

struct Charge {
    account: Account,
    limit: Limit,
    keep: Keep,
}

/// The windows, in the order of [`Limit`].
const WINDOWS_MS: [u64; 2] = [HOUR_MS, DAY_MS];

/// Codes in one window.
#[derive(Clone, Copy, Default)]
struct Count {
    /// Which one.
    window: u64,
    unfinished: u32,
    entered: u32,
    /// Of a shared account: networks that have unfinished codes.
    networks: u32,
    /// Of a network's part of a bill: codes beyond its share.
    narrow: u32,
}

impl Count {
    fn all(&self) -> u32 {
        self.unfinished.saturating_add(self.entered)
    }

    fn weight(&self) -> u64 {
        u64::from(self.unfinished) * UNFINISHED + u64::from(self.entered)
    }
}

/// What was sent in the hour and in the day of the last code.
#[derive(Clone, Copy, Default)]
struct Tally {
    counts: [Count; 2],
    /// When the last one was sent, milliseconds since 1970.
    last_ms: u64,
}

/// Challenges of new keys in this hour and in the one before: over, and ended well.
#[derive(Clone, Copy, Default)]
struct Conversion {
    hour: u64,
    now: (u32, u32),
    before: (u32, u32),
}

impl Conversion {
    fn at(mut self, now: UnixMillis) -> Self {
        let hour = now.get() / HOUR_MS;
        // A clock that goes back by an hour forgets nothing.
        if hour > self.hour {
            let before = if hour == self.hour + 1 { self.now } else { (0, 0) };
            self = Self { hour, now: (0, 0), before };
        }
        self
    }

    fn has_tripped(self, over_min: u32, percent: u8) -> bool {
        let over = u64::from(self.now.0) + u64::from(self.before.0);
        let completed = u64::from(self.now.1) + u64::from(self.before.1);
        over >= u64::from(over_min) && completed * 100 < over * u64::from(percent)
    }

    /// How long it stays tripped if nothing more happens: to the end of this hour, or of the next one. `self` is what
    /// is known at `now`.
    fn tripped_ms(self, over_min: u32, percent: u8, now: UnixMillis) -> Option<u64> {
        let at_hour = |hours: u64| UnixMillis::new((self.hour + hours) * HOUR_MS);
        let still = |hours: &u64| self.at(at_hour(*hours)).has_tripped(over_min, percent);
        still(&0).then(|| at_hour(if still(&1) { 2 } else { 1 }).since(now))
    }
}

/// What was sent so far: a function of the codes that were charged and of the challenges that ended well, in their
/// order.
pub struct Budget {
    limits: Limits,
    tallies: HashMap<Account, Tally>,
    conversions: HashMap<Group, Conversion>,
    /// Challenges of new keys whose time is not over, oldest first.
    in_flight: VecDeque<(UnixMillis, Prefix)>,
    /// The hour in which old accounts were last dropped.
    swept: u64,
}

impl Budget {
    /// Nothing was sent.
    pub fn new(limits: Limits) -> Self {
        let (tallies, conversions, in_flight) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Self { limits, tallies, conversions, in_flight, swept: 0 }
    }

    /// Charges a code, or says that it must not be sent. `is_first` is false for another send of the same challenge.
    ///
    /// # Errors
    /// [`Spent`]; nothing was charged.
    pub fn charge(&mut self, ask: &Ask, is_first: bool, now: UnixMillis) -> Result<Paid, Spent> {
        self.sweep(now);
        let wait_ms = |charges: &[Charge]| charges.iter().filter_map(|c| self.wait_ms(c, now)).max();
        let kept_ms = if ask.returning { wait_ms(&self.kept(ask)) } else { Some(u64::MAX) };
        // Room in one of the two is enough. No wait at all is the least.
        let shared_ms = kept_ms.min(wait_ms(&self.shared(ask, now)));
        if let Some(ms) = wait_ms(&self.limits.own(ask)).max(shared_ms) {
            return Err(Spent { retry_after_s: ms.div_ceil(1000) });
        }
        let paid = Paid { ask: ask.clone(), at: now, kept: kept_ms.is_none() };
        self.put(&paid, is_first);
        Ok(paid)
    }

    /// Charges a code that was let out, whether there is room or not: after a restart, the same ones in the same order.
    pub fn put(&mut self, paid: &Paid, is_first: bool) {
        self.sweep(paid.at);
        for charge in self.charges(paid) {
            for (i, window_ms) in WINDOWS_MS.into_iter().enumerate() {
                let is_narrow = !self.is_within_share(&charge, i, paid.at);
                let is_fresh = charge.part().is_some_and(|part| {
                    let part = self.count_mut(part, i, window_ms, paid.at);
                    part.unfinished = part.unfinished.saturating_add(1);
                    part.narrow = part.narrow.saturating_add(u32::from(is_narrow));
                    part.unfinished == 1
                });
                let count = self.count_mut(charge.account, i, window_ms, paid.at);
                count.unfinished = count.unfinished.saturating_add(1);
                count.networks = count.networks.saturating_add(u32::from(is_fresh));
            }
            self.tallies.entry(charge.account).or_default().last_ms = paid.at.get();
        }
        // People who return would hide an attack on the range that they live in: only new keys count.
        if let Some(prefix) = paid.ask.prefix.filter(|_| is_first && !paid.ask.returning && !paid.ask.is_incoming) {
            self.in_flight.push_back((paid.at.plus_ms(CHALLENGE_MS), prefix));
        }
    }

    /// A challenge ended well, for which these codes were charged.
    pub fn completed(&mut self, codes: &[Paid], now: UnixMillis) {
        self.sweep(now);
        for paid in codes {
            for charge in self.charges(paid) {
                for (i, window_ms) in WINDOWS_MS.into_iter().enumerate() {
                    if paid.at.get() / window_ms == now.get() / window_ms {
                        self.enter(&charge, i, window_ms, now);
                    }
                }
            }
        }
        let sent = |paid: &&Paid| !paid.ask.is_incoming;
        if let Some(Paid { ask: Ask { prefix: Some(prefix), returning: false, .. }, .. }) = codes.first().filter(sent) {
            self.convert(*prefix, now, |c| c.now.1 += 1);
        }
    }

    /// An unfinished code of an account was entered.
    fn enter(&mut self, charge: &Charge, i: usize, window_ms: u64, now: UnixMillis) {
        let is_last = charge.part().is_some_and(|part| {
            let part = self.count_mut(part, i, window_ms, now);
            let was = part.unfinished;
            part.unfinished = was.saturating_sub(1);
            part.entered = part.entered.saturating_add(1);
            was == 1
        });
        let count = self.count_mut(charge.account, i, window_ms, now);
        count.unfinished = count.unfinished.saturating_sub(1);
        count.entered = count.entered.saturating_add(1);
        count.networks = count.networks.saturating_sub(u32::from(is_last));
    }

    /// All that a code was charged to.
    fn charges(&self, paid: &Paid) -> Vec<Charge> {
        let shared = if paid.kept { self.kept(&paid.ask) } else { self.shared(&paid.ask, paid.at) };
        self.limits.own(&paid.ask).into_iter().chain(shared).collect()
    }

    /// The shares of those who return.
    fn kept(&self, ask: &Ask) -> Vec<Charge> {
        let kept = |limit| self.limits.split(limit).0;
        let groups = self.limits.shared(ask).into_iter();
        groups
            .map(|(g, limit, _)| Charge { account: Account::Kept(g), limit: kept(limit), keep: Keep::Every })
            .collect()
    }

    /// What strangers share.
    fn shared(&self, ask: &Ask, now: UnixMillis) -> Vec<Charge> {
        let [_, _, network] = ask.source();
        let charge = |(group, limit, over_min): (Group, Limit, Option<u32>)| {
            let part = Account::Part(group, network);
            let over_min = over_min.filter(|_| !ask.returning);
            let keep = match group {
                Group::Bill(_) => Keep::Bill { part },
                _ => Keep::Shared { part, tripped_ms: over_min.and_then(|n| self.tripped_ms(group, n, now)) },
            };
            Charge { account: Account::Shared(group), limit: self.limits.split(limit).1, keep }
        };
        self.limits.shared(ask).into_iter().map(charge).collect()
    }

    /// Until when an account has no room, if it has none.
    fn wait_ms(&self, charge: &Charge, now: UnixMillis) -> Option<u64> {
        let full = (0..WINDOWS_MS.len()).filter(|i| !self.has_room(charge, *i, now));
        let wait_ms = full.map(|i| self.until_room_ms(charge, i, now)).max()?;
        // A code that is on its way makes room when it is entered, but not where every code counts.
        let last = self.tallies.get(&charge.account).map_or(0, |t| t.last_ms);
        let is_decided = matches!(charge.keep, Keep::Every | Keep::Bill { .. })
            || UnixMillis::new(last).plus_ms(CHALLENGE_MS) <= now;
        Some(if is_decided { wait_ms } else { wait_ms.min(SOON_MS) })
    }

    /// Until a window that is full has room: its end, or that of the breaker where only the breaker holds back.
    fn until_room_ms(&self, charge: &Charge, i: usize, now: UnixMillis) -> u64 {
        let end_ms = until_next(WINDOWS_MS[i], now);
        let Keep::Shared { part, tripped_ms: Some(tripped_ms) } = charge.keep else { return end_ms };
        let without = Charge { keep: Keep::Shared { part, tripped_ms: None }, ..*charge };
        if self.has_room(&without, i, now) { end_ms.min(tripped_ms) } else { end_ms }
    }

    fn has_room(&self, charge: &Charge, i: usize, now: UnixMillis) -> bool {
        let (count, limit) = (self.count(charge.account, i, now), charge.limit[i]);
        match charge.keep {
            Keep::Every => count.all() < limit,
            Keep::Unfinished => count.weight() < u64::from(limit) * UNFINISHED,
            Keep::Bill { part } => {
                let is_narrow = self.count(part, i, now).narrow < BILL_NARROW[i];
                count.all() < limit && (self.is_within_share(charge, i, now) || is_narrow)
            }
            Keep::Shared { part, tripped_ms } => {
                let part = self.count(part, i, now);
                let left = (u64::from(limit) * UNFINISHED).saturating_sub(count.weight());
                let is_wide = tripped_ms.is_none() && u64::from(part.unfinished) * UNFINISHED < left;
                let networks = [1, DAY_NETWORKS][i].saturating_mul(self.limits.narrow_networks);
                let is_in = part.unfinished > 0 || count.networks < networks;
                let is_narrow = is_in && part.unfinished < NARROW.saturating_add(part.entered);
                limit > 0 && (is_wide || is_narrow)
            }
        }
    }

    /// Whether a network gets another code of the half of a bill that is for everybody. Of anything else: yes.
    fn is_within_share(&self, charge: &Charge, i: usize, now: UnixMillis) -> bool {
        let Keep::Bill { part } = charge.keep else { return true };
        is_within_share(self.count(part, i, now).all(), self.count(charge.account, i, now).all(), charge.limit[i])
    }

    /// What an account has in a window.
    fn count(&self, account: Account, i: usize, now: UnixMillis) -> Count {
        let window = now.get() / WINDOWS_MS[i];
        let count = self.tallies.get(&account).map(|t| t.counts[i]).filter(|c| c.window == window);
        count.unwrap_or(Count { window, ..Count::default() })
    }

    fn count_mut(&mut self, account: Account, i: usize, window_ms: u64, now: UnixMillis) -> &mut Count {
        let (window, count) = (now.get() / window_ms, &mut self.tallies.entry(account).or_default().counts[i]);
        if count.window != window {
            *count = Count { window, ..Count::default() };
        }
        count
    }

    fn tripped_ms(&self, group: Group, over_min: u32, now: UnixMillis) -> Option<u64> {
        let conversion = self.conversions.get(&group).copied().unwrap_or_default().at(now);
        conversion.tripped_ms(over_min, self.limits.breaker_percent, now)
    }

    fn convert(&mut self, prefix: Prefix, now: UnixMillis, change: impl Fn(&mut Conversion)) {
        for group in [Group::Country(prefix.country), Group::Range(prefix.range)] {
            let conversion = self.conversions.entry(group).or_default();
            *conversion = conversion.at(now);
            change(conversion);
        }
    }

    /// Counts challenges whose time is over, and forgets what no longer counts. An account appears only when a code is
    /// sent, so the bill bounds how many there are.
    fn sweep(&mut self, now: UnixMillis) {
        // What was sent while the clock was wrong is due far ahead: it would hold up all that come after it.
        while let Some((due, prefix)) = self.in_flight.front().copied().filter(|(due, _)| is_over(*due, now)) {
            self.in_flight.pop_front();
            if due <= now {
                self.convert(prefix, due, |c| c.now.0 += 1);
            }
        }
        let (hour, day) = (now.get() / HOUR_MS, now.get() / DAY_MS);
        if self.swept != hour {
            self.swept = hour;
            self.tallies.retain(|_, t| t.counts[1].window == day);
            self.conversions.retain(|_, c| c.hour.abs_diff(hour) <= 1);
        }
    }
}

impl Charge {
    fn part(&self) -> Option<Account> {
        match self.keep {
            Keep::Shared { part, .. } | Keep::Bill { part } => Some(part),
            Keep::Every | Keep::Unfinished => None,
        }
    }
}

/// Whether a network that has `part` of a bill gets another code of its open half, of which `all` are gone: it may have
/// half of what is left, times the part that is left. Falling so, the shares of many networks are about as even as they
/// can be where nobody knows how many are to come, and all of them together never get more than that half.
fn is_within_share(part: u32, all: u32, bill: u32) -> bool {
    let open = u64::from(bill.div_ceil(2));
    let left = open.saturating_sub(all.into());
    2 * open * u64::from(part) < left * left
}

fn until_next(window_ms: u64, now: UnixMillis) -> u64 {
    window_ms - now.get() % window_ms
}

#[cfg(test)]
mod tests;
