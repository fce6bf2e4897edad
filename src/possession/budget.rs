//! How many codes are sent, to whom and at whose wish: the core, pure. Time is an argument.
//!
//! Every code that leaves is charged to several accounts at once, and leaves only if each of them has room:
//!
//! | account | charged with |
//! |---|---|
//! | the client's address, an IPv6 /64 as one | what it asks for |
//! | the CSI, by keys that are new to it | so that strangers who ask for codes use up each other's, never the recipient's |
//! | the key that returns, with its CSI | its own |
//! | the country, by its calling code; the range, ten thousand numbers that differ in the last four digits | phone numbers only |
//! | the total of phone numbers, that of e-mail addresses | everything |
//!
//! Hours and days are those of UTC, so a limit may be met twice around a boundary.
//!
//! **The breaker.** Whoever earns from SMS asks for codes that nobody will enter. So the challenges that new keys start are
//! counted by country and range, and so are those that end well. Once there are enough of them in this hour and the one before
//! and too few end well, new keys get no more codes there. It closes by itself, when codes are entered or when the two hours
//! are over.
//!
//! **Those who return** are not held back by the breaker, and a share of range, country and total is kept for them. A key
//! returns if it has completed a challenge for that CSI before ([`super::returning`]): something that only its holder can show.
//! Whether the CSI has mappings is not asked, or a refusal would tell a stranger that it has none.
//!
//! What a refusal tells: that this address, strangers to this CSI, its range, its country or everybody have asked for much. Of
//! the CSI itself it tells one thing, namely that other new keys asked for codes to it in this hour or day.

use std::{collections::HashMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use waymark_log::time::UnixMillis;
use waymark_mapping::identifier::{Csi, Scheme};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Digits at the end of a number that its range leaves open.
const RANGE_DIGITS: usize = 4;
/// Most codes a day that may be configured: what is counted is kept in memory, some 100 bytes for each account.
pub const TOTAL_DAY_MAX: u32 = 10_000_000;
/// Most that may be kept for those who return: with more, nobody new comes in.
pub const RESERVE_PERCENT_MAX: u8 = 90;

/// `[codes.budget]`: codes an hour and a day, and the breaker. Setting one to 0 sends none there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Codes an hour that one client address may ask for; a household or an office shares one. Behind a proxy all clients do, so
    /// that there it must be as much as the total. Default 20.
    pub address_hour: u32,
    /// The same, a day. Default 100.
    pub address_day: u32,
    /// Codes an hour to one CSI, for all keys that are new to it together, and for each key that returns. Default 5.
    pub csi_hour: u32,
    /// The same, a day. With ten, a guesser hits one six-digit code in 20,000 days. Default 10.
    pub csi_day: u32,
    /// Codes an hour to ten thousand numbers that differ in the last four digits. Default 20.
    pub range_hour: u32,
    /// The same, a day. Default 100.
    pub range_day: u32,
    /// Codes an hour to one country, by its calling code. Default 500.
    pub country_hour: u32,
    /// The same, a day. Default 5000.
    pub country_day: u32,
    /// Codes an hour to all phone numbers, and as many to all e-mail addresses: the bill that can be borne. Default 2000.
    pub total_hour: u32,
    /// The same, a day. Default 20000.
    pub total_day: u32,
    /// How much of range, country and total is kept for keys that return, per cent. Default 20.
    pub reserve_percent: u8,
    /// Least share of the challenges of new keys that must end well, per cent, or the breaker trips. 0: never. Default 20.
    pub breaker_percent: u8,
    /// Challenges of a range in two hours before its breaker may trip. Default 10.
    pub breaker_range_min: u32,
    /// Challenges of a country in two hours before its breaker may trip. Default 100.
    pub breaker_country_min: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            address_hour: 20,
            address_day: 100,
            csi_hour: 5,
            csi_day: 10,
            range_hour: 20,
            range_day: 100,
            country_hour: 500,
            country_day: 5000,
            total_hour: 2000,
            total_day: 20_000,
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
        ];
        if let Some((name, ..)) = pairs.iter().find(|(_, hour, day)| hour > day) {
            return Err(format!("budget: {name}_hour is more than {name}_day"));
        }
        if self.total_day > TOTAL_DAY_MAX {
            return Err(format!("budget: total_day is at most {TOTAL_DAY_MAX}"));
        }
        if self.reserve_percent > RESERVE_PERCENT_MAX || self.breaker_percent > 100 {
            return Err(format!(
                "budget: reserve_percent is at most {RESERVE_PERCENT_MAX}, breaker_percent at most 100"
            ));
        }
        Ok(())
    }

    /// The accounts that a code is charged to.
    fn charges(&self, ask: &Ask) -> Vec<Charge> {
        let charge = |account, hour, day| Charge { account, hour, day };
        // A new key leaves the reserve alone.
        let shared = |limit: u32| {
            let reserve = if ask.returning { 0 } else { u64::from(self.reserve_percent) };
            (u64::from(limit) * (100 - reserve) / 100) as u32
        };
        let own = if ask.returning { Account::Returning(ask.key) } else { Account::Csi(ask.csi) };
        let mut charges = vec![
            charge(Account::Address(ask.address), self.address_hour, self.address_day),
            charge(own, self.csi_hour, self.csi_day),
            charge(Account::Total(ask.prefix.is_some()), shared(self.total_hour), shared(self.total_day)),
        ];
        if let Some(Prefix { country, range }) = ask.prefix {
            charges.push(charge(Account::Country(country), shared(self.country_hour), shared(self.country_day)));
            charges.push(charge(Account::Range(range), shared(self.range_hour), shared(self.range_day)));
        }
        charges
    }
}

/// Where a phone number lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// How long the calling code is that a number begins with: those of one and two digits are listed (ITU-T E.164), all others
/// have three. A plan that changes shifts what is counted together, and no label.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who asks: an IPv4 address, or an IPv6 address whose last 64 bits are zero.
    pub address: IpAddr,
    /// Stands for the CSI.
    pub csi: [u8; 16],
    /// Stands for the CSI and the recipient key together.
    pub key: [u8; 16],
    /// Whether this key has completed a challenge for this CSI before.
    pub returning: bool,
    /// Where the number lies.
    pub prefix: Option<Prefix>,
}

/// No more codes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no more codes are sent there for {retry_after_s} s")]
pub struct Spent {
    /// When to ask again, at the earliest.
    pub retry_after_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Account {
    Address(IpAddr),
    Csi([u8; 16]),
    Returning([u8; 16]),
    Country(u16),
    Range(u64),
    Total(bool),
}

struct Charge {
    account: Account,
    hour: u32,
    day: u32,
}

/// What was sent in the hour and in the day of the last code.
#[derive(Clone, Copy, Default)]
struct Tally {
    hour: u64,
    day: u64,
    in_hour: u32,
    in_day: u32,
}

impl Tally {
    /// The same, as it is at a time.
    fn at(mut self, now: UnixMillis) -> Self {
        let (hour, day) = (now.get() / HOUR_MS, now.get() / DAY_MS);
        if self.hour != hour {
            (self.hour, self.in_hour) = (hour, 0);
        }
        if self.day != day {
            (self.day, self.in_day) = (day, 0);
        }
        self
    }
}

/// Challenges of new keys in this hour and in the one before: started, and ended well.
#[derive(Clone, Copy, Default)]
struct Conversion {
    hour: u64,
    now: (u32, u32),
    before: (u32, u32),
}

impl Conversion {
    fn at(mut self, now: UnixMillis) -> Self {
        let hour = now.get() / HOUR_MS;
        if hour != self.hour {
            let before = if hour == self.hour + 1 { self.now } else { (0, 0) };
            self = Self { hour, now: (0, 0), before };
        }
        self
    }

    fn has_tripped(self, started_min: u32, percent: u8) -> bool {
        let started = u64::from(self.now.0) + u64::from(self.before.0);
        let completed = u64::from(self.now.1) + u64::from(self.before.1);
        started >= u64::from(started_min) && completed * 100 < started * u64::from(percent)
    }
}

/// What was sent so far. Lost at a restart: what is kept on no disk tells nobody who asked for a code.
pub struct Budget {
    limits: Limits,
    tallies: HashMap<Account, Tally>,
    conversions: HashMap<Account, Conversion>,
    /// The hour in which old accounts were last dropped.
    swept: u64,
}

impl Budget {
    /// Nothing was sent.
    pub fn new(limits: Limits) -> Self {
        Self { limits, tallies: HashMap::new(), conversions: HashMap::new(), swept: 0 }
    }

    /// Charges a code, or says that it must not be sent. `is_first` is false for another send of the same challenge.
    ///
    /// # Errors
    /// [`Spent`]; nothing was charged.
    pub fn charge(&mut self, ask: &Ask, is_first: bool, now: UnixMillis) -> Result<(), Spent> {
        self.sweep(now);
        let charges = self.limits.charges(ask);
        let mut wait_ms = charges.iter().filter_map(|c| self.wait_ms(c, now)).max();
        if !ask.returning && self.has_tripped(ask, now) {
            wait_ms = wait_ms.max(Some(until_next(HOUR_MS, now)));
        }
        if let Some(ms) = wait_ms {
            return Err(Spent { retry_after_s: ms.div_ceil(1000) });
        }
        for charge in charges {
            let tally = self.tallies.entry(charge.account).or_default();
            *tally = tally.at(now);
            tally.in_hour += 1;
            tally.in_day += 1;
        }
        if is_first {
            self.convert(ask, now, |c| c.now.0 += 1);
        }
        Ok(())
    }

    /// A challenge ended well.
    pub fn completed(&mut self, ask: &Ask, now: UnixMillis) {
        self.convert(ask, now, |c| c.now.1 += 1);
    }

    /// Until when an account has no room.
    fn wait_ms(&self, charge: &Charge, now: UnixMillis) -> Option<u64> {
        let tally = self.tallies.get(&charge.account).copied().unwrap_or_default().at(now);
        if tally.in_day >= charge.day {
            Some(until_next(DAY_MS, now))
        } else if tally.in_hour >= charge.hour {
            Some(until_next(HOUR_MS, now))
        } else {
            None
        }
    }

    fn has_tripped(&self, ask: &Ask, now: UnixMillis) -> bool {
        breakers(ask, &self.limits).any(|(account, started_min)| {
            let conversion = self.conversions.get(&account).copied().unwrap_or_default().at(now);
            conversion.has_tripped(started_min, self.limits.breaker_percent)
        })
    }

    /// People who return would hide an attack on the range that they live in: only new keys count.
    fn convert(&mut self, ask: &Ask, now: UnixMillis, change: impl Fn(&mut Conversion)) {
        if ask.returning {
            return;
        }
        for (account, _) in breakers(ask, &self.limits) {
            let conversion = self.conversions.entry(account).or_default();
            *conversion = conversion.at(now);
            change(conversion);
        }
    }

    /// Forgets what no longer counts. An account appears only when a code is sent, so the totals bound how many there are.
    fn sweep(&mut self, now: UnixMillis) {
        let (hour, day) = (now.get() / HOUR_MS, now.get() / DAY_MS);
        if self.swept != hour {
            self.swept = hour;
            self.tallies.retain(|_, t| t.day == day);
            self.conversions.retain(|_, c| c.hour + 1 >= hour);
        }
    }
}

/// The breakers of a number, and how many challenges each needs before it may trip.
fn breakers(ask: &Ask, limits: &Limits) -> impl Iterator<Item = (Account, u32)> + use<> {
    let (range_min, country_min) = (limits.breaker_range_min, limits.breaker_country_min);
    ask.prefix
        .into_iter()
        .flat_map(move |p| [(Account::Range(p.range), range_min), (Account::Country(p.country), country_min)])
}

fn until_next(window_ms: u64, now: UnixMillis) -> u64 {
    window_ms - now.get() % window_ms
}

#[cfg(test)]
mod tests;
