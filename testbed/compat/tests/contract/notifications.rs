// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notifications, what is lost, and the accounts of both.

use std::collections::BTreeMap;
use std::time::Instant;

use compat::contract::{Answered, IMPORT, STUB};
use fltport_abi::Cause;
use fltport_abi::import::Booking;
use fltport_abi::interface::{Notification, ProviderStatistics, Revised};
use fltport_abi::limits::MAX_PAYLOAD;
use fltport_abi::message::Message;
use fltport_nt::bindings::{STATUS_BUFFER_OVERFLOW, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use nt_host::{Config, Kernel, Unload};

use crate::messages::{Number, Other, Question};
use crate::requests::{NO_DECIDER, asked};
use crate::scene::{FLTPORT, SOON, at_dispatch_level, both};

const STATUS_DEVICE_NOT_READY: i32 = 0xC000_00A3_u32 as i32;

#[test]
fn what_is_told_arrives_as_it_was_told() {
    both(|scene| {
        let contract = scene.contract;
        assert!(!contract.listening(Number::NUMBER), "there is no backlog");
        scene.subscribe([]);
        assert!(contract.listening(Number::NUMBER) && !contract.listening(Question::NUMBER));
        assert!(
            !contract.listening(64 + Number::NUMBER),
            "there is no such number"
        );
        assert!(!contract.listening_without(Number::NUMBER));
        let size = size_of::<Notification>() as u32;
        let mut none = Booking::default();
        let told = [
            contract.notify(Number::NUMBER, 8, 1, 8),
            contract.notify_ex(size, 1234, 2, false),
            at_dispatch_level(|| contract.notify_ex(Notification::FIRST as u32, 0, 3, false)),
            contract.notify_booked(Number::NUMBER, 4, &mut none),
            at_dispatch_level(|| contract.in_place(Number::NUMBER, 64, 8, 5, 8)),
        ];
        assert_eq!(told, [STATUS_SUCCESS; 5]);
        assert_eq!(scene.number().0, 1);
        assert_eq!(scene.number(), (2, 1234));
        assert_eq!(scene.numbers(3), [3, 4, 5]);
        let found = scene.statistics(Number::NUMBER);
        assert_eq!((found.offered, found.observers, found.deciders), (5, 1, 0));
        assert_eq!(found.delivered + found.in_flight, 5);
        assert_eq!(scene.statistics(Other::NUMBER).offered, 0);
    });
}

fn is_none(booking: &Booking) -> bool {
    booking.number == 0 && booking.staged == 0
}

#[test]
fn what_is_booked_has_its_room() {
    both(|scene| {
        let contract = scene.contract;
        scene.subscribe([]);
        let mut booking = Booking::default();
        let book = |length, booking: &mut Booking| contract.book(Number::NUMBER, length, booking);
        assert_eq!(book(8, &mut booking), STATUS_SUCCESS);
        // It stays what it is while the call is refused.
        let refused = contract.notify_booked(Question::NUMBER, 1, &mut booking);
        assert_eq!(
            (refused, booking.number != 0),
            (STATUS_INVALID_PARAMETER, true)
        );
        let told = contract.notify_booked(Number::NUMBER, 1, &mut booking);
        assert_eq!((told, is_none(&booking)), (STATUS_SUCCESS, true));
        assert_eq!(book(8, &mut booking), STATUS_SUCCESS);
        contract.unbook(&mut booking);
        assert!(is_none(&booking));
        contract.unbook(&mut booking);
        assert_eq!(
            contract.book(Question::NUMBER, 8, &mut booking),
            STATUS_INVALID_PARAMETER
        );
        let too_long = match contract.has_stub {
            true => STATUS_INVALID_PARAMETER,
            false => STATUS_BUFFER_OVERFLOW,
        };
        assert_eq!(book(MAX_PAYLOAD as u32 + 1, &mut booking), too_long);
        assert!(is_none(&booking));
        assert_eq!(scene.numbers(1), [1]);
    });
}

#[test]
fn a_wrong_notification_is_refused_and_not_told() {
    both(|scene| {
        let contract = scene.contract;
        scene.subscribe([]);
        let size = size_of::<Notification>() as u32;
        let refused = [
            contract.notify(Question::NUMBER, 8, 1, 8),
            contract.notify(5, 8, 1, 8),
            contract.notify(64, 8, 1, 8),
            contract.notify(Number::NUMBER, 9, 1, 8),
            contract.notify_ex(Notification::FIRST as u32 - 1, 0, 1, false),
            contract.notify_ex(size, 0, 1, true),
            contract.notify_nothing(),
            contract.in_place(Question::NUMBER, 8, 8, 1, 8),
            contract.in_place(Number::NUMBER, 8, 8, 1, 9),
            contract.in_place(Number::NUMBER, 8, 8, 1, 7),
        ];
        assert_eq!(refused, [STATUS_INVALID_PARAMETER; 10]);
        assert_eq!(scene.statistics(0).offered, 0);
        let too_large = MAX_PAYLOAD as u32 + 1;
        let lost = [
            contract.notify(Number::NUMBER, 8, 1, too_large),
            contract.in_place(Number::NUMBER, too_large, 8, 1, 8),
        ];
        assert_eq!(lost, [STATUS_SUCCESS, STATUS_BUFFER_OVERFLOW]);
        contract.notify(Number::NUMBER, 8, 2, 8);
        let expected = BTreeMap::from([((Number::NUMBER, Some(Cause::TooLarge)), 2)]);
        assert_eq!(scene.losses(), (expected, 2));
    });
}

#[test]
fn what_could_not_be_offered_is_told_and_counted() {
    both(|scene| {
        let contract = scene.contract;
        scene.subscribe([]);
        contract.lost(Number::NUMBER, Cause::NoMemory as u16, 3);
        at_dispatch_level(|| contract.lost(Number::NUMBER, Cause::NoMemory as u16, 4));
        contract.lost(Other::NUMBER, Cause::WrongIrql as u16, 1);
        // No notification, no cause.
        contract.lost(Question::NUMBER, Cause::NoMemory as u16, 8);
        contract.lost(64, Cause::NoMemory as u16, 8);
        contract.lost(Number::NUMBER, 10, 8);
        contract.notify(Number::NUMBER, 8, 1, 8);
        let expected = BTreeMap::from([
            ((Number::NUMBER, Some(Cause::NoMemory)), 7),
            ((Other::NUMBER, Some(Cause::WrongIrql)), 1),
        ]);
        assert_eq!(scene.losses(), (expected, 1));
        let found = scene.statistics(Number::NUMBER);
        let lost: u64 = found.lost.iter().sum();
        assert_eq!((found.lost[Cause::NoMemory as usize], lost), (7, 7));
        assert_eq!(found.offered, 8);
        assert_eq!(scene.statistics(0).offered, 9);
    });
}

/// Whoever has the stub need not wait for the common driver.
#[test]
fn what_is_told_and_lost_before_there_is_a_common_driver_comes_later() {
    let kernel = Kernel::boot(Config::default());
    kernel.load(&STUB.image).expect("it needs no common driver");
    assert!(STUB.listening(Number::NUMBER));
    assert_eq!(STUB.notify(Number::NUMBER, 8, 1, 8), STATUS_SUCCESS);
    STUB.lost(Number::NUMBER, Cause::NoMemory as u16, 5);
    // So that the loss has one place.
    assert_eq!(STUB.notify(Number::NUMBER, 8, 2, 8), STATUS_SUCCESS);
    let mut found = ProviderStatistics::EMPTY;
    assert_eq!(STUB.statistics(0, 0, &mut found), STATUS_DEVICE_NOT_READY);
    assert_eq!(STUB.ask_later(&asked(1)), STATUS_DEVICE_NOT_READY);
    let mut answered = Answered::default();
    assert_eq!(STUB.ask(&asked(1), &mut answered), STATUS_SUCCESS);
    assert_eq!((answered.outcome, answered.yes), (NO_DECIDER, 0));
    let found = statistics_once_bound(&kernel);
    let causes = [Cause::NoMemory, Cause::RingFull, Cause::NoConnection];
    let lost = causes.map(|cause| found.lost[cause as usize]);
    assert_eq!((lost, found.offered), ([5, 1, 1], 7));
    for name in [STUB.image.name, FLTPORT.name] {
        kernel
            .unload(name, Unload::Stop)
            .expect("it can be stopped");
    }
    kernel.shutdown_clean();
}

/// Whatever is lost, and if it is no longer than was booked.
#[test]
fn what_is_booked_has_its_room_in_the_staging_buffer() {
    let kernel = Kernel::boot(Config::default());
    kernel.load(&STUB.image).expect("it needs no common driver");
    let mut booked = [Booking::default(), Booking::default()];
    for (booking, length) in booked.iter_mut().zip([8, 0]) {
        assert_eq!(STUB.book(Number::NUMBER, length, booking), STATUS_SUCCESS);
    }
    STUB.lost(Number::NUMBER, Cause::NoMemory as u16, 1);
    for booking in &mut booked {
        let told = STUB.notify_booked(Number::NUMBER, 1, booking);
        assert_eq!((told, is_none(booking)), (STATUS_SUCCESS, true));
    }
    let found = statistics_once_bound(&kernel);
    let causes = [Cause::NoMemory, Cause::RingFull, Cause::NoConnection];
    let lost = causes.map(|cause| found.lost[cause as usize]);
    assert_eq!((lost, found.offered), ([1, 1, 1], 3));
    for name in [STUB.image.name, FLTPORT.name] {
        kernel
            .unload(name, Unload::Stop)
            .expect("it can be stopped");
    }
    kernel.shutdown_clean();
}

/// It came before all that is staged from then on.
#[test]
fn what_a_common_driver_lost_at_its_end_is_not_in_the_way_of_what_comes_then() {
    let kernel = Kernel::boot(Config::default());
    kernel.load(&STUB.image).expect("it needs no common driver");
    STUB.lost(Number::NUMBER, Cause::ShuttingDown as u16, 1);
    assert_eq!(STUB.notify(Number::NUMBER, 8, 1, 8), STATUS_SUCCESS);
    let found = statistics_once_bound(&kernel);
    let causes = [Cause::ShuttingDown, Cause::RingFull, Cause::NoConnection];
    let lost = causes.map(|cause| found.lost[cause as usize]);
    assert_eq!((lost, found.offered), ([1, 0, 1], 2));
    for name in [STUB.image.name, FLTPORT.name] {
        kernel
            .unload(name, Unload::Stop)
            .expect("it can be stopped");
    }
    kernel.shutdown_clean();
}

/// Loads the common driver; what it knows of the numbers once the stub has handed over.
fn statistics_once_bound(kernel: &Kernel) -> ProviderStatistics {
    let mut found = ProviderStatistics::EMPTY;
    kernel.load(&FLTPORT).expect("the common driver");
    // The work item binds.
    let deadline = Instant::now() + SOON;
    while STUB.statistics(0, Number::NUMBER, &mut found) == STATUS_DEVICE_NOT_READY {
        assert!(Instant::now() < deadline, "it does not bind");
        std::thread::yield_now();
    }
    found
}

/// NT loads the image for whoever imports from it, and does not start it.
#[test]
fn the_import_says_that_there_is_no_common_driver() {
    let kernel = Kernel::boot(Config::default());
    let refused = kernel.load(&IMPORT.image).expect_err("it is not started");
    assert_eq!(refused, STATUS_DEVICE_NOT_READY);
    kernel.shutdown_clean();
}

#[test]
fn statistics_of_what_there_is_not_are_refused() {
    both(|scene| {
        let mut found = ProviderStatistics::EMPTY;
        let size = size_of::<ProviderStatistics>() as u32;
        let refused = [(size - 1, 0), (size, 5), (size, 4), (size, 64)]
            .map(|(size, message)| scene.contract.statistics(size, message, &mut found));
        assert_eq!(refused, [STATUS_INVALID_PARAMETER; 4]);
    });
}
