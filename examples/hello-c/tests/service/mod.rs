// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hello drivers on the hosted kernel, with the common driver and their service.

use std::path::PathBuf;
use std::sync::Arc;

use fltport::{Client, Options};
use hello_service::greet;
use nt_host::transport::{Capabilities, Endpoint, MessageDevice, Server};
use nt_host::{Config, DriverImage, Kernel, Unload};

const FLTPORT: DriverImage = DriverImage {
    name: fltport_driver::IMAGE_NAME,
    entry: fltport_driver::driver_entry,
    force_integrity: false,
};

/// In which order the drivers are loaded.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum First {
    /// The common driver.
    Common,
    /// The client driver; and a hello is said before there is a common driver.
    #[allow(dead_code, reason = "the static import has no such order")]
    Client,
}

/// Where the service finds the hosted kernel.
fn listen(name: &str) -> (Server, PathBuf) {
    let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let endpoint = Endpoint::bind(folder.join("socket")).expect("a socket");
    let log = Arc::new(|line: &str| eprintln!("{line}"));
    let server = Server::start(endpoint, MessageDevice, &Capabilities::default(), log);
    (server.expect("it listens"), folder)
}

/// Loads both drivers, has the client driver greet twice, and unloads them.
pub(crate) fn greet_twice(driver: &DriverImage, language: &str, first: First) {
    let kernel = Kernel::boot(Config::default());
    let order = match first {
        First::Common => [&FLTPORT, driver],
        First::Client => [driver, &FLTPORT],
    };
    for image in order {
        kernel.load(image).expect("DriverEntry succeeds");
    }
    let (server, folder) = listen(&format!("{}-{}", driver.name, first == First::Client));
    let client = Client::connect(Options::new("greeter").socket(server.path()));
    let client = client.expect("it is accepted");
    let (before, heard) = greet(&client, driver.name, 2).expect("it is there, and answers");
    assert_eq!(before, 0);
    let hello = |count| format!("{count}: Hello from {language}");
    let answer = |count, fine| format!("{count}: {fine}");
    let expected = [
        hello(0),
        hello(1),
        answer(1, true),
        hello(2),
        answer(2, false),
    ];
    assert_eq!(heard, expected);

    client.close();
    for image in [driver, &FLTPORT] {
        kernel
            .unload(image.name, Unload::Stop)
            .expect("it can be stopped");
    }
    kernel.shutdown_clean();
    server.stop();
    std::fs::remove_dir_all(folder).expect("the folder is there");
}
