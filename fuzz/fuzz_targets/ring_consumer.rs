// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service's half of some rings, whose data anybody writes to between two steps. What it hands on is whole, and in the
//! order of the numbers, or it says that a ring is corrupt; it ends, and it reads and writes nothing that is not the rings'.
//! As long as nobody has spoilt anything, it hands on everything.
#![no_main]

use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{GapHeader, RecordHeader, RecordKind};
use fltport_fuzz::{Memory, Ours, Program};
use fltport_ring::{
    Consumer, Corrupt, Cursor, Front, Order, Producer, Settler, Shape, ShapeHeader,
};
use libfuzzer_sys::fuzz_target;

const RINGS: usize = 3;

fuzz_target!(|data: &[u8]| {
    let memory = Memory::new(RINGS as u32);
    let mut service = Service::new(&memory);
    let mut program = Program(data);
    for _ in 0..128 {
        if service.step(&mut program).is_none() {
            break;
        }
    }
    service.end();
});

struct Service<'m> {
    memory: &'m Memory,
    kernel: [(Producer<Ours>, Settler<Ours>); RINGS],
    order: Order,
    consumer: Consumer<Vec<Cursor>>,
    /// The number of the next record to be read.
    next: u64,
    /// Somebody has written what is not his to write.
    spoilt: bool,
    /// The furthest that each ring was ever said to be filled, or read before.
    furthest: [u64; RINGS],
    out: Vec<u8>,
}

impl<'m> Service<'m> {
    fn new(memory: &'m Memory) -> Self {
        Service {
            memory,
            kernel: std::array::from_fn(|ring| memory.kernel(ring)),
            order: Order::new(1),
            consumer: memory.service(),
            next: 1,
            spoilt: false,
            furthest: [0; RINGS],
            out: vec![0; 64 * 1024],
        }
    }

    /// Does what comes next in the program; none at its end.
    fn step(&mut self, program: &mut Program<'_>) -> Option<()> {
        self.look_how_far();
        let step = program.byte()?;
        let ring = usize::from(step >> 4) % RINGS;
        match step & 0x0f {
            0 => self.publish(ring, usize::from(program.short()?)),
            1 => {
                let [length, count] = program.take()?;
                (0..count).for_each(|_| self.publish(ring, usize::from(length)));
            }
            2 => self.publish_gap(ring, u64::from(program.byte()?)),
            3 => {
                let (_, settler) = &mut self.kernel[ring];
                settler.settle(usize::MAX, |_| ());
            }
            4 => self.spoil_near(ring, program)?,
            5 => self.spoil(
                self.memory.place(ring, program.short()?.into()),
                program.take::<1>()?,
            ),
            6 => self.spoil(self.memory.published(ring), program.take::<8>()?),
            7 => self.read_shape(program)?,
            8 => self.ask(program)?,
            9 => self.take(usize::from(program.short()?)),
            10 | 11 => self.fill(usize::from(program.short()?)),
            12 => self.pass_over(program)?,
            13 => self.release(),
            14 => self.arm(),
            _ => self.attach(ring, program)?,
        }
        Some(())
    }

    fn publish(&mut self, ring: usize, length: usize) {
        let (producer, _) = &mut self.kernel[ring];
        let size = RecordHeader::SIZE + length.next_multiple_of(8);
        let Some(room) = producer.room(size) else {
            return;
        };
        let sequence = self.order.take(1);
        room.commit(&header(sequence, length, RecordKind::Notification), 0);
    }

    fn publish_gap(&mut self, ring: usize, count: u64) {
        let (producer, _) = &mut self.kernel[ring];
        let Some(mut room) = producer.room(RecordHeader::SIZE + GapHeader::SIZE) else {
            return;
        };
        let first = self.order.take(count + 1);
        assert!(room.write(0, &first.to_le_bytes()));
        room.commit(&header(first + count, GapHeader::SIZE, RecordKind::Gap), 0);
    }

    /// Writes to the data.
    fn spoil<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.spoilt = true;
        for (at, byte) in (at..).zip(bytes) {
            self.memory.data.set_byte(at, byte);
        }
    }

    /// Writes what is nearly right: to the word of a ring, or to a header about there where the service has read to.
    fn spoil_near(&mut self, ring: usize, program: &mut Program<'_>) -> Option<()> {
        let [at, by] = program.take()?;
        let place = self.memory.published(ring);
        if at & 0x80 != 0 {
            let word = self.memory.data.word(place);
            let word = word.wrapping_add_signed(i64::from(by as i8) * 32);
            self.spoil(place, word.to_le_bytes());
        } else {
            let told = self.memory.words.word(self.memory.consumed(ring));
            let place = self.memory.place(ring, told & !7);
            let place = (place + usize::from(at)).min(self.memory.data.length() - 1);
            self.spoil(place, [by]);
        }
        Some(())
    }

    /// A shape that is read is one that the memory has room for, whatever it says of itself.
    fn read_shape(&mut self, program: &mut Program<'_>) -> Option<()> {
        let (at, byte) = (usize::from(program.byte()?), program.byte()?);
        self.spoil(at % ShapeHeader::SIZE, [byte]);
        if let Some(shape) = Shape::of(self.memory.shared_data()) {
            assert!(shape.data_size() <= self.memory.data.length());
            assert!(shape.rings() >= 1 && shape.capacity().is_power_of_two());
            let cursors = vec![Cursor::default(); shape.rings()];
            let [data, words] = [self.memory.shared_data(), self.memory.shared_words()];
            if let Some(mut consumer) = Consumer::new(shape, data, words, cursors) {
                // Of a ring that begins in the middle of another.
                let _front = consumer.front(self.next);
            }
        }
        Some(())
    }

    /// What came of a call: nothing is corrupt before it was spoilt.
    fn sound<T>(&self, result: Result<T, Corrupt>) -> Option<T> {
        if let Err(corrupt) = &result {
            assert!(self.spoilt && corrupt.ring < RINGS, "{corrupt}");
        }
        result.ok()
    }

    /// Asks for the next number, or for any.
    fn ask(&mut self, program: &mut Program<'_>) -> Option<()> {
        let by = program.byte()? as i8;
        let number = self.next.saturating_add_signed(i64::from(by));
        let front = self.consumer.front(number);
        if by > 0 && !self.spoilt && number < self.order.next() {
            return Some(()); // Another one comes before it.
        }
        match front {
            Ok(Front::Missing(first)) => assert!(first > number),
            Ok(Front::Empty) => assert!(self.spoilt || self.next == self.order.next()),
            Ok(Front::Record) => {}
            Err(_) => assert!(self.spoilt || by > 0),
        }
        Some(())
    }

    fn look_how_far(&mut self) {
        for (ring, furthest) in self.furthest.iter_mut().enumerate() {
            let published = self.memory.data.word(self.memory.published(ring));
            *furthest = u64::max(*furthest, published);
        }
    }

    /// It never says that it has read what was not there.
    fn release(&mut self) {
        self.consumer.release();
        for (ring, furthest) in self.furthest.iter().enumerate() {
            assert!(self.memory.words.word(self.memory.consumed(ring)) <= *furthest);
        }
    }

    fn take(&mut self, most: usize) {
        let front = self.consumer.front(self.next);
        let front = self.sound(front);
        if front != Some(Front::Record) {
            assert!(self.spoilt || self.next == self.order.next());
            return;
        }
        let taken = self.consumer.take(&mut self.out[..most]);
        if let Some(Some((size, next))) = self.sound(taken) {
            assert!(size <= most);
            assert_eq!(next, self.check(0, size, self.next));
            self.next = next;
        }
    }

    fn fill(&mut self, most: usize) {
        let all = most == usize::from(u16::MAX);
        let most = if all { self.out.len() } else { most };
        let filled = self.consumer.fill(self.next, &mut self.out[..most]);
        let Some((records, bytes, next)) = self.sound(filled) else {
            return;
        };
        assert!(bytes <= most);
        let (mut at, mut number) = (0, self.next);
        for _ in 0..records {
            let size = RecordHeader::read(&self.out[at..bytes]).unwrap().size;
            number = self.check(at, size as usize, number);
            at += size as usize;
        }
        assert_eq!((at, number), (bytes, next));
        self.next = next;
        if !self.spoilt && all {
            let left = self.order.next() - next;
            assert!(left == 0 || bytes > 0, "nothing of {left}");
        }
    }

    /// The record there is whole and the next one; the number behind it.
    fn check(&self, at: usize, size: usize, number: u64) -> u64 {
        let header = RecordHeader::read(&self.out[at..at + size]).unwrap();
        assert_eq!(header.size as usize, size);
        assert!(header.payload as usize <= size - RecordHeader::SIZE);
        match header.kind == RecordKind::Gap as u16 {
            true => assert!(header.sequence >= number),
            false => assert_eq!(header.sequence, number),
        }
        header.sequence.saturating_add(1)
    }

    fn pass_over(&mut self, program: &mut Program<'_>) -> Option<()> {
        let number = self.next.saturating_add(u64::from(program.byte()?));
        let passed = self.consumer.pass_over(number);
        if let Some(records) = self.sound(passed) {
            assert!(records as usize <= RINGS * self.memory.shape.records());
        }
        if let Ok(Front::Missing(first)) = self.consumer.front(number) {
            self.next = first;
        } else {
            self.next = number;
        }
        // Others may be left of whose numbers it was not asked.
        self.spoilt = true;
        Some(())
    }

    /// Looking once more is enough to sleep, if there is nothing to do and nobody writes.
    fn arm(&mut self) {
        let quiet = self.consumer.arm();
        let front = self.consumer.front(self.next);
        let front = self.sound(front);
        let waits = matches!(front, Some(Front::Missing(_) | Front::Empty));
        assert!(quiet || !waits || self.consumer.arm());
        self.consumer.disarm();
    }

    /// Another service begins where the words say, which anybody may have written.
    fn attach(&mut self, ring: usize, program: &mut Program<'_>) -> Option<()> {
        let kind = program.byte()?;
        if kind & 1 != 0 {
            self.spoilt = true;
            let word = program.word()?;
            let at = self.memory.consumed(ring);
            self.memory.words.set_word(at, word);
            self.furthest[ring] = u64::max(self.furthest[ring], word);
        } else {
            // What it has read and not told would come again.
            self.release();
        }
        self.consumer = self.memory.service();
        let cannot_be = (0..RINGS).any(|ring| {
            let published = self.memory.data.word(self.memory.published(ring));
            let read = self.memory.words.word(self.memory.consumed(ring));
            published.wrapping_sub(read) > self.memory.shape.capacity() as u64
        });
        let front = self.consumer.front(self.next);
        assert!(front.is_err() || !cannot_be, "{front:?}");
        Some(())
    }

    /// All that is left, if nobody has spoilt it; and nothing else was touched.
    fn end(&mut self) {
        self.look_how_far();
        for _ in 0..2 * RINGS * self.memory.shape.records() {
            let filled = self.consumer.fill(self.next, &mut self.out);
            match self.sound(filled) {
                Some((records, _, next)) if records > 0 => self.next = next,
                _ => break,
            }
        }
        self.release();
        if !self.spoilt {
            assert_eq!(self.next, self.order.next());
            for (_, settler) in &mut self.kernel {
                settler.settle(usize::MAX, |_| ());
                assert_eq!((settler.used(), settler.nonsense()), (0, 0));
            }
        }
        assert!(self.memory.data.is_guarded() && self.memory.words.is_guarded());
    }
}

fn header(sequence: u64, payload: usize, kind: RecordKind) -> RecordHeader {
    RecordHeader {
        size: 0,
        payload: payload as u32,
        sequence,
        time: 9,
        provider: 1,
        message: 1,
        kind: kind as u16,
        fixed: 0,
    }
}
