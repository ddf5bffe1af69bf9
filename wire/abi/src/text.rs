// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text on the wire is UTF-16, as NT has it: not necessarily well-formed, not terminated,
//! little-endian, at any alignment.

use crate::message::EncodeError;

/// Text from any side: NT's units, bytes of a record, or a Rust string.
#[derive(Clone, Copy, Debug)]
pub enum Text<'a> {
    /// UTF-16 as NT holds it in memory.
    Units(&'a [u16]),
    /// UTF-16 as it lies in a record. An odd last byte is ignored.
    Wire(&'a [u8]),
    /// A Rust string, encoded when it is written.
    Utf8(&'a str),
}

impl<'a> Text<'a> {
    /// The UTF-16 code units.
    pub fn units(self) -> Units<'a> {
        match self {
            Text::Units(units) => Units::Memory(units.iter()),
            Text::Wire(bytes) => Units::Wire(bytes.chunks_exact(2)),
            Text::Utf8(text) => Units::Utf8(text.encode_utf16()),
        }
    }

    /// Bytes that the text takes on the wire.
    pub fn wire_len(self) -> usize {
        match self {
            Text::Units(units) => units.len() * 2,
            Text::Wire(bytes) => bytes.len() & !1,
            Text::Utf8(text) => text.encode_utf16().count() * 2,
        }
    }

    /// The characters; what is not well-formed becomes U+FFFD.
    pub fn chars(self) -> impl Iterator<Item = char> + 'a {
        char::decode_utf16(self.units()).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// Writes the text to the start of `out`; returns the bytes written.
    pub fn write(self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let out = out
            .get_mut(..self.wire_len())
            .ok_or(EncodeError::TooLarge)?;
        for (unit, place) in self.units().zip(out.as_chunks_mut().0) {
            *place = unit.to_le_bytes();
        }
        Ok(out.len())
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.units().eq(other.units())
    }
}

impl Eq for Text<'_> {}

impl core::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.chars()
            .try_for_each(|c| core::fmt::Write::write_char(f, c))
    }
}

/// The code units of a [`Text`].
#[derive(Clone, Debug)]
pub enum Units<'a> {
    /// From memory.
    Memory(core::slice::Iter<'a, u16>),
    /// From a record.
    Wire(core::slice::ChunksExact<'a, u8>),
    /// From a Rust string.
    Utf8(core::str::EncodeUtf16<'a>),
}

impl Iterator for Units<'_> {
    type Item = u16;
    fn next(&mut self) -> Option<u16> {
        match self {
            Units::Memory(units) => units.next().copied(),
            Units::Wire(pairs) => pairs
                .next()
                .and_then(|p| p.try_into().ok())
                .map(u16::from_le_bytes),
            Units::Utf8(units) => units.next(),
        }
    }
}

/// A list of texts. On the wire each is a `u16` length in bytes and that many bytes of UTF-16.
#[derive(Clone, Copy, Debug)]
pub enum TextList<'a> {
    /// As it lies in a record; checked when it is decoded.
    Wire(&'a [u8]),
    /// Texts to be written.
    Texts(&'a [Text<'a>]),
    /// Rust strings to be written.
    Strings(&'a [&'a str]),
}

impl<'a> TextList<'a> {
    /// The texts in order. A malformed tail ends the iteration; [`TextList::is_well_formed`] tells.
    pub fn iter(self) -> TextListIter<'a> {
        TextListIter { rest: self }
    }

    /// Whether the bytes are exactly a sequence of texts.
    pub fn is_well_formed(self) -> bool {
        let mut texts = self.iter();
        texts.by_ref().for_each(drop);
        match texts.rest {
            TextList::Wire(rest) => rest.is_empty(),
            TextList::Texts(rest) => rest.is_empty(),
            TextList::Strings(rest) => rest.is_empty(),
        }
    }

    /// Bytes that the list takes on the wire.
    pub fn wire_len(self) -> usize {
        match self {
            TextList::Wire(bytes) => bytes.len(),
            _ => self.iter().map(|text| 2 + text.wire_len()).sum(),
        }
    }

    /// Writes the list to the start of `out`; returns the bytes written. A single text is at most
    /// 65,534 bytes long.
    pub fn write(self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut at = 0;
        for text in self.iter() {
            let length = u16::try_from(text.wire_len()).map_err(|_| EncodeError::TooLarge)?;
            let place = out.get_mut(at..).ok_or(EncodeError::TooLarge)?;
            place
                .get_mut(..2)
                .ok_or(EncodeError::TooLarge)?
                .copy_from_slice(&length.to_le_bytes());
            at += 2 + text.write(place.get_mut(2..).ok_or(EncodeError::TooLarge)?)?;
        }
        Ok(at)
    }
}

impl PartialEq for TextList<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for TextList<'_> {}

/// The texts of a [`TextList`].
#[derive(Clone, Debug)]
pub struct TextListIter<'a> {
    rest: TextList<'a>,
}

impl<'a> Iterator for TextListIter<'a> {
    type Item = Text<'a>;
    fn next(&mut self) -> Option<Text<'a>> {
        match &mut self.rest {
            TextList::Wire(bytes) => {
                let (length, rest) = bytes.split_at_checked(2)?;
                let length = usize::from(u16::from_le_bytes(length.try_into().ok()?));
                let (text, rest) = rest.split_at_checked(length)?;
                // Half a unit is no text; written again, the list would be shorter.
                length.is_multiple_of(2).then_some(())?;
                *bytes = rest;
                Some(Text::Wire(text))
            }
            TextList::Texts(texts) => {
                let (first, rest) = texts.split_first()?;
                *texts = rest;
                Some(*first)
            }
            TextList::Strings(strings) => {
                let (first, rest) = strings.split_first()?;
                *strings = rest;
                Some(Text::Utf8(first))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_origins_are_equal() {
        let wire = [b'a', 0, 0x3d, 0xd8, 0x00, 0xde];
        assert_eq!(Text::Utf8("a\u{1f600}"), Text::Wire(&wire));
        assert_eq!(Text::Units(&[0x61, 0xd83d, 0xde00]), Text::Wire(&wire));
        assert_eq!(Text::Wire(&wire).wire_len(), 6);
    }

    #[test]
    fn a_list_survives_the_wire() {
        let mut out = [0; 64];
        let list = TextList::Strings(&["*/nc", "", "x"]);
        let n = list.write(&mut out).unwrap();
        assert_eq!(n, list.wire_len());
        assert_eq!(TextList::Wire(&out[..n]), list);
        assert!(TextList::Wire(&out[..n]).is_well_formed());
        assert!(!TextList::Wire(&out[..n - 1]).is_well_formed());
        assert_eq!(list.write(&mut out[..n - 1]), Err(EncodeError::TooLarge));
    }

    #[test]
    fn a_list_with_half_a_unit_is_malformed() {
        let odd = TextList::Wire(&[2, 0, b'a', 0, 1, 0, b'b', 2, 0, b'c', 0]);
        assert!(!odd.is_well_formed());
        assert!(odd.iter().eq([Text::Utf8("a")]));
    }
}
