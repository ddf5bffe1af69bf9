// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drivers that break a rule, and the reports about them.

use std::ffi::c_void;
use std::sync::Arc;
use std::thread;

use super::driver::*;
use crate::abi::*;
use crate::clock;
use crate::faults::FaultPlan;
use crate::flt::{Decisions, configure};
use crate::{Rule, Unload, UserSlice};

fn reference() {
    // SAFETY: the registered filter.
    let status = unsafe { FltObjectReference(ports().filter as *mut c_void) };
    assert_eq!(status, OK);
}

#[test]
fn an_open_server_port_hangs_the_unregistration() {
    let unload = Arc::new(|_| {
        unregister();
        OK
    });
    let kernel = with_driver(Hooks {
        unload,
        ..Hooks::default()
    });
    let reports = reports(kernel);
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].rule, Rule::UnregisterHangs);
    assert_eq!(reports[0].driver.as_deref(), Some(SERVICE));
    assert!(
        reports[0].found.contains("1 server ports"),
        "{}",
        reports[0].found
    );
}

#[test]
fn a_reference_that_is_not_given_back_hangs_the_unregistration() {
    let kernel = boot();
    configure(Decisions::default(), clock::SECOND / 100);
    load(&kernel, Hooks::default()).unwrap();
    reference();
    let reports = reports(kernel);
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].rule, Rule::UnregisterHangs);
    assert!(
        reports[0].found.contains("1 references"),
        "{}",
        reports[0].found
    );
}

#[test]
fn a_reference_given_back_in_time_does_not() {
    let kernel = with_driver(Hooks::default());
    reference();
    thread::scope(|scope| {
        let unloading = scope.spawn(|| kernel.unload(SERVICE, Unload::Stop));
        while !crate::flt::snapshot()
            .filters
            .iter()
            .any(|filter| filter.deleting)
        {
            thread::yield_now();
        }
        // SAFETY: the filter is still there, because it is referenced.
        let refused = unsafe { FltObjectReference(ports().filter as *mut c_void) };
        assert_eq!(refused, nt(0xC01C_000B));
        // SAFETY: referenced above.
        unsafe { FltObjectDereference(ports().filter as *mut c_void) };
        unloading.join().unwrap().unwrap();
    });
    kernel.shutdown_clean();
}

#[test]
fn a_filter_and_its_ports_left_behind_are_reported() {
    let kernel = with_driver(Hooks {
        unload: Arc::new(|_| OK),
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    let got = get(&service, 64);
    let rules = broken(kernel);
    assert_eq!(rules, [Rule::FilterLeft, Rule::PortLeft, Rule::PortLeft]);
    assert_eq!(
        got.recv().unwrap(),
        crate::flt::GetOutcome::Disconnected,
        "nobody waits for ever"
    );
}

#[test]
fn a_filter_left_by_a_failed_driver_entry_is_reported() {
    let entry = Arc::new(|object| {
        register_and_listen(object, &full_registration());
        nt(0xC000_009A)
    });
    let kernel = boot();
    assert!(
        load(
            &kernel,
            Hooks {
                entry,
                ..Hooks::default()
            }
        )
        .is_err()
    );
    let rules: Vec<Rule> = kernel.shutdown().iter().map(|report| report.rule).collect();
    assert_eq!(rules, [Rule::FilterLeft, Rule::PortLeft]);
}

#[test]
fn a_filter_left_at_shutdown_is_reported_and_its_senders_wake() {
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
    let service = connect_service(&kernel);
    thread::scope(|scope| {
        let sender = scope.spawn(|| notify(b"unread", Some(60 * SECOND)));
        while crate::flt::snapshot().sends.is_empty() {
            thread::yield_now();
        }
        let reports = kernel.shutdown();
        assert_eq!(sender.join().unwrap(), nt(0xC000_0037));
        assert!(reports.iter().any(|report| report.rule == Rule::FilterLeft));
    });
    drop(service);
}

#[test]
fn a_message_without_a_deadline_is_reported() {
    for timeout in [None, Some(0)] {
        let kernel = with_driver(Hooks::default());
        let service = connect_service(&kernel);
        let got = get(&service, 64);
        assert_eq!(notify(b"x", timeout), OK);
        assert_eq!(message_of(&got.recv().unwrap()).1, b"x");
        service.close();
        let rule = match timeout {
            None => Rule::MessageWithoutDeadline,
            Some(_) => Rule::ZeroTimeout,
        };
        assert_eq!(broken(kernel), [rule], "{timeout:?}");
    }
}

#[test]
fn sending_through_a_copy_of_a_closed_port_is_reported() {
    let kernel = with_driver(Hooks::default());
    let service = connect_service(&kernel);
    // SAFETY: the driver's variable, which nobody else uses now.
    let copy = unsafe { client().read() };
    service.close();
    assert_eq!(
        notify(b"x", Some(SECOND)),
        nt(0xC000_0037),
        "the variable itself is fine"
    );
    assert_eq!(
        notify_through(&raw const copy, b"x", Some(SECOND)),
        nt(0xC000_0037)
    );
    let garbage = 0x1234_isize;
    assert_eq!(
        notify_through(&raw const garbage, b"x", Some(SECOND)),
        nt(0xC000_000D)
    );
    assert_eq!(
        broken(kernel),
        [Rule::PortUsedAfterClose, Rule::PortUnknown]
    );
}

#[test]
fn closing_a_client_port_twice_is_reported() {
    let kernel = with_driver(Hooks {
        disconnect: Arc::new(|_| {}),
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    close_client();
    close_client();
    service.close();
    assert_eq!(broken(kernel), [Rule::PortClosedTwice]);
}

#[test]
fn closing_a_server_port_twice_is_reported() {
    let kernel = with_driver(Hooks {
        unload: Arc::new(|_| {
            let server = ports().server;
            close_server();
            // SAFETY: what the test is about; the Filter Manager looks the value up.
            unsafe { FltCloseCommunicationPort(server) };
            unregister();
            OK
        }),
        ..Hooks::default()
    });
    assert_eq!(broken(kernel), [Rule::PortClosedTwice]);
}

#[test]
fn a_dereference_without_reference_is_reported() {
    let kernel = with_driver(Hooks::default());
    // SAFETY: what the test is about; the Filter Manager counts.
    unsafe { FltObjectDereference(ports().filter as *mut c_void) };
    assert_eq!(broken(kernel), [Rule::ReferenceUnderflow]);
}

#[test]
fn a_message_callback_must_set_the_output_length() {
    let kernel = with_driver(Hooks {
        message: Arc::new(|_| OK),
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    let caller = kernel.peer(std::process::id(), 0);
    let empty = UserSlice::default();
    assert_eq!(service.send(&caller, empty, empty), (OK, 0));
    service.close();
    assert_eq!(broken(kernel), [Rule::OutputLengthNotSet]);
}

#[test]
fn a_message_callback_must_not_claim_more_than_the_buffer() {
    let message = Arc::new(|call: &MessageCall| {
        call.set_returned(100);
        OK
    });
    let kernel = with_driver(Hooks {
        message,
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    let caller = kernel.peer(std::process::id(), 0);
    let output = [0_u8; 8];
    let output = UserSlice {
        address: output.as_ptr() as u64,
        length: 8,
    };
    assert_eq!(service.send(&caller, UserSlice::default(), output), (OK, 8));
    service.close();
    assert_eq!(broken(kernel), [Rule::OutputLengthTooLong]);
}

#[test]
fn refusing_a_connection_and_closing_its_port_is_reported() {
    let connect = Arc::new(|port, _: &[u8]| {
        set_client(port);
        close_client();
        Err(nt(0xC000_0022))
    });
    let kernel = with_driver(Hooks {
        connect,
        ..Hooks::default()
    });
    assert_eq!(connect_with(&kernel, b"").unwrap_err(), nt(0xC000_0022));
    assert_eq!(broken(kernel), [Rule::RefusedPortClosed]);
}

#[test]
fn sending_from_an_instance_setup_callback_is_reported() {
    let setup = Arc::new(|_| {
        assert_eq!(
            notify(b"x", Some(SECOND)),
            nt(0xC000_0037),
            "nobody is connected"
        );
        nt(0xC01C_000F)
    });
    let kernel = with_driver(Hooks {
        setup,
        ..Hooks::default()
    });
    assert_eq!(broken(kernel), [Rule::SendFromInstanceSetup]);
}

#[test]
fn a_descriptor_that_is_not_freed_is_a_leak() {
    let entry = Arc::new(|object| {
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: memory for the result.
        let status = unsafe { FltBuildDefaultSecurityDescriptor(&raw mut descriptor, 1) };
        assert_eq!(status, OK);
        register_and_listen(object, &full_registration())
    });
    let kernel = with_driver(Hooks {
        entry,
        ..Hooks::default()
    });
    let reports = reports(kernel);
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].rule, Rule::SecurityDescriptorLeft);
}

#[test]
fn no_memory_for_a_descriptor_fails_the_port() {
    let kernel = boot();
    kernel.set_faults(FaultPlan::nth(0).of("FltBuildDefaultSecurityDescriptor"));
    assert_eq!(load(&kernel, Hooks::default()), Err(nt(0xC000_009A)));
    kernel.shutdown_clean();
}

#[test]
fn ports_are_made_at_passive_level_only() {
    let entry = Arc::new(|object| {
        let status = register_and_listen(object, &full_registration());
        let former = crate::irql::set(crate::irql::APC_LEVEL);
        close_server();
        crate::irql::set(former);
        if status == OK {
            listen(NAME, true)
        } else {
            status
        }
    });
    let kernel = with_driver(Hooks {
        entry,
        ..Hooks::default()
    });
    let reports = reports(kernel);
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].rule, Rule::IrqlTooHigh);
    assert_eq!(reports[0].function, "FltCloseCommunicationPort");
}

#[test]
fn a_message_at_dispatch_level_is_reported() {
    let kernel = with_driver(Hooks::default());
    let service = connect_service(&kernel);
    let got = get(&service, 64);
    let former = crate::irql::set(crate::irql::DISPATCH_LEVEL);
    let sent = notify(b"too high", Some(SECOND));
    crate::irql::set(former);
    assert_eq!(sent, OK, "a reader was there, so it did not have to wait");
    assert_eq!(message_of(&got.recv().unwrap()).1, b"too high");
    service.close();
    let reports = reports(kernel);
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].rule, Rule::IrqlTooHigh);
    assert_eq!(reports[0].function, "FltSendMessage");
}
