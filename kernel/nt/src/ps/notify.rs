// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notify routines for processes, threads and images.
//!
//! NT passes no context to them, so an observer is a type with functions instead of a value; it
//! finds its state in a [`Global`](crate::ex::Global). Dropping a registration waits for routines
//! in flight, so it must not happen inside one, nor while one of them is blocked on whoever drops.

use super::id;
use crate::bindings::{
    HANDLE, IMAGE_INFO, NTSTATUS, PEPROCESS, PS_CREATE_NOTIFY_INFO, PsGetProcessExitStatus,
    PsRemoveCreateThreadNotifyRoutine, PsRemoveLoadImageNotifyRoutine,
    PsSetCreateProcessNotifyRoutine, PsSetCreateProcessNotifyRoutineEx,
    PsSetCreateThreadNotifyRoutine, PsSetLoadImageNotifyRoutine, UNICODE_STRING,
};
use crate::linked::nt_success;
use crate::rtl::units_of;
use crate::status::{Result, check};
use core::marker::PhantomData;

/// A process that is being created. Valid during the callback only.
pub struct CreateInfo<'a> {
    info: &'a mut PS_CREATE_NOTIFY_INFO,
}

impl CreateInfo<'_> {
    /// The parent, from which the process inherits; not necessarily the creator.
    pub fn parent(&self) -> u32 {
        id(self.info.ParentProcessId)
    }

    /// The process and the thread that create it.
    pub fn creator(&self) -> (u32, u32) {
        (
            id(self.info.CreatingThreadId.UniqueProcess),
            id(self.info.CreatingThreadId.UniqueThread),
        )
    }

    /// The image's path; `None` if NT does not know it (subsystem processes).
    pub fn image(&self) -> Option<&[u16]> {
        // SAFETY: NT passes null or a valid string for the duration of the callback, which `self`
        // cannot outlive.
        unsafe { units_of(self.info.ImageFileName) }
    }

    /// The command line; `None` if it is not available.
    pub fn command_line(&self) -> Option<&[u16]> {
        // SAFETY: as for the image.
        unsafe { units_of(self.info.CommandLine) }
    }

    /// Lets the creation fail with this status. A success status does nothing: others may have
    /// refused already.
    pub fn deny(&mut self, status: NTSTATUS) {
        if !nt_success(status) {
            self.info.CreationStatus = status;
        }
    }
}

/// Called for every process that starts or ends.
pub trait ProcessObserver: 'static {
    /// IRQL: PASSIVE_LEVEL, in a critical region, in the thread that creates the process.
    fn created(pid: u32, info: &mut CreateInfo<'_>);
    /// IRQL: PASSIVE_LEVEL, in a critical region, in the last thread of the process.
    fn exited(pid: u32, exit_status: NTSTATUS);
}

/// A registered [`ProcessObserver`].
pub struct ProcessNotify<T: ProcessObserver>(PhantomData<fn() -> T>);

impl<T: ProcessObserver> ProcessNotify<T> {
    /// IRQL: PASSIVE_LEVEL. Fails with `STATUS_ACCESS_DENIED` if the image was not linked with
    /// /INTEGRITYCHECK, and with `STATUS_INVALID_PARAMETER` if it is registered already or NT's
    /// table is full.
    pub fn register() -> Result<Self> {
        // SAFETY: the routine is non-paged code of this image, and `Drop` removes it before that
        // can be unloaded.
        check(unsafe { PsSetCreateProcessNotifyRoutineEx(Some(process_routine::<T>), false) })?;
        Ok(ProcessNotify(PhantomData))
    }
}

impl<T: ProcessObserver> Drop for ProcessNotify<T> {
    fn drop(&mut self) {
        // SAFETY: registered by `register`; waits for routines in flight.
        unsafe { PsSetCreateProcessNotifyRoutineEx(Some(process_routine::<T>), true) };
    }
}

unsafe extern "system" fn process_routine<T: ProcessObserver>(
    process: PEPROCESS,
    pid: HANDLE,
    info: *mut PS_CREATE_NOTIFY_INFO,
) {
    // SAFETY: NT passes null or a valid structure that nobody else touches during the callback.
    match unsafe { info.as_mut() } {
        Some(info) => T::created(id(pid), &mut CreateInfo { info }),
        None => {
            // SAFETY: NT passes a valid process for the duration of the callback.
            let status = unsafe { PsGetProcessExitStatus(process) };
            T::exited(id(pid), status);
        }
    }
}

/// Called for every process that starts or ends, without a say in it.
pub trait LifetimeObserver: 'static {
    /// IRQL: PASSIVE_LEVEL, in a critical region, in the thread that creates the process.
    fn began(pid: u32, parent: u32);
    /// IRQL: PASSIVE_LEVEL, in a critical region, in the last thread of the process.
    fn ended(pid: u32);
}

/// A registered [`LifetimeObserver`].
pub struct LifetimeNotify<T: LifetimeObserver>(PhantomData<fn() -> T>);

impl<T: LifetimeObserver> LifetimeNotify<T> {
    /// IRQL: PASSIVE_LEVEL. Fails with `STATUS_INVALID_PARAMETER` if it is registered already or
    /// NT's table is full. The image needs no /INTEGRITYCHECK for it.
    pub fn register() -> Result<Self> {
        // SAFETY: the routine is non-paged code of this image, and `Drop` removes it before that
        // can be unloaded.
        check(unsafe { PsSetCreateProcessNotifyRoutine(Some(lifetime_routine::<T>), false) })?;
        Ok(LifetimeNotify(PhantomData))
    }
}

impl<T: LifetimeObserver> Drop for LifetimeNotify<T> {
    fn drop(&mut self) {
        // SAFETY: registered by `register`; waits for routines in flight.
        unsafe { PsSetCreateProcessNotifyRoutine(Some(lifetime_routine::<T>), true) };
    }
}

unsafe extern "system" fn lifetime_routine<T: LifetimeObserver>(
    parent: HANDLE,
    pid: HANDLE,
    created: bool,
) {
    match created {
        true => T::began(id(pid), id(parent)),
        false => T::ended(id(pid)),
    }
}

/// Called for every thread that starts or ends.
pub trait ThreadObserver: 'static {
    /// IRQL: <= APC_LEVEL.
    fn changed(pid: u32, tid: u32, created: bool);
}

/// A registered [`ThreadObserver`].
pub struct ThreadNotify<T: ThreadObserver>(PhantomData<fn() -> T>);

impl<T: ThreadObserver> ThreadNotify<T> {
    /// IRQL: PASSIVE_LEVEL. Fails with `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn register() -> Result<Self> {
        // SAFETY: the routine is non-paged code of this image, and `Drop` removes it before that
        // can be unloaded.
        check(unsafe { PsSetCreateThreadNotifyRoutine(Some(thread_routine::<T>)) })?;
        Ok(ThreadNotify(PhantomData))
    }
}

impl<T: ThreadObserver> Drop for ThreadNotify<T> {
    fn drop(&mut self) {
        // SAFETY: registered by `register`; waits for routines in flight.
        unsafe { PsRemoveCreateThreadNotifyRoutine(Some(thread_routine::<T>)) };
    }
}

unsafe extern "system" fn thread_routine<T: ThreadObserver>(
    pid: HANDLE,
    tid: HANDLE,
    created: bool,
) {
    T::changed(id(pid), id(tid), created);
}

/// An image that has been mapped. Valid during the callback only.
pub struct ImageInfo<'a> {
    /// Its path, if NT gives one.
    pub path: Option<&'a [u16]>,
    /// The process; 0 for a driver.
    pub pid: u32,
    /// Where it lies.
    pub base: u64,
    /// Its size in bytes.
    pub size: u64,
    /// It is a driver.
    pub system: bool,
}

/// Called for every image that is mapped.
pub trait ImageObserver: 'static {
    /// IRQL: PASSIVE_LEVEL; sometimes with special kernel APCs off, so it must not block on I/O,
    /// nor send.
    fn loaded(image: &ImageInfo<'_>);
}

/// A registered [`ImageObserver`].
pub struct ImageNotify<T: ImageObserver>(PhantomData<fn() -> T>);

impl<T: ImageObserver> ImageNotify<T> {
    /// IRQL: PASSIVE_LEVEL. Fails with `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn register() -> Result<Self> {
        // SAFETY: the routine is non-paged code of this image, and `Drop` removes it before that
        // can be unloaded.
        check(unsafe { PsSetLoadImageNotifyRoutine(Some(image_routine::<T>)) })?;
        Ok(ImageNotify(PhantomData))
    }
}

impl<T: ImageObserver> Drop for ImageNotify<T> {
    fn drop(&mut self) {
        // SAFETY: registered by `register`; waits for routines in flight.
        unsafe { PsRemoveLoadImageNotifyRoutine(Some(image_routine::<T>)) };
    }
}

unsafe extern "system" fn image_routine<T: ImageObserver>(
    path: *const UNICODE_STRING,
    pid: HANDLE,
    info: *const IMAGE_INFO,
) {
    /// `SystemModeImage`, bit 8 of the first word of IMAGE_INFO (ntddk.h: after 8 bits of
    /// addressing mode).
    const SYSTEM_MODE_IMAGE: u32 = 1 << 8;
    // SAFETY: NT passes a valid structure for the duration of the callback; null would be a bug of
    // NT's and is passed over.
    let Some(info) = (unsafe { info.as_ref() }) else {
        return;
    };
    // SAFETY: both members of this union are 32 plain bits.
    let properties = unsafe { info.Anonymous.Properties };
    T::loaded(&ImageInfo {
        // SAFETY: null or a valid string for the duration of the callback.
        path: unsafe { units_of(path) },
        pid: id(pid),
        base: info.ImageBase as u64,
        size: info.ImageSize as u64,
        system: properties & SYSTEM_MODE_IMAGE != 0,
    });
}
