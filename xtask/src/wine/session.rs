// SPDX-License-Identifier: MIT OR Apache-2.0

//! A prefix that is up: its services run as long as this is kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use wait_timeout::ChildExt;

use super::prefix::Prefix;
use crate::command;

const KERNEL_LOG: &str = "kernel.log";
/// Of the log, in an error.
const LAST_LINES: usize = 40;

/// A running Windows. Wine ends all services when the last program has ended, so one is kept.
pub(super) struct Session<'a> {
    prefix: &'a Prefix,
    keeper: Child,
    logs: PathBuf,
}

/// What a program did.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) output: String,
    pub(super) errors: String,
}

impl<'a> Session<'a> {
    /// Starts it. What drivers tell the debugger goes to `kernel.log` in `logs`.
    pub(super) fn start(prefix: &'a Prefix, logs: &Path) -> Result<Session<'a>> {
        fs::create_dir_all(logs).with_context(|| format!("cannot make {}", logs.display()))?;
        let log = create(&logs.join(KERNEL_LOG))?;
        let mut cmd = prefix.command("wine");
        // It reads from a pipe to which nobody writes.
        cmd.args(["cmd.exe", "/k"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        let keeper = cmd.spawn().context("cannot start wine")?;
        Ok(Session {
            prefix,
            keeper,
            logs: logs.to_path_buf(),
        })
    }

    /// Runs a program of the prefix to its end.
    ///
    /// # Errors
    /// It does not start, or not end in time: then it has been ended.
    pub(super) fn run(&self, program: &str, arguments: &[&str], limit: Duration) -> Result<Ended> {
        self.run_with(&[], program, arguments, limit)
    }

    /// The same with these variables in its environment.
    pub(super) fn run_with(
        &self,
        environment: &[(&str, &str)],
        program: &str,
        arguments: &[&str],
        limit: Duration,
    ) -> Result<Ended> {
        let mut wine = self.prefix.command("wine");
        wine.arg(program)
            .args(arguments)
            .envs(environment.iter().copied());
        // Files, not pipes: whatever the program starts may keep them open for longer than it lives.
        let name = program.rsplit(['\\', '/']).next().unwrap_or(program);
        let (out, err) = (self.log(name, "out"), self.log(name, "err"));
        wine.stdin(Stdio::null())
            .stdout(create(&out)?)
            .stderr(create(&err)?);
        let status = wait(&mut wine, limit)?;
        Ok(Ended {
            status,
            output: read(&out)?,
            errors: read(&err)?,
        })
    }

    /// The end of what drivers told the debugger, and of what Wine complained of.
    pub(super) fn last_words(&self) -> String {
        let log = read(&self.logs.join(KERNEL_LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let first = lines.len().saturating_sub(LAST_LINES);
        lines.get(first..).unwrap_or_default().join("\n")
    }

    fn log(&self, name: &str, kind: &str) -> PathBuf {
        self.logs.join(format!("{name}.{kind}"))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.prefix.end();
        // The server has ended it; if not, this does.
        let _gone_already = self.keeper.kill();
        let _reaped = self.keeper.wait();
    }
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
}

/// Runs a command to its end, or ends it.
pub(super) fn wait(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    let shown = command::shown(command);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let ended = child
        .wait_timeout(limit)
        .with_context(|| format!("cannot wait for `{shown}`"))?;
    if let Some(status) = ended {
        return Ok(status);
    }
    child
        .kill()
        .with_context(|| format!("cannot end `{shown}`"))?;
    child
        .wait()
        .with_context(|| format!("cannot wait for `{shown}`"))?;
    bail!("`{shown}` did not end within {} s", limit.as_secs())
}
