// SPDX-License-Identifier: MIT OR Apache-2.0
//! A gate for each processor, and what is behind it.
//!
//! Work that every processor does often, on data of its own, and that somebody must now and then be certain not to
//! meet: whoever does it is inside his processor's gate meanwhile, which costs a lock that nobody
//! else takes; and whoever must not meet anybody passes through all gates once. (What others call a big-reader lock, or
//! read-copy-update with a lock for each reader.)

use super::{AtDispatch, processor_count};
use crate::ex::{PoolSlice, Tag};
use crate::linked::{KeAcquireSpinLockAtDpcLevel, KeReleaseSpinLockFromDpcLevel};
use crate::status::Result;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};

/// Bytes between what different processors write, wherever it lies: pool memory is not aligned to cache lines, and
/// processors fetch these in pairs.
const APART: usize = 128;

/// Something with nothing of another processor's beside it.
pub struct Apart<T> {
    _before: [u8; APART],
    /// It.
    pub value: T,
    _behind: [u8; APART],
}

impl<T> Apart<T> {
    /// IRQL: any.
    pub const fn new(value: T) -> Self {
        Apart {
            _before: [0; APART],
            value,
            _behind: [0; APART],
        }
    }
}

/// Processors that have a gate. Those beyond do without what is behind it.
pub const MAX_GATES: usize = 256;

#[repr(align(128))]
struct Gate(UnsafeCell<usize>);

/// The gates of all processors, in a static: as long as the image is there, somebody may go in.
pub struct Gates([Gate; MAX_GATES]);

// SAFETY: the lock words are used by NT's functions only.
unsafe impl Sync for Gates {}

impl Gates {
    /// IRQL: any. (A KSPIN_LOCK is free when it is zero.)
    #[allow(clippy::new_without_default, reason = "there is one, in a static")]
    pub const fn new() -> Self {
        Gates([const { Gate(UnsafeCell::new(0)) }; MAX_GATES])
    }

    /// IRQL: DISPATCH_LEVEL, as `at` proves. Goes in at this processor's gate; `None` on a processor that has none. Nobody
    /// goes in twice, and nobody who is inside waits for anything.
    #[inline]
    pub fn enter<'a>(&'a self, at: &'a AtDispatch) -> Option<Inside<'a>> {
        let processor = at.processor();
        let gate = self.0.get(processor as usize)?;
        // SAFETY: an initialised word in non-paged memory; DISPATCH_LEVEL as long as `at` lives.
        unsafe { KeAcquireSpinLockAtDpcLevel(gate.0.get()) };
        Some(Inside {
            gate: gate.0.get(),
            gates: self,
            processor,
            not_send: PhantomData,
        })
    }

    /// IRQL: DISPATCH_LEVEL, as `_at` proves, and not inside. Returns when everybody has left who was inside any gate when this was called.
    pub fn pass_through_all(&self, _at: &AtDispatch) {
        for gate in self.0.iter().take(processor_count() as usize) {
            // SAFETY: as in `enter`.
            unsafe { KeAcquireSpinLockAtDpcLevel(gate.0.get()) };
            // SAFETY: acquired just now.
            unsafe { KeReleaseSpinLockFromDpcLevel(gate.0.get()) };
        }
    }
}

/// Somebody inside a processor's gate.
pub struct Inside<'a> {
    gate: *mut usize,
    gates: &'a Gates,
    processor: u32,
    /// The processor is this thread's.
    not_send: PhantomData<*const ()>,
}

/// Proof that somebody is inside a gate: what is open to all can be read.
#[derive(Clone, Copy)]
pub struct Reading<'a>(&'a Gates);

/// Proof that nobody else is inside this processor's gate: what is this processor's can be used.
pub struct Here<'a> {
    gates: &'a Gates,
    processor: u32,
}

impl Inside<'_> {
    /// IRQL: DISPATCH_LEVEL. What being inside is good for.
    #[inline]
    pub fn split(&mut self) -> (Reading<'_>, Here<'_>) {
        let here = Here {
            gates: self.gates,
            processor: self.processor,
        };
        (Reading(self.gates), here)
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: acquired by `enter`; guards are dropped in reverse order, so this is still DISPATCH_LEVEL.
        unsafe { KeReleaseSpinLockFromDpcLevel(self.gate) };
    }
}

impl Here<'_> {
    /// IRQL: DISPATCH_LEVEL. The processor.
    #[inline]
    pub fn processor(&self) -> u32 {
        self.processor
    }
}

/// Something for each processor, that is used inside its gate.
pub struct PerProcessor<T> {
    values: PoolSlice<Apart<UnsafeCell<T>>>,
    /// The gates that it belongs to.
    gates: &'static Gates,
}

// SAFETY: each value is used by one thread at a time, inside its processor's gate.
unsafe impl<T: Send> Send for PerProcessor<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for PerProcessor<T> {}

impl<T> PerProcessor<T> {
    /// IRQL: <= DISPATCH_LEVEL. A value for each of the first so many of these gates.
    pub fn new(
        tag: Tag,
        gates: &'static Gates,
        processors: u32,
        mut value: impl FnMut() -> T,
    ) -> Result<Self> {
        let make = || Apart::new(UnsafeCell::new(value()));
        Ok(PerProcessor {
            values: PoolSlice::filled_with(tag, processors as usize, make)?,
            gates,
        })
    }

    /// IRQL: DISPATCH_LEVEL. This processor's. `None` for somebody inside other gates.
    #[inline]
    pub fn get<'a>(&'a self, here: &'a mut Here<'_>) -> Option<&'a mut T> {
        if !core::ptr::eq(self.gates, here.gates) {
            return None;
        }
        let value = self.values.get(here.processor as usize)?.value.get();
        // SAFETY: one thread at a time is inside this processor's gate, and it borrows that for as long as it has this.
        Some(unsafe { &mut *value })
    }

    /// Each one, for its owner.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut().map(|value| value.value.get_mut())
    }
}

/// Something in a static that many read inside their gates while it is open, and its [`GatedOwner`] changes while it is
/// closed.
pub struct Gated<T: 'static> {
    gates: &'static Gates,
    open: AtomicBool,
    owned: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: it is read by many while it is open, and changed by one while it is not and nobody reads it.
unsafe impl<T: Send + Sync> Sync for Gated<T> {}

impl<T> Gated<T> {
    /// IRQL: any. Closed, behind these gates.
    pub const fn new(gates: &'static Gates, value: T) -> Self {
        Gated {
            gates,
            open: AtomicBool::new(false),
            owned: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// IRQL: any. The gates behind which it is.
    #[inline]
    pub fn gates(&self) -> &'static Gates {
        self.gates
    }

    /// IRQL: DISPATCH_LEVEL. For who is inside one of these gates: the value, if it is open.
    #[inline]
    pub fn read<'a>(&'a self, reading: Reading<'a>) -> Option<&'a T> {
        // Acquire: what was changed while it was closed is there.
        if !core::ptr::eq(self.gates, reading.0) || !self.open.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: open, and whoever closes it passes through this gate before he changes anything.
        Some(unsafe { &*self.value.get() })
    }

    /// IRQL: any. Its owner, who has not been given out or is gone.
    pub fn owner(&'static self) -> Option<GatedOwner<T>> {
        // Acquire: what the former owner did is done.
        let taken = self.owned.swap(true, Ordering::Acquire);
        (!taken).then_some(GatedOwner(self))
    }
}

/// The only one who closes, changes and opens a [`Gated`]. Closed before it is dropped.
pub struct GatedOwner<T: 'static>(&'static Gated<T>);

impl<T> GatedOwner<T> {
    /// IRQL: any. Whether it is open.
    pub fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Relaxed)
    }

    /// IRQL: <= DISPATCH_LEVEL, not inside a gate. Closes it, unless it is closed, waits until nobody reads it any more, and
    /// has it changed. It stays closed.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        if self.is_open() {
            self.0.open.store(false, Ordering::Relaxed);
            let at = AtDispatch::raise();
            // Who comes in behind this finds it closed: the lock of his gate was released after that was written.
            self.0.gates.pass_through_all(&at);
        }
        // SAFETY: closed, and nobody who found it open is inside any more; `self` is the only owner.
        change(unsafe { &mut *self.0.value.get() })
    }

    /// IRQL: any. It can be read from now on.
    pub fn open(&mut self) {
        // Release: what was changed is there.
        self.0.open.store(true, Ordering::Release);
    }
}

impl<T> Drop for GatedOwner<T> {
    fn drop(&mut self) {
        self.change(|_| ());
        self.0.owned.store(false, Ordering::Release);
    }
}
