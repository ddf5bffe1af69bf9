// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process monitor's other notifications, from a script: threads, images, and texts that are
//! too long.

use crate::machine::Machine;
use crate::service::Service;
use fltport_abi::message::{Message, Pid};
use fltport_abi::process_monitor::{ImageLoad, ProcessStart, ThreadChange};
use fltport_abi::text::Text;
use nt_host::{ImageLoaded, ProcessCreated};

#[test]
fn threads_and_images_are_told_of() {
    let machine = Machine::new();
    let mut service = Service::connect(&machine);
    service.watch(&[3, 4], &[]);
    machine.start_process(2000, "/bin/scripted");
    machine.kernel.thread_created(2000, 2001);
    machine.kernel.thread_exited(2000, 2001);
    machine.kernel.image_loaded(&ImageLoaded {
        pid: 2000,
        name: Some("/lib/scripted.so".encode_utf16().collect()),
        base: 0x7000_0000,
        size: 0x3000,
        system_mode: false,
    });
    machine.kernel.image_loaded(&ImageLoaded {
        base: 0xffff_8000_0000_0000,
        size: 0x1000,
        system_mode: true,
        ..ImageLoaded::default()
    });
    let records = service.drain();
    let threads = records.iter().filter(|r| r.header.message == 3);
    let threads: Vec<_> = threads
        .map(|r| ThreadChange::decode(&r.payload).unwrap())
        .collect();
    let change = |created| ThreadChange {
        pid: Pid(2000),
        tid: Pid(2001),
        created,
    };
    assert_eq!(threads, [change(true), change(false)]);
    let images = records.iter().filter(|r| r.header.message == 4);
    let images: Vec<_> = images
        .map(|r| ImageLoad::decode(&r.payload).unwrap())
        .collect();
    assert_eq!(images.len(), 2);
    assert_eq!(images[0].image, Some(Text::Utf8("/lib/scripted.so")));
    assert_eq!(
        (images[0].pid, images[0].base, images[0].size),
        (Pid(2000), 0x7000_0000, 0x3000)
    );
    assert!(!images[0].system && images[1].system);
    assert_eq!(
        (images[1].pid, images[1].image),
        (Pid(0), None),
        "a driver, without a name"
    );
    drop(service);
    machine.check();
}

#[test]
fn what_nt_does_not_know_is_absent_and_what_is_too_long_is_cut_and_flagged() {
    let machine = Machine::new();
    let mut service = Service::connect(&machine);
    service.watch(&[1], &[]);
    let create = |pid, image, command_line| {
        machine.kernel.process_created(&ProcessCreated {
            pid,
            parent_pid: 1000,
            creator_pid: 1000,
            creator_tid: 1000,
            image,
            command_line,
            uid: Some(0),
        })
    };
    assert_eq!(create(2000, None, None), 0);
    let long = vec![u16::from(b'x'); 32_000];
    assert_eq!(create(2001, Some(long.clone()), Some(long)), 0);
    let bare = service.next().unwrap();
    let bare = ProcessStart::decode(&bare.payload).unwrap();
    assert_eq!(
        (bare.image, bare.command_line, bare.truncated),
        (None, None, false)
    );
    let cut = service.next().unwrap();
    let cut = ProcessStart::decode(&cut.payload).unwrap();
    assert!(cut.truncated);
    assert!(cut.image.unwrap().units().count() >= 4096);
    assert!(cut.command_line.unwrap().units().count() >= 8192);
    drop(service);
    machine.check();
}
