//! The registers of reissued numbers, asked over HTTP: what they know, what they do not know, and what is no answer.

#[path = "common/registers.rs"]
mod registers;

use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use registers::{Mood, Registers as StandIn};
use waymark::recycling::{CACHE_MS, FEED_S_MAX, FeedError, FeedFile, Recycled, Registers};
use waymark_log::time::UnixMillis;
use waymark_mapping::identifier::Csi;
use waymark_runtime::fetch::ExtraRoots;

/// 2026-01-31, 13:00 UTC, and a hundred days later.
const SINCE: UnixMillis = UnixMillis::new(1_769_864_400_000);
const NOW: UnixMillis = UnixMillis::new(1_778_504_400_000);
const GERMAN: &str = "tel:+4915112345642";
const AMERICAN: &str = "tel:+12025550142";

fn configuration(url: &str) -> Vec<FeedFile> {
    let text = format!(
        r#"
        [[recycling]]
        kind = "camara"
        url = "{url}/number-recycling/v0.2"
        token_url = "{url}/token"
        client_id = "waymark"
        secret_file = "feed.secret"
        prefixes = ["+49"]
        [[recycling]]
        kind = "fcc"
        url = "{url}"
        company_id = "WAYMARK"
        secret_file = "feed.secret"
        prefixes = ["+1"]
        "#
    );
    #[derive(serde::Deserialize)]
    struct File {
        recycling: Vec<FeedFile>,
    }
    toml::from_str::<File>(&text).unwrap().recycling
}

fn with_secret(folder: &Path, secret: &str, url: &str) -> Result<Registers, String> {
    let path = folder.join("feed.secret");
    std::fs::write(&path, format!("{secret}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Registers::load(folder, &configuration(url), &ExtraRoots::default())
}

async fn ask(registers: &Registers, number: &str) -> Result<Recycled, FeedError> {
    registers.recycled_since(&Csi::parse(number).unwrap(), SINCE, NOW).await
}

/// A place and a stand-in.
async fn scene() -> (tempfile::TempDir, StandIn) {
    (tempfile::tempdir().unwrap(), StandIn::start().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_feeds_say_yes_no_and_that_they_do_not_know() {
    for number in [GERMAN, AMERICAN] {
        let (folder, stand_in) = scene().await;
        let registers = with_secret(folder.path(), "s3cret", &stand_in.url()).unwrap();
        let e164 = number.strip_prefix("tel:").unwrap();
        assert_eq!(ask(&registers, number).await.unwrap(), Recycled::Unknown);
        stand_in.says(e164, true);
        // What was said is kept for some hours, also that nothing is known.
        assert_eq!(ask(&registers, number).await.unwrap(), Recycled::Unknown);
        let csi = Csi::parse(number).unwrap();
        let later = NOW.plus_ms(CACHE_MS);
        assert_eq!(registers.recycled_since(&csi, SINCE, later).await.unwrap(), Recycled::Yes);
        assert!(registers.says_recycled(&csi, SINCE, later).await);
        stand_in.says(e164, false);
        let later = later.plus_ms(CACHE_MS);
        assert_eq!(registers.recycled_since(&csi, SINCE, later).await.unwrap(), Recycled::No);
        let calls = stand_in.calls();
        let paths: Vec<&str> = calls.iter().map(|c| c.path.as_str()).collect();
        let wanted = match number {
            GERMAN => ("/token", "/number-recycling/v0.2/check"),
            _ => ("/b/public/api/idToken", "/api/tn"),
        };
        assert_eq!(paths, [wanted.0, wanted.1, wanted.1, wanted.1], "one token, then what is asked");
        let digits = e164.trim_start_matches("+1").trim_start_matches('+');
        for call in &calls {
            assert!(!call.path.contains(digits) && !call.authorization.contains(digits), "{call:?}");
        }
        assert!(calls[1].body.contains(digits) && calls[1].body.contains("2026-01-31"), "{:?}", calls[1]);
        stand_in.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_feed_serves_is_not_asked() {
    let (folder, stand_in) = scene().await;
    let registers = with_secret(folder.path(), "s3cret", &stand_in.url()).unwrap();
    for other in ["tel:+33612345678", "mailto:bob@post.example", "tel:+120255501"] {
        assert_eq!(ask(&registers, other).await.unwrap(), Recycled::Unknown, "{other}");
    }
    assert!(stand_in.calls().is_empty());
    stand_in.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_no_answer() {
    for number in [GERMAN, AMERICAN] {
        let (folder, stand_in) = scene().await;
        stand_in.says(number.strip_prefix("tel:").unwrap(), true);
        let registers = with_secret(folder.path(), "s3cret", &stand_in.url()).unwrap();
        // With and without a token at hand.
        for first in [true, false] {
            if !first {
                assert!(registers.says_recycled(&Csi::parse(number).unwrap(), UnixMillis::new(1), NOW).await);
            }
            for (mood, is_so) in [
                (Mood::Garbage, (|e| matches!(e, FeedError::Garbage(_))) as fn(&FeedError) -> bool),
                (Mood::Endless, |e| matches!(e, FeedError::Fetch(_))),
                (Mood::Status(500), |e| matches!(e, FeedError::Status(500))),
                (Mood::Status(503), |e| matches!(e, FeedError::Status(503))),
                (Mood::Status(404), |e| matches!(e, FeedError::Status(404))),
                (Mood::Status(429), |e| matches!(e, FeedError::Status(429))),
                (Mood::Status(302), |e| matches!(e, FeedError::Status(302))),
                (Mood::Status(403), |e| matches!(e, FeedError::Refused(403))),
            ] {
                stand_in.set(mood);
                let error = ask(&registers, number).await.unwrap_err();
                assert!(is_so(&error), "{number} {mood:?}: {error:?}");
                assert!(!format!("{error} {error:?}").contains("12345642"), "{error:?}");
                assert!(!registers.says_recycled(&Csi::parse(number).unwrap(), SINCE, NOW).await);
            }
            stand_in.set(Mood::Well);
        }
        // An error is not kept.
        assert_eq!(ask(&registers, number).await.unwrap(), Recycled::Yes);
        let url = stand_in.url();
        stand_in.stop().await;
        let registers = with_secret(folder.path(), "s3cret", &url).unwrap();
        assert!(matches!(ask(&registers, number).await, Err(FeedError::Fetch(_))), "nobody is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_slow_is_not_waited_for() {
    let (folder, stand_in) = scene().await;
    let registers = with_secret(folder.path(), "s3cret", &stand_in.url()).unwrap();
    stand_in.set(Mood::Slow);
    let begun = Instant::now();
    assert!(matches!(ask(&registers, GERMAN).await, Err(FeedError::Fetch(_))));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(FEED_S_MAX + 3), "{took:?}");
    drop(stand_in);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ended_early_is_renewed_once_and_bad_credentials_stay_bad() {
    for number in [GERMAN, AMERICAN] {
        let (folder, stand_in) = scene().await;
        stand_in.says(number.strip_prefix("tel:").unwrap(), true);
        let registers = with_secret(folder.path(), "s3cret", &stand_in.url()).unwrap();
        assert_eq!(ask(&registers, number).await.unwrap(), Recycled::Yes);
        stand_in.end_tokens();
        stand_in.calls();
        let csi = Csi::parse(number).unwrap();
        let again = registers.recycled_since(&csi, SINCE, NOW.plus_ms(CACHE_MS)).await;
        assert_eq!(again.unwrap(), Recycled::Yes);
        assert_eq!(stand_in.calls().len(), 3, "refused, another token, again");
        stand_in.set(Mood::Status(401));
        let refused = registers.recycled_since(&csi, SINCE, NOW.plus_ms(2 * CACHE_MS)).await;
        assert!(matches!(refused, Err(FeedError::Refused(401))), "{refused:?}");
        assert_eq!(stand_in.calls().len(), 2, "refused, and no other token");
        stand_in.set(Mood::Well);
        let registers = with_secret(folder.path(), "guessed", &stand_in.url()).unwrap();
        assert!(matches!(ask(&registers, number).await, Err(FeedError::Refused(_))));
        stand_in.stop().await;
    }
}

/// A place for log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_number_and_no_secret_is_in_a_log_line() {
    let lines = Lines::default();
    let to = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || to.clone());
    // For all tests here: what they make the feeds say is held to the same.
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let (folder, stand_in) = scene().await;
    let registers = with_secret(folder.path(), "s3cret", &stand_in.url()).unwrap();
    stand_in.says("+4915112345642", true);
    for (day, mood) in [Mood::Well, Mood::Garbage, Mood::Status(500)].into_iter().enumerate() {
        stand_in.set(mood);
        for number in [GERMAN, AMERICAN] {
            // Another day each time, so that nothing is answered from memory.
            let since = SINCE.plus_ms(day as u64 * 86_400_000);
            registers.says_recycled(&Csi::parse(number).unwrap(), since, NOW).await;
        }
    }
    stand_in.stop().await;
    let said = String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned();
    assert!(said.contains("gave no answer"), "nothing was logged: {said}");
    for secret in ["15112345642", "2025550142", "s3cret", "token1"] {
        assert!(!said.contains(secret), "{secret} is in a log line");
    }
}

#[test]
fn a_secret_that_others_read_or_a_url_that_others_hear_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(with_secret(folder.path(), "s3cret", "http://127.0.0.1:9").is_ok());
    let beyond = with_secret(folder.path(), "s3cret", "http://api.example").unwrap_err();
    assert!(beyond.contains("recycling"), "{beyond}");
    let path = folder.path().join("feed.secret");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open =
        Registers::load(folder.path(), &configuration("http://127.0.0.1:9"), &ExtraRoots::default()).unwrap_err();
    assert!(open.contains("0600") && !open.contains("s3cret"), "{open}");
}
