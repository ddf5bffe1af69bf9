// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

/// The checkout this xtask belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The checkout that holds xtask's own sources. `cargo run` says where they are now; the
    /// compiled-in path serves a binary that is started by hand.
    pub(crate) fn locate() -> Workspace {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().unwrap_or(Path::new(".")).to_path_buf();
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |dir| root.join(dir));
        Workspace { root, target }
    }

    /// The folder of the root Cargo.toml.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the root.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The target folder; everything xtask makes is in there.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }
}
