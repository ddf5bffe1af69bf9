// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects that change: each change and its notification are one, so that a snapshot and the stream
//! behind it are the state.

use crate::load::{Load, TAG};
use crate::messages::{Change, MAX_OBJECTS, Object};
use crate::share;
use fltport_client::{Provider, Snapshot};
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::FastMutex;
use fltport_nt::{NtError, Result};

/// How often each object has changed; one that never has is not there.
pub(crate) struct Objects(FastMutex<[u64; MAX_OBJECTS]>);

impl Objects {
    /// IRQL: <= DISPATCH_LEVEL. None yet.
    pub(crate) fn new() -> Result<Self> {
        FastMutex::new(TAG, [0; MAX_OBJECTS]).map(Objects)
    }

    /// IRQL: PASSIVE_LEVEL. All that are there.
    pub(crate) fn report(&self, snapshot: &Snapshot<'_>) -> Result<()> {
        let objects = self.0.lock();
        for (number, version) in (0..).zip(objects.iter().copied()) {
            if version != 0 {
                snapshot.add(&Object { number, version })?;
            }
        }
        // Under the lock that orders the notifications.
        snapshot.live()
    }

    /// IRQL: <= APC_LEVEL. Each of them changes once.
    pub(crate) fn change_all(&self, provider: &Provider<Load>) {
        for number in 0..MAX_OBJECTS as u64 {
            // Never refused, for it is one of the provider's own; a loss is in the ledger.
            let _accounted = self.change(provider, number);
        }
    }

    /// IRQL: <= APC_LEVEL. One of them changes, and that is told.
    fn change(&self, provider: &Provider<Load>, number: u64) -> Result<()> {
        let mut objects = self.0.lock();
        let place = usize::try_from(number).ok();
        let version = place.and_then(|place| objects.get_mut(place));
        let version = version.ok_or(NtError(STATUS_INVALID_PARAMETER))?;
        *version += 1;
        provider.notify(&Object {
            number,
            version: *version,
        })
    }
}

/// IRQL: PASSIVE_LEVEL. Starts the job; its number.
pub(crate) fn start(load: &Load, change: &Change) -> Result<u32> {
    share::start(load, change.threads, change.count, (), |share, provider| {
        for n in 0..share.count {
            if share.is_over(provider) {
                break;
            }
            let number = (n * 7 + u64::from(share.thread)) % MAX_OBJECTS as u64;
            let told = provider.handler().objects.change(provider, number);
            share.progress.offered(told);
        }
    })
}
