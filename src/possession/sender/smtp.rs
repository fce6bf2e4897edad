//! Codes and links by e-mail, through a relay that speaks SMTP.
//!
//! TLS from the first byte, or STARTTLS which must succeed; plain only to a relay on this machine. A relay that does not take
//! a mail now is asked again for as long as the code works ([`crate::possession::outbox`]); what it has taken is its affair.

use std::{
    net::IpAddr,
    time::{Duration, UNIX_EPOCH},
};

use data_encoding::HEXLOWER;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    message::{Mailbox, header},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
        extension::ClientId,
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use waymark_mapping::mapping::Method;
use waymark_runtime::{clock::Clock, random};

use super::{Channel, Delivery, Message, Sender, SenderError};
use crate::possession::message;

/// Longest one SMTP command may take.
const COMMAND_S_MAX: u64 = 20;
/// Most connections to the relay at a time, one for each mail; the next mails wait.
const CONNECTIONS_MAX: usize = 16;
/// What a certificate in PEM begins with.
const PEM_BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// How the connection to the relay is kept to oneself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// TLS from the first byte, port 465 as a rule.
    Tls,
    /// STARTTLS, without which nothing is said; port 587 as a rule.
    Starttls,
    /// None: to loopback only.
    None,
}

/// `[codes.smtp]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpFile {
    /// The relay's name or address, for which it must have a certificate.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `tls`, `starttls`, or `none` to loopback.
    pub security: Security,
    /// The sender's address.
    pub from: String,
    /// The account at the relay, if it asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The file with its password, mode 0600, relative to the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// The file with the one authority, in PEM, whose certificate the relay must have; the public ones unless said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

impl SmtpFile {
    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// What to mend.
    pub fn check(&self) -> Result<(), String> {
        // Codes that others on the way can read prove nothing.
        let is_local = self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if self.security == Security::None && !is_local {
            return Err("smtp: security = \"none\" is for a relay at a loopback address only".to_owned());
        }
        if self.user.is_some() != self.password_file.is_some() {
            return Err("smtp: user and password_file go together".to_owned());
        }
        if self.ca_file.is_some() && self.security == Security::None {
            return Err("smtp: ca_file is for TLS".to_owned());
        }
        if self.from.parse::<Address>().is_err() {
            return Err("smtp: from is not an e-mail address".to_owned());
        }
        Ok(())
    }
}

/// A mail relay.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Address,
    connections: Semaphore,
    clock: Clock,
}

impl Smtp {
    /// The relay of a configuration; `password` belongs to its user, `ca` is what its `ca_file` holds.
    ///
    /// # Errors
    /// What to mend.
    pub fn new(file: &SmtpFile, password: Option<&str>, ca: Option<&[u8]>, clock: Clock) -> Result<Self, String> {
        file.check()?;
        let tls = match file.security {
            Security::Tls => Tls::Wrapper(tls_parameters(&file.host, ca)?),
            Security::Starttls => Tls::Required(tls_parameters(&file.host, ca)?),
            Security::None => Tls::None,
        };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&file.host).port(file.port).tls(tls);
        let mut builder = builder.timeout(Some(Duration::from_secs(COMMAND_S_MAX)));
        if let Some((user, password)) = file.user.as_ref().zip(password) {
            builder = builder.credentials(Credentials::new(user.clone(), password.to_owned()));
        }
        let from: Address = file.from.parse().map_err(|_| "smtp: from is not an e-mail address")?;
        let builder = builder.hello_name(ClientId::Domain(from.domain().to_owned()));
        Ok(Self { transport: builder.build(), from, connections: Semaphore::new(CONNECTIONS_MAX), clock })
    }

    fn compose(&self, m: &Message) -> Option<lettre::Message> {
        let to: Address = m.to.expose().strip_prefix("mailto:")?.parse().ok()?;
        let now = UNIX_EPOCH + Duration::from_millis(self.clock.now().get());
        let id = format!("<{}@{}>", HEXLOWER.encode(&random::bytes::<16>()), self.from.domain());
        let builder = lettre::Message::builder()
            .from(Mailbox::new(Some(m.prover.clone()), self.from.clone()))
            .to(Mailbox::new(None, to))
            .date(now)
            .message_id(Some(id))
            .subject(message::subject(m))
            .header(header::ContentType::TEXT_PLAIN);
        // RFC 3834: nobody's holiday message is to answer this.
        let name = header::HeaderName::new_from_ascii_str("Auto-Submitted");
        let builder = builder.raw_header(header::HeaderValue::new(name, "auto-generated".to_owned()));
        builder.body(message::email(m)).ok()
    }

    async fn hand_over(&self, m: &Message) -> Result<(), SenderError> {
        let failed = |what, is_final| SenderError { sender: "smtp", what, is_final };
        let mail = self.compose(m).ok_or_else(|| failed("mail cannot go to this address", true))?;
        let _connection = self.connections.acquire().await;
        if m.expiry <= self.clock.now() {
            return Err(failed("the relay was too slow for the code to work still", true));
        }
        // The relay's words often repeat the address: only their kind is told.
        self.transport.send(mail).await.map(drop).map_err(|error| match error {
            e if e.is_permanent() || e.is_client() => failed("the relay refuses the mail", true),
            e if e.is_tls() => failed("no TLS with the relay", false),
            _ => failed("the relay takes no mail now", false),
        })
    }
}

fn tls_parameters(host: &str, ca: Option<&[u8]>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(pem) = ca {
        let not_pem = "smtp: ca_file is not a certificate in PEM";
        // The parser takes a text without any certificate for none, and then nobody would be believed.
        if !pem.windows(PEM_BEGIN.len()).any(|w| w == PEM_BEGIN) {
            return Err(not_pem.to_owned());
        }
        let ca = Certificate::from_pem(pem).map_err(|_| not_pem)?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(ca);
    }
    builder.build().map_err(|_| "smtp: host is not a name for TLS, or ca_file is no authority".to_owned())
}

impl Sender for Smtp {
    fn deliver<'a>(&'a self, message: &'a Message) -> Delivery<'a> {
        Box::pin(self.hand_over(message))
    }

    fn method(&self, _: Channel) -> Method {
        Method::EMAIL
    }

    fn carries_links(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(security: Security, host: &str) -> SmtpFile {
        let from = "codes@dp.example".to_owned();
        SmtpFile { host: host.to_owned(), port: 25, security, from, user: None, password_file: None, ca_file: None }
    }

    #[test]
    fn plain_smtp_stays_on_this_machine() {
        for host in ["127.0.0.1", "::1"] {
            assert_eq!(file(Security::None, host).check(), Ok(()));
        }
        for host in ["mail.example", "192.0.2.1", "0.0.0.0", "localhost"] {
            assert!(file(Security::None, host).check().is_err(), "{host}");
        }
        for security in [Security::Tls, Security::Starttls] {
            assert!(Smtp::new(&file(security, "mail.example"), None, None, Clock::System).is_ok());
        }
        let with_ca = SmtpFile { ca_file: Some("ca.pem".into()), ..file(Security::None, "127.0.0.1") };
        assert!(with_ca.check().is_err());
        assert!(Smtp::new(&file(Security::Tls, "mail.example"), None, Some(b"no PEM"), Clock::System).is_err());
        assert!(SmtpFile { user: Some("dp".into()), ..file(Security::Tls, "mail.example") }.check().is_err());
        assert!(SmtpFile { from: "nobody".into(), ..file(Security::Tls, "mail.example") }.check().is_err());
    }
}
