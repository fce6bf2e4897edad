//! Makes the input of an import: people who do not exist, each with a mapping that they have signed, a proof of possession
//! and the MSP's consent.
//!
//! ```text
//! cargo run --release --example import_lines -- DP_FOLDER MSP_FOLDER COUNT > people.jsonl
//! ```
//!
//! Possession is attested with the DP's own prover key, from its folder: for measuring only. In life the recipient's app
//! makes the change, and has it attested by a prover that has sent a code.

use std::{
    io::{BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use data_encoding::BASE64;
use waymark::{
    api::{ChangeRequest, OfferedConsent},
    config::Settings,
    msp,
};
use waymark_log::{checkpoint::Origin, hash::Hash, key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    commitment::{Salt, blind},
    event::{Event, EventKind, EventTbs},
    identifier::Csi,
    mapping::{Attestation, Consent, MAPPING_LIFETIME_MS_MAX, Mapping, Method, Purpose, Tags},
    names::{Account, Domain, Region, Tag},
    signed::{SignedStruct, UNSIGNED},
    wire::{Format, List24, Opaque8, encode},
};
use waymark_runtime::{clock::Clock, keyfile, random};

/// How long a proof of possession is good for.
const ATTESTATION_MS: u64 = 3_600_000;

/// Who signs for whom.
pub struct Signers {
    origin: Origin,
    prover: (Domain, SecretKey),
    msp: (Domain, SecretKey),
    now: UnixMillis,
}

impl Signers {
    /// Reads the keys of a DP and an MSP from their folders.
    pub fn load(dp: &Path, msp: &Path, now: UnixMillis) -> anyhow::Result<Self> {
        let settings = Settings::load(dp)?;
        let (domain, origin) = msp::identity(msp)?;
        let key = SecretKey::from_seed(&*keyfile::load(&msp.join(msp::keys::KEY))?);
        Ok(Self { origin, prover: (settings.domain, settings.prover), msp: (domain, key), now })
    }

    /// The log that it is for.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The number of one of the people.
    pub fn csi(index: u64) -> Csi {
        Csi::parse(&format!("tel:+4915{index:09}")).expect("a number of thirteen digits")
    }

    /// A line of the input: this person registers.
    pub fn line(&self, index: u64) -> String {
        format!("{{\"change\":\"{}\"}}", BASE64.encode(&encode(&self.change(index))))
    }

    /// The change in it.
    pub fn change(&self, index: u64) -> ChangeRequest {
        let recipient = SecretKey::from_seed(&random::bytes());
        let mapping = self.mapping(Self::csi(index), &recipient, index);
        let salt = Salt(random::bytes());
        let mut consent = Consent {
            format: Format,
            msp: self.msp.0.clone(),
            msp_key: self.msp.1.public(),
            blinded: blind(&salt, &encode(&mapping)),
            expiry: Consent::expiry_of(self.now),
            sig: UNSIGNED,
        };
        consent.sign(&self.origin, &self.msp.1);
        let tbs = EventTbs {
            format: Format,
            kind: EventKind::Issue,
            csi: mapping.csi.clone(),
            tenure: 0,
            version: 0,
            previous: Hash::ZERO,
            added: List24::new(vec![mapping.digest()]).expect("one digest"),
            removed: List24::empty(),
            reason: 0,
            time: self.now,
            nonce: random::bytes(),
        };
        let authority = tbs.sign_as_recipient(&self.origin, &recipient, None);
        let fits = "one of each";
        ChangeRequest {
            event: Event { tbs, authorities: List24::new(vec![authority]).expect(fits) },
            added: List24::new(vec![mapping]).expect(fits),
            consents: List24::new(vec![OfferedConsent { index: 0, consent, salt }]).expect(fits),
        }
    }

    fn mapping(&self, csi: Csi, recipient: &SecretKey, index: u64) -> Mapping {
        let mut attestation = Attestation {
            format: Format,
            csi: csi.clone(),
            recipient: recipient.public(),
            tenure: 0,
            purpose: Purpose::Control,
            method: Method::CONSOLE,
            prover: self.prover.0.clone(),
            prover_key: self.prover.1.public(),
            time: self.now,
            expiry: self.now.plus_ms(ATTESTATION_MS),
            nonce: random::bytes(),
            sig: UNSIGNED,
        };
        attestation.sign(&self.origin, &self.prover.1);
        let tag = Tag::parse(Tag::DEFAULT).expect("a reserved word");
        let mut mapping = Mapping {
            format: Format,
            csi,
            tenure: 0,
            recipient: recipient.public(),
            msp: self.msp.0.clone().into(),
            account: Account::parse(&format!("mimi://{}/u/{index}", self.msp.0)).expect("a short account"),
            fingerprint: Opaque8::new([]).expect("no bytes"),
            tags: Tags::shown(vec![tag]).expect("one tag"),
            not_before: self.now,
            not_after: self.now.plus_ms(MAPPING_LIFETIME_MS_MAX).floor_day(),
            region: Region::ANY,
            attestation,
            sig: UNSIGNED,
        };
        mapping.sign(&self.origin, recipient);
        mapping
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [dp, msp, count] = arguments else { anyhow::bail!("usage: import_lines DP_FOLDER MSP_FOLDER COUNT") };
    let signers = Signers::load(Path::new(dp), Path::new(msp), Clock::System.now())?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for index in 0..count.parse()? {
        writeln!(out, "{}", signers.line(index))?;
    }
    Ok(out.flush()?)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
