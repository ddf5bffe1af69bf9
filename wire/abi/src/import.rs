// SPDX-License-Identifier: MIT OR Apache-2.0
//! Common driver and client drivers that import its functions by name, as `include/fltport.h` declares
//! them: what there is beside the structs of the function table ([`interface`](crate::interface)).

use crate::interface::{CommandHandler, DefaultReply, Revised, SnapshotRoutine};
use core::ffi::c_void;
use core::mem::offset_of;

/// The names of the functions: what fltport.sys exports. Import libraries are made from them, too
/// (`include/fltport.def`).
pub const FUNCTIONS: [&str; 16] = [
    "FltPortBook",
    "FltPortCommit",
    "FltPortDiscard",
    "FltPortLost",
    "FltPortNotify",
    "FltPortNotifyBooked",
    "FltPortNotifyEx",
    "FltPortQueryStatistics",
    "FltPortRegister",
    "FltPortRequest",
    "FltPortRequestAsync",
    "FltPortReserve",
    "FltPortSnapshotAdd",
    "FltPortSnapshotLive",
    "FltPortUnbook",
    "FltPortUnregister",
];

/// Writes an encoded schema, from the client driver's own tables, to so many bytes; returns its
/// length, also if that is more. IRQL: called at PASSIVE_LEVEL.
pub type SchemaWriter =
    unsafe extern "system" fn(schema: *const c_void, out: *mut u8, room: u32) -> u32;

/// Room that `FltPortBook` has kept; all zero is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Booking {
    /// As in [`Notification::booking`](crate::interface::Notification::booking).
    pub number: u64,
    /// The stub's.
    pub staged: u32,
    /// 0.
    pub reserved: u32,
}

/// What a client driver in C registers with: `FLTPORT_REGISTRATION`.
#[repr(C)]
#[derive(Debug)]
pub struct Registration {
    /// The size of this struct.
    pub size: u32,
    /// [`VERSION`](crate::interface::VERSION).
    pub version: u32,
    /// The client driver's tables.
    pub schema: *const c_void,
    /// Writes them.
    pub write_schema: Option<SchemaWriter>,
    /// The stub's pool tag.
    pub pool_tag: u32,
    /// The stub's staging buffer.
    pub staging: u32,
    /// As in [`ProviderDescription`](crate::interface::ProviderDescription), and so all below.
    pub backlog: u32,
    /// A [`BacklogPolicy`](crate::interface::BacklogPolicy).
    pub backlog_policy: u32,
    /// The command handler.
    pub on_command: Option<CommandHandler>,
    /// Passed to the routines.
    pub context: *mut c_void,
    // Revision 1.1.
    /// The snapshot routine.
    pub on_snapshot: Option<SnapshotRoutine>,
    /// The miss policy.
    pub defaults: *const DefaultReply,
    /// How many there are.
    pub default_count: u32,
    /// Bytes for one connection.
    pub quota: u32,
    /// Notifications a second.
    pub rate: u32,
    /// How many at once.
    pub burst: u32,
}

impl Revised for Registration {
    const FIRST: usize = offset_of!(Registration, on_snapshot);
}
