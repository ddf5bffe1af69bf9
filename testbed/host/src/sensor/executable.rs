// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which files the kernel opens next in the exec of a given file.
//!
//! One `execve` opens several files: the program, the interpreter that a script's first line names
//! (which may be a script again), and the loader that an ELF program names in its PT_INTERP
//! segment. Each open is a permission event of its own. Knowing the next file by (device, inode)
//! tells those from a new exec.

#![forbid(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::gate::HeldExec;
use super::procfs;

/// The length of the file's beginning that the kernel looks at for `#!`.
const FIRST_LINE: usize = 256;
const LONGEST_PATH: u64 = 4096;
const PT_INTERP: u32 = 3;

/// A file's identity, the same by whatever name it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(file: &File) -> io::Result<FileId> {
        file.metadata().map(|metadata| FileId::from(&metadata))
    }
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> FileId {
        FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// What follows a file in its exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This file, or nothing if the exec fails.
    File(FileId),
    /// No further file.
    Nothing,
    /// The format is not one of the two above (a registered foreign format, perhaps): anything.
    Anything,
}

impl Next {
    /// What the kernel opens after the file of a held exec.
    pub(super) fn after(exec: &HeldExec) -> Next {
        // A file that cannot be looked at may lead anywhere.
        exec.open()
            .map_or(Next::Anything, |file| Next::after_file(&file, exec.tid()))
    }

    fn after_file(file: &File, tid: u32) -> Next {
        match interpreter(file) {
            // What cannot be found the kernel will not find either, and the exec fails.
            Interpreter::Named(path) => identify(tid, &path).map_or(Next::Nothing, Next::File),
            Interpreter::None => Next::Nothing,
            Interpreter::Unknown => Next::Anything,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Interpreter {
    Named(CString),
    None,
    Unknown,
}

fn interpreter(file: &File) -> Interpreter {
    let mut start = [0u8; FIRST_LINE];
    let length = read_up_to(file, &mut start, 0);
    let start = start.get(..length).unwrap_or_default();
    if let Some(line) = start.strip_prefix(b"#!") {
        return script_interpreter(line).map_or(Interpreter::None, Interpreter::Named);
    }
    if start.starts_with(b"\x7fELF") {
        return loader(file, start).map_or(Interpreter::None, Interpreter::Named);
    }
    Interpreter::Unknown
}

/// The path after `#!`: from the first character that is no blank up to a blank or the line's end.
fn script_interpreter(line: &[u8]) -> Option<CString> {
    let line = line.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let mut words = line
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|word| !word.is_empty());
    CString::new(words.next()?).ok()
}

/// The path in an ELF file's PT_INTERP segment, for both word sizes, little-endian.
fn loader(file: &File, start: &[u8]) -> Option<CString> {
    let wide = match start.get(4)? {
        1 => false,
        2 => true,
        _ => return None,
    };
    let (table, entry_size, entries) = if wide {
        (
            number(start, 32, 8)?,
            number(start, 54, 2)?,
            number(start, 56, 2)?,
        )
    } else {
        (
            number(start, 28, 4)?,
            number(start, 42, 2)?,
            number(start, 44, 2)?,
        )
    };
    let mut entry = [0u8; 56];
    for index in 0..entries {
        let at = table.checked_add(index.checked_mul(entry_size)?)?;
        let length = read_up_to(file, &mut entry, at);
        let entry = entry.get(..length)?;
        if number(entry, 0, 4)? != u64::from(PT_INTERP) {
            continue;
        }
        let (offset, size) = if wide {
            (number(entry, 8, 8)?, number(entry, 32, 8)?)
        } else {
            (number(entry, 4, 4)?, number(entry, 16, 4)?)
        };
        let mut path = vec![0u8; usize::try_from(size.min(LONGEST_PATH)).ok()?];
        let length = read_up_to(file, &mut path, offset);
        path.truncate(length);
        let path = path.split(|byte| *byte == 0).next()?.to_vec();
        return CString::new(path).ok();
    }
    None
}

/// The little-endian number of `size` bytes at `at`.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let digits = bytes.get(at..at.checked_add(size)?)?;
    Some(
        digits
            .iter()
            .rev()
            .fold(0, |value, digit| (value << 8) | u64::from(*digit)),
    )
}

/// Reads until the buffer is full or the file ends; an error ends it too.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> usize {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(length as u64)) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    length
}

/// The identity of the file that thread `tid` would find under `path`.
fn identify(tid: u32, path: &CString) -> io::Result<FileId> {
    FileId::of(&procfs::open_as(tid, OsStr::from_bytes(path.as_bytes()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn named(text: &str) -> Interpreter {
        Interpreter::Named(CString::new(text).unwrap())
    }

    fn file_with(bytes: &[u8]) -> File {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let name = format!("sensor-executable-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = File::create_new(&path).unwrap();
        file.write_all(bytes).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }

    #[test]
    fn a_script_names_its_interpreter_in_the_first_line() {
        assert_eq!(interpreter(&file_with(b"#!/bin/sh\n")), named("/bin/sh"));
        assert_eq!(
            interpreter(&file_with(b"#! \t/usr/bin/env -S x y\n")),
            named("/usr/bin/env")
        );
        assert_eq!(interpreter(&file_with(b"#!/bin/x")), named("/bin/x"));
        assert_eq!(interpreter(&file_with(b"#!  \n/bin/y")), Interpreter::None);
    }

    #[test]
    fn a_program_names_its_loader() {
        let file = File::open("/proc/self/exe").unwrap();
        let Interpreter::Named(path) = interpreter(&file) else {
            panic!("the test program has no loader");
        };
        let id = identify(std::process::id(), &path).unwrap();
        let wanted = std::fs::metadata(path.to_str().unwrap()).unwrap();
        assert_eq!(id, FileId::from(&wanted));
        assert_eq!(Next::after_file(&file, std::process::id()), Next::File(id));
    }

    #[test]
    fn other_formats_and_broken_programs_are_told_apart() {
        assert_eq!(interpreter(&file_with(b"")), Interpreter::Unknown);
        assert_eq!(interpreter(&file_with(b"MZ\x90")), Interpreter::Unknown);
        assert_eq!(interpreter(&file_with(b"\x7fELF")), Interpreter::None);
        assert_eq!(
            interpreter(&file_with(b"\x7fELF\x02\x01\x01 cut")),
            Interpreter::None
        );
    }
}
