// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rundown protection: who holds it keeps an object from going away; who ends it waits for them.
//!
//! The word counts holders in steps of two; the lowest bit says that the rundown has begun, so
//! that nobody can acquire it any more. Beside it a table keeps what the word cannot tell: whether
//! it was initialised and where, and who waits for it.

pub(crate) mod cache_aware;
mod quick;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::abi::EX_RUNDOWN_REF;
use crate::entry::nt;
use crate::irql::{APC_LEVEL, DISPATCH_LEVEL};
use crate::kernel;
use crate::sched::{self, Waiter};
use crate::stack::Stack;
use crate::verifier::hang;
use crate::verifier::{self, Report, Rule};

const ENDED: usize = 1;
const HOLDER: usize = 2;

/// What is known of one word besides its value.
#[derive(Default)]
struct Tracked {
    /// Where it was initialised; empty for a word that was zeroed instead.
    made_at: Stack,
    /// As many holders as were let in; other than the word's count it is known to be the driver's.
    holders: usize,
    /// The threads that wait for its rundown.
    waiters: Vec<Arc<Waiter>>,
}

/// All rundown protection of one kernel, by the address of its word.
#[derive(Default)]
pub(crate) struct Rundowns(Mutex<BTreeMap<usize, Tracked>>);

impl Rundowns {
    fn initialize(&self, address: usize) {
        let tracked = Tracked {
            made_at: Stack::capture(),
            ..Default::default()
        };
        let former = self.0.lock().insert(address, tracked);
        if let Some(former) = former.filter(|former| former.holders > 0) {
            report_held(&former, "it is initialised again");
        }
    }

    fn acquire(&self, address: usize, word: &AtomicUsize) -> bool {
        let mut known = self.0.lock();
        if word.load(Ordering::SeqCst) & ENDED != 0 {
            return false;
        }
        word.fetch_add(HOLDER, Ordering::SeqCst);
        known.entry(address).or_default().holders += 1;
        true
    }

    /// Gives it back; false if nobody holds it. The memory may be gone afterwards.
    fn release(&self, address: usize, word: &AtomicUsize) -> bool {
        let mut known = self.0.lock();
        let Some(left) = word.load(Ordering::SeqCst).checked_sub(HOLDER) else {
            return false;
        };
        word.store(left, Ordering::SeqCst);
        if let Some(tracked) = known.get_mut(&address) {
            tracked.holders = tracked.holders.saturating_sub(1);
            if left == ENDED {
                tracked
                    .waiters
                    .iter()
                    .for_each(|waiter| sched::wake(waiter));
            }
        }
        true
    }

    /// Begins the rundown and waits until nobody holds it.
    fn end(&self, address: usize, word: &AtomicUsize) {
        let waiter = Arc::new(Waiter::new());
        let mut known = self.0.lock();
        let held = word.fetch_or(ENDED, Ordering::SeqCst) > ENDED;
        let tracked = known.entry(address).or_default();
        // A wait for what is run down already is documented to be no error.
        let twice = held && !tracked.waiters.is_empty();
        let made_at = tracked.made_at.clone();
        if held {
            tracked.waiters.push(waiter.clone());
        }
        drop(known);
        if twice {
            report_waited_twice(&made_at);
        }
        if !held {
            return;
        }
        if !hang::wait_until(&waiter, || word.load(Ordering::SeqCst) == ENDED) {
            report_hang(word.load(Ordering::SeqCst) / HOLDER, &made_at);
        }
        if let Some(tracked) = self.0.lock().get_mut(&address) {
            tracked.waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
        }
    }

    /// Makes it acquirable again.
    fn reinitialize(&self, address: usize, word: &AtomicUsize) {
        let mut known = self.0.lock();
        let value = word.swap(0, Ordering::SeqCst);
        let tracked = known.entry(address).or_default();
        let made_at = tracked.made_at.clone();
        *tracked = Tracked {
            made_at: made_at.clone(),
            ..Default::default()
        };
        drop(known);
        if value != ENDED {
            report_not_ended(&made_at, "a rundown that has not begun or is still held up");
        }
    }

    /// Says that the rundown is over, for good.
    fn complete(&self, address: usize, word: &AtomicUsize) {
        let mut known = self.0.lock();
        let value = word.swap(ENDED, Ordering::SeqCst);
        let tracked = std::mem::take(known.entry(address).or_default());
        drop(known);
        if value > ENDED {
            report_held(&tracked, "it is declared run down");
        } else if value == 0 {
            report_not_ended(&tracked.made_at, "ExRundownCompleted without a rundown");
        }
    }

    /// Forgets what lies within memory that is freed, and reports what is held there.
    pub(crate) fn forget_within(&self, range: std::ops::Range<usize>) {
        let mut known = self.0.lock();
        let within: Vec<usize> = known.range(range).map(|(address, _)| *address).collect();
        let forgotten: Vec<Tracked> = within.iter().filter_map(|it| known.remove(it)).collect();
        drop(known);
        for tracked in forgotten.iter().filter(|tracked| tracked.holders > 0) {
            report_held(tracked, "its memory is freed");
        }
    }
}

/// Adds where the protection was initialised, if that was seen.
fn initialised(report: Report, made_at: &Stack) -> Report {
    if made_at.addresses().is_empty() {
        return report;
    }
    report.related("it was initialised here", made_at.clone())
}

fn report_held(tracked: &Tracked, found: &str) {
    let report = Report::new(Rule::RundownHeld)
        .expected("ExWaitForRundownProtectionRelease first, which waits for the holders")
        .found(format!("{found} while {} hold it", tracked.holders));
    initialised(report, &tracked.made_at).file();
}

fn report_not_ended(made_at: &Stack, found: &str) {
    let report = Report::new(Rule::RundownNotEnded)
        .expected("ExWaitForRundownProtectionRelease has returned before")
        .found(found);
    initialised(report, made_at).file();
}

fn report_waited_twice(made_at: &Stack) {
    let report = Report::new(Rule::RundownWaitedTwice)
        .expected("one thread that waits for a rundown")
        .found("a second one, while the first still waits");
    initialised(report, made_at).file();
}

fn report_hang(holders: usize, made_at: &Stack) {
    let report = Report::new(Rule::RundownHangs)
        .expected("everybody gives it back soon")
        .found(format!("{holders} hold it"))
        .detail(
            "on NT this wait never ends; every ExAcquireRundownProtection that returned true \
             needs its release, on every path, and not by the thread that waits; here the wait \
             ends as if that had been done",
        );
    initialised(report, made_at).file();
}

fn release_or_report(address: usize, word: &AtomicUsize) {
    if !kernel::state().rundowns.release(address, word) {
        Report::new(Rule::RundownNotHeld)
            .expected("an ExAcquireRundownProtection before that returned true")
            .found("nobody holds it")
            .detail("a release belongs to a successful acquire only, once")
            .file();
    }
}

/// # Safety
/// `rundown` points to live rundown protection.
unsafe fn word<'a>(rundown: *mut EX_RUNDOWN_REF) -> &'a AtomicUsize {
    // SAFETY: live and aligned by contract, and one word long; all access goes through here.
    unsafe { AtomicUsize::from_ptr(rundown.cast()) }
}

nt! {
    /// Makes rundown protection that can be acquired.
    max_irql = APC_LEVEL;
    pub unsafe fn ExInitializeRundownProtection(rundown: *mut EX_RUNDOWN_REF) {
        if !verifier::is_off() {
            kernel::state().rundowns.initialize(rundown as usize);
        }
        // SAFETY: the caller passes memory for it.
        unsafe { word(rundown) }.store(0, Ordering::SeqCst);
    }

    /// Acquires it; false once the rundown has begun.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ExAcquireRundownProtection(rundown: *mut EX_RUNDOWN_REF) -> bool {
        // SAFETY: the caller passes rundown protection.
        let word = unsafe { word(rundown) };
        if verifier::is_off() {
            return quick::acquire(word);
        }
        kernel::state().rundowns.acquire(rundown as usize, word)
    }

    /// Gives it back.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ExReleaseRundownProtection(rundown: *mut EX_RUNDOWN_REF) {
        // SAFETY: the caller passes rundown protection that it holds.
        let word = unsafe { word(rundown) };
        if verifier::is_off() {
            return quick::release(rundown as usize, word);
        }
        release_or_report(rundown as usize, word);
    }

    /// Lets nobody acquire it any more and waits until nobody holds it.
    max_irql = APC_LEVEL;
    pub unsafe fn ExWaitForRundownProtectionRelease(rundown: *mut EX_RUNDOWN_REF) {
        // SAFETY: the caller passes rundown protection.
        let word = unsafe { word(rundown) };
        let state = kernel::state();
        if verifier::is_off() {
            return quick::end(&state.rundowns, rundown as usize, word);
        }
        state.rundowns.end(rundown as usize, word);
    }

    /// Makes it acquirable again after a completed rundown.
    max_irql = APC_LEVEL;
    pub unsafe fn ExReInitializeRundownProtection(rundown: *mut EX_RUNDOWN_REF) {
        // SAFETY: the caller passes rundown protection.
        let word = unsafe { word(rundown) };
        if verifier::is_off() {
            return word.store(0, Ordering::Release);
        }
        kernel::state().rundowns.reinitialize(rundown as usize, word);
    }

    /// Says that the rundown is over, for good.
    max_irql = APC_LEVEL;
    pub unsafe fn ExRundownCompleted(rundown: *mut EX_RUNDOWN_REF) {
        // SAFETY: the caller passes rundown protection.
        let word = unsafe { word(rundown) };
        if verifier::is_off() {
            return word.store(ENDED, Ordering::Release);
        }
        kernel::state().rundowns.complete(rundown as usize, word);
    }
}
