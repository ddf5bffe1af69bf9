// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver of these tests as a filter with a communication port, and the service that it talks
//! to.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use fltport_nt::bindings::*;
use nt_host::flt::{GetOutcome, UserPort};
use nt_host::{Kernel, Report, UserSlice, clock};

use crate::driver::{self, NAME};
use crate::support;

pub(crate) const PORT: &str = "\\Lifetime";
/// One second, relative.
pub(crate) const SECOND: i64 = -10_000_000;

type Action = Arc<dyn Fn() + Send + Sync>;

/// What the callbacks do; none does more than a good driver's.
#[derive(Clone, Default)]
pub(crate) struct Callbacks {
    /// Inside ConnectNotify, when the variable holds the port.
    pub(crate) connect: Option<Action>,
    /// Instead of closing the client port in DisconnectNotify.
    pub(crate) disconnect: Option<Action>,
    /// Inside MessageNotify.
    pub(crate) message: Option<Action>,
    /// Inside the instance-setup callback.
    pub(crate) setup: Option<Action>,
}

/// Wraps an action.
pub(crate) fn action(f: impl Fn() + Send + Sync + 'static) -> Option<Action> {
    Some(Arc::new(f))
}

static CALLBACKS: Mutex<Option<Callbacks>> = Mutex::new(None);
/// The driver's variables.
pub(crate) static FILTER: AtomicIsize = AtomicIsize::new(0);
pub(crate) static SERVER: AtomicIsize = AtomicIsize::new(0);
pub(crate) static CLIENT: AtomicIsize = AtomicIsize::new(0);

pub(crate) fn set_callbacks(callbacks: Callbacks) {
    *CALLBACKS.lock().unwrap() = Some(callbacks);
}

fn callbacks() -> Callbacks {
    CALLBACKS
        .lock()
        .unwrap()
        .clone()
        .expect("a test sets the callbacks")
}

unsafe extern "system" fn connect(
    port: PFLT_PORT,
    _server_cookie: *const c_void,
    _context: *const c_void,
    _length: u32,
    _cookie: *mut *mut c_void,
) -> NTSTATUS {
    CLIENT.store(port, Ordering::SeqCst);
    if let Some(connect) = callbacks().connect {
        connect();
    }
    STATUS_SUCCESS
}

unsafe extern "system" fn disconnect(_cookie: *const c_void) {
    match callbacks().disconnect {
        Some(disconnect) => disconnect(),
        None => close_client(&CLIENT),
    }
}

unsafe extern "system" fn message(
    _cookie: *const c_void,
    _input: *const c_void,
    _input_length: u32,
    _output: *mut c_void,
    _output_length: u32,
    returned: *mut u32,
) -> NTSTATUS {
    // SAFETY: the Filter Manager passes a variable.
    unsafe { returned.write(0) };
    if let Some(message) = callbacks().message {
        message();
    }
    STATUS_SUCCESS
}

unsafe extern "system" fn filter_unload(_flags: u32) -> NTSTATUS {
    STATUS_SUCCESS
}

unsafe extern "system" fn setup(
    _objects: *const FLT_RELATED_OBJECTS,
    _flags: u32,
    _device: u32,
    _file_system: FLT_FILESYSTEM_TYPE,
) -> NTSTATUS {
    if let Some(setup) = callbacks().setup {
        setup();
    }
    STATUS_FLT_DO_NOT_ATTACH
}

/// Registers the filter.
pub(crate) fn register(object: *mut DRIVER_OBJECT) {
    let filter = support::filter::register(object, Some(filter_unload), Some(setup));
    FILTER.store(filter, Ordering::SeqCst);
}

/// How a port is created, where it differs from a good one.
pub(crate) struct NewPort {
    pub(crate) flags: u32,
    pub(crate) name: &'static str,
    pub(crate) connect: PFLT_CONNECT_NOTIFY,
    pub(crate) disconnect: PFLT_DISCONNECT_NOTIFY,
    pub(crate) message: PFLT_MESSAGE_NOTIFY,
    pub(crate) max_connections: i32,
}

impl Default for NewPort {
    fn default() -> NewPort {
        NewPort {
            flags: OBJ_KERNEL_HANDLE,
            name: PORT,
            connect: Some(connect),
            disconnect: Some(disconnect),
            message: Some(message),
            max_connections: 2,
        }
    }
}

pub(crate) fn create_port(with: NewPort) -> NTSTATUS {
    let attributes = support::attributes(with.name, null_mut(), with.flags);
    // SAFETY: a registered filter, valid attributes, memory for the result.
    unsafe {
        FltCreateCommunicationPort(
            FILTER.load(Ordering::SeqCst),
            SERVER.as_ptr(),
            &raw const attributes,
            null(),
            with.connect,
            with.disconnect,
            with.message,
            with.max_connections,
        )
    }
}

pub(crate) fn start() -> NTSTATUS {
    // SAFETY: a filter, unless a test means another.
    unsafe { FltStartFiltering(FILTER.load(Ordering::SeqCst)) }
}

pub(crate) fn close_server() {
    // SAFETY: a server port, unless a test means another.
    unsafe { FltCloseCommunicationPort(SERVER.load(Ordering::SeqCst)) };
}

pub(crate) fn close_client(variable: &AtomicIsize) {
    // SAFETY: the filter and a variable.
    unsafe { FltCloseClientPort(FILTER.load(Ordering::SeqCst), variable.as_ptr()) };
}

pub(crate) fn unregister() {
    // SAFETY: a filter, unless a test means another.
    unsafe { FltUnregisterFilter(FILTER.load(Ordering::SeqCst)) };
    // Not a tail call, which would take this function off the stack.
    std::hint::black_box(());
}

pub(crate) fn reference() {
    // SAFETY: the registered filter.
    let status = unsafe { FltObjectReference(FILTER.load(Ordering::SeqCst) as *mut c_void) };
    assert_eq!(status, STATUS_SUCCESS);
}

pub(crate) fn release() {
    // SAFETY: a filter, unless a test means another.
    unsafe { FltObjectDereference(FILTER.load(Ordering::SeqCst) as *mut c_void) };
}

/// Sends without a reply, through a variable.
pub(crate) fn send(variable: &AtomicIsize, timeout: Option<i64>) -> NTSTATUS {
    let timeout = timeout.as_ref().map_or(null(), std::ptr::from_ref);
    // SAFETY: the filter, a variable, a message, and a time or null.
    unsafe {
        FltSendMessage(
            FILTER.load(Ordering::SeqCst),
            variable.as_ptr(),
            b"message".as_ptr().cast(),
            7,
            null_mut(),
            null_mut(),
            timeout,
        )
    }
}

/// Sends and waits for a reply in a buffer, whose length lies in a variable.
pub(crate) fn ask(reply: &mut [u8], length: &mut u32) -> NTSTATUS {
    // SAFETY: the filter, the variable, a message, a buffer, its length, and a time.
    unsafe {
        FltSendMessage(
            FILTER.load(Ordering::SeqCst),
            CLIENT.as_ptr(),
            b"question".as_ptr().cast(),
            8,
            reply.as_mut_ptr().cast(),
            length,
            &(20 * SECOND),
        )
    }
}

/// A kernel in which the filter can register.
pub(crate) fn boot() -> Kernel {
    let kernel = driver::boot();
    for variable in [&FILTER, &SERVER, &CLIENT] {
        variable.store(0, Ordering::SeqCst);
    }
    support::filter::install(&kernel, NAME, "365001");
    kernel
}

/// As [`boot`], where waits that others will end do not count as hangs, however slow they are.
pub(crate) fn boot_patiently() -> Kernel {
    let kernel = boot();
    nt_host::flt::configure(nt_host::flt::Decisions::default(), 60 * clock::SECOND);
    kernel
}

/// What a good filter does at its entry and at its unload.
pub(crate) fn begin(object: *mut DRIVER_OBJECT) {
    register(object);
    assert_eq!(create_port(NewPort::default()), STATUS_SUCCESS);
    assert_eq!(start(), STATUS_SUCCESS);
}

pub(crate) fn end(_: *mut DRIVER_OBJECT) {
    close_server();
    unregister();
}

/// A life of the filter, in which `meanwhile` happens.
pub(crate) fn life(
    callbacks: Callbacks,
    meanwhile: impl FnOnce(&Kernel),
    unload: impl Fn(*mut DRIVER_OBJECT) + Send + Sync + 'static,
) -> Vec<Report> {
    let kernel = boot();
    set_callbacks(callbacks);
    driver::load(&kernel, begin, unload);
    meanwhile(&kernel);
    driver::unload_it(&kernel);
    kernel.shutdown()
}

/// A life in which the driver does something before it ends in order, in no callback of the filter.
pub(crate) fn doing(f: impl Fn() + Send + Sync + 'static) -> Vec<Report> {
    let unload = move |object: *mut DRIVER_OBJECT| {
        f();
        end(object);
    };
    life(Callbacks::default(), |_| {}, unload)
}

/// A life in which the driver does something in MessageNotify while a service is connected, which
/// reads messages and answers each with so many bytes.
pub(crate) fn serving(reply: Option<usize>, f: impl Fn() + Send + Sync + 'static) -> Vec<Report> {
    serving_each(reply.into_iter().cycle(), f)
}

/// As [`serving`], and the service answers each message with the next of these numbers of bytes.
pub(crate) fn serving_each(
    mut replies: impl Iterator<Item = usize> + Send,
    f: impl Fn() + Send + Sync + 'static,
) -> Vec<Report> {
    let callbacks = Callbacks {
        message: action(f),
        ..Default::default()
    };
    let meanwhile = move |kernel: &Kernel| {
        let service = connect_service(kernel);
        std::thread::scope(|scope| {
            let answering = scope.spawn(|| serve(&service, &mut replies));
            command(kernel, &service);
            service.cancel(None);
            service.close();
            answering.join().unwrap();
        });
    };
    life(callbacks, meanwhile, end)
}

/// A service of this process connects.
pub(crate) fn connect_service(kernel: &Kernel) -> Arc<UserPort> {
    let caller = kernel.peer(std::process::id(), 0);
    UserPort::connect(&caller, &support::wide(PORT), b"").unwrap()
}

/// The service sends a command: MessageNotify runs in this thread.
pub(crate) fn command(kernel: &Kernel, service: &UserPort) {
    let caller = kernel.peer(std::process::id(), 0);
    let empty = UserSlice::default();
    assert_eq!(service.send(&caller, empty, empty).0, STATUS_SUCCESS);
}

/// Pends a get; its outcome.
fn get(service: &UserPort) -> Receiver<GetOutcome> {
    let (sender, receiver) = channel();
    service.get(
        256,
        Box::new(move |outcome| {
            // The test may have ended already.
            let _ = sender.send(outcome);
        }),
    );
    receiver
}

/// Reads messages until the connection ends, and answers them.
fn serve(service: &UserPort, replies: &mut impl Iterator<Item = usize>) {
    const ID: std::ops::Range<usize> = 8..16;
    while let Ok(GetOutcome::Message(bytes)) = get(service).recv() {
        if let Some(length) = replies.next() {
            let mut answer = vec![0; 16 + length];
            answer[ID].copy_from_slice(&bytes[ID]);
            assert_eq!(service.reply(&answer), STATUS_SUCCESS);
        }
    }
}
