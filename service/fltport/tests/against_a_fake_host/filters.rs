// SPDX-License-Identifier: MIT OR Apache-2.0
//! Subscriptions with filters, against a fake hosted kernel.

use crate::fake_host::FakeHost;
use fltport::{Client, Error, Event, Options, Subscription};
use fltport_abi::command::flags;
use fltport_abi::filter::Program;
use fltport_abi::process_monitor::PROVIDER;
use fltport_abi::status;
use std::time::Duration;

fn connected(host: &FakeHost) -> Client {
    let options = Options::new("test")
        .socket(&host.path)
        .backoff(Duration::from_millis(5), Duration::from_millis(50));
    Client::connect(options).unwrap()
}

fn wanted() -> Subscription {
    Subscription::to("process-monitor")
        .observe([1, 2])
        .decide(5)
        .filter("start", "image ends '/nc'")
        .filter(2, "exit_status != 0")
}

#[test]
fn filters_are_made_again_with_the_subscription() {
    let host = FakeHost::new();
    let client = connected(&host);
    client.subscribe_with(wanted().mute_self()).unwrap();
    let first = host.connection(0).filtered();
    let (subscription, filters) = &first[0];
    assert_eq!((subscription.observe, subscription.decide), (0b110, 1 << 5));
    assert_eq!(subscription.flags, flags::MUTE_SELF);
    assert_eq!(subscription.hash, PROVIDER.hash());
    assert_eq!(subscription.filters as usize, filters.len());
    let (start, rest) = Program::split(filters).unwrap();
    let exit = Program::parse(rest).unwrap();
    assert_eq!((start.message, exit.message), (1, 2));

    host.connection(0).disconnect();
    let event = client.next(Duration::from_secs(10));
    assert!(
        matches!(event, Some(Event::Disconnected { .. })),
        "{event:?}"
    );
    let again = host.connection(1);
    again.wait_for_subscription();
    assert_eq!(again.filtered(), first);
}

#[test]
fn what_needs_no_filter_is_understood_by_every_driver() {
    let host = FakeHost::new();
    let client = connected(&host);
    let plain = Subscription::to("process-monitor").observe([1]);
    client.subscribe_with(plain).unwrap();
    assert!(host.connection(0).filtered().is_empty());
    assert_eq!(host.connection(0).subscriptions().len(), 1);
}

#[test]
fn a_driver_without_filters_is_told_of() {
    let host = FakeHost::new();
    host.subscribe_status(status::INVALID_DEVICE_REQUEST);
    let client = connected(&host);
    let error = client.subscribe_with(wanted()).unwrap_err();
    assert!(matches!(error, Error::DriverTooOld(_)), "{error:?}");
    assert!(error.to_string().contains("Update the driver"), "{error}");
}

#[test]
fn mistakes_are_found_before_the_driver_is_asked() {
    let host = FakeHost::new();
    let client = connected(&host);
    for (subscription, expected) in [
        (
            wanted().filter(1, "pid == 4"),
            "there are two filters for \"start\"; combine them",
        ),
        (
            wanted().filter("begin", "pid == 4"),
            "process-monitor tells of no message \"begin\". It tells of start, exit, thread, image, create",
        ),
        (
            wanted().filter("set-exclusions", "pid == 4"),
            "tells of no message \"set-exclusions\"",
        ),
        (wanted().filter(3, "pdi == 4"), "has no field \"pdi\""),
    ] {
        let error = client.subscribe_with(subscription).unwrap_err();
        assert!(matches!(error, Error::Filter(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(host.connection(0).subscriptions().is_empty());
    // What is in force stays so when its successor is none.
    client.subscribe_with(wanted()).unwrap();
    assert!(
        client
            .subscribe_with(wanted().filter(3, "pdi == 4"))
            .is_err()
    );
    host.connection(0).disconnect();
    let again = host.connection(1);
    again.wait_for_subscription();
    assert_eq!(again.filtered(), host.connection(0).filtered());
}
