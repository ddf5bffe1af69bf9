// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to do about a broken rule.

use super::Rule;

/// For what has no cure of its own.
const UNKNOWN: &str = "see what is expected above";

impl Rule {
    /// How the driver's author mends it, in a sentence.
    #[must_use]
    pub fn cure(self) -> &'static str {
        self.cure_of_levels_and_locks()
            .or_else(|| self.cure_of_memory())
            .or_else(|| self.cure_of_filters())
            .unwrap_or_else(|| self.cure_of_objects())
    }

    fn cure_of_levels_and_locks(self) -> Option<&'static str> {
        Some(match self {
            Rule::IrqlTooHigh => {
                "release the spin lock or lower the IRQL first, or queue a work item, which runs at PASSIVE_LEVEL"
            }
            Rule::IrqlTooLow => {
                "raise the IRQL first, or call the variant of the function that raises it itself"
            }
            Rule::IrqlNotRestored => {
                "lower the IRQL, or release the lock that raised it, on every way out of the routine"
            }
            Rule::IrqlWrongDirection => {
                "raise with KfRaiseIrql, keep what it returns, and lower to exactly that with KeLowerIrql"
            }
            Rule::IrqlLoweredWithLock => "release the lock first; the release lowers the IRQL",
            Rule::PagedCodeAtDispatch => {
                "move the function out of the section PAGE, or call it before the IRQL is raised"
            }
            Rule::WaitAtDispatchLevel => {
                "wait at IRQL <= APC_LEVEL, for example in a work item, or look with a timeout of zero"
            }
            Rule::WaitWhileHoldingSpinLock => "release the spin lock before the wait",
            Rule::LockNotHeld => {
                "release a lock once for each time it was taken, and only where it was taken"
            }
            Rule::LockWrongThread => {
                "release the lock in the thread that took it; to hand work over, use an event"
            }
            Rule::LockIrqlMismatch => {
                "keep the IRQL that the acquisition returned, one variable for each lock, and pass that"
            }
            Rule::MutexIrqlMismatch => {
                "release a mutex taken at DISPATCH_LEVEL there, and one taken below there, too"
            }
            Rule::LockRecursion => {
                "take the lock once, and give functions that run under it to understand that it is held"
            }
            Rule::LockReinitialized => {
                "initialise a lock once, before anybody can take it, and never while it is held"
            }
            Rule::LockOrder => "take these locks in one order everywhere",
            Rule::LockDeadlock => {
                "take the locks in one order everywhere, or release one before waiting for the other"
            }
            Rule::LockLeft => "release the lock on every way out of the routine",
            Rule::CriticalRegionUnbalanced => {
                "leave a critical region as often as it was entered, on every way out"
            }
            _ => return None,
        })
    }

    fn cure_of_memory(self) -> Option<&'static str> {
        Some(match self {
            Rule::PoolTagMissing => "pass a tag of four characters that tells whose memory it is",
            Rule::PoolSizeZero => "do not ask for memory when there is nothing to keep",
            Rule::PoolFlagsInvalid => {
                "pass exactly one of POOL_FLAG_NON_PAGED, POOL_FLAG_NON_PAGED_EXECUTE and POOL_FLAG_PAGED"
            }
            Rule::PoolTagMismatch => "free with the tag that the memory was allocated with",
            Rule::PoolDoubleFree => "free once; set the pointer to null, or let one owner free it",
            Rule::PoolAddressUnknown => {
                "free the address that the allocation returned, not one inside it, and only pool memory"
            }
            Rule::PoolOverrun | Rule::PoolUnderrun => {
                "check the lengths and indices that lead to this access, or allocate more"
            }
            Rule::PoolWriteAfterFree | Rule::PoolAccessAfterFree => {
                "free only when no pointer to the memory is left, in other threads and in timers either"
            }
            Rule::PagedPoolAtDispatch => {
                "allocate it with POOL_FLAG_NON_PAGED, or touch it at IRQL <= APC_LEVEL only"
            }
            Rule::PoolFreedInUse => {
                "end the wait, release the lock, cancel the timer or drain the work item before the free"
            }
            Rule::MdlMisuse => {
                "lock once, map once, then unmap, unlock and free, each with the same list"
            }
            Rule::MdlLeft => "unlock its pages and free the list before the driver unloads",
            Rule::ViewUnknown => {
                "unmap once, at the address that the mapping wrote, in the address space it was made in"
            }
            Rule::ViewLeft => {
                "unmap every view when its use ends, at the latest in the unload routine"
            }
            Rule::PoolLeak => "free it in the unload routine and on every way that fails",
            _ => return None,
        })
    }

    fn cure_of_filters(self) -> Option<&'static str> {
        Some(match self {
            Rule::UnregisterInsideCallback => "unregister in the unload callback",
            Rule::UnregisterMeetsUnload => {
                "keep a filter that was registered until the unload, also when what comes next fails"
            }
            Rule::FilterUnregisteredTwice => "let one place own the filter, and forget it there",
            Rule::FilterUsedAfterUnregister => {
                "let everybody who uses the filter hold a reference (FltObjectReference) or end before"
            }
            Rule::FilterUnknown => "pass what FltRegisterFilter returned",
            Rule::FilterArgumentNull => "pass the address of a variable",
            Rule::ClientPortAddressDiffers => {
                "pass the address of the one variable that FltCloseClientPort is given, never of a copy"
            }
            Rule::PortUsedAfterClose => {
                "stop those who send before the port is closed, or send through the variable that the close sets to NULL"
            }
            Rule::PortClosedTwice => "let one place own the port, and forget it there",
            Rule::PortUnknown => "pass what the Filter Manager returned for this filter",
            Rule::PortAttributesInvalid => {
                "initialise them with a name, OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE and a descriptor"
            }
            Rule::PortCallbackMissing => "pass ConnectNotify and DisconnectNotify",
            Rule::PortLimitInvalid => "pass how many services may connect, at least one",
            Rule::RefusedPortClosed => {
                "leave the port alone when ConnectNotify refuses: the Filter Manager disposes of it"
            }
            Rule::SendFromConnect => "send from another thread, after ConnectNotify has returned",
            Rule::SendFromInstanceSetup => {
                "send from another thread, after the callback has returned"
            }
            Rule::ZeroTimeout => "pass a negative timeout, which is relative to now",
            Rule::ReplyLengthCountsHeader => {
                "count the payload of the reply only: the header does not come into the driver's buffer"
            }
            Rule::ReplyLengthStale => "set ReplyLength to the buffer's size before each send",
            Rule::OutputLengthNotSet => "set *ReturnOutputBufferLength on every way out",
            Rule::OutputLengthTooLong => "return at most the length of the output buffer",
            Rule::SecurityDescriptorLeft => {
                "call FltFreeSecurityDescriptor as soon as the port has been created"
            }
            Rule::DriverUnloadReplaced => {
                "set DriverUnload before FltRegisterFilter, which puts a routine of its own there"
            }
            Rule::SecurityDescriptorUnknown => {
                "free once, and only what FltBuildDefaultSecurityDescriptor returned"
            }
            _ => return None,
        })
    }

    fn cure_of_objects(self) -> &'static str {
        match self {
            Rule::ObjectNotInitialized => {
                "initialise the object where it stays, before it is used, and do not move or copy it"
            }
            Rule::RundownNotHeld => "release once for each acquisition that succeeded",
            Rule::RundownHeld => {
                "call ExWaitForRundownProtectionRelease first, and go on when it has returned"
            }
            Rule::RundownNotEnded => "wait for the rundown before it is completed or reused",
            Rule::RundownWaitedTwice => "let one thread wait, and the others wait for that thread",
            Rule::RundownHangs => {
                "release on every way out of the protected code, and do not wait from inside it"
            }
            Rule::WorkItemFreedQueued => "free a work item in its routine or after it has run",
            Rule::WorkItemUnknown => {
                "allocate or initialise the work item, and use it until it is freed"
            }
            Rule::UserMemoryTouched => {
                "copy the buffer in and out with the fault-safe copies (on Windows: inside __try)"
            }
            Rule::UserMemoryFetchedTwice => {
                "copy once into memory of the driver, and check and use that copy"
            }
            Rule::UserMemoryUsedAfterCall => {
                "copy what is needed later before the callback returns, and keep no user address"
            }
            Rule::UserMemoryOutOfRange => "stay within the length that the callback was given",
            Rule::UserMemoryWrongProcess => {
                "copy in the callback, which runs in the process that sent the message"
            }
            Rule::CallIntoUnloadedDriver => {
                "remove, cancel and wait for everything that leads into the driver before it unloads"
            }
            Rule::NotifyRegisteredTwice => "register a routine once, and remove it once",
            Rule::RemovalHangs => "let the routine return, and do not wait in it for its removal",
            Rule::DpcLeft => "cancel the timer, then call KeFlushQueuedDpcs in the unload routine",
            Rule::WorkItemQueuedTwice => "queue an item again only after its routine was called",
            Rule::NotifyRemovedInside => "remove the routine from another thread or at unload",
            Rule::NotifyRoutineLeft => "remove the routine in the unload routine",
            Rule::CallbackLeft => "call ExUnregisterCallback in the unload routine",
            Rule::CallbackUnknown => {
                "unregister once, with the pointer that ExRegisterCallback returned"
            }
            Rule::RegistryCallbackUnknown => {
                "unregister once, with the cookie that CmRegisterCallbackEx wrote, and not before it has returned"
            }
            Rule::KeyPathLeft => {
                "call CmCallbackReleaseKeyObjectIDEx for each path, in the callback that asked for it"
            }
            Rule::KeyPathUnknown => {
                "give back once, with the pointer that CmCallbackGetKeyObjectIDEx wrote"
            }
            Rule::ThreadLeft => {
                "tell the thread to end and wait for its object in the unload routine"
            }
            Rule::WorkItemLeft => "free the work item after it has run, before the driver unloads",
            Rule::WorkItemMisuse => {
                "allocate and free an item, or initialise and uninitialise it in memory of the \
                 driver, and queue it with a routine"
            }
            Rule::TimerLeft => "cancel the timer and flush the DPCs in the unload routine",
            Rule::ReferenceLeft => "dereference the object once for each reference",
            Rule::ObjectUnknown => "pass an object that the driver holds a reference to",
            Rule::ReferenceUnderflow => "dereference only what was referenced before",
            Rule::HandleLeft => "close the handle with ZwClose",
            Rule::HandleInvalid => "close a handle once and do not use it afterwards",
            Rule::HandleNotKernel => "add OBJ_KERNEL_HANDLE to the object attributes",
            Rule::FilterLeft => "call FltUnregisterFilter in the unload routine",
            Rule::PortLeft => "close the port before the filter is unregistered",
            Rule::UnregisterHangs => {
                "close every port of the filter, and give back every reference to it, before FltUnregisterFilter"
            }
            Rule::MessageWithoutDeadline => {
                "pass a timeout: a service that hangs must not hang the kernel"
            }
            Rule::ReinitializeMisuse => {
                "register in DriverEntry or in the reinitialisation routine, once"
            }
            Rule::BugCheck => "see the parameters in Microsoft's bug check reference",
            _ => UNKNOWN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_cure_and_an_explanation() {
        for rule in Rule::ALL {
            assert_ne!(rule.cure(), UNKNOWN, "{rule:?}");
            assert!(rule.explanation().len() > 10, "{rule:?}");
        }
    }
}
