// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plans: which calls fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::site::{Site, mix};
use super::{Failure, InjectedFault};
use crate::entry::{self, Function};

/// The sites that have failed already, each in each of its ways.
pub(super) type Tried = Arc<Mutex<BTreeSet<(Site, usize)>>>;

/// By what a plan chooses.
#[derive(Clone)]
enum Choice {
    Nth(u64),
    UniqueStacks(Tried),
    Random { seed: u64, one_in: u32 },
}

#[derive(Default)]
struct Progress {
    /// Calls that could have failed so far.
    calls: u64,
    /// How often each site was called.
    occurrences: BTreeMap<Site, u64>,
    injected: Vec<InjectedFault>,
    /// What was injected has been printed.
    printed: bool,
}

struct Inner {
    choice: Choice,
    /// Only these functions fail; all if there are none.
    functions: Vec<&'static str>,
    progress: Mutex<Progress>,
}

/// Which calls fail. The default is none.
///
/// A plan counts what it has seen: it is made for one run of one kernel, and its clones are the
/// same plan, so that what it did can be read behind the kernel's end.
#[derive(Clone, Default)]
pub struct FaultPlan(Option<Arc<Inner>>);

impl FaultPlan {
    /// Nothing fails.
    #[must_use]
    pub fn none() -> FaultPlan {
        FaultPlan(None)
    }

    /// The `n`th call that can fail does, counted from zero and from when the plan is set; no
    /// other does. Of several ways to fail it takes the first.
    #[must_use]
    pub fn nth(n: u64) -> FaultPlan {
        FaultPlan::by(Choice::Nth(n))
    }

    /// The first call from a call stack that has not failed yet does, in the first way that it has
    /// not failed yet; then no other. A stack is the function, and up to 16 return addresses
    /// between it and where the hosted kernel called the driver. Which have failed is remembered
    /// across [`FaultPlan::again`]; [`sweep`](super::sweep()) does the repeating.
    #[must_use]
    pub fn unique_stacks() -> FaultPlan {
        FaultPlan::untried(Tried::default())
    }

    /// One call in `one_in` fails, zero for none; which ones, `seed` decides.
    ///
    /// The choice depends on the seed, the call stack and how often that stack was called before.
    /// So the same calls fail when a run is repeated, whatever other threads do elsewhere: in a
    /// simulation always, otherwise as far as a call stack is one thread's. Of two live threads that
    /// make the same call, either may be the one that comes when it fails.
    #[must_use]
    pub fn random(seed: u64, one_in: u32) -> FaultPlan {
        FaultPlan::by(Choice::Random { seed, one_in })
    }

    /// Lets calls of this function fail only, or of several when said several times.
    ///
    /// # Panics
    /// When there is no such function, or it cannot be made to fail: nothing would fail, and a test
    /// would pass for no reason.
    #[must_use]
    pub fn of(self, function: &'static str) -> FaultPlan {
        let known = entry::functions().find(|known| known.name == function);
        match known {
            None => panic!(
                "nt-host: {function} is no function of NT that the hosted kernel has; \
                 `nt_host::entry::functions` lists them"
            ),
            Some(known) if known.fails.is_empty() => panic!(
                "nt-host: {function} cannot be made to fail; see `Function::fails` in \
                 `nt_host::entry::functions`"
            ),
            Some(_) => {}
        }
        let Some(inner) = self.0 else {
            return self;
        };
        let mut functions = inner.functions.clone();
        functions.push(function);
        FaultPlan::with(inner.choice.clone(), functions)
    }

    /// The same plan with nothing counted, for the next run; call stacks that have failed do not
    /// fail again.
    #[must_use]
    pub fn again(&self) -> FaultPlan {
        match &self.0 {
            Some(inner) => FaultPlan::with(inner.choice.clone(), inner.functions.clone()),
            None => FaultPlan::none(),
        }
    }

    /// What has failed by this plan, in order.
    #[must_use]
    pub fn injected(&self) -> Vec<InjectedFault> {
        match &self.0 {
            Some(inner) => inner.progress.lock().injected.clone(),
            None => Vec::new(),
        }
    }

    /// Prints, once, what has failed by this plan: for a test that goes wrong.
    pub(crate) fn print(&self) {
        let Some(inner) = &self.0 else {
            return;
        };
        let mut progress = inner.progress.lock();
        if !std::mem::replace(&mut progress.printed, true) && !progress.injected.is_empty() {
            eprintln!("by {self:?} these calls failed:");
            progress.injected.iter().for_each(|it| eprintln!("{it}"));
        }
    }

    /// A plan that goes on where others that share this set have been.
    pub(super) fn untried(tried: Tried) -> FaultPlan {
        FaultPlan::by(Choice::UniqueStacks(tried))
    }

    fn by(choice: Choice) -> FaultPlan {
        FaultPlan::with(choice, Vec::new())
    }

    fn with(choice: Choice, functions: Vec<&'static str>) -> FaultPlan {
        FaultPlan(Some(Arc::new(Inner {
            choice,
            functions,
            progress: Mutex::default(),
        })))
    }

    pub(super) fn is_active(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the call that the calling thread is in fails.
    pub(super) fn choose(&self, function: &'static Function) -> Option<&'static Failure> {
        let inner = self.0.as_ref()?;
        let counts = inner.functions.is_empty() || inner.functions.contains(&function.name);
        let index = if counts {
            inner.choose(function)?
        } else {
            return None;
        };
        function.fails.get(index)
    }

    pub(super) fn record(&self, fault: InjectedFault) {
        if let Some(inner) = &self.0 {
            inner.progress.lock().injected.push(fault);
        }
    }
}

impl Inner {
    /// The way in which this call fails, as an index.
    fn choose(&self, function: &'static Function) -> Option<usize> {
        match &self.choice {
            Choice::Nth(n) => {
                let mut progress = self.progress.lock();
                progress.calls += 1;
                (progress.calls - 1 == *n).then_some(0)
            }
            Choice::UniqueStacks(tried) => self.choose_untried(function, tried),
            Choice::Random { one_in: 0, .. } => None,
            Choice::Random { seed, one_in } => {
                let site = Site::of(function.name);
                let hash = site.hash(*seed);
                let mut progress = self.progress.lock();
                let occurrence = progress.occurrences.entry(site).or_default();
                let draw = mix(hash ^ *occurrence);
                *occurrence += 1;
                let ways = function.fails.len().max(1);
                draw.is_multiple_of(u64::from(*one_in))
                    .then_some((draw >> 32) as usize % ways)
            }
        }
    }

    fn choose_untried(&self, function: &'static Function, tried: &Tried) -> Option<usize> {
        if self.progress.lock().calls > 0 {
            return None;
        }
        let site = Site::of(function.name);
        let mut tried = tried.lock();
        let untried =
            (0..function.fails.len()).find(|way| !tried.contains(&(site.clone(), *way)))?;
        // One a run: who comes second leaves its site to the next run.
        let mut progress = self.progress.lock();
        if progress.calls > 0 {
            return None;
        }
        progress.calls += 1;
        tried.insert((site, untried));
        Some(untried)
    }
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(inner) = &self.0 else {
            return f.write_str("FaultPlan::none()");
        };
        match &inner.choice {
            Choice::Nth(n) => write!(f, "FaultPlan::nth({n})")?,
            Choice::UniqueStacks(_) => f.write_str("FaultPlan::unique_stacks()")?,
            Choice::Random { seed, one_in } => write!(f, "FaultPlan::random({seed}, {one_in})")?,
        }
        inner
            .functions
            .iter()
            .try_for_each(|name| write!(f, ".of({name:?})"))
    }
}
