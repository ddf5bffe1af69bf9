// SPDX-License-Identifier: MIT OR Apache-2.0
//! User buffers used after the call, or by a thread that is not in the caller's process.

use crate::driver::{Call, Machine, fetch};
use crate::support::thread::{join, start_thread};
use fltport_nt::bindings::*;
use nt_host::Rule;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// A driver that remembers its last input buffer.
fn remembering(reads_first: bool) -> (Machine, Arc<AtomicUsize>) {
    let kept = Arc::new(AtomicUsize::new(0));
    let inner = kept.clone();
    let machine = Machine::with(move |call: Call| {
        inner.store(call.input as usize, Ordering::Release);
        if reads_first {
            call.fetch(0, 4).0
        } else {
            STATUS_SUCCESS
        }
    });
    (machine, kept)
}

#[test]
fn a_copy_after_the_call_is_refused_and_reported() {
    let (machine, kept) = remembering(true);
    assert_eq!(machine.send(&[1; 4], &mut []), STATUS_SUCCESS);
    let address = kept.load(Ordering::Acquire);
    machine.kernel.peer(std::process::id(), 0).attach(|| {
        assert_eq!(fetch(address, 4).0, STATUS_ACCESS_VIOLATION);
    });
    let reports = machine.expect(&[Rule::UserMemoryUsedAfterCall]);
    let report = &reports[0];
    assert_eq!(report.driver.as_deref(), Some("usertest"));
    assert!(report.to_string().contains("during the call"), "{report}");
}

#[test]
fn a_touch_after_the_call_is_reported() {
    let (machine, kept) = remembering(false);
    assert_eq!(machine.send(&[1; 4], &mut []), STATUS_SUCCESS);
    let address = kept.load(Ordering::Acquire) as *const u8;
    // SAFETY: the mistake itself.
    let byte = unsafe { address.read_volatile() };
    assert_eq!(byte, 0, "the user's memory is no longer reachable");
    machine.expect(&[Rule::UserMemoryUsedAfterCall]);
}

#[test]
fn a_buffer_of_a_call_long_ago_is_still_closed() {
    let (machine, kept) = remembering(false);
    assert_eq!(machine.send(&[1; 4], &mut []), STATUS_SUCCESS);
    let address = kept.load(Ordering::Acquire);
    for _ in 0..3000 {
        assert_eq!(machine.send(&[1; 4], &mut []), STATUS_SUCCESS);
    }
    assert_ne!(kept.load(Ordering::Acquire), address);
    assert_eq!(fetch(address, 4).0, STATUS_ACCESS_VIOLATION);
    // SAFETY: the mistake itself.
    let byte = unsafe { (address as *const u8).read_volatile() };
    assert_eq!(byte, 0);
    machine.expect(&[Rule::UserMemoryUsedAfterCall, Rule::UserMemoryUsedAfterCall]);
}

/// What a system thread of the driver is given.
struct Work {
    address: usize,
    status: AtomicI32,
}

unsafe extern "system" fn copies_in_system(context: *mut c_void) {
    // SAFETY: the callback waits for the thread, so its variable lives.
    let work = unsafe { &*context.cast::<Work>() };
    let status = fetch(work.address, 4).0;
    work.status.store(status, Ordering::Release);
}

#[test]
fn a_system_thread_cannot_reach_the_callers_buffer() {
    let machine = Machine::with(|call| {
        let work = Work {
            address: call.input as usize,
            status: AtomicI32::new(STATUS_SUCCESS),
        };
        join(start_thread(copies_in_system, (&raw const work).cast()));
        // The thread has written it.
        work.status.load(Ordering::Acquire)
    });
    assert_eq!(machine.send(&[1; 4], &mut []), STATUS_ACCESS_VIOLATION);
    let reports = machine.expect(&[Rule::UserMemoryWrongProcess]);
    assert!(
        reports[0].found.contains("thread in process 4"),
        "{}",
        reports[0]
    );
}
