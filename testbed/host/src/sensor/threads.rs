// SPDX-License-Identifier: MIT OR Apache-2.0
//! The threads of a process, to tell the end of the process from the end of a thread.
//!
//! The kernel reports the end of every thread, and of the process nothing else. The first thread,
//! which has the number of the process, may end before the others. A thread other than the first
//! that executes a program ends all others and takes the first one's number, and for a moment it
//! looks as if the first thread had just ended and others lived.

#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::procfs;

/// What is known of a process's threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Threads {
    /// Every event since the first thread began was seen.
    Known {
        /// The first thread lives.
        first: bool,
        /// The others that live.
        others: HashSet<u32>,
    },
    /// `/proc` has to be asked. It shows the present, and events may be from before.
    Unknown {
        /// The first thread has ended, or may have.
        first_ended: bool,
    },
}

impl Threads {
    /// Of a process that was just created.
    pub(super) fn one() -> Threads {
        Threads::Known {
            first: true,
            others: HashSet::new(),
        }
    }

    /// Of a process whose events were not all seen.
    pub(super) fn unknown() -> Threads {
        Threads::Unknown { first_ended: true }
    }

    /// A thread begins.
    pub(super) fn begins(&mut self, tid: u32) {
        if let Threads::Known { others, .. } = self {
            others.insert(tid);
        }
    }

    /// The process executes a program.
    pub(super) fn executes(&mut self) {
        let alone = *self == Threads::one();
        if !alone {
            // Ends of the others may still be reported.
            *self = Threads::Unknown { first_ended: false };
        }
    }

    /// A thread of process `pid` ends; whether the process does.
    pub(super) fn ends(&mut self, pid: u32, tid: u32) -> bool {
        match self {
            Threads::Known { first, others } => {
                if tid == pid {
                    *first = false;
                } else {
                    others.remove(&tid);
                }
                !*first && others.is_empty()
            }
            Threads::Unknown { first_ended } => {
                *first_ended |= tid == pid;
                *first_ended && !procfs::has_living_thread(pid)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pid no process of this machine has: `/proc` shows it as ended.
    const PID: u32 = 0x7000_0001;

    #[test]
    fn a_process_ends_with_its_last_thread() {
        let mut threads = Threads::one();
        threads.begins(11);
        threads.begins(12);
        assert!(!threads.ends(PID, 11));
        assert!(!threads.ends(PID, PID));
        assert!(threads.ends(PID, 12));
        assert!(Threads::one().ends(PID, PID));
    }

    #[test]
    fn a_thread_that_executes_leaves_only_the_first() {
        let mut threads = Threads::one();
        threads.begins(11);
        threads.begins(12);
        assert!(!threads.ends(PID, PID));
        assert!(!threads.ends(PID, 12));
        threads.executes();
        // Its own end under its former number.
        assert!(!threads.ends(PID, 11));
        assert!(threads.ends(PID, PID));
    }

    #[test]
    fn a_single_thread_that_executes_stays_known() {
        let mut threads = Threads::one();
        threads.executes();
        assert_eq!(threads, Threads::one());
    }

    #[test]
    fn where_events_are_missing_proc_is_asked() {
        let this = std::process::id();
        let mut threads = Threads::unknown();
        assert!(!threads.ends(this, this));
        assert!(!threads.ends(this, 11));
        assert!(threads.ends(PID, 11));
    }
}
