// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver closes its end.

use std::time::Duration;

use crate::port::{BYTES, Connect, DISCONNECTED, IO_PENDING, LIMIT, Order, Port, S_OK};
use crate::report::Report;

const PORT_DISCONNECTED: u32 = 0xC000_0037;
const DISCONNECT: Order = Order {
    bytes: 0,
    room: 0,
    milliseconds: 0,
};

pub(crate) fn check(report: &mut Report) {
    let port = Port::connect();
    let completions = port.completions();
    let (_, get) = port.get(BYTES);
    let mut gets = vec![get];
    report.hresult("order to disconnect", S_OK, port.order(DISCONNECT).result);
    let got = completions.next(&mut gets, LIMIT);
    let status = got.map_or(0, |got| got.status);
    report.status(
        "a pended get when the driver disconnects",
        PORT_DISCONNECTED,
        status,
    );

    report.hresult("send on it", DISCONNECTED, port.order(DISCONNECT).result);
    report.hresult("reply on it", DISCONNECTED, port.reply(1, b""));
    let (result, get) = port.get(BYTES);
    let mut gets = vec![get];
    if result.cast_unsigned() == IO_PENDING {
        let got = completions.next(&mut gets, LIMIT);
        let status = got.map_or(0, |got| got.status);
        report.status("get on it, pended", PORT_DISCONNECTED, status);
    } else {
        report.hresult("get on it", DISCONNECTED, result);
        let packet = completions.next(&mut gets, Duration::from_millis(100));
        report.check(
            "a get that fails at once has no packet",
            true,
            packet.is_none(),
        );
    }
    drop(port);
    let (result, _) = Connect::GOOD.patiently();
    report.hresult("connect again", S_OK, result);
}
