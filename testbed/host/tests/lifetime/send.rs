// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages: from where they may be sent, their timeouts, and the traps of the reply's length.

use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::{Report, Rule, irql};

use crate::driver::*;
use crate::filter::{self, *};

const SEND: &str = "FltSendMessage";

fn connecting(in_connect: fn()) -> Vec<Report> {
    let callbacks = Callbacks {
        connect: action(in_connect),
        ..Default::default()
    };
    filter::life(callbacks, |kernel| connect_service(kernel).close(), end)
}

#[test]
fn a_message_from_inside_connect_notify_waits_for_its_deadline_and_is_reported() {
    let reports = connecting(|| {
        let sent = send(&CLIENT, Some(SECOND / 100));
        assert_eq!(sent, STATUS_TIMEOUT, "nobody can read yet");
    });
    assert_one(&reports, Rule::SendFromConnect, SEND);
}

#[test]
fn a_message_without_deadline_from_inside_connect_notify_does_not_hang() {
    let reports = connecting(|| {
        assert_eq!(send(&CLIENT, None), STATUS_TIMEOUT);
    });
    assert_broken(
        &reports,
        &[Rule::MessageWithoutDeadline, Rule::SendFromConnect],
    );
}

#[test]
fn a_message_to_another_service_from_inside_connect_notify_is_no_mistake() {
    use std::sync::atomic::{AtomicIsize, Ordering};
    static FIRST: AtomicIsize = AtomicIsize::new(0);
    let callbacks = Callbacks {
        connect: action(|| {
            let former = FIRST.load(Ordering::SeqCst);
            if former == 0 {
                FIRST.store(CLIENT.load(Ordering::SeqCst), Ordering::SeqCst);
            } else {
                assert_eq!(send(&FIRST, Some(SECOND / 100)), STATUS_TIMEOUT);
            }
        }),
        disconnect: action(|| {
            let first = FIRST.load(Ordering::SeqCst) != 0;
            close_client(if first { &FIRST } else { &CLIENT });
        }),
        ..Default::default()
    };
    let meanwhile = |kernel: &nt_host::Kernel| {
        FIRST.store(0, Ordering::SeqCst);
        let first = connect_service(kernel);
        let second = connect_service(kernel);
        first.close();
        second.close();
    };
    assert_broken(&filter::life(callbacks, meanwhile, end), &[]);
}

#[test]
fn a_message_from_inside_instance_setup_is_reported() {
    let callbacks = Callbacks {
        setup: action(|| {
            let sent = send(&CLIENT, Some(SECOND));
            assert_eq!(sent, STATUS_PORT_DISCONNECTED, "nobody is connected");
        }),
        ..Default::default()
    };
    let reports = filter::life(callbacks, |_| {}, end);
    assert_one(&reports, Rule::SendFromInstanceSetup, SEND);
}

fn sending(timeout: Option<i64>) -> Vec<Report> {
    serving(None, move || {
        let sent = send(&CLIENT, timeout);
        assert!(sent == STATUS_SUCCESS || timeout == Some(0));
    })
}

#[test]
fn no_timeout_and_a_zero_timeout_are_two_mistakes() {
    assert_one(&sending(None), Rule::MessageWithoutDeadline, SEND);
    assert_one(&sending(Some(0)), Rule::ZeroTimeout, SEND);
    assert_broken(&sending(Some(SECOND)), &[]);
}

#[test]
fn a_message_at_dispatch_level_is_reported() {
    let at = |level| {
        serving(None, move || {
            // SAFETY: raises from PASSIVE_LEVEL.
            let old = unsafe { KfRaiseIrql(level) };
            send(&CLIENT, Some(SECOND));
            // SAFETY: back to where it was.
            unsafe { KeLowerIrql(old) };
        })
    };
    assert_one(&at(irql::DISPATCH_LEVEL), Rule::IrqlTooHigh, SEND);
    assert_broken(&at(irql::APC_LEVEL), &[]);
}

/// Asks so many times with a buffer of 32 bytes, of which `announced` are said to be there.
fn asking(times: usize, announced: u32, answered: usize) -> Vec<Report> {
    serving(Some(answered), move || {
        for _ in 0..times {
            let (mut reply, mut length) = ([0; 32], announced);
            assert_eq!(ask(&mut reply, &mut length), STATUS_SUCCESS);
            assert_eq!(length as usize, answered);
        }
    })
}

#[test]
fn a_reply_length_that_counts_the_header_is_reported() {
    // The driver takes a header and 8 bytes for the reply, which is just 8 bytes.
    let report = assert_one(&asking(5, 24, 8), Rule::ReplyLengthCountsHeader, SEND);
    assert!(report.found.contains("24 bytes"), "{report}");
}

#[test]
fn replies_shorter_than_the_buffer_are_no_mistake() {
    assert_broken(&asking(5, 8, 8), &[]);
    assert_broken(&asking(5, 32, 8), &[]);
    assert_broken(&asking(2, 24, 8), &[]);
}

/// Asks twice with the same buffer and length variable, which is set before the second time if
/// `set` says to what; the service answers with 4 bytes and then with so many.
fn asking_twice(set: Option<u32>, second: usize, status: NTSTATUS) -> Vec<Report> {
    serving_each([4, second].into_iter(), move || {
        let (mut reply, mut length) = ([0; 32], 32);
        assert_eq!(ask(&mut reply, &mut length), STATUS_SUCCESS);
        length = set.unwrap_or(length);
        assert_eq!(ask(&mut reply, &mut length), status);
    })
}

#[test]
fn a_reply_length_that_an_earlier_reply_has_left_is_reported() {
    let reports = asking_twice(None, 8, STATUS_BUFFER_OVERFLOW);
    let report = assert_one(&reports, Rule::ReplyLengthStale, SEND);
    assert!(report.found.contains("4 bytes"), "{report}");
    assert_broken(&asking_twice(Some(32), 8, STATUS_SUCCESS), &[]);
}

#[test]
fn a_length_that_is_just_that_of_the_last_reply_is_no_mistake() {
    // The driver wants no more than 4 bytes the second time, and there are no more.
    assert_broken(&asking_twice(Some(4), 4, STATUS_SUCCESS), &[]);
}

#[test]
fn a_reply_that_is_too_long_is_the_services_mistake_and_not_the_drivers() {
    let reports = serving(Some(8), || {
        let (mut reply, mut length) = ([0xAA; 8], 4);
        assert_eq!(ask(&mut reply, &mut length), STATUS_BUFFER_OVERFLOW);
        assert_eq!(reply[4..], [0xAA; 4], "nothing lies beyond the length");
    });
    assert_broken(&reports, &[]);
}
