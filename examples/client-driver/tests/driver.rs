// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver on the hosted kernel, with the common driver and a service.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use client_driver::messages::{Launch, Launched, Pause, Paused, Verdict};
use fltport::{Client, Event, Message, MessageSet, Options};
use nt_host::status::{STATUS_ACCESS_DENIED, STATUS_SUCCESS};
use nt_host::transport::{Capabilities, Endpoint, MessageDevice, Server};
use nt_host::{Config, DriverImage, Kernel, ProcessCreated, Unload};

const FLTPORT: DriverImage = DriverImage {
    name: fltport_driver::IMAGE_NAME,
    entry: fltport_driver::driver_entry,
    force_integrity: false,
};

const DRIVER: DriverImage = DriverImage {
    name: client_driver::IMAGE_NAME,
    entry: client_driver::driver_entry,
    force_integrity: true,
};

const SOON: Duration = Duration::from_secs(10);

/// A program is started; what the driver lets become of it.
fn launch(kernel: &Kernel, pid: u64, image: &str) -> i32 {
    kernel.process_created(&ProcessCreated {
        pid,
        creator_pid: 4,
        image: Some(image.encode_utf16().collect()),
        ..Default::default()
    })
}

/// Where the services find the hosted kernel.
fn listen() -> (Server, PathBuf) {
    let folder = std::env::temp_dir().join(format!("client-driver-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let endpoint = Endpoint::bind(folder.join("socket")).expect("a socket");
    let log = Arc::new(|line: &str| eprintln!("{line}"));
    let server = Server::start(endpoint, MessageDevice, &Capabilities::default(), log);
    (server.expect("it listens"), folder)
}

/// The service: refuses `miner.exe`, and lists what has been started until it is `quit.exe`.
fn serve(client: &Client) -> Vec<String> {
    let mut launched = Vec::new();
    loop {
        match client.next(SOON).expect("something happens") {
            Event::Request(request) => {
                let question: Launch<'_> = request.record.decode().expect("a launch");
                let deny = question.image.to_string().ends_with("miner.exe");
                request.reply(&Verdict { deny }).expect("in time");
            }
            Event::Notification(record) => {
                let told: Launched<'_> = record.decode().expect("a launch");
                launched.push(told.image.to_string());
                if told.image.to_string().ends_with("quit.exe") {
                    return launched;
                }
            }
            Event::Outcome(_) | Event::CommonDriver(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_service_decides_and_hears_what_happened_before_it_came() {
    let kernel = Kernel::boot(Config::default());
    kernel.load(&DRIVER).expect("it needs no common driver");
    assert_eq!(launch(&kernel, 100, r"C:\early.exe"), STATUS_SUCCESS);
    kernel.load(&FLTPORT).expect("the common driver");
    assert_eq!(launch(&kernel, 101, r"C:\miner.exe"), STATUS_SUCCESS);

    let (server, folder) = listen();
    let options = Options::new("gatekeeper").socket(server.path());
    let client = Client::connect(options).expect("it is accepted");
    client
        .subscribe("gate", MessageSet::from(Launched::NUMBER), Launch::NUMBER)
        .expect("the driver has registered");
    let launched = thread::scope(|scope| {
        let service = scope.spawn(|| serve(&client));
        assert_eq!(launch(&kernel, 102, r"C:\miner.exe"), STATUS_ACCESS_DENIED);
        assert_eq!(launch(&kernel, 103, r"C:\quit.exe"), STATUS_SUCCESS);
        service.join().expect("the service has ended well")
    });
    assert_eq!(launched, [r"C:\early.exe", r"C:\miner.exe", r"C:\quit.exe"]);

    let paused = client.command("gate", &Pause { paused: true });
    let paused: Paused = paused.expect("it is done").decode().expect("a result");
    assert_eq!(paused.asked, 4);
    assert_eq!(launch(&kernel, 104, r"C:\miner.exe"), STATUS_SUCCESS);

    client.close();
    for name in [DRIVER.name, FLTPORT.name] {
        kernel
            .unload(name, Unload::Stop)
            .expect("it can be stopped");
    }
    kernel.shutdown_clean();
    server.stop();
    std::fs::remove_dir_all(folder).expect("the folder is there");
}
