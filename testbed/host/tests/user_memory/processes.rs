// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service in another process of this machine.

use crate::driver::Machine;
use fltport_nt::bindings::*;
use nt_host::{Process, Rule, UserSlice};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// A program that holds memory of its own and waits until it is killed.
struct Service(Child);

impl Service {
    fn start() -> Service {
        let child = Command::new("/bin/cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Service(child)
    }

    /// Some readable and writable memory of it: the start of its stack's used part, which is below
    /// the arguments and whose contents are the program's own.
    fn buffer(&self) -> UserSlice {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.0.id())).unwrap();
        let stack = maps.lines().find(|line| line.ends_with("[stack]")).unwrap();
        let (range, _) = stack.split_once(' ').unwrap();
        let (_, end) = range.split_once('-').unwrap();
        UserSlice {
            address: u64::from_str_radix(end, 16).unwrap() - 64,
            length: 16,
        }
    }

    fn process(&self, machine: &Machine) -> Arc<Process> {
        machine.kernel.peer(self.0.id(), 0)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_copy_reaches_the_other_process() {
    let machine = Machine::with(|call| {
        let status = call.store(0, b"0123456789abcdef");
        assert_eq!(status, STATUS_SUCCESS);
        let (status, bytes) = call.fetch(4, 4);
        assert_eq!(bytes, b"4567", "input and output are the same memory");
        status
    });
    let service = Service::start();
    let buffer = service.buffer();
    let status = machine.send_from(&service.process(&machine), buffer, buffer);
    assert_eq!(status, STATUS_SUCCESS);
    machine.expect(&[]);
}

#[test]
fn a_touch_is_reported_and_the_host_lives_on() {
    let machine = Machine::with(|call| {
        assert_eq!(call.store(0, b"0123456789abcdef"), STATUS_SUCCESS);
        let seen = call.peek(3);
        // SAFETY: the mistake itself.
        unsafe { call.output.write_volatile(b'X') };
        assert_eq!(call.fetch(0, 2).1, b"X1");
        i32::from(seen)
    });
    let service = Service::start();
    let buffer = service.buffer();
    let process = service.process(&machine);
    assert_eq!(machine.send_from(&process, buffer, buffer), i32::from(b'3'));
    machine.expect(&[Rule::UserMemoryTouched, Rule::UserMemoryTouched]);
}

#[test]
fn a_service_that_is_gone_has_no_memory() {
    let machine = Machine::with(|call| {
        assert_eq!(call.peek(0), 0);
        call.fetch(0, 4).0
    });
    let service = Service::start();
    let buffer = service.buffer();
    let process = service.process(&machine);
    drop(service);
    let status = machine.send_from(&process, buffer, UserSlice::default());
    assert_eq!(status, STATUS_ACCESS_VIOLATION);
    machine.expect(&[Rule::UserMemoryTouched]);
}
