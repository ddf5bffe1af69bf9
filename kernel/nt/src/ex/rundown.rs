// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rundown protection: users come and go without a lock, and the owner can wait until the last is
//! gone and none can come.

use super::pool::{PoolBox, Tag};
use crate::bindings::{
    EX_RUNDOWN_REF, ExAcquireRundownProtection, ExInitializeRundownProtection,
    ExReInitializeRundownProtection, ExReleaseRundownProtection, ExRundownCompleted,
    ExWaitForRundownProtectionRelease,
};
use crate::ke::CriticalRegion;
use crate::status::Result;
use core::cell::UnsafeCell;

/// Protects something from going away while it is used.
pub struct Rundown {
    reference: PoolBox<UnsafeCell<EX_RUNDOWN_REF>>,
}

// SAFETY: the functions below are made for concurrent use.
unsafe impl Send for Rundown {}
// SAFETY: as above.
unsafe impl Sync for Rundown {}

impl Rundown {
    /// IRQL: <= APC_LEVEL. Open to users. Fails with `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn new(tag: Tag) -> Result<Self> {
        let reference = PoolBox::new(tag, UnsafeCell::new(EX_RUNDOWN_REF::default()))?;
        // SAFETY: valid memory, not yet shared.
        unsafe { ExInitializeRundownProtection(reference.get()) };
        Ok(Rundown { reference })
    }

    /// IRQL: <= DISPATCH_LEVEL. `None` once the rundown has begun. The use is a critical region, so
    /// that nobody can draw it out by suspending the thread; it ends at the IRQL at which it began.
    pub fn acquire(&self) -> Option<RundownGuard<'_>> {
        let region = CriticalRegion::enter();
        // Not `then_some`, which would make the guard, and drop it, in any case.
        self.acquire_for_another_thread().then(|| RundownGuard {
            owner: self,
            _region: region,
        })
    }

    /// IRQL: <= DISPATCH_LEVEL. Begins a use that another thread ends with [`Rundown::release`];
    /// false once the rundown has begun.
    #[must_use = "a use that has begun must be ended"]
    pub fn acquire_for_another_thread(&self) -> bool {
        // SAFETY: initialised by `new`.
        unsafe { ExAcquireRundownProtection(self.reference.get()) }
    }

    /// IRQL: <= DISPATCH_LEVEL. Ends a use that began with
    /// [`Rundown::acquire_for_another_thread`].
    ///
    /// # Safety
    /// There is such a use, and it ends once.
    pub unsafe fn release(&self) {
        // SAFETY: the caller vouches for a successful acquire that has not been released.
        unsafe { ExReleaseRundownProtection(self.reference.get()) };
    }

    /// IRQL: <= APC_LEVEL. Lets no new user in and waits until the last has left: as long as the
    /// longest use takes, so every use must be bounded. Must not be called by a user.
    pub fn wait(&self) {
        // SAFETY: initialised by `new`.
        unsafe { ExWaitForRundownProtectionRelease(self.reference.get()) };
        // SAFETY: the wait above has returned, as this call demands; it makes every later acquire
        // fail and every later wait return.
        unsafe { ExRundownCompleted(self.reference.get()) };
    }

    /// IRQL: <= APC_LEVEL. Opens it again after [`Rundown::wait`] has returned.
    pub fn reopen(&self) {
        // SAFETY: the rundown has been completed; the caller is its owner.
        unsafe { ExReInitializeRundownProtection(self.reference.get()) };
    }
}

/// One use of what a [`Rundown`] protects.
#[must_use = "the protection ends when the guard is dropped"]
pub struct RundownGuard<'a> {
    owner: &'a Rundown,
    // Left after `drop` has ended the use.
    _region: Option<CriticalRegion>,
}

impl Drop for RundownGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: this guard stands for one successful acquire.
        unsafe { ExReleaseRundownProtection(self.owner.reference.get()) };
    }
}
