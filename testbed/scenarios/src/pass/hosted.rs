// SPDX-License-Identifier: MIT OR Apache-2.0
//! Over the hosted kernel's socket, in which buffers are addresses.

use super::Buffers;
use crate::arguments::Seat;
use crate::orders::{Answer, Code, Numbers, Refusal};
use anyhow::{Context, Result, ensure};
use fltport_abi::fixed::Fixed;
use fltport_abi::hosted::{CompletionHeader, Connect, RequestHeader, Send, op};
use fltport_abi::limits::PORT_NAME;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long the hosted kernel may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn send(seat: &Seat, hello: &[u8], buffers: Buffers) -> Answer {
    match try_send(seat, hello, buffers) {
        Ok(CompletionHeader {
            status: 0,
            information,
            ..
        }) => Answer::Done(Numbers::from([("bytes".to_owned(), information.into())])),
        Ok(CompletionHeader { status, .. }) => Answer::Refused(Refusal {
            text: format!("NTSTATUS {status:#010x}"),
            code: Some(Code::Status(status)),
        }),
        Err(error) => Answer::Refused(Refusal::new(format!("{error:#}"))),
    }
}

fn try_send(seat: &Seat, hello: &[u8], buffers: Buffers) -> Result<CompletionHeader> {
    let path = seat.socket.clone().unwrap_or_else(fltport::socket_path);
    let mut socket = UnixStream::connect(&path)
        .with_context(|| format!("nobody listens at {}", path.display()))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let name: Vec<u8> = PORT_NAME
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let connect = Connect {
        name: name.len() as u32,
        context: hello.len() as u32,
    };
    let connect = [bytes(&connect), name, hello.to_vec()].concat();
    let connected = exchange(&mut socket, op::CONNECT, 1, &connect)?;
    if connected.status != 0 {
        return Ok(connected);
    }
    let send = Send {
        input: buffers.input,
        output: buffers.output,
        input_length: buffers.input_length,
        output_length: buffers.output_length,
    };
    exchange(&mut socket, op::SEND, 2, &bytes(&send))
}

fn bytes<T: Fixed>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; T::SIZE];
    // It fits: the vector was made for it.
    let _fits = value.write(&mut bytes);
    bytes
}

/// One request and its completion.
fn exchange(socket: &mut UnixStream, op: u32, id: u64, payload: &[u8]) -> Result<CompletionHeader> {
    socket.write_all(&bytes(&RequestHeader::new(op, id, payload.len())))?;
    socket.write_all(payload)?;
    let mut header = vec![0; CompletionHeader::SIZE];
    socket
        .read_exact(&mut header)
        .context("the hosted kernel has ended the socket")?;
    let header = CompletionHeader::read(&header).context("a completion that is too short")?;
    let mut payload = vec![0; header.payload_len()?];
    socket.read_exact(&mut payload)?;
    ensure!(header.id == id, "the completion of something else");
    Ok(header)
}
