// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver in `contract.c`: a test has it call the header's functions, with the stub or importing.

use fltport_abi::import::Booking;
use fltport_abi::interface::{ProviderStatistics, SnapshotHandle};
use fltport_nt::bindings::{DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};
use nt_host::DriverImage;

/// What is asked; as in `contract.c`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Of the request's struct; 0 for what it is.
    pub size: u32,
    /// The message's number.
    pub message: u16,
    /// The place for the reply is null; of an asynchronous request the routine.
    pub without_reply: bool,
    /// The payload.
    pub number: u64,
    /// The payload's length; what lies behind the number is zero.
    pub length: u32,
    /// The deadline.
    pub deadline_ms: u32,
    /// The reply's length.
    pub reply_length: u32,
    /// The default.
    pub yes: u32,
    /// Of the request.
    pub flags: u32,
}

/// What a request came to; as in `contract.c`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// The outcome's number.
    pub outcome: u32,
    /// The reply.
    pub yes: u32,
    /// What the reply has had since its second version.
    pub days: u32,
    /// How long it took.
    pub waited_us: u32,
    /// How often the completion routine has been called.
    pub times: u32,
}

/// Reports the present state: to a snapshot, of these types.
pub type Reporter = unsafe extern "system" fn(SnapshotHandle, u64) -> NTSTATUS;

/// Declares the functions of `contract.c`, of which there are two each.
macro_rules! contract {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $ty:ty),*) $(-> $result:ty)?;)*) => {
        /// The driver, in one of the two ways. It has to be loaded while its functions are called.
        #[derive(Debug)]
        pub struct Contract {
            /// The driver.
            pub image: DriverImage,
            /// It has the stub, or else imports.
            pub has_stub: bool,
            functions: Functions,
        }

        #[derive(Debug)]
        struct Functions {
            $($name: unsafe extern "system" fn($($ty),*) $(-> $result)?,)*
        }

        impl Contract {
            $($(#[$doc])* pub fn $name(&self, $($argument: $ty),*) $(-> $result)? {
                // SAFETY: the arguments are values, or valid places; the driver is loaded.
                unsafe { (self.functions.$name)($($argument),*) }
            })*
        }

        mod stub {
            use super::*;
            unsafe extern "system" {
                fn stub_entry(driver: *mut DRIVER_OBJECT, path: *const UNICODE_STRING) -> NTSTATUS;
                $(
                    #[link_name = concat!("stub_", stringify!($name))]
                    fn $name($($argument: $ty),*) $(-> $result)?;
                )*
            }
            /// With the stub.
            pub const STUB: Contract = Contract {
                image: DriverImage { name: "contract", entry: stub_entry, force_integrity: false },
                has_stub: true,
                functions: Functions { $($name,)* },
            };
        }

        mod import {
            use super::*;
            unsafe extern "system" {
                fn import_entry(driver: *mut DRIVER_OBJECT, path: *const UNICODE_STRING) -> NTSTATUS;
                $(
                    #[link_name = concat!("import_", stringify!($name))]
                    fn $name($($argument: $ty),*) $(-> $result)?;
                )*
            }
            /// Importing from fltport.sys.
            pub const IMPORT: Contract = Contract {
                image: DriverImage { name: "contract", entry: import_entry, force_integrity: false },
                has_stub: false,
                functions: Functions { $($name,)* },
            };
        }
    };
}

pub use import::IMPORT;
pub use stub::STUB;

contract! {
    /// FltPortNotify.
    fn notify(message: u16, fixed: u16, number: u64, length: u32) -> NTSTATUS;
    /// FltPortNotifyEx, with a struct of this size.
    fn notify_ex(size: u32, time: i64, number: u64, without_payload: bool) -> NTSTATUS;
    /// FltPortNotifyEx with null.
    fn notify_nothing() -> NTSTATUS;
    /// FltPortLost.
    fn lost(message: u16, cause: u16, count: u64);
    /// FltPortIsListening.
    fn listening(message: u16) -> bool;
    /// The same with null.
    fn listening_without(message: u16) -> bool;
    /// FltPortReserve and FltPortCommit.
    fn in_place(message: u16, room: u32, fixed: u16, number: u64, length: u32) -> NTSTATUS;
    /// FltPortBook.
    fn book(message: u16, length: u32, booking: &mut Booking) -> NTSTATUS;
    /// FltPortNotifyBooked.
    fn notify_booked(message: u16, number: u64, booking: &mut Booking) -> NTSTATUS;
    /// FltPortUnbook.
    fn unbook(booking: &mut Booking);
    /// FltPortQueryStatistics, with a struct of this size; 0 for what it is.
    fn statistics(size: u32, message: u16, statistics: &mut ProviderStatistics) -> NTSTATUS;
    /// FltPortRequest.
    fn ask(asked: &Asked, answered: &mut Answered) -> NTSTATUS;
    /// FltPortRequestAsync.
    fn ask_later(asked: &Asked) -> NTSTATUS;
    /// Waits for the completion routine.
    fn completed(answered: &mut Answered) -> NTSTATUS;
    /// What the driver's snapshot routine calls.
    fn report_with(reporter: Option<Reporter>);
    /// FltPortSnapshotAdd.
    fn add(snapshot: SnapshotHandle, message: u16, fixed: u16, number: u64, length: u32) -> NTSTATUS;
    /// FltPortSnapshotAdd with null.
    fn add_nothing(snapshot: SnapshotHandle) -> NTSTATUS;
    /// FltPortSnapshotLive.
    fn live(snapshot: SnapshotHandle) -> NTSTATUS;
}
