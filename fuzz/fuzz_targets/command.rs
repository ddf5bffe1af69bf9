// SPDX-License-Identifier: MIT OR Apache-2.0
//! A command of a service that may lie: its header, its payload as each of the process monitor's
//! commands, and as a filter.
#![no_main]

use fltport_abi::Message;
use fltport_abi::command::Command;
use fltport_abi::filter::Program;
use fltport_abi::process_monitor::{GetExclusions, SetExclusions};
use fltport_fuzz::All;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(command) = Command::parse(data) {
        assert!(command.payload.len() < data.len());
        let _nothing = GetExclusions::decode(command.payload);
        if let Ok(wanted) = SetExclusions::decode(command.payload) {
            assert!(wanted.images.is_well_formed());
            let mut out = vec![0; wanted.encoded_len()];
            assert_eq!(wanted.encode(&mut out), Ok(out.len()));
        }
    }
    // A program, and the message that it is about.
    let Ok((program, message)) = Program::split(data) else {
        return;
    };
    let has_field = |kind, offset, optional| {
        let mut fields = All::FIELDS.iter();
        fields.any(|f| (f.kind, f.offset, f.is_optional()) == (kind, offset, optional))
    };
    if program.check(has_field).is_ok() {
        for fixed in [0, All::FIXED, message.len(), usize::MAX] {
            program.evaluate(message, fixed, |unit| unit);
        }
    }
});
