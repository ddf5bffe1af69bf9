// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ledger's words: why a notification was lost, how a request ended.

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident, $count:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum $name { $($(#[$vdoc])* $variant = $value,)* }

        /// How many there are; an array of counters has this length and is indexed by [`
        #[doc = stringify!($name)]
        /// ::index`].
        pub const $count: usize = $name::ALL.len();

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The number on the wire as a value; `None` for one that this version does not know.
            pub const fn from_wire(number: u16) -> Option<Self> {
                match number { $($value => Some($name::$variant),)* _ => None }
            }

            /// The place in an array of counters.
            pub const fn index(self) -> usize { self as usize }

            /// The name as users read it.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result { f.pad(self.name()) }
        }
    };
}

numbered! {
    /// Why a notification was lost. Every loss has exactly one cause.
    Cause, CAUSES {
        /// The connection's (or the backlog's) queue had no room.
        RingFull = 0 "ring full",
        /// The provider or the connection sent more than its rate allows.
        RateLimit = 1 "rate limit",
        /// The provider had more bytes in flight than its quota allows.
        Quota = 2 "quota",
        /// An allocation failed.
        NoMemory = 3 "no memory",
        /// The message is larger than the limits allow.
        TooLarge = 4 "too large",
        /// Nobody was connected, and no backlog was declared.
        NoConnection = 5 "no connection",
        /// The connection ended while the message was in flight.
        Disconnected = 6 "disconnected",
        /// The service did not take the message by the deadline.
        Timeout = 7 "timeout",
        /// The driver was unloading.
        ShuttingDown = 8 "shutting down",
        /// Offered at an IRQL at which nothing can be done with it.
        WrongIrql = 9 "wrong IRQL",
    }
}

numbered! {
    /// How a request ended. Every request has exactly one outcome.
    Outcome, OUTCOMES {
        /// The decider answered in time.
        Answered = 0 "answered",
        /// The decider did not answer by the deadline; the miss policy did.
        Missed = 1 "missed",
        /// Nobody has taken the decider's role; the default answered at once.
        NoDecider = 2 "no decider",
        /// The decider's own process asked; the default answered at once.
        FromDecider = 3 "from decider",
        /// The decider has missed repeatedly and is left alone for a while; the default answered at
        /// once.
        CircuitOpen = 4 "circuit open",
        /// The decider's connection ended while it was asked; the miss policy answered.
        Disconnected = 5 "disconnected",
        /// The decider's answer was not one: of another message, or a length of no version; the miss
        /// policy answered.
        BadReply = 6 "bad reply",
        /// The driver could not ask: no memory, too large, unloading; the miss policy answered.
        Failed = 7 "failed",
    }
}

numbered! {
    /// Why something was refused. Every refusal has its own status, too.
    Refusal, REFUSALS {
        /// A connection without any right, by the configuration.
        NoRights = 0 "no rights",
        /// A connection that wanted a right that it may not have.
        RightNotGranted = 1 "right not granted",
        /// A subscription or command without the right for that provider.
        ProviderRight = 2 "no right for the provider",
        /// A connection from an image that the configuration does not allow.
        Image = 3 "image not allowed",
        /// A connection while the configuration of who may connect cannot be understood.
        Configuration = 4 "configuration unreadable",
        /// A call by another process than the one that connected.
        OtherProcess = 5 "another process",
        /// A hello that is not one.
        BadHello = 6 "malformed hello",
        /// No protocol version in common.
        Version = 7 "version",
        /// All places for connections are taken.
        TooMany = 8 "too many connections",
        /// A stream that another connection has taken over, or has.
        StreamTaken = 9 "stream taken",
        /// A stream that does not exist, or a point in it that does not.
        BadResume = 10 "bad resume point",
        /// A malformed command.
        BadCommand = 11 "malformed command",
        /// A malformed filter, or one for another schema.
        BadFilter = 12 "malformed filter",
        /// A malformed schema of a client driver.
        BadSchema = 13 "malformed schema",
        /// An acknowledgement of what was not sent, or without a stream.
        BadAcknowledgement = 14 "bad acknowledgement",
        /// A subscription, answer or command with a right that the service did not ask for when it
        /// connected.
        RightNotAsked = 15 "right not asked for",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices() {
        assert!(
            Cause::ALL
                .iter()
                .enumerate()
                .all(|(i, c)| c.index() == i && Cause::from_wire(i as u16) == Some(*c))
        );
        assert!(
            Outcome::ALL
                .iter()
                .enumerate()
                .all(|(i, o)| o.index() == i && Outcome::from_wire(i as u16) == Some(*o))
        );
        assert_eq!(Cause::from_wire(CAUSES as u16), None);
    }
}
