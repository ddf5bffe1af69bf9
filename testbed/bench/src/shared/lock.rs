// SPDX-License-Identifier: MIT OR Apache-2.0

//! A test-and-set lock, as a kernel's spin lock is one.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::yield_now;

use super::memory::Shareable;

/// How often one looks before one lets others run: a kernel's lock is held by somebody who runs, ours
/// perhaps by somebody who was interrupted.
const LOOKS: u32 = 1000;

#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct SpinLock {
    held: AtomicU32,
}

// SAFETY: an atomic.
unsafe impl Shareable for SpinLock {}

/// Given back when it is dropped.
#[must_use]
pub(crate) struct Held<'a>(&'a SpinLock);

impl SpinLock {
    #[inline]
    pub(crate) fn acquire(&self) -> Held<'_> {
        while self.held.swap(1, Ordering::Acquire) != 0 {
            let mut looks = 0;
            while self.held.load(Ordering::Relaxed) != 0 {
                looks += 1;
                if looks % LOOKS == 0 {
                    yield_now();
                }
                spin_loop();
            }
        }
        Held(self)
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.held.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_at_a_time() {
        let lock = SpinLock::default();
        let count = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let _held = lock.acquire();
                        let seen = count.load(Ordering::Relaxed);
                        count.store(seen + 1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 20_000);
    }
}
