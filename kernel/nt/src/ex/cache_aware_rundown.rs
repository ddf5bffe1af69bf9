// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rundown protection that costs users on different processors nothing of each other's.

use super::pool::{PoolSlice, Tag};
use crate::bindings::{
    ExAcquireRundownProtectionCacheAware, ExInitializeRundownProtectionCacheAware,
    ExReInitializeRundownProtectionCacheAware, ExReleaseRundownProtectionCacheAware,
    ExRundownCompletedCacheAware, ExSizeOfRundownProtectionCacheAware,
    ExWaitForRundownProtectionReleaseCacheAware, PEX_RUNDOWN_REF_CACHE_AWARE,
};
use crate::ke::CriticalRegion;
use crate::status::Result;
use core::cell::UnsafeCell;

/// As [`Rundown`](super::Rundown), with a count for each processor: for what is used all the time
/// and everywhere, and goes away rarely. It costs a line of the cache for each processor.
pub struct CacheAwareRundown {
    /// What NT makes of it is NT's. It is our memory, and not of
    /// ExAllocateCacheAwareRundownProtection, because what that allocates can be freed at
    /// <= APC_LEVEL only.
    memory: PoolSlice<UnsafeCell<u64>>,
}

// SAFETY: the functions below are made for concurrent use.
unsafe impl Send for CacheAwareRundown {}
// SAFETY: as above.
unsafe impl Sync for CacheAwareRundown {}

impl CacheAwareRundown {
    /// IRQL: <= APC_LEVEL. Open to users. Fails with `STATUS_INSUFFICIENT_RESOURCES`. It may be
    /// dropped at DISPATCH_LEVEL.
    pub fn new(tag: Tag) -> Result<Self> {
        // SAFETY: takes nothing, returns a number.
        let size = unsafe { ExSizeOfRundownProtectionCacheAware() };
        let words = size.div_ceil(size_of::<u64>());
        let memory = PoolSlice::filled_with(tag, words, || UnsafeCell::new(0))?;
        let rundown = CacheAwareRundown { memory };
        // SAFETY: non-paged memory of at least this size, not yet shared.
        unsafe { ExInitializeRundownProtectionCacheAware(rundown.reference(), size) };
        Ok(rundown)
    }

    fn reference(&self) -> PEX_RUNDOWN_REF_CACHE_AWARE {
        self.memory.as_ptr() as PEX_RUNDOWN_REF_CACHE_AWARE
    }

    /// IRQL: <= DISPATCH_LEVEL. `None` once the rundown has begun. The use is a critical region, so
    /// that nobody can draw it out by suspending the thread; it ends at the IRQL at which it began.
    pub fn acquire(&self) -> Option<CacheAwareRundownGuard<'_>> {
        let region = CriticalRegion::enter();
        // SAFETY: initialised by `new`.
        let acquired = unsafe { ExAcquireRundownProtectionCacheAware(self.reference()) };
        // Not `then_some`, which would make the guard, and drop it, in any case.
        acquired.then(|| CacheAwareRundownGuard {
            owner: self,
            _region: region,
        })
    }

    /// IRQL: <= APC_LEVEL. Lets no new user in and waits until the last has left: as long as the
    /// longest use takes, so every use must be bounded. Must not be called by a user.
    pub fn wait(&self) {
        // SAFETY: initialised by `new`.
        unsafe { ExWaitForRundownProtectionReleaseCacheAware(self.reference()) };
        // SAFETY: the wait above has returned, as this call demands; it makes every later acquire
        // fail and every later wait return.
        unsafe { ExRundownCompletedCacheAware(self.reference()) };
    }

    /// IRQL: <= APC_LEVEL. Opens it again after [`CacheAwareRundown::wait`] has returned.
    pub fn reopen(&self) {
        // SAFETY: the rundown has been completed; the caller is its owner.
        unsafe { ExReInitializeRundownProtectionCacheAware(self.reference()) };
    }
}

/// One use of what a [`CacheAwareRundown`] protects.
#[must_use = "the protection ends when the guard is dropped"]
pub struct CacheAwareRundownGuard<'a> {
    owner: &'a CacheAwareRundown,
    // Left after `drop` has ended the use.
    _region: Option<CriticalRegion>,
}

impl Drop for CacheAwareRundownGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: this guard stands for one successful acquire. The thread may have moved to another
        // processor since, which the counts allow for.
        unsafe { ExReleaseRundownProtectionCacheAware(self.owner.reference()) };
    }
}
