// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lies where in the two pieces of memory.

use crate::memory::Shared;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{RecordHeader, record_size};
use fltport_abi::limits::{MAX_PAYLOAD, MAX_RING, MIN_RING};

/// The first four bytes of the data: `FPRG`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"FPRG");

/// The version of this layout.
pub const VERSION: u32 = 1;

/// The most rings: one for each processor of the largest machine that NT runs on.
pub const MAX_RINGS: u32 = 2048;

/// The least bytes of a ring: the largest record fits.
const MIN_CAPACITY: u32 = MIN_RING;
const _: () = assert!(stride(record_size(MAX_PAYLOAD)) <= MIN_CAPACITY as usize);

/// The most bytes of a ring.
const MAX_CAPACITY: u32 = MAX_RING;

/// Bytes between words that different processors write: two cache lines, because processors fetch
/// lines in pairs.
pub const DATA_LINE: usize = 128;
/// As [`DATA_LINE`], in the consumer's memory.
pub const CONSUMER_LINE: usize = 128;

/// Records begin at multiples of this, so no header is cut in two by the end of a ring or by the end of a
/// cache line.
const ALIGNMENT: usize = RecordHeader::SIZE;
const _: () = assert!(ALIGNMENT.is_power_of_two());

/// Bytes between words that different processors write in the kernel's own memory, wherever that lies: pool memory is not aligned to lines.
pub(crate) const APART: usize = 128;

const PAGE: usize = 4096;

/// Bytes of a ring that a record of this size takes.
#[must_use]
pub const fn stride(size: usize) -> usize {
    size.next_multiple_of(ALIGNMENT)
}

fltport_abi::fixed! {
    /// The start of the data.
    pub struct ShapeHeader: 32 {
        /// [`MAGIC`].
        pub magic: u32,
        /// [`VERSION`].
        pub version: u32,
        /// How many rings there are.
        pub rings: u32,
        /// Bytes of each, a power of two.
        pub capacity: u32,
        /// Where in the data the word of the first ring lies that says up to where it is filled; those of the others follow,
        /// each [`DATA_LINE`] bytes further.
        pub published: u32,
        /// Where in the data the first ring lies; the others follow.
        pub first: u32,
        /// Where in the consumer's memory the word of the first ring lies that says up to where it has been read; those of
        /// the others follow, each [`CONSUMER_LINE`] bytes further. The bell lies at the very start.
        pub consumed: u32,
        /// 0.
        pub reserved: u32,
    }
}

/// How many rings there are, and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    rings: u32,
    capacity: u32,
}

impl Shape {
    /// So many rings of so many bytes, rounded up to a power of two of at least 64 KiB and at most 16 MiB; `None` for no
    /// ring, for more than [`MAX_RINGS`], or for more than 2 GiB in all.
    #[must_use]
    pub fn new(rings: u32, capacity: u32) -> Option<Shape> {
        let capacity = capacity
            .clamp(MIN_CAPACITY, MAX_CAPACITY)
            .next_power_of_two();
        Self::exact(rings, capacity)
    }

    fn exact(rings: u32, capacity: u32) -> Option<Shape> {
        let in_all = u64::from(rings) * u64::from(capacity);
        let possible = (1..=MAX_RINGS).contains(&rings) && in_all <= 1 << 31;
        possible.then_some(Shape { rings, capacity })
    }

    /// Rings of fewer bytes than shipped ones have, for tests that want them full and to wrap.
    #[cfg(all(test, loom))]
    pub(crate) fn tiny(rings: u32, capacity: u32) -> Shape {
        assert!(capacity.is_power_of_two() && capacity as usize >= ALIGNMENT);
        Shape { rings, capacity }
    }

    /// What the data says of itself; `None` if that is not a shape of this version, or these are not bytes
    /// of one.
    #[must_use]
    pub fn read(header: &[u8]) -> Option<Shape> {
        let header = ShapeHeader::read(header)?;
        let sound = header.capacity.is_power_of_two()
            && (MIN_CAPACITY..=MAX_CAPACITY).contains(&header.capacity);
        let shape = Self::exact(header.rings, header.capacity).filter(|_| sound)?;
        (shape.header() == header).then_some(shape)
    }

    /// What this data says of itself, if there is as much of it as it says.
    #[must_use]
    pub fn of(data: &Shared) -> Option<Shape> {
        let mut header = [0; ShapeHeader::SIZE];
        if data.length() < header.len() {
            return None;
        }
        data.copy_out(0, &mut header);
        Self::read(&header).filter(|shape| shape.data_size() <= data.length())
    }

    /// What the data begins with.
    #[must_use]
    pub fn header(&self) -> ShapeHeader {
        ShapeHeader {
            magic: MAGIC,
            version: VERSION,
            rings: self.rings,
            capacity: self.capacity,
            published: self.published(0) as u32,
            first: self.ring(0) as u32,
            consumed: self.consumed(0) as u32,
            reserved: 0,
        }
    }

    /// How many rings there are.
    #[must_use]
    #[inline]
    pub fn rings(&self) -> usize {
        self.rings as usize
    }

    /// Bytes of each ring, a power of two.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// How many records a ring holds at most.
    #[must_use]
    pub fn records(&self) -> usize {
        self.capacity() / ALIGNMENT
    }

    /// Bytes of the data.
    #[must_use]
    pub fn data_size(&self) -> usize {
        self.ring(self.rings())
    }

    /// Bytes of the consumer's memory.
    #[must_use]
    pub fn consumer_size(&self) -> usize {
        self.consumed(self.rings()).next_multiple_of(PAGE)
    }

    /// Where in the data the word lies that says up to where a ring is filled.
    #[inline]
    pub(crate) fn published(&self, ring: usize) -> usize {
        DATA_LINE * (1 + ring)
    }

    /// Where in the data a ring lies.
    #[inline]
    pub(crate) fn ring(&self, ring: usize) -> usize {
        let words = self.published(self.rings()).next_multiple_of(PAGE);
        words + ring * self.capacity()
    }

    /// Where in the consumer's memory the word lies that says up to where a ring has been read.
    #[inline]
    pub(crate) fn consumed(&self, ring: usize) -> usize {
        CONSUMER_LINE * (1 + ring)
    }
}
