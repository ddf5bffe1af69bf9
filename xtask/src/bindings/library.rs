// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which image a driver imports a function from.

use anyhow::{Result, bail};

/// The image that exports a function to drivers, from the library that the metadata names for it.
///
/// The metadata assigns every `Zw` function, many `Rtl` functions and DbgPrintEx to ntdll.dll,
/// their home in user mode; ntoskrnl.exe exports the same names. An image that imports ntdll.dll
/// does not load as a driver.
///
/// # Errors
/// A library that drivers cannot import: the name does not belong into the list.
pub(super) fn for_drivers(function: &str, metadata: &str) -> Result<&'static str> {
    match metadata.to_ascii_lowercase().as_str() {
        "ntdll.dll" | "ntoskrnl.exe" => Ok("ntoskrnl.exe"),
        "fltmgr.sys" => Ok("fltmgr.sys"),
        "hal.dll" => Ok("hal.dll"),
        _ => bail!(
            "{function} lives in {metadata}, which a driver cannot import; take it off the list"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_mode_homes_become_the_kernel() {
        assert_eq!(for_drivers("ZwClose", "ntdll.dll").unwrap(), "ntoskrnl.exe");
        assert_eq!(for_drivers("ZwClose", "NTDLL.dll").unwrap(), "ntoskrnl.exe");
    }

    #[test]
    fn the_filter_manager_stays() {
        assert_eq!(
            for_drivers("FltSendMessage", "FLTMGR.SYS").unwrap(),
            "fltmgr.sys"
        );
    }

    #[test]
    fn a_user_mode_library_is_refused_by_name() {
        let error = for_drivers("MessageBoxA", "user32.dll")
            .unwrap_err()
            .to_string();
        assert!(error.contains("MessageBoxA lives in user32.dll"), "{error}");
    }
}
