// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a hosted kernel is to behave.

use std::fmt;
use std::sync::Arc;

use crate::ex::special_pool::{PagedPool, SpecialPool};
use crate::faults::FaultPlan;
use crate::verifier::{OnReport, Verifier};

/// Whether the Filter Manager is up when the first driver is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilterManagerStart {
    /// It is.
    #[default]
    Ready,
    /// FltRegisterFilter answers STATUS_FLT_NOT_INITIALIZED until
    /// [`Kernel::filter_manager_ready`](crate::Kernel::filter_manager_ready).
    Late,
}

/// Where DbgPrintEx prints to.
#[derive(Clone, Default)]
pub enum DebugPrint {
    /// The standard error stream.
    #[default]
    Stderr,
    /// Nowhere.
    Discard,
    /// A function of the caller's.
    Sink(Arc<dyn Fn(&str) + Send + Sync>),
}

/// How a hosted kernel is to behave. The default is for tests.
#[derive(Clone)]
pub struct Config {
    /// Whether there is a verifier.
    pub verifier: Verifier,
    /// What to do with a broken rule.
    pub on_report: OnReport,
    /// Whether the Filter Manager is up from the start.
    pub filter_manager: FilterManagerStart,
    /// Where DbgPrintEx prints to.
    pub debug_print: DebugPrint,
    /// Which calls of drivers fail. See also [`Kernel::set_faults`](crate::Kernel::set_faults).
    pub faults: FaultPlan,
    /// Which pool allocations lie on pages of their own.
    pub special_pool: SpecialPool,
    /// Whether paged pool is there at DISPATCH_LEVEL.
    pub paged_pool: PagedPool,
    /// How many processors there are, from 1 to 64: as many threads can be at DISPATCH_LEVEL or
    /// above at one time, each with a processor's number of its own.
    pub processors: u32,
}

impl Config {
    /// The same on every machine, so that tests are. More than one, so that there is something to
    /// get wrong.
    pub(crate) const PROCESSORS: u32 = 4;
}

impl Default for Config {
    fn default() -> Config {
        Config {
            verifier: Verifier::default(),
            on_report: OnReport::default(),
            filter_manager: FilterManagerStart::default(),
            debug_print: DebugPrint::default(),
            faults: FaultPlan::default(),
            special_pool: SpecialPool::default(),
            paged_pool: PagedPool::default(),
            processors: Config::PROCESSORS,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("verifier", &self.verifier)
            .field("on_report", &self.on_report)
            .field("filter_manager", &self.filter_manager)
            .field("faults", &self.faults)
            .field("processors", &self.processors)
            .finish_non_exhaustive()
    }
}
