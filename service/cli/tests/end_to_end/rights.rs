// SPDX-License-Identifier: MIT OR Apache-2.0
//! Users of this machine who are not root, and what they may do.

use crate::bench::{Directory, Ended, Running, fltport, is_root, json};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

const NOBODY: u32 = 65_534;

/// A copy of the command that everybody can run.
fn program(directory: &Directory) -> PathBuf {
    let path = directory.0.join("fltport");
    let own = env!("CARGO_BIN_EXE_fltport");
    let copied = Command::new("/bin/cp").arg(own).arg(&path).status();
    assert!(copied.unwrap().success());
    path
}

fn as_nobody(directory: &Directory, program: &PathBuf, arguments: &[&str]) -> Ended {
    let own = fltport(directory);
    let mut command = Command::new(program);
    for (name, value) in own.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command
        .uid(NOBODY)
        .gid(NOBODY)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    Running::start(command).end()
}

fn host(directory: &Directory, grants: &[&str]) -> Running {
    let mut command = fltport(directory);
    command.arg("host");
    for grant in grants {
        command.args(["--grant", grant]);
    }
    let host = Running::start(command);
    host.find("the host is up", |line| {
        line.contains("listens at").then_some(())
    });
    host
}

#[test]
fn a_user_is_refused_by_default() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let program = program(&directory);
    let _host = host(&directory, &[]);
    let refused = as_nobody(&directory, &program, &["status"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.errors.contains("access denied") && refused.errors.contains("fltport host --grant"),
        "{}",
        refused.errors
    );
}

#[test]
fn a_user_sees_what_he_is_granted_and_may_do_no_more() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let program = program(&directory);
    let grants = ["*=S-1-22-1-65534:observe", "*=S-1-5-18:all"];
    let _host = host(&directory, &grants);
    let status = as_nobody(&directory, &program, &["status", "--json"]);
    assert!(status.status.success(), "{}", status.errors);
    let status = json(&status.lines[0]);
    let connections = status["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 1, "{status}");
    assert_eq!(connections[0]["name"], "fltport status");
    for watching in [vec![], vec!["--stream", "his", "--where", "exit: pid > 0"]] {
        let line = [vec!["watch", "--json", "--for", "100ms"], watching].concat();
        let watched = as_nobody(&directory, &program, &line);
        assert!(watched.status.success(), "{}", watched.errors);
    }
    for more in ["--deny", "--exclude"] {
        let line = ["watch", "--for", "100ms", more, "/nowhere/*"];
        let refused = as_nobody(&directory, &program, &line);
        assert!(!refused.status.success(), "{more}");
        assert!(
            refused.errors.contains("one of the rights"),
            "{more}: {}",
            refused.errors
        );
    }
    // Root sees what was refused.
    let mut command = fltport(&directory);
    command.args(["status", "--json"]);
    let seen = json(&Running::start(command).end().lines[0]);
    let refusals = seen["refusals"].as_array().unwrap();
    assert!(!refusals.is_empty(), "{seen}");
}

#[test]
fn a_provider_that_is_not_his_does_not_hide_the_others() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let program = program(&directory);
    let grants = ["*=S-1-22-1-65534:observe", "process-monitor=S-1-5-18:all"];
    let _host = host(&directory, &grants);
    let watched = as_nobody(&directory, &program, &["watch", "--for", "100ms"]);
    assert!(watched.status.success(), "{}", watched.errors);
    let said = "process-monitor is left out: access denied";
    assert!(watched.errors.contains(said), "{}", watched.errors);
    let listed = as_nobody(&directory, &program, &["providers"]);
    assert!(listed.status.success(), "{}", listed.errors);
    let starts = |with| listed.lines.iter().any(|line| line.starts_with(with));
    assert!(starts("fltport: provider 0"), "{:?}", listed.lines);
    assert!(starts("process-monitor: provider 1") && starts("  access denied"));
    let one = as_nobody(&directory, &program, &["providers", "process-monitor"]);
    assert_eq!(one.status.code(), Some(1));
    assert!(one.errors.contains("access denied"), "{}", one.errors);
}
