// SPDX-License-Identifier: MIT OR Apache-2.0
//! What scenarios are played on. Both floors have the same face:
//!
//! * `Floor::open(late)`: a machine without drivers; one at a time; the Filter Manager is late if it can
//!   be;
//! * `late_filter_manager_lacks()`: why it cannot be, if so; `start_filter_manager()`: it is there now;
//! * `name()`: what it is, for the report;
//! * `socket()`: where services find it, if they have to be told;
//! * `lacks(order)`: why it cannot carry an order, if it cannot;
//! * `start`, `stop`, `unload`: a driver by its name; [`Outcome::Refused`] if the driver refuses;
//! * `registry_lacks()`: why drivers are not told here of what programs do to the registry, if so;
//! * `process_began(process, parent)`, `process_ended(process)`: a service's; a floor whose kernel is
//!   told by nobody else tells it;
//! * `children_lack()`: why drivers are not told here whose child a process is, if so;
//! * `program()`: a program that works on the registry (see [`registry`](crate::registry));
//! * `close()`: everything unloaded; what NT's rules have to say against it.

#[cfg(target_os = "linux")]
mod hosted;
#[cfg(windows)]
#[allow(unsafe_code, reason = "calls the service control manager")]
mod windows;

use crate::orders::{Code, Refusal};

#[cfg(target_os = "linux")]
pub(crate) use hosted::{Floor, Program};
#[cfg(windows)]
pub(crate) use windows::{Floor, Program};

/// What became of a driver.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    Refused(Refusal),
}

impl Outcome {
    /// A driver's NTSTATUS.
    #[cfg_attr(windows, allow(dead_code))]
    fn from_status(outcome: Result<(), i32>) -> Outcome {
        match outcome {
            Ok(()) => Outcome::Done,
            Err(status) => Outcome::Refused(Refusal {
                text: format!("NTSTATUS {status:#010x}"),
                code: Some(Code::Status(status)),
            }),
        }
    }
}
