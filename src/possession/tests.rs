//! Challenges: what ends them, what they are bound to, and who still gets codes when somebody pumps.

use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::{
    budget::Limits,
    incoming::IncomingFile,
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
        let failed = SenderError { sender: "phone", what: "off", is_final: true };
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

const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

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
    desk_at(Arc::new(phone), limits, folder, 0)
}

fn desk_at(phone: Arc<Phone>, limits: Option<Limits>, folder: TempDir, now: u64) -> Desk {
    let secret = SecretKey::from_seed(&[1; 32]);
    let identity = Identity { domain: Domain::parse("dp.example").unwrap(), secret, origin: origin() };
    let link_url = "https://dp.example".to_owned();
    let (sms, email) = (Some("+4915100000000".to_owned()), Some("proof@dp.example".to_owned()));
    let file = IncomingFile { sms, email };
    let incoming = Incoming::new(folder.path(), Some(&file));
    let proving = Proving { senders: Senders::one(phone.clone()), limits, link_url, incoming };
    let possession = Possession::open(proving, identity, folder.path(), &Clock::manual(now)).unwrap();
    Desk { phone, possession, folder }
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

    async fn check(
        &self,
        id: &ChallengeId,
        by: &Key,
        code: Option<&str>,
        now: u64,
    ) -> Result<Checked, PossessionError> {
        self.possession.check(id, by, code, ms(now)).await
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
    assert_eq!(desk.check(&open.id, &other, Some(&code), 1001).await, Err(PossessionError::NoChallenge));
    let attestation = approved(desk.check(&open.id, &claim.recipient, Some(&code), 1002).await);
    attestation.verify(&origin()).unwrap();
    assert!(attestation.verify(&Origin::new("other.example/log").unwrap()).is_err());
    let of = |a: &Attestation| (a.recipient, a.csi.clone(), a.tenure, a.purpose, a.method, a.time);
    let want = (claim.recipient, claim.csi.clone(), 3, Purpose::Control, Method::SMS, ms(1002));
    assert_eq!(of(&attestation), want);
    assert_eq!(desk.check(&open.id, &other, Some(&code), 1003).await, Err(PossessionError::NoChallenge));
}

#[tokio::test]
async fn the_check_that_ended_a_challenge_well_may_be_made_again_and_any_other_finds_it_over() {
    let limits = Some(Limits { csi_hour: 20, csi_day: 20, ..Limits::default() });
    let desk = desk_with(Phone::default(), limits.clone(), tempfile::tempdir().unwrap());
    let (bob, ann, eve) = (claim(BOB, 2), claim(ANN, 3), claim(BOB, 4));
    let by_code = desk.start(&bob, 0).await.unwrap();
    let code = desk.phone.last().code;
    let by_link = desk.start(&ann, 0).await.unwrap();
    let link = desk.phone.last().link.unwrap();
    desk.possession.confirm(&by_link.id, link.rsplit_once('.').unwrap().1, ms(1)).await.unwrap();
    let by_message = desk.possession.start_incoming(bob.clone(), None, FROM, ms(1)).await.unwrap();
    let (_, text) = desk.possession.asked_for(&by_message).unwrap();
    incoming::receive(desk.folder.path(), &bob.csi, &text).unwrap().unwrap();
    let code_of_ann = desk.possession.code(&by_link.id);
    let checks = [(&by_code, &bob, Some(code.as_str())), (&by_link, &ann, None), (&by_message, &bob, None)];
    let mut first = vec![];
    for (open, claim, given) in checks {
        first.push(approved(desk.check(&open.id, &claim.recipient, given, 2).await));
    }
    let mut desk = desk;
    let completed = |desk: &Desk| {
        let state = desk.possession.state();
        let ended = state.challenges.values().filter(|c| c.ended.is_some()).count();
        (ended, state.challenges.values().all(|c| c.codes.is_empty()), desk.phone.count.load(Ordering::SeqCst))
    };
    let before = completed(&desk);
    let over = Err(PossessionError::NoChallenge);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for now in [3, CHALLENGE_MS - 1] {
        for ((open, claim, given), first) in checks.into_iter().zip(&first) {
            // More often than there are checks, and the same bytes each time.
            for _ in 0..2 * CHECKS_MAX {
                assert_eq!(approved(desk.check(&open.id, &claim.recipient, given, now).await), *first);
            }
            // No other guess, no other key, and nothing more is sent or approved.
            let others = [Some(wrong), Some(""), Some(&*code_of_ann)];
            for other in others.into_iter().chain([None, Some(&*code)]).filter(|other| *other != given) {
                assert_eq!(desk.check(&open.id, &claim.recipient, other, now).await, over, "{other:?}");
            }
            assert_eq!(desk.check(&open.id, &eve.recipient, given, now).await, over);
            let again = desk.possession.send_again(&open.id, &claim.recipient, FROM, ms(now)).await;
            assert_eq!(again, Err(PossessionError::NoChallenge));
        }
        desk = restart(desk, limits.clone(), now);
        assert_eq!(completed(&desk), before, "nothing is counted or sent for it, also across a restart");
    }
    for (open, claim, given) in checks {
        assert_eq!(desk.check(&open.id, &claim.recipient, given, CHALLENGE_MS + 1).await, over);
    }
    desk = restart(desk, limits, 2 * CHALLENGE_MS);
    assert_eq!(desk.possession.state().challenges.len(), 0);
}

#[tokio::test]
async fn five_wrong_codes_end_it_and_so_does_time() {
    let (desk, claim) = (desk(), claim(BOB, 2));
    let open = desk.start(&claim, 0).await.unwrap();
    let code = desk.phone.last().code;
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for left in (0..CHECKS_MAX).rev() {
        let checked = desk.check(&open.id, &claim.recipient, Some(wrong), 1).await;
        assert_eq!(checked, Ok(Checked::Pending { checks_left: left, progress: Some(Progress::Sent) }));
    }
    assert_eq!(desk.check(&open.id, &claim.recipient, Some(&code), 1).await, Err(PossessionError::NoChallenge));
    let open = desk.start(&claim, 0).await.unwrap();
    let (code, late) = (desk.phone.last().code, open.expiry.get());
    assert_eq!(desk.check(&open.id, &claim.recipient, Some(&code), late).await, Err(PossessionError::NoChallenge));
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
    approved(desk.check(&open.id, &claim.recipient, Some(&first.code), 60_000).await);
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
        assert_eq!(
            desk.check(&open.id, &claim.recipient, None, 1).await,
            Ok(Checked::Pending { checks_left: 5, progress: Some(Progress::Sent) })
        );
    }
    let code = desk.phone.last().code;
    for wrong in ["", &code, &secret[1..], &secret.to_uppercase()] {
        assert_eq!(desk.possession.confirm(&open.id, wrong, ms(2)).await, Err(PossessionError::NoChallenge));
    }
    assert_eq!(desk.possession.confirm(&[0; 16], secret, ms(2)).await, Err(PossessionError::NoChallenge));
    assert_eq!(desk.possession.confirm(&open.id, secret, open.expiry).await, Err(PossessionError::NoChallenge));
    desk.possession.confirm(&open.id, secret, ms(2)).await.unwrap();
    desk.possession.confirm(&open.id, secret, ms(2)).await.unwrap();
    let other = SecretKey::from_seed(&[3; 32]).public();
    assert_eq!(desk.check(&open.id, &other, None, 3).await, Err(PossessionError::NoChallenge));
    assert_eq!(approved(desk.check(&open.id, &claim.recipient, None, 3).await).method, Method::EMAIL_LINK);
    assert_eq!(desk.possession.confirm(&open.id, secret, ms(4)).await, Err(PossessionError::NoChallenge));
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

/// An address in a network of its own.
fn elsewhere(network: u32) -> IpAddr {
    IpAddr::from((0xc600_0001 + (network << 8)).to_be_bytes())
}

/// Somebody pumps: many numbers in premium ranges, from many addresses of one network and with many keys, never completing.
async fn pump(desk: &Desk, numbers: u32, now: u64) -> u32 {
    let mut sent = 0;
    for i in 0..numbers {
        let mut claim = claim(&format!("tel:+8816{:02}{i:06}", i % 23), 0);
        claim.recipient = Key::new(*blake3::hash(&i.to_be_bytes()).as_bytes());
        let from = IpAddr::from((0xc633_0000 + i % 256).to_be_bytes());
        let started = desk.possession.start(claim, None, from, ms(now)).await;
        match started {
            Ok(_) => sent += 1,
            Err(e) => assert!(matches!(e, PossessionError::Spent(_)), "{e}"),
        }
    }
    sent
}

#[tokio::test]
async fn pumping_stops_and_who_was_here_before_still_gets_codes_also_after_a_restart() {
    let limits = Limits { country_hour: 50, ..Limits::default() };
    let desk = desk_with(Phone::default(), Some(limits.clone()), tempfile::tempdir().unwrap());
    // Cara, in the same premium country, has shown possession before.
    let cara = claim("tel:+881600123456", 9);
    let open = desk.start(&cara, 0).await.unwrap();
    approved(desk.check(&open.id, &cara.recipient, Some(&desk.phone.last().code), 0).await);
    assert_eq!(pump(&desk, 200, 1).await, 20, "half of what is there for newcomers");
    let newcomer = claim("tel:+881600999999", 8);
    let start = async |desk: &Desk, claim: &Claim, from, now| {
        desk.possession.start(claim.clone(), None, from, ms(now)).await.map(drop)
    };
    let waits = |retry_after_s| Err(PossessionError::Spent(Spent { retry_after_s }));
    // Anybody who shares the attacker's network waits, until codes on their way are over, or for the next hour; Cara's other app is new, too.
    let beside = IpAddr::from([198, 51, 0, 9]);
    assert_eq!(start(&desk, &newcomer, beside, 2).await, waits(60));
    assert_eq!(start(&desk, &claim("tel:+881600123456", 8), beside, 2).await, waits(60));
    assert_eq!(start(&desk, &newcomer, beside, 1 + CHALLENGE_MS).await, waits(3000));
    // Cara does not, nor does a newcomer from elsewhere, nor one to elsewhere.
    assert_eq!(start(&desk, &cara, beside, 2 + CHALLENGE_MS).await, Ok(()));
    assert_eq!(start(&desk, &newcomer, elsewhere(1), 2 + CHALLENGE_MS).await, Ok(()));
    assert_eq!(start(&desk, &claim(BOB, 7), beside, 2 + CHALLENGE_MS).await, Ok(()));
    // After a restart all is as it was: nothing begins again.
    let Desk { phone, possession, folder } = desk;
    drop(possession);
    let desk = desk_at(phone, Some(limits), folder, 3 + CHALLENGE_MS);
    assert_eq!(pump(&desk, 200, 3 + CHALLENGE_MS).await, 0);
    assert_eq!(start(&desk, &cara, beside, 4 + CHALLENGE_MS).await, Ok(()));
    assert_eq!(start(&desk, &newcomer, elsewhere(2), 4 + CHALLENGE_MS).await, Ok(()));
    assert_eq!(start(&desk, &newcomer, beside, 4 + CHALLENGE_MS).await, waits(60));
}

#[tokio::test]
async fn a_refusal_tells_a_stranger_nothing_of_who_was_here() {
    let limits = Limits { csi_hour: 2, ..Limits::default() };
    let desk = desk_with(Phone::default(), Some(limits), tempfile::tempdir().unwrap());
    let bob = claim(BOB, 2);
    let open = desk.start(&bob, 0).await.unwrap();
    approved(desk.check(&open.id, &bob.recipient, Some(&desk.phone.last().code), 0).await);
    // In the next hour Bob uses up his own share. A stranger finds as much room at Bob's number as at any other.
    let hour = 3_600_000;
    desk.start(&bob, hour).await.unwrap();
    desk.start(&bob, hour).await.unwrap();
    assert!(desk.start(&bob, hour).await.is_err());
    for csi in [BOB, "tel:+4915112345643"] {
        let mut told = vec![];
        for stranger in [3u8, 4, 5] {
            let started = desk.possession.start(claim(csi, stranger), None, elsewhere(stranger.into()), ms(hour)).await;
            told.push(started.map(|o| (o.sends_left, o.checks_left)));
        }
        assert!(told[0].is_ok() && told[1] == told[0], "{csi}: {told:?}");
        assert_eq!(told[2], Err(PossessionError::Spent(Spent { retry_after_s: 3600 })), "{csi}");
    }
}

#[tokio::test]
async fn the_spellings_of_one_mailbox_share_one_budget() {
    let desk = desk_with(Phone::default(), Some(Limits::default()), tempfile::tempdir().unwrap());
    let spellings: Vec<String> = (0..40u32)
        .map(|i| {
            let case = |n: u32, c: char| if i >> n & 1 == 1 { c.to_ascii_uppercase() } else { c };
            let (dot, tag) =
                (if i & 8 == 8 { "." } else { "" }, if i % 2 == 1 { format!("+{i}") } else { String::new() });
            format!("mailto:{}{}{dot}{}{tag}@post.example", case(0, 'a'), case(1, 'n'), case(2, 'n'))
        })
        .collect();
    let mut sent = 0;
    for (i, spelling) in spellings.iter().enumerate() {
        let from = elsewhere(i as u32 % 20);
        sent += usize::from(desk.possession.start(claim(spelling, i as u8), None, from, ms(0)).await.is_ok());
    }
    assert_eq!(sent, 5);
    // They are identifiers of their own all the same.
    let to = desk.phone.last().to;
    assert_eq!(to, Csi::parse(&spellings[4]).unwrap());
}

/// The program ends at some moment, and another one goes on with its folder. Only the phone goes on.
fn restart(desk: Desk, limits: Option<Limits>, now: u64) -> Desk {
    let Desk { phone, possession, folder } = desk;
    drop(possession);
    desk_at(phone, limits, folder, now)
}

#[tokio::test]
async fn a_challenge_survives_a_restart_with_all_that_it_has_used_up() {
    let limits = Some(Limits::default());
    let desk = desk_with(Phone::default(), limits.clone(), tempfile::tempdir().unwrap());
    let (bob, ann) = (claim(BOB, 2), claim(ANN, 3));
    let open = desk.start(&bob, 0).await.unwrap();
    let code = desk.phone.last().code;
    desk.possession.send_again(&open.id, &bob.recipient, FROM, ms(1)).await.unwrap();
    desk.check(&open.id, &bob.recipient, Some("wrong"), 2).await.unwrap();
    let linked = desk.start(&ann, 2).await.unwrap();
    let link = desk.phone.last().link.unwrap();
    let secret = link.rsplit_once('.').unwrap().1;
    desk.possession.confirm(&linked.id, secret, ms(3)).await.unwrap();

    let desk = restart(desk, limits.clone(), 4);
    assert_eq!(desk.phone.count.load(Ordering::SeqCst), 3, "nothing was on its way");
    let checked = desk.check(&open.id, &bob.recipient, Some("wrong"), 5).await;
    assert_eq!(checked, Ok(Checked::Pending { checks_left: 3, progress: Some(Progress::Sent) }));
    let again = desk.possession.send_again(&open.id, &bob.recipient, elsewhere(1), ms(6)).await.unwrap();
    assert_eq!((again.sends_left, desk.phone.last().code), (2, code.clone()));
    assert_eq!(approved(desk.check(&linked.id, &ann.recipient, None, 7).await).method, Method::EMAIL_LINK);

    let desk = restart(desk, limits.clone(), 8);
    approved(desk.check(&open.id, &bob.recipient, Some(&code), 9).await);
    // It works once, also across a restart, and time ends it there as well.
    let late = desk.start(&ann, 10).await.unwrap();
    let code_of_ann = desk.phone.last().code;
    let desk = restart(desk, limits.clone(), 11);
    assert_eq!(desk.check(&open.id, &bob.recipient, Some("wrong"), 12).await, Err(PossessionError::NoChallenge));
    let desk = restart(desk, limits, 10 + CHALLENGE_MS);
    let over = desk.check(&late.id, &ann.recipient, Some(&code_of_ann), 10 + CHALLENGE_MS).await;
    assert_eq!(over, Err(PossessionError::NoChallenge));
    assert_eq!(desk.possession.state().challenges.len(), 0);
}

#[tokio::test]
async fn budgets_do_not_begin_again_at_a_restart() {
    let limits = Some(Limits::default());
    let mut desk = desk_with(Phone::default(), limits.clone(), tempfile::tempdir().unwrap());
    let mut sent = 0;
    for i in 0..12u8 {
        let started = desk.possession.start(claim(BOB, i), None, elsewhere(i.into()), ms(i.into())).await;
        sent += u32::from(started.is_ok());
        desk = restart(desk, limits.clone(), u64::from(i) + 1);
    }
    assert_eq!(sent, 5);
}

#[tokio::test]
async fn what_was_started_while_the_clock_was_ahead_is_over_when_it_is_right_again() {
    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    let (clock, limits) = (Clock::settable(YEAR_MS), Some(Limits::default()));
    let (bob, ann) = (claim(BOB, 2), claim(ANN, 3));
    let mut desk = desk_at(Arc::default(), limits.clone(), tempfile::tempdir().unwrap(), clock.now().get());
    for at_restart in [true, false] {
        let wrong_by = YEAR_MS.cast_signed();
        clock.set(wrong_by);
        let open = desk.start(&bob, clock.now().get()).await.unwrap();
        let code = desk.phone.last().code;
        clock.set(-wrong_by);
        let now = clock.now().get();
        if at_restart {
            desk = restart(desk, limits.clone(), now);
            assert_eq!(desk.possession.state().challenges.len(), 0);
        }
        assert_eq!(
            desk.check(&open.id, &bob.recipient, Some(&code), now).await,
            Err(PossessionError::NoChallenge),
            "at a restart: {at_restart}"
        );
        // The next one sweeps.
        let right = desk.start(&ann, now).await.unwrap();
        assert_eq!(desk.possession.state().challenges.keys().collect::<Vec<_>>(), [&right.id]);
        desk = restart(desk, limits.clone(), now);
        assert_eq!(desk.possession.state().challenges.keys().collect::<Vec<_>>(), [&right.id]);
        // A clock that is set back by some minutes ends nothing.
        clock.set(-300_000);
        approved(desk.check(&right.id, &ann.recipient, Some(&desk.phone.last().code), clock.now().get()).await);
        clock.set(300_000);
        clock.advance(CHALLENGE_MS);
    }
}

/// Puts off what it is given, a few times.
struct Relay {
    tries: AtomicU32,
    puts_off: u32,
    then: Result<(), SenderError>,
}

impl Sender for Relay {
    fn deliver<'a>(&'a self, _: &'a Message) -> Delivery<'a> {
        let is_put_off = self.tries.fetch_add(1, Ordering::SeqCst) < self.puts_off;
        let later = SenderError { sender: "relay", what: "later", is_final: false };
        Box::pin(std::future::ready(if is_put_off { Err(later) } else { self.then }))
    }

    fn method(&self, _: Channel) -> Method {
        Method::EMAIL
    }
}

/// Until something holds, for at most ten seconds.
async fn until(holds: impl AsyncFn() -> bool) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came about");
}

#[tokio::test]
async fn a_mail_that_is_put_off_is_shown_as_waiting_and_one_that_is_refused_as_sent() {
    let refused = SenderError { sender: "relay", what: "no such mailbox", is_final: true };
    let mut told = vec![];
    for (puts_off, then) in [(0, Ok(())), (0, Err(refused)), (1, Ok(())), (1, Err(refused)), (u32::MAX, Ok(()))] {
        let relay = Arc::new(Relay { tries: AtomicU32::new(0), puts_off, then });
        let folder = tempfile::tempdir().unwrap();
        let secret = SecretKey::from_seed(&[1; 32]);
        let identity = Identity { domain: Domain::parse("dp.example").unwrap(), secret, origin: origin() };
        let incoming = Incoming::new(folder.path(), None);
        let (senders, link_url) = (Senders::one(relay.clone()), String::new());
        let proving = Proving { senders, limits: None, link_url, incoming };
        let possession = Possession::open(proving, identity, folder.path(), &Clock::manual(0)).unwrap();
        let ann = claim(ANN, 2);
        let open = possession.start(ann.clone(), None, FROM, ms(0)).await.unwrap();
        let progress = async || match possession.check(&open.id, &ann.recipient, None, ms(1)).await {
            Ok(Checked::Pending { progress, .. }) => progress.unwrap(),
            other => panic!("{other:?}"),
        };
        // The first try, and where it was put off the second one, a second later.
        let tries = 1 + puts_off.min(1);
        if puts_off > 0 {
            until(async || progress().await == Progress::Waiting).await;
        }
        until(async || relay.tries.load(Ordering::SeqCst) == tries).await;
        if puts_off < u32::MAX {
            until(async || possession.state().challenges[&open.id].is_delivered).await;
        }
        told.push((open.progress, progress().await));
    }
    let (sent, waiting) = (Progress::Sent, Progress::Waiting);
    assert_eq!(told, [(sent, sent), (sent, sent), (sent, sent), (sent, sent), (sent, waiting)]);
}

#[tokio::test]
async fn what_was_on_its_way_at_a_restart_is_delivered_again() {
    let relay = Arc::new(Relay { tries: AtomicU32::new(0), puts_off: 1, then: Ok(()) });
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let secret = SecretKey::from_seed(&[1; 32]);
        let identity = Identity { domain: Domain::parse("dp.example").unwrap(), secret, origin: origin() };
        let incoming = Incoming::new(folder.path(), None);
        let (senders, link_url) = (Senders::one(relay.clone()), String::new());
        let proving = Proving { senders, limits: None, link_url, incoming };
        Possession::open(proving, identity, folder.path(), &Clock::manual(0)).unwrap()
    };
    let first = open();
    first.start(claim(ANN, 2), None, FROM, ms(0)).await.unwrap();
    until(async || relay.tries.load(Ordering::SeqCst) == 1).await;
    drop(first);
    let second = open();
    until(async || second.state().challenges.values().all(|c| c.is_delivered)).await;
    assert_eq!(relay.tries.load(Ordering::SeqCst), 2);
    drop(second);
    let _third = open();
    tokio::task::yield_now().await;
    assert_eq!(relay.tries.load(Ordering::SeqCst), 2, "it was taken");
}

#[tokio::test]
async fn whoever_has_had_all_codes_used_up_enters_by_a_message_that_comes_in() {
    let limits = Some(Limits::default());
    let desk = desk_with(Phone::default(), limits.clone(), tempfile::tempdir().unwrap());
    for i in 10..30u8 {
        let _ = desk.possession.start(claim(BOB, i), None, elsewhere(i.into()), ms(0)).await;
    }
    let bob = claim(BOB, 2);
    assert!(desk.start(&bob, 1).await.is_err());
    let sent = desk.phone.count.load(Ordering::SeqCst);
    let open = desk.possession.start_incoming(bob.clone(), None, FROM, ms(1)).await.unwrap();
    assert_eq!((desk.phone.count.load(Ordering::SeqCst), open.sends_left), (sent, 0));
    let (to, text) = desk.possession.asked_for(&open).unwrap();
    assert_eq!(to, "+4915100000000");
    let pending = Ok(Checked::Pending { checks_left: CHECKS_MAX, progress: None });
    // Nothing has come; then it has come from somebody else; then from Bob. There is no code that could be guessed.
    assert_eq!(desk.check(&open.id, &bob.recipient, None, 2).await, pending);
    incoming::receive(desk.folder.path(), &Csi::parse("tel:+4915112345643").unwrap(), &text).unwrap().unwrap();
    assert_eq!(desk.check(&open.id, &bob.recipient, None, 2).await, pending);
    let code = desk.possession.code(&open.id);
    let guess = desk.check(&open.id, &bob.recipient, Some(&code), 2).await;
    assert_eq!(guess, Ok(Checked::Pending { checks_left: CHECKS_MAX - 1, progress: None }));
    incoming::receive(desk.folder.path(), &bob.csi, &text).unwrap().unwrap();
    let desk = restart(desk, limits, 3);
    let eve = SecretKey::from_seed(&[3; 32]).public();
    assert_eq!(desk.check(&open.id, &eve, None, 4).await, Err(PossessionError::NoChallenge));
    assert_eq!(approved(desk.check(&open.id, &bob.recipient, None, 4).await).method, Method::INCOMING);
    // From then on his key returns.
    desk.start(&bob, 6).await.unwrap();
    // Nothing tells who calls.
    let call = desk.possession.start_incoming(bob, Some(Channel::Voice), FROM, ms(6)).await;
    assert_eq!(call, Err(PossessionError::NotServed));
}

/// A mail program sends a mail with a stranger's words at one click (`List-Unsubscribe: <mailto:…?subject=…>`): such
/// a mail has a code sent to the mailbox, and gives the stranger nothing.
#[tokio::test]
async fn a_mail_that_comes_in_has_a_code_sent_to_its_mailbox_and_proves_nothing_itself() {
    let limits = Some(Limits::default());
    let desk = desk_with(Phone::default(), limits.clone(), tempfile::tempdir().unwrap());
    for i in 10..30u8 {
        let _ = desk.possession.start(claim(ANN, i), None, elsewhere(i.into()), ms(0)).await;
    }
    let (ann, eve) = (claim(ANN, 2), claim(ANN, 3));
    assert!(desk.start(&ann, 1).await.is_err());
    let sent = || desk.phone.count.load(Ordering::SeqCst);
    let before = sent();
    let mail = |desk: &Desk, open: &Open, from: &Claim| {
        let (_, text) = desk.possession.asked_for(open).unwrap();
        incoming::receive(desk.folder.path(), &from.csi, &format!("Subject: {text}\r\n\r\n")).unwrap().unwrap();
    };
    let waits = Ok(Checked::Pending { checks_left: CHECKS_MAX, progress: None });
    let asks = Ok(Checked::Pending { checks_left: CHECKS_MAX, progress: Some(Progress::Sent) });
    // Eve's text, sent by Ann's mail program: Ann gets a code, which Eve would have to guess.
    let of_eve = desk.possession.start_incoming(eve.clone(), None, FROM, ms(1)).await.unwrap();
    assert_eq!(desk.check(&of_eve.id, &eve.recipient, None, 2).await, waits);
    mail(&desk, &of_eve, &ann);
    for _ in 0..3 {
        assert_eq!(desk.check(&of_eve.id, &eve.recipient, None, 2).await, asks);
    }
    assert_eq!(sent(), before + 1, "one mail, one code");
    let again = desk.possession.send_again(&of_eve.id, &eve.recipient, FROM, ms(2)).await;
    assert!(matches!(again, Err(PossessionError::NoSends { .. })), "{again:?}");
    for _ in 0..CHECKS_MAX {
        desk.check(&of_eve.id, &eve.recipient, Some("wrong"), 2).await.unwrap();
    }
    assert_eq!(desk.check(&of_eve.id, &eve.recipient, None, 2).await, Err(PossessionError::NoChallenge));
    // Ann's own.
    let of_ann = desk.possession.start_incoming(ann.clone(), None, FROM, ms(3)).await.unwrap();
    mail(&desk, &of_ann, &ann);
    assert_eq!(desk.check(&of_ann.id, &ann.recipient, None, 4).await, asks);
    let code = desk.phone.last().code;
    let desk = restart(desk, limits.clone(), 5);
    assert_eq!(approved(desk.check(&of_ann.id, &ann.recipient, Some(&code), 6).await).method, Method::EMAIL);
    // A neighbour with another spelling, who writes as much as he likes, uses up nothing of hers.
    let desk = restart(desk, limits, 7);
    let neighbour = claim("mailto:a.n.n@post.example", 5);
    for i in 0..6u32 {
        let open = desk.possession.start_incoming(neighbour.clone(), None, elsewhere(i), ms(7)).await.unwrap();
        mail(&desk, &open, &neighbour);
        assert_eq!(desk.check(&open.id, &neighbour.recipient, None, 7).await.is_ok(), i < 5);
    }
    // As many an hour as of other codes, also across a restart: that bounds guessing.
    let mut answered = 2;
    for i in 40..46u8 {
        let eve = claim(ANN, i);
        let open = desk.possession.start_incoming(eve.clone(), None, elsewhere(i.into()), ms(7)).await.unwrap();
        mail(&desk, &open, &ann);
        match desk.check(&open.id, &eve.recipient, None, 8).await {
            Err(PossessionError::Spent(_)) => {}
            checked => {
                assert_eq!(checked, asks);
                answered += 1;
            }
        }
    }
    assert_eq!(answered, 5);
}
