// SPDX-License-Identifier: MIT OR Apache-2.0

//! Real rings in the memory of one process, to be filled and read in laps.

use std::ptr::NonNull;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fltport_abi::frame::{RecordHeader, RecordKind, record_size};
use fltport_ring::{
    Account, Consumer, Cursor, Front, LogEntry, Order, Producer, Settler, Shape, Shared,
};

/// Bytes of a payload.
pub(crate) const PAYLOAD: usize = 64;
/// What the service library reads at a time.
const BATCH: usize = 32 * 1024;

type Ours = Arc<Account<Vec<LogEntry>>>;

/// The kernel's side of one ring.
pub(crate) struct Side {
    producer: Producer<Ours>,
    settler: Settler<Ours>,
}

/// Some rings, and who reads them.
pub(crate) struct Rings {
    pub(crate) sides: Vec<Side>,
    pub(crate) reader: Reader,
    // Dropped last: the others use it.
    _memory: [Vec<u64>; 2],
}

/// Who reads all rings.
pub(crate) struct Reader {
    consumer: Consumer<Vec<Cursor>>,
    next: u64,
    batch: Vec<u8>,
}

impl Side {
    /// Publishes a record, as the driver does; false if there is no room.
    #[inline]
    pub(crate) fn publish(&mut self, order: &Order, payload: &[u8; PAYLOAD]) -> bool {
        let Some(mut room) = self.producer.room(record_size(PAYLOAD)) else {
            return false;
        };
        let written = room.write(0, payload);
        debug_assert!(written);
        let header = RecordHeader {
            size: 0,
            payload: PAYLOAD as u32,
            sequence: order.take(1),
            time: 1,
            provider: 1,
            message: 1,
            kind: RecordKind::Notification as u16,
            fixed: 0,
        };
        room.commit(&header, 1);
        true
    }

    /// Counts what has been read.
    pub(crate) fn settle(&mut self) {
        self.settler.settle(usize::MAX, |_| ());
        self.producer.look();
    }
}

impl Reader {
    /// Reads what there is; how many records.
    pub(crate) fn read(&mut self) -> Result<u64> {
        let mut all = 0;
        loop {
            let (records, bytes, next) = self.consumer.fill(self.next, &mut self.batch)?;
            self.consumer.release();
            std::hint::black_box(self.batch.get(..bytes));
            self.next = next;
            all += u64::from(records);
            if records == 0 {
                return Ok(all);
            }
        }
    }

    /// Goes on behind all there is, whatever its numbers.
    pub(crate) fn skip(&mut self) -> Result<()> {
        while self.consumer.pass_over(u64::MAX)? > 0 || self.has_more()? {}
        self.consumer.release();
        Ok(())
    }

    fn has_more(&mut self) -> Result<bool> {
        Ok(self.consumer.front(0)? != Front::Empty)
    }

    /// Finds nothing, and arms the bell.
    pub(crate) fn find_nothing(&mut self) -> Result<()> {
        let (records, ..) = self.consumer.fill(self.next, &mut self.batch)?;
        ensure!(records == 0 && self.consumer.arm(), "there is something");
        self.consumer.disarm();
        Ok(())
    }
}

impl Rings {
    /// So many rings of so many bytes, whose first number is 1.
    pub(crate) fn new(rings: usize, capacity: u32) -> Result<Rings> {
        let shape = Shape::new(rings as u32, capacity).context("no such rings")?;
        let sizes = [shape.data_size(), shape.consumer_size()];
        let mut memory = sizes.map(|size| vec![0_u64; size / 8]);
        let mut shared = Vec::new();
        for words in &mut memory {
            let base = NonNull::new(words.as_mut_ptr().cast()).context("no memory")?;
            // SAFETY: it is never resized, is dropped behind what is made of this, and nobody uses it otherwise.
            shared.push(unsafe { Shared::new(base, words.len() * 8) });
        }
        let [data, words] = &shared[..] else {
            unreachable!("two pieces of memory")
        };
        let mut sides = Vec::new();
        for ring in 0..rings {
            let places = (0..shape.records()).map(|_| LogEntry::new());
            let account = Arc::new(Account::new(places.collect()));
            let made = Producer::new(shape, ring, data, words, account);
            let (producer, settler) = made.context("no such ring")?;
            sides.push(Side { producer, settler });
        }
        let cursors = vec![Cursor::default(); rings];
        let consumer = Consumer::new(shape, data, words, cursors).context("no such rings")?;
        let reader = Reader {
            consumer,
            next: 1,
            batch: vec![0; BATCH],
        };
        Ok(Rings {
            sides,
            reader,
            _memory: memory,
        })
    }
}
