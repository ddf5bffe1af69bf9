// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver of the tests. What its callbacks do is put into [`hooks`] by the test; there is one
//! kernel at a time in a process, so there is one such driver at a time.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use parking_lot::Mutex;

use crate::abi::*;
use crate::flt::{GetOutcome, UserPort};
use crate::registry::Value;
use crate::{Config, DriverImage, FilterManagerStart, Kernel, Report, Rule, Unload};

pub(super) const SERVICE: &str = "flttest";
pub(super) const NAME: &str = "\\FltTest";
pub(super) const INSTANCES: &str =
    "\\Registry\\Machine\\System\\CurrentControlSet\\Services\\flttest\\Instances";
/// One second, relative.
pub(super) const SECOND: i64 = -10_000_000;
pub(super) const OK: NTSTATUS = 0;

pub(super) const fn nt(status: u32) -> NTSTATUS {
    status as i32
}

type Connect = Arc<dyn Fn(PFLT_PORT, &[u8]) -> Result<usize, NTSTATUS> + Send + Sync>;
type Disconnect = Arc<dyn Fn(usize) + Send + Sync>;
type Message = Arc<dyn Fn(&MessageCall) -> NTSTATUS + Send + Sync>;
type Status = Arc<dyn Fn(u32) -> NTSTATUS + Send + Sync>;

/// The arguments of MessageNotify.
pub(super) struct MessageCall {
    pub(super) cookie: usize,
    pub(super) input: (usize, u32),
    pub(super) output: (usize, u32),
    returned: *mut u32,
}

impl MessageCall {
    pub(super) fn set_returned(&self, count: u32) {
        // SAFETY: the Filter Manager passes a variable.
        unsafe { self.returned.write(count) };
    }
}

/// What the driver does.
#[derive(Clone)]
pub(super) struct Hooks {
    pub(super) entry: Arc<dyn Fn(*mut DRIVER_OBJECT) -> NTSTATUS + Send + Sync>,
    pub(super) connect: Connect,
    pub(super) disconnect: Disconnect,
    pub(super) message: Message,
    pub(super) unload: Status,
    pub(super) setup: Status,
    pub(super) max_connections: i32,
}

/// The driver's variables.
#[derive(Clone, Copy, Default)]
pub(super) struct Ports {
    pub(super) filter: PFLT_FILTER,
    pub(super) server: PFLT_PORT,
}

static HOOKS: Mutex<Option<Hooks>> = Mutex::new(None);
static PORTS: Mutex<Ports> = Mutex::new(Ports {
    filter: 0,
    server: 0,
});

struct Variable(UnsafeCell<PFLT_PORT>);

// SAFETY: written by ConnectNotify before anybody else looks, then by the Filter Manager under its
// lock.
unsafe impl Sync for Variable {}

static CLIENT: Variable = Variable(UnsafeCell::new(0));

/// The address of the driver's client port variable.
pub(super) fn client() -> *mut PFLT_PORT {
    CLIENT.0.get()
}

pub(super) fn set_client(port: PFLT_PORT) {
    // SAFETY: a static variable; see `Variable`.
    unsafe { client().write(port) };
}

pub(super) fn set_filter(filter: PFLT_FILTER) {
    PORTS.lock().filter = filter;
}

pub(super) fn ports() -> Ports {
    *PORTS.lock()
}

fn hooks() -> Hooks {
    HOOKS.lock().clone().expect("a test sets the hooks")
}

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks {
            entry: Arc::new(|object| register_and_listen(object, &full_registration())),
            connect: Arc::new(|port, _| {
                set_client(port);
                Ok(7)
            }),
            disconnect: Arc::new(|_| close_client()),
            message: Arc::new(|call| {
                call.set_returned(0);
                OK
            }),
            unload: Arc::new(|_| {
                tear_down();
                OK
            }),
            setup: Arc::new(|_| nt(0xC01C_000F)),
            max_connections: 2,
        }
    }
}

pub(super) fn full_registration() -> FLT_REGISTRATION {
    FLT_REGISTRATION {
        Size: size_of::<FLT_REGISTRATION>() as u16,
        Version: FLT_REGISTRATION_VERSION as u16,
        FilterUnloadCallback: Some(unload),
        InstanceSetupCallback: Some(setup),
        ..Default::default()
    }
}

/// What a DriverEntry does: register, listen, start.
pub(super) fn register_and_listen(
    object: *mut DRIVER_OBJECT,
    registration: &FLT_REGISTRATION,
) -> NTSTATUS {
    let mut filter = 0;
    // SAFETY: a driver object, a registration and memory for the result.
    let status = unsafe { FltRegisterFilter(object, registration, &raw mut filter) };
    if status != OK {
        return status;
    }
    PORTS.lock().filter = filter;
    let status = listen(NAME, true);
    if status != OK {
        // SAFETY: a registered filter.
        unsafe { FltUnregisterFilter(filter) };
        return status;
    }
    // SAFETY: a registered filter.
    unsafe { FltStartFiltering(filter) }
}

/// Creates the server port, with the default descriptor or none.
pub(super) fn listen(name: &str, secured: bool) -> NTSTATUS {
    let mut descriptor = std::ptr::null_mut();
    if secured {
        // SAFETY: memory for the result.
        let status =
            unsafe { FltBuildDefaultSecurityDescriptor(&raw mut descriptor, FLT_PORT_ALL_ACCESS) };
        if status != OK {
            return status;
        }
    }
    let status = listen_with(name, descriptor.cast());
    if secured {
        // SAFETY: built above.
        unsafe { FltFreeSecurityDescriptor(descriptor) };
    }
    status
}

/// Creates the server port with a descriptor, which is valid during the call, or null.
pub(super) fn listen_with(name: &str, descriptor: *mut c_void) -> NTSTATUS {
    let filter = ports().filter;
    let name = crate::unicode::OwnedUnicodeString::from_text(name);
    let name = name.descriptor();
    let attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        ObjectName: &raw const name,
        Attributes: OBJ_KERNEL_HANDLE,
        SecurityDescriptor: descriptor.cast_const().cast(),
        ..Default::default()
    };
    let mut server = 0;
    // SAFETY: a registered filter, valid attributes, memory for the result.
    let status = unsafe {
        FltCreateCommunicationPort(
            filter,
            &raw mut server,
            &raw const attributes,
            std::ptr::null(),
            Some(connect),
            Some(disconnect),
            Some(message),
            hooks().max_connections,
        )
    };
    PORTS.lock().server = server;
    status
}

pub(super) fn close_client() {
    // SAFETY: the filter and the variable's address.
    unsafe { FltCloseClientPort(ports().filter, client()) };
}

pub(super) fn close_server() {
    let server = std::mem::take(&mut PORTS.lock().server);
    // SAFETY: the port that `listen` created.
    unsafe { FltCloseCommunicationPort(server) };
}

pub(super) fn unregister() {
    // SAFETY: the filter that DriverEntry registered.
    unsafe { FltUnregisterFilter(ports().filter) };
}

/// The orderly end.
pub(super) fn tear_down() {
    close_server();
    unregister();
}

unsafe extern "system" fn entry(
    object: *mut DRIVER_OBJECT,
    _path: *const UNICODE_STRING,
) -> NTSTATUS {
    (hooks().entry)(object)
}

unsafe extern "system" fn connect(
    port: PFLT_PORT,
    _server_cookie: *const c_void,
    context: *const c_void,
    length: u32,
    cookie: *mut *mut c_void,
) -> NTSTATUS {
    let context = if context.is_null() {
        &[]
    } else {
        // SAFETY: the Filter Manager passes a context of this length.
        unsafe { std::slice::from_raw_parts(context.cast::<u8>(), length as usize) }
    };
    match (hooks().connect)(port, context) {
        Ok(value) => {
            // SAFETY: the Filter Manager passes memory for the cookie.
            unsafe { cookie.write(value as *mut c_void) };
            OK
        }
        Err(status) => status,
    }
}

unsafe extern "system" fn disconnect(cookie: *const c_void) {
    (hooks().disconnect)(cookie as usize);
}

unsafe extern "system" fn message(
    cookie: *const c_void,
    input: *const c_void,
    input_length: u32,
    output: *mut c_void,
    output_length: u32,
    returned: *mut u32,
) -> NTSTATUS {
    (hooks().message)(&MessageCall {
        cookie: cookie as usize,
        input: (input as usize, input_length),
        output: (output as usize, output_length),
        returned,
    })
}

pub(super) unsafe extern "system" fn unload(flags: u32) -> NTSTATUS {
    (hooks().unload)(flags)
}

unsafe extern "system" fn setup(
    objects: *const FLT_RELATED_OBJECTS,
    flags: u32,
    _device: u32,
    _file_system: FLT_FILESYSTEM_TYPE,
) -> NTSTATUS {
    // SAFETY: the Filter Manager passes the related objects.
    assert_ne!(unsafe { (*objects).Filter }, 0);
    (hooks().setup)(flags)
}

/// A kernel with the registry keys of the driver.
pub(super) fn boot() -> Kernel {
    boot_with(FilterManagerStart::Ready)
}

pub(super) fn boot_with(filter_manager: FilterManagerStart) -> Kernel {
    let kernel = Kernel::boot(Config {
        filter_manager,
        ..Config::default()
    });
    set_client(0);
    *PORTS.lock() = Ports::default();
    write_instances(&kernel, INSTANCES);
    kernel
}

pub(super) fn write_instances(kernel: &Kernel, root: &str) {
    let registry = kernel.registry();
    registry
        .set_value(root, "DefaultInstance", Value::string("Main"))
        .unwrap();
    let instance = format!("{root}\\Main");
    registry
        .set_value(&instance, "Altitude", Value::string("365000.5"))
        .unwrap();
    registry
        .set_value(&instance, "Flags", Value::dword(0))
        .unwrap();
}

/// Loads the driver.
pub(super) fn load(kernel: &Kernel, hooks: Hooks) -> Result<(), NTSTATUS> {
    *HOOKS.lock() = Some(hooks);
    kernel.load(&DriverImage {
        name: SERVICE,
        entry,
        force_integrity: false,
    })
}

/// A kernel with the driver loaded.
pub(super) fn with_driver(hooks: Hooks) -> Kernel {
    let kernel = boot();
    load(&kernel, hooks).unwrap();
    kernel
}

/// Unloads the driver as a service stop does; nothing may be reported.
pub(super) fn finish(kernel: Kernel) {
    kernel.unload(SERVICE, Unload::Stop).unwrap();
    kernel.shutdown_clean();
}

/// The rules that were broken, after unloading the driver.
pub(super) fn broken(kernel: Kernel) -> Vec<Rule> {
    reports(kernel).iter().map(|report| report.rule).collect()
}

pub(super) fn reports(kernel: Kernel) -> Vec<Report> {
    kernel.unload(SERVICE, Unload::Stop).unwrap();
    kernel.shutdown()
}

/// A service, run by an administrator in this process.
pub(super) fn connect_service(kernel: &Kernel) -> Arc<UserPort> {
    connect_with(kernel, b"hello").unwrap()
}

pub(super) fn connect_with(kernel: &Kernel, context: &[u8]) -> Result<Arc<UserPort>, NTSTATUS> {
    let name: Vec<u16> = NAME.encode_utf16().collect();
    UserPort::connect(&kernel.peer(std::process::id(), 0), &name, context)
}

/// A pended get whose outcome arrives in a channel.
pub(super) fn get(port: &UserPort, capacity: usize) -> Receiver<GetOutcome> {
    let (sender, receiver) = channel();
    port.get(
        capacity,
        Box::new(move |outcome| {
            // The test may have ended already.
            let _ = sender.send(outcome);
        }),
    );
    receiver
}

/// The message id and the payload of a completed get.
pub(super) fn message_of(outcome: &GetOutcome) -> (u64, Vec<u8>) {
    let GetOutcome::Message(bytes) = outcome else {
        panic!("no message: {outcome:?}")
    };
    let message = fltmgr::Message::parse(bytes).unwrap();
    (message.id.0, message.payload.to_vec())
}

pub(super) fn reply_bytes(id: u64, payload: &[u8]) -> Vec<u8> {
    let id = fltmgr::MessageId(id);
    fltmgr::Reply {
        status: fltmgr::Status::SUCCESS,
        id,
        payload,
    }
    .encode()
}

/// FltSendMessage without a reply.
pub(super) fn notify(payload: &[u8], timeout: Option<i64>) -> NTSTATUS {
    notify_through(client(), payload, timeout)
}

pub(super) fn notify_through(
    variable: *const PFLT_PORT,
    payload: &[u8],
    timeout: Option<i64>,
) -> NTSTATUS {
    let timeout = timeout
        .as_ref()
        .map_or(std::ptr::null(), |time| &raw const *time);
    // SAFETY: the filter, the variable, a message, and a time or null.
    unsafe {
        FltSendMessage(
            ports().filter,
            variable,
            payload.as_ptr().cast(),
            payload.len() as u32,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            timeout,
        )
    }
}

/// FltSendMessage with a reply buffer of `room` bytes.
pub(super) fn ask(payload: &[u8], room: usize, timeout: i64) -> (NTSTATUS, Vec<u8>) {
    let mut reply = vec![0_u8; room];
    let mut length = room as u32;
    // SAFETY: the filter, the variable, a message, a buffer with its length, and a time.
    let status = unsafe {
        FltSendMessage(
            ports().filter,
            client(),
            payload.as_ptr().cast(),
            payload.len() as u32,
            reply.as_mut_ptr().cast(),
            &raw mut length,
            &raw const timeout,
        )
    };
    reply.truncate(length as usize);
    (status, reply)
}
