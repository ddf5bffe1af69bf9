// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rings of a service that is made by hand.

use crate::service::{Incoming, Record, Service};
use fltport_abi::command::{RingsRow, RingsWanted, own};
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{FRAME_RECORDS, Frame, FrameHeader, Gap, MAGIC, RecordKind};
use fltport_ring::{Consumer, Cursor, Front, Shape, Shared};
use nt_host::UserEvent;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(crate) struct RingReader {
    consumer: Consumer<Vec<Cursor>>,
    event: Arc<UserEvent>,
    ended: Arc<AtomicBool>,
    watching: Option<JoinHandle<()>>,
    /// Where the words are that a service can write, and how many bytes.
    pub(crate) words: (u64, u32),
    /// Whether what has been read is told to the driver.
    pub(crate) releases: bool,
}

/// A view in this process.
fn shared(address: u64, length: u32) -> Shared {
    let base = std::ptr::with_exposed_provenance_mut(address as usize);
    let base = NonNull::new(base).expect("an address");
    // SAFETY: the driver says that it is mapped here, and leaves it to this process, which does not unmap it as long as it reads.
    unsafe { Shared::new(base, length as usize) }
}

impl RingReader {
    pub(crate) fn new(
        service: &Service,
        capacity: u32,
        wakes: Sender<Incoming>,
    ) -> Result<Self, i32> {
        let event = Arc::new(UserEvent::new(&service.process));
        let mut payload = [0; RingsWanted::SIZE];
        let wanted = RingsWanted {
            capacity,
            reserved: 0,
            event: event.handle(),
        };
        wanted.write(&mut payload).unwrap();
        let row = service.command(0, own::RINGS, &payload)?;
        let row = RingsRow::read(&row).expect("a row");
        let data = shared(row.data, row.data_size);
        let words = shared(row.consumer, row.consumer_size);
        let shape = Shape::of(&data).expect("a shape");
        let cursors = vec![Cursor::default(); shape.rings()];
        let ended = Arc::new(AtomicBool::new(false));
        let (theirs, ends) = (event.clone(), ended.clone());
        let watching = thread::spawn(move || {
            while !ends.load(Ordering::Acquire) {
                if theirs.wait(Duration::from_secs(20)) && wakes.send(Incoming::Rings).is_err() {
                    return;
                }
            }
        });
        Ok(RingReader {
            consumer: Consumer::new(shape, &data, &words, cursors).expect("fits"),
            event,
            ended,
            watching: Some(watching),
            words: (row.consumer, row.consumer_size),
            releases: true,
        })
    }

    /// The record with this number, if it is there.
    pub(crate) fn read(&mut self, number: u64) -> Option<Record> {
        if self.consumer.front(number).expect("sound rings") != Front::Record {
            return None;
        }
        let mut bytes = vec![0; 64 * 1024 + FrameHeader::SIZE];
        let (size, _) = self
            .consumer
            .take(&mut bytes[FrameHeader::SIZE..])
            .expect("sound rings")
            .expect("fits");
        if self.releases {
            self.consumer.release();
        }
        bytes.truncate(FrameHeader::SIZE + size);
        let frame = FrameHeader {
            magic: MAGIC,
            version: 2,
            kind: FRAME_RECORDS,
            length: bytes.len() as u32,
            records: 1,
            deadline_ms: 0,
            connection: 0,
        };
        frame.write(&mut bytes).unwrap();
        let frame = Frame::parse(&bytes).expect("a frame");
        let record = frame.records().next().expect("a record").expect("sound");
        let gap = match record.kind {
            RecordKind::Gap => {
                let gap = Gap::parse(&record).expect("a gap that adds up");
                assert_eq!(gap.first, number);
                gap.entries().collect()
            }
            _ => Vec::new(),
        };
        Some(Record {
            header: record.header,
            kind: record.kind,
            payload: record.payload.to_vec(),
            gap,
        })
    }

    /// Whether it can sleep: its event will be set.
    pub(crate) fn sleeps(&mut self) -> bool {
        self.consumer.arm()
    }
}

impl Drop for RingReader {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.event.set();
        if let Some(watching) = self.watching.take() {
            watching.join().unwrap();
        }
    }
}
