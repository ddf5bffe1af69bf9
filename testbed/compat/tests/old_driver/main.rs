// SPDX-License-Identifier: MIT OR Apache-2.0
//! Client drivers with today's header and stub, and with today's crate, with common drivers of the revisions before and
//! after, and with none.

mod common_driver;
mod crate_client;

use common_driver::{Call, CommonDriver, Revision};
use compat::{NEW_CLIENT, Outcomes, call_everything};
use fltport_nt::NtError;
use fltport_nt::bindings::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_NOT_SUPPORTED, STATUS_RETRY, STATUS_SUCCESS,
};
use nt_host::faults::FaultPlan;
use nt_host::{Config, Kernel, Unload};

const STATUS_DEVICE_NOT_READY: i32 = 0xC000_00A3_u32 as i32;
const NO_DECIDER: u32 = 2;

/// Everything succeeds and is offered; nobody decides, and the default that was declared answers.
const FULL: Outcomes = Outcomes {
    listening: 1,
    notify: STATUS_SUCCESS,
    reserve: STATUS_SUCCESS,
    commit: STATUS_SUCCESS,
    reserve_to_discard: STATUS_SUCCESS,
    book: STATUS_SUCCESS,
    notify_booked: STATUS_SUCCESS,
    book_to_unbook: STATUS_SUCCESS,
    request: STATUS_SUCCESS,
    outcome: NO_DECIDER,
    yes: 1,
    request_async: STATUS_SUCCESS,
    completed: 1,
    async_outcome: NO_DECIDER,
    // The request's own, which is for the common driver to replace.
    async_yes: 0,
    statistics: STATUS_SUCCESS,
    offered: 3,
};

fn stop(kernel: Kernel) {
    kernel
        .unload(NEW_CLIENT.name, Unload::Stop)
        .expect("it can be stopped");
    kernel.shutdown_clean();
}

/// Loads the client beside a common driver of this revision, and calls everything.
fn meet(revision: Revision) -> (Outcomes, Vec<Call>) {
    let kernel = Kernel::boot(Config::default());
    let driver = CommonDriver::announced(revision);
    kernel.load(&NEW_CLIENT).expect("it registers");
    let outcomes = call_everything();
    drop(driver);
    // Before the next test has its kernel.
    let calls = common_driver::calls();
    stop(kernel);
    (outcomes, calls)
}

#[test]
fn with_revision_1_0_it_does_without_and_says_so() {
    let (outcomes, calls) = meet(Revision::First);
    let expected = Outcomes {
        book: STATUS_NOT_SUPPORTED,
        book_to_unbook: STATUS_NOT_SUPPORTED,
        request_async: STATUS_NOT_SUPPORTED,
        completed: 0,
        async_outcome: 0,
        statistics: STATUS_NOT_SUPPORTED,
        offered: 0,
        ..FULL
    };
    assert_eq!(outcomes, expected);
    let numbers = [1, 2, 3].map(Call::Number);
    assert_eq!(
        calls,
        [
            &[Call::Register],
            &numbers[..],
            &[Call::Request, Call::Unregister]
        ]
        .concat()
    );
}

#[test]
fn with_a_later_revision_it_has_everything() {
    for revision in [Revision::Today, Revision::Later] {
        let (outcomes, calls) = meet(revision);
        assert_eq!(outcomes, FULL, "{revision:?}");
        let expected = [
            Call::Register,
            Call::Number(1),
            Call::Committed(2),
            Call::Discarded,
            Call::Booked(3),
            Call::Unbooked,
            Call::Request,
            Call::Async,
            Call::Unregister,
        ];
        assert_eq!(calls, expected, "{revision:?}");
    }
}

#[test]
fn what_nobody_would_hear_is_counted_unless_it_has_a_booking() {
    const NUMBER: u16 = 1;
    let kernel = Kernel::boot(Config::default());
    common_driver::are_quiet(1 << NUMBER);
    let driver = CommonDriver::announced(Revision::Today);
    kernel.load(&NEW_CLIENT).expect("it registers");
    common_driver::are_quiet(0);
    assert_eq!(call_everything(), FULL);
    let offered = |calls: &[Call]| calls.iter().filter_map(Call::number).collect::<Vec<_>>();
    assert_eq!(offered(&common_driver::calls()), [2, 3]);
    assert_eq!(common_driver::unheard(NUMBER), 1);
    // Without a common driver everything is staged.
    driver.revoke();
    call_everything();
    driver.announce();
    common_driver::wait_for_numbers(5);
    assert_eq!(offered(&common_driver::calls()), [2, 3, 1, 2, 3]);
    assert_eq!(common_driver::unheard(NUMBER), 1, "for who takes it out");
    drop(driver);
    stop(kernel);
}

#[test]
fn without_a_common_driver_it_keeps_what_is_offered() {
    let kernel = Kernel::boot(Config::default());
    kernel.load(&NEW_CLIENT).expect("it needs no common driver");
    let expected = Outcomes {
        request_async: STATUS_DEVICE_NOT_READY,
        completed: 0,
        async_outcome: 0,
        statistics: STATUS_DEVICE_NOT_READY,
        offered: 0,
        ..FULL
    };
    assert_eq!(call_everything(), expected);
    let driver = CommonDriver::announced(Revision::Today);
    common_driver::wait_for(&Call::Number(3));
    assert_eq!(call_everything(), FULL);
    drop(driver);
    let numbers = [1, 2, 3].map(Call::Number);
    assert_eq!(common_driver::calls()[1..4], numbers);
    stop(kernel);
}

/// What was staged has not been offered yet then, and would come behind the snapshot.
#[test]
fn a_service_that_subscribes_while_the_client_binds_is_to_try_again() {
    let kernel = Kernel::boot(Config::default());
    let driver = CommonDriver::announced(Revision::Today);
    kernel.load(&NEW_CLIENT).expect("it registers");
    assert_eq!(common_driver::snapshot_while_registering(), STATUS_RETRY);
    drop(driver);
    stop(kernel);
}

#[test]
fn a_registration_that_fails_on_the_way_leaves_nothing_behind() {
    let kernel = Kernel::boot(Config::default());
    let driver = CommonDriver::announced(Revision::Today);
    let mut failed = 0;
    for function in ["ExAllocatePool2", "ExCreateCallback", "ExRegisterCallback"] {
        // The provider is one allocation.
        for call in 0..3 {
            kernel.set_faults(FaultPlan::nth(call).of(function));
            match kernel.load(&NEW_CLIENT) {
                Ok(()) => kernel
                    .unload(NEW_CLIENT.name, Unload::Stop)
                    .expect("it can be stopped"),
                Err(status) => {
                    assert_eq!(status, STATUS_INSUFFICIENT_RESOURCES, "{function} {call}");
                    failed += 1;
                }
            }
        }
    }
    assert_eq!(failed, 3);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn nothing_is_lost_or_offered_twice_while_the_common_driver_comes_and_goes() {
    const CALLS: usize = 2000;
    let kernel = Kernel::boot(Config::default());
    let driver = CommonDriver::announced(Revision::Today);
    kernel.load(&NEW_CLIENT).expect("it registers");
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| {
            (0..CALLS).for_each(|_| {
                let outcomes = call_everything();
                let told = [outcomes.notify, outcomes.commit, outcomes.notify_booked];
                assert_eq!(told, [STATUS_SUCCESS; 3]);
            });
        });
        while !calling.is_finished() {
            driver.revoke();
            driver.announce();
        }
    });
    common_driver::wait_for_numbers(3 * CALLS);
    drop(driver);
    let calls = common_driver::calls();
    for number in 1..=3 {
        let offered = calls.iter().filter(|call| call.number() == Some(number));
        assert_eq!(offered.count(), CALLS, "{number}");
    }
    let count = |wanted: &Call| calls.iter().filter(|call| *call == wanted).count();
    assert_eq!(count(&Call::Register), count(&Call::Unregister));
    stop(kernel);
}

#[test]
fn the_crate_does_without_what_revision_1_0_lacks() {
    for revision in [Revision::First, Revision::Today, Revision::Later] {
        let kernel = Kernel::boot(Config::default());
        let driver = CommonDriver::announced(revision);
        kernel.load(&crate_client::IMAGE).expect("it registers");
        let unsupported = NtError(STATUS_NOT_SUPPORTED);
        let expected = match revision {
            Revision::First => crate_client::Outcomes {
                booked: Err(unsupported),
                offered: Err(unsupported),
                ..crate_client::FULL
            },
            _ => crate_client::FULL,
        };
        assert_eq!(crate_client::call_everything(), expected, "{revision:?}");
        let calls = common_driver::calls();
        let in_place = calls.contains(&Call::Committed(2));
        assert_eq!(in_place, revision != Revision::First, "{calls:?}");
        drop(driver);
        kernel
            .unload(crate_client::IMAGE.name, Unload::Stop)
            .expect("it can be stopped");
        kernel.shutdown_clean();
    }
}
