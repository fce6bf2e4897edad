//! What survives a restart: open challenges, and what was sent, in `challenges.redb` of the data folder.
//!
//! ```text
//! challenges   id[16]       -> nonce[24] | XChaCha20-Poly1305(JSON of `Kept`), until the challenge is over
//! codes        uint64       -> nonce[24] | XChaCha20-Poly1305(JSON of `Event`), in the order in which they happened, for a day
//! ```
//!
//! No code and no link's secret is in it. What is sealed is sealed under a key that the prover's key makes, with table
//! and row as associated data: anybody who has the folder without that key learns how many challenges there were, and no
//! more.
//!
//! **One commit for many.** A thread of its own writes what has come in meanwhile in one commit, which is on the disk
//! when it returns; so a flood costs as many commits as one person. What the disk does not take is an error to those who
//! wait for it. The database is then opened anew for the next write, so that it goes on when there is room again.
//!
//! **A start needs no room.** What is there is read without a commit. Where the file has to be made, or cannot be
//! opened without a write, and the disk is full, the journal is shut: nothing is read from it and nothing written to
//! it until a later try ([`Journal::read_again`]) succeeds. A new file gets its name only when it is whole, so that a
//! disk that fills up meanwhile leaves none that cannot be opened.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;
use waymark_log::time::UnixMillis;
use waymark_runtime::{
    database::{begin_write, builder},
    durable, random,
};
use zeroize::Zeroizing;

use super::{ChallengeId, budget::Paid, sender::Channel};

const CHALLENGES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("challenges");
const CODES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("codes");
/// The file.
const FILE: &str = "challenges.redb";
/// Its name while it is being made.
const NEW_FILE: &str = "challenges.redb.new";
/// How long a journal that is shut is left alone before it is tried again: a flood of requests must not be one of
/// tries.
const TRY_AGAIN_MS: u64 = 1000;
/// Bytes that must be free before anything is charged again after a write has failed: a commit may let the file grow.
const ROOM_BYTES: usize = 1 << 20;
/// How long what was sent is kept: the longest limit counts a day. Then addresses are forgotten, too.
const KEPT_MS: u64 = 24 * 3_600_000;
/// Most writes that share one commit, some 1 KiB each.
const SHARED_MAX: usize = 1024;
/// Most rows that one write removes of what is too old: the rest goes with the next ones.
const FORGOTTEN_MAX: usize = 4096;

/// An open challenge, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The identifier.
    pub csi: String,
    /// The key that claims it.
    pub recipient: [u8; 32],
    /// In which tenure.
    pub tenure: u32,
    /// For control; else for viewing.
    pub is_control: bool,
    /// The way that its codes take.
    pub channel: Channel,
    /// The codes that were charged.
    pub codes: Vec<Paid>,
    /// Until when it works.
    #[serde(with = "super::millis")]
    pub expiry: UnixMillis,
    /// Sends left.
    pub sends_left: u8,
    /// Checks left.
    pub checks_left: u8,
    /// Its link was opened.
    pub is_approved: bool,
    /// Its latest code has been taken by the mail server or the gateway.
    pub is_delivered: bool,
    /// It sends nothing: a message is to come.
    pub is_incoming: bool,
    /// It has ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// How a challenge ended well: what the same check is answered with again, for as long as the challenge would have
/// lived.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// How possession was shown, by the number of the method.
    pub method: u8,
    /// When: the attestation's time.
    #[serde(with = "super::millis")]
    pub at: UnixMillis,
    /// A keyed digest of what was given at that check.
    pub given: [u8; 32],
}

/// What the budget counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// A code was charged.
    Charged {
        /// Which.
        paid: Paid,
        /// Not for another send of the same challenge.
        is_first: bool,
    },
    /// A challenge ended well.
    Completed {
        /// For which these were charged.
        codes: Vec<Paid>,
        /// When.
        #[serde(with = "super::millis")]
        at: UnixMillis,
    },
    /// Nothing happened, but time went by. Not kept.
    Swept {
        /// The time.
        #[serde(with = "super::millis")]
        at: UnixMillis,
    },
}

impl Event {
    fn at(&self) -> UnixMillis {
        match self {
            Self::Charged { paid, .. } => paid.at,
            Self::Completed { at, .. } | Self::Swept { at } => *at,
        }
    }

    /// Whether it is near enough to count. What lies as far ahead was dated by a clock that was wrong: else nothing
    /// would be forgotten until that time has come.
    fn counts(&self, now: UnixMillis) -> bool {
        now.get().abs_diff(self.at().get()) < KEPT_MS
    }
}

/// A change of an open challenge.
pub enum Op {
    /// How far it is now.
    Keep(ChallengeId, Box<Kept>),
    /// It is over.
    Drop(ChallengeId),
}

/// What an earlier program has kept.
#[derive(Default)]
pub struct Replay {
    /// Challenges, some of which may be over.
    pub challenges: BTreeMap<ChallengeId, Kept>,
    /// What was sent, in order.
    pub events: Vec<Event>,
}

/// The disk did not take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWritten;

/// A write that is on its way to the disk.
pub struct Written(Option<oneshot::Receiver<Result<(), NotWritten>>>);

impl Written {
    /// Waits until it is there.
    ///
    /// # Errors
    /// [`NotWritten`].
    pub async fn wait(self) -> Result<(), NotWritten> {
        match self.0 {
            None => Ok(()),
            Some(answer) => answer.await.unwrap_or(Err(NotWritten)),
        }
    }
}

struct Wish {
    ops: Vec<Op>,
    event: Option<Event>,
    answer: oneshot::Sender<Result<(), NotWritten>>,
}

/// Writes. Dropping it ends when what was given to it is written.
pub struct Journal {
    /// What has not been read yet, since there was no room.
    shut: Option<Store>,
    folder: PathBuf,
    /// A write was not taken, and it has not been looked since whether there is room.
    has_failed: Arc<AtomicBool>,
    tried: UnixMillis,
    wishes: Option<Sender<Wish>>,
    writer: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens or makes the database in a folder, and reads what is in it; `None` if there is no room for that, see
    /// [`Journal::read_again`]. `seed` makes the key that it is sealed with.
    ///
    /// # Errors
    /// If it cannot be opened for another reason, with its path.
    pub fn open(folder: &Path, seed: &[u8; 32], now: UnixMillis) -> io::Result<(Self, Option<Replay>)> {
        let path = folder.join(FILE);
        let key = Zeroizing::new(blake3::derive_key("waymark 2026 challenge sealing", seed));
        let store = Store { cipher: XChaCha20Poly1305::new((&*key).into()), path, database: None, next: 0 };
        let (folder, has_failed) = (folder.to_owned(), Arc::default());
        let mut journal = Self { shut: Some(store), folder, has_failed, tried: now, wishes: None, writer: None };
        let replay = journal.read(now)?;
        if replay.is_none() {
            tracing::error!("challenges.redb: the disk is full; challenges are refused until there is room");
        }
        Ok((journal, replay))
    }

    /// Whether what an earlier program has kept is read, so that it can be written to.
    pub const fn is_read(&self) -> bool {
        self.shut.is_none()
    }

    /// Tries to open and to read what could not be opened at the start for want of room; once a second at most.
    pub fn read_again(&mut self, now: UnixMillis) -> Option<Replay> {
        // The difference both ways: a clock that was ahead must not hold it up.
        if now.get().abs_diff(self.tried.get()) < TRY_AGAIN_MS {
            return None;
        }
        self.tried = now;
        self.read(now).unwrap_or_else(|error| {
            tracing::error!(%error, "challenges are refused");
            None
        })
    }

    /// Whether it is worth while to charge for something that has to be written. After a write that has failed, only if there is room,
    /// which is looked at once a second at most: what is charged and not written is lost to the person who asked.
    pub fn has_room(&mut self, now: UnixMillis) -> bool {
        if !self.has_failed.load(Ordering::SeqCst) {
            return true;
        }
        if now.get().abs_diff(self.tried.get()) < TRY_AGAIN_MS {
            return false;
        }
        self.tried = now;
        let has_room = durable::check_room(&self.folder, ROOM_BYTES).is_ok();
        self.has_failed.store(!has_room, Ordering::SeqCst);
        has_room
    }

    /// Reads the store that is shut and gives it to a writer of its own; `None` if there is no room for that.
    fn read(&mut self, now: UnixMillis) -> io::Result<Option<Replay>> {
        let Some(store) = &mut self.shut else { return Ok(None) };
        let replay = match store.read(now) {
            Ok(replay) => replay,
            Err(error) => {
                store.database = None;
                if matches!(&error, redb::Error::Io(e) if durable::is_full(e)) {
                    return Ok(None);
                }
                let what = "Is another program running on this folder? Without the file, open challenges are over and \
                            budgets begin again.";
                return Err(io::Error::other(format!("{}: {error}. {what}", store.path.display())));
            }
        };
        let (wishes, incoming) = channel();
        if let Some(store) = self.shut.take() {
            let writer = std::thread::Builder::new().name("challenges".to_owned());
            let has_failed = Arc::clone(&self.has_failed);
            (self.wishes, self.writer) =
                (Some(wishes), Some(writer.spawn(move || write(store, &incoming, &has_failed))?));
        }
        Ok(Some(replay))
    }

    /// Gives changes to the writer, who keeps their order. Nothing to write is written at once.
    pub fn write(&self, ops: Vec<Op>, event: Option<Event>) -> Written {
        if ops.is_empty() && event.is_none() {
            return Written(None);
        }
        let (answer, answered) = oneshot::channel();
        if let Some(wishes) = &self.wishes {
            // A writer that is gone answers nobody, which is an error to those who wait; so is a journal that is shut.
            let _ = wishes.send(Wish { ops, event, answer });
        }
        Written(Some(answered))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn write(mut store: Store, incoming: &Receiver<Wish>, has_failed: &AtomicBool) {
    while let Ok(first) = incoming.recv() {
        let mut wishes = vec![first];
        wishes.extend(incoming.try_iter().take(SHARED_MAX - 1));
        let written = store.commit(&wishes).map_err(|error| {
            tracing::error!(%error, "challenges.redb: challenges and budgets are not on the disk");
            // What has failed once refuses everything until it is opened again.
            store.database = None;
            NotWritten
        });
        // A later one that finds room within the file says nothing of the next.
        has_failed.fetch_or(written.is_err(), Ordering::SeqCst);
        for wish in wishes {
            let _ = wish.answer.send(written);
        }
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

struct Store {
    cipher: XChaCha20Poly1305,
    path: PathBuf,
    database: Option<Database>,
    /// The next row of `codes`.
    next: u64,
}

impl Store {
    fn database(&mut self) -> Result<&Database, redb::Error> {
        if self.database.is_none() {
            // One without a byte is left by an earlier program that was killed while it made it.
            let is_there = fs::metadata(&self.path).is_ok_and(|file| file.len() > 0);
            self.database = Some(if is_there { builder().open(&self.path)? } else { make(&self.path)? });
        }
        self.database.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())
    }

    fn commit(&mut self, wishes: &[Wish]) -> Result<(), Fault> {
        let mut next = self.next;
        let write = begin_write(self.database()?)?;
        {
            let (mut challenges, mut codes) = (write.open_table(CHALLENGES)?, write.open_table(CODES)?);
            for Wish { ops, event, .. } in wishes {
                for op in ops {
                    match op {
                        Op::Keep(id, kept) => drop(challenges.insert(&id[..], &self.seal(id, kept)?[..])?),
                        Op::Drop(id) => drop(challenges.remove(&id[..])?),
                    }
                }
                if let Some(event) = event {
                    self.forget(&mut codes, event.at())?;
                    if !matches!(event, Event::Swept { .. }) {
                        codes.insert(next, &self.seal(&next.to_be_bytes(), event)?[..])?;
                        next += 1;
                    }
                }
            }
        }
        write.commit()?;
        self.next = next;
        Ok(())
    }

    /// Removes what no longer counts, from the first row on.
    fn forget(&self, codes: &mut redb::Table<'_, u64, &[u8]>, now: UnixMillis) -> Result<(), Fault> {
        for _ in 0..FORGOTTEN_MAX {
            let Some((row, sealed)) = codes.first()?.map(|(row, sealed)| (row.value(), sealed.value().to_vec())) else {
                break;
            };
            let event: Option<Event> = self.open(&row.to_be_bytes(), &sealed);
            if event.is_some_and(|e| e.counts(now)) {
                break;
            }
            codes.remove(row)?;
        }
        Ok(())
    }

    /// Reads everything, and writes nothing. What was sealed under another key, is damaged or too old does not count;
    /// the next write removes it.
    fn read(&mut self, now: UnixMillis) -> Result<Replay, redb::Error> {
        let (mut replay, mut unread, mut next) = (Replay::default(), 0, 0);
        let read = self.database()?.begin_read()?;
        for item in read.open_table(CHALLENGES)?.iter()? {
            let (id, sealed) = item?;
            match id.value().try_into().ok().and_then(|id: ChallengeId| Some((id, self.open(&id, sealed.value())?))) {
                Some((id, kept)) => drop(replay.challenges.insert(id, kept)),
                None => unread += 1,
            }
        }
        for item in read.open_table(CODES)?.iter()? {
            let (row, sealed) = item?;
            next = row.value() + 1;
            match self.open::<Event>(&row.value().to_be_bytes(), sealed.value()) {
                Some(event) if event.counts(now) => replay.events.push(event),
                // The next write removes it, or it lies behind one that counts and goes with that one.
                Some(_) => {}
                None => unread += 1,
            }
        }
        if unread > 0 {
            tracing::warn!(unread, "challenges.redb has rows that this prover's key does not open; they do not count");
        }
        self.next = next;
        Ok(replay)
    }

    fn seal(&self, row: &[u8], value: &impl Serialize) -> Result<Vec<u8>, Fault> {
        let (nonce, text) = (random::bytes::<24>(), Zeroizing::new(serde_json::to_vec(value)?));
        let payload = Payload { msg: &text, aad: row };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| "cannot be sealed")?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn open<T: DeserializeOwned>(&self, row: &[u8], sealed: &[u8]) -> Option<T> {
        let (nonce, sealed) = sealed.split_first_chunk::<24>()?;
        let text = self.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: row }).ok()?;
        serde_json::from_slice(&Zeroizing::new(text)).ok()
    }
}

/// Makes the file under another name, which it loses when it is whole.
fn make(path: &Path) -> Result<Database, redb::Error> {
    let new = path.with_file_name(NEW_FILE);
    // Of a program that was killed while it made one.
    let _ = fs::remove_file(&new);
    let made = make_at(&new).and_then(|database| {
        fs::rename(&new, path)?;
        durable::sync_folder(path.parent().unwrap_or(Path::new(".")))?;
        Ok(database)
    });
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made
}

fn make_at(path: &Path) -> Result<Database, redb::Error> {
    let database = builder().create(path)?;
    let write = begin_write(&database)?;
    write.open_table(CHALLENGES)?;
    write.open_table(CODES)?;
    write.commit()?;
    Ok(database)
}

#[cfg(test)]
mod tests {
    use waymark_runtime::clock::Clock;

    use super::*;

    #[tokio::test]
    async fn what_was_written_is_read_again_and_nobody_else_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = UnixMillis::new(1000);
        let kept = Kept {
            csi: "tel:+4915112345642".to_owned(),
            recipient: [2; 32],
            tenure: 3,
            is_control: true,
            channel: Channel::Sms,
            codes: vec![],
            expiry: at,
            sends_left: 4,
            checks_left: 5,
            is_approved: false,
            is_delivered: false,
            is_incoming: false,
            ended: None,
        };
        let (journal, replay) = Journal::open(folder.path(), &[1; 32], at).unwrap();
        let replay = replay.unwrap();
        assert!(replay.challenges.is_empty() && replay.events.is_empty());
        assert!(Journal::open(folder.path(), &[1; 32], at).is_err(), "one program at a time");
        let completed = |at| Some(Event::Completed { codes: vec![], at });
        let keep = |id| vec![Op::Keep(id, Box::new(kept.clone()))];
        let all = [
            journal.write(keep([1; 16]), completed(at)),
            journal.write(keep([2; 16]), completed(at.plus_ms(1))),
            journal.write(vec![Op::Drop([1; 16])], None),
        ];
        for written in all {
            assert_eq!(written.wait().await, Ok(()));
        }
        drop(journal);
        let bytes = fs::read(folder.path().join(FILE)).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"491511"));
        let open = |seed, at| Journal::open(folder.path(), &[seed; 32], at).unwrap().1.unwrap();
        let replay = open(1, at);
        assert_eq!((replay.challenges.len(), replay.events.len()), (1, 2));
        assert_eq!(replay.challenges[&[2; 16]].csi, kept.csi);
        // A day later, what was sent is forgotten. Under another key, nothing can be read.
        assert_eq!(open(1, at.plus_ms(KEPT_MS)).events.len(), 1);
        assert_eq!(open(2, at).challenges.len(), 0);
    }

    #[tokio::test]
    async fn what_was_dated_by_a_wrong_clock_is_forgotten_and_holds_nothing_up() {
        const HOUR_MS: u64 = 3_600_000;
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::settable(1000 * KEPT_MS);
        let restart = || {
            let (journal, replay) = Journal::open(folder.path(), &[1; 32], clock.now()).unwrap();
            (journal, replay.unwrap())
        };
        let dates = |replay: &Replay| replay.events.iter().map(Event::at).collect::<Vec<_>>();
        let (mut journal, _) = restart();
        let write = async |journal: &Journal| {
            let at = clock.now();
            journal.write(vec![], Some(Event::Completed { codes: vec![], at })).wait().await.unwrap();
            at
        };
        for ahead_days in [365, -365] {
            let ahead_ms = ahead_days * KEPT_MS.cast_signed();
            clock.set(ahead_ms);
            let wrong = write(&journal).await;
            clock.set(-ahead_ms);
            // At a restart it does not count.
            drop(journal);
            let (again, replay) = restart();
            assert!(!dates(&replay).contains(&wrong), "{ahead_days}");
            // Nor without one: what comes next removes it.
            clock.set(ahead_ms);
            write(&again).await;
            clock.set(-ahead_ms);
            let first = write(&again).await;
            clock.advance(KEPT_MS);
            let second = write(&again).await;
            assert!(first < second);
            drop(again);
            let replay;
            (journal, replay) = restart();
            assert_eq!(dates(&replay), [second], "{ahead_days}");
        }
        // Behind one that counts.
        clock.advance(KEPT_MS);
        let mut written = vec![];
        for hours in [0, 20, -20] {
            clock.set(hours * HOUR_MS.cast_signed());
            written.push(write(&journal).await);
            clock.set(-hours * HOUR_MS.cast_signed());
        }
        clock.advance(10 * HOUR_MS);
        drop(journal);
        assert_eq!(dates(&restart().1), written[..2]);
    }
}
