// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a stream consists of, as a driver would write it.

use fltport_abi::Text;
use fltport_abi::common_driver::ProviderChange;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{self, RecordHeader, RecordKind, record_size};
use fltport_abi::message::Message;
use fltport_abi::process_monitor::PROVIDER;

/// A record of the stream.
pub(crate) fn record(
    sequence: u64,
    kind: RecordKind,
    message: u16,
    payload: &[u8],
    fixed: usize,
) -> Vec<u8> {
    let header = RecordHeader {
        size: record_size(payload.len()) as u32,
        payload: payload.len() as u32,
        sequence,
        time: 133_000_000_000_000_000,
        provider: if kind == RecordKind::Gap { 0 } else { 1 },
        message: if kind == RecordKind::Gap { 0 } else { message },
        kind: kind as u16,
        fixed: fixed as u16,
    };
    let mut bytes = vec![0; record_size(payload.len())];
    header.write(&mut bytes).unwrap();
    bytes[RecordHeader::SIZE..][..payload.len()].copy_from_slice(payload);
    bytes
}

pub(crate) fn encode<'m, M: Message<'m>>(message: &M) -> Vec<u8> {
    let mut bytes = vec![0; message.encoded_len()];
    message.encode(&mut bytes).unwrap();
    bytes
}

pub(crate) fn notification<'m, M: Message<'m>>(sequence: u64, message: &M) -> Vec<u8> {
    record(
        sequence,
        RecordKind::Notification,
        M::NUMBER,
        &encode(message),
        M::FIXED,
    )
}

pub(crate) fn gap(first: u64, last: u64) -> Vec<u8> {
    let header = frame::GapHeader {
        first,
        entries: 1,
        reserved: 0,
    };
    let entry = frame::GapEntry {
        count: last - first + 1,
        provider: 1,
        message: 2,
        cause: 0,
        by: 1,
    };
    let payload = [bytes(&header), bytes(&entry)].concat();
    record(last, RecordKind::Gap, 0, &payload, 0)
}

pub(crate) fn bytes<T: Fixed>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; T::SIZE];
    value.write(&mut bytes).unwrap();
    bytes
}

/// The common driver's own notification, which comes without a subscription.
pub(crate) fn provider_change(sequence: u64, name: &str, registered: bool) -> Vec<u8> {
    let change = ProviderChange {
        provider: 1,
        registered,
        name: Text::Utf8(name),
    };
    let mut record = notification(sequence, &change);
    // The provider's number in the record's header.
    record[24..26].copy_from_slice(&[0, 0]);
    record
}

/// The process monitor's schema.
pub(crate) fn schema() -> Vec<u8> {
    let mut schema = vec![0; 16 * 1024];
    let n = PROVIDER.encode(&mut schema).unwrap();
    schema.truncate(n);
    schema
}
