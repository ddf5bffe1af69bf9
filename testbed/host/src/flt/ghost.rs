// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ports of drivers that are unloaded. The hosted kernel has closed them, but on NT a service could
//! still reach their callbacks; what would have done so is reported.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::table::{FilterTable, PortRecord, Tables};
use crate::unicode;
use crate::verifier::unloaded;

impl Tables {
    /// Remembers the ports of a filter whose driver is gone.
    pub(super) fn keep_ghosts(&mut self, filter: fltmgr::FilterId) {
        for (id, port) in self.ports.iter().filter(|(_, port)| port.filter == filter) {
            port.abandoned.store(true, Ordering::Release);
            if self.machine.is_listening(*id)
                && port.driver.is_unloaded()
                && let Some(name) = self.machine.port_name(*id)
            {
                self.ghosts.push((unicode::upcased(name), port.clone()));
            }
        }
    }

    /// Forgets a ghost whose name is taken by a new port.
    pub(super) fn lay_ghost(&mut self, name: &[u16]) {
        let name = unicode::upcased(name);
        self.ghosts.retain(|(known, _)| *known != name);
    }
}

impl FilterTable {
    /// Reports a connect that on NT would call the ConnectNotify of a driver that is gone; once for
    /// each port.
    pub(super) fn report_ghost(&self, name: &[u16]) {
        let name = unicode::upcased(name);
        let mut tables = self.lock();
        let found = tables.ghosts.iter().position(|(known, _)| *known == name);
        let ghost = found.map(|index| tables.ghosts.remove(index));
        drop(tables);
        if let Some((_, port)) = ghost {
            self.may_call("ConnectNotify", &port);
        }
    }

    /// Whether a callback of a port may be called. Not when its driver left it, which is reported,
    /// to the kernel of this table: a service may close its end after that kernel has shut down.
    pub(super) fn may_call(&self, what: &str, port: &Arc<PortRecord>) -> bool {
        if !port.abandoned.load(Ordering::Acquire) || !port.driver.is_unloaded() {
            return true;
        }
        if let Some(state) = self.state() {
            let by = "FltCreateCommunicationPort";
            state.file_report(unloaded::call(what, &port.driver, by, &port.stack));
        }
        false
    }
}
