//! Everybody in the people file: each mapping signed by an app of its own, one change a person; then everybody is looked up
//! and the answer compared with the file, unknown identifiers are proved absent, and some people withdraw.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Instant,
};

use tokio::task::JoinSet;
use waymark_log::hash::Hash;
use waymark_mapping::{
    event::EventKind,
    identifier::Csi,
    mapping::{Attestation, Mapping, Purpose, Tags},
    names::Tag,
    receipt::Current,
    verify::{Asked, Lookup, Outcome, Trail},
};
use waymark_runtime::random;

use super::{
    DemoError, Teller,
    people::{Person, PersonMapping},
    world::World,
};
use crate::client::{
    memory::LogMemory,
    recipient::{
        Added, AppKeys, MappingSpec, Wish, change, leaf_of, look_up, prove, retirement, sign_mapping, watch_list,
    },
};

/// People in work at a time: the DP keeps at least 256 issuances in flight.
const IN_FLIGHT: usize = 256;
/// Unknown identifiers that are looked up.
const ABSENCES: usize = 100;
/// Withdrawals in work at a time: few, so that each person's other apps claim the change in time.
const WITHDRAWALS_IN_FLIGHT: usize = 32;
/// Every so many people, one withdraws a mapping.
const WITHDRAW_EVERY: usize = 100;

/// What the bulk did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bulk {
    /// Mappings in accepted receipts.
    pub mappings_issued: usize,
    /// People whose opt-out was accepted.
    pub opted_out: usize,
    /// People whose look-ups verified and showed what was registered.
    pub lookups_verified: usize,
    /// Unknown identifiers proved absent.
    pub absences_verified: usize,
    /// People who withdrew a mapping, proved by the next look-up.
    pub withdrawn: usize,
    /// Seconds that issuance took.
    pub issue_s: f64,
    /// Seconds that look-ups took.
    pub lookup_s: f64,
}

/// A person's apps, one a mapping, after registration.
struct Registered {
    apps: Vec<(AppKeys, Mapping)>,
    opted_out: bool,
    version: u32,
}

/// Registers everybody, looks everybody up, and lets some withdraw.
///
/// # Errors
/// The first thing that failed or came out otherwise than registered.
pub async fn run(world: &Arc<World>, people: &Arc<Vec<Person>>, teller: Teller) -> Result<Bulk, DemoError> {
    let mut bulk = Bulk::default();
    teller.say(format!("\nNow {} people register, each with an app a provider.", people.len()));
    let begun = Instant::now();
    let registered = Arc::new(register_all(world, people, teller).await?);
    bulk.issue_s = begun.elapsed().as_secs_f64();
    bulk.mappings_issued = registered.iter().filter(|r| !r.opted_out).map(|r| r.apps.len()).sum();
    bulk.opted_out = registered.iter().filter(|r| r.opted_out).count();

    let begun = Instant::now();
    bulk.lookups_verified = find_all(world, people, teller).await?;
    bulk.lookup_s = begun.elapsed().as_secs_f64();
    bulk.absences_verified = prove_absences(world, people).await?;
    bulk.withdrawn = withdraw_some(world, people, &registered).await?;
    Ok(bulk)
}

async fn register_all(
    world: &Arc<World>,
    people: &Arc<Vec<Person>>,
    teller: Teller,
) -> Result<Vec<Registered>, DemoError> {
    let progress = Progress::new(teller, people.len(), "registered");
    each(people.len(), IN_FLIGHT, |i| {
        let (world, people, progress) = (Arc::clone(world), Arc::clone(people), Arc::clone(&progress));
        async move {
            let registered = register(&world, &people[i]).await?;
            progress.one();
            Ok(registered)
        }
    })
    .await
}

async fn find_all(world: &Arc<World>, people: &Arc<Vec<Person>>, teller: Teller) -> Result<usize, DemoError> {
    let progress = Progress::new(teller, people.len(), "looked up");
    let found = each(people.len(), IN_FLIGHT, |i| {
        let (world, people, progress) = (Arc::clone(world), Arc::clone(people), Arc::clone(&progress));
        async move {
            find(&world, &people[i], &people[i].mappings).await?;
            progress.one();
            Ok(())
        }
    });
    Ok(found.await?.len())
}

async fn prove_absences(world: &Arc<World>, people: &[Person]) -> Result<usize, DemoError> {
    let unknown = unknown_identifiers(people)?;
    let proved = each(unknown.len(), IN_FLIGHT, |i| {
        let (world, csi) = (Arc::clone(world), unknown[i].clone());
        async move { prove_absent(&world, &csi).await }
    });
    Ok(proved.await?.len())
}

async fn withdraw_some(
    world: &Arc<World>,
    people: &Arc<Vec<Person>>,
    registered: &Arc<Vec<Registered>>,
) -> Result<usize, DemoError> {
    let leaving: Vec<usize> = (0..people.len()).filter(|i| !registered[*i].opted_out).step_by(WITHDRAW_EVERY).collect();
    let left = each(leaving.len(), WITHDRAWALS_IN_FLIGHT, |i| {
        let (world, people, registered) = (Arc::clone(world), Arc::clone(people), Arc::clone(registered));
        let who = leaving[i];
        async move { withdraw(&world, &people[who], &registered[who]).await }
    });
    Ok(left.await?.len())
}

/// Registers one person: every app proves possession and signs its mapping, then all sign one change.
async fn register(world: &World, person: &Person) -> Result<Registered, DemoError> {
    let opted_out = person.mappings.is_empty();
    let wanted: Vec<_> = if opted_out { vec![None] } else { person.mappings.iter().map(Some).collect() };
    let (mut apps, mut added) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
    for mapping in wanted {
        let keys = AppKeys::generate();
        let one = author(world, &person.csi, &keys, mapping).await?;
        apps.push((keys, one.mapping.clone()));
        added.push(one);
    }
    let kind = if opted_out { EventKind::OptOut } else { EventKind::Issue };
    let current = submit(world, &person.csi, kind, None, &added, &[], &apps).await?;
    renew(world, &apps, &current).await?;
    Ok(Registered { apps, opted_out, version: current.state.version })
}

/// One app: possession, mapping, and the MSP's consent; without anything wanted, the opt-out.
async fn author(world: &World, csi: &Csi, keys: &AppKeys, wanted: Option<&PersonMapping>) -> Result<Added, DemoError> {
    let read = |id| world.read_code(id);
    let attestation: Attestation =
        prove(&world.dp(), &keys.recipient, csi, 0, Purpose::Control, read).await.map_err(anyhow::Error::from)?;
    let spec = match wanted {
        Some(m) => MappingSpec { msp: Some(m.msp.clone()), account: m.account.clone(), tags: m.tags.clone() },
        None => MappingSpec::opt_out(),
    };
    let mapping = sign_mapping(world.origin(), &keys.recipient, &spec, &attestation, world.clock().now());
    let consent = match wanted {
        Some(m) => Some(world.msp(&m.msp)?.consent(&keys.recipient, &mapping).await.map_err(anyhow::Error::from)?),
        None => None,
    };
    Ok(Added { mapping, consent })
}

async fn submit(
    world: &World,
    csi: &Csi,
    kind: EventKind,
    over: Option<u32>,
    added: &[Added],
    removed: &[Hash],
    apps: &[(AppKeys, Mapping)],
) -> Result<Current, DemoError> {
    let signers: Vec<_> = apps.iter().map(|(keys, _)| (&keys.recipient, None)).collect();
    let wish = Wish { kind, csi, over, added, removed, signers: &signers };
    Ok(change(&world.dp(), wish, world.trust(), &mut LogMemory::default()).await.map_err(anyhow::Error::from)?)
}

/// Every app hands its renewed blind watch-list to its own MSP. An app asked about another's change says yes.
async fn renew(world: &World, apps: &[(AppKeys, Mapping)], current: &Current) -> Result<(), DemoError> {
    for (keys, mapping) in apps {
        let Some(msp) = mapping.msp.get() else { continue };
        let list = watch_list(world.origin(), keys, current, Some(leaf_of(current)), world.clock().now());
        world.msp(&msp)?.watch(&keys.recipient, &list).await.map_err(anyhow::Error::from)?;
    }
    Ok(())
}

/// Looks one person up, with each of the exact tags presented, and compares with what should be there.
async fn find(world: &World, person: &Person, wanted: &[PersonMapping]) -> Result<(), DemoError> {
    let tags: BTreeSet<&Tag> = wanted.iter().filter_map(|m| m.tags.as_exact()).collect();
    let mut asked: Vec<Option<Tag>> = tags.into_iter().cloned().map(Some).collect();
    if asked.is_empty() {
        asked.push(None);
    }
    for tag in asked {
        let asked = Asked { origin: world.origin().clone(), csi: person.csi.clone(), tag: tag.clone() };
        let seen = look_up(&world.dp(), &asked, world.trust(), None, &mut Trail::default()).await;
        let seen = seen.map_err(anyhow::Error::from)?;
        compare(seen.0.get(), person, wanted, tag.as_ref())?;
    }
    Ok(())
}

fn compare(seen: &Lookup, person: &Person, wanted: &[PersonMapping], tag: Option<&Tag>) -> Result<(), DemoError> {
    let wrong =
        |what: &str| Err(DemoError::Wrong(format!("a look-up shows something else than was registered: {what}")));
    if person.mappings.is_empty() {
        return if seen.outcome == Outcome::OptedOut { Ok(()) } else { wrong("an opt-out") };
    }
    let expected = wanted.iter().filter(|m| m.tags.as_exact().is_none_or(|exact| Some(exact) == tag));
    let expected: HashSet<_> = expected.map(|m| (Some(&m.msp), &m.account, tags_of(&m.tags))).collect();
    let found: HashSet<_> =
        seen.mappings.iter().filter(|m| m.holds).map(|m| (m.msp.as_ref(), &m.account, tags_of(&m.tags))).collect();
    if expected != found || found.len() != seen.mappings.len() {
        return wrong("its mappings");
    }
    let any = if found.is_empty() { Outcome::NoneListed } else { Outcome::Listed };
    if seen.outcome == any { Ok(()) } else { wrong("its outcome") }
}

fn tags_of(tags: &Tags) -> Vec<&str> {
    match tags.as_exact() {
        Some(exact) => vec!["=", exact.expose()],
        None => tags.as_shown().iter().map(Tag::expose).collect(),
    }
}

/// Numbers that are in nobody's line.
fn unknown_identifiers(people: &[Person]) -> Result<Vec<Csi>, DemoError> {
    let known: HashSet<&Csi> = people.iter().map(|p| &p.csi).collect();
    let mut unknown = Vec::with_capacity(ABSENCES);
    while unknown.len() < ABSENCES {
        let csi = Csi::parse(&format!("tel:+999{:010}", random::below(10_000_000_000)));
        let csi = csi.map_err(|e| DemoError::Wrong(e.to_string()))?;
        if !known.contains(&csi) {
            unknown.push(csi);
        }
    }
    Ok(unknown)
}

async fn prove_absent(world: &World, csi: &Csi) -> Result<(), DemoError> {
    let asked = Asked { origin: world.origin().clone(), csi: csi.clone(), tag: None };
    let seen = look_up(&world.dp(), &asked, world.trust(), None, &mut Trail::default()).await;
    let outcome = seen.map_err(anyhow::Error::from)?.0.get().outcome;
    if outcome == Outcome::Absent {
        Ok(())
    } else {
        Err(DemoError::Wrong("an unknown number is not absent".to_owned()))
    }
}

/// One person's first app withdraws its mapping; the next look-up proves it.
async fn withdraw(world: &World, person: &Person, registered: &Registered) -> Result<(), DemoError> {
    let nobody = || DemoError::Wrong("somebody without an app cannot withdraw".to_owned());
    let (first, rest) = registered.apps.split_first().ok_or_else(nobody)?;
    let removed = [first.1.digest()];
    let (over, by) = (Some(registered.version), std::slice::from_ref(first));
    let current = submit(world, &person.csi, EventKind::Withdraw, over, &[], &removed, by).await?;
    renew(world, rest, &current).await?;
    retire(world, first, &current).await?;
    find(world, person, &person.mappings[1..]).await
}

/// The app that left takes its watch-list along.
async fn retire(world: &World, (keys, mapping): &(AppKeys, Mapping), current: &Current) -> Result<(), DemoError> {
    let Some(msp) = mapping.msp.get() else { return Ok(()) };
    let list = retirement(world.origin(), keys, current, world.clock().now());
    Ok(world.msp(&msp)?.watch(&keys.recipient, &list).await.map_err(anyhow::Error::from)?)
}

/// Says how far it has come, ten times.
struct Progress {
    teller: Teller,
    total: usize,
    done: std::sync::atomic::AtomicUsize,
    what: &'static str,
}

impl Progress {
    fn new(teller: Teller, total: usize, what: &'static str) -> Arc<Self> {
        Arc::new(Self { teller, total, done: 0.into(), what })
    }

    fn one(&self) {
        let done = self.done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        if done.is_multiple_of((self.total / 10).max(1)) || done == self.total {
            self.teller.say(format!("  {done} of {} {}", self.total, self.what));
        }
    }
}

/// Runs `make(i)` for `count` items as tasks, at most `at_once` at a time, and returns the results in order, or the first
/// error. Dropping it ends the tasks.
async fn each<T, F, R>(count: usize, at_once: usize, make: F) -> Result<Vec<T>, DemoError>
where
    T: Send + 'static,
    F: Fn(usize) -> R,
    R: Future<Output = Result<T, DemoError>> + Send + 'static,
{
    let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
    let mut tasks = JoinSet::new();
    let start = |tasks: &mut JoinSet<_>, i: usize| {
        let task = make(i);
        tasks.spawn(async move { task.await.map(|value| (i, value)) });
    };
    let mut next = count.min(at_once);
    (0..next).for_each(|i| start(&mut tasks, i));
    while let Some(joined) = tasks.join_next().await {
        let (i, value) = joined.map_err(anyhow::Error::from)??;
        results[i] = Some(value);
        if next < count {
            start(&mut tasks, next);
            next += 1;
        }
    }
    Ok(results.into_iter().flatten().collect())
}
