// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events.

use super::header::{Header, kind};
use super::user_event;
use crate::abi::{EVENT_TYPE, KEVENT};
use crate::entry::nt;
use crate::ex::fast_mutex;
use crate::irql::{DISPATCH_LEVEL, HIGH_LEVEL};
use crate::kernel;

/// The value of NotificationEvent; SynchronizationEvent is 1.
const NOTIFICATION_EVENT: EVENT_TYPE = 0;

nt! {
    /// Initialises an event in place. A notification event stays signalled until it is cleared, a
    /// synchronization event lets one thread go and is then cleared.
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeInitializeEvent(event: *mut KEVENT, kind: EVENT_TYPE, state: bool) {
        let kind = if kind == NOTIFICATION_EVENT {
            kind::NOTIFICATION_EVENT
        } else {
            kind::SYNCHRONIZATION_EVENT
        };
        fast_mutex::event_initialized(event as usize);
        // SAFETY: the caller passes memory for an event, of which the header is the first part.
        unsafe { Header::initialize(event.cast(), kind, size_of::<KEVENT>(), i32::from(state)) };
    }

    /// Signals an event; returns the former state.
    simplified = "no priority boost; with Wait the dispatcher is not kept locked until the wait";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeSetEvent(event: *mut KEVENT, _increment: i32, wait: bool) -> i32 {
        if wait {
            // The caller promises to wait at once; on NT the dispatcher stays locked until then.
            super::wait::must_not_block(true);
        }
        // SAFETY: the caller passes an event.
        match unsafe { Header::at(event.cast_const().cast()) } {
            Some(header) => {
                let former = kernel::state().dispatcher.signal(header);
                if user_event::may_be_object(header.words()) {
                    user_event::signalled(header.address());
                }
                former
            }
            None => 0,
        }
    }

    /// Takes the signal back.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeClearEvent(event: *mut KEVENT) {
        // SAFETY: the caller passes an event.
        if let Some(header) = unsafe { Header::at(event.cast_const().cast()) } {
            kernel::state().dispatcher.clear(header);
        }
    }

    /// Takes the signal back; returns the former state.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeResetEvent(event: *mut KEVENT) -> i32 {
        // SAFETY: the caller passes an event.
        match unsafe { Header::at(event.cast_const().cast()) } {
            Some(header) => kernel::state().dispatcher.clear(header),
            None => 0,
        }
    }

    /// Reads the state; nonzero means signalled.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeReadStateEvent(event: *const KEVENT) -> i32 {
        // SAFETY: the caller passes an event.
        unsafe { Header::at(event.cast()) }.map_or(0, Header::signal_state)
    }
}
