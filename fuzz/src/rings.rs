// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of a connection's rings, in which an enemy can write what it likes between two steps.

use fltport_abi::fixed::Fixed;
use fltport_ring::{Account, Consumer, Cursor, LogEntry, Producer, Settler, Shape, Shared};
use fltport_ring::{CONSUMER_LINE, DATA_LINE, ShapeHeader};
use std::ptr::NonNull;
use std::sync::Arc;

/// The kernel's account of one ring.
pub type Ours = Arc<Account<Vec<LogEntry>>>;

/// What lies in front of a piece of memory and behind it, and stays what it is.
const GUARD: u64 = 0x5bad_5bad_5bad_5bad;
/// How many words of it.
const GUARDS: usize = 16;

/// One piece of memory.
pub struct Region {
    words: Vec<u64>,
    /// Bytes between the guards.
    length: usize,
}

impl Region {
    fn new(length: usize) -> Self {
        // Zero at once, without a look at it: most inputs use little of it.
        let mut words = vec![0; length / 8 + 2 * GUARDS];
        let (front, rest) = words.split_at_mut(GUARDS);
        front.fill(GUARD);
        rest[length / 8..].fill(GUARD);
        Region { words, length }
    }

    fn base(&self) -> *mut u8 {
        let words = self.words.as_ptr().cast_mut();
        words.wrapping_add(GUARDS).cast()
    }

    fn shared(&mut self) -> Shared {
        self.words.as_mut_ptr();
        let base = NonNull::new(self.base()).unwrap();
        // SAFETY: the vector is never resized, and outlives what is made of this within one input; all other access is by the
        // methods below, in the same thread and between the steps of whoever has this.
        unsafe { Shared::new(base, self.length) }
    }

    /// How many bytes it has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The byte there.
    pub fn byte(&self, at: usize) -> u8 {
        assert!(at < self.length);
        // SAFETY: within the memory.
        let place = unsafe { self.base().add(at) };
        // SAFETY: nobody writes at the same time.
        unsafe { place.read_volatile() }
    }

    /// Writes the byte there.
    pub fn set_byte(&self, at: usize, byte: u8) {
        assert!(at < self.length);
        // SAFETY: within the memory.
        let place = unsafe { self.base().add(at) };
        // SAFETY: nobody reads at the same time, and nobody refers to it.
        unsafe { place.write_volatile(byte) }
    }

    /// The word there.
    pub fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|byte| self.byte(at + byte)))
    }

    /// Writes the word there.
    pub fn set_word(&self, at: usize, word: u64) {
        for (byte, value) in word.to_le_bytes().into_iter().enumerate() {
            self.set_byte(at + byte, value);
        }
    }

    /// What lies there.
    pub fn copy(&self, at: usize, length: usize) -> Vec<u8> {
        assert!(at <= self.length && length <= self.length - at);
        let mut bytes = vec![0; length];
        // SAFETY: within the memory; nobody writes at the same time.
        let from = unsafe { self.base().add(at) };
        // SAFETY: as above; and both are of this length.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), length) };
        bytes
    }

    /// Whether what lies around it is as it was.
    pub fn is_guarded(&self) -> bool {
        let behind = GUARDS + self.length / 8;
        let guards = self.words[..GUARDS].iter().chain(&self.words[behind..]);
        guards.into_iter().all(|word| *word == GUARD)
    }
}

/// The memory of a connection.
pub struct Memory {
    /// What lies where.
    pub shape: Shape,
    /// The kernel's.
    pub data: Region,
    /// What the service may write.
    pub words: Region,
    halves: [Shared; 2],
}

impl Memory {
    /// That of so many rings of the least size.
    pub fn new(rings: u32) -> Self {
        let shape = Shape::new(rings, 0).unwrap();
        let mut data = Region::new(shape.data_size());
        let mut words = Region::new(shape.consumer_size());
        let mut header = [0; ShapeHeader::SIZE];
        shape.header().write(&mut header).unwrap();
        for (at, byte) in header.into_iter().enumerate() {
            data.set_byte(at, byte);
        }
        let halves = [data.shared(), words.shared()];
        Memory {
            shape,
            data,
            words,
            halves,
        }
    }

    /// The data, as its users have it.
    pub fn shared_data(&self) -> &Shared {
        &self.halves[0]
    }

    /// The service's memory, as its users have it.
    pub fn shared_words(&self) -> &Shared {
        &self.halves[1]
    }

    /// The kernel's side of a ring.
    pub fn kernel(&self, ring: usize) -> (Producer<Ours>, Settler<Ours>) {
        let places = (0..self.shape.records()).map(|_| LogEntry::new());
        let account = Arc::new(Account::new(places.collect()));
        let [data, words] = &self.halves;
        Producer::new(self.shape, ring, data, words, account).unwrap()
    }

    /// A service's side of all rings.
    pub fn service(&self) -> Consumer<Vec<Cursor>> {
        let cursors = vec![Cursor::default(); self.shape.rings()];
        let [data, words] = &self.halves;
        Consumer::new(self.shape, data, words, cursors).unwrap()
    }

    /// Where in the data the word lies up to where a ring is filled.
    pub fn published(&self, ring: usize) -> usize {
        self.shape.header().published as usize + ring * DATA_LINE
    }

    /// Where in the data a position of a ring lies.
    pub fn place(&self, ring: usize, position: u64) -> usize {
        let capacity = self.shape.capacity();
        let first = self.shape.header().first as usize;
        first + ring * capacity + position as usize % capacity
    }

    /// What lies at a position of a ring, and behind the ring's end at its start.
    pub fn copy(&self, ring: usize, position: u64, length: usize) -> Vec<u8> {
        let capacity = self.shape.capacity();
        let before_end = length.min(capacity - position as usize % capacity);
        let mut bytes = self.data.copy(self.place(ring, position), before_end);
        bytes.extend(self.data.copy(self.place(ring, 0), length - before_end));
        bytes
    }

    /// Where in the service's memory the word lies up to where a ring was read.
    pub fn consumed(&self, ring: usize) -> usize {
        self.shape.header().consumed as usize + ring * CONSUMER_LINE
    }
}
