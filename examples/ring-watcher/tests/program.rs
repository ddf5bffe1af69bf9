// SPDX-License-Identifier: MIT OR Apache-2.0
//! The watcher compiles without a warning wherever it is to, and survives rings that are corrupt. That it counts right,
//! scenarios show (`testbed/scenarios`).

use ring_watcher::{SOURCES, assert_well, build, is_installed};
use std::path::Path;
use std::process::Command;

const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

#[test]
fn it_compiles_without_a_warning_also_for_windows() {
    for compiler in ["cc", "clang", "x86_64-w64-mingw32-gcc"] {
        if is_installed(compiler) {
            let name = format!("ring-watcher-{compiler}");
            build(compiler, &["-Wconversion"], Path::new(FOLDER), &name);
        }
    }
}

#[test]
fn it_says_how_it_is_used_and_why_it_cannot_connect() {
    let program = build("cc", &[], Path::new(FOLDER), "ring-watcher-alone");
    let said = |arguments: &[&str]| {
        let output = Command::new(&program).args(arguments).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        (output.status.code(), out, err)
    };
    for wrong in [&["--socket"][..], &["--nonsense", "1"]] {
        let (code, _, err) = said(wrong);
        assert_eq!(code, Some(2));
        assert!(err.starts_with("usage: ring-watcher"), "{err}");
    }
    let (code, out, _) = said(&["--socket", "/nonexistent/host.sock"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(1), "refused status 0xc0000034\n")
    );
}

/// What reads rings, with a sanitizer, against memory that is spoilt.
fn survives(sanitizer: &str, rounds: &str) {
    let program = Path::new(FOLDER).join(format!("hostile-{sanitizer}"));
    let mut compiler = Command::new("cc");
    compiler
        .current_dir(SOURCES)
        .args([
            "-std=c11",
            "-O1",
            "-g",
            "-Wall",
            "-Wextra",
            "-I../../include",
        ])
        .arg(format!("-fsanitize={sanitizer}"))
        .arg("-fno-sanitize-recover=all")
        .args(["tests/hostile.c", "stream.c", "rings.c", "-lpthread", "-o"])
        .arg(&program);
    let output = compiler.output().unwrap();
    if !output.status.success() {
        // It needs a library of the compiler's own.
        println!("SKIPPED ring-watcher with -fsanitize={sanitizer}: the compiler has none");
        return;
    }
    let output = Command::new(&program)
        .args([rounds, "20240229"])
        .output()
        .unwrap();
    assert_well(sanitizer, &output);
}

#[test]
fn whatever_is_in_the_rings_nothing_outside_is_read_and_it_ends() {
    survives("address,undefined", "1000");
}

#[test]
fn whoever_changes_the_rings_meanwhile_is_read_by_atomics() {
    survives("thread", "200");
}
