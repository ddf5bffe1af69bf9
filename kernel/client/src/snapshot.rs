// SPDX-License-Identifier: MIT OR Apache-2.0
//! A snapshot from its provider's point of view.

use crate::message::encoded;
use fltport_abi::message::Message;
use fltport_nt::Result;
use fltport_nt::ex::Tag;

/// The present state of a provider, for a service that begins to observe it. Lives as long as
/// [`Handler::snapshot`](crate::Handler::snapshot) runs.
///
/// What makes it exact: a change and its notification are one for whoever holds the lock under which
/// [`Snapshot::live`] is called. What was offered before is then in the snapshot, if its result is
/// still there, and what is offered afterwards comes behind it.
pub struct Snapshot<'s> {
    pub(crate) snapshot: &'s fltport_stub::Snapshot,
    pub(crate) tag: Tag,
}

impl Snapshot<'_> {
    /// IRQL: any. Whether objects that are told of with this message are wanted; others are passed
    /// over.
    pub fn wants(&self, message: u16) -> bool {
        self.snapshot.wants(message)
    }

    /// IRQL: <= DISPATCH_LEVEL. Adds an object, as the notification that tells of it.
    ///
    /// Errors: `STATUS_INSUFFICIENT_RESOURCES`: no memory, or more than 8 MiB;
    /// `STATUS_BUFFER_OVERFLOW`: one object is too large. The service is not subscribed then.
    pub fn add<'m, M: Message<'m>>(&self, object: &M) -> Result<()> {
        if !self.wants(M::NUMBER) {
            return Ok(());
        }
        let payload = encoded(self.tag, object)?;
        self.snapshot.add(M::NUMBER, M::FIXED as u16, &payload)
    }

    /// IRQL: <= DISPATCH_LEVEL. The snapshot is complete, and what is offered from now on is live.
    /// Without it, it is when the routine returns.
    ///
    /// Errors: those of the service's subscription, which reach it; there is nothing to be done here.
    pub fn live(&self) -> Result<()> {
        self.snapshot.live()
    }
}
