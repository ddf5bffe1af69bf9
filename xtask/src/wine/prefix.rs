// SPDX-License-Identifier: MIT OR Apache-2.0

//! A Windows of its own for each run: a Wine prefix in the target folder, never the user's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::files::Files;
use super::session;
use crate::workspace::Workspace;
use crate::{command, provision};

/// A new prefix takes some ten seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// What Wine loads in place of its own. The last two keep it from offering to install things.
const OVERRIDES: &str = "fltmgr.sys=n;fltlib=n;bcryptprimitives=n;mscoree=;mshtml=";

/// A prefix; its processes are ended when it is dropped.
pub(super) struct Prefix {
    folder: PathBuf,
    /// Where Wine's server has its socket. Each new prefix has another folder for that, which Wine
    /// leaves behind; in /tmp they would become many.
    sockets: PathBuf,
    fixed_addresses: bool,
}

/// Runs a program without a random layout of its memory. Once in a thousand starts the layout has
/// Linux' heap where Windows has the page that it shares with all programs, and Wine gives up:
/// "failed to map the shared user data".
const SETARCH: [&str; 2] = ["setarch", "--addr-no-randomize"];

impl Prefix {
    /// A new one, with the files in their places. What Wine says meanwhile goes to a log.
    pub(super) fn make(workspace: &Workspace, files: &Files) -> Result<Prefix> {
        let prefix = Prefix {
            folder: workspace.target().join("wine/prefix"),
            sockets: workspace.target().join("wine/sockets"),
            fixed_addresses: command::answers(
                Command::new(SETARCH[0]).args(&SETARCH[1..]).arg("true"),
            ),
        };
        if prefix.folder.exists() {
            prefix.end();
        }
        for folder in [&prefix.folder, &prefix.sockets] {
            if folder.exists() {
                fs::remove_dir_all(folder)
                    .with_context(|| format!("cannot remove {}", folder.display()))?;
            }
        }
        fs::create_dir_all(&prefix.sockets)
            .with_context(|| format!("cannot make {}", prefix.sockets.display()))?;
        let log = workspace.target().join("wine/wineboot.log");
        let said = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut boot = prefix.command("wineboot");
        boot.arg("--init")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said);
        let status = session::wait(&mut boot, BOOT_LIMIT)?;
        ensure!(
            status.success(),
            "Wine makes no prefix ({status}); it says why in {}",
            log.display()
        );
        // It goes on for a while by itself.
        let _ended = command::answers(prefix.command("wineserver").arg("--wait"));
        let system = prefix.folder.join("drive_c/windows/system32");
        copy(&files.drivers, &system.join("drivers"))?;
        copy(&files.user, &system)?;
        Ok(prefix)
    }

    /// A program of Wine's or of the prefix.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = if self.fixed_addresses {
            let mut setarch = Command::new(SETARCH[0]);
            setarch.args(&SETARCH[1..]).arg(program);
            setarch
        } else {
            Command::new(program)
        };
        command
            .env("WINEPREFIX", &self.folder)
            .env("TMPDIR", &self.sockets)
            .env("WINEDLLOVERRIDES", OVERRIDES)
            .env("WINEDEBUG", "-all,err+all,warn+debugstr")
            .env_remove("DISPLAY");
        command
    }

    /// Ends whatever runs in it.
    pub(super) fn end(&self) {
        // It says so by its status when nothing runs.
        let _nothing_ran = command::answers(self.command("wineserver").arg("--kill"));
        let _ended = command::answers(self.command("wineserver").arg("--wait"));
    }
}

fn copy(files: &[PathBuf], to: &Path) -> Result<()> {
    for file in files {
        let name = file.file_name().context("a file without a name")?;
        fs::copy(file, to.join(name))
            .with_context(|| format!("cannot copy {} to {}", file.display(), to.display()))?;
    }
    Ok(())
}

/// Makes sure of Wine; its version. (Debian's script complains on standard error that there is no
/// 32-bit Wine, which nobody needs here.)
pub(super) fn wine() -> Result<String> {
    let version = || Command::new("wine").arg("--version").output();
    if !version().is_ok_and(|output| output.status.success()) {
        provision::packages(&["wine", "wine64"]).context("there is no Wine here")?;
    }
    let output = version().context("cannot start `wine`")?;
    ensure!(
        output.status.success(),
        "`wine --version` failed ({})",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}
