// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server port: a name that services connect to.

use super::filter::Filter;
use crate::bindings::{
    FltBuildDefaultSecurityDescriptor, FltCloseCommunicationPort, FltCreateCommunicationPort,
    FltFreeSecurityDescriptor, NTSTATUS, OBJ_KERNEL_HANDLE, PFLT_PORT, STATUS_SUCCESS,
};
use crate::ke::CriticalRegion;
use crate::linked::{FLT_PORT_ALL_ACCESS, object_attributes};
use crate::rtl::UnicodeString;
use crate::se::SecurityDescriptor;
use crate::status::{Result, check};
use crate::user_memory::UserBuffer;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::{null, null_mut};

/// A connection that is being made; [`ClientPort::accept`](super::ClientPort::accept) takes it. Not
/// taken, it is the Filter Manager's to dispose of.
pub struct PendingPort(pub(super) PFLT_PORT);

/// What the Filter Manager calls a server port for. Connections are named by the cookie that
/// `connect` gave them; a number rather than a pointer, so that nothing depends on the order in
/// which the last callbacks of a connection come.
///
/// All run in a critical region: a service that suspends its thread in the middle of one would
/// otherwise hold up the unload.
pub trait PortCallbacks: 'static {
    /// IRQL: PASSIVE_LEVEL, in the connecting thread. Accepts, with the connection's cookie, or
    /// refuses; having taken `port` it must accept. `context` is a kernel copy of what the service
    /// said, of any length and alignment. Nothing can be sent to this connection before it returns.
    fn connect(port: PendingPort, context: &[u8]) -> Result<usize>;
    /// IRQL: PASSIVE_LEVEL, in any thread. The service's last handle has been closed, or the filter
    /// is being unregistered.
    fn disconnect(cookie: usize);
    /// IRQL: PASSIVE_LEVEL, in the thread of the service that sends. Returns the number of bytes
    /// written to `output`.
    fn message(cookie: usize, input: UserBuffer, output: UserBuffer) -> Result<usize>;
}

/// A listening server port. Dropping it stops listening; connections stay.
pub struct ServerPort<T: PortCallbacks> {
    port: PFLT_PORT,
    _filter: Filter,
    callbacks: PhantomData<fn() -> T>,
}

impl<T: PortCallbacks> ServerPort<T> {
    /// IRQL: PASSIVE_LEVEL. Listens at `name` (an absolute path), open to whom `security` gives
    /// `FLT_PORT_CONNECT`; without any, to SYSTEM and Administrators. `connect` may be called before
    /// this returns.
    ///
    /// Errors: `STATUS_OBJECT_NAME_COLLISION` if the name is taken, `STATUS_FLT_DELETING_OBJECT`,
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn listen(
        filter: &Filter,
        name: &[u16],
        security: Option<&SecurityDescriptor>,
        max_connections: i32,
    ) -> Result<Self> {
        let name = UnicodeString::new(name)?;
        // The default is built only if it is used, and freed when the port has been created.
        let default = match security {
            Some(_) => None,
            None => Some(DefaultSecurity::build()?),
        };
        let security = security.map_or(null_mut(), SecurityDescriptor::raw);
        let security = default.as_ref().map_or(security, |default| default.0);
        let attributes = object_attributes(Some(name.raw()), OBJ_KERNEL_HANDLE, security);
        let mut port = 0;
        // SAFETY: a registered filter; attributes, name and descriptor live across the call; the
        // routines are non-paged code of this image, which cannot be unloaded before the port is
        // closed.
        check(unsafe {
            FltCreateCommunicationPort(
                filter.raw(),
                &raw mut port,
                &raw const attributes,
                null(),
                Some(connect_routine::<T>),
                Some(disconnect_routine::<T>),
                Some(message_routine::<T>),
                max_connections,
            )
        })?;
        Ok(ServerPort {
            port,
            _filter: filter.clone(),
            callbacks: PhantomData,
        })
    }
}

impl<T: PortCallbacks> Drop for ServerPort<T> {
    fn drop(&mut self) {
        // SAFETY: created by `listen`, closed once.
        unsafe { FltCloseCommunicationPort(self.port) };
    }
}

/// The Filter Manager's default descriptor: SYSTEM and Administrators.
struct DefaultSecurity(*mut c_void);

impl DefaultSecurity {
    fn build() -> Result<Self> {
        let mut descriptor = null_mut();
        // SAFETY: a valid place for the result.
        check(unsafe {
            FltBuildDefaultSecurityDescriptor(&raw mut descriptor, FLT_PORT_ALL_ACCESS)
        })?;
        Ok(DefaultSecurity(descriptor))
    }
}

impl Drop for DefaultSecurity {
    fn drop(&mut self) {
        // SAFETY: built by `build`, freed once.
        unsafe { FltFreeSecurityDescriptor(self.0) };
    }
}

unsafe extern "system" fn connect_routine<T: PortCallbacks>(
    port: PFLT_PORT,
    _server_cookie: *const c_void,
    context: *const c_void,
    length: u32,
    cookie: *mut *mut c_void,
) -> NTSTATUS {
    let _region = CriticalRegion::enter();
    let context = if context.is_null() || length == 0 {
        &[]
    } else {
        // SAFETY: a kernel copy of `length` bytes, valid during the callback; bytes have no
        // alignment.
        unsafe { core::slice::from_raw_parts(context.cast::<u8>(), length as usize) }
    };
    match T::connect(PendingPort(port), context) {
        Ok(number) => {
            // SAFETY: the Filter Manager passes a valid place for the cookie.
            unsafe { cookie.write(number as *mut c_void) };
            STATUS_SUCCESS
        }
        Err(error) => error.status(),
    }
}

unsafe extern "system" fn disconnect_routine<T: PortCallbacks>(cookie: *const c_void) {
    let _region = CriticalRegion::enter();
    T::disconnect(cookie as usize);
}

unsafe extern "system" fn message_routine<T: PortCallbacks>(
    cookie: *const c_void,
    input: *const c_void,
    input_length: u32,
    output: *mut c_void,
    output_length: u32,
    returned: *mut u32,
) -> NTSTATUS {
    let _region = CriticalRegion::enter();
    let result = T::message(
        cookie as usize,
        UserBuffer::new(input, input_length),
        UserBuffer::new(output, output_length),
    );
    // SAFETY: the Filter Manager passes a valid kernel variable; it must be set on every path.
    unsafe { returned.write(result.map_or(0, |n| n as u32)) };
    result.map_or_else(|error| error.status(), |_| STATUS_SUCCESS)
}
