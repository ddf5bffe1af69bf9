// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program does to the registry in a scenario. On both floors a floor's `Program` does it:
//! `change(&Change)`, from any thread, with [`Outcome::Refused`] if the registry or a driver refuses.

use crate::floor::{Outcome, Program};
use crate::orders::Numbers;
use anyhow::{Result, anyhow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// The key below which scenarios work, in `HKEY_LOCAL_MACHINE\\Software`.
pub(crate) const BASE: &str = "fltport-scenarios";

/// The full path of a scenario's key, as drivers name it.
pub(crate) fn full_path(key: &str) -> String {
    format!("\\REGISTRY\\MACHINE\\SOFTWARE\\{BASE}\\{key}")
}

/// One change. Keys are paths below [`BASE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Creates a key, unless it is there.
    Create { key: String },
    /// Sets a value of so many bytes.
    Set {
        key: String,
        name: String,
        bytes: usize,
    },
    /// Deletes a value.
    Unset { key: String, name: String },
    /// Gives a key another name.
    Rename { key: String, name: String },
    /// Deletes a key.
    Delete { key: String },
}

/// Threads that set values until they are told to end.
pub(crate) struct Busy {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Numbers>>>,
}

impl Busy {
    /// Starts them, each with a value of its own.
    pub(crate) fn begin(program: &Program, key: &str, threads: u32) -> Result<Busy> {
        let ends = Arc::new(AtomicBool::new(false));
        let mut busy = Busy {
            ends: ends.clone(),
            threads: Vec::new(),
        };
        for number in 0..threads {
            let (program, ends) = (program.clone(), ends.clone());
            let change = Change::Set {
                key: key.to_owned(),
                name: format!("busy-{number}"),
                bytes: 8,
            };
            let named = thread::Builder::new().name("registry".into());
            let thread = named.spawn(move || set_until(&program, &change, &ends))?;
            busy.threads.push(thread);
        }
        Ok(busy)
    }

    /// Ends them; how often they have set a value, and how often that was refused.
    pub(crate) fn end(mut self) -> Result<Numbers> {
        let mut sums = Numbers::new();
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let counted = thread.join();
            let counted = counted.map_err(|_| anyhow!("a thread on the registry has panicked"))?;
            for (name, number) in counted? {
                *sums.entry(name).or_default() += number;
            }
        }
        Ok(sums)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Nobody asks any more what came of it.
            let _forgotten = thread.join();
        }
    }
}

fn set_until(program: &Program, change: &Change, ends: &AtomicBool) -> Result<Numbers> {
    let (mut done, mut refused) = (0, 0);
    // At least once: that is what is waited for.
    loop {
        match program.change(change)? {
            Outcome::Done => done += 1,
            Outcome::Refused(_) => refused += 1,
        }
        if ends.load(Ordering::Relaxed) {
            let numbers = [("done", done), ("refused", refused)];
            return Ok(numbers.map(|(name, n)| (name.to_owned(), n)).into());
        }
    }
}
