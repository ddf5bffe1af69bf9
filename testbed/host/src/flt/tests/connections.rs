// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connects, access, contexts, disconnects.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use parking_lot::Mutex;

use super::driver::*;
use crate::UserSlice;
use crate::abi::*;
use crate::flt::UserPort;
use crate::se::token::Sid;
use crate::thread as nt_thread;
use crate::transport::{Device, Handle, MessageDevice, Peer};

fn wide(name: &str) -> Vec<u16> {
    name.encode_utf16().collect()
}

#[test]
fn connect_notify_runs_in_the_callers_process_with_a_copy_of_the_context() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let connect = Arc::new(move |port, context: &[u8]| {
        set_client(port);
        log.lock()
            .push((nt_thread::current_process().pid(), context.to_vec()));
        Ok(1)
    });
    let kernel = with_driver(Hooks {
        connect,
        ..Hooks::default()
    });
    let first = connect_with(&kernel, b"who I am").unwrap();
    first.close();
    connect_with(&kernel, b"").unwrap().close();
    let own = u64::from(std::process::id());
    assert_eq!(
        *seen.lock(),
        [(own, b"who I am".to_vec()), (own, Vec::new())]
    );
    finish(kernel);
}

#[test]
fn a_refused_connect_gets_the_drivers_status() {
    let connect = Arc::new(|_, _: &[u8]| Err(nt(0xC000_0061)));
    let disconnect = Arc::new(|_| panic!("never connected"));
    let kernel = with_driver(Hooks {
        connect,
        disconnect,
        ..Hooks::default()
    });
    assert_eq!(connect_with(&kernel, b"").unwrap_err(), nt(0xC000_0061));
    finish(kernel);
}

#[test]
fn an_unknown_port_is_not_found() {
    let kernel = with_driver(Hooks::default());
    let caller = kernel.peer(std::process::id(), 0);
    let refused = UserPort::connect(&caller, &wide("\\flttest"), b"");
    assert_eq!(refused.unwrap_err(), nt(0xC000_0034), "case matters");
    finish(kernel);
}

#[test]
fn the_default_descriptor_admits_administrators_only() {
    let kernel = with_driver(Hooks::default());
    let user = kernel.peer(std::process::id() + 1_000_000, 1000);
    let refused = UserPort::connect(&user, &wide(NAME), b"");
    assert_eq!(refused.unwrap_err(), nt(0xC000_0022));
    connect_service(&kernel).close();
    finish(kernel);
}

#[test]
fn a_port_without_descriptor_has_the_default_one() {
    let entry = Arc::new(|object| {
        let status = register_and_listen(object, &full_registration());
        close_server();
        if status == OK {
            listen(NAME, false)
        } else {
            status
        }
    });
    let kernel = with_driver(Hooks {
        entry,
        ..Hooks::default()
    });
    let user = kernel.peer(std::process::id() + 1_000_000, 1000);
    assert_eq!(
        UserPort::connect(&user, &wide(NAME), b"").unwrap_err(),
        nt(0xC000_0022)
    );
    connect_service(&kernel).close();
    finish(kernel);
}

/// A list that allows one user to connect, in memory of its own.
fn list_for(user: &Sid) -> Box<[u64; 32]> {
    let mut memory = Box::new([0_u64; 32]);
    let list = memory.as_mut_ptr().cast::<ACL>();
    // SAFETY: 256 bytes.
    assert_eq!(unsafe { RtlCreateAcl(list, 256, 2) }, OK);
    let sid = user.as_bytes().as_ptr().cast_mut().cast();
    // SAFETY: a list with room and a SID.
    let added = unsafe { RtlAddAccessAllowedAce(list, 2, FLT_PORT_CONNECT, sid) };
    assert_eq!(added, OK);
    memory
}

/// Opens the port again, for one user only.
fn listen_for(user: &Sid) -> NTSTATUS {
    let mut list = list_for(user);
    let mut descriptor = SECURITY_DESCRIPTOR::default();
    let pointer = (&raw mut descriptor).cast::<c_void>();
    // SAFETY: memory for a descriptor.
    assert_eq!(unsafe { RtlCreateSecurityDescriptor(pointer, 1) }, OK);
    let list = list.as_mut_ptr().cast();
    // SAFETY: a descriptor, and a list that lives as long.
    let set = unsafe { RtlSetDaclSecurityDescriptor(pointer, true, list, false) };
    assert_eq!(set, OK);
    listen_with(NAME, pointer)
}

#[test]
fn a_descriptor_of_the_drivers_own_admits_whom_it_names() {
    let entry = Arc::new(|object| {
        assert_eq!(register_and_listen(object, &full_registration()), OK);
        close_server();
        // The descriptor is gone when the port is there: it was copied.
        listen_for(&Sid::unix_user(1000))
    });
    let kernel = with_driver(Hooks {
        entry,
        ..Hooks::default()
    });
    let connect = |uid| {
        let user = kernel.peer(std::process::id() + 1_000_000 + uid, uid);
        UserPort::connect(&user, &wide(NAME), b"")
    };
    connect(1000).unwrap().close();
    assert_eq!(connect(1001).unwrap_err(), nt(0xC000_0022));
    assert_eq!(
        connect(0).unwrap_err(),
        nt(0xC000_0022),
        "the list does not name SYSTEM"
    );
    finish(kernel);
}

#[test]
fn the_credentials_of_a_sockets_peer_become_the_token_that_the_driver_sees() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let connect = Arc::new(move |port, _: &[u8]| {
        set_client(port);
        let process = nt_thread::current_process();
        log.lock()
            .push((process.pid(), process.token().user().clone()));
        Ok(1)
    });
    let kernel = with_driver(Hooks {
        connect,
        ..Hooks::default()
    });
    let (socket, _other_end) = std::os::unix::net::UnixStream::pair().unwrap();
    let own = Peer::of(&socket).unwrap();
    MessageDevice
        .connect(&own, &wide(NAME), b"")
        .unwrap()
        .close();
    let stranger = Peer {
        pid: own.pid + 1_000_000,
        uid: own.uid + 1000,
    };
    let refused = MessageDevice.connect(&stranger, &wide(NAME), b"");
    assert_eq!(refused.err(), Some(nt(0xC000_0022)));
    let user = match own.uid {
        0 => Sid::local_system(),
        uid => Sid::unix_user(uid),
    };
    assert_eq!(*seen.lock(), [(u64::from(std::process::id()), user)]);
    finish(kernel);
}

#[test]
fn the_connection_limit_holds_until_disconnect_notify_returned() {
    let (entered, in_disconnect) = channel();
    let (leave, left) = channel::<()>();
    let (entered, left) = (Mutex::new(entered), Mutex::new(left));
    let disconnect = Arc::new(move |_| {
        entered.lock().send(()).unwrap();
        left.lock().recv().unwrap();
        close_client();
    });
    let kernel = with_driver(Hooks {
        disconnect,
        max_connections: 1,
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    let full = nt(0xC000_0246);
    assert_eq!(connect_with(&kernel, b"").unwrap_err(), full);
    thread::scope(|scope| {
        scope.spawn(|| service.close());
        in_disconnect.recv().unwrap();
        assert_eq!(
            connect_with(&kernel, b"").unwrap_err(),
            full,
            "the callback still runs"
        );
        leave.send(()).unwrap();
    });
    let again = connect_service(&kernel);
    leave.send(()).unwrap();
    again.close();
    finish(kernel);
}

#[test]
fn disconnect_notify_gets_the_cookie_once_in_the_closing_thread() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let disconnect = Arc::new(move |cookie| {
        log.lock().push((cookie, thread::current().id()));
        close_client();
    });
    let kernel = with_driver(Hooks {
        disconnect,
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    service.duplicate().unwrap();
    service.close_duplicate();
    assert!(seen.lock().is_empty(), "a handle is left");
    service.close();
    service.close();
    drop(service);
    assert_eq!(*seen.lock(), [(7, thread::current().id())]);
    finish(kernel);
}

#[test]
fn a_dropped_handle_is_closed() {
    let kernel = with_driver(Hooks::default());
    drop(connect_service(&kernel));
    assert!(crate::flt::snapshot().connections.is_empty());
    finish(kernel);
}

#[test]
fn closing_waits_for_a_message_callback_and_then_disconnects_in_the_closing_thread() {
    let (entered, in_message) = channel();
    let (leave, left) = channel::<()>();
    let (entered, left) = (Mutex::new(entered), Mutex::new(left));
    let order = Arc::new(Mutex::new(Vec::new()));
    let (of_message, of_disconnect) = (order.clone(), order.clone());
    let message = Arc::new(move |call: &MessageCall| {
        entered.lock().send(()).unwrap();
        left.lock().recv().unwrap();
        of_message.lock().push(("message", thread::current().id()));
        call.set_returned(0);
        OK
    });
    let disconnect = Arc::new(move |_| {
        of_disconnect
            .lock()
            .push(("disconnect", thread::current().id()));
        close_client();
    });
    let kernel = with_driver(Hooks {
        message,
        disconnect,
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    let caller = kernel.peer(std::process::id(), 0);
    let empty = UserSlice::default();
    let (sending, closing) = thread::scope(|scope| {
        let sending = scope.spawn(|| service.send(&caller, empty, empty));
        in_message.recv().unwrap();
        let closing = scope.spawn(|| service.close());
        let ids = (sending.thread().id(), closing.thread().id());
        while crate::flt::snapshot().connections[0].user_handles > 0 {
            thread::yield_now();
        }
        leave.send(()).unwrap();
        assert_eq!(sending.join().unwrap(), (OK, 0));
        ids
    });
    assert_eq!(
        *order.lock(),
        [("message", sending), ("disconnect", closing)]
    );
    finish(kernel);
}

#[test]
fn closing_the_server_port_keeps_connections() {
    let kernel = with_driver(Hooks {
        unload: Arc::new(|_| {
            unregister();
            OK
        }),
        ..Hooks::default()
    });
    let service = connect_service(&kernel);
    close_server();
    assert_eq!(connect_with(&kernel, b"").unwrap_err(), nt(0xC000_0034));
    let got = get(&service, 64);
    assert_eq!(notify(b"still here", Some(SECOND)), OK);
    assert_eq!(message_of(&got.recv().unwrap()).1, b"still here");
    service.close();
    finish(kernel);
}
