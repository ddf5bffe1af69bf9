// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider's place in the routes, and what it keeps while nobody is connected.

use crate::ledger::{Account, Unreported};
use crate::provider::{Provider, TYPES};
use crate::queue::Queue;
use crate::{request, tag};
use fltport_abi::account::Cause;
use fltport_abi::frame::RecordHeader;
use fltport_abi::interface::BacklogPolicy;
use fltport_nt::Result;
use fltport_nt::ex::{PoolArc, PoolBox};

/// Notifications kept while nobody is connected.
pub(crate) struct Backlog {
    queue: Queue,
    policy: BacklogPolicy,
    /// What was lost here, for the first subscriber to be told of.
    unreported: Unreported,
}

impl Backlog {
    /// IRQL: <= DISPATCH_LEVEL. An empty one of so many bytes.
    pub(crate) fn new(bytes: usize, policy: BacklogPolicy) -> Result<Self> {
        Ok(Backlog {
            queue: Queue::new(bytes)?,
            policy,
            unreported: Unreported::new(TYPES)?,
        })
    }

    pub(crate) fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    pub(crate) fn used(&self) -> usize {
        self.queue.used()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    pub(crate) fn policy(&self) -> BacklogPolicy {
        self.policy
    }

    pub(crate) fn unreported(&mut self) -> &mut Unreported {
        &mut self.unreported
    }

    /// Whether there is nothing in it and nothing to be told.
    pub(crate) fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.unreported.total() == 0
    }
}

/// A provider's place.
pub(crate) struct ProviderSlot {
    pub(crate) provider: PoolArc<Provider>,
    pub(crate) backlog: Option<Backlog>,
    /// The account of the backlog; without one, of what nobody was there to hear.
    pub(crate) unheard: Account,
    /// The sum of the accounts of connections that have ended.
    pub(crate) ended: Account,
    pub(crate) requests: request::Ledger,
}

impl ProviderSlot {
    /// IRQL: <= DISPATCH_LEVEL.
    pub(crate) fn new(
        provider: PoolArc<Provider>,
        backlog: Option<Backlog>,
    ) -> Result<PoolBox<Self>> {
        let unheard = Account::new(TYPES)?;
        let ended = Account::new(TYPES)?;
        let requests = request::Ledger::new()?;
        PoolBox::new(
            tag::PROVIDER,
            ProviderSlot {
                provider,
                backlog,
                unheard,
                ended,
                requests,
            },
        )
    }

    /// Accounts for a loss that no connection has to be told of now; a later first subscriber is.
    pub(crate) fn lose_unheard(&mut self, message: u16, cause: Cause, count: u64) {
        self.unheard.lost_untold(message, cause, count);
        if let Some(backlog) = &mut self.backlog {
            backlog.unreported.add(message, cause, count);
        }
    }

    /// Keeps a notification that nobody observes, if a backlog was declared.
    pub(crate) fn keep(&mut self, header: &RecordHeader, parts: &[&[u8]]) {
        let message = header.message;
        let Some(backlog) = &mut self.backlog else {
            self.lose_unheard(message, Cause::NoConnection, 1);
            return;
        };
        let fits_at_all = header.size as usize <= backlog.queue.capacity();
        while fits_at_all
            && backlog.policy == BacklogPolicy::KeepNewest
            && !backlog.queue.has_room(header.payload as usize)
        {
            let Some(oldest) = backlog.queue.drop_front() else {
                break;
            };
            self.unheard.dropped(oldest.message, Cause::RingFull, 1);
            backlog.unreported.add(oldest.message, Cause::RingFull, 1);
        }
        if backlog.queue.push(header, parts) {
            self.unheard.queued(message, 1);
        } else {
            self.lose_unheard(message, Cause::RingFull, 1);
        }
    }
}
