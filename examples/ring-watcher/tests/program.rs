// SPDX-License-Identifier: MIT OR Apache-2.0
//! The watcher compiles without a warning wherever it is to, and survives rings that are corrupt. That it counts right,
//! scenarios show (`testbed/scenarios`).

use ring_watcher::{SOURCES, assert_well, build, is_installed};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
    for wrong in [
        &["--socket"][..],
        &["--nonsense", "1"],
        &["process-monitor="],
        &["process-monitor=1,64"],
        &["=1"],
    ] {
        let (code, _, err) = said(wrong);
        assert_eq!(code, Some(2));
        assert!(err.starts_with("usage: ring-watcher"), "{err}");
    }
    let (code, out, _) = said(&["--socket", "/nonexistent/host.sock"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(1), "refused status 0xc0000034\n")
    );
    // As much of it as there is room for would be another place. It does not wait for one that cannot be.
    let long = format!("/tmp/{}", "x".repeat(103));
    let (code, out, err) = said(&["--waits", "--socket", &long]);
    assert_eq!(
        (code, out.as_str()),
        (Some(1), "refused status 0xc0000106\n")
    );
    let told = "the socket's path has 108 bytes, and may have 107";
    assert!(err.contains(told) && err.lines().count() == 1, "{err}");
}

/// Compiles a test with those of the sources that it names.
fn compile(flags: &[&str], sources: &[&str], name: &str) -> (PathBuf, Output) {
    let program = Path::new(FOLDER).join(name);
    let mut compiler = Command::new("cc");
    compiler
        .current_dir(SOURCES)
        .args(["-std=c11", "-g", "-Wall", "-Wextra", "-I../../include"])
        .args(flags)
        .args(sources)
        .args(["-lpthread", "-o"])
        .arg(&program);
    (program, compiler.output().unwrap())
}

/// What reads rings, with a sanitizer, against memory that is spoilt.
fn survives(sanitizer: &str, rounds: &str) {
    let sanitize = format!("-fsanitize={sanitizer}");
    let flags = ["-O1", &sanitize, "-fno-sanitize-recover=all"];
    let sources = ["tests/hostile.c", "stream.c", "rings.c"];
    let (program, output) = compile(&flags, &sources, &format!("hostile-{sanitizer}"));
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
fn rings_that_are_given_and_cannot_be_read_end_the_connection() {
    let sources = [
        "tests/unreadable.c",
        "service.c",
        "schema.c",
        "stream.c",
        "rings.c",
    ];
    let (program, output) = compile(&["-Werror"], &sources, "unreadable");
    assert_well("cc", &output);
    assert_well("unreadable", &Command::new(program).output().unwrap());
}

#[test]
fn whatever_is_in_the_rings_nothing_outside_is_read_and_it_ends() {
    survives("address,undefined", "1000");
}

#[test]
fn whoever_changes_the_rings_meanwhile_is_read_by_atomics() {
    survives("thread", "200");
}
