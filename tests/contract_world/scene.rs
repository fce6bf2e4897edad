//! A DP whose prover's key the tests hold, and requests to it that are as good as they can be.

use std::net::SocketAddr;

use waymark::{
    api::{ChangeRequest, HistoryRequest, join_import},
    client::recipient::{Added, revocation},
    config::Settings,
};
use waymark_log::{checkpoint::Origin, hash::Hash, key::SecretKey};
use waymark_mapping::{
    event::{ANY_VERSION, Event, EventKind},
    identifier::Csi,
    mapping::{Attestation, Mapping, Method, Purpose},
    names::Domain,
    signed::{SignedStruct, UNSIGNED},
    wire::{Format, encode},
};
use waymark_runtime::{clock::Clock, random};

use super::book::{Answer, Book, Call};
use crate::common::{self, LOUD, QUIET, Stage, csi, key, request, shown, with_consent};

/// A DP, and the book in which its answers are written.
pub struct Scene<'a> {
    pub book: &'a Book,
    pub stage: Stage,
    pub prover: (Domain, SecretKey),
}

impl<'a> Scene<'a> {
    pub async fn new(book: &'a Book, adjust: impl FnOnce(&mut Settings)) -> Self {
        Self::of(book, Stage::with(1, &Clock::System, adjust).await)
    }

    pub fn of(book: &'a Book, stage: Stage) -> Self {
        let settings = Settings::load(&stage.root.path().join("dp")).unwrap();
        Self { book, stage, prover: (settings.domain, settings.prover) }
    }

    pub fn to(&self) -> SocketAddr {
        self.stage.dp.address()
    }

    pub fn origin(&self) -> &Origin {
        &self.stage.origin
    }

    pub async fn send(&self, call: Call) -> Answer {
        self.book.send(self.to(), call).await
    }

    /// Sends a request that is not signed.
    pub async fn plain(&self, id: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send(Call::new(id, body)).await
    }

    /// Sends a request that a recipient key has signed.
    pub async fn by(&self, secret: &SecretKey, id: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send(Call::new(id, body).by(self.origin(), secret)).await
    }

    /// Sends a change, signed by one of its signers.
    pub async fn change(&self, secret: &SecretKey, request: &ChangeRequest) -> Answer {
        self.by(secret, "change", encode(request)).await
    }

    pub async fn revoke(&self, token: &Event) -> Answer {
        self.plain("revoke", encode(token)).await
    }

    pub fn token(&self, secret: &SecretKey, who: &Csi) -> Event {
        revocation(self.origin(), secret, who, 0, Clock::System.now())
    }

    /// Possession as the DP would attest it.
    pub fn attestation(&self, secret: &SecretKey, who: &Csi, tenure: u32) -> Attestation {
        attestation(self.origin(), (&self.prover.0, &self.prover.1), secret, who, tenure)
    }

    pub fn mapping(&self, secret: &SecretKey, who: &Csi, msp: &str, tag: &str) -> Mapping {
        common::mapping(self.origin(), secret, &self.attestation(secret, who, 0), msp, shown(tag))
    }

    /// A change over what stands now.
    pub async fn over(
        &self,
        who: &Csi,
        kind: EventKind,
        added: &[Added],
        removed: &[Hash],
        signers: &[(&SecretKey, Option<Attestation>)],
    ) -> ChangeRequest {
        let current = self.stage.look_up(who, None).await;
        request(self.origin(), &current, who, kind, added, removed, signers)
    }

    pub async fn issue(&self, secret: &SecretKey, who: &Csi, msp: &str) -> (Added, ChangeRequest) {
        let added = with_consent(self.origin(), self.mapping(secret, who, msp, "default"));
        let one = std::slice::from_ref(&added);
        let change = self.over(who, EventKind::Issue, one, &[], &[(secret, None)]).await;
        (added, change)
    }

    /// Lists somebody, at the MSP whose consents are in the log.
    pub async fn list(&self, secret: &SecretKey, who: &Csi) -> Added {
        let (added, change) = self.issue(secret, who, LOUD).await;
        self.change(secret, &change).await.well(200);
        added
    }
}

pub fn attestation(
    origin: &Origin,
    (domain, prover): (&Domain, &SecretKey),
    secret: &SecretKey,
    who: &Csi,
    tenure: u32,
) -> Attestation {
    let now = Clock::System.now();
    let mut attestation = Attestation {
        format: Format,
        csi: who.clone(),
        recipient: secret.public(),
        tenure,
        purpose: Purpose::Control,
        method: Method::CONSOLE,
        prover: domain.clone(),
        prover_key: prover.public(),
        time: now,
        expiry: now.plus_ms(3_600_000),
        nonce: random::bytes(),
        sig: UNSIGNED,
    };
    attestation.sign(origin, prover);
    attestation
}

/// A body for an operation that is good until somebody looks at who signed it, or at what stands.
pub fn body_for(id: &str, origin: &Origin, secret: &SecretKey) -> Vec<u8> {
    let who = csi(NOBODY);
    match id {
        "lookUp" => format!("{{\"log\":\"{origin}\",\"csi\":\"{NOBODY}\"}}").into_bytes(),
        "export" => format!("{{\"csi\":\"{NOBODY}\"}}").into_bytes(),
        "startChallenge" => format!("{{\"csi\":\"{NOBODY}\",\"purpose\":\"control\"}}").into_bytes(),
        "sendCode" | "checkCode" => b"{}".to_vec(),
        "confirmLink" => format!("{{\"secret\":\"{}\"}}", "0".repeat(32)).into_bytes(),
        "change" => {
            let (prover, as_prover) = (key("dp.example"), common::domain("dp.example"));
            let attested = attestation(origin, (&as_prover, &prover), secret, &who, 0);
            let added = [with_consent(origin, common::mapping(origin, secret, &attested, QUIET, shown("default")))];
            let seen = common::Seen::default();
            encode(&request(origin, seen, &who, EventKind::Issue, &added, &[], &[(secret, None)]))
        }
        "revoke" => encode(&revocation(origin, secret, &who, 0, Clock::System.now())),
        "history" => encode(&HistoryRequest { csi: who, version: ANY_VERSION }),
        "import" => join_import([&b"x"[..]]).unwrap(),
        _ => panic!("{id} has no body"),
    }
}

/// Whom nobody has listed.
pub const NOBODY: &str = "tel:+4915112345600";
