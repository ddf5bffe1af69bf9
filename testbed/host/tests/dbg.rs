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
