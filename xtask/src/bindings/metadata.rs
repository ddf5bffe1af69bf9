// SPDX-License-Identifier: MIT OR Apache-2.0

//! Declarations out of Microsoft's metadata.

use std::any::Any;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use anyhow::{Context, Result, anyhow};

/// What windows-bindgen makes of the names: one `link!` line a function, then the types and
/// constants.
///
/// # Errors
/// A name that the metadata does not have.
pub(super) fn declarations(names: &[String], target: &Path) -> Result<String> {
    let folder = target.join("bindings");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let output = folder.join("raw.rs");
    let output = output
        .to_str()
        .context("the target folder's name is not Unicode")?;

    let mut arguments = vec!["--out", output, "--sys", "--flat", "--no-deps", "--filter"];
    arguments.extend(names.iter().map(String::as_str));
    quietly(|| windows_bindgen::bindgen(&arguments))?;
    fs::read_to_string(output).with_context(|| format!("cannot read {output}"))
}

/// windows-bindgen reports by panicking; its words become an error here.
fn quietly<T>(generate: impl FnOnce() -> T) -> Result<T> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(AssertUnwindSafe(generate));
    panic::set_hook(hook);
    outcome.map_err(|payload| {
        anyhow!(
            "windows-bindgen: {}; is the name spelt as Microsoft does?",
            words(&payload)
        )
    })
}

fn words(payload: &Box<dyn Any + Send>) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "no reason given".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_an_error_that_names_it() {
        let folder = std::env::temp_dir().join(format!("xtask-metadata-{}", std::process::id()));
        let error = declarations(&["NoSuchFunction".to_string()], &folder)
            .unwrap_err()
            .to_string();
        fs::remove_dir_all(&folder).unwrap();
        assert!(error.contains("NoSuchFunction"), "{error}");
    }
}
