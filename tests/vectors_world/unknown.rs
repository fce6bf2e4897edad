//! What a newer program may have written is not supported; what nobody may have written is malformed.

use serde_json::{Value, json};
use waymark_log::note::{NoteError, Vkey};
use waymark_mapping::{
    answer::Answer,
    entry::Entry,
    event::{Authority, Event, EventTbs},
    mapping::{Attestation, Consent, Mapping},
    record::{Contents, Record, Standing},
    signed::{AnyKey, AnySignature},
    tenure::Passage,
    watch::WatchList,
    wire::{Undecoded, decode, encode},
};

use crate::files::{bytes, hex, list, settle, text};
use crate::vectors_world::{
    NOBODY, World,
    life::{Life, Shows},
    log_signer, secret, witness,
};

/// The type of what comes of reading a structure.
fn read(structure: &str, bytes: &[u8]) -> Result<(), Undecoded> {
    match structure {
        "Answer" => Answer::from_padded(bytes).map(drop),
        "Entry" => Entry::decode(bytes).map(drop),
        "Attestation" => decode::<Attestation>("attestation", bytes).map(drop),
        "Mapping" => decode::<Mapping>("mapping", bytes).map(drop),
        "Consent" => decode::<Consent>("consent", bytes).map(drop),
        "EventTbs" => decode::<EventTbs>("event", bytes).map(drop),
        "Event" => decode::<Event>("event", bytes).map(drop),
        "Authority" => decode::<Authority>("authority", bytes).map(drop),
        "Record" => decode::<Record>("record", bytes).map(drop),
        "Contents" => decode::<Contents>("contents", bytes).map(drop),
        "Standing" => decode::<Standing>("standing", bytes).map(drop),
        "Passage" => decode::<Passage>("passage", bytes).map(drop),
        "WatchList" => WatchList::decode(bytes).map(drop),
        "Key" => decode::<waymark_log::key::Key>("key", bytes).map(drop),
        "Sig" => decode::<waymark_log::key::Signature>("signature", bytes).map(drop),
        "AnyKey" => decode::<AnyKey>("key", bytes).map(drop),
        "AnySig" => decode::<AnySignature>("signature", bytes).map(drop),
        other => panic!("{other}"),
    }
}

const fn name(undecoded: &Undecoded) -> &'static str {
    match undecoded {
        Undecoded::Malformed { .. } => "malformed",
        Undecoded::NotSupported { .. } => "not-supported",
    }
}

/// What is refused of a structure: the same bytes after an edit.
pub(crate) struct Structure {
    name: &'static str,
    good: Vec<u8>,
    pub(crate) refused: Vec<Value>,
}

/// A structure with a format byte in front: another version is not supported, whatever comes behind it is malformed.
pub(crate) fn formatted(name: &'static str, good: Vec<u8>) -> Structure {
    Structure { name, good, refused: vec![] }.not_supported("format version 2", 0, &[2]).not_supported(
        "format version 0",
        0,
        &[0],
    )
}

impl Structure {
    fn edited(mut self, why: &str, bytes: Vec<u8>, verdict: &str) -> Self {
        assert_eq!(read(self.name, &self.good), Ok(()), "{}", self.name);
        let undecoded = read(self.name, &bytes).expect_err(why);
        assert_eq!(name(&undecoded), verdict, "{}: {why}: {undecoded}", self.name);
        self.refused.push(json!({ "why": why, "bytes": hex(bytes), "verdict": verdict }));
        self
    }

    fn at(&self, at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut edited = self.good.clone();
        edited[at..at + bytes.len()].copy_from_slice(bytes);
        edited
    }

    fn not_supported(self, why: &str, at: usize, bytes: &[u8]) -> Self {
        let edited = self.at(at, bytes);
        self.edited(why, edited, "not-supported")
    }

    fn malformed(self, why: &str, at: usize, bytes: &[u8]) -> Self {
        let edited = self.at(at, bytes);
        self.edited(why, edited, "malformed")
    }

    /// A byte too few.
    pub(crate) fn cut(self) -> Self {
        let short = self.good[..self.good.len() - 1].to_vec();
        self.edited("a byte too short", short, "malformed")
    }

    /// An Ed25519 key or signature in it gives way to one of algorithm 2, with the right sizes.
    pub(crate) fn of_algorithm_2(self, what: &str, ed25519: &[u8], size: usize) -> Self {
        let at = self.good.windows(ed25519.len()).rposition(|w| w == ed25519).expect("it is there");
        let length = (size as u16).to_be_bytes();
        let other = [&[0, 2][..], &length, &vec![7; size]].concat();
        let bytes = [&self.good[..at - 4], &other, &self.good[at + ed25519.len()..]].concat();
        let why = format!("{what} of algorithm 2");
        self.edited(&why, bytes, "not-supported")
    }

    fn json(self) -> Value {
        json!({ "structure": self.name, "accepted": hex(self.good), "refused": self.refused })
    }
}

pub(crate) const KEY: usize = 1312;
pub(crate) const SIG: usize = 2420;

fn mapping_structures(life: &Life) -> Vec<Structure> {
    let mapping = &life.consents()[0].mapping;
    let (attestation, consent) = (&mapping.attestation, &life.consents()[0].consent);
    // Behind the format: the identifier, the recipient's key of 36 bytes, the tenure.
    let purpose = 1 + 1 + attestation.csi.expose().len() + 36 + 4;
    vec![
        formatted("Attestation", encode(attestation))
            .not_supported("a purpose that is not defined", purpose, &[3])
            .of_algorithm_2("a recipient's key", attestation.recipient.as_bytes(), KEY)
            .of_algorithm_2("a prover's key", attestation.prover_key.as_bytes(), KEY)
            .of_algorithm_2("a signature", attestation.sig.as_bytes(), SIG)
            .malformed("an identifier that is not canonical", 2, b"T")
            .cut(),
        formatted("Mapping", encode(mapping))
            .of_algorithm_2("a signature", mapping.sig.as_bytes(), SIG)
            .malformed("an identifier that is not canonical", 2, b"T")
            .cut(),
        formatted("Consent", encode(consent))
            .of_algorithm_2("an MSP's key", consent.msp_key.as_bytes(), KEY)
            .of_algorithm_2("a signature", consent.sig.as_bytes(), SIG)
            .malformed("a domain that is not canonical", 2, b"W")
            .cut(),
    ]
}

fn record_structures(life: &Life) -> Vec<Structure> {
    let (last, claimed) = (life.last(), Life::claimed("dp.example"));
    let (event, standing) = (&last.cause.event, life.last().state.held[0].standing);
    let key = event.authorities[0].key;
    let claim = claimed.last().state.state.claim().unwrap().key;
    // The state stands behind format, time and tenure; the ground and the flag are the last of the claim.
    let ground = 14 + 56;
    vec![
        formatted("EventTbs", encode(&event.tbs))
            .not_supported("kind 0", 1, &[0])
            .not_supported("kind 14", 1, &[14])
            .cut(),
        formatted("Event", encode(event)).of_algorithm_2_in_authorities(key.as_bytes()).cut(),
        Structure { name: "Authority", good: encode(&event.authorities[0]), refused: vec![] }
            .not_supported("role 0", 0, &[0])
            .not_supported("role 5", 0, &[5])
            .of_algorithm_2("a key", key.as_bytes(), KEY)
            .of_algorithm_2("a signature", event.authorities[0].sig.as_bytes(), SIG)
            .cut(),
        formatted("Record", encode(&last.record))
            .not_supported("state 0", 13, &[0])
            .not_supported("state 5", 13, &[5])
            .cut(),
        formatted("Record", encode(&claimed.last().record))
            .not_supported("ground 5", ground, &[5])
            .malformed("a flag of 2", ground + 1, &[2])
            .of_algorithm_2("a claimant's key", claim.as_bytes(), KEY),
        formatted("Contents", encode(&last.contents)).not_supported("a tenure that began in way 5", 13, &[5]).cut(),
        Structure { name: "Standing", good: encode(&standing), refused: vec![] }
            .not_supported("status 0", 0, &[0])
            .not_supported("status 4", 0, &[4])
            .malformed("a flag of 2", 6, &[2])
            .cut(),
        Structure { name: "Passage", good: vec![0], refused: vec![] }.not_supported("passage 4", 0, &[4]),
    ]
}

impl Structure {
    /// A key in a list: the lengths of the list around it are those of the greater key.
    fn of_algorithm_2_in_authorities(self, ed25519: &[u8]) -> Self {
        let at = self.good.windows(ed25519.len()).position(|w| w == ed25519).expect("it is there");
        let added = KEY - ed25519.len();
        let mut bytes = self.good.clone();
        // The list's three bytes of length stand before the role of its first element.
        let length = at - 4 - 1 - 3;
        let old = bytes[length..length + 3].iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
        bytes[length..length + 3].copy_from_slice(&((old + added) as u32).to_be_bytes()[1..]);
        let other = [&[0, 2][..], &(KEY as u16).to_be_bytes(), &[7; KEY]].concat();
        bytes.splice(at - 4..at + ed25519.len(), other);
        self.edited("a key of algorithm 2 in an authority", bytes, "not-supported")
    }
}

fn entry_structures(world: &World) -> Vec<Structure> {
    let find = |kind: u8| world.entries.iter().find(|e| e[1] == kind).unwrap().clone();
    let open = formatted("Entry", find(1))
        .not_supported("kind 0", 1, &[0])
        .not_supported("kind 127", 1, &[127])
        .of_algorithm_2("a VRF key", crate::vectors_world::vrf().public().as_bytes(), KEY)
        .cut();
    let config =
        formatted("Entry", find(2)).of_algorithm_2("a log's key", secret("log").public().as_bytes(), KEY).cut();
    let provider = formatted("Entry", find(3))
        .not_supported("an action that is not defined", 3, &[4])
        .malformed("a domain that is not canonical", 5, b"D")
        .cut();
    vec![
        open,
        config,
        provider,
        formatted("Entry", find(4)),
        formatted("Entry", find(5)).cut(),
        formatted("Entry", find(6)).cut(),
    ]
}

/// Keys and signatures, where an algorithm must be known and where it is carried.
fn keys() -> Vec<Structure> {
    let (key, sig) = (encode(&secret("log").public()), encode(&secret("log").sign(b"anything")));
    let bare = |name, good: &Vec<u8>| Structure { name, good: good.clone(), refused: vec![] };
    let sized =
        |algorithm: u8, size: usize| [&[0, algorithm][..], &(size as u16).to_be_bytes(), &vec![7; size]].concat();
    let too_long = |algorithm: u8| [&[0, algorithm][..], &8193u16.to_be_bytes(), &[7; 8193]].concat();
    vec![
        bare("Key", &key)
            .edited("algorithm 2, 1,312 bytes", sized(2, KEY), "not-supported")
            .edited("algorithm 0, 32 bytes", sized(0, 32), "not-supported")
            .edited("algorithm 1, 31 bytes", sized(1, 31), "malformed")
            .edited("algorithm 2, no bytes", sized(2, 0), "malformed")
            .edited("algorithm 2, more than 8,192 bytes", too_long(2), "malformed")
            .cut(),
        bare("Sig", &sig)
            .edited("algorithm 2, 2,420 bytes", sized(2, SIG), "not-supported")
            .edited("algorithm 1, 63 bytes", sized(1, 63), "malformed")
            .edited("algorithm 2, no bytes", sized(2, 0), "malformed")
            .cut(),
        bare("AnyKey", &sized(2, KEY)).edited("algorithm 2, no bytes", sized(2, 0), "malformed").edited(
            "algorithm 2, more than 8,192 bytes",
            too_long(2),
            "malformed",
        ),
        bare("AnySig", &sized(2, SIG)).edited("algorithm 2, no bytes", sized(2, 0), "malformed"),
    ]
}

fn answers(world: &World, life: &Life) -> Vec<Structure> {
    let (absent, shown) = (world.absent(NOBODY), life.answer(Shows::Visible));
    let unpadded = encode(&absent).len();
    vec![
        formatted("Answer", absent.to_padded(0).unwrap())
            .malformed("the padding is not zero", unpadded + 3, &[1])
            .cut(),
        formatted("Answer", shown.to_padded(0).unwrap()),
    ]
}

/// Verifier keys: a type that is not known says nothing of what follows it.
fn vkeys() -> Value {
    let (log, witness) = (log_signer().vkey().to_string(), witness(1).vkey().to_string());
    let of_type = |signature_type: u8| {
        let key = [&[signature_type][..], secret("log").public().as_bytes()].concat();
        let id = crate::hand::sha256(&[b"dp.example/log\n", &key]);
        format!("dp.example/log+{}+{}", hex(&id[..4]), data_encoding::BASE64.encode(&key))
    };
    let cut = log[..log.len() - 4].to_owned();
    let cases = [
        ("type 0x02", of_type(2), "not-supported"),
        ("type 0x05", of_type(5), "not-supported"),
        ("type 0xff", of_type(255), "not-supported"),
        ("a key of 30 bytes", cut, "malformed"),
        ("the ID of another key", log.replacen(&log[15..23], "00000000", 1), "malformed"),
    ];
    let refused = cases.map(|(why, vkey, verdict)| {
        assert_eq!(judge_vkey(&vkey), Err(verdict), "{why}");
        json!({ "why": why, "vkey": vkey, "verdict": verdict })
    });
    json!({ "accepted": [log, witness], "refused": refused })
}

fn judge_vkey(vkey: &str) -> Result<(), &'static str> {
    Vkey::parse(vkey)
        .map(drop)
        .map_err(|e| if matches!(e, NoteError::UnsupportedType(_)) { "not-supported" } else { "malformed" })
}

#[test]
fn not_supported() {
    let (world, life) = (World::of_final_structures(), Life::ann());
    let mut structures = answers(&world, &life);
    structures.extend(entry_structures(&world));
    structures.extend(mapping_structures(&life));
    structures.extend(record_structures(&life));
    structures.extend(keys());
    let file = settle(
        "not-supported",
        "Structures, and what is refused of them: what a newer program may write is not supported, the rest malformed.",
        &json!({ "structures": structures.into_iter().map(Structure::json).collect::<Vec<_>>(), "vkeys": vkeys() }),
    );
    for case in list(&file["structures"]) {
        let structure = text(&case["structure"]);
        assert_eq!(read(structure, &bytes(&case["accepted"])), Ok(()), "{structure}");
        for refused in list(&case["refused"]) {
            let undecoded = read(structure, &bytes(&refused["bytes"])).unwrap_err();
            assert_eq!(name(&undecoded), text(&refused["verdict"]), "{structure}: {}", refused["why"]);
        }
    }
    for vkey in list(&file["vkeys"]["accepted"]) {
        assert_eq!(judge_vkey(text(vkey)), Ok(()));
    }
    for case in list(&file["vkeys"]["refused"]) {
        assert_eq!(judge_vkey(text(&case["vkey"])), Err(text(&case["verdict"])), "{}", case["why"]);
    }
}
