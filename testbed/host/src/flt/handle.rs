// SPDX-License-Identifier: MIT OR Apache-2.0
//! The opaque values that drivers hold: filters, server ports, client ports.
//!
//! They look like kernel addresses, point nowhere, and say which kind they are, so that a value
//! passed in the wrong place is recognised. The number inside is never used twice.

use fltmgr::{ConnectionId, FilterId, PortId};

const KIND: usize = 0xFFFF_FF00_0000_0000;
const FILTER: usize = 0xFFFF_E100_0000_0000;
const SERVER_PORT: usize = 0xFFFF_E200_0000_0000;
const CLIENT_PORT: usize = 0xFFFF_E300_0000_0000;
/// Volumes and instances are only ever passed to a driver.
pub(super) const VOLUME: isize = 0xFFFF_E400_0000_0010_u64 as isize;
const INSTANCE: usize = 0xFFFF_E500_0000_0000;
/// Values are multiples of 16, as addresses of objects are.
const SHIFT: u32 = 4;

fn make(kind: usize, id: u64) -> isize {
    let number = usize::try_from(id).unwrap_or(usize::MAX) << SHIFT;
    (kind | number & !KIND) as isize
}

fn number(kind: usize, value: isize) -> Option<u64> {
    let value = value as usize;
    let aligned = value.trailing_zeros() >= SHIFT;
    (value & KIND == kind && aligned).then_some(((value & !KIND) >> SHIFT) as u64)
}

pub(super) fn of_filter(id: FilterId) -> isize {
    make(FILTER, id.0)
}

pub(super) fn of_server_port(id: PortId) -> isize {
    make(SERVER_PORT, id.0)
}

pub(super) fn of_client_port(id: ConnectionId) -> isize {
    make(CLIENT_PORT, id.0)
}

pub(super) fn of_instance(id: FilterId) -> isize {
    make(INSTANCE, id.0)
}

pub(super) fn filter(value: isize) -> Option<FilterId> {
    number(FILTER, value).map(FilterId)
}

pub(super) fn server_port(value: isize) -> Option<PortId> {
    number(SERVER_PORT, value).map(PortId)
}

pub(super) fn client_port(value: isize) -> Option<ConnectionId> {
    number(CLIENT_PORT, value).map(ConnectionId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_of_one_kind() {
        let value = of_filter(FilterId(7));
        assert_eq!(filter(value), Some(FilterId(7)));
        assert_eq!(server_port(value), None);
        assert_eq!(client_port(value), None);
        assert_eq!(filter(value + 1), None);
        assert_eq!(filter(0), None);
        assert_eq!(
            client_port(of_client_port(ConnectionId(9))),
            Some(ConnectionId(9))
        );
        assert_eq!(server_port(of_server_port(PortId(3))), Some(PortId(3)));
    }
}
