//! Which mapping a sender uses: one, never several, always the same one until there is a reason.
//!
//! What may be used is counted now, passes every filter that was asked for, and names an MSP. Of these, the first step that
//! leaves anything decides:
//!
//! 1. mappings found by the exact-match tag that was presented;
//! 2. mappings that bear the tag that was asked for;
//! 3. mappings at the MSPs that were asked for;
//! 4. mappings tagged `default`;
//! 5. any.
//!
//! A filter is never given up: with a tag asked for, steps 3 to 5 do not look beyond it, and `default` still goes before the
//! rest among what an MSP filter leaves. No step looks at whose MSP it is: the order knows no affiliation.
//!
//! Where several are left, the one with the least keyed hash is taken. The key is a secret of the sender's own, so that
//! different senders spread over equal mappings, nobody can place a mapping so that it wins, and each sender gets the same
//! one again without having remembered it. What was chosen is remembered all the same ([`super::sticky`]): a mapping that is
//! added later does not draw anybody over. The choice changes only when the sender asks, or when what was chosen is gone,
//! has lapsed, or no longer passes the sender's own filters. A renewal by the same key at the same MSP is the same choice.
//!
//! Only a [`Verified`] look-up can be chosen from. Pure: secret, memory and time are arguments.

use waymark_log::{hash::Hash, key::Key, time::UnixMillis};
use waymark_mapping::{
    facts::MappingFacts,
    names::{Domain, Tag},
    verify::{Asked, Lookup, Verified},
};
use zeroize::Zeroizing;

use super::policy::{Policy, Test};

/// What a sender asks for. The default asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only mappings that bear this tag, or were found by it.
    pub tag: Option<Tag>,
    /// Only at these MSPs; at any if there are none.
    pub only: Vec<Domain>,
    /// Not at these MSPs.
    pub not: Vec<Domain>,
    /// Only by this recipient key, which was compared by other means.
    pub recipient: Option<Key>,
    /// Only mappings whose facts pass.
    pub policy: Policy,
}

/// A sender's own secret, for spreading and for naming choices in a file. Whoever has it can see whom the sender chose for.
pub struct SenderSecret {
    tie_break: Zeroizing<[u8; 32]>,
    index: Zeroizing<[u8; 32]>,
}

/// What is remembered of a choice: keyed hashes, nothing in clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The mapping.
    pub mapping: [u8; 16],
    /// Its MSP and recipient key, which a renewal keeps.
    pub place: [u8; 16],
}

/// Why the chosen mapping came before the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It was found by the exact-match tag that was presented.
    ExactTag,
    /// It bears the tag that was asked for.
    Tag,
    /// It is at an MSP that was asked for.
    Msp,
    /// It is the recipient's default.
    Default,
    /// The recipient has not said which goes first.
    Any,
    /// It was chosen before; something that was added since would go first.
    Earlier,
}

/// How a choice relates to the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Nothing was remembered.
    First,
    /// It is the one chosen before.
    Kept,
    /// The one chosen before is gone, has lapsed, or does not pass the filters any more.
    Moved,
    /// The sender asked for another one, and this is another one.
    Again,
}

/// The one mapping to use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice<'a> {
    /// The mapping.
    pub mapping: &'a MappingFacts,
    /// Why it came before the others.
    pub why: Why,
    /// How many came equally first, itself included.
    pub equals: usize,
    /// How it relates to the choice before.
    pub memory: Memory,
    /// What to remember.
    pub keep: Kept,
}

/// A look-up's mappings, sorted by a filter. What does not hold, or is not what was asked for, is in neither list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sifted<'a> {
    /// What may be used.
    pub usable: Vec<&'a MappingFacts>,
    /// What is what was asked for, and fails these tests.
    pub unmet: Vec<(&'a MappingFacts, Vec<Test>)>,
}

/// Why there is nothing to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoChoice {
    /// Nothing that holds is listed, or nothing with this tag, at these MSPs, by this key.
    #[error("nothing that was asked for is listed")]
    Nothing,
    /// What is listed fails tests; [`sift`] says which.
    #[error("nothing that is listed meets what is required")]
    Unmet,
}

impl SenderSecret {
    /// From the 32 random bytes of a secret file.
    pub fn new(seed: &[u8; 32]) -> Self {
        let derive = |context| Zeroizing::new(blake3::derive_key(context, seed));
        Self { tie_break: derive("waymark 2026 choice tie-break"), index: derive("waymark 2026 choice index") }
    }

    /// The name of a question in a file of choices: which log, about whom, with which tag.
    pub fn question(&self, asked: &Asked) -> [u8; 16] {
        let (origin, tag) = (asked.origin.as_str(), asked.tag.as_ref().map_or("", Tag::expose));
        self.name(&[b"question", origin.as_bytes(), asked.csi.expose().as_bytes(), tag.as_bytes()])
    }

    fn kept(&self, m: &MappingFacts) -> Kept {
        let msp = m.msp.as_ref().map_or("", Domain::as_str);
        let place = self.name(&[b"place", msp.as_bytes(), m.recipient.as_bytes()]);
        Kept { mapping: self.name(&[b"mapping", m.digest.as_bytes()]), place }
    }

    /// Keyed hash of parts, each behind its length: half of BLAKE3's output is enough to tell ten thousand names apart.
    fn name(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.index);
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        let mut name = [0; 16];
        name.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        name
    }

    fn rank(&self, digest: &Hash) -> [u8; 32] {
        *blake3::keyed_hash(&self.tie_break, digest.as_bytes()).as_bytes()
    }
}

/// Chooses. `before` is what was remembered for this question; `again` asks for another one than that, if there is one.
///
/// # Errors
/// [`NoChoice`]; what was remembered then stays.
pub fn choose<'a>(
    lookup: &'a Verified<Lookup>,
    filter: &Filter,
    secret: &SenderSecret,
    before: Option<&Kept>,
    again: bool,
    now: UnixMillis,
) -> Result<Choice<'a>, NoChoice> {
    pick(lookup.get(), filter, secret, before, again, now)
}

fn pick<'a>(
    lookup: &'a Lookup,
    filter: &Filter,
    secret: &SenderSecret,
    before: Option<&Kept>,
    again: bool,
    now: UnixMillis,
) -> Result<Choice<'a>, NoChoice> {
    let Sifted { usable, unmet } = sift_all(lookup, filter, now);
    if usable.is_empty() {
        return Err(if unmet.is_empty() { NoChoice::Nothing } else { NoChoice::Unmet });
    }
    let (why, mut first) = prefer(usable.clone(), filter);
    first.sort_by_cached_key(|m| secret.rank(&m.digest));
    // What was chosen stays while it may be used at all, even if something now goes before it: a default that somebody adds
    // later must not draw a conversation over.
    let kept = before.and_then(|kept| find(&usable, kept, secret));
    let (mapping, memory) = match (kept, before) {
        (Some(m), _) if again && after(&first, m) != m => (after(&first, m), Memory::Again),
        (Some(m), _) => (m, Memory::Kept),
        (None, Some(_)) => (first[0], Memory::Moved),
        (None, None) => (first[0], Memory::First),
    };
    let why = if first.contains(&mapping) { why } else { Why::Earlier };
    Ok(Choice { mapping, why, equals: first.len(), memory, keep: secret.kept(mapping) })
}

/// Sorts a look-up's mappings by a filter.
pub fn sift<'a>(lookup: &'a Verified<Lookup>, filter: &Filter, now: UnixMillis) -> Sifted<'a> {
    sift_all(lookup.get(), filter, now)
}

fn sift_all<'a>(lookup: &'a Lookup, filter: &Filter, now: UnixMillis) -> Sifted<'a> {
    let mut sifted = Sifted { usable: Vec::new(), unmet: Vec::new() };
    for m in lookup.mappings.iter().filter(|m| m.holds && filter.allows(m)) {
        let missing = filter.policy.missing(m, lookup, now);
        if missing.is_empty() { sifted.usable.push(m) } else { sifted.unmet.push((m, missing)) }
    }
    sifted
}

impl Filter {
    fn allows(&self, m: &MappingFacts) -> bool {
        // Who opted out is not to be reached at all.
        let Some(msp) = &m.msp else { return false };
        let tagged = self.tag.as_ref().is_none_or(|t| m.tags.as_exact() == Some(t) || m.tags.as_shown().contains(t));
        let here = (self.only.is_empty() || self.only.contains(msp)) && !self.not.contains(msp);
        tagged && here && self.recipient.is_none_or(|key| key == m.recipient)
    }
}

/// The first step of the order that leaves anything. `usable` is not empty.
fn prefer<'a>(usable: Vec<&'a MappingFacts>, filter: &Filter) -> (Why, Vec<&'a MappingFacts>) {
    let exact = filter.tag.as_ref().filter(|t| usable.iter().any(|m| m.tags.as_exact() == Some(*t)));
    if let Some(tag) = exact {
        return (Why::ExactTag, usable.into_iter().filter(|m| m.tags.as_exact() == Some(tag)).collect());
    }
    if filter.tag.is_some() {
        return (Why::Tag, usable);
    }
    let is_default = |m: &&MappingFacts| m.tags.as_shown().iter().any(|t| t.expose() == Tag::DEFAULT);
    let defaults: Vec<&MappingFacts> = usable.iter().copied().filter(is_default).collect();
    let why = match (filter.only.is_empty(), defaults.is_empty()) {
        (false, _) => Why::Msp,
        (true, false) => Why::Default,
        (true, true) => Why::Any,
    };
    (why, if defaults.is_empty() { usable } else { defaults })
}

/// The mapping that was chosen before, or its renewal.
fn find<'a>(usable: &[&'a MappingFacts], kept: &Kept, secret: &SenderSecret) -> Option<&'a MappingFacts> {
    let same = usable.iter().find(|m| secret.kept(m).mapping == kept.mapping);
    let renewals = || usable.iter().filter(|m| secret.kept(m).place == kept.place);
    same.or_else(|| renewals().min_by_key(|m| secret.rank(&m.digest))).copied()
}

/// The next of the first after this one, round and round.
fn after<'a>(first: &[&'a MappingFacts], m: &MappingFacts) -> &'a MappingFacts {
    let at = first.iter().position(|f| f.digest == m.digest);
    first[at.map_or(0, |at| (at + 1) % first.len())]
}

/// Look-ups that nobody has proved, for the tests of this folder alone.
#[cfg(test)]
pub(super) mod invented {
    use waymark_log::{checkpoint::Origin, key::SecretKey};
    use waymark_mapping::{
        facts::{Change, LogFacts, OpenKnown, Possession, Service},
        mapping::{Method, Tags},
        names::Account,
        verify::Outcome,
    };

    use super::*;

    /// A mapping that holds and of which nothing more is known. `!tag` is an exact-match tag, an empty one is none.
    pub fn mapping(msp: &str, tag: &str, number: u64) -> MappingFacts {
        let prover = Domain::parse("dp.example").unwrap();
        let time = UnixMillis::new(1_799_999_999_000);
        let tags = match tag.strip_prefix('!') {
            Some(exact) => Tags::Exact(Tag::parse(exact).unwrap()),
            None => Tags::shown(Tag::parse(tag).into_iter().collect()).unwrap(),
        };
        MappingFacts {
            msp: Domain::parse(msp),
            account: Account::NONE,
            tags,
            recipient: SecretKey::from_seed(&[number as u8; 32]).public(),
            digest: Hash::sha256(&[msp.as_bytes(), &number.to_be_bytes()]),
            not_after: UnixMillis::new(1_900_000_000_000),
            holds: true,
            possession: Possession {
                prover,
                method: Method::SMS,
                strength: 1,
                time,
                independent_of_dp: false,
                independent_of_msp: false,
                pinned: false,
            },
            service: Service::Unconfirmed,
            change: Change { since: time, since_version: 0, logged_by: None, is_new: false },
        }
    }

    /// A look-up that has these.
    pub fn lookup(mappings: Vec<MappingFacts>) -> Lookup {
        Lookup {
            outcome: Outcome::Listed,
            mappings,
            version: Some(0),
            commitment: None,
            tenure: Some(0),
            tenure_of_next_mapping: 0,
            contested: None,
            changed_hands: None,
            withheld: vec![],
            watched: vec![],
            log: LogFacts {
                open: OpenKnown::HeadOnly,
                origin: Origin::new("dp.example/log").unwrap(),
                size: 10,
                head_time: UnixMillis::new(1_799_999_999_500),
                interval_ms: 200,
                witnesses: 3,
                witnesses_known: 4,
                auditors: 0,
                auditors_known: 0,
                age_s: 1,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        invented::{lookup, mapping},
        *,
    };

    const NOW: UnixMillis = UnixMillis::new(1_800_000_000_000);

    fn secret(number: u64) -> SenderSecret {
        SenderSecret::new(Hash::sha256(&[&number.to_be_bytes()]).as_bytes())
    }

    fn tag(text: &str) -> Option<Tag> {
        Some(Tag::parse(text).unwrap())
    }

    fn msp(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    /// What is chosen without any memory: the reason, and the MSPs that any of a hundred senders chooses.
    fn chosen(mappings: &[MappingFacts], filter: &Filter) -> Result<(Why, Vec<String>), NoChoice> {
        let lookup = lookup(mappings.to_vec());
        let mut msps = vec![];
        let mut why = Why::Any;
        for number in 0..100 {
            let choice = pick(&lookup, filter, &secret(number), None, false, NOW)?;
            msps.push(choice.mapping.msp.as_ref().unwrap().to_string());
            why = choice.why;
        }
        msps.sort();
        msps.dedup();
        Ok((why, msps))
    }

    #[test]
    fn the_order_of_the_steps() {
        let all = [
            mapping("a.example", "default", 1),
            mapping("b.example", "business", 2),
            mapping("c.example", "!business", 3),
            mapping("d.example", "", 4),
        ];
        let by = |filter: Filter, range: std::ops::Range<usize>| {
            chosen(&all[range], &filter).map(|(why, msps)| (why, msps.join(" ")))
        };
        let is = |why, msps: &str| Ok((why, msps.to_owned()));
        let tagged = || Filter { tag: tag("business"), ..Filter::default() };
        let only = |names: &[&str]| Filter { only: names.iter().map(|n| msp(n)).collect(), ..Filter::default() };
        assert_eq!(by(tagged(), 0..4), is(Why::ExactTag, "c.example"));
        assert_eq!(by(tagged(), 0..2), is(Why::Tag, "b.example"));
        assert_eq!(by(only(&["b.example", "d.example"]), 0..4), is(Why::Msp, "b.example d.example"));
        assert_eq!(by(only(&["a.example", "b.example"]), 0..4), is(Why::Msp, "a.example"), "the default of those");
        assert_eq!(by(Filter::default(), 0..4), is(Why::Default, "a.example"));
        assert_eq!(by(Filter::default(), 1..4), is(Why::Any, "b.example c.example d.example"));
        // No filter is given up.
        assert_eq!(by(tagged(), 0..1), Err(NoChoice::Nothing));
        assert_eq!(by(Filter { only: vec![msp("a.example")], ..tagged() }, 0..4), Err(NoChoice::Nothing));
        assert_eq!(by(Filter { not: vec![msp("a.example")], ..Filter::default() }, 0..1), Err(NoChoice::Nothing));
        let policy = Policy::parse(["L3"]).unwrap();
        let strict = Filter { policy, ..Filter::default() };
        assert_eq!(by(strict.clone(), 0..1), Err(NoChoice::Unmet));
        let of = lookup(all[..1].to_vec());
        assert_eq!(sift_all(&of, &strict, NOW).unmet, [(&all[0], vec![Test::ServiceConfirmed])]);
        let recipient = Some(all[3].recipient);
        assert_eq!(by(Filter { recipient, ..Filter::default() }, 0..4), is(Why::Any, "d.example"));
    }

    #[test]
    fn what_does_not_hold_or_names_no_msp_is_not_chosen() {
        let mut lapsed = mapping("a.example", "default", 1);
        lapsed.holds = false;
        assert_eq!(chosen(&[lapsed.clone()], &Filter::default()), Err(NoChoice::Nothing));
        let mut out = mapping("b.example", "", 2);
        out.msp = None;
        assert_eq!(chosen(&[lapsed, out], &Filter::default()), Err(NoChoice::Nothing));
    }

    #[test]
    fn two_defaults_a_thousand_sends_one_msp() {
        let both = lookup(vec![mapping("a.example", "default", 1), mapping("b.example", "default", 2)]);
        let (secret, filter) = (secret(1), Filter::default());
        let first = pick(&both, &filter, &secret, None, false, NOW).unwrap();
        assert_eq!((first.memory, first.equals), (Memory::First, 2));
        for _ in 0..1000 {
            let next = pick(&both, &filter, &secret, Some(&first.keep), false, NOW).unwrap();
            assert_eq!((next.mapping, next.memory, next.keep), (first.mapping, Memory::Kept, first.keep));
        }
    }

    #[test]
    fn a_choice_changes_only_for_a_reason() {
        let (a, b) = (mapping("a.example", "", 1), mapping("b.example", "", 2));
        let (secret, filter) = (secret(1), Filter::default());
        let choose = |mappings: &[&MappingFacts], before: Option<&Kept>, again: bool| {
            let lookup = lookup(mappings.iter().map(|m| (*m).clone()).collect());
            let choice = pick(&lookup, &filter, &secret, before, again, NOW).unwrap();
            (choice.mapping.msp.as_ref().unwrap().to_string(), choice.memory, choice.keep)
        };
        let (_, _, kept) = choose(&[&a], None, false);
        // Neither a newcomer nor a default that is added later draws it over.
        let default = mapping("c.example", "default", 3);
        let (msp, memory, _) = choose(&[&a, &b, &default], Some(&kept), false);
        assert_eq!((msp.as_str(), memory), ("a.example", Memory::Kept));
        assert_eq!(choose(&[&a, &b, &default], Some(&kept), true).0, "c.example");
        // The sender's wish does, and goes round.
        let (msp, memory, other) = choose(&[&a, &b], Some(&kept), true);
        assert_eq!((msp.as_str(), memory), ("b.example", Memory::Again));
        assert_eq!(choose(&[&a, &b], Some(&other), true).0, "a.example");
        assert_eq!(choose(&[&a], Some(&kept), true).1, Memory::Kept, "there is no other");
        // Removal does, and lapse.
        let (msp, memory, _) = choose(&[&b], Some(&kept), false);
        assert_eq!((msp.as_str(), memory), ("b.example", Memory::Moved));
        let lapsed = MappingFacts { holds: false, ..a.clone() };
        assert_eq!(choose(&[&lapsed, &b], Some(&kept), false).0, "b.example");
        // A renewal by the same key at the same MSP does not; another key at that MSP does.
        let renewed = MappingFacts { digest: Hash::sha256(&[b"renewed"]), ..a.clone() };
        let (msp, memory, kept_on) = choose(&[&b, &renewed], Some(&kept), false);
        assert_eq!((msp.as_str(), memory), ("a.example", Memory::Kept));
        assert_ne!(kept_on, kept);
        let swapped = MappingFacts { recipient: b.recipient, ..renewed };
        assert_eq!(choose(&[&swapped], Some(&kept), false).1, Memory::Moved);
    }

    #[test]
    fn different_senders_spread_and_each_sticks() {
        let equal: Vec<MappingFacts> = (0..4).map(|i| mapping(&format!("m{i}.example"), "default", i)).collect();
        let lookup = lookup(equal.clone());
        let mut counts = [0i64; 4];
        for number in 0..1000 {
            let choice = pick(&lookup, &Filter::default(), &secret(number), None, false, NOW).unwrap();
            counts[equal.iter().position(|m| m == choice.mapping).unwrap()] += 1;
        }
        // Chi-square with three degrees of freedom: above 21.1 in one of ten thousand fair draws. The secrets are fixed, so
        // this passes always or never.
        let chi_square = counts.iter().map(|c| (c - 250).pow(2)).sum::<i64>() as f64 / 250.0;
        assert!(chi_square < 21.1, "{counts:?}");
    }

    prop_compose! {
        fn any_mapping()(
            at in 0usize..4, tag in 0usize..5, number in 0u64..1000, holds in any::<bool>(), confirmed in any::<bool>(),
        ) -> MappingFacts {
            let tags = ["", "default", "business", "!business", "family"];
            let mut m = mapping(["a.example", "b.example", "c.example", ""][at], tags[tag], number);
            m.holds = holds;
            if confirmed {
                m.service = waymark_mapping::facts::Service::Confirmed { in_log: false, pinned: false };
            }
            m
        }
    }

    prop_compose! {
        fn any_filter()(
            with_tag in any::<bool>(), only in 0usize..4, not in 0usize..4, strict in any::<bool>(),
        ) -> Filter {
            let named = |n: usize| ["a.example", "b.example", "c.example"].get(n).map(|d| msp(d)).into_iter().collect();
            Filter {
                tag: with_tag.then(|| tag("business")).flatten(),
                only: named(only),
                not: named(not),
                recipient: None,
                policy: Policy::parse(strict.then_some("L3")).unwrap(),
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_chosen_that_was_filtered_out(
            mappings in prop::collection::vec(any_mapping(), 0..10), filter in any_filter(),
            before in prop::option::of(0usize..10), again in any::<bool>(),
        ) {
            let lookup = lookup(mappings);
            let secret = secret(7);
            let before = before.and_then(|i| lookup.mappings.get(i)).map(|m| secret.kept(m));
            if let Ok(choice) = pick(&lookup, &filter, &secret, before.as_ref(), again, NOW) {
                let m = choice.mapping;
                let msp = m.msp.as_ref().unwrap();
                prop_assert!(m.holds && !filter.not.contains(msp));
                prop_assert!(filter.only.is_empty() || filter.only.contains(msp));
                let business = m.tags.as_exact().into_iter().chain(m.tags.as_shown()).any(|t| t.expose() == "business");
                prop_assert!(filter.tag.is_none() || business);
                let confirmed = matches!(m.service, waymark_mapping::facts::Service::Confirmed { .. });
                prop_assert!(filter.policy.is_empty() || confirmed);
            }
        }

        #[test]
        fn the_order_of_the_answer_decides_nothing(
            mappings in prop::collection::vec(any_mapping(), 1..10), filter in any_filter(), turn in 0usize..10,
        ) {
            let mut turned = mappings.clone();
            turned.rotate_left(turn % mappings.len());
            turned.reverse();
            let (one, two) = (lookup(mappings), lookup(turned));
            let pick = |of| pick(of, &filter, &secret(7), None, false, NOW);
            match (pick(&one), pick(&two)) {
                (Ok(one), Ok(two)) => {
                    prop_assert_eq!((one.mapping.digest, one.why, one.equals), (two.mapping.digest, two.why, two.equals));
                }
                (one, two) => prop_assert_eq!(one.is_err(), two.is_err()),
            }
        }
    }
}
