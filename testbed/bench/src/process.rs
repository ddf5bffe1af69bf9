// SPDX-License-Identifier: MIT OR Apache-2.0

//! Processes that do a part of a measurement and tell how it went.

use std::fs::File;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::Timespec;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The two processors that everything runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Processors {
    pub(crate) first: usize,
    pub(crate) second: usize,
}

impl Processors {
    /// The first two that this process may use.
    pub(crate) fn find() -> Result<Processors> {
        let allowed = sched_getaffinity(None).context("cannot ask for the processors")?;
        let mut numbers = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number));
        match (numbers.next(), numbers.next()) {
            (Some(first), Some(second)) => Ok(Processors { first, second }),
            _ => bail!("two processors are needed, and this process may use only one"),
        }
    }

    /// Binds this thread to one of them, or to both.
    pub(crate) fn pin(numbers: &[usize]) -> Result<()> {
        let mut set = CpuSet::new();
        numbers.iter().for_each(|number| set.set(*number));
        sched_setaffinity(None, &set).with_context(|| format!("cannot run on {numbers:?} only"))
    }
}

/// A process of ours; ended and reaped when it is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    told: File,
}

/// Runs `work` in a process of its own, which is a copy of this one.
pub(crate) fn start<T: Serialize>(work: impl FnOnce() -> Result<T>) -> Result<Child> {
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
    // SAFETY: this program starts threads only in children, so the copy has all threads that the
    // original has, and no lock is left held by one that is missing.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()).context("cannot start a process"),
        0 => {
            drop(told);
            become_child(work, tell.into())
        }
        pid => {
            let pid = Pid::from_raw(pid).context("a process without a number")?;
            Ok(Child {
                pid,
                told: told.into(),
            })
        }
    }
}

fn become_child<T: Serialize>(work: impl FnOnce() -> Result<T>, mut tell: File) -> ! {
    let work = || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        work()
    };
    let outcome = catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(anyhow!("it panicked")))
        .map_err(|error| format!("{error:#}"));
    let told = serde_json::to_vec(&outcome).map(|text| tell.write_all(&text));
    std::process::exit(i32::from(!matches!(told, Ok(Ok(())))))
}

impl Child {
    /// What it has told in the end.
    ///
    /// # Errors
    /// It failed, and with what; or it was still at work when the time was up.
    pub(crate) fn outcome<T: DeserializeOwned>(mut self, deadline: Instant) -> Result<T> {
        let mut text = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.has_told(left)? {
                bail!("it hangs: nothing was heard of it until the deadline");
            }
            let mut part = [0; 4096];
            match self
                .told
                .read(&mut part)
                .context("cannot read an outcome")?
            {
                0 => break,
                len => text.extend_from_slice(&part[..len]),
            }
        }
        let outcome: Result<T, String> =
            serde_json::from_slice(&text).context("it ended without an outcome")?;
        outcome.map_err(|error| anyhow!(error))
    }

    fn has_told(&self, patience: Duration) -> Result<bool> {
        let patience = Timespec::try_from(patience).context("too far a deadline")?;
        let mut descriptors = [PollFd::new(&self.told, PollFlags::IN)];
        Ok(poll(&mut descriptors, Some(&patience)).context("cannot wait for a process")? > 0)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already, which is as well; it is there until it is waited for.
        let _ = kill_process(self.pid, Signal::KILL);
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processors_or_an_error_that_says_so() {
        match Processors::find() {
            Ok(found) => assert!(found.first < found.second),
            Err(error) => assert!(error.to_string().contains("two processors")),
        }
    }
}
