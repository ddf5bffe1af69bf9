// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unloading: who may refuse, in which order what is called.

use std::ffi::c_void;
use std::sync::Arc;

use parking_lot::Mutex;

use super::driver::*;
use crate::Unload;
use crate::abi::{DRIVER_OBJECT, FLT_REGISTRATION, FltObjectDereference, FltObjectReference};

#[test]
fn a_filter_may_refuse_to_be_unloaded_but_not_a_service_stop() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let unload = Arc::new(move |flags| {
        log.lock().push(flags);
        if flags == 0 {
            return nt(0xC01C_0010);
        }
        tear_down();
        nt(0xC01C_0010)
    });
    let kernel = with_driver(Hooks {
        unload,
        ..Hooks::default()
    });
    assert_eq!(kernel.unload(SERVICE, Unload::Filter), Err(nt(0xC01C_0010)));
    connect_service(&kernel).close();
    kernel.unload(SERVICE, Unload::Stop).unwrap();
    assert_eq!(*seen.lock(), [0, 1]);
    kernel.shutdown_clean();
}

#[test]
fn a_filter_that_agrees_is_unloaded() {
    let kernel = with_driver(Hooks::default());
    kernel.unload(SERVICE, Unload::Filter).unwrap();
    assert_eq!(kernel.unload(SERVICE, Unload::Filter), Err(nt(0xC000_0034)));
    load(&kernel, Hooks::default()).unwrap();
    finish(kernel);
}

#[test]
fn a_filter_without_unload_callback_stays() {
    let entry = Arc::new(|object| {
        let plain = FLT_REGISTRATION {
            FilterUnloadCallback: None,
            ..full_registration()
        };
        register_and_listen(object, &plain)
    });
    let kernel = with_driver(Hooks {
        entry,
        ..Hooks::default()
    });
    assert_eq!(kernel.unload(SERVICE, Unload::Stop), Err(nt(0xC000_0010)));
    assert_eq!(kernel.unload(SERVICE, Unload::Filter), Err(nt(0xC01C_0010)));
    tear_down();
    kernel.shutdown_clean();
}

static UNLOADED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

unsafe extern "system" fn own_unload(_object: *const DRIVER_OBJECT) {
    UNLOADED.lock().push("DriverUnload");
    tear_down();
}

#[test]
fn the_drivers_own_unload_routine_runs_after_the_callback_and_may_unregister() {
    let entry = Arc::new(|object: *mut DRIVER_OBJECT| {
        // SAFETY: the driver object that DriverEntry was given.
        unsafe { (*object).DriverUnload = Some(own_unload) };
        register_and_listen(object, &full_registration())
    });
    let unload = Arc::new(|_| {
        UNLOADED.lock().push("FilterUnloadCallback");
        OK
    });
    let kernel = with_driver(Hooks {
        entry,
        unload,
        ..Hooks::default()
    });
    UNLOADED.lock().clear();
    finish(kernel);
    assert_eq!(*UNLOADED.lock(), ["FilterUnloadCallback", "DriverUnload"]);
}

#[test]
fn unloading_disconnects_a_connected_service() {
    let seen = Arc::new(Mutex::new(0));
    let count = seen.clone();
    let disconnect = Arc::new(move |_| {
        *count.lock() += 1;
        close_client();
    });
    let kernel = with_driver(Hooks {
        disconnect,
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    let got = get(&service, 64);
    kernel.unload(SERVICE, Unload::Stop).unwrap();
    assert_eq!(got.recv().unwrap(), crate::flt::GetOutcome::Disconnected);
    assert_eq!(*seen.lock(), 1);
    service.close();
    assert_eq!(*seen.lock(), 1, "there is no driver any more");
    kernel.shutdown_clean();
}

#[test]
fn a_client_port_may_be_closed_while_the_filter_unregisters() {
    let kernel = with_driver(Hooks {
        disconnect: Arc::new(|_| {}),
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    // SAFETY: the registered filter.
    let status = unsafe { FltObjectReference(ports().filter as *mut c_void) };
    assert_eq!(status, OK);
    std::thread::scope(|scope| {
        let unloading = scope.spawn(|| kernel.unload(SERVICE, Unload::Stop));
        let open = || {
            crate::flt::snapshot()
                .connections
                .iter()
                .any(|c| c.driver_open)
        };
        while open() {
            std::thread::yield_now();
        }
        close_client();
        // SAFETY: referenced above.
        unsafe { FltObjectDereference(ports().filter as *mut c_void) };
        unloading.join().unwrap().unwrap();
    });
    service.close();
    kernel.shutdown_clean();
}
