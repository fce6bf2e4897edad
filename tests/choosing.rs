//! `waymark lookup` as a sender uses it: one mapping chosen and kept, filters, tests of facts, keys compared, hints; each exit code
//! from a cause of its own.

mod common;

use std::process::{Command, Stdio};

use common::{LOUD, QUIET, Stage, csi, key, request, shown, with_consent};
use serde_json::Value;
use waymark::{
    client::{key_text::Fingerprint, recipient::Added},
    config::names,
};
use waymark_log::key::SecretKey;
use waymark_mapping::{
    event::EventKind,
    mapping::{Mapping, Tags},
    names::Tag,
};

const BOB: &str = "+49 151 123 456 42";
const BOB_CSI: &str = "tel:+4915112345642";

struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    #[track_caller]
    fn with(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }
}

fn waymark(arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
    for name in ["WAYMARK_DP", "WAYMARK_TRUST", "WAYMARK_CHOICES"] {
        command.env_remove(name);
    }
    let ended = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: ended.status.code().unwrap(), out: text(ended.stdout), err: text(ended.stderr) }
}

/// A sender's machine: a DP to ask, a trust file, a folder of choices.
struct Sender<'a> {
    stage: &'a Stage,
    dp: String,
    trust: String,
    choices: String,
}

impl<'a> Sender<'a> {
    fn new(stage: &'a Stage) -> Self {
        let path = |name: &str| stage.root.path().join(name).display().to_string();
        let trust = stage.root.path().join("dp").join(names::TRUST).display().to_string();
        Self { stage, dp: stage.dp.url(), trust, choices: path("choices") }
    }

    fn look_up(&self, more: &[&str]) -> Ended {
        let words = ["lookup", BOB, "--dp", &self.dp, "--trust", &self.trust, "--choices", &self.choices];
        waymark(&[&words, more].concat())
    }

    fn choice(&self, more: &[&str]) -> Value {
        let said = self.look_up(&[&["--json", "--choose"], more].concat()).with(0);
        serde_json::from_str::<Value>(&said).unwrap()["choice"].take()
    }

    async fn change(&self, secret: &SecretKey, kind: EventKind, added: &[Added], removed: &[Mapping]) {
        let who = csi(BOB_CSI);
        let current = self.stage.look_up(&who, None).await;
        let removed: Vec<_> = removed.iter().map(Mapping::digest).collect();
        let change = request(&self.stage.origin, &current, &who, kind, added, &removed, &[(secret, None)]);
        self.stage.client().change(secret, &change).await.unwrap();
    }

    /// Registers at these MSPs, the last of them without its consent.
    async fn register(&self, secret: &SecretKey, at: &[(&str, Tags)]) -> Vec<Mapping> {
        let attestation = self.stage.attest(secret, &csi(BOB_CSI)).await;
        let sign =
            |(msp, tags): &(&str, Tags)| common::mapping(&self.stage.origin, secret, &attestation, msp, tags.clone());
        let mappings: Vec<Mapping> = at.iter().map(sign).collect();
        let mut added: Vec<Added> = mappings.iter().map(|m| with_consent(&self.stage.origin, m.clone())).collect();
        added.last_mut().unwrap().consent = None;
        self.change(secret, EventKind::Issue, &added, &[]).await;
        mappings
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_mapping_is_chosen_and_kept_until_the_sender_asks_or_it_is_gone() {
    let stage = Stage::new().await;
    let sender = Sender::new(&stage);
    let bob = key("bob");
    sender.look_up(&["--choose"]).with(4);
    let mappings = sender.register(&bob, &[(LOUD, shown("default")), (QUIET, shown("default"))]).await;

    let first = sender.choice(&[]);
    assert_eq!((first["memory"].as_str(), first["equals"].as_u64()), (Some("first"), Some(2)), "{first}");
    for _ in 0..3 {
        let kept = sender.choice(&[]);
        assert_eq!((&kept["msp"], kept["memory"].as_str()), (&first["msp"], Some("kept")));
    }
    let said = sender.look_up(&["--choose"]).with(0);
    let used = format!("use {}", first["msp"].as_str().unwrap());
    assert!(said.contains(&used) && said.contains("chosen before, and kept"), "{said}");
    let other = sender.choice(&["--again"]);
    assert!(other["memory"] == "again" && other["msp"] != first["msp"], "{other}");
    assert_eq!(sender.choice(&[])["msp"], other["msp"]);
    // Forgotten, it is chosen afresh, by the same secret as before.
    let forget = ["lookup", BOB, "--trust", &sender.trust, "--choices", &sender.choices, "--forget"];
    assert!(waymark(&forget).with(0).contains("+49 151 \u{2022}\u{2022}\u{2022}\u{2022}5642: forgotten"));
    waymark(&forget).with(4);
    let afresh = sender.choice(&[]);
    assert_eq!((&afresh["msp"], afresh["memory"].as_str()), (&first["msp"], Some("first")));
    // What was chosen goes.
    let gone = mappings.iter().find(|m| first["digest"] == m.digest().to_hex()).unwrap();
    sender.change(&bob, EventKind::Withdraw, &[], std::slice::from_ref(gone)).await;
    let moved = sender.choice(&[]);
    assert!(moved["memory"] == "moved" && moved["msp"] == other["msp"], "{moved}");
    assert!(sender.look_up(&["--choose", "--again"]).with(0).contains("chosen before, and kept"), "there is no other");
    // What is kept says nothing of anybody.
    for file in ["choices.json", "sender.key"] {
        let text = std::fs::read_to_string(stage.root.path().join("choices").join(file)).unwrap();
        assert!(!["15112345642", LOUD, QUIET, "dp.example"].iter().any(|n| text.contains(n)), "{text}");
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_tests_of_facts_say_what_is_missing() {
    let stage = Stage::new().await;
    let sender = Sender::new(&stage);
    let hidden = Tags::Exact(Tag::parse("soccer-7f3a").unwrap());
    sender.register(&key("bob"), &[(LOUD, shown("default")), (LOUD, hidden), (QUIET, shown("business"))]).await;

    assert_eq!(sender.choice(&["--tag", "business"])["why"], "tag");
    assert_eq!(sender.choice(&["--tag", "soccer-7f3a"])["why"], "exact-tag");
    assert_eq!(sender.choice(&["--msp", QUIET])["why"], "msp");
    sender.look_up(&["--choose", "--tag", "family"]).with(4);
    sender.look_up(&["--msp", "elsewhere.example"]).with(4);
    sender.look_up(&["--not-msp", QUIET, "--not-msp", LOUD]).with(4);
    assert_eq!(sender.choice(&["--not-msp", LOUD])["msp"], QUIET);

    // The provider of one has signed for it, that of the other has not.
    let said = sender.look_up(&["--require", "L3"]).with(0);
    assert!(said.contains("not used: quiet.example fails service-confirmed"), "{said}");
    let facts = sender.look_up(&["--require", "L3", "--json"]).with(0);
    let facts: Value = serde_json::from_str(&facts).unwrap();
    assert_eq!(facts["unmet"][0]["missing"], serde_json::json!(["service-confirmed"]));
    assert_eq!(sender.choice(&["--require", "L3"])["msp"], LOUD);
    let unmet = sender.look_up(&["--require", "L3", "--msp", QUIET, "--choose"]);
    assert!(unmet.err.contains("nothing that is listed meets what is required"), "{}", unmet.err);
    assert!(!unmet.with(5).to_lowercase().contains("verified"));
    sender.look_up(&["--require", "L4"]).with(5);
    sender.look_up(&["--require", "strength=1", "--require", "age-days=1", "--require", "not-new"]).with(0);
    sender.look_up(&["--require", "L5"]).with(2);
    sender.look_up(&["--msp", "no domain"]).with(2);

    // The trust file asks for the same, always, and an answer that was saved is held to it too.
    let (strict, answer) = (stage.root.path().join("strict.toml"), stage.root.path().join("answer"));
    let (strict, answer) = (strict.display().to_string(), answer.display().to_string());
    let text = std::fs::read_to_string(&sender.trust).unwrap();
    std::fs::write(&strict, format!("require = [\"L2\", \"independent-of-dp\"]\n{text}")).unwrap();
    waymark(&["lookup", BOB, "--dp", &sender.dp, "--trust", &strict, "--out", &answer]).with(5);
    waymark(&["verify", &answer, "--trust", &strict]).with(5);
    waymark(&["verify", &answer, "--trust", &sender.trust]).with(0);
    assert!(waymark(&["trust", "show", &strict]).with(0).contains("independent-of-dp"));
    std::fs::write(&strict, format!("require = [\"trusted\"]\n{text}")).unwrap();
    waymark(&["trust", "show", &strict]).with(1);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_compared_and_a_hint_is_only_a_hint() {
    let stage = Stage::new().await;
    let sender = Sender::new(&stage);
    sender.register(&key("bob"), &[(LOUD, shown("default")), (QUIET, shown("business"))]).await;
    let size = stage.dp.published_size();
    let text = |secret: &SecretKey, size: u64| {
        let fingerprint = Fingerprint::of(&stage.origin, &csi(BOB_CSI), &secret.public());
        format!("waymark-key/1 dp.example/log {size} {fingerprint}")
    };
    let said = sender.look_up(&["--compare", &text(&key("bob"), size)]).with(0);
    assert!(said.contains("MATCH: by the key that the recipient's app shows: loud.example, quiet.example"), "{said}");
    let mismatch = sender.look_up(&["--compare", &text(&key("mallory"), size)]);
    assert!(mismatch.err.contains("do not use any of them"), "{}", mismatch.err);
    assert!(mismatch.with(3).is_empty(), "nothing is shown of what does not match");
    sender.look_up(&["--compare", &text(&key("bob"), u64::MAX)]).with(5);
    sender.look_up(&["--compare", "waymark-key/1"]).with(2);

    let said = sender.look_up(&["--hint"]).with(0);
    assert!(said.starts_with("HINT") && said.contains("loud.example, quiet.example"), "{said}");
    assert!(!said.contains("15112345642"));
    let said: Value = serde_json::from_str(&sender.look_up(&["--hint", "--json"]).with(0)).unwrap();
    assert_eq!((&said["hint"], &said["outcome"]), (&true.into(), &"listed".into()));
    for with in [&["--choose"][..], &["--require", "L3"], &["--compare", "x"], &["--out", "x"], &["--explain"]] {
        sender.look_up(&[&["--hint"], with].concat()).with(2);
    }
    waymark(&["lookup", "+49 151 123 456 43", "--dp", &sender.dp, "--trust", &sender.trust, "--hint"]).with(4);
    stage.stop().await;
}
