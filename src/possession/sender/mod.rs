//! How a code leaves: one trait, and which sender serves which channel.
//!
//! | sender | channels | method in the attestation |
//! |---|---|---|
//! | [`smtp`] | e-mail, with a link | 3 a code by e-mail, 5 its link |
//! | [`gateway`] | SMS, voice | 1, 2 |
//! | [`development`]: console, folder | any | 4: proves nothing about a phone or a mailbox |
//!
//! What a sender says of a failure names no identifier: servers like to repeat the address in what they answer.

pub mod development;
pub mod gateway;
pub mod smtp;

use std::{fmt, pin::Pin, sync::Arc};

use serde::{Deserialize, Serialize};
use waymark_log::time::UnixMillis;
use waymark_mapping::{
    identifier::{Csi, Scheme},
    mapping::{Method, Purpose},
};

use super::ChallengeId;

/// The way that a code takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// A text message.
    Sms,
    /// A call in which the code is spoken.
    Voice,
    /// An e-mail.
    Email,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sms, Self::Voice, Self::Email];

    /// What kind of identifier it reaches.
    pub const fn scheme(self) -> Scheme {
        match self {
            Self::Sms | Self::Voice => Scheme::Tel,
            Self::Email => Scheme::Mailto,
        }
    }

    /// Its name in requests and configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Voice => "voice",
            Self::Email => "email",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A code on its way. It names the CSI, so it cannot be printed.
#[derive(Clone)]
pub struct Message {
    /// Which challenge.
    pub id: ChallengeId,
    /// To whom.
    pub to: Csi,
    /// By which way.
    pub channel: Channel,
    /// Who asks for proof, in words.
    pub prover: String,
    /// What the proof is for.
    pub purpose: Purpose,
    /// Six digits.
    pub code: String,
    /// For senders that carry links.
    pub link: Option<String>,
    /// The first, second, ... send of this challenge.
    pub send: u8,
    /// Until when the code works: nothing is delivered after it.
    pub expiry: UnixMillis,
}

/// A code could not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sender}: {what}")]
pub struct SenderError {
    /// Which sender.
    pub sender: &'static str,
    /// What happened; never what a server said.
    pub what: &'static str,
    /// Whether another try is useless.
    pub is_final: bool,
}

/// A delivery.
pub type Delivery<'a> = Pin<Box<dyn Future<Output = Result<(), SenderError>> + Send + 'a>>;

/// Delivers codes.
pub trait Sender: Send + Sync {
    /// Delivers a code to the holder of the CSI: one try.
    fn deliver<'a>(&'a self, message: &'a Message) -> Delivery<'a>;

    /// How possession is shown by a code that comes this way.
    fn method(&self, channel: Channel) -> Method;

    /// Whether it stays on this machine. Then the code is there when the challenge is; else nobody waits for the delivery,
    /// whose duration and outcome could tell who exists.
    fn is_local(&self) -> bool {
        false
    }

    /// Whether it carries a link besides the code.
    fn carries_links(&self) -> bool {
        false
    }

    /// The challenge is over.
    fn forget(&self, _id: &ChallengeId) {}
}

/// Which sender serves which channel.
#[derive(Clone)]
pub struct Senders {
    /// In the order of [`Channel::ALL`].
    by_channel: [Option<Arc<dyn Sender>>; 3],
    tel_default: Channel,
}

impl Senders {
    /// `by_channel` are those of [`Channel::ALL`]; `tel_default` serves phone numbers unless a request says otherwise.
    pub fn new(by_channel: [Option<Arc<dyn Sender>>; 3], tel_default: Channel) -> Self {
        Self { by_channel, tel_default }
    }

    /// One sender for everything.
    pub fn one(sender: Arc<dyn Sender>) -> Self {
        Self::new([Some(Arc::clone(&sender)), Some(Arc::clone(&sender)), Some(sender)], Channel::Sms)
    }

    /// The channel for an identifier, and its sender; `None` if it is not served or does not reach this kind of identifier.
    pub fn route(&self, csi: &Csi, asked: Option<Channel>) -> Option<(Channel, Arc<dyn Sender>)> {
        let channel = asked.unwrap_or(match csi.scheme() {
            Scheme::Tel => self.tel_default,
            Scheme::Mailto => Channel::Email,
        });
        if channel.scheme() != csi.scheme() {
            return None;
        }
        self.of(channel).map(|sender| (channel, sender))
    }

    /// The sender of a channel.
    pub fn of(&self, channel: Channel) -> Option<Arc<dyn Sender>> {
        let (_, sender) = Channel::ALL.iter().zip(&self.by_channel).find(|(c, _)| **c == channel)?;
        sender.clone()
    }
}
