// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that fail although the driver did nothing wrong: no memory, no thread, nobody at the
//! other end.
//!
//! Each exported function says in its `nt!` entry whether and how it can fail. A [`FaultPlan`]
//! decides which call does: the one with a number, each call stack once (the [`sweep`]), or calls
//! by a seed. A call that is to fail returns at once, with its outputs left as they are; the
//! function itself does not run. What failed is on record, with its stack, in
//! [`Kernel::injected_faults`](crate::Kernel::injected_faults); it is printed when a test goes
//! wrong.
//!
//! Only calls that come in from outside count: what the hosted kernel does for itself never fails
//! by a plan.

mod plan;
mod site;
mod sweep;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

pub use plan::FaultPlan;
pub use sweep::{Sweep, sweep};

use crate::abi::NTSTATUS;
use crate::entry::Function;
use crate::kernel;
use crate::stack::Stack;
use crate::status::STATUS_UNSUCCESSFUL;
use crate::verifier::attribution;

/// How many kernels of this process have a plan now. While there is none, a call costs one load.
static ARMED: AtomicUsize = AtomicUsize::new(0);

/// One way in which a function can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failure {
    /// The name of the status; `null` or `false` for a function that returns none.
    pub name: &'static str,
    /// The status.
    pub status: Option<NTSTATUS>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.status {
            Some(status) => write!(f, " ({status:#010x})"),
            None => Ok(()),
        }
    }
}

/// A call that failed because the plan said so.
#[derive(Clone, Debug)]
pub struct InjectedFault {
    /// The function that failed.
    pub function: &'static str,
    /// How it failed.
    pub failure: Failure,
    /// The driver that called, as far as it is known.
    pub driver: Option<String>,
    /// From where.
    pub stack: Stack,
}

impl fmt::Display for InjectedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = self.driver.as_deref().unwrap_or("a driver");
        writeln!(f, "{} of {driver} failed: {}", self.function, self.failure)?;
        write!(f, "{}", self.stack)
    }
}

/// What a function returns when it fails.
pub(crate) trait FailsWith {
    /// The value that stands for this failure.
    fn failed(failure: &Failure) -> Self;
}

impl FailsWith for NTSTATUS {
    fn failed(failure: &Failure) -> NTSTATUS {
        failure.status.unwrap_or(STATUS_UNSUCCESSFUL)
    }
}

impl<T> FailsWith for *mut T {
    fn failed(_: &Failure) -> *mut T {
        std::ptr::null_mut()
    }
}

impl FailsWith for isize {
    fn failed(_: &Failure) -> isize {
        0
    }
}

impl FailsWith for bool {
    fn failed(_: &Failure) -> bool {
        false
    }
}

/// The plan of one kernel.
#[derive(Default)]
pub(crate) struct Faults(RwLock<FaultPlan>);

impl Faults {
    /// Faults by this plan.
    pub(crate) fn new(plan: FaultPlan) -> Faults {
        let faults = Faults::default();
        faults.set(plan);
        faults
    }

    /// From now on faults come by this plan.
    pub(crate) fn set(&self, plan: FaultPlan) {
        let mut now = self.0.write();
        let (before, after) = (now.is_active(), plan.is_active());
        *now = plan;
        match (before, after) {
            (false, true) => ARMED.fetch_add(1, Ordering::Relaxed),
            (true, false) => ARMED.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Prints, once, what has failed by the present plan.
    pub(crate) fn print(&self) {
        self.0.read().print();
    }

    /// What has failed by the present plan.
    pub(crate) fn injected(&self) -> Vec<InjectedFault> {
        self.0.read().injected()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.set(FaultPlan::none());
    }
}

/// Whether this call of `function` is to fail, and how. `possible`: with these arguments it can.
#[inline]
pub(crate) fn asked(function: &'static Function, possible: bool) -> Option<&'static Failure> {
    if !possible || ARMED.load(Ordering::Relaxed) == 0 {
        return None;
    }
    decide(function)
}

#[cold]
#[inline(never)]
fn decide(function: &'static Function) -> Option<&'static Failure> {
    let state = kernel::state();
    let plan = state.faults.0.read().clone();
    let failure = plan.choose(function)?;
    let stack = Stack::capture();
    let driver = attribution::responsible_for(&stack);
    plan.record(InjectedFault {
        function: function.name,
        failure: *failure,
        driver: driver.map(|driver| driver.name().to_owned()),
        stack,
    });
    Some(failure)
}
