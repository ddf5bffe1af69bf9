// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fanotify group, which no child of this process may inherit.
//!
//! A child has copies of its parent's descriptors until its exec has succeeded. If it had the
//! group's, and were itself held in that exec when this process dies, the group would live on with
//! nobody to answer: no program of the machine would start any more. So the group and all that is
//! read from it exist only in the descriptor table of the sensor's own threads, which never fork.
//! That table goes with those threads, however they end.
//!
//! A [`Group`] is therefore made, used and dropped by those threads alone (`ffi::spawn_apart`).
//! Others hold a [`Gate`](super::gate::Gate), which has no descriptors.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::executable::FileId;
use super::{Verdict, ffi, procfs};

/// How many events are read at once. The watchdog covers them from then on.
const BATCH: usize = 64;
const EVENT_BYTES: usize = 24;
/// Descriptors left to the rest of the sensor.
const RESERVED_DESCRIPTORS: u64 = 64;
const FEWEST_FILES: usize = 32;
const MOST_FILES: usize = 4096;

/// A fanotify group and the files of the execs it holds.
#[derive(Debug)]
pub(super) struct Group {
    descriptor: File,
    /// By number of the hold. A leaf lock.
    files: Mutex<HashMap<u64, File>>,
    /// Where any thread of this process finds the descriptors of this group's threads.
    directory: PathBuf,
    most_files: usize,
}

/// An exec that is being held, as it was read.
#[derive(Debug)]
pub(super) struct Opened {
    /// The thread in `execve`; 0 if its namespace hides it.
    pub(super) tid: u32,
    file: File,
}

/// What other threads may know of a file that is being executed.
#[derive(Debug)]
pub(super) struct Executed {
    pub(super) path: Option<OsString>,
    pub(super) id: Option<FileId>,
    /// A name under which any thread of this process can open it, while it is kept.
    pub(super) access: PathBuf,
}

impl Group {
    /// Makes the group. The calling thread must be one that was spawned apart.
    pub(super) fn new() -> io::Result<Group> {
        let room = ffi::descriptor_limit().saturating_sub(RESERVED_DESCRIPTORS) / 2;
        let room = usize::try_from(room).unwrap_or(MOST_FILES);
        Ok(Group {
            descriptor: ffi::fanotify_group()?,
            files: Mutex::default(),
            directory: Path::new("/proc")
                .join(fs::read_link("/proc/thread-self")?)
                .join("fd"),
            most_files: room.clamp(FEWEST_FILES, MOST_FILES),
        })
    }

    /// Holds the execs of every file on the file system that contains `path`, from now on.
    pub(super) fn mark(&self, path: &Path) -> io::Result<()> {
        ffi::mark_file_system(&self.descriptor, path)
    }

    #[cfg(test)]
    pub(super) fn mark_file(&self, path: &Path) -> io::Result<()> {
        ffi::mark_file(&self.descriptor, path)
    }

    /// Takes the marks off.
    pub(super) fn unmark(&self) {
        // If it fails, the end of the group does it; until then every exec is let through.
        let _ = ffi::unmark_file_systems(&self.descriptor);
    }

    /// The execs that wait to be read, up to a batch.
    ///
    /// # Errors
    ///
    /// There was no descriptor or memory to report an exec with; the kernel has refused that exec.
    pub(super) fn read(&self) -> io::Result<Vec<Opened>> {
        let mut buffer = [0u8; BATCH * EVENT_BYTES];
        let events = ffi::read_events(&self.descriptor, &mut buffer)?;
        let execs = events
            .into_iter()
            .filter(|event| event.mask & libc::FAN_OPEN_EXEC_PERM != 0);
        Ok(execs
            .filter_map(|event| {
                Some(Opened {
                    tid: event.tid,
                    file: event.file?,
                })
            })
            .collect())
    }

    /// Keeps an exec's file under a number; gives it back if there are too many.
    pub(super) fn keep(&self, hold: u64, opened: Opened) -> Result<Executed, Opened> {
        let mut files = self.files();
        if files.len() >= self.most_files {
            return Err(opened);
        }
        let executed = self.describe(&opened);
        files.insert(hold, opened.file);
        Ok(executed)
    }

    fn describe(&self, opened: &Opened) -> Executed {
        let number = opened.file.as_fd().as_raw_fd();
        let access = self.directory.join(number.to_string());
        Executed {
            path: procfs::path_behind(&access),
            id: FileId::of(&opened.file).ok(),
            access,
        }
    }

    /// Answers an exec that is kept.
    pub(super) fn answer(&self, hold: u64, verdict: Verdict) {
        if let Some(file) = self.files().get(&hold) {
            self.write_answer(file, verdict);
        }
    }

    /// Answers an exec that is not kept, by letting it through.
    pub(super) fn let_through(&self, opened: Opened) {
        self.write_answer(&opened.file, Verdict::Allow);
    }

    /// Closes the file of an exec that has been answered.
    pub(super) fn forget(&self, hold: u64) {
        self.files().remove(&hold);
    }

    fn write_answer(&self, file: &File, verdict: Verdict) {
        let response = match verdict {
            Verdict::Allow => libc::FAN_ALLOW,
            Verdict::Deny => libc::FAN_DENY,
        };
        let mut bytes = [0u8; 8];
        let (fd, answer) = bytes.split_at_mut(4);
        fd.copy_from_slice(&file.as_fd().as_raw_fd().to_ne_bytes());
        answer.copy_from_slice(&response.to_ne_bytes());
        // It fails if the thread was killed while it waited; then there is nobody to be let
        // through.
        let _ = (&self.descriptor).write(&bytes);
    }

    /// Lets every exec through that is not read yet.
    pub(super) fn release_unread(&self) {
        while let Ok(opened) = self.read() {
            if opened.is_empty() {
                break;
            }
            opened
                .into_iter()
                .for_each(|opened| self.let_through(opened));
        }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<u64, File>> {
        // No code under this lock can leave the map half changed.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
