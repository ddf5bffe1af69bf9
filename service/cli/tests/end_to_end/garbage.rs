// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that speak nonsense to the socket.

use crate::alone;
use crate::bench::{Directory, Running, fltport, host, json};
use fltport_abi::fixed::Fixed;
use fltport_abi::hosted::{RequestHeader, op};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn socket(directory: &Directory) -> PathBuf {
    directory.0.join("host.sock")
}

/// Sends bytes and reads until the host closes or says nothing for a while.
fn speak(directory: &Directory, bytes: &[u8]) {
    let mut stream = UnixStream::connect(socket(directory)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    // The host may have closed already.
    let _sent = stream.write_all(bytes);
    let _read = stream.read_to_end(&mut Vec::new());
}

/// Numbers that look random and are the same each time.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    })
}

#[test]
fn nonsense_closes_one_socket_and_nothing_else() {
    let _alone = alone();
    let directory = Directory::new();
    let host = host(&directory);
    speak(&directory, b"");
    speak(&directory, b"GET / HTTP/1.1\r\n\r\n");
    for length in [1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 4096, 200_000] {
        speak(&directory, &vec![0; length]);
        speak(&directory, &vec![0xff; length]);
        speak(
            &directory,
            &noise(length as u64).take(length).collect::<Vec<_>>(),
        );
    }
    // Every byte of a good request spoilt in turn, and every cut.
    for good in requests() {
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                speak_and_leave(&directory, &bad);
            }
            speak_and_leave(&directory, &good[..at]);
        }
    }
    // The host takes 64 sockets at a time, and is still closing those that were left.
    let until = Instant::now() + crate::bench::LONG;
    let status = loop {
        let mut command = fltport(&directory);
        command.args(["status", "--json"]);
        let ended = Running::start(command).end();
        if ended.status.success() {
            break json(&ended.lines[0]);
        }
        assert!(Instant::now() < until, "{}", ended.errors);
    };
    let connections = status["connections"].as_array().unwrap().len();
    assert_eq!(connections, 1, "only the one that asks is left");
    host.interrupt();
    let ended = host.end();
    assert!(ended.status.success(), "{}", ended.errors);
}

/// Sends bytes and goes without reading.
fn speak_and_leave(directory: &Directory, bytes: &[u8]) {
    let mut stream = UnixStream::connect(socket(directory)).unwrap();
    let _sent = stream.write_all(bytes);
}

/// A request of each kind, on a socket that has not connected: well-formed, and pointless.
fn requests() -> Vec<Vec<u8>> {
    let payloads = [
        (op::DESCRIBE, 0),
        (op::CONNECT, 8),
        (op::CANCEL, 8),
        (op::SEND, 24),
        (op::GET, 8),
        (op::REPLY, 16),
    ];
    let request = |(op, length): (u32, usize)| {
        let mut bytes = vec![0; RequestHeader::SIZE + length];
        RequestHeader::new(op, 1, length).write(&mut bytes).unwrap();
        bytes
    };
    payloads.into_iter().map(request).collect()
}
