// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rest of Windows that is needed: which one it is, and the Filter Manager's unload.

use anyhow::{Context, Result};
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use windows_sys::Win32::Foundation::{HANDLE, LUID};
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, LUID_AND_ATTRIBUTES, LookupPrivilegeValueW, SE_PRIVILEGE_ENABLED,
    TOKEN_ADJUST_PRIVILEGES, TOKEN_PRIVILEGES,
};
use windows_sys::Win32::Storage::InstallableFileSystems::FilterUnload;
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// A terminated string.
pub(super) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

pub(super) fn last_error() -> io::Error {
    io::Error::last_os_error()
}

/// Whether this is Wine, whose ntdll.dll says so.
pub(super) fn is_wine() -> bool {
    static WINE: OnceLock<bool> = OnceLock::new();
    *WINE.get_or_init(|| {
        let ntdll = wide("ntdll.dll");
        // SAFETY: a terminated name; the module is in every process and stays.
        let module = unsafe { GetModuleHandleW(ntdll.as_ptr()) };
        // SAFETY: a module, or null, for which it fails; and a terminated name.
        let version = unsafe { GetProcAddress(module, c"wine_get_version".as_ptr().cast()) };
        version.is_some()
    })
}

/// `FilterUnload`, with the privilege that it asks for; its HRESULT.
pub(super) fn filter_unload(filter: &str) -> Result<i32> {
    enable_load_driver().context("the privilege to load drivers cannot be had")?;
    let filter = wide(filter);
    // SAFETY: a terminated name.
    Ok(unsafe { FilterUnload(filter.as_ptr()) })
}

/// An administrator has the privilege, but must enable it.
fn enable_load_driver() -> io::Result<()> {
    let name = wide("SeLoadDriverPrivilege");
    let mut luid = LUID::default();
    // SAFETY: this machine, a terminated name, and a place for the result.
    check(unsafe { LookupPrivilegeValueW(null(), name.as_ptr(), &mut luid) })?;
    let mut token: HANDLE = null_mut();
    // SAFETY: takes nothing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: this process, and a place for the handle.
    check(unsafe { OpenProcessToken(process, TOKEN_ADJUST_PRIVILEGES, &mut token) })?;
    // SAFETY: the call succeeded, so the handle is open and nobody else's.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let privileges = TOKEN_PRIVILEGES {
        PrivilegeCount: 1,
        Privileges: [LUID_AND_ATTRIBUTES {
            Luid: luid,
            Attributes: SE_PRIVILEGE_ENABLED,
        }],
    };
    // SAFETY: an open token and one privilege, as it says; the former state is not asked for.
    check(unsafe {
        AdjustTokenPrivileges(
            token.as_raw_handle(),
            0,
            &privileges,
            0,
            null_mut(),
            null_mut(),
        )
    })
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 {
        Err(last_error())
    } else {
        Ok(())
    }
}
