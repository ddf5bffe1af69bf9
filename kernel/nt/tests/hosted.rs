// SPDX-License-Identifier: MIT OR Apache-2.0
//! The owners on the hosted kernel: that they keep NT's rules, give everything back, and do what
//! their docs say. A broken rule is a panic at the end of each test.

use fltport_nt::bindings::{
    DRIVER_OBJECT, NTSTATUS, STATUS_ACCESS_VIOLATION, STATUS_BUFFER_TOO_SMALL,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS, STATUS_TIMEOUT, UNICODE_STRING,
};
use fltport_nt::ex::{
    CacheAwareRundown, CallbackObject, CallbackRegistration, FastMutex, Global, Listener, PoolArc,
    PoolBox, PoolBytes, PoolSlice, Rundown, Tag,
};
use fltport_nt::io::{DriverObject, WorkItem};
use fltport_nt::ke::{
    AtDispatch, CriticalRegion, Dpc, DpcHandle, Event, EventKind, SpinLock, Timeout, current_irql,
    current_processor, interrupt_time, maximum_processor_count, processor_count, wait_any,
};
use fltport_nt::linked::{APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL};
use fltport_nt::ps::{SystemThread, current_process_id};
use fltport_nt::rtl::{UnicodeString, units_of, upcase};
use fltport_nt::status::check;
use fltport_nt::user_memory::UserBuffer;
use fltport_nt::zw::Key;
use fltport_nt::{NtError, utf16};
use nt_host::faults::{FaultPlan, sweep};
use nt_host::{Config, DriverImage, Kernel};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

const TAG: Tag = Tag::new(b"Test");
const AT_ONCE: Timeout = Timeout::from_millis(0);
const SHORT: Timeout = Timeout::from_millis(20);
const LONG: Timeout = Timeout::from_millis(20_000);

fn boot() -> Kernel {
    Kernel::boot(Config::default())
}

fn event(kind: EventKind) -> PoolArc<Event> {
    PoolArc::new(TAG, Event::new(TAG, kind).unwrap()).unwrap()
}

#[test]
fn a_spin_lock_excludes_at_dispatch_level_and_goes_back() {
    let kernel = boot();
    let lock = SpinLock::new(0_u64);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| *lock.lock() += 1));
        }
    });
    let outer = lock.lock();
    assert_eq!((*outer, current_irql()), (4_000, DISPATCH_LEVEL));
    let other = SpinLock::new(());
    drop(other.lock());
    assert_eq!(current_irql(), DISPATCH_LEVEL, "it was taken there");
    drop(outer);
    assert_eq!(current_irql(), PASSIVE_LEVEL);
    kernel.shutdown_clean();
}

/// Counts its runs, and queues itself again until there were enough.
struct Bursts {
    runs: AtomicU32,
    wanted: u32,
    done: Event,
}

impl Bursts {
    fn new(wanted: u32) -> PoolArc<Bursts> {
        let done = Event::new(TAG, EventKind::Notification).unwrap();
        let runs = AtomicU32::new(0);
        PoolArc::new(TAG, Bursts { runs, wanted, done }).unwrap()
    }

    fn count(&self) -> bool {
        assert_eq!(current_irql(), DISPATCH_LEVEL);
        let runs = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        if runs == self.wanted {
            self.done.set();
        }
        runs < self.wanted
    }

    fn run(&self, dpc: DpcHandle<'_, Bursts>) {
        if self.count() {
            assert!(dpc.queue(), "it runs, and so is not queued");
        }
    }

    fn ring(&self, _: DpcHandle<'_, Bursts>) {
        self.count();
    }
}

/// Whether the one has come to its end, shown by another one: DPCs run in their order.
fn has_ended(bursts: &Bursts) {
    let runs = bursts.runs.load(Ordering::SeqCst);
    let other = Bursts::new(1);
    let dpc = Dpc::new(TAG, other.clone(), Bursts::run).unwrap();
    assert!(dpc.handle().queue());
    assert!(other.done.wait(LONG));
    assert_eq!(bursts.runs.load(Ordering::SeqCst), runs);
}

#[test]
fn a_dpc_can_queue_itself_again_until_it_is_dropped() {
    let kernel = boot();
    let bursts = Bursts::new(100);
    let dpc = Dpc::new(TAG, bursts.clone(), Bursts::run).unwrap();
    assert!(dpc.handle().queue());
    assert!(bursts.done.wait(LONG));
    drop(dpc);
    assert_eq!(bursts.runs.load(Ordering::SeqCst), 100);
    // Its first run may find that it is being dropped, so none is counted on.
    let dropped = Bursts::new(1);
    let dpc = Dpc::new(TAG, dropped.clone(), Bursts::run).unwrap();
    assert!(dpc.handle().queue());
    drop(dpc);
    has_ended(&dropped);
    drop((bursts, dropped));
    kernel.shutdown_clean();
}

#[test]
fn a_timer_queues_a_dpc_again_and_again_until_it_is_dropped() {
    let kernel = boot();
    let bursts = Bursts::new(5);
    let dpc = Dpc::new(TAG, bursts.clone(), Bursts::ring).unwrap();
    assert!(dpc.handle().queue_every(1));
    assert!(bursts.done.wait(LONG));
    drop(dpc);
    has_ended(&bursts);
    drop(bursts);
    kernel.shutdown_clean();
}

#[test]
fn a_stay_at_dispatch_level_has_a_processor_for_itself() {
    let kernel = boot();
    let count = processor_count();
    assert!(count > 1 && maximum_processor_count() >= count);
    let outer = AtDispatch::raise();
    assert_eq!(current_irql(), DISPATCH_LEVEL);
    let mine = outer.processor();
    let other = thread::spawn(|| AtDispatch::raise().processor());
    let other = other.join().unwrap();
    assert!(mine < count && other < count && mine != other);
    let inner = AtDispatch::raise();
    assert_eq!(inner.processor(), mine);
    drop(inner);
    assert_eq!(
        (current_irql(), current_processor()),
        (DISPATCH_LEVEL, mine)
    );
    drop(outer);
    assert_eq!(current_irql(), PASSIVE_LEVEL);
    assert!(current_processor() < count);
    kernel.shutdown_clean();
}

#[test]
fn a_fast_mutex_excludes_at_apc_level() {
    let kernel = boot();
    let mutex = FastMutex::new(TAG, 0_u64).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| *mutex.lock() += 1));
        }
    });
    let held = mutex.lock();
    assert_eq!((*held, current_irql()), (2_000, APC_LEVEL));
    drop(held);
    assert_eq!(current_irql(), PASSIVE_LEVEL);
    drop(mutex);
    kernel.shutdown_clean();
}

#[test]
fn events_wake_one_or_all_and_time_out() {
    let kernel = boot();
    let all = event(EventKind::Notification);
    let one = event(EventKind::Synchronization);
    let begun = interrupt_time();
    assert!(!all.wait(SHORT));
    assert!(interrupt_time() - begun >= 20 * 10_000, "the whole time");
    all.set();
    assert!(all.wait(SHORT) && all.wait(AT_ONCE) && all.is_set());
    all.clear();
    assert!(!all.is_set());
    one.set();
    assert!(one.wait(SHORT) && !one.wait(AT_ONCE), "taken");
    let waiting = {
        let all = all.clone();
        thread::spawn(move || all.wait(LONG))
    };
    all.set();
    assert!(waiting.join().unwrap());
    drop((all, one));
    kernel.shutdown_clean();
}

#[test]
fn waiting_for_any_says_which() {
    let kernel = boot();
    let first = event(EventKind::Notification);
    let second = event(EventKind::Notification);
    assert_eq!(wait_any([&first, &second], SHORT), None);
    second.set();
    assert_eq!(wait_any([&first, &second], LONG), Some(1));
    first.set();
    assert_eq!(wait_any([&first, &second], LONG), Some(0), "the first one");
    drop((first, second));
    kernel.shutdown_clean();
}

#[test]
fn a_rundown_waits_for_the_last_user_lets_nobody_in_and_can_be_opened_again() {
    let kernel = boot();
    let rundown = PoolArc::new(TAG, Rundown::new(TAG).unwrap()).unwrap();
    let gone = event(EventKind::Notification);
    let inside = rundown.acquire().expect("open");
    let owner = {
        let (rundown, gone) = (rundown.clone(), gone.clone());
        thread::spawn(move || {
            rundown.wait();
            gone.set();
        })
    };
    while rundown.acquire().is_some() {
        thread::yield_now();
    }
    assert!(!gone.wait(SHORT), "somebody is still inside");
    drop(inside);
    assert!(gone.wait(LONG));
    owner.join().unwrap();
    assert!(rundown.acquire().is_none());
    rundown.reopen();
    assert!(rundown.acquire().is_some());
    drop((rundown, gone));
    kernel.shutdown_clean();
}

#[test]
fn a_cache_aware_rundown_waits_for_the_last_user_and_can_be_dropped_at_dispatch_level() {
    let kernel = boot();
    let rundown = PoolArc::new(TAG, CacheAwareRundown::new(TAG).unwrap()).unwrap();
    let gone = event(EventKind::Notification);
    let inside = rundown.acquire().expect("open");
    let owner = {
        let (rundown, gone) = (rundown.clone(), gone.clone());
        thread::spawn(move || {
            rundown.wait();
            gone.set();
        })
    };
    while rundown.acquire().is_some() {
        thread::yield_now();
    }
    assert!(!gone.wait(SHORT), "somebody is still inside");
    drop(inside);
    assert!(gone.wait(LONG));
    owner.join().unwrap();
    assert!(rundown.acquire().is_none());
    rundown.reopen();
    let at_dispatch = AtDispatch::raise();
    drop(rundown.acquire().expect("at DISPATCH_LEVEL, too"));
    drop(rundown);
    drop((at_dispatch, gone));
    kernel.shutdown_clean();
}

#[test]
fn a_critical_region_ends_and_is_not_entered_at_dispatch_level() {
    let kernel = boot();
    let outer = CriticalRegion::enter();
    let inner = CriticalRegion::enter();
    assert!(outer.is_some() && inner.is_some(), "they nest");
    let rundown = Rundown::new(TAG).unwrap();
    let lock = SpinLock::new(());
    let held = lock.lock();
    assert!(CriticalRegion::enter().is_none());
    drop(rundown.acquire().expect("at DISPATCH_LEVEL, too"));
    drop(held);
    drop((inner, outer, rundown));
    kernel.shutdown_clean();
}

static OBJECT: AtomicUsize = AtomicUsize::new(0);

unsafe extern "system" fn entry(driver: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    OBJECT.store(driver.expose_provenance(), Ordering::SeqCst);
    // SAFETY: the hosted kernel passes this driver's object.
    let driver = unsafe { DriverObject::new(driver) };
    driver.set_unload(unload);
    STATUS_SUCCESS
}

unsafe extern "system" fn unload(_: *const DRIVER_OBJECT) {}

/// A driver object, for what needs one.
fn driver(kernel: &Kernel) -> DriverObject {
    let image = DriverImage {
        name: "owner",
        entry,
        force_integrity: false,
    };
    kernel.load(&image).unwrap();
    let object = core::ptr::with_exposed_provenance_mut(OBJECT.load(Ordering::SeqCst));
    // SAFETY: the driver stays loaded until the kernel is shut down.
    unsafe { DriverObject::new(object) }
}

struct Work {
    begun: Event,
    may_end: Event,
    ended: AtomicU32,
}

impl Work {
    fn new() -> PoolArc<Self> {
        let work = Work {
            begun: Event::new(TAG, EventKind::Notification).unwrap(),
            may_end: Event::new(TAG, EventKind::Notification).unwrap(),
            ended: AtomicU32::new(0),
        };
        PoolArc::new(TAG, work).unwrap()
    }

    fn run(&self) {
        assert_eq!(current_irql(), PASSIVE_LEVEL);
        self.begun.set();
        self.may_end.wait(LONG);
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_work_item_can_be_queued_again_and_its_drop_waits() {
    let kernel = boot();
    let work = Work::new();
    let item = WorkItem::new(driver(&kernel), TAG, work.clone(), Work::run).unwrap();
    assert!(item.queue());
    assert!(work.begun.wait(LONG));
    assert!(item.queue(), "it runs, so it may be queued again");
    let ending = work.clone();
    let helper = thread::spawn(move || ending.may_end.set());
    drop(item);
    assert_eq!(work.ended.load(Ordering::SeqCst), 2);
    helper.join().unwrap();
    drop(work);
    kernel.shutdown_clean();
}

#[test]
fn a_thread_is_joined_when_its_owner_is_dropped() {
    let kernel = boot();
    let work = Work::new();
    let thread = SystemThread::spawn(TAG, work.clone(), Work::run).unwrap();
    assert!(work.begun.wait(LONG));
    assert_eq!(work.ended.load(Ordering::SeqCst), 0);
    work.may_end.set();
    drop(thread);
    assert_eq!(work.ended.load(Ordering::SeqCst), 1);
    drop(work);
    kernel.shutdown_clean();
}

#[test]
fn a_thread_that_cannot_be_made_leaves_nothing() {
    let kernel = boot();
    let work = Work::new();
    kernel.set_faults(FaultPlan::nth(0).of("ExAllocatePool2"));
    let error = SystemThread::spawn(TAG, work.clone(), Work::run).err();
    assert_eq!(error, Some(NtError(STATUS_INSUFFICIENT_RESOURCES)));
    drop(work);
    assert!(kernel.pool_usage().is_empty());
    kernel.shutdown_clean();
}

#[test]
fn whatever_fails_no_thread_is_left_without_an_owner() {
    let swept = sweep(|config| {
        let kernel = boot();
        let work = Work::new();
        kernel.set_faults(config.faults);
        match SystemThread::spawn(TAG, work.clone(), Work::run) {
            Ok(thread) => {
                work.may_end.set();
                drop(thread);
            }
            Err(error) => assert_eq!(error, NtError(STATUS_INSUFFICIENT_RESOURCES)),
        }
        // A thread that ran nevertheless would wait in there, and hold on to it.
        drop(work);
        assert!(kernel.pool_usage().is_empty());
        kernel.shutdown_clean();
    });
    assert!(swept.injected().len() >= 2, "{swept}");
}

struct Sum(AtomicUsize);

impl Listener for Sum {
    fn notified(&self, argument1: usize, argument2: usize) {
        self.0.fetch_add(argument1 * argument2, Ordering::SeqCst);
    }
}

#[test]
fn a_callback_registration_hears_until_it_is_dropped() {
    let kernel = boot();
    let object = CallbackObject::open_or_create(utf16!("\\Callback\\Test")).unwrap();
    let same = CallbackObject::open_or_create(utf16!("\\callback\\TEST")).unwrap();
    let sum = PoolArc::new(TAG, Sum(AtomicUsize::new(0))).unwrap();
    same.notify(7, 7);
    let registration = CallbackRegistration::new(&object, TAG, sum.clone()).unwrap();
    same.notify(2, 3);
    assert_eq!(sum.0.load(Ordering::SeqCst), 6);
    drop(registration);
    object.notify(5, 5);
    assert_eq!(sum.0.load(Ordering::SeqCst), 6);
    drop((object, same, sum));
    kernel.shutdown_clean();
}

#[test]
fn key_values_come_back_and_others_have_their_statuses() {
    let kernel = boot();
    let path = "\\Registry\\Machine\\System\\CurrentControlSet\\Services\\owner";
    kernel.registry().create_path(path);
    let units: Vec<u16> = path.encode_utf16().collect();
    let name = UnicodeString::new(&units).unwrap();
    // SAFETY: a valid string.
    let key = unsafe { Key::open(name.raw()) }.unwrap();
    let below = key.create(utf16!("Parameters")).unwrap();
    let value = utf16!("Value");
    let none = NtError(STATUS_OBJECT_NAME_NOT_FOUND);
    assert_eq!(below.get_u32(value), Err(none));
    assert!(!below.has_value(value));
    below.set_u32(value, 0x1234_5678).unwrap();
    assert_eq!(below.get_u32(value), Ok(0x1234_5678));
    below.set_text(value, utf16!("x\0")).unwrap();
    let text = NtError(STATUS_OBJECT_TYPE_MISMATCH);
    assert_eq!(below.get_u32(value), Err(text), "as long as a number");
    below.set_text(value, utf16!("longer\0")).unwrap();
    assert!(below.has_value(value) && below.get_u32(value).is_err());
    let again = key.create(utf16!("PARAMETERS")).unwrap();
    assert!(again.has_value(value), "opened, not made");
    // SAFETY: null is refused.
    let null = unsafe { Key::open(core::ptr::null()) };
    assert_eq!(null.err(), Some(NtError(STATUS_INVALID_PARAMETER)));
    drop((key, below, again));
    kernel.shutdown_clean();
}

#[test]
fn counted_strings_have_their_bounds() {
    let kernel = boot();
    let longest = vec![u16::from(b'x'); 32_767];
    let string = UnicodeString::new(&longest).unwrap();
    // SAFETY: a valid string.
    let units = unsafe { units_of(string.raw()) };
    assert_eq!(units, Some(&longest[..]));
    let too_long = UnicodeString::new(&[0; 32_768]).err();
    assert_eq!(too_long, Some(NtError(STATUS_INVALID_PARAMETER)));
    // SAFETY: null is none.
    assert_eq!(unsafe { units_of(core::ptr::null()) }, None);
    let empty = UNICODE_STRING::default();
    // SAFETY: valid, and its buffer is null.
    assert_eq!(unsafe { units_of(&raw const empty) }, None);
    assert_eq!(upcase(u16::from(b'q')), u16::from(b'Q'));
    kernel.shutdown_clean();
}

struct CountsDrops<'a>(&'a AtomicU32);

impl Drop for CountsDrops<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn pool_owners_drop_once_and_fail_without_a_trace() {
    let kernel = boot();
    let drops = AtomicU32::new(0);
    let first = PoolArc::new(TAG, CountsDrops(&drops)).unwrap();
    let second = first.clone();
    assert!(first.is(&second));
    drop(first);
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    drop(second);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    let raw = PoolBox::new(TAG, CountsDrops(&drops)).unwrap().into_raw();
    // SAFETY: given up above with this tag, taken back once.
    drop(unsafe { PoolBox::from_raw(raw, TAG) });
    assert_eq!(drops.load(Ordering::SeqCst), 2);
    kernel.set_faults(FaultPlan::nth(0).of("ExAllocatePool2"));
    assert!(PoolArc::new(TAG, CountsDrops(&drops)).is_err());
    assert_eq!(drops.load(Ordering::SeqCst), 3, "what found no place");
    assert!(kernel.pool_usage().is_empty());
    kernel.shutdown_clean();
}

#[test]
fn pool_slices_of_any_length() {
    let kernel = boot();
    let sevens = PoolSlice::filled(TAG, 5, 7_u64).unwrap();
    assert_eq!(*sevens, [7; 5]);
    let copy = PoolBytes::copy_of(TAG, b"bytes").unwrap();
    assert_eq!(&*copy, b"bytes");
    assert_eq!(*PoolBytes::zeroed(TAG, 3).unwrap(), [0; 3]);
    for empty in [PoolBytes::zeroed(TAG, 0), PoolBytes::copy_of(TAG, &[])] {
        assert!(empty.unwrap().is_empty());
    }
    let drops = AtomicU32::new(0);
    let counted = PoolSlice::filled_with(TAG, 4, || CountsDrops(&drops)).unwrap();
    drop(PoolSlice::<CountsDrops>::empty(TAG));
    assert_eq!((counted.len(), drops.load(Ordering::SeqCst)), (4, 0));
    drop(counted);
    assert_eq!(drops.load(Ordering::SeqCst), 4, "each, once");
    let overflow = PoolSlice::filled(TAG, usize::MAX / 2, 0_u64).err();
    assert_eq!(overflow, Some(NtError(STATUS_INSUFFICIENT_RESOURCES)));
    drop((sevens, copy));
    assert!(kernel.pool_usage().is_empty());
    kernel.shutdown_clean();
}

#[test]
fn a_global_gives_up_what_somebody_still_has() {
    static PLACE: Global<u32> = Global::empty();
    let kernel = boot();
    assert!(PLACE.get().is_none());
    PLACE.replace(Some(PoolArc::new(TAG, 5).unwrap()));
    let held = PLACE.get().unwrap();
    assert!(PLACE.replace(None).is_some_and(|former| former.is(&held)));
    assert!(PLACE.get().is_none());
    assert_eq!(*held, 5);
    drop(held);
    kernel.shutdown_clean();
}

#[test]
fn user_memory_faults_are_statuses() {
    let kernel = boot();
    let process = kernel.peer(std::process::id(), 0);
    let mut memory = *b"user memory";
    let at = memory.as_mut_ptr().cast();
    process.attach(|| {
        assert_eq!(current_process_id(), std::process::id());
        let buffer = UserBuffer::new(at, 11);
        let mut copy = [0; 16];
        assert_eq!(buffer.copy_in(&mut copy), Ok(11));
        assert_eq!(&copy[..11], b"user memory");
        let no_room = buffer.copy_in(&mut copy[..10]);
        assert_eq!(no_room, Err(NtError(STATUS_INVALID_PARAMETER)));
        assert_eq!(buffer.copy_out(b"USER"), Ok(()));
        let too_long = buffer.copy_out(&[0; 12]);
        assert_eq!(too_long, Err(NtError(STATUS_BUFFER_TOO_SMALL)));
        let bad = UserBuffer::new(core::ptr::without_provenance(0x10), 8);
        let fault = NtError(STATUS_ACCESS_VIOLATION);
        assert_eq!(bad.copy_in(&mut copy), Err(fault));
        assert_eq!(bad.copy_out(b"x"), Err(fault));
        assert_eq!(bad.copy_out(b""), Ok(()), "nothing is touched");
        let null = UserBuffer::new(core::ptr::null(), 8);
        assert!(null.is_empty() && null.copy_in(&mut []) == Ok(0));
    });
    assert_eq!(&std::hint::black_box(memory), b"USER memory");
    kernel.shutdown_clean();
}

#[test]
fn a_timeout_is_a_failure_and_never_infinite() {
    assert_eq!(check(STATUS_TIMEOUT), Err(NtError(STATUS_TIMEOUT)));
    assert_eq!(check(STATUS_SUCCESS), Ok(()));
    assert_eq!(Timeout::from_millis(u32::MAX).raw(), -42_949_672_950_000);
}
