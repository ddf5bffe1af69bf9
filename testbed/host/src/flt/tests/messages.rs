// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages in both directions.

use std::sync::Arc;
use std::thread;

use super::driver::*;
use crate::abi::FltSendMessage;
use crate::flt::{Decisions, GetOutcome, ReplyStatus, configure};
use crate::{UserSlice, fltport_copy_from_user, fltport_copy_to_user};

const TIMEOUT: i32 = 0x102;
const DISCONNECTED: i32 = nt(0xC000_0037);
const NO_WAITER: i32 = nt(0xC01C_0020);

fn slice(bytes: &[u8]) -> UserSlice {
    UserSlice {
        address: bytes.as_ptr() as u64,
        length: bytes.len() as u32,
    }
}

#[test]
fn a_notification_reaches_a_pended_get() {
    let kernel = with_driver(Hooks::default());
    let service = connect_service(&kernel);
    let got = get(&service, 64);
    assert_eq!(notify(b"news", Some(SECOND)), OK);
    assert_eq!(message_of(&got.recv().unwrap()), (1, b"news".to_vec()));
    service.close();
    finish(kernel);
}

#[test]
fn a_sender_waits_for_a_reader() {
    let kernel = with_driver(Hooks::default());
    let service = connect_service(&kernel);
    thread::scope(|scope| {
        let sender = scope.spawn(|| notify(b"news", Some(10 * SECOND)));
        let got = get(&service, 64).recv().unwrap();
        assert_eq!(message_of(&got).1, b"news");
        assert_eq!(sender.join().unwrap(), OK);
    });
    service.close();
    finish(kernel);
}

#[test]
fn a_request_gets_its_reply() {
    let kernel = with_driver(Hooks::default());
    let service = connect_service(&kernel);
    thread::scope(|scope| {
        let asked = scope.spawn(|| ask(b"may I?", 8, 10 * SECOND));
        let (id, question) = message_of(&get(&service, 64).recv().unwrap());
        assert_eq!(question, b"may I?");
        assert_eq!(service.reply(&reply_bytes(id, b"yes")), OK);
        assert_eq!(asked.join().unwrap(), (OK, b"yes".to_vec()));
        assert_eq!(
            service.reply(&reply_bytes(id, b"yes")),
            NO_WAITER,
            "a second reply"
        );
    });
    service.close();
    finish(kernel);
}

#[test]
fn the_reply_may_take_the_place_of_the_message_and_a_length_alone_asks_for_none() {
    let kernel = with_driver(Hooks::default());
    let service = connect_service(&kernel);
    let send = |reply: *mut u8, buffer: *const u8, length: &mut u32| {
        let (filter, port, timeout) = (ports().filter, client(), 10 * SECOND);
        let (buffer, reply) = (buffer.cast(), reply.cast());
        // SAFETY: the filter, the variable, a message of six bytes, a buffer of that size or null,
        // a length, and a time.
        unsafe { FltSendMessage(filter, port, buffer, 6, reply, length, &raw const timeout) }
    };
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut both = *b"may I?";
            let mut length = 6;
            let status = send(both.as_mut_ptr(), both.as_ptr(), &mut length);
            (status, length, both)
        });
        let (id, question) = message_of(&get(&service, 64).recv().unwrap());
        assert_eq!(question, b"may I?");
        assert_eq!(service.reply(&reply_bytes(id, b"yes")), OK);
        assert_eq!(asked.join().unwrap(), (OK, 3, *b"yes I?"));
    });
    let got = get(&service, 64);
    let mut length = 0;
    let told = send(std::ptr::null_mut(), b"by the".as_ptr(), &mut length);
    assert_eq!(told, OK, "nobody replies, and nobody waits for it");
    assert_eq!(message_of(&got.recv().unwrap()).1, b"by the");
    service.close();
    finish(kernel);
}

#[test]
fn a_reply_status_is_returned_when_decided_so() {
    let kernel = boot();
    let decisions = Decisions {
        reply_status: ReplyStatus::Returned,
        ..Decisions::default()
    };
    configure(decisions, crate::clock::SECOND);
    load(&kernel, Hooks::default()).unwrap();
    let service = connect_service(&kernel);
    thread::scope(|scope| {
        let asked = scope.spawn(|| ask(b"?", 8, 10 * SECOND));
        let (id, _) = message_of(&get(&service, 64).recv().unwrap());
        let mut reply = reply_bytes(id, b"");
        reply[..4].copy_from_slice(&0xC000_0022_u32.to_le_bytes());
        assert_eq!(service.reply(&reply), OK);
        assert_eq!(asked.join().unwrap().0, nt(0xC000_0022));
    });
    service.close();
    finish(kernel);
}

#[test]
fn a_reply_that_is_too_long_is_an_overflow() {
    let kernel = with_driver(Hooks::default());
    let service = connect_service(&kernel);
    thread::scope(|scope| {
        let asked = scope.spawn(|| ask(b"?", 1, 10 * SECOND));
        let (id, _) = message_of(&get(&service, 64).recv().unwrap());
        assert_eq!(service.reply(&reply_bytes(id, &[0; 8])), OK);
        assert_eq!(asked.join().unwrap().0, nt(0x8000_0005));
    });
    service.close();
    finish(kernel);
}

#[test]
fn a_timeout_ends_both_phases_and_the_late_reply_finds_nobody() {
    let kernel = with_driver(Hooks::default());
    let service = connect_service(&kernel);
    assert_eq!(notify(b"nobody reads", Some(SECOND / 100)), TIMEOUT);
    let got = get(&service, 64);
    assert_eq!(ask(b"nobody answers", 8, SECOND / 100).0, TIMEOUT);
    let (id, _) = message_of(&got.recv().unwrap());
    assert_eq!(service.reply(&reply_bytes(id, b"late")), NO_WAITER);
    service.close();
    finish(kernel);
}

#[test]
fn a_service_that_goes_away_wakes_senders_in_both_phases() {
    let kernel = with_driver(Hooks::default());
    let service = connect_service(&kernel);
    thread::scope(|scope| {
        let asked = scope.spawn(|| ask(b"?", 8, 30 * SECOND));
        get(&service, 64).recv().unwrap();
        let waiting = scope.spawn(|| notify(b"unread", Some(30 * SECOND)));
        while crate::flt::snapshot().sends.len() < 2 {
            thread::yield_now();
        }
        service.close();
        assert_eq!(asked.join().unwrap().0, DISCONNECTED);
        assert_eq!(waiting.join().unwrap(), DISCONNECTED);
    });
    finish(kernel);
}

#[test]
fn closing_the_client_port_clears_the_variable_and_ends_the_connection() {
    let kernel = with_driver(Hooks {
        disconnect: Arc::new(|_| {}),
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    let got = get(&service, 64);
    close_client();
    // SAFETY: the driver's variable, which nobody else uses now.
    assert_eq!(unsafe { client().read() }, 0);
    assert_eq!(got.recv().unwrap(), GetOutcome::Disconnected);
    assert_eq!(
        notify(b"x", Some(SECOND)),
        DISCONNECTED,
        "the variable holds NULL"
    );
    assert_eq!(service.reply(&reply_bytes(1, b"")), DISCONNECTED);
    service.close();
    finish(kernel);
}

#[test]
fn gets_are_cancelled_one_by_one_or_all() {
    let kernel = with_driver(Hooks::default());
    let service = connect_service(&kernel);
    let (sender, first) = std::sync::mpsc::channel();
    let id = service.get(64, Box::new(move |outcome| sender.send(outcome).unwrap()));
    let second = get(&service, 64);
    service.cancel(Some(id));
    assert_eq!(first.recv().unwrap(), GetOutcome::Cancelled);
    service.cancel(None);
    assert_eq!(second.recv().unwrap(), GetOutcome::Cancelled);
    service.close();
    finish(kernel);
}

#[test]
fn a_get_that_is_too_small_learns_the_size() {
    let kernel = with_driver(Hooks::default());
    let service = connect_service(&kernel);
    thread::scope(|scope| {
        let got = get(&service, 17);
        let sender = scope.spawn(|| notify(b"longer", Some(10 * SECOND)));
        assert_eq!(got.recv().unwrap(), GetOutcome::TooSmall { needed: 22 });
        assert_eq!(message_of(&get(&service, 22).recv().unwrap()).1, b"longer");
        assert_eq!(sender.join().unwrap(), OK);
    });
    service.close();
    finish(kernel);
}

#[test]
fn a_command_reads_and_writes_the_callers_memory() {
    let message = Arc::new(|call: &MessageCall| {
        let mut input = [0_u8; 4];
        // SAFETY: a buffer of four bytes; the source is a user address that may be bad.
        let status = unsafe { fltport_copy_from_user(input.as_mut_ptr().cast(), call.input.0, 4) };
        assert_eq!((status, call.input.1, call.cookie), (OK, 4, 7));
        input.reverse();
        // SAFETY: four bytes; the destination is a user address that may be bad.
        let status = unsafe { fltport_copy_to_user(call.output.0, input.as_ptr().cast(), 4) };
        call.set_returned(4);
        status
    });
    let kernel = with_driver(Hooks {
        message,
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    let caller = kernel.peer(std::process::id(), 0);
    let mut output = [0_u8; 4];
    let address = output.as_mut_ptr() as u64;
    let result = service.send(&caller, slice(b"abcd"), UserSlice { address, length: 4 });
    assert_eq!(result, (OK, 4));
    assert_eq!(&output, b"dcba");
    let nowhere = UserSlice {
        address: 16,
        length: 4,
    };
    let (status, count) = service.send(&caller, slice(b"abcd"), nowhere);
    assert_eq!(
        (status, count),
        (nt(0xC000_0005), 0),
        "a page that is not there"
    );
    service.close();
    finish(kernel);
}

#[test]
fn a_kernel_address_is_refused_before_the_driver_sees_it() {
    let message = Arc::new(|_: &MessageCall| panic!("called with a kernel address"));
    let kernel = with_driver(Hooks {
        message,
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    let caller = kernel.peer(std::process::id(), 0);
    let high = UserSlice {
        address: 0xFFFF_8000_0000_0000,
        length: 8,
    };
    assert_eq!(
        service.send(&caller, high, UserSlice::default()),
        (nt(0xC000_0005), 0)
    );
    let wraps = UserSlice {
        address: u64::MAX - 3,
        length: 8,
    };
    assert_eq!(
        service.send(&caller, UserSlice::default(), wraps),
        (nt(0xC000_0005), 0)
    );
    service.close();
    finish(kernel);
}

#[test]
fn the_status_of_a_message_callback_is_the_callers() {
    let message = Arc::new(|call: &MessageCall| {
        call.set_returned(0);
        nt(0xC000_0022)
    });
    let kernel = with_driver(Hooks {
        message,
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    let caller = kernel.peer(std::process::id(), 0);
    let (status, count) = service.send(&caller, slice(b"x"), UserSlice::default());
    assert_eq!((status, count), (nt(0xC000_0022), 0));
    service.close();
    assert_eq!(
        service.send(&caller, slice(b"x"), UserSlice::default()).0,
        DISCONNECTED
    );
    finish(kernel);
}

#[test]
fn many_senders_and_readers_lose_nothing() {
    const SENDERS: u8 = 4;
    const EACH: u8 = 50;
    let kernel = with_driver(Hooks::default());
    let service = connect_service(&kernel);
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            scope.spawn(move || {
                for number in 0..EACH {
                    let (status, reply) = ask(&[sender, number], 2, 30 * SECOND);
                    assert_eq!((status, reply), (OK, vec![number, sender]));
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..u16::from(SENDERS) * u16::from(EACH) / 2 {
                    let (id, mut payload) = message_of(&get(&service, 64).recv().unwrap());
                    payload.reverse();
                    assert_eq!(service.reply(&reply_bytes(id, &payload)), OK);
                }
            });
        }
    });
    service.close();
    finish(kernel);
}
