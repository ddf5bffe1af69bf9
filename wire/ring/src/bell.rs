// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a consumer sleeps, and who wakes it.
//!
//! Two rings of this kind have been shipped with wake-ups that were lost. One looked, before it slept,
//! at a word that moved before the record was complete: it missed the completion. The other one armed and
//! looked without a fence: the processor may look first. So the consumer looks at the word that is
//! written last, and both sides have a full fence between their store and their load.

use crate::memory::{Ordering, Shared, fence};

/// The value of the word while the consumer sleeps, or is about to.
const ARMED: u32 = 1;

/// The bell of one connection: the first word of the consumer's memory, for all its rings.
#[derive(Clone, Debug)]
pub struct Bell(Shared);

/// A full fence behind what this thread has published, in one ring or in those of several connections: their bells come behind it.
#[derive(Debug)]
pub struct Published(());

impl Published {
    /// IRQL: any. The fence. Only for this thread, and only for what it has published before.
    #[must_use]
    #[inline]
    pub fn fence() -> Self {
        fence(Ordering::SeqCst);
        Published(())
    }
}

impl Bell {
    /// IRQL: any. That in this memory of a consumer.
    #[must_use]
    #[inline]
    pub fn new(consumer: &Shared) -> Self {
        Bell(consumer.clone())
    }

    /// IRQL: any. For producers, behind what they have published: whether the consumer sleeps and is to be
    /// woken, by the caller and nobody else.
    ///
    /// The consumer may write anything here. So this says nothing but whether to signal an event once more.
    #[must_use]
    #[inline]
    pub fn is_to_ring(&self) -> bool {
        self.is_to_ring_behind(&Published::fence())
    }

    /// IRQL: any. As [`Bell::is_to_ring`], where one fence is behind records for several connections: it orders all that was
    /// stored before it against all bells that are looked at behind it.
    #[must_use]
    #[inline]
    pub fn is_to_ring_behind(&self, _behind: &Published) -> bool {
        let word = self.0.half_word(0);
        // Relaxed: the fences on both sides make the order. Where it is written both sides swap, so that it is
        // certain which of them came last.
        word.load(Ordering::Relaxed) == ARMED && word.swap(0, Ordering::AcqRel) == ARMED
    }

    /// For the consumer: says that it is about to sleep. Before it does it must look at what producers
    /// publish last.
    #[inline]
    pub(crate) fn arm(&self) {
        self.0.half_word(0).swap(ARMED, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// For the consumer: says that it is awake. A signal may be on its way already.
    #[inline]
    pub(crate) fn disarm(&self) {
        self.0.half_word(0).swap(0, Ordering::AcqRel);
    }
}
