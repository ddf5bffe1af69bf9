// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors, named by what the user can do about them. Each prints as "cause. cure."

use crate::failure::{Code, Failure, Fault, Refused};
use crate::filter::FilterProblem;
use fltport_abi::schema::SchemaError;
use fltport_abi::{DecodeError, EncodeError, status};
use std::fmt;
use std::time::Duration;

/// Why a call failed. [`Error::code`] keeps what the platform said, for the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens: the driver (or the hosted kernel) is not running, or has no such port.
    NotRunning {
        /// Where it was looked for: the socket or the port's name.
        place: String,
        /// The platform's code.
        code: Code,
    },
    /// The port's security descriptor, the driver or the socket's directory refuses this user.
    AccessDenied(Code),
    /// The driver's configuration of who may what refuses, for this reason.
    NotAllowed(Refused, Code),
    /// The driver and this library have no protocol version in common.
    VersionMismatch(Code),
    /// The driver takes no further connection.
    TooManyConnections(Code),
    /// The hosted kernel takes no further socket, whatever for.
    TooManySockets(Code),
    /// The hosted kernel belongs to another user, who is not root: it is not to be trusted.
    ForeignHost {
        /// The socket.
        place: String,
        /// The user's id.
        uid: u32,
    },
    /// No socket can be at this path.
    NotAPlace {
        /// The path.
        place: String,
        /// What the operating system says of it.
        code: Code,
    },
    /// The connection has ended, from whichever side.
    Disconnected(Code),
    /// A reply that nobody waits for any more: the deadline has passed and the miss policy has
    /// answered.
    TooLate(Code),
    /// No provider of that name is registered.
    NoProvider(String),
    /// The provider has no such message.
    NotFound(Code),
    /// Another service is the decider for one of these requests.
    DeciderTaken(Code),
    /// Another connection has the stream, and it was not to be taken over.
    StreamInUse(Code),
    /// Another instance has taken the stream over from this one.
    TakenOver(Code),
    /// There is no such record in the stream.
    NoSuchRecord(Code),
    /// The provider does not report its present state.
    NoSnapshot(Code),
    /// There was no answer within this time.
    NoAnswer(Duration),
    /// The driver refused.
    Refused(Code),
    /// The other side does not keep to the protocol.
    Protocol(&'static str),
    /// A ring holds what is no record.
    CorruptRing {
        /// The ring: its processor's number.
        ring: usize,
        /// How many bytes had been read of it.
        position: u64,
    },
    /// [`Client::serve`](crate::Client::serve) is called while it runs.
    AlreadyServing,
    /// The driver is older than this library, and does not know this.
    DriverTooOld(&'static str),
    /// A filter is not one, or not for this message.
    Filter(FilterProblem),
    /// A message could not be written.
    Encode(EncodeError),
    /// A message could not be read.
    Decode(DecodeError),
    /// The provider's schema makes no sense; nothing that it sends can be read.
    Schema(SchemaError),
    /// The client has been closed.
    Closed,
    /// A thread could not be started.
    Thread(Code),
}

impl Error {
    /// The code that the platform gave; [`Code::None`] if the error is this library's own.
    pub fn code(&self) -> Code {
        match self {
            Error::NotRunning { code, .. }
            | Error::NotAPlace { code, .. }
            | Error::TooManySockets(code)
            | Error::AccessDenied(code)
            | Error::NotAllowed(_, code)
            | Error::VersionMismatch(code)
            | Error::TooManyConnections(code)
            | Error::Disconnected(code)
            | Error::TooLate(code)
            | Error::NotFound(code)
            | Error::DeciderTaken(code)
            | Error::StreamInUse(code)
            | Error::TakenOver(code)
            | Error::NoSuchRecord(code)
            | Error::NoSnapshot(code)
            | Error::Refused(code)
            | Error::Thread(code) => *code,
            _ => Code::None,
        }
    }

    pub(crate) fn thread(error: &std::io::Error) -> Self {
        Error::Thread(error.raw_os_error().map_or(Code::None, Code::Os))
    }

    /// An edge's failure at `place`; `limit` is the time after which it gave up, where it did.
    pub(crate) fn new(failure: Failure, place: &str, limit: Duration) -> Self {
        let code = failure.code;
        match failure.fault {
            Fault::NotThere => Error::NotRunning {
                place: place.to_owned(),
                code,
            },
            Fault::AccessDenied => Error::AccessDenied(code),
            Fault::NotAllowed(why) => Error::NotAllowed(why, code),
            Fault::TooManyConnections => Error::TooManyConnections(code),
            Fault::TooManySockets => Error::TooManySockets(code),
            Fault::ForeignHost(uid) => Error::ForeignHost {
                place: place.to_owned(),
                uid,
            },
            Fault::NotAPlace => Error::NotAPlace {
                place: place.to_owned(),
                code,
            },
            Fault::VersionMismatch => Error::VersionMismatch(code),
            Fault::Disconnected | Fault::Cancelled => Error::Disconnected(code),
            Fault::NoWaiter => Error::TooLate(code),
            Fault::NotFound => Error::NotFound(code),
            Fault::Taken => Error::DeciderTaken(code),
            Fault::StreamInUse => Error::StreamInUse(code),
            Fault::TakenOver => Error::TakenOver(code),
            Fault::NoSuchRecord => Error::NoSuchRecord(code),
            Fault::NoSnapshot => Error::NoSnapshot(code),
            Fault::NoAnswer => Error::NoAnswer(limit),
            Fault::Protocol(what) => Error::Protocol(what),
            Fault::TooSmall(_) | Fault::Malformed | Fault::Other => Error::Refused(code),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotRunning { place, .. } => not_running(place, f),
            Error::AccessDenied(_) => write!(
                f,
                "access denied. Run as root or Administrator, or have an administrator grant this user the right: {GRANT}",
            ),
            Error::NotAllowed(why, _) => not_allowed(*why, f),
            Error::VersionMismatch(_) => f.write_str(
                "the driver and this program speak no common protocol version. Update the older of the two",
            ),
            Error::TooManyConnections(_) => f.write_str(
                "the driver takes no more connections. End a service that is connected; `fltport status` lists them",
            ),
            Error::TooManySockets(_) => f.write_str(
                "the hosted kernel serves as many sockets as it takes. End a program that is connected to it; `ss -xp` lists them",
            ),
            Error::ForeignHost { place, uid } => write!(
                f,
                "the hosted kernel at {place} is run by user {uid}, neither root nor this user: it could do as it likes with this program. Start one: fltport host, or name another socket"
            ),
            Error::NotAPlace { place, code } => write!(
                f,
                "no hosted kernel can be at {place}: {code}. Name another socket: its path has at most 107 bytes and leads through directories"
            ),
            Error::Disconnected(_) => f.write_str(
                "the connection has ended. The driver was unloaded, the hosted kernel stopped, or it closed the connection; connect again",
            ),
            Error::TooLate(_) => f.write_str(
                "the reply came too late: the driver has gone on without it. Reply sooner, or have the driver wait longer",
            ),
            Error::NoProvider(name) => write!(
                f,
                "no driver has registered the provider \"{name}\". Load that driver; `fltport status` lists the providers"
            ),
            Error::NotFound(_) => f.write_str(
                "the driver knows no such provider or message. It may have been unloaded, or be of another version; `fltport status` lists the providers",
            ),
            Error::DeciderTaken(_) => f.write_str(
                "another service answers these requests already. End it first; `fltport status` lists the connections",
            ),
            Error::StreamInUse(_) => f.write_str(
                "another connection has this stream. End that service, or take the stream over from it; `fltport status` lists the connections",
            ),
            Error::TakenOver(_) => f.write_str(
                "another instance of this service has taken the stream over. Let this one end",
            ),
            Error::NoSuchRecord(_) => f.write_str(
                "there is no such record in the stream. Acknowledge what has come",
            ),
            Error::NoSnapshot(_) => f.write_str(
                "the provider does not report its present state. Subscribe without a snapshot",
            ),
            Error::NoAnswer(limit) => write!(
                f,
                "no answer within {limit:?}. The hosted kernel or the driver's handler hangs; see whether its process is stopped"
            ),
            Error::Refused(code) => refused(*code, f),
            Error::Protocol(what) => write!(
                f,
                "the other side does not keep to the protocol: {what}. Use the driver and the library of one version"
            ),
            Error::CorruptRing { ring, position } => write!(
                f,
                "ring {ring} holds at position {position} what is no record. The driver is broken, or its memory is written by another one; please report it"
            ),
            Error::AlreadyServing => f.write_str(
                "this client's events are being served already. Serve them in one thread, and not from a handler",
            ),
            Error::DriverTooOld(what) => write!(
                f,
                "the driver is older than this program and does not know {what}. Update the driver, or do without"
            ),
            Error::Filter(problem) => problem.fmt(f),
            Error::Encode(error) => write!(f, "{error}. Send less in one message"),
            Error::Decode(error) => write!(f, "{error}. Use the definition that the driver was built with"),
            Error::Schema(error) => write!(
                f,
                "the provider's schema is corrupt: {error}. Its driver is broken, or newer than this program; update the older of the two"
            ),
            Error::Closed => f.write_str("the client has been closed. Connect a new one"),
            Error::Thread(code) => write!(f, "a thread could not be started ({code}). Raise the limit on threads"),
        }
    }
}

fn not_running(place: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if cfg!(windows) {
        write!(
            f,
            "no driver listens on the port {place}. Start the service fltport: sc start fltport"
        )
    } else {
        write!(
            f,
            "no hosted kernel listens at {place}. Start one: fltport host"
        )
    }
}

/// What gives a user rights.
const GRANT: &str = if cfg!(windows) {
    "fltport access grant"
} else {
    "fltport host --grant"
};

fn not_allowed(why: Refused, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match why {
        Refused::NoRights => {
            write!(f, "the driver gives this user no right at any provider. Have an administrator grant one: {GRANT}")
        }
        Refused::RightNotGranted => {
            write!(f, "the driver does not give this user one of the rights that this program asks for. Ask for fewer, or have an administrator grant it: {GRANT}")
        }
        Refused::Image => {
            f.write_str("the driver does not let this program connect. Have an administrator add its path to the value Images in the driver's Parameters")
        }
        Refused::Configuration => {
            f.write_str("the driver cannot understand its configuration of who may connect, so nobody may. Have an administrator make the value Images in the driver's Parameters a list of texts, or remove it")
        }
        Refused::OtherProcess => {
            f.write_str("the connection was made by another process, and only that one may use it. Connect again in this one")
        }
    }
}

fn refused(code: Code, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match code {
        Code::Status(number) => match status::describe(number) {
            Some(text) => write!(f, "the driver refused: {text} ({code})"),
            None => write!(f, "the driver refused with {code}"),
        },
        _ => write!(f, "refused with {code}"),
    }
}

impl std::error::Error for Error {}

impl From<FilterProblem> for Error {
    fn from(problem: FilterProblem) -> Self {
        Error::Filter(problem)
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Error::Encode(error)
    }
}

impl From<SchemaError> for Error {
    fn from(error: SchemaError) -> Self {
        Error::Schema(error)
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Error::Decode(error)
    }
}
