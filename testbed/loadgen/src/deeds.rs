// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notifications in the thread of whoever gives the command, as a driver tells of what a program
//! does: for whom it matters by which process they are, and about which.

use crate::load::{self, Load};
use crate::messages::{Deed, MAX_DEEDS, Tell, Told};
use fltport_abi::message::Pid;
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::{NtError, Result, ps};

/// IRQL: PASSIVE_LEVEL, in the thread that gives the command. Tells of them all.
pub(crate) fn tell(load: &Load, wanted: &Tell) -> Result<Told> {
    if wanted.count > MAX_DEEDS {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    // Given back last: until then the driver does not let go of the provider, whose last reference would
    // be this one, and wait for this command.
    let _held = load.begin()?;
    let provider = load::provider(load.place)?;
    let by = Pid(ps::current_process_id());
    let about = match wanted.about {
        Pid(0) => by,
        about => about,
    };
    let mut told = Told {
        count: 0,
        reserved: 0,
    };
    for number in 0..wanted.count.into() {
        let deed = Deed { number, about, by };
        told.count += u32::from(provider.notify(&deed).is_ok());
    }
    Ok(told)
}
