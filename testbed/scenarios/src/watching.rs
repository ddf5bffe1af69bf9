// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service that is the command itself: `fltport watch --json`, whose lines are counted.

use crate::arguments::Seat;
use crate::orders::{Answer, Expected, Numbers, Order, Refusal};
use crate::service::{answer, read_order};
use crate::tally::Tally;
use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The command, which lies beside this program.
pub(crate) fn command() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?;
    let program = beside.with_file_name(format!("fltport{}", std::env::consts::EXE_SUFFIX));
    program.exists().then_some(program)
}

/// It is ended as an operator does it, with Ctrl-C. That takes a console under Windows, which a
/// program started by another one shares with it; there it is told how long to run.
const ENDS_BY_SIGNAL: bool = cfg!(unix);

/// `fltport watch`, and what it has said by now.
struct Watching {
    process: Child,
    lines: Receiver<String>,
    tally: Tally,
    last: u64,
}

/// Runs it as [`crate::service::run`] runs a service. It ends by itself after so many seconds.
pub(crate) fn run(seat: &Seat, seconds: u64) -> Result<()> {
    let mut watching = Watching::start(seat, seconds)?;
    answer(&Answer::Done(Numbers::new()))?;
    while let Some(order) = read_order()? {
        let leaves = order == Order::Leave;
        answer(&match order {
            Order::See { expected, within } => {
                Answer::Done(watching.see(&expected, Duration::from_millis(within))?)
            }
            Order::Leave => watching.end()?,
            _ => Answer::Refused(Refusal::new("`fltport watch` does nothing but watch")),
        })?;
        if leaves {
            break;
        }
    }
    Ok(())
}

impl Watching {
    fn start(seat: &Seat, seconds: u64) -> Result<Watching> {
        let program = command().context("there is no fltport beside this program")?;
        let mut watch = Command::new(program);
        watch.args(["watch", "--json"]);
        if !ENDS_BY_SIGNAL {
            watch.args(["--for", &format!("{seconds}s")]);
        }
        if let Some(socket) = &seat.socket {
            watch.arg("--socket").arg(socket);
        }
        watch.stdin(Stdio::null());
        let mut process = watch
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("fltport cannot be started")?;
        let output = process.stdout.take().context("fltport has no output")?;
        let (sender, lines) = channel();
        let read_on = move |output: ChildStdout| {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // An error: nobody counts any more.
                let _over = sender.send(line);
            }
        };
        thread::Builder::new()
            .name("lines".into())
            .spawn(move || read_on(output))
            .context("a thread cannot be started")?;
        let mut tally = Tally::default();
        tally.add("gaps", 0);
        Ok(Watching {
            process,
            lines,
            tally,
            last: 0,
        })
    }

    /// Counts until everything is as expected, or the time is up, or there is no more.
    fn see(&mut self, expected: &[Expected], within: Duration) -> Result<Numbers> {
        let deadline = Instant::now() + within;
        loop {
            while let Ok(line) = self.lines.try_recv() {
                self.count(&line)?;
            }
            let numbers = self.tally.numbers();
            let left = deadline.saturating_duration_since(Instant::now());
            let reached = expected.iter().all(|each| each.is_reached(&numbers));
            if reached || left.is_zero() {
                return Ok(numbers);
            }
            match self.lines.recv_timeout(left) {
                Ok(line) => self.count(&line)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(numbers),
            }
        }
    }

    fn count(&mut self, line: &str) -> Result<()> {
        let line: Value =
            serde_json::from_str(line).with_context(|| format!("this is no JSON: {line}"))?;
        let number = |name: &str| line.get(name).and_then(Value::as_u64);
        let small = |name| {
            number(name)
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(0)
        };
        let own = line.get("provider").and_then(Value::as_str) == Some(loadgen::IMAGE_NAME);
        match (
            line.get("message").and_then(Value::as_str),
            number("number"),
        ) {
            (Some("tick"), Some(n)) if own => {
                self.tally.add("ticks", 1);
                self.tally.in_order((1, small("job"), small("thread")), n);
            }
            (Some("early"), Some(n)) if own => {
                self.tally.add("early", 1);
                self.tally.in_order((1, 0, 0), n);
            }
            (Some("gap"), _) => self.tally.add("gaps", 1),
            (Some("missing"), _) => self.tally.add("missing", 1),
            _ => self.tally.add("others", 1),
        }
        // A gap stands for numbers that are not there.
        let gap = line.get("message").and_then(Value::as_str) == Some("gap");
        let sequence = number("seq").unwrap_or(0);
        self.tally
            .add("disordered", u64::from(!gap && sequence != self.last + 1));
        self.last = sequence;
        Ok(())
    }

    /// Waits for its end; what it says of the ledger then.
    fn end(&mut self) -> Result<Answer> {
        #[cfg(unix)]
        {
            let process = rustix::process::Pid::from_child(&self.process);
            rustix::process::kill_process(process, rustix::process::Signal::INT)
                .context("fltport cannot be told to end")?;
        }
        let errors = self.process.stderr.take();
        while let Ok(line) = self.lines.recv() {
            self.count(&line)?;
        }
        let said = errors.map(read_all).transpose()?.unwrap_or_default();
        let status = self.process.wait().context("its end is unknown")?;
        if !status.success() || !said.contains("the ledger balances") {
            let text = format!("fltport watch has ended with {status}, and said: {said}");
            return Ok(Answer::Refused(Refusal::new(text)));
        }
        Ok(Answer::Done(self.tally.numbers()))
    }
}

fn read_all(mut errors: ChildStderr) -> Result<String> {
    let mut said = String::new();
    errors
        .read_to_string(&mut said)
        .context("its errors cannot be read")?;
    Ok(said)
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It fails if the process has ended, which is what is wanted.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}
