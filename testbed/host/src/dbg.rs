// SPDX-License-Identifier: MIT OR Apache-2.0
//! The debugger's output.

use std::ffi::{CStr, c_char, c_void};

use crate::kernel;
use crate::kernel::config::DebugPrint;

/// Prints for the debugger. NT's function takes any number of arguments; this one takes the first
/// of them, which reaches it in the same register, and knows "%s" and nothing else.
///
/// # Safety
/// `format` is a string; if it contains "%s", `argument` is one, too.
#[allow(
    non_snake_case,
    unreachable_pub,
    reason = "an exported symbol of NT's name"
)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn DbgPrintEx(
    _component: u32,
    _level: u32,
    format: *const c_char,
    argument: *const c_void,
) -> u32 {
    // SAFETY: a string by contract.
    let format = unsafe { text(format) };
    let line = match format.split_once("%s") {
        Some((before, after)) => {
            // SAFETY: a string by contract, because the format asks for one.
            let inserted = unsafe { text(argument.cast()) };
            format!("{before}{inserted}{after}")
        }
        None => format,
    };
    match &kernel::state().config.debug_print {
        DebugPrint::Stderr => eprint!("{line}"),
        DebugPrint::Discard => {}
        DebugPrint::Sink(sink) => sink(&line),
    }
    0
}

/// # Safety
/// `string` is null or ends with a zero.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return "(null)".to_owned();
    }
    // SAFETY: not null, and ends with a zero by contract.
    unsafe { CStr::from_ptr(string) }
        .to_string_lossy()
        .into_owned()
}
