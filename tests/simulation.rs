//! Random lives of an honest DP, in process and on one thread each: rotations and retirements, consents and proofs that end, pending keys
//! that fall due, a clock that is set forward and back, witnesses that are lost and return, and the power going at any effect, before
//! it, in the middle, or after it.
//!
//! At the end no monitor finds anything, every restart went well, nothing that was acknowledged is missing, and every answer that was
//! published verified. The steps are those of the sequencer, over `Effects`; clock and random source are arguments.
//!
//! `WAYMARK_SIM_SEEDS=2000` lives that many lives, `WAYMARK_SIM_SEED=17` only that one. A seed that fails is printed.

mod common;
#[path = "simulation_world"]
mod simulation_world {
    //! The world.
    pub mod disk;
    pub mod dp;
    pub mod life;
    pub mod tally;
    pub mod witness;
}

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use simulation_world::{life::Life, tally::Tally};

/// Lives unless said otherwise: some minute on two cores without optimisation.
const SEEDS: u64 = 80;
/// What happens in a life.
const STEPS: usize = 300;

/// What must have happened in a sample, or the test has lost its point.
const POINTS: [&str; 18] = [
    "killed at stage",
    "killed at swap",
    "killed at tiles",
    "killed at publish",
    "killed at drop",
    "killed between effects",
    "left out: a consent is over",
    "left out: a proof of possession is over",
    "left out: a provider's key is no longer valid",
    "left out: the clock was set back",
    "left out: another policy document",
    "turns without a quorum",
    "turns in which the clock was behind",
    "config entries",
    "consents",
    "purges",
    "asked for: NewHolder",
    "asked for: Release",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn live(seed: u64) -> Tally {
    let mut life = Life::new(seed);
    for _ in 0..STEPS {
        life.step();
    }
    life.end();
    life.world.tally.clone()
}

#[test]
fn an_honest_dp_stays_honest_whatever_happens() {
    let (begun, one, seeds) =
        (Instant::now(), number("WAYMARK_SIM_SEED"), number("WAYMARK_SIM_SEEDS").unwrap_or(SEEDS));
    let (first, end) = one.map_or((0, seeds), |seed| (seed, seed + 1));
    let (next, tally, failed) = (AtomicU64::new(first), Mutex::new(Tally::default()), Mutex::new(vec![]));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            match std::panic::catch_unwind(|| live(seed)) {
                Ok(lived) => tally.lock().unwrap().merge(&lived),
                Err(_) => {
                    eprintln!("FAILED: WAYMARK_SIM_SEED={seed}");
                    failed.lock().unwrap().push(seed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (tally, failed) = (tally.into_inner().unwrap(), failed.into_inner().unwrap());
    tally.print();
    println!("{} lives of {STEPS} steps in {:.1} s", end - first, begun.elapsed().as_secs_f64());
    assert_eq!(failed, Vec::<u64>::new(), "seeds that failed: run one of them with WAYMARK_SIM_SEED");
    if one.is_none() && seeds >= SEEDS {
        assert_eq!(tally.lacks(&POINTS), Vec::<&str>::new(), "it did not happen");
    }
}
