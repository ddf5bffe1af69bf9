// SPDX-License-Identifier: MIT OR Apache-2.0
//! NTSTATUS as a Rust result.

use crate::bindings::{NTSTATUS, STATUS_TIMEOUT};

/// A status that is not success. `STATUS_TIMEOUT` counts as one, whatever `NT_SUCCESS` says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NtError(pub NTSTATUS);

/// A result whose error is an NTSTATUS.
pub type Result<T> = core::result::Result<T, NtError>;

impl NtError {
    /// The status, to be returned to NT.
    pub const fn status(self) -> NTSTATUS {
        self.0
    }
}

impl core::fmt::Debug for NtError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "NTSTATUS {:#010x}", self.0.cast_unsigned())
    }
}

impl core::fmt::Display for NtError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for NtError {}

/// The status as a result. Warnings are errors, as for `NT_SUCCESS`; `STATUS_TIMEOUT` is one too.
pub const fn check(status: NTSTATUS) -> Result<()> {
    if status < 0 || status == STATUS_TIMEOUT {
        Err(NtError(status))
    } else {
        Ok(())
    }
}

/// The result as a status.
pub fn to_status(result: Result<()>) -> NTSTATUS {
    result.map_or_else(NtError::status, |()| crate::bindings::STATUS_SUCCESS)
}
