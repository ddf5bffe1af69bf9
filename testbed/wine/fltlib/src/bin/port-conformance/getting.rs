// SPDX-License-Identifier: MIT OR Apache-2.0
//! FilterGetMessage.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use fltmgr::MESSAGE_HEADER;

use crate::port::{BYTES, IO_PENDING, LIMIT, Order, Port, S_OK, on_no_handle};
use crate::report::{Hex, Report};

/// How long nothing must happen to be taken for nothing.
const QUIET: Duration = Duration::from_millis(100);
/// STATUS_CANCELLED and ERROR_OPERATION_ABORTED.
const CANCELLED: (u32, u32) = (0xC000_0120, 0x8007_03E3);
const FLT_BUFFER_TOO_SMALL: u32 = 0x801C_0001;

const NOTIFICATION: Order = Order {
    bytes: 24,
    room: 0,
    milliseconds: 10_000,
};

pub(crate) fn check(report: &mut Report) {
    overlapped(report);
    too_small(report);
    synchronous(report);
    cancelled(report);
    many(report);
    orphaned(report);
    for result in on_no_handle() {
        report.hresult("no handle", 0x8007_0006, result);
    }
}

fn overlapped(report: &mut Report) {
    let port = Port::connect();
    let (result, get) = port.get(BYTES + MESSAGE_HEADER);
    report.hresult("get with an OVERLAPPED", IO_PENDING, result);
    report.check("get pends, its event is reset", false, get.ends(QUIET));
    let ordered = port.order(NOTIFICATION);
    report.hresult("order", S_OK, ordered.result);
    report.status("order: the driver's status", 0, ordered.status);
    let got = get.finish().expect("the get ends");
    report.status("get ends", 0, got.status);
    report.check("get: header and message", 16 + 24, got.transferred);
    report.check("get: message", 24, got.message().payload.len());
    report.check(
        "get: text",
        &b"How are you?"[..],
        &got.message().payload[..12],
    );
    report.check("get: no reply wanted", 0, got.message().reply_length);
}

fn too_small(report: &mut Report) {
    let port = Port::connect();
    let (result, get) = port.get(MESSAGE_HEADER + 8);
    report.hresult("get with too little room pends", IO_PENDING, result);
    thread::scope(|scope| {
        let ordered = scope.spawn(|| port.order(NOTIFICATION));
        let got = get.finish().expect("the get ends");
        report.status("too little room", FLT_BUFFER_TOO_SMALL, got.status);
        report.check("too little room: the size needed", 16 + 24, got.transferred);
        let (result, buffer) = port.get_and_wait(MESSAGE_HEADER);
        drop(buffer);
        report.hresult("too little room, synchronous", 0x8007_007A, result);
        let (_, get) = port.get(16 + 24);
        let got = get.finish().expect("the get ends");
        report.status("the message is not lost", 0, got.status);
        report.check("the message is whole", 16 + 24, got.transferred);
        let ordered = ordered.join().expect("no panic");
        report.status("the driver sees no failure", 0, ordered.status);
    });
}

fn synchronous(report: &mut Report) {
    let port = Port::connect();
    thread::scope(|scope| {
        let ordered = scope.spawn(|| port.order(NOTIFICATION));
        let (result, buffer) = port.get_and_wait(BYTES);
        report.hresult("get without an OVERLAPPED", S_OK, result);
        report.check("get without an OVERLAPPED: an id", true, buffer[1] != 0);
        let ordered = ordered.join().expect("no panic");
        report.status(
            "get without an OVERLAPPED: the driver's status",
            0,
            ordered.status,
        );
    });
}

fn cancelled(report: &mut Report) {
    let port = Port::connect();
    let (_, get) = port.get(BYTES);
    report.check("something to cancel", true, port.cancel());
    let got = get.finish().expect("the get ends");
    report.status("cancel", CANCELLED.0, got.status);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| port.get_and_wait(BYTES).0);
        // A cancel before the get is there finds nothing, and Wine does not say so.
        while !waiting.is_finished() {
            port.cancel();
            thread::yield_now();
        }
        let result = waiting.join().expect("no panic");
        report.hresult("cancel, synchronous", CANCELLED.1, result);
    });
}

/// The thread that makes a get ends while it waits. The get has to be at a completion port, and have
/// no event.
fn orphaned(report: &mut Report) {
    let port = Port::connect();
    let completions = port.completions();
    let get = thread::scope(|scope| {
        let made = scope.spawn(|| port.get_without_event(BYTES).1);
        made.join().expect("no panic")
    });
    let mut gets = vec![get];
    let ended = completions.next(&mut gets, QUIET);
    let status = ended.map(|got| Hex(got.status.cast_unsigned()));
    report.check("a get outlives the thread that made it", None, status);
    let ordered = port.order(NOTIFICATION);
    report.status("it takes a message: the driver's status", 0, ordered.status);
    let got = completions.next(&mut gets, LIMIT);
    let transferred = got.map(|got| got.transferred);
    report.check("it takes a message", Some(16 + 24), transferred);
}

/// Several gets at a completion port, each with one packet.
fn many(report: &mut Report) {
    const GETS: usize = 8;
    let port = Port::connect();
    let completions = port.completions();
    let mut gets: Vec<_> = (0..GETS).map(|_| port.get(BYTES).1).collect();
    for _ in 0..GETS {
        port.order(NOTIFICATION);
    }
    let mut ids = BTreeSet::new();
    while !gets.is_empty()
        && let Some(got) = completions.next(&mut gets, LIMIT)
    {
        ids.insert(got.message().id);
    }
    report.check(
        "as many messages as gets, with ids of their own",
        GETS,
        ids.len(),
    );
    let (_, get) = port.get(BYTES);
    let mut gets = vec![get];
    port.cancel();
    let got = completions.next(&mut gets, LIMIT);
    let status = got.map_or(0, |got| got.status);
    report.status("a cancelled get has a packet", CANCELLED.0, status);
    report.check(
        "and none else",
        true,
        completions.next(&mut gets, QUIET).is_none(),
    );
}
