//! Requests that were validly signed by a log and refused as inconsistent, kept because they may prove that it misbehaved.
//!
//! ```text
//! waymark refused add-checkpoint v1\n
//! stored <bytes>\n          0 if nothing was cosigned before
//! request <bytes>\n
//! \n
//! <the note cosigned before><the request's body>
//! ```
//!
//! C2SP tlog-witness allows to keep them. A file of kind `root` contradicts itself, or the note beside it, and only the log
//! can have made it. A file of kind `proof` is a lead and no more: the proof did not fit, and anybody can send a bad proof
//! with a checkpoint that the log published. So one pair of checkpoints makes one file however often it is sent, bad
//! proofs leave room for bad roots, of each log and of all together, and no log takes the room of another.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use waymark_log::{
    checkpoint::Checkpoint,
    hash::{EMPTY_ROOT, Hash},
    witness::{AddCheckpoint, Head},
};
use waymark_runtime::durable;

use crate::state::Cosigned;

/// Most files of one kind in the folder: a person will look at each. Each kind has room of its own, since strangers can fill that of
/// bad proofs, with what many logs have published.
pub const FILES_PER_KIND_MAX: usize = 500;
/// Most bytes of one kind: as many usual files of 1 KiB many times over, and no more of a disk than anybody misses.
pub const BYTES_PER_KIND_MAX: u64 = 32 << 20;
/// Most files of one log: the first few say all there is to say.
pub const FILES_PER_LOG_MAX: usize = 32;
/// Most files of one log that show no more than a bad proof, which any stranger can send.
pub const PROOF_FILES_PER_LOG_MAX: usize = 24;

const FIRST_LINE: &str = "waymark refused add-checkpoint v1";

/// What speaks against the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Two roots at one size, or an empty tree with a root of its own.
    Root,
    /// A consistency proof that does not hold.
    Proof,
}

impl Kind {
    fn of(stored: Option<&Cosigned>, offered: &Checkpoint) -> Self {
        let contradicts = |head: Head| head.size == offered.size && head.root != offered.root;
        let of_nothing = offered.size == 0 && offered.root != EMPTY_ROOT;
        if of_nothing || stored.map(Cosigned::head).is_some_and(contradicts) { Self::Root } else { Self::Proof }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Proof => "proof",
        }
    }
}

/// A request that was refused, beside what stood against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The note cosigned before, if there was one.
    pub stored: Option<String>,
    /// The request's body, byte for byte.
    pub request: Vec<u8>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is in this file now.
    New(Kind, PathBuf),
    /// These two checkpoints are in this file since an earlier request.
    Already(PathBuf),
    /// There is no room; it is lost.
    Full,
}

impl Refused {
    /// The file's content.
    pub fn format(&self) -> Vec<u8> {
        let stored = self.stored.as_deref().unwrap_or_default();
        let (old, new) = (stored.len(), self.request.len());
        let head = format!("{FIRST_LINE}\nstored {old}\nrequest {new}\n\n");
        [head.as_bytes(), stored.as_bytes(), &self.request].concat()
    }

    /// Reads a file's content; `None` if it does not have the form.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let split = bytes.windows(2).position(|w| w == b"\n\n")?;
        let (head, body) = (std::str::from_utf8(&bytes[..split]).ok()?, &bytes[split + 2..]);
        let mut lines = head.split('\n');
        (lines.next()? == FIRST_LINE).then_some(())?;
        let stored: usize = lines.next()?.strip_prefix("stored ")?.parse().ok()?;
        let (stored, request) = body.split_at_checked(stored)?;
        let stored = Some(String::from_utf8(stored.to_vec()).ok()?).filter(|s| !s.is_empty());
        let parsed = Self { stored, request: request.to_vec() };
        // One spelling: the writer's.
        (parsed.format() == bytes).then_some(parsed)
    }
}

/// Whether a checkpoint that the log has signed speaks against the log, whatever old size and proof came with it.
pub fn is_against_the_log(stored: Option<&Cosigned>, request: &AddCheckpoint) -> bool {
    request.checkpoint().is_ok_and(|offered| Kind::of(stored, &offered) == Kind::Root)
}

/// Keeps a request that was refused as inconsistent with `stored`.
///
/// # Errors
/// The file operation that failed. The refusal stands without it.
pub fn keep(folder: &Path, stored: Option<&Cosigned>, request: &AddCheckpoint, body: &[u8]) -> io::Result<Kept> {
    let offered = request.checkpoint();
    let offered = offered.map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    let kind = Kind::of(stored, &offered);
    let log = offered.origin.hash_hex();
    let path = folder.join(file_name(&log, kind, stored.map_or("", Cosigned::text), request.note.text()));
    if path.try_exists()? {
        return Ok(Kept::Already(path));
    }
    let content = Refused { stored: stored.map(Cosigned::to_note), request: body.to_vec() }.format();
    if !Room::taken(folder, kind, &log)?.takes(kind, content.len() as u64) {
        return Ok(Kept::Full);
    }
    durable::write_once(&path, &content)?;
    durable::sync_folder(folder)?;
    // The folder itself may be new.
    folder.parent().map_or(Ok(()), durable::sync_folder)?;
    Ok(Kept::New(kind, path))
}

/// Named by the two checkpoints, without proof and signatures: these can be varied without end.
fn file_name(log: &str, kind: Kind, stored: &str, offered: &str) -> String {
    let pair = Hash::sha256(&[stored.as_bytes(), b"\n", offered.as_bytes()]).to_hex();
    format!("{log}-{}-{pair}.txt", kind.name())
}

/// What is in the folder, as far as one kind and one log are concerned.
#[derive(Default)]
struct Room {
    of_kind: usize,
    bytes_of_kind: u64,
    of_log: usize,
    of_both: usize,
}

impl Room {
    fn taken(folder: &Path, kind: Kind, log: &str) -> io::Result<Self> {
        let mut room = Self::default();
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(room),
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let (whose, rest) = name.split_once('-').unwrap_or((&name, ""));
            let (is_of_log, is_of_kind) = (whose == log, rest.starts_with(kind.name()));
            room.of_log += usize::from(is_of_log);
            room.of_kind += usize::from(is_of_kind);
            room.of_both += usize::from(is_of_log && is_of_kind);
            if is_of_kind {
                room.bytes_of_kind += entry.metadata()?.len();
            }
        }
        Ok(room)
    }

    const fn takes(&self, kind: Kind, bytes: u64) -> bool {
        self.of_kind < FILES_PER_KIND_MAX
            && self.bytes_of_kind + bytes <= BYTES_PER_KIND_MAX
            && self.of_log < FILES_PER_LOG_MAX
            && (matches!(kind, Kind::Root) || self.of_both < PROOF_FILES_PER_LOG_MAX)
    }
}

#[cfg(test)]
mod tests {
    use waymark_log::{
        checkpoint::{Origin, SignedCheckpoint},
        key::SecretKey,
        note::{KeyName, Note, NoteSigner},
    };

    use super::*;

    fn request(origin: &str, size: u64, root: u8) -> AddCheckpoint {
        let signer = NoteSigner::new(KeyName::new("log.example").unwrap(), SecretKey::from_seed(&[5; 32]));
        let checkpoint = Checkpoint::new(Origin::new(origin).unwrap(), size, Hash::new([root; 32]));
        let note = SignedCheckpoint::sign(checkpoint, &signer).to_note(&[]);
        AddCheckpoint { old_size: 0, proof: vec![], note: Note::parse(note.as_bytes()).unwrap() }
    }

    fn keep_one(folder: &Path, request: &AddCheckpoint) -> Kept {
        keep(folder, None, request, request.format().as_bytes()).unwrap()
    }

    #[test]
    fn a_file_has_one_spelling() {
        for stored in [None, Some("a note\n\n\u{2014} x\n".to_owned())] {
            let refused = Refused { stored, request: b"old 0\n\nx".to_vec() };
            let bytes = refused.format();
            assert_eq!(Refused::parse(&bytes), Some(refused));
            for cut in 0..bytes.len() {
                assert_eq!(Refused::parse(&bytes[..cut]), None, "{cut}");
            }
        }
        assert_eq!(Refused::parse(b"waymark refused add-checkpoint v1\nstored 00\nrequest 1\n\nx"), None);
        assert_eq!(Refused::parse(b"waymark refused add-checkpoint v1\nstored 9\nrequest 1\n\nx"), None);
    }

    #[test]
    fn the_same_pair_is_kept_once_whatever_proof_comes_with_it() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("refused");
        let first = request("log.example", 7, 1);
        let Kept::New(Kind::Proof, path) = keep_one(&folder, &first) else { panic!("not kept") };
        assert_eq!(Refused::parse(&fs::read(&path).unwrap()).unwrap().request, first.format().as_bytes());
        let with_proof = AddCheckpoint { proof: vec![Hash::ZERO], ..first };
        assert_eq!(keep_one(&folder, &with_proof), Kept::Already(path));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn bad_proofs_leave_room_for_bad_roots_and_for_other_logs() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("refused");
        let mut kept = 0;
        for size in 1..=40 {
            kept += usize::from(keep_one(&folder, &request("log.example", size, 1)) != Kept::Full);
        }
        assert_eq!(kept, PROOF_FILES_PER_LOG_MAX);
        for root in 1..=40 {
            kept += usize::from(keep_one(&folder, &request("log.example", 0, root)) != Kept::Full);
        }
        assert_eq!(kept, FILES_PER_LOG_MAX);
        assert!(matches!(keep_one(&folder, &request("other.example", 1, 1)), Kept::New(..)));
    }

    #[test]
    fn bad_proofs_about_many_logs_leave_room_for_what_only_a_log_can_have_made() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("refused");
        fs::create_dir(&folder).unwrap();
        // As many logs as it takes to fill all of the room for bad proofs, and more.
        for (log, pair) in (0..50).flat_map(|log| (0..PROOF_FILES_PER_LOG_MAX).map(move |pair| (log, pair))) {
            let (log, pair) = (Hash::sha256(&[&[log]]).to_hex(), Hash::sha256(&[&[pair as u8]]).to_hex());
            if Room::taken(&folder, Kind::Proof, &log).unwrap().takes(Kind::Proof, 1) {
                fs::write(folder.join(format!("{log}-proof-{pair}.txt")), "").unwrap();
            }
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), FILES_PER_KIND_MAX);
        assert_eq!(keep_one(&folder, &request("log.example", 1, 1)), Kept::Full);
        for root in 1..=2 {
            assert!(matches!(keep_one(&folder, &request("log.example", 0, root)), Kept::New(Kind::Root, _)));
        }
    }

    #[test]
    fn the_folder_is_capped() {
        let room = |of_kind, bytes_of_kind| Room { of_kind, bytes_of_kind, of_log: 0, of_both: 0 };
        assert!(room(FILES_PER_KIND_MAX - 1, 0).takes(Kind::Root, 1));
        assert!(!room(FILES_PER_KIND_MAX, 0).takes(Kind::Root, 1));
        assert!(room(0, BYTES_PER_KIND_MAX - 1).takes(Kind::Root, 1));
        assert!(!room(0, BYTES_PER_KIND_MAX - 1).takes(Kind::Root, 2));
    }
}
