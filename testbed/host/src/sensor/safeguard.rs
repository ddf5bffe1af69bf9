// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two ways in which a process that holds execs would freeze the machine, and their cure.
//!
//! A process that is stopped answers nothing. The terminal's stop key is one keystroke away, so its
//! default action is taken off while execs are held. (SIGSTOP and a debugger cannot be guarded
//! against.)
//!
//! A process that crashes keeps its descriptors until its core is written; where the machine pipes
//! cores to a program, the exec of that program would wait for the crashed process. So it dumps no
//! core.

#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};

use super::ffi;

/// How many guards there are, and what the first has changed.
static GUARDS: Mutex<Changed> = Mutex::new(Changed {
    guards: 0,
    dumpable: false,
    stop_key: false,
});

#[derive(Debug)]
struct Changed {
    guards: usize,
    dumpable: bool,
    stop_key: bool,
}

/// Keeps this process from freezing the machine; the last guard to go restores what was.
#[derive(Debug)]
pub(super) struct Safeguard(());

impl Safeguard {
    pub(super) fn new() -> Safeguard {
        let mut changed = GUARDS.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.guards == 0 {
            changed.dumpable = ffi::dumpable();
            ffi::set_dumpable(false);
            changed.stop_key = ffi::disarm_stop_key();
        }
        changed.guards += 1;
        Safeguard(())
    }
}

impl Drop for Safeguard {
    fn drop(&mut self) {
        let mut changed = GUARDS.lock().unwrap_or_else(PoisonError::into_inner);
        changed.guards = changed.guards.saturating_sub(1);
        if changed.guards > 0 {
            return;
        }
        if changed.dumpable {
            ffi::set_dumpable(true);
        }
        if changed.stop_key {
            ffi::rearm_stop_key();
        }
    }
}
