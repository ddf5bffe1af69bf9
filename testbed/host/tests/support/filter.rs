// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every filter driver of these tests does alike: its keys, its registration, its port.

use std::ptr::{null, null_mut};

use fltport_nt::bindings::*;
use fltport_nt::linked::FLT_PORT_ALL_ACCESS;
use nt_host::Kernel;
use nt_host::registry::Value;

/// Writes what an INF writes for the filter of a service: its one instance.
pub fn install(kernel: &Kernel, service: &str, altitude: &str) {
    let root =
        format!("\\Registry\\Machine\\System\\CurrentControlSet\\Services\\{service}\\Instances");
    let instance = format!("{root}\\Main");
    for (key, name, value) in [
        (&root, "DefaultInstance", Value::string("Main")),
        (&instance, "Altitude", Value::string(altitude)),
        (&instance, "Flags", Value::dword(0)),
    ] {
        kernel.registry().set_value(key, name, value).unwrap();
    }
}

/// Registers a filter with two callbacks.
pub fn register(
    object: *mut DRIVER_OBJECT,
    unload: PFLT_FILTER_UNLOAD_CALLBACK,
    setup: PFLT_INSTANCE_SETUP_CALLBACK,
) -> PFLT_FILTER {
    let registration = FLT_REGISTRATION {
        Size: size_of::<FLT_REGISTRATION>() as u16,
        Version: FLT_REGISTRATION_VERSION as u16,
        FilterUnloadCallback: unload,
        InstanceSetupCallback: setup,
        ..Default::default()
    };
    let mut filter = 0;
    // SAFETY: the driver's own object, a registration, and memory for the result.
    let status = unsafe { FltRegisterFilter(object, &raw const registration, &raw mut filter) };
    assert_eq!(status, STATUS_SUCCESS);
    filter
}

/// Creates a port with the default security descriptor.
pub fn listen(
    filter: PFLT_FILTER,
    name: &str,
    connect: PFLT_CONNECT_NOTIFY,
    disconnect: PFLT_DISCONNECT_NOTIFY,
    message: PFLT_MESSAGE_NOTIFY,
    max_connections: i32,
) -> PFLT_PORT {
    let mut descriptor = null_mut();
    // SAFETY: memory for the result.
    let status =
        unsafe { FltBuildDefaultSecurityDescriptor(&raw mut descriptor, FLT_PORT_ALL_ACCESS) };
    assert_eq!(status, STATUS_SUCCESS);
    let attributes = OBJECT_ATTRIBUTES {
        SecurityDescriptor: descriptor.cast_const().cast(),
        ..super::attributes(name, null_mut(), OBJ_KERNEL_HANDLE)
    };
    let mut server = 0;
    // SAFETY: a registered filter, valid attributes, memory for the result.
    let status = unsafe {
        FltCreateCommunicationPort(
            filter,
            &raw mut server,
            &raw const attributes,
            null(),
            connect,
            disconnect,
            message,
            max_connections,
        )
    };
    assert_eq!(status, STATUS_SUCCESS);
    // SAFETY: built above.
    unsafe { FltFreeSecurityDescriptor(descriptor) };
    server
}
