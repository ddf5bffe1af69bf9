// SPDX-License-Identifier: MIT OR Apache-2.0
//! The callback object through which client drivers find this one.

use crate::driver::Driver;
use crate::{exports, tag};
use fltport_abi::interface::{ANNOUNCE, ASK, CALLBACK_NAME, REVOKE};
use fltport_nt::ex::{CallbackObject, CallbackRegistration, Listener, PoolArc};
use fltport_nt::{Result, utf16};

/// The announced function table. Dropping it takes the table back and waits until no client driver
/// uses it.
pub(crate) struct Announcement {
    // Dropped after `drop` has revoked the table: nobody is answered any more, then the object
    // goes.
    _registration: CallbackRegistration<Answer>,
    object: CallbackObject,
}

/// Answers client drivers that come later.
struct Answer(PoolArc<Driver>);

impl Announcement {
    /// IRQL: PASSIVE_LEVEL. From here on client drivers may call.
    pub(crate) fn new(driver: &PoolArc<Driver>) -> Result<Self> {
        let object = CallbackObject::open_or_create(utf16!(CALLBACK_NAME))?;
        let answer = PoolArc::new(tag::DRIVER, Answer(driver.clone()))?;
        let registration = CallbackRegistration::new(&object, tag::DRIVER, answer)?;
        object.notify(ANNOUNCE, exports::table_address());
        Ok(Announcement {
            _registration: registration,
            object,
        })
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Every client driver's stub closes its gate and waits for its own calls before this
        // returns. One that asks between here and the end of the registration is not answered: the
        // driver is closing.
        self.object.notify(REVOKE, exports::table_address());
    }
}

impl Listener for Answer {
    fn notified(&self, argument1: usize, argument2: usize) {
        if argument1 == ASK && !self.0.is_closing() {
            exports::answer(argument2);
        }
    }
}
