// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many own a shared value.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicUsize, Ordering, fence};
#[cfg(loom)]
use loom::sync::atomic::{AtomicUsize, Ordering, fence};

/// The number of owners.
pub(super) struct Owners(AtomicUsize);

impl Owners {
    /// The first one.
    pub(super) fn one() -> Self {
        Owners(AtomicUsize::new(1))
    }

    /// An owner makes another one.
    pub(super) fn add(&self) {
        // Relaxed: a new owner comes from an old one, which keeps the value alive; nothing is
        // published by counting.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// An owner goes. True if it was the last: then everything that any of them did to the value
    /// has happened before, and the value is the caller's alone.
    pub(super) fn remove(&self) -> bool {
        // Release: what this owner did to the value happens before the drop by the last owner,
        // whose acquire fence pairs with it.
        let was_last = self.0.fetch_sub(1, Ordering::Release) == 1;
        if was_last {
            fence(Ordering::Acquire);
        }
        was_last
    }
}

#[cfg(loom)]
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a model is a test")]
mod models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    struct Shared {
        owners: Owners,
        value: UnsafeCell<u32>,
    }

    impl Shared {
        /// What an owner does in its life; whether it dropped the value.
        fn used_and_left(&self) -> bool {
            // SAFETY: the value is dropped by the last owner, and this one has not gone yet. (loom
            // says so if it is not true.)
            let seen = self.value.with(|value| unsafe { *value });
            assert_eq!(seen, 7, "used after it was dropped");
            if !self.owners.remove() {
                return false;
            }
            // SAFETY: nobody else owns it. (loom says so if it is not true.)
            self.value.with_mut(|value| unsafe { *value = 0 });
            true
        }
    }

    #[test]
    fn the_last_owner_drops_the_value_and_nobody_uses_it_then() {
        loom::model(|| {
            let shared = Arc::new(Shared {
                owners: Owners::one(),
                value: UnsafeCell::new(7),
            });
            shared.owners.add();
            let (first, second) = (shared.clone(), shared.clone());
            let first = thread::spawn(move || {
                first.owners.add();
                let again = first.used_and_left();
                usize::from(again) + usize::from(first.used_and_left())
            });
            let second = thread::spawn(move || usize::from(second.used_and_left()));
            let dropped = first.join().unwrap() + second.join().unwrap();
            assert_eq!(dropped, 1);
        });
    }
}
