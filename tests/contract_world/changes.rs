//! What the rules of changes, revocations and provider entries refuse.

use waymark::{
    api::{ChangeRequest, OfferedConsent},
    client::recipient::Added,
    init,
};
use waymark_log::{hash::Hash, key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    entry::{Entry, Provider, ProviderAction, ProviderRole},
    event::{AuthorityRole, EventKind},
    names::{Account, Region},
    provider::ProviderDirectory,
    signed::SignedStruct,
    wire::{List24, encode},
};
use waymark_runtime::clock::Clock;

use super::{
    book::Call,
    scene::{Scene, attestation},
};
use crate::common::{LOUD, QUIET, csi, domain, key, until, with_consent};

/// Changes that are refused for what they are, and what follows from one that is taken.
pub async fn refused(scene: &Scene<'_>) {
    let (bob, eve, who) = (key("bob"), key("eve"), csi("tel:+4915112345642"));
    let (added, good) = scene.issue(&bob, &who, LOUD).await;
    let one = std::slice::from_ref(&added);
    scene.change(&eve, &good).await.is(403, "not-allowed");
    let mut forged = good.clone();
    forged.event.tbs.time = UnixMillis::new(1);
    scene.change(&bob, &forged).await.is(401, "signature-invalid");
    let withdrawn = scene.over(&who, EventKind::Withdraw, one, &[], &[(&bob, None)]).await;
    scene.change(&bob, &withdrawn).await.is(422, "change-invalid");
    // The format of the event, which comes first, is one that nobody knows yet.
    let mut later = encode(&good);
    later[0] = 9;
    scene.by(&bob, "change", later).await.is(422, "not-supported");
    mappings(scene, &bob, &added).await;

    let first = scene.change(&bob, &good).await.well(200);
    assert_eq!(first.header("idempotent-replayed"), None);
    names(scene, &bob, &good).await;
    let stale = ChangeRequest { consents: List24::empty(), ..withdrawn };
    scene.change(&bob, &stale).await.is(409, "version-stale");
    scene.by(&bob, "export", format!("{{\"csi\":\"{}\"}}", who.expose())).await.well(200);
    for version in [waymark_mapping::event::ANY_VERSION, 0] {
        let request = waymark::api::HistoryRequest { csi: who.clone(), version };
        scene.by(&bob, "history", encode(&request)).await.well(200);
    }
    statements(scene, &added).await;
    full(scene).await;
}

/// A change under a name: carried out once, and no other under the same name.
async fn names(scene: &Scene<'_>, bob: &SecretKey, good: &ChangeRequest) {
    let named = |body: Vec<u8>| Call::new("change", body).with("idempotency-key", "k").by(scene.origin(), bob);
    for replayed in [None, Some("true")] {
        let answer = scene.send(named(encode(good))).await.well(200);
        assert_eq!(answer.header("idempotent-replayed"), replayed);
    }
    let other = ChangeRequest { consents: List24::empty(), ..good.clone() };
    scene.send(named(encode(&other))).await.is(422, "idempotency-conflict");
}

/// Mappings and consents that are not good.
async fn mappings(scene: &Scene<'_>, bob: &SecretKey, added: &Added) {
    let who = added.mapping.csi.clone();
    let issue = async |added: Added| scene.over(&who, EventKind::Issue, &[added], &[], &[(bob, None)]).await;
    let mut altered = Added { consent: None, ..added.clone() };
    altered.mapping.account = Account::parse("mimi://evil.example/u/1").unwrap();
    scene.change(bob, &issue(altered).await).await.is(422, "mapping-invalid");
    let bare = issue(Added { consent: None, ..added.clone() }).await;
    scene.change(bob, &bare).await.is(422, "consent-required");
    let (consent, salt) = added.consent.clone().unwrap();
    let quiet = scene.mapping(bob, &who, QUIET, "default");
    let swapped = issue(Added { mapping: quiet, consent: Some((consent.clone(), salt)) }).await;
    scene.change(bob, &swapped).await.is(422, "consent-invalid");
    let stray = OfferedConsent { index: 7, consent, salt };
    let stray = ChangeRequest { consents: List24::new(vec![stray]).unwrap(), ..bare };
    scene.change(bob, &stray).await.is(422, "consent-required");
    let nowhere = scene.mapping(bob, &who, "nowhere.example", "default");
    scene.change(bob, &issue(Added { mapping: nowhere, consent: None }).await).await.is(422, "msp-unknown");
    let mut far = scene.mapping(bob, &who, QUIET, "default");
    far.region = Region::parse("MARS").unwrap();
    far.sign(scene.origin(), bob);
    scene.change(bob, &issue(Added { mapping: far, consent: None }).await).await.is(422, "region-refused");
    let unknown = (&domain("prover.example"), &key("prover"));
    let attested = attestation(scene.origin(), unknown, bob, &who, 0);
    let mapping = crate::common::mapping(scene.origin(), bob, &attested, QUIET, crate::common::shown("default"));
    scene.change(bob, &issue(with_consent(scene.origin(), mapping)).await).await.is(422, "prover-unknown");
}

/// What an MSP says: taken from its key, and from no other.
async fn statements(scene: &Scene<'_>, added: &Added) {
    let (who, digest) = (added.mapping.csi.clone(), added.mapping.digest());
    for (signer, status) in [("nobody", 403), (LOUD, 200)] {
        let secret = key(signer);
        let mut detach = scene.over(&who, EventKind::MspDetach, &[], &[digest], &[(&secret, None)]).await;
        detach.event.tbs.reason = 1;
        let signed = detach.event.tbs.sign_as(AuthorityRole::Msp, scene.origin(), &secret);
        detach.event.authorities = List24::new(vec![signed]).unwrap();
        let answer = scene.change(&secret, &detach).await;
        match status {
            200 => drop(answer.well(200)),
            _ => answer.is(403, "authority-unknown"),
        }
    }
}

/// A ninth mapping.
async fn full(scene: &Scene<'_>) {
    let (ann, who) = (key("ann"), csi("tel:+4915112345643"));
    let bare = |i: usize| Added { mapping: scene.mapping(&ann, &who, QUIET, &format!("tag{i}")), consent: None };
    let nine: Vec<Added> = (0..9).map(bare).collect();
    let change = scene.over(&who, EventKind::Issue, &nine, &[], &[(&ann, None)]).await;
    scene.change(&ann, &change).await.is(422, "record-full");
}

/// A number that somebody else claims.
pub async fn claims(scene: &Scene<'_>) {
    let (bob, carol, dave) = (key("bob"), key("carol"), key("dave"));
    let who = csi("tel:+4915112345644");
    scene.list(&bob, &who).await;
    let object = async || scene.over(&who, EventKind::Objection, &[], &[], &[(&bob, None)]).await;
    let claim = async |by: &SecretKey| {
        let possession = Some(scene.attestation(by, &who, 1));
        scene.over(&who, EventKind::NewHolderPending, &[], &[], &[(by, possession)]).await
    };
    scene.change(&bob, &object().await).await.is(409, "no-claim");
    scene.change(&carol, &claim(&carol).await).await.well(200);
    scene.change(&dave, &claim(&dave).await).await.is(409, "claimed");
    let attested = scene.attestation(&carol, &who, 1);
    let mapping = crate::common::mapping(scene.origin(), &carol, &attested, QUIET, crate::common::shown("default"));
    let taken = [Added { mapping, consent: None }];
    let taken = scene.over(&who, EventKind::NewHolder, &taken, &[], &[(&carol, None)]).await;
    scene.change(&carol, &taken).await.is(409, "hold-not-over");
    scene.change(&bob, &object().await).await.well(200);
    scene.change(&bob, &object().await).await.is(409, "objected");

    let who = csi("tel:+4915112345645");
    let listed = scene.list(&bob, &who).await;
    let gone = [listed.mapping.digest()];
    let withdraw = scene.over(&who, EventKind::Withdraw, &[], &gone, &[(&bob, None)]).await;
    scene.change(&bob, &withdraw).await.well(200);
    let possession = Some(scene.attestation(&carol, &who, 1));
    let claim = scene.over(&who, EventKind::NewHolderPending, &[], &[], &[(&carol, possession)]).await;
    scene.change(&carol, &claim).await.is(422, "nothing-to-claim");
}

/// Tokens that are no revocations, or not good ones; and one that is.
pub async fn revocations(scene: &Scene<'_>) {
    let (bob, who) = (key("bob"), csi("tel:+4915112345646"));
    let listed = scene.list(&bob, &who).await;
    let withdraw = scene.over(&who, EventKind::Withdraw, &[], &[listed.mapping.digest()], &[(&bob, None)]).await;
    scene.revoke(&withdraw.event).await.is(422, "change-invalid");
    let mut later = encode(&scene.token(&bob, &who));
    later[0] = 9;
    scene.plain("revoke", later).await.is(422, "not-supported");
    let mut forged = scene.token(&bob, &who);
    forged.tbs.time = UnixMillis::new(1);
    scene.revoke(&forged).await.is(401, "signature-invalid");
    let signed = |change: &dyn Fn(&mut waymark_mapping::event::EventTbs), possession| {
        let mut token = scene.token(&bob, &who);
        change(&mut token.tbs);
        token.authorities = List24::new(vec![token.tbs.sign_as_recipient(scene.origin(), &bob, possession)]).unwrap();
        token
    };
    scene.revoke(&signed(&|tbs| tbs.version = 1, None)).await.is(409, "version-stale");
    let unknown = attestation(scene.origin(), (&domain("prover.example"), &key("prover")), &bob, &who, 0);
    scene.revoke(&signed(&|_| {}, Some(unknown))).await.is(422, "prover-unknown");
    scene.revoke(&scene.token(&bob, &who)).await.well(204);
}

/// An entry about a key of quiet.example, over its keys as they are.
pub fn entry(scene: &Scene<'_>, action: ProviderAction, new: &SecretKey, by: Option<&SecretKey>) -> Provider {
    let origin = scene.origin();
    let first = init::provider_entry(&domain(QUIET), ProviderRole::MSP, false, 1, origin, &key(QUIET));
    let mut logged = ProviderDirectory::new();
    logged.apply(&first, origin, Clock::System.now()).unwrap();
    let mut entry = init::provider_entry(&domain(QUIET), ProviderRole::MSP, false, 1, origin, new);
    (entry.action, entry.previous_leaf) = (action, logged.previous_leaf(&domain(QUIET), ProviderRole::MSP));
    entry.sign_by_key(origin, new);
    if let Some(by) = by {
        entry.sign_by_valid(origin, by);
    }
    entry
}

/// Entries about providers' keys.
pub async fn providers(scene: &Scene<'_>) {
    let (quiet, next) = (key(QUIET), key("next"));
    let submit = async |entry: Provider| scene.plain("submitProvider", Entry::Provider(entry).encode()).await;
    let add = |new: &SecretKey, by: Option<&SecretKey>| entry(scene, ProviderAction::Add, new, by);
    submit(add(&next, None)).await.is(403, "operator-only");
    submit(add(&next, Some(&next))).await.is(403, "not-allowed");
    let origin = scene.origin();
    let mut stale = add(&next, Some(&quiet));
    stale.previous_leaf = Hash::ZERO;
    stale.sign_by_key(origin, &next);
    stale.sign_by_valid(origin, &quiet);
    submit(stale).await.is(409, "provider-stale");
    submit(add(&quiet, Some(&quiet))).await.is(422, "provider-invalid");
    let mut later = Entry::Provider(add(&next, Some(&quiet))).encode();
    later[0] = 9;
    scene.plain("submitProvider", later).await.is(422, "not-supported");
    submit(add(&next, Some(&quiet))).await.well(202);
    // So that whoever lists providers after this finds two keys, and not one.
    let second = async || {
        let page = scene.send(Call::new("listProviders", "").at(format!("/v1/providers?domain={QUIET}"))).await;
        page.json().as_array().is_some_and(|keys| keys.len() == 2)
    };
    until("the second key", second).await;
}
