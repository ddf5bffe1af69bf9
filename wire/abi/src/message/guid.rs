// SPDX-License-Identifier: MIT OR Apache-2.0
//! GUIDs.

use crate::fixed::Fixed;

/// A GUID as NT has it in memory: a 32-bit and two 16-bit numbers, little-endian, and eight bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

impl Fixed for Guid {
    const SIZE: usize = 16;
    fn write(&self, out: &mut [u8]) -> Option<()> {
        self.0.write(out)
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        Fixed::read(bytes).map(Guid)
    }
}

impl core::fmt::Display for Guid {
    /// As the registry has it: `{00000000-0000-0000-0000-000000000000}`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a0, a1, a2, a3, b0, b1, c0, c1, d @ ..] = self.0;
        let [d0, d1, node @ ..] = d;
        let a = u32::from_le_bytes([a0, a1, a2, a3]);
        let b = u16::from_le_bytes([b0, b1]);
        let c = u16::from_le_bytes([c0, c1]);
        write!(f, "{{{a:08X}-{b:04X}-{c:04X}-{d0:02X}{d1:02X}-")?;
        node.iter().try_for_each(|byte| write!(f, "{byte:02X}"))?;
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_first_three_numbers_are_little_endian() {
        let guid = Guid(core::array::from_fn(|i| i as u8));
        assert_eq!(guid.to_string(), "{03020100-0504-0706-0809-0A0B0C0D0E0F}");
    }
}
