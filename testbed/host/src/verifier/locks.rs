// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who holds which lock and waits for which. Spin locks, fast mutexes and mutexes tell it what
//! happens to them; it finds the mistakes that take two locks or two threads. Without a booted
//! kernel nothing is kept: a driver's locks may be tried out alone; nor is it without the verifier.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::lock_order::{Edge, Lock, Order};
use super::{Report, Rule};
use crate::irql::{self, APC_LEVEL, DISPATCH_LEVEL};
use crate::kernel::{self, State};
use crate::stack::Stack;
use crate::thread::{self, Held, LockKind};
use crate::verifier;

/// A thread that holds a lock.
#[derive(Clone)]
pub(crate) struct Holder {
    kind: LockKind,
    /// The thread's identity, for comparisons.
    thread: usize,
    /// The thread's id, for readers.
    pub id: u64,
    /// How often it took the lock.
    depth: u32,
    /// Where it took the lock first.
    pub stack: Stack,
}

/// A lock that a callback has left.
pub(crate) struct Left {
    pub held: Held,
    pub holder: Holder,
    /// How often the callback took it and did not release it.
    pub times: u32,
    /// Whether the thread held it already when the callback was called.
    pub taken_before: bool,
}

#[derive(Default)]
struct Tables {
    /// By the address of the lock.
    holders: BTreeMap<usize, Holder>,
    /// The lock that a thread, by its identity, waits for without limit.
    waits: BTreeMap<usize, usize>,
    /// Locks that another thread has released, which was reported, with the identities of the
    /// threads that held them and have not released them yet.
    stolen: BTreeSet<(usize, usize)>,
    order: Order,
}

/// The locks of one kernel.
#[derive(Default)]
pub(crate) struct Locks(Mutex<Tables>);

impl Tables {
    /// Whether the chain from a lock to its holder, to the lock that one waits for, and so on,
    /// ends at `thread`. Its length is the number of threads at most.
    fn leads_to(&self, lock: usize, thread: usize) -> bool {
        let mut next = Some(lock);
        for _ in 0..=self.waits.len() {
            let holder = next.and_then(|lock| self.holders.get(&lock));
            match holder {
                Some(holder) if holder.thread == thread => return true,
                Some(holder) => next = self.waits.get(&holder.thread).copied(),
                None => return false,
            }
        }
        false
    }

    fn is_held_by(&self, address: usize, thread: usize) -> bool {
        let holder = self.holders.get(&address);
        holder.is_some_and(|holder| holder.thread == thread)
    }
}

impl Locks {
    /// Looks at the order in which the calling thread is about to take `lock`.
    fn check_order(&self, lock: Lock) {
        for held in self.new_neighbours(lock) {
            let edge = Edge {
                held,
                taken: lock,
                thread: thread::native_id(),
                stack: Stack::capture(),
            };
            let mut tables = self.0.lock();
            let circle = tables.order.add(edge);
            let taken_at = tables.holders.get(&held.address).map(|it| it.stack.clone());
            drop(tables);
            if let Some(circle) = circle {
                report_order(held, lock, taken_at, &circle);
            }
        }
    }

    /// The locks that the calling thread holds and with which `lock` was never seen before.
    fn new_neighbours(&self, lock: Lock) -> Vec<Lock> {
        let me = thread::identity();
        thread::with_context(|context| {
            let held = context.held.borrow();
            if held.is_empty() {
                return Vec::new();
            }
            let tables = self.0.lock();
            if tables.is_held_by(lock.address, me) {
                // A mutex that is taken once more: the thread cannot have to wait for it.
                return Vec::new();
            }
            let held = held.iter().map(|held| Lock {
                address: held.address,
                kind: held.kind,
            });
            held.filter(|held| {
                held.address != lock.address
                    && tables.is_held_by(held.address, me)
                    && !tables.order.is_known(*held, lock)
            })
            .collect()
        })
    }

    /// The calling thread begins to wait for `lock` without limit; true, and no wait is noted, if
    /// its holder waits, perhaps by way of others, for the calling thread.
    fn begin_wait(&self, lock: Lock) -> bool {
        let me = thread::identity();
        let mut tables = self.0.lock();
        if tables.leads_to(lock.address, me) {
            return true;
        }
        tables.waits.insert(me, lock.address);
        false
    }

    fn end_wait(&self) {
        self.0.lock().waits.remove(&thread::identity());
    }

    fn taken(&self, lock: Lock, stack: Stack) {
        let me = thread::identity();
        let mut tables = self.0.lock();
        match tables.holders.get_mut(&lock.address) {
            Some(holder) if holder.thread == me && holder.kind == lock.kind => holder.depth += 1,
            _ => {
                let holder = Holder {
                    kind: lock.kind,
                    thread: me,
                    id: thread::native_id(),
                    depth: 1,
                    stack,
                };
                tables.holders.insert(lock.address, holder);
            }
        }
    }

    fn released(&self, address: usize) {
        let mut tables = self.0.lock();
        if let Some(holder) = tables.holders.get_mut(&address) {
            holder.depth = holder.depth.saturating_sub(1);
            if holder.depth == 0 {
                tables.holders.remove(&address);
            }
        }
    }

    /// Who holds the lock at an address.
    pub(crate) fn holder(&self, address: usize) -> Option<Holder> {
        self.0.lock().holders.get(&address).cloned()
    }

    /// A lock within a range of memory that somebody holds.
    pub(crate) fn held_within(&self, range: Range<usize>) -> Option<(Lock, Holder)> {
        let tables = self.0.lock();
        let (address, holder) = tables.holders.range(range).next()?;
        let lock = Lock {
            address: *address,
            kind: holder.kind,
        };
        Some((lock, holder.clone()))
    }

    /// Forgets the locks within memory that is freed or initialised anew.
    pub(crate) fn forget(&self, range: Range<usize>) {
        let mut tables = self.0.lock();
        tables.order.forget(&range);
        let held: Vec<usize> = tables
            .holders
            .range(range)
            .map(|(address, _)| *address)
            .collect();
        for address in held {
            tables.holders.remove(&address);
        }
    }
}

/// A lock, and where it lies, as a part of a sentence.
pub(crate) fn named(lock: Lock) -> String {
    let place = kernel::state().pool.place_of(lock.address);
    format!(
        "the {} at {:#x}{}",
        lock.kind,
        lock.address,
        place.unwrap_or_default()
    )
}

fn report_order(held: Lock, taken: Lock, taken_at: Option<Stack>, circle: &[Edge]) {
    let mut report = Report::new(Rule::LockOrder)
        .expected(format!(
            "{} before {}, as earlier",
            named(taken),
            named(held)
        ))
        .found(format!("{} is held already", named(held)));
    for edge in circle {
        report = report.related(
            format!(
                "thread {} held {} and took {} here",
                edge.thread,
                named(edge.held),
                named(edge.taken)
            ),
            edge.stack.clone(),
        );
    }
    if let Some(stack) = taken_at {
        report = report.related(format!("{} was taken here", named(held)), stack);
    }
    report.file();
}

fn report_deadlock(lock: Lock) {
    let mut report = Report::new(Rule::LockDeadlock)
        .expected("some thread can go on")
        .found(format!(
            "the holder of {} waits for a lock of this thread",
            named(lock)
        ))
        .detail("on NT both would hang; here this thread goes on as if it had the lock");
    if let Some(holder) = kernel::state().locks.holder(lock.address) {
        report = report.related(
            format!("thread {} took {} here", holder.id, named(lock)),
            holder.stack,
        );
    }
    report.file();
}

/// The kernel whose locks are accounted for, if they are.
fn watching() -> Option<Arc<State>> {
    (!verifier::is_off()).then(kernel::running).flatten()
}

/// What a release finds of which no account was kept: that the driver is right.
fn unwatched(lock: Lock) -> Held {
    Held {
        address: lock.address,
        kind: lock.kind,
        again: false,
        former_irql: irql::current(),
    }
}

/// The calling thread initialises a spin lock or a mutex: what was known of one there is
/// forgotten. True, and a report, if a thread holds it. That one stays its holder, as its release
/// will be no mistake.
pub(crate) fn initialized(lock: Lock) -> bool {
    let Some(state) = watching() else {
        return false;
    };
    let range = lock.address..lock.address + 1;
    match state.locks.holder(lock.address) {
        Some(holder) if holder.kind == lock.kind => {
            state.locks.forget_order(&range);
            report_reinitialized(lock, holder);
            true
        }
        _ => {
            state.locks.forget(range);
            false
        }
    }
}

fn report_reinitialized(lock: Lock, holder: Holder) {
    Report::new(Rule::LockReinitialized)
        .expected(format!("{} is initialised while it is free", named(lock)))
        .found(format!("thread {} holds it", holder.id))
        .detail("on NT another thread could take it now, too")
        .related("it was taken here", holder.stack)
        .file();
}

/// What must hold before the calling thread takes `lock`, and waits for it if it must. An attempt
/// that cannot wait cannot be part of a deadlock, and does not come here.
pub(crate) fn before_taking(lock: Lock) {
    if let Some(state) = watching() {
        state.locks.check_order(lock);
    }
}

/// Runs `wait`, in which the calling thread waits for `lock` without limit; false, and a report,
/// if it would never end.
pub(crate) fn waiting_for(lock: Lock, wait: impl FnOnce()) -> bool {
    let Some(state) = watching() else {
        wait();
        return true;
    };
    if state.locks.begin_wait(lock) {
        report_deadlock(lock);
        return false;
    }
    wait();
    state.locks.end_wait();
    true
}

/// The calling thread has taken `lock`.
pub(crate) fn taken(lock: Lock, former_irql: u8) {
    if verifier::is_off() {
        return;
    }
    if let Some(state) = kernel::running() {
        state.locks.taken(lock, Stack::capture());
    }
    hold(lock, former_irql, false);
}

/// The calling thread goes on as if it had taken `lock`, after a report.
pub(crate) fn taken_in_name_only(lock: Lock) {
    hold(lock, irql::current(), true);
}

fn hold(lock: Lock, former_irql: u8, again: bool) {
    let held = Held {
        address: lock.address,
        kind: lock.kind,
        again,
        former_irql,
    };
    thread::with_context(|context| context.held.borrow_mut().push(held));
}

/// The calling thread takes a lock that it holds already, which on NT hangs.
pub(crate) fn report_recursion(lock: Lock) {
    let mut report = Report::new(Rule::LockRecursion)
        .expected(format!("a {} is taken once by a thread", lock.kind))
        .found(format!("the thread already holds {}", named(lock)))
        .detail(match lock.kind {
            LockKind::SpinLock => "on NT the processor would spin for ever",
            _ => "on NT the thread would wait for itself for ever",
        });
    if let Some(holder) = kernel::state().locks.holder(lock.address) {
        report = report.related("it took the lock here", holder.stack);
    }
    report.file();
}

/// What a release found.
pub(crate) enum Released {
    /// The thread held the lock, or took it and has lost it to another thread's mistake: it is off
    /// the list.
    Held(Held),
    /// Another thread holds it; a report was made. A mutex stays that one's.
    OfAnother,
    /// Nobody holds it; a report was made.
    Free,
}

/// Takes a lock off the account of the calling thread, which releases it. Of a lock taken several
/// times, the last time.
pub(crate) fn release(lock: Lock) -> Released {
    if verifier::is_off() {
        return Released::Held(unwatched(lock));
    }
    let own = thread::with_context(|context| {
        let mut held = context.held.borrow_mut();
        let is_it = |held: &Held| held.address == lock.address && held.kind == lock.kind;
        let index = held.iter().rposition(is_it)?;
        Some(held.remove(index))
    });
    let Some(state) = kernel::running() else {
        return own.map_or(Released::Free, Released::Held);
    };
    let me = thread::identity();
    let holder = state.locks.holder(lock.address);
    match own {
        Some(held) if held.again => Released::Held(held),
        Some(held) if holder.as_ref().is_some_and(|it| it.thread == me) => {
            state.locks.released(lock.address);
            Released::Held(held)
        }
        Some(held) if lock.kind != LockKind::Mutex => {
            // Whoever made the mistake, this thread goes back to the IRQL from before the lock.
            if !state.locks.take_stolen(lock.address, me) {
                report_not_held(lock, holder);
            }
            Released::Held(Held {
                again: true,
                ..held
            })
        }
        _ => {
            let released = match holder {
                Some(_) => Released::OfAnother,
                None => Released::Free,
            };
            if lock.kind != LockKind::Mutex {
                state.locks.steal(lock.address);
            }
            report_not_held(lock, holder);
            released
        }
    }
}

/// Reports a release by a thread that does not hold the lock.
fn report_not_held(lock: Lock, holder: Option<Holder>) {
    let expected = format!("the thread that took {} releases it", named(lock));
    let report = match holder {
        Some(holder) => Report::new(Rule::LockWrongThread)
            .found(format!("thread {} holds it", holder.id))
            .related("it was taken here", holder.stack),
        None => Report::new(Rule::LockNotHeld).found("nobody holds it"),
    };
    report.expected(expected).file();
}

impl Locks {
    /// Forgets a lock that is initialised anew, if it is a fast mutex. Its holder is forgotten,
    /// too: the memory says already that nobody holds it.
    pub(crate) fn forget_fast_mutex(&self, address: usize) {
        let tables = self.0.lock();
        let is_one = tables.order.kind_at(address) == Some(LockKind::FastMutex);
        let holder = tables.holders.get(&address).cloned();
        drop(tables);
        let holder = holder.filter(|holder| holder.kind == LockKind::FastMutex);
        if holder.is_some() {
            // Its release will be no mistake of its own.
            self.steal(address);
        }
        if is_one {
            self.forget_order(&(address..address + 1));
        }
        if let Some(holder) = holder {
            let kind = LockKind::FastMutex;
            report_reinitialized(Lock { address, kind }, holder);
        }
    }

    /// As [`Locks::forget`], but for holders.
    fn forget_order(&self, range: &Range<usize>) {
        self.0.lock().order.forget(range);
    }

    /// Another thread than its holder releases a lock: the holder has it no more.
    fn steal(&self, address: usize) {
        let mut tables = self.0.lock();
        if let Some(holder) = tables.holders.remove(&address) {
            tables.stolen.insert((address, holder.thread));
        }
    }

    /// Whether a lock was released by another thread while `thread` held it. Asked once.
    fn take_stolen(&self, address: usize, thread: usize) -> bool {
        self.0.lock().stolen.remove(&(address, thread))
    }

    /// The calling thread has these locks on its account no more.
    fn forget_stolen(&self, gone: &[Held]) {
        let me = thread::identity();
        let mut tables = self.0.lock();
        for held in gone {
            tables.stolen.remove(&(held.address, me));
        }
    }

    /// The locks that the calling thread took as the `from`th and later ones and that it still
    /// holds, the newest first. They are taken off its account.
    pub(crate) fn take_left(&self, from: usize) -> Vec<Left> {
        let (older, newer) = thread::with_context(|context| {
            let mut held = context.held.borrow_mut();
            let from = from.min(held.len());
            let newer = held.split_off(from);
            (held.clone(), newer)
        });
        let is_older = |lock: &Held| older.iter().any(|held| held.is_same_lock(lock));
        let mut found: Vec<Left> = Vec::new();
        self.forget_stolen(&newer);
        for held in newer.into_iter().rev().filter(|held| !held.again) {
            if let Some(left) = found.iter_mut().find(|it| it.held.is_same_lock(&held)) {
                left.times += 1;
            } else if let Some(holder) = self.own_holder(held.address) {
                found.push(Left {
                    held,
                    holder,
                    times: 1,
                    taken_before: is_older(&held),
                });
            }
        }
        found.iter().for_each(|left| self.take_off(left));
        found
    }

    /// The holder of a lock if that is the calling thread. What is not on the account any more was
    /// freed, or released by another thread.
    fn own_holder(&self, address: usize) -> Option<Holder> {
        let holder = self.holder(address)?;
        (holder.thread == thread::identity()).then_some(holder)
    }

    fn take_off(&self, left: &Left) {
        let mut tables = self.0.lock();
        match tables.holders.get_mut(&left.held.address) {
            Some(holder) if left.taken_before => {
                holder.depth = holder.depth.saturating_sub(left.times).max(1);
            }
            _ => {
                tables.holders.remove(&left.held.address);
            }
        }
    }
}

/// A lock of a kind that the calling thread holds, the newest one, and where it was taken.
pub(crate) fn held_of_kind(kind: LockKind) -> Option<(Lock, Holder)> {
    let me = thread::identity();
    let held: Vec<Held> = thread::with_context(|context| context.held.borrow().clone());
    let state = kernel::running()?;
    held.iter()
        .rev()
        .filter(|held| held.kind == kind && !held.again)
        .find_map(|held| {
            let holder = state.locks.holder(held.address)?;
            let lock = Lock {
                address: held.address,
                kind,
            };
            (holder.thread == me).then_some((lock, holder))
        })
}

/// Reports a spin lock held by the calling thread, which is about to wait; false if it holds none.
pub(crate) fn report_wait_with_spin_lock() -> bool {
    let Some((lock, holder)) = held_of_kind(LockKind::SpinLock) else {
        return false;
    };
    Report::new(Rule::WaitWhileHoldingSpinLock)
        .expected("a timeout of zero, or no spin lock held")
        .found(format!("a wait that may block with {} held", named(lock)))
        .related("the spin lock was taken here", holder.stack)
        .file();
    true
}

/// Looks at the locks that the calling thread holds as it lowers its IRQL to `irql`.
pub(crate) fn check_lowering(irql: u8) {
    if verifier::is_off() {
        return;
    }
    let needs = [
        (LockKind::SpinLock, DISPATCH_LEVEL),
        (LockKind::FastMutex, APC_LEVEL),
    ];
    for (kind, level) in needs {
        if irql >= level {
            continue;
        }
        if let Some((lock, holder)) = held_of_kind(kind) {
            Report::new(Rule::IrqlLoweredWithLock)
                .expected(format!(
                    "IRQL >= {} while {} is held",
                    irql::name(level),
                    named(lock)
                ))
                .found(irql::name(irql))
                .related("the lock was taken here", holder.stack)
                .file();
            return;
        }
    }
}

/// The calling thread stays at DISPATCH_LEVEL as it releases a spin lock. If it holds another one,
/// which it took at that level, the release of that one may lower the IRQL for both: so a list is
/// walked hand over hand.
pub(crate) fn pass_irql_on(released: Held) {
    if released.former_irql >= DISPATCH_LEVEL || released.again {
        return;
    }
    thread::with_context(|context| {
        let mut held = context.held.borrow_mut();
        let heir = held.iter_mut().rev().find(|held| {
            held.kind == LockKind::SpinLock && held.former_irql >= DISPATCH_LEVEL && !held.again
        });
        if let Some(heir) = heir {
            heir.former_irql = released.former_irql;
        }
    });
}

/// Looks at the IRQL at which the calling thread releases a mutex: NT keeps no mutex across the
/// border of DISPATCH_LEVEL.
pub(crate) fn check_side_of_dispatch_level(released: Held) {
    let now = irql::current();
    if (now >= DISPATCH_LEVEL) != (released.former_irql >= DISPATCH_LEVEL) {
        Report::new(Rule::MutexIrqlMismatch)
            .expected(format!(
                "{}, the IRQL at which the mutex was taken",
                irql::name(released.former_irql)
            ))
            .found(irql::name(now))
            .file();
    }
}

/// Looks at the IRQL to which the calling thread returns as it releases the spin lock that was
/// `released`. Two locks may be released in the order in which they were taken; the levels that
/// they were taken at then change places.
pub(crate) fn check_restored_irql(released: Held, irql: u8) {
    let found = thread::with_context(|context| {
        if irql == released.former_irql {
            return true;
        }
        let mut held = context.held.borrow_mut();
        let other = held
            .iter_mut()
            .find(|held| held.kind == LockKind::SpinLock && held.former_irql == irql);
        if let Some(other) = other {
            other.former_irql = released.former_irql;
            return true;
        }
        false
    });
    if !found {
        Report::new(Rule::LockIrqlMismatch)
            .expected(format!(
                "{}, the IRQL before the lock was taken",
                irql::name(released.former_irql)
            ))
            .found(irql::name(irql))
            .file();
    }
}
