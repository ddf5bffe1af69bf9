// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `/proc` knows of processes. Every function is a look at one moment: a process may be gone
//! by then.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{command_line, ffi};

/// kthreadd, the parent of kernel threads (in the initial pid namespace; another has none). They
/// are no processes in NT's sense.
const KERNEL_THREADS_PARENT: u32 = 2;
/// Since this version a thread inside execve can be looked at without waiting for it.
const FIRST_KERNEL_TO_HOLD: (u32, u32) = (5, 11);

/// The lines of `/proc/<tid>/status` the sensor reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// The process the thread belongs to.
    pub(super) pid: u32,
    /// Its parent now.
    pub(super) parent: u32,
    /// Its real user.
    pub(super) uid: u32,
}

/// Reads the status of a thread (or of a process: its first thread).
pub(super) fn status(tid: u32) -> Option<Status> {
    parse_status(&fs::read(format!("/proc/{tid}/status")).ok()?)
}

fn parse_status(text: &[u8]) -> Option<Status> {
    let (mut pid, mut parent, mut uid) = (None, None, None);
    for line in text.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_ascii_whitespace();
        let field = match words.next() {
            Some("Tgid:") => &mut pid,
            Some("PPid:") => &mut parent,
            Some("Uid:") => &mut uid,
            _ => continue,
        };
        *field = words.next().and_then(|word| word.parse().ok());
    }
    Some(Status {
        pid: pid?,
        parent: parent?,
        uid: uid?,
    })
}

/// The program a process runs; `None` for kernel threads and processes that are gone.
pub(super) fn image(pid: u32) -> Option<OsString> {
    let path = fs::read_link(format!("/proc/{pid}/exe"))
        .ok()?
        .into_os_string();
    Some(without_deleted_mark(path))
}

/// The path of the file behind a descriptor, which is named by its place in `/proc`.
pub(super) fn path_behind(descriptor: &Path) -> Option<OsString> {
    let path = fs::read_link(descriptor).ok()?;
    Some(without_deleted_mark(path.into_os_string()))
}

/// The kernel appends a word to the path of a file that has no name any more.
fn without_deleted_mark(path: OsString) -> OsString {
    match path.as_bytes().strip_suffix(b" (deleted)") {
        Some(before) => OsStr::from_bytes(before).to_owned(),
        None => path,
    }
}

/// The command line of a process that runs, from its own memory; `None` if it has none.
pub(super) fn command_line(pid: u32) -> Option<OsString> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return None;
    }
    Some(OsString::from_vec(command_line::join(
        bytes.split(|byte| *byte == 0),
    )))
}

/// Opens `path` as thread `tid` would find it, for looking at only: from its root directory if the
/// path is absolute, else from its working directory.
pub(super) fn open_as(tid: u32, path: &OsStr) -> io::Result<File> {
    let bytes = path.as_bytes();
    // Where the thread looks at itself, this thread must look at it, too.
    for (own, place) in [
        (b"/proc/self/".as_slice(), ""),
        (b"/dev/fd/".as_slice(), "fd/"),
    ] {
        if let Some(rest) = bytes.strip_prefix(own) {
            return open_below(&format!("/proc/{tid}/{place}"), rest);
        }
    }
    if bytes.starts_with(b"/") {
        let root = open_path(OsStr::new(&format!("/proc/{tid}/root")))?;
        return ffi::open_below_root(&root, path);
    }
    open_below(&format!("/proc/{tid}/cwd/"), bytes)
}

fn open_below(directory: &str, rest: &[u8]) -> io::Result<File> {
    let mut full = OsString::from(directory);
    full.push(OsStr::from_bytes(rest));
    open_path(&full)
}

/// Opens a path for looking at only.
pub(super) fn open_path(path: &OsStr) -> io::Result<File> {
    File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
}

/// The path of an open file of the calling thread.
pub(super) fn path_of(file: &File) -> Option<OsString> {
    let number = file.as_fd().as_raw_fd();
    path_behind(Path::new(&format!("/proc/thread-self/fd/{number}")))
}

/// Whether a process has a thread that has not ended.
pub(super) fn has_living_thread(pid: u32) -> bool {
    // A thread that executes a program takes the number of the first one. If that happens during
    // one pass, the pass may meet the first thread before and miss the other afterwards; the next
    // pass meets it in the first one's place.
    (0..2).any(|_| shows_living_thread(pid))
}

fn shows_living_thread(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    tasks.flatten().any(|task| {
        let stat = fs::read(task.path().join("stat")).ok();
        stat.and_then(|text| parse_stat(&text))
            .is_some_and(|stat| stat.ended.is_none())
    })
}

/// The fields of `/proc/<pid>/stat` the sensor reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// In clock ticks since the machine started: tells two processes of one pid apart.
    started: u64,
    /// The exit status in the form of wait(2), of a process that has ended and is not yet waited
    /// for.
    ended: Option<u32>,
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The program's name, in parentheses, may contain anything, parentheses and blanks included.
    let end_of_name = text.iter().rposition(|byte| *byte == b')')?;
    let rest = String::from_utf8_lossy(text.get(end_of_name + 1..)?);
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ended = match *fields.first()? {
        "Z" | "X" => Some(
            fields
                .get(49)
                .and_then(|word| word.parse().ok())
                .unwrap_or(0),
        ),
        _ => None,
    };
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        ended,
    })
}

/// A process as a walk over `/proc` found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Walked {
    pub(super) parent: u32,
    /// In clock ticks since the machine started.
    pub(super) started: u64,
    /// Set if the process has ended: its status in the form of wait(2).
    pub(super) ended: Option<u32>,
    pub(super) image: Option<OsString>,
}

/// Every process there is, kernel threads left out.
pub(super) fn walk() -> io::Result<HashMap<u32, Walked>> {
    let mut found = HashMap::new();
    let kernel_threads = creates_kernel_threads(KERNEL_THREADS_PARENT);
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let text = fs::read(entry.path().join("stat")).ok();
        let Some(stat) = text.and_then(|text| parse_stat(&text)) else {
            continue;
        };
        let of_kernel = [pid, stat.parent].contains(&KERNEL_THREADS_PARENT);
        if kernel_threads && of_kernel {
            continue;
        }
        // The first thread of a process may have ended before the others.
        let ended = stat.ended.filter(|_| !has_living_thread(pid));
        let Stat {
            parent, started, ..
        } = stat;
        found.insert(
            pid,
            Walked {
                parent,
                started,
                ended,
                image: image(pid),
            },
        );
    }
    Ok(found)
}

/// Whether the children of this process are kernel threads.
pub(super) fn creates_kernel_threads(pid: u32) -> bool {
    let is_kthreadd = || fs::read("/proc/2/comm").is_ok_and(|name| name == b"kthreadd\n");
    pid == KERNEL_THREADS_PARENT && is_kthreadd()
}

/// Whether this kernel shows a thread's system call while it holds the thread inside execve.
pub(super) fn kernel_can_show_held_execs() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    version(&release).is_some_and(|version| version >= FIRST_KERNEL_TO_HOLD)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_of_this_process() {
        let status = status(std::process::id()).unwrap();
        assert_eq!(status.pid, std::process::id());
        assert_eq!(status.parent, std::os::unix::process::parent_id());
        assert_eq!(parse_status(b"Name:\tx\nTgid:\t5\nPPid:\t4\n"), None);
        let text = b"Name:\tUid: 9\nTgid:\t5\nPPid:\t4\nUid:\t1\t2\t3\t4\n";
        assert_eq!(
            parse_status(text),
            Some(Status {
                pid: 5,
                parent: 4,
                uid: 1
            })
        );
    }

    #[test]
    fn a_stat_line_is_read_from_the_last_parenthesis() {
        let mut line = String::from("7 (a) b (c)) Z 3");
        (5..=51).for_each(|field| line.push_str(&format!(" {field}")));
        line.push_str(" 256");
        let wanted = Stat {
            parent: 3,
            started: 22,
            ended: Some(256),
        };
        assert_eq!(parse_stat(line.as_bytes()), Some(wanted));
        let alive = line.replace(") Z 3", ") R 3");
        assert_eq!(parse_stat(alive.as_bytes()).unwrap().ended, None);
        assert_eq!(parse_stat(b"7 (x) R"), None);
    }

    #[test]
    fn a_walk_finds_this_process_and_no_kernel_thread() {
        let found = walk().unwrap();
        let this = &found[&std::process::id()];
        let program = std::env::current_exe().unwrap().into_os_string();
        assert_eq!(this.image.as_ref(), Some(&program));
        assert_eq!(this.ended, None);
        assert!(!found.contains_key(&KERNEL_THREADS_PARENT));
        assert!(has_living_thread(std::process::id()));
    }

    #[test]
    fn the_command_line_of_this_process() {
        let line = command_line(std::process::id()).unwrap();
        let first = std::env::args_os().next().unwrap();
        assert!(line.as_bytes().starts_with(first.as_bytes()), "{line:?}");
    }

    #[test]
    fn kernel_versions_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-x\n"), Some((6, 18)));
        assert!(version("5.4.0-generic") < Some(FIRST_KERNEL_TO_HOLD));
        assert_eq!(version(""), None);
    }

    #[test]
    fn a_deleted_file_keeps_its_path() {
        assert_eq!(without_deleted_mark("/a/b (deleted)".into()), "/a/b");
        assert_eq!(without_deleted_mark("/a/b".into()), "/a/b");
    }
}
