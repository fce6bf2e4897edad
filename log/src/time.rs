//! Time as types. The core never asks what time it is; callers hand it in.
//!
//! Cosignatures count seconds (C2SP tlog-cosignature); Waymark's own formats count milliseconds. The two cannot be mixed
//! by accident because neither is a bare integer.

use std::fmt;

use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};

/// Milliseconds since 1970-01-01T00:00:00Z; a uint64 in TLS structures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct UnixMillis(u64);

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(u64);

impl UnixMillis {
    /// A time from its count of milliseconds.
    pub const fn new(ms: u64) -> Self {
        Self(ms)
    }

    /// The count of milliseconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The second this millisecond lies in.
    pub const fn floor_seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }

    /// Later by `ms` milliseconds; stops at the end of the range.
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`; zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds of a UTC day. POSIX time has no leap seconds.
pub const DAY_MS: u64 = 24 * 3600 * 1000;

impl UnixMillis {
    /// The beginning of the UTC day that this millisecond lies in.
    pub const fn floor_day(self) -> Self {
        Self(self.0 - self.0 % DAY_MS)
    }

    /// Whether a UTC day begins at this millisecond.
    pub const fn begins_day(self) -> bool {
        self.0.is_multiple_of(DAY_MS)
    }

    /// Whether a UTC month begins at this millisecond.
    pub const fn begins_month(self) -> bool {
        self.begins_day() && civil(self.0 / DAY_MS).2 == 1
    }

    /// The beginning of the `months`-th UTC month after the one that this millisecond lies in; with 0 that of this month.
    pub const fn month_after(self, months: u32) -> Self {
        let (year, month, _) = civil(self.0 / DAY_MS);
        let months = year * 12 + (month - 1) + months as u64;
        Self(days_before(months / 12, months % 12 + 1).saturating_mul(DAY_MS))
    }
}

/// Year, month (1 to 12) and day (1 to 31) of a count of days since 1970-01-01, in the Gregorian calendar.
///
/// Counts from 1 March of the year 0, so that a leap day is the last of its year: 146,097 days are 400 years.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

/// Days from 1970-01-01 to the first of a month of a year from 1970 on.
const fn days_before(year: u64, month: u64) -> u64 {
    let (year, from_march) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year / 400, year % 400);
    era * 146_097 + 365 * of_era + of_era / 4 - of_era / 100 + (153 * from_march + 2) / 5 - 719_468
}

impl UnixSeconds {
    /// A time from its count of seconds.
    pub const fn new(s: u64) -> Self {
        Self(s)
    }

    /// The count of seconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The first millisecond of this second.
    pub const fn to_millis(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(1000))
    }

    /// Later by `s` seconds; stops at the end of the range.
    pub const fn plus_s(self, s: u64) -> Self {
        Self(self.0.saturating_add(s))
    }

    /// Earlier by `s` seconds; stops at zero.
    pub const fn minus_s(self, s: u64) -> Self {
        Self(self.0.saturating_sub(s))
    }

    /// Seconds from `earlier` to `self`; zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

impl fmt::Debug for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_eight_hundred_years() {
        // A calendar that only counts: 1970-01-01, then day by day.
        let (mut year, mut month, mut day) = (1970, 1, 1);
        let mut month_began = 0;
        for count in 0..292_194 {
            assert_eq!(civil(count), (year, month, day));
            let time = UnixMillis::new(count * DAY_MS);
            assert_eq!(time.begins_month(), day == 1);
            if day == 1 {
                month_began = count;
                assert_eq!(days_before(year, month), count);
            }
            assert_eq!(time.plus_ms(DAY_MS - 1).month_after(0), UnixMillis::new(month_began * DAY_MS));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match (month, day == last) {
                (12, true) => (year + 1, 1, 1),
                (_, true) => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }

    #[test]
    fn months_and_days_round_as_said() {
        // 2026-11-28T06:19:00Z; seven months later begins June 2027.
        let now = UnixMillis::new(1_795_846_740_000);
        assert_eq!(now.month_after(7), UnixMillis::new(1_811_808_000_000));
        assert!(now.month_after(7).begins_month());
        assert!(!now.floor_day().begins_month() && now.floor_day().begins_day() && !now.begins_day());
        // The end of the range does not panic.
        let _ = UnixMillis::new(u64::MAX).month_after(u32::MAX);
    }
}
