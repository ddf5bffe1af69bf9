// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that fltlib.dll and the Filter Manager behind it answer as documented, with the driver of
//! `testbed/wine/conformance`. One line for each check: name, what was expected, what was found. Exits
//! with 1 if one differs.
//!
//! Runs under Wine with the stand-ins, and on Windows with the real ones. A check whose expectation
//! is not documented, but decided for the stand-ins, is named so.
//!
//! Usage: `port-conformance [SERVICE]`, the name of the driver's service, `conformance` by default.
#![deny(unsafe_code)]

#[cfg(windows)]
mod connecting;
#[cfg(windows)]
mod disconnecting;
#[cfg(windows)]
mod getting;
#[cfg(windows)]
mod loading;
#[cfg(windows)]
#[allow(unsafe_code)]
mod port;
#[cfg(windows)]
mod replying;
#[cfg(windows)]
mod report;
#[cfg(windows)]
mod sending;

#[cfg(windows)]
fn main() -> std::process::ExitCode {
    let service = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "conformance".into());
    let mut report = report::Report::default();
    connecting::check(&mut report);
    getting::check(&mut report);
    replying::check(&mut report);
    sending::check(&mut report);
    disconnecting::check(&mut report);
    loading::check(&mut report, &service);
    report.finish()
}

#[cfg(not(windows))]
fn main() -> std::process::ExitCode {
    eprintln!("port-conformance is for Windows and Wine: build it for x86_64-pc-windows-gnu");
    std::process::ExitCode::FAILURE
}
