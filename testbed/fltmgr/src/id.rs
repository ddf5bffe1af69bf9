// SPDX-License-Identifier: MIT OR Apache-2.0
//! Identifiers. The machine allocates them from one counter and never uses a number twice, so a
//! stale identifier finds nothing instead of somebody else's object.

macro_rules! identifiers {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name(pub u64);
        )*
    };
}

identifiers! {
    /// A registered filter.
    FilterId;
    /// A communication server port.
    PortId;
    /// A connection: one client port and one user-mode file object.
    ConnectionId;
    /// One FltSendMessage.
    SendId;
    /// One FilterGetMessage.
    GetId;
    /// One FilterSendMessage, while the driver's message callback runs.
    MessageCallId;
}

/// The number a message carries in its header, unique and increasing within one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// A point on a monotonic clock, in units of 100 ns. The host owns the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);
