// SPDX-License-Identifier: MIT OR Apache-2.0
//! The types that fields of a message can have.

use super::{DecodeError, Decoder, EncodeError, Encoder, Guid, Pid, Status, Time};
use crate::schema::{Definition, FieldKind};
use crate::text::{Text, TextList};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A field's type: how it lies in the fixed part and, for texts and lists, in the variable data.
pub trait Field<'a>: Sized {
    /// What the schema says about it.
    const KIND: FieldKind;
    /// The value may be absent.
    const OPTIONAL: bool = false;
    /// What its values or its fields are called.
    const DEFINITION: Option<&'static Definition> = None;
    /// Bytes in the fixed part.
    const PLACE: usize = Self::KIND.place(Self::OPTIONAL);

    /// Bytes of variable data that this value needs.
    #[inline]
    fn variable_len(&self) -> usize {
        0
    }
    /// Writes the value at `at` of the fixed part.
    fn store(&self, encoder: &mut Encoder<'_>, at: usize) -> Result<(), EncodeError>;
    /// Reads the value at `at` of the fixed part.
    fn load(decoder: &Decoder<'a>, at: usize) -> Result<Self, DecodeError>;
    /// The value where the writer does not know the field.
    fn missing() -> Result<Self, DecodeError> {
        Err(DecodeError::Missing)
    }
}

macro_rules! fixed_fields {
    ($($ty:ty, $kind:ident, $raw:ty, $to:expr, $from:expr;)*) => {$(
        impl<'a> Field<'a> for $ty {
            const KIND: FieldKind = FieldKind::$kind;
            #[inline]
            fn store(&self, encoder: &mut Encoder<'_>, at: usize) -> Result<(), EncodeError> {
                let to: fn($ty) -> $raw = $to;
                encoder.fixed(at, to(*self))
            }
            #[inline]
            fn load(decoder: &Decoder<'a>, at: usize) -> Result<Self, DecodeError> {
                let from: fn($raw) -> Option<$ty> = $from;
                from(decoder.fixed(at)?).ok_or(DecodeError::BadValue)
            }
        }
    )*};
}

fixed_fields! {
    u8, U8, u8, |v| v, Some;
    u16, U16, u16, |v| v, Some;
    u32, U32, u32, |v| v, Some;
    u64, U64, u64, |v| v, Some;
    i8, I8, u8, i8::cast_unsigned, |v| Some(v.cast_signed());
    i16, I16, u16, i16::cast_unsigned, |v| Some(v.cast_signed());
    i32, I32, i32, |v| v, Some;
    i64, I64, i64, |v| v, Some;
    bool, Bool, u32, u32::from, |v| (v <= 1).then_some(v == 1);
    Pid, Pid, u32, |v| v.0, |v| Some(Pid(v));
    Time, Time, i64, |v| v.0, |v| Some(Time(v));
    Status, Status, i32, |v| v.0, |v| Some(Status(v));
    Guid, Guid, Guid, |v| v, Some;
    Ipv4Addr, Ipv4, [u8; 4], |v| v.octets(), |v| Some(Ipv4Addr::from(v));
    Ipv6Addr, Ipv6, [u8; 16], |v| v.octets(), |v| Some(Ipv6Addr::from(v));
    IpAddr, Address, [u8; 20], address_bytes, address;
}

fn address_bytes(address: IpAddr) -> [u8; 20] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [4, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => {
            let mut bytes = [0; 20];
            let [version, _, _, _, octets @ ..] = &mut bytes;
            (*version, *octets) = (6, address.octets());
            bytes
        }
    }
}

fn address(bytes: [u8; 20]) -> Option<IpAddr> {
    match bytes {
        [4, 0, 0, 0, a, b, c, d, rest @ ..] => {
            (rest == [0; 12]).then_some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        }
        [6, 0, 0, 0, octets @ ..] => Some(IpAddr::V6(Ipv6Addr::from(octets))),
        _ => None,
    }
}

impl<'a, T: Field<'a>> Field<'a> for Option<T> {
    const KIND: FieldKind = T::KIND;
    const OPTIONAL: bool = {
        assert!(!T::OPTIONAL, "an optional field cannot be optional again");
        true
    };
    const DEFINITION: Option<&'static Definition> = T::DEFINITION;

    #[inline]
    fn variable_len(&self) -> usize {
        self.as_ref().map_or(0, T::variable_len)
    }

    #[inline]
    fn store(&self, encoder: &mut Encoder<'_>, at: usize) -> Result<(), EncodeError> {
        let Some(value) = self else {
            // The fixed part is zero already.
            return Ok(());
        };
        if !T::KIND.is_variable() {
            encoder.fixed(at + T::PLACE, 1_u8)?;
        }
        value.store(encoder, at)
    }

    #[inline]
    fn load(decoder: &Decoder<'a>, at: usize) -> Result<Self, DecodeError> {
        let absent = if T::KIND.is_variable() {
            decoder.is_absent(at)?
        } else {
            !is_marked(decoder, T::KIND, at)?
        };
        if absent {
            Ok(None)
        } else {
            T::load(decoder, at).map(Some)
        }
    }

    fn missing() -> Result<Self, DecodeError> {
        Ok(None)
    }
}

/// Whether the optional value of this kind at `at` is there.
pub(crate) fn is_marked(
    decoder: &Decoder<'_>,
    kind: FieldKind,
    at: usize,
) -> Result<bool, DecodeError> {
    match decoder.fixed::<u8>(at + kind.size())? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::BadValue),
    }
}

impl<'a> Field<'a> for Text<'a> {
    const KIND: FieldKind = FieldKind::Text;
    #[inline]
    fn variable_len(&self) -> usize {
        self.wire_len()
    }
    #[inline]
    fn store(&self, encoder: &mut Encoder<'_>, at: usize) -> Result<(), EncodeError> {
        encoder.variable(at, |out| self.write(out))
    }
    #[inline]
    fn load(decoder: &Decoder<'a>, at: usize) -> Result<Self, DecodeError> {
        let (_, bytes) = decoder.variable(at)?.ok_or(DecodeError::Missing)?;
        if bytes.len().is_multiple_of(2) {
            Ok(Text::Wire(bytes))
        } else {
            Err(DecodeError::BadValue)
        }
    }
}

impl<'a> Field<'a> for TextList<'a> {
    const KIND: FieldKind = FieldKind::TextList;
    #[inline]
    fn variable_len(&self) -> usize {
        self.wire_len()
    }
    #[inline]
    fn store(&self, encoder: &mut Encoder<'_>, at: usize) -> Result<(), EncodeError> {
        encoder.variable(at, |out| self.write(out))
    }
    #[inline]
    fn load(decoder: &Decoder<'a>, at: usize) -> Result<Self, DecodeError> {
        let (_, bytes) = decoder.variable(at)?.ok_or(DecodeError::Missing)?;
        let list = TextList::Wire(bytes);
        if list.is_well_formed() {
            Ok(list)
        } else {
            Err(DecodeError::BadValue)
        }
    }
}

impl<'a> Field<'a> for &'a [u8] {
    const KIND: FieldKind = FieldKind::Bytes;
    #[inline]
    fn variable_len(&self) -> usize {
        self.len()
    }
    #[inline]
    fn store(&self, encoder: &mut Encoder<'_>, at: usize) -> Result<(), EncodeError> {
        encoder.variable(at, |out| {
            out.get_mut(..self.len())
                .ok_or(EncodeError::TooLarge)?
                .copy_from_slice(self);
            Ok(self.len())
        })
    }
    #[inline]
    fn load(decoder: &Decoder<'a>, at: usize) -> Result<Self, DecodeError> {
        let (_, bytes) = decoder.variable(at)?.ok_or(DecodeError::Missing)?;
        Ok(bytes)
    }
}
