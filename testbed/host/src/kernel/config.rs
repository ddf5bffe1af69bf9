// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a hosted kernel is to behave.

use std::fmt;
use std::sync::Arc;

use crate::ex::special_pool::{PagedPool, SpecialPool};
use crate::faults::FaultPlan;
use crate::verifier::OnReport;

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
#[derive(Clone, Default)]
pub struct Config {
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
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("on_report", &self.on_report)
            .field("filter_manager", &self.filter_manager)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}
