// SPDX-License-Identifier: MIT OR Apache-2.0
//! An event for a driver to set, on Windows.

use super::last_error;
use crate::edge::arguments::milliseconds;
use crate::failure::Failure;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::null;
use std::time::Duration;
use windows_sys::Win32::Foundation::{WAIT_OBJECT_0, WAIT_TIMEOUT};
use windows_sys::Win32::System::Threading::{CreateEventW, SetEvent, WaitForSingleObject};

/// An event that a driver sets and a thread of this process waits for.
#[derive(Debug)]
pub(crate) struct Signal(OwnedHandle);

impl Signal {
    /// An event that is not set.
    pub(crate) fn new() -> Result<Signal, Failure> {
        // SAFETY: no security, no name; a wait takes the signal (no manual reset), not set.
        let handle = unsafe { CreateEventW(null(), 0, 0, null()) };
        if handle.is_null() {
            return Err(last_error());
        }
        // SAFETY: the call succeeded, so the handle is open and nobody else's.
        Ok(Signal(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// The handle that a driver is told.
    pub(crate) fn handle(&self) -> u64 {
        self.0.as_raw_handle().expose_provenance() as u64
    }

    /// Sets it, as the driver does: for who is to wake the thread that waits.
    pub(crate) fn set(&self) -> Result<(), Failure> {
        // SAFETY: the handle is open.
        match unsafe { SetEvent(self.0.as_raw_handle()) } {
            0 => Err(last_error()),
            _ => Ok(()),
        }
    }

    /// Waits until it is set, and clears it; false if the time was over first.
    pub(crate) fn wait(&self, limit: Duration) -> Result<bool, Failure> {
        // SAFETY: the handle is open.
        match unsafe { WaitForSingleObject(self.0.as_raw_handle(), milliseconds(Some(limit))) } {
            WAIT_OBJECT_0 => Ok(true),
            WAIT_TIMEOUT => Ok(false),
            _ => Err(last_error()),
        }
    }
}
