// SPDX-License-Identifier: MIT OR Apache-2.0
//! Code that NT may page out: functions that a driver places in the section PAGE, in Rust with
//! `#[unsafe(link_section = "PAGE")]`, in C with `__attribute__((section("PAGE")))`. At
//! DISPATCH_LEVEL and above it must not run, because nobody could page it in.
//!
//! Nobody sees it run here; but it has run if it called the kernel, itself or through others, and
//! that call was not under way when the IRQL was raised. So each raise to DISPATCH_LEVEL notes the
//! stack, and each call at that level looks for frames in the section that are new or have gone
//! on since. Pageable code that calls a function which raises and lowers is fine, and is not
//! reported.

use std::ops::Range;

use super::{Report, Rule};
use crate::irql::{self, APC_LEVEL};
use crate::kernel;
use crate::stack;
use crate::stack::unwind::{self, Frame};
use crate::thread;

// The linker makes these two symbols for a section whose name could be one in C. They are weak,
// because most programs have no such section; both are then zero. Stable Rust cannot say so.
std::arch::global_asm!(
    ".pushsection .data.rel.ro.nt_host_paged_code,\"aw\"",
    ".weak __start_PAGE",
    ".weak __stop_PAGE",
    ".balign 8",
    ".globl nt_host_paged_code_bounds",
    ".hidden nt_host_paged_code_bounds",
    "nt_host_paged_code_bounds:",
    ".quad __start_PAGE",
    ".quad __stop_PAGE",
    ".popsection",
);

unsafe extern "C" {
    static nt_host_paged_code_bounds: [usize; 2];
}

/// The pageable code of this program; empty if there is none.
fn section() -> Range<usize> {
    // SAFETY: defined above, and never written once the program is loaded.
    let [start, stop] = unsafe { nt_host_paged_code_bounds };
    start..stop
}

/// The calling thread has raised its IRQL to DISPATCH_LEVEL or above.
pub(crate) fn raised() {
    if section().is_empty() {
        return;
    }
    let mut frames = Vec::new();
    walk_pageable(|frame| {
        frames.push(frame);
        true
    });
    thread::with_context(|context| *context.raised_at.borrow_mut() = frames);
}

/// Calls `visit` for each frame of the calling thread in pageable code, until it answers false.
fn walk_pageable(mut visit: impl FnMut(Frame) -> bool) {
    let section = section();
    unwind::walk(|frame| !section.contains(&frame.address) || visit(frame));
}

/// Looks for pageable code that runs, in a call of `function` at DISPATCH_LEVEL or above.
pub(crate) fn check(function: &'static str, irql: u8) {
    if section().is_empty() {
        return;
    }
    let mut ran = None;
    thread::with_context(|context| {
        let before = context.raised_at.borrow();
        walk_pageable(|frame| {
            ran = (!before.contains(&frame)).then_some(frame);
            ran.is_none()
        });
    });
    let Some(ran) = ran else {
        return;
    };
    let functions = stack::functions_at(ran.address);
    let name = functions
        .last()
        .map_or_else(|| format!("{:#x}", ran.address), |it| it.name.clone());
    if kernel::state()
        .paged_code_reported
        .lock()
        .insert(name.clone())
    {
        report(&format!("{name}, which called {function}"), irql);
    }
}

fn report(found: &str, irql: u8) {
    Report::new(Rule::PagedCodeAtDispatch)
        .expected("code of the section PAGE runs at IRQL <= APC_LEVEL")
        .found(format!("{found} at {}", irql::name(irql)))
        .detail(
            "it works for as long as the page happens to be in memory, and then the system stops",
        )
        .file();
}

/// What the macro `PAGED_CODE()` of a header for the hosted kernel calls: reports the calling
/// function if it runs above APC_LEVEL.
#[unsafe(no_mangle)]
pub extern "C" fn nt_host_paged_code() {
    let irql = irql::current();
    if irql > APC_LEVEL {
        thread::with_context(|context| context.function.set("PAGED_CODE"));
        report("PAGED_CODE()", irql);
    }
}
