//! The watch-lists of one log: who is told of what, and when nobody claims it.
//!
//! Nothing here writes. Each operation makes a [`Plan`]: the journals to be stored and the alerts that follow. The caller
//! stores both in one transaction and only then installs the plan. So an import is durable before it is acknowledged, a hit
//! is stored together with the entries it was found in, and an alert together with the tick that raised it: none is lost,
//! none raised twice, and no claimed hit comes back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use waymark_log::{checkpoint::Origin, key::Key, time::UnixMillis};
use waymark_mapping::{
    audit::Replayed,
    label::Label,
    watch::{Alert, Place, RENEWALS_OPEN_MAX, WATCH_LIFETIME_MS_MAX, WatchId, WatchList, WatchRefused},
};

use waymark_runtime::budget::Budget;

use crate::journal::{At, Journal, Op, Seen, Watched};

/// Most lists of one log, expired ones included. A list with the usual handful of labels takes some 2 KB of memory.
pub const WATCH_LISTS_MAX: usize = 100_000;
/// Most renewals of one list in a UTC day: each is a write to the disk. An app renews after each change of its record.
pub const RENEWALS_A_DAY: u32 = 100;
const DAY_MS: u64 = 86_400_000;

/// Most lists that one tick looks at; the others wait for the next. Each takes a few signature checks.
const TICK_LISTS_MAX: usize = 1000;

/// Why a list is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ImportRefused {
    /// By the rules of watch-lists.
    #[error(transparent)]
    Rule(#[from] WatchRefused),
    /// There is no room.
    #[error("as many lists are held as this monitor takes, or as many renewals of this one are open")]
    Busy,
    /// Too many new ones have come from there; again after so many seconds.
    #[error("as many new lists have come from this address or its neighbours as are taken for now")]
    TooMany(u64),
    /// Renewed too often; again after so many seconds.
    #[error("the list was renewed {RENEWALS_A_DAY} times today")]
    TooOften(u64),
}

/// What an operation leads to, before it is stored.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    next: BTreeMap<WatchId, Option<Watched>>,
    pub(crate) alerts: Vec<Alert>,
    /// Whether a tick has left some lists for the next one.
    pub(crate) is_part: bool,
}

impl Plan {
    /// The journals to be stored; `None` for a list that is forgotten.
    pub(crate) fn journals(&self) -> impl Iterator<Item = (&WatchId, Option<&Journal>)> {
        self.next.iter().map(|(id, watched)| (id, watched.as_ref().map(Watched::journal)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }
}

/// The lists of one log.
#[derive(Debug)]
pub(crate) struct Watches {
    origin: Origin,
    renew_within_ms: u64,
    lists_max: usize,
    lists: BTreeMap<WatchId, Watched>,
    /// Which lists may care about a label.
    by_label: HashMap<Label, Vec<WatchId>>,
    /// When a hit becomes an alert. These come first, so that no alert waits behind lists that merely run out.
    deadlines: BTreeSet<(UnixMillis, WatchId)>,
    /// When a list may need a tick for another reason. Too early or too often does no harm.
    alarms: BTreeSet<(UnixMillis, WatchId)>,
    /// Lists that await the entry they claim, which lies below this size: they need a tick once it has been passed.
    awaiting: BTreeSet<(u64, WatchId)>,
    renewals: Budget<WatchId>,
}

impl Watches {
    pub(crate) fn new(origin: Origin, renew_within_ms: u64) -> Self {
        Self {
            origin,
            renew_within_ms,
            lists_max: WATCH_LISTS_MAX,
            lists: BTreeMap::new(),
            by_label: HashMap::new(),
            deadlines: BTreeSet::new(),
            alarms: BTreeSet::new(),
            awaiting: BTreeSet::new(),
            renewals: Budget::new(DAY_MS, RENEWALS_A_DAY, WATCH_LISTS_MAX),
        }
    }

    /// Takes up a stored journal.
    pub(crate) fn restore(&mut self, id: WatchId, journal: Journal) -> Result<(), WatchRefused> {
        let watched = Watched::restore(journal, &self.origin, self.renew_within_ms)?;
        self.put(id, Some(watched));
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.lists.len()
    }

    pub(crate) fn open_hits(&self) -> usize {
        self.lists.values().map(Watched::open_hits).sum()
    }

    /// The last moment at which a hit becomes an alert, if nobody claims it.
    pub(crate) fn last_deadline(&self) -> Option<UnixMillis> {
        self.deadlines.last().map(|(at, _)| *at)
    }

    /// Whose a list is.
    pub(crate) fn holder(&self, id: &WatchId) -> Option<Key> {
        Some(self.lists.get(id)?.list()?.holder)
    }

    /// The lists that count, and their open hits.
    pub(crate) fn lists(&self) -> impl Iterator<Item = (&WatchList, usize)> {
        self.lists.values().filter_map(|w| Some((w.list()?, w.open_hits())))
    }

    /// Takes a new list or a renewal. `place` says where in the log of `replayed` entries a label is already; `admit` whether
    /// anybody who sends a new list may do so, or after how many seconds: it is asked last, and not for a renewal.
    pub(crate) fn import(
        &self,
        list: WatchList,
        now: UnixMillis,
        replayed: u64,
        place: impl Fn(&Label) -> Option<(Place, UnixMillis)>,
        admit: impl FnOnce() -> Result<(), u64>,
    ) -> Result<Plan, ImportRefused> {
        let id = list.id;
        let known = self.lists.get(&id);
        let in_time = if known.is_none() { list.check_new(now, &place) } else { Ok(()) };
        let mut watched = known.cloned().unwrap_or_else(|| Watched::new(self.renew_within_ms));
        let seen = |label: &Label| {
            let (at, head) = place(label)?;
            let at = At::from(at);
            // A renewal that still watches for a label does not raise the same alert again.
            (!watched.has_told(at)).then_some(Seen { label: label.0, at, head_ms: head.get() })
        };
        let seen = list.labels.iter().filter_map(seen).collect();
        let op = Op::Import { now_ms: now.get(), replayed, seen, list: Box::new(list) };
        watched.take(op, &self.origin, self.renew_within_ms)?;
        // The rules come first: whoever is refused by them learns that, not that there is no room.
        if (known.is_none() && self.lists.len() >= self.lists_max) || watched.imports().count() > RENEWALS_OPEN_MAX {
            return Err(ImportRefused::Busy);
        }
        if known.is_none() {
            in_time?;
            admit().map_err(ImportRefused::TooMany)?;
        } else {
            // Only what is taken counts: anybody who repeats a list that he has seen uses up nothing of its holder's.
            self.renewals.count(id, now).map_err(ImportRefused::TooOften)?;
        }
        Ok(Plan { next: BTreeMap::from([(id, Some(watched))]), ..Plan::default() })
    }

    /// Changes were replayed. Deadlines run from `now`.
    pub(crate) fn on_changes(&self, changes: &[Replayed], now: UnixMillis) -> Plan {
        let mut plan = Plan::default();
        for change in changes {
            for id in self.by_label.get(&change.label).into_iter().flatten() {
                let Some(before) = self.lists.get(id) else { continue };
                let next = plan.next.get(id).and_then(Option::as_ref).unwrap_or(before);
                if !next.claims(&change.place.leaf) {
                    let next = next.clone();
                    self.step(&mut plan, *id, next, Op::change(change, now));
                }
            }
        }
        plan
    }

    /// The replay has come to `replayed` entries and the time is `now`.
    pub(crate) fn tick(&mut self, replayed: u64, now: UnixMillis) -> Plan {
        let mut due = BTreeSet::new();
        take_due(&mut self.deadlines, now, &mut due);
        take_due(&mut self.awaiting, replayed, &mut due);
        take_due(&mut self.alarms, now, &mut due);
        let mut plan = Plan { is_part: due.len() >= TICK_LISTS_MAX, ..Plan::default() };
        for id in due {
            let Some(watched) = self.lists.get(&id) else { continue };
            self.step(&mut plan, id, watched.clone(), Op::Tick { replayed, now_ms: now.get() });
            // What a tick changes is told first; the alarms that it sets again come back here.
            let over = watched.imports().last().is_some_and(|(imported, _, _)| forget_at(imported) <= now);
            if over && watched.open_hits() == 0 {
                plan.next.entry(id).or_insert(None);
            }
        }
        plan
    }

    /// Does one thing to one list inside a plan, if it changes anything.
    fn step(&self, plan: &mut Plan, id: WatchId, mut watched: Watched, op: Op) {
        // Only an import can be refused.
        if let Ok(Some(alerts)) = watched.take(op, &self.origin, self.renew_within_ms) {
            plan.alerts.extend(alerts);
            plan.next.insert(id, Some(watched).filter(|w| !w.is_over()));
        }
    }

    /// Makes a plan true, after it was stored.
    pub(crate) fn install(&mut self, plan: Plan) {
        for (id, watched) in plan.next {
            self.put(id, watched);
        }
    }

    fn put(&mut self, id: WatchId, watched: Option<Watched>) {
        if let Some(before) = self.lists.remove(&id) {
            self.forget(id, &before);
        }
        let Some(watched) = watched else { return };
        for label in watched.labels() {
            let ids = self.by_label.entry(*label).or_default();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        self.deadlines.extend(watched.deadlines().map(|at| (at, id)));
        self.alarms.extend(alarms_of(&watched).map(|at| (at, id)));
        if let Some(size) = awaited_size(&watched) {
            self.awaiting.insert((size, id));
        }
        self.lists.insert(id, watched);
    }

    /// Takes everything out that [`Watches::put`] has put in: a list that is renewed often must not leave alarms behind.
    fn forget(&mut self, id: WatchId, before: &Watched) {
        for label in before.labels() {
            if let Some(ids) = self.by_label.get_mut(label) {
                ids.retain(|i| *i != id);
                if ids.is_empty() {
                    self.by_label.remove(label);
                }
            }
        }
        for at in before.deadlines() {
            self.deadlines.remove(&(at, id));
        }
        for at in alarms_of(before) {
            self.alarms.remove(&(at, id));
        }
        if let Some(size) = awaited_size(before) {
            self.awaiting.remove(&(size, id));
        }
    }
}

/// Moves the lists whose time has come, earliest first, as far as one tick goes.
fn take_due<T: Ord + Copy>(of: &mut BTreeSet<(T, WatchId)>, now: T, due: &mut BTreeSet<WatchId>) {
    while due.len() < TICK_LISTS_MAX {
        let Some(first) = of.first().copied().filter(|(at, _)| *at <= now) else { return };
        of.remove(&first);
        due.insert(first.1);
    }
}

/// When a list needs a tick that has nothing to do with hits: it runs out, is forgotten, or was retired.
fn alarms_of(watched: &Watched) -> impl Iterator<Item = UnixMillis> {
    let last = watched.imports().last();
    last.into_iter().flat_map(|(imported, _, list)| {
        // Retired: the next tick lets go of it, or the one after its last hit.
        let retired = list.labels.is_empty().then_some(imported);
        [list.expiry, forget_at(imported)].into_iter().chain(retired)
    })
}

/// The size that the replay has to pass before the list needs a tick: it claims an entry that was not replayed when it came.
fn awaited_size(watched: &Watched) -> Option<u64> {
    let (_, replayed, list) = watched.imports().last()?;
    (list.renews.0.is_some() && replayed < list.size).then_some(list.size)
}

/// An expired list keeps its name taken until no earlier list of that name can come back, which could have been made for
/// the longest time allowed just before this one came.
const fn forget_at(imported: UnixMillis) -> UnixMillis {
    imported.plus_ms(WATCH_LIFETIME_MS_MAX)
}

#[cfg(test)]
mod tests {
    use waymark_log::{hash::Hash, key::SecretKey};
    use waymark_mapping::{
        signed::{SignedStruct, UNSIGNED},
        wire::{Extensions, Format, List24, Optional24},
    };

    use super::*;

    const MINUTE: u64 = 60_000;
    const WINDOW: u64 = 10 * MINUTE;

    fn ms(n: u64) -> UnixMillis {
        UnixMillis::new(n)
    }

    fn label(i: u64) -> Label {
        Label(Hash::sha256(&[&i.to_be_bytes()]))
    }

    fn place(index: u64) -> Place {
        Place { index, leaf: Hash::sha256(&[b"leaf", &index.to_be_bytes()]) }
    }

    fn list(name: u8, made: u64, labels: &[u64], size: u64, renews: Option<Place>) -> WatchList {
        let (secret, origin) = (SecretKey::from_seed(&[name; 32]), origin());
        let mut list = WatchList {
            extensions: Extensions::NONE,
            format: Format,
            origin: (&origin).into(),
            id: WatchId([name; 16]),
            holder: secret.public(),
            size,
            root: Hash::ZERO,
            made: ms(made),
            expiry: ms(100_000 * MINUTE),
            labels: List24::new(labels.iter().map(|i| label(*i)).collect()).unwrap(),
            renews: Optional24(renews.map(|p| p.leaf)),
            sig: UNSIGNED,
        };
        list.sign(&origin, &secret);
        list
    }

    fn origin() -> Origin {
        Origin::new("dp.example/log").unwrap()
    }

    /// A store that crashes after each operation: what is installed is read back before anything else happens.
    struct Disk {
        watches: Watches,
        journals: BTreeMap<WatchId, String>,
        alerts: Vec<u64>,
    }

    impl Disk {
        fn new() -> Self {
            Self { watches: Watches::new(origin(), WINDOW), journals: BTreeMap::new(), alerts: vec![] }
        }

        fn carry_out(&mut self, plan: Plan) {
            for (id, journal) in plan.journals() {
                match journal {
                    Some(journal) => self.journals.insert(*id, serde_json::to_string(journal).unwrap()),
                    None => self.journals.remove(id),
                };
            }
            self.alerts.extend(plan.alerts.iter().map(|a| match a {
                Alert::Unexpected { place, .. } => place.index,
                Alert::Expired { .. } => u64::MAX,
            }));
            self.watches.install(plan);
            let mut again = Watches::new(origin(), WINDOW);
            for (id, journal) in &self.journals {
                again.restore(*id, serde_json::from_str(journal).unwrap()).unwrap();
            }
            let shown = |w: &Watches| w.lists().map(|(l, hits)| (l.clone(), hits)).collect::<Vec<_>>();
            assert_eq!(shown(&again), shown(&self.watches));
            self.watches = again;
        }

        fn import(&mut self, list: WatchList, now: u64, replayed: u64) -> Result<(), ImportRefused> {
            let plan = self.watches.import(list, ms(now), replayed, |_| None, || Ok(()))?;
            self.carry_out(plan);
            Ok(())
        }

        fn change(&mut self, index: u64, of: u64, now: u64) {
            let change = Replayed { place: place(index), label: label(of), head: ms(now) };
            let plan = self.watches.on_changes(&[change], ms(now));
            self.carry_out(plan);
        }

        fn tick(&mut self, replayed: u64, now: u64) {
            let plan = self.watches.tick(replayed, ms(now));
            self.carry_out(plan);
        }

        fn ops(&self, name: u8) -> usize {
            self.journals[&WatchId([name; 16])].matches("\"op\":").count()
        }
    }

    #[test]
    fn journals_are_as_short_as_what_is_open_allows() {
        let mut disk = Disk::new();
        disk.import(list(1, 1, &[1, 2], 10, None), 1, 10).unwrap();
        assert_eq!(disk.ops(1), 1);
        disk.change(20, 1, 2);
        disk.change(21, 9, 2);
        disk.change(22, 2, MINUTE);
        assert_eq!(disk.ops(1), 3);
        disk.tick(30, WINDOW);
        assert_eq!(disk.ops(1), 3);
        disk.tick(30, 2 + WINDOW);
        assert_eq!((disk.ops(1), &disk.alerts[..]), (4, &[20][..]));
        disk.import(list(1, 2, &[3], 30, Some(place(22))), 3 + WINDOW, 30).unwrap();
        assert_eq!(disk.ops(1), 1);
        disk.tick(40, 100 * WINDOW);
        assert_eq!((disk.ops(1), &disk.alerts[..]), (1, &[20][..]));
    }

    #[test]
    fn a_claim_that_is_awaited_keeps_the_lists_before_it_until_it_has_passed() {
        let mut disk = Disk::new();
        disk.import(list(1, 1, &[1, 2], 10, None), 1, 10).unwrap();
        disk.import(list(1, 2, &[3], 30, Some(place(25))), 2, 15).unwrap();
        assert_eq!(disk.ops(1), 2);
        disk.change(20, 2, 3);
        disk.change(25, 1, 3);
        assert_eq!(disk.watches.open_hits(), 1);
        disk.tick(29, 4);
        assert_eq!(disk.ops(1), 3);
        disk.tick(30, 5);
        disk.change(31, 1, 6);
        assert_eq!(disk.watches.open_hits(), 1);
        disk.tick(32, 3 + WINDOW);
        assert_eq!((disk.ops(1), &disk.alerts[..]), (1, &[20][..]));
        // It goes on watching for its own.
        disk.change(40, 3, 4 + WINDOW);
        assert_eq!(disk.watches.open_hits(), 1);
    }

    #[test]
    fn there_is_room_for_so_many_lists_and_open_renewals() {
        let mut disk = Disk::new();
        disk.watches.lists_max = 2;
        for name in [1, 2] {
            disk.watches.lists_max = 2;
            disk.import(list(name, 1, &[1], 10, None), 1, 10).unwrap();
        }
        disk.watches.lists_max = 2;
        assert_eq!(disk.import(list(3, 1, &[1], 10, None), 1, 10), Err(ImportRefused::Busy));
        disk.watches.lists_max = 2;
        disk.import(list(2, 2, &[1], 10, None), 1, 10).unwrap();
        // Renewals that claim what has not come yet pile up; one that claims nothing ends that.
        for made in 2..RENEWALS_OPEN_MAX as u64 + 1 {
            disk.import(list(1, made, &[made], u64::MAX, Some(place(5))), 1, 10).unwrap();
        }
        let more = |made, renews| list(1, made, &[1], u64::MAX, renews);
        assert_eq!(disk.import(more(100, Some(place(5))), 1, 10), Err(ImportRefused::Busy));
        disk.import(more(101, None), 1, 10).unwrap();
        assert_eq!(disk.ops(1), 1);
    }

    #[test]
    fn an_alert_does_not_wait_behind_lists_that_merely_run_out() {
        let mut watches = Watches::new(origin(), WINDOW);
        let import = |watches: &mut Watches, list: WatchList| {
            let plan = watches.import(list, ms(1), 10, |_| None, || Ok(())).unwrap();
            watches.install(plan);
        };
        // Twice as many as one tick looks at run out before the hit on the last one falls due.
        let soon = 1 + WINDOW / 2;
        let mut junk = list(1, 1, &[1], 10, None);
        for i in 0..2 * TICK_LISTS_MAX {
            junk.id = WatchId([&[1; 8][..], &i.to_be_bytes()].concat().try_into().unwrap());
            junk.expiry = ms(soon);
            junk.sign(&origin(), &SecretKey::from_seed(&[1; 32]));
            import(&mut watches, junk.clone());
        }
        import(&mut watches, list(9, 1, &[9], 10, None));
        let change = Replayed { place: place(20), label: label(9), head: ms(2) };
        let plan = watches.on_changes(&[change], ms(2));
        watches.install(plan);
        let plan = watches.tick(30, ms(2 + WINDOW));
        let hits = plan.alerts.iter().filter(|a| matches!(a, Alert::Unexpected { .. })).count();
        assert_eq!((hits, plan.alerts.len(), plan.is_part), (1, TICK_LISTS_MAX, true));
        watches.install(plan);
        // The others follow, each once, and a tick that has done all says so.
        let mut expired = TICK_LISTS_MAX - 1;
        for _ in 0..5 {
            let plan = watches.tick(30, ms(2 + WINDOW));
            expired += plan.alerts.len();
            let is_part = plan.is_part;
            watches.install(plan);
            if !is_part {
                break;
            }
        }
        assert_eq!((expired, watches.tick(30, ms(2 + WINDOW)).is_part), (2 * TICK_LISTS_MAX, false));
    }

    #[test]
    fn a_list_that_is_renewed_often_leaves_no_alarms_behind() {
        let mut disk = Disk::new();
        for made in 1..100 {
            disk.import(list(1, made, &[made], 10, None), made, 10).unwrap();
            let watches = &disk.watches;
            assert_eq!((watches.alarms.len(), watches.deadlines.len(), watches.by_label.len()), (2, 0, 1));
        }
        // The same in memory alone, without a start in between.
        let mut watches = Watches::new(origin(), WINDOW);
        for made in 1..100 {
            let renews = Some(place(made)).filter(|_| made % 2 == 0);
            let plan = watches.import(list(1, made, &[made], 50, renews), ms(made), 50, |_| None, || Ok(())).unwrap();
            watches.install(plan);
            assert_eq!((watches.alarms.len(), watches.awaiting.len(), watches.by_label.len()), (2, 0, 1));
        }
    }

    #[test]
    fn a_list_is_renewed_so_often_a_day_and_what_is_refused_does_not_count() {
        let mut disk = Disk::new();
        disk.import(list(1, 1, &[1], 10, None), 1, 10).unwrap();
        // `Disk` starts anew after each operation, and a start forgets the day's counts.
        let mut watches = disk.watches;
        let renew = |watches: &mut Watches, made, now| {
            let plan = watches.import(list(1, made, &[1], 10, None), ms(now), 10, |_| None, || Ok(()))?;
            watches.install(plan);
            Ok::<_, ImportRefused>(())
        };
        for made in 2..2 + u64::from(RENEWALS_A_DAY) {
            renew(&mut watches, made, 2000).unwrap();
            let again = renew(&mut watches, made, 2000);
            assert_eq!(again, Err(ImportRefused::Rule(WatchRefused::Superseded)));
        }
        let wait = DAY_MS / 1000 - 2;
        assert_eq!(renew(&mut watches, 1000, 2000), Err(ImportRefused::TooOften(wait)));
        renew(&mut watches, 1000, DAY_MS).unwrap();
    }

    #[test]
    fn a_new_list_is_admitted_last_and_a_renewal_is_not_asked() {
        let mut watches = Watches::new(origin(), WINDOW);
        let shut = || Err(7);
        let never = || -> Result<(), u64> { unreachable!("a list that is refused by a rule takes no share") };
        let there = |_: &Label| Some((place(5), ms(1)));
        let refused = watches.import(list(1, 1, &[1], 10, None), ms(1), 10, there, never).unwrap_err();
        assert_eq!(refused, ImportRefused::Rule(WatchRefused::Logged));
        let new = || list(1, 1, &[1], 10, None);
        assert_eq!(watches.import(new(), ms(1), 10, |_| None, shut).unwrap_err(), ImportRefused::TooMany(7));
        let plan = watches.import(new(), ms(1), 10, |_| None, || Ok(())).unwrap();
        watches.install(plan);
        assert!(watches.import(list(1, 2, &[1], 10, None), ms(2), 10, there, never).is_ok());
    }

    #[test]
    fn a_retired_list_goes_when_nothing_of_it_is_open() {
        let mut disk = Disk::new();
        disk.import(list(1, 1, &[1, 2], 10, None), 1, 10).unwrap();
        disk.import(list(1, 2, &[], 10, None), 2, 10).unwrap();
        disk.tick(10, 2);
        assert_eq!((disk.watches.len(), disk.journals.len(), &disk.alerts[..]), (0, 0, &[][..]));
        // With a hit that nobody claimed...
        disk.import(list(2, 1, &[1, 2], 10, None), 3, 10).unwrap();
        disk.change(20, 1, 4);
        disk.import(list(2, 2, &[], 30, None), 5, 30).unwrap();
        disk.tick(30, 6);
        assert_eq!((disk.watches.len(), disk.watches.open_hits()), (1, 1));
        disk.tick(30, 4 + WINDOW);
        assert_eq!((disk.watches.len(), disk.journals.len(), &disk.alerts[..]), (0, 0, &[20][..]));
        // ...and with one that it claims and the replay has not reached.
        disk.import(list(3, 1, &[1, 2], 40, None), 5 + WINDOW, 40).unwrap();
        disk.import(list(3, 2, &[], 60, Some(place(50))), 6 + WINDOW, 40).unwrap();
        disk.tick(45, 7 + WINDOW);
        assert_eq!(disk.watches.len(), 1);
        disk.change(50, 1, 8 + WINDOW);
        disk.tick(60, 9 + WINDOW);
        assert_eq!((disk.watches.len(), disk.watches.by_label.len(), &disk.alerts[..]), (0, 0, &[20][..]));
    }
}
