// SPDX-License-Identifier: MIT OR Apache-2.0
//! Subscriptions that outlive connections and providers.
//!
//! Two make them: the program, and the supervisor on a new connection or for a provider that has
//! registered again. They take turns ([`Shared::subscribing`], before anything else), so that the
//! driver gets them in the order in which they are noted here.

use crate::connection::Connection;
use crate::error::Error;
use crate::event::Event;
use crate::lock::lock;
use crate::subscription::Subscription;
use crate::supervisor::Shared;
use fltport_abi::common_driver;
use std::sync::Arc;

/// What is wanted of a provider.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    subscription: Arc<Subscription>,
    /// It is in force on the current connection, with the provider that is registered now.
    pub(crate) in_force: bool,
    /// How often that provider has registered or gone.
    changes: u64,
    /// The stream has it, with its snapshot, from a former connection.
    pub(crate) resumed: bool,
}

impl Shared {
    /// What the program is about to be told.
    pub(crate) fn notice(&self, event: &Event) {
        if let Event::CommonDriver(record) = event
            && let Ok(change) = record.decode::<common_driver::ProviderChange<'_>>()
        {
            self.provider_changed(&change.name.to_string(), change.registered);
        }
    }

    /// A provider has registered, or is gone: a subscription to a former provider of that name is
    /// none to this one.
    fn provider_changed(&self, provider: &str, registered: bool) {
        let mut control = lock(&self.control);
        let Some(wanted) = control.subscriptions.get_mut(provider) else {
            return;
        };
        wanted.in_force = false;
        wanted.resumed = false;
        wanted.changes += 1;
        control.registered |= registered;
        drop(control);
        self.changed.notify_all();
    }

    /// Subscribes on `connection`, and remembers it for the next one.
    pub(crate) fn subscribe(
        &self,
        connection: &Arc<Connection>,
        subscription: Subscription,
    ) -> Result<(), Error> {
        let _turn = lock(&self.subscribing);
        let subscription = Arc::new(subscription);
        let provider = subscription.provider.as_str();
        let former = self.note(&subscription);
        let changes = former.as_ref().map_or(0, |f| f.changes);
        let subscribed = connection.subscribe(&subscription);
        self.counters.note_schema(&subscribed);
        let mut control = lock(&self.control);
        let current = control.current.as_ref();
        let still_current = current.is_some_and(|c| Arc::ptr_eq(c, connection));
        let Some(wanted) = control.subscriptions.get_mut(provider) else {
            return subscribed;
        };
        let valid = still_current && wanted.changes == changes;
        match (&subscribed, former) {
            (Ok(()), _) if subscription.is_empty() => {
                control.subscriptions.remove(provider);
            }
            (Ok(()), _) => wanted.in_force = valid,
            (Err(_), Some(former)) => {
                wanted.in_force = former.in_force && valid;
                wanted.subscription = former.subscription;
            }
            (Err(_), None) => {
                control.subscriptions.remove(provider);
            }
        }
        // What was overtaken by a new connection or provider is made again at once.
        control.registered |= !valid;
        drop(control);
        self.changed.notify_all();
        subscribed
    }

    /// Notes what is wanted before it is asked for, so that a change of the provider meanwhile is
    /// noticed; returns what was wanted before.
    fn note(&self, subscription: &Arc<Subscription>) -> Option<Wanted> {
        let mut control = lock(&self.control);
        let provider = &subscription.provider;
        let former = control.subscriptions.get(provider).cloned();
        let wanted = Wanted {
            subscription: subscription.clone(),
            in_force: false,
            changes: former.as_ref().map_or(0, |f| f.changes),
            resumed: false,
        };
        control.subscriptions.insert(provider.clone(), wanted);
        former
    }

    /// A new stream has begun: nothing of the former one is in it.
    pub(crate) fn begin_anew(&self) {
        for wanted in lock(&self.control).subscriptions.values_mut() {
            wanted.resumed = false;
        }
    }

    /// Makes the subscriptions that are not in force; `tell` what fails.
    pub(crate) fn subscribe_again(&self, connection: &Connection, tell: bool) {
        let outstanding: Vec<String> = {
            let control = lock(&self.control);
            let all = control.subscriptions.iter().filter(|(_, w)| !w.in_force);
            all.map(|(name, _)| name.clone()).collect()
        };
        for provider in outstanding {
            if let Err(reason) = self.make_again(connection, &provider)
                && tell
            {
                let event = Event::SubscriptionFailed { provider, reason };
                self.queue.push([(event, 0)]);
            }
        }
    }

    fn make_again(&self, connection: &Connection, provider: &str) -> Result<(), Error> {
        let _turn = lock(&self.subscribing);
        let wanted = lock(&self.control).subscriptions.get(provider).cloned();
        // The program may have subscribed anew, or not want it any more.
        let Some(wanted) = wanted.filter(|w| !w.in_force) else {
            return Ok(());
        };
        let subscribed = match wanted.resumed {
            true => connection.subscribe(&wanted.subscription.without_snapshot()),
            false => connection.subscribe(&wanted.subscription),
        };
        self.counters.note_schema(&subscribed);
        subscribed?;
        if let Some(now) = lock(&self.control).subscriptions.get_mut(provider) {
            now.in_force = now.changes == wanted.changes;
            now.resumed = false;
        }
        Ok(())
    }
}
