// SPDX-License-Identifier: MIT OR Apache-2.0
//! Four producers and a consumer at full speed, as threads. A program of its own, so that ThreadSanitizer sees nothing but
//! these (`cargo xtask sanitize`).

use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{RecordHeader, RecordKind};
use fltport_ring::{
    Account, Bell, Consumer, Cursor, LogEntry, Order, Producer, Settler, Shape, Shared, stride,
};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

const RINGS: usize = 4;
/// Notifications that each producer makes.
const EACH: u64 = 30_000;
const PAYLOAD: usize = 64;
const SIZE: usize = RecordHeader::SIZE + PAYLOAD;
/// Whom nobody wakes for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

type Ours = Arc<Account<Vec<LogEntry>>>;

/// What all threads have in common, but for the memory of the rings.
struct Common {
    order: Order,
    bell: Bell,
    /// The event that the bell rings.
    event: AtomicBool,
    /// Producers that have made all.
    done: AtomicUsize,
    consumer: Thread,
}

/// Memory that stays, for nobody knows which thread ends last.
fn memory(bytes: usize) -> Shared {
    let words: &'static mut [u64] = vec![0; bytes / 8].leak();
    let base = NonNull::from(&mut *words).cast();
    // SAFETY: it stays for ever, begins with a word, and is not used otherwise.
    unsafe { Shared::new(base, bytes) }
}

/// Fills its ring. Other than a driver it waits where it finds it full, so that all come.
fn produce(ring: usize, mut ends: (Producer<Ours>, Settler<Ours>), common: &Common) {
    let (producer, settler) = (&mut ends.0, &mut ends.1);
    for _ in 0..EACH {
        while !producer.has_room(stride(SIZE)) {
            thread::yield_now();
            settler.settle(usize::MAX, |_| ());
        }
        let mut room = producer.room(SIZE).unwrap();
        assert!(room.write(0, &[ring as u8; PAYLOAD]));
        let header = RecordHeader {
            size: 0,
            payload: PAYLOAD as u32,
            sequence: common.order.take(1),
            time: 0,
            provider: 1,
            message: 1,
            kind: RecordKind::Notification as u16,
            fixed: PAYLOAD as u16,
        };
        room.commit(&header, 0);
        if common.bell.is_to_ring() {
            common.event.store(true, Ordering::Release);
            common.consumer.unpark();
        }
    }
}

/// Reads all that can be read, and checks it; the number that follows.
fn read(consumer: &mut Consumer<Vec<Cursor>>, mut next: u64, of_each: &mut [u64; RINGS]) -> u64 {
    let mut batch = vec![0; 16 * 1024];
    loop {
        let (records, bytes, behind) = consumer.fill(next, &mut batch).unwrap();
        consumer.release();
        if records == 0 {
            return next;
        }
        for (number, record) in (next..).zip(batch[..bytes].chunks_exact(SIZE)) {
            let header = RecordHeader::read(record).unwrap();
            assert_eq!(header.sequence, number);
            let ring = record[RecordHeader::SIZE];
            assert_eq!(record[RecordHeader::SIZE..], [ring; PAYLOAD]);
            of_each[usize::from(ring)] += 1;
        }
        assert_eq!(next + u64::from(records), behind);
        next = behind;
    }
}

/// Sleeps until there is something, or somebody is done.
fn sleep(consumer: &mut Consumer<Vec<Cursor>>, common: &Common) {
    if !consumer.arm() {
        return;
    }
    let begun = Instant::now();
    while !common.event.swap(false, Ordering::Acquire) {
        assert!(begun.elapsed() < FORGOTTEN, "nobody has woken the consumer");
        thread::park_timeout(FORGOTTEN);
    }
    consumer.disarm();
}

fn main() {
    let shape = Shape::new(RINGS as u32, 0).unwrap();
    let [data, words] = [shape.data_size(), shape.consumer_size()].map(memory);
    let common = Arc::new(Common {
        order: Order::new(1),
        bell: Bell::new(&words),
        event: AtomicBool::new(false),
        done: AtomicUsize::new(0),
        consumer: thread::current(),
    });
    let mut consumer = Consumer::new(shape, &data, &words, vec![Cursor::default(); RINGS]).unwrap();
    let start = |ring| {
        let log = (0..shape.records()).map(|_| LogEntry::new()).collect();
        let account = Arc::new(Account::new(log));
        let ends = Producer::new(shape, ring, &data, &words, account).unwrap();
        let common = Arc::clone(&common);
        thread::spawn(move || {
            produce(ring, ends, &common);
            common.done.fetch_add(1, Ordering::Release);
            common.event.store(true, Ordering::Release);
            common.consumer.unpark();
        })
    };
    let producing: Vec<JoinHandle<()>> = (0..RINGS).map(start).collect();
    let (mut next, mut of_each) = (1, [0; RINGS]);
    while common.done.load(Ordering::Acquire) < RINGS {
        next = read(&mut consumer, next, &mut of_each);
        sleep(&mut consumer, &common);
    }
    for thread in producing {
        thread.join().unwrap();
    }
    next = read(&mut consumer, next, &mut of_each);
    assert_eq!(next, common.order.next());
    assert_eq!(of_each, [EACH; RINGS]);
    println!("{} records of {RINGS} rings, in order", next - 1);
}
