// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks that a routine leaves: which of them the hosted kernel releases, and how often.

use fltport_nt::bindings::*;
use nt_host::Rule;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::bad::compare;
use crate::locks::{MUTEX, fresh_mutex, in_thread, release_mutex, take_mutex};
use crate::support::*;

unsafe extern "system" fn takes_mutex_twice_more(_: *mut c_void, _: *mut c_void, _: *mut c_void) {
    assert_eq!(take_mutex(None), STATUS_SUCCESS);
    assert_eq!(take_mutex(None), STATUS_SUCCESS);
}

/// Calls a routine as a callback of a callback object, in this thread.
fn notify(routine: *const ()) {
    let name = attributes("\\Callback\\Locks", null_mut(), 0);
    let mut callback = 0;
    // SAFETY: valid attributes and memory for the pointer.
    unsafe { ExCreateCallback(&raw mut callback, &raw const name, true, true) };
    // SAFETY: a referenced callback object and a routine.
    let registration = unsafe { ExRegisterCallback(callback, untyped(routine), null()) };
    // SAFETY: as above.
    unsafe { ExNotifyCallback(callback as *const c_void, null(), null()) };
    // SAFETY: registered above.
    unsafe { ExUnregisterCallback(registration) };
    // SAFETY: referenced by its creation.
    unsafe { ObfDereferenceObject(callback as *const c_void) };
}

#[test]
fn a_mutex_left_by_a_callback_is_still_its_callers() {
    let reports = compare(
        || {
            fresh_mutex();
            assert_eq!(take_mutex(None), STATUS_SUCCESS);
            notify(takes_mutex_twice_more as *const ());
            // What the callback took and left is released; what this function took is not.
            in_thread(finds_mutex_taken);
            assert_eq!(release_mutex(), 0);
            // SAFETY: an initialised mutex.
            assert_eq!(unsafe { KeReadStateMutex(MUTEX.get()) }, 1);
        },
        &[Rule::LockLeft],
        || {},
    );
    assert!(reports[0].expected.contains("callback"), "{}", reports[0]);
}

unsafe extern "system" fn finds_mutex_taken(_: *mut c_void) {
    assert_eq!(take_mutex(Some(0)), STATUS_TIMEOUT);
}

/// A buffer of a driver's function, with a mutex below it.
#[repr(C)]
struct Deep {
    mutex: KMUTANT,
    _buffer: [u8; 16 * 1024],
}

/// Takes a mutex on its own part of the stack and leaves it.
#[inline(never)]
fn leaves_mutex_deep_on_the_stack() {
    let mut deep = std::mem::MaybeUninit::<Deep>::zeroed();
    // SAFETY: only the address of a field is taken.
    let mutex = unsafe { &raw mut (*deep.as_mut_ptr()).mutex };
    // SAFETY: memory for a mutex.
    unsafe { KeInitializeMutex(mutex, 0) };
    assert_eq!(wait(mutex.cast(), Some(0)), STATUS_SUCCESS);
    std::hint::black_box(&deep);
}

/// Uses the stack that the function before it had.
#[inline(never)]
fn overwrites_the_stack() {
    std::hint::black_box([0xAA_u8; 32 * 1024]);
}

unsafe extern "system" fn leaves_deep_mutex_and_ends(_: *mut c_void) {
    leaves_mutex_deep_on_the_stack();
    overwrites_the_stack();
    // SAFETY: ends this thread.
    unsafe { PsTerminateSystemThread(STATUS_SUCCESS) };
}

/// What was a mutex is something else by now: a release would look into it, and write to it.
#[test]
fn a_lock_that_was_left_on_the_stack_is_not_touched() {
    compare(
        || {
            leaves_mutex_deep_on_the_stack();
            overwrites_the_stack();
        },
        &[Rule::LockLeft],
        || {},
    );
    compare(
        || in_thread(leaves_deep_mutex_and_ends),
        &[Rule::LockLeft],
        || {},
    );
}

static OWN_MUTEX: AtomicPtr<KMUTANT> = AtomicPtr::new(null_mut());

unsafe extern "system" fn leaves_own_mutex_and_ends(_: *mut c_void) {
    let mut own = std::mem::MaybeUninit::<KMUTANT>::zeroed();
    let mutex = own.as_mut_ptr();
    // SAFETY: memory for a mutex.
    unsafe { KeInitializeMutex(mutex, 0) };
    assert_eq!(wait(mutex.cast(), Some(0)), STATUS_SUCCESS);
    OWN_MUTEX.store(mutex, Ordering::SeqCst);
    // SAFETY: ends this thread, whose stack stays.
    unsafe { PsTerminateSystemThread(STATUS_SUCCESS) };
}

/// The function that ended its thread has not returned: its variables are there.
#[test]
fn a_lock_on_the_stack_of_a_thread_that_ended_itself_is_released() {
    compare(
        || {
            in_thread(leaves_own_mutex_and_ends);
            let mutex = OWN_MUTEX.load(Ordering::SeqCst);
            assert_eq!(wait(mutex.cast(), Some(0)), STATUS_SUCCESS);
            // SAFETY: taken above.
            assert_eq!(unsafe { KeReleaseMutex(mutex, false) }, 0);
        },
        &[Rule::LockLeft],
        || {},
    );
}
