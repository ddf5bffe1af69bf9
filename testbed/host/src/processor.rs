// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processors of the hosted kernel: at DISPATCH_LEVEL and above a thread has one for itself.
//!
//! NT takes no thread off a processor whose IRQL is DISPATCH_LEVEL or more, so whoever is there may
//! keep what belongs to this processor without a lock. Here a thread that raises its IRQL takes a
//! processor and keeps it until it lowers the IRQL again; as many threads can be at DISPATCH_LEVEL
//! at one time as there are processors, and the others wait for their turn. Whoever spins for a
//! lock has a processor meanwhile, as on NT. That cannot lead to a deadlock of its own: a processor
//! is taken before anything else at that level, and who has one needs no second one to go on.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::kernel::Config;
use crate::sched;
use crate::sim;
use crate::thread::{self, Context};

/// As many as a group of NT's has at most.
const MOST: usize = 64;

/// Who has a processor, by identity; zero if nobody. On a line of its own, as the processors' data
/// would be.
#[repr(align(128))]
struct Processor(AtomicUsize);

static PROCESSORS: [Processor; MOST] = [const { Processor(AtomicUsize::new(0)) }; MOST];

/// How many of them the kernel has that runs.
static COUNT: AtomicU32 = AtomicU32::new(Config::PROCESSORS);

/// Before a thread that waits lets others run: a processor is mostly free again at once.
const SPINS: u32 = 64;
/// Nobody keeps a processor for that long but who blocks where the kernel cannot see it, in a test
/// or under a debugger. On NT everything would stand still; here two threads share a number then.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same in a simulation, in turns.
const PATIENT_TURNS: u32 = 200_000;

/// A kernel boots that has so many, and nobody has one of them.
pub(crate) fn install(count: u32) {
    let most = u32::try_from(MOST).unwrap_or(u32::MAX);
    COUNT.store(count.clamp(1, most), Ordering::Relaxed);
    for processor in &PROCESSORS {
        processor.0.store(0, Ordering::Relaxed);
    }
}

/// How many there are.
pub(crate) fn count() -> u32 {
    COUNT.load(Ordering::Relaxed)
}

/// The number of the processor that the calling thread has; below DISPATCH_LEVEL, the one that it
/// had last.
pub(crate) fn current() -> u32 {
    thread::with_context(|context| context.processor.get().min(count() - 1))
}

fn identity(context: &Context) -> usize {
    std::ptr::from_ref(context) as usize
}

/// Takes a processor if it is free. Acquire, and release where it is given back: who has it next
/// sees what its last one wrote, as on a processor of its own.
#[inline]
fn try_take(number: u32, context: &Context) -> bool {
    let place = PROCESSORS.get(number as usize).map(|it| &it.0);
    let taken = place.is_some_and(|place| {
        place
            .compare_exchange(0, identity(context), Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    });
    if taken {
        context.processor.set(number);
        context.has_processor.set(true);
    }
    taken
}

/// The calling thread goes to DISPATCH_LEVEL or above: takes the processor that it had last, or
/// another one, or waits for one.
#[inline]
pub(crate) fn take(context: &Context) {
    let last = context.processor.get();
    if last >= count() || !try_take(last, context) {
        take_any(context);
    }
}

#[cold]
#[inline(never)]
fn take_any(context: &Context) {
    let (count, last) = (count(), context.processor.get());
    let mut turns = 0;
    let mut since = None;
    while !(0..count).any(|step| try_take((last + step) % count, context)) {
        turns += 1;
        if sim::is_simulated() {
            if turns > PATIENT_TURNS {
                return;
            }
            sched::pause();
        } else if turns < SPINS {
            std::hint::spin_loop();
        } else {
            if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                return;
            }
            sched::pause();
        }
    }
}

/// The calling thread goes below DISPATCH_LEVEL, or ends there.
#[inline]
pub(crate) fn give_back(context: &Context) {
    if context.has_processor.replace(false)
        && let Some(processor) = PROCESSORS.get(context.processor.get() as usize)
        // Another one has it if a kernel has booted since.
        && processor.0.load(Ordering::Relaxed) == identity(context)
    {
        processor.0.store(0, Ordering::Release);
    }
}

/// Runs `wait`, in which the calling thread blocks. To do so at DISPATCH_LEVEL is a mistake that is
/// reported elsewhere; others may have the processor meanwhile, who may be those that are waited
/// for.
pub(crate) fn without<R>(wait: impl FnOnce() -> R) -> R {
    let had = |context: &Context| {
        let had = context.has_processor.get();
        give_back(context);
        had
    };
    let had = thread::try_with_context(had).unwrap_or(false);
    let result = wait();
    if had {
        thread::with_context(take);
    }
    result
}
