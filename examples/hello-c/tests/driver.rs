// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver in C on the hosted kernel, with the common driver and a service.

mod service;

use service::First;

#[test]
fn a_service_is_greeted_and_answers() {
    service::greet_twice(&hello_c::DRIVER, "C", First::Common);
}

#[test]
fn a_driver_that_comes_first_loses_nothing() {
    service::greet_twice(&hello_c::DRIVER, "C", First::Client);
}
