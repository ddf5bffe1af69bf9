// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stacks of all threads of this process, for a test that hangs: who waits for whom.

use std::backtrace::Backtrace;
use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

static PRINTED: AtomicUsize = AtomicUsize::new(0);

/// Prints them. The process must end afterwards: a thread that was interrupted in the allocator
/// stays there.
pub(crate) fn print() {
    let handler: extern "C" fn(i32) = print_own;
    // SAFETY: a handler of the right kind. It does what a handler must not, for which the caller
    // ends the process.
    unsafe { libc::signal(libc::SIGUSR2, handler as *const () as usize) };
    let threads = fs::read_dir("/proc/self/task").expect("Linux has it");
    for thread in threads.flatten() {
        let name = thread.file_name();
        let id: i32 = name.to_string_lossy().parse().expect("a number");
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "thread {id}, {name}");
        let before = PRINTED.load(Ordering::Acquire);
        // SAFETY: asks for a number.
        let process = unsafe { libc::getpid() };
        // SAFETY: a signal with a handler, to a thread of this process or to none.
        unsafe { libc::syscall(libc::SYS_tgkill, process, id, libc::SIGUSR2) };
        let deadline = Instant::now() + Duration::from_secs(3);
        while PRINTED.load(Ordering::Acquire) == before && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

extern "C" fn print_own(_signal: i32) {
    let _ = writeln!(std::io::stderr(), "{}", Backtrace::force_capture());
    PRINTED.fetch_add(1, Ordering::Release);
}
