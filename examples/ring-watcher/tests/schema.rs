// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the service in C finds in schemas is what Rust has written there, in both versions.

use fltport_abi::limits::MAX_SCHEMA;
use fltport_abi::schema::Role;
use fltport_abi::{process_monitor, registry_monitor};
use ring_watcher::{SOURCES, assert_well};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The reader, with sanitizers where the compiler has them.
fn reader() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schema");
    let compile = |flags: &[&str]| {
        let mut compiler = Command::new("cc");
        compiler
            .current_dir(SOURCES)
            .args(["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"])
            .args(flags)
            .args(["-I../../include", "tests/schema.c", "schema.c", "-o"])
            .arg(&program);
        compiler.output().unwrap()
    };
    let sanitized = compile(&["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    if !sanitized.status.success() {
        println!("SKIPPED ring-watcher's schemas with sanitizers: the compiler has none");
        assert_well("tests/schema.c", &compile(&[]));
    }
    program
}

fn observable(reader: &Path, schema: &[u8]) -> String {
    let mut command = Command::new(reader);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = piped.stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(schema).unwrap();
    let output = process.wait_with_output().unwrap();
    assert_well("schema", &output);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_can_be_observed_is_what_the_schema_declares() {
    let reader = reader();
    for (provider, version) in [
        (process_monitor::PROVIDER, 1),
        (registry_monitor::PROVIDER, 2),
    ] {
        let mut schema = [0; MAX_SCHEMA];
        let length = provider.encode(&mut schema).unwrap();
        assert_eq!(schema[4], version, "{}", provider.name);
        let told = |role| matches!(role, Role::Notification | Role::Request);
        let declared = provider.messages.iter().filter(|it| told(it.role));
        let bits = declared.fold(0_u64, |bits, message| bits | 1 << message.number);
        let found = observable(&reader, &schema[..length]);
        assert_eq!(found, format!("{bits:x}\n"), "{}", provider.name);
    }
    assert_eq!(observable(&reader, b""), "0\n");
    assert_eq!(observable(&reader, b"FPSC\x02\0"), "0\n");
}
