// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rings that lie in views of a driver's memory.

use super::View;
use fltport_ring::{Consumer, Corrupt, Cursor, Front, Shape, Shared};

/// The consumer of a connection's rings, and the memory that it reads.
#[derive(Debug)]
pub(crate) struct MappedRings {
    // First, so that it is dropped before the memory.
    consumer: Consumer<Box<[Cursor]>>,
    shape: Shape,
    _data: View,
    _words: View,
}

/// The memory of a view.
fn memory(view: &View) -> Option<Shared> {
    let base = view.address();
    if !base.addr().get().is_multiple_of(8) {
        return None;
    }
    // SAFETY: mapped until the view is dropped, which is after what is made of this here; that of the consumer's words,
    // the only one that is written, is writable. Nobody else uses it in this process.
    Some(unsafe { Shared::new(base, view.len()) })
}

impl MappedRings {
    /// The rings whose data and consumer's words are in these views; the second of which can be written. `None` if that is not what they
    /// hold.
    pub(crate) fn new(data: View, words: View) -> Option<Self> {
        let shared = memory(&data)?;
        let shape = Shape::of(&shared)?;
        let cursors = vec![Cursor::default(); shape.rings()].into_boxed_slice();
        let consumer = Consumer::new(shape, &shared, &memory(&words)?, cursors)?;
        Some(MappedRings {
            consumer,
            shape,
            _data: data,
            _words: words,
        })
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// See [`Consumer::front`]; so with those below.
    #[inline]
    pub(crate) fn front(&mut self, number: u64) -> Result<Front, Corrupt> {
        self.consumer.front(number)
    }

    #[inline]
    pub(crate) fn fill(&mut self, next: u64, out: &mut [u8]) -> Result<(u32, usize, u64), Corrupt> {
        self.consumer.fill(next, out)
    }

    #[inline]
    pub(crate) fn take(&mut self, out: &mut [u8]) -> Result<Option<(usize, u64)>, Corrupt> {
        self.consumer.take(out)
    }

    pub(crate) fn pass_over(&mut self, number: u64) -> Result<u32, Corrupt> {
        self.consumer.pass_over(number)
    }

    pub(crate) fn release(&mut self) {
        self.consumer.release();
    }

    pub(crate) fn arm(&mut self) -> bool {
        self.consumer.arm()
    }

    pub(crate) fn disarm(&self) {
        self.consumer.disarm();
    }
}
