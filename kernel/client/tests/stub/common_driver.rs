// SPDX-License-Identifier: MIT OR Apache-2.0
//! A common driver that does nothing but write down what it is called for, and what a test tells
//! it: also what the real one does only in the wrong moment.

use fltport_abi::interface::{
    ANNOUNCE, ASK, Ask, CALLBACK_NAME, CommandHandler, Interface, Notification,
    ProviderDescription, ProviderHandle, REVOKE, Request, Revised, SnapshotHandle, SnapshotRoutine,
    UNHEARD_ROW, VERSION,
};
use fltport_abi::message::Message;
use fltport_nt::bindings::{
    STATUS_DELETE_PENDING, STATUS_OBJECT_NAME_COLLISION, STATUS_REVISION_MISMATCH, STATUS_SUCCESS,
};
use fltport_nt::ex::{CallbackObject, CallbackRegistration, Listener, PoolArc, Tag};
use fltport_nt::utf16;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::client::Number;

/// Long enough for anything that is going to happen on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const TAG: Tag = Tag::new(b"Fake");

/// What it was called for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Register,
    /// A call of any function after it had gone.
    AfterTheEnd(&'static str),
    Unregister,
    /// A number was offered.
    Number(u64),
    Lost(u16, u16, u64),
    Request(u32),
}

/// How it behaves.
#[derive(Default)]
struct Behaviour {
    calls: Vec<Call>,
    /// The calls that were here before the last announcement are another driver's.
    registered: u32,
    handler: Option<(CommandHandler, usize)>,
    reporter: Option<(SnapshotRoutine, usize)>,
    /// What the snapshot routine answered while the client registered and unregistered.
    snapshots: Vec<i32>,
    /// The default replies that were declared.
    defaults: Vec<(u16, Vec<u8>)>,
    gone: bool,
    /// So many notifications are taken, then it is being unloaded.
    takes: Option<u32>,
    /// It has begun to go, and has not revoked its table yet: nothing is taken any more.
    is_going: bool,
    /// What a request is answered with: the bytes that are written to the reply, the outcome.
    answer: (Vec<u8>, u32),
    /// An announcement comes while a client asks.
    announces_when_asked: bool,
    /// A request stays inside.
    holds: bool,
    /// A revocation comes while a client has its answer and has not used it.
    goes_when_asked: bool,
    is_of_the_first_revision: bool,
    /// What was offered happened then; 0 is now.
    times: Vec<i64>,
    /// These types are heard by nobody: with the next registration.
    quiet: u64,
    /// Where the client counts them: the first counter, and how many rows there are.
    unheard: (usize, usize),
}

static BEHAVIOUR: Mutex<Option<Behaviour>> = Mutex::new(None);
static CALLED: Condvar = Condvar::new();

fn behaviour() -> MutexGuard<'static, Option<Behaviour>> {
    BEHAVIOUR.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with<T>(f: impl FnOnce(&mut Behaviour) -> T) -> T {
    let mut behaviour = behaviour();
    let result = f(behaviour.get_or_insert_default());
    CALLED.notify_all();
    result
}

fn called(function: &'static str, call: Call) {
    with(|b| {
        let call = if b.gone {
            Call::AfterTheEnd(function)
        } else {
            call
        };
        b.calls.push(call);
    });
}

static TABLE: Interface = Interface {
    size: size_of::<Interface>() as u32,
    version: VERSION,
    register,
    unregister,
    notify,
    lost,
    request,
    listening,
    reserve: None,
    commit: None,
    discard: None,
    book: None,
    unbook: None,
    request_async: None,
    statistics: None,
    snapshot_add: None,
    snapshot_live: None,
};

/// The table's address: of this revision, or of the first one, which ends where that ended.
fn table() -> usize {
    static FIRST: OnceLock<&'static [u8]> = OnceLock::new();
    if !with(|b| b.is_of_the_first_revision) {
        return (&raw const TABLE).addr();
    }
    let first = FIRST.get_or_init(|| {
        let mut table = vec![0_u64; Interface::FIRST / 8].into_boxed_slice();
        let to = table.as_mut_ptr().cast::<u8>();
        // SAFETY: both are at least as long as the first revision's table.
        unsafe {
            (&raw const TABLE)
                .cast::<u8>()
                .copy_to_nonoverlapping(to, Interface::FIRST)
        };
        // SAFETY: the size is the table's first field.
        unsafe { to.cast::<u32>().write(Interface::FIRST as u32) };
        let bytes = Box::leak(table).as_ptr().cast::<u8>();
        // SAFETY: leaked, and so long.
        unsafe { std::slice::from_raw_parts(bytes, Interface::FIRST) }
    });
    first.as_ptr().addr()
}

/// The default replies of the last registration.
pub(crate) fn declared() -> Vec<(u16, Vec<u8>)> {
    with(|b| b.defaults.clone())
}

/// The driver. Dropping it revokes the table, if that has not been done.
pub(crate) struct CommonDriver {
    _registration: CallbackRegistration<Answer>,
    object: PoolArc<CallbackObject>,
}

struct Answer(PoolArc<CallbackObject>);

impl CommonDriver {
    /// One that answers who asks, and has not announced itself. The calls are written down anew.
    pub(crate) fn silent() -> Self {
        *behaviour() = None;
        let object = CallbackObject::open_or_create(utf16!(CALLBACK_NAME)).unwrap();
        let object = PoolArc::new(TAG, object).unwrap();
        let answer = PoolArc::new(TAG, Answer(object.clone())).unwrap();
        let registration = CallbackRegistration::new(&object, TAG, answer).unwrap();
        CommonDriver {
            _registration: registration,
            object,
        }
    }

    /// One of the interface's first revision that has announced itself.
    pub(crate) fn of_the_first_revision() -> Self {
        let driver = Self::silent();
        with(|b| b.is_of_the_first_revision = true);
        driver.announce();
        driver
    }

    /// One that has announced itself.
    pub(crate) fn announced() -> Self {
        let driver = Self::silent();
        driver.announce();
        driver
    }

    pub(crate) fn announce(&self) {
        with(|b| b.gone = false);
        self.object.notify(ANNOUNCE, table());
    }

    pub(crate) fn revoke(&self) {
        revoke(&self.object);
    }

    /// Takes so many notifications, then answers that it is being unloaded.
    pub(crate) fn takes(&self, count: u32) {
        with(|b| b.takes = Some(count));
    }

    /// Begins to go: registrations, notifications and requests are refused.
    pub(crate) fn begins_to_go(&self) {
        with(|b| (b.is_going, b.takes) = (true, Some(0)));
    }

    pub(crate) fn answers(&self, reply: &[u8], outcome: u32) {
        with(|b| b.answer = (reply.to_vec(), outcome));
    }

    /// With the next registration these types are heard by nobody.
    pub(crate) fn is_quiet(&self, types: u64) {
        with(|b| b.quiet = types);
    }

    /// How many of a type the client has counted because nobody hears them.
    pub(crate) fn unheard(&self, message: u16) -> u64 {
        let (first, rows) = with(|b| b.unheard);
        assert_ne!(rows, 0, "registered without counters");
        let first: *const AtomicU64 = std::ptr::with_exposed_provenance(first);
        let place = |row: usize| first.wrapping_add(row * UNHEARD_ROW + usize::from(message));
        // SAFETY: the client has not unregistered, and so many rows.
        let counter = |row| unsafe { &*place(row) };
        (0..rows)
            .map(|row| counter(row).load(Ordering::Relaxed))
            .sum()
    }

    /// From now on requests stay inside, or do not.
    pub(crate) fn holds(&self, holds: bool) {
        with(|b| b.holds = holds);
    }

    pub(crate) fn announces_when_asked(&self) {
        with(|b| b.announces_when_asked = true);
    }

    pub(crate) fn goes_when_asked(&self) {
        with(|b| b.goes_when_asked = true);
    }

    /// Calls the registered command handler; its status and result.
    pub(crate) fn command(&self, message: u16, payload: &[u8]) -> (i32, Vec<u8>) {
        let (routine, context) = with(|b| b.handler).expect("registered with a handler");
        let caller = fltport_abi::interface::CommandCaller {
            size: 16,
            connection: 1,
            pid: 1,
            reserved: 0,
        };
        let (mut output, mut returned) = ([0_u8; 64], 0);
        // SAFETY: as the common driver calls it.
        let status = unsafe {
            routine(
                context as *mut c_void,
                &raw const caller,
                message,
                payload.as_ptr(),
                payload.len() as u32,
                output.as_mut_ptr(),
                64,
                &raw mut returned,
            )
        };
        (status, output[..returned as usize].to_vec())
    }
}

fn revoke(object: &CallbackObject) {
    object.notify(REVOKE, table());
    with(|b| b.gone = true);
}

impl Drop for CommonDriver {
    fn drop(&mut self) {
        if !with(|b| b.gone) {
            self.revoke();
        }
    }
}

/// What was called so far.
pub(crate) fn calls() -> Vec<Call> {
    with(|b| b.calls.clone())
}

/// When what was offered had happened; 0 is then.
pub(crate) fn times() -> Vec<i64> {
    with(|b| b.times.clone())
}

/// Waits until something has been called.
pub(crate) fn wait_for(call: &Call) -> Vec<Call> {
    wait_until(|b| b.calls.contains(call), PATIENCE);
    let calls = calls();
    assert!(calls.contains(call), "{call:?} does not come: {calls:?}");
    calls
}

/// Waits until so many notifications have been taken or told to be lost; no more may be.
pub(crate) fn wait_for_total(total: u64) -> Vec<Call> {
    let counted = |b: &Behaviour| -> u64 {
        let count = |call: &Call| match call {
            Call::Number(_) => 1,
            Call::Lost(_, _, count) => *count,
            _ => 0,
        };
        b.calls.iter().map(count).sum()
    };
    wait_until(|b| counted(b) >= total, PATIENCE);
    assert_eq!(with(|b| counted(b)), total);
    calls()
}

fn wait_until(done: impl Fn(&Behaviour) -> bool, patience: Duration) {
    let deadline = Instant::now() + patience;
    let mut guard = behaviour();
    while !done(guard.get_or_insert_default()) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        guard = CALLED
            .wait_timeout(guard, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

impl Listener for Answer {
    fn notified(&self, argument1: usize, argument2: usize) {
        if argument1 != ASK || with(|b| b.gone) {
            return;
        }
        // SAFETY: a client asks with a valid place.
        unsafe { (*(argument2 as *mut Ask)).interface = table() as *const Interface };
        if with(|b| b.announces_when_asked) {
            self.0.notify(ANNOUNCE, table());
            // By the client's work item, before it has the answer to its question.
            wait_until(|b| b.registered > 0, PATIENCE);
        }
        if with(|b| b.goes_when_asked) {
            let object = self.0.clone();
            std::thread::spawn(move || revoke(&object));
            // As long as the client is inside, the revocation must not come to its end; so this
            // waits in vain, if all is well.
            wait_until(|b| b.gone, Duration::from_millis(300));
        }
    }
}

unsafe extern "system" fn register(
    description: *const ProviderDescription,
    handle: *mut ProviderHandle,
) -> i32 {
    called("register", Call::Register);
    // SAFETY: the client passes a valid description.
    let description = unsafe { &*description };
    if description.version != VERSION {
        return STATUS_REVISION_MISMATCH;
    }
    if with(|b| b.is_going) {
        return STATUS_DELETE_PENDING;
    }
    let first = with(|b| {
        b.registered += 1;
        b.handler = description
            .on_command
            .map(|routine| (routine, description.context.expose_provenance()));
        b.reporter = description
            .on_snapshot
            .map(|routine| (routine, description.context.expose_provenance()));
        b.registered == 1
    });
    if !first {
        return STATUS_OBJECT_NAME_COLLISION;
    }
    note_snapshot();
    let defaults = (0..description.default_count as usize).map(|n| {
        // SAFETY: there are so many rows, all of them of this revision.
        let row = unsafe { description.defaults.add(n) };
        // SAFETY: within these.
        let row = unsafe { &*row };
        // SAFETY: which say where so many bytes are.
        let reply = unsafe { std::slice::from_raw_parts(row.reply, row.length as usize) };
        (row.message, reply.to_vec())
    });
    let defaults = defaults.collect();
    with(|b| b.defaults = defaults);
    // A second registration at the same time would come now.
    if with(|b| b.announces_when_asked) {
        wait_until(|b| b.registered > 1, Duration::from_millis(300));
    }
    // The client's word is valid until it unregisters: notifications with number 1 are wanted. But the first revision does not know of it.
    if !with(|b| b.is_of_the_first_revision) {
        // SAFETY: as said.
        unsafe { description.interest.write(1 << 1) };
    }
    let quiet = with(|b| {
        let first = description.unheard.expose_provenance();
        b.unheard = (first, description.unheard_rows as usize);
        b.quiet
    });
    if quiet != 0 {
        // SAFETY: as for the word of who listens.
        unsafe { description.quiet.write(quiet) };
    }
    // SAFETY: and a valid place.
    unsafe { handle.write(ProviderHandle(0x1000)) };
    STATUS_SUCCESS
}

/// A service subscribes just now, and wants a snapshot.
fn note_snapshot() {
    if let Some(status) = snapshot() {
        with(|b| b.snapshots.push(status));
    }
}

/// What the snapshot routine says, if there is one.
pub(crate) fn snapshot() -> Option<i32> {
    let (routine, context) = with(|b| b.reporter)?;
    // SAFETY: as the common driver calls it; the routine of a client that is not ready, or has no
    // snapshots, does not use the handle.
    Some(unsafe { routine(context as *mut c_void, SnapshotHandle(0), 0) })
}

/// What it said while the client registered and unregistered.
pub(crate) fn snapshots() -> Vec<i32> {
    with(|b| b.snapshots.clone())
}

unsafe extern "system" fn unregister(_handle: ProviderHandle) {
    called("unregister", Call::Unregister);
    note_snapshot();
    with(|b| (b.registered, b.handler, b.reporter) = (0, None, None));
}

unsafe extern "system" fn notify(
    _handle: ProviderHandle,
    notification: *const Notification,
) -> i32 {
    // SAFETY: the client passes a valid notification.
    let notification = unsafe { &*notification };
    let refused = with(|b| match &mut b.takes {
        Some(0) => true,
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    });
    if refused {
        return STATUS_DELETE_PENDING;
    }
    // SAFETY: whose payload is valid.
    let payload =
        unsafe { std::slice::from_raw_parts(notification.payload, notification.length as usize) };
    with(|b| b.times.push(notification.time));
    let number = Number::decode(payload).expect("a number").number;
    called("notify", Call::Number(number));
    STATUS_SUCCESS
}

unsafe extern "system" fn lost(_handle: ProviderHandle, message: u16, cause: u16, count: u64) {
    called("lost", Call::Lost(message, cause, count));
}

unsafe extern "system" fn request(_handle: ProviderHandle, request: *mut Request) -> i32 {
    // SAFETY: the client passes a valid request.
    let request = unsafe { &mut *request };
    called("request", Call::Request(request.deadline_ms));
    if with(|b| b.is_going) {
        return STATUS_DELETE_PENDING;
    }
    wait_until(|b| !b.holds, PATIENCE);
    let (answer, outcome) = with(|b| b.answer.clone());
    // SAFETY: whose reply is valid for its length.
    let reply =
        unsafe { std::slice::from_raw_parts_mut(request.reply, request.reply_length as usize) };
    reply[..answer.len()].copy_from_slice(&answer);
    request.outcome = outcome;
    STATUS_SUCCESS
}

unsafe extern "system" fn listening(_handle: ProviderHandle, message: u16) -> u8 {
    (message == 1).into()
}
