// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paged pool that is not there at DISPATCH_LEVEL.

mod support;

use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::irql::{APC_LEVEL, DISPATCH_LEVEL};
use nt_host::{Config, DriverImage, Kernel, PagedPool, Rule, SpecialPool, fltport_copy_from_user};
use std::sync::atomic::{AtomicUsize, Ordering};
use support::*;

fn boot_with(paged_pool: PagedPool) -> Kernel {
    Kernel::boot(Config {
        paged_pool,
        ..Config::default()
    })
}

fn allocate(flags: u64) -> *mut u32 {
    // SAFETY: any size may be asked for.
    let memory = unsafe { ExAllocatePool2(flags, 64, TAG) };
    assert!(!memory.is_null());
    memory.cast()
}

fn free(memory: *mut u32) {
    // SAFETY: allocated by the test.
    unsafe { ExFreePoolWithTag(memory.cast(), TAG) };
}

fn at<R>(irql: u8, f: impl FnOnce() -> R) -> R {
    // SAFETY: raises only.
    let former = unsafe { KfRaiseIrql(irql) };
    let result = f();
    // SAFETY: the level from before.
    unsafe { KeLowerIrql(former) };
    result
}

fn read(memory: *mut u32) -> u32 {
    // SAFETY: allocated; at DISPATCH_LEVEL the mistake itself.
    unsafe { memory.read_volatile() }
}

fn write(memory: *mut u32, value: u32) {
    // SAFETY: as above.
    unsafe { memory.write_volatile(value) };
}

#[test]
fn below_dispatch_level_it_is_brought_back() {
    let kernel = boot_with(PagedPool::OutAtDispatch);
    let memory = allocate(PAGED);
    write(memory, 7);
    at(DISPATCH_LEVEL, || ());
    assert_eq!(read(memory), 7, "paged out and in again");
    at(DISPATCH_LEVEL, || ());
    at(APC_LEVEL, || write(memory, 8));
    at(DISPATCH_LEVEL, || ());
    free(memory);
    kernel.shutdown_clean();
}

#[test]
fn a_touch_at_dispatch_level_is_reported_and_goes_on() {
    let kernel = boot_with(PagedPool::OutAtDispatch);
    let memory = allocate(PAGED);
    write(memory, 7);
    at(DISPATCH_LEVEL, || {
        assert_eq!(read(memory), 7);
        assert_eq!(read(memory), 7, "reported once");
    });
    at(DISPATCH_LEVEL, || write(memory, 9));
    assert_eq!(read(memory), 9);
    free(memory);
    let reports = kernel.shutdown();
    assert_eq!(rules(&reports), [Rule::PagedPoolAtDispatch; 2]);
    let text = reports[0].to_string();
    assert_eq!(reports[0].irql, DISPATCH_LEVEL, "{text}");
    assert!(reports[0].found.contains("was read"), "{text}");
    assert!(text.contains("was allocated"), "{text}");
}

#[test]
fn a_spin_lock_raises_too() {
    let kernel = boot_with(PagedPool::OutAtDispatch);
    let memory = allocate(PAGED);
    let mut lock = Box::new(0);
    // SAFETY: boxed memory that stays where it is.
    unsafe { KeInitializeSpinLock(&raw mut *lock) };
    // SAFETY: initialised.
    let former = unsafe { KeAcquireSpinLockRaiseToDpc(&raw mut *lock) };
    write(memory, 1);
    // SAFETY: acquired above.
    unsafe { KeReleaseSpinLock(&raw mut *lock, former) };
    free(memory);
    expect(kernel, &[Rule::PagedPoolAtDispatch]);
}

#[test]
fn an_object_in_paged_pool_is_touched_by_the_kernel() {
    let kernel = boot_with(PagedPool::OutAtDispatch);
    let event: *mut KEVENT = allocate(PAGED).cast();
    // SAFETY: allocated, and large enough.
    unsafe { KeInitializeEvent(event, 0, false) };
    at(DISPATCH_LEVEL, || {
        // SAFETY: initialised; in paged pool, which is the mistake.
        unsafe { KeSetEvent(event, 0, false) };
    });
    free(event.cast());
    expect(kernel, &[Rule::PagedPoolAtDispatch]);
}

#[test]
fn non_paged_pool_is_always_there() {
    let kernel = boot_with(PagedPool::OutAtDispatch);
    let memory = allocate(NON_PAGED);
    at(DISPATCH_LEVEL, || write(memory, 1));
    free(memory);
    kernel.shutdown_clean();
}

#[test]
fn by_default_it_stays() {
    let kernel = boot_with(PagedPool::Resident);
    let memory = allocate(PAGED);
    at(DISPATCH_LEVEL, || write(memory, 1));
    free(memory);
    kernel.shutdown_clean();
}

#[test]
fn a_fault_safe_copy_brings_its_buffer_back() {
    let kernel = boot_with(PagedPool::OutAtDispatch);
    let memory = allocate(PAGED);
    at(DISPATCH_LEVEL, || ());
    let source = 5_u32.to_le_bytes();
    let from = source.as_ptr() as usize;
    // SAFETY: 64 bytes were allocated.
    let status = unsafe { fltport_copy_from_user(memory.cast(), from, 4) };
    assert_eq!((status, read(memory)), (STATUS_SUCCESS, 5));
    free(memory);
    kernel.shutdown_clean();
}

#[test]
fn it_goes_together_with_the_special_pool() {
    let kernel = Kernel::boot(Config {
        paged_pool: PagedPool::OutAtDispatch,
        special_pool: SpecialPool::Underruns,
        ..Config::default()
    });
    let memory = allocate(PAGED);
    write(memory.wrapping_sub(1), 1);
    at(DISPATCH_LEVEL, || write(memory, 1));
    free(memory);
    at(DISPATCH_LEVEL, || write(memory, 1));
    expect(
        kernel,
        &[
            Rule::PoolUnderrun,
            Rule::PagedPoolAtDispatch,
            Rule::PoolAccessAfterFree,
        ],
    );
}

/// Goes on when `threads` threads are here, at the same moment if they can.
fn meet(arrived: &AtomicUsize, threads: usize) {
    let number = arrived.fetch_add(1, Ordering::AcqRel);
    let all = (number / threads + 1) * threads;
    while arrived.load(Ordering::Acquire) < all {
        std::thread::yield_now();
    }
}

#[test]
fn two_threads_bring_one_page_back() {
    let kernel = boot_with(PagedPool::OutAtDispatch);
    let shared = Shared(allocate(PAGED) as usize);
    let (arrived, others) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for raises in [true, false] {
            let (arrived, others) = (&arrived, &others);
            scope.spawn(move || {
                for turn in 0..20_000 {
                    if raises {
                        write(shared.pointer(), turn);
                        at(DISPATCH_LEVEL, || ());
                    }
                    meet(arrived, 2);
                    let is_other = read(shared.pointer()) != turn;
                    others.fetch_add(usize::from(is_other), Ordering::Relaxed);
                    meet(arrived, 2);
                }
            });
        }
    });
    assert_eq!(others.into_inner(), 0, "read something else");
    free(shared.pointer());
    kernel.shutdown_clean();
}

/// Where a driver has left memory behind.
static LEFT: AtomicUsize = AtomicUsize::new(0);

unsafe extern "system" fn leave(_: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    LEFT.store(allocate(PAGED) as usize, Ordering::Relaxed);
    STATUS_UNSUCCESSFUL
}

#[test]
fn what_a_driver_left_in_an_earlier_kernel_stays() {
    let kernel = boot_with(PagedPool::OutAtDispatch);
    let image = DriverImage {
        name: "leaves",
        entry: leave,
        force_integrity: false,
    };
    assert!(kernel.load(&image).is_err());
    at(DISPATCH_LEVEL, || ());
    expect(kernel, &[Rule::PoolLeak]);
    let kernel = boot_with(PagedPool::OutAtDispatch);
    let left = LEFT.load(Ordering::Relaxed) as *mut u32;
    at(DISPATCH_LEVEL, || assert_eq!(read(left), 0));
    kernel.shutdown_clean();
}
