// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who gets what: the providers, the connections, their subscriptions, queues and accounts.
//!
//! Everything here changes under one spin lock (the one in [`Driver`](crate::driver::Driver)),
//! which makes the ledger balance at every moment and attaching a subscriber atomic: from one
//! notification to the next it is either the backlog's or the subscriber's. Nothing here waits or
//! calls out, but for setting the event of a sender that sleeps. What needs pool memory is
//! allocated before the lock is taken and handed in.

mod departures;
mod short_way;
mod streams;

use crate::backlog::{Backlog, ProviderSlot};
use crate::connection::Connection;
use crate::deadlines::Alarm;
use crate::ledger::{Loss, bit};
use crate::mute::Muted;
use crate::provider::{Provider, TYPES};
use crate::queue::Queue;
use crate::receiver::{KeptSnapshot, Offer, RECORDS_AT_ONCE, Receiver, Replay, Subscription};
use crate::request_account;
use crate::screen::Wishes;
use crate::switch::{self, Switch};
use crate::tag;
use core::sync::atomic::Ordering;
use departures::UnreadBacklogs;
use fltport_abi::account::Cause;
use fltport_abi::command::Subscription as Wanted;
use fltport_abi::frame::{Frame, RecordKind};
use fltport_abi::hello;
use fltport_abi::interface::BacklogPolicy;
use fltport_abi::limits::{MAX_CONNECTIONS, MAX_PAYLOAD, MAX_PROVIDERS};
use fltport_nt::bindings::{
    STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_NOT_FOUND, STATUS_OBJECT_NAME_COLLISION, STATUS_RETRY,
};
use fltport_nt::ex::{PoolArc, PoolBox, PoolSlice};
use fltport_nt::linked::STATUS_SHARING_VIOLATION;
use fltport_nt::{NtError, Result};

/// One more than the providers that clients may register: the driver itself is one.
pub(crate) const PROVIDER_SLOTS: usize = MAX_PROVIDERS + 1;

/// The switchboard.
pub(crate) struct Routes {
    pub(crate) providers: PoolSlice<Option<PoolBox<ProviderSlot>>>,
    pub(crate) connections: PoolSlice<Option<PoolBox<Receiver>>>,
    next_provider: u16,
    /// When the next asynchronous request is over.
    pub(crate) alarm: Alarm,
    unread: PoolBox<UnreadBacklogs>,
    /// What goes the short way, past these routes.
    switch: Switch,
    /// Nothing does any more.
    short_way_ended: bool,
}

/// What lies in the places that are taken.
pub(crate) fn taken<T>(places: &[Option<PoolBox<T>>]) -> impl Iterator<Item = &T> {
    places.iter().flatten().map(|boxed| &**boxed)
}

/// As [`taken`], to be changed.
pub(crate) fn taken_mut<T>(places: &mut [Option<PoolBox<T>>]) -> impl Iterator<Item = &mut T> {
    places.iter_mut().flatten().map(|boxed| &mut **boxed)
}

/// What a new subscription needs, allocated before the lock is taken.
pub(crate) struct Prepared {
    pub(crate) subscription: Option<PoolBox<Subscription>>,
    pub(crate) fresh_backlog: Option<Backlog>,
    /// What is to be left out; then, what was until now.
    pub(crate) wishes: Wishes,
    /// The processes that the connection mutes, if it does not mute any yet.
    pub(crate) muted: Option<PoolBox<Muted>>,
}

impl Prepared {
    /// IRQL: PASSIVE_LEVEL. For a provider with these requests, that declared this backlog, on a
    /// machine with so many processors.
    #[inline(never)]
    pub(crate) fn new(
        provider: u16,
        requests: u64,
        backlog: Option<(usize, BacklogPolicy)>,
        processors: u32,
    ) -> Result<Self> {
        let fresh_backlog = backlog
            .map(|(bytes, policy)| Backlog::new(bytes, policy))
            .transpose()?;
        Ok(Prepared {
            subscription: Some(Subscription::new(provider, requests, processors)?),
            fresh_backlog,
            wishes: Wishes::default(),
            muted: None,
        })
    }
}

impl Routes {
    /// IRQL: <= DISPATCH_LEVEL.
    pub(crate) fn new() -> Result<Self> {
        Ok(Routes {
            providers: PoolSlice::filled_with(tag::DRIVER, PROVIDER_SLOTS, || None)?,
            connections: PoolSlice::filled_with(tag::DRIVER, MAX_CONNECTIONS, || None)?,
            next_provider: 0,
            alarm: Alarm::new(),
            unread: PoolBox::new(tag::DRIVER, UnreadBacklogs::default())?,
            switch: switch::new(PROVIDER_SLOTS)?,
            short_way_ended: false,
        })
    }

    pub(crate) fn providers(&self) -> impl Iterator<Item = &ProviderSlot> {
        taken(&self.providers)
    }

    pub(crate) fn providers_mut(&mut self) -> impl Iterator<Item = &mut ProviderSlot> {
        taken_mut(&mut self.providers)
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = &Receiver> {
        taken(&self.connections)
    }

    /// Bytes that all queues and rings may take, of [`MAX_QUEUES`](fltport_abi::limits::MAX_QUEUES).
    pub(crate) fn queues_and_rings(&self) -> usize {
        let rings = |receiver: &Receiver| receiver.rings.as_ref().map_or(0, |it| it.capacity());
        self.connections()
            .map(|it| it.queue.capacity() + rings(it))
            .sum()
    }

    #[inline(never)]
    pub(crate) fn provider(&mut self, number: u16) -> Option<&mut ProviderSlot> {
        taken_mut(&mut self.providers).find(|slot| slot.provider.number == number)
    }

    /// The smallest number of a registered provider that is not below `from`.
    pub(crate) fn next_provider_number(&self, from: u16) -> Option<u16> {
        self.providers()
            .map(|slot| slot.provider.number)
            .filter(|number| *number >= from)
            .min()
    }

    #[inline(never)]
    pub(crate) fn connection(&mut self, number: u32) -> Option<&mut Receiver> {
        taken_mut(&mut self.connections).find(|slot| slot.connection.identity.number == number)
    }

    /// The connection of this number, kept alive by what is returned.
    pub(crate) fn find(&mut self, number: u32) -> Option<PoolArc<Connection>> {
        self.connection(number).map(|slot| slot.connection.clone())
    }

    /// The number for a provider that is about to register. Numbers are never used again, so that a
    /// stale one cannot mean another provider.
    pub(crate) fn number_provider(&mut self) -> Result<u16> {
        let number = self.next_provider;
        self.next_provider = number
            .checked_add(1)
            .ok_or(NtError(STATUS_INSUFFICIENT_RESOURCES))?;
        Ok(number)
    }

    /// The provider that was to have this number has not registered. Its number is the next one's, unless
    /// that has been given out.
    pub(crate) fn give_number_back(&mut self, number: u16) {
        if self.next_provider == number.saturating_add(1) {
            self.next_provider = number;
        }
    }

    /// Puts a provider in its place. Gives it back with the status if the name or all places are
    /// taken.
    pub(crate) fn add_provider(
        &mut self,
        slot: PoolBox<ProviderSlot>,
    ) -> core::result::Result<(), (PoolBox<ProviderSlot>, NtError)> {
        if self
            .providers()
            .any(|other| other.provider.name == slot.provider.name)
        {
            return Err((slot, NtError(STATUS_OBJECT_NAME_COLLISION)));
        }
        match self.providers.iter_mut().position(|place| place.is_none()) {
            Some(place) => {
                // Relaxed: only a number; the table says whose the place is.
                slot.provider.place.store(place as u32, Ordering::Relaxed);
                if let Some(empty) = self.providers.get_mut(place) {
                    *empty = Some(slot);
                }
                self.tell_interest();
                Ok(())
            }
            None => Err((slot, NtError(STATUS_INSUFFICIENT_RESOURCES))),
        }
    }

    /// Subscribes, or changes a subscription. The first observer of a provider with a backlog takes
    /// the backlog over. `STATUS_RETRY` while a former one is still on its way to it.
    ///
    /// What is not used of `prepared` is given back, to be freed after the lock has been released.
    pub(crate) fn subscribe(
        &mut self,
        connection: u32,
        wanted: &Wanted,
        prepared: &mut Prepared,
    ) -> Result<()> {
        let subscribed = self.subscribe_untold(connection, wanted, prepared);
        self.tell_interest();
        subscribed
    }

    /// As [`Routes::subscribe`], and nobody is told yet that somebody listens.
    fn subscribe_untold(
        &mut self,
        connection: u32,
        wanted: &Wanted,
        prepared: &mut Prepared,
    ) -> Result<()> {
        let provider = u16::try_from(wanted.provider).map_err(|_| NtError(STATUS_NOT_FOUND))?;
        let slot = self.provider(provider).ok_or(NtError(STATUS_NOT_FOUND))?;
        let (notifications, requests) = (slot.provider.notifications, slot.provider.requests);
        let quota = slot.provider.quota;
        let are_kept = (0..TYPES as u16).any(|message| {
            wanted.observe & notifications & bit(message) != 0
                && slot.unheard.in_flight(message) != 0
        });
        if wanted.observe & !(notifications | requests) != 0
            || wanted.decide & !requests != 0
            || wanted.reserved != 0
        {
            return Err(NtError(STATUS_INVALID_PARAMETER));
        }
        if self.decided_by_others(connection, provider) & wanted.decide != 0 {
            return Err(NtError(STATUS_SHARING_VIOLATION));
        }
        let target = self
            .connection(connection)
            .ok_or(NtError(STATUS_NOT_FOUND))?;
        let rights = target.connection.identity.rights;
        let forbidden = |set: u64, right: u32| set != 0 && rights & right == 0;
        if forbidden(wanted.observe, hello::rights::OBSERVE)
            || forbidden(wanted.decide, hello::rights::DECIDE)
        {
            return Err(NtError(STATUS_ACCESS_DENIED));
        }
        if target.muted.is_none() {
            target.muted = prepared.muted.take();
        }
        let subscription = target.subscription_or_new(provider, prepared)?;
        if subscription.replay.is_some() && are_kept {
            // It let go before it had read the backlog that it was passed, and comes back. What was
            // kept meanwhile comes behind that, and room is for one: else a service that does not
            // read could let the driver keep any number of them.
            return Err(NtError(STATUS_RETRY));
        }
        let newly_decided = wanted.decide & !subscription.decide;
        subscription.observe = wanted.observe;
        subscription.decide = wanted.decide;
        core::mem::swap(&mut subscription.screen.wishes, &mut prepared.wishes);
        subscription.usage.quota = quota;
        let observed = wanted.observe & notifications;
        if subscription.replay.is_none() {
            self.hand_over(connection, provider, observed, prepared);
        } else {
            self.pass_losses_on(connection, provider, observed);
        }
        if let Some(slot) = self.provider(provider) {
            slot.requests.close_circuits(newly_decided);
        }
        self.adopt_bookings(connection, provider, wanted.observe);
        Ok(())
    }

    /// Subscribes behind a snapshot, which is taken out of `records`. `STATUS_RETRY` while a former
    /// one is still on its way.
    pub(crate) fn subscribe_behind(
        &mut self,
        connection: u32,
        wanted: &Wanted,
        prepared: &mut Prepared,
        records: &mut Option<Queue>,
    ) -> Result<()> {
        let provider = wanted.provider as u16;
        let target = self.connection(connection);
        let former = target.and_then(|target| target.subscription(provider));
        if former.is_some_and(|subscription| subscription.snapshot.is_some()) {
            return Err(NtError(STATUS_RETRY));
        }
        self.subscribe_untold(connection, wanted, prepared)?;
        let target = self.connection(connection);
        let target = target.ok_or(NtError(STATUS_NOT_FOUND))?;
        // What this connection was offered when it observed earlier came before all this.
        let _told_later = target.flush_gaps(0);
        let behind = target.queue.end();
        if let (Some(subscription), Some(records)) = (target.subscription(provider), records.take())
        {
            subscription.snapshot = Some(KeptSnapshot { records, behind });
        }
        target.wake();
        // Behind the snapshot is where it begins to listen.
        self.tell_interest();
        Ok(())
    }

    /// The requests of a provider that other connections decide. A stream that waits for its service
    /// decides nothing.
    fn decided_by_others(&self, connection: u32, provider: u16) -> u64 {
        let others = self
            .connections()
            .filter(|c| c.connection.identity.number != connection && !c.is_detached());
        let theirs = others.flat_map(|c| taken(&c.subscriptions));
        theirs
            .filter(|s| s.provider == provider)
            .fold(0, |set, s| set | s.decide)
    }

    /// Hands the provider's backlog to the connection, if it observes and there is anything in it.
    #[inline(never)]
    fn hand_over(&mut self, connection: u32, provider: u16, observe: u64, prepared: &mut Prepared) {
        if observe == 0 {
            return;
        }
        let Some(slot) =
            taken_mut(&mut self.providers).find(|slot| slot.provider.number == provider)
        else {
            return;
        };
        let Some(backlog) = slot.backlog.as_mut() else {
            return;
        };
        if backlog.is_settled() {
            return;
        }
        let Some(fresh) = prepared.fresh_backlog.take() else {
            return;
        };
        let Some(target) =
            taken_mut(&mut self.connections).find(|c| c.connection.identity.number == connection)
        else {
            return;
        };
        let Some(subscription) = target.subscription(provider) else {
            return;
        };
        for message in 0..TYPES as u16 {
            let count = slot.unheard.in_flight(message);
            if observe & bit(message) != 0 {
                slot.unheard.delivered(message, count);
                subscription.account.queued(message, count);
            } else {
                // Nobody will ask for these: the backlog goes to its first subscriber as a whole.
                slot.unheard.dropped(message, Cause::NoConnection, count);
            }
        }
        let backlog = backlog.replace(fresh);
        // What this connection was offered when it observed earlier came before all this.
        let _told_later = target.flush_gaps(0);
        let behind = target.queue.end();
        if let Some(subscription) = target.subscription(provider) {
            subscription.replay = Some(Replay {
                backlog,
                types: observe,
                behind,
            });
        }
        target.wake();
    }

    /// The connection observes these types again while the backlog that it was passed is still on its
    /// way, and of them nothing was kept meanwhile: what was lost is told behind that.
    fn pass_losses_on(&mut self, connection: u32, provider: u16, observed: u64) {
        let mut slots = taken_mut(&mut self.providers);
        let slot = slots.find(|slot| slot.provider.number == provider);
        let mut targets = taken_mut(&mut self.connections);
        let target = targets.find(|c| c.connection.identity.number == connection);
        let backlog = slot.and_then(|slot| slot.backlog.as_mut());
        let (Some(backlog), Some(target)) = (backlog, target) else {
            return;
        };
        if let Some(subscription) = target.subscription(provider) {
            let to = subscription.account.unreported();
            backlog.unreported().pass_on(observed, to);
        }
        target.wake();
    }

    /// Whether a notification or request of this type would reach anybody.
    pub(crate) fn is_listening(&self, provider: u16, message: u16) -> bool {
        let mut slots = self.providers();
        let slot = slots.find(|slot| slot.provider.number == provider);
        slot.is_some_and(|slot| self.interest(slot) & bit(message) != 0)
    }

    /// The messages that would reach a subscriber, a decider or a backlog.
    fn interest(&self, slot: &ProviderSlot) -> u64 {
        let Provider {
            number,
            notifications,
            requests,
            ..
        } = &*slot.provider;
        let mut wanted = 0;
        for receiver in self.connections() {
            let is_detached = receiver.is_detached();
            for theirs in taken(&receiver.subscriptions).filter(|s| s.provider == *number) {
                wanted |= theirs.observe | if is_detached { 0 } else { theirs.decide };
            }
        }
        let kept = slot.backlog.as_ref().map_or(0, |_| *notifications);
        kept | wanted & (notifications | requests)
    }

    /// Tells all client drivers who listens, and the short way whom to. To be called whenever that may have changed.
    pub(crate) fn tell_interest(&mut self) {
        self.refresh();
        for slot in self.providers() {
            let interest = self.interest(slot);
            if let Some(word) = &slot.interest {
                word.set(interest);
            }
            if let Some(counters) = &slot.counters {
                // What nobody hears uses its rate up as well.
                let is_limited = slot.provider.rate != 0;
                let unheard = slot.provider.notifications & !interest;
                counters.set_quiet(if is_limited { 0 } else { unheard });
            }
        }
    }

    /// Brings a provider's accounts up to date, for who reads them.
    pub(crate) fn collect(&mut self, provider: u16) {
        self.collect_too_high(provider);
        if let Some(slot) = self.provider(provider) {
            slot.collect_unheard();
        }
    }

    pub(crate) fn deciding(&self, provider: u16, message: u16) -> Option<&Receiver> {
        let decides = |s: &Subscription| s.provider == provider && s.decide & bit(message) != 0;
        self.connections()
            .find(|c| !c.is_detached() && taken(&c.subscriptions).any(decides))
    }

    /// The decider for a request.
    pub(crate) fn decider(&self, provider: u16, message: u16) -> Option<PoolArc<Connection>> {
        self.deciding(provider, message)
            .map(|slot| slot.connection.clone())
    }

    /// The number of the connection that decides; 0 if there is none.
    pub(crate) fn decider_number(&self, provider: u16, message: u16) -> u32 {
        self.deciding(provider, message)
            .map_or(0, |slot| slot.connection.identity.number)
    }

    /// Changes the account of a provider's requests with a connection: that of all that have ended if
    /// it is gone, and that of those without a decider for the number 0.
    pub(crate) fn account_request(
        &mut self,
        connection: u32,
        provider: u16,
        change: impl FnOnce(&mut request_account::Accounts),
    ) {
        let asked = self
            .connection(connection)
            .and_then(|receiver| receiver.subscription(provider));
        if let Some(subscription) = asked {
            change(&mut subscription.requests);
        } else if let Some(slot) = self.provider(provider) {
            change(match connection {
                0 => &mut slot.undecided,
                _ => &mut slot.ended_requests,
            });
        }
    }

    /// Offers a notification to everybody who observes its type; without any, to the backlog. Never
    /// fails: what cannot be queued is accounted as lost.
    pub(crate) fn offer(&mut self, provider: u16, offer: &Offer<'_>) {
        self.collect_too_high(provider);
        let header = offer.header(provider);
        let booking = self.take_booking(provider, offer.booking);
        let counts = offer.kind == RecordKind::Notification && booking.is_none();
        let slow_down = counts && self.provider(provider).is_some_and(|s| !s.rate.take());
        let lost = if header.payload as usize > MAX_PAYLOAD {
            Some(Loss::new(Cause::TooLarge, 1))
        } else {
            slow_down.then(|| Loss::by(Cause::RateLimit, provider))
        };
        let covered = booking.is_some_and(|it| it.covers(offer.message, header.payload));
        let mut heard = false;
        for receiver in taken_mut(&mut self.connections) {
            let has_room = booking.is_some_and(|it| receiver.unbook(provider, &it));
            let wanted = receiver.wants(provider, offer.message, &offer.subject);
            heard |= wanted.is_some();
            match lost {
                _ if wanted != Some(true) => {}
                Some(loss) => receiver.lose(provider, offer.message, loss),
                None => receiver.push(&header, offer.parts, covered && has_room),
            }
        }
        self.leave_short_way();
        // An outcome is for those who watch; it is not kept for later.
        if heard || offer.kind != RecordKind::Notification {
            return;
        }
        if let Some(slot) = self.provider(provider) {
            match lost {
                Some(loss) => slot.lose_unheard(offer.message, loss),
                // What the backlog kept for it is free again by now.
                None => slot.keep(&header, offer.parts),
            }
        }
    }

    /// Accounts for notifications that were lost before they could be offered.
    pub(crate) fn lost(&mut self, provider: u16, message: u16, cause: Cause, count: u64) {
        let mut heard = false;
        let loss = Loss::new(cause, count);
        for receiver in self.observers(provider, message) {
            heard = true;
            receiver.lose(provider, message, loss);
        }
        if let Some(slot) = self.provider(provider).filter(|_| !heard) {
            slot.lose_unheard(message, loss);
        }
    }

    /// The muted processes of all connections that mute any.
    pub(crate) fn muted(&mut self) -> impl Iterator<Item = &mut Muted> {
        taken_mut(&mut self.connections).filter_map(|receiver| receiver.muted.as_deref_mut())
    }

    /// Accounts for what services have read of their rings, some of it; whether there may be more.
    pub(crate) fn settle_rings(&mut self) -> bool {
        let mut most = RECORDS_AT_ONCE;
        taken_mut(&mut self.connections).any(|receiver| receiver.settle_rings(&mut most))
    }

    fn observers(&mut self, provider: u16, message: u16) -> impl Iterator<Item = &mut Receiver> {
        taken_mut(&mut self.connections)
            .filter(move |receiver| receiver.observes(provider, message))
    }

    /// Accounts for what came at too high an IRQL to take this lock.
    pub(crate) fn collect_too_high(&mut self, provider: u16) {
        let Some(provider) = self.provider(provider).map(|slot| slot.provider.clone()) else {
            return;
        };
        if provider.too_high_total.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        for (message, counter) in (0_u16..).zip(provider.too_high.iter()) {
            let count = counter.swap(0, Ordering::Relaxed);
            if count != 0 {
                self.lost(provider.number, message, Cause::WrongIrql, count.into());
            }
        }
    }

    /// Fills `out` with the next records of a connection's stream; their number and bytes. Without
    /// any the sender is marked as asleep.
    pub(crate) fn take(&mut self, connection: u32, out: &mut [u8]) -> (u32, usize) {
        let Some(receiver) = self.connection(connection) else {
            return (0, 0);
        };
        let asks = receiver.queued_requests != 0;
        let taken = receiver.take(out);
        if !receiver.is_simple && receiver.is_on_rings() {
            self.refresh();
        }
        if asks {
            self.note_numbers(out.get(..taken.1).unwrap_or(&[]));
        }
        taken
    }

    /// A frame that [`Routes::take`] filled has been taken by the service.
    pub(crate) fn delivered(&mut self, connection: u32, frame: &[u8]) {
        if let (Some(receiver), Ok(frame)) = (self.connection(connection), Frame::parse(frame)) {
            receiver.delivered(&frame);
        }
    }

    /// A frame that [`Routes::take`] filled will never be taken: what its gap records told must be
    /// told again.
    pub(crate) fn undelivered(&mut self, connection: u32, frame: &[u8]) {
        if let (Some(receiver), Ok(frame)) = (self.connection(connection), Frame::parse(frame)) {
            receiver.undelivered(&frame);
        }
    }
}
