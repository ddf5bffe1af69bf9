// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask wine`: the files for Windows, run under Wine.
//!
//! The drivers and programs are the ones that Windows gets. Where Wine has no Filter Manager there
//! are the stand-ins of testbed/wine.

mod files;
mod prefix;

use anyhow::Result;

use crate::windows::linker::Linker;
use crate::windows::toolchain::Toolchain;
use crate::workspace::Workspace;
use prefix::Prefix;

/// Run the drivers and programs for Windows under Wine.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build what is run and set the prefix up, then say how to use it; run nothing.
    #[arg(long)]
    prepare: bool,
}

/// Builds, sets up a prefix and runs.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let toolchain = Toolchain::choose()?;
    let linker = Linker::find()?;
    let files = files::build(workspace, toolchain, &linker)?;
    let prefix = Prefix::make(workspace, &files)?;
    if arguments.prepare {
        println!("{}", prefix.how_to_use());
        return Ok(());
    }
    Ok(())
}
