// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding routines by name.

use std::ffi::c_void;

use crate::abi::UNICODE_STRING;
use crate::entry::{self, nt};
use crate::irql::PASSIVE_LEVEL;
use crate::unicode;

nt! {
    /// The address of a routine of ntoskrnl by its name, or null.
    fails = null;
    simplified = "finds every function of this list but DbgPrintEx, also the Filter Manager's; NT \
        knows those of ntoskrnl and the HAL";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn MmGetSystemRoutineAddress(name: *const UNICODE_STRING) -> *mut c_void {
        // SAFETY: the caller passes a string.
        let name = unicode::decode(&unsafe { unicode::read(name) });
        entry::address_of(&name).map_or(std::ptr::null_mut(), |address| address as *mut c_void)
    }
}
