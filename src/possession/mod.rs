//! Proving possession of a CSI by a code: start, deliver, check, attest.
//!
//! A challenge lives 10 minutes, allows 5 checks, works once, and is bound to recipient key, CSI, purpose and tenure. The
//! answer to "start" is the same whether the CSI is known or not. Codes are kept as keyed digests and compared in constant
//! time; they leave the DP through a [`sender`] only.

pub mod sender;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use waymark_log::{
    checkpoint::Origin,
    key::{Key, SecretKey},
    time::UnixMillis,
};
use waymark_mapping::{
    identifier::Csi,
    mapping::{Attestation, Purpose},
    names::Domain,
    signed::{SignedStruct, UNSIGNED},
};
use waymark_runtime::random;

use self::sender::{Sender, SenderError};

/// How long a code works.
pub const CHALLENGE_MS: u64 = 10 * 60 * 1000;
/// Checks that a challenge allows: with six digits, a guesser succeeds once in 200,000 challenges.
pub const CHECKS_MAX: u8 = 5;
/// How long an attestation may be used for a change.
pub const ATTESTATION_MS: u64 = 60 * 60 * 1000;
/// Most challenges at a time, some 300 bytes each.
pub const CHALLENGES_MAX: usize = 100_000;
/// Strength of a code over a channel that others may read.
const STRENGTH_CODE: u8 = 1;

/// Names a challenge.
pub type ChallengeId = [u8; 16];

/// What a challenge is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The identifier.
    pub csi: Csi,
    /// The key that claims it.
    pub recipient: Key,
    /// In which tenure.
    pub tenure: u32,
    /// For what.
    pub purpose: Purpose,
}

/// Why possession is not proved.
#[derive(Debug, thiserror::Error)]
pub enum PossessionError {
    /// No such challenge, or it is over, or it is another key's.
    #[error("there is no such challenge, or it is over")]
    NoChallenge,
    /// The code is wrong.
    #[error("the code is wrong; {checks_left} checks are left")]
    WrongCode {
        /// Checks that are left.
        checks_left: u8,
    },
    /// Too many challenges.
    #[error("too many challenges are open")]
    Busy,
    /// The code could not be delivered.
    #[error(transparent)]
    Sender(#[from] SenderError),
}

struct Challenge {
    claim: Claim,
    /// BLAKE3 keyed hash of the code.
    digest: blake3::Hash,
    expiry: UnixMillis,
    checks_left: u8,
}

/// Challenges and the prover's key.
pub struct Possession {
    challenges: Mutex<HashMap<ChallengeId, Challenge>>,
    /// Drawn at the start: digests of codes mean nothing elsewhere.
    digest_key: [u8; 32],
    sender: Arc<dyn Sender>,
    domain: Domain,
    secret: SecretKey,
    origin: Origin,
}

impl Possession {
    /// A prover with no challenges.
    pub fn new(sender: Arc<dyn Sender>, domain: Domain, secret: SecretKey, origin: Origin) -> Self {
        let challenges = Mutex::new(HashMap::new());
        Self { challenges, digest_key: random::bytes(), sender, domain, secret, origin }
    }

    /// Starts a challenge and sends its code.
    ///
    /// # Errors
    /// [`PossessionError`].
    pub fn start(&self, claim: Claim, now: UnixMillis) -> Result<(ChallengeId, UnixMillis), PossessionError> {
        let id: ChallengeId = random::bytes();
        let code = format!("{:06}", random::below(1_000_000));
        let expiry = now.plus_ms(CHALLENGE_MS);
        {
            let mut challenges = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
            if challenges.len() >= CHALLENGES_MAX {
                challenges.retain(|_, c| now < c.expiry);
            }
            if challenges.len() >= CHALLENGES_MAX {
                return Err(PossessionError::Busy);
            }
            let digest = self.digest(&id, &code);
            challenges.insert(id, Challenge { claim: claim.clone(), digest, expiry, checks_left: CHECKS_MAX });
        }
        self.sender.send(&id, &claim.csi, &code)?;
        Ok((id, expiry))
    }

    /// Checks a code for the key that started the challenge.
    ///
    /// # Errors
    /// [`PossessionError`]; a wrong code costs one check, and the fifth ends the challenge.
    pub fn check(
        &self,
        id: &ChallengeId,
        recipient: &Key,
        code: &str,
        now: UnixMillis,
    ) -> Result<Attestation, PossessionError> {
        let claim = {
            let mut challenges = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
            let challenge = challenges.get_mut(id).filter(|c| c.claim.recipient == *recipient && now < c.expiry);
            let challenge = challenge.ok_or(PossessionError::NoChallenge)?;
            // blake3::Hash compares in constant time.
            if self.digest(id, code) != challenge.digest {
                challenge.checks_left -= 1;
                let checks_left = challenge.checks_left;
                if checks_left == 0 {
                    challenges.remove(id);
                }
                return Err(PossessionError::WrongCode { checks_left });
            }
            // Single use.
            challenges.remove(id).map(|c| c.claim).ok_or(PossessionError::NoChallenge)?
        };
        self.sender.forget(id);
        Ok(self.attest(claim, now))
    }

    fn attest(&self, claim: Claim, now: UnixMillis) -> Attestation {
        let mut attestation = Attestation {
            csi: claim.csi,
            recipient: claim.recipient,
            tenure: claim.tenure,
            purpose: claim.purpose,
            method: self.sender.method(),
            strength: STRENGTH_CODE,
            prover: self.domain.clone(),
            prover_key: self.secret.public(),
            time: now,
            expiry: now.plus_ms(ATTESTATION_MS),
            nonce: random::bytes(),
            sig: UNSIGNED,
        };
        attestation.sign(&self.origin, &self.secret);
        attestation
    }

    fn digest(&self, id: &ChallengeId, code: &str) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.digest_key);
        hasher.update(id).update(code.as_bytes());
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use waymark_mapping::mapping::Method;

    use super::*;

    /// Keeps the last code, as a phone would show it.
    #[derive(Default)]
    struct Phone(Mutex<String>);

    impl Sender for Phone {
        fn send(&self, _: &ChallengeId, _: &Csi, code: &str) -> Result<(), SenderError> {
            *self.0.lock().unwrap() = code.to_owned();
            Ok(())
        }

        fn method(&self) -> Method {
            Method::SMS
        }
    }

    fn ms(n: u64) -> UnixMillis {
        UnixMillis::new(n)
    }

    fn setup() -> (Arc<Phone>, Possession, Claim) {
        let phone = Arc::new(Phone::default());
        let origin = Origin::new("dp.example/log").unwrap();
        let secret = SecretKey::from_seed(&[1; 32]);
        let possession = Possession::new(phone.clone(), Domain::parse("dp.example").unwrap(), secret, origin);
        let recipient = SecretKey::from_seed(&[2; 32]).public();
        let csi = Csi::parse("tel:+4915112345642").unwrap();
        (phone, possession, Claim { csi, recipient, tenure: 0, purpose: Purpose::Control })
    }

    #[test]
    fn the_right_code_works_once() {
        let (phone, possession, claim) = setup();
        let (id, expiry) = possession.start(claim.clone(), ms(1000)).unwrap();
        assert_eq!(expiry, ms(1000 + CHALLENGE_MS));
        let code = phone.0.lock().unwrap().clone();
        let other = SecretKey::from_seed(&[3; 32]).public();
        assert!(matches!(possession.check(&id, &other, &code, ms(1001)), Err(PossessionError::NoChallenge)));
        let attestation = possession.check(&id, &claim.recipient, &code, ms(1002)).unwrap();
        let origin = Origin::new("dp.example/log").unwrap();
        attestation.verify(&origin).unwrap();
        assert_eq!(
            (attestation.recipient, attestation.method, attestation.time),
            (claim.recipient, Method::SMS, ms(1002))
        );
        assert!(matches!(possession.check(&id, &claim.recipient, &code, ms(1003)), Err(PossessionError::NoChallenge)));
    }

    #[test]
    fn five_wrong_codes_end_it_and_so_does_time() {
        let (phone, possession, claim) = setup();
        let (id, _) = possession.start(claim.clone(), ms(0)).unwrap();
        let code = phone.0.lock().unwrap().clone();
        let wrong = if code == "000000" { "000001" } else { "000000" };
        for left in (0..CHECKS_MAX).rev() {
            let refused = possession.check(&id, &claim.recipient, wrong, ms(1));
            assert!(matches!(refused, Err(PossessionError::WrongCode { checks_left }) if checks_left == left));
        }
        assert!(matches!(possession.check(&id, &claim.recipient, &code, ms(1)), Err(PossessionError::NoChallenge)));
        let (id, expiry) = possession.start(claim.clone(), ms(0)).unwrap();
        let code = phone.0.lock().unwrap().clone();
        assert!(matches!(possession.check(&id, &claim.recipient, &code, expiry), Err(PossessionError::NoChallenge)));
    }
}
