// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver in Rust on the hosted kernel, with the common driver and a service.

#[path = "../../hello-c/tests/service/mod.rs"]
mod service;

use nt_host::DriverImage;
use service::First;

const DRIVER: DriverImage = DriverImage {
    name: hello_rs::IMAGE_NAME,
    entry: hello_rs::driver_entry,
    force_integrity: false,
};

#[test]
fn a_service_is_greeted_and_answers() {
    service::greet_twice(&DRIVER, "Rust", First::Common);
}

#[test]
fn a_driver_that_comes_first_loses_nothing() {
    service::greet_twice(&DRIVER, "Rust", First::Client);
}
