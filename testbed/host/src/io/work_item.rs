// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work items.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::abi::{
    DEVICE_OBJECT, PIO_WORKITEM, PIO_WORKITEM_ROUTINE, PIO_WORKITEM_ROUTINE_EX, WORK_QUEUE_TYPE,
};
use crate::driver::Driver;
use crate::entry::nt;
use crate::frame;
use crate::irql::{DISPATCH_LEVEL, HIGH_LEVEL};
use crate::kernel;
use crate::stack::Stack;
use crate::thread;
use crate::verifier::attribution;
use crate::verifier::unloaded;
use crate::verifier::{Report, Rule};

/// The memory that a driver gives for a work item. The hosted kernel keeps what it knows of the
/// item in a table and writes nothing there.
const SIZE: u32 = 64;

type Routine = unsafe extern "system" fn(*mut c_void, *mut c_void);
type RoutineEx = unsafe extern "system" fn(*mut c_void, *mut c_void, PIO_WORKITEM);

#[derive(Clone, Copy)]
enum Call {
    Plain(Routine),
    Ex(RoutineEx),
}

struct Item {
    object: usize,
    driver: Option<Arc<Driver>>,
    /// Its place in the order of all items.
    number: u64,
    /// The function that made it.
    function: &'static str,
    stack: Stack,
    queued: bool,
    /// The memory of an item from IoAllocateWorkItem.
    memory: Option<Box<[u64; SIZE as usize / 8]>>,
}

/// The work items of one kernel, by their address.
#[derive(Default)]
pub(crate) struct WorkItems(Mutex<BTreeMap<usize, Item>>);

impl WorkItems {
    /// Whether an item within a range of memory is queued.
    pub(crate) fn is_queued_within(&self, range: std::ops::Range<usize>) -> bool {
        self.0
            .lock()
            .iter()
            .any(|(address, item)| item.queued && range.contains(address))
    }

    /// Forgets the items within memory that is freed, and reports them: the driver must take them
    /// apart first. That one is queued, the caller has reported.
    pub(crate) fn forget_within(&self, range: std::ops::Range<usize>) {
        let mut items = self.0.lock();
        let within: Vec<usize> = items.range(range).map(|(address, _)| *address).collect();
        let forgotten: Vec<Item> = within.iter().filter_map(|it| items.remove(it)).collect();
        drop(items);
        for item in forgotten.into_iter().filter(|item| !item.queued) {
            Report::new(Rule::WorkItemMisuse)
                .expected("IoUninitializeWorkItem before the item's memory is freed")
                .found("it is still initialised")
                .related("it was initialised here", item.stack)
                .file();
        }
    }

    /// Reports the items that `driver` allocated or left queued.
    pub(crate) fn report_left_by(&self, driver: &Arc<Driver>) {
        let mut items = self.0.lock();
        let (left, kept) = std::mem::take(&mut *items)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, it)| attribution::is(it.driver.as_ref(), driver));
        *items = kept;
        drop(items);
        let mut left: Vec<Item> = left.into_values().collect();
        left.sort_by_key(|item| item.number);
        for item in left
            .into_iter()
            .filter(|item| item.queued || item.memory.is_some())
        {
            Report::new(Rule::WorkItemLeft)
                .driver(Some(driver.name()))
                .function(item.function)
                .expected("work items are done and freed")
                .found(if item.queued {
                    "a queued work item"
                } else {
                    "an allocated work item"
                })
                .made_at(item.stack)
                .file();
        }
    }
}

fn report_unknown() {
    Report::new(Rule::WorkItemUnknown)
        .expected("a work item that is initialised or allocated, and not freed")
        .found("none at this address")
        .detail("a routine that frees its item must not touch it afterwards")
        .file();
}

fn report_queued_twice() {
    Report::new(Rule::WorkItemQueuedTwice)
        .expected("an item that is not queued")
        .found("it is queued already")
        .detail("queue it again from its routine at the earliest, or use one item for each job")
        .file();
}

fn report_freed_queued(found: &str) {
    Report::new(Rule::WorkItemFreedQueued)
        .expected("an item that is not queued")
        .found(found)
        .detail("let its routine free it, or wait for an event that the routine sets")
        .file();
}

fn report_no_routine() {
    Report::new(Rule::WorkItemMisuse)
        .expected("a routine")
        .found("null")
        .file();
}

fn initialize(object: usize, address: usize, memory: Option<Box<[u64; SIZE as usize / 8]>>) {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let item = Item {
        object,
        driver: attribution::responsible(),
        number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        function: thread::with_context(|context| context.function.get()),
        stack: Stack::capture(),
        queued: false,
        memory,
    };
    let former = kernel::state().work_items.0.lock().insert(address, item);
    if former.is_some_and(|former| former.queued) {
        report_freed_queued("a queued item was initialised again");
    }
}

/// Takes an item out of the table. `allocated` says which kind of item the function is for.
fn remove(address: usize, allocated: bool) {
    let removed = kernel::state().work_items.0.lock().remove(&address);
    let Some(item) = removed else {
        return report_unknown();
    };
    if item.queued {
        report_freed_queued("it is queued");
    }
    if item.memory.is_some() != allocated {
        report_other_kind(&item);
    }
}

fn report_other_kind(item: &Item) {
    let (expected, found) = match item.memory {
        Some(_) => (
            "IoFreeWorkItem for an item from IoAllocateWorkItem",
            "IoUninitializeWorkItem, which leaves its memory allocated",
        ),
        None => (
            "IoUninitializeWorkItem for an item from IoInitializeWorkItem",
            "IoFreeWorkItem, which frees memory that the system did not allocate",
        ),
    };
    Report::new(Rule::WorkItemMisuse)
        .expected(expected)
        .found(found)
        .related("the item was made here", item.stack.clone())
        .file();
}

fn queue(address: usize, call: Call, context: usize) {
    let state = kernel::state();
    let mut items = state.work_items.0.lock();
    let Some(item) = items.get_mut(&address) else {
        drop(items);
        return report_unknown();
    };
    if item.queued {
        drop(items);
        return report_queued_twice();
    }
    item.queued = true;
    let (object, driver) = (item.object, item.driver.clone());
    drop(items);
    if driver.as_ref().is_some_and(|driver| driver.is_unloaded()) {
        // Nobody waits for it any more: on NT the item's driver object is gone.
        let what = "a work item's routine";
        unloaded::may_call(what, driver.as_ref(), "IoQueueWorkItem", &Stack::capture());
        return;
    }
    let (inner_state, inner_driver) = (state.clone(), driver.clone());
    let body = move || {
        // From here on the routine may free the item or queue it again.
        if let Some(item) = inner_state.work_items.0.lock().get_mut(&address) {
            item.queued = false;
        }
        frame::call(
            "a work item's routine",
            inner_driver.as_ref(),
            || match call {
                Call::Plain(routine) => {
                    // SAFETY: the driver queued the routine for these arguments.
                    unsafe { routine(object as *mut c_void, context as *mut c_void) }
                }
                Call::Ex(routine) => {
                    let item = address as PIO_WORKITEM;
                    // SAFETY: as above.
                    unsafe { routine(object as *mut c_void, context as *mut c_void, item) }
                }
            },
        );
    };
    state.work_queue.push(&state, driver, Box::new(body));
}

nt! {
    /// The bytes that IoInitializeWorkItem needs.
    max_irql = HIGH_LEVEL;
    pub unsafe fn IoSizeofWorkItem() -> u32 {
        SIZE
    }

    /// Makes a work item in memory of the driver, for its driver or device object.
    simplified = "the object is not looked at, and goes to the routine as it is";
    max_irql = HIGH_LEVEL;
    pub unsafe fn IoInitializeWorkItem(object: *const c_void, item: PIO_WORKITEM) {
        initialize(object as usize, item as usize, None);
    }

    /// Takes a work item apart; it must not be queued.
    max_irql = HIGH_LEVEL;
    pub unsafe fn IoUninitializeWorkItem(item: PIO_WORKITEM) {
        remove(item as usize, false);
    }

    /// Allocates a work item.
    fails = null;
    simplified = "its memory is not accounted to the pool; there are no devices, so the object is \
        not looked at, and goes to the routine as it is";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn IoAllocateWorkItem(device: *const DEVICE_OBJECT) -> PIO_WORKITEM {
        let memory = Box::new([0; SIZE as usize / 8]);
        let address = std::ptr::from_ref(memory.as_ref()) as usize;
        initialize(device as usize, address, Some(memory));
        address as PIO_WORKITEM
    }

    /// Frees a work item; it must not be queued.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn IoFreeWorkItem(item: PIO_WORKITEM) {
        remove(item as usize, true);
    }

    /// Lets a worker thread call `routine(object, context)` at PASSIVE_LEVEL.
    simplified = "one queue with at most 64 threads, whatever queue type is asked for";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn IoQueueWorkItem(
        item: PIO_WORKITEM,
        routine: PIO_WORKITEM_ROUTINE,
        _queue: WORK_QUEUE_TYPE,
        context: *const c_void,
    ) {
        let Some(routine) = routine else {
            return report_no_routine();
        };
        // SAFETY: the metadata leaves the arguments out; the routine has these two.
        let routine: Routine = unsafe { std::mem::transmute(routine) };
        queue(item as usize, Call::Plain(routine), context as usize);
    }

    /// Lets a worker thread call `routine(object, context, item)` at PASSIVE_LEVEL.
    simplified = "one queue with at most 64 threads, whatever queue type is asked for";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn IoQueueWorkItemEx(
        item: PIO_WORKITEM,
        routine: PIO_WORKITEM_ROUTINE_EX,
        _queue: WORK_QUEUE_TYPE,
        context: *const c_void,
    ) {
        let Some(routine) = routine else {
            return report_no_routine();
        };
        // SAFETY: the metadata leaves the arguments out; the routine has these three.
        let routine: RoutineEx = unsafe { std::mem::transmute(routine) };
        queue(item as usize, Call::Ex(routine), context as usize);
    }
}
