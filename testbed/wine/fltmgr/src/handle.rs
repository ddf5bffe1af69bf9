// SPDX-License-Identifier: MIT OR Apache-2.0
//! The opaque values that drivers hold. They look like kernel addresses, point nowhere, and say
//! which kind they are.

use fltmgr::{ConnectionId, FilterId, PortId};

const KIND: usize = 0xFFFF_FF00_0000_0000;
const FILTER: usize = 0xFFFF_E100_0000_0000;
const SERVER_PORT: usize = 0xFFFF_E200_0000_0000;
const CLIENT_PORT: usize = 0xFFFF_E300_0000_0000;
const SHIFT: u32 = 4;

fn make(kind: usize, id: u64) -> isize {
    (kind | (id as usize) << SHIFT & !KIND) as isize
}

fn number(kind: usize, value: isize) -> Option<u64> {
    let value = value as usize;
    (value & KIND == kind).then_some(((value & !KIND) >> SHIFT) as u64)
}

pub(crate) fn of_filter(id: FilterId) -> isize {
    make(FILTER, id.0)
}

pub(crate) fn of_server_port(id: PortId) -> isize {
    make(SERVER_PORT, id.0)
}

pub(crate) fn of_client_port(id: ConnectionId) -> isize {
    make(CLIENT_PORT, id.0)
}

pub(crate) fn filter(value: isize) -> Option<FilterId> {
    number(FILTER, value).map(FilterId)
}

pub(crate) fn server_port(value: isize) -> Option<PortId> {
    number(SERVER_PORT, value).map(PortId)
}

pub(crate) fn client_port(value: isize) -> Option<ConnectionId> {
    number(CLIENT_PORT, value).map(ConnectionId)
}
