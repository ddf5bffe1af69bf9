// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work items.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::abi::{
    DEVICE_OBJECT, PIO_WORKITEM, PIO_WORKITEM_ROUTINE, PIO_WORKITEM_ROUTINE_EX, WORK_QUEUE_TYPE,
};
use crate::attribution;
use crate::driver::Driver;
use crate::entry::nt;
use crate::frame;
use crate::irql::{DISPATCH_LEVEL, HIGH_LEVEL};
use crate::kernel;
use crate::stack::Stack;
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
    stack: Stack,
    queued: bool,
    /// The memory of an item from IoAllocateWorkItem.
    _memory: Option<Box<[u64; SIZE as usize / 8]>>,
}

/// The work items of one kernel, by their address.
#[derive(Default)]
pub(crate) struct WorkItems(Mutex<HashMap<usize, Item>>);

impl WorkItems {
    /// Whether an item within a range of memory is queued.
    pub(crate) fn is_queued_within(&self, range: std::ops::Range<usize>) -> bool {
        self.0
            .lock()
            .iter()
            .any(|(address, item)| item.queued && range.contains(address))
    }

    /// Forgets the items within memory that is freed, and reports them: the driver must take them
    /// apart first.
    pub(crate) fn forget_within(&self, range: std::ops::Range<usize>) {
        let within = |address: &usize, _: &mut Item| range.contains(address);
        let forgotten = self.0.lock().extract_if(within).count();
        if forgotten > 0 {
            misuse(
                "IoUninitializeWorkItem before its memory is freed",
                "it is still initialised",
            );
        }
    }

    /// Reports the items that `driver` allocated or left queued.
    pub(crate) fn report_left_by(&self, driver: &Arc<Driver>) {
        let mut items = self.0.lock();
        let left: Vec<Item> = items
            .extract_if(|_, item| attribution::is(item.driver.as_ref(), driver))
            .map(|(_, item)| item)
            .collect();
        drop(items);
        for item in left
            .into_iter()
            .filter(|item| item.queued || item._memory.is_some())
        {
            Report::new(Rule::WorkItemLeft)
                .driver(Some(driver.name()))
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

fn misuse(expected: &str, found: &str) {
    Report::new(Rule::WorkItemMisuse)
        .expected(expected)
        .found(found)
        .file();
}

fn initialize(object: usize, address: usize, memory: Option<Box<[u64; SIZE as usize / 8]>>) {
    let item = Item {
        object,
        driver: attribution::responsible(),
        stack: Stack::capture(),
        queued: false,
        _memory: memory,
    };
    let former = kernel::state().work_items.0.lock().insert(address, item);
    if former.is_some_and(|former| former.queued) {
        misuse(
            "an item that is not queued",
            "a queued item was initialised again",
        );
    }
}

fn remove(address: usize) {
    let removed = kernel::state().work_items.0.lock().remove(&address);
    match removed {
        Some(item) if item.queued => misuse("an item that is not queued", "it is queued"),
        Some(_) => {}
        None => misuse("an initialised work item", "none at this address"),
    }
}

fn queue(address: usize, call: Call, context: usize) {
    let state = kernel::state();
    let mut items = state.work_items.0.lock();
    let Some(item) = items.get_mut(&address) else {
        drop(items);
        misuse("an initialised work item", "none at this address");
        return;
    };
    if item.queued {
        drop(items);
        misuse("an item that is not queued", "it is queued already");
        return;
    }
    item.queued = true;
    let (object, driver) = (item.object, item.driver.clone());
    drop(items);
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
    max_irql = HIGH_LEVEL;
    pub unsafe fn IoInitializeWorkItem(object: *const c_void, item: PIO_WORKITEM) {
        initialize(object as usize, item as usize, None);
    }

    /// Takes a work item apart; it must not be queued.
    max_irql = HIGH_LEVEL;
    pub unsafe fn IoUninitializeWorkItem(item: PIO_WORKITEM) {
        remove(item as usize);
    }

    /// Allocates a work item.
    fails = null;
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
        remove(item as usize);
    }

    /// Lets a worker thread call `routine(object, context)` at PASSIVE_LEVEL.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn IoQueueWorkItem(
        item: PIO_WORKITEM,
        routine: PIO_WORKITEM_ROUTINE,
        _queue: WORK_QUEUE_TYPE,
        context: *const c_void,
    ) {
        let Some(routine) = routine else {
            return misuse("a routine", "null");
        };
        // SAFETY: the metadata leaves the arguments out; the routine has these two.
        let routine: Routine = unsafe { std::mem::transmute(routine) };
        queue(item as usize, Call::Plain(routine), context as usize);
    }

    /// Lets a worker thread call `routine(object, context, item)` at PASSIVE_LEVEL.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn IoQueueWorkItemEx(
        item: PIO_WORKITEM,
        routine: PIO_WORKITEM_ROUTINE_EX,
        _queue: WORK_QUEUE_TYPE,
        context: *const c_void,
    ) {
        let Some(routine) = routine else {
            return misuse("a routine", "null");
        };
        // SAFETY: the metadata leaves the arguments out; the routine has these three.
        let routine: RoutineEx = unsafe { std::mem::transmute(routine) };
        queue(item as usize, Call::Ex(routine), context as usize);
    }
}
