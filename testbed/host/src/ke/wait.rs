// SPDX-License-Identifier: MIT OR Apache-2.0
//! KeWaitForSingleObject and its relatives.

use std::ffi::c_void;

use super::dispatcher::{Limit, Waited};
use super::header::Header;
use super::mutant;
use crate::abi::{KWAIT_BLOCK, KWAIT_REASON, NTSTATUS, WAIT_TYPE};
use crate::clock::Deadline;
use crate::entry::nt;
use crate::irql::{self, APC_LEVEL, DISPATCH_LEVEL};
use crate::kernel;
use crate::sched::{self, Waiter};
use crate::status::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS, STATUS_TIMEOUT};
use crate::thread;
use crate::verifier::locks;
use crate::verifier::{Report, Rule};

/// The value of WaitAll; WaitAny is 1.
const WAIT_ALL: WAIT_TYPE = 0;

/// As many objects as a thread can wait for with wait blocks of its own.
const MAXIMUM_WAIT_OBJECTS: usize = 64;
/// As many as without.
const THREAD_WAIT_OBJECTS: usize = 3;

/// Reads an optional timeout.
///
/// # Safety
/// `timeout` is null or points to a readable time.
pub(crate) unsafe fn limit(timeout: *const i64) -> Limit {
    if timeout.is_null() {
        return Limit::Never;
    }
    // SAFETY: readable by contract.
    match unsafe { timeout.read_unaligned() } {
        0 => Limit::Now,
        time => Limit::Until(Deadline::from_timeout(time)),
    }
}

/// Reports a wait that may block where nothing may block. True when the wait must not happen.
pub(crate) fn must_not_block(may_block: bool) -> bool {
    if !may_block {
        return false;
    }
    if locks::report_wait_with_spin_lock() {
        return true;
    }
    if irql::current() < DISPATCH_LEVEL {
        return false;
    }
    Report::new(Rule::WaitAtDispatchLevel)
        .expected("a timeout of zero, or IRQL <= APC_LEVEL")
        .found(format!(
            "a wait that may block, at {}",
            irql::name(irql::current())
        ))
        .detail("on NT the processor cannot switch to another thread here: the system stops")
        .file();
    true
}

/// Waits for any or all of these objects.
pub(crate) fn wait(objects: &[Header], all: bool, limit: Limit) -> NTSTATUS {
    let may_block = !matches!(limit, Limit::Now);
    let limit = if must_not_block(may_block) {
        Limit::Now
    } else {
        limit
    };
    let mutexes = || objects.iter().copied().filter_map(mutant::as_lock);
    if !matches!(limit, Limit::Now) {
        mutexes().for_each(locks::before_taking);
    }
    let thread = thread::current_thread().address();
    let dispatcher = &kernel::state().dispatcher;
    let mut waited = dispatcher.wait(objects, all, Limit::Now, thread);
    if waited == Waited::TimedOut && !matches!(limit, Limit::Now) {
        let mut block = || waited = dispatcher.wait(objects, all, limit, thread);
        match (mutexes().next(), objects, limit) {
            (Some(only), [_], Limit::Never) => {
                if !locks::waiting_for(only, block) {
                    locks::taken_in_name_only(only);
                    return STATUS_SUCCESS;
                }
            }
            _ => block(),
        }
    }
    match waited {
        Waited::Satisfied(index) => {
            let taken = if all {
                objects
            } else {
                &objects[index..=index]
            };
            let locks_taken = taken.iter().copied().filter_map(mutant::as_lock);
            locks_taken.for_each(|lock| locks::taken(lock, irql::current()));
            NTSTATUS::try_from(index).unwrap_or(STATUS_SUCCESS)
        }
        Waited::TimedOut => STATUS_TIMEOUT,
    }
}

nt! {
    /// Waits for one dispatcher object. At DISPATCH_LEVEL only with a timeout of zero.
    simplified = "there are no APCs: a wait is never alerted or interrupted, and the mode has no \
        effect; an absolute time is converted once, so that a later step of the wall clock \
        does not move it";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeWaitForSingleObject(
        object: *const c_void,
        _reason: KWAIT_REASON,
        _mode: i8,
        _alertable: bool,
        timeout: *const i64,
    ) -> NTSTATUS {
        // SAFETY: the caller passes a dispatcher object.
        let Some(header) = (unsafe { Header::at(object) }) else {
            return STATUS_INVALID_PARAMETER;
        };
        // SAFETY: the caller passes null or a time.
        let limit = unsafe { limit(timeout) };
        wait(&[header], false, limit)
    }

    /// Waits for any or all of several dispatcher objects, 64 at most, 3 without wait blocks.
    simplified = "there are no APCs: a wait is never alerted or interrupted, and the mode has no \
        effect; an absolute time is converted once, so that a later step of the wall clock \
        does not move it; wait blocks are not written";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeWaitForMultipleObjects(
        count: u32,
        objects: *const *const c_void,
        kind: WAIT_TYPE,
        _reason: KWAIT_REASON,
        _mode: i8,
        _alertable: bool,
        timeout: *const i64,
        blocks: *mut KWAIT_BLOCK,
    ) -> NTSTATUS {
        let most = if blocks.is_null() { THREAD_WAIT_OBJECTS } else { MAXIMUM_WAIT_OBJECTS };
        let count = count as usize;
        if count == 0 || count > most || objects.is_null() {
            // NT stops the system with MAXIMUM_WAIT_OBJECTS_EXCEEDED.
            super::bug_check::stop(0xC, [count, most, 0, 0]);
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller passes an array of `count` pointers.
        let objects = unsafe { std::slice::from_raw_parts(objects, count) };
        let mut headers = Vec::with_capacity(count);
        for object in objects {
            // SAFETY: the caller passes dispatcher objects.
            match unsafe { Header::at(*object) } {
                Some(header) => headers.push(header),
                None => return STATUS_INVALID_PARAMETER,
            }
        }
        // SAFETY: the caller passes null or a time.
        let limit = unsafe { limit(timeout) };
        wait(&headers, kind == WAIT_ALL, limit)
    }

    /// Does nothing until the time is up.
    simplified = "there are no APCs: a wait is never alerted or interrupted, and the mode has no \
        effect; an absolute time is converted once, so that a later step of the wall clock \
        does not move it; a time is not rounded up to a tick of the clock";
    max_irql = APC_LEVEL;
    pub unsafe fn KeDelayExecutionThread(
        _mode: i8,
        _alertable: bool,
        interval: *const i64,
    ) -> NTSTATUS {
        // SAFETY: the caller passes a time.
        if let Limit::Until(deadline) = unsafe { limit(interval) }
            // Above APC_LEVEL a report was made at the entry.
            && irql::current() <= APC_LEVEL
            && !must_not_block(true)
        {
            sched::block(&Waiter::new(), Some(deadline));
        }
        STATUS_SUCCESS
    }
}
