// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client driver of revision 1.0, with today's common driver and service.

#[path = "../../../examples/hello-c/tests/service/mod.rs"]
mod service;

use service::First;

#[test]
fn it_tells_asks_and_takes_commands() {
    service::greet_twice(&compat::OLD_CLIENT, "C", First::Common);
}

#[test]
fn what_it_tells_before_there_is_a_common_driver_is_not_lost() {
    service::greet_twice(&compat::OLD_CLIENT, "C", First::Client);
}
