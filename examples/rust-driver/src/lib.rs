// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver in Rust: it lets no process start whose image is on its list, and counts the refusals.
//! `docs/testing-your-driver.md` explains how it is tested.
#![no_std]

use core::sync::atomic::{AtomicU32, Ordering};

use fltport_nt::bindings::{
    DRIVER_OBJECT, HANDLE, NTSTATUS, PEPROCESS, PS_CREATE_NOTIFY_INFO,
    PsSetCreateProcessNotifyRoutineEx, STATUS_ACCESS_DENIED, UNICODE_STRING,
};
use fltport_nt::utf16;

/// The name of the driver's service key.
pub const IMAGE_NAME: &str = "rustdriver";

/// How the path of a refused image ends.
const REFUSED: &[u16] = utf16!("\\miner.exe");

static REFUSALS: AtomicU32 = AtomicU32::new(0);

/// How many processes were refused since the driver was loaded.
pub fn refusals() -> u32 {
    REFUSALS.load(Ordering::Relaxed)
}

/// IRQL: PASSIVE_LEVEL. What NT calls when it has loaded the driver.
///
/// # Safety
/// For NT to call, with this image's driver object.
pub unsafe extern "system" fn driver_entry(
    driver: *mut DRIVER_OBJECT,
    _registry_path: *const UNICODE_STRING,
) -> NTSTATUS {
    REFUSALS.store(0, Ordering::Relaxed);
    // SAFETY: this driver's own object, which nobody else writes to now.
    unsafe { (*driver).DriverUnload = Some(unload) };
    // SAFETY: a routine of the right kind, which `unload` removes.
    unsafe { PsSetCreateProcessNotifyRoutineEx(Some(on_process), false) }
}

unsafe extern "system" fn unload(_driver: *const DRIVER_OBJECT) {
    // SAFETY: registered by `driver_entry`, and not called from inside the routine.
    unsafe { PsSetCreateProcessNotifyRoutineEx(Some(on_process), true) };
}

unsafe extern "system" fn on_process(
    _process: PEPROCESS,
    _pid: HANDLE,
    info: *mut PS_CREATE_NOTIFY_INFO,
) {
    // SAFETY: null for an exit, else valid during this call and ours to change.
    let Some(info) = (unsafe { info.as_mut() }) else {
        return;
    };
    // SAFETY: null or a string that is valid during this call.
    let Some(image) = (unsafe { info.ImageFileName.as_ref() }) else {
        return;
    };
    // SAFETY: the string says where its units are, and how many bytes they take.
    let image = unsafe { core::slice::from_raw_parts(image.Buffer, usize::from(image.Length) / 2) };
    if image.ends_with(REFUSED) {
        info.CreationStatus = STATUS_ACCESS_DENIED;
        REFUSALS.fetch_add(1, Ordering::Relaxed);
    }
}
