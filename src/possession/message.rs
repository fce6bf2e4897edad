//! What the messages say: who asks, what for, the code, and that it is nobody else's business. The person is not named, and
//! there is no link but the one that the challenge needs.

use data_encoding::HEXLOWER;
use waymark_mapping::mapping::Purpose;

use super::{CHALLENGE_MS, sender::Message};

/// Characters of one text message in the GSM alphabet, which has all of ASCII that is used here.
pub const SMS_CHARS_MAX: usize = 160;
/// Hex digits of a challenge's name that mail and app show, to be compared by people.
const REFERENCE_DIGITS: usize = 6;

/// What the app and the mail show of a challenge's name, so that a link is opened for one's own app only.
pub fn reference(id_hex: &str) -> &str {
    id_hex.get(..REFERENCE_DIGITS).unwrap_or(id_hex)
}

/// What whoever has the code may do.
const fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Control => "change how others find and reach you",
        Purpose::View => "see how others find and reach you",
    }
}

/// A text message.
pub fn sms(m: &Message) -> String {
    let minutes = CHALLENGE_MS / 60_000;
    format!(
        "{}: code {} lets an app {}. Valid {minutes} minutes. Do not share it.",
        m.prover,
        m.code,
        purpose(m.purpose)
    )
}

/// What a call says: the code digit by digit, twice.
pub fn voice(m: &Message) -> String {
    let digits: Vec<String> = m.code.chars().map(String::from).collect();
    let (digits, who, what) = (digits.join(", "), &m.prover, purpose(m.purpose));
    format!(
        "This is {who}. Your code is: {digits}. Again: {digits}. It lets an app {what}. Do not share it with anybody. If you \
         did not ask for it, hang up."
    )
}

/// A mail's subject.
pub fn subject(m: &Message) -> String {
    format!("{}: your code", m.prover)
}

/// A mail's text.
pub fn email(m: &Message) -> String {
    let minutes = CHALLENGE_MS / 60_000;
    let (who, what, code) = (&m.prover, purpose(m.purpose), &m.code);
    let mut text = format!(
        "An app has asked {who} for leave to {what} under this address.\n\n\
         If it is yours, enter this code in it:\n\n    {code}\n\n"
    );
    if let Some(link) = &m.link {
        let id = HEXLOWER.encode(&m.id);
        let reference = reference(&id);
        text += &format!(
            "Or open this page and press its button, if your app shows the reference {reference} now:\n\n    {link}\n\n"
        );
    }
    text += &format!(
        "Both work until {minutes} minutes after the app asked. Do not share them with anybody, whoever asks.\n\
         If you did not ask for this, do nothing.\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use waymark_log::time::UnixMillis;
    use waymark_mapping::identifier::Csi;

    use super::*;
    use crate::possession::sender::Channel;

    fn message(purpose: Purpose, link: Option<&str>) -> Message {
        Message {
            id: [0xab; 16],
            to: Csi::parse("mailto:ann@post.example").unwrap(),
            channel: Channel::Email,
            prover: "discovery.provider.example".to_owned(),
            purpose,
            code: "012345".to_owned(),
            link: link.map(str::to_owned),
            send: 1,
            expiry: UnixMillis::new(0),
        }
    }

    #[test]
    fn messages_say_who_what_for_and_not_to_share_and_nothing_of_the_person() {
        for (purpose, word) in [(Purpose::Control, "change"), (Purpose::View, "see")] {
            let m = message(purpose, None);
            for text in [sms(&m), email(&m), voice(&m)] {
                for part in ["discovery.provider.example", word, "o not share"] {
                    assert!(text.contains(part), "{text}");
                }
                assert!(!text.contains("ann") && !text.contains("post.example") && !text.contains("http"), "{text}");
            }
            assert!(
                sms(&m).contains("012345") && email(&m).contains("012345") && voice(&m).contains("0, 1, 2, 3, 4, 5")
            );
            assert!(sms(&m).len() <= SMS_CHARS_MAX && sms(&m).is_ascii(), "{}", sms(&m).len());
        }
    }

    #[test]
    fn a_mail_has_the_one_link_and_the_reference() {
        let text = email(&message(Purpose::Control, Some("https://dp.example/confirm#x")));
        assert_eq!(text.matches("://").count(), 1);
        assert!(text.contains("https://dp.example/confirm#x") && text.contains("ababab"));
    }
}
