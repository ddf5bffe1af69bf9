// SPDX-License-Identifier: MIT OR Apache-2.0
//! An input that is read as the steps of a program.

/// What has not been read of it.
pub struct Program<'a>(pub &'a [u8]);

impl Program<'_> {
    /// The next so many bytes; none at the end.
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// The next two bytes.
    pub fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    /// The next eight bytes.
    pub fn word(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
