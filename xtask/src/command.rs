// SPDX-License-Identifier: MIT OR Apache-2.0

//! Running other programs, with errors that say which one and what it was asked.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// The cargo that runs this xtask, at the root of the workspace, without colours where nobody sees
/// them.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(workspace.root());
    if !std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "never");
    }
    command
}

/// Runs a program with our own output.
///
/// # Errors
/// The program does not start or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    judge(command, status)
}

/// Runs a program that has its temporary files in `folder`, which is made for it and removed after
/// it. (dlltool of mingw-w64, which rustc calls as well, leaves two for each library that it makes.)
///
/// # Errors
/// As [`run`], and when the folder cannot be made or removed.
pub(crate) fn run_tidily(command: &mut Command, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let ran = run(command.env("TMPDIR", folder));
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    ran
}

/// Runs a program and returns what it wrote to standard output.
///
/// # Errors
/// The program does not start, does not succeed, or its output is not text.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| cannot_start(command))?;
    judge(command, output.status)?;
    String::from_utf8(output.stdout)
        .with_context(|| format!("the output of `{}` is not text", shown(command)))
}

/// Whether a program is there and answers with success; nothing of it is shown.
pub(crate) fn answers(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a program that may have to fetch something and might hang for want of an answer.
///
/// # Errors
/// As [`run`], and when the time is up; the program has been ended then.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| cannot_start(command))?;
    let mut output = child.stdout.take().context("no pipe to the program")?;
    let (ended, end) = mpsc::channel();
    // The end of its output is the end of the program, or as good as that.
    let reader = thread::spawn(move || {
        let copied = std::io::copy(&mut output, &mut std::io::stdout());
        // The receiver is gone when the time was up; nobody needs to know then.
        let _ = ended.send(copied);
    });
    if end.recv_timeout(limit).is_err() {
        child
            .kill()
            .with_context(|| format!("cannot end `{}`", shown(command)))?;
        child
            .wait()
            .with_context(|| format!("cannot wait for `{}`", shown(command)))?;
        bail!(
            "`{}` did not finish within {} s",
            shown(command),
            limit.as_secs()
        );
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{}`", shown(command)))?;
    if reader.join().is_err() {
        bail!("the reader of `{}` failed", shown(command));
    }
    judge(command, status)
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or(&program).to_string();
    command.get_args().fold(program, |line, argument| {
        let argument = argument.to_string_lossy();
        if argument.contains([' ', '"', '*']) {
            format!("{line} '{argument}'")
        } else {
            format!("{line} {argument}")
        }
    })
}

/// The error of a program that ended without success.
pub(crate) fn judge(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("`{}` failed ({status})", shown(command))
}

fn cannot_start(command: &Command) -> String {
    format!(
        "cannot start `{}`; is it installed?",
        command.get_program().to_string_lossy()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command() {
        let error = run(Command::new("sh").args(["-c", "exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("`sh -c 'exit 3'` failed"), "{error}");
    }

    #[test]
    fn what_a_program_leaves_in_its_temporary_folder_goes() {
        let folder = env::temp_dir().join(format!("xtask-tidily-{}", std::process::id()));
        let mut leaves = Command::new("sh");
        leaves.args(["-c", "touch \"$TMPDIR/left\" && test -e \"$TMPDIR/left\""]);
        run_tidily(&mut leaves, &folder).unwrap();
        assert!(!folder.exists());
        assert!(run_tidily(Command::new("sh").args(["-c", "exit 3"]), &folder).is_err());
        assert!(!folder.exists());
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("cannot start `no-such-program`"), "{error}");
        assert!(!answers(&mut Command::new("no-such-program")));
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let error = run_within(Command::new("sleep").arg("600"), Duration::from_millis(20))
            .unwrap_err()
            .to_string();
        assert!(error.contains("did not finish"), "{error}");
    }

    #[test]
    fn a_program_that_ends_in_time_is_judged_by_its_status() {
        assert!(run_within(&mut Command::new("true"), Duration::from_secs(60)).is_ok());
        assert!(run_within(&mut Command::new("false"), Duration::from_secs(60)).is_err());
    }
}
