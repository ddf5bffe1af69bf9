// SPDX-License-Identifier: MIT OR Apache-2.0
//! Communication ports: how they are created, passed and closed.

use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicIsize, Ordering};

use fltport_nt::bindings::*;
use nt_host::{Kernel, Report, Rule};

use crate::driver::*;
use crate::filter::{self, *};

fn creating(with: impl Fn() -> NewPort + Send + Sync + 'static) -> Vec<Report> {
    let entry = move |object: *mut DRIVER_OBJECT| {
        register(object);
        if create_port(with()) == STATUS_SUCCESS {
            close_server();
        }
        unregister();
    };
    life_in(filter::boot(), entry, |_| {})
}

const CREATE: &str = "FltCreateCommunicationPort";

#[test]
fn a_port_without_kernel_handle_or_name_is_reported() {
    let reports = creating(|| NewPort {
        flags: OBJ_CASE_INSENSITIVE,
        ..Default::default()
    });
    let report = assert_one(&reports, Rule::PortAttributesInvalid, CREATE);
    assert!(report.found.contains("OBJ_KERNEL_HANDLE"), "{report}");
    let reports = creating(|| NewPort {
        name: "",
        ..Default::default()
    });
    let report = assert_one(&reports, Rule::PortAttributesInvalid, CREATE);
    assert!(report.found.contains("no name"), "{report}");
    assert_broken(&creating(NewPort::default), &[]);
}

#[test]
fn a_port_without_a_callback_it_needs_is_reported() {
    let without_connect = || NewPort {
        connect: None,
        ..Default::default()
    };
    let reports = creating(without_connect);
    let report = assert_one(&reports, Rule::PortCallbackMissing, CREATE);
    assert!(report.found.contains("ConnectNotify"), "{report}");
    let without_disconnect = || NewPort {
        disconnect: None,
        ..Default::default()
    };
    let reports = creating(without_disconnect);
    let report = assert_one(&reports, Rule::PortCallbackMissing, CREATE);
    assert!(report.found.contains("DisconnectNotify"), "{report}");
}

#[test]
fn a_port_for_no_connections_is_reported() {
    for max_connections in [0, -1] {
        let reports = creating(move || NewPort {
            max_connections,
            ..Default::default()
        });
        assert_one(&reports, Rule::PortLimitInvalid, CREATE);
    }
}

/// A second variable of the driver.
static COPY: AtomicIsize = AtomicIsize::new(0);

fn copy_port() {
    COPY.store(CLIENT.load(Ordering::SeqCst), Ordering::SeqCst);
}

#[test]
fn sending_through_a_copy_is_reported_even_while_the_value_is_right() {
    let reports = serving(None, || {
        assert_eq!(send(&CLIENT, Some(SECOND)), STATUS_SUCCESS);
        copy_port();
        for _ in 0..2 {
            assert_eq!(send(&COPY, Some(SECOND)), STATUS_SUCCESS, "on NT, too");
        }
    });
    let report = assert_one(&reports, Rule::ClientPortAddressDiffers, "FltSendMessage");
    assert!(report.expected.contains("FltSendMessage"), "{report}");
    assert_relates(&report, "send");
    assert_made_in(&report, "send");
}

#[test]
fn closing_another_variable_than_was_sent_through_is_reported() {
    let reports = serving(None, || {
        assert_eq!(send(&CLIENT, Some(SECOND)), STATUS_SUCCESS);
        copy_port();
        close_client(&COPY);
        CLIENT.store(0, Ordering::SeqCst);
    });
    // DisconnectNotify closes what the test has closed.
    assert_broken(
        &reports,
        &[Rule::ClientPortAddressDiffers, Rule::PortUnknown],
    );
    assert_eq!(reports[0].function, "FltCloseClientPort");
    assert!(
        reports[0].expected.contains("FltSendMessage"),
        "{}",
        reports[0]
    );
}

#[test]
fn sending_and_closing_through_one_variable_is_right() {
    let reports = serving(None, || {
        assert_eq!(send(&CLIENT, Some(SECOND)), STATUS_SUCCESS);
    });
    assert_broken(&reports, &[]);
}

#[test]
fn using_a_closed_port_is_reported_with_where_it_was_closed() {
    let reports = serving(None, || {
        copy_port();
        close_client(&CLIENT);
        assert_eq!(CLIENT.load(Ordering::SeqCst), 0);
        let sent = send(&CLIENT, Some(SECOND));
        assert_eq!(
            sent, STATUS_PORT_DISCONNECTED,
            "the variable tells: no mistake"
        );
        assert_eq!(send(&COPY, Some(SECOND)), STATUS_PORT_DISCONNECTED);
        // DisconnectNotify closes the port that this one holds, and finds it closed.
        copy_port();
    });
    assert_broken(&reports, &[Rule::PortUsedAfterClose, Rule::PortClosedTwice]);
    assert_relates(&reports[0], "close_client");
    assert_relates(&reports[1], "close_client");
}

#[test]
fn closing_a_port_again_is_reported() {
    let callbacks = Callbacks {
        disconnect: action(|| {
            copy_port();
            close_client(&CLIENT);
            close_client(&CLIENT);
            close_client(&COPY);
        }),
        ..Default::default()
    };
    let reports = filter::life(callbacks, |kernel| connect_service(kernel).close(), end);
    assert_broken(&reports, &[Rule::PortClosedTwice, Rule::PortClosedTwice]);
    for report in &reports {
        assert_eq!(report.function, "FltCloseClientPort");
        assert_relates(report, "close_client");
    }
    let reports = doing(|| {
        close_server();
        close_server();
        assert_eq!(create_port(NewPort::default()), STATUS_SUCCESS);
    });
    let report = assert_one(&reports, Rule::PortClosedTwice, "FltCloseCommunicationPort");
    assert_relates(&report, "close_server");
}

#[test]
fn a_value_that_is_no_port_is_reported() {
    let reports = doing(|| {
        CLIENT.store(0x1234, Ordering::SeqCst);
        assert_eq!(send(&CLIENT, Some(SECOND)), STATUS_INVALID_PARAMETER);
        CLIENT.store(SERVER.load(Ordering::SeqCst), Ordering::SeqCst);
        assert_eq!(send(&CLIENT, Some(SECOND)), STATUS_INVALID_PARAMETER);
        close_client(&CLIENT);
        let server = SERVER.swap(0, Ordering::SeqCst);
        close_server();
        SERVER.store(server, Ordering::SeqCst);
    });
    assert_broken(&reports, &[Rule::PortUnknown; 4]);
}

#[test]
fn null_where_an_address_belongs_is_reported() {
    let reports = doing(|| {
        let filter = FILTER.load(Ordering::SeqCst);
        // SAFETY: NULL is what the test is about.
        unsafe { FltCloseClientPort(filter, null_mut()) };
        // SAFETY: as above.
        let status =
            unsafe { FltSendMessage(filter, null(), null(), 0, null_mut(), null_mut(), null()) };
        assert_eq!(status, STATUS_INVALID_PARAMETER);
    });
    assert_broken(&reports, &[Rule::FilterArgumentNull; 2]);
}

fn build_descriptor() -> PSECURITY_DESCRIPTOR {
    let mut descriptor = null_mut();
    // SAFETY: memory for the result.
    let status = unsafe { FltBuildDefaultSecurityDescriptor(&raw mut descriptor, 1) };
    assert_eq!(status, STATUS_SUCCESS);
    descriptor
}

fn freeing_descriptor(times: u32) -> Vec<Report> {
    doing(move || {
        let descriptor = build_descriptor();
        for _ in 0..times {
            // SAFETY: built above, and freed more than once where the test is about that.
            unsafe { FltFreeSecurityDescriptor(descriptor) };
        }
    })
}

#[test]
fn a_descriptor_is_freed_once() {
    let left = Rule::SecurityDescriptorLeft;
    let report = assert_one(
        &freeing_descriptor(0),
        left,
        "FltBuildDefaultSecurityDescriptor",
    );
    assert_made_in(&report, "build_descriptor");
    assert_broken(&freeing_descriptor(1), &[]);
    let unknown = Rule::SecurityDescriptorUnknown;
    assert_one(&freeing_descriptor(2), unknown, "FltFreeSecurityDescriptor");
}

#[test]
fn a_service_that_reaches_a_port_of_a_driver_that_is_gone_is_reported() {
    let kernel = filter::boot();
    let callbacks = Callbacks::default();
    let service = std::cell::RefCell::new(None);
    let meanwhile = |kernel: &Kernel| *service.borrow_mut() = Some(connect_service(kernel));
    set_callbacks(callbacks);
    load(&kernel, begin, |_| {});
    meanwhile(&kernel);
    unload_it(&kernel);
    let left = [Rule::FilterLeft, Rule::PortLeft, Rule::PortLeft];
    assert_broken(&kernel.reports(), &left);

    let caller = kernel.peer(std::process::id(), 0);
    let service = service.take().unwrap();
    let empty = nt_host::UserSlice::default();
    let sent = service.send(&caller, empty, empty);
    assert_eq!(sent, (STATUS_PORT_DISCONNECTED, 0));
    service.close();
    for _ in 0..2 {
        let name = crate::support::wide(PORT);
        let refused = nt_host::flt::UserPort::connect(&caller, &name, b"").err();
        assert_eq!(refused, Some(STATUS_OBJECT_NAME_NOT_FOUND));
    }
    let reports = kernel.shutdown();
    let gone = Rule::CallIntoUnloadedDriver;
    assert_broken(&reports[3..], &[gone; 3]);
    let callbacks = ["MessageNotify", "DisconnectNotify", "ConnectNotify"];
    for (report, callback) in reports[3..].iter().zip(callbacks) {
        assert!(report.found.contains(callback), "{report}");
        assert_eq!(report.function, CREATE);
        assert_made_in(report, "create_port");
    }
}

#[test]
fn a_service_that_outlives_a_filter_that_ended_in_order_is_right() {
    let kernel = filter::boot();
    set_callbacks(Callbacks::default());
    load(&kernel, begin, end);
    let service = connect_service(&kernel);
    unload_it(&kernel);
    service.close();
    load(&kernel, begin, end);
    connect_service(&kernel).close();
    unload_it(&kernel);
    assert_broken(&kernel.shutdown(), &[]);
}
