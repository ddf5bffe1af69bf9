// SPDX-License-Identifier: MIT OR Apache-2.0
//! FilterLoad and FilterUnload. Both need the privilege to load drivers.

use crate::port::{Connect, INVALID_ARGUMENT, S_OK, load, unload};
use crate::report::Report;

pub(crate) fn check(report: &mut Report, service: &str) {
    report.hresult("load without a name", INVALID_ARGUMENT, load(""));
    report.hresult("unload without a name", INVALID_ARGUMENT, unload(""));
    report.hresult(
        "load what is no service",
        0x8007_0002,
        load("no such filter"),
    );
    report.hresult(
        "unload what is no filter",
        0x801F_0013,
        unload("no such filter"),
    );
    let again = load(service).cast_unsigned();
    let documented = [0x8007_00B7, 0x8007_0420].contains(&again);
    report.check(&format!("load again, 0x{again:08X}"), true, documented);

    report.hresult("unload", S_OK, unload(service));
    let (result, _) = Connect::GOOD.call();
    report.hresult("connect when it is unloaded", 0x8007_0002, result);
    report.hresult("load", S_OK, load(service));
    let (result, _) = Connect::GOOD.call();
    report.hresult("connect when it is loaded again", S_OK, result);
}
