// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calling thread's environment block. Drivers have none on Windows; under Wine they run in a
//! process, and a word of it that nobody uses holds the thread's IRQL.

use core::arch::asm;

/// `EnvironmentPointer`, which belonged to a subsystem that is no more.
const IRQL: usize = 0x38;

/// Where it is: a number that tells threads apart.
pub(crate) fn address() -> usize {
    let address: usize;
    // SAFETY: on Windows for x64 a thread's environment block begins at gs:0 and has its own address
    // at 0x30.
    unsafe { asm!("mov {}, gs:[0x30]", out(reg) address, options(nostack, readonly)) };
    address
}

/// The thread's IRQL.
pub(crate) fn irql() -> u8 {
    let place = (address() + IRQL) as *const u64;
    // SAFETY: a word of the calling thread's own environment block.
    unsafe { place.read() as u8 }
}

/// Sets it; the former one.
pub(crate) fn set_irql(irql: u8) -> u8 {
    let former = self::irql();
    let place = (address() + IRQL) as *mut u64;
    // SAFETY: as above; nobody else uses it.
    unsafe { place.write(u64::from(irql)) };
    former
}
