// SPDX-License-Identifier: MIT OR Apache-2.0
//! Another process that is told what to do by lines, and answers by lines.

use anyhow::{Context, Result, anyhow};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// Both ends of the talk.
pub(crate) struct Talk {
    pub(crate) process: Child,
    pub(crate) orders: ChildStdin,
    /// Its lines, read by a thread, so that they can be waited for with a deadline; none any more when it has closed its output.
    pub(crate) answers: Receiver<String>,
}

/// Starts the process.
pub(crate) fn start(mut command: Command) -> Result<Talk> {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = piped.spawn().context("the process cannot be started")?;
    let missing = || anyhow!("a process without standard input and output");
    let orders = process.stdin.take().ok_or_else(missing)?;
    let output = process.stdout.take().ok_or_else(missing)?;
    let (sender, answers) = channel();
    let read_on = move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // An error: nobody waits for answers any more.
            let _nobody_waits = sender.send(line);
        }
    };
    let named = thread::Builder::new().name("answers".into());
    named.spawn(read_on).context("a thread cannot be started")?;
    Ok(Talk {
        process,
        orders,
        answers,
    })
}
