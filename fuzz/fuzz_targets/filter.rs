// SPDX-License-Identifier: MIT OR Apache-2.0
//! A filter of anybody, over a message of anybody: neither does harm, and what has been checked keeps
//! to logic.
#![no_main]

use fltport_abi::filter::{InstructionHeader, Op, Program, ProgramHeader, Verdict};
use fltport_abi::fixed::Fixed;
use fltport_abi::limits::MAX_PREDICATES;
use fltport_abi::message::Message;
use fltport_fuzz::All;
use libfuzzer_sys::fuzz_target;

fn upcase(unit: u16) -> u16 {
    u8::try_from(unit).map_or(unit, |byte| byte.to_ascii_uppercase().into())
}

/// The program with a `not` behind it.
fn opposite(program: &[u8]) -> Vec<u8> {
    let mut header = ProgramHeader::read(program).expect("it is a program");
    header.instructions += 1;
    header.length += InstructionHeader::SIZE as u32;
    let mut bytes = vec![0; program.len() + InstructionHeader::SIZE];
    bytes[..program.len()].copy_from_slice(program);
    header.write(&mut bytes).expect("it fits");
    bytes[program.len()] = Op::Not as u8;
    bytes
}

// Four bytes say how long the program and the fixed part of the message are; both follow.
fuzz_target!(|data: &[u8]| {
    let Some((lengths, rest)) = data.split_first_chunk::<4>() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes([lengths[0], lengths[1]])).min(rest.len());
    let fixed = usize::from(u16::from_le_bytes([lengths[2], lengths[3]]));
    let (bytes, message) = rest.split_at(length);
    let Ok(program) = Program::parse(bytes) else {
        return;
    };
    let verdict = program.evaluate(message, fixed, upcase);
    let has_field = |kind, offset, marked| {
        let mut fields = All::FIELDS.iter();
        fields.any(|field| {
            let mark = field.is_optional() && !field.kind.is_variable();
            (field.kind, field.offset, mark) == (kind, offset, marked)
        })
    };
    if program.check(has_field).is_err() {
        return;
    }
    assert!((1..=MAX_PREDICATES).contains(&program.predicates()));
    assert!(
        program
            .instructions()
            .all(|instruction| instruction.is_ok())
    );
    let opposite = opposite(bytes);
    let Ok(opposite) = Program::parse(&opposite) else {
        // It was as long as a program may be.
        return;
    };
    match (verdict, opposite.evaluate(message, fixed, upcase)) {
        (Verdict::Wanted, Verdict::Unwanted) | (Verdict::Unwanted, Verdict::Wanted) => {}
        // The last step may be the one for `not`.
        (_, Verdict::Undecided) => {}
        (verdict, other) => panic!("{verdict:?}, and the opposite is {other:?}"),
    }
});
