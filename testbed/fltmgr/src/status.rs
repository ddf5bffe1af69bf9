// SPDX-License-Identifier: MIT OR Apache-2.0
//! NTSTATUS as a newtype, the statuses this crate answers with, and what fltlib makes of them.

use core::fmt;

/// An NTSTATUS: 32 bits, the top two are the severity (success, informational, warning, error).
///
/// `STATUS_TIMEOUT` has the severity *success*; compare with [`Status::SUCCESS`] rather than asking
/// [`Status::is_success`] whenever a wait is involved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(pub i32);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Status = Status($value as u32 as i32);)*

            /// The name without the prefix `STATUS_`, for those this crate knows.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 as u32 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// Done.
    SUCCESS = 0x0000_0000;
    /// A wait ran out. Severity *success*: `NT_SUCCESS` is true for it.
    TIMEOUT = 0x0000_0102;
    /// The request waits for something.
    PENDING = 0x0000_0103;
    /// A user buffer is not aligned as the driver needs it.
    DATATYPE_MISALIGNMENT = 0x8000_0002;
    /// A reply longer than the sender's reply buffer. Severity *warning*.
    BUFFER_OVERFLOW = 0x8000_0005;
    /// A get with less room than the message needs. Severity *warning*, facility Filter Manager.
    FLT_BUFFER_TOO_SMALL = 0x801C_0001;
    /// The address cannot be read or written.
    ACCESS_VIOLATION = 0xC000_0005;
    /// No such handle.
    INVALID_HANDLE = 0xC000_0008;
    /// An argument is not acceptable.
    INVALID_PARAMETER = 0xC000_000D;
    /// The target does not do this.
    INVALID_DEVICE_REQUEST = 0xC000_0010;
    /// Out of memory.
    NO_MEMORY = 0xC000_0017;
    /// The security descriptor or the driver refuses.
    ACCESS_DENIED = 0xC000_0022;
    /// The buffer cannot hold the answer.
    BUFFER_TOO_SMALL = 0xC000_0023;
    /// The object name has an empty component.
    OBJECT_NAME_INVALID = 0xC000_0033;
    /// No such object, key or value.
    OBJECT_NAME_NOT_FOUND = 0xC000_0034;
    /// The object name is taken.
    OBJECT_NAME_COLLISION = 0xC000_0035;
    /// One of the two ends of the connection is closed.
    PORT_DISCONNECTED = 0xC000_0037;
    /// A directory on the way to the object does not exist.
    OBJECT_PATH_NOT_FOUND = 0xC000_003A;
    /// The object name is not an absolute path.
    OBJECT_PATH_SYNTAX_BAD = 0xC000_003B;
    /// The waiting thread is being terminated.
    THREAD_IS_TERMINATING = 0xC000_004B;
    /// The caller lacks a privilege.
    PRIVILEGE_NOT_HELD = 0xC000_0061;
    /// A length does not fit its field.
    INTEGER_OVERFLOW = 0xC000_0095;
    /// Pool or another resource is exhausted.
    INSUFFICIENT_RESOURCES = 0xC000_009A;
    /// A device did not answer in time; what wrappers make of [`Status::TIMEOUT`].
    IO_TIMEOUT = 0xC000_00B5;
    /// Not supported.
    NOT_SUPPORTED = 0xC000_00BB;
    /// The image is in memory already.
    IMAGE_ALREADY_LOADED = 0xC000_010E;
    /// The request was cancelled.
    CANCELLED = 0xC000_0120;
    /// The port's `MaxConnections` is reached.
    CONNECTION_COUNT_LIMIT = 0xC000_0246;
    /// The Filter Manager is not up yet.
    FLT_NOT_INITIALIZED = 0xC01C_0007;
    /// The filter has not started filtering.
    FLT_FILTER_NOT_READY = 0xC01C_0008;
    /// The object is being torn down.
    FLT_DELETING_OBJECT = 0xC01C_000B;
    /// Conventional refusal of an instance-setup callback.
    FLT_DO_NOT_ATTACH = 0xC01C_000F;
    /// Conventional refusal of an unload callback.
    FLT_DO_NOT_DETACH = 0xC01C_0010;
    /// Two instances at one altitude.
    FLT_INSTANCE_ALTITUDE_COLLISION = 0xC01C_0011;
    /// Two instances with one name.
    FLT_INSTANCE_NAME_COLLISION = 0xC01C_0012;
    /// No filter with that name.
    FLT_FILTER_NOT_FOUND = 0xC01C_0013;
    /// Nobody waits for the reply with that message id.
    FLT_NO_WAITER_FOR_REPLY = 0xC01C_0020;
}

/// Win32 error numbers behind the statuses above, from the public status tables.
const WIN32: &[(Status, u32)] = &[
    (Status::PENDING, 997),
    (Status::DATATYPE_MISALIGNMENT, 998),
    (Status::BUFFER_OVERFLOW, 234),
    (Status::ACCESS_VIOLATION, 998),
    (Status::INVALID_HANDLE, 6),
    (Status::INVALID_PARAMETER, 87),
    (Status::INVALID_DEVICE_REQUEST, 1),
    (Status::NO_MEMORY, 8),
    (Status::ACCESS_DENIED, 5),
    (Status::BUFFER_TOO_SMALL, 122),
    (Status::OBJECT_NAME_INVALID, 123),
    (Status::OBJECT_NAME_NOT_FOUND, 2),
    (Status::OBJECT_NAME_COLLISION, 183),
    (Status::PORT_DISCONNECTED, 6),
    (Status::OBJECT_PATH_NOT_FOUND, 3),
    (Status::OBJECT_PATH_SYNTAX_BAD, 161),
    (Status::PRIVILEGE_NOT_HELD, 1314),
    (Status::INTEGER_OVERFLOW, 534),
    (Status::INSUFFICIENT_RESOURCES, 1450),
    (Status::IO_TIMEOUT, 121),
    (Status::NOT_SUPPORTED, 50),
    (Status::IMAGE_ALREADY_LOADED, 1056),
    (Status::CANCELLED, 995),
    (Status::CONNECTION_COUNT_LIMIT, 1238),
];

/// `ERROR_MR_MID_NOT_FOUND`, what an unknown status becomes.
const UNMAPPED: u32 = 317;
/// `ERROR_INSUFFICIENT_BUFFER`.
const INSUFFICIENT_BUFFER: u32 = 122;
const FACILITY: u32 = 0x0FFF_0000;
const FACILITY_FILTER_MANAGER: u32 = 0x001C_0000;
const FACILITY_USERMODE_FILTER_MANAGER: u32 = 0x001F_0000;

impl Status {
    /// `NT_SUCCESS`: severity success or informational. True for [`Status::TIMEOUT`].
    pub const fn is_success(self) -> bool {
        self.0 >= 0
    }

    /// Whether the severity is *warning* (`0x8…`).
    pub const fn is_warning(self) -> bool {
        (self.0 as u32) >> 30 == 2
    }

    /// The HRESULT that the functions of fltlib.dll return for this status.
    ///
    /// Facility 0x1C keeps severity bit and code and becomes facility 0x1F (fltWinError.h), except
    /// [`Status::FLT_BUFFER_TOO_SMALL`]; the rest goes through the Win32 error. Success statuses
    /// other than [`Status::PENDING`] become `S_OK`.
    pub fn hresult(self) -> u32 {
        self.hresult_by(|status| {
            let row = WIN32.iter().find(|row| row.0 == status);
            row.map_or(UNMAPPED, |row| row.1)
        })
    }

    /// [`Status::hresult`] with a table of Win32 errors that knows every status: where there is
    /// one, that is RtlNtStatusToDosError.
    pub fn hresult_by(self, win32: impl FnOnce(Status) -> u32) -> u32 {
        let bits = self.0 as u32;
        if self == Status::FLT_BUFFER_TOO_SMALL {
            return hresult_from_win32(INSUFFICIENT_BUFFER);
        }
        if bits & FACILITY == FACILITY_FILTER_MANAGER {
            return bits & 0x8000_FFFF | FACILITY_USERMODE_FILTER_MANAGER;
        }
        if self.is_success() && self != Status::PENDING {
            return 0;
        }
        hresult_from_win32(win32(self))
    }
}

/// `HRESULT_FROM_WIN32` for a non-zero error number.
const fn hresult_from_win32(error: u32) -> u32 {
    error & 0xFFFF | 0x8007_0000
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "STATUS_{name} (0x{:08X})", self.0),
            None => write!(f, "0x{:08X}", self.0),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn status_timeout_passes_nt_success() {
        assert!(Status::TIMEOUT.is_success());
        assert_ne!(Status::TIMEOUT, Status::SUCCESS);
    }

    #[test]
    fn buffer_overflow_is_a_warning_and_fails_nt_success() {
        assert!(Status::BUFFER_OVERFLOW.is_warning());
        assert!(!Status::BUFFER_OVERFLOW.is_success());
        assert!(!Status::ACCESS_DENIED.is_warning());
    }

    #[test]
    fn hresults_of_the_documented_table() {
        let table: [(u32, u32); 24] = [
            (0x0000_0103, 0x8007_03E5),
            (0x8000_0005, 0x8007_00EA),
            (0xC000_000D, 0x8007_0057),
            (0xC000_0010, 0x8007_0001),
            (0xC000_0022, 0x8007_0005),
            (0xC000_0023, 0x8007_007A),
            (0xC000_0033, 0x8007_007B),
            (0xC000_0034, 0x8007_0002),
            (0xC000_0035, 0x8007_00B7),
            (0xC000_0037, 0x8007_0006),
            (0xC000_0061, 0x8007_0522),
            (0xC000_009A, 0x8007_05AA),
            (0xC000_010E, 0x8007_0420),
            (0xC000_0120, 0x8007_03E3),
            (0xC000_0246, 0x8007_04D6),
            (0xC01C_0007, 0x801F_0007),
            (0xC01C_0008, 0x801F_0008),
            (0xC01C_000B, 0x801F_000B),
            (0xC01C_000F, 0x801F_000F),
            (0xC01C_0010, 0x801F_0010),
            (0xC01C_0011, 0x801F_0011),
            (0xC01C_0012, 0x801F_0012),
            (0xC01C_0013, 0x801F_0013),
            (0xC01C_0020, 0x801F_0020),
        ];
        for (status, hresult) in table {
            assert_eq!(
                Status(status as i32).hresult(),
                hresult,
                "status 0x{status:08X}"
            );
        }
    }

    #[test]
    fn flt_buffer_too_small_becomes_insufficient_buffer() {
        assert_eq!(Status::FLT_BUFFER_TOO_SMALL.hresult(), 0x8007_007A);
    }

    #[test]
    fn an_unmapped_status_becomes_win32_317() {
        assert_eq!(Status(0xC000_0FFF_u32 as i32).hresult(), 0x8007_013D);
    }

    #[test]
    fn another_table_is_asked_for_what_is_not_the_filter_managers() {
        let driver = Status(0xC000_0FFF_u32 as i32);
        assert_eq!(driver.hresult_by(|_| 170), 0x8007_00AA);
        let never = |status: Status| -> u32 { panic!("asked for {status}") };
        assert_eq!(Status::FLT_BUFFER_TOO_SMALL.hresult_by(never), 0x8007_007A);
        assert_eq!(Status::FLT_DELETING_OBJECT.hresult_by(never), 0x801F_000B);
        assert_eq!(Status::TIMEOUT.hresult_by(never), 0);
    }

    #[test]
    fn a_success_status_becomes_s_ok() {
        assert_eq!(Status::SUCCESS.hresult(), 0);
    }

    #[test]
    fn a_status_names_itself() {
        assert_eq!(
            Status::ACCESS_DENIED.to_string(),
            "STATUS_ACCESS_DENIED (0xC0000022)"
        );
        assert_eq!(Status(0x4000_0000).to_string(), "0x40000000");
    }
}
