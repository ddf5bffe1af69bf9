// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of one allocation: between guards, or on pages of its own.

use std::alloc::Layout;
use std::ops::Range;
use std::ptr::NonNull;

use crate::ex::special_pool::{About, Extent, SpecialPool};
use crate::stack::Stack;

/// Guard bytes behind each allocation, and as many that are looked at in front of it.
const GUARD_SIZE: usize = 16;

const GUARD: u8 = 0xA5;
const FRONT_GUARD: u8 = 0x5A;
const FREED: u8 = 0xDD;

/// As large as this, memory always gets pages of its own: they need not be filled when they are
/// freed, nor looked at later, because nobody can touch them.
const LARGE: usize = 64 * 1024;

/// The memory of one allocation.
pub(super) struct Block {
    home: Home,
    size: usize,
}

enum Home {
    /// The host system's allocator: front guard, the driver's bytes, guard. The front guard is as
    /// long as the alignment asks for, so that the driver's bytes keep it.
    Heap {
        base: NonNull<u8>,
        layout: Layout,
        front: usize,
    },
    /// The special pool.
    Pages { extent: Extent, start: NonNull<u8> },
}

// SAFETY: a Block is the only owner of its memory as far as the hosted kernel is concerned; what
// drivers do with it is theirs.
unsafe impl Send for Block {}

impl Block {
    /// Memory whose bytes are `fill`; none if there is none left.
    pub(super) fn new(special: SpecialPool, size: usize, align: usize, fill: u8) -> Option<Block> {
        let special = match special {
            SpecialPool::Off if size >= LARGE => SpecialPool::Overruns,
            special => special,
        };
        Block::on_pages(special, size, align, fill).or_else(|| Block::on_heap(size, align, fill))
    }

    fn on_pages(special: SpecialPool, size: usize, align: usize, fill: u8) -> Option<Block> {
        let extent = Extent::new(special, size, align, fill)?;
        let start = extent.start()?;
        let home = Home::Pages { extent, start };
        Some(Block { home, size })
    }

    fn on_heap(size: usize, align: usize, fill: u8) -> Option<Block> {
        let front = align.max(GUARD_SIZE);
        let whole = size.checked_add(front)?.checked_add(GUARD_SIZE)?;
        let layout = Layout::from_size_align(whole, align).ok()?;
        // SAFETY: the layout is not empty, the guards see to that.
        let base = NonNull::new(unsafe { std::alloc::alloc(layout) })?;
        write(base, 0..front, FRONT_GUARD);
        write(base, front..front + size, fill);
        write(base, front + size..whole, GUARD);
        let home = Home::Heap {
            base,
            layout,
            front,
        };
        Some(Block { home, size })
    }

    /// Where the driver's bytes begin.
    pub(super) fn start(&self) -> NonNull<u8> {
        match &self.home {
            // SAFETY: the front guard is a part of the layout.
            Home::Heap { base, front, .. } => unsafe { base.add(*front) },
            Home::Pages { start, .. } => *start,
        }
    }

    /// How many bytes the driver has.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The address of the driver's bytes.
    pub(super) fn address(&self) -> usize {
        self.start().as_ptr() as usize
    }

    /// The driver's bytes.
    pub(super) fn range(&self) -> Range<usize> {
        self.address()..self.address() + self.size
    }

    /// Says whose memory it is, for the reports of the special pool.
    pub(super) fn describe(&self, about: impl FnOnce() -> About) {
        if let Home::Pages { extent, .. } = &self.home {
            extent.describe(about());
        }
    }

    /// What becomes of the memory when it is freed at `stack`.
    pub(super) fn retire(&self, stack: &Stack) {
        match &self.home {
            Home::Heap { base, front, .. } => write(*base, *front..*front + self.size, FREED),
            Home::Pages { extent, .. } => extent.retire(stack.clone()),
        }
    }

    /// Leaves the memory to whoever may still use it. It is never used again.
    pub(super) fn leave(self) {
        match &self.home {
            Home::Heap { .. } => {}
            Home::Pages { extent, .. } => extent.leave(),
        }
        std::mem::forget(self);
    }

    /// How far behind the end of the driver's bytes something was written.
    pub(super) fn overrun(&self) -> Option<usize> {
        match &self.home {
            Home::Heap { base, front, .. } => {
                let end = front + self.size;
                first_other(*base, end..end + GUARD_SIZE, GUARD).map(|written| written - end)
            }
            Home::Pages { extent, .. } => {
                let offset = usize::try_from(extent.written_outside()?).ok()?;
                Some(offset.saturating_sub(self.size))
            }
        }
    }

    /// How far in front of the driver's bytes something was written, the byte next to them being 1.
    pub(super) fn underrun(&self) -> Option<usize> {
        match &self.home {
            Home::Heap { base, front, .. } => {
                let looked_at = front - GUARD_SIZE..*front;
                first_other(*base, looked_at, FRONT_GUARD).map(|written| front - written)
            }
            Home::Pages { extent, .. } => {
                let offset = extent.written_outside()?;
                (offset < 0).then_some(offset.unsigned_abs())
            }
        }
    }

    /// The first of the driver's bytes that was written after the free. Freed pages are closed:
    /// nobody can have written there.
    pub(super) fn written_after_free(&self) -> Option<usize> {
        let Home::Heap { base, front, .. } = &self.home else {
            return None;
        };
        first_other(*base, *front..*front + self.size, FREED).map(|written| written - front)
    }

    /// How many bytes it costs to keep it after the free.
    pub(super) fn kept_bytes(&self) -> usize {
        match &self.home {
            Home::Heap { .. } => self.size,
            // Only addresses.
            Home::Pages { .. } => 0,
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Home::Heap { base, layout, .. } = &self.home {
            // SAFETY: allocated with this layout, and freed here only.
            unsafe { std::alloc::dealloc(base.as_ptr(), *layout) };
        }
    }
}

/// Fills a range of a block, counted from its base.
fn write(base: NonNull<u8>, range: Range<usize>, byte: u8) {
    // SAFETY: the callers pass ranges within the block.
    let start = unsafe { base.add(range.start) };
    // SAFETY: as above.
    unsafe { start.write_bytes(byte, range.len()) };
}

/// The first byte in a range, counted from the base, that is not `byte`.
fn first_other(base: NonNull<u8>, range: Range<usize>, byte: u8) -> Option<usize> {
    const CHUNK: usize = 64;
    // SAFETY: the callers pass ranges within the block.
    let start = unsafe { base.add(range.start) };
    // SAFETY: the bytes were all written by `write`; a driver that writes there at this moment
    // makes the mistake that is looked for.
    let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), range.len()) };
    // Whole chunks are compared at once.
    let differs = |chunk: &&[u8]| chunk.iter().fold(0, |all, it| all | (it ^ byte)) != 0;
    let at = bytes.chunks(CHUNK).position(|chunk| differs(&chunk))? * CHUNK;
    let within = bytes.get(at..)?.iter().position(|it| *it != byte)?;
    Some(range.start + at + within)
}
