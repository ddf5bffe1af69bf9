// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sweep: one run for each call that can fail.

use std::collections::BTreeMap;
use std::fmt;

use super::plan::{FaultPlan, Tried};
use super::{Failure, InjectedFault};
use crate::kernel::Config;

/// A sweep, and what it has done so far.
#[derive(Default)]
pub struct Sweep {
    tried: Tried,
    runs: usize,
    injected: Vec<InjectedFault>,
}

/// Repeats `run` until it meets no call stack any more that has not failed yet; see
/// [`Sweep::over`].
pub fn sweep(run: impl FnMut(Config)) -> Sweep {
    let mut sweep = Sweep::default();
    sweep.over(run);
    sweep
}

impl Sweep {
    /// Repeats `run`, each time with one more call stack that fails, until a run has met no new
    /// one. `run` boots its kernel with the configuration that it is given, changed as it likes but
    /// for the faults; whatever it asserts holds after every failure. When it panics, the fault is
    /// printed.
    ///
    /// Several runs can be swept one after the other: what failed in one is not tried again in the
    /// next.
    pub fn over(&mut self, mut run: impl FnMut(Config)) {
        loop {
            let faults = FaultPlan::untried(self.tried.clone());
            let explains = Explains(faults.clone());
            run(Config {
                faults: faults.clone(),
                ..Config::default()
            });
            drop(explains);
            self.runs += 1;
            let injected = faults.injected();
            if injected.is_empty() {
                return;
            }
            self.injected.extend(injected);
        }
    }

    /// How often something was run: once for each fault, and once more for each run without.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// Everything that has failed, in order.
    #[must_use]
    pub fn injected(&self) -> &[InjectedFault] {
        &self.injected
    }

    /// How many faults there were of each function and each failure.
    #[must_use]
    pub fn by_function(&self) -> BTreeMap<(&'static str, Failure), usize> {
        let mut counts = BTreeMap::new();
        for fault in &self.injected {
            *counts.entry((fault.function, fault.failure)).or_default() += 1;
        }
        counts
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} faults injected in {} runs",
            self.injected.len(),
            self.runs
        )?;
        for ((function, failure), count) in self.by_function() {
            writeln!(f, "{count:>6}  {function}: {}", failure.name)?;
        }
        Ok(())
    }
}

/// Prints what failed when the run panics.
struct Explains(FaultPlan);

impl Drop for Explains {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.print();
        }
    }
}
