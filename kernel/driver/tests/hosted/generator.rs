// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client driver that does what a test tells it.

use crate::machine::Machine;
use fltport_abi::account::Outcome;
use fltport_abi::message::Message;
use fltport_client::{
    Answer, BacklogPolicy, CommandCaller, DefaultReply, Handler, Options, Provider, Snapshot,
};
use fltport_nt::bindings::{
    DRIVER_OBJECT, NTSTATUS, STATUS_ACCESS_DENIED, STATUS_INVALID_DEVICE_REQUEST, UNICODE_STRING,
};
use fltport_nt::ex::{Global, PoolArc, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::status::to_status;
use fltport_nt::{NtError, Result};
use nt_host::DriverImage;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

fltport_abi::messages! {
    /// The generator.
    provider PROVIDER = "generator";

    /// A number and some bytes.
    notification 1 "blob" Blob<'a> {
        /// Counted by the test.
        number: u64,
        /// Anything.
        data: &'a [u8],
    }

    /// A question.
    request 2 "question" Question {
        /// Counted by the test.
        number: u64,
    } -> /// Its answer.
    Reply {
        /// Whatever.
        number: u64,
    }

    /// Gives back what it is given.
    command 3 "echo" Echo<'a> {
        /// Anything.
        data: &'a [u8],
    } -> /// The same.
    Echoed<'a> {
        /// The same.
        data: &'a [u8],
    }
}

const TAG: Tag = Tag::new(b"Gene");
static GENERATOR: Global<Provider<EchoHandler>> = Global::empty();
static BACKLOG: AtomicU32 = AtomicU32::new(0);
/// For the next command: tells that its handler is inside, and waits until it is released.
static HOLD: Mutex<Option<(Sender<()>, Receiver<Infallible>)>> = Mutex::new(None);
static POLICY_KEEPS_OLDEST: AtomicU32 = AtomicU32::new(0);

pub(crate) struct EchoHandler;

impl Handler for EchoHandler {
    fn command(
        &self,
        _: &CommandCaller,
        message: u16,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        if message != 3 || out.len() < payload.len() {
            return Err(NtError(STATUS_INVALID_DEVICE_REQUEST));
        }
        let hold = HOLD.lock().unwrap().take();
        if let Some((inside, released)) = hold {
            inside.send(()).expect("the test waits for this");
            // An error: the other end is dropped, which is the release.
            released.recv().unwrap_err();
        }
        out[..payload.len()].copy_from_slice(payload);
        Ok(payload.len())
    }

    fn snapshot(&self, snapshot: &Snapshot<'_>) -> Result<()> {
        if SNAPSHOT_FAILS.load(Ordering::SeqCst) != 0 {
            return Err(NtError(STATUS_ACCESS_DENIED));
        }
        let objects = OBJECTS.lock().unwrap();
        for (number, data) in &*objects {
            snapshot.add(&Blob {
                number: *number,
                data,
            })?;
        }
        // Under the lock that orders the notifications.
        snapshot.live()
    }
}

/// The objects that the driver has: what its snapshots report.
static OBJECTS: Mutex<BTreeMap<u64, Vec<u8>>> = Mutex::new(BTreeMap::new());
static SNAPSHOT_FAILS: AtomicU32 = AtomicU32::new(0);

/// Changes an object and tells of it, as one.
pub(crate) fn put(number: u64, data: &[u8]) {
    let mut objects = OBJECTS.lock().unwrap();
    objects.insert(number, data.to_vec());
    blob(number, data);
}

/// The objects as they are.
pub(crate) fn objects() -> BTreeMap<u64, Vec<u8>> {
    OBJECTS.lock().unwrap().clone()
}

/// Whether the snapshot routine fails from now on.
pub(crate) fn fail_snapshots(fail: bool) {
    SNAPSHOT_FAILS.store(fail.into(), Ordering::SeqCst);
}

/// The driver's image; it will declare this backlog. For a machine, because there is one at a time: what is set here is
/// the driver's, and who has none yet would set it under the hands of the test whose turn it is.
pub(crate) fn image(_: &Machine, backlog: u32, policy: BacklogPolicy) -> DriverImage {
    BACKLOG.store(backlog, Ordering::SeqCst);
    OBJECTS.lock().unwrap().clear();
    fail_snapshots(false);
    POLICY_KEEPS_OLDEST.store(policy as u32, Ordering::SeqCst);
    DriverImage {
        name: "generator",
        entry,
        force_integrity: false,
    }
}

unsafe extern "system" fn entry(driver: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the hosted kernel passes this driver's object.
    let driver = unsafe { DriverObject::new(driver) };
    driver.set_unload(unload);
    let policy = match POLICY_KEEPS_OLDEST.load(Ordering::SeqCst) {
        0 => BacklogPolicy::KeepNewest,
        _ => BacklogPolicy::KeepOldest,
    };
    let options = Options::new(TAG)
        .backlog(BACKLOG.load(Ordering::SeqCst), policy)
        .default_replies(DEFAULTS);
    let registered = Provider::register(driver, &PROVIDER, EchoHandler, options);
    to_status(registered.and_then(|provider| {
        GENERATOR.replace(Some(PoolArc::new(TAG, provider)?));
        Ok(())
    }))
}

unsafe extern "system" fn unload(_: *const DRIVER_OBJECT) {
    drop(GENERATOR.replace(None));
}

pub(crate) fn provider() -> PoolArc<Provider<EchoHandler>> {
    GENERATOR.get().expect("the generator is loaded")
}

/// Offers a blob, as the driver would.
pub(crate) fn blob(number: u64, data: &[u8]) {
    provider()
        .notify(&Blob { number, data })
        .expect("accounted for");
}

/// Offers a blob in room that is booked for it, or without if there is none.
pub(crate) fn booked_blob(number: u64, data: &[u8]) {
    let provider = provider();
    let blob = Blob { number, data };
    let offered = match provider.book::<Blob<'_>>(blob.encoded_len()) {
        Ok(room) => room.notify(&blob),
        Err(_) => provider.notify(&blob),
    };
    offered.expect("accounted for");
}

/// Offers a blob that is filled in where it lies; without memory it is lost.
pub(crate) fn filled_in_blob(number: u64, data: &[u8]) {
    let provider = provider();
    let blob = Blob { number, data };
    if let Ok(mut place) = provider.reserve::<Blob<'_>>(blob.encoded_len()) {
        let length = blob.encode(&mut place).expect("fits");
        place.commit(length).expect("accounted for");
    }
}

/// What questions are answered with when nobody answers them.
const DEFAULTS: &[DefaultReply] = &[DefaultReply::to::<Question>(&Reply { number: 0 })];

/// Asks, as the driver would; the declared default is 0.
pub(crate) fn question(number: u64, deadline_ms: u32) -> Answer<Reply> {
    provider()
        .ask(&Question { number }, deadline_ms, None)
        .expect("asked")
}

/// As [`question`], where calls may fail.
pub(crate) fn try_question(number: u64, deadline_ms: u32) -> Result<Answer<Reply>> {
    provider().ask(&Question { number }, deadline_ms, None)
}

/// Asks without waiting; the default is 0.
pub(crate) fn ask_async(
    number: u64,
    deadline_ms: u32,
    then: impl FnOnce(Answer<Reply>) + Send + 'static,
) -> Result<()> {
    provider().ask_async(&Question { number }, deadline_ms, None, then)
}

pub(crate) fn is_listening(message: u16) -> bool {
    provider().is_listening(message)
}

/// The handler of the next command stays inside until the sender is dropped; the receiver hears
/// that it is there.
pub(crate) fn hold_next_command() -> (Receiver<()>, Sender<Infallible>) {
    let ((inside, is_inside), (release, released)) = (channel(), channel());
    *HOLD.lock().unwrap() = Some((inside, released));
    (is_inside, release)
}

/// A question's outcome.
pub(crate) fn outcome(number: u64, deadline_ms: u32) -> Outcome {
    question(number, deadline_ms).outcome
}
