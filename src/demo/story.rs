//! Bob, who is found; Alice, who looks; and somebody who intercepted one of Bob's codes.
//!
//! Bob has two apps, each with a key of its own. What one app changes, the other is asked about, and Bob (a script) says
//! yes; only for Mallory's change it says no. The watch is blind: the monitor never learns whom it watches for.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use waymark_log::hash::Hash;
use waymark_mapping::{
    event::EventKind,
    identifier::Csi,
    mapping::{Attestation, Purpose, Tags},
    names::{Account, Domain, Tag},
    receipt::Current,
    verify::{Asked, Lookup, Outcome, Trail},
    watch::WatchList,
};

use super::{
    DemoError, Teller,
    cast::{BLUEBIRD, COURIER, NIGHTJAR},
    world::World,
};
use crate::client::{
    card,
    memory::LogMemory,
    msp::send_watch_list,
    recipient::{
        Added, AppKeys, MappingSpec, Wish, change, history, leaf_of, look_up, prove, retirement, sign_mapping,
        watch_list,
    },
};

/// Longest the story waits for the monitor's alert.
const ALERT_PATIENCE: Duration = Duration::from_secs(20);

/// What the story leaves behind.
#[derive(Clone, Debug)]
pub struct Told {
    /// From the start to Alice's first verified answer.
    pub first_verified_lookup_ms: u128,
    /// The entry that was staged to raise an alert.
    pub staged: Hash,
    /// Bob's apps: anybody who has their keys may read what the monitor says under their lists.
    pub watchers: Vec<AppKeys>,
}

/// One app of the story.
struct App<'a> {
    world: &'a World,
    keys: AppKeys,
    msp: Domain,
    csi: Csi,
    memory: Mutex<LogMemory>,
}

impl<'a> App<'a> {
    fn new(world: &'a World, msp: &str) -> Result<Self, DemoError> {
        let msp = Domain::parse(msp).ok_or_else(|| DemoError::Wrong("the cast".to_owned()))?;
        let memory = Mutex::new(LogMemory::new(None, Some(world.dp().log())));
        Ok(Self { world, keys: AppKeys::generate(), msp, csi: world.cast().bob.clone(), memory })
    }

    async fn prove(&self) -> Result<Attestation, DemoError> {
        let read = |id| self.world.read_code(id);
        let proved = prove(&self.world.dp(), &self.keys.recipient, &self.csi, 0, Purpose::Control, read).await;
        Ok(proved.map_err(anyhow::Error::from)?)
    }

    /// Proves possession, gets the MSP's consent, and registers, knowing the version `over`.
    async fn register(&self, account: &str, over: Option<u32>) -> Result<Current, DemoError> {
        let attestation = self.prove().await?;
        let tags = Tags::shown(Tag::parse(Tag::DEFAULT).into_iter().collect());
        let spec = MappingSpec {
            msp: Some(self.msp.clone()),
            account: Account::parse(account).unwrap_or(Account::NONE),
            tags: tags.ok_or_else(|| DemoError::Wrong("the cast's tags".to_owned()))?,
        };
        let now = self.world.clock().now();
        let mapping = sign_mapping(self.world.origin(), &self.keys.recipient, &spec, &attestation, now);
        let consent = self.world.msp(&self.msp)?.consent(&self.keys.recipient, &mapping).await;
        let added = [Added { mapping, consent: Some(consent.map_err(anyhow::Error::from)?) }];
        self.change(EventKind::Issue, over, &added, &[], None).await
    }

    async fn change(
        &self,
        kind: EventKind,
        over: Option<u32>,
        added: &[Added],
        removed: &[Hash],
        possession: Option<Attestation>,
    ) -> Result<Current, DemoError> {
        let signers = [(&self.keys.recipient, possession)];
        let wish = Wish { kind, csi: &self.csi, over, added, removed, signers: &signers };
        let mut memory = self.memory.lock().await;
        let changed = change(&self.world.dp(), wish, self.world.trust(), &mut memory).await;
        Ok(changed.map_err(anyhow::Error::from)?)
    }

    async fn history(&self) -> Result<Current, DemoError> {
        let mut memory = self.memory.lock().await;
        let (dp, trust) = (self.world.dp(), self.world.trust());
        let seen = history(&dp, &self.keys.recipient, &self.csi, trust, &mut memory).await;
        let seen = seen.map_err(anyhow::Error::from)?;
        seen.ok_or_else(|| DemoError::Wrong("Bob's app cannot see Bob's record".to_owned()))
    }

    /// Renews the watch-list at the monitor and at the app's MSP, claiming the change that made this version.
    async fn renew(&self, current: &Current) -> Result<(), DemoError> {
        let now = self.world.clock().now();
        let list = watch_list(self.world.origin(), &self.keys, current, Some(leaf_of(current)), now);
        self.send(&list).await
    }

    /// An app that leaves takes its list along: one without labels retires the one before it.
    async fn retire(&self, current: &Current) -> Result<(), DemoError> {
        let now = self.world.clock().now();
        let list = retirement(self.world.origin(), &self.keys, current, now);
        self.send(&list).await
    }

    async fn send(&self, list: &WatchList) -> Result<(), DemoError> {
        let world = self.world;
        send_watch_list(world.fetcher(), &world.monitor_url(), list).await.map_err(anyhow::Error::from)?;
        world.msp(&self.msp)?.watch(&self.keys.recipient, list).await.map_err(anyhow::Error::from)?;
        Ok(())
    }
}

/// What Alice sees when she looks somebody up.
async fn alice(world: &World, whom: &Csi) -> Result<Lookup, DemoError> {
    let asked = Asked { origin: world.origin().clone(), csi: whom.clone(), tag: None };
    let seen = look_up(&world.dp(), &asked, world.trust(), None, &mut Trail::default()).await;
    Ok(seen.map_err(anyhow::Error::from)?.0.get().clone())
}

fn show(teller: Teller, world: &World, lookup: &Lookup) {
    let card = card::words(lookup, &world.cast().bob_typed, world.clock().now());
    teller.say(card.lines().map(|l| format!("    {l}\n")).collect::<String>().trim_end());
}

fn expect(is_so: bool, what: &str) -> Result<(), DemoError> {
    if is_so { Ok(()) } else { Err(DemoError::Wrong(what.to_owned())) }
}

/// Tells the story, checking each step.
///
/// # Errors
/// [`DemoError`].
pub async fn tell(world: &World, teller: Teller, started: Instant) -> Result<Told, DemoError> {
    let (phone, tablet) = (App::new(world, BLUEBIRD)?, App::new(world, COURIER)?);
    let first_verified_lookup_ms = bob_registers(world, teller, started, &phone, &tablet).await?;
    bob_withdraws(world, teller, &phone, &tablet).await?;
    let staged = mallory(world, teller, &phone).await?;
    Ok(Told { first_verified_lookup_ms, staged, watchers: vec![phone.keys, tablet.keys] })
}

async fn bob_registers(
    world: &World,
    teller: Teller,
    started: Instant,
    phone: &App<'_>,
    tablet: &App<'_>,
) -> Result<u128, DemoError> {
    let number = &world.cast().bob_typed;
    teller.say(format!("\nBob proves that {number} is his and registers his app at {BLUEBIRD}."));
    let registered = phone.register("mimi://bluebird.example/u/bob", None).await?;
    phone.renew(&registered).await?;
    teller.say("The receipt opens his whole record; it holds what he signed and nothing else. Alice looks him up:");
    let seen = alice(world, &world.cast().bob).await?;
    let first_verified_lookup_ms = started.elapsed().as_millis();
    expect(seen.outcome == Outcome::Listed && seen.mappings.len() == 1, "Alice must find one way to Bob")?;
    show(teller, world, &seen);
    teller.pause().await;

    teller.say(format!(
        "\nHis second app, with a key of its own, registers at {COURIER}. His first app saw the change in"
    ));
    teller.say("the log and asks; Bob says yes, it was me, and both blind watch-lists are renewed.");
    let before = seen.version;
    let registered = tablet.register("mimi://courier.example/u/bob", before).await?;
    tablet.renew(&registered).await?;
    phone.renew(&phone.history().await?).await?;
    let seen = alice(world, &world.cast().bob).await?;
    expect(seen.mappings.iter().filter(|m| m.holds).count() == 2, "Alice must find two ways to Bob")?;
    show(teller, world, &seen);
    teller.pause().await;

    let nobody = alice(world, &world.cast().nobody).await?;
    expect(nobody.outcome == Outcome::Absent, "an unknown number must be proved absent")?;
    teller.say("\nA number that nobody registered is not just 'not found': its absence from the map is proved.");
    Ok(first_verified_lookup_ms)
}

async fn bob_withdraws(world: &World, teller: Teller, phone: &App<'_>, tablet: &App<'_>) -> Result<(), DemoError> {
    let own = tablet.keys.recipient.public();
    let current = tablet.history().await?;
    let removed: Vec<Hash> =
        current.state.held.iter().filter(|h| h.mapping.recipient == own).map(|h| h.mapping.digest()).collect();
    let over = Some(current.state.version);
    let left = tablet.change(EventKind::Withdraw, over, &[], &removed, None).await?;
    tablet.retire(&left).await?;
    phone.renew(&phone.history().await?).await?;
    let seen = alice(world, &world.cast().bob).await?;
    let gone = seen.mappings.iter().all(|m| m.msp.as_ref().is_none_or(|d| d.as_str() != COURIER));
    expect(seen.outcome == Outcome::Listed && gone, "the withdrawn app must be gone")?;
    teller.say(format!(
        "\nBob withdraws the app at {COURIER}. Alice's next look-up proves version {:?} without it.",
        seen.version.unwrap_or(0)
    ));
    teller.pause().await;
    Ok(())
}

/// Somebody adds a mapping with an intercepted code: the watch fires, the card says so, Bob removes it. Returns its entry.
async fn mallory(world: &World, teller: Teller, phone: &App<'_>) -> Result<Hash, DemoError> {
    teller
        .say(format!("\nMallory intercepts one of Bob's codes and adds a mapping at {NIGHTJAR}, where Bob never was."));
    let mallory = App::new(world, NIGHTJAR)?;
    let before = alice(world, &world.cast().bob).await?.version;
    let staged = leaf_of(&mallory.register("mimi://nightjar.example/u/not-bob", before).await?);
    let seen = alice(world, &world.cast().bob).await?;
    let new = seen.mappings.iter().find(|m| m.change.is_new);
    expect(new.and_then(|m| m.msp.as_ref()).is_some_and(|d| d.as_str() == NIGHTJAR), "Alice's card must say NEW")?;
    show(teller, world, &seen);
    let since = Instant::now();
    while !world.monitor_alerts([&phone.keys]).await?.contains(&staged) {
        expect(since.elapsed() < ALERT_PATIENCE, "the monitor must raise an alert")?;
        // Well within the monitor's share of requests for one address.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    teller.say(format!(
        "The monitor raises an alert after {:.1} s: a label that Bob's list says must stay absent has appeared, and nobody",
        since.elapsed().as_secs_f64()
    ));
    teller.say("claimed it. It does not know that this is about Bob, nor his number.");
    teller.pause().await;

    let current = phone.history().await?;
    let stranger = current.state.held.iter().find(|h| h.mapping.recipient == mallory.keys.recipient.public());
    let stranger = stranger.ok_or_else(|| DemoError::Wrong("Bob must see the stranger's mapping".to_owned()))?;
    teller.say(
        "\nBob's app shows what overtook it. That was not him: he proves his number again, and because his mapping is",
    );
    teller.say("older and the other one is new, his key removes it at once.");
    let fresh = phone.prove().await?;
    let over = Some(current.state.version);
    let digests = [stranger.mapping.digest()];
    let removed = phone.change(EventKind::Withdraw, over, &[], &digests, Some(fresh)).await?;
    phone.renew(&removed).await?;
    let seen = alice(world, &world.cast().bob).await?;
    expect(seen.mappings.len() == 1 && !seen.mappings[0].change.is_new, "Mallory's mapping must be gone")?;
    show(teller, world, &seen);
    teller.pause().await;
    Ok(staged)
}
