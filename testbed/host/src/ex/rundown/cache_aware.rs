// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cache-aware rundown protection: a word for each processor, so that those who hold it on
//! different processors share nothing until it is run down.
//!
//! With the verifier there is one word, and the rules and the table of the plain kind. Without it,
//! each processor's word counts in steps of two who has come there less who has left there, which
//! may be less than nothing, because a thread may leave on another processor than it came on; the
//! lowest bit says that the rundown has begun. Whoever runs it down ends one word after another and
//! adds up what they held. Who leaves where the word is ended takes one off that sum instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use super::{quick, release_or_report};
use crate::abi::{PEX_RUNDOWN_REF_CACHE_AWARE, POOL_TYPE};
use crate::entry::nt;
use crate::ex::pool;
use crate::irql::{APC_LEVEL, DISPATCH_LEVEL};
use crate::kernel;
use crate::processor;
use crate::sched::{self, Waiter};
use crate::verifier;

const ENDED: isize = 1;
const HOLDER: isize = 2;

const LINE: usize = 64;

/// A line of the processor's cache, and no more in it than one word.
#[repr(C, align(64))]
struct Line<T>(T);

/// The beginning of the memory; behind it lies a line for each processor.
#[repr(C, align(64))]
struct Head {
    /// What the plain kind consists of, for the verifier.
    plain: AtomicUsize,
    processors: usize,
    /// Who still holds it when all words are ended; below zero before all are added up.
    left: Line<AtomicIsize>,
}

struct CacheAware<'a> {
    address: usize,
    head: &'a Head,
    words: &'a [Line<AtomicIsize>],
}

/// A line for the head and one for each processor, and what there may be in front of the first whole
/// one.
fn size(processors: usize) -> usize {
    size_of::<Head>() + processors * LINE + (LINE - 1)
}

/// Where the head lies in the memory for it: a driver's need not begin with a line.
#[inline]
fn head_in(memory: usize) -> usize {
    memory.next_multiple_of(LINE)
}

/// Makes rundown protection that can be acquired.
///
/// # Safety
/// Memory for so many processors, which nobody else uses.
unsafe fn initialize(memory: PEX_RUNDOWN_REF_CACHE_AWARE, processors: usize) {
    let address = head_in(memory as usize);
    let head = Head {
        plain: AtomicUsize::new(0),
        processors,
        left: Line(AtomicIsize::new(0)),
    };
    // SAFETY: aligned, and within the memory.
    unsafe { (address as *mut Head).write(head) };
    let words = (address + size_of::<Head>()) as *mut u8;
    // SAFETY: so many lines are behind the head; zero is a word that nobody holds.
    unsafe { words.write_bytes(0, processors * LINE) };
    if !verifier::is_off() {
        kernel::state().rundowns.initialize(address);
    }
}

impl<'a> CacheAware<'a> {
    /// # Safety
    /// Rundown protection that was initialised here and is not freed.
    unsafe fn at(memory: PEX_RUNDOWN_REF_CACHE_AWARE) -> CacheAware<'a> {
        let head = head_in(memory as usize) as *const Head;
        // SAFETY: live by contract; all that changes is atomic.
        let known = unsafe { &*head };
        // SAFETY: so many lines were allocated behind it.
        let first = unsafe { head.add(1) }.cast();
        // SAFETY: as above, and zeroed.
        let words = unsafe { std::slice::from_raw_parts(first, known.processors) };
        CacheAware {
            address: head as usize,
            head: known,
            words,
        }
    }

    /// The word of the processor that the caller runs on, or ran on when it looked; there are as many
    /// as processors.
    #[inline]
    fn word(&self) -> &'a AtomicIsize {
        let number = processor::current() as usize;
        &self.words[number.min(self.words.len() - 1)].0
    }

    #[inline]
    fn acquire(&self) -> bool {
        let word = self.word();
        let mut now = word.load(Ordering::Relaxed);
        while now & ENDED == 0 {
            let more = now + HOLDER;
            match word.compare_exchange_weak(now, more, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => now = other,
            }
        }
        false
    }

    /// Gives it back; as with the plain kind, only the address is used when the last one has gone.
    /// Release, and acquire by who ends the word or waits for the sum: that one sees what all
    /// holders have done.
    #[inline]
    fn release(&self) {
        let word = self.word();
        let mut now = word.load(Ordering::Relaxed);
        while now & ENDED == 0 {
            let less = now - HOLDER;
            match word.compare_exchange_weak(now, less, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => now = other,
            }
        }
        self.release_late();
    }

    #[cold]
    fn release_late(&self) {
        let address = self.address;
        if self.head.left.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            quick::last_is_gone(address);
        }
    }

    fn end(&self) {
        let rundowns = &kernel::state().rundowns;
        let waiter = Arc::new(Waiter::new());
        quick::enlist(rundowns, self.address, &waiter);
        // Shifted and not divided: the mark of an ended word is no holder, nor half of one less.
        let end = |word: &Line<AtomicIsize>| word.0.swap(ENDED, Ordering::AcqRel) >> 1;
        let held: isize = self.words.iter().map(end).sum();
        self.head.left.0.fetch_add(held, Ordering::AcqRel);
        while self.head.left.0.load(Ordering::Acquire) != 0 {
            sched::block(&waiter, None);
        }
        quick::withdraw(rundowns, self.address, &waiter);
    }

    fn set(&self, value: isize) {
        self.head.left.0.store(0, Ordering::Relaxed);
        for word in self.words {
            word.0.store(value, Ordering::Release);
        }
    }
}

/// What POOL_TYPE is as flags of ExAllocatePool2.
fn flags(pool: POOL_TYPE) -> u64 {
    const PAGED: POOL_TYPE = 1;
    const NOT_EXECUTABLE: POOL_TYPE = 512;
    let kind = match pool {
        _ if pool & PAGED != 0 => pool::POOL_FLAG_PAGED,
        _ if pool & NOT_EXECUTABLE != 0 => pool::POOL_FLAG_NON_PAGED,
        _ => pool::POOL_FLAG_NON_PAGED_EXECUTE,
    };
    kind | pool::POOL_FLAG_CACHE_ALIGNED
}

nt! {
    /// Allocates cache-aware rundown protection that can be acquired; null without memory.
    fails = null;
    max_irql = APC_LEVEL;
    pub unsafe fn ExAllocateCacheAwareRundownProtection(
        pool: POOL_TYPE,
        tag: u32,
    ) -> PEX_RUNDOWN_REF_CACHE_AWARE {
        let processors = processor::count() as usize;
        let Some(memory) = pool::allocate_checked(flags(pool), size(processors), tag) else {
            return 0;
        };
        let memory = memory.as_ptr() as PEX_RUNDOWN_REF_CACHE_AWARE;
        // SAFETY: just allocated, as large as that.
        unsafe { initialize(memory, processors) };
        memory
    }

    /// How many bytes it takes, for who allocates them himself.
    max_irql = APC_LEVEL;
    pub unsafe fn ExSizeOfRundownProtectionCacheAware() -> usize {
        size(processor::count() as usize)
    }

    /// Makes rundown protection that can be acquired, in memory of the driver's; too little of it is
    /// left alone.
    max_irql = APC_LEVEL;
    pub unsafe fn ExInitializeRundownProtectionCacheAware(
        rundown: PEX_RUNDOWN_REF_CACHE_AWARE,
        size: usize,
    ) {
        let room = (size + 1).saturating_sub(size_of::<Head>() + LINE) / LINE;
        let processors = room.min(processor::count() as usize);
        if processors > 0 {
            // SAFETY: the caller passes so many bytes.
            unsafe { initialize(rundown, processors) };
        }
    }

    /// Frees what ExAllocateCacheAwareRundownProtection has allocated. Nobody may hold it.
    max_irql = APC_LEVEL;
    pub unsafe fn ExFreeCacheAwareRundownProtection(rundown: PEX_RUNDOWN_REF_CACHE_AWARE) {
        // SAFETY: the caller passes rundown protection that was allocated here, so its memory was.
        unsafe { pool::free(rundown as *mut _, 0) };
    }

    /// Acquires it; false once the rundown has begun.
    simplified = "with the verifier one word for all processors";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ExAcquireRundownProtectionCacheAware(
        rundown: PEX_RUNDOWN_REF_CACHE_AWARE,
    ) -> bool {
        // SAFETY: the caller passes rundown protection.
        let rundown = unsafe { CacheAware::at(rundown) };
        if verifier::is_off() {
            return rundown.acquire();
        }
        kernel::state().rundowns.acquire(rundown.address, &rundown.head.plain)
    }

    /// Gives it back; also on another processor.
    simplified = "with the verifier one word for all processors";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ExReleaseRundownProtectionCacheAware(rundown: PEX_RUNDOWN_REF_CACHE_AWARE) {
        // SAFETY: the caller passes rundown protection that it holds.
        let rundown = unsafe { CacheAware::at(rundown) };
        if verifier::is_off() {
            return rundown.release();
        }
        release_or_report(rundown.address, &rundown.head.plain);
    }

    /// Lets nobody acquire it any more and waits until nobody holds it.
    max_irql = APC_LEVEL;
    pub unsafe fn ExWaitForRundownProtectionReleaseCacheAware(
        rundown: PEX_RUNDOWN_REF_CACHE_AWARE,
    ) {
        // SAFETY: the caller passes rundown protection.
        let rundown = unsafe { CacheAware::at(rundown) };
        if verifier::is_off() {
            return rundown.end();
        }
        kernel::state().rundowns.end(rundown.address, &rundown.head.plain);
    }

    /// Makes it acquirable again after a completed rundown.
    max_irql = APC_LEVEL;
    pub unsafe fn ExReInitializeRundownProtectionCacheAware(
        rundown: PEX_RUNDOWN_REF_CACHE_AWARE,
    ) {
        // SAFETY: the caller passes rundown protection.
        let rundown = unsafe { CacheAware::at(rundown) };
        if verifier::is_off() {
            return rundown.set(0);
        }
        kernel::state().rundowns.reinitialize(rundown.address, &rundown.head.plain);
    }

    /// Says that the rundown is over, for good.
    max_irql = APC_LEVEL;
    pub unsafe fn ExRundownCompletedCacheAware(rundown: PEX_RUNDOWN_REF_CACHE_AWARE) {
        // SAFETY: the caller passes rundown protection.
        let rundown = unsafe { CacheAware::at(rundown) };
        if verifier::is_off() {
            return rundown.set(ENDED);
        }
        kernel::state().rundowns.complete(rundown.address, &rundown.head.plain);
    }
}
