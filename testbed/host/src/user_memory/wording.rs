// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the reports about user memory read.

use std::ops::Range;

use super::table::{Buffer, Call, Used};
use crate::pages;
use crate::stack::Stack;
use crate::thread;
use crate::verifier::{Report, Rule};

impl Used {
    fn text(self) -> &'static str {
        match self {
            Used::Read => "read without the fault-safe copy",
            Used::Written => "written without the fault-safe copy",
            Used::Called => "called as a function",
            Used::CopiedFrom => "copied from",
            Used::CopiedTo => "copied to",
        }
    }
}

fn begin(rule: Rule) -> Report {
    Report::new(rule)
        .function("MessageNotify")
        .expected(match rule {
            Rule::UserMemoryTouched => "user memory is reached by the fault-safe copy only",
            Rule::UserMemoryOutOfRange => "accesses within the length that the caller gave",
            Rule::UserMemoryWrongProcess => {
                "user memory is reached by a thread in the process that it belongs to"
            }
            _ => "a user buffer is left alone once the callback has returned",
        })
        .detail(match rule {
            Rule::UserMemoryTouched => {
                "the user can unmap, protect or change it at any moment; outside __try that stops \
                 a Windows system"
            }
            Rule::UserMemoryOutOfRange => "what lies beyond was never offered",
            Rule::UserMemoryWrongProcess => {
                "in another process the same address is other memory, or none"
            }
            _ => "the user may reuse or free it as soon as its call returns",
        })
}

/// A report about a use of a buffer; none if the same was reported of it before.
pub(super) fn report(
    rule: Rule,
    used: Used,
    address: usize,
    buffer: &mut Buffer,
    call: &Call,
) -> Option<Report> {
    if buffer.reported.contains(&(rule, used)) {
        return None;
    }
    buffer.reported.push((rule, used));
    let shadow = &buffer.behind.shadow;
    let mut found = format!(
        "{} of the {} ({} bytes) of process {} was {}",
        pages::place_in(shadow, address),
        buffer.role,
        shadow.len(),
        call.process,
        used.text()
    );
    let here = thread::current_process().pid();
    if here != call.process {
        found.push_str(&format!(" by a thread in process {here}"));
    }
    let report = begin(rule).found(found).driver(Some(&call.driver));
    let last = call.fetched.values().next_back();
    Some(match last.filter(|_| call.over) {
        Some(fetched) => {
            report.related("during the call it was copied here", fetched.stack.clone())
        }
        None => report,
    })
}

/// A report about a buffer of a call that nobody remembers.
pub(super) fn long_over(used: Used) -> Report {
    begin(Rule::UserMemoryUsedAfterCall).found(format!(
        "a buffer of a call that ended long ago was {}",
        used.text()
    ))
}

/// A report about bytes that were copied a second time.
pub(super) fn fetched_twice(bytes: &Range<u64>, first: &Stack) -> Report {
    Report::new(Rule::UserMemoryFetchedTwice)
        .expected("each byte of user memory is copied once in a call")
        .found(format!(
            "{} bytes at {:#x} of the user were copied again",
            bytes.end - bytes.start,
            bytes.start
        ))
        .detail("the user can change them in between: what was checked is not what is used")
        .related("they were copied first here", first.clone())
}
