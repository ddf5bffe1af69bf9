// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client driver with today's crate, which calls what `client.c` calls.

use fltport_abi::Outcome;
use fltport_abi::message::Message;
use fltport_client::{CommandCaller, Handler, Options, Provider};
use fltport_nt::bindings::{
    DRIVER_OBJECT, NTSTATUS, STATUS_INVALID_DEVICE_REQUEST, UNICODE_STRING,
};
use fltport_nt::ex::{Global, PoolArc, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::status::to_status;
use fltport_nt::{NtError, Result};
use nt_host::DriverImage;

fltport_abi::messages! {
    /// As in `client.c`.
    provider PROVIDER = "compat-crate";

    /// A number.
    notification 1 "number" Number {
        /// Which.
        number: u64,
    }

    /// A question.
    request 2 "question" Question {
        /// Which.
        number: u64,
    } -> /// Its answer.
    Reply {
        /// Yes or no.
        yes: bool,
    }
}

pub(crate) const IMAGE: DriverImage = DriverImage {
    name: "compat-crate",
    entry,
    force_integrity: false,
};

const TAG: Tag = Tag::new(b"Cmpt");
static CLIENT: Global<Provider<NoCommands>> = Global::empty();

pub(crate) struct NoCommands;

impl Handler for NoCommands {
    fn command(&self, _: &CommandCaller, _: u16, _: &[u8], _: &mut [u8]) -> Result<usize> {
        Err(NtError(STATUS_INVALID_DEVICE_REQUEST))
    }
}

unsafe extern "system" fn entry(driver: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the hosted kernel passes this driver's object.
    let driver = unsafe { DriverObject::new(driver) };
    driver.set_unload(unload);
    let registered = Provider::register(driver, &PROVIDER, NoCommands, Options::new(TAG));
    to_status(registered.and_then(|provider| {
        CLIENT.replace(Some(PoolArc::new(TAG, provider)?));
        Ok(())
    }))
}

unsafe extern "system" fn unload(_: *const DRIVER_OBJECT) {
    drop(CLIENT.replace(None));
}

/// What came of each call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcomes {
    pub(crate) listening: bool,
    pub(crate) notify: Result<()>,
    pub(crate) committed: Result<()>,
    pub(crate) booked: Result<()>,
    pub(crate) asked: Result<Outcome>,
    pub(crate) offered: Result<u64>,
}

/// Has the loaded driver call everything.
pub(crate) fn call_everything() -> Outcomes {
    let provider = CLIENT.get().expect("it is loaded");
    let committed = provider.reserve::<Number>(64).and_then(|mut place| {
        let length = Number { number: 2 }.encode(&mut place).expect("it fits");
        place.commit(length)
    });
    let booked = provider
        .book::<Number>(Number::FIXED)
        .and_then(|booking| booking.notify(&Number { number: 3 }));
    let asked = provider.ask(&Question { number: 4 }, 1000, Reply { yes: true });
    Outcomes {
        listening: provider.is_listening(Number::NUMBER),
        notify: provider.notify(&Number { number: 1 }),
        committed,
        booked,
        asked: asked.map(|answer| answer.outcome),
        offered: provider.statistics(Number::NUMBER).map(|it| it.offered),
    }
}

/// What comes of it with a common driver that has everything.
pub(crate) const FULL: Outcomes = Outcomes {
    listening: true,
    notify: Ok(()),
    committed: Ok(()),
    booked: Ok(()),
    asked: Ok(Outcome::NoDecider),
    offered: Ok(3),
};
