//! The network side of a monitor: fetch, hand over to be judged, wait, again.
//!
//! Each log and each witness's copy has a task of its own, and a log's hash tiles another one, so that a slow one holds
//! up nobody else. Every answer has a cap and a deadline (`waymark_runtime::fetch`); what fails is tried again after a
//! growing pause, or after the time that the log asks for; nothing spins.
//!
//! A log that is far ahead is followed in steps of bounded size. A step ends in a head, and a consistency proof from the
//! log's tiles shows that the tree it ends in is the beginning of the one that was signed. What was fetched is kept
//! when something fails, and is judged first when the log is read again.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use waymark_log::note::NOTE_BYTES_MAX;
use waymark_mapping::entry::last_head;
use waymark_runtime::{fetch::FetchError, follow::Ahead};

use crate::{
    hub::Hub,
    notices::Subject,
    state::{Claim, PassError},
    tiles::{self, Compared},
    views::Answer,
};

/// Longest pause after failures, in milliseconds: a log that is back is seen within a minute.
pub const BACKOFF_MS_MAX: u64 = 60_000;
/// Longest pause between two ticks, in milliseconds: how late an alert may come.
pub const TICK_MS_MAX: u64 = 1000;

/// What is kept of one log from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    ahead: Ahead,
    /// The checkpoint that was being read towards when the log was too busy: its tiles are kept as well.
    goal: Option<Arc<Claim>>,
}

impl Reading {
    /// How far the log was read: what is believed, and what is kept besides.
    fn reached(&self, believed: u64) -> u64 {
        believed + self.ahead.len() as u64
    }
}

/// One look at a log's checkpoint and all that follows from it.
pub(crate) async fn pass(hub: &Arc<Hub>, log: usize, reading: &mut Reading) -> Result<(), PassError> {
    let went = walk(hub, log, reading).await;
    let (unread, is_damaged) = match &went {
        Err(PassError::Read(e)) => (Some(e.to_string()), false),
        Err(PassError::Damaged) => (None, true),
        _ => (None, false),
    };
    let passed = hub.work(log, move |state, desk| {
        match unread {
            Some(why) => state.unreachable(why, desk.now),
            None if is_damaged => {}
            None => state.notices.clear(&Subject::Reading),
        }
        Ok(state.passed(desk)?)
    });
    passed.await.and(went)
}

async fn walk(hub: &Arc<Hub>, log: usize, reading: &mut Reading) -> Result<(), PassError> {
    let reader = &hub.logs[log].reader;
    let note = reader.checkpoint().await?;
    let Some(newest) = hub.work(log, move |state, desk| state.receive(desk, &note)).await? else { return Ok(()) };
    let (newest, mut doubted) = (Arc::new(newest), false);
    loop {
        let from = hub.work(log, |state, desk| state.next(desk.now)).await?;
        if from >= newest.signed.size() {
            reading.ahead.trust();
            return Ok(());
        }
        let goal = reading.goal.take().filter(|g| g.signed.size() > from).unwrap_or_else(|| Arc::clone(&newest));
        let step = match reader.step(&mut reading.ahead, from, goal.signed.size(), last_head).await {
            Ok(step) => step,
            Err(e) => {
                reading.goal = e.is_busy().then_some(goal);
                return Err(e.into());
            }
        };
        let (count, towards) = (step.entries.len(), Arc::clone(&goal));
        if hub.work(log, move |state, desk| state.believe(desk, &step, &towards)).await? {
            doubted = false;
            continue;
        }
        // Bytes may have been spoilt on their way: the next try is a small one, and so shows where the damage is.
        reading.ahead.doubt();
        if doubted {
            hub.set(log, move |state, now| state.damaged(from, count, &goal, now)).await?;
            return Err(PassError::Damaged);
        }
        doubted = true;
    }
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
            | FetchError::Encoded { .. }
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
    let (mut failures, mut reading, mut had) = (0, Reading::default(), 0);
    loop {
        let went = tokio::select! {
            _ = stop.changed() => return,
            went = pass(&hub, log, &mut reading) => went,
        };
        let mut wait = None;
        failures = match went {
            Ok(()) | Err(PassError::Unmet) => 0,
            Err(PassError::Read(e)) => {
                wait = e.wait();
                // A log that gives something each time is slow, and not away.
                let before = std::mem::replace(&mut had, reading.reached(hub.verified_size(log)));
                if had > before { 1 } else { failures + 1 }
            }
            Err(PassError::Damaged | PassError::OverBudget | PassError::Contradicted) => failures + 1,
            // What waits for room does not wait longer than that.
            Err(PassError::Full) => 1,
            Err(PassError::Store(_) | PassError::Panicked | PassError::Failed) => return,
        };
        if !pause(&hub, failures, wait, &mut stop).await {
            return;
        }
    }
}

/// Compares a log's hash tiles until it is told to stop.
pub(crate) async fn follow_tiles(hub: Arc<Hub>, log: usize, mut stop: watch::Receiver<bool>) {
    let mut failures = 0;
    loop {
        let compared = tokio::select! {
            _ = stop.changed() => return,
            compared = tiles::compare(&hub, log) => compared,
        };
        let mut wait = None;
        failures = match compared {
            Ok(Compared::Right) => 0,
            Ok(Compared::Unusable) => failures + 1,
            Ok(Compared::Busy(asked)) => {
                wait = asked;
                failures + 1
            }
            Err(PassError::Full) => 1,
            Err(_) => return,
        };
        if !pause(&hub, failures, wait, &mut stop).await {
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
            Err(PassError::Full) => 1,
            Err(_) => return,
        };
        if !pause(&hub, failures, None, &mut stop).await {
            return;
        }
    }
}

/// Lets time pass for a log and its watch-lists until it is told to stop.
pub(crate) async fn tick(hub: Arc<Hub>, log: usize, mut stop: watch::Receiver<bool>) {
    loop {
        let more = match hub.work(log, |state, desk| Ok(state.tick(desk)?)).await {
            Ok(more) => more,
            Err(PassError::Full) => false,
            Err(_) => return,
        };
        // While more is overdue than one tick looks at, the next one comes at once: an alert waits for nothing but work.
        let pause_ms = if more { 0 } else { hub.poll_ms.min(TICK_MS_MAX) };
        tokio::select! {
            _ = stop.changed() => return,
            () = sleep(Duration::from_millis(pause_ms)) => {}
        }
    }
}

/// Waits before the next look: twice as long after each failure, and as long as is asked. `false` if it is time to
/// stop.
async fn pause(hub: &Hub, failures: u32, wait: Option<Duration>, stop: &mut watch::Receiver<bool>) -> bool {
    let pause = Duration::from_millis(pause_ms(hub.poll_ms, failures)).max(wait.unwrap_or_default());
    tokio::select! {
        _ = stop.changed() => false,
        () = sleep(pause) => true,
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
