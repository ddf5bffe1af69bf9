// SPDX-License-Identifier: MIT OR Apache-2.0
//! A routine that a driver has registered for the kernel to call: its calls are counted, and its
//! removal waits for them.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::driver::Driver;
use crate::frame;
use crate::sched::{self, Waiter};
use crate::stack::Stack;
use crate::thread;
use crate::verifier::attribution;
use crate::verifier::hang;
use crate::verifier::unloaded;
use crate::verifier::{Report, Rule};

#[derive(Default)]
struct Calls {
    running: u32,
    removed: bool,
}

/// A registered routine. It must not move while it is registered.
pub(crate) struct Routine {
    /// What it is, for reports.
    name: &'static str,
    address: usize,
    /// The function that it was registered with.
    function: &'static str,
    driver: Option<Arc<Driver>>,
    stack: Stack,
    calls: Mutex<Calls>,
    idle: Waiter,
}

impl Routine {
    /// A routine that the driver that calls now registers.
    pub(crate) fn new(name: &'static str, address: usize) -> Routine {
        Routine {
            name,
            address,
            function: thread::with_context(|context| context.function.get()),
            driver: attribution::responsible(),
            stack: Stack::capture(),
            calls: Mutex::new(Calls::default()),
            idle: Waiter::new(),
        }
    }

    /// What it is, for reports.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where its code lies.
    pub(crate) fn address(&self) -> usize {
        self.address
    }

    /// Whose it is.
    pub(crate) fn driver(&self) -> Option<&Arc<Driver>> {
        self.driver.as_ref()
    }

    /// Where it was registered.
    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Whether its driver was unloaded and left it behind.
    pub(crate) fn is_stale(&self) -> bool {
        self.driver
            .as_ref()
            .is_some_and(|driver| driver.is_unloaded())
    }

    /// Whether it lies there and can be removed still.
    pub(crate) fn is_at(&self, address: usize) -> bool {
        self.address == address && !self.is_stale()
    }

    /// What tells it from every other one that a thread may be inside of.
    fn identity(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// Runs a call of the routine, which is given its address; none if it was removed meanwhile or
    /// its driver is gone.
    pub(crate) fn run<R>(&self, call: impl FnOnce(usize) -> R) -> Option<R> {
        sched::point(self.name);
        if self.is_stale() {
            self.report_stale();
            return None;
        }
        {
            let mut calls = self.calls.lock();
            if calls.removed {
                return None;
            }
            calls.running += 1;
        }
        let identity = self.identity();
        thread::with_context(|context| context.inside.borrow_mut().push(identity));
        let result = frame::call(self.name, self.driver.as_ref(), || call(self.address));
        thread::with_context(|context| context.inside.borrow_mut().pop());
        self.calls.lock().running -= 1;
        sched::wake(&self.idle);
        Some(result)
    }

    /// Reports, once, that an event would call a routine whose driver is gone.
    fn report_stale(&self) {
        let reported = std::mem::replace(&mut self.calls.lock().removed, true);
        if !reported {
            unloaded::may_call(self.name, self.driver.as_ref(), self.function, &self.stack);
        }
    }

    /// Keeps further calls away and waits for those that run.
    pub(crate) fn drain(&self) {
        self.calls.lock().removed = true;
        sched::point("a routine's removal");
        let identity = self.identity();
        if thread::with_context(|context| context.inside.borrow().contains(&identity)) {
            Report::new(Rule::NotifyRemovedInside)
                .expected(format!("{} is removed from outside", self.name))
                .found("its removal is called by itself")
                .detail("on NT the removal would wait for its own caller for ever")
                .file();
            return;
        }
        if !self.wait_until_idle() {
            Report::new(Rule::RemovalHangs)
                .expected(format!("{} returns soon", self.name))
                .found("a call of it that does not return while it is removed")
                .detail(
                    "on NT the removal waits for ever; the routine must not wait for the thread \
                     that removes it, nor for a lock that this thread holds; here the removal \
                     goes on",
                )
                .file();
        }
    }

    fn wait_until_idle(&self) -> bool {
        hang::wait_until(&self.idle, || self.calls.lock().running == 0)
    }

    /// Reports it if `driver` has left it, after the calls that run have returned.
    pub(crate) fn report_left_by(&self, driver: &Arc<Driver>) {
        if !attribution::is(self.driver.as_ref(), driver) {
            return;
        }
        self.wait_until_idle();
        Report::new(Rule::NotifyRoutineLeft)
            .driver(Some(driver.name()))
            .function(self.function)
            .expected("all routines are removed before the driver is unloaded")
            .found(self.name)
            .detail("on NT the next event calls unmapped memory")
            .made_at(self.stack.clone())
            .file();
    }
}
