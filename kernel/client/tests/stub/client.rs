// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client driver that does what a test tells it.

use fltport_client::{Answer, CommandCaller, Handler, Options, Provider};
use fltport_nt::bindings::{
    DRIVER_OBJECT, NTSTATUS, STATUS_INVALID_DEVICE_REQUEST, UNICODE_STRING,
};
use fltport_nt::ex::{Global, PoolArc, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::status::to_status;
use fltport_nt::{NtError, Result};
use nt_host::DriverImage;

fltport_abi::messages! {
    /// The client.
    provider PROVIDER = "client";

    /// A number.
    notification 1 "number" Number {
        /// Counted by the test.
        number: u64,
    }

    /// A question.
    request 2 "question" Question {
        /// Counted by the test.
        number: u64,
    } -> /// Its answer.
    Reply {
        /// Yes or no.
        yes: bool,
    }
}

pub(crate) const IMAGE: DriverImage = DriverImage {
    name: "client",
    entry,
    force_integrity: false,
};

const TAG: Tag = Tag::new(b"Clie");
static CLIENT: Global<Provider<Echo>> = Global::empty();

pub(crate) struct Echo;

impl Handler for Echo {
    fn command(
        &self,
        _: &CommandCaller,
        message: u16,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        if message != 3 {
            return Err(NtError(STATUS_INVALID_DEVICE_REQUEST));
        }
        out[..payload.len()].copy_from_slice(payload);
        Ok(payload.len())
    }
}

unsafe extern "system" fn entry(driver: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the hosted kernel passes this driver's object.
    let driver = unsafe { DriverObject::new(driver) };
    driver.set_unload(unload);
    // Room for ten numbers.
    let options = Options::new(TAG).staging(240);
    let registered = Provider::register(driver, &PROVIDER, Echo, options);
    to_status(registered.and_then(|provider| {
        CLIENT.replace(Some(PoolArc::new(TAG, provider)?));
        Ok(())
    }))
}

unsafe extern "system" fn unload(_: *const DRIVER_OBJECT) {
    drop(CLIENT.replace(None));
}

pub(crate) fn provider() -> PoolArc<Provider<Echo>> {
    CLIENT.get().expect("the client is loaded")
}

/// Offers these numbers.
pub(crate) fn offer(numbers: std::ops::Range<u64>) {
    for number in numbers {
        provider()
            .notify(&Number { number })
            .expect("accounted for");
    }
}

/// Asks; the default is yes.
pub(crate) fn ask(deadline_ms: u32) -> Result<Answer<Reply>> {
    provider().ask(&Question { number: 1 }, deadline_ms, Reply { yes: true })
}
