// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the hosted kernel knows about the thread that calls it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::driver::Driver;
use crate::kernel::{self, State};
use crate::mm::caller::Caller;
use crate::process::Process;
use crate::processor;
use crate::ps::thread::Thread;
use crate::se::token::Token;
use crate::sim;
use crate::stack::bounds::Bounds;
use crate::stack::unwind::Frame;

/// A lock that a thread holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Where the lock lies.
    pub address: usize,
    /// Which kind it is.
    pub kind: LockKind,
    /// An acquisition that a report was made of and that locks nothing: a second one by the same
    /// thread, or one that would have waited for ever.
    pub again: bool,
    /// The IRQL before it was taken.
    pub former_irql: u8,
}

impl Held {
    /// Whether both lock the same lock.
    pub(crate) fn is_same_lock(&self, other: &Held) -> bool {
        self.address == other.address && self.kind == other.kind && !self.again && !other.again
    }
}

/// The kinds of locks that restrict what a thread may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    SpinLock,
    FastMutex,
    Mutex,
}

impl std::fmt::Display for LockKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LockKind::SpinLock => "spin lock",
            LockKind::FastMutex => "fast mutex",
            LockKind::Mutex => "mutex",
        })
    }
}

/// The context of one thread.
#[derive(Default)]
pub(crate) struct Context {
    /// The host system's id of the thread, once it was asked for; each lock taken notes it.
    native_id: Cell<u64>,
    /// The current IRQL.
    pub irql: Cell<u8>,
    /// The number of the processor that it has or had last.
    pub processor: Cell<u32>,
    /// Whether it has that processor for itself.
    pub has_processor: Cell<bool>,
    /// How many critical regions were entered and not left.
    pub critical_regions: Cell<u32>,
    /// The exported function that was called last.
    pub function: Cell<&'static str>,
    /// The bounds of the stack, once they are known.
    pub stack: Cell<Option<Bounds>>,
    /// Where the stack stood when the hosted kernel last called a driver; zero outside of drivers.
    pub driver_entered_at: Cell<usize>,
    /// The locks held, oldest first.
    pub held: RefCell<Vec<Held>>,
    /// The notify routines that run on this thread, by their registration's address.
    pub inside: RefCell<Vec<usize>>,
    /// Whether it was reported that this thread runs code of an unloaded driver.
    reported_unloaded: Cell<bool>,
    /// Whether the thread reports a touch of closed memory.
    pub in_fault: Cell<bool>,
    /// The number of the innermost call of a user that runs on this thread, or zero.
    pub user_call: Cell<u64>,
    /// The frames in pageable code when the IRQL was last raised to DISPATCH_LEVEL.
    pub raised_at: RefCell<Vec<Frame>>,
    /// The drivers that run on this thread, the innermost last.
    drivers: RefCell<Vec<Arc<Driver>>>,
    /// The kernel that this thread belongs to, when the kernel started it.
    state: RefCell<Option<Arc<State>>>,
    /// The process the thread is attached to.
    process: RefCell<Option<Arc<Process>>>,
    /// Who plays that process.
    pub caller: RefCell<Caller>,
    /// The token of whom the thread impersonates.
    client: RefCell<Option<Arc<Token>>>,
    /// The thread object, made when it is first asked for.
    thread: RefCell<Option<(Arc<State>, Arc<Thread>)>>,
}

impl Context {
    /// Whether the thread runs code of a driver that was unloaded; true once for each thread.
    pub(crate) fn first_seen_unloaded(&self) -> bool {
        let drivers = self.drivers.borrow();
        drivers.last().is_some_and(|driver| driver.is_unloaded())
            && !self.reported_unloaded.replace(true)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if std::ptr::eq(CURRENT.get(), self) {
            CURRENT.set(std::ptr::null());
        }
        processor::give_back(self);
        if let Some((state, thread)) = self.thread.take() {
            thread.finish(&state, crate::status::STATUS_SUCCESS);
        }
    }
}

thread_local! {
    static CONTEXT: Context = Context::default();
    /// The context of the simulated thread that runs; outside of a simulation the one above, once it
    /// was asked for, and null before and after. A word without a destructor is read at once.
    static CURRENT: Cell<*const Context> = const { Cell::new(std::ptr::null()) };
}

/// The context that [`CURRENT`] points to.
#[inline]
fn current<'a>() -> Option<&'a Context> {
    // SAFETY: null, or the context of the simulated thread that runs now, which owns it until it
    // ends and takes it out before that (`sim::enter_context`), or the calling thread's own, which
    // takes itself out when it is dropped.
    unsafe { CURRENT.get().as_ref() }
}

/// Runs a closure with the calling thread's context.
#[inline]
pub(crate) fn with_context<R>(f: impl FnOnce(&Context) -> R) -> R {
    match current() {
        Some(context) => f(context),
        None => CONTEXT.with(|context| {
            CURRENT.set(context);
            f(context)
        }),
    }
}

/// As [`with_context`]; none in a thread that is about to end, and that has no context any more.
pub(crate) fn try_with_context<R>(f: impl FnOnce(&Context) -> R) -> Option<R> {
    match current() {
        Some(context) => Some(f(context)),
        None => CONTEXT.try_with(f).ok(),
    }
}

/// The context that the calling thread has now, for the scheduler of simulated threads.
pub(crate) fn context() -> Option<*const Context> {
    let context = CURRENT.get();
    (!context.is_null()).then_some(context)
}

/// Makes a context that of the simulated thread that runs from now on. It stays alive until another
/// one, or none, takes its place.
pub(crate) fn set_context(context: Option<*const Context>) {
    CURRENT.set(context.unwrap_or(std::ptr::null()));
}

/// The id that the host system, or the simulation, gives the calling thread; NT's thread id here.
pub(crate) fn native_id() -> u64 {
    if let Some(id) = sim::thread_id() {
        return id;
    }
    with_context(|context| {
        if context.native_id.get() == 0 {
            // SAFETY: gettid takes no arguments and cannot fail.
            let id = unsafe { libc::gettid() };
            context.native_id.set(u64::from(id.unsigned_abs()));
        }
        context.native_id.get()
    })
}

/// What tells the calling thread from every other one that lives, at no cost. Never zero.
pub(crate) fn identity() -> usize {
    with_context(|context| std::ptr::from_ref(context) as usize)
}

/// The kernel that the calling thread was started by.
pub(crate) fn own_state() -> Option<Arc<State>> {
    with_context(|context| context.state.borrow().clone())
}

/// The driver whose code the calling thread runs.
pub(crate) fn current_driver() -> Option<Arc<Driver>> {
    with_context(|context| context.drivers.borrow().last().cloned())
}

/// The process the calling thread is attached to; otherwise System.
pub(crate) fn current_process() -> Arc<Process> {
    with_context(|context| context.process.borrow().clone())
        .unwrap_or_else(|| kernel::state().processes.system())
}

/// The thread object of the calling thread.
pub(crate) fn current_thread() -> Arc<Thread> {
    let state = kernel::state();
    let known = with_context(|context| context.thread.borrow().clone());
    match known {
        Some((owner, thread)) if Arc::ptr_eq(&owner, &state) => thread,
        _ => {
            let thread = Thread::new(current_process(), None);
            thread.begin(native_id());
            thread.enlist(&state);
            adopt_thread(&state, &thread);
            thread
        }
    }
}

/// Makes `thread` the thread object of the calling thread.
pub(crate) fn adopt_thread(state: &Arc<State>, thread: &Arc<Thread>) {
    let former = with_context(|context| {
        context
            .thread
            .replace(Some((state.clone(), thread.clone())))
    });
    if let Some((former_state, former)) = former {
        former.finish(&former_state, crate::status::STATUS_SUCCESS);
    }
}

/// Binds the calling thread, which the kernel has just started, to its kernel for good.
pub(crate) fn adopt_state(state: &Arc<State>) {
    with_context(|context| *context.state.borrow_mut() = Some(state.clone()));
}

/// Runs a closure as code of `driver`: what it makes is the driver's to clean up.
pub(crate) fn as_driver<R>(driver: Option<&Arc<Driver>>, f: impl FnOnce() -> R) -> R {
    let Some(driver) = driver else {
        return f();
    };
    with_context(|context| context.drivers.borrow_mut().push(driver.clone()));
    let result = f();
    with_context(|context| context.drivers.borrow_mut().pop());
    result
}

/// Runs a closure in the address space of `process`.
pub(crate) fn attached<R>(process: &Arc<Process>, f: impl FnOnce() -> R) -> R {
    let former = with_context(|context| context.process.replace(Some(process.clone())));
    let result = f();
    with_context(|context| *context.process.borrow_mut() = former);
    result
}

/// Runs a closure as a call of a process that is played like this.
pub(crate) fn called_by<R>(caller: Caller, f: impl FnOnce() -> R) -> R {
    let former = with_context(|context| context.caller.replace(caller));
    let result = f();
    with_context(|context| *context.caller.borrow_mut() = former);
    result
}

/// The token of whom the calling thread impersonates.
pub(crate) fn client_token() -> Option<Arc<Token>> {
    with_context(|context| context.client.borrow().clone())
}

/// Runs a closure while the calling thread impersonates whom `client` belongs to.
pub(crate) fn impersonating<R>(client: &Arc<Token>, f: impl FnOnce() -> R) -> R {
    let former = with_context(|context| context.client.replace(Some(client.clone())));
    let result = f();
    with_context(|context| *context.client.borrow_mut() = former);
    result
}
