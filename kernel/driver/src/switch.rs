// SPDX-License-Identifier: MIT OR Apache-2.0
//! The short way of a notification: from the client driver into rings, without the lock of the routes.
//!
//! A table says which notifications may go this way, and to whom. It is made by the routes, under their lock, whenever
//! anything changes that it says, and read by every processor inside its gate: it is closed, everybody who reads it
//! leaves, it is changed, and it is opened again. What it does not say goes through the routes, and so
//! does what turns out not to be simple: a ring that has to be settled first, a loss that has to be told in front. A record is
//! either put into all the rings that it belongs to, or into none.

use crate::connection::Connection;
use crate::filter::Filters;
use crate::ledger::bit;
use crate::marks::Marks;
use crate::rings::{self, RingSet};
use crate::tag;
use fltport_abi::filter::Verdict;
use fltport_abi::frame::{RecordHeader, RecordKind, record_size};
use fltport_abi::limits::{MAX_CONNECTIONS, MAX_PAYLOAD};
use fltport_nt::bindings::STATUS_INTERNAL_ERROR;
use fltport_nt::ex::{PoolArc, PoolSlice};
use fltport_nt::ke::{AtDispatch, Gated, GatedOwner, Gates, Here, system_time};
use fltport_nt::{NtError, Result};
use fltport_ring::{Published, stride};

/// Whom a provider's notifications go to.
pub(crate) struct Target {
    /// The types that it observes.
    pub(crate) observe: u64,
    /// In tags of its rings, the subscription.
    pub(crate) place: u16,
    /// Other providers share the connection.
    pub(crate) shared: bool,
    pub(crate) rings: PoolArc<RingSet>,
    pub(crate) marks: PoolArc<Marks>,
    pub(crate) filters: Option<PoolArc<Filters>>,
    pub(crate) connection: PoolArc<Connection>,
}

/// What goes the short way from one provider.
pub(crate) struct Row {
    pub(crate) provider: u16,
    /// The driver that it registered with.
    pub(crate) life: u32,
    /// The types that do.
    pub(crate) types: u64,
    pub(crate) targets: PoolSlice<Option<Target>>,
}

/// The rows, by the place of their providers.
pub(crate) struct Table {
    pub(crate) rows: PoolSlice<Row>,
}

/// The routes' end of the table. When it is dropped nothing goes the short way.
pub(crate) struct Switch(GatedOwner<Table>);

/// Where all processors go in. In the image: a client driver that imports this one by name may offer at any time, whether
/// there is a driver or not.
pub(crate) static GATES: Gates = Gates::new();

static TABLE: Gated<Table> = Gated::new(
    &GATES,
    Table {
        rows: PoolSlice::empty(tag::DRIVER),
    },
);

/// A notification.
pub(crate) struct Simple<'a> {
    pub(crate) provider: u16,
    /// The driver that it registered with: numbers and places are given out anew by each.
    pub(crate) life: u32,
    /// The provider's place in the table.
    pub(crate) place: u32,
    pub(crate) message: u16,
    pub(crate) fixed: u16,
    /// When it happened; 0 is now, which is looked at only if anybody is told.
    pub(crate) time: i64,
    pub(crate) payload: &'a [u8],
}

/// IRQL: <= DISPATCH_LEVEL. A table for so many providers, closed.
#[inline(never)]
pub(crate) fn new(providers: usize) -> Result<Switch> {
    let mut rows = PoolSlice::filled_with(tag::DRIVER, providers, || Row {
        provider: 0,
        life: 0,
        types: 0,
        targets: PoolSlice::empty(tag::DRIVER),
    })?;
    for row in rows.iter_mut() {
        row.targets = PoolSlice::filled_with(tag::DRIVER, MAX_CONNECTIONS, || None)?;
    }
    // One driver at a time has it.
    let owner = TABLE.owner().ok_or(NtError(STATUS_INTERNAL_ERROR))?;
    let mut switch = Switch(owner);
    switch.0.change(|table| table.rows = rows);
    Ok(switch)
}

impl Switch {
    /// Whether anything goes the short way.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_open()
    }

    /// IRQL: <= DISPATCH_LEVEL, not inside a gate. Has the rows changed; nothing goes the short way from now on.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut [Row])) {
        self.0.change(|table| change(&mut table.rows));
    }

    /// IRQL: any. What the rows say goes the short way.
    pub(crate) fn open(&mut self) {
        self.0.open();
    }

    /// IRQL: <= DISPATCH_LEVEL, not inside a gate. Nothing goes the short way any more.
    pub(crate) fn end(&mut self) {
        let empty = PoolSlice::empty(tag::DRIVER);
        let rows = self
            .0
            .change(|table| core::mem::replace(&mut table.rows, empty));
        drop(rows);
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a target does with a notification.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Publish,
    Lose,
    LeaveOut,
    /// It has to go through the routes.
    NotSimple,
}

impl Target {
    /// What becomes of a notification here, on this processor; and whether a filter could not judge it.
    fn fate(&self, simple: &Simple<'_>, bytes: usize, here: &mut Here<'_>) -> (Fate, bool) {
        let mut is_unjudged = false;
        if let Some(filters) = &self.filters {
            let (verdict, _) = filters.judge(simple.message, simple.payload, simple.fixed);
            if verdict == Verdict::Unwanted {
                return (Fate::LeaveOut, false);
            }
            is_unjudged = verdict == Verdict::Undecided;
        }
        let processor = here.processor();
        let Some(producer) = self.rings.filler(here) else {
            return (Fate::NotSimple, is_unjudged);
        };
        if !producer.has_room(bytes) {
            return match producer.is_stuck() {
                true => (Fate::Lose, is_unjudged),
                false => (Fate::NotSimple, is_unjudged),
            };
        }
        let taken = match self.shared {
            true => self.marks.bytes(processor) + bytes,
            false => 0,
        };
        if taken > producer.free() {
            producer.look();
        }
        let is_simple = !self.rings.untold().is_there() && taken <= producer.free();
        let fate = if is_simple {
            Fate::Publish
        } else {
            Fate::NotSimple
        };
        (fate, is_unjudged)
    }

    /// Whoever sleeps there is to be woken behind it.
    fn publish(&self, header: &RecordHeader, payload: &[u8], here: &mut Here<'_>) {
        let processor = here.processor();
        let tag = rings::tag_of(self.place, header);
        let order = self.rings.order();
        let published = self
            .rings
            .filler(here)
            .is_some_and(|producer| rings::publish(producer, order, header, &[payload], tag));
        if !published {
            // There was room a moment ago, and this processor is the only one that fills it.
            return self.lose(header.message, here);
        }
        self.marks.added(processor, stride(header.size as usize));
    }

    fn lose(&self, message: u16, here: &mut Here<'_>) {
        self.marks.lost(here.processor(), message);
        if self.rings.untold().note() {
            self.connection.wake.set();
        }
    }
}

/// IRQL: <= DISPATCH_LEVEL. Puts a notification into the rings of all who observe it, on this processor; false, and nothing has
/// happened, if it has to go through the routes.
pub(crate) fn take(simple: &Simple<'_>) -> bool {
    if simple.payload.len() > MAX_PAYLOAD {
        return false;
    }
    let at = AtDispatch::raise();
    let Some(mut inside) = GATES.enter(&at) else {
        return false;
    };
    let (reading, mut here) = inside.split();
    let row = TABLE
        .read(reading)
        .and_then(|table| table.rows.get(simple.place as usize))
        .filter(|row| row.types & bit(simple.message) != 0)
        .filter(|row| (row.provider, row.life) == (simple.provider, simple.life));
    row.is_some_and(|row| row.take(simple, &mut here))
}

impl Row {
    fn take(&self, simple: &Simple<'_>, here: &mut Here<'_>) -> bool {
        let size = record_size(simple.payload.len());
        let bytes = stride(size);
        let wanted = bit(simple.message);
        let targets = || {
            let all = self.targets.iter().map_while(Option::as_ref);
            all.enumerate()
                .filter(|(_, target)| target.observe & wanted != 0)
        };
        // Where a ring is full it will most likely not be needed. Otherwise before anything that another processor has written
        // is looked at, for who asks for the time waits for what he has asked for before.
        let mut time = simple.time;
        if time == 0 && !targets().any(|(_, target)| target.rings.untold().is_there()) {
            time = system_time();
        }
        let (mut published, mut lost, mut unjudged) = (0_u32, 0_u32, 0_u32);
        for (n, target) in targets() {
            let (fate, is_unjudged) = target.fate(simple, bytes, here);
            if fate == Fate::NotSimple {
                return false;
            }
            published |= u32::from(fate == Fate::Publish) << n;
            lost |= u32::from(fate == Fate::Lose) << n;
            unjudged |= u32::from(is_unjudged) << n;
        }
        if time == 0 && published != 0 {
            time = system_time();
        }
        let header = RecordHeader {
            size: size as u32,
            payload: simple.payload.len() as u32,
            sequence: 0,
            time,
            provider: simple.provider,
            message: simple.message,
            kind: RecordKind::Notification as u16,
            fixed: simple.fixed,
        };
        let published_to = |n: usize| published & 1 << n != 0;
        for (n, target) in targets() {
            if published_to(n) {
                target.publish(&header, simple.payload, here);
            } else if lost & 1 << n != 0 {
                target.lose(simple.message, here);
            } else {
                target.marks.filtered(here.processor());
            }
            if unjudged & 1 << n != 0 {
                target.marks.unjudged(here.processor());
            }
        }
        if published != 0 {
            let behind = Published::fence();
            for (_, target) in targets().filter(|(n, _)| published_to(*n)) {
                target.rings.wake(&behind);
            }
        }
        true
    }
}

const _: () = assert!(MAX_CONNECTIONS <= 32, "a bit for each target");
