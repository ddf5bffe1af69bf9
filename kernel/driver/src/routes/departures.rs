// SPDX-License-Identifier: MIT OR Apache-2.0
//! Providers and connections that go, and what becomes of their accounts.

use super::{Routes, taken, taken_mut};
use crate::backlog::{Backlog, ProviderSlot};
use crate::connection::Connection;
use crate::ledger::{Loss, bit};
use crate::provider::Provider;
use crate::receiver::{Offer, RECORDS_AT_ONCE, Receiver, Subscription};
use crate::screen::Subject;
use fltport_abi::account::Cause;
use fltport_abi::common_driver::{self, BacklogsUnread};
use fltport_abi::fixed::name_from_bytes;
use fltport_abi::frame::RecordKind;
use fltport_abi::limits::MAX_PROVIDER_NAME;
use fltport_abi::message::Message;
use fltport_abi::text::Text;
use fltport_nt::ex::{PoolArc, PoolBox};
use fltport_nt::ke::system_time;

/// What providers that are gone had kept and nobody had read, since the driver was started: one number
/// for everybody who connects, so that it does not matter who is the first.
#[derive(Default)]
pub(super) struct UnreadBacklogs {
    notifications: u64,
    providers: u32,
    /// The last one's name.
    name: [u8; MAX_PROVIDER_NAME],
}

impl UnreadBacklogs {
    /// Adds what a provider has left behind; whether there was anything.
    fn add(&mut self, slot: &mut ProviderSlot) -> bool {
        let Some(backlog) = slot.backlog.as_mut() else {
            return false;
        };
        let mut unread = backlog.unreported().total();
        slot.unheard
            .drop_all(Cause::NoConnection, |_, count| unread += count);
        if unread == 0 {
            return false;
        }
        self.notifications += unread;
        self.providers += 1;
        self.name = slot.provider.name;
        true
    }
}

impl Routes {
    /// Tells what providers that are gone had kept for nobody: a connection that begins, or all that
    /// are there.
    #[inline(never)]
    pub(super) fn tell_unread(&mut self, only: Option<u32>) {
        let (provider, message) = (common_driver::NUMBER, BacklogsUnread::NUMBER);
        let UnreadBacklogs {
            notifications,
            providers,
            name,
        } = *self.unread;
        if providers == 0 || self.observers(provider, message).next().is_none() {
            return;
        }
        let told = BacklogsUnread {
            notifications,
            providers,
            name: Text::Utf8(name_from_bytes(&name).unwrap_or("")),
        };
        let mut payload = [0; BacklogsUnread::FIXED + 2 * MAX_PROVIDER_NAME];
        let length = told.encode(&mut payload).unwrap_or(0);
        let payload = payload.get(..length).unwrap_or(&[]);
        let fixed = BacklogsUnread::FIXED as u16;
        let offer = Offer {
            message,
            kind: RecordKind::Notification,
            fixed,
            time: system_time(),
            subject: Subject {
                payload,
                fixed,
                process: None,
            },
            booking: 0,
            parts: &[payload],
        };
        let Some(only) = only else {
            return self.offer(provider, &offer);
        };
        if let Some(receiver) = self.connection(only)
            && receiver.wants(provider, message, &offer.subject) == Some(true)
        {
            receiver.push(&offer.header(provider), offer.parts, false);
        }
        self.leave_short_way();
    }

    /// Takes a provider out of its place. What it has queued is still delivered.
    pub(crate) fn remove_provider(&mut self, number: u16) -> Option<PoolBox<ProviderSlot>> {
        if let Some(counters) = self.provider(number).and_then(|slot| slot.counters) {
            counters.set_quiet(0);
        }
        // Nothing will be offered any more that would bring this along.
        self.collect(number);
        for receiver in taken_mut(&mut self.connections) {
            receiver.unbook_all(number);
            if let Some(subscription) = receiver.subscription(number) {
                subscription.orphaned = true;
                subscription.decide = 0;
            }
        }
        let place = self
            .providers
            .iter_mut()
            .find(|p| p.as_ref().is_some_and(|s| s.provider.number == number))?;
        let slot = place.take();
        if let Some(word) = slot.as_ref().and_then(|slot| slot.interest.as_ref()) {
            // For the last time. If the driver goes, a stub stages everything from now on.
            word.set(u64::MAX);
        }
        let mut slot = slot?;
        self.refresh();
        if self.unread.add(&mut slot) {
            self.tell_unread(None);
        }
        Some(slot)
    }

    /// Any provider but the driver itself, for the unload to remove one after the other.
    pub(crate) fn any_client(&self) -> Option<PoolArc<Provider>> {
        self.providers()
            .find(|slot| slot.provider.number != 0)
            .map(|slot| slot.provider.clone())
    }

    /// Any connection, for the unload to end one after the other.
    pub(crate) fn any_connection(&self) -> Option<PoolArc<Connection>> {
        self.connections()
            .next()
            .map(|slot| slot.connection.clone())
    }

    /// Takes a connection out of its place and settles its accounts: what it had not received is
    /// lost to it, and the next subscriber of a provider that keeps a backlog is told.
    #[inline(never)]
    pub(crate) fn remove_connection(
        &mut self,
        number: u32,
        cause: Cause,
    ) -> Option<PoolBox<Receiver>> {
        let found = |p: &&mut Option<PoolBox<Receiver>>| {
            p.as_ref()
                .is_some_and(|s| s.connection.identity.number == number)
        };
        let mut receiver = self.connections.iter_mut().find(found)?.take()?;
        self.forget_lane(&receiver);
        self.disconnect_pending(number);
        // Nothing goes into its rings any more, and they are empty; unless nobody has wound it up.
        self.refresh();
        while receiver.settle_rings(&mut { RECORDS_AT_ONCE }) || receiver.recall_rings() {}
        // What `wind_up` has left: what came since, and no more than a small queue.
        receiver.recall_gaps(usize::MAX);
        for subscription in receiver.subscriptions.iter_mut().flatten() {
            self.settle(subscription, cause);
        }
        self.tell_interest();
        Some(receiver)
    }

    #[inline(never)]
    fn settle(&mut self, subscription: &mut Subscription, cause: Cause) {
        let number = subscription.provider;
        let mut heard_by_others = 0;
        for other in self
            .connections()
            .flat_map(|c| taken(&c.subscriptions))
            .filter(|s| s.provider == number)
        {
            heard_by_others |= other.observe;
        }
        let Some(slot) = self.provider(number) else {
            return;
        };
        let mut told = slot.backlog.as_mut().map(Backlog::unreported);
        let mut forward = |message: u16, loss: Loss| {
            if let Some(unreported) = told
                .as_mut()
                .filter(|_| heard_by_others & bit(message) == 0)
            {
                unreported.add(message, loss);
            }
        };
        subscription.take_unreported(&mut forward);
        subscription.account.drop_all(cause, |message, count| {
            forward(message, Loss::new(cause, count))
        });
        slot.ended.absorb(&subscription.account);
        slot.ended_requests.absorb(&subscription.requests);
    }
}
