// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts the command and processes for it to see.

use serde_json::Value;
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Whether this test can run; says so if not.
pub(crate) fn is_root() -> bool {
    let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    if !root {
        // Not `println!`, which the test runner would keep to itself; `cargo xtask test` counts it.
        let note =
            "SKIPPED an end-to-end test: it needs root, for the process connector and fanotify\n";
        std::io::stdout().write_all(note.as_bytes()).unwrap();
    }
    root
}

/// A directory that is gone afterwards.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fltport-end-{}-{n}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    /// A copy of /bin/true under this name: an image that only this test starts.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        // By another process: a descriptor of ours that writes to the file would be inherited by
        // what other tests start at this moment, and the file would be busy.
        let copied = Command::new("/bin/cp").arg("/bin/true").arg(&path).status();
        assert!(copied.unwrap().success());
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// The command, with a place of its own for sockets.
pub(crate) fn fltport(directory: &Directory) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fltport"));
    command
        .env("FLTPORT_SOCKET", directory.0.join("host.sock"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A command that runs, its lines as they come.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
    seen: RefCell<Vec<String>>,
    errors: Receiver<String>,
}

/// What a command left.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) lines: Vec<String>,
    pub(crate) errors: String,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _nobody = sender.send(line);
            }
        });
        let (sender, errors) = channel();
        let mut stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            let mut text = String::new();
            let _read = stderr.read_to_string(&mut text);
            let _nobody = sender.send(text);
        });
        Running {
            child,
            lines,
            seen: RefCell::default(),
            errors,
        }
    }

    /// The next line that `wanted` takes something from.
    pub(crate) fn find<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let until = std::time::Instant::now() + LONG;
        while let Ok(line) = self.lines.recv_timeout(until - std::time::Instant::now()) {
            let found = wanted(&line);
            self.seen.borrow_mut().push(line);
            if let Some(found) = found {
                return found;
            }
        }
        let seen = self.seen.borrow();
        let errors = self.errors.try_recv().unwrap_or_default();
        panic!("no {what} in {seen:#?}\n{errors}");
    }

    /// The lines that have been looked through so far.
    pub(crate) fn replay(&self, line: impl FnMut(&str)) {
        self.seen.borrow().iter().map(String::as_str).for_each(line);
    }

    /// What comes until its end: of a command that has been killed, what it had written.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    pub(crate) fn interrupt(&self) {
        signal(self.child.id(), "INT");
    }

    /// Waits for the end; kills what does not end. Gives all lines, also those that were looked
    /// through.
    pub(crate) fn end(mut self) -> Ended {
        let mut lines = self.seen.take();
        let until = std::time::Instant::now() + LONG;
        while let Ok(line) = self.lines.recv_timeout(until - std::time::Instant::now()) {
            lines.push(line);
        }
        if std::time::Instant::now() >= until {
            self.child.kill().unwrap();
            panic!("it does not end: {lines:#?}");
        }
        let status = self.child.wait().unwrap();
        let errors = self.errors.recv_timeout(LONG).unwrap();
        Ended {
            status,
            lines,
            errors,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails if the process has ended.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("/bin/kill")
        .args([format!("-{name}"), pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// `fltport host` in `directory`, ready.
pub(crate) fn host(directory: &Directory) -> Running {
    let mut command = fltport(directory);
    command.arg("host");
    let host = Running::start(command);
    host.find("ready line", |line| line.contains("listens").then_some(()));
    host
}

/// `fltport watch --json` with more arguments, once its subscription is in force.
pub(crate) fn watch(directory: &Directory, arguments: &[&str]) -> Running {
    let mut command = fltport(directory);
    command.args(["watch", "--json"]).args(arguments);
    let watch = Running::start(command);
    let sentinel = directory.program("sentinel");
    // The watch may be in force at any time from now: a line about any of these shows that it is.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let starter = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(Ordering::Acquire) {
                let _denied_or_not = Command::new(&sentinel).status();
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
    });
    let is_sentinel = |line: &str| line.contains("/sentinel\"").then_some(());
    watch.find("sentinel", is_sentinel);
    stop.store(true, Ordering::Release);
    starter.join().unwrap();
    watch
}

pub(crate) fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

/// The lines about this image, of this message.
pub(crate) fn about<'l>(lines: &'l [Value], message: &str, image: &Path) -> Vec<&'l Value> {
    let image = image.to_str().unwrap();
    let wanted = |l: &&Value| l["message"] == message && l["image"] == image;
    lines.iter().filter(wanted).collect()
}
