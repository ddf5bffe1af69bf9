// SPDX-License-Identifier: MIT OR Apache-2.0

//! A Windows of its own for each run: a Wine prefix in the target folder, never the user's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::files::Files;
use crate::workspace::Workspace;
use crate::{command, provision};

/// A new prefix takes some ten seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// What Wine loads in place of its own. The last two keep it from offering to install things.
const OVERRIDES: &str = "fltmgr.sys=n;fltlib=n;bcryptprimitives=n;mscoree=;mshtml=";

/// A prefix; its processes are ended when it is dropped.
pub(super) struct Prefix {
    folder: PathBuf,
}

impl Prefix {
    /// A new one, with the files in their places.
    pub(super) fn make(workspace: &Workspace, files: &Files) -> Result<Prefix> {
        wine()?;
        let prefix = Prefix {
            folder: workspace.target().join("wine/prefix"),
        };
        if prefix.folder.exists() {
            prefix.end();
            fs::remove_dir_all(&prefix.folder)
                .with_context(|| format!("cannot remove {}", prefix.folder.display()))?;
        }
        println!("making a Wine prefix in {}", prefix.folder.display());
        command::run_within(prefix.command("wineboot").arg("--init"), BOOT_LIMIT)
            .context("Wine does not start")?;
        let system = prefix.folder.join("drive_c/windows/system32");
        copy(&files.drivers, &system.join("drivers"))?;
        copy(&files.user, &system)?;
        Ok(prefix)
    }

    /// A program of Wine's or of the prefix.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("WINEPREFIX", &self.folder)
            .env("WINEDLLOVERRIDES", OVERRIDES)
            .env("WINEDEBUG", "-all,err+all")
            .env_remove("DISPLAY");
        command
    }

    /// For somebody who wants to look around.
    pub(super) fn how_to_use(&self) -> String {
        format!(
            "export WINEPREFIX={} WINEDLLOVERRIDES='{OVERRIDES}' WINEDEBUG=-all,err+all DISPLAY=\n\
             wine fltport.exe --help\n\
             wineserver -k",
            self.folder.display()
        )
    }

    /// Ends whatever runs in it.
    fn end(&self) {
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

/// Makes sure of Wine.
fn wine() -> Result<()> {
    let is_there = || command::answers(Command::new("wine").arg("--version"));
    if is_there() {
        return Ok(());
    }
    provision::packages(&["wine", "wine64"]).context("there is no Wine here")
}
