// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rings of a service: shared memory that the driver has mapped into its process.
//!
//! As the service library reads them: a batch is copied, the driver is told that it was read, and
//! only then it counts as read. A service whose handle is about to be closed reads no more: what it
//! has not told the driver of is lost.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use fltport_abi::command::RingsRow;
use fltport_abi::frame::record_size;
use fltport_abi::limits::MAX_PAYLOAD;
use fltport_ring::{CONSUMER_LINE, Consumer, Cursor, Front, Shape, Shared};
use nt_host::clock::Deadline;
use nt_host::sched;
use nt_host::{Process, UserEvent};

use crate::plan;

/// Bytes for a batch: a record of any size fits.
const ROOM: usize = record_size(MAX_PAYLOAD);

/// How many records came by rings, in all runs of this process.
static RECORDS: AtomicU64 = AtomicU64::new(0);

/// How many records came by rings so far.
#[must_use]
pub fn records() -> u64 {
    RECORDS.load(Ordering::Relaxed)
}

/// See the module.
pub struct Rings {
    consumer: Consumer<Vec<Cursor>>,
    event: Arc<UserEvent>,
    process: Arc<Process>,
    /// Where the two views are.
    views: [u64; 2],
    batch: Vec<u8>,
    /// Copied, and the driver was not told.
    untold: Vec<u8>,
    /// What is written to the consumer's words instead of reading.
    scribbles: Option<Rng>,
    /// How many of these words there are.
    words: usize,
}

/// What is mapped there.
fn shared(address: u64, length: u32) -> Shared {
    let base = std::ptr::with_exposed_provenance_mut(address as usize);
    let base = NonNull::new(base).expect("an address");
    // SAFETY: the driver says that it is mapped here and leaves it to this process, which unmaps it
    // when it reads no more; only `fltport_ring` uses it.
    unsafe { Shared::new(base, length as usize) }
}

impl Rings {
    /// Those that the driver has made for this process.
    ///
    /// # Panics
    /// They are none.
    #[must_use]
    pub fn new(
        row: &RingsRow,
        event: Arc<UserEvent>,
        process: Arc<Process>,
        plan: &plan::Rings,
    ) -> Rings {
        let data = shared(row.data, row.data_size);
        let words = shared(row.consumer, row.consumer_size);
        let shape = Shape::of(&data).expect("a shape");
        let cursors = vec![Cursor::default(); shape.rings()];
        Rings {
            consumer: Consumer::new(shape, &data, &words, cursors).expect("memory of that shape"),
            event,
            process,
            views: [row.data, row.consumer],
            batch: vec![0; plan.batch.min(ROOM)],
            untold: Vec::new(),
            scribbles: plan.scribbles.map(Rng::with_seed),
            words: 1 + shape.rings(),
        }
    }

    /// Copies the records from this number on as far as they are there; none if that is not.
    fn copy(&mut self, next: u64) -> Vec<u8> {
        let (records, bytes, _) = self
            .consumer
            .fill(next, &mut self.batch)
            .expect("sound rings");
        RECORDS.fetch_add(records.into(), Ordering::Relaxed);
        if records != 0 {
            return self.batch[..bytes].to_vec();
        }
        if self.consumer.front(next).expect("sound rings") != Front::Record {
            return Vec::new();
        }
        // Larger than a batch.
        let mut record = vec![0; ROOM];
        let taken = self.consumer.take(&mut record).expect("sound rings");
        let (size, _) = taken.expect("a record that is not too large");
        RECORDS.fetch_add(1, Ordering::Relaxed);
        record.truncate(size);
        record
    }

    /// The records from this number on, of which the driver has been told that they were read; none
    /// if that is not there, or `ended` says that nothing is read any more.
    pub fn read(&mut self, next: u64, ended: impl Fn() -> bool) -> Vec<u8> {
        if ended() || self.scribble() {
            return Vec::new();
        }
        let copied = self.copy(next);
        if copied.is_empty() {
            return copied;
        }
        sched::point("a batch was copied");
        // From here on nobody else has a turn until the batch counts as read.
        if ended() {
            self.untold = copied;
            return Vec::new();
        }
        self.consumer.release();
        copied
    }

    /// Writes anything, a position that may be or a bell to what a service can write to, unless this one
    /// is honest; whether it is not.
    fn scribble(&mut self) -> bool {
        let Some(random) = &mut self.scribbles else {
            return false;
        };
        let words = std::ptr::with_exposed_provenance_mut::<u64>(self.views[1] as usize);
        for _ in 0..random.usize(..4) {
            let at = random.usize(..self.words) * CONSUMER_LINE / size_of::<u64>();
            let anything = [random.u64(..), 32 * random.u64(..4096), random.u64(..2)];
            // SAFETY: within the view, which this process has as long as this exists.
            let word = unsafe { words.add(at) };
            // SAFETY: as above, and aligned; whoever else uses it does so as an atomic, too.
            let word = unsafe { AtomicU64::from_ptr(word) };
            word.store(anything[random.usize(..3)], Ordering::Relaxed);
        }
        true
    }

    /// What lies there from this number on and was never told to be read.
    pub fn unread(&mut self, next: u64) -> Vec<u8> {
        match std::mem::take(&mut self.untold) {
            none if none.is_empty() => self.copy(next),
            untold => untold,
        }
    }

    /// Sleeps until the event is set, if nothing has come since the last look.
    pub fn sleep(&mut self, deadline: Deadline) {
        if self.scribbles.is_some() || self.consumer.arm() {
            sched::point("a service sleeps");
            let _is_over = self.event.wait(deadline.remaining());
            self.consumer.disarm();
        }
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The kernel of a seed that has failed stays as it is.
            return;
        }
        for view in self.views {
            assert!(
                self.process.unmap_view(view),
                "the view is the process's own"
            );
        }
    }
}
