//! What a client remembers of a log, what it therefore refuses, and the evidence that it keeps.

use serde_json::{Value, json};
use waymark_log::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    hash::Hash,
    tile::{Edge, HashTiles, Tile},
    time::{UnixMillis, UnixSeconds},
};
use waymark_mapping::{
    answer::{Answer, Full},
    entry::{Entry, Open},
    evidence::{Evidence, Shown, Unshown},
    memory::{Next, Recall, Remembered, Unshown as NotShown},
    trust::{Trust, pin_text},
    verify::{Asked, Rejected, Trail, Verified, verify},
    wire::{List24, Opaque16, Optional24},
};

use crate::answers::rejected_name;
use crate::files::{bytes, hex, list, millis, settle, text};
use crate::refused::rule;
use crate::vectors_world::{NOBODY, World, csi, log_signer, origin, trust_text, witness};

/// How far the trust file lets clocks differ, seconds.
const SKEW_S: u64 = 30;

// Logs.

/// A log at an earlier and a later size, and another one of the same beginning: one key has signed them all.
struct Logs {
    older: World,
    newer: World,
    /// Of the size of `newer`, with another last batch.
    other: World,
    /// Larger than `newer`, and goes on from `other`.
    forked: World,
    /// Larger than `newer`, and goes on from it.
    grown: World,
}

fn logs() -> Logs {
    let older = World::new();
    let mut newer = older.clone();
    newer.publish(vec![]);
    let mut other = older.clone();
    other.now_ms += 1;
    other.publish(vec![]);
    let (mut forked, mut grown) = (other.clone(), newer.clone());
    forked.publish(vec![]);
    grown.publish(vec![]);
    Logs { older, newer, other, forked, grown }
}

/// The checkpoint of a log, cosigned so many seconds after its head was made.
fn note(log: &World, later_s: u64) -> String {
    note_of(log.checkpoint(), log.head_s() + later_s)
}

fn note_of(checkpoint: Checkpoint, at_s: u64) -> String {
    let text = checkpoint.format();
    let lines: Vec<_> = (1..=3).map(|i| witness(i).cosign(&text, UnixSeconds::new(at_s))).collect();
    SignedCheckpoint::sign(checkpoint, &log_signer()).to_note(&lines)
}

/// The answer that a log gives at its end, cosigned so much later; and when it is judged, a second after that.
fn answer(log: &World, later_s: u64) -> (Answer, UnixMillis) {
    let checkpoint = Opaque16::new(note(log, later_s)).unwrap();
    let now = UnixSeconds::new(log.head_s() + later_s).plus_s(1).to_millis();
    (Answer { checkpoint, ..log.absent(NOBODY) }, now)
}

/// A log's hash tiles at its end.
fn tiles(log: &World) -> Vec<(Tile, Vec<u8>)> {
    let mut edge = Edge::new();
    for entry in &log.entries {
        edge.append(entry, |_, _| panic!("the log is smaller than a tile")).unwrap();
    }
    let all = edge.partials(0);
    all.into_iter().filter(|(tile, _)| tile.path().starts_with("tile/0/")).collect()
}

// Judging.

fn judged(answer: &[u8], trust: &str, memory: Option<&str>, now: UnixMillis) -> Result<Recall, Rejected> {
    let asked = Asked { origin: origin(), csi: csi(NOBODY), tag: None };
    let memory = memory.map(|text| Remembered::parse(text.as_bytes()).expect("a memory"));
    let trust = Trust::parse(trust).unwrap();
    let verified = verify(answer, &asked, &trust, memory.as_ref(), now, &mut Trail::default());
    verified.map(|v: Verified<_>| v.recall().clone())
}

fn memory_text(remembered: &Remembered) -> String {
    String::from_utf8(remembered.format()).unwrap()
}

/// What is remembered of a log after one answer.
fn memory_of(log: &World, later_s: u64) -> String {
    let (answer, now) = answer(log, later_s);
    let recall = judged(&answer.to_padded(0).unwrap(), &trust_text(), None, now).unwrap();
    memory_text(recall.settled().unwrap())
}

/// What becomes of the memory: at once, or once tiles have shown something.
fn outcome(recall: &Recall, shown_by: Option<&[(Tile, Vec<u8>)]>) -> Value {
    match (recall.next(), shown_by) {
        (Next::Settled(remembered), _) => json!({ "verdict": "remembered", "memory": memory_text(remembered) }),
        (Next::ToShow(to_show), None) => {
            json!({ "verdict": "to-show", "older": to_show.older(), "newer": to_show.newer() })
        }
        (Next::ToShow(to_show), Some(read)) => {
            let mut tiles = HashTiles::default();
            for (tile, content) in read {
                tiles.insert(*tile, content).unwrap();
            }
            match to_show.check(&tiles) {
                Ok(remembered) => json!({ "verdict": "remembered", "memory": memory_text(&remembered) }),
                Err(NotShown::Incomplete(_)) => json!({ "verdict": "tiles-missing" }),
                Err(NotShown::NotConsistent(why)) => {
                    json!({ "verdict": "not-consistent", "evidence": evidence_text(why.evidence()) })
                }
            }
        }
    }
}

fn evidence_text(evidence: &Evidence) -> String {
    String::from_utf8(evidence.format()).unwrap()
}

fn verdict(
    answer: &[u8],
    trust: &str,
    memory: Option<&str>,
    now: UnixMillis,
    read: Option<&[(Tile, Vec<u8>)]>,
) -> Value {
    match judged(answer, trust, memory, now) {
        Ok(recall) => outcome(&recall, read),
        Err(rejected) => {
            let evidence = rejected.evidence().map(|e| evidence_text(&e));
            let mut verdict = json!({ "verdict": rejected_name(&rejected) });
            if let Some(evidence) = evidence {
                verdict["evidence"] = json!(evidence);
            }
            verdict
        }
    }
}

/// An answer to somebody who remembers, or not, and what comes of it.
struct Case {
    name: &'static str,
    trust: String,
    memory: Option<String>,
    answer: (Answer, UnixMillis),
    tiles: Option<Vec<(Tile, Vec<u8>)>>,
}

fn case(name: &'static str, memory: String, answer: (Answer, UnixMillis)) -> Case {
    Case { name, trust: trust_text(), memory: Some(memory), answer, tiles: None }
}

impl Case {
    fn reading(self, log: &World) -> Self {
        Self { tiles: Some(tiles(log)), ..self }
    }

    /// The case with what comes of it, which must be this.
    fn json(self, as_field: &str, expected: &str) -> Value {
        let padded = self.answer.0.to_padded(0).unwrap();
        let result = verdict(&padded, &self.trust, self.memory.as_deref(), self.answer.1, self.tiles.as_deref());
        assert_eq!(text(&result["verdict"]), expected, "{}", self.name);
        let tiles = self.tiles.map(|tiles| {
            tiles
                .iter()
                .map(|(tile, content)| json!({ "path": tile.path(), "bytes": hex(content) }))
                .collect::<Vec<_>>()
        });
        json!({
            as_field: self.name, "csi": NOBODY, "trust": self.trust, "memory": self.memory, "now_ms": self.answer.1.get(),
            "answer": hex(padded), "tiles": tiles, "result": result,
        })
    }

    fn good(self, verdict: &str) -> Value {
        self.json("name", verdict)
    }

    fn bad(self, verdict: &str) -> Value {
        self.json("why", verdict)
    }
}

// The rules.

fn one_view() -> Value {
    let Logs { newer, other, .. } = logs();
    let memory = memory_of(&newer, 0);
    rule(
        "A log has one tree of each size.",
        vec![case("the same size and root", memory.clone(), answer(&newer, 1)).good("remembered")],
        vec![case("the same size, another root", memory, answer(&other, 1)).bad("split-view")],
    )
}

/// The witnesses have cosigned the larger tree; then they cosign the smaller one. The heads are a second apart.
fn witnesses_go_forward() -> Value {
    let Logs { older, newer, .. } = logs();
    let memory = memory_of(&newer, 0);
    let later = |s| answer(&older, 1 + s);
    let tiled = |name| case(name, memory.clone(), later(SKEW_S)).reading(&newer);
    rule(
        "A witness does not cosign a smaller tree later than a larger one, by more than clocks may differ.",
        vec![
            case("30 s later: the tiles must show the rest", memory.clone(), later(SKEW_S)).good("to-show"),
            tiled("30 s later, and the tiles show it").good("remembered"),
        ],
        vec![case("31 s later", memory.clone(), later(SKEW_S + 1)).bad("rollback")],
    )
}

fn trees_grow() -> Value {
    let Logs { older, newer, forked, grown, .. } = logs();
    let memory = memory_of(&newer, 0);
    let larger = |name, log: &World| case(name, memory.clone(), answer(log, 0));
    let ahead = memory_of(&forked, 0);
    let smaller = |name, memory: &String| case(name, memory.clone(), answer(&newer, 0));
    let _ = &older;
    rule(
        "Of two trees of a log the smaller is the beginning of the larger, as the tiles show.",
        vec![
            larger("a larger tree: nothing is shown yet", &grown).good("to-show"),
            larger("a larger tree, its tiles", &grown).reading(&grown).good("remembered"),
            smaller("a smaller tree, the tiles of the larger one", &memory_of(&grown, 0))
                .reading(&grown)
                .good("remembered"),
        ],
        vec![
            larger("a larger tree of another past, its tiles", &forked).reading(&forked).bad("not-consistent"),
            larger("a larger tree, the tiles of another one", &grown).reading(&forked).bad("not-consistent"),
            larger("a larger tree, the tiles of a smaller one: nothing is shown", &grown)
                .reading(&newer)
                .bad("tiles-missing"),
            smaller("a smaller tree that is not the beginning, the tiles of the larger one", &ahead)
                .reading(&forked)
                .bad("not-consistent"),
        ],
    )
}

// Entry 0.

/// An open entry that is not this log's, with another policy document.
fn another_open(log: &World) -> Vec<u8> {
    let Ok(Entry::Open(open)) = Entry::decode(&log.entries[0]) else { panic!("entry 0 opens the log") };
    Entry::Open(Open { policy: Hash::sha256(&[b"another policy document\n"]), ..open }).encode()
}

/// The answer of a log whose last head names another open entry than entry 0.
fn lying(log: &World) -> (World, Answer, UnixMillis) {
    let (mut log, open) = (log.clone(), another_open(log));
    let (_, head) = log.heads.last_mut().unwrap();
    head.open = Hash::sha256(&[&open]);
    let entry = Entry::Head(head.clone()).encode();
    *log.entries.last_mut().unwrap() = entry;
    let (said, now) = answer(&log, 0);
    let said = Answer { open: Opaque16::new(open).unwrap(), ..said };
    (log, said, now)
}

fn with_path(answer: Answer, log: &World) -> Answer {
    let full = Full {
        open_path: List24::new(log.path(0, log.size())).unwrap(),
        since: List24::empty(),
        tenure: Optional24(None),
        earlier: List24::empty(),
    };
    Answer { full: Optional24(Some(full)), ..answer }
}

fn entry_0() -> Value {
    let Logs { older, newer, .. } = logs();
    let pinned = |open: &[u8]| trust_text() + &pin_text(&origin(), &Hash::sha256(&[open]));
    let (liar, said, now) = lying(&newer);
    let honest = || answer(&newer, 0);
    let plain = |name, answer| Case { memory: None, ..case(name, String::new(), answer) };
    let pin = |name, open: &[u8]| Case { trust: pinned(open), ..plain(name, honest()) };
    let proved = (with_path(honest().0, &newer), honest().1);
    let said_with_path = (with_path(said.clone(), &liar), now);
    let memory = memory_of(&older, 0);
    rule(
        "The open entry is entry 0: the one that is pinned, the one remembered, and where its path is shown, that leaf.",
        vec![
            pin("it is the one that the trust file pins", &newer.entries[0]).good("remembered"),
            case("it is the one remembered", memory.clone(), honest()).good("to-show"),
            plain("its path is shown", proved).good("remembered"),
            plain("the head alone says so: nothing else is asked", honest()).good("remembered"),
        ],
        vec![
            pin("the trust file pins another one", &another_open(&newer)).bad("untrusted"),
            case("another one is remembered", memory, (said, now)).bad("not-proven"),
            plain("its path shows another one", said_with_path).bad("not-proven"),
        ],
    )
}

// Evidence.

fn evidence(name: &str, of: &Evidence) -> Value {
    json!({ "name": name, "evidence": evidence_text(of), "speaks_against": accused(of) })
}

/// Whom evidence speaks against.
fn accused(of: &Evidence) -> Value {
    match of.verify(&Trust::parse(&trust_text()).unwrap()) {
        Ok(Shown::Log) => json!("log"),
        Ok(Shown::Witnesses(names)) => json!(names),
        Ok(Shown::WithEntries) => json!("log, with its entries"),
        Err(Unshown::NoContradiction) => Value::Null,
        Err(other) => panic!("{other}"),
    }
}

fn evidences() -> Value {
    let Logs { older, newer, other, .. } = logs();
    let seen = |place: &str, note: String| waymark_mapping::evidence::Seen {
        place: place.to_owned(),
        note: note.into_bytes(),
    };
    let of = |kind, notes: [String; 2]| {
        let [one, two] = notes;
        Evidence { kind, origin: origin(), notes: vec![seen("one", one), seen("two", two)], earlier: None }
    };
    use waymark_mapping::evidence::Kind::{Rollback, SplitView};
    // The heads of the two logs are a second apart.
    let rollback = |s| of(Rollback, [note(&older, 1 + s), note(&newer, 0)]);
    json!([
        evidence("one size, two roots", &of(SplitView, [note(&newer, 0), note(&other, 0)])),
        evidence("one size, one root", &of(SplitView, [note(&newer, 0), note(&newer, 5)])),
        evidence("the smaller tree 31 s later", &rollback(SKEW_S + 1)),
        evidence("the smaller tree 30 s later", &rollback(SKEW_S)),
    ])
}

#[test]
fn memory() {
    let file = settle(
        "experimental-memory",
        "What is remembered of a log, answers to somebody who remembers, the tiles that were read then, and evidence.",
        &json!({
            "rules": [one_view(), witnesses_go_forward(), trees_grow(), entry_0()],
            "evidence": evidences(), "trust": trust_text(), "memory_refused": memories_refused(),
        }),
    );
    for rule in list(&file["rules"]) {
        for case in list(&rule["accepted"]).iter().chain(list(&rule["refused"])) {
            check_case(case);
        }
    }
    for case in list(&file["evidence"]) {
        let read = Evidence::parse(text(&case["evidence"]).as_bytes()).unwrap();
        assert_eq!(accused(&read), case["speaks_against"], "{}", case["name"]);
    }
    for case in list(&file["memory_refused"]) {
        assert_eq!(Remembered::parse(text(&case["text"]).as_bytes()), None, "{}", case["why"]);
    }
}

fn check_case(case: &Value) {
    let read = case["tiles"].as_array().map(|tiles| {
        let tile = |t: &Value| (Tile::parse(text(&t["path"])).unwrap(), bytes(&t["bytes"]));
        tiles.iter().map(tile).collect::<Vec<_>>()
    });
    let (answer, trust, memory) = (bytes(&case["answer"]), text(&case["trust"]), case["memory"].as_str());
    let result = verdict(&answer, trust, memory, millis(&case["now_ms"]), read.as_deref());
    assert_eq!(result, case["result"], "{case}");
    // What is kept is read as it was written, and evidence speaks against somebody.
    for text in [case["memory"].as_str(), result["memory"].as_str()].into_iter().flatten() {
        assert_eq!(Remembered::parse(text.as_bytes()).unwrap().format(), text.as_bytes());
    }
    if let Some(evidence) = result["evidence"].as_str() {
        assert_ne!(accused(&Evidence::parse(evidence.as_bytes()).unwrap()), Value::Null, "{case}");
    }
}

/// A memory has one spelling.
fn memories_refused() -> Value {
    let good = memory_of(&logs().newer, 0);
    let lines: Vec<&str> = good.lines().collect();
    let witness = lines.iter().position(|l| l.starts_with("witness ")).unwrap();
    let mut swapped = lines.clone();
    swapped.swap(witness, witness + 1);
    let mut twice = lines.clone();
    twice.insert(witness, lines[witness]);
    let join = |lines: &[&str]| lines.join("\n") + "\n";
    let replaced = |from: &str, to: &str| good.replacen(from, to, 1);
    let cases = [
        ("another version", replaced("waymark memory v1", "waymark memory v2")),
        ("another origin than in the notes", replaced("origin dp.example/log", "origin dp.example/lag")),
        ("a length with a zero in front", replaced("\nnote ", "\nnote 0")),
        ("a length that is too short", replaced("\nnote ", "\nnote 1\nnote ")),
        ("a line that is not known", replaced("\nnote ", "\nnotes 1\nnote ")),
        ("two witness keys that descend", join(&swapped)),
        ("one witness key twice", join(&twice)),
        ("a byte is left over", format!("{good}\n")),
        ("the last note is cut", good[..good.len() - 1].to_owned()),
        ("nothing", String::new()),
    ];
    let cases = cases.map(|(why, text)| {
        assert_eq!(Remembered::parse(text.as_bytes()), None, "{why}");
        json!({ "why": why, "text": text })
    });
    json!(cases)
}
