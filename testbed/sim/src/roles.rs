// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who decides, as far as services know: never two at a time.

use std::collections::{BTreeMap, BTreeSet};

/// The deciders of a run. A role is written down after the driver has given it, and crossed out
/// before it is given back, so two at a time in here are two at a time.
#[derive(Default)]
pub struct Roles {
    /// How often an unload of the common driver has begun or ended: with each the roles begin anew.
    load: u64,
    /// The deciders by provider: the services' processes.
    deciders: BTreeMap<u32, BTreeSet<u32>>,
    /// Who may decide: has asked for it, and has not been refused or let go yet.
    perhaps: BTreeMap<u32, BTreeSet<u32>>,
    /// How many have asked.
    asked: u64,
    /// Services whose handle is about to be closed.
    closed: BTreeSet<u32>,
}

impl Roles {
    /// Tells one life of the common driver from another.
    #[must_use]
    pub fn load(&self) -> u64 {
        self.load
    }

    /// Whether an unload goes on in this life.
    #[must_use]
    pub fn is_unloading(load: u64) -> bool {
        load % 2 == 1
    }

    /// An unload of the common driver begins, or has ended: it takes all roles back.
    pub fn unloading(&mut self) {
        self.load += 1;
        self.deciders.clear();
    }

    /// This service is about to ask for the role; what to come back with if it is refused, if
    /// nobody else can have it.
    pub fn asking(&mut self, service: u32, provider: u32) -> Option<u64> {
        self.asked += 1;
        let perhaps = self.perhaps.entry(provider).or_default();
        let free = perhaps.iter().all(|it| *it == service);
        perhaps.insert(service);
        free.then_some(self.asked)
    }

    /// The role was refused because another one has it.
    ///
    /// # Panics
    /// Nobody had it, nor has asked for it meanwhile.
    pub fn refused(&mut self, provider: u32, free: Option<u64>) {
        assert!(
            free != Some(self.asked),
            "nobody decides for provider {provider}, and still nobody may"
        );
    }

    /// This service has let go of the role, or did not get it.
    pub fn let_go(&mut self, service: u32, provider: u32) {
        if let Some(perhaps) = self.perhaps.get_mut(&provider) {
            perhaps.remove(&service);
        }
    }

    /// The connection of this service has ended.
    pub fn ended(&mut self, service: u32) {
        for perhaps in self.perhaps.values_mut() {
            perhaps.remove(&service);
        }
    }

    /// How many services are about to close their handles, or have.
    #[must_use]
    pub fn dying(&self) -> usize {
        self.closed.len()
    }

    /// This service was told during the load `asked_in` that it decides.
    ///
    /// # Panics
    /// Another one does.
    pub fn taken(&mut self, service: u32, provider: u32, asked_in: u64) {
        if asked_in != self.load || self.closed.contains(&service) {
            return;
        }
        let deciders = self.deciders.entry(provider).or_default();
        deciders.insert(service);
        assert!(
            deciders.len() == 1,
            "provider {provider} has more than one decider: the processes {deciders:?}"
        );
    }

    /// Whether this service certainly decides.
    #[must_use]
    pub fn decides(&self, service: u32, provider: u32) -> bool {
        let deciders = self.deciders.get(&provider);
        deciders.is_some_and(|it| it.contains(&service))
    }

    /// This service is about to give the role back.
    pub fn given_back(&mut self, service: u32, provider: u32) {
        if let Some(deciders) = self.deciders.get_mut(&provider) {
            deciders.remove(&service);
        }
    }

    /// The handle of this service is about to be closed.
    pub fn closing(&mut self, service: u32) {
        self.closed.insert(service);
        for deciders in self.deciders.values_mut() {
            deciders.remove(&service);
        }
    }
}
