// SPDX-License-Identifier: MIT OR Apache-2.0
//! Common driver and client drivers: the function table, and how a client driver finds it.
//!
//! **Finding it.** Both sides open the callback object [`CALLBACK_NAME`] and register with it. The
//! common driver notifies [`ANNOUNCE`] when it comes up and [`REVOKE`] before it goes; a client
//! driver that comes later notifies [`ASK`] with an [`Ask`] in which the common driver leaves its
//! table. Thus neither needs the other in memory to load. When `REVOKE` returns, no client driver
//! may be inside a function of the table or call one again; the client's stub sees to that.
//!
//! **Versions.** Structs begin with their size and only ever grow at the end; [`VERSION`] changes
//! when an old caller could not go on. Pointers are valid for the duration of the call unless a
//! field says otherwise. All statuses are NTSTATUS.

use core::ffi::c_void;

/// The callback object's name.
pub const CALLBACK_NAME: &str = "\\Callback\\FltPort";

/// Argument 1: the common driver is up; argument 2 is the [`Interface`].
pub const ANNOUNCE: usize = 1;
/// Argument 1: the common driver goes; argument 2 is the [`Interface`] that becomes invalid.
pub const REVOKE: usize = 2;
/// Argument 1: a client driver looks for the common driver; argument 2 is an [`Ask`].
pub const ASK: usize = 3;

/// The version of this interface.
pub const VERSION: u32 = 1;

/// What a client driver passes with [`ASK`]. The common driver fills in the table, or leaves null.
#[repr(C)]
#[derive(Debug)]
pub struct Ask {
    /// The size of this struct.
    pub size: u32,
    /// [`VERSION`] of the client.
    pub version: u32,
    /// Filled in by the common driver if it is listening and speaks that version.
    pub interface: *const Interface,
}

/// A registered provider. Opaque; 0 is none.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderHandle(pub usize);

/// What to do with notifications while nobody is connected.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BacklogPolicy {
    /// Keep the newest: the oldest are lost.
    KeepNewest = 0,
    /// Keep the oldest: the newest are lost.
    KeepOldest = 1,
}

/// Who sends a command.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CommandCaller {
    /// The size of this struct.
    pub size: u32,
    /// The connection.
    pub connection: u32,
    /// The process that sends.
    pub pid: u32,
    /// 0.
    pub reserved: u32,
}

/// A provider's command handler. IRQL: called at PASSIVE_LEVEL, in a critical region, in the thread
/// of the service that sends. Unregistering waits for it, so it must come to an end by itself.
///
/// `input` and `output` are kernel copies. Writes at most `capacity` bytes to `output` and their
/// number to `returned`; the result reaches the service only with a success status.
pub type CommandHandler = unsafe extern "system" fn(
    context: *mut c_void,
    caller: *const CommandCaller,
    message: u16,
    input: *const u8,
    length: u32,
    output: *mut u8,
    capacity: u32,
    returned: *mut u32,
) -> i32;

/// What a provider registers with. The common driver copies all of it.
#[repr(C)]
#[derive(Debug)]
pub struct ProviderDescription {
    /// The size of this struct.
    pub size: u32,
    /// [`VERSION`].
    pub version: u32,
    /// The encoded [`schema`](crate::schema), which holds the provider's name.
    pub schema: *const u8,
    /// Its length in bytes.
    pub schema_length: u32,
    /// Bytes of notifications to keep while nobody is connected; 0 for none. Rounded up to a power
    /// of two.
    pub backlog: u32,
    /// Which to keep when these do not suffice: a [`BacklogPolicy`].
    pub backlog_policy: u32,
    /// 0.
    pub reserved: u32,
    /// Handles the provider's commands; `None` if it has none.
    pub on_command: Option<CommandHandler>,
    /// Passed to `on_command`.
    pub context: *mut c_void,
}

/// A notification.
#[repr(C)]
#[derive(Debug)]
pub struct Notification {
    /// The size of this struct.
    pub size: u32,
    /// The message's number.
    pub message: u16,
    /// Bytes of the payload's fixed part.
    pub fixed: u16,
    /// When it happened: NT system time; 0 stands for this moment.
    pub time: i64,
    /// The payload, in non-paged memory whatever the caller's IRQL: it is copied under a spin lock.
    pub payload: *const u8,
    /// Its length in bytes.
    pub length: u32,
    /// 0.
    pub reserved: u32,
}

/// A request.
#[repr(C)]
#[derive(Debug)]
pub struct Request {
    /// The size of this struct.
    pub size: u32,
    /// The message's number.
    pub message: u16,
    /// Bytes of the payload's fixed part.
    pub fixed: u16,
    /// The payload, in non-paged memory: observers get it with the outcome, copied under a spin
    /// lock.
    pub payload: *const u8,
    /// Its length in bytes.
    pub length: u32,
    /// Milliseconds to wait at most; 1 to [`MAX_DEADLINE_MS`](crate::limits::MAX_DEADLINE_MS).
    pub deadline_ms: u32,
    /// In: the default reply, used as it is whenever the decider gives no answer. Out: the answer.
    /// Non-paged memory, and not null even if it is empty.
    pub reply: *mut u8,
    /// The reply's length in bytes, which a decider's answer must have exactly.
    pub reply_length: u32,
    /// Out: an [`Outcome`](crate::Outcome).
    pub outcome: u32,
}

/// The common driver's functions. Valid from [`ANNOUNCE`] or [`ASK`] until [`REVOKE`].
#[repr(C)]
#[derive(Debug)]
pub struct Interface {
    /// The size of this struct.
    pub size: u32,
    /// [`VERSION`].
    pub version: u32,
    /// Registers a provider. IRQL: PASSIVE_LEVEL.
    pub register: unsafe extern "system" fn(*const ProviderDescription, *mut ProviderHandle) -> i32,
    /// Unregisters a provider: waits until no command handler of it runs. The handle is invalid
    /// afterwards. IRQL: PASSIVE_LEVEL; not from its command handler.
    pub unregister: unsafe extern "system" fn(ProviderHandle),
    /// Offers a notification to every subscriber. Never blocks. Success means that it is accounted
    /// for, not that it was delivered. IRQL: <= DISPATCH_LEVEL; above, it is accounted as lost and
    /// told of with the next one.
    pub notify: unsafe extern "system" fn(ProviderHandle, *const Notification) -> i32,
    /// Accounts for notifications that were lost before they could be offered: message, cause,
    /// count. IRQL: <= DISPATCH_LEVEL.
    pub lost: unsafe extern "system" fn(ProviderHandle, u16, u16, u64),
    /// Asks the decider and waits for the answer, at most until the deadline. Success: `reply` and
    /// `outcome` are set, whoever answered. IRQL: <= APC_LEVEL.
    pub request: unsafe extern "system" fn(ProviderHandle, *mut Request) -> i32,
    /// 1 if a notification or request with this number would reach a subscriber, a decider or a
    /// backlog. Cheap. IRQL: <= DISPATCH_LEVEL.
    pub listening: unsafe extern "system" fn(ProviderHandle, u16) -> u8,
}
