// SPDX-License-Identifier: MIT OR Apache-2.0
//! Common driver and client drivers: the function table, and how a client driver finds it.
//!
//! **Finding it.** Both sides open the callback object [`CALLBACK_NAME`] and register with it. The
//! common driver notifies [`ANNOUNCE`] when it comes up and [`REVOKE`] before it goes; a client
//! driver that comes later notifies [`ASK`] with an [`Ask`] in which the common driver leaves its
//! table. Thus neither needs the other in memory to load. When `REVOKE` returns, no client driver
//! may be inside a function of the table or call one again; the client's stub sees to that.
//!
//! **Versions.** [`VERSION`] is the major version, and changes only when an old caller could not go
//! on. Within it everything grows at the end. Structs begin with their size: whoever reads one takes
//! what it knows of it, holds the rest for 0, and asks for no more than the first revision had
//! ([`Revised`]). The function table has a size, too: whoever calls a function behind those of the
//! first revision looks first whether it is there ([`Interface::has`]). So client drivers and common
//! drivers of neighbouring revisions work with each other, whichever is the older one.
//!
//! Pointers are valid for the duration of the call unless a field says otherwise. All statuses are
//! NTSTATUS. `include/fltport.h` says the same for C; a test compares the two.

use crate::account::{CAUSES, OUTCOMES};
use crate::limits::MAX_MESSAGE_NUMBER;
use core::ffi::c_void;
use core::mem::offset_of;

/// The callback object's name.
pub const CALLBACK_NAME: &str = "\\Callback\\FltPort";

/// Argument 1: the common driver is up; argument 2 is the [`Interface`].
pub const ANNOUNCE: usize = 1;
/// Argument 1: the common driver goes; argument 2 is the [`Interface`] that becomes invalid.
pub const REVOKE: usize = 2;
/// Argument 1: a client driver looks for the common driver; argument 2 is an [`Ask`].
pub const ASK: usize = 3;

/// The major version of this interface.
pub const VERSION: u32 = 1;

/// A struct that starts with its size in bytes and grows at the end from one revision to the next.
///
/// All bytes zero is a valid value of each, and what a field means that an older caller does not
/// have.
pub trait Revised {
    /// Bytes that it had in the first revision: the least that is accepted.
    const FIRST: usize;
}

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

/// A snapshot that is being taken. Opaque.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHandle(pub usize);

/// A provider's snapshot routine: reports the present state to a service that begins to observe. It
/// calls `snapshot_add` for each object, and last, holding whatever orders its notifications,
/// `snapshot_live`: what it offers from then on reaches that service, and nothing that it offered
/// before does. When it returns without that, it is done for it.
///
/// IRQL: called at PASSIVE_LEVEL, in a critical region, in the thread of the service that
/// subscribes. Unregistering waits for it. `types`: bit n is set if messages with number n are
/// wanted. An error reaches the service, which is not subscribed then.
pub type SnapshotRoutine =
    unsafe extern "system" fn(context: *mut c_void, snapshot: SnapshotHandle, types: u64) -> i32;

/// What a request is answered with when no decider answers it: the provider's miss policy.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DefaultReply {
    /// The size of this struct.
    pub size: u32,
    /// The request's number.
    pub message: u16,
    /// 0.
    pub reserved: u16,
    /// The reply's bytes.
    pub reply: *const u8,
    /// How many.
    pub length: u32,
    /// 0.
    pub reserved2: u32,
}

impl DefaultReply {
    /// One of this revision that says nothing yet.
    pub const EMPTY: Self = DefaultReply {
        size: size_of::<Self>() as u32,
        message: 0,
        reserved: 0,
        reply: core::ptr::null(),
        length: 0,
        reserved2: 0,
    };
}

impl Revised for DefaultReply {
    const FIRST: usize = size_of::<DefaultReply>();
}

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
    /// Passed to `on_command` and `on_snapshot`.
    pub context: *mut c_void,
    // Revision 1.1.
    /// A word of the client driver's, in non-paged memory, or null. While the provider is
    /// registered, the common driver keeps bit n set if message n would reach a subscriber, a
    /// decider or a backlog. It is not written to any more when `unregister` has returned.
    pub interest: *mut u64,
    /// Reports the present state; `None` if the provider has none.
    pub on_snapshot: Option<SnapshotRoutine>,
    /// The miss policy: default replies, at most one for each request. Each lies as many bytes behind
    /// the one before as that one's size says.
    pub defaults: *const DefaultReply,
    /// How many there are.
    pub default_count: u32,
    /// Bytes of notifications, bookings included, that may be queued for one connection; 0 for no
    /// limit but the fair share that every provider has, which a quota does not exceed either.
    pub quota: u32,
    /// Notifications a second, over all; 0 for no limit.
    pub rate: u32,
    /// How many may come at once, for a `rate`; 0 for as many as in a second.
    pub burst: u32,
    /// A word of the client driver's, in non-paged memory, or null; zero when it registers. While the
    /// provider is registered, the common driver keeps bit n set if message n is a notification that nobody
    /// would hear, and that need not be offered: the client driver may count it in `unheard` instead,
    /// unless it has a booking. It is 0 and not written to any more when `unregister` has returned.
    pub quiet: *mut u64,
    /// Where the client driver counts these, in non-paged memory; not null with `quiet`. Rows of
    /// [`UNHEARD_ROW`] counters, one for each message number; any row will do, so that processors need not
    /// share one. The client driver adds, the common driver swaps for 0 what it takes into the
    /// ledger, with the cause *no connection*; both atomically. What is added while the provider is not
    /// registered is the next common driver's.
    pub unheard: *mut u64,
    /// How many rows; at most [`MAX_UNHEARD_ROWS`].
    pub unheard_rows: u32,
    /// 0.
    pub reserved2: u32,
}

/// Counters in a row of [`ProviderDescription::unheard`].
pub const UNHEARD_ROW: usize = MAX_MESSAGE_NUMBER as usize + 1;
/// Rows that it has at most.
pub const MAX_UNHEARD_ROWS: u32 = 64;

impl ProviderDescription {
    /// One of this revision that says nothing yet.
    pub const EMPTY: Self = ProviderDescription {
        size: size_of::<Self>() as u32,
        version: VERSION,
        schema: core::ptr::null(),
        schema_length: 0,
        backlog: 0,
        backlog_policy: BacklogPolicy::KeepNewest as u32,
        reserved: 0,
        on_command: None,
        context: core::ptr::null_mut(),
        interest: core::ptr::null_mut(),
        on_snapshot: None,
        defaults: core::ptr::null(),
        default_count: 0,
        quota: 0,
        rate: 0,
        burst: 0,
        quiet: core::ptr::null_mut(),
        unheard: core::ptr::null_mut(),
        unheard_rows: 0,
        reserved2: 0,
    };
}

impl Revised for ProviderDescription {
    const FIRST: usize = offset_of!(ProviderDescription, interest);
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
    // Revision 1.1.
    /// Room that `book` has kept for it, used up by this; 0 for none.
    pub booking: u64,
}

impl Notification {
    /// One of this revision that says nothing yet.
    pub const EMPTY: Self = Notification {
        size: size_of::<Self>() as u32,
        message: 0,
        fixed: 0,
        time: 0,
        payload: core::ptr::null(),
        length: 0,
        reserved: 0,
        booking: 0,
    };
}

impl Revised for Notification {
    const FIRST: usize = offset_of!(Notification, booking);
}

/// A notification that is filled in where it lies, from `reserve` to `commit` or `discard`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reservation {
    /// The size of this struct.
    pub size: u32,
    /// The message's number.
    pub message: u16,
    /// 0.
    pub reserved: u16,
    /// In: bytes of payload that may be needed. `commit` may use fewer.
    pub length: u32,
    /// 0.
    pub reserved2: u32,
    /// Out: where the payload goes; non-paged, 8-byte aligned, all zero.
    pub payload: *mut u8,
    /// Out: the common driver's own.
    pub handle: usize,
}

impl Revised for Reservation {
    const FIRST: usize = size_of::<Reservation>();
}

/// [`Request::flags`], [`AsyncRequest::flags`]: the default is the one that was declared at
/// registration, and what is in `reply` does not count. Refused with `STATUS_INVALID_PARAMETER` if
/// none of this length was declared.
pub const REQUEST_DECLARED_DEFAULT: u32 = 1;

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
    /// The reply's length in bytes. A decider's answer has exactly that length, or is of another
    /// version: then, if the reply has no variable data and this is the length of its fields, of a
    /// newer one these fields are taken, and what an older one does not have is absent or, if readers
    /// have a value of their own for it, as in the default. Anything else is
    /// [`Outcome::BadReply`](crate::Outcome::BadReply).
    pub reply_length: u32,
    /// Out: an [`Outcome`](crate::Outcome).
    pub outcome: u32,
    // Revision 1.1.
    /// [`REQUEST_DECLARED_DEFAULT`] or 0.
    pub flags: u32,
    /// Out: how long it took, in microseconds.
    pub waited_us: u32,
}

impl Request {
    /// One of this revision that asks nothing yet.
    pub const EMPTY: Self = Request {
        size: size_of::<Self>() as u32,
        message: 0,
        fixed: 0,
        payload: core::ptr::null(),
        length: 0,
        deadline_ms: 0,
        reply: core::ptr::null_mut(),
        reply_length: 0,
        outcome: 0,
        flags: 0,
        waited_us: 0,
    };
}

impl Revised for Request {
    const FIRST: usize = offset_of!(Request, flags);
}

/// How an asynchronous request ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// The size of this struct.
    pub size: u32,
    /// The request's number.
    pub message: u16,
    /// 0.
    pub reserved: u16,
    /// An [`Outcome`](crate::Outcome).
    pub outcome: u32,
    /// How long it took, in microseconds.
    pub waited_us: u32,
    /// The reply: the decider's, or the default. Valid during the call.
    pub reply: *const u8,
    /// Its length in bytes.
    pub reply_length: u32,
    /// 0.
    pub reserved2: u32,
}

/// Called once for each asynchronous request that was accepted. IRQL: PASSIVE_LEVEL, in a thread of
/// the common driver or of a service. Others wait while it runs; unregistering does, too.
pub type CompletionRoutine =
    unsafe extern "system" fn(context: *mut c_void, completion: *const Completion);

/// A request whose answer comes in a callback. Everything is copied.
#[repr(C)]
#[derive(Debug)]
pub struct AsyncRequest {
    /// The size of this struct.
    pub size: u32,
    /// The message's number.
    pub message: u16,
    /// Bytes of the payload's fixed part.
    pub fixed: u16,
    /// The payload, in non-paged memory if the IRQL is DISPATCH_LEVEL.
    pub payload: *const u8,
    /// Its length in bytes.
    pub length: u32,
    /// Milliseconds to wait at most; 1 to [`MAX_DEADLINE_MS`](crate::limits::MAX_DEADLINE_MS).
    pub deadline_ms: u32,
    /// The default reply; as the payload.
    pub reply: *const u8,
    /// Its length in bytes, as in [`Request`].
    pub reply_length: u32,
    /// [`REQUEST_DECLARED_DEFAULT`] or 0.
    pub flags: u32,
    /// Called with the answer.
    pub on_completion: Option<CompletionRoutine>,
    /// Passed to `on_completion`.
    pub context: *mut c_void,
}

impl Revised for AsyncRequest {
    const FIRST: usize = size_of::<AsyncRequest>();
}

/// The accounts of a provider, or of one of its message types, over all receivers and since it
/// registered.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ProviderStatistics {
    /// The size of this struct.
    pub size: u32,
    /// In: the message's number; 0 for all.
    pub message: u16,
    /// 0.
    pub reserved: u16,
    /// Connections that observe it.
    pub observers: u32,
    /// Connections that decide it.
    pub deciders: u32,
    /// Notifications offered, to each receiver.
    pub offered: u64,
    /// Delivered.
    pub delivered: u64,
    /// Queued.
    pub in_flight: u64,
    /// Lost, by [`Cause`](crate::Cause).
    pub lost: [u64; CAUSES],
    /// Requests made.
    pub asked: u64,
    /// Of these ended, by [`Outcome`](crate::Outcome).
    pub outcomes: [u64; OUTCOMES],
}

impl ProviderStatistics {
    /// One that asks for all messages.
    pub const EMPTY: Self = ProviderStatistics {
        size: size_of::<Self>() as u32,
        message: 0,
        reserved: 0,
        observers: 0,
        deciders: 0,
        offered: 0,
        delivered: 0,
        in_flight: 0,
        lost: [0; CAUSES],
        asked: 0,
        outcomes: [0; OUTCOMES],
    };
}

impl Revised for ProviderStatistics {
    const FIRST: usize = size_of::<ProviderStatistics>();
}

/// The common driver's functions. Valid from [`ANNOUNCE`] or [`ASK`] until [`REVOKE`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
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
    // Revision 1.1.
    /// Gives memory of the common driver's for a notification to be filled in where it lies. Until
    /// `commit` or `discard` the provider must not be unregistered. Without success there is nothing
    /// to be filled in, and the notification is accounted as lost: `STATUS_INSUFFICIENT_RESOURCES`,
    /// `STATUS_BUFFER_OVERFLOW` (too large), `STATUS_INVALID_LEVEL`; but not if it is not one of the
    /// provider's (`STATUS_INVALID_PARAMETER`) or the common driver is being unloaded
    /// (`STATUS_DELETE_PENDING`). IRQL: <= DISPATCH_LEVEL.
    pub reserve: Option<unsafe extern "system" fn(ProviderHandle, *mut Reservation) -> i32>,
    /// Offers what was reserved: its handle, bytes of the fixed part, bytes of the payload, and the
    /// time as in [`Notification::time`]. Always ends the reservation; what it does not offer,
    /// because it is malformed (`STATUS_INVALID_PARAMETER`) or the common driver is being unloaded
    /// (`STATUS_DELETE_PENDING`), is nowhere accounted for. IRQL: <= DISPATCH_LEVEL.
    pub commit: Option<unsafe extern "system" fn(ProviderHandle, usize, u16, u32, i64) -> i32>,
    /// Ends a reservation without offering anything. IRQL: <= DISPATCH_LEVEL.
    pub discard: Option<unsafe extern "system" fn(ProviderHandle, usize)>,
    /// Keeps room for one notification with this number and a payload of at most so many bytes in
    /// the queue of whoever observes it now, or in the backlog: it will not be lost for want of
    /// room, nor for the provider's rate, against which the booking counts. Who comes later keeps
    /// such room as well if it has it. Fails if there is room nowhere, or all bookings are taken
    /// (`STATUS_INSUFFICIENT_RESOURCES`), or beyond the rate (`STATUS_QUOTA_EXCEEDED`). The booking
    /// is used up by [`Notification::booking`], or given back with `unbook`; it ends with the
    /// registration, and then means nothing. IRQL: <= DISPATCH_LEVEL.
    pub book: Option<unsafe extern "system" fn(ProviderHandle, u16, u32, *mut u64) -> i32>,
    /// Gives a booking back. One that is unknown is ignored. IRQL: <= DISPATCH_LEVEL.
    pub unbook: Option<unsafe extern "system" fn(ProviderHandle, u64)>,
    /// Asks the decider; the answer comes in a callback. Without success the callback is not
    /// called. IRQL: <= DISPATCH_LEVEL.
    pub request_async:
        Option<unsafe extern "system" fn(ProviderHandle, *const AsyncRequest) -> i32>,
    /// Fills in the accounts. IRQL: <= DISPATCH_LEVEL.
    pub statistics:
        Option<unsafe extern "system" fn(ProviderHandle, *mut ProviderStatistics) -> i32>,
    /// Adds an object to a snapshot, from the snapshot routine only. Never blocks. IRQL: <=
    /// DISPATCH_LEVEL.
    pub snapshot_add: Option<unsafe extern "system" fn(SnapshotHandle, *const Notification) -> i32>,
    /// Ends a snapshot and begins the live stream behind it, from the snapshot routine only. IRQL: <=
    /// DISPATCH_LEVEL.
    pub snapshot_live: Option<unsafe extern "system" fn(SnapshotHandle) -> i32>,
}

impl Revised for Interface {
    const FIRST: usize = offset_of!(Interface, reserve);
}

impl Interface {
    /// Whether a table of this size has the function that lies at this offset; a newer caller looks
    /// before it reads it.
    pub const fn has(size: u32, offset: usize) -> bool {
        size as usize >= offset + size_of::<usize>()
    }
}
