// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each provider takes of each connection, and what a connection asks of its queue.

use crate::backlog::ProviderSlot;
use crate::connection::Connection;
use crate::driver::Driver;
use crate::fair::TokenBucket;
use crate::queue::Queue;
use crate::receiver::{Receiver, Subscription};
use crate::routes::{Routes, taken};
use fltport_abi::command::{BACKLOG, Limits, UsageRow};
use fltport_abi::interface::ProviderStatistics;
use fltport_abi::limits::{MAX_QUEUE, MAX_QUEUES, MIN_QUEUE};
use fltport_nt::bindings::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER,
    STATUS_NOT_FOUND,
};
use fltport_nt::ke::interrupt_time;
use fltport_nt::{NtError, Result};

/// For every provider: what it may do as a whole, then what it takes of each connection. As far as
/// `caller` may see that.
#[inline(never)]
pub(crate) fn rows(routes: &Routes, caller: &Connection, mut add: impl FnMut(UsageRow)) {
    let access = &caller.access;
    let seen = |receiver: &&Receiver| access.sees_connection(&caller.identity, receiver);
    for slot in routes
        .providers()
        .filter(|slot| access.sees(&slot.provider))
    {
        let provider = slot.provider.number;
        add(whole_row(slot));
        for receiver in routes.connections().filter(seen) {
            let all = taken(&receiver.subscriptions);
            all.filter(|s| s.provider == provider)
                .for_each(|s| add(row(slot, receiver, s)));
        }
    }
}

fn whole_row(slot: &ProviderSlot) -> UsageRow {
    let backlog = slot.backlog.as_ref();
    let bytes = |of: fn(&crate::backlog::Backlog) -> usize| backlog.map_or(0, of) as u32;
    UsageRow {
        connection: BACKLOG,
        provider: slot.provider.number.into(),
        bytes: bytes(|it| it.used()),
        bytes_peak: bytes(|it| it.peak()),
        bytes_allowed: bytes(|it| it.capacity()),
        booked: bytes(|it| it.booked()),
        rate: slot.rate.rate(),
        burst: slot.rate.burst(),
        blamed: slot.blamed,
        filtered: 0,
        muted: 0,
        unjudged: 0,
        not_muted: 0,
        reserved: 0,
    }
}

fn row(slot: &ProviderSlot, receiver: &Receiver, subscription: &Subscription) -> UsageRow {
    let usage = &subscription.usage;
    let (filtered, unjudged) = subscription.marks.screened();
    let in_rings = subscription.marks.bytes_anywhere();
    UsageRow {
        connection: receiver.connection.identity.number,
        provider: subscription.provider.into(),
        bytes: (usage.bytes + in_rings) as u32,
        bytes_peak: usage.peak.max(in_rings) as u32,
        bytes_allowed: receiver.allowed(subscription.provider) as u32,
        booked: usage.booked as u32,
        rate: slot.rate.rate(),
        burst: slot.rate.burst(),
        blamed: usage.blamed,
        filtered: subscription.screen.filtered + filtered,
        muted: subscription.screen.muted,
        unjudged: subscription.screen.unjudged + unjudged,
        not_muted: receiver.muted.as_ref().map_or(0, |it| it.left_out),
        reserved: 0,
    }
}

/// IRQL: PASSIVE_LEVEL. Sets a connection's limits.
///
/// Errors: `STATUS_INVALID_PARAMETER` for a size that a queue cannot have;
/// `STATUS_INSUFFICIENT_RESOURCES` for a larger queue than is left for all together;
/// `STATUS_INVALID_DEVICE_STATE` if more is queued than is moved to another queue under the lock, or
/// than fits into it.
#[inline(never)]
pub(crate) fn set_limits(driver: &Driver, connection: u32, limits: &Limits) -> Result<()> {
    let sizes = MIN_QUEUE..=MAX_QUEUE;
    if limits.reserved != 0 || limits.queue != 0 && !sizes.contains(&limits.queue) {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    let mut fresh = match limits.queue {
        0 => None,
        bytes => Some(Queue::new(bytes as usize)?),
    };
    // The former queue is freed after the lock has been released.
    let mut routes = driver.routes().lock();
    let all = routes.queues_and_rings();
    let receiver = routes
        .connection(connection)
        .ok_or(NtError(STATUS_NOT_FOUND))?;
    if let Some(fresh) = &mut fresh {
        let (former, wanted) = (receiver.queue.capacity(), fresh.capacity());
        if wanted > former && all - former + wanted > MAX_QUEUES {
            return Err(NtError(STATUS_INSUFFICIENT_RESOURCES));
        }
        let moves = receiver.queue.used() <= MIN_QUEUE as usize && receiver.queue.move_to(fresh);
        if !moves {
            return Err(NtError(STATUS_INVALID_DEVICE_STATE));
        }
    }
    receiver.rate = TokenBucket::new(limits.rate, limits.burst, interrupt_time());
    routes.refresh();
    Ok(())
}

/// Fills in a provider's statistics, of the message that they name or of all.
pub(crate) fn statistics(routes: &Routes, provider: u16, into: &mut ProviderStatistics) {
    let mut slots = routes.providers();
    let Some(slot) = slots.find(|slot| slot.provider.number == provider) else {
        return;
    };
    // The message's bit, or all.
    let types = match into.message {
        0 => u64::MAX,
        message => crate::ledger::bit(message),
    };
    slot.unheard.add_to(into);
    slot.ended.add_to(into);
    slot.requests.add_to(into);
    for receiver in routes.connections() {
        let all = taken(&receiver.subscriptions);
        for subscription in all.filter(|s| s.provider == provider) {
            subscription.account.add_to(into);
            into.observers += u32::from(subscription.observe & types != 0);
            into.deciders += u32::from(subscription.decide & types != 0);
        }
    }
}
