// SPDX-License-Identifier: MIT OR Apache-2.0
//! User memory touched by instructions of the driver's own.

use crate::driver::{Call, Machine};
use crate::support::one_port::{client_port, filter};
use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::{Rule, irql};

#[test]
fn what_is_captured_once_and_answered_by_a_copy_is_silent() {
    let machine = Machine::with(|call| {
        let (status, mut bytes) = call.fetch(0, call.input_length);
        assert_eq!(status, STATUS_SUCCESS);
        bytes.reverse();
        call.store(0, &bytes)
    });
    let mut output = [0; 4];
    assert_eq!(machine.send(b"abcd", &mut output), STATUS_SUCCESS);
    assert_eq!(&output, b"dcba");
    machine.expect(&[]);
}

#[test]
fn an_empty_or_null_buffer_is_left_as_it_is() {
    let machine = Machine::with(|call| {
        assert_eq!(call.fetch(0, 0).0, STATUS_SUCCESS);
        assert_eq!(call.store(0, &[]), STATUS_SUCCESS);
        i32::from(call.output.is_null())
    });
    assert_eq!(machine.send(&[], &mut []), 0, "not null");
    let nothing = nt_host::UserSlice::default();
    let this = machine.kernel.peer(std::process::id(), 0);
    assert_eq!(machine.send_from(&this, nothing, nothing), 1, "null");
    machine.expect(&[]);
}

#[test]
fn the_place_within_the_page_is_the_users_own() {
    let machine = Machine::with(|call| {
        let in_page = call.input as usize % 4096;
        i32::try_from(in_page).unwrap()
    });
    let bytes = [0_u8; 5000];
    for start in [0, 1, 17, 4095] {
        let input = &bytes[start..];
        let expected = input.as_ptr() as usize % 4096;
        assert_eq!(machine.send(input, &mut []), expected as i32);
    }
    machine.expect(&[]);
}

/// A function of its own, to be found on the stack of the report.
#[inline(never)]
fn reads_a_byte(call: &Call) -> u8 {
    call.peek(2)
}

#[test]
fn a_read_is_reported_and_goes_on_with_the_users_bytes() {
    let machine = Machine::with(|call| i32::from(reads_a_byte(&call)));
    assert_eq!(machine.send(&[5, 6, 7, 8], &mut []), 7);
    let reports = machine.expect(&[Rule::UserMemoryTouched]);
    let report = &reports[0];
    assert_eq!(report.driver.as_deref(), Some("usertest"));
    assert_eq!(report.function, "MessageNotify");
    assert!(report.found.contains("offset 2"), "{}", report.found);
    assert!(report.found.contains("input buffer (4"), "{}", report.found);
    assert!(report.found.contains("read"), "{}", report.found);
    let first = report.stack.to_string();
    let first: String = first.lines().take(3).collect();
    assert!(
        first.contains("touches.rs") || first.contains("driver.rs"),
        "{report}"
    );
    assert!(report.to_string().contains("reads_a_byte"), "{report}");
}

#[test]
fn a_write_is_reported_and_reaches_the_user() {
    let machine = Machine::with(|call| {
        // SAFETY: the mistake itself; the output buffer has four bytes.
        unsafe { call.output.wrapping_add(1).write_volatile(9) };
        STATUS_SUCCESS
    });
    let mut output = [1, 2, 3, 4];
    assert_eq!(machine.send(&[], &mut output), STATUS_SUCCESS);
    assert_eq!(output, [1, 9, 3, 4]);
    let reports = machine.expect(&[Rule::UserMemoryTouched]);
    assert!(reports[0].found.contains("written"), "{}", reports[0].found);
    assert!(reports[0].found.contains("output buffer"));
}

#[test]
fn a_read_and_a_write_of_one_page_are_two_mistakes() {
    let machine = Machine::with(|call| {
        let mut sum = 0;
        for offset in 0..4 {
            sum += call.peek(offset);
        }
        // SAFETY: the mistake itself.
        unsafe { call.input.write_volatile(sum) };
        i32::from(call.peek(0))
    });
    let input = vec![1, 2, 3, 4];
    assert_eq!(machine.send(&input, &mut []), 10);
    assert_eq!(std::hint::black_box(input)[0], 10);
    machine.expect(&[Rule::UserMemoryTouched, Rule::UserMemoryTouched]);
}

#[test]
fn touches_and_copies_see_each_others_bytes() {
    let machine = Machine::with(|call| {
        // SAFETY: the mistake itself.
        unsafe { call.output.write_volatile(7) };
        let (_, seen) = crate::driver::fetch(call.output as usize, 2);
        assert_eq!(seen, [7, 0], "the copy sees what was written");
        assert_eq!(call.store(1, &[8]), STATUS_SUCCESS);
        // SAFETY: the mistake itself.
        let seen = unsafe { call.output.wrapping_add(1).read_volatile() };
        i32::from(seen)
    });
    let mut output = [0; 2];
    assert_eq!(machine.send(&[], &mut output), 8, "the touch sees the copy");
    assert_eq!(output, [7, 8]);
    machine.expect(&[Rule::UserMemoryTouched, Rule::UserMemoryTouched]);
}

#[test]
fn many_pages_are_one_report() {
    let machine = Machine::with(|call| {
        let length = call.input_length as isize;
        let sum: u32 = (0..length).map(|at| u32::from(call.peek(at))).sum();
        sum as i32
    });
    assert_eq!(machine.send(&vec![1; 100_000], &mut []), 100_000);
    machine.expect(&[Rule::UserMemoryTouched]);
}

#[test]
fn a_touch_beyond_the_buffer_is_another_mistake() {
    let machine = Machine::with(|call| i32::from(call.peek(5000) + call.peek(-1)));
    assert_eq!(machine.send(&[1; 4096], &mut []), 0);
    let reports = machine.end();
    assert!(!reports.is_empty());
    for report in &reports {
        assert_eq!(report.rule, Rule::UserMemoryOutOfRange, "{report}");
    }
}

#[test]
fn memory_that_is_not_there_reads_as_zeros() {
    let machine = Machine::with(|call| i32::from(call.peek(0)));
    let nowhere = nt_host::UserSlice {
        address: 0x1_0000,
        length: 4,
    };
    let this = machine.kernel.peer(std::process::id(), 0);
    let status = machine.send_from(&this, nowhere, nt_host::UserSlice::default());
    assert_eq!(status, 0);
    machine.expect(&[Rule::UserMemoryTouched]);
}

#[test]
fn the_kernels_functions_are_no_fault_safe_copies() {
    let machine = Machine::with(|call| {
        let timeout = -1_i64;
        // SAFETY: the filter and its port; the message is a user address, which is the mistake.
        unsafe {
            FltSendMessage(
                filter(),
                client_port(),
                call.input.cast_const().cast(),
                4,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                &raw const timeout,
            )
        }
    });
    assert_eq!(machine.send(&[1; 4], &mut []), STATUS_TIMEOUT);
    let reports = machine.expect(&[Rule::UserMemoryTouched]);
    assert!(reports[0].to_string().contains("FltSendMessage"));
}

#[test]
fn touches_of_several_threads_are_told_apart() {
    let machine = Machine::with(|call| i32::from(call.peek(0)));
    std::thread::scope(|scope| {
        for number in 0..8_u8 {
            let machine = &machine;
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(machine.send(&[number; 64], &mut []), i32::from(number));
                }
            });
        }
    });
    machine.expect(&[Rule::UserMemoryTouched; 400]);
}

#[test]
fn a_copy_at_dispatch_level_is_reported() {
    let machine = Machine::with(|call| {
        // SAFETY: raises only.
        let former = unsafe { KfRaiseIrql(irql::DISPATCH_LEVEL) };
        let (status, _) = call.fetch(0, 4);
        // SAFETY: the level from before.
        unsafe { KeLowerIrql(former) };
        status
    });
    assert_eq!(machine.send(&[1; 4], &mut []), STATUS_SUCCESS);
    machine.expect(&[Rule::IrqlTooHigh]);
}
