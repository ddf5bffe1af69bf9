// SPDX-License-Identifier: MIT OR Apache-2.0
//! Common drivers of three revisions, which write down what they are called for.

use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fltport_abi::interface::{
    ANNOUNCE, ASK, Ask, AsyncRequest, CALLBACK_NAME, Completion, Interface, Notification,
    ProviderDescription, ProviderHandle, ProviderStatistics, REVOKE, Request, Reservation, Revised,
    SnapshotHandle, UNHEARD_ROW, VERSION,
};
use fltport_nt::bindings::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use fltport_nt::ex::{CallbackObject, CallbackRegistration, Listener, PoolArc, Tag};
use fltport_nt::utf16;

const TAG: Tag = Tag::new(b"Fake");
const HANDLE: ProviderHandle = ProviderHandle(0x1000);
const RESERVED: usize = 0x2000;
const BOOKING: u64 = 7;

/// What it was called for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Register,
    Unregister,
    /// A number was offered.
    Number(u64),
    /// The same, where it had been reserved.
    Committed(u64),
    Discarded,
    /// The same, with the room that was booked.
    Booked(u64),
    Unbooked,
    Request,
    Async,
}

impl Call {
    /// The number that was offered.
    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Call::Number(number) | Call::Committed(number) | Call::Booked(number) => Some(*number),
            _ => None,
        }
    }
}

/// Which functions it has, and how large its structs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revision {
    /// 1.0: six functions. Where the others would be is something else.
    First,
    /// This one.
    Today,
    /// One with more functions, and with structs that have more fields.
    Later,
}

/// A function table with something behind it.
#[repr(C)]
struct Table {
    interface: Interface,
    behind: [usize; 8],
}

static CALLS: Mutex<Vec<Call>> = Mutex::new(Vec::new());
static CALLED: Condvar = Condvar::new();
static SNAPSHOT_WHILE_REGISTERING: AtomicI32 = AtomicI32::new(0);
/// The types that nobody hears, for who registers next.
static QUIET: AtomicU64 = AtomicU64::new(0);
/// Where the client counts them: the first counter, and how many rows there are.
static UNHEARD: Mutex<(usize, usize)> = Mutex::new((0, 0));
static RESERVATION: Mutex<[u64; 8]> = Mutex::new([0; 8]);

fn calls_so_far() -> MutexGuard<'static, Vec<Call>> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn called(call: Call) {
    calls_so_far().push(call);
    CALLED.notify_all();
}

/// What was called so far.
pub(crate) fn calls() -> Vec<Call> {
    calls_so_far().clone()
}

/// What the client's snapshot routine said to a service that subscribed while it registered.
pub(crate) fn snapshot_while_registering() -> i32 {
    SNAPSHOT_WHILE_REGISTERING.load(Ordering::Relaxed)
}

/// Waits until this has been called.
pub(crate) fn wait_for(call: &Call) {
    wait_until(|calls| calls.contains(call));
}

/// Waits until so many numbers have been offered.
pub(crate) fn wait_for_numbers(count: usize) {
    wait_until(|calls| calls.iter().filter_map(Call::number).count() >= count);
}

fn wait_until(done: impl Fn(&[Call]) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut calls = calls_so_far();
    while !done(&calls) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "it does not come: {} calls", calls.len());
        calls = CALLED
            .wait_timeout(calls, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

/// The driver. Dropping it revokes the table.
pub(crate) struct CommonDriver {
    _registration: CallbackRegistration<Answer>,
    object: CallbackObject,
    table: usize,
}

struct Answer(usize);

impl CommonDriver {
    /// One that has announced itself. The calls are written down anew.
    pub(crate) fn announced(revision: Revision) -> Self {
        calls_so_far().clear();
        // Never freed: as large as a table of the program would be.
        let table = (&raw const *Box::leak(Box::new(table(revision)))).addr();
        let object = CallbackObject::open_or_create(utf16!(CALLBACK_NAME)).unwrap();
        let answer = PoolArc::new(TAG, Answer(table)).unwrap();
        let registration = CallbackRegistration::new(&object, TAG, answer).unwrap();
        object.notify(ANNOUNCE, table);
        CommonDriver {
            _registration: registration,
            object,
            table,
        }
    }
}

impl CommonDriver {
    pub(crate) fn announce(&self) {
        self.object.notify(ANNOUNCE, self.table);
    }

    pub(crate) fn revoke(&self) {
        self.object.notify(REVOKE, self.table);
    }
}

impl Drop for CommonDriver {
    fn drop(&mut self) {
        self.revoke();
    }
}

impl Listener for Answer {
    fn notified(&self, argument1: usize, argument2: usize) {
        if argument1 == ASK {
            // SAFETY: a client asks with a valid place.
            unsafe { (*(argument2 as *mut Ask)).interface = self.0 as *const Interface };
        }
    }
}

fn table(revision: Revision) -> Table {
    let size = match revision {
        Revision::First => Interface::FIRST,
        Revision::Today => size_of::<Interface>(),
        Revision::Later => size_of::<Table>(),
    };
    let mut interface = Interface {
        size: size as u32,
        version: VERSION,
        register,
        unregister,
        notify,
        lost,
        request,
        listening,
        reserve: Some(reserve),
        commit: Some(commit),
        discard: Some(discard),
        book: Some(book),
        unbook: Some(unbook),
        request_async: Some(request_async),
        statistics: Some(statistics),
        snapshot_add: Some(snapshot_add),
        snapshot_live: Some(snapshot_live),
    };
    if revision == Revision::First {
        let behind = size_of::<Interface>() - Interface::FIRST;
        let place = (&raw mut interface)
            .cast::<u8>()
            .wrapping_add(Interface::FIRST);
        // SAFETY: within the struct; function pointers that may be called are any but null. These
        // must not be: the table ends before them, and nothing lies at that address.
        unsafe { place.write_bytes(0x11, behind) };
    }
    Table {
        interface,
        behind: [0x1111_1111_1111_1111; 8],
    }
}

/// Whether the struct at this address is as long as the first revision's.
fn is_long_enough<T: Revised>(place: *const T) -> bool {
    // SAFETY: the client passes a valid struct, which begins with its size.
    let size = unsafe { place.cast::<u32>().read() } as usize;
    // A later revision knows more; it takes the rest for 0.
    size >= T::FIRST && size <= size_of::<T>()
}

unsafe extern "system" fn register(
    description: *const ProviderDescription,
    handle: *mut ProviderHandle,
) -> i32 {
    if !is_long_enough(description) {
        return STATUS_INVALID_PARAMETER;
    }
    called(Call::Register);
    // SAFETY: a valid description of a client of this revision.
    if let Some(report) = unsafe { (*description).on_snapshot } {
        // SAFETY: as above.
        let context = unsafe { (*description).context };
        // SAFETY: the client's own routine, as for a service that subscribes at once.
        let status = unsafe { report(context, SnapshotHandle(0), u64::MAX) };
        SNAPSHOT_WHILE_REGISTERING.store(status, Ordering::Relaxed);
    }
    note_counters(description);
    // SAFETY: a valid place.
    unsafe { handle.write(HANDLE) };
    STATUS_SUCCESS
}

fn note_counters(description: *const ProviderDescription) {
    let quiet = QUIET.load(Ordering::Relaxed);
    if quiet == 0 {
        return;
    }
    // SAFETY: a valid description of a client of this revision.
    let description = unsafe { &*description };
    let rows = description.unheard_rows as usize;
    let first = description.unheard.expose_provenance();
    *UNHEARD.lock().unwrap_or_else(PoisonError::into_inner) = (first, rows);
    // SAFETY: the client's word, valid until it unregisters.
    unsafe { description.quiet.write(quiet) };
}

/// With the next registration these types are heard by nobody.
pub(crate) fn are_quiet(types: u64) {
    QUIET.store(types, Ordering::Relaxed);
}

/// How many of a type a client that is registered has counted because nobody hears them.
pub(crate) fn unheard(message: u16) -> u64 {
    let (first, rows) = *UNHEARD.lock().unwrap_or_else(PoisonError::into_inner);
    let first: *const AtomicU64 = std::ptr::with_exposed_provenance(first);
    let place = |row: usize| first.wrapping_add(row * UNHEARD_ROW + usize::from(message));
    // SAFETY: it has so many rows, and has not unregistered.
    let counter = |row| unsafe { &*place(row) };
    (0..rows)
        .map(|row| counter(row).load(Ordering::Relaxed))
        .sum()
}

unsafe extern "system" fn unregister(handle: ProviderHandle) {
    assert_eq!(handle, HANDLE);
    called(Call::Unregister);
}

unsafe extern "system" fn notify(handle: ProviderHandle, notification: *const Notification) -> i32 {
    assert_eq!(handle, HANDLE);
    if !is_long_enough(notification) {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: a valid notification.
    let payload = unsafe { (*notification).payload }.cast::<u64>();
    // SAFETY: which is a number.
    let number = unsafe { payload.read_unaligned() };
    // SAFETY: the client has this revision's struct.
    let booking = unsafe { (*notification).booking };
    called(match booking {
        BOOKING => Call::Booked(number),
        _ => Call::Number(number),
    });
    STATUS_SUCCESS
}

unsafe extern "system" fn lost(_: ProviderHandle, message: u16, cause: u16, count: u64) {
    panic!("{count} of {message} are lost: {cause}");
}

unsafe extern "system" fn request(handle: ProviderHandle, request: *mut Request) -> i32 {
    assert_eq!(handle, HANDLE);
    if !is_long_enough(request.cast_const()) {
        return STATUS_INVALID_PARAMETER;
    }
    called(Call::Request);
    // SAFETY: a valid request, of which every revision has this field. Nobody decides.
    unsafe { (*request).outcome = 2 };
    STATUS_SUCCESS
}

unsafe extern "system" fn listening(_: ProviderHandle, _: u16) -> u8 {
    1
}

unsafe extern "system" fn reserve(_: ProviderHandle, reservation: *mut Reservation) -> i32 {
    let mut place = RESERVATION.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(is_long_enough(reservation.cast_const()));
    // SAFETY: a valid reservation.
    unsafe { (*reservation).payload = place.as_mut_ptr().cast() };
    // SAFETY: as above.
    unsafe { (*reservation).handle = RESERVED };
    STATUS_SUCCESS
}

unsafe extern "system" fn commit(
    handle: ProviderHandle,
    reserved: usize,
    fixed: u16,
    length: u32,
    _: i64,
) -> i32 {
    assert_eq!((handle, reserved, fixed, length), (HANDLE, RESERVED, 8, 8));
    let place = RESERVATION.lock().unwrap_or_else(PoisonError::into_inner);
    called(Call::Committed(place[0]));
    STATUS_SUCCESS
}

unsafe extern "system" fn discard(_: ProviderHandle, reserved: usize) {
    assert_eq!(reserved, RESERVED);
    called(Call::Discarded);
}

unsafe extern "system" fn book(_: ProviderHandle, _: u16, _: u32, booking: *mut u64) -> i32 {
    // SAFETY: a valid place.
    unsafe { booking.write(BOOKING) };
    STATUS_SUCCESS
}

unsafe extern "system" fn unbook(_: ProviderHandle, booking: u64) {
    assert_eq!(booking, BOOKING);
    called(Call::Unbooked);
}

unsafe extern "system" fn request_async(_: ProviderHandle, request: *const AsyncRequest) -> i32 {
    called(Call::Async);
    // SAFETY: a valid request.
    let request = unsafe { &*request };
    let completion = Completion {
        size: size_of::<Completion>() as u32,
        message: request.message,
        reserved: 0,
        outcome: 2,
        waited_us: 1,
        reply: request.reply,
        reply_length: request.reply_length,
        reserved2: 0,
    };
    let routine = request.on_completion.expect("a routine");
    let context: *mut c_void = request.context;
    // SAFETY: as the client wants to be called.
    unsafe { routine(context, &raw const completion) };
    STATUS_SUCCESS
}

unsafe extern "system" fn statistics(
    _: ProviderHandle,
    statistics: *mut ProviderStatistics,
) -> i32 {
    assert!(is_long_enough(statistics.cast_const()));
    // SAFETY: a valid place.
    unsafe { (*statistics).offered = 3 };
    STATUS_SUCCESS
}

unsafe extern "system" fn snapshot_add(_: SnapshotHandle, _: *const Notification) -> i32 {
    panic!("nobody subscribes");
}

unsafe extern "system" fn snapshot_live(_: SnapshotHandle) -> i32 {
    panic!("nobody subscribes");
}
