// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults that are none of the hosted kernel's business end the process as they always did.

use crate::driver::Machine;
use fltport_nt::bindings::STATUS_SUCCESS;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

/// Says to a copy of this program how it is to crash.
const HOW: &str = "NT_HOST_TEST_CRASH";

#[inline(never)]
fn recurses(depth: u64) -> u64 {
    let local = std::hint::black_box([depth; 64]);
    match depth {
        u64::MAX => 0,
        _ => recurses(depth + 1) + local[7],
    }
}

/// Crashes after the hosted kernel has put its handler in place.
fn crash(how: &str) {
    let how = how.to_owned();
    let machine = Machine::with(move |call| {
        // The handler is in use.
        assert_eq!(call.peek(0), 1);
        match how.as_str() {
            "overflow" => recurses(0) as i32,
            _ => {
                let nowhere = std::hint::black_box(0x10_usize) as *const i32;
                // SAFETY: the crash that is wanted.
                unsafe { nowhere.read_volatile() }
            }
        }
    });
    assert_eq!(machine.send(&[1; 4], &mut []), STATUS_SUCCESS);
}

fn crashed(how: &str) -> Output {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashes::a_crash_stays_a_crash", "--nocapture"])
        .env(HOW, how)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{how}: {output:?}");
    output
}

#[test]
fn a_crash_stays_a_crash() {
    if let Ok(how) = std::env::var(HOW) {
        return crash(&how);
    }
    let overflow = crashed("overflow");
    assert_eq!(overflow.status.signal(), Some(libc_signal::ABRT));
    let text = String::from_utf8_lossy(&overflow.stderr).into_owned();
    assert!(text.contains("has overflowed its stack"), "{text}");
    let null = crashed("null");
    assert_eq!(null.status.signal(), Some(libc_signal::SEGV));
}

/// The numbers of the signals, the same on every Linux.
mod libc_signal {
    pub(super) const ABRT: i32 = 6;
    pub(super) const SEGV: i32 = 11;
}
