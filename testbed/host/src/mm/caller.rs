// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the process lies that a driver is called by, in the host system: views are mapped and
//! handles looked up there.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::abi::NTSTATUS;

/// Maps views into a process of the host system that is not this one, by asking it.
pub trait MapViews: Send + Sync {
    /// Has the process map `length` bytes of a descriptor; the address there. Waits, but not for
    /// ever.
    ///
    /// # Errors
    /// The NTSTATUS with which the mapping fails.
    fn map(&self, descriptor: OwnedFd, length: usize, writable: bool) -> Result<u64, NTSTATUS>;
}

/// Who plays the process that the calling thread is attached to.
#[derive(Clone, Default)]
pub(crate) enum Caller {
    /// This process: a test, a simulation.
    #[default]
    Here,
    /// Another one.
    There {
        /// Which of its connections it calls through; its views end with that.
        connection: u64,
        /// How it is asked for views, if it takes any now.
        views: Option<Arc<dyn MapViews>>,
    },
}
