// SPDX-License-Identifier: MIT OR Apache-2.0
//! Windows, or Wine: drivers are the files in System32\drivers, and the service control manager
//! loads them.

mod manager;
mod registry;
mod system;

use super::Outcome;
use crate::orders::{Code, Order, Place, Refusal};
use crate::registry::Change;
use anyhow::{Context, Result, bail};
use manager::{Driver, Manager, Started};
use std::path::Path;
use system::is_wine;

/// The drivers of scenarios, in the order of loading. A client driver is no file-system filter.
const DRIVERS: [Driver; 5] = [
    Driver {
        name: "fltport",
        is_filter: true,
    },
    Driver {
        name: loadgen::IMAGE_NAME,
        is_filter: false,
    },
    Driver {
        name: "process-monitor",
        is_filter: false,
    },
    Driver {
        name: "registry-monitor",
        is_filter: false,
    },
    // hello-c, with the header and the stub of revision 1.0.
    Driver {
        name: "hello-1-0",
        is_filter: false,
    },
];

/// Where the Filter Manager is a stand-in, it is started first, and stays.
const FILTER_MANAGER: Driver = Driver {
    name: "fltmgr",
    is_filter: true,
};

/// This machine.
pub(crate) struct Floor {
    manager: Manager,
}

impl Floor {
    /// The machine without the scenarios' drivers.
    pub(crate) fn open(_late: bool) -> Result<Floor> {
        let manager = Manager::open()?;
        let floor = Floor { manager };
        floor.stop_all()?;
        if is_wine() {
            floor.manager.enter(&FILTER_MANAGER)?;
            let started = floor.manager.start(FILTER_MANAGER.name)?;
            if let Started::Refused(error) = started {
                bail!("the stand-in for the Filter Manager does not start: error {error}");
            }
        }
        Ok(floor)
    }

    pub(crate) fn name() -> &'static str {
        if is_wine() { "Wine" } else { "Windows" }
    }

    pub(crate) fn socket(&self) -> Option<&Path> {
        None
    }

    /// It is there already.
    pub(crate) fn start_filter_manager(&self) {}

    pub(crate) fn late_filter_manager_lacks() -> Option<&'static str> {
        Some("the Filter Manager is there before any of these drivers, and is never stopped")
    }

    /// Why this floor cannot carry an order.
    pub(crate) fn lacks(order: &Order) -> Option<&'static str> {
        let is_bad = |place| !matches!(place, Place::Good | Place::Null);
        match order {
            Order::Pass(pass) if is_wine() && is_bad(pass.input) && pass.output_length > 0 => Some(
                "Wine finds the bad address itself, and loses the status if there is an output, too",
            ),
            _ => None,
        }
    }

    pub(crate) fn registry_lacks() -> Option<&'static str> {
        is_wine().then_some("Wine's registry is a server's, which asks no driver")
    }

    pub(crate) fn children_lack() -> Option<&'static str> {
        is_wine().then_some("Wine calls no driver's process notify routine")
    }

    /// NT tells drivers itself.
    pub(crate) fn process_began(&self, _process: u32, _parent: u32) {}

    pub(crate) fn process_ended(&self, _process: u32) {}

    pub(crate) fn program(&self) -> Result<Program> {
        registry::prepare()?;
        Ok(Program)
    }

    pub(crate) fn start(&mut self, driver: &str) -> Result<Outcome> {
        let known = DRIVERS.iter().find(|known| known.name == driver);
        let known = known.with_context(|| format!("no driver is called {driver}"))?;
        self.manager.enter(known)?;
        Ok(match self.manager.start(driver)? {
            Started::Yes => Outcome::Done,
            Started::Refused(error) => Outcome::Refused(Refusal::new(format!(
                "the service control manager says error {error}"
            ))),
        })
    }

    pub(crate) fn stop(&mut self, driver: &str) -> Result<Outcome> {
        self.manager.stop(driver)?;
        Ok(Outcome::Done)
    }

    pub(crate) fn unload(&mut self, driver: &str) -> Result<Outcome> {
        let hresult = system::filter_unload(driver)?;
        if hresult != 0 {
            return Ok(Outcome::Refused(Refusal {
                text: format!("FilterUnload: HRESULT {hresult:#010x}"),
                code: Some(Code::Hresult(hresult)),
            }));
        }
        self.manager.wait_until_stopped(driver)?;
        Ok(Outcome::Done)
    }

    /// Nobody has an opinion about the drivers here but the drivers.
    pub(crate) fn close(self) -> Result<()> {
        registry::clean_up();
        self.stop_all()
    }

    fn stop_all(&self) -> Result<()> {
        for driver in DRIVERS.iter().rev() {
            self.manager.stop(driver.name)?;
        }
        Ok(())
    }
}

/// A program that works on the registry: this one.
#[derive(Clone)]
pub(crate) struct Program;

impl Program {
    pub(crate) fn change(&self, change: &Change) -> Result<Outcome> {
        Ok(match registry::change(change) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Refused(Refusal {
                text: error.to_string(),
                code: Some(Code::Hresult(error.code().0)),
            }),
        })
    }
}
