//! `codes` in dp.toml and prover.toml: where codes go, and how many.
//!
//! ```toml
//! codes = "console"               # development: every code to stdout; no budget, since nothing is sent
//! codes = "folder"                # development: every code to a file in codes/ of the data folder; no budget
//!
//! [codes]                         # or: who serves which channel. A channel that is not named is not served
//! email = "smtp"                  # e-mail addresses: "smtp", or for development "console", "folder"
//! sms = "gateway"                 # phone numbers: "gateway", or for development "console", "folder"
//! voice = "gateway"
//! default_for_numbers = "sms"     # the channel of a phone number where the app names none; needed if both are served
//! link_url = "https://dp.example" # where people reach this program: links in mails begin with it. Default: where it
//!                                 # listens, which is right on one machine only
//! [codes.smtp]
//! host = "mail.example"
//! port = 465
//! security = "tls"                # "tls", "starttls", or "none" to a loopback address
//! from = "codes@dp.example"
//! user = "dp"                     # if the relay asks for an account
//! password_file = "keys/smtp.password"
//! ca_file = "relay-ca.pem"        # if the relay's certificate is not by a public authority
//! [codes.gateway]
//! url = "https://gateway.example/messages"
//! key_file = "keys/gateway.key"
//! timeout_ms = 10000
//! [codes.incoming]                # optional: where people send a message to when no more codes are sent; what that
//! sms = "+4915112345678"          # rests on is in src/possession/incoming.rs
//! email = "proof@dp.example"      # a mail is answered with a code
//! [codes.budget]                  # every field has a default; see `Limits` in src/possession/budget.rs
//! csi_day = 10
//! ```

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::ValueEnum;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use waymark_runtime::{clock::Clock, config::ConfigError, durable, fetch::ExtraRoots, keyfile};
use zeroize::Zeroizing;

use super::{
    budget::Limits,
    incoming::{Incoming, IncomingFile},
    sender::{
        Channel, Sender, Senders,
        development::{Console, Folder},
        gateway::{Gateway, GatewayFile, is_https_or_loopback},
        smtp::{Smtp, SmtpFile},
    },
};

/// The folder for codes, in the data folder.
const CODES_FOLDER: &str = "codes";
/// Most bytes in a password file.
const PASSWORD_BYTES_MAX: usize = 1024;
/// Most bytes in a file with a certificate authority.
const CA_BYTES_MAX: usize = 64 << 10;

/// Where codes go.
#[derive(Clone, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Codes {
    /// To stdout, for development.
    #[default]
    Console,
    /// To files in a folder, for development.
    Folder,
    /// Each channel to its sender.
    #[value(skip)]
    Channels(Box<Channels>),
}

/// `[codes]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    /// What serves e-mail addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<SenderName>,
    /// What serves phone numbers by text message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sms: Option<SenderName>,
    /// What serves phone numbers by call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<SenderName>,
    /// The channel of phone numbers where the app names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_for_numbers: Option<Channel>,
    /// Where people reach this program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_url: Option<String>,
    /// The mail relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SmtpFile>,
    /// The SMS and voice gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayFile>,
    /// Where people send to who are sent nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incoming: Option<IncomingFile>,
    /// How many codes.
    #[serde(default)]
    pub budget: Limits,
}

/// What may serve a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SenderName {
    /// `[codes.smtp]`.
    Smtp,
    /// `[codes.gateway]`.
    Gateway,
    /// Stdout.
    Console,
    /// Files.
    Folder,
}

impl Serialize for Codes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Console => serializer.serialize_str("console"),
            Self::Folder => serializer.serialize_str("folder"),
            Self::Channels(channels) => channels.serialize(serializer),
        }
    }
}

/// A word or a table: not serde's `untagged`, whose errors would not say which field is wrong.
impl<'de> Deserialize<'de> for Codes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrTable;

        impl<'de> Visitor<'de> for WordOrTable {
            type Value = Codes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"console\", \"folder\" or a table")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Codes, E> {
                match word {
                    "console" => Ok(Codes::Console),
                    "folder" => Ok(Codes::Folder),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Codes, A::Error> {
                Channels::deserialize(MapAccessDeserializer::new(map)).map(|c| Codes::Channels(Box::new(c)))
            }
        }

        deserializer.deserialize_any(WordOrTable)
    }
}

impl Codes {
    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// What to mend.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Console | Self::Folder => Ok(()),
            Self::Channels(channels) => channels.check().map_err(|what| format!("codes: {what}")),
        }
    }

    /// What is in effect, in one line.
    pub fn describe(&self) -> String {
        match self {
            Self::Console => "every code to the console (development)".to_owned(),
            Self::Folder => "every code to a folder (development)".to_owned(),
            Self::Channels(channels) => {
                let served = channels.by_channel().into_iter();
                let served: Vec<String> = served.filter_map(|(c, s)| s.map(|s| format!("{c} by {s:?}"))).collect();
                served.join(", ").to_lowercase()
            }
        }
    }

    /// The ways that codes take, as the policy document names them: what is served for development is named after that.
    pub fn channels(&self) -> Vec<&'static str> {
        let mut ways = match self {
            Self::Console => vec!["console"],
            Self::Folder => vec!["folder"],
            Self::Channels(channels) => channels.by_channel().into_iter().filter_map(|(c, s)| way(c, s?)).collect(),
        };
        ways.sort_unstable();
        ways.dedup();
        ways
    }

    /// Reads the key, the password and the authority that are named.
    ///
    /// # Errors
    /// [`ConfigError`] with the file.
    pub fn load_secrets(&self, dir: &Path) -> Result<CodeSecrets, ConfigError> {
        let Self::Channels(channels) = self else { return Ok(CodeSecrets::default()) };
        let gateway = channels.gateway.as_ref().map(|g| {
            let path = dir.join(&g.key_file);
            keyfile::load(&path).map_err(|e| ConfigError::new(&path, e))
        });
        let password = channels.smtp.as_ref().and_then(|s| s.password_file.as_ref()).map(|name| {
            let path = dir.join(name);
            read_password(&path).map_err(|e| ConfigError::new(&path, e))
        });
        let ca = channels.smtp.as_ref().and_then(|s| s.ca_file.as_ref()).map(|name| {
            let path = dir.join(name);
            let read = durable::read(&path, CA_BYTES_MAX).map_err(|e| ConfigError::new(&path, e))?;
            read.ok_or_else(|| ConfigError::new(&path, "there is no such file"))
        });
        let (gateway, smtp_password, smtp_ca) = (gateway.transpose()?, password.transpose()?, ca.transpose()?);
        Ok(CodeSecrets { gateway, smtp_password, smtp_ca, roots: ExtraRoots::default() })
    }
}

/// What `[codes]` names and does not hold.
#[derive(Clone, Default)]
pub struct CodeSecrets {
    gateway: Option<Zeroizing<[u8; 32]>>,
    smtp_password: Option<Zeroizing<String>>,
    smtp_ca: Option<Vec<u8>>,
    /// Whose certificates are believed besides, when the gateway is called. Not in `[codes]`: the environment says.
    pub roots: ExtraRoots,
}

fn way(channel: Channel, sender: SenderName) -> Option<&'static str> {
    Some(match sender {
        SenderName::Console => "console",
        SenderName::Folder => "folder",
        SenderName::Smtp | SenderName::Gateway => channel.name(),
    })
}

fn read_password(path: &Path) -> io::Result<Zeroizing<String>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let bytes = durable::read(path, PASSWORD_BYTES_MAX)?.ok_or(io::ErrorKind::NotFound)?;
    let text = Zeroizing::new(String::from_utf8(bytes).map_err(|_| invalid("the password is not UTF-8"))?);
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        return Err(invalid("others can read it; its mode must be 0600"));
    }
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

impl Channels {
    /// In the order of [`Channel::ALL`].
    fn by_channel(&self) -> [(Channel, Option<SenderName>); 3] {
        [(Channel::Sms, self.sms), (Channel::Voice, self.voice), (Channel::Email, self.email)]
    }

    fn is_used(&self, sender: SenderName) -> bool {
        self.by_channel().iter().any(|(_, s)| *s == Some(sender))
    }

    fn check(&self) -> Result<(), String> {
        let served = self.by_channel();
        if served.iter().all(|(_, sender)| sender.is_none()) {
            return Err("no channel is served: name a sender for email, sms or voice".to_owned());
        }
        for (channel, sender) in served {
            let fits = match sender {
                Some(SenderName::Smtp) => channel == Channel::Email,
                Some(SenderName::Gateway) => channel != Channel::Email,
                _ => true,
            };
            if !fits {
                return Err(format!("{channel} cannot be served by that sender"));
            }
        }
        for (name, there, sender) in
            [("smtp", self.smtp.is_some(), SenderName::Smtp), ("gateway", self.gateway.is_some(), SenderName::Gateway)]
        {
            if there != self.is_used(sender) {
                return Err(format!("[codes.{name}] and a channel that it serves go together"));
            }
        }
        self.tel_default()?;
        if self.link_url.as_ref().is_some_and(|url| !is_https_or_loopback(url)) {
            return Err("link_url is https, or http to a loopback address".to_owned());
        }
        self.smtp.as_ref().map_or(Ok(()), SmtpFile::check)?;
        self.gateway.as_ref().map_or(Ok(()), GatewayFile::check)?;
        self.incoming.as_ref().map_or(Ok(()), IncomingFile::check)?;
        self.budget.check()
    }

    /// The channel of phone numbers where the app names none.
    fn tel_default(&self) -> Result<Channel, String> {
        match (self.default_for_numbers, self.sms.is_some(), self.voice.is_some()) {
            (Some(Channel::Sms), true, _) | (None, true, false) | (None, false, false) => Ok(Channel::Sms),
            (Some(Channel::Voice), _, true) | (None, false, true) => Ok(Channel::Voice),
            (None, true, true) => {
                Err("sms and voice are served: default_for_numbers says which comes first".to_owned())
            }
            (Some(_), ..) => Err("default_for_numbers is not a channel that is served for numbers".to_owned()),
        }
    }
}

/// What possession is proved with: senders, limits, where links lead.
pub struct Proving {
    /// Who serves which channel.
    pub senders: Senders,
    /// How many codes; `None` where nothing is sent.
    pub limits: Option<Limits>,
    /// What links begin with.
    pub link_url: String,
    /// Where people send to, and what came in.
    pub incoming: Incoming,
}

impl Proving {
    /// Builds what a checked configuration says. `own_url` is where this program listens.
    ///
    /// # Errors
    /// [`ConfigError`]: the folder for codes, or what [`Codes::check`] would say.
    pub fn new(
        codes: &Codes,
        secrets: &CodeSecrets,
        dir: &Path,
        own_url: String,
        clock: &Clock,
    ) -> Result<Self, ConfigError> {
        codes.check().map_err(|what| ConfigError::new(dir, what))?;
        let one = |name| build(name, None, secrets, dir, clock).map(Senders::one);
        match codes {
            Codes::Console | Codes::Folder => {
                let name = if *codes == Codes::Console { SenderName::Console } else { SenderName::Folder };
                let (senders, incoming) = (one(name)?, Incoming::development(dir));
                Ok(Self { senders, limits: None, link_url: own_url, incoming })
            }
            Codes::Channels(channels) => {
                let of = |sender: Option<SenderName>| {
                    sender.map(|name| build(name, Some(channels), secrets, dir, clock)).transpose()
                };
                let by_channel = [of(channels.sms)?, of(channels.voice)?, of(channels.email)?];
                let tel_default = channels.tel_default().map_err(|what| ConfigError::new(dir, what))?;
                let link_url = channels.link_url.clone().unwrap_or(own_url).trim_end_matches('/').to_owned();
                let limits = Some(channels.budget.clone());
                let incoming = Incoming::new(dir, channels.incoming.as_ref());
                Ok(Self { senders: Senders::new(by_channel, tel_default), limits, link_url, incoming })
            }
        }
    }
}

fn build(
    name: SenderName,
    channels: Option<&Channels>,
    secrets: &CodeSecrets,
    dir: &Path,
    clock: &Clock,
) -> Result<Arc<dyn Sender>, ConfigError> {
    let missing = || ConfigError::new(dir, "a sender of codes is named and not configured");
    Ok(match name {
        SenderName::Console => Arc::new(Console),
        SenderName::Folder => {
            let folder: PathBuf = dir.join(CODES_FOLDER);
            Arc::new(Folder::new(folder.clone()).map_err(|e| ConfigError::new(&folder, e))?)
        }
        SenderName::Smtp => {
            let file = channels.and_then(|c| c.smtp.as_ref()).ok_or_else(missing)?;
            let password = secrets.smtp_password.as_ref().map(|p| p.as_str());
            Arc::new(
                Smtp::new(file, password, secrets.smtp_ca.as_deref(), clock.clone())
                    .map_err(|what| ConfigError::new(dir, what))?,
            )
        }
        SenderName::Gateway => {
            let file = channels.and_then(|c| c.gateway.clone()).ok_or_else(missing)?;
            let key = secrets.gateway.clone().ok_or_else(missing)?;
            Arc::new(Gateway::new(file, key, &secrets.roots, clock.clone()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Config {
        codes: Codes,
    }

    fn parse(text: &str) -> Result<Codes, String> {
        let config: Config = toml::from_str(text).map_err(|e| e.to_string())?;
        // What is written is read again as it was.
        assert_eq!(toml::from_str::<Config>(&toml::to_string_pretty(&config).unwrap()).unwrap(), config);
        config.codes.check().map(|()| config.codes)
    }

    const SMTP: &str =
        "[codes.smtp]\nhost = \"mail.example\"\nport = 465\nsecurity = \"tls\"\nfrom = \"c@dp.example\"\n";
    const GATEWAY: &str = "[codes.gateway]\nurl = \"https://gateway.example\"\nkey_file = \"keys/gateway.key\"\n";

    #[test]
    fn words_and_tables_are_read() {
        assert_eq!(parse("codes = \"console\""), Ok(Codes::Console));
        assert_eq!(parse("codes = \"folder\""), Ok(Codes::Folder));
        let text =
            format!("[codes]\nemail = \"smtp\"\nsms = \"gateway\"\n{SMTP}{GATEWAY}[codes.budget]\ncsi_day = 7\n");
        let Codes::Channels(channels) = parse(&text).unwrap() else { panic!("a table") };
        assert_eq!((channels.budget.csi_day, channels.tel_default()), (7, Ok(Channel::Sms)));
        assert_eq!(Codes::Channels(channels).describe(), "sms by gateway, email by smtp");
        let by_voice = format!("[codes]\nvoice = \"gateway\"\n{GATEWAY}");
        let Codes::Channels(channels) = parse(&by_voice).unwrap() else { panic!("a table") };
        assert_eq!(channels.tel_default(), Ok(Channel::Voice));
    }

    #[test]
    fn contradictions_are_refused() {
        let both = "sms = \"gateway\"\nvoice = \"gateway\"\n";
        for (text, says) in [
            ("codes = \"pigeon\"".to_owned(), "console"),
            ("[codes]\nsmoke = \"gateway\"".to_owned(), "unknown field"),
            ("[codes]\n".to_owned(), "no channel"),
            ("[codes]\nemail = \"smtp\"\n".to_owned(), "go together"),
            (format!("[codes]\nsms = \"folder\"\n{SMTP}"), "go together"),
            (format!("[codes]\nsms = \"smtp\"\n{SMTP}"), "cannot be served"),
            (format!("[codes]\nemail = \"gateway\"\n{GATEWAY}"), "cannot be served"),
            (format!("[codes]\n{both}{GATEWAY}"), "which comes first"),
            (format!("[codes]\n{both}default_for_numbers = \"email\"\n{GATEWAY}"), "default_for_numbers"),
            (format!("[codes]\nsms = \"gateway\"\ndefault_for_numbers = \"voice\"\n{GATEWAY}"), "default_for_numbers"),
            (format!("[codes]\nemail = \"smtp\"\nlink_url = \"http://dp.example\"\n{SMTP}"), "link_url"),
            (format!("[codes]\nemail = \"smtp\"\n{}", SMTP.replace("\"tls\"", "\"none\"")), "loopback"),
            (format!("[codes]\nsms = \"gateway\"\n{}", GATEWAY.replace("https", "http")), "loopback"),
            ("[codes]\nsms = \"folder\"\n[codes.incoming]\nsms = \"0151\"\n".to_owned(), "incoming: sms"),
            ("[codes]\nsms = \"folder\"\n[codes.incoming]\n".to_owned(), "incoming: name"),
            ("[codes]\nsms = \"folder\"\n[codes.budget]\ncsi_day = 1\n".to_owned(), "csi_hour"),
            ("[codes]\nsms = \"folder\"\n[codes.budget]\ncsi_days = 1\n".to_owned(), "unknown field"),
        ] {
            let refused = parse(&text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }

    #[test]
    fn secrets_are_files_that_nobody_else_reads() {
        let dir = tempfile::tempdir().unwrap();
        let smtp = format!("{SMTP}user = \"dp\"\npassword_file = \"smtp.password\"\n");
        let codes = parse(&format!("[codes]\nemail = \"smtp\"\n{smtp}")).unwrap();
        assert!(codes.load_secrets(dir.path()).is_err());
        let path = dir.path().join("smtp.password");
        fs::write(&path, "secret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(codes.load_secrets(dir.path()).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let secrets = codes.load_secrets(dir.path()).unwrap();
        assert_eq!(secrets.smtp_password.as_ref().map(|p| p.as_str()), Some("secret"));
        let built =
            Proving::new(&codes, &secrets, dir.path(), "http://127.0.0.1:1".to_owned(), &Clock::System).unwrap();
        assert!(built.senders.of(Channel::Email).unwrap().carries_links());
        assert!(built.senders.of(Channel::Sms).is_none());
    }
}
