// SPDX-License-Identifier: MIT OR Apache-2.0
//! An event for a driver to set, on the hosted edge: an eventfd, whose number is the handle.

use crate::failure::Failure;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// An event that a driver sets and a thread of this process waits for.
#[derive(Debug)]
pub(crate) struct Signal(OwnedFd);

#[cfg(target_os = "linux")]
fn make() -> Result<OwnedFd, Errno> {
    use rustix::event::{EventfdFlags, eventfd};
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

#[cfg(not(target_os = "linux"))]
fn make() -> Result<OwnedFd, Errno> {
    Err(Errno::NOTSUP)
}

fn failed(error: Errno) -> Failure {
    Failure::from_io(&error.into())
}

impl Signal {
    /// An event that is not set.
    pub(crate) fn new() -> Result<Signal, Failure> {
        make().map(Signal).map_err(failed)
    }

    /// The handle that a driver is told.
    pub(crate) fn handle(&self) -> u64 {
        u64::try_from(self.0.as_raw_fd()).unwrap_or(u64::MAX)
    }

    /// Sets it, as the driver does: for who is to wake the thread that waits.
    pub(crate) fn set(&self) -> Result<(), Failure> {
        match rustix::io::write(&self.0, &1_u64.to_ne_bytes()) {
            // It is set and has been for long.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Waits until it is set, and clears it; false if the time was over first.
    pub(crate) fn wait(&self, limit: Duration) -> Result<bool, Failure> {
        let deadline = Instant::now().checked_add(limit);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // Without a deadline the time is longer than the system counts.
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
            match rustix::event::poll(&mut ready, left.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(failed(error)),
            }
            match rustix::io::read(&self.0, &mut [0; 8]) {
                Ok(_) => return Ok(true),
                // Another thread was here a moment before.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}
