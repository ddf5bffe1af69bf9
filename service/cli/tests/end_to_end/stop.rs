// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host is told to stop, or dies, while everything is busy.

use crate::bench::{Directory, fltport, host, is_root, signal, watch};
use crate::{alone, crowd};
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Processes without end, until told to stop.
fn busy<R>(directory: &Directory, during: impl FnOnce() -> R) -> R {
    let program = crowd::program(directory);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    assert!(Command::new(&program).status().unwrap().success());
                }
            });
        }
        let result = during();
        stop.store(true, Ordering::Release);
        result
    })
}

#[test]
fn the_drivers_are_unloaded_while_everything_is_busy() {
    let _alone = alone();
    if !is_root() {
        return;
    }
    for _ in 0..3 {
        let directory = Directory::new();
        let host = host(&directory);
        let observer = watch(&directory, &[]);
        let decider = watch(&directory, &["--deny", "*/forbidden"]);
        busy(&directory, || {
            observer.find("the crowd", |line| line.contains("/crowd").then_some(()));
            signal(host.child.id(), "TERM");
            let ended = host.end();
            assert!(
                ended.status.success(),
                "the verifier has nothing to say: {}",
                ended.errors
            );
        });
        drop((observer, decider));
        assert!(
            Command::new("/bin/true").status().unwrap().success(),
            "execs go on"
        );
    }
}

#[test]
fn the_death_of_the_host_releases_what_it_held() {
    let _alone = alone();
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let host = host(&directory);
    let decider = watch(&directory, &["--deny", "*/forbidden"]);
    busy(&directory, || {
        decider.find("the crowd", |line| line.contains("/crowd").then_some(()));
        signal(host.child.id(), "KILL");
    });
    let forbidden = directory.program("forbidden");
    assert!(Command::new(&forbidden).status().unwrap().success());
    drop((decider, host));
}

#[test]
fn a_second_signal_ends_a_command_whose_output_nobody_reads() {
    let directory = Directory::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = fltport(&directory);
    command.arg("watch").stdout(writer.try_clone().unwrap());
    let filler = thread::spawn(move || while writer.write_all(&[0; 4096]).is_ok() {});
    let mut watch = command.spawn().unwrap();
    drop(command);
    let children = format!("/proc/{0}/task/{0}/children", watch.id());
    let started = (0..600).any(|_| {
        thread::park_timeout(Duration::from_millis(20));
        std::fs::read_to_string(&children).is_ok_and(|c| !c.is_empty())
    });
    assert!(
        started,
        "no host of its own, so perhaps no signal handler yet"
    );
    signal(watch.id(), "INT");
    thread::park_timeout(Duration::from_millis(500));
    assert_eq!(watch.try_wait().unwrap(), None, "it waits for its output");
    signal(watch.id(), "INT");
    let ended = (0..600).find_map(|_| {
        thread::park_timeout(Duration::from_millis(20));
        watch.try_wait().unwrap()
    });
    let code = ended.map(|status| status.code());
    if code.is_none() {
        watch.kill().unwrap();
    }
    assert_eq!(code, Some(Some(130)));
    drop(reader);
    filler.join().unwrap();
}
