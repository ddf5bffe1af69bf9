// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold whenever a driver calls the kernel.

use super::{Report, Rule, locks, paged_code};
use crate::entry::Function;
use crate::irql::{self, DISPATCH_LEVEL};
use crate::thread::LockKind;

/// Compares the IRQL with the function's own, and looks at where the caller's code lies.
pub(crate) fn check(function: &Function, irql: u8) {
    if irql > function.max_irql {
        report_too_high(function, irql);
    } else if irql < function.min_irql {
        Report::new(Rule::IrqlTooLow)
            .expected(format!("IRQL >= {}", irql::name(function.min_irql)))
            .found(irql::name(irql))
            .file();
    }
    if irql >= DISPATCH_LEVEL {
        paged_code::check(function.name, irql);
    }
}

fn report_too_high(function: &Function, irql: u8) {
    let mut report = Report::new(Rule::IrqlTooHigh)
        .expected(format!("IRQL <= {}", irql::name(function.max_irql)))
        .found(irql::name(irql));
    if let Some((lock, holder)) = locks::held_of_kind(LockKind::SpinLock) {
        report = report
            .detail(format!("{} is held", locks::named(lock)))
            .related("the spin lock was taken here", holder.stack);
    }
    report.file();
}
