// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rings of a fake driver's connection. The test says what goes into them, and what number it has.

use fltport_abi::command::{RingsRow, RingsWanted};
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::RecordHeader;
use fltport_ring::{Account, Bell, LogEntry, Producer, Settler, Shape, Shared};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Memory of this process that the service maps as well.
struct Memory {
    file: File,
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: shared memory belongs to no thread, and nothing of it is given out by reference.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(length: usize) -> Memory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fltport-rings-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&path);
        let file = file.unwrap();
        std::fs::remove_file(path).unwrap();
        file.set_len(length as u64).unwrap();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the system likes, of a file that keeps its size.
        let base = unsafe { mmap(null_mut(), length, protection, MapFlags::SHARED, &file, 0) };
        let base = NonNull::new(base.unwrap().cast()).unwrap();
        Memory { file, base, length }
    }

    fn shared(&self) -> Shared {
        // SAFETY: mapped as long as this is, which is dropped after what is made of it here.
        unsafe { Shared::new(self.base, self.length) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, unmapped once.
        let _unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
    }
}

type Ours = Arc<Account<Vec<LogEntry>>>;

/// See the module.
pub(crate) struct FakeRings {
    /// What the driver has of each ring.
    sides: Mutex<Vec<(Producer<Ours>, Settler<Ours>)>>,
    bell: Bell,
    event: OwnedFd,
    shape: Shape,
    data: Memory,
    words: Memory,
}

impl FakeRings {
    /// So many as a service wants them.
    pub(crate) fn new(rings: u32, wanted: &RingsWanted) -> FakeRings {
        let shape = Shape::new(rings, wanted.capacity).unwrap();
        let data = Memory::new(shape.data_size());
        let words = Memory::new(shape.consumer_size());
        let mut header = [0; 32];
        shape.header().write(&mut header).unwrap();
        data.file.write_all_at(&header, 0).unwrap();
        let (shared, consumer) = (data.shared(), words.shared());
        let side = |ring| {
            let log = (0..shape.records()).map(|_| LogEntry::new());
            let account = Arc::new(Account::new(log.collect()));
            Producer::new(shape, ring, &shared, &consumer, account).unwrap()
        };
        // SAFETY: the service's process is this one, and waits for the answer with the event open.
        let event = unsafe { BorrowedFd::borrow_raw(wanted.event as i32) };
        FakeRings {
            sides: Mutex::new((0..shape.rings()).map(side).collect()),
            bell: Bell::new(&consumer),
            event: event.try_clone_to_owned().unwrap(),
            shape,
            data,
            words,
        }
    }

    /// What is to be mapped: the file, its length, and whether it is to be writable.
    pub(crate) fn views(&self) -> [(&File, usize, bool); 2] {
        let (data, words) = (&self.data, &self.words);
        [
            (&data.file, data.length, false),
            (&words.file, words.length, true),
        ]
    }

    /// What the service is told, when it has mapped them there.
    pub(crate) fn row(&self, [data, consumer]: [u64; 2]) -> RingsRow {
        RingsRow {
            data,
            consumer,
            data_size: self.data.length as u32,
            consumer_size: self.words.length as u32,
            reserved: 0,
        }
    }

    /// Publishes a record under the number that it has; false if there is no room.
    pub(crate) fn try_publish(&self, ring: usize, record: &[u8]) -> bool {
        let mut sides = self.sides.lock().unwrap();
        let (producer, settler) = &mut sides[ring];
        settler.settle(usize::MAX, |_| ());
        let Some(mut room) = producer.room(record.len()) else {
            return false;
        };
        assert!(room.write(0, &record[RecordHeader::SIZE..]));
        room.commit(&RecordHeader::read(record).unwrap(), 0);
        drop(sides);
        self.wake();
        true
    }

    /// Wakes the service, if it sleeps.
    pub(crate) fn wake(&self) {
        if self.bell.is_to_ring() {
            self.signal();
        }
    }

    pub(crate) fn publish(&self, ring: usize, record: &[u8]) {
        assert!(self.try_publish(ring, record), "ring {ring} is full");
    }

    /// Sets the event, whether or not anybody sleeps.
    pub(crate) fn signal(&self) {
        rustix::io::write(&self.event, &1_u64.to_ne_bytes()).unwrap();
    }

    /// Bytes that the service has not said it has read.
    pub(crate) fn used(&self, ring: usize) -> usize {
        let (_, settler) = &mut self.sides.lock().unwrap()[ring];
        settler.settle(usize::MAX, |_| ());
        assert_eq!(settler.nonsense(), 0);
        settler.used()
    }

    /// Writes anything anywhere.
    pub(crate) fn scribble(&self, at: usize, bytes: &[u8]) {
        self.data.file.write_all_at(bytes, at as u64).unwrap();
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether the service has armed the bell: it sleeps, or is about to.
    pub(crate) fn is_asleep(&self) -> bool {
        let mut word = [0; 4];
        self.words.file.read_exact_at(&mut word, 0).unwrap();
        u32::from_le_bytes(word) == 1
    }

    pub(crate) fn wait_for_sleep(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.is_asleep() {
            assert!(Instant::now() < deadline, "it does not sleep");
            std::thread::yield_now();
        }
    }
}
