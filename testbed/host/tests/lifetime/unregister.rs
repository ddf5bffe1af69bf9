// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a filter: what hangs on NT is a report here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fltport_nt::bindings::*;
use nt_host::{Report, Rule, Unload};

use crate::driver::*;
use crate::filter::{self, *};

const UNREGISTER: &str = "FltUnregisterFilter";

/// Waits until the filter's end has begun in another thread.
fn wait_until_deleting() {
    let has_begun = || {
        let filters = nt_host::flt::snapshot().filters;
        filters.iter().all(|it| it.deleting)
    };
    while !has_begun() {
        std::thread::yield_now();
    }
}

fn unloading(unload: fn()) -> Vec<Report> {
    filter::life(Callbacks::default(), |_| {}, move |_| unload())
}

#[test]
fn unregistering_with_an_open_port_is_a_report_that_shows_the_port() {
    let reports = unloading(unregister);
    let report = assert_one(&reports, Rule::UnregisterHangs, UNREGISTER);
    assert!(report.found.contains("1 server ports"), "{report}");
    assert_relates(&report, "create_port");
}

#[test]
fn unregistering_with_a_reference_is_a_report_that_shows_where_it_was_taken() {
    let reports = unloading(|| {
        reference();
        close_server();
        unregister();
    });
    let report = assert_one(&reports, Rule::UnregisterHangs, UNREGISTER);
    assert!(report.found.contains("1 references"), "{report}");
    assert_relates(&report, "reference");
    let reports = unloading(|| {
        reference();
        close_server();
        release();
        unregister();
    });
    assert_broken(&reports, &[]);
}

#[test]
fn an_open_connection_does_not_keep_a_filter() {
    let kernel = filter::boot();
    set_callbacks(Callbacks::default());
    load(&kernel, begin, end);
    let service = connect_service(&kernel);
    unload_it(&kernel);
    service.close();
    assert_broken(&kernel.shutdown(), &[]);
}

#[test]
fn unregistering_inside_a_callback_is_a_report_and_not_a_deadlock() {
    let inside = || {
        close_server();
        unregister();
    };
    let callbacks = [
        Callbacks {
            message: action(inside),
            ..Default::default()
        },
        Callbacks {
            disconnect: action(move || {
                close_client(&CLIENT);
                inside();
            }),
            ..Default::default()
        },
    ];
    for callbacks in callbacks {
        let meanwhile = |kernel: &nt_host::Kernel| {
            let service = connect_service(kernel);
            command(kernel, &service);
            service.close();
        };
        let reports = filter::life(callbacks, meanwhile, |_| {});
        assert_one(&reports, Rule::UnregisterInsideCallback, UNREGISTER);
    }
}

#[test]
fn a_filter_used_after_its_end_is_reported_with_where_it_ended() {
    let reports = unloading(|| {
        close_server();
        unregister();
        unregister();
        release();
        assert_eq!(send(&CLIENT, Some(SECOND)), STATUS_INVALID_PARAMETER);
        assert_eq!(start(), STATUS_INVALID_PARAMETER);
        assert_eq!(create_port(NewPort::default()), STATUS_INVALID_PARAMETER);
    });
    assert_broken(&reports, &[Rule::FilterUsedAfterUnregister; 5]);
    let functions = [
        UNREGISTER,
        "FltObjectDereference",
        "FltSendMessage",
        "FltStartFiltering",
        "FltCreateCommunicationPort",
    ];
    for (report, function) in reports.iter().zip(functions) {
        assert_eq!(report.function, function);
        assert_shows_driver(&report.related[0].stack.to_string());
    }
}

#[test]
fn unregistering_in_two_threads_is_reported() {
    unsafe extern "system" fn second(_: *mut std::ffi::c_void) {
        unregister();
        release();
    }
    let kernel = boot_patiently();
    set_callbacks(Callbacks::default());
    let unload = |_: *mut DRIVER_OBJECT| {
        reference();
        close_server();
        // The reference keeps the first one until the second thread has done its harm.
        let handle = start_thread(first, std::ptr::null());
        wait_until_deleting();
        join(start_thread(second, std::ptr::null()));
        join(handle);
    };
    unsafe extern "system" fn first(_: *mut std::ffi::c_void) {
        unregister();
    }
    load(&kernel, begin, unload);
    unload_it(&kernel);
    let reports = kernel.shutdown();
    let report = assert_one(&reports, Rule::FilterUnregisteredTwice, UNREGISTER);
    assert_shows_driver(&report.related[0].stack.to_string());
}

/// Unregisters as soon as it runs, and waits for the driver's reference.
unsafe extern "system" fn gives_up(_: *mut std::ffi::c_void) {
    close_server();
    unregister();
}

#[test]
fn unregistering_while_the_driver_is_stopped_is_reported() {
    let kernel = boot_patiently();
    set_callbacks(Callbacks::default());
    let thread = Arc::new(AtomicUsize::new(0));
    let started = thread.clone();
    let entry = move |object: *mut DRIVER_OBJECT| {
        begin(object);
        reference();
        let handle = start_thread(gives_up, std::ptr::null());
        started.store(handle as usize, Ordering::SeqCst);
    };
    let unload = move |_: *mut DRIVER_OBJECT| {
        release();
        join(thread.load(Ordering::SeqCst) as HANDLE);
    };
    load(&kernel, entry, unload);
    wait_until_deleting();
    unload_it(&kernel);
    let reports = kernel.shutdown();
    let report = assert_one(&reports, Rule::UnregisterMeetsUnload, UNREGISTER);
    assert_shows_driver(&report.stack.to_string());
}

#[test]
fn one_unload_of_a_driver_is_under_way_at_a_time() {
    let kernel = filter::boot();
    set_callbacks(Callbacks::default());
    let inner = Arc::new(Mutex::new(Some(kernel.clone())));
    let unload = move |object: *mut DRIVER_OBJECT| {
        let kernel = inner.lock().unwrap().take().expect("once");
        for how in [Unload::Stop, Unload::Filter] {
            let second = kernel.unload(NAME, how);
            assert_eq!(second, Err(STATUS_DELETE_PENDING), "{how:?}");
        }
        end(object);
    };
    load(&kernel, begin, unload);
    unload_it(&kernel);
    assert_broken(&kernel.shutdown(), &[]);
}

#[test]
fn a_value_that_is_no_filter_and_a_foreign_driver_object_are_reported() {
    let reports = unloading(|| {
        let filter = FILTER.swap(0x1234, Ordering::SeqCst);
        unregister();
        FILTER.store(filter, Ordering::SeqCst);
        let registration = FLT_REGISTRATION::default();
        // SAFETY: an object that is no driver's, which the Filter Manager looks up; a registration;
        // memory for the result.
        let status =
            unsafe { FltRegisterFilter(0x1000 as *const _, &raw const registration, &mut 0) };
        assert_eq!(status, STATUS_INVALID_PARAMETER);
        close_server();
        unregister();
    });
    assert_broken(&reports, &[Rule::FilterUnknown, Rule::ObjectUnknown]);
}

#[test]
fn a_reference_given_back_that_was_not_taken_is_reported() {
    let reports = doing(release);
    assert_one(&reports, Rule::ReferenceUnderflow, "FltObjectDereference");
}

unsafe extern "system" fn bypasses(object: *const DRIVER_OBJECT) {
    end(object.cast_mut());
}

#[test]
fn a_driver_unload_set_after_the_registration_is_reported() {
    let kernel = filter::boot();
    set_callbacks(Callbacks::default());
    let entry = |object: *mut DRIVER_OBJECT| {
        begin(object);
        // SAFETY: the driver's own object; that it is too late is the mistake.
        unsafe { (*object).DriverUnload = Some(bypasses) };
    };
    load(&kernel, entry, |_| unreachable!("it was bypassed"));
    unload_it(&kernel);
    let reports = kernel.shutdown();
    let rule = Rule::DriverUnloadReplaced;
    assert_made_in(&assert_one(&reports, rule, "FltRegisterFilter"), "register");
}
