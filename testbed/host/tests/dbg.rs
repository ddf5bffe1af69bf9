// SPDX-License-Identifier: MIT OR Apache-2.0
//! The debugger's log, called as drivers call it: with a variable argument list.

mod support;

use std::sync::{Arc, Mutex};

use fltport_nt::bindings::*;
use fltport_nt::linked::KeLowerIrql;
use nt_host::{Config, DebugPrint, Kernel, Rule};
use support::{expect, string};

const PASSED_ON: (u32, u32) = (77, 0);

fn boot_with_sink() -> (Kernel, Arc<Mutex<String>>) {
    let printed = Arc::new(Mutex::new(String::new()));
    let sink = printed.clone();
    let kernel = Kernel::boot(Config {
        debug_print: DebugPrint::Sink(Arc::new(move |line| {
            sink.lock().expect("no test panics here").push_str(line);
        })),
        ..Config::default()
    });
    (kernel, printed)
}

#[test]
fn twelve_values_of_all_sizes_arrive() {
    let (kernel, printed) = boot_with_sink();
    let (component, level) = PASSED_ON;
    let format = c"%d %u %hd %I64d %x|%s|%wZ|%c %p %d %d %d\n";
    // SAFETY: what the format asks for.
    let status = unsafe {
        DbgPrintEx(
            component,
            level,
            format.as_ptr().cast(),
            -1_i32,
            4_000_000_000_u32,
            -2_i32,
            i64::MIN,
            0xBEEF_u32,
            c"narrow".as_ptr(),
            std::ptr::from_ref(string("wide")),
            i32::from(b'c'),
            0x10_usize as *const u8,
            10_i32,
            11_i32,
            12_i32,
        )
    };
    assert_eq!(status, 0);
    let expected = "-1 4000000000 -2 -9223372036854775808 beef|narrow|wide|c 0000000000000010 \
                    10 11 12\n";
    assert_eq!(*printed.lock().expect("no panic"), expected);
    expect(kernel, &[]);
}

#[test]
fn a_unicode_string_at_a_raised_irql_is_reported() {
    let (kernel, _) = boot_with_sink();
    let (component, level) = PASSED_ON;
    let name = std::ptr::from_ref(string("name"));
    // SAFETY: lowered below.
    let former = unsafe { KfRaiseIrql(DISPATCH_LEVEL as u8) };
    // SAFETY: what the format asks for; numbers may be printed at any IRQL.
    unsafe { DbgPrintEx(component, level, c"%d\n".as_ptr().cast(), 1_i32) };
    assert!(kernel.reports().is_empty());
    // SAFETY: what the format asks for.
    unsafe { DbgPrintEx(component, level, c"%wZ\n".as_ptr().cast(), name) };
    // SAFETY: back to where it was.
    unsafe { KeLowerIrql(former) };
    // SAFETY: what the format asks for.
    unsafe { DbgPrintEx(component, level, c"%wZ\n".as_ptr().cast(), name) };
    expect(kernel, &[Rule::IrqlTooHigh]);
}

/// Prints one format with up to three values.
fn printed(format: &std::ffi::CStr, values: [usize; 3]) -> String {
    let (kernel, printed) = boot_with_sink();
    let (component, level) = PASSED_ON;
    let [a, b, c] = values;
    // SAFETY: what the format asks for.
    unsafe { DbgPrintEx(component, level, format.as_ptr().cast(), a, b, c) };
    expect(kernel, &[]);
    printed.lock().expect("no panic").clone()
}

#[test]
fn a_width_that_is_garbage_is_bounded() {
    for width in [70_000, i32::MAX as usize, 0xDEAD_BEEF, usize::MAX] {
        let text = printed(c"%*d|", [width, 7, 0]);
        assert!(text.trim().starts_with('7') && text.len() < 2000, "{width}");
        let text = printed(c"%.*d|%.*x|", [width, 7, width]);
        assert!(text.len() < 4000, "{width}");
        assert!(printed(c"%0*u|", [width, 7, 0]).len() < 2000, "{width}");
    }
}

#[test]
fn a_negative_width_aligns_left_and_a_negative_precision_is_none() {
    let minus = |number: i32| (-number) as u32 as usize;
    assert_eq!(printed(c"[%*d]", [minus(4), 7, 0]), "[7   ]");
    let text = c"whole".as_ptr() as usize;
    assert_eq!(printed(c"[%.*s]", [minus(1), text, 0]), "[whole]");
    assert_eq!(printed(c"[%.*d]", [minus(5), 7, 0]), "[7]");
    // With no precision, the zeros are asked for.
    assert_eq!(printed(c"[%0*.*d]", [3, minus(1), 7]), "[007]");
}

#[test]
fn a_precision_may_be_longer_than_any_width() {
    let text = std::ffi::CString::new("x".repeat(3000)).expect("no zero in it");
    let address = text.as_ptr() as usize;
    assert_eq!(printed(c"%.2000s", [address, 0, 0]).len(), 2000);
    assert_eq!(printed(c"%.*s", [2500, address, 0]).len(), 2500);
}

/// A buffer that begins at an odd address.
#[repr(C, align(2))]
struct Odd(u8, [u8; 8]);

#[test]
fn a_counted_string_may_lie_anywhere() {
    let mut odd = Odd(0, *b"n\0a\0m\0e\0");
    let counted = UNICODE_STRING {
        Length: 8,
        MaximumLength: 8,
        Buffer: odd.1.as_mut_ptr().cast(),
    };
    let text = printed(c"%wZ", [(&raw const counted) as usize, 0, 0]);
    assert_eq!(text, "name");
}
