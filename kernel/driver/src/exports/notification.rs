// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notifications: offered, or lost before they could be.

use super::{bytes, driver_of, registered, revised};
use crate::ledger::bit;
use crate::provider::Provider;
use crate::receiver::Offer;
use crate::screen::{Subject, offering_process};
use crate::switch::{self, Simple};
use core::sync::atomic::Ordering;
use fltport_abi::account::Cause;
use fltport_abi::frame::RecordKind;
use fltport_abi::interface::{Notification, ProviderHandle};
use fltport_nt::bindings::{
    NTSTATUS, STATUS_DELETE_PENDING, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use fltport_nt::ke::{current_irql, system_time};
use fltport_nt::linked::DISPATCH_LEVEL;
use fltport_nt::status::to_status;

pub(super) unsafe extern "system" fn notify(
    handle: ProviderHandle,
    notification: *const Notification,
) -> NTSTATUS {
    // SAFETY: the client driver passes a handle that is registered.
    let provider = unsafe { registered(handle) };
    // SAFETY: and a valid notification, for the duration of the call.
    let notification = unsafe { revised(notification) };
    let (Some(provider), Some(notification)) = (provider, notification) else {
        return STATUS_INVALID_PARAMETER;
    };
    // SAFETY: whose payload is valid for its length.
    let Ok(payload) = (unsafe { bytes(notification.payload, notification.length) }) else {
        return STATUS_INVALID_PARAMETER;
    };
    let known = provider.notifications & bit(notification.message) != 0;
    if !known || usize::from(notification.fixed) > payload.len() {
        return STATUS_INVALID_PARAMETER;
    }
    // Before the first lock, which even finding the driver takes.
    if current_irql() > DISPATCH_LEVEL {
        provider.count_too_high(notification.message);
        return STATUS_SUCCESS;
    }
    let (message, fixed, time) = (notification.message, notification.fixed, notification.time);
    if notification.booking == 0 && goes_the_short_way(provider, message, fixed, time, payload) {
        return STATUS_SUCCESS;
    }
    let Some(driver) = driver_of(provider) else {
        return STATUS_DELETE_PENDING;
    };
    let offer = Offer {
        message: notification.message,
        kind: RecordKind::Notification,
        fixed: notification.fixed,
        time: time_or_now(time),
        subject: Subject {
            payload,
            fixed: notification.fixed,
            process: offering_process(),
        },
        booking: notification.booking,
        parts: &[payload],
    };
    to_status(driver.notify(provider, &offer))
}

/// IRQL: any. When it happened: 0 stands for this moment.
pub(super) fn time_or_now(time: i64) -> i64 {
    match time {
        0 => system_time(),
        time => time,
    }
}

/// IRQL: <= DISPATCH_LEVEL. Whether a notification could be put where it belongs without the lock of the routes.
pub(super) fn goes_the_short_way(
    provider: &Provider,
    message: u16,
    fixed: u16,
    time: i64,
    payload: &[u8],
) -> bool {
    // Relaxed: only numbers. What came too high is told in front of what comes next.
    let is_late = provider.too_high_total.load(Ordering::Relaxed) != 0;
    let simple = Simple {
        provider: provider.number,
        life: provider.life,
        place: provider.place.load(Ordering::Relaxed),
        message,
        fixed,
        time,
        payload,
    };
    !is_late && switch::take(&simple)
}

pub(super) unsafe extern "system" fn lost(
    handle: ProviderHandle,
    message: u16,
    cause: u16,
    count: u64,
) {
    // SAFETY: the client driver passes a handle that is registered.
    let provider = unsafe { registered(handle) };
    if let (Some(provider), Some(cause)) = (provider, Cause::from_wire(cause))
        && provider.notifications & bit(message) != 0
        && let Some(driver) = driver_of(provider)
    {
        driver
            .routes()
            .lock()
            .lost(provider.number, message, cause, count);
    }
}
