// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registry callbacks that drivers have registered.

use std::sync::Arc;

use parking_lot::Mutex;

use super::altitude::Altitude;
use super::names::KeyNames;
use crate::abi::NTSTATUS;
use crate::driver::Driver;
use crate::routine::Routine;
use crate::status::STATUS_FLT_INSTANCE_ALTITUDE_COLLISION;

/// A registered callback.
pub(crate) struct Registration {
    altitude: Altitude,
    /// The number by which its driver knows it.
    pub(crate) cookie: i64,
    pub(crate) context: usize,
    pub(crate) routine: Routine,
}

#[derive(Default)]
struct Table {
    /// The highest altitude first.
    registrations: Vec<Arc<Registration>>,
    last_cookie: i64,
}

/// All registry callbacks of one kernel, and what they are told of.
#[derive(Default)]
pub(crate) struct RegistryCallbacks {
    table: Mutex<Table>,
    pub(crate) names: KeyNames,
}

impl RegistryCallbacks {
    /// Registers a routine; its cookie.
    pub(crate) fn register(
        &self,
        altitude: Altitude,
        routine: usize,
        context: usize,
    ) -> Result<i64, NTSTATUS> {
        let routine = Routine::new("a registry callback", routine);
        let mut table = self.table.lock();
        let registrations = &table.registrations;
        let place = registrations.partition_point(|other| other.altitude > altitude);
        let next = registrations.get(place);
        if next.is_some_and(|next| next.altitude == altitude && !next.routine.is_stale()) {
            return Err(STATUS_FLT_INSTANCE_ALTITUDE_COLLISION);
        }
        table.last_cookie += 1;
        let cookie = table.last_cookie;
        let registration = Registration {
            altitude,
            cookie,
            context,
            routine,
        };
        table.registrations.insert(place, Arc::new(registration));
        Ok(cookie)
    }

    /// Ends a registration and waits for its calls; false if there is none of this cookie.
    pub(crate) fn unregister(&self, cookie: i64) -> bool {
        let mut table = self.table.lock();
        let found = table
            .registrations
            .iter()
            .position(|it| it.cookie == cookie && !it.routine.is_stale());
        let removed = found.map(|index| table.registrations.remove(index));
        drop(table);
        if let Some(registration) = &removed {
            registration.routine.drain();
        }
        removed.is_some()
    }

    /// Whether a callback of this cookie is registered, or runs still.
    pub(crate) fn knows(&self, cookie: i64) -> bool {
        (1..=self.table.lock().last_cookie).contains(&cookie)
    }

    /// All of them, the highest altitude first.
    pub(crate) fn in_order(&self) -> Vec<Arc<Registration>> {
        self.table.lock().registrations.clone()
    }

    /// Reports what `driver` left. Its callbacks stay, so that the operation that would call one is
    /// reported, too.
    pub(crate) fn report_left_by(&self, driver: &Arc<Driver>) {
        for registration in self.in_order() {
            registration.routine.report_left_by(driver);
        }
        self.names.report_left_by(driver);
    }
}
