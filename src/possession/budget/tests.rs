//! The budget against a naive model that keeps every code ever sent, against somebody who pumps SMS, against somebody who wants to
//! close a country for others, and with honest people who come all at once.

use proptest::prelude::*;

use super::*;

fn ask(address: u8, number: &str, key: u8, returning: bool) -> Ask {
    let csi = Csi::parse(number).unwrap();
    let digest = *blake3::hash(csi.expose().as_bytes()).as_bytes().first_chunk().unwrap();
    let prefix = Prefix::of(&csi);
    Ask {
        address: IpAddr::from([192, 0, 2, address]),
        csi: digest,
        key: [key; 16],
        returning,
        prefix,
        is_incoming: false,
        is_answer: false,
    }
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

fn from(mut ask: Ask, address: &str) -> Ask {
    ask.address = address.parse().unwrap();
    ask
}

/// A newcomer from the network of this number: an IPv6 /48 in a /32 of its own.
fn newcomer(network: u32, number: &str) -> Ask {
    from(ask(0, number, 0, false), &format!("2{:03x}:{:x}:1::1", network / 65_536, network % 65_536))
}

/// The same network, whose owner takes another site and host for each code.
fn attacker(network: u32, n: u32, number: &str) -> Ask {
    from(ask(0, number, 0, false), &format!("2{:03x}:{:x}:{:x}:{:x}::1", network / 65_536, network % 65_536, n % 64, n))
}

#[test]
fn each_account_stops_at_its_limit_and_says_until_when() {
    let limits = Limits { address_hour: 3, address_day: 4, csi_hour: 5, csi_day: 5, ..Limits::default() };
    let mut budget = Budget::new(limits);
    let spent = |ms: u64| Err(Spent { retry_after_s: ms / 1000 });
    let mut charge =
        |i: u8, ms: u64| budget.charge(&ask(1, &format!("tel:+49151123456{i}"), i, false), true, at(ms)).map(drop);
    for i in 10..13 {
        assert_eq!(charge(i, 0), Ok(()));
    }
    // While codes are on their way, they may be entered at any time. Then it is known when there is room again.
    assert_eq!(charge(13, 0), spent(SOON_MS));
    assert_eq!(charge(13, CHALLENGE_MS), spent(HOUR_MS - CHALLENGE_MS));
    // A refused wish is not charged.
    assert_eq!(charge(13, HOUR_MS), Ok(()));
    assert_eq!(charge(14, HOUR_MS + CHALLENGE_MS), spent(DAY_MS - HOUR_MS - CHALLENGE_MS));
    assert_eq!(charge(14, DAY_MS), Ok(()));
}

#[test]
fn the_cap_of_a_csi_is_hard_and_no_source_uses_it_up_alone() {
    let mut budget = Budget::new(Limits::default());
    let mut charge = |address: &str, key: u8, returning: bool, ms: u64| {
        budget.charge(&from(ask(0, "tel:+4915112345642", key, returning), address), true, at(ms)).is_ok()
    };
    // One /48 and one /24 get two of five, whatever addresses and keys they use; a /32 gets four.
    let mut sent = |addresses: &[&str]| {
        (0..20).filter(|i| charge(addresses[usize::from(*i) % addresses.len()], *i, false, 0)).count()
    };
    assert_eq!(sent(&["2001:db8:1::1", "2001:db8:1:2::1"]), 2);
    assert_eq!(sent(&["192.0.2.1", "192.0.2.77"]), 2);
    // The holder, with a new key, from elsewhere: the fifth, and the last of this hour.
    assert_eq!(sent(&["198.51.100.1", "203.0.113.1"]), 1);
    assert!(charge("203.0.113.1", 30, true, 0), "who returns has a budget of his own");
    // The day has ten, of which a source has four.
    let again = (1..24).map(|hour| (0..20).filter(|i| charge("192.0.2.1", *i, false, hour * HOUR_MS)).count());
    assert_eq!(again.sum::<usize>(), 2);
    let others = (1..24).flat_map(|h| (0..20).map(move |i| (h, i)));
    assert_eq!(others.filter(|(h, i)| charge(&format!("198.{i}.0.1"), 1, false, h * HOUR_MS)).count(), 3);
}

#[test]
fn strangers_do_not_use_up_what_is_the_recipients() {
    let mut budget = Budget::new(Limits { csi_hour: 2, ..Limits::default() });
    let bob = ask(1, "tel:+4915112345642", 1, true);
    for stranger in 10..12 {
        assert!(budget.charge(&newcomer(stranger, "tel:+4915112345642"), true, at(0)).is_ok());
    }
    assert!(budget.charge(&newcomer(12, "tel:+4915112345642"), true, at(0)).is_err());
    assert!(budget.charge(&bob, true, at(0)).is_ok() && budget.charge(&bob, true, at(0)).is_ok());
    assert!(budget.charge(&bob, true, at(0)).is_err());
}

/// So many people start evenly over a minute and enter their codes so much later: how many got in at once.
fn crowd(budget: &mut Budget, people: u32, enter_ms: u64, start: u64, ask: impl Fn(u32) -> Ask) -> usize {
    let mut waiting: VecDeque<(u64, Paid)> = VecDeque::new();
    let mut served = 0;
    for i in 0..people {
        let now = start + u64::from(i) * 60_000 / u64::from(people);
        while let Some((due, paid)) = waiting.front().cloned().filter(|(due, _)| *due <= now) {
            waiting.pop_front();
            budget.completed(&[paid], at(due));
        }
        if let Ok(paid) = budget.charge(&ask(i), true, at(now)) {
            waiting.push_back((now + enter_ms, paid));
            served += 1;
        }
    }
    for (due, paid) in waiting {
        budget.completed(&[paid], at(due));
    }
    served
}

#[test]
fn a_crowd_of_honest_newcomers_gets_in_also_from_one_address_and_into_one_range() {
    for start in [0, HOUR_MS - 30_000] {
        for digits in [0, 4] {
            // In as many ranges, or in one.
            let number =
                |i: u32| if digits == 4 { format!("tel:+491511234{i:04}") } else { format!("tel:+49151{i:04}1234") };
            let behind_one = |i: u32| ask(1, &number(i), 0, false);
            assert_eq!(crowd(&mut Budget::new(Limits::default()), 150, 45_000, start, behind_one), 150);
            let each_alone = |i: u32| newcomer(i, &number(i));
            assert_eq!(crowd(&mut Budget::new(Limits::default()), 150, 45_000, start, each_alone), 150);
            assert_eq!(crowd(&mut Budget::new(Limits::default()), 400, 30_000, start, each_alone), 400);
        }
        let behind_one = |i: u32| ask(1, &format!("tel:+49151{i:04}1234"), 0, false);
        assert_eq!(crowd(&mut Budget::new(Limits::default()), 400, 30_000, start, behind_one), 400);
    }
}

#[test]
fn thirty_colleagues_of_one_number_block_are_served() {
    let mut budget = Budget::new(Limits::default());
    let served = (0..30).filter(|i| {
        let colleague = ask(1, &format!("tel:+4930231250{i:02}"), *i, false);
        budget.charge(&colleague, true, at(u64::from(*i) * 1000)).is_ok()
    });
    assert_eq!(served.count(), 30);
}

#[test]
fn a_code_on_its_way_is_no_failure_and_one_that_is_over_is() {
    let limits = Limits::default();
    let mut budget = Budget::new(limits.clone());
    let mut start = |network: u32, n: u32, ms: u64| {
        budget.charge(&newcomer(network, &format!("tel:+491511234{n:04}")), true, at(ms)).is_ok()
    };
    // From one network, more than the breaker of a range needs, none entered; and after ten minutes it has tripped.
    assert_eq!((0..20).filter(|n| start(1, *n, 0)).count(), 20);
    assert!(start(1, 20, CHALLENGE_MS - 1) && !start(1, 21, CHALLENGE_MS));
    // For that network. Two from each other one are let in all the same.
    assert_eq!(
        (22..30).map(|n| start(2, n, CHALLENGE_MS)).collect::<Vec<_>>(),
        [true, true, false, false, false, false, false, false]
    );
    // The hour after it is still remembered, the one after that no more.
    let hour = |h: u64, budget_from: u32, start: &mut dyn FnMut(u32, u32, u64) -> bool| {
        (0..5).filter(|n| start(3, budget_from + n, h * HOUR_MS + 1)).count()
    };
    assert_eq!(hour(1, 40, &mut start), 2);
    assert_eq!(hour(4, 50, &mut start), 5);
}

#[test]
fn the_breaker_counts_on_after_a_clock_that_was_ahead() {
    let start = |budget: &mut Budget, network: u32, n: u32, now: u64| {
        budget.charge(&newcomer(network, &format!("tel:+491511234{n:04}")), true, at(now)).is_ok()
    };
    let served = |budget: &mut Budget, network: u32, from: u32, now: u64| {
        (from..from + 5).filter(|n| start(budget, network, *n, now)).count()
    };
    let (right, wrong) = (1000 * DAY_MS, 1365 * DAY_MS);
    // Codes that are due in a year do not hold up what is due now.
    let mut budget = Budget::new(Limits::default());
    assert!((0..20).all(|n| start(&mut budget, 1, n, wrong)));
    assert!((20..40).all(|n| start(&mut budget, 1, n, right)));
    assert_eq!(served(&mut budget, 2, 40, right + CHALLENGE_MS), 2);
    // What was counted in a year closes nothing now.
    let mut budget = Budget::new(Limits::default());
    assert!((0..20).all(|n| start(&mut budget, 1, n, wrong)));
    assert_eq!(served(&mut budget, 2, 40, wrong + CHALLENGE_MS), 2);
    assert_eq!(served(&mut budget, 3, 50, right), 5);
}

/// Everybody of these networks asks for as many codes as it gets, to numbers of its own choice, and enters none.
fn attack(budget: &mut Budget, networks: u32, number: impl Fn(u32) -> String, ms: u64) -> u32 {
    let mut sent = 0;
    for network in 0..networks {
        for _ in 0..1000 {
            if budget.charge(&attacker(network, sent, &number(sent)), true, at(ms)).is_err() {
                break;
            }
            sent += 1;
        }
    }
    sent
}

#[test]
fn nine_hundred_and_ninety_nine_networks_close_neither_a_country_nor_a_range() {
    let premium = |i: u32| format!("tel:+8816{:02}{:06}", i % 37, i);
    let in_range = |i: u32| format!("tel:+491511234{:04}", i % 10_000);
    for (number, honest) in [(&premium as &dyn Fn(u32) -> String, "tel:+88165"), (&in_range, "tel:+49151123")] {
        let mut budget = Budget::new(Limits::default());
        // At once, ten minutes later when the breaker has tripped, and through the day.
        for hour in 0..24 {
            for ms in [0, CHALLENGE_MS, 2 * CHALLENGE_MS] {
                attack(&mut budget, 999, number, hour * HOUR_MS + ms);
                let now = hour * HOUR_MS + ms;
                for person in 0..100u32 {
                    let mut honest =
                        newcomer(5000 + person + 100 * hour as u32, &format!("{honest}{:06}", 900_000 + person));
                    honest.csi = *blake3::hash(&(now, person).0.to_be_bytes()).as_bytes().first_chunk().unwrap();
                    honest.csi[15] ^= person as u8;
                    let paid =
                        budget.charge(&honest, true, at(now)).unwrap_or_else(|e| panic!("hour {hour}, {ms}: {e}"));
                    budget.completed(&[paid], at(now));
                }
            }
        }
    }
    // What it costs: as many networks as are configured, each of which has unfinished codes.
    let limits = Limits { narrow_networks: 1000, ..Limits::default() };
    let mut budget = Budget::new(limits);
    attack(&mut budget, 999, premium, 0);
    assert!(budget.charge(&newcomer(5000, "tel:+881650000001"), true, at(0)).is_ok(), "the thousandth");
    assert!(budget.charge(&newcomer(5001, "tel:+881650000002"), true, at(0)).is_err());
    assert!(
        budget.charge(&newcomer(5001, "tel:+4915112345642"), true, at(0)).is_err(),
        "and with the country the total"
    );
}

/// Mailboxes of a domain that takes mail for any name.
fn catch_all(i: u32) -> String {
    format!("mailto:p{i}@catch-all.example")
}

fn german_number(i: u32) -> String {
    format!("tel:+4915{i:08}")
}

/// Somebody who takes another identifier for each code, and enters none, all or some of them.
struct Mallory {
    identifier: fn(u32) -> String,
    returns: bool,
    enters: fn(u32) -> bool,
    asked: u32,
}

impl Mallory {
    fn new(identifier: fn(u32) -> String, enters: fn(u32) -> bool) -> Self {
        Self { identifier, returns: false, enters, asked: 0 }
    }

    /// All that these networks get at this time.
    fn take(&mut self, budget: &mut Budget, networks: std::ops::Range<u32>, ms: u64) -> u32 {
        let mut sent = 0;
        for network in networks {
            for _ in 0..BILL_DAY_MAX {
                self.asked += 1;
                let mut ask = attacker(network, self.asked % 65_536, &(self.identifier)(self.asked));
                ask.key = *blake3::hash(&self.asked.to_be_bytes()).as_bytes().first_chunk().unwrap();
                ask.returning = self.returns;
                let Ok(paid) = budget.charge(&ask, true, at(ms)) else { break };
                if (self.enters)(self.asked) {
                    budget.completed(&[paid], at(ms));
                }
                sent += 1;
            }
        }
        sent
    }
}

/// People of one network, each with an own identifier, who enter their codes: how many of them get in.
fn people(budget: &mut Budget, network: u32, people: std::ops::Range<u32>, identifier: &str, ms: u64) -> usize {
    let served = people.filter(|person| {
        let paid = budget.charge(&newcomer(network, &identifier.replace('#', &person.to_string())), true, at(ms));
        paid.is_ok_and(|paid| {
            budget.completed(&[paid], at(ms));
            true
        })
    });
    served.count()
}

/// In mail, whoever has a domain has any number of mailboxes: only his networks bound what he takes.
#[test]
fn two_networks_and_a_catch_all_domain_keep_nobody_out() {
    let (mut budget, mut mallory) = (Budget::new(Limits::default()), Mallory::new(catch_all, |_| true));
    let mut taken = vec![];
    for hour in 0..24 {
        taken.push(mallory.take(&mut budget, 0..2, u64::from(hour) * HOUR_MS));
        // Two hundred newcomers from ten networks, again and again.
        for network in 5000..5010 {
            let (who, now) = (network * 1000 + hour * 20, u64::from(hour) * HOUR_MS + 1);
            assert_eq!(people(&mut budget, network, who..who + 20, "mailto:n#@post.example", now), 20, "{hour} h");
        }
    }
    // Of 6,400 an hour and 32,000 a day.
    assert!(taken.iter().all(|n| *n <= 1400) && taken.iter().sum::<u32>() <= 6200, "{taken:?}");
}

#[test]
fn nine_hundred_and_ninety_nine_networks_do_not_close_the_bill_whatever_they_enter() {
    type Way = (fn(u32) -> String, fn(u32) -> bool, &'static str);
    let ways: [Way; 3] = [
        (catch_all, |_| true, "mailto:n#@post.example"),
        (catch_all, |_| false, "mailto:n#@post.example"),
        (german_number, |n| n % 2 == 0, "tel:+436#"),
    ];
    for (identifier, enters, honest) in ways {
        let (mut budget, mut mallory) = (Budget::new(Limits::default()), Mallory::new(identifier, enters));
        // People of this network have been here before the attack, more than it could have later.
        assert_eq!(people(&mut budget, 9000, 50_000..50_100, honest, 0), 100);
        let (mut taken, mut beside) = (0, 0);
        for hour in 0..24u32 {
            let now = u64::from(hour) * HOUR_MS;
            taken += mallory.take(&mut budget, 0..999, now);
            beside += people(&mut budget, 9000, 60_000 + hour * 9..60_009 + hour * 9, honest, now + 1);
            // Two hundred others, each from a network of an own.
            for i in 0..200 {
                let n = hour * 200 + i;
                assert_eq!(
                    people(&mut budget, 10_000 + n, 70_000 + n..70_001 + n, honest, now + 2),
                    1,
                    "{hour} h, {i}"
                );
            }
        }
        assert!(taken <= 16_000 + 10 * 999 && beside >= 10, "{taken} {beside}");
    }
}

#[test]
fn the_bill_is_closed_by_no_fewer_than_sixteen_hundred_networks() {
    let mut mallory = Mallory::new(catch_all, |_| true);
    let mut budget = Budget::new(Limits::default());
    let closed = (0..).find(|network| mallory.take(&mut budget, *network..network + 1, 0) == 0);
    assert_eq!(closed, Some(1677));
    // What is left to one more network in an hour, after so many have taken all that they get.
    let mut left = |networks: u32| {
        let mut budget = Budget::new(Limits::default());
        let taken = mallory.take(&mut budget, 0..networks, 0);
        (taken, mallory.take(&mut budget, 5000..5001, 0))
    };
    let left: Vec<_> = [0, 1, 2, 10, 20, 50, 100, 999].map(&mut left).into_iter().collect();
    let expected = [(0, 860), (860, 521), (1381, 344), (2602, 50), (2899, 15), (3117, 4), (3246, 2), (5044, 2)];
    assert_eq!(left, expected);
}

#[test]
fn whoever_returns_with_many_keys_closes_the_bill_neither_for_newcomers_nor_for_those_who_return() {
    let (mut budget, mut mallory) = (Budget::new(Limits::default()), Mallory::new(catch_all, |_| true));
    mallory.returns = true;
    for hour in 0..24u32 {
        let now = u64::from(hour) * HOUR_MS;
        mallory.take(&mut budget, 0..20, now);
        for i in 0..10 {
            let network = 5000 + hour * 10 + i;
            assert_eq!(people(&mut budget, network, network..network + 1, "mailto:n#@post.example", now + 1), 1);
            let returning = Ask { returning: true, ..newcomer(network + 1000, "mailto:ann@post.example") };
            let returning = Ask { key: [network as u8; 16], csi: [hour as u8; 16], ..returning };
            assert!(budget.charge(&returning, true, at(now + 1)).is_ok(), "{hour} h, {i}");
        }
    }
}

/// An honest network in which a code stays unfinished has a place for the day. There are more of these than attackers.
#[test]
fn people_who_gave_up_earlier_in_the_day_do_not_help_to_close_it() {
    let (mut budget, mut mallory) = (Budget::new(Limits::default()), Mallory::new(catch_all, |_| false));
    for hour in 0..12u32 {
        for i in 0..400 {
            let ask = newcomer(5000 + hour * 400 + i, &format!("mailto:gave-up{hour}x{i}@post.example"));
            assert!(budget.charge(&ask, true, at(u64::from(hour) * HOUR_MS)).is_ok());
        }
    }
    for hour in 12..24u32 {
        let now = u64::from(hour) * HOUR_MS;
        mallory.take(&mut budget, 0..999, now);
        for n in hour * 100..hour * 100 + 100 {
            assert_eq!(people(&mut budget, 20_000 + n, n..n + 1, "mailto:n#@post.example", now), 1, "{hour} h, {n}");
        }
    }
}

/// Under a breaker, nothing that ends with the day decides when there is room.
#[test]
fn a_refusal_under_the_breaker_tells_when_there_is_room_and_no_later() {
    const MINUTE_MS: u64 = 60_000;
    for start_min in [0, 20, 45, 55, 20 * 60 + 30, 23 * 60 + 30] {
        let mut budget = Budget::new(Limits::default());
        let start = 1000 * DAY_MS + start_min * MINUTE_MS;
        let mut ask = |network: u32, n: u64, ms: u64| {
            budget.charge(&newcomer(network, &format!("tel:+491511234{n:04}")), true, at(ms)).map(drop)
        };
        assert!((0..20).all(|n| ask(1, n, start).is_ok()));
        let tripped = start + CHALLENGE_MS;
        assert!(ask(2, 20, tripped).is_ok() && ask(2, 21, tripped).is_ok(), "twice, where nothing is left");
        let (mut now, mut told) = (tripped, vec![]);
        while let Err(Spent { retry_after_s }) = ask(2, 22, now) {
            // While codes are on their way, the answer is to ask again soon. Then it is known when, and not sooner.
            assert!(retry_after_s * 1000 <= SOON_MS || ask(2, 22, now + retry_after_s * 1000 - 1).is_err());
            now += retry_after_s * 1000;
            told.push(retry_after_s);
            assert!(told.len() <= 12, "{start_min}: {told:?}");
        }
        assert!(now <= tripped + 2 * HOUR_MS + CHALLENGE_MS, "{start_min}: {told:?}");
    }
}

#[test]
fn pumping_is_bounded_by_the_networks_that_pump() {
    let limits = Limits::default();
    let share = |limit: u32| limit - limit * u32::from(limits.reserve_percent) / 100;
    // What a country has for all, and two for each network.
    let one_country = |i: u32| format!("tel:+8816{:02}{:06}", i % 37, i);
    let sent = |networks: u32| attack(&mut Budget::new(limits.clone()), networks, one_country, 0);
    assert_eq!(sent(1), share(limits.country_hour) / 2);
    assert!((share(limits.country_hour)..=share(limits.country_hour) + 2 * 20).contains(&sent(20)), "{}", sent(20));
    assert!(sent(999) <= share(limits.country_hour) + 2 * 999);
    // In all countries together.
    let everywhere = |i: u32| format!("tel:+{}{:02}{:06}", 200 + [11, 12, 13, 16, 18][i as usize % 5], i % 37, i);
    let sent = |networks: u32| attack(&mut Budget::new(limits.clone()), networks, everywhere, 0);
    assert!(sent(20) <= share(limits.total_hour) + 2 * 20);
    assert!(sent(999) <= share(limits.total_hour) + 2 * 999);
    assert!(sent(5000) <= share(limits.total_hour) + 2 * limits.narrow_networks, "{}", sent(5000));
}

/// Whoever has a mail domain enters as many codes as he likes, with new keys or with those that return.
#[test]
fn nine_hundred_and_ninety_nine_networks_that_enter_their_codes_do_not_use_up_the_bill() {
    for returning in [false, true] {
        let (mut budget, mut asked) = (Budget::new(Limits::default()), 0u32);
        for hour in 0..24u32 {
            let now = at(u64::from(hour) * HOUR_MS);
            for network in 0..999 {
                for _ in 0..10_000 {
                    asked += 1;
                    let mailbox = attacker(network, asked, &format!("mailto:person{asked}@eve.example"));
                    let key = *blake3::hash(&asked.to_be_bytes()).as_bytes().first_chunk().unwrap();
                    let Ok(paid) = budget.charge(&Ask { key, returning, ..mailbox }, true, now) else { break };
                    budget.completed(&[paid], now);
                }
            }
            let honest = newcomer(5000 + hour, &format!("mailto:honest{hour}@post.example"));
            assert!(budget.charge(&honest, true, now).is_ok(), "returning: {returning}, hour {hour}");
        }
    }
}

#[test]
fn pumping_stops_at_the_breaker_and_those_who_return_go_on() {
    let mut budget = Budget::new(Limits::default());
    let mut sent = [0, 0];
    // Numbers in many ranges of a premium country, one a second for two hours, from four networks, none ever entered.
    for i in 0..7200u32 {
        let number = format!("tel:+8816{:02}{:06}", i % 37, i);
        let is_sent = budget.charge(&attacker(i % 4, i, &number), true, at(u64::from(i) * 1000)).is_ok();
        sent[usize::from(i >= 600)] += u32::from(is_sent);
    }
    // Ten minutes, until the breaker sees it; then two for each network in an hour.
    assert!((300..=480).contains(&sent[0]) && sent[1] <= 2 * 4 * 2, "{sent:?}");
    // Who was here before does not wait; nor does anybody elsewhere.
    let now = at(7_199_000);
    assert!(budget.charge(&attacker(1, 1, "tel:+881600123456"), true, now).is_err());
    assert!(budget.charge(&newcomer(9, "tel:+881600123456"), true, now).is_ok());
    assert!(budget.charge(&ask(1, "tel:+881600123456", 1, true), true, now).is_ok());
    assert!(budget.charge(&newcomer(1, "tel:+4915112345642"), true, now).is_ok());
}

#[test]
fn a_range_whose_people_enter_their_codes_stays_open() {
    let mut budget = Budget::new(Limits { range_hour: 1000, range_day: 1000, ..Limits::default() });
    for i in 0..200u32 {
        let now = at(u64::from(i) * 10_000);
        let person = attacker(i % 20, i, &format!("tel:+491511234{i:04}"));
        let paid = budget.charge(&person, true, now).unwrap_or_else(|e| panic!("{i}: {e}"));
        if i % 3 == 0 {
            budget.completed(&[paid], now);
        }
    }
}

#[test]
fn a_share_is_kept_for_those_who_return() {
    let limits = Limits { total_hour: 10, narrow_networks: 0, reserve_percent: 30, ..Limits::default() };
    let mut budget = Budget::new(limits);
    let mail = |i: u8, returning| {
        from(ask(i, &format!("mailto:person{i:03}@post.example"), i, returning), &format!("198.{i}.0.1"))
    };
    let fits = |budget: &mut Budget, range: std::ops::Range<u8>, returning| {
        range.filter(|i| budget.charge(&mail(*i, returning), true, at(5)).is_ok()).count()
    };
    assert_eq!(fits(&mut budget, 0..20, false), 7);
    assert_eq!(fits(&mut budget, 20..40, true), 3);
    // Phone numbers have a total of their own.
    assert!(budget.charge(&ask(99, "tel:+4915112345642", 1, false), true, at(5)).is_ok());
}

#[test]
fn contradictions_are_refused() {
    assert_eq!(Limits::default().check(), Ok(()));
    for bad in [
        Limits { csi_hour: 11, ..Limits::default() },
        Limits { bill_day: BILL_DAY_MAX + 1, ..Limits::default() },
        Limits { narrow_networks: NARROW_NETWORKS_MAX + 1, ..Limits::default() },
        Limits { reserve_percent: 91, ..Limits::default() },
        Limits { breaker_percent: 101, ..Limits::default() },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
    // The bill is not what closes first.
    let l = Limits::default();
    assert!(u64::from(l.bill_hour) * 8 / 10 >= u64::from(l.total_hour) * 8 / 10 + 2 * u64::from(l.narrow_networks));
    // Half of what newcomers have holds the places of a thousand networks, also with the least that is named.
    for [hour, day] in [[l.bill_hour, l.bill_day], [5000, 25_000]] {
        assert!(hour * 8 / 10 / 2 >= 1000 * BILL_NARROW[0] && day * 8 / 10 / 2 >= 1000 * BILL_NARROW[1]);
    }
}

struct Sent {
    paid: Paid,
    is_entered: bool,
    /// Beyond its network's share of the bill, in the hour and in the day.
    is_narrow: [bool; 2],
}

/// Every code ever sent, and every challenge ever over or ended well: counted again for each question.
#[derive(Default)]
struct Naive {
    sent: Vec<Sent>,
    /// When their time is over.
    started: Vec<(u64, Ask)>,
    completed: Vec<(u64, Ask)>,
}

fn area(group: usize, ask: &Ask) -> Option<u64> {
    match group {
        0 => Some(u64::from(ask.prefix.is_some())),
        1 => ask.prefix.map(|p| u64::from(p.country)),
        _ => ask.prefix.map(|p| p.range),
    }
}

impl Naive {
    /// Unfinished and entered codes of a window that are like this.
    fn count(&self, now: u64, window: u64, is_like: &dyn Fn(&Paid) -> bool) -> (u64, u64) {
        let like = self.sent.iter().filter(|s| s.paid.at.get() / window == now / window && is_like(&s.paid));
        let (entered, unfinished): (Vec<&Sent>, Vec<&Sent>) = like.partition(|s| s.is_entered);
        (unfinished.len() as u64, entered.len() as u64)
    }

    fn shared(&self, l: &Limits, ask: &Ask, now: u64, group: usize, limit: (u32, u32), over_min: u32) -> bool {
        let hour = now / HOUR_MS;
        let like = |a: &Ask| area(group, a) == area(group, ask);
        let recent = |list: &[(u64, Ask)]| {
            let recent = list.iter().filter(|(t, a)| *t <= now && t / HOUR_MS + 1 >= hour && !a.returning && like(a));
            recent.count() as u64
        };
        let (over, completed) = (recent(&self.started), recent(&self.completed));
        let tripped = group > 0
            && !ask.returning
            && over >= u64::from(over_min)
            && completed * 100 < over * u64::from(l.breaker_percent);
        let network = prefix::Prefix::network(ask.address);
        [(HOUR_MS, limit.0, 1), (DAY_MS, limit.1, 5)].into_iter().all(|(window, limit, times)| {
            let limit = u64::from(limit - limit * u32::from(l.reserve_percent) / 100);
            let (unfinished, entered) = self.count(now, window, &|p| !p.kept && like(&p.ask));
            let of = |n: prefix::Prefix| {
                self.count(now, window, &|p| !p.kept && like(&p.ask) && prefix::Prefix::network(p.ask.address) == n)
            };
            let networks: std::collections::BTreeSet<_> =
                self.sent.iter().map(|s| prefix::Prefix::network(s.paid.ask.address)).collect();
            let in_use = networks.into_iter().filter(|n| of(*n).0 > 0).count() as u64;
            let (mine, mine_entered) = of(network);
            let wide = !tripped && unfinished * 10 + entered + mine * 10 < limit * 10;
            let narrow = (mine > 0 || in_use < times * u64::from(l.narrow_networks)) && mine < 2 + mine_entered;
            limit > 0 && (wide || narrow)
        })
    }

    /// Of each window of the bill: whether there is no room, or a code would be beyond the share of its network.
    fn bill(&self, l: &Limits, ask: &Ask, now: u64) -> [Option<bool>; 2] {
        let of = |p: &Paid| !p.kept && p.ask.prefix.is_some() == ask.prefix.is_some();
        let network = prefix::Prefix::network(ask.address);
        let mine = |p: &Paid| of(p) && prefix::Prefix::network(p.ask.address) == network;
        let windows = [(HOUR_MS, l.bill_hour, 2), (DAY_MS, l.bill_day, 10)];
        std::array::from_fn(|i| {
            let (window, bill, narrow_max) = windows[i];
            let bill = u64::from(bill - bill * u32::from(l.reserve_percent) / 100);
            let all = |is_like: &dyn Fn(&Paid) -> bool| {
                let (unfinished, entered) = self.count(now, window, is_like);
                unfinished + entered
            };
            let (sent, mine_sent, open) = (all(&of), all(&mine), bill.div_ceil(2));
            let left = open.saturating_sub(sent);
            let is_narrow = 2 * open * mine_sent >= left * left;
            let same = |s: &&Sent| s.paid.at.get() / window == now / window && mine(&s.paid) && s.is_narrow[i];
            let narrow = self.sent.iter().filter(same).count();
            (sent < bill && (!is_narrow || narrow < narrow_max)).then_some(is_narrow)
        })
    }

    /// Whether a code is sent, and if so, whether it takes of what is kept.
    fn allows(&self, l: &Limits, ask: &Ask, now: u64) -> Option<bool> {
        let every = |is_like: &dyn Fn(&Paid) -> bool, hour: u32, day: u32| {
            let room = |window: u64, limit: u32| {
                let (unfinished, entered) = self.count(now, window, is_like);
                unfinished + entered < u64::from(limit)
            };
            room(HOUR_MS, hour) && room(DAY_MS, day)
        };
        let weighed = |of: fn(IpAddr) -> prefix::Prefix, times: u32| {
            let room = |window: u64, limit: u32| {
                let (unfinished, entered) = self.count(now, window, &|p| of(p.ask.address) == of(ask.address));
                unfinished * 10 + entered < u64::from(limit * times) * 10
            };
            room(HOUR_MS, l.address_hour) && room(DAY_MS, l.address_day)
        };
        let groups =
            [(l.total_hour, l.total_day), (l.country_hour, l.country_day), (l.range_hour, l.range_day)].into_iter();
        let groups: Vec<(usize, (u32, u32))> = groups.enumerate().filter(|(g, _)| area(*g, ask).is_some()).collect();
        let reserve = |n: u32| n * u32::from(l.reserve_percent) / 100;
        let to_phone = |p: &Paid| p.ask.prefix.is_some() == ask.prefix.is_some();
        let kept = ask.returning
            && groups.iter().all(|(g, limit)| {
                let like = |p: &Paid| p.kept && area(*g, &p.ask) == area(*g, ask);
                every(&like, reserve(limit.0), reserve(limit.1))
            })
            && every(&|p| p.kept && to_phone(p), reserve(l.bill_hour), reserve(l.bill_day));
        let min = [0, l.breaker_country_min, l.breaker_range_min];
        let shared = kept || groups.iter().all(|(g, limit)| self.shared(l, ask, now, *g, *limit, min[*g]));
        let site = |a: IpAddr| prefix::Prefix::site(a);
        let strangers = |p: &Paid| !p.ask.returning && p.ask.csi == ask.csi;
        let part = |n: u32| (n * 2 / 5).max(n.min(1));
        let own = if ask.returning {
            every(&|p| p.ask.returning && p.ask.key == ask.key, l.csi_hour, l.csi_day)
        } else {
            every(&strangers, l.csi_hour, l.csi_day)
                && every(
                    &|p| strangers(p) && site(p.ask.address) == site(ask.address),
                    part(l.csi_hour),
                    part(l.csi_day),
                )
        };
        let is_sent = shared
            && own
            && weighed(prefix::Prefix::host, 1)
            && weighed(prefix::Prefix::network, 2)
            && (kept || self.bill(l, ask, now).iter().all(Option::is_some));
        is_sent.then_some(kept)
    }
}

fn small_limits() -> Limits {
    Limits {
        address_hour: 4,
        address_day: 9,
        csi_hour: 3,
        csi_day: 7,
        range_hour: 5,
        range_day: 10,
        country_hour: 7,
        country_day: 14,
        total_hour: 9,
        total_day: 20,
        narrow_networks: 2,
        bill_hour: 12,
        bill_day: 30,
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

enum Happened {
    Charged(Paid, bool),
    Completed(Paid, u64),
}

proptest! {
    #[test]
    fn the_budget_and_a_naive_model_agree_and_so_does_one_that_is_told_what_happened(
        steps in prop::collection::vec((0u64..2_000_000, 0u8..6, 0usize..6, 0u8..3, any::<bool>(), 0u8..5), 1..200),
    ) {
        let (limits, mut now, mut happened) = (small_limits(), 0, vec![]);
        let (mut budget, mut naive) = (Budget::new(limits.clone()), Naive::default());
        let wish = |address: u8, number: usize, key: u8, returning| {
            let ask = ask(0, NUMBERS[number], key * 10 + number as u8, returning);
            from(ask, &format!("192.0.{}.{address}", address / 2))
        };
        for (later, address, number, key, returning, what) in steps {
            now += later;
            if what >= 3 {
                let is_open = |s: &Sent| !s.is_entered && s.paid.at.get() + CHALLENGE_MS > now;
                let Some(sent) = naive.sent.iter_mut().rev().find(|s| is_open(s)) else { continue };
                sent.is_entered = true;
                budget.completed(std::slice::from_ref(&sent.paid), at(now));
                happened.push(Happened::Completed(sent.paid.clone(), now));
                naive.completed.push((now, sent.paid.ask.clone()));
                continue;
            }
            let ask = wish(address, number, key, returning);
            let (is_first, allowed) = (what > 0, naive.allows(&limits, &ask, now));
            let is_narrow = naive.bill(&limits, &ask, now).map(|n| n.unwrap_or_default());
            let charged = budget.charge(&ask, is_first, at(now));
            prop_assert_eq!(charged.as_ref().ok().map(|p| p.kept), allowed);
            if let Ok(paid) = charged {
                if is_first {
                    naive.started.push((now + CHALLENGE_MS, ask));
                }
                happened.push(Happened::Charged(paid.clone(), is_first));
                naive.sent.push(Sent { paid, is_entered: false, is_narrow });
            }
        }
        let mut again = Budget::new(limits);
        for event in &happened {
            match event {
                Happened::Charged(paid, is_first) => again.put(paid, *is_first),
                Happened::Completed(paid, now) => again.completed(std::slice::from_ref(paid), at(*now)),
            }
        }
        for (address, number) in (0..6).flat_map(|a| (0..6).map(move |n| (a, n))) {
            let ask = wish(address, number, 0, number % 2 == 0);
            prop_assert_eq!(again.charge(&ask, true, at(now)), budget.charge(&ask, true, at(now)));
        }
    }
}
