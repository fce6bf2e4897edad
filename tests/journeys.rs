//! The seven journeys of recipients in MIMI's discovery requirements, against a running DP; and what its answers may not give
//! away, deny, or be taken for.

mod common;

use std::collections::BTreeSet;

use common::{LOUD, QUIET, Stage, csi, domain, key, request, shown, until, with_consent};
use waymark::{
    api::{AnswerJson, HINT_BYTES, HINT_MEDIA_TYPE, JSON_MEDIA_TYPE},
    client::{
        choose::{Choice, Filter, Memory, NoChoice, SenderSecret, Why, choose},
        key_text::{Compared, Fingerprint, KeyText, compare},
        recipient::look_up,
        sticky::Choices,
    },
    init, onboarding,
};
use waymark_log::key::SecretKey;
use waymark_mapping::{
    answer::{Answer, Body, Providers, TagProof},
    entry::ProviderRole,
    event::EventKind,
    identifier::Csi,
    mapping::{Mapping, Tags},
    names::Tag,
    verify::{Lookup, Rejected, Trail, Verified, verify},
    wire::{List24, Optional24, encode},
};
use waymark_runtime::clock::Clock;

const BOB: &str = "tel:+4915112345642";
const CAROL: &str = "tel:+4915112345643";

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn exact(text: &str) -> Tags {
    Tags::Exact(tag(text))
}

fn untagged() -> Tags {
    Tags::shown(vec![]).unwrap()
}

/// A sender who has never chosen anything.
fn sender(number: u8) -> SenderSecret {
    SenderSecret::new(&[number; 32])
}

impl Stage {
    /// Takes in MSPs that keep their consents to themselves: m0.example, m1.example and so on.
    async fn more_msps(&self, count: usize) -> Vec<String> {
        let names: Vec<String> = (0..count).map(|i| format!("m{i}.example")).collect();
        for name in &names {
            let entry = init::provider_entry(&domain(name), ProviderRole::MSP, false, 1, &self.origin, &key(name));
            onboarding::submit(&self.root.path().join("dp"), &entry).unwrap();
        }
        until("more providers", async || names.iter().all(|n| self.dp.knows_provider(&domain(n)))).await;
        names
    }

    /// Registers somebody at MSPs, each with these tags; returns the mappings.
    async fn register(&self, secret: &SecretKey, who: &Csi, at: &[(&str, Tags)]) -> Vec<Mapping> {
        let attestation = self.attest(secret, who).await;
        let mapping =
            |(msp, tags): &(&str, Tags)| common::mapping(&self.origin, secret, &attestation, msp, tags.clone());
        let mappings: Vec<Mapping> = at.iter().map(mapping).collect();
        let added: Vec<_> = mappings.iter().map(|m| with_consent(&self.origin, m.clone())).collect();
        let current = common::look_up(&self.client(), &self.trust, who, None).await;
        let change = request(&self.origin, &current, who, EventKind::Issue, &added, &[], &[(secret, None)]);
        self.client().change(secret, &change).await.unwrap();
        mappings
    }

    async fn withdraw(&self, secret: &SecretKey, who: &Csi, mapping: &Mapping) {
        let current = common::look_up(&self.client(), &self.trust, who, None).await;
        let removed = [mapping.digest()];
        let change = request(&self.origin, &current, who, EventKind::Withdraw, &[], &removed, &[(secret, None)]);
        self.client().change(secret, &change).await.unwrap();
    }

    async fn verified(&self, who: &Csi, presented: Option<&str>) -> (Verified<Lookup>, Vec<u8>) {
        let asked = common::asked(who, presented.map(tag));
        look_up(&self.client(), &asked, &self.trust, None, &mut Trail::default()).await.unwrap()
    }

    async fn ask(&self, who: &str, accept: &str) -> (String, Vec<u8>) {
        let body = serde_json::json!({"log": "dp.example/log", "csi": who}).to_string().into_bytes();
        let url = format!("{}/v1/lookups", self.dp.url());
        let headers = [("accept", accept.to_owned())];
        let answer = self.fetcher.post(&url, JSON_MEDIA_TYPE, &headers, body, 1 << 20).await.unwrap();
        assert_eq!(answer.status, 200);
        (answer.media_type, answer.body)
    }
}

fn pick<'a>(lookup: &'a Verified<Lookup>, filter: &Filter, sender: &SenderSecret) -> Result<Choice<'a>, NoChoice> {
    choose(lookup, filter, sender, None, false, Clock::System.now())
}

/// The MSPs and reasons that a hundred senders who never chose before come to.
fn all_choose(lookup: &Verified<Lookup>, filter: &Filter) -> Result<(Why, BTreeSet<String>), NoChoice> {
    let mut msps = BTreeSet::new();
    let mut why = Why::Any;
    for number in 0..100 {
        let choice = pick(lookup, filter, &sender(number))?;
        msps.insert(choice.mapping.msp.as_ref().unwrap().to_string());
        why = choice.why;
    }
    Ok((why, msps))
}

fn is(why: Why, msps: &[&str]) -> Result<(Why, BTreeSet<String>), NoChoice> {
    Ok((why, msps.iter().map(|m| (*m).to_owned()).collect()))
}

fn only(msp: &str) -> Filter {
    Filter { only: vec![domain(msp)], ..Filter::default() }
}

fn tagged(text: &str) -> Filter {
    Filter { tag: Some(tag(text)), ..Filter::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn cuj1_found_on_one_named_msp_only() {
    let stage = Stage::new().await;
    let (bob, who) = (key("bob"), csi(BOB));
    stage.register(&bob, &who, &[(LOUD, untagged())]).await;
    let (found, _) = stage.verified(&who, None).await;
    assert_eq!(found.get().mappings.len(), 1);
    assert_eq!(all_choose(&found, &Filter::default()), is(Why::Any, &[LOUD]));
    assert_eq!(all_choose(&found, &only(QUIET)), Err(NoChoice::Nothing));
    assert_eq!(all_choose(&found, &Filter { not: vec![domain(LOUD)], ..Filter::default() }), Err(NoChoice::Nothing));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cuj2_only_within_the_app_that_the_sender_uses() {
    let stage = Stage::new().await;
    let (bob, who) = (key("bob"), csi(BOB));
    stage.register(&bob, &who, &[(LOUD, shown("default")), (QUIET, untagged())]).await;
    let (found, _) = stage.verified(&who, None).await;
    // Not the recipient's default, but where the sender is.
    assert_eq!(all_choose(&found, &only(QUIET)), is(Why::Msp, &[QUIET]));
    assert_eq!(all_choose(&found, &only("elsewhere.example")), Err(NoChoice::Nothing));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cuj3_no_random_choice_among_ten_mappings() {
    let stage = Stage::new().await;
    let msps = stage.more_msps(10).await;
    let (bob, who) = (key("bob"), csi(BOB));
    let tags = |i: usize| match i {
        5 => shown("default"),
        8 | 9 => exact("pigeon-2f9c"),
        _ => untagged(),
    };
    let at: Vec<(&str, Tags)> = msps.iter().enumerate().map(|(i, m)| (m.as_str(), tags(i))).collect();
    stage.register(&bob, &who, &at).await;
    let (found, _) = stage.verified(&who, Some("pigeon-2f9c")).await;
    assert_eq!(found.get().mappings.len(), 10);
    assert_eq!(all_choose(&found, &Filter::default()), is(Why::Default, &["m5.example"]));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cuj4_no_broadcast_to_all_apps() {
    let stage = Stage::new().await;
    let msps = stage.more_msps(2).await;
    let (bob, who) = (key("bob"), csi(BOB));
    let both = stage.register(&bob, &who, &[(QUIET, shown("default")), (LOUD, shown("default"))]).await;
    let (found, _) = stage.verified(&who, None).await;
    let (folder, filter) = (stage.root.path().join("choices"), Filter::default());
    let asked = common::asked(&who, None);
    // A thousand messages, each by a program that has just started: one MSP.
    let send = |found: &Verified<Lookup>| {
        let mut choices = Choices::open(&folder).unwrap();
        let question = choices.secret().question(&asked);
        let before = choices.get(&question).copied();
        let choice = choose(found, &filter, choices.secret(), before.as_ref(), false, Clock::System.now()).unwrap();
        choices.keep(question, choice.keep).unwrap();
        (choice.mapping.msp.as_ref().unwrap().to_string(), choice.memory)
    };
    let (first, memory) = send(&found);
    assert_eq!(memory, Memory::First);
    for _ in 0..999 {
        assert_eq!(send(&found), (first.clone(), Memory::Kept));
    }
    // Ways that are added later draw nobody over.
    let at: Vec<(&str, Tags)> = msps.iter().map(|m| (m.as_str(), shown("default"))).collect();
    stage.register(&bob, &who, &at).await;
    assert_eq!(send(&stage.verified(&who, None).await.0), (first.clone(), Memory::Kept));
    // The one that is used is removed.
    let used = both.iter().find(|m| m.msp.get().is_some_and(|d| d.as_str() == first)).unwrap();
    stage.withdraw(&bob, &who, used).await;
    let (second, memory) = send(&stage.verified(&who, None).await.0);
    assert!(second != first && memory == Memory::Moved);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cuj5_control_for_each_sender() {
    let stage = Stage::new().await;
    let (bob, who) = (key("bob"), csi(BOB));
    let at = [(LOUD, shown("default")), (QUIET, exact("for-alice-b81f"))];
    let mappings = stage.register(&bob, &who, &at).await;
    let alice = |found: &Verified<Lookup>| all_choose(found, &tagged("for-alice-b81f"));
    assert_eq!(alice(&stage.verified(&who, Some("for-alice-b81f")).await.0), is(Why::ExactTag, &[QUIET]));
    let (found, _) = stage.verified(&who, None).await;
    assert_eq!(all_choose(&found, &Filter::default()), is(Why::Default, &[LOUD]));
    // Bob takes it back from Alice, and nobody else notices.
    stage.withdraw(&bob, &who, &mappings[1]).await;
    assert_eq!(alice(&stage.verified(&who, Some("for-alice-b81f")).await.0), Err(NoChoice::Nothing));
    let (found, _) = stage.verified(&who, None).await;
    assert_eq!(all_choose(&found, &Filter::default()), is(Why::Default, &[LOUD]));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cuj6_a_closed_group_gets_one_result_others_another() {
    let stage = Stage::new().await;
    let msps = stage.more_msps(1).await;
    let (bob, who) = (key("bob"), csi(BOB));
    let at = [(LOUD, shown("default")), (QUIET, exact("soccer-parents-7f3a")), (&msps[0], exact("book-club-19c2"))];
    stage.register(&bob, &who, &at).await;
    for (group, msp) in [("soccer-parents-7f3a", QUIET), ("book-club-19c2", "m0.example")] {
        let (found, _) = stage.verified(&who, Some(group)).await;
        assert_eq!(found.get().mappings.len(), 2, "no group sees another group's");
        assert_eq!(all_choose(&found, &tagged(group)), is(Why::ExactTag, &[msp]));
    }
    let (found, _) = stage.verified(&who, None).await;
    assert_eq!(all_choose(&found, &Filter::default()), is(Why::Default, &[LOUD]));
    let (found, _) = stage.verified(&who, Some("soccer-parents")).await;
    assert_eq!(
        (found.get().mappings.len(), all_choose(&found, &tagged("soccer-parents"))),
        (1, Err(NoChoice::Nothing))
    );
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cuj7_an_open_ended_group_gets_a_designated_mapping() {
    let stage = Stage::new().await;
    let msps = stage.more_msps(1).await;
    let (bob, who) = (key("bob"), csi(BOB));
    // What stands on Bob's web page, and what stands on his business card, to be passed on.
    let at = [(LOUD, shown("default")), (QUIET, shown("business")), (&msps[0], exact("leads-2026-5d01"))];
    stage.register(&bob, &who, &at).await;
    let (found, _) = stage.verified(&who, None).await;
    assert_eq!(all_choose(&found, &tagged("business")), is(Why::Tag, &[QUIET]));
    assert_eq!(all_choose(&found, &Filter::default()), is(Why::Default, &[LOUD]));
    let (found, _) = stage.verified(&who, Some("leads-2026-5d01")).await;
    assert_eq!(all_choose(&found, &tagged("leads-2026-5d01")), is(Why::ExactTag, &["m0.example"]));
    stage.stop().await;
}

/// An answer, altered and padded again.
fn tampered(bytes: &[u8], alter: impl FnOnce(&mut Answer, &mut Body)) -> Vec<u8> {
    let mut answer = Answer::from_padded(bytes).unwrap();
    let mut body = answer.body.0.take().unwrap();
    alter(&mut answer, &mut body);
    answer.body = Optional24(Some(body));
    answer.to_padded(bytes.len()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dp_that_denies_a_hidden_mapping_to_who_presents_its_tag_is_refused() {
    let stage = Stage::new().await;
    let (bob, who) = (key("bob"), csi(BOB));
    stage.register(&bob, &who, &[(LOUD, shown("default")), (LOUD, exact("soccer-7f3a"))]).await;
    let (_, bytes) = stage.verified(&who, Some("soccer-7f3a")).await;
    let asked = common::asked(&who, Some(tag("soccer-7f3a")));
    let refused = |bytes: &[u8], what: &str| {
        let verdict = verify(bytes, &asked, &stage.trust, None, Clock::System.now(), &mut Trail::default());
        assert_eq!(verdict.unwrap_err(), Rejected::NotProven(what.to_owned()));
    };
    assert!(verify(&bytes, &asked, &stage.trust, None, Clock::System.now(), &mut Trail::default()).is_ok());
    // It says, with a good proof, that already the first handle leads nowhere.
    let denied = tampered(&bytes, |_, body| {
        let handle = body.hidden[0].handle.0.unwrap();
        body.hidden = List24::empty();
        body.tag_proofs = List24::new(vec![TagProof { ordinal: 0, ..handle }]).unwrap();
    });
    refused(&denied, "a slot that bears a handle of the tag is not shown, or is empty");
    // It says nothing of the tag at all.
    let silent = tampered(&bytes, |_, body| {
        body.hidden = List24::empty();
        body.tag_proofs = List24::empty();
    });
    refused(&silent, "the handles of a tag are not proved to their end");
    // It passes the general answer off as the answer to the tag.
    let (_, general) = stage.verified(&who, None).await;
    refused(&general, "the handles of a tag are not proved to their end");
    // It keeps the end that it proved and leaves the mapping out.
    let skipped = tampered(&bytes, |_, body| body.hidden = List24::empty());
    refused(&skipped, "the handles of a tag are not proved to their end");
    // It says that there is no record.
    let mut absent = Answer::from_padded(&bytes).unwrap();
    (absent.body, absent.providers, absent.version) = (Optional24(None), Providers::none(), 0);
    let absent = absent.to_padded(bytes.len()).unwrap();
    assert!(verify(&absent, &asked, &stage.trust, None, Clock::System.now(), &mut Trail::default()).is_err());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exact_match_tags_are_neither_visible_nor_countable() {
    let stage = Stage::new().await;
    let (bob, carol) = (csi(BOB), csi(CAROL));
    stage.register(&key("bob"), &bob, &[(LOUD, shown("default"))]).await;
    let mut at = vec![(LOUD, shown("default"))];
    at.extend((0..7).map(|i| (QUIET, exact(&format!("secret-{i}")))));
    stage.register(&key("carol"), &carol, &at).await;

    let shapes = async |presented: Option<&str>| {
        let mut shapes = vec![];
        for who in [&bob, &carol] {
            let (found, bytes) = stage.verified(who, presented).await;
            assert_eq!(found.get().mappings.len(), 1);
            let body = Answer::from_padded(&bytes).unwrap().body.0.unwrap();
            let slots = &body.contents.hidden.0;
            let handles: BTreeSet<_> = slots.iter().map(|s| s.handle).collect();
            let digests: BTreeSet<_> = slots.iter().map(|s| *s.digest.as_bytes()).collect();
            assert_eq!((slots.len(), handles.len(), digests.len()), (8, 8, 8), "eight slots, no two alike");
            assert!(body.hidden.is_empty());
            for needle in [&b"secret"[..], QUIET.as_bytes()] {
                assert!(!bytes.windows(needle.len()).any(|w| w == needle), "nothing of what is hidden is there");
            }
            shapes.push((bytes.len(), encode(&body).len(), encode(&body.record).len()));
        }
        shapes
    };
    // With none hidden and with seven: the same answer, byte for byte in size, and for a wrong tag too.
    for presented in [None, Some("secret")] {
        let shapes = shapes(presented).await;
        assert_eq!(shapes[0], shapes[1], "{presented:?}");
    }
    // Whether a tag was right does not show in the size.
    let (found, right) = stage.verified(&carol, Some("secret-3")).await;
    assert_eq!(found.get().mappings.len(), 2);
    let (_, wrong) = stage.verified(&carol, Some("secret")).await;
    assert_eq!(right.len(), wrong.len());
    // Nor do hints count what is hidden.
    let hints = [stage.ask(BOB, HINT_MEDIA_TYPE).await, stage.ask(CAROL, HINT_MEDIA_TYPE).await];
    assert_eq!(hints[0], hints[1]);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_is_never_taken_for_an_answer() {
    let stage = Stage::new().await;
    let (bob, who) = (key("bob"), csi(BOB));
    let nobody = stage.client().hint(&who, None).await.unwrap();
    assert_eq!((nobody.outcome.as_str(), nobody.msps.len()), ("absent", 0));
    stage.register(&bob, &who, &[(LOUD, shown("default")), (QUIET, exact("soccer-7f3a"))]).await;
    let hint = stage.client().hint(&who, None).await.unwrap();
    assert_eq!((hint.outcome.as_str(), hint.msps, hint.more), ("listed", vec![LOUD.to_owned()], false));
    assert_eq!(hint.must_verify, "application/vnd.waymark.answer");
    let hint = stage.client().hint(&who, Some(&tag("soccer-7f3a"))).await.unwrap();
    assert_eq!(hint.msps, [LOUD, QUIET]);

    // The choice takes only what `verify` has proved, by its type; and `verify` takes no hint, in whatever wrapping.
    let (media_type, bytes) = stage.ask(BOB, HINT_MEDIA_TYPE).await;
    assert_eq!((media_type.as_str(), bytes.len()), (HINT_MEDIA_TYPE, HINT_BYTES));
    let asked = common::asked(&who, None);
    let verdict = |bytes: &[u8]| verify(bytes, &asked, &stage.trust, None, Clock::System.now(), &mut Trail::default());
    let mut wrapped = bytes.clone();
    wrapped.resize(8 << 10, 0);
    // As it comes it has no size that answers have; in one that they have, its first byte is no format version that is known.
    assert!(matches!(verdict(&bytes), Err(Rejected::Malformed(_))));
    assert!(matches!(verdict(&wrapped), Err(Rejected::NotSupported(_))));

    // The answer in JSON is the answer.
    let (media_type, bytes) = stage.ask(BOB, "application/json").await;
    assert_eq!(media_type, "application/json");
    let json: AnswerJson = serde_json::from_slice(&bytes).unwrap();
    let answer = data_encoding::BASE64.decode(json.answer.as_bytes()).unwrap();
    assert_eq!(all_choose(&verdict(&answer).unwrap(), &Filter::default()), is(Why::Default, &[LOUD]));
    assert_eq!(stage.ask(BOB, "*/*").await.0, "application/vnd.waymark.answer");
    stage.stop().await;
}

/// F19: what a DP that is its own prover can do, a comparison without it brings to light.
#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_recipient_key_is_seen_when_compared() {
    let stage = Stage::new().await;
    let (bob, mallory, who) = (key("bob"), key("mallory"), csi(BOB));
    let mappings = stage.register(&bob, &who, &[(QUIET, shown("default"))]).await;
    let judge = |text: &KeyText, found: &Verified<Lookup>| {
        let keys = found.get().mappings.iter().map(|m| &m.recipient);
        compare(text, &stage.origin, found.get().log.size, &who, keys)
    };
    let (found, _) = stage.verified(&who, None).await;
    let fingerprint = Fingerprint::of(&stage.origin, &who, &bob.public());
    let text = KeyText { origin: stage.origin.clone(), size: found.get().log.size, fingerprint };
    let text = KeyText::parse(&text.to_string()).unwrap();
    assert_eq!(judge(&text, &found), Compared::Match(bob.public()));

    stage.withdraw(&bob, &who, &mappings[0]).await;
    stage.register(&mallory, &who, &[(QUIET, shown("default"))]).await;
    let (found, _) = stage.verified(&who, None).await;
    assert_eq!(all_choose(&found, &Filter::default()), is(Why::Default, &[QUIET]), "all else looks right");
    assert_eq!(judge(&text, &found), Compared::Mismatch);
    stage.stop().await;
}
