// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service in C, as its README has it called: on a provider whose messages it is not told.

use crate::bench::{Directory, Running, host, is_root};
use std::io::Write;
use std::process::{Command, Stdio};

/// The watcher on the process monitor, ordered to do this and then to leave; what it says.
fn watch(directory: &Directory, meanwhile: impl FnOnce(), order: &str) -> (Vec<String>, String) {
    let program = ring_watcher::build("cc", &[], &directory.0, "ring-watcher");
    let mut command = Command::new(program);
    command
        .arg("--socket")
        .arg(directory.0.join("host.sock"))
        .args(["--orders", "process-monitor"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut watcher = Running::start(command);
    watcher.find("connection", |line| line.starts_with("done ").then_some(()));
    let mut orders = watcher.child.stdin.take().unwrap();
    // Answered when it has subscribed.
    writeln!(orders, "wake").unwrap();
    watcher.find("answer", |line| (line == "done").then_some(()));
    meanwhile();
    writeln!(orders, "{order}\nleave").unwrap();
    let ended = watcher.end();
    assert!(ended.status.success(), "{}", ended.errors);
    (ended.lines, ended.errors)
}

#[test]
fn it_watches_all_that_a_provider_declares() {
    let directory = Directory::new();
    let host = host(&directory);
    let (_, errors) = watch(&directory, || (), "wake");
    assert!(!errors.contains("refused"), "{errors}");
    if is_root() {
        let program = directory.program("seen-by-c");
        let start = || assert!(Command::new(program).status().unwrap().success());
        let (lines, errors) = watch(&directory, start, "see 60000 others=2");
        let counts = lines.last().unwrap();
        let count = |name: &str| {
            let mut pairs = counts.split(' ').filter_map(|word| word.split_once('='));
            let pair = pairs.find(|(each, _)| *each == name);
            pair.map_or(0, |(_, number)| number.parse::<u64>().unwrap())
        };
        assert!(count("others") >= 2, "{counts}: {errors}");
        assert_eq!(count("missing"), 0, "{counts}: {errors}");
    }
    drop(host);
}
