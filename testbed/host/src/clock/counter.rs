// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clocks read from the processor's time-stamp counter, as NT reads them: half as dear as asking
//! the host system, which is asked again every millisecond.
//!
//! Each thread keeps what the clocks said last, and the counter at that moment; how many
//! nanoseconds a tick of the counter takes is measured between two such moments. So nothing is
//! shared but that number, and a clock that is slewed or set is followed within a millisecond. A
//! thread never sees a clock that is slewed go backwards.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::nanoseconds;

/// Nanoseconds of two clocks of the host system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nanoseconds {
    /// CLOCK_REALTIME, since 1970.
    pub(super) real: u64,
    /// CLOCK_BOOTTIME, since boot.
    pub(super) boot: u64,
}

const NOTHING: Nanoseconds = Nanoseconds { real: 0, boot: 0 };

/// How long an answer of the host system is good for, in nanoseconds.
const GOOD_FOR: u64 = 1_000_000;
/// A tick is measured over so much at least: the clocks are read to some 30 ns.
const LEAST_MEASURED: u64 = GOOD_FOR / 2;
/// And at most, so that a machine that slept is not taken for a slow counter.
const MOST_MEASURED: u64 = 1_000_000_000;
/// A clock that is behind what was last seen by no more than this is waited for. One that is further
/// behind was set.
const SLEWED: u64 = 5_000;
/// Ticks that it takes to ask both clocks; more is an interruption, and is tried again.
const UNDISTURBED: u64 = 1_000;

/// Nanoseconds of a tick, times 2^32; zero until it was measured.
static SCALE: AtomicU64 = AtomicU64::new(0);

/// What the clocks said at one moment.
#[derive(Clone, Copy)]
struct Sample {
    /// The counter then.
    counter: u64,
    clocks: Nanoseconds,
}

/// What a thread knows.
struct Known {
    sample: Cell<Sample>,
    /// How many ticks it is good for; zero before the first.
    ticks: Cell<u64>,
    scale: Cell<u64>,
    /// What was last seen by the sample before.
    floor: Cell<Nanoseconds>,
}

thread_local! {
    static KNOWN: Known = const {
        Known {
            sample: Cell::new(Sample { counter: 0, clocks: NOTHING }),
            ticks: Cell::new(0),
            scale: Cell::new(0),
            floor: Cell::new(NOTHING),
        }
    };
}

/// The clocks now; none if this machine has no counter that can be trusted.
#[inline]
pub(super) fn read() -> Option<Nanoseconds> {
    KNOWN.with(|known| {
        let passed = counter().wrapping_sub(known.sample.get().counter);
        if passed < known.ticks.get() {
            Some(known.after(passed))
        } else {
            known.ask()
        }
    })
}

impl Known {
    #[inline]
    fn after(&self, ticks: u64) -> Nanoseconds {
        let passed = (ticks * self.scale.get()) >> 32;
        let (begin, floor) = (self.sample.get().clocks, self.floor.get());
        Nanoseconds {
            real: (begin.real + passed).max(floor.real),
            boot: (begin.boot + passed).max(floor.boot),
        }
    }

    /// Asks the host system.
    #[cold]
    #[inline(never)]
    fn ask(&self) -> Option<Nanoseconds> {
        if !is_trusted() {
            return None;
        }
        let (former, now) = (self.sample.get(), Sample::take());
        if let Some(scale) = measure(&former, &now) {
            SCALE.store(scale, Ordering::Relaxed);
        }
        let scale = SCALE.load(Ordering::Relaxed);
        if scale == 0 {
            // Asked each time, until the first answer is old enough to measure a tick by.
            if now.clocks.boot.saturating_sub(former.clocks.boot) >= MOST_MEASURED {
                self.sample.set(now);
            }
            return Some(now.clocks);
        }
        // The former answer was good until now at the most.
        let last = self.after(
            now.counter
                .wrapping_sub(former.counter)
                .min(self.ticks.get()),
        );
        self.floor.set(Nanoseconds {
            real: floor(last.real, now.clocks.real),
            boot: floor(last.boot, now.clocks.boot),
        });
        self.sample.set(now);
        self.scale.set(scale);
        self.ticks.set((GOOD_FOR << 32) / scale);
        Some(self.after(0))
    }
}

/// What a clock must not fall behind, that was last seen at `last`.
fn floor(last: u64, now: u64) -> u64 {
    if last.saturating_sub(now) <= SLEWED {
        last
    } else {
        0
    }
}

/// Nanoseconds of a tick between two samples, by the clock that nobody sets.
fn measure(former: &Sample, now: &Sample) -> Option<u64> {
    let passed = now.clocks.boot.checked_sub(former.clocks.boot)?;
    let ticks = now.counter.checked_sub(former.counter)?;
    if !(LEAST_MEASURED..MOST_MEASURED).contains(&passed) {
        return None;
    }
    (passed << 32).checked_div(ticks).filter(|scale| *scale > 0)
}

impl Sample {
    /// Asks both clocks, if possible without being interrupted.
    fn take() -> Sample {
        let (mut best, mut least) = Sample::take_once();
        for _ in 0..4 {
            if least <= UNDISTURBED {
                break;
            }
            let (sample, took) = Sample::take_once();
            if took < least {
                (best, least) = (sample, took);
            }
        }
        best
    }

    /// A sample, and how many ticks it took.
    fn take_once() -> (Sample, u64) {
        let before = counter();
        let real = nanoseconds(libc::CLOCK_REALTIME);
        // Right for both but for the half of a call.
        let middle = counter();
        let boot = nanoseconds(libc::CLOCK_BOOTTIME);
        let took = counter().wrapping_sub(before);
        let sample = Sample {
            counter: middle,
            clocks: Nanoseconds { real, boot },
        };
        (sample, took)
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    // SAFETY: every x64 processor has the instruction, and Linux lets programs use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    0
}

/// Whether the counter runs at one speed, and the same on all processors: as the processor says, and
/// as Linux has found, which keeps its own time by it then.
fn is_trusted() -> bool {
    static TRUSTED: OnceLock<bool> = OnceLock::new();
    *TRUSTED.get_or_init(|| {
        let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        is_invariant() && std::fs::read_to_string(source).is_ok_and(|name| name.trim() == "tsc")
    })
}

/// Bit 8 of edx of leaf 0x8000_0007: the counter is invariant.
#[cfg(target_arch = "x86_64")]
fn is_invariant() -> bool {
    use core::arch::x86_64::__cpuid;
    const LEAF: u32 = 0x8000_0007;
    __cpuid(0x8000_0000).eax >= LEAF && __cpuid(LEAF).edx & (1 << 8) != 0
}

#[cfg(not(target_arch = "x86_64"))]
fn is_invariant() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn ask() -> [u64; 2] {
        [libc::CLOCK_REALTIME, libc::CLOCK_BOOTTIME].map(nanoseconds)
    }

    /// Both clocks are asked before and after. Where the host system has stopped the thread between
    /// them, the bounds are as far apart.
    #[test]
    fn the_counter_is_close_to_the_clocks_and_never_goes_backwards() {
        if !is_trusted() {
            println!("this machine's counter is not used");
            return;
        }
        let begin = Instant::now();
        let mut last = [0; 2];
        let (mut reads, mut off) = (0_u32, 0_u32);
        while begin.elapsed() < Duration::from_millis(300) {
            let before = ask();
            let now = read().map(|it| [it.real, it.boot]).expect("trusted");
            let after = ask();
            for clock in 0..2 {
                assert!(now[clock] >= last[clock], "backwards");
                let is_close =
                    now[clock] + 1_000 > before[clock] && now[clock] < after[clock] + 1_000;
                reads += 1;
                off += u32::from(!is_close);
            }
            last = now;
        }
        // A virtual machine that was stopped while it asked leaves a bad millisecond.
        assert!(
            off * 50 < reads,
            "{off} of {reads} are off by a microsecond"
        );
    }

    #[test]
    fn a_clock_that_was_set_is_followed_and_one_that_is_slewed_is_waited_for() {
        assert_eq!(floor(1_000_000, 1_000_300), 1_000_000);
        assert_eq!(floor(1_000_300, 1_000_000), 1_000_300);
        assert_eq!(floor(9_000_000, 1_000_000), 0);
    }

    #[test]
    fn a_tick_is_measured_over_a_sensible_time_only() {
        let at = |counter, boot| Sample {
            counter,
            clocks: Nanoseconds { real: 0, boot },
        };
        let third = (1 << 32) / 3;
        let begin = at(9, 5);
        assert_eq!(measure(&begin, &at(3_000_009, 1_000_005)), Some(third));
        assert_eq!(measure(&begin, &at(309, 105)), None, "too short");
        assert_eq!(measure(&begin, &at(39, u64::MAX)), None, "too long");
        assert_eq!(measure(&begin, &at(9, 1_000_005)), None, "no tick");
        assert_eq!(measure(&at(9, 1_000_005), &at(39, 5)), None, "backwards");
    }
}
