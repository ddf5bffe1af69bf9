// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work items: what may be done with them, and what NT itself waits for.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use fltport_nt::bindings::*;
use nt_host::Rule;

use crate::driver::*;
use crate::support::{NON_PAGED, Shared, TAG};

fn allocate(object: *mut DRIVER_OBJECT) -> PIO_WORKITEM {
    // SAFETY: the driver's own object.
    let item = unsafe { IoAllocateWorkItem(object.cast()) };
    // Not a tail call, which would not show on the stack.
    std::hint::black_box(item)
}

fn free(item: PIO_WORKITEM) {
    // SAFETY: whether it is allocated and at rest is what the tests are about.
    unsafe { IoFreeWorkItem(item) };
}

type Routine = unsafe extern "system" fn(*mut c_void, *mut c_void, PIO_WORKITEM);

fn queue(item: PIO_WORKITEM, routine: Routine, context: Shared) {
    let routine = untyped(routine as *const ());
    // SAFETY: an item, unless a test means another, a routine and its context.
    unsafe { IoQueueWorkItemEx(item, routine, DelayedWorkQueue, context.pointer::<c_void>()) };
}

/// Waits for the event, then frees its item.
unsafe extern "system" fn waits(_: *mut c_void, gate: *mut c_void, item: PIO_WORKITEM) {
    wait_for(Shared(gate as usize));
    free(item);
}

/// Keeps all workers busy until the event is set, so that what is queued stays queued.
fn occupy_workers(object: *mut DRIVER_OBJECT, gate: Shared) {
    for _ in 0..64 {
        queue(allocate(object), waits, gate);
    }
}

/// Sets the event that is its context, and frees the item.
unsafe extern "system" fn signals(_: *mut c_void, done: *mut c_void, item: PIO_WORKITEM) {
    free(item);
    set(Shared(done as usize));
}

#[test]
fn an_item_that_is_freed_by_its_routine_is_right() {
    let kernel = boot();
    let done = lasting_event();
    let reports = life_in(
        kernel,
        move |object| queue(allocate(object), signals, done),
        move |_| wait_for(done),
    );
    assert_broken(&reports, &[]);
}

#[test]
fn queueing_a_queued_item_is_reported() {
    let kernel = boot();
    let gate = lasting_event();
    let entry = move |object| {
        occupy_workers(object, gate);
        let item = allocate(object);
        queue(item, waits, gate);
        queue(item, waits, gate);
        set(gate);
    };
    let reports = life_in(kernel, entry, |_| {});
    assert_one(&reports, Rule::WorkItemQueuedTwice, "IoQueueWorkItemEx");
}

/// Does nothing: its item is gone.
unsafe extern "system" fn nothing(_: *mut c_void, _: *mut c_void, _: PIO_WORKITEM) {}

#[test]
fn freeing_a_queued_item_is_reported() {
    let kernel = boot();
    let gate = lasting_event();
    let entry = move |object| {
        occupy_workers(object, gate);
        let item = allocate(object);
        queue(item, nothing, gate);
        free(item);
        set(gate);
    };
    let reports = life_in(kernel, entry, |_| {});
    assert_one(&reports, Rule::WorkItemFreedQueued, "IoFreeWorkItem");
}

#[test]
fn an_item_that_does_not_exist_is_reported() {
    let reports = life(
        |object| {
            let item = allocate(object);
            free(item);
            queue(item, nothing, Shared(0));
            free(item);
        },
        |_| {},
    );
    assert_broken(&reports, &[Rule::WorkItemUnknown, Rule::WorkItemUnknown]);
    assert_eq!(reports[0].function, "IoQueueWorkItemEx");
    assert_eq!(reports[1].function, "IoFreeWorkItem");
}

/// An item in pool memory, which the driver frees with or without taking the item apart.
fn item_in_pool(object: *mut DRIVER_OBJECT, take_apart: bool) {
    // SAFETY: takes nothing.
    let size = unsafe { IoSizeofWorkItem() } as usize;
    // SAFETY: asks for memory.
    let memory = unsafe { ExAllocatePool2(NON_PAGED, size, TAG) };
    let item = memory as PIO_WORKITEM;
    // SAFETY: the driver's own object, and memory of the size that was asked for.
    unsafe { IoInitializeWorkItem(object.cast(), item) };
    if take_apart {
        // SAFETY: initialised above, and not queued.
        unsafe { IoUninitializeWorkItem(item) };
    }
    // SAFETY: allocated above.
    unsafe { ExFreePoolWithTag(memory, TAG) };
}

#[test]
fn memory_freed_with_an_item_in_it_is_reported() {
    let reports = life(|object| item_in_pool(object, false), |_| {});
    let report = assert_one(&reports, Rule::WorkItemMisuse, "ExFreePoolWithTag");
    assert_relates(&report, "item_in_pool");
    assert_broken(&life(|object| item_in_pool(object, true), |_| {}), &[]);
}

#[test]
fn an_allocated_item_left_behind_is_reported_with_its_origin() {
    let reports = life(
        |object| {
            allocate(object);
        },
        |_| {},
    );
    let report = assert_one(&reports, Rule::WorkItemLeft, "IoAllocateWorkItem");
    assert_made_in(&report, "allocate");
}

static FINISHED: AtomicBool = AtomicBool::new(false);

/// Runs while DriverUnload returns.
unsafe extern "system" fn outlasts(_: *mut c_void, gate: *mut c_void, item: PIO_WORKITEM) {
    wait_for(Shared(gate as usize));
    free(item);
    FINISHED.store(true, Ordering::SeqCst);
}

#[test]
fn the_image_stays_until_its_work_items_are_done() {
    let kernel = boot();
    let gate = lasting_event();
    let reports = life_in(
        kernel,
        move |object| queue(allocate(object), outlasts, gate),
        move |_| set(gate),
    );
    assert!(FINISHED.load(Ordering::SeqCst), "the unload waits for it");
    assert_broken(&reports, &[]);
}
