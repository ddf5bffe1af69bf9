// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hosted kernel for this command alone: another process of the same program, which ends when its
//! standard input does, and so also when this process is killed.

use crate::arguments::Verifier;
use crate::failure::Failure;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How the line that says that it is ready begins; the socket's path follows, for people.
pub(crate) const READY: &str = "ready ";

/// The directory of the private host with this process id, where `shared` would be a shared one's
/// socket.
pub(crate) fn directory(shared: &Path, pid: u32) -> PathBuf {
    let parent = shared.parent().unwrap_or(Path::new("/tmp"));
    parent.join(format!("private-{pid}"))
}

/// A private host's socket in its directory.
pub(crate) fn socket(directory: &Path) -> PathBuf {
    directory.join("host.sock")
}

/// How long it may take to start, and to stop.
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(20);

/// The process. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct PrivateHost {
    child: Option<Child>,
    socket: PathBuf,
    /// Ends when the process has closed its standard output.
    ended: Receiver<()>,
}

impl PrivateHost {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(verifier: Verifier) -> Result<PrivateHost, Failure> {
        let program = std::env::current_exe().map_err(|e| {
            Failure::new(format!(
                "this program cannot be found: {e}. Is /proc mounted?"
            ))
        })?;
        let mut child = Command::new(&program)
            .args(["host", "--private", "--verifier", verifier.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for this command, which then takes the host down in order.
            .process_group(0)
            .spawn()
            .map_err(|e| {
                let program = program.display();
                Failure::new(format!(
                    "{program} cannot be started as the hosted kernel: {e}. See whether it is there"
                ))
            })?;
        let (lines, ended) = watch_output(child.stdout.take());
        let socket = socket(&directory(&fltport::socket_path(), child.id()));
        let host = PrivateHost {
            child: Some(child),
            socket,
            ended,
        };
        match lines.recv_timeout(START) {
            Ok(line) if line.starts_with(READY) => Ok(host),
            Ok(line) => Err(Failure::new(format!(
                "the hosted kernel says \"{line}\" where it should say that it is ready. See whether this program was replaced while it ran"
            ))),
            Err(RecvTimeoutError::Timeout) => Err(Failure::new(format!(
                "the hosted kernel was not ready within {START:?}. Run `fltport host` to see where it hangs"
            ))),
            Err(RecvTimeoutError::Disconnected) => Err(Failure::new(
                "the hosted kernel ended before it was ready. What it said is above; run `fltport host` to see it alone",
            )),
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Stops it and waits for its end.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        // The end of its standard input is what it waits for.
        drop(child.stdin.take());
        let hangs = self.ended.recv_timeout(STOP) == Err(RecvTimeoutError::Timeout);
        if hangs {
            // It fails if the process has ended after all.
            let _ended = child.kill();
        }
        let status = child.wait();
        if hangs {
            return Err(Failure::new(format!(
                "the hosted kernel did not stop within {STOP:?} and was killed. Run `fltport host` to see where it hangs"
            )));
        }
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::new(format!(
                "the hosted kernel ended with {status}. What it reported is above"
            ))),
            Err(error) => Err(Failure::new(format!(
                "the hosted kernel's end is unknown: {error}. See whether it still runs"
            ))),
        }
    }
}

impl Drop for PrivateHost {
    fn drop(&mut self) {
        // Whoever wants to know calls `stop`.
        let _told_nobody = self.end();
    }
}

/// The first line of the output, and the output's end.
fn watch_output(output: Option<ChildStdout>) -> (Receiver<String>, Receiver<()>) {
    let (first, lines) = channel();
    let (running, ended) = channel::<()>();
    // Without a thread both channels end at once, which reads as the host's end.
    let _no_thread = std::thread::Builder::new()
        .name("private-host".into())
        .spawn(move || {
            let lines = output.into_iter().flat_map(|o| BufReader::new(o).lines());
            for line in lines.map_while(Result::ok) {
                // Only the first line is waited for.
                let _nobody_waits = first.send(line);
            }
            drop(running);
        });
    (lines, ended)
}
