// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of facts names tests; every one of them must exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENT: &str = include_str!("../../../docs/filter-manager-facts.md");

/// The folders of the crates that the document may name.
const CRATES: &[(&str, &str)] = &[
    ("fltmgr", "testbed/fltmgr"),
    ("fltport-driver", "kernel/driver"),
    ("nt-host", "testbed/host"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names in the document: what stands in backquotes and begins with a crate's name.
fn named() -> BTreeSet<&'static str> {
    let quoted = DOCUMENT.split('`').skip(1).step_by(2);
    quoted
        .filter(|text| !text.contains('…') && folder(text).is_some())
        .collect()
}

fn folder(name: &str) -> Option<PathBuf> {
    let (krate, _) = name.split_once("::")?;
    let known = CRATES.iter().find(|row| row.0 == krate)?;
    Some(root().join(known.1))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Whether a test `crate::file::function` exists: the file or a folder above it has that name, and
/// the function stands there after `#[test]`.
fn exists(name: &str) -> bool {
    let Some(folder) = folder(name) else {
        return false;
    };
    let parts: Vec<&str> = name.split("::").collect();
    let [_, modules @ .., function] = parts.as_slice() else {
        return false;
    };
    let inside = |path: &PathBuf| {
        let path = path.strip_prefix(&folder).unwrap().with_extension("");
        modules
            .iter()
            .all(|module| path.iter().any(|part| part == *module))
    };
    sources(&folder)
        .iter()
        .filter(|path| inside(path))
        .any(|path| {
            let text = fs::read_to_string(path).unwrap();
            let wanted = format!("fn {function}(");
            let mut lines = text.lines().map(str::trim);
            let mut next_of_test = || {
                lines.find(|line| *line == "#[test]")?;
                lines.next()
            };
            std::iter::from_fn(&mut next_of_test).any(|line| line.contains(&wanted))
        })
}

#[test]
fn every_named_test_exists() {
    let missing: Vec<_> = named().into_iter().filter(|name| !exists(name)).collect();
    assert!(
        missing.is_empty(),
        "docs/filter-manager-facts.md names no test: {missing:#?}"
    );
}

#[test]
fn the_document_names_many_tests() {
    assert!(
        named().len() > 150,
        "only {} names were found",
        named().len()
    );
}

#[test]
fn a_name_that_is_no_test_is_noticed() {
    assert!(exists("fltmgr::facts::every_named_test_exists"));
    assert!(!exists("fltmgr::facts::exists_nowhere"));
    assert!(
        !exists("fltmgr::messages::every_named_test_exists"),
        "another file"
    );
    assert!(
        !exists("nobody::facts::every_named_test_exists"),
        "another crate"
    );
}
