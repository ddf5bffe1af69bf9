// SPDX-License-Identifier: MIT OR Apache-2.0
//! A frame of a driver that may lie.
#![no_main]

use fltport_abi::frame::{Frame, Gap, OutcomeRecord, RecordKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(frame) = Frame::parse(data) else {
        return;
    };
    let mut bytes = 0;
    for record in frame.records() {
        let Ok(record) = record else {
            break;
        };
        bytes += record.payload.len();
        assert!(bytes <= data.len());
        assert!(usize::from(record.header.fixed) <= record.payload.len());
        match record.kind {
            RecordKind::Gap => {
                if let Ok(gap) = Gap::parse(&record) {
                    let lost: u64 = gap.entries().map(|e| e.count).sum();
                    assert_eq!(lost, gap.last - gap.first + 1);
                }
            }
            RecordKind::Outcome => {
                if let Ok(outcome) = OutcomeRecord::parse(&record) {
                    let parts = outcome.request.len() + outcome.reply.len();
                    assert!(parts <= record.payload.len());
                }
            }
            _ => {}
        }
    }
});
