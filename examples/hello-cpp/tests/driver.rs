// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver in C++ on the hosted kernel, with the common driver and a service.

#[path = "../../hello-c/tests/service/mod.rs"]
mod service;

use service::First;

#[test]
fn a_service_is_greeted_and_answers() {
    service::greet_twice(&hello_cpp::DRIVER, "C++", First::Common);
}
