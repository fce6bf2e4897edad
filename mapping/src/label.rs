//! Labels: the only form in which an identifier ever appears in public.
//!
//! ```text
//! label(CSI, version)                       = VRF(opaque csi<0..255> | uint32 version)          KEYTRANS VrfInput
//! handle(CSI, version, tag, ordinal)        = first 8 bytes of
//!                                             VRF(0x00 | opaque context<1..255> | opaque csi<1..255>
//!                                                 | uint32 version | opaque tag<1..64> | uint8 ordinal)
//! ```
//!
//! Versions of one CSI have unrelated labels, so that nobody who was once told one can follow a person through the log.
//! A handle's input starts with a zero byte, which as a `VrfInput` would be the empty CSI, and is longer than that
//! input's five bytes: no handle is ever a label.

use std::fmt;

use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::{hash::Hash, key::Key};

use crate::{
    identifier::Csi,
    names::Tag,
    vrf::{self, BadVrfProof, VrfProof, VrfSecret},
    wire::encode,
};

/// The place of one version of one CSI in the map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Label(pub Hash);

/// What a hidden slot shows: 8 bytes that only somebody who presents the tag can have explained.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Handle(pub [u8; 8]);

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "label:{}", self.0.to_hex())
    }
}

const HANDLE_CONTEXT: &[u8] = b"waymark/1 tag";

/// KEYTRANS's `VrfInput`.
pub fn label_input(csi: &Csi, version: u32) -> Vec<u8> {
    let mut input = encode(csi);
    input.extend_from_slice(&version.to_be_bytes());
    input
}

/// The input for a handle.
fn handle_input(csi: &Csi, version: u32, tag: &Tag, ordinal: u8) -> Vec<u8> {
    let mut input = vec![0, HANDLE_CONTEXT.len() as u8];
    input.extend_from_slice(HANDLE_CONTEXT);
    input.extend(encode(csi));
    input.extend_from_slice(&version.to_be_bytes());
    input.extend(encode(tag));
    input.push(ordinal);
    input
}

/// Makes the label of a version.
pub fn prove_label(secret: &VrfSecret, csi: &Csi, version: u32) -> (VrfProof, Label) {
    let (proof, output) = secret.prove(&label_input(csi, version));
    (proof, Label(output))
}

/// Checks a label's proof.
///
/// # Errors
/// [`BadVrfProof`].
pub fn verify_label(public: &Key, csi: &Csi, version: u32, proof: &VrfProof) -> Result<Label, BadVrfProof> {
    vrf::verify(public, &label_input(csi, version), proof).map(Label)
}

/// Makes a handle.
pub fn prove_handle(secret: &VrfSecret, csi: &Csi, version: u32, tag: &Tag, ordinal: u8) -> (VrfProof, Handle) {
    let (proof, output) = secret.prove(&handle_input(csi, version, tag, ordinal));
    (proof, cut(&output))
}

/// Checks a handle's proof.
///
/// # Errors
/// [`BadVrfProof`].
pub fn verify_handle(
    public: &Key,
    csi: &Csi,
    version: u32,
    tag: &Tag,
    ordinal: u8,
    proof: &VrfProof,
) -> Result<Handle, BadVrfProof> {
    vrf::verify(public, &handle_input(csi, version, tag, ordinal), proof).map(|o| cut(&o))
}

fn cut(output: &Hash) -> Handle {
    let [a, b, c, d, e, f, g, h, ..] = *output.as_bytes();
    Handle([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_handles_prove_themselves_and_nothing_else() {
        let secret = VrfSecret::from_seed(&[4; 32]);
        let csi = Csi::parse("tel:+4915112345642").unwrap();
        let other = Csi::parse("tel:+4915112345643").unwrap();
        let (proof, label) = prove_label(&secret, &csi, 3);
        assert_eq!(verify_label(&secret.public(), &csi, 3, &proof), Ok(label));
        assert!(verify_label(&secret.public(), &csi, 4, &proof).is_err());
        assert!(verify_label(&secret.public(), &other, 3, &proof).is_err());

        let tag = Tag::parse("soccer").unwrap();
        let (proof, handle) = prove_handle(&secret, &csi, 3, &tag, 0);
        assert_eq!(verify_handle(&secret.public(), &csi, 3, &tag, 0, &proof), Ok(handle));
        assert!(verify_handle(&secret.public(), &csi, 3, &tag, 1, &proof).is_err());
        assert!(verify_handle(&secret.public(), &csi, 4, &tag, 0, &proof).is_err());
        assert!(verify_label(&secret.public(), &csi, 3, &proof).is_err());
    }
}
