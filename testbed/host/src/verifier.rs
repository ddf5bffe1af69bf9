// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the hosted kernel says when a driver breaks a rule of the road.

use std::fmt;

use crate::irql;
use crate::kernel;
use crate::stack::Stack;
use crate::thread;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident => $title:literal,)*) => {
        /// A rule of the road, broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Rule { $($(#[$doc])* $name,)* }

        impl Rule {
            /// What was done, in a few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Rule::$name => $title,)* }
            }
        }
    };
}

rules! {
    /// A function was called above its highest IRQL.
    IrqlTooHigh => "called at a too high IRQL",
    /// A function was called below its lowest IRQL.
    IrqlTooLow => "called at a too low IRQL",
    /// A callback, thread or entry point returned at another IRQL than it was called at.
    IrqlNotRestored => "returned at another IRQL",
    /// KeRaiseIrql to a lower level, or KeLowerIrql to a higher one.
    IrqlWrongDirection => "moved the IRQL in the wrong direction",
    /// An allocation with tag zero.
    PoolTagMissing => "pool allocation without a tag",
    /// An allocation of zero bytes.
    PoolSizeZero => "pool allocation of zero bytes",
    /// Pool flags that do not name exactly one pool, or that do not exist.
    PoolFlagsInvalid => "pool allocation with invalid flags",
    /// Freed with another tag than allocated.
    PoolTagMismatch => "pool memory freed with another tag",
    /// Freed twice.
    PoolDoubleFree => "pool memory freed twice",
    /// Freed, but no allocation begins there.
    PoolAddressUnknown => "freed an address that is no pool allocation",
    /// Written beyond the end of an allocation.
    PoolOverrun => "wrote beyond the end of a pool allocation",
    /// Written after it was freed.
    PoolWriteAfterFree => "wrote to freed pool memory",
    /// Freed while a thread waits on it or a timer in it is set.
    PoolFreedInUse => "freed pool memory that the kernel still uses",
    /// Left behind in the pool.
    PoolLeak => "left pool memory behind",
    /// A wait that may block, at DISPATCH_LEVEL or above.
    WaitAtDispatchLevel => "would block at DISPATCH_LEVEL",
    /// A dispatcher object that was never initialised, or was moved in memory.
    ObjectNotInitialized => "used a dispatcher object that is not initialised where it lies",
    /// A lock released that the thread does not hold.
    LockNotHeld => "released a lock that is not held",
    /// A lock taken twice by one thread.
    LockRecursion => "took a lock that the thread already holds",
    /// A lock still held when a thread ended or a callback returned.
    LockLeft => "returned with a lock held",
    /// Critical regions entered and left do not balance.
    CriticalRegionUnbalanced => "critical regions do not balance",
    /// Rundown protection released more often than acquired, or used after its end.
    RundownMisuse => "misused rundown protection",
    /// A notify routine removes itself from inside.
    NotifyRemovedInside => "removed a notify routine from inside itself",
    /// A notify routine left behind.
    NotifyRoutineLeft => "left a notify routine behind",
    /// A registration with a callback object left behind.
    CallbackLeft => "left a callback registration behind",
    /// A registration handle of ExUnregisterCallback that is not registered.
    CallbackUnknown => "unregistered a callback that is not registered",
    /// A thread of the driver still runs.
    ThreadLeft => "left a thread running",
    /// A work item left behind, queued or allocated.
    WorkItemLeft => "left a work item behind",
    /// A work item queued twice, freed while queued, or never initialised.
    WorkItemMisuse => "misused a work item",
    /// A timer of the driver is still set.
    TimerLeft => "left a timer set",
    /// An object reference left behind.
    ReferenceLeft => "left an object reference behind",
    /// A pointer that should be an object and is none.
    ObjectUnknown => "passed a pointer that is no object",
    /// An object dereferenced more often than referenced, or that is no object.
    ReferenceUnderflow => "dereferenced an object it holds no reference to",
    /// An open handle left behind.
    HandleLeft => "left a handle open",
    /// A handle that is not open.
    HandleInvalid => "used a handle that is not open",
    /// A handle made without OBJ_KERNEL_HANDLE in a user process.
    HandleNotKernel => "made a handle that user mode can reach",
    /// A filter left registered.
    FilterLeft => "left a filter registered",
    /// A communication port left open.
    PortLeft => "left a communication port open",
    /// FltUnregisterFilter with a server port open: the system hangs.
    UnregisterHangs => "unregistered a filter that something still holds",
    /// A driver called the Filter Manager in a way that the other rules do not name.
    FilterMisuse => "misused the Filter Manager",
    /// A message sent without a time limit.
    MessageWithoutDeadline => "sent a message without a deadline",
    /// Registered for reinitialisation outside DriverEntry, or twice.
    ReinitializeMisuse => "misused reinitialisation",
    /// The driver cannot be unloaded.
    DriverNotUnloadable => "cannot be unloaded",
    /// A driver stopped the system.
    BugCheck => "stopped the system",
}

/// What to do with a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReport {
    /// Keep it for [`Kernel::reports`](crate::Kernel::reports) and the shutdown.
    #[default]
    Record,
    /// Print it and end the process at once, where the debugger can see the cause.
    Panic,
}

/// A broken rule: where, what was expected, what was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which rule.
    pub rule: Rule,
    /// The kernel function that the driver called last, as far as it is known.
    pub function: &'static str,
    /// The service name of the driver, as far as it is known.
    pub driver: Option<String>,
    /// The IRQL of the thread at that moment.
    pub irql: u8,
    /// The id of the thread.
    pub thread: u64,
    /// What the rule asks for.
    pub expected: String,
    /// What was there.
    pub found: String,
    /// What helps to find the cause, and the cure.
    pub detail: String,
    /// Where it happened; for something left behind, where it was made.
    pub stack: Stack,
}

impl Report {
    /// A report about the calling thread, here and now.
    #[must_use]
    pub fn new(rule: Rule) -> Report {
        Report {
            rule,
            function: thread::with_context(|context| context.function.get()),
            driver: thread::current_driver().map(|driver| driver.name().to_owned()),
            irql: irql::current(),
            thread: thread::native_id(),
            expected: String::new(),
            found: String::new(),
            detail: String::new(),
            stack: Stack::default(),
        }
    }

    /// Says what the rule asks for.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Report {
        self.expected = expected.into();
        self
    }

    /// Says what was there.
    #[must_use]
    pub fn found(mut self, found: impl Into<String>) -> Report {
        self.found = found.into();
        self
    }

    /// Adds what helps to find the cause.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Report {
        self.detail = detail.into();
        self
    }

    /// Names the driver, where it is not the one that runs.
    #[must_use]
    pub fn driver(mut self, driver: Option<&str>) -> Report {
        self.driver = driver.map(str::to_owned);
        self
    }

    /// Names the function, where it is not the one called last.
    #[must_use]
    pub fn function(mut self, function: &'static str) -> Report {
        self.function = function;
        self
    }

    /// Gives the stack of an earlier moment; otherwise the stack of this one is taken.
    #[must_use]
    pub fn made_at(mut self, stack: Stack) -> Report {
        self.stack = stack;
        self
    }

    /// Hands the report to the kernel of the calling thread.
    pub fn file(mut self) {
        if self.stack.addresses().is_empty() {
            self.stack = Stack::capture();
        }
        kernel::state().file_report(self);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = self.driver.as_deref().unwrap_or("a driver");
        writeln!(f, "error[{:?}]: {driver} {}", self.rule, self.rule.title())?;
        writeln!(
            f,
            "  --> {}, thread {}, {}",
            self.function,
            self.thread,
            irql::name(self.irql)
        )?;
        for (label, text) in [
            ("expected", &self.expected),
            ("found", &self.found),
            ("note", &self.detail),
        ] {
            if !text.is_empty() {
                writeln!(f, "  {label:>8}: {text}")?;
            }
        }
        writeln!(f, "  at:")?;
        write!(f, "{}", self.stack)
    }
}
