// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host is told to stop, or dies, while everything is busy.

use crate::bench::{Directory, host, is_root, signal, watch};
use crate::{alone, crowd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

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
