// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many short-lived processes, and the account of what was seen of them.

use crate::bench::{Directory, json};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Starts `count` processes of `program` as fast as four threads can; their pids. A pid may come
/// twice if the machine's numbers wrap around.
pub(crate) fn run(program: &Path, count: usize) -> Vec<u32> {
    const THREADS: usize = 4;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let share = count / THREADS + usize::from(thread < count % THREADS);
                    let one = |_| {
                        let mut child = Command::new(program).spawn().unwrap();
                        assert!(child.wait().unwrap().success());
                        child.id()
                    };
                    (0..share).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// A program that only this test starts.
pub(crate) fn program(directory: &Directory) -> PathBuf {
    directory.program("crowd")
}

/// What a stream said of the processes of one image.
#[derive(Default)]
pub(crate) struct Account {
    image: String,
    /// Pids in the order of their starts.
    pub(crate) started: Vec<u32>,
    /// Exits of processes whose start was seen.
    pub(crate) ended: HashMap<u32, u32>,
    running: HashSet<u32>,
    /// Exits of processes whose start was not seen here.
    pub(crate) ended_unseen: Vec<u32>,
    /// Losses that gap records told of, by message name.
    pub(crate) told: HashMap<String, u64>,
    /// Lines that stand for a notification.
    pub(crate) records: u64,
    next: u64,
}

impl Account {
    pub(crate) fn new(image: &Path) -> Self {
        Account {
            image: image.to_str().unwrap().to_owned(),
            next: 1,
            ..Account::default()
        }
    }

    /// Takes in a line; checks that no number is missing without a gap line.
    pub(crate) fn take(&mut self, line: &str) {
        let line = json(line);
        let seq = line["seq"].as_u64().unwrap();
        let pid = line["pid"].as_u64().unwrap_or_default() as u32;
        if line["message"] == "gap" {
            assert_eq!(line["first"].as_u64(), Some(self.next), "{line}");
            for entry in line["lost"].as_array().unwrap() {
                let message = entry["message"].as_str().unwrap().to_owned();
                *self.told.entry(message).or_default() += entry["count"].as_u64().unwrap();
            }
        } else {
            assert_eq!(seq, self.next, "{line}");
            self.records += 1;
        }
        self.next = seq + 1;
        if line["message"] == "start" && line["image"] == self.image.as_str() {
            self.started.push(pid);
            assert!(self.running.insert(pid), "started twice: {line}");
        } else if line["message"] == "exit" {
            self.take_exit(pid, &line);
        }
    }

    fn take_exit(&mut self, pid: u32, line: &Value) {
        if self.running.remove(&pid) {
            assert_eq!(line["exit_status"], 0, "{line}");
            *self.ended.entry(pid).or_default() += 1;
        } else {
            self.ended_unseen.push(pid);
        }
    }

    pub(crate) fn told_of(&self, message: &str) -> u64 {
        self.told.get(message).copied().unwrap_or_default()
    }

    pub(crate) fn exits(&self) -> usize {
        self.ended.values().map(|n| *n as usize).sum()
    }
}
