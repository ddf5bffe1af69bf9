// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a provider registers.

use crate::default_reply::DefaultReply;
use fltport_abi::interface::BacklogPolicy;
use fltport_nt::ex::Tag;
use fltport_stub::Terms;

/// How a provider registers, to be changed where the defaults do not fit.
///
/// ```
/// # extern crate nt_host; // the linker's other half on Linux
/// use fltport_client::{BacklogPolicy, Options};
/// use fltport_nt::ex::Tag;
///
/// const OPTIONS: Options = Options::new(Tag::new(b"Door"))
///     .backlog(65536, BacklogPolicy::KeepNewest)
///     .rate(1000, 200);
/// ```
#[derive(Clone, Copy)]
pub struct Options {
    pub(crate) terms: Terms,
    pub(crate) default_replies: &'static [DefaultReply],
}

impl Options {
    /// The defaults: no backlog, 4096 bytes of staging, no quota and no rate. `tag` is the pool tag
    /// of what is allocated here.
    pub const fn new(tag: Tag) -> Self {
        Options {
            terms: Terms {
                tag,
                staging: 4096,
                backlog: 0,
                policy: BacklogPolicy::KeepNewest,
                quota: 0,
                rate: 0,
                burst: 0,
            },
            default_replies: &[],
        }
    }

    /// Bytes of notifications that the common driver keeps while no service is connected, and which
    /// when these do not suffice.
    #[must_use]
    pub const fn backlog(mut self, bytes: u32, policy: BacklogPolicy) -> Self {
        self.terms.backlog = bytes;
        self.terms.policy = policy;
        self
    }

    /// Bytes of notifications that are kept while there is no common driver.
    #[must_use]
    pub const fn staging(mut self, bytes: u32) -> Self {
        self.terms.staging = bytes;
        self
    }

    /// Bytes of notifications that may be queued for one service; beyond that they are lost to it.
    /// Without a quota there is still the fair share that every provider has.
    #[must_use]
    pub const fn quota(mut self, bytes: u32) -> Self {
        self.terms.quota = bytes;
        self
    }

    /// Notifications a second, and how many may come at once (0: as many as in a second); beyond
    /// that they are lost.
    #[must_use]
    pub const fn rate(mut self, per_second: u32, burst: u32) -> Self {
        self.terms.rate = per_second;
        self.terms.burst = burst;
        self
    }

    /// What requests are answered with when nobody answers them, at most one for each:
    ///
    /// ```
    /// # extern crate nt_host; // the linker's other half on Linux
    /// # use fltport_client::{DefaultReply, Options};
    /// # use fltport_nt::ex::Tag;
    /// # fltport_abi::messages! {
    /// #     /// Doors.
    /// #     provider MESSAGES = "door-monitor";
    /// #     /// May it be opened?
    /// #     request 2 "open" Open { /** Which. */ door: u32, }
    /// #         -> /** The verdict. */ Verdict { /** No. */ deny: bool, }
    /// # }
    /// const DEFAULTS: &[DefaultReply] = &[DefaultReply::to::<Open>(&Verdict { deny: false })];
    /// const OPTIONS: Options = Options::new(Tag::new(b"Door")).default_replies(DEFAULTS);
    /// ```
    #[must_use]
    pub const fn default_replies(mut self, replies: &'static [DefaultReply]) -> Self {
        self.default_replies = replies;
        self
    }
}
