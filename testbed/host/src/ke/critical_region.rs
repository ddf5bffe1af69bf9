// SPDX-License-Identifier: MIT OR Apache-2.0
//! Critical regions: normal kernel APCs are held back within them.

use crate::entry::nt;
use crate::irql::APC_LEVEL;
use crate::thread;
use crate::verifier::{Report, Rule};

/// Runs a closure within a critical region, as the process manager calls notify routines.
pub(crate) fn inside<R>(f: impl FnOnce() -> R) -> R {
    thread::with_context(|context| context.critical_regions.update(|depth| depth + 1));
    let result = f();
    thread::with_context(|context| context.critical_regions.update(|depth| depth - 1));
    result
}

nt! {
    /// Enters a critical region. They nest.
    simplified = "a depth that is counted and checked; there are no APCs to hold off";
    max_irql = APC_LEVEL;
    pub unsafe fn KeEnterCriticalRegion() {
        thread::with_context(|context| context.critical_regions.update(|depth| depth + 1));
    }

    /// Leaves a critical region.
    simplified = "a depth that is counted and checked; there are no APCs to hold off";
    max_irql = APC_LEVEL;
    pub unsafe fn KeLeaveCriticalRegion() {
        let was_inside = thread::with_context(|context| {
            let less = context.critical_regions.get().checked_sub(1);
            less.inspect(|less| context.critical_regions.set(*less)).is_some()
        });
        if !was_inside {
            Report::new(Rule::CriticalRegionUnbalanced)
                .expected("a KeEnterCriticalRegion before")
                .found("the thread is in no critical region")
                .file();
        }
    }
}
