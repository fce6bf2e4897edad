//! What the observer tries to guess from: a column for each feature, a value for each person.
//!
//! | family | what |
//! |---|---|
//! | sizes | padded and unpadded answers in three forms, padding, what no visible mapping accounts for, headers |
//! | hidden slots | order of handles and digests; repeats across versions and people; collisions with labels, commitments and digests; digests that a salt which is known would explain |
//! | record | state, tenure, how and when it began, times against heads, gaps of versions, newcomers |
//! | providers | leaves and proofs that no visible mapping accounts for |
//! | log | place of each change in its batch, size of the batch, dummies, consents beside it by MSP and those that no visible mapping explains |
//! | two look-ups | what is the same in both, what moved |
//! | bytes | every byte of what is opened and of the change entry, whatever it is for |

use std::collections::{HashMap, HashSet};

use waymark_log::hash::Hash;
use waymark_mapping::{
    answer::Body,
    commitment::{Salt, blind},
    entry::{Entry, ProviderRole},
    label::Handle,
    names::Domain,
    record::{HIDDEN_SLOTS, hidden_bytes},
    verify::named_providers,
    wire::encode,
};

use super::seen::{Answered, Batch, Observed};

/// A feature of everybody.
pub struct Column {
    pub name: String,
    /// By person.
    pub values: Vec<u64>,
    /// Whether it is one byte of many.
    pub is_byte: bool,
}

/// The columns at a look-up, those of single bytes among them or not.
pub fn columns(seen: &Observed, look: usize, with_bytes: bool) -> Vec<Column> {
    let mut columns = Columns { people: seen.looks[look].len(), columns: vec![] };
    sizes(&mut columns, seen, look);
    slots(&mut columns, seen, look);
    record(&mut columns, seen, look);
    providers(&mut columns, seen, look);
    log(&mut columns, seen, look);
    if look == 1 {
        both(&mut columns, seen);
    }
    if with_bytes {
        bytes(&mut columns, seen, look);
    }
    columns.columns
}

struct Columns {
    people: usize,
    columns: Vec<Column>,
}

impl Columns {
    fn add(&mut self, name: impl Into<String>, value: impl Fn(usize) -> u64) {
        let values = (0..self.people).map(value).collect();
        self.columns.push(Column { name: name.into(), values, is_byte: false });
    }
}

fn cut(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b))
}

fn hash_of(bytes: &[u8]) -> u64 {
    cut(Hash::sha256(&[bytes]).as_bytes())
}

/// A difference that may be negative, in the order of its values.
fn difference(a: u64, b: u64) -> u64 {
    (i128::from(a) - i128::from(b) + (1 << 62)) as u64
}

fn handles(body: &Body) -> [Handle; HIDDEN_SLOTS] {
    body.contents.hidden.0.map(|slot| slot.handle)
}

fn digests(body: &Body) -> [Hash; HIDDEN_SLOTS] {
    body.contents.hidden.0.map(|slot| slot.digest)
}

fn sizes(columns: &mut Columns, seen: &Observed, look: usize) {
    let looks = &seen.looks[look];
    let unpadded: Vec<usize> = looks.iter().map(|a| encode(&a.answer).len()).collect();
    let full: Vec<usize> = looks.iter().map(|a| encode(&a.full).len()).collect();
    let body: Vec<usize> = looks.iter().map(|a| encode(a.body()).len()).collect();
    let visible: Vec<usize> = looks.iter().map(|a| encode(&a.body().visible).len()).collect();
    columns.add("padded size", |i| looks[i].padded_bytes as u64);
    columns.add("unpadded size", |i| unpadded[i] as u64);
    columns.add("padding", |i| difference(looks[i].padded_bytes as u64, unpadded[i] as u64));
    columns.add("size of the full answer", |i| full[i] as u64);
    columns.add("what full adds", |i| difference(full[i] as u64, unpadded[i] as u64));
    columns.add("size of the body", |i| body[i] as u64);
    columns.add("size of the body without visible slots", |i| difference(body[i] as u64, visible[i] as u64));
    columns.add("size beside the body", |i| difference(unpadded[i] as u64, body[i] as u64));
    columns.add("size of the map proof", |i| encode(&looks[i].answer.map).len() as u64);
    columns.add("steps of the ladder", |i| looks[i].answer.ladder.len() as u64);
    columns.add("versions proved in full", |i| looks[i].full.full.0.as_ref().map_or(0, |f| f.since.len() as u64));
    columns.add("headers", |i| hash_of(looks[i].head.as_bytes()));
    columns.add("hint", |i| hash_of(&looks[i].hint));
    columns.add("blanks in the hint", |i| looks[i].hint.iter().filter(|b| **b == b' ').count() as u64);
}

fn slots(columns: &mut Columns, seen: &Observed, look: usize) {
    let looks = &seen.looks[look];
    let least = |list: Vec<u64>| (0..list.len()).min_by_key(|i| list[*i]).unwrap_or(0) as u64;
    let rises = |list: Vec<u64>| list.windows(2).filter(|w| w[0] < w[1]).count() as u64;
    let of_handles = |i: usize| handles(looks[i].body()).map(|h| cut(&h.0)).to_vec();
    let of_digests = |i: usize| digests(looks[i].body()).map(|d| cut(d.as_bytes())).to_vec();
    columns.add("slot of the least handle", |i| least(of_handles(i)));
    columns.add("slot of the least digest", |i| least(of_digests(i)));
    columns.add("rises of handles", |i| rises(of_handles(i)));
    columns.add("rises of digests", |i| rises(of_digests(i)));
    columns.add("least handle", |i| of_handles(i).into_iter().min().unwrap_or(0));
    columns.add("greatest handle", |i| of_handles(i).into_iter().max().unwrap_or(0));
    columns.add("exclusive or of handles", |i| of_handles(i).into_iter().fold(0, |a, b| a ^ b));
    columns.add("ones in handles", |i| of_handles(i).iter().map(|h| u64::from(h.count_ones())).sum());
    columns.add("ones in digests", |i| of_digests(i).iter().map(|h| u64::from(h.count_ones())).sum());
    let everywhere = seen.looks.iter().flatten();
    let mut times: HashMap<u64, u64> = HashMap::new();
    everywhere.clone().flat_map(|a| handles(a.body())).for_each(|h| *times.entry(cut(&h.0)).or_default() += 1);
    let mut digest_times: HashMap<u64, u64> = HashMap::new();
    let all_digests = everywhere.flat_map(|a| digests(a.body()));
    all_digests.for_each(|d| *digest_times.entry(cut(d.as_bytes())).or_default() += 1);
    columns.add("handles that occur elsewhere", |i| of_handles(i).iter().filter(|h| times[h] > 1).count() as u64);
    columns.add("times its handles occur", |i| of_handles(i).iter().map(|h| times[h]).sum());
    columns.add("most frequent handle", |i| of_handles(i).into_iter().max_by_key(|h| times[h]).unwrap_or(0));
    columns
        .add("digests that occur elsewhere", |i| of_digests(i).iter().filter(|d| digest_times[d] > 1).count() as u64);
    let logged: HashSet<u64> = seen.entries.iter().flat_map(in_log).collect();
    columns.add("handles that begin a label or commitment", |i| {
        of_handles(i).iter().filter(|h| logged.contains(h)).count() as u64
    });
    columns.add("handles that begin a digest", |i| {
        let digests = of_digests(i);
        of_handles(i).iter().filter(|h| digests.contains(h)).count() as u64
    });
    columns.add("slots that a known salt shows empty", |i| known_empty(looks, i));
}

fn in_log(entry: &Entry) -> Vec<u64> {
    match entry {
        Entry::Change(c) => vec![cut(c.label.0.as_bytes()), cut(c.commitment.as_bytes())],
        Entry::Consent(c) => vec![cut(c.blinded.as_bytes())],
        _ => vec![],
    }
}

/// Hidden slots whose digest is that of "nothing" under a salt that is known or easily derived.
fn known_empty(looks: &[Answered], person: usize) -> u64 {
    let body = looks[person].body();
    let mut salts = vec![body.contents_salt, Salt([0; 32])];
    salts.extend(body.visible.iter().map(|v| v.salt));
    salts.extend(body.visible.iter().filter_map(|v| v.consent.0.as_ref()).map(|c| c.salt));
    salts.push(Salt(*Hash::sha256(&[&body.opening.0]).as_bytes()));
    salts.push(Salt(*Hash::sha256(&[&body.contents_salt.0]).as_bytes()));
    salts.extend((0u8..8).map(|i| Salt(*Hash::sha256(&[&body.contents_salt.0, &[i]]).as_bytes())));
    let empty: Vec<Hash> = salts.iter().map(|salt| blind(salt, &hidden_bytes(None))).collect();
    digests(body).iter().filter(|d| empty.contains(d)).count() as u64
}

fn record(columns: &mut Columns, seen: &Observed, look: usize) {
    let looks = &seen.looks[look];
    let bit = |bits: Vec<bool>| bits.into_iter().fold(1, |n, b| n << 1 | u64::from(b));
    columns.add("state", |i| cut(&encode(&looks[i].body().record.state)));
    columns.add("tenure", |i| u64::from(looks[i].body().record.tenure));
    columns.add("version that began the tenure", |i| u64::from(looks[i].body().contents.start.version));
    columns.add("whose word the tenure rests on", |i| hash_of(&encode(&looks[i].body().contents.start.domain)));
    columns.add("tenure by nobody's word that is shown", |i| {
        let body = looks[i].body();
        let provers = body.visible.iter().filter_map(|v| Some(v.content.mapping()?.attestation.prover.clone()));
        u64::from(!provers.map(Some).any(|prover| prover == body.contents.start.domain.get()))
    });
    columns.add("newcomers", |i| bit(looks[i].body().visible.iter().map(|v| v.standing.newcomer.0).collect()));
    columns.add("newcomers, and whose they are", |i| {
        let visible = &looks[i].body().visible;
        let key = |at: usize| visible[at].content.mapping().map(|m| m.recipient);
        let own = |at: usize| (0..at).position(|before| key(before) == key(at)).unwrap_or(at);
        (0..visible.len()).fold(1, |n, at| n * 32 + own(at) as u64 * 2 + u64::from(visible[at].standing.newcomer.0))
    });
    columns.add("versions of visible mappings", |i| {
        looks[i].body().visible.iter().fold(1, |n, v| n * 8 + u64::from(v.standing.since_version))
    });
    columns.add("versions since the last visible change", |i| {
        let last = looks[i].body().visible.iter().map(|v| v.standing.since_version).max().unwrap_or(0);
        difference(u64::from(looks[i].answer.version), u64::from(last))
    });
    columns.add("time since the last visible change", |i| {
        let last = looks[i].body().visible.iter().map(|v| v.standing.since.get()).max().unwrap_or(0);
        difference(looks[i].body().record.time.get(), last)
    });
    columns.add("time of the record", |i| looks[i].body().record.time.get());
    columns.add("time from the record to its head", |i| match own_batch(seen, i, look) {
        Some(batch) => difference(batch.time_ms, looks[i].body().record.time.get()),
        None => 0,
    });
    columns.add("order of visible mappings", |i| {
        let key = |v: &waymark_mapping::answer::OpenedVisible| v.content.digest();
        u64::from(looks[i].body().visible.windows(2).all(|w| key(&w[0]) < key(&w[1])))
    });
}

/// The batch of a person's latest version at a look-up, if its ladder shows where that is.
fn own_batch(seen: &Observed, person: usize, look: usize) -> Option<&Batch> {
    let version = seen.looks[look][person].answer.version;
    let (_, at) = seen.changes[person].iter().find(|(v, _)| *v == version)?;
    seen.batches.get(seen.batch_of[*at as usize])
}

fn providers(columns: &mut Columns, seen: &Observed, look: usize) {
    let looks = &seen.looks[look];
    let named = |i: usize| -> Vec<(Domain, ProviderRole)> {
        let body = looks[i].body();
        named_providers(body.visible.iter().filter_map(|v| v.content.mapping()), Some(&body.contents.start), None)
    };
    let place = |domain: &Domain| seen.msps.iter().position(|m| m == domain).map_or(0, |m| m as u64 + 1);
    columns.add("leaves of providers", |i| looks[i].answer.providers.leaves.len() as u64);
    columns.add("leaves of providers that nothing names", |i| {
        let named = named(i);
        looks[i].answer.providers.leaves.iter().filter(|l| !named.contains(&(l.domain.clone(), l.role))).count() as u64
    });
    columns.add("the provider that nothing names", |i| {
        let named = named(i);
        let surplus = looks[i].answer.providers.leaves.iter().find(|l| !named.contains(&(l.domain.clone(), l.role)));
        surplus.map_or(0, |l| place(&l.domain))
    });
    columns.add("size of the providers' proof", |i| encode(&looks[i].answer.providers.proof).len() as u64);
    columns.add("results of the providers' proof beyond those named", |i| {
        difference(looks[i].answer.providers.proof.claims_presence().count() as u64, named(i).len() as u64)
    });
    columns.add("all of the providers' proof", |i| hash_of(&encode(&looks[i].answer.providers.proof)));
}

fn log(columns: &mut Columns, seen: &Observed, look: usize) {
    let explained = seen.explained();
    let mut known = vec![0u64; seen.batches.len()];
    seen.changes.iter().flatten().for_each(|(_, at)| known[seen.batch_of[*at as usize]] += 1);
    let latest = |i: usize| seen.looks[look][i].answer.version;
    let of_version = |i: usize, version: u32| {
        seen.changes[i].iter().find(|(v, _)| *v == version).map(|(_, at)| (*at, seen.batch_of[*at as usize]))
    };
    for back in 0..=1u32 {
        let place = |i: usize| latest(i).checked_sub(back).and_then(|v| of_version(i, v));
        let batch = |i: usize| place(i).and_then(|(_, b)| seen.batches.get(b));
        let name = |what: &str| format!("{what}, {back} versions back");
        let unexplained = |i: usize| -> Vec<usize> {
            let consents = batch(i).map_or(&[][..], |b| &b.consents);
            consents.iter().filter(|(at, _)| !explained.contains(at)).map(|(_, msp)| *msp).collect()
        };
        columns.add(name("place in the log"), |i| place(i).map_or(0, |(at, _)| at));
        columns.add(name("place in its tile"), |i| place(i).map_or(0, |(at, _)| at % 256));
        columns.add(name("place in its batch"), |i| place(i).map_or(0, |(at, b)| at - seen.batches[b].first));
        columns.add(name("place from the end of its batch"), |i| {
            place(i).map_or(0, |(at, b)| seen.batches[b].first + seen.batches[b].len - at)
        });
        columns.add(name("entries in its batch"), |i| batch(i).map_or(0, |b| b.len));
        columns.add(name("changes in its batch"), |i| batch(i).map_or(0, |b| b.changes as u64));
        columns.add(name("dummies or unknown people in its batch"), |i| {
            place(i).map_or(0, |(_, b)| difference(seen.batches[b].changes as u64, known[b]))
        });
        columns.add(name("consents in its batch"), |i| batch(i).map_or(0, |b| b.consents.len() as u64));
        columns.add(name("unexplained consents in its batch"), |i| unexplained(i).len() as u64);
        columns.add(name("MSPs of unexplained consents in its batch"), |i| {
            unexplained(i).iter().fold(0, |set, msp| set | 1 << msp)
        });
        columns.add(name("first unexplained consent in its batch"), |i| {
            unexplained(i).first().map_or(0, |msp| *msp as u64 + 1)
        });
        columns.add(name("MSP of most unexplained consents in its batch"), |i| {
            let found = unexplained(i);
            let most = found.iter().max_by_key(|msp| found.iter().filter(|m| m == msp).count());
            most.map_or(0, |msp| *msp as u64 + 1)
        });
        for (msp, domain) in seen.msps.iter().enumerate() {
            let of = |b: &Batch| b.consents.iter().filter(|(_, m)| *m == msp).count() as u64;
            columns.add(name(&format!("consents of {domain} in its batch")), |i| batch(i).map_or(0, of));
            columns.add(name(&format!("unexplained consents of {domain} in its batch")), |i| {
                unexplained(i).iter().filter(|m| **m == msp).count() as u64
            });
        }
    }
}

/// What two look-ups of the same person have in common.
fn both(columns: &mut Columns, seen: &Observed) {
    let [first, second] = &seen.looks;
    let pair = |i: usize| (first[i].body(), second[i].body());
    columns.add("handles kept", |i| {
        let (a, b) = pair(i);
        handles(b).iter().filter(|h| handles(a).contains(h)).count() as u64
    });
    columns.add("handles kept in place", |i| {
        let (a, b) = pair(i);
        handles(a).iter().zip(handles(b)).filter(|(a, b)| **a == *b).count() as u64
    });
    columns.add("digests kept", |i| {
        let (a, b) = pair(i);
        digests(b).iter().filter(|d| digests(a).contains(d)).count() as u64
    });
    columns.add("which slots moved", |i| {
        let (a, b) = pair(i);
        handles(a).iter().zip(handles(b)).fold(1, |n, (a, b)| n << 1 | u64::from(*a != b))
    });
    columns.add("salts and openings kept", |i| {
        let (a, b) = pair(i);
        let visible = b.visible.iter().filter(|v| a.visible.iter().any(|w| w.salt == v.salt)).count() as u64;
        visible << 2 | u64::from(a.contents_salt == b.contents_salt) << 1 | u64::from(a.opening == b.opening)
    });
    columns
        .add("how the tenure began has changed", |i| u64::from(pair(i).0.contents.start != pair(i).1.contents.start));
    columns.add("the hint has changed", |i| u64::from(first[i].hint != second[i].hint));
    columns.add("the headers have changed", |i| u64::from(first[i].head != second[i].head));
    columns.add("change of the unpadded size", |i| {
        difference(encode(&second[i].answer).len() as u64, encode(&first[i].answer).len() as u64)
    });
    columns.add("versions that no visible change explains", |i| {
        let since = |body: &Body| -> HashSet<u32> { body.visible.iter().map(|v| v.standing.since_version).collect() };
        let (a, b) = (since(pair(i).0), since(pair(i).1));
        difference(u64::from(second[i].answer.version), b.difference(&a).count() as u64)
    });
    columns.add("visible mappings that went", |i| {
        let (a, b) = pair(i);
        a.visible.iter().filter(|v| !b.visible.iter().any(|w| w.content == v.content)).count() as u64
    });
    columns.add("visible mappings that came", |i| {
        let (a, b) = pair(i);
        b.visible.iter().filter(|v| !a.visible.iter().any(|w| w.content == v.content)).count() as u64
    });
}

/// Every byte of what is opened, at its place from the beginning or, where the beginning varies in length, from the end.
fn bytes(columns: &mut Columns, seen: &Observed, look: usize) {
    let looks = &seen.looks[look];
    let part = |name: &str, of: &dyn Fn(usize) -> Vec<u8>| {
        let all: Vec<Vec<u8>> = (0..looks.len()).map(of).collect();
        let shortest = all.iter().map(Vec::len).min().unwrap_or(0);
        (0..shortest)
            .map(|at| Column {
                name: format!("byte {at} of {name}"),
                values: all.iter().map(|bytes| u64::from(bytes[at])).collect(),
                is_byte: true,
            })
            .collect::<Vec<_>>()
    };
    let reversed = |mut bytes: Vec<u8>| {
        bytes.reverse();
        bytes
    };
    let entry = |i: usize| match seen.changes[i].last() {
        Some((_, at)) => seen.entries[*at as usize].encode(),
        None => vec![],
    };
    let parts = [
        part("the opening", &|i| looks[i].body().opening.0.to_vec()),
        part("the record", &|i| encode(&looks[i].body().record)),
        part("the contents' salt", &|i| looks[i].body().contents_salt.0.to_vec()),
        part("the contents, from their end", &|i| reversed(encode(&looks[i].body().contents))),
        part("the last proof of the ladder", &|i| looks[i].answer.ladder.last().map_or(vec![], encode)),
        part("the change entry", &entry),
    ];
    columns.columns.extend(parts.into_iter().flatten());
}
