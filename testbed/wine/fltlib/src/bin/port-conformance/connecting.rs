// SPDX-License-Identifier: MIT OR Apache-2.0
//! FilterConnectCommunicationPort.

use crate::port::{COUNT_LIMIT, Connect, INVALID_ARGUMENT, S_OK};
use crate::report::Report;

const SYNC_HANDLE: u32 = 1;

pub(crate) fn check(report: &mut Report) {
    names(report);
    arguments(report);
    let refused = Connect {
        context: Some(&[2, 0, 0, 0]),
        ..Connect::GOOD
    };
    // STATUS_REVISION_MISMATCH.
    fails(report, "ConnectNotify refuses", 0x8007_051A, &refused);
    let (result, port) = Connect::GOOD.call();
    report.hresult("connect", S_OK, result);
    fails(
        report,
        "one connection too many",
        COUNT_LIMIT,
        &Connect::GOOD,
    );
    drop(port);
    let (result, port) = Connect::GOOD.patiently();
    report.hresult("connect when the slot is free again", S_OK, result);
    drop(port);
    let synchronous = Connect {
        options: SYNC_HANDLE,
        ..Connect::GOOD
    };
    let (result, _) = synchronous.patiently();
    report.hresult("connect with a synchronous handle", S_OK, result);
}

/// A refusal leaves INVALID_HANDLE_VALUE.
fn fails(report: &mut Report, name: &str, expected: u32, connect: &Connect<'_>) {
    let (result, port) = connect.call();
    report.hresult(name, expected, result);
    report.check(&format!("{name}: no handle"), true, port.is_none());
}

fn names(report: &mut Report) {
    for (name, port) in [
        ("no such port", "\\NoSuchPort"),
        ("the name in another case", "\\CONFORMANCE"),
    ] {
        let connect = Connect {
            name: port,
            ..Connect::GOOD
        };
        fails(report, name, 0x8007_0002, &connect);
    }
}

fn arguments(report: &mut Report) {
    let none = Connect {
        context: None,
        ..Connect::GOOD
    };
    fails(report, "a size without a context", INVALID_ARGUMENT, &none);
    let empty = Connect {
        size: 0,
        ..Connect::GOOD
    };
    fails(report, "a context without a size", INVALID_ARGUMENT, &empty);
    let large = vec![0; 65_512];
    let large = Connect {
        context: Some(&large),
        size: 65_512,
        ..Connect::GOOD
    };
    fails(
        report,
        "a context beyond 65511 bytes (decided)",
        0x8007_0216,
        &large,
    );
    let options = Connect {
        options: 2,
        ..Connect::GOOD
    };
    fails(
        report,
        "an option that is none (decided)",
        INVALID_ARGUMENT,
        &options,
    );
}
