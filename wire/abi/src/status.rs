// SPDX-License-Identifier: MIT OR Apache-2.0
//! The NTSTATUS values that fltport itself returns, each with one meaning, so that both sides can
//! name a refusal.
//!
//! Values are Microsoft's (`ntstatus.h`); the meanings beside them are this project's.

/// An NTSTATUS as it travels: negative is an error.
pub type Code = i32;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = $value as Code;)*

        /// What fltport means by this status, in words for the user; `None` for a status that
        /// fltport does not return itself.
        pub fn describe(code: Code) -> Option<&'static str> {
            match code {
                $($name => Some($text),)*
                _ => None,
            }
        }
    };
}

statuses! {
    /// The call did what it says.
    SUCCESS = 0x0000_0000_u32, "success";
    /// Not an error for NT; a failure for fltport.
    TIMEOUT = 0x0000_0102_u32, "the deadline passed";
    /// A message larger than the limits allow.
    BUFFER_OVERFLOW = 0x8000_0005_u32, "the message is larger than the limit";
    /// The bytes are not what the protocol says.
    INVALID_PARAMETER = 0xC000_000D_u32, "the driver does not accept these bytes: a field is out of range or a length does not fit";
    /// No such command.
    INVALID_DEVICE_REQUEST = 0xC000_0010_u32, "the driver does not know this command";
    /// The connection has no right to do this to this provider.
    ACCESS_DENIED = 0xC000_0022_u32, "this connection was not granted the right to do that";
    /// The configuration gives this user no right at all.
    ACCOUNT_RESTRICTION = 0xC000_006E_u32, "the configuration gives this user no right at all";
    /// The configuration does not give this user a right that the service wants.
    PRIVILEGE_NOT_HELD = 0xC000_0061_u32, "the configuration does not give this user one of the rights that the service asked for";
    /// The configuration does not let this program connect.
    IMAGE_NOT_ALLOWED = 0xC000_0362_u32, "the configuration does not let this program connect";
    /// The configuration of who may connect cannot be understood, so nobody may.
    CONFIGURATION_UNREADABLE = 0xC000_014C_u32, "the configuration of who may connect cannot be understood";
    /// The connection is another process's.
    OTHER_PROCESS = 0xC000_005A_u32, "the connection was made by another process; only that one may use it";
    /// All places for connections are taken.
    CONNECTION_COUNT_LIMIT = 0xC000_0246_u32, "the driver takes no more connections";
    /// The result does not fit into the caller's buffer.
    BUFFER_TOO_SMALL = 0xC000_0023_u32, "the result does not fit into the buffer";
    /// No provider or message of that number.
    NOT_FOUND = 0xC000_0225_u32, "there is no provider or message of that number";
    /// The provider's name is taken.
    OBJECT_NAME_COLLISION = 0xC000_0035_u32, "the name is taken";
    /// The connection has ended.
    PORT_DISCONNECTED = 0xC000_0037_u32, "the connection has ended";
    /// Hello of a version that the driver does not speak.
    REVISION_MISMATCH = 0xC000_0059_u32, "the driver and the service have no protocol version in common: update the older one";
    /// No memory, or a table is full.
    INSUFFICIENT_RESOURCES = 0xC000_009A_u32, "the driver has no memory or no free slot for this";
    /// A booking beyond the provider's rate.
    QUOTA_EXCEEDED = 0xC000_0044_u32, "the provider is beyond the rate that it declared";
    /// Another size for a queue that has too much in it.
    INVALID_DEVICE_STATE = 0xC000_0184_u32, "the queue has too much in it to be replaced: set its size before subscribing";
    /// Somebody else is the decider already.
    SHARING_VIOLATION = 0xC000_0043_u32, "another service is the decider for this request already";
    /// A subscription that would take a backlog over while a former one is still being read.
    RETRY = 0xC000_022D_u32, "a backlog is still on its way to this connection: read on, then subscribe again";
    /// A stream that a connection has, and that was not to be taken over.
    CONNECTION_ACTIVE = 0xC000_023B_u32, "another connection has this stream: end that service, or take the stream over";
    /// A stream that another instance has taken over from this one.
    CONNECTION_ABORTED = 0xC000_0241_u32, "another instance of this service has taken the stream over";
    /// A stream that has to exist and does not.
    CONNECTION_INVALID = 0xC000_023A_u32, "there is no such stream: this connection has none, or its retention is over";
    /// A point in a stream that is not there.
    END_OF_FILE = 0xC000_0011_u32, "there is no such record in the stream: the number is beyond what was sent, or before what was acknowledged";
    /// A snapshot of a provider that has none.
    NOT_SUPPORTED = 0xC000_00BB_u32, "the provider does not report its present state: subscribe without a snapshot";
    /// The driver is unloading.
    DELETE_PENDING = 0xC000_0056_u32, "the driver is being unloaded";
    /// The driver is not ready for this.
    DEVICE_NOT_READY = 0xC000_00A3_u32, "the common driver is not loaded or not listening yet";
    /// A user address could not be read or written.
    ACCESS_VIOLATION = 0xC000_0005_u32, "an address that the service passed cannot be read or written";
    /// Called at an IRQL at which it cannot work.
    INVALID_LEVEL = 0xC000_0148_u32, "called at an IRQL that is too high";
    /// A message type that the provider did not declare.
    INVALID_MESSAGE = 0xC000_0702_u32, "the message does not match what the provider declared";
    /// The request guard: the caller is the decider itself.
    POSSIBLE_DEADLOCK = 0xC000_0194_u32, "the decider's own process asked; waiting for it would be a deadlock";
    /// A request that got no usable answer by its deadline.
    IO_TIMEOUT = 0xC000_00B5_u32, "nobody answered by the deadline";
    /// Nobody is there to ask.
    NO_SUCH_MEMBER = 0xC000_017A_u32, "nobody has taken the decider's role for this request";
}
