// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks, as operands.

use crate::schema::FieldKind;
use core::net::{IpAddr, Ipv6Addr};

crate::fixed! {
    /// The operand of [`Op::Network`](super::Op::Network).
    pub struct Network: 24 {
        /// 4 or 6.
        pub family: u32,
        /// How many leading bits count.
        pub bits: u32,
        /// In network order; what does not count is 0.
        pub address: [u8; 16],
    }
}

impl Network {
    /// The addresses whose first `bits` are those of `address`.
    pub fn new(address: IpAddr, bits: u32) -> Self {
        let (family, all) = number(address);
        Network {
            family,
            bits,
            address: (all & mask(bits)).to_be_bytes(),
        }
    }

    /// Whether a field of this kind can have an address in it.
    pub(super) fn is_one_for(&self, kind: FieldKind) -> bool {
        let family = match kind {
            FieldKind::Ipv4 => self.family == 4,
            FieldKind::Ipv6 => self.family == 6,
            _ => matches!(self.family, 4 | 6),
        };
        let most = if self.family == 4 { 32 } else { 128 };
        let address = u128::from_be_bytes(self.address);
        family && self.bits <= most && address & !mask(self.bits) == 0
    }

    /// Whether the address is in it.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let (family, all) = number(address);
        family == self.family && all & mask(self.bits) == u128::from_be_bytes(self.address)
    }
}

/// The family, and the address in the highest bits.
fn number(address: IpAddr) -> (u32, u128) {
    match address {
        IpAddr::V4(address) => (4, u128::from(u32::from(address)) << 96),
        IpAddr::V6(address) => (6, Ipv6Addr::to_bits(address)),
    }
}

/// So many of the highest bits.
fn mask(bits: u32) -> u128 {
    match 128_u32.saturating_sub(bits) {
        128 => 0,
        rest => u128::MAX << rest,
    }
}
