// SPDX-License-Identifier: MIT OR Apache-2.0
//! FilterSendMessage.

use crate::port::{INVALID_ARGUMENT, Order, Port, S_OK};
use crate::report::Report;

const TIMEOUT: u32 = 0x0000_0102;

pub(crate) fn check(report: &mut Report) {
    let port = Port::connect();
    let nobody = port.order(Order {
        bytes: 16,
        room: 0,
        milliseconds: 50,
    });
    report.hresult("send", S_OK, nobody.result);
    report.check("send: bytes returned", 8, nobody.returned);
    report.status("nobody reads: the driver's status", TIMEOUT, nobody.status);

    let (result, returned) = port.send(&[0; 3], &mut [0; 8]);
    report.hresult("MessageNotify refuses", INVALID_ARGUMENT, result);
    report.check("MessageNotify refuses: bytes returned", 0, returned);
    let (result, _) = port.send(&[0; 12], &mut []);
    report.hresult("no room for the answer", INVALID_ARGUMENT, result);
    let large = port.order(Order {
        bytes: 1 << 20,
        room: 0,
        milliseconds: 50,
    });
    // STATUS_INVALID_BUFFER_SIZE, ERROR_INVALID_USER_BUFFER.
    report.hresult("MessageNotify's own status", 0x8007_06F8, large.result);
}
