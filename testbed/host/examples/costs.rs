// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints what calls of the hosted kernel cost, in nanoseconds, with the verifier and without: what a
//! benchmark of a driver pays for NT. Build it with `--release`.

use fltport_nt::bindings::{
    ExAllocatePool2, ExFreePoolWithTag, KeQueryInterruptTimePrecise, KeQuerySystemTimePrecise,
};
use fltport_nt::ex::{CacheAwareRundown, Rundown, Tag};
use fltport_nt::ke::{AtDispatch, CriticalRegion, SpinLock, current_irql, current_processor};
use fltport_nt::linked::{
    KeAcquireSpinLockAtDpcLevel, KeReleaseSpinLockFromDpcLevel, POOL_FLAG_NON_PAGED,
};
use nt_host::{Config, Kernel, Verifier};
use std::hint::black_box;
use std::ptr::null_mut;
use std::time::Instant;

const TAG: Tag = Tag::new(b"Cost");

/// The costs under one kernel, in their order.
struct Costs {
    calls: u32,
    found: Vec<(&'static str, f64)>,
}

impl Costs {
    /// The cheapest of several rounds, in nanoseconds a turn.
    fn of(&mut self, what: &'static str, mut turn: impl FnMut()) {
        let round = |_| {
            let begin = Instant::now();
            (0..self.calls).for_each(|_| turn());
            begin.elapsed().as_secs_f64() * 1e9 / f64::from(self.calls)
        };
        let least = (0..7).map(round).fold(f64::INFINITY, f64::min);
        self.found.push((what, least));
    }
}

fn allocate_and_free() {
    let tag = u32::from_le_bytes(*b"Cost");
    // SAFETY: takes numbers.
    let memory = black_box(unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, tag) });
    // SAFETY: just allocated.
    unsafe { ExFreePoolWithTag(memory, tag) };
}

fn system_time() -> i64 {
    let mut time = 0;
    // SAFETY: a valid place.
    unsafe { KeQuerySystemTimePrecise(&raw mut time) };
    time
}

fn interrupt_time() -> u64 {
    // SAFETY: no place for the counter.
    unsafe { KeQueryInterruptTimePrecise(null_mut()) }
}

fn measure(verifier: Verifier) -> Costs {
    let kernel = Kernel::boot(Config {
        verifier,
        ..Config::default()
    });
    let calls = match verifier {
        Verifier::Full => 20_000,
        Verifier::Off => 1_000_000,
    };
    let found = Vec::new();
    let mut costs = Costs { calls, found };
    let lock = SpinLock::new(());
    let rundown = Rundown::new(TAG).expect("there is memory");
    costs.of("KeGetCurrentIrql", || {
        black_box(current_irql());
    });
    costs.of("KfRaiseIrql, KeLowerIrql", || drop(AtDispatch::raise()));
    costs.of("KeAcquireSpinLock, KeReleaseSpinLock", || drop(lock.lock()));
    costs.of("ExAcquireRundownProtection, ExRelease…", || {
        if rundown.acquire_for_another_thread() {
            // SAFETY: acquired on the line above.
            unsafe { rundown.release() };
        }
    });
    let cache_aware = CacheAwareRundown::new(TAG).expect("there is memory");
    costs.of("ExAcquireRundownProtectionCacheAware, … region", || {
        drop(cache_aware.acquire());
    });
    costs.of("KeEnterCriticalRegion, KeLeave…, the IRQL", || {
        drop(CriticalRegion::enter());
    });
    costs.of("ExAllocatePool2, ExFreePoolWithTag", allocate_and_free);
    costs.of("KeQuerySystemTimePrecise", || {
        black_box(system_time());
    });
    costs.of("KeQueryInterruptTimePrecise", || {
        black_box(interrupt_time());
    });
    let mut word = 0_usize;
    let word = &raw mut word;
    let at_dispatch = AtDispatch::raise();
    costs.of("KeAcquireSpinLockAtDpcLevel, KeRelease…", || {
        // SAFETY: a free lock, at DISPATCH_LEVEL.
        unsafe { KeAcquireSpinLockAtDpcLevel(word) };
        // SAFETY: taken on the line above.
        unsafe { KeReleaseSpinLockFromDpcLevel(word) };
    });
    costs.of("KeGetCurrentProcessorNumberEx", || {
        black_box(current_processor());
    });
    drop((at_dispatch, rundown, cache_aware));
    kernel.shutdown_clean();
    costs
}

fn main() {
    let full = measure(Verifier::Full);
    let off = measure(Verifier::Off);
    println!("{:<48}{:>10}{:>10}", "nanoseconds", "verifier", "without");
    for ((what, full), (_, off)) in full.found.iter().zip(&off.found) {
        println!("{what:<48}{full:>10.1}{off:>10.1}");
    }
}
