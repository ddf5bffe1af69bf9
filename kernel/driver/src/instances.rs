// SPDX-License-Identifier: MIT OR Apache-2.0
//! The instance that the Filter Manager wants to find in the service key before it registers
//! anybody, even a filter that attaches to nothing.
//!
//! Written here, so that a service made with `sc create` is enough; what an installer has written
//! stays. Both layouts: up to Windows 11 23H2 the values lie under `Instances`, from 24H2 under
//! `Parameters\Instances`.

use core::sync::atomic::{AtomicBool, Ordering};
use fltport_nt::flt::Instances;
use fltport_nt::zw::Key;
use fltport_nt::{Result, utf16};

const INSTANCE: &str = "fltport";
const INSTANCE_NUL: &str = "fltport\0";

/// From the range of activity monitors (360000-389999). It orders I/O among filters and matters to
/// nobody here; a release needs one that Microsoft has allotted, which the installer writes.
const ALTITUDE_NUL: &str = "385999\0";

/// No automatic and no manual attachment.
const FLAGS_NEVER: u32 = 3;

/// Set by [`write`] from the service key.
static WANTED: AtomicBool = AtomicBool::new(false);

/// Which instances are wanted: on volumes if `Parameters\AttachToVolumes` is a number other than 0.
pub(crate) fn wanted() -> Instances {
    if WANTED.load(Ordering::Relaxed) {
        Instances::EveryVolume
    } else {
        Instances::Never
    }
}

/// IRQL: PASSIVE_LEVEL. Reads the configuration and writes the instance in both layouts, each
/// unless it is there already.
pub(crate) fn write(service: &Key) -> Result<()> {
    let parameters = service.create(utf16!("Parameters"))?;
    let wanted = parameters
        .get_u32(utf16!("AttachToVolumes"))
        .is_ok_and(|value| value != 0);
    WANTED.store(wanted, Ordering::Relaxed);
    let flags = if wanted { 0 } else { FLAGS_NEVER };
    write_below(service, flags)?;
    write_below(&parameters, flags)
}

fn write_below(parent: &Key, flags: u32) -> Result<()> {
    let instances = parent.create(utf16!("Instances"))?;
    if instances.has_value(utf16!("DefaultInstance")) {
        return Ok(());
    }
    let instance = instances.create(utf16!(INSTANCE))?;
    instance.set_text(utf16!("Altitude"), utf16!(ALTITUDE_NUL))?;
    instance.set_u32(utf16!("Flags"), flags)?;
    // Last, so that whoever finds it finds the rest, too.
    instances.set_text(utf16!("DefaultInstance"), utf16!(INSTANCE_NUL))
}
