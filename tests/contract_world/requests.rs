//! What is wrong with a request before anybody looks at what stands: its form, its signature, its key, its name.

use std::{fs, time::Duration};

use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};
use waymark::{
    api::{JSON_MEDIA_TYPE, RECIPIENT_HEADER, RequestSignature, join_import},
    config::{File, names},
    http::openapi::operations::{OPERATIONS, Signed},
};
use waymark_log::time::UnixMillis;
use waymark_runtime::{clock::Clock, problem, random};

use super::{
    book::{Answer, Book, Call, exchange},
    scene::{NOBODY, Scene, body_for},
};
use crate::common::{LOUD, QUIET, Stage, key, until};

/// An operation's call with this body, signed as it must be to be looked at.
fn signed(scene: &Scene<'_>, id: &str, body: Vec<u8>) -> Call {
    let call = Call::new(id, body);
    match call.operation.signed {
        Signed::ByRecipient => call.by(scene.origin(), &key("ann")),
        Signed::ByMsp => call.by_msp(scene.origin(), (QUIET, &key(QUIET))),
        Signed::Not | Signed::ByMspOrNot => call,
    }
}

/// Media type, size, form, and what arrives too slowly or in pieces that are none.
pub async fn forms(scene: &Scene<'_>) {
    let mut slow = JoinSet::new();
    for o in OPERATIONS {
        let long = Call::new(o.id, "").with("x-long", "x".repeat(64 << 10));
        let answer = exchange(long.from, scene.to(), &long.bytes()).await;
        assert_eq!((answer.status, answer.body.len()), (431, 0), "{}", o.id);
        let Some(takes) = o.takes else { continue };
        let other = Call { media_type: "text/html".to_owned(), ..Call::new(o.id, "x") };
        scene.send(other).await.is(415, "content-type");
        let large = signed(scene, o.id, vec![b' '; takes.bytes_max + 1]);
        scene.send(large).await.is(413, "body-too-large");
        // Not the list of an object's values either. Of a structure the first byte alone, which says its format or its first length.
        let others = if takes.form.0 == JSON_MEDIA_TYPE { ["x", "[]", "[\"x\"]"] } else { ["", "\u{1}", "\u{1}\u{1}"] };
        for other in others {
            scene.send(signed(scene, o.id, other.into())).await.is(400, "malformed");
        }
        let broken = signed(scene, o.id, vec![]);
        let bytes = [broken.head("transfer-encoding: chunked"), b"zz\r\nxx\r\n".to_vec()].concat();
        let answer = exchange(broken.from, scene.to(), &bytes).await;
        scene.book.judge(o, answer).is(400, "body-unreadable");
        let (call, to) = (signed(scene, o.id, vec![]), scene.to());
        let bytes = [call.head("content-length: 9"), b" ".to_vec()].concat();
        slow.spawn(async move { (o, exchange(call.from, to, &bytes).await) });
    }
    while let Some(answered) = slow.join_next().await {
        let (o, answer) = answered.unwrap();
        scene.book.judge(o, answer).is(408, "too-slow");
    }
}

/// Nobody's signature, somebody else's, an old one; and for providers a key that counts for nothing.
pub async fn signatures(scene: &Scene<'_>) {
    let (ann, origin) = (key("ann"), scene.origin());
    for o in OPERATIONS.iter().filter(|o| o.signed == Signed::ByRecipient) {
        let body = body_for(o.id, origin, &ann);
        scene.plain(o.id, body.clone()).await.is(401, "signature-missing");
        let forged = Call::new(o.id, body.clone()).with(RECIPIENT_HEADER, "key=x");
        scene.send(forged).await.is(401, "signature-invalid");
        let call = Call::new(o.id, body);
        let old = UnixMillis::new(Clock::System.now().get() - 301_000);
        let signature = RequestSignature::sign(origin, &ann, ("POST", &call.path), &call.body, old, random::bytes());
        scene.send(call.with(RECIPIENT_HEADER, signature.format())).await.is(401, "replayed");
    }
    for id in ["lookUp", "import"] {
        let body = body_for(id, origin, &ann);
        if id == "import" {
            scene.plain(id, body.clone()).await.is(401, "signature-missing");
        }
        scene.send(Call::new(id, body.clone()).with("signature", "x")).await.is(401, "signature-invalid");
        let once = Call::new(id, body.clone()).by_msp(origin, (QUIET, &key(QUIET)));
        scene.send(once.clone()).await.well(200);
        scene.send(once).await.is(401, "replayed");
        let unknown = Call::new(id, body).by_msp(origin, (LOUD, &key(QUIET)));
        scene.send(unknown).await.is(401, "provider-unknown");
    }
}

/// Identifiers and tags that are none; nothing there; and what is there for everybody.
pub async fn names(scene: &Scene<'_>) {
    let ann = key("ann");
    scene.plain("lookUp", format!("{{\"log\":\"x.example/log\",\"csi\":\"{NOBODY}\"}}")).await.is(422, "other-log");
    scene.plain("lookUp", r#"{"log":"dp.example/log","csi":"tel:4915112345600"}"#).await.is(422, "csi-invalid");
    scene
        .plain("lookUp", format!("{{\"log\":\"dp.example/log\",\"csi\":\"{NOBODY}\",\"tag\":\"\"}}"))
        .await
        .is(422, "tag-invalid");
    scene.by(&ann, "startChallenge", r#"{"csi":"ann","purpose":"view"}"#).await.is(422, "csi-invalid");
    let by_mail = format!("{{\"csi\":\"{NOBODY}\",\"purpose\":\"view\",\"channel\":\"email\"}}");
    scene.by(&ann, "startChallenge", by_mail).await.is(422, "channel-not-offered");
    scene.by(&ann, "export", r#"{"csi":"ann"}"#).await.is(422, "csi-invalid");
    for id in ["export", "history"] {
        scene.by(&ann, id, body_for(id, scene.origin(), &ann)).await.is(404, "no-record");
    }
    for media_type in ["application/vnd.waymark.answer", "application/json", "application/vnd.waymark.hint+json"] {
        let call = Call::new("lookUp", body_for("lookUp", scene.origin(), &ann)).with("accept", media_type);
        assert_eq!(scene.send(call).await.well(200).header("content-type"), Some(media_type));
    }
    for id in ["confirmPage", "confirmScript", "confirmStyle", "wellKnown", "policy", "openapi", "checkpoint"] {
        scene.plain(id, "").await.well(200);
    }
    policies(scene).await;
    scene.send(Call::new("problem", "").at("/v1/problems/version-stale")).await.well(200);
    for nothing in ["/v1/problems/no-such-code", "/v1/problems/%ff"] {
        scene.send(Call::new("problem", "").at(nothing)).await.is(404, "route-unknown");
    }
    for (path, status) in [("/log/tile/0/000.p/2", 200), ("/log/tile/0/999", 404), ("/log/tile/%ff/000", 404)] {
        scene.send(Call::new("tile", "").at(path)).await.well(status);
    }
}

/// The policy document, now and before.
async fn policies(scene: &Scene<'_>) {
    let tag = scene.plain("policy", "").await.well(200).header("etag").unwrap().to_owned();
    scene.send(Call::new("policy", "").with("if-none-match", &tag)).await.well(304);
    let path = format!("/v1/policy/{}", tag.trim_matches('"'));
    let by_digest = || Call::new("policyBefore", "").at(&path);
    scene.send(by_digest()).await.well(200);
    scene.send(by_digest().with("if-none-match", &tag)).await.well(304);
    for unknown in ["0".repeat(64), "zz".to_owned(), "%ff".to_owned()] {
        let call = Call::new("policyBefore", "").at(format!("/v1/policy/{unknown}"));
        scene.send(call).await.is(404, "policy-unknown");
    }
    let shelf = scene.stage.root.path().join("dp").join(names::POLICIES);
    let file = fs::read_dir(&shelf).unwrap().next().unwrap().unwrap().path();
    let away = shelf.join("away");
    fs::rename(&file, &away).unwrap();
    fs::create_dir(&file).unwrap();
    scene.send(by_digest()).await.is(500, "internal");
    fs::remove_dir(&file).unwrap();
    fs::rename(&away, &file).unwrap();
}

/// The pages of providers.
pub async fn pages(scene: &Scene<'_>) {
    let ask = async |query: &str| scene.send(Call::new("listProviders", "").at(format!("/v1/providers{query}"))).await;
    let domains = |answer: &Answer| -> Vec<String> {
        answer.json().as_array().unwrap().iter().map(|k| k["domain"].as_str().unwrap().to_owned()).collect()
    };
    let all = ask("").await.well(200);
    assert_eq!((domains(&all), all.header("link")), (vec!["dp.example".into(), LOUD.into(), QUIET.into()], None));
    let (mut query, mut seen) = ("?limit=1".to_owned(), vec![]);
    for _ in 0..3 {
        let page = ask(&query).await.well(200);
        seen.extend(domains(&page));
        let Some(link) = page.header("link") else { break };
        let next = link.strip_prefix("</v1/providers").and_then(|l| l.strip_suffix(">; rel=\"next\"")).unwrap();
        query = next.to_owned();
    }
    assert_eq!(seen, domains(&all));
    assert_eq!(domains(&ask(&format!("?domain={QUIET}")).await), [QUIET]);
    assert!(domains(&ask("?domain=nobody.example").await).is_empty());
    for bad in ["?limit=0", "?limit=1001", "?limit=x", "?after=X", "?after=a.b&after=a.b", "?other=1", "?limit="] {
        ask(bad).await.is(400, "malformed");
    }
}

/// Named requests: carried out once, and not another under the same name.
pub async fn retries(scene: &Scene<'_>) {
    let (ann, origin) = (key("ann"), scene.origin());
    let named = |call: Call| call.with("idempotency-key", "\"key-1\"");
    let replayed = |answer: &Answer| answer.header("idempotent-replayed") == Some("true");
    let start = || named(Call::new("startChallenge", body_for("startChallenge", origin, &ann))).by(origin, &ann);
    let first = scene.send(start()).await.well(201);
    let again = scene.send(start()).await.well(201);
    assert_eq!((replayed(&first), replayed(&again), first.json()), (false, true, again.json()));
    let codes = scene.stage.root.path().join("dp/codes");
    assert_eq!(fs::read_dir(&codes).unwrap().count(), 1, "a second code was sent");
    // Not signed by the same key, so another request.
    let other = named(Call::new("startChallenge", body_for("startChallenge", origin, &ann))).by(origin, &key("eve"));
    assert!(!replayed(&scene.send(other).await.well(201)));

    let view = Call::new("startChallenge", format!("{{\"csi\":\"{NOBODY}\",\"purpose\":\"view\"}}")).by(origin, &ann);
    scene.send(named(view)).await.is(422, "idempotency-conflict");
    scene.send(start().with("idempotency-key", "b")).await.is(400, "malformed");

    let import =
        |body: &[u8]| named(Call::new("import", join_import([body]).unwrap())).by_msp(origin, (QUIET, &key(QUIET)));
    assert!(!replayed(&scene.send(import(b"x")).await.well(200)));
    assert!(replayed(&scene.send(import(b"x")).await.well(200)));
    scene.send(import(b"y")).await.is(422, "idempotency-conflict");

    // Each has a nonce of its own, so these are two.
    let [token, other] = [(); 2].map(|()| named(Call::new("revoke", body_for("revoke", origin, &ann))));
    assert!(!replayed(&scene.send(token.clone()).await.well(204)));
    assert!(replayed(&scene.send(token).await.well(204)));
    scene.send(other).await.is(422, "idempotency-conflict");
}

/// Two imports whose bodies take their time: there is no place for a third.
pub async fn busy_imports(scene: &Scene<'_>) {
    until("both places to be taken", async || {
        // Anew each time: who asks whether there is a place may have taken one before these came to it.
        let mut open = vec![];
        for _ in 0..waymark::http::IMPORTS_MAX {
            let call = signed(scene, "import", join_import([&b"x"[..]]).unwrap());
            let mut stream = TcpStream::connect(scene.to()).await.unwrap();
            stream.write_all(&call.head("content-length: 100")).await.unwrap();
            open.push(stream);
        }
        // Nothing tells a client that its head was read; a try that comes too early is made again.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let call = signed(scene, "import", join_import([&b"x"[..]]).unwrap());
        let answer = scene.send(call).await;
        answer.status == 503 && answer.code() == "busy"
    })
    .await;
}

/// What the method and the framing of a request may be.
pub async fn methods(scene: &Scene<'_>) {
    let ask = async |line: &str| {
        let request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        exchange(std::net::Ipv4Addr::LOCALHOST, scene.to(), request.as_bytes()).await
    };
    for o in OPERATIONS {
        let path = o.path.replace("{id}", &"0".repeat(32)).replace("{code}", "busy").replace("{digest}", "0");
        let path = path.replace("{level}/{index}", "0/000");
        let allowed = ask(&format!("OPTIONS {path}")).await.well(204);
        let allowed = allowed.header("allow").unwrap_or_default().to_owned();
        assert!(allowed.split(',').any(|m| m == o.method), "{path}: {allowed}");
        for method in ["DELETE", "PUT", "PATCH", "TRACE", "BREW"] {
            let answer = ask(&format!("{method} {path}")).await;
            answer.is(405, "method-not-allowed");
            assert_eq!(answer.header("allow"), Some(&*allowed));
        }
        let head = ask(&format!("HEAD {path}")).await;
        assert!(head.body.is_empty() && (head.status == 405) != allowed.contains("HEAD"), "{path}: {}", head.status);
        assert_eq!(head.header("access-control-allow-origin").is_some(), o.path.starts_with("/log/"), "{path}");
    }
    ask("GET /v2/nothing").await.is(404, "route-unknown");
}

/// Of an address, whatever it asks for.
pub async fn limits(book: &Book) {
    let few = |file: &mut File| (file.lookups_per_minute, file.requests_per_minute) = (1, 1);
    let stage = Stage::with_file(1, &Clock::System, few).await;
    let scene = Scene::of(book, stage);
    let ann = key("ann");
    for id in OPERATIONS.iter().filter(|o| o.problems().contains(&problem::TOO_MANY)).map(|o| o.id) {
        let body = if id == "submitProvider" { vec![b'x'] } else { body_for(id, scene.origin(), &ann) };
        // A minute may turn over between two of them.
        until("one that is too many", async || {
            let answer = scene.plain(id, body.clone()).await;
            answer.status == 429 && answer.code() == "too-many-requests"
        })
        .await;
    }
    scene.stage.stop().await;
}
