// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver that shares memory with a service in another process, and sets its event. The service is
//! this program once more, started by the test with the socket's path in its environment.

#[path = "../support/mod.rs"]
mod support;

mod driver;
mod service;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use driver::Machine;
use nt_host::transport::{Capabilities, MessageDevice, Server};

/// Where the service finds the socket, and what it is to do.
const SOCKET: &str = "SHARED_MEMORY_SOCKET";
const ROLE: &str = "SHARED_MEMORY_ROLE";

/// A kernel with the driver, at a socket.
struct Host {
    machine: Machine,
    server: Server,
    folder: std::path::PathBuf,
}

impl Host {
    fn new() -> Host {
        let machine = Machine::boot();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shared-memory-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let log = Arc::new(|line: &str| eprintln!("{line}"));
        let path = folder.join("host.sock");
        let server = Server::bind(&path, MessageDevice, &Capabilities::default(), log).unwrap();
        Host {
            machine,
            server,
            folder,
        }
    }

    /// Starts a service with its role.
    fn service(&self, role: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_service", "--nocapture"])
            .env(SOCKET, self.server.path())
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::inherit())
            .spawn()
            .unwrap()
    }

    fn end(self) {
        self.server.stop();
        self.machine.end();
        let _removed = std::fs::remove_dir_all(self.folder);
    }
}

fn succeeds(mut service: Child) {
    drop(service.stdin.take());
    assert!(service.wait().unwrap().success());
}

/// Looks until it is so, which others bring about.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Nothing in the test's own process.
#[test]
fn the_service() {
    if let (Ok(path), Ok(role)) = (std::env::var(SOCKET), std::env::var(ROLE)) {
        service::run(&path, &role);
    }
}

#[test]
fn a_service_reads_what_the_driver_writes_and_is_woken() {
    let host = Host::new();
    succeeds(host.service("honest"));
    // It has written there, and has gone; the driver's memory is what it was.
    assert_eq!(host.machine.consumer(0), 0xC0FFEE);
    until("its views are gone", || host.machine.views() == 0);
    host.end();
}

#[test]
fn handles_that_are_none_are_refused() {
    let host = Host::new();
    succeeds(host.service("odd-handles"));
    host.end();
}

#[test]
fn a_full_counter_does_not_hold_the_driver_up() {
    let host = Host::new();
    succeeds(host.service("full-counter"));
    host.end();
}

#[test]
fn a_service_that_is_killed_with_its_views_leaves_nothing() {
    let host = Host::new();
    let mut service = host.service("stays");
    until("it has its views", || host.machine.views() == 2);
    host.machine.fill(0, 1);
    service.kill().unwrap();
    service.wait().unwrap();
    until("its views are gone", || host.machine.views() == 0);
    host.machine.fill(0, 2);
    succeeds(host.service("honest"));
    host.end();
}

#[test]
fn a_service_that_is_killed_instead_of_answering_holds_nobody_up() {
    let host = Host::new();
    let mut service = host.service("does-not-answer");
    until("it was asked", || host.machine.asks() == 1);
    service.kill().unwrap();
    service.wait().unwrap();
    until("the driver goes on", || host.machine.asks() == 0);
    assert_eq!(host.machine.views(), 0);
    host.end();
}
