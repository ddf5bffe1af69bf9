// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's half of two rings, against a service that writes anything to every byte that it can write, between any two
//! steps of the kernel's and while it settles. The kernel's ledger stays what it must be: each record is handed back once,
//! in order, with its tag and its size, when the service's word allows it and not before; until then nobody writes over it;
//! and no byte of the service's is written that is not the kernel's to write.
#![no_main]

use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{RecordHeader, RecordKind};
use fltport_fuzz::{Memory, Ours, Program, Region};
use fltport_ring::{Bell, Front, Gone, Order, Producer, Settler, stride};
use libfuzzer_sys::fuzz_target;
use std::collections::VecDeque;

const RINGS: usize = 2;

fuzz_target!(|data: &[u8]| {
    let memory = Memory::new(RINGS as u32);
    let mut kernel = Kernel::new(&memory);
    let mut program = Program(data);
    for _ in 0..128 {
        if kernel.step(&mut program).is_none() {
            break;
        }
        kernel.check();
    }
    kernel.end();
});

/// What the kernel knows of a record that is not gone.
#[derive(Clone, Copy)]
struct Record {
    number: u64,
    payload: usize,
    tag: u16,
    noted: bool,
}

impl Record {
    fn bytes(&self) -> usize {
        stride(RecordHeader::SIZE + self.payload)
    }

    /// What it holds: its number, over and over.
    fn content(&self) -> Vec<u8> {
        let mut content = vec![self.number as u8; self.payload];
        for (byte, number) in content.iter_mut().zip(self.number.to_le_bytes()) {
            *byte = number;
        }
        content
    }
}

/// One ring: the kernel's two hands, and what they should be.
struct Ring {
    number: usize,
    producer: Producer<Ours>,
    settler: Settler<Ours>,
    /// Published and not gone.
    records: VecDeque<Record>,
    head: u64,
    tail: u64,
    /// How many have been published.
    published: u64,
    nonsense: u64,
    peak: usize,
}

struct Kernel<'m> {
    memory: &'m Memory,
    rings: [Ring; RINGS],
    order: Order,
    bell: Bell,
    /// The number of the next record.
    next: u64,
    /// The service's memory, as the service has left it.
    words: Vec<u8>,
}

impl Ring {
    fn used(&self) -> usize {
        (self.tail - self.head) as usize
    }

    /// The oldest record is gone; whether the kernel says the same.
    fn forget(&mut self, gone: Gone) {
        let record = self.records.pop_front().expect("it is gone already");
        assert_eq!((gone.tag, gone.bytes), (record.tag, record.bytes()));
        assert_eq!(gone.noted, record.noted);
        self.head += gone.bytes as u64;
    }
}

impl<'m> Kernel<'m> {
    fn new(memory: &'m Memory) -> Self {
        let rings = std::array::from_fn(|number| {
            let (producer, settler) = memory.kernel(number);
            Ring {
                number,
                producer,
                settler,
                records: VecDeque::new(),
                head: 0,
                tail: 0,
                published: 0,
                nonsense: 0,
                peak: 0,
            }
        });
        Kernel {
            memory,
            rings,
            order: Order::new(1),
            bell: Bell::new(memory.shared_words()),
            next: 1,
            words: vec![0; memory.words.length()],
        }
    }

    /// Does what comes next in the program; none at its end.
    fn step(&mut self, program: &mut Program<'_>) -> Option<()> {
        let step = program.byte()?;
        let ring = usize::from(step >> 7);
        match step & 0x0f {
            0 | 1 => {
                let (payload, tag) = (usize::from(program.short()?), program.short()?);
                self.publish(ring, payload & !7, tag, program);
            }
            2 => {
                let (payload, count) = (usize::from(program.byte()?), program.byte()?);
                for tag in 0..u16::from(count % 64) {
                    self.publish(ring, payload & !7, tag, &mut Program(&[]));
                }
            }
            3 => self.give_back(ring, usize::from(program.short()?)),
            4 | 5 => self.settle(ring, usize::from(program.short()?), program),
            6 => self.note(ring, usize::from(program.byte()?)),
            7 => self.abandon(ring, usize::from(program.byte()?)),
            8 => self.hand_over(ring),
            9 => self.look_at_bell(),
            10 | 11 => self.attack_word(ring, program)?,
            12 | 13 => self.attack_byte(program)?,
            14 => self.attack(self.memory.consumed(ring), program.word()?.to_le_bytes()),
            _ => self.serve(),
        }
        Some(())
    }

    /// The service writes a word about a ring that is nearly right, or right.
    fn attack_word(&mut self, ring: usize, program: &mut Program<'_>) -> Option<()> {
        let [kind, by] = program.take()?;
        let it = &self.rings[ring];
        let before = it.records.iter().take(usize::from(by) * 8);
        let boundary = it.head + before.map(|it| it.bytes() as u64).sum::<u64>();
        let around = |word: u64| word.wrapping_add_signed(i64::from(by as i8));
        let word = match kind % 6 {
            0 => it.tail,
            1 => boundary,
            2 => around(boundary),
            3 => around(it.tail),
            4 => around(it.head),
            _ => it.head.wrapping_sub(u64::from(by) << 8),
        };
        self.attack(self.memory.consumed(ring), word.to_le_bytes());
        Some(())
    }

    /// The service writes any byte of its memory; most of it is nothing to anybody.
    fn attack_byte(&mut self, program: &mut Program<'_>) -> Option<()> {
        let (at, byte) = (usize::from(program.short()?), program.byte()?);
        self.attack(at % self.words.len(), [byte]);
        Some(())
    }

    fn attack<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        write(&self.memory.words, &mut self.words, at, bytes);
    }

    /// Publishes a record; the service writes something while it is being written.
    fn publish(&mut self, ring: usize, payload: usize, tag: u16, program: &mut Program<'_>) {
        let record = Record {
            number: self.next,
            payload,
            tag,
            noted: false,
        };
        let it = &mut self.rings[ring];
        let fits = record.bytes() <= self.memory.shape.capacity() - it.used();
        if self.next % 2 == 0 {
            assert_eq!(it.producer.has_room(record.bytes()), fits);
        }
        let Some(mut room) = it.producer.room(RecordHeader::SIZE + payload) else {
            assert!(!fits, "there is room, and it says that there is none");
            return;
        };
        assert!(fits, "there is no room");
        let content = record.content();
        let (first, second) = content.split_at(payload / 3);
        assert!(room.write(0, first));
        if let Some(byte) = program.byte() {
            let at = self.memory.consumed(ring) + usize::from(byte & 7);
            write(&self.memory.words, &mut self.words, at, [byte]);
        }
        assert!(room.write(first.len(), second));
        assert!(!room.write(payload, &[1]) && !room.write(usize::MAX, &[1]));
        let header = RecordHeader {
            size: 0,
            payload: payload as u32,
            sequence: self.order.take(1),
            time: 7,
            provider: 1,
            message: tag,
            kind: RecordKind::Notification as u16,
            fixed: 0,
        };
        assert_eq!(header.sequence, record.number);
        room.commit(&header, tag);
        self.next += 1;
        it.published += 1;
        it.tail += record.bytes() as u64;
        it.peak = it.peak.max(it.used());
        it.records.push_back(record);
    }

    /// Takes room, writes there, and gives it back.
    fn give_back(&mut self, ring: usize, size: usize) {
        let it = &mut self.rings[ring];
        let fits =
            size >= RecordHeader::SIZE && stride(size) <= self.memory.shape.capacity() - it.used();
        let room = it.producer.room(size);
        assert_eq!(room.is_some(), fits);
        if let Some(mut room) = room {
            assert!(room.write(0, &vec![0xee; size - RecordHeader::SIZE]));
        }
    }

    /// Settles; the service goes on writing meanwhile.
    fn settle(&mut self, ring: usize, most: usize, program: &mut Program<'_>) {
        let most = most % 4096;
        let at = self.memory.consumed(ring);
        let claimed = self.memory.words.word(at);
        let Kernel {
            memory,
            rings,
            words,
            ..
        } = self;
        let it = &mut rings[ring];
        let possible = (it.head..=it.tail).contains(&claimed);
        let (mut end, mut allowed) = (it.head, 0);
        for record in it.records.iter().take_while(|_| possible) {
            end += record.bytes() as u64;
            if end > claimed {
                break;
            }
            allowed += 1;
        }
        it.nonsense += u64::from(!possible);
        let mut gone = Vec::new();
        let more = it.settler.settle(most, |record| {
            gone.push(record);
            if let Some([byte, place]) = program.take().filter(|_| gone.len() < 8) {
                write(&memory.words, words, at + usize::from(place & 7), [byte]);
            }
        });
        assert_eq!(gone.len(), usize::min(allowed, most));
        assert_eq!(more, allowed > most);
        gone.into_iter().for_each(|record| it.forget(record));
    }

    fn note(&mut self, ring: usize, most: usize) {
        let it = &mut self.rings[ring];
        let mut told = Vec::new();
        let more = it.settler.note(most, |tag| told.push(tag));
        let mut unknown = it.records.iter_mut().filter(|record| !record.noted);
        for tag in told.iter().copied() {
            let record = unknown.next().expect("it was told of before");
            assert_eq!(record.tag, tag);
            record.noted = true;
        }
        assert!(told.len() <= most);
        // When as many as were asked for were told it need not have looked for more.
        let left = unknown.next().is_some();
        assert!(more == left && (told.len() == most || !left));
    }

    /// The oldest records will never be read, as when the service is gone.
    fn abandon(&mut self, ring: usize, most: usize) {
        let it = &mut self.rings[ring];
        for _ in 0..most {
            look_at_oldest(self.memory, it);
            let mut gone = None;
            it.settler.abandon(1, |record| gone = Some(record));
            assert_eq!(gone.is_none(), it.records.is_empty());
            let Some(record) = gone else { break };
            it.forget(record);
        }
    }

    fn hand_over(&mut self, ring: usize) {
        let it = &mut self.rings[ring];
        it.settler.hand_over();
        let at = self.memory.consumed(ring);
        self.words[at..at + 8].copy_from_slice(&it.head.to_le_bytes());
    }

    fn look_at_bell(&mut self) {
        let armed = self.words[..4] == [1, 0, 0, 0];
        assert_eq!(self.bell.is_to_ring(), armed);
        if armed {
            self.words[..4].fill(0);
        }
    }

    /// A service that is honest takes over, reads everything and says so.
    fn serve(&mut self) {
        (0..RINGS).for_each(|ring| self.hand_over(ring));
        let mut unread: Vec<Record> = Vec::new();
        for ring in &self.rings {
            unread.extend(&ring.records);
        }
        unread.sort_by_key(|record| record.number);
        let (mut service, mut out) = (self.memory.service(), vec![0; 64 * 1024 + 64]);
        for record in unread {
            // What comes before it was abandoned, or was read before and not settled.
            assert_eq!(service.front(record.number), Ok(Front::Record));
            let (size, next) = service.take(&mut out).unwrap().unwrap();
            assert_eq!(
                (size, next),
                (RecordHeader::SIZE + record.payload, record.number + 1)
            );
            assert_eq!(record.content(), out[RecordHeader::SIZE..size]);
        }
        assert_eq!(service.front(self.next), Ok(Front::Empty));
        service.release();
        for (ring, it) in self.rings.iter().enumerate() {
            let at = self.memory.consumed(ring);
            self.words[at..at + 8].copy_from_slice(&it.tail.to_le_bytes());
        }
    }

    /// What holds behind each step.
    fn check(&self) {
        for (number, ring) in self.rings.iter().enumerate() {
            assert_eq!(ring.settler.used(), ring.used());
            assert_eq!(ring.settler.records(), ring.published);
            assert_eq!(ring.settler.nonsense(), ring.nonsense);
            let peak = ring.settler.peak();
            assert!(peak >= ring.peak && peak <= self.memory.shape.capacity());
            let published = self.memory.data.word(self.memory.published(number));
            assert_eq!(published, ring.tail);
        }
        assert_eq!(self.order.next(), self.next);
    }

    /// Everybody is gone: what is left is handed back, and is what was published.
    fn end(mut self) {
        assert_eq!(self.memory.words.copy(0, self.words.len()), self.words);
        (0..RINGS).for_each(|ring| self.abandon(ring, usize::MAX));
        self.check();
        assert!(self.rings.iter().all(|ring| ring.used() == 0));
        assert!(self.memory.data.is_guarded() && self.memory.words.is_guarded());
    }
}

/// The service writes there.
fn write<const N: usize>(memory: &Region, words: &mut [u8], at: usize, bytes: [u8; N]) {
    words[at..at + N].copy_from_slice(&bytes);
    for (at, byte) in (at..).zip(bytes) {
        memory.set_byte(at, byte);
    }
}

/// The oldest record lies in the ring as it was published.
fn look_at_oldest(memory: &Memory, ring: &Ring) {
    let mut out = [0; 256];
    assert_eq!(
        ring.settler.look_at_oldest(&mut out),
        !ring.records.is_empty()
    );
    let Some(record) = ring.records.front() else {
        return;
    };
    let header = RecordHeader::read(&out).unwrap();
    assert_eq!(header.sequence, record.number);
    assert_eq!(header.size as usize, RecordHeader::SIZE + record.payload);
    let size = RecordHeader::SIZE + record.payload;
    let bytes = memory.copy(ring.number, ring.head, size);
    let same = size.min(out.len());
    assert_eq!(bytes[..same], out[..same]);
    assert_eq!(bytes[RecordHeader::SIZE..], record.content());
}
