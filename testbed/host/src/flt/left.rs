// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a driver left with the Filter Manager when it was unloaded: reported, then taken away.

use std::sync::Arc;

use fltmgr::{FilterId, PortState};

use super::registration;
use super::security;
use super::table::{FilterRecord, FilterTable};
use crate::driver::Driver;
use crate::stack::Stack;
use crate::verifier::{Report, Rule};

impl FilterTable {
    /// Reports filters, server ports and client ports that `driver` left, and closes them without
    /// calling it.
    pub(super) fn report_and_abandon(&self, driver: &Arc<Driver>) {
        let filters = self.lock().filters_of(driver);
        for (id, record) in filters {
            self.report_filter(id, &record);
            self.abandon(id);
        }
        let object = driver.object() as usize;
        self.lock().former_unloads.remove(&object);
        security::report_left(self, driver);
    }

    fn report_filter(&self, id: FilterId, record: &FilterRecord) {
        let driver = &record.driver;
        report(Rule::FilterLeft, "FltRegisterFilter", driver, &record.stack)
            .expected("FltUnregisterFilter before the driver is unloaded")
            .found("a registered filter")
            .file();
        let snapshot = self.lock().machine.snapshot();
        for port in snapshot
            .ports
            .iter()
            .filter(|port| port.filter == id && port.open)
        {
            self.report_server_port(port, driver);
        }
        let of_filter = |connection: &&fltmgr::ConnectionState| connection.filter == id;
        let open = snapshot
            .connections
            .iter()
            .filter(of_filter)
            .filter(|c| c.driver_open)
            .count();
        if open > 0 {
            report(Rule::PortLeft, "FltCloseClientPort", driver, &record.stack)
                .expected("every client port is closed")
                .found(format!("{open} client ports that are open"))
                .file();
        }
    }

    fn report_server_port(&self, port: &PortState, driver: &Arc<Driver>) {
        let tables = self.lock();
        let stack = tables
            .ports
            .get(&port.port)
            .map(|record| record.stack.clone());
        let name = tables
            .machine
            .port_name(port.port)
            .map(crate::unicode::decode);
        drop(tables);
        report(
            Rule::PortLeft,
            "FltCreateCommunicationPort",
            driver,
            &stack.unwrap_or_default(),
        )
        .expected("FltCloseCommunicationPort before the driver is unloaded")
        .found(format!("the open server port {}", name.unwrap_or_default()))
        .file();
    }

    fn abandon(&self, id: FilterId) {
        self.lock().keep_ghosts(id);
        let effects = self.lock().machine.unregister_filter(id);
        self.execute(effects.unwrap_or_default());
        registration::release(self, id);
        self.lock().forget_filter(id);
    }
}

fn report(rule: Rule, function: &'static str, driver: &Arc<Driver>, stack: &Stack) -> Report {
    Report::new(rule)
        .driver(Some(driver.name()))
        .function(function)
        .made_at(stack.clone())
}
