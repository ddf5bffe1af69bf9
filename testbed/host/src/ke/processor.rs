// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which processors there are, and which one the caller runs on. All are of group zero.

use crate::abi::PROCESSOR_NUMBER;
use crate::entry::nt;
use crate::irql::HIGH_LEVEL;
use crate::processor;

/// The value of ALL_PROCESSOR_GROUPS.
const ALL_PROCESSOR_GROUPS: u16 = 0xFFFF;

fn count_of(group: u16) -> u32 {
    match group {
        0 | ALL_PROCESSOR_GROUPS => processor::count(),
        _ => 0,
    }
}

nt! {
    /// How many processors a group, or with ALL_PROCESSOR_GROUPS the system has; zero for a group
    /// that there is not.
    simplified = "as many as Config::processors says, all in group 0; none is added later";
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeQueryActiveProcessorCountEx(group: u16) -> u32 {
        count_of(group)
    }

    /// How many there can be, with those that are added while the system runs.
    simplified = "as many as Config::processors says, all in group 0; none is added later";
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeQueryMaximumProcessorCountEx(group: u16) -> u32 {
        count_of(group)
    }

    /// The number of the processor that the calling thread runs on, counted through all groups.
    simplified = "a thread has a processor at DISPATCH_LEVEL and above only; below, the number of \
        the one that it had last";
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeGetCurrentProcessorNumberEx(number: *mut PROCESSOR_NUMBER) -> u32 {
        let current = processor::current();
        if !number.is_null() {
            let place = PROCESSOR_NUMBER {
                Group: 0,
                Number: u8::try_from(current).unwrap_or(u8::MAX),
                Reserved: 0,
            };
            // SAFETY: the caller passes null or memory for a processor's number.
            unsafe { number.write(place) };
        }
        current
    }
}
