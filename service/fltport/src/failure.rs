// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an edge reports: one of a few faults that the client acts upon, with the code that the
//! platform gave, for the log.

use fltport_abi::status;
use std::fmt;

/// The code behind an error, as the platform gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// An NTSTATUS: from the hosted kernel.
    Status(i32),
    /// An HRESULT: from fltlib.dll.
    Hresult(i32),
    /// The operating system's own error number.
    Os(i32),
    /// There is none.
    None,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Code::Status(code) => write!(f, "NTSTATUS {code:#010x}"),
            Code::Hresult(code) => write!(f, "HRESULT {code:#010x}"),
            Code::Os(code) => write!(f, "{}", std::io::Error::from_raw_os_error(*code)),
            Code::None => f.write_str("no code"),
        }
    }
}

/// What went wrong, as far as it matters for what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nobody listens: no such port, no such socket, or nobody behind it.
    NotThere,
    AccessDenied,
    /// The driver's configuration refuses; it says so by a status of its own.
    NotAllowed(Refused),
    TooManyConnections,
    /// The hosted kernel has too many sockets.
    #[cfg_attr(windows, allow(dead_code))]
    TooManySockets,
    /// The hosted kernel is run by this other user.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    ForeignHost(u32),
    /// No socket can be there.
    #[cfg_attr(windows, allow(dead_code))]
    NotAPlace,
    VersionMismatch,
    /// The connection has ended.
    Disconnected,
    /// Nobody waits for that reply any more.
    NoWaiter,
    /// This much would have been needed.
    TooSmall(usize),
    Cancelled,
    NotFound,
    /// Somebody else is the decider.
    Taken,
    /// Another connection has the stream.
    StreamInUse,
    /// Another instance has taken the stream over.
    TakenOver,
    /// The stream has no such record.
    NoSuchRecord,
    /// The provider has no snapshots.
    NoSnapshot,
    /// The driver does not know what it was sent.
    Malformed,
    /// No answer within the time.
    NoAnswer,
    /// The peer does not speak the protocol.
    #[cfg_attr(windows, allow(dead_code))]
    Protocol(&'static str),
    Other,
}

/// Why the driver's configuration of who may what refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// This user has no right at all.
    NoRights,
    /// This user has not one of the rights that were asked for.
    RightNotGranted,
    /// This program is not among those that may connect.
    Image,
    /// The configuration cannot be understood, so nobody may connect.
    Configuration,
    /// The connection is another process's.
    OtherProcess,
}

/// A failed operation of an edge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    pub(crate) code: Code,
}

/// NT statuses that the Filter Manager and the object manager return on this path; values from
/// `ntstatus.h`.
pub(crate) mod nt {
    pub(crate) const FLT_BUFFER_TOO_SMALL: i32 = 0x801C_0001_u32 as i32;
    pub(crate) const FLT_NO_WAITER_FOR_REPLY: i32 = 0xC01C_0020_u32 as i32;
    pub(crate) const OBJECT_NAME_NOT_FOUND: i32 = 0xC000_0034_u32 as i32;
    pub(crate) const CONNECTION_COUNT_LIMIT: i32 = 0xC000_0246_u32 as i32;
    pub(crate) const CANCELLED: i32 = 0xC000_0120_u32 as i32;
}

impl Failure {
    pub(crate) fn new(fault: Fault) -> Self {
        Failure {
            fault,
            code: Code::None,
        }
    }

    /// From an NTSTATUS that is not a success.
    pub(crate) fn from_status(code: i32) -> Self {
        let fault = match code {
            nt::OBJECT_NAME_NOT_FOUND => Fault::NotThere,
            status::ACCESS_DENIED => Fault::AccessDenied,
            status::ACCOUNT_RESTRICTION => Fault::NotAllowed(Refused::NoRights),
            status::PRIVILEGE_NOT_HELD => Fault::NotAllowed(Refused::RightNotGranted),
            status::IMAGE_NOT_ALLOWED => Fault::NotAllowed(Refused::Image),
            status::CONFIGURATION_UNREADABLE => Fault::NotAllowed(Refused::Configuration),
            status::OTHER_PROCESS => Fault::NotAllowed(Refused::OtherProcess),
            nt::CONNECTION_COUNT_LIMIT => Fault::TooManyConnections,
            fltport_abi::hosted::TOO_MANY_SOCKETS => Fault::TooManySockets,
            status::REVISION_MISMATCH => Fault::VersionMismatch,
            status::PORT_DISCONNECTED => Fault::Disconnected,
            nt::FLT_NO_WAITER_FOR_REPLY => Fault::NoWaiter,
            nt::CANCELLED => Fault::Cancelled,
            status::NOT_FOUND => Fault::NotFound,
            status::INVALID_PARAMETER => Fault::Malformed,
            status::NOT_SUPPORTED => Fault::NoSnapshot,
            status::SHARING_VIOLATION => Fault::Taken,
            status::CONNECTION_ACTIVE => Fault::StreamInUse,
            status::CONNECTION_ABORTED => Fault::TakenOver,
            status::END_OF_FILE => Fault::NoSuchRecord,
            _ => Fault::Other,
        };
        Failure {
            fault,
            code: Code::Status(code),
        }
    }

    /// From an HRESULT that is not a success. The mapping that fltlib.dll applies to the driver's
    /// status is lossy; these are the values that it makes of the statuses above.
    #[cfg_attr(not(windows), allow(dead_code))]
    pub(crate) fn from_hresult(code: i32) -> Self {
        let fault = match code as u32 {
            0x8007_0002 => Fault::NotThere,
            0x8007_0005 => Fault::AccessDenied,
            0x8007_052F => Fault::NotAllowed(Refused::NoRights),
            0x8007_0522 => Fault::NotAllowed(Refused::RightNotGranted),
            0x8007_04EC => Fault::NotAllowed(Refused::Image),
            0x8007_03F1 => Fault::NotAllowed(Refused::Configuration),
            0x8007_051B => Fault::NotAllowed(Refused::OtherProcess),
            0x8007_04D6 => Fault::TooManyConnections,
            0x8007_051A => Fault::VersionMismatch,
            // "Invalid handle" is how fltlib.dll says that the port is disconnected.
            0x8007_0006 => Fault::Disconnected,
            0x801F_0020 => Fault::NoWaiter,
            0x8007_03E3 => Fault::Cancelled,
            0x8007_0490 => Fault::NotFound,
            0x8007_0057 => Fault::Malformed,
            0x8007_0032 => Fault::NoSnapshot,
            0x8007_0020 => Fault::Taken,
            0x8007_04CE => Fault::StreamInUse,
            0x8007_04D4 => Fault::TakenOver,
            0x8007_0026 => Fault::NoSuchRecord,
            _ => Fault::Other,
        };
        Failure {
            fault,
            code: Code::Hresult(code),
        }
    }

    /// From an error of the operating system while connecting or talking.
    #[cfg_attr(windows, allow(dead_code))]
    pub(crate) fn from_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let fault = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Fault::NotThere,
            ErrorKind::PermissionDenied => Fault::AccessDenied,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Fault::NoAnswer,
            ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => Fault::Disconnected,
            _ => Fault::Other,
        };
        Failure {
            fault,
            code: error.raw_os_error().map_or(Code::None, Code::Os),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_edges_name_the_same_faults() {
        for (nt, hresult) in [
            (nt::OBJECT_NAME_NOT_FOUND, 0x8007_0002_u32),
            (status::ACCESS_DENIED, 0x8007_0005),
            (status::ACCOUNT_RESTRICTION, 0x8007_052F),
            (status::PRIVILEGE_NOT_HELD, 0x8007_0522),
            (status::IMAGE_NOT_ALLOWED, 0x8007_04EC),
            (status::CONFIGURATION_UNREADABLE, 0x8007_03F1),
            (status::OTHER_PROCESS, 0x8007_051B),
            (nt::CONNECTION_COUNT_LIMIT, 0x8007_04D6),
            (status::REVISION_MISMATCH, 0x8007_051A),
            (status::PORT_DISCONNECTED, 0x8007_0006),
            (nt::FLT_NO_WAITER_FOR_REPLY, 0x801F_0020),
            (nt::CANCELLED, 0x8007_03E3),
            (status::NOT_FOUND, 0x8007_0490),
            (status::INVALID_PARAMETER, 0x8007_0057),
            (status::NOT_SUPPORTED, 0x8007_0032),
            (status::SHARING_VIOLATION, 0x8007_0020),
            (status::CONNECTION_ACTIVE, 0x8007_04CE),
            (status::CONNECTION_ABORTED, 0x8007_04D4),
            (status::END_OF_FILE, 0x8007_0026),
        ] {
            let fault = Failure::from_status(nt).fault;
            assert_eq!(
                fault,
                Failure::from_hresult(hresult as i32).fault,
                "{nt:#x}"
            );
            assert_ne!(fault, Fault::Other, "{nt:#x}");
        }
    }
}
