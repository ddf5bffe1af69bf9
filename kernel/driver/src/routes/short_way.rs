// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes the short way, and when nothing does.

use super::{Routes, taken};
use crate::backlog::ProviderSlot;
use crate::receiver::{Receiver, Subscription};
use crate::switch::{Row, Target};
use fltport_nt::ex::PoolBox;

/// Whether all that a connection observes of a provider can go into its rings at once, as far as the connection is concerned.
fn is_simple(receiver: &Receiver, subscription: &Subscription) -> bool {
    let rings = receiver.rings.as_ref().map_or(0, |rings| rings.count());
    receiver.is_on_rings()
        && subscription.marks.are_for(rings)
        && receiver.rate.rate() == 0
        && subscription.usage.quota == 0
        && subscription.screen.wishes.mute.is_none()
}

/// What the table says of a connection's subscription at this place.
fn target(receiver: &Receiver, place: usize, subscription: &Subscription) -> Option<Target> {
    Some(Target {
        observe: subscription.observe,
        place: place as u16,
        shared: receiver.is_shared(),
        rings: receiver.rings.as_ref()?.set.clone(),
        marks: subscription.marks.clone(),
        filters: subscription.screen.wishes.filters.clone(),
        connection: receiver.connection.clone(),
    })
}

/// Fills in what goes the short way from one provider.
fn fill(row: &mut Row, slot: &ProviderSlot, connections: &[Option<PoolBox<Receiver>>]) {
    let number = slot.provider.number;
    (row.provider, row.life) = (number, slot.provider.life);
    let (mut observed, mut hindered) = (0, 0);
    let mut places = row.targets.iter_mut();
    for receiver in taken(connections) {
        let numbered = receiver.subscriptions.iter().enumerate();
        let mut own = numbered.filter_map(|(n, s)| Some((n, s.as_deref()?)));
        let Some((place, subscription)) = own.find(|(_, s)| s.provider == number && s.observe != 0)
        else {
            continue;
        };
        observed |= subscription.observe;
        let target = match is_simple(receiver, subscription) {
            true => target(receiver, place, subscription),
            false => None,
        };
        match (target, places.next()) {
            (Some(target), Some(place)) => *place = Some(target),
            _ => hindered |= subscription.observe,
        }
    }
    let limited = slot.provider.rate != 0;
    row.types = match limited {
        true => 0,
        false => observed & !hindered & slot.provider.notifications,
    };
}

impl Routes {
    /// From now on everything goes through the routes.
    pub(crate) fn end_short_way(&mut self) {
        self.short_way_ended = true;
        self.switch.end();
    }

    /// Makes the table of the short way anew.
    pub(crate) fn refresh(&mut self) {
        let has_rings = |receiver: &Receiver| receiver.rings.is_some();
        if !self.switch.is_open() && !self.connections().any(has_rings) {
            return;
        }
        let (providers, connections) = (&self.providers, &mut self.connections);
        let ended = self.short_way_ended;
        self.switch.change(|rows| {
            for (row, slot) in rows.iter_mut().zip(providers.iter()) {
                row.types = 0;
                row.targets.iter_mut().for_each(|target| *target = None);
                if let Some(slot) = slot.as_deref().filter(|_| !ended) {
                    fill(row, slot, connections);
                }
            }
        });
        for receiver in super::taken_mut(connections) {
            receiver.is_simple = receiver.is_on_rings();
        }
        if !ended {
            self.switch.open();
        }
    }

    /// After something may have been queued: no record of a connection whose queue is not empty goes the short way, for it would overtake.
    pub(crate) fn leave_short_way(&mut self) {
        if self
            .connections()
            .any(|it| it.is_simple && !it.is_on_rings())
        {
            self.refresh();
        }
    }
}
