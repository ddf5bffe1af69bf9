// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was expected and what was found.

use std::fmt::Debug;
use std::process::ExitCode;

/// The checks so far.
#[derive(Default)]
pub(crate) struct Report {
    checks: usize,
    differ: usize,
}

/// A number that is shown in hexadecimal: an HRESULT, an NTSTATUS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hex(pub(crate) u32);

impl Debug for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{:08X}", self.0)
    }
}

impl Report {
    /// One check.
    pub(crate) fn check<T: PartialEq + Debug>(&mut self, name: &str, expected: T, found: T) {
        let equal = expected == found;
        let verdict = if equal { "ok" } else { "DIFFERS" };
        println!("{verdict}: {name}: expected {expected:?}, found {found:?}");
        self.checks += 1;
        self.differ += usize::from(!equal);
    }

    /// One check of an HRESULT.
    pub(crate) fn hresult(&mut self, name: &str, expected: u32, found: i32) {
        self.check(name, Hex(expected), Hex(found.cast_unsigned()));
    }

    /// One check of an NTSTATUS that the driver saw.
    pub(crate) fn status(&mut self, name: &str, expected: u32, found: i32) {
        self.hresult(name, expected, found);
    }

    /// The sum.
    pub(crate) fn finish(self) -> ExitCode {
        println!("{} checks, {} differ", self.checks, self.differ);
        if self.differ == 0 && self.checks > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
