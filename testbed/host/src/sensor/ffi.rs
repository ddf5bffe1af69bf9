// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls the sensor needs that the standard library has no safe form of.
//!
//! Every function here is safe to call: it owns the buffers it hands to the kernel, returns owned
//! descriptors, and turns `-1` into the last error. Nothing here knows what the calls are for.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The multicast group and callback index of the process connector.
pub(super) const CN_IDX_PROC: u32 = 1;

/// Turns a system call's answer into a result.
fn check(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// Takes ownership of the descriptor a system call answered with.
fn own(answer: libc::c_long) -> io::Result<OwnedFd> {
    let fd = libc::c_int::try_from(check(answer)?).map_err(io::Error::other)?;
    // SAFETY: every caller passes the answer of a call that creates a descriptor for its caller
    // alone; `check` has ruled out the error value, so it is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// A non-blocking netlink socket of the connector family, bound to the process events' group.
pub(super) fn connector_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: `socket` takes three integers and touches no memory of ours.
    let answer = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) };
    let socket = own(answer.into())?;
    // SAFETY: `sockaddr_nl` is plain integers, for which all zeroes is a value.
    let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = CN_IDX_PROC;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes at the pointer, which are exactly `address`.
    let answer = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    check(answer.into())?;
    Ok(socket)
}

/// Sets the size of a socket's receive buffer, in bytes, past the administrator's limit if allowed.
pub(super) fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let size = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let set = |option: libc::c_int| {
        let length = size_of_val(&size) as libc::socklen_t;
        let value = (&raw const size).cast();
        // SAFETY: the kernel reads `length` bytes at `value`, which are exactly `size`.
        let answer = unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, length)
        };
        check(answer.into()).map(drop)
    };
    set(libc::SO_RCVBUFFORCE).or_else(|_| set(libc::SO_RCVBUF))
}

/// Receives one datagram; answers its length and the netlink address of its sender (0: the kernel).
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, u32)> {
    // SAFETY: `sockaddr_nl` is plain integers, for which all zeroes is a value.
    let mut sender: libc::sockaddr_nl = unsafe { mem::zeroed() };
    let mut length = size_of_val(&sender) as libc::socklen_t;
    // SAFETY: the kernel writes at most `buffer.len()` bytes to the buffer and at most `length`
    // bytes to `sender`; both live across the call and are borrowed mutably by us alone.
    let answer = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
            (&raw mut sender).cast(),
            &raw mut length,
        )
    };
    let received = check(answer as libc::c_long)?;
    Ok((received as usize, sender.nl_pid))
}

/// What `wait_readable` waits for at one descriptor.
#[derive(Clone, Copy)]
pub(super) enum Interest<'a> {
    /// Data to read.
    Read(BorrowedFd<'a>),
    /// An exceptional condition, which is how the kernel announces a changed mount table.
    Change(BorrowedFd<'a>),
}

/// Waits until at least one descriptor has what is wanted, for at most `timeout` (`None`: for as
/// long as it takes). The answer says which; all are false after a timeout or a signal.
pub(super) fn wait_readable<const N: usize>(
    wanted: [Interest<'_>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled = wanted.map(|interest| match interest {
        Interest::Read(fd) => libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        },
        Interest::Change(fd) => libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLPRI,
            revents: 0,
        },
    });
    let milliseconds = timeout.map_or(-1, |time| {
        let rounded_up = time.as_millis().saturating_add(1);
        libc::c_int::try_from(rounded_up).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: the kernel reads and writes N elements of `polled`, which has N elements.
    let answer = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, milliseconds) };
    match check(answer.into()) {
        Ok(_) => Ok(polled.map(|entry| entry.revents != 0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        Err(error) => Err(error),
    }
}

/// A counter another thread can wait for with `wait_readable`; writing eight bytes wakes it.
pub(super) fn event_counter() -> io::Result<File> {
    // SAFETY: `eventfd` takes two integers and touches no memory of ours.
    let answer = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    own(answer.into()).map(File::from)
}

/// A fanotify group of the content class that reports thread ids, for permission events.
pub(super) fn fanotify_group() -> io::Result<File> {
    let flags = libc::FAN_CLASS_CONTENT
        | libc::FAN_CLOEXEC
        | libc::FAN_NONBLOCK
        | libc::FAN_UNLIMITED_QUEUE
        | libc::FAN_REPORT_TID;
    let event_flags = (libc::O_RDONLY | libc::O_LARGEFILE | libc::O_CLOEXEC) as libc::c_uint;
    // SAFETY: `fanotify_init` takes two integers and touches no memory of ours.
    let answer = unsafe { libc::fanotify_init(flags, event_flags) };
    own(answer.into()).map(File::from)
}

/// Asks for a permission event at every exec of a file on the file system that holds `path`.
pub(super) fn mark_file_system(group: &File, path: &Path) -> io::Result<()> {
    mark(group, libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM, path)
}

/// Asks for a permission event at every exec of the one file at `path`.
#[cfg(test)]
pub(super) fn mark_file(group: &File, path: &Path) -> io::Result<()> {
    mark(group, libc::FAN_MARK_ADD, path)
}

/// Removes every file system mark of the group.
pub(super) fn unmark_file_systems(group: &File) -> io::Result<()> {
    mark(
        group,
        libc::FAN_MARK_FLUSH | libc::FAN_MARK_FILESYSTEM,
        Path::new("/"),
    )
}

fn mark(group: &File, flags: libc::c_uint, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let (fd, mask) = (group.as_raw_fd(), libc::FAN_OPEN_EXEC_PERM);
    // SAFETY: the kernel reads the path up to its terminating zero, which `CString` guarantees.
    let answer = unsafe { libc::fanotify_mark(fd, flags, mask, libc::AT_FDCWD, path.as_ptr()) };
    check(answer.into()).map(drop)
}

/// One event read from a fanotify group.
#[derive(Debug)]
pub(super) struct RawEvent {
    /// What happened (`FAN_OPEN_EXEC_PERM`, `FAN_Q_OVERFLOW`).
    pub(super) mask: u64,
    /// The thread that did it; 0 if it cannot be seen from this process's pid namespace.
    pub(super) tid: u32,
    /// The file, open for reading; `None` for an overflow.
    pub(super) file: Option<File>,
}

/// Reads the events that wait in a group, at most as many as fit `buffer`; none waiting: none.
///
/// A permission event holds its thread until the event's descriptor number has been answered.
pub(super) fn read_events(group: &File, buffer: &mut [u8]) -> io::Result<Vec<RawEvent>> {
    let length = match (&*group).read(buffer) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
        Err(error) => return Err(error),
    };
    let mut rest = buffer.get(..length).unwrap_or_default();
    let mut events = Vec::new();
    while let Some((event, after)) = take_event(rest) {
        events.push(event);
        rest = after;
    }
    Ok(events)
}

/// Takes the first `fanotify_event_metadata` off the bytes the kernel wrote: length (4 bytes),
/// version and padding (2), header length (2), mask (8), descriptor (4), thread (4).
fn take_event(bytes: &[u8]) -> Option<(RawEvent, &[u8])> {
    let word = |at: usize| {
        bytes
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_ne_bytes)
    };
    let length = word(0)? as usize;
    let mask = u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
    let fd = word(16)?.cast_signed();
    let tid = word(20)?;
    let after = bytes.get(length.max(24)..)?;
    let file = (fd >= 0).then(|| {
        // SAFETY: the kernel has just opened this descriptor for the reader of the event, which
        // is `read_events` alone, and every event is taken once.
        unsafe { File::from_raw_fd(fd) }
    });
    Some((RawEvent { mask, tid, file }, after))
}

/// Starts a thread with a descriptor table of its own, which holds copies of the standard three and
/// of `kept` only. Threads that it starts share that table. Children of this process have nothing
/// of it.
///
/// `run` is told whether that worked. Every descriptor but `kept` that it uses must be one that it,
/// or a thread it has started, has opened, and must be closed by these threads too: the numbers
/// mean nothing to the rest of the process.
pub(super) fn spawn_apart(
    name: &str,
    kept: Arc<File>,
    run: impl FnOnce(io::Result<()>) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || run(leave_table_except(kept.as_fd())))
}

fn leave_table_except(kept: BorrowedFd<'_>) -> io::Result<()> {
    const AFTER_STANDARD: u32 = 3;
    let kept = kept.as_raw_fd().cast_unsigned();
    close_range(
        kept.max(AFTER_STANDARD - 1) + 1,
        u32::MAX,
        libc::CLOSE_RANGE_UNSHARE,
    )?;
    if kept > AFTER_STANDARD {
        close_range(AFTER_STANDARD, kept - 1, 0)?;
    }
    Ok(())
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: called by `leave_table_except` alone, in a new thread that owns no descriptor. The
    // first call leaves the process's table, so what both close is copies that no object stands
    // for.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    check(answer).map(drop)
}

/// Opens `path` as a process whose root directory is `root` would find it, for looking at only.
pub(super) fn open_below_root(root: &File, path: &OsStr) -> io::Result<File> {
    let path = c_path(Path::new(path))?;
    // SAFETY: `open_how` is plain integers, for which all zeroes is a value.
    let mut how: libc::open_how = unsafe { mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT;
    // SAFETY: the kernel reads the path up to its terminating zero and `size_of` bytes of `how`;
    // both live across the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    own(answer).map(File::from)
}

/// The kernel's monotonic clock in nanoseconds, which is the clock of the connector's time stamps.
pub(super) fn monotonic_nanoseconds() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one `timespec` to the pointer, which is exactly `time`.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    (time.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec as u64)
}

/// How many descriptors this process may have open.
pub(super) fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one `rlimit` to the pointer, which is exactly `limit`.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur
}

/// Whether this process may dump core (and be traced by its own user).
pub(super) fn dumpable() -> bool {
    // SAFETY: PR_GET_DUMPABLE takes no further argument and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) == 1 }
}

/// Says whether this process may dump core.
pub(super) fn set_dumpable(allowed: bool) {
    let value = libc::c_ulong::from(allowed);
    // SAFETY: PR_SET_DUMPABLE takes one integer and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, value) };
}

extern "C" fn ignore_signal(_signal: libc::c_int) {}

/// Replaces the default action of the terminal's stop key (SIGTSTP) by nothing; answers whether the
/// default was in force. A handler is used, not SIG_IGN, because children would inherit the latter.
pub(super) fn disarm_stop_key() -> bool {
    let handler = ignore_signal as extern "C" fn(libc::c_int);
    // SAFETY: the handler does nothing, so it may run at any point of any thread.
    let former = unsafe { libc::signal(libc::SIGTSTP, handler as libc::sighandler_t) };
    if former == libc::SIG_DFL {
        return true;
    }
    // SAFETY: `former` is what the program itself had installed for this signal.
    unsafe { libc::signal(libc::SIGTSTP, former) };
    false
}

/// Puts the default action of the terminal's stop key back.
pub(super) fn rearm_stop_key() {
    // SAFETY: SIG_DFL is the kernel's own action; no code of ours is involved.
    unsafe { libc::signal(libc::SIGTSTP, libc::SIG_DFL) };
}

/// A file that is on no mounted file system.
#[cfg(test)]
pub(super) fn unmounted_file() -> io::Result<File> {
    // SAFETY: the kernel reads the name up to its terminating zero.
    let answer = unsafe { libc::memfd_create(c"unmounted".as_ptr(), libc::MFD_CLOEXEC) };
    own(answer.into()).map(File::from)
}

/// Kills a process.
#[cfg(test)]
pub(super) fn kill(pid: u32) {
    // SAFETY: `kill` takes two integers and touches no memory of ours.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
}
