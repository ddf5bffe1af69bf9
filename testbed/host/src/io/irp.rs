// SPDX-License-Identifier: MIT OR Apache-2.0
//! What drivers ask about requests.

use crate::abi::IRP;
use crate::entry::nt;
use crate::irql::DISPATCH_LEVEL;

nt! {
    /// Whether the process that made a request is a 32-bit one. The hosted kernel's are not.
    simplified = "always false: services of the hosted kernel are 64-bit";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn IoIs32bitProcess(_irp: *const IRP) -> bool {
        false
    }
}
