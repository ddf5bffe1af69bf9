// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said about an access to a closed page of the special pool.

use super::table::Entry;
use super::{SLACK, TABLE, open_page, space};
use crate::ex::pool::tag_text;
use crate::irql::{self, DISPATCH_LEVEL};
use crate::pages;
use crate::pages::fault_handler::{Access, Fault};
use crate::verifier::{Report, Rule};

/// What freed memory reads as, once it was reported.
const FREED: u8 = 0xDD;

/// Reports an access to a closed page, and opens it.
pub(crate) fn resolve(fault: &Fault) -> bool {
    let Some(space) = space() else {
        return false;
    };
    let is_raised = irql::current() >= DISPATCH_LEVEL;
    let mut table = TABLE.lock();
    if !is_raised && matches!(table.page_in(space, fault.address), Ok(true)) {
        // A page fault as any other: this is what paged pool is for.
        return true;
    }
    let report = match table.at(fault.address) {
        None => Some(long_gone(fault.access)),
        Some(entry) => describe(entry, fault),
    };
    if let Ok(true) = table.page_in(space, fault.address) {
        drop(table);
        return file(report, fault, fault.access != Access::Execute);
    }
    let entry = table.at(fault.address);
    let is_freed = entry.is_none_or(|entry| entry.freed.is_some());
    let fill = if is_freed { FREED } else { SLACK };
    let page = pages::page_of(fault.address);
    let opened = open_page(space, page.clone(), fill);
    table.opened(page);
    drop(table);
    let repeat = opened.is_ok() && fault.access != Access::Execute;
    if let Err(error) = opened {
        eprintln!("nt-host: a page of pool memory cannot be opened: {error}");
    }
    file(report, fault, repeat)
}

/// Files the report, if there is one; whether the access can be repeated.
fn file(report: Option<Report>, fault: &Fault, repeat: bool) -> bool {
    if let Some(report) = report {
        let report = report.at("it was touched here", fault.stack());
        if !repeat {
            eprintln!("{report}");
        }
        report.file();
    }
    repeat
}

fn verb(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "written",
        Access::Execute => "called as a function",
    }
}

fn long_gone(access: Access) -> Report {
    Report::new(Rule::PoolAccessAfterFree)
        .expected("freed memory is left alone")
        .found(format!("memory freed long ago was {}", verb(access)))
}

/// A report about an access to an allocation; none if the same was reported before.
fn describe(entry: &mut Entry, fault: &Fault) -> Option<Report> {
    let (address, bytes) = (fault.address, &entry.bytes);
    let (rule, expected) = if entry.is_out(address) {
        (
            Rule::PagedPoolAtDispatch,
            "paged pool is used at IRQL <= APC_LEVEL",
        )
    } else if entry.freed.is_some() {
        (Rule::PoolAccessAfterFree, "freed memory is left alone")
    } else if address < bytes.start {
        (Rule::PoolUnderrun, "accesses within the allocation")
    } else {
        (Rule::PoolOverrun, "accesses within the allocation")
    };
    if entry.reported.contains(&(rule, fault.access)) {
        return None;
    }
    entry.reported.push((rule, fault.access));
    let place = match address.checked_sub(bytes.start) {
        Some(offset) => format!("offset {offset}"),
        None => format!("{} bytes in front", bytes.start - address),
    };
    let tag = entry.about.as_ref().map_or(0, |about| about.tag);
    let mut report = Report::new(rule).expected(expected).found(format!(
        "{place} of {} bytes with tag '{}' was {}",
        bytes.len(),
        tag_text(tag),
        verb(fault.access)
    ));
    if let Some(freed) = &entry.freed {
        report = report.related("it was freed here", freed.clone());
    }
    if let Some(about) = &entry.about {
        report = report.related("it was allocated here", about.stack.clone());
    }
    let owner = entry.about.as_ref().and_then(|it| it.driver.as_deref());
    if report.driver.is_none() {
        report = report.driver(owner);
    }
    Some(report)
}
