// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a report reads, and what becomes of it.

use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::irql::DISPATCH_LEVEL;
use nt_host::{Config, Kernel, OnReport, Report};
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use crate::bad::{load, run};
use crate::support::*;

#[inline(never)]
fn frees(memory: *mut std::ffi::c_void) {
    // SAFETY: what is wrong is the test's intent, and found.
    unsafe { ExFreePoolWithTag(memory, TAG) };
    black_box(());
}

#[inline(never)]
fn frees_twice() {
    // SAFETY: asks for memory.
    let memory = unsafe { ExAllocatePool2(NON_PAGED, 24, TAG) };
    frees(memory);
    frees(memory);
    black_box(());
}

#[inline(never)]
fn enters_too_high() {
    // SAFETY: raises from PASSIVE_LEVEL.
    let old = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    // SAFETY: takes nothing; the IRQL is the mistake.
    unsafe { KeEnterCriticalRegion() };
    // SAFETY: lowers to where it was.
    unsafe { KeLowerIrql(old) };
    // SAFETY: entered above.
    unsafe { KeLeaveCriticalRegion() };
    black_box(old);
}

/// The text without what differs from run to run: numbers of lines and threads, and addresses.
fn normalised(report: &Report) -> String {
    let text = report.to_string();
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = [":", "0x", "thread "]
        .iter()
        .filter_map(|mark| rest.find(mark).map(|at| at + mark.len()))
        .min()
        .map(|end| rest.split_at(end))
    {
        out.push_str(before);
        let digits = after
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(after.len());
        let is_number = after.starts_with(|c: char| c.is_ascii_digit());
        rest = match is_number {
            true => {
                out.push('N');
                after.get(digits..).unwrap_or_default()
            }
            false => after,
        };
    }
    out.push_str(rest);
    out
}

#[test]
fn a_call_at_a_wrong_irql_reads_like_a_compiler_error() {
    let reports = run(enters_too_high);
    let expected = "\
error[IrqlTooHigh]: bad called at a too high IRQL
  --> enters_too_high (tests/verifier/text.rs:N)
      call: KeEnterCriticalRegion, at DISPATCH_LEVEL, thread N
  expected: IRQL <= APC_LEVEL
     found: DISPATCH_LEVEL
      help: release the spin lock or lower the IRQL first, or queue a work item, which runs at PASSIVE_LEVEL
  it happened here:
     0: KeEnterCriticalRegion
     1: enters_too_high (tests/verifier/text.rs:N)
     2: entry (tests/verifier/bad.rs:N)
";
    assert_eq!(normalised(&reports[0]), expected, "{}", reports[0]);
}

#[test]
fn two_moments_are_shown_one_after_the_other() {
    let reports = run(frees_twice);
    let expected = "\
error[PoolDoubleFree]: bad freed pool memory twice
  --> frees (tests/verifier/text.rs:N)
      call: ExFreePoolWithTag, at PASSIVE_LEVEL, thread N
  expected: memory is freed once
     found: 24 bytes with tag 'Test' at 0xN were freed before
      help: free once; set the pointer to null, or let one owner free it
  it happened here:
     0: ExFreePoolWithTag
     1: frees (tests/verifier/text.rs:N)
     2: frees_twice (tests/verifier/text.rs:N)
     3: entry (tests/verifier/bad.rs:N)
  it was freed first here:
     0: ExFreePoolWithTag
     1: frees (tests/verifier/text.rs:N)
     2: frees_twice (tests/verifier/text.rs:N)
     3: entry (tests/verifier/bad.rs:N)
";
    assert_eq!(normalised(&reports[0]), expected, "{}", reports[0]);
}

const WAY: &str = "NT_HOST_TEST_ON_REPORT";

/// Runs only in a process of its own, which the test below starts.
#[test]
fn breaks_a_rule_in_a_process_of_its_own() {
    let on_report = match std::env::var(WAY).as_deref() {
        Ok("report") => OnReport::Report,
        Ok("bugcheck") => OnReport::BugCheck,
        _ => OnReport::Record,
    };
    let kernel = Kernel::boot(Config {
        on_report,
        ..Config::default()
    });
    load(&kernel, frees_twice);
    assert_eq!(kernel.shutdown().len(), 1);
}

fn in_a_process(way: &str) -> Output {
    let test = std::env::current_exe().unwrap();
    Command::new(test)
        .args(["--exact", "--nocapture"])
        .arg("text::breaks_a_rule_in_a_process_of_its_own")
        .env(WAY, way)
        .output()
        .unwrap()
}

#[test]
fn a_report_is_printed_at_once_or_stops_the_system() {
    let silent = in_a_process("record");
    assert!(silent.status.success() && !text_of(&silent).contains("error["));
    let told = in_a_process("report");
    assert!(told.status.success(), "{told:?}");
    assert!(text_of(&told).contains("error[PoolDoubleFree]: bad freed"));
    let stopped = in_a_process("bugcheck");
    assert_eq!(stopped.status.signal(), Some(libc_abort()), "{stopped:?}");
    let text = text_of(&stopped);
    assert!(text.contains("error[PoolDoubleFree]: bad freed"), "{text}");
    assert_eq!(
        text.lines().last(),
        Some(
            "*** STOP: DRIVER_VERIFIER_DETECTED_VIOLATION (0x000000C4): \
             bad freed pool memory twice [PoolDoubleFree]"
        ),
        "{text}"
    );
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// SIGABRT.
fn libc_abort() -> i32 {
    6
}

#[test]
fn a_debugger_finds_where_reports_are_made() {
    unsafe extern "C" {
        safe fn nt_host_report();
    }
    // The linker finds it by this name, and so does a debugger.
    nt_host_report();
}
