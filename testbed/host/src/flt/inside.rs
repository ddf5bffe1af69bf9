// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which callbacks of filters run on the calling thread: what they must not do from inside.
//!
//! The marks are the opaque values of filters, instances and client ports; no address of the host
//! process looks like one, so they share the list with the notify routines.

use fltmgr::{ConnectionId, FilterId};

use super::handle;
use crate::thread;

fn during<R>(mark: isize, f: impl FnOnce() -> R) -> R {
    thread::with_context(|context| context.inside.borrow_mut().push(mark as usize));
    let result = f();
    thread::with_context(|context| context.inside.borrow_mut().pop());
    result
}

fn is_during(mark: isize) -> bool {
    thread::with_context(|context| context.inside.borrow().contains(&(mark as usize)))
}

/// Runs a callback of a filter.
pub(super) fn callback<R>(filter: FilterId, f: impl FnOnce() -> R) -> R {
    during(handle::of_filter(filter), f)
}

/// Runs the ConnectNotify of a connection.
pub(super) fn connect<R>(filter: FilterId, connection: ConnectionId, f: impl FnOnce() -> R) -> R {
    callback(filter, || during(handle::of_client_port(connection), f))
}

/// Runs an instance-setup callback.
pub(super) fn instance_setup<R>(filter: FilterId, f: impl FnOnce() -> R) -> R {
    callback(filter, || during(handle::of_instance(filter), f))
}

/// Whether a callback of the filter runs, one for which its unregistration waits.
pub(super) fn is_in_callback(filter: FilterId) -> bool {
    is_during(handle::of_filter(filter))
}

/// Whether the ConnectNotify of this connection runs.
pub(super) fn is_in_connect(connection: ConnectionId) -> bool {
    is_during(handle::of_client_port(connection))
}

/// Whether an instance-setup callback of the filter runs, where a driver must not wait for user
/// mode.
pub(super) fn is_in_instance_setup(filter: FilterId) -> bool {
    is_during(handle::of_instance(filter))
}
