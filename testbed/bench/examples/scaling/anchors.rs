// SPDX-License-Identifier: MIT OR Apache-2.0

//! What this machine can tell, in nanoseconds.

use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use fltport_abi::frame::record_size;
use fltport_ring::{Order, stride};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::memory;
use crate::model::{Costs, Machine};
use crate::rings::{PAYLOAD, Rings};

/// Laps of a measurement, short ones.
const LAPS: usize = 201;
/// Numbers of rings that are merged.
const RINGS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// Records that wait in each ring when the consumer comes: few, and as many as there certainly is room for.
const FEW: usize = 16;
const MANY: usize = 400;
/// What a processor's burst is.
const BURST: usize = 32;

/// How records come: from which ring each.
#[derive(Clone, Copy)]
enum Pattern {
    Anyhow,
    InBursts,
}

/// What merging so many rings costs, if a few records wait in each, in any order; if many do; and if many do that came in
/// bursts.
struct Merge {
    rings: usize,
    few: f64,
    many: f64,
    in_bursts: f64,
    nothing: f64,
}

pub(crate) struct Anchors {
    /// A number for who is alone, and with two at once, for both together.
    number: f64,
    contended: f64,
    /// A line from one processor to the other.
    transfer: f64,
    /// A record published, number included; and with two at once, for each of them.
    publish: f64,
    pub(crate) both: f64,
    /// A record read that the same processor has written, and the other one.
    near: f64,
    far: f64,
    merge: Vec<Merge>,
}

impl Anchors {
    pub(crate) fn measure() -> Result<Anchors> {
        let processors = two_processors()?;
        let [first, _] = processors;
        pin(first)?;
        let mut merge = Vec::new();
        for rings in RINGS {
            merge.push(Merge {
                rings,
                few: merged(rings, FEW, Pattern::Anyhow)?,
                many: merged(rings, MANY, Pattern::Anyhow)?,
                in_bursts: merged(rings, MANY, Pattern::InBursts)?,
                nothing: nothing(rings)?,
            });
        }
        Ok(Anchors {
            number: numbers(&[first])?,
            contended: numbers(&processors)?,
            transfer: transfer(processors)?,
            publish: published(&[first])?,
            both: published(&processors)?,
            near: read(first, first)?,
            far: read(processors[1], first)?,
            merge,
        })
    }

    /// The costs with so many rings.
    pub(crate) fn costs(&self, rings: usize) -> Costs {
        let merged = self.merge.iter().find(|merge| merge.rings >= rings);
        let merged = merged.map_or(f64::NAN, |merge| merge.few);
        Costs {
            number: self.number,
            write: self.publish - self.number,
            consume: merged,
            records: memory::ring(rings as u32) as usize / stride(record_size(PAYLOAD)),
        }
    }

    /// This machine, if a number that the other one had last takes so long.
    fn of_two(&self, takes: f64) -> Machine {
        Machine {
            name: "2: this one",
            processors: 2,
            group: 2,
            socket: 2,
            in_group: takes,
            in_socket: takes,
            across: takes,
            fetch: Some((self.far - self.near).max(0.0)),
        }
    }

    /// As other machines are known.
    pub(crate) fn this_machine(&self) -> Machine {
        self.of_two(self.transfer)
    }

    /// As it would be if two that do nothing else but take numbers were like two that notify.
    pub(crate) fn at_best(&self) -> Machine {
        self.of_two((self.contended - self.number).max(0.0))
    }

    pub(crate) fn print(&self) {
        println!("| measured here | ns |\n| --- | --- |");
        println!("| a number, alone | {:.1} |", self.number);
        println!("| a number, two at once | {:.1} |", self.contended);
        println!("| a line to the other processor | {:.0} |", self.transfer);
        println!(
            "| a record of {PAYLOAD} bytes published | {:.1} |",
            self.publish
        );
        println!("| the same, two at once, each | {:.1} |", self.both);
        println!("| read where it was written | {:.1} |", self.near);
        println!("| read on the other processor | {:.1} |", self.far);
        println!(
            "\n| rings | {FEW} each | {MANY} each | {MANY} each, in bursts of {BURST} | nothing, and armed |"
        );
        println!("| --- | --- | --- | --- | --- |");
        for merge in &self.merge {
            println!(
                "| {} | {:.1} | {:.1} | {:.1} | {:.0} |",
                merge.rings, merge.few, merge.many, merge.in_bursts, merge.nothing
            );
        }
    }
}

fn two_processors() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(None).context("cannot ask for the processors")?;
    let mut numbers = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number));
    let two = numbers.next().zip(numbers.next());
    let (first, second) = two.context("two processors are needed")?;
    Ok([first, second])
}

fn pin(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on processor {processor}"))
}

/// Of laps that took so long the tenth part was disturbed least: the longest of those.
fn undisturbed(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 10).copied().unwrap_or(f64::NAN)
}

/// Runs this on each of some processors at once, again and again; the nanoseconds of a lap, which lasts until the
/// last one is done.
fn laps<S: Send>(
    processors: &[usize],
    states: &mut [S],
    lap: impl Fn(&mut S) + Sync,
    between: impl Fn(&mut S) + Sync,
) -> Result<f64> {
    let barrier = Barrier::new(processors.len());
    let ready = AtomicU64::new(0);
    let run = |processor: usize, state: &mut S| -> Result<Vec<(Instant, Instant)>> {
        pin(processor)?;
        let mut took = Vec::new();
        for turn in 1..=LAPS as u64 {
            between(state);
            barrier.wait();
            // Closer together than a barrier wakes them.
            ready.fetch_add(1, Ordering::SeqCst);
            while ready.load(Ordering::SeqCst) < turn * processors.len() as u64 {
                spin_loop();
            }
            let begin = Instant::now();
            lap(state);
            took.push((begin, Instant::now()));
        }
        Ok(took)
    };
    let all: Result<Vec<Vec<(Instant, Instant)>>> = thread::scope(|scope| {
        let at = processors.iter().zip(states.iter_mut());
        let threads: Vec<_> = at
            .map(|(processor, state)| scope.spawn(|| run(*processor, state)))
            .collect();
        threads
            .into_iter()
            .map(|it| it.join().expect("no panic"))
            .collect()
    });
    let all = all?;
    let mut together = Vec::new();
    for lap in 0..LAPS {
        let of_all = || all.iter().map(|of| of[lap]);
        let (first, last) = (of_all().map(|of| of.0).min(), of_all().map(|of| of.0).max());
        let end = of_all().map(|of| of.1).max();
        let Some(((first, last), end)) = first.zip(last).zip(end) else {
            continue;
        };
        // Laps in which one had finished when the other one began say nothing.
        if (last - first) * 10 < end - first {
            together.push((end - first).as_nanos() as f64);
        }
    }
    Ok(undisturbed(together))
}

/// Nanoseconds from one number to the next, whoever takes it.
fn numbers(processors: &[usize]) -> Result<f64> {
    const EACH: u64 = 20_000;
    let order = Order::new(1);
    let take = |_: &mut ()| {
        for _ in 0..EACH {
            black_box(order.take(1));
        }
    };
    let mut states = vec![(); processors.len()];
    let lap = laps(processors, &mut states, take, |_| ())?;
    Ok(lap / (EACH * processors.len() as u64) as f64)
}

/// Half of the way there and back.
fn transfer(processors: [usize; 2]) -> Result<f64> {
    const TURNS: u64 = 500;
    let word = AtomicU64::new(0);
    let turn = |side: &mut (u64, u64)| {
        let (side, done) = side;
        for _ in 0..TURNS {
            while word.load(Ordering::Acquire) != 2 * *done + *side {
                spin_loop();
            }
            word.fetch_add(1, Ordering::AcqRel);
            *done += 1;
        }
    };
    let lap = laps(&processors, &mut [(0, 0), (1, 0)], turn, |_| ())?;
    Ok(lap / (2 * TURNS) as f64)
}

/// Nanoseconds of a record for each of those who publish at once, each into its ring and with numbers in common, without
/// anybody who reads meanwhile.
fn published(processors: &[usize]) -> Result<f64> {
    const EACH: usize = 4_000;
    let order = Order::new(1);
    // A ring for each, with a reader of its own that does not care for the numbers.
    let mut states = Vec::new();
    for _ in processors {
        states.push(Rings::new(1, 1024 * 1024)?);
    }
    let payload = [7; PAYLOAD];
    let fill = |rings: &mut Rings| {
        let side = &mut rings.sides[0];
        for _ in 0..EACH {
            assert!(side.publish(&order, &payload), "no room");
        }
    };
    let empty = |rings: &mut Rings| {
        rings.reader.skip().expect("records");
        rings.sides[0].settle();
    };
    Ok(laps(processors, &mut states, fill, empty)? / EACH as f64)
}

/// Nanoseconds of a record that is read on one processor and was written on another.
fn read(writer: usize, reader: usize) -> Result<f64> {
    const RECORDS: u64 = 6_000;
    let order = Order::new(1);
    let mut rings = Rings::new(1, 1024 * 1024)?;
    let mut took = Vec::new();
    for _ in 0..LAPS {
        pin(writer)?;
        let side = &mut rings.sides[0];
        side.settle();
        (0..RECORDS).for_each(|_| assert!(side.publish(&order, &[7; PAYLOAD]), "no room"));
        pin(reader)?;
        let begin = Instant::now();
        assert_eq!(rings.reader.read()?, RECORDS);
        took.push(begin.elapsed().as_nanos() as f64 / RECORDS as f64);
    }
    Ok(undisturbed(took))
}

/// Nanoseconds of a record, if so many rings are merged.
fn merged(count: usize, waiting: usize, pattern: Pattern) -> Result<f64> {
    let records = waiting * count;
    let order = Order::new(1);
    let mut rings = Rings::new(count, 64 * 1024)?;
    let (mut took, mut random) = (Vec::new(), 0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..LAPS {
        rings.sides.iter_mut().for_each(|side| side.settle());
        let mut written = 0;
        for record in 0..records {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let ring = match pattern {
                Pattern::Anyhow => (random >> 32) as usize % count,
                Pattern::InBursts => record / BURST % count,
            };
            written += u64::from(rings.sides[ring].publish(&order, &[7; PAYLOAD]));
        }
        let begin = Instant::now();
        assert_eq!(rings.reader.read()?, written);
        took.push(begin.elapsed().as_nanos() as f64 / written as f64);
    }
    Ok(undisturbed(took))
}

/// Nanoseconds to find nothing in so many rings, and to arm the bell.
fn nothing(count: usize) -> Result<f64> {
    const TIMES: usize = 20;
    let mut rings = Rings::new(count, 64 * 1024)?;
    let mut took = Vec::new();
    for _ in 0..LAPS {
        let begin = Instant::now();
        for _ in 0..TIMES {
            rings.reader.find_nothing()?;
        }
        took.push(begin.elapsed().as_nanos() as f64 / TIMES as f64);
    }
    Ok(undisturbed(took))
}
