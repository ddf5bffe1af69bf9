// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a connection may do: judged when it is made, and again at each call.

use crate::connection::Identity;
use crate::driver::Driver;
use crate::policy::{Grants, ImageVerdict};
use crate::provider::Provider;
use crate::receiver::Receiver;
use fltport_abi::account::Refusal;
use fltport_abi::command::{Command, FilteredSubscription, Subscription, own};
use fltport_abi::common_driver;
use fltport_abi::fixed::Fixed;
use fltport_abi::hello::rights;
use fltport_abi::status;
use fltport_nt::bindings::STATUS_ACCESS_DENIED;
use fltport_nt::ps::Process;
use fltport_nt::{NtError, Result};

/// The process that connected, and what it may do.
pub(crate) struct Access {
    process: Process,
    grants: Grants,
}

impl Access {
    /// IRQL: PASSIVE_LEVEL, in the connecting thread. Judges whether the process may connect with
    /// these rights.
    #[inline(never)]
    pub(crate) fn judge(driver: &Driver, wanted: u32) -> Result<Self> {
        let process = Process::current();
        let refuse = |reason, status| Err(driver.refusals().refuse(reason, status));
        match driver.service_key().judge_image(&process)? {
            ImageVerdict::Allowed => {}
            ImageVerdict::NotAllowed => return refuse(Refusal::Image, status::IMAGE_NOT_ALLOWED),
            ImageVerdict::Unreadable => {
                return refuse(Refusal::Configuration, status::CONFIGURATION_UNREADABLE);
            }
        }
        let grants = match driver.service_key().grants() {
            Err(NtError(unreadable @ status::CONFIGURATION_UNREADABLE)) => {
                return refuse(Refusal::Configuration, unreadable);
            }
            grants => grants?,
        };
        let granted = grants.anywhere();
        if granted == 0 {
            return refuse(Refusal::NoRights, status::ACCOUNT_RESTRICTION);
        }
        if wanted & !granted != 0 {
            return refuse(Refusal::RightNotGranted, status::PRIVILEGE_NOT_HELD);
        }
        Ok(Access { process, grants })
    }

    /// IRQL: any. Whether the thread that runs is one of the process that connected.
    pub(crate) fn is_own_process(&self) -> bool {
        self.process.is_current()
    }

    /// IRQL: any. Whether both connections were made by one process.
    pub(crate) fn is_same_process(&self, other: &Access) -> bool {
        self.process.is(&other.process)
    }

    /// IRQL: <= DISPATCH_LEVEL. Judges a call of the current thread's over this connection: a handle
    /// can be inherited or duplicated, but what it may do was granted to the process that made it.
    pub(crate) fn judge_caller(&self, driver: &Driver) -> Result<()> {
        if self.is_own_process() {
            return Ok(());
        }
        Err(driver
            .refusals()
            .refuse(Refusal::OtherProcess, status::OTHER_PROCESS))
    }

    /// IRQL: <= DISPATCH_LEVEL. Judges a captured command by the rights at the provider that it is
    /// for. What is malformed is for whoever runs it to say.
    pub(crate) fn judge_command(&self, driver: &Driver, command: &Command<'_>) -> Result<()> {
        let Some((provider, needed)) = demand(command) else {
            return Ok(());
        };
        let Ok(provider) = u16::try_from(provider) else {
            return Ok(());
        };
        // The driver itself tells everybody who may observe anything.
        let key = driver
            .routes()
            .lock()
            .provider(provider)
            .filter(|_| provider != 0)
            .map(|slot| slot.provider.key);
        let Some(key) = key else {
            return Ok(());
        };
        let granted = self.grants.at(&key);
        let enough = match needed {
            Needed::All(rights) => granted & rights == rights,
            Needed::Any => granted != 0,
        };
        if enough {
            return Ok(());
        }
        Err(driver
            .refusals()
            .refuse(Refusal::ProviderRight, STATUS_ACCESS_DENIED))
    }

    /// IRQL: any. Whether this one may everything that `former`, which asked for these rights, may: so
    /// that it can have that one's stream.
    pub(crate) fn covers(&self, former: &Access, rights: u32) -> bool {
        self.grants.covers(&former.grants, rights)
    }

    /// IRQL: any. Whether it is an administrator's.
    pub(crate) fn is_administrator(&self) -> bool {
        self.grants.is_administrator()
    }

    /// IRQL: any. Whether the accounts of a provider are for this connection to see.
    pub(crate) fn sees(&self, provider: &Provider) -> bool {
        self.grants.is_administrator()
            || provider.number == common_driver::NUMBER
            || self.grants.at(&provider.key) != 0
    }

    /// IRQL: any. Whether the accounts of a connection are for this one, which is `own`, to see:
    /// administrators see everybody's.
    pub(crate) fn sees_connection(&self, own: &Identity, receiver: &Receiver) -> bool {
        self.grants.is_administrator() || receiver.connection.identity.number == own.number
    }

    /// IRQL: any. Whether what others were refused is for this connection to see.
    pub(crate) fn sees_refusals(&self) -> bool {
        self.grants.is_administrator()
    }
}

/// What a command needs.
enum Needed {
    /// All of these rights.
    All(u32),
    /// Any right at all.
    Any,
}

/// The provider that a command is about, and what is needed there; `None` for a command that is
/// about none, or malformed.
fn demand(command: &Command<'_>) -> Option<(u32, Needed)> {
    let subscribes = |observe: u64, decide: u64| {
        let observe = if observe != 0 { rights::OBSERVE } else { 0 };
        let decide = if decide != 0 { rights::DECIDE } else { 0 };
        match observe | decide {
            // Not for whoever has no right there: filters and snapshots can be asked for as well.
            0 => Needed::Any,
            rights => Needed::All(rights),
        }
    };
    match (command.header.provider, command.header.command) {
        (0, own::SUBSCRIBE) => {
            let wanted = Subscription::read(command.payload)?;
            Some((wanted.provider, subscribes(wanted.observe, wanted.decide)))
        }
        (0, own::SUBSCRIBE_FILTERED) => {
            let wanted = FilteredSubscription::read(command.payload)?;
            Some((wanted.provider, subscribes(wanted.observe, wanted.decide)))
        }
        (0, own::SCHEMA | own::DEFAULT_REPLY) => Some((u32::read(command.payload)?, Needed::Any)),
        (0, _) => None,
        (provider, _) => Some((provider, Needed::All(rights::COMMAND))),
    }
}
