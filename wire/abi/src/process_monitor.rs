// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages of the process monitor.
//!
//! Pids and thread ids are NT's; on the hosted kernel they are Linux's. Texts that were too long
//! are cut at the end and flagged.

use crate::message::{Pid, Status};
use crate::text::{Text, TextList};

crate::messages! {
    /// The process monitor as it registers.
    provider PROVIDER = "process-monitor";

    /// A process has been created and will run.
    notification 1 "start" ProcessStart<'a> {
        /// The new process.
        pid: Pid,
        /// Its parent, from which it inherits; not necessarily its creator.
        parent_pid: Pid,
        /// The process whose thread created it; 0 in a snapshot if it ran before the driver.
        creating_pid: Pid,
        /// That thread; 0 as well.
        creating_tid: Pid,
        /// The path of the image; in a snapshot the name of its file, if NT no longer says the path;
        /// absent if NT does not know it.
        image: Option<Text<'a>>,
        /// The command line; absent if it could not be read.
        command_line: Option<Text<'a>>,
        /// The image path or the command line was too long and has been cut.
        truncated: bool,
    }

    /// A process has ended.
    notification 2 "exit" ProcessExit {
        /// The process.
        pid: Pid,
        /// Its exit status.
        exit_status: Status,
    }

    /// A thread has been created or has ended.
    notification 3 "thread" ThreadChange {
        /// The process that the thread belongs to.
        pid: Pid,
        /// The thread.
        tid: Pid,
        /// Created (true) or ended.
        created: bool,
    }

    /// An image has been mapped.
    notification 4 "image" ImageLoad<'a> {
        /// The address at which it lies.
        base: u64,
        /// Its size in bytes.
        size: u64,
        /// The process that it was mapped into; 0 for a driver.
        pid: Pid,
        /// Its path; absent if NT does not give one.
        image: Option<Text<'a>>,
        /// It is a driver.
        system: bool,
        /// The path was too long and has been cut.
        truncated: bool,
    }

    /// A process is about to be created: may it?
    request 5 "create" ProcessCreate<'a> {
        /// The process to be.
        pid: Pid,
        /// Its parent.
        parent_pid: Pid,
        /// The process whose thread is creating it.
        creating_pid: Pid,
        /// That thread.
        creating_tid: Pid,
        /// The path of the image; absent if NT does not know it.
        image: Option<Text<'a>>,
        /// The command line; absent if it could not be read.
        command_line: Option<Text<'a>>,
        /// The image path or the command line was too long and has been cut.
        truncated: bool,
    } -> /// The decider's verdict.
    ProcessVerdict {
        /// The process must not be created.
        deny: bool,
    }

    /// Replaces the list of images whose processes are not offered: not their starts, not their
    /// exits, and the decider is not asked about them.
    command 6 "set-exclusions" SetExclusions<'a> {
        /// Patterns as in [`glob`](crate::glob).
        images: TextList<'a>,
    } -> /// How the list was taken.
    ExclusionsSet {
        /// The number of patterns that the driver now holds.
        count: u32,
    }

    /// Asks for the list of images whose processes are not offered.
    command 7 "exclusions" GetExclusions {} -> /// The list that the driver holds.
    Exclusions<'a> {
        /// Patterns as in [`glob`](crate::glob).
        images: TextList<'a>,
    }
}

/// The most patterns that the process monitor takes.
pub const MAX_EXCLUSIONS: usize = 256;

#[cfg(test)]
mod tests;
