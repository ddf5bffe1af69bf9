// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages of the common driver itself: provider number 0. Every connection with the right to
//! observe is subscribed to them.

use crate::text::Text;

crate::messages! {
    /// The common driver as a provider.
    provider PROVIDER = "fltport";

    /// A provider has registered or is gone. Who wants its messages subscribes to the new number.
    notification 1 "provider" ProviderChange<'a> {
        /// The provider's number, which is never used for another one.
        provider: u32,
        /// Registered (true) or gone.
        registered: bool,
        /// The provider's name.
        name: Text<'a>,
    }

    /// Providers are gone whose backlogs held what nobody had read: it is lost. Told to everybody who
    /// is there, and to everybody who connects later.
    notification 2 "backlogs-unread" BacklogsUnread<'a> {
        /// How many notifications, since the driver was started.
        notifications: u64,
        /// How many providers.
        providers: u32,
        /// The name of the last one.
        name: Text<'a>,
    }
}

/// The common driver's number as a provider.
pub const NUMBER: u16 = 0;
