//! What a client remembers of a log: who goes back is caught with evidence, who only lags is not, and the memory moves only
//! once the log's own tiles have shown that it is one log.
//!
//! `WAYMARK_MEMORY_SEED` repeats one run of honest witnesses, `WAYMARK_MEMORY_RUNS` asks for more than usual.

mod world;

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use waymark_log::{
    checkpoint::{Checkpoint, Origin, SignedCheckpoint},
    cosignature::Cosigner,
    hash::{Hash, leaf_hash},
    note::{KeyName, NoteSigner, SignatureLine},
    proof::naive_root,
    tile::{HashTiles, TILE_HEIGHT, TILE_WIDTH, Tile, TileKind},
    time::{UnixMillis, UnixSeconds},
};
use waymark_mapping::{
    answer::{Answer, Receipt},
    entry::{Entry, Open},
    evidence::{Evidence, Kind, Shown},
    facts::OpenKnown,
    identifier::Csi,
    memory::{Apart, Consistency, Next, Recall, Remembered, Unshown},
    receipt::{ReceiptRefused, accept, open_current},
    trust::{Trust, pin_text},
    verify::{Asked, Lookup, Rejected, Trail, Verified, verify},
    vrf::VrfSecret,
    wire::{List24, Opaque16},
};
use world::{ORIGIN, World, csi, key_of, question, secret, sent};

/// The trust file's skew in every world, in seconds.
const SKEW_S: u64 = 30;

/// The tiles of a log of these leaves, read from their definition.
fn tiles(leaves: &[Hash], wanted: Vec<Tile>) -> HashTiles {
    let mut tiles = HashTiles::default();
    for tile in wanted {
        let TileKind::Hashes { level } = tile.kind else { panic!("a hash tile") };
        let width = 1usize << (u32::from(level) * u32::from(TILE_HEIGHT));
        let first = (tile.index * TILE_WIDTH) as usize;
        let hash = |i: usize| *naive_root(&leaves[i * width..(i + 1) * width]).as_bytes();
        let bytes: Vec<u8> = (first..first + usize::from(tile.width)).flat_map(hash).collect();
        tiles.insert(tile, &bytes).unwrap();
    }
    tiles
}

/// What is remembered after this, once the log of these leaves has shown what it must.
fn settled(recall: &Recall, leaves: &[Hash]) -> Result<Remembered, Unshown> {
    match recall.next() {
        Next::Settled(remembered) => Ok(remembered.clone()),
        Next::ToShow(consistency) => {
            consistency.check(&tiles(leaves, consistency.tiles(leaves.len() as u64).expect("not less than remembered")))
        }
    }
}

fn to_show(recall: &Recall) -> &Consistency {
    let Next::ToShow(consistency) = recall.next() else { panic!("nothing is to be shown") };
    consistency
}

/// A general look-up, its checkpoint cosigned at these seconds; 0: not at all.
fn answer_at(world: &World, times: [u64; 4]) -> Answer {
    let mut answer = world.answer(&csi(), None);
    answer.checkpoint = Opaque16::new(world.checkpoint_at(world.entries.len(), times)).unwrap();
    answer
}

fn judged(
    answer: &Answer,
    trust: &Trust,
    remembered: Option<&Remembered>,
    now_s: u64,
) -> Result<Verified<Lookup>, Rejected> {
    let now = UnixMillis::new(now_s * 1000 + 500);
    verify(&answer.to_padded(0).unwrap(), &question(csi()), trust, remembered, now, &mut Trail::default())
}

/// A log at two sizes, both still fresh, and the second at which the larger one was made.
fn two_sizes() -> (World, World, u64) {
    let mut world = World::new();
    for _ in 0..40 {
        world.publish(vec![]);
    }
    let small =
        World { entries: world.entries.clone(), map: world.map.clone(), head: world.head.clone(), ..World::new() };
    world.publish(vec![]);
    let t = world.now / 1000;
    (small, world, t)
}

#[test]
fn the_memory_moves_once_the_tiles_have_shown_that_it_is_one_log() {
    let (small, large, t) = two_sizes();
    let (trust, leaves) = (large.trust(), large.leaves());
    let first = judged(&answer_at(&small, [t; 4]), &trust, None, t).unwrap();
    let first = first.recall().settled().unwrap().clone();
    assert_eq!(first.size(), small.entries.len() as u64);

    let grown = judged(&answer_at(&large, [t + 1; 4]), &trust, Some(&first), t + 1).unwrap();
    assert!(grown.recall().settled().is_none(), "moved before anything was shown");
    let next = settled(grown.recall(), &leaves).unwrap();
    assert_eq!((next.size(), next.root()), (large.entries.len() as u64, &naive_root(&leaves)));

    // A smaller tree that an honest DP still shows changes nothing of the larger one remembered.
    let lagging = judged(&answer_at(&small, [t; 4]), &trust, Some(&next), t + 1).unwrap();
    let kept = settled(lagging.recall(), &leaves).unwrap();
    assert_eq!((kept.size(), kept.note()), (next.size(), next.note()));
    // Its tiles are not asked for under the size remembered while the log shows less.
    assert_eq!(to_show(lagging.recall()).tiles(small.entries.len() as u64), None);

    // Tiles that are not all there show nothing, neither for the log nor against it.
    let nothing = to_show(grown.recall()).check(&HashTiles::default());
    assert!(matches!(nothing, Err(Unshown::Incomplete(_))), "{nothing:?}");
    // The same tree again, refreshed, is remembered at once.
    let again = judged(&answer_at(&large, [t + 60; 4]), &trust, Some(&next), t + 60).unwrap();
    assert!(again.recall().settled().is_some());
}

#[test]
fn a_log_that_does_not_extend_the_one_remembered_is_not_consistent_and_both_notes_are_evidence() {
    let (small, large, t) = two_sizes();
    let mut other = World::new();
    other.now += 1;
    while other.entries.len() < small.entries.len() {
        other.publish(vec![]);
    }
    let trust = large.trust();
    let first = judged(&answer_at(&other, [t; 4]), &trust, None, t).unwrap();
    let first = first.recall().settled().unwrap();
    // Larger, and smaller than what is remembered: each answer by itself is flawless.
    let grown = judged(&answer_at(&large, [t + 1; 4]), &trust, Some(first), t + 1).unwrap();
    let of_large = judged(&answer_at(&large, [t; 4]), &trust, None, t).unwrap();
    let shrunk = judged(&answer_at(&other, [t; 4]), &trust, of_large.recall().settled(), t).unwrap();
    for recall in [grown.recall(), shrunk.recall()] {
        let Err(Unshown::NotConsistent(fork)) = settled(recall, &large.leaves()) else {
            panic!("a fork is remembered")
        };
        assert_eq!(shown_by(fork.evidence(), &trust), (Kind::Fork, Shown::Log));
        // With tiles of another tree than the larger one, the notes are kept all the same.
        let padded: Vec<Hash> = other.leaves().into_iter().chain([leaf_hash(b"x")]).collect();
        let Err(Unshown::NotConsistent(fork)) = settled(recall, &padded) else { panic!("a fork is remembered") };
        assert_eq!(shown_by(fork.evidence(), &trust), (Kind::Fork, Shown::WithEntries));
    }
}

/// What a file of evidence shows to somebody who has it and the trust file.
fn shown_by(evidence: &Evidence, trust: &Trust) -> (Kind, Shown) {
    let read = Evidence::parse(&evidence.format()).unwrap();
    (read.kind, read.verify(trust).unwrap())
}

#[test]
fn a_witness_that_dates_a_smaller_tree_later_has_gone_back() {
    let (small, large, t) = two_sizes();
    let trust = large.trust();
    let remembered = |world: &World, at: u64| {
        judged(&answer_at(world, [at, at, at, 0]), &trust, None, at).unwrap().recall().settled().unwrap().clone()
    };
    let (knows_large, at) = (remembered(&large, t), t + SKEW_S + 1);
    let back = judged(&answer_at(&small, [at, t, t, 0]), &trust, Some(&knows_large), at);
    let Err(rejected @ Rejected::Rollback { .. }) = back else { panic!("{back:?}") };
    let Rejected::Rollback { witness, .. } = &rejected else { unreachable!() };
    assert_eq!(witness, "w1");
    let shown = shown_by(&rejected.evidence().unwrap(), &trust);
    assert_eq!(shown, (Kind::Rollback, Shown::Witnesses(vec!["w1".to_owned()])));

    // It is the same fault if the smaller tree was seen first.
    let knows_small = remembered(&small, at);
    let forth = judged(&answer_at(&large, [t, at, at, 0]), &trust, Some(&knows_small), at);
    assert!(matches!(forth, Err(Rejected::Rollback { .. })), "{forth:?}");

    // The same second, and as long as clocks may differ, nobody can tell: it must be a beginning, like any smaller tree.
    for at in [t, t + SKEW_S] {
        let lagging = judged(&answer_at(&small, [at, t, t, 0]), &trust, Some(&knows_large), at).unwrap();
        assert_eq!(settled(lagging.recall(), &large.leaves()).unwrap().size(), knows_large.size());
    }
    // Another tree of a size at which some witness was last seen is a split view, though the largest tree is another one.
    let first = judged(&answer_at(&small, [t; 4]), &trust, None, t).unwrap();
    let both = judged(&answer_at(&large, [t, t, t, 0]), &trust, first.recall().settled(), t).unwrap();
    let both = settled(both.recall(), &large.leaves()).unwrap();
    let mut other = World { now: World::new().now + 1, ..World::new() };
    while other.entries.len() < small.entries.len() {
        other.publish(vec![]);
    }
    let split = judged(&answer_at(&other, [t; 4]), &trust, Some(&both), t);
    let Err(rejected @ Rejected::SplitView { .. }) = split else { panic!("{split:?}") };
    assert_eq!(shown_by(&rejected.evidence().unwrap(), &trust), (Kind::SplitView, Shown::Log));
    // A witness that has never cosigned the larger tree may know no better.
    let never = judged(&answer_at(&small, [t, t, 0, at]), &trust, Some(&knows_large), at).unwrap();
    assert_eq!(to_show(never.recall()).newer(), knows_large.size());
}

/// A witness whose clock is behind is like one that is away: what is missing then is a quorum, and nobody is accused.
#[test]
fn a_witness_whose_clock_is_behind_accuses_no_log() {
    let (_, large, t) = two_sizes();
    let (trust, behind) = (large.trust(), t - SKEW_S - 60);
    let verdict = |times| judged(&answer_at(&large, times), &trust, None, t).map(drop);
    assert!(verdict([t, t, t, behind]).is_ok());
    assert!(matches!(verdict([t, t, behind, 0]), Err(Rejected::Stale(_))));
    assert!(matches!(verdict([behind; 4]), Err(Rejected::NotProven(_))), "a head that nobody has seen by then");
}

#[test]
fn a_witness_that_contradicts_itself_is_taken_as_absent_where_the_others_are_a_quorum() {
    let (small, large, t) = two_sizes();
    let (trust, later) = (large.trust(), t + SKEW_S + 1);
    let first = judged(&answer_at(&small, [later; 4]), &trust, None, later).unwrap();
    let first = first.recall().settled().unwrap();
    // The fourth dates the larger tree certainly before the smaller one.
    let lying = answer_at(&large, [later, later, later, t]);
    let verified = judged(&lying, &trust, Some(first), later).expect("one witness decides over all");
    let without = judged(&answer_at(&large, [later, later, later, 0]), &trust, Some(first), later).unwrap();
    assert_eq!(verified.get(), without.get(), "its line counts for nothing");
    let [gone_back] = verified.recall().gone_back() else { panic!("nobody is told") };
    assert_eq!((gone_back.witness.as_str(), without.recall().gone_back()), ("w4", &[][..]));
    let shown = shown_by(&gone_back.evidence().unwrap(), &trust);
    assert_eq!(shown, (Kind::Rollback, Shown::Witnesses(vec!["w4".to_owned()])));
    // What is remembered is what it would be without the line: so it does not count the next time either.
    let next = settled(verified.recall(), &large.leaves()).unwrap();
    assert_eq!(Some(next.size()), settled(without.recall(), &large.leaves()).ok().map(|r| r.size()));
    let again = judged(&lying, &trust, Some(&next), later).unwrap();
    assert_eq!(again.recall().gone_back(), verified.recall().gone_back());
    // A smaller tree is no exception, and must be a beginning all the same.
    let lagging = judged(&answer_at(&small, [t, t, t, later]), &trust, Some(&remembered_at(&large, t)), later).unwrap();
    assert_eq!(lagging.recall().gone_back().len(), 1);
    assert_eq!(to_show(lagging.recall()).newer(), large.entries.len() as u64);

    // Where it is needed, the answer is refused: with three lines of four, or with two that lie.
    for times in [[later, later, 0, t], [later, later, t, t], [t; 4]] {
        let refused = judged(&answer_at(&large, times), &trust, Some(first), later);
        let Err(rejected @ Rejected::Rollback { .. }) = refused else { panic!("{times:?}: {refused:?}") };
        assert_eq!(shown_by(&rejected.evidence().unwrap(), &trust).0, Kind::Rollback);
    }
}

/// What is remembered of a log by somebody who has seen it once.
fn remembered_at(world: &World, at: u64) -> Remembered {
    judged(&answer_at(world, [at; 4]), &world.trust(), None, at).unwrap().recall().settled().unwrap().clone()
}

#[test]
fn a_checkpoint_with_extension_lines_is_refused_whatever_is_remembered() {
    let (small, large, t) = two_sizes();
    let trust = large.trust();
    let extended = |world: &World, line: &str, time: u64| {
        let mut checkpoint = Checkpoint::new(ORIGIN.clone(), world.entries.len() as u64, naive_root(&world.leaves()));
        checkpoint.extensions = vec![line.to_owned()];
        let text = checkpoint.format();
        let lines: Vec<_> = world.witnesses.iter().map(|w| w.cosign(&text, UnixSeconds::new(time))).collect();
        let mut answer = world.answer(&csi(), None);
        answer.checkpoint = Opaque16::new(SignedCheckpoint::sign(checkpoint, &world.log).to_note(&lines)).unwrap();
        answer
    };
    // Else a note that is too long to be remembered of each witness would hide that all of them go back.
    for line in ["x", &"x".repeat(8 << 10)] {
        for (world, at, remembered) in [(&large, t, None), (&small, t + 60, Some(remembered_at(&large, t)))] {
            let refused = judged(&extended(world, line, at), &trust, remembered.as_ref(), at);
            assert!(matches!(refused, Err(Rejected::Malformed(_))), "{refused:?}");
        }
    }
}

#[test]
fn a_witness_is_known_by_its_key_whatever_a_policy_calls_it() {
    let (small, large, t) = two_sizes();
    let (trust, at) = (large.trust(), t + SKEW_S + 1);
    let known = judged(&answer_at(&large, [t, t, t, 0]), &trust, None, t).unwrap();
    // Another order and other names.
    let text = large.trust_text();
    let (w1, w2) = (large.witnesses[0].vkey().to_string(), large.witnesses[1].vkey().to_string());
    let text = text.replace(&w1, "<1>").replace(&w2, &w1).replace("<1>", &w2);
    let renamed = Trust::parse(&text).unwrap();
    let back = judged(&answer_at(&small, [at, t, t, 0]), &renamed, known.recall().settled(), at);
    let Err(Rejected::Rollback { witness, .. }) = back else { panic!("{back:?}") };
    assert_eq!(witness, "w2");
}

#[test]
fn two_memories_that_began_alike_become_one_only_if_they_are_of_one_log() {
    let (small, large, t) = two_sizes();
    let (trust, leaves) = (large.trust(), large.leaves());
    let (of_small, of_large) = (remembered_at(&small, t), remembered_at(&large, t));
    // Whichever was written first, the larger one is kept, once the tiles have shown that the smaller is its beginning.
    for (there, ours) in [(&of_small, &of_large), (&of_large, &of_small)] {
        let met = there.meet(ours, &trust).unwrap();
        assert!(met.settled().is_none(), "joined before anything was shown");
        assert_eq!(settled(&met, &leaves), Ok(of_large.clone()));
    }
    let later = remembered_at(&small, t + 1);
    assert_eq!(of_small.meet(&later, &trust).unwrap().settled().map(Remembered::size), Some(of_small.size()));
    // Another tree of the same size is a split view, also if it is not the largest.
    let mut other = World { now: World::new().now + 1, ..World::new() };
    while other.entries.len() < small.entries.len() {
        other.publish(vec![]);
    }
    let split = remembered_at(&other, t);
    let seen_both = judged(&answer_at(&large, [t, t, t, 0]), &trust, Some(&of_small), t).unwrap();
    let seen_both = settled(seen_both.recall(), &leaves).unwrap();
    for (there, ours) in [(&of_small, &split), (&split, &of_small), (&seen_both, &split), (&split, &seen_both)] {
        let apart = there.meet(ours, &trust).unwrap_err();
        assert!(matches!(apart, Apart::SplitView { .. }), "{apart:?}");
        assert_eq!(shown_by(apart.evidence().unwrap(), &trust), (Kind::SplitView, Shown::Log));
    }
    // Of another size it is a fork: the tiles show another beginning.
    let forked = settled(&of_large.meet(&split, &trust).unwrap(), &leaves);
    assert!(matches!(forked, Err(Unshown::NotConsistent(_))), "{forked:?}");
    // What one run saw of a witness can contradict what the other saw.
    let back = of_large.meet(&remembered_at(&small, t + SKEW_S + 1), &trust).unwrap();
    assert_eq!(back.gone_back().len(), 4);
    assert_eq!(settled(&back, &leaves), Ok(of_large));
}

#[test]
fn a_memory_has_one_spelling() {
    let (small, large, t) = two_sizes();
    let trust = large.trust();
    let first = judged(&answer_at(&small, [t, t - 1, t, t]), &trust, None, t).unwrap();
    let next = judged(&answer_at(&large, [t, t, t, 0]), &trust, first.recall().settled(), t).unwrap();
    let next = settled(next.recall(), &large.leaves()).unwrap();
    let bytes = next.format();
    assert_eq!(Remembered::parse(&bytes), Some(next));
    for cut in 0..bytes.len() {
        assert_eq!(Remembered::parse(&bytes[..cut]), None, "{cut}");
    }
    assert_eq!(Remembered::parse(&[&bytes[..], b"x"].concat()), None);
    let text = String::from_utf8(bytes).unwrap();
    for (from, to) in
        [("memory v1", "memory v2"), ("origin dp", "origin dq"), ("witness ", "witness  "), ("open ", "Open ")]
    {
        assert_eq!(Remembered::parse(text.replacen(from, to, 1).as_bytes()), None, "{from}");
    }
}

/// An answer whose head names an open entry that is not in the log, with another VRF key.
fn with_unlogged_open(world: &mut World) -> Answer {
    world.vrf = VrfSecret::from_seed(&[9; 32]);
    let Ok(Entry::Open(open)) = Entry::decode(&world.entries[0]) else { panic!("an open entry") };
    let forged = Entry::Open(Open { vrf: world.vrf.public(), ..open }).encode();
    world.head.open = Hash::sha256(&[&forged]);
    *world.entries.last_mut().unwrap() = Entry::Head(world.head.clone()).encode();
    let mut answer = world.answer(&csi(), None);
    answer.open = Opaque16::new(forged).unwrap();
    answer
}

#[test]
fn the_open_entry_is_the_one_that_is_pinned_or_remembered_or_entry_0() {
    let mut world = World::new();
    let mapping = world.visible("a", "chat.example");
    world.issue(&["a"], &[mapping]);
    let (t, trust) = (world.now / 1000, world.trust());
    let pin = |open: Hash| Trust::parse(&(world.trust_text() + &pin_text(&ORIGIN, &open))).unwrap();
    let pinned = pin(world.head.open);
    let known = |answer: &Answer, trust: &Trust, remembered: Option<&Remembered>| {
        judged(answer, trust, remembered, t).map(|v| v.get().log.open)
    };
    let honest = answer_at(&world, [t; 4]);
    let remembered = judged(&honest, &trust, None, t).unwrap().recall().settled().unwrap().clone();
    let full = world.with_open_path(honest.clone());
    assert_eq!(known(&honest, &trust, None), Ok(OpenKnown::HeadOnly));
    assert_eq!(known(&honest, &trust, Some(&remembered)), Ok(OpenKnown::Remembered));
    assert_eq!(known(&full, &trust, None), Ok(OpenKnown::Logged));
    assert_eq!(known(&full, &pinned, None), Ok(OpenKnown::Pinned));
    assert!(matches!(known(&full, &pin(Hash::ZERO), None), Err(Rejected::Untrusted(_))));
    let absent = world.with_open_path(world.answer(&Csi::parse("tel:+4930123456").unwrap(), None));
    assert!(absent.body.0.is_none() && absent.full.0.is_some());
    let other = Asked { csi: Csi::parse("tel:+4930123456").unwrap(), ..question(csi()) };
    let padded = absent.to_padded(0).unwrap();
    let log = verify(&padded, &other, &trust, None, world.clock(), &mut Trail::default()).unwrap().get().log.open;
    assert_eq!(log, OpenKnown::Logged, "a first look-up of somebody absent can have it proved, too");
    // A path of another entry, or too long a one.
    for path in [world.path(1), [world.path(0), vec![Hash::ZERO]].concat()] {
        let mut wrong = full.clone();
        wrong.full.0.as_mut().unwrap().open_path = List24::new(path).unwrap();
        assert!(matches!(known(&wrong, &trust, None), Err(Rejected::NotProven(_))));
    }

    // With a VRF key that no log commits to, everybody could be denied, and no watch-list would fire.
    let mut later = clone_of(&world);
    later.publish(vec![]);
    let forged = with_unlogged_open(&mut later);
    assert_eq!(known(&forged, &trust, None), Ok(OpenKnown::HeadOnly), "a first reader of a short answer cannot tell");
    assert!(matches!(known(&forged, &pinned, None), Err(Rejected::Untrusted(_))));
    assert!(matches!(known(&forged, &trust, Some(&remembered)), Err(Rejected::NotProven(_))));
    let forged = later.with_open_path(forged);
    assert!(matches!(known(&forged, &trust, None), Err(Rejected::NotProven(_))));
}

fn clone_of(world: &World) -> World {
    World {
        origin: world.origin.clone(),
        entries: world.entries.clone(),
        map: world.map.clone(),
        providers: world.providers.clone(),
        changes: world.changes,
        head: world.head.clone(),
        now: world.now,
        ..World::new()
    }
}

#[test]
fn a_receipt_shows_the_place_of_the_open_entry_and_moves_the_same_memory() {
    let mut world = World::new();
    let (before, trust) = (world.answer(&csi(), None), world.trust());
    let t = world.now / 1000;
    let first = judged(&before, &trust, None, t).unwrap().recall().settled().unwrap().clone();
    let mapping = world.visible("a", "chat.example");
    let mappings = [mapping];
    let event = world.issue(&["a"], &mappings);
    let accepted = |world: &World, receipt: &Receipt, remembered: Option<&Remembered>| {
        accept(receipt, sent(&event, &mappings), &trust, remembered, world.clock(), &mut Trail::default())
    };
    let current = accepted(&world, &world.receipt(), Some(&first)).unwrap();
    assert_eq!(to_show(&current.recall).older(), first.size());
    assert_eq!(settled(&current.recall, &world.leaves()).unwrap().size(), current.tree.0);

    let mut without = world.receipt();
    without.now.full.0 = None;
    let refused = accepted(&world, &without, None);
    assert!(matches!(refused, Err(ReceiptRefused::Rejected(Rejected::NotProven(_)))), "{refused:?}");
    let opened =
        open_current(&without, &question(csi()), &key_of("a"), &trust, None, world.clock(), &mut Trail::default());
    assert!(matches!(opened, Err(ReceiptRefused::Rejected(Rejected::NotProven(_)))), "{opened:?}");
    // What goes back is refused of a receipt as well.
    let knows_more = {
        let mut later = clone_of(&world);
        later.publish(vec![]);
        // To whoever asks about somebody else.
        let other = question(Csi::parse("tel:+4930123456").unwrap());
        let answer = later.answer(&other.csi, None).to_padded(0).unwrap();
        let seen = verify(&answer, &other, &trust, None, later.clock(), &mut Trail::default()).unwrap();
        seen.recall().settled().unwrap().clone()
    };
    let mut back = world.receipt();
    let at = world.now / 1000 + SKEW_S + 2;
    back.now.checkpoint = Opaque16::new(world.checkpoint_at(world.entries.len(), [at; 4])).unwrap();
    let now = UnixMillis::new(at * 1000);
    let refused = accept(&back, sent(&event, &mappings), &trust, Some(&knows_more), now, &mut Trail::default());
    assert!(matches!(refused, Err(ReceiptRefused::Rejected(Rejected::Rollback { .. }))), "{refused:?}");
    // One witness that does so is taken as absent, and convicted.
    let t = world.now / 1000;
    back.now.checkpoint = Opaque16::new(world.checkpoint_at(world.entries.len(), [at, t, t, t])).unwrap();
    let current =
        accept(&back, sent(&event, &mappings), &trust, Some(&knows_more), now, &mut Trail::default()).unwrap();
    assert_eq!(current.recall.gone_back().len(), 1);
    let (by, asked) = (key_of("a"), question(csi()));
    let opened = open_current(&back, &asked, &by, &trust, Some(&knows_more), now, &mut Trail::default()).unwrap();
    assert_eq!(opened.unwrap().recall.gone_back(), current.recall.gone_back());
}

#[test]
fn an_answer_of_another_log_than_the_one_asked_is_refused_though_both_are_trusted() {
    let world = World::new();
    let other = NoteSigner::new(KeyName::new("other.example/log").unwrap(), secret("other log"));
    let text = world.trust_text().replacen("log ", &format!("log {}\nlog ", other.vkey()), 1);
    let trust = Trust::parse(&text).unwrap();
    let padded = world.answer(&csi(), None).to_padded(0).unwrap();
    let judge = |asked: &Asked| verify(&padded, asked, &trust, None, world.clock(), &mut Trail::default());
    assert!(judge(&question(csi())).is_ok());
    let elsewhere = Asked { origin: Origin::new("other.example/log").unwrap(), ..question(csi()) };
    assert_eq!(judge(&elsewhere).unwrap_err(), Rejected::OtherLog);
    let mut world = world;
    let mapping = world.visible("a", "chat.example");
    world.issue(&["a"], &[mapping]);
    let opened =
        open_current(&world.receipt(), &elsewhere, &key_of("a"), &trust, None, world.clock(), &mut Trail::default());
    assert_eq!(opened.unwrap_err(), ReceiptRefused::Rejected(Rejected::OtherLog));
}

// ---- honest witnesses ----

/// Most seconds between two heads of the simulated log, which promises one a minute.
const HEAD_S_MAX: u64 = 45;
/// How far a witness's clock may be off, either way: two of them differ by no more than the skew.
const OFF_S: u64 = SKEW_S / 2;

/// The log at one size.
struct Grown {
    made_s: u64,
    checkpoint: Checkpoint,
    answer: Answer,
}

/// A witness that keeps C2SP's rules: no tree smaller than the last, each dated by its own clock.
struct Honest {
    cosigner: Cosigner,
    at: usize,
    /// By how much the clock is ahead, less [`OFF_S`].
    ahead_s: u64,
    asleep_until_s: u64,
    /// Cosignatures that the DP has or will have: of which tree, from when on it has them.
    given: Vec<(usize, u64, SignatureLine)>,
}

struct Town {
    rng: ChaCha20Rng,
    now_s: u64,
    log: NoteSigner,
    grown: Vec<Grown>,
    leaves: Vec<Hash>,
    witnesses: Vec<Honest>,
    /// Which witness says what it likes, if any does.
    liar: Option<usize>,
    /// Notes that some front of the DP may still answer with, of which tree, and the same without the liar's line.
    published: Vec<(usize, String, String)>,
    senders: Vec<Option<Remembered>>,
    trust: Trust,
    believed: u64,
    lagging: u64,
    gone_back: u64,
    refused: u64,
}

impl Town {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut world = World::new();
        let mut grown = vec![];
        for _ in 0..14 {
            world.now += (1 + rng.next_u64() % HEAD_S_MAX) * 1000;
            world.publish(vec![]);
            let root = naive_root(&world.leaves());
            let checkpoint = Checkpoint::new(ORIGIN.clone(), world.entries.len() as u64, root);
            grown.push(Grown { made_s: world.now / 1000, checkpoint, answer: world.answer(&csi(), None) });
        }
        let honest = |cosigner: &Cosigner| Honest {
            cosigner: cosigner.clone(),
            at: 0,
            ahead_s: OFF_S,
            asleep_until_s: 0,
            given: vec![],
        };
        Self {
            now_s: grown[0].made_s,
            witnesses: world.witnesses.iter().map(honest).collect(),
            log: world.log.clone(),
            leaves: world.leaves(),
            trust: world.trust(),
            liar: None,
            published: vec![],
            senders: vec![None; 4],
            believed: 0,
            lagging: 0,
            gone_back: 0,
            refused: 0,
            grown,
            rng,
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end.max(1)
    }

    /// How many sizes the log has had by now.
    fn sizes(&self) -> usize {
        self.grown.iter().filter(|g| g.made_s <= self.now_s).count()
    }

    /// A witness is asked for a new tree or for a refresh, falls asleep, or has its clock set.
    fn witness(&mut self) {
        let (i, newest) = (self.below(4) as usize, self.sizes() - 1);
        let (dice, asleep, set, delay) = (self.below(20), self.below(200), self.below(2 * OFF_S + 1), self.below(40));
        let up = self.below(3) as usize;
        if self.liar == Some(i) {
            return self.lie(i, newest);
        }
        let (now_s, witness) = (self.now_s, &mut self.witnesses[i]);
        match dice {
            0 => witness.asleep_until_s = now_s + asleep,
            1 => witness.ahead_s = set,
            _ if witness.asleep_until_s > now_s => {}
            _ => {
                witness.at = (witness.at + up).min(newest);
                let time = UnixSeconds::new(now_s + witness.ahead_s - OFF_S);
                let text = self.grown[witness.at].checkpoint.format();
                let line = witness.cosigner.cosign(&text, time);
                witness.given.push((witness.at, now_s + delay, line));
            }
        }
    }

    /// Any tree, at any time that may count.
    fn lie(&mut self, i: usize, newest: usize) {
        let (tree, time) = (self.below(newest as u64 + 1) as usize, self.now_s - 500 + self.below(530));
        let line = self.witnesses[i].cosigner.cosign(&self.grown[tree].checkpoint.format(), UnixSeconds::new(time));
        self.witnesses[i].given.push((tree, self.now_s, line));
    }

    /// Some front of the DP puts a note together from what it has, new or old, of three witnesses or all.
    fn publish(&mut self) {
        let tree = self.below(self.sizes() as u64) as usize;
        let left_out = self.below(5) as usize;
        let (mut lines, mut honest) = (vec![], vec![]);
        for i in (0..4).filter(|i| *i != left_out) {
            let has = |(of, from, _): &&(usize, u64, SignatureLine)| *of == tree && *from <= self.now_s;
            let of_tree: Vec<SignatureLine> =
                self.witnesses[i].given.iter().filter(has).map(|(.., line)| line.clone()).collect();
            if !of_tree.is_empty() {
                let line = &of_tree[self.below(of_tree.len() as u64) as usize];
                lines.push(line.clone());
                honest.extend((self.liar != Some(i)).then(|| line.clone()));
            }
        }
        if lines.len() >= 3 {
            let signed = SignedCheckpoint::sign(self.grown[tree].checkpoint.clone(), &self.log);
            self.published.push((tree, signed.to_note(&lines), signed.to_note(&honest)));
        }
    }

    /// A sender gets any note that was ever published, and remembers.
    fn look_up(&mut self, seed: u64) {
        if self.published.is_empty() {
            return;
        }
        let recent = self.published.len().saturating_sub(12);
        let chosen = recent + self.below((self.published.len() - recent) as u64) as usize;
        let (sender, (tree, note, without)) = (self.below(4) as usize, self.published[chosen].clone());
        let mut answer = self.grown[tree].answer.clone();
        answer.checkpoint = Opaque16::new(note).unwrap();
        let remembered = self.senders[sender].as_ref();
        let verified = match judged(&answer, &self.trust, remembered, self.now_s) {
            // Too old by now: no fault of anybody's.
            Err(Rejected::Stale(_)) => return,
            // "The other cosignatures meet the policy": else the line was needed, and a lie may be told by whatever it
            // breaks.
            Err(refused) if self.liar.is_some() => {
                answer.checkpoint = Opaque16::new(without).unwrap();
                let without = judged(&answer, &self.trust, remembered, self.now_s);
                assert!(matches!(without, Err(Rejected::Stale(_))), "WAYMARK_MEMORY_SEED={seed}: {refused}");
                self.refused += u64::from(matches!(refused, Rejected::Rollback { .. }));
                return;
            }
            verdict => verdict.unwrap_or_else(|e| panic!("WAYMARK_MEMORY_SEED={seed}: {e}")),
        };
        let gone_back = verified.recall().gone_back();
        assert!(gone_back.iter().all(|g| self.liar.is_some() && g.witness == "w4"), "WAYMARK_MEMORY_SEED={seed}");
        assert!(gone_back.iter().all(|g| shown_by(&g.evidence().unwrap(), &self.trust).0 == Kind::Rollback));
        self.gone_back += gone_back.len() as u64;
        let size = self.grown[tree].checkpoint.size;
        self.lagging += u64::from(remembered.is_some_and(|r| r.size() > size));
        self.believed += 1;
        // The log's own files have everything that was ever signed.
        let next = settled(verified.recall(), &self.leaves);
        let next = next.unwrap_or_else(|e| panic!("WAYMARK_MEMORY_SEED={seed}: {e}"));
        assert!(remembered.is_none_or(|r| r.size() <= next.size()), "WAYMARK_MEMORY_SEED={seed}");
        self.senders[sender] = Remembered::parse(&next.format());
        assert_eq!(self.senders[sender].as_ref(), Some(&next), "WAYMARK_MEMORY_SEED={seed}");
    }
}

/// The life of a town for each seed; the last of its four witnesses lies if it is said so.
fn lives(has_liar: bool) -> [u64; 4] {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = match number("WAYMARK_MEMORY_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("WAYMARK_MEMORY_RUNS").unwrap_or(40)).collect(),
    };
    println!("WAYMARK_MEMORY_SEED is one of {seeds:?}");
    let mut sums = [0; 4];
    for seed in seeds {
        let mut town = Town::new(seed);
        town.liar = has_liar.then_some(3);
        let end = town.grown.last().unwrap().made_s + HEAD_S_MAX;
        while town.now_s < end {
            town.now_s += town.below(3);
            for _ in 0..4 {
                town.witness();
            }
            town.publish();
            town.look_up(seed);
        }
        for (sum, counted) in sums.iter_mut().zip([town.believed, town.lagging, town.gone_back, town.refused]) {
            *sum += counted;
        }
    }
    sums
}

#[test]
fn honest_witnesses_that_lag_and_catch_up_raise_no_rollback_at_any_sender() {
    let [believed, lagging, gone_back, refused] = lives(false);
    println!("{believed} answers believed, {lagging} of them smaller than what was remembered");
    // Else nothing was tried.
    assert!(believed > 100 && lagging > 10, "{believed} believed, {lagging} lagging");
    assert_eq!((gone_back, refused), (0, 0));
}

#[test]
fn a_line_of_a_witness_that_lies_has_no_answer_refused_that_is_believed_without_it() {
    let [believed, lagging, gone_back, refused] = lives(true);
    println!("{believed} answers believed, {lagging} of them smaller, {gone_back} with a lie; {refused} refused");
    assert!(believed.min(lagging).min(gone_back).min(refused) > 10, "{believed}, {lagging}, {gone_back}, {refused}");
}

#[test]
fn among_honest_witnesses_one_that_goes_back_is_caught() {
    // The same town, but its first witness is asked to cosign an old tree again, later than clocks may differ.
    let mut town = Town::new(1);
    let (old, new) = (&town.grown[0], &town.grown[1]);
    let (t, later) = (new.made_s, new.made_s + SKEW_S + 1);
    let note = |grown: &Grown, times: [u64; 3]| {
        let text = grown.checkpoint.format();
        let signers = town.witnesses.iter().zip(times);
        let lines: Vec<_> = signers.map(|(w, t)| w.cosigner.cosign(&text, UnixSeconds::new(t))).collect();
        SignedCheckpoint::sign(grown.checkpoint.clone(), &town.log).to_note(&lines)
    };
    let notes = [(1, note(new, [t, t, t])), (0, note(old, [later, old.made_s, old.made_s]))];
    let mut remembered = None;
    let mut verdicts = vec![];
    for (tree, note) in notes {
        let mut answer = town.grown[tree].answer.clone();
        answer.checkpoint = Opaque16::new(note).unwrap();
        let verdict = judged(&answer, &town.trust, remembered.as_ref(), later);
        remembered = remembered.or(verdict.as_ref().ok().and_then(|v| v.recall().settled().cloned()));
        verdicts.push(verdict.map(|_| ()));
    }
    town.senders.clear();
    assert!(matches!(verdicts[..], [Ok(()), Err(Rejected::Rollback { .. })]), "{verdicts:?}");
}
