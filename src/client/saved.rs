//! An answer kept in a file, so that anybody can verify it later, offline, with a trust file alone.
//!
//! ```text
//! opaque magic[16] = "waymark-answer/1" | OriginText origin | Csi csi | opaque tag<0..64> | Ms fetched | opaque answer<..2^32-1>
//! ```
//!
//! It names the CSI, since an answer is an answer to a question: such a file is for its owner's own disk (mode 0600).

use std::path::Path;

use tls_codec::{Deserialize, TlsByteVecU32, TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::time::UnixMillis;
use waymark_mapping::{
    entry::OriginText,
    identifier::Csi,
    names::Tag,
    verify::Asked,
    wire::{Opaque8, Undecoded, encode},
};
use waymark_runtime::durable;

const MAGIC: &[u8; 16] = b"waymark-answer/1";

#[derive(TlsSize, TlsSerialize, TlsDeserialize)]
struct Wire {
    magic: [u8; 16],
    origin: OriginText,
    csi: Csi,
    tag: Opaque8<0, 64>,
    fetched: UnixMillis,
    answer: TlsByteVecU32,
}

/// A question, when it was asked, and the answer's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedAnswer {
    /// What was asked.
    pub asked: Asked,
    /// When.
    pub fetched: UnixMillis,
    /// The answer, unverified.
    pub answer: Vec<u8>,
}

impl SavedAnswer {
    /// The file's bytes.
    ///
    /// # Panics
    /// Never: a tag has at most 64 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let tag = self.asked.tag.as_ref().map_or("", Tag::expose);
        encode(&Wire {
            magic: *MAGIC,
            origin: (&self.asked.origin).into(),
            csi: self.asked.csi.clone(),
            tag: Opaque8::new(tag).expect("a tag has at most 64 bytes"),
            fetched: self.fetched,
            answer: TlsByteVecU32::new(self.answer.clone()),
        })
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// [`Undecoded`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Undecoded> {
        let malformed = |what: &str| Undecoded::malformed("saved answer", what);
        let wire = Wire::tls_deserialize_exact(bytes).map_err(|_| malformed("it does not decode"))?;
        if wire.magic != *MAGIC {
            return Err(malformed("it is another kind of file"));
        }
        let tag = std::str::from_utf8(wire.tag.as_slice()).map_err(|_| malformed("the tag"))?;
        let tag = if tag.is_empty() { None } else { Some(Tag::parse(tag).ok_or_else(|| malformed("the tag"))?) };
        let answer = wire.answer.into_vec();
        let asked = Asked { origin: wire.origin.get(), csi: wire.csi, tag };
        Ok(Self { asked, fetched: wire.fetched, answer })
    }

    /// Writes the file, readable by its owner only, in place of whatever was there.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        durable::replace_private(path, &self.encode())
    }
}

#[cfg(test)]
mod tests {
    use waymark_log::checkpoint::Origin;

    use super::*;

    #[test]
    fn round_trips_and_refuses_other_files() {
        let csi = Csi::parse("tel:+4915112345642").unwrap();
        for tag in [None, Tag::parse("soccer")] {
            let saved = SavedAnswer {
                asked: Asked { origin: Origin::new("dp.example/log").unwrap(), csi: csi.clone(), tag },
                fetched: UnixMillis::new(5),
                answer: vec![7; 99],
            };
            assert_eq!(SavedAnswer::decode(&saved.encode()), Ok(saved.clone()));
            assert!(SavedAnswer::decode(&saved.encode()[1..]).is_err());
            assert!(SavedAnswer::decode(&[saved.encode(), vec![0]].concat()).is_err());
        }
    }

    #[test]
    fn whatever_was_there_the_file_is_its_owners_alone() {
        use std::{fs, os::unix::fs::PermissionsExt};
        let folder = tempfile::tempdir().unwrap();
        let (path, others) = (folder.path().join("answer"), folder.path().join("somebody's"));
        let asked = Asked {
            origin: Origin::new("dp.example/log").unwrap(),
            csi: Csi::parse("tel:+4915112345642").unwrap(),
            tag: None,
        };
        let saved = SavedAnswer { asked, fetched: UnixMillis::new(5), answer: vec![7; 99] };
        fs::write(&others, "theirs").unwrap();
        fs::set_permissions(&others, fs::Permissions::from_mode(0o644)).unwrap();
        let make: [fn(&Path, &Path) -> std::io::Result<()>; 3] = [
            |_, _| Ok(()),
            |path, _| fs::set_permissions(path, fs::Permissions::from_mode(0o644)),
            |path, others| fs::remove_file(path).and_then(|()| std::os::unix::fs::symlink(others, path)),
        ];
        for before in make {
            before(&path, &others).unwrap();
            saved.write(&path).unwrap();
            assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(SavedAnswer::decode(&fs::read(&path).unwrap()), Ok(saved.clone()));
        }
        assert_eq!(fs::read(&others).unwrap(), b"theirs");
    }
}
