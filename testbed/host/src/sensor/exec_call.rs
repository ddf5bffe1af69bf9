// SPDX-License-Identifier: MIT OR Apache-2.0
//! The exec call a held thread is in: which program it names and with which arguments.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use super::{command_line, procfs};

/// No more of an exec's arguments is read than this, in bytes.
const LIMIT: usize = 64 * 1024;
const LONGEST_PATH: usize = 4096;
const PAGE: u64 = 4096;
const WORD: u64 = 8;
/// How long a thread may take from announcing its exec to being asleep in the kernel. It may be
/// without a processor for a while in between.
const FALLING_ASLEEP: Duration = Duration::from_millis(200);
/// How long to wait between two looks at such a thread; nothing tells when it is asleep.
const BETWEEN_LOOKS: Duration = Duration::from_micros(50);

/// The system call a thread is in, as `/proc/<pid>/task/<tid>/syscall` shows it.
///
/// Two looks that are equal are (but for a program that calls again from the same place with the
/// same pointers) two looks at the same call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    number: i64,
    arguments: Vec<u64>,
}

impl Call {
    /// The call thread `tid` is blocked in; `None` if it cannot be seen or there is none.
    pub(super) fn of(tid: u32) -> Option<Call> {
        let limit = Instant::now() + FALLING_ASLEEP;
        loop {
            let text = fs::read_to_string(format!("/proc/{tid}/task/{tid}/syscall")).ok()?;
            if text.trim_end() != "running" {
                return Call::parse(&text);
            }
            if Instant::now() >= limit {
                return None;
            }
            thread::sleep(BETWEEN_LOOKS);
        }
    }

    fn parse(text: &str) -> Option<Call> {
        let mut words = text.split_ascii_whitespace();
        let number = words.next()?.parse().ok()?;
        let value = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        Some(Call {
            number,
            arguments: words.map(value).collect::<Option<_>>()?,
        })
    }

    /// The directory's descriptor, the path's address and the argument array's, if the call is an
    /// exec.
    fn exec(&self) -> Option<(i32, u64, u64)> {
        let argument = |index: usize| self.arguments.get(index).copied();
        match self.number {
            libc::SYS_execve => Some((libc::AT_FDCWD, argument(0)?, argument(1)?)),
            // A descriptor is the lower half of its register.
            libc::SYS_execveat => Some((argument(0)? as i32, argument(1)?, argument(2)?)),
            _ => None,
        }
    }

    /// The command line thread `tid` gives to this call; `None` if it is no exec or unreadable.
    /// What is beyond the first 64 KiB is left out.
    pub(super) fn command_line(&self, tid: u32) -> Option<OsString> {
        let (_, _, array) = self.exec()?;
        let arguments = Memory::of(tid)?.arguments(array)?;
        if arguments.is_empty() {
            return None;
        }
        let line = command_line::join(arguments.iter().map(Vec::as_slice));
        Some(OsString::from_vec(line))
    }

    /// The program that this call of thread `tid` names, opened for looking at only.
    pub(super) fn program(&self, tid: u32) -> Option<File> {
        let (directory, path, _) = self.exec()?;
        let path = OsString::from_vec(Memory::of(tid)?.text(path, LONGEST_PATH)?);
        if directory == libc::AT_FDCWD || path.as_bytes().starts_with(b"/") {
            return procfs::open_as(tid, &path).ok();
        }
        let mut full = OsString::from(format!("/proc/{tid}/fd/{directory}"));
        if !path.is_empty() {
            full.push("/");
            full.push(path);
        }
        procfs::open_path(OsStr::new(&full)).ok()
    }
}

/// The memory of another process.
struct Memory {
    file: File,
}

impl Memory {
    fn of(tid: u32) -> Option<Memory> {
        let file = File::open(format!("/proc/{tid}/mem")).ok()?;
        Some(Memory { file })
    }

    fn arguments(&self, array: u64) -> Option<Vec<Vec<u8>>> {
        let mut arguments = Vec::new();
        let mut room = LIMIT;
        let mut at = array;
        while room > 0 {
            let mut word = [0u8; WORD as usize];
            self.file.read_exact_at(&mut word, at).ok()?;
            let address = u64::from_ne_bytes(word);
            if address == 0 {
                break;
            }
            let text = self.text(address, room)?;
            // A terminator counts too, so that a million empty arguments end as well.
            room = room.saturating_sub(text.len() + 1);
            arguments.push(text);
            at = at.checked_add(WORD)?;
        }
        Some(arguments)
    }

    /// The bytes from `address` up to a zero, at most `limit` of them.
    fn text(&self, address: u64, limit: usize) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let mut at = address;
        while text.len() < limit {
            // Up to the end of the page: the next one may not be there.
            let in_page = (PAGE - at % PAGE) as usize;
            let mut chunk = vec![0u8; in_page.min(limit - text.len())];
            self.file.read_exact_at(&mut chunk, at).ok()?;
            if let Some(end) = chunk.iter().position(|byte| *byte == 0) {
                chunk.truncate(end);
                text.append(&mut chunk);
                break;
            }
            at = at.checked_add(chunk.len() as u64)?;
            text.append(&mut chunk);
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_and_an_exec_recognised() {
        let call = Call::parse("59 0x1 0x2 0x3 0x0 0x0 0x0 0x7ffc 0x7f00\n").unwrap();
        assert_eq!(call.exec(), Some((libc::AT_FDCWD, 1, 2)));
        let other = Call::parse("0 0x1 0x2 0x3 0x0 0x0 0x0 0x7ffc 0x7f00\n").unwrap();
        assert_eq!(other.exec(), None);
        let kernel = Call::parse("-1 0x7ffc 0x7f00").unwrap();
        assert_eq!(kernel.exec(), None);
        let at = Call::parse("322 0xffffff9c 0x1 0x2 0x0 0x1000 0x0 0x7ffc 0x7f00").unwrap();
        assert_eq!(at.exec(), Some((libc::AT_FDCWD, 1, 2)));
        assert_eq!(Call::parse("running"), None);
        assert_eq!(Call::parse("59 zz"), None);
    }

    #[test]
    fn arguments_are_read_from_memory_within_the_limit() {
        let memory = Memory {
            file: File::open("/proc/self/mem").unwrap(),
        };
        let long = vec![b'x'; LIMIT * 2];
        let texts = [c"one".to_bytes_with_nul(), c"".to_bytes_with_nul(), &long];
        let mut array: Vec<u64> = texts
            .iter()
            .map(|text| text.as_ptr().addr() as u64)
            .collect();
        array.push(0);
        let arguments = memory.arguments(array.as_ptr().addr() as u64).unwrap();
        assert_eq!(arguments[0], b"one");
        assert_eq!(arguments[1], b"");
        assert_eq!(arguments[2].len(), LIMIT - 5);
        assert_eq!(memory.arguments(0), None);
    }
}
