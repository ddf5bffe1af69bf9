// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider's place in the routes, and what it keeps while nobody is connected.

use crate::fair::TokenBucket;
use crate::ffi::{InterestWord, UnheardCounters};
use crate::lane::Bookings;
use crate::ledger::{Account, Loss, Unreported};
use crate::pending::Pending;
use crate::provider::{Provider, TYPES};
use crate::queue::Queue;
use crate::{request, request_account, tag};
use fltport_abi::account::Cause;
use fltport_abi::frame::RecordHeader;
use fltport_abi::interface::BacklogPolicy;
use fltport_nt::Result;
use fltport_nt::ex::{PoolArc, PoolBox};
use fltport_nt::ke::interrupt_time;

/// Notifications kept while nobody is connected.
pub(crate) struct Backlog {
    queue: Queue,
    policy: BacklogPolicy,
    /// What was lost here, for the first subscriber to be told of.
    unreported: Unreported,
}

impl Backlog {
    /// IRQL: <= DISPATCH_LEVEL. An empty one of so many bytes.
    #[inline(never)]
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

    pub(crate) fn peak(&self) -> usize {
        self.queue.peak()
    }

    pub(crate) fn booked(&self) -> usize {
        self.queue.booked()
    }

    /// Whether it has room for whatever comes, and nothing need be booked.
    pub(crate) fn has_always_room(&self) -> bool {
        self.policy == BacklogPolicy::KeepNewest
    }

    /// Keeps room for so many bytes; false if there is none, or it need not be kept.
    pub(crate) fn book(&mut self, bytes: usize) -> bool {
        !self.has_always_room() && self.queue.book(bytes)
    }

    pub(crate) fn unbook(&mut self, bytes: usize) {
        self.queue.unbook(bytes);
    }

    /// Puts a fresh one of the same size in its place; what it was. Bookings stay.
    pub(crate) fn replace(&mut self, fresh: Backlog) -> Backlog {
        let booked = self.booked();
        self.unbook(booked);
        let former = core::mem::replace(self, fresh);
        // As much as the former one kept, and nothing is in this one.
        let _has_room = self.queue.book(booked);
        former
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
    /// How often it may offer a notification.
    pub(crate) rate: TokenBucket,
    pub(crate) bookings: Bookings,
    /// Losses of its own making that no connection was told of.
    pub(crate) blamed: u64,
    /// The client driver's word for who listens.
    pub(crate) interest: Option<InterestWord>,
    /// Where it counts what nobody would hear.
    pub(crate) counters: Option<UnheardCounters>,
    /// The account of requests that nobody decides.
    pub(crate) undecided: request_account::Accounts,
    /// The sum of the requests that connections were asked which have ended.
    pub(crate) ended_requests: request_account::Accounts,
    /// Its asynchronous requests that have not ended.
    pub(crate) pending: Pending,
}

impl ProviderSlot {
    /// IRQL: <= DISPATCH_LEVEL.
    #[inline(never)]
    pub(crate) fn new(
        provider: PoolArc<Provider>,
        backlog: Option<Backlog>,
        interest: Option<InterestWord>,
        counters: Option<UnheardCounters>,
    ) -> Result<PoolBox<Self>> {
        let unheard = Account::new(TYPES)?;
        let ended = Account::new(TYPES)?;
        let requests = request::Ledger::new()?;
        let now = interrupt_time();
        let rate = TokenBucket::new(provider.rate, provider.burst, now);
        let undecided = request_account::Accounts::new(provider.requests)?;
        let ended_requests = request_account::Accounts::new(provider.requests)?;
        let bookings = Bookings::new(now)?;
        let pending = Pending::new()?;
        let mut slot = PoolBox::new_with(tag::PROVIDER, || ProviderSlot {
            provider,
            backlog: None,
            unheard,
            ended,
            requests,
            rate,
            bookings,
            blamed: 0,
            interest,
            counters,
            undecided,
            ended_requests,
            pending,
        })?;
        // Behind the rest, so that it is on the stack once.
        slot.backlog = backlog;
        Ok(slot)
    }

    /// Accounts for a loss that no connection has to be told of now; a later first subscriber is.
    pub(crate) fn lose_unheard(&mut self, message: u16, loss: Loss) {
        self.unheard.lost_untold(message, loss.cause, loss.count);
        if loss.by == self.provider.number {
            self.blamed += loss.count;
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.unreported.add(message, loss);
        }
    }

    /// Takes over what the client driver has counted because nobody would hear it. Whoever reads the account calls this first.
    pub(crate) fn collect_unheard(&mut self) {
        let types = self.provider.notifications;
        // Copied: they are not the slot's.
        if let Some(counters) = self.counters {
            counters.take(types, |message, count| {
                self.lose_unheard(message, Loss::new(Cause::NoConnection, count));
            });
        }
    }

    /// Keeps a notification that nobody observes, if a backlog was declared.
    pub(crate) fn keep(&mut self, header: &RecordHeader, parts: &[&[u8]]) {
        let message = header.message;
        // Nobody else has anything there.
        let full = Loss::by(Cause::RingFull, header.provider);
        let Some(backlog) = &mut self.backlog else {
            self.lose_unheard(message, Loss::new(Cause::NoConnection, 1));
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
            self.blamed += 1;
            backlog.unreported.add(oldest.message, full);
        }
        if backlog.queue.push(header, parts) {
            self.unheard.queued(message, 1);
        } else {
            self.lose_unheard(message, full);
        }
    }
}
