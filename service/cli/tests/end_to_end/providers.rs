// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport providers`: of the drivers that run, and of one that does not.

use crate::bench::{Directory, Running, fltport, host};

#[test]
fn the_process_monitor_says_what_it_tells() {
    let directory = Directory::new();
    let host = host(&directory);
    let mut command = fltport(&directory);
    command.args(["providers", "process-monitor"]);
    let ended = Running::start(command).end();
    assert!(ended.status.success(), "{}", ended.errors);
    for line in [
        "  notification 1 start",
        "    command_line: Text, optional",
        "  request 5 create",
        "    -> deny: Bool",
        "    by default: deny=false",
    ] {
        assert!(ended.lines.iter().any(|l| l == line), "{line}");
    }
    let mut command = fltport(&directory);
    command.args(["providers", "--json"]);
    let ended = Running::start(command).end();
    let told: serde_json::Value = serde_json::from_str(&ended.lines[0]).unwrap();
    let providers = told["providers"].as_array().unwrap();
    let names: Vec<_> = providers.iter().map(|p| p["name"].as_str()).collect();
    assert!(names.contains(&Some("process-monitor")), "{names:?}");
    let mut command = fltport(&directory);
    command.args(["providers", "nobody"]);
    let ended = Running::start(command).end();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.errors.contains("\"nobody\""), "{}", ended.errors);
    drop(host);
}
