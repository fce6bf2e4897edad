//! A disk that is full: the log waits until there is room, reads back what is on the disk, and goes on. Nobody starts anything again.
//!
//! | what failed | then |
//! |---|---|
//! | no room (ENOSPC), or none for this user (EDQUOT), in a write | what is published is answered from; changes get 503 `log-read-only`; `/readyz` says `storage-full`; it is tried again |
//! | fsync, of whatever cause; reading or writing (EIO); a read-only disk (EROFS) | the sequencer stops: the system may show from memory what is not on the disk, so only a new start may read back |
//! | anything that contradicts itself: damage, another head, a witness ahead | the sequencer stops |
//!
//! **Nothing is signed over what is in memory after a fault.** The batch may be staged and not signed, signed and not applied, or none of it:
//! [`super::recover`] finds out as at a start, and its verdict takes the place of what was in memory. So there are never two heads of one
//! size, whatever the disk kept of a write that it said had failed.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    Run, Stopped,
    commit::{CommitError, Step, When},
    recover::{RecoverError, Recovered, recover},
    writer::Writer,
};

/// How often it is looked whether there is room.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same at last, while there is room for the look and not for a batch: each time the whole log is read back.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(30);
/// Bytes that must be free before it is tried again: reading back takes time, and a batch of ordinary size should then fit.
const ROOM_BYTES: usize = 1 << 20;

/// The versions that are the latest, for [`crate::published::Published`].
type Versions = Vec<([u8; 32], u32)>;

impl Stopped {
    /// Whether there was no room on the disk, and nothing else.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Commit(CommitError::Store(e)) | Self::Store(e) | Self::Recover(RecoverError::Store(e)) => e.is_full(),
            _ => false,
        }
    }
}

impl Run {
    /// Runs until it is told to stop, or nothing can be done any more. A full disk is waited for.
    pub(super) fn run_through_full_disks(&mut self) -> Result<(), Stopped> {
        self.take_up_published()?;
        let (mut versions, mut pause, mut size) = (Vec::new(), LOOK_EVERY, None);
        loop {
            let why = match self.run(std::mem::take(&mut versions)) {
                Err(why) if why.is_full() => why,
                ended => return ended,
            };
            // It was full again before anything was made.
            let in_vain = size == Some(self.writer.signed.size());
            pause = if in_vain { LOOK_EVERY_MAX.min(pause * 2) } else { LOOK_EVERY };
            let Some(latest) = self.wait_for_room(&why, pause)? else { return Ok(()) };
            (versions, size) = (latest, Some(self.writer.signed.size()));
        }
    }

    /// Waits for room, and gives the versions that the log then holds; `None` if it was told to stop before.
    fn wait_for_room(&mut self, why: &Stopped, pause: Duration) -> Result<Option<Versions>, Stopped> {
        tracing::error!(%why, "the disk is full: look-ups go on, changes are refused until there is room");
        self.workshop.pool.pause(why.to_string());
        // A record store that failed to write does not read either; opened again, it does, and opening needs no room.
        let mut is_open = self.workshop.rows.reopen().is_ok();
        while !self.stop.load(Ordering::SeqCst) {
            let _ = self.woken.recv_timeout(pause);
            is_open = is_open || self.workshop.rows.reopen().is_ok();
            match self.read_back() {
                Ok(versions) => {
                    tracing::info!(
                        size = self.writer.signed.size(),
                        "there is room on the disk again: the log goes on"
                    );
                    return Ok(Some(versions));
                }
                Err(still) if still.is_full() => {}
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    /// Reads back what is on the disk, if there is room to go on.
    fn read_back(&mut self) -> Result<Versions, Stopped> {
        let w = &self.workshop;
        w.disk().ask(Step::Room, When::Before)?;
        w.head.check_room(ROOM_BYTES)?;
        w.files.check_room(ROOM_BYTES)?;
        w.rows.reopen()?;
        let (origin, vkey) = (self.writer.state.audited.origin(), w.signer.vkey());
        let recovered = recover(&*w.rows, w.sealer.keys(), &w.head, &w.files, origin, vkey, &w.accepted)?;
        let Recovered { state, head_note, signed, head_path, latest } = recovered;
        self.writer = Writer { state, signed, head_note, head_path, make: self.writer.make };
        // What was confirmed was what is no longer in memory.
        self.confirmed = None;
        Ok(latest.into_iter().collect())
    }
}
