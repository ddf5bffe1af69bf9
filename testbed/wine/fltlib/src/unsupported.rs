// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rest of fltUser.h: instances, volumes, and enumeration. They need file systems, which the
//! stand-in has none of. They are there so that a program that imports them loads.

use windows_sys::core::HRESULT;

const E_NOTIMPL: HRESULT = 0x8000_4001_u32.cast_signed();

/// Exports that answer E_NOTIMPL. They take no arguments: on x64 the caller cleans up, so a function
/// that looks at none of its arguments may be called with any.
macro_rules! unsupported {
    ($($name:ident)*) => {
        $(
            /// Not supported.
            #[unsafe(no_mangle)]
            pub extern "system" fn $name() -> HRESULT {
                E_NOTIMPL
            }
        )*
    };
}

unsupported! {
    FilterAttach
    FilterAttachAtAltitude
    FilterClose
    FilterCreate
    FilterDetach
    FilterFindClose
    FilterFindFirst
    FilterFindNext
    FilterGetDosName
    FilterGetInformation
    FilterInstanceClose
    FilterInstanceCreate
    FilterInstanceFindClose
    FilterInstanceFindFirst
    FilterInstanceFindNext
    FilterInstanceGetInformation
    FilterVolumeClose
    FilterVolumeFindClose
    FilterVolumeFindFirst
    FilterVolumeFindNext
    FilterVolumeInstanceFindClose
    FilterVolumeInstanceFindFirst
    FilterVolumeInstanceFindNext
}
