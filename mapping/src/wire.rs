//! TLS presentation language: the byte forms that Waymark's structures are built from.
//!
//! ```text
//! uint8, uint32, uint64       big endian
//! opaque x[32]                as is
//! opaque x<a..b>              one length byte (b <= 255) or two, then the bytes; the length is checked against a and b
//! T x<a..b>                   two length bytes that count bytes, not elements; then the elements
//! T x<0..b>, none or one      the same, with no element for "none"
//! ```
//!
//! Decoding is strict: nothing may be left over, every length is checked before anything is allocated for it, and there is
//! one encoding for each value, so `encode(decode(x)) == x`. Error texts never quote input: it may hold an identifier.

use std::io::{Read, Write};

use tls_codec::{Deserialize, Error, Serialize, Size};

/// The bytes do not have the form of the structure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {structure}: {what}")]
pub struct Malformed {
    /// The structure that was expected.
    pub structure: &'static str,
    /// What is wrong; never quotes the input.
    pub what: String,
}

/// Decodes exactly one `T`.
///
/// # Errors
/// [`Malformed`], also when bytes are left over.
pub fn decode<T: Deserialize>(structure: &'static str, bytes: &[u8]) -> Result<T, Malformed> {
    T::tls_deserialize_exact(bytes).map_err(|e| Malformed { structure, what: describe(&e) })
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
        Error::UnknownValue(_) | Error::InvalidInput => "a value is not one of those defined".to_owned(),
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

/// `T x<0..MAX_BYTES>`: elements behind a two-byte length that counts bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct List16<T, const MAX_BYTES: usize>(Vec<T>);

impl<T: Size, const MAX_BYTES: usize> List16<T, MAX_BYTES> {
    /// Checks the encoded length.
    pub fn new(items: Vec<T>) -> Option<Self> {
        (items.iter().map(Size::tls_serialized_len).sum::<usize>() <= MAX_BYTES).then_some(Self(items))
    }
}

impl<T, const MAX_BYTES: usize> List16<T, MAX_BYTES> {
    /// No elements.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// The elements, owned.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX_BYTES: usize> std::ops::Deref for List16<T, MAX_BYTES> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Size, const MAX_BYTES: usize> Size for List16<T, MAX_BYTES> {
    fn tls_serialized_len(&self) -> usize {
        2 + self.0.iter().map(Size::tls_serialized_len).sum::<usize>()
    }
}

impl<T: Serialize, const MAX_BYTES: usize> Serialize for List16<T, MAX_BYTES> {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        let length = self.tls_serialized_len() - 2;
        let prefix = u16::try_from(length).map_err(|_| Error::InvalidVectorLength)?;
        writer.write_all(&prefix.to_be_bytes())?;
        for item in &self.0 {
            item.tls_serialize(writer)?;
        }
        Ok(2 + length)
    }
}

impl<T: Deserialize, const MAX_BYTES: usize> Deserialize for List16<T, MAX_BYTES> {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let length = usize::from(u16::tls_deserialize(reader)?);
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

/// `T x<0..2^16-1>` with no element or one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Optional16<T>(pub Option<T>);

impl<T: Size> Size for Optional16<T> {
    fn tls_serialized_len(&self) -> usize {
        2 + self.0.as_ref().map_or(0, Size::tls_serialized_len)
    }
}

impl<T: Serialize> Serialize for Optional16<T> {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        let length = self.tls_serialized_len() - 2;
        let prefix = u16::try_from(length).map_err(|_| Error::InvalidVectorLength)?;
        writer.write_all(&prefix.to_be_bytes())?;
        if let Some(item) = &self.0 {
            item.tls_serialize(writer)?;
        }
        Ok(2 + length)
    }
}

impl<T: Deserialize> Deserialize for Optional16<T> {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let length = usize::from(u16::tls_deserialize(reader)?);
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
        assert!(decode::<List16<u32, 8>>("x", &[0, 12, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]).is_err());
        assert!(decode::<List16<u32, 8>>("x", &[0, 6, 0, 0, 0, 1, 0, 0]).is_err());
        assert!(decode::<Optional16<u8>>("x", &[0, 2, 1, 1]).is_err());
        assert!(decode::<Flag>("x", &[2]).is_err());
        assert!(Opaque8::<0, 2>::new([1, 2, 3]).is_none());
        assert!(List16::<u8, 2>::new(vec![1, 2, 3]).is_none());
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(v) = decode::<Opaque8<0, 255>>("x", &bytes) { prop_assert_eq!(encode(&v), bytes.clone()); }
            if let Ok(v) = decode::<Opaque16<0, 65535>>("x", &bytes) { prop_assert_eq!(encode(&v), bytes.clone()); }
            if let Ok(v) = decode::<List16<u16, 64>>("x", &bytes) { prop_assert_eq!(encode(&v), bytes.clone()); }
            if let Ok(v) = decode::<Optional16<u32>>("x", &bytes) { prop_assert_eq!(encode(&v), bytes.clone()); }
            if let Ok(v) = decode::<Flag>("x", &bytes) { prop_assert_eq!(encode(&v), bytes.clone()); }
        }
    }
}
