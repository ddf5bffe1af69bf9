// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the rest of the hosted kernel asks of the Filter Manager.

use std::sync::Arc;

use super::table::FilterTable;
use super::unload;
use crate::abi::NTSTATUS;
use crate::driver::Driver;
use crate::kernel::drivers::FilterManagerSide;

impl FilterManagerSide for FilterTable {
    fn unload(&self, driver: &Arc<Driver>) -> Result<(), NTSTATUS> {
        unload::unload_voluntarily(self, driver)
    }

    fn check_unload_routine(&self, driver: &Arc<Driver>) {
        unload::check_routine(self, driver);
    }

    fn report_left_by(&self, driver: &Arc<Driver>) {
        self.report_and_abandon(driver);
    }

    fn ready(&self) {
        self.lock().machine.set_initialized();
    }

    /// Every filter that is still there is reported, and whoever waits on its connections goes on.
    fn shut_down(&self) {
        let drivers: Vec<Arc<Driver>> = self
            .lock()
            .filters
            .values()
            .map(|record| record.driver.clone())
            .collect();
        for driver in drivers {
            self.report_and_abandon(&driver);
        }
    }
}
