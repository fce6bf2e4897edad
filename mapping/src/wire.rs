//! TLS presentation language: the byte forms that Waymark's structures are built from.
//!
//! ```text
//! uint8, uint32, uint64       big endian
//! opaque x[32]                as is
//! opaque x<a..b>              one length byte (b <= 255), two (b <= 65,535) or three, then the bytes; the length is checked
//! T x<a..b>                   three length bytes that count bytes, not elements; then the elements
//! T x?                        none or one: the same, with no element for "none"
//! uint8 format = 1            the version of a structure's format; another one is not supported
//! ```
//!
//! Decoding is strict: nothing may be left over, every length is checked before anything is allocated for it, and there is
//! one encoding for each value, so `encode(decode(x)) == x`. Error texts never quote input: it may hold an identifier.
//!
//! Two refusals are told apart: bytes that are **malformed** can never be right, and a format version, an algorithm or a value
//! that is **not supported** may come from a newer program.

use std::io::{Read, Write};

use tls_codec::{Deserialize, Error, Serialize, Size, TlsDeserialize, TlsSerialize, TlsSize};

/// The bytes are not a structure that this program can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecoded {
    /// The bytes do not have the form of the structure.
    #[error("malformed {structure}: {what}")]
    Malformed {
        /// The structure that was expected.
        structure: &'static str,
        /// What is wrong; never quotes the input.
        what: String,
    },
    /// The bytes use a format version, an algorithm or a value that this program does not know.
    #[error("{structure} is not supported by this program: {what}; a newer version may support it")]
    NotSupported {
        /// The structure that was expected.
        structure: &'static str,
        /// What is not known; never quotes the input.
        what: String,
    },
}

impl Undecoded {
    /// Malformed, with what is wrong.
    pub fn malformed(structure: &'static str, what: &str) -> Self {
        Self::Malformed { structure, what: what.to_owned() }
    }
}

/// Decodes exactly one `T`.
///
/// # Errors
/// [`Undecoded`], also when bytes are left over.
pub fn decode<T: Deserialize>(structure: &'static str, bytes: &[u8]) -> Result<T, Undecoded> {
    T::tls_deserialize_exact(bytes).map_err(|e| match &e {
        Error::UnknownValue(value) => {
            Undecoded::NotSupported { structure, what: format!("the number {value} has no meaning here yet") }
        }
        _ => Undecoded::Malformed { structure, what: describe(&e) },
    })
}

/// Encodes a value that was decoded or built within its limits.
///
/// # Panics
/// If a vector is longer than its length prefix can say, which the constructors of this crate exclude.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    value.tls_serialize_detached().expect("lengths are checked when values are built")
}

fn describe(error: &Error) -> String {
    match error {
        Error::DecodingError(what) => what.clone(),
        Error::EndOfStream => "it ends too early".to_owned(),
        Error::TrailingData => "bytes are left over".to_owned(),
        Error::InvalidVectorLength => "a length is out of range".to_owned(),
        Error::InvalidInput => "a value is not one of those defined".to_owned(),
        _ => "it does not decode".to_owned(),
    }
}

/// An error for a constraint that a type adds to its bytes.
pub(crate) fn refuse(what: &'static str) -> Error {
    Error::DecodingError(what.to_owned())
}

/// Reads `length` bytes without trusting `length` for an allocation.
fn read_bytes<R: Read>(reader: &mut R, length: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(length.min(4096));
    reader.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() == length { Ok(bytes) } else { Err(Error::EndOfStream) }
}

/// `opaque x<MIN..MAX>` with MAX at most 255.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Opaque8<const MIN: usize, const MAX: usize>(Vec<u8>);

impl<const MIN: usize, const MAX: usize> Opaque8<MIN, MAX> {
    /// Checks the length.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (MIN..=MAX).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> Size for Opaque8<MIN, MAX> {
    fn tls_serialized_len(&self) -> usize {
        1 + self.0.len()
    }
}

impl<const MIN: usize, const MAX: usize> Serialize for Opaque8<MIN, MAX> {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        let length = u8::try_from(self.0.len()).map_err(|_| Error::InvalidVectorLength)?;
        writer.write_all(&[length])?;
        writer.write_all(&self.0)?;
        Ok(1 + self.0.len())
    }
}

impl<const MIN: usize, const MAX: usize> Deserialize for Opaque8<MIN, MAX> {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let length = usize::from(u8::tls_deserialize(reader)?);
        if !(MIN..=MAX).contains(&length) {
            return Err(Error::InvalidVectorLength);
        }
        Ok(Self(read_bytes(reader, length)?))
    }
}

/// `opaque x<MIN..MAX>` with MAX at most 65,535.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Opaque16<const MIN: usize, const MAX: usize>(Vec<u8>);

impl<const MIN: usize, const MAX: usize> Opaque16<MIN, MAX> {
    /// Checks the length.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (MIN..=MAX).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> Size for Opaque16<MIN, MAX> {
    fn tls_serialized_len(&self) -> usize {
        2 + self.0.len()
    }
}

impl<const MIN: usize, const MAX: usize> Serialize for Opaque16<MIN, MAX> {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        let length = u16::try_from(self.0.len()).map_err(|_| Error::InvalidVectorLength)?;
        writer.write_all(&length.to_be_bytes())?;
        writer.write_all(&self.0)?;
        Ok(2 + self.0.len())
    }
}

impl<const MIN: usize, const MAX: usize> Deserialize for Opaque16<MIN, MAX> {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let length = usize::from(u16::tls_deserialize(reader)?);
        if !(MIN..=MAX).contains(&length) {
            return Err(Error::InvalidVectorLength);
        }
        Ok(Self(read_bytes(reader, length)?))
    }
}

/// Most bytes behind a three-byte length.
const LENGTH24_MAX: usize = (1 << 24) - 1;

/// Writes a length in three bytes.
fn write_length24<W: Write>(writer: &mut W, length: usize) -> Result<(), Error> {
    if length > LENGTH24_MAX {
        return Err(Error::InvalidVectorLength);
    }
    // The top byte of four is zero: checked just above.
    Ok(writer.write_all(&(length as u32).to_be_bytes()[1..])?)
}

/// Reads a length of three bytes.
fn read_length24<R: Read>(reader: &mut R) -> Result<usize, Error> {
    let [a, b, c] = <[u8; 3]>::tls_deserialize(reader)?;
    Ok(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))
}

/// `opaque x<MIN..MAX>` with MAX above 65,535 and at most 2^24 - 1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Opaque24<const MIN: usize, const MAX: usize>(Vec<u8>);

impl<const MIN: usize, const MAX: usize> Opaque24<MIN, MAX> {
    /// Checks the length.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (MIN..=MAX).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> Size for Opaque24<MIN, MAX> {
    fn tls_serialized_len(&self) -> usize {
        3 + self.0.len()
    }
}

impl<const MIN: usize, const MAX: usize> Serialize for Opaque24<MIN, MAX> {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        write_length24(writer, self.0.len())?;
        writer.write_all(&self.0)?;
        Ok(3 + self.0.len())
    }
}

impl<const MIN: usize, const MAX: usize> Deserialize for Opaque24<MIN, MAX> {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let length = read_length24(reader)?;
        if !(MIN..=MAX).contains(&length) {
            return Err(Error::InvalidVectorLength);
        }
        Ok(Self(read_bytes(reader, length)?))
    }
}

/// `T x<0..MAX_BYTES>`: elements behind a three-byte length that counts bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct List24<T, const MAX_BYTES: usize>(Vec<T>);

impl<T: Size, const MAX_BYTES: usize> List24<T, MAX_BYTES> {
    /// Checks the encoded length.
    pub fn new(items: Vec<T>) -> Option<Self> {
        (items.iter().map(Size::tls_serialized_len).sum::<usize>() <= MAX_BYTES).then_some(Self(items))
    }
}

impl<T, const MAX_BYTES: usize> List24<T, MAX_BYTES> {
    /// No elements.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// The elements, owned.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX_BYTES: usize> Default for List24<T, MAX_BYTES> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T, const MAX_BYTES: usize> std::ops::Deref for List24<T, MAX_BYTES> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Size, const MAX_BYTES: usize> Size for List24<T, MAX_BYTES> {
    fn tls_serialized_len(&self) -> usize {
        3 + self.0.iter().map(Size::tls_serialized_len).sum::<usize>()
    }
}

impl<T: Serialize, const MAX_BYTES: usize> Serialize for List24<T, MAX_BYTES> {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        let length = self.tls_serialized_len() - 3;
        write_length24(writer, length)?;
        for item in &self.0 {
            item.tls_serialize(writer)?;
        }
        Ok(3 + length)
    }
}

impl<T: Deserialize, const MAX_BYTES: usize> Deserialize for List24<T, MAX_BYTES> {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let length = read_length24(reader)?;
        if length > MAX_BYTES {
            return Err(Error::InvalidVectorLength);
        }
        let bytes = read_bytes(reader, length)?;
        let mut rest = bytes.as_slice();
        let mut items = Vec::new();
        while !rest.is_empty() {
            items.push(T::tls_deserialize(&mut rest)?);
        }
        Ok(Self(items))
    }
}

/// `T x?`: none or one, behind a three-byte length.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Optional24<T>(pub Option<T>);

impl<T: Size> Size for Optional24<T> {
    fn tls_serialized_len(&self) -> usize {
        3 + self.0.as_ref().map_or(0, Size::tls_serialized_len)
    }
}

impl<T: Serialize> Serialize for Optional24<T> {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        let length = self.tls_serialized_len() - 3;
        write_length24(writer, length)?;
        if let Some(item) = &self.0 {
            item.tls_serialize(writer)?;
        }
        Ok(3 + length)
    }
}

impl<T: Deserialize> Deserialize for Optional24<T> {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let length = read_length24(reader)?;
        let bytes = read_bytes(reader, length)?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        T::tls_deserialize_exact(&bytes).map(|item| Self(Some(item)))
    }
}

/// `uint8 flag`, 0 or 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Flag(pub bool);

impl Size for Flag {
    fn tls_serialized_len(&self) -> usize {
        1
    }
}

impl Serialize for Flag {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        u8::from(self.0).tls_serialize(writer)
    }
}

impl Deserialize for Flag {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        match u8::tls_deserialize(reader)? {
            0 => Ok(Self(false)),
            1 => Ok(Self(true)),
            _ => Err(refuse("a flag is neither 0 nor 1")),
        }
    }
}

/// The one format version of every structure that has a format byte.
pub const FORMAT: u8 = 1;

/// `uint8 format = 1`: decodes from [`FORMAT`]; every other version is not supported. It stands first in each structure that is
/// signed, committed to or logged, since old ones are opened inside newer ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Format;

impl Size for Format {
    fn tls_serialized_len(&self) -> usize {
        1
    }
}

impl Serialize for Format {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        FORMAT.tls_serialize(writer)
    }
}

impl Deserialize for Format {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        match u8::tls_deserialize(reader)? {
            FORMAT => Ok(Self),
            other => Err(Error::UnknownValue(other.into())),
        }
    }
}

/// Most bytes in a structure's extensions.
pub const EXTENSIONS_BYTES_MAX: usize = 1024;

/// Something that a later version adds to a structure: `struct { uint16 kind; opaque value<0..2^10>; }`. It is hashed and signed with the
/// rest; a program that does not know its kind skips it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Extension {
    /// What it is.
    pub kind: u16,
    /// Its content.
    pub value: Opaque16<0, EXTENSIONS_BYTES_MAX>,
}

/// `Extension extensions<0..2^10>`, in strictly ascending order of their kinds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Extensions(List24<Extension, EXTENSIONS_BYTES_MAX>);

impl Extensions {
    /// No extension.
    pub const NONE: Self = Self(List24::empty());

    /// These extensions; `None` if a kind occurs twice or they are too long.
    pub fn new(mut extensions: Vec<Extension>) -> Option<Self> {
        extensions.sort_by_key(|e| e.kind);
        let distinct = extensions.windows(2).all(|w| w[0].kind < w[1].kind);
        List24::new(extensions).filter(|_| distinct).map(Self)
    }

    /// The content of the extension of this kind, if there is one.
    pub fn get(&self, kind: u16) -> Option<&[u8]> {
        self.0.iter().find(|e| e.kind == kind).map(|e| e.value.as_slice())
    }
}

impl Size for Extensions {
    fn tls_serialized_len(&self) -> usize {
        self.0.tls_serialized_len()
    }
}

impl Serialize for Extensions {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        self.0.tls_serialize(writer)
    }
}

impl Deserialize for Extensions {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let list = List24::<Extension, EXTENSIONS_BYTES_MAX>::tls_deserialize(reader)?;
        let ascending = list.windows(2).all(|w| w[0].kind < w[1].kind);
        if ascending { Ok(Self(list)) } else { Err(refuse("extensions repeat or are out of order")) }
    }
}

/// Gives a type that wraps checked text the wire form `opaque x<..>` with one length byte.
macro_rules! text_wire {
    ($type:ty, $max:expr, $what:literal, $from:expr) => {
        impl tls_codec::Size for $type {
            fn tls_serialized_len(&self) -> usize {
                1 + self.0.len()
            }
        }
        impl tls_codec::Serialize for $type {
            fn tls_serialize<W: std::io::Write>(&self, writer: &mut W) -> Result<usize, tls_codec::Error> {
                let bytes = $crate::wire::Opaque8::<0, $max>::new(self.0.as_bytes());
                bytes.ok_or(tls_codec::Error::InvalidVectorLength)?.tls_serialize(writer)
            }
        }
        impl tls_codec::Deserialize for $type {
            fn tls_deserialize<R: std::io::Read>(reader: &mut R) -> Result<Self, tls_codec::Error> {
                let bytes = $crate::wire::Opaque8::<0, $max>::tls_deserialize(reader)?;
                let text = std::str::from_utf8(bytes.as_slice()).map_err(|_| $crate::wire::refuse($what))?;
                let parse: fn(&str) -> Option<$type> = $from;
                parse(text).ok_or_else(|| $crate::wire::refuse($what))
            }
        }
    };
}
pub(crate) use text_wire;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_bounds() {
        assert!(decode::<Opaque8<1, 3>>("x", &[0]).is_err());
        assert!(decode::<Opaque8<1, 3>>("x", &[3, 1, 2, 3]).is_ok());
        assert!(decode::<Opaque8<1, 3>>("x", &[4, 1, 2, 3, 4]).is_err());
        assert!(decode::<Opaque8<1, 3>>("x", &[2, 1]).is_err());
        assert!(decode::<Opaque8<1, 3>>("x", &[1, 1, 0]).is_err());
        assert!(decode::<Opaque16<0, 2>>("x", &[0, 3, 1, 2, 3]).is_err());
        assert!(decode::<Opaque16<0, 65535>>("x", &[255, 255, 1]).is_err());
        assert!(decode::<List24<u32, 8>>("x", &[0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]).is_err());
        assert!(decode::<List24<u32, 8>>("x", &[0, 0, 6, 0, 0, 0, 1, 0, 0]).is_err());
        assert!(decode::<Optional24<u8>>("x", &[0, 0, 2, 1, 1]).is_err());
        assert!(decode::<Opaque24<0, 2>>("x", &[0, 0, 3, 1, 2, 3]).is_err());
        assert!(decode::<Opaque24<0, LENGTH24_MAX>>("x", &[255, 255, 255, 1]).is_err());
        assert!(decode::<Flag>("x", &[2]).is_err());
        assert!(Opaque8::<0, 2>::new([1, 2, 3]).is_none());
        assert!(List24::<u8, 2>::new(vec![1, 2, 3]).is_none());
    }

    #[test]
    fn what_a_newer_program_may_have_written_is_not_called_malformed() {
        assert_eq!(decode::<Format>("x", &[1]), Ok(Format));
        assert!(matches!(decode::<Format>("x", &[2]), Err(Undecoded::NotSupported { structure: "x", .. })));
        assert!(matches!(decode::<Format>("x", &[]), Err(Undecoded::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(v) = decode::<Opaque8<0, 255>>("x", &bytes) { prop_assert_eq!(encode(&v), bytes.clone()); }
            if let Ok(v) = decode::<Opaque16<0, 65535>>("x", &bytes) { prop_assert_eq!(encode(&v), bytes.clone()); }
            if let Ok(v) = decode::<Opaque24<0, 65535>>("x", &bytes) { prop_assert_eq!(encode(&v), bytes.clone()); }
            if let Ok(v) = decode::<List24<u16, 64>>("x", &bytes) { prop_assert_eq!(encode(&v), bytes.clone()); }
            if let Ok(v) = decode::<Optional24<u32>>("x", &bytes) { prop_assert_eq!(encode(&v), bytes.clone()); }
            if let Ok(v) = decode::<Flag>("x", &bytes) { prop_assert_eq!(encode(&v), bytes.clone()); }
        }
    }
}
