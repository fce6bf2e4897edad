//! The budget against a naive model that keeps every code ever sent, and against somebody who pumps SMS.

use proptest::prelude::*;

use super::*;

fn ask(address: u8, number: &str, key: u8, returning: bool) -> Ask {
    let csi = Csi::parse(number).unwrap();
    let digest = *blake3::hash(csi.expose().as_bytes()).as_bytes().first_chunk().unwrap();
    let prefix = Prefix::of(&csi);
    Ask { address: IpAddr::from([192, 0, 2, address]), csi: digest, key: [key; 16], returning, prefix }
}

fn at(ms: u64) -> UnixMillis {
    UnixMillis::new(ms)
}

#[test]
fn a_number_has_a_country_and_a_range() {
    for (number, country, range) in [
        ("tel:+4915112345642", 49, 491_511_234),
        ("tel:+12025550123", 1, 1_202_555),
        ("tel:+79161234567", 7, 7_916_123),
        ("tel:+881612345678", 881, 88_161_234),
        ("tel:+2901234", 290, 290),
        ("tel:+390612345678", 39, 39_061_234),
    ] {
        assert_eq!(Prefix::of(&Csi::parse(number).unwrap()), Some(Prefix { country, range }), "{number}");
    }
    assert_eq!(Prefix::of(&Csi::parse("mailto:ann@post.example").unwrap()), None);
}

#[test]
fn each_account_stops_at_its_limit_and_says_until_when() {
    let limits = Limits { address_hour: 3, address_day: 4, csi_hour: 2, ..Limits::default() };
    let mut budget = Budget::new(limits);
    let (one, other) = (ask(1, "tel:+4915112345642", 1, false), ask(1, "tel:+4930123456", 1, false));
    let spent = |ms: u64| Err(Spent { retry_after_s: ms / 1000 });
    assert_eq!(budget.charge(&one, true, at(0)), Ok(()));
    assert_eq!(budget.charge(&one, false, at(0)), Ok(()));
    assert_eq!(budget.charge(&one, false, at(0)), spent(HOUR_MS));
    // A refused wish is not charged: the address has one left.
    assert_eq!(budget.charge(&other, true, at(0)), Ok(()));
    assert_eq!(budget.charge(&other, true, at(1000)), spent(HOUR_MS - 1000));
    assert_eq!(budget.charge(&other, true, at(HOUR_MS)), Ok(()));
    assert_eq!(budget.charge(&other, true, at(HOUR_MS)), spent(DAY_MS - HOUR_MS));
    assert_eq!(budget.charge(&other, true, at(DAY_MS)), Ok(()));
}

#[test]
fn strangers_do_not_use_up_what_is_the_recipients() {
    let mut budget = Budget::new(Limits { csi_hour: 2, ..Limits::default() });
    let bob = ask(1, "tel:+4915112345642", 1, true);
    for stranger in 10..12 {
        assert_eq!(budget.charge(&ask(stranger, "tel:+4915112345642", stranger, false), true, at(0)), Ok(()));
    }
    assert!(budget.charge(&ask(12, "tel:+4915112345642", 12, false), true, at(0)).is_err());
    assert_eq!(budget.charge(&bob, true, at(0)), Ok(()));
    assert_eq!(budget.charge(&bob, true, at(0)), Ok(()));
    assert!(budget.charge(&bob, true, at(0)).is_err());
}

#[test]
fn pumping_stops_at_the_breaker_and_those_who_return_go_on() {
    let limits = Limits::default();
    let mut budget = Budget::new(limits.clone());
    let mut sent = 0;
    // Ten thousand premium numbers in many ranges of one country, each from an address of its own, none ever entered.
    for i in 0..10_000u32 {
        let number = format!("tel:+8816{:02}{:06}", i % 37, i);
        let mut stranger = ask(0, &number, 0, false);
        stranger.address = IpAddr::from((0xc633_0000 + i).to_be_bytes());
        sent += u32::from(budget.charge(&stranger, true, at(u64::from(i) * 100)).is_ok());
    }
    assert_eq!(sent, limits.breaker_country_min);
    // Somebody new there has to wait; who was here before does not; nor does anybody elsewhere.
    assert!(budget.charge(&ask(1, "tel:+881600123456", 1, false), true, at(1_000_000)).is_err());
    assert_eq!(budget.charge(&ask(1, "tel:+881600123456", 1, true), true, at(1_000_000)), Ok(()));
    assert_eq!(budget.charge(&ask(2, "tel:+4915112345642", 2, false), true, at(1_000_000)), Ok(()));
    // The hour after it is still remembered, the one after that no more.
    assert!(budget.charge(&ask(1, "tel:+881600123456", 1, false), true, at(HOUR_MS)).is_err());
    assert_eq!(budget.charge(&ask(1, "tel:+881600123456", 1, false), true, at(2 * HOUR_MS)), Ok(()));
}

#[test]
fn a_range_whose_people_enter_their_codes_stays_open() {
    let mut budget = Budget::new(Limits { range_hour: 1000, range_day: 1000, ..Limits::default() });
    for i in 0..200u32 {
        let person = ask(i as u8, &format!("tel:+491511234{i:04}"), 0, false);
        assert_eq!(budget.charge(&person, true, at(0)), Ok(()), "{i}");
        if i % 3 == 0 {
            budget.completed(&person, at(0));
        }
    }
}

#[test]
fn a_share_is_kept_for_those_who_return() {
    let limits = Limits { total_hour: 10, breaker_percent: 0, reserve_percent: 30, ..Limits::default() };
    let mut budget = Budget::new(limits);
    let mail = |i: u8, returning| ask(i, &format!("mailto:person{i:03}@post.example"), i, returning);
    let fits = |budget: &mut Budget, range: std::ops::Range<u8>, returning| {
        range.filter(|i| budget.charge(&mail(*i, returning), true, at(5)).is_ok()).count()
    };
    assert_eq!(fits(&mut budget, 0..20, false), 7);
    assert_eq!(fits(&mut budget, 20..40, true), 3);
    // Phone numbers have a total of their own.
    assert_eq!(budget.charge(&ask(99, "tel:+4915112345642", 1, false), true, at(5)), Ok(()));
}

#[test]
fn contradictions_are_refused() {
    assert_eq!(Limits::default().check(), Ok(()));
    for bad in [
        Limits { csi_hour: 11, ..Limits::default() },
        Limits { total_day: TOTAL_DAY_MAX + 1, ..Limits::default() },
        Limits { reserve_percent: 91, ..Limits::default() },
        Limits { breaker_percent: 101, ..Limits::default() },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}

/// Every code ever sent, and every challenge ever started or ended well: counted again for each question.
#[derive(Default)]
struct Naive {
    sent: Vec<(u64, Ask)>,
    started: Vec<(u64, Ask)>,
    completed: Vec<(u64, Ask)>,
}

impl Naive {
    fn allows(&self, limits: &Limits, ask: &Ask, now: u64) -> bool {
        let same = |of: &dyn Fn(&Ask) -> bool, window: u64| {
            self.sent.iter().filter(|(t, a)| t / window == now / window && of(a)).count() as u64
        };
        let room = |of: &dyn Fn(&Ask) -> bool, hour: u32, day: u32, keep: u8| {
            let keep = if ask.returning { 0 } else { u64::from(keep) };
            let most = |limit: u32| u64::from(limit) * (100 - keep) / 100;
            same(of, HOUR_MS) < most(hour) && same(of, DAY_MS) < most(day)
        };
        let (l, keep) = (limits, limits.reserve_percent);
        let own: &dyn Fn(&Ask) -> bool =
            if ask.returning { &|a| a.returning && a.key == ask.key } else { &|a| !a.returning && a.csi == ask.csi };
        let country = |a: &Ask| a.prefix.map(|p| p.country) == ask.prefix.map(|p| p.country);
        let range = |a: &Ask| a.prefix.map(|p| p.range) == ask.prefix.map(|p| p.range);
        let open = |of: &dyn Fn(&Ask) -> bool, least: u32| {
            let hour = now / HOUR_MS;
            let count = |list: &[(u64, Ask)]| {
                list.iter().filter(|(t, a)| (t / HOUR_MS + 1 >= hour) && !a.returning && of(a)).count() as u64
            };
            let (started, completed) = (count(&self.started), count(&self.completed));
            started < u64::from(least) || completed * 100 >= started * u64::from(l.breaker_percent)
        };
        let number = ask.prefix.is_none()
            || (room(&country, l.country_hour, l.country_day, keep)
                && room(&range, l.range_hour, l.range_day, keep)
                && (ask.returning || (open(&range, l.breaker_range_min) && open(&country, l.breaker_country_min))));
        number
            && room(&|a| a.address == ask.address, l.address_hour, l.address_day, 0)
            && room(own, l.csi_hour, l.csi_day, 0)
            && room(&|a| a.prefix.is_some() == ask.prefix.is_some(), l.total_hour, l.total_day, keep)
    }
}

fn small_limits() -> Limits {
    Limits {
        address_hour: 3,
        address_day: 8,
        csi_hour: 2,
        csi_day: 5,
        range_hour: 4,
        range_day: 9,
        country_hour: 6,
        country_day: 14,
        total_hour: 8,
        total_day: 20,
        reserve_percent: 25,
        breaker_percent: 40,
        breaker_range_min: 3,
        breaker_country_min: 5,
    }
}

const NUMBERS: [&str; 6] = [
    "tel:+4915112345642",
    "tel:+4915112345643",
    "tel:+4930123456",
    "tel:+12025550123",
    "mailto:person001@post.example",
    "mailto:person002@post.example",
];

proptest! {
    #[test]
    fn the_budget_and_a_naive_model_agree(
        steps in prop::collection::vec((0u64..2_000_000, 0u8..4, 0usize..6, 0u8..3, any::<bool>(), 0u8..4), 1..200),
    ) {
        let (limits, mut now) = (small_limits(), 0);
        let (mut budget, mut naive) = (Budget::new(limits.clone()), Naive::default());
        for (later, address, number, key, returning, what) in steps {
            now += later;
            let ask = ask(address, NUMBERS[number], key * 10 + number as u8, returning);
            if what == 3 {
                budget.completed(&ask, at(now));
                naive.completed.push((now, ask));
                continue;
            }
            let (is_first, allowed) = (what > 0, naive.allows(&limits, &ask, now));
            prop_assert_eq!(budget.charge(&ask, is_first, at(now)).is_ok(), allowed);
            if allowed {
                if is_first {
                    naive.started.push((now, ask.clone()));
                }
                naive.sent.push((now, ask));
            }
        }
    }
}
