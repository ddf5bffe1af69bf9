// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who waits for what. The state of an object lies in its header, in the driver's memory; the
//! threads that wait for it are in one table here, under one lock.
//!
//! A signal is handed over: whoever signals an object decides under the lock which waits that
//! satisfies, and consumes the signal on their behalf. So a synchronization event wakes exactly
//! one thread, and a thread that comes later cannot snatch the signal.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::header::{Header, kind};
use crate::clock::Deadline;
use crate::sched::{self, Blocked, Waiter};

/// One thread's wait for one or several objects.
struct Wait {
    waiter: Waiter,
    objects: Vec<Header>,
    all: bool,
    /// The thread that waits, which will own a mutant.
    thread: usize,
    /// The index of the object that satisfied the wait; written under the dispatcher lock.
    satisfied_by: Mutex<Option<usize>>,
}

/// Owner and depth of a mutant.
#[derive(Clone, Copy)]
pub(crate) struct MutantOwner {
    pub thread: usize,
    pub depth: u32,
}

/// The signal state of a mutant taken `depth` times: 1 is free, less is taken.
fn free_after(depth: u32) -> i32 {
    1_i32.saturating_sub_unsigned(depth)
}

#[derive(Default)]
struct Tables {
    queues: HashMap<usize, VecDeque<Arc<Wait>>>,
    mutants: HashMap<usize, MutantOwner>,
}

/// The dispatcher of one kernel.
#[derive(Default)]
pub(crate) struct Dispatcher(Mutex<Tables>);

/// How a wait for dispatcher objects ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The object of this index satisfied it; zero when all objects did.
    Satisfied(usize),
    TimedOut,
}

/// How long a wait may last.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Looks, and does not wait.
    Now,
    Until(Deadline),
    Never,
}

impl Dispatcher {
    /// Waits for any or all of `objects` on behalf of the thread object at `thread`.
    pub(crate) fn wait(
        &self,
        objects: &[Header],
        all: bool,
        limit: Limit,
        thread: usize,
    ) -> Waited {
        let mut tables = self.0.lock();
        if let Some(index) = tables.try_acquire(objects, all, thread) {
            return Waited::Satisfied(index);
        }
        let deadline = match limit {
            Limit::Now => return Waited::TimedOut,
            Limit::Until(deadline) => Some(deadline),
            Limit::Never => None,
        };
        let wait = Arc::new(Wait {
            waiter: Waiter::new(),
            objects: objects.to_vec(),
            all,
            thread,
            satisfied_by: Mutex::new(None),
        });
        for object in objects {
            tables
                .queues
                .entry(object.address())
                .or_default()
                .push_back(wait.clone());
        }
        drop(tables);

        let blocked = sched::block(&wait.waiter, deadline);
        let mut tables = self.0.lock();
        let satisfied = *wait.satisfied_by.lock();
        match (satisfied, blocked) {
            (Some(index), _) => Waited::Satisfied(index),
            (None, Blocked::TimedOut | Blocked::Wakened) => {
                tables.withdraw(&wait);
                Waited::TimedOut
            }
        }
    }

    /// Signals an object and lets go whoever that satisfies; the former signal state.
    pub(crate) fn signal(&self, object: Header) -> i32 {
        let mut tables = self.0.lock();
        let former = object.set_signal_state(1);
        tables.release(object);
        former
    }

    /// Takes the signal back; the former signal state.
    pub(crate) fn clear(&self, object: Header) -> i32 {
        let _tables = self.0.lock();
        object.set_signal_state(0)
    }

    /// Makes `thread` the owner of a mutant that was just initialised.
    pub(crate) fn own_mutant(&self, object: Header, thread: usize) {
        let owner = MutantOwner { thread, depth: 1 };
        self.0.lock().mutants.insert(object.address(), owner);
    }

    /// Takes a mutant back once from its owner; the former signal state. At the last time the next
    /// thread that waits for it gets it.
    pub(crate) fn release_mutant(&self, object: Header) -> i32 {
        let mut tables = self.0.lock();
        let Some(owner) = tables.mutants.get_mut(&object.address()) else {
            return object.signal_state();
        };
        owner.depth -= 1;
        let depth = owner.depth;
        let former = object.set_signal_state(free_after(depth));
        if depth == 0 {
            tables.mutants.remove(&object.address());
            tables.release(object);
        }
        former
    }

    /// The signal state of the mutant at an address, by what is known of its owner.
    pub(crate) fn state_of_mutant(&self, address: usize) -> i32 {
        let tables = self.0.lock();
        free_after(tables.mutants.get(&address).map_or(0, |owner| owner.depth))
    }

    /// Takes a mutant from an owner that will not release it.
    pub(crate) fn abandon_mutant(&self, object: Header) {
        let mut tables = self.0.lock();
        tables.mutants.remove(&object.address());
        object.set_signal_state(1);
        tables.release(object);
    }

    /// Forgets who owns the mutants within memory that is freed or initialised anew.
    pub(crate) fn disown_mutants(&self, range: std::ops::Range<usize>) {
        let mut tables = self.0.lock();
        if !tables.mutants.is_empty() {
            tables.mutants.retain(|address, _| !range.contains(address));
        }
    }

    /// Whether a thread waits for an object within a range of memory.
    pub(crate) fn has_waits_within(&self, range: std::ops::Range<usize>) -> bool {
        self.0
            .lock()
            .queues
            .keys()
            .any(|address| range.contains(address))
    }
}

impl Tables {
    fn can_acquire(&self, object: Header, thread: usize) -> bool {
        if object.kind() == kind::MUTANT
            && let Some(owner) = self.mutants.get(&object.address())
        {
            return owner.thread == thread;
        }
        object.signal_state() > 0
    }

    /// Consumes the signal, where the kind of object asks for it.
    fn acquire(&mut self, object: Header, thread: usize) {
        match object.kind() {
            kind::SYNCHRONIZATION_EVENT | kind::SYNCHRONIZATION_TIMER => {
                object.set_signal_state(0);
            }
            kind::MUTANT => {
                let owner = self
                    .mutants
                    .entry(object.address())
                    .or_insert(MutantOwner { thread, depth: 0 });
                owner.depth += 1;
                object.set_signal_state(free_after(owner.depth));
            }
            _ => {}
        }
    }

    fn try_acquire(&mut self, objects: &[Header], all: bool, thread: usize) -> Option<usize> {
        if all {
            if !objects
                .iter()
                .all(|object| self.can_acquire(*object, thread))
            {
                return None;
            }
            for object in objects {
                self.acquire(*object, thread);
            }
            return Some(0);
        }
        let index = objects
            .iter()
            .position(|object| self.can_acquire(*object, thread))?;
        self.acquire(objects[index], thread);
        Some(index)
    }

    /// Lets go, in order of arrival, whoever the state of `object` now satisfies.
    fn release(&mut self, object: Header) {
        let waiting: Vec<Arc<Wait>> = match self.queues.get(&object.address()) {
            Some(queue) => queue.iter().cloned().collect(),
            None => return,
        };
        for wait in waiting {
            if let Some(index) = self.try_acquire(&wait.objects, wait.all, wait.thread) {
                *wait.satisfied_by.lock() = Some(index);
                self.withdraw(&wait);
                sched::wake(&wait.waiter);
            }
        }
    }

    fn withdraw(&mut self, wait: &Arc<Wait>) {
        for object in &wait.objects {
            let address = object.address();
            if let Some(queue) = self.queues.get_mut(&address) {
                queue.retain(|other| !Arc::ptr_eq(other, wait));
                if queue.is_empty() {
                    self.queues.remove(&address);
                }
            }
        }
    }
}
