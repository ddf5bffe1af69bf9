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

/// What `docs/schema.md` shows of default replies is in the driver, line by line.
#[test]
fn what_the_guide_shows_is_in_the_driver() {
    let guide = include_str!("../../../docs/schema.md");
    let block = guide
        .split("```rust\n")
        .find(|block| block.starts_with("const DEFAULTS"));
    let (shown, _) = block.and_then(|it| it.split_once("```\n")).expect("it");
    let driver = include_str!("../src/lib.rs");
    for part in shown.split("// …\n") {
        assert!(
            driver.contains(part),
            "examples/hello-rs/src/lib.rs does not have this of docs/schema.md:\n{part}"
        );
    }
}
