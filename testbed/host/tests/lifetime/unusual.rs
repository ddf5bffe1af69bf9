// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drivers that are right in ways in which few drivers are written: nothing may be reported.

use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicIsize, AtomicU32, AtomicUsize, Ordering};

use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::Kernel;

use crate::driver::*;
use crate::filter::{
    self, CLIENT, Callbacks, FILTER, NewPort, PORT, SECOND, SERVER, action, begin, close_client,
    close_server, command, connect_service, create_port, end, send, set_callbacks, unregister,
};
use crate::notify;
use crate::support::{MS, NON_PAGED, Shared, TAG};

/// Calls a function of NT.
macro_rules! nt {
    ($function:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: initialised objects that stay where they are, each used as its kind asks.
        unsafe { $function($($argument),*) }
    };
}

/// A timer, its DPC and more in one piece of pool.
#[repr(C)]
struct Job {
    timer: KTIMER,
    dpc: KDPC,
    lock: usize,
    done: usize,
    item: PIO_WORKITEM,
    left: u32,
}

/// Where a field lies.
fn part<S, T>(of: *mut S, offset: usize) -> *mut T {
    of.wrapping_byte_add(offset).cast()
}

type Deferred = unsafe extern "system" fn(*mut KDPC, *mut c_void, *mut c_void, *mut c_void);

fn job(routine: Deferred, done: Shared) -> *mut Job {
    // SAFETY: asks for memory.
    let job = unsafe { ExAllocatePool2(NON_PAGED, size_of::<Job>(), TAG) }.cast::<Job>();
    assert!(!job.is_null());
    // SAFETY: zeroed memory of the right size, in all of these.
    unsafe { (*job).done = done.0 };
    let routine = untyped(routine as *const ());
    // SAFETY: as above.
    unsafe { KeInitializeDpc(part(job, offset_of!(Job, dpc)), routine, job.cast()) };
    // SAFETY: as above.
    unsafe { KeInitializeTimerEx(part(job, offset_of!(Job, timer)), NotificationTimer) };
    // SAFETY: as above.
    unsafe { KeInitializeSpinLock(part(job, offset_of!(Job, lock))) };
    job
}

fn set_job(job: *mut Job) {
    // SAFETY: both are initialised.
    unsafe {
        KeSetTimerEx(
            part(job, offset_of!(Job, timer)),
            -MS,
            0,
            part(job, offset_of!(Job, dpc)),
        )
    };
}

fn free_job(job: *mut Job) {
    // SAFETY: allocated by `job`.
    unsafe { ExFreePoolWithTag(job.cast(), TAG) };
}

fn flush() {
    // SAFETY: takes nothing.
    unsafe { KeFlushQueuedDpcs() };
}

unsafe extern "system" fn frees_itself(
    _: *mut KDPC,
    job: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    let job = job.cast::<Job>();
    // SAFETY: the job is alive until here.
    let done = unsafe { (*job).done };
    free_job(job);
    set(Shared(done));
}

#[test]
fn a_dpc_may_free_the_memory_that_it_lies_in() {
    let kernel = boot();
    let done = lasting_event();
    let reports = life_in(
        kernel,
        move |_| set_job(job(frees_itself, done)),
        move |_| {
            wait_for(done);
            flush();
        },
    );
    assert_broken(&reports, &[]);
}

unsafe extern "system" fn works_again(_: *mut c_void, job: *mut c_void, item: PIO_WORKITEM) {
    let job = job.cast::<Job>();
    // SAFETY: the job is alive until it is freed below.
    let left = unsafe { (*job).left };
    if left > 0 {
        // SAFETY: as above.
        unsafe { (*job).left = left - 1 };
        let routine = untyped(works_again as *const ());
        // SAFETY: the item is not queued while its routine runs.
        unsafe { IoQueueWorkItemEx(item, routine, DelayedWorkQueue, job.cast()) };
        return;
    }
    // SAFETY: as above.
    let done = unsafe { (*job).done };
    // SAFETY: neither is used any more.
    unsafe { IoFreeWorkItem(item) };
    flush();
    free_job(job);
    set(Shared(done));
}

/// Rings three times, then leaves the rest to a work item.
unsafe extern "system" fn rings_again(
    _: *mut KDPC,
    job: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    let job = job.cast::<Job>();
    // SAFETY: the job is alive while its timer is set, here and below.
    unsafe { KeAcquireSpinLockAtDpcLevel(part(job, offset_of!(Job, lock))) };
    // SAFETY: as above.
    let left = unsafe { (*job).left };
    // SAFETY: as above.
    unsafe { (*job).left = left + 1 };
    // SAFETY: as above.
    unsafe { KeReleaseSpinLockFromDpcLevel(part(job, offset_of!(Job, lock))) };
    if left < 3 {
        return set_job(job);
    }
    let routine = untyped(works_again as *const ());
    // SAFETY: the job is alive.
    let item = unsafe { (*job).item };
    // SAFETY: the item is allocated and at rest.
    unsafe { IoQueueWorkItemEx(item, routine, DelayedWorkQueue, job.cast()) };
}

#[test]
fn a_timer_sets_itself_and_a_work_item_queues_itself() {
    let kernel = boot();
    let done = lasting_event();
    let entry = move |object: *mut DRIVER_OBJECT| {
        let job = job(rings_again, done);
        // SAFETY: the driver's own object.
        let item = unsafe { IoAllocateWorkItem(object.cast()) };
        // SAFETY: the job is alive.
        unsafe { (*job).item = item };
        set_job(job);
    };
    let reports = life_in(kernel, entry, move |_| wait_for(done));
    assert_broken(&reports, &[]);
}

#[test]
fn rundown_protection_is_used_again_and_again() {
    static WORD: AtomicUsize = AtomicUsize::new(0);
    let word = || WORD.as_ptr().cast::<EX_RUNDOWN_REF>();
    let round = move || {
        assert!(nt!(ExAcquireRundownProtection(word())));
        assert!(nt!(ExAcquireRundownProtection(word())));
        nt!(ExReleaseRundownProtection(word()));
        nt!(ExReleaseRundownProtection(word()));
        nt!(ExWaitForRundownProtectionRelease(word()));
        assert!(!nt!(ExAcquireRundownProtection(word())));
        // A second wait for a rundown that is over returns at once.
        nt!(ExWaitForRundownProtectionRelease(word()));
        nt!(ExRundownCompleted(word()));
        nt!(ExWaitForRundownProtectionRelease(word()));
        nt!(ExReInitializeRundownProtection(word()));
    };
    WORD.store(0, Ordering::SeqCst);
    let reports = life(
        move |_| (0..3).for_each(|_| round()),
        move |_| {
            round();
            // SAFETY: as above.
            unsafe { ExInitializeRundownProtection(word()) };
            round();
        },
    );
    assert_broken(&reports, &[]);
}

#[test]
fn a_routine_that_is_registered_by_a_work_item_and_sleeps() {
    static CALLED: AtomicU32 = AtomicU32::new(0);
    unsafe extern "system" fn sleeps(_: HANDLE, _: HANDLE, _: bool) {
        CALLED.fetch_add(1, Ordering::SeqCst);
        // SAFETY: a time.
        unsafe { KeDelayExecutionThread(0, false, &(-20 * MS)) };
    }
    unsafe extern "system" fn registers(_: *mut c_void, done: *mut c_void, item: PIO_WORKITEM) {
        // SAFETY: a routine of the right kind.
        let status = unsafe { PsSetCreateProcessNotifyRoutine(Some(sleeps), false) };
        assert_eq!(status, STATUS_SUCCESS);
        // SAFETY: nobody uses it any more.
        unsafe { IoFreeWorkItem(item) };
        set(Shared(done as usize));
    }
    let kernel = boot();
    let done = lasting_event();
    CALLED.store(0, Ordering::SeqCst);
    let entry = move |object: *mut DRIVER_OBJECT| {
        // SAFETY: the driver's own object.
        let item = unsafe { IoAllocateWorkItem(object.cast()) };
        let routine = untyped(registers as *const ());
        // SAFETY: an item, its routine and its context.
        unsafe { IoQueueWorkItemEx(item, routine, DelayedWorkQueue, done.pointer::<c_void>()) };
        wait_for(done);
    };
    load(&kernel, entry, |_| {
        // SAFETY: the routine that the work item registered.
        let status = unsafe { PsSetCreateProcessNotifyRoutine(Some(sleeps), true) };
        assert_eq!(status, STATUS_SUCCESS);
    });
    std::thread::scope(|scope| {
        let events = scope.spawn(|| notify::events(&kernel, 4000));
        while CALLED.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        unload_it(&kernel);
        events.join().unwrap();
    });
    assert_broken(&kernel.shutdown(), &[]);
}

/// A connection of a driver that keeps each in a piece of pool.
#[repr(C)]
struct Connection {
    port: PFLT_PORT,
    number: u32,
}

static OPEN: AtomicU32 = AtomicU32::new(0);
static LAST: AtomicUsize = AtomicUsize::new(0);

unsafe extern "system" fn connect_on_heap(
    port: PFLT_PORT,
    _: *const c_void,
    _: *const c_void,
    _: u32,
    cookie: *mut *mut c_void,
) -> NTSTATUS {
    // SAFETY: asks for memory.
    let new = unsafe { ExAllocatePool2(NON_PAGED, size_of::<Connection>(), TAG) };
    let new = new.cast::<Connection>();
    // SAFETY: memory of the right size.
    unsafe { new.write(Connection { port, number: 7 }) };
    // SAFETY: the Filter Manager passes a variable.
    unsafe { cookie.write(new.cast()) };
    OPEN.fetch_add(1, Ordering::SeqCst);
    LAST.store(new as usize, Ordering::SeqCst);
    STATUS_SUCCESS
}

unsafe extern "system" fn disconnect_on_heap(cookie: *const c_void) {
    let connection = cookie.cast_mut().cast::<Connection>();
    let filter = FILTER.load(Ordering::SeqCst);
    // SAFETY: the connection lives until it is freed below.
    unsafe { FltCloseClientPort(filter, part(connection, offset_of!(Connection, port))) };
    // SAFETY: as above.
    unsafe { ExFreePoolWithTag(connection.cast(), TAG) };
    OPEN.fetch_sub(1, Ordering::SeqCst);
}

static SECOND_PORT: AtomicIsize = AtomicIsize::new(0);

fn create_second_port() {
    let first = SERVER.load(Ordering::SeqCst);
    let with = NewPort {
        name: "\\Lifetime2",
        connect: Some(connect_on_heap),
        disconnect: Some(disconnect_on_heap),
        max_connections: 8,
        ..NewPort::default()
    };
    assert_eq!(create_port(with), STATUS_SUCCESS);
    SECOND_PORT.store(SERVER.swap(first, Ordering::SeqCst), Ordering::SeqCst);
}

fn end_with_two(object: *mut DRIVER_OBJECT) {
    // SAFETY: the port that was created second.
    unsafe { FltCloseCommunicationPort(SECOND_PORT.load(Ordering::SeqCst)) };
    end(object);
}

#[test]
fn two_ports_with_connections_on_the_heap() {
    let kernel = filter::boot();
    set_callbacks(Callbacks::default());
    let entry = |object| {
        begin(object);
        create_second_port();
    };
    load(&kernel, entry, end_with_two);
    let caller = kernel.peer(std::process::id(), 0);
    let connect =
        |name| nt_host::flt::UserPort::connect(&caller, &crate::support::wide(name), b"").unwrap();
    let main = connect(PORT);
    let others = [(); 3].map(|()| connect("\\Lifetime2"));
    // The memory of a connection that is gone may come back for the next one.
    for _ in 0..20 {
        connect("\\Lifetime2").close();
    }
    others[1].close();
    // One service hangs: it is connected and reads nothing while the driver ends.
    assert_eq!(OPEN.load(Ordering::SeqCst), 2);
    unload_it(&kernel);
    assert_eq!(OPEN.load(Ordering::SeqCst), 0);
    main.close();
    others[0].close();
    assert_broken(&kernel.shutdown(), &[]);
}

#[test]
fn a_port_variable_is_moved_before_its_first_use() {
    static MOVED: AtomicIsize = AtomicIsize::new(0);
    let callbacks = Callbacks {
        connect: action(|| MOVED.store(CLIENT.swap(0, Ordering::SeqCst), Ordering::SeqCst)),
        disconnect: action(|| close_client(&MOVED)),
        message: action(|| {
            assert_eq!(send(&MOVED, Some(SECOND / 100)), STATUS_TIMEOUT);
        }),
        ..Default::default()
    };
    let meanwhile = |kernel: &Kernel| {
        for _ in 0..3 {
            let service = connect_service(kernel);
            command(kernel, &service);
            service.close();
        }
    };
    assert_broken(&filter::life(callbacks, meanwhile, end), &[]);
}

#[test]
fn a_variable_array_whose_entries_are_used_again() {
    static PORTS: [AtomicIsize; 2] = [const { AtomicIsize::new(0) }; 2];
    let callbacks = Callbacks {
        connect: action(|| {
            let new = CLIENT.load(Ordering::SeqCst);
            let free = PORTS.iter().find(|it| it.load(Ordering::SeqCst) == 0);
            free.unwrap().store(new, Ordering::SeqCst);
        }),
        disconnect: action(|| {
            let open = PORTS.iter().find(|it| it.load(Ordering::SeqCst) != 0);
            close_client(open.unwrap());
        }),
        ..Default::default()
    };
    let meanwhile = |kernel: &Kernel| {
        for _ in 0..3 {
            let first = connect_service(kernel);
            let second = connect_service(kernel);
            assert_eq!(send(&PORTS[0], Some(SECOND / 100)), STATUS_TIMEOUT);
            assert_eq!(send(&PORTS[1], Some(SECOND / 100)), STATUS_TIMEOUT);
            first.close();
            second.close();
            let gone = send(&PORTS[0], Some(SECOND / 100));
            assert_eq!(gone, STATUS_PORT_DISCONNECTED);
        }
    };
    assert_broken(&filter::life(callbacks, meanwhile, end), &[]);
}

#[test]
fn locks_taken_in_unusual_ways() {
    static LOCKS: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
    let lock = |index: usize| LOCKS[index].as_ptr();
    let reports = life(
        move |_| {
            (0..3).for_each(|index| nt!(KeInitializeSpinLock(lock(index))));
            for _ in 0..3 {
                // Hand over hand.
                let old = nt!(KeAcquireSpinLockRaiseToDpc(lock(0)));
                nt!(KeAcquireSpinLockAtDpcLevel(lock(1)));
                nt!(KeReleaseSpinLockFromDpcLevel(lock(0)));
                nt!(KeAcquireSpinLockAtDpcLevel(lock(2)));
                nt!(KeReleaseSpinLockFromDpcLevel(lock(1)));
                nt!(KeReleaseSpinLock(lock(2), old));
                // With the IRQL raised apart.
                let old = nt!(KfRaiseIrql(2));
                nt!(KeAcquireSpinLockAtDpcLevel(lock(0)));
                nt!(KeReleaseSpinLockFromDpcLevel(lock(0)));
                nt!(KeLowerIrql(old));
                // Raised by the first, lowered by the last, released crosswise.
                let first = nt!(KeAcquireSpinLockRaiseToDpc(lock(0)));
                let second = nt!(KeAcquireSpinLockRaiseToDpc(lock(1)));
                nt!(KeReleaseSpinLock(lock(0), second));
                nt!(KeReleaseSpinLock(lock(1), first));
            }
        },
        |_| {
            let mutex = Box::leak(Box::new(KMUTANT::default()));
            let event = Box::leak(crate::support::event(true, true));
            let at = std::ptr::from_ref(mutex).cast::<c_void>();
            let timeout = 0_i64;
            nt!(KeInitializeMutex(mutex, 0));
            nt!(KeEnterCriticalRegion());
            nt!(KeEnterCriticalRegion());
            for _ in 0..3 {
                assert_eq!(
                    nt!(KeWaitForSingleObject(at, 0, 0, false, &raw const timeout)),
                    0
                );
            }
            nt!(KeReleaseMutex(mutex, false));
            nt!(KeReleaseMutex(mutex, false));
            nt!(KeReleaseMutex(mutex, false));
            let objects = [at, std::ptr::from_ref(event).cast::<c_void>()];
            let all = nt!(KeWaitForMultipleObjects(
                2,
                objects.as_ptr().cast(),
                0,
                0,
                0,
                false,
                std::ptr::null(),
                null_mut(),
            ));
            assert_eq!(all, 0);
            nt!(KeReleaseMutex(mutex, false));
            nt!(KeLeaveCriticalRegion());
            nt!(KeLeaveCriticalRegion());
        },
    );
    assert_broken(&reports, &[]);
}

#[test]
fn threads_send_while_their_service_hangs_and_the_driver_ends() {
    static SENDERS: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
    static STOP: AtomicU32 = AtomicU32::new(0);
    unsafe extern "system" fn floods(_: *mut c_void) {
        while STOP.load(Ordering::SeqCst) == 0 {
            let status = send(&CLIENT, Some(SECOND / 200));
            assert!(
                matches!(status, STATUS_TIMEOUT | STATUS_PORT_DISCONNECTED),
                "{status:#x}"
            );
        }
        // SAFETY: a system thread that holds nothing.
        unsafe { PsTerminateSystemThread(STATUS_SUCCESS) };
    }
    let kernel = filter::boot();
    set_callbacks(Callbacks::default());
    STOP.store(0, Ordering::SeqCst);
    let entry = |object| {
        begin(object);
        for thread in &SENDERS {
            thread.store(start_thread(floods, null_mut()) as usize, Ordering::SeqCst);
        }
    };
    let unload = |_: *mut DRIVER_OBJECT| {
        close_server();
        STOP.store(1, Ordering::SeqCst);
        for thread in &SENDERS {
            join(thread.load(Ordering::SeqCst) as HANDLE);
        }
        unregister();
    };
    load(&kernel, entry, unload);
    for _ in 0..10 {
        connect_service(&kernel).close();
    }
    let hangs = connect_service(&kernel);
    unload_it(&kernel);
    hangs.close();
    assert_broken(&kernel.shutdown(), &[]);
}

#[test]
fn a_mutex_is_taken_again_under_another_one() {
    let reports = life(
        |_| {
            let mutexes = [(); 2].map(|()| {
                let mutex = std::ptr::from_mut(Box::leak(Box::new(KMUTANT::default())));
                // SAFETY: memory for a mutex that stays where it is.
                unsafe { KeInitializeMutex(mutex, 0) };
                mutex
            });
            for mutex in [mutexes[0], mutexes[1], mutexes[0]] {
                // No other thread can hold the first one when it is taken again.
                assert_eq!(crate::support::wait(mutex.cast(), None), STATUS_SUCCESS);
            }
            for mutex in [mutexes[0], mutexes[1], mutexes[0]] {
                // SAFETY: taken above.
                unsafe { KeReleaseMutex(mutex, false) };
            }
        },
        |_| {},
    );
    assert_broken(&reports, &[]);
}

#[test]
fn fast_mutexes_are_tried_in_the_other_order() {
    fn fast_mutex() -> *mut FAST_MUTEX {
        let mutex = std::ptr::from_mut(Box::leak(Box::new(FAST_MUTEX {
            Count: 1,
            ..Default::default()
        })));
        // SAFETY: memory for an event that stays where it is.
        unsafe {
            KeInitializeEvent(
                part(mutex, offset_of!(FAST_MUTEX, Event)),
                SynchronizationEvent,
                false,
            )
        };
        mutex
    }
    let reports = life(
        |_| {
            let (first, second) = (fast_mutex(), fast_mutex());
            nt!(ExAcquireFastMutex(first));
            nt!(ExAcquireFastMutex(second));
            nt!(ExReleaseFastMutex(second));
            nt!(ExReleaseFastMutex(first));
            nt!(ExAcquireFastMutex(second));
            assert!(nt!(ExTryToAcquireFastMutex(first)));
            nt!(ExReleaseFastMutex(first));
            nt!(ExReleaseFastMutex(second));
        },
        |_| {},
    );
    assert_broken(&reports, &[]);
}
