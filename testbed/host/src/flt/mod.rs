// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Filter Manager: the functions of fltmgr.sys for drivers, and the user's side of its ports.
//!
//! What happens is decided by the state machine of the crate `fltmgr`. Here are the parts a state
//! machine cannot have: the one lock around it (`table.rs`), the execution of its effects outside
//! that lock (`effects.rs`), waiting, calls into drivers, and reports of their mistakes.
//!
//! Lock order: the table's lock is the only one held here, and nothing is called under it but the
//! machine.

mod attach;
mod effects;
mod exports;
mod ghost;
mod handle;
mod inside;
mod left;
mod port;
mod registration;
mod reply_length;
mod security;
mod send;
mod side;
mod table;
mod unload;
mod user;
mod variable;

pub(crate) use exports::EXPORTS;
pub use fltmgr::{
    ConnectionId, Decisions, DisconnectOrder, DriverClose, EmptyMessage, GetId, GetOutcome,
    InstanceRoot, NoDescriptor, ReplyStatus, ReplyTimeout, SecondRegistration, SlotRelease,
    Snapshot, Status, UndersizedGet, VersionCheck, WarningBytes, ZeroTimeout,
};
pub(crate) use table::install;
pub use table::{attached, configure, snapshot};
pub use user::UserPort;

#[cfg(test)]
mod tests;
