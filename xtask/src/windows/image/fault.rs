// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can be wrong with an image, and what to do about it.

use std::fmt;

/// Why an image would not load, would be refused later, or is weaker than it could be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Unreadable(String),
    Machine(u16),
    Subsystem {
        found: u16,
        wanted: u16,
    },
    Dll,
    NotRelocatable,
    LowEntropy,
    ExecutableData,
    NoEntry,
    EntryStays,
    Checksum {
        found: u32,
        right: u32,
    },
    Unguarded,
    Guard(String),
    NoForceIntegrity(String),
    Alignment(u32),
    CutOff(String),
    WritableCode(String),
    ImportsInCode(String),
    DelayedImports,
    WritableInit,
    InitStays,
    Discarded(String),
    ForeignImport {
        library: String,
        functions: Vec<String>,
    },
    UnknownImport {
        library: String,
        function: String,
    },
    Exports {
        found: Vec<String>,
        wanted: Vec<String>,
    },
    Version(String),
    Unwind(&'static str),
    Frame {
        function: String,
        bytes: u32,
        limit: u32,
    },
    TooLarge {
        size: usize,
        limit: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unreadable(cause) => write!(f, "this is no complete 64-bit PE image: {cause}"),
            Fault::Machine(found) => {
                write!(f, "built for machine {found:#06x}, not x86-64 (0x8664)")
            }
            Fault::Subsystem { found, wanted } => write!(
                f,
                "its subsystem is {found}, not {wanted} (1 is native, 3 the console); link with \
                 /SUBSYSTEM"
            ),
            Fault::Dll => write!(
                f,
                "it is marked as a DLL; a driver or program is none: link without /DLL"
            ),
            Fault::NotRelocatable => write!(
                f,
                "it cannot be relocated; link with /FIXED:NO and /DYNAMICBASE"
            ),
            Fault::LowEntropy => write!(
                f,
                "it is placed at random below 4 GB only; link with /HIGHENTROPYVA"
            ),
            Fault::ExecutableData => {
                write!(f, "it wants its data to be executable; link with /NXCOMPAT")
            }
            Fault::NoEntry => write!(
                f,
                "its entry point is not in executable code; link with /ENTRY:DriverEntry"
            ),
            Fault::EntryStays => write!(
                f,
                "its entry point is not in the section INIT and stays in memory for good; put \
                 `link_section = \"INIT\"` on DriverEntry"
            ),
            Fault::Checksum { found, right } => write!(
                f,
                "its checksum is {found:#x} and should be {right:#x}; link with /RELEASE, and \
                 change nothing afterwards"
            ),
            Fault::Unguarded => write!(
                f,
                "it has no control flow guard; compile with -Ccontrol-flow-guard, link with \
                 /GUARD:CF"
            ),
            Fault::Guard(cause) => write!(f, "its control flow guard is not whole: {cause}"),
            Fault::NoForceIntegrity(function) => {
                write!(f, "{function} will refuse it; link with /INTEGRITYCHECK")
            }
            Fault::Alignment(found) => write!(
                f,
                "its sections are aligned to {found:#x}, no multiple of a page (0x1000), as \
                 memory integrity asks; link without /ALIGN"
            ),
            Fault::CutOff(section) => write!(
                f,
                "its section {section} reaches beyond the end of the file; copy or build it again"
            ),
            Fault::ImportsInCode(library) => write!(
                f,
                "the addresses of what it imports from {library} lie in executable memory, which \
                 memory integrity refuses; link without merging .rdata into code"
            ),
            Fault::DelayedImports => write!(
                f,
                "it imports more when it first calls it, which the kernel does not do, and which is \
                 not checked; link without /DELAYLOAD"
            ),
            Fault::WritableCode(section) => write!(
                f,
                "its section {section} is both writable and executable, which memory integrity \
                 refuses"
            ),
            Fault::WritableInit => write!(f, "its section INIT is writable; it is for code"),
            Fault::InitStays => write!(
                f,
                "its section INIT is not discardable; link with /SECTION:INIT,ERD"
            ),
            Fault::Discarded(section) => write!(
                f,
                "its section {section} is discarded after DriverEntry; only INIT, .reloc and \
                 .rsrc may be"
            ),
            Fault::ForeignImport { library, functions } => write!(
                f,
                "it imports {} from {library}, which is not there for it",
                some_of(functions)
            ),
            Fault::UnknownImport { library, function } => write!(
                f,
                "it imports {function} from {library}, which is neither in kernel/nt/bindings.txt \
                 (what Microsoft documents) nor listed with a reason (LISTED in \
                 windows/image/imports.rs)"
            ),
            Fault::Exports { found, wanted } => {
                write!(f, "it exports {found:?}, and should export {wanted:?}")
            }
            Fault::Version(cause) => write!(f, "its version resource is not right: {cause}"),
            Fault::Unwind(cause) => write!(
                f,
                "what unwinds its stack is not whole: {cause}; link without /MERGE or /SECTION for \
                 .pdata and .xdata"
            ),
            Fault::Frame {
                function,
                bytes,
                limit,
            } => write!(
                f,
                "{function} takes {bytes} bytes of the kernel's stack, and may take {limit}; put \
                 tables and buffers into pool memory, make large values in their places (new_with, \
                 filled_with), and what is inlined there but done only now and then into a function \
                 of its own (#[inline(never)])"
            ),
            Fault::TooLarge { size, limit } => write!(
                f,
                "it has {size} bytes, and is to stay below {limit}; the linker's map says what is \
                 large"
            ),
        }
    }
}

/// Enough of them to see what it is about.
fn some_of(functions: &[String]) -> String {
    const ENOUGH: usize = 8;
    let (first, rest) = functions.split_at(functions.len().min(ENOUGH));
    match rest.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::some_of;

    #[test]
    fn a_long_list_is_cut() {
        let functions: Vec<String> = (0..10).map(|each| each.to_string()).collect();
        assert_eq!(some_of(&functions[..8]), "0, 1, 2, 3, 4, 5, 6, 7");
        assert_eq!(some_of(&functions), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }
}
