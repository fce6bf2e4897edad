//! What reads bytes from outside, fed with bytes that are almost right.
//!
//! A target is a plain function: it must neither panic nor take what it would not write. A fuzzer that is guided by coverage
//! may call them as they are; here they run on mutations of the frozen vectors (tests/vectors/), for a bounded time. Nothing
//! is proved for inputs that were not tried.
//!
//! Most targets read one structure. Two judge what they read as a sender does ([`frozen`]), and one takes its input for a script
//! of events and puts them to the rules ([`lives`]).

pub mod frozen;
pub mod lives;

use rand_core::Rng;
use serde_json::Value;
use waymark::api::{ChangeRequest, HistoryRequest, RequestSignature};
use waymark_log::{
    checkpoint::Checkpoint,
    note::{Note, SignatureLine, Vkey},
    policy::Policy,
    tile::{self, TILE_WIDTH, Tile},
    tlogproof::TlogProof,
    witness::{AddCheckpoint, parse_cosignatures},
};
use waymark_mapping::{
    answer::{Answer, Body, Pasts, Receipt},
    entry::Entry,
    event::{Cause, Event},
    evidence::Evidence,
    identifier::Csi,
    mapping::{Attestation, Consent, Mapping},
    memory::Remembered,
    names::{Account, Domain, Tag},
    record::{Contents, Record},
    trust::Trust,
    typed::parse_typed,
    watch::WatchList,
    wire::{decode, encode},
};

/// Longest input that is made, in bytes: four times the largest seed would only be refused by caps.
pub const INPUT_BYTES_MAX: usize = 128 << 10;

/// A function that reads bytes from outside; says whether it took them.
pub type Target = fn(&[u8]) -> bool;

/// All that read bytes, by name.
pub const TARGETS: [(&str, Target); 31] = [
    ("note", |b| same(b, Note::parse(b).ok().map(|n| n.format()))),
    ("signature line", |b| text(b, |t| SignatureLine::parse(t).ok().map(|s| s.to_string().trim_end().to_owned()))),
    ("vkey", |b| text(b, |t| Vkey::parse(t).ok().map(|k| k.to_string()))),
    ("checkpoint", |b| text(b, |t| Checkpoint::parse(t).ok().map(|c| c.format()))),
    ("policy", |b| text(b, |t| Policy::parse(t).ok().map(|_| t.to_owned()))),
    ("trust file", |b| text(b, |t| Trust::parse(t).ok().map(|_| t.to_owned()))),
    ("add-checkpoint", add_checkpoint),
    ("cosignatures", |b| {
        text(b, |t| parse_cosignatures(t).ok().map(|lines| lines.iter().map(ToString::to_string).collect()))
    }),
    ("tlog-proof", |b| text(b, |t| TlogProof::parse(t).ok().map(|p| p.format()))),
    ("tile path", |b| text(b, |t| Tile::parse(t).map(|t| t.path()))),
    ("tile", tile_hashes),
    ("entry bundle", bundle),
    ("CSI", |b| text(b, |t| Csi::parse(t).ok().map(|c| c.expose().to_owned()))),
    ("typed CSI", typed),
    ("names", names),
    ("entry", |b| same(b, Entry::decode(b).ok().map(|e| e.encode()))),
    ("mapping", |b| same(b, decode::<Mapping>("mapping", b).ok().map(|m| encode(&m)))),
    ("attestation", |b| same(b, decode::<Attestation>("attestation", b).ok().map(|a| encode(&a)))),
    ("consent", |b| same(b, decode::<Consent>("consent", b).ok().map(|c| encode(&c)))),
    ("event", |b| same(b, decode::<Event>("event", b).ok().map(|e| encode(&e)))),
    ("cause", |b| same(b, decode::<Cause>("cause", b).ok().map(|c| encode(&c)))),
    ("record", |b| same(b, decode::<Record>("record", b).ok().map(|r| encode(&r)))),
    ("contents", |b| same(b, decode::<Contents>("contents", b).ok().map(|c| encode(&c)))),
    ("body", |b| same(b, decode::<Body>("body", b).ok().map(|body| encode(&body)))),
    ("answer", |b| {
        same(b, Answer::from_padded(b).ok().and_then(|a| a.to_padded(b.len())))
            | same(b, decode::<Answer>("answer", b).ok().map(|a| encode(&a)))
    }),
    ("receipt", |b| same(b, Receipt::decode(b).ok().map(|r| r.encode()))),
    ("page of history", |b| same(b, decode::<Pasts>("page", b).ok().map(|p| encode(&p)))),
    ("requests", requests),
    ("watch-list", |b| same(b, WatchList::decode(b).ok().map(|l| l.encode()))),
    ("memory of a log", |b| same(b, Remembered::parse(b).map(|r| r.format()))),
    ("evidence", |b| same(b, Evidence::parse(b).ok().map(|e| e.format()))),
];

/// Those that judge what they read, by name: some hundred signatures and proofs each.
pub const JUDGES: [(&str, Target); 3] =
    [("answer, judged", frozen::answer), ("past, judged", frozen::past), ("events, by the rules", lives::live)];

/// What was read is written as it was: there is one form for each value.
fn same(input: &[u8], written: Option<impl AsRef<[u8]>>) -> bool {
    let Some(written) = written else { return false };
    assert!(input == written.as_ref(), "{} bytes were taken and are written differently", input.len());
    true
}

fn text(input: &[u8], rewrite: impl FnOnce(&str) -> Option<String>) -> bool {
    same(input, std::str::from_utf8(input).ok().and_then(rewrite))
}

/// A witness leaves out lines that no key it knows can have made; what any reader would take is written as it was.
fn add_checkpoint(input: &[u8]) -> bool {
    let Ok(request) = AddCheckpoint::parse(input) else { return false };
    let note = input.windows(2).position(|two| two == b"\n\n").map_or(input, |at| &input[at + 2..]);
    Note::parse(note).is_err() || same(input, Some(request.format()))
}

fn tile_hashes(input: &[u8]) -> bool {
    let width = (input.len() / 32).min(TILE_WIDTH as usize) as u16;
    same(input, tile::decode_hashes(input, width).ok().map(|hashes| tile::encode_hashes(&hashes)))
}

fn bundle(input: &[u8]) -> bool {
    let mut taken = false;
    for width in [1, 2, 3, TILE_WIDTH as u16] {
        let Ok(entries) = tile::decode_bundle(input, width) else { continue };
        assert_eq!(entries.len(), usize::from(width));
        assert_eq!(entries.iter().map(|e| e.len() + 2).sum::<usize>(), input.len());
        taken = true;
    }
    taken
}

/// What a person types becomes something canonical or nothing, whatever the library behind it does.
fn typed(input: &[u8]) -> bool {
    let Ok(input) = std::str::from_utf8(input) else { return false };
    let mut taken = false;
    for region in [None, Some("DE"), Some("IT"), Some("AR"), Some("??")] {
        if let Ok(csi) = parse_typed(input, region) {
            assert_eq!(Csi::parse(csi.expose()).as_ref(), Ok(&csi));
            taken = true;
        }
    }
    taken
}

fn names(input: &[u8]) -> bool {
    text(input, |t| Domain::parse(t).map(|d| d.to_string()))
        | text(input, |t| Tag::parse(t).map(|tag| tag.expose().to_owned()))
        | text(input, |t| Account::parse(t).map(|a| a.expose().to_owned()))
}

fn requests(input: &[u8]) -> bool {
    same(input, decode::<ChangeRequest>("change", input).ok().map(|r| encode(&r)))
        | same(input, decode::<HistoryRequest>("history", input).ok().map(|r| encode(&r)))
        | text(input, |t| RequestSignature::parse(t).map(|s| s.format()))
}

/// Every string in these JSON documents: as text, as its lines, as a note's text, as a
/// note handed to a witness; and where it is hex as bytes, as the only entry of a bundle, and as the parts of an answer.
pub fn seeds<'a>(documents: impl IntoIterator<Item = &'a Value>) -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    let mut open: Vec<&Value> = documents.into_iter().collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => open.extend(fields.values()),
            Value::String(text) => {
                seeds.push(text.as_bytes().to_vec());
                if let Ok(bytes) = data_encoding::HEXLOWER.decode(text.as_bytes()) {
                    seeds.push([&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat());
                    seeds.extend(frozen::parts(&bytes));
                    seeds.push(bytes);
                }
                seeds.extend(text.lines().flat_map(|l| [l.as_bytes().to_vec(), format!("{l}\n").into_bytes()]));
                if let Some((before, _)) = text.split_once("\n\n") {
                    seeds.push(format!("{before}\n").into_bytes());
                    seeds.push(format!("old 0\n\n{text}").into_bytes());
                }
            }
            _ => {}
        }
    }
    seeds.sort();
    seeds.dedup();
    seeds
}

/// Most seeds of a target's own: enough to choose from, and soon found where judging one takes milliseconds.
const OWN_SEEDS_MAX: usize = 256;

/// The seeds of one target: those that it takes, which lead further than others.
pub fn taken_by(target: Target, seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
    seeds.iter().filter(|seed| target(seed)).take(OWN_SEEDS_MAX).cloned().collect()
}

/// A seed with one to four small faults, every other time one of the target's own.
pub fn mutated(seeds: &[Vec<u8>], own: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
    let from = if own.is_empty() || below(rng, 2) == 0 { seeds } else { own };
    let mut bytes = from[below(rng, from.len())].clone();
    for _ in 0..=below(rng, 4) {
        let (a, b) = (below(rng, bytes.len() + 1), below(rng, bytes.len() + 1));
        let (from, to) = (a.min(b), a.max(b));
        match below(rng, 8) {
            0 if from < bytes.len() => bytes[from] ^= 1 << below(rng, 8),
            1 if from < bytes.len() => bytes[from] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b' '][below(rng, 7)],
            2 => bytes.truncate(from),
            3 => drop(bytes.drain(from..to)),
            4 => bytes.insert(from, rng.next_u32() as u8),
            5 => bytes.extend_from_within(from..to),
            6 => {
                // The tail of another seed.
                let other = &seeds[below(rng, seeds.len())];
                bytes.truncate(from);
                bytes.extend_from_slice(&other[below(rng, other.len() + 1)..]);
            }
            _ => bytes.extend([rng.next_u32() as u8]),
        }
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}

fn below(rng: &mut impl Rng, bound: usize) -> usize {
    rng.next_u64() as usize % bound.max(1)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    /// Inputs for each target that reads, and for each that judges: few, since this runs in debug builds, too.
    const INPUTS: [usize; 2] = [2000, 100];

    fn vectors() -> Vec<Value> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors");
        let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
        let json = files.filter(|f| f.extension().is_some_and(|e| e == "json"));
        json.map(|f| serde_json::from_str(&std::fs::read_to_string(f).unwrap()).unwrap()).collect()
    }

    #[test]
    fn every_target_takes_some_vector_and_holds_on_almost_right_input() {
        let seeds = seeds(&vectors());
        let mut rng = ChaCha12Rng::from_seed([1; 32]);
        for (targets, inputs) in [&TARGETS[..], &JUDGES].into_iter().zip(INPUTS) {
            for (name, target) in targets {
                let own = taken_by(*target, &seeds);
                // A target that takes nothing tests nothing.
                assert!(!own.is_empty(), "{name} takes no vector");
                for _ in 0..inputs {
                    target(&mutated(&seeds, &own, &mut rng));
                }
            }
        }
    }

    #[test]
    fn a_target_notices_what_is_written_differently() {
        assert!(std::panic::catch_unwind(|| same(b"a", Some("b"))).is_err());
    }
}
