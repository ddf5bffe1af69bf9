// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions that client drivers call through the table. Each checks its pointers and calls one
//! safe function.
//!
//! Client drivers are kernel code and trusted as such: a wrong pointer from them is their bug. What
//! they can get wrong without being able to know it (a version, a size) is checked.

mod import;
mod notification;
mod provider;
mod request;
mod reservation;
mod snapshot;

use crate::driver::{DRIVER, Driver};
use crate::provider::Provider;
use core::mem::{MaybeUninit, size_of};
use core::slice;
use fltport_abi::interface::{Ask, Interface, ProviderHandle, Revised, VERSION};
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::{PoolArc, PoolBox};
use fltport_nt::{NtError, Result};

static TABLE: Interface = Interface {
    size: size_of::<Interface>() as u32,
    version: VERSION,
    register: provider::register,
    unregister: provider::unregister,
    notify: notification::notify,
    lost: notification::lost,
    request: request::request,
    listening: provider::listening,
    reserve: Some(reservation::reserve),
    commit: Some(reservation::commit),
    discard: Some(reservation::discard),
    book: Some(reservation::book),
    unbook: Some(reservation::unbook),
    request_async: Some(request::request_async),
    statistics: Some(provider::statistics),
    snapshot_add: Some(snapshot::add),
    snapshot_live: Some(snapshot::live),
};

/// What a handle points to: the provider, kept alive by the registration.
type Registered = PoolBox<PoolArc<Provider>>;

/// The function table's address, as it travels through the callback object.
pub(crate) fn table_address() -> usize {
    (&raw const TABLE).expose_provenance()
}

/// IRQL: <= DISPATCH_LEVEL. Leaves the table in the [`Ask`] at this address, if its sender speaks
/// this version.
pub(crate) fn answer(ask: usize) {
    let ask = ask as *mut Ask;
    // SAFETY: a client driver's stub passes null or a valid Ask for the duration of the
    // notification; nobody else may notify ASK.
    if let Some(ask) = unsafe { ask.as_mut() }
        && ask.size as usize >= size_of::<Ask>()
        && ask.version == VERSION
    {
        ask.interface = &raw const TABLE;
    }
}

/// The provider of a handle.
///
/// # Safety
/// The handle came from `register`, and `unregister` has not been called with it.
unsafe fn registered<'a>(handle: ProviderHandle) -> Option<&'a PoolArc<Provider>> {
    // SAFETY: `register` gave out a pointer to a provider reference that lives until `unregister`.
    unsafe { (handle.0 as *const PoolArc<Provider>).as_ref() }
}

/// IRQL: <= DISPATCH_LEVEL. The driver that the provider registered with, if it is still there. Who
/// imports by name is not told when it goes; with the next one its number is another provider's.
fn driver_of(provider: &Provider) -> Option<PoolArc<Driver>> {
    DRIVER.get().filter(|driver| driver.life() == provider.life)
}

/// The bytes at `pointer`.
///
/// # Safety
/// `pointer` is valid for `length` bytes for `'a`, or `length` is 0.
unsafe fn bytes<'a>(pointer: *const u8, length: u32) -> Result<&'a [u8]> {
    match (pointer.is_null(), length) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(NtError(STATUS_INVALID_PARAMETER)),
        // SAFETY: as the caller vouches.
        (false, length) => Ok(unsafe { slice::from_raw_parts(pointer, length as usize) }),
    }
}

/// The struct at `pointer` as this revision knows it: what its author's revision does not have is
/// 0, what a newer one has behind that is left alone. `None` if the pointer is null, or the struct
/// shorter than the first revision's.
///
/// # Safety
/// `pointer` is null or valid for as many bytes as the struct's size, which comes first, says.
unsafe fn revised<T: Revised>(pointer: *const T) -> Option<T> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not null, so valid for its size at least.
    let size = unsafe { pointer.cast::<u32>().read() } as usize;
    if size < T::FIRST {
        return None;
    }
    if size >= size_of::<T>() {
        // SAFETY: valid for all of T's bytes, as the caller vouches; numbers and pointers.
        return Some(unsafe { pointer.read_unaligned() });
    }
    let mut value = MaybeUninit::<T>::zeroed();
    let known = size.min(size_of::<T>());
    // SAFETY: valid for `size` bytes, as the caller vouches, and the place for those of T.
    unsafe {
        pointer
            .cast::<u8>()
            .copy_to_nonoverlapping(value.as_mut_ptr().cast(), known)
    };
    // SAFETY: all bytes zero is a valid value of every struct of this kind, and so are those that
    // its author put there: numbers and pointers.
    Some(unsafe { value.assume_init() })
}
