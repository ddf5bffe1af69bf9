// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver in C is answered by a service that was built with a newer version of its definition, through
//! the stub, the common driver, and the service library.

use compat::{NEW_CLIENT, call_everything};
use fltport::{Client, Event, MessageSet, Options};
use fltport_abi::message::Message;
use fltport_nt::bindings::STATUS_SUCCESS;
use nt_host::transport::{Capabilities, Endpoint, MessageDevice, Server};
use nt_host::{Config, DriverImage, Kernel, Unload};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

fltport_abi::messages! {
    /// As in `client.c`, and grown.
    provider COMPAT = "compat";

    /// A question.
    request 2 "question" Question {
        /// Which.
        number: u64,
    } -> /// Its answer.
    Yes<'a> {
        /// Yes.
        yes: bool,
        /// Since a later version: why.
        why: &'a [u8],
    }
}

const FLTPORT: DriverImage = DriverImage {
    name: fltport_driver::IMAGE_NAME,
    entry: fltport_driver::driver_entry,
    force_integrity: false,
};

const ANSWERED: u32 = 0;

#[test]
fn what_a_driver_in_c_knows_of_a_longer_reply_is_its_answer() {
    let kernel = Kernel::boot(Config::default());
    for image in [&FLTPORT, &NEW_CLIENT] {
        kernel.load(image).expect("DriverEntry succeeds");
    }
    let folder = std::env::temp_dir().join(format!("newer-service-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let endpoint = Endpoint::bind(folder.join("socket")).expect("a socket");
    let log = Arc::new(|line: &str| eprintln!("{line}"));
    let server = Server::start(endpoint, MessageDevice, &Capabilities::default(), log);
    let server = server.expect("it listens");
    let client = Client::connect(Options::new("newer").socket(server.path()));
    let client = client.expect("it is accepted");
    let decides = client.subscribe(COMPAT.name, MessageSet::NONE, Question::NUMBER);
    decides.expect("it is the decider");

    let calls = thread::spawn(call_everything);
    for _ in 0..2 {
        let event = client.next(Duration::from_secs(20)).expect("is asked");
        let Event::Request(request) = event else {
            panic!("unexpected: {event:?}");
        };
        let reply = Yes {
            yes: false,
            why: b"nobody has asked for that yet",
        };
        request.reply(&reply).expect("somebody waits");
    }
    let outcomes = calls.join().expect("the driver has not died");
    let statuses = [outcomes.request, outcomes.request_async];
    assert_eq!(statuses, [STATUS_SUCCESS; 2]);
    // Not the default that was declared.
    assert_eq!((outcomes.outcome, outcomes.yes), (ANSWERED, 0));
    let rows = client.requests().expect("the accounts");
    let row = rows.iter().find(|row| row.asked != 0).expect("it asked");
    assert_eq!((row.asked, row.outcomes[0]), (2, 2), "{row:?}");

    client.close();
    for image in [&NEW_CLIENT, &FLTPORT] {
        let stopped = kernel.unload(image.name, Unload::Stop);
        stopped.expect("it can be stopped");
    }
    kernel.shutdown_clean();
    server.stop();
    std::fs::remove_dir_all(folder).expect("the folder is there");
}
