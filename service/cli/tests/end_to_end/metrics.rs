// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport metrics`: printed once, and over HTTP while hosts come and go.

use crate::bench::{Directory, Running, fltport, host};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What the server answers to this request line: head and body.
fn get(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn once_on_standard_output() {
    let directory = Directory::new();
    let host = host(&directory);
    let mut command = fltport(&directory);
    command.arg("metrics");
    let ended = Running::start(command).end();
    assert!(ended.status.success(), "{}", ended.errors);
    assert!(ended.lines.iter().any(|l| l == "fltport_up 1"));
    assert_eq!(ended.lines.last().map(String::as_str), Some("# EOF"));
    drop(host);
}

#[test]
fn over_http_while_hosts_come_and_go() {
    let directory = Directory::new();
    let first = host(&directory);
    let mut command = fltport(&directory);
    command.args(["metrics", "--listen", "127.0.0.1:0"]);
    let server = Running::start(command);
    let address = server.find("the address", |line| {
        let address = line.strip_prefix("metrics at http://")?;
        Some(address.split('/').next()?.to_owned())
    });
    let address = address.as_str();
    let (head, body) = get(address, "GET /metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    let own = "connection_queue_bytes{connection=\"1\",service=\"fltport metrics\"";
    assert!(body.contains("fltport_up 1\n"), "{body}");
    assert!(body.contains(own), "{body}");
    assert!(get(address, "GET /").0.starts_with("HTTP/1.1 200"));
    assert!(get(address, "GET /other").0.starts_with("HTTP/1.1 404"));
    assert!(get(address, "POST /metrics").0.starts_with("HTTP/1.1 405"));
    first.interrupt();
    assert!(first.end().status.success());
    assert!(get(address, "GET /metrics").1.contains("fltport_up 0\n"));
    let second = host(&directory);
    assert!(get(address, "GET /metrics").1.contains("fltport_up 1\n"));
    server.interrupt();
    let ended = server.end();
    assert!(ended.status.success(), "{}", ended.errors);
    drop(second);
}
