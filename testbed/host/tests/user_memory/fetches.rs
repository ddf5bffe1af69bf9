// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same bytes copied twice, and bytes that were never offered.

use crate::driver::{Machine, fetch};
use fltport_nt::bindings::*;
use nt_host::Rule;

#[inline(never)]
fn looks_at_the_header(call: &crate::driver::Call) -> u8 {
    call.fetch(0, 4).1[0]
}

#[inline(never)]
fn takes_it_all(call: &crate::driver::Call) -> Vec<u8> {
    call.fetch(0, call.input_length).1
}

#[test]
fn a_header_that_is_copied_again_with_the_rest_is_a_double_fetch() {
    let machine = Machine::with(|call| {
        let length = looks_at_the_header(&call);
        let all = takes_it_all(&call);
        i32::from(length) + i32::from(all[0])
    });
    assert_eq!(machine.send(&[8, 0, 0, 0, 1, 2, 3, 4], &mut []), 16);
    let reports = machine.expect(&[Rule::UserMemoryFetchedTwice]);
    let text = reports[0].to_string();
    assert!(reports[0].found.starts_with("4 bytes"), "{text}");
    assert!(text.contains("looks_at_the_header"), "{text}");
    assert!(
        reports[0].stack.to_string().contains("takes_it_all"),
        "{text}"
    );
}

#[test]
fn a_header_and_then_what_follows_it_is_none() {
    let machine = Machine::with(|call| {
        let (_, header) = call.fetch(0, 4);
        let (_, rest) = call.fetch(4, call.input_length - 4);
        i32::from(header[0]) + i32::from(rest[0])
    });
    assert_eq!(machine.send(&[8, 0, 0, 0, 1, 2, 3, 4], &mut []), 9);
    assert_eq!(
        machine.send(&[8, 0, 0, 0, 1, 2, 3, 4], &mut []),
        9,
        "another call"
    );
    machine.expect(&[]);
}

#[test]
fn a_pointer_in_the_message_is_followed_and_is_fetched_twice_too() {
    let machine = Machine::with(|call| {
        let (_, bytes) = call.fetch(0, 8);
        let address = usize::from_le_bytes(bytes.try_into().unwrap());
        let (status, _) = fetch(address, 4);
        assert_eq!(status, STATUS_SUCCESS);
        let (_, again) = fetch(address + 3, 1);
        i32::from(again[0])
    });
    let elsewhere = [1_u8, 2, 3, 4];
    let message = (elsewhere.as_ptr() as u64).to_le_bytes();
    assert_eq!(machine.send(&message, &mut []), 4);
    let reports = machine.expect(&[Rule::UserMemoryFetchedTwice]);
    assert!(
        reports[0].found.starts_with("1 bytes"),
        "{}",
        reports[0].found
    );
}

#[test]
fn a_loop_that_copies_the_same_is_one_report() {
    let machine = Machine::with(|call| {
        (0..100).for_each(|_| assert_eq!(call.fetch(0, 4).0, STATUS_SUCCESS));
        STATUS_SUCCESS
    });
    assert_eq!(machine.send(&[0; 4], &mut []), STATUS_SUCCESS);
    machine.expect(&[Rule::UserMemoryFetchedTwice]);
}

#[test]
fn a_copy_beyond_the_length_stops_where_the_buffer_ends() {
    let machine = Machine::with(|call| {
        let (status, bytes) = call.fetch(0, 8);
        assert_eq!(bytes, [1, 2, 3, 4, 0, 0, 0, 0], "what the caller offered");
        status
    });
    let input = [1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(machine.send(&input[..4], &mut []), STATUS_ACCESS_VIOLATION);
    let reports = machine.expect(&[Rule::UserMemoryOutOfRange]);
    assert!(
        reports[0].found.contains("copied from"),
        "{}",
        reports[0].found
    );
}

#[test]
fn a_copy_out_beyond_the_length_does_the_user_no_harm() {
    let machine = Machine::with(|call| call.store(0, &[9; 8]));
    let mut output = [0; 8];
    let status = machine.send(&[], &mut output[..4]);
    assert_eq!(status, STATUS_ACCESS_VIOLATION);
    assert_eq!(output, [9, 9, 9, 9, 0, 0, 0, 0]);
    machine.expect(&[Rule::UserMemoryOutOfRange]);
}
