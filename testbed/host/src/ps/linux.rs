// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes of the host system as the processes of the hosted kernel.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::events::ProcessCreated;
use crate::kernel::Kernel;
use crate::sensor::{ProcessEvents, ProcessExit, ProcessStart, Verdict};
use crate::status::is_success;

/// UTF-16, with U+FFFD for bytes that are no UTF-8.
fn utf16(text: &OsStr) -> Vec<u16> {
    String::from_utf8_lossy(text.as_bytes())
        .encode_utf16()
        .collect()
}

impl From<&ProcessStart> for ProcessCreated {
    fn from(start: &ProcessStart) -> ProcessCreated {
        ProcessCreated {
            pid: u64::from(start.pid),
            parent_pid: u64::from(start.parent_pid),
            creator_pid: u64::from(start.creating_pid),
            creator_tid: u64::from(start.creating_tid),
            image: start.image.as_deref().map(utf16),
            command_line: start.command_line.as_deref().map(utf16),
            uid: start.uid,
        }
    }
}

/// A [`Sensor`](crate::sensor::Sensor) that is given a kernel feeds its process notify routines;
/// a driver that refuses a process makes its exec fail.
impl ProcessEvents for Kernel {
    fn running(&self, process: ProcessStart) {
        self.process_running(&ProcessCreated::from(&process));
    }

    fn start(&self, start: ProcessStart) -> Verdict {
        if is_success(self.process_created(&ProcessCreated::from(&start))) {
            Verdict::Allow
        } else {
            Verdict::Deny
        }
    }

    fn exit(&self, exit: ProcessExit) {
        self.process_exited(u64::from(exit.pid), exit.exit_status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::StartCause;

    #[test]
    fn a_start_becomes_a_creation() {
        let start = ProcessStart {
            pid: 7,
            parent_pid: 1,
            creating_pid: 5,
            creating_tid: 6,
            uid: Some(1000),
            image: Some("/bin/true".into()),
            command_line: None,
            held: true,
            how: StartCause::Exec,
        };
        let created = ProcessCreated::from(&start);
        assert_eq!((created.pid, created.parent_pid), (7, 1));
        assert_eq!((created.creator_pid, created.creator_tid), (5, 6));
        assert_eq!(created.image, Some("/bin/true".encode_utf16().collect()));
        assert_eq!((created.command_line, created.uid), (None, Some(1000)));
    }
}
