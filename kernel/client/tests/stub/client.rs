// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client driver that does what a test tells it.

use fltport_client::{Answer, CommandCaller, DefaultReply, Handler, Options, Provider};
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

    /// One that may be long.
    notification 5 "text" Long<'a> {
        /// Anything.
        data: &'a [u8],
    }

    /// A question without a declared answer.
    request 4 "other" OtherQuestion {
        /// Counted by the test.
        number: u64,
    } -> /// Its answer.
    Other {
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
const DEFAULTS: &[DefaultReply] = &[DefaultReply::to::<Question>(&Reply { yes: true })];
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
    let options = Options::new(TAG).staging(240).default_replies(DEFAULTS);
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

/// Offers a notification that is too long for the stack, and takes memory from the pool.
pub(crate) fn offer_long() {
    let data = &[1; 1000];
    provider().notify(&Long { data }).expect("accounted for");
}

/// Asks; the declared default is yes.
pub(crate) fn ask(deadline_ms: u32) -> Result<Answer<Reply>> {
    provider().ask(&Question { number: 1 }, deadline_ms, None)
}

/// Asks with another default than the declared one.
pub(crate) fn ask_or(yes: bool) -> Result<Answer<Reply>> {
    provider().ask(&Question { number: 1 }, 1, Reply { yes })
}

/// Asks what there is no declared default for.
pub(crate) fn ask_undeclared() -> Result<Answer<Other>> {
    provider().ask(&OtherQuestion { number: 1 }, 1, None)
}

/// Drivers with default replies that they cannot have.
pub(crate) const REFUSED: [DriverImage; 2] = [
    DriverImage {
        name: "twice",
        entry: refused::<0>,
        force_integrity: false,
    },
    DriverImage {
        name: "foreign",
        entry: refused::<1>,
        force_integrity: false,
    },
];

unsafe extern "system" fn refused<const N: usize>(
    driver: *mut DRIVER_OBJECT,
    _: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the hosted kernel passes this driver's object.
    let driver = unsafe { DriverObject::new(driver) };
    let options = Options::new(TAG).default_replies([TWICE, FOREIGN][N]);
    to_status(Provider::register(driver, &PROVIDER, Echo, options).map(drop))
}

/// The second for one request.
const TWICE: &[DefaultReply] = &[
    DefaultReply::to::<Question>(&Reply { yes: true }),
    DefaultReply::to::<Question>(&Reply { yes: false }),
];
/// One for another provider's.
const FOREIGN: &[DefaultReply] = &[DefaultReply::to::<elsewhere::Ask>(&elsewhere::Answered {
    number: 1,
})];

mod elsewhere {
    fltport_abi::messages! {
        /// Another provider.
        provider _PROVIDER = "elsewhere";

        /// A request whose number is a notification here.
        request 1 "ask" Ask {
            /// Counted.
            number: u64,
        } -> /// Its answer.
        Answered {
            /// Counted.
            number: u64,
        }
    }
}
