//! A DP with everybody in the file: they register, live, and are looked up.
//!
//! What people do in the second period is drawn so that nothing visible goes with what is hidden:
//!
//! - whether something hidden stands at the end is a coin, how many and at which MSPs dice, thrown once for each person;
//! - **redrawn**: all is set in the last of the person's changes, and may stand without any visible change beside it;
//! - **steady**: all is set in the first, and stays; each change has a visible part, hidden mappings may move along;
//! - an app that adds a visible mapping has a key that is seen already, or not: then it is a new one or that of a hidden mapping;
//! - people who show nothing go on to have something hidden, or come into view and throw the coin.
//!
//! Left out is that somebody's last visible mapping goes: a record that shows nothing tells by its state whether anything
//! is hidden (docs/THREATS.md).

use std::{collections::BTreeSet, sync::Arc};

use tokio::task::JoinSet;
use waymark::{
    client::recipient::{Added, MappingSpec, sign_mapping},
    config::{ProverFile, Settings},
    init, onboarding,
};
use waymark_log::{hash::Hash, key::SecretKey};
use waymark_mapping::{
    commitment::commit,
    entry::ProviderRole,
    event::EventKind,
    mapping::{Attestation, Mapping, Method, Purpose, Tags},
    names::Domain,
    signed::{SignedStruct, UNSIGNED},
    verify::Outcome,
    wire::{Format, encode},
};
use waymark_runtime::{clock::Clock, random};

use super::{
    dice::Dice,
    people::{Own, Person, account, exact, shown},
    seen::{Answered, LookedUp, Observed},
};
use crate::common::{Seen, Stage, domain, key, request, until, with_consent};

/// People who register or are looked up at a time.
const IN_FLIGHT: usize = 16;
/// Of so many people one changes something at a time, within bounds: the smaller a batch, the more is said by what is logged
/// beside a change, and the fewer people there are, the more must be said to be noticed.
const ONE_CHANGES_OF: usize = 600;
/// A prover beside the DP, stricter than it.
const PROVER: &str = "prover.example";
/// People whose hidden mappings are looked up with their tags, to know that they are there.
const CHECKED: usize = 40;
/// How long an attestation counts.
const ATTESTED_MS: u64 = 3_600_000;

/// The running DP, and the keys of its provers.
pub struct Town {
    stage: Stage,
    provers: [(Domain, SecretKey); 2],
    pub msps: Vec<Domain>,
}

/// One change: mappings to add, and those to remove.
#[derive(Default)]
struct Step {
    added: Vec<Own>,
    removed: Vec<Own>,
}

/// What somebody does in the second period.
struct Fate {
    changes: usize,
    steady: bool,
    /// A new app adds a mapping, all older visible ones go, and it adds another.
    takes_over: bool,
    /// How many hidden mappings stand at the end.
    hidden: usize,
}

impl Town {
    /// Starts the DP and takes in the MSPs of these people, every other one of which publishes its consents.
    pub async fn found(people: &[Person], seed: u64) -> Arc<Self> {
        println!("observer: the DP draws its own keys and salts; choices of people come from the seed {seed}");
        let prover = ProverFile { domain: PROVER.to_owned(), attests: vec!["*".to_owned()], stricter: false };
        let stage = Stage::with_file(1, &Clock::System, |file| file.prover.push(prover)).await;
        let dp_prover = Settings::load(&stage.root.path().join("dp")).unwrap().prover;
        let msps: BTreeSet<Domain> = people.iter().flat_map(|p| &p.wanted).map(|m| m.msp.clone()).collect();
        let msps: Vec<Domain> = msps.into_iter().collect();
        let mut providers = vec![(domain(PROVER), ProviderRole::PROVER, false)];
        providers.extend(msps.iter().enumerate().map(|(i, m)| (m.clone(), ProviderRole::MSP, i % 2 == 0)));
        for (name, role, publishes) in &providers {
            let entry = init::provider_entry(name, *role, *publishes, 1, &stage.origin, &key(name.as_str()));
            onboarding::submit(&stage.root.path().join("dp"), &entry).unwrap();
        }
        until("the providers", async || providers.iter().all(|(name, ..)| stage.dp.knows_provider(name))).await;
        let provers = [(domain("dp.example"), dp_prover), (domain(PROVER), key(PROVER))];
        Arc::new(Self { stage, provers, msps })
    }

    pub async fn stop(self: Arc<Self>) {
        let Ok(town) = Arc::try_unwrap(self) else { panic!("somebody is still at work") };
        town.stage.stop().await;
    }

    /// Everybody registers as the file says.
    pub async fn register(self: &Arc<Self>, people: Vec<Person>) -> Vec<Person> {
        self.each(IN_FLIGHT, people, |town, mut person| async move {
            let wanted = std::mem::take(&mut person.wanted);
            let mut added: Vec<Own> = Vec::new();
            for m in &wanted {
                // An app may have a visible and a hidden mapping.
                let shared = added.iter().find(|_| person.dice.percent(25)).map(|own| own.key.clone());
                let spec = MappingSpec { msp: Some(m.msp.clone()), account: m.account.clone(), tags: m.tags.clone() };
                added.push(town.own(&mut person, shared, &spec));
            }
            if wanted.is_empty() {
                added.push(town.own(&mut person, None, &MappingSpec::opt_out()));
            }
            let opts_out = wanted.is_empty();
            town.change(&mut person, Step { added, removed: vec![] }, opts_out).await;
            person.wanted = wanted;
            person.hidden_at_first = person.hidden_msps();
            person
        })
        .await
    }

    /// The second period.
    pub async fn live(self: &Arc<Self>, people: Vec<Person>) -> Vec<Person> {
        let at_once = (people.len() / ONE_CHANGES_OF).clamp(2, IN_FLIGHT);
        self.each(at_once, people, |town, mut person| async move {
            let fate = fate(&mut person.dice);
            for change in 1..=fate.changes {
                let step = town.step(&mut person, &fate, change);
                town.change(&mut person, step, false).await;
            }
            person
        })
        .await
    }

    /// One general look-up of everybody, in every form.
    pub async fn look_everybody_up(self: &Arc<Self>, people: &[Person]) -> Vec<LookedUp> {
        let csis = people.iter().map(|p| p.csi.clone()).collect();
        self.each(IN_FLIGHT, csis, |town, csi| async move { LookedUp::ask(&town.stage.dp.url(), &csi).await }).await
    }

    /// All that the observer gets.
    pub async fn observe(&self, people: &[Person], first: Vec<LookedUp>, second: Vec<LookedUp>) -> Observed {
        let entries = self.stage.entries().await;
        let csis: Vec<_> = people.iter().map(|p| p.csi.clone()).collect();
        Observed::new(entries, &csis, self.msps.clone(), [first, second])
    }

    /// That the town is as it is meant to be: everybody shows what is visible, and hidden mappings are there for their tags.
    pub async fn check(&self, people: &[Person], seen: &Observed) {
        for (person, Answered { answer, .. }) in people.iter().zip(&seen.looks[1]) {
            let shown = &answer.body.0.as_ref().unwrap().visible;
            let shown: Vec<Hash> = shown.iter().map(|v| v.content.digest()).collect();
            let stand: Vec<Hash> = person.visible.iter().map(|own| own.mapping.digest()).collect();
            assert_eq!((shown, answer.version + 1), (stand, person.next));
        }
        for person in people.iter().filter(|p| !p.hidden.is_empty()).take(CHECKED) {
            let tag = person.hidden[0].mapping.tags.as_exact().unwrap().expose();
            let found = self.stage.look_up(&person.csi, Some(tag)).await;
            assert_ne!(found.outcome, Outcome::Absent);
            let hidden = person.hidden[0].mapping.digest();
            assert!(found.mappings.iter().any(|m| m.digest == hidden), "a hidden mapping is found by its tag");
        }
    }

    /// What somebody's next change is.
    fn step(&self, person: &mut Person, fate: &Fate, change: usize) -> Step {
        let shows = !person.visible.is_empty();
        let last = change == fate.changes;
        let mut step = Step::default();
        if !shows && !fate.steady {
            // Somebody who shows nothing, and goes on so.
            self.set_hidden(person, &mut step, fate.hidden.max(1));
            return step;
        }
        // In the first change something may have to be visible, or nothing would change; whatever the coin says.
        let nothing_else = fate.changes == 1 && person.hidden.is_empty();
        if fate.takes_over && shows && !is_opted_out(person) {
            self.take_over(person, &mut step, change);
        } else if fate.steady || nothing_else || person.dice.coin() {
            self.change_visible(person, &mut step);
        }
        match (fate.steady, change, last) {
            (true, 1, _) | (false, _, true) => self.set_hidden(person, &mut step, fate.hidden),
            (false, ..) => {
                let some = 1 + person.dice.below(2);
                self.set_hidden(person, &mut step, some);
            }
            (true, ..) if person.dice.coin() && fate.hidden > 0 => self.set_hidden(person, &mut step, fate.hidden),
            (true, ..) => {}
        }
        step
    }

    /// Puts new hidden mappings in place of those that stand.
    fn set_hidden(&self, person: &mut Person, step: &mut Step, count: usize) {
        step.removed.extend(person.hidden.iter().cloned());
        for _ in 0..count {
            let tags = exact(&mut person.dice);
            let shared = person.visible.first().filter(|_| person.dice.percent(25)).map(|own| own.key.clone());
            let own = self.new_mapping(person, shared, tags);
            step.added.push(own);
        }
    }

    fn change_visible(&self, person: &mut Person, step: &mut Step) {
        if is_opted_out(person) || person.visible.is_empty() {
            // Back in view.
            step.removed.extend(person.visible.iter().cloned());
            let app = self.app_that_adds(person);
            let tags = shown(&mut person.dice);
            let own = self.new_mapping(person, app, tags);
            step.added.push(own);
            return;
        }
        match person.dice.below(3) {
            0 if person.visible.len() > 1 => {
                let which = person.dice.below(person.visible.len());
                step.removed.push(person.visible[which].clone());
            }
            1 if person.visible.len() < 7 => {
                let app = self.app_that_adds(person);
                let tags = shown(&mut person.dice);
                let own = self.new_mapping(person, app, tags);
                step.added.push(own);
            }
            _ => {
                let which = person.dice.below(person.visible.len());
                let old = person.visible[which].clone();
                let Mapping { msp, account, tags, .. } = old.mapping.clone();
                let own = self.own(person, Some(old.key.clone()), &MappingSpec { msp: msp.get(), account, tags });
                step.removed.push(old);
                step.added.push(own);
            }
        }
    }

    /// A new app comes, all visible mappings of others go, and it adds another: within the days in which it is new.
    fn take_over(&self, person: &mut Person, step: &mut Step, change: usize) {
        if change == 2 && person.visible.len() > 1 {
            let last = person.visible.len() - 1;
            step.removed.extend(person.visible[..last].iter().cloned());
            return;
        }
        let app = if change == 1 { None } else { person.visible.last().map(|own| own.key.clone()) };
        let tags = shown(&mut person.dice);
        let own = self.new_mapping(person, app, tags);
        step.added.push(own);
    }

    /// The key of an app that adds a visible mapping, if it has one already. One that has shown nothing so far may have
    /// something hidden.
    fn app_that_adds(&self, person: &mut Person) -> Option<SecretKey> {
        if person.dice.percent(25) && !person.visible.is_empty() {
            return Some(person.dice.one_of(&person.visible).key.clone());
        }
        let other = person.dice.coin();
        person.hidden.first().filter(|_| other).map(|own| own.key.clone())
    }

    fn new_mapping(&self, person: &mut Person, app: Option<SecretKey>, tags: Tags) -> Own {
        let msp = person.dice.one_of(&self.msps).clone();
        let account = account(&msp, &mut person.dice);
        self.own(person, app, &MappingSpec { msp: Some(msp), account, tags })
    }

    /// A signed mapping, of a new app unless it is told whose.
    fn own(&self, person: &mut Person, app: Option<SecretKey>, spec: &MappingSpec) -> Own {
        let key = app.unwrap_or_else(|| SecretKey::from_seed(&random::bytes()));
        let attestation = self.attest(person, &key);
        Own { mapping: sign_mapping(&self.stage.origin, &key, spec, &attestation, Clock::System.now()), key }
    }

    fn attest(&self, person: &mut Person, key: &SecretKey) -> Attestation {
        let (prover, secret) = person.dice.one_of(&self.provers).clone();
        let now = Clock::System.now();
        let mut attestation = Attestation {
            format: Format,
            csi: person.csi.clone(),
            recipient: key.public(),
            tenure: 0,
            purpose: Purpose::Control,
            method: Method::CONSOLE,
            prover,
            prover_key: secret.public(),
            time: now,
            expiry: now.plus_ms(ATTESTED_MS),
            nonce: random::bytes(),
            sig: UNSIGNED,
        };
        attestation.sign(&self.stage.origin, &secret);
        attestation
    }

    /// Makes a change over HTTP, signed by all whose mappings come or go.
    async fn change(&self, person: &mut Person, step: Step, opts_out: bool) {
        let mut signers: Vec<(&SecretKey, Option<Attestation>)> = Vec::new();
        for own in step.added.iter().chain(&step.removed) {
            if !signers.iter().any(|(key, _)| key.public() == own.key.public()) {
                signers.push((&own.key, None));
            }
        }
        let kind = match (step.added.is_empty(), step.removed.is_empty()) {
            _ if opts_out => EventKind::OptOut,
            (false, true) => EventKind::Issue,
            (true, _) => EventKind::Withdraw,
            (false, false) => EventKind::Replace,
        };
        let added: Vec<Added> =
            step.added.iter().map(|own| with_consent(&self.stage.origin, own.mapping.clone())).collect();
        let removed: Vec<Hash> = step.removed.iter().map(|own| own.mapping.digest()).collect();
        let before = Seen { tenure: Some(0), version: person.next.checked_sub(1), commitment: Some(person.commitment) };
        let request = request(&self.stage.origin, before, &person.csi, kind, &added, &removed, &signers);
        let receipt = self.stage.client().change(signers[0].0, &request).await.unwrap();
        let body = receipt.now.body.0.unwrap();
        assert_eq!(receipt.now.version, person.next);
        person.commitment = commit(&body.opening, &person.csi, person.next, &encode(&body.record));
        person.next += 1;
        for list in [&mut person.visible, &mut person.hidden] {
            list.retain(|own| !removed.contains(&own.mapping.digest()));
        }
        for own in step.added {
            let list = if own.mapping.tags.as_exact().is_some() { &mut person.hidden } else { &mut person.visible };
            list.push(own);
        }
    }

    /// Does something for each, some at a time, and returns what became of them in the same order.
    async fn each<A, B, F, R>(self: &Arc<Self>, at_once: usize, all: Vec<A>, make: F) -> Vec<B>
    where
        B: Send + 'static,
        F: Fn(Arc<Self>, A) -> R,
        R: Future<Output = B> + Send + 'static,
    {
        let mut results: Vec<Option<B>> = all.iter().map(|_| None).collect();
        let (mut tasks, mut rest) = (JoinSet::new(), all.into_iter().enumerate());
        loop {
            while tasks.len() < at_once {
                let Some((i, one)) = rest.next() else { break };
                let task = make(Arc::clone(self), one);
                tasks.spawn(async move { (i, task.await) });
            }
            let Some(done) = tasks.join_next().await else { break };
            let (i, result) = done.unwrap();
            results[i] = Some(result);
        }
        results.into_iter().flatten().collect()
    }
}

fn is_opted_out(person: &Person) -> bool {
    person.visible.iter().any(|own| own.mapping.is_opt_out())
}

fn fate(dice: &mut Dice) -> Fate {
    let changes = *dice.one_of(&[0, 1, 1, 1, 1, 2, 2, 2, 3, 3]);
    let takes_over = changes == 3 && dice.coin();
    let steady = takes_over || dice.coin();
    let hidden = if dice.coin() { *dice.one_of(&[1, 1, 1, 2, 2, 3]) } else { 0 };
    Fate { changes, steady, takes_over, hidden }
}
