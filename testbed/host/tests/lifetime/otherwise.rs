// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes made in other ways than one thinks of first, after which the hosted kernel must go on.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::{Report, Rule};

use crate::driver::*;
use crate::support::{MS, NON_PAGED, TAG};

fn allocate(size: usize) -> *mut u8 {
    const UNINITIALIZED: u64 = 2;
    // SAFETY: asks for memory.
    unsafe { ExAllocatePool2(NON_PAGED | UNINITIALIZED, size, TAG) }.cast()
}

fn free(memory: *mut u8) {
    // SAFETY: allocated above.
    unsafe { ExFreePoolWithTag(memory.cast(), TAG) };
}

fn sleep(milliseconds: i64) {
    let time = -milliseconds * MS;
    // SAFETY: a time.
    unsafe { KeDelayExecutionThread(0, false, &raw const time) };
}

fn doing(f: impl Fn(*mut DRIVER_OBJECT) + Send + Sync + 'static) -> Vec<Report> {
    life(f, |_| {})
}

#[test]
fn a_spin_lock_that_was_never_initialised_is_a_report_and_not_a_hang() {
    let reports = doing(|_| {
        let lock = allocate(8).cast::<usize>();
        // SAFETY: memory of a lock, whose content is the mistake.
        let old = unsafe { KeAcquireSpinLockRaiseToDpc(lock) };
        // SAFETY: taken above.
        unsafe { KeReleaseSpinLock(lock, old) };
        // SAFETY: as above, now free.
        let old = unsafe { KeAcquireSpinLockRaiseToDpc(lock) };
        // SAFETY: as above.
        unsafe { KeReleaseSpinLock(lock, old) };
        free(lock.cast());
    });
    let rule = Rule::ObjectNotInitialized;
    let report = assert_one(&reports, rule, "KeAcquireSpinLockRaiseToDpc");
    assert!(report.found.contains("0xcdcdcdcdcdcdcdcd"), "{report}");
}

unsafe extern "system" fn never(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
    unreachable!("its memory is freed");
}

#[test]
fn a_timer_whose_memory_is_freed_does_not_ring() {
    for periodic in [0, 1] {
        let reports = doing(move |_| {
            let timer = allocate(size_of::<KTIMER>()).cast::<KTIMER>();
            let dpc = allocate(size_of::<KDPC>()).cast::<KDPC>();
            let routine = untyped(never as *const ());
            // SAFETY: memory for a DPC.
            unsafe { KeInitializeDpc(dpc, routine, null_mut()) };
            // SAFETY: memory for a timer.
            unsafe { KeInitializeTimerEx(timer, NotificationTimer) };
            // SAFETY: both are initialised.
            unsafe { KeSetTimerEx(timer, -20 * MS, periodic, dpc) };
            free(dpc.cast());
            free(timer.cast());
            sleep(40);
        });
        assert_one(&reports, Rule::PoolFreedInUse, "ExFreePoolWithTag");
    }
}

#[inline(never)]
fn leaves_locks_on_its_stack() {
    let mut spin = [0_usize; 16];
    for lock in &mut spin {
        let lock = std::ptr::from_mut(lock);
        // SAFETY: a lock of this frame, which is left held: the mistake.
        unsafe { KeInitializeSpinLock(lock) };
        // SAFETY: as above.
        unsafe { KeAcquireSpinLockRaiseToDpc(lock) };
    }
    std::hint::black_box(&mut spin);
}

#[test]
fn locks_left_on_the_stack_do_not_harm_the_host() {
    let reports = doing(|_| leaves_locks_on_its_stack());
    let rules: Vec<Rule> = reports.iter().map(|report| report.rule).collect();
    assert_eq!(rules[0], Rule::IrqlNotRestored);
    assert_eq!(rules[1..], [Rule::LockLeft; 16]);
}

#[test]
fn a_work_item_is_freed_as_it_was_made() {
    let reports = doing(|object| {
        // SAFETY: the driver's own object, in all of these.
        let item = unsafe { IoAllocateWorkItem(object.cast()) };
        // SAFETY: allocated, and not initialised by the driver: the mistake.
        unsafe { IoUninitializeWorkItem(item) };
    });
    assert_one(&reports, Rule::WorkItemMisuse, "IoUninitializeWorkItem");
    let reports = doing(|object| {
        let item = allocate(64);
        // SAFETY: memory for an item.
        unsafe { IoInitializeWorkItem(object.cast(), item as PIO_WORKITEM) };
        // SAFETY: initialised, and not allocated by the system: the mistake.
        unsafe { IoFreeWorkItem(item as PIO_WORKITEM) };
        free(item);
    });
    assert_one(&reports, Rule::WorkItemMisuse, "IoFreeWorkItem");
    let reports = doing(|object| {
        let item = allocate(64);
        // SAFETY: memory for an item.
        unsafe { IoInitializeWorkItem(object.cast(), item as PIO_WORKITEM) };
        // SAFETY: initialised above.
        unsafe { IoUninitializeWorkItem(item as PIO_WORKITEM) };
        free(item);
    });
    assert_broken(&reports, &[]);
}

#[test]
fn an_event_whose_memory_is_freed_under_a_wait_for_any() {
    static EVENTS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    unsafe extern "system" fn waits(_: *mut c_void) {
        let objects = EVENTS.each_ref().map(|it| it.load(Ordering::SeqCst));
        let time = -200 * MS;
        // SAFETY: two events, of which one is freed meanwhile: the mistake.
        unsafe {
            KeWaitForMultipleObjects(
                2,
                objects.as_ptr().cast(),
                1,
                0,
                0,
                false,
                &raw const time,
                null_mut(),
            )
        };
    }
    let reports = doing(|_| {
        for event in &EVENTS {
            let new = allocate(size_of::<KEVENT>());
            // SAFETY: memory for an event.
            unsafe { KeInitializeEvent(new.cast(), SynchronizationEvent, false) };
            event.store(new as usize, Ordering::SeqCst);
        }
        let thread = start_thread(waits, null_mut());
        sleep(50);
        free(EVENTS[0].load(Ordering::SeqCst) as *mut u8);
        let second = EVENTS[1].load(Ordering::SeqCst);
        // SAFETY: an event.
        unsafe { KeSetEvent(second as *mut KEVENT, 0, false) };
        join(thread);
        free(second as *mut u8);
    });
    assert_one(&reports, Rule::PoolFreedInUse, "ExFreePoolWithTag");
}

#[test]
fn references_that_are_easily_forgotten() {
    let reports = doing(|_| {
        let mut process = 0;
        // SAFETY: memory for the pointer.
        let status = unsafe { PsLookupProcessByProcessId(4 as HANDLE, &raw mut process) };
        assert_eq!(status, STATUS_SUCCESS);
        // SAFETY: a process.
        let token = unsafe { PsReferencePrimaryToken(process) };
        assert!(!token.is_null());
    });
    assert_broken(&reports, &[Rule::ReferenceLeft, Rule::ReferenceLeft]);
    assert_eq!(reports[0].function, "PsLookupProcessByProcessId");
    assert_eq!(reports[1].function, "PsReferencePrimaryToken");
    let reports = doing(|_| {
        let mut subject = SECURITY_SUBJECT_CONTEXT::default();
        // SAFETY: memory for the context.
        unsafe { SeCaptureSubjectContext(&raw mut subject) };
    });
    assert_eq!(reports.len(), 1, "{reports:?}");
}

#[test]
fn a_mutex_released_less_often_than_taken() {
    static MUTEX: AtomicUsize = AtomicUsize::new(0);
    let reports = doing(|_| {
        let mutex = allocate(size_of::<KMUTANT>()).cast::<KMUTANT>();
        MUTEX.store(mutex as usize, Ordering::SeqCst);
        // SAFETY: memory for a mutex.
        unsafe { KeInitializeMutex(mutex, 0) };
        for _ in 0..2 {
            assert_eq!(crate::support::wait(mutex.cast(), None), STATUS_SUCCESS);
        }
        // SAFETY: taken above.
        unsafe { KeReleaseMutex(mutex, false) };
    });
    assert_eq!(reports[0].rule, Rule::LockLeft, "{}", reports[0]);
    assert_eq!(reports[1].rule, Rule::PoolLeak, "{}", reports[1]);
    assert_eq!(reports.len(), 2, "{}", reports[2]);
}

#[test]
fn a_process_routine_that_leaves_a_region_and_a_level() {
    unsafe extern "system" fn leaves(_: HANDLE, _: HANDLE, _: bool) {
        // SAFETY: never left and never lowered: the mistakes.
        unsafe { KeEnterCriticalRegion() };
        // SAFETY: as above.
        unsafe { KfRaiseIrql(1) };
    }
    let kernel = boot();
    let set = |remove| {
        // SAFETY: a routine of the right kind.
        let status = unsafe { PsSetCreateProcessNotifyRoutine(Some(leaves), remove) };
        assert_eq!(status, STATUS_SUCCESS);
    };
    load(&kernel, move |_| set(false), move |_| set(true));
    crate::notify::events(&kernel, 4000);
    unload_it(&kernel);
    let broken = [Rule::IrqlNotRestored, Rule::CriticalRegionUnbalanced];
    assert_broken(&kernel.shutdown(), &broken);
}

/// Three mutexes taken by three threads, each of which holds one and takes the next: nobody waits,
/// because they come one after another.
#[test]
fn a_circle_of_three_threads_and_two_kinds_of_locks() {
    static LOCKS: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
    fn pair(outer: usize, inner: usize) {
        let at = |index: usize| LOCKS[index].load(Ordering::SeqCst) as *const c_void;
        let time = -1000 * MS;
        let take = |index| crate::support::wait(at(index), Some(time));
        assert_eq!((take(outer), take(inner)), (STATUS_SUCCESS, STATUS_SUCCESS));
        for index in [inner, outer] {
            // SAFETY: taken above.
            unsafe { KeReleaseMutex(at(index).cast_mut().cast(), false) };
        }
    }
    unsafe extern "system" fn thread(first: *mut c_void) {
        let first = first as usize;
        pair(first, (first + 1) % 3);
    }
    let reports = doing(|_| {
        for lock in &LOCKS {
            let mutex = Box::leak(Box::new(KMUTANT::default()));
            // SAFETY: memory for a mutex that stays where it is.
            unsafe { KeInitializeMutex(mutex, 0) };
            lock.store(std::ptr::from_mut(mutex) as usize, Ordering::SeqCst);
        }
        for first in 0..3 {
            join(start_thread(thread, first as *const c_void));
        }
    });
    let report = assert_one(&reports, Rule::LockOrder, "KeWaitForSingleObject");
    assert!(report.related.len() >= 2, "{report}");
}

#[test]
fn a_wait_in_a_dpc_a_thread_at_a_level_and_a_notify_at_unload() {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "system" fn waits(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
        let event = crate::support::event(false, false);
        let status = crate::support::wait(crate::support::address(&*event), Some(-MS));
        assert_eq!(status, STATUS_TIMEOUT);
        DONE.store(1, Ordering::SeqCst);
    }
    DONE.store(0, Ordering::SeqCst);
    let reports = doing(|_| {
        let timer = crate::left::set_timer(waits, -1);
        while DONE.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        // SAFETY: takes nothing.
        unsafe { KeFlushQueuedDpcs() };
        std::hint::black_box(timer);
    });
    assert_one(&reports, Rule::WaitAtDispatchLevel, "KeWaitForSingleObject");
}

#[test]
fn a_thread_that_terminates_itself_with_a_lock_and_a_raised_level() {
    static LOCK: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "system" fn ends(_: *mut c_void) {
        // SAFETY: a lock that is never released: the mistake.
        unsafe { KeAcquireSpinLockRaiseToDpc(LOCK.as_ptr()) };
        // SAFETY: a system thread.
        unsafe { PsTerminateSystemThread(STATUS_SUCCESS) };
    }
    LOCK.store(0, Ordering::SeqCst);
    let reports = doing(|_| {
        join(start_thread(ends, null_mut()));
        // The hosted kernel has released it.
        // SAFETY: a lock.
        let old = unsafe { KeAcquireSpinLockRaiseToDpc(LOCK.as_ptr()) };
        // SAFETY: taken above.
        unsafe { KeReleaseSpinLock(LOCK.as_ptr(), old) };
    });
    let expected = [Rule::IrqlTooHigh, Rule::IrqlNotRestored, Rule::LockLeft];
    assert_broken(&reports, &expected);
}

#[test]
fn an_object_that_was_copied_and_one_that_lies_in_freed_memory() {
    let reports = doing(|_| {
        let event = crate::support::event(true, true);
        let copy = Box::new(*event);
        let status = crate::support::wait(crate::support::address(&*copy), Some(-MS));
        assert_eq!(status, STATUS_INVALID_PARAMETER);
        let freed = allocate(size_of::<KEVENT>());
        // SAFETY: memory for an event.
        unsafe { KeInitializeEvent(freed.cast(), NotificationEvent, true) };
        free(freed);
        // SAFETY: freed, the mistake; the hosted kernel keeps the memory for a while.
        unsafe { KeSetEvent(freed.cast(), 0, false) };
    });
    assert_broken(&reports, &[Rule::ObjectNotInitialized; 2]);
}
