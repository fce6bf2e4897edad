//! Checkpoints that speak against whoever signed them, in a file that needs nothing else but a trust file. A monitor writes
//! such files, and a client that remembers what it saw.
//!
//! ```text
//! waymark evidence v1\n
//! kind split-view|fork|rollback|entries\n
//! origin <origin>\n
//! note <bytes> <where it was seen>\n        once for each note
//! earlier <root>\n                          only a fork: the root that the larger tree had at the smaller size...
//! proof <hash>\n                            ...and the consistency proof (RFC 6962) from there, hash by hash
//! \n
//! <the notes, one after the other, byte for byte>
//! ```
//!
//! | kind | what it shows | to whom |
//! |---|---|---|
//! | split-view | the log has signed two roots for one size | anybody |
//! | fork | the log has signed a tree and another past of it | anybody; without a proof, whoever holds the entries |
//! | rollback | a witness has cosigned a smaller tree certainly later than a larger one | anybody |
//! | entries | the log has signed a tree whose entries break a rule | anybody who replays the entries |
//!
//! A consistency proof that fails shows nothing, since anybody can make one. A fork is shown by one that **holds**: the
//! larger tree had another root at the smaller size than the one that was signed.

use waymark_log::{
    checkpoint::{CheckpointError, Origin, SignedCheckpoint},
    consistency::Earlier,
    cosignature,
    hash::Hash,
    note::{NOTE_BYTES_MAX, Note, Vkey},
    proof::{PROOF_HASHES_MAX, verify_consistency},
    time::UnixSeconds,
};

use crate::trust::Trust;

/// Most bytes in a file: two notes, a proof, and where the notes were seen.
pub const EVIDENCE_BYTES_MAX: usize = 2 * NOTE_BYTES_MAX + (64 << 10);

const FIRST_LINE: &str = "waymark evidence v1";

/// What the notes show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One size, two roots.
    SplitView,
    /// The smaller tree is not the beginning of the larger.
    Fork,
    /// A witness has cosigned the smaller tree after the larger.
    Rollback,
    /// The entries of the tree break a rule.
    Entries,
}

impl Kind {
    const ALL: [Self; 4] = [Self::SplitView, Self::Fork, Self::Rollback, Self::Entries];

    /// Its name in files and their names.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::SplitView => "split-view",
            Self::Fork => "fork",
            Self::Rollback => "rollback",
            Self::Entries => "entries",
        }
    }
}

/// A signed note and where it was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// In words, for people.
    pub place: String,
    /// Byte for byte.
    pub note: Vec<u8>,
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// What it shows.
    pub kind: Kind,
    /// Which log it is about.
    pub origin: Origin,
    /// The notes: two, or one of kind [`Kind::Entries`].
    pub notes: Vec<Seen>,
    /// Only for a fork.
    pub earlier: Option<Earlier>,
}

/// Who is shown to be at fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shown {
    /// The log, to anybody.
    Log,
    /// These witnesses, to anybody.
    Witnesses(Vec<String>),
    /// The log, to whoever replays the entries: its signature is what this file keeps.
    WithEntries,
}

/// Why a file shows nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unshown {
    /// Not such a file.
    #[error("not evidence: {0}")]
    Form(&'static str),
    /// A note that the log has not signed.
    #[error("a note is not the log's: {0}")]
    Note(#[from] CheckpointError),
    /// Signed, but no contradiction.
    #[error("the notes do not contradict each other")]
    NoContradiction,
}

impl Evidence {
    /// The file's content.
    pub fn format(&self) -> Vec<u8> {
        let mut text = format!("{FIRST_LINE}\nkind {}\norigin {}\n", self.kind.slug(), self.origin);
        for Seen { place, note } in &self.notes {
            text += &format!("note {} {place}\n", note.len());
        }
        if let Some(Earlier { root, proof }) = &self.earlier {
            text += &format!("earlier {root}\n");
            text.extend(proof.iter().map(|hash| format!("proof {hash}\n")));
        }
        text.push('\n');
        let notes = self.notes.iter().flat_map(|seen| &seen.note);
        text.bytes().chain(notes.copied()).collect()
    }

    /// Reads a file's content. Nothing is verified.
    ///
    /// # Errors
    /// [`Unshown::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Unshown> {
        Self::read(bytes).ok_or(Unshown::Form("it does not have the form"))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let split = bytes.windows(2).position(|w| w == b"\n\n").filter(|_| bytes.len() <= EVIDENCE_BYTES_MAX)?;
        let (head, mut rest) = (std::str::from_utf8(&bytes[..split]).ok()?, &bytes[split + 2..]);
        let mut lines = head.split('\n').peekable();
        (lines.next()? == FIRST_LINE).then_some(())?;
        let slug = lines.next()?.strip_prefix("kind ")?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.slug() == slug)?;
        let origin = Origin::new(lines.next()?.strip_prefix("origin ")?).ok()?;
        let mut notes = Vec::new();
        while let Some(line) = lines.peek().and_then(|line| line.strip_prefix("note ")) {
            let (length, place) = line.split_once(' ')?;
            let (note, after) = rest.split_at_checked(length.parse().ok()?)?;
            notes.push(Seen { place: place.to_owned(), note: note.to_vec() });
            rest = after;
            lines.next();
        }
        let earlier = match lines.next() {
            None => None,
            Some(line) => {
                let proof = lines.map(|line| Hash::from_base64(line.strip_prefix("proof ")?));
                let proof = proof.take(PROOF_HASHES_MAX + 1).collect::<Option<Vec<_>>>()?;
                Some(Earlier { root: Hash::from_base64(line.strip_prefix("earlier ")?)?, proof })
            }
        };
        let parsed = Self { kind, origin, notes, earlier };
        // One spelling: the writer's.
        (parsed.format() == bytes).then_some(parsed)
    }

    /// Whom the file speaks against, by the keys of a trust file and nothing else.
    ///
    /// # Errors
    /// [`Unshown`]: it speaks against nobody.
    pub fn verify(&self, trust: &Trust) -> Result<Shown, Unshown> {
        let logs = trust.policy().logs().iter().map(|log| &log.vkey);
        let keys: Vec<Vkey> = logs.filter(|v| v.name().as_str() == self.origin.as_str()).cloned().collect();
        let mut opened = Vec::new();
        for Seen { note, .. } in &self.notes {
            let note = Note::parse(note).map_err(CheckpointError::from)?;
            let signed = SignedCheckpoint::open(&note, &self.origin, &keys)?;
            opened.push((signed, cosigned_at(&note, trust)));
        }
        opened.sort_by_key(|(signed, _)| signed.size());
        if opened.iter().any(|(signed, _)| !signed.is_plausible()) {
            return Ok(Shown::Log);
        }
        match (self.kind, &opened[..]) {
            (Kind::SplitView, [(one, _), (two, _)]) if one.size() == two.size() && one.root() != two.root() => {
                Ok(Shown::Log)
            }
            (Kind::Fork, [(old, _), (new, _)]) if old.size() < new.size() => self.verify_fork(old, new),
            (Kind::Rollback, [(small, later), (large, sooner)]) if small.size() < large.size() => {
                let witnesses = trust.policy().witnesses().iter().zip(later.iter().zip(sooner));
                let guilty = witnesses.filter(|(_, (later, sooner))| is_after(**later, **sooner, trust));
                let guilty: Vec<String> = guilty.map(|(witness, _)| witness.name.clone()).collect();
                if guilty.is_empty() { Err(Unshown::NoContradiction) } else { Ok(Shown::Witnesses(guilty)) }
            }
            (Kind::Entries, [_]) => Ok(Shown::WithEntries),
            _ => Err(Unshown::NoContradiction),
        }
    }

    fn verify_fork(&self, old: &SignedCheckpoint, new: &SignedCheckpoint) -> Result<Shown, Unshown> {
        let Some(Earlier { root, proof }) = &self.earlier else { return Ok(Shown::WithEntries) };
        let holds = verify_consistency(old.size(), new.size(), root, new.root(), proof).is_ok();
        if holds && root != old.root() { Ok(Shown::Log) } else { Err(Unshown::NoContradiction) }
    }

    /// The name of the file that it is kept under: the same content has the same name.
    pub fn file_name(&self) -> String {
        format!("{}-{}.txt", self.kind.slug(), &Hash::sha256(&[&self.format()]).to_hex()[..32])
    }
}

/// When each witness of the policy has cosigned a note; what does not verify is none.
pub fn cosigned_at(note: &Note, trust: &Trust) -> Vec<Option<UnixSeconds>> {
    let at = |vkey: &Vkey| cosignature::check(note, vkey).ok().flatten();
    trust.policy().witnesses().iter().map(|witness| at(&witness.vkey)).collect()
}

/// Whether a cosignature was certainly made after another one of the same witness. Within the skew nobody can tell: a
/// witness may take the time before it takes its turn.
pub fn is_after(later: Option<UnixSeconds>, sooner: Option<UnixSeconds>, trust: &Trust) -> bool {
    matches!((later, sooner), (Some(later), Some(sooner)) if later > sooner.plus_s(trust.freshness().skew_s))
}

#[cfg(test)]
mod tests {
    use waymark_log::{
        checkpoint::Checkpoint,
        cosignature::Cosigner,
        hash::leaf_hash,
        key::SecretKey,
        note::{KeyName, NoteSigner},
        proof::{consistency, naive_root, node_from_leaves},
    };

    use super::*;

    fn log() -> NoteSigner {
        NoteSigner::new(KeyName::new("dp.example/log").unwrap(), SecretKey::from_seed(&[1; 32]))
    }

    fn witness() -> Cosigner {
        Cosigner::new(KeyName::new("w1.example").unwrap(), SecretKey::from_seed(&[2; 32]))
    }

    fn trust() -> Trust {
        let policy = format!("log {}\nwitness w1 {}\nquorum w1\n", log().vkey(), witness().vkey());
        Trust::parse(&format!("policy = \"\"\"\n{policy}\"\"\"\nskew_s = 30\n")).unwrap()
    }

    fn seen(size: u64, root: Hash, at: u64) -> Seen {
        let checkpoint = Checkpoint::new(Origin::new("dp.example/log").unwrap(), size, root);
        let cosignature = witness().cosign(&checkpoint.format(), UnixSeconds::new(at));
        let note = SignedCheckpoint::sign(checkpoint, &log()).to_note(&[cosignature]).into_bytes();
        Seen { place: format!("somewhere at {size}"), note }
    }

    fn evidence(kind: Kind, notes: Vec<Seen>, earlier: Option<Earlier>) -> Evidence {
        Evidence { kind, origin: Origin::new("dp.example/log").unwrap(), notes, earlier }
    }

    fn root(i: u8) -> Hash {
        Hash::sha256(&[&[i]])
    }

    #[test]
    fn a_file_has_one_spelling() {
        let earlier = Some(Earlier { root: root(3), proof: vec![root(4), root(5)] });
        let file = evidence(Kind::Fork, vec![seen(3, root(1), 9), seen(7, root(2), 9)], earlier);
        let bytes = file.format();
        assert_eq!(Evidence::parse(&bytes), Ok(file.clone()));
        for cut in 0..bytes.len() {
            assert!(Evidence::parse(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(Evidence::parse(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn two_roots_of_one_size_show_the_log_and_nothing_less_does() {
        let shown = |notes| evidence(Kind::SplitView, notes, None).verify(&trust());
        assert_eq!(shown(vec![seen(7, root(1), 9), seen(7, root(2), 9)]), Ok(Shown::Log));
        assert_eq!(shown(vec![seen(7, root(1), 9), seen(7, root(1), 10)]), Err(Unshown::NoContradiction));
        assert_eq!(shown(vec![seen(7, root(1), 9), seen(8, root(2), 9)]), Err(Unshown::NoContradiction));
        assert_eq!(shown(vec![seen(7, root(1), 9)]), Err(Unshown::NoContradiction));
        let mut forged = seen(7, root(2), 9);
        forged.note[20] ^= 1;
        assert!(matches!(shown(vec![seen(7, root(1), 9), forged]), Err(Unshown::Note(_))));
        // An empty tree with a root of its own contradicts itself.
        assert_eq!(shown(vec![seen(0, root(1), 9), seen(7, root(1), 9)]), Ok(Shown::Log));
    }

    #[test]
    fn a_fork_is_shown_by_a_proof_that_holds() {
        let leaves: Vec<Hash> = (0u8..11).map(|i| leaf_hash(&[i])).collect();
        let (at_6, at_11) = (naive_root(&leaves[..6]), naive_root(&leaves));
        let plan = consistency(6, 11).unwrap();
        let nodes: Vec<Hash> = plan.nodes().map(|node| node_from_leaves(&leaves, node)).collect();
        let proof = plan.build(&nodes).unwrap();
        let shown = |signed: Hash, earlier: Option<Earlier>| {
            evidence(Kind::Fork, vec![seen(6, signed, 9), seen(11, at_11, 9)], earlier).verify(&trust())
        };
        let earlier = |root| Some(Earlier { root, proof: proof.clone() });
        assert_eq!(shown(root(1), earlier(at_6)), Ok(Shown::Log));
        assert_eq!(shown(root(1), None), Ok(Shown::WithEntries));
        // The signed root is the right one, or the proof is for something else.
        assert_eq!(shown(at_6, earlier(at_6)), Err(Unshown::NoContradiction));
        assert_eq!(shown(root(1), earlier(root(2))), Err(Unshown::NoContradiction));
    }

    #[test]
    fn a_rollback_shows_the_witness_that_cosigned_the_smaller_tree_certainly_later() {
        let shown = |small, large| {
            let notes = vec![seen(9, root(2), large), seen(7, root(1), small)];
            evidence(Kind::Rollback, notes, None).verify(&trust())
        };
        assert_eq!(shown(1031, 1000), Ok(Shown::Witnesses(vec!["w1".to_owned()])));
        assert_eq!(shown(1030, 1000), Err(Unshown::NoContradiction));
        assert_eq!(shown(900, 1000), Err(Unshown::NoContradiction));
    }
}
