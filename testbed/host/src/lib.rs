// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hosted NT kernel: drivers compiled for Linux link against it instead of ntoskrnl.exe and
//! fltmgr.sys, unchanged, because it exports the same symbols.
//!
//! Linux on x86-64. What it is compared with, and its limits, are in the README beside this crate.
//!
//! # A first driver
//!
//! A driver is a crate that declares NT's functions (fltport's do it with `fltport-nt`) and has an
//! entry point. A test boots a kernel, loads the driver, lets things happen, unloads it, and shuts
//! the kernel down, which panics if the driver broke a rule:
//!
//! ```
//! use fltport_nt::bindings::*;
//! use nt_host::{Config, DriverImage, Kernel, ProcessCreated, Unload};
//! use std::sync::atomic::{AtomicU32, Ordering};
//!
//! static STARTS: AtomicU32 = AtomicU32::new(0);
//!
//! unsafe extern "system" fn on_process(_parent: HANDLE, _pid: HANDLE, create: bool) {
//!     STARTS.fetch_add(u32::from(create), Ordering::Relaxed);
//! }
//!
//! unsafe extern "system" fn unload(_driver: *const DRIVER_OBJECT) {
//!     // SAFETY: registered by the entry point, and not called from the routine itself.
//!     unsafe { PsSetCreateProcessNotifyRoutine(Some(on_process), true) };
//! }
//!
//! unsafe extern "system" fn driver_entry(
//!     driver: *mut DRIVER_OBJECT,
//!     _registry_path: *const UNICODE_STRING,
//! ) -> NTSTATUS {
//!     // SAFETY: the driver's own object.
//!     unsafe { (*driver).DriverUnload = Some(unload) };
//!     // SAFETY: a routine of the right kind, removed by `unload`.
//!     unsafe { PsSetCreateProcessNotifyRoutine(Some(on_process), false) }
//! }
//!
//! let kernel = Kernel::boot(Config::default());
//! let image = DriverImage { name: "first", entry: driver_entry, force_integrity: false };
//! kernel.load(&image).expect("the status of DriverEntry");
//! kernel.process_created(&ProcessCreated { pid: 100, creator_pid: 4, ..Default::default() });
//! kernel.process_exited(100, 0);
//! kernel.unload("first", Unload::Stop).expect("it has an unload routine");
//! assert_eq!(STARTS.load(Ordering::Relaxed), 1);
//! kernel.shutdown_clean();
//! ```
//!
//! Without the removal in `unload` that would end in a report: `NotifyRoutineLeft`, the driver's
//! name, what was expected, what was found, and the stack on which the routine was registered.
//! [`Kernel::unload`] and [`Kernel::shutdown`] leave the reports to the test, which may expect
//! them: a test of a mistake compares [`Report::rule`] with a [`Rule`].
//!
//! # Drivers in C
//!
//! The folder `include` has headers with the names of the WDK's, written for this kernel; a build
//! script finds it in the variable `DEP_NT_HOST_INCLUDE`. `docs/testing-your-driver.md` and
//! `examples/c-driver` show the way.
//!
//! # What drives a driver
//!
//! * *NT's own events*: [`Kernel::process_created`] and its kin call the notify routines, from
//!   scripts; a [`sensor`] feeds them with the processes of this machine.
//! * *Services*: [`flt::UserPort`] is fltlib.dll's side of a communication port, in this process;
//!   [`transport`] offers the same to other processes over a socket, with the token that their
//!   credentials give them.
//! * *The order of the start*: [`Config::filter_manager`] and [`Kernel::filter_manager_ready`];
//!   [`Kernel::boot_drivers_initialized`]; [`Kernel::registry`] for what has to be there before.
//! * *Bad luck*: [`faults`] lets calls fail: one, each once, or by a seed ([`Config::faults`],
//!   [`Kernel::set_faults`]).
//! * *Bad timing*: [`sim`] runs all of it under a seeded scheduler with virtual time.
//!
//! # What is checked
//!
//! Every call of a driver is checked against the rules of the road: the IRQL, locks, the pool,
//! references, handles, what is left behind at unload. A broken rule is a [`Report`]; the system
//! does not stop, so that one run shows them all, and what would corrupt memory is not done.
//! [`OnReport::BugCheck`] stops at the first one instead, for a debugger.
//!
//! There is one kernel at a time in a process, because NT's functions have no argument that says
//! which; [`Kernel::boot`] waits for its turn, so tests need no lock of their own.
//!
//! # How it is built
//!
//! Files are named by NT's prefixes: `ke`, `ex`, `ps`, `ob`, `io`, `cm`, `zw`, `rtl`, `se`,
//! `mm`.
//! [`entry`] is the one place through which every call enters; [`sched`] and [`clock`] are the two
//! that know threads and time, the host system's or those of a simulation. The hosted kernel
//! asserts its own invariants: a panic in it is a fault of its own, never an answer to a driver.

mod abi;
pub mod clock;
mod cm;
mod dbg;
mod driver;
pub mod entry;
mod ex;
pub mod faults;
pub mod flt;
mod frame;
mod io;
pub mod irql;
mod ke;
mod kernel;
mod mm;
mod ob;
mod object;
mod pages;
mod process;
mod processor;
mod ps;
pub mod registry;
mod routine;
mod rtl;
pub mod sched;
pub mod se;
pub mod sensor;
pub mod sim;
mod stack;
pub mod status;
mod thread;
pub mod transport;
mod unicode;
mod user_memory;
mod verifier;
mod zw;

pub use cm::UserRegistry;
pub use driver::{Driver, DriverEntry, DriverImage};
pub use ex::pool::{TagUsage, tag_text};
pub use ex::special_pool::{PagedPool, SpecialPool};
pub use ke::user_event::UserEvent;
pub use kernel::{Config, DebugPrint, FilterManagerStart, Kernel, Unload};
pub use mm::mdl::fltport_probe_and_lock_pages;
pub use process::{Process, SYSTEM_PROCESS_ID};
pub use ps::events::{ImageLoaded, ProcessCreated};
pub use stack::Stack;
pub use user_memory::{UserSlice, fltport_copy_from_user, fltport_copy_to_user};
pub use verifier::paged_code::nt_host_paged_code;
pub use verifier::{OnReport, Related, Report, Rule, Verifier};

use entry::Export;

/// The export tables of all modules.
static EXPORTS: &[&[Export]] = &[
    cm::exports::EXPORTS,
    ex::callback::EXPORTS,
    ex::fast_mutex::EXPORTS,
    ex::mode::EXPORTS,
    ex::pool::EXPORTS,
    ex::rundown::EXPORTS,
    ex::rundown::cache_aware::EXPORTS,
    flt::EXPORTS,
    io::irp::EXPORTS,
    io::reinitialize::EXPORTS,
    io::work_item::EXPORTS,
    ke::bug_check::EXPORTS,
    ke::critical_region::EXPORTS,
    ke::dpc::EXPORTS,
    ke::event::EXPORTS,
    ke::level::EXPORTS,
    ke::mutant::EXPORTS,
    ke::processor::EXPORTS,
    ke::spin_lock::EXPORTS,
    ke::time::EXPORTS,
    ke::timer::EXPORTS,
    ke::wait::EXPORTS,
    mm::mdl::EXPORTS,
    mm::routine::EXPORTS,
    mm::section::EXPORTS,
    mm::view::EXPORTS,
    ob::EXPORTS,
    ps::notify::EXPORTS,
    ps::process::EXPORTS,
    ps::thread::EXPORTS,
    rtl::EXPORTS,
    se::access::EXPORTS,
    se::descriptor::EXPORTS,
    se::sid::EXPORTS,
    se::subject::EXPORTS,
    se::token::EXPORTS,
    zw::enumerate::EXPORTS,
    zw::key::EXPORTS,
    zw::system::EXPORTS,
    zw::wait::EXPORTS,
];

/// Puts the Filter Manager's part into a kernel that boots.
fn install_filter_manager(state: &std::sync::Arc<kernel::State>) {
    flt::install(state);
}
