// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants: mutexes that threads wait for as for events.

use super::header::{Header, kind};
use crate::abi::KMUTANT;
use crate::entry::nt;
use crate::irql::DISPATCH_LEVEL;
use crate::kernel;
use crate::thread;

nt! {
    /// Initialises a mutant in place, owned by the calling thread or by nobody.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeInitializeMutant(mutant: *mut KMUTANT, owned: bool) {
        let signal = i32::from(!owned);
        // SAFETY: the caller passes memory for a mutant, of which the header is the first part.
        unsafe { Header::initialize(mutant.cast(), kind::MUTANT, size_of::<KMUTANT>(), signal) };
        if owned {
            // SAFETY: initialised above.
            let header = unsafe { Header::at(mutant.cast_const().cast()) };
            if let Some(header) = header {
                let thread = thread::current_thread().address();
                kernel::state().dispatcher.own_mutant(header, thread);
            }
        }
    }
}
