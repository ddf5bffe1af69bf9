// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every rule is filed by the kernel, and asserted on by a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nt_host::Rule;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The names that follow `Rule::` in the files of a folder, but for its own table and its cures.
fn rules_in(folder: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tables = ["src/verifier.rs", "src/verifier/cure.rs"].map(|file| root.join(file));
    // Tests beside the code would pass for the code.
    let is_test = |path: &Path| {
        path.iter()
            .any(|part| part == "tests" || part == "tests.rs")
    };
    let mut found = BTreeSet::new();
    for path in sources(&root.join(folder)) {
        let inside = path.strip_prefix(root.join("src")).unwrap_or(Path::new(""));
        if tables.contains(&path) || is_test(inside) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for rest in text.split("Rule::").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric());
            found.insert(rest[..end.unwrap_or(rest.len())].to_owned());
        }
    }
    found
}

/// The rules that the files of a folder do not name.
fn missing_in(folder: &str) -> Vec<Rule> {
    let named = rules_in(folder);
    let rules = Rule::ALL.iter().copied();
    rules
        .filter(|rule| !named.contains(&format!("{rule:?}")))
        .collect()
}

#[test]
fn the_kernel_can_file_every_rule() {
    assert_eq!(missing_in("src"), []);
}

#[test]
fn a_test_asserts_on_every_rule() {
    assert_eq!(missing_in("tests"), []);
}
