// SPDX-License-Identifier: MIT OR Apache-2.0
//! Call stacks: cheap to take, resolved only when somebody reads them.

use std::ffi::c_void;
use std::fmt;
use std::path::PathBuf;

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
        backtrace::trace(|frame| {
            frames.push(frame.ip() as usize);
            frames.len() < DEPTH
        });
        Stack(frames.into_boxed_slice())
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

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions = self.0.iter().flat_map(|address| functions_at(*address));
        for (number, function) in functions.filter(Function::is_worth_showing).enumerate() {
            write!(f, "{number:>6}: {}", function.name)?;
            match &function.place {
                Some((file, line)) => writeln!(f, " ({}:{line})", file.display())?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl Function {
    /// The runtime around a thread and the capture itself tell nothing.
    fn is_worth_showing(&self) -> bool {
        const NOISY_NAMES: [&str; 8] = [
            "?",
            "backtrace::",
            "nt_host::stack::",
            "nt_host::verifier::",
            "std::",
            "core::",
            "<alloc::boxed::Box",
            "test::",
        ];
        const NOISY_PLACES: [&str; 5] = [
            "/backtrace-",
            "/library/",
            "host/src/stack.rs",
            "host/src/verifier.rs",
            "/sysdeps/",
        ];
        let place = self.place.as_ref().map(|(file, _)| file.to_string_lossy());
        !NOISY_NAMES.iter().any(|noise| self.name.starts_with(noise))
            && !place.is_some_and(|place| NOISY_PLACES.iter().any(|noise| place.contains(noise)))
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stack({} frames)", self.0.len())
    }
}
