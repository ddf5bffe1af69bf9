// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said about an access to a closed page of the special pool.

use std::io;

use super::table::{Entry, Standing, Table};
use super::{TABLE, space};
use crate::ex::pool::tag_text;
use crate::irql::{self, DISPATCH_LEVEL};
use crate::pages;
use crate::pages::fault_handler::{Access, Fault};
use crate::verifier::{Report, Rule};

/// Reports an access to a closed page, and opens it.
pub(crate) fn resolve(fault: &Fault) -> bool {
    let Some(space) = space() else {
        return false;
    };
    let is_raised = irql::current() >= DISPATCH_LEVEL;
    let mut table = TABLE.lock();
    let report = |table: &mut Table| match table.at(fault.address) {
        None => Some(long_gone(fault.access)),
        Some(entry) => describe(entry, fault),
    };
    let (report, opened) = match table.standing(fault.address) {
        Standing::Open if fault.access == Access::Execute => {
            let called = table.at(fault.address).map(|entry| name(entry, fault));
            drop(table);
            tell_of_call(called, fault);
            return false;
        }
        // Another thread was here a moment before.
        Standing::Open => return true,
        // A page fault as any other: this is what paged pool is for.
        Standing::Out if !is_raised => {
            let back = table.page_in(space, fault.address);
            drop(table);
            return is_done(back);
        }
        Standing::Out => {
            let report = report(&mut table);
            (report, table.page_in(space, fault.address))
        }
        Standing::Closed => {
            let report = report(&mut table);
            (report, table.open(space, fault.address))
        }
    };
    drop(table);
    let repeat = is_done(opened) && fault.access != Access::Execute;
    file(report, fault, repeat)
}

/// Whether a page was opened. Why it was not, is said.
fn is_done(opened: io::Result<()>) -> bool {
    if let Err(error) = &opened {
        eprintln!("nt-host: a page of pool memory cannot be opened: {error}");
    }
    opened.is_ok()
}

/// Says why the process ends now: no pool memory can be executed here.
fn tell_of_call(called: Option<String>, fault: &Fault) {
    let called = called.unwrap_or_else(|| "freed pool memory".to_owned());
    let stack = fault.stack();
    eprintln!("nt-host: {called} was called as a function\n{stack}");
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
    let (rule, expected) = if entry.is_out(fault.address) {
        (
            Rule::PagedPoolAtDispatch,
            "paged pool is used at IRQL <= APC_LEVEL",
        )
    } else if entry.is_gone() {
        (Rule::PoolAccessAfterFree, "freed memory is left alone")
    } else if fault.address < entry.bytes.start {
        (Rule::PoolUnderrun, "accesses within the allocation")
    } else {
        (Rule::PoolOverrun, "accesses within the allocation")
    };
    if entry.reported.contains(&(rule, fault.access)) {
        return None;
    }
    entry.reported.push((rule, fault.access));
    let found = format!("{} was {}", name(entry, fault), verb(fault.access));
    let mut report = Report::new(rule).expected(expected).found(found);
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

/// Which byte of an allocation was touched, as a part of a sentence.
fn name(entry: &Entry, fault: &Fault) -> String {
    let tag = entry.about.as_ref().map_or(0, |about| about.tag);
    format!(
        "{} of {} bytes with tag '{}'",
        pages::place_in(&entry.bytes, fault.address),
        entry.bytes.len(),
        tag_text(tag)
    )
}
