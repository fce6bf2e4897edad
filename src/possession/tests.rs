//! Challenges: what ends them, what they are bound to, and who still gets codes when somebody pumps.

use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::{
    budget::Limits,
    sender::{Delivery, Senders},
    *,
};

/// Keeps the last message, as a phone or a mailbox would show it. Counts them.
#[derive(Default)]
struct Phone {
    last: Mutex<Option<Message>>,
    count: AtomicU32,
    is_remote: bool,
}

impl Phone {
    fn last(&self) -> Message {
        self.last.lock().unwrap().clone().unwrap()
    }
}

impl Sender for Phone {
    fn deliver<'a>(&'a self, message: &'a Message) -> Delivery<'a> {
        *self.last.lock().unwrap() = Some(message.clone());
        self.count.fetch_add(1, Ordering::SeqCst);
        let failed = SenderError { sender: "phone", what: "off" };
        Box::pin(std::future::ready(if self.is_remote { Err(failed) } else { Ok(()) }))
    }

    fn method(&self, channel: Channel) -> Method {
        if channel == Channel::Email { Method::EMAIL } else { Method::SMS }
    }

    fn is_local(&self) -> bool {
        !self.is_remote
    }

    fn carries_links(&self) -> bool {
        true
    }
}

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn ms(n: u64) -> UnixMillis {
    UnixMillis::new(n)
}

fn origin() -> Origin {
    Origin::new("dp.example/log").unwrap()
}

struct Desk {
    phone: Arc<Phone>,
    possession: Possession,
    folder: TempDir,
}

fn desk_with(phone: Phone, limits: Option<Limits>, folder: TempDir) -> Desk {
    let phone = Arc::new(phone);
    let secret = SecretKey::from_seed(&[1; 32]);
    let returning = Returning::open(folder.path(), &secret.to_seed()).unwrap();
    let identity = Identity { domain: Domain::parse("dp.example").unwrap(), secret, origin: origin() };
    let link_url = "https://dp.example".to_owned();
    let proving = Proving { senders: Senders::one(phone.clone()), limits, link_url };
    Desk { phone, possession: Possession::new(proving, identity, returning), folder }
}

fn desk() -> Desk {
    desk_with(Phone::default(), None, tempfile::tempdir().unwrap())
}

fn claim(csi: &str, key: u8) -> Claim {
    let recipient = SecretKey::from_seed(&[key; 32]).public();
    Claim { csi: Csi::parse(csi).unwrap(), recipient, tenure: 3, purpose: Purpose::Control }
}

const BOB: &str = "tel:+4915112345642";
const ANN: &str = "mailto:ann@post.example";

impl Desk {
    async fn start(&self, claim: &Claim, now: u64) -> Result<Open, PossessionError> {
        self.possession.start(claim.clone(), None, FROM, ms(now)).await
    }

    fn check(&self, id: &ChallengeId, by: &Key, code: Option<&str>, now: u64) -> Result<Checked, PossessionError> {
        self.possession.check(id, by, code, ms(now))
    }
}

fn approved(checked: Result<Checked, PossessionError>) -> Attestation {
    match checked {
        Ok(Checked::Approved(attestation)) => *attestation,
        other => panic!("not approved: {other:?}"),
    }
}

#[tokio::test]
async fn the_right_code_works_once_and_for_its_key_only() {
    let (desk, claim) = (desk(), claim(BOB, 2));
    let open = desk.start(&claim, 1000).await.unwrap();
    assert_eq!((open.expiry, open.sends_left, open.checks_left), (ms(1000 + CHALLENGE_MS), 4, 5));
    let code = desk.phone.last().code;
    let other = SecretKey::from_seed(&[3; 32]).public();
    assert_eq!(desk.check(&open.id, &other, Some(&code), 1001), Err(PossessionError::NoChallenge));
    let attestation = approved(desk.check(&open.id, &claim.recipient, Some(&code), 1002));
    attestation.verify(&origin()).unwrap();
    assert!(attestation.verify(&Origin::new("other.example/log").unwrap()).is_err());
    let of = |a: &Attestation| (a.recipient, a.csi.clone(), a.tenure, a.purpose, a.method, a.time);
    let want = (claim.recipient, claim.csi.clone(), 3, Purpose::Control, Method::SMS, ms(1002));
    assert_eq!(of(&attestation), want);
    assert_eq!(desk.check(&open.id, &claim.recipient, Some(&code), 1003), Err(PossessionError::NoChallenge));
}

#[tokio::test]
async fn five_wrong_codes_end_it_and_so_does_time() {
    let (desk, claim) = (desk(), claim(BOB, 2));
    let open = desk.start(&claim, 0).await.unwrap();
    let code = desk.phone.last().code;
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for left in (0..CHECKS_MAX).rev() {
        let checked = desk.check(&open.id, &claim.recipient, Some(wrong), 1);
        assert_eq!(checked, Ok(Checked::Pending { checks_left: left }));
    }
    assert_eq!(desk.check(&open.id, &claim.recipient, Some(&code), 1), Err(PossessionError::NoChallenge));
    let open = desk.start(&claim, 0).await.unwrap();
    let (code, late) = (desk.phone.last().code, open.expiry.get());
    assert_eq!(desk.check(&open.id, &claim.recipient, Some(&code), late), Err(PossessionError::NoChallenge));
    // It is forgotten with the next one that is started.
    desk.start(&claim, late).await.unwrap();
    assert_eq!(desk.possession.state().challenges.len(), 1);
}

#[tokio::test]
async fn five_sends_carry_one_code() {
    let (desk, claim) = (desk(), claim(BOB, 2));
    let open = desk.start(&claim, 0).await.unwrap();
    let first = desk.phone.last();
    for left in (0..SENDS_MAX - 1).rev() {
        let again = desk.possession.send_again(&open.id, &claim.recipient, FROM, ms(60_000)).await.unwrap();
        let last = desk.phone.last();
        assert_eq!((again.sends_left, again.expiry), (left, open.expiry));
        assert_eq!((last.code, last.send), (first.code.clone(), SENDS_MAX - left));
    }
    let again = desk.possession.send_again(&open.id, &claim.recipient, FROM, ms(60_000)).await;
    assert_eq!(again, Err(PossessionError::NoSends { retry_after_s: 540 }));
    assert_eq!(desk.phone.count.load(Ordering::SeqCst), 5);
    let other = SecretKey::from_seed(&[3; 32]).public();
    let again = desk.possession.send_again(&open.id, &other, FROM, ms(60_000)).await;
    assert_eq!(again, Err(PossessionError::NoChallenge));
    approved(desk.check(&open.id, &claim.recipient, Some(&first.code), 60_000));
}

#[tokio::test]
async fn an_opened_link_approves_for_the_key_that_started() {
    let (desk, claim) = (desk(), claim(ANN, 2));
    let open = desk.start(&claim, 0).await.unwrap();
    let link = desk.phone.last().link.unwrap();
    let (id, secret) = link.strip_prefix("https://dp.example/confirm#").unwrap().split_once('.').unwrap();
    assert_eq!(id, HEXLOWER.encode(&open.id));
    // Asking costs no check.
    for _ in 0..10 {
        assert_eq!(desk.check(&open.id, &claim.recipient, None, 1), Ok(Checked::Pending { checks_left: 5 }));
    }
    let code = desk.phone.last().code;
    for wrong in ["", &code, &secret[1..], &secret.to_uppercase()] {
        assert_eq!(desk.possession.confirm(&open.id, wrong, ms(2)), Err(PossessionError::NoChallenge));
    }
    assert_eq!(desk.possession.confirm(&[0; 16], secret, ms(2)), Err(PossessionError::NoChallenge));
    assert_eq!(desk.possession.confirm(&open.id, secret, open.expiry), Err(PossessionError::NoChallenge));
    desk.possession.confirm(&open.id, secret, ms(2)).unwrap();
    desk.possession.confirm(&open.id, secret, ms(2)).unwrap();
    let other = SecretKey::from_seed(&[3; 32]).public();
    assert_eq!(desk.check(&open.id, &other, None, 3), Err(PossessionError::NoChallenge));
    assert_eq!(approved(desk.check(&open.id, &claim.recipient, None, 3)).method, Method::EMAIL_LINK);
    assert_eq!(desk.check(&open.id, &claim.recipient, None, 4), Err(PossessionError::NoChallenge));
    assert_eq!(desk.possession.confirm(&open.id, secret, ms(4)), Err(PossessionError::NoChallenge));
}

#[tokio::test]
async fn a_channel_reaches_its_kind_of_identifier_only() {
    let desk = desk();
    for (csi, channel, served) in [
        (BOB, None, Some(Channel::Sms)),
        (BOB, Some(Channel::Voice), Some(Channel::Voice)),
        (BOB, Some(Channel::Email), None),
        (ANN, None, Some(Channel::Email)),
        (ANN, Some(Channel::Sms), None),
    ] {
        let started = desk.possession.start(claim(csi, 2), channel, FROM, ms(0)).await;
        assert_eq!(started.map(|o| o.channel), served.ok_or(PossessionError::NotServed), "{csi} {channel:?}");
    }
}

#[tokio::test]
async fn a_delivery_that_fails_elsewhere_is_told_to_nobody() {
    let broken = Phone { is_remote: true, ..Phone::default() };
    let desk = desk_with(broken, None, tempfile::tempdir().unwrap());
    let open = desk.start(&claim(BOB, 2), 0).await.unwrap();
    assert_eq!((open.sends_left, open.checks_left), (4, 5));
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(desk.phone.count.load(Ordering::SeqCst), 1);
}

/// Somebody pumps: many numbers in premium ranges, from many addresses and keys, never completing.
async fn pump(desk: &Desk, numbers: u32, now: u64) -> u32 {
    let mut sent = 0;
    for i in 0..numbers {
        let mut claim = claim(&format!("tel:+8816{:02}{i:06}", i % 23), 0);
        claim.recipient = Key::new(*blake3::hash(&i.to_be_bytes()).as_bytes());
        let from = IpAddr::from((0xc633_0000 + i).to_be_bytes());
        let started = desk.possession.start(claim, None, from, ms(now)).await;
        match started {
            Ok(_) => sent += 1,
            Err(e) => assert!(matches!(e, PossessionError::Spent(_)), "{e}"),
        }
    }
    sent
}

#[tokio::test]
async fn pumping_stops_and_who_was_here_before_still_gets_codes() {
    let limits = Limits { breaker_country_min: 40, total_hour: 400, ..Limits::default() };
    let desk = desk_with(Phone::default(), Some(limits.clone()), tempfile::tempdir().unwrap());
    // Cara, in the same premium country, has shown possession before.
    let cara = claim("tel:+881600123456", 9);
    let open = desk.start(&cara, 0).await.unwrap();
    approved(desk.check(&open.id, &cara.recipient, Some(&desk.phone.last().code), 0));
    assert_eq!(pump(&desk, 2000, 1).await, 39, "one challenge of forty was Cara's");
    // Somebody new there has to wait; Cara's other app is new too. Cara is not, nor is a newcomer elsewhere.
    for newcomer in [claim("tel:+881600999999", 8), claim("tel:+881600123456", 8)] {
        let refused = desk.start(&newcomer, 2).await;
        assert!(matches!(refused, Err(PossessionError::Spent(Spent { retry_after_s: 3600 }))), "{refused:?}");
    }
    desk.start(&cara, 2).await.unwrap();
    desk.start(&claim(BOB, 7), 2).await.unwrap();
    // The same after a restart: who was here is known by the file, though the breaker starts again.
    let desk = desk_with(Phone::default(), Some(limits), desk.folder);
    assert_eq!(pump(&desk, 2000, 3).await, 40);
    desk.start(&cara, 4).await.unwrap();
    assert!(desk.start(&claim("tel:+881600999999", 8), 4).await.is_err());
}

#[tokio::test]
async fn a_refusal_tells_a_stranger_nothing_of_who_was_here() {
    let limits = Limits { csi_hour: 2, ..Limits::default() };
    let desk = desk_with(Phone::default(), Some(limits), tempfile::tempdir().unwrap());
    let bob = claim(BOB, 2);
    let open = desk.start(&bob, 0).await.unwrap();
    approved(desk.check(&open.id, &bob.recipient, Some(&desk.phone.last().code), 0));
    // In the next hour Bob uses up his own share. A stranger finds as much room at Bob's number as at any other.
    let hour = 3_600_000;
    desk.start(&bob, hour).await.unwrap();
    desk.start(&bob, hour).await.unwrap();
    assert!(desk.start(&bob, hour).await.is_err());
    for csi in [BOB, "tel:+4915112345643"] {
        let outcomes = [3u8, 4, 5].map(|stranger| claim(csi, stranger));
        let mut told = vec![];
        for stranger in &outcomes {
            told.push(desk.start(stranger, hour).await.map(|o| (o.sends_left, o.checks_left)));
        }
        assert!(told[0].is_ok() && told[1] == told[0], "{csi}: {told:?}");
        assert_eq!(told[2], Err(PossessionError::Spent(Spent { retry_after_s: 3600 })), "{csi}");
    }
}
