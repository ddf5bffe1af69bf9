// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the hosted kernel says when a driver breaks a rule of the road.

pub(crate) mod attribution;
pub(crate) mod call;
mod cure;
pub(crate) mod hang;
pub(crate) mod lock_order;
pub(crate) mod locks;
pub(crate) mod paged_code;
mod report;
pub(crate) mod unloaded;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::sim;
pub use report::{Related, Report};

macro_rules! rules {
    ($($(#[doc = $doc:literal])* $name:ident => $title:literal,)*) => {
        /// A rule of the road, broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Rule { $($(#[doc = $doc])* $name,)* }

        impl Rule {
            /// Every rule, in the order of this table.
            pub const ALL: &[Rule] = &[$(Rule::$name,)*];

            /// What was done, in a few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Rule::$name => $title,)* }
            }

            /// What the rule is about, in a sentence or two.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Rule::$name => concat!($($doc,)*).trim_ascii(),)* }
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
    /// Code of the section PAGE ran at DISPATCH_LEVEL or above, or PAGED_CODE() was reached there.
    PagedCodeAtDispatch => "ran pageable code at DISPATCH_LEVEL",
    /// An allocation with tag zero.
    PoolTagMissing => "allocated pool memory without a tag",
    /// An allocation of zero bytes.
    PoolSizeZero => "allocated zero bytes of pool memory",
    /// Pool flags that do not name exactly one pool, or that do not exist.
    PoolFlagsInvalid => "allocated pool memory with invalid flags",
    /// Freed with another tag than allocated.
    PoolTagMismatch => "freed pool memory with another tag than it has",
    /// Freed twice.
    PoolDoubleFree => "freed pool memory twice",
    /// Freed, but no allocation begins there.
    PoolAddressUnknown => "freed an address that is no pool memory",
    /// Written beyond the end of an allocation; with the special pool also read.
    PoolOverrun => "went beyond the end of a pool allocation",
    /// Written in front of an allocation; with the special pool also read.
    PoolUnderrun => "went in front of a pool allocation",
    /// Written after it was freed.
    PoolWriteAfterFree => "wrote to freed pool memory",
    /// Freed while a thread waits on it, a lock in it is held or a timer in it is set.
    PoolFreedInUse => "freed pool memory that the kernel still uses",
    /// A memory descriptor list used otherwise than allocate, lock, map, unmap, unlock, free.
    MdlMisuse => "used a memory descriptor list out of turn",
    /// A memory descriptor list left behind, perhaps with locked pages.
    MdlLeft => "left a memory descriptor list behind",
    /// A view of the system's unmapped that is not mapped.
    ViewUnknown => "unmapped a view that is not mapped",
    /// A view of a section left mapped in the system's address space.
    ViewLeft => "left a view of a section mapped",
    /// Left behind in the pool.
    PoolLeak => "left pool memory behind",
    /// A wait that may block, at DISPATCH_LEVEL or above.
    WaitAtDispatchLevel => "would block at DISPATCH_LEVEL",
    /// A dispatcher object that was never initialised, or was moved in memory.
    ObjectNotInitialized => "used a dispatcher object that is not initialised where it lies",
    /// The IRQL lowered under a lock that needs it: below DISPATCH_LEVEL with a spin lock held, to
    /// PASSIVE_LEVEL with a fast mutex held.
    IrqlLoweredWithLock => "lowered the IRQL under a lock that it still holds",
    /// A wait that may block while a spin lock is held.
    WaitWhileHoldingSpinLock => "would block while it holds a spin lock",
    /// A lock released that nobody holds.
    LockNotHeld => "released a lock that is not held",
    /// A lock released by another thread than the one that took it.
    LockWrongThread => "released a lock that another thread holds",
    /// A spin lock released with another IRQL than the one before it was taken.
    LockIrqlMismatch => "released a spin lock to another IRQL than it was taken at",
    /// A mutex taken at DISPATCH_LEVEL and released below, or the reverse.
    MutexIrqlMismatch => "released a mutex on the other side of DISPATCH_LEVEL than it was taken",
    /// A lock taken twice by one thread.
    LockRecursion => "took a lock that the thread already holds",
    /// A lock initialised while a thread holds it: another one could take it, too.
    LockReinitialized => "initialised a lock that is held",
    /// Two or more locks taken in different orders: threads that do so at the same time wait for
    /// each other for ever, unless all of them hold another lock meanwhile.
    LockOrder => "took locks in an order that contradicts an earlier one",
    /// Threads that hold what the other waits for.
    LockDeadlock => "waits for a lock whose holder waits for this thread",
    /// A lock still held when a thread ended or a callback returned.
    LockLeft => "returned with a lock held",
    /// Critical regions entered and left do not balance.
    CriticalRegionUnbalanced => "did not leave its critical regions as often as it entered them",
    /// A notify routine removes itself from inside.
    NotifyRemovedInside => "removed a notify routine from inside itself",
    /// A notify routine left behind.
    NotifyRoutineLeft => "left a notify routine behind",
    /// A registration with a callback object left behind.
    CallbackLeft => "left a callback registration behind",
    /// A registration handle of ExUnregisterCallback that is not registered.
    CallbackUnknown => "unregistered a callback that is not registered",
    /// A cookie that no registry callback is registered under.
    RegistryCallbackUnknown => "passed a cookie of no registry callback",
    /// The path of a key, from CmCallbackGetKeyObjectIDEx, left behind.
    KeyPathLeft => "left the path of a registry key behind",
    /// CmCallbackReleaseKeyObjectIDEx of something else, or a second time.
    KeyPathUnknown => "gave back a path of a registry key that it does not have",
    /// A thread of the driver still runs.
    ThreadLeft => "left a thread running",
    /// A work item left behind, queued or allocated.
    WorkItemLeft => "left a work item behind",
    /// A work item without a routine, or whose memory is freed while it is initialised.
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
    /// A message sent without a time limit.
    MessageWithoutDeadline => "sent a message without a deadline",
    /// Registered for reinitialisation outside DriverEntry, or twice.
    ReinitializeMisuse => "misused reinitialisation",
    /// A driver stopped the system.
    BugCheck => "stopped the system",
    /// A routine or a thread of a driver that is unloaded.
    CallIntoUnloadedDriver => "was unloaded while its code could still be called",
    /// A notify routine registered a second time.
    NotifyRegisteredTwice => "registered a notify routine twice",
    /// The removal of a routine that waits for ever for a call of it.
    RemovalHangs => "removed a routine whose call does not return",
    /// A DPC queued or running at unload.
    DpcLeft => "left a DPC queued",
    /// A work item queued while it is queued.
    WorkItemQueuedTwice => "queued a work item twice",
    /// A work item freed, taken apart or initialised again while it is queued.
    WorkItemFreedQueued => "freed a work item that is queued",
    /// A work item that was never initialised, or was freed.
    WorkItemUnknown => "used a work item that does not exist",
    /// Rundown protection released that nobody holds.
    RundownNotHeld => "released rundown protection that nobody holds",
    /// Rundown protection initialised again, declared run down, or its memory freed, while held.
    RundownHeld => "ended rundown protection that is still held",
    /// Rundown protection reinitialised or declared run down that was not.
    RundownNotEnded => "declared or reused a rundown that has not ended",
    /// A second thread that waits for one rundown.
    RundownWaitedTwice => "waited for one rundown in two threads",
    /// A wait for a rundown that nobody ends.
    RundownHangs => "waited for rundown protection that is not released",
    /// User memory touched by an instruction of its own, without the fault-safe copy.
    UserMemoryTouched => "touched user memory without the fault-safe copy",
    /// The same bytes of user memory copied twice in one call.
    UserMemoryFetchedTwice => "copied the same user memory twice",
    /// User memory touched or copied after the call that it was given with.
    UserMemoryUsedAfterCall => "used a user buffer after the call",
    /// User memory touched or copied beyond the length that the caller gave.
    UserMemoryOutOfRange => "went beyond a user buffer",
    /// User memory copied by a thread that is not in the process it belongs to.
    UserMemoryWrongProcess => "copied user memory in another process",
    /// Pool memory read, written or called after it was freed, seen at the very instruction.
    PoolAccessAfterFree => "used freed pool memory",
    /// Paged pool touched at DISPATCH_LEVEL or above, where it may not be there.
    PagedPoolAtDispatch => "touched paged pool at DISPATCH_LEVEL",
    /// FltUnregisterFilter inside a callback of the filter.
    UnregisterInsideCallback => "unregistered a filter inside its own callback",
    /// FltUnregisterFilter in a thread of the driver's own, just when the driver is unloaded.
    UnregisterMeetsUnload => "unregistered its filter while it was unloaded",
    /// FltUnregisterFilter while it runs for the same filter.
    FilterUnregisteredTwice => "unregistered a filter twice",
    /// A filter whose FltUnregisterFilter has returned.
    FilterUsedAfterUnregister => "used a filter that is unregistered",
    /// A value that is no filter.
    FilterUnknown => "passed a value that is no filter",
    /// NULL where a function of the Filter Manager needs an address.
    FilterArgumentNull => "passed NULL to the Filter Manager",
    /// A client port passed through another variable than before.
    ClientPortAddressDiffers => "passed a copy of a client port",
    /// A message sent through a port that is closed.
    PortUsedAfterClose => "used a port that is closed",
    /// A port closed that is closed.
    PortClosedTwice => "closed a port twice",
    /// A value that is no port of the filter.
    PortUnknown => "passed a value that is no port",
    /// Object attributes that a communication port cannot have.
    PortAttributesInvalid => "created a port with wrong object attributes",
    /// A communication port without ConnectNotify or DisconnectNotify.
    PortCallbackMissing => "created a port without a callback it needs",
    /// A communication port for no connections.
    PortLimitInvalid => "created a port with no room for a connection",
    /// FltCloseClientPort, and then an error from ConnectNotify.
    RefusedPortClosed => "closed the port of a connection that it refuses",
    /// A message sent from inside the ConnectNotify of its connection.
    SendFromConnect => "sent a message from inside ConnectNotify",
    /// A message sent from inside an instance-setup callback.
    SendFromInstanceSetup => "sent a message from inside an instance-setup callback",
    /// A message sent with a pointer to a zero timeout.
    ZeroTimeout => "sent a message with a zero timeout",
    /// A reply length that counts the FILTER_REPLY_HEADER. A suspicion: three replies, and all
    /// those before them, were just a header shorter than the buffer, which may be chance.
    ReplyLengthCountsHeader => "counted the reply header in ReplyLength",
    /// A reply length that is what an earlier reply has left, and too short for the next one.
    ReplyLengthStale => "passed a ReplyLength that an earlier reply has changed",
    /// MessageNotify did not say how many bytes it returns.
    OutputLengthNotSet => "returned from MessageNotify without an output length",
    /// MessageNotify returned more bytes than there is room for.
    OutputLengthTooLong => "returned an output length beyond the buffer",
    /// A default security descriptor that was not freed.
    SecurityDescriptorLeft => "left a security descriptor behind",
    /// FltFreeSecurityDescriptor of something else, or a second time.
    SecurityDescriptorUnknown => "freed a security descriptor that it was not given",
    /// DriverUnload set after FltRegisterFilter.
    DriverUnloadReplaced => "set DriverUnload after it registered a filter",
}

/// Whether the kernel verifies what drivers do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verifier {
    /// Every call of a driver is checked against the rules.
    #[default]
    Full,
    /// Calls do what NT's do without Driver Verifier, about as fast, and nothing else: for
    /// measuring. A broken rule goes unnoticed, or does what it does on NT: locks are not accounted
    /// for, a deadlock hangs, the memory of the pool has neither guards nor tags, and no leak of it
    /// is found. What is looked at in passing may be reported still; that no report was made says
    /// nothing. In a simulation, where time is not measured, this is as [`Verifier::Full`].
    Off,
}

/// Whether drivers run without the verifier. A word of its own, because every call reads it.
static OFF: AtomicBool = AtomicBool::new(false);

/// A kernel boots, or has been shut down.
pub(crate) fn switch(verifier: Verifier) {
    let off = verifier == Verifier::Off && !sim::is_simulated();
    OFF.store(off, Ordering::Relaxed);
}

/// Whether drivers run without the verifier: always false in a simulation.
#[inline]
pub(crate) fn is_off() -> bool {
    OFF.load(Ordering::Relaxed)
}

/// What to do with a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReport {
    /// Keep it for [`Kernel::reports`](crate::Kernel::reports) and the shutdown.
    #[default]
    Record,
    /// Print it on the standard error stream at once, and keep it.
    Report,
    /// Print it, stop the system, which is a line more, and abort the process where the debugger
    /// can see the cause: what Driver Verifier does with bug check 0xC4.
    BugCheck,
}
