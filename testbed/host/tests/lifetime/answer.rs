// SPDX-License-Identifier: MIT OR Apache-2.0
//! What MessageNotify and ConnectNotify answer: the length of the output, and a refusal.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use fltport_nt::bindings::*;
use nt_host::flt::UserPort;
use nt_host::{Kernel, Report, Rule, UserSlice};

use crate::driver::*;
use crate::filter::{self, *};
use crate::support;

/// Room for what MessageNotify returns.
const ROOM: u32 = 8;

/// A life of the filter with a port of this kind, in which something happens.
fn with_port(port: fn() -> NewPort, meanwhile: impl FnOnce(&Kernel)) -> Vec<Report> {
    let kernel = filter::boot();
    set_callbacks(Callbacks::default());
    let entry = move |object: *mut DRIVER_OBJECT| {
        register(object);
        assert_eq!(create_port(port()), STATUS_SUCCESS);
        assert_eq!(start(), STATUS_SUCCESS);
    };
    load(&kernel, entry, end);
    meanwhile(&kernel);
    unload_it(&kernel);
    kernel.shutdown()
}

/// A MessageNotify that returns this many bytes, or does not say how many.
unsafe extern "system" fn answers<const BYTES: i64>(
    _cookie: *const c_void,
    _input: *const c_void,
    _input_length: u32,
    _output: *mut c_void,
    _output_length: u32,
    returned: *mut u32,
) -> NTSTATUS {
    if let Ok(bytes) = u32::try_from(BYTES) {
        // SAFETY: the Filter Manager passes a variable.
        unsafe { returned.write(bytes) };
    }
    STATUS_SUCCESS
}

/// The reports on a driver whose MessageNotify returns so many bytes; the service gets `received`.
fn answering<const BYTES: i64>(received: u32) -> Vec<Report> {
    let port = || NewPort {
        message: Some(answers::<BYTES>),
        ..Default::default()
    };
    with_port(port, |kernel| {
        let service = connect_service(kernel);
        let output = [0_u8; ROOM as usize];
        let output = UserSlice {
            address: output.as_ptr() as u64,
            length: ROOM,
        };
        let caller = kernel.peer(std::process::id(), 0);
        let answer = service.send(&caller, UserSlice::default(), output);
        assert_eq!(answer, (STATUS_SUCCESS, received));
        service.close();
    })
}

#[test]
fn an_output_length_that_is_not_set_is_reported() {
    let reports = answering::<-1>(0);
    assert_one(&reports, Rule::OutputLengthNotSet, "MessageNotify");
    assert_broken(&answering::<0>(0), &[]);
}

#[test]
fn an_output_length_beyond_the_buffer_is_reported() {
    let reports = answering::<9>(ROOM);
    let report = assert_one(&reports, Rule::OutputLengthTooLong, "MessageNotify");
    assert!(report.expected.contains("at most 8 bytes"), "{report}");
    assert!(report.found.contains("9 bytes"), "{report}");
    assert_broken(&answering::<8>(ROOM), &[]);
}

/// A ConnectNotify that refuses, and before that closes the port or leaves it alone.
unsafe extern "system" fn refuses<const CLOSES: bool>(
    port: PFLT_PORT,
    _server_cookie: *const c_void,
    _context: *const c_void,
    _length: u32,
    _cookie: *mut *mut c_void,
) -> NTSTATUS {
    if CLOSES {
        CLIENT.store(port, Ordering::SeqCst);
        close_client(&CLIENT);
    }
    STATUS_ACCESS_DENIED
}

fn refusing<const CLOSES: bool>() -> Vec<Report> {
    let port = || NewPort {
        connect: Some(refuses::<CLOSES>),
        ..Default::default()
    };
    with_port(port, |kernel| {
        let caller = kernel.peer(std::process::id(), 0);
        let refused = UserPort::connect(&caller, &support::wide(PORT), b"").err();
        assert_eq!(refused, Some(STATUS_ACCESS_DENIED));
    })
}

#[test]
fn closing_the_port_of_a_connection_that_is_refused_is_reported() {
    let reports = refusing::<true>();
    assert_one(&reports, Rule::RefusedPortClosed, "ConnectNotify");
    assert_broken(&refusing::<false>(), &[]);
}
