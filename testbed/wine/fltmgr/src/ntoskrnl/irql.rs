// SPDX-License-Identifier: MIT OR Apache-2.0
//! IRQL as data of a thread. Wine has none; nothing is masked by it here either, but a driver that
//! asks is told what it would be.

use super::teb;
use fltport_nt::linked::{KeAcquireSpinLockAtDpcLevel, KeReleaseSpinLockFromDpcLevel};

const DISPATCH_LEVEL: u8 = 2;

pub(super) unsafe extern "system" fn get_current() -> u8 {
    teb::irql()
}

pub(super) unsafe extern "system" fn raise(irql: u8) -> u8 {
    teb::set_irql(irql)
}

pub(super) unsafe extern "system" fn raise_to_dpc() -> u8 {
    teb::set_irql(DISPATCH_LEVEL)
}

pub(super) unsafe extern "system" fn lower(irql: u8) {
    teb::set_irql(irql);
}

pub(super) unsafe extern "system" fn acquire_spin_lock(lock: *mut usize) -> u8 {
    let former = teb::set_irql(DISPATCH_LEVEL);
    // SAFETY: the caller passes an initialised lock that it does not hold. Wine's own function.
    unsafe { KeAcquireSpinLockAtDpcLevel(lock) };
    former
}

pub(super) unsafe extern "system" fn release_spin_lock(lock: *mut usize, irql: u8) {
    // SAFETY: the caller passes a lock that it holds. Wine's own function.
    unsafe { KeReleaseSpinLockFromDpcLevel(lock) };
    teb::set_irql(irql);
}
