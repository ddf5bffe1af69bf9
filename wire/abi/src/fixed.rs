// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixed-size little-endian structs: one definition gives the struct, its size, its encoder and its
//! decoder, without `unsafe` and without trust in alignment.

/// A value with a fixed size on the wire.
pub trait Fixed: Sized {
    /// Bytes on the wire.
    const SIZE: usize;
    /// Writes the value at the start of `out`; `None` if it does not fit.
    fn write(&self, out: &mut [u8]) -> Option<()>;
    /// Reads a value from the start of `bytes`; `None` if they are too short.
    fn read(bytes: &[u8]) -> Option<Self>;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Fixed for $t {
            const SIZE: usize = core::mem::size_of::<$t>();
            #[inline]
            fn write(&self, out: &mut [u8]) -> Option<()> {
                out.get_mut(..Self::SIZE)?.copy_from_slice(&self.to_le_bytes());
                Some(())
            }
            #[inline]
            fn read(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_le_bytes(bytes.get(..Self::SIZE)?.try_into().ok()?))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i32, i64);

impl<const N: usize> Fixed for [u8; N] {
    const SIZE: usize = N;
    fn write(&self, out: &mut [u8]) -> Option<()> {
        out.get_mut(..N)?.copy_from_slice(self);
        Some(())
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.get(..N)?.try_into().ok()
    }
}

macro_rules! arrays {
    ($($t:ty),*) => {$(
        impl<const N: usize> Fixed for [$t; N] {
            const SIZE: usize = <$t>::SIZE * N;
            #[inline]
            fn write(&self, out: &mut [u8]) -> Option<()> {
                let places = out.get_mut(..Self::SIZE)?.chunks_exact_mut(<$t>::SIZE);
                for (value, place) in self.iter().zip(places) {
                    place.copy_from_slice(&value.to_le_bytes());
                }
                Some(())
            }
            #[inline]
            fn read(bytes: &[u8]) -> Option<Self> {
                let mut values = [0; N];
                let places = bytes.get(..Self::SIZE)?.chunks_exact(<$t>::SIZE);
                for (value, place) in values.iter_mut().zip(places) {
                    *value = <$t>::read(place)?;
                }
                Some(values)
            }
        }
    )*};
}
arrays!(u32, u64);

/// Defines structs with a fixed layout on the wire: the fields in order, each at a multiple of its
/// own size.
///
/// The definition fails to compile if a field would need padding before it, so that every byte is
/// named.
#[macro_export]
macro_rules! fixed {
    ($($(#[$doc:meta])* pub struct $name:ident : $size:literal { $($(#[$fdoc:meta])* pub $field:ident : $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty,)* }

        impl $crate::fixed::Fixed for $name {
            const SIZE: usize = $size;
            #[inline]
            fn write(&self, out: &mut [u8]) -> ::core::option::Option<()> {
                // Of a length that the compiler knows, so no field is looked at whether it fits.
                let out = out.first_chunk_mut::<$size>()?;
                let mut at = 0;
                $(self.$field.write(out.get_mut(at..)?)?; at += <$ty as $crate::fixed::Fixed>::SIZE;)*
                (at == $size).then_some(())
            }
            #[inline]
            fn read(bytes: &[u8]) -> ::core::option::Option<Self> {
                let bytes = bytes.first_chunk::<$size>()?;
                let mut at = 0;
                $(let $field = <$ty as $crate::fixed::Fixed>::read(bytes.get(at..)?)?; at += <$ty as $crate::fixed::Fixed>::SIZE;)*
                (at == $size).then_some(Self { $($field),* })
            }
        }

        const _: () = {
            let mut at = 0;
            $(
                let align = if <$ty as $crate::fixed::Fixed>::SIZE % 8 == 0 { 8 } else { <$ty as $crate::fixed::Fixed>::SIZE % 8 };
                assert!(align == 3 || at % align == 0, concat!("padding needed before ", stringify!($field)));
                at += <$ty as $crate::fixed::Fixed>::SIZE;
            )*
            assert!(at == $size, concat!("the size of ", stringify!($name), " is not what it says"));
        };
    )*};
}

/// A short UTF-8 name in a fixed number of bytes, padded with zero bytes.
pub fn name_to_bytes<const N: usize>(name: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    bytes
        .get_mut(..name.len())?
        .copy_from_slice(name.as_bytes());
    Some(bytes)
}

/// The name in `bytes`, up to the first zero byte; `None` if it is not UTF-8.
pub fn name_from_bytes(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    core::str::from_utf8(bytes.get(..end)?).ok()
}
