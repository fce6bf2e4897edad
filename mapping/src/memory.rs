//! What a client keeps of a log between look-ups, and what it asks of the next answer because of it.
//!
//! | the answer's tree | what follows |
//! |---|---|
//! | the same size, another root | split view: refused |
//! | any size: a witness has dated its cosignature on the smaller of two trees certainly later | absent; rollback if it is needed: refused |
//! | the same size and root | remembered at once |
//! | smaller | the log's tiles must show that it is the beginning of the tree remembered, which stays |
//! | larger | the log's tiles must show that the tree remembered is its beginning; then it is remembered |
//!
//! The last two are for whoever can read tiles: [`Consistency`] says which ones are needed, and what they show. Until then the
//! memory does not move. An honest witness goes from smaller trees to larger ones, and its clock goes forward, so that it never
//! causes a refusal, however far it lags. "Certainly" is [`is_after`]: by more than the clocks' difference that the trust file
//! allows. Within that nobody can tell, and a smaller tree must be a beginning all the same.
//!
//! In a file:
//!
//! ```text
//! waymark memory v1\n
//! origin <origin>\n
//! open <SHA-256 of the open entry, base64>\n
//! note <bytes>\n                             the note of the largest tree
//! witness <key> <seconds> <bytes>\n          for each witness key, ascending: SHA-256 of (type || key), the time of its
//! \n                                         cosignature on the largest tree that it was seen to cosign, and that note
//! <the notes, one after the other, byte for byte>
//! ```
//!
//! Such a file is its owner's own: nothing in it is verified again when it is read.

use waymark_log::{
    checkpoint::{Checkpoint, Origin},
    consistency::{Earlier, NotPrefix, Prefix},
    hash::Hash,
    note::{NOTE_BYTES_MAX, Note, Vkey},
    policy::{CosignedCheckpoint, Policy},
    tile::{HashTiles, Tile, TileError},
    time::UnixSeconds,
};

use crate::{
    evidence::{Evidence, Kind, Seen, is_after},
    trust::Trust,
};

/// Most witness keys that are remembered: as many as a policy has. Those that a policy no longer names go first.
pub const WITNESSES_MAX: usize = 256;
/// Most bytes in a file: a note, and some 4 KiB for each witness key, which is a checkpoint with the log's line and one
/// by ML-DSA-44. An answer's checkpoint has no extension lines, so that none is longer.
pub const MEMORY_BYTES_MAX: usize = 4 << 20;

const FIRST_LINE: &str = "waymark memory v1";

/// A tree as the log has signed it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Tree {
    size: u64,
    root: Hash,
    note: String,
}

/// A witness's cosignature on the largest tree that it was seen to cosign.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Sighting {
    /// SHA-256 of (type || key): policies change, and so do names.
    key: Hash,
    time: UnixSeconds,
    /// The checkpoint with the log's line and the witness's, no other.
    tree: Tree,
}

/// What a client keeps of a log between look-ups. Made by [`crate::verify`], or read from a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remembered {
    origin: Origin,
    open: Hash,
    tree: Tree,
    /// By key, ascending.
    witnesses: Vec<Sighting>,
}

/// What one answer shows of a log, its signatures checked.
#[derive(Clone, Debug)]
pub(crate) struct Sighted {
    origin: Origin,
    tree: Tree,
    /// With their positions in the policy.
    witnesses: Vec<(usize, Sighting)>,
    /// Those whose line here contradicts an earlier one, and is taken as absent.
    gone_back: Vec<GoneBack>,
}

/// The notes of two trees of one size with two roots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SplitView {
    pub(crate) size: u64,
    pub(crate) ours: String,
    pub(crate) theirs: String,
}

/// A witness has dated its cosignature on the smaller of two trees certainly later than the one on the larger. Both
/// notes are evidence: keep them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoneBack {
    /// The policy's name for it.
    pub witness: String,
    /// The note with the smaller tree.
    pub smaller: String,
    /// The note with the larger one.
    pub larger: String,
}

/// What becomes of the memory after an answer that is proved, and what speaks against witnesses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recall {
    next: Next,
    gone_back: Vec<GoneBack>,
}

/// What becomes of the memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// This is to be remembered.
    Settled(Remembered),
    /// Tiles must show something first. Until then the memory stays as it is.
    ToShow(Box<Consistency>),
}

/// That one tree is the beginning of another is still to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Consistency {
    origin: Origin,
    older: Tree,
    newer: Tree,
    /// Whether the newer one is the one remembered.
    is_smaller_answer: bool,
    next: Remembered,
}

/// The log has signed two trees, and the smaller is not the beginning of the larger: treat it as an attack, and keep both notes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the log's tree of {older} entries is not the beginning of its tree of {newer} entries")]
pub struct NotConsistent {
    older: u64,
    newer: u64,
    evidence: Box<Evidence>,
}

/// Why two memories are not of one log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Apart {
    /// They are of logs with other names.
    #[error("the memory is of another log")]
    OtherLog,
    /// A log opens once: treat it as an attack.
    #[error("the log has shown two open entries")]
    OtherOpen,
    /// The log has signed two trees of one size: treat it as an attack, and keep both notes.
    #[error("split view: the log has signed two different trees of {size} entries")]
    SplitView {
        /// Their size.
        size: u64,
        /// Both notes.
        evidence: Option<Box<Evidence>>,
    },
}

/// Why tiles do not show what they were read for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unshown {
    /// Not all tiles are there: nothing is shown, neither for the log nor against it.
    #[error("the tiles are not all there")]
    Incomplete(#[from] TileError),
    /// They show something else.
    #[error(transparent)]
    NotConsistent(#[from] NotConsistent),
}

impl Sighted {
    /// What a judged note shows. `note` is its bytes.
    pub(crate) fn of(note: &[u8], cosigned: &CosignedCheckpoint, policy: &Policy) -> Self {
        let signed = cosigned.signed();
        let (origin, size, root) = (signed.checkpoint().origin.clone(), signed.size(), *signed.root());
        let tree = |note: String| Tree { size, root, note };
        let parsed = Note::parse(note).ok();
        let one = |vkey: &Vkey, time: UnixSeconds| {
            let line = parsed.as_ref()?.line_by(vkey).ok()??.clone();
            Some(Sighting { key: key_of(vkey), time, tree: tree(signed.to_note(&[line])) })
        };
        let dated = policy.witnesses().iter().zip(cosigned.times()).enumerate();
        let witnesses = dated.filter_map(|(i, (w, time))| Some((i, one(&w.vkey, (*time)?)?))).collect();
        Self { origin, tree: tree(String::from_utf8_lossy(note).into_owned()), witnesses, gone_back: vec![] }
    }

    /// Takes the witnesses that contradict what is remembered of them as absent: what is remembered of them stays, so
    /// that the same line does not count the next time either. Returns their positions in the policy.
    pub(crate) fn leave_out_gone_back(&mut self, remembered: &Remembered, trust: &Trust) -> Vec<usize> {
        let (positions, gone_back): (Vec<usize>, _) = remembered.gone_back(self, trust).into_iter().unzip();
        self.witnesses.retain(|(position, _)| !positions.contains(position));
        self.gone_back = gone_back;
        positions
    }

    /// Those that were left out.
    pub(crate) fn gone_back(&self) -> &[GoneBack] {
        &self.gone_back
    }

    pub(crate) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The answer's tree: size and root.
    pub(crate) const fn tree(&self) -> (u64, Hash) {
        (self.tree.size, self.tree.root)
    }
}

/// SHA-256 of (type || key): what a verifier key is but for its name.
fn key_of(vkey: &Vkey) -> Hash {
    let text = vkey.to_string();
    let encoded = text.splitn(3, '+').nth(2).unwrap_or_default();
    Hash::sha256(&[&data_encoding::BASE64.decode(encoded.as_bytes()).unwrap_or_default()])
}

impl Remembered {
    /// The log.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Size of the largest tree seen.
    pub const fn size(&self) -> u64 {
        self.tree.size
    }

    /// Its root.
    pub const fn root(&self) -> &Hash {
        &self.tree.root
    }

    /// The note that said so.
    pub fn note(&self) -> &str {
        &self.tree.note
    }

    /// SHA-256 of the log's open entry.
    pub const fn open(&self) -> &Hash {
        &self.open
    }

    /// All trees that are remembered. The whole note comes first: with all its cosignatures it says more than the one
    /// line kept for a witness.
    fn trees(&self) -> impl Iterator<Item = &Tree> {
        std::iter::once(&self.tree).chain(self.witnesses.iter().map(|w| &w.tree))
    }

    /// Whether the log has signed another tree of this size before.
    pub(crate) fn split_view(&self, seen: &Sighted) -> Option<SplitView> {
        self.split_from(&seen.tree)
    }

    fn split_from(&self, theirs: &Tree) -> Option<SplitView> {
        let ours = self.trees().find(|ours| ours.size == theirs.size && ours.root != theirs.root)?;
        Some(SplitView { size: ours.size, ours: ours.note.clone(), theirs: theirs.note.clone() })
    }

    /// The witnesses that contradict what is remembered of them, with their positions in the policy.
    fn gone_back(&self, seen: &Sighted, trust: &Trust) -> Vec<(usize, GoneBack)> {
        let one = |(position, new): &(usize, Sighting)| {
            let old = self.witnesses.iter().find(|old| old.key == new.key)?;
            let (smaller, larger) = if new.tree.size < old.tree.size { (new, old) } else { (old, new) };
            // "A witness that dates the smaller of two trees later than the larger one has gone back."
            let is_back =
                smaller.tree.size < larger.tree.size && is_after(Some(smaller.time), Some(larger.time), trust);
            let witness = trust.policy().witnesses().get(*position).filter(|_| is_back)?.name.clone();
            let (smaller, larger) = (smaller.tree.note.clone(), larger.tree.note.clone());
            Some((*position, GoneBack { witness, smaller, larger }))
        };
        seen.witnesses.iter().filter_map(one).collect()
    }

    /// What becomes of this memory when another of the same log meets it that does not come from it: two runs have
    /// begun with an older one. The other one's tree is taken like an answer's.
    ///
    /// # Errors
    /// [`Apart`].
    pub fn meet(&self, other: &Self, trust: &Trust) -> Result<Recall, Apart> {
        if self.origin != other.origin {
            return Err(Apart::OtherLog);
        }
        if let Some(SplitView { size, ours, theirs }) = other.trees().find_map(|theirs| self.split_from(theirs)) {
            let evidence = evidence_of(Kind::SplitView, [("remembered", &ours), ("an answer", &theirs)]);
            return Err(Apart::SplitView { size, evidence: evidence.map(Box::new) });
        }
        if self.open != other.open {
            return Err(Apart::OtherOpen);
        }
        let mut seen = other.as_sighted(trust);
        seen.leave_out_gone_back(self, trust);
        Ok(Recall::of(Some(self), seen, self.open))
    }

    /// What this shows to another memory.
    fn as_sighted(&self, trust: &Trust) -> Sighted {
        let keys = trust.policy().witnesses().iter().map(|w| key_of(&w.vkey)).enumerate();
        let of = |key: Hash| self.witnesses.iter().find(|s| s.key == key).cloned();
        let witnesses = keys.filter_map(|(position, key)| Some((position, of(key)?))).collect();
        Sighted { origin: self.origin.clone(), tree: self.tree.clone(), witnesses, gone_back: vec![] }
    }
}

impl GoneBack {
    /// What anybody can be shown.
    pub fn evidence(&self) -> Option<Evidence> {
        evidence_of(Kind::Rollback, [("the smaller tree", &self.smaller), ("the larger tree", &self.larger)])
    }
}

impl Apart {
    /// What anybody can be shown, if two notes contradict each other.
    pub fn evidence(&self) -> Option<&Evidence> {
        match self {
            Self::SplitView { evidence, .. } => evidence.as_deref(),
            Self::OtherLog | Self::OtherOpen => None,
        }
    }
}

/// Two notes of one log, and where they were seen.
pub(crate) fn evidence_of(kind: Kind, notes: [(&str, &str); 2]) -> Option<Evidence> {
    let origin = Origin::new(notes[0].1.split('\n').next()?).ok()?;
    let seen = |(place, note): (&str, &str)| Seen { place: place.to_owned(), note: note.as_bytes().to_vec() };
    Some(Evidence { kind, origin, notes: notes.into_iter().map(seen).collect(), earlier: None })
}

impl Recall {
    /// What becomes of `remembered`, of the same log and not contradicted, after this.
    pub(crate) fn of(remembered: Option<&Remembered>, seen: Sighted, open: Hash) -> Self {
        let Sighted { origin, tree, witnesses, gone_back } = seen;
        let witnesses = witnesses.into_iter().map(|(_, sighting)| sighting);
        let Some(before) = remembered else {
            let witnesses = merged(&[], witnesses);
            return Self { next: Next::Settled(Remembered { origin, open, tree, witnesses }), gone_back };
        };
        let witnesses = merged(&before.witnesses, witnesses);
        let is_smaller_answer = tree.size < before.tree.size;
        let kept = if is_smaller_answer { before.tree.clone() } else { tree.clone() };
        let next = Remembered { origin: origin.clone(), open, tree: kept, witnesses };
        if tree.size == before.tree.size {
            return Self { next: Next::Settled(next), gone_back };
        }
        let (older, newer) = if is_smaller_answer { (tree, before.tree.clone()) } else { (before.tree.clone(), tree) };
        let consistency = Consistency { origin, older, newer, is_smaller_answer, next };
        Self { next: Next::ToShow(Box::new(consistency)), gone_back }
    }

    /// What becomes of the memory.
    pub const fn next(&self) -> &Next {
        &self.next
    }

    /// What is to be remembered, if nothing must be shown first.
    pub const fn settled(&self) -> Option<&Remembered> {
        match &self.next {
            Next::Settled(remembered) => Some(remembered),
            Next::ToShow(_) => None,
        }
    }

    /// The witnesses that have contradicted themselves. The answer is proved without their lines; what speaks against
    /// them is to be kept.
    pub fn gone_back(&self) -> &[GoneBack] {
        &self.gone_back
    }
}

/// One sighting for each key: of the largest tree, of those of one size the latest.
fn merged(old: &[Sighting], new: impl Iterator<Item = Sighting>) -> Vec<Sighting> {
    let mut all: Vec<Sighting> = new.collect();
    // Those of the present policy are kept; what it does not name, as long as there is room.
    for old in old {
        match all.iter().position(|new| new.key == old.key) {
            Some(at) if (old.tree.size, old.time) > (all[at].tree.size, all[at].time) => all[at] = old.clone(),
            None if all.len() < WITNESSES_MAX => all.push(old.clone()),
            _ => {}
        }
    }
    all.sort_unstable_by_key(|s| s.key);
    all
}

impl Consistency {
    /// The log.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Size of the tree that must be the beginning.
    pub const fn older(&self) -> u64 {
        self.older.size
    }

    /// Size of the tree that it must be the beginning of.
    pub const fn newer(&self) -> u64 {
        self.newer.size
    }

    /// The tiles to read, where the log's own checkpoint is now of the size `published` (which nobody needs to have judged).
    ///
    /// They are named as wide as they are there, so that the names tell no more of what is remembered than which tile of 256
    /// entries it ends in. `None` if the log shows fewer entries now than are remembered: to name the tiles of the tree
    /// remembered would tell its size, and a log that lags is asked again later.
    pub fn tiles(&self, published: u64) -> Option<Vec<Tile>> {
        if self.is_smaller_answer && published < self.newer.size {
            return None;
        }
        let plan = Prefix::plan(self.older.size, self.newer.size).ok()?;
        Some(plan.tiles(published))
    }

    /// Judges by the tiles: what is to be remembered now.
    ///
    /// # Errors
    /// [`Unshown`].
    pub fn check(&self, tiles: &HashTiles) -> Result<Remembered, Unshown> {
        // Sizes of signed trees in this order are always in range.
        let plan = Prefix::plan(self.older.size, self.newer.size).map_err(|_| TileError::NotInTile)?;
        let earlier = match plan.check(tiles, &self.older.root, &self.newer.root) {
            Ok(_) => return Ok(self.next.clone()),
            Err(NotPrefix::Tile(error)) => return Err(error.into()),
            Err(NotPrefix::Forked(earlier)) => Some(earlier),
            Err(NotPrefix::OtherTree) => None,
        };
        Err(self.not_consistent(earlier).into())
    }

    fn not_consistent(&self, earlier: Option<Earlier>) -> NotConsistent {
        let places = if self.is_smaller_answer { ["an answer", "remembered"] } else { ["remembered", "an answer"] };
        let seen = |place: &str, tree: &Tree| Seen { place: place.to_owned(), note: tree.note.clone().into_bytes() };
        let notes = vec![seen(places[0], &self.older), seen(places[1], &self.newer)];
        let evidence = Box::new(Evidence { kind: Kind::Fork, origin: self.origin.clone(), notes, earlier });
        NotConsistent { older: self.older.size, newer: self.newer.size, evidence }
    }
}

impl NotConsistent {
    /// Both notes, and the proof of another root if the tiles gave one.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}

/// A tree, from a note that is believed.
fn tree_of(note: &[u8], origin: &Origin) -> Option<Tree> {
    let parsed = Note::parse(note).ok()?;
    let checkpoint = Checkpoint::parse(parsed.text()).ok()?;
    let note = String::from_utf8(note.to_vec()).ok()?;
    let is_ours = checkpoint.origin == *origin && checkpoint.size > 0;
    is_ours.then_some(Tree { size: checkpoint.size, root: checkpoint.root, note })
}

impl Remembered {
    /// The file's content.
    pub fn format(&self) -> Vec<u8> {
        let mut text = format!("{FIRST_LINE}\norigin {}\nopen {}\n", self.origin, self.open);
        text += &format!("note {}\n", self.tree.note.len());
        for Sighting { key, time, tree } in &self.witnesses {
            text += &format!("witness {key} {} {}\n", time.get(), tree.note.len());
        }
        text.push('\n');
        text += &self.tree.note;
        text.extend(self.witnesses.iter().map(|s| s.tree.note.as_str()));
        text.into_bytes()
    }

    /// Reads a file's content. `None` unless it is exactly what [`Remembered::format`] would write.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let split = bytes.windows(2).position(|w| w == b"\n\n").filter(|_| bytes.len() <= MEMORY_BYTES_MAX)?;
        let (head, mut rest) = (std::str::from_utf8(&bytes[..split]).ok()?, &bytes[split + 2..]);
        let mut lines = head.split('\n');
        (lines.next()? == FIRST_LINE).then_some(())?;
        let origin = Origin::new(lines.next()?.strip_prefix("origin ")?).ok()?;
        let open = Hash::from_base64(lines.next()?.strip_prefix("open ")?)?;
        let mut take = |length: &str| {
            let length = length.parse().ok().filter(|length| *length <= NOTE_BYTES_MAX)?;
            let (note, after) = rest.split_at_checked(length)?;
            rest = after;
            tree_of(note, &origin)
        };
        let tree = take(lines.next()?.strip_prefix("note ")?)?;
        let mut witnesses: Vec<Sighting> = Vec::new();
        for line in lines {
            let mut words = line.strip_prefix("witness ")?.split(' ');
            let (key, time, length) = (words.next()?, words.next()?, words.next()?);
            let (key, time) = (Hash::from_base64(key)?, UnixSeconds::new(time.parse().ok()?));
            witnesses.push(Sighting { key, time, tree: take(length)? });
        }
        let ascend = witnesses.windows(2).all(|w| w[0].key < w[1].key) && witnesses.len() <= WITNESSES_MAX;
        let parsed = Self { origin, open, tree, witnesses };
        // One spelling: the writer's.
        (ascend && parsed.format() == bytes).then_some(parsed)
    }
}
