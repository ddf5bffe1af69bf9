// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records that leave through shared memory, under the lock of the routes: all that do not go the short way.
//!
//! A connection with rings uses them whenever nothing is to be sent before: its queue is empty, and nothing is kept for
//! it. Otherwise records are queued as for any other connection, until the sender has emptied the
//! queue. Both ways take their numbers from one counter, at the moment at which a record is published or
//! taken from the queue, so a reader that goes by the numbers has one order.
//!
//! Records that are put into a ring are not counted there and then. They are counted when they are found to be
//! gone, or on their way, by the settler: before anybody reads the accounts, and when a ring looks full.

use super::{Receiver, Subscription, gap_header, gap_of, payload_of};
use crate::ledger::{Gap, Loss};
use crate::rings::{self, GAP, Rings};
use crate::routes::taken;
use crate::untold::Noted;
use fltport_abi::account::Cause;
use fltport_abi::common_driver;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{BLAME_NONE, RecordHeader, RecordKind, record_size};
use fltport_nt::ex::PoolBox;
use fltport_nt::ke::{Timeout, current_processor, interrupt_time};
use fltport_ring::{Gone, Published, stride};

/// How long the sender waits for a record behind what was lost, in milliseconds.
const TELLS_AFTER_MS: u32 = 20;
/// As [`TELLS_AFTER_MS`].
pub(crate) const TELLS_AFTER: Timeout = Timeout::from_millis(TELLS_AFTER_MS);

/// Records of rings that are looked at in one hold of the lock.
pub(crate) const SETTLED_AT_ONCE: usize = 1024;
/// Rings of other processors that are looked at before a record is refused for a quota.
const RINGS_AT_ONCE: u32 = 8;

type Subscriptions = [Option<PoolBox<Subscription>>];

/// The subscription that a record of this tag was for, and its message's number if the ledger counts it.
fn of_tag(subscriptions: &mut Subscriptions, tag: u16) -> Option<(&mut Subscription, Option<u16>)> {
    if tag == GAP {
        return None;
    }
    let subscription = subscriptions
        .get_mut(rings::place_of(tag))?
        .as_deref_mut()?;
    Some((subscription, rings::accounted(tag)))
}

/// Counts a record that is on its way.
fn note(subscriptions: &mut Subscriptions, tag: u16) {
    if let Some((subscription, Some(message))) = of_tag(subscriptions, tag) {
        subscription.account.queued(message, 1);
    }
}

/// Counts a record that is gone from a processor's ring, and was `read` or not: then it is still in flight.
fn count_gone(subscriptions: &mut Subscriptions, processor: u32, gone: Gone, read: bool) {
    if !gone.noted {
        note(subscriptions, gone.tag);
    }
    if let Some((subscription, message)) = of_tag(subscriptions, gone.tag) {
        subscription.marks.removed(processor, gone.bytes);
        if let Some(message) = message.filter(|_| read) {
            subscription.account.delivered(message, 1);
        }
    }
}

impl Receiver {
    /// Whether records go into rings now.
    pub(crate) fn is_on_rings(&self) -> bool {
        let has_begun = self.rings.as_ref().is_some_and(|rings| rings.has_begun());
        has_begun && self.queue.is_empty() && taken(&self.subscriptions).all(Subscription::is_sent)
    }

    /// From now on records are queued; whether they were not before.
    pub(crate) fn leaves_rings(&mut self) -> bool {
        self.rings.as_mut().is_some_and(|rings| rings.end())
    }

    /// Puts a record into the ring of this processor, behind a gap record if something was lost; or says why not. `None` if there is no ring, and
    /// the record is to be queued.
    pub(super) fn push_to_ring(
        &mut self,
        header: &RecordHeader,
        parts: &[&[u8]],
    ) -> Option<Result<(), Loss>> {
        if !self.is_on_rings() {
            return None;
        }
        let noted = self.collect_untold();
        let pushed = self.push_behind_losses(header, parts);
        self.note_told(noted);
        pushed
    }

    /// As [`Receiver::push_to_ring`], when all losses are known.
    fn push_behind_losses(
        &mut self,
        header: &RecordHeader,
        parts: &[&[u8]],
    ) -> Option<Result<(), Loss>> {
        let processor = current_processor();
        let bytes = stride(header.size as usize);
        let free = self.room_of(processor)?;
        let has_share = self.has_share_of(processor, header.provider, bytes, free);
        if free < bytes + self.told_in_ring() || !has_share {
            self.settle_ring(processor, &mut { SETTLED_AT_ONCE });
        }
        let free = self.room_of(processor)?;
        if !has_share && !self.has_share_of(processor, header.provider, bytes, free) {
            self.settle_some();
        }
        if let Some(loss) = self.ring_refuses(processor, header.provider, bytes) {
            return Some(Err(loss));
        }
        let is_it = |s: &Option<PoolBox<Subscription>>| {
            s.as_ref().is_some_and(|s| s.provider == header.provider)
        };
        let place = self.subscriptions.iter().position(is_it)?;
        self.tell_in_ring(processor, bytes);
        if self.has_untold() {
            // More than a gap record holds, and no room for another one: nothing comes in front of that.
            return Some(Err(Loss::by(Cause::RingFull, self.greediest_of(processor))));
        }
        let tag = rings::tag_of(place as u16, header);
        let (set, order) = (&self.rings.as_ref()?.set, &self.order);
        let published = set.as_this_processor(|here| {
            let producer = set.filler(here)?;
            Some(rings::publish(producer, order, header, parts, tag))
        });
        if published != Some(Some(true)) {
            return Some(Err(Loss::by(Cause::RingFull, self.greediest_of(processor))));
        }
        set.wake(&Published::fence());
        let subscription = self.subscriptions.get(place)?.as_deref()?;
        subscription.marks.added(processor, bytes);
        Some(Ok(()))
    }

    /// Behind what was told: what had been lost before [`Receiver::collect_untold`], or that something has not been told and the next
    /// record does not go the short way.
    pub(super) fn note_told(&mut self, noted: Option<Noted>) {
        if self.rings.is_none() {
            return;
        }
        let has_untold = self.has_untold();
        let Some(untold) = self.rings.as_ref().map(|it| it.set.untold()) else {
            return;
        };
        match (noted, has_untold) {
            // It has been so all the time: who has lost something must not find it told.
            (Some(_), true) | (None, false) => {}
            (Some(noted), false) => {
                let is_all = untold.told_up_to(noted);
                if !is_all {
                    self.connection.wake.set();
                }
            }
            (None, true) => {
                untold.note();
            }
        }
    }

    /// When its rings begin: what was lost before goes in front of what comes through them.
    pub(crate) fn note_losses_before(&mut self) {
        if self.has_untold() {
            self.note_loss();
        }
    }

    /// Something was lost just now: the next record does not go the short way.
    pub(super) fn note_loss(&self) {
        if let Some(rings) = &self.rings {
            rings.set.untold().note();
        }
    }

    /// Before anything is told: what was lost until now is collected, if there is any. For [`Receiver::note_told`].
    pub(super) fn collect_untold(&mut self) -> Option<Noted> {
        let noted = self.rings.as_ref()?.set.untold().begin()?;
        self.collect_losses();
        Some(noted)
    }

    /// Accounts for what processors found no room for on the short way; the stream will tell of it.
    pub(super) fn collect_losses(&mut self) {
        if self.rings.is_none() {
            return;
        }
        for place in 0..self.subscriptions.len() {
            let of_place = self.subscriptions.get(place).and_then(Option::as_deref);
            let Some((provider, marks)) = of_place.map(|s| (s.provider, s.marks.clone())) else {
                continue;
            };
            marks.take_lost(|processor, message, count| {
                let by = self.greediest_of(processor);
                let cause = Cause::RingFull;
                self.lose(provider, message, Loss { cause, count, by });
            });
        }
    }

    /// Whether the sender is to wait with telling of losses. The next record in a ring tells of them, and in a flood they would be more
    /// messages than records: the sender tells of what nothing comes behind.
    pub(super) fn tells_later(&mut self) -> bool {
        if !self.has_untold() || !self.is_on_rings() {
            self.untold_since = None;
            return false;
        }
        let now = interrupt_time();
        let since = *self.untold_since.get_or_insert(now);
        let later = now.saturating_sub(since) < u64::from(TELLS_AFTER_MS) * 10_000;
        self.connection.tells_later(later);
        if !later {
            self.untold_since = None;
        }
        later
    }

    fn settled(&mut self) -> Option<(&mut Rings, &mut Subscriptions)> {
        let subscriptions = &mut *self.subscriptions;
        Some((self.rings.as_deref_mut()?, subscriptions))
    }

    /// Bytes that are free in a processor's ring, as far as has been settled.
    fn room_of(&self, processor: u32) -> Option<usize> {
        self.rings.as_ref()?.free(processor)
    }

    /// Bytes that a gap record takes in a ring in front of the next record.
    fn told_in_ring(&mut self) -> usize {
        match self.has_untold() {
            true => stride(record_size(Gap::MAX_PAYLOAD)),
            false => 0,
        }
    }

    /// Why a record of so many bytes of this provider cannot be put into a processor's ring now, if it cannot.
    fn ring_refuses(&mut self, processor: u32, provider: u16, bytes: usize) -> Option<Loss> {
        let free = self.room_of(processor).unwrap_or(0);
        if bytes + self.told_in_ring() > free {
            return Some(Loss::by(Cause::RingFull, self.greediest_of(processor)));
        }
        if !self.has_share_of(processor, provider, bytes, free) {
            return Some(Loss::by(Cause::Quota, provider));
        }
        // Last, as where records are queued.
        (!self.rate.take()).then(|| Loss::new(Cause::RateLimit, 1))
    }

    /// Whether several providers share this connection.
    pub(crate) fn is_shared(&self) -> bool {
        let shares = |s: &&Subscription| {
            s.provider != common_driver::NUMBER && s.observe != 0 && !s.orphaned
        };
        taken(&self.subscriptions).filter(shares).count() > 1
    }

    /// Whether a provider may have so many bytes more of a processor's ring: while others share it, no more than are free; and by its quota, of
    /// all rings together.
    fn has_share_of(&self, processor: u32, provider: u16, bytes: usize, free: usize) -> bool {
        let mut all = taken(&self.subscriptions);
        let Some(own) = all.find(|s| s.provider == provider) else {
            return true;
        };
        if provider == common_driver::NUMBER {
            return true;
        }
        let quota = own.usage.quota as usize;
        let within = quota == 0 || own.usage.taken() + own.marks.bytes_anywhere() + bytes <= quota;
        within && (!self.is_shared() || own.marks.bytes(processor) + bytes <= free)
    }

    /// The provider that has most of a processor's ring.
    fn greediest_of(&self, processor: u32) -> u16 {
        let having = taken(&self.subscriptions).filter(|s| s.marks.bytes(processor) != 0);
        let most = having.max_by_key(|s| s.marks.bytes(processor));
        most.map_or(BLAME_NONE, |s| s.provider)
    }

    /// Publishes gap records for what has not been told, and leaves room for so many bytes behind them.
    fn tell_in_ring(&mut self, processor: u32, leave: usize) {
        while self.has_untold() {
            let free = self.room_of(processor).unwrap_or(0).saturating_sub(leave);
            let entries = Gap::entries_in(free);
            if entries == 0 {
                return;
            }
            let mut gap = gap_of(&mut self.subscriptions, entries);
            let header = gap_header(&mut gap);
            let Some(rings) = &self.rings else {
                return;
            };
            let (set, order, payload) = (&rings.set, &self.order, gap.payload());
            let told = set.as_this_processor(|here| {
                let producer = set.filler(here);
                producer.is_some_and(|it| rings::publish_gap(it, order, &header, payload))
            });
            if told != Some(true) {
                // It had room a moment ago, under the same lock.
                return;
            }
        }
    }

    /// Accounts for what the service has read of a processor's ring, so many records at most, which are taken off; whether
    /// there may be more.
    fn settle_ring(&mut self, processor: u32, most: &mut usize) -> bool {
        let Some((rings, subscriptions)) = self.settled() else {
            return false;
        };
        rings.settle(processor, *most, |gone| {
            *most -= 1;
            count_gone(subscriptions, processor, gone, true);
        })
    }

    /// Counts what was read from some rings, in turn: a quota is of all of them. Not more at a time, for who has used its quota up
    /// may go on offering, and each ring is another processor's memory.
    fn settle_some(&mut self) {
        let mut most = SETTLED_AT_ONCE;
        let count = self.rings.as_ref().map_or(0, |rings| rings.count());
        for _ in 0..count.min(RINGS_AT_ONCE) {
            if let Some(ring) = self.rings.as_mut().map(|rings| rings.in_turn()) {
                self.settle_ring(ring, &mut most);
            }
        }
    }

    /// Before the accounts are read: counts what has been put into rings, read and lost, so many records at most, which are taken off;
    /// whether there may be more.
    pub(crate) fn settle_rings(&mut self, most: &mut usize) -> bool {
        self.collect_losses();
        for processor in 0..self.rings.as_ref().map_or(0, |rings| rings.count()) {
            if self.settle_ring(processor, most) {
                return true;
            }
            if let Some((rings, subscriptions)) = self.settled() {
                let more = rings.note(processor, *most, |tag| {
                    *most -= 1;
                    note(subscriptions, tag);
                });
                if more {
                    return true;
                }
            }
        }
        false
    }

    /// For a service that is gone: takes out what it has not read, some of it, so that what gap records told can be told to another; whether
    /// there is more. The accounts say that it is in flight.
    pub(crate) fn recall_rings(&mut self) -> bool {
        let mut record = [0; record_size(Gap::MAX_PAYLOAD)];
        let mut left = SETTLED_AT_ONCE;
        for processor in 0..self.rings.as_ref().map_or(0, |rings| rings.count()) {
            while left != 0 {
                let Some((rings, subscriptions)) = self.settled() else {
                    return false;
                };
                let Some(gone) = rings.take_unread(processor, &mut record) else {
                    break;
                };
                left -= 1;
                count_gone(subscriptions, processor, gone, false);
                if gone.tag == GAP
                    && let Some(header) = RecordHeader::read(&record)
                    && header.kind == RecordKind::Gap as u16
                {
                    self.recall(payload_of(&record, &header));
                }
            }
        }
        self.rings.as_ref().is_some_and(|rings| rings.is_used())
    }
}
