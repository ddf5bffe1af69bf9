// SPDX-License-Identifier: MIT OR Apache-2.0
//! fltlib.dll for Wine, whose own answers E_NOTIMPL.
//!
//! A stand-in for Windows' DLL in front of a stand-in for its driver: what a program does with a
//! communication port works and answers with the documented HRESULTs; everything else of fltUser.h
//! is there, so that the program loads, and answers E_NOTIMPL (`unsupported.rs` lists it).
//!
//! Every call is a device control on the Filter Manager's devices, with Windows' own codes; only
//! the connect has a code of ours ([`fltmgr::device`]). `arguments.rs` checks what a program passes,
//! `wait.rs` decides what a call's outcome is; both are pure. `device.rs` has the system calls.
//!
//! Where this differs from Windows:
//! * FilterSendMessage and FilterReplyMessage wait on an event of their own. Windows' Filter Manager
//!   never lets them wait, so there it makes no difference what would be waited for.
//! * What Windows says to a wrong option or a NULL result pointer is not documented; here it is
//!   E_INVALIDARG.
//!
//! Elsewhere than on Windows the library is empty.
#![deny(unsafe_code)]

#[cfg(any(windows, test))]
mod arguments;
#[cfg(windows)]
#[allow(unsafe_code)]
mod device;
#[cfg(windows)]
#[allow(unsafe_code)]
pub mod exports;
#[cfg(windows)]
#[allow(unsafe_code)]
pub mod unsupported;
#[cfg(any(windows, test))]
mod wait;
