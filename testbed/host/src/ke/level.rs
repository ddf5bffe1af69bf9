// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raising and lowering the IRQL by hand.

use crate::entry::nt;
use crate::irql::{self, HIGH_LEVEL};
use crate::verifier::{self, Report, Rule, locks};

fn wrong_direction(expected: String, found: u8) {
    Report::new(Rule::IrqlWrongDirection)
        .expected(expected)
        .found(irql::name(found))
        .file();
}

nt! {
    /// The IRQL of the calling thread.
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeGetCurrentIrql() -> u8 {
        irql::current()
    }

    /// Raises the IRQL; returns the former one.
    simplified = "the IRQL is data of the thread, which has a processor for itself at DISPATCH_LEVEL and \
        above: no interrupt is masked, and the host may preempt the thread";
    max_irql = HIGH_LEVEL;
    pub unsafe fn KfRaiseIrql(irql: u8) -> u8 {
        if verifier::is_off() {
            return irql::set(irql);
        }
        let former = irql::current();
        if irql < former {
            wrong_direction(format!("a level >= {}", irql::name(former)), irql);
            return former;
        }
        irql::set(irql)
    }

    /// Lowers the IRQL to what KfRaiseIrql returned.
    simplified = "the IRQL is data of the thread: there is nothing pending that would run now";
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeLowerIrql(irql: u8) {
        if verifier::is_off() {
            irql::set(irql);
            return;
        }
        let former = irql::current();
        if irql > former {
            wrong_direction(format!("a level <= {}", irql::name(former)), irql);
            return;
        }
        locks::check_lowering(irql);
        irql::set(irql);
    }
}
