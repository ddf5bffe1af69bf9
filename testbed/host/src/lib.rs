// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hosted NT kernel: drivers compiled for Linux link against it instead of ntoskrnl.exe and
//! fltmgr.sys, unchanged, because it exports the same symbols.
//!
//! [`Kernel::boot`] makes a kernel, [`Kernel::load`] loads a driver into it. Every call of a
//! driver is checked against the rules of the road: the IRQL, locks, the pool, references,
//! handles, what is left behind at unload. A broken rule is a [`Report`]; the system does not
//! stop, so that one run shows them all, and what would corrupt memory is not done.
//!
//! Files are named by NT's prefixes: `ke`, `ex`, `ps`, `ob`, `io`, `zw`, `rtl`, `se`, `mm`.
//! [`sched`] and [`clock`] are the two places that know the host system's threads and time.

mod abi;
mod attribution;
pub mod clock;
mod dbg;
mod driver;
pub mod entry;
mod ex;
pub mod flt;
mod frame;
mod io;
pub mod irql;
mod ke;
mod kernel;
mod mm;
mod ob;
mod object;
mod process;
mod ps;
pub mod registry;
mod rtl;
pub mod sched;
pub mod se;
pub mod sensor;
mod stack;
pub mod status;
mod thread;
pub mod transport;
mod unicode;
mod user_memory;
mod verifier;
mod zw;

pub use driver::{Driver, DriverEntry, DriverImage};
pub use ex::pool::{AllocationRequest, TagUsage, tag_text};
pub use kernel::{Config, DebugPrint, FailAllocation, FilterManagerStart, Kernel, Unload};
pub use process::{Process, SYSTEM_PROCESS_ID};
pub use ps::events::{ImageLoaded, ProcessCreated};
pub use stack::Stack;
pub use user_memory::{UserSlice, fltport_copy_from_user, fltport_copy_to_user};
pub use verifier::{OnReport, Report, Rule};

use entry::Export;

/// The export tables of all modules.
static EXPORTS: &[&[Export]] = &[
    ex::callback::EXPORTS,
    ex::fast_mutex::EXPORTS,
    ex::mode::EXPORTS,
    ex::pool::EXPORTS,
    ex::rundown::EXPORTS,
    flt::EXPORTS,
    io::irp::EXPORTS,
    io::reinitialize::EXPORTS,
    io::work_item::EXPORTS,
    ke::bug_check::EXPORTS,
    ke::critical_region::EXPORTS,
    ke::event::EXPORTS,
    ke::level::EXPORTS,
    ke::mutant::EXPORTS,
    ke::spin_lock::EXPORTS,
    ke::time::EXPORTS,
    ke::timer::EXPORTS,
    ke::wait::EXPORTS,
    mm::EXPORTS,
    ob::EXPORTS,
    ps::notify::EXPORTS,
    ps::process::EXPORTS,
    ps::thread::EXPORTS,
    rtl::EXPORTS,
    se::descriptor::EXPORTS,
    se::sid::EXPORTS,
    se::subject::EXPORTS,
    se::token::EXPORTS,
    zw::key::EXPORTS,
];

/// Puts the Filter Manager's part into a kernel that boots.
fn install_filter_manager(state: &std::sync::Arc<kernel::State>) {
    flt::install(state);
}
