// SPDX-License-Identifier: MIT OR Apache-2.0

//! The client driver that is measured.

use std::sync::atomic::{AtomicUsize, Ordering};

use fltport_client::{CommandCaller, Handler, Options, Provider};
use fltport_nt::NtError;
use fltport_nt::bindings::{
    DRIVER_OBJECT, NTSTATUS, STATUS_INVALID_DEVICE_REQUEST, UNICODE_STRING,
};
use fltport_nt::ex::{Global, PoolArc, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::status::to_status;
use nt_host::DriverImage;

/// Services and providers at most.
pub(super) const MOST: usize = 8;

const TAG: Tag = Tag::new(b"Benc");

pub(super) struct Silent;

impl Handler for Silent {
    fn command(
        &self,
        _: &CommandCaller,
        _: u16,
        _: &[u8],
        _: &mut [u8],
    ) -> fltport_nt::Result<usize> {
        Err(NtError(STATUS_INVALID_DEVICE_REQUEST))
    }
}

macro_rules! providers {
    ($($module:ident $name:literal,)*) => {
        $(pub(super) mod $module {
            fltport_abi::messages! {
                /// A provider.
                provider PROVIDER = $name;

                /// 64 bytes.
                notification 1 "tick" Tick {
                    /// Counted by the sender.
                    number: u64,
                    /// When it was sent, in nanoseconds.
                    sent: u64,
                    /// As the number.
                    a: u64,
                    /// As the number.
                    b: u64,
                    /// As the number.
                    c: u64,
                    /// As the number.
                    d: u64,
                    /// As the number.
                    e: u64,
                    /// As the number.
                    f: u64,
                }

                /// A question.
                request 2 "question" Question {
                    /// Any.
                    number: u64,
                } -> /// Its answer.
                Reply {
                    /// The same.
                    number: u64,
                }
            }
        })*
        fn register(driver: DriverObject, place: usize) -> fltport_nt::Result<Provider<Silent>> {
            let schemas = [$(&$module::PROVIDER),*];
            Provider::register(driver, schemas[place], Silent, Options::new(TAG))
        }
    };
}

providers! {
    first "bench", second "bench-2", third "bench-3", fourth "bench-4", fifth "bench-5",
    sixth "bench-6", seventh "bench-7", eighth "bench-8",
}

static REGISTERED: [Global<Provider<Silent>>; MOST] = [const { Global::empty() }; MOST];
static WANTED: AtomicUsize = AtomicUsize::new(1);

/// The image, which will register so many providers.
pub(super) fn image(providers: usize) -> DriverImage {
    WANTED.store(providers, Ordering::Relaxed);
    DriverImage {
        name: "bench",
        entry,
        force_integrity: false,
    }
}

/// The first provider.
pub(super) fn provider() -> Option<PoolArc<Provider<Silent>>> {
    REGISTERED[0].get()
}

unsafe extern "system" fn entry(driver: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the hosted kernel passes this driver's object.
    let driver = unsafe { DriverObject::new(driver) };
    driver.set_unload(unload);
    let registered = (0..WANTED.load(Ordering::Relaxed)).try_for_each(|place| {
        let provider = PoolArc::new(TAG, register(driver, place)?)?;
        REGISTERED[place].replace(Some(provider));
        Ok(())
    });
    to_status(registered)
}

unsafe extern "system" fn unload(_: *const DRIVER_OBJECT) {
    for registered in &REGISTERED {
        drop(registered.replace(None));
    }
}
