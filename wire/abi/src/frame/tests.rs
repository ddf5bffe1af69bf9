// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use std::vec::Vec;

fn record(sequence: u64, kind: u16, payload: &[u8], fixed: u16) -> Vec<u8> {
    let header = RecordHeader {
        size: record_size(payload.len()) as u32,
        payload: payload.len() as u32,
        sequence,
        time: 7,
        provider: 1,
        message: 2,
        kind,
        fixed,
    };
    let mut bytes = std::vec![0; record_size(payload.len())];
    header.write(&mut bytes).unwrap();
    bytes[32..32 + payload.len()].copy_from_slice(payload);
    bytes
}

fn frame(records: &[Vec<u8>]) -> Vec<u8> {
    let body = records.concat();
    let header = FrameHeader {
        magic: MAGIC,
        version: 1,
        kind: FRAME_RECORDS,
        length: (24 + body.len()) as u32,
        records: records.len() as u32,
        deadline_ms: 0,
        connection: 9,
    };
    let mut bytes = std::vec![0; 24];
    header.write(&mut bytes).unwrap();
    bytes.extend(body);
    bytes
}

#[test]
fn golden_bytes_of_a_frame() {
    let bytes = frame(&[record(5, 1, b"abc", 2)]);
    assert_eq!(
        bytes,
        [
            b'F', b'P', b'F', b'R', 1, 0, 1, 0, 64, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0,
            0, // frame
            40, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1,
            0, 2, 0, // record
            b'a', b'b', b'c', 0, 0, 0, 0, 0,
        ]
    );
    let records: Vec<_> = Frame::parse(&bytes).unwrap().records().collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].as_ref().unwrap().payload, b"abc");
}

#[test]
fn every_cut_and_every_flipped_length_is_refused() {
    let bytes = frame(&[record(1, 1, b"abc", 0), record(2, 1, b"", 0)]);
    let good = |bytes: &[u8]| Frame::parse(bytes).is_ok_and(|f| f.records().all(|r| r.is_ok()));
    assert!(good(&bytes));
    for n in 0..bytes.len() {
        assert!(!good(&bytes[..n]), "{n} bytes");
    }
    for at in [0, 8, 9, 12, 24, 25, 28, 31, 24 + 28] {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            // A payload length may change within the padding and still be consistent; its content
            // is then for the decoder.
            let within_padding = at == 28 && (1..=8).contains(&bad[28]);
            let other_kind = at == 52 && matches!(bad[52], 1..=7);
            assert!(
                within_padding || other_kind || !good(&bad),
                "byte {at} bit {bit}"
            );
        }
    }
}

#[test]
fn a_gap_must_add_up() {
    let gap = |first: u64, last: u64, count: u64| {
        let mut payload = std::vec![0; 32];
        GapHeader {
            first,
            entries: 1,
            reserved: 0,
        }
        .write(&mut payload)
        .unwrap();
        let entry = GapEntry {
            count,
            provider: 1,
            message: 2,
            cause: Cause::RingFull as u16,
            by: 0,
        };
        entry.write(&mut payload[16..]).unwrap();
        let bytes = frame(&[record(last, 2, &payload, 0)]);
        let record = Frame::parse(&bytes)
            .unwrap()
            .records()
            .next()
            .unwrap()
            .unwrap();
        Gap::parse(&record).map(|g| (g.first, g.last, g.entries().next().unwrap().cause()))
    };
    assert_eq!(gap(3, 7, 5), Ok((3, 7, Some(Cause::RingFull))));
    assert_eq!(gap(3, 7, 4), Err(DecodeError::BadValue));
    assert_eq!(gap(9, 7, 0), Err(DecodeError::BadValue));
    assert_eq!(gap(0, u64::MAX, 1), Err(DecodeError::BadValue));
}

#[test]
fn an_outcome_is_split() {
    let mut payload = std::vec![0; 24];
    let header = OutcomeHeader {
        request: 1,
        waited_us: 2,
        decider: 3,
        payload: 3,
        reply: 4,
        outcome: 0,
    };
    header.write(&mut payload).unwrap();
    payload.extend(b"abc\0\0\0\0\0deny");
    let bytes = frame(&[record(1, 4, &payload, 24)]);
    let record = Frame::parse(&bytes)
        .unwrap()
        .records()
        .next()
        .unwrap()
        .unwrap();
    let outcome = OutcomeRecord::parse(&record).unwrap();
    assert_eq!(
        (outcome.request, outcome.reply),
        (&b"abc"[..], &b"deny"[..])
    );
}
