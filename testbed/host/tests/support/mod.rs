// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of the hosted kernel share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

pub mod filter;
pub mod one_port;
pub mod thread;

use fltport_nt::bindings::*;
use nt_host::{Config, Kernel, Report, Rule};
use std::ffi::c_void;

/// 100 ns units of a millisecond, as a relative NT timeout counts them.
pub const MS: i64 = 10_000;

pub const TAG: u32 = u32::from_le_bytes(*b"Test");
pub const NON_PAGED: u64 = 0x40;
pub const PAGED: u64 = 0x100;

pub fn boot() -> Kernel {
    Kernel::boot(Config::default())
}

/// The rules that were broken, in order.
pub fn rules(reports: &[Report]) -> Vec<Rule> {
    reports.iter().map(|report| report.rule).collect()
}

/// Compares the broken rules, and shows the reports where they differ.
#[track_caller]
pub fn assert_rules(reports: &[Report], expected: &[Rule]) {
    let text: String = reports.iter().map(|report| format!("{report}\n")).collect();
    assert_eq!(rules(reports), expected, "{text}");
}

/// Shuts down and compares the broken rules.
#[track_caller]
pub fn expect(kernel: Kernel, expected: &[Rule]) {
    assert_rules(&kernel.shutdown(), expected);
}

pub fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// A UNICODE_STRING over a leaked buffer, which tests can afford.
pub fn string(text: &str) -> &'static UNICODE_STRING {
    let buffer: &'static mut [u16] = wide(text).leak();
    let bytes = (buffer.len() * 2) as u16;
    Box::leak(Box::new(UNICODE_STRING {
        Length: bytes,
        MaximumLength: bytes,
        Buffer: buffer.as_mut_ptr(),
    }))
}

pub fn attributes(name: &str, root: HANDLE, flags: u32) -> OBJECT_ATTRIBUTES {
    OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: root,
        ObjectName: string(name),
        Attributes: flags,
        ..Default::default()
    }
}

/// An initialised event that does not move.
pub fn event(synchronization: bool, state: bool) -> Box<KEVENT> {
    let mut event = Box::new(KEVENT::default());
    // SAFETY: boxed memory that stays where it is.
    unsafe { KeInitializeEvent(&raw mut *event, i32::from(synchronization), state) };
    event
}

pub fn wait(object: *const c_void, timeout: Option<i64>) -> NTSTATUS {
    let timeout = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the tests pass dispatcher objects.
    unsafe { KeWaitForSingleObject(object, 0, 0, false, timeout) }
}

pub fn address<T>(object: &T) -> *const c_void {
    std::ptr::from_ref(object).cast()
}

/// A routine as the bindings type it, which leave its arguments out.
pub fn untyped(routine: *const ()) -> Option<unsafe extern "system" fn()> {
    // SAFETY: a function's address; who calls it knows its arguments.
    unsafe { std::mem::transmute::<*const (), Option<unsafe extern "system" fn()>>(routine) }
}

/// Shares a raw address with other threads.
#[derive(Clone, Copy)]
pub struct Shared(pub usize);

impl Shared {
    pub fn of<T>(object: &T) -> Shared {
        Shared(address(object) as usize)
    }

    pub fn pointer<T>(self) -> *mut T {
        self.0 as *mut T
    }
}
