//! What becomes of challenges: over, sent too often, over budget, not delivered, too many at once.

use std::fs;

use serde::Deserialize;
use tokio::{net::TcpListener, task::JoinSet};
use waymark::{config::Codes, possession::outbox::DELIVERIES_MAX};
use waymark_log::key::SecretKey;

use super::{
    book::{Answer, Book, Call},
    scene::Scene,
};
use crate::common::key;

const BOB: &str = "tel:+4915112345601";

async fn start(scene: &Scene<'_>, secret: &SecretKey, who: &str) -> Answer {
    scene.by(secret, "startChallenge", format!("{{\"csi\":\"{who}\",\"purpose\":\"control\"}}")).await
}

fn id_of(answer: Answer) -> String {
    answer.well(201).json()["id"].as_str().unwrap().to_owned()
}

async fn at(scene: &Scene<'_>, secret: &SecretKey, what: &str, id: &str, body: &str) -> Answer {
    let call = Call::new(what, body);
    let path = call.operation.path.replace("{id}", id);
    scene.send(call.at(path).by(scene.origin(), secret)).await
}

/// The life of a challenge, where codes go into a folder.
pub async fn challenges(scene: &Scene<'_>) {
    let (ann, eve) = (key("ann"), key("eve"));
    for (what, body) in [("sendCode", "{}"), ("checkCode", "{}"), ("confirmLink", r#"{"secret":"x"}"#)] {
        for id in ["0".repeat(32), "zz".to_owned(), "%ff".to_owned()] {
            at(scene, &ann, what, &id, body).await.is(410, "challenge-over");
        }
    }
    let id = id_of(start(scene, &ann, BOB).await);
    for _ in 1..5 {
        at(scene, &ann, "sendCode", &id, "{}").await.well(200);
    }
    at(scene, &ann, "sendCode", &id, "{}").await.is(429, "challenge-sends");
    at(scene, &eve, "checkCode", &id, "{}").await.is(410, "challenge-over");
    let codes = scene.stage.root.path().join("dp/codes");
    let code = fs::read_to_string(codes.join(&id)).unwrap();
    let pending = at(scene, &ann, "checkCode", &id, r#"{"code":"no"}"#).await.well(200);
    assert_eq!(pending.json()["status"], "pending");
    let approved = at(scene, &ann, "checkCode", &id, &format!("{{\"code\":\"{code}\"}}")).await.well(200);
    assert_eq!(approved.json()["status"], "approved");

    // The folder is gone.
    let id = id_of(start(scene, &ann, BOB).await);
    let away = codes.with_extension("away");
    fs::rename(&codes, &away).unwrap();
    start(scene, &ann, BOB).await.is(503, "channel-failed");
    at(scene, &ann, "sendCode", &id, "{}").await.is(503, "channel-failed");
    fs::rename(&away, &codes).unwrap();
}

#[derive(Deserialize)]
struct File {
    codes: Codes,
}

/// A DP with a budget, and a relay that takes connections and says nothing.
pub async fn budgets(book: &Book) {
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let codes = format!(
        "[codes]\nsms = \"folder\"\nemail = \"smtp\"\n[codes.smtp]\nhost = \"127.0.0.1\"\nport = {}\nsecurity = \"none\"\nfrom = \
         \"codes@dp.example\"\n[codes.budget]\ncsi_hour = 1\ncsi_day = 1\naddress_hour = 100000\naddress_day = \
         100000\ntotal_hour = 100000\ntotal_day = 100000\nbill_hour = 100000\nbill_day = 100000\nbreaker_percent = 0\n",
        relay.local_addr().unwrap().port()
    );
    let scene = Scene::new(book, |settings| settings.codes = toml::from_str::<File>(&codes).unwrap().codes).await;
    let (ann, eve) = (key("ann"), key("eve"));
    let id = id_of(start(&scene, &ann, BOB).await);
    at(&scene, &ann, "sendCode", &id, "{}").await.is(429, "code-budget");
    start(&scene, &eve, BOB).await.is(429, "code-budget");

    // The link of a mail, whose secret nobody reads here: the tests of possession open one.
    let by_mail = id_of(start(&scene, &ann, "mailto:first@post.example").await);
    full_outbox(&scene).await;
    start(&scene, &ann, "mailto:last@post.example").await.is(503, "busy");
    at(&scene, &ann, "sendCode", &by_mail, "{}").await.is(503, "busy");
    scene.stage.stop().await;
}

/// Deliveries until there is no place for another.
async fn full_outbox(scene: &Scene<'_>) {
    let (origin, to, ann) = (scene.origin().clone(), scene.to(), key("ann"));
    let calls = (0..DELIVERIES_MAX).map(|i| {
        let body = format!("{{\"csi\":\"mailto:p{i}@post.example\",\"purpose\":\"control\"}}");
        Call::new("startChallenge", body).by(&origin, &ann)
    });
    let mut calls = calls.collect::<Vec<_>>();
    while !calls.is_empty() {
        let some = calls.split_off(calls.len().saturating_sub(64));
        let mut sending = JoinSet::new();
        for call in some {
            sending.spawn(async move { (call.operation, super::book::send(to, &call).await) });
        }
        while let Some(sent) = sending.join_next().await {
            let (operation, answer) = sent.unwrap();
            scene.book.judge(operation, answer);
        }
    }
}
