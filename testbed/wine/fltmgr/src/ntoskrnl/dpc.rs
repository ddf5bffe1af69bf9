// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deferred procedure calls: one thread runs them, in order, at what it says is DISPATCH_LEVEL.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::ffi::c_void;
use core::ptr::null_mut;

use fltport_nt::ke::SpinLock;

use super::teb;
use crate::event::Event;
use crate::work;

const DISPATCH_LEVEL: u8 = 2;

pub(super) type Routine =
    unsafe extern "system" fn(*mut Dpc, *mut c_void, *mut c_void, *mut c_void);

/// KDPC as wdm.h lays it out for x64, as far as it is used here.
#[repr(C)]
pub(super) struct Dpc {
    kind: u8,
    importance: u8,
    number: u16,
    _padding: u32,
    next: *mut c_void,
    affinity: usize,
    routine: Option<Routine>,
    context: *mut c_void,
    argument1: *mut c_void,
    argument2: *mut c_void,
    /// Not NULL while it is queued.
    data: *mut c_void,
}

/// DpcObject of the kernel's object types.
const KIND: u8 = 19;

impl Dpc {
    pub(super) fn new(routine: Option<Routine>, context: *mut c_void) -> Dpc {
        Dpc {
            kind: KIND,
            importance: 1,
            number: 0,
            _padding: 0,
            next: null_mut(),
            affinity: 0,
            routine,
            context,
            argument1: null_mut(),
            argument2: null_mut(),
            data: null_mut(),
        }
    }
}

struct Queue {
    waiting: VecDeque<Entry>,
    /// A thread takes from it.
    running: bool,
}

enum Entry {
    /// A DPC, by its address.
    Dpc(usize),
    /// Somebody waits until all before this have run.
    Flush(Arc<Event>),
}

static QUEUE: SpinLock<Queue> = SpinLock::new(Queue {
    waiting: VecDeque::new(),
    running: false,
});

pub(super) unsafe extern "system" fn initialize(
    dpc: *mut Dpc,
    routine: Option<Routine>,
    context: *mut c_void,
) {
    // SAFETY: the caller passes memory for it.
    unsafe { dpc.write(Dpc::new(routine, context)) };
}

pub(super) unsafe extern "system" fn insert(
    dpc: *mut Dpc,
    argument1: *mut c_void,
    argument2: *mut c_void,
) -> u8 {
    let mut queue = QUEUE.lock();
    // SAFETY: the caller passes an initialised one; its fields change under this lock only.
    let fields = unsafe { &mut *dpc };
    if !fields.data.is_null() {
        return 0;
    }
    fields.argument1 = argument1;
    fields.argument2 = argument2;
    fields.data = dpc.cast();
    queue.waiting.push_back(Entry::Dpc(dpc as usize));
    let start = !core::mem::replace(&mut queue.running, true);
    drop(queue);
    if start {
        work::queue(run_all);
    }
    1
}

pub(super) unsafe extern "system" fn remove(dpc: *mut Dpc) -> u8 {
    let mut queue = QUEUE.lock();
    // SAFETY: the caller passes an initialised one; its fields change under this lock only.
    let fields = unsafe { &mut *dpc };
    if fields.data.is_null() {
        return 0;
    }
    fields.data = null_mut();
    queue
        .waiting
        .retain(|entry| !matches!(entry, Entry::Dpc(each) if *each == dpc as usize));
    1
}

/// Waits until every DPC that is queued now has run.
pub(super) unsafe extern "system" fn flush() {
    let mut queue = QUEUE.lock();
    if !queue.running {
        return;
    }
    let event = Arc::new(Event::new());
    queue.waiting.push_back(Entry::Flush(event.clone()));
    drop(queue);
    event.wait(None);
}

fn run_all() {
    let former = teb::set_irql(DISPATCH_LEVEL);
    loop {
        let mut queue = QUEUE.lock();
        let dpc = match queue.waiting.pop_front() {
            Some(Entry::Dpc(dpc)) => dpc as *mut Dpc,
            Some(Entry::Flush(event)) => {
                drop(queue);
                event.set();
                continue;
            }
            None => {
                queue.running = false;
                break;
            }
        };
        // SAFETY: queued, so the driver keeps it; its fields change under this lock only.
        let fields = unsafe { &mut *dpc };
        fields.data = null_mut();
        let (routine, context) = (fields.routine, fields.context);
        let (argument1, argument2) = (fields.argument1, fields.argument2);
        drop(queue);
        if let Some(routine) = routine {
            // SAFETY: the routine that the driver initialised it with.
            unsafe { routine(dpc, context, argument1, argument2) };
        }
    }
    teb::set_irql(former);
}
