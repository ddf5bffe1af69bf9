// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real processes under a real sensor.
//!
//! Other programs start processes at the same time, so every test looks only at what it spawned.
//! Tests that need root say so and return where they have not got it.

mod gate;
mod holding;
mod watching;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, MutexGuard};
use std::time::Instant;

use super::connector::Connector;
use super::*;

/// No test waits longer than this for anything.
const LIMIT: Duration = Duration::from_secs(20);

/// One sensor at a time, so that a test's timing is its own.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Start(ProcessStart),
    Exit(ProcessExit),
}

impl Seen {
    fn pid(&self) -> u32 {
        match self {
            Seen::Start(start) => start.pid,
            Seen::Exit(exit) => exit.pid,
        }
    }

    fn start(&self) -> Option<&ProcessStart> {
        match self {
            Seen::Start(start) => Some(start),
            Seen::Exit(_) => None,
        }
    }

    fn is_exit(&self) -> bool {
        matches!(self, Seen::Exit(_))
    }
}

type Decide = dyn Fn(&ProcessStart) -> Verdict + Send + Sync;

/// Remembers everything, and answers starts as the test wants.
struct Recorder {
    seen: Mutex<Vec<Seen>>,
    /// What ran before.
    running: Mutex<Vec<ProcessStart>>,
    more: Condvar,
    decide: Box<Decide>,
}

impl Recorder {
    fn record(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
        self.more.notify_all();
    }

    /// Waits until what was seen satisfies the test; panics with it after the limit.
    fn wait_for<T>(&self, what: &str, mut found: impl FnMut(&[Seen]) -> Option<T>) -> T {
        let limit = Instant::now() + LIMIT;
        let mut seen = self.seen.lock().unwrap();
        loop {
            if let Some(result) = found(&seen) {
                return result;
            }
            let left = limit.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{what} was not seen; but {:#?}",
                last(&seen)
            );
            seen = self.more.wait_timeout(seen, left).unwrap().0;
        }
    }

    /// What was seen of a process once it has ended for good.
    fn life_of(&self, pid: u32, exits: usize) -> Vec<Seen> {
        self.wait_for(&format!("{exits} exits of {pid}"), |seen| {
            let life: Vec<Seen> = seen
                .iter()
                .filter(|seen| seen.pid() == pid)
                .cloned()
                .collect();
            (life.iter().filter(|seen| seen.is_exit()).count() >= exits).then_some(life)
        })
    }

    /// The first start that satisfies the test.
    fn start_with(&self, what: &str, wanted: impl Fn(&ProcessStart) -> bool) -> ProcessStart {
        self.wait_for(what, |seen| {
            seen.iter()
                .filter_map(Seen::start)
                .find(|start| wanted(start))
                .cloned()
        })
    }
}

fn last(seen: &[Seen]) -> &[Seen] {
    &seen[seen.len().saturating_sub(20)..]
}

impl ProcessEvents for Recorder {
    fn running(&self, process: ProcessStart) {
        self.running.lock().unwrap().push(process);
    }

    fn start(&self, start: ProcessStart) -> Verdict {
        let verdict = (self.decide)(&start);
        self.record(Seen::Start(start));
        verdict
    }

    fn exit(&self, exit: ProcessExit) {
        self.record(Seen::Exit(exit));
    }
}

/// A sensor, what it saw, and the right to be the only one.
struct Scene {
    sensor: Sensor,
    recorder: Arc<Recorder>,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    fn new(
        options: Options,
        decide: impl Fn(&ProcessStart) -> Verdict + Send + Sync + 'static,
    ) -> Scene {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let decide = Box::new(decide);
        let recorder = Arc::new(Recorder {
            seen: Mutex::default(),
            running: Mutex::default(),
            more: Condvar::new(),
            decide,
        });
        let sensor = Sensor::start(options, recorder.clone()).unwrap();
        Scene {
            sensor,
            recorder,
            _turn: turn,
        }
    }

    fn allowing() -> Scene {
        Scene::new(Options::default(), |_| Verdict::Allow)
    }
}

/// Whether this test may run: it needs root and a machine that is not a container.
fn can_run(test: &str) -> bool {
    let root = procfs::status(std::process::id()).is_some_and(|status| status.uid == 0);
    let able = root && Connector::subscribe(4096).is_ok();
    if !able {
        // Past the test runner, which shows nothing of a test that passes.
        let mut out = io::stdout();
        writeln!(
            out,
            "SKIPPED {test}: it needs root in the initial namespaces"
        )
        .unwrap();
    }
    able
}

macro_rules! needs_root {
    () => {
        if !super::can_run(module_path!()) {
            return;
        }
    };
}
use needs_root;

/// A directory of this test's own, removed when it goes.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("sensor-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// A copy of the program that does nothing, under a name that no other process runs.
    fn copy_of_true(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        copy(Path::new("/bin/true"), &path);
        path
    }

    /// A script.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        let source = self.0.join(format!("{name}.text"));
        fs::write(&source, text).unwrap();
        copy(&source, &path);
        path
    }
}

/// Makes an executable copy, by another process: a descriptor of ours that writes to the file would
/// be inherited by what other tests start at this moment, and the file would be busy.
fn copy(from: &Path, to: &Path) {
    let mut install = std::process::Command::new("/usr/bin/install");
    let status = install.args(["-m", "755"]).args([from, to]).status();
    assert!(status.unwrap().success());
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn runs(start: &ProcessStart, program: &Path) -> bool {
    start.image.as_deref() == Some(program.as_os_str())
}

fn ends_with(text: Option<&OsString>, end: &str) -> bool {
    text.is_some_and(|text| text.as_bytes().ends_with(end.as_bytes()))
}

/// The calling thread's number.
fn this_thread() -> u32 {
    let link = fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}
