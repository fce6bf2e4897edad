//! The witness state against faults, restarts and races.

use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;
use waymark_log::{
    hash::Hash,
    key::SecretKey,
    note::{KeyName, NoteSigner},
    range::CompactRange,
    witness::{AddCheckpoint, decide},
};
use waymark_runtime::{clock::Clock, database::CACHE_BYTES_MAX};

use super::*;

/// A disk in memory that keeps apart what was written and what was synced, and that can be told to fail.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    written: Vec<u8>,
    synced: Vec<u8>,
    /// Changes and syncs that still succeed; after these all fail.
    changes_left: Option<u32>,
    /// Reads that still succeed, the same way.
    reads_left: Option<u32>,
    /// Writes for which there is still room.
    room_left: Option<u32>,
    /// Whether a write for which there is no room is written all the same.
    is_written_without_room: bool,
}

impl Platter {
    /// One write, if there is room for it, and what the disk says of it.
    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let is_full = self.room_left == Some(0);
        if !is_full || self.is_written_without_room {
            write(&mut self.written);
        }
        self.room_left = self.room_left.map(|left| left.saturating_sub(1));
        if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

/// Whether one more operation succeeds.
fn takes_one(left: &mut Option<u32>) -> io::Result<()> {
    match left {
        Some(0) => return Err(io::Error::other("the disk failed")),
        Some(left) => *left -= 1,
        None => {}
    }
    Ok(())
}

impl Disk {
    fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Platter { synced: bytes.clone(), written: bytes, ..Platter::default() })))
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    /// What a loss of power leaves, and what a kill leaves.
    fn images(&self) -> [Vec<u8>; 2] {
        let platter = self.platter();
        [platter.synced.clone(), platter.written.clone()]
    }

    /// One change or sync, if it still succeeds.
    fn change(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let mut platter = self.platter();
        takes_one(&mut platter.changes_left)?;
        Ok(platter)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut platter = self.platter();
        takes_one(&mut platter.reads_left)?;
        let from = offset as usize;
        let bytes = platter.written.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change()?.write(|written| written.resize(len as usize, 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.change()?;
        platter.synced = platter.written.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let from = offset as usize;
        self.change()?.write(|written| written[from..from + data.len()].copy_from_slice(data))
    }
}

fn origin() -> Origin {
    Origin::new("log.example").unwrap()
}

fn signer() -> NoteSigner {
    NoteSigner::new(KeyName::new("log.example").unwrap(), SecretKey::from_seed(&[5; 32]))
}

fn cosigner(seed: u8) -> Cosigner {
    Cosigner::new(KeyName::new("w.example").unwrap(), SecretKey::from_seed(&[seed; 32]))
}

/// The root of a log of `size` leaves, all the same.
fn root(size: u64) -> Hash {
    let mut tree = CompactRange::new();
    (0..size).for_each(|_| tree.append(Hash::ZERO));
    tree.root()
}

/// An advance to `size` that says it starts at `from`. It is judged from nothing: larger steps are the log crate's tests.
fn step_of(origin: &Origin, from: Option<Head>, size: u64) -> Advance {
    let note = SignedCheckpoint::sign(Checkpoint::new(origin.clone(), size, root(size)), &signer()).to_note(&[]);
    let request = AddCheckpoint { old_size: 0, proof: vec![], note: Note::parse(note.as_bytes()).unwrap() };
    Advance { from, ..decide(None, &request, Some(&[signer().vkey().clone()])).unwrap() }
}

fn step(from: Option<Head>, size: u64) -> Advance {
    step_of(&origin(), from, size)
}

/// Advances to `size` from wherever it is.
fn advance(state: &State, size: u64) -> Result<Cosigned, AdvanceError> {
    state.advance(&origin(), |stored| Ok(step(stored, size)))
}

/// A state on such a disk, with so much memory for its pages.
#[derive(Debug)]
struct At(Disk, usize);

impl Place for At {
    fn check_room(&self) -> io::Result<()> {
        self.0.change()?.write(|_| {})
    }

    fn open(&self, to_write: bool) -> Result<Database, StateError> {
        let (mut builder, disk) = (builder(), self.0.clone());
        builder.set_cache_size(self.1);
        let opened = if to_write {
            builder.create_with_backend(disk)
        } else {
            builder.create_with_backend(database::unwritten(disk).map_err(redb::Error::Io).map_err(store)?)
        };
        opened.map_err(store)
    }
}

fn open_on(disk: Disk, cache_bytes: usize, clock: Clock) -> Result<State, StateError> {
    State::at(Box::new(At(disk, cache_bytes)), cosigner(9), Dating::new(clock))
}

/// A disk that holds a state in which nothing was ever cosigned.
fn new_disk() -> Disk {
    let disk = Disk::default();
    create_table(&builder().create_with_backend(disk.clone()).unwrap()).unwrap();
    disk
}

fn clock() -> Clock {
    Clock::manual(1_700_000_000_000)
}

/// A disk with a state at size 1, and the state.
fn at_one(cache_bytes: usize) -> (Disk, State) {
    let disk = new_disk();
    let state = open_on(disk.clone(), cache_bytes, clock()).unwrap();
    advance(&state, 1).unwrap();
    (disk, state)
}

fn size_of(state: &State) -> Option<u64> {
    state.latest(&origin()).unwrap().map(|c| c.head().size)
}

#[test]
fn what_was_cosigned_is_read_back() {
    let (disk, state) = at_one(CACHE_BYTES_MAX);
    let cosigned = advance(&state, 2).unwrap();
    assert_eq!(cosigned.head(), Head { size: 2, root: root(2) });
    assert_eq!(cosignature::check(&cosigned.note, state.vkey()), Ok(Some(cosigned.time())));
    assert!(cosigned.is_signed_by(&[signer().vkey().clone()]));
    assert!(!cosigned.is_signed_by(&[state.vkey().clone()]));
    assert_eq!(state.latest(&origin()).unwrap(), Some(cosigned.clone()));
    assert_eq!(state.latest(&Origin::new("never.example").unwrap()).unwrap(), None);
    state.close();
    assert!(matches!(state.latest(&origin()), Err(StateError::Closed)));
    assert!(matches!(advance(&state, 3), Err(AdvanceError::State(StateError::Closed))));
    let again = open_on(disk, CACHE_BYTES_MAX, clock()).unwrap();
    assert_eq!(again.latest(&origin()).unwrap(), Some(cosigned));
    assert_eq!(again.origin_by_hash(&origin().hash_hex()), Some(origin()));
}

#[test]
fn a_judgement_about_something_else_is_not_carried_out() {
    let (_disk, state) = at_one(CACHE_BYTES_MAX);
    let stale = step(None, 5);
    let Err(AdvanceError::Refused { refusal, stored }) = state.advance(&origin(), |_| Ok(stale.clone())) else {
        panic!("carried out")
    };
    assert_eq!(refusal, Refusal::Conflict { size: 1 });
    assert_eq!(stored.unwrap().head().size, 1);
    let elsewhere = Origin::new("other.example").unwrap();
    assert!(matches!(state.advance(&elsewhere, |_| Ok(stale)), Err(AdvanceError::Refused { .. })));
    assert_eq!((size_of(&state), state.latest(&elsewhere).unwrap()), (Some(1), None));
}

#[test]
fn times_never_go_down_and_are_never_zero() {
    let (disk, time) = (new_disk(), clock());
    let state = open_on(disk.clone(), CACHE_BYTES_MAX, time.clone()).unwrap();
    advance(&state, 1).unwrap();
    assert_eq!(advance(&state, 1).unwrap().time(), UnixSeconds::new(1_700_000_000));
    state.close();
    for (ms, earlier) in [(1_699_999_999_999, true), (0, true), (1_700_000_000_000, false)] {
        let state = open_on(disk.clone(), CACHE_BYTES_MAX, Clock::manual(ms)).unwrap();
        let outcome = advance(&state, 2);
        assert_eq!(matches!(outcome, Err(AdvanceError::ClockWentBack { .. })), earlier, "{ms}");
        assert_eq!(size_of(&state), Some(if earlier { 1 } else { 2 }), "refusing is no failure");
        state.close();
    }
    // With nothing stored, a clock that stands at zero is refused all the same.
    let state = open_on(new_disk(), CACHE_BYTES_MAX, Clock::manual(0)).unwrap();
    assert!(matches!(advance(&state, 1), Err(AdvanceError::ClockWentBack { .. })));
}

#[test]
fn the_same_cosignature_is_written_once_however_many_ask_for_it_at_once() {
    let (disk, time) = (new_disk(), clock());
    let state = open_on(disk.clone(), CACHE_BYTES_MAX, time.clone()).unwrap();
    let first = advance(&state, 1).unwrap();
    // As if each of them had looked before the first was written.
    let written = disk.platter().written.clone();
    for _ in 0..5 {
        assert_eq!(advance(&state, 1).unwrap().line(), first.line());
        assert!(disk.platter().written == written, "it was written once more");
    }
    time.advance(1000);
    assert_ne!(advance(&state, 1).unwrap().line(), first.line());
    assert!(disk.platter().written != written);
}

#[test]
fn a_note_without_room_for_another_line_is_refused() {
    let (_disk, state) = at_one(CACHE_BYTES_MAX);
    let mut checkpoint = Checkpoint::new(origin(), 2, root(2));
    checkpoint.extensions = vec!["x".repeat(128 * 1024 - 250)];
    let note = SignedCheckpoint::sign(checkpoint, &signer()).to_note(&[]);
    let long = AddCheckpoint { old_size: 0, proof: vec![], note: Note::parse(note.as_bytes()).unwrap() };
    let long = decide(None, &long, Some(&[signer().vkey().clone()])).unwrap();
    let outcome = state.advance(&origin(), |stored| Ok(Advance { from: stored, ..long }));
    assert!(matches!(outcome, Err(AdvanceError::Refused { refusal: Refusal::Malformed(_), .. })));
    assert_eq!(size_of(&state), Some(1));
}

/// The disk fails at each of the operations of a commit in turn; then the process is killed (all that was written is
/// there) or the power goes (only what was synced is there).
#[test]
fn no_signature_leaves_before_it_is_on_the_disk() {
    let mut outcomes = Vec::new();
    for changes in 0..500 {
        let (disk, state) = at_one(CACHE_BYTES_MAX);
        disk.platter().changes_left = Some(changes);
        let outcome = advance(&state, 2);
        if let Err(error) = &outcome {
            assert!(matches!(error, AdvanceError::State(StateError::Store(_))), "{error}");
            // Nothing more comes out of this one, even if the disk is well again.
            disk.platter().changes_left = None;
            assert!(matches!(advance(&state, 3), Err(AdvanceError::State(StateError::Failed))));
            assert!(matches!(state.latest(&origin()), Err(StateError::Failed)));
            disk.platter().changes_left = Some(0);
        }
        let images = disk.images();
        drop(state);
        for image in images {
            let again = open_on(Disk::holding(image), CACHE_BYTES_MAX, clock()).unwrap();
            let size = size_of(&again).expect("what was cosigned first is never forgotten");
            assert!(if outcome.is_ok() { size == 2 } else { size == 1 || size == 2 }, "{size} after {changes}");
            assert_eq!(advance(&again, 3).unwrap().head().size, 3);
        }
        outcomes.push(outcome.is_ok());
        if outcome.is_ok() {
            break;
        }
    }
    assert_eq!(outcomes.pop(), Some(true), "no number of operations was enough");
    assert!(outcomes.len() > 4, "a commit has more operations than {}", outcomes.len());
}

/// There is no room at each of the writes of a commit in turn, and what was refused is written all the same or not. Nothing is
/// forgotten, nothing that is shown can be lost with the power, and room alone lets it go on from what is on the disk.
#[test]
fn a_full_disk_is_waited_for_and_read_back_whatever_it_kept_of_the_write_that_failed() {
    let mut sizes = [0; 3];
    for is_written_without_room in [false, true] {
        let mut was_full = 0;
        for room in 0..500 {
            let (disk, state) = at_one(CACHE_BYTES_MAX);
            (disk.platter().room_left, disk.platter().is_written_without_room) = (Some(room), is_written_without_room);
            let outcome = advance(&state, 2);
            if outcome.is_ok() {
                break;
            }
            was_full += 1;
            assert!(matches!(outcome, Err(AdvanceError::State(StateError::Full))), "{outcome:?}");
            assert!(state.full().is_some() && state.check().is_ok());
            let size = size_of(&state).expect("what was cosigned first is never forgotten");
            assert!(matches!(advance(&state, 3), Err(AdvanceError::State(StateError::Full))));
            assert!(!state.go_on().unwrap() && size_of(&state) == Some(size));
            // The power goes: what was shown is on the disk.
            for image in disk.images() {
                assert_eq!(size_of(&open_on(Disk::holding(image), CACHE_BYTES_MAX, clock()).unwrap()), Some(size));
            }
            disk.platter().room_left = None;
            assert!(state.go_on().unwrap());
            assert_eq!((state.full(), size_of(&state)), (None, Some(size)));
            assert_eq!(advance(&state, 3).unwrap().head().size, 3);
            assert!(!state.go_on().unwrap());
            sizes[size as usize] += 1;
        }
        assert!((4..500).contains(&was_full), "a commit has more writes than {was_full}");
    }
    assert!(sizes[1] > 4 && sizes[2] > 0, "{sizes:?}");
}

#[test]
fn a_new_state_on_a_full_disk_shows_what_was_cosigned_and_waits_for_room() {
    let (disk, state) = at_one(CACHE_BYTES_MAX);
    // Killed: the next opening has something to put in order, and finds no room at each of its writes in turn.
    let [_, image] = disk.images();
    drop(state);
    let (mut disk, mut state, mut was_full) = (disk, None, 0);
    for (room, is_written_without_room) in (0..50).flat_map(|room| [(room, false), (room, true)]) {
        disk = Disk::holding(image.clone());
        (disk.platter().room_left, disk.platter().is_written_without_room) = (Some(room), is_written_without_room);
        let opened = open_on(disk.clone(), CACHE_BYTES_MAX, clock()).unwrap();
        was_full += usize::from(opened.full().is_some());
        assert_eq!((size_of(&opened), opened.origins().len()), (Some(1), 1));
        disk.platter().room_left = Some(0);
        assert!(matches!(advance(&opened, 2), Err(AdvanceError::State(StateError::Full))));
        let size = size_of(&opened).unwrap();
        disk.platter().room_left = None;
        assert!(opened.go_on().unwrap());
        assert_eq!(size_of(&opened), Some(size));
        assert_eq!(advance(&opened, size + 1).unwrap().head().size, size + 1);
        state = Some(opened);
    }
    assert!((2..90).contains(&was_full), "{was_full}");
    let state = state.unwrap();
    // Closed while it waits, it stays closed.
    disk.platter().room_left = Some(0);
    assert!(advance(&state, 3).is_err());
    state.close();
    disk.platter().room_left = None;
    assert!(!state.go_on().unwrap());
    assert!(matches!(advance(&state, 3), Err(AdvanceError::State(StateError::Closed))));
}

#[test]
fn many_that_find_the_disk_full_at_once_make_it_wait_once() {
    let (disk, state) = at_one(CACHE_BYTES_MAX);
    for _ in 0..20 {
        let from = size_of(&state).unwrap();
        disk.platter().room_left = Some(1);
        std::thread::scope(|scope| {
            for i in 0..8 {
                let state = &state;
                scope.spawn(move || {
                    for _ in 0..4 {
                        let outcome = advance(state, from + i + 1);
                        assert!(matches!(outcome, Err(AdvanceError::State(StateError::Full))), "{outcome:?}");
                        assert_eq!(size_of(state), Some(from));
                    }
                });
            }
        });
        disk.platter().room_left = None;
        assert!(state.go_on().unwrap());
        assert_eq!(advance(&state, from + 1).unwrap().head().size, from + 1);
    }
}

/// A disk that cannot be written, or made durable, when there is room again is not waited for.
#[test]
fn what_is_not_a_full_disk_ends_it_also_while_it_waits() {
    for changes in 0..4 {
        let (disk, state) = at_one(CACHE_BYTES_MAX);
        disk.platter().room_left = Some(0);
        assert!(matches!(advance(&state, 2), Err(AdvanceError::State(StateError::Full))));
        (disk.platter().room_left, disk.platter().changes_left) = (None, Some(changes));
        assert!(state.go_on().is_err());
        disk.platter().changes_left = None;
        assert!(matches!(state.go_on(), Err(StateError::Failed)));
        assert!(matches!(state.latest(&origin()), Err(StateError::Failed)));
    }
}

#[test]
fn a_file_that_was_exchanged_while_it_waited_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("w.redb"), folder.path().join("other.redb"));
    State::create(&path).unwrap();
    State::create(&other).unwrap();
    let state = State::open(&path, cosigner(9), Dating::new(clock())).unwrap();
    advance(&state, 1).unwrap();
    let full = StateError::Io { path: path.clone(), error: io::ErrorKind::StorageFull.into() };
    assert!(matches!(state.fault(state.held().unwrap(), full), StateError::Full));
    assert_eq!(size_of(&state), Some(1));
    assert!(State::open(&path, cosigner(9), Dating::new(clock())).is_err(), "nobody else may open it meanwhile");
    std::fs::rename(&other, &path).unwrap();
    assert!(matches!(state.go_on(), Err(StateError::Damaged { .. })));
    assert!(matches!(advance(&state, 2), Err(AdvanceError::State(StateError::Failed))));
}

/// The disk fails at each of the reads in turn: what comes back is what is stored, or an error.
#[test]
fn a_read_error_is_not_absence() {
    // So many logs that looking one up takes more than one page.
    let (disk, state) = at_one(CACHE_BYTES_MAX);
    for i in 0..40 {
        let other = Origin::new(&format!("other{i}.example")).unwrap();
        state.advance(&other, |stored| Ok(step_of(&other, stored, 1))).unwrap();
    }
    state.close();
    let [image, _] = disk.images();
    // Without a cache every page is read again.
    let open = || {
        let disk = Disk::holding(image.clone());
        (disk.clone(), open_on(disk, 0, clock()).unwrap())
    };
    let (mut latest_failed, mut advance_failed) = (0, 0);
    // Bounded, and done when there were reads enough for both.
    for reads in 0..200 {
        let (disk, state) = open();
        disk.platter().reads_left = Some(reads);
        match state.latest(&origin()) {
            Ok(stored) => assert_eq!(stored.map(|c| c.head().size), Some(1), "after {reads}"),
            Err(error) => {
                assert!(matches!(error, StateError::Store(_)), "{error}");
                disk.platter().reads_left = None;
                assert!(matches!(advance(&state, 2), Err(AdvanceError::State(StateError::Failed))));
                latest_failed += 1;
            }
        }
        let (disk, state) = open();
        disk.platter().reads_left = Some(reads);
        let outcome = state.advance(&origin(), |stored| {
            assert_eq!(stored.map(|h| h.size), Some(1), "after {reads}");
            Ok(step(stored, 2))
        });
        match outcome {
            Err(AdvanceError::State(_)) => advance_failed += 1,
            other => {
                assert_eq!(other.unwrap().head().size, 2);
                break;
            }
        }
    }
    assert!(
        (3..200).contains(&latest_failed) && (3..200).contains(&advance_failed),
        "{latest_failed} {advance_failed}"
    );
}

#[tokio::test]
async fn a_failure_is_told() {
    let (disk, state) = at_one(CACHE_BYTES_MAX);
    disk.platter().changes_left = Some(0);
    let wait = std::time::Duration::from_millis(10);
    assert!(tokio::time::timeout(wait, state.failed()).await.is_err());
    advance(&state, 2).unwrap_err();
    state.failed().await;
}

/// Puts a row into a database as it is.
fn with_row(key: &str, row: &[u8]) -> Result<State, StateError> {
    let disk = Disk::default();
    let db = builder().create_with_backend(disk.clone()).unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(COSIGNED).unwrap().insert(key, row).unwrap();
    transaction.commit().unwrap();
    drop(db);
    open_on(disk, CACHE_BYTES_MAX, clock())
}

#[test]
fn a_row_that_is_not_ours_is_an_error() {
    let (_disk, state) = at_one(CACHE_BYTES_MAX);
    let good = state.latest(&origin()).unwrap().unwrap();
    let row = |note: &str| durable::with_checksum(note.as_bytes());
    assert!(with_row("log.example", &good.encode()).is_ok());

    let note = good.to_note();
    let unsigned = SignedCheckpoint::sign(Checkpoint::new(origin(), 1, root(1)), &signer()).to_note(&[]);
    let stranger = cosigner(8).cosign(good.text(), good.time());
    let stranger = note.replace(&good.line().to_string(), &stranger.to_string());
    for (key, row) in [("log.example", row(&unsigned)), ("log.example", row(&stranger))] {
        assert!(matches!(with_row(key, &row), Err(StateError::OtherWitness(_))));
    }
    let other_size = note.replacen("\n1\n", "\n0\n", 1);
    let mut flipped = good.encode();
    flipped[100] ^= 1;
    for (key, row) in [
        ("log.example", row(&other_size)),
        ("log.example", row("not a note")),
        ("log.example", note.clone().into_bytes()),
        ("log.example", flipped),
        ("log.example", vec![]),
        ("other.example", good.encode()),
        ("", good.encode()),
    ] {
        assert!(matches!(with_row(key, &row), Err(StateError::Damaged { .. })), "{key}");
    }
}

#[test]
fn a_store_without_our_table_is_not_an_empty_state() {
    assert!(matches!(open_on(Disk::default(), CACHE_BYTES_MAX, clock()), Err(StateError::NoTable)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.redb");
    assert!(matches!(State::open(&path, cosigner(9), Dating::new(clock())), Err(StateError::Missing(_))));
    std::fs::write(&path, "").unwrap();
    assert!(matches!(State::open(&path, cosigner(9), Dating::new(clock())), Err(StateError::Store(_))));
    assert!(matches!(State::create(&path), Err(StateError::Io { .. })));
}

/// A killed witness's file with one bit flipped opens with the checkpoint cosigned last, or not at all.
///
/// One bit is the exception, and the store has no second copy of it: bit 0 of byte 9 says which of the last two commits is
/// the newer. Flipped, it makes the last step undone, as if the file had been put back to the moment before.
#[test]
fn a_flipped_bit_makes_it_forget_nothing() {
    const HEADER_BYTES: usize = 320;
    let (disk, state) = at_one(CACHE_BYTES_MAX);
    (2..=4).for_each(|size| drop(advance(&state, size).unwrap()));
    let [image, _] = disk.images();
    drop(state);
    let (mut same, mut refused) = (0, 0);
    let header = (0..HEADER_BYTES).map(|at| (at, at % 8)).chain((0..8).map(|bit| (9, bit)));
    let rest = (HEADER_BYTES..image.len()).filter(|at| image[*at] != 0).step_by(151).map(|at| (at, at % 8));
    for (at, bit) in header.chain(rest).filter(|flip| *flip != (9, 0)) {
        let mut flipped = image.clone();
        flipped[at] ^= 1 << bit;
        match open_on(Disk::holding(flipped), CACHE_BYTES_MAX, clock()) {
            Ok(state) => {
                assert_eq!(size_of(&state), Some(4), "byte {at}, bit {bit}");
                same += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(same > 50 && refused > 50, "{same} without effect, {refused} refused");
}
