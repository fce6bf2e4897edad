//! Witnesses that come and go. What they have cosigned they never forget.

use waymark::store::LogFiles;
use waymark_log::{
    checkpoint::SignedCheckpoint,
    cosignature::Cosigner,
    note::{KeyName, Note, SignatureLine, Vkey},
    proof,
    time::UnixSeconds,
    witness::{AddCheckpoint, Head, decide},
};

use crate::common::key;

pub struct Witness {
    pub cosigner: Cosigner,
    pub is_there: bool,
    stored: Option<Head>,
}

impl Witness {
    pub fn new(name: &str) -> Self {
        let cosigner = Cosigner::new(KeyName::new(name).unwrap(), key(name));
        Self { cosigner, is_there: true, stored: None }
    }

    /// A cosignature on the signed head, if the witness is there: asked for as a DP does.
    pub fn cosign(
        &mut self,
        signed: &SignedCheckpoint,
        files: &LogFiles,
        log: &Vkey,
        now: UnixSeconds,
    ) -> Option<SignatureLine> {
        if !self.is_there {
            return None;
        }
        let old_size = self.stored.map_or(0, |h| h.size);
        assert!(old_size <= signed.size(), "a witness knows more than the DP has signed: the log went back");
        let proof = match old_size {
            0 => vec![],
            old => {
                let plan = proof::consistency(old, signed.size()).unwrap();
                plan.build(&files.hashes(&plan, signed.size()).unwrap()).unwrap()
            }
        };
        let note = Note::parse(signed.to_note(&[]).as_bytes()).unwrap();
        let request = AddCheckpoint { old_size, proof, note };
        let advance = decide(self.stored, &request, Some(std::slice::from_ref(log)))
            .unwrap_or_else(|refusal| panic!("a witness refuses an honest log: {refusal}"));
        self.stored = Some(advance.to);
        Some(self.cosigner.cosign(&signed.checkpoint().format(), now))
    }
}
