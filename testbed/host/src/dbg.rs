// SPDX-License-Identifier: MIT OR Apache-2.0
//! The debugger's output.

mod format;

use std::ffi::{CStr, c_char};

use crate::entry::Function;
use crate::irql::{HIGH_LEVEL, PASSIVE_LEVEL};
use crate::kernel;
use crate::kernel::config::DebugPrint;

/// What is known of [`DbgPrintEx`], which does not enter the hosted kernel: drivers may print
/// anywhere.
pub(crate) static DBG_PRINT_EX: Function = Function {
    name: "DbgPrintEx",
    min_irql: PASSIVE_LEVEL,
    max_irql: HIGH_LEVEL,
    fails: &[],
    simplified: Some("at most twelve arguments; component and level suppress nothing"),
};

/// Prints for the debugger: `format` is a format string as `printf` has them, without floating
/// point, with `%wZ` and `%Z` for counted strings.
///
/// NT's function takes any number of arguments, which stable Rust can declare and not define. This
/// one takes twelve of the size of a register: with the calling conventions of x86-64 and AArch64
/// Linux an integer or pointer of a variable argument list lies where a named one would. Those
/// that the caller did not pass are read from its own frame, and used only if the format asks for
/// more than it was given.
///
/// # Safety
/// `format` is a string, and the arguments are what it asks for.
#[allow(
    non_snake_case,
    unreachable_pub,
    clippy::too_many_arguments,
    reason = "an exported symbol of NT's name"
)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn DbgPrintEx(
    _component: u32,
    _level: u32,
    format: *const c_char,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
    g: usize,
    h: usize,
    i: usize,
    j: usize,
    k: usize,
    l: usize,
) -> u32 {
    if format.is_null() {
        return 0;
    }
    // SAFETY: not null, and a string by contract.
    let format = unsafe { CStr::from_ptr(format) }.to_string_lossy();
    // SAFETY: by contract.
    let line = unsafe { format::format(&format, &[a, b, c, d, e, f, g, h, i, j, k, l]) };
    match &kernel::state().config.debug_print {
        DebugPrint::Stderr => eprint!("{line}"),
        DebugPrint::Discard => {}
        DebugPrint::Sink(sink) => sink(&line),
    }
    0
}
