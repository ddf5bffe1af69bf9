// SPDX-License-Identifier: MIT OR Apache-2.0

//! Processors that notify, a counter that one of them has at a time, and a consumer that reads in the order of the numbers:
//! a simulation, event by event, that always goes the same way.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;

/// Where processors are, and how long a line takes from one to another, in nanoseconds.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) processors: usize,
    /// Processors that have a cache in common.
    pub(crate) group: usize,
    pub(crate) socket: usize,
    pub(crate) in_group: f64,
    pub(crate) in_socket: f64,
    pub(crate) across: f64,
    /// What it takes the consumer to have a record that another one has written, if that was measured: processors fetch ahead
    /// what lies in order. Otherwise it waits for one line of each record.
    pub(crate) fetch: Option<f64>,
}

/// What was measured, in nanoseconds.
pub(crate) struct Costs {
    /// A number, where the counter is at hand.
    pub(crate) number: f64,
    /// The rest of a record.
    pub(crate) write: f64,
    /// A record for the consumer, if it is at hand.
    pub(crate) consume: f64,
    /// Records that a ring has room for.
    pub(crate) records: usize,
}

/// How records are numbered and read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    AsItIs,
    /// Each ring numbers its own.
    NoCounter,
    /// The consumer waits for no line, because it has asked for all that come next before.
    FetchesAhead,
    /// So many connections, each with a part of the records, its counter and its consumer.
    Connections(usize),
}

/// How many records there are.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// So many million a second, of all processors together, at random.
    Rate(f64),
    /// All processors do nothing else.
    AsFastAsCan,
    /// The same, and there is room for all of it.
    Nobody,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Rate(millions) => write!(f, "{millions:.0} M/s"),
            Load::AsFastAsCan | Load::Nobody => write!(f, "all they can"),
        }
    }
}

/// What came of it.
pub(crate) struct Told {
    /// Millions a second.
    pub(crate) delivered: f64,
    pub(crate) lost: f64,
    /// Nanoseconds for who notifies and finds room: the mean, and the 99th of a hundred.
    pub(crate) mean: f64,
    pub(crate) late: f64,
    /// Parts of the time in which the busiest counter and consumer are busy.
    pub(crate) counter: f64,
    pub(crate) consumer: f64,
}

/// A connection's counter and consumer.
#[derive(Default)]
struct Connection {
    /// Who had the counter last, and when the next one can have it.
    owner: usize,
    free: f64,
    counting: f64,
    /// When the consumer has read all there is.
    read: f64,
    reading: f64,
    /// When the consumer has read what is in each processor's ring.
    rings: Vec<VecDeque<f64>>,
}

impl Machine {
    fn transfer(&self, from: usize, to: usize) -> f64 {
        if from / self.group == to / self.group {
            self.in_group
        } else if from / self.socket == to / self.socket {
            self.in_socket
        } else {
            self.across
        }
    }

    /// What the consumer, on the first processor, waits for a record of this one.
    fn fetch(&self, from: usize) -> f64 {
        self.fetch.unwrap_or_else(|| self.transfer(from, 0))
    }

    /// The same, of all processors alike.
    pub(crate) fn mean_fetch(&self) -> f64 {
        let all = (0..self.processors).map(|from| self.fetch(from));
        all.sum::<f64>() / self.processors as f64
    }
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A pause of this mean.
    fn pause(&mut self, mean: f64) -> f64 {
        let part = ((self.bits() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        -mean * part.ln()
    }
}

/// A moment at which a processor begins to notify, in picoseconds, so that moments have an order.
type Moment = Reverse<(u64, usize)>;

fn moment(nanoseconds: f64, processor: usize) -> Moment {
    Reverse(((nanoseconds * 1e3) as u64, processor))
}

/// Simulates so many notifications.
pub(crate) fn run(machine: &Machine, costs: &Costs, way: Way, load: Load, records: u64) -> Told {
    let think = match load {
        Load::Rate(millions) => machine.processors as f64 * 1e3 / millions,
        Load::AsFastAsCan | Load::Nobody => 0.0,
    };
    let count = match way {
        Way::Connections(count) => count,
        Way::AsItIs | Way::NoCounter | Way::FetchesAhead => 1,
    };
    let mut connections: Vec<Connection> = (0..count)
        .map(|_| Connection {
            rings: vec![VecDeque::new(); machine.processors],
            ..Connection::default()
        })
        .collect();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut moments: BinaryHeap<Moment> = (0..machine.processors)
        .map(|processor| moment(random.pause(think + 100.0), processor))
        .collect();
    let (mut lost, mut end) = (0, 0.0);
    let mut took = Vec::with_capacity(records as usize);
    for _ in 0..records {
        let Some(Reverse((at, processor))) = moments.pop() else {
            break;
        };
        let begin = at as f64 / 1e3;
        let which = random.bits() as usize % count;
        let done = connections[which].notify(begin, processor, machine, costs, way, load);
        if done.1 {
            took.push(done.0 - begin);
        }
        lost += u64::from(!done.1);
        end = f64::max(end, done.0);
        moments.push(moment(done.0 + random.pause(think), processor));
    }
    took.sort_by(f64::total_cmp);
    let busiest = |of: fn(&Connection) -> f64| connections.iter().map(of).fold(0.0, f64::max);
    // What is in the rings at the end would be read a little later.
    let consumer = f64::min(1.0, busiest(|it| it.reading) / end);
    let unread: usize = connections.iter().map(|it| it.unread(end)).sum();
    Told {
        delivered: (records - lost - unread as u64) as f64 * 1e3 / end,
        lost: lost as f64 / records as f64,
        mean: took.iter().sum::<f64>() / took.len() as f64,
        late: took[took.len() * 99 / 100],
        counter: busiest(|it| it.counting) / end,
        consumer,
    }
}

impl Connection {
    /// A processor notifies; when it is done, and whether there was room.
    fn notify(
        &mut self,
        begin: f64,
        processor: usize,
        machine: &Machine,
        costs: &Costs,
        way: Way,
        load: Load,
    ) -> (f64, bool) {
        let ring = &mut self.rings[processor];
        while ring.front().is_some_and(|read| *read <= begin) {
            ring.pop_front();
        }
        if ring.len() >= costs.records && load != Load::Nobody {
            return (begin + costs.write, false);
        }
        let wants = begin + costs.write;
        let done = if way == Way::NoCounter {
            wants
        } else {
            let takes = match self.owner == processor {
                true => costs.number,
                false => costs.number + machine.transfer(self.owner, processor),
            };
            self.owner = processor;
            self.counting += takes;
            self.free = f64::max(self.free, wants) + takes;
            self.free
        };
        if load != Load::Nobody {
            let fetch = match way {
                Way::FetchesAhead => 0.0,
                _ => machine.fetch(processor),
            };
            let consume = costs.consume + fetch;
            self.read = f64::max(self.read, done) + consume;
            self.reading += consume;
            ring.push_back(self.read);
        }
        (done, true)
    }

    fn unread(&self, end: f64) -> usize {
        let rings = self.rings.iter().flatten();
        rings.filter(|read| **read > end).count()
    }
}
