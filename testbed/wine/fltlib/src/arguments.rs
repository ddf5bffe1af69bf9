// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program passes, checked before the driver is asked.

use fltmgr::Status;

/// `FLT_PORT_FLAG_SYNC_HANDLE`: operations on the handle happen one after the other.
pub(crate) const SYNC_HANDLE: u32 = 1;

/// Whether the handle is to be synchronous.
///
/// # Errors
/// STATUS_INVALID_PARAMETER for an option that does not exist.
pub(crate) fn synchronous(options: u32) -> Result<bool, Status> {
    match options {
        0 => Ok(false),
        SYNC_HANDLE => Ok(true),
        _ => Err(Status::INVALID_PARAMETER),
    }
}

/// Checks a connection context: a pointer needs a size, and a size a pointer. How large it may be is
/// [`fltmgr::device::ConnectBlock`]'s.
///
/// # Errors
/// STATUS_INVALID_PARAMETER if there is one without the other.
pub(crate) fn context(given: bool, size: u16) -> Result<(), Status> {
    if given == (size > 0) {
        Ok(())
    } else {
        Err(Status::INVALID_PARAMETER)
    }
}

/// The size of an optional buffer: ignored without a pointer.
pub(crate) fn optional(given: bool, size: u32) -> u32 {
    if given { size } else { 0 }
}

/// Checks a service name of FilterLoad and FilterUnload.
///
/// # Errors
/// STATUS_INVALID_PARAMETER for an empty one.
pub(crate) fn service_name(name: &[u16]) -> Result<(), Status> {
    if name.is_empty() {
        Err(Status::INVALID_PARAMETER)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_option_exists() {
        assert_eq!(synchronous(0), Ok(false));
        assert_eq!(synchronous(1), Ok(true));
        assert_eq!(synchronous(2), Err(Status::INVALID_PARAMETER));
        assert_eq!(synchronous(3), Err(Status::INVALID_PARAMETER));
    }

    #[test]
    fn a_context_and_its_size_go_together() {
        assert_eq!(context(false, 0), Ok(()));
        assert_eq!(context(true, 1), Ok(()));
        assert_eq!(context(true, 0), Err(Status::INVALID_PARAMETER));
        assert_eq!(context(false, 1), Err(Status::INVALID_PARAMETER));
    }

    #[test]
    fn the_size_of_a_buffer_that_is_not_there_is_ignored() {
        assert_eq!(optional(true, 7), 7);
        assert_eq!(optional(false, 7), 0);
    }

    #[test]
    fn a_service_has_a_name() {
        assert_eq!(service_name(&[]), Err(Status::INVALID_PARAMETER));
        assert_eq!(service_name(&[b'x'.into()]), Ok(()));
    }
}
