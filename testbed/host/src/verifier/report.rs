// SPDX-License-Identifier: MIT OR Apache-2.0
//! One broken rule, and how it reads.

use std::fmt;

use super::Rule;
use crate::irql;
use crate::kernel;
use crate::stack::{Function, Stack};
use crate::thread;
use crate::verifier::attribution;

/// Another moment that a report is about: where the lock was taken before, where the memory was
/// freed first.
#[derive(Clone, Debug)]
pub struct Related {
    /// What happened there, as the beginning of a line.
    pub what: String,
    /// Where.
    pub stack: Stack,
}

/// A broken rule: where, what was expected, what was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which rule. Its cure and its explanation are [`Rule::cure`] and [`Rule::explanation`].
    pub rule: Rule,
    /// The kernel function that the driver called last, as far as it is known.
    pub function: &'static str,
    /// The service name of the driver, as far as it is known.
    pub driver: Option<String>,
    /// The IRQL of the thread at that moment.
    pub irql: u8,
    /// The id of the thread.
    pub thread: u64,
    /// What the rule asks for.
    pub expected: String,
    /// What was there.
    pub found: String,
    /// What else helps to find the cause.
    pub detail: String,
    /// Where it happened; for something left behind, where it was made.
    pub stack: Stack,
    /// The other moments, where two or more are involved.
    pub related: Vec<Related>,
    /// What `stack` shows.
    what: &'static str,
    /// The package of the driver, by which its own code is found on the stack.
    package: Option<Box<str>>,
}

impl Report {
    /// A report about the calling thread, here and now.
    #[must_use]
    pub fn new(rule: Rule) -> Report {
        Report {
            rule,
            function: thread::with_context(|context| context.function.get()),
            driver: thread::current_driver().map(|driver| driver.name().to_owned()),
            irql: irql::current(),
            thread: thread::native_id(),
            expected: String::new(),
            found: String::new(),
            detail: String::new(),
            stack: Stack::default(),
            related: Vec::new(),
            what: "it happened here",
            package: None,
        }
    }

    /// Says what the rule asks for.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Report {
        self.expected = expected.into();
        self
    }

    /// Says what was there.
    #[must_use]
    pub fn found(mut self, found: impl Into<String>) -> Report {
        self.found = found.into();
        self
    }

    /// Adds what helps to find the cause.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Report {
        self.detail = detail.into();
        self
    }

    /// Names the driver, where it is not the one that runs.
    #[must_use]
    pub fn driver(mut self, driver: Option<&str>) -> Report {
        self.driver = driver.map(str::to_owned);
        self
    }

    /// Names the function, where it is not the one called last.
    #[must_use]
    pub fn function(mut self, function: &'static str) -> Report {
        self.function = function;
        self
    }

    /// Gives the stack of an earlier moment, when what the report is about was made; otherwise
    /// the stack of this one is taken.
    #[must_use]
    pub fn made_at(self, stack: Stack) -> Report {
        self.at("it was made here", stack)
    }

    /// Gives the stack of an earlier moment, and says what happened then.
    #[must_use]
    pub fn at(mut self, what: &'static str, stack: Stack) -> Report {
        self.what = what;
        self.stack = stack;
        self
    }

    /// Adds another moment that the report is about.
    #[must_use]
    pub fn related(mut self, what: impl Into<String>, stack: Stack) -> Report {
        let what = what.into();
        self.related.push(Related { what, stack });
        self
    }

    /// Hands the report to the kernel of the calling thread.
    pub fn file(mut self) {
        nt_host_report();
        if self.stack.addresses().is_empty() {
            self.what = "it happened here";
            self.stack = Stack::capture();
        }
        let state = kernel::state();
        let driver = self.driver.as_deref();
        let driver = driver.and_then(|name| state.drivers.by_name(name));
        self.package = driver.and_then(|driver| driver.package().map(Box::from));
        state.file_report(self);
    }

    /// The last line of a system that a report stops. 0xC4 is
    /// DRIVER_VERIFIER_DETECTED_VIOLATION.
    pub(crate) fn stop_line(&self) -> String {
        let driver = self.driver.as_deref().unwrap_or("a driver");
        format!(
            "*** STOP: DRIVER_VERIFIER_DETECTED_VIOLATION (0x000000C4): {driver} {} [{:?}]",
            self.rule.title(),
            self.rule
        )
    }

    /// The innermost function of the driver itself on the stack; without one that is known, the
    /// innermost function outside the hosted kernel.
    fn own_function(&self) -> Option<Function> {
        let is_own = |it: &Function| it.place.is_some() && !it.is_exported();
        let functions = || self.stack.functions().filter(is_own);
        let own = functions().find(|function| {
            let package = self.package.as_deref();
            package.is_some_and(|package| attribution::package_of(function) == package)
        });
        own.or_else(|| functions().next())
    }
}

/// Where a debugger stops at every report: a name that it finds, whatever is known of Rust's own.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn nt_host_report() {
    // Not a function that the compiler could leave out.
    std::hint::black_box(());
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = self.driver.as_deref().unwrap_or("a driver");
        writeln!(f, "error[{:?}]: {driver} {}", self.rule, self.rule.title())?;
        if let Some(function) = self.own_function() {
            writeln!(f, "  --> {function}")?;
        }
        let call = format!(
            "{}, at {}, thread {}",
            self.function,
            irql::name(self.irql),
            self.thread
        );
        for (label, text) in [
            ("call", &*call),
            ("expected", &self.expected),
            ("found", &self.found),
            ("note", &self.detail),
            ("help", self.rule.cure()),
        ] {
            if !text.is_empty() {
                writeln!(f, "  {label:>8}: {text}")?;
            }
        }
        writeln!(f, "  {}:", self.what)?;
        write!(f, "{}", self.stack)?;
        for related in &self.related {
            writeln!(f, "  {}:", related.what)?;
            write!(f, "{}", related.stack)?;
        }
        Ok(())
    }
}
