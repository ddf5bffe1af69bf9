// SPDX-License-Identifier: MIT OR Apache-2.0
//! FilterReplyMessage.

use std::thread;

use crate::port::{BYTES, INVALID_ARGUMENT, NO_WAITER, Order, Ordered, Port, S_OK};
use crate::report::Report;

const TIMEOUT: u32 = 0x0000_0102;
const BUFFER_OVERFLOW: u32 = 0x8000_0005;

const QUESTION: Order = Order {
    bytes: 16,
    room: 8,
    milliseconds: 10_000,
};

pub(crate) fn check(report: &mut Report) {
    let port = Port::connect();
    payloads(report, &port);
    late(report, &port);
    unasked(report, &port);
}

/// Has the driver ask; `answer` gets the message's id.
fn ask(port: &Port, order: Order, answer: impl FnOnce(u64, u32)) -> Ordered {
    thread::scope(|scope| {
        let ordered = scope.spawn(|| port.order(order));
        let (_, get) = port.get(BYTES);
        let got = get.finish().expect("the get ends");
        let message = got.message();
        answer(message.id.0, message.reply_length);
        ordered.join().expect("no panic")
    })
}

fn payloads(report: &mut Report, port: &Port) {
    let exact: (&str, &[u8], u32, u32) = ("a reply that fits", &[7; 8], 0, 8);
    let short = ("a shorter reply", &[7; 3][..], 0, 3);
    let bare = ("a reply of its header", &[][..], 0, 0);
    let long = ("a reply that is too long", &[7; 9][..], BUFFER_OVERFLOW, 0);
    for (name, payload, status, bytes) in [exact, short, bare, long] {
        let ordered = ask(port, QUESTION, |id, reply_length| {
            report.check(&format!("{name}: ReplyLength"), 16 + 8, reply_length);
            report.hresult(name, S_OK, port.reply(id, payload));
            report.hresult(
                &format!("{name}, twice"),
                NO_WAITER,
                port.reply(id, payload),
            );
        });
        report.status(
            &format!("{name}: the driver's status"),
            status,
            ordered.status,
        );
        report.check(&format!("{name}: bytes"), bytes, ordered.replied);
    }
}

fn late(report: &mut Report, port: &Port) {
    let order = Order {
        milliseconds: 50,
        ..QUESTION
    };
    let mut late = 0;
    let ordered = ask(port, order, |id, _| late = id);
    report.status(
        "no reply in time: the driver's status",
        TIMEOUT,
        ordered.status,
    );
    report.hresult("a late reply", NO_WAITER, port.reply(late, b"late"));
}

fn unasked(report: &mut Report, port: &Port) {
    let order = Order {
        room: 0,
        ..QUESTION
    };
    ask(port, order, |id, _| {
        let result = port.reply(id, b"");
        report.hresult("a reply to a notification", NO_WAITER, result);
    });
    let result = port.reply(u64::MAX, b"");
    report.hresult("a reply to nothing", NO_WAITER, result);
    let result = port.reply_bytes(&[0; 15]);
    report.hresult("a reply of 15 bytes (decided)", INVALID_ARGUMENT, result);
}
