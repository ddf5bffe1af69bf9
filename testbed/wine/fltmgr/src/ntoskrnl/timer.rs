// SPDX-License-Identifier: MIT OR Apache-2.0
//! Timers with a DPC. Wine calls the routine itself, from a thread of its own; here the timer queues
//! the DPC, as it does on NT, and so the routine runs in its turn and at DISPATCH_LEVEL.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use fltport_nt::bindings::{KDPC, KTIMER, KeSetTimerEx};
use fltport_nt::ke::SpinLock;

use super::dpc::{self, Dpc};

/// What Wine calls in the place of a driver's DPC. It stays where it is: a timer may be under way.
#[repr(C)]
struct Relay {
    dpc: Dpc,
    /// The driver's.
    to: *mut Dpc,
}

/// A relay for each timer that was ever set with a DPC, by the timer's address; never freed.
static RELAYS: SpinLock<BTreeMap<usize, usize>> = SpinLock::new(BTreeMap::new());

pub(super) unsafe extern "system" fn set(
    timer: *mut KTIMER,
    due: i64,
    period: i32,
    dpc: *mut Dpc,
) -> bool {
    let relay = NonNull::new(dpc).map_or(null_mut(), |dpc| relay(timer as usize, dpc));
    // SAFETY: the caller passes an initialised timer; the relay is a KDPC or NULL. Wine's own
    // function.
    unsafe { KeSetTimerEx(timer, due, period, relay.cast::<KDPC>()) }
}

fn relay(timer: usize, dpc: NonNull<Dpc>) -> *mut Relay {
    let mut relays = RELAYS.lock();
    let relay = *relays.entry(timer).or_insert_with(|| {
        let relay = Box::new(Relay {
            dpc: Dpc::new(Some(ring), null_mut()),
            to: null_mut(),
        });
        Box::into_raw(relay) as usize
    }) as *mut Relay;
    // SAFETY: made above or by an earlier call, never freed; changed under the lock only.
    unsafe { (*relay).to = dpc.as_ptr() };
    relay
}

/// The routine of all relays.
unsafe extern "system" fn ring(
    relay: *mut Dpc,
    _context: *mut c_void,
    argument1: *mut c_void,
    argument2: *mut c_void,
) {
    let relays = RELAYS.lock();
    // SAFETY: Wine passes the relay, whose first field this is.
    let to = unsafe { (*relay.cast::<Relay>()).to };
    drop(relays);
    // SAFETY: the driver's DPC, which it keeps as long as its timer is set.
    unsafe { dpc::insert(to, argument1, argument2) };
}
