// SPDX-License-Identifier: MIT OR Apache-2.0
//! Call stacks: cheap to take, resolved only when somebody reads them.

pub(crate) mod bounds;
pub(crate) mod unwind;

use std::ffi::c_void;
use std::fmt;
use std::path::PathBuf;

use crate::entry;

/// How many frames a stack keeps.
const DEPTH: usize = 48;

/// The return addresses of a thread at one moment, innermost first.
#[derive(Clone, Default)]
pub struct Stack(Box<[usize]>);

impl Stack {
    /// The stack of the calling thread.
    #[must_use]
    pub fn capture() -> Stack {
        let mut frames = Vec::with_capacity(DEPTH);
        unwind::walk(|frame| {
            frames.push(frame.address);
            frames.len() < DEPTH
        });
        Stack(frames.into_boxed_slice())
    }

    /// Return addresses that somebody else has collected.
    pub(crate) fn of(addresses: Vec<usize>) -> Stack {
        Stack(addresses.into_boxed_slice())
    }

    /// The return addresses, innermost first.
    #[must_use]
    pub fn addresses(&self) -> &[usize] {
        &self.0
    }
}

/// What is known of one function on a stack.
pub(crate) struct Function {
    /// Its name: with its path where the executable has symbols, without where it has only a line
    /// table, as inlined functions then have.
    pub name: String,
    /// The source file and the line.
    pub place: Option<(PathBuf, u32)>,
}

/// The functions at a return address, the innermost inlined one first. As a return address may
/// belong to the line after the call, the byte before it is looked up.
pub(crate) fn functions_at(address: usize) -> Vec<Function> {
    let mut functions = Vec::new();
    backtrace::resolve(address as *mut c_void, |symbol| {
        let place = symbol
            .filename()
            .map(|file| (file.to_owned(), symbol.lineno().unwrap_or(0)));
        let name = symbol.name().map(|name| format!("{name:#}"));
        functions.push(Function {
            name: name.unwrap_or_else(|| "?".to_owned()),
            place,
        });
    });
    functions
}

impl Stack {
    /// The functions on the stack that tell something, innermost first.
    pub(crate) fn functions(&self) -> impl Iterator<Item = Function> {
        let all = self.0.iter().flat_map(|address| functions_at(*address));
        all.filter(Function::is_worth_showing)
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, function) in self.functions().enumerate() {
            writeln!(f, "{number:>6}: {function}")?;
        }
        Ok(())
    }
}

/// Where the sources of the hosted kernel are.
const OWN_SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");

impl Function {
    /// Whether it is a function of NT, as the hosted kernel exports it.
    pub(crate) fn is_exported(&self) -> bool {
        entry::address_of(&self.name).is_some()
    }

    /// The runtime around a thread, the hosted kernel behind the function that a driver called,
    /// and the capture itself tell nothing.
    fn is_worth_showing(&self) -> bool {
        const NOISY_NAMES: [&str; 7] = [
            "?",
            "backtrace::",
            "std::",
            "core::",
            "<alloc::boxed::Box",
            "test::",
            "__rust_",
        ];
        const NOISY_PLACES: [&str; 6] = [
            "/backtrace-",
            "/framehop-",
            "/parking_lot",
            "/library/",
            "/sysdeps/",
            "/nptl/",
        ];
        let Some((file, _)) = &self.place else {
            // Of the C library's start of a thread, for one, only the name is known.
            return self.name.contains("::") && !self.is_noisy_name(&NOISY_NAMES);
        };
        let file = file.to_string_lossy();
        if file.starts_with(OWN_SOURCES) {
            return self.is_exported();
        }
        !self.is_noisy_name(&NOISY_NAMES) && !NOISY_PLACES.iter().any(|noise| file.contains(noise))
    }

    fn is_noisy_name(&self, noisy: &[&str]) -> bool {
        let name = self.name.trim_start_matches('<');
        noisy.iter().any(|noise| self.name.starts_with(noise))
            || name.starts_with("nt_host::")
            || name.contains(" as core::ops::function::Fn")
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        // Of NT's functions the driver's author has no sources.
        if let Some((file, line)) = self.place.as_ref().filter(|_| !self.is_exported()) {
            let here = std::env::current_dir().unwrap_or_default();
            let file = file.strip_prefix(here).unwrap_or(file);
            write!(f, " ({}:{line})", file.display())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stack({} frames)", self.0.len())
    }
}
