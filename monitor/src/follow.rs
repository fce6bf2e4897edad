//! The network side of a monitor: fetch, hand over to be judged, wait, again.
//!
//! Each log and each witness's copy has a task of its own, so that a slow one holds up nobody else. Every answer has a cap
//! and a deadline (`waymark_runtime::fetch`); what fails is tried again after a growing pause; nothing spins.
//!
//! A log that is far ahead is followed in steps of bounded size. A step ends in a head, and a consistency proof from the
//! log's tiles shows that the tree it ends in is the beginning of the one that was signed.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use waymark_log::{hash::Hash, note::NOTE_BYTES_MAX, proof, tile::TILE_WIDTH};
use waymark_runtime::{
    fetch::FetchError,
    follow::{FollowError, LogReader},
};

use crate::{
    hub::Hub,
    notices::Subject,
    state::{Fetched, PassError, STEP_BYTES_MAX, STEP_ENTRIES_MAX, last_head},
    views::Answer,
};

/// Longest pause after failures, in milliseconds: a log that is back is seen within a minute.
pub const BACKOFF_MS_MAX: u64 = 60_000;
/// Longest pause between two ticks, in milliseconds: how late an alert may come.
pub const TICK_MS_MAX: u64 = 1000;

/// One look at a log's checkpoint and all that follows from it.
pub(crate) async fn pass(hub: &Arc<Hub>, log: usize) -> Result<(), PassError> {
    let went = walk(hub, log).await;
    let unread = match &went {
        Err(PassError::Read(e)) => Some(e.to_string()),
        _ => None,
    };
    let passed = hub.work(log, move |state, desk| {
        match unread {
            Some(why) => state.unreachable(why, desk.now),
            None => state.notices.clear(&Subject::Reading),
        }
        Ok(state.passed(desk)?)
    });
    passed.await.and(went)
}

async fn walk(hub: &Arc<Hub>, log: usize) -> Result<(), PassError> {
    let reader = &hub.logs[log].reader;
    let note = reader.checkpoint().await?;
    let Some(goal) = hub.work(log, move |state, desk| state.receive(desk, &note)).await? else { return Ok(()) };
    let (goal, mut doubted) = (Arc::new(goal), false);
    loop {
        let from = hub.work(log, |state, _| Ok(state.replay.size())).await?;
        if from >= goal.signed.size() {
            return Ok(());
        }
        let fetched = fetch_step(reader, from, goal.signed.size()).await?;
        let goal = Arc::clone(&goal);
        doubted = !hub.work(log, move |state, desk| state.believe(desk, &fetched, &goal, doubted)).await?;
    }
}

/// Fetches the next entries towards a tree of `size`, and what proves that they lead there.
async fn fetch_step(reader: &LogReader, from: u64, size: u64) -> Result<Fetched, FollowError> {
    let mut fetched = Fetched { from, entries: Vec::new(), proof: Vec::new(), headless: false };
    let (mut next, mut bytes) = (from, 0);
    while next < size && fetched.entries.len() < STEP_ENTRIES_MAX && bytes < STEP_BYTES_MAX {
        let end = size.min((next / TILE_WIDTH + 1) * TILE_WIDTH);
        let each = |bundle: Vec<Vec<u8>>| {
            bytes += bundle.iter().map(Vec::len).sum::<usize>();
            fetched.entries.extend(bundle);
        };
        reader.entries(next, end, each).await?;
        next = end;
    }
    if next < size {
        match last_head(&fetched.entries) {
            None => fetched.headless = true,
            Some(count) => {
                fetched.entries.truncate(count);
                fetched.proof = fetch_proof(reader, from + count as u64, size).await?;
            }
        }
    }
    Ok(fetched)
}

/// How the tree of `old` entries is the beginning of the one of `size`.
async fn fetch_proof(reader: &LogReader, old: u64, size: u64) -> Result<Vec<Hash>, FollowError> {
    let plan = proof::consistency(old, size).expect("a step ends after its first entry and before the size");
    let hashes = reader.hashes(&plan, size).await?;
    Ok(plan.build(&hashes).expect("one hash was fetched for each planned node"))
}

/// One look at a witness's copy.
pub(crate) async fn look(hub: &Arc<Hub>, log: usize, i: usize) -> Result<bool, PassError> {
    let url = &hub.logs[log].target.copies[i].url;
    let answer = match hub.fetcher.get(url, NOTE_BYTES_MAX).await {
        Ok(fetched) if fetched.status == 200 => Answer::Note(fetched.body),
        Ok(fetched) if fetched.status == 404 => Answer::None,
        Ok(fetched) => Answer::Unreadable(format!("it answered {}", fetched.status)),
        Err(
            e @ (FetchError::Network { .. }
            | FetchError::TooLarge { .. }
            | FetchError::Url
            | FetchError::Unencrypted { .. }),
        ) => Answer::Unreadable(e.to_string()),
    };
    let answered = !matches!(answer, Answer::Unreadable(_));
    hub.work(log, move |state, desk| Ok(state.look(desk, i, answer)?)).await?;
    Ok(answered)
}

/// Follows a log until it is told to stop.
pub(crate) async fn follow_log(hub: Arc<Hub>, log: usize, mut stop: watch::Receiver<bool>) {
    let mut failures = 0;
    loop {
        let went = tokio::select! {
            _ = stop.changed() => return,
            went = pass(&hub, log) => went,
        };
        failures = match went {
            Ok(()) | Err(PassError::Unmet) => 0,
            Err(PassError::Read(_) | PassError::Contradicted) => failures + 1,
            Err(PassError::Store(_) | PassError::Panicked | PassError::Failed) => return,
        };
        if !pause(&hub, failures, &mut stop).await {
            return;
        }
    }
}

/// Follows a witness's copy until it is told to stop.
pub(crate) async fn follow_copy(hub: Arc<Hub>, log: usize, i: usize, mut stop: watch::Receiver<bool>) {
    let mut failures = 0;
    loop {
        let looked = tokio::select! {
            _ = stop.changed() => return,
            looked = look(&hub, log, i) => looked,
        };
        failures = match looked {
            Ok(true) => 0,
            Ok(false) => failures + 1,
            Err(_) => return,
        };
        if !pause(&hub, failures, &mut stop).await {
            return;
        }
    }
}

/// Lets time pass for a log and its watch-lists until it is told to stop.
pub(crate) async fn tick(hub: Arc<Hub>, log: usize, mut stop: watch::Receiver<bool>) {
    loop {
        let Ok(more) = hub.work(log, |state, desk| Ok(state.tick(desk)?)).await else { return };
        // While more is overdue than one tick looks at, the next one comes at once: an alert waits for nothing but work.
        let pause_ms = if more { 0 } else { hub.poll_ms.min(TICK_MS_MAX) };
        tokio::select! {
            _ = stop.changed() => return,
            () = sleep(Duration::from_millis(pause_ms)) => {}
        }
    }
}

/// Waits before the next look: twice as long after each failure. `false` if it is time to stop.
async fn pause(hub: &Hub, failures: u32, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        _ = stop.changed() => false,
        () = sleep(Duration::from_millis(pause_ms(hub.poll_ms, failures))) => true,
    }
}

fn pause_ms(poll_ms: u64, failures: u32) -> u64 {
    let doubled = poll_ms.saturating_mul(1 << failures.min(16));
    doubled.min(BACKOFF_MS_MAX.max(poll_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!([0, 1, 3].map(|f| pause_ms(500, f)), [500, 1000, 4000]);
        assert_eq!(pause_ms(500, 1000), BACKOFF_MS_MAX);
        assert_eq!(pause_ms(5 * BACKOFF_MS_MAX, 3), 5 * BACKOFF_MS_MAX);
    }
}
