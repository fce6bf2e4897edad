//! The race that C2SP tlog-witness describes: requests for N and N+K at the same time, here with a fork among them.
//!
//! The size that is stored never falls, and no two roots are ever cosigned at one size.

mod common;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{TestLog, add_checkpoint, cosigned_at, latest, verified_size, witness_dir};
use tokio::sync::Barrier;
use waymark_log::note::Vkey;
use waymark_runtime::clock::Clock;
use waymark_witness::{load, start};

const START: u64 = 8;
const SIZES: [u64; 4] = [16, 24, 16, 32];
const REQUESTS: usize = 64;
const ROUNDS: usize = 6;
/// Each conflict tells a larger size than the last, so a request ends after as many turns as there are sizes.
const TURNS_MAX: usize = SIZES.len() + 1;

/// Asks for `size`, all at the same moment, until it is cosigned or can no longer be; returns whether it was.
async fn insist(to: SocketAddr, log: TestLog, witness: Vkey, size: u64, ready: Arc<Barrier>) -> bool {
    let (mut old, mut body) = (START, log.body(START, size));
    ready.wait().await;
    for _ in 0..TURNS_MAX {
        let answer = add_checkpoint(to, &body).await;
        match answer.status {
            200 => {
                cosigned_at(&answer, &log.text(size), &witness);
                // What was handed out is stored. (The monitors' checkpoint may be the other branch's: that is judged later.)
                let seen = latest(to, &log).await;
                let stored: u64 = seen.body.lines().nth(1).unwrap().parse().unwrap();
                assert!(stored >= size, "{stored} is stored after {size} was cosigned");
                return true;
            }
            409 => {
                let at: u64 = answer.body.strip_suffix('\n').unwrap().parse().unwrap();
                assert!(at > old, "a conflict at {at} for {old}");
                if at > size {
                    return false;
                }
                (old, body) = (at, log.body(at, size));
            }
            422 => return false,
            other => panic!("{other}: {answer:?}"),
        }
    }
    panic!("no end after {TURNS_MAX} turns");
}

/// Looks at the monitors' checkpoint again and again: its size never falls.
async fn watch(to: SocketAddr, log: TestLog, witness: Vkey, done: Arc<AtomicBool>) -> usize {
    let (mut size, mut looks) = (0, 0);
    while !done.load(Ordering::SeqCst) {
        let now = verified_size(&latest(to, &log).await, &log, &witness);
        assert!(now >= size, "fell from {size} to {now}");
        (size, looks) = (now, looks + 1);
    }
    looks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sizes_never_fall_and_a_size_has_one_root() {
    let logs: Vec<TestLog> = (0..ROUNDS).map(|i| TestLog::new(&format!("log{i}.example"), 5)).collect();
    let (_folder, dir) = witness_dir(&logs.iter().collect::<Vec<_>>());
    let witness = start(load(&dir).unwrap(), Clock::System).await.unwrap();
    for log in &logs {
        one_round(witness.address(), log, witness.vkey()).await;
    }
    witness.stop().await;
}

async fn one_round(to: SocketAddr, log: &TestLog, vkey: &Vkey) {
    let fork = log.forked_at(START as usize + 2);
    assert_eq!(add_checkpoint(to, &log.body(0, START)).await.status, 200);
    let done = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(watch(to, log.clone(), vkey.clone(), Arc::clone(&done)));

    let ready = Arc::new(Barrier::new(REQUESTS));
    let mut requests = Vec::new();
    for i in 0..REQUESTS {
        let (fork_too, size) = (i % 2 == 1, SIZES[i / 2 % SIZES.len()]);
        let branch = if fork_too { fork.clone() } else { log.clone() };
        let request = tokio::spawn(insist(to, branch, vkey.clone(), size, Arc::clone(&ready)));
        requests.push((fork_too, size, request));
    }
    let mut branch_of: HashMap<u64, bool> = HashMap::new();
    for (fork_too, size, request) in requests {
        if request.await.unwrap() {
            assert_eq!(*branch_of.entry(size).or_insert(fork_too), fork_too, "two roots were cosigned at {size}");
        }
    }
    done.store(true, Ordering::SeqCst);
    assert!(watching.await.unwrap() > 0);

    // Whoever came first decided the branch, all that was cosigned lies on it, and in the end it is the longest.
    let decided = branch_of[&32];
    assert!(branch_of.values().all(|fork_too| *fork_too == decided), "both branches were cosigned");
    assert_eq!(verified_size(&latest(to, log).await, log, vkey), 32);
}
